"""Two real steps of GRPO with the embedded model on a CPU, rewarded through TRL's adapter."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from drawn import ellipse, paint
from PIL import Image

import medground.reasoners
from medground.adapters.trl import RecipeReward
from medground.coords import Space
from medground.prompts import render
from medground.rewards import RECIPES, Truth

torch = pytest.importorskip("torch")
pytest.importorskip("trl", reason="trl isn't installed: pip install 'medground[train]'")
datasets = pytest.importorskip("datasets")

NANO = Path(medground.reasoners.__file__).parent / "nano"


class Recorded(RecipeReward):
    """The reward itself; it keeps what it was called with."""

    def __call__(self, completions: Any, **columns: Any) -> list[float | None]:
        values = super().__call__(completions, **columns)
        self.seen = [*getattr(self, "seen", []), *zip(completions, columns["ground_truth"], values, strict=True)]
        return values


def rows() -> Any:
    found = []
    for down, question in ((40, "Where does the optic nerve leave the eye?"), (55, "Which growth should be removed?")):
        mask = ellipse(96, 128, down, 50, 18, 22)
        _, text = render("nano-v1", question, space=Space.norm1000())
        found.append(
            {
                "prompt": [{"role": "user", "content": text}],
                "image": Image.fromarray(paint(mask)),
                "ground_truth": json.dumps(Truth.from_mask(mask).to_dict()),
            }
        )
    return datasets.Dataset.from_list(found)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from trl import GRPOConfig, GRPOTrainer

    model = AutoModelForImageTextToText.from_pretrained(NANO, dtype=torch.float32)
    tower = model.model.vision_tower.eval()
    tower.train = lambda mode=True: tower  # docs/integrations.md says why
    before = {name: value.clone() for name, value in model.state_dict().items()}
    out = tmp_path_factory.mktemp("grpo")
    rewards = [Recorded("medground", coordinates="0-1000"), RecipeReward("umrg-hard", coordinates="0-1000")]
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=rewards,
        args=GRPOConfig(
            output_dir=str(out),
            max_steps=2,
            per_device_train_batch_size=4,
            num_generations=2,
            max_completion_length=128,
            learning_rate=1e-4,
            logging_steps=1,
            log_completions=True,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            bf16=False,
            seed=0,
            disable_tqdm=True,
        ),
        train_dataset=rows(),
        processing_class=AutoProcessor.from_pretrained(NANO),
    )
    trainer.train()
    return trainer, rewards[0].seen, before, out


def test_the_reward_reads_what_the_model_wrote(trained):
    _, seen, _, _ = trained
    assert len(seen) == 8
    assert len({truth for _, truth, _ in seen}) == 2
    assert all(message["role"] == "assistant" for [message], _, _ in seen)
    assert all(0 <= value <= 1 for _, _, value in seen)
    # nano keeps to the layout; on another ruler, or with its tags lost in decoding, all of this would be worth 0.
    assert sum("</answer>" in message["content"] for [message], _, _ in seen) >= 6
    assert sum(value > 0.2 for _, _, value in seen) >= 6


def test_two_steps_change_the_weights_by_a_finite_loss(trained):
    trainer, _, before, _ = trained
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(steps) == trainer.state.global_step == 2
    assert all(math.isfinite(entry["loss"]) and 0 < entry["grad_norm"] < 1e3 for entry in steps)
    after = trainer.model.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert any("language_model" in name for name in changed)
    assert not {name for name in changed if "running" in name}  # the tower's statistics stayed the model's own
    assert all(value.isfinite().all() for value in after.values())


def test_the_terms_are_in_the_trainers_log(trained):
    trainer, seen, _, out = trained
    first = next(entry for entry in trainer.state.log_history if "loss" in entry)
    assert first["rewards/medground/mean"] == pytest.approx(sum(value for _, _, value in seen[:4]) / 4, abs=1e-5)
    assert {"medground/box", "medground/evidence", "umrg-hard/bbox_align", "rewards/umrg-hard/mean"} <= set(first)
    assert all(0 <= value <= 1 for name, value in first.items() if name.startswith("medground/"))
    table = datasets.Dataset.from_parquet(str(out / "completions" / "completions_00002.parquet"), cache_dir=str(out))
    terms = [json.loads(text) for text in table["medground/terms"]]
    assert [round(RECIPES["medground"].combine(row), 2) for row in terms] == [round(v, 2) for _, _, v in seen[4:]]
