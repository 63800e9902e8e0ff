"""What a target is, in the coded terms that DICOM objects carry: SNOMED CT, taken from pydicom's dictionary alone."""

from __future__ import annotations

import functools
import re
import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Literal

from medground.taxonomy import load_targets, side_of, target_of
from medground.taxonomy.wording import first_term

if TYPE_CHECKING:
    from pydicom.sr.coding import Code

__all__ = ["CodedTarget", "coded", "named_target"]


@dataclass(frozen=True, slots=True)
class CodedTarget:
    """A target in coded terms.

    Parameters
    ----------
    label : str
        In words, at most 64 characters; what viewers show.
    category : Code
        "Anatomical Structure", "Morphologically Abnormal Structure", or "Tissue" where nothing is known of the target
        (DICOM PS3.16, CID 7150).
    type : Code
        What it is. Where no code is known: the category, or "Lesion" for a finding.
    site : Code or None
        The organ that it is in.
    side : {"left", "right"} or None
        Of the patient.
    """

    label: str
    category: Code
    type: Code
    site: Code | None = None
    side: Literal["left", "right"] | None = None

    @property
    def laterality(self) -> Code | None:
        """The side as a coded term, or None."""
        from pydicom.sr.codedict import codes

        return None if self.side is None else {"left": codes.SCT.Left, "right": codes.SCT.Right}[self.side]


def coded(target: str | None) -> CodedTarget:
    """Return a target in coded terms.

    Parameters
    ----------
    target : str or None
        A category ("kidney left") or entity ("kidney") of `medground.taxonomy`; any other words become the label and
        are coded as "Tissue", as None is.

    Examples
    --------
    >>> kidney = coded("kidney left")
    >>> kidney.type.value, kidney.type.meaning, kidney.category.meaning, kidney.laterality.meaning
    ('64033007', 'Kidney', 'Anatomical Structure', 'Left')
    >>> coded("glioma").type.meaning, coded("glioma").site.meaning
    ('Neoplasm', 'Brain')
    >>> coded("gluteus maximus").type.meaning, coded("a shadow").type.meaning
    ('Anatomical Structure', 'Tissue')
    """
    from pydicom.sr.codedict import codes

    label = " ".join((target or "").replace("\\", "/").split())
    entity = load_targets().get(label)
    side: Literal["left", "right"] | None = None
    if entity is None and label in _categories():
        entity, side = target_of(label), side_of(label)
    if entity is None:
        printable = "".join(letter for letter in label if letter.isprintable())
        return CodedTarget(printable[:64].rstrip() or "region", codes.SCT.Tissue, codes.SCT.Tissue)
    known = _known().get(entity.name, {})
    category = codes.SCT.AnatomicalStructure if entity.healthy else codes.SCT.MorphologicallyAbnormalStructure
    fallback = category if entity.healthy else codes.SCT.Lesion
    kind, site = (getattr(codes.SCT, known[field]) if field in known else None for field in ("type", "site"))
    return CodedTarget(label[:64], category, kind or fallback, site, side)


def named_target(reasoning: str) -> str | None:
    """Return the entity or category of the taxonomy that a reasoning is about, or None where it doesn't say plainly.

    That is what it opens with ("The spleen filters blood below the diaphragm, beside the stomach."), and otherwise the
    only one that it names.

    Examples
    --------
    >>> named_target("The spleen filters blood below the diaphragm, beside the stomach.")
    'spleen'
    >>> named_target("Urine is made here, so it is the left kidney."), named_target("The mass is bright.")
    ('kidney left', None)
    >>> named_target("It may be the liver or the spleen.") is None
    True
    """
    spans = []
    for target in load_targets().values():
        if found := first_term(reasoning, (target.name, *target.synonyms)):
            start = reasoning.index(found)
            spans.append((start, start + len(found), target))
    # "lung" inside of "lung nodule" names no lung.
    whole = [one for one in spans if not any(_inside(one[:2], other[:2]) for other in spans)]
    opening = _OPENING.match(reasoning)
    first = [one for one in whole if opening is not None and one[0] == opening.end()]
    if len(chosen := first or whole) != 1:
        return None
    [(start, _, target)] = chosen
    said = _SIDE.search(reasoning, 0, start)
    if said is not None:
        wanted = said[1].lower()
        return next((name for name in target.categories if side_of(name) == wanted), target.name)
    return target.name


_OPENING = re.compile(r"\s*(?:the|an?)?\s*(?:(?:left|right)\s+)?", re.IGNORECASE)
_SIDE = re.compile(r"\b(left|right)\s+$", re.IGNORECASE)


def _inside(inner: tuple[int, int], outer: tuple[int, int]) -> bool:
    return inner != outer and outer[0] <= inner[0] and inner[1] <= outer[1]


@functools.cache
def _categories() -> frozenset[str]:
    return frozenset(category for target in load_targets().values() for category in target.categories)


@functools.cache
def _known() -> dict[str, dict[str, str]]:
    text = (resources.files("medground.taxonomy") / "codes.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
