"""What was answered to visual questions: one line a row, with everything that scores and pictures need but the pixels.

The folder is a run's like any other (`medground.evaluate.predictions`); its ``run.json`` says ``"task": "visual"``.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from medground.answers import QuestionType
from medground.errors import ConfigError, TruthError
from medground.evaluate.predictions import Answered, AnyRun, read_folder, task_of
from medground.rewards.thinkvg_reading import Response
from medground.rewards.vqa_truth import VqaTruth, read_vqa_truth
from medground.vqa_metrics import read_answer

__all__ = ["TASK", "VisualPrediction", "VisualRun", "read_visual_run"]

TASK = "visual"


class VisualPrediction(Answered):
    """One visual question, and what was answered; see `medground.evaluate.predictions.Answered` for the rest.

    Parameters
    ----------
    question_type : {"open", "closed", "single_choice", "multi_choice"}
    choices : tuple of str
        The texts of the choices A, B, ...
    about : dict
        ``source``, ``modality``, ``group``, ``split``, ``style``, ``template``, and ``question_type`` once more.
    truth : dict
        The right answer, as `medground.rewards.vqa_truth.read_vqa_truth` takes it.

    Examples
    --------
    >>> line = VisualPrediction(id="1", question="Is it seen?", question_type="closed", image_size=(100, 50),
    ...                         truth={"answer": "Yes", "question_type": "closed", "image_size": [100, 50]},
    ...                         completion="<response><answer>Yes</answer></response>",
    ...                         space={"coordinates": "0-1000", "width": 1000, "height": 1000})
    >>> line.answer.answer, line.right.answer
    ('Yes', 'Yes')
    """

    question_type: QuestionType
    choices: tuple[str, ...] = ()
    truth: dict[str, Any]

    @cached_property
    def answer(self) -> Response | None:
        """What `completion` says, on its own ruler; None when it can't be read or there is none."""
        return None if self.error is not None else self.read(self.completion)

    @cached_property
    def right(self) -> VqaTruth:
        """The right answer, on the ruler of the completion.

        Raises
        ------
        TruthError
            Names the row.
        """
        try:
            return read_vqa_truth(self.truth).to(self.ruler)
        except TruthError as error:
            raise TruthError(f"row {self.id}: {error}") from error

    def read(self, text: str) -> Response | None:
        """Return what a completion (one of `samples`) says, read as users get it; None when it can't be read."""
        return read_answer(text, self.ruler)


class VisualRun(AnyRun[VisualPrediction]):
    """A run on visual questions; see `medground.evaluate.predictions.AnyRun`."""

    __slots__ = ()


def read_visual_run(folder: str | Path) -> VisualRun:
    """Read a run, also while it is being written: a half-written last line is left out.

    Raises
    ------
    ConfigError
        When the folder holds no such run, a line is damaged, or files of differently sharded runs lie together.
    """
    folder = Path(folder)
    if task_of(folder) != TASK:
        raise ConfigError(f"{folder}: holds a run on grounding; give one on visual questions")
    info, predictions = read_folder(folder, VisualPrediction)
    return VisualRun(folder.resolve().name, folder, info, predictions)
