"""Reinforcement learning: TRL's GRPO on a vision-language model, rewarded by a recipe of `medground.rewards`.

Thin over `trl.GRPOTrainer`. What this adds: rewards by their terms' names, the prompts of our own data, checks on
validation rows, a log, and a run that goes on after a crash as if nothing had been. TRL 1.16 and transformers 5.23
restore weights, optimizer, schedule, step and the random states. They don't restore

- the order of prompts in the second epoch and later: TRL's sampler draws each epoch's order from a generator that a new
  process begins from its seed, so the first epoch's order would come again. `_Order` draws it from the seed and the
  epoch;
- TRL's count of forward passes, which says when completions are made anew: it would begin from 0. `_Continuation` sets
  it;
- the completions in use: they are gone. Where several steps learn from the same ones, checkpoints are written between
  rounds of generation only; another `save_every` is refused.

The KL divergence to the model at the start is the low-variance estimator (k3 of Schulman 2020, as in DeepSeekMath): for
each token ``exp(r) - r - 1`` with r = log of the start's probability over the model's; it is never negative. It is
added to the loss, `beta` times. With LoRA the start is the model with its adapters switched off; else a second, frozen
copy is held in memory.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import PrinterCallback, TrainerCallback
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.utils import RepeatSampler

from medground.adapters import weighted
from medground.adapters.trl import RecipeReward
from medground.data.rows import Row
from medground.errors import ConfigError, TruthError
from medground.rewards import Recipe, score_batch
from medground.train.checkup import checkups
from medground.train.config import TrainConfig
from medground.train.credit import part_credit, spread_over_tokens
from medground.train.once import look_once, remembering
from medground.train.record import open_run
from medground.train.rows import Examples, Rows, dataset, open_rows
from medground.train.spread import WholeHead
from medground.train.start import (
    arguments,
    load_start,
    lora_config,
    parameter_groups,
    save_model,
    total_steps,
    world_size,
)
from medground.train.watch import Told, explained, watchers

__all__ = ["grpo_arguments", "scorable", "train_grpo"]

LEAST_SPREAD = 0.1
"""Of a group's scores, where parts have their own credit. A claim's doesn't shrink with that spread: divided by next to
nothing, in a group that misses the target alike, it would outweigh all else that a step teaches."""

_log = logging.getLogger(__name__)


def train_grpo(config: TrainConfig, *, resume: bool = False, progress: Told | None = None) -> Path:
    """Train by reinforcement and return the folder of the trained model, which `load_reasoner` loads.

    Parameters
    ----------
    config : TrainConfig
        Of kind ``grpo``.
    resume : bool
        Go on from the last checkpoint of the run's folder.
    progress : callable, optional
        See `medground.train.watch.TrainProgress`.

    Returns
    -------
    Path
        ``OUT/model``.

    Raises
    ------
    ConfigError, TruthError
        When a setting or a row can't be used.
    TrainingError
        When the run can't go on: memory, or numbers that aren't finite.
    """
    if config.kind != "grpo":
        raise ConfigError(f"{config.name}: kind is {config.kind!r}; reinforcement is for kind 'grpo'")
    recipe, vqa_recipe = recipes_of(config)
    rows, left_out = scorable(open_rows(config), recipe)
    start = load_start(config)
    examples = Examples(rows, config, start.asker)
    settings = grpo_arguments(config, len(examples))
    checkpoint = open_run(config, start.asker, resume=resume)
    continuation = _Continuation()
    checks = checkups(config, start.asker, recipe, vqa_recipe)
    with _without_bars(), explained(config, lambda: continuation.step):
        trainer = _Trainer(
            model=start.model,
            reward_funcs=rewards_of(config, recipe, vqa_recipe),
            args=settings,
            train_dataset=dataset(examples, len(examples)),
            processing_class=start.processor,
            peft_config=lora_config(config, start.model),
            callbacks=[continuation, WholeHead(), *watchers(config, progress=progress), *checks],
            run=config,
            recipe=recipe,
        )
        for model in (trainer.model, trainer.ref_model):
            if model is not None:
                look_once(model)
        trainer.remove_callback(PrinterCallback)
        continuation.trainer = trainer
        if left_out:
            _log.warning("%d rows ask for what is absent, which %s can't score; left out", left_out, recipe.name)
        with remembering(config, start.model):
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    return save_model(trainer, start, config)


def recipes_of(config: TrainConfig) -> tuple[Recipe, Recipe]:
    """Return the recipe that scores grounding, and the one that scores visual questions.

    Raises
    ------
    ConfigError
        When one isn't known, both are asked for and have one name, or the latter can't score visual questions.
    """
    grpo = config.grpo
    recipe, visual = weighted(grpo.recipe, grpo.weights), weighted(grpo.vqa_recipe, grpo.vqa_weights)
    if config.data.vqa and config.data.train is not None and recipe.name == visual.name:
        raise ConfigError(f"grpo.vqa_recipe: is called {visual.name} like grpo.recipe; give one of them another name")
    return recipe, visual


class _VisualReward(RecipeReward):
    """A recipe for the visual questions among other rows; it has no say in the others."""

    def __call__(self, completions: Any, **columns: Any) -> list[float | None]:
        return super().__call__(completions, **{**columns, "ground_truth": columns["visual_truth"]})


def rewards_of(config: TrainConfig, recipe: Recipe, visual: Recipe) -> list[RecipeReward]:
    """Return a reward function for each task that there are rows of; each has a say in its own rows alone."""
    rewards = [] if config.data.train is None else [RecipeReward(recipe, name=recipe.name)]
    return [*rewards, _VisualReward(visual, name=visual.name)] if config.data.vqa else rewards


def grpo_arguments(config: TrainConfig, rows: int) -> GRPOConfig:
    """Return TRL's settings for so many prompts.

    Raises
    ------
    ConfigError
        When batches, groups, rounds of generation and checkpoints don't fit into each other; names the field.
    """
    grpo = config.grpo
    forwards = grpo.steps_per_generation or config.accumulation
    completions = config.batch * world_size() * forwards
    if completions % grpo.generations:
        raise ConfigError(
            f"grpo.generations: {completions} completions are made at once (batch x "
            f"{'grpo.steps_per_generation' if grpo.steps_per_generation else 'accumulation'} x processes), which must "
            f"be a multiple of {grpo.generations}"
        )
    if grpo.credit != "completion" and config.batch * forwards % grpo.generations:
        raise ConfigError(
            f"grpo.credit: a process makes {config.batch * forwards} completions at once, which must be a multiple of "
            f"grpo.generations, {grpo.generations}, for the parts of a group to be compared; raise batch"
        )
    prompts = completions // grpo.generations
    if rows < prompts:
        raise ConfigError(
            f"data.{'vqa' if config.data.train is None else 'train'}: has {rows} rows that can be scored, and "
            f"{prompts} are asked at once; lower batch"
        )
    used = forwards * grpo.iterations  # forward passes that one round of generation serves
    if used % config.accumulation and config.accumulation % used:
        raise ConfigError(
            f"grpo.steps_per_generation: {forwards} x {grpo.iterations} iterations and accumulation "
            f"{config.accumulation}: one must be a multiple of the other"
        )
    between = max(1, used // config.accumulation)
    if config.save_every % between:
        raise ConfigError(
            f"save_every: {config.save_every} isn't a multiple of {between}, the steps that learn from the same "
            "completions; they aren't kept, so a run couldn't go on from between"
        )
    steps = total_steps(config, rows)
    return GRPOConfig(
        **arguments(config, steps),
        max_steps=steps,
        num_generations=grpo.generations,
        steps_per_generation=forwards,
        num_iterations=grpo.iterations,
        max_completion_length=grpo.max_completion,
        temperature=grpo.temperature,
        top_p=grpo.top_p,
        top_k=0,
        beta=grpo.beta,
        epsilon=grpo.epsilon,
        epsilon_high=grpo.epsilon_high,
        loss_type=grpo.loss_type,
        scale_rewards=grpo.scale_rewards,
        mask_truncated_completions=grpo.mask_truncated,
        use_vllm=grpo.vllm != "off",
        vllm_mode="server" if grpo.vllm == "server" else "colocate",
        shuffle_dataset=True,
        log_completions=False,  # TRL would print questions; the checks' files have answers
    )


def scorable(rows: Rows, recipe: Recipe) -> tuple[Rows, int]:
    """Leave out rows whose target is absent where a recipe can't score them, and return how many those were."""
    each = ((index, rows[index]) for index in range(len(rows)) if not rows.is_visual(index))
    absent = [(index, row) for index, row in each if isinstance(row, Row) and row.absent]
    if not absent:
        return rows, 0
    try:
        recipe.read_truth(absent[0][1].ground_truth(), None)
    except TruthError:
        gone = {rows.places[index] for index, _ in absent}
        rows.places = [place for place in rows.places if place not in gone]
        return rows, len(gone)
    return rows, 0


@contextlib.contextmanager
def _without_bars() -> Iterator[None]:
    """Keep transformers' bars of loading and writing away from the one that shows the training."""
    shown = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers.utils.logging.enable_progress_bar()


class _Order(RepeatSampler):
    """TRL's sampler, with an order that depends on the seed and the epoch alone."""

    def __init__(self, rows: Any, *, first: int, epoch: Callable[[], int], group: int, prompts: int, used: int) -> None:
        super().__init__(rows, mini_repeat_count=group, batch_size=prompts, repeat_count=used, shuffle=True, seed=first)
        self.first, self.epoch = first, epoch

    def __iter__(self) -> Iterator[int]:
        self.generator.manual_seed(self.first + self.epoch())
        order: Iterator[int] = super().__iter__()  # type: ignore[no-untyped-call]
        return order


class _Trainer(GRPOTrainer):
    """TRL's trainer with an order of prompts that can be gone on with, our groups of learning rates and credit."""

    def __init__(self, *args: Any, run: TrainConfig, recipe: Recipe, **options: Any) -> None:
        self.run, self.recipe = run, recipe
        super().__init__(*args, **options)

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        return _Order(
            self.train_dataset if dataset is None else dataset,
            first=self.args.seed,
            epoch=lambda: int(self.state.epoch or 0),
            group=int(self.args.num_generations),
            prompts=self.args.generation_batch_size // self.num_generations,
            used=self.args.steps_per_generation * self.num_iterations,
        )

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        made: dict[str, Any] = super()._generate_and_score_completions(inputs)
        if self.run.grpo.credit != "completion" and self.model.training:
            made["advantages"] = self._advantages_by_part(inputs, made)
        return made

    def _advantages_by_part(self, inputs: list[dict[str, Any]], made: dict[str, Any]) -> torch.Tensor:
        """Return TRL's advantages, (completions,), by token, (completions, tokens), with the parts' own."""
        tokenizer = self.processing_class.tokenizer
        whole: torch.Tensor = made["advantages"].clone()
        by_token = whole[:, None].repeat(1, made["completion_ids"].shape[1])
        size, sizes = self.run.grpo.generations, made["completion_mask"].sum(dim=1).tolist()
        kept = [ids[:count] for ids, count in zip(made["completion_ids"].tolist(), sizes, strict=True)]
        told = []
        for start in range(0, len(inputs), size):
            if inputs[start]["ground_truth"] is None:  # a visual question
                continue
            truth = self.recipe.read_truth(inputs[start]["ground_truth"], None)

            def score(texts: list[str], truth: Any = truth) -> list[float]:
                return [row["score"] for row in score_batch(texts, [truth] * len(texts), self.recipe)]

            texts = [tokenizer.decode(ids, skip_special_tokens=True) for ids in kept[start : start + size]]
            of_claims = self.run.grpo.credit == "part"
            scores, credits = part_credit(texts, score, of_claims=of_claims)
            if np.ptp(scores) == 0:  # as for TRL, a group that is all alike teaches nothing
                by_token[start : start + size] = 0
                continue
            by_group = self.run.grpo.scale_rewards == "group"
            spread = max(float(np.std(scores, ddof=1)), LEAST_SPREAD) if by_group else 1.0
            if of_claims:  # TRL has judged the completions by what their claims bring, too
                whole[start : start + size] = torch.tensor((np.asarray(scores) - np.mean(scores)) / spread)
            for own, credit in enumerate(credits, start):
                scaled = {span: value / spread for span, value in credit.items()}
                values = spread_over_tokens(whole[own].item(), scaled, kept[own], tokenizer)
                by_token[own, : len(values)] = torch.tensor(values)
                told += [abs(value) for value in scaled.values()]
        self._metrics["train"]["part_credit"].append(sum(told) / max(1, len(told)))
        return by_token

    def create_optimizer(self, *args: Any) -> Any:
        if self.run.vision_rate is not None and self.optimizer is None:
            self.optimizer: Any = torch.optim.AdamW(parameter_groups(self.run, self.model), lr=self.run.rate)
        return super().create_optimizer(*args)

    def _send_telemetry(self) -> None:
        """Tell nobody: TRL would report the kind of model and machine to the Hugging Face hub."""


class _Continuation(TrainerCallback):  # type: ignore[misc]
    """Sets what TRL forgets when it goes on from a checkpoint."""

    trainer: _Trainer
    step = 0

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Count, for what has to say at which step a run failed."""
        self.step = state.global_step

    def on_train_begin(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **_: Any) -> None:
        """Set TRL's count of forward passes, within the epoch: each epoch begins with a round of generation."""
        steps = -(-len(train_dataloader) // args.gradient_accumulation_steps)
        passes = state.global_step % steps * args.gradient_accumulation_steps
        self.trainer._step, self.step = passes, state.global_step
        used = args.steps_per_generation * args.num_iterations
        if passes % used:  # the last checkpoint of a run that is made longer
            _log.warning("step %d: its completions weren't kept; new ones are made", state.global_step)
