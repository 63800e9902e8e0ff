"""Reasoning traces of the offline grammar: what is meant and why, what can be seen of it, and the conclusion.

Each sentence about a target states what was measured of it, so a trace earns full marks from the evidence terms.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from medground import taxonomy
from medground.data.questions import PICTURE_WORDS
from medground.data.sentences import fill, load_sentences
from medground.errors import ConfigError
from medground.rewards.evidence import Facts, claims, evidence, honesty

__all__ = [
    "absent_trace",
    "agreeing",
    "beside",
    "listed",
    "measured_words",
    "named",
    "phrase_beside",
    "present_trace",
]

_SIZES = {
    "tiny": ("tiny", "very small"),
    "small": ("small", "small", "smallish"),
    "medium-sized": ("medium-sized", "moderately sized", "mid-sized"),
    "large": ("large", "large", "big", "sizeable"),
}
_SHAPES = {
    "round": ("round", "rounded", "roundish"),
    "oval": ("oval", "ovoid", "elliptical"),
    "elongated": ("elongated",),
}
_AROUND = ("its surroundings", "its surroundings", "its background", "what surrounds it", "everything around it")
_LEVELS = {
    "brighter than": ("brighter than", "brighter than", "lighter than", "paler than"),
    "darker than": ("darker than", "darker than", "dimmer than", "less bright than"),
    "about as bright as": (
        "about as bright as",
        "nearly as bright as",
        "roughly as bright as",
        "similar in brightness to",
    ),
}
_ROWS = {"upper": ("upper", "upper", "top"), "lower": ("lower", "lower", "bottom")}
_FIELDS = ("", "", " part")
_SIGNAL = {"CT": "dense", "MRI": "intense", "ultrasound": "echoic"}
_PREFIX = {"brighter than": "hyper", "darker than": "hypo", "about as bright as": "iso"}
_RELATIONS = {
    "left of": ("to the left of", "left of"),
    "right of": ("to the right of", "right of"),
    "above": ("above", "higher than"),
    "below": ("below", "lower than"),
    "inside": ("inside", "within"),
    "around": ("around",),
}
_PLURAL = frozenset({"teeth", "vertebrae", "costal cartilages", "intervertebral discs"})
_SINGULAR = re.compile(r"\bis \{(?:name|what)\}|\{(?:name|other)_start\} is\b")
_MOST_SENTENCES = 5
_TRIES = 60


def named(target: taxonomy.Target) -> str:
    """Return an entity's name with its article.

    Examples
    --------
    >>> targets = taxonomy.load_targets()
    >>> named(targets["spleen"]), named(targets["colon polyp"])
    ('the spleen', 'a colon polyp')
    """
    article = target.short.split()[0]
    return f"{article} {target.name}" if article in ("the", "a", "an") else f"the {target.name}"


def agreeing(sentences: Sequence[str], name: str) -> list[str]:
    """Return the sentences whose verb agrees with a name: not "this is {name}" of the teeth.

    Examples
    --------
    >>> agreeing(["This is {name}.", "One sees {name}."], "the teeth")
    ['One sees {name}.']
    """
    plural = name.removeprefix("the ") in _PLURAL
    return [each for each in sentences if not (plural and _SINGULAR.search(each))]


def listed(names: Sequence[str]) -> str:
    """Return names as a list in words.

    Examples
    --------
    >>> listed(["the liver"]), listed(["the liver", "the spleen", "the aorta"])
    ('the liver', 'the liver, the spleen and the aorta')
    """
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def phrase_beside(target: taxonomy.Target, modality: str, rng: random.Random, *, but: str = "") -> str:
    """Return a phrase about an entity that can stand behind its name, of any style but the lay one."""
    known = taxonomy.phrases(target, modality)
    fitting = [
        phrase
        for style, phrases in known.items()
        for phrase in phrases
        if style != "lay" and phrase != but and phrase.startswith(("the ", "a ", "an "))
    ]
    return rng.choice(fitting)


def measured_words(record: Mapping[str, Any], rng: random.Random) -> dict[str, str]:
    """Return words for what was measured of a target: the slots place, size, shape and bright of a sentence."""
    seen, modality = record["attributes"], record["modality"]
    level, around = seen["brightness"], rng.choice(_AROUND)
    bright = f"{rng.choice(_LEVELS[level])} {around}"
    if modality in _SIGNAL and rng.random() < 0.4:
        bright = f"{_PREFIX[level]}{_SIGNAL[modality]} to {around}"
    picture = rng.choice(("image", *PICTURE_WORDS[modality]))
    return {
        "place": f"{_zone(seen['zone'], rng)} of the {picture}",
        "size": rng.choice(_SIZES[seen["size"]]),
        "shape": rng.choice(_SHAPES[seen["shape"]]),
        "bright": bright,
    }


def _zone(zone: str, rng: random.Random) -> str:
    row, _, column = zone.partition(" ")
    if zone == "centre":
        return rng.choice(("centre", "centre", "middle", "central part"))
    return f"{rng.choice(_ROWS.get(row, (row,)))} {column}{rng.choice(_FIELDS)}"


def beside(record: Mapping[str, Any], rng: random.Random) -> str:
    """Return a sentence on where a target lies beside its partner or a neighbour; empty where there is none."""
    seen, said = record["attributes"], load_sentences().said["evidence"]
    if (partner := seen["partner"]) and rng.random() < 0.5:
        return fill(rng.choice(said["partner"]), relation=rng.choice(_RELATIONS[partner["relation"]]))
    own = taxonomy.target_of(record["category"]).name
    near = [each for each in seen["neighbours"][:2] if each["name"] != own]
    if not near:
        return ""
    other = rng.choice(near)
    name = named(taxonomy.target_of(other["category"]))
    start = name[0].upper() + name[1:]
    where = rng.choice(_RELATIONS[other["relation"]])
    return fill(rng.choice(agreeing(said["beside"], name)), relation=where, other=name, other_start=start)


def _meaning(request: Mapping[str, Any], phrase: str, rng: random.Random) -> list[str]:
    said, target = load_sentences().said, taxonomy.target_of(request["category"])
    style = "process" if request["style"] == "function" and target.kind == "finding" else request["style"]
    own = said["meaning"][style]
    what = name = named(target)
    if explained := rng.random() < 0.35:
        what = f"{name}, {phrase_beside(target, request['looks_in'], rng, but=phrase)}"
    fitting = agreeing(own if rng.random() < 0.6 else said["meaning"]["any"], name)
    sentences = [fill(rng.choice(fitting), name=name, what=what)]
    if not explained or rng.random() < 0.3:
        # With "it" left to mean the entity, the sentence must not be read as evidence: `_true` sees to that.
        other = phrase_beside(target, request["looks_in"], rng, but=phrase)
        sentences.append(fill(rng.choice(said["why"]["any"]), fact=target.fact, phrase=other))
    if request["side"]:
        sentences.append(fill(rng.choice(said["why"]["side"]), side=request["side"]))
    return sentences


def present_trace(request: Mapping[str, Any], phrase: str, rng: random.Random) -> str:
    """Return the trace of a question whose answer is in the picture.

    Parameters
    ----------
    request : dict
        As in `medground.data.grammar.Words.ask`.
    phrase : str
        The question's first phrase.
    rng : random.Random

    Returns
    -------
    str
        Two to five sentences; evidence and honesty of it are 1.

    Raises
    ------
    ConfigError
        When no wording is wholly true, which is a fault of the sentences.
    """
    said, facts = load_sentences().said, Facts.read(request["facts"])
    for _ in range(_TRIES):
        start = _meaning(request, phrase, rng)
        seen = fill(rng.choice(said["evidence"]["any"]), **measured_words(request, rng))
        middle = [seen]
        kind = request["attributes"]["edge"]
        extras = [beside(request, rng), rng.choice(said["evidence"][kind]) if kind != "plain" else ""]
        middle += [extra for extra in extras if extra and rng.random() < 0.5]
        sentences = start + middle
        if rng.random() < 0.6:
            sentences.append(rng.choice(said["settled"]["any"]))
        text = " ".join(sentences)
        if text.count(". ") < _MOST_SENTENCES and _true(text, facts):
            return text
    raise ConfigError(f"{request['id']}: no trace is true of it; mend sentences.toml or the taxonomy")


def _true(text: str, facts: Facts) -> bool:
    return honesty(text, facts) == 1.0 and evidence(text, facts) == 1.0


def absent_trace(request: Mapping[str, Any], phrase: str, rng: random.Random) -> str:
    """Return the trace of a question whose answer isn't in the picture; it claims nothing of a target.

    Raises
    ------
    ConfigError
        When every wording makes a claim, which is a fault of the sentences.
    """
    said, target = load_sentences().said["absent"], taxonomy.target_of(request["category"])
    picture = rng.choice(PICTURE_WORDS[request["modality"]])
    seen = listed([named(taxonomy.load_targets()[name]) for name in request["seen"][:3]])
    home = request["home"]
    for _ in range(_TRIES):
        start = _meaning(request, phrase, rng)
        here = fill(rng.choice(said["seen"]), picture=picture, seen=seen)
        slots = {"name": named(target), "picture": picture}
        if home is None:
            why = fill(rng.choice(said["scale"]), **slots)
        else:
            why = fill(rng.choice(said["home"]), home=home, home_start=home[0].upper() + home[1:], **slots)
        text = " ".join([*start, here, why, rng.choice(said["settled"])])
        if text.count(". ") < _MOST_SENTENCES and not claims(text):
            return text
    raise ConfigError(f"{request['id']}: every trace of its absence makes a claim; mend sentences.toml or the taxonomy")
