"""What trainers are handed of each row: the prompt, the picture, and the truth or the answer in the model's numbers."""

from __future__ import annotations

import json
import random
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from drawn import ellipse, paint
from PIL import Image
from scipy import ndimage

pytest.importorskip("torch")
pytest.importorskip("datasets")
pytest.importorskip("pyarrow")

from small_training import NANO, SIZE, draw_rows, settings, write_data

from medground.coords import Space
from medground.data.rows import Picture, Row
from medground.data.schema import write_rows
from medground.errors import ConfigError, TruthError
from medground.images import MedicalImage
from medground.masks import box_of, key_points
from medground.parsing import parse
from medground.reasoners._asking import Asker
from medground.rewards import score
from medground.rewards.evidence import Facts, claims, honesty
from medground.train.config import TrainConfig
from medground.train.describe import describe_run
from medground.train.rows import DIRECT_SHARE, Examples, dataset, open_rows
from medground.train.varied import NAMED, drop_words, plain_trace, vary


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"), 20)


@pytest.fixture(scope="module")
def processor():
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(NANO)


@pytest.fixture
def make(data, processor, tmp_path):
    def examples(kind: str = "sft", coordinates: str = "0-1000", *, in_a_row: bool = False, **changes) -> Examples:
        page = settings(NANO, data, tmp_path / "out", kind)
        page["data"] |= changes
        config = TrainConfig.model_validate(page)
        asker = Asker(processor, template="nano-v1", coordinates=coordinates, max_pixels=10**6, name="nano")
        return Examples(open_rows(config), config, asker, in_a_row=in_a_row)

    return examples


def test_a_row_for_supervision(make):
    examples = make()
    example = examples.example(0)
    assert example["prompt"] == [{"role": "user", "content": "Which growth number 0 would be removed here?"}]
    assert example["image"].size == (256, 256), "as nano's processor would make it"
    said = example["completion"][0]
    assert said["role"] == "assistant"
    found = parse(said["content"], Space.norm1000(), strict=True)
    truth = examples.rows[0].truth().to(Space.norm1000())
    assert found.reasoning == "A bright growth is seen on the wall."
    assert found.box.iou(truth.box) > 0.98
    assert json.loads(said["content"].split("<answer>")[1].split("</answer>")[0])["bbox"] == [
        round(value) for value in truth.box.xyxy
    ]


def test_an_absent_row_is_taught_as_absent(make):
    assert make().example(4)["completion"][0]["content"].endswith('<answer>{"absent": true}</answer>')


@pytest.mark.parametrize("coordinates", ["0-1000", "0-1", "pixels", "resized pixels", "0-1000 yx"])
@pytest.mark.parametrize("place", [0, 4])
def test_the_answer_that_is_taught_earns_everything_that_the_truth_asks_for(make, coordinates, place):
    said = make("sft", coordinates).example(place)["completion"][0]["content"]
    truth = make("grpo", coordinates).example(place)["ground_truth"]
    terms = score(said, truth)
    assert terms["format"] == 1.0
    if place == 4:
        assert terms["absence"] == 1.0
    else:
        assert terms["box"] > 0.95
        assert terms["honesty"] == 1.0


def test_a_truth_has_the_facts_and_the_mask(make):
    truth = json.loads(make("grpo").example(0)["ground_truth"])
    assert truth["image_size"] == list(SIZE)
    assert truth["facts"]["brightness"] == ["brighter than"]
    assert truth["mask"]["size"] == list(SIZE[::-1])
    assert "image" not in truth
    assert json.loads(make("grpo").example(4)["ground_truth"]) == {
        "image_size": list(SIZE),
        "coordinates": "0-1000",
        "absent": True,
    }


def test_facts_are_measured_where_a_row_has_none(data, processor, tmp_path):
    rows = [row.model_copy(update={"facts": None}) for row in draw_rows(tmp_path, 1)]
    write_rows(rows, tmp_path / "train.parquet")
    config = TrainConfig.model_validate(settings(NANO, tmp_path, tmp_path / "out", "grpo"))
    asker = Asker(processor, template="nano-v1", coordinates="0-1000", max_pixels=10**6, name="nano")
    examples = Examples(open_rows(config), config, asker, with_image=True)
    truth = json.loads(examples.example(0)["ground_truth"])
    assert truth["facts"] == draw_rows(tmp_path, 1)[0].facts
    assert Path(truth["image"]).is_file()


def test_modes(make):
    direct = make("grpo", mode="direct").example(0)
    assert direct["prompt"][0]["content"].endswith("Answer directly.")
    assert json.loads(direct["ground_truth"])["mode"] == "direct"
    assert "<think>" not in make("sft", mode="direct").example(0)["completion"][0]["content"]
    both = make("sft", mode="both", in_a_row=True)
    asked = [both.example(place) for place in range(200)]
    share = np.mean([each["prompt"][0]["content"].endswith("Answer directly.") for each in asked])
    assert abs(share - DIRECT_SHARE) < 0.1
    for each in asked:
        wanted = not each["prompt"][0]["content"].endswith("Answer directly.")
        assert ("<think>" in each["completion"][0]["content"]) == wanted


def test_a_row_without_reasoning_is_never_asked_to_reason_in_supervision(processor, tmp_path):
    write_rows([row.model_copy(update={"reasoning": ""}) for row in draw_rows(tmp_path, 2)], tmp_path / "train.parquet")
    config = TrainConfig.model_validate(settings(NANO, tmp_path, tmp_path / "out"))
    asker = Asker(processor, template="nano-v1", coordinates="0-1000", max_pixels=10**6, name="nano")
    example = Examples(open_rows(config), config, asker).example(0)
    assert example["prompt"][0]["content"].endswith("Answer directly.")
    assert "<think>" not in example["completion"][0]["content"]


def test_each_epoch_shows_each_row_once_in_an_order_of_its_own(make):
    one, two = make(in_a_row=True), make(in_a_row=True)
    count = len(one.rows)
    epochs = [[one.example(place)["id"] for place in range(start, start + count)] for start in (0, count)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(row.id for row in one.rows)
    assert epochs[0] != epochs[1]
    # Asked for in any order, by another process: the same rows.
    assert [two.example(place)["id"] for place in reversed(range(count))] == epochs[0][::-1]


def test_a_place_is_made_anew_the_same(make):
    one, two = make(augment=True, mode="both", in_a_row=True), make(augment=True, mode="both", in_a_row=True)
    for place in (0, 7, 25, 31):
        first, again = one.example(place), two.example(place)
        assert np.array_equal(np.asarray(first.pop("image")), np.asarray(again.pop("image")))
        assert first == again
    # The same row in two epochs is seen in two ways.
    name = one.example(0)["id"]
    later = next(place for place in range(20, 40) if one.example(place)["id"] == name)
    seen = [np.asarray(one.example(place)["image"]) for place in (0, later)]
    assert seen[0].shape != seen[1].shape or not np.array_equal(*seen)


def test_a_data_set_as_trl_takes_it(make):
    made = dataset(make("grpo"), 20)
    assert len(made) == 20
    assert set(made[3]) == {"id", "prompt", "image", "ground_truth"}
    assert [each["id"] for each in (made[2], made[0])] == ["train2", "train0"]


def test_a_prompt_is_opened_once_for_its_group(make, monkeypatch):
    import medground.train.rows as module

    opened = []
    original = module.open_image
    monkeypatch.setattr(module, "open_image", lambda *some: opened.append(1) or original(*some))
    examples = make("grpo")
    for _ in range(8):
        examples.example(1)
    assert len(opened) == 1


def test_sources_are_shown_as_often_as_their_weights_say(processor, tmp_path):
    data = write_data(tmp_path, 3)
    rows = [
        row.model_copy(update={"source": "often" if number < 4 else "seldom"})
        for number, row in enumerate(draw_rows(data, 12))
    ]
    write_rows(rows, data / "train.parquet")
    page = settings(NANO, data, tmp_path / "out")
    page["data"]["weights"] = {"often": 2.25, "seldom": 0.5}
    asker = Asker(processor, template="nano-v1", coordinates="0-1000", max_pixels=10**6, name="nano")
    config = TrainConfig.model_validate(page)
    examples = Examples(open_rows(config), config, asker, in_a_row=True)
    assert len(examples) == 9 + 4
    epochs = [[examples.example(13 * epoch + place)["id"] for place in range(13)] for epoch in range(4)]
    often, seldom = {row.id for row in rows[:4]}, {row.id for row in rows[4:]}
    for epoch in epochs:
        assert {epoch.count(name) for name in often} == {2, 3}
        assert {epoch.count(name) for name in seldom} == {0, 1}
    assert {name for epoch in epochs[:2] for name in epoch} == often | seldom, "two halves are the whole"
    once = Examples(open_rows(config), config, asker)
    assert sorted(once.example(place)["id"] for place in range(13)) == sorted(epochs[0])
    page["data"]["weights"] = {"often": 0, "seldom": 0.5}
    config = TrainConfig.model_validate(page)
    examples = Examples(open_rows(config), config, asker, in_a_row=True)
    assert {examples.example(place)["id"] for place in range(2 * len(examples))} == seldom
    page["data"]["weights"] = {"often": 0, "seldom": 0}
    with pytest.raises(ConfigError, match=r"data\.weights: leaves out every source"):
        open_rows(TrainConfig.model_validate(page))
    page["data"]["weights"] = {"others": 2}
    with pytest.raises(ConfigError, match=r"data\.weights: no row is of others; the sources are often, seldom"):
        open_rows(TrainConfig.model_validate(page))


def test_limits_are_drawn_by_the_seed(make):
    limited = make(limit=7).rows
    names = [row.id for row in limited]
    assert len(names) == 7
    assert names != [f"train{number}" for number in range(7)]
    assert names == [row.id for row in make(limit=7).rows]
    assert len(make(limit=500).rows) == 20


def test_embedded_pictures_need_no_files(data, make, tmp_path, processor):
    write_rows(draw_rows(data, 2), tmp_path / "train.parquet", embed=True, root=data)
    config = TrainConfig.model_validate(settings(NANO, tmp_path, tmp_path / "out", "grpo"))
    asker = Asker(processor, template="nano-v1", coordinates="0-1000", max_pixels=10**6, name="nano")
    example = Examples(open_rows(config), config, asker).example(0)
    assert np.array_equal(np.asarray(example["image"]), np.asarray(make("grpo").example(0)["image"]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image": Picture(path="images/gone.png")}, r"row 1: image: there is no file images/gone\.png"),
        ({"box": (0, 0, 500, 20), "facts": None}, r"row 1: row train1: truth, bbox_2d: .*reaches outside"),
        ({"points": (), "mask": None}, "row 1: point_2d: is missing, and there is no mask"),
        ({"reasoning": "a </think> b"}, r"row 1: extra_info\.think: holds a think or answer tag"),
    ],
)
def test_a_bad_row_is_told_before_the_training(change, said, tmp_path):
    rows = draw_rows(tmp_path, 3)
    rows[1] = rows[1].model_copy(update=change)
    write_rows(rows, tmp_path / "train.parquet")
    with pytest.raises(TruthError, match=said) as caught:
        open_rows(TrainConfig.model_validate(settings(NANO, tmp_path, tmp_path / "out")))
    assert str(caught.value).startswith(str(tmp_path / "train.parquet"))


def test_a_picture_of_another_size_is_told(tmp_path, processor):
    rows = draw_rows(tmp_path, 1)
    Image.fromarray(paint(ellipse(50, 50, 20, 20, 9, 9))).save(tmp_path / "images" / "train0.png")
    write_rows(rows, tmp_path / "train.parquet")
    config = TrainConfig.model_validate(settings(NANO, tmp_path, tmp_path / "out"))
    asker = Asker(processor, template="nano-v1", coordinates="0-1000", max_pixels=10**6, name="nano")
    with pytest.raises(
        TruthError, match=r"train\.parquet: row 0: image_size: says 96 x 72 and the picture has 50 x 50"
    ):
        Examples(open_rows(config), config, asker).example(0)


def test_files_without_rows_of_the_split_are_told(tmp_path):
    write_rows(draw_rows(tmp_path, 2, split="test"), tmp_path / "train.parquet")
    with pytest.raises(ConfigError, match="has no rows of split 'train'"):
        open_rows(TrainConfig.model_validate(settings(NANO, tmp_path, tmp_path / "out")))


# --- rows seen anew ---------------------------------------------------------------------------------------------------


def grown(source: str = "kvasir_seg", **more) -> tuple[Row, MedicalImage, np.ndarray]:
    mask = ellipse(240, 320, 70, 90, 26, 40, 20)
    picture = paint(mask)
    ramp = np.linspace(60, 110, 320).astype(np.uint8)  # brighter to the right, so that a mirrored picture can be told
    picture[~mask] = np.broadcast_to(ramp[None, :, None], picture.shape)[~mask]
    facts = Facts.measure(mask, picture[..., 0])
    row = Row(
        id="a",
        question="Which growth would be removed here?",
        image=Picture(path="a.png"),
        image_size=(320, 240),
        box=box_of(mask).xyxy,
        points=tuple(point.xy for point in key_points(mask)),
        reasoning="It lies in the upper left of the image and is brighter than its surroundings.",
        category="colon polyp",
        modality="endoscopy",
        source=source,
        style="function",
        facts=facts.to_dict(),
        **more,
    )
    return row, MedicalImage.from_array(picture), mask


def rises(shown: MedicalImage) -> str:
    """Return the side to which the background gets brighter."""
    grey = shown.rgb[..., 0].astype(float)
    # Less the target, what lies beyond the picture, and the soft edges of both.
    background = ndimage.binary_erosion((grey < grey.max() - 35) & (grey > grey.min() + 2), iterations=4)
    y, x = np.nonzero(background)
    (across, down, _), *_ = np.linalg.lstsq(np.stack([x, y, np.ones(len(x))], axis=1), grey[background])
    if abs(across) > abs(down):
        return "right" if across > 0 else "left"
    return "down" if down > 0 else "up"


GRAMMAR = {
    "other": {
        "asked_by": "grammar-v1",
        "attributes": {"edge": "sharp", "side": None, "partner": None, "neighbours": []},
    }
}


@pytest.mark.parametrize("more", [{}, GRAMMAR], ids=["kept", "written again"])
def test_a_view_keeps_boxes_and_claims_true(more):
    row, image, mask = grown(**more)
    texts, sizes, ways = set(), set(), set()
    for seed in range(40):
        new, shown = vary(row, image, mask, random.Random(seed))
        bright = shown.rgb[..., 0] > shown.rgb.max() - 35
        assert new.image_size == shown.size
        true = box_of(bright)
        own = new.truth().box
        assert own is not None
        assert own.iou(true) > 0.85, seed
        facts = Facts.read(new.facts)
        assert honesty(new.reasoning, facts) == 1.0
        assert honesty(new.reasoning, Facts.measure(bright, shown.rgb[..., 0])) == 1.0
        texts.add(new.reasoning)
        sizes.add(shown.size)
        ways.add(rises(shown))
    assert len(sizes) > 20
    assert len(ways) == (4 if more else 3)  # mirrored alone, what is said to lie on the left can't stay there
    assert (len(texts) > 20) == bool(more)


def test_where_a_side_is_spoken_of_nothing_is_mirrored_or_turned():
    row, image, mask = grown()
    row = row.model_copy(update={"question": "Which growth to the left would be removed?", "reasoning": "It is seen."})
    for seed in range(30):
        _, shown = vary(row, image, mask, random.Random(seed))
        assert rises(shown) == "right"


def test_mirrored_neighbours_change_sides():
    neighbour = {"category": "liver", "name": "liver", "relation": "left of"}
    attributes = {"edge": "plain", "side": None, "partner": None, "neighbours": [neighbour]}
    row, image, mask = grown("drawn", other={"asked_by": "grammar-v1", "attributes": attributes})
    said = set()
    for seed in range(120):
        new, shown = vary(row, image, mask, random.Random(seed))
        if "the liver" not in new.reasoning:
            continue
        mirrored = rises(shown) == "left"
        beside = re.sub(r"(upper|middle|top|bottom|lower) (left|right)", "", new.reasoning)
        assert ("right of" in beside, "left of" in beside) == (mirrored, not mirrored)
        said.add(mirrored)
    assert said == {True, False}


def test_without_a_mask_the_picture_stays_as_it_lies():
    row, image, _ = grown()
    for seed in range(5):
        new, shown = vary(row, image, None, random.Random(seed))
        assert new == row
        assert shown.size == image.size
        assert not np.array_equal(shown.rgb, image.rgb)


def test_large_pictures_are_shown_no_larger_than_asked():
    row, image, mask = grown()
    for seed in range(10):
        _, shown = vary(row, image, mask, random.Random(seed), most=128)
        assert max(shown.size) <= 320 if shown.size == image.size else max(shown.size) <= 128


PLAIN = {
    "other": {
        "asked_by": "grammar-v1",
        "attributes": {
            "zone": "upper left",
            "size": "medium-sized",
            "brightness": "brighter than",
            "shape": "oval",
            "edge": "sharp",
            "side": None,
            "partner": None,
            "neighbours": [],
        },
    }
}


def test_plain_traces_are_two_sentences_that_stay_true_of_each_view():
    row, image, mask = grown(**PLAIN)
    own = plain_trace(row, random.Random(0))
    assert own.startswith("A colon polyp is a growth")
    assert "upper left" in own
    assert own.count(".") == 2
    zones = set()
    for seed in range(20):
        new, _ = vary(row, image, mask, random.Random(seed), trace=plain_trace)
        assert new.reasoning.startswith("A colon polyp is a growth")
        assert honesty(new.reasoning, Facts.read(new.facts)) == 1.0
        zones |= {zone for zone in ("upper left", "upper right", "lower left", "lower right") if zone in new.reasoning}
    assert len(zones) > 1


def test_claims_that_are_left_out_are_a_choice_of_all():
    row, image, mask = grown(**PLAIN)
    told = set()
    for seed in range(60):
        new, _ = vary(row, image, mask, random.Random(seed), trace=partial(plain_trace, omit=0.5))
        assert new.reasoning.startswith("A colon polyp is a growth")
        assert new.reasoning.endswith(".")
        assert honesty(new.reasoning, Facts.read(new.facts)) == 1.0
        told.add(frozenset(claim.facet for claim in claims(new.reasoning)) & {"place", "size", "shape", "brightness"})
    assert len(told) == 16
    full = plain_trace(row, random.Random(1))
    assert plain_trace(row, random.Random(1), omit=0.0) == full


def test_plain_traces_of_what_is_absent_and_of_others_words():
    row, _, _ = grown()
    assert plain_trace(row, random.Random(0)) == row.reasoning, "people's and models' words are theirs"
    gone = row.model_copy(update={"box": None, "points": (), "facts": {}, "other": {"absent": True} | PLAIN["other"]})
    assert gone.absent
    assert plain_trace(gone, random.Random(0)).endswith("It is nowhere in this picture.")


def test_words_of_questions_are_dropped_but_for_sides(make):
    question = "Where is the growth beside the LEFT wall, in the upper half, that would be removed?"
    seen = {drop_words(question, 0.6, random.Random(seed)) for seed in range(40)}
    assert len(seen) > 30
    assert all("LEFT" in each and "upper" in each and len(each.split()) >= 3 for each in seen)
    assert drop_words("Where is it?", 0.9, random.Random(0)) == "Where is it?"
    asked = [make(drop_words=share).example(0)["prompt"][0]["content"] for share in (0.0, 0.5)]
    assert asked[0] == "Which growth number 0 would be removed here?"
    assert asked[1] != asked[0]
    assert set(asked[1].split()) <= set(asked[0].split())


def test_a_share_of_the_targets_is_asked_for_by_name(make):
    named, half, own = (make(by_name=share, drop_words=0.5) for share in (1.0, 0.5, 0.0))

    def asked(examples):
        return [examples.example(place)["prompt"][0]["content"] for place in range(len(examples))]

    # No word of a name is dropped, and an absent target is asked for by its name too.
    assert all(" the colon polyp" in question for question in asked(named))
    assert len(set(asked(named))) == len(NAMED)
    assert 4 <= sum(" the colon polyp" in question for question in asked(half)) <= 16
    assert not any("colon polyp" in question for question in asked(own))
    assert asked(named) == asked(make(by_name=1.0))


@pytest.mark.parametrize(("share", "left"), [(1.0, 4), (0.5, 2), (0.25, 1), (0.0, 0)])
def test_a_share_of_the_absent_rows_is_used_and_all_of_the_others(make, share, left):
    examples = make(absent=share)
    absent = [row.id for row in examples.rows if row.absent]
    assert (len(absent), len(examples)) == (left, 16 + left)
    assert absent == [row.id for row in make(absent=share).rows if row.absent]
    assert f"{16 + left} from" in describe_run(examples.config)
