"""Visual questions of a whole build: facts, questions in balanced blocks, rows that the rewards verify, files, a card.

On the command line ``medground data vqa BUILD``; it reads ``BUILD/describe`` and writes ``BUILD/vqa``.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from medground._io import alone, make_folder, write_json, write_text
from medground.answers import QuestionType
from medground.data.layouts.vqa import export_vqa_rows
from medground.data.rows import RowSplit
from medground.data.stages import stage_digest, stage_root
from medground.data.vqa.blocks import Draft, Drawer, blocks
from medground.data.vqa.card import vqa_card, vqa_statistics
from medground.data.vqa.making import GRAMMAR, lacking, row_of
from medground.data.vqa.pools import pools_of
from medground.data.vqa.scene import Scene, read_scenes
from medground.data.vqa.statements import multi_blocks
from medground.data.vqa.textonly import TextOnly, text_only
from medground.data.vqa.thinking import thinking_of
from medground.data.vqa_rows import VqaRow
from medground.errors import ConfigError

if TYPE_CHECKING:
    from medground.data.vqa.writing import Thinker

__all__ = ["PER_PICTURE", "SHARES", "VqaReport", "build_vqa", "draft_split"]

SHARES: dict[QuestionType, float] = {"open": 0.30, "closed": 0.18, "single_choice": 0.26, "multi_choice": 0.26}
"""How many of the questions are of each type, as in GEMeX-ThinkVG."""

PER_PICTURE = 2.5
"""Questions for each picture, on average, where nothing else is asked for."""

MOST = 16
"""Questions about one picture, after which no block of more is begun."""

_AT_ONCE = 64  # blocks that a model thinks about together

_SPLITS: tuple[RowSplit, ...] = ("train", "val", "test", "")


@dataclass(frozen=True, slots=True)
class VqaReport:
    """What was written.

    Parameters
    ----------
    folder : Path
    rows : dict of str to int
        Rows of each split.
    refused : dict of str to int
        Questions that weren't kept, by the term of the rewards that their block fell short of.
    text_only : list of TextOnly
        How far the words alone lead, for each type of question; empty where there are too few rows to tell.
    """

    folder: Path
    rows: dict[str, int]
    refused: dict[str, int]
    text_only: list[TextOnly]


def build_vqa(
    build: str | Path,
    out: str | Path | None = None,
    *,
    rows: int | None = None,
    seed: int = 0,
    embed: bool = False,
    thinker: Thinker | None = None,
    progress: Callable[[int], None] | None = None,
) -> VqaReport:
    """Make the visual questions of a build.

    Parameters
    ----------
    build : path
        The build's folder, described.
    out : path, optional
        Gets ``{train,val,test}.parquet`` in `VqaRow`'s own layout, ``statistics.json`` and the card, ``README.md``.
        ``BUILD/vqa`` by default.
    rows : int, optional
        How many questions in all, spread over the splits by their pictures; `PER_PICTURE` for each by default. There
        are fewer when the pictures give no more.
    seed : int
        The same build, seed and number give the same bytes.
    embed : bool
        Put the pictures into the files.
    thinker : Thinker, optional
        Writes the thinking instead of the offline grammar; it keeps what it wrote, so a run that was killed goes on.
    progress : callable, optional
        Is told how many rows there are.

    Returns
    -------
    VqaReport

    Raises
    ------
    ConfigError
        When the build isn't described, gives no question, or the folder can't be written.
    MissingExtraError
        When scikit-learn isn't installed, which measures how far the words alone lead.
    ReasonerError, CostError
        When the thinker's server fails, or its costs reach their bound.
    """
    build = Path(build)
    root = stage_root(build / "describe")
    if rows is not None and rows < 1:
        raise ConfigError(f"rows must be 1 or more, not {rows}")
    scenes = read_scenes(build)
    wanted = PER_PICTURE * len(scenes) if rows is None else rows
    folder = make_folder(build / "vqa" if out is None else out)
    refused: Counter[str] = Counter()
    numbers: Counter[str] = Counter()
    made: dict[str, list[VqaRow]] = {}
    with alone(folder):
        for split in _SPLITS:
            own = [scene for scene in scenes if scene.split == split]
            drafted = draft_split(own, round(wanted * len(own) / len(scenes)), seed=seed)
            before = sum(map(len, made.values()))
            kept: list[VqaRow] = []
            for start in range(0, len(drafted), _AT_ONCE):
                kept += _kept(drafted[start : start + _AT_ONCE], seed, thinker, numbers, refused)
                if progress is not None:
                    progress(before + len(kept))
            random.Random(f"{seed}/order/{split}").shuffle(kept)  # noqa: S311 - order, not secrets
            if kept:
                made[split or "all"] = kept
        if not made:
            raise ConfigError(
                f"{build}: its pictures give no question that could be balanced; build with more pictures, or ask for "
                "more rows"
            )
        files = [folder / f"{name}.parquet" for name in made]
        found = text_only(made)
        for path, listed in zip(files, made.values(), strict=True):
            export_vqa_rows(listed, path, root=root, embed=embed)
        for name in {split or "all" for split in _SPLITS} - made.keys():  # of an earlier run with other pictures
            (folder / f"{name}.parquet").unlink(missing_ok=True)
        told = vqa_statistics(made, found, refused)
        told["settings"] = {"build": stage_digest(build / "describe"), "seed": seed, "rows": rows}
        write_json(folder / "statistics.json", told)
        write_text(folder / "README.md", vqa_card(told))
    return VqaReport(folder, {name: len(listed) for name, listed in made.items()}, dict(refused), found)


def draft_split(scenes: Sequence[Scene], rows: int, *, seed: int) -> list[list[Draft]]:
    """Return blocks of questions about the pictures of one split, in the proportions of `SHARES`.

    Types with fewer questions to be had than their share stay below it.
    """
    drafted: list[list[Draft]] = []
    seen: set[tuple[Any, ...]] = set()
    split = scenes[0].split if scenes else ""
    drawer = Drawer(random.Random(f"{seed}/questions/{split}"), MOST)  # noqa: S311 - questions, not secrets
    pools = pools_of(scenes)
    for question_type in get_args(QuestionType):
        count = round(rows * SHARES[question_type])
        first = len(drafted)
        made = (
            multi_blocks(scenes, count, drawer, first)
            if question_type == "multi_choice"
            else blocks(pools, question_type, count, drawer, first)
        )
        for block in made:
            asked = {_asked(draft) for draft in block}
            if seen.isdisjoint(asked) and len(asked) == len(block):  # nothing is asked of a picture twice
                drafted.append(block)
                seen |= asked
    return drafted


def _asked(draft: Draft) -> tuple[Any, ...]:
    return draft.item.scene.picture, draft.question, draft.choices, tuple(each.box for each in draft.item.earlier)


def _kept(
    drafted: Sequence[Sequence[Draft]], seed: int, thinker: Thinker | None, numbers: Counter[str], refused: Counter[str]
) -> Iterator[VqaRow]:
    """Yield the rows of the blocks that are right in all of their rows: a block that lost one would lean."""
    drafts = [draft for block in drafted for draft in block]
    written = [None] * len(drafts) if thinker is None else thinker.write_all(drafts)
    rows: list[VqaRow] = []
    for draft, said in zip(drafts, written, strict=True):
        picture = draft.item.scene.picture
        numbers[picture] += 1
        rng = random.Random(f"{seed}/thinking/{picture}/{numbers[picture]}")  # noqa: S311 - wording
        by = GRAMMAR if said is None or thinker is None else thinker.name
        rows.append(row_of(draft, numbers[picture], said or thinking_of(draft, rng), by))
    left = iter(rows)
    for block in drafted:
        listed = list(itertools.islice(left, len(block)))
        if why := next(filter(None, map(lacking, listed)), ""):
            refused[why] += len(listed)
        else:
            yield from listed
