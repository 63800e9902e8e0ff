"""Weights that FSDP2 spreads over processes: what TRL's loss needs to learn the output matrix from all of them.

TRL's loss multiplies with the output matrix itself, past the module that would gather it. accelerate spreads that
module by itself where the last norm isn't a direct child of the base model, as in each vision-language model; TRL then
gathers it by ``full_tensor()``, whose gradient each process keeps for its own part alone: without this, a part of the
matrix learns from the rows of one process (TRL 1.16, accelerate 1.15).
"""

from __future__ import annotations

import functools
from typing import Any

from transformers import TrainerCallback

from medground.errors import ConfigError

__all__ = ["WholeHead", "average_head"]


class WholeHead(TrainerCallback):  # type: ignore[misc]
    """Calls `average_head` once the model is spread."""

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """See `average_head`."""
        average_head(model)


def average_head(model: Any) -> None:
    """Have the gradient of a spread output matrix averaged over processes; nothing happens to one that isn't spread.

    Raises
    ------
    ConfigError
        When the matrix is the input embedding's too: the two gradients aren't added up rightly then.
    """
    from torch.distributed.tensor import DTensor, Partial

    weight = model.get_output_embeddings().weight
    if not isinstance(weight, DTensor):
        return
    if model.config.get_text_config().tie_word_embeddings:
        raise ConfigError(
            "the model's output matrix is its input embedding too, which can't be learned under FSDP2: train it with "
            "accelerate's MULTI_GPU, where each process holds all weights"
        )
    average = [Partial("avg")] * weight.device_mesh.ndim
    weight.full_tensor = functools.partial(DTensor.full_tensor, weight, grad_placements=average)  # type: ignore[method-assign]
