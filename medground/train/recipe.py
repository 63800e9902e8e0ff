"""A recipe file read into the page of a training, with values of the command line laid over it."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from medground.errors import ConfigError
from medground.train.config import DataConfig, GrpoConfig, LoraConfig, SftConfig, TrainConfig

__all__ = ["read_config"]


def read_config(path: str | Path, overrides: Sequence[str] = ()) -> TrainConfig:
    r"""Read a recipe.

    Parameters
    ----------
    path : path
        TOML.
    overrides : sequence of str
        ``key=value`` or ``table.key=value``, the value as TOML has it; quotes around a text may be left out, and
        ``none`` takes a value away.

    Raises
    ------
    ConfigError
        When the file or a value can't be used; names the file or the override, the field, and the nearest name that
        is known.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "a.toml"
    ...     _ = file.write_text('name = "a"\nkind = "sft"\nrate = 1e-4\n[data]\ntrain = "train.parquet"\n')
    ...     read_config(file, ["data.limit=100", "model=runs/b/model"]).data.limit
    100
    """
    path = Path(path)
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or not TOML
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise ConfigError(f"{path}: can't be read as TOML ({reason})") from error
    said: set[str] = set()
    for override in overrides:
        said.add(_override(values, override))
    try:
        return TrainConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        where = f"--set {field}" if any(f"{field}.".startswith(f"{key}.") for key in said) else f"{path}: {field}"
        raise ConfigError(f"{where if field else path}: {_trouble(first)}") from error


def _override(values: dict[str, Any], override: str) -> str:
    """Lay one ``key=value`` over `values`; return the key."""
    key, sign, text = override.partition("=")
    key = key.strip()
    parts = key.split(".")
    if not sign or not all(parts):
        raise ConfigError(f"--set {override}: write key=value, such as data.limit=100")
    for part in parts[:-1]:
        inner = values.setdefault(part, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {key}: {part} is a value, not a table")
        values = inner
    text = text.strip()
    if text.lower() == "none":
        values[parts[-1]] = None
        return key
    try:
        values[parts[-1]] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        values[parts[-1]] = text
    return key


_PARTS: dict[str, type[BaseModel]] = {
    "data": DataConfig,
    "lora": LoraConfig,
    "sft": SftConfig,
    "grpo": GrpoConfig,
}


def _trouble(error: Any) -> str:
    """Return what pydantic has against a field, with the nearest name where it isn't known."""
    if error["type"] != "extra_forbidden":
        return str(error["msg"]).removeprefix("Value error, ")
    *tables, name = (str(part) for part in error["loc"])
    part: type[BaseModel] = _PARTS[tables[0]] if tables else TrainConfig
    known = list(part.model_fields)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if near:
        return f"isn't known; do you mean {'.'.join([*tables, near[0]])}?"
    return f"isn't known; choose one of {', '.join(known)}"
