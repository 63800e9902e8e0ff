"""The same question in other words: the offline grammar's phrase in another of its carrier sentences."""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Sequence

from medground.data.grammar import MINE
from medground.data.questions import PICTURE_WORDS
from medground.data.rows import Row
from medground.data.sentences import Frame, fill, load_sentences

__all__ = ["paraphrase"]


def paraphrase(row: Row, rng: random.Random) -> str | None:
    """Return a row's question in another carrier sentence, or None where it isn't one of the grammar's.

    The phrase that stands for the target stays as it is, so that only the wording around it differs. The sentence is
    drawn among those that the row's split may have: a test question stays in words that no training question has.

    Parameters
    ----------
    row : Row
        Its ``template`` names the carrier sentence.
    rng : random.Random
        The only source of chance.

    Examples
    --------
    >>> from medground.data.rows import Picture
    >>> row = Row(id="1", question="Help me locate the organ that stores bile.", image=Picture(path="a.png"),
    ...           image_size=(80, 60), box=(1, 2, 3, 4), modality="CT", style="function", template="h01")
    >>> paraphrase(row, random.Random(1))
    'Before I sign the report, indicate the organ that stores bile.'
    """
    sentences = load_sentences()
    for frames, pool in ((sentences.train, "train"), (sentences.held_out, "held_out")):
        own = next((frame for frame in frames if frame.id == row.template), None)
        if own is not None and row.modality in PICTURE_WORDS:
            return _reworded(row, own, frames, sentences.said["side"][pool], rng)
    return None


def _reworded(row: Row, own: Frame, frames: Sequence[Frame], sides: Sequence[str], rng: random.Random) -> str | None:
    asked, told, side = _without_side(row.question, sides)
    found = _pattern(own.text, row.modality).fullmatch(asked)
    if found is None:
        return None
    slots = found.groupdict()
    fitting = [
        frame
        for frame in frames
        if frame.id != own.id
        and frame.phrases == own.phrases
        and frame.speaker in ("anyone", "patient" if row.style == "lay" else "clinician")
    ]
    if not own.closed:  # the phrase may be too long for words to follow it
        fitting = [frame for frame in fitting if not frame.closed] or fitting
    if not fitting:
        return None
    words = {"picture": PICTURE_WORDS[row.modality], "mine": MINE[row.modality]}
    slots = {name: rng.choice(listed) for name, listed in words.items()} | slots
    question = fill(rng.choice(fitting).text, **slots)
    if side is None:
        return question
    return f"{question} {fill(rng.choice([each for each in sides if each != told] or sides), side=side)}"


def _without_side(question: str, sides: Sequence[str]) -> tuple[str, str, str | None]:
    """Return the question, the sentence behind it that says which one of a pair is meant, and the side it says."""
    for sentence in sides:
        before, after = (re.escape(part) for part in sentence.split("{side}"))
        if found := re.fullmatch(rf"(?P<asked>.+) {before}(?P<side>.+?){after}", question):
            return found["asked"], sentence, found["side"]
    return question, "", None


@functools.cache
def _pattern(frame: str, modality: str) -> re.Pattern[str]:
    """Return what matches a frame's questions, with its slots as groups."""
    known = {"picture": PICTURE_WORDS[modality], "mine": MINE[modality]}
    pattern, seen = "", set[str]()
    for part in re.split(r"(\{\w+\})", frame):
        name = part.strip("{}")
        if part == name:
            pattern += re.escape(part)
        elif name in seen:
            pattern += f"(?P={name})"
        else:
            seen.add(name)
            words = "|".join(map(re.escape, sorted(known[name], key=len, reverse=True))) if name in known else ".+?"
            pattern += f"(?P<{name}>{words})"
    return re.compile(pattern)
