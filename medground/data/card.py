"""The card of a build: what it is, how it was made, what it holds, what it may not be used for."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medground import RESEARCH_USE, taxonomy
from medground.data.gates import CENTRE, centre_share, chance_share
from medground.data.review.decisions import ReviewReport
from medground.data.rows import Row
from medground.data.schema import read_rows
from medground.data.stages import read_stage
from medground.data.stats import Statistics

__all__ = ["data_card", "shortcuts"]

_HEAD = """\
---
task_categories: [image-text-to-text, image-segmentation]
tags: [medical, grounding, reasoning]
configs:
- config_name: default
  data_files:
{files}
---

# {title}

{rows:,} questions that a clinician or a patient might ask of {pictures:,} medical pictures, none of which names what
it asks for; for each the reasoning, a box, two key points and a pixel mask, or the answer that it isn't there. The
layout is that of U-MRG. {research_use}

## How it was made

Masks of the collections below became targets (largest component, box, two key points). What a description or a
reasoning says of a target was measured from its pixels: place, size, brightness against its surroundings, shape. The
words are those of {words}; knowledge is that of medground's taxonomy. Validation and test questions are put in frames
and phrases that no training question has. Splits are by patient{twins}. Seed {seed}.

A gate let a question pass when it doesn't name its target or a synonym, every claim of its reasoning that can be
checked is true, and the right answer with that reasoning earns full marks of the `medground` reward. {refused} {review}

## Absent targets

{absent:.1%} of the rows ask for what certainly isn't in the picture: an entity of another part of the body than any
that the picture's collection shows, or, except for pictures of a surface, than what lies next to those. Such questions
are put in the same frames and phrases, and each entity is asked for in vain about as often as its own rows are of the
split.

{pairs}

## Shortcuts that were looked for

{shortcuts}

## What it holds

{statistics}
## Limits

- Left and right of a patient are known for some collections alone; elsewhere sides are those of the picture.
- Masks are the collections' own, with their faults; some of them are circles, or low in resolution.
- The words of a grammar are fewer than people's. Reasoning states what can be measured, and no diagnosis.
- Absent targets of a picture's own modality are too few, so many are of another one, which is easier to tell.
- Licences differ by source, and some say nothing; the table has what could be learned, which isn't legal advice.
"""


def data_card(
    out: Path,
    title: str,
    told: Statistics,
    files: Sequence[Path],
    review: ReviewReport,
    refused: Mapping[str, int],
) -> str:
    """Return the card's Markdown, a function of the build's files alone.

    Parameters
    ----------
    out : path
        The build's folder.
    title : str
    told : Statistics
        Of `files`.
    files : sequence of path
        One parquet file a split.
    review : ReviewReport
    refused : mapping of str to int
        How many questions the gates kept out, by the kind of the reason.
    """
    size = told.to_dict()["size"]["all"]
    settings = read_stage(out / "ask")["settings"]
    kept_out = ", ".join(f"{count:,} because {why}" for why, count in sorted(refused.items()))
    decided = review.accepted + review.edited + review.rejected
    return _HEAD.format(
        files="\n".join(f"  - split: {_hub_split(path.stem)}\n    path: {path.name}" for path in files),
        title=title,
        rows=size["rows"],
        pictures=size["pictures"],
        research_use=RESEARCH_USE,
        words=f"`{settings['words']}`",
        seed=settings["seed"],
        refused=f"It kept out {kept_out}." if kept_out else "It kept out none.",
        review=(
            f"People accepted {review.accepted:,}, edited {review.edited:,} and rejected {review.rejected:,}."
            if decided
            else "No person has reviewed them."
        ),
        absent=size["absent"] / size["rows"],
        pairs=_pairs(out),
        twins=_twins(out),
        shortcuts=shortcuts(files),
        statistics=told.to_markdown().replace("\n## ", "\n### "),
    )


def _hub_split(stem: str) -> str:
    return {"val": "validation", "all": "train"}.get(stem, stem)


def _twins(out: Path) -> str:
    """Return how many pictures were left out because a split that isn't to see them has their like."""
    path = out / "plan.json"
    plan = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    count = sum(len(split["pictures like another split's, left out"]) for split in plan.values())
    return f"; {count} pictures that look like one of a later split (train, val, test) were left out" if count else ""


def _pairs(out: Path) -> str:
    """Return which modality was asked for what in vain, as a table of counts by the entity's super-category."""
    path = out / "plan.json"
    if not path.is_file():
        return ""
    plan = json.loads(path.read_text(encoding="utf-8"))
    counts: Counter[tuple[str, str]] = Counter()
    for split in plan.values():
        for pair, number in split["absent pairs"].items():
            name, _, collection = pair.partition(" on ")
            counts[collection, taxonomy.load_targets()[name].supercategory] += number
    groups = sorted({group for _, group in counts})
    lines = [["asked of pictures of", *groups, "all"]]
    for collection in sorted({where for where, _ in counts}):
        row = [counts[collection, group] for group in groups]
        lines.append([collection, *(str(number) if number else "" for number in row), str(sum(row))])
    return _table(lines)


def shortcuts(files: Iterable[Path]) -> str:
    """Return how far the words, the picture's origin or a centre box alone would lead, as Markdown.

    Parameters
    ----------
    files : iterable of path
        One parquet file a split.
    """
    lines = [["split", "centre box", "chance", "frames", "entities", "collections", "styles"]]
    for path in files:
        boxes: list[list[float]] = []
        seen: dict[str, Counter[tuple[str, bool]]] = {
            name: Counter() for name in ("template", "entity", "source", "style")
        }
        for row in read_rows(path):
            if row.box is not None:
                width, height = row.image_size
                boxes.append([side / scale for side, scale in zip(row.box, (width, height) * 2, strict=True)])
            for name, value in _kinds(row).items():
                seen[name][value, row.absent] += 1
        table = np.array(boxes, np.float64).reshape(-1, 4)
        ranges = [_range(seen[name]) for name in ("template", "entity", "source", "style")]
        lines.append([path.stem, f"{centre_share(table):.1%}", f"{chance_share(table):.1%}", *ranges])
    half = f"{CENTRE[2] - CENTRE[0]:g}"
    return (
        f"*Centre box*: the share of rows that a box in the picture's middle, {half} times as wide and high, answers "
        "with an IoU above 0.5; *chance*: the share that the box of another row answers, as boxes are shuffled among "
        "pictures. The other columns are the smallest and the largest share of absent rows among the frames, the "
        "entities, the collections and the styles that have 50 rows and more.\n\n" + _table(lines)
    )


def _kinds(row: Row) -> dict[str, str]:
    return {
        "template": row.template,
        "entity": taxonomy.target_of(row.category).name,
        "source": f"{row.source} {row.modality}",
        "style": row.style,
    }


def _range(counts: Counter[tuple[str, bool]], least: int = 50) -> str:
    shares = [
        counts[value, True] / (counts[value, True] + counts[value, False])
        for value in sorted({value for value, _ in counts})
        if counts[value, True] + counts[value, False] >= least
    ]
    return f"{min(shares):.1%} to {max(shares):.1%}" if shares else ""


def _table(lines: Sequence[Sequence[Any]]) -> str:
    head, *rows = [f"| {' | '.join(map(str, line))} |" for line in lines]
    return "\n".join([head, f"|{' --- |' * len(lines[0])}", *rows])
