from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn import add_target, ellipse, small_folder, write_manifest
from PIL import Image

from medground import taxonomy
from medground.data.open_masks import Target, load_mask, load_picture, read_open_masks
from medground.data.questions import PICTURE_WORDS
from medground.errors import ConfigError, TruthError
from medground.masks import largest_component

REAL = Path(os.environ.get("MEDGROUND_OPEN_MASKS", Path(__file__).parents[2] / "shared" / "data" / "open-masks"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_folder(tmp_path_factory.mktemp("masks"))


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def test_a_folder_reads_in_its_own_order(folder: Path) -> None:
    targets = read_open_masks(folder)
    assert [target.id for target in targets] == [row["id"] for row in rows_of(folder)]
    for target, row in zip(targets, rows_of(folder), strict=True):
        assert target.image == folder / row["image"]
        assert target.mask == folder / row["mask"]
        assert (target.category, target.license, target.tier) == (row["category"], "CC0-1.0", "A")
        assert load_mask(target).shape == (row["height"], row["width"])
        assert load_picture(target).size == (row["width"], row["height"])
    assert read_open_masks(str(folder)) == targets


def test_a_split_is_its_own_rows(folder: Path) -> None:
    found = {split: read_open_masks(folder, split) for split in ("train", "val", "test")}
    assert {split: {target.split for target in rows} for split, rows in found.items()} == {
        "train": {"train"},
        "val": {"val"},
        "test": {"test"},
    }
    assert sum(map(len, found.values())) == len(read_open_masks(folder))


def test_a_mask_is_its_largest_part(folder: Path) -> None:
    target = next(target for target in read_open_masks(folder) if target.id.startswith("kvasir"))
    stored = np.asarray(Image.open(target.mask))
    mask = load_mask(target)
    assert mask.dtype == np.bool_
    assert 0 < mask.sum() < stored.sum()
    assert (mask == largest_component(stored)).all()
    assert not mask[60, 60], "its hole stays"


@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_masks_of_other_kinds_read_alike(tmp_path: Path, mode: str) -> None:
    mask = ellipse(40, 50, 20, 20, 9, 6)
    folder = write_manifest(tmp_path, [add_target(tmp_path, "a", mask)])
    Image.fromarray(mask).convert(mode).save(tmp_path / "masks" / "drawn" / "a__colon-polyp.png")
    assert (load_mask(read_open_masks(folder)[0]) == mask).all()


def test_blank_lines_and_line_separators_inside_strings_are_no_rows(tmp_path: Path) -> None:
    row = add_target(tmp_path, "a", ellipse(40, 50, 20, 20, 9, 6)) | {"dataset": "one\u2028two\x85three"}
    text = json.dumps(row, ensure_ascii=False) + "\r\n\n"
    (tmp_path / "manifest.jsonl").write_text(text + text.replace("drawn/a", "drawn/b", 1), encoding="utf-8")
    assert [target.dataset for target in read_open_masks(tmp_path)] == ["one\u2028two\x85three"] * 2


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"id": None}, "id", "valid string"),
        ({"width": 0}, "width", "greater than 0"),
        ({"height": -3}, "height", "greater than 0"),
        ({"height": 3.5}, "height", "integer"),
        ({"width": "wide"}, "width", "integer"),
        ({"split": "training"}, "split", "'train', 'val' or 'test'"),
        ({"mask": 5}, "mask", "path"),
        ({"image": "/etc/hostname"}, "image", "from the folder"),
        ({"mask": "masks/../../elsewhere.png"}, "mask", "from the folder"),
        ({"category": ["polyp"]}, "category", "valid string"),
        *(
            ({field: ...}, field, "required")
            for field in (
                *("id", "image", "mask", "width", "height"),
                *("modality", "category", "source", "group", "split"),
            )
        ),
    ],
)
def test_a_bad_row_is_told_with_file_line_and_field(
    tmp_path: Path, change: dict[str, Any], field: str, said: str
) -> None:
    rows = [add_target(tmp_path, name, ellipse(40, 50, 20, 20, 9, 6)) for name in "abc"]
    bad = {key: value for key, value in (rows[1] | change).items() if value is not ...}
    write_manifest(tmp_path, [rows[0], bad, rows[2]])
    for split in (None, "val"):  # even where the row isn't asked for
        with pytest.raises(ConfigError) as error:
            read_open_masks(tmp_path, split)
        assert str(error.value).startswith(f"{tmp_path / 'manifest.jsonl'}:2: {field}: ")
        assert said in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("line", ["{", "[]", "null", "7", '{"id": "a"} {}', "\x00"])
def test_a_line_that_is_no_row_is_told(tmp_path: Path, line: str) -> None:
    row = json.dumps(add_target(tmp_path, "a", ellipse(40, 50, 20, 20, 9, 6)))
    (tmp_path / "manifest.jsonl").write_text(f"{row}\n{line}\n")
    with pytest.raises(ConfigError, match=r"manifest.jsonl:2: the line: .*; mend or drop the row"):
        read_open_masks(tmp_path)


def test_a_missing_or_unreadable_manifest_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"manifest.jsonl: no such file; give the folder"):
        read_open_masks(tmp_path)
    (tmp_path / "manifest.jsonl").write_bytes(b'{"id": "\xff"}\n')
    with pytest.raises(ConfigError, match=r"manifest.jsonl: can't be read .*UTF-8"):
        read_open_masks(tmp_path)


def test_a_patient_in_two_splits_is_refused(tmp_path: Path) -> None:
    mask = ellipse(40, 50, 20, 20, 9, 6)
    rows = [
        add_target(tmp_path, "a", mask, group="p1"),
        add_target(tmp_path, "b", mask, group="p1"),
        add_target(tmp_path, "c", mask, group="p2", split="test"),
        add_target(tmp_path, "d", mask, group="p1", split="test"),
    ]
    assert len(read_open_masks(write_manifest(tmp_path, rows[:3]))) == 3
    write_manifest(tmp_path, rows)
    for split in (None, "train", "test"):
        with pytest.raises(ConfigError, match=r"manifest.jsonl:4: split: patient group 'p1' is in two splits"):
            read_open_masks(tmp_path, split)


def test_an_id_that_comes_twice_is_refused(tmp_path: Path) -> None:
    row = add_target(tmp_path, "a", ellipse(40, 50, 20, 20, 9, 6))
    write_manifest(tmp_path, [row, row | {"category": "lesion"}])
    with pytest.raises(ConfigError, match=r"manifest.jsonl:2: id: 'drawn/a/colon-polyp' is that of line 1 too"):
        read_open_masks(tmp_path)


def one_target(folder: Path) -> Target:
    write_manifest(folder, [add_target(folder, "a", ellipse(40, 50, 20, 20, 9, 6))])
    return read_open_masks(folder)[0]


@pytest.mark.parametrize("what", ["mask", "image"])
@pytest.mark.parametrize("fault", ["missing", "folder", "text", "empty", "cut off", "another size", "turned", "bomb"])
def test_a_file_that_cant_be_used_is_told_by_its_name(
    tmp_path: Path, what: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = one_target(tmp_path)
    path: Path = getattr(target, what)
    whole = path.read_bytes()
    path.unlink()
    if fault == "folder":
        path.mkdir()
    elif fault == "text":
        path.write_text("not a picture")
    elif fault == "empty":
        path.write_bytes(b"")
    elif fault == "cut off":
        path.write_bytes(whole[: len(whole) // 2])
    elif fault == "another size":
        Image.new("L", (50, 41)).save(path)
    elif fault == "turned":
        Image.new("L", (40, 50)).save(path)
    elif fault == "bomb":
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        path.write_bytes(whole)
    said = "isn't the manifest's size 50 x 40" if fault in ("another size", "turned") else f"the {what} can't be read"
    with pytest.raises(TruthError) as error:
        (load_mask if what == "mask" else load_picture)(target)
    assert str(error.value).startswith(f"{path}: ")
    assert said in str(error.value)


def test_an_empty_mask_is_told(tmp_path: Path) -> None:
    target = one_target(tmp_path)
    Image.new("1", (50, 40)).save(target.mask)
    with pytest.raises(TruthError, match=r"a__colon-polyp.png: the mask is empty; drop the row"):
        load_mask(target)


@pytest.mark.skipif(not (REAL / "manifest.jsonl").is_file(), reason="the open masks aren't here")
def test_the_real_folder() -> None:
    targets = read_open_masks(REAL)
    assert Counter(target.split for target in targets) == {"train": 7543, "val": 338, "test": 804}
    for category, modality in sorted({(target.category, target.modality) for target in targets}):
        assert category in taxonomy.target_of(category).categories
        assert modality in PICTURE_WORDS
    for target in targets[::290]:
        mask = load_mask(target)
        assert mask.shape == (target.height, target.width)
        assert mask.any()
        assert load_picture(target).size == (target.width, target.height)
