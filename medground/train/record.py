"""The folder of a run: what it was made with (``OUT/run.json``), and the checkpoint from which it goes on."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import ValidationError

import medground
from medground._io import make_folder, sha256, write_json
from medground.data.schema import parquet_files
from medground.errors import ConfigError
from medground.prompts import VISUAL, template_digest
from medground.reasoners._asking import Asker
from medground.train.config import TrainConfig
from medground.train.start import world_size

__all__ = ["last_checkpoint", "open_run", "versions"]

MAY_CHANGE = ("name", "out", "steps", "epochs", "eval_every", "segmenter", "save_every", "log_every", "keep", "workers")
"""Settings that a resumed run may change. More `steps` or `epochs` also stretch what is left of the schedule."""

DATA_MAY_CHANGE = ("train", "val", "vqa", "vqa_val", "root", "val_limit")
"""Of ``[data]``: rows are held to their files' digests, not to where they lie."""

PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "numpy")


def versions() -> dict[str, str | None]:
    """Return the versions of Python, of medground and of what trains, and medground's commit where it has one."""
    found: dict[str, str | None] = {"python": platform.python_version(), "medground": metadata.version("medground")}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    found["commit"] = _commit()
    return found


def _commit() -> str | None:
    """Return the commit of the checkout that medground runs from, with ``+`` where files differ from it."""
    home = Path(medground.__file__).parents[1]
    git = shutil.which("git")
    if git is None or not (home / ".git").exists():
        return None

    def ask(*words: str) -> str:
        line = [git, "-C", str(home), *words]
        said = subprocess.run(line, capture_output=True, text=True, timeout=30, check=False)  # noqa: S603
        return said.stdout.strip()

    head = ask("rev-parse", "HEAD")
    return (head + "+" if ask("status", "--porcelain", "--untracked-files=no") else head) if head else None


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint of a run that is whole: one that a crash cut short isn't gone on from.

    The trainer writes ``trainer_state.json`` last.
    """
    numbered: list[tuple[int, Path]] = []
    for found in folder.glob("checkpoint-*") if folder.is_dir() else ():
        number = found.name.removeprefix("checkpoint-")
        if number.isdecimal() and _is_whole(found):
            numbered.append((int(number), found))
    return max(numbered)[1] if numbered else None


def _is_whole(checkpoint: Path) -> bool:
    try:
        return isinstance(json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8")), dict)
    except (OSError, ValueError):
        return False


def open_run(config: TrainConfig, asker: Asker, *, resume: bool = False) -> Path | None:
    """Make the run's folder, write ``run.json`` into it, and return the checkpoint to go on from.

    Each rank may call it; rank 0 alone writes.

    Parameters
    ----------
    config : TrainConfig
    asker : Asker
        How the model is asked.
    resume : bool
        Go on from the last whole checkpoint; from the beginning where the run was ended before the first.

    Returns
    -------
    Path or None
        The checkpoint; None begins anew.

    Raises
    ------
    ConfigError
        When the folder holds a run and `resume` is false, there is none and it is true, or the run was made with other
        settings or rows.
    """
    folder = make_folder(config.folder)
    file = folder / "run.json"
    checkpoint = last_checkpoint(folder)
    if os.environ.get("RANK", "0") != "0":
        return checkpoint if resume else None
    if resume and not file.is_file():
        raise ConfigError(f"{folder}: there is no run to go on with; leave out --resume")
    if not resume and checkpoint is not None:
        raise ConfigError(f"{folder}: holds checkpoints of a run; give --resume to go on with it, or set another out")
    given = {"train": _listed(config.data.train), "val": _listed(config.data.val)}
    given |= {"vqa": config.data.vqa or (), "vqa_val": config.data.vqa_val or ()}
    asked = {
        "template": asker.template,
        "digest": template_digest(asker.template),
        "coordinates": asker.coordinates,
    }
    if config.data.vqa or config.data.vqa_val:
        asked["visual"] = template_digest(VISUAL[asker.template])
    now: dict[str, Any] = {
        "settings": config.settings(),
        "versions": versions(),
        "processes": world_size(),
        "asked": asked,
        "data": {name: _digests(paths) for name, paths in given.items() if paths},
    }
    if resume:
        before = _read(file)
        _check_same(file, before, now)
        earlier = before.get("resumed", [])
        now["resumed"] = [*earlier, {"from": checkpoint.name if checkpoint else None, "versions": now["versions"]}]
        now["versions"] = before.get("versions", now["versions"])
    write_json(file, now)
    return checkpoint if resume else None


def _listed(path: str | None) -> tuple[str, ...]:
    return () if path is None else (path,)


def _digests(paths: Sequence[str]) -> dict[str, str]:
    return {file.name: sha256(file) for path in paths for file in parquet_files(path)}


def _read(file: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: can't be read ({error}); restore it, or begin anew in another folder") from error
    return found


def _check_same(file: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    for key, was, is_now in _differences(_filled(before.get("settings", {})), now["settings"]):
        raise ConfigError(f"{file}: {key}: was {was!r} and is now {is_now!r}; --resume can't change it")
    for name in ("train", "vqa"):
        was, is_now = (sorted(each["data"].get(name, {}).values()) for each in (before, now))
        if was != is_now:
            raise ConfigError(f"{file}: data.{name}: the rows aren't those that the run began with; restore them")
    if before.get("processes") != now["processes"]:
        raise ConfigError(
            f"{file}: the run was made by {before.get('processes')} processes and there are {now['processes']}; each "
            "step would take other rows: start as many"
        )
    if before["asked"] != now["asked"]:
        raise ConfigError(f"{file}: the model was asked with {before['asked']} and now with {now['asked']}")


def _filled(settings: Any) -> Any:
    """Return a run's settings with what later versions added, as it counted then: by its default."""
    try:
        return TrainConfig.model_validate(settings).settings()
    except ValidationError:  # of settings that are no longer known, which then differ
        return settings


def _differences(before: Any, now: Any, path: Sequence[str] = ()) -> list[tuple[str, Any, Any]]:
    if isinstance(before, dict) and isinstance(now, dict):
        skipped = MAY_CHANGE if not path else DATA_MAY_CHANGE if tuple(path) == ("data",) else ()
        keys = [key for key in dict.fromkeys([*before, *now]) if key not in skipped]
        return [found for key in keys for found in _differences(before.get(key), now.get(key), [*path, str(key)])]
    return [] if before == now else [(".".join(path), before, now)]
