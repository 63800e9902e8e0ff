"""What a set of visual questions holds, counted, and the card that says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from medground import RESEARCH_USE
from medground.answers import chosen, yes_or_no
from medground.data.vqa.textonly import ABOVE_CHANCE, TextOnly
from medground.data.vqa_rows import VqaRow

__all__ = ["vqa_card", "vqa_statistics"]


def vqa_statistics(
    rows: Mapping[str, Sequence[VqaRow]], words: Iterable[TextOnly], refused: Mapping[str, int]
) -> dict[str, Any]:
    """Count what a set holds.

    Parameters
    ----------
    rows : mapping of str to sequence of VqaRow
        By the split.
    words : iterable of TextOnly
    refused : mapping of str to int
        Questions that weren't kept, by the reason.

    Returns
    -------
    dict
        As JSON holds it.
    """
    every = [row for listed in rows.values() for row in listed]
    closed = [row for row in every if row.question_type == "closed"]
    choice = [row for row in every if row.choices]
    letters = {
        kind: dict(
            sorted(
                Counter(
                    letter
                    for row in choice
                    if row.question_type == kind
                    for letter in chosen(row.answer, row.offered) or ()
                ).items()
            )
        )
        for kind in ("single_choice", "multi_choice")
    }
    offered = Counter(
        chr(ord("A") + i) for row in choice if row.question_type == "multi_choice" for i in range(len(row.choices))
    )
    return {
        "rows": {name: len(listed) for name, listed in rows.items()},
        "pictures": {name: len({row.image.path for row in listed}) for name, listed in rows.items()},
        "patients": {name: len({row.group for row in listed}) for name, listed in rows.items()},
        "types": {name: _counted(row.question_type for row in listed) for name, listed in rows.items()},
        "kinds": _counted(row.style for row in every),
        "modalities": _counted(row.modality for row in every),
        "sources": {
            source: {"rows": count, "licence": next(row.licence for row in every if row.source == source)}
            for source, count in _counted(row.source for row in every).items()
        },
        "subjects": len({row.other["subject"] for row in every}),
        "answers": {"yes": sum(yes_or_no(row.answer) is True for row in closed), "closed": len(closed)},
        "letters": letters,
        "letters offered in multi_choice": dict(sorted(offered.items())),
        "choices": _counted(str(len(row.choices)) for row in choice),
        "regions": _counted(str(len(row.regions)) for row in every),
        "follow-ups": sum("earlier" in row.other for row in every),
        "different questions": len({row.question for row in every}),
        "thought_by": _counted(row.other["thought_by"] for row in every),
        "words of thinking": [
            int(each) for each in np.percentile([len(row.thinking.split()) for row in every], (5, 50, 95))
        ],
        "refused": dict(sorted(refused.items())),
        "text only": [
            {
                "type": each.question_type,
                "trained": each.trained,
                "asked": each.asked,
                "accuracy": round(each.accuracy, 4),
                "chance": round(each.chance, 4),
                "classifier": each.classifier,
                "balanced": each.balanced,
            }
            for each in words
        ],
    }


def _counted(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items(), key=lambda pair: (-pair[1], pair[0])))


_CARD = """\
---
task_categories: [visual-question-answering, image-text-to-text]
tags: [medical, grounding, reasoning, visual-question-answering]
configs:
- config_name: default
  data_files:
{files}
---

# Visual questions with regions

{rows:,} questions about {pictures:,} medical pictures, each with its answer, a reason, the regions that the answer
rests on, and a thinking text that names and boxes exactly those regions. {research_use}

## How it was made

Masks and what was measured of them (place, area, brightness against the surroundings, shape, edge, sides), diagnoses
that come with a collection, and what certainly isn't in view became questions of four types. No value is asked for that
lies near the border to the next one. Wording and thinking: {thought_by}. Seed {seed}.

**Balance by blocks.** Questions come in blocks: the very same words, asked of two to six pictures of one split that
answer them differently. Wrong choices are the right ones of the block's other pictures. The two pictures of a
multi-choice block have opposite truths in every statement. {follow_ups:,} questions take regions as found before
(`other`, `earlier`).

**Checked.** A block was kept when each of its rows' own completion earns full marks of the `thinkvg` rewards, in pixels
and on 0-1000. {refused}

## What it holds

{types}

Closed questions: {yes:.1%} are answered by yes. Letters of single choice: {single}. Multi choice, the share of
questions with this letter in which it is right: {multi}. Numbers of choices: {choices}. Regions in an answer:
{regions}. Words of a thinking, 5 % / median / 95 %: {words}. {questions:,} different questions.

Kinds: {kinds}.

Modalities: {modalities}.

## What the words alone give

Bag-of-words classifiers (logistic regression on words, pairs of words, choices with letters, choices crossed with the
question's words) learned from train and were asked about the other splits; the best one counts.

{text_only}

*Chance*: the commoner answer (closed), one over the choices (single), the commonest set of letters (multi), the
commonest answer to that kind of question (open). The bound is chance and {above:g} points.

## Licences

Pictures and masks have the licences of their collections, which isn't legal advice; see there before you use them.

{licences}

## Limits

- Statements are about what masks and grey levels show. Diagnoses (benign or malignant, tuberculosis, kinds of
  tumor and bleeding) are the collections' labels; nothing that the thinking describes proves them.
- Left and right of a patient are known for some collections alone; elsewhere they are the picture's.
- Answers about place and share of the picture hold for the picture as it is: don't crop or flip it.
- The regions of questions about what isn't in view, the technique and the part of the body are none.
"""


def vqa_card(told: Mapping[str, Any]) -> str:
    """Return the card's Markdown, a function of the statistics alone."""
    rows, kinds = told["rows"], ("open", "closed", "single_choice", "multi_choice")
    table = [["split", "rows", "pictures", "patients", *kinds]]
    for name, count in rows.items():
        types = [
            f"{told['types'][name].get(kind, 0):,} ({told['types'][name].get(kind, 0) / count:.0%})" for kind in kinds
        ]
        table.append([name, f"{count:,}", f"{told['pictures'][name]:,}", f"{told['patients'][name]:,}", *types])
    single, multi = told["letters"]["single_choice"], told["letters"]["multi_choice"]
    offered = told["letters offered in multi_choice"]
    text_only = [["type", "learned from", "asked", "accuracy", "chance", "classifier", "within the bound"]]
    text_only += [
        [
            each["type"],
            f"{each['trained']:,}",
            f"{each['asked']:,}",
            f"{each['accuracy']:.1%}",
            f"{each['chance']:.1%}",
            each["classifier"],
            "yes" if each["balanced"] else "**no**",
        ]
        for each in told["text only"]
    ]
    licences = [["collection", "rows", "licence"]]
    licences += [[name, f"{each['rows']:,}", each["licence"] or "not known"] for name, each in told["sources"].items()]
    refused = ", ".join(f"{count:,} for {why}" for why, count in told["refused"].items())
    splits = {"val": "validation", "all": "train"}
    return _CARD.format(
        files="\n".join(f"  - split: {splits.get(name, name)}\n    path: {name}.parquet" for name in rows),
        rows=sum(rows.values()),
        pictures=sum(told["pictures"].values()),
        research_use=RESEARCH_USE,
        thought_by=_listed(told["thought_by"]),
        seed=told["settings"]["seed"],
        follow_ups=told["follow-ups"],
        refused=f"Left out with their blocks: {refused}." if refused else "None was left out.",
        types=_table(table),
        yes=told["answers"]["yes"] / max(told["answers"]["closed"], 1),
        single=", ".join(f"{letter} {count / sum(single.values()):.1%}" for letter, count in single.items()),
        multi=", ".join(f"{letter} {multi.get(letter, 0) / count:.1%}" for letter, count in offered.items()),
        choices=_listed(told["choices"]),
        regions=_listed(told["regions"]),
        words=" / ".join(map(str, told["words of thinking"])),
        questions=told["different questions"],
        kinds=_listed(told["kinds"]),
        modalities=_listed(told["modalities"]),
        text_only=_table(text_only) if told["text only"] else "Too few rows to tell.",
        above=100 * ABOVE_CHANCE,
        licences=_table(licences),
    )


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _table(lines: Sequence[Sequence[str]]) -> str:
    head, *rows = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([head, f"|{' --- |' * len(lines[0])}", *rows])
