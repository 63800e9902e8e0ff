"""The words of a build by a language model behind any OpenAI-compatible endpoint, instead of the offline grammar.

Each answer is kept on disk before it is used, by a digest of what was asked, so a build that was killed, or is made
again, asks for nothing twice.
"""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Unpack, get_args

import numpy as np
from PIL import Image
from pydantic import AfterValidator, BaseModel, ConfigDict, StrictStr, ValidationError

from medground._io import sha256
from medground.data.briefing import (
    ASKERS,
    FORMS,
    LENGTHS,
    OPENINGS,
    STYLES,
    Objection,
    brief_description,
    brief_question,
    instructions,
    object_to_description,
    object_to_question,
    tidy,
)
from medground.data.grammar import Words
from medground.data.ledger import Spent
from medground.data.paid import Answer, Asking, PaidModel, digest, schema_of
from medground.data.pixels import open_image
from medground.data.rows import Picture
from medground.drawing import draw
from medground.endpoint_client import json_objects
from medground.errors import ConfigError, ReasonerError, TruthError
from medground.masks import decode_rle
from medground.reasoners._request import MAX_PIXELS, check_positive, fit

__all__ = ["Shown", "Writer"]

Shown = Literal["nothing", "picture", "outline"]
"""What of the picture a model is shown: nothing, the picture, or the picture with the target outlined."""

_ATTACHED = {
    "nothing": "",
    "picture": "The picture is attached.",
    "outline": "The picture is attached; a sky-blue line that isn't part of it marks the target.",
}
_TOO_LONG = 4_000

_Text = Annotated[StrictStr, AfterValidator(tidy)]


class _Description(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    short: _Text
    long: _Text


class _Question(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    question: _Text
    reasoning: _Text


class Writer:
    """Descriptions, questions and reasoning by a language model; keeps `medground.data.grammar.Words`.

    **What leaves this machine**, to the named host alone: what the taxonomy knows of the target, what was measured,
    what else is annotated in the picture and, where `shown` says so, the picture's pixels. Never a file name, an id, a
    source or a patient group. Nothing of it is logged, and no error message repeats it.

    **What comes back** is checked here, whatever the server promised: JSON of the asked form, then what
    `medground.data.briefing` objects to. The model is told the objection and tries again.

    The key is the environment's ``MEDGROUND_API_KEY``, else ``OPENAI_API_KEY``: it is never a part of the writer, so
    it travels to no other process and into no file.

    Parameters
    ----------
    spec : str
        ``"https://host[:port]/v1#model"``; what follows ``#`` is the model's name on the server.
    cache : path
        A folder for the answers (``answers/``) and what they cost (``ledger.jsonl``). Processes share it.
    root : path or None
        The folder at which the records' image paths start; needed where anything is shown.
    shown : {"nothing", "picture", "outline"}
        An absent target has no outline, so the picture is shown plain.
    tries : int
        How often the model is asked for one text, the first time included.
    attempts : int
        How often `medground.data.ask` begins anew when a gate refuses a question.
    seed : int
        Of what descriptions open with.
    max_pixels : int
        Pixel budget of the picture that is sent.
    fallback : Words or None
        What finds the words when no try is usable. Its name then comes with them, as ``described_by`` or ``asked_by``.
        Without it such a text is a ReasonerError.
    prices, max_cost, per_minute, concurrency, temperature, max_new_tokens, timeout, max_retries, allow_insecure
        As for `medground.data.paid.PaidModel`. `concurrency` is for `describe_all` and `ask_all`; each worker of a
        stage is one process.

    Raises
    ------
    ConfigError, ReasonerError, MissingExtraError
        As for `medground.data.paid.PaidModel`.
    """

    def __init__(
        self,
        spec: str,
        cache: str | Path,
        *,
        root: str | Path | None = None,
        shown: Shown = "nothing",
        tries: int = 3,
        attempts: int = 2,
        seed: int = 0,
        max_pixels: int = MAX_PIXELS,
        fallback: Words | None = None,
        **asking: Unpack[Asking],
    ) -> None:
        own = {key: value for key, value in locals().items() if key not in ("self", "spec", "cache", "asking")}
        self._made_by = (spec, cache, {**own, **asking})  # another process makes the same writer by it
        check_positive(tries=tries, attempts=attempts, max_pixels=max_pixels)
        if shown not in get_args(Shown):
            raise ConfigError(f"shown must be one of {', '.join(get_args(Shown))}, not {shown!r}")
        if shown != "nothing" and root is None:
            raise ConfigError("showing pictures needs root, the folder at which the records' image paths start")
        self._model = PaidModel(spec, cache, sends_images=shown != "nothing", **asking)
        self.attempts = attempts
        self._root = None if root is None else Path(root)
        self._shown: Shown = shown
        self._tries = tries
        self._seed = seed
        self._max_pixels = max_pixels
        self._fallback = fallback

    def __reduce__(self) -> tuple[Any, ...]:
        spec, cache, options = self._made_by
        return functools.partial(Writer, **options), (spec, cache)

    @functools.cached_property
    def name(self) -> str:
        """The model's name and a digest of all that the words depend on: prompts, settings, fallback."""
        prompts = [instructions("describe"), instructions("ask"), instructions("absent"), _ATTACHED]
        drawn = [STYLES, LENGTHS, [[*key, list(value)] for key, value in ASKERS.items()], FORMS, OPENINGS]
        settings: list[Any] = [self._shown, self._tries, self._seed, self._max_pixels]
        settings += [self._model.temperature, self._model.max_new_tokens]
        settings.append(None if self._fallback is None else self._fallback.name)
        return f"{self._model.name} writer-v1-{digest([prompts, drawn, settings])[:8]}"

    def spent(self) -> Spent:
        """Return what the cache folder's answers cost so far, over all runs and processes."""
        return self._model.spent()

    def describe(self, record: Mapping[str, Any]) -> dict[str, str]:
        """Return ``short`` and ``long`` of a measured record; see `medground.data.grammar.Words.describe`.

        Raises
        ------
        ReasonerError
            When the server fails, or the model writes nothing usable and there is no fallback.
        CostError
            When `max_cost` is reached.
        TruthError
            When the picture can't be shown.
        """
        rng = random.Random(f"{self._seed}/describe/{record['id']}")  # noqa: S311 - phrasing, not secrets
        brief = brief_description(record, rng)
        said, objection = self._written(
            "describe", record, brief, _Description, object_to_description, draw=rng.getrandbits(64)
        )
        if objection is None:
            return said
        if self._fallback is None:
            raise self._unusable(record, objection)
        return {**self._fallback.describe(record), "described_by": self._fallback.name}

    def ask(self, request: Mapping[str, Any], rng: random.Random) -> dict[str, str]:
        """Return ``question`` and ``reasoning``; see `medground.data.grammar.Words.ask`.

        Where each try is open to an objection, the last one is returned: the gates refuse it and say why.

        Raises
        ------
        ReasonerError
            When the server fails, or the model writes no JSON of the asked form and there is no fallback.
        CostError
            When `max_cost` is reached.
        TruthError
            When the picture can't be shown.
        """
        task: Literal["ask", "absent"] = "absent" if request["absent"] else "ask"
        brief = brief_question(request, rng)
        said, objection = self._written(task, request, brief, _Question, object_to_question, draw=rng.getrandbits(64))
        if objection is None or (said and self._fallback is None):
            return said
        if self._fallback is None:
            raise self._unusable(request, objection)
        return {**self._fallback.ask(request, rng), "asked_by": self._fallback.name}

    def describe_all(self, records: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
        """Describe records, `concurrency` of them at once; the first failure ends it, and what was written is kept."""
        return self._model.together([functools.partial(self.describe, record) for record in records])

    def ask_all(self, requests: Sequence[tuple[Mapping[str, Any], random.Random]]) -> list[dict[str, str]]:
        """Ask for each request with its own generator, `concurrency` of them at once; see `describe_all`."""
        return self._model.together([functools.partial(self.ask, request, rng) for request, rng in requests])

    def _unusable(self, record: Mapping[str, Any], objection: Objection) -> ReasonerError:
        return ReasonerError(
            f"{record['id']}: {self._model.name} wrote nothing usable in {self._tries} tries (the last: "
            f"{objection.kind}); run again to ask anew, allow more tries, or give a fallback"
        )

    def _written(
        self,
        task: Literal["describe", "ask", "absent"],
        record: Mapping[str, Any],
        brief: Mapping[str, Any],
        form: type[BaseModel],
        objects: Callable[[Mapping[str, Any], Mapping[str, str]], Objection | None],
        *,
        draw: int,
    ) -> tuple[dict[str, str], Objection | None]:
        """Return the words and what speaks against them after all tries; empty words where none were of the form."""
        shown = "picture" if task == "absent" and self._shown == "outline" else self._shown
        told = f"{json.dumps(brief, ensure_ascii=False, indent=1)}\n{_ATTACHED[shown]}".strip()
        turns = [("system", instructions(task)), ("user", told)]
        said: dict[str, str] = {}
        objection: Objection | None = None
        keys: list[str] = []
        draws = [self._picture_digest(record, shown), self._max_pixels, draw]
        picture = functools.partial(self._picture, record, shown)
        for _ in range(self._tries):
            key, reply = self._model.reply(turns, schema_of(form), draws=draws, picture=picture)
            keys.append(key)
            found, objection = _read(reply, form)
            if found is not None:
                said, objection = found, objects(record, found)
            if objection is None:
                return said, None
            again = f"That can't be used: {objection.told}. Reply with the whole JSON object again, mended."
            turns += [("assistant", reply.text[:_TOO_LONG] or "(nothing)"), ("user", again)]
        if task == "describe" or not said:  # a failure must not be found again by the next run
            for key in keys:
                self._model.forget(key)
        return said, objection

    def _path(self, record: Mapping[str, Any]) -> Path:
        if self._root is None:  # never: the constructor saw to it
            raise ConfigError("no root")
        return self._root / str(record["image"])

    def _picture_digest(self, record: Mapping[str, Any], shown: Shown) -> str:
        if shown == "nothing":
            return ""
        try:
            pixels = sha256(self._path(record))
        except OSError as error:
            raise TruthError(
                f"{self._path(record)}: can't be read ({error.strerror or error}); restore the file, or clean again"
            ) from error
        return pixels if shown == "picture" else f"{pixels} {digest(record['mask'])}"

    def _picture(self, record: Mapping[str, Any], shown: Shown) -> Image.Image | None:
        if shown == "nothing":
            return None
        image = open_image(Picture(path=str(self._path(record))))
        if shown == "outline":
            picture = draw(image, mask=decode_rle(record["mask"]), tint=0.0)
        else:
            picture = Image.fromarray(image.rgb)
        size = fit(picture.width, picture.height, self._max_pixels)
        picture = picture if picture.size == size else picture.resize(size, Image.Resampling.BICUBIC)
        return Image.fromarray(np.asarray(picture.convert("RGB")))  # pixels alone


def _read(reply: Answer, form: type[BaseModel]) -> tuple[dict[str, str] | None, Objection | None]:
    """Return the last object of the form in a reply, or else what is wrong with it."""
    mistakes: list[str] = []

    def check(value: Any) -> BaseModel:
        try:
            return form.model_validate(value)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            mistakes.append(f"{'.'.join(map(str, first['loc'])) or 'the object'}: {first['msg']}")
            raise

    if found := json_objects(reply.text, check):
        return found[-1].model_dump(), None
    if reply.cut:
        return None, Objection("the answer was cut at max_new_tokens", "it was too long and was cut off; be brief")
    told = mistakes[0] if mistakes else "it holds no JSON object"
    return None, Objection("no JSON of the asked form", f"{told}; give {' and '.join(form.model_fields)} as strings")
