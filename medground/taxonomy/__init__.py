"""Anatomical and pathological entities with the knowledge that implicit questions are made of.

The knowledge lives in ``targets.toml`` beside this file, one table per entity ("kidney" covers the categories
"kidney left" and "kidney right"). Every table is checked when it is read, so a phrase that names its own
entity never reaches a training question.
"""

from __future__ import annotations

import functools
import re
import tomllib
from importlib import resources
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictStr, ValidationError, model_validator

from medground.errors import ConfigError

__all__ = ["STYLES", "Style", "Target", "leaks", "load_targets", "phrases", "read_targets", "side_of", "target_of"]

Style = Literal["function", "appearance", "location", "clinical", "lay"]
STYLES: tuple[Style, ...] = get_args(Style)

Supercategory = Literal[
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

_OPENINGS = ("the ", "a ", "an ", "whatever ", "anything that ")
_MIN_WORDS, _MAX_WORDS, _MAX_FACT_WORDS = 5, 16, 14
# Latin and Greek endings beside the English ones; a wrong guess ("lungae") is no word and so does no harm.
_PLURALS = (("y", "ies"), ("a", "ae"), ("us", "i"), ("um", "a"), ("is", "es"), ("ex", "ices"), ("ix", "ices"))


def _check_phrase(text: str) -> str:
    words = len(text.split())
    if not _MIN_WORDS <= words <= _MAX_WORDS:
        raise ValueError(f"{text!r} has {words} words; use {_MIN_WORDS} to {_MAX_WORDS}")
    if not text.startswith(_OPENINGS):
        raise ValueError(f"{text!r} must start with an article, 'whatever' or 'anything that'")
    if not text.isascii() or text != " ".join(text.split()) or text[-1] in ".?!,;:":
        raise ValueError(f"{text!r} must be plain ASCII with single blanks and no final stop")
    return text


def _check_fact(text: str) -> str:
    words = len(text.split())
    if words > _MAX_FACT_WORDS or not text.endswith(".") or not text[:1].isupper() or not text.isascii():
        raise ValueError(f"{text!r} must be one ASCII sentence of at most {_MAX_FACT_WORDS} words")
    return text


Term = Annotated[StrictStr, Field(min_length=2, pattern=r"^[A-Za-z0-9][A-Za-z0-9' -]*[A-Za-z0-9]$")]
Phrase = Annotated[StrictStr, AfterValidator(_check_phrase)]
Three = Annotated[tuple[Phrase, ...], Field(min_length=3, max_length=3)]
Two = Annotated[tuple[Phrase, ...], Field(min_length=2, max_length=2)]


class Target(BaseModel):
    """One entity that a question can be about.

    Attributes
    ----------
    name : str
        The name used in sentences, e.g. "kidney".
    categories : tuple of str
        The dataset categories that the entity covers, e.g. ("kidney left", "kidney right").
    supercategory : str
        The group that scores are broken down by.
    kind : {"structure", "finding"}
        Normal anatomy, or something abnormal.
    synonyms, hidden : tuple of str
        Other names, and further words, that an implicit question must not contain.
    function, location, clinical, lay : tuple of str
        Noun phrases that describe the entity without naming it.
    appearance : tuple of str, or dict of modality to tuple of str
        Noun phrases about its looks; a dict where they hold in one modality only.
    fact : str
        One sentence that names the entity.

    Examples
    --------
    >>> target = load_targets()["optic disc"]
    >>> target.supercategory, target.kind
    ('eye', 'structure')
    >>> target.fact
    'The optic disc is where nerve fibres leave the eye.'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Term
    categories: Annotated[tuple[Term, ...], Field(min_length=1)]
    supercategory: Supercategory
    kind: Literal["structure", "finding"]
    synonyms: tuple[Term, ...]
    hidden: tuple[Term, ...]
    function: Three
    appearance: Two | Annotated[dict[str, Two], Field(min_length=1)]
    location: Two
    clinical: Two
    lay: Two
    fact: Annotated[StrictStr, AfterValidator(_check_fact)]

    @property
    def terms(self) -> tuple[str, ...]:
        """Every word or phrase that gives the entity away, longest first.

        Examples
        --------
        >>> load_targets()["kidney"].terms
        ('nephritis', 'kidney', 'renal', 'ren')
        """
        bare = (_without_side(category, self.name) for category in self.categories)
        unique = {term.casefold() for term in (self.name, *self.synonyms, *self.hidden, *bare)}
        return tuple(sorted(unique, key=lambda term: (-len(term), term)))

    @property
    def all_phrases(self) -> tuple[str, ...]:
        """Every noun phrase of every style and modality, in the order of the file."""
        looks = self.appearance.values() if isinstance(self.appearance, dict) else (self.appearance,)
        groups = (self.function, *looks, self.location, self.clinical, self.lay)
        return tuple(phrase for group in groups for phrase in group)

    @model_validator(mode="after")
    def _check_leaks(self) -> Target:
        for phrase in self.all_phrases:
            if found := leaks(phrase, self):
                raise ValueError(f"{phrase!r} gives the name away with {found!r}")
        if leaks(self.fact, self) is None:
            raise ValueError(f"the fact {self.fact!r} must name the entity")
        return self


def read_targets(text: str, source: str = "targets.toml") -> dict[str, Target]:
    r"""Read and check entity tables.

    Parameters
    ----------
    text : str
        TOML, one table per entity.
    source : str
        File name for error messages.

    Returns
    -------
    dict of str to Target
        In the order of the file.

    Raises
    ------
    ConfigError
        If the text is no TOML, a field is unknown, missing or malformed, a phrase gives its entity away, or
        two entities share a category or a phrase. The message names the entity and the field.

    Examples
    --------
    >>> read_targets("[spleen]\ncolour = 'red'")
    Traceback (most recent call last):
        ...
    medground.errors.ConfigError: targets.toml: entity 'spleen', field 'categories': Field required
    """
    try:
        tables: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source}: not valid TOML: {error}") from error
    targets: dict[str, Target] = {}
    owners: dict[str, str] = {}
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise ConfigError(f"{source}: field {name!r} stands outside a table; put it under its entity")
        if "name" in table:
            raise ConfigError(f"{source}: entity {name!r}, field 'name': remove it; the table's own name is used")
        try:
            target = Target.model_validate({**table, "name": name})
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or "phrases"
            reason = first["msg"].removeprefix("Value error, ")
            raise ConfigError(f"{source}: entity {name!r}, field {field!r}: {reason}") from error
        for field, values in (("categories", target.categories), ("phrases", target.all_phrases)):
            for value in values:
                if value in owners:
                    raise ConfigError(
                        f"{source}: entity {name!r}, field {field!r}: {value!r} already belongs to {owners[value]!r}"
                    )
                owners[value] = name
        targets[name] = target
    return targets


@functools.cache
def _packaged() -> dict[str, Target]:
    return read_targets((resources.files(__name__) / "targets.toml").read_text(encoding="utf-8"))


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
            f"targets.toml: category {category!r} belongs to no entity; add it to the 'categories' of one"
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


def phrases(target: Target, modality: str) -> dict[Style, tuple[str, ...]]:
    """Return the noun phrases about an entity that hold in one modality.

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
    looks = target.appearance
    if isinstance(looks, dict):
        looks = next((found for key, found in looks.items() if key.casefold() == modality.casefold()), ())
    styles: dict[Style, tuple[str, ...]] = {
        "function": target.function,
        "appearance": looks,
        "location": target.location,
        "clinical": target.clinical,
        "lay": target.lay,
    }
    return {style: found for style, found in styles.items() if found}


def leaks(text: str, target: Target) -> str | None:
    """Return the first word in a text that gives an entity away, or None.

    Names, synonyms and hidden words are looked for as whole words, in any case, in singular and plural, with
    blanks or hyphens between the words of a phrase.

    Parameters
    ----------
    text : str
        A question or phrase.
    target : Target
        The entity that it must not name.

    Returns
    -------
    str or None
        The word as it stands in the text.

    Examples
    --------
    >>> kidney = load_targets()["kidney"]
    >>> leaks("Are both Kidneys of the same size?", kidney)
    'Kidneys'
    >>> leaks("Where is urine made?", kidney) is None
    True
    """
    found = _pattern(target.terms).search(text)
    return found.group(0) if found else None


@functools.lru_cache(maxsize=1024)
def _pattern(terms: tuple[str, ...]) -> re.Pattern[str]:
    alternatives = []
    for term in terms:
        *before, last = re.split(r"[\s-]+", term)
        forms = {last, last + "s", last + "es", last + "'s"}
        forms |= {last[: -len(end)] + plural for end, plural in _PLURALS if last.endswith(end)}
        tail = "|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True))
        alternatives.append(r"[\s-]+".join([*map(re.escape, before), f"(?:{tail})"]))
    return re.compile(rf"(?<!\w)(?:{'|'.join(alternatives)})(?!\w)", re.IGNORECASE)


def _without_side(category: str, name: str) -> str:
    own = name.split()
    return " ".join(word for word in category.split() if word not in {"left", "right"} or word in own)
