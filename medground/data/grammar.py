"""The offline words of a build: descriptions, implicit questions and traces, without a network or a model.

What a back end of words must offer is `Words`; `Grammar` is the default one.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from medground import taxonomy
from medground.data.questions import PICTURE_WORDS
from medground.data.sentences import Frame, fill, load_sentences
from medground.data.traces import absent_trace, agreeing, beside, measured_words, named, phrase_beside, present_trace
from medground.errors import ConfigError
from medground.rewards.evidence import Facts, honesty

__all__ = ["MINE", "Grammar", "Words", "by_grammar"]

MINE = {
    "CT": ("CT scan", "scan"),
    "MRI": ("MRI scan", "scan"),
    "X-ray": ("X-ray", "X-ray picture"),
    "ultrasound": ("ultrasound picture", "scan"),
    "endoscopy": ("camera picture", "picture"),
    "fundus": ("photograph", "picture"),
    "OCT": ("scan", "picture"),
    "dermoscopy": ("photograph", "close-up picture"),
    "microscopy": ("microscope picture", "picture"),
    "mammography": ("mammogram", "X-ray"),
}
"""What patients call a picture of each modality."""


def by_grammar(other: Mapping[str, Any], field: str) -> bool:
    """Return whether a field of a row's ``other``, such as ``asked_by``, says that an offline grammar wrote its words.

    Examples
    --------
    >>> by_grammar({"asked_by": "grammar-v1, edited"}, "asked_by"), by_grammar({}, "thought_by")
    (True, False)
    """
    return str(other.get(field, "")).startswith("grammar")


_OWN_FRAME, _JOINED = 0.5, 0.25
_LONG_PHRASE = 9
_TRIES = 40


class Words(Protocol):
    """What finds the words of a build: the offline grammar, or a language model.

    It must be picklable, since shards are made in several processes, and a function of what it is given, so that a
    build that is made again has the same bytes.
    """

    @property
    def name(self) -> str:
        """What records carry as ``described_by`` and ``asked_by``; it changes whenever the words may."""

    @property
    def attempts(self) -> int:
        """How often a question is asked anew when a gate refuses it, the first time included."""

    def describe(self, record: Mapping[str, Any]) -> dict[str, str]:
        """Return ``short`` and ``long`` of a measured record (`medground.data.describe.measure_picture`)."""

    def ask(self, request: Mapping[str, Any], rng: random.Random) -> dict[str, str]:
        """Return ``question`` and ``reasoning``, and ``template`` where a frame made the question.

        Parameters
        ----------
        request : dict
            A described record and what is wanted of it:

            - ``absent``: whether what is asked for isn't in the picture; then the record's place, masks and
              attributes are another target's, and ``category`` is what is asked for;
            - ``style`` and ``length``: "short" (one phrase) or "long" (two);
            - ``held_out``: whether the question is for validation or test, and so must be in words that no training
              question has;
            - ``side``: words that tell it from the other one of its pair, or None;
            - ``looks_in``: the modality whose appearance phrases apply;
            - ``seen``: names of what is annotated in the picture;
            - ``home``: where what is absent would be found, in words; None where it is present.
        rng : random.Random
            The only source of chance; another one at each attempt.
        """


@dataclass(frozen=True, slots=True)
class Grammar:
    """The offline grammar.

    Parameters
    ----------
    seed : int
        Of the descriptions; questions draw from the generator that they are given.
    name : str
    attempts : int

    Examples
    --------
    >>> request = {"id": "1", "category": "spleen", "modality": "CT", "absent": True, "style": "function",
    ...            "length": "short", "held_out": False, "side": None, "looks_in": "CT", "seen": ["glioma"],
    ...            "home": "the abdomen"}
    >>> said = Grammar().ask(request, random.Random(3))
    >>> taxonomy.leaks(said["question"], taxonomy.target_of("spleen")) is None
    True
    >>> taxonomy.leaks(said["reasoning"], taxonomy.target_of("spleen"))
    'spleen'
    """

    seed: int = 0
    name: str = "grammar-v1"
    attempts: int = 12

    def ask(self, request: Mapping[str, Any], rng: random.Random) -> dict[str, str]:
        """Return a question, its reasoning and the frame's id; see `Words.ask`."""
        question, phrase, frame = _question(request, rng)
        trace = absent_trace if request["absent"] else present_trace
        return {"question": question, "reasoning": trace(request, phrase, rng), "template": frame.id}

    def describe(self, record: Mapping[str, Any]) -> dict[str, str]:
        """Return a short and a long description of a measured target; what they say of it is what was measured.

        Raises
        ------
        ConfigError
            When no wording is true, which is a fault of the sentences.
        """
        rng = random.Random(f"{self.seed}/describe/{record['id']}")  # noqa: S311 - phrasing, not secrets
        facts = Facts.read(record["facts"])
        for _ in range(_TRIES):
            said = {"short": _short(record, rng), "long": _long(record, rng)}
            if all(honesty(text, facts) == 1.0 for text in said.values()):
                return said
        raise ConfigError(f"{record['id']}: no description is true of it; mend sentences.toml or the taxonomy")


def _question(request: Mapping[str, Any], rng: random.Random) -> tuple[str, str, Frame]:
    target = taxonomy.target_of(request["category"])
    known = (taxonomy.unseen_phrases if request["held_out"] else taxonomy.phrases)(target, request["looks_in"])
    style = request["style"]
    if style not in known:
        raise ConfigError(f"{target.name!r} has no phrase of the style {style!r} in {request['looks_in']}; use another")
    sentences = load_sentences()
    frames = sentences.held_out if request["held_out"] else sentences.train
    speaker = "patient" if style == "lay" else "clinician"
    slots = {"x": rng.choice(known[style])}
    if request["length"] == "long":
        # Two lay phrases would be one voice saying it twice; doctors' words beside a patient's are what letters hold.
        slots["y"] = rng.choice(known[rng.choice([each for each in known if each not in (style, "lay")])])
    joined = "y" in slots and rng.random() < _JOINED
    takes = 1 if joined else len(slots)
    wanted = speaker if rng.random() < _OWN_FRAME else "anyone"
    fitting = [each for each in frames if each.speaker == wanted and each.phrases == takes]
    if joined or any(map(_is_long, slots.values())):
        fitting = [each for each in fitting if not each.closed] or fitting
    frame = rng.choice(fitting)
    shown = {"x": f"{slots['x']}, {slots['y']}"} if joined else slots
    pictures = {
        "picture": rng.choice(PICTURE_WORDS[request["modality"]]),
        "mine": rng.choice(MINE[request["modality"]]),
    }
    question = fill(frame.text, **shown, **pictures)
    if request["side"]:
        one = rng.choice(sentences.said["side"]["held_out" if request["held_out"] else "train"])
        question = f"{question} {fill(one, side=request['side'])}"
    return question, slots["x"], frame


def _is_long(phrase: str) -> bool:
    return "," in phrase or len(phrase.split()) > _LONG_PHRASE


def _short(record: Mapping[str, Any], rng: random.Random) -> str:
    sentence = rng.choice(load_sentences().said["short"]["any"])
    words = measured_words(record, rng)
    target = taxonomy.target_of(record["category"])
    starts = {"name": named(target), "size": words["size"], "shape": words["shape"], "bare": target.name}
    started = {f"{part}_start": text[0].upper() + text[1:] for part, text in starts.items()}
    phrase = phrase_beside(target, record["modality"], rng)
    return fill(
        sentence,
        bare=target.name,
        phrase=phrase,
        **started,
        **{key: words[key] for key in ("place", "size", "shape", "bright")},
    )


def _long(record: Mapping[str, Any], rng: random.Random) -> str:
    said = load_sentences().said
    target, seen = taxonomy.target_of(record["category"]), record["attributes"]
    first = phrase_beside(target, record["modality"], rng)
    parts = [
        fill(
            rng.choice(agreeing(said["long"]["what"], named(target))),
            name=named(target),
            phrase=first,
            picture=rng.choice(PICTURE_WORDS[record["modality"]]),
        ),
        fill(rng.choice(said["evidence"]["any"]), **measured_words(record, rng)),
    ]
    more = [
        fill(
            rng.choice(said["long"]["extent"]),
            wide=str(seen["extent"][0]),
            high=str(seen["extent"][1]),
            percent=f"{100 * seen['share']:.2g}" if seen["share"] < 0.1 else f"{100 * seen['share']:.0f}",
            picture=rng.choice(PICTURE_WORDS[record["modality"]]),
        )
    ]
    if seen["edge"] != "plain":
        more.append(rng.choice(said["evidence"][seen["edge"]]))
    if near := beside(record, rng):
        more.append(near)
    clinical = [phrase for phrase in target.clinical if phrase != first]
    more.append(fill(rng.choice(said["long"]["matters"]), phrase=rng.choice(clinical)))
    rng.shuffle(more)
    return " ".join(parts + more)
