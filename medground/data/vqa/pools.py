"""Questions that can be asked of pictures, pooled by their words: one pool's questions differ in the answer alone.

A pool is what balance is made from. All of its items can be asked for in the same words, so a block of them with
different answers gives nothing away; see `medground.data.vqa.blocks`.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from medground import taxonomy
from medground.data.absence import home_of
from medground.data.vqa.facts import BOTH, comparisons, cup_to_disc, facts
from medground.data.vqa.scene import Scene, Thing, excludes
from medground.data.vqa.wording import load_words, question, subject, with_article

__all__ = ["EARLIER", "Item", "Pool", "pools_of"]

EARLIER = "region found before"
"""What a question that follows another one calls the region of the earlier answer."""

_FOLLOWED = ("bright", "shape", "edge", "look")  # of a known box, place and size are no question
_HOMES = {
    "head": "the head",
    "eye": "the eye",
    "jaws": "the jaws",
    "chest": "the chest",
    "breast": "the breast",
    "abdomen": "the abdomen",
    "pelvis": "the pelvis",
    "womb": "the womb",
    "skin": "the skin",
}
_TECHNIQUES = {"fundus": "fundus photography", "OCT": "optical coherence tomography", "X-ray": "radiography"}


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """A picture that a pool's question can be asked of.

    Parameters
    ----------
    scene : Scene
    things : tuple of Thing
        The regions that the answer rests on.
    value : str
        The answer.
    said : str
        What was measured, or is known.
    earlier : tuple of Thing
        The regions that the question takes as found before.
    """

    scene: Scene
    things: tuple[Thing, ...]
    value: str
    said: str
    earlier: tuple[Thing, ...] = ()


@dataclass(slots=True, eq=False)
class Pool:
    """Items that the same words ask for.

    Parameters
    ----------
    kind : str
        Of the question.
    subject : str
        What else its words depend on.
    asks : sequence of str
        How it can be put, so that the value answers it; none where it is asked by yes or no alone.
    closed : dict of str to sequence of str
        How it is asked whether the value is this one.
    items : dict of str to list of Item
        By the value.
    excludes : callable or None
        Whether a picture certainly hasn't a value; None where having one value is to have no other.
    """

    kind: str
    subject: str
    asks: Sequence[str] = ()
    closed: dict[str, Sequence[str]] = field(default_factory=dict)
    items: dict[str, list[Item]] = field(default_factory=dict)
    excludes: Callable[[Scene, str], bool] | None = None

    def add(self, item: Item) -> None:
        """Put an item where its value is."""
        self.items.setdefault(item.value, []).append(item)

    def lacks(self, item: Item, value: str) -> bool:
        """Whether it is certain that a value isn't the item's."""
        return item.value != value if self.excludes is None else self.excludes(item.scene, value)


def pools_of(scenes: Sequence[Scene]) -> list[Pool]:
    """Return the pools that pictures give, in an order that depends on nothing but theirs; all have two values."""
    pools: dict[tuple[str, ...], Pool] = {}
    for key, make, item in itertools.chain(_about_things(scenes), _about_pairs(scenes), _about_images(scenes)):
        if key not in pools:
            pools[key] = make()
        pools[key].add(item)
    return [pool for pool in pools.values() if len(pool.items) > 1]


_Found = Iterator[tuple[tuple[str, ...], Callable[[], Pool], Item]]  # a pool's key, what makes it, and an item of it


def _about_things(scenes: Iterable[Scene]) -> _Found:
    for scene in scenes:
        for thing in scene.things:
            for aspect, (value, said) in facts(thing, scene).items():
                make = functools.partial(_aspect, aspect, thing.name, False)
                yield (aspect, thing.name), make, Item(scene, (thing,), value, said)
                if aspect in _FOLLOWED:
                    make = functools.partial(_aspect, aspect, thing.name, True)
                    yield (aspect, thing.name, EARLIER), make, Item(scene, (thing,), value, said, (thing,))
            if len(scene.things) > 1:
                said = taxonomy.load_targets()[thing.entity].fact
                item = Item(scene, (thing,), thing.name, said, (thing,))
                yield ("identify", scene.picture), functools.partial(_identify, scene), item


def _aspect(aspect: str, name: str, known: bool) -> Pool:
    """Return the pool of an aspect; what is known from an earlier question isn't named again."""
    words, kind = load_words(), aspect.partition(" ")[0]
    called = EARLIER if known else name
    return Pool(
        f"{kind} of an earlier region" if known else kind,
        name,
        [subject(frame, called) for frame in words.asks("aspect", kind)],
        {value: [question(called, predicate)] for value, predicate in words.predicates(aspect).items()},
    )


def _identify(scene: Scene) -> Pool:
    words = load_words().image["identify"]
    closed: dict[str, Sequence[str]] = {
        thing.name: [subject(frame, thing.name) for frame in words["closed"]] for thing in scene.things
    }
    return Pool("identify", "", load_words().image["identify"]["ask"], closed)


def _about_pairs(scenes: Iterable[Scene]) -> _Found:
    groups = {name: target.supercategory for name, target in taxonomy.load_targets().items()}
    for scene in scenes:
        plain = sorted((thing for thing in scene.things if "of the" not in thing.name), key=lambda thing: thing.name)
        for one, other in itertools.combinations(plain, 2):
            if groups[one.entity] == groups[other.entity]:
                for aspect, (value, said) in comparisons(one, other, scene).items():
                    make = functools.partial(_comparison, aspect, one.name, other.name)
                    yield (f"compare {aspect}", one.name, other.name), make, Item(scene, (one, other), value, said)
                    if aspect == "area" and one.entity == other.entity and value != BOTH:
                        yield from _partners(scene, one, other, value, said)
            if (one.entity, other.entity) == ("optic cup", "optic disc"):
                for bound, (value, said) in cup_to_disc(one, other).items():
                    yield ("ratio", bound), functools.partial(_ratio, bound), Item(scene, (one, other), value, said)


def _ratio(bound: str) -> Pool:
    closed = [frame.format(x=bound) for frame in load_words().image["ratio"]["closed"]]
    return Pool("ratio", "optic cup", (), {"above": closed})


def _comparison(aspect: str, one: str, other: str) -> Pool:
    words, (a, b) = load_words(), (with_article(one), with_article(other))
    predicate = str(words.compare[aspect]["says"])
    return Pool(
        f"compare {aspect}",
        f"{one}, {other}",
        [frame.format(a=a, b=b) for frame in words.asks("compare", aspect)],
        {one: [question(one, predicate.format(b=b))], other: [question(other, predicate.format(b=a))]},
    )


def _partners(scene: Scene, one: Thing, other: Thing, value: str, said: str) -> _Found:
    for known, asked in ((one, other), (other, one)):
        larger = "the other" if value == asked.name else "the one before"
        item = Item(scene, (known, asked), larger, said, (known,))
        yield ("partner", known.name), functools.partial(_partner, known.name), item


def _partner(name: str) -> Pool:
    return Pool("partner of an earlier region", name, (), {"the other": load_words().image["partner"]["closed"]})


def _about_images(scenes: Iterable[Scene]) -> _Found:
    targets, modalities = taxonomy.load_targets(), taxonomy.load_modalities()
    images = load_words().image
    every = tuple(scenes)
    entities = sorted({thing.entity for scene in every for thing in scene.things if home_of(thing.entity)})
    shown = Pool("shown", "", images["shown"]["ask"][:2], _closed("shown", entities), excludes=excludes)
    finding = Pool("finding", "", images["finding"]["ask"], excludes=excludes)
    technique = {name: _TECHNIQUES.get(name, each.full_name) for name, each in modalities.items()}
    told = {name: f"What is seen: {each.shows[0].lower()}{each.shows[1:]}" for name, each in modalities.items()}
    modality = Pool("modality", "", images["modality"]["ask"], excludes=_another_technique)
    modality.closed = {
        name: [frame.format(x=name) for frame in images["modality"]["closed"]] for name in technique.values()
    }
    body = Pool("body", "", images["body"]["ask"], excludes=_not_in_view)
    body.closed = {name: [frame.format(x=name) for frame in images["body"]["closed"]] for name in _HOMES.values()}
    sick = Pool("tuberculosis", "", images["tuberculosis"]["ask"], {"tuberculosis": images["tuberculosis"]["closed"]})
    dignity = Pool("dignity", "", images["dignity"]["ask"], {"malignant": images["dignity"]["closed"]})
    for scene in every:
        yield (modality.kind,), (lambda: modality), Item(scene, (), technique[scene.modality], told[scene.modality])
        for entity in sorted(scene.entities & set(entities)):
            things = tuple(thing for thing in scene.things if thing.entity == entity)
            if things and not entity.startswith("largest "):
                yield (shown.kind,), (lambda: shown), Item(scene, things, entity, targets[entity].fact)
        homes = {home_of(entity) for entity in scene.entities}
        if len(homes) == 1 and len(home := next(iter(homes))) == 1 and home <= set(_HOMES):
            said = f"It shows {' and '.join(with_article(name) for name in sorted(scene.entities)[:3])}."
            yield (body.kind,), (lambda: body), Item(scene, (), _HOMES[next(iter(home))], said)
        if scene.disease and len(scene.things) == 2:
            said = f"Taken as a whole, the lungs read as {scene.disease}."
            yield (sick.kind,), (lambda: sick), Item(scene, scene.things, scene.disease, said)
        if len(scene.things) == 1 and targets[scene.things[0].entity].kind == "finding":
            thing = scene.things[0]
            if home_of(thing.entity):
                yield (
                    (finding.kind,),
                    (lambda: finding),
                    Item(scene, (thing,), thing.entity, targets[thing.entity].fact),
                )
            kind, _, rest = thing.entity.partition(" ")
            if rest == "breast tumor":
                seen = {name: fact for name, fact in facts(thing, scene).items() if name in ("shape", "edge")}
                said = " ".join([*(fact[1] for fact in seen.values()), f"Taken as a whole, it reads as {kind}."])
                known = Thing(rest, thing.entity, thing.box, thing.seen)  # its name would give the diagnosis away
                yield (
                    (dignity.kind,),
                    (lambda: dignity),
                    Item(scene, (known,), kind, said or targets[thing.entity].fact),
                )


def _closed(name: str, values: Iterable[str]) -> dict[str, Sequence[str]]:
    frames = load_words().image[name]["closed"]
    return {value: [subject(frame, value) for frame in frames] for value in values}


def _another_technique(scene: Scene, value: str) -> bool:
    own = _TECHNIQUES.get(scene.modality, taxonomy.load_modalities()[scene.modality].full_name)
    return own != value and {own, value} != {"radiography", "mammography"}  # a mammogram is a radiograph


def _not_in_view(scene: Scene, value: str) -> bool:
    return next(part for part, name in _HOMES.items() if name == value) not in scene.parts
