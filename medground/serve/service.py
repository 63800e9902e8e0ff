"""What answers: one `MedGround`, a lane for the reasoner and one for the segmenter, and the uploads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from medground.asking import reply_of, request_of, stream
from medground.coords import decimals, written_order
from medground.errors import MedgroundError, ReasonerError
from medground.images import MedicalImage
from medground.parsing import written_box
from medground.pipeline import MedGround
from medground.prompts import Mode, clean_question
from medground.prompts.vqa import Visual
from medground.reasoners import Request
from medground.segmenters import Prompt
from medground.serve.images import Images
from medground.serve.lane import Lane, Work
from medground.serve.limits import Limits
from medground.serve.metrics import Metrics
from medground.serve.reading import Room
from medground.types import Box, Reply, Result

__all__ = ["Question", "Service", "checked"]

Answer = TypeVar("Answer")

UNTOLD = (
    "{} was trained on where-questions that stand alone, so the region wasn't told to it; a question to be answered in "
    "words (ask) can follow regions"
)


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A question as a lane takes it.

    Parameters
    ----------
    image : MedicalImage
    text : str
    mode : {"reason", "direct"}
    temperature : float
    max_new_tokens : int or None
    region : Box or None
        An earlier region that the question refers to, in source pixels.
    visual : Visual or None
        What a visual question has beside its words; None asks where something is.
    """

    image: MedicalImage
    text: str
    mode: Mode = "reason"
    temperature: float = 0.0
    max_new_tokens: int | None = None
    region: Box | None = None
    visual: Visual | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """What is the same for all questions of a batch."""
        return {"mode": self.mode, "temperature": self.temperature, "max_new_tokens": self.max_new_tokens}


class Service:
    """Models, queues and uploads; the routes' one door to them.

    Parameters
    ----------
    grounder : MedGround
    limits : Limits
    """

    def __init__(self, grounder: MedGround, limits: Limits | None = None) -> None:
        self.grounder = grounder
        self.limits = limits or Limits()
        self.images = Images(self.limits)
        self.room = Room(self.limits)
        self.closing = False
        self.metrics = Metrics()
        self.reasoning = Lane(
            "reasoner", size=self.limits.queue, most=self.limits.batch, on_batch=self.metrics.batches.observe
        )
        # Masks have a lane of their own: a box that is dragged doesn't wait until somebody's question is answered.
        self.masks = Lane("segmenter", size=self.limits.queue, most=1)
        self.metrics.watch(self.reasoning, self.masks, self.images)
        self.tidied: list[Callable[[], None]] = [self.images.tidy]
        self._ended = threading.Event()
        threading.Thread(target=self._tidy, name="medground-tidy", daemon=True).start()

    def ground(self, question: Question, *, patient: bool = False) -> Work:
        """Queue a question; its answer is a `Result`."""
        key = ("ground", *question.settings.values())
        return self.reasoning.add(Work(self.answer, question, key=key, patient=patient))

    def ask(self, question: Question) -> Work:
        """Queue a visual question; its answer is a `Reply`."""
        return self.reasoning.add(Work(self.replies, question, key=("ask", *question.settings.values())))

    def write(self, question: Question) -> Iterator[str | Result | Reply]:
        """Answer a question of either kind as the model writes: pieces of text, then the whole; for a lane's thread."""
        if question.visual is None:
            pieces = self.grounder.stream(question.image, self.said(question), **question.settings)
            return (self._noted(question, piece) for piece in pieces)
        return stream(self.grounder, question.image, question.text, question.visual, **question.settings)

    def segment(self, image: MedicalImage, prompt: Prompt) -> Work:
        """Queue a prompt; its answer is a `MaskPrediction`."""

        def run(prompts: list[Prompt]) -> Iterator[Any]:
            yield self.grounder.segment(image, prompts[0])

        return self.masks.add(Work(run, prompt))

    def close(self) -> None:
        """Refuse what comes, fail what waits, let what runs come to its end."""
        self.closing = True
        self.reasoning.close()
        self.masks.close()

    def end(self, seconds: float = 30.0) -> None:
        """Close, wait for what runs, and forget the uploads."""
        self.close()
        self.reasoning.join(seconds)
        self.masks.join(seconds)
        self._ended.set()
        self.images.clear()

    def _tidy(self) -> None:
        # Pictures of patients don't stay because nobody asks any more.
        while not self._ended.wait(min(60.0, self.limits.image_seconds)):
            for tidy in self.tidied:
                tidy()

    @property
    def follows_regions(self) -> bool:
        """Whether where-questions may speak of a region found before.

        Models that are asked by nano-v1 learned the bare question and nothing else: nano named a place for each of 30
        validation questions, and for 2 of them with a region's words behind.
        """
        return getattr(self.grounder.reasoner, "template", "") != "nano-v1"

    def said(self, question: Question) -> str:
        """Return a question's text with the region that it refers to, in the coordinates of the reasoner."""
        if question.region is None or not self.follows_regions:
            return question.text
        space = self.grounder.reasoner.space_for(question.image)
        digits = decimals(space) or None
        numbers = written_order(written_box(question.region, space).xyxy, space)
        return f"{question.text} (region found before: {[round(number, digits) for number in numbers]})"

    def answer(self, questions: list[Question]) -> Iterable[Result | MedgroundError]:
        """Answer where-questions of equal settings in one batch; for a lane's thread."""
        pairs = [(question.image, self.said(question)) for question in questions]
        answers = self.grounder.ground_each(pairs, **questions[0].settings, batch_size=len(pairs))
        return (self._noted(question, answer) for question, answer in zip(questions, answers, strict=True))

    def replies(self, questions: list[Question]) -> Iterator[Reply | MedgroundError]:
        """Answer visual questions of equal settings in one batch, each as `medground.asking.ask` does."""
        asked = [_asked(question) for question in questions]
        requests = [one for one in asked if isinstance(one, Request)]
        settings = questions[0].settings
        started = time.perf_counter()
        said = self.grounder.reasoner.complete(
            requests, temperature=settings["temperature"], max_new_tokens=settings["max_new_tokens"]
        )
        if len(said) != len(requests):
            raise ReasonerError(f"{self.grounder.reasoner.name} gave {len(said)} answers to {len(requests)} questions")
        seconds = (time.perf_counter() - started) / max(1, len(requests))
        completions = iter(said)
        for one in asked:
            try:
                yield reply_of(self.grounder, one, next(completions), seconds) if isinstance(one, Request) else one
            except MedgroundError as error:
                yield error

    def _noted(self, question: Question, answer: Answer) -> Answer:
        """Return an answer, with a note where its question's region was left out."""
        if question.region is None or not isinstance(answer, Result) or self.follows_regions:
            return answer
        return replace(answer, notes=(*answer.notes, UNTOLD.format(self.grounder.reasoner.name)))


def _asked(question: Question) -> Request | MedgroundError:
    try:
        return request_of(question.image, question.text, question.visual, question.mode)
    except MedgroundError as error:
        return error


def checked(text: str) -> str:
    """Return a question that can be asked; raises ConfigError otherwise, before it waits for its turn."""
    clean_question(text)
    return text
