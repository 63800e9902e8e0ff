"""verl's own parquet rows (its documentation, "Prepare data", and `RLHFDataset`, version 0.9).

The columns of the UMRG layout, as verl demands them: as many ``<image>`` in the prompt as there are images, and images
that are pictures or paths (a struct whose bytes are null can't be opened by verl). ``extra_info`` has an ``index``.

Not held: masks, which verl would carry through the whole training; ``masks=True`` writes them all the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from medground.data.columns import pictures_of, record_of, row_of
from medground.data.fields import FieldError
from medground.data.layouts._shared import IMAGE, Notes, OnBad, OnNote, asked, on_ruler, pictures, read_each
from medground.data.rows import Picture, Row
from medground.data.schema import changing, parquet, parquet_files, split_of_name
from medground.errors import TruthError

__all__ = ["export_rows", "import_rows"]


def import_rows(path: Path, *, split: str | None = None, on_bad: OnBad = None) -> Iterator[Row]:
    """Read a parquet file or a folder of them; see `medground.data.schema.read_rows`."""
    for file in parquet_files(path):

        def read(record: dict[str, Any], name: str, file: Path = file) -> Row:
            return row_of(_asking(record), name=name, split=split_of_name(file))

        for row in read_each(file, enumerate(parquet().read_records(file)), read, on_bad, unit=" row "):
            if split in (None, row.split):
                yield row


def _asking(record: dict[str, Any]) -> dict[str, Any]:
    """Return the record with the bare question as its prompt, where it was written by a template."""
    extra = record.get("extra_info")
    if not isinstance(extra, dict) or not isinstance(extra.get("question"), str):
        return record
    rest = {key: value for key, value in extra.items() if key != "question"}
    return {**record, "prompt": [{"role": "user", "content": IMAGE + extra["question"]}], "extra_info": rest}


def export_rows(
    rows: Iterable[Row],
    path: Path,
    *,
    root: str | Path | None = None,
    embed: bool = True,
    masks: bool = False,
    coordinates: str | None = None,
    template: str | None = None,
    on_note: OnNote = None,
) -> int:
    """Write rows; see `medground.data.layouts.export_rows` for what isn't said here.

    Parameters
    ----------
    embed : bool
        Put images into the file. Without it they are absolute paths.
    masks : bool
        Write the masks too.
    template : str, optional
        A name in `medground.prompts.TEMPLATES` to ask by, for the ruler of the numbers: give the model's as
        `coordinates`, and the truths are on it too. The question is then in ``extra_info`` as well.
    """
    notes = Notes("verl", on_note)
    change = changing(path.parent, root, embed=embed)

    def written() -> Iterator[dict[str, Any]]:
        for index, row in enumerate(on_ruler(rows, coordinates)):
            try:
                record = record_of(row, change=change)
                record["prompt"] = asked(row, len(pictures(row)), template)
            except (FieldError, TruthError) as error:
                raise TruthError(f"row {row.id}: {error}") from error
            extra = {"index": index, **(record.get("extra_info") or {})}
            record = {"data_source": "umrg", "ability": "grounding", **record, "extra_info": extra}
            if template is not None:
                extra["question"] = row.question
            if not embed:
                record["images"] = [_absolute(each, row, path.parent) for each in pictures_of(record["images"])]
            if not masks and record.pop("masks", None):
                notes.add("the mask is left out; masks=True keeps it")
            yield record

    count = parquet().write_records(written(), path)
    notes.tell()
    return int(count)


def _absolute(picture: Picture, row: Row, home: Path) -> str:
    if picture.path is None:
        raise TruthError(f"row {row.id}: images: the picture is bytes without a path; leave embed=False out")
    return os.path.abspath(home / picture.path)
