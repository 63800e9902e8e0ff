"""Which rows an epoch shows: how often those of each source, and how many visual questions among them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from medground.train.config import DataConfig

if TYPE_CHECKING:
    from medground.train.rows import Rows

__all__ = ["VISUAL", "drawn_rows", "epoch_counts", "group_counts", "visual_count"]

VISUAL = "visual questions"
"""The group of all visual questions, beside the groups of other rows by their sources."""


def epoch_counts(sizes: Mapping[str, int], weights: Mapping[str, float]) -> dict[str, int]:
    """Return how many examples of each source an epoch has, for so many rows of each and `data.weights`.

    Examples
    --------
    >>> epoch_counts({"many": 400, "few": 3, "other": 8}, {"many": 0.25, "few": 2, "other": 0})
    {'few': 6, 'many': 100}
    """
    weighed = {source: weights.get(source, 1.0) for source in sorted(sizes)}
    return {source: max(1, round(sizes[source] * weight)) for source, weight in weighed.items() if weight}


def visual_count(visual: int, others: int, share: float | None) -> int:
    """Return how many of an epoch's examples are visual questions, where so many are there and others are shown.

    Examples
    --------
    >>> visual_count(12_000, 9_000, None), visual_count(12_000, 9_000, 0.25)
    (12000, 3000)
    """
    return visual if share is None or not visual else max(1, round(others * share / (1 - share)))


def group_counts(rows: Rows, data: DataConfig) -> dict[str, int]:
    """Return how many examples of each group an epoch has; "" is the group of all others where no source has a weight.

    Visual questions come last.
    """
    visual = sum(map(rows.is_visual, range(len(rows))))
    others = len(rows) - visual
    counts = {"": others} if others else {}
    if data.weights and others:
        counts = epoch_counts(Counter(_groups(rows, data)) - Counter({VISUAL: visual}), data.weights)
    if visual:
        counts[VISUAL] = visual_count(visual, sum(counts.values()), data.vqa_share)
    return counts


def drawn_rows(rows: Rows, data: DataConfig, counts: Mapping[str, int], seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """Return the rows that an epoch shows, in the order of the files; of a group each as often, give or take one."""
    own: dict[str, list[int]] = {}
    for index, group in enumerate(_groups(rows, data)):
        own.setdefault(group, []).append(index)
    drawn: list[int] = []
    for number, (group, count) in enumerate(counts.items()):
        whole, rest = divmod(count, len(own[group]))
        # One order for all epochs, which they take turns at: with 0.25, four of them show each row once.
        turns = np.random.default_rng([seed, 2, number]).permutation(own[group])
        some = turns[(epoch * rest + np.arange(rest)) % len(turns)]
        drawn += own[group] * whole + some.tolist()
    return np.sort(np.array(drawn, np.int64))


def _groups(rows: Rows, data: DataConfig) -> Sequence[str]:
    """Return the group of each row."""
    return [
        VISUAL if rows.is_visual(index) else rows.sources[place] if data.weights else ""
        for index, place in enumerate(rows.places)
    ]
