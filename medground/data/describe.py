"""Second stage of a build: measure each target, in its picture and beside the others there, and describe it in words.

On the command line ``medground data describe OUT``; it reads ``OUT/clean`` and writes ``OUT/describe``.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from medground import taxonomy
from medground.data.attributes import measure, quantities
from medground.data.build import PATIENT_SIDED
from medground.data.duplicates import perceptual_hash
from medground.data.grammar import Grammar, Words
from medground.data.questions import pair_side
from medground.data.stages import StageReport, part_paths, read_parts, run_stage, stage_digest, stage_root
from medground.errors import ImageError, TruthError
from medground.images import MedicalImage, load_image
from medground.masks import decode_rle
from medground.rewards.evidence import Facts
from medground.types import Mask

__all__ = ["BLURRED", "SHARP", "describe", "describe_shard", "edge", "grey_of", "measure_picture", "relation"]

SHARP, BLURRED = 2.0, 1.1
"""How much steeper than the picture is on either side of it an edge must be to be sharp, and below which it is
blurred."""

_MOST_NEIGHBOURS = 4


def grey_of(path: str | Path) -> npt.NDArray[np.uint8]:
    """Return the grey levels of a picture file, shape (height, width), 0 to 255.

    Raises
    ------
    TruthError
        When it can't be read.
    """
    try:
        return np.asarray(Image.fromarray(load_image(path).rgb).convert("L"))
    except ImageError as error:
        raise TruthError(f"{error}; restore the file, or clean again without it") from error


def edge(mask: Mask, grey: npt.NDArray[Any]) -> float:
    """Return how much steeper the grey levels are on a target's edge than on either side of it.

    The mean gradient (Gaussian derivative, sigma of one pixel) on the pixels next to the contour, over its mean in a
    band on both sides, 3 to about a quarter of the target's diameter away.

    Parameters
    ----------
    mask : bool array, shape (height, width)
        Not empty.
    grey : array, shape (height, width)

    Returns
    -------
    float
        About 1 where nothing tells the edge from the rest; 1 where there is no band to compare with.

    Examples
    --------
    >>> grey = np.random.default_rng(0).normal(100, 5, (90, 90)); grey[30:60, 30:60] += 80
    >>> mask = np.zeros((90, 90), bool); mask[30:60, 30:60] = True
    >>> edge(mask, grey) > 3 > 1.2 > edge(np.roll(mask, 20), grey - 80 * mask)
    True
    """
    reach = max(6, round(np.sqrt(mask.sum() / np.pi) / 2))
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    top, left = max(rows[0] - reach, 0), max(columns[0] - reach, 0)
    field = (slice(top, rows[-1] + 1 + reach), slice(left, columns[-1] + 1 + reach))
    steep = ndimage.gaussian_gradient_magnitude(np.asarray(grey, np.float32)[field], 1.0)
    inside = mask[field]
    away = np.where(inside, ndimage.distance_transform_edt(inside), ndimage.distance_transform_edt(~inside))
    beside = (away > 2.5) & (away <= reach)
    here = steep[away <= 1.5]
    if not beside.any() or not here.size or steep[beside].mean() < 1e-3:
        return 1.0
    return float(here.mean() / steep[beside].mean())


def relation(own: Mask, other: Mask) -> str:
    """Return where a target lies with respect to another one of its picture, the picture's left being left.

    Returns
    -------
    {"inside", "around", "left of", "right of", "above", "below"}
        "inside" when nine tenths of it lie in the other one's filled outline, "around" when it is the other way about;
        else along the axis on which the centres of mass differ most.

    Examples
    --------
    >>> field = np.zeros((20, 20), bool); field[2:5, 2:5] = True
    >>> relation(field, np.roll(field, 9, axis=1)), relation(field, np.ones((20, 20), bool))
    ('left of', 'inside')
    """
    return _relation(_outline(own), _outline(other))


@dataclass(frozen=True, slots=True)
class _Outline:
    """A mask, the same without holes, and its centre of mass (x, y)."""

    mask: Mask
    filled: Mask
    centre: tuple[float, float]


def _outline(mask: Mask) -> _Outline:
    y, x = ndimage.center_of_mass(mask)
    return _Outline(mask, ndimage.binary_fill_holes(mask), (float(x), float(y)))


def _relation(own: _Outline, other: _Outline) -> str:
    if (own.mask & other.filled).sum() >= 0.9 * own.mask.sum():
        return "inside"
    if (other.mask & own.filled).sum() >= 0.9 * other.mask.sum():
        return "around"
    side = pair_side(own.centre, other.centre)
    return {"left": "left of", "right": "right of", "upper": "above", "lower": "below"}[side]


def measure_picture(records: Sequence[Mapping[str, Any]], grey: npt.NDArray[Any]) -> list[dict[str, Any]]:
    """Measure the targets of one picture.

    Parameters
    ----------
    records : sequence of dict
        Target records, all of one picture.
    grey : array, shape (height, width)
        Its grey levels, 0 to 255.

    Returns
    -------
    list of dict
        The records with two fields more. ``facts``: what claims are checked against
        (`medground.rewards.evidence.Facts`). ``attributes``: the words of `medground.data.attributes.measure` (zone,
        size, brightness, shape) and the numbers behind them; edge (sharp, plain, blurred) and the number behind it;
        extent ([width, height] in pixels); side (words that tell it from the other one of its pair, or None); partner
        (id, category and relation to the other one of its pair in the picture, or None); neighbours (up to four others,
        the nearest first, each with id, category, name, relation and gap: the distance between the contours in
        pixels).

    Raises
    ------
    TruthError
        When a mask can't be read, is empty or isn't of the picture's size; names the record.
    """
    masks: list[Mask] = []
    for record in records:
        try:
            mask = decode_rle(record["mask"])
            if mask.shape != grey.shape:
                raise TruthError(f"a mask of shape {mask.shape} in a picture of shape {grey.shape}")
            masks.append(mask)
        except TruthError as error:
            raise TruthError(f"{record['id']}: {error}; clean again") from error
    gaps = _gaps(masks)
    outlines = [_outline(mask) for mask in masks] if len(masks) > 1 else []
    measured = []
    for index, (record, mask) in enumerate(zip(records, masks, strict=True)):
        words, numbers, steepness = measure(mask, grey), quantities(mask, grey), edge(mask, grey)
        near = sorted((each for each in range(len(masks)) if each != index), key=lambda each: (gaps[index][each], each))
        partner = _partner(record, records)
        attributes = {
            "zone": words.zone,
            "size": words.size,
            "brightness": words.brightness,
            "shape": words.shape,
            "x": round(numbers.x, 4),
            "y": round(numbers.y, 4),
            "share": round(numbers.share, 6),
            "contrast": round(numbers.contrast or 0.0, 2),
            "axis_ratio": round(numbers.axis_ratio, 4),
            "edge": "sharp" if steepness >= SHARP else "blurred" if steepness <= BLURRED else "plain",
            "steepness": round(steepness, 3),
            "extent": [round(record["bbox"][2] - record["bbox"][0]), round(record["bbox"][3] - record["bbox"][1])],
            "side": _side(record, numbers.x, outlines, index, partner),
            "partner": None if partner is None else _beside(outlines, index, records[partner], partner),
            "neighbours": [
                {**_beside(outlines, index, records[each], each), "gap": round(gaps[index][each], 1)}
                for each in [each for each in near if each != partner][:_MOST_NEIGHBOURS]
            ],
        }
        measured.append({**record, "attributes": attributes, "facts": Facts.measure(mask, grey).to_dict()})
    return measured


def _gaps(masks: Sequence[Mask]) -> list[list[float]]:
    if len(masks) == 1:
        return [[0.0]]
    away = [ndimage.distance_transform_edt(~mask) for mask in masks]
    return [
        [0.0 if one is two else float(far[two].min()) for two in masks] for one, far in zip(masks, away, strict=True)
    ]


def _beside(outlines: Sequence[_Outline], index: int, other: Mapping[str, Any], place: int) -> dict[str, Any]:
    name = taxonomy.target_of(other["category"]).name
    where = _relation(outlines[index], outlines[place])
    return {"id": other["id"], "category": other["category"], "name": name, "relation": where}


def _partner(record: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> int | None:
    side, entity = taxonomy.side_of(record["category"]), taxonomy.target_of(record["category"])
    if side is None:
        return None
    for index, other in enumerate(records):
        if other["category"] in entity.categories and taxonomy.side_of(other["category"]) not in (side, None):
            return index
    return None


def _side(
    record: Mapping[str, Any], x: float, outlines: Sequence[_Outline], index: int, partner: int | None
) -> str | None:
    """Return words that tell one of a pair from the other, true of the picture as it is shown."""
    side = taxonomy.side_of(record["category"])
    if side is None:
        return None
    if record["source"] in PATIENT_SIDED:
        return f"on the patient's {side} side"
    if partner is None:  # the other one may be in the picture without a mask; the half of the picture tells them apart
        return "on the left side of the image" if x < 0.45 else "on the right side of the image" if x > 0.55 else None
    return {
        "left": "on the left side of the image",
        "right": "on the right side of the image",
        "upper": "in the upper part of the image",
        "lower": "in the lower part of the image",
    }[pair_side(outlines[index].centre, outlines[partner].centre)]


def describe_shard(part: str, *, root: str, words: Words) -> list[dict[str, Any]]:
    """Describe the targets of one part of the stage before; see `describe`."""
    described = []
    for picture, records in _pictures(read_parts(part)):
        grey = grey_of(Path(root) / picture)
        look = perceptual_hash(MedicalImage.from_array(grey)).hex()
        for record in measure_picture(records, grey):
            said = words.describe(record)
            by = said.get("described_by", words.name)  # a back end may have had another one's help
            described.append({**record, "look": look, "short": said["short"], "long": said["long"], "described_by": by})
    return described


def _pictures(records: Iterable[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield each picture's path and its records, which follow one another."""
    for _, group in itertools.groupby(records, key=lambda record: record["picture"]):
        listed = list(group)
        yield listed[0]["image"], listed


def describe(
    out: str | Path, *, seed: int = 0, words: Words | None = None, workers: int = 0, **options: Any
) -> StageReport:
    """Describe every target of ``OUT/clean``, into ``OUT/describe``.

    Parameters
    ----------
    out : path
        The build's folder.
    seed : int
        Of the wording.
    words : Words, optional
        What finds the words: the offline grammar by default.
    workers : int
        Processes; 0 for one a core.
    **options
        ``ray``, ``restart``, ``progress``; see `run_stage`.

    Returns
    -------
    StageReport

    Raises
    ------
    ConfigError
        When the stage before is missing or incomplete, or this one is there with other settings.
    StageError
        When some shards failed.
    """
    words = words or Grammar(seed)
    before = Path(out) / "clean"
    root = stage_root(before)
    return run_stage(
        "describe",
        [str(part) for part in part_paths(before)],
        functools.partial(describe_shard, root=root, words=words),
        out,
        settings={"clean": stage_digest(before), "seed": seed, "words": words.name},
        about={"root": root},
        workers=workers,
        **options,
    )
