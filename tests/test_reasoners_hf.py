"""Tiny random models of the real architectures, saved as folders and loaded as a user would."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("peft")
pytest.importorskip("timm")

from tokenizers import Tokenizer, decoders, pre_tokenizers  # noqa: E402
from tokenizers.models import BPE  # noqa: E402

from medground.coords import Space  # noqa: E402
from medground.errors import ConfigError, MissingExtraError, ReasonerError  # noqa: E402
from medground.images import MedicalImage  # noqa: E402
from medground.reasoners import Request, load_reasoner  # noqa: E402
from medground.reasoners._request import fit  # noqa: E402
from medground.reasoners.hf import HFReasoner  # noqa: E402

QWEN_TOKENS = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
INTERN_TOKENS = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}
TAGS = ["<think>", "</think>", "<answer>", "</answer>"]
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
FAMILIES = ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "internvl", "fast_vlm"]
QUESTIONS = ["What limits gas exchange here?", "Where?", "Which part would a surgeon look at first, and why so?"]


def make_tokenizer(extra: list[str], named: dict[str, str] | None = None) -> Any:
    """A byte-level tokenizer: one token a byte, and the architecture's special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(BPE(vocab={sign: index for index, sign in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>", extra_special_tokens=named or {}
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", *extra, *TAGS]})
    return tokenizer


def make_folder(family: str, folder: Path, seed: int = 0) -> Path:
    """Save a tiny random model of `family` and its processor in `folder`."""
    image, named = "<image>", None
    extra = ["<image>"]
    if family.startswith("qwen"):
        image, extra = "<|vision_start|><|image_pad|><|vision_end|>", QWEN_TOKENS
    elif family == "internvl":
        image, extra, named = "<IMG_CONTEXT>", list(INTERN_TOKENS.values()), INTERN_TOKENS
    tokenizer = make_tokenizer(extra, named)
    chat = CHAT.replace("IMAGE", image)
    ids = tokenizer.convert_tokens_to_ids
    text = TEXT | {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 8192,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": False,
    }
    processor: Any
    if family.startswith("qwen"):
        patch = 16 if family == "qwen3_vl" else 14
        rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
        vision: dict[str, Any] = {"depth": 2, "num_heads": 2, "patch_size": patch, "spatial_merge_size": 2}
        if family == "qwen2_vl":
            vision |= {"embed_dim": 32, "hidden_size": 32, "mlp_ratio": 1}
        else:
            vision |= {"hidden_size": 32, "intermediate_size": 32, "out_hidden_size": 32}
        if family == "qwen2_5_vl":
            vision |= {"window_size": 56, "fullatt_block_indexes": [1]}
        if family == "qwen3_vl":
            vision |= {"deepstack_visual_indexes": [0], "num_position_embeddings": 64}
            text |= {"head_dim": 8}
        config_class, model_class, processor_class, videos = {
            "qwen2_vl": ("Qwen2VLConfig", "Qwen2VLForConditionalGeneration", "Qwen2VLProcessor", "Qwen2VL"),
            "qwen2_5_vl": ("Qwen2_5_VLConfig", "Qwen2_5_VLForConditionalGeneration", "Qwen2_5_VLProcessor", "Qwen2VL"),
            "qwen3_vl": ("Qwen3VLConfig", "Qwen3VLForConditionalGeneration", "Qwen3VLProcessor", "Qwen3VL"),
        }[family]
        config = getattr(transformers, config_class)(
            text_config=text | {"rope_parameters": rope},
            vision_config=vision,
            image_token_id=ids("<|image_pad|>"),
            video_token_id=ids("<|video_pad|>"),
            vision_start_token_id=ids("<|vision_start|>"),
            vision_end_token_id=ids("<|vision_end|>"),
        )
        processor = getattr(transformers, processor_class)(
            transformers.Qwen2VLImageProcessor(patch_size=patch, merge_size=2),
            tokenizer,
            getattr(transformers, f"{videos}VideoProcessor")(),
            chat_template=chat,
        )
    elif family == "internvl":
        vision = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
        config = transformers.InternVLConfig(
            text_config=text | {"model_type": "qwen2"},
            vision_config=vision | {"image_size": [56, 56], "patch_size": [14, 14]},
            image_token_id=ids("<IMG_CONTEXT>"),
            image_seq_length=4,
            tie_word_embeddings=False,
        )
        images = transformers.GotOcr2ImageProcessor(
            size={"height": 56, "width": 56}, crop_to_patches=True, min_patches=1, max_patches=4
        )
        model_class = "InternVLForConditionalGeneration"
        processor = transformers.InternVLProcessor(
            images, tokenizer, transformers.InternVLVideoProcessor(), image_seq_length=4, chat_template=chat
        )
    else:
        small = {"embed_dims": [16, 16, 32, 32], "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2]}
        tower = {"architecture": "tiny_vit_5m_224", "do_pooling": False, "hidden_size": 32, "model_args": small}
        config = transformers.FastVlmConfig(
            text_config=text | {"model_type": "qwen2", "max_position_embeddings": 1024},
            vision_config=tower | {"model_type": "timm_wrapper"},
            image_token_index=ids("<image>"),
            image_seq_length=4,
        )
        images = transformers.CLIPImageProcessor(size={"height": 64, "width": 64}, do_center_crop=False)
        model_class = "FastVlmForConditionalGeneration"
        processor = transformers.LlavaProcessor(
            images, tokenizer, patch_size=32, vision_feature_select_strategy="full", chat_template=chat
        )
    torch.manual_seed(seed)
    model = getattr(transformers, model_class)(config).eval()
    with torch.no_grad():  # wide enough that no two logits tie, that the image matters and that the end isn't near
        for name, weights in model.named_parameters():
            if weights.ndim > 1:
                scale = 0.1 if "embed_tokens" in name else 3.0
                weights.copy_(torch.randn(weights.shape) * (scale / weights[0].numel() ** 0.5))
        model.get_output_embeddings().weight[tokenizer.eos_token_id] = 0.0
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def get(family: str) -> Path:
        if family not in made:
            made[family] = make_folder(family, tmp_path_factory.mktemp(family) / f"tiny-{family}")
        return made[family]

    return get


@pytest.fixture
def fresh(folders: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a family's folder that a test may spoil."""

    def get(family: str) -> Path:
        return Path(shutil.copytree(folders(family), tmp_path / f"tiny-{family}"))

    return get


def picture(width: int, height: int, seed: int = 0) -> MedicalImage:
    rng = np.random.default_rng(seed)
    return MedicalImage.from_array(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def requests() -> list[Request]:
    sizes = [(90, 61), (64, 64), (61, 130)]
    return [
        Request(picture(*size, seed=index), question, "direct")
        for index, (size, question) in enumerate(zip(sizes, QUESTIONS, strict=True))
    ]


def load(folder: Path | str, **options: Any) -> HFReasoner:
    reasoner = load_reasoner(str(folder), device="cpu", **options)
    assert isinstance(reasoner, HFReasoner)
    return reasoner


@pytest.mark.parametrize("family", FAMILIES)
def test_batches_streams_and_single_requests_agree(family: str, folders: Callable[[str], Path]) -> None:
    reasoner = load(folders(family), batch_size=2)
    asked = requests()
    together = reasoner.complete(asked, max_new_tokens=10)
    alone = [reasoner.complete([one], max_new_tokens=10)[0] for one in asked]
    assert together == alone
    assert [one.error for one in together] == [None] * 3
    assert len({one.text for one in together}) == 3
    assert [one.space for one in together] == [reasoner.space_for(one.image) for one in asked]
    assert "".join(reasoner.stream(asked[2], max_new_tokens=10)) == together[2].text
    assert reasoner.name == f"tiny-{family}"
    assert reasoner.complete([]) == []


@pytest.mark.parametrize("family", FAMILIES)
def test_the_image_and_the_question_reach_the_model(family: str, folders: Callable[[str], Path]) -> None:
    reasoner = load(folders(family))
    base = Request(picture(70, 60), "Where?", "direct")
    dark = MedicalImage.from_array(np.full((60, 70, 3), 9, dtype=np.uint8))
    asked = [base, dataclasses.replace(base, image=dark), dataclasses.replace(base, question="Whence?")]
    asked.append(dataclasses.replace(base, mode="reason"))
    logits = []
    for one in asked:
        inputs, _ = reasoner._inputs([reasoner.asker.prepare(one)])
        with torch.inference_mode():
            logits.append(reasoner.model(**inputs).logits[0, -1])
    for other in logits[1:]:
        assert (logits[0] - other).abs().max() > 1e-5


@pytest.mark.parametrize("size", [(640, 480), (481, 333), (30, 200), (1500, 900)])
def test_qwen25_answers_in_pixels_of_the_image_that_its_processor_made(
    size: tuple[int, int], folders: Callable[[str], Path]
) -> None:
    reasoner = load(folders("qwen2_5_vl"), max_pixels=200_000)
    image = picture(*size)
    space = reasoner.space_for(image)
    # The processor itself, on the very pixels, is the judge.
    made = reasoner.processor.image_processor(images=[image.rgb.copy()], return_tensors="pt")
    frames, down, across = made["image_grid_thw"][0].tolist()
    assert space == Space.resized(across * 14, down * 14)
    assert made["pixel_values"].shape[0] == frames * down * across
    assert space.width * space.height <= 200_000
    assert reasoner.complete([Request(image, "Where?")], max_new_tokens=1)[0].space == space


def test_other_families_answer_in_thousandths(folders: Callable[[str], Path]) -> None:
    for family in ("qwen2_vl", "qwen3_vl", "internvl", "fast_vlm"):
        assert load(folders(family)).space_for(picture(90, 61)) == Space.norm1000()


def test_the_pixel_budget_bounds_what_the_model_is_shown(folders: Callable[[str], Path]) -> None:
    asked = Request(picture(600, 500), "Where?", "direct")
    for family in ("qwen2_vl", "qwen3_vl"):
        reasoner = load(folders(family), max_pixels=64 * 64)
        inputs, _ = reasoner._inputs([reasoner.asker.prepare(asked)])
        assert inputs["image_grid_thw"].prod() * reasoner.asker.patch**2 <= 64 * 64
    reasoner = load(folders("internvl"), max_pixels=64 * 64)
    shown = reasoner.asker.prepare(asked).picture
    assert 0.9 * 64 * 64 < shown.width * shown.height <= 64 * 64


def test_coordinates_in_pixels_are_those_of_the_shown_image(folders: Callable[[str], Path]) -> None:
    reasoner = load(folders("fast_vlm"), coordinates="pixels", max_pixels=5000)
    assert reasoner.space_for(picture(200, 100)) == Space.resized(100, 50)
    assert load(folders("fast_vlm"), coordinates="resized pixels").space_for(picture(200, 100)) == Space.resized(64, 64)
    assert load(folders("fast_vlm"), coordinates="0-1 yx").space_for(picture(9, 9)) == Space("0-1", 1, 1, "yx")


@pytest.mark.parametrize(
    ("width", "height", "budget"), [(1, 1, 1), (10**6, 1, 100), (1, 10**6, 100), (3000, 2000, 10**6), (7, 7, 50)]
)
def test_fit_keeps_the_budget(width: int, height: int, budget: int) -> None:
    across, down = fit(width, height, budget)
    assert 1 <= across <= width
    assert 1 <= down <= height
    assert across * down <= budget


def test_the_folder_may_say_what_it_is(fresh: Callable[[str], Path]) -> None:
    folder = fresh("qwen2_vl")
    card = {"name": "nano-v0", "coordinates": "0-1", "template": "nano-v1"}
    (folder / "medground.json").write_text(json.dumps(card))
    reasoner = load(folder)
    assert reasoner.name == "nano-v0"
    assert reasoner.space_for(picture(9, 5)) == Space.unit()
    messages = reasoner.asker.prepare(Request(picture(30, 30), "Where?", "reason")).messages
    assert [message["role"] for message in messages] == ["user"]
    assert messages[0]["content"][1]["text"] == "Where?"
    # Arguments go before the folder.
    asked = load(folder, template="umrg-v1", coordinates="0-1000")
    assert asked.space_for(picture(9, 5)) == Space.norm1000()
    assert [message["role"] for message in asked.asker.prepare(requests()[0]).messages] == ["system", "user"]
    assert asked.describe()["template"] == "umrg-v1"

    (folder / "medground.json").write_text(json.dumps(card | {"coordinate": "0-1"}))
    with pytest.raises(ConfigError, match=r"medground\.json of .*: coordinate: "):
        load(folder)
    (folder / "medground.json").write_text("{")
    with pytest.raises(ConfigError, match="isn't JSON"):
        load(folder)


def test_a_lora_adapter_changes_the_answers(folders: Callable[[str], Path], tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    base = load(folders("fast_vlm"))
    plain = base.complete(requests(), max_new_tokens=10)
    torch.manual_seed(1)
    tuned = get_peft_model(base.model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    expected = [one.text for one in base.complete(requests(), max_new_tokens=10)]
    tuned.save_pretrained(tmp_path / "mine")

    adapted = load(folders("fast_vlm"), adapter=str(tmp_path / "mine"))
    answers = adapted.complete(requests(), max_new_tokens=10)
    assert [one.text for one in answers] == expected
    assert expected != [one.text for one in plain]
    assert adapted.name == "tiny-fast_vlm+mine"

    with pytest.raises(ReasonerError, match=r"adapter folder .* holds no adapter_config\.json"):
        load(folders("fast_vlm"), adapter=str(tmp_path / "nowhere"))
    # Weights that fit no layer would do nothing, so they are refused.
    from safetensors.torch import load_file, save_file

    weights = tmp_path / "mine" / "adapter_model.safetensors"
    save_file({f"other.{name}": value for name, value in load_file(weights).items()}, weights)
    with pytest.raises(ReasonerError, match="the adapter mine doesn't fit this model"):
        load(folders("fast_vlm"), adapter=str(tmp_path / "mine"))


def test_special_tokens_of_the_answer_survive_and_control_tokens_vanish(folders: Callable[[str], Path]) -> None:
    reasoner = load(folders("qwen2_5_vl"))
    tokenizer = reasoner.processor.tokenizer
    text = '<think>dark</think><answer>{"bbox": [1, 2, 3, 4]}</answer>'
    assert set(TAGS) <= set(tokenizer.all_special_tokens)
    ids = tokenizer("<|vision_start|><|image_pad|><|vision_end|>" + text + "<|im_end|><|endoftext|>")["input_ids"]
    assert reasoner.decode(ids) == text


def test_decoding_stops_at_the_end_token(fresh: Callable[[str], Path]) -> None:
    folder = fresh("fast_vlm")
    asked = requests()[:1]
    reasoner = load(folder)
    inputs, _ = reasoner._inputs([reasoner.asker.prepare(asked[0])])
    row = reasoner.model.generate(**inputs, generation_config=reasoner._plan(0.0, 8))[0, -8:].tolist()
    cut = next(index for index in range(1, 8) if row[index] not in row[:index])
    settings = json.loads((folder / "generation_config.json").read_text())
    settings |= {"eos_token_id": row[cut], "do_sample": True, "temperature": 9.0, "repetition_penalty": 3.0}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    # The folder's own sampling settings play no part; its end token does, next to the tokenizer's.
    stopping = load(folder)
    assert stopping.complete(asked, max_new_tokens=8)[0].text == reasoner.decode(row[:cut])
    assert "".join(stopping.stream(asked[0], max_new_tokens=8)) == reasoner.decode(row[:cut])


def test_sampling_repeats_with_a_seed_and_leaves_the_random_state(folders: Callable[[str], Path]) -> None:
    reasoner = load(folders("fast_vlm"))
    asked = requests()[:1]
    before = torch.get_rng_state()
    first, again, other = (
        reasoner.complete(asked, temperature=1.5, max_new_tokens=12, seed=seed)[0].text for seed in (1, 1, 2)
    )
    assert torch.equal(before, torch.get_rng_state())
    assert first == again != other
    unseeded = {reasoner.complete(asked, temperature=1.5, max_new_tokens=12)[0].text for _ in range(2)}
    assert len(unseeded) == 2
    with pytest.raises(ConfigError, match="temperature must be"):
        reasoner.complete(asked, temperature=-1)
    with pytest.raises(ConfigError, match="max_new_tokens must be"):
        list(reasoner.stream(asked[0], max_new_tokens=0))


def test_completions_end_where_the_positions_end(folders: Callable[[str], Path]) -> None:
    reasoner = load(folders("fast_vlm"), template="nano-v1")
    asked = Request(picture(64, 64), "x" * 960, "reason")
    inputs, _ = reasoner._inputs([reasoner.asker.prepare(asked)])
    room = 1024 - inputs["input_ids"].shape[1]
    assert 0 < room < 60
    reasoner._ends = [reasoner._pad]  # a random model ends when it likes; here only the positions should end it
    plan_lengths = []
    real = reasoner._plan
    reasoner._plan = lambda temperature, length: plan_lengths.append(length) or real(temperature, length)  # type: ignore[method-assign, func-returns-value]
    assert reasoner.complete([asked])[0].error is None
    assert plan_lengths == [room]


def test_one_bad_request_leaves_the_others_alone(folders: Callable[[str], Path]) -> None:
    reasoner = load(folders("fast_vlm"), template="nano-v1")
    good = [Request(picture(64, 64), question) for question in QUESTIONS[:2]]
    expected = reasoner.complete(good, max_new_tokens=6)
    bad = [Request(picture(64, 64), "why " * 300), Request(picture(64, 64), " ")]
    answers = reasoner.complete([good[0], *bad, good[1]], max_new_tokens=6)
    assert [answers[0], answers[3]] == expected
    assert "tokens" in (answers[1].error or "")
    assert "why" not in (answers[1].error or "")
    assert "question is empty" in (answers[2].error or "")
    assert answers[1].text == answers[2].text == ""
    with pytest.raises(ReasonerError, match="tokens"):
        list(reasoner.stream(bad[0]))
    with pytest.raises(ConfigError, match="question is empty"):
        list(reasoner.stream(bad[1]))

    strip = load(folders("qwen2_5_vl")).complete([Request(picture(400, 1), "Where?"), requests()[0]], max_new_tokens=2)
    assert "crop it" in (strip[0].error or "")
    assert strip[1].error is None


def test_a_request_too_large_for_memory_is_tried_alone_and_says_so(
    folders: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    reasoner = load(folders("fast_vlm"))
    asked = requests()
    expected = reasoner.complete(asked, max_new_tokens=4)
    real = reasoner.model.generate

    def starved(**inputs: Any) -> Any:
        if len(inputs["input_ids"]) > 1 or inputs["input_ids"].shape[1] > 1000:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(**inputs)

    monkeypatch.setattr(reasoner.model, "generate", starved)
    assert reasoner.complete(asked, max_new_tokens=4) == expected
    monkeypatch.setattr(reasoner.model, "generate", lambda **_: starved(input_ids=torch.zeros(2, 2)))
    failed = reasoner.complete(asked, max_new_tokens=4)
    assert {one.error for one in failed} == {
        "the model ran out of memory on this request: lower max_pixels or batch_size, or use a smaller model"
    }
    with pytest.raises(ReasonerError, match="ran out of memory"):
        list(reasoner.stream(asked[0]))


def test_a_failure_while_streaming_reaches_the_caller(folders: Callable[[str], Path]) -> None:
    reasoner = load(folders("fast_vlm"))
    calls = []

    def breaks(*_: Any) -> None:
        calls.append(1)
        if len(calls) > 3:
            raise RuntimeError("broken")

    reasoner.model.register_forward_pre_hook(breaks)
    with pytest.raises(RuntimeError, match="broken"):
        list(reasoner.stream(requests()[0], max_new_tokens=10))


def test_closing_a_stream_stops_the_model(folders: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    reasoner = load(folders("fast_vlm"), template="nano-v1")
    calls: list[int] = []
    reasoner.model.register_forward_pre_hook(lambda *_: calls.append(1))
    monkeypatch.setattr(reasoner, "_ends", [reasoner._pad])
    stream = reasoner.stream(requests()[0], max_new_tokens=900)
    next(stream)
    stream.close()
    assert 0 < len(calls) < 900
    stopped = len(calls)
    assert reasoner.complete(requests()[:1], max_new_tokens=1)[0].error is None  # the turn was given back
    assert len(calls) == stopped + 1


def test_folders_that_make_no_model_say_what_is_missing(fresh: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(ReasonerError, match="there is no model folder"):
        load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReasonerError, match=r"holds no config\.json"):
        load(tmp_path / "empty")

    folder = fresh("fast_vlm")
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ReasonerError, match="don't make a model and a processor"):
        load(folder)

    from safetensors.torch import load as parse
    from safetensors.torch import save_file

    tensors = parse(whole)
    tensors.pop(next(name for name in tensors if "q_proj.weight" in name))
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(ReasonerError, match=r"incomplete \(.*q_proj"):
        load(folder)
    weights.unlink()
    with pytest.raises(ReasonerError, match="holds no safetensors weights"):
        load(folder)
    weights.write_bytes(whole)

    settings = json.loads((folder / "processor_config.json").read_text())
    settings["image_processor"] |= {"do_center_crop": True, "size": {"shortest_edge": 64}}
    settings["image_processor"] |= {"crop_size": {"height": 64, "width": 64}}
    (folder / "processor_config.json").write_text(json.dumps(settings))
    with pytest.raises(ReasonerError, match="cuts the borders"):
        load(folder)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ReasonerError, match="no chat template"):
        load(folder)


def test_code_in_a_folder_is_never_run(fresh: Callable[[str], Path]) -> None:
    folder = fresh("fast_vlm")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "homemade", "auto_map": {"AutoConfig": "evil.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text("raise SystemExit('code of the folder was run')")
    with pytest.raises(ReasonerError, match="never runs"):
        load(folder, coordinates="0-1")


def test_a_family_without_known_coordinates_must_be_told(fresh: Callable[[str], Path]) -> None:
    folder = fresh("fast_vlm")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "llava"}))
    with pytest.raises(ConfigError, match="in which coordinates"):
        load(folder)


def test_settings_are_checked_before_weights_are_loaded(folders: Callable[[str], Path]) -> None:
    folder = folders("fast_vlm")
    for options, message in [
        ({"template": "umrg-v9"}, "umrg-v9"),
        ({"coordinates": "inches"}, "inches"),
        ({"dtype": "int4"}, "int4"),
        ({"batch_size": 0}, "batch_size"),
        ({"max_pixels": -1}, "max_pixels"),
    ]:
        with pytest.raises(ConfigError, match=message):
            load(folder, **options)
    with pytest.raises(ReasonerError, match="no device 'abacus'"):
        load_reasoner(str(folder), device="abacus")


def test_half_precision_is_a_choice(folders: Callable[[str], Path]) -> None:
    reasoner = load(folders("fast_vlm"), dtype="bfloat16")
    assert {weights.dtype for weights in reasoner.model.parameters()} == {torch.bfloat16}
    assert reasoner.complete(requests(), max_new_tokens=3)[0].error is None
    assert reasoner.describe()["dtype"] == "bfloat16"


def test_an_unreachable_hub_id_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ReasonerError, match="neither a local folder nor a model"):
        load("nobody/no-such-model")


def test_nano_without_weights_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import medground.reasoners

    monkeypatch.setattr(medground.reasoners, "NANO", tmp_path)
    with pytest.raises(ReasonerError, match="embedded model's weights are missing"):
        load_reasoner("nano")


def test_a_missing_package_names_its_extra(folders: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    folder = folders("fast_vlm")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"torch.*pip install 'medground\[local\]'"):
        load(folder)
