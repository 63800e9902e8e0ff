"""Anatomical and pathological entities with the knowledge that implicit questions are made of.

The knowledge lives in ``targets/*.toml`` beside this file, a file per region and a table per entity ("kidney" covers
the categories "kidney left" and "kidney right"); what entities are grouped by lives in ``modalities.toml``,
``supercategories.toml``, ``parents.toml`` and ``sources.toml``. Every table is checked when it is read, so a phrase
that names its own entity never reaches a question.
"""

from __future__ import annotations

import functools
from importlib import resources
from typing import Literal

from medground.errors import ConfigError
from medground.taxonomy.entities import STYLES, Style, Target, Unseen, check_tree, leaks, read_targets
from medground.taxonomy.groups import (
    Modality,
    SourceKind,
    Sources,
    Supercategory,
    load_modalities,
    load_parents,
    load_supercategories,
    read_parents,
)

__all__ = [
    "STYLES",
    "Modality",
    "SourceKind",
    "Sources",
    "Style",
    "Supercategory",
    "Target",
    "Unseen",
    "ancestors",
    "check_tree",
    "leaks",
    "load_modalities",
    "load_parents",
    "load_supercategories",
    "load_targets",
    "phrases",
    "read_parents",
    "read_targets",
    "side_of",
    "target_of",
    "unseen_phrases",
]

# In this order, so that whoever draws an entity by its index draws the same one on every machine.
_REGIONS = (
    "brain",
    "brain_findings",
    "eye",
    "heart_and_vessels",
    "abdomen",
    "pelvis",
    "bone",
    "muscle",
    "chest",
    "others",
)


@functools.cache
def _packaged() -> dict[str, Target]:
    targets: dict[str, Target] = {}
    taken: dict[str, str] = {}
    for region in _REGIONS:
        text = (resources.files(__name__) / "targets" / f"{region}.toml").read_text(encoding="utf-8")
        found = read_targets(text, f"targets/{region}.toml", taken)
        if twice := targets.keys() & found.keys():
            raise ConfigError(f"targets/{region}.toml: entity {min(twice)!r} is in another file too; remove one")
        targets |= found
    check_tree(targets, load_parents())
    return targets


@functools.cache
def _by_category() -> dict[str, Target]:
    return {category: target for target in _packaged().values() for category in target.categories}


def load_targets() -> dict[str, Target]:
    """Return the packaged entities by name; read once, then kept.

    Examples
    --------
    >>> load_targets()["putamen"].categories
    ('left putamen', 'right putamen')
    """
    return dict(_packaged())


def target_of(category: str) -> Target:
    """Return the entity that covers a dataset category.

    Raises
    ------
    ConfigError
        If no entity lists the category.

    Examples
    --------
    >>> target_of("lung upper lobe left").name
    'upper lobe of the lung'
    """
    try:
        return _by_category()[category]
    except KeyError:
        raise ConfigError(
            f"taxonomy/targets: category {category!r} belongs to no entity; add it to the 'categories' of one"
        ) from None


def side_of(category: str) -> Literal["left", "right"] | None:
    """Return the side of the patient that a category names, or None.

    A side that is part of the entity's own name, as in "left atrium", is none.

    Raises
    ------
    ConfigError
        If no entity lists the category.

    Examples
    --------
    >>> side_of("kidney left"), side_of("right putamen"), side_of("left atrium"), side_of("spleen")
    ('left', 'right', None, None)
    """
    words, own = category.split(), target_of(category).name.split()
    if "left" in words and "left" not in own:
        return "left"
    if "right" in words and "right" not in own:
        return "right"
    return None


def ancestors(target: Target) -> tuple[str, ...]:
    """Return what lies above a packaged entity, from its parent to a root.

    Examples
    --------
    >>> ancestors(target_of("vertebrae L3"))
    ('vertebrae', 'spine', 'skeleton', 'musculoskeletal system', 'human body')
    >>> ancestors(target_of("glioma"))
    ('brain tumor', 'tumors of the central nervous system', 'neoplasms', 'disease')
    """
    targets, groups = _packaged(), load_parents()
    found: list[str] = []
    above: str | None = target.parent
    while above is not None:
        found.append(above)
        above = targets[above].parent if above in targets else groups[above]
    return tuple(found)


def phrases(target: Target, modality: str) -> dict[Style, tuple[str, ...]]:
    """Return the noun phrases about an entity that hold in one modality, for training questions.

    Parameters
    ----------
    target : Target
        The entity.
    modality : str
        As the dataset names it, e.g. "CT", "MRI", "X-ray", "ultrasound"; case doesn't matter.

    Returns
    -------
    dict of style to tuple of str
        The styles in the order of `STYLES`. "appearance" is left out where nothing is known about the looks in
        this modality.

    Examples
    --------
    >>> phrases(target_of("sacrum"), "CT")["appearance"][0]
    'the bright midline wedge with rows of paired openings'
    >>> "appearance" in phrases(target_of("sacrum"), "MRI")
    False
    """
    return _in_modality(target, target.appearance, modality)


def unseen_phrases(target: Target, modality: str) -> dict[Style, tuple[str, ...]]:
    """Return the held-out noun phrases about an entity that hold in one modality, for validation and test questions.

    They say what `phrases` say in other words, so that a model is measured on phrasing that it never met.

    Parameters
    ----------
    target : Target
        The entity.
    modality : str
        As in `phrases`.

    Returns
    -------
    dict of style to tuple of str
        The same styles as `phrases` returns, each with at least one phrase.

    Examples
    --------
    >>> unseen_phrases(target_of("sacrum"), "CT")["appearance"]
    ('a white shield-like plate with holes in two lines',)
    >>> "appearance" in unseen_phrases(target_of("sacrum"), "MRI")
    False
    """
    seen = phrases(target, modality)
    found = _in_modality(target.unseen, target.unseen.appearance, modality)
    return {style: found[style] for style in seen if style in found}


def _in_modality(
    words: Target | Unseen, looks: tuple[str, ...] | dict[str, tuple[str, ...]], modality: str
) -> dict[Style, tuple[str, ...]]:
    if isinstance(looks, dict):
        looks = next((found for key, found in looks.items() if key.casefold() == modality.casefold()), ())
    styles: dict[Style, tuple[str, ...]] = {
        "function": words.function,
        "appearance": looks,
        "location": words.location,
        "clinical": words.clinical,
        "lay": words.lay,
    }
    return {style: found for style, found in styles.items() if found}
