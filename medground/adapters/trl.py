"""Rewards for TRL's GRPOTrainer and its command line; see docs/integrations.md.

``GRPOTrainer(reward_funcs=[umrg_hard_reward], ...)`` or ``trl grpo --reward_funcs
medground.adapters.trl.umrg_hard_reward``; other recipes and weights through `RecipeReward`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from medground.adapters import completion_space, score_rows, weighted
from medground.rewards import Recipe

__all__ = [
    "RecipeReward",
    "medground_reward",
    "thinkvg_reward",
    "umrg_base_reward",
    "umrg_hard_reward",
    "umrg_soft_reward",
]


class RecipeReward:
    """A recipe as a reward function of TRL; it can be pickled.

    Parameters
    ----------
    recipe : str or Recipe
        A recipe's name or dotted path. A `Recipe` itself works where nothing has to be pickled.
    coordinates : str or None
        The ruler of the completions' numbers, ``"0-1000"`` or ``"0-1"``; the truths' own where None. See
        `medground.adapters.completion_space`.
    weights : mapping of str to float, optional
        Changes to the recipe's weights.
    name : str, optional
        What the trainer's logs call it; the recipe's name where None. Two rewards need two names.

    Raises
    ------
    ConfigError
        When the recipe, a weight or the coordinates aren't known.

    Examples
    --------
    >>> reward = RecipeReward("umrg-soft", coordinates="0-1000", weights={"bbox_iou": 2.0})
    >>> truth = '{"bbox_2d": [100, 100, 500, 500], "point_2d": [[200, 200], [400, 400]], "coordinates": "0-1000"}'
    >>> said = '{"bbox": [100, 100, 500, 500], "points_1": [200, 200], "points_2": [400, 400]}'
    >>> [round(value, 2) for value in reward([f"<think>There.</think><answer>{said}</answer>"], ground_truth=[truth])]
    [5.0]
    """

    def __init__(
        self,
        recipe: str | Recipe = "medground",
        *,
        coordinates: str | None = None,
        weights: Mapping[str, float] | None = None,
        name: str | None = None,
    ) -> None:
        completion_space(coordinates)  # what can't be used is told here, not in the first step
        self.__name__ = name or weighted(recipe, weights).name
        self.recipe, self.coordinates, self.weights = recipe, coordinates, dict(weights or {})

    def __call__(
        self,
        completions: Sequence[str | Sequence[Mapping[str, Any]]],
        *,
        log_metric: Callable[[str, float], None] | None = None,
        log_extra: Callable[[str, list[Any]], None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """Return the score of each completion.

        Parameters
        ----------
        completions : sequence
            Plain texts, or conversations whose last message is the model's.
        log_metric : callable, optional
            Is told the mean of each term, under ``NAME/TERM``, over the rows that it applies to.
        log_extra : callable, optional
            Is told each row's terms as JSON under ``NAME/terms``, for the table of completions.
        **columns
            The data set's; see `medground.adapters.score_rows` for those that matter.

        Returns
        -------
        list of float or None
            None (the trainer leaves the row out) where the row's truth is None.
        """
        rows = score_rows(
            [_text(one) for one in completions],
            columns,
            self.recipe,
            coordinates=self.coordinates,
            weights=self.weights,
        )
        if log_metric:
            for term in sorted({term for row in rows if row for term in row} - {"score"}):
                values = [row[term] for row in rows if row and term in row]
                log_metric(f"{self.__name__}/{term}", sum(values) / len(values))
        if log_extra:  # one column: a dozen would squeeze the table that TRL prints until nothing can be read
            log_extra(f"{self.__name__}/terms", [row and json.dumps(_rounded(row)) for row in rows])
        return [None if row is None else row["score"] for row in rows]


def _rounded(row: Mapping[str, float]) -> dict[str, float]:
    return {term: round(value, 3) for term, value in row.items() if term != "score"}


def _text(completion: str | Sequence[Mapping[str, Any]]) -> str:
    if isinstance(completion, str):
        return completion
    last = completion[-1] if completion else {}
    content = last.get("content") or ""
    if not isinstance(content, str):
        content = "".join(part.get("text") or "" for part in content)
    # A tokenizer with a response template gives the thoughts apart; the rewards read them where the model wrote them.
    thoughts = last.get("reasoning_content") or last.get("thinking")
    return f"<think>{thoughts}</think>{content}" if thoughts else content


medground_reward = RecipeReward("medground")
"""Our recipe."""

umrg_base_reward = RecipeReward("umrg-base")
"""The paper's base recipe (after Seg-Zero), as meant."""

umrg_soft_reward = RecipeReward("umrg-soft")
"""The paper's soft recipe."""

umrg_hard_reward = RecipeReward("umrg-hard")
"""The paper's hard recipe."""

thinkvg_reward = RecipeReward("thinkvg")
"""ThinkVG's recipe, for visual question answering."""
