"""The main job: a question and an image in; reasoning, a box, two key points and a mask out."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import numpy.typing as npt

from medground.errors import ConfigError, MedgroundError, ParseError, ReasonerError, SegmenterError
from medground.images import MedicalImage, load_image
from medground.parsing import parse
from medground.placing import in_source_pixels, prompts_for
from medground.prompts import Mode, clean_question
from medground.reasoners import Completion, Reasoner, Request, load_reasoner
from medground.segmenters import MaskPrediction, Prompt, Segmenter, load_segmenter
from medground.self_check import contradictions, drawn_facts, self_check
from medground.types import Grounding, LocatedRegion, Mask, Reply, Result

if TYPE_CHECKING:
    from medground.answers import QuestionType
    from medground.asking import Conversation
    from medground.batch import Pair

__all__ = ["ImageLike", "MedGround", "as_image", "in_source_pixels"]

ImageLike = MedicalImage | str | Path | npt.NDArray[np.uint8]
"""A loaded image, a path, or a uint8 array of shape (height, width) or (height, width, 3), RGB."""


class MedGround:
    """A reasoner and a frozen segmenter that answer together.

    Models are loaded when they are first needed, and stay loaded.

    Parameters
    ----------
    reasoner : str or Reasoner
        As `load_reasoner` takes it: ``"nano"``, a folder or hub id, or ``"https://host/v1#model"``.
    segmenter : str, Segmenter or None
        As `load_segmenter` takes it; None gives boxes and points without masks.
    device, dtype : str
        For the models that are named by a string; see `load_reasoner`.
    embeddings : int
        How many images' embeddings are kept, so that a second question on one of them doesn't encode it again.
    **reasoner_options
        Further arguments of `load_reasoner`, such as ``adapter``, ``coordinates`` or ``max_pixels``.

    Examples
    --------
    >>> grounder = MedGround()  # doctest: +SKIP
    >>> grounder.ground("fundus.jpg", "Where would raised pressure in the skull show first?").box  # doctest: +SKIP
    """

    def __init__(
        self,
        reasoner: str | Reasoner = "nano",
        segmenter: str | Segmenter | None = "litemedsam",
        *,
        device: str = "auto",
        dtype: str = "auto",
        embeddings: int = 4,
        **reasoner_options: Any,
    ) -> None:
        self._reasoner = reasoner
        self._segmenter = segmenter
        self._device, self._dtype = device, dtype
        self._reasoner_options = reasoner_options
        self._embeddings: OrderedDict[bytes, Any] = OrderedDict()
        self._keep = max(1, embeddings)
        self._lock = threading.RLock()

    @property
    def reasoner(self) -> Reasoner:
        """The reasoner, loaded now if it wasn't."""
        with self._lock:
            if isinstance(self._reasoner, str):
                self._reasoner = load_reasoner(
                    self._reasoner, device=self._device, dtype=self._dtype, **self._reasoner_options
                )
            return self._reasoner

    @property
    def segmenter(self) -> Segmenter | None:
        """The segmenter, loaded now if it wasn't; None when there is none."""
        with self._lock:
            if isinstance(self._segmenter, str):
                self._segmenter = load_segmenter(self._segmenter, device=self._device, dtype=self._dtype)
            return self._segmenter

    def ground(
        self,
        image: ImageLike,
        question: str,
        *,
        mode: Mode = "reason",
        temperature: float = 0.0,
        max_new_tokens: int | None = None,
        seed: int | None = None,
    ) -> Result:
        """Answer one question about one image.

        Parameters
        ----------
        image : MedicalImage, path or uint8 array
        question : str
            What a clinician would ask; it needn't name the target.
        mode : {"reason", "direct"}
            Whether the model reasons before it answers.
        temperature : float, at least 0
            0 is greedy and repeatable.
        max_new_tokens : int or None
            The longest completion; None leaves it to the reasoner.
        seed : int or None
            Makes sampling repeatable.

        Returns
        -------
        Result
            Box, points and mask in source pixels. The mask is None, and `Result.notes` says why, when the target is
            absent, when there is no segmenter, or when it knows none of the prompts that the reasoner gave.

        Raises
        ------
        ImageError
            The image can't be read.
        ReasonerError
            The reasoner can't be loaded or didn't answer.
        ParseError
            Its text holds no location inside the picture; the text is the error's ``completion``.
        """
        options: dict[str, Any] = {"temperature": temperature, "max_new_tokens": max_new_tokens, "seed": seed}
        [answer] = self.ground_each([(image, question)], mode=mode, **options)
        if isinstance(answer, MedgroundError):
            raise answer
        return answer

    def ground_batch(
        self,
        pairs: Iterable[tuple[ImageLike, str] | Pair],
        *,
        mode: Mode = "reason",
        temperature: float = 0.0,
        max_new_tokens: int | None = None,
        seed: int | None = None,
        batch_size: int = 8,
    ) -> list[Result | MedgroundError]:
        """Answer many questions; the list of what `ground_each` yields."""
        return list(
            self.ground_each(
                pairs,
                mode=mode,
                temperature=temperature,
                max_new_tokens=max_new_tokens,
                seed=seed,
                batch_size=batch_size,
            )
        )

    def ground_each(
        self,
        pairs: Iterable[tuple[ImageLike, str] | Pair],
        *,
        mode: Mode = "reason",
        temperature: float = 0.0,
        max_new_tokens: int | None = None,
        seed: int | None = None,
        batch_size: int = 8,
    ) -> Iterator[Result | MedgroundError]:
        """Answer many questions one after the other, holding at most `batch_size` images.

        Parameters
        ----------
        pairs : iterable of (image, question) or of Pair
            Read as they are needed.
        batch_size : int, at least 1
            How many questions the reasoner is given at once.
        mode, temperature, max_new_tokens, seed
            As for `ground`.

        Yields
        ------
        Result or MedgroundError
            One for each pair, in order; a pair that fails yields its error and the others go on.
        """
        if batch_size < 1:
            raise ConfigError(f"the batch size must be at least 1, not {batch_size}")
        if mode not in get_args(Mode):
            raise ConfigError(f"mode {mode!r} isn't known; choose reason or direct")
        if not 0 <= temperature < float("inf"):
            raise ConfigError(f"the temperature must be a number from 0 up, not {temperature}")
        remaining = iter(pairs)
        while chunk := list(islice(remaining, batch_size)):
            asked = _requests(chunk, mode)
            requests = [request for request in asked if isinstance(request, Request)]
            completions: Iterator[tuple[Completion, float]] = iter(())
            if requests:
                reasoner = self.reasoner
                started = time.perf_counter()
                said = reasoner.complete(requests, temperature=temperature, max_new_tokens=max_new_tokens, seed=seed)
                if len(said) != len(requests):
                    raise ReasonerError(f"{reasoner.name} gave {len(said)} answers to {len(requests)} questions")
                share = (time.perf_counter() - started) / len(requests)
                completions = ((completion, share) for completion in said)
            for request in asked:
                if isinstance(request, MedgroundError):
                    yield request
                    continue
                try:
                    yield self._finish(request.image, *next(completions))
                except MedgroundError as error:
                    yield error

    def stream(
        self,
        image: ImageLike,
        question: str,
        *,
        mode: Mode = "reason",
        temperature: float = 0.0,
        max_new_tokens: int | None = None,
    ) -> Iterator[str | Result]:
        """Yield the completion's text in pieces as the model writes it, then the `Result`; raises as `ground` does."""
        request = Request(as_image(image), question, mode)
        reasoner = self.reasoner
        pieces = []
        started = time.perf_counter()
        for piece in reasoner.stream(request, temperature=temperature, max_new_tokens=max_new_tokens):
            pieces.append(piece)
            yield piece
        seconds = time.perf_counter() - started
        yield self._finish(request.image, Completion("".join(pieces), reasoner.space_for(request.image)), seconds)

    def segment(self, image: ImageLike, prompt: Prompt) -> MaskPrediction:
        """Segment what `prompt` points at, without a reasoner; the image's embedding is kept as in `ground`.

        Raises
        ------
        SegmenterError
            There is no segmenter, or it doesn't know such prompts.
        """
        return self.segment_each(as_image(image), [prompt])[0]

    def segment_each(
        self, image: MedicalImage, prompts: Sequence[Prompt], seconds: dict[str, float] | None = None
    ) -> list[MaskPrediction]:
        """Segment places of one image, each on its own, with one embedding; adds the time that it took to `seconds`.

        Raises
        ------
        SegmenterError
            As `segment` does.
        """
        segmenter = self.segmenter
        if segmenter is None:
            raise SegmenterError("there is no segmenter: give one to MedGround, such as 'litemedsam'")
        started = time.perf_counter()
        key = hashlib.blake2b(repr(image.size).encode() + image.rgb.tobytes(), digest_size=16).digest()
        with self._lock:
            known = key in self._embeddings
            embedding = self._embeddings[key] if known else segmenter.encode(image)
            self._embeddings[key] = embedding
            self._embeddings.move_to_end(key)
            while len(self._embeddings) > self._keep:
                self._embeddings.popitem(last=False)
            encoded = time.perf_counter()
            predictions = segmenter.segment(embedding, prompts)
        if seconds is not None:
            seconds["encode"] = encoded - started
            seconds["mask"] = time.perf_counter() - encoded
        return predictions

    @property
    def segmenter_name(self) -> str:
        """What the segmenter is called, without loading it."""
        named = self._segmenter
        return "none" if named is None else named if isinstance(named, str) else named.name

    def ask(
        self,
        image: ImageLike,
        question: str,
        *,
        choices: Sequence[str] = (),
        question_type: QuestionType | None = None,
        earlier: Sequence[LocatedRegion] = (),
        mode: Mode = "reason",
        temperature: float = 0.0,
        max_new_tokens: int | None = None,
        seed: int | None = None,
    ) -> Reply:
        """Answer a visual question: the answer, and the regions that it rests on; see `medground.asking.ask`."""
        from medground import asking

        visual = asking.visual_of(choices, question_type, earlier)
        options: dict[str, Any] = {"temperature": temperature, "max_new_tokens": max_new_tokens, "seed": seed}
        return asking.ask(self, image, question, visual, mode=mode, **options)

    def conversation(self, image: ImageLike) -> Conversation:
        """Begin to ask several questions about one image, of which later ones may refer to regions found before."""
        from medground.asking import Conversation

        return Conversation(self, as_image(image))

    def _finish(self, image: MedicalImage, completion: Completion, seconds: float) -> Result:
        if completion.error is not None:
            raise ReasonerError(completion.error)
        try:
            said, notes = in_source_pixels(parse(completion.text, completion.space), image.space)
        except ParseError as error:
            error.completion = completion.text
            raise
        spent = {"reason": seconds}
        mask, seen = self._mask(image, said, spent)
        facts = None if mask is None else drawn_facts(mask, image.rgb)
        claims = () if facts is None else self_check(said.reasoning, facts)
        return Result(
            grounding=said,
            mask=mask,
            reasoner=self.reasoner.name,
            segmenter=self.segmenter_name,  # an absent target is no reason to load it
            notes=(*notes, *seen, *(() if facts is None else contradictions(claims, facts))),
            seconds=spent,
            provenance=image.provenance,
            claims=claims,
        )

    def _mask(self, image: MedicalImage, said: Grounding, spent: dict[str, float]) -> tuple[Mask | None, list[str]]:
        if said.absent:
            return None, ["the reasoner says that the target isn't in the image"]
        prompts = prompts_for(said)
        if not prompts:
            return None, ["no mask: the reasoner gave no location"]
        if self.segmenter is None:
            return None, []
        try:
            predictions = self.segment_each(image, prompts, spent)
        except SegmenterError as error:  # prompts that it can't use: the location is an answer all the same
            return None, [f"no mask: {error}"]
        mask = np.logical_or.reduce([prediction.mask for prediction in predictions])
        notes = list(dict.fromkeys(note for prediction in predictions for note in prediction.notes))
        if not mask.any():
            notes.append("the mask is empty: the segmenter found nothing at this place")
        return mask, notes


def as_image(image: ImageLike) -> MedicalImage:
    """Return a loaded image from a path, an array, or an image that is loaded already."""
    if isinstance(image, MedicalImage):
        return image
    if isinstance(image, np.ndarray):
        return MedicalImage.from_array(image)
    return load_image(image)


def _requests(chunk: list[tuple[ImageLike, str] | Pair], mode: Mode) -> list[Request | MedgroundError]:
    """Load a chunk's images, those of the same file once."""
    loaded: dict[Any, MedicalImage] = {}
    requests: list[Request | MedgroundError] = []
    for pair in chunk:
        try:
            if isinstance(pair, tuple):
                image, question = as_image(pair[0]), pair[1]
            else:
                key = (pair.path, tuple(pair.options().items()))
                image = loaded.get(key) or load_image(pair.path, **pair.options())
                loaded[key], question = image, pair.question
            clean_question(question)  # a bad question is this pair's error, not its batch's
            requests.append(Request(image, question, mode))
        except MedgroundError as error:
            requests.append(error)
    return requests
