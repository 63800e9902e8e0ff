"""The DICOM file that a result was made from: what an object that refers to it must take over, and nothing else.

As in `medground.dicom_reader`, no message quotes what the file or pydicom said, for that may hold patient fields.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medground.dicom_reader import _guarded, _numbers, _read, _uid, frame_sources
from medground.errors import ConfigError, MissingExtraError
from medground.image_files import MAX_BYTES, MAX_PIXELS, ReadOptions, kind_of, quiet
from medground.types import Result

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["Source", "read_source"]

# PS3.3: type 2 of the modules Patient (C.7.1.1) and General Study (C.7.2.1), which every object of a study repeats.
_REQUIRED = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "StudyID",
    "ReferringPhysicianName",
)
# Those of the two modules that are demanded where they apply, the identifier's scope, and C.7.6.1's lossy compression.
_CONDITIONAL = (
    "IssuerOfPatientID",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "PatientSpeciesDescription",
    "PatientBreedDescription",
    "ResponsiblePerson",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)
_UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_PLACE_MACROS = ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")
_WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """The picture that a result is about, as DICOM refers to it.

    Parameters
    ----------
    header : Dataset
        The identity, study and geometry of that one frame, and nothing else of the file.
    frame : int or None
        Its number, counted from 1; None in objects of a class that holds one frame by definition, which are referred
        to without one (PS3.3 table 10-3).
    spacing_mm : (float, float) or None
        Distance between rows and between columns in the body; None where it isn't known or is the detector's.
    """

    header: Dataset
    frame: int | None
    spacing_mm: tuple[float, float] | None


def read_source(path: str | Path, result: Result) -> Source:
    """Read the header of the DICOM file that a result was made from.

    Parameters
    ----------
    path : str or Path
        That file.
    result : Result

    Returns
    -------
    Source
        Patient and study elements that the file lacks, or holds in no form of the standard, stay empty, as the standard
        allows; none is made up. Text becomes UTF-8.

    Raises
    ------
    ImageError
        The file isn't a DICOM, is damaged, or lacks a UID; names file, element and remedy.
    ConfigError
        The result was made from another file.
    MissingExtraError
        pydicom or highdicom isn't installed.
    """
    try:
        import highdicom  # noqa: F401
    except ImportError:
        raise MissingExtraError("highdicom", extra="dicom", purpose="writing DICOM objects") from None
    options = ReadOptions(Path(path), None, None, None, None, MAX_PIXELS, MAX_BYTES)
    with quiet():
        kind = kind_of(options)
        if kind != "dicom":
            raise options.error(f"is a {kind.upper()}; a DICOM object can only be made for a DICOM image, so give that")
        dataset = _read(options, stop_before_pixels=True)
        for keyword in _UIDS:
            if _uid(dataset, keyword) is None:
                raise options.error(
                    f"is a DICOM without a valid {keyword}, so nothing can refer to it; export it again"
                )
        return _checked(options, dataset, result)


def _checked(options: ReadOptions, dataset: Dataset, result: Result) -> Source:
    """Return the source, if the result was made from it and its class can be referred to."""
    get_module_usage, is_multiframe_image = _tables_of_classes()
    provenance = result.provenance
    if provenance is None or provenance.sop_uid != _uid(dataset, "SOPInstanceUID"):
        raise ConfigError(
            f"{options.path.name}: the result wasn't made from this file (SOPInstanceUID); "
            "give the DICOM file that was grounded"
        )
    frames = max(1, int(next(iter(_numbers([dataset], "NumberOfFrames")), 1)))
    rows, columns = (int(next(iter(_numbers([dataset], name)), 0)) for name in ("Rows", "Columns"))
    space = result.grounding.space
    if (columns, rows) != (space.width, space.height) or frames != (provenance.frames or 1):
        raise ConfigError(
            f"{options.path.name}: is {columns} x {rows} pixels and {frames} frames (Columns, Rows, NumberOfFrames), "
            "unlike the picture of the result; give the DICOM file that was grounded"
        )
    if dataset.SOPClassUID == _WHOLE_SLIDE:
        raise options.error("is a whole slide (SOPClassUID), whose tiles can't be referred to yet; save it as JSON")
    try:
        many = is_multiframe_image(dataset)
        usage = get_module_usage("frame-of-reference", dataset.SOPClassUID)
    except KeyError:
        raise options.error("is of an unknown SOP class (SOPClassUID); convert it to a standard image class") from None
    if frames > 1 and not many:
        raise options.error(
            f"holds {frames} frames (NumberOfFrames) in a class for one (SOPClassUID); "
            "convert it to a multi-frame class"
        )
    if usage is not None and usage.value == "M" and _uid(dataset, "FrameOfReferenceUID") is None:
        raise options.error("is a DICOM without the FrameOfReferenceUID that its class demands; export it again")
    index = provenance.frame or 0
    with _guarded(options):
        header, spacing = _header(dataset, index, (rows, columns), many)
    return Source(header, index + 1 if many else None, spacing)


def _tables_of_classes() -> tuple[Any, Any]:
    """Return what tells of a class whether it demands a frame of reference, and whether it holds many frames.

    highdicom decides by these two how it refers to a source, and shows them nowhere else; any other table of classes
    could be at odds with what it then writes.
    """
    try:
        from highdicom._standard_utils import get_module_usage, is_multiframe_image
    except ImportError:
        raise ConfigError(
            "this version of highdicom keeps its table of DICOM classes elsewhere (highdicom._standard_utils), "
            "so it isn't known how to refer to an image; pip install 'highdicom==0.28.2'"
        ) from None
    return get_module_usage, is_multiframe_image


def _header(
    dataset: Dataset, frame: int, shape: tuple[int, int], many: bool
) -> tuple[Dataset, tuple[float, float] | None]:
    from pydicom import Dataset

    header = Dataset()
    header.SpecificCharacterSet = "ISO_IR 192"
    for keyword in _UIDS:
        setattr(header, keyword, _uid(dataset, keyword))
    for keyword in (*_REQUIRED, *_CONDITIONAL):
        value = _text(dataset, keyword)
        if keyword in _REQUIRED or value is not None:
            setattr(header, keyword, value)
    header.Rows, header.Columns = shape
    groups = frame_sources(dataset, frame, _PLACE_MACROS)
    spacing = _numbers(groups, "PixelSpacing")
    known = (spacing[0], spacing[1]) if len(spacing) == 2 and min(spacing) > 0 else None
    _place(header, dataset, groups, known, many)
    # PS3.3 10.7.1.1: equal to the detector's spacing, it isn't corrected for magnification.
    at_detector = _numbers([dataset], "ImagerPixelSpacing")
    return header, None if known is not None and known == at_detector else known


def _text(dataset: Dataset, keyword: str) -> str | list[str] | None:
    """Return an element as text, or None where it is missing, empty, or not as the standard has it."""
    from pydicom.multival import MultiValue
    from pydicom.valuerep import DA, TM

    value = dataset.get(keyword)
    if isinstance(value, MultiValue):
        return [str(part) for part in value] if keyword.startswith("Lossy") else None
    text = "" if value is None or isinstance(value, bytes) else str(value)
    try:
        if keyword.endswith("Date"):
            DA(text)
        elif keyword.endswith("Time"):
            TM(text)
    except ValueError:  # as in files older than DICOM, "14:04:38"; no reader of the new object could take it
        return None
    return None if not text or (keyword == "PatientSex" and text not in ("M", "F", "O")) else text


def _place(
    header: Dataset, dataset: Dataset, groups: list[Dataset], spacing: tuple[float, float] | None, many: bool
) -> None:
    """Give the header the frame's place in the patient, where the file tells it whole, as its class holds it."""
    import highdicom as hd

    # Of an object of many frames the data set itself tells at most where the first lies.
    own_place = groups[:-1] if many else groups
    position = _numbers(own_place, "ImagePositionPatient")
    directions = _numbers(own_place, "ImageOrientationPatient")
    thickness, between = (
        next(iter(_numbers(groups, name)), None) for name in ("SliceThickness", "SpacingBetweenSlices")
    )
    reference = _uid(dataset, "FrameOfReferenceUID")
    if reference is not None:
        header.FrameOfReferenceUID = reference
    # Without a thickness too: readers, highdicom's among them, refuse spacing that comes without one.
    placed = None not in (reference, spacing, thickness) and (len(position), len(directions)) == (3, 6)
    if many:
        shared, own = type(header)(), type(header)()
        # highdicom asks for the item; an empty one is taken out again.
        shared.PixelMeasuresSequence = [type(header)()]
        if placed:
            system = hd.CoordinateSystemNames.PATIENT
            shared.PixelMeasuresSequence = hd.PixelMeasuresSequence(spacing, thickness, between)
            shared.PlaneOrientationSequence = hd.PlaneOrientationSequence(system, directions)
            own.PlanePositionSequence = hd.PlanePositionSequence(system, position)
        header.SharedFunctionalGroupsSequence, header.PerFrameFunctionalGroupsSequence = [shared], [own]
        header.NumberOfFrames = 1
    elif placed:
        header.PixelSpacing, [header.SliceThickness] = _short(spacing), _short([thickness])
        header.ImagePositionPatient, header.ImageOrientationPatient = _short(position), _short(directions)
        if between is not None:
            [header.SpacingBetweenSlices] = _short([between])


def _short(numbers: Any) -> list[Any]:
    """Return numbers as decimal strings of at most 16 characters, which DICOM's DS holds."""
    from pydicom.valuerep import DSfloat

    return [DSfloat(number, auto_format=True) for number in numbers if math.isfinite(number)]
