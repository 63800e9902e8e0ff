"""Random sequences said twice: what teaches a small decoder to read what stands before it.

To look up a choice by its letter, or a verdict or box that was just written, a decoder needs attention that finds where
a token stood before and takes what followed: an induction head (Olsson et al., In-context Learning and Induction Heads,
arXiv:2209.11895). Large models bring it along. A small one that learns from a few million tokens, most of which can be
told without a look back, doesn't come by it; from random tokens, which can't, it does within some hundred steps.
Whether its visual answers gain by that isn't known yet (docs/log.md).
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

__all__ = ["CopyLoss"]

SHORTEST, LONGEST = 10, 20
"""Tokens that are said twice."""

TOKENS = 3000
"""Of a step, about."""


class CopyLoss:
    """The next-token loss of the second half of random sequences that repeat their first; no picture is shown.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
    seed : int
    device : torch.device
    """

    def __init__(self, tokenizer: Any, seed: int, device: torch.device) -> None:
        special = set(tokenizer.all_special_ids)
        self.words = torch.tensor([token for token in range(len(tokenizer)) if token not in special])
        self.seed, self.device = seed, device

    def sequences(self, step: int) -> torch.Tensor:
        """Return the sequences of a step, ids of shape (sequences, tokens), by the seed and the step alone."""
        chance = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        length = int(torch.randint(SHORTEST, LONGEST + 1, (), generator=chance))
        once = torch.randint(len(self.words), (TOKENS // (2 * length), length), generator=chance)
        return self.words[once].repeat(1, 2)

    def __call__(self, model: Any, step: int) -> torch.Tensor:
        """Return the mean loss over the tokens of the second halves but the first, which nothing tells."""
        ids = self.sequences(step).to(self.device)
        length = ids.shape[1] // 2
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[:, length:-1]
        return functional.cross_entropy(logits.flatten(0, 1).float(), ids[:, length + 1 :].flatten())
