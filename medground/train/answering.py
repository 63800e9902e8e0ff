"""A model that is being trained answers, greedily and as a user would ask it, and is left as it was."""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch

from medground.reasoners import Completion, Request
from medground.reasoners._asking import Asker

__all__ = ["at_rest", "complete", "gathered", "place_of_process"]

Found = TypeVar("Found")


def complete(model: Any, asker: Asker, requests: Sequence[Request], most: int) -> list[tuple[Completion, int, bool]]:
    """Return greedy completions by the model as it stands, each with its tokens and whether it was cut off."""
    processor, tokenizer = asker.processor, asker.processor.tokenizer
    prepared = [asker.prepare(request) for request in requests]
    inputs = processor.apply_chat_template(
        [one.messages for one in prepared],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True},
    ).to(model.device, model.dtype)
    prompt = inputs["input_ids"].shape[1]
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    length = most if positions is None else max(1, min(most, positions - prompt))
    ends = sorted(_ids(model.generation_config.eos_token_id) | _ids(tokenizer.eos_token_id))
    own = model.generation_config
    model.generation_config = plain = copy.deepcopy(own)
    for name in ("temperature", "top_p", "top_k", "min_p", "typical_p", "repetition_penalty"):
        setattr(plain, name, None)
    plan = copy.deepcopy(plain)
    plan.do_sample, plan.max_new_tokens, plan.max_length = False, length, None
    plan.eos_token_id, plan.pad_token_id = ends, tokenizer.pad_token_id
    try:
        with torch.no_grad():
            # Processes that share out the weights gather them together, until the longest answer of all is done.
            output = model.generate(**inputs, generation_config=plan, synced_gpus=place_of_process()[1] > 1)
    finally:
        model.generation_config = own
    found = []
    for ids, one in zip(output[:, prompt:].tolist(), prepared, strict=True):
        end = next((at for at, number in enumerate(ids) if number in ends), None)
        kept = ids if end is None else ids[:end]
        # As in `HFReasoner`: a tokenizer may hold <think> or <answer> as special tokens, which are part of the answer.
        text = tokenizer.decode(
            [number for number in kept if number != tokenizer.pad_token_id], skip_special_tokens=False
        )
        found.append((Completion(text, one.space), len(kept), end is None))
    return found


def _ids(value: int | Sequence[int] | None) -> set[int]:
    return set() if value is None else {value} if isinstance(value, int) else set(value)


@contextlib.contextmanager
def at_rest(model: Any) -> Iterator[None]:
    """Put a model in evaluation mode and leave it, and all random states, as they were found."""
    training = model.training
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 - TRL and its data collators draw from it
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        model.eval()
        try:
            yield
        finally:
            model.train(training)
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002


def place_of_process() -> tuple[int, int]:
    """Return this process's number and how many there are."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def gathered(found: list[tuple[int, Found]], world: int) -> list[tuple[int, Found]]:
    """Return what all processes found, in the rows' order."""
    if world > 1:
        parts: list[Any] = [None] * world
        torch.distributed.all_gather_object(parts, found)
        found = [each for part in parts for each in part]
    return sorted(found, key=lambda each: each[0])
