"""Answers to look at: what became of each, and which are shown as the best, the worst, the typical and the failed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from medground.evaluate.predictions import Prediction
from medground.evaluate.score import Scored
from medground.rewards.evidence import Claim, Facts, claims, holds

__all__ = ["FATES", "TAGS", "Case", "Piece", "choose", "facets", "fate", "pieces"]

FATES = {
    "right": "right place, nothing else wrong",
    "false claim": "right place, but a claim in the reasoning is false",
    "mask": "right place, but the mask's Dice is under 0.5",
    "loose": "the box meets the target with an IoU under 0.5",
    "elsewhere": "the box doesn't meet the target",
    "missed": "said to be absent, though it is there",
    "invented": "a place was given, though the target is absent",
    "unreadable": "nothing could be read from the answer",
    "error": "the model didn't answer",
}
"""What becomes of an answer: the first from the bottom up that is so. The right place is an IoU of 0.5 or more, or
absence that was told rightly."""

FAILURES = tuple(name for name in FATES if name != "right")
TAGS = {"best": "best", "typical": "typical of its category", "median": "median", "worst": "worst"}
"""Why a case is shown, beside its fate."""

_EACH, _FAILED, _CATEGORIES = 6, 4, 40


def fate(prediction: Prediction, figures: Mapping[str, float]) -> str:
    """Return what became of an answer, one of `FATES`.

    Examples
    --------
    >>> truth = {"bbox_2d": [10, 20, 30, 40], "image_size": [100, 50]}
    >>> line = Prediction(id="1", question="Where?", image_size=(100, 50), truth=truth,
    ...                   space={"coordinates": "pixels", "width": 100, "height": 50})
    >>> fate(line, {"readable": 1, "absence": 1, "box_iou": 0.3})
    'loose'
    """
    if prediction.error is not None:
        return "error"
    if not figures["readable"]:
        return "unreadable"
    iou = figures.get("box_iou", math.nan)
    if not figures["absence"]:
        return "invented" if math.isnan(iou) else "missed"
    if iou == 0:
        return "elsewhere"
    if iou < 0.5:
        return "loose"
    if figures.get("dice", math.nan) < 0.5:
        return "mask"
    if figures.get("claims_true", math.nan) < figures.get("claims", math.nan):
        return "false claim"
    return "right"


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a reasoning; `claim` where it is one, and `holds` then says whether it is true (None: not known)."""

    text: str
    claim: Claim | None = None
    holds: bool | None = None


def pieces(reasoning: str, facts: Facts | None) -> list[Piece]:
    """Return a reasoning cut at its claims, each held to what is true of the target.

    Examples
    --------
    >>> found = pieces("It is small and round.", Facts.read({"size": "small", "shape": "oval"}))
    >>> [(each.text, each.holds) for each in found if each.claim]
    [('small', True), ('round', False)]
    >>> "".join(each.text for each in found)
    'It is small and round.'
    """
    found: list[Piece] = []
    end = 0
    for claim in sorted(claims(reasoning), key=lambda each: each.start):
        if claim.start < end:
            continue
        found.append(Piece(reasoning[end : claim.start]))
        verdict = None if facts is None else holds(claim, facts)
        found.append(Piece(reasoning[claim.start : claim.end], claim, verdict))
        end = claim.end
    return [each for each in (*found, Piece(reasoning[end:])) if each.text]


def facets(scored: Scored) -> dict[str, tuple[int, int]]:
    """Return for each facet of the claims in a run how many could be checked, and how many of those are true."""
    checked: Counter[str] = Counter()
    true: Counter[str] = Counter()
    for prediction in scored.predictions:
        right, said = prediction.right, prediction.answer
        if right.box is None or said is None:
            continue
        facts = right.facts or Facts.of_box(right.box)
        for claim in claims(said.reasoning):
            verdict = holds(claim, facts)
            checked[claim.facet] += verdict is not None
            true[claim.facet] += verdict is True
    return {name: (count, true[name]) for name, count in checked.items() if count}


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """An answer that is shown.

    Parameters
    ----------
    prediction : Prediction
    figures : mapping of str to float
    fate : str
        One of `FATES`.
    tags : tuple of str
        Of `TAGS`.
    """

    prediction: Prediction
    figures: Mapping[str, float]
    fate: str
    tags: tuple[str, ...]


def choose(scored: Scored) -> list[Case]:
    """Return the answers of a run that are worth a look, the same ones each time.

    The best and the worst, six each, of as many categories as there are; six about the median; of each category the
    one in its middle (the 40 most frequent categories); and up to four of each way to fail.
    """
    worth = [_worth(figures) for figures in scored.figures]
    fates = [fate(one, figures) for one, figures in zip(scored.predictions, scored.figures, strict=True)]
    category = [str(one.about.get("category", "")) for one in scored.predictions]
    order = sorted(
        (at for at in range(len(worth)) if not math.isnan(worth[at])),
        key=lambda at: (-worth[at], scored.predictions[at].id),
    )
    tags: dict[int, list[str]] = {}

    def tag(places: Sequence[int], name: str) -> None:
        for at in places:
            tags.setdefault(at, []).append(name)

    tag(_varied(order, category), "best")
    tag(_varied(order[::-1], category), "worst")
    middle = len(order) // 2
    tag(order[max(0, middle - _EACH // 2) : middle + _EACH // 2], "median")
    for name, _ in Counter(category[at] for at in order).most_common(_CATEGORIES):
        own = [at for at in order if category[at] == name]
        tag([own[len(own) // 2]], "typical")
    for name in FAILURES:
        failed = [at for at, found in enumerate(fates) if found == name]
        for at in _varied(failed, category)[:_FAILED]:
            tags.setdefault(at, [])
    rank = {at: place for place, at in enumerate(order)}
    shown = sorted(tags, key=lambda at: (_first(tags[at]), rank.get(at, len(rank)), at))
    return [Case(scored.predictions[at], scored.figures[at], fates[at], tuple(tags[at])) for at in shown]


def _first(tags: Sequence[str]) -> int:
    return min((list(TAGS).index(tag) for tag in tags), default=len(TAGS))


def _varied(order: Sequence[int], category: Sequence[str]) -> list[int]:
    """Return the first places of an order, a category's second only when each has had its first."""
    seen: Counter[str] = Counter()
    ranked = []
    for place, at in enumerate(order):
        ranked.append((seen[category[at]], place, at))
        seen[category[at]] += 1
    return [at for *_, at in sorted(ranked)[:_EACH]]


def _worth(figures: Mapping[str, float]) -> float:
    """Return the mean of box IoU and Dice, of those that are there; NaN where the target is absent."""
    known = [figures[name] for name in ("box_iou", "dice") if not math.isnan(figures.get(name, math.nan))]
    return sum(known) / len(known) if known else math.nan
