"""What reading a record needs wherever it comes from: values made plain, checked, and refused by the field's name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import ValidationError

from medground.data.rows import Row
from medground.errors import first_mistake

__all__ = ["FieldError", "are_numbers", "make_row", "mapping_of", "plain"]


class FieldError(Exception):
    """Carries the field and what is wrong with it to the one place that knows the file and the row."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field, self.problem = field, problem


def make_row(fields: Mapping[str, Any]) -> Row:
    """Return a `Row` of these fields; raises FieldError, which names the first wrong one and shows no value."""
    try:
        return Row.model_validate(fields)
    except ValidationError as error:
        field, _, reason = first_mistake(error)
        raise FieldError(field or "row", f"{reason}; mend or drop the row") from None


def plain(value: Any) -> Any:
    """Return a value with numpy's arrays and scalars as Python's own, all the way down: pandas gives such.

    Examples
    --------
    >>> plain({"box": np.array([1.0, 2.0]), "number": np.int64(3)})
    {'box': [1.0, 2.0], 'number': 3}
    """
    if isinstance(value, str | bytes | bool | int | float | None):
        return value if type(value) is not np.float64 and type(value) is not np.str_ else value.item()
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
        return plain(value) if isinstance(value, list) else value
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value


def mapping_of(value: Any, column: str) -> dict[str, Any]:
    """Return a struct, an empty one for None; raises FieldError for anything else."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise FieldError(column, f"expected a struct, not {type(value).__name__}")
    return value


def are_numbers(value: Any, count: int) -> bool:
    """Whether this is a list of so many finite numbers.

    Examples
    --------
    >>> are_numbers([1, 2.5], 2), are_numbers([1, True], 2), are_numbers([1, float("nan")], 2)
    (True, False, False)
    """
    return isinstance(value, list) and len(value) == count and all(map(_number, value))


def _number(value: Any) -> bool:
    # NaN fails the comparison; so do infinities and whole numbers that no float holds.
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e9 < value < 1e9
