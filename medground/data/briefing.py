"""What a language model is told about a record, and what speaks against the words that it wrote.

Only what is listed here goes into a prompt: what the taxonomy knows of the target, what was measured, what else is
annotated. Ids, file names, sources and patient groups never do.
"""

from __future__ import annotations

import functools
import random
import re
import unicodedata
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Literal, NamedTuple

from medground import taxonomy
from medground.data.gates import refuse
from medground.errors import ConfigError
from medground.rewards.evidence import Facts, can_earn, claims, evidence, holds
from medground.rewards.vocabulary import PLACE

__all__ = [
    "Objection",
    "brief_description",
    "brief_question",
    "instructions",
    "object_to_description",
    "object_to_question",
    "tidy",
]

Record = Mapping[str, Any]

STYLES = {
    "function": "by what it does, or by what happens there",
    "appearance": "by how it looks in this kind of picture",
    "location": "by where in the body it lies, beside what",
    "clinical": "by why it matters to a clinician",
    "lay": "in everyday words, as somebody without medical training would put it",
}

LENGTHS = {"short": "one sentence of 6 to 22 words", "long": "two sentences, 25 to 50 words together"}

ASKERS: dict[tuple[str, bool], tuple[str, ...]] = {
    ("clinician", False): (
        "a specialist dictating a report",
        "a doctor at the ward round",
        "a colleague on the phone",
        "a surgeon preparing an operation",
        "a teacher in front of students",
        "a trainee asking a senior doctor",
        "a doctor comparing notes before a meeting",
        "a doctor who has just opened the picture",
    ),
    ("clinician", True): (
        "a locum at night who must hand over in the morning",
        "an examiner in an oral examination",
        "an author choosing a figure for a paper",
    ),
    ("patient", False): (
        "a patient looking at the picture with the doctor",
        "a patient writing to the clinic after the visit",
        "a patient who wants to understand the letter",
        "a curious patient",
    ),
    ("patient", True): ("a relative at the bedside", "a patient seeking a second opinion"),
}
"""Who asks; the second key is whether the question is held out for validation or test."""

FORMS = (
    "a question",
    "a polite request",
    "a short instruction",
    "a remark, then the question",
    "the reason, then the question",
)

OPENINGS = (
    "what it is",
    "where in the picture it lies",
    "how it looks in the picture",
    "what it does or why it arises",
)

_SIGNS = str.maketrans(
    {"‘": "'", "’": "'", "“": '"', "”": '"', "‐": "-", "‑": "-", "–": "-", "—": "-", "…": "...", "×": "x"}
)
_TOLD = re.compile(r"\b(?:json|annotat\w*|masks?|bounding box(?:es)?|outlined in|sky blue|as measured)\b", re.I)
_TAGS = re.compile(r"[<>{}\[\]|*#`]")
_SIDE = re.compile(r"\b(?:left|right|upper|lower)\b")
_GONE = re.compile(r"\b(?:absent|absence|nothing|none|not|isn't|no|cannot|can't|missing|nowhere)\b", re.I)


_FIELDS = {"top": "upper", "bottom": "lower"}


class Objection(NamedTuple):
    """What speaks against a text: for people, in words that hold nothing of it, and for the model that wrote it."""

    kind: str
    told: str


@functools.cache
def instructions(task: Literal["describe", "ask", "absent"]) -> str:
    """Return the system prompt of a task, ``medground/prompts/data/TASK-v1.txt``; a new wording is a new version."""
    return files("medground.prompts").joinpath("data", f"{task}-v1.txt").read_text(encoding="utf-8").strip()


def tidy(text: str) -> str:
    r"""Return text on one line, with typographic signs and accents written in ASCII where there is a way.

    Raises
    ------
    ValueError
        When nothing is left.

    Examples
    --------
    >>> tidy("The patient’s  naïve\n view – so to say…")
    "The patient's naive view - so to say..."
    """
    apart = unicodedata.normalize("NFKD", text.translate(_SIGNS))
    line = " ".join("".join(sign for sign in apart if not unicodedata.combining(sign)).split())
    if not line:
        raise ValueError("is empty")
    return line


def brief_description(record: Record, rng: random.Random) -> dict[str, Any]:
    """Return what a model is told to describe a measured record by; JSON can hold it."""
    seen = record["attributes"]
    told = {
        "target": _target(record["category"]),
        "picture": _picture(record["modality"]),
        "measured": _measured(record),
        "width and height in pixels": seen["extent"],
        "share of the picture in percent": float(f"{100 * seen['share']:.2g}"),
        "which one": seen["side"],
        "beside it": _beside(record["category"], seen),
        "open with": rng.choice(OPENINGS),
    }
    return {key: value for key, value in told.items() if value}


def brief_question(request: Record, rng: random.Random) -> dict[str, Any]:
    """Return what a model is told to ask for a target by; see `medground.data.grammar.Words.ask`.

    Raises
    ------
    ConfigError
        When the taxonomy has no phrase of the style.
    """
    target = taxonomy.target_of(request["category"])
    known = (taxonomy.unseen_phrases if request["held_out"] else taxonomy.phrases)(target, request["looks_in"])
    style = request["style"]
    if style not in known:
        raise ConfigError(f"{target.name!r} has no phrase of the style {style!r} in {request['looks_in']}; use another")
    ideas = [rng.choice(known[style])]
    if request["length"] == "long":
        ideas += [rng.choice(known[rng.choice([each for each in known if each != style])])]
    told: dict[str, Any] = {
        "target": _target(request["category"]),
        "picture": _picture(request["modality"]),
        "style": STYLES[style],
        "idea": ideas,
        "asker": rng.choice(ASKERS["patient" if style == "lay" else "clinician", bool(request["held_out"])]),
        "form": rng.choice(FORMS),
        "length": LENGTHS[request["length"]],
        "which one": request["side"],
        "forbidden": list(target.terms),
    }
    if request["absent"]:
        told |= {"shown": list(request["seen"][:3]), "found in": request["home"]}
    else:
        told |= {"measured": _measured(request), "beside it": _beside(request["category"], request["attributes"])}
    return {key: value for key, value in told.items() if value}


def _target(category: str) -> dict[str, str]:
    target = taxonomy.target_of(category)
    kind = "normal anatomy" if target.kind == "structure" else "abnormal finding"
    return {"name": target.name, "kind": kind, "fact": target.fact, "more": target.long}


def _picture(modality: str) -> str:
    known = taxonomy.load_modalities().get(modality)
    return known.full_name if known else modality


def _measured(record: Record) -> dict[str, str]:
    seen, facts = record["attributes"], record["facts"]
    told = {
        "place": f"in the {seen['zone']} of the image",
        "size": seen["size"],
        "brightness": f"{seen['brightness']} its surroundings",
        "shape": seen["shape"],
    }
    told = {facet: words for facet, words in told.items() if facet in facts}
    if "one" not in facts.get("parts", ["one"]):
        told["parts"] = f"{facts['parts'][0]} separate parts"
    if seen["edge"] != "plain":
        told["edge"] = f"{seen['edge']} edge"
    return told


def _beside(category: str, seen: Record) -> list[str]:
    own = taxonomy.target_of(category).name
    others = [each for each in seen["neighbours"] if each["name"] != own]
    near = [f"it lies {each['relation']} the {each['name']}" for each in others[:2]]
    if partner := seen["partner"]:
        near.append(f"it lies {partner['relation']} the other one of the pair")
    return near


def object_to_description(record: Record, said: Mapping[str, str]) -> Objection | None:
    """Return what speaks against a description, or None.

    Both texts are plain ASCII prose of the right length that names the target and doesn't talk about what the model
    was told; every claim that can be checked is true.
    """
    facts, target = Facts.read(record["facts"]), taxonomy.target_of(record["category"])
    for field, least, most in (("short", 4, 40), ("long", 25, 160)):
        text = said[field]
        if objection := _prose(field, text, least, most) or _false(field, text, facts):
            return objection
        if taxonomy.leaks(text, target) is None:
            return Objection("a text doesn't name its target", f"{field!r} doesn't name the target, {target.name}")
    return None


def object_to_question(request: Record, said: Mapping[str, str]) -> Objection | None:
    """Return what speaks against a question and its reasoning, or None.

    Beside what `medground.data.gates.refuse` asks: the question doesn't give away the place, and says which one of a
    pair is meant; the reasoning names the target and says all that was measured, or concludes that it is absent;
    neither talks about what the model was told.
    """
    target, question, reasoning = taxonomy.target_of(request["category"]), said["question"], said["reasoning"]
    if word := taxonomy.leaks(question, target):
        return Objection("the question names its target", f"the question holds the forbidden word {word!r}")
    if objection := _prose("question", question, 3, 80) or _prose("reasoning", reasoning, 15, 150):
        return objection
    side = request["side"] or ""
    sides = set(_SIDE.findall(side))
    free = sides if "image" in side else set()  # of the picture, as claims are; the patient's sides are none
    if _places(question) - free:
        return Objection("the question says where its target lies", "the question says where in the picture it lies")
    if missing := sides - set(_SIDE.findall(question.casefold())):
        told = f"the question doesn't say which one is meant: {side} ({', '.join(sorted(missing))})"
        return Objection("the question doesn't say which one is meant", told)
    if taxonomy.leaks(reasoning, target) is None:
        told = f"the reasoning doesn't name what is meant, {target.name}"
        return Objection("a text doesn't name its target", told)
    return _unfounded(request, reasoning) or _refused(request, said)


def _places(question: str) -> set[str]:
    """Return the fields of the picture that a question names, top being upper and bottom lower."""
    found = re.finditer(PLACE, question.casefold().replace("-", " "))
    return {_FIELDS.get(field, field) for match in found for field in match.group("first", "second") if field}


def _unfounded(request: Record, reasoning: str) -> Objection | None:
    if request["absent"]:
        if found := claims(reasoning):
            told = f"the reasoning describes something: {reasoning[found[0].start : found[0].end]!r}; leave that out"
            return Objection("a claim about an absent target", told)
        if not _GONE.search(reasoning):
            told = "the reasoning doesn't conclude that it is absent"
            return Objection("the reasoning doesn't conclude that the target is absent", told)
        return None
    facts = Facts.read(request["facts"])
    if objection := _false("reasoning", reasoning, facts):
        return objection
    if can_earn(facts) and evidence(reasoning, facts) < 1.0:
        said = {claim.facet for claim in claims(reasoning) if not claim.coarse}
        lacking = [f"{facet} ({words})" for facet, words in _measured(request).items() if facet not in said]
        told = f"the reasoning doesn't say these in words that can be checked: {', '.join(lacking)}"
        return Objection("the reasoning leaves out what was measured", told)
    return None


def _refused(request: Record, said: Mapping[str, str]) -> Objection | None:
    reason = refuse({**request, **said, "template": ""})
    return Objection(reason.split(":")[0], reason) if reason else None


def _prose(field: str, text: str, least: int, most: int) -> Objection | None:
    count = len(text.split())
    if not least <= count <= most:
        return Objection("a text of another length", f"{field!r} has {count} words; {least} to {most} are allowed")
    if not text.isascii() or not text.isprintable():
        return Objection("a text that isn't plain prose", f"{field!r} holds signs beyond ASCII; write plain English")
    if found := _TAGS.search(text):
        return Objection("a text that isn't plain prose", f"{field!r} holds the sign {found[0]!r}; write plain prose")
    if found := _TOLD.search(text):
        return Objection(
            "a text about what the model was told", f"{field!r} says {found[0]!r}; speak of the picture alone"
        )
    return None


def _false(field: str, text: str, facts: Facts) -> Objection | None:
    for claim in claims(text):
        if holds(claim, facts) is False:
            true = " or ".join(sorted(facts.accepted[claim.facet]))
            told = (
                f"{field!r} says {text[claim.start : claim.end]!r}, read as {claim.facet} {claim.value}; true is {true}"
            )
            return Objection("a claim that is false", told)
    return None
