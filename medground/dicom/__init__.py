"""Results as DICOM objects that stand beside their source in its study: a Segmentation and a structured report.

Made with highdicom from the source DICOM itself, never through another format, so that they lie where it lies. Of the
patient and the study they repeat what the standard demands of every object of a study; nothing else is copied, and
nothing is made up.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from medground._io import make_folder, write_bytes
from medground.dicom.codes import CodedTarget, coded, named_target
from medground.dicom.seg import segmentation
from medground.dicom.source import Source, read_source
from medground.dicom.sr import report
from medground.drawing import _stem
from medground.image_files import quiet
from medground.types import Result

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = [
    "CodedTarget",
    "SavedDicom",
    "Source",
    "coded",
    "make_dicom",
    "named_target",
    "read_source",
    "report",
    "save_dicom",
    "segmentation",
]


@dataclass(frozen=True, slots=True)
class SavedDicom:
    """Where `save_dicom` wrote.

    Parameters
    ----------
    sr : Path
        The structured report.
    seg : Path or None
        The Segmentation; None when the result has no mask.
    """

    sr: Path
    seg: Path | None


def make_dicom(result: Result, source: str | Path, *, target: str | None = None) -> tuple[Dataset | None, Dataset]:
    """Return a result as DICOM objects: ``(segmentation, report)``.

    Parameters
    ----------
    result : Result
        Made from `source`.
    source : str or Path
        The DICOM file that was grounded.
    target : str or None
        What was asked for, as `coded` takes it: a category or entity of the taxonomy is written in coded terms, other
        words as a label; by default what the reasoning plainly names (`named_target`). The question itself is never
        written.

    Returns
    -------
    (Dataset or None, Dataset)
        The Segmentation is None where the mask is missing or empty. Both are new series of the source's study.

    Raises
    ------
    ImageError
        The source isn't a DICOM, is damaged, or lacks a UID.
    ConfigError
        The result was made from another file, or holds no region.
    MissingExtraError
        highdicom isn't installed.
    """
    origin = read_source(source, result)
    what = coded(named_target(result.reasoning) if target is None else target)
    with quiet():
        import highdicom as hd

        tracked = hd.UID()
        masked = result.mask is not None and bool(result.mask.any())
        seg = segmentation(result, origin, what, tracking_uid=tracked) if masked else None
        return seg, report(result, origin, what, segmentation=seg, tracking_uid=tracked)


def save_dicom(
    result: Result, source: str | Path, folder: str | Path, *, target: str | None = None, stem: str | None = None
) -> SavedDicom:
    """Write a result as DICOM-SEG (``.seg.dcm``) and SR (``.sr.dcm``), each whole or not at all.

    Parameters
    ----------
    result, source, target
        As `make_dicom` takes them.
    folder : str or Path
        Made when it isn't there.
    stem : str or None
        What file names start with; the source's file name without its ending by default.

    Returns
    -------
    SavedDicom

    Raises
    ------
    ImageError, ConfigError, MissingExtraError
        As `make_dicom` raises them, and when the files can't be written there.

    Examples
    --------
    >>> result = MedGround().ground("ct.dcm", "Which organ filters the blood?")  # doctest: +SKIP
    >>> save_dicom(result, "ct.dcm", "out", target="spleen").seg  # doctest: +SKIP
    PosixPath('out/ct.seg.dcm')
    """
    seg, sr = make_dicom(result, source, target=target)
    out = make_folder(folder)
    name = _stem(Path(source).name) if stem is None else stem
    masked, told = out / f"{name}.seg.dcm", out / f"{name}.sr.dcm"
    if seg is None:
        masked.unlink(missing_ok=True)  # an earlier result's mask must not stand beside this one's report
    else:
        write_bytes(masked, _bytes(seg))
    write_bytes(told, _bytes(sr))
    return SavedDicom(told, None if seg is None else masked)


def _bytes(dataset: Dataset) -> bytes:
    stream = BytesIO()
    with quiet():
        dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()
