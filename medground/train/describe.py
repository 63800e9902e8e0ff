"""What a run would do, without doing it: for ``medground train --dry-run``."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from medground.data.pixels import open_image, open_mask
from medground.data.schema import parquet_files, read_rows
from medground.errors import ConfigError, TruthError
from medground.prompts import Mode
from medground.reasoners import Request
from medground.reasoners._asking import Asker
from medground.rewards import load_recipe
from medground.train.config import TrainConfig
from medground.train.record import last_checkpoint
from medground.train.rows import completion_of, epoch_counts
from medground.train.start import count_parameters, freeze, is_vision, lora_config, read_asker, total_steps, world_size

__all__ = ["describe_run", "memory_estimate"]

SAMPLED = 16
"""Rows whose tokens are counted."""


def describe_run(config: TrainConfig) -> str:
    """Return in words what a run would do: the model, what of it learns, the rows, the steps, the tokens, the memory.

    No weights are loaded and nothing is written. Each row is read once, so a bad one is told; the pictures of some are
    opened, for the tokens that they take.

    Raises
    ------
    ConfigError, TruthError, ReasonerError
        Whatever would keep the run from starting.
    """
    if config.kind == "grpo":
        load_recipe(config.grpo.recipe).reweighted(**config.grpo.weights)
    rows, sample = _count(config)
    asker, model = read_asker(config, weights=False)
    name = type(model).__name__
    freeze(config, model)
    if (adapters := lora_config(config, model)) is not None:
        from peft import get_peft_model

        model = get_peft_model(model, adapters)
    learns, rests = count_parameters(model)
    tower = sum(each.numel() for name, each in model.named_parameters() if is_vision(name))
    steps = total_steps(config, rows)
    sequences = config.batch * config.accumulation * world_size()
    prompt, completion = _tokens(config, asker, sample)
    longest = prompt[1] + (config.grpo.max_completion if config.kind == "grpo" else completion[1])
    shape = f"{name}, {_count_words(learns + rests)} parameters"
    trained = f"{_count_words(learns)} learn, {_count_words(rests)} don't"
    if config.lora is not None:
        trained += f" (LoRA of rank {config.lora.rank})"
    frozen = ", frozen" if config.freeze_vision or config.lora is not None else ""
    lines = [
        ("run", f"{config.name}: {config.kind} -> {config.folder}"),
        ("model", f"{config.model} ({shape})"),
        ("parameters", f"{trained}; vision tower {_count_words(tower)}{frozen}"),
        ("asked", f"template {asker.template}, answers in {asker.coordinates}, at most {asker.max_pixels} pixels"),
        ("rows", f"{rows} from {config.data.train}, asked to {_MODES[config.data.mode]}"),
        (
            "steps",
            f"{steps} of {_step_words(config, sequences)}, {steps * _rows_a_step(config, sequences) / rows:.3g} epochs",
        ),
        ("tokens", f"prompt {prompt[0]} (longest {prompt[1]}), {_completion_words(config, completion)}"),
    ]
    if config.kind == "grpo":
        lines.append(("reward", f"{config.grpo.recipe}, KL {config.grpo.beta:g}, loss {config.grpo.loss_type}"))
    weights, activations = memory_estimate(config, model, longest)
    lines.append(
        (
            "memory",
            f"about {_gib(weights + activations)} a device: {_gib(weights)} of weights, gradients and moments, "
            f"{_gib(activations)} of activations (one process; sharding divides the first)",
        )
    )
    if (found := last_checkpoint(config.folder)) is not None:
        lines.append(("there", f"{found} exists: --resume goes on from it"))
    return "\n".join(f"{name:<11}{text}" for name, text in lines)


_MODES = {"reason": "reason", "direct": "answer directly", "both": "reason, or (a quarter) to answer directly"}


def _count(config: TrainConfig) -> tuple[int, list[Any]]:
    """Return how many rows an epoch has (about, where both a limit and weights are set), and some of the rows."""
    sizes: Counter[str] = Counter()
    sample: list[Any] = []
    for file in parquet_files(config.data.train):
        for row in read_rows(file):
            if row.split in ("train", ""):
                row.truth()
                sizes[row.source] += 1
                if sizes.total() % 97 == 1 and len(sample) < SAMPLED:
                    sample.append((row, config.data.root or file.parent))
    if not sizes:
        raise ConfigError(f"{config.data.train}: has no rows of split 'train'; name another file")
    share = min(1.0, (config.data.limit or sizes.total()) / sizes.total())
    weighted = epoch_counts(sizes, config.data.weights) if config.data.weights else sizes
    return round(share * sum(weighted.values())), sample


def _tokens(config: TrainConfig, asker: Asker, sample: list[Any]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the mean and the longest number of tokens of prompts and of completions in a sample."""
    prompts, completions = [], []
    for row, root in sample:
        mode: Mode = "direct" if config.data.mode == "direct" else "reason"
        asked = asker.prepare(Request(open_image(row.image, root), row.question, mode))
        made = asker.processor.apply_chat_template(
            [asked.messages], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        prompts.append(made["input_ids"].shape[1])
        try:
            said = completion_of(row, row.mask and open_mask(row.mask, root), asked, mode)
        except TruthError:
            continue  # without key points; SFT refuses such a row, GRPO has no need of them
        completions.append(len(asker.processor.tokenizer(said, add_special_tokens=False)["input_ids"]) + 1)
    return _mean_and_most(prompts), _mean_and_most(completions or [0])


def _mean_and_most(values: list[int]) -> tuple[int, int]:
    return round(sum(values) / len(values)), max(values)


def _rows_a_step(config: TrainConfig, sequences: int) -> float:
    return sequences / (config.grpo.generations * config.grpo.iterations) if config.kind == "grpo" else sequences


def _step_words(config: TrainConfig, sequences: int) -> str:
    how = f"{config.batch} x {config.accumulation} batches x {world_size()} processes"
    if config.kind == "sft":
        return f"{sequences} rows ({how})"
    prompts = sequences / config.grpo.generations
    return f"{sequences} completions, {config.grpo.generations} of each of {prompts:g} questions ({how})"


def _completion_words(config: TrainConfig, completion: tuple[int, int]) -> str:
    own = f"the rows' answers {completion[0]} (longest {completion[1]})"
    if config.kind == "grpo":
        return f"{own}, completions at most {config.grpo.max_completion}"
    return f"{own}, together at most {config.sft.max_tokens}"


def memory_estimate(config: TrainConfig, model: Any, tokens: int) -> tuple[float, float]:
    """Return bytes of weights with their gradients and moments, and of activations, for sequences of so many tokens.

    A rough sum, good to about a third: 4 bytes a weight that learns, 4 of its gradient, 8 of AdamW's moments; 2 or 4
    a weight that doesn't; for GRPO with a KL and without LoRA the same again for the model at the start. Activations
    (per sequence, token and layer about 34 hidden sizes in 2 or 4 bytes; with checkpointing 1 a layer, and 34 once)
    and, for the soft loss alone, which isn't made in tiles, the logits twice in float32.
    """
    learns, rests = count_parameters(model)
    small = 2 if config.lora is not None and config.bf16 else 4
    weights = 16.0 * learns + small * rests
    if config.kind == "grpo" and config.grpo.beta and config.lora is None:
        weights += 4.0 * (learns + rests)
    text = model.config.get_text_config()
    width, layers = text.hidden_size, text.num_hidden_layers
    kept = (layers + 34) if config.gradient_checkpointing else 34 * layers
    activations = float(config.batch * tokens * width * kept * (2 if config.bf16 else 4))
    if config.kind == "sft" and config.sft.soft_coordinates:
        activations += 8.0 * config.batch * tokens * text.vocab_size
    return weights, activations


def _gib(size: float) -> str:
    return f"{size / 2**30:.3g} GiB" if size >= 2**30 else f"{math.ceil(size / 2**20)} MiB"


def _count_words(number: int) -> str:
    for size, word in ((10**9, "billion"), (10**6, "million")):
        if number >= size:
            return f"{number / size:.3g} {word}"
    return str(number)
