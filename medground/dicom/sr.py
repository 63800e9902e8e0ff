"""A result's regions and measurements as a DICOM structured report, template TID 1500 (PS3.16)."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medground import RESEARCH_USE, __version__
from medground.dicom.codes import CodedTarget
from medground.dicom.seg import algorithm_name, model_name
from medground.dicom.source import Source
from medground.errors import ConfigError
from medground.masks import box_of
from medground.types import Box, Point, Result

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["report"]

SERIES_NUMBER = 9002


def report(
    result: Result,
    source: Source,
    target: CodedTarget,
    *,
    segmentation: Dataset | None = None,
    tracking_uid: str | None = None,
) -> Dataset:
    """Return a Comprehensive SR: a group of measurements for the mask, for each box and for each key point.

    Parameters
    ----------
    result : Result
        With a box, a point or a mask.
    source : Source
        As `medground.dicom.source.read_source` reads it for this result.
    target : CodedTarget
    segmentation : Dataset or None
        The result's mask as `medground.dicom.seg.segmentation` made it; its area and extents are reported.
    tracking_uid : str or None
        What the mask's group is tracked by; the same as the segment's.

    Returns
    -------
    Dataset
        Boxes are closed polylines and key points are points, in the source frame's pixels as DICOM counts them
        (column, row; (0, 0) is the top left corner of the picture, which is `Space.pixels` too). Width and height are
        in mm, areas in mm2, where the spacing in the body is known, and in pixels otherwise. The reasoning and the
        research-use notice stand in it as comments.

    Raises
    ------
    ConfigError
        The result holds no region, as when the target is absent.
    """
    import highdicom as hd
    from highdicom import sr
    from pydicom.sr.codedict import codes

    groups: list[Any] = []
    shared = _finding(result, target)
    frames = None if source.frame is None else [source.frame]
    uids = (source.header.SOPClassUID, source.header.SOPInstanceUID)
    if segmentation is not None and result.mask is not None:
        segment = sr.ReferencedSegmentationFrame(
            segmentation.SOPClassUID, segmentation.SOPInstanceUID, 1, 1, sr.SourceImageForSegmentation(*uids, frames)
        )
        # A frame of a segmentation is of one segment; PS3.3 table 10-3 wants one or the other told.
        del segment[0].ReferencedSOPSequence[0].ReferencedSegmentNumber
        groups.append(
            sr.PlanarROIMeasurementsAndQualitativeEvaluations(
                sr.TrackingIdentifier(tracking_uid or hd.UID(), "mask"),
                referenced_segment=segment,
                measurements=[
                    _area(int(result.mask.sum()), source.spacing_mm),
                    *_extents(box_of(result.mask), source.spacing_mm),
                ],
                geometric_purpose=None,
                **shared,
            )
        )
    places: tuple[Box | Point, ...] = (*result.grounding.boxes, *result.points)
    for number, place in enumerate(places, 1):
        boxed = isinstance(place, Box)
        name = f"box {number}" if boxed else f"key point {number - len(result.grounding.boxes)}"
        region = sr.ImageRegion(
            sr.GraphicTypeValues.POLYLINE if boxed else sr.GraphicTypeValues.POINT,
            _outline(place),
            sr.SourceImageForRegion(*uids, frames),
        )
        groups.append(
            sr.PlanarROIMeasurementsAndQualitativeEvaluations(
                sr.TrackingIdentifier(hd.UID(), name),
                referenced_region=region,
                measurements=_extents(place, source.spacing_mm) if isinstance(place, Box) else None,
                geometric_purpose=codes.cid219.BoundedBy if boxed else codes.cid219.RepresentativePoint,
                **shared,
            )
        )
    if not groups:
        raise ConfigError(
            "the result has no box, point or mask (fields bbox, points, mask), so there is nothing to report; "
            "ask about a target that is in the image"
        )
    content = sr.MeasurementReport(
        sr.ObservationContext(observer_device_context=_observer(result)),
        codes.SCT.ImagingProcedure,
        groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    comments = [RESEARCH_USE, f"Reasoning of {model_name(result.reasoner)}: {result.reasoning}"]
    for text in comments if result.reasoning.strip() else comments[:1]:
        content[0].ContentSequence.append(
            sr.TextContentItem(codes.DCM.Comment, _plain(text), sr.RelationshipTypeValues.CONTAINS)
        )
    made: Dataset = sr.ComprehensiveSR(
        [source.header, *([segmentation] if segmentation is not None else [])],
        content,
        series_instance_uid=hd.UID(),
        series_number=SERIES_NUMBER,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="medground",
        is_complete=True,
        is_verified=False,
    )
    made.SpecificCharacterSet = "ISO_IR 192"
    made.ManufacturerModelName, made.SoftwareVersions = "medground", __version__
    made.SeriesDescription = "medground report (research use only)"
    return made


def _finding(result: Result, target: CodedTarget) -> dict[str, Any]:
    """Return what every group says of its region: what it is, where, and who found it."""
    from highdicom import sr
    from pydicom.sr.codedict import codes

    # A structure's side belongs to the structure itself, which is then its own site.
    place = target.site or (target.type if target.side is not None else None)
    return {
        "finding_category": target.category,
        "finding_type": target.type,
        "finding_sites": None if place is None else [sr.FindingSite(place, target.laterality)],
        "algorithm_id": sr.AlgorithmIdentification(
            algorithm_name(result),
            __version__,
            [f"target: {target.label}"],
            family=codes.DCM.ArtificialIntelligence,
            manufacturer="medground",
        ),
    }


def _observer(result: Result) -> Any:
    from highdicom import sr
    from pydicom.sr.codedict import codes

    # The same for the same software and models on every machine, since they are the same observer.
    name = algorithm_name(result)
    uid = f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, f'{name} {__version__}').int}"
    device = sr.DeviceObserverIdentifyingAttributes(uid, name, manufacturer_name="medground", model_name="medground")
    return sr.ObserverContext(codes.DCM.Device, device)


def _outline(place: Box | Point) -> Any:
    """Return (column, row) of a box's corners, closed, or of a point; single precision, as SCOORD holds them."""
    if isinstance(place, Point):
        return np.array([place.xy], np.float32)
    x1, y1, x2, y2 = place.xyxy
    return np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)], np.float32)


def _area(pixels: int, spacing: tuple[float, float] | None) -> Any:
    from highdicom import sr
    from pydicom.sr.codedict import codes

    if spacing is None:
        return sr.Measurement(codes.SCT.Area, pixels, _pixels())
    return sr.Measurement(codes.SCT.Area, _short(pixels * spacing[0] * spacing[1]), codes.UCUM.SquareMillimeter)


def _extents(box: Box, spacing: tuple[float, float] | None) -> Sequence[Any]:
    from highdicom import sr
    from pydicom.sr.codedict import codes

    down, across = spacing or (1.0, 1.0)
    unit = _pixels() if spacing is None else codes.UCUM.Millimeter
    return [
        sr.Measurement(codes.SCT.Width, _short(box.width * across), unit),
        sr.Measurement(codes.DCM.Height, _short(box.height * down), unit),
    ]


def _pixels() -> Any:
    """Return UCUM's annotated unity for counts of pixels, as highdicom and PS3.16 write it."""
    from pydicom.sr.coding import Code

    return Code("{pixels}", "UCUM", "pixels")


def _short(value: float) -> float:
    """Return a measurement in seven digits, which the 16 characters of a decimal string hold."""
    return float(f"{value:.7g}")


def _plain(text: str) -> str:
    """Return text without control characters but line ends, and of bearable length."""
    kept = "".join(letter for letter in text if letter.isprintable() or letter == "\n")
    return kept if len(kept) <= 10_000 else kept[:9_999] + "…"
