"""One entity and all that is known of it, and the reader of the files that hold them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from medground.errors import ConfigError
from medground.taxonomy.groups import Sources, SupercategoryName, default_sources, parse_toml, validated
from medground.taxonomy.wording import Description, Fact, Heading, Phrase, Term, first_term, similarity

__all__ = ["STYLES", "Style", "Target", "Unseen", "check_tree", "leaks", "read_targets"]

Style = Literal["function", "appearance", "location", "clinical", "lay"]
STYLES: tuple[Style, ...] = get_args(Style)

MAX_SIMILARITY = 0.6
"""Held-out phrases share fewer words than this, as a Jaccard index, with each training phrase of their entity."""

Three = Annotated[tuple[Phrase, ...], Field(min_length=3)]
Two = Annotated[tuple[Phrase, ...], Field(min_length=2)]
Some = Annotated[tuple[Phrase, ...], Field(min_length=1)]


class Unseen(BaseModel):
    """Held-out noun phrases of each style, in the grammar of the training phrases.

    Examples
    --------
    >>> Unseen.model_fields.keys() == set(STYLES)
    True
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    function: Some
    appearance: Some | Annotated[dict[str, Some], Field(min_length=1)]
    location: Some
    clinical: Some
    lay: Some


class Target(BaseModel):
    """One entity that a question can be about.

    Attributes
    ----------
    name : str
        The name used in sentences, e.g. "kidney".
    categories : tuple of str
        The dataset categories that the entity covers, e.g. ("kidney left", "kidney right"), verbatim.
    supercategory : str
        The group that scores are broken down by; one of supercategories.toml.
    kind : {"structure", "finding"}
        Normal anatomy, or something abnormal (tumour, lesion, bleed, polyp).
    parent : str
        What lies one level above: another entity, or a group of parents.toml.
    synonyms, hidden : tuple of str
        Other names, and further words, that an implicit question must not contain.
    function, location, clinical, lay : tuple of str
        Noun phrases that describe the entity without naming it; they fit "Where is {X}?", "Could you outline {X}?",
        "I would like to see {X}.". The side (left, right) is added by code.
    appearance : tuple of str, or dict of modality to tuple of str
        Noun phrases about its looks; a dict where they hold in one modality only.
    fact : str
        One sentence that names the entity, for the reasoning.
    sources : Sources
        The kind of source that each style follows; a file gives only what differs from sources.toml.
    short : str
        A noun phrase of 5 to 12 words that names the entity.
    long : str
        Two or three sentences that name it: what it is, where it lies, how it looks, why it matters.
    unseen : Unseen
        Phrases for validation and test questions alone, in other words than the training phrases.

    Examples
    --------
    >>> from medground.taxonomy import load_targets
    >>> target = load_targets()["optic disc"]
    >>> target.supercategory, target.kind, target.parent
    ('eye', 'structure', 'ocular fundus')
    >>> target.fact
    'The optic disc is where nerve fibres leave the eye.'
    >>> target.short
    "the optic disc, the head of the eye's nerve"
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Term
    categories: Annotated[tuple[Term, ...], Field(min_length=1)]
    supercategory: SupercategoryName
    kind: Literal["structure", "finding"]
    parent: Term
    synonyms: tuple[Term, ...]
    hidden: tuple[Term, ...]
    function: Three
    appearance: Two | Annotated[dict[str, Two], Field(min_length=1)]
    location: Two
    clinical: Two
    lay: Two
    fact: Fact
    sources: Sources
    short: Heading
    long: Description
    unseen: Unseen

    @property
    def healthy(self) -> bool:
        """True for normal anatomy, False for an abnormal finding."""
        return self.kind == "structure"

    @property
    def terms(self) -> tuple[str, ...]:
        """Every word or phrase that gives the entity away, longest first.

        Examples
        --------
        >>> from medground.taxonomy import load_targets
        >>> load_targets()["kidney"].terms
        ('nephritis', 'kidney', 'renal', 'ren')
        """
        bare = (_without_side(category, self.name) for category in self.categories)
        unique = {term.casefold() for term in (self.name, *self.synonyms, *self.hidden, *bare)}
        return tuple(sorted(unique, key=lambda term: (-len(term), term)))

    @property
    def all_phrases(self) -> tuple[str, ...]:
        """Every training phrase of every style and modality, in the order of the file."""
        return _flat(self)

    @property
    def all_unseen_phrases(self) -> tuple[str, ...]:
        """Every held-out phrase of every style and modality, in the order of the styles."""
        return _flat(self.unseen)

    @model_validator(mode="after")
    def _check_names(self) -> Target:
        for phrase in (*self.all_phrases, *self.all_unseen_phrases):
            if found := leaks(phrase, self):
                raise ValueError(f"{phrase!r} gives the name away with {found!r}")
        for field, text in (("fact", self.fact), ("short", self.short), ("long", self.long)):
            if leaks(text, self) is None:
                raise ValueError(f"the {field} {text!r} must name the entity")
        for held_out in self.all_unseen_phrases:
            for phrase in self.all_phrases:
                if similarity(held_out, phrase) >= MAX_SIMILARITY:
                    raise ValueError(f"the unseen {held_out!r} is too like {phrase!r}; use other words")
        return self


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
    >>> from medground.taxonomy import load_targets
    >>> kidney = load_targets()["kidney"]
    >>> leaks("Are both Kidneys of the same size?", kidney)
    'Kidneys'
    >>> leaks("Where is urine made?", kidney) is None
    True
    """
    return first_term(text, target.terms)


def read_targets(text: str, source: str = "targets.toml", taken: dict[str, str] | None = None) -> dict[str, Target]:
    r"""Read and check entity tables.

    Parameters
    ----------
    text : str
        TOML, one table per entity.
    source : str
        File name for error messages.
    taken : dict of str to str, optional
        Categories and phrases of other files with their owners; those of this one are added.

    Returns
    -------
    dict of str to Target
        In the order of the file.

    Raises
    ------
    ConfigError
        If the text is no TOML, a field is unknown, missing or malformed, a phrase gives its entity away, or
        two entities share a category or a phrase. The message names the entity and the field. Parents are not looked
        up here: see `check_tree`.

    Examples
    --------
    >>> read_targets("[spleen]\ncolour = 'red'")
    Traceback (most recent call last):
        ...
    medground.errors.ConfigError: targets.toml: entity 'spleen', field 'categories': Field required
    """
    owners: dict[str, str] = {} if taken is None else taken
    targets: dict[str, Target] = {}
    for name, table in parse_toml(text, source).items():
        if not isinstance(table, dict):
            raise ConfigError(f"{source}: field {name!r} stands outside a table; put it under its entity")
        if "name" in table:
            raise ConfigError(f"{source}: entity {name!r}, field 'name': remove it; the table's own name is used")
        usual = default_sources("finding" if table.get("kind") == "finding" else "structure").model_dump()
        given = table.get("sources", {})
        sources = {**usual, **given} if isinstance(given, dict) else given
        target = validated(Target, {**table, "name": name, "sources": sources}, source, f"entity {name!r}", "phrases")
        for field, values in (
            ("categories", target.categories),
            ("phrases", target.all_phrases),
            ("unseen", target.all_unseen_phrases),
        ):
            for value in values:
                if value in owners:
                    raise ConfigError(
                        f"{source}: entity {name!r}, field {field!r}: {value!r} already belongs to {owners[value]!r}"
                    )
                owners[value] = name
        targets[name] = target
    return targets


def check_tree(targets: Mapping[str, Target], groups: Mapping[str, str | None]) -> None:
    """Check that every entity has a root above it.

    Parameters
    ----------
    targets : mapping of str to Target
        The entities by name.
    groups : mapping of str to str or None
        The groups with their parents, as `read_parents` returns them.

    Raises
    ------
    ConfigError
        If a parent is neither an entity nor a group, an entity bears the name of a group, or entities are their own
        ancestors. The message names the entity.
    """
    for name, target in targets.items():
        if name in groups:
            raise ConfigError(f"entity {name!r}, field 'parent': a group has the same name; remove it from the groups")
        if target.parent not in targets and target.parent not in groups:
            raise ConfigError(
                f"entity {name!r}, field 'parent': {target.parent!r} is neither an entity nor a group of parents.toml"
            )
    for name, target in targets.items():
        above, seen = target.parent, {name}
        while above in targets:
            if above in seen:
                raise ConfigError(f"entity {name!r}, field 'parent': it has no root above it, since {above!r} recurs")
            seen.add(above)
            above = targets[above].parent


def _flat(words: Target | Unseen) -> tuple[str, ...]:
    looks = words.appearance.values() if isinstance(words.appearance, dict) else (words.appearance,)
    groups = (words.function, *looks, words.location, words.clinical, words.lay)
    return tuple(phrase for group in groups for phrase in group)


def _without_side(category: str, name: str) -> str:
    own = name.split()
    return " ".join(word for word in category.split() if word not in {"left", "right"} or word in own)
