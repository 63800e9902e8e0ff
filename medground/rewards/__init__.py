"""What a completion is worth: pure functions without torch, put together by named recipes with open weights.

>>> truth = {"bbox_2d": [100, 100, 300, 200], "point_2d": [[150, 150], [250, 150]]}
>>> answer = '{"bbox": [100, 100, 300, 220], "points_1": [150, 150], "points_2": [250, 160]}'
>>> earned = score(f"<think>A pale band.</think><answer>{answer}</answer>", truth)
>>> {name: round(value, 3) for name, value in earned.items()}  # doctest: +NORMALIZE_WHITESPACE
{'format': 1.0, 'absence': 1.0, 'box': 0.85, 'points_dice': 0.936, 'points_inside': 1.0, 'honesty': 1.0, 'length': 1.0,
 'repetition': 1.0, 'score': 0.943}

docs/rewards.md shows each term's formula, its plot, and what hacking it would look like. Recipes: ``medground`` (ours),
``umrg-base``, ``umrg-soft``, ``umrg-hard`` (MedReasoner, arXiv 2508.08177) and ``thinkvg`` (GEMeX-ThinkVG, arXiv
2506.17939).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medground.coords import Space
from medground.errors import ConfigError, TruthError
from medground.rewards.evidence import Facts
from medground.rewards.grounding import gold, medground_recipe
from medground.rewards.recipe import Recipe
from medground.rewards.recipes import RECIPES, load_recipe
from medground.rewards.thinkvg import VqaTruth, thinkvg_recipe
from medground.rewards.truth import Truth, read_truth
from medground.types import Sample

__all__ = [
    "RECIPES",
    "Facts",
    "Recipe",
    "Truth",
    "TruthLike",
    "VqaTruth",
    "gold",
    "load_recipe",
    "medground_recipe",
    "read_truth",
    "score",
    "score_batch",
    "thinkvg_recipe",
]

TruthLike = Truth | VqaTruth | Sample | Mapping[str, Any] | str
"""A truth as users have it; dicts (and their JSON) are laid out as `read_truth` says."""


def score(
    completion: str, truth: TruthLike, recipe: str | Recipe = "medground", *, space: Space | None = None
) -> dict[str, float]:
    """Return what a completion is worth.

    Parameters
    ----------
    completion : str
        What the model wrote, however hostile.
    truth : Truth, VqaTruth, Sample, dict or JSON
        For the grounding recipes a dict as `read_truth` describes it, at least ``bbox_2d`` and ``point_2d``.
    recipe : str or Recipe
        One of `RECIPES`, a dotted path, or a recipe of your own.
    space : Space, optional
        The ruler that the completion's numbers are written on; the truth's own where it isn't given.

    Returns
    -------
    dict of str to float
        Each term by its name, and ``"score"``. Terms that don't apply to the row are left out.

    Raises
    ------
    TruthError
        When the truth can't be right; a completion never raises.
    ConfigError
        When there is no such recipe, the completion is no text at all, or `space` is none.

    Examples
    --------
    >>> truth = {"bbox_2d": [100, 100, 300, 200], "point_2d": [[150, 150], [250, 150]]}
    >>> score("I cannot see any abnormality.", truth, "umrg-soft")["score"]
    0.0
    """
    return _score_batch([completion], [truth], load_recipe(recipe), space, numbered=False)[0]


def score_batch(
    completions: Sequence[str],
    truths: Sequence[TruthLike],
    recipe: str | Recipe = "medground",
    *,
    space: Space | None = None,
) -> list[dict[str, float]]:
    """Return what each completion is worth against the truth in its place; see `score`.

    Raises
    ------
    TruthError
        Names the row, counted from 0, and the field; also when the numbers of completions and truths differ.
    ConfigError
        As for `score`.

    Examples
    --------
    >>> truth = {"bbox_2d": [100, 100, 300, 200], "point_2d": [[150, 150], [250, 150]]}
    >>> score_batch(["no", "idea"], [truth, {"bbox_2d": [300, 100, 100, 200]}])
    Traceback (most recent call last):
        ...
    medground.errors.TruthError: truth of row 1, bbox_2d: [300, 100, 100, 200] has no area or its corners are swapped; \
expected x1 < x2 and y1 < y2
    """
    return _score_batch(completions, truths, load_recipe(recipe), space, numbered=True)


def _score_batch(
    completions: Sequence[str], truths: Sequence[TruthLike], recipe: Recipe, space: Space | None, *, numbered: bool
) -> list[dict[str, float]]:
    if isinstance(completions, str) or isinstance(truths, str | Mapping):
        raise ConfigError("score_batch takes lists of completions and of truths; use score for one of each")
    for row, text in enumerate(completions):
        if not isinstance(text, str):
            raise ConfigError(
                f"completion{f' of row {row}' * numbered}: expected the text that the model wrote, not "
                f"{type(text).__name__}; of a conversation give the last message's content"
            )
    if space is not None and not isinstance(space, Space):
        raise ConfigError(f"space: expected a Space such as Space.norm1000(), not {space!r}")
    if len(completions) != len(truths):
        raise TruthError(f"{len(completions)} completions need as many truths, not {len(truths)}")
    read = [recipe.read_truth(truth, row if numbered else None) for row, truth in enumerate(truths)]
    if space is not None:
        read = [truth.to(space) for truth in read]
    return [{**terms, "score": recipe.combine(terms)} for terms in recipe.terms(completions, read)]
