"""SAM, SAM 2 and the SAM 3 tracker: tiny random models of the real architectures, saved and loaded as a user would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medground.errors import SegmenterError
from medground.images import MedicalImage
from medground.segmenters import Prompt, load_segmenter
from medground.segmenters.zoom import Zoom
from medground.types import Box, Point

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SIDE = 64
FAMILIES = ["sam", "sam2", "sam3_tracker"]
DECODER = {
    "hidden_size": 32,
    "mlp_dim": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "iou_head_hidden_dim": 32,
}


def _sam() -> tuple[Any, Any]:
    config = transformers.SamConfig(
        vision_config={
            "hidden_size": 32,
            "output_channels": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": SIDE,
            "patch_size": 16,
            "global_attn_indexes": [1],
            "num_pos_feats": 16,
            "mlp_dim": 32,
            "window_size": 2,
        },
        prompt_encoder_config={"hidden_size": 32, "image_size": SIDE, "patch_size": 16},
        mask_decoder_config=DECODER,
    )
    square = {"height": SIDE, "width": SIDE}
    processor = transformers.SamProcessor(
        transformers.SamImageProcessor(size={"longest_edge": SIDE}, pad_size=square, mask_size={"longest_edge": SIDE})
    )
    return transformers.SamModel(config), processor


def _sam2() -> tuple[Any, Any]:
    config = transformers.Sam2Config(
        vision_config={
            "backbone_config": {
                "model_type": "sam2_hiera_det_model",
                "hidden_size": 16,
                "num_attention_heads": 1,
                "image_size": [SIDE, SIDE],
                "blocks_per_stage": [1, 1, 2, 1],
                "embed_dim_per_stage": [16, 32, 64, 128],
                "num_attention_heads_per_stage": [1, 2, 4, 8],
                "window_size_per_stage": [4, 4, 4, 4],
                "global_attention_blocks": [3],
                "window_positional_embedding_background_size": [4, 4],
            },
            "backbone_channel_list": [128, 64, 32, 16],
            "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
            "fpn_hidden_size": 32,
        },
        prompt_encoder_config={"hidden_size": 32, "image_size": SIDE, "patch_size": 16},
        mask_decoder_config=DECODER,
    )
    size = {"height": SIDE, "width": SIDE}
    return transformers.Sam2Model(config), transformers.Sam2Processor(transformers.Sam2ImageProcessor(size=size))


def _sam3_tracker() -> tuple[Any, Any]:
    config = transformers.Sam3TrackerConfig(
        vision_config={
            "model_type": "sam3_vision_model",
            "backbone_config": {
                "model_type": "sam3_vit_model",
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "image_size": SIDE,
                "patch_size": 16,
                "window_size": 2,
                "global_attn_indexes": [1],
                "pretrain_image_size": SIDE,
            },
            "fpn_hidden_size": 32,
            "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        },
        prompt_encoder_config={"hidden_size": 32, "image_size": SIDE, "patch_size": 16},
        mask_decoder_config=DECODER,
    )
    images = transformers.Sam3ImageProcessor(
        size={"height": SIDE, "width": SIDE}, mask_size={"height": 16, "width": 16}
    )
    return transformers.Sam3TrackerModel(config), transformers.Sam3TrackerProcessor(images)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for family, build in zip(FAMILIES, (_sam, _sam2, _sam3_tracker), strict=True):
        torch.manual_seed(1)
        model, processor = build()
        made[family] = tmp_path_factory.mktemp("models") / f"tiny-{family}"
        model.save_pretrained(made[family])
        processor.save_pretrained(made[family])
    return made


IMAGE = MedicalImage.from_array(np.random.default_rng(0).integers(0, 256, (50, 90, 3), np.uint8))
BOX = Box(20, 10, 70, 40, IMAGE.space)
POINTS = (Point(40, 20, IMAGE.space), Point(50, 30, IMAGE.space))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_kind_of_prompt_gets_a_mask_in_source_pixels(folders: dict[str, Path], family: str) -> None:
    segmenter = load_segmenter(str(folders[family]), device="cpu")
    assert segmenter.name == f"tiny-{family}"
    assert segmenter.trained_prompts == {"box", "points"}
    other = Box(0, 0, 90, 50, IMAGE.space)
    prompts = [Prompt(BOX), Prompt(points=POINTS), Prompt(BOX, POINTS), Prompt(points=POINTS[:1]), Prompt(other)]
    embedding = segmenter.encode(IMAGE)
    answers = segmenter.segment(embedding, prompts)
    assert [answer.mask.shape for answer in answers] == [(50, 90)] * 5
    assert all(answer.mask.dtype == bool and answer.notes == () for answer in answers)
    for prompt, answer in zip(prompts, answers, strict=True):
        [alone] = segmenter.segment(embedding, [prompt])
        assert alone.score == pytest.approx(answer.score, abs=1e-5)
        assert (alone.mask == answer.mask).mean() > 0.999
    assert len({round(answer.score, 7) for answer in answers}) > 1, "the prompts made no difference"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["box", "both", "two points", "one point"])
def test_encoding_once_equals_the_model_called_as_its_authors_do(
    folders: dict[str, Path], family: str, kind: str
) -> None:
    model, processor = (_sam, _sam2, _sam3_tracker)[FAMILIES.index(family)]()
    model = type(model).from_pretrained(folders[family]).eval()
    box = BOX if kind in ("box", "both") else None
    points = {"box": (), "both": POINTS, "two points": POINTS, "one point": POINTS[:1]}[kind]
    prompts: dict[str, Any] = {}
    if box:
        prompts["input_boxes"] = [[list(box.xyxy)]]
    if points:
        prompts["input_points"] = [[[list(point.xy) for point in points]]]
        prompts["input_labels"] = [[[1] * len(points)]]
    inputs = processor(images=IMAGE.rgb.copy(), return_tensors="pt", **prompts)
    sizes = [inputs.pop("original_sizes")]
    if family == "sam":
        sizes.append(inputs.pop("reshaped_input_sizes"))
    inputs = {name: value.float() if value.is_floating_point() else value for name, value in inputs.items()}
    with torch.inference_mode():
        output = model(**inputs, multimask_output=kind == "one point")
    best = int(output.iou_scores[0, 0].argmax())
    expected = processor.post_process_masks(output.pred_masks, *sizes)[0][0, best].numpy()

    segmenter = load_segmenter(str(folders[family]), device="cpu")
    [answer] = segmenter.segment(segmenter.encode(IMAGE), [Prompt(box, points)])
    assert output.iou_scores.shape[-1] == (3 if kind == "one point" else 1)
    assert answer.score == pytest.approx(float(output.iou_scores[0, 0, best]), abs=1e-5)
    assert (answer.mask == expected).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_zoom_wraps_any_segmenter(folders: dict[str, Path], family: str) -> None:
    segmenter = load_segmenter(str(folders[family]), device="cpu")
    zoom = Zoom(segmenter, factor=2, below=0.5)
    box = Box(10, 10, 22, 18, IMAGE.space)
    [answer] = zoom.segment(zoom.encode(IMAGE), [Prompt(box)])
    assert answer.mask.shape == (50, 90)
    assert not answer.mask[:, 40:].any()


def test_medsam_weights_are_given_boxes_alone(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "MedSAM2-tiny"
    folder.symlink_to(folders["sam2"])
    segmenter = load_segmenter(str(folder), device="cpu")
    assert segmenter.trained_prompts == {"box"}
    embedding = segmenter.encode(IMAGE)
    both, alone = segmenter.segment(embedding, [Prompt(BOX, POINTS), Prompt(BOX)])
    assert (both.mask == alone.mask).all()
    assert both.notes == ("MedSAM2-tiny was trained on boxes alone; the points were not used",)
    with pytest.raises(SegmenterError, match="give a box"):
        segmenter.segment(embedding, [Prompt(points=POINTS)])


def test_published_video_folders_load_as_image_models(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "video"
    folder.mkdir()
    for file in folders["sam2"].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "sam2_video"}))
    answers = []
    for spec in (folder, folders["sam2"]):
        segmenter = load_segmenter(str(spec), device="cpu")
        answers += segmenter.segment(segmenter.encode(IMAGE), [Prompt(BOX)])
    assert (answers[0].mask == answers[1].mask).all()


def test_lower_precision_is_the_encoders_alone(folders: dict[str, Path]) -> None:
    exact, rough = (load_segmenter(str(folders["sam2"]), device="cpu", dtype=dtype) for dtype in ("auto", "bfloat16"))
    first, second = (segmenter.encode(IMAGE).features[-1] for segmenter in (exact, rough))
    assert second.dtype == torch.float32
    assert 0 < float((first - second).abs().max()) < 0.1
    [answer] = rough.segment(rough.encode(IMAGE), [Prompt(BOX)])
    assert answer.mask.shape == (50, 90)


def test_what_cannot_be_loaded_is_said(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(SegmenterError, match="can't be loaded"):
        load_segmenter(str(tmp_path), device="cpu")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(SegmenterError, match="type 'bert'; known are sam, sam2"):
        load_segmenter(str(tmp_path), device="cpu")
    unsafe = tmp_path / "unsafe"
    unsafe.mkdir()
    for file in folders["sam"].iterdir():
        if file.suffix != ".safetensors":
            (unsafe / file.name).write_bytes(file.read_bytes())
    torch.save({}, unsafe / "pytorch_model.bin")
    with pytest.raises(SegmenterError, match="safetensors"):
        load_segmenter(str(unsafe), device="cpu")
    with pytest.raises(SegmenterError, match="dtype 'int8'"):
        load_segmenter(str(folders["sam"]), device="cpu", dtype="int8")
    segmenter = load_segmenter(str(folders["sam"]), device="cpu")
    with pytest.raises(SegmenterError, match="lies outside the picture"):
        segmenter.segment(segmenter.encode(IMAGE), [Prompt(Box(200, 0, 300, 40, IMAGE.space))])
