"""docs/scale.md: made from its script, and the script's sums held against the real model and torch's own count."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture
def scale(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(DOCS))
    return importlib.import_module("scale")


@pytest.fixture(scope="module")
def model():
    """The 7B model's shape, without its weights."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    text = {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28}
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
    text |= {"num_key_value_heads": 4, "vocab_size": 152064, "rope_parameters": rope, "tie_word_embeddings": False}
    vision = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "out_hidden_size": 3584}
    config = transformers.Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=False)
    with torch.device("meta"):
        return transformers.AutoModelForImageTextToText.from_config(config)


def test_the_page_is_the_scripts(scale: ModuleType) -> None:
    assert (DOCS / "scale.md").read_text(encoding="utf-8") == scale.page()


def test_the_weights_are_counted_right(scale: ModuleType, model) -> None:
    sizes = {name: weight.numel() for name, weight in model.named_parameters() if weight.ndim > 1}
    assert scale.MODEL.weights == sum(sizes.values())
    assert scale.MODEL.bridge == sum(size for name, size in sizes.items() if "merger" in name)
    assert scale.MODEL.tower == sum(size for name, size in sizes.items() if "visual" in name and "merger" not in name)


def test_a_pass_is_counted_as_torch_counts_it(scale: ModuleType, model) -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    count = 64
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=torch.zeros(1, count, dtype=torch.long, device="meta"), use_cache=False)
    # Attention, a thousandth of this, is counted in full by torch and by its lower half here.
    assert scale.MODEL.read(count, 0) == pytest.approx(counter.get_total_flops(), rel=2e-3)


def test_costs_grow_as_they_must(scale: ModuleType) -> None:
    def hours(**changes: int) -> float:
        return scale.hours(scale.MODEL, scale.GPU, replace(scale.USUAL, **changes))

    base = hours()
    assert hours(epochs=10) == pytest.approx(2 * base)
    assert hours(questions=256) == pytest.approx(base)  # fewer, larger steps
    assert 1.9 < hours(group=32) / base < 2
    assert hours(distinct=True) < hours(probabilities=1) < base < hours(completion=600)
    shared = replace(scale.USUAL, group=1, distinct=True)  # a group of one shares nothing
    assert scale.cost(scale.MODEL, scale.GPU, shared).learning == pytest.approx(
        scale.cost(scale.MODEL, scale.GPU, replace(shared, distinct=False)).learning
    )


def test_generation_is_bounded_by_its_memory(scale: ModuleType) -> None:
    usual, held = scale.speed(scale.MODEL, scale.GPU, scale.USUAL)
    small = replace(scale.GPU, memory=40e9)
    slower, fewer = scale.speed(scale.MODEL, small, replace(scale.USUAL, completion=2048))
    assert held == scale.GPU.sequences
    assert fewer * scale.MODEL.cached * 3348 + 2 * scale.MODEL.weights <= 0.9 * 40e9
    assert slower < usual
