"""The thinking of visual questions by a language model behind any OpenAI-compatible endpoint.

After GEMeX-ThinkVG: a text-only model is given report-like sentences, each with its visual location, the question and
the answer, and writes what somebody would think who saw the picture. What it writes is checked, and kept on disk by
`medground.data.paid`, so that nothing is asked for, or paid for, twice.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Unpack

from pydantic import AfterValidator, BaseModel, ConfigDict, StrictStr, ValidationError

from medground.coords import Space
from medground.data.briefing import tidy
from medground.data.ledger import Spent
from medground.data.paid import Asking, PaidModel, digest, schema_of
from medground.data.vqa.blocks import Draft
from medground.data.vqa.thinking import reason_of
from medground.endpoint_client import json_objects
from medground.reasoners._request import check_positive
from medground.rewards.thinkvg_reading import read_mentions

__all__ = ["Thinker", "brief_thinking", "object_to_thinking"]

_FEWEST, _MOST = 20, 200  # words
_UNWANTED = ("<", ">", "json", "the report", "annotat")


class _Thinking(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    thinking: Annotated[StrictStr, AfterValidator(tidy)]


class Thinker:
    """Writes thinking by a model; where no try is usable, the offline grammar's is taken.

    **What leaves this machine**, to the named host alone: the question, its choices and answer, what was measured, the
    boxes and what they are called. Never a pixel, a file name, a source or a patient group. The key is the
    environment's ``MEDGROUND_API_KEY``, else ``OPENAI_API_KEY``.

    Parameters
    ----------
    spec : str
        ``"https://host[:port]/v1#model"``.
    cache : path
        A folder for the answers and what they cost.
    tries : int
        How often the model is asked for one text, the first time included.
    prices, max_cost, per_minute, concurrency, temperature, max_new_tokens, timeout, max_retries, allow_insecure
        As for `medground.data.paid.PaidModel`.

    Raises
    ------
    ConfigError, ReasonerError, MissingExtraError
        As for `medground.data.paid.PaidModel`.
    """

    def __init__(self, spec: str, cache: str | Path, *, tries: int = 3, **asking: Unpack[Asking]) -> None:
        check_positive(tries=tries)
        self._model = PaidModel(spec, cache, sends_images=False, **asking)
        self._tries = tries

    @functools.cached_property
    def name(self) -> str:
        """The model's name and a digest of the prompt."""
        return f"{self._model.name} think-v1-{digest([_instructions(), self._tries])[:8]}"

    def spent(self) -> Spent:
        """Return what the cache folder's answers cost so far, over all runs and processes."""
        return self._model.spent()

    def write(self, draft: Draft) -> str | None:
        """Return the thinking of a draft; None where each try is open to an objection.

        Raises
        ------
        ReasonerError
            When the server fails.
        CostError
            When `max_cost` is reached.
        """
        told = json.dumps(brief_thinking(draft), ensure_ascii=False, indent=1)
        turns = [("system", _instructions()), ("user", told)]
        for _ in range(self._tries):
            _, reply = self._model.reply(turns, schema_of(_Thinking))
            said, objection = _read(reply.text)
            objection = objection or object_to_thinking(draft, said)
            if not objection:
                return said
            again = f"That can't be used: {objection}. Reply with the whole JSON object again, mended."
            turns += [("assistant", reply.text[:4_000] or "(nothing)"), ("user", again)]
        return None

    def write_all(self, drafts: Sequence[Draft]) -> list[str | None]:
        """Write for each draft, several at once; the first failure ends it, and what was written is kept."""
        return self._model.together([functools.partial(self.write, draft) for draft in drafts])


def brief_thinking(draft: Draft) -> dict[str, Any]:
    """Return what the model is told of a draft."""
    things = draft.item.things if draft.shown else ()
    regions = [f"{thing.name} ({list(thing.box)})" for thing in things]
    where = f" [visual location: {', '.join(regions)}]" if regions else ""
    said = [said for _, _, said in draft.steps] if draft.steps else [reason_of(draft)]
    brief: dict[str, Any] = {"sentences": [f"{sentence}{where}" for sentence in said], "regions": regions}
    brief |= {"question": draft.question, "question_type": draft.question_type.replace("_", " ")}
    if draft.choices:
        brief["choices"] = {chr(ord("A") + index): text for index, text in enumerate(draft.choices)}
    return brief | {"answer": draft.answer}


def object_to_thinking(draft: Draft, thinking: str) -> str:
    """Return what speaks against a thinking, in words for the model; empty where nothing does.

    Its boxes must be those of the answer's regions, all of them and no other.
    """
    scene = draft.item.scene
    count = len(thinking.split())
    if not _FEWEST <= count <= _MOST:
        return f"it has {count} words; write 50 to 110"
    if found := next((each for each in _UNWANTED if each in thinking.casefold()), None):
        return f"it says {found!r}; leave that out"
    boxes, strays = read_mentions(thinking, Space.pixels(scene.width, scene.height))
    true = {tuple(map(float, thing.box)): thing for thing in (draft.item.things if draft.shown else ())}
    named = {box.xyxy for box in boxes}
    if strays or named - true.keys():
        return "it boxes a region that isn't one of regions; copy their numbers, and write no other box"
    if lacking := [thing.mention for box, thing in true.items() if box not in named]:
        return f"it doesn't name {lacking[0]}; write each region's box after its name, in this form"
    return ""


def _read(text: str) -> tuple[str, str]:
    """Return the thinking of a reply, and what is wrong with the reply where there is none."""
    mistakes: list[str] = []

    def check(value: Any) -> BaseModel:
        try:
            return _Thinking.model_validate(value)
        except ValidationError as error:
            mistakes.append(str(error.errors(include_input=False, include_url=False)[0]["msg"]))
            raise

    found = json_objects(text, check)
    if found:
        return str(found[-1].model_dump()["thinking"]), ""
    return "", f"{mistakes[0] if mistakes else 'it holds no JSON object'}; give thinking as a string"


@functools.cache
def _instructions() -> str:
    return files("medground.prompts").joinpath("data", "think-v1.txt").read_text(encoding="utf-8").strip()
