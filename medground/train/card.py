"""Write a trained model's card: what it is, what it was trained on, how good it is, what it is not for.

Run it as ``python -m medground.train.card --masks MASKS --run FIRST SECOND --measured SUMMARY --out README.md``.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from safetensors import safe_open
from transformers.trainer_utils import get_last_checkpoint

from medground import taxonomy
from medground._io import write_text
from medground.data.open_masks import Target, read_open_masks

__all__ = ["model_card"]

POOR = 0.35
"""Mean box IoU below which a kind of target is named among the limits."""

ROWS = {
    "model": "this model",
    "centre": "a box in the centre",
    "category": "the category's mean box",
    "oracle": "the true box",
}


def model_card(settings: dict[str, Any], training: Sequence[Target], summary: dict[str, Any], **facts: Any) -> str:
    """Return the card's text.

    Parameters
    ----------
    settings : dict
        The run's ``settings.json``.
    training : sequence of Target
        What was trained on.
    summary : dict
        ``summary.json`` of ``benchmarks/grounding.py`` on the test split.
    **facts
        ``recipe``, ``parameters`` (millions), ``steps`` (of each phase), ``image_size``, ``layers``, ``entities``.
    """
    counted = Counter((target.dataset, target.license, target.tier) for target in training)
    overall = summary["all samples"]
    kinds = [value for key, value in summary.items() if key != "all samples"]
    poor = [name for name, value in summary.items() if name != "all samples" and value["model"]["box_iou"][0] < POOR]
    left_out = settings["leave_out"]
    largest = Counter(target.source for target in training).most_common(5)
    words = (files(__package__) / "model_card.md").read_text(encoding="utf-8")
    return words.format(
        **settings,
        **facts,
        targets=len(training),
        pictures=len({target.image for target in training}),
        groups=len({target.group for target in training}),
        sources="\n".join(
            f"| {dataset} | {license_} | {tier} | {count} |"
            for (dataset, license_, tier), count in sorted(counted.items(), key=lambda item: -item[1])
        ),
        scores="\n".join(_score_row(words, overall[method]) for method, words in ROWS.items() if method in overall),
        n=overall["n"],
        kinds=len(kinds),
        poor_below=POOR,
        poor=", ".join(poor) or "none",
        share=sum(count for _, count in largest) / len(training),
        kind_iou=overall["model"]["mean over targets"]["box_iou"],
        kind_dice=overall["model"]["mean over targets"]["dice"],
        failures=overall["failures"],
        left_out=f"Left out: {', '.join(left_out)}." if left_out else "",
    )


def _score_row(words: str, found: dict[str, Any]) -> str:
    cells = [f"{found[m][0]:.3f} ({found[m][1]:.3f}-{found[m][2]:.3f})" for m in ("box_iou", "pointing", "dice")]
    if words != ROWS["model"]:
        cells[1] = "-"  # a box from no model has no points
    return f"| {words} | {' | '.join(cells)} |"


def _steps(run: Path) -> int:
    """Return how many steps a run took."""
    last = run if (run / "trainer_state.json").is_file() else Path(get_last_checkpoint(run))
    steps: int = json.loads((last / "trainer_state.json").read_text(encoding="utf-8"))["global_step"]
    return steps


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the card of a run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--masks", type=Path, required=True, help="folder with manifest.jsonl, images/ and masks/")
    parser.add_argument("--run", type=Path, nargs="+", required=True, help="folders of the training's phases, in order")
    parser.add_argument("--recipe", default="recipes/nano_v0.sh")
    parser.add_argument("--measured", type=Path, required=True, help="summary.json of benchmarks/grounding.py")
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args(arguments)
    settings = json.loads((chosen.run[-1] / "settings.json").read_text(encoding="utf-8"))
    training = [
        target for target in read_open_masks(chosen.masks, "train") if target.source not in settings["leave_out"]
    ]
    with safe_open(chosen.run[-1] / "model" / "model.safetensors", "np") as weights:
        parameters = sum(
            math.prod(weights.get_slice(name).get_shape())
            for name in weights.keys()  # noqa: SIM118
        )
    card = model_card(
        settings,
        training,
        json.loads(chosen.measured.read_text(encoding="utf-8")),
        recipe=chosen.recipe,
        parameters=parameters / 1e6,
        steps=" + ".join(str(_steps(run)) for run in chosen.run),
        entities=len(taxonomy.load_targets()),
    )
    write_text(chosen.out, card)


if __name__ == "__main__":
    main()
