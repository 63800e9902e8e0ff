"""Training rows made on the fly: one picture, up to a few of its targets, each with a question and a completion."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from medground import taxonomy
from medground.coords import Space
from medground.data.attributes import measure
from medground.data.build import partners, side_phrase
from medground.data.open_masks import Target, load_mask, load_picture
from medground.data.questions import TRAIN_FRAMES, ask, reason
from medground.masks import box_of, key_points, largest_component
from medground.parsing import format_answer
from medground.prompts import Mode, render
from medground.train.augment import MASK_SIDE, choose_view, show, show_mask
from medground.types import Mask

__all__ = ["TrainingPictures", "completion_text", "corpus"]

SPACE = Space.norm1000()


def completion_text(mask: Mask, reasoning: str | None) -> str:
    """Return the completion that states a mask's box and key points, in thousandths of the picture."""
    return format_answer(box_of(mask), key_points(mask), SPACE, reasoning=reasoning)


@dataclass
class TrainingPictures:
    """A map-style data set of pictures, seen anew in each epoch; row i is a function of the seed and i alone.

    That is what lets an interrupted run go on with the very rows it would have seen.

    Parameters
    ----------
    targets : sequence of Target
    epochs : float
        The data set is `epochs` times as long as there are pictures, each epoch in an order of its own.
    image_size : int
        Side of the square that the model sees.
    most_targets : int
        How many targets of one picture are asked about at a time; they share one encoding of it.
    direct_share : float
        How often the answer comes without reasoning.
    named_share : float
        How often the question names its target, so that the model also serves those who do.
    seed : int
    emphasis : mapping of str to int
        How often an epoch shows each picture of a collection; once where it isn't said.
    wide : collection of str
        Collections that are also shown from farther away; see `augment.choose_view`.
    """

    targets: Sequence[Target]
    epochs: float = 1
    image_size: int = 256
    most_targets: int = 3
    direct_share: float = 0.25
    named_share: float = 0.1
    seed: int = 0
    emphasis: Mapping[str, int] = field(default_factory=dict)
    wide: Collection[str] = ()

    @cached_property
    def pictures(self) -> list[list[Target]]:
        """The targets of each picture, a picture as often as an epoch shows it."""
        found: dict[str, list[Target]] = {}
        for target in self.targets:
            found.setdefault(str(target.image), []).append(target)
        return [shown for shown in found.values() for _ in range(self.emphasis.get(shown[0].source, 1))]

    @cached_property
    def pairs(self) -> dict[str, Target]:
        """The other one of each pair."""
        return partners(self.targets)

    def __len__(self) -> int:
        return round(len(self.pictures) * self.epochs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        epoch, place = divmod(index, len(self.pictures))
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.pictures))
        rng = random.Random(f"{self.seed}/{epoch}/{order[place]}")  # noqa: S311 - chance for training, not for secrets
        targets = self.pictures[order[place]]
        chosen = rng.sample(targets, min(self.most_targets, len(targets)))
        source = chosen[0].source
        picture = load_picture(chosen[0])
        masks = {target.id: load_mask(target) for target in chosen}
        first = box_of(masks[chosen[0].id])
        view = choose_view(rng, source, first.to(Space.unit()).xyxy, wide=source in self.wide)
        pixels = show(picture, view, self.image_size)
        grey = np.asarray(Image.fromarray(pixels).convert("L").resize((MASK_SIDE, MASK_SIDE)))
        turns = []
        for target in chosen:
            mask = show_mask(masks[target.id], view)
            whole = masks[target.id].mean() / ((view.crop[2] - view.crop[0]) * (view.crop[3] - view.crop[1]))
            if not mask.any() or mask.mean() < 0.6 * whole:
                continue
            partner = self.pairs.get(target.id)
            other = show_mask(load_mask(partner), view) if partner else None
            turns.append(self._turn(rng, target, largest_component(mask), grey, other))
        return {"pixels": pixels, "turns": turns}

    def _turn(
        self, rng: random.Random, target: Target, mask: Mask, grey: npt.NDArray[np.uint8], other: Mask | None
    ) -> tuple[str, str]:
        knowledge = taxonomy.target_of(target.category)
        side = side_phrase(target, mask, other if other is not None and other.any() else None)
        if rng.random() < self.named_share:
            name = rng.choice([knowledge.name, *knowledge.synonyms])
            named = f"the {name}, the one {side}" if side else f"the {name}"
            question = rng.choice(TRAIN_FRAMES[:1] + TRAIN_FRAMES[2:3] + TRAIN_FRAMES[5:7]).format(x=named)
        else:
            question = ask(rng, knowledge, target.modality, side=side)
        if rng.random() < 0.1:
            question = question.lower().rstrip("?.")
        mode: Mode = "direct" if rng.random() < self.direct_share else "reason"
        reasoning = None if mode == "direct" else reason(rng, knowledge, measure(mask, grey), side=side)
        _, user = render("nano-v1", question, mode=mode, space=SPACE)
        return user, completion_text(mask, reasoning)


def corpus(targets: Sequence[Target], *, rounds: int = 12, seed: int = 0) -> list[str]:
    """Return questions and reasoning for training the tokenizer: every phrase of the taxonomy, and typical traces."""
    rng = random.Random(seed)  # noqa: S311 - chance for phrasing, not for secrets
    kinds = sorted({(target.category, target.modality) for target in targets})
    grey = np.zeros((32, 32), np.uint8)
    texts: list[str] = []
    for category, modality in kinds:
        knowledge = taxonomy.target_of(category)
        side = taxonomy.side_of(category)
        words = f"on the patient's {side} side" if side else None
        for _ in range(rounds):
            mask = np.zeros((32, 32), bool)
            left, top = rng.randrange(28), rng.randrange(28)
            mask[top : top + rng.randrange(2, 30), left : left + rng.randrange(2, 30)] = True
            grey[mask] = rng.choice([0, 5, 200])
            texts += [
                render("nano-v1", ask(rng, knowledge, modality, side=words), mode="direct", space=SPACE)[1],
                reason(rng, knowledge, measure(mask, grey), side=words),
            ]
    return texts
