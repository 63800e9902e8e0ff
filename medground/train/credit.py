"""Credit for the single parts of a completion: the numbers of its answer, the claims of its reasoning.

GRPO gives all tokens of a completion one advantage: how much better it did than the group. A box that is good but for
one edge then pushes the good edges down with the bad one. Here each number of the answer is judged by itself, in a
counterfactual way (after COMA, Foerster et al. 2018, arXiv 1705.08926): its advantage is the completion's score less
the mean score that the same completion has with the group's other numbers in this one's place. All else, the reasoning
first, keeps the advantage of GRPO. What comes after a number was written in its knowledge, which the exchange doesn't
undo: the estimate is as good as numbers are nearly independent given the text before them.

A false claim in the reasoning is lost in that advantage too, among boxes that weigh more: rewarded so, nano's boxes
became better and its claims falser (docs/log.md). A claim can be judged against silence, which is always possible: its
advantage is the completion's score less the score that the same completion has without the claim. What claims earn is
then theirs alone: all other parts are judged by the completion's score without any. The words that lead to a claim
share its credit ("and is" before "round"): who has written them has chosen to claim, and credit for the claim's own
words alone taught nano to begin sentences that it then couldn't end.

It needs no further sample and no network, only the reward function on some hundreds of texts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from medground.rewards.evidence import claims
from medground.rewards.vocabulary import FUNCTION_WORDS

__all__ = ["Credit", "answer_numbers", "part_credit", "reasoned_claims", "spread_over_tokens"]

Span = tuple[int, int]

Credit = dict[Span, float]
"""Where each part of a completion that is judged by itself stands (start, end, in characters), and its advantage in
score."""

_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?!\w)")
_WORD = re.compile(r"[\w'’]+|[^\w\s]")
_LEADING = FUNCTION_WORDS | {","}


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


def reasoned_claims(completion: str) -> list[Span]:
    """Return where the claims of a completion's reasoning stand that can be checked (`medground.rewards.evidence`).

    Examples
    --------
    >>> text = "<think>The left lung. It is small and dark.</think><answer></answer>"
    >>> [text[start:end] for start, end in reasoned_claims(text)]
    ['small', 'dark']
    """
    start = completion.find("<think>") + len("<think>")
    end = completion.find("</think>", start)
    if start < len("<think>") or end < 0:
        return []
    return [(start + claim.start, start + claim.end) for claim in claims(completion[start:end])]


def part_credit(
    group: Sequence[str], score: Callable[[list[str]], Sequence[float]], *, of_claims: bool = False
) -> tuple[list[float], list[Credit]]:
    """Return the scores of a group's completions, and the credit of the parts of each.

    Parameters
    ----------
    group : sequence of str
        Completions of one prompt.
    score : callable
        From texts to their scores; is called once.
    of_claims : bool
        Judge the claims of the reasoning too, and not the answer's numbers alone.

    Returns
    -------
    scores : list of float
        With `of_claims` those of the completions without their claims.
    credits : list of Credit
        No number of a completion whose answer has as many numbers as no other's of the group, and no claim without
        which the score would be the same. A claim's part begins with the words that lead to it.

    Examples
    --------
    One number, and the score is how near it is to 5: the 4 is credited with 1 over the 3 and with 4 over the 0.

    >>> nearness = lambda texts: [-abs(5.0 - float(text)) for text in texts]
    >>> part_credit(["4", "3", "0"], nearness)
    ([-1.0, -2.0, -5.0], [{(0, 1): 2.5}, {(0, 1): 1.0}, {(0, 1): -3.5}])
    """
    texts: dict[str, int] = {text: place for place, text in enumerate(dict.fromkeys(group))}
    numbers = list(_exchanged(group, texts))
    claimed = list(_left_out(group, texts)) if of_claims else []
    bare = [texts.setdefault(_without_claims(text) if of_claims else text, len(texts)) for text in group]
    found = [float(worth) for worth in score(list(texts))]

    def gain(own: int, others: Sequence[int]) -> float:
        return found[texts[group[own]]] - sum(found[place] for place in others) / len(others)

    credits: list[Credit] = [{} for _ in group]
    for own, span, others in numbers:
        credits[own][span] = gain(own, others)
    for own, span, others in claimed:
        if brought := gain(own, others):
            credits[own][span] = brought
    return [found[place] for place in bare], credits


_Other = tuple[int, Span, list[int]]
"""A completion's place, one of its parts, and the places of the texts that lack it."""


def _exchanged(group: Sequence[str], texts: dict[str, int]) -> Iterator[_Other]:
    """Yield each number and the texts that have another completion's in its place."""
    spans = [answer_numbers(text) for text in group]
    for own, text in enumerate(group):
        peers = [peer for peer in range(len(group)) if peer != own and len(spans[peer]) == len(spans[own])]
        for number, (start, end) in enumerate(spans[own] if peers else ()):
            others = []
            for peer in peers:
                first, last = spans[peer][number]
                changed = text[:start] + group[peer][first:last] + text[end:]
                others.append(texts.setdefault(changed, len(texts)))
            yield own, (start, end), others


def _without_claims(text: str) -> str:
    for start, end in reversed(reasoned_claims(text)):
        text = text[:start] + text[end:]
    return text


def _left_out(group: Sequence[str], texts: dict[str, int]) -> Iterator[_Other]:
    """Yield each claim, with the words that lead to it, and the text without it."""
    for own, text in enumerate(group):
        before = text.find("<think>") + len("<think>")
        for start, end in reasoned_claims(text):
            yield own, (_lead(text, before, start), end), [texts.setdefault(text[:start] + text[end:], len(texts))]
            before = end


def _lead(text: str, before: int, start: int) -> int:
    """Return where the words begin that lead to a claim: those of no meaning of their own right before it."""
    for word in reversed(list(_WORD.finditer(text, before, start))):
        if word.group().lower() not in _LEADING:
            break
        start = word.start()
    return start


def spread_over_tokens(advantage: float, credit: Credit, ids: Sequence[int], tokenizer: Any) -> list[float]:
    """Return each token's advantage: that of the number or claim of which it writes a piece, else the completion's.

    Parameters
    ----------
    advantage : float
        The completion's.
    credit : Credit
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
