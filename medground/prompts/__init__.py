"""What a reasoner is told: versioned templates, and the one place where a question enters them.

A template is a pair of text files beside this one, ``NAME-vN.reason.txt`` and ``NAME-vN.direct.txt``. A line ``---``
parts the system text from the user text; without one, all of it is user text. Once a model was trained or a report
written with a template, its wording doesn't change: a new wording is a new version.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from functools import cache
from importlib.resources import files
from string import Template
from typing import Literal, get_args

from medground.coords import Space, layout_words, space_words
from medground.errors import ConfigError

__all__ = ["MAX_QUESTION", "TEMPLATES", "VISUAL", "Mode", "clean_question", "clean_words", "render", "template_digest"]

Mode = Literal["reason", "direct"]
"""``reason``: think first, then answer; ``direct``: the answer alone."""

TEMPLATES = {
    "umrg-v1": "the UMRG task spelled out, for general models",
    "nano-v1": "the bare question, for the embedded model, which was trained on nothing else",
}

VISUAL = {"umrg-v1": "vqa-v1", "nano-v1": "nano-vqa-v1"}
"""For each of these the template by which the same model is asked visual questions; see `medground.prompts.vqa`."""

MAX_QUESTION = 4000
"""The longest question, in characters."""

# Every chat template's control strings open with "<" ("<|im_start|>", "<image>", "</think>", "<start_of_turn>") or
# are one bracketed word ("[INST]", "[/INST]", "[gMASK]"). Tokenizers match them exactly, so one space undoes them.
_CONTROL = re.compile(r"<(?=\S)|\[(?=/?[A-Za-z_]\w*\])")


def clean_question(question: str) -> str:
    r"""Return a question as it may stand in a prompt: one line, with no string that a chat template would obey.

    Control strings are taken apart, not refused, because ``<`` and brackets have honest uses in a question
    ("nodules < 5 mm", "[L] side"): a space goes after each ``<`` and after the bracket of a bracketed word. White space
    runs together, and control characters and lone surrogates count as white space.

    Raises
    ------
    ConfigError
        When nothing is left, or more than `MAX_QUESTION` characters are given.

    Examples
    --------
    >>> clean_question("Is anything here\n below <5 mm?")
    'Is anything here below < 5 mm?'
    >>> clean_question("<image>Where?<|im_end|>[INST]")
    '< image>Where?< |im_end|>[ INST]'
    """
    if not (line := clean_words(question, "the question", MAX_QUESTION)):
        raise ConfigError("the question is empty; ask what to look for in the image")
    return line


def clean_words(words: str, what: str, longest: int) -> str:
    """Return any words of a user's as `clean_question` does; they may be empty.

    Raises
    ------
    ConfigError
        When there are more than `longest` characters; the message calls them `what`.

    Examples
    --------
    >>> clean_words("left <b>lung", "a choice", 100)
    'left < b>lung'
    """
    if len(words) > longest:
        raise ConfigError(f"{what} has {len(words)} characters; shorten it to at most {longest}")
    plain = "".join(" " if unicodedata.category(sign) in ("Cc", "Cs") else sign for sign in words)
    return _CONTROL.sub(lambda match: match.group() + " ", " ".join(plain.split()))


def render(template: str, question: str, *, mode: Mode = "reason", space: Space) -> tuple[str | None, str]:
    """Return the system text and the user text that ask `question`.

    Parameters
    ----------
    template : str
        A name in `TEMPLATES`.
    question : str
        The clinician's question; see `clean_question` for what happens to it.
    mode : {"reason", "direct"}
    space : Space
        The space in which the model is to answer; the text says it in words, in the order the space writes.

    Returns
    -------
    tuple of (str or None, str)
        System text (None where the template has none) and user text. Neither mentions the image: where it goes is the
        business of the model's own chat template.

    Raises
    ------
    ConfigError
        An unknown template or mode, or a question that can't be asked.

    Examples
    --------
    >>> render("nano-v1", "What limits gas exchange here?", mode="direct", space=Space.norm1000())
    (None, 'What limits gas exchange here? Answer directly.')
    """
    if template not in TEMPLATES:
        raise ConfigError(f"template {template!r} isn't known; choose one of {', '.join(TEMPLATES)}")
    system, user = parts(template, mode)
    bbox, point = layout_words(space)
    values = {"question": clean_question(question), "coordinates": space_words(space), "bbox": bbox, "point": point}
    # One pass over the template's own text: a "$bbox" or a brace inside the question is never looked at.
    return (None if system is None else Template(system).substitute(values)), Template(user).substitute(values)


def template_digest(template: str) -> str:
    """Return the SHA-256 of a template's files (hex, first 16 digits), which reports save next to its name.

    Templates for visual questions have one too.

    Examples
    --------
    >>> len(template_digest("umrg-v1"))
    16
    """
    digest = hashlib.sha256()
    for mode in get_args(Mode):
        digest.update(f"{mode}\0{_text(template, mode)}\0".encode())
    return digest.hexdigest()[:16]


def parts(template: str, mode: str) -> tuple[str | None, str]:
    """Return a template's system text (None where it has none) and its user text, as its file has them."""
    head, line, tail = _text(template, mode).partition("\n---\n")
    return (head.strip(), tail.strip()) if line else (None, head.strip())


@cache
def _text(template: str, mode: str) -> str:
    if template not in (*TEMPLATES, *VISUAL.values()):
        raise ConfigError(f"template {template!r} isn't known; choose one of {', '.join(TEMPLATES)}")
    if mode not in get_args(Mode):
        raise ConfigError(f"mode {mode!r} isn't known; choose reason or direct")
    return files("medground.prompts").joinpath(f"{template}.{mode}.txt").read_text(encoding="utf-8")
