"""Say what is wrong with a data set: row by row, and between rows. Nothing is ever edited.

Rows are checked as they stream by, in this process or in several; what stays is a digest of each id, question, patient
and picture, and the hash of each picture.
"""

from __future__ import annotations

import json
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from medground._io import write_bytes
from medground.data.checks import TOLERANCE, Finding, check_row
from medground.data.clashes import Census, Seen, digest
from medground.data.columns import FieldError, row_of
from medground.data.duplicates import ALIKE, NEAR, perceptual_hash
from medground.data.pixels import Source, open_image
from medground.data.rows import Picture, Row
from medground.data.schema import parquet, parquet_files, split_of_name
from medground.errors import ConfigError, TruthError
from medground.images import MedicalImage

__all__ = ["KINDS", "Report", "validate"]

KINDS = {
    "row": "can't be read",
    "image": "image can't be read",
    "image size": "image_size isn't the picture's",
    "mask": "mask can't be read, is empty or of another size",
    "box": "box outside the picture, or without area",
    "box off mask": "box isn't the mask's",
    "points": "points off the mask, the box or the picture",
    "leak": "question names its target",
    "facts": "facts that the pixels don't bear out",
    "claim": "reasoning claims what isn't so",
    "gold": "the row's own answer doesn't earn full marks",
    "absent": "absent target with a mask, facts, or a row where it is present",
    "id": "id given twice",
    "question": "question asked twice of one picture",
    "patient": "patient in two splits",
    "near duplicate": "one picture in two splits",
    "look-alike": "pictures much alike in two splits",
    "parts": "mask has parts outside the box",
    "no points": "no key points",
    "category": "category unknown",
    "group": "patient unknown",
}
"""What is looked for, in the order in which a report tells it."""

Progress = Callable[[int], None]
_BATCH = 32


@dataclass(slots=True)
class Report:
    """What a data set's rows look like.

    Parameters
    ----------
    rows, pictures : int
        What was looked at; pictures that couldn't be read aren't counted.
    bad : int
        Rows that have to be mended or dropped: those with an error, not those with notes alone.
    errors, notes : Counter of str
        How many of each of `KINDS`.
    findings : list of Finding
        The first of each kind; `validate` writes all of them when it is given a file.
    distances : Counter of int
        How many pairs of pictures in two splits lie so many bits apart; see `medground.data.duplicates`.
    """

    rows: int = 0
    pictures: int = 0
    bad: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    distances: Counter[int] = field(default_factory=Counter)

    @property
    def ok(self) -> bool:
        """Whether no row is bad."""
        return self.bad == 0

    def to_dict(self) -> dict[str, Any]:
        """Return the counts and the findings, ready for JSON."""
        return {
            "rows": self.rows,
            "pictures": self.pictures,
            "bad": self.bad,
            "errors": {kind: self.errors[kind] for kind in KINDS if self.errors[kind]},
            "notes": {kind: self.notes[kind] for kind in KINDS if self.notes[kind]},
            "distances": {str(distance): self.distances[distance] for distance in sorted(self.distances)},
            "findings": [each.to_dict() for each in self.findings],
        }

    def to_text(self) -> str:
        """Return the report as lines: the counts of each kind with its first findings, errors before notes."""
        lines = []
        for counts, note in ((self.errors, False), (self.notes, True)):
            for kind in KINDS:
                if not counts[kind]:
                    continue
                lines.append(f"{'note: ' * note}{KINDS[kind]}: {counts[kind]:,}")
                told = [each for each in self.findings if each.kind == kind and each.note == note]
                lines += [f"  {each}" for each in told]
                if counts[kind] > len(told):
                    lines.append(f"  ... and {counts[kind] - len(told):,} more")
        verdict = f"{self.bad:,} rows are bad" if self.bad else "no row is bad"
        lines.append(f"{self.rows:,} rows on {self.pictures:,} pictures: {verdict}, {self.notes.total():,} notes")
        return "\n".join(lines)


def validate(
    source: Source,
    *,
    root: str | Path | None = None,
    splits: Iterable[str] | None = None,
    tolerance: float = TOLERANCE,
    near: int = NEAR,
    alike: int = ALIKE,
    out: str | Path | None = None,
    keep: int = 10,
    workers: int = 1,
    progress: Progress | None = None,
) -> Report:
    """Check a data set in U-MRG's layout; nothing is edited.

    Parameters
    ----------
    source : path, paths or iterable of Row
        Parquet files or folders of them, told apart by split in each row or by their names; or rows.
    root : path, optional
        The folder at which relative paths start: each file's own folder by default, for rows the current one.
    splits : iterable of str, optional
        Check rows of these splits alone; then nothing is known of patients and pictures shared with the others.
    tolerance : float
        Pixels (units of the row's coordinates, where those are coarser) by which a box may miss the mask's.
    near, alike : int
        Bits by which the hashes of two pictures in two splits differ at most to count as one picture (an error) and to
        be worth a look (a note). -1 looks for none.
    out : path, optional
        A file that gets every finding as a line of JSON, whole or not at all.
    keep : int
        Findings of each kind, errors and notes apart, that the report holds.
    workers : int
        Processes that check rows; 0 for one a core. The report is the same.
    progress : callable, optional
        Is given the number of rows so far.

    Returns
    -------
    Report

    Raises
    ------
    ConfigError
        When a file is missing or isn't parquet, there is no row, or a process died.

    Examples
    --------
    >>> import numpy as np
    >>> from PIL import Image
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> mask = np.zeros((60, 80), bool); mask[10:20, 30:50] = True
    >>> Image.fromarray(np.where(mask, 200, 50).astype(np.uint8)).save(Path(folder.name, "a.png"))
    >>> row = Row(id="7", question="Where is bile made?", image=Picture(path="a.png"), mask=Picture.of_mask(mask),
    ...           box=(30, 10, 50, 20), points=((35.5, 15.5), (44.5, 15.5)), image_size=(80, 60), category="liver",
    ...           group="g", split="test")
    >>> print(validate([row, row.model_copy(update={"box": (30, 10, 90, 20)})], root=folder.name).to_text())
    box outside the picture, or without area: 1
      row 1 (7): box: [30, 10, 90, 20] reaches outside the picture, 80 x 60 in pixels coordinates; mend the box, \
image_size or coordinates
    id given twice: 1
      row 1 (7): id: is that of row 0 too; give each row its own
    question asked twice of one picture: 1
      row 1 (7): question: was asked of this picture in row 0; keep one of them
    2 rows on 1 pictures: 1 rows are bad, 0 notes
    >>> folder.cleanup()
    """
    if workers < 0:
        raise ConfigError(f"workers {workers} isn't a number of processes; give 1 or more, or 0 for one a core")
    chosen = None if splits is None else frozenset([splits] if isinstance(splits, str) else splits)
    files, tasks = _tasks(source, root, chosen, tolerance)
    report, census, bad = Report(), Census(files, near, max(near, alike)), set[tuple[str, int]]()

    def findings() -> Iterator[Finding]:
        for seen in _mapped(_look_all, tasks, workers or os.cpu_count() or 1):
            for each in seen:
                report.rows += 1
                yield from each.findings
                yield from census.add(each)
            if progress is not None:
                progress(report.rows)
        yield from census.compared(report.distances)

    def lines() -> Iterator[bytes]:
        for finding in findings():
            counts = report.notes if finding.note else report.errors
            counts[finding.kind] += 1
            if counts[finding.kind] <= keep:
                report.findings.append(finding)
            if not finding.note:
                bad.add((finding.file, finding.row))
            yield json.dumps(finding.to_dict(), ensure_ascii=False).encode() + b"\n"

    if out is None:
        deque(lines(), maxlen=0)
    else:
        write_bytes(Path(out), lines())
    if not report.rows:
        raise ConfigError("there is no row to check; give a file with rows, or other splits")
    report.pictures, report.bad = len(census.pictures), len(bad)
    return report


# --- one batch of rows at a time, in whatever process ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Task:
    """A row as it was read, or the record that couldn't be."""

    file: int
    name: str
    number: int
    root: Path
    row: Row | FieldError
    tolerance: float


def _tasks(
    source: Any, root: str | Path | None, splits: frozenset[str] | None, tolerance: float
) -> tuple[list[str], Iterator[_Task]]:
    """Return the names of the files, a list that grows while they are read, and all of their rows."""
    files: list[str] = []
    home = None if root is None else Path(root)

    def wanted(row: Row) -> bool:
        return splits is None or row.split in splits

    def read() -> Iterator[_Task]:
        given: Iterable[Any] = [source] if isinstance(source, str | Path) else source
        for number, each in enumerate(given):
            if isinstance(each, Row):
                if not files:
                    files.append("")
                if wanted(each):
                    yield _Task(0, "", number, home or Path(), each, tolerance)
                continue
            for file in parquet_files(each):
                files.append(str(file))
                for index, record in enumerate(parquet().read_records(file)):
                    row: Row | FieldError
                    try:
                        row = row_of(record, name=f"{file.stem}/{index}", split=split_of_name(file))
                    except FieldError as error:
                        row = error
                    if isinstance(row, FieldError) or wanted(row):
                        yield _Task(len(files) - 1, files[-1], index, home or file.parent, row, tolerance)

    return files, read()


def _mapped(
    work: Callable[[tuple[_Task, ...]], list[Seen]], tasks: Iterator[_Task], workers: int
) -> Iterator[list[Seen]]:
    """Yield the work on each batch, in order; with several processes a few batches for each are in memory."""
    batches = iter(lambda: tuple(islice(tasks, _BATCH)), ())
    if workers == 1:
        yield from map(work, batches)
        return
    # Forking a process that has threads (torch, arrow, a notebook) may hang.
    flying: deque[Future[list[Seen]]] = deque()
    try:
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            for batch in batches:
                flying.append(pool.submit(work, batch))
                if len(flying) > 2 * workers:
                    yield flying.popleft().result()
            while flying:
                yield flying.popleft().result()
    except BrokenProcessPool as error:
        raise ConfigError(
            "a process that checks rows died (out of memory? or a script without the guard "
            'if __name__ == "__main__"?); give workers 1, or fewer'
        ) from error


def _look_all(tasks: tuple[_Task, ...]) -> list[Seen]:
    last: tuple[Picture, Path, MedicalImage] | None = None
    hashes: dict[bytes, bytes] = {}

    def remembered(picture: Picture, root: str | Path) -> MedicalImage:
        nonlocal last  # rows of one picture follow each other
        if last is None or last[:2] != (picture, root):
            last = (picture, Path(root), open_image(picture, root))
        return last[2]

    return [_look(task, remembered, hashes) for task in tasks]


def _look(task: _Task, image: Callable[[Picture, str | Path], MedicalImage], hashes: dict[bytes, bytes]) -> Seen:
    row = task.row
    if isinstance(row, FieldError):
        problem, _, remedy = row.problem.rpartition("; ")
        found = Finding(
            task.name, task.number, "", row.field, "row", problem or remedy, remedy if problem else "mend the row"
        )
        return Seen(task.file, task.number, "", [found])
    findings = list(
        check_row(row, task.root, file=task.name, number=task.number, tolerance=task.tolerance, image=image)
    )
    key = _picture(row.image, task.root)
    if key not in hashes:
        try:
            hashes[key] = perceptual_hash(image(row.image, task.root))
        except TruthError:
            hashes[key] = b""  # found by check_row
    return Seen(
        task.file,
        task.number,
        row.id,
        findings,
        row.split,
        digest(row.group),
        digest(" ".join(row.question.casefold().split())),
        digest(row.category),
        row.absent,
        key,
        hashes[key],
    )


def _picture(picture: Picture, root: Path) -> bytes:
    if picture.data is not None:
        return blake2b(picture.data, digest_size=12).digest()
    return digest(os.path.realpath(picture.file(root)))
