"""How many questions each target gets, and which pictures are asked for what isn't there.

The plan is made once for a whole build, from a few words of each described record; it is a function of those and of the
seed, so each shard of questions can be made on its own.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medground import taxonomy
from medground.data.absence import certainly_absent, home_words, shown
from medground.data.duplicates import ALIKE, look_alikes
from medground.data.gates import CENTRE, overlaps, too_central
from medground.data.sharing import share_out
from medground.errors import ConfigError

__all__ = ["Brief", "Missing", "Plan", "Quota", "brief", "make_plan"]

_KEPT = {"train": 1, "val": 2, "test": 3}
"""Of two pictures that look alike, the one in the later split is kept."""


@dataclass(frozen=True, slots=True)
class Quota:
    """How large a build is, and its proportions.

    Parameters
    ----------
    rows : int or None
        In all; split into train, val and test as the targets are. None: five for every three targets.
    cap : float
        The largest share of the training rows that one category may have.
    absent : float
        The share of each split's rows that ask for what isn't in the picture.
    most : int
        Questions that one target may get.
    centred : bool
        Leave out targets that the centre box answers (`medground.data.gates.CENTRE`), as many as it takes for it not to
        be worth more than chance.
    alike : int
        Leave out of train what looks like a picture of val or test, and of val what looks like one of test: the bits by
        which their hashes differ at most (`medground.data.duplicates`); -1 leaves nothing out.
    """

    rows: int | None = None
    cap: float = 0.12
    absent: float = 0.1
    most: int = 6
    centred: bool = True
    alike: int = ALIKE

    def __post_init__(self) -> None:
        if self.rows is not None and self.rows < 1:
            raise ConfigError(f"rows {self.rows} isn't a number of rows; give 1 or more")
        if not (0 < self.cap <= 1 and 0 <= self.absent < 0.5 and self.most >= 1):
            raise ConfigError(
                f"cap {self.cap}, absent {self.absent} and most {self.most} can't be met; cap lies above 0, up to 1, "
                "absent from 0 to below 0.5, most from 1"
            )


@dataclass(frozen=True, slots=True)
class Brief:
    """What the plan needs to know of a described record."""

    part: int
    id: str
    picture: str
    category: str
    name: str
    modality: str
    source: str
    split: str
    side: str | None
    box: tuple[float, float, float, float]
    look: bytes


@dataclass(frozen=True, slots=True)
class Missing:
    """A question for what isn't in a picture.

    Parameters
    ----------
    host : str
        A record of the picture.
    category : str
        What is asked for.
    looks_in : str
        The modality whose appearance phrases apply.
    side : str or None
        As questions about the entity have it where it is present.
    home : str or None
        Where it would be found, in words; None for cells.
    turn : int
        Which one of the split's it is: styles take turns, so that none is asked in vain more often than others.
    """

    host: str
    category: str
    looks_in: str
    side: str | None
    home: str | None
    turn: int


@dataclass(slots=True)
class Plan:
    """What is asked of each part of a build.

    Parameters
    ----------
    questions : list of dict of str to int
        For each part, how many questions each of its targets gets; those left out get none.
    missing : list of list of Missing
        For each part.
    log : dict
        What the plan weighed, as JSON can hold it.
    """

    questions: list[dict[str, int]]
    missing: list[list[Missing]]
    log: dict[str, Any] = field(default_factory=dict)


def brief(record: Mapping[str, Any], part: int) -> Brief:
    """Return what the plan needs of a described record."""
    x1, y1, x2, y2 = record["bbox"]
    width, height = record["width"], record["height"]
    return Brief(
        part,
        record["id"],
        record["picture"],
        record["category"],
        taxonomy.target_of(record["category"]).name,
        record["modality"],
        record["source"],
        record["split"],
        record["attributes"]["side"],
        (x1 / width, y1 / height, x2 / width, y2 / height),
        bytes.fromhex(record["look"]),
    )


def make_plan(briefs: Sequence[Brief], parts: int, quota: Quota, seed: int) -> Plan:
    """Plan the questions of a build.

    Within a split, every target gets one question, as long as no category exceeds the cap; then the categories with the
    fewest rows get more, up to `Quota.most` a target, until there are as many rows as wanted. Questions for absent
    targets follow: each entity is asked for where it isn't as often as its own rows are of the split, and each
    collection's pictures are asked for what they lack as often as their rows are, so that neither the words nor the
    picture alone tell absence; of the pairs that `certainly_absent` allows, those of one modality come first.

    Parameters
    ----------
    briefs : sequence of Brief
    parts : int
        How many parts the build has.
    quota : Quota
    seed : int

    Raises
    ------
    ConfigError
        When there are no targets.
    """
    if not briefs:
        raise ConfigError("there are no described targets to ask about; run the stages before, or mend the source")
    rows = quota.rows or len(briefs) * 5 // 3
    plan = Plan([{} for _ in range(parts)], [[] for _ in range(parts)])
    homes = _collections(briefs)
    twins = _twins(briefs, quota.alike)
    splits: dict[str, list[Brief]] = defaultdict(list)
    for each in briefs:
        if _key(each) not in twins:
            splits[each.split].append(each)
    for split in sorted(splits):
        own = round(rows * len(splits[split]) / len(briefs))
        rng = random.Random(f"{seed}/plan/{split}")  # noqa: S311 - a choice, not a secret
        present = max(1, round(own * (1 - quota.absent)))
        counts = _present(splits[split], present, quota, split == "train", rng, seed)
        for each in splits[split]:
            if counts[each.id]:
                plan.questions[each.part][each.id] = counts[each.id]
        wanted = round(sum(counts.values()) * quota.absent / (1 - quota.absent))
        pairs = _absent(splits[split], counts, wanted, homes, rng, plan)
        plan.log[split or "all"] = {
            "targets": len(splits[split]),
            "pictures like another split's, left out": sorted(
                {f"{each.source}: {each.picture}" for each in briefs if each.split == split and _key(each) in twins}
            ),
            "targets left out": sum(not counts[each.id] for each in splits[split]),
            "present": sum(counts.values()),
            "absent": sum(pairs.values()),
            "absent pairs": {
                f"{name} on {source} {modality}": number for (name, (source, modality)), number in sorted(pairs.items())
            },
        }
    return plan


def _key(each: Brief) -> tuple[str, str]:
    return each.source, each.picture


def _twins(briefs: Sequence[Brief], alike: int) -> set[tuple[str, str]]:
    """Return the pictures that look like one of a split which is to be kept from them: test's first, then val's."""
    if alike < 0:
        return set()
    pictures = {_key(each): each for each in briefs}
    names = sorted(pictures)
    splits = [pictures[name].split for name in names]
    found: set[tuple[str, str]] = set()
    for one, other, _ in look_alikes([pictures[name].look for name in names], splits, alike):
        first, second = _KEPT.get(splits[one], 0), _KEPT.get(splits[other], 0)
        if first and second:
            found.add(names[one] if first < second else names[other])
    return found


# -- what is there ----------------------------------------------------------------------------------------------------


def _present(
    briefs: Sequence[Brief], rows: int, quota: Quota, capped: bool, rng: random.Random, seed: int
) -> Counter[str]:
    """Return how many questions each target gets."""
    boxes = {each.id: each.box for each in briefs}
    central = overlaps(np.array([each.box for each in briefs]), np.array(CENTRE))
    by_category: dict[str, list[str]] = defaultdict(list)
    central_by_category: dict[str, list[str]] = defaultdict(list)
    for each, hit in zip(briefs, central, strict=True):
        (central_by_category if hit else by_category)[each.category].append(each.id)
    categories = sorted({*by_category, *central_by_category})
    for category in categories:
        rng.shuffle(by_category[category])
        rng.shuffle(central_by_category[category])
    kept = 1.0
    while True:
        # Rounded up, so that a category whose targets all lie in the middle keeps some.
        chosen = {
            category: by_category[category]
            + central_by_category[category][: int(np.ceil(kept * len(central_by_category[category])))]
            for category in categories
        }
        sizes = {category: len(chosen[category]) for category in categories}
        counts: Counter[str] = Counter()
        most = {
            # A tenth more than one tenth of a category's rows may come to ask where it is absent.
            category: min(size * quota.most, int(0.97 * quota.cap * rows) if capped else size * quota.most)
            for category, size in sizes.items()
        }
        for category, number in _level(sizes, most, rows).items():
            # Off-centre targets come first, so they get the larger share.
            every, more = divmod(number, sizes[category])
            for index, name in enumerate(chosen[category]):
                counts[name] = every + (index < more)
        listed = [boxes[name] for name in sorted(counts) for _ in range(counts[name])]
        if not quota.centred or kept < 0.02 or too_central(listed, seed=seed, errors=1.0) is None:
            return counts
        kept *= 0.9


def _level(sizes: Mapping[str, int], most: Mapping[str, int], rows: int) -> dict[str, int]:
    """Return how many rows each category gets: raise the smallest together until there are enough."""
    least = {category: min(sizes[category], most[category]) for category in sizes}
    enough = sum(least.values()) >= rows

    def at(level: int) -> dict[str, int]:
        if enough:
            return {category: min(least[category], level) for category in sizes}
        return {category: min(most[category], max(least[category], level)) for category in sizes}

    low, high = 0, max(most.values(), default=0)
    while low < high:  # the highest level that doesn't exceed what is wanted
        middle = (low + high + 1) // 2
        low, high = (middle, high) if sum(at(middle).values()) <= rows else (low, middle - 1)
    found, above = at(low), at(low + 1)
    for category in sorted(sizes, key=lambda each: (sizes[each], each)):
        if sum(found.values()) >= rows:
            break
        found[category] = above[category]
    return {category: max(number, 1) for category, number in found.items()}  # every category is there


# -- what isn't there -------------------------------------------------------------------------------------------------

_Collection = tuple[str, str]


def _collections(briefs: Iterable[Brief]) -> dict[_Collection, frozenset[str]]:
    """Return the parts of the body that each collection may show in each modality, judged by all its splits."""
    names: dict[_Collection, set[str]] = defaultdict(set)
    for each in briefs:
        names[each.source, each.modality].add(each.name)
    return {collection: shown(found, collection[1]) for collection, found in names.items()}


def _absent(
    briefs: Sequence[Brief],
    counts: Mapping[str, int],
    wanted: int,
    homes: Mapping[_Collection, frozenset[str]],
    rng: random.Random,
    plan: Plan,
) -> Counter[tuple[str, _Collection]]:
    """Add the questions for absent targets to the plan; return how many of each entity each collection gets."""
    asked: dict[str, list[Brief]] = defaultdict(list)  # each brief as often as it is asked about
    for each in briefs:
        asked[each.name] += [each] * counts[each.id]
    pictures: dict[_Collection, dict[str, Brief]] = defaultdict(dict)
    rows: Counter[_Collection] = Counter()
    for each in briefs:
        if counts[each.id]:
            pictures[each.source, each.modality].setdefault(each.picture, each)
            rows[each.source, each.modality] += counts[each.id]
    names = {name: len(found) for name, found in asked.items() if found}
    modalities = {name: {each.modality for each in asked[name]} for name in names}
    allowed = {
        (name, collection)
        for name in names
        for collection in rows
        if certainly_absent(name, homes[collection], collection[1])
    }
    pairs = share_out(names, rows, allowed, {pair for pair in allowed if pair[1][1] in modalities[pair[0]]}, wanted)
    sums: Counter[str] = Counter()
    for (name, _), number in pairs.items():
        sums[name] += number
    turns: Counter[str] = Counter()
    turn = 0
    for found in asked.values():
        found.sort(key=lambda each: (each.category, each.id))
    for collection in sorted(pictures):
        hosts = [pictures[collection][picture] for picture in sorted(pictures[collection])]
        rng.shuffle(hosts)
        place = 0
        for name in sorted(names):
            number = min(pairs[name, collection], len(hosts))  # a picture is asked for an entity once
            pairs[name, collection] = number
            for _ in range(number):
                # Evenly over the entity's rows, so that its sides come as often as where it is present.
                example = asked[name][turns[name] * len(asked[name]) // max(1, sums[name])]
                turns[name] += 1
                host = hosts[place % len(hosts)]
                place += 1
                plan.missing[host.part].append(
                    Missing(
                        host.id,
                        example.category,
                        _looks_in(example, collection[1]),
                        example.side,
                        home_words(name),
                        turn,
                    )
                )
                turn += 1
    return +pairs


def _looks_in(example: Brief, modality: str) -> str:
    known = taxonomy.phrases(taxonomy.target_of(example.category), modality)
    return modality if "appearance" in known else example.modality
