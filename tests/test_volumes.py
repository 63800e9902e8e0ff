"""Slices of labelled volumes: the masks must lie where the reader shows the labels, however files are stored."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medground.data.jobs import Origin, VolumeJob
from medground.data.volumes import Slice, SliceChoice, Unnamed, read_slices
from medground.errors import ConfigError, ImageError, MissingExtraError, TruthError
from medground.images import load_image

ORIGIN = Origin("CT", "drawn", "CC0-1.0", "A", "drawn/p1", "train")
CODES = ["".join(code) for way in itertools.permutations(("LR", "PA", "IS")) for code in itertools.product(*way)]
SHAPE = (20, 24, 16)  # x to the right, y to anterior, z to superior


def job(image: Path, labels: Path, names: dict[str, str], kind: Any = "nifti", **more: Any) -> VolumeJob:
    given = {"axis": None, "frame": None, **more}
    return VolumeJob("p1", kind, str(image), str(labels), tuple(names.items()), origin=ORIGIN, **given)


def slices_of(work: VolumeJob, choice: SliceChoice | None = None) -> list[Slice]:
    return [found for found in read_slices(work, choice or SliceChoice()) if isinstance(found, Slice)]


def unnamed(work: VolumeJob) -> list[str]:
    return [found.label for found in read_slices(work, SliceChoice()) if isinstance(found, Unnamed)]


def two_labels() -> np.ndarray:
    """A block, off every middle, that is largest on the slice 5 along z, and a rod along y."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:7, 3:9, 4:7] = 1
    labels[1:8, 2:11, 5] = 1
    labels[13:16, 1:20, 12:14] = 2
    return labels


# -- the choice -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "areas", "chosen"),
    [
        (SliceChoice(), [0, 3, 9, 9, 1], [2]),
        (SliceChoice(), [0, 0, 0], []),
        (SliceChoice(), [], []),
        (SliceChoice(every=1), [0, 3, 9, 0, 1], [1, 2, 4]),
        (SliceChoice(every=2), [5, 4, 9, 4, 5, 3], [0, 2, 4]),
        (SliceChoice(every=3), [5, 4, 9, 4, 5, 3], [2, 5]),
        (SliceChoice(every=1, most=2), [5, 4, 9, 4, 5, 3], [0, 2]),
        (SliceChoice(every=1, apart=3), [5, 4, 9, 4, 5, 3], [2, 5]),
        (SliceChoice(every=2, most=1), [5, 4, 9, 4, 5, 3], [2]),
    ],
)
def test_which_slices_are_chosen(choice: SliceChoice, areas: list[int], chosen: list[int]) -> None:
    assert choice.of(areas) == chosen


@given(
    st.lists(st.integers(0, 50), max_size=40),
    st.builds(SliceChoice, st.integers(0, 5), st.none() | st.integers(1, 6), st.integers(1, 6)),
)
def test_chosen_slices_have_the_label_and_keep_their_distance(areas: list[int], choice: SliceChoice) -> None:
    chosen = choice.of(areas)
    assert chosen == sorted(set(chosen))
    assert all(areas[index] for index in chosen)
    assert bool(chosen) == any(areas)
    assert not chosen or max(areas) in [areas[index] for index in chosen]
    assert choice.most is None or len(chosen) <= choice.most
    assert all(after - before >= max(choice.apart, choice.every) for before, after in itertools.pairwise(chosen))


@pytest.mark.parametrize("wrong", [{"every": -1}, {"most": 0}, {"apart": 0}])
def test_a_choice_of_nothing_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="chooses no slices"):
        SliceChoice(**wrong)


# -- NIfTI ------------------------------------------------------------------------------------------------------------


def save(path: Path, values: np.ndarray, code: str = "RAS", affine: np.ndarray | None = None) -> Path:
    """Save a RAS volume stored along other axes; voxels of 2 x 3 x 4 mm by default."""
    nib = pytest.importorskip("nibabel")
    way = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(code))
    stored = nib.orientations.apply_orientation(values, way)
    start = np.diag([2.0, 3.0, 4.0, 1.0]) if affine is None else affine
    nib.save(nib.Nifti1Image(stored, start @ nib.orientations.inv_ornt_aff(way, values.shape[:3])), path)
    return path


@pytest.mark.parametrize("code", CODES)
def test_masks_lie_where_the_reader_shows_the_labels(tmp_path: Path, code: str) -> None:
    labels = two_labels()
    # The picture shows the labels themselves, so that every pixel of a mask can be asked of the picture.
    image = save(tmp_path / "image.nii", labels * 100 + np.arange(SHAPE[2], dtype=np.uint8) % 2, code)
    stored = save(tmp_path / "labels.nii", labels, CODES[-1 - CODES.index(code)])
    for axis, cut in (("sagittal", 0), ("coronal", 1), ("axial", 2)):
        found = slices_of(job(image, stored, {"1": "block", "2": "rod"}, axis=axis), SliceChoice(every=2))
        assert {name for piece in found for name in piece.masks} == {"block", "rod"}
        for piece in found:
            shown = load_image(image, axis=axis, slice=piece.origin["slice"])  # type: ignore[arg-type]
            assert (piece.image.rgb == shown.rgb).all(), "another window, or another slice"
            for name, mask in piece.masks.items():
                low, high = (75, 150) if name == "block" else (175, 255)
                level = shown.rgb[..., 0].astype(int) * 201 // 255
                assert (mask == ((level >= low) & (level <= high))).all()
        block = [piece.origin["slice"] for piece in slices_of(job(image, stored, {"1": "block"}, axis=axis))]
        assert block == [int(np.argmax((labels == 1).sum(axis=tuple({0, 1, 2} - {cut}))))]


def test_a_packed_volume_and_a_plain_one_are_alike(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(-900, 900, SHAPE).astype(np.int16)
    found = []
    for ending in ("nii", "nii.gz"):
        image = save(tmp_path / f"image.{ending}", values)
        found.append(slices_of(job(image, save(tmp_path / f"labels.{ending}", two_labels()), {"1": "block"})))
    (plain,), (packed,) = found
    assert (plain.image.rgb == packed.image.rgb).all()
    assert plain.masks["block"].sum() == packed.masks["block"].sum() == 63
    assert plain.origin == {"axis": "axial", "slice": 5, "spacing_mm": [3.0, 2.0]}
    assert plain.name == "axial-0005"


def test_labels_of_one_name_are_one_target_and_those_without_are_told(tmp_path: Path) -> None:
    labels = two_labels()
    labels[4, 4, 5] = 3
    labels[0, 0, 0] = 200
    image = save(tmp_path / "image.nii", np.arange(labels.size, dtype=np.int16).reshape(SHAPE))
    work = job(image, save(tmp_path / "labels.nii", labels), {"1": "tumour", "3": "tumour", "9": "cyst"})
    (piece,) = slices_of(work)
    assert set(piece.masks) == {"tumour"}
    assert piece.masks["tumour"].sum() == 63
    assert unnamed(work) == ["2", "200"]


def test_a_volume_of_an_image_of_four_axes(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 900, (*SHAPE, 3)).astype(np.int16)
    nib = pytest.importorskip("nibabel")
    nib.save(nib.Nifti1Image(values, np.diag([2.0, 3.0, 4.0, 1.0])), tmp_path / "image.nii.gz")
    stored = save(tmp_path / "labels.nii", two_labels())
    (piece,) = slices_of(job(tmp_path / "image.nii.gz", stored, {"1": "block"}, frame=2))
    assert piece.origin["frame"] == 2
    assert (piece.image.rgb == load_image(tmp_path / "image.nii.gz", axis="axial", slice=5, frame=2).rgb).all()


def _other_grid(folder: Path) -> None:
    save(folder / "labels.nii", two_labels(), affine=np.diag([2.0, 3.0, 4.3, 1.0]))


def _moved(folder: Path) -> None:
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    affine[0, 3] = 1.5
    save(folder / "labels.nii", two_labels(), affine=affine)


def _smaller(folder: Path) -> None:
    save(folder / "labels.nii", two_labels()[:, :, :-1])


def _probabilities(folder: Path) -> None:
    save(folder / "labels.nii", two_labels().astype(np.float32) / 3)


def _four_axes(folder: Path) -> None:
    nib = pytest.importorskip("nibabel")
    nib.save(nib.Nifti1Image(np.stack([two_labels()] * 2, -1), np.diag([2.0, 3.0, 4.0, 1.0])), folder / "labels.nii")


def _cut_off(folder: Path) -> None:
    (folder / "labels.nii").write_bytes((folder / "labels.nii").read_bytes()[:-900])


def _no_nifti(folder: Path) -> None:
    (folder / "labels.nii").write_text("labels")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_other_grid, r"doesn't lie on the grid of .*image\.nii; resample the labels onto it"),
        (_moved, "doesn't lie on the grid"),
        (_smaller, "doesn't lie on the grid"),
        (_probabilities, "save labels, not probabilities"),
        (_four_axes, "has 2 volumes; save one"),
        (_cut_off, "can't be read as labels"),
        (_no_nifti, "can't be read as labels"),
    ],
)
def test_labels_that_dont_fit_are_refused(tmp_path: Path, spoil: Any, said: str) -> None:
    image = save(tmp_path / "image.nii", np.arange(two_labels().size, dtype=np.int16).reshape(SHAPE))
    save(tmp_path / "labels.nii", two_labels())
    spoil(tmp_path)
    with pytest.raises(TruthError, match=f"labels.nii: .*{said}"):
        slices_of(job(image, tmp_path / "labels.nii", {"1": "block"}))


def test_headers_that_were_rounded_are_the_same_grid(tmp_path: Path) -> None:
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    affine[:3, 3] += 0.01
    image = save(tmp_path / "image.nii", np.arange(two_labels().size, dtype=np.int16).reshape(SHAPE))
    assert slices_of(job(image, save(tmp_path / "labels.nii", two_labels(), affine=affine), {"1": "block"}))


def test_an_image_that_is_cut_off_is_told(tmp_path: Path) -> None:
    image = save(tmp_path / "image.nii.gz", np.random.default_rng(0).integers(0, 900, SHAPE).astype(np.int16))
    image.write_bytes(image.read_bytes()[:-99])
    with pytest.raises(ImageError, match=r"image\.nii\.gz: is damaged or truncated"):
        slices_of(job(image, save(tmp_path / "labels.nii", two_labels()), {"1": "block"}))
    with pytest.raises(ImageError, match=r"gone\.nii: can't be opened"):
        slices_of(job(tmp_path / "gone.nii", tmp_path / "labels.nii", {"1": "block"}))


# -- DICOM-SEG --------------------------------------------------------------------------------------------------------


def series(folder: Path, values: np.ndarray, *, place: bool = True) -> list[Any]:
    """Write a CT series, shape (slices, rows, columns), with files in no order; first slice at the feet."""
    pydicom = pytest.importorskip("pydicom")
    folder.mkdir(parents=True)
    sets = []
    for index, plane in enumerate(values):
        one = pydicom.Dataset()
        one.file_meta = pydicom.dataset.FileMetaDataset()
        one.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        one.SOPClassUID, one.SOPInstanceUID = pydicom.uid.CTImageStorage, f"1.2.3.4.{97 - index}"
        one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = "1.2.3", "1.2.3.1", "1.2.3.2"
        one.PatientID, one.PatientName, one.Modality = "P1", "Nobody^Drawn", "CT"
        one.PatientBirthDate = one.PatientSex = one.AccessionNumber = one.StudyID = ""
        one.StudyDate = one.StudyTime = ""
        one.InstanceNumber = len(values) - index
        one.Rows, one.Columns = plane.shape
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 1
        if place:
            one.ImagePositionPatient = [-30.0, -40.0, 3.0 * index]
            one.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
            one.PixelSpacing, one.SliceThickness = [0.8, 0.8], 3.0
        one.PixelData = plane.astype(np.int16).tobytes()
        one["PixelData"].VR = "OW"
        one.save_as(folder / f"IM{(index * 7) % len(values):03d}", enforce_file_format=True)
        sets.append(one)
    return sets


def segmentation(path: Path, sources: list[Any], masks: np.ndarray, labels: list[str], kind: str, **more: Any) -> Path:
    """Write a DICOM-SEG by highdicom; masks of shape (slices, rows, columns, segments)."""
    hd = pytest.importorskip("highdicom", reason="highdicom isn't installed: pip install 'medground[dicom]'")
    from pydicom.sr.codedict import codes

    described = [
        hd.seg.SegmentDescription(
            segment_number=number, segment_label=label, segmented_property_category=codes.SCT.Organ,
            segmented_property_type=codes.SCT.Liver, algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, label in enumerate(labels, 1)
    ]  # fmt: skip
    hd.seg.Segmentation(
        sources, masks, kind, described, series_instance_uid=hd.UID(), series_number=2, sop_instance_uid=hd.UID(),
        instance_number=1, manufacturer="drawn", manufacturer_model_name="drawn", software_versions="1",
        device_serial_number="1", **more,
    ).save_as(path)  # fmt: skip
    return path


def drawn_masks(slices: int = 9) -> np.ndarray:
    masks = np.zeros((slices, 30, 40, 2), np.uint8)
    for index in range(2, 7):
        masks[index, 5 : 9 + index, 10:22, 0] = 1  # grows towards slice 6
    masks[4, 6:12, 12:16, 1] = 1  # overlaps the first
    return masks


def ramps(slices: int = 9) -> np.ndarray:
    rows, columns = np.mgrid[:30, :40]
    return np.stack([rows * 20 + columns * 3 - 400 + 50 * index for index in range(slices)])


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
def test_segments_lie_on_their_source_images(tmp_path: Path, kind: str) -> None:
    masks = drawn_masks()
    sources = series(tmp_path / "CT", ramps())
    (tmp_path / "CT" / "README.txt").write_text("not a picture")
    (tmp_path / "CT" / ".DS_Store").write_bytes(b"\0")
    chosen = masks.astype(np.float64) if kind == "FRACTIONAL" else masks
    path = segmentation(tmp_path / "seg.dcm", sources, chosen, ["Liver", "Cyst"], kind)
    found = slices_of(job(tmp_path / "CT", path, {}, kind="dicom-seg"))
    assert [(piece.name, sorted(piece.masks)) for piece in found] == [
        ("slice-0004", ["Cyst"]),
        ("slice-0006", ["Liver"]),
    ]
    for piece, segment in zip(found, (1, 0), strict=True):
        index = piece.origin["slice"]
        (mask,) = piece.masks.values()
        assert (mask == (masks[index, ..., segment] > 0)).all()
        assert piece.origin == {"slice": index, "file": f"IM{(index * 7) % 9:03d}", "spacing_mm": [0.8, 0.8]}
        assert (piece.image.rgb == load_image(tmp_path / "CT" / piece.origin["file"]).rgb).all()


def test_a_label_map_without_overlaps_reads_alike(tmp_path: Path) -> None:
    masks = drawn_masks()
    masks[4, 6:12, 12:16, 0] = 0
    sources = series(tmp_path / "CT", ramps())
    path = segmentation(tmp_path / "seg.dcm", sources, masks, ["Liver", "Cyst"], "LABELMAP")
    work = job(tmp_path / "CT", path, {}, kind="dicom-seg")
    for piece in slices_of(work, SliceChoice(every=1)):
        for name, mask in piece.masks.items():
            assert (mask == (masks[piece.origin["slice"], ..., ["Liver", "Cyst"].index(name)] > 0)).all()
    assert len(slices_of(work, SliceChoice(every=1))) == 5


def test_segments_are_named_by_label_or_number(tmp_path: Path) -> None:
    sources = series(tmp_path / "CT", ramps())
    path = segmentation(tmp_path / "seg.dcm", sources, drawn_masks(), ["Liver", "Cyst"], "BINARY")
    both = job(tmp_path / "CT", path, {"Liver": "abdomen", "2": "abdomen"}, kind="dicom-seg")
    (piece,) = slices_of(both)
    assert set(piece.masks) == {"abdomen"}
    one = job(tmp_path / "CT", path, {"2": "renal cyst"}, kind="dicom-seg")
    assert [set(piece.masks) for piece in slices_of(one)] == [{"renal cyst"}]
    assert unnamed(one) == ["Liver"]


def test_frames_of_a_multi_frame_image(tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    (source,) = series(tmp_path / "one", ramps(1))
    source.SOPClassUID = pydicom.uid.EnhancedCTImageStorage
    source.NumberOfFrames = 5
    source.PixelData = ramps(5).astype(np.int16).tobytes()
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(source, keyword)
    shared, measures, way = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.8, 0.8], 3.0
    way.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [way]
    source.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for index in range(5):
        frame, place = pydicom.Dataset(), pydicom.Dataset()
        place.ImagePositionPatient = [-30.0, -40.0, 3.0 * index]
        frame.PlanePositionSequence = [place]
        frames.append(frame)
    source.PerFrameFunctionalGroupsSequence = frames
    (tmp_path / "CT").mkdir()
    source.save_as(tmp_path / "CT" / "all.dcm", enforce_file_format=True)
    masks = drawn_masks(7)[2:]
    path = segmentation(tmp_path / "seg.dcm", [source], masks, ["Liver", "Cyst"], "BINARY")
    found = slices_of(job(tmp_path / "CT", path, {}, kind="dicom-seg"))
    assert [(piece.origin["frame"], sorted(piece.masks)) for piece in found] == [(2, ["Cyst"]), (4, ["Liver"])]
    for piece, segment in zip(found, (1, 0), strict=True):
        (mask,) = piece.masks.values()
        assert (mask == (masks[piece.origin["frame"], ..., segment] > 0)).all()
        assert (piece.image.rgb == load_image(tmp_path / "CT" / "all.dcm", frame=piece.origin["frame"]).rgb).all()


def _remove_one(folder: Path) -> None:
    (folder / "CT" / "IM001").unlink()


def _move_sources(folder: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    for path in (folder / "CT").iterdir():
        one = pydicom.dcmread(path)
        one.ImagePositionPatient[0] += 1
        one.save_as(path)


def _resample(folder: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    one = pydicom.dcmread(folder / "seg.dcm")
    one.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [0.4, 0.4]
    one.save_as(folder / "seg.dcm")


def _forget_sources(folder: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    one = pydicom.dcmread(folder / "seg.dcm")
    for group in one.PerFrameFunctionalGroupsSequence:
        del group.DerivationImageSequence
    one.save_as(folder / "seg.dcm")


def _name_nothing(folder: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    one = pydicom.dcmread(folder / "seg.dcm")
    del one.ReferencedSeriesSequence
    one.save_as(folder / "seg.dcm")


def _no_segmentation(folder: Path) -> None:
    (folder / "seg.dcm").write_bytes((folder / "CT" / "IM000").read_bytes())


def _no_dicom(folder: Path) -> None:
    (folder / "seg.dcm").write_text("Nobody^Drawn")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_remove_one, "1 of the 9 images that it was made on aren't in"),
        (_move_sources, "isn't on the pixels of the source series"),
        (_resample, "isn't on the pixels of the source series"),
        (_forget_sources, "don't tell on which source image each lies"),
        (_name_nothing, "doesn't name the images that it was made on"),
        (_no_segmentation, "isn't a readable DICOM-SEG"),
        (_no_dicom, "isn't a readable DICOM-SEG"),
    ],
)
def test_segmentations_that_dont_fit_are_refused_without_a_word_of_the_patient(
    tmp_path: Path, spoil: Any, said: str
) -> None:
    sources = series(tmp_path / "CT", ramps())
    segmentation(tmp_path / "seg.dcm", sources, drawn_masks(), ["Liver", "Cyst"], "BINARY")
    spoil(tmp_path)
    with pytest.raises(TruthError, match=said) as caught:
        slices_of(job(tmp_path / "CT", tmp_path / "seg.dcm", {}, kind="dicom-seg"))
    assert "Nobody" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(("kind", "package"), [("nifti", "nibabel"), ("dicom-seg", "highdicom")])
def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, package: str) -> None:
    image = save(tmp_path / "image.nii", two_labels())
    for module in (package, f"{package}.orientations", f"{package}.seg"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=package):
        slices_of(job(image, image, {"1": "block"}, kind=kind))
