"""Visual questions as a data set has them, one of each type, and one without a place in the picture."""

from __future__ import annotations

from typing import Any

from medground.data.rows import Picture
from medground.data.vqa_rows import Region, VqaRow


def _row(fields: dict[str, Any], changes: dict[str, Any]) -> VqaRow:
    return VqaRow(**{"image": Picture(path="images/1.png"), "image_size": (224, 224), **fields, **changes})


def open_ended(**changes: Any) -> VqaRow:
    """Return an open question, with all that is known of where it comes from."""
    fields = {
        "id": "case/open",
        "question": "Where is the opacity, “the pale part”?",
        "question_type": "open",
        "answer": "In the lower zone of the left lung",
        "reason": "It hides the left half of the diaphragm.",
        "thinking": "The left lower zone (region [121, 102, 179, 192]) is pale.",
        "regions": (Region(ref="left lower lung zone", box=(121, 102, 179, 192)),),
        "modality": "X-ray",
        "source": "drawn",
        "licence": "CC0-1.0",
        "group": "patient 1",
        "split": "train",
        "style": "plain",
        "template": "where-1",
        "other": {"note": {"by": "a reader"}, "columns": {"annotator": "A", "grade": 3}},
    }
    return _row(fields, changes)


def closed(**changes: Any) -> VqaRow:
    """Return a closed question."""
    fields = {
        "id": "closed",
        "question": "Is there an effusion?",
        "question_type": "closed",
        "answer": "Yes",
        "thinking": "The left base (region [10, 20, 30, 40]) is pale.",
        "regions": (Region(ref="left base", box=(10, 20, 30, 40)),),
    }
    return _row(fields, changes)


def single(**changes: Any) -> VqaRow:
    """Return a single-choice question whose choices have commas and brackets in them."""
    fields = {
        "id": "single",
        "question": "What is enlarged, if anything is?",
        "question_type": "single_choice",
        "choices": ("left lung", "heart, both halves", "nothing [of these]"),
        "answer": "B",
        "thinking": "The heart (region [60, 90, 170.5, 200]) is wide.",
        "regions": (Region(ref="heart", box=(60, 90, 170.5, 200)),),
    }
    return _row(fields, changes)


def multi(**changes: Any) -> VqaRow:
    """Return a multi-choice question with two regions, one of them on a fraction of a pixel."""
    fields = {
        "id": "multi",
        "question": "Which are opaque?",
        "question_type": "multi_choice",
        "choices": ("left lung", "heart", "right lung: its apex"),
        "answer": "A, C",
        "reason": "Both are opaque.",
        "thinking": "Both lungs are: the left (region [120, 40, 200, 190]), the right (region [20, 40, 100, 190]).",
        "regions": (
            Region(ref="left lung", box=(120, 40, 200, 190)),
            Region(ref="right lung", box=(20, 40.5, 100, 190)),
        ),
    }
    return _row(fields, changes)


def nowhere(**changes: Any) -> VqaRow:
    """Return a question that has no place in the picture."""
    fields = {
        "id": "nowhere",
        "question": "Is a pacemaker seen?",
        "question_type": "closed",
        "answer": "No",
        "thinking": "No metal is seen.",
    }
    return _row(fields, changes)


def questions() -> list[VqaRow]:
    """Return one of each."""
    return [open_ended(), closed(), single(), multi(), nowhere()]
