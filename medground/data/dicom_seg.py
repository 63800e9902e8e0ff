"""DICOM-SEG through highdicom: segments as masks in the pictures of the source series, matched by instance UID.

As in `medground.dicom_reader`, no message quotes what the libraries said, for that may hold patient fields.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medground.data.jobs import VolumeJob
from medground.data.volumes import Slice, SliceChoice, Unnamed, by_category, spacing_of
from medground.errors import MissingExtraError, TruthError
from medground.image_files import MAX_BYTES, ReadOptions, kind_of, quiet
from medground.images import load_image
from medground.types import Mask

if TYPE_CHECKING:
    from highdicom.seg import Segmentation

__all__ = ["of_dicom"]

Geometry = npt.NDArray[np.float64]


def of_dicom(job: VolumeJob, choice: SliceChoice) -> Iterator[Slice | Unnamed]:
    """Read the slices of a DICOM series that the choice falls on; see `medground.data.volumes.read_slices`."""
    with quiet():
        segmentation = _read_segmentation(job)
        frames = _series(job, segmentation)
    segments = {
        number: str(segmentation.get_segment_description(number).segment_label).strip()
        for number in segmentation.segment_numbers
    }
    names = dict(job.names) or {label: label for label in segments.values()}
    chosen = [
        (number, name) for number, label in segments.items() if (name := names.get(str(number), names.get(label)))
    ]
    masks: dict[int, dict[str, Mask]] = {}
    for name, numbers in by_category(chosen).items():
        with quiet():
            planes = _planes(job, segmentation, frames, numbers)
        for index in choice.of(planes.sum(axis=(1, 2)).tolist()):
            masks.setdefault(index, {})[name] = planes[index].copy()
    for index in sorted(masks):
        source = frames[index]
        image = load_image(source.path, frame=source.frame)
        if image.size != (segmentation.Columns, segmentation.Rows):
            raise TruthError(f"{job.labels}: isn't of the size of {source.path}; resample it onto the source series")
        origin: dict[str, Any] = {"slice": index, "file": source.path.relative_to(job.image).as_posix()}
        if source.frame is not None:
            origin["frame"] = source.frame
        yield Slice(f"slice-{index:04d}", image, masks[index], origin | spacing_of(image))
    used = {number for number, _ in chosen}
    yield from (Unnamed(label) for number, label in segments.items() if number not in used)


@dataclass(frozen=True, slots=True)
class _Frame:
    """A picture of a series: a file, or a frame of it (counted from 0), and where it lies along the series."""

    path: Path
    uid: str
    frame: int | None
    geometry: Geometry | None
    number: int


def _read_segmentation(job: VolumeJob) -> Segmentation:
    try:
        from highdicom.seg import segread
    except ImportError:
        raise MissingExtraError("highdicom", extra="dicom", purpose="reading DICOM-SEG files") from None
    try:
        return segread(job.labels)
    except Exception:
        raise TruthError(f"{job.labels}: isn't a readable DICOM-SEG; export it again") from None


def _series(job: VolumeJob, segmentation: Segmentation) -> list[_Frame]:
    """Return the pictures of the source series that the segmentation names, in their order along the series."""
    try:
        wanted = {str(uid) for _, _, uid in segmentation.get_source_image_uids()}
    except Exception:
        wanted = set()
    if not wanted:
        raise TruthError(f"{job.labels}: doesn't name the images that it was made on, so it can't be laid on them")
    found: dict[str, list[_Frame]] = {}
    for path in sorted(Path(job.image).rglob("*")):
        header = _header(path) if path.is_file() and not path.name.startswith(".") else None
        uid = str(header.get("SOPInstanceUID")) if header is not None else ""
        if header is not None and uid in wanted and uid not in found:
            count = int(header.get("NumberOfFrames") or 1)
            numbers = [None] if count == 1 else list(range(count))
            found[uid] = [
                _Frame(path, uid, frame, _geometry(header, frame), _number(header, frame)) for frame in numbers
            ]
    if lacking := len(wanted) - len(found):
        raise TruthError(
            f"{job.labels}: {lacking} of the {len(wanted)} images that it was made on aren't in {job.image}; "
            "give the folder of the whole source series"
        )
    return sorted(
        (frame for frames in found.values() for frame in frames),
        key=lambda frame: (_along(frame.geometry), frame.number, frame.uid),
    )


def _header(path: Path) -> Any:
    """Return a DICOM file's header, or None for a file that is none."""
    import pydicom

    try:
        if kind_of(ReadOptions(path, None, None, None, None, 1, MAX_BYTES)) != "dicom":
            return None
        return pydicom.dcmread(path, stop_before_pixels=True, force=True)
    except Exception:  # a file that can't be read is no picture of the series; what lacks is told by its number
        return None


def _number(header: Any, frame: int | None) -> int:
    if frame is not None:
        return frame
    try:
        return int(header.get("InstanceNumber") or 0)
    except (TypeError, ValueError):
        return 0


def _macro(dataset: Any, frame: int | None, macro: str) -> Any:
    """Return where a frame's geometry stands: in its own functional groups, the shared ones, or the data set."""
    groups = [("SharedFunctionalGroupsSequence", 0)]
    if frame is not None:
        groups.insert(0, ("PerFrameFunctionalGroupsSequence", frame))
    for sequence, index in groups:
        try:
            return dataset[sequence].value[index][macro].value[0]
        except (KeyError, IndexError, TypeError):
            continue
    return dataset


def _geometry(dataset: Any, frame: int | None) -> Geometry | None:
    """Return a frame's position, its rows' and columns' directions and its spacing, 11 numbers; None if it has none."""
    said: list[float] = []
    for macro, keyword, count in (
        ("PlanePositionSequence", "ImagePositionPatient", 3),
        ("PlaneOrientationSequence", "ImageOrientationPatient", 6),
        ("PixelMeasuresSequence", "PixelSpacing", 2),
    ):
        try:
            numbers = [float(value) for value in _macro(dataset, frame, macro).get(keyword) or ()]
        except (TypeError, ValueError):
            return None
        if len(numbers) != count or not all(map(math.isfinite, numbers)):
            return None
        said += numbers
    return np.array(said)


def _along(geometry: Geometry | None) -> float:
    """Return the position along the normal of the slices, in millimetres."""
    return 0.0 if geometry is None else float(np.cross(geometry[3:6], geometry[6:9]) @ geometry[:3])


def _check_grid(job: VolumeJob, segmentation: Segmentation, frames: Sequence[_Frame]) -> bool:
    """Tell whether geometry shows that the segmentation lies on the source's pixels; raise if it shows it does not.

    Attribute (0028,135A), by which a file may say so itself, is missing in most.
    """
    lies = {(frame.uid, (frame.frame or 0) + 1): frame.geometry for frame in frames}
    compared = 0
    for number in range(int(segmentation.NumberOfFrames)):
        try:
            groups = segmentation.PerFrameFunctionalGroupsSequence[number]
            source = groups.DerivationImageSequence[0].SourceImageSequence[0]
            uid, at = str(source.ReferencedSOPInstanceUID), int(source.get("ReferencedFrameNumber") or 1)
        except (AttributeError, IndexError, TypeError, ValueError):
            return False
        mine, theirs = _geometry(segmentation, number), lies.get((uid, at))
        if mine is None or theirs is None:
            return False
        if np.abs(mine[:3] - theirs[:3]).max() > theirs[9:].min() / 2 or not np.allclose(
            mine[3:], theirs[3:], atol=1e-2
        ):
            raise TruthError(
                f"{job.labels}: isn't on the pixels of the source series; export it again on the grid of that series"
            )
        compared += 1
    return compared > 0


def _planes(
    job: VolumeJob, segmentation: Segmentation, frames: Sequence[_Frame], numbers: Sequence[int]
) -> npt.NDArray[np.bool_]:
    """Return where any of the segments is, shape (frames, rows, columns)."""
    found: npt.NDArray[np.bool_] = np.zeros((len(frames), segmentation.Rows, segmentation.Columns), bool)
    try:
        known = _check_grid(job, segmentation, frames)
        for number in numbers:
            if all(frame.frame is None for frame in frames):
                uids = [frame.uid for frame in frames]
                planes = segmentation.get_pixels_by_source_instance(
                    uids, segment_numbers=[number], ignore_spatial_locations=known, assert_missing_frames_are_empty=True
                )
                found |= planes[..., 0] >= 0.5
                continue
            for index, frame in enumerate(frames):
                planes = segmentation.get_pixels_by_source_frame(
                    frame.uid,
                    [(frame.frame or 0) + 1],
                    segment_numbers=[number],
                    ignore_spatial_locations=known,
                    assert_missing_frames_are_empty=True,
                )
                found[index] |= planes[0, ..., 0] >= 0.5
    except TruthError:
        raise
    except Exception:
        raise TruthError(
            f"{job.labels}: its frames don't tell on which source image each lies, or are damaged; "
            "export it again on the grid of the source series"
        ) from None
    return found
