"""Answers that were made elsewhere: the reference's ``results.json``, batches' ``results.jsonl``, plain completions.

They are read where a reasoner would be asked, so a run of them is like any other: the same reading of texts, the same
scores, the same segmenter's masks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medground._io import json_lines
from medground.coords import COORDINATES, Space, space_named
from medground.data.rows import Row
from medground.data.vqa_rows import VqaRow
from medground.errors import ConfigError
from medground.evaluate.baselines import Baseline
from medground.images import MedicalImage
from medground.reasoners import Completion

__all__ = ["StoredAnswers", "read_stored"]

_TEXTS = ("output", "completion", "response", "text")
"""Under which names files keep what a model wrote; the first is the reference's."""

_NOTHING = "no answer is recorded"


@dataclass(frozen=True, slots=True)
class _Kept:
    """One answer: its text or why there is none, and the picture's size where its numbers are pixels of another."""

    text: str = ""
    error: str | None = None
    size: tuple[int, int] | None = None


class StoredAnswers(Baseline):
    """Answers from a file, by the row's id; `evaluate` takes them as its reasoner.

    Parameters
    ----------
    name : str
        What reports call them.
    answers : mapping
        Id to what was answered.
    coordinates : str
        The space of the numbers; one of `medground.coords.COORDINATES`.
    digest : str
        Of the file.
    """

    def __init__(self, name: str, answers: Mapping[str, _Kept], coordinates: str, digest: str) -> None:
        self.name, self.answers, self.coordinates, self.digest = name, answers, coordinates, digest

    def describe(self) -> dict[str, str]:
        """Return what decides the answers, for a report."""
        return {"name": self.name, "stored": self.digest, "coordinates": self.coordinates}

    def answer(self, row: Row | VqaRow, image: MedicalImage) -> Completion:
        """Return what the file says about a row; an error where it says nothing.

        Numbers that are pixels are those of the row's own frame (``image_size``), which is how the reference's are,
        unless the file gives another size.
        """
        kept = self.answers.get(row.id)
        if kept is None:
            return Completion("", image.space, f"{self.name} has no answer to row {row.id}")
        if kept.size is not None:
            return Completion(kept.text, Space.pixels(*kept.size), kept.error)
        return Completion(kept.text, space_named(self.coordinates, *row.image_size), kept.error)


def read_stored(file: str | Path, *, coordinates: str = "pixels", name: str | None = None) -> StoredAnswers:
    """Read answers that were made elsewhere.

    Parameters
    ----------
    file : path
        One of: a JSON array of objects, as the reference's evaluation writes (``results.json``: ``id``, ``output``,
        ``bbox``, ``points``); JSON Lines as `medground.batch` writes (``results.jsonl``); JSON or JSON Lines of objects
        with an ``id`` and the text that a model wrote, as ``output``, ``completion``, ``response`` or ``text``.
        The text counts where it is there, else ``bbox``, ``points`` and ``reasoning`` do. Scores that the file holds
        aren't looked at.
    coordinates : str
        The space of the numbers; one of `medground.coords.COORDINATES`. The reference's answers are ``"pixels"`` (of
        the row's own frame, 840 x 840 there), also those of Qwen2.5-VL, whose resizing leaves such a frame as it is;
        models that answer in 0-1000 keep doing so there (its InternVL3 runs).
    name : str or None
        What reports call them; the file's folder and stem where None.

    Returns
    -------
    StoredAnswers

    Raises
    ------
    ConfigError
        Names the file, the entry and the field of the first mistake.

    Examples
    --------
    >>> import tempfile
    >>> from medground.data.rows import Picture
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "results.json")
    ...     output = '<answer>{"bbox": [84, 84, 420, 420]}</answer>'
    ...     _ = file.write_text(json.dumps([{"id": "7", "output": output}]))
    ...     answers = read_stored(file, name="Lingshu-7B-Soft")
    >>> row = Row(id="7", question="Where?", image=Picture(path="a.png"), image_size=(840, 840), box=(80, 80, 400, 400))
    >>> answers.answer(row, MedicalImage.from_array(np.zeros((420, 420), np.uint8))).text
    '<answer>{"bbox": [84, 84, 420, 420]}</answer>'
    """
    file = Path(file)
    if coordinates.removesuffix(" yx") not in COORDINATES:
        raise ConfigError(f"coordinates {coordinates!r} aren't known; choose one of {', '.join(COORDINATES)}")
    answers: dict[str, _Kept] = {}
    for where, entry in _entries(file):
        key = _id(entry, where)
        if key in answers:
            raise ConfigError(f"{where}: id {key!r} is there twice; keep one of the answers")
        answers[key] = _kept(entry, where)
    if not answers:
        raise ConfigError(f"{file}: holds no answers; give a JSON array or JSON Lines of objects with an id")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    return StoredAnswers(name or f"{file.resolve().parent.name}/{file.stem}", answers, coordinates, digest)


def _entries(file: Path) -> Iterable[tuple[str, dict[str, Any]]]:
    """Return a file's objects, each with where it stands."""
    if file.suffix == ".jsonl":
        return ((f"{file}:{number}", line) for number, line in json_lines(file))
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise ConfigError(f"can't read {file}: {error.strerror or error}; check the path") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: isn't JSON ({error}); name JSON Lines .jsonl") from None
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        raise ConfigError(f"{file}: isn't an array of objects; give the results of all rows in one array")
    return ((f"{file}: entry {number}", entry) for number, entry in enumerate(content, 1))


def _id(entry: Mapping[str, Any], where: str) -> str:
    key = entry.get("id")
    if isinstance(key, bool) or not isinstance(key, str | int) or key == "":
        raise ConfigError(f"{where}: id: is missing or isn't text; answers are found by their row's id")
    return str(key)


def _kept(entry: Mapping[str, Any], where: str) -> _Kept:
    if isinstance(entry.get("bbox"), list) and entry.get("coordinates") == "source pixels":
        return _Kept(_written(entry, where), size=_size(entry, where))  # of our own batch
    for name in _TEXTS:
        if isinstance(entry.get(name), str) and entry[name].strip():
            return _Kept(entry[name])
    if entry.get("absent") is True or entry.get("bbox") is not None:
        return _Kept(_written(entry, where))
    error = entry.get("error")
    return _Kept(error=error if isinstance(error, str) and error else _NOTHING)


def _written(entry: Mapping[str, Any], where: str) -> str:
    """Return the completion that says what an entry's fields say."""
    answer: dict[str, Any] = {"absent": True}
    if entry.get("absent") is not True:
        answer = {"bbox": _numbers(entry["bbox"], 4, f"{where}: bbox")}
        for index, point in enumerate(entry.get("points") or (), 1):
            answer[f"points_{index}"] = _numbers(point, 2, f"{where}: points")
    reasoning = entry.get("reasoning") or entry.get("think") or ""
    think = f"<think>{reasoning}</think>" if isinstance(reasoning, str) and reasoning and "<" not in reasoning else ""
    return f"{think}<answer>{json.dumps(answer)}</answer>"


def _numbers(value: Any, count: int, where: str) -> list[float]:
    good = isinstance(value, list) and len(value) == count
    if not good or not all(isinstance(each, int | float) and not isinstance(each, bool) for each in value):
        raise ConfigError(f"{where}: isn't {count} numbers; mend the entry or leave it out")
    numbers: list[float] = value
    return numbers


def _size(entry: Mapping[str, Any], where: str) -> tuple[int, int]:
    width, height = entry.get("width"), entry.get("height")
    if not (isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0):
        raise ConfigError(f"{where}: width and height: must be the picture's size in pixels")
    return width, height
