"""What a reasoning says, held against the mask that its own location led to."""

from __future__ import annotations

import numpy as np
import pytest

from medground.rewards.evidence import Facts
from medground.self_check import LONGEST_SIDE, contradictions, drawn_facts, self_check
from medground.types import Mask


def disc(side: int = 90, *, radius: float = 0.1, x: float = 0.2, y: float = 0.2) -> Mask:
    rows, columns = np.mgrid[:side, :side] / side
    return np.asarray((columns - x) ** 2 + (rows - y) ** 2 < radius**2)


def picture(mask: Mask, inside: int, outside: int = 100) -> np.ndarray:
    return np.where(mask, inside, outside).astype(np.uint8)[..., None].repeat(3, axis=2)


@pytest.mark.parametrize(
    ("reasoning", "agrees", "said"),
    [
        ("It is small and round.", [True, True], []),
        ("It is large.", [False], ['"large"; by the mask that was drawn the target is small']),
        ("It lies in the lower right of the image.", [False], ["the target is in the upper left"]),
        ("It lies in the left half of the image.", [True], []),
        ("It lies in the right half of the image.", [False], ["the target is in the upper left"]),
        ("It is brighter than its surroundings.", [True], []),
        ("It is darker than its surroundings.", [False], ["the target is brighter than its surroundings"]),
        ("There are two parts.", [False], ["the target is in one part"]),
        ("It is not large. Is it dark? The left lung is large.", [], []),
        ("", [], []),
    ],
)
def test_each_claim_is_held_against_the_mask(reasoning: str, agrees: list[bool], said: list[str]) -> None:
    mask = disc()
    facts = drawn_facts(mask, picture(mask, 180))
    assert facts is not None
    checked = self_check(reasoning, facts)
    assert [claim.agrees for claim in checked] == agrees
    assert [reasoning[claim.start : claim.end] for claim in checked] == [claim.text for claim in checked]
    told = contradictions(checked, facts)
    assert len(told) == len(said)
    assert all(part in sentence for part, sentence in zip(said, told, strict=True))


def test_what_is_not_known_is_neither_confirmed_nor_refuted() -> None:
    facts = Facts.read({"size": "small"})
    (claim,) = self_check("It is round.", facts)
    assert claim.agrees is None
    assert contradictions([claim], facts) == ()


def test_nothing_is_brighter_than_the_rest_of_a_picture_that_it_fills() -> None:
    everything = np.ones((40, 60), bool)
    facts = drawn_facts(everything, picture(everything, 180))
    assert facts is not None
    assert [claim.agrees for claim in self_check("It is large and brighter than its surroundings.", facts)] == [
        True,
        None,
    ]


def test_an_empty_mask_says_nothing() -> None:
    mask = np.zeros((40, 60), bool)
    assert drawn_facts(mask, picture(mask, 180)) is None


def test_large_pictures_are_measured_small_and_say_the_same() -> None:
    small, large = disc(300), disc(3 * LONGEST_SIDE)
    assert drawn_facts(large, picture(large, 60)) == drawn_facts(small, picture(small, 60))
    dot = np.zeros((3 * LONGEST_SIDE, 8), bool)
    dot[0, 0] = True  # which no pixel of the small picture shows
    assert drawn_facts(dot, picture(dot, 60)) is None
