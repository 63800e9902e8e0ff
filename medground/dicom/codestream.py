"""Room for words inside pixel data: comments of compressed frames, bytes behind the pixels, overlays in unused bits.

Readers of pictures never look there, so it is taken out without a change to any pixel; what can't be looked into is
refused.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

from medground.image_files import ReadOptions

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["clean_frame", "clean_pixels"]

_UNKNOWN = "is compressed in a way whose comments can't be looked into; decompress it first (gdcmconv --raw)"
_COM, _SOS, _EOI, _APP0, _APP8, _APP14 = 0xFE, 0xDA, 0xD9, 0xE0, 0xE8, 0xEE
_J2K_COM, _J2K_SOT, _J2K_SOD, _J2K_EOC = 0xFF64, 0xFF90, 0xFF93, b"\xff\xd9"


def clean_pixels(options: ReadOptions, dataset: Dataset) -> None:
    """Take everything but pixels out of a data set's pixel data; raise where that can't be done."""
    for group in range(0x6000, 0x6020, 2):
        if (group, 0x0010) in dataset and (group, 0x3000) not in dataset:
            raise options.error(
                "has an overlay in the unused bits of its pixels (OverlayBitPosition), which may hold words; "
                "clean the pixels first"
            )
    for keyword, bits in (("FloatPixelData", 32), ("DoubleFloatPixelData", 64)):
        if keyword in dataset:
            _trim(options, dataset, keyword, bits)
    if "PixelData" not in dataset:
        return
    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        _trim(options, dataset, "PixelData", int(dataset.BitsAllocated))
        return
    from pydicom.encaps import encapsulate, generate_frames
    from pydicom.uid import JPEG2000TransferSyntaxes, JPEGLSTransferSyntaxes, JPEGTransferSyntaxes, RLELossless

    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax == RLELossless:
        clean = _rle
    elif syntax in (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes) or syntax in JPEG2000TransferSyntaxes:
        clean = clean_frame
    else:
        raise options.error(_UNKNOWN)
    count = int(dataset.get("NumberOfFrames") or 1)
    frames = []
    for frame in generate_frames(dataset.PixelData, number_of_frames=count):
        cleaned = clean(frame)
        if cleaned is None:
            raise options.error(_UNKNOWN)
        frames.append(cleaned)
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].is_undefined_length = True
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if keyword in dataset:
            del dataset[keyword]


def clean_frame(frame: bytes) -> bytes | None:
    r"""Return a JPEG, JPEG-LS or JPEG 2000 codestream without comments, application data and trailing bytes.

    Parameters
    ----------
    frame : bytes
        One frame's codestream.

    Returns
    -------
    bytes or None
        None where it isn't one that can be read through. Segments that decoders go by stay: JFIF without its thumbnail,
        Adobe's colour transform, JPEG-LS's.

    Examples
    --------
    >>> clean_frame(b"\xff\xd8" + b"\xff\xfe\x00\x07words" + b"\xff\xd9")
    b'\xff\xd8\xff\xd9'
    """
    try:
        if frame.startswith(b"\xff\xd8"):
            return b"".join(_jpeg(frame))
        if frame.startswith(b"\xff\x4f"):
            return b"".join(_jpeg2000(frame))
    except (struct.error, IndexError, ValueError):
        return None
    return None


def _jpeg(data: bytes) -> Iterator[bytes]:
    """Yield the parts of a JPEG or JPEG-LS codestream that stay."""
    yield data[:2]
    at = 2
    while True:
        if data[at] != 0xFF:
            raise ValueError
        while data[at + 1] == 0xFF:
            at += 1
        marker = data[at + 1]
        if marker == _EOI:
            yield data[at : at + 2]
            return
        if 0xD0 <= marker <= 0xD8 or marker < 0xC0:
            raise ValueError
        end = at + 2 + struct.unpack_from(">H", data, at + 2)[0]
        if end > len(data) or end < at + 4:
            raise ValueError
        body = data[at + 4 : end]
        if marker == _APP0 and body.startswith(b"JFIF\0") and len(body) >= 14:
            yield b"\xff\xe0\0\x10" + body[:12] + b"\0\0"
        elif (
            not (marker == _COM or _APP0 <= marker <= 0xEF)
            or (marker == _APP14 and body.startswith(b"Adobe") and len(body) == 12)
            or (marker == _APP8 and body.startswith(b"mrfx") and len(body) == 5)
        ):
            yield data[at:end]
        at = end
        if marker == _SOS:
            end = _scan_end(data, at)
            yield data[at:end]
            at = end


def _scan_end(data: bytes, at: int) -> int:
    """Return where the next marker lies: in a scan, 0xFF is followed by less than 0x80, or is a restart."""
    while True:
        at = data.index(b"\xff", at)
        if data[at + 1] >= 0x80 and not 0xD0 <= data[at + 1] <= 0xD7 and data[at + 1] != 0xFF:
            return at
        at += 1 if data[at + 1] == 0xFF else 2


def _jpeg2000(data: bytes) -> Iterator[bytes]:
    """Yield the parts of a JPEG 2000 codestream that stay."""
    yield data[:2]
    at = 2
    while True:
        marker, length = struct.unpack_from(">HH", data, at)
        if marker == _J2K_SOT:
            break
        if marker < 0xFF00 or length < 2:
            raise ValueError
        if marker != _J2K_COM:
            yield data[at : at + 2 + length]
        at += 2 + length
    while data[at : at + 2] != _J2K_EOC:
        marker, _, _, size = struct.unpack_from(">HHHL", data, at)
        if marker != _J2K_SOT:
            raise ValueError
        end = at + size if size else data.rindex(_J2K_EOC)
        inner = at + 12
        while (marker := struct.unpack_from(">H", data, inner)[0]) != _J2K_SOD:
            if marker == _J2K_COM:  # its part's length counts it, so it can't just go
                raise ValueError
            inner += 2 + struct.unpack_from(">H", data, inner + 2)[0]
        if not inner < end <= len(data):
            raise ValueError
        yield data[at:end]
        at = end
    yield _J2K_EOC


def _rle(frame: bytes) -> bytes | None:
    """Return an RLE frame whose header says of all its bytes what they are (PS3.5 annex G)."""
    if len(frame) < 64:
        return None
    count, *offsets = struct.unpack("<16L", frame[:64])
    if not 1 <= count <= 15 or offsets[0] != 64 or any(offsets[count:]) or sorted(offsets[:count]) != offsets[:count]:
        return None
    return frame


def _trim(options: ReadOptions, dataset: Dataset, keyword: str, bits: int) -> None:
    """Cut native pixel data where the pixels end."""
    size = int(dataset.Rows) * int(dataset.Columns) * int(dataset.get("NumberOfFrames") or 1)
    bits *= size * int(dataset.SamplesPerPixel)
    if str(dataset.get("PhotometricInterpretation")) == "YBR_FULL_422":
        bits = bits * 2 // 3
    wanted = (bits + 7) // 8
    data = dataset[keyword].value
    if len(data) < wanted:
        raise options.error("has fewer pixels than its header says; export it again")
    dataset[keyword].value = data[:wanted] + b"\0" * (wanted % 2)
