"""A part of a data set and the rest, for experiments with few labels: no patient in both, of each source some in both.

The part is a function of the rows' sources, patients and pictures and of the seed alone, whatever the rows' order.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from medground._io import make_folder
from medground.data.rows import Row
from medground.data.schema import read_rows, write_rows
from medground.errors import ConfigError

__all__ = ["chosen_part", "write_part"]


def chosen_part(rows: Iterable[Row], share: float, *, seed: int = 0) -> set[str]:
    """Return the ids of the rows that a part holds.

    In each source patients (``Row.group``) are taken, in the order of the SHA-256 of ``SEED/SOURCE/PATIENT``, until
    they have at least the share of its rows; one patient at least. A source with fewer patients than ``1 / share``, or
    with rows of no known patient, is taken apart by pictures instead.

    Parameters
    ----------
    rows : iterable of Row
        Read once; of each its id, source, patient and picture are kept.
    share : float
        Above 0 and below 1.
    seed : int

    Raises
    ------
    ConfigError
        When the share isn't one.

    Examples
    --------
    >>> from medground.data.rows import Picture
    >>> rows = [Row(id=f"{at}", question="Where?", image=Picture(path=f"{at}.png"), box=None, image_size=(9, 9),
    ...             source="a", group=f"patient {at // 2}") for at in range(16)]
    >>> part = chosen_part(rows, 1 / 4)
    >>> len(part), sorted(int(name) // 2 for name in part)
    (4, [3, 3, 5, 5])
    """
    if not 0 < share < 1:
        raise ConfigError(f"the share of a part is above 0 and below 1, not {share}")
    own: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for row in rows:
        picture = row.image.path or hashlib.sha256(row.image.data or b"").hexdigest()
        own[row.source].append((row.id, row.group, picture))
    chosen: set[str] = set()
    for source, found in own.items():
        patients = {group for _, group, _ in found}
        by_patient = len(patients) >= math.ceil(1 / share - 1e-9) and "" not in patients
        units = {name: group if by_patient else picture for name, group, picture in found}
        counts = Counter(units.values())
        taken: set[str] = set()
        rest = share * len(found) - 1e-9
        for unit in sorted(counts, key=lambda unit: hashlib.sha256(f"{seed}/{source}/{unit}".encode()).digest()):
            if rest <= 0:
                break
            taken.add(unit)
            rest -= counts[unit]
        chosen |= {name for name, unit in units.items() if unit in taken}
    return chosen


def write_part(rows: str | Path, out: str | Path, share: float, *, seed: int = 0) -> tuple[int, int]:
    """Write ``OUT/part.parquet`` and ``OUT/rest.parquet``; see `chosen_part`.

    Parameters
    ----------
    rows : path
        A parquet file in U-MRG's layout, or a folder of them; of rows of split ``train``, or none, alone.
    out : path
    share : float
    seed : int

    Returns
    -------
    (int, int)
        How many rows the part and the rest have.

    Raises
    ------
    ConfigError, TruthError
        When the share isn't one, nothing is left for the rest, or a file can't be read or written.
    """
    rows = Path(rows)
    home = rows if rows.is_dir() else rows.parent

    chosen = chosen_part(_training(rows), share, seed=seed)
    folder = make_folder(out)
    part = write_rows((row for row in _training(rows) if row.id in chosen), folder / "part.parquet", root=home)
    rest = write_rows((row for row in _training(rows) if row.id not in chosen), folder / "rest.parquet", root=home)
    if not (part and rest):
        raise ConfigError(f"{rows}: has too few training rows for a part of {share:g} and a rest; give more")
    return part, rest


def _training(rows: Path) -> Iterator[Row]:
    return (row for row in read_rows(rows) if row.split in ("train", ""))
