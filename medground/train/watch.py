"""What is told while a model trains: how long it takes, what is logged, and what goes wrong, with the remedy.

Nothing here changes what is learned. Going on is stopped where it is senseless: a gradient that isn't finite would
spoil every weight, so it is refused before the step is made.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from medground._progress import counting_bar
from medground.errors import MedgroundError
from medground.train.config import TrainConfig
from medground.train.curves import RunLog, write_page
from medground.train.record import last_checkpoint

__all__ = ["Journal", "Told", "TrainProgress", "TrainingError", "Watch", "explained", "watchers", "with_bar"]

PATIENCE = 3
"""Lines of the log in a row that must show the same trouble before it is told."""

COLLAPSED = 0.9
"""Share of groups without spread in their rewards from which on it is told."""

CLIPPED = 0.5
"""Share of completions cut off at the longest length from which on it is told."""

GROWN = 2.0
"""How many times as long as at the start completions may get before it is told."""

_log = logging.getLogger(__name__)


class TrainingError(MedgroundError):
    """A training that can't go on; says at which step, why, and what to change."""


@dataclass(frozen=True, slots=True)
class TrainProgress:
    """Where a training stands.

    Parameters
    ----------
    step, steps : int
        Steps made, and to be made in all.
    seconds : float
        Since this process began to train.
    figures : dict of str to float
        The last line of the log.
    """

    step: int
    steps: int
    seconds: float
    figures: Mapping[str, Any] = field(default_factory=dict)


Told = Callable[[TrainProgress], None]
"""What is called with each step."""


class Journal(TrainerCallback):  # type: ignore[misc]
    """Writes ``log.jsonl`` and ``curves.html``, and calls back with the progress.

    A line is logged with each checkpoint also where its turn hasn't come: the trainer's means span the steps since the
    last line, and a run that goes on from a checkpoint couldn't complete one that was begun before.

    Parameters
    ----------
    log : RunLog
    progress : callable, optional
        Is told where the training stands, after each step and each line of the log.
    """

    def __init__(self, log: RunLog, progress: Told | None = None) -> None:
        self.log, self.progress = log, progress
        self.started = time.monotonic()
        self.figures: dict[str, Any] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Cut the log to the step that the run goes on from."""
        self.started = time.monotonic()
        if state.is_world_process_zero:
            # Of a run that was ended before its first checkpoint nothing is kept, not even the check of its start.
            self.log.cut(state.global_step or -1)
        self._tell(state)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ask for a line where a checkpoint is going to be written."""
        if control.should_save:
            control.should_log = True
        self._tell(state)

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
        """Write a line."""
        values = dict(logs or {})
        if not state.is_world_process_zero or not values:
            return
        if "train_runtime" in values:  # the run's own summary, told in its state
            return
        self.figures = values
        self.log.add(state.global_step, seconds=round(time.monotonic() - self.started, 1), **_plain(values))
        self._tell(state)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write the page again."""
        self._page(state)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write the page a last time."""
        self._page(state)

    def _page(self, state: Any) -> None:
        if state.is_world_process_zero and self.log.read():
            write_page(self.log.file.parent)

    def _tell(self, state: Any) -> None:
        if self.progress is not None and state.is_world_process_zero:
            seconds = time.monotonic() - self.started
            self.progress(TrainProgress(state.global_step, state.max_steps, seconds, self.figures))


class Watch(TrainerCallback):  # type: ignore[misc]
    """Notices what goes wrong and says it once, in words, with the remedy.

    Told, and written into the log as ``notice``: groups whose rewards are all equal, completions that are cut off or
    get longer and longer. Raised as `TrainingError`: a loss or a gradient that isn't finite.

    Parameters
    ----------
    config : TrainConfig
    log : RunLog
    """

    def __init__(self, config: TrainConfig, log: RunLog) -> None:
        self.config, self.log = config, log
        self.streaks: dict[str, int] = {}
        self.lengths: list[float] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Refuse a step with a gradient that isn't finite; the weights stay as they are."""
        gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
        if gradients and not bool(torch.isfinite(torch.nn.utils.get_total_norm(gradients))):
            raise TrainingError(_not_finite("the gradient", state.global_step + 1, self.config))

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
        """Look at a line of the log."""
        figures = logs or {}
        for name in ("loss", "grad_norm"):
            if not math.isfinite(float(figures.get(name) or 0.0)):
                words = f"the {name.replace('_', ' ')}"
                raise TrainingError(_not_finite(words, state.global_step, self.config, changed=True))
        if not state.is_world_process_zero:
            return
        for text in self._troubles(figures):
            self.tell(state.global_step, text)

    def tell(self, step: int, text: str) -> None:
        """Say something, and write it into the log."""
        self.log.add(step, notice=text)
        _log.warning("step %d: %s", step, text)

    def _troubles(self, figures: Mapping[str, Any]) -> Iterator[str]:
        grpo = self.config.grpo
        equal = figures.get("frac_reward_zero_std")
        if equal is not None and self._lasts("equal", equal >= COLLAPSED):
            share, mean = f"{equal:.0%} of the groups", figures.get("reward")
            if mean is not None and abs(mean) < 1e-3:
                yield (
                    f"in {share} each completion earns 0, so nothing is learned: look at completions; the ruler "
                    "(coordinates), the layout or grpo.max_completion doesn't fit the model, or it needs SFT first"
                )
            else:
                yield (
                    f"in {share} all completions earn the same, so nothing is learned from them: raise "
                    f"grpo.temperature (now {grpo.temperature:g}) or grpo.generations (now {grpo.generations}), or "
                    "train on questions that the model answers neither always nor never"
                )
        cut = figures.get("completions/clipped_ratio")
        if cut is not None and self._lasts("cut", cut >= CLIPPED):
            yield (
                f"{cut:.0%} of the completions are cut off after {grpo.max_completion} tokens and can't be read: raise "
                "grpo.max_completion, the weight of the recipe's length term or grpo.beta, or lower the rate"
            )
        length = figures.get("completions/mean_length")
        if length is None:
            return
        if len(self.lengths) < PATIENCE:
            self.lengths.append(float(length))
            return
        start = sum(self.lengths) / len(self.lengths)
        if self._lasts("long", length >= GROWN * start):
            yield (
                f"completions have {length:.0f} tokens, at the start they had {start:.0f}: raise the weight of the "
                "recipe's length term or grpo.beta, or look at completions for padding that pays"
            )

    def _lasts(self, what: str, so: bool) -> bool:
        """Count lines of the log in a row that are so; True once, when there are enough."""
        self.streaks[what] = self.streaks.get(what, 0) + 1 if so else 0
        return self.streaks[what] == PATIENCE


def watchers(config: TrainConfig, *, progress: Told | None = None) -> list[TrainerCallback]:
    """Return the callbacks that each training has: the journal, the watch, and the end that is asked for."""
    log = RunLog(config.folder)
    end = [] if config.stop_after is None else [_End(config.stop_after)]
    return [Journal(log, progress), Watch(config, log), *end]


class _End(TrainerCallback):  # type: ignore[misc]
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_training_stop |= state.global_step >= self.step


@contextlib.contextmanager
def explained(config: TrainConfig, step: Callable[[], int]) -> Iterator[None]:
    """Say in words what a training fails of, where a user can do something about it.

    Parameters
    ----------
    config : TrainConfig
    step : callable
        Returns how many steps were made.

    Raises
    ------
    TrainingError
        When memory ran out, or the model's own numbers aren't finite so that nothing can be drawn from them.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrainingError(_no_memory(config, step() + 1, "the GPU")) from error
    except RuntimeError as error:
        text = str(error)
        if "allocate memory" in text or "out of memory" in text.lower():
            where = "the GPU" if "CUDA" in text else "this machine"
            raise TrainingError(_no_memory(config, step() + 1, where)) from error
        if "probability tensor contains" in text:
            raise TrainingError(_not_finite("what the model says", step() + 1, config)) from error
        raise
    except MemoryError as error:
        raise TrainingError(_no_memory(config, step() + 1, "this machine")) from error


@contextlib.contextmanager
def with_bar() -> Iterator[Told]:
    """Show a bar with the time left on standard error; yields what is to be called with the progress."""
    bar = counting_bar("step {task.completed}/{task.total}")
    task: Any = None
    first = 0

    def show(now: TrainProgress) -> None:
        nonlocal task, first
        if task is None:  # from the step that a run goes on from, so that its earlier steps don't count as fast ones
            first = now.step
            task = bar.add_task("", total=max(1, now.steps), completed=first)
        bar.update(task, completed=now.step, total=max(1, now.steps), description=_in_short(now.figures))

    with bar:
        yield show


def _in_short(figures: Mapping[str, Any]) -> str:
    """Return the two or three figures that a bar has room for."""
    shown = [(name, figures[name]) for name in ("loss", "reward", "kl") if figures.get(name) is not None]
    return ", ".join(f"{name} {float(value):.4g}" for name, value in shown)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return figures as JSON has them: TRL logs some as tensors or NumPy numbers."""
    told: dict[str, Any] = {}
    for name, value in values.items():
        told[name] = value.item() if hasattr(value, "item") else value
    return told


def _no_memory(config: TrainConfig, step: int, where: str) -> str:
    """Return what can be done where memory ran out; what costs least first."""
    remedies: list[str] = []
    if not config.gradient_checkpointing:
        remedies.append("gradient_checkpointing = true")
    if config.batch > 1:
        remedies.append(
            f"batch = {config.batch // 2} with accumulation = {config.accumulation * 2}, which makes the same step"
        )
    if not config.bf16:
        remedies.append("bf16 = true")
    pixels = "" if config.max_pixels is None else f" (now {config.max_pixels})"
    remedies.append(f"fewer max_pixels{pixels}")
    if config.kind == "grpo":
        remedies.append(f"a smaller grpo.max_completion (now {config.grpo.max_completion})")
        if config.grpo.beta and config.lora is None:
            remedies.append("lora or grpo.beta = 0, which need no second model for the KL")
    if config.lora is None:
        remedies.append("a [lora] table")
    return (
        f"step {step}: {where} has no memory left: begin again in another folder with {_listed(remedies)}; where "
        "something else took the memory, --resume goes on from the last checkpoint"
    )


def _not_finite(what: str, step: int, config: TrainConfig, *, changed: bool = False) -> str:
    kept = _last_good(config.folder)
    before = "" if changed else " before the weights were changed by it"
    return (
        f"step {step}: {what} isn't finite, so the training was stopped{before}: begin "
        f"again with a lower rate (now {config.rate:g}), a longer warmup or a smaller max_grad_norm (now "
        f"{config.max_grad_norm:g}); {kept}"
    )


def _last_good(folder: Path) -> str:
    found = last_checkpoint(folder)
    return "there is no checkpoint yet" if found is None else f"{found.name} is the last good state"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])}, or {parts[-1]}"
