"""Stages of a build: folders of shards, each made from its input by a function, and each written whole or not at all.

Shard number i of a stage is a function of shard i of its input and of the settings. So a build that was killed at any
moment lost the shards in flight at most; the next run makes those that are missing, and the bytes are those of a run
that nothing disturbed, whatever the number of workers or of machines.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medground import __version__
from medground._io import alone, make_folder, write_json
from medground.data.workers import Made, Outcome, Record, S, StageError, outcomes, part_name, side_of
from medground.errors import ConfigError

__all__ = [
    "StageError",
    "StageProgress",
    "StageReport",
    "part_paths",
    "read_parts",
    "read_stage",
    "run_stage",
    "stage_digest",
    "stage_root",
]


@dataclass(slots=True)
class StageProgress:
    """How far a stage is; counts are of shards, except for `records`.

    Parameters
    ----------
    name : str
        The stage.
    total, found : int
        All shards, and those that an earlier run had made.
    made, failed : int
        Of this run.
    records : int
        Records in the shards of this run.
    """

    name: str
    total: int
    found: int
    made: int = 0
    failed: int = 0
    records: int = 0


@dataclass(frozen=True, slots=True)
class StageReport:
    """What a stage holds now.

    Parameters
    ----------
    name : str
    folder : Path
    shards, found : int
        All shards, and those of them that an earlier run had made.
    records : dict of str to int
        Records by kind; the kind ``""`` is the stage's product.
    """

    name: str
    folder: Path
    shards: int
    found: int
    records: dict[str, int]


def run_stage(
    name: str,
    shards: Sequence[S],
    work: Callable[[S], Made],
    out: str | Path,
    *,
    settings: Mapping[str, Any],
    about: Mapping[str, Any] | None = None,
    workers: int = 0,
    ray: bool = False,
    restart: bool = False,
    progress: Callable[[StageProgress], None] | None = None,
) -> StageReport:
    """Make the shards of a stage that aren't there yet.

    The folder ``OUT/NAME`` gets ``part-00000.jsonl`` and so on, one record a line; records of another kind than the
    product go to ``part-00000.KIND.jsonl``. ``stage.json`` beside them holds the settings. Only shards in flight are in
    memory: two for each worker.

    Parameters
    ----------
    name : str
        The stage's, and its folder's.
    shards : sequence
        What each shard is made from: small and picklable (paths, numbers, records), as it travels to a worker.
    work : callable
        Makes a shard's records, a function of its argument alone. With more than one worker a function at the top level
        of a module, or a ``functools.partial`` of one. It may return a mapping of kinds to records.
    out : path
    settings : mapping
        All that the records depend on beside the shards, as JSON can hold it. For a later stage that includes the
        `stage_digest` of the one before.
    about : mapping, optional
        What else to note in ``stage.json``; a run that differs in this alone goes on.
    workers : int
        Processes; 0 for one a core. One works in this process.
    ray : bool
        Make the shards as Ray Data transforms: on the cluster that this process, or the environment's ``RAY_ADDRESS``,
        is connected to, else on this machine. This process writes them, so ``out`` need not be seen by the others.
    restart : bool
        Throw away what is there.
    progress : callable, optional
        Called at the start and after each shard.

    Returns
    -------
    StageReport

    Raises
    ------
    ConfigError
        The folder holds the stage with other settings, or another run is writing to it.
    StageError
        Some shards failed; raised after all others are written. Running again tries them again.
    MissingExtraError
        Ray was asked for and isn't installed.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> double = lambda numbers: [{"twice": 2 * number} for number in numbers]
    >>> run_stage("double", [[1, 2], [3]], double, folder.name, settings={}, workers=1).records
    {'': 3}
    >>> list(read_parts(Path(folder.name, "double")))
    [{'twice': 2}, {'twice': 4}, {'twice': 6}]
    >>> folder.cleanup()
    """
    folder = make_folder(Path(out) / name)
    with alone(folder):
        if restart:
            _clear(folder)
        _check_settings(folder / "stage.json", name, len(shards), settings, about or {})
        for left in folder.glob(".*.part"):  # by a run that was killed in the middle of writing one
            left.unlink(missing_ok=True)
        there = {path.name for path in folder.iterdir()}
        missing = [number for number in range(len(shards)) if part_name(number) not in there]
        state = StageProgress(name, len(shards), len(shards) - len(missing))
        if progress is not None:
            progress(state)
        failures: dict[int, Outcome] = {}
        for outcome in outcomes(shards, missing, work, folder, workers, ray):
            if outcome.cause:
                failures[outcome.number] = outcome
                state.failed += 1
            else:
                state.made += 1
                state.records += outcome.records.get("", 0)
            if progress is not None:
                progress(state)
        if failures:
            raise _failure(name, failures, len(shards))
    return StageReport(name, folder, len(shards), len(shards) - len(missing), _count(folder))


def part_paths(folder: str | Path, kind: str = "") -> list[Path]:
    """Return the parts of a stage in their order: its product, or its records of another kind.

    Raises
    ------
    ConfigError
        When there is no such stage, or some of its shards are still to be made.
    """
    folder = Path(folder)
    stage = read_stage(folder)
    paths = [folder / part_name(number) for number in range(stage["shards"])]
    lacking = sum(not path.is_file() for path in paths)
    if lacking:
        raise ConfigError(
            f"{folder}: {lacking} of {len(paths)} shards of the stage {stage['stage']} are still to be made; "
            "run that stage again, it makes those alone"
        )
    return paths if not kind else [side for path in paths if (side := side_of(path, kind)).is_file()]


def read_parts(folder: str | Path, kind: str = "") -> Iterator[Record]:
    """Read the records of a stage, one at a time, in their order.

    Parameters
    ----------
    folder : path
        ``OUT/NAME``, or a single part.
    kind : str
        The product by default, or another kind, such as what a gate refused.

    Raises
    ------
    ConfigError
        When the stage isn't complete, or a line of it is damaged; names the file and the line.
    """
    folder = Path(folder)
    for path in part_paths(folder, kind) if not folder.is_file() else [folder]:
        with path.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                try:
                    record = json.loads(line)
                except ValueError as error:
                    raise ConfigError(f"{path}:{number}: damaged; delete the file and run its stage again") from error
                yield record


def read_stage(folder: str | Path) -> Record:
    """Return what ``stage.json`` notes of a stage: stage, version, shards, digest, settings, and what it is about.

    Raises
    ------
    ConfigError
        When the folder is no stage.
    """
    path = Path(folder) / "stage.json"
    try:
        stage: Record = json.loads(path.read_bytes())
        if not isinstance(stage["shards"], int) or not isinstance(stage["settings"], dict):
            raise ValueError("fields of another kind")
        _ = stage["stage"], stage["digest"]
    except FileNotFoundError:
        raise ConfigError(f"{folder}: no stage of a build (it has no stage.json); run the stage first") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: can't be read ({error}); run its stage with --restart") from error
    return stage


def stage_digest(folder: str | Path) -> str:
    """Return the digest of a stage's settings, by which a later stage knows what it was made from."""
    return str(read_stage(folder)["digest"])


def stage_root(folder: str | Path) -> str:
    """Return the folder at which the image paths of a stage's records start.

    Raises
    ------
    ConfigError
        When the folder is no stage, or the stage doesn't say.
    """
    root = read_stage(folder).get("root")
    if not isinstance(root, str):
        where = Path(folder)
        raise ConfigError(f"{where / 'stage.json'}: doesn't say where pictures are (root); {where.name} again")
    return root


def _check_settings(path: Path, name: str, shards: int, settings: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    said = {"stage": name, "version": __version__, "shards": shards, "settings": dict(settings)}
    said = json.loads(json.dumps(said, allow_nan=False))
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]
    if path.exists():
        earlier = read_stage(path.parent)
        if earlier["digest"] != digest:
            raise ConfigError(f"{path.parent} holds {_difference(earlier, said)}; choose another --out, or --restart")
    elif any(re.fullmatch(r"part-\d{5,}\.jsonl", file.name) for file in path.parent.iterdir()):
        raise ConfigError(f"{path.parent} holds parts but no stage.json; choose another --out, or --restart")
    if not path.exists() or any(earlier.get(key) != value for key, value in about.items()):
        write_json(path, {**about, **said, "digest": digest})


def _difference(earlier: Record, now: Record) -> str:
    pairs = [("version", earlier.get("version"), now["version"])]
    pairs += [
        (key, earlier["settings"].get(key), now["settings"].get(key))
        for key in sorted({*earlier["settings"], *now["settings"]})
    ]
    pairs += [("number of shards", earlier["shards"], now["shards"])]
    for key, old, new in pairs:
        if old != new:
            return f"a stage made with {key} {old!r}, not {new!r}"
    return f"the stage {earlier['stage']}, not {now['stage']}"


def _clear(folder: Path) -> None:
    for path in sorted(folder.iterdir(), key=lambda path: path.name != "stage.json"):
        if path.name == "stage.json" or re.fullmatch(r"part-\d{5,}(\..+)?\.jsonl", path.name):
            path.unlink()


def _count(folder: Path) -> dict[str, int]:
    found: Counter[str] = Counter()
    for path in folder.iterdir():
        if match := re.fullmatch(r"part-\d{5,}\.(?:(.+)\.)?jsonl", path.name):
            with path.open("rb") as stream:
                found[match[1] or ""] += sum(1 for _ in stream)
    return dict(sorted(found.items()))


def _failure(name: str, failures: Mapping[int, Outcome], total: int) -> Exception:
    first = min(failures)
    rest = f"the other {total - len(failures)} are written, and running again makes what is missing"
    for number in sorted(failures):
        if failures[number].traceback:
            return RuntimeError(f"shard {number} of the stage {name}: a fault; {rest}\n{failures[number].traceback}")
    more = f" (and {len(failures) - 1} more shards)" if len(failures) > 1 else ""
    causes = {number: failures[number].cause for number in sorted(failures)}
    return StageError(f"shard {first} of the stage {name}{more}: {causes[first]}; {rest}", causes)
