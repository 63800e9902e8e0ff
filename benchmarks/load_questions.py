"""What `load.py` asks, and whether an answer is the question's own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from medground.demo import CASES

ENDPOINTS = ("ground", "ground, events", "segment", "ask")
QUESTIONS = (
    "Where do the nerve fibres leave the eye?",
    "Which organ clears old red cells out of the blood?",
    "What keeps movements smooth and balanced?",
    "Where is the organ that filters blood and makes urine?",
    "Which structure pumps the blood?",
    "Which spot of the retina gives the sharpest sight?",
    "Where is the nervous tissue inside the bony canal of the back?",
    "Which vessel carries blood from the heart to the body?",
    "Where is bile kept between meals?",
    "Which fluid spaces lie deep in the brain?",
)


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to ask: an endpoint, one of the images, and the fields of the request."""

    endpoint: str
    image: int
    fields: dict[str, Any]

    @property
    def path(self) -> str:
        """Of the request."""
        return f"/v1/{self.endpoint.partition(',')[0]}"


def listed() -> list[Item]:
    """Return the questions, by all endpoints in turn; no two endpoints ask the same, no two boxes are the same."""
    images = [index for index, case in enumerate(CASES) if case.file not in {one.file for one in CASES[:index]}]
    items = []
    for number in range(len(QUESTIONS) // 2 * len(images)):
        turn, image = divmod(number, len(images))
        x, y, side = 20 + 5 * number, 30 + 3 * number, 40 + 7 * number
        items += [
            Item("ground", images[image], {"question": QUESTIONS[2 * turn]}),
            Item("ground, events", images[image], {"question": QUESTIONS[2 * turn + 1]}),
            Item("segment", images[image], {"box": [x, y, x + side, y + side]}),
            Item("ask", images[image], {"question": f"{QUESTIONS[2 * turn]} Is it seen here?"}),
        ]
    return items


def _essence(answer: Any) -> str:
    """Return an answer without what differs from one time to the next."""
    if not isinstance(answer, dict):
        return repr(answer)
    kept = {name: value for name, value in answer.items() if name not in ("seconds", "result", "provenance", "notes")}
    return json.dumps(kept, sort_keys=True)


def said(status: int, answer: Any) -> str:
    """Return an answer as it is compared with others."""
    return f"{status} {_essence(answer)}"


def likeness(told: str, known: Sequence[str], which: int) -> str:
    """Return whose answer it is; `known` holds those that were given alone, that of the question at `which`."""
    if told == known[which]:
        return "the same"
    return "swapped" if told in known else f"other ({told.partition(' ')[0]})"
