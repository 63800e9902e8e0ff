"""Deal out what is asked in vain: entities to collections of pictures, in shares that give nothing away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from typing import TypeVar

import numpy as np

__all__ = ["share_out"]

_OTHER_MODALITY = 0.05
"""Weight of an allowed pair of two modalities, whose absence is easier to see, against one of a single modality."""

_ROUNDS = 300
_WORDS_FIRST = 0.8

_K = TypeVar("_K", bound=Hashable)


def share_out(
    supply: Mapping[str, int],
    demand: Mapping[_K, int],
    allowed: set[tuple[str, _K]],
    preferred: set[tuple[str, _K]],
    total: int,
) -> Counter[tuple[str, _K]]:
    """Deal entities to collections, so that each one's share of the total is about its share of the rows.

    First as fractions, by iterative proportional fitting of a table in which allowed pairs that aren't preferred weigh
    little: the most even table with those margins. Where no table has both, a weighted geometric mean of the two that
    have one each, near that of the entities: a question's words mustn't tell absence. Then as whole numbers, always to
    the collection and the entity that lack most of their sums in the table.

    Parameters
    ----------
    supply, demand : mapping to int
        Rows of each entity, and of each collection.
    allowed, preferred : set of (entity, collection)
    total : int

    Examples
    --------
    >>> every = {("liver", "heads"), ("pons", "bellies")}
    >>> sorted(share_out({"liver": 40, "pons": 60}, {"heads": 40, "bellies": 60}, every, every, 10).items())
    [(('liver', 'heads'), 4), (('pons', 'bellies'), 6)]
    """
    dealt: Counter[tuple[str, _K]] = Counter()
    names = sorted({name for name, _ in allowed if supply.get(name)})
    places = sorted({where for _, where in allowed if demand.get(where)}, key=repr)
    if not names or not places or total < 1:
        return dealt
    weights = np.array([[_weight((name, where), allowed, preferred) for where in places] for name in names])
    gives = np.array([float(supply[name]) for name in names])
    takes = np.array([float(demand[where]) for where in places])
    table = weights
    for _ in range(_ROUNDS):
        by_names = table * (gives / np.maximum(table.sum(1), 1e-300))[:, None]
        table = by_names * (takes / np.maximum(by_names.sum(0), 1e-300))[None, :]
    table = by_names**_WORDS_FIRST * table ** (1 - _WORDS_FIRST)
    table *= total / table.sum()
    room = np.ceil(table)
    lacking_names, lacking_places = table.sum(1), table.sum(0)
    sums = lacking_names.copy(), lacking_places.copy()
    for _ in range(total):
        open_places = np.where((room > 0).any(0), lacking_places / sums[1], -np.inf)
        column = int(open_places.argmax())
        open_names = np.where(room[:, column] > 0, lacking_names / sums[0], -np.inf)
        row = int(open_names.argmax())
        if not np.isfinite(open_names[row]):
            break
        dealt[names[row], places[column]] += 1
        room[row, column] -= 1
        lacking_names[row] -= 1
        lacking_places[column] -= 1
    return dealt


def _weight(pair: tuple[str, _K], allowed: set[tuple[str, _K]], preferred: set[tuple[str, _K]]) -> float:
    return 1.0 if pair in preferred else _OTHER_MODALITY if pair in allowed else 0.0
