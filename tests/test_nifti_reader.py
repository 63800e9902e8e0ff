from __future__ import annotations

import gzip
import itertools
import logging
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform

from medground.errors import ImageError, MissingExtraError
from medground.images import load_image

AXES = {"sagittal": 0, "coronal": 1, "axial": 2}
IDENTITY_WINDOW = (127.5, 255.0)  # leaves 0..255 as they are
CODES = ["".join(code) for way in itertools.permutations(("LR", "PA", "IS")) for code in itertools.product(*way)]


def save(path: Path, values: np.ndarray, affine: np.ndarray | None = None, kind: type = nib.Nifti1Image) -> Path:
    nib.save(kind(values, np.eye(4) if affine is None else affine), path)
    return path


def message(path: Path, **options: Any) -> str:
    with pytest.raises(ImageError) as caught:
        load_image(path, **options)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def oriented(values: np.ndarray, code: str) -> nib.Nifti1Image:
    """The same RAS volume, stored along other axes."""
    to_code = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(code))
    stored = nib.orientations.apply_orientation(values, to_code)
    return nib.Nifti1Image(stored, np.diag([2.0, 3.0, 4.0, 1.0]) @ inv_ornt_aff(to_code, values.shape))


@pytest.mark.parametrize("code", CODES)
def test_whatever_way_it_is_stored_the_picture_is_the_same(tmp_path: Path, code: str) -> None:
    volume = np.arange(5 * 6 * 7, dtype=np.uint8).reshape(5, 6, 7)  # x to the right, y to anterior, z to superior
    image = oriented(volume, code)
    assert "".join(nib.aff2axcodes(image.affine)) == code
    nib.save(image, tmp_path / "a.nii")
    stored = np.asarray(image.dataobj)
    expected = {
        "axial": (volume[::-1, ::-1, 2].T, (3.0, 2.0)),  # the patient's right on the left, anterior up
        "coronal": (volume[::-1, 2, ::-1].T, (4.0, 2.0)),  # the patient's right on the left, superior up
        "sagittal": (volume[2, ::-1, ::-1].T, (4.0, 3.0)),  # anterior on the left, superior up
    }
    for axis, (picture, spacing) in expected.items():
        shown = load_image(tmp_path / "a.nii", axis=axis, slice=2, window=IDENTITY_WINDOW)  # type: ignore[arg-type]
        where = shown.provenance
        assert (shown.rgb[:, :, 0] == picture).all()
        assert where.spacing_mm == pytest.approx(spacing)
        assert (where.axis, where.slice, where.slices) == (axis, 2, volume.shape[AXES[axis]])
        assert where.pixel_to_voxel is not None
        rows, columns = np.indices(picture.shape)
        voxels = np.tensordot(np.array(where.pixel_to_voxel), np.stack([columns, rows, np.ones_like(rows)]), 1)
        assert (stored[tuple(voxels)] == picture).all()


@settings(deadline=None, max_examples=25)
@given(
    shape=st.tuples(*[st.integers(2, 9)] * 3), place=st.tuples(*[st.floats(0, 0.99)] * 3), code=st.sampled_from(CODES)
)
def test_the_default_slice_goes_through_the_only_content(
    tmp_path_factory: pytest.TempPathFactory, shape: tuple[int, ...], place: tuple[float, ...], code: str
) -> None:
    volume = np.zeros(shape, np.int16)
    spot = tuple(int(part * side) for part, side in zip(place, shape, strict=True))
    volume[spot] = 1000
    path = tmp_path_factory.mktemp("nifti") / "spot.nii"
    nib.save(oriented(volume, code), path)
    for axis, way in AXES.items():
        image = load_image(path, axis=axis)  # type: ignore[arg-type]
        assert image.provenance.slice == spot[way]
        assert (image.rgb > 0).any(axis=2).sum() == 1


def test_default_plane_is_the_acquired_one(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 99, (8, 9, 10)).astype(np.int16)
    for spacing, axis in (((1, 1, 1), "axial"), ((4, 1, 1), "sagittal"), ((1, 5, 1), "coronal"), ((1, 1, 4), "axial")):
        path = save(tmp_path / "a.nii", values, np.diag([*spacing, 1.0]))
        assert load_image(path).provenance.axis == axis
    assert load_image(save(tmp_path / "b.nii", values[:, :1])).provenance.axis == "coronal"
    assert load_image(save(tmp_path / "c.nii", values[:, :, 0])).provenance.axis == "axial"
    skewed = load_image(save(tmp_path / "d.nii", values, np.diag([1.0, 1.5, 1, 1])))
    assert skewed.provenance.notes == ("pixels aren't square; the picture is kept as stored",)


def test_volumes_slices_and_their_ranges(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 255, (6, 7, 8, 3)).astype(np.uint8)
    for name, kind in (("a.nii", nib.Nifti1Image), ("a.nii.gz", nib.Nifti1Image), ("b.nii.gz", nib.Nifti2Image)):
        path = save(tmp_path / name, values, kind=kind)
        image = load_image(path, frame=2, slice=5, axis="axial", window=IDENTITY_WINDOW)
        assert (image.rgb[:, :, 0] == values[::-1, ::-1, 5, 2].T).all()
        assert (image.provenance.frame, image.provenance.frames) == (2, 3)
        assert load_image(path).provenance.frame == 0
    assert "has no frame 3: valid is 0 to 2" in message(path, frame=3)
    assert "has no axial slice 8: valid is 0 to 7" in message(path, slice=8)
    assert "has no sagittal slice 6: valid is 0 to 5" in message(path, slice=6, axis="sagittal")


def test_scaling_window_and_holes(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(40, 100, (12, 13, 14)).astype(np.float32)
    values[3, 3, 5], values[4, 4, 5] = np.nan, np.inf
    image = load_image(save(tmp_path / "a.nii", values), slice=5)
    low, high = np.percentile(values[np.isfinite(values)], (0.5, 99.5))
    assert image.provenance.window == pytest.approx(((low + high) / 2, high - low), rel=1e-4)
    assert image.rgb[12 - 3, 11 - 3, 0] == 0
    assert image.rgb[12 - 4, 11 - 4, 0] == 255

    scaled = nib.Nifti1Image(np.arange(8 * 8 * 8, dtype=np.int16).reshape(8, 8, 8), np.eye(4))
    scaled.header.set_slope_inter(2, -1000)
    nib.save(scaled, tmp_path / "b.nii")
    shown = load_image(tmp_path / "b.nii", slice=4, window=(-500, 100))
    units = np.asarray(nib.load(tmp_path / "b.nii").dataobj)[::-1, ::-1, 4].T
    assert (shown.rgb[units <= -550] == 0).all()
    assert (shown.rgb[units >= -450] == 255).all()
    assert 100 < shown.rgb[units == units.flat[np.abs(units + 500).argmin()]].mean() < 155
    assert "shows nothing through a window" in message(tmp_path / "b.nii", window=(1e6, 1))


def test_the_display_range_of_the_header_is_used(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.arange(8 * 8 * 8, dtype=np.int16).reshape(8, 8, 8), np.eye(4))
    image.header["cal_min"], image.header["cal_max"] = 100, 300
    nib.save(image, tmp_path / "a.nii")
    assert load_image(tmp_path / "a.nii").provenance.window == (200, 200)
    image.header["cal_min"], image.header["cal_max"] = 9000, 9001  # shows nothing
    nib.save(image, tmp_path / "a.nii")
    assert load_image(tmp_path / "a.nii").provenance.window != (9000.5, 1)


def test_colour_volumes(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 255, (5, 6, 7, 3)).astype(np.uint8)
    volume = values.view([("R", "u1"), ("G", "u1"), ("B", "u1")]).reshape(5, 6, 7)
    image = load_image(save(tmp_path / "a.nii", volume), slice=3, axis="axial")
    assert (image.rgb == values[::-1, ::-1, 3].transpose(1, 0, 2)).all()
    assert (image.provenance.bits, image.provenance.window) == (8, None)
    assert "window is for grey values" in message(tmp_path / "a.nii", window=(1, 2))


def test_units_and_missing_orientations(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 99, (5, 6, 7)).astype(np.int16)
    image = nib.Nifti1Image(values, np.diag([200.0, 300, 400, 1]))
    image.header.set_xyzt_units("micron")
    nib.save(image, tmp_path / "a.nii")
    assert load_image(tmp_path / "a.nii", axis="axial").provenance.spacing_mm == pytest.approx((0.3, 0.2))
    bare = nib.Nifti1Image(values, None)
    nib.save(bare, tmp_path / "b.nii")
    assert "states no orientation" in load_image(tmp_path / "b.nii").provenance.notes[0]
    image.header["srow_x"] = image.header["srow_y"] = 0
    broken = bytearray(image.to_bytes())
    broken[280:312] = bytes(32)  # srow_x and srow_y
    (tmp_path / "c.nii").write_bytes(broken)
    assert "orientation can't be read" in load_image(tmp_path / "c.nii").provenance.notes[0]


def test_files_that_hold_nothing_to_show(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 99, (5, 6, 7)).astype(np.int16)
    assert "one single value" in message(save(tmp_path / "flat.nii", np.full((4, 4, 4), 7, np.int16)))
    values[:, :, 2] = 0
    assert "in this frame or slice" in message(save(tmp_path / "gap.nii", values), slice=2, axis="axial")
    assert "one single value" in message(save(tmp_path / "nan.nii", np.full((4, 4, 4), np.nan, np.float32)))
    assert "complex64 values" in message(save(tmp_path / "complex.nii", values.astype(np.complex64)))
    nib.save(nib.Nifti1Pair(values, np.eye(4)), tmp_path / "pair.hdr")
    assert "one half of a NIfTI pair" in message(tmp_path / "pair.hdr")
    for name in ("cut.nii", "cut.nii.gz"):
        path = save(tmp_path / name, values)
        path.write_bytes(path.read_bytes()[:-30])
        assert "damaged or truncated" in message(path)


def test_a_checksum_that_does_not_match_is_noticed(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", np.random.default_rng(0).integers(0, 99, (5, 6, 7)).astype(np.int16))
    data = bytearray(path.read_bytes())
    data[-8] ^= 1
    path.write_bytes(data)
    assert "damaged or truncated" in message(path)


def test_size_is_bounded_before_unpacking(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 99, (30, 40, 5)).astype(np.int16)
    path = save(tmp_path / "a.nii.gz", values)
    assert "30 x 40 pixels, above the limit of 1,199" in message(path, max_pixels=1199)
    assert load_image(path, axis="coronal", max_pixels=150).size == (30, 5)
    zeros = save(tmp_path / "zeros.nii.gz", np.zeros((64, 64, 64), np.int16))
    assert zeros.stat().st_size < 5000
    assert "unpacks to 524,640 bytes, above the limit of 5,000" in message(zeros, max_bytes=5000)
    # A header of a small volume, and 300 MB behind it: only the volume is unpacked.
    bomb = tmp_path / "bomb.nii.gz"
    bomb.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + bytes(300_000_000), 1))
    assert load_image(bomb).provenance.axis == "axial"


def test_damaged_headers_stay_off_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = save(tmp_path / "a.nii", np.random.default_rng(0).integers(0, 99, (5, 6, 7)).astype(np.int16))
    data = bytearray(path.read_bytes())
    data[70:72] = b"\xff\x00"  # no such datatype
    path.write_bytes(data)
    caplog.set_level(logging.DEBUG)
    assert "damaged or truncated" in message(path)
    assert not caplog.records


def test_without_nibabel_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.nii", np.eye(4, dtype=np.int16))
    for name in [name for name in sys.modules if name.split(".")[0] == "nibabel"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(MissingExtraError, match=r"medground\[nifti\]"):
        load_image(path)
