"""From pictures with masks to target records; what a TOML or CSV may say, and what is told where it can't be so."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn import BRIGHT, add_target, ellipse, paint, small_folder, write_manifest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from medground.data.clean import CleanReport, Component, Rules, clean, shards_of, split_of
from medground.data.open_masks import load_mask, read_open_masks
from medground.data.sources import read_source
from medground.data.stages import StageError, read_parts, read_stage
from medground.data.volumes import SliceChoice
from medground.errors import ConfigError
from medground.images import load_image
from medground.masks import box_of, decode_rle, key_points

FIELDS = [
    "id", "picture", "image", "width", "height", "category", "modality", "source", "licence", "tier", "group", "split",
    "mask", "bbox", "points", "parts", "share", "origin",
]  # fmt: skip


def records_of(report: CleanReport) -> list[dict[str, Any]]:
    return list(read_parts(report.stage.folder))


def dropped_of(report: CleanReport) -> list[dict[str, Any]]:
    return list(read_parts(report.stage.folder, "dropped"))


def made(sources: list[Path], out: Path, **rules: Any) -> CleanReport:
    return clean(sources, out, workers=1, **rules)


def image(path: Path, values: np.ndarray, **how: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **how)
    return path


BLOB, SPECK = ellipse(40, 50, 20, 20, 9, 6), ellipse(40, 50, 5, 45, 3, 3)


# -- a manifest -------------------------------------------------------------------------------------------------------


def test_a_manifest_becomes_records(tmp_path: Path) -> None:
    folder = small_folder(tmp_path / "masks")
    report = made([folder], tmp_path / "out")
    records = records_of(report)
    targets = {target.id: target for target in read_open_masks(folder)}
    assert {record["id"] for record in records} == set(targets)
    assert report.dropped == {}
    root = Path(read_stage(tmp_path / "out" / "clean")["root"])
    assert root == folder.resolve()
    for record in records:
        target = targets[record["id"]]
        assert list(record) == FIELDS
        mask = load_mask(target)
        assert (decode_rle(record["mask"]) == mask).all()
        assert record["bbox"] == list(box_of(mask).xyxy)
        assert record["points"] == [list(point.xy) for point in key_points(mask)]
        assert record["share"] == mask.mean()
        assert (root / record["image"]).resolve() == target.image.resolve()
        assert record["picture"] == record["image"], "its id doesn't depend on where the folder lies"
        assert (record["width"], record["height"]) == load_image(target.image).size
        for field in ("category", "modality", "source", "tier", "group", "split"):
            assert record[field] == getattr(target, field)
        assert (record["licence"], record["origin"]) == ("CC0-1.0", {})
    assert {record["id"]: record["parts"] for record in records}["kvasir_seg/b/colon-polyp"] == 2


def test_the_bytes_dont_depend_on_workers_or_on_where_things_lie(tmp_path: Path) -> None:
    for place, workers in (("a", 1), ("b", 2)):
        clean([small_folder(tmp_path / place / "masks")], tmp_path / place / "out", workers=workers)
    first, second = (sorted((tmp_path / place / "out" / "clean").glob("part-*")) for place in "ab")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    stages = [read_stage(tmp_path / place / "out" / "clean") for place in "ab"]
    assert stages[0]["digest"] == stages[1]["digest"]


def test_targets_of_one_picture_stay_in_one_shard(tmp_path: Path) -> None:
    rows = []
    for number in range(130):
        rows.append(add_target(tmp_path / "masks", f"p{number:03d}", BLOB))
        rows.append(add_target(tmp_path / "masks", f"p{number:03d}", SPECK, category="cyst"))
    report = made([write_manifest(tmp_path / "masks", rows)], tmp_path / "out")
    assert (report.stage.shards, report.stage.records[""]) == (3, 260)
    seen: Counter[str] = Counter()
    for path in sorted(report.stage.folder.glob("part-*")):
        pictures = {record["picture"] for record in read_parts(path)}
        assert len(pictures) <= 64
        seen.update(pictures)
    assert set(seen.values()) == {1}


# -- components and filters -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("component", "min_pixels", "kept"),
    [
        ("largest", 1, {"": BLOB}),
        ("all", 1, {"": BLOB | SPECK}),
        ("each", 1, {"/1": BLOB, "/2": SPECK}),
        ("each", 100, {"/1": BLOB}),
    ],
)
def test_components(tmp_path: Path, component: Component, min_pixels: int, kept: dict[str, np.ndarray]) -> None:
    folder = write_manifest(tmp_path, [add_target(tmp_path, "a", BLOB | SPECK)])
    report = made([folder], tmp_path / "out", component=component, min_pixels=min_pixels)
    records = {record["id"].removeprefix("drawn/a/colon-polyp"): record for record in records_of(report)}
    assert set(records) == set(kept)
    for name, mask in kept.items():
        assert (decode_rle(records[name]["mask"]) == mask).all()
        assert records[name]["bbox"] == list(box_of(mask).xyxy)
        assert records[name]["parts"] == 2
    assert report.dropped == ({} if min_pixels == 1 else {"smaller than 100 pixels": 1})


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ({"min_pixels": int(BLOB.sum()) + 1}, f"smaller than {BLOB.sum() + 1} pixels"),
        ({"min_share": 0.2}, "less than 0.2 of the picture"),
        ({"max_share": 0.05}, "more than 0.05 of the picture"),
    ],
)
def test_what_is_filtered_is_told_with_its_reason(tmp_path: Path, rules: dict[str, Any], reason: str) -> None:
    half = np.zeros((40, 50), bool)
    half[:, :15] = True  # 0.3 of the picture
    kept = ellipse(40, 50, 20, 20, 1.2, 1.2) if "max_share" in rules else half
    rows = [add_target(tmp_path, "a", BLOB), add_target(tmp_path, "b", kept)]
    rows.append(add_target(tmp_path, "c", kept & False, paint(BLOB)))
    report = made([write_manifest(tmp_path, rows)], tmp_path / "out", **{"min_pixels": 2, **rules})
    assert [record["id"] for record in records_of(report)] == ["drawn/b/colon-polyp"]
    assert report.dropped == {reason: 1, "the mask is empty": 1}
    assert dropped_of(report)[0] == {"id": "drawn/a/colon-polyp", "category": "colon polyp", "reason": reason}


def test_masks_at_the_bounds_are_kept(tmp_path: Path) -> None:
    folder = write_manifest(tmp_path, [add_target(tmp_path, "a", BLOB)])
    share = float(BLOB.mean())
    report = made([folder], tmp_path / "out", min_pixels=int(BLOB.sum()), min_share=share, max_share=share)
    assert report.stage.records == {"": 1}


@pytest.mark.parametrize(
    "wrong",
    [
        {"component": "smallest"},
        {"min_pixels": 0},
        {"min_share": 0.6, "max_share": 0.5},
        {"max_share": 1.5},
        {"shares": (0.5, 0.4, 0.2)},
        {"shares": (1.2, -0.2, 0.0)},
        {"shares": (1.0,)},
    ],
)
def test_rules_that_cant_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Rules(**wrong)


# -- splits -----------------------------------------------------------------------------------------------------------


def test_patients_are_split_in_the_given_shares() -> None:
    drawn = Counter(split_of(f"clinic/{number}", (0.7, 0.1, 0.2)) for number in range(4000))
    assert drawn["train"] == pytest.approx(2800, abs=120)
    assert drawn["val"] == pytest.approx(400, abs=80)
    assert drawn["test"] == pytest.approx(800, abs=100)
    assert {split_of(f"clinic/{number}", (0.0, 1.0, 0.0)) for number in range(50)} == {"val"}
    assert {split_of(f"clinic/{number}", (1.0, 0.0, 0.0)) for number in range(50)} == {"train"}


@given(st.text(), st.integers(0, 3))
def test_a_split_is_a_function_of_patient_and_seed(group: str, seed: int) -> None:
    shares = (0.4, 0.3, 0.3)
    assert split_of(group, shares, seed) == split_of(group, shares, seed) in ("train", "val", "test")


def test_no_patient_is_in_two_splits(tmp_path: Path) -> None:
    for patient in range(30):
        for view in range(3):
            image(tmp_path / "a" / "images" / f"p{patient}_{view}.png", paint(BLOB))
            image(tmp_path / "a" / "masks" / f"p{patient}_{view}.png", BLOB)
    about(tmp_path / "a", patient="^(p[0-9]+)_")
    report = made([tmp_path / "a"], tmp_path / "out", shares=(0.5, 0.25, 0.25))
    splits: dict[str, set[str]] = {}
    for record in records_of(report):
        splits.setdefault(record["group"], set()).add(record["split"])
    assert len(splits) == 30
    assert all(len(found) == 1 for found in splits.values())
    assert {next(iter(found)) for found in splits.values()} == {"train", "val", "test"}
    assert "clinic/p7" in splits
    again = made([tmp_path / "a"], tmp_path / "other", shares=(0.5, 0.25, 0.25), seed=1)
    assert [record["split"] for record in records_of(again)] != [record["split"] for record in records_of(report)]


# -- a folder that a TOML describes -----------------------------------------------------------------------------------

ABOUT = {
    "source": "clinic",
    "modality": "ultrasound",
    "images": "images/{case}.png",
    "masks": "masks/{case}.png",
    "category": "thyroid nodule",
}


def about(folder: Path, **changes: Any) -> Path:
    """Write medground.toml; a change to None leaves a field out."""
    fields = {name: value for name, value in {**ABOUT, **changes}.items() if value is not None}
    tables = {name: value for name, value in fields.items() if isinstance(value, dict)}
    lines = [f"{name} = {json.dumps(value)}" for name, value in fields.items() if name not in tables]
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{json.dumps(key)} = {json.dumps(value)}" for key, value in table.items())]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "medground.toml").write_text("\n".join(lines))
    return folder


def test_one_mask_a_picture(tmp_path: Path) -> None:
    image(tmp_path / "images" / "p1.png", paint(BLOB))
    image(tmp_path / "images" / "healthy.png", paint(SPECK))  # a picture without a mask has no target
    image(tmp_path / "masks" / "p1.png", BLOB)
    (tmp_path / "masks" / "._p1.png").write_bytes(b"left by macOS")
    report = made([about(tmp_path, licence="CC-BY-4.0", tier="A", split="test")], tmp_path / "out")
    (record,) = records_of(report)
    assert record["id"] == "clinic/p1/thyroid-nodule"
    assert (record["picture"], record["group"], record["split"]) == ("clinic/images/p1.png", "clinic/p1", "test")
    assert (record["category"], record["modality"], record["licence"]) == ("thyroid nodule", "ultrasound", "CC-BY-4.0")
    root = Path(read_stage(report.stage.folder)["root"])
    assert (root / record["image"]).samefile(tmp_path / "images" / "p1.png")


@pytest.mark.parametrize("categories", [None, {"left": "left side", "nodule_left": "left nodule", "cyst": "cyst"}])
def test_categories_in_the_names_of_masks(tmp_path: Path, categories: dict[str, str] | None) -> None:
    image(tmp_path / "images" / "p1_2.jpg", paint(BLOB, SPECK))
    for name in ("nodule_left", "cyst", "other"):
        image(tmp_path / "masks" / f"p1_2_{name}.png" if categories else tmp_path / "masks" / f"p1_2__{name}.png", BLOB)
    masks = "masks/{case}_{category}.png" if categories else "masks/{case}__{category}.png"
    about(tmp_path, images="images/{case}.*", masks=masks, category=None, categories=categories)
    records = records_of(made([tmp_path], tmp_path / "out"))
    assert [record["id"] for record in records] == [
        f"clinic/p1_2/{name}" for name in (("cyst", "left-nodule") if categories else ("cyst", "nodule-left", "other"))
    ]
    assert {record["group"] for record in records} == {"clinic/p1_2"}


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32, np.float32])
def test_label_pictures(tmp_path: Path, kind: type) -> None:
    labels = np.zeros((40, 50), kind)
    labels[BLOB], labels[SPECK], labels[30:36, 40:46], labels[0, 0] = 1, 7, 9, 200 if kind is not np.uint8 else 250
    image(tmp_path / "images" / "p1.png", paint(BLOB, SPECK))
    image(tmp_path / "masks" / "p1.tif", labels)
    names = {"1": "nodule", "7": "cyst", "9": "cyst", "12": "vessel"}
    report = made(
        [about(tmp_path, masks="masks/{case}.tif", category=None, labels=names)], tmp_path / "out", component="all"
    )
    records = {record["category"]: decode_rle(record["mask"]) for record in records_of(report)}
    assert set(records) == {"nodule", "cyst"}, "a label that a picture lacks is no target of it"
    assert (records["nodule"] == BLOB).all()
    assert (records["cyst"] == ((labels == 7) | (labels == 9))).all(), "values of one name are one target"
    assert report.dropped == {"the label has no name": 1}


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"])
def test_masks_of_any_kind_read_alike(tmp_path: Path, mode: str) -> None:
    image(tmp_path / "images" / "p1.png", paint(BLOB))
    (tmp_path / "masks").mkdir()
    if mode == "I;16":
        Image.fromarray(BLOB.astype(np.uint16)).save(tmp_path / "masks" / "p1.png")
    elif mode == "P":
        picture = Image.fromarray(BLOB.astype(np.uint8)).convert("P")
        picture.putpalette([0, 0, 0, 1, 0, 0] + [9] * 762)
        picture.save(tmp_path / "masks" / "p1.png")
    else:
        Image.fromarray(BLOB.astype(np.uint8) * 255).convert(mode).save(tmp_path / "masks" / "p1.png")
    (record,) = records_of(made([about(tmp_path)], tmp_path / "out"))
    assert (decode_rle(record["mask"]) == BLOB).all()


def test_a_jpeg_mask_has_no_ringing(tmp_path: Path) -> None:
    image(tmp_path / "images" / "p1.png", paint(BLOB))
    image(tmp_path / "masks" / "p1.jpg", BLOB.astype(np.uint8) * 255, quality=60)
    (record,) = records_of(made([about(tmp_path, masks="masks/{case}.jpg")], tmp_path / "out", component="all"))
    assert (decode_rle(record["mask"]) != BLOB).mean() < 0.01


def test_pictures_that_viewers_show_otherwise_are_written_anew(tmp_path: Path) -> None:
    deep = (paint(BLOB)[..., 0].astype(np.uint16) * 200) + np.arange(50, dtype=np.uint16)
    image(tmp_path / "images" / "deep.png", deep)
    turned = Image.Exif()
    turned[274] = 6  # a quarter turn
    image(tmp_path / "images" / "turned.jpg", paint(BLOB.T), exif=turned)
    image(tmp_path / "images" / "plain.jpg", paint(BLOB))
    image(tmp_path / "masks" / "deep.png", BLOB)
    image(tmp_path / "masks" / "turned.png", np.rot90(BLOB.T, -1))
    image(tmp_path / "masks" / "plain.png", BLOB)
    report = made([about(tmp_path, images="images/{case}.*")], tmp_path / "out")
    root = Path(read_stage(report.stage.folder)["root"])
    for record in records_of(report):
        with Image.open(root / record["image"]) as shown:
            grey = np.asarray(shown.convert("L"))
        mask = decode_rle(record["mask"])
        assert grey.shape == mask.shape
        assert grey[mask].min() > BRIGHT - 60 > grey[~mask].mean()
        assert record["image"].startswith("out/images/") != (record["id"] == "clinic/plain/thyroid-nodule")
        assert ".." not in record["image"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"source": None}, "source: is missing"),
        ({"source": "../up"}, "source: String should match"),
        ({"modality": ""}, "modality: "),
        ({"sauce": "x"}, "sauce: isn't known here"),
        ({"images": "images/a.png"}, "images: must hold {case} once"),
        ({"images": "../{case}.png"}, "images: must lead from the TOML"),
        ({"images": "{category}/{case}.png"}, "images holds {category}"),
        ({"category": None}, "name the targets in one way"),
        ({"labels": {"1": "cyst"}}, "name the targets in one way"),
        ({"category": None, "labels": {"0": "cyst"}}, "'0' isn't the value of a pixel"),
        ({"category": None, "labels": {"one": "cyst"}}, "'one' isn't the value of a pixel"),
        ({"categories": {"a": "b"}}, "masks holds no {category}"),
        ({"patient": "(p"}, "patient: isn't a regular expression"),
        ({"patient": "^x([0-9]+)"}, "finds no patient in the case 'p1'"),
        ({"split": "holdout"}, "split: "),
        ({"axis": "axial"}, "axis and frame are for NIfTI"),
        ({"kind": "nifti"}, "targets of volumes are named by labels"),
        ({"kind": "nifti", "category": None}, "labels is missing"),
        ({"masks": "mask/{case}.png"}, "no file is named like mask/{case}.png"),
        (
            {"images": "image/{case}.png"},
            "0 files are named like image/{case}.png for the case 'p1', whose mask is masks",
        ),
        ({"images": "images/{case}*"}, "2 files are named like"),
    ],
)
def test_what_a_toml_cant_say(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    image(tmp_path / "images" / "p1.png", paint(BLOB))
    image(tmp_path / "images" / "p12.png", paint(BLOB))
    image(tmp_path / "masks" / "p1.png", BLOB)
    with pytest.raises(ConfigError) as caught:
        read_source(about(tmp_path, **changes))
    assert str(tmp_path / "medground.toml") in str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_source(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has neither manifest\.jsonl nor medground\.toml"):
        read_source(tmp_path)
    with pytest.raises(ConfigError, match="no such file or folder"):
        read_source(tmp_path / "gone")
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"isn't a \.toml or \.csv"):
        read_source(tmp_path / "a.json")
    (tmp_path / "a.toml").write_text("source = ")
    with pytest.raises(ConfigError, match=r"a\.toml: can't be read .*it must be TOML"):
        read_source(tmp_path / "a.toml")
    with pytest.raises(ConfigError, match="there is no source"):
        made([], tmp_path / "out")


# -- a CSV ------------------------------------------------------------------------------------------------------------

HEADER = "image,mask,category,modality,source,value,patient,split,licence"


def table(folder: Path, *lines: str, header: str = HEADER) -> Path:
    (folder / "targets.csv").write_text("\ufeff" + "\r\n".join([header, *lines]), encoding="utf-8")
    return folder / "targets.csv"


def pictures(folder: Path) -> None:
    for name in ("a", "b"):
        image(folder / "pictures" / f"{name}.png", paint(BLOB, SPECK))
    labels = BLOB.astype(np.uint8) + 2 * SPECK.astype(np.uint8)
    image(folder / "labels.png", labels)
    image(folder / "blob.png", BLOB)


def test_a_csv_has_a_target_a_line(tmp_path: Path) -> None:
    pictures(tmp_path)
    lines = [
        "pictures/a.png,labels.png,nodule,ultrasound,clinic,1,p1,test,CC0-1.0",
        'pictures/a.png,labels.png,"cyst, simple",ultrasound,clinic,2,p1,test,CC0-1.0',
        "pictures/b.png,blob.png,nodule,ultrasound,clinic,,,,",
    ]
    records = records_of(made([table(tmp_path, *lines)], tmp_path / "out", shares=(0, 1, 0)))
    assert [(record["id"], record["group"], record["split"]) for record in records] == [
        ("clinic/pictures/a/nodule", "clinic/p1", "test"),
        ("clinic/pictures/a/cyst,-simple", "clinic/p1", "test"),
        ("clinic/pictures/b/nodule", "clinic/pictures/b", "val"),
    ]
    for record, mask in zip(records, (BLOB, SPECK, BLOB), strict=True):
        assert (decode_rle(record["mask"]) == mask).all()


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["pictures/a.png,blob.png,,ultrasound,clinic,,,,"], ":2: category: "),
        (["pictures/a.png,blob.png,nodule,ultrasound,clinic,one,,,"], ":2: value: "),
        (["pictures/a.png,blob.png,nodule,ultrasound,clinic,,,dev,"], ":2: split: "),
        (["pictures/a.png,blob.png,nodule"], ":2: has not as many cells as the header"),
        (["pictures/a.png,blob.png,nodule,ultrasound,clinic,,,,,,"], ":2: has not as many cells"),
        (["pictures/c.png,blob.png,nodule,ultrasound,clinic,,,,"], ":2: image: pictures/c.png is no file"),
        (["pictures/a.png,../blob.png,nodule,ultrasound,clinic,,,,"], ":2: mask: ../blob.png is no file"),
        (
            ["pictures/a.png,blob.png,nodule,ultrasound,clinic,,p1,,", "pictures/a.png,blob.png,cyst,CT,clinic,,p1,,"],
            ":3: says otherwise than an earlier line about pictures/a.png",
        ),
        ([], "holds no lines below its header"),
    ],
)
def test_what_a_csv_cant_say(tmp_path: Path, lines: list[str], said: str) -> None:
    pictures(tmp_path)
    with pytest.raises(ConfigError) as caught:
        read_source(table(tmp_path, *lines))
    assert str(caught.value).startswith(str(tmp_path / "targets.csv"))
    assert said in str(caught.value)


def test_a_column_that_isnt_known_is_told(tmp_path: Path) -> None:
    pictures(tmp_path)
    with pytest.raises(ConfigError, match="patiente: isn't known here"):
        read_source(
            table(tmp_path, "pictures/a.png,blob.png,n,CT,c,p1", header="image,mask,category,modality,source,patiente")
        )
    with pytest.raises(ConfigError, match="modality: is missing"):
        read_source(table(tmp_path, "pictures/a.png,blob.png,n,c", header="image,mask,category,source"))


# -- what is wrong with the whole -------------------------------------------------------------------------------------


def test_bad_files_fail_their_shard_or_are_skipped(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        image(tmp_path / "images" / f"{name}.png", paint(BLOB))
        image(tmp_path / "masks" / f"{name}.png", BLOB)
    (tmp_path / "masks" / "b.png").write_bytes(b"no picture")
    image(tmp_path / "masks" / "c.png", BLOB[:-1])
    (tmp_path / "images" / "d.png").write_bytes((tmp_path / "images" / "d.png").read_bytes()[:60])
    about(tmp_path)
    with pytest.raises(StageError, match=r"masks/b\.png: the mask can't be read"):
        made([tmp_path], tmp_path / "out")
    report = made([tmp_path], tmp_path / "skipped", skip_bad=True)
    assert [record["id"] for record in records_of(report)] == ["clinic/a/thyroid-nodule"]
    assert report.dropped == {"can't be read": 3}
    causes = [record["cause"] for record in dropped_of(report)]
    assert "50 x 39 pixels aren't the 50 x 40 of" in causes[1]
    assert "d.png" in causes[2]


@pytest.mark.parametrize(("kind", "said"), [("RGB", "values are asked of a mask in RGB PNG"), ("jpg", "in L JPEG")])
def test_values_need_one_channel_without_loss(tmp_path: Path, kind: str, said: str) -> None:
    image(tmp_path / "images" / "p1.png", paint(BLOB))
    (tmp_path / "masks").mkdir()
    labels = Image.fromarray(BLOB.astype(np.uint8))
    labels.convert("RGB").save(tmp_path / "masks" / "p1.png") if kind == "RGB" else labels.save(
        tmp_path / "masks" / "p1.jpg"
    )
    about(tmp_path, masks="masks/{case}.*", category=None, labels={"1": "nodule"})
    with pytest.raises(StageError, match=said):
        made([tmp_path], tmp_path / "out")


def test_several_sources_share_a_root(tmp_path: Path) -> None:
    small_folder(tmp_path / "open")
    image(tmp_path / "clinic" / "images" / "p1.png", paint(BLOB))
    image(tmp_path / "clinic" / "masks" / "p1.png", BLOB)
    report = made([tmp_path / "open", about(tmp_path / "clinic")], tmp_path / "out")
    root = Path(read_stage(report.stage.folder)["root"])
    assert root == tmp_path.resolve()
    records = records_of(report)
    assert all((root / record["image"]).is_file() for record in records)
    assert {record["source"] for record in records} >= {"clinic", "kvasir_seg"}
    with pytest.raises(ConfigError, match="is the id of two"):
        made([tmp_path / "clinic", tmp_path / "clinic"], tmp_path / "twice")


def test_a_patient_in_two_splits_is_refused(tmp_path: Path) -> None:
    pictures(tmp_path)
    lines = [
        "pictures/a.png,blob.png,nodule,ultrasound,clinic,,p1,test,",
        "pictures/b.png,blob.png,nodule,ultrasound,clinic,,p1,train,",
    ]
    with pytest.raises(ConfigError, match="the patient 'clinic/p1' is in the splits test and train"):
        made([table(tmp_path, *lines)], tmp_path / "out")


def test_a_build_without_targets_is_told(tmp_path: Path) -> None:
    folder = write_manifest(tmp_path, [add_target(tmp_path, "a", BLOB)])
    with pytest.raises(ConfigError, match=r"no target is left \(1 smaller than 999 pixels\)"):
        made([folder], tmp_path / "out", min_pixels=999)


def test_other_rules_or_targets_need_another_folder(tmp_path: Path) -> None:
    folder = small_folder(tmp_path / "masks")
    made([folder], tmp_path / "out")
    with pytest.raises(ConfigError, match="min_pixels 16, not 17"):
        made([folder], tmp_path / "out", min_pixels=17)
    manifest = folder / "manifest.jsonl"
    manifest.write_text(manifest.read_text().replace('"split": "val"', '"split": "test"'))
    with pytest.raises(ConfigError, match="made with sources"):
        made([folder], tmp_path / "out")
    assert made([folder], tmp_path / "out", restart=True).stage.found == 0


# -- volumes ----------------------------------------------------------------------------------------------------------


def volumes(folder: Path) -> Path:
    nib = pytest.importorskip("nibabel")
    for case in ("p1", "p2"):
        values = np.random.default_rng(len(case)).integers(0, 900, (30, 28, 12)).astype(np.int16)
        labels = np.zeros(values.shape, np.uint8)
        labels[3:12, 4:14, 2:9] = 1
        labels[18:24, 15:22, 5:7] = 2
        for kind, array in (("images", values), ("labels", labels)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.diag([2.0, 2.0, 3.0, 1.0])), folder / kind / f"{case}.nii.gz")
    changes = {"images": "images/{case}.nii.gz", "masks": "labels/{case}.nii.gz", "category": None}
    return about(folder, kind="nifti", modality="CT", labels={"1": "liver"}, **changes)


def test_volumes_become_slices_and_records(tmp_path: Path) -> None:
    folder = volumes(tmp_path / "ct")
    report = made([folder], tmp_path / "out", slices=SliceChoice(every=3))
    records = records_of(report)
    assert [record["id"] for record in records[:3]] == [f"clinic/p1/liver/axial-000{index}" for index in (2, 5, 8)]
    assert report.dropped == {"the label has no name": 2}
    root = Path(read_stage(report.stage.folder)["root"])
    assert root == (tmp_path / "out").resolve()
    for record in records:
        assert record["image"] == f"images/{record['picture']}.png"
        volume = folder / "images" / f"{record['group'].removeprefix('clinic/')}.nii.gz"
        shown = load_image(volume, axis=record["origin"]["axis"], slice=record["origin"]["slice"])
        assert (load_image(root / record["image"]).rgb == shown.rgb).all()
        assert shown.size == (record["width"], record["height"])
    for workers in (1, 2):
        again = clean([folder], tmp_path / str(workers), slices=SliceChoice(every=3), workers=workers)
        assert records_of(again) == records
    files = [sorted(path.relative_to(tmp_path / str(n)) for path in (tmp_path / str(n)).rglob("*.png")) for n in (1, 2)]
    assert files[0] == files[1]
    assert len(files[0]) == 6


def test_a_volume_counts_as_many_pictures(tmp_path: Path) -> None:
    jobs = read_source(volumes(tmp_path)).jobs * 5
    assert [len(shard) for shard in shards_of(jobs)] == [4, 4, 2]
