"""What a run would do, without doing it: for ``medground train --dry-run``."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medground.data.layouts.vqa import import_vqa_rows
from medground.data.pixels import open_image, open_mask
from medground.data.rows import Row
from medground.data.schema import parquet_files, read_rows
from medground.data.vqa_rows import VqaRow
from medground.errors import ConfigError, TruthError
from medground.prompts import Mode
from medground.reasoners import Request
from medground.reasoners._asking import Asker
from medground.rewards import load_recipe
from medground.train.config import TrainConfig
from medground.train.mixture import epoch_counts, visual_count
from medground.train.record import last_checkpoint
from medground.train.rows import completion_of
from medground.train.start import count_parameters, freeze, is_vision, lora_config, read_asker, total_steps, world_size
from medground.train.vqa import question_of, told_by, written_for

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
        load_recipe(config.grpo.vqa_recipe).reweighted(**config.grpo.vqa_weights)
    counts, sample = _count(config)
    rows = sum(counts)
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
        ("rows", f"{_rows_words(config, counts)}, asked to {_MODES[config.data.mode]}"),
        (
            "steps",
            f"{steps} of {_step_words(config, sequences)}, {steps * _rows_a_step(config, sequences) / rows:.3g} epochs",
        ),
        ("tokens", f"prompt {prompt[0]} (longest {prompt[1]}), {_completion_words(config, completion)}"),
    ]
    if config.kind == "grpo":
        named = ((config.data.train, config.grpo.recipe), (config.data.vqa, config.grpo.vqa_recipe))
        recipes = " and ".join(recipe for rows_of, recipe in named if rows_of)
        lines.append(("reward", f"{recipes}, KL {config.grpo.beta:g}, loss {config.grpo.loss_type}"))
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


def _rows_words(config: TrainConfig, counts: tuple[int, int]) -> str:
    data = config.data
    found = [] if data.train is None else [f"{counts[0]} from {data.train}"]
    return " and ".join([*found, *([f"{counts[1]} visual questions from {', '.join(data.vqa)}"] if data.vqa else [])])


def _count(config: TrainConfig) -> tuple[tuple[int, int], list[Any]]:
    """Return how many rows and visual questions an epoch has (about, where limits are set), and some of the rows."""
    data = config.data
    sizes: Counter[str] = Counter()
    absent: Counter[str] = Counter()
    visual = 0
    sample: list[Any] = []
    seen: Counter[type] = Counter()
    for row, home in _rows(config):
        if row.split not in ("train", ""):
            continue
        row.truth()
        if isinstance(row, VqaRow):
            visual += 1
        else:
            sizes[row.source] += 1
            absent[row.source] += row.absent
        seen[type(row)] += 1
        if seen[type(row)] % 97 == 1 and seen[type(row)] // 97 < SAMPLED:
            sample.append((row, data.root or home))
    for found, named in ((sizes.total(), data.train), (visual, data.vqa and ", ".join(data.vqa))):
        if named and not found:
            raise ConfigError(f"{named}: has no rows of split 'train'; name another file")
    sizes -= Counter({source: round(count * (1 - data.absent)) for source, count in absent.items()})
    others = 0
    if sizes:
        share = min(1.0, (data.limit or sizes.total()) / sizes.total())
        others = round(share * sum((epoch_counts(sizes, data.weights) if data.weights else sizes).values()))
    if data.vqa_limit is not None:
        visual = min(visual, max(1, round(data.vqa_limit * (visual if data.vqa_limit < 1 else 1))))
    return (others, visual_count(visual, others, data.vqa_share)), sample


def _rows(config: TrainConfig) -> Iterator[tuple[Row | VqaRow, Path]]:
    """Yield all rows, each with the folder at which its relative paths start."""
    for file in () if config.data.train is None else parquet_files(config.data.train):
        for row in read_rows(file):
            yield row, file.parent
    for path in config.data.vqa or ():
        for file in parquet_files(path):
            for question in import_vqa_rows(file):
                yield question, file.parent


def _tokens(config: TrainConfig, asker: Asker, sample: list[Any]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the mean and the longest number of tokens of prompts and of completions in a sample."""
    prompts, completions = [], []
    for row, root in sample:
        mode: Mode = "direct" if config.data.mode == "direct" else "reason"
        image, visual = open_image(row.image, root), isinstance(row, VqaRow)
        asked = asker.prepare(question_of(row, image, mode) if visual else Request(image, row.question, mode))
        made = asker.processor.apply_chat_template(
            [asked.messages], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        prompts.append(made["input_ids"].shape[1])
        try:
            if visual:
                said = told_by(written_for(row, asked.space), mode)
            else:
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
