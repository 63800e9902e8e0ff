"""What a recipe is: named terms, open weights, and how they make one score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

from medground.errors import ConfigError

__all__ = ["Recipe"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """A reward: terms, each a number with a name, and the weights by which they make the score.

    Parameters
    ----------
    name : str
        What ``score(..., recipe=name)`` and logs call it.
    weights : mapping of str to float
        The terms that count towards the score. A term that `terms` returns and that has no weight is reported alone.
    terms : callable
        ``terms(completions, truths)`` returns a dict of terms for each completion; the truths are what `read_truth`
        returns, on the ruler that the completions are written on. A term that doesn't apply to a row is left out.
    read_truth : callable
        ``read_truth(value, row)`` checks a truth as users write it; raises TruthError with the row and the field.
    total : {"sum", "mean"}
        The weighted sum of the terms (the papers'), or the weighted mean of those that apply, 0 to 1.
    """

    name: str
    weights: Mapping[str, float]
    terms: Callable[[Sequence[str], Sequence[Any]], list[dict[str, float]]]
    read_truth: Callable[[Any, int | None], Any]
    total: Literal["sum", "mean"] = "mean"

    def __post_init__(self) -> None:
        numbers = all(isinstance(weight, int | float) for weight in self.weights.values())
        if not (numbers and self.weights and all(0 <= weight < 1e6 for weight in self.weights.values())):
            raise ConfigError(f"recipe {self.name!r}: weights must be numbers from 0 on, and at least one is needed")
        if not any(self.weights.values()):
            raise ConfigError(f"recipe {self.name!r}: all weights are 0, so nothing would be rewarded")
        object.__setattr__(self, "weights", MappingProxyType(dict(self.weights)))

    def reweighted(self, **weights: float) -> Recipe:
        """Return the recipe with some weights changed; 0 leaves a term out of the score and in the report.

        Raises
        ------
        ConfigError
            When a name isn't one of the recipe's weights.

        Examples
        --------
        >>> from medground.rewards import RECIPES
        >>> RECIPES["medground"].reweighted(evidence=0, honesty=0).weights["evidence"]
        0
        """
        if unknown := sorted(set(weights) - set(self.weights)):
            raise ConfigError(
                f"recipe {self.name!r} has no term {', '.join(unknown)}; its terms are {', '.join(self.weights)}"
            )
        return replace(self, weights={**self.weights, **weights})

    def combine(self, terms: Mapping[str, float]) -> float:
        """Return the score of one completion's terms.

        Examples
        --------
        >>> from medground.rewards import RECIPES
        >>> RECIPES["umrg-soft"].combine({"format_think": 1.0, "format_seg": 0.6, "bbox_iou": 0.5, "points_dice": 0.1})
        2.2
        """
        if self.total == "sum":
            return sum(weight * terms.get(name, 0.0) for name, weight in self.weights.items())
        apply = [(weight, terms[name]) for name, weight in self.weights.items() if name in terms]
        whole = sum(weight for weight, _ in apply)
        # Full marks on every term give exactly 1: both sums then add the same numbers in the same order.
        return sum(weight * term for weight, term in apply) / whole if whole else 0.0
