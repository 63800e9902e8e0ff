"""The recipes of visual questions: what they train on, together with grounding and alone."""

from __future__ import annotations

from pathlib import Path

from medground.train.recipe import read_config

RECIPES = Path(__file__).parents[1] / "recipes"


def test_the_joint_model_sees_both_tasks_and_grounding_as_before():
    joint, alone = (read_config(RECIPES / f"nano_{name}.toml") for name in ("joint_sft", "sft"))
    assert joint.data.vqa
    assert joint.data.vqa_val
    assert joint.data.vqa_share is not None
    assert (joint.data.train, joint.data.weights, joint.data.traces) == (
        alone.data.train,
        alone.data.weights,
        alone.data.traces,
    )


def test_reinforcement_takes_the_rows_of_supervision():
    sft, grpo = (read_config(RECIPES / f"nano_vqa_{kind}.toml", ["data.vqa_limit=0.125"]) for kind in ("sft", "grpo"))
    assert (sft.seed, sft.data.vqa, sft.data.vqa_limit) == (grpo.seed, grpo.data.vqa, grpo.data.vqa_limit)
    assert grpo.grpo.vqa_recipe == "thinkvg"
