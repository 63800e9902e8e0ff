from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn import small_folder
from PIL import Image
from scipy import ndimage

from medground import taxonomy
from medground.coords import Space
from medground.data.attributes import measure
from medground.data.open_masks import Target, read_open_masks
from medground.errors import TruthError
from medground.masks import box_of, key_points
from medground.parsing import parse
from medground.train import samples
from medground.train.samples import TrainingPictures, completion_text, corpus

SPACE = Space.norm1000()
DIRECT = " Answer directly."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_folder(tmp_path_factory.mktemp("masks"))


@pytest.fixture(scope="module")
def targets(folder: Path) -> list[Target]:
    return read_open_masks(folder)


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one["turns"] == other["turns"] and bool((one["pixels"] == other["pixels"]).all())


def test_a_row_is_a_function_of_seed_and_index_alone(targets: list[Target]) -> None:
    rows = TrainingPictures(targets, epochs=3, image_size=64, seed=5)
    seen = [rows[index] for index in range(len(rows))]
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 - that the global state doesn't matter is the point
    again = TrainingPictures(targets, epochs=3, image_size=64, seed=5)
    for index in reversed(range(len(rows))):
        assert same(again[index], seen[index])
    # More epochs lengthen a run and change none of its rows.
    longer = TrainingPictures(targets, epochs=9, image_size=64, seed=5)
    assert all(same(longer[index], seen[index]) for index in (0, 7, len(rows) - 1))
    other = TrainingPictures(targets, epochs=3, image_size=64, seed=6)
    assert sum(same(other[index], seen[index]) for index in range(len(rows))) == 0


def test_an_epoch_shows_every_picture_once_in_an_order_of_its_own(
    targets: list[Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    whole = samples.load_picture

    def spy(target: Target) -> Image.Image:
        shown.append(str(target.image))
        return whole(target)

    monkeypatch.setattr(samples, "load_picture", spy)
    rows = TrainingPictures(targets, epochs=4, image_size=32)
    pictures = {str(target.image) for target in targets}
    assert len(rows) == 4 * len(pictures) == 36
    for index in range(len(rows)):
        _ = rows[index]
    epochs = [tuple(shown[start : start + 9]) for start in range(0, 36, 9)]
    assert all(set(epoch) == pictures for epoch in epochs)
    assert len(set(epochs)) == 4


def test_emphasis_repeats_a_collections_pictures_in_views_of_their_own(targets: list[Target]) -> None:
    plain = TrainingPictures(targets, image_size=32)
    rows = TrainingPictures(targets, image_size=32, emphasis={"drishti": 5, "busi": 2}, named_share=1.0, direct_share=1)
    assert (len(plain), len(rows)) == (9, 9 + 4 + 1)
    eyes = [row for row in rows if "optic" in row["turns"][0][0] or "papilla" in row["turns"][0][0]]
    assert len(eyes) == 5
    assert len({row["pixels"].tobytes() for row in eyes}) == 5
    assert all(
        same(row, again)
        for row, again in zip(plain, TrainingPictures(targets, image_size=32, emphasis={}), strict=True)
    )


@pytest.mark.parametrize(("epochs", "length"), [(0.5, 4), (1.4, 13), (2, 18), (2.0, 18)])
def test_epochs_may_be_broken_off(targets: list[Target], epochs: float, length: int) -> None:
    rows = TrainingPictures(targets, epochs=epochs, image_size=32)
    assert len(rows) == len(list(rows)) == length
    assert same(rows[3], TrainingPictures(targets, epochs=3, image_size=32)[3])


def test_wide_collections_are_also_shown_from_farther_away(targets: list[Target]) -> None:
    eye = [target for target in targets if target.source == "drishti"]
    shares = {}
    for wide in ((), ("drishti",)):
        rows = TrainingPictures(eye, epochs=80, image_size=32, wide=wide)
        boxes = [parse(row["turns"][0][1], SPACE, strict=True).box for row in rows]
        shares[wide] = np.array([box.width * box.height for box in boxes if box is not None])
    least = shares[()].min()
    assert 0.25 < np.mean(shares["drishti",] < least * 0.9) < 0.6
    assert shares["drishti",].max() > np.median(shares[()]), "and as before half of the time"


def test_the_rows_end(targets: list[Target]) -> None:
    rows = TrainingPictures(targets[:2], epochs=2, image_size=32)
    assert len(list(rows)) == len(rows) == 4
    for index in (4, -1):
        with pytest.raises(IndexError):
            _ = rows[index]


def test_completions_state_the_shown_masks(targets: list[Target], monkeypatch: pytest.MonkeyPatch) -> None:
    masks: list[np.ndarray] = []
    whole = samples.show_mask

    def spy(*args: Any) -> np.ndarray:
        masks.append(whole(*args))
        return masks[-1]

    monkeypatch.setattr(samples, "show_mask", spy)
    rows = TrainingPictures(targets, epochs=9, image_size=32)
    modes: Counter[str] = Counter()
    for index in range(len(rows)):
        masks.clear()
        row = rows[index]
        boxes = [box_of(samples.largest_component(mask)).to(SPACE).xyxy for mask in masks if mask.any()]
        assert 0 < len(row["turns"]) <= 2
        for user, completion in row["turns"]:
            mode = "direct" if user.endswith(DIRECT) else "reason"
            said = parse(completion, SPACE, strict=True, mode=mode)
            assert said.box is not None
            assert any(np.abs(np.subtract(said.box.xyxy, box)).max() <= 0.5 for box in boxes)
            assert bool(said.reasoning) == (mode == "reason")
            modes[mode] += 1
    total = sum(modes.values())
    assert total > 95
    assert modes["direct"] > 5


def told(trace: str) -> tuple[str, ...]:
    """Return zone, size, brightness and shape as a trace states them last."""
    patterns = (
        r"\b[Ii]n the (\w+(?: \w+)?) of the image",
        r"\b(tiny|small|medium-sized|large)\b",
        r"\b(brighter than|darker than|about as bright as)\b",
        r"\b(round|oval|elongated)\b",
    )
    return tuple(re.findall(pattern, trace)[-1] for pattern in patterns)


def test_locations_and_traces_are_true_of_the_shown_pixels(targets: list[Target]) -> None:
    # Targets are drawn bright on dark, so the pixels alone tell where they went, whatever the code believes.
    alone = [target for target in targets if target.source in ("drawn", "drishti", "busi") or "lone" in target.id]
    rows = TrainingPictures(alone, epochs=25, direct_share=0.0)
    for index in range(len(rows)):
        row = rows[index]
        seen = row["pixels"][:, :, 0] > 125
        ((_, completion),) = row["turns"]
        said = parse(completion, SPACE, strict=True)
        assert said.box is not None
        assert said.box.xyxy == pytest.approx(box_of(seen).to(SPACE).xyxy, abs=15)  # a stored pixel
        for point in said.points:
            x, y = (min(int(value * 0.256), 255) for value in point.xy)
            assert seen[y, x]
        grey = row["pixels"][:, :, 0]
        # A pixel more or less may tip a fact that lies on its limit.
        variants = [seen, ndimage.binary_dilation(seen), ndimage.binary_erosion(seen)]
        variants += [np.roll(seen, shift, axis) for shift in (-1, 1) for axis in (0, 1)]
        measured = [measure(variant, grey) for variant in variants]
        facts = told(said.reasoning)
        assert facts[2] == "brighter than"
        for place, name in enumerate(("zone", "size", "brightness", "shape")):
            assert facts[place] in {getattr(one, name) for one in measured}


def test_sides_are_true_of_the_shown_picture(targets: list[Target]) -> None:
    pair = [target for target in targets if target.id.startswith("voxelmorph_t1/slice")]
    rows = TrainingPictures(pair, epochs=60, image_size=32, named_share=0.5)
    directions: Counter[str] = Counter()
    for index in range(len(rows)):
        turns = rows[index]["turns"]
        if len(turns) < 2:
            continue
        places = [np.add.reduce(np.reshape(parse(text, SPACE, strict=True).box.xyxy, (2, 2))) for _, text in turns]
        for (user, completion), own, other in zip(turns, places, reversed(places), strict=True):
            across, down = own - other
            words = ("left side", "right side") if abs(across) > abs(down) else ("upper part", "lower part")
            word = words[int((across if abs(across) > abs(down) else down) > 0)]
            assert f"the {word} of the image" in user
            assert "<think>" not in completion or f"the {word} of the image" in completion
            directions[word] += 1
    assert min(directions[word] for word in ("left side", "right side", "upper part", "lower part")) >= 5


def test_the_patients_sides_stay_where_they_are(targets: list[Target]) -> None:
    lungs = [target for target in targets if target.id.startswith("cxr_mc_sz/both")]
    rows = TrainingPictures(lungs, epochs=25, image_size=32)
    for index in range(len(rows)):
        turns = rows[index]["turns"]
        places = {}
        for user, completion in turns:
            (side,) = re.findall(r"on the patient's (left|right) side", user)
            places[side] = parse(completion, SPACE, strict=True).box.x1
        assert len(turns) < 2 or places["right"] < places["left"], "the patient's right is on the picture's left"


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0, 0), (0.4, 0.28, 0.52), (1.0, 1, 1)])
def test_targets_are_named_as_often_as_asked(targets: list[Target], share: float, low: float, high: float) -> None:
    polyps = [target for target in targets if target.category == "colon polyp"]
    knowledge = taxonomy.target_of("colon polyp")
    rows = TrainingPictures(polyps, epochs=70, image_size=32, named_share=share)
    turns = [turn for index in range(len(rows)) for turn in rows[index]["turns"]]
    named = [taxonomy.leaks(user, knowledge) is not None for user, _ in turns]
    assert low <= np.mean(named) <= high


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0, 0), (0.25, 0.15, 0.35), (1.0, 1, 1)])
def test_answers_come_without_reasoning_as_often_as_asked(
    targets: list[Target], share: float, low: float, high: float
) -> None:
    rows = TrainingPictures(targets, epochs=20 if low < high else 2, image_size=32, direct_share=share)
    assert low <= np.mean([user.endswith(DIRECT) for row in rows for user, _ in row["turns"]]) <= high


def test_no_more_targets_are_asked_about_than_wanted(targets: list[Target]) -> None:
    for most in (1, 2):
        rows = TrainingPictures(targets, epochs=3, image_size=32, most_targets=most)
        assert max(len(rows[index]["turns"]) for index in range(len(rows))) == most


def test_pixels(targets: list[Target]) -> None:
    for side in (32, 128):
        pixels = TrainingPictures(targets, image_size=side)[0]["pixels"]
        assert pixels.shape == (side, side, 3)
        assert pixels.dtype == np.uint8


def test_a_broken_file_is_told_by_its_name(tmp_path: Path) -> None:
    rows = TrainingPictures(read_open_masks(small_folder(tmp_path)), image_size=32)
    for path in (tmp_path / "images").rglob("*.png"):
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(TruthError, match=r"images/.*\.png: the image can't be read"):
        _ = rows[0]


def test_completion_text_is_the_inverse_of_strict_reading() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        height, width = rng.integers(1, 400, 2)
        mask = np.zeros((height, width), bool)
        top, left = rng.integers(0, height), rng.integers(0, width)
        mask[top : top + rng.integers(1, 200), left : left + rng.integers(1, 200)] = True
        said = parse(completion_text(mask, "It is here."), SPACE, strict=True, mode="reason")
        assert said.box is not None
        # Rounding is to the nearest thousandth, and outwards where the two edges would meet.
        thin = [
            low == high for low, high in zip(*np.reshape(np.round(box_of(mask).to(SPACE).xyxy), (2, 2)), strict=True)
        ]
        assert np.abs(np.subtract(said.box.xyxy, box_of(mask).to(SPACE).xyxy)).max() <= (1 if any(thin) else 0.5)
        for here, there in zip(said.points, key_points(mask), strict=True):
            assert here.xy == pytest.approx(there.to(SPACE).xy, abs=0.5001)
        assert parse(completion_text(mask, None), SPACE, strict=True, mode="direct").box == said.box


def test_the_corpus_holds_questions_and_traces_of_every_kind(targets: list[Target]) -> None:
    texts = corpus(targets, rounds=5)
    assert texts == corpus(targets, rounds=5)
    assert texts != corpus(targets, rounds=5, seed=1)
    kinds = {(target.category, target.modality) for target in targets}
    assert len(texts) == len(kinds) * 5 * 2
    assert sum(text.endswith(DIRECT) for text in texts) == len(texts) // 2
    for category, _ in kinds:
        assert sum(text.startswith(taxonomy.target_of(category).fact) for text in texts) >= 5
