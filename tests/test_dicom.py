"""DICOM-SEG and SR beside their source: written, read again with pydicom and highdicom, and held against the source."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from conftest import FillingSegmenter, ScriptedReasoner
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes
from pydicom.uid import (
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    RTDoseStorage,
    SegmentationStorage,
    UltrasoundMultiFrameImageStorage,
)
from test_volumes import job, slices_of

from medground import RESEARCH_USE, MedGround, image_files, load_image
from medground.coords import Space
from medground.dicom import coded, make_dicom, named_target, save_dicom
from medground.dicom.codes import _known
from medground.errors import ConfigError, ImageError, MedgroundError, MissingExtraError
from medground.taxonomy import load_targets
from medground.types import Box, Grounding, Point, Result

hd = pytest.importorskip("highdicom", reason="highdicom isn't installed: pip install 'medground[dicom]'")
FILES = Path(pydicom.__file__).parent / "data" / "test_files"
CT = FILES / "CT_small.dcm"
SHAPE = (40, 50)


def item(**elements: Any) -> Dataset:
    made = Dataset()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


def drawn(folder: Path, sop_class: str, frames: int | None = None, **elements: Any) -> Path:
    """A DICOM image of ramps, one or many frames, with nothing in it but what is given."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    values = np.stack([rows * 3 + columns + 20 * index for index in range(frames or 1)]).astype(np.uint16)
    made = item(
        SOPClassUID=sop_class, SOPInstanceUID="1.2.3.4", StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.1",
        Rows=SHAPE[0], Columns=SHAPE[1], SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2", BitsAllocated=16,
        BitsStored=16, HighBit=15, PixelRepresentation=0, **({} if frames is None else {"NumberOfFrames": frames}),
    )  # fmt: skip
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    made.PixelData = values.tobytes()
    made["PixelData"].VR = "OW"
    made.file_meta = pydicom.dataset.FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.save_as(folder / "source.dcm", enforce_file_format=True)
    return folder / "source.dcm"


def enhanced(folder: Path) -> Path:
    """Five slices in one file, placed by functional groups, with spacing that isn't square."""
    shared = item(
        PixelMeasuresSequence=[item(PixelSpacing=[0.5, 0.75], SliceThickness=3)],
        PlaneOrientationSequence=[item(ImageOrientationPatient=[0, 1, 0, 0, 0, -1])],
    )
    own = [item(PlanePositionSequence=[item(ImagePositionPatient=[10 + 3 * n, -20, 5])]) for n in range(5)]
    return drawn(
        folder, EnhancedMRImageStorage, 5, FrameOfReferenceUID="1.2.9", SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=own, PatientName="Ähre^Ö", SpecificCharacterSet="ISO_IR 100",
    )  # fmt: skip


def blob(shape: tuple[int, int]) -> np.ndarray:
    """A shape that no flip, turn or shift of it equals."""
    mask = np.zeros(shape, bool)
    mask[5:17, 8:30] = True
    mask[17:21, 8:12] = True
    mask[0, shape[1] - 1] = True
    return mask


def answer(path: Path, mask: bool = True, frame: int | None = None, absent: bool = False) -> Result:
    image = load_image(path, frame=frame)
    space = image.space
    said = Grounding("It is bright — and low.", (Box(7.5, 4, 31, 22.25, space),), (Point(12.5, 9.5, space),), space)
    if absent:
        said = Grounding("It isn't there.", (), (), space, absent=True)
    where = blob(image.rgb.shape[:2]) if mask else None
    return Result(said, where, "nano", "litemedsam" if mask else "none", provenance=image.provenance)


def groups_of(path: Path) -> list[Any]:
    return hd.sr.srread(path).content.get_planar_roi_measurement_groups()  # type: ignore[no-any-return]


def measured(group: Any) -> dict[str, tuple[float, str]]:
    return {found.name.meaning: (float(found.value), found.unit.value) for found in group.get_measurements()}


def pixels(seg: Any, uid: str, frame: int | None) -> np.ndarray:
    if frame is None:
        planes = seg.get_pixels_by_source_instance([uid], segment_numbers=[1], ignore_spatial_locations=True)
    else:
        planes = seg.get_pixels_by_source_frame(uid, [frame], segment_numbers=[1], ignore_spatial_locations=True)
    return np.asarray(planes[0, ..., 0])


def test_a_ct_slice(tmp_path: Path) -> None:
    result, source = answer(CT), dcmread(CT)
    saved = save_dicom(result, CT, tmp_path / "out", target="kidney left")
    assert saved.seg == tmp_path / "out" / "CT_small.seg.dcm"
    assert saved.sr == tmp_path / "out" / "CT_small.sr.dcm"
    seg = hd.seg.segread(saved.seg)
    assert (seg.SOPClassUID, seg.SegmentationType, seg.NumberOfFrames) == (SegmentationStorage, "BINARY", 1)
    assert (dcmread(saved.seg).pixel_array == result.mask).all()
    assert (pixels(seg, source.SOPInstanceUID, None) == result.mask).all()
    # On the source's own geometry, in the source's study, in a series of its own.
    shared, own = seg.SharedFunctionalGroupsSequence[0], seg.PerFrameFunctionalGroupsSequence[0]
    assert own.PlanePositionSequence[0].ImagePositionPatient == source.ImagePositionPatient
    assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == source.ImageOrientationPatient
    assert shared.PixelMeasuresSequence[0].PixelSpacing == source.PixelSpacing
    assert shared.PixelMeasuresSequence[0].SliceThickness == source.SliceThickness
    assert seg.FrameOfReferenceUID == source.FrameOfReferenceUID
    assert seg.StudyInstanceUID == source.StudyInstanceUID
    assert seg.SeriesInstanceUID not in (source.SeriesInstanceUID, dcmread(saved.sr).SeriesInstanceUID)
    reference = own.DerivationImageSequence[0].SourceImageSequence[0]
    assert reference.ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert "ReferencedFrameNumber" not in reference
    # What it is, and who says so.
    segment = seg.SegmentSequence[0]
    assert segment.SegmentLabel == "kidney left"
    assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue == codes.SCT.AnatomicalStructure.value
    kind = segment.SegmentedPropertyTypeCodeSequence[0]
    assert (kind.CodeValue, kind.CodingSchemeDesignator) == ("64033007", "SCT")
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeValue == codes.SCT.Left.value
    assert segment.SegmentAlgorithmType == "AUTOMATIC"
    assert segment.SegmentAlgorithmName == "medground: nano + litemedsam"
    assert segment.SegmentDescription == seg.ImageComments == RESEARCH_USE
    assert "research use only" in seg.SeriesDescription


def test_the_report_of_a_ct_slice(tmp_path: Path) -> None:
    result, source = answer(CT), dcmread(CT)
    saved = save_dicom(result, CT, tmp_path, target="liver", stem="a")
    assert saved.seg is not None
    report, seg = dcmread(saved.sr), dcmread(saved.seg)
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    mask, box, point = groups_of(saved.sr)
    down, across = (float(value) for value in source.PixelSpacing)
    count = int(result.mask.sum())
    assert measured(mask) == {
        "Area": (pytest.approx(count * down * across), "mm2"),
        "Width": (pytest.approx((source.Columns - 8) * across), "mm"),
        "Height": (pytest.approx(21 * down), "mm"),
    }
    assert measured(box) == {
        "Width": (pytest.approx(23.5 * across), "mm"),
        "Height": (pytest.approx(18.25 * down), "mm"),
    }
    assert measured(point) == {}
    frame = mask.referenced_segmentation_frame
    assert frame.referenced_sop_instance_uid == seg.SOPInstanceUID
    assert mask.tracking_uid == seg.SegmentSequence[0].TrackingUID
    assert box.roi.graphic_type == hd.sr.GraphicTypeValues.POLYLINE
    corners = [[7.5, 4], [31, 4], [31, 22.25], [7.5, 22.25], [7.5, 4]]
    assert box.roi.value.tolist() == corners
    assert point.roi.graphic_type == hd.sr.GraphicTypeValues.POINT
    assert point.roi.value.tolist() == [[12.5, 9.5]]
    for group in (mask, box, point):
        assert group.finding_type == codes.SCT.Liver
        assert group.finding_category == codes.SCT.AnatomicalStructure
    chosen = box.roi.ContentSequence[0].ReferencedSOPSequence[0]
    assert chosen.ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert "ReferencedFrameNumber" not in chosen
    evidence = {
        instance.ReferencedSOPInstanceUID
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    assert evidence == {source.SOPInstanceUID, seg.SOPInstanceUID}
    said = [part.TextValue for part in report.ContentSequence if part.ValueType == "TEXT"]
    assert said[-2:] == [RESEARCH_USE, "Reasoning of nano: It is bright — and low."]
    assert report.VerificationFlag == "UNVERIFIED"


@pytest.mark.parametrize("frame", [0, 3])
def test_one_frame_of_many(tmp_path: Path, frame: int) -> None:
    (tmp_path / "study").mkdir()
    path = enhanced(tmp_path / "study")
    result = answer(path, frame=frame)
    saved = save_dicom(result, path, tmp_path, target="glioma")
    assert saved.seg is not None
    seg = hd.seg.segread(saved.seg)
    assert seg.NumberOfFrames == 1
    assert (pixels(seg, "1.2.3.4", frame + 1) == result.mask).all()
    shared, own = seg.SharedFunctionalGroupsSequence[0], seg.PerFrameFunctionalGroupsSequence[0]
    assert own.PlanePositionSequence[0].ImagePositionPatient == [10 + 3 * frame, -20, 5]
    assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == [0, 1, 0, 0, 0, -1]
    assert shared.PixelMeasuresSequence[0].PixelSpacing == [0.5, 0.75]
    assert own.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber == frame + 1
    assert [one.ReferencedFrameNumber for one in seg.SourceImageSequence] == [frame + 1]
    [read] = slices_of(job(path.parent, saved.seg, {}, kind="dicom-seg"))  # as a data build reads it
    assert read.origin["frame"] == frame
    assert (read.masks["glioma"] == result.mask).all()
    kind = seg.SegmentSequence[0]
    assert kind.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Neoplasm"
    assert kind.AnatomicRegionSequence[0].CodeMeaning == "Brain"
    assert str(seg.PatientName) == "Ähre^Ö"
    mask, box, point = groups_of(saved.sr)
    assert measured(box)["Width"] == (pytest.approx(23.5 * 0.75), "mm")
    assert [site.value for site in mask.finding_sites] == [codes.SCT.Brain]
    for group in (box, point):
        assert group.roi.ContentSequence[0].ReferencedSOPSequence[0].ReferencedFrameNumber == frame + 1


def test_a_frame_of_a_loop_without_any_geometry(tmp_path: Path) -> None:
    path = drawn(tmp_path, UltrasoundMultiFrameImageStorage, 4)
    result = answer(path, frame=2)
    saved = save_dicom(result, path, tmp_path)
    assert saved.seg is not None
    seg = hd.seg.segread(saved.seg)
    assert (pixels(seg, "1.2.3.4", 3) == result.mask).all()
    assert "FrameOfReferenceUID" not in seg
    assert "PixelMeasuresSequence" not in seg.SharedFunctionalGroupsSequence[0]
    assert seg.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Tissue"
    assert measured(groups_of(saved.sr)[0])["Area"] == (float(result.mask.sum()), "{pixels}")


@pytest.mark.parametrize(
    ("elements", "unit"),
    [
        ({}, "{pixels}"),
        ({"ImagerPixelSpacing": [0.2, 0.2]}, "{pixels}"),
        ({"ImagerPixelSpacing": [0.2, 0.2], "PixelSpacing": [0.2, 0.2]}, "{pixels}"),
        ({"ImagerPixelSpacing": [0.2, 0.2], "PixelSpacing": [0.18, 0.18]}, "mm2"),
    ],
)
def test_a_radiograph(tmp_path: Path, elements: dict[str, Any], unit: str) -> None:
    path = drawn(
        tmp_path, DigitalXRayImageStorageForPresentation, PhotometricInterpretation="MONOCHROME1",
        FrameOfReferenceUID="1.2.9", **elements,
    )  # fmt: skip
    result = answer(path)
    saved = save_dicom(result, path, tmp_path, target="left lung")
    assert saved.seg is not None
    seg = hd.seg.segread(saved.seg)
    assert (pixels(seg, "1.2.3.4", None) == result.mask).all()
    assert seg.PhotometricInterpretation == "MONOCHROME2"
    assert seg.FrameOfReferenceUID == "1.2.9"
    assert "PlanePositionSequence" not in seg.PerFrameFunctionalGroupsSequence[0]
    assert measured(groups_of(saved.sr)[0])["Area"][1] == unit


def test_a_slice_that_is_placed_only_in_part(tmp_path: Path) -> None:
    position = {"ImagePositionPatient": [1, 2, 3], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
    for elements in (position, {"PixelSpacing": [0.5, 0.5]}, {"PixelSpacing": [0.5, 0.5], **position}):
        path = drawn(tmp_path, CTImageStorage, FrameOfReferenceUID="1.2.9", **elements)
        result = answer(path)
        saved = save_dicom(result, path, tmp_path)
        assert saved.seg is not None
        seg = hd.seg.segread(saved.seg)
        assert (pixels(seg, "1.2.3.4", None) == result.mask).all()
        assert "PlanePositionSequence" not in seg.PerFrameFunctionalGroupsSequence[0]
        assert measured(groups_of(saved.sr)[0])["Area"][1] == ("mm2" if "PixelSpacing" in elements else "{pixels}")


def test_nothing_of_the_patient_is_made_up_or_needlessly_copied(tmp_path: Path) -> None:
    path = drawn(
        tmp_path, DigitalXRayImageStorageForPresentation, PatientID="X7", PatientSex="F",
        PatientIdentityRemoved="YES", PatientAge="033Y",
        InstitutionName="Some Clinic", OperatorsName="Some^One", PatientComments="private", StudyDescription="private",
        Manufacturer="A maker", StationName="private", DeviceSerialNumber="private",
    )  # fmt: skip
    saved = save_dicom(answer(path), path, tmp_path)
    for file in (saved.seg, saved.sr):
        assert file is not None
        made = dcmread(file)
        assert (made.PatientID, made.PatientSex, made.PatientIdentityRemoved) == ("X7", "F", "YES")
        for keyword in ("PatientName", "PatientBirthDate", "StudyDate", "StudyTime", "StudyID", "AccessionNumber"):
            assert made[keyword].value in (None, "")
        for secret in (b"Some Clinic", b"Some^One", b"private", b"033Y", b"A maker"):
            assert secret not in file.read_bytes()


def test_what_is_in_no_form_of_the_standard_stays_empty(tmp_path: Path) -> None:
    old = FILES / "ExplVR_BigEnd.dcm"  # of 1994: big endian, its time written "14:04:38"
    saved = save_dicom(answer(old), old, tmp_path)
    made = dcmread(saved.sr)
    assert made.StudyTime in (None, "")
    assert dcmread(old)["StudyTime"].value == "14:04:38"
    assert groups_of(saved.sr)


def test_a_position_for_the_first_frame_is_not_taken_for_another(tmp_path: Path) -> None:
    path = drawn(
        tmp_path, RTDoseStorage, 3, FrameOfReferenceUID="1.2.9", PixelSpacing=[2, 2], SliceThickness=3,
        ImagePositionPatient=[1, 2, 3], ImageOrientationPatient=[1, 0, 0, 0, 1, 0], GridFrameOffsetVector=[0, 3, 6],
    )  # fmt: skip
    seg, _ = make_dicom(answer(path, frame=1), path)
    assert seg is not None
    assert "PlanePositionSequence" not in seg.PerFrameFunctionalGroupsSequence[0]


def test_nothing_reaches_logs_or_warnings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = drawn(tmp_path, DigitalXRayImageStorageForPresentation, PatientName="SURNAME")
    caplog.set_level(0)
    with warnings.catch_warnings(record=True) as heard:
        save_dicom(answer(path), path, tmp_path)
    assert not caplog.records
    assert not heard


def test_without_a_mask_the_report_stands_alone(tmp_path: Path) -> None:
    save_dicom(answer(CT), CT, tmp_path)
    saved = save_dicom(answer(CT, mask=False), CT, tmp_path)
    assert saved.seg is None
    assert not (tmp_path / "CT_small.seg.dcm").exists()
    assert [group.tracking_identifier for group in groups_of(saved.sr)] == ["box 1", "key point 1"]


def test_the_pipeline_s_own_result(tmp_path: Path) -> None:
    result = MedGround(ScriptedReasoner(), FillingSegmenter()).ground(CT, "Where is it?")
    seg, report = make_dicom(result, CT, target="spleen")
    assert seg is not None
    assert (hd.seg.Segmentation.from_dataset(seg).pixel_array == result.mask).all()
    assert len(report.ContentSequence[-1].TextValue) > 0


def ran(*command: str | Path) -> None:
    told = subprocess.run([str(part) for part in command], check=False, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr


@pytest.mark.parametrize("frame", [None, 3])
def test_dcmqi_reads_both(tmp_path: Path, frame: int | None) -> None:
    reader = shutil.which("segimage2itkimage", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if reader is None:
        pytest.skip("dcmqi isn't installed: pip install dcmqi")
    nibabel = pytest.importorskip("nibabel")
    path = CT if frame is None else enhanced(tmp_path)
    result = answer(path, frame=frame)
    saved = save_dicom(result, path, tmp_path, target="spleen", stem="a")
    assert saved.seg is not None
    (tmp_path / "read").mkdir()
    ran(reader, "--inputDICOM", saved.seg, "--outputDirectory", tmp_path / "read", "-t", "nii")
    [volume] = (tmp_path / "read").glob("*.nii.gz")
    read = nibabel.load(volume)
    assert result.mask is not None
    assert (np.asarray(read.dataobj)[..., 0].T.astype(bool) == result.mask).all()
    [told] = (tmp_path / "read").glob("*.json")
    segment = json.loads(told.read_text())["segmentAttributes"][0][0]
    assert segment["SegmentedPropertyTypeCodeSequence"]["CodeMeaning"] == "Spleen"
    ran(Path(reader).with_name("tid1500reader"), "--inputDICOM", saved.sr, "--outputMetadata", tmp_path / "sr.json")
    groups = json.loads((tmp_path / "sr.json").read_text())["Measurements"]
    measured_area = [item for item in groups[0]["measurementItems"] if item["quantity"]["CodeMeaning"] == "Area"]
    assert measured_area[0]["units"]["CodeValue"] == "mm2"
    down, across = (0.661468, 0.661468) if frame is None else (0.5, 0.75)
    assert float(measured_area[0]["value"]) == pytest.approx(result.mask.sum() * down * across, rel=1e-5)


def refused(kind: type[MedgroundError], result: Result, path: Path, folder: Path, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        save_dicom(result, path, folder / "out", **options)
    assert not (folder / "out").exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_no_source_is_refused(tmp_path: Path) -> None:
    result = answer(CT)
    png = tmp_path / "a.png"
    png.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(600))
    assert "a.png is a PNG" in refused(ImageError, result, png, tmp_path)
    assert "doesn't exist" in refused(ImageError, result, tmp_path / "none.dcm", tmp_path)
    other = refused(ConfigError, result, FILES / "MR_small.dcm", tmp_path)
    assert "MR_small.dcm" in other
    assert "SOPInstanceUID" in other
    path = drawn(tmp_path, CTImageStorage)
    stripped = dcmread(path)
    del stripped.SeriesInstanceUID
    stripped.save_as(path)
    lacking = refused(ImageError, answer(path), path, tmp_path)
    assert "source.dcm is a DICOM without a valid SeriesInstanceUID" in lacking
    path = drawn(tmp_path, CTImageStorage)
    assert "source.dcm is a DICOM without the FrameOfReferenceUID" in refused(ImageError, answer(path), path, tmp_path)
    path = drawn(tmp_path, CTImageStorage, 3)
    assert "holds 3 frames (NumberOfFrames)" in refused(ImageError, answer(path, frame=1), path, tmp_path)
    path = drawn(tmp_path, "1.2.3.999")
    assert "(SOPClassUID)" in refused(ImageError, answer(path), path, tmp_path)


def test_what_holds_no_region_is_refused(tmp_path: Path) -> None:
    assert "fields bbox, points, mask" in refused(ConfigError, answer(CT, mask=False, absent=True), CT, tmp_path)
    plain = Result(Grounding("", (), (), Space.pixels(128, 128)), None, "nano", "none")
    assert "CT_small.dcm" in refused(ConfigError, plain, CT, tmp_path)


def test_highdicom_is_optional(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "highdicom", None)
    assert "medground[dicom]" in refused(MissingExtraError, answer(CT), CT, tmp_path)


def test_every_code_is_in_the_dictionary() -> None:
    targets = load_targets()
    assert _known().keys() <= targets.keys()
    for name, table in _known().items():
        assert table.keys() <= {"type", "site"}
        assert table
        for keyword in table.values():
            assert getattr(codes.SCT, keyword).scheme_designator == "SCT", name
    for target in targets.values():
        for category in target.categories:
            found = coded(category)
            assert found.type.scheme_designator == "SCT"
            assert (found.category == codes.SCT.AnatomicalStructure) is target.healthy


@pytest.mark.parametrize(
    ("target", "label"),
    [(None, "region"), ("", "region"), ("a\\b\n c", "a/b c"), ("x" * 90, "x" * 64), ("\x00\x1b", "region")],
)
def test_other_words_become_a_label(target: str | None, label: str) -> None:
    found = coded(target)
    assert (found.label, found.type, found.site, found.side) == (label, codes.SCT.Tissue, None, None)


@pytest.mark.parametrize(
    ("reasoning", "target"),
    [
        ("The spleen filters blood below the diaphragm, beside the stomach.", "spleen"),
        ("A glioma grows from supporting cells within the brain.", "glioma"),
        ("Left kidney: bean-shaped.", "kidney left"),
        ("Bile is made by what lies under the diaphragm, so this is the liver.", "liver"),
        ("Either the liver or the spleen.", None),
        ("It is bright, and low.", None),
        ("", None),
    ],
)
def test_what_a_reasoning_is_about(reasoning: str, target: str | None) -> None:
    assert named_target(reasoning) == target


def test_the_reasoning_names_what_nobody_else_does() -> None:
    result = answer(CT)
    spoken = replace(result, grounding=replace(result.grounding, reasoning="The spleen filters blood."))
    for target, meaning in ((None, "Spleen"), ("liver", "Liver")):
        seg, _ = make_dicom(spoken, CT, target=target)
        assert seg is not None
        assert seg.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeMeaning == meaning


def test_every_logger_that_may_quote_a_patient_is_kept_quiet() -> None:
    loggers = set()
    for name in ("highdicom", "pydicom", "dicomweb_client"):
        package = Path(pytest.importorskip(name).__file__ or "").parent
        for file in package.rglob("*.py"):
            if "getLogger(__name__)" in file.read_text(encoding="utf-8"):
                loggers.add(".".join((name, *file.relative_to(package).with_suffix("").parts)))
    unheard = {"dicomweb_client.cli", "dicomweb_client.file"}  # of its own command line, and of files on a disk
    assert loggers - unheard <= set(image_files._LOUD)
    assert len(loggers) > 15


def test_a_highdicom_without_its_table_of_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = answer(CT)
    monkeypatch.setitem(__import__("sys").modules, "highdicom._standard_utils", None)
    assert "highdicom==0.28" in refused(ConfigError, result, CT, tmp_path)
