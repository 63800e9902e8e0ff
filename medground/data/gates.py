"""What keeps a question out of the set, one row at a time; and what a set as a whole must not allow.

A refused record is kept aside with the reason, never mended.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medground import taxonomy
from medground.data.sentences import load_sentences
from medground.errors import ConfigError, MedgroundError
from medground.prompts import MAX_QUESTION
from medground.rewards import gold, score
from medground.rewards.evidence import Facts, claims, holds
from medground.rewards.truth import read_truth

__all__ = ["CENTRE", "WORDS", "centre_share", "chance_share", "overlaps", "plain_question", "refuse", "too_central"]

WORDS = (3, 80)
"""How many words a question may have."""

CENTRE = (0.25, 0.25, 0.75, 0.75)
"""The centre box, in fractions of the picture: half as wide and half as high as the picture, in its middle."""

_SHIFTS = 64


def refuse(record: Mapping[str, Any]) -> str | None:
    """Return why a question record can't be in the set, or None.

    1. The question has 3 to 80 words, is plain ASCII on one line, and ends with a stop or a question mark.
    2. It holds neither the name of its target nor a synonym, nor another word that gives it away.
    3. A validation or test question isn't in a frame of training questions, and the other way about.
    4. Every claim of the reasoning that can be checked is true; of an absent target nothing is claimed.
    5. The right answer with this reasoning earns full marks of the ``medground`` recipe.

    Parameters
    ----------
    record : dict
        See `medground.data.ask.ask`.

    Returns
    -------
    str or None
        A reason whose first words, up to the colon, are the same for all records of its kind.

    Examples
    --------
    >>> record = {"id": "1", "question": "Where is the left kidney?", "category": "kidney left", "reasoning": "It is.",
    ...           "absent": True, "bbox": None, "points": [], "width": 64, "height": 48}
    >>> refuse(record)
    "the question names its target: 'kidney'"
    """
    question, reasoning = str(record["question"]), str(record["reasoning"])
    if why := _form(question):
        return f"the form of the question: {why}"
    if not reasoning.isascii() or not reasoning.strip():
        return "the form of the reasoning: it is empty, or has characters beyond ASCII"
    try:
        target = taxonomy.target_of(record["category"])
    except ConfigError as error:
        return f"the category isn't in the taxonomy: {error}"
    if word := taxonomy.leaks(question, target):
        return f"the question names its target: {word!r}"
    if why := _frame(record):
        return f"the frame of the question: {why}"
    return _unsound(record, reasoning)


def _form(question: str) -> str | None:
    count = len(question.split())
    if not WORDS[0] <= count <= WORDS[1] or len(question) > MAX_QUESTION:
        return f"{count} words; {WORDS[0]} to {WORDS[1]} are expected"
    if not question.isascii() or not question.isprintable():
        return "it has characters beyond printable ASCII"
    if question != question.strip() or not question.endswith((".", "?")):
        return "it must end with a stop or a question mark"
    return None


def _frame(record: Mapping[str, Any]) -> str | None:
    template, frames = record.get("template", ""), load_sentences()
    if record.get("split") in ("val", "test"):
        return "it is one of training questions" if template in {frame.id for frame in frames.train} else None
    return "it is held out for validation and test" if template in {frame.id for frame in frames.held_out} else None


def _unsound(record: Mapping[str, Any], reasoning: str) -> str | None:
    try:
        if record["absent"]:
            truth = read_truth({"absent": True, "image_size": [record["width"], record["height"]]})
            if said := claims(reasoning):
                return f"a claim about an absent target: {said[0].value}"
        else:
            facts = Facts.read(record["facts"])
            for claim in claims(reasoning):
                if holds(claim, facts) is False:
                    return f"a claim that is false: {claim.facet} {claim.value}"
            truth = read_truth(
                {
                    "bbox_2d": record["bbox"],
                    "point_2d": record["points"],
                    "image_size": [record["width"], record["height"]],
                    "facts": record["facts"],
                    "mask": record["mask"],
                }
            )
        terms = score(gold(truth, reasoning), truth)
    except MedgroundError as error:
        return f"the truth can't be read: {error}"
    if terms["score"] != 1.0:
        short = ", ".join(f"{name} {value:.2f}" for name, value in terms.items() if value < 1 and name != "score")
        return f"the right answer doesn't earn full marks: {short}"
    return None


def plain_question(question: str) -> str:
    """Return a question by which two that differ in case, blanks and punctuation alone are the same.

    Examples
    --------
    >>> plain_question("Where  is it?") == plain_question("where is it")
    True
    """
    return " ".join(re.findall(r"\w+", question.casefold()))


def overlaps(boxes: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Whether pairs of boxes have an intersection over union above 0.5.

    Parameters
    ----------
    boxes, others : float array, shape (n, 4) or (4,)
        x1, y1, x2, y2 in fractions of the picture.

    Returns
    -------
    bool array, shape (n,)

    Examples
    --------
    >>> overlaps(np.array([[0, 0, 1, 1], [0, 0, 0.4, 1]]), np.array([0, 0, 1, 1])).tolist()
    [True, False]
    """
    a, b = np.atleast_2d(boxes), np.atleast_2d(others)
    across = np.minimum(a[:, 2], b[:, 2]) - np.maximum(a[:, 0], b[:, 0])
    down = np.minimum(a[:, 3], b[:, 3]) - np.maximum(a[:, 1], b[:, 1])
    shared = across.clip(0) * down.clip(0)
    areas = [(each[:, 2] - each[:, 0]) * (each[:, 3] - each[:, 1]) for each in (a, b)]
    above: npt.NDArray[np.bool_] = shared > 0.5 * (areas[0] + areas[1] - shared)
    return above


def centre_share(boxes: npt.NDArray[np.float64]) -> float:
    """Return the share of boxes, shape (n, 4) in fractions of their pictures, that the centre box alone answers.

    Answered means an intersection over union with `CENTRE` above 0.5.

    Examples
    --------
    >>> centre_share(np.array([CENTRE, (0, 0, 0.1, 0.1)]))
    0.5
    """
    return float(overlaps(boxes, np.array(CENTRE)).mean()) if len(boxes) else 0.0


def chance_share(boxes: npt.NDArray[np.float64], *, seed: int = 0) -> float:
    """Return the share of boxes that chance answers: with the box of another row, as boxes are shuffled among pictures.

    The mean over 64 shuffles without fixed rows, of boxes in fractions of their pictures, shape (n, 4).

    Examples
    --------
    >>> chance_share(np.array([CENTRE] * 8)), chance_share(np.array([(at / 8, 0, (at + 1) / 8, 1) for at in range(8)]))
    (1.0, 0.0)
    """
    if len(boxes) < 2:
        return 0.0
    order = list(range(len(boxes)))
    random.Random(seed).shuffle(order)  # noqa: S311 - a sample
    mixed = boxes[order]
    step = max(1, len(boxes) // (_SHIFTS + 1))
    shifts = [each * step for each in range(1, _SHIFTS + 1) if each * step < len(boxes)]
    return float(np.mean([overlaps(mixed, np.roll(mixed, shift, axis=0)).mean() for shift in shifts]))


def too_central(
    boxes: npt.NDArray[np.float64] | Sequence[Sequence[float]], *, seed: int = 0, errors: float = 2.0
) -> str | None:
    """Return why a set can be answered by the centre box more often than by chance, or None.

    Parameters
    ----------
    boxes : float array, shape (n, 4)
        Of the rows whose target is present, in fractions of their pictures.
    seed : int
        Of the shuffles.
    errors : float
        How many standard errors of a share in so many rows beyond chance still are chance.

    Examples
    --------
    >>> print(too_central([CENTRE] * 50 + [(x / 1000, 0, x / 1000 + 0.005, 0.01) for x in range(0, 950)]))
    the centre box answers 5.0 % of the rows, chance 0.4 %
    """
    table = np.asarray(boxes, np.float64).reshape(-1, 4)
    share, chance = centre_share(table), chance_share(table, seed=seed)
    # A row more of either kind: where chance answers none, one that the centre answers is no pattern yet.
    likely = (chance * len(table) + 1) / (len(table) + 2)
    if not len(table) or share <= chance + errors * np.sqrt(likely * (1 - likely) / len(table)):
        return None
    return f"the centre box answers {100 * share:.1f} % of the rows, chance {100 * chance:.1f} %"
