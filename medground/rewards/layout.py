"""Whether a completion keeps the layout that was asked for, and the location it gives.

Stricter than `medground.parsing`'s tolerant reading, since a policy that is paid for what can be guessed will make us
guess; and in steps, unlike its strict reading, so that a policy that starts from nothing has something to climb.
"""

from __future__ import annotations

from dataclasses import dataclass

from medground.coords import Space
from medground.errors import ParseError
from medground.parsing import parse
from medground.prompts import Mode
from medground.types import Box, Point

__all__ = ["Reading", "layout"]


@dataclass(frozen=True, slots=True)
class Reading:
    """A completion whose answer could be read.

    Parameters
    ----------
    reasoning : str
        What stands in the one ``<think>`` block; empty where there isn't exactly one. Nothing outside it earns.
    box : Box or None
        None when the answer is that the target is absent.
    points : tuple of Point
        Two, or none with an absent target.
    format : float, 0.5 to 1
        The format term.
    """

    reasoning: str
    box: Box | None
    points: tuple[Point, ...]
    format: float

    @property
    def absent(self) -> bool:
        """Whether the answer is that the target isn't in the picture."""
        return self.box is None


def layout(completion: str, space: Space, mode: Mode = "reason") -> Reading | None:
    r"""Read a completion for a reward, and grade its layout: 0 to 1, and at least 0.5 where the answer can be read.

    .. math:: format = \tfrac12 [answer] + \tfrac14 [think] + \tfrac14 [nothing\ else]

    - *answer*: exactly one ``<answer>`` block, in it a JSON object with exactly ``bbox``, ``points_1`` and ``points_2``
      (finite numbers inside the picture, x1 < x2, y1 < y2), or exactly ``{"absent": true}``. Without it there is
      nothing to score.
    - *think*: exactly one ``<think>`` block with words in it, before the answer; in direct mode, none.
    - *nothing else*: only white space outside the blocks.

    Parameters
    ----------
    completion : str
        What the model wrote, of any length; time is linear in it.
    space : Space
        The ruler of its numbers.
    mode : {"reason", "direct"}
        Whether reasoning was asked for.

    Returns
    -------
    Reading or None
        None when the answer can't be read: each term of the recipe is then 0.

    Notes
    -----
    Hacking: several answers, in the hope that the best one counts; then none is read. Text outside the blocks, to
    reason at length unseen; it costs a quarter and earns nothing.

    Examples
    --------
    >>> answer = '<answer>{"bbox": [10, 20, 30, 40], "points_1": [15, 25], "points_2": [25, 35]}</answer>'
    >>> layout("<think>A pale disc.</think>" + answer, Space.norm1000()).format
    1.0
    >>> layout("Sure! " + answer, Space.norm1000()).format
    0.5
    >>> layout(answer + answer, Space.norm1000()) is None
    True
    """
    start, end = completion.find("<answer>"), completion.find("</answer>")
    if start < 0 or end < start or completion.count("<answer>") > 1 or completion.count("</answer>") > 1:
        return None
    try:
        said = parse(completion[start : end + len("</answer>")], space, strict=True)
    except ParseError:
        return None  # scored 0: a completion that can't be read is the model's fault
    before, after = completion[:start].strip(), completion[end + len("</answer>") :].strip()
    opened, closed = completion.count("<think>"), completion.count("</think>")
    reasoning, outside = "", before
    if opened == closed == 1:
        lead, _, rest = before.partition("<think>")
        inside, found, between = rest.partition("</think>")
        if found:
            reasoning, outside = inside.strip(), (lead + between).strip()
    think = any(map(str.isalnum, reasoning)) if mode == "reason" else not (opened or closed)
    return Reading(reasoning, said.box, said.points, 0.5 + 0.25 * think + 0.25 * (not outside and not after))
