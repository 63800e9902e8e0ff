from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_rows import made_rows, noise, save_rows
from PIL import Image

from medground.data.duplicates import ALIKE, BITS, NEAR, look_alikes, perceptual_hash
from medground.data.pixels import open_image, open_mask
from medground.data.schema import Picture, Row, write_rows
from medground.data.validate import KINDS, Report, validate
from medground.errors import ConfigError, TruthError
from medground.images import MedicalImage
from medground.masks import box_of

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("drawn")


@pytest.fixture(scope="module")
def rows(root: Path) -> list[Row]:
    return made_rows(root)


def changed(row: Row, **changes: Any) -> Row:
    return Row.model_validate({**dict(row), **changes})


def shot(picture: Image.Image, kind: str = "PNG", **options: Any) -> Picture:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return Picture(data=stream.getvalue())


def told(report: Report) -> list[tuple[str, str, bool]]:
    return [(each.kind, each.field, each.note) for each in report.findings]


# --- a clean set ------------------------------------------------------------------------------------------------------


def test_a_clean_set_passes_from_files_and_from_rows(root, rows):
    save_rows(rows, root)
    for report in (
        validate(root),
        validate([root / "train.parquet", root / "test.parquet"]),
        validate(rows, root=root),
    ):
        assert report.ok
        assert told(report) == []
        assert report.to_text().endswith("no row is bad, 0 notes")
    assert (report.rows, report.pictures) == (13, 9)


def test_embedded_pictures_are_checked_too(root, rows, tmp_path):
    write_rows(rows, tmp_path / "set.parquet", embed=True, root=root)
    report = validate(tmp_path / "set.parquet")
    assert report.ok
    assert told(report) == []
    assert report.pictures == 9


# --- one row ----------------------------------------------------------------------------------------------------------

RING = np.hypot(*np.mgrid[-48:48, -64:64])
RING = (RING > 12) & (RING < 24)


def ring(row: Row) -> dict[str, Any]:
    return {"mask": Picture.of_mask(RING), "box": box_of(RING).xyxy, "facts": None, "reasoning": ""}


# Row 0 is an ellipse of 96 x 128 pixels around (40.5, 30.5), at the upper left; row 11 is absent.
FAULTS = {
    "box beyond the right edge": (lambda row: {"box": (20, 16, 130, 45)}, "box", "box", "outside the picture"),
    "box left of the picture": (lambda row: {"box": (-1, 16, 61, 45)}, "box", "box", "outside the picture"),
    "box without width": (lambda row: {"box": (20, 16, 20, 45)}, "box", "box", "no area"),
    "box with swapped corners": (lambda row: {"box": (20, 45, 61, 16)}, "box", "box", "swapped"),
    "box three pixels off": (lambda row: {"box": (23, 16, 61, 45)}, "box off mask", "box", "mask's own is"),
    "point in a hole of the mask": (
        lambda row: {**ring(row), "points": ((64, 48), (64, 30))},
        "points",
        "points.0",
        "off the mask",
    ),
    "point beside the mask": (lambda row: {"points": (row.points[0], (62, 30))}, "points", "points.1", "off the mask"),
    "point outside the picture": (lambda row: {"points": ((40, 97), row.points[1])}, "points", "points.0", "outside"),
    "point outside the box, no mask": (
        lambda row: {"mask": None, "points": ((62, 30), row.points[1])},
        "points",
        "points.0",
        "outside the box",
    ),
    "image of another size": (
        lambda row: {"image": shot(noise(1, 90, 128)), "mask": None, "facts": None, "reasoning": ""},
        "image size",
        "image_size",
        "says 128 x 96, and the picture is 128 x 90",
    ),
    "size that isn't the picture's": (
        lambda row: {"image_size": (130, 96)},
        "image size",
        "image_size",
        "says 130 x 96, and the picture is 128 x 96",
    ),
    "mask of another size": (
        lambda row: {"mask": Picture.of_mask(np.ones((96, 127), bool))},
        "mask",
        "mask",
        "127 x 96, and the picture 128 x 96",
    ),
    "empty mask": (lambda row: {"mask": Picture.of_mask(np.zeros((96, 128), bool))}, "mask", "mask", "is empty"),
    "mask that isn't there": (lambda row: {"mask": Picture(path="none.png")}, "mask", "mask", "none.png doesn't exist"),
    "mask that is no picture": (lambda row: {"mask": Picture(data=b"GIF89a")}, "mask", "mask", "isn't a PNG"),
    "mask that is cut off": (
        lambda row: {"mask": Picture(data=Picture.of_mask(RING).data[:-40])},
        "mask",
        "mask",
        "damaged",
    ),
    "image that isn't there": (
        lambda row: {"image": Picture(path="images/none.png")},
        "image",
        "image",
        "doesn't exist; check the path",
    ),
    "image that is cut off": (
        lambda row: {"image": Picture(data=shot(noise(2)).data[:300], path="a.png")},
        "image",
        "image",
        "a.png is a PNG that is damaged",
    ),
    "image of one grey": (lambda row: {"image": shot(Image.new("L", (128, 96)))}, "image", "image", "one single value"),
    "question that names the target": (
        lambda row: {"question": "Where is the polyp?"},
        "leak",
        "question",
        "'polyp'; ask without",
    ),
    "question that says a synonym": (lambda row: {"question": "Any adenomas here?"}, "leak", "question", "'adenomas'"),
    "claim of another place": (
        lambda row: {"reasoning": row.reasoning.replace("upper left", "lower right")},
        "claim",
        "reasoning",
        "place 'lower right'",
    ),
    "claim of another size, facts unknown": (
        lambda row: {"reasoning": row.reasoning.replace("medium-sized", "tiny"), "facts": None},
        "claim",
        "reasoning",
        "size 'tiny'",
    ),
    "claim of another place, box alone": (
        lambda row: {"reasoning": "It lies in the lower right of the image.", "facts": None, "mask": None},
        "claim",
        "reasoning",
        "place 'lower right'",
    ),
    "claim against the facts, no mask": (
        lambda row: {"reasoning": row.reasoning.replace("brighter than", "darker than"), "mask": None},
        "claim",
        "reasoning",
        "brightness 'darker than'",
    ),
    "facts of another target": (
        lambda row: {"facts": {**row.facts, "size": ["tiny"]}, "reasoning": ""},
        "facts",
        "facts.size",
        "'tiny' isn't true",
    ),
    "facts that can't be read": (lambda row: {"facts": {"size": ["huge"]}}, "facts", "facts", "unknown word 'huge'"),
    "reasoning that leaves facts out": (
        lambda row: {"reasoning": "It lies in the upper left of the image."},
        "gold",
        "reasoning",
        "evidence 0.25",
    ),
    "reasoning without end": (
        lambda row: {"reasoning": row.reasoning + " ".join(map(str, range(1500)))},
        "gold",
        "reasoning",
        "length",
    ),
    "reasoning that goes round": (
        lambda row: {"reasoning": row.reasoning + " It may well be seen here by all." * 20},
        "gold",
        "reasoning",
        "repetition",
    ),
}


@pytest.mark.parametrize(("change", "kind", "field", "problem"), FAULTS.values(), ids=FAULTS)
def test_a_planted_fault_is_found_and_nothing_else(root, rows, change, kind, field, problem):
    assert kind in KINDS
    report = validate([*rows[1:], changed(rows[0], **change(rows[0]))], root=root)
    assert told(report) == [(kind, field, False)]
    assert (report.bad, report.ok) == (1, False)
    found = report.findings[0]
    assert problem in f"{found.problem}; {found.remedy}"
    assert (found.row, found.id) == (12, rows[0].id)
    assert found.remedy
    assert f"row 12 ({rows[0].id}): {field}: " in report.to_text()


@pytest.mark.parametrize(
    ("change", "kind", "problem"),
    [
        ({"category": "gizzard"}, "category", "isn't in the taxonomy"),
        ({"category": ""}, "category", "a leak can't be told"),
        ({"points": ()}, "no points", "no answer earns full marks"),
        ({"group": ""}, "group", "in this row and maybe in others"),
    ],
)
def test_what_is_unknown_is_noted_and_the_row_is_good(root, rows, change, kind, problem):
    report = validate([changed(rows[0], **change)], root=root)
    assert report.ok
    assert [(each.kind, each.note) for each in report.findings] == [(kind, True)]
    assert problem in report.findings[0].problem
    assert "note: " in report.to_text()
    assert report.notes == {kind: 1}


def test_a_category_beyond_the_taxonomy_leaks_by_its_name(root, rows):
    row = changed(rows[0], category="gizzard", question="Where are the gizzards?")
    assert ("leak", "question", False) in told(validate([row], root=root))


def test_the_box_of_the_largest_part_is_right_and_the_other_parts_are_noted(root, rows):
    parts = open_mask(rows[0].mask).copy()
    parts[80:85, 100:105] = True
    row = changed(rows[0], mask=Picture.of_mask(parts), facts=None, reasoning="")
    report = validate([row], root=root)
    assert told(report) == [("parts", "mask", True)]
    assert validate([changed(row, box=box_of(parts).xyxy)], root=root).notes.total() == 0
    parts[80:95, 40:128] = True  # no longer the largest
    assert told(validate([changed(row, mask=Picture.of_mask(parts), points=())], root=root))[-1][0] == "box off mask"


def test_rounded_numbers_pass_and_the_tolerance_is_the_callers(root, rows):
    x1, y1, x2, y2 = rows[0].box
    rounded = changed(rows[0], points=tuple((round(x), round(y)) for x, y in rows[0].points))
    assert validate([rounded], root=root).ok
    last_pixel = changed(rows[0], box=(x1, y1, x2 - 1, y2 - 1))  # the last pixel counted in
    assert validate([last_pixel], root=root).ok
    assert told(validate([last_pixel], root=root, tolerance=0.5)) == [("box off mask", "box", False)]
    off = changed(rows[0], box=(x1, y1, x2, y2 - 3))
    assert not validate([off], root=root).ok
    assert validate([off], root=root, tolerance=3).ok


def test_what_a_coarse_ruler_rounds_away_passes(rows):
    thin = np.zeros((100, 3000), bool)
    thin[10:90, 1234:1236] = True
    row = {"image": shot(noise(4, 100, 3000)), "image_size": (3000, 100), "mask": Picture.of_mask(thin)}
    row |= {"facts": None, "reasoning": ""}
    pixels = {"box": (1234, 10, 1236, 90), "points": ((1237, 15), (1235, 80))}
    assert told(validate([changed(rows[0], **row, **pixels)])) == [("points", "points.0", False)]
    assert validate([changed(rows[0], **row, **{**pixels, "points": ((1236, 15), (1235, 80))})]).ok  # of 1235.5
    ruler = {"coordinates": "0-1000", "box": (411, 100, 413, 900), "points": ((412, 150), (411, 800))}
    assert validate([changed(rows[0], **row, **ruler)]).ok
    assert not validate([changed(rows[0], **row, **ruler)], tolerance=0.5).ok
    assert told(validate([changed(rows[0], **row, **{**ruler, "box": (409, 100, 413, 900)})]))[0][0] == "box off mask"


def test_facts_that_are_true_in_part_are_noted(root, rows):
    facts = {**rows[0].facts, "size": ["tiny", *rows[0].facts["size"]]}
    report = validate([changed(rows[0], facts=facts)], root=root)
    assert told(report) == [("facts", "facts.size", True)]
    assert report.ok


@pytest.mark.parametrize(("coordinates", "across", "down"), [("0-1000", 1000, 1000), ("0-1", 1, 1)])
def test_other_coordinates_are_checked_on_their_own_ruler(root, rows, coordinates, across, down):
    def there(values: Any) -> tuple[float, ...]:
        places = 0 if across > 1 else 4
        return tuple(
            round(value * end / side, places)
            for value, end, side in zip(values, (across, down) * 2, (128, 96) * 2, strict=False)
        )

    row = changed(
        rows[0], coordinates=coordinates, box=there(rows[0].box), points=tuple(there(each) for each in rows[0].points)
    )
    assert told(validate([row], root=root)) == []
    assert not validate([changed(row, coordinates="pixels")], root=root).ok
    assert told(validate([changed(row, box=(*row.box[:3], down * 1.1))], root=root)) == [("box", "box", False)]


def test_a_bound_holds_before_anything_is_decoded(root, rows, monkeypatch):
    import medground.data.pixels as pixels

    huge = shot(Image.new("1", (30_000, 30_000)))  # 900 million pixels in a few kilobytes
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(TruthError, match="above the limit"):
        open_mask(huge)
    with pytest.raises(TruthError, match="above the limit"):
        open_image(huge)
    with pytest.raises(TruthError, match=r"is 30000 x 30000, and the picture 5 x 5|above the limit"):
        open_mask(huge, size=(5, 5))
    monkeypatch.setattr(pixels, "MAX_BYTES", 10)
    with pytest.raises(TruthError, match="above the limit of 10"):
        open_mask(huge)


def test_a_file_that_never_ends_is_not_read(tmp_path):
    with pytest.raises(TruthError, match="isn't a regular file"):
        open_mask(Picture(path=os.devnull), tmp_path)


def test_embedded_pictures_are_named_by_their_path(tmp_path):
    with pytest.raises(TruthError, match=r"^m\.png isn't a PNG"):
        open_mask(Picture(path="m.png", data=b"x"))
    with pytest.raises(TruthError, match=r"^the embedded picture isn't a PNG"):
        open_image(Picture(data=b"x"))


# --- an absent target -------------------------------------------------------------------------------------------------


def record(root: Path, rows: list[Row], path: Path, index: int, change: dict[str, Any]) -> Path:
    """Write the rows, one record of them changed in the file itself."""
    write_rows(rows, path, embed=True, root=root)
    records = pq.read_table(path).to_pylist()
    records[index] |= change
    pq.write_table(pa.Table.from_pylist(records), path)
    return path


def test_an_absent_target_with_a_location_is_found(root, rows, tmp_path):
    absent = next(index for index, row in enumerate(rows) if row.absent)
    path = tmp_path / "set.parquet"
    said = json.dumps({"absent": True, "bbox_2d": [1, 2, 30, 40]})
    report = validate(record(root, rows, path, absent, {"reward_model": {"style": "rule", "ground_truth": said}}))
    assert told(report) == [("row", "reward_model.ground_truth, absent", False)]
    assert str(report.findings[0]).startswith(f"{path}: row {absent}: ")
    for drawn, kinds in ((RING, [("absent", "mask", False)]), (np.zeros((5, 5), bool), [])):
        mask = [{"bytes": Picture.of_mask(drawn).data, "path": None}]
        assert told(validate(record(root, rows, path, absent, {"masks": mask}))) == kinds
    damaged = [{"bytes": b"x", "path": None}]
    assert told(validate(record(root, rows, path, absent, {"masks": damaged}))) == [("mask", "mask", False)]
    facts = changed(rows[absent], facts=rows[0].facts)
    assert told(validate([facts], root=root)) == [("absent", "facts", False)]


def test_a_target_that_is_there_and_isnt_is_found(root, rows):
    absent = next(row for row in rows if row.absent)
    denied = changed(absent, id="denied", category=rows[0].category)
    report = validate([rows[0], denied], root=root)
    assert told(report) == [("absent", "box", False)]
    assert "target is absent, and row 0 (drawn/a/colon-polyp) of this picture that it is present" in report.to_text()
    assert "target is present, and row 0" in validate([denied, rows[0]], root=root).to_text()


# --- between rows -----------------------------------------------------------------------------------------------------


def test_rows_that_cannot_be_read_are_named_and_the_others_are_checked(root, rows, tmp_path):
    bad = {"reward_model": {"style": "rule", "ground_truth": '{"bbox_2d": [1, 2]}'}}
    path = record(root, rows, tmp_path / "set.parquet", 2, bad)
    report = validate(path)
    assert told(report) == [("row", "reward_model.ground_truth, bbox_2d", False)]
    assert (report.rows, report.bad, report.findings[0].row) == (13, 1, 2)


def test_ids_and_questions_that_come_twice_are_found(root, rows):
    again = changed(rows[0], id="other", question=f"  {rows[0].question.upper()} ")
    report = validate([*rows, again], root=root)
    assert told(report) == [("question", "question", False)]
    assert report.findings[0].other == {"with": {"file": "", "row": 0, "id": rows[0].id}}
    same_id = changed(rows[1], id=rows[0].id)
    assert told(validate([rows[0], same_id], root=root)) == [("id", "id", False)]
    elsewhere = changed(rows[0], id="other", image=shot(noise(3, 96, 128)), facts=None, reasoning="")
    assert validate([rows[0], elsewhere], root=root).ok


def test_pictures_of_one_name_in_two_folders_are_two(rows, tmp_path):
    for index, name in enumerate(("one", "two")):
        (tmp_path / name).mkdir()
        noise(index).save(tmp_path / name / "a.png")
        bare = {"image": Picture(path="a.png"), "mask": None, "image_size": (80, 60), "facts": None, "reasoning": ""}
        write_rows([changed(rows[0], id=name, points=(), **bare)], tmp_path / name / "set.parquet")
    report = validate([tmp_path / "one", tmp_path / "two"])
    assert (report.ok, report.pictures) == (True, 2)


def test_a_patient_in_two_splits_is_found_across_files(root, rows, tmp_path):
    moved = [changed(rows[0], group=rows[-1].group, split="train", id="moved"), *rows[8:]]
    moved = [changed(row, group="p1") if row.split == "test" or row.id == "moved" else row for row in moved]
    save_rows(moved, root / "moved")
    report = validate(root / "moved", root=root)
    kinds = {each.kind for each in report.findings}
    assert kinds == {"patient"}
    assert "is in train, and in test with " in report.to_text()
    assert "test.parquet: row 0" in report.to_text()
    assert "p1" not in report.to_text()
    assert validate(root / "moved", root=root, splits=["train"]).ok
    assert validate(root / "moved", root=root, splits="test").rows == sum(row.split == "test" for row in moved)


def pair(rows: list[Row], one: Image.Image, two: Picture, split: str = "test") -> list[Row]:
    """Two rows of two patients in two splits, each on a picture of its own."""
    bare = {"mask": None, "facts": None, "reasoning": "", "image_size": one.size, "box": (5, 5, 20, 20)}
    first = changed(rows[0], image=shot(one), points=((9, 9), (15, 15)), **bare)
    return [first, changed(first, id="b", question="What bulges here?", image=two, group="b", split=split)]


def test_one_picture_in_two_splits_is_found(rows):
    picture = noise(5)
    copies = {
        "the same bytes": shot(picture),
        "compressed": shot(picture, "JPEG", quality=40),
        "darker": shot(picture.point(lambda value: value * 0.7)),
        "in colour": shot(picture.convert("RGB")),
    }
    for name, copy in copies.items():
        report = validate(pair(rows, picture, copy))
        assert told(report) == [("near duplicate", "image", False)], name
        assert "row 0 (drawn/a/colon-polyp) (train)" in report.to_text()
        assert report.findings[0].other["distance"] == next(iter(report.distances))
        assert report.distances.total() == 1
        assert validate(pair(rows, picture, copy, split="train")).ok
        assert validate(pair(rows, picture, copy), near=-1, alike=-1).ok
    assert told(validate(pair(rows, picture, shot(noise(6))))) == []


def test_pictures_much_alike_are_noted(rows):
    picture = noise(5)
    hashed = perceptual_hash(MedicalImage.from_array(np.asarray(picture)))

    def distance(copy: Image.Image) -> int:
        other = perceptual_hash(MedicalImage.from_array(np.asarray(copy)))
        return sum((a ^ b).bit_count() for a, b in zip(hashed, other, strict=True))

    mixed = (Image.blend(picture, noise(6), share / 100) for share in range(1, 60))
    far = next(copy for copy in mixed if NEAR < distance(copy) <= ALIKE)
    report = validate(pair(rows, picture, shot(far)))
    assert told(report) == [("look-alike", "image", True)]
    assert report.ok
    assert report.distances == {distance(far): 1}
    assert told(validate(pair(rows, picture, shot(far)), near=distance(far))) == [("near duplicate", "image", False)]
    assert told(validate(pair(rows, picture, shot(far)), alike=distance(far) - 1)) == []


def test_each_picture_is_told_its_nearest(rows):
    picture = noise(5)
    same, other = pair(rows, picture, shot(picture))
    darker = changed(
        same,
        id="c",
        question="What grows here?",
        image=shot(picture.point(lambda value: value * 0.5 + value % 40)),
        group="c",
    )
    report = validate([same, darker, other])
    assert [each.other["with"]["id"] for each in report.findings if each.field == "image"] == [same.id]
    assert report.distances.total() == 2


@given(st.integers(0, 2**32 - 1), st.integers(0, 60))
def test_look_alikes_are_those_of_a_plain_count(seed, threshold):
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 2, (3, BITS), np.uint8)
    bits = base[rng.integers(0, 3, 12)] ^ (rng.random((12, BITS)) < rng.random((12, 1)) * 0.2)
    labels = [["train", "val", "test"][index] for index in rng.integers(0, 3, 12)]
    found = list(look_alikes([np.packbits(each).tobytes() for each in bits], labels, threshold))
    counted = {
        (one, two, int((bits[one] != bits[two]).sum()))
        for one in range(12)
        for two in range(one + 1, 12)
        if labels[one] != labels[two]
    }
    assert sorted(found) == sorted(each for each in counted if each[2] <= threshold)


# --- the report -------------------------------------------------------------------------------------------------------


def test_every_finding_is_written_and_the_first_are_kept(root, rows, tmp_path):
    bad = [changed(rows[0], id=str(index), question=f"Where is polyp {index}?") for index in range(40)]
    report = validate(bad, root=root, keep=3, out=tmp_path / "findings.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "findings.jsonl").read_text().splitlines()]
    assert [line["row"] for line in lines] == list(range(40))
    assert set(lines[0]) == {"file", "row", "id", "field", "kind", "problem", "remedy", "note", "other"}
    assert (report.errors, len(report.findings), report.bad) == ({"leak": 40}, 3, 40)
    assert "... and 37 more" in report.to_text()
    assert json.loads(json.dumps(report.to_dict()))["errors"] == {"leak": 40}


def test_findings_quote_no_question_no_reasoning_and_no_patient(root, rows, tmp_path):
    words = {"question": "Where is the polyp of secretperson?", "reasoning": "secretperson. It is tiny."}
    bad = [changed(rows[0], id=name, group="secretperson", split=name, **words) for name in ("train", "test")]
    report = validate(bad, root=root, out=tmp_path / "findings.jsonl")
    assert {"leak", "claim", "patient", "near duplicate"} <= set(report.errors)
    assert "secretperson" not in (tmp_path / "findings.jsonl").read_text() + report.to_text()


def test_several_processes_find_the_same(root, rows):
    bad = [changed(rows[index % 12], id=str(index), question=f"Where is polyp {index}?") for index in range(80)]
    one, two = (validate(bad, root=root, workers=workers, keep=1000) for workers in (1, 2))
    assert one == two
    assert one.rows == 80


def test_nothing_is_edited(root, rows):
    save_rows([changed(rows[0], box=(1, 1, 500, 500)), *rows[1:]], root)
    before = {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
    assert not validate(root).ok
    assert {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()} == before


def test_what_cannot_be_checked_at_all_is_refused(root, rows, tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        validate(tmp_path / "none.parquet")
    with pytest.raises(ConfigError, match="no row to check"):
        validate([])
    with pytest.raises(ConfigError, match="no row to check"):
        validate(rows[:1], root=root, splits=["val"])
    with pytest.raises(ConfigError, match="workers -1"):
        validate(rows, root=root, workers=-1)
