"""What certainly isn't in a picture: the rule by which questions about absent targets are made.

An entity is certainly absent from a picture when it belongs to another part of the body than any that the picture's
collection shows. A collection shows the homes of all its categories, and, except for pictures of a surface (endoscopy,
fundus, OCT, dermoscopy, microscopy), what lies next to them: a chest radiograph shows the upper abdomen too, so the
spleen is never asked for there. Masks that are missing prove nothing: an organ without a mask may still be in view.

1. Homes are of `HOMES`, by the entity's name or the nearest of its ancestors there. An entity that may be anywhere
   ("lesion") is never asked for. One that may be in several parts (a vein, the spine) is absent where none of them is
   in view, and puts all of them in view where no other category of the collection tells which one it is.
2. Neighbours are of `NEIGHBOURS`. They hold for slices, projections and ultrasound.
3. Skin is cut by every slice and crossed by every ray, so only surfaces other than skin and tissue certainly lack it.
4. A micrograph of unknown tissue may come from any tumour, so only normal structures are asked for there.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

from medground import taxonomy

__all__ = ["HOMES", "NEIGHBOURS", "SURFACES", "certainly_absent", "home_of", "home_words", "shown"]

HOMES: dict[str, tuple[str, ...]] = {
    # Normal structures.
    "central nervous system": ("head",),
    "spinal cord": ("neck", "chest", "abdomen"),
    "eye": ("eye",),
    "heart": ("chest",),
    "aorta": ("chest", "abdomen"),
    "common carotid artery": ("neck", "chest"),
    "inferior vena cava": ("chest", "abdomen", "pelvis"),
    "iliac vein": ("pelvis",),
    "portal and splenic vein": ("abdomen",),
    "oral cavity": ("jaws",),
    "hepatobiliary system": ("abdomen",),
    "gastrointestinal tract": ("abdomen", "pelvis"),
    "pancreas": ("abdomen",),
    "endocrine system": ("abdomen",),
    "spleen": ("abdomen",),
    "kidney": ("abdomen",),
    "urinary bladder": ("pelvis",),
    "male reproductive system": ("pelvis",),
    "respiratory system": ("chest",),
    "spine": ("neck", "chest", "abdomen", "pelvis"),
    "sacrum": ("pelvis",),
    "thoracic cage": ("chest", "abdomen"),
    "pelvic girdle": ("pelvis",),
    "bones of the lower limb": ("pelvis",),
    "back muscles": ("neck", "chest", "abdomen", "pelvis"),
    "hip muscles": ("abdomen", "pelvis"),
    "gluteal muscles": ("pelvis",),
    "fetus": ("womb",),
    "cell": ("cell",),
    # Findings.
    "tumors of the central nervous system": ("head",),
    "meningioma": ("head", "neck", "chest", "abdomen"),
    "intracranial hemorrhage": ("head",),
    "demyelinating diseases": ("head", "neck", "chest", "abdomen"),
    "tumors of the thorax": ("chest",),
    "tumors of the breast": ("breast",),
    "tumors of the digestive tract": ("abdomen", "pelvis"),
    "tumors of the urogenital tract": ("abdomen", "pelvis"),
    "tumors of the skin": ("skin",),
}
"""Where an entity, or what lies under a group of the taxonomy, can be found."""

NEIGHBOURS: dict[str, tuple[str, ...]] = {
    "head": ("eye", "jaws", "neck"),
    "eye": ("head",),
    "jaws": ("head", "eye", "neck"),
    "neck": ("head", "jaws", "chest"),
    "chest": ("neck", "breast", "abdomen"),
    "breast": ("chest",),
    "abdomen": ("chest", "breast", "pelvis", "womb"),
    "pelvis": ("abdomen", "womb"),
    "womb": ("head", "eye", "jaws", "neck", "abdomen", "pelvis"),  # the child's own, and what lies around the womb
    "skin": (),
    "cell": (),
}
"""What a slice, a projection or an ultrasound picture of a part of the body may show beside it."""

SURFACES = frozenset({"endoscopy", "fundus", "OCT", "dermoscopy", "microscopy"})
"""Modalities that show one surface and nothing beside it."""

_BODY = frozenset({"neck", "chest", "abdomen", "pelvis"})
"""Where what may be anywhere is annotated: on scans of the body."""

_WORDS = {
    "head": "the head",
    "eye": "the eye",
    "jaws": "the jaws",
    "neck": "the neck",
    "chest": "the chest",
    "breast": "the breast",
    "abdomen": "the abdomen",
    "pelvis": "the pelvis",
    "womb": "the womb",
    "skin": "the surface of the body",
}


@functools.cache
def home_of(name: str) -> frozenset[str]:
    """Return the parts of the body in which an entity of the taxonomy can be found; empty where it may be any.

    Examples
    --------
    >>> home_of("hippocampus"), home_of("lesion")
    (frozenset({'head'}), frozenset())
    """
    for each in (name, *taxonomy.ancestors(taxonomy.load_targets()[name])):
        if each in HOMES:
            return frozenset(HOMES[each])
    return frozenset()


def home_words(name: str) -> str | None:
    """Return where an entity would be looked for, in words; None for cells, which lie in no part of the body.

    Examples
    --------
    >>> home_words("hippocampus"), home_words("aorta"), home_words("largest cell nucleus")
    ('the head', 'the chest or the abdomen', None)
    """
    words = [_WORDS[home] for home in _WORDS if home in home_of(name)]
    if len(words) > 2:
        return "the brain or the spine" if "head" in home_of(name) else "the trunk"
    return " or ".join(words) or None


def shown(names: Iterable[str], modality: str) -> frozenset[str]:
    """Return the parts of the body that pictures of a collection may show.

    Parameters
    ----------
    names : iterable of str
        Every entity that the collection has in this modality.
    modality : str

    Examples
    --------
    >>> sorted(shown(["lung"], "X-ray"))
    ['abdomen', 'breast', 'chest', 'neck', 'skin']
    >>> sorted(shown(["colon polyp"], "endoscopy"))
    ['abdomen', 'pelvis']
    >>> sorted(shown(["meningioma", "glioma"], "MRI"))  # the gliomas tell that these are brains
    ['eye', 'head', 'jaws', 'neck', 'skin']
    """
    each = [home_of(name) or _BODY for name in sorted(set(names))]
    homes = {part for parts in each if len(parts) == 1 for part in parts}
    for parts in sorted((parts for parts in each if homes.isdisjoint(parts)), key=sorted):
        homes |= parts
    if modality in SURFACES:
        return frozenset(homes)
    return frozenset(homes.union({"skin"}, *(NEIGHBOURS[home] for home in homes)))


def certainly_absent(name: str, parts: frozenset[str], modality: str) -> bool:
    """Whether an entity certainly isn't in a picture that may show these parts of the body.

    Parameters
    ----------
    name : str
        An entity of the taxonomy.
    parts : frozenset of str
        From `shown`.
    modality : str
        The picture's.

    Examples
    --------
    >>> chest = shown(["lung"], "X-ray")
    >>> certainly_absent("hippocampus", chest, "X-ray"), certainly_absent("spleen", chest, "X-ray")
    (True, False)
    """
    home = home_of(name)
    if not home or not home.isdisjoint(parts):
        return False
    if modality == "microscopy":
        return taxonomy.load_targets()[name].kind == "structure"
    return True
