"""The offline grammar: implicit questions and short true reasoning traces, from the taxonomy and measured attributes.

A question is a frame around one or two of the taxonomy's phrases for a target (what it does, how it looks, where it
lies, why it matters, lay words) and never names it. A trace says which structure is meant, and then states what
`attributes.measure` found: place, size, shape, brightness. The frames of validation and test questions are never used
in training.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import asdict
from typing import Literal

from medground import taxonomy
from medground.data.attributes import Attributes
from medground.errors import ConfigError

__all__ = ["FACETS", "HELD_OUT_FRAMES", "TRAIN_FRAMES", "ask", "pair_side", "reason"]

PICTURE_WORDS = {
    "CT": ("CT slice", "scan", "CT image"),
    "MRI": ("MR image", "scan", "MRI slice"),
    "X-ray": ("radiograph", "X-ray", "film"),
    "ultrasound": ("ultrasound image", "sonogram", "scan"),
    "endoscopy": ("endoscopic view", "endoscopy frame", "picture"),
    "fundus": ("fundus photograph", "retinal picture", "photograph"),
    "OCT": ("OCT image", "en-face map", "scan"),
    "dermoscopy": ("dermoscopic picture", "photograph", "picture"),
    "microscopy": ("micrograph", "microscope picture", "picture"),
    "mammography": ("mammogram", "film", "X-ray"),
}
"""What clinicians call a picture of each modality."""

TRAIN_FRAMES = (
    "Where is {x}?",
    "Where is {x} on this {picture}?",
    "Where can {x} be seen?",
    "Can you point out {x}?",
    "Could you outline {x} on this {picture}?",
    "Please mark {x}.",
    "Show me {x}.",
    "Show me {x} in this {picture}.",
    "I would like to see {x}.",
    "I am looking for {x}. Where is it?",
    "Which region of this {picture} is {x}?",
    "Which part of the {picture} shows {x}?",
    "On this {picture}, where would you find {x}?",
    "Find {x}.",
    "What here could be {x}?",
    "A colleague asks about {x}. Where is it in this {picture}?",
    "Does this {picture} show {x}, and where?",
    "Draw a box around {x}.",
    "What do you make of {x}? Point to it.",
    "My patient asks me about {x}. Can it be seen?",
)
"""Frames of training questions; ``{x}`` is a phrase, ``{picture}`` a word for the picture."""

HELD_OUT_FRAMES = (
    "Help me locate {x}.",
    "Whereabouts in this {picture} does {x} lie?",
    "Before I sign the report, indicate {x}.",
    "Looking at this {picture}, what area corresponds to {x}?",
    "Tell me where {x} sits in the {picture}.",
    "Would you highlight {x} for me?",
)
"""Frames of validation and test questions, which no model is trained on."""

FACETS = ("zone", "size", "shape", "brightness")
"""What a trace claims of its target, each a field of `Attributes`."""

SEEN_AS = (
    "It lies in the {zone} of the image, is {size} and {shape}, and is {brightness} its surroundings.",
    "In the {zone} of the image there is a {size}, {shape} region that is {brightness} what surrounds it.",
    "A {size} and {shape} area, {brightness} its surroundings, lies in the {zone} of the image.",
)


def ask(
    rng: random.Random,
    target: taxonomy.Target,
    modality: str,
    *,
    side: str | None = None,
    held_out: bool = False,
    long_share: float = 0.25,
) -> str:
    """Return an implicit question for a target.

    Parameters
    ----------
    rng : random.Random
        The only source of chance.
    target : taxonomy.Target
    modality : str
        One of `PICTURE_WORDS`.
    side : str, optional
        Which one of a pair is meant, such as ``"on the patient's left side"``.
    held_out : bool
        Take the frame from `HELD_OUT_FRAMES`.
    long_share : float, 0 to 1
        How often two phrases describe the target instead of one.

    Raises
    ------
    ConfigError
        When a phrase of the taxonomy gives the target's name away, or the modality is unknown.
    """
    if modality not in PICTURE_WORDS:
        raise ConfigError(f"modality {modality!r} is unknown; use one of {', '.join(PICTURE_WORDS)}")
    known = taxonomy.phrases(target, modality)
    first, second = rng.sample(sorted(known), 2)
    phrase = rng.choice(known[first])
    if rng.random() < long_share:
        phrase = f"{phrase}, {rng.choice(known[second])}"
    if side:
        phrase = f"{phrase}, the one {side}"
    frame = rng.choice(HELD_OUT_FRAMES if held_out else TRAIN_FRAMES)
    question = frame.format(x=phrase, picture=rng.choice(PICTURE_WORDS[modality]))
    if name := taxonomy.leaks(question, target):
        raise ConfigError(f"taxonomy: a phrase of {target.name!r} says {name!r}, which gives the target away")
    return question[0].upper() + question[1:]


def reason(
    rng: random.Random,
    target: taxonomy.Target,
    seen: Attributes,
    *,
    side: str | None = None,
    omit: Collection[str] | None = None,
) -> str:
    """Return a short true trace: what is meant, and what can be seen of it.

    Parameters
    ----------
    rng : random.Random
        The only source of chance.
    target : taxonomy.Target
    seen : Attributes
        As measured on the very picture that the question is about.
    side : str, optional
        As in `ask`.
    omit : collection of str, optional
        Which of `FACETS` nothing is said about; each of the others gets a clause of its own, so that any can be left
        out of the sentence. With None all are told, in one of the wordings of `SEEN_AS`.

    Examples
    --------
    >>> seen = Attributes(zone="centre", size="small", brightness="darker than", shape="round")
    >>> reason(random.Random(0), taxonomy.load_targets()["optic disc"], seen, omit={"zone", "shape"})
    'The optic disc is where nerve fibres leave the eye. It is small and is darker than its surroundings.'
    """
    meant = f" The one meant is {side}." if side else ""
    if omit is None:
        return f"{target.fact}{meant} {rng.choice(SEEN_AS).format(**asdict(seen))}"
    looks = " and ".join(getattr(seen, facet) for facet in ("size", "shape") if facet not in omit)
    clauses = [
        "" if "zone" in omit else f"lies in the {seen.zone} of the image",
        looks and f"is {looks}",
        "" if "brightness" in omit else f"is {seen.brightness} its surroundings",
    ]
    told = " and ".join(clause for clause in clauses if clause)
    return f"{target.fact}{meant} It {told}." if told else f"{target.fact}{meant}"


def pair_side(own: tuple[float, float], partner: tuple[float, float]) -> Literal["left", "right", "upper", "lower"]:
    """Return which of two places, (x, y) each, is meant, along the axis in which they differ most.

    Examples
    --------
    >>> pair_side((10, 50), (90, 40)), pair_side((10, 50), (20, 90))
    ('left', 'upper')
    """
    across, down = own[0] - partner[0], own[1] - partner[1]
    if abs(across) >= abs(down):
        return "left" if across < 0 else "right"
    return "upper" if down < 0 else "lower"
