"""Visual questions: an image, a question and perhaps choices in; an answer and the regions that it rests on out.

`MedGround.ask` and `MedGround.conversation` lead here.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

from medground.answers import QuestionType, chosen, yes_or_no
from medground.coords import Space
from medground.errors import ConfigError, ParseError, ReasonerError, SegmenterError
from medground.images import MedicalImage
from medground.parsing import written_box
from medground.pipeline import ImageLike, MedGround, as_image
from medground.prompts import Mode, clean_question
from medground.prompts.vqa import MAX_EARLIER, Visual
from medground.reasoners import Completion, Request
from medground.rewards.thinkvg_reading import find_mentions
from medground.segmenters import Prompt
from medground.types import Box, LocatedRegion, Mask, Reply
from medground.vqa_parsing import UNNAMED, Answered, Named, parse_answer

__all__ = ["Conversation", "ask", "in_pixels", "read_earlier", "reply_of", "request_of", "stream", "visual_of"]

MAX_EARLIER_BYTES = 1 << 26
"""The largest file of earlier regions that is read; masks in it are long."""


class Conversation:
    """Several questions about one image; the regions of each reply are named to the reasoner in later ones.

    Parameters
    ----------
    grounder : MedGround
    image : MedicalImage

    Attributes
    ----------
    replies : list of Reply
        In the order of the questions.
    regions : list of LocatedRegion
        The distinct regions found so far, in the order in which they were found, so that "the second region" is the
        second of these; the last `MAX_EARLIER` of them.

    Examples
    --------
    >>> talk = MedGround().conversation("chest.png")  # doctest: +SKIP
    >>> talk.ask("Where is the heart?").answer  # doctest: +SKIP
    >>> talk.ask("Is it enlarged?").answer  # doctest: +SKIP
    """

    def __init__(self, grounder: MedGround, image: MedicalImage) -> None:
        self.grounder, self.image = grounder, image
        self.replies: list[Reply] = []
        self.regions: list[LocatedRegion] = []

    def ask(
        self,
        question: str,
        *,
        choices: Sequence[str] = (),
        question_type: QuestionType | None = None,
        mode: Mode = "reason",
        temperature: float = 0.0,
        max_new_tokens: int | None = None,
        seed: int | None = None,
    ) -> Reply:
        """Answer the next question; see `ask` for the arguments. One that fails leaves the conversation as it was."""
        reply = self.grounder.ask(
            self.image,
            question,
            choices=choices,
            question_type=question_type,
            earlier=self.regions,
            mode=mode,
            temperature=temperature,
            max_new_tokens=max_new_tokens,
            seed=seed,
        )
        self.replies.append(reply)
        known = {(region.ref.casefold(), region.box.xyxy) for region in self.regions}
        self.regions += [region for region in reply.regions if (region.ref.casefold(), region.box.xyxy) not in known]
        del self.regions[:-MAX_EARLIER]
        return reply


def visual_of(
    choices: Sequence[str] = (),
    question_type: QuestionType | None = None,
    earlier: Sequence[LocatedRegion] = (),
) -> Visual:
    """Return what a visual question has beside its words, checked.

    Raises
    ------
    ConfigError
        When the choices, the type or the earlier regions can't be asked by; see `Visual`.

    Examples
    --------
    >>> visual_of(["left", "right"], "single_choice").offered
    {'A': 'left', 'B': 'right'}
    """
    if isinstance(choices, str) or not all(isinstance(text, str) for text in choices):
        raise ConfigError("choices are a list of texts; give each choice as a text of its own")
    if len({" ".join(text.split()).casefold() for text in choices}) < len(choices):
        raise ConfigError("two choices are the same; leave one out")
    return Visual(question_type, tuple(choices), tuple((region.ref, region.box) for region in earlier))


def ask(
    grounder: MedGround,
    image: ImageLike,
    question: str,
    visual: Visual | None = None,
    *,
    mode: Mode = "reason",
    temperature: float = 0.0,
    max_new_tokens: int | None = None,
    seed: int | None = None,
) -> Reply:
    """Answer one visual question about one image.

    Parameters
    ----------
    grounder : MedGround
        Its segmenter, where it has one, draws a mask for each region, all with one embedding.
    image : MedicalImage, path or uint8 array
    question : str
        Without its choices.
    visual : Visual, optional
        Type, choices and earlier regions: the arguments `choices`, `question_type` and `earlier` of `MedGround.ask`.
        Without a type the question has choices, or is open or closed by its words; the type of the reply is then that
        of the answer. Earlier regions are in pixels of this image; the question may refer to them.
    mode, temperature, max_new_tokens, seed
        As for `MedGround.ground`.

    Returns
    -------
    Reply
        In source pixels. What was mended in reading the answer, and what couldn't be segmented, is in `Reply.notes`.

    Raises
    ------
    ConfigError
        The question, its choices or its earlier regions can't be asked.
    ImageError
        The image can't be read.
    ReasonerError
        The reasoner can't be loaded or didn't answer.
    ParseError
        Its text holds no answer; the text is the error's ``completion``.
    """
    request = request_of(image, question, visual, mode)
    reasoner = grounder.reasoner
    started = time.perf_counter()
    said = reasoner.complete([request], temperature=temperature, max_new_tokens=max_new_tokens, seed=seed)
    if len(said) != 1:
        raise ReasonerError(f"{reasoner.name} gave {len(said)} answers to one question")
    return reply_of(grounder, request, said[0], time.perf_counter() - started)


def stream(
    grounder: MedGround,
    image: ImageLike,
    question: str,
    visual: Visual | None = None,
    *,
    mode: Mode = "reason",
    temperature: float = 0.0,
    max_new_tokens: int | None = None,
) -> Iterator[str | Reply]:
    """Yield the completion's text in pieces as the model writes it, then the `Reply`; raises as `ask` does."""
    request = request_of(image, question, visual, mode)
    reasoner = grounder.reasoner
    pieces = []
    started = time.perf_counter()
    for piece in reasoner.stream(request, temperature=temperature, max_new_tokens=max_new_tokens):
        pieces.append(piece)
        yield piece
    said = Completion("".join(pieces), reasoner.space_for(request.image))
    yield reply_of(grounder, request, said, time.perf_counter() - started)


def in_pixels(said: Answered, space: Space) -> Answered:
    """Return an answer with its regions, and the boxes within its texts, in a picture's pixels.

    Parameters
    ----------
    said : Answered
        In any space of the picture.
    space : Space
        The picture's pixels.

    Examples
    --------
    >>> text = "<think>The base (region [100, 0, 500, 1000])</think><answer>Yes</answer>"
    >>> said = parse_answer(text, Space.norm1000())
    >>> in_pixels(said, Space.pixels(40, 20)).reasoning
    'The base (region [4, 0, 20, 20])'
    """

    def there(named: Sequence[Named]) -> tuple[Named, ...]:
        return tuple((ref, _inside(box, space)) for ref, box in named)

    return dataclasses.replace(
        said,
        answer=_rewritten(said.answer, said.space, space),
        reasoning=_rewritten(said.reasoning, said.space, space),
        regions=there(said.regions),
        mentions=there(said.mentions),
        space=space,
    )


def read_earlier(path: str | Path, space: Space) -> list[LocatedRegion]:
    """Return the regions of a file that `save_reply` or `save_result` wrote about a picture, without their masks.

    Parameters
    ----------
    path : str or Path
        JSON: an object with ``regions``, or with the ``bbox`` of a grounding, or a list of objects with ``ref`` and
        ``box`` [x1, y1, x2, y2] in source pixels.
    space : Space
        The picture's pixels; a ``width`` and ``height`` in the file must be the same.

    Raises
    ------
    ConfigError
        When the file can't be read, holds no such regions, or is about a picture of another size.
    """
    try:
        if Path(path).stat().st_size > MAX_EARLIER_BYTES:
            raise ConfigError(f"{path}: has more than {MAX_EARLIER_BYTES >> 20} MB; give the JSON of one reply")
        said = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: can't be read ({error.strerror}); give the JSON of an earlier reply") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: isn't JSON; give the JSON of an earlier reply") from error
    listed = said
    if isinstance(said, dict):
        size = (said.get("width", space.width), said.get("height", space.height))
        if size != (space.width, space.height):
            raise ConfigError(
                f"{path}: is about a picture of another size, and this one has {space.width:g} x {space.height:g} "
                "pixels; give the reply about this picture"
            )
        listed = said.get("regions")
        if listed is None and "bbox" in said:
            listed = [] if said["bbox"] is None else [{"box": said["bbox"]}]
    if not isinstance(listed, list):
        raise ConfigError(f"{path}: holds no regions; give the JSON of an earlier reply")
    return [_region(each, f"{path}, region {number}", space) for number, each in enumerate(listed, 1)]


def _region(said: Any, where: str, space: Space) -> LocatedRegion:
    said = said if isinstance(said, dict) else {}
    ref, numbers = said.get("ref", UNNAMED), said.get("box")
    if not (isinstance(ref, str) and ref.strip()):
        raise ConfigError(f"{where}: ref isn't a name; give it one")
    if not (isinstance(numbers, list) and len(numbers) == 4 and all(type(each) in (int, float) for each in numbers)):
        raise ConfigError(f"{where}: box isn't [x1, y1, x2, y2]; give four numbers in source pixels")
    try:
        x1, y1, x2, y2 = (float(each) for each in numbers)
        return LocatedRegion(ref.strip(), Box(x1, y1, x2, y2, space).clipped())
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"{where}: box lies outside the picture, or has no area; mend it or leave it out") from error


def _inside(box: Box, space: Space) -> Box:
    return box.to(space).clipped()  # conversion may round over the edge


def _rewritten(text: str, own: Space, space: Space) -> str:
    if own == space:
        return text
    parts, end = [], 0
    for found, _, box in find_mentions(text, own):
        if box is not None:
            numbers = ", ".join(f"{value:.12g}" for value in written_box(_inside(box, space), space).xyxy)
            parts += [text[end : found.start()], f"[{numbers}]"]
            end = found.end()
    return "".join([*parts, text[end:]])


def request_of(image: ImageLike, question: str, visual: Visual | None, mode: Mode) -> Request:
    """Return a visual question as reasoners take it; raises what `ask` does before it asks."""
    if mode not in get_args(Mode):
        raise ConfigError(f"mode {mode!r} isn't known; choose reason or direct")
    clean_question(question)  # before anything is loaded
    visual = Visual() if visual is None else visual
    image = as_image(image)
    for number, (_, box) in enumerate(visual.earlier, 1):
        if box.space != image.space:
            raise ConfigError(
                f"earlier region {number} isn't in pixels of this picture ({image.width} x {image.height}): it is "
                "of another picture, or of another size of it"
            )
    return Request(image, question, mode, visual)


def reply_of(grounder: MedGround, request: Request, completion: Completion, seconds: float) -> Reply:
    """Return what a completion says, with masks; raises what `ask` does after it was answered."""
    if completion.error is not None:
        raise ReasonerError(completion.error)
    image, visual = request.image, request.visual or Visual()
    try:
        said = parse_answer(completion.text, completion.space)
    except ParseError as error:
        error.completion = completion.text
        raise
    here = in_pixels(said, image.space)
    notes = [f"reading the answer: {repair}" for repair in said.repairs]
    answer, letters, kind = _read(here.answer, visual, notes)
    spent = {"reason": seconds}
    masks = _masks(grounder, image, here.regions, spent, notes)
    return Reply(
        answer=answer,
        question_type=kind,
        space=image.space,
        chosen=tuple(visual.offered[letter] for letter in letters),
        reasoning=here.reasoning,
        mentions=here.mentions,
        regions=tuple(LocatedRegion(ref, box, mask) for (ref, box), mask in zip(here.regions, masks, strict=True)),
        reasoner=grounder.reasoner.name,
        segmenter=grounder.segmenter_name,
        notes=tuple(dict.fromkeys(notes)),
        seconds=spent,
        provenance=image.provenance,
    )


def _read(answer: str, visual: Visual, notes: list[str]) -> tuple[str, list[str], QuestionType]:
    """Return the answer, the letters that it chooses, and the type of question that it answers."""
    kind = visual.question_type
    if not visual.choices:
        says = yes_or_no(answer)
        if kind == "closed" and says is None:
            notes.append("the answer to a closed question says neither yes nor no")
        return answer, [], kind or ("open" if says is None else "closed")
    quoteless = answer.translate({ord(mark): None for mark in "\"'"})  # lists of quoted letters
    letters = sorted(chosen(answer, visual.offered) or chosen(quoteless, visual.offered) or ())
    if not letters:
        notes.append("the answer names none of the choices, or not clearly; it stands as the reasoner worded it")
    if kind == "single_choice" and len(letters) > 1:
        notes.append(f"the answer names {len(letters)} choices where one was asked for")
    kind = kind or ("multi_choice" if len(letters) > 1 else "single_choice")
    return ", ".join(letters) or answer, letters, kind


def _masks(
    grounder: MedGround, image: MedicalImage, regions: Sequence[Named], spent: dict[str, float], notes: list[str]
) -> list[Mask | None]:
    none: list[Mask | None] = [None] * len(regions)
    if not regions or grounder.segmenter is None:
        return none
    try:
        predictions = grounder.segment_each(image, [Prompt(box) for _, box in regions], spent)
    except SegmenterError as error:  # the regions are an answer without masks too
        notes.append(f"no masks: {error}")
        return none
    for (ref, _), prediction in zip(regions, predictions, strict=True):
        notes += prediction.notes
        if not prediction.mask.any():
            notes.append(f"the mask of {ref} is empty: the segmenter found nothing at its place")
    return [prediction.mask for prediction in predictions]
