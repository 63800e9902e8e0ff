"""Multi-choice blocks: the same statements about two pictures, in which all that holds for the one fails for the other.

So each statement is true as often as it is false, whatever it says and whatever it is said of.
"""

from __future__ import annotations

import functools
import itertools
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from medground import taxonomy
from medground.data.absence import home_of
from medground.data.vqa.blocks import Draft, Drawer
from medground.data.vqa.facts import BOTH, comparisons, facts
from medground.data.vqa.pools import Item
from medground.data.vqa.scene import PLURAL, Scene, excludes
from medground.data.vqa.wording import load_words, statement, subject, with_article

__all__ = ["multi_blocks"]

_ASPECTS = ("across", "down", "over", "bright", "shape", "edge", "lie", "border")
_SHARES = {"about": 0.8, "pair": 0.12, "shown": 0.08}
_SIZES = {"about": (4, 4, 4, 4, 3, 5), "pair": (3, 3, 4)}
_USES = 2  # of a target, each time with other statements
_LOOKED_AT = 12
_RAREST = 0.08  # of a statement's pictures: what is rarer has few to be set against
_LEAST = 3
_DRAWS = 40

Key = tuple[str, str]
"""What a statement says: the aspect, and its text."""


@dataclass(slots=True, eq=False)
class _Subject:
    """What statements are made of, and of each picture which of them hold and what was measured."""

    kind: str
    name: str
    items: list[Item] = field(default_factory=list)
    said: list[dict[Key, tuple[bool, str]]] = field(default_factory=list)

    def add(self, item: Item, said: dict[Key, tuple[bool, str]]) -> None:
        self.items.append(item)
        self.said.append(said)


def multi_blocks(scenes: Sequence[Scene], rows: int, drawer: Drawer, first: int) -> Iterator[list[Draft]]:
    """Yield multi-choice blocks until there are so many questions, or no block is left.

    Parameters
    ----------
    scenes : sequence of Scene
        Of one split.
    rows : int
        How many questions, up to a block more.
    drawer : Drawer
    first : int
        The number of the first block.
    """
    subjects: dict[tuple[str, str], _Subject] = {}
    for kind, name, item, said in itertools.chain(_things(scenes), _pairs(scenes)):
        subjects.setdefault((kind, name), _Subject(kind, name)).add(item, said)
    sources: dict[str, Iterator[list[Draft]]] = {
        kind: _of_subjects([_Table(each) for each in subjects.values() if each.kind == kind], drawer)
        for kind in ("about", "pair")
    }
    sources["shown"] = _of_entities(scenes, drawer)
    made: Counter[str] = Counter()
    while sources and sum(made.values()) < rows:
        kind = min(sources, key=lambda kind: (made[kind] / _SHARES[kind], kind))
        block = next(sources[kind], None)
        if block is None or (kind == "shown" and made[kind] >= _SHARES[kind] * rows):
            del sources[kind]
            continue
        yield [replace(draft, block=first) for draft in block]
        first += 1
        made[kind] += len(block)


def _things(scenes: Iterable[Scene]) -> Iterator[tuple[str, str, Item, dict[Key, tuple[bool, str]]]]:
    for scene in scenes:
        for thing in scene.things:
            told: dict[Key, tuple[bool, str]] = {}
            for aspect, (value, said) in facts(thing, scene).items():
                kind = aspect.partition(" ")[0]
                if kind in _ASPECTS:
                    told |= {(kind, text): (value == one, said) for one, text in _texts(aspect, thing.name in PLURAL)}
            yield "about", thing.name, Item(scene, (thing,), "", ""), told


@functools.cache
def _texts(aspect: str, plural: bool) -> tuple[tuple[str, str], ...]:
    """Return the values of an aspect, each with its statement."""
    predicates = load_words().predicates(aspect)
    return tuple((value, statement(predicate, plural=plural)) for value, predicate in predicates.items())


def _pairs(scenes: Iterable[Scene]) -> Iterator[tuple[str, str, Item, dict[Key, tuple[bool, str]]]]:
    words = load_words()
    for scene in scenes:
        for one, other in itertools.permutations(scene.things, 2):
            if one.entity != other.entity:
                continue
            told: dict[Key, tuple[bool, str]] = {}
            for aspect, (value, said) in comparisons(one, other, scene).items():
                if value != BOTH:
                    text = statement(str(words.compare[aspect]["says"]).partition(" than {b}")[0])
                    told[aspect, text] = value == one.name, said
            yield "pair", f"{one.name}, {other.name}", Item(scene, (one, other), "", ""), told


class _Table:
    """The statements about one subject as a table: a row for each picture, a column for each usable statement."""

    def __init__(self, one: _Subject) -> None:
        self.one = one
        self.keys = sorted({key for said in one.said for key in said})
        column = {key: index for index, key in enumerate(self.keys)}
        self.holds = np.full((len(one.items), len(self.keys)), -1, np.int8)  # 1 true, 0 false, -1 not clear
        for row, said in enumerate(one.said):
            for key, (holds, _) in said.items():
                self.holds[row, column[key]] = holds
        self.left = np.full(len(one.items), _USES)
        self.aspects: dict[str, list[int]] = {}
        for index, key in enumerate(self.keys):
            yes, no = (int((self.holds[:, index] == value).sum()) for value in (1, 0))
            if min(yes, no) >= max(1, _RAREST * (yes + no)):
                self.aspects.setdefault(key[0], []).append(index)

    def pair(self, drawer: Drawer) -> list[Draft]:
        """Return two pictures that some statements set against each other; none where no draw finds two."""
        rng, one = drawer.rng, self.one
        for _ in range(_DRAWS):
            number = min(rng.choice(_SIZES[one.kind]), len(self.aspects))
            columns = [rng.choice(self.aspects[aspect]) for aspect in rng.sample(sorted(self.aspects), number)]
            truths = self.holds[:, columns]
            fit = np.flatnonzero((self.left > 0) & (truths >= 0).all(axis=1))
            if not len(fit):
                continue
            codes = truths[fit] @ (1 << np.arange(number))
            every = (1 << number) - 1
            there = set(codes.tolist())
            found = sorted(code for code in there if 0 < code < every and every - code in there)
            if not found:
                continue
            code = rng.choice(found)
            chosen = [row for each in (code, every - code) for row in self._least(fit[codes == each], drawer)]
            if len(chosen) < 2:
                continue
            self.left[chosen] -= 1
            said, keys = self._question(rng), [self.keys[column] for column in columns]
            for index in chosen:
                drawer.uses[one.items[index].scene.picture] += 1
            return [_draft(one, said, keys, one.items[index], one.said[index]) for index in chosen]
        return []

    def _least(self, rows: npt.NDArray[np.int64], drawer: Drawer) -> list[int]:
        """Return the row, of some, whose picture was asked about least; none where all are used up."""
        picked = [row for row in drawer.rng.sample(rows.tolist(), len(rows)) if drawer.free(self.one.items[row].scene)]
        return sorted(picked[:_LOOKED_AT], key=lambda row: drawer.uses[self.one.items[row].scene.picture])[:1]

    def _question(self, rng: random.Random) -> str:
        words, things = load_words().multi, self.one.items[0].things
        if self.one.kind == "about":
            return subject(rng.choice(words["about"]), self.one.name)
        return rng.choice(words["pair"]).format(a=with_article(things[0].name), b=with_article(things[1].name))


def _of_subjects(tables: Sequence[_Table], drawer: Drawer) -> Iterator[list[Draft]]:
    """Yield pairs of pictures, of many subjects in turn."""
    alive = [table for table in tables if len(table.aspects) >= _LEAST]
    weights = [len(table.one.items) ** 0.5 for table in alive]
    while alive:
        index = drawer.rng.choices(range(len(alive)), weights)[0]
        if block := alive[index].pair(drawer):
            yield block
        else:
            del alive[index], weights[index]


def _draft(one: _Subject, said: str, keys: Sequence[Key], item: Item, told: Mapping[Key, tuple[bool, str]]) -> Draft:
    steps = tuple((chr(ord("A") + index), *told[key]) for index, key in enumerate(keys))
    answer = ", ".join(letter for letter, holds, _ in steps if holds)
    return Draft("multi_choice", one.kind, one.name, said, tuple(text for _, text in keys), answer, item, steps=steps)


def _of_entities(scenes: Sequence[Scene], drawer: Drawer) -> Iterator[list[Draft]]:
    """Yield three pictures of parts of the body that exclude each other; what is in one of them isn't in the others."""
    rng = drawer.rng
    fitting = [
        scene
        for scene in scenes
        if scene.things and all(home_of(name) and not name.startswith("largest ") for name in scene.entities)
    ]
    queue = rng.sample(fitting, len(fitting))
    while queue:
        block = [queue.pop()]
        queue = [scene for scene in queue if drawer.free(scene)]
        for scene in sorted(queue[-60:], key=lambda scene: (scene.modality != block[0].modality, -len(scene.things))):
            if len(block) < 3 and all(_foreign(scene, other) and _foreign(other, scene) for other in block):
                block.append(scene)
        if len(block) < 3 or not drawer.free(block[0]):
            continue
        for scene in block[1:]:
            queue.remove(scene)
        names = [rng.sample(sorted({thing.entity for thing in scene.things}), 1) for scene in block]
        for scene, found in zip(block, names, strict=True):
            more = sorted({thing.entity for thing in scene.things} - set(found))
            found += rng.sample(more, min(len(more), rng.choice((0, 1, 1, 2))))
        choices = rng.sample([name for found in names for name in found], sum(map(len, names)))
        said = rng.choice(load_words().multi["shown"])
        drafts = []
        for scene, found in zip(block, names, strict=True):
            drawer.uses[scene.picture] += 1
            things = tuple(thing for thing in scene.things if thing.entity in found)
            letters = [chr(ord("A") + index) for index in range(len(choices))]
            steps = tuple(
                (letter, name in found, taxonomy.load_targets()[name].fact)
                for letter, name in zip(letters, choices, strict=True)
            )
            answer = ", ".join(letter for letter, holds, _ in steps if holds)
            item = Item(scene, things, "", "")
            drafts.append(Draft("multi_choice", "shown", "", said, tuple(choices), answer, item, steps=steps))
        yield drafts


def _foreign(scene: Scene, other: Scene) -> bool:
    return all(excludes(scene, name) for name in other.entities)
