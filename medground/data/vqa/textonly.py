"""How far the words of visual questions lead without the picture: bag-of-words classifiers against chance.

What a classifier is shown is the question, its choices with their letters, and what earlier regions are called. It
is trained on the rows of ``train`` and asked about those of all other splits. Of several classifiers the one counts
that does best on the rows it is asked about, so the figure errs on the side of finding a shortcut.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from medground.answers import QuestionType, chosen, yes_or_no
from medground.data.vqa_rows import VqaRow
from medground.errors import MissingExtraError

__all__ = ["ABOVE_CHANCE", "TextOnly", "text_only"]

ABOVE_CHANCE = 0.05
"""How much more often than by chance the words alone may lead to the answer."""

_LEAST = 20


@dataclass(frozen=True, slots=True)
class TextOnly:
    """What the words alone gave for one type of question.

    Parameters
    ----------
    question_type : {"open", "closed", "single_choice", "multi_choice"}
    trained, asked : int
        Rows that the classifiers learned from, and rows that they were asked about.
    accuracy : float, 0 to 1
        Of the best classifier: the answer in the same words, yes or no, the letter, or all letters.
    chance : float, 0 to 1
        *closed*: the commoner answer of train. *single*: one over the number of choices, on average. *multi*: the
        commonest set of letters of train, among questions with as many choices. *open*: the commonest answer of train
        to questions of that kind (where, how large, which technique ...), since the kind tells what answers there are.
    classifier : str
        Which one was best.
    """

    question_type: QuestionType
    trained: int
    asked: int
    accuracy: float
    chance: float
    classifier: str

    @property
    def balanced(self) -> bool:
        """Whether the words lead to the answer no more often than by chance and `ABOVE_CHANCE`."""
        return self.accuracy <= self.chance + ABOVE_CHANCE


def text_only(rows: Mapping[str, Sequence[VqaRow]]) -> list[TextOnly]:
    """Measure how far the words alone lead.

    Parameters
    ----------
    rows : mapping of str to sequence of VqaRow
        By the split; ``train`` is learned from.

    Returns
    -------
    list of TextOnly
        One for each type with at least 20 rows to learn from and 20 to be asked about.

    Raises
    ------
    MissingExtraError
        When scikit-learn isn't installed.
    """
    found = []
    for kind in get_args(QuestionType):
        train = [row for row in rows.get("train", ()) if row.question_type == kind]
        asked = [row for split in rows if split != "train" for row in rows[split] if row.question_type == kind]
        if min(len(train), len(asked)) >= _LEAST:
            scores = {name: _share(guess(train, asked), asked) for name, guess in _CLASSIFIERS[kind].items()}
            best = max(scores, key=lambda name: scores[name])
            chance = _share(_constant(train, asked), asked)
            if kind == "single_choice":
                chance = sum(1 / len(row.choices) for row in asked) / len(asked)
            found.append(TextOnly(kind, len(train), len(asked), scores[best], chance, best))
    return found


def _share(guesses: Sequence[str], asked: Sequence[VqaRow]) -> float:
    return sum(guess == _label(row) for guess, row in zip(guesses, asked, strict=True)) / len(asked)


def _label(row: VqaRow) -> str:
    """Return the answer so that two that mean the same are the same."""
    if row.question_type == "closed":
        return "yes" if yes_or_no(row.answer) else "no"
    if row.question_type == "open":
        return row.answer.casefold()
    return "".join(sorted(chosen(row.answer, row.offered) or ()))


def _group(row: VqaRow) -> str:
    """Return what a constant guess may know of a question."""
    if row.question_type == "open":
        return row.style
    return str(len(row.choices))


def _constant(train: Sequence[VqaRow], asked: Sequence[VqaRow]) -> list[str]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in train:
        counts[_group(row)][_label(row)] += 1
        counts[""][_label(row)] += 1
    return [counts[_group(row) if _group(row) in counts else ""].most_common(1)[0][0] for row in asked]


def _words(row: VqaRow) -> list[str]:
    """Return the tokens of a question: words, pairs of neighbours, and the choices' words with their letters."""
    words = re.findall(r"[\w%.]+", row.question.casefold())
    tokens = [*words, *(f"{one} {two}" for one, two in itertools.pairwise(words))]
    for letter, text in (row.offered or {}).items():
        said = re.findall(r"[\w%.]+", text.casefold())
        tokens += [f"{letter}: {word}" for word in said] + [f"any: {word}" for word in said] + [f"{letter}: {text}"]
    tokens += [f"earlier: {each['ref']}" for each in row.other.get("earlier", [])]
    return tokens


def _learner() -> tuple[Any, Any]:
    try:
        from sklearn.feature_extraction.text import CountVectorizer  # type: ignore[import-untyped]
        from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "scikit-learn", extra="data", purpose="measuring how far a question's words alone lead"
        ) from error
    return CountVectorizer(analyzer=_tokens, binary=True), LogisticRegression(max_iter=1000)


def _tokens(tokens: Sequence[str]) -> Sequence[str]:
    return tokens


def _answers(train: Sequence[VqaRow], asked: Sequence[VqaRow]) -> list[str]:
    """Guess the answer from the bag of words of the question and of its choices."""
    labels = [_label(row) for row in train]
    if len(set(labels)) < 2:
        return [labels[0]] * len(asked)
    vectors, model = _learner()
    model.fit(vectors.fit_transform([_words(row) for row in train]), labels)
    return [str(label) for label in model.predict(vectors.transform([_words(row) for row in asked]))]


def _choice_tokens(row: VqaRow, text: str) -> list[str]:
    """Return the tokens of one choice: its words, alone and crossed with the question's."""
    said, words = re.findall(r"[\w%.]+", text.casefold()), re.findall(r"[\w%.]+", row.question.casefold())
    others = [other.casefold() for other in row.choices if other != text]
    return [
        *said,
        f"whole: {text.casefold()}",
        *(f"{word} | {text.casefold()}" for word in words),
        *(f"{text.casefold()} beside {other}" for other in others),
    ]


def _each_choice(train: Sequence[VqaRow], asked: Sequence[VqaRow]) -> list[str]:
    """Guess of each choice whether it is right, from its words, the question's, and the other choices'."""
    tokens, right = [], []
    for row in train:
        label = _label(row)
        for letter, text in (row.offered or {}).items():
            tokens.append(_choice_tokens(row, text))
            right.append(letter in label)
    vectors, model = _learner()
    model.fit(vectors.fit_transform(tokens), right)
    guesses = []
    for row in asked:
        chances = model.predict_proba(vectors.transform([_choice_tokens(row, text) for text in row.choices]))[:, 1]
        letters = [chr(ord("A") + index) for index, chance in enumerate(chances) if chance > 0.5]
        if row.question_type == "single_choice" or not letters:
            letters = [chr(ord("A") + int(chances.argmax()))]
        guesses.append("".join(letters))
    return guesses


_Guess = Callable[[Sequence[VqaRow], Sequence[VqaRow]], list[str]]
_CLASSIFIERS: dict[QuestionType, dict[str, _Guess]] = {
    "open": {"answers": _answers, "constant": _constant},
    "closed": {"answers": _answers, "constant": _constant},
    "single_choice": {"answers": _answers, "each choice": _each_choice, "constant": _constant},
    "multi_choice": {"answers": _answers, "each choice": _each_choice, "constant": _constant},
}
