"""The sentences of the offline grammar, from ``sentences.toml`` beside this file, checked when they are read."""

from __future__ import annotations

import functools
import re
import string
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources

from medground.errors import ConfigError

__all__ = ["SPEAKERS", "Frame", "Sentences", "fill", "load_sentences", "read_sentences"]

SPEAKERS = ("anyone", "clinician", "patient")
"""Whom a frame of a question suits."""

_SLOTS = {
    "side": {"side"},
    "meaning": {"name", "what"},
    "why": {"fact", "phrase", "side"},
    "evidence": {"place", "size", "shape", "bright", "relation", "other", "other_start"},
    "settled": set[str](),
    "absent": {"picture", "seen", "name", "home", "home_start"},
    "short": {"place", "size", "shape", "bright", "bare", "phrase"}
    | {f"{part}_start" for part in ("name", "size", "shape", "bare")},
    "long": {"picture", "name", "phrase", "wide", "high", "percent"},
}


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame of a question.

    Parameters
    ----------
    id : str
        What each row that it made carries as its template.
    text : str
        With the slot ``{x}`` for a phrase, ``{y}`` for a second one, ``{picture}`` and ``{mine}`` for the picture.
    speaker : str
        One of `SPEAKERS`.
    """

    id: str
    text: str
    speaker: str

    @property
    def closed(self) -> bool:
        """Whether words follow a phrase without a stop; a long phrase reads badly there."""
        return re.search(r"\{[xy]\} \w", self.text) is not None

    @property
    def phrases(self) -> int:
        """How many phrases it takes: 1 or 2."""
        return 1 + ("{y}" in self.text)


@dataclass(frozen=True, slots=True)
class Sentences:
    """All that the grammar can say.

    Parameters
    ----------
    train, held_out : tuple of Frame
        Frames of training questions, and those of validation and test questions.
    said : mapping
        The other sentences: part -> kind -> alternatives, such as ``said["evidence"]["sharp"]``.
    """

    train: tuple[Frame, ...]
    held_out: tuple[Frame, ...]
    said: Mapping[str, Mapping[str, tuple[str, ...]]]


def _slots(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def read_sentences(text: str, source: str = "sentences.toml") -> Sentences:
    r"""Read and check sentences.

    Raises
    ------
    ConfigError
        When the text is no TOML, a part or slot is unknown, or a frame comes twice; names the place.

    Examples
    --------
    >>> read_sentences('[train.anyone]\nt1 = "Where is {z}?"')
    Traceback (most recent call last):
        ...
    medground.errors.ConfigError: sentences.toml: train.anyone.t1: unknown slot {z}; a question has x, y, picture, mine
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source}: not valid TOML: {error}") from error
    frames = {part: tuple(_frames(tables.pop(part, {}), f"{source}: {part}")) for part in ("train", "held_out")}
    both = [*frames["train"], *frames["held_out"]]
    for what in ("id", "text"):
        seen = [getattr(frame, what) for frame in both]
        if twice := sorted({each for each in seen if seen.count(each) > 1}):
            raise ConfigError(f"{source}: {twice[0]!r} is the {what} of two frames; keep one of them")
    for part, kinds in tables.items():
        if part not in _SLOTS:
            raise ConfigError(f"{source}: unknown part {part!r}; the parts are train, held_out, {', '.join(_SLOTS)}")
        for kind, listed in kinds.items():
            for sentence in listed:
                if unknown := sorted(_slots(sentence) - _SLOTS[part]):
                    raise ConfigError(f"{source}: {part}.{kind}: unknown slot {{{unknown[0]}}} in {sentence!r}")
    said = {part: {kind: tuple(listed) for kind, listed in kinds.items()} for part, kinds in tables.items()}
    return Sentences(frames["train"], frames["held_out"], said)


def _frames(speakers: Mapping[str, Mapping[str, str]], where: str) -> Iterator[Frame]:
    for speaker, listed in speakers.items():
        if speaker not in SPEAKERS:
            raise ConfigError(f"{where}.{speaker}: unknown speaker; use {', '.join(SPEAKERS)}")
        for name, text in listed.items():
            slots = _slots(text)
            if unknown := sorted(slots - {"x", "y", "picture", "mine"}):
                raise ConfigError(
                    f"{where}.{speaker}.{name}: unknown slot {{{unknown[0]}}}; a question has x, y, picture, mine"
                )
            if "x" not in slots:
                raise ConfigError(f"{where}.{speaker}.{name}: has no {{x}}; without the phrase it asks nothing")
            yield Frame(name, text, speaker)


@functools.cache
def load_sentences() -> Sentences:
    """Return the packaged sentences; read once, then kept.

    Examples
    --------
    >>> load_sentences().train[0]
    Frame(id='t01', text='Where is {x}?', speaker='anyone')
    """
    return read_sentences((resources.files("medground.data") / "sentences.toml").read_text(encoding="utf-8"))


def fill(sentence: str, **slots: str) -> str:
    """Fill a sentence's slots, begin it with a capital, and write "an" where a vowel follows.

    Examples
    --------
    >>> fill("a {shape} area in the {place}.", shape="oval", place="centre")
    'An oval area in the centre.'
    """
    text = re.sub(r"\b([Aa]) (?=(?:oval|ovoid|elliptical|elongated)\b)", r"\1n ", sentence.format(**slots))
    return text[0].upper() + text[1:]
