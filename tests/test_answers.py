"""Which choices an answer names: one reading for rewards and metrics."""

from __future__ import annotations

import subprocess
import sys

import pytest

from medground.answer_metrics import read_choices
from medground.answers import READ, chosen, folded, plain, yes_or_no

CHOICES = {"A": "Edema", "B": "Small, left effusion", "C": "No finding", "D": "Effusion", "E": "Right/left shift"}

# (answer, letters among the choices, letters where no choices are known, why)
TABLE = [
    ("b", "B", "B", "a small letter"),
    ("The correct answer is (D).", "D", "D", "introduced"),
    ("a) edema", "A", "A", "a small letter marks the start"),
    ("A: Effusion", None, "A", "another's text"),
    ("A: Edema and small, left effusion", "AB", "A", "a text with its letter, one without"),
    ("Edema, D: Effusion", "AD", None, "the other way round"),
    ("A, effusion", "AD", None, "a letter, and another's text set off from it"),
    ("effusion; A", "AD", None, "and the other way round"),
    ("A, D: Effusion", "AD", "AD", "a letter alone before a letter with its text"),
    ("A: Edema, D", "AD", "AD", "and after it"),
    ("A\nD: Effusion", "AD", "AD", "on two lines"),
    ("- Edema\n- the effusion", "AD", None, "texts on lines"),
    ("small, left\neffusion", "B", None, "one text on two lines"),
    ("Edema/effusion", "AD", None, "parted by a slash"),
    ("right/left shift", "E", None, "a text with a slash"),
    ("no finding and no finding", "C", None, "said twice"),
    ("A or D", None, None, "either"),
    ("(A) or D", None, "A", "either, the first in brackets"),
    ("Edema or effusion", None, None, "either, in words"),
    ("A: Edema because of D", None, "A", "more than choices"),
    ("A, F", None, "AF", "one isn't offered"),
    ("Edema, cyst", None, None, "so is one text"),
    ("because A: Edema", None, None, "words before"),
    ("vitamin c. lack", None, None, "a small letter later on is a word"),
    ("no", None, None, "letters run together aren't words"),
    ("", None, None, "nothing"),
]


@pytest.mark.parametrize(("answer", "known", "unknown", "why"), TABLE, ids=[row[3] for row in TABLE])
def test_chosen(answer: str, known: str | None, unknown: str | None, why: str) -> None:
    assert chosen(answer, CHOICES) == (None if known is None else set(known)), why
    assert chosen(answer, None) == (None if unknown is None else set(unknown)), why


@pytest.mark.parametrize(("answer", "known", "unknown", "why"), TABLE, ids=[row[3] for row in TABLE])
def test_metrics_read_the_same(answer: str, known: str | None, unknown: str | None, why: str) -> None:
    for choices, letters in ((CHOICES, known), (None, unknown)):
        read = read_choices(answer, choices)
        assert read == set(letters) if letters is not None else not read & set("ABCDEF")


def test_only_the_start_is_read_and_it_ends() -> None:
    assert plain("x" * 2 * READ) == "x" * READ
    assert folded("x" * 2 * READ) == "x" * 2 * READ
    for text in ("A, " * 100_000, "a: " * 100_000, "(" * 100_000, "A: x, B, " * 50_000, "\ufdfa" * 100_000):
        chosen(text, {"A": "a" * 10_000, "B": "and"})
        chosen(text, None)
        yes_or_no(text)


def test_reading_is_light() -> None:
    code = "import sys, medground.answers; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    # Whichever of the two that read by it comes first.
    for first, second in (("metrics", "rewards"), ("rewards.judges", "answer_metrics")):
        code = f"import medground.{first}, medground.{second}"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
