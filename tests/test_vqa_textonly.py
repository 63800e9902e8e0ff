from __future__ import annotations

import random

import pytest

pytest.importorskip("sklearn")

from medground.data.rows import Picture
from medground.data.vqa.making import lacking
from medground.data.vqa.textonly import text_only
from medground.data.vqa_rows import Region, VqaRow

ORGANS = ("liver", "spleen", "stomach", "pancreas", "aorta", "colon")


def row(kind, question, answer, choices=(), style="any", **changes):
    fields = {"id": "1", "question": question, "question_type": kind, "answer": answer, "choices": choices}
    return VqaRow(**fields, image=Picture(path="a.png"), image_size=(64, 64), style=style, **changes)


def leaky(kind, rng):
    """A row whose words tell the answer."""
    organ = rng.choice(ORGANS)
    if kind == "closed":
        return row(kind, f"Is the {organ} pale?", "Yes" if organ < "m" else "No")
    if kind == "open":
        return row(kind, f"Where does the {organ} lie?", f"field {ORGANS.index(organ)}")
    choices = tuple(rng.sample(ORGANS, 4))
    right = [chr(ord("A") + index) for index, name in enumerate(choices) if name in ("liver", "spleen", "stomach")]
    if kind == "single_choice":
        choices = ("liver", *(name for name in choices if name != "liver"))[:4]
        choices = tuple(rng.sample(choices, len(choices)))
        return row(kind, "Which is it?", chr(ord("A") + choices.index("liver")), choices)
    return row(kind, "Which are they?", ", ".join(right), choices) if right else leaky(kind, rng)


def fair(kind, rng):
    """A row whose words tell nothing of the answer."""
    organ = rng.choice(ORGANS)
    if kind == "closed":
        return row(kind, f"Is the {organ} pale?", rng.choice(("Yes", "No")))
    if kind == "open":
        return row(kind, f"Where does the {organ} lie?", f"field {rng.randrange(6)}")
    letters = rng.sample("ABCD", 1 if kind == "single_choice" else rng.randint(1, 3))
    return row(kind, "Which?", ", ".join(sorted(letters)), tuple(rng.sample(ORGANS, 4)))


def split(make, kind, seed=0):
    rng = random.Random(seed)
    return {"train": [make(kind, rng) for _ in range(400)], "test": [make(kind, rng) for _ in range(400)]}


@pytest.mark.parametrize("kind", ["open", "closed", "single_choice", "multi_choice"])
def test_words_that_tell_the_answer_are_found_out(kind):
    (found,) = text_only(split(leaky, kind))
    assert (found.question_type, found.trained, found.asked) == (kind, 400, 400)
    assert found.accuracy > 0.9 > found.chance
    assert not found.balanced


@pytest.mark.parametrize("kind", ["open", "closed", "single_choice", "multi_choice"])
def test_words_that_tell_nothing_give_chance(kind):
    (found,) = text_only(split(fair, kind))
    assert found.accuracy == pytest.approx(found.chance, abs=0.07)  # two errors of 400 draws at one half: 0.05
    assert found.chance == pytest.approx(
        {"open": 1 / 6, "closed": 0.5, "single_choice": 0.25}.get(kind, 0.08), abs=0.05
    )


def test_names_of_earlier_regions_count_as_words():
    def make(kind, rng):
        name = rng.choice(("left lung", "right lung"))
        known = {"earlier": [{"ref": name, "box": [1, 2, 3, 4]}]}
        return row(kind, "Is it the larger one?", "Yes" if name == "right lung" else "No", other=known)

    (found,) = text_only(split(make, "closed"))
    assert found.accuracy == 1.0


def test_too_few_rows_say_nothing():
    rng = random.Random(0)
    few = [leaky("closed", rng) for _ in range(19)]
    assert text_only({"train": few * 5, "test": few}) == []
    assert text_only({"test": few * 5}) == []


def test_two_regions_that_are_one_when_rounded_fall_short():
    boxes = [(0, 0, 2000, 2000), (0, 0, 2000, 2001)]
    said = " and ".join(f"a part (region {list(box)})" for box in boxes)
    fields = {"thinking": f"I see {said}.", "regions": [Region(ref="part", box=box) for box in boxes]}
    large = row("closed", "Is it pale?", "Yes").model_copy(update={"image_size": (4000, 4000)})
    large = VqaRow.model_validate({**dict(large), **fields})
    assert lacking(large) == "consistency, 0-1000"
    assert lacking(row("closed", "Is it pale?", "Yes", thinking="It is.")) == ""
