"""What goes wrong in a training is said, once and with the remedy; what can't be gone on with is stopped in time."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments  # noqa: E402

from medground.train.config import TrainConfig  # noqa: E402
from medground.train.curves import RunLog  # noqa: E402
from medground.train.watch import (  # noqa: E402
    PATIENCE,
    Journal,
    TrainingError,
    TrainProgress,
    Watch,
    explained,
    watchers,
    with_bar,
)


def config(out: Path, **changes: Any) -> TrainConfig:
    values = {"name": "tiny", "kind": "grpo", "rate": 1e-3, "data": {"train": "t.parquet"}, "out": str(out)}
    return TrainConfig.model_validate(values | changes)


class Line(torch.nn.Module):
    """One weight; a batch's loss is the distance from where the batch says."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, to: torch.Tensor, **_: Any) -> dict[str, torch.Tensor]:
        return {"loss": ((self.weight - to) ** 2).mean()}


def train(out: Path, values: list[float], *, resume: bool = False, **extra: Any) -> Trainer:
    """Train with the real trainer, one value a step."""
    progress, model = extra.pop("progress", None), extra.pop("model", None)
    settings = {"logging_steps": 2, "save_steps": 3, "max_grad_norm": 1.0, "logging_nan_inf_filter": False} | extra
    trainer = Trainer(
        model=model or Line(),
        args=TrainingArguments(
            output_dir=str(out),
            max_steps=len(values),
            per_device_train_batch_size=1,
            learning_rate=0.1,
            lr_scheduler_type="constant",
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            **settings,
        ),
        train_dataset=[{"to": torch.tensor([value])} for value in values],
        callbacks=watchers(config(out), progress=progress),
    )
    trainer._get_train_sampler = lambda *_: torch.utils.data.SequentialSampler(trainer.train_dataset)
    trainer.train(resume_from_checkpoint=resume or None)
    return trainer


def feed(out: Path, lines: list[dict[str, float]], **changes: Any) -> list[str]:
    """Show log lines to the watch and return what it said."""
    log = RunLog(out)
    watch = Watch(config(out, **changes), log)
    for step, line in enumerate(lines, 1):
        state = TrainerState(global_step=step, is_world_process_zero=True)
        watch.on_log(None, state, TrainerControl(), logs=line)
    return [line["notice"] for line in log.read()]


def test_a_line_is_written_with_each_checkpoint_and_none_twice(tmp_path: Path) -> None:
    train(tmp_path / "whole", [1.0] * 7)
    whole = RunLog(tmp_path / "whole").read()
    assert [line["step"] for line in whole] == [2, 3, 4, 6, 7]  # 3, 6 and the last: with a checkpoint
    assert all({"loss", "grad_norm", "learning_rate", "epoch", "seconds"} <= set(line) for line in whole)
    train(tmp_path / "cut", [1.0] * 7)
    for name in ("checkpoint-6", "checkpoint-7"):
        (tmp_path / "cut" / name / "trainer_state.json").unlink()
        (tmp_path / "cut" / name).rename(tmp_path / f"gone-{name}")
    train(tmp_path / "cut", [1.0] * 7, resume=True)
    again = RunLog(tmp_path / "cut").read()
    assert [line["step"] for line in again] == [2, 3, 4, 6, 7]
    assert [line["loss"] for line in again] == pytest.approx([line["loss"] for line in whole], abs=1e-6)
    assert (tmp_path / "cut" / "curves.html").is_file()


def test_a_run_that_begins_again_begins_its_log_again(tmp_path: Path) -> None:
    RunLog(tmp_path).add(0, checkup={"box_iou": 0.5})
    RunLog(tmp_path).add(2, loss=9.0)
    train(tmp_path, [1.0] * 4)
    assert [line["step"] for line in RunLog(tmp_path).read()] == [2, 3, 4]
    assert not [line for line in RunLog(tmp_path).read() if "checkup" in line]


def test_the_progress_says_each_step_and_the_last_figures(tmp_path: Path) -> None:
    told: list[TrainProgress] = []
    train(tmp_path, [1.0] * 4, progress=told.append)
    assert next((each.step, each.steps) for each in told if not each.figures) == (0, 4)
    assert told[-1].step == 4
    assert told[-1].figures["loss"] > 0
    assert [each.step for each in told] == sorted(each.step for each in told)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_isnt_finite_stops_before_it_spoils_the_weights(tmp_path: Path, value: float) -> None:
    model = Line()
    said = r"^step 5: the gradient isn't finite, .* before the weights were .* lower rate \(now 0.001\)"
    with pytest.raises(TrainingError, match=said) as met:
        train(tmp_path, [1.0, 1.0, 1.0, 1.0, value, 1.0], model=model)
    assert "checkpoint-3 is the last good state" in str(met.value)
    assert model.weight.item() == pytest.approx(0.4, abs=0.01)  # four steps of 0.1
    assert not (tmp_path / "checkpoint-6").exists()


def test_a_loss_that_overflows_isnt_averaged_away(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"^step 6: the loss isn't finite"):  # its gradient is
        train(tmp_path, [1.0, 1.0, 1.0, 1.0, 1e38, 1.0])


def test_a_logged_loss_that_isnt_finite_stops(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"step 1: the loss isn't finite.*there is no checkpoint yet"):
        feed(tmp_path, [{"loss": float("nan")}])
    with pytest.raises(TrainingError, match="step 2: the grad norm isn't finite"):
        feed(tmp_path, [{"loss": 0.0}, {"loss": 0.0, "grad_norm": float("inf")}])


EQUAL = {"frac_reward_zero_std": 0.95, "reward": 0.7}


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([EQUAL] * (PATIENCE - 1), None),
        ([EQUAL, EQUAL, {**EQUAL, "frac_reward_zero_std": 0.5}, EQUAL, EQUAL], None),
        ([EQUAL] * 9, r"in 95% of the groups all completions earn the same.*temperature \(now 0\.8\).*\(now 4\)"),
        ([{**EQUAL, "reward": 0.0}] * 9, r"in 95% of the groups each completion earns 0.*coordinates.*SFT"),
        ([{"completions/clipped_ratio": 0.49}] * 9, None),
        ([{"completions/clipped_ratio": 0.75}] * 9, "75% of the completions are cut off after 64 tokens"),
        ([{"completions/mean_length": 50.0}] * 9, None),
        ([{"completions/mean_length": 50.0}] * 3 + [{"completions/mean_length": 99.0}] * 9, None),
        (
            [{"completions/mean_length": 50.0}] * 3 + [{"completions/mean_length": 120.0}] * 9,
            "completions have 120 tokens, at the start they had 50",
        ),
        ([{"loss": 0.1}] * 9, None),
    ],
)
def test_trouble_is_told_once_and_with_the_remedy(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, lines: list[dict[str, float]], said: str | None
) -> None:
    grpo = {"temperature": 0.8, "generations": 4, "max_completion": 64}
    with caplog.at_level(logging.WARNING, "medground.train.watch"):
        notices = feed(tmp_path, lines, grpo=grpo)
    if said is None:
        assert notices == [] == caplog.messages
    else:
        import re

        (notice,) = notices
        assert re.search(said, notice)
        assert caplog.messages[0].endswith(notice)


def test_trouble_that_comes_back_is_told_again(tmp_path: Path) -> None:
    fine = {"frac_reward_zero_std": 0.0, "reward": 0.7}
    assert len(feed(tmp_path, [EQUAL] * 4 + [fine] + [EQUAL] * 4)) == 2


@pytest.mark.parametrize(
    ("error", "changes", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), {"batch": 8}, "batch = 4 with accumulation = 2"),
        (
            torch.OutOfMemoryError("CUDA out of memory"),
            {},
            "the GPU has no memory left: .*gradient_checkpointing = true",
        ),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), {}, "this machine has no memory left"),
        (MemoryError(), {"max_pixels": 5000}, r"fewer max_pixels \(now 5000\)"),
        (MemoryError(), {"grpo": {"beta": 0.1}}, "lora or grpo.beta = 0"),
        (RuntimeError("probability tensor contains either `inf`, `nan` or element < 0"), {}, "isn't finite"),
    ],
)
def test_what_a_user_can_mend_is_said_in_words(
    tmp_path: Path, error: BaseException, changes: dict[str, Any], said: str
) -> None:
    with (
        pytest.raises(TrainingError, match=f"^step 8: .*{said}") as met,
        explained(config(tmp_path, **changes), lambda: 7),
    ):
        raise error
    assert met.value.__cause__ is error
    assert ("batch = " in str(met.value)) is (changes.get("batch", 1) > 1)


def test_remedies_that_are_taken_already_arent_told(tmp_path: Path) -> None:
    taken = config(tmp_path, gradient_checkpointing=True, lora={"rank": 8}, kind="sft")
    with pytest.raises(TrainingError) as met, explained(taken, lambda: 0):
        raise MemoryError
    assert "max_pixels" in str(met.value)
    assert not [word for word in ("checkpointing", "lora", "bf16", "grpo", "batch") if word in str(met.value)]


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="shapes differ"), explained(config(tmp_path), lambda: 0):
        raise RuntimeError("shapes differ")


def test_the_bar_takes_what_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with with_bar() as show:
        show(TrainProgress(30, 100, 0.0))
        show(TrainProgress(31, 100, 1.0, {"loss": 0.5, "reward": 0.25, "kl": None}))
    said = capsys.readouterr()
    assert said.out == ""
    assert "step 31/100" in said.err
    assert "loss 0.5, reward 0.25" in said.err


def test_only_the_first_process_writes(tmp_path: Path) -> None:
    journal = Journal(RunLog(tmp_path / "other"))
    state = SimpleNamespace(is_world_process_zero=False, global_step=3, max_steps=5)
    control = TrainerControl(should_save=True)
    journal.on_train_begin(None, state, control)
    journal.on_step_end(None, state, control)
    journal.on_log(None, state, control, logs={"loss": 1.0})
    journal.on_save(None, state, control)
    assert control.should_log
    assert not (tmp_path / "other").exists()
