"""What entities are grouped by: modalities, super-categories, the tree of parents and the kinds of source.

Each is a small TOML file beside this module, checked when it is read.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError

from medground.errors import ConfigError, first_mistake
from medground.taxonomy.wording import Sentence, Term

__all__ = [
    "Modality",
    "SourceKind",
    "Sources",
    "Supercategory",
    "SupercategoryName",
    "default_sources",
    "load_modalities",
    "load_parents",
    "load_supercategories",
    "parse_toml",
    "read_parents",
    "validated",
]

SupercategoryName = Literal[
    "abdomen",
    "brain",
    "eye",
    "heart",
    "histology",
    "lung",
    "vessel",
    "neoplasm",
    "non-neoplasm",
    "infection",
    "bone",
    "muscle",
    "pelvis",
    "obstetric",
    "dental",
]
SourceKind = Literal[
    "anatomy atlas",
    "physiology textbook",
    "radiology textbook",
    "pathology textbook",
    "clinical guideline",
    "dataset paper",
    "plain language",
]

_Checked = TypeVar("_Checked", bound=BaseModel)


class Modality(BaseModel):
    """A way of making medical images.

    Attributes
    ----------
    name : str
        As the data set names it, e.g. "CT".
    full_name : str
        The name written out.
    shows : str
        What is measured; one sentence.
    pictures : tuple of str
        What clinicians call a picture of it.
    bright, dark : str
        What the two ends of the grey scale mean.

    Examples
    --------
    >>> load_modalities()["CT"].dark
    'Air first, then fat, then water.'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Term
    full_name: Term
    shows: Sentence
    pictures: Annotated[tuple[Term, ...], Field(min_length=1)]
    bright: Sentence
    dark: Sentence


class Supercategory(BaseModel):
    """A group of entities that scores are broken down by.

    Attributes
    ----------
    name : str
        E.g. "abdomen".
    sentence : str
        What belongs to the group.
    released : bool
        True where the released U-MRG set uses the group, False where it is our own.

    Examples
    --------
    >>> sum(group.released for group in load_supercategories().values())
    10
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: SupercategoryName
    sentence: Sentence
    released: StrictBool


class Sources(BaseModel):
    """The kind of source that the words of each style follow.

    Examples
    --------
    >>> default_sources("structure").location
    'anatomy atlas'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    function: SourceKind
    appearance: SourceKind
    location: SourceKind
    clinical: SourceKind
    lay: SourceKind


def parse_toml(text: str, source: str) -> dict[str, Any]:
    """Parse TOML; ConfigError names the file."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source}: not valid TOML: {error}") from error


def validated(model: type[_Checked], table: Mapping[str, Any], source: str, what: str, whole: str) -> _Checked:
    """Check a table against a model; ConfigError names file, table and field, or `whole` where no field is at fault."""
    try:
        return model.model_validate(table)
    except ValidationError as error:
        field, _, reason = first_mistake(error)
        raise ConfigError(f"{source}: {what}, field {field or whole!r}: {reason}") from error


def read_parents(text: str, source: str = "parents.toml") -> dict[str, str | None]:
    r"""Read and check the tree of groups.

    Parameters
    ----------
    text : str
        TOML: ``roots``, a list of names, and ``[parents]``, a table of child = parent.
    source : str
        File name for error messages.

    Returns
    -------
    dict of str to str or None
        The parent of each group; None for a root.

    Raises
    ------
    ConfigError
        If the text is malformed, a parent is no group, or groups are their own ancestors.

    Examples
    --------
    >>> read_parents("roots = ['body']\n[parents]\nhead = 'body'")
    {'body': None, 'head': 'body'}
    >>> read_parents("roots = ['body']\n[parents]\nhead = 'neck'")
    Traceback (most recent call last):
        ...
    medground.errors.ConfigError: parents.toml: group 'head': its parent 'neck' is unknown; add it
    """
    table = parse_toml(text, source)
    roots, parents = table.pop("roots", None), table.pop("parents", None)
    if table or not isinstance(roots, list) or not isinstance(parents, dict):
        raise ConfigError(f"{source}: give 'roots', a list of names, and a table 'parents', and nothing else")
    tree: dict[str, str | None] = {}
    for name, parent in [*((root, None) for root in roots), *parents.items()]:
        if not isinstance(name, str) or not isinstance(parent, str | None) or name in tree:
            raise ConfigError(f"{source}: group {name!r}: give it once, with one name as its parent")
        tree[name] = parent
    for name, parent in tree.items():
        if parent is not None and parent not in tree:
            raise ConfigError(f"{source}: group {name!r}: its parent {parent!r} is unknown; add it")
        seen = {name}
        while parent is not None:
            if parent in seen:
                raise ConfigError(f"{source}: group {name!r}: it has no root above it, since {parent!r} is in a cycle")
            seen.add(parent)
            parent = tree[parent]
    return tree


def _packaged(name: str) -> dict[str, Any]:
    return parse_toml((resources.files("medground.taxonomy") / name).read_text(encoding="utf-8"), name)


@functools.cache
def _modalities() -> dict[str, Modality]:
    name = "modalities.toml"
    return {
        key: validated(Modality, {**table, "name": key}, name, f"modality {key!r}", "table")
        for key, table in _packaged(name).items()
    }


@functools.cache
def _supercategories() -> dict[str, Supercategory]:
    name = "supercategories.toml"
    tables = _packaged(name)
    if missing := set(get_args(SupercategoryName)) - set(tables):
        raise ConfigError(f"{name}: {', '.join(sorted(missing))} missing; give each super-category its table")
    return {
        key: validated(Supercategory, {**table, "name": key}, name, f"super-category {key!r}", "table")
        for key, table in tables.items()
    }


@functools.cache
def _parents() -> dict[str, str | None]:
    text = (resources.files("medground.taxonomy") / "parents.toml").read_text(encoding="utf-8")
    return read_parents(text)


@functools.cache
def default_sources(kind: Literal["structure", "finding"]) -> Sources:
    """Return the kinds of source of entities that say nothing else."""
    name = "sources.toml"
    tables = _packaged(name)
    if set(tables.pop("kinds")) != set(get_args(SourceKind)):
        raise ConfigError(f"{name}: the table 'kinds' must explain {', '.join(get_args(SourceKind))}, and no more")
    return validated(Sources, tables[kind], name, f"table {kind!r}", "table")


def load_modalities() -> dict[str, Modality]:
    """Return the modalities by name; read once, then kept.

    Examples
    --------
    >>> load_modalities()["ultrasound"].pictures
    ('ultrasound image', 'sonogram', 'scan')
    """
    return dict(_modalities())


def load_supercategories() -> dict[str, Supercategory]:
    """Return the super-categories by name; read once, then kept.

    Examples
    --------
    >>> [name for name, group in load_supercategories().items() if not group.released]
    ['bone', 'muscle', 'pelvis', 'obstetric', 'dental']
    """
    return dict(_supercategories())


def load_parents() -> dict[str, str | None]:
    """Return the parent of each group of entities, None for a root; read once, then kept.

    Examples
    --------
    >>> load_parents()["basal ganglia"]
    'cerebrum'
    """
    return dict(_parents())
