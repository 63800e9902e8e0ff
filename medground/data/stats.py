"""The figures of a data set, as its table in a paper has them, from one pass over the rows."""

from __future__ import annotations

import heapq
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from medground.coords import space_named
from medground.data.attributes import LARGE, SMALL, TINY
from medground.data.clashes import digest
from medground.data.pixels import Source, open_mask, rows_at
from medground.data.rows import Row
from medground.errors import ConfigError, TruthError

__all__ = ["Statistics", "statistics"]

_SPLITS = ("train", "val", "test", "")
_TEXTS = ("question", "reasoning", "short", "long")
_QUANTILES = (5, 25, 50, 75, 95)
_GRAMS = (1, 2, 3)
_SIZES = ("tiny", "small", "medium-sized", "large")
_STEP = 10_000


@dataclass(frozen=True, slots=True)
class Statistics:
    """The figures, and two ways to show them.

    Parameters
    ----------
    values : dict
        Tables by name, in JSON's types. Counts are of rows where nothing else is said; columns are splits, ``"all"``
        first, and ``"none"`` where a row has no split.
    """

    values: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return the figures, ready for JSON."""
        return self.values

    def to_markdown(self) -> str:
        """Return the figures as Markdown tables."""
        told, splits = self.values, list(self.values["size"])
        parts = [_table(["", *splits], [[name, *counts.values()] for name, counts in _by_name(told["size"], splits)])]
        groups = list(dict.fromkeys(name for row in told["modalities"].values() for name in row))
        groups.sort(key=lambda name: (-sum(row.get(name, 0) for row in told["modalities"].values()), name))
        rows = [
            [name, *(row.get(group, "") for group in groups), sum(row.values())]
            for name, row in told["modalities"].items()
        ]
        parts += ["## Modality by super-category", _table(["modality", *groups, "all"], rows)]
        rows = [[name, *row.values()] for name, row in told["categories"].items()]
        parts += ["## Categories", _table(["category", "super-category", *splits, "% of train"], rows)]
        quantiles = [f"{share} %" for share in _QUANTILES]
        rows = [[name, *row.values()] for name, row in told["words"].items()]
        parts += ["## Length in words", _table(["text", "rows", "mean", *quantiles, "longest"], rows)]
        target = told["targets"]
        rows = [[name, *(target[kind][name] for kind in ("rows", "share"))] for name in _SIZES]
        spread = ", ".join(f"{name} {value:.2%}" for name, value in target["quantiles"].items())
        parts += ["## Size of targets", _table(["size", "rows", "share"], rows)]
        parts.append(
            f"Share of the picture that the target covers: {spread}. By the mask for {target['by mask']:,} rows, "
            f"by the box for {target['by box']:,}."
        )
        rows = [[name, *counts.values()] for name, counts in told["styles"].items()]
        parts += ["## Styles", _table(["style", *splits], rows)]
        rows = [[name, *values.values()] for name, values in told["distinct"].items()]
        head = ["text", "texts", "distinct", *(f"distinct {count}-grams" for count in _GRAMS)]
        parts += ["## Variety", _table(head, rows)]
        shared = told["templates"]["shared with train"]
        if any(told["templates"]["distinct"].values()):
            parts.append(
                f"Templates: {', '.join(f'{count} in {name}' for name, count in told['templates']['distinct'].items())}"
                f"; also in train: {', '.join(f'{count} of {name}' for name, count in shared.items()) or 'none'}."
            )
        for title, key in (("Sources", "sources"), ("Licences", "licences")):
            rows = [[name, *counts.values()] for name, counts in told[key].items()]
            head = [key.removesuffix("s"), "rows", "pictures", *(["licences"] if key == "sources" else [])]
            parts += [f"## {title}", _table(head, rows)]
        return "\n\n".join(parts) + "\n"


def statistics(
    source: Source, *, root: Any = None, masks: bool = True, sample: int = 10_000, progress: Any = None
) -> Statistics:
    """Count what a data set holds.

    Rows stream by; what stays are digests of pictures and patients, counts, and the texts of `sample` rows.

    Parameters
    ----------
    source : path, paths or iterable of Row
        Parquet files or folders of them, in U-MRG's layout; or rows.
    root : path, optional
        The folder at which relative paths start: each file's own by default.
    masks : bool
        Measure targets by their masks, which are read for it. Without, and where there is none, the box is measured.
    sample : int
        Rows whose texts are compared for variety: a share of distinct n-grams falls with the number of texts, so it is
        taken of the same number in each set. Which rows, their ids decide, and not their order.
    progress : callable, optional
        Is given the number of rows so far.

    Returns
    -------
    Statistics

    Raises
    ------
    ConfigError, TruthError
        When there is no row, or one can't be read; ``medground data validate`` names all of those.

    Examples
    --------
    >>> from medground.data.rows import Picture
    >>> row = Row(id="1", question="What filters blood?", image=Picture(path="a.png"), box=(0, 0, 10, 10),
    ...           image_size=(100, 100), category="kidney left", modality="CT", split="train")
    >>> told = statistics([row]).to_dict()
    >>> told["size"]["train"]["rows"], told["words"]["question"]["mean"], told["targets"]["rows"]["tiny"]
    (1, 3.0, 1)
    """
    counts = _Counts(sample)
    for row, home in rows_at(source, root):
        counts.add(row, home, masks)
        if progress is not None:
            progress(counts.total)
    if not counts.total:
        raise ConfigError("there is no row to count; give a file with rows")
    return Statistics(counts.values())


@dataclass(slots=True)
class _Counts:
    sample: int
    total: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    absent: Counter[str] = field(default_factory=Counter)
    healthy: Counter[str] = field(default_factory=Counter)
    pictures: dict[str, set[bytes]] = field(default_factory=dict)
    patients: dict[str, set[bytes]] = field(default_factory=dict)
    modalities: Counter[tuple[str, str]] = field(default_factory=Counter)
    categories: Counter[tuple[str, str]] = field(default_factory=Counter)
    groups: dict[str, str] = field(default_factory=dict)
    styles: Counter[tuple[str, str]] = field(default_factory=Counter)
    templates: dict[str, set[str]] = field(default_factory=dict)
    words: dict[str, Counter[int]] = field(default_factory=dict)
    shares: Counter[int] = field(default_factory=Counter)
    measured: Counter[str] = field(default_factory=Counter)
    sources: dict[str, tuple[Counter[str], set[bytes]]] = field(default_factory=dict)
    licences: dict[str, tuple[Counter[str], set[bytes]]] = field(default_factory=dict)
    texts: list[tuple[int, str, str]] = field(default_factory=list)

    def add(self, row: Row, home: Any, masks: bool) -> None:
        self.total += 1
        split = row.split
        self.rows[split] += 1
        self.absent[split] += row.absent
        self.healthy[split] += row.healthy is True
        picture = (
            blake2b(row.image.data, digest_size=12).digest()
            if row.image.data
            else digest(os.path.join(home, row.image.path or ""))
        )
        self.pictures.setdefault(split, set()).add(picture)
        if row.group:
            self.patients.setdefault(split, set()).add(digest(row.group))
        self.modalities[row.modality or "unknown", row.supercategory or "unknown"] += 1
        category = row.category or "unknown"
        self.categories[category, split] += 1
        self.groups.setdefault(category, row.supercategory)
        self.styles[row.style or "unknown", split] += 1
        if row.template:
            self.templates.setdefault(split, set()).add(row.template)
        for name in _TEXTS:
            if text := getattr(row, name):
                self.words.setdefault(name, Counter())[len(text.split())] += 1
        if row.box is not None:
            self.shares[self._share(row, home, masks)] += 1
        for table, name, other in (
            (self.sources, row.source, row.licence),
            (self.licences, row.licence, row.source),
        ):
            others, pictures = table.setdefault(name or "unknown", (Counter(), set()))
            others[other or "unknown"] += 1
            pictures.add(picture)
        # The rows whose ids have the largest digests: the same ones whatever their order.
        drawn = (int.from_bytes(digest(row.id)), row.question, row.reasoning)
        if len(self.texts) < self.sample:
            heapq.heappush(self.texts, drawn)
        elif self.sample:
            heapq.heappushpop(self.texts, drawn)

    def _share(self, row: Row, home: Any, masks: bool) -> int:
        """Return the target's share of the picture, in ten-thousandths."""
        if masks and row.mask is not None:
            try:
                mask = open_mask(row.mask, home)
            except TruthError as error:
                raise TruthError(
                    f"row {row.id}: mask: {error}; or measure boxes alone, with masks=False (--no-masks)"
                ) from error
            self.measured["by mask"] += 1
            return round(float(mask.mean()) * _STEP)
        space = space_named(row.coordinates, *row.image_size)
        x1, y1, x2, y2 = row.box or (0, 0, 0, 0)
        self.measured["by box"] += 1
        return round(abs((x2 - x1) * (y2 - y1)) / (space.width * space.height) * _STEP)

    def values(self) -> dict[str, Any]:
        splits = [split for split in _SPLITS if self.rows[split]]

        def across(count: Callable[[str], int]) -> dict[str, int]:
            return {split or "none": count(split) for split in splits}

        def distinct(sets: Mapping[str, set[Any]]) -> dict[str, int]:
            whole = len(set().union(*sets.values()))
            return {"all": whole, **across(lambda split: len(sets.get(split, ())))}

        def summed(counts: Counter[str]) -> dict[str, int]:
            return {"all": counts.total(), **across(lambda split: counts[split])}

        def named(table: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
            names = Counter[str]()
            for (name, _), count in table.items():
                names[name] += count
            return {
                name: {"all": names[name], **across(lambda split, name=name: table[name, split])}  # type: ignore[misc]
                for name in sorted(names, key=lambda name: (-names[name], name))
            }

        size = {"rows": summed(self.rows), "pictures": distinct(self.pictures), "patients": distinct(self.patients)}
        size |= {"absent": summed(self.absent), "healthy": summed(self.healthy)}
        columns: dict[str, dict[str, Any]] = {
            split: {name: counts[split] for name, counts in size.items()} for split in ("all", *across(lambda _: 0))
        }
        for column in columns.values():
            column["absent %"] = _percent(column["absent"], column["rows"])
        trained = max(self.rows["train"], 1)
        return {
            "size": columns,
            "modalities": _nested(self.modalities),
            "categories": {
                name: {
                    "supercategory": self.groups[name],
                    **counts,
                    "% of train": _percent(counts.get("train", 0), trained),
                }
                for name, counts in named(self.categories).items()
            },
            "words": {name: _length(self.words[name]) for name in _TEXTS if name in self.words},
            "targets": self._targets(),
            "styles": named(self.styles),
            "templates": {
                "distinct": across(lambda split: len(self.templates.get(split, ()))),
                "shared with train": {
                    split: len(self.templates.get(split, set()) & self.templates.get("train", set()))
                    for split in splits
                    if split in ("val", "test")
                },
            },
            "distinct": {
                name: _variety([text for text in texts if text])
                for name, texts in (
                    ("question", [question for _, question, _ in self.texts]),
                    ("reasoning", [reasoning for *_, reasoning in self.texts]),
                )
            },
            "sources": _origins(self.sources, others=True),
            "licences": _origins(self.licences, others=False),
        }

    def _targets(self) -> dict[str, Any]:
        edges = [round(edge * _STEP) for edge in (TINY, SMALL, LARGE)]
        found = Counter[str]()
        for share, count in self.shares.items():
            found[_SIZES[sum(share > edge for edge in edges)]] += count
        whole = max(found.total(), 1)
        return {
            "rows": {name: found[name] for name in _SIZES},
            "share": {name: round(found[name] / whole, 4) for name in _SIZES},
            "quantiles": {f"{share} %": value / _STEP for share, value in _quantiles(self.shares).items()},
            "by mask": self.measured["by mask"],
            "by box": self.measured["by box"],
        }


def _nested(counts: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    table: dict[str, dict[str, int]] = {}
    for (name, group), count in sorted(counts.items()):
        table.setdefault(name, {})[group] = count
    return dict(sorted(table.items(), key=lambda each: (-sum(each[1].values()), each[0])))


def _origins(table: Mapping[str, tuple[Counter[str], set[bytes]]], *, others: bool) -> dict[str, dict[str, Any]]:
    return {
        name: {"rows": found.total(), "pictures": len(pictures)} | ({"licences": sorted(found)} if others else {})
        for name, (found, pictures) in sorted(table.items(), key=lambda each: (-each[1][0].total(), each[0]))
    }


def _quantiles(counts: Counter[int]) -> dict[int, int]:
    """Return the smallest values that so many percent of all don't pass."""
    found: dict[int, int] = {}
    for share in _QUANTILES:
        below = 0
        for value in sorted(counts):
            below += counts[value]
            if below * 100 >= share * counts.total():
                found[share] = value
                break
    return found


def _length(counts: Counter[int]) -> dict[str, Any]:
    texts = counts.total()
    mean = round(sum(length * count for length, count in counts.items()) / texts, 1)
    return {"rows": texts, "mean": mean, **{f"{q} %": n for q, n in _quantiles(counts).items()}, "max": max(counts)}


def _variety(texts: Sequence[str]) -> dict[str, Any]:
    spoken = [text.casefold().split() for text in texts]
    values: dict[str, Any] = {"texts": len(texts)}
    values["distinct"] = round(len(set(map(tuple, spoken))) / max(len(texts), 1), 4)
    for count in _GRAMS:
        grams = [tuple(words[at : at + count]) for words in spoken for at in range(len(words) - count + 1)]
        values[f"distinct {count}-grams"] = round(len(set(grams)) / max(len(grams), 1), 4)
    return values


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 1) if whole else 0.0


def _by_name(columns: Mapping[str, Mapping[str, Any]], splits: Iterable[str]) -> list[tuple[str, dict[str, Any]]]:
    return [(name, {split: columns[split][name] for split in splits}) for name in columns["all"]]


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    def cell(value: Any) -> str:
        if isinstance(value, int):
            return f"{value:,}"
        return "; ".join(value) if isinstance(value, list) else str(value)

    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(each.replace("|", "\\|").replace("\n", " ") for each in cells) + " |"

    body = [[cell(value) for value in row] for row in rows]
    numbers = [all(not row[at][:1].isalpha() for row in body) for at in range(len(head))]
    marks = ["---:" if number and at else "---" for at, number in enumerate(numbers)]
    return "\n".join([line(head), line(marks), *map(line, body)])
