"""Third stage of a build: an implicit question, its reasoning and its answer for each target, in several styles.

On the command line ``medground data ask OUT``; it reads ``OUT/describe`` and writes ``OUT/ask``. What a gate refuses
goes to ``OUT/ask/part-NNNNN.refused.jsonl``, with the reason.
"""

from __future__ import annotations

import functools
import itertools
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medground import taxonomy
from medground._io import write_json
from medground.data.gates import plain_question, refuse
from medground.data.grammar import Grammar, Words
from medground.data.plan import Missing, Quota, brief, make_plan
from medground.data.stages import StageReport, part_paths, read_parts, run_stage, stage_digest, stage_root

__all__ = ["LONG", "ask", "ask_shard", "reasons"]

LONG = 0.35
"""How often a question has two phrases instead of one."""

Record = dict[str, Any]


def ask_shard(
    shard: tuple[str, Mapping[str, int], Sequence[Missing]], *, seed: int, words: Words
) -> dict[str, list[Record]]:
    """Ask the questions of one part.

    Parameters
    ----------
    shard : tuple
        The part of the stage before, how many questions each target gets, and what its pictures are asked for in vain.
    seed : int
    words : Words

    Returns
    -------
    dict
        Question records, and under ``"refused"`` what a gate refused, with the field ``refused``.
    """
    part, questions, missing = shard
    waiting: dict[str, list[Missing]] = {}
    for each in missing:
        waiting.setdefault(each.host, []).append(each)
    kept: list[Record] = []
    refused: list[Record] = []
    for _, group in itertools.groupby(read_parts(part), key=lambda record: record["picture"]):
        records = list(group)
        seen: set[str] = set()  # questions of this picture
        for request in _requests(records, questions, waiting, seed):
            record = _asked(request, seed, words, seen)
            (refused if "refused" in record else kept).append(record)
    return {"": kept, "refused": refused}


def _requests(
    records: Sequence[Record], questions: Mapping[str, int], waiting: Mapping[str, Sequence[Missing]], seed: int
) -> Iterator[Record]:
    """Yield what is wanted of a picture, one question at a time; see `medground.data.grammar.Words.ask`."""
    largest = sorted(records, key=lambda record: (-record["share"], record["id"]))
    seen = list(dict.fromkeys(taxonomy.target_of(record["category"]).name for record in largest))
    for record in records:
        held_out = record["split"] in ("val", "test")
        side, common = record["attributes"]["side"], {"held_out": held_out, "seen": seen}
        if number := questions.get(record["id"], 0):
            rng = random.Random(f"{seed}/ask/{record['id']}")  # noqa: S311 - phrasing, not secrets
            styles = _styles(record["category"], record["modality"], held_out, rng)
            for index in range(number):
                yield {
                    **record,
                    **common,
                    "id": f"{record['id']}/q{index + 1}",
                    "absent": False,
                    "style": styles[index % len(styles)],
                    "length": "long" if rng.random() < LONG else "short",
                    "side": side,
                    "looks_in": record["modality"],
                    "home": None,
                }
        for each in waiting.get(record["id"], ()):
            name = taxonomy.target_of(each.category).name
            styles = sorted(_known(each.category, each.looks_in, held_out))
            own = f"{record['picture']}/absent/{name.replace(' ', '-')}"
            rng = random.Random(f"{seed}/ask/{own}")  # noqa: S311 - phrasing, not secrets
            yield {
                **record,
                **common,
                "id": own,
                "category": each.category,
                "absent": True,
                "style": styles[each.turn % len(styles)],
                "length": "long" if rng.random() < LONG else "short",
                "side": each.side,
                "looks_in": each.looks_in,
                "home": each.home,
            }


def _styles(category: str, modality: str, held_out: bool, rng: random.Random) -> list[str]:
    """Return the styles that an entity has phrases of, in a random order."""
    styles = _known(category, modality, held_out)
    rng.shuffle(styles)
    return styles


def _known(category: str, modality: str, held_out: bool) -> list[str]:
    phrases = taxonomy.unseen_phrases if held_out else taxonomy.phrases
    return list(phrases(taxonomy.target_of(category), modality))


def _asked(request: Record, seed: int, words: Words, seen: set[str]) -> Record:
    """Return the question record, with the field ``refused`` when no attempt passed the gates."""
    record: Record = {}
    for attempt in range(max(1, words.attempts)):
        rng = random.Random(f"{seed}/ask/{request['id']}/{attempt}")  # noqa: S311 - phrasing, not secrets
        said = words.ask(request, rng)
        record = _record(request, said, words.name)
        why = refuse(record)
        if why is None and plain_question(record["question"]) in seen:
            why = "the question was asked of this picture before"
        if why is None:
            seen.add(plain_question(record["question"]))
            return record
        record["refused"] = why
    return record


_OF_THE_TARGET: Record = {
    "bbox": None,
    "points": [],
    "mask": None,
    "parts": 0,
    "share": 0.0,
    "attributes": None,
    "facts": None,
    "short": "",
    "long": "",
    "described_by": "",
}


def _record(request: Record, said: Mapping[str, str], name: str) -> Record:
    wanted = {"held_out", "seen", "looks_in", "home"}
    record = {key: value for key, value in request.items() if key not in wanted}
    if request["absent"]:
        record |= _OF_THE_TARGET
    target = taxonomy.target_of(request["category"])
    return {
        **record,
        "question": said["question"],
        "reasoning": said["reasoning"],
        "template": said.get("template", ""),
        "asked_by": said.get("asked_by", name),
        "healthy": None if request["absent"] else target.healthy,
        "supercategory": target.supercategory,
    }


def ask(
    out: str | Path,
    *,
    seed: int = 0,
    quota: Quota | None = None,
    words: Words | None = None,
    workers: int = 0,
    **options: Any,
) -> StageReport:
    """Ask about the targets of ``OUT/describe``, into ``OUT/ask``.

    A question record is a described record with the fields ``question``, ``reasoning``, ``absent``, ``style``,
    ``length``, ``template``, ``side``, ``asked_by``, ``healthy`` and ``supercategory``; of an absent target, ``bbox``,
    ``mask``, ``facts`` and ``attributes`` are None, there are no points, and ``category`` is what was asked for.
    ``OUT/plan.json`` says what the plan weighed.

    Parameters
    ----------
    out : path
        The build's folder.
    seed : int
    quota : Quota, optional
        How large the build is, and its proportions.
    words : Words, optional
        What finds the words: the offline grammar by default.
    workers : int
        Processes; 0 for one a core.
    **options
        ``ray``, ``restart``, ``progress``; see `run_stage`.

    Raises
    ------
    ConfigError
        When the stage before is missing or incomplete, or this one is there with other settings.
    StageError
        When some shards failed.
    """
    words, quota = words or Grammar(seed), quota or Quota()
    before = Path(out) / "describe"
    parts = part_paths(before)
    briefs = [brief(record, number) for number, part in enumerate(parts) for record in read_parts(part)]
    plan = make_plan(briefs, len(parts), quota, seed)
    write_json(Path(out) / "plan.json", plan.log)
    shards = [(str(part), plan.questions[number], plan.missing[number]) for number, part in enumerate(parts)]
    return run_stage(
        "ask",
        shards,
        functools.partial(ask_shard, seed=seed, words=words),
        out,
        settings={"describe": stage_digest(before), "seed": seed, "words": words.name, **asdict(quota)},
        about={"root": stage_root(before)},
        workers=workers,
        **options,
    )


def reasons(out: str | Path) -> Counter[str]:
    """Return how many questions were refused, by the kind of the reason."""
    return Counter(record["refused"].split(":")[0] for record in read_parts(Path(out) / "ask", "refused"))
