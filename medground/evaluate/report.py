"""The report of runs: one HTML page that asks nothing of any network, and the same figures as Markdown."""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from medground import RESEARCH_USE
from medground._io import make_folder, write_text
from medground.errors import ConfigError
from medground.evaluate import behaviour, gallery, sections
from medground.evaluate.gallery import Where
from medground.evaluate.markup import Part, page
from medground.evaluate.predictions import read_run, task_of
from medground.evaluate.roles import Shown, gather
from medground.evaluate.score import score_run
from medground.evaluate.vqa import report as vqa
from medground.evaluate.vqa.predictions import TASK, read_visual_run
from medground.evaluate.vqa.score import DescribedJudge, score_visual_run

__all__ = ["Report", "build_report"]


class Report(NamedTuple):
    """Where a report was written."""

    page: Path
    markdown: Path


def build_report(
    runs: Sequence[str | Path],
    out: str | Path,
    *,
    data: str | Path | None = None,
    root: str | Path | None = None,
    title: str = "",
    pictures: bool = True,
    sources: Collection[str] | None = None,
    judge: DescribedJudge | None = None,
) -> Report:
    """Write ``report.html`` and ``report.md`` of runs.

    The page is one file with its pictures in it, and asks nothing of any network; it follows the reader's choice of
    light or dark, fits a phone, and can be printed.

    Parameters
    ----------
    runs : sequence of path
        Folders that ``medground eval`` wrote. The first one's rows are what the report is about. Runs on the same rows
        stand beside each other; one with a variant is held to its model's run without; one on other rows (validation)
        that has sampled answers serves to choose the thresholds of confidence. Runs on visual questions have a report
        of their own.
    out : path
        The folder of the two files; made when it isn't there.
    data : path, optional
        The parquet that was evaluated, where pictures are embedded in it or their paths are relative to it.
    root : path, optional
        The folder at which the pictures' paths start.
    title : str
        The first model's name, where it is empty.
    pictures : bool
        Whether the cases show the pictures of the data set; without, truth and answer are drawn on an empty ground.
    sources : collection of str, optional
        Show the pictures of these sources alone: those whose licence allows that they are handed on.
    judge : DescribedJudge, optional
        Says whether answers to open visual questions are right; see `medground.evaluate.vqa.score.score_visual_run`.

    Returns
    -------
    Report

    Raises
    ------
    ConfigError, TruthError
        When a run can't be read, is empty or fits nowhere, or the files can't be written.
    """
    where = Where(None if data is None else Path(data), None if root is None else Path(root), pictures, sources)
    if task_of(runs[0]) == TASK:
        entries = vqa.entries_of([score_visual_run(read_visual_run(folder), judge) for folder in runs])
        first, parts, told = entries[0].name, vqa.parts(entries, where), vqa.lead(entries)
    else:
        if judge is not None:
            raise ConfigError("a judge is for visual questions, and these runs are on grounding; leave it out")
        shown = gather([score_run(read_run(folder)) for folder in runs])
        first, parts, told = shown.models[0].name, _parts(shown, where), sections.lead(shown)
    title = title or first
    folder = make_folder(out)
    write_text(folder / "report.html", page(title, told, parts))
    plain = html.unescape(re.sub(r"<[^>]+>", "", told))
    tables = [table.to_markdown() for part in parts for table in part.tables]
    write_text(folder / "report.md", "\n".join([f"# {title}\n", f"{plain}\n", f"{RESEARCH_USE}\n", *tables]))
    return Report(folder / "report.html", folder / "report.md")


def _parts(shown: Shown, where: Where) -> list[Part]:
    """Return all sections in the order of the page; one that has nothing to say isn't there."""
    made = [
        sections.figures(shown),
        sections.differences(shown),
        sections.places(shown),
        sections.leaderboard(shown),
        behaviour.fates(shown),
        behaviour.claims(shown),
        behaviour.self_check(shown),
        behaviour.confidence(shown),
        behaviour.robustness(shown),
        gallery.section(shown, where),
        sections.runs(shown),
    ]
    return [part for part in made if part is not None]
