"""The loss of numbers that are one token each: a narrow hump over neighbouring numbers in place of one number.

A coordinate that is 3 thousandths off then costs less than one that is 300 off, which next-token loss doesn't know. The
same holds of other numbers ("at 74 % of the width"), whose hump is narrower. They weigh as much as coordinates, not as
words: a reasoning that computes stands and falls with them, and among so many words they would hardly be learned.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from medground.errors import ConfigError
from medground.train.nano import NUMBERS

__all__ = ["NumberLoss", "number_targets"]

NARROW = 0.1
"""Width of the hump of numbers in a sentence, such as per cent, over that of coordinates."""


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
        Width of the hump over neighbouring coordinates, in thousandths of the picture; that of other numbers is a
        tenth of it.
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
        self.humps = torch.stack([number_targets(spread * NARROW), number_targets(spread)]).to(device)
        ends = [tokenizer.decode([token]).rstrip().endswith(("[", ",")) for token in range(len(tokenizer))]
        self.opens = torch.tensor(ends, device=device)

    def is_number(self, labels: torch.Tensor) -> torch.Tensor:
        """Return which labels (ids of tokens, none of them -100) are numbers."""
        return self.number_of[labels] >= 0

    def __call__(
        self, logits: torch.Tensor, labels: torch.Tensor, before: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the summed loss of numbers and that of words, for logits (N, V), labels (N,) and before (N,)."""
        scores = torch.log_softmax(logits.float(), dim=-1)
        is_number = self.is_number(labels)
        words = functional.nll_loss(scores[~is_number], labels[~is_number], reduction="sum")
        labels, before, scores = labels[is_number], before[is_number], scores[is_number][:, self.ids]
        is_coordinate = self.opens[before]  # a bracket or a comma
        humps = self.humps[is_coordinate.long(), self.number_of[labels]]
        # Less the humps' own entropy, so that a perfect prediction costs nothing.
        return (torch.xlogy(humps, humps) - humps * scores).sum(), words
