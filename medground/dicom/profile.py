"""The attributes of PS3.15 Table E.1-1 and what the Basic Application Level Confidentiality Profile does to each.

``profile.csv`` is the table of the 2024e edition and, from the 2026c edition, the 31 attributes that were added since:
tag, action of the basic profile, actions of the Retain Device Identity and the Retain Longitudinal Temporal
Information with Modified Dates options, name. Repeating groups (50xx, 60xx) and private attributes, which it covers by
patterns, are in `action_of`.
"""

from __future__ import annotations

import csv
import functools
from dataclasses import dataclass
from importlib import resources
from typing import Literal

__all__ = ["Action", "Rule", "action_of", "load_profile"]

Action = Literal["remove", "empty", "dummy", "uid", "date", "enter", "keep"]
"""What is done to one element: ``enter`` keeps a sequence and goes on in its items, ``date`` moves a date."""

_TEMPORAL = ("DA", "DT", "TM")
# Stricter than the table, which leaves to judgement what it doesn't list: free text, people, addresses.
_FREE_TEXT = ("AE", "LT", "PN", "ST", "UR", "UT")


@dataclass(frozen=True, slots=True)
class Rule:
    """A row of the table: the codes of PS3.15 Table E.1-1a, such as ``X/Z/D``; empty where an option says nothing."""

    basic: str
    device: str
    dates: str


@functools.cache
def load_profile() -> dict[int, Rule]:
    """Return the table by tag; read once.

    Examples
    --------
    >>> load_profile()[0x00100010]
    Rule(basic='Z', device='', dates='')
    """
    text = (resources.files(__name__.rpartition(".")[0]) / "profile.csv").read_text(encoding="utf-8")
    return {
        int(row["tag"], 16): Rule(row["action"], row["device"], row["dates"])
        for row in csv.DictReader(text.splitlines())
    }


def action_of(tag: int, vr: str, *, device: bool = False, dates: bool = False) -> Action:
    """Return what is done to an element.

    Where the table leaves the choice to what an object's definition demands (``X/Z``, ``X/D``, ``Z/D``, ``X/Z/D``), an
    element is emptied or gets a dummy value, which every definition allows, and a sequence is removed. What an option
    asks to be cleaned by a person (``C``) is treated as without the option, dates apart.

    Parameters
    ----------
    tag : int
    vr : str
        Value representation, such as "LO".
    device, dates : bool
        Whether the identity of devices is retained, and dates moved instead of removed.

    Examples
    --------
    >>> action_of(0x00100010, "PN"), action_of(0x0020000D, "UI"), action_of(0x00091001, "LO")
    ('empty', 'uid', 'remove')
    >>> action_of(0x00080020, "DA"), action_of(0x00080020, "DA", dates=True)
    ('empty', 'date')
    """
    from pydicom.datadict import dictionary_has_tag, dictionary_VR

    group = tag >> 16
    if group % 2 or group & 0xFF00 in (0x5000, 0x6000) or group < 0x0004:  # none of a file's data set
        return "remove"
    if vr == "UN" or not dictionary_has_tag(tag) or tag == 0xFFFCFFFC:  # what it holds can't be told; padding
        return "remove"
    rule = load_profile().get(tag)
    if rule is None:
        return "dummy" if dictionary_VR(tag) in _FREE_TEXT else _unlisted(vr, dates)
    if device and rule.device == "K":
        return "enter" if vr == "SQ" else "uid" if vr == "UI" and rule.basic == "U" else "keep"
    if dates and rule.dates == "C" and vr in _TEMPORAL:
        return "date"
    codes = rule.basic.split("/")
    if "U*" in codes:
        return "enter"
    if codes[-1] == "U" or (codes[-1] == "D" and vr == "UI"):
        return "uid"
    if codes == ["X"] or (vr == "SQ" and codes[0] == "X"):
        return "remove"
    return "dummy" if codes[-1] == "D" else "empty"


def _unlisted(vr: str, dates: bool) -> Action:
    if vr == "SQ":
        return "enter"
    if vr == "UI":
        return "uid"
    if vr in _TEMPORAL:
        return "date" if dates else "dummy"
    return "dummy" if vr in _FREE_TEXT else "keep"
