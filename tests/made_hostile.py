"""Files that were made to harm whoever opens them: each with what a server may answer to its upload."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from made_server import drawn_png
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian, EncapsulatedPDFStorage, ExplicitVRLittleEndian

READ = (200,)
REFUSED = (415,)
LARGE = (413,)
ANY = (200, 413, 415)
BOMB = 256 << 20
"""What bombs unpack to, in bytes: much more than the server of these tests takes on."""


def bundled(name: str) -> bytes:
    return Path(str(get_testdata_file(name, download=False))).read_bytes()


def pillow(kind: str, size: tuple[int, int] = (40, 30), **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.open(io.BytesIO(drawn_png(size=size))).save(stream, kind, **options)
    return stream.getvalue()


def png(width: int, height: int, data: bytes = b"", more: bytes = b"", bits: int = 8, packed: bytes = b"") -> bytes:
    """A PNG with a header of one's choice."""
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + more + _chunk(b"IDAT", packed or zlib.compress(data)) + _chunk(b"IEND", b"")


def jpeg(width: int, height: int) -> bytes:
    """A JPEG whose frame header says another size."""
    whole = bytearray(pillow("JPEG"))
    at = whole.index(b"\xff\xc0")
    whole[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(whole)


def bmp(width: int, height: int) -> bytes:
    whole = bytearray(pillow("BMP"))
    whole[18:26] = struct.pack("<ii", width, height)
    return bytes(whole)


def tiff(entries: dict[int, tuple[int, int, int]], data: bytes = b"", following: int = 0) -> bytes:
    """A TIFF of one directory, tag to (type, count, value), with its strip at byte 8 + the directory's length."""
    made = b"".join(struct.pack("<HHII", tag, *entry) for tag, entry in sorted(entries.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + made + struct.pack("<I", following) + data


def strip(width: int, height: int, data: bytes, compression: int = 1, **more: Any) -> bytes:
    """A grey TIFF of one strip."""
    entries = {256: width, 257: height, 258: 8, 259: compression, 262: 1, 277: 1, 278: height, 279: len(data)}
    start = 8 + 2 + 12 * (len(entries) + 1) + 4
    return tiff({tag: (4, 1, value) for tag, value in {**entries, 273: start}.items()}, data, **more)


def dicom(syntax: str = ExplicitVRLittleEndian, **elements: Any) -> bytes:
    """A CT slice with some elements of one's choice; None leaves one out."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = CTImageStorage
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = "1.2.3.4"
    made.PatientName, made.PatientID = "Doe^Jane", "7731"
    made.Modality, made.Rows, made.Columns = "CT", 32, 32
    made.BitsAllocated = made.BitsStored = 16
    made.HighBit, made.PixelRepresentation, made.SamplesPerPixel = 15, 0, 1
    made.PhotometricInterpretation = "MONOCHROME2"
    made.PixelData = np.arange(1024, dtype=np.uint16).tobytes()
    for name, value in elements.items():
        if value is None:
            delattr(made, name)
        else:
            setattr(made, name, value)
    stream = io.BytesIO()
    made.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def with_text(name: str, value: str) -> bytes:
    """The slice with a decimal string that pydicom wouldn't write: put in place of one that it does."""
    plain = dicom(**{name: "1" * 16})
    return plain.replace(b"1" * 16, value.ljust(16).encode(), 1)


def nested(depth: int) -> bytes:
    """The slice after sequences within sequences, each of undefined length."""
    whole = dicom()
    start = whole.index(struct.pack("<HH", 0x0008, 0x0060))
    opened = struct.pack("<HH2sHI", 0x0008, 0x1115, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    return whole[:start] + opened * depth + whole[start:]


def sequence(count: int) -> bytes:
    return dicom(ReferencedStudySequence=Sequence([Dataset() for _ in range(count)]))


def volume(values: np.ndarray) -> bytes:
    return nib.Nifti1Image(values, np.eye(4)).to_bytes()


def placed(value: float) -> bytes:
    """A NIfTI whose affine holds one value only."""
    rows = {f"row{n}": (280 + 4 * n, "<f", value) for n in range(12)}
    return header(orthogonal=(252, "<h", 0), affine=(254, "<h", 1), **rows)


def header(shape: tuple[int, ...] = (8, 8, 8), **fields: Any) -> bytes:
    """A NIfTI whose header says what its data don't bear out."""
    whole = bytearray(volume(np.arange(512, dtype=np.int16).reshape(8, 8, 8)))
    whole[40:56] = struct.pack("<8h", len(shape), *shape, *[1] * (7 - len(shape)))
    for name, (at, code, value) in fields.items():
        assert name
        struct.pack_into(code, whole, at, value)
    return bytes(whole)


def holes(values: list[float]) -> bytes:
    made = np.linspace(0, 1, 512, dtype=np.float32).reshape(8, 8, 8)
    made[:, :, 4][tuple(np.indices((8, 8)).reshape(2, -1)[:, : len(values)])] = values
    return volume(made)


def archive() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("../../Doe.png", bytes(BOMB // 32))
        made.writestr("a.png", drawn_png())
    return stream.getvalue()


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


@cache
def _bomb() -> bytes:
    return zlib.compress(bytes(BOMB), 1)


def _sparse(whole: bytes) -> bytes:
    return gzip.compress(whole) + gzip.compress(bytes(BOMB // 16)) * 16


PLAIN = {
    "png": drawn_png,
    "jpeg": lambda: pillow("JPEG"),
    "tiff": lambda: pillow("TIFF", compression="tiff_adobe_deflate"),
    "bmp": lambda: pillow("BMP"),
    "dicom": dicom,
    "dicom, deflated": lambda: dicom(DeflatedExplicitVRLittleEndian),
    "dicom, JPEG 2000": lambda: bundled("MR_small_jp2klossless.dcm"),
    "dicom, JPEG-LS": lambda: bundled("MR_small_jpeg_ls_lossless.dcm"),
    "dicom, RLE": lambda: bundled("MR_small_RLE.dcm"),
    "dicom, frames": lambda: bundled("SC_rgb_rle_2frame.dcm"),
    "nifti": lambda: volume(np.arange(512, dtype=np.int16).reshape(8, 8, 8)),
    "nifti.gz": lambda: gzip.compress(volume(np.arange(512, dtype=np.int16).reshape(8, 8, 8))),
}
"""Valid files, one of each kind."""

HOSTILE: dict[str, tuple[Callable[[], bytes], tuple[int, ...]]] = {
    # Headers that promise more than there is, or more than anyone bears.
    "png of 60,000 x 60,000": (lambda: png(60_000, 60_000), LARGE),
    "png of 2^31 - 1 x 2^31 - 1": (lambda: png(2**31 - 1, 2**31 - 1), LARGE),
    "png of 0 x 0": (lambda: png(0, 0), REFUSED),
    "png without its rows": (lambda: png(1500, 1500, bytes(100)), REFUSED),
    "png with too many rows": (lambda: png(8, 8, packed=_bomb()), ANY),
    "png, small, that unpacks to one value": (lambda: png(2000, 2000, bytes(2001 * 2000)), REFUSED),
    "png with text that unpacks": (
        lambda: png(8, 8, bytes(72), _chunk(b"zTXt", b"a\0\0" + _bomb())),
        ANY,
    ),
    "png with a profile that unpacks": (
        lambda: png(8, 8, bytes(72), _chunk(b"iCCP", b"a\0\0" + _bomb())),
        ANY,
    ),
    "png of 7 bits": (lambda: png(8, 8, bytes(72), bits=7), REFUSED),
    "png that animates to 60,000 frames": (
        lambda: png(8, 8, bytes(72), _chunk(b"acTL", struct.pack(">II", 60_000, 0))),
        ANY,
    ),
    "jpeg of 65,500 x 65,500": (lambda: jpeg(65_500, 65_500), LARGE),
    "jpeg of 2,000 x 2,000 without data": (lambda: jpeg(2000, 2000), ANY),
    "bmp of 60,000 x 60,000": (lambda: bmp(60_000, 60_000), LARGE),
    "bmp of negative width": (lambda: bmp(-40, 30), (413, 415)),
    "tiff of 60,000 x 60,000": (lambda: strip(60_000, 60_000, bytes(64)), LARGE),
    "tiff without its data": (lambda: strip(1500, 1500, bytes(64)), REFUSED),
    "tiff that unpacks": (lambda: strip(64, 64, _bomb(), 8), ANY),
    "tiff whose pages go round": (lambda: strip(8, 8, bytes(range(64)), following=8), ANY),
    "tiff of 4 billion strips": (lambda: tiff({256: (4, 1, 8), 257: (4, 1, 8), 273: (4, 2**32 - 1, 8)}), REFUSED),
    "tiff without a directory": (lambda: b"II*\0" + struct.pack("<I", 2**31), REFUSED),
    "dicom of 65,535 x 65,535": (lambda: dicom(Rows=65_535, Columns=65_535), LARGE),
    "dicom of 0 rows": (lambda: dicom(Rows=0), REFUSED),
    "dicom without its pixels": (lambda: dicom(Rows=1500, Columns=1500), REFUSED),
    "dicom of 2^31 - 1 frames": (lambda: dicom(NumberOfFrames=2**31 - 1), (413, 415)),
    "dicom of 7 bits": (lambda: dicom(BitsAllocated=7), REFUSED),
    "dicom of 64 samples": (lambda: dicom(SamplesPerPixel=64), REFUSED),
    "dicom whose slope is NaN": (lambda: with_text("RescaleSlope", "NaN"), ANY),
    "dicom whose slope overflows": (lambda: with_text("RescaleSlope", "1e400"), ANY),
    "dicom whose window is none": (lambda: dicom(WindowCenter=0, WindowWidth=0), ANY),
    "dicom whose window is a word": (lambda: with_text("WindowWidth", "Doe^Jane"), ANY),
    "dicom whose spacing is NaN": (lambda: with_text("SliceThickness", "nan"), ANY),
    "dicom of nested sequences": (lambda: nested(3000), (413, 415)),
    "dicom of many items": (lambda: sequence(20_000), ANY),
    "dicom that is deflated and unpacks": (
        lambda: dicom(DeflatedExplicitVRLittleEndian, PixelData=bytes(BOMB)),
        LARGE,
    ),
    "dicom that is deflated and cut": (lambda: dicom(DeflatedExplicitVRLittleEndian)[:-40], REFUSED),
    "nifti of 32,767 cubed": (lambda: header((32_767,) * 3), LARGE),
    "nifti of 7 huge dimensions": (lambda: header((32_767,) * 7), LARGE),
    "nifti of negative dimensions": (lambda: header((-8, 8, 8)), REFUSED),
    "nifti of no dimension": (lambda: header(()), REFUSED),
    "nifti without its data": (lambda: header((100, 100, 100)), REFUSED),
    "nifti whose data lie nowhere": (lambda: header(offset=(108, "<f", 1e30)), (413, 415)),
    "nifti whose data lie at NaN": (lambda: header(offset=(108, "<f", float("nan"))), ANY),
    "nifti whose data lie before it": (lambda: header(offset=(108, "<f", -4096.0)), ANY),
    "nifti of a type that isn't": (lambda: header(type=(70, "<h", 77)), REFUSED),
    "nifti whose slope is infinite": (lambda: header(slope=(112, "<f", float("inf"))), ANY),
    "nifti whose voxels have no size": (lambda: header(side=(80, "<f", 0.0)), ANY),
    "nifti whose voxels are NaN wide": (lambda: header(side=(80, "<f", float("nan"))), ANY),
    "nifti of NaN": (lambda: volume(np.full((8, 8, 8), np.nan, np.float32)), REFUSED),
    "nifti of infinities": (lambda: volume(np.full((8, 8, 8), np.inf, np.float32)), REFUSED),
    "nifti with holes": (lambda: holes([np.nan, np.inf, -np.inf, 3e38, -3e38]), READ),
    "nifti whose place is NaN": (lambda: placed(float("nan")), ANY),
    "nifti whose place is flat": (lambda: placed(0.0), ANY),
    "nifti whose place is one line": (lambda: placed(1.0), ANY),
    "nifti whose place is far off": (lambda: placed(3e38), ANY),
    "nifti.gz of zeros": (lambda: _sparse(header((400, 400, 100))), LARGE),
    "nifti.gz that goes on": (lambda: _sparse(header()), ANY),
    "nifti.gz in gzip": (lambda: gzip.compress(gzip.compress(header())), REFUSED),
    # Two things at once, and things that are no image.
    "zip": (archive, REFUSED),
    "dicom before a zip": (lambda: dicom() + archive(), ANY),
    "dicom whose preamble is a zip's": (lambda: archive()[:128] + dicom()[128:], READ),
    "dicom that holds a zip": (
        lambda: dicom(SOPClassUID=EncapsulatedPDFStorage, PixelData=None, EncapsulatedDocument=archive() + b"\0"),
        REFUSED,
    ),
    "dicom whose pixels are a zip": (lambda: dicom(PixelData=archive()), ANY),
    "dicom whose preamble is a png's": (lambda: png(8, 8)[:128].ljust(128, b"\0") + dicom()[128:], READ),
    "png before a dicom": (lambda: drawn_png() + dicom(), READ),
    "png before a page": (lambda: drawn_png() + b"<script>alert(1)</script>", READ),
    "page before a png": (lambda: b"<script>alert(1)</script>" + drawn_png(), REFUSED),
    "svg": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>', REFUSED),
    "svg.gz": (lambda: gzip.compress(b'<svg xmlns="http://www.w3.org/2000/svg"/>'), REFUSED),
    "gif": (lambda: pillow("GIF"), REFUSED),
    "webp": (lambda: pillow("WEBP"), REFUSED),
    "pdf": (lambda: b"%PDF-1.7\n1 0 obj<</JS(app.alert(1))>>endobj", REFUSED),
    "eps": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file", REFUSED),
    "pickle": (lambda: b"cos\nsystem\n(S'true'\ntR.", REFUSED),
    "one byte": (lambda: b"\0", REFUSED),
    "zeros": (lambda: bytes(1 << 20), REFUSED),
    "DICM and nothing else": (lambda: bytes(128) + b"DICM", REFUSED),
}
