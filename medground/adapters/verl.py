"""The reward of verl: ``reward.custom_reward_function.path=pkg://medground.adapters.verl``."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import Any

from medground.adapters import completion_space, filled, weighted
from medground.rewards import Recipe, score_batch

__all__ = ["compute_score"]


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    *,
    recipe: str | Recipe = "medground",
    coordinates: str | None = None,
    weights: Mapping[str, float] | None = None,
    **_: Any,
) -> dict[str, float | None]:
    """Score one response.

    Parameters
    ----------
    data_source : str
        Not looked at: the data set's name is the user's.
    solution_str : str
        The response.
    ground_truth : str or dict
        The row's ``reward_model.ground_truth``; see `medground.rewards.truth.read_truth`.
    extra_info : mapping, optional
        Only its ``index`` is looked at, to name the row in an error.
    recipe, coordinates, weights
        From ``reward.custom_reward_function.reward_kwargs``; see `medground.adapters.score_rows`.

    Returns
    -------
    dict of str to float or None
        ``"score"``, and each of the recipe's terms. All rows have the same keys, which verl demands; None says that a
        term doesn't apply, which verl's validation metrics leave out (a NaN would spoil their means).

    Raises
    ------
    TruthError
        When the truth is missing or can't be read.

    Examples
    --------
    >>> truth = '{"bbox_2d": [84, 84, 420, 420], "point_2d": [[200, 200], [300, 300]]}'
    >>> compute_score("umrg", "I can't tell.", truth, recipe="umrg-soft")["score"]
    0.0
    """
    used = weighted(recipe, weights)
    index = (extra_info or {}).get("index")
    truth = used.read_truth(filled(ground_truth), int(index) if isinstance(index, Integral) else None)
    [terms] = score_batch([solution_str], [truth], used, space=completion_space(coordinates))
    return {name: terms.get(name) for name in ("score", *used.weights)}
