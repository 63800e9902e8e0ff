"""Visual questions in training: mixed, asked, answered on the model's ruler, and seen anew with right answers."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples_settings
from hypothesis import strategies as st

pytest.importorskip("torch")
pytest.importorskip("datasets")
pytest.importorskip("pyarrow")

from made_questions import multi, nowhere, questions, single
from made_vqa import SIZE, draw_questions, save_questions
from small_training import NANO, settings, write_data

from medground.coords import Space
from medground.data.rows import Picture
from medground.data.vqa_rows import VqaRow
from medground.errors import ConfigError, TruthError
from medground.images import MedicalImage
from medground.masks import box_of
from medground.reasoners._asking import Asker
from medground.rewards import score
from medground.rewards.thinkvg_reading import read_response
from medground.train.config import TrainConfig
from medground.train.describe import describe_run
from medground.train.mixture import VISUAL
from medground.train.rows import Examples, Rows, open_rows
from medground.train.vqa import in_another_order, plain_thinking, question_of, seen_anew, told_by, written_for

FULL = {"semantic": 1.0, "grounding": 1.0, "format": 1.0, "consistency": 1.0, "score": 1.0}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return save_questions(write_data(tmp_path_factory.mktemp("data"), 12), 10)


@pytest.fixture(scope="module")
def processor():
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(NANO)


@pytest.fixture
def page(data, tmp_path):
    def written(kind: str = "sft", *, alone: bool = False, **changes: Any) -> TrainConfig:
        found = settings(NANO, data, tmp_path / "out", kind)
        found["data"] |= {"vqa": [str(data / "vqa-train.parquet")], **changes}
        if alone:
            del found["data"]["train"]
        return TrainConfig.model_validate(found)

    return written


@pytest.fixture
def make(page, processor):
    def examples(kind: str = "sft", coordinates: str = "0-1000", *, in_a_row: bool = False, **changes: Any) -> Examples:
        config = page(kind, **changes)
        asker = Asker(processor, template="nano-v1", coordinates=coordinates, max_pixels=10**6, name="nano")
        return Examples(open_rows(config), config, asker, in_a_row=in_a_row)

    return examples


def test_both_tasks_are_in_an_epoch(make):
    examples = make(in_a_row=True)
    names = [examples.example(place)["id"] for place in range(len(examples))]
    assert len(examples) == 22
    assert sorted(names) == sorted([f"train{n}" for n in range(12)] + [f"train-visual{n}" for n in range(10)])
    assert names != sorted(names)


def test_a_question_is_asked_and_answered_in_the_models_numbers(make):
    example = make(alone=True).example(3)
    assert example["prompt"] == [
        {
            "role": "user",
            "content": "Question: Which are seen?\nA: growth beside the fold\nB: stent\nC: growth on the wall\n"
            "Choose all.",
        }
    ]
    assert example["image"].size == (256, 256)
    said = example["completion"][0]["content"]
    reading = read_response(said, Space.norm1000())
    row = make(alone=True).rows[3]
    truth = row.truth().to(Space.norm1000())
    assert reading.answer == "A, C"
    assert [round(box.iou(true), 1) for box, true in zip(reading.boxes, truth.boxes, strict=True)] == [1.0, 1.0]
    assert reading.mentions == reading.boxes, "what the reasoning names and the final boxes have the same numbers"


def test_each_coordinate_is_one_token_that_the_soft_loss_finds(make, processor):
    torch = pytest.importorskip("torch")
    from medground.train.numbers import NumberLoss

    said = make(alone=True).example(3)["completion"][0]["content"]
    ids = torch.tensor(processor.tokenizer(said, add_special_tokens=False).input_ids)
    loss = NumberLoss(processor.tokenizer, 10, torch.device("cpu"))
    found = loss.number_of[ids[1:]][loss.is_number(ids[1:]) & loss.opens[ids[:-1]]].tolist()
    reading = read_response(said, Space.norm1000())
    wanted = [round(value) for box in (*reading.mentions, *reading.boxes) for value in box.xyxy]
    assert len(wanted) == 16
    assert found == wanted


@pytest.mark.parametrize("coordinates", ["0-1000", "0-1", "pixels", "resized pixels", "0-1000 yx"])
@pytest.mark.parametrize("place", range(5))
def test_what_is_taught_earns_full_marks_by_what_is_rewarded(make, coordinates, place):
    taught = make("sft", coordinates, alone=True).example(place)["completion"][0]["content"]
    asked = make("grpo", coordinates, alone=True).example(place)
    assert asked["ground_truth"] is None
    assert score(taught, asked["visual_truth"], "thinkvg") == FULL


@pytest.mark.parametrize("place", range(5))
def test_a_plain_thinking_names_the_regions_and_earns_as_much(make, place):
    row = make(alone=True).rows[place]
    longer = row.model_copy(update={"thinking": f"{row.thinking} It is 3.5 % wide. That makes it so."})
    assert plain_thinking(longer) == longer, "another's thinking is left as it is"
    ours = longer.model_copy(update={"other": {"thought_by": "grammar-v1"}})
    assert plain_thinking(ours).thinking == row.thinking
    assert score(plain_thinking(ours).completion(), row.truth(), "thinkvg", space=Space.pixels(*row.image_size)) == FULL


def test_plain_traces_are_taught_of_the_grammars_rows_alone(make, monkeypatch):
    whole, plain = make(alone=True, traces="own"), make(alone=True, traces="plain")
    monkeypatch.setattr(Rows, "__getitem__", _longer(Rows.__getitem__))
    taught = [[examples.example(place)["completion"][0]["content"] for place in (0, 1)] for examples in (whole, plain)]
    assert all("3.5 % wide" in said for said in taught[0])
    assert ["3.5 % wide" in said for said in taught[1]] == [False, True]


def _longer(read: Any) -> Any:
    """Let rows say more than their regions, the first as the grammar's."""

    def longer(rows: Rows, index: int) -> Any:
        row = read(rows, index)
        writer = "grammar-v1" if index == 0 else "a model"
        return row.model_copy(update={"thinking": f"{row.thinking} It is 3.5 % wide.", "other": {"thought_by": writer}})

    return longer


def test_each_row_has_the_truth_of_its_own_task(make):
    examples = make("grpo")
    for place in range(len(examples)):
        example = examples.example(place)
        visual = "visual" in example["id"]
        assert (example["ground_truth"] is None, example["visual_truth"] is None) == (visual, not visual)
    batch = examples({"place": [0, 15]})
    assert batch["visual_truth"][0] is None
    assert json.loads(batch["visual_truth"][1])["question_type"] == "multi_choice"


def test_modes(make):
    direct = make(alone=True, mode="direct").example(1)
    assert direct["prompt"][0]["content"].endswith("Answer directly.")
    assert direct["completion"][0]["content"].startswith("<response><answer>Yes</answer><location>")
    both = make(alone=True, mode="both", in_a_row=True)
    asked = {both.example(place)["prompt"][0]["content"].endswith("Answer directly.") for place in range(40)}
    assert asked == {False, True}
    for place in range(10):  # rewarded for its reasoning, it is always asked for it
        assert "directly" not in make("grpo", mode="both", alone=True).example(place)["prompt"][0]["content"]


@pytest.mark.parametrize(("share", "count"), [(None, 10), (0.25, 4), (0.5, 12), (0.75, 36)])
def test_a_share_of_an_epoch(make, share, count):
    examples = make(in_a_row=True, vqa_share=share)
    assert examples._counts == {"": 12, VISUAL: count}
    length = 12 + count
    epochs = [[examples.rows[index].id for index in examples._order(epoch)] for epoch in range(5)]
    assert {len(names) for names in epochs} == {length}
    for names in epochs:
        assert sum("visual" in name for name in names) == count
        assert sorted(name for name in names if "visual" not in name) == sorted(f"train{n}" for n in range(12))
    shown = [sum(names.count(f"train-visual{n}") for names in epochs) for n in range(10)]
    assert max(shown) - min(shown) <= 1, "each of them as often"


def test_a_limit_or_a_share_of_the_questions(make):
    assert [sum("visual" in row.id for row in make(vqa_limit=limit).rows) for limit in (3, 0.5, 0.01, 99)] == [
        3,
        5,
        1,
        10,
    ]
    names = [row.id for row in make(vqa_limit=0.5, alone=True).rows]
    assert names == [row.id for row in make("grpo", vqa_limit=0.5, alone=True).rows], "GRPO takes SFT's very eighth"
    assert names != [f"train-visual{n}" for n in range(5)]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train": None, "vqa": None}, "train: isn't given; name a parquet file, or visual questions in vqa"),
        ({"train": None, "vqa_share": 0.5}, "vqa_share: is a share of visual questions among other rows"),
        ({"vqa": None, "vqa_limit": 3}, "vqa_limit: is for visual questions"),
        ({"vqa_share": 1.0}, "vqa_share"),
        ({"vqa": [""]}, "vqa"),
    ],
)
def test_settings_that_cant_be_used(page, changes, said):
    with pytest.raises(ValueError, match=said):
        page(**changes)


def test_direct_answers_cant_be_rewarded_for_reasoning(page):
    with pytest.raises(ValueError, match="visual questions are rewarded for their reasoning"):
        page("grpo", mode="direct")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image": Picture(path="images/gone.png")}, r"row 1: image: there is no file images/gone\.png"),
        ({"answer": "Perhaps"}, r"row 1: .*answer: says neither yes nor no"),
    ],
)
def test_a_bad_question_is_told_before_the_training(change, said, tmp_path, monkeypatch):
    rows = draw_questions(tmp_path, 3)
    rows[1] = rows[1].model_copy(update=change)
    monkeypatch.setattr("medground.data.layouts.vqa._read_back", lambda *_, **__: None, raising=False)
    _write(rows, tmp_path / "vqa.parquet")
    page = settings(NANO, tmp_path, tmp_path / "out")
    page["data"] = {"vqa": [str(tmp_path / "vqa.parquet")]}
    with pytest.raises(TruthError, match=said) as caught:
        open_rows(TrainConfig.model_validate(page))
    assert str(caught.value).startswith(str(tmp_path / "vqa.parquet"))


def _write(rows: list[VqaRow], path: Path) -> None:
    """Write rows as they are, right or wrong."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from medground.data.layouts.vqa_own import record_of

    records = [record_of(row) for row in rows]
    pq.write_table(pa.Table.from_pylist(records), path)


def test_a_file_of_another_task_is_told(data, tmp_path):
    page = settings(NANO, data, tmp_path / "out")
    page["data"] = {"vqa": [str(data / "train.parquet")]}
    with pytest.raises(TruthError, match=r"train\.parquet: row 0: "):
        open_rows(TrainConfig.model_validate(page))


def test_questions_of_another_split_are_told(data, tmp_path):
    page = settings(NANO, data, tmp_path / "out")
    page["data"]["vqa"] = [str(data / "vqa-test.parquet")]
    with pytest.raises(ConfigError, match=r"vqa-test\.parquet: has no rows of split 'train'"):
        open_rows(TrainConfig.model_validate(page))


def test_what_a_run_would_do(page):
    told = describe_run(page(vqa_share=0.25, vqa_limit=8))
    assert "12 from" in told
    assert "4 visual questions from" in told
    told = describe_run(page("grpo", alone=True))
    assert "reward     thinkvg, KL 0" in told


# --- on other rulers, and seen anew -----------------------------------------------------------------------------------


@pytest.mark.parametrize("row", questions(), ids=lambda row: row.id)
@pytest.mark.parametrize(
    "space", [Space("resized pixels", 640, 448), Space("pixels", 224, 224, "yx"), Space.norm1000(), Space.unit()]
)
def test_a_row_on_a_models_ruler_says_the_same(row, space):
    written = written_for(row, space)
    said = written.completion()
    truth = row.truth().to(space)
    assert score(said, truth, "thinkvg", space=space)["semantic"] == 1
    reading = read_response(said, space)
    least = 0.99 if space.name == "0-1" else 0.9
    for box, true in zip(reading.boxes, truth.boxes, strict=True):
        assert box.iou(true) > least
    assert score(said, written.ground_truth(), "thinkvg") == FULL


def drawn(seed: int) -> tuple[VqaRow, MedicalImage]:
    rng = random.Random(seed)
    from drawn import ellipse, paint

    width, height = SIZE
    mask = ellipse(height, width, rng.uniform(20, 50), rng.uniform(25, 70), rng.uniform(8, 16), rng.uniform(8, 16))
    box = tuple(round(value) for value in box_of(mask).xyxy)
    row = VqaRow(
        id="a",
        question="Is a growth seen?",
        question_type="closed",
        answer="Yes",
        thinking=f"There is one (region {list(box)}).",
        regions=({"ref": "growth", "box": box},),
        image=Picture(path="a.png"),
        image_size=SIZE,
    )
    return row, MedicalImage.from_array(paint(mask))


@examples_settings(max_examples=40)
@given(st.integers(0, 2**32))
def test_boxes_and_mentions_move_with_the_picture(seed):
    row, image = drawn(seed % 7)
    new, shown = seen_anew(row, image, random.Random(seed))
    grey = shown.rgb[..., 0].astype(int)
    bright = box_of(grey > grey.max() - 35)
    (own,) = new.truth().to(shown.space).boxes
    assert own.iou(bright) > 0.75
    assert new.image_size == shown.size
    assert shown.width >= image.width
    assert (
        score(told_by(written_for(new, Space.norm1000()), "reason"), new.truth(), "thinkvg", space=Space.norm1000())[
            "consistency"
        ]
        == 1
    )
    assert seen_anew(row, image, random.Random(seed))[0] == new


def test_views_differ_and_nothing_is_mirrored():
    row, image = drawn(0)
    ramp = np.linspace(40, 90, SIZE[0]).astype(np.uint8)
    pixels = np.repeat(np.broadcast_to(ramp, SIZE[::-1])[..., None], 3, axis=2)
    sizes = set()
    for seed in range(20):
        _, shown = seen_anew(row, MedicalImage.from_array(pixels), random.Random(seed))
        line = shown.rgb[shown.height // 2, :, 0].astype(int)
        assert line[shown.width * 6 // 10] > line[shown.width * 4 // 10]
        sizes.add(shown.size)
    assert len(sizes) > 10
    assert max(max(size) for size in sizes) > SIZE[0] * 1.15
    small = seen_anew(row, image, random.Random(1), most=48)[1]
    assert max(small.size) <= 48


@pytest.mark.parametrize(
    ("words", "moves", "dims"),
    [
        ("It lies in the upper left of the image.", False, True),
        ("It is small and round.", False, True),
        ("The growth covers more than 15 % of it.", False, True),
        ("The growth is brighter than its surroundings.", False, False),
        ("It touches the fold.", True, True),
    ],
)
def test_what_the_words_tell_stays_true(words, moves, dims):
    row, image = drawn(0)
    row = row.model_copy(update={"thinking": f"{row.thinking} {words}"})
    sizes, levels = set(), set()
    for seed in range(8):
        new, shown = seen_anew(row, image, random.Random(seed))
        sizes.add(shown.size)
        levels.add(int(shown.rgb.max()))  # a view of another size may overshoot a little
        assert words in new.thinking
    assert (len(sizes) > 1, max(levels) - min(levels) > 15) == (moves, dims)


def test_earlier_regions_are_told_and_move_along(processor):
    row, image = drawn(0)
    box = [10, 10, 40, 30]
    row = row.model_copy(update={"other": {"earlier": [{"ref": "the fold", "box": box}]}})
    asked = question_of(row, image, "reason")
    assert [(name, before.xyxy) for name, before in asked.visual.earlier] == [("the fold", tuple(box))]
    asker = Asker(processor, template="nano-v1", coordinates="0-1000", max_pixels=10**6, name="nano")
    assert "the fold [104, 139, 417, 417]" in asker.prepare(asked).messages[0]["content"][1]["text"]
    new, shown = seen_anew(row, image, random.Random(3))
    ((_, moved),) = question_of(new, shown, "reason").visual.earlier
    (own,) = new.truth().to(moved.space).boxes
    (was,) = row.truth().boxes
    assert moved.space == shown.space
    assert moved.width / own.width == pytest.approx(30 / was.width, rel=0.01)
    assert moved.x1 - own.x1 == pytest.approx(10 - was.x1, abs=0.5), "as far from the region as before"


def test_choices_take_their_answer_along():
    row = multi(thinking="Both lungs are.", reason="")
    texts = {row.choices[0], row.choices[2]}
    orders = set()
    for seed in range(30):
        new = in_another_order(row, random.Random(seed))
        letters = new.answer.split(", ")
        assert letters == sorted(letters)
        assert {new.offered[letter] for letter in letters} == texts
        orders.add(new.choices)
    assert len(orders) == 6


def test_letters_before_their_own_words_change_too():
    row = single(thinking="A heart is wide. That makes it B, heart, both halves.", reason="B: heart, both halves")
    seen = set()
    for seed in range(20):
        new = in_another_order(row, random.Random(seed))
        assert new.offered[new.answer] == "heart, both halves"
        assert new.thinking == f"A heart is wide. That makes it {new.answer}, heart, both halves."
        assert new.reason == f"{new.answer}: heart, both halves"
        seen.add(new.answer)
    assert seen == {"A", "B", "C"}


@pytest.mark.parametrize(
    "row",
    [
        nowhere(),
        single(answer="B: heart, both halves"),
        single(thinking="So it is choice B."),
        single(thinking="Not (A), then."),
        single(thinking="A: it is narrow. False. B: it is wide. True."),
        single(thinking="That makes it B, heart."),
        single(reason="B"),
        single(choices=("left lung", "heart", "none of these")),
        single(choices=("left lung", "heart", "A and B")),
        single(choices=("left lung", "heart", "both of the above")),
    ],
    ids=lambda row: f"{row.answer} {row.thinking[:9]} {row.choices[-1:]}",
)
def test_choices_that_are_spoken_of_stay_where_they_are(row):
    for seed in range(8):
        assert in_another_order(row, random.Random(seed)) == row
