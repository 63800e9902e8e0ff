"""How a visual question becomes a prompt: its words, its type, its choices, and the regions found before it.

In the user text of such a template a line that opens with a condition in brackets stands only where that holds: the
type of the question (``[closed]`` ...), ``[any_choice]`` (choices, and no type), ``[choices]``, ``[earlier]``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from string import Template
from typing import get_args

from medground.answers import QuestionType
from medground.coords import Space, layout_words, space_words, written_order
from medground.errors import ConfigError
from medground.parsing import written_box
from medground.prompts import VISUAL, Mode, clean_question, clean_words, parts
from medground.types import Box

__all__ = ["MAX_CHOICE", "MAX_EARLIER", "Visual", "vqa_prompt"]

MAX_CHOICE = 1000
"""The longest choice, and the longest name of a region, in characters."""

MAX_EARLIER = 32
"""How many earlier regions a prompt names at most."""

_CONDITION = re.compile(r"\[(\w+)\] ?(.*)")


@dataclass(frozen=True, slots=True)
class Visual:
    """What a visual question has beside its words.

    Parameters
    ----------
    question_type : {"open", "closed", "single_choice", "multi_choice"} or None
        None leaves it to the question, and to whether there are choices.
    choices : tuple of str
        The texts of the choices A, B, ..., 2 to 26 of them; empty for open and closed questions.
    earlier : tuple of (str, Box)
        Regions found before, at most `MAX_EARLIER`, each with its name; boxes in any space of the same picture.

    Raises
    ------
    ConfigError
        When type and choices don't go together, a choice is empty, or something is too long.

    Examples
    --------
    >>> Visual("closed", ("left", "right"))
    Traceback (most recent call last):
        ...
    medground.errors.ConfigError: a closed question has no choices: leave them out, or call it single_choice or \
multi_choice
    """

    question_type: QuestionType | None = None
    choices: tuple[str, ...] = ()
    earlier: tuple[tuple[str, Box], ...] = ()

    def __post_init__(self) -> None:
        known = get_args(QuestionType)
        if self.question_type is not None and self.question_type not in known:
            raise ConfigError(f"question type {self.question_type!r} isn't known; choose one of {', '.join(known)}")
        choosing = self.question_type is not None and self.question_type.endswith("_choice")
        if choosing and not self.choices:
            raise ConfigError(f"a {self.question_type} question needs choices: give 2 to 26")
        if self.choices and self.question_type is not None and not choosing:
            raise ConfigError(
                f"a {self.question_type} question has no choices: leave them out, or call it single_choice or "
                "multi_choice"
            )
        if self.choices and not 2 <= len(self.choices) <= 26:
            raise ConfigError(f"a question offers 2 to 26 choices, not {len(self.choices)}")
        cleaned = [clean_words(text, f"choice {letter}", MAX_CHOICE) for letter, text in self.offered.items()]
        if not all(cleaned):
            raise ConfigError("a choice is empty; give each a text")
        if len(self.earlier) > MAX_EARLIER:
            raise ConfigError(f"{len(self.earlier)} earlier regions are too many; keep at most {MAX_EARLIER}")
        if not all(clean_words(ref, "the name of an earlier region", MAX_CHOICE) for ref, _ in self.earlier):
            raise ConfigError("an earlier region has no name; give it one")

    @property
    def offered(self) -> dict[str, str]:
        """The choices by their letters; empty when there are none."""
        return {chr(ord("A") + index): text for index, text in enumerate(self.choices)}


def vqa_prompt(
    template: str, question: str, visual: Visual | None = None, *, mode: Mode = "reason", space: Space
) -> tuple[str | None, str]:
    """Return the system text and the user text that ask a visual question.

    Parameters
    ----------
    template : str
        A value of `medground.prompts.VISUAL`: ``"vqa-v1"`` for general models, ``"nano-vqa-v1"`` for the embedded one.
    question : str
        See `medground.prompts.clean_question`; the words of choices and regions are treated alike.
    visual : Visual, optional
    mode : {"reason", "direct"}
    space : Space
        The space in which the model is to answer, and in which the boxes of earlier regions are written.

    Returns
    -------
    tuple of (str or None, str)
        As `medground.prompts.render` returns them.

    Raises
    ------
    ConfigError
        An unknown template or mode, or a question that can't be asked.

    Examples
    --------
    >>> _, user = vqa_prompt("nano-vqa-v1", "Which lung is hazy?", Visual("single_choice", ("left", "right")),
    ...                      space=Space.norm1000())
    >>> print(user)
    Question: Which lung is hazy?
    A: left
    B: right
    Choose one.
    >>> heart = ("heart", Box(64, 48, 320, 240, Space.pixels(640, 480)))
    >>> print(vqa_prompt("nano-vqa-v1", "Is it enlarged?", Visual(earlier=(heart,)), space=Space.norm1000())[1])
    Question: Is it enlarged?
    1. heart [100, 100, 500, 500]
    """
    if template not in VISUAL.values():
        known = ", ".join(VISUAL.values())
        raise ConfigError(f"template {template!r} isn't known for visual questions; choose one of {known}")
    visual = Visual() if visual is None else visual
    system, user = parts(template, mode)
    holds = {
        visual.question_type or ("any_choice" if visual.choices else ""),
        *(name for name in ("choices", "earlier") if getattr(visual, name)),
    }
    values = {
        "question": clean_question(question),
        "choices": "\n".join(f"{letter}: {_clean(text)}" for letter, text in visual.offered.items()),
        "earlier": "\n".join(
            f"{number}. {_clean(ref)} {_written(box, space)}" for number, (ref, box) in enumerate(visual.earlier, 1)
        ),
        "coordinates": space_words(space),
        "bbox": layout_words(space)[0],
    }
    lines = []
    for line in user.splitlines():
        condition = _CONDITION.fullmatch(line)
        if condition is None or condition[1] in holds:
            lines.append(Template(condition[2] if condition else line).substitute(values))
    return (None if system is None else Template(system).substitute(values)), "\n".join(lines)


def _clean(words: str) -> str:
    return clean_words(words, "a choice or the name of a region", MAX_CHOICE)


def _written(box: Box, space: Space) -> str:
    numbers = written_order([f"{value:.12g}" for value in written_box(box, space).xyxy], space)
    return f"[{', '.join(numbers)}]"
