"""Where targets come from: what a manifest, or a small TOML or CSV file, says about pictures and volumes with masks.

Nothing is decoded here; a source is a list of jobs, each a picture or a volume with its masks, in a fixed order.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from medground.data.folders import read_folder
from medground.data.jobs import MaskFile, Named, Origin, PictureJob, Source, mistake_in, slug
from medground.data.open_masks import read_open_masks
from medground.errors import ConfigError

__all__ = ["read_source"]

ABOUT = "medground.toml"
"""The file in a folder of pictures or volumes that says what they are."""


def read_source(path: str | Path) -> Source:
    """Read what there is to clean.

    Parameters
    ----------
    path : path
        A folder with ``manifest.jsonl`` (see `read_open_masks`) or ``medground.toml``; or a ``.toml`` (see `About`); or
        a ``.csv``, which has a target a line: the columns ``image`` and ``mask`` (paths relative to the file),
        ``category``, ``modality`` and ``source``, and where it is known ``value`` (of the target's pixels; any but 0
        without it), ``licence``, ``tier``, ``patient`` (the picture, without it) and ``split``.

    Raises
    ------
    ConfigError
        When it can't be read; names the file, the field and the remedy.
    """
    path = Path(path).resolve()
    if path.is_dir():
        if (path / "manifest.jsonl").is_file():
            return Source(path, tuple(_of_manifest(path)))
        if not (path / ABOUT).is_file():
            raise ConfigError(
                f"{path}: has neither manifest.jsonl nor {ABOUT}; say in {ABOUT} what the folder holds, or give a CSV"
            )
        path = path / ABOUT
    if not path.is_file():
        raise ConfigError(f"{path}: no such file or folder; give a folder of pictures with masks, a .toml or a .csv")
    if path.suffix.lower() == ".csv":
        return Source(path.parent, tuple(_of_csv(path)))
    if path.suffix.lower() == ".toml":
        return Source(path.parent, tuple(read_folder(path)))
    raise ConfigError(f"{path}: isn't a .toml or .csv that says what a folder holds")


# -- a manifest -------------------------------------------------------------------------------------------------------


def _of_manifest(root: Path) -> Iterator[PictureJob]:
    pictures: dict[Path, PictureJob] = {}
    for target in read_open_masks(root):
        origin = Origin(target.modality, target.source, target.license, target.tier, target.group, target.split)
        job = pictures.setdefault(
            target.image, PictureJob(target.image.relative_to(root).as_posix(), str(target.image), (), origin)
        )
        if job.origin != origin:
            raise ConfigError(f"{root / 'manifest.jsonl'}: the rows of {job.picture} differ in what they say of it")
        mask = MaskFile(str(target.mask), (Named(target.id, target.category),))
        pictures[target.image] = replace(job, masks=(*job.masks, mask))
    yield from pictures.values()


# -- a CSV ------------------------------------------------------------------------------------------------------------


class _Line(BaseModel):
    """A line of a CSV."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    image: Annotated[str, Field(min_length=1)]
    mask: Annotated[str, Field(min_length=1)]
    category: Annotated[str, Field(min_length=1)]
    modality: Annotated[str, Field(min_length=1)]
    source: Annotated[str, Field(pattern=r"^\w[\w. -]*$")]
    value: int | None = None
    licence: str = ""
    tier: str = ""
    patient: str = ""
    split: Literal["train", "val", "test", ""] = ""

    @field_validator("value", mode="before")
    @classmethod
    def _blank_is_none(cls, value: Any) -> Any:
        return value or None


def _of_csv(path: Path) -> Iterator[PictureJob]:
    pictures: dict[Path, PictureJob] = {}
    for number, cells in _csv_lines(path):
        try:
            line = _Line.model_validate(cells)
        except ValidationError as error:
            raise ConfigError(f"{path}:{number}: {mistake_in(error)}") from None
        image, mask = (_in_folder(path, number, name, getattr(line, name)) for name in ("image", "mask"))
        stem = image.relative_to(path.parent).with_suffix("").as_posix()
        group = f"{line.source}/{line.patient or stem}"
        origin = Origin(line.modality, line.source, line.licence, line.tier, group, line.split)
        picture = f"{line.source}/{image.relative_to(path.parent).as_posix()}"
        job = pictures.setdefault(image, PictureJob(picture, str(image), (), origin))
        if job.origin != origin:
            raise ConfigError(f"{path}:{number}: says otherwise than an earlier line about {line.image}; mend one")
        named = Named(
            f"{line.source}/{stem}/{slug(line.category)}", line.category, () if line.value is None else (line.value,)
        )
        pictures[image] = replace(job, masks=_with(job.masks, str(mask), named))
    if not pictures:
        raise ConfigError(f"{path}: holds no lines below its header; write one a target")
    yield from pictures.values()


def _csv_lines(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, restkey="", strict=True)
            for cells in reader:
                if "" in cells or None in cells.values():
                    raise ConfigError(f"{path}:{reader.line_num}: has not as many cells as the header; mend the line")
                yield reader.line_num, cells
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: can't be read ({error}); it must be a CSV in UTF-8 with a header") from error


def _in_folder(path: Path, number: int, name: str, said: str) -> Path:
    found = (path.parent / said).resolve()
    if not found.is_relative_to(path.parent) or not found.is_file():
        raise ConfigError(f"{path}:{number}: {name}: {said} is no file in the CSV's folder; mend the path")
    return found


def _with(masks: tuple[MaskFile, ...], path: str, named: Named) -> tuple[MaskFile, ...]:
    """Add a target to the mask file that holds it."""
    for index, mask in enumerate(masks):
        if mask.path == path:
            return (*masks[:index], MaskFile(path, (*mask.targets, named)), *masks[index + 1 :])
    return (*masks, MaskFile(path, (named,)))
