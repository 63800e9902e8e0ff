"""A result's mask as a DICOM Segmentation on the pixels of its source (PS3.3 A.51)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medground import RESEARCH_USE, __version__
from medground.dicom.codes import CodedTarget
from medground.dicom.source import Source
from medground.errors import ConfigError
from medground.types import Result

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["algorithm_name", "model_name", "segmentation"]

SERIES_NUMBER = 9001


def model_name(name: str) -> str:
    """Return a model's name as it may leave the machine: without the folder or the host that it was loaded from.

    Examples
    --------
    >>> model_name("/home/me/models/reader"), model_name("http://127.0.0.1:8000/v1#reader"), model_name("nano")
    ('reader', 'reader', 'nano')
    """
    if "://" in name:
        name = name.rpartition("#")[2] if "#" in name else "endpoint"
    elif name.startswith(("/", "~", ".")) or "\\" in name:
        name = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return "".join(letter for letter in name if letter.isprintable())[:64].strip() or "unnamed"


def algorithm_name(result: Result) -> str:
    """Return medground's and the models' names, at most 64 characters.

    Examples
    --------
    >>> from medground.coords import Space
    >>> from medground.types import Grounding
    >>> algorithm_name(Result(Grounding("", (), (), Space.pixels(4, 4)), None, "nano", "litemedsam"))
    'medground: nano + litemedsam'
    """
    return f"medground: {model_name(result.reasoner)} + {model_name(result.segmenter)}"[:64].rstrip()


def segmentation(result: Result, source: Source, target: CodedTarget, *, tracking_uid: str | None = None) -> Dataset:
    """Return a BINARY segmentation of one segment and one frame.

    Parameters
    ----------
    result : Result
        With a mask that isn't empty.
    source : Source
        As `medground.dicom.source.read_source` reads it for this result.
    target : CodedTarget
    tracking_uid : str or None
        What the region is tracked by in other objects too; a new one by default.

    Returns
    -------
    Dataset
        Its one frame has the size of the source frame and refers to it; position, orientation and spacing are the
        source's where it has them, and otherwise the reference alone says where the mask lies (projection
        radiographs, ultrasound, endoscopy). It has its own series in the source's study.

    Raises
    ------
    ConfigError
        There is no mask, or nothing in it.
    """
    import highdicom as hd
    import numpy as np
    from pydicom.sr.codedict import codes

    if result.mask is None or not result.mask.any():
        lacks = "no mask" if result.mask is None else "an empty mask"
        raise ConfigError(
            f"the result has {lacks} (field mask), so there is nothing for a DICOM-SEG; "
            "ground with a segmenter, or write the report alone"
        )
    algorithm = hd.AlgorithmIdentificationSequence(
        algorithm_name(result),
        codes.DCM.ArtificialIntelligence,
        __version__,
        source="medground",
        parameters={"reasoner": model_name(result.reasoner), "segmenter": model_name(result.segmenter)},
    )
    segment = hd.seg.SegmentDescription(
        1,
        target.label,
        target.category,
        target.type,
        hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm,
        tracking_uid=tracking_uid or hd.UID(),
        tracking_id=target.label,
        anatomic_regions=None if target.site is None else [target.site],
    )
    segment.SegmentDescription = RESEARCH_USE
    if target.laterality is not None:
        side = hd.sr.CodedConcept.from_code(target.laterality)
        segment.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [side]
    made: Dataset = hd.seg.Segmentation(
        [source.header],
        result.mask.astype(np.uint8)[None],
        hd.seg.SegmentationTypeValues.BINARY,
        [segment],
        series_instance_uid=hd.UID(),
        series_number=SERIES_NUMBER,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="medground",
        manufacturer_model_name="medground",
        software_versions=__version__,
        device_serial_number=__version__,
        content_label="MEDGROUND",
        content_description="Research use only: not for diagnosis or treatment",
        omit_empty_frames=False,
    )
    made.SeriesDescription = "medground mask (research use only)"
    made.ImageComments = RESEARCH_USE
    shared, own = made.SharedFunctionalGroupsSequence[0], made.PerFrameFunctionalGroupsSequence[0]
    if "PixelMeasuresSequence" in shared and not len(shared.PixelMeasuresSequence[0]):
        del shared.PixelMeasuresSequence
    # To highdicom the source is that one frame; this says which of the file's it is.
    if source.frame is not None:
        for reference in (own.DerivationImageSequence[0].SourceImageSequence[0], *made.get("SourceImageSequence", ())):
            reference.ReferencedFrameNumber = source.frame
    return made
