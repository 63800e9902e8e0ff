from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn import BRIGHT, DARK, add_target, ellipse, small_folder, write_manifest
from PIL import Image

from medground import taxonomy
from medground.coords import Space
from medground.data.attributes import measure
from medground.data.build import (
    PATIENT_SIDED,
    build_sample,
    build_samples,
    grey_levels,
    main,
    partners,
    side_phrase,
)
from medground.data.open_masks import load_mask, read_open_masks
from medground.data.questions import HELD_OUT_FRAMES, TRAIN_FRAMES
from medground.errors import TruthError
from medground.masks import box_of
from medground.types import Sample

REAL = Path(os.environ.get("MEDGROUND_OPEN_MASKS", Path(__file__).parents[2] / "shared" / "data" / "open-masks"))
PICTURE_SIDES = {
    "left": "on the left side of the image",
    "right": "on the right side of the image",
    "upper": "in the upper part of the image",
    "lower": "in the lower part of the image",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_folder(tmp_path_factory.mktemp("masks"))


@pytest.fixture(scope="module")
def samples(folder: Path) -> dict[str, Sample]:
    return {sample.id: sample for sample in build_samples(read_open_masks(folder))}


def run(folder: Path, out: Path, *more: str) -> list[dict[str, Any]]:
    main([str(folder), "--out", str(out), *more])
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def check_place(sample: Sample, mask: np.ndarray) -> None:
    assert sample.box == box_of(mask)
    assert sample.box.space == Space.pixels(mask.shape[1], mask.shape[0])
    assert len(sample.points) == 2
    for point in sample.points:
        assert mask[int(point.y), int(point.x)]
        assert sample.box.contains(point)


def test_the_same_seed_gives_the_same_bytes(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = tmp_path / "first.jsonl"
    run(folder, first, "--split", "train")
    # From another folder, by another process, with another seed for hashes.
    second = tmp_path / "second.jsonl"
    command = [sys.executable, "-m", "medground.data.build", ".", "--split", "train", "--out", str(second)]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | {"PYTHONHASHSEED": "7"}, capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    assert done.stderr == f"8 samples -> {second}\n"
    assert second.read_bytes() == first.read_bytes()
    third = tmp_path / "third.jsonl"
    run(folder, third, "--split", "train", "--seed", "1")
    assert third.read_bytes() != first.read_bytes()


def test_a_sample_doesnt_depend_on_its_neighbours(folder: Path, samples: dict[str, Sample]) -> None:
    targets = read_open_masks(folder)
    pairs = partners(targets)
    for target in reversed(targets):
        alone = build_sample(target, pairs.get(target.id), seed=0, held_out=target.split != "train")
        assert alone == samples[target.id]


def test_rows_hold_all_that_the_manifest_and_the_mask_say(folder: Path, tmp_path: Path) -> None:
    rows = run(folder, tmp_path / "train.jsonl", "--split", "train")
    manifest = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    manifest = [row for row in manifest if row["split"] == "train"]
    assert [row["id"] for row in rows] == [row["id"] for row in manifest]
    for row, truth in zip(rows, manifest, strict=True):
        kept = ("image", "mask", "width", "height", "modality", "category", "source", "license", "tier", "group")
        assert {key: row[key] for key in kept} == {key: truth[key] for key in kept}
        assert (row["split"], row["coordinates"]) == ("train", "pixels")
        knowledge = taxonomy.target_of(truth["category"])
        assert (row["target"], row["supercategory"]) == (knowledge.name, knowledge.supercategory)
        assert row["question"]
        assert row["reasoning"].startswith(knowledge.fact)
        mask = np.asarray(Image.open(folder / row["mask"]))
        x1, y1, x2, y2 = map(int, row["bbox"])
        assert mask[y1:y2, x1:x2].any()
        for x, y in row["points"]:
            assert x1 < x < x2
            assert y1 < y < y2
            assert mask[int(y), int(x)]


def test_boxes_and_points_lie_on_the_largest_part(folder: Path, samples: dict[str, Sample]) -> None:
    for target in read_open_masks(folder):
        check_place(samples[target.id], load_mask(target))
    # The small part of this mask lies at (10, 10); neither the box nor a point goes there.
    assert samples["kvasir_seg/b/colon-polyp"].box.xyxy == (44, 44, 77, 77)


def test_traces_are_true(folder: Path, samples: dict[str, Sample]) -> None:
    for target in read_open_masks(folder):
        facts = measure(load_mask(target), grey_levels(target))
        trace = samples[target.id].reasoning
        for fact in (f"the {facts.zone} of the image", facts.size, facts.shape, facts.brightness):
            assert fact in trace
        assert "brighter than" in trace
    assert "the upper left of the image" in samples["drawn/a/colon-polyp"].reasoning


def test_validation_and_test_questions_use_held_out_frames(samples: dict[str, Sample]) -> None:
    def openings(frames: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(frame.partition("{")[0] for frame in frames if not frame.startswith("{"))

    for sample in samples.values():
        held_out = sample.meta["split"] != "train"
        assert sample.question.startswith(openings(HELD_OUT_FRAMES)) == held_out
        assert sample.question.startswith(openings(TRAIN_FRAMES)) != held_out


def test_sides_are_the_patients_where_they_are_known_and_else_the_pictures(samples: dict[str, Sample]) -> None:
    expected = {
        "cxr_mc_sz/both/left-lung": "on the patient's left side",
        "cxr_mc_sz/both/right-lung": "on the patient's right side",
        "cxr_mc_sz/one/left-lung": "on the patient's left side",
        "voxelmorph_t1/slice/left-putamen": "in the upper part of the image",
        "voxelmorph_t1/slice/right-putamen": "in the lower part of the image",
        "voxelmorph_t1/pair/left-putamen": "on the left side of the image",
        "voxelmorph_t1/pair/right-putamen": "on the right side of the image",
    }
    for name, sample in samples.items():
        for text in (sample.question, sample.reasoning):
            said = [side for side in (*PICTURE_SIDES.values(), "on the patient's left side") if side in text]
            said += ["on the patient's right side"] if "on the patient's right side" in text else []
            assert said == ([expected[name]] if name in expected else [])
        assert ("the one " in sample.question) == (name in expected)
    assert "voxelmorph_t1/lone/left-putamen" in samples, "a side without a partner is none"


def test_partners_share_picture_and_entity(folder: Path) -> None:
    targets = read_open_masks(folder)
    found = partners(targets)
    by_id = {target.id: target for target in targets}
    assert {name: partner.id for name, partner in found.items()} == {
        f"{stem}/{one}-{name}": f"{stem}/{other}-{name}"
        for stem, name in (
            ("cxr_mc_sz/both", "lung"),
            ("voxelmorph_t1/slice", "putamen"),
            ("voxelmorph_t1/pair", "putamen"),
        )
        for one, other in (("left", "right"), ("right", "left"))
    }
    for name, partner in found.items():
        assert by_id[name].image == partner.image
    # Two pairs of different entities in one picture don't mix.
    first, second = (by_id[f"voxelmorph_t1/slice/{side}-putamen"] for side in ("left", "right"))
    other = second.model_copy(update={"id": "x", "category": "right thalamus"})
    assert partners([first, other]) == {}
    assert set(partners([first, other, second])) == {first.id, second.id}


def test_side_phrases(folder: Path) -> None:
    by_id = {target.id: target for target in read_open_masks(folder)}
    here, there = ellipse(60, 60, 30, 10, 5, 5), ellipse(60, 60, 30, 50, 5, 5)
    putamen, lung = by_id["voxelmorph_t1/slice/left-putamen"], by_id["cxr_mc_sz/one/left-lung"]
    # What is shown decides, not what the category says.
    assert side_phrase(putamen, here, there) == PICTURE_SIDES["left"]
    assert side_phrase(putamen, there, here) == PICTURE_SIDES["right"]
    assert side_phrase(putamen, here.T, there.T) == PICTURE_SIDES["upper"]
    assert side_phrase(putamen, there.T, here.T) == PICTURE_SIDES["lower"]
    assert side_phrase(putamen, here, None) is None
    assert side_phrase(lung, here, there) == side_phrase(lung, there, None) == "on the patient's left side"
    assert side_phrase(by_id["drawn/a/colon-polyp"], here, there) is None
    unsided = putamen.model_copy(update={"category": "left atrium"})
    assert side_phrase(unsided, here, there) is None, "this side is part of the entity's name"


def test_grey_levels(folder: Path) -> None:
    target = read_open_masks(folder)[0]
    grey = grey_levels(target)
    mask = load_mask(target)
    assert grey.dtype == np.uint8
    assert set(np.unique(grey[mask])) == {BRIGHT}
    assert set(np.unique(grey[~mask])) == {DARK}


def test_a_picture_of_another_size_is_never_measured(tmp_path: Path) -> None:
    write_manifest(tmp_path, [add_target(tmp_path, "a", ellipse(40, 50, 20, 20, 9, 6))])
    Image.new("RGB", (100, 80)).save(tmp_path / "images" / "drawn" / "a.png")
    with pytest.raises(TruthError, match="100 x 80 isn't the manifest's size 50 x 40"):
        list(build_samples(read_open_masks(tmp_path)))


@pytest.mark.parametrize("fault", ["no manifest", "no rows", "category", "modality", "mask", "out"])
def test_the_command_says_what_is_wrong_in_one_line(
    tmp_path: Path, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    row = add_target(tmp_path, "a", ellipse(40, 50, 20, 20, 9, 6), split="test")
    if fault in ("category", "modality"):
        row[fault] = "unheard of"
    if fault == "mask":
        (tmp_path / row["mask"]).unlink()
    if fault != "no manifest":
        write_manifest(tmp_path, [row])
    out = tmp_path / ("missing/out.jsonl" if fault == "out" else "out.jsonl")
    split = "val" if fault == "no rows" else "test"
    with pytest.raises(SystemExit) as stopped:
        main([str(tmp_path), "--split", split, "--out", str(out)])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    expected = {
        "no manifest": "no such file",
        "no rows": "no rows of the split val",
        "category": "'unheard of' belongs to no entity",
        "modality": "modality 'unheard of' is unknown",
        "mask": "the mask can't be read",
        "out": "can't write",
    }
    assert expected[fault] in said
    assert not out.exists()


@pytest.mark.skipif(not (REAL / "manifest.jsonl").is_file(), reason="the open masks aren't here")
def test_real_targets() -> None:
    targets = read_open_masks(REAL, "test")
    pairs = partners(targets)
    counted: Counter[str] = Counter()
    for target in targets[::40]:
        sample = build_sample(target, pairs.get(target.id), seed=0, held_out=True)
        check_place(sample, load_mask(target))
        knowledge = taxonomy.target_of(target.category)
        assert taxonomy.leaks(sample.question, knowledge) is None
        sided = "the one " in sample.question
        if target.source in PATIENT_SIDED:
            assert sided == (taxonomy.side_of(target.category) is not None)
            assert not any(side in sample.question for side in PICTURE_SIDES.values())
        else:
            assert sided == (target.id in pairs)
            assert "patient's" not in sample.reasoning.removeprefix(knowledge.fact)
        counted[target.source] += 1
    assert len(counted) >= 8
