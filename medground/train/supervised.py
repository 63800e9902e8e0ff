"""Supervised training of any vision-language model: the reasoning and the answer, by TRL's trainer.

What is ours: rows in an order that an interrupted run goes on with, the tower's own rate, the soft loss of coordinates
that are one token each, and a refusal to cut a row that is too long.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import SequentialSampler
from transformers import PrinterCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling, SFTTrainer

from medground.errors import ConfigError, MedgroundError
from medground.train.answered import AnswerLoss
from medground.train.checkup import checkups
from medground.train.config import TrainConfig
from medground.train.numbers import NumberLoss
from medground.train.once import remembering
from medground.train.record import open_run
from medground.train.rows import Examples, dataset, open_rows
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

__all__ = ["RowTrainer", "train_sft"]


class RowCollator(DataCollatorForVisionLanguageModeling):
    """TRL's, which learns from completions alone; a sequence that is too long is refused instead of cut."""

    def __init__(self, processor: Any, most: int) -> None:
        super().__init__(processor=processor, completion_only_loss=True)
        self.most = most

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Return input_ids, attention_mask, labels (rows, tokens) and what the processor makes of the pictures."""
        names = [example.pop("id") for example in examples]
        made: dict[str, Any] = super().torch_call(examples)
        lengths = made["attention_mask"].sum(dim=1).tolist()
        for name, length in zip(names, lengths, strict=True):
            if length > self.most:
                raise ConfigError(
                    f"row {name} takes {length} tokens and sft.max_tokens is {self.most}: raise it, or lower max_pixels"
                )
        return made


class RowTrainer(SFTTrainer):
    """`trl.SFTTrainer` with rows in their given order, the tower's own rate and, where asked for, the soft loss."""

    def __init__(self, *, config: TrainConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config
        # TRL's loss divides by a step's tokens where it is told them, and transformers only tells where the model's own
        # loss would take them, which Qwen's doesn't: a step would then depend on how it is cut into batches.
        self.model_accepts_loss_kwargs: bool = True
        self.optimizer: torch.optim.Optimizer | None
        self.number_loss: NumberLoss | None = None
        if config.sft.soft_coordinates:
            tokenizer = self.processing_class.tokenizer
            self.number_loss = NumberLoss(tokenizer, config.sft.soft_coordinates, self.args.device)
        self.answer_loss: AnswerLoss | None = None
        if config.sft.answer_weight:
            self.answer_loss = AnswerLoss(self.processing_class.tokenizer, self.args.device)

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Return AdamW with the tower's own rate and no decay on vectors."""
        if self.optimizer is None:
            groups = parameter_groups(self.config, self.model if model is None else model)
            self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98))
        return self.optimizer

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Any:
        """Count the numbers, words and words of answers of a whole step, over its batches and processes."""
        if self.number_loss is None:
            return super()._get_num_items_in_batch(batch_samples, device)
        counts = torch.zeros(3, dtype=torch.long, device=device)
        for batch in batch_samples:
            labels = batch["labels"][:, 1:].to(device)
            told = labels[labels != -100]
            numbers = self.number_loss.is_number(told).sum()
            answers = self.answer_loss.is_answer(labels).sum() if self.answer_loss else torch.zeros_like(numbers)
            counts += torch.stack([numbers, len(told) - numbers, answers])
        return self.accelerator.gather(counts[None]).sum(dim=0)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return TRL's loss, or the weighted sum of each kind's mean."""
        if self.number_loss is None:
            return super().compute_loss(  # type: ignore[no-untyped-call]
                model, inputs, return_outputs=return_outputs, num_items_in_batch=num_items_in_batch
            )
        loss, outputs = self._loss_by_kind(self.number_loss, model, inputs, num_items_in_batch)
        return (loss, outputs) if return_outputs else loss

    def _loss_by_kind(self, number_loss: NumberLoss, model: Any, inputs: dict[str, Any], counts: Any) -> Any:
        labels = inputs["labels"][:, 1:]
        told = labels != -100
        outputs = model(**{name: value for name, value in inputs.items() if name != "labels"}, use_cache=False)
        before = inputs["input_ids"][:, :-1]
        logits = outputs.logits[:, :-1]
        sums = dict(zip(("places", "words"), number_loss(logits[told], labels[told], before[told]), strict=True))
        if self.answer_loss:
            sums["answers"] = self.answer_loss(logits, labels)
        if counts is None:
            counts = self._get_num_items_in_batch([inputs], labels.device)
        weights = {"places": 1.0, "words": self.config.sft.text_weight, "answers": self.config.sft.answer_weight}
        means = {kind: total / count for (kind, total), count in zip(sums.items(), counts.clamp(min=1), strict=False)}
        # Gradients are averaged over processes, and the counts are those of all of them.
        world = self.accelerator.num_processes
        loss = sum(weights[kind] * mean for kind, mean in means.items()) * world
        parts = self._metrics["train" if self.model.training else "eval"]
        share = world * self.current_gradient_accumulation_steps
        for kind, mean in means.items():
            parts[kind].append(mean.detach().item() * share)
        return loss, outputs


def train_sft(config: TrainConfig, *, resume: bool = False, progress: Told | None = None) -> Path:
    """Train a model on the reasoning and the answers of rows; return the trained model's folder.

    Parameters
    ----------
    config : TrainConfig
        Of kind ``"sft"``.
    resume : bool
        Go on from the last checkpoint in the run's folder, with the very rows that would have followed.
    progress : callable, optional
        Is told where the training stands; see `medground.train.watch.Told`.

    Returns
    -------
    Path
        ``OUT/model``, which `medground.reasoners.load_reasoner` loads.

    Raises
    ------
    ConfigError, TruthError, ReasonerError
        When the configuration, a row or the model can't be used.
    TrainingError
        When the training can't go on; says why and what to change.
    """
    if config.kind != "sft":
        raise ConfigError(f"kind: is {config.kind!r}; train it with medground train {config.kind}")
    start = load_start(config)
    checkpoint = open_run(config, start.asker, resume=resume)
    rows = open_rows(config)
    examples = Examples(rows, config, start.asker, in_a_row=True)
    steps = total_steps(config, len(examples))
    length = steps * config.batch * config.accumulation * world_size()
    trainer = RowTrainer(
        config=config,
        model=start.model,
        args=SFTConfig(**arguments(config, steps), max_steps=steps, max_length=None, completion_only_loss=True),
        train_dataset=dataset(examples, length),
        data_collator=RowCollator(start.processor, config.sft.max_tokens),
        processing_class=start.processor,
        peft_config=lora_config(config, start.model),
        callbacks=[WholeHead(), *watchers(config, progress=progress), *checkups(config, start.asker)],
    )
    trainer.remove_callback(PrinterCallback)
    with _plain(), remembering(config, start.model), explained(config, lambda: int(trainer.state.global_step)):
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    trainer.save_state()
    return save_model(trainer, start, config)


@contextlib.contextmanager
def _plain() -> Iterator[None]:
    """Give the one sentence of an error again that a process which prepares rows has wrapped in its traceback."""
    try:
        yield
    except MedgroundError as error:
        text = str(error)
        if not text.startswith("Caught "):
            raise
        last = text.strip().splitlines()[-1]
        raise type(error)(re.sub(r"^[\w.]+Error: ", "", last)) from error
