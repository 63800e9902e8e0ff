"""The thinking and the reason of a drafted question: every region that it names is one that the answer points to."""

from __future__ import annotations

import random

from medground import taxonomy
from medground.data.absence import home_words
from medground.data.vqa.blocks import Draft
from medground.data.vqa.wording import listed, load_words, with_article

__all__ = ["reason_of", "regions_named", "thinking_of"]

_KNOWN = 0.5  # how often what the taxonomy knows of the target is said first


def thinking_of(draft: Draft, rng: random.Random) -> str:
    """Return the thinking: which regions are meant, what was measured, what follows.

    Parameters
    ----------
    draft : Draft
    rng : random.Random
        Draws the wording.
    """
    words = load_words().thinking
    parts = [_where(draft, rng), *_evidence(draft, rng)]
    parts.append(rng.choice(words["settled"]).format(answer=_settled(draft)))
    return " ".join(part for part in parts if part)


def reason_of(draft: Draft) -> str:
    """Return why the answer is right, in short and without boxes."""
    if draft.steps:
        return " ".join(f"{letter}: {said}" for letter, holds, said in draft.steps if holds)
    return draft.item.said if draft.shown else _unseen(draft, random.Random(0))  # noqa: S311 - phrasing


def regions_named(draft: Draft) -> str:
    """Return the regions that the answer points to, with their boxes, as prose lists them."""
    return listed([with_article(thing.mention) for thing in draft.item.things])


def _where(draft: Draft, rng: random.Random) -> str:
    if not draft.shown:
        return _unseen(draft, rng)
    if not draft.item.things:
        return ""
    words = load_words().thinking
    kind = "earlier" if len(draft.item.earlier) == len(draft.item.things) else "asked"
    kind = "seen" if draft.kind in ("shown", "finding") else kind
    said = rng.choice(words[kind]).format(mentions=regions_named(draft))
    known = taxonomy.load_targets()[draft.item.things[0].entity].fact
    tells = draft.kind in ("dignity", "identify", "shown", "finding")  # where the evidence is the same fact
    return said if tells or rng.random() >= _KNOWN else f"{said} {known}"


def _unseen(draft: Draft, rng: random.Random) -> str:
    """Return why what is asked for certainly isn't in the picture."""
    words, scene = load_words().thinking, draft.item.scene
    seen = listed([with_article(name) for name in sorted(scene.entities)[:3]])
    home = None if draft.asked in _rivals(draft) else home_words(draft.asked)
    if home is None:
        return rng.choice(words["unlike"]).format(seen=seen)
    return rng.choice(words["unseen"]).format(seen=seen, x=with_article(draft.asked), home=home)


def _rivals(draft: Draft) -> frozenset[str]:
    from medground.data.vqa.scene import EXCLUSIVE

    return frozenset().union(*(group for group in EXCLUSIVE if group & draft.item.scene.entities))


def _evidence(draft: Draft, rng: random.Random) -> list[str]:
    if draft.kind == "shown" and draft.question_type == "multi_choice":
        right = [choice for (_, holds, _), choice in zip(draft.steps, draft.choices, strict=True) if not holds]
        return [f"Not in view: {listed(right)}."]
    if draft.steps:
        return [f"{letter}: {said} {'True' if holds else 'False'}." for letter, holds, said in draft.steps]
    return [draft.item.said] if draft.shown else []


def _settled(draft: Draft) -> str:
    if draft.question_type == "closed":
        return draft.answer.casefold()
    if draft.question_type == "single_choice":
        return f"{draft.answer}, {draft.item.value}"
    return draft.answer
