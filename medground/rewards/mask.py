"""What the frozen expert makes of a predicted location: the one term that needs a model, and so the one on request."""

from __future__ import annotations

from collections.abc import Sequence

from medground.coords import Space
from medground.errors import TruthError
from medground.images import MedicalImage, load_image
from medground.metrics import dice
from medground.rewards.layout import Reading
from medground.rewards.truth import Truth
from medground.segmenters import Prompt, Segmenter
from medground.types import Box, Point

__all__ = ["HOPELESS", "mask"]

HOPELESS = 0.1
"""The Dice under the true location below which the expert can't tell good prompts from bad: the term doesn't apply."""


def mask(readings: Sequence[Reading | None], truths: Sequence[Truth], segmenter: Segmenter) -> list[float | None]:
    r"""Return how much of what the expert can do each predicted location gets out of it, 0 to 1.

    .. math:: mask = \min\left(1, \frac{Dice(S(p), M)}{Dice(S(p^*), M)}\right)

    with the expert's mask S under the predicted prompt p and the true one :math:`p^*`, and the true mask M. The ratio
    asks the reasoner for its own part alone: what the expert can't draw from the true location isn't its fault. Each
    picture is encoded once, and all prompts about it are segmented in one call.

    Parameters
    ----------
    readings : sequence of Reading or None
        Completions that could be read, None for the others.
    truths : sequence of Truth
        On the rulers of the readings, with `mask` and `image`.
    segmenter : Segmenter
        From `medground.load_segmenter`.

    Returns
    -------
    list of float or None
        None where the term doesn't apply: the truth has no mask or no picture, the target is absent, or the expert
        gets less than `HOPELESS` out of the true location.

    Raises
    ------
    ImageError
        When a picture can't be read.
    TruthError
        When a mask isn't of its picture's size.

    Notes
    -----
    Hacking: a box that the expert likes better than the true one; the ratio stops at 1, and the box term still counts.
    """
    worth: list[float | None] = [None] * len(readings)
    by_image: dict[int | str, list[int]] = {}
    for row, truth in enumerate(truths):
        if truth.image is not None and truth.mask is not None and truth.box is not None:
            key = truth.image if isinstance(truth.image, str) else id(truth.image)
            by_image.setdefault(key, []).append(row)
    for rows in by_image.values():
        shown = truths[rows[0]].image
        image = shown if isinstance(shown, MedicalImage) else load_image(str(shown))
        prompts: dict[Prompt, None] = {}  # a group's answers are often the same
        asked: list[tuple[int, Prompt | None, Prompt]] = []
        for row in rows:
            truth, reading = truths[row], readings[row]
            if truth.mask is None or truth.box is None:  # never: such rows aren't in by_image
                continue
            if truth.mask.shape != (image.height, image.width):
                raise TruthError(
                    f"truth of row {row}, mask: {truth.mask.shape[1]} x {truth.mask.shape[0]} pixels aren't the "
                    f"picture's {image.width} x {image.height}; give the mask of the whole picture"
                )
            best = _prompt(truth.box, truth.points, image.space)
            own = None
            if reading is not None and reading.box is not None:
                own = _prompt(reading.box, reading.points, image.space)
            prompts |= dict.fromkeys([best] if own is None else [best, own])
            asked.append((row, own, best))
        masks = dict(zip(prompts, segmenter.segment(segmenter.encode(image), list(prompts)), strict=True))
        for row, own, best in asked:
            true = truths[row].mask
            if true is None:  # never, as above
                continue
            reach = dice(masks[best].mask, true)
            if reach >= HOPELESS:
                worth[row] = 0.0 if own is None else min(dice(masks[own].mask, true) / reach, 1.0)
    return worth


def _prompt(box: Box, points: Sequence[Point], space: Space) -> Prompt:
    return Prompt(box.to(space), tuple(point.to(space) for point in points))
