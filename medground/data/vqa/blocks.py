"""Blocks: questions in the very same words, asked of pictures that answer them differently.

Balance by design: within a block each answer comes once, so nothing that looks at the words alone, however clever, is
right more often than once a block. Choices are the answers of the block's other pictures, in one order for all of
them: what is wrong here is right there, and each letter is right once.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from medground.answers import QuestionType
from medground.data.vqa.pools import Item, Pool
from medground.data.vqa.scene import Scene

__all__ = ["KINDS", "Draft", "Drawer", "blocks"]

_COMPARE = {f"compare {aspect}": 0.2 for aspect in ("area", "taller", "wider", "higher", "lower", "left")}

KINDS: dict[str, dict[str, float]] = {
    "open": {"place": 6, "look": 5, "size": 3, "modality": 1, "body": 1, "finding": 2, "bright": 1, "shape": 1}
    | {"identify": 1, "look of an earlier region": 1.5, "tuberculosis": 0.5, "dignity": 0.5, "edge": 0.5},
    "closed": {"shown": 4, "across": 1.5, "down": 1.5, "over": 2, "bright": 1, "shape": 1, "edge": 1, "lie": 1.5}
    | {"border": 1.5, "place": 0.7, "tuberculosis": 1, "dignity": 1, "ratio": 0.5, "body": 0.4, "modality": 0.4}
    | {"identify": 0.7, "partner of an earlier region": 0.7, "bright of an earlier region": 0.4, **_COMPARE}
    | {"shape of an earlier region": 0.4, "edge of an earlier region": 0.4},
    "single_choice": {"place": 6, "look": 5, "size": 4, "shown": 6, "identify": 1.5, "modality": 1, "body": 1}
    | {"finding": 1.5, "look of an earlier region": 2, "bright": 0.3, "shape": 0.3, **_COMPARE},
}
"""What each type of question asks for, and in which proportions as long as pictures for it are left."""

_NARROWEST = {"place": 4, "look": 4, "look of an earlier region": 4, "modality": 4, "body": 3, "shown": 4, "finding": 3}
_NARROWEST |= {"size": 4, "bright": 3, "shape": 3, "identify": 3}
"""Answers in a block at least; 2 for other kinds, which have no more."""

_WIDEST = {"open": 6, "single_choice": 4}
"""Answers in a block at most."""

_LOOKED_AT = 12
_FAILED = 12  # draws of a pool that gave no block, before it is given up


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """A question with its answer, before words for the thinking are found.

    Parameters
    ----------
    question_type : {"open", "closed", "single_choice", "multi_choice"}
    kind, subject : str
        Of the pool.
    question : str
    choices : tuple of str
    answer : str
        The value, yes or no, or letters.
    item : Item
    shown : bool
        Whether what is asked for is in the picture; if not, the answer rests on no region.
    asked : str
        What a closed question asks for.
    steps : tuple of (str, bool, str)
        Of each choice of a multi-choice question: its letter, whether it holds, and what was measured.
    block : int
        The same for questions in the same words.
    """

    question_type: QuestionType
    kind: str
    subject: str
    question: str
    choices: tuple[str, ...]
    answer: str
    item: Item
    shown: bool = True
    asked: str = ""
    steps: tuple[tuple[str, bool, str], ...] = ()
    block: int = 0


class Drawer:
    """Draws items: each once for a type of question, and pictures evenly.

    Parameters
    ----------
    rng : random.Random
        The only source of chance.
    most : int
        Questions about a picture at most.
    """

    def __init__(self, rng: random.Random, most: int) -> None:
        self.rng = rng
        self.uses: Counter[str] = Counter()
        self._most = most
        self._left: dict[tuple[str, int, str], list[Item]] = {}

    def left(self, kind: str, pool: Pool, value: str) -> list[Item]:
        """Return the items of a value that this type of question hasn't had, in an order of chance."""
        key = kind, id(pool), value
        if key not in self._left:
            self._left[key] = self.rng.sample(pool.items.get(value, []), len(pool.items.get(value, [])))
        return self._left[key]

    def free(self, scene: Scene) -> bool:
        """Whether a picture may be asked about once more."""
        return self.uses[scene.picture] < self._most

    def look(self, items: list[Item]) -> list[Item]:
        """Return some of these items, those first whose picture was asked about least; drops what is used up."""
        while items and not self.free(items[-1].scene):
            items.pop()
        fresh = [item for item in items[-_LOOKED_AT:] if self.free(item.scene)]
        return sorted(fresh, key=lambda item: self.uses[item.scene.picture])

    def take(self, kind: str, pool: Pool, item: Item) -> None:
        """Note that an item was used."""
        self.left(kind, pool, item.value).remove(item)
        self.uses[item.scene.picture] += 1


def blocks(
    pools: Sequence[Pool], question_type: QuestionType, rows: int, drawer: Drawer, first: int
) -> Iterator[list[Draft]]:
    """Yield blocks of one type of question until there are so many questions, or no block is left.

    Parameters
    ----------
    pools : sequence of Pool
    question_type : {"open", "closed", "single_choice"}
    rows : int
        How many questions, up to a block more.
    drawer : Drawer
    first : int
        The number of the first block.
    """
    shares = KINDS[question_type]
    alive: dict[str, list[Pool]] = defaultdict(list)
    for pool in pools:
        if pool.kind in shares and (pool.closed if question_type == "closed" else pool.asks):
            alive[pool.kind].append(pool)
    made: Counter[str] = Counter()
    failed: Counter[Pool] = Counter()
    weights = {kind: [_size(pool, question_type, drawer) ** 0.5 for pool in listed] for kind, listed in alive.items()}
    while alive and sum(made.values()) < rows:
        kind = min(alive, key=lambda kind: (made[kind] / shares[kind], kind))
        index = drawer.rng.choices(range(len(alive[kind])), weights[kind])[0]
        block = (_closed if question_type == "closed" else _asked)(alive[kind][index], question_type, drawer, first)
        weights[kind][index] = _size(alive[kind][index], question_type, drawer) ** 0.5
        failed[alive[kind][index]] += not block
        if failed[alive[kind][index]] > _FAILED or not weights[kind][index]:
            del alive[kind][index], weights[kind][index]
            if not alive[kind]:
                del alive[kind]
        if not block:
            continue
        first += 1
        made[kind] += len(block)
        yield block


def _size(pool: Pool, question_type: str, drawer: Drawer) -> int:
    return sum(len(drawer.left(question_type, pool, value)) for value in pool.items)


def _asked(pool: Pool, question_type: QuestionType, drawer: Drawer, number: int) -> list[Draft]:
    """Return an open or single-choice block: two to four pictures, each with another value."""
    rng = drawer.rng
    values = _weighed({value: len(drawer.left(question_type, pool, value)) for value in pool.items}, rng)
    picked: list[Item] = []
    for strict in (True, False):  # what is told apart by the kind of picture alone comes last
        for value in values:
            if len(picked) == _WIDEST[question_type] or any(item.value == value for item in picked):
                continue
            for item in drawer.look(drawer.left(question_type, pool, value)):
                alike = not picked or pool.excludes is None or item.scene.modality == picked[0].scene.modality
                if (alike or not strict) and _apart(pool, item, picked):
                    picked.append(item)
                    break
    if len(picked) < _NARROWEST.get(pool.kind, 2):
        return []
    for item in picked:
        drawer.take(question_type, pool, item)
    said = rng.choice(pool.asks)
    if question_type == "open":
        return [Draft("open", pool.kind, pool.subject, said, (), item.value, item, block=number) for item in picked]
    choices = tuple(rng.sample([item.value for item in picked], len(picked)))
    letters = {value: chr(ord("A") + index) for index, value in enumerate(choices)}
    return [
        Draft("single_choice", pool.kind, pool.subject, said, choices, letters[item.value], item, block=number)
        for item in picked
    ]


def _apart(pool: Pool, item: Item, picked: Sequence[Item]) -> bool:
    return all(pool.lacks(item, other.value) and pool.lacks(other, item.value) for other in picked)


def _closed(pool: Pool, question_type: QuestionType, drawer: Drawer, number: int) -> list[Draft]:
    """Return a yes and a no to the same question."""
    rng = drawer.rng
    sizes = {value: len(drawer.left(question_type, pool, value)) for value in pool.items}
    for asked in _weighed({value: sizes[value] for value in pool.closed if sizes.get(value)}, rng):
        yes = next(iter(drawer.look(drawer.left(question_type, pool, asked))), None)
        no = None if yes is None else _other(pool, question_type, asked, yes, sizes, drawer)
        if yes is None or no is None:
            continue
        said = rng.choice(pool.closed[asked])
        for item in (yes, no):
            drawer.take(question_type, pool, item)
        return [
            Draft("closed", pool.kind, pool.subject, said, (), answer, item, shown, asked, block=number)
            for answer, item, shown in (("Yes", yes, True), ("No", no, pool.kind != "shown"))
        ]
    return []


def _other(
    pool: Pool, question_type: str, asked: str, yes: Item, sizes: Mapping[str, int], drawer: Drawer
) -> Item | None:
    """Return an item without the value asked for, of the same modality where there is one."""
    found: Item | None = None
    for value in _weighed({value: size for value, size in sizes.items() if value != asked}, drawer.rng):
        for item in drawer.look(drawer.left(question_type, pool, value)):
            if pool.lacks(item, asked):
                if pool.excludes is None or item.scene.modality == yes.scene.modality:
                    return item
                found = found or item
    return found


def _weighed(sizes: Mapping[str, int], rng: random.Random) -> list[str]:
    """Return what has a size in an order of chance, larger ones rather first (Efraimidis and Spirakis 2006)."""
    keys = {value: rng.random() ** (1 / size) for value, size in sizes.items() if size}
    return sorted(keys, key=lambda value: -keys[value])
