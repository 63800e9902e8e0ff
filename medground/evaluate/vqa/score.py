"""What each answer of a run on visual questions is worth, from its file alone: no data set, no model, no pixels.

A judge behind an endpoint is asked once about an answer: its verdicts are kept in the run's folder (``judged.jsonl``).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from medground._io import read_lines, write_text
from medground.evaluate.predictions import AnyRun
from medground.evaluate.score import AnyScored
from medground.evaluate.vqa.predictions import VisualPrediction
from medground.rewards.judges import Judge
from medground.rewards.thinkvg import semantic
from medground.rewards.thinkvg_reading import Response
from medground.vqa_metrics import VQA_FIGURES, vqa_figures

__all__ = ["FIGURES", "JUDGED", "DescribedJudge", "VisualScored", "score_visual_run"]

FIGURES = (*VQA_FIGURES, "failed", "sampled_worth", "sampled_readable")
"""The names of the figures of an answer: those of `medground.vqa_metrics.vqa_figures`; ``failed``, no answer at all;
and the means of ``worth`` (open questions by the offline judge) and ``readable`` over the samples."""

JUDGED = "judged.jsonl"
"""The file that keeps a judge's verdicts."""

_AT_ONCE = 64
"""Answers that a judge is asked about before its verdicts are written."""


class DescribedJudge(Judge, Protocol):
    """A judge that says what decides its verdicts, such as `medground.rewards.endpoint_judge.EndpointJudge`."""

    def describe(self) -> dict[str, str | float | None]:
        """Return what decides them."""


@dataclass(frozen=True, slots=True, eq=False)
class VisualScored(AnyScored[VisualPrediction]):
    """A run on visual questions with all of `FIGURES` for each of its answers; see `AnyScored`.

    Parameters
    ----------
    judge : str
        Who judged open questions; empty for the offline judge.
    """

    judge: str = ""


def score_visual_run(run: AnyRun[VisualPrediction], judge: DescribedJudge | None = None) -> VisualScored:
    """Return a run with the figures of each of its answers.

    Parameters
    ----------
    run : AnyRun
    judge : DescribedJudge, optional
        Says whether answers to open questions are right; `medground.rewards.judges.OfflineJudge` where None. All other
        questions need no judge. Its verdicts are kept in the run's folder, and asked for once.

    Raises
    ------
    TruthError
        When a row's truth can't be used; names the row.
    ReasonerError
        When the judge fails on all answers that it is asked about.
    """
    rows, readings = list(run.predictions), [one.answer for one in run.predictions]
    verdicts = semantic(readings, [one.right for one in rows])
    name = ""
    if judge is not None:
        open_ones = [at for at, one in enumerate(rows) if one.question_type == "open" and readings[at] is not None]
        found = _judged(run.folder, [rows[at] for at in open_ones], judge)
        for at, verdict in zip(open_ones, found, strict=True):
            verdicts[at] = verdict
        name = str(judge.describe().get("name") or "a judge")
    figures = tuple(_figures(*each) for each in zip(rows, readings, verdicts, strict=True))
    return VisualScored(run, figures, name)


def _figures(one: VisualPrediction, reading: Response | None, verdict: float | None) -> dict[str, float]:
    told = dict.fromkeys(FIGURES, float("nan")) | vqa_figures(
        reading, one.right, verdict, reasoned=one.mode == "reason"
    )
    told["failed"] = float(one.error is not None)
    if one.samples:
        said = [one.read(text) for text in one.samples]
        worth = [value for value in semantic(said, [one.right] * len(said)) if value is not None]
        told["sampled_worth"] = math.fsum(worth) / len(worth)
        told["sampled_readable"] = sum(each is not None for each in said) / len(said)
    return told


def _judged(folder: Path, rows: Sequence[VisualPrediction], judge: DescribedJudge) -> list[float | None]:
    """Return a judge's verdicts, those of an earlier time from the folder's file; None where it fails."""
    file = folder / JUDGED
    lines = [line for _, _, line in read_lines(file)] if file.exists() else []
    known = {line.get("key"): line.get("verdict") for line in lines}
    keys = [_key(one, judge) for one in rows]
    missing = [at for at, key in enumerate(keys) if known.get(key) is None]
    for start in range(0, len(missing), _AT_ONCE):
        some = missing[start : start + _AT_ONCE]
        found = semantic([rows[at].answer for at in some], [rows[at].right for at in some], judge)
        for at, verdict in zip(some, found, strict=True):
            if verdict is not None:
                known[keys[at]] = verdict
                lines.append({"key": keys[at], "id": rows[at].id, "verdict": verdict})
        write_text(file, "".join(f"{json.dumps(line)}\n" for line in lines))
    return [known.get(key) for key in keys]


def _key(one: VisualPrediction, judge: DescribedJudge) -> str:
    """Return a digest of all that a verdict depends on."""
    asked = [one.question, one.truth, one.completion, judge.describe()]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()[:32]
