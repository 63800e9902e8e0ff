"""Last step of a build: question records, as people left them, to one parquet file a split, with a card and a sheet.

On the command line ``medground data assemble OUT``; it reads ``OUT/ask`` and ``OUT/review.jsonl``, and writes
``OUT/{train,val,test}.parquet``, ``OUT/README.md``, ``OUT/statistics.json`` and ``OUT/sheet.png``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medground._io import write_json, write_text
from medground.data.card import data_card
from medground.data.gates import refuse
from medground.data.review.decisions import ReviewReport, apply, read_decisions
from medground.data.rows import Picture, Row, RowSplit
from medground.data.schema import write_rows
from medground.data.show import pick_rows, show
from medground.data.stages import read_parts, stage_root
from medground.data.stats import Statistics, statistics
from medground.errors import ConfigError
from medground.masks import decode_rle

__all__ = ["SPLITS", "AssembleReport", "assemble", "row_of_record"]

SPLITS: tuple[RowSplit, ...] = ("train", "val", "test")

_KEPT = (
    "picture",
    "tier",
    "attributes",
    "parts",
    "share",
    "origin",
    "length",
    "side",
    "absent",
    "asked_by",
    "described_by",
)


@dataclass(slots=True)
class AssembleReport:
    """What was assembled.

    Parameters
    ----------
    rows : dict of str to int
        Rows of each split.
    review : ReviewReport
        What people's decisions did.
    refused : list of (id, reason)
        Edited records that a gate refused; they were left out.
    files : list of Path
    statistics : Statistics
    """

    rows: dict[str, int]
    review: ReviewReport
    refused: list[tuple[str, str]]
    files: list[Path]
    statistics: Statistics


def row_of_record(record: Mapping[str, Any]) -> Row:
    """Return a question record as a row of U-MRG's layout; what has no field there goes into ``other``.

    Parameters
    ----------
    record : dict
        See `medground.data.ask.ask`. Its picture's path stays as it is; its mask becomes the bytes of a 1-bit PNG.

    Raises
    ------
    TruthError
        When the mask can't be read.
    """
    mask = None if record["mask"] is None else Picture.of_mask(decode_rle(record["mask"]))
    return Row(
        id=record["id"],
        question=record["question"],
        image=Picture(path=record["image"]),
        mask=mask,
        box=record["bbox"],
        points=record["points"],
        image_size=(record["width"], record["height"]),
        reasoning=record["reasoning"],
        short=record["short"],
        long=record["long"],
        category=record["category"],
        supercategory=record["supercategory"],
        modality=record["modality"],
        source=record["source"],
        licence=record["licence"],
        group=record["group"],
        split=record["split"],
        style=record["style"],
        template=record["template"],
        healthy=record["healthy"],
        facts=record["facts"],
        other={key: record[key] for key in _KEPT if record.get(key) is not None},
    )


def assemble(
    out: str | Path, *, embed: bool = False, reviewed_only: bool = False, title: str = "", seed: int = 0
) -> AssembleReport:
    """Write the data set of a build.

    Parameters
    ----------
    out : path
        The build's folder, which holds ``ask`` and, where people reviewed it, ``review.jsonl``.
    embed : bool
        Put the pictures into the files, so that they are whole without the folder of pictures. Masks always are.
    reviewed_only : bool
        Leave out what nobody accepted or edited.
    title : str
        The card's heading; the folder's name without it.
    seed : int
        Draws the rows of the sheet.

    Returns
    -------
    AssembleReport

    Raises
    ------
    ConfigError
        When there are no questions, a stage is incomplete, the decisions are damaged, or a file can't be written.
    TruthError
        When a record or a picture can't be read.
    """
    out = Path(out)
    root = stage_root(out / "ask")
    decisions = read_decisions(out / "review.jsonl")
    review, refused = ReviewReport(), list[tuple[str, str]]()
    splits = sorted(
        {str(record["split"]) for record in read_parts(out / "ask")}, key=lambda name: [*SPLITS, name].index(name)
    )
    rows: dict[str, int] = {}
    files: list[Path] = []
    for split in splits:
        review, refused = ReviewReport(), []  # each pass sees all records; the last one's counts are as good as any
        path = out / f"{split or 'all'}.parquet"
        kept = apply(read_parts(out / "ask"), decisions, report=review, reviewed_only=reviewed_only)
        count = write_rows(_rows(kept, split, refused), path, embed=embed, root=root)
        if count:
            rows[split or "all"] = count
            files.append(path)
        else:
            path.unlink()
    if not files:
        raise ConfigError(f"{out}: no question is left; ask again, or review more")
    told = statistics(files)
    write_json(out / "statistics.json", told.to_dict())
    show(pick_rows(files, number=min(24, sum(rows.values())), seed=seed), out / "sheet.png")
    why = Counter(str(record["refused"]).split(":")[0] for record in read_parts(out / "ask", "refused"))
    write_text(out / "README.md", data_card(out, title or out.resolve().name, told, files, review, why))
    return AssembleReport(rows, review, refused, files, told)


def _rows(records: Iterator[dict[str, Any]], split: str, refused: list[tuple[str, str]]) -> Iterator[Row]:
    for record in records:
        edited = str(record["asked_by"]).endswith("edited")
        if edited and (why := refuse(record)):
            refused.append((record["id"], why))
        elif record["split"] == split:
            yield row_of_record(record)
