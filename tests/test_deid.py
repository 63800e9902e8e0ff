"""De-identification held against the profile's own table: no planted word survives anywhere in the written bytes."""

from __future__ import annotations

import json
import shutil
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from medground.deid_cli import deid as deid_command
from medground.errors import ConfigError, ImageError

pydicom = pytest.importorskip("pydicom", reason="pydicom isn't installed: pip install 'medground[dicom]'")

from pydicom import Dataset, dcmread  # noqa: E402
from pydicom.datadict import dictionary_has_tag, dictionary_VR  # noqa: E402
from pydicom.encaps import encapsulate, generate_frames  # noqa: E402
from pydicom.uid import (  # noqa: E402
    CTImageStorage,
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
)

from medground.dicom.deid import Deidentifier  # noqa: E402
from medground.dicom.deid_folder import deid_folder  # noqa: E402
from medground.dicom.profile import action_of, load_profile  # noqa: E402

FILES = Path(pydicom.__file__).parent / "data" / "test_files"
CT = FILES / "CT_small.dcm"
KEY = bytes(range(32))
# What makes the file a picture; it can't hold a word and still be read.
SKELETON = {0x0020000D, 0x0020000E, 0x00080018, 0x00020003}
UIDS = {0x0020000D: "1.2.3.77001", 0x0020000E: "1.2.3.77002", 0x00080018: "1.2.3.77003"}


def planted(vr: str, number: int, word: str) -> tuple[Any, list[bytes]]:
    """A value for an element that holds a word of its own, and the bytes by which it would be found."""
    text = f"{word}{number}"
    if vr in ("AE", "SH"):
        text = text[:16]
    if vr == "CS":
        text = f"Q{number}Q"
    if vr in ("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"):
        return text, [text.encode()]
    if vr == "DA":
        return f"1923{1 + number % 12:02d}{1 + number % 28:02d}", [b"1923"]
    if vr == "TM":
        return "131723.377113", [b"131723"]
    if vr == "DT":
        return "19231104131723.377113", [b"1923110413"]
    if vr == "AS":
        return "077Y", [b"077Y"]
    if vr in ("DS", "IS"):
        return "77377", [b"77377"]
    if vr == "UI":
        uid = f"1.2.826.0.77377.{number}"
        return uid, [uid.encode()]
    if vr in ("OB", "OW", "UN", "OB or OW"):
        return text.encode() + b" " * (len(text.encode()) % 2), [text.encode()]
    return None, []


def fill(dataset: Dataset, tags: list[int], word: str, depth: int = 1) -> list[bytes]:
    """Fill elements with planted words; sequences get an item that is filled with all of the others."""
    words: list[bytes] = []
    flat = [tag for tag in tags if tag >> 16 > 4 and dictionary_has_tag(tag) and dictionary_VR(tag) != "SQ"]
    for number, tag in enumerate(tags, 1000):
        if tag in SKELETON or tag >> 16 <= 4 or not dictionary_has_tag(tag):
            continue
        vr = dictionary_VR(tag)
        if vr == "SQ":
            if depth:
                item = Dataset()
                words += fill(item, flat[:40] if tag % 7 else flat, word + "N", depth - 1)
                dataset.add_new(tag, vr, [item])
            continue
        value, bare = planted(vr, number, word)
        if value is not None:
            dataset.add_new(tag, "OB" if vr == "OB or OW" else vr, value)
            words += bare
    return words


def picture(**elements: Any) -> Dataset:
    """A CT of ramps with nothing in it but what is given."""
    made = Dataset()
    made.SOPClassUID = CTImageStorage
    for tag, uid in UIDS.items():
        made.add_new(tag, "UI", uid)
    made.Modality = "CT"
    made.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    rows, columns = np.mgrid[:16, :20]
    made.Rows, made.Columns, made.SamplesPerPixel, made.PhotometricInterpretation = 16, 20, 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 12, 11, 0
    made.add_new("PixelData", "OW", (rows * 7 + columns * 3).astype("<u2").tobytes())
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    made.file_meta = pydicom.dataset.FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return made


def save(dataset: Dataset, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.save_as(path, enforce_file_format=True)
    return path


def inside(*keywords: str, **elements: Any) -> Dataset:
    """A data set around which sequences lie."""
    made = Dataset()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    for keyword in reversed(keywords):
        outer = Dataset()
        setattr(outer, keyword, [made])
        made = outer
    return made


@pytest.mark.parametrize("options", [{}, {"modified_dates": True}, {"retain_device": True}])
def test_nothing_planted_survives(tmp_path: Path, options: dict[str, bool]) -> None:
    dataset = picture(SpecificCharacterSet="ISO_IR 192")
    kept = {
        tag for tag in load_profile()
        if dictionary_has_tag(tag) and action_of(tag, dictionary_VR(tag), device=bool(options.get("retain_device")),
                                                 dates=bool(options.get("modified_dates"))) in ("keep", "date")
    }  # fmt: skip
    tags = [tag for tag in load_profile() if tag not in kept]
    words = fill(dataset, tags, "Zqxw")
    # Deeper, inside of sequences that the table keeps or doesn't list.
    deep = Dataset()
    words += fill(deep, tags, "Deepzq", depth=0)
    for name in ("AnatomicRegionSequence", "SharedFunctionalGroupsSequence", "ReferencedImageSequence"):
        setattr(
            dataset, name, [inside("DerivationImageSequence", "SourceImageSequence", "PurposeOfReferenceCodeSequence")]
        )
        item = dataset[name].value[0].DerivationImageSequence[0].SourceImageSequence[0]
        item.PurposeOfReferenceCodeSequence = [deep]
    # Private, at both depths; repeating groups; what no dictionary knows; behind the data set; the file's header.
    for where in (dataset, deep):
        block = where.private_block(0x0009, "Privzq maker", create=True)
        block.add_new(0x01, "LO", "Privzq")
        block.add_new(0x02, "SQ", [inside(PatientName="Privzq^inner")])
        where.add_new(0x50000022, "LO", "Curvzq")
        where.add_new(0x60004000, "LT", "Overzq")
        where.add_new(0x00080FFE, "LO", "Unknzq")
    dataset.add_new(0xFFFCFFFC, "OB", b"Padzq ")
    dataset.file_meta.SourceApplicationEntityTitle = "Metazq"
    dataset.file_meta.PrivateInformationCreatorUID = "1.2.826.0.77377.1"
    dataset.file_meta.PrivateInformation = b"Metazq"
    dataset.preamble = b"Preazq".ljust(128, b"\0")
    words += [
        b"Privzq",
        b"Curvzq",
        b"Overzq",
        b"Unknzq",
        b"Padzq",
        b"Metazq",
        b"Preazq",
        *map(str.encode, UIDS.values()),
    ]
    path = save(dataset, tmp_path / "Namezq^Planted.dcm")
    before = path.read_bytes()
    there = {word for word in words if word in before}  # the item that was put in a filled sequence's place took some
    assert len(there) > 0.95 * len(set(words)) > 800

    content, made = Deidentifier(KEY, **options).deidentify(path)
    assert not [word for word in there if word in content]
    (tmp_path / "made.dcm").write_bytes(content)
    read = dcmread(tmp_path / "made.dcm")
    assert (read.pixel_array == dcmread(path).pixel_array).all()
    assert read.PatientIdentityRemoved == "YES"
    codes = [item.CodeValue for item in read.DeidentificationMethodCodeSequence]
    assert codes == ["113100", *(["113107"] if "modified_dates" in options else ["113109"] if options else [])]
    assert read.PatientName == f"PATIENT^{read.PatientID}"
    assert read.PatientID == made.PatientID
    assert read.PatientBirthDate in (None, "")


TAGS = sorted(tag for tag in load_profile() if tag not in SKELETON and tag >> 16 > 4)
LISTED = [tag for tag in TAGS if dictionary_has_tag(tag) and dictionary_VR(tag) in
          ("AE", "LO", "LT", "PN", "SH", "ST", "UC", "UT")]  # fmt: skip
KEPT = ("AnatomicRegionSequence", "ReferencedImageSequence", "DerivationImageSequence", "RequestAttributesSequence",
        "ContentSequence", "SharedFunctionalGroupsSequence", "SourceImageSequence")  # fmt: skip


@settings(max_examples=25)
@given(
    tag=st.lists(st.sampled_from(LISTED), min_size=1, max_size=4, unique=True),
    path=st.lists(st.sampled_from(KEPT), max_size=4),
    word=st.text(st.characters(min_codepoint=0x3A0, max_codepoint=0x5FF, categories=("L",)), min_size=5, max_size=8),
    options=st.fixed_dictionaries({"modified_dates": st.booleans()}),
)
def test_no_word_survives_at_any_depth(
    tmp_path_factory: pytest.TempPathFactory, tag: list[int], path: list[str], word: str, options: dict[str, bool]
) -> None:
    dataset = picture(SpecificCharacterSet="ISO_IR 192")
    inner = dataset
    for name in path:
        item = Dataset()
        setattr(inner, name, [item])
        inner = item
    for one in tag:
        inner.add_new(one, dictionary_VR(one), word)
    file = save(dataset, tmp_path_factory.mktemp("deep") / "a.dcm")
    assert word.encode() in file.read_bytes()
    content, _ = Deidentifier(KEY, **options).deidentify(file)
    assert word.encode() not in content


def test_the_table() -> None:
    table = load_profile()
    assert len(table) == 652
    assert {rule.basic for rule in table.values()} == {
        "X", "Z", "D", "U", "X/Z", "X/D", "Z/D", "X/Z/D", "X/Z/U*"
    }  # fmt: skip
    assert {rule.device for rule in table.values()} == {"", "K", "C"}
    assert {rule.dates for rule in table.values()} == {"", "C"}
    for tag, rule in table.items():
        if tag >> 16 < 4:
            continue
        if not dictionary_has_tag(tag):
            assert rule.basic == "X"
            continue
        if dictionary_VR(tag) == "UN":
            assert action_of(tag, "UN") == "remove"
            continue
        action = action_of(tag, dictionary_VR(tag))
        allowed = {"remove": "X", "empty": "Z", "dummy": "D", "uid": "UD", "enter": "*"}[action]
        assert set(allowed) & set(rule.basic), f"{tag:08X}"
        assert action_of(tag, dictionary_VR(tag), device=True) != "date"


def test_references_still_match_over_a_folder(tmp_path: Path) -> None:
    source = tmp_path / "Muster^Max" / "in"
    source.mkdir(parents=True)
    first = picture(PatientID="77", PatientName="Muster^Max", StudyDate="20200229", SeriesDate="20200301",
                    AcquisitionDateTime="20200301101112.5+0100", StationName="Scanner 7",
                    StudyTime="101112")  # fmt: skip
    second = picture(PatientID="77", StudyDate="20210301", ReferencedImageSequence=[
        inside(ReferencedSOPClassUID=CTImageStorage, ReferencedSOPInstanceUID="1.2.3.77003")
    ])  # fmt: skip
    second.SOPInstanceUID = "1.2.3.77004"
    other = picture(PatientID="78", StudyDate="20200229", FrameOfReferenceUID="1.2.840.10008.1.4.1.1")
    other.SOPInstanceUID, other.StudyInstanceUID = "1.2.3.77005", "1.2.3.88"
    for number, dataset in enumerate((first, second, other)):
        save(dataset, source / f"Muster{number}.dcm")
    shutil.copy(source / "Muster1.dcm", source / "Muster1 copy.dcm")
    end = deid_folder(source, tmp_path / "out", modified_dates=True, retain_device=True)
    assert (end.total, end.written, end.found, end.refused) == (4, 3, 1, 0)
    files = sorted((tmp_path / "out").rglob("*.dcm"))
    assert "uster" not in "".join(str(file.relative_to(tmp_path)) for file in files)
    made = {read.SOPInstanceUID: read for read in map(dcmread, files)}
    assert all(file.stem == dcmread(file).file_meta.MediaStorageSOPInstanceUID for file in files)
    work = Deidentifier(bytes.fromhex((tmp_path / "out.key").read_text()))
    one, two, three = (made[work.uid(f"1.2.3.7700{last}")] for last in (3, 4, 5))
    assert two.ReferencedImageSequence[0].ReferencedSOPInstanceUID == one.SOPInstanceUID
    assert two.ReferencedImageSequence[0].ReferencedSOPClassUID == CTImageStorage
    assert one.StudyInstanceUID == two.StudyInstanceUID != three.StudyInstanceUID
    assert one.PatientID == two.PatientID != three.PatientID
    assert three.FrameOfReferenceUID == "1.2.840.10008.1.4.1.1"  # registered by the standard: nobody's
    assert one.StationName == "Scanner 7"
    import datetime

    days = [datetime.date(int(d[:4]), int(d[4:6]), int(d[6:])) for d in (one.StudyDate, one.SeriesDate, two.StudyDate)]
    assert (days[1] - days[0]).days == 1
    assert (days[2] - days[0]).days == 366
    assert days[0] < datetime.date(2020, 2, 29)
    assert one.AcquisitionDateTime == f"{one.SeriesDate}101112.5+0100"
    assert one.StudyTime == "101112"
    assert three.StudyDate != one.StudyDate
    assert (tmp_path / "out.key").stat().st_mode & 0o077 == 0
    assert one.LongitudinalTemporalInformationModified == "MODIFIED"


def test_a_mask_still_lies_on_its_picture(tmp_path: Path) -> None:
    hd = pytest.importorskip("highdicom", reason="highdicom isn't installed: pip install 'medground[dicom]'")
    from test_dicom import answer, pixels

    from medground.dicom import save_dicom

    (tmp_path / "in").mkdir()
    shutil.copy(CT, tmp_path / "in" / "ct.dcm")
    result = answer(CT)
    save_dicom(result, CT, tmp_path / "in", target="kidney left")
    refusals: list[str] = []
    end = deid_folder(
        tmp_path / "in", tmp_path / "out", on_file=lambda _, said: refusals.append(said) if said else None
    )
    assert (end.written, end.refused) == (2, 1)
    assert "CT_small.sr.dcm holds no picture" in refusals[0]
    made = {dcmread(file).Modality: file for file in (tmp_path / "out").rglob("*.dcm")}
    seg, source = hd.seg.segread(made["SEG"]), dcmread(made["CT"])
    assert (pixels(seg, source.SOPInstanceUID, None) == result.mask).all()
    assert (seg.StudyInstanceUID, seg.FrameOfReferenceUID) == (source.StudyInstanceUID, source.FrameOfReferenceUID)
    assert seg.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeValue == "64033007"


def test_dates_that_are_none_do_not_stay(tmp_path: Path) -> None:
    for number, value in enumerate(("Wordzq", "2020", "20201301", "00010101")):
        dataset = picture()
        raw = pydicom.dataelem.RawDataElement(
            pydicom.tag.Tag("StudyDate"), "DA", 8, value.encode().ljust(8), 0, False, True
        )
        dataset[raw.tag] = raw
        time = raw._replace(tag=pydicom.tag.Tag("StudyTime"), VR="TM")
        dataset[time.tag] = time
        path = save(dataset, tmp_path / f"{number}.dcm")
        content, made = Deidentifier(KEY, modified_dates=True).deidentify(path)
        assert made.StudyDate in (None, "", "19000101")
        assert b"Wordzq" not in content


@pytest.mark.parametrize(
    ("elements", "words"),
    [
        ({"BurnedInAnnotation": "YES"}, "words are burned"),
        ({"Modality": "US", "SOPClassUID": UltrasoundImageStorage}, "often hold words"),
        ({"SOPClassUID": SecondaryCaptureImageStorage}, "often hold words"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "often hold words"),
        ({"ImageType": ["DERIVED", "SECONDARY"]}, "often hold words"),
        ({"ImageType": ["DERIVED", "SECONDARY", "MPR"]}, None),
        ({"ConversionType": "WSD"}, "often hold words"),
        ({"SOPClassUID": SecondaryCaptureImageStorage, "BurnedInAnnotation": "NO"}, None),
        ({"Modality": "US", "BurnedInAnnotation": "NO"}, None),
        ({}, None),
    ],
)
def test_burned_in_words_are_refused(tmp_path: Path, elements: dict[str, Any], words: str | None) -> None:
    path = save(picture(PatientName="Secretzq", **elements), tmp_path / "a.dcm")
    if words is not None:
        with pytest.raises(ImageError, match=words) as caught:
            Deidentifier(KEY).deidentify(path)
        assert "Secretzq" not in str(caught.value)
        assert "\n" not in str(caught.value)
    content, _ = Deidentifier(KEY, allow_burned_in=words is not None).deidentify(path)
    assert b"Secretzq" not in content


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("test-SR.dcm", "holds no picture"),
        ("reportsi.dcm", "holds no picture"),
        ("rtplan.dcm", "holds no picture"),
        ("dicomdirtests/DICOMDIR", "DICOMDIR"),
        ("README.txt", "README.txt"),
        ("MR_truncated.dcm", "fewer pixels"),
    ],
)
def test_what_is_no_picture_is_refused(name: str, words: str | None) -> None:
    with pytest.raises(ImageError, match=words):
        Deidentifier(KEY, allow_burned_in=True).deidentify(FILES / name)


def test_overlays_in_unused_bits_are_refused(tmp_path: Path) -> None:
    dataset = picture()
    dataset.add_new(0x60000010, "US", 16)
    dataset.add_new(0x60000102, "US", 12)
    with pytest.raises(ImageError, match="unused bits"):
        Deidentifier(KEY).deidentify(save(dataset, tmp_path / "a.dcm"))
    dataset.add_new(0x60003000, "OW", bytes(40))
    _, made = Deidentifier(KEY).deidentify(save(dataset, tmp_path / "a.dcm"))
    assert not [element for element in made if element.tag.group == 0x6000]


@pytest.mark.parametrize(
    "name",
    ["CT_small.dcm", "JPEG2000.dcm", "JPGExtended.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm",
     "MR_small_implicit.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "SC_rgb_jpeg_dcmtk.dcm",
     "SC_rgb_jpeg_app14_dcmd.dcm", "SC_rgb_rle_2frame.dcm", "examples_palette.dcm",
     "examples_ybr_color.dcm", "image_dfl.dcm", "SC_ybr_full_422_uncompressed.dcm", "693_J2KI.dcm"],
)  # fmt: skip
def test_pixels_stay_as_they_are(tmp_path: Path, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = dcmread(FILES / name)
        content, _ = Deidentifier(KEY, allow_burned_in=True).deidentify(FILES / name)
        (tmp_path / "made.dcm").write_bytes(content)
        made = dcmread(tmp_path / "made.dcm")
        assert made.file_meta.TransferSyntaxUID == source.file_meta.TransferSyntaxUID
        assert (made.pixel_array == source.pixel_array).all()
    for secret in (source.get("PatientName"), source.get("PatientID"), source.SOPInstanceUID):
        assert not secret or len(str(secret)) < 5 or str(secret).encode() not in content


@pytest.mark.parametrize(
    "name", ["SC_rgb_jpeg_dcmtk.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "CT_small.dcm"]
)
def test_words_between_and_behind_the_pixels_go(tmp_path: Path, name: str) -> None:
    dataset = dcmread(FILES / name)
    pixels = dataset.pixel_array
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        [frame] = generate_frames(dataset.PixelData, number_of_frames=1)
        marker = b"\xff\x64" if name.endswith("jp2klossless.dcm") else b"\xff\xfe"
        start = 2
        if marker == b"\xff\x64":  # a comment comes after the sizes
            start = 4 + struct.unpack(">H", frame[4:6])[0]
        comment = marker + struct.pack(">H", 10) + b"Commntzq"
        frame = frame[:start] + comment + frame[start:].rstrip(b"\0") + b"Behindzq"
        dataset.PixelData = encapsulate([frame])
        dataset["PixelData"].is_undefined_length = True
    else:
        dataset.PixelData += b"Commntzq" + b"Behindzq"
    path = save(dataset, tmp_path / "a.dcm")
    assert b"Commntzq" in path.read_bytes()
    content, _ = Deidentifier(KEY, allow_burned_in=True).deidentify(path)
    assert b"zq" not in content
    (tmp_path / "b.dcm").write_bytes(content)
    assert (dcmread(tmp_path / "b.dcm").pixel_array == pixels).all()


@settings(max_examples=60)
@given(st.binary(max_size=300), st.sampled_from([b"\xff\xd8", b"\xff\x4f\xff\x51"]))
def test_a_damaged_codestream_ends(rest: bytes, start: bytes) -> None:
    from medground.dicom.codestream import clean_frame

    cleaned = clean_frame(start + rest)
    assert cleaned is None or len(cleaned) <= len(start + rest)


@settings(max_examples=60)
@given(st.sampled_from(["CT_small.dcm", "MR_small_jp2klossless.dcm", "MR_small_implicit.dcm"]), st.data())
def test_a_damaged_file_is_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    content = bytearray((FILES / name).read_bytes())
    for at, value in data.draw(st.dictionaries(st.integers(128, 2000), st.integers(0, 255), min_size=1)).items():
        content[at] = value
    path = tmp_path_factory.mktemp("damaged") / "a.dcm"
    path.write_bytes(content[: data.draw(st.integers(400, len(content)))])
    said = ""
    try:
        Deidentifier(KEY).deidentify(path)
    except ImageError as error:
        said = str(error)
    assert "\n" not in said
    assert "CompressedSamples" not in said


def test_an_interrupted_folder_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for number in range(4):
        dataset = picture(PatientID="77")
        dataset.SOPInstanceUID = f"1.2.3.{number}"
        save(dataset, source / f"{number}.dcm")
    (source / "notes.txt").write_text("Muster, Max")
    calls = []
    plain = Deidentifier.deidentify

    def stopped(self: Deidentifier, path: Path) -> Any:
        calls.append(path)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return plain(self, path)

    with monkeypatch.context() as patch:
        patch.setattr(Deidentifier, "deidentify", stopped)
        with pytest.raises(KeyboardInterrupt):
            deid_folder(source, out)
    assert len(list(out.rglob("*.dcm"))) == 2
    refusals: list[str] = []
    end = deid_folder(source, out, on_file=lambda _, said: refusals.append(said) if said else None)
    assert (end.total, end.found, end.written, end.refused) == (5, 2, 2, 1)
    assert "notes.txt" in refusals[0]
    assert len({dcmread(file).StudyInstanceUID for file in out.rglob("*.dcm")}) == 1
    with pytest.raises(ConfigError, match="other options or another key"):
        deid_folder(source, out, modified_dates=True)
    (tmp_path / "out.key").unlink()
    with pytest.raises(ConfigError, match="other options or another key"):
        deid_folder(source, out)
    with pytest.raises(ConfigError, match="lie in one another"):
        deid_folder(source, source / "out")
    with pytest.raises(ConfigError, match="keep the key apart"):
        deid_folder(source, tmp_path / "out2", key=tmp_path / "out2" / "key")
    (tmp_path / "bad.key").write_text("Muster")
    with pytest.raises(ConfigError, match="isn't a key"):
        deid_folder(source, tmp_path / "out3", key=tmp_path / "bad.key")
    clash = picture(PatientID="78")
    clash.SOPInstanceUID = "1.2.3.3"
    save(clash, source / "4.dcm")
    end = deid_folder(source, tmp_path / "out4", on_file=lambda _, said: refusals.append(said) if said else None)
    assert end.refused == 2
    assert "4.dcm has the SOPInstanceUID of another file" in refusals[-2]


def test_the_command(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    shutil.copy(CT, tmp_path / "in")
    app = typer.Typer()
    app.command()(deid_command)
    told = CliRunner().invoke(app, [str(tmp_path / "in"), str(tmp_path / "out"), "--json"])
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["written"] == 1
    save(picture(BurnedInAnnotation="YES"), tmp_path / "in" / "b.dcm")
    told = CliRunner().invoke(app, [str(tmp_path / "in"), str(tmp_path / "out")])
    assert told.exit_code == 1
    assert "0 of 2 files written, 1 were there already; 1 refused" in told.stdout
    assert "b.dcm says that words are burned into its pixels" in told.stderr
