"""What the tasks of this folder call; rows are in the UMRG set's parquet layout.

lmms-eval hands a task's ``lmms_eval_specific_kwargs`` to what makes the prompt and not to what reads the answer. So
the ruler of the answer is the task's own, and asking and reading can't disagree about it.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from medground.adapters import filled
from medground.coords import space_named
from medground.errors import ParseError, TruthError
from medground.metrics import box_iou, nanmean, pdice, pdice_paper, pointing
from medground.parsing import parse
from medground.prompts import render
from medground.rewards import Truth, read_truth
from medground.types import Mask

__all__ = ["doc_to_messages", "doc_to_text", "doc_to_visual", "mean", "process_results"]

_SCORES = ("medground_box_iou", "medground_pdice", "medground_pdice_paper", "medground_pointing")


def doc_to_visual(doc: Mapping[str, Any]) -> list[Image.Image]:
    """Return the row's one image, RGB; raises TruthError where there isn't exactly one."""
    images = doc.get("images") or []
    if len(images) != 1:
        raise TruthError(f"{_name(doc)}, images: expected one image, found {len(images)}")
    return [_picture(images[0]).convert("RGB")]


def doc_to_text(
    doc: Mapping[str, Any], lmms_eval_specific_kwargs: Mapping[str, Any] | None = None, *, coordinates: str
) -> str:
    """Return all that is said to the model, as one text.

    Parameters
    ----------
    doc : mapping
        A row.
    lmms_eval_specific_kwargs : mapping, optional
        ``template`` (see `medground.prompts.TEMPLATES`; None sends the row's own prompt) and ``mode``.
    coordinates : str
        ``"0-1000"``, ``"0-1"`` or ``"pixels"`` (of the image that lmms-eval hands over), with ``" yx"`` after it where
        y comes first.
    """
    return "\n\n".join(text for _, text in _turns(doc, lmms_eval_specific_kwargs or {}, coordinates))


def doc_to_messages(
    doc: Mapping[str, Any], lmms_eval_specific_kwargs: Mapping[str, Any] | None = None, *, coordinates: str
) -> list[dict[str, Any]]:
    """Return the conversation for a chat model, the image before the question; parameters as in `doc_to_text`."""
    messages: list[dict[str, Any]] = [
        {"role": role, "content": [{"type": "text", "text": text}]}
        for role, text in _turns(doc, lmms_eval_specific_kwargs or {}, coordinates)
    ]
    messages[-1]["content"].insert(0, {"type": "image", "url": doc_to_visual(doc)[0]})
    return messages


def process_results(doc: Mapping[str, Any], results: Sequence[str], *, coordinates: str) -> dict[str, float]:
    """Return the metrics of one answer.

    Parameters
    ----------
    doc : mapping
        A row: ``images``, ``reward_model.ground_truth`` and, if it is known, ``masks``.
    results : sequence of one str
        The answer, read tolerantly.
    coordinates : str
        See `doc_to_text`; the ruler on which the answer is read, whatever its numbers look like.

    Returns
    -------
    dict of str to float
        ``medground_box_iou``, ``medground_acc_50`` (IoU of 0.5 and above), ``medground_pdice`` (Dice of the circles
        over the key points), ``medground_pdice_paper`` (as the UMRG paper computes it, up to 2), ``medground_pointing``
        (share of the key points on the mask, or in the true box where there is no mask), and
        ``medground_failure_rate``: 1 where no answer could be read, which is 0 in every other one. NaN, left out of the
        mean, where there is nothing to measure: a target that is absent and said to be, or a truth without key points.

    Raises
    ------
    TruthError
        When the row's truth, image or mask can't be used.
    """
    [image] = doc_to_visual(doc)
    space = space_named(coordinates, *image.size)
    truth, mask = _truth(doc, image), _mask(doc)
    try:
        said = parse(results[0], space)
    except ParseError:
        said = None
    found = (
        {
            "medground_box_iou": box_iou(said.box, truth.box),
            "medground_pdice": pdice(said.points, truth.points),
            "medground_pdice_paper": pdice_paper(said.points, truth.points),
            "medground_pointing": pointing(said.points, truth.box if mask is None else mask),
        }
        if said
        else dict.fromkeys(_SCORES, 0.0)
    )
    if not (truth.points or truth.absent):
        found["medground_pdice"] = found["medground_pdice_paper"] = float("nan")
    iou = found["medground_box_iou"]
    found["medground_acc_50"] = iou if math.isnan(iou) else float(iou >= 0.5)
    return {**found, "medground_failure_rate": float(said is None)}


def mean(values: Sequence[float]) -> float:
    """Return the mean of what isn't NaN; NaN where nothing is left."""
    return nanmean(values).mean


doc_to_text_0_1000 = partial(doc_to_text, coordinates="0-1000")
doc_to_messages_0_1000 = partial(doc_to_messages, coordinates="0-1000")
process_results_0_1000 = partial(process_results, coordinates="0-1000")
doc_to_text_pixels = partial(doc_to_text, coordinates="pixels")
doc_to_messages_pixels = partial(doc_to_messages, coordinates="pixels")
process_results_pixels = partial(process_results, coordinates="pixels")


def _turns(doc: Mapping[str, Any], settings: Mapping[str, Any], coordinates: str) -> list[tuple[str, str]]:
    """Return role and text of each message."""
    own = [(turn["role"], str(turn["content"]).replace("<image>", "").strip()) for turn in doc["prompt"]]
    template = settings.get("template", "umrg-v1")
    if template is None:
        return own
    space = space_named(coordinates, *doc_to_visual(doc)[0].size)
    system, user = render(template, own[-1][1], mode=settings.get("mode", "reason"), space=space)
    return [("user", user)] if system is None else [("system", system), ("user", user)]


def _truth(doc: Mapping[str, Any], image: Image.Image) -> Truth:
    label = filled((doc.get("reward_model") or {}).get("ground_truth"))
    try:
        truth = read_truth(label)
    except TruthError as error:
        raise TruthError(f"{_name(doc)}: {error}") from error
    frame = truth.picture or truth.space
    truth = truth.to(frame)  # pixels, on which a circle is round
    stated = "image_size" in label  # true of a dict's key and of JSON that holds it
    if not stated and (frame.width, frame.height) != image.size:
        raise TruthError(
            f"{_name(doc)}, image_size: the truth doesn't say it, so {frame.width:g} x {frame.height:g} is meant, but "
            f"the image has {image.size[0]} x {image.size[1]}; write the size of the image that the numbers are for"
        )
    return truth


def _mask(doc: Mapping[str, Any]) -> Mask | None:
    masks = doc.get("masks") or []
    if not masks or masks[0] is None:
        return None
    mask: Mask = np.asarray(_picture(masks[0]).convert("L")) > 0
    return mask


def _picture(value: Any) -> Image.Image:
    if isinstance(value, Image.Image):
        return value
    if isinstance(value, Mapping):
        value = io.BytesIO(value["bytes"]) if value.get("bytes") else value["path"]
    return Image.open(value)


def _name(doc: Mapping[str, Any]) -> str:
    return f"row {(doc.get('extra_info') or {}).get('id', '?')}"
