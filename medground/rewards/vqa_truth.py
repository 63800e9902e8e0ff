"""What a visual question's answer is scored against, and how ThinkVG, GEMeX and users of medground write it down."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn, get_args

from medground.answers import QuestionType, chosen, question_type
from medground.coords import Space, space_named
from medground.errors import ConfigError, TruthError
from medground.rewards.thinkvg_reading import MAX_BOXES, read_box, read_response
from medground.rewards.truth import unpacked
from medground.types import Box

__all__ = ["VQA_FRAME", "QuestionType", "VqaTruth", "choices_of", "read_vqa_truth"]

VQA_FRAME = (224, 224)
"""The picture's size where a row doesn't say it: GEMeX's boxes fit it. ThinkVG states no frame of its own."""

_CHOICES = re.compile(r"<choices>\s{0,9}:\s{0,9}\[")
_CHOICE = re.compile(r"(?:^|,)\s{0,9}([A-Z])\s{0,9}:")


@dataclass(frozen=True, slots=True)
class VqaTruth:
    """The right answer to one visual question.

    Parameters
    ----------
    space : Space
        The ruler of `boxes`.
    answer : str
        In words, or the letter or letters of the right choices; not empty.
    question_type : {"open", "closed", "single_choice", "multi_choice"}
        Closed questions are answered by yes or no.
    choices : mapping of letter to text, or None
        What a choice question offers; then `answer` must name one of them (single) or some (multi).
    boxes : tuple of Box
        The true regions, all in `space`; none where the question has no place in the picture.
    refs : tuple of str
        What the regions are called.
    question, reason : str or None
        The question and the true reasoning, for judges that read them.

    Raises
    ------
    TruthError
        When the parts can't belong together; names the field.

    Examples
    --------
    >>> space = Space.pixels(224, 224)
    >>> VqaTruth(space, "E", "single_choice", {"A": "left lung", "B": "right lung"})
    Traceback (most recent call last):
        ...
    medground.errors.TruthError: truth, answer: names none of the choices A, B
    """

    space: Space
    answer: str
    question_type: QuestionType
    choices: Mapping[str, str] | None = field(default=None, hash=False)
    boxes: tuple[Box, ...] = ()
    refs: tuple[str, ...] = ()
    question: str | None = None
    reason: str | None = None

    def __post_init__(self) -> None:
        try:
            self._check()
        except _FieldError as error:
            raise TruthError(f"truth{error}") from None

    def _check(self) -> None:
        if self.question_type not in get_args(QuestionType):
            _refuse("question_type", f"expected one of {', '.join(get_args(QuestionType))}")
        if not self.answer.strip():
            _refuse("answer", "is empty; give the right answer, or drop the row")
        if any(box.space != self.space for box in self.boxes):
            _refuse("boxes", "must be in the truth's own space; convert them first")
        if len(self.boxes) > MAX_BOXES:
            _refuse("boxes", f"has {len(self.boxes)} boxes; at most {MAX_BOXES} are scored")
        if self.choices is None or self.question_type not in ("single_choice", "multi_choice"):
            return
        if not self.choices or any(not re.fullmatch("[A-Z]", letter) for letter in self.choices):
            _refuse("choices", "expected letters A to Z, each with its text")
        letters = chosen(self.answer, self.choices)
        if not letters:
            _refuse("answer", f"names none of the choices {', '.join(self.choices)}")
        if self.question_type == "single_choice" and len(letters) > 1:
            _refuse("answer", f"names {len(letters)} choices of a single-choice question")

    def to(self, space: Space) -> VqaTruth:
        """Return the same truth on another ruler."""
        if space == self.space:
            return self
        return replace(self, space=space, boxes=tuple(box.to(space) for box in self.boxes))


def read_vqa_truth(value: VqaTruth | Mapping[str, Any] | str, row: int | None = None) -> VqaTruth:
    """Read a truth as data sets and users write it.

    Parameters
    ----------
    value : VqaTruth, dict or str
        A dict, or its JSON, in one of three layouts; fields that aren't named here are ignored.

        - ThinkVG's release: ``question``, ``question_type``, ``thinkVG`` (the true reasoning) and ``response``
          (``<response><answer>...</answer><location><ref>...</ref><box>[x1, y1, x2, y2]</box></location></response>``);
        - GEMeX's test rows: ``question``, ``type``, ``choices``, ``answer``, ``reason``, ``visual_regions`` and
          ``visual_locations`` ([[x1, y1, x2, y2], ...], or its JSON);
        - ours: ``answer``, ``question_type``, and optional ``choices``, ``boxes``, ``refs``, ``question``, ``reason``.

        Numpy's arrays and numbers are taken for lists and numbers, since tables hand out both.

        ``choices`` is a dict of letter to text, a list of texts (A, B, ...) or GEMeX's ``[A: ..., B: ...]``; where
        the field is missing, choices are taken from ``<choices>: [A: ..., B: ...]`` in the question (null keeps them
        out). Question types may be spelled as in either set (``open_ended_questions``, ``single-choice`` ...).

        Two fields are ours in every layout: ``image_size``, [width, height] in pixels of the picture that the boxes are
        measured on, and ``coordinates``: what the numbers are, "pixels" (the default), "0-1" or "0-1000". x comes first
        in any case; " yx" after it says that completions write y first. ThinkVG doesn't state its frame: without
        ``image_size`` the parent set's, 224 x 224, is taken. Boxes that leave the picture by more than a tenth are
        refused; smaller overhangs are clipped.
    row : int, optional
        The row's number, for the error.

    Raises
    ------
    TruthError
        Names the row and the field, and quotes nothing of the row.

    Examples
    --------
    >>> place = "<location><ref>left lung</ref><box>[120, 40, 200, 190]</box></location>"
    >>> row = {
    ...     "question": "Is there an effusion?",
    ...     "question_type": "closed_ended_questions",
    ...     "response": f"<response><answer>Yes</answer>{place}</response>",
    ... }
    >>> truth = read_vqa_truth(row)
    >>> truth.answer, truth.question_type, truth.refs, truth.boxes[0].xyxy
    ('Yes', 'closed', ('left lung',), (120.0, 40.0, 200.0, 190.0))
    >>> read_vqa_truth({"answer": "Yes", "question_type": "closed", "boxes": [[1, 2, 3]]}, row=7)
    Traceback (most recent call last):
        ...
    medground.errors.TruthError: truth of row 7, boxes: box 1 isn't [x1, y1, x2, y2], four finite numbers
    """
    if isinstance(value, VqaTruth):
        return value
    where = "truth" if row is None else f"truth of row {row}"
    try:
        if isinstance(value, str):
            value = _decoded(value, "", "write a JSON object with answer and question_type")
        if not isinstance(value, Mapping):
            _refuse("", f"expected a VqaTruth, a dict or its JSON, not {type(value).__name__}")
        return _of_dict(value)
    except _FieldError as error:
        raise TruthError(f"{where}{error}") from error.__cause__
    except TruthError as error:  # of VqaTruth itself, which knows no row
        raise TruthError(str(error).replace("truth", where, 1)) from None


class _FieldError(Exception):
    """Carries ", field: what is wrong" to the one place that knows the row."""


def _refuse(name: str, why: str, cause: Exception | None = None) -> NoReturn:
    raise _FieldError(f", {name}: {why}" if name else f": {why}") from cause


def _decoded(text: str, name: str, remedy: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        _refuse(name, f"isn't JSON; {remedy}")


_FIELDS = frozenset(
    {"question_type", "type", "question", "reason", "thinkVG", "response", "answer", "choices"}
    | {"boxes", "visual_locations", "refs", "visual_regions", "image_size", "coordinates"}
)


def _of_dict(value: Mapping[str, Any]) -> VqaTruth:
    row = {name: unpacked(value[name]) for name in _FIELDS if name in value}
    space = _space(row)
    written = replace(space, order="xy")  # labels write x first in any case; " yx" is about completions
    kind = _question_type(_first(row, "question_type", "type"))
    question, reason = (_text(row, *names) for names in (("question",), ("reason", "thinkVG")))
    response = _text(row, "response")
    if response is not None:
        if row.get("answer") is not None:
            _refuse("response", "stands beside answer; keep one of them")
        said = read_response(response, written)
        if said is None:
            _refuse("response", "has no readable <answer>...</answer>")
        if said.boxes is None:
            _refuse("response", f"has boxes that aren't [x1, y1, x2, y2] inside the {_size(space)} picture; {_REMEDY}")
        answer, boxes, refs = said.answer, said.boxes, said.refs
    else:
        answer = _answer(row.get("answer"))
        boxes = _boxes(row, written)
        refs = _refs(_first(row, "refs", "visual_regions"))
    choices = _choices(row["choices"]) if row.get("choices") is not None else None
    if "choices" not in row and question is not None and kind in ("single_choice", "multi_choice"):
        choices = choices_of(question)
    return VqaTruth(space, answer, kind, choices, tuple(box.to(space) for box in boxes), refs, question, reason)


_REMEDY = "give image_size, [width, height] of the picture that they are measured on, or mend them"


def _size(space: Space) -> str:
    return f"{space.width:g} x {space.height:g}"


def _first(row: Mapping[str, Any], *names: str) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _text(row: Mapping[str, Any], *names: str) -> str | None:
    for name in names:
        if (value := row.get(name)) is not None:
            if not isinstance(value, str):
                _refuse(name, "expected a text")
            return value
    return None


def _space(row: Mapping[str, Any]) -> Space:
    size = row.get("image_size")
    size = VQA_FRAME if size is None else size
    if not (isinstance(size, Sequence) and not isinstance(size, str) and len(size) == 2 and all(map(_positive, size))):
        _refuse("image_size", "expected [width, height], two numbers above 0")
    name = row.get("coordinates")
    try:
        return space_named("pixels" if name is None else name, *size)
    except (ConfigError, AttributeError) as error:
        _refuse("coordinates", str(error) if isinstance(error, ConfigError) else "expected a text", error)


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e9


def _question_type(value: Any) -> QuestionType:
    if (kind := question_type(value)) is None:
        _refuse("question_type", f"expected one of {', '.join(get_args(QuestionType))}, or a set's own name of one")
    return kind


def _answer(value: Any) -> str:
    if isinstance(value, bool):
        return "Yes" if value else "No"
    if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
        value = ", ".join(value)
    if not isinstance(value, str):
        _refuse("answer", "expected a text, or a list of letters")
    return value


def _choices(value: Any) -> dict[str, str]:
    found: Any = value
    if isinstance(value, str):
        found = choices_of(f"<choices>: {value}")
    elif isinstance(value, list | tuple):
        found = {chr(ord("A") + index): each for index, each in enumerate(value[:26])}
    if isinstance(found, Mapping):  # a table whose rows differ in their letters fills in None
        found = {letter: text for letter, text in found.items() if text is not None}
    if not isinstance(found, Mapping) or not all(isinstance(text, str) for pair in found.items() for text in pair):
        _refuse("choices", "expected a dict of letter to text, a list of texts, or '[A: ..., B: ...]'")
    return {letter.strip().upper(): text.strip() for letter, text in found.items()}


def choices_of(question: str) -> dict[str, str] | None:
    """Return the choices that GEMeX writes into a question, or None.

    Examples
    --------
    >>> choices_of("Which side? <choices>: [A: left, B: right]")
    {'A': 'left', 'B': 'right'}
    """
    start = _CHOICES.search(question)
    if start is None or (end := question.rfind("]")) < start.end():
        return None
    listed = question[start.end() : end]
    marks: list[re.Match[str]] = []
    for mark in _CHOICE.finditer(listed):
        if mark[1] == chr(ord("A") + len(marks)):  # another capital before a colon belongs to a choice's text
            marks.append(mark)
    ends = [*(mark.start() for mark in marks[1:]), len(listed)]
    return {mark[1]: listed[mark.end() : end].strip() for mark, end in zip(marks, ends, strict=False)} or None


def _boxes(row: Mapping[str, Any], space: Space) -> tuple[Box, ...]:
    name = "boxes" if row.get("boxes") is not None else "visual_locations"
    value = row.get(name)
    if isinstance(value, str):
        value = _decoded(value, name, "write [[x1, y1, x2, y2], ...]") if value.strip() else None
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        _refuse(name, "expected [[x1, y1, x2, y2], ...]")
    if len(value) == 4 and not any(isinstance(each, list | tuple) for each in value):
        value = [value]
    boxes = []
    for number, each in enumerate(value, 1):
        whole = isinstance(each, list | tuple) and len(each) == 4
        if not whole or not all(isinstance(n, int | float) and not isinstance(n, bool) for n in each):
            _refuse(name, f"box {number} isn't [x1, y1, x2, y2], four finite numbers")
        if not all(-1e9 < n < 1e9 and math.isfinite(n) for n in each):
            _refuse(name, f"box {number} isn't [x1, y1, x2, y2], four finite numbers")
        if (box := read_box(list(each), space)) is None:
            _refuse(name, f"box {number} has no area inside the {_size(space)} picture, or leaves it; {_REMEDY}")
        boxes.append(box)
    return tuple(boxes)


def _refs(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,) if value.strip() else ()
    if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
        return tuple(value)
    _refuse("refs", "expected a list of texts")
