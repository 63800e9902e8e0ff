"""The named recipes, and where to find others."""

from __future__ import annotations

from importlib import import_module

from medground.errors import ConfigError
from medground.rewards import thinkvg, umrg
from medground.rewards.grounding import medground_recipe
from medground.rewards.recipe import Recipe

__all__ = ["RECIPES", "load_recipe"]

RECIPES: dict[str, Recipe] = {
    "medground": medground_recipe(),
    "umrg-base": Recipe("umrg-base", umrg.BASE, umrg.base, umrg.read_truth, "sum"),
    "umrg-soft": Recipe("umrg-soft", umrg.SOFT, umrg.soft, umrg.read_truth, "sum"),
    "umrg-hard": Recipe("umrg-hard", umrg.HARD, umrg.hard, umrg.read_truth, "sum"),
    "thinkvg": thinkvg.thinkvg_recipe(),
}
"""Recipes by name."""


def load_recipe(name: str | Recipe) -> Recipe:
    """Return a recipe by its name, or by a dotted path such as ``"my_package.rewards:recipe"``.

    Raises
    ------
    ConfigError
        When nothing of the name is there, or it isn't a Recipe.

    Examples
    --------
    >>> load_recipe("umrg-soft").total
    'sum'
    >>> load_recipe("medground.rewards.recipes:RECIPES")
    Traceback (most recent call last):
        ...
    medground.errors.ConfigError: recipe 'medground.rewards.recipes:RECIPES' is a dict, not a medground.rewards.Recipe
    """
    if isinstance(name, Recipe):
        return name
    if name in RECIPES:
        return RECIPES[name]
    if not isinstance(name, str):
        raise ConfigError(f"a recipe is named by a text, not {type(name).__name__}; choose one of {', '.join(RECIPES)}")
    module, _, attribute = name.replace(":", ".").rpartition(".")
    if not all(part.isidentifier() for part in [*module.split("."), attribute]):
        raise ConfigError(
            f"no recipe is called {name!r}; choose one of {', '.join(RECIPES)}, or give package.module:attribute"
        )
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"recipe {name!r}: {error}; give package.module:attribute") from error
    if not isinstance(found, Recipe):
        raise ConfigError(f"recipe {name!r} is a {type(found).__name__}, not a medground.rewards.Recipe")
    return found
