from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_rows import made_rows, save_rows
from PIL import Image

from medground.data.schema import Picture, Row
from medground.data.show import MAX_ROWS, _caption, as_text, pick_rows, picture_of, sheet, show
from medground.drawing import BOX, MASK, POINT
from medground.errors import ConfigError, TruthError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("drawn")


@pytest.fixture(scope="module")
def rows(root: Path) -> list[Row]:
    return made_rows(root)


def changed(row: Row, **changes: Any) -> Row:
    return Row.model_validate({**dict(row), **changes})


def ids(picked: list[tuple[Row, Path]]) -> list[str]:
    return [row.id for row, _ in picked]


# --- which rows -------------------------------------------------------------------------------------------------------


def test_the_first_rows_come_without_a_seed(root, rows):
    assert ids(pick_rows(rows, number=3)) == [row.id for row in rows[:3]]
    assert len(pick_rows(rows, number=MAX_ROWS)) == 13


def test_a_seed_draws_the_same_rows_and_each_as_often(rows):
    assert ids(pick_rows(rows, number=4, seed=3)) == ids(pick_rows(iter(rows), number=4, seed=3))
    order = [row.id for row in rows]
    for seed in range(20):
        drawn = ids(pick_rows(rows, number=4, seed=seed))
        assert sorted(drawn, key=order.index) == drawn
    drawn = Counter(name for seed in range(600) for name in ids(pick_rows(rows, number=4, seed=seed)))
    assert sum(drawn.values()) == 2400
    assert all(140 < drawn[row.id] < 230 for row in rows)  # 185 are expected


def test_rows_are_found_by_what_they_are(root, rows):
    assert ids(pick_rows(rows, category="left lung")) == [row.id for row in rows if row.category == "left lung"]
    assert ids(pick_rows(rows, absent=True)) == ["absent"]
    assert ids(pick_rows(rows, modality="MRI", split="test", number=1)) == ["voxelmorph_t1/pair/left-putamen"]
    assert ids(pick_rows(rows, ids=["absent", rows[3].id], number=1)) == [rows[3].id, "absent"]


def test_rows_of_files_come_with_their_folder(root, rows, tmp_path):
    pytest.importorskip("pyarrow")
    save_rows(rows, root)
    assert {home for _, home in pick_rows(root)} == {root}
    assert {home for _, home in pick_rows(root / "val.parquet", root=tmp_path)} == {tmp_path}


def test_what_is_not_there_is_refused(rows):
    with pytest.raises(ConfigError, match="no row 'none'"):
        pick_rows(rows, ids=[rows[0].id, "none"])
    with pytest.raises(ConfigError, match="no row with category 'gizzard'"):
        pick_rows(rows, category="gizzard")
    for number in (0, MAX_ROWS + 1):
        with pytest.raises(ConfigError, match=f"not {number}"):
            pick_rows(rows, number=number)


# --- how they look ----------------------------------------------------------------------------------------------------


def colours(picture: Image.Image) -> set[tuple[int, ...]]:
    return {colour for _, colour in picture.getcolors(1 << 24)}


def test_mask_box_and_points_are_drawn_where_they_are(root, rows):
    picture, problems = picture_of(rows[0], root)  # an ellipse of 96 x 128 pixels around (40.5, 30.5)
    assert problems == ()
    assert picture.size == (512, 384)
    assert {MASK, BOX, POINT} <= colours(picture)
    pixels = np.asarray(picture).astype(int)
    box = np.argwhere((pixels == BOX).all(axis=2))
    assert box.min(axis=0).tolist() == [16 * 4, 20 * 4]
    assert box.max(axis=0).tolist() == [45 * 4 - 1, 61 * 4 - 1]


def test_an_absent_target_has_nothing_drawn(root, rows):
    picture, problems = picture_of(rows[-1], root)
    assert problems == ()
    assert not {MASK, BOX, POINT} & colours(picture)


def test_what_cannot_be_drawn_is_told_and_the_rest_is_shown(root, rows):
    outside = changed(rows[0], box=(20, 16, 500, 45))
    picture, problems = picture_of(outside, root)
    assert MASK in colours(picture)
    assert BOX not in colours(picture)
    assert len(problems) == 1
    assert "outside the picture" in problems[0]
    lost = changed(rows[0], mask=Picture(path="none.png"))
    picture, problems = picture_of(lost, root)
    assert BOX in colours(picture)
    assert problems == ("mask: " + f"{root}/none.png doesn't exist; check the path",)
    other = changed(rows[0], mask=Picture.of_mask(np.ones((5, 5), bool)))
    assert "5 x 5, and the picture 128 x 96" in picture_of(other, root)[1][0]


def test_a_sheet_has_room_for_every_word(root, rows):
    few = sheet(pick_rows(rows, number=3, root=root), columns=2, width=300)
    long = changed(rows[0], reasoning=rows[0].reasoning * 6)
    more = sheet([(row, root) for row in (long, *rows[1:3])], columns=2, width=300)
    assert few.width == more.width == 2 * 300 + 3 * 7
    assert more.height > few.height + 100
    ink = np.asarray(more.convert("L"))[:, 7:307]
    written = np.flatnonzero((ink[300:] < 100).any(axis=1))
    assert written.max() > few.height - 300  # the last lines are there, not cut off


def test_a_caption_says_all_there_is_to_know(rows):
    told = _caption(rows[0], ["mask: lost"]).splitlines()
    assert told[0] == "drawn/a/colon-polyp (train, endoscopy, colon polyp, function)"
    assert told[1:] == [rows[0].question, rows[0].reasoning, "NOT DRAWN: mask: lost"]
    silent = changed(rows[-1], reasoning="", question="Where is\n it?")
    assert _caption(silent, ()).splitlines()[1:] == ["Where is it?", "(no reasoning)", "ABSENT"]


def test_a_long_id_stays_under_its_own_picture(root, rows):
    long = changed(rows[0], id="a" * 60)
    beside = sheet([(long, root), (rows[0], root)], columns=2, width=200)
    gap = np.asarray(beside.convert("L"))[:, 206:209]  # between the two tiles
    assert (gap == 255).all()


def test_a_sheet_names_a_picture_that_cannot_be_read(root, rows):
    with pytest.raises(TruthError, match=r"row drawn/a/colon-polyp: image: .*none\.png doesn't exist"):
        sheet([(changed(rows[0], image=Picture(path="none.png")), root)])
    with pytest.raises(ConfigError, match="0 of 420"):
        sheet([(rows[0], root)], columns=0)


def test_a_sheet_is_written(root, rows, tmp_path):
    path = show(pick_rows(rows, number=2, seed=1, root=root), tmp_path / "sheet.png", columns=2, width=200)
    with Image.open(path) as picture:
        assert (picture.format, picture.width) == ("PNG", 415)
    with pytest.raises(ConfigError, match="can't write"):
        show(pick_rows(rows, number=1, root=root), tmp_path / "none" / "sheet.png")


def test_a_row_as_text(rows):
    text = as_text(rows[0])
    assert text.splitlines()[0] == "drawn/a/colon-polyp"
    for part in (
        f"question   {rows[0].question}",
        f"reasoning  {rows[0].reasoning}",
        '"bbox_2d": [20, 16, 61, 45]',
        "brightness: brighter than",
        "images/drawn/a.png, 128 x 96",
        "train, endoscopy, neoplasm, colon polyp, function",
    ):
        assert part in text
    assert '"facts"' not in text
    assert '"absent": true' in as_text(rows[-1])
    assert "facts" not in as_text(rows[-1])
    assert len(as_text(changed(rows[0], reasoning="one\n\ntwo")).splitlines()) == len(text.splitlines())
