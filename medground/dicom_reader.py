"""DICOM through pydicom: stored values -> modality LUT -> VOI LUT or window -> MONOCHROME1 -> 8 bits (PS3.4 N.2).

No message of this module quotes what pydicom said or what a text element holds, and no error keeps pydicom's as its
cause: both may carry patient fields.
"""

from __future__ import annotations

import math
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medground.errors import ImageError, MissingExtraError
from medground.image_files import ReadOptions
from medground.images import MedicalImage, Provenance, finish
from medground.windowing import Shape, apply_window, robust_window

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["read_dicom"]

_DAMAGED = "is a DICOM that is damaged or truncated; export it again"
_PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_MAX_PALETTE = 1 << 17


def read_dicom(options: ReadOptions) -> MedicalImage:
    """Read one frame of a DICOM file; see `medground.images.load_image`."""
    try:
        import pydicom  # noqa: F401
    except ImportError:
        raise MissingExtraError("pydicom", extra="dicom", purpose="reading DICOM files") from None
    header = _read(options, stop_before_pixels=True)
    columns, rows = (int(next(iter(_numbers([header], name)), 0)) for name in ("Columns", "Rows"))
    if not (columns or rows):
        raise options.error(f"is a DICOM without a picture ({_sop_name(header)}); choose an image object of the study")
    options.check_pixels(columns, rows)
    frames = max(1, int(next(iter(_numbers([header], "NumberOfFrames")), 1)))
    frame = options.choose("frame", options.frame, frames)
    dataset = _read(options, stop_before_pixels=False)
    stored = _decode(options, dataset, frame, frames)
    if stored.shape[:2] != (rows, columns):
        raise options.error(_DAMAGED)

    sources = frame_sources(dataset, frame, _PIXEL_MACROS)
    notes: list[str] = []
    window = None
    if stored.ndim == 3 or dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
        options.refuse_window()
        rgb = _colour(options, dataset, stored)
    else:
        rgb, window = _grey(options, dataset, sources, stored, notes)
    spacing = _spacing(sources, notes)
    provenance = Provenance(
        options.path.name,
        "dicom",
        width=columns,
        height=rows,
        bits=int(next(iter(_numbers([dataset], "BitsStored")), stored.dtype.itemsize * 8)),
        spacing_mm=spacing,
        frame=frame if frames > 1 else None,
        frames=frames if frames > 1 else None,
        window=window,
        study_uid=_uid(dataset, "StudyInstanceUID"),
        series_uid=_uid(dataset, "SeriesInstanceUID"),
        sop_uid=_uid(dataset, "SOPInstanceUID"),
        sop_class_uid=_uid(dataset, "SOPClassUID"),
        notes=tuple(notes),
    )
    return finish(options, rgb, provenance)


@contextmanager
def _guarded(options: ReadOptions, problem: str = _DAMAGED) -> Iterator[None]:
    """Turn whatever pydicom and its decoders stumble over in a damaged file into our sentence."""
    try:
        yield
    except ImageError:
        raise
    except Exception:
        raise options.error(problem) from None


def _read(options: ReadOptions, *, stop_before_pixels: bool) -> Dataset:
    from pydicom import dcmread
    from pydicom.dataset import FileMetaDataset
    from pydicom.filereader import read_file_meta_info
    from pydicom.uid import (
        DeflatedExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
    )

    with _guarded(options):
        with options.path.open("rb") as file:
            file.seek(128)
            conformant = file.read(4) == b"DICM"
        if (
            conformant
            and stop_before_pixels
            and read_file_meta_info(options.path).get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian
        ):
            _check_inflated(options)
        dataset = dcmread(options.path, stop_before_pixels=stop_before_pixels, force=not conformant)
        meta = getattr(dataset, "file_meta", None)
        if meta is None:
            meta = dataset.file_meta = FileMetaDataset()
        if not meta.get("TransferSyntaxUID"):
            implicit, little = dataset.original_encoding
            meta.TransferSyntaxUID = (
                ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
            )
        if not isinstance(meta.TransferSyntaxUID, str):  # several values, where one belongs
            raise options.error(_DAMAGED)
    return dataset


def _check_inflated(options: ReadOptions) -> None:
    """Refuse a deflated data set that would unpack to more than max_bytes: pydicom inflates it whole."""
    with options.path.open("rb") as file:
        file.seek(132)
        group_length = file.read(12)  # (0002,0000) UL: the length of the file meta information after this element
        if group_length[:8] != b"\x02\0\0\0UL\x04\0":
            raise options.error(_DAMAGED)
        file.seek(struct.unpack("<L", group_length[8:])[0], 1)
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        total = 0
        while chunk := inflater.unconsumed_tail or file.read(1 << 16):
            total += len(inflater.decompress(chunk, 1 << 20))
            options.check_bytes(total, "unpacks to more than")


def _decode(options: ReadOptions, dataset: Dataset, frame: int, frames: int) -> npt.NDArray[Any]:
    """Return the stored values of one frame, YBR converted to RGB: (rows, columns) or (rows, columns, 3)."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.pixels.utils import pixel_array
    from pydicom.uid import RLELossless

    if not any(name in dataset for name in _PIXEL_KEYWORDS):
        raise options.error(
            f"is a DICOM without pixel data ({_sop_name(dataset)}); choose an image object of the study"
        )
    if next(iter(_numbers([dataset], "SamplesPerPixel")), 1) not in (1, 3):
        raise options.error("is a DICOM with neither 1 nor 3 samples per pixel; convert it to RGB")
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        name = syntax.name if syntax.name != syntax and syntax.name.isprintable() else "in an unknown way"
        raise options.error(
            f"is a DICOM compressed as {name}, which can't be decoded; decompress it first (gdcmconv --raw or dcmdjpeg)"
        ) from None
    if not decoder.is_available:
        raise options.error(f"is a DICOM compressed as {syntax.name}; to decode it, pip install 'medground[dicom]'")
    with _guarded(
        options, "is a DICOM whose pixel data is damaged, truncated or at odds with its header; export it again"
    ):
        if syntax.is_encapsulated:
            from pydicom.encaps import get_frame

            extended = (
                (dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths)
                if "ExtendedOffsetTable" in dataset and "ExtendedOffsetTableLengths" in dataset
                else None
            )
            size = _codestream_size(
                get_frame(dataset.PixelData, frame, number_of_frames=frames, extended_offsets=extended)
            )
            if size is not None and size != (dataset.Columns, dataset.Rows):
                raise options.error(
                    f"is a DICOM whose header says {dataset.Columns} x {dataset.Rows} pixels and whose compressed "
                    f"picture says {size[0]} x {size[1]}; export it again"
                )
        # pylibjpeg's RLE decoder panics on damaged data, past every handler and to the terminal; pydicom's raises.
        plugin = "pydicom" if syntax == RLELossless else ""
        array: npt.NDArray[Any] = pixel_array(dataset, index=frame, decoding_plugin=plugin)
    return array


def _codestream_size(data: bytes) -> tuple[int, int] | None:
    """Return (width, height) as a JPEG, JPEG-LS or JPEG 2000 codestream itself says; None for any other.

    Decoders allocate what the codestream asks for, whatever the DICOM header said.
    """
    start = data.find(b"\xff\x4f\xff\x51", 0, 4096)  # SOC and SIZ of JPEG 2000, perhaps behind the boxes of a JP2 file
    if start >= 0 and (start == 0 or data[4:8] == b"jP  "):
        right, bottom, left, top = struct.unpack(">4L", data[start + 8 : start + 24])
        return right - left, bottom - top
    if data[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):  # a start of frame
            height, width = struct.unpack(">2H", data[at + 5 : at + 9])
            return width, height
        else:
            at += 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]
    return None


def _colour(options: ReadOptions, dataset: Dataset, stored: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    if stored.ndim == 2:
        from pydicom.pixels.processing import apply_color_lut

        _check_palette(options, dataset)
        with _guarded(options, "is a DICOM whose colour palette is damaged; export it again"):
            stored = apply_color_lut(stored, dataset)[..., :3]
        # 8-bit entries often stand in 16-bit words; only values tell.
        shift = 8 if stored.dtype.itemsize > 1 and stored.max() > 255 else 0
    else:
        interpretation = str(dataset.get("PhotometricInterpretation"))
        if interpretation not in ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"):
            raise options.error("is a DICOM in a colour space other than RGB, YBR or PALETTE COLOR; convert it to RGB")
        bits = int(next(iter(_numbers([dataset], "BitsStored")), stored.dtype.itemsize * 8))
        shift = max(0, min(bits, stored.dtype.itemsize * 8) - 8)
    return (stored >> shift).astype(np.uint8)


def _check_palette(options: ReadOptions, dataset: Dataset) -> None:
    """Refuse a segmented palette that expands beyond any real one (PS3.3 C.7.9.2): pydicom expands it as it is told."""
    for colour in ("Red", "Green", "Blue", "Alpha"):
        data = dataset.get(f"Segmented{colour}PaletteColorLookupTableData")
        if not isinstance(data, bytes):
            continue
        depth = next(iter(_numbers([dataset], "RedPaletteColorLookupTableDescriptor")[2:]), 16)
        order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
        words = np.frombuffer(data[: len(data) // 2 * 2], np.uint8 if depth == 8 else f"{order}u2").tolist()
        at = total = 0
        while at + 1 < len(words):
            kind, count = words[at], words[at + 1]
            total += count
            if kind > 1 or total > _MAX_PALETTE:
                raise options.error("is a DICOM with a colour palette of a rare kind or too large; convert it to RGB")
            at += 2 + (count if kind == 0 else 1)


def _grey(
    options: ReadOptions, dataset: Dataset, sources: Sequence[Dataset], stored: npt.NDArray[Any], notes: list[str]
) -> tuple[npt.NDArray[np.uint8], tuple[float, float] | None]:
    """Return 8-bit grey and the window that made it."""
    padding = _padding(dataset, stored)
    values = _modality(options, dataset, sources, stored, notes)
    visible = values[~padding] if padding is not None else values
    robust = robust_window(visible)
    if robust is None:  # one value everywhere, which `finish` refuses
        return np.zeros(values.shape, np.uint8), None
    window, grey = options.window, None
    if window:
        grey = options.asked_window(values, robust)
    else:
        grey = _voi_lut(sources, values, notes)
        if grey is None and (own := _file_window(sources)):
            window, shape = own
            grey = apply_window(values, window, shape)
        if grey is not None and np.ptp(grey[~padding] if padding is not None else grey) == 0:
            notes.append("its own window shows nothing, so the 0.5th to 99.5th percentile is shown")
            grey = None
        if grey is None:
            window = robust
            grey = apply_window(values, robust)
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1":
        grey = 255 - grey
        notes.append("MONOCHROME1: inverted, so that low values are bright")
    if padding is not None:
        grey[padding] = 0
        notes.append("padding pixels are black")
    return grey, window


def _padding(dataset: Dataset, stored: npt.NDArray[Any]) -> npt.NDArray[np.bool_] | None:
    """Return where the stored value is padding (PS3.3 C.7.5.1.1.2), or None where nothing is."""
    ends = [*_numbers([dataset], "PixelPaddingValue")[:1], *_numbers([dataset], "PixelPaddingRangeLimit")[:1]]
    if not ends or "PixelPaddingValue" not in dataset:
        return None
    where: npt.NDArray[np.bool_] = (stored >= min(ends)) & (stored <= max(ends))
    return where if where.any() else None


def _modality(
    options: ReadOptions, dataset: Dataset, sources: Sequence[Dataset], stored: npt.NDArray[Any], notes: list[str]
) -> npt.NDArray[Any]:
    """Return stored values in the modality's own units."""
    if dataset.get("ModalityLUTSequence"):
        from pydicom.pixels.processing import apply_modality_lut

        with _guarded(options, "is a DICOM whose modality LUT is damaged; export it again"):
            values: npt.NDArray[Any] = apply_modality_lut(stored, dataset)
        return values
    slope = next(iter(_numbers(sources, "RescaleSlope")), 1.0)
    intercept = next(iter(_numbers(sources, "RescaleIntercept")), 0.0)
    if slope == 0:
        notes.append("its rescale slope is 0 and was left out")
        slope = 1.0
    return stored if (slope, intercept) == (1.0, 0.0) else stored.astype(np.float64) * slope + intercept


def _voi_lut(sources: Sequence[Dataset], values: npt.NDArray[Any], notes: list[str]) -> npt.NDArray[np.uint8] | None:
    from pydicom.pixels.processing import apply_voi

    for source in sources:
        if not source.get("VOILUTSequence"):
            continue
        try:
            bits = int(source.VOILUTSequence[0].LUTDescriptor[2])
            looked_up = apply_voi(np.rint(np.nan_to_num(values)).astype(np.int64), source)
        except Exception:  # a display hint that can't be read must not cost the picture
            notes.append("its VOI LUT can't be read and was left out")
            return None
        notes.append("shown through its own VOI LUT")
        return apply_window(looked_up, ((2**bits - 1) / 2, 2**bits - 1))
    return None


def _file_window(sources: Sequence[Dataset]) -> tuple[tuple[float, float], Shape] | None:
    """Return the file's first window and its function, or None when it has none that makes sense."""
    centre, width = (next(iter(_numbers(sources, name)), None) for name in ("WindowCenter", "WindowWidth"))
    if centre is None or width is None or width <= 0:
        return None
    said = next((str(source.VOILUTFunction) for source in sources if "VOILUTFunction" in source), "LINEAR")
    exact: dict[str, Shape] = {"LINEAR_EXACT": "LINEAR_EXACT", "SIGMOID": "SIGMOID"}
    return (centre, width), exact.get(said, "LINEAR" if width >= 1 else "LINEAR_EXACT")


def _spacing(sources: Sequence[Dataset], notes: list[str]) -> tuple[float, float] | None:
    for name in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        spacing = _numbers(sources, name)
        if len(spacing) == 2 and min(spacing) > 0:
            break
    else:
        return None
    if name == "ImagerPixelSpacing":
        notes.append("spacing is measured at the detector, so the body is magnified in it")
    if not math.isclose(*spacing, rel_tol=1e-3):
        notes.append("pixels aren't square; the picture is kept as stored")
    return spacing[0], spacing[1]


_PIXEL_MACROS = ("PixelValueTransformationSequence", "FrameVOILUTSequence", "PixelMeasuresSequence")


def frame_sources(dataset: Dataset, frame: int, macros: Sequence[str]) -> list[Dataset]:
    """Return where to look an element up: the frame's functional groups, the shared ones, then the data set itself."""
    sources = []
    for sequence, index in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        for macro in macros:
            try:
                sources.append(dataset[sequence][index][macro][0])
            except Exception:  # noqa: S112 - most files have none, and a damaged one counts as none
                continue
    return [*sources, dataset]


def _numbers(sources: Sequence[Dataset], keyword: str) -> tuple[float, ...]:
    """Return the finite numbers of an element in the first source that has it readably, or nothing."""
    for source in sources:
        try:
            value = source.get(keyword)
            if value is None or isinstance(value, (str, bytes)):
                continue
            numbers = tuple(float(part) for part in (value if isinstance(value, Sequence) else [value]))
        except Exception:  # noqa: S112 - vendors write "1,5" and worse; such an element counts as absent
            continue
        if numbers and all(map(math.isfinite, numbers)):
            return numbers
    return ()


def _uid(dataset: Dataset, keyword: str) -> str | None:
    try:
        value = str(dataset.get(keyword))
    except Exception:
        return None
    return value if re.fullmatch(r"[0-9.]{1,64}", value) else None


def _sop_name(dataset: Dataset) -> str:
    from pydicom.uid import UID

    uid = _uid(dataset, "SOPClassUID")
    name = UID(uid).name if uid else ""
    return name if name and name != uid else "of an unknown SOP class"
