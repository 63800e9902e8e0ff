"""Make grounding samples of targets: question, box, two key points, a short true trace, by the offline grammar.

Run it as ``python -m medground.data.build MASKS --split test --out test.jsonl``; the same seed gives the same bytes.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medground import taxonomy
from medground._io import write_text
from medground.data.attributes import measure
from medground.data.open_masks import Target, load_mask, load_picture, read_open_masks
from medground.data.questions import ask, pair_side, reason
from medground.errors import ConfigError, MedgroundError
from medground.masks import box_of, key_points
from medground.types import Mask, Sample

__all__ = ["PATIENT_SIDED", "build_sample", "build_samples", "grey_levels", "partners", "side_phrase"]

PATIENT_SIDED = frozenset({"cxr_mc_sz", "totalsegmentator_ref"})
"""Collections whose left and right are known to be the patient's. Elsewhere sides are the picture's."""


def partners(targets: Iterable[Target]) -> dict[str, Target]:
    """Map each target's id to the other one of its pair in the same picture, where there is one."""
    pairs: dict[tuple[str, str], dict[str, Target]] = {}
    for target in targets:
        if side := taxonomy.side_of(target.category):
            pairs.setdefault((str(target.image), taxonomy.target_of(target.category).name), {})[side] = target
    found: dict[str, Target] = {}
    for pair in pairs.values():
        if len(pair) == 2:
            found[pair["left"].id] = pair["right"]
            found[pair["right"].id] = pair["left"]
    return found


def side_phrase(target: Target, own: Mask, partner: Mask | None) -> str | None:
    """Return the words that tell a paired target from its partner, or None when nothing needs telling.

    Parameters
    ----------
    target : Target
    own, partner : bool array, shape (height, width)
        The two masks, in the picture as it is shown; `partner` is None when it isn't in the picture.
    """
    side = taxonomy.side_of(target.category)
    if side is None:
        return None
    if target.source in PATIENT_SIDED:
        return f"on the patient's {side} side"
    if partner is None:
        return None
    (x, y), (px, py) = ((box.x1 + box.x2, box.y1 + box.y2) for box in (box_of(own), box_of(partner)))
    return {
        "left": "on the left side of the image",
        "right": "on the right side of the image",
        "upper": "in the upper part of the image",
        "lower": "in the lower part of the image",
    }[pair_side((x, y), (px, py))]


def grey_levels(target: Target) -> npt.NDArray[np.uint8]:
    """Return the picture's grey levels, shape (height, width), 0 to 255."""
    return np.asarray(load_picture(target).convert("L"))


def build_sample(target: Target, partner: Target | None, *, seed: int, held_out: bool) -> Sample:
    """Make one sample; a function of the target and the seed alone.

    Parameters
    ----------
    target : Target
    partner : Target or None
        From `partners`.
    seed : int
    held_out : bool
        Phrase the question by a frame that training never uses.

    Returns
    -------
    Sample
        Box and points in source pixels.
    """
    rng = random.Random(f"{seed}/{target.id}")  # noqa: S311 - chance for phrasing, not for secrets
    knowledge = taxonomy.target_of(target.category)
    mask = load_mask(target)
    side = side_phrase(target, mask, load_mask(partner) if partner else None)
    return Sample(
        id=target.id,
        image=str(target.image),
        question=ask(rng, knowledge, target.modality, side=side, held_out=held_out),
        box=box_of(mask),
        points=key_points(mask),
        reasoning=reason(rng, knowledge, measure(mask, grey_levels(target)), side=side),
        mask=str(target.mask),
        meta={
            "category": target.category,
            "target": knowledge.name,
            "supercategory": knowledge.supercategory,
            "modality": target.modality,
            "source": target.source,
            "license": target.license,
            "tier": target.tier,
            "group": target.group,
            "split": target.split,
        },
    )


def build_samples(targets: Sequence[Target], *, seed: int = 0) -> Iterable[Sample]:
    """Make a sample of each target; validation and test questions use held-out frames."""
    pairs = partners(targets)
    for target in targets:
        yield build_sample(target, pairs.get(target.id), seed=seed, held_out=target.split != "train")


def to_row(sample: Sample, root: Path) -> dict[str, Any]:
    """Return a sample as a JSON row, its paths relative to `root`, its coordinates source pixels."""
    return {
        "id": sample.id,
        "image": Path(sample.image).relative_to(root).as_posix(),
        "mask": Path(sample.mask).relative_to(root).as_posix() if sample.mask else None,
        "question": sample.question,
        "reasoning": sample.reasoning,
        "bbox": list(sample.box.xyxy),
        "points": [list(point.xy) for point in sample.points],
        "coordinates": sample.box.space.name,
        "width": int(sample.box.space.width),
        "height": int(sample.box.space.height),
        **sample.meta,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Write a split's samples as JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("masks", type=Path, help="folder with manifest.jsonl, images/ and masks/")
    parser.add_argument("--split", choices=("train", "val", "test"), default="test")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args(arguments)
    try:
        targets = read_open_masks(chosen.masks, chosen.split)
        if not targets:
            raise ConfigError(f"{chosen.masks}: the manifest has no rows of the split {chosen.split}; choose another")
        samples = build_samples(targets, seed=chosen.seed)
        rows = [json.dumps(to_row(sample, chosen.masks), ensure_ascii=False) for sample in samples]
        write_text(chosen.out, "\n".join(rows) + "\n")
    except MedgroundError as error:
        parser.exit(2, f"{error}\n")
    sys.stderr.write(f"{len(rows)} samples -> {chosen.out}\n")


if __name__ == "__main__":
    main()
