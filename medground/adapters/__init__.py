"""medground's rewards under the signatures of trainers: TRL, verl, EasyR1, ms-swift; and a task of lmms-eval.

Each module is a few lines over `medground.rewards.score_batch`, needs nothing of its trainer to be imported, and works
when it is loaded by its path, outside any package. What is the same for all of them is here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medground.coords import Space, space_named
from medground.errors import ConfigError, TruthError
from medground.rewards import Recipe, load_recipe, score_batch

__all__ = ["completion_space", "filled", "score_rows", "weighted"]


def weighted(recipe: str | Recipe, weights: Mapping[str, float] | None = None) -> Recipe:
    """Return a recipe by name (see `medground.rewards.load_recipe`), with some of its weights changed.

    Raises
    ------
    ConfigError
        When there is no such recipe, or it has no such term.

    Examples
    --------
    >>> weighted("umrg-soft", {"bbox_iou": 2.0}).weights["bbox_iou"]
    2.0
    """
    found = load_recipe(recipe)
    return found.reweighted(**weights) if weights else found


def completion_space(coordinates: str | None) -> Space | None:
    """Return the ruler of a completion's numbers, or None for the truth's own.

    Parameters
    ----------
    coordinates : str or None
        ``"0-1000"`` or ``"0-1"``, with ``" yx"`` after it where the model writes y first. A ruler in pixels has the
        size of the picture that the model was shown, which differs from row to row: write the truth on it instead.

    Raises
    ------
    ConfigError
        When it isn't one of these.

    Examples
    --------
    >>> completion_space("0-1000 yx")
    Space(name='0-1000', width=1000.0, height=1000.0, order='yx')
    """
    if coordinates is None:
        return None
    if coordinates.removesuffix(" yx") not in ("0-1", "0-1000"):
        raise ConfigError(
            f"coordinates {coordinates!r}: the ruler of all completions is '0-1000' or '0-1' (' yx' after it where y "
            "comes first); for a model that writes pixels leave it out, and write each truth in the pixels of the "
            "image that the model was shown, with their image_size"
        )
    return space_named(coordinates, 1, 1)


def score_rows(
    completions: Sequence[str],
    columns: Mapping[str, Any],
    recipe: str | Recipe = "medground",
    *,
    coordinates: str | None = None,
    weights: Mapping[str, float] | None = None,
) -> list[dict[str, float] | None]:
    """Score completions against the truths in a trainer's columns.

    Parameters
    ----------
    completions : sequence of str
    columns : mapping of str to sequence
        ``ground_truth`` has a truth for each completion (a JSON string or a dict; see
        `medground.rewards.truth.read_truth`); where there is no such column, ``reward_model`` has dicts with one under
        ``ground_truth``, which is verl's layout and the UMRG set's. Other columns aren't looked at.
    recipe, weights
        See `weighted`.
    coordinates : str or None
        See `completion_space`.

    Returns
    -------
    list of (dict of str to float) or None
        What `medground.rewards.score_batch` says of each; None where the truth is None, as it is in a mixture for the
        rows of another task.

    Raises
    ------
    TruthError
        When neither column is there, or a truth can't be read; names the row in the batch and the field.
    ConfigError
        When the recipe, a weight or the coordinates aren't known.

    Examples
    --------
    >>> truths = ['{"bbox_2d": [84, 84, 420, 420], "point_2d": [[200, 200], [300, 300]]}', None]
    >>> said = '<answer>{"bbox": [84, 84, 420, 420], "points_1": [200, 200], "points_2": [300, 300]}</answer>'
    >>> first, second = score_rows([said, said], {"ground_truth": truths})
    >>> 0 < first["score"] < 1, second  # the reasoning is missing
    (True, None)
    """
    truths = _truths(columns)
    if len(truths) != len(completions):
        raise TruthError(f"there are {len(completions)} completions and {len(truths)} truths; give one for each")
    rows = [row for row, truth in enumerate(truths) if truth is not None]
    read = weighted(recipe, weights)
    scored: list[dict[str, float] | None] = [None] * len(completions)
    found = score_batch(
        [completions[row] for row in rows],
        [read.read_truth(filled(truths[row]), row) for row in rows],
        read,
        space=completion_space(coordinates),
    )
    for row, terms in zip(rows, found, strict=True):
        scored[row] = terms
    return scored


def _truths(columns: Mapping[str, Any]) -> list[Any]:
    if columns.get("ground_truth") is not None:
        return list(columns["ground_truth"])
    if columns.get("reward_model") is not None:
        return [value.get("ground_truth") if isinstance(value, Mapping) else value for value in columns["reward_model"]]
    raise TruthError("the rows have no truth: give them a column ground_truth, a JSON string with bbox_2d and point_2d")


def filled(truth: Any) -> Any:
    """Return a truth less what is None: a table whose dicts differ gives each of them the others' fields as well.

    Examples
    --------
    >>> filled({"bbox_2d": None, "point_2d": None, "absent": True})
    {'absent': True}
    """
    return {name: value for name, value in truth.items() if value is not None} if isinstance(truth, Mapping) else truth
