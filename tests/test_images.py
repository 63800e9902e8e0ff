"""What is common to all formats, and those that Pillow reads; DICOM and NIfTI have their own files."""

from __future__ import annotations

import gzip
import io
import logging
import os
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from medground.errors import ImageError
from medground.images import MedicalImage, load_image

RAMP = np.add.outer(np.arange(20), np.arange(30) * 5).astype(np.uint8)
COLOUR = np.stack([RAMP, RAMP[::-1], 255 - RAMP], axis=-1)
DEEP = (RAMP.astype(np.uint16) * 16) + 1000


def save(folder: Path, name: str, array: np.ndarray, **options: Any) -> Path:
    path = folder / name
    Image.fromarray(array).save(path, **options)
    return path


def message(path: Path, **options: Any) -> str:
    """The sentence with which a file is refused, checked for what every such sentence has."""
    with pytest.raises(ImageError) as caught:
        load_image(path, **options)
    text = str(caught.value)
    assert path.name in text
    assert "\n" not in text
    return text


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "no-extension"])
def test_lossless_pictures_are_kept(tmp_path: Path, name: str) -> None:
    for array in (RAMP, COLOUR):
        image = load_image(save(tmp_path, name, array, format=None if "." in name else "PNG"))
        assert image.rgb.dtype == np.uint8
        assert image.rgb.flags.c_contiguous
        assert not image.rgb.flags.writeable
        assert (image.rgb == (array if array.ndim == 3 else array[:, :, None])).all()
        assert image.size == (30, 20) == (image.provenance.width, image.provenance.height)
        assert image.space.width == 30
        assert image.provenance.window is None


def test_jpeg_and_its_exif_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6  # the camera was turned: columns become rows
    plain = load_image(save(tmp_path, "plain.jpg", COLOUR, quality=95))
    turned = load_image(save(tmp_path, "turned.jpg", COLOUR, quality=95, exif=exif))
    assert np.abs(plain.rgb.astype(int) - COLOUR).mean() < 12
    assert turned.size == (20, 30)
    assert (turned.rgb == np.rot90(plain.rgb, -1)).all()
    assert turned.provenance.notes == ("turned as its EXIF orientation says",)
    tiff = load_image(save(tmp_path, "turned.tif", COLOUR, tiffinfo={274: 6}))
    assert (tiff.rgb == np.rot90(COLOUR, -1)).all()


def test_a_damaged_exif_block_does_not_cost_the_picture(tmp_path: Path) -> None:
    path = save(tmp_path, "exif.jpg", COLOUR, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert load_image(path).size == (30, 20)


@pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
def test_sixteen_bits_go_through_the_robust_window(tmp_path: Path, name: str) -> None:
    deep = DEEP.copy()
    deep[0, 0] = 65535  # one hot pixel must not darken everything else
    image = load_image(save(tmp_path, name, deep))
    low, high = np.percentile(deep, (0.5, 99.5))
    assert image.provenance.bits == 16
    assert image.provenance.window == pytest.approx(((low + high) / 2, high - low))
    expected = np.clip((deep.astype(float) - low) / (high - low), 0, 1) * 255
    assert np.abs(image.rgb[:, :, 0] - expected).max() <= 0.5
    asked = load_image(save(tmp_path, name, deep), window=(2000, 1000))
    assert asked.provenance.window == (2000, 1000)
    assert (asked.rgb[deep <= 1500] == 0).all()
    assert (asked.rgb[deep >= 2500] == 255).all()


def test_wide_tiffs_and_their_holes(tmp_path: Path) -> None:
    for dtype in (np.int32, np.float32):
        wide = RAMP.astype(dtype) * 1000 - 70000
        image = load_image(save(tmp_path, "wide.tif", wide))
        assert image.provenance.bits == 32
        assert (image.rgb[0, 0, 0], image.rgb[-1, -1, 0]) == (0, 255)
    wide[10, 15] = np.nan
    wide[10, 16] = np.inf
    holes = load_image(save(tmp_path, "holes.tif", wide))
    assert (holes.rgb[10, 15, 0], holes.rgb[10, 16, 0]) == (0, 255)
    assert np.abs(np.delete(holes.rgb - image.rgb.astype(int), 10, axis=0)).max() <= 1


def test_white_is_zero_tiff_is_inverted(tmp_path: Path) -> None:
    usual = load_image(save(tmp_path, "usual.tif", DEEP))
    inverted = load_image(save(tmp_path, "inverted.tif", DEEP, tiffinfo={262: 0}))
    with Image.open(tmp_path / "inverted.tif") as stored:
        assert stored.tag_v2[262] == 0
    assert (inverted.rgb == 255 - usual.rgb).all()


def test_transparency_palettes_and_single_bits(tmp_path: Path) -> None:
    rgba = np.dstack([COLOUR, np.where(RAMP > 60, 255, 0).astype(np.uint8)])
    over = load_image(save(tmp_path, "rgba.png", rgba))
    assert (over.rgb == np.where(RAMP[:, :, None] > 60, COLOUR, 0)).all()
    assert over.provenance.notes == ("transparency laid on black",)
    grey = load_image(save(tmp_path, "la.png", np.dstack([RAMP, rgba[:, :, 3]])))
    assert (grey.rgb[:, :, 0] == np.where(RAMP > 60, RAMP, 0)).all()
    palette = Image.fromarray(COLOUR).quantize(8)
    palette.save(tmp_path / "p.png", transparency=0)
    assert (load_image(tmp_path / "p.png").rgb[np.asarray(palette) == 0] == 0).all()
    Image.fromarray(RAMP > 60).save(tmp_path / "bits.png")
    bits = load_image(tmp_path / "bits.png")
    assert bits.provenance.bits == 1
    assert (bits.rgb[:, :, 0] == np.where(RAMP > 60, 255, 0)).all()
    Image.fromarray(COLOUR).convert("CMYK").save(tmp_path / "cmyk.tif")
    assert load_image(tmp_path / "cmyk.tif").rgb.shape == (20, 30, 3)


def test_pages_of_a_tiff(tmp_path: Path) -> None:
    pages = [Image.fromarray(RAMP), Image.fromarray(255 - RAMP), Image.fromarray(np.tile(RAMP, (2, 2)))]
    path = tmp_path / "pages.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:])
    first, second, third = (load_image(path, frame=frame) for frame in (None, 1, 2))
    assert (first.rgb[:, :, 0] == RAMP).all()
    assert (first.provenance.frame, first.provenance.frames) == (0, 3)
    assert (second.rgb[:, :, 0] == 255 - RAMP).all()
    assert third.size == (60, 40)
    assert "has no frame 3: valid is 0 to 2" in message(path, frame=3)
    assert "has no frame -1" in message(path, frame=-1)
    assert "limit" in message(path, frame=2, max_pixels=700)  # the third page alone is too large
    assert "valid is only 0" in message(save(tmp_path, "one.png", RAMP), frame=1)


def test_options_that_do_not_fit(tmp_path: Path) -> None:
    path = save(tmp_path, "colour.png", COLOUR)
    assert "axis and slice are for NIfTI" in message(path, axis="axial")
    assert "axis and slice are for NIfTI" in message(path, slice=3)
    assert "window is for grey values" in message(path, window=(40, 400))
    grey = save(tmp_path, "grey.png", RAMP)
    assert "shows nothing through a window" in message(grey, window=(5000, 10))
    assert (load_image(grey, window=(127.5, 255)).rgb[:, :, 0] == RAMP).all()
    for wrong, said in (
        ({"window": (1, 0)}, "width above 0"),
        ({"window": 5}, "two numbers"),
        ({"frame": 1.5}, "whole"),
    ):
        with pytest.raises(ImageError, match=said):
            load_image(grey, **wrong)  # type: ignore[arg-type]
    with pytest.raises(ImageError, match="axial, coronal or sagittal"):
        load_image(grey, axis="up")  # type: ignore[arg-type]


def test_files_that_are_no_images(tmp_path: Path) -> None:
    assert "doesn't exist" in message(tmp_path / "missing.png")
    assert "is a folder" in message(tmp_path)
    (tmp_path / "empty.png").touch()
    assert "is empty" in message(tmp_path / "empty.png")
    (tmp_path / "notes.png").write_text("not an image at all, whatever its name says")
    assert "isn't a PNG, JPEG, TIFF, BMP, DICOM or NIfTI" in message(tmp_path / "notes.png")
    Image.fromarray(RAMP).save(tmp_path / "a.gif")
    assert "convert it" in message(tmp_path / "a.gif")
    (tmp_path / "text.gz").write_bytes(gzip.compress(b"text" * 200))
    assert "holds no NIfTI" in message(tmp_path / "text.gz")
    os.mkfifo(tmp_path / "pipe")
    assert "isn't a regular file" in message(tmp_path / "pipe")
    with pytest.raises(ImageError, match="can't be opened"):
        load_image("nul\0byte.png")
    with pytest.raises(ImageError) as caught:
        load_image(tmp_path / "two\nlines.png")
    assert "\n" not in str(caught.value)


def test_one_value_everywhere_is_refused(tmp_path: Path) -> None:
    for array in (np.full((9, 9), 7, np.uint8), np.full((9, 9), 700, np.uint16), np.full((9, 9, 3), 7, np.uint8)):
        assert "one single value" in message(save(tmp_path, "flat.png", array))


def test_truncated_pictures_are_refused(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    for name in ("a.png", "a.jpg", "a.bmp"):
        path = save(tmp_path, name, noise)
        path.write_bytes(path.read_bytes()[:2000])
        assert "damaged, truncated" in message(path)


def test_size_is_bounded_before_decoding(tmp_path: Path) -> None:
    path = save(tmp_path, "a.png", RAMP)
    assert "30 x 20 pixels, above the limit of 599" in message(path, max_pixels=599)
    assert load_image(path, max_pixels=600).size == (30, 20)
    assert "above the limit of 20" in message(path, max_bytes=20)
    # A header that promises 4 gigapixels, four times beyond where Pillow itself would raise.
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">2L", 65535, 65535)
    data[29:33] = struct.pack(">L", zlib.crc32(data[12:29]))
    path.write_bytes(data)
    guard = Image.MAX_IMAGE_PIXELS
    assert "65535 x 65535 pixels, above the limit of 67,108,864" in message(path)
    assert guard == Image.MAX_IMAGE_PIXELS
    # Allowed by the caller, so that Pillow's guard must not stand in the way: only the data is missing.
    data[16:24] = struct.pack(">2L", 200_000_000, 1)
    data[29:33] = struct.pack(">L", zlib.crc32(data[12:29]))
    path.write_bytes(data)
    assert "damaged, truncated" in message(path, max_pixels=1 << 28)


def test_from_array() -> None:
    source = COLOUR.copy()
    image = MedicalImage.from_array(source, "probe")
    source[:] = 0
    assert (image.rgb == COLOUR).all()
    assert image.provenance.file_name == "probe"
    with pytest.raises(ValueError, match="read-only"):
        image.rgb[0, 0, 0] = 1
    for wrong in (COLOUR.astype(float), COLOUR[:, :, :2], np.zeros((0, 3), np.uint8), np.zeros(3, np.uint8)):
        with pytest.raises(ImageError):
            MedicalImage.from_array(wrong)


def test_warnings_and_loggers_are_as_before(tmp_path: Path) -> None:
    logger = logging.getLogger("pydicom")
    message(save(tmp_path, "flat.png", np.zeros((3, 3), np.uint8)))
    assert not logger.disabled


def _pillow(array: np.ndarray, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, kind, **options)
    return stream.getvalue()


def _bundled(name: str) -> bytes:
    return Path(str(get_testdata_file(name, download=False))).read_bytes()


_VOLUME = nib.Nifti1Image(np.arange(6 * 7 * 8, dtype=np.int16).reshape(6, 7, 8), np.diag([2.0, 2, 2, 1]))
SEEDS: dict[str, Callable[[], bytes]] = {
    "grey.png": lambda: _pillow(RAMP, "PNG"),
    "deep.png": lambda: _pillow(DEEP, "PNG"),
    "colour.jpg": lambda: _pillow(COLOUR, "JPEG"),
    "progressive.jpg": lambda: _pillow(COLOUR, "JPEG", progressive=True),
    "raw.tif": lambda: _pillow(COLOUR, "TIFF"),
    "deflated.tif": lambda: _pillow(DEEP, "TIFF", compression="tiff_adobe_deflate"),
    "colour.bmp": lambda: _pillow(COLOUR, "BMP"),
    "volume.nii": _VOLUME.to_bytes,
    "volume.nii.gz": lambda: gzip.compress(_VOLUME.to_bytes()),
    "volumes-2.nii": lambda: nib.Nifti2Image(np.zeros((4, 4, 4, 2), np.float32), np.eye(4)).to_bytes(),
} | {
    name: lambda name=name: _bundled(name)  # type: ignore[misc]
    for name in (
        "MR_small.dcm",
        "MR_small_RLE.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_jp2klossless.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "SC_rgb_jpeg_dcmtk.dcm",
        "SC_rgb_rle_2frame.dcm",
        "SC_ybr_full_422_uncompressed.dcm",
        "image_dfl.dcm",
        "rtdose.dcm",
    )
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", SEEDS)
def test_damaged_files_give_a_picture_or_a_sentence(tmp_path: Path, name: str) -> None:
    """Cut and flipped anywhere, a file is read or refused; any other exception, warnings included, fails this."""
    chance = random.Random(name)
    whole = SEEDS[name]()
    path = tmp_path / name
    for _ in range(60):
        data = bytearray(whole)
        if chance.random() < 0.25:
            del data[chance.randrange(len(data)) :]
        else:
            reach = min(len(data), chance.choice([64, 400, 1500, len(data)]))
            for _ in range(chance.choice([1, 1, 2, 8])):
                at = chance.randrange(reach)
                data[at] = chance.choice([0, 255, chance.randrange(256), data[at] ^ (1 << chance.randrange(8))])
        path.write_bytes(data)
        try:
            image = load_image(path, max_pixels=1 << 22)
        except ImageError as error:
            assert name in str(error)  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017
        else:
            assert image.rgb.shape == (image.height, image.width, 3)
            assert image.rgb.min() < image.rgb.max()
