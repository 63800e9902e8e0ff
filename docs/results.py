"""Write docs/results.md, its pictures and its figures from folders of runs.

    python docs/results.py runs/ablation runs/few_labels runs/vqa-three-way runs/both-tasks --shipped grpo-medground

In each folder, one folder an arm: what `medground train` wrote, and in it (or alone, for a model that isn't trained
there) what `medground eval` wrote of its model: ``test-reason`` and ``test-direct`` of grounding, ``test`` of visual
questions. recipes/nano_ablation.sh, nano_few_labels.sh, nano_vqa_three_way.sh and nano_both_tasks.sh make such folders;
the document is of all that are given together. ARM@1, ARM@2 are further seeds. Without folders it is made again from
OUT/results.json. Needs the extra dev.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from result_page import page
from result_plots import arm_folder, over_time, plots
from result_runs import gathered
from result_tables import Told

from medground._io import make_folder, write_bytes, write_json, write_text
from medground.errors import ConfigError, MedgroundError

FILES = ("results.md", "results.json", "images/results")
"""What is written into OUT."""


def write(
    out: Path, folders: Sequence[Path] = (), *, shipped: str | None = None, rows: Path | None = None, machine: str = ""
) -> None:
    """Write the document.

    Parameters
    ----------
    out : path
        Gets `FILES`.
    folders : sequence of path
        The runs; those of ``out/results.json`` where there are none.
    shipped : str, optional
        The arm that was chosen, by validation rows, to be handed out.
    rows : path, optional
        Validation rows, for the picture of answers over time; those that the run names by default.
    machine : str
        Where the runs were made.

    Raises
    ------
    ConfigError, TruthError
        When runs can't be read or compared, or the files can't be written.
    """
    document, figures, images = (out / name for name in FILES)
    pictures: dict[str, bytes] = {}
    if folders:
        told = gathered(folders, shipped=shipped, machine=machine)
        arm = arm_folder(folders, told["main"])
        drawn = None if arm is None else over_time(arm, rows)
        told["over_time"] = None if drawn is None else {"arm": told["main"], **drawn[1]}
        if drawn is not None:
            pictures["over-time"] = drawn[0]
    else:
        told = _read(figures)
        if told["over_time"] is not None:
            pictures["over-time"] = (images / "over-time.png").read_bytes()
    pictures |= plots(told)
    text = page(told, list(pictures))
    make_folder(images)
    for old in images.glob("*.png"):
        old.unlink()
    for name, content in pictures.items():
        write_bytes(images / f"{name}.png", content)
    write_json(figures, told)
    write_text(document, text)


def _read(figures: Path) -> Told:
    try:
        told: Told = json.loads(figures.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{figures}: can't be read ({error}); give folders of runs") from error
    if not isinstance(told, dict) or not {"arms", "visual", "both"} <= told.keys():
        raise ConfigError(f"{figures}: isn't of this script as it is now; give folders of runs")
    return told


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, help="folders of arms")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="gets results.md and the rest")
    parser.add_argument("--shipped", help="the arm that validation rows chose to be handed out")
    parser.add_argument("--val", type=Path, help="validation rows, for pictures; those that the run names by default")
    parser.add_argument(
        "--machine", default=f"{os.cpu_count()} CPU cores, {platform.machine()}", help="where the runs were made"
    )
    given = parser.parse_args()
    try:
        write(given.out, given.runs, shipped=given.shipped, rows=given.val, machine=given.machine)
    except MedgroundError as error:
        sys.exit(f"results: {error}")


if __name__ == "__main__":
    main()
