"""What visual questions are worth to whoever doesn't look: the most frequent answer, chance, and the words alone.

A baseline stands where a reasoner stands, but is told the row. All but the oracle learn from training rows, and none
sees the picture.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise

from medground.answers import QuestionType, chosen, plain
from medground.coords import Space
from medground.data.vqa_rows import UNNAMED, VqaRow
from medground.errors import ConfigError
from medground.images import MedicalImage
from medground.reasoners import Completion
from medground.rewards.thinkvg_reading import format_response
from medground.types import Box

__all__ = ["VISUAL_BASELINES", "VisualBaseline", "load_visual_baseline"]

VISUAL_BASELINES = {
    "frequent-answer": "the most frequent answer to questions of its type and style; of choices the likeliest",
    "random-answer": "an answer drawn at random: a choice, some choices, yes or no, or another question's answer",
    "text-only": "what a naive Bayes classifier makes of the words of question and choices",
    "truth": "the row's own completion: what a perfect answer scores",
}
"""What each baseline answers, by name; a report prints these words."""

_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")

_Answer = Callable[[VqaRow], str]


class VisualBaseline:
    """Answers to visual questions that come from no model, in the form of a reasoner's.

    Parameters
    ----------
    name : str
        One of `VISUAL_BASELINES`.
    answer : callable
        Takes a row to the text of an answer.
    places : mapping of str to Box
        For an answer (in words, `medground.answers.plain`) the mean of the regions that go with it, on the ruler 0-1;
        under "" that of all answers with a region.
    """

    def __init__(self, name: str, answer: _Answer, places: Mapping[str, Box]) -> None:
        self.name, self._answer, self._places = name, answer, places

    def describe(self) -> dict[str, str]:
        """Return what decides the answers, for a report."""
        return {"name": self.name, "baseline": VISUAL_BASELINES[self.name]}

    def answer(self, row: VqaRow, image: MedicalImage) -> Completion:
        """Return the answer about a row in the picture's pixels, without reasoning, and one mean region."""
        space = image.space
        if self.name == "truth":
            own = row.truth().space
            return Completion(row.completion(), own)
        said = self._answer(row)
        place = self._places.get(_words(row, said), self._places.get(""))
        boxes = [] if place is None else [place.to(space)]
        return Completion(format_response(said, boxes, [UNNAMED], space), space)


def load_visual_baseline(name: str, training: Iterable[VqaRow] = ()) -> VisualBaseline:
    """Return a baseline by name.

    Parameters
    ----------
    name : str
        One of `VISUAL_BASELINES`.
    training : iterable of VqaRow
        Rows that aren't measured.

    Raises
    ------
    ConfigError
        When the name isn't known, or there are no training rows.

    Examples
    --------
    >>> from medground.data.rows import Picture
    >>> row = lambda text, answer: VqaRow(id=text, question=text, question_type="closed", answer=answer,
    ...                                   image=Picture(path="a.png"), image_size=(9, 9))
    >>> rows = [row("Is the heart seen?", "Yes"), row("Is a stent seen?", "No"), row("Is the stent bent?", "No")]
    >>> import numpy as np
    >>> image = MedicalImage.from_array(np.zeros((9, 9), np.uint8))
    >>> load_visual_baseline("text-only", rows).answer(row("Is the heart large?", "Yes"), image).text
    '<response><answer>Yes</answer></response>'
    """
    if name not in VISUAL_BASELINES:
        raise ConfigError(f"baseline {name!r} isn't known; choose one of {', '.join(VISUAL_BASELINES)}")
    if name == "truth":
        return VisualBaseline(name, lambda row: row.answer, {})
    rows = list(training)
    if not rows:
        raise ConfigError(f"baseline {name} needs training rows of visual questions; name them")
    if name == "random-answer":
        return VisualBaseline(name, _Chance(rows), {})
    return VisualBaseline(name, _Frequent(rows) if name == "frequent-answer" else _Words(rows), _places(rows))


def _words(row: VqaRow, answer: str) -> str:
    """Return an answer in words: of choices their texts, since letters mean something else in each row."""
    letters = chosen(answer, row.offered) if row.choices else None
    if letters is None or row.offered is None:
        return plain(answer).split(",")[0] if row.question_type == "closed" else plain(answer)
    return "; ".join(sorted(plain(row.offered[letter]) for letter in letters))


def _places(rows: Sequence[VqaRow]) -> dict[str, Box]:
    found: dict[str, list[Sequence[float]]] = defaultdict(list)
    unit = Space.unit()
    for row in rows:
        for box in row.truth().to(unit).boxes:
            for name in {_words(row, row.answer), ""}:
                found[name].append(box.xyxy)
    means = {name: [math.fsum(edge) / len(edges) for edge in zip(*edges, strict=True)] for name, edges in found.items()}
    return {name: Box(x1, y1, x2, y2, unit) for name, (x1, y1, x2, y2) in means.items()}


class _Chance:
    """An answer drawn at random, the same for each row in every run."""

    def __init__(self, rows: Sequence[VqaRow]) -> None:
        self.open = sorted({row.answer for row in rows if row.question_type == "open"}) or ["unknown"]

    def __call__(self, row: VqaRow) -> str:
        chance = random.Random(row.id)  # noqa: S311 - a baseline, not a secret
        if row.offered is None:
            return chance.choice(["Yes", "No"] if row.question_type == "closed" else self.open)
        letters = list(row.offered)
        if row.question_type == "single_choice":
            return chance.choice(letters)
        drawn = [letter for letter in letters if chance.random() < 0.5]
        return ", ".join(drawn or [chance.choice(letters)])


class _Frequent:
    """The most frequent answer to questions of a type and style; of choices those whose texts are right most often."""

    def __init__(self, rows: Sequence[VqaRow]) -> None:
        self.answers: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        self.offered, self.right = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
        sizes: Counter[int] = Counter()
        for row in rows:
            if row.offered is None:
                for kind in (row.style, ""):
                    self.answers[row.question_type, kind][row.answer] += 1
                continue
            letters = chosen(row.answer, row.offered) or ()
            for letter, text in row.offered.items():
                self.offered[row.question_type, plain(text)] += 1
                self.right[row.question_type, plain(text)] += letter in letters
            if row.question_type == "multi_choice":
                sizes[len(letters)] += 1
        self.size = max(sizes, key=lambda size: sizes[size], default=1)

    def __call__(self, row: VqaRow) -> str:
        if row.offered is None:
            known = self.answers.get((row.question_type, row.style)) or self.answers[row.question_type, ""]
            return min(known, key=lambda answer: (-known[answer], answer)) if known else "unknown"

        def share(letter: str) -> tuple[float, str]:
            key = row.question_type, plain(row.choices[ord(letter) - ord("A")])
            return -(self.right[key] + 0.5) / (self.offered[key] + 1), letter

        count = self.size if row.question_type == "multi_choice" else 1
        return ", ".join(sorted(sorted(row.offered, key=share)[:count]))


class _Words:
    """Naive Bayes on words: which answer goes with a question's, and whether a choice is right beside a question's.

    Evidence is a question's words, a choice's words and text, and each pair of a word of both, so that what a question
    asks for and what a choice says may meet.
    """

    def __init__(self, rows: Sequence[VqaRow]) -> None:
        self.bayes: dict[QuestionType, _Bayes] = {}
        for row in rows:
            known = self.bayes.setdefault(row.question_type, _Bayes())
            if row.offered is None:
                known.learn(_tokens(row.question), row.answer)
                continue
            letters = chosen(row.answer, row.offered) or ()
            for letter, text in row.offered.items():
                known.learn(_meeting(row.question, text), str(letter in letters))

    def __call__(self, row: VqaRow) -> str:
        known = self.bayes.get(row.question_type, _Bayes())
        if row.offered is None:
            found = known.scores(_tokens(row.question))
            return min(found, key=lambda answer: (-found[answer], answer)) if found else "unknown"
        ahead = {}
        for letter, text in row.offered.items():
            scores = known.scores(_meeting(row.question, text))
            ahead[letter] = scores.get("True", -math.inf) - scores.get("False", -math.inf) if scores else 0.0
        best = max(ahead, key=lambda letter: ahead[letter])
        if row.question_type == "single_choice":
            return best
        return ", ".join(sorted({best, *(letter for letter, value in ahead.items() if value > 0)}))


class _Bayes:
    """Counts of tokens by label, with add-one smoothing; a token counts once in a text."""

    def __init__(self) -> None:
        self.labels: Counter[str] = Counter()
        self.tokens: dict[str, Counter[str]] = defaultdict(Counter)

    def learn(self, tokens: Iterable[str], label: str) -> None:
        self.labels[label] += 1
        for token in tokens:
            self.tokens[token][label] += 1

    def scores(self, tokens: Iterable[str]) -> dict[str, float]:
        """Return each label's log probability, less what all have in common; only tokens that are known count."""
        found = {label: math.log(count) for label, count in self.labels.items()}
        for token in tokens:
            if token in self.tokens:
                for label, count in self.labels.items():
                    found[label] += math.log((self.tokens[token][label] + 1) / (count + 2))
        return found


def _tokens(text: str) -> set[str]:
    words = _WORD.findall(plain(text))
    return {*words, *(f"{one} {other}" for one, other in pairwise(words))}


def _meeting(question: str, choice: str) -> set[str]:
    asked, offered = set(_WORD.findall(plain(question))), _tokens(choice)
    return {*offered, f"= {plain(choice)}", *(f"{one} | {other}" for one in asked for other in offered)}
