from __future__ import annotations

import base64
import dataclasses
import io
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from conftest import ScriptedReasoner, middle
from PIL import Image

from medground import RESEARCH_USE
from medground.demo import CASES, run_demo
from medground.drawing import MASK
from medground.errors import MedgroundError, MissingExtraError
from medground.images import load_image
from medground.masks import box_of
from medground.pipeline import MedGround
from medground.taxonomy import leaks, load_targets
from medground.types import Box


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.pictures: list[Image.Image] = []
        self.links: list[str] = []
        self.words = ""
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "action", "data"):
                self.links.append(value or "")
            if tag == "img" and name == "src":
                data = base64.b64decode((value or "").removeprefix("data:image/jpeg;base64,"), validate=True)
                self.pictures.append(Image.open(io.BytesIO(data)))

    def handle_data(self, data: str) -> None:
        self.words += data


def test_page_is_self_contained_and_shows_every_case(tmp_path: Path, reasoner, segmenter):
    pytest.importorskip("nilearn")
    pytest.importorskip("skimage")
    pytest.importorskip("pydicom")
    path, skipped = run_demo(MedGround(reasoner, segmenter), tmp_path / "out")
    assert skipped == []
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert len(page.pictures) == 2 * len(CASES) >= 6
    assert all(link.startswith("data:image/jpeg;base64,") for link in page.links)
    assert "http" not in text.replace("http-equiv", "")
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert "prefers-color-scheme: dark" in text
    assert "width=device-width" in text
    assert RESEARCH_USE in page.words
    for case in CASES:
        assert case.question in page.words
        assert case.credit in page.words
    for plain, drawn in zip(page.pictures[::2], page.pictures[1::2], strict=True):
        assert plain.size == drawn.size
        assert 300 < max(drawn.size) <= 900
        difference = np.abs(np.asarray(plain).astype(int) - np.asarray(drawn).astype(int))
        assert difference.max() > 60
    assert len(text) < 3_000_000


def test_images_show_something_of_their_own():
    for case in CASES:
        try:
            image = load_image(case.path(), **case.reading)
        except MissingExtraError as error:
            pytest.skip(str(error))
        assert image.rgb.std() > 10


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.target)
def test_questions_never_name_their_target(case):
    assert leaks(case.question, load_targets()[case.target]) is None


def test_what_a_model_says_is_text_and_not_html(tmp_path: Path, segmenter):
    def script(request, space):
        return middle(request, space).replace("It is in the middle.", "<script>alert(1)</script> & so on")

    path, _ = run_demo(MedGround(ScriptedReasoner(script), segmenter), tmp_path, CASES[:1])
    page = Page(path.read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert "alert(1)" in page.words


def test_missing_package_or_answer_leaves_a_sentence(tmp_path: Path, segmenter):
    absent = dataclasses.replace(CASES[0], package="no_such_package", title="a picture that isn't there")
    moved = dataclasses.replace(CASES[0], file="data/no_such_file.jpg")

    def script(request, space):
        return "no idea" if request.question == CASES[2].question else middle(request, space)

    grounder = MedGround(ScriptedReasoner(script), segmenter)
    path, skipped = run_demo(grounder, tmp_path, [absent, moved, CASES[2], CASES[0]])
    assert len(skipped) == 3
    assert "no_such_package, which isn't installed: pip install 'medground[demo]'" in skipped[0]
    assert "a picture that isn't there" in Page(path.read_text(encoding="utf-8")).words
    with pytest.raises(MedgroundError, match="no_such_package"):
        run_demo(grounder, tmp_path, [absent])


def test_mask_shows_on_the_page(tmp_path: Path, reasoner, segmenter):
    path, _ = run_demo(MedGround(reasoner, segmenter), tmp_path, CASES[:1])
    plain, drawn = (np.asarray(shown).astype(float) for shown in Page(path.read_text(encoding="utf-8")).pictures)
    height, width = plain.shape[:2]
    inside = np.s_[int(height * 0.3) : int(height * 0.45), int(width * 0.3) : int(width * 0.7)]
    tinted = plain[inside] * 0.65 + np.array(MASK) * 0.35
    assert np.median(np.abs(drawn[inside] - tinted)) < 4
    assert np.median(np.abs(drawn[inside] - plain[inside])) > 20


def test_the_shipped_models_find_the_optic_disc() -> None:
    pytest.importorskip("skimage")
    case = next(case for case in CASES if case.target == "optic disc")
    image = load_image(case.path())
    result = MedGround(device="cpu").ground(image, case.question)
    assert result.box is not None
    assert result.mask is not None
    by_eye = Box(122, 545, 310, 752, image.space)
    assert result.box.iou(by_eye) > 0.5
    assert box_of(result.mask).iou(by_eye) > 0.5
    assert all(by_eye.contains(point) for point in result.points)
    assert "optic disc" in result.reasoning
