"""The words of visual questions, from ``vqa_questions.toml``, and the grammar that puts them together."""

from __future__ import annotations

import functools
import string
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

from medground.data.vqa.scene import PLURAL
from medground.errors import ConfigError

__all__ = ["Words", "listed", "load_words", "question", "read_words", "statement", "subject", "with_article"]

_SLOTS = {
    "aspect": {"x", "does", "Does", "is", "Is", "bound"},
    "compare": {"a", "b"},
    "image": {"x", "Is", "Does"},
    "multi": {"x", "a", "b"},
    "thinking": {"mentions", "seen", "x", "home", "answer"},
}
_THIRD_PERSON = {"be": "is", "have": "has", "reach": "reaches"}


@dataclass(frozen=True, slots=True)
class Words:
    """All that a visual question can say.

    Parameters
    ----------
    aspect, compare, image : mapping
        Kind of question to ``ask`` (how it is put), ``says`` (predicates) and ``closed`` (how yes or no is asked for).
    multi, thinking : mapping
        Part to its alternatives.
    """

    aspect: Mapping[str, Mapping[str, Sequence[str] | Mapping[str, str]]]
    compare: Mapping[str, Mapping[str, Sequence[str] | str]]
    image: Mapping[str, Mapping[str, Sequence[str]]]
    multi: Mapping[str, Sequence[str]]
    thinking: Mapping[str, Sequence[str]]

    def asks(self, kind: str, name: str) -> Sequence[str]:
        """Return how a kind of question can be put."""
        found: Sequence[str] = getattr(self, kind)[name]["ask"]
        return found

    def predicates(self, aspect: str) -> Mapping[str, str]:
        """Return the predicate of each value of an aspect; "over 5" has those of "over"."""
        name, _, bound = aspect.partition(" ")
        found: Mapping[str, str] = self.aspect[name]["says"]  # type: ignore[assignment]
        return {value: said.replace("{bound}", bound) for value, said in found.items()}


def read_words(text: str, source: str = "vqa_questions.toml") -> Words:
    r"""Read and check the words.

    Raises
    ------
    ConfigError
        When the text is no TOML, or a part or a slot is unknown or lacking; names the place.

    Examples
    --------
    >>> read_words('[multi]\nabout = ["Which of these are true of {y}?"]')
    Traceback (most recent call last):
        ...
    medground.errors.ConfigError: vqa_questions.toml: multi.about: unknown slot {y}; multi has a, b, x
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source}: not valid TOML: {error}") from error
    for part, table in tables.items():
        if part not in _SLOTS:
            raise ConfigError(f"{source}: unknown part {part!r}; the parts are {', '.join(_SLOTS)}")
        _check(table, _SLOTS[part], part, f"{source}: {part}")
    if missing := sorted(set(_SLOTS) - set(tables)):
        raise ConfigError(f"{source}: {missing[0]} is missing; give each part its table")
    return Words(**tables)


def _check(value: object, slots: set[str], part: str, where: str) -> None:
    if isinstance(value, str):
        unknown = sorted({name for _, name, _, _ in string.Formatter().parse(value) if name is not None} - slots)
        if unknown:
            known = ", ".join(sorted(slots))
            raise ConfigError(f"{where}: unknown slot {{{unknown[0]}}}; {part} has {known}")
    elif isinstance(value, Mapping):
        for name, each in value.items():
            _check(each, slots, part, f"{where}.{name}")
    elif isinstance(value, list):
        for each in value:
            _check(each, slots, part, where)
    else:
        raise ConfigError(f"{where}: expected texts, lists of texts and tables of them")


@functools.cache
def load_words() -> Words:
    """Return the packaged words; read once, then kept.

    Examples
    --------
    >>> load_words().predicates("over 5")["more"]
    'cover more than 5 % of the image'
    """
    return read_words((resources.files("medground.data") / "vqa_questions.toml").read_text(encoding="utf-8"))


def with_article(name: str) -> str:
    """Return a name with its article."""
    return f"the {name}"


def listed(names: Sequence[str]) -> str:
    """Return names as prose lists them.

    Examples
    --------
    >>> listed(["the liver"]), listed(["the liver", "the spleen", "the aorta"])
    ('the liver', 'the liver, the spleen and the aorta')
    """
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def subject(frame: str, name: str) -> str:
    """Put what is asked about into a frame, its verbs agreeing.

    Examples
    --------
    >>> subject("Where {does} {x} lie?", "colon polyp"), subject("{Is} {x} in view?", "teeth")
    ('Where does the colon polyp lie?', 'Are the teeth in view?')
    """
    verb, does = ("are", "do") if name in PLURAL else ("is", "does")
    return frame.format(x=with_article(name), does=does, Does=does.capitalize(), Is=verb.capitalize(), **{"is": verb})


def question(name: str, predicate: str) -> str:
    """Return the closed question whether a predicate holds.

    Examples
    --------
    >>> question("colon polyp", "be round"), question("teeth", "lie in the centre of the image")
    ('Is the colon polyp round?', 'Do the teeth lie in the centre of the image?')
    """
    verb, _, rest = predicate.partition(" ")
    return subject(f"{{Is}} {{x}} {rest}?" if verb == "be" else f"{{Does}} {{x}} {predicate}?", name)


def statement(predicate: str, *, plural: bool = False) -> str:
    """Return a predicate as a statement about what was named before, its verb agreeing.

    Examples
    --------
    >>> statement("lie in the centre of the image"), statement("be round")
    ('lies in the centre of the image', 'is round')
    """
    verb, _, rest = predicate.partition(" ")
    if plural:
        return f"are {rest}" if verb == "be" else predicate
    return f"{_THIRD_PERSON.get(verb, verb + 's')} {rest}"
