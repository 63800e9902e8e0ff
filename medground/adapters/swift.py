"""Rewards of ms-swift: ``--external_plugins .../medground/adapters/swift.py --reward_funcs medground``.

Loading this file registers ``medground``, ``umrg_base``, ``umrg_soft``, ``umrg_hard`` and ``thinkvg``; see
docs/integrations.md.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from medground.adapters import score_rows

# ms-swift puts the folder of a plugin first on the path for modules. This one holds a trl.py, which ms-swift would then
# take for TRL.
_FOLDER = Path(__file__).resolve().parent
sys.path[:] = [entry for entry in sys.path if not entry or Path(entry).resolve() != _FOLDER]

if TYPE_CHECKING or find_spec("swift") is None:

    class ORM:
        """Stands in for ms-swift's class of the name where ms-swift isn't installed."""

        def __init__(self, args: Any = None, **_: Any) -> None:
            self.args = args

    orms: dict[str, Any] = {}
else:
    from swift.rewards.orm import ORM, orms

__all__ = ["Medground", "ThinkVG", "UMRGBase", "UMRGHard", "UMRGSoft"]


class Medground(ORM):
    """Our recipe. Subclass it for another: set `recipe`, `coordinates` or `weights`, and add it to ``orms``."""

    recipe: ClassVar[Any] = "medground"
    coordinates: ClassVar[str | None] = None
    weights: ClassVar[dict[str, float]] = {}

    def __call__(self, completions: Sequence[str], **columns: Any) -> list[float | None]:
        """Return the score of each completion; None (left out) where a row's truth is None.

        The data set's columns come by name; see `medground.adapters.score_rows` for those that matter.
        """
        rows = score_rows(completions, columns, self.recipe, coordinates=self.coordinates, weights=self.weights)
        return [None if row is None else row["score"] for row in rows]


class UMRGBase(Medground):
    """The paper's base recipe (after Seg-Zero), as meant."""

    recipe = "umrg-base"


class UMRGSoft(Medground):
    """The paper's soft recipe."""

    recipe = "umrg-soft"


class UMRGHard(Medground):
    """The paper's hard recipe."""

    recipe = "umrg-hard"


class ThinkVG(Medground):
    """ThinkVG's recipe, for visual question answering."""

    recipe = "thinkvg"


for _reward in (Medground, UMRGBase, UMRGSoft, UMRGHard, ThinkVG):
    orms[_reward.recipe.replace("-", "_")] = _reward
