"""Credit for the single numbers of an answer.

GRPO gives all tokens of a completion one advantage: how much better it did than the group. A box that is good but for
one edge then pushes the good edges down with the bad one. Here each number of the answer is judged by itself, in a
counterfactual way (after COMA, Foerster et al. 2018, arXiv 1705.08926): its advantage is the completion's score less
the mean score that the same completion has with the group's other numbers in this one's place. All else, the reasoning
first, keeps the advantage of GRPO. What comes after a number was written in its knowledge, which the exchange doesn't
undo: the estimate is as good as numbers are nearly independent given the text before them.

It needs no further sample and no network, only the reward function on some hundreds of texts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["NumberCredit", "answer_numbers", "number_credit", "spread_over_tokens"]

Span = tuple[int, int]

NumberCredit = dict[Span, float]
"""Where each number of a completion's answer stands (start, end, in characters), and its advantage in score."""

_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?!\w)")


def answer_numbers(completion: str) -> list[Span]:
    """Return where the numbers of a completion's answer stand; of the whole text where no answer is marked.

    Examples
    --------
    >>> text = '<think>2 of 3.</think><answer>{"bbox": [10, 20, 30, 40.5], "points_1": [1, 2]}</answer>'
    >>> [text[start:end] for start, end in answer_numbers(text)]
    ['10', '20', '30', '40.5', '1', '2']
    """
    start = max(completion.rfind(tag) + len(tag) if tag in completion else 0 for tag in ("<answer>", "</think>"))
    return [match.span() for match in _NUMBER.finditer(completion, start)]


def number_credit(
    group: Sequence[str], score: Callable[[list[str]], Sequence[float]]
) -> tuple[list[float], list[NumberCredit]]:
    """Return the scores of a group's completions, and the credit of each number of their answers.

    Parameters
    ----------
    group : sequence of str
        Completions of one prompt.
    score : callable
        From texts to their scores; is called once.

    Returns
    -------
    scores : list of float
    credits : list of NumberCredit
        Empty for a completion whose answer has as many numbers as no other's of the group.

    Examples
    --------
    One number, and the score is how near it is to 5: the 4 is credited with 1 over the 3 and with 4 over the 0.

    >>> nearness = lambda texts: [-abs(5.0 - float(text)) for text in texts]
    >>> number_credit(["4", "3", "0"], nearness)
    ([-1.0, -2.0, -5.0], [{(0, 1): 2.5}, {(0, 1): 1.0}, {(0, 1): -3.5}])
    """
    spans = [answer_numbers(text) for text in group]
    texts: dict[str, int] = {text: place for place, text in enumerate(dict.fromkeys(group))}
    exchanged: list[tuple[int, Span, list[int]]] = []
    for own, text in enumerate(group):
        peers = [peer for peer in range(len(group)) if peer != own and len(spans[peer]) == len(spans[own])]
        for number, (start, end) in enumerate(spans[own] if peers else ()):
            others = []
            for peer in peers:
                first, last = spans[peer][number]
                changed = text[:start] + group[peer][first:last] + text[end:]
                others.append(texts.setdefault(changed, len(texts)))
            exchanged.append((own, (start, end), others))
    found = score(list(texts))
    scores = [float(found[texts[text]]) for text in group]
    credits: list[NumberCredit] = [{} for _ in group]
    for own, span, others in exchanged:
        credits[own][span] = scores[own] - sum(float(found[place]) for place in others) / len(others)
    return scores, credits


def spread_over_tokens(advantage: float, credit: NumberCredit, ids: Sequence[int], tokenizer: Any) -> list[float]:
    """Return each token's advantage: a number's own where the token writes a part of it, else the completion's.

    Parameters
    ----------
    advantage : float
        The completion's.
    credit : NumberCredit
        In the same unit.
    ids : sequence of int
        The completion's tokens.
    tokenizer : transformers.PreTrainedTokenizerBase
    """
    pieces = [tokenizer.decode([number], skip_special_tokens=True) for number in ids]
    text = tokenizer.decode(list(ids), skip_special_tokens=True)
    if "".join(pieces) == text:
        ends = [0]
        for piece in pieces:
            ends.append(ends[-1] + len(piece))
    else:  # letters of several tokens
        ends = [len(tokenizer.decode(list(ids[:count]), skip_special_tokens=True)) for count in range(len(ids) + 1)]
    found = [advantage] * len(ids)
    for (start, end), own in credit.items():
        for place in range(len(ids)):
            if ends[place] < end and ends[place + 1] > start:
                found[place] = own
    return found
