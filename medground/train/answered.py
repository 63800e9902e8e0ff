"""The loss of visual questions' answers: what stands between ``<answer>`` and ``</answer>``, as a mean of its own.

A letter or a "yes" is one token among thirty of a completion whose others soon tell themselves. In their common mean a
small model learns the commonest answer and rests there.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from medground.errors import ConfigError

__all__ = ["AnswerLoss"]

TAGS = ("<answer>", "</answer>")


class AnswerLoss:
    """The loss of the tokens of visual answers, the closing tag with them, which ends a list of letters.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
    device : torch.device

    Raises
    ------
    ConfigError
        When the tags aren't single tokens.
    """

    def __init__(self, tokenizer: Any, device: torch.device) -> None:
        vocabulary = tokenizer.get_vocab()
        if any(tag not in vocabulary for tag in TAGS):
            raise ConfigError(f"{' and '.join(TAGS)} aren't single tokens of this model: set sft.answer_weight to 0")
        self.opens, self.closes = (torch.tensor(vocabulary[tag], device=device) for tag in TAGS)

    def is_answer(self, labels: torch.Tensor) -> torch.Tensor:
        """Return which labels (rows, tokens) are of an answer; grounding's has other tags in nano's vocabulary."""
        opened, closed = labels == self.opens, labels == self.closes
        inside = (opened.cumsum(1) - opened.long()) > (closed.cumsum(1) - closed.long())
        return inside & (labels != -100)

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the summed loss of answers, for logits (rows, tokens, V) and labels (rows, tokens)."""
        answers = self.is_answer(labels)
        return functional.cross_entropy(logits[answers].float(), labels[answers], reduction="sum")
