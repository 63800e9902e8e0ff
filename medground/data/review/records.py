"""The question records of a build, found by number: on disk, with an index of where each one starts in memory."""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medground.data.review.decisions import record_digest
from medground.data.stages import part_paths, read_stage
from medground.errors import ConfigError, ImageError, TruthError, first_mistake
from medground.images import MedicalImage, load_image
from medground.masks import decode_rle
from medground.rewards import Facts
from medground.types import Mask

__all__ = ["FILTERS", "Records"]

FILTERS = ("split", "modality", "category", "style", "absent")
"""What records can be chosen by; ``absent`` is "absent" or "present"."""

MAX_RECORD = 1 << 24


class _Asked(BaseModel):
    """What the page needs of a record; the rest is shown where it is there."""

    model_config = ConfigDict(extra="ignore", strict=True, hide_input_in_errors=True)

    id: Annotated[str, Field(min_length=1)]
    image: str
    width: Annotated[int, Field(gt=0)]
    height: Annotated[int, Field(gt=0)]
    question: str
    reasoning: str = ""
    bbox: Annotated[list[float], Field(min_length=4, max_length=4)] | None = None
    points: list[Annotated[list[float], Field(min_length=2, max_length=2)]] = []
    mask: dict[str, Any] | None = None
    facts: dict[str, Any] | None = None
    absent: bool = False
    split: str = ""
    modality: str = ""
    category: str = ""
    style: str = ""


class Records:
    """The records of ``OUT/ask``, by number.

    A record in memory is its id, its place in a file, its digest, and what it can be chosen by; 100,000 of them take
    some 30 MB.

    Parameters
    ----------
    out : path
        The folder of the build.

    Raises
    ------
    ConfigError
        When the stage isn't complete, or a record can't be read; names the file, the line and the field.
    """

    def __init__(self, out: str | Path) -> None:
        self._out = Path(out).resolve()
        folder = self._out / "ask"
        self._paths = part_paths(folder)
        self._root = _root(self._out)
        self._ids: dict[str, int] = {}
        self._part, self._start, self._length, self._digest = array("I"), array("Q"), array("I"), array("Q")
        self._codes = {name: array("I") for name in FILTERS}
        self._values: dict[str, dict[str, int]] = {name: {} for name in FILTERS}
        for number, path in enumerate(self._paths):
            self._scan(number, path)
        self.names = list(self._ids)

    def __len__(self) -> int:
        return len(self.names)

    def digest(self, index: int) -> str:
        """Return `record_digest` of a record."""
        return f"{self._digest[index]:016x}"

    def choices(self) -> dict[str, list[str]]:
        """Return, for each of `FILTERS`, the values that occur."""
        return {name: sorted(values) for name, values in self._values.items()}

    def find(self, wanted: Mapping[str, str]) -> Iterator[int]:
        """Return the numbers of the records that have all the wanted values (see `FILTERS`), in their order."""
        codes = [(self._codes[name], self._values[name].get(value)) for name, value in wanted.items()]
        return (index for index in range(len(self)) if all(column[index] == code for column, code in codes))

    def read(self, index: int) -> dict[str, Any]:
        """Return a record.

        Raises
        ------
        ConfigError
            When its file has changed since the index was made.
        """
        path = self._paths[self._part[index]]
        try:
            with path.open("rb") as stream:
                stream.seek(self._start[index])
                record: dict[str, Any] = json.loads(stream.read(self._length[index]))
            if record_digest(record) == self.digest(index):
                return record
        except (OSError, ValueError, TypeError):
            pass  # whatever it is now, it isn't what was indexed
        raise ConfigError(f"{path} has changed since this review was started; stop it and start it again")

    def picture(self, index: int) -> MedicalImage:
        """Return the picture of a record.

        Raises
        ------
        ImageError
            When it isn't there, can't be read, or has another size than the record says.
        """
        record = self.read(index)
        path = Path(os.path.normpath(self._root / record["image"]))
        if not any(path.is_relative_to(folder) for folder in (self._root, self._out)):
            raise ImageError(f"{record['id']}: image: leads out of {self._root}; build the set again")
        image = load_image(path)
        if image.size != (record["width"], record["height"]):
            raise ImageError(
                f"{path.name} is {image.width} x {image.height}, and its record says "
                f"{record['width']} x {record['height']}; build the set again from these pictures"
            )
        return image

    def mask(self, index: int) -> Mask | None:
        """Return the mask of a record, None when it has none.

        Raises
        ------
        TruthError
            When it can't be read, or has another size than the picture.
        """
        record = self.read(index)
        if record.get("mask") is None:
            return None
        mask = decode_rle(record["mask"])
        if mask.shape != (record["height"], record["width"]):
            raise TruthError(f"{record['id']}: mask: its size {mask.shape} isn't the picture's; build the set again")
        return np.asarray(mask)

    def _scan(self, part: int, path: Path) -> None:
        start = 0
        try:
            with path.open("rb") as stream:
                for number, line in enumerate(iter(lambda: stream.readline(MAX_RECORD), b""), 1):
                    self._add(line, part, start, f"{path}:{number}")
                    start += len(line)
        except OSError as error:
            raise ConfigError(f"can't read {path}: {error.strerror or error}; check the path") from error

    def _add(self, line: bytes, part: int, start: int, where: str) -> None:
        try:
            record = json.loads(line)
            asked = _Asked.model_validate(record)
            digest = record_digest(record)
            if asked.facts:
                Facts.read(asked.facts)
        except ValidationError as error:
            field, _, reason = first_mistake(error)
            raise ConfigError(f"{where}: {field or 'record'}: {reason}; run the stage ask again") from None
        except (ValueError, RecursionError, TruthError) as error:
            raise ConfigError(f"{where}: damaged ({error}); run the stage ask again") from error
        if asked.id in self._ids:
            raise ConfigError(f"{where}: id: {asked.id!r} is the id of an earlier record too; make ids unique")
        self._ids[asked.id] = len(self._ids)
        self._part.append(part)
        self._start.append(start)
        self._length.append(len(line))
        self._digest.append(int(digest, 16))
        for name in FILTERS:
            value = ("absent" if asked.absent else "present") if name == "absent" else getattr(asked, name)
            values = self._values[name]
            self._codes[name].append(values.setdefault(value, len(values)))


def _root(out: Path) -> Path:
    """Return the folder at which the paths of pictures start: the latest stage that says it counts."""
    for name in ("ask", "describe", "clean"):
        if (out / name / "stage.json").is_file() and (root := read_stage(out / name).get("root")):
            return Path(os.path.normpath(out / str(root)))
    return out
