"""Large models' families through both trainings, on tiny random models of the real classes.

Each learns by supervision and by reinforcement, with all weights and with adapters, and is shown, asked and scored in
the numbers that its family writes.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("trl", reason="trl isn't installed: pip install 'medground[train]'")
pytest.importorskip("pyarrow")

from safetensors.torch import load_file  # noqa: E402
from small_training import SIZE, changed, settings, write_data  # noqa: E402
from test_reasoners_hf import make_folder  # noqa: E402

from medground.coords import Space, space_words  # noqa: E402
from medground.images import load_image  # noqa: E402
from medground.parsing import parse  # noqa: E402
from medground.reasoners import Request, load_reasoner  # noqa: E402
from medground.rewards import Recipe, Truth, gold, read_truth, score  # noqa: E402
from medground.train.config import TrainConfig  # noqa: E402
from medground.train.curves import RunLog  # noqa: E402
from medground.train.reinforce import train_grpo  # noqa: E402
from medground.train.rows import Examples, open_rows  # noqa: E402
from medground.train.start import load_start  # noqa: E402
from medground.train.supervised import RowCollator, train_sft  # noqa: E402

BUDGET = 64 * 64
"""Pixels of the picture that is shown; the drawn ones have more, so each family resizes them by its own rule."""

MODELS = {
    "qwen2_5_vl": ("Qwen2_5_VLModel", "resized pixels", Space.resized(56, 28)),
    "qwen3_vl": ("Qwen3VLModel", "0-1000", Space.norm1000()),
    "internvl": ("InternVLModel", "0-1000", Space.norm1000()),
}
"""Family -> the class that sees the picture, how its makers say that it writes coordinates, and its ruler over a drawn
picture of 96 x 72.

56 x 28 by hand, from Qwen2.5-VL's published rule: sides are multiples of 28, and 84 x 56 would be above the budget.
"""

LORA = {"rank": 4, "alpha": 8, "dropout": 0.0}


def _terms(completions: Any, truths: Any) -> list[dict[str, float]]:
    SEEN.extend(truths)
    return [{"signs": sum(ord(sign) % 7 for sign in said) / 20} for said in completions]


SEEN: list[Truth] = []
"""The truths that the reward was called with."""

SIGNS = Recipe("signs", {"signs": 1.0}, _terms, read_truth, "sum")
"""A number that hardly any two completions share, so that groups have spread though nothing was ever learned."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    return functools.cache(lambda family: make_folder(family, tmp_path_factory.mktemp(family) / f"tiny-{family}"))


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the model itself is handed in each forward pass that has a picture."""
    seen: list[dict[str, Any]] = []
    for name, _, _ in MODELS.values():
        kind = getattr(transformers, name)
        original = kind.forward

        def forward(self: Any, *args: Any, original: Any = original, **inputs: Any) -> Any:
            if inputs.get("pixel_values") is not None:
                seen.append(inputs)
            return original(self, *args, **inputs)

        # Trainers read the names of the arguments, which a wrapped function keeps.
        monkeypatch.setattr(kind, "forward", functools.wraps(original)(forward))
    return seen


def page(model: Path, data: Path, out: Path, kind: str, **more: Any) -> TrainConfig:
    grpo = {"recipe": "test_train_families:SIGNS", "generations": 2, "max_completion": 6, "beta": 0.1}
    part = {"grpo": grpo} if kind == "grpo" else {"sft": {"max_tokens": 4000}}
    values = settings(model, data, out, kind, steps=2, batch=4, max_pixels=BUDGET, **part, **more)
    return TrainConfig.model_validate(values)


@pytest.mark.parametrize("weights", ["all", "adapters"])
@pytest.mark.parametrize("kind", ["sft", "grpo"])
@pytest.mark.parametrize("family", MODELS)
def test_a_family_learns_in_its_own_numbers(
    family: str,
    kind: str,
    weights: str,
    folders: Callable[[str], Path],
    data: Path,
    tmp_path: Path,
    shown: list[dict[str, Any]],
) -> None:
    _, coordinates, ruler = MODELS[family]
    more: dict[str, Any] = {"lora": LORA, "gradient_checkpointing": True} if weights == "adapters" else {}
    config = page(folders(family), data, tmp_path, kind, **more)
    SEEN.clear()
    model = (train_sft if kind == "sft" else train_grpo)(config)

    lines = [line for line in RunLog(tmp_path).read() if "loss" in line]
    assert [line["step"] for line in lines] == [1, 2]
    assert all(math.isfinite(line["loss"]) and 0 < line["grad_norm"] < 1e4 for line in lines)
    before, after = (load_file(folder / "model.safetensors") for folder in (folders(family), model))
    assert set(after) == set(before)
    assert all(value.isfinite().all() for value in after.values())
    names = changed(before, after)
    tower = {name for name in names if "visual.blocks" in name or "vision_tower" in name}
    assert any("layers.1.mlp.down_proj" in name for name in names - tower)
    assert bool(tower) == (weights == "all")
    assert load_reasoner(str(model), device="cpu", max_pixels=BUDGET).coordinates == coordinates

    assert shown
    if coordinates == "resized pixels":  # the ruler is the very picture that came in
        patch = load_reasoner(str(model), device="cpu").asker.patch
        sizes = {(int(w) * patch, int(h) * patch) for each in shown for _, h, w in each["image_grid_thw"]}
        assert sizes == {(ruler.width, ruler.height)}
    if kind == "grpo":
        assert {(truth.space.width, truth.space.height) for truth in SEEN} == {(ruler.width, ruler.height)}
        assert lines[0]["kl"] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("family", MODELS)
def test_a_row_is_learned_from_as_it_will_be_asked(family: str, folders: Callable[[str], Path], data: Path) -> None:
    config = page(folders(family), data, data / "unused", "sft")
    start = load_start(config)
    rows = open_rows(config)
    examples = Examples(rows, config, start.asker)
    made = RowCollator(start.processor, 4000)([examples.example(place) for place in range(2)])
    reasoner: Any = load_reasoner(str(folders(family)), device="cpu", max_pixels=BUDGET)
    tokenizer = reasoner.processor.tokenizer
    for place in range(2):
        image = load_image(data / "images" / f"train{place}.png")
        inputs, [space] = reasoner._inputs([reasoner.asker.prepare(Request(image, rows[place].question))])
        asked, learned = inputs["input_ids"][0].tolist(), made["input_ids"][place]
        assert learned[: len(asked)].tolist() == asked
        assert space_words(space) in tokenizer.decode(asked)
        told = made["labels"][place]
        assert set(told[: len(asked)].tolist()) == {-100}
        said = tokenizer.decode(told[told != -100])
        assert said.rstrip().endswith(tokenizer.eos_token)
        box, true = parse(said.replace(tokenizer.eos_token, ""), space).box, rows[place].truth().box
        assert box is not None
        assert true is not None
        assert np.abs(np.subtract(box.xyxy, true.to(space).xyxy)).max() <= 0.5  # written in whole numbers
    count = len(made["pixel_values"]) // 2
    assert torch.equal(made["pixel_values"][-count:], inputs["pixel_values"])


@pytest.mark.parametrize("family", MODELS)
def test_the_right_answer_in_a_familys_numbers_is_worth_it(
    family: str, folders: Callable[[str], Path], data: Path
) -> None:
    _, _, ruler = MODELS[family]
    config = page(folders(family), data, data / "unused", "grpo")
    start = load_start(config)
    example = Examples(open_rows(config), config, start.asker).example(0)
    truth = read_truth(json.loads(example["ground_truth"]))
    assert (truth.space.width, truth.space.height) == (ruler.width, ruler.height)
    terms = score(gold(truth, "It is there."), example["ground_truth"])
    assert terms["box"] > 0.8
    assert terms["format"] == 1.0
    other = Space.norm1000() if ruler != Space.norm1000() else Space.pixels(*SIZE)
    assert score(gold(truth.to(other), "It is there."), example["ground_truth"])["box"] < 0.5


def test_a_picture_for_vllm_is_one_that_the_published_processor_leaves_as_it_is(
    folders: Callable[[str], Path], data: Path
) -> None:
    config = page(folders("qwen2_5_vl"), data, data / "unused", "grpo")
    asked = config.model_copy(update={"max_pixels": 5600, "grpo": config.grpo.model_copy(update={"vllm": "server"})})
    start = load_start(asked)
    picture = Examples(open_rows(asked), asked, start.asker).example(0)["image"]
    assert picture.size == (84, 56)  # by the rule; without a budget it is 84 x 84
    made = transformers.Qwen2VLImageProcessor(patch_size=14, merge_size=2)(images=[picture], return_tensors="pt")
    assert made["image_grid_thw"].tolist() == [[1, 56 // 14, 84 // 14]]
    alone = asked.model_copy(update={"grpo": config.grpo})
    assert Examples(open_rows(alone), alone, start.asker).example(0)["image"].size == SIZE
