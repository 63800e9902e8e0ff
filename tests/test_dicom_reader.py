"""DICOM, on the files that pydicom's wheel carries and on what they become when one element is changed."""

from __future__ import annotations

import logging
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from medground.errors import ImageError, MissingExtraError
from medground.images import load_image
from medground.windowing import apply_window

FILES = Path(pydicom.__file__).parent / "data" / "test_files"


def write(folder: Path, values: np.ndarray, name: str = "a.dcm", **elements: Any) -> Path:
    """A DICOM of these stored values, (rows, columns) or (frames, rows, columns), and these elements."""
    dataset = Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, "1.2.3.4"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", "1.2.3.1"
    dataset.Rows, dataset.Columns = values.shape[-2:]
    if values.ndim == 3:
        dataset.NumberOfFrames = len(values)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = values.dtype.itemsize * 8
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(values.dtype.kind == "i")
    if values.dtype.kind == "f":
        dataset.FloatPixelData = values.tobytes()
    else:
        dataset.PixelData = values.tobytes()
        dataset["PixelData"].VR = "OW"
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    dataset.save_as(folder / name, enforce_file_format=True)
    return folder / name


def message(path: Path, **options: Any) -> str:
    with pytest.raises(ImageError) as caught:
        load_image(path, **options)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None  # pydicom's own words may quote patient fields
    return str(caught.value)


RAMP = np.arange(600, dtype=np.int16).reshape(20, 30)


def test_rescale_and_the_first_window(tmp_path: Path) -> None:
    path = write(
        tmp_path, RAMP, RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=[0, 500], WindowWidth=[400, 50],
        PixelSpacing=[0.5, 0.7],
    )  # fmt: skip
    image = load_image(path)
    where = image.provenance
    assert (image.rgb[:, :, 0] == apply_window(RAMP * 2.0 - 1000, (0, 400), "LINEAR")).all()
    assert (where.format, where.bits, where.window, where.spacing_mm) == ("dicom", 16, (0, 400), (0.5, 0.7))
    assert (where.study_uid, where.series_uid, where.sop_uid) == ("1.2.3", "1.2.3.1", "1.2.3.4")
    assert where.sop_class_uid == CTImageStorage
    assert where.notes == ("pixels aren't square; the picture is kept as stored",)
    asked = load_image(path, window=(-500, 100))
    assert asked.provenance.window == (-500, 100)
    assert (asked.rgb[:, :, 0] == apply_window(RAMP * 2.0 - 1000, (-500, 100))).all()
    assert "shows nothing through a window" in message(path, window=(9000, 10))


def test_monochrome1_is_inverted_after_the_window(tmp_path: Path) -> None:
    window = {"WindowCenter": 200, "WindowWidth": 300}
    usual = load_image(write(tmp_path, RAMP, **window))
    inverted = load_image(write(tmp_path, RAMP, PhotometricInterpretation="MONOCHROME1", **window))
    assert (inverted.rgb == 255 - usual.rgb).all()
    assert any("MONOCHROME1" in note for note in inverted.provenance.notes)


def test_without_a_window_the_robust_one_is_taken(tmp_path: Path) -> None:
    values = RAMP.copy()
    values[0, 0] = 32000
    for elements in ({}, {"WindowCenter": 100, "WindowWidth": 0}, {"WindowCenter": -30000, "WindowWidth": 2}):
        image = load_image(write(tmp_path, values, **elements))
        low, high = np.percentile(values, (0.5, 99.5))
        assert image.provenance.window == pytest.approx(((low + high) / 2, high - low))
    assert image.provenance.notes == ("its own window shows nothing, so the 0.5th to 99.5th percentile is shown",)


def test_padding_neither_widens_the_window_nor_shines(tmp_path: Path) -> None:
    values = RAMP.copy()
    values[:5] = -20000
    image = load_image(write(tmp_path, values, PixelPaddingValue=-20000, PhotometricInterpretation="MONOCHROME1"))
    low, high = np.percentile(values[5:], (0.5, 99.5))
    assert image.provenance.window == pytest.approx(((low + high) / 2, high - low))
    assert (image.rgb[:5] == 0).all()
    assert image.rgb[5, 0, 0] == 255


def test_voi_lut_and_modality_lut(tmp_path: Path) -> None:
    lut = Dataset()
    lut.LUTDescriptor = [600, 0, 16]
    lut.LUTData = ((599 - np.arange(600, dtype=np.uint16)) * 100).tobytes()
    lut["LUTData"].VR = "OW"
    voi = load_image(write(tmp_path, RAMP.astype(np.uint16), VOILUTSequence=[lut], WindowCenter=1, WindowWidth=2))
    assert voi.provenance.window is None
    assert np.abs(voi.rgb[:, :, 0] - (599.0 - RAMP) * 100 / 65535 * 255).max() <= 0.5
    lut.ModalityLUTType = "US"
    modality = load_image(
        write(tmp_path, RAMP.astype(np.uint16), ModalityLUTSequence=[lut], WindowCenter=30000, WindowWidth=60000)
    )
    assert modality.provenance.window == (30000, 60000)
    assert modality.rgb[0, 0, 0] > 250 > 5 > modality.rgb[-1, -1, 0]
    lut.LUTDescriptor = [600, 0, 99]
    damaged = load_image(write(tmp_path, RAMP.astype(np.uint16), VOILUTSequence=[lut]))
    assert damaged.provenance.notes == ("its VOI LUT can't be read and was left out",)


def test_frames_and_their_functional_groups(tmp_path: Path) -> None:
    def group(centre: float) -> Dataset:
        window, transformation, item = Dataset(), Dataset(), Dataset()
        window.WindowCenter, window.WindowWidth = centre, 100
        transformation.RescaleSlope, transformation.RescaleIntercept = 1, 1000
        item.FrameVOILUTSequence, item.PixelValueTransformationSequence = [window], [transformation]
        return item

    measures, shared = Dataset(), Dataset()
    measures.PixelSpacing = [0.25, 0.25]
    shared.PixelMeasuresSequence = [measures]
    path = write(
        tmp_path, np.stack([RAMP, RAMP + 1000]), SOPClassUID=EnhancedMRImageStorage,
        PerFrameFunctionalGroupsSequence=[group(1300), group(2300)], SharedFunctionalGroupsSequence=[shared],
    )  # fmt: skip
    for frame, centre in ((0, 1300), (1, 2300)):
        image = load_image(path, frame=frame)
        assert (image.provenance.frame, image.provenance.frames) == (frame, 2)
        assert image.provenance.window == (centre, 100)
        assert image.provenance.spacing_mm == (0.25, 0.25)
        assert (image.rgb[:, :, 0] == apply_window(RAMP + centre - 300, (centre, 100), "LINEAR")).all()
    assert load_image(path).provenance.frame == 0
    assert "has no frame 2: valid is 0 to 1" in message(path, frame=2)


def test_float_pixels_with_holes(tmp_path: Path) -> None:
    values = RAMP.astype(np.float32) / 7
    values[3, 3] = np.nan
    image = load_image(write(tmp_path, values))
    assert image.provenance.bits == 32
    assert image.rgb[3, 3, 0] == 0
    assert image.rgb[-1, -1, 0] == 255


# The same ten bars in each: red, light red, green, light green, blue, light blue, black, grey, light grey, white.
BARS = [
    (255, 0, 0), (255, 128, 128), (0, 255, 0), (128, 255, 128), (0, 0, 255),
    (128, 128, 255), (0, 0, 0), (64, 64, 64), (192, 192, 192), (255, 255, 255),
]  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "SC_rgb_dcmtk_+eb+cr.dcm",  # JPEG baseline, RGB
        "SC_rgb_dcmtk_+eb+cy+np.dcm",  # JPEG baseline, YBR_FULL
        "SC_rgb_dcmtk_+eb+cy+s2.dcm",  # JPEG baseline, YBR_FULL_422
        "SC_rgb_jpeg_gdcm.dcm",  # JPEG lossless
        "SC_rgb_jls_lossy_line.dcm",  # JPEG-LS
        "SC_rgb_gdcm_KY.dcm",  # JPEG 2000, YBR_RCT
        "SC_ybr_full_422_uncompressed.dcm",
        "SC_rgb_rle.dcm",
        "SC_rgb_rle_16bit.dcm",
        "SC_rgb_rle_32bit_2frame.dcm",
    ],
)
def test_colour_spaces_and_compressions(name: str) -> None:
    image = load_image(FILES / name)
    assert image.size == (100, 100)
    assert image.provenance.window is None
    assert np.abs(image.rgb[5::10, 50].astype(int) - BARS).max() <= 5  # some are lossy
    assert "window is for grey values" in message(FILES / name, window=(40, 400))


@pytest.mark.parametrize("name", ["RLE", "jp2klossless", "jpeg_ls_lossless", "implicit", "bigendian", "expb", "padded"])
def test_every_encoding_of_one_slice_is_the_same_picture(name: str) -> None:
    plain, other = load_image(FILES / "MR_small.dcm"), load_image(FILES / f"MR_small_{name}.dcm")
    assert (other.rgb == plain.rgb).all()
    assert other.provenance.window == (600, 1600)


def test_other_bundled_files() -> None:
    palette = load_image(FILES / "examples_palette.dcm")
    assert palette.size == (800, 350)
    assert (np.ptp(palette.rgb, axis=2) > 20).mean() > 0.05  # its banner is blue
    assert load_image(FILES / "examples_ybr_color.dcm", frame=29).provenance.frames == 30
    assert load_image(FILES / "JPGExtended.dcm").provenance.bits == 12
    assert load_image(FILES / "liver_1frame.dcm").provenance.bits == 1
    assert load_image(FILES / "image_dfl.dcm").size == (512, 512)  # deflated
    assert load_image(FILES / "rtdose.dcm", frame=14).provenance.frames == 15


def test_without_preamble_and_extension(tmp_path: Path) -> None:
    dataset = dcmread(FILES / "CT_small.dcm")
    expected = load_image(FILES / "CT_small.dcm")
    for name, implicit in (("IM0001", True), ("IM0002", False)):
        path = tmp_path / name
        bare = Dataset()
        bare.update({element.tag: element for element in dataset if element.tag.group != 0x0002})
        bare.save_as(path, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
        assert path.read_bytes()[:1] == b"\x08"
        assert (load_image(path).rgb == expected.rgb).all()


@pytest.mark.parametrize("name", ["rtplan.dcm", "rtstruct.dcm", "test-SR.dcm", "reportsi.dcm", "waveform_ecg.dcm"])
def test_objects_without_a_picture(name: str) -> None:
    assert "DICOM without a picture" in message(FILES / name)
    assert "Storage" in message(FILES / name)


def test_truncation_and_contradiction(tmp_path: Path) -> None:
    assert "truncated" in message(FILES / "MR_truncated.dcm")
    data = (FILES / "MR_small.dcm").read_bytes()
    for length in (140, 400, 1200):
        (tmp_path / "cut.dcm").write_bytes(data[:length])
        message(tmp_path / "cut.dcm")
    dataset = dcmread(FILES / "MR_small.dcm")
    del dataset.PixelData
    dataset.save_as(tmp_path / "none.dcm")
    assert "without pixel data (MR Image Storage)" in message(tmp_path / "none.dcm")
    assert "one single value" in message(write(tmp_path, np.full((9, 9), 5, np.int16), WindowCenter=5, WindowWidth=9))


@pytest.mark.parametrize(
    "name", ["MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "SC_rgb_jpeg_dcmtk.dcm"]
)
def test_a_codestream_larger_than_its_header_is_never_decoded(tmp_path: Path, name: str) -> None:
    dataset = dcmread(FILES / name)
    dataset.Rows = dataset.Rows // 2
    dataset.save_as(tmp_path / name)
    assert "whose compressed picture says" in message(tmp_path / name)


def test_transfer_syntaxes_that_cannot_be_decoded(tmp_path: Path) -> None:
    dataset = dcmread(FILES / "SC_rgb_jpeg_dcmtk.dcm")
    for syntax, said in (("1.2.840.10008.1.2.4.102", "MPEG-4"), ("1.2.3.4.5", "in an unknown way")):
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(tmp_path / "video.dcm", implicit_vr=False, little_endian=True)
        text = message(tmp_path / "video.dcm")
        assert said in text
        assert "decompress it first" in text
    for syntax in (JPEGBaseline8Bit, JPEG2000Lossless, JPEGLSLossless, RLELossless):
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.PixelData = encapsulate([b"not a codestream at all"])
        dataset.save_as(tmp_path / "noise.dcm")
        assert "damaged" in message(tmp_path / "noise.dcm")


def test_size_is_bounded_before_decoding(tmp_path: Path) -> None:
    assert "64 x 64 pixels, above the limit of 4,095" in message(FILES / "MR_small.dcm", max_pixels=4095)
    huge = write(tmp_path, RAMP, Rows=65535, Columns=65535)
    assert "65535 x 65535 pixels, above the limit" in message(huge)
    # Deflated: 100 MB of zeros in 100 kB.
    data = write(tmp_path, RAMP).read_bytes()
    meta = dcmread(tmp_path / "a.dcm").file_meta
    plain = Dataset()
    plain.file_meta = meta
    meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    plain.save_as(tmp_path / "bomb.dcm", enforce_file_format=True)
    head = (tmp_path / "bomb.dcm").read_bytes()
    head = head[: 144 + int.from_bytes(head[140:144], "little")]
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    (tmp_path / "bomb.dcm").write_bytes(head + deflate.compress(data + bytes(100_000_000)) + deflate.flush())
    assert "unpacks to more than" in message(tmp_path / "bomb.dcm", max_bytes=10_000_000)


def test_a_palette_that_expands_without_end_is_refused(tmp_path: Path) -> None:
    segments = np.array([0, 1, 0] + [1, 65535, 9] * 40, np.uint16).tobytes()
    elements: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour in ("Red", "Green", "Blue"):
        elements[f"{colour}PaletteColorLookupTableDescriptor"] = [0, 0, 16]
        elements[f"Segmented{colour}PaletteColorLookupTableData"] = segments
    assert "too large" in message(write(tmp_path, RAMP.astype(np.uint16), **elements))


@pytest.mark.filterwarnings("error")
def test_patient_fields_reach_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Malformed on purpose: pydicom quotes such values in its warnings."""
    dataset = dcmread(FILES / "MR_small.dcm")
    secret = "SECRET^NAME"
    dataset.PatientName = secret
    dataset.save_as(tmp_path / "good.dcm")
    data = bytearray((tmp_path / "good.dcm").read_bytes())
    for keyword in ("SOPInstanceUID", "StudyDate", "PixelSpacing", "WindowCenter", "ImageType"):
        value = dataset[keyword].value
        text = value if isinstance(value, str) else "\\".join(map(str, value)) if keyword != "WindowCenter" else "600"
        at = data.rfind(text.encode())  # behind the file meta information
        assert at > 0, keyword
        data[at : at + len(text)] = secret.encode()[: len(text)].ljust(len(text), b"X")
    (tmp_path / "bad.dcm").write_bytes(data)
    caplog.set_level(logging.DEBUG)
    image = load_image(tmp_path / "bad.dcm")
    assert image.provenance.sop_uid is None
    assert image.provenance.spacing_mm is None
    told = [repr(image.provenance), caplog.text, *capfd.readouterr()]
    (tmp_path / "cut.dcm").write_bytes(data[:-1000])
    told.append(message(tmp_path / "cut.dcm"))
    told += [caplog.text, *capfd.readouterr()]
    assert not any("SEC" in text for text in told)


def test_without_pydicom_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(MissingExtraError, match=r"medground\[dicom\]"):
        load_image(FILES / "MR_small.dcm")
