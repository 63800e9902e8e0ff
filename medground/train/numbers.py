"""The loss of coordinates that are one token each: a narrow hump over neighbouring numbers in place of one number.

Being 3 thousandths off then costs less than being 300 off, which next-token loss doesn't know. Other numbers ("at 74 %
of the width") are words.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from medground.errors import ConfigError
from medground.train.nano import NUMBERS

__all__ = ["NumberLoss", "number_targets"]


def number_targets(spread: float) -> torch.Tensor:
    """Return the hump of each number over all numbers, shape (1001, 1001), rows summing to 1."""
    places = torch.arange(NUMBERS, dtype=torch.float32)
    return torch.softmax(-(places[:, None] - places[None, :]).abs() / spread, dim=1)


class NumberLoss:
    """The loss of words, and the soft loss of numbers that are one token each.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
    spread : float
        Width of the hump over neighbouring numbers.
    device : torch.device

    Raises
    ------
    ConfigError
        When the numbers 0 to 1000 aren't single tokens.
    """

    def __init__(self, tokenizer: Any, spread: float, device: torch.device) -> None:
        ids = tokenizer.convert_tokens_to_ids([str(number) for number in range(NUMBERS)])
        if len(set(ids)) < NUMBERS or None in ids:
            raise ConfigError("the numbers 0 to 1000 aren't single tokens of this model: set soft_coordinates to 0")
        self.ids = torch.tensor(ids, device=device)
        self.number_of = torch.full((len(tokenizer),), -1, device=device)
        self.number_of[self.ids] = torch.arange(NUMBERS, device=device)
        self.humps = number_targets(spread).to(device)
        ends = [tokenizer.decode([token]).rstrip().endswith(("[", ",")) for token in range(len(tokenizer))]
        self.opens = torch.tensor(ends, device=device)

    def is_coordinate(self, labels: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        """Return which labels are coordinates: numbers that follow a bracket or a comma.

        Parameters
        ----------
        labels : torch.Tensor
            Ids of tokens, none of them -100.
        before : torch.Tensor
            The token before each, of the same shape.
        """
        return (self.number_of[labels] >= 0) & self.opens[before]

    def __call__(
        self, logits: torch.Tensor, labels: torch.Tensor, before: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the summed loss of coordinates and that of words, for logits (N, V), labels (N,) and before (N,)."""
        numbers = self.number_of[labels]
        scores = torch.log_softmax(logits.float(), dim=-1)
        is_number = self.is_coordinate(labels, before)
        words = functional.nll_loss(scores[~is_number], labels[~is_number], reduction="sum")
        humps = self.humps[numbers[is_number]]
        # Less the humps' own entropy, so that a perfect prediction costs nothing.
        places = (torch.xlogy(humps, humps) - humps * scores[is_number][:, self.ids]).sum()
        return places, words
