"""Pictures of a build with what is annotated in them, as visual questions see them."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from medground import taxonomy
from medground.data.absence import certainly_absent, home_of, shown
from medground.data.build import PATIENT_SIDED
from medground.data.duplicates import ALIKE, look_alikes
from medground.data.rows import RowSplit
from medground.data.stages import read_parts
from medground.errors import ConfigError

__all__ = ["EXCLUSIVE", "PLURAL", "Scene", "Thing", "excludes", "read_scenes"]

EXCLUSIVE: tuple[frozenset[str], ...] = (
    frozenset({"benign breast tumor", "malignant breast tumor"}),  # BUSI: one diagnosis a lesion
    frozenset({"glioma", "meningioma", "pituitary tumor"}),  # BRISC: one diagnosis a patient
)
"""Findings of which a collection gives each picture one: who has the one hasn't the others."""

PLURAL = frozenset({"teeth", "costal cartilages", "intervertebral discs", "vertebrae"})
"""Names whose verbs are plural."""

_LATER = {"train": 1, "val": 2, "test": 3}


@dataclass(frozen=True, slots=True, eq=False)
class Thing:
    """A target of a picture.

    Parameters
    ----------
    name : str
        What questions call it, without an article; no other thing of the picture has this name.
    entity : str
        Its name in the taxonomy.
    box : tuple of int
        x1, y1, x2, y2 in source pixels.
    seen : mapping
        What was measured; see ``attributes`` of `medground.data.describe.measure_picture`.
    """

    name: str
    entity: str
    box: tuple[int, int, int, int]
    seen: Mapping[str, Any]

    @property
    def mention(self) -> str:
        """Its name and box, as a reasoning mentions regions."""
        return f"{self.name} (region {list(self.box)})"


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A picture and what is annotated in it.

    Parameters
    ----------
    picture : str
        Its path from the build's root, which is its id too.
    width, height : int
        In pixels.
    modality, source, licence, group : str
    split : {"train", "val", "test", ""}
    things : tuple of Thing
        What a question can be about: those whose name is theirs alone.
    entities : frozenset of str
        All that is annotated.
    parts : frozenset of str
        Parts of the body that may be in view; see `medground.data.absence.shown`.
    disease : str
        What the collection says of the whole picture, ``"tuberculosis"`` or ``"normal"``; empty where it says nothing.
    """

    picture: str
    width: int
    height: int
    modality: str
    source: str
    licence: str
    group: str
    split: RowSplit
    things: tuple[Thing, ...]
    entities: frozenset[str]
    parts: frozenset[str]
    disease: str


def read_scenes(build: str | Path) -> list[Scene]:
    """Read the pictures of a build's ``describe`` stage, in their order.

    Pictures that look like one of a later split (train, val, test) are left out, as the build's own questions leave
    them out.

    Raises
    ------
    ConfigError
        When the stage is missing, incomplete or damaged, or holds no target.
    """
    folder = Path(build) / "describe"
    listed = [list(group) for _, group in itertools.groupby(read_parts(folder), key=_picture)]
    if not listed:
        raise ConfigError(f"{folder}: holds no targets; clean and describe pictures that have masks")
    try:
        known: dict[tuple[str, str], set[str]] = {}
        for records in listed:
            for record in records:
                key = record["source"], record["modality"]
                known.setdefault(key, set()).add(taxonomy.target_of(record["category"]).name)
        shows = {key: shown(names, key[1]) for key, names in known.items()}
        twins = _twins(listed)
        return [_scene(records, shows) for index, records in enumerate(listed) if index not in twins]
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{folder}: a record lacks a field ({error!r}); describe again with --restart") from error


def _picture(record: Mapping[str, Any]) -> tuple[Any, Any]:
    return record.get("source"), record.get("picture")


def _scene(records: list[dict[str, Any]], shows: Mapping[tuple[str, str], frozenset[str]]) -> Scene:
    first = records[0]
    return Scene(
        picture=first["image"],
        width=first["width"],
        height=first["height"],
        modality=first["modality"],
        source=first["source"],
        licence=first["licence"],
        group=first["group"],
        split=first["split"],
        things=tuple(_things(records)),
        entities=frozenset(taxonomy.target_of(record["category"]).name for record in records),
        parts=shows[first["source"], first["modality"]],
        disease=_disease(first["source"], first["image"]),
    )


def _disease(source: str, picture: str) -> str:
    """Return what the collection says of the whole picture.

    The Montgomery and Shenzhen sets end a file's name in 0 for a normal film and in 1 for tuberculosis (Jaeger et al.
    2014, doi:10.3978/j.issn.2223-4292.2014.11.20).
    """
    if source != "cxr_mc_sz":
        return ""
    return {"0": "normal", "1": "tuberculosis"}.get(PurePosixPath(picture).stem.rpartition("_")[2], "")


def _things(records: Iterable[Mapping[str, Any]]) -> Iterator[Thing]:
    named = [(name, record) for record in records if (name := _name(record))]
    times = Counter(name for name, _ in named)
    for name, record in named:
        if times[name] == 1:
            x1, y1, x2, y2 = (int(side) for side in record["bbox"])
            entity = taxonomy.target_of(record["category"]).name
            yield Thing(name, entity, (x1, y1, x2, y2), record["attributes"])


def _name(record: Mapping[str, Any]) -> str | None:
    """Return what a target is called; None where left and right can't be told."""
    name, side = taxonomy.target_of(record["category"]).name, taxonomy.side_of(record["category"])
    if side is not None:
        if record["source"] in PATIENT_SIDED:
            name = f"{side} {name}"
        elif record["attributes"]["side"] is None:
            return None
        else:
            name = f"{name} {record['attributes']['side']}"
    if record["parts"] == 1:
        return name
    finding = taxonomy.target_of(record["category"]).kind == "finding"
    return f"largest {name}" if finding else f"largest part of the {name}"


def _twins(listed: list[list[dict[str, Any]]]) -> set[int]:
    splits = [records[0]["split"] for records in listed]
    looks = [bytes.fromhex(records[0]["look"]) for records in listed]
    found: set[int] = set()
    for one, other, _ in look_alikes(looks, splits, ALIKE):
        first, second = _LATER.get(splits[one], 0), _LATER.get(splits[other], 0)
        if first and second:
            found.add(one if first < second else other)
    return found


def excludes(scene: Scene, entity: str) -> bool:
    """Whether an entity certainly isn't in a picture: by the part of the body, or since it has another diagnosis."""
    if entity in scene.entities:
        return False
    if any(entity in group and group & scene.entities for group in EXCLUSIVE):
        return True
    return bool(home_of(entity)) and certainly_absent(entity, scene.parts, scene.modality)
