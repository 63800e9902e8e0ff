"""The first stage of a build: from pictures and volumes with masks to target records.

A target record has a box, two key points and the mask of what one question may ask for, all in source pixels, and says
where it comes from, under which licence, and which patient's it is. Nothing is left out silently: what isn't kept is
written beside the records, with the reason.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy import ndimage

from medground._io import make_folder
from medground.data.jobs import Job, Named, PictureJob, Source, VolumeJob
from medground.data.pictures import Shown, name_of, of_picture, of_volume
from medground.data.sources import read_source
from medground.data.stages import StageProgress, StageReport, read_parts, run_stage
from medground.data.volumes import SliceChoice
from medground.errors import ConfigError, ImageError, TruthError
from medground.masks import box_of, encode_rle, key_points
from medground.types import Mask

__all__ = ["CleanReport", "Component", "Rules", "clean", "clean_shard", "shards_of", "split_of", "target_records"]

Component = Literal["largest", "all", "each"]
Record = dict[str, Any]

SHARD = 64
"""Pictures in a shard; a volume counts as 16."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How masks become targets.

    Parameters
    ----------
    component : {"largest", "all", "each"}
        Of a mask in several 8-connected parts: the largest is the target, all of them together are, or each is a target
        of its own.
    min_pixels : int
        Smaller targets are dropped: at 16 pixels a box is a guess.
    min_share, max_share : float, 0 to 1
        Bounds on the target's share of the picture.
    slices : SliceChoice
        Which slices of a volume are asked about.
    shares : tuple of three float
        Of train, val and test, by patient, for sources that have no split of their own.
    seed : int
        Draws the split.
    skip_bad : bool
        Drop pictures and masks that can't be read, instead of failing.
    """

    component: Component = "largest"
    min_pixels: int = 16
    min_share: float = 0.0
    max_share: float = 0.95
    slices: SliceChoice = field(default_factory=SliceChoice)
    shares: tuple[float, float, float] = (0.8, 0.1, 0.1)
    seed: int = 0
    skip_bad: bool = False

    def __post_init__(self) -> None:
        if self.component not in ("largest", "all", "each"):
            raise ConfigError(f"component {self.component!r} isn't known; choose largest, all or each")
        if not 0 <= self.min_share <= self.max_share <= 1 or self.min_pixels < 1:
            raise ConfigError(
                f"min_pixels {self.min_pixels}, min_share {self.min_share} and max_share {self.max_share} "
                "keep nothing; give 1 pixel or more and shares that rise between 0 and 1"
            )
        if len(self.shares) != 3 or min(self.shares) < 0 or abs(sum(self.shares) - 1) > 1e-6:
            raise ConfigError(f"shares {self.shares} of train, val and test must be three numbers that add up to 1")


@dataclass(frozen=True, slots=True)
class CleanReport:
    """What cleaning made.

    Parameters
    ----------
    stage : StageReport
    dropped : dict of str to int
        Targets that weren't kept, by the reason; ``clean/part-*.dropped.jsonl`` names each.
    """

    stage: StageReport
    dropped: dict[str, int]


def clean(
    sources: Sequence[str | Path],
    out: str | Path,
    *,
    component: Component = "largest",
    min_pixels: int = 16,
    min_share: float = 0.0,
    max_share: float = 0.95,
    slices: SliceChoice | None = None,
    shares: tuple[float, float, float] = (0.8, 0.1, 0.1),
    seed: int = 0,
    skip_bad: bool = False,
    workers: int = 0,
    ray: bool = False,
    restart: bool = False,
    progress: Callable[[StageProgress], None] | None = None,
) -> CleanReport:
    """Make the target records of one source or more in ``OUT/clean``.

    The paths of pictures are relative to ``root`` in ``OUT/clean/stage.json``: the source's folder, or the folder that
    holds all of them and OUT. A picture that viewers wouldn't show as `load_image` does (DICOM, 16 bits, turned by
    EXIF) and each slice of a volume is written to ``OUT/images`` as PNG; with `ray`, OUT must then be a folder that
    all machines share.

    Parameters
    ----------
    sources : sequence of path
        See `medground.data.sources.read_source`.
    out : path
    component, min_pixels, min_share, max_share, slices, shares, seed, skip_bad
        See `Rules`.
    workers, ray, restart, progress
        See `run_stage`.

    Raises
    ------
    ConfigError
        A source can't be read, two of them say the same id, a patient is in two splits, or OUT holds another build.
    StageError
        Some pictures or masks can't be read, don't fit each other, and aren't to be skipped.
    """
    rules = Rules(component, min_pixels, min_share, max_share, slices or SliceChoice(), shares, seed, skip_bad)
    if not sources:
        raise ConfigError("there is no source to clean; give a folder of pictures with masks, a .toml or a .csv")
    read = [read_source(source) for source in sources]
    jobs = _settled([job for source in read for job in source.jobs], rules)
    home = make_folder(out).resolve()
    root = _root(read, home)
    report = run_stage(
        "clean",
        shards_of(jobs),
        partial(clean_shard, root=str(root), out=str(home), rules=rules),
        home,
        settings={"sources": [source.digest() for source in read], **asdict(rules)},
        about={"root": str(root), "pictures": len(jobs)},
        workers=workers,
        ray=ray,
        restart=restart,
        progress=progress,
    )
    dropped = Counter(record["reason"] for record in read_parts(report.folder, "dropped"))
    if not report.records.get(""):
        reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.most_common(3)) or "there are none"
        raise ConfigError(f"{home}: no target is left ({reasons}); mend the source or the rules")
    return CleanReport(report, dict(sorted(dropped.items())))


def split_of(group: str, shares: tuple[float, float, float], seed: int = 0) -> str:
    """Return a patient's split: a function of the patient, the shares and the seed alone.

    So a set that grows leaves every patient where they were.

    Examples
    --------
    >>> [split_of(f"patient {number}", (0.6, 0.2, 0.2)) for number in range(6)]
    ['test', 'train', 'val', 'test', 'test', 'train']
    """
    drawn = int.from_bytes(hashlib.sha256(f"{seed}/{group}".encode()).digest()[:8], "big") / 2**64
    return "train" if drawn < shares[0] else "val" if drawn < shares[0] + shares[1] else "test"


def shards_of(jobs: Sequence[Job]) -> list[tuple[Job, ...]]:
    """Cut jobs into shards of about 64 pictures, in their order; a volume counts as 16."""
    shards: list[tuple[Job, ...]] = []
    shard: list[Job] = []
    weight = 0
    for job in jobs:
        own = 1 if isinstance(job, PictureJob) else SHARD // 4
        if shard and weight + own > SHARD:
            shards.append(tuple(shard))
            shard, weight = [], 0
        shard.append(job)
        weight += own
    return [*shards, tuple(shard)] if shard else shards


def clean_shard(shard: Sequence[Job], *, root: str, out: str, rules: Rules) -> dict[str, list[Record]]:
    """Make the target records of some pictures and volumes, and write the pictures that have to be.

    Returns
    -------
    dict
        Target records, and under ``"dropped"`` what wasn't kept: id, category and reason.

    Raises
    ------
    TruthError, ImageError
        When a file can't be read or doesn't fit, unless the rules say to skip those.
    """
    kept: list[Record] = []
    dropped: list[Record] = []
    for job in shard:
        try:
            own, without = _of_job(job, root, out, rules)
        except (TruthError, ImageError) as error:
            if not rules.skip_bad:
                raise
            own = []
            without = [{"id": name_of(job), "category": "", "reason": "can't be read", "cause": str(error)}]
        kept += own
        dropped += without
    return {"": kept, "dropped": dropped}


def _of_job(job: Job, root: str, out: str, rules: Rules) -> tuple[list[Record], list[Record]]:
    kept: list[Record] = []
    dropped: list[Record] = []
    made = of_picture(job, root, out) if isinstance(job, PictureJob) else of_volume(job, root, out, rules.slices)
    for shown, named, mask in made:
        if mask is None:
            dropped.append({"id": named.id, "category": "", "reason": "the label has no name"})
            continue
        records, reasons = target_records(mask, named, shown, rules)
        kept += records
        dropped += reasons
    return kept, dropped


def target_records(mask: Mask, named: Named, shown: Shown, rules: Rules) -> tuple[list[Record], list[Record]]:
    """Make the records of one mask, and the reasons for what of it wasn't kept.

    Parameters
    ----------
    mask : bool array, shape (height, width)
    named : Named
    shown : Shown
    rules : Rules
    """
    kept: list[Record] = []
    dropped: list[Record] = []
    chosen, parts = _chosen(mask, rules.component)
    if not parts:
        dropped.append({"id": named.id, "category": named.category, "reason": "the mask is empty"})
    for number, part in enumerate(chosen, 1):
        name = f"{named.id}/{number}" if rules.component == "each" else named.id
        if reason := _refused(part, rules):
            dropped.append({"id": name, "category": named.category, "reason": reason})
            continue
        kept.append(
            {
                "id": name,
                "picture": shown.picture,
                "image": shown.image,
                "width": shown.size[0],
                "height": shown.size[1],
                "category": named.category,
                "modality": shown.origin.modality,
                "source": shown.origin.source,
                "licence": shown.origin.licence,
                "tier": shown.origin.tier,
                "group": shown.origin.group,
                "split": shown.origin.split,
                "mask": encode_rle(part),
                "bbox": [int(side) for side in box_of(part).xyxy],
                "points": [list(point.xy) for point in key_points(part)],
                "parts": parts,
                "share": float(part.mean()),
                "origin": dict(shown.place),
            }
        )
    return kept, dropped


def _chosen(mask: Mask, component: Component) -> tuple[list[Mask], int]:
    """Return the chosen parts of a mask, largest first, and how many 8-connected parts it has."""
    labels, count = ndimage.label(mask, structure=np.ones((3, 3), bool))
    if not count:
        return [], 0
    if component == "all" or (component == "largest" and count == 1):
        return [mask], count
    sizes = np.bincount(labels.ravel())[1:]
    order = np.argsort(-sizes, kind="stable")  # the first in reading order among equals, as `largest_component`
    return [labels == index + 1 for index in (order if component == "each" else order[:1])], count


def _refused(part: Mask, rules: Rules) -> str | None:
    pixels = int(part.sum())
    if pixels < rules.min_pixels:
        return f"smaller than {rules.min_pixels} pixels"
    if pixels < rules.min_share * part.size:
        return f"less than {rules.min_share:g} of the picture"
    if pixels > rules.max_share * part.size:
        return f"more than {rules.max_share:g} of the picture"
    return None


def _settled(jobs: Iterable[Job], rules: Rules) -> list[Job]:
    """Return the jobs with a split each, after checking that no id comes twice and no patient is in two splits."""
    settled: list[Job] = []
    names: set[str] = set()
    splits: dict[str, str] = {}
    for job in jobs:
        files = job.masks if isinstance(job, PictureJob) else ()
        for name in (name_of(job), *(named.id for file in files for named in file.targets)):
            if name in names:
                raise ConfigError(f"{name!r} is the id of two targets or pictures; give the sources different names")
            names.add(name)
        origin = job.origin
        split = splits.setdefault(origin.group, origin.split or split_of(origin.group, rules.shares, rules.seed))
        if origin.split not in ("", split):
            raise ConfigError(f"the patient {origin.group!r} is in the splits {split} and {origin.split}; keep one")
        settled.append(replace(job, origin=replace(origin, split=split)))
    return settled


def _root(sources: Sequence[Source], home: Path) -> Path:
    if len(sources) == 1 and (sources[0].root / "manifest.jsonl").is_file():
        return sources[0].root
    if all(isinstance(job, VolumeJob) for source in sources for job in source.jobs):
        return home
    try:
        return Path(os.path.commonpath([home, *(source.root for source in sources)]))
    except ValueError:
        raise ConfigError(f"{home}: lies on another drive than a source; choose another --out") from None
