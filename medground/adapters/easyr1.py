"""The reward of EasyR1: ``worker.reward.reward_function=.../medground/adapters/easyr1.py:compute_score``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medground.adapters import score_rows
from medground.errors import TruthError
from medground.rewards import Recipe

__all__ = ["REWARD_NAME", "REWARD_TYPE", "compute_score"]

REWARD_NAME = "medground"
REWARD_TYPE = "batch"


def compute_score(
    reward_inputs: Sequence[Mapping[str, Any]],
    *,
    recipe: str | Recipe = "medground",
    coordinates: str | None = None,
    weights: Mapping[str, float] | None = None,
) -> list[dict[str, float]]:
    """Score a batch of responses.

    Parameters
    ----------
    reward_inputs : sequence of dict
        ``response`` and ``ground_truth`` (the row's answer; see `medground.rewards.truth.read_truth`) of each.
    recipe, coordinates, weights
        From ``worker.reward.reward_function_kwargs``; see `medground.adapters.score_rows`.

    Returns
    -------
    list of dict of str to float
        ``"overall"``, and the terms that apply to the row: EasyR1 logs the mean of each over the rows that have it.

    Raises
    ------
    TruthError
        When a truth is missing or can't be read; names the row in the batch and the field.

    Examples
    --------
    >>> truth = '{"bbox_2d": [84, 84, 420, 420], "point_2d": [[200, 200], [300, 300]]}'
    >>> row = {"response": "I can't tell.", "response_length": 5, "ground_truth": truth}
    >>> compute_score([row], recipe="umrg-soft")[0]["overall"]
    0.0
    """
    columns = {"ground_truth": [row["ground_truth"] for row in reward_inputs]}
    found: list[dict[str, float]] = []
    rows = score_rows(
        [row["response"] for row in reward_inputs], columns, recipe, coordinates=coordinates, weights=weights
    )
    for number, terms in enumerate(rows):
        if terms is None:
            raise TruthError(
                f"truth of row {number}: is missing; give each row an answer, JSON with bbox_2d and point_2d"
            )
        found.append({"overall" if name == "score" else name: value for name, value in terms.items()})
    return found
