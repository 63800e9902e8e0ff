"""What a step of GRPO costs on this machine, and how much of it is ours and not the trainer's.

    python benchmarks/gpu_step.py [--size 7b] [--steps 3] [--completion 512] [--json]

A Qwen2.5-VL of the 7B shape with random weights, and a tokenizer made from this package's own text, so that nothing is
fetched. It is trained by `medground.train.reinforce.train_grpo` as recipes/umrg_7b_lora.toml has it: adapters, frozen
tower, gradient checkpointing, bfloat16, completions by transformers' own generation. ``--size tiny`` does the same
with a model for two CPU cores: its times say nothing, only that all of it runs.

A random model never ends its answer, so each completion has its full length; and its text is nonsense, which is
refused sooner than an answer is scored. So rewards are timed once more, on right answers of about that length, and the
dearer of the two counts. *Ours* is the wall time, on the process that trains, of: making rows into prompts, pictures
and truths (`Examples`), parsing and scoring (`RecipeReward`), and our callbacks (log, curves, watch over gradients,
with the GPU's queue emptied first). All else is TRL's, transformers' and torch's. The first step isn't counted.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image, ImageDraw
from rich.console import Console
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from trl.trainer.grpo_trainer import GRPOTrainer

import medground
from medground.adapters.trl import RecipeReward
from medground.data.schema import Picture, Row, write_rows
from medground.masks import box_of, key_points
from medground.rewards import Facts, gold, read_truth
from medground.train.config import TrainConfig
from medground.train.reinforce import train_grpo
from medground.train.rows import Examples
from medground.train.watch import Journal, TrainProgress, Watch

console = Console(width=120, highlight=False)
PACKAGES = ("medground", "torch", "transformers", "trl", "peft", "accelerate")

CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]
SPECIAL += ["<|video_pad|>"]

SHAPES: dict[str, dict[str, Any]] = {
    # Qwen2.5-VL-7B's published config.json.
    "7b": {
        "vocabulary": 152064,
        "text": {
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
        },
        "vision": {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "out_hidden_size": 3584},
        "run": {"side": 840, "completion": 512, "batch": 8, "accumulation": 4, "generations": 16, "rank": 64},
    },
    "tiny": {
        "vocabulary": 4096,
        "text": {
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
        },
        "vision": {
            "depth": 2,
            "num_heads": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "out_hidden_size": 64,
            "fullatt_block_indexes": [1],
        },
        "run": {"side": 168, "completion": 24, "batch": 4, "accumulation": 1, "generations": 4, "rank": 4},
    },
}


def make_tokenizer(size: int) -> Any:
    """Learn byte-pair merges from this package's own text, and fill up with words to `size` tokens, specials included.

    So prompts are cut about as finely as by a real tokenizer, and each token that a random model draws is some text.
    """
    home = Path(medground.__file__).parent
    text = [file.read_text(encoding="utf-8") for file in sorted(home.rglob("*")) if file.suffix in (".py", ".txt")]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    room = size - len(SPECIAL)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        text, trainers.BpeTrainer(vocab_size=min(12_000, room), initial_alphabet=alphabet, show_progress=False)
    )
    learned = json.loads(core.to_str())["model"]
    vocabulary = dict(learned["vocab"])
    for number in range(room - len(vocabulary)):
        vocabulary[f"Ġw{number}"] = len(vocabulary)
    merges = [tuple(pair) for pair in learned["merges"]]
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    named = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=core, **named)
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIAL[1:]})
    return tokenizer


def make_model(shape: dict[str, Any], folder: Path) -> tuple[Path, int]:
    """Save a random model and its processor, and return the folder and the number of weights."""
    tokenizer = make_tokenizer(shape["vocabulary"])
    ids = tokenizer.convert_tokens_to_ids
    text = shape["text"] | {
        "vocab_size": shape["vocabulary"],
        "max_position_embeddings": 32768,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": False,
    }
    config = transformers.Qwen2_5_VLConfig(
        text_config=text,
        vision_config=shape["vision"],
        image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
        tie_word_embeddings=False,
    )
    gpu = torch.cuda.is_available()
    with torch.device("cuda" if gpu else "cpu"):
        model = transformers.AutoModelForImageTextToText.from_config(
            config, dtype=torch.bfloat16 if gpu else torch.float32
        )
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    transformers.Qwen2_5_VLProcessor(
        transformers.Qwen2VLImageProcessor(patch_size=14, merge_size=2),
        tokenizer,
        transformers.Qwen2VLVideoProcessor(),
        chat_template=CHAT,
    ).save_pretrained(folder)
    return folder, sum(weight.numel() for weight in model.parameters())


def make_rows(folder: Path, count: int, side: int) -> Path:
    """Draw noise with a bright ellipse each; return the parquet file with a question about each."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(count):
        x, y, wide, high = rng.uniform([0.3, 0.3, 0.08, 0.08], [0.7, 0.7, 0.2, 0.2]) * side
        drawn = Image.new("1", (side, side))
        ImageDraw.Draw(drawn).ellipse((x - wide, y - high, x + wide, y + high), fill=1)
        mask = np.asarray(drawn)
        pixels = (rng.integers(0, 90, (side, side)) + 120 * mask).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        row = Row(
            id=str(number),
            question=f"Which growth would be taken out first in case {number}, and how far does it reach?",
            image=Picture(path=f"{number}.png"),
            mask=Picture.of_mask(mask),
            box=box_of(mask).xyxy,
            points=tuple(point.xy for point in key_points(mask)),
            image_size=(side, side),
            reasoning="A bright, round growth is seen, and nothing else of its kind.",
            category="colon polyp",
            modality="endoscopy",
            source="drawn",
            split="train",
            facts=Facts.measure(mask, pixels).to_dict(),
        )
        rows.append(row)
    write_rows(rows, folder / "train.parquet")
    return folder / "train.parquet"


class Clock:
    """Adds up wall seconds by name, around functions of classes that are put back afterwards."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.tokens = 0
        self._put_back: list[tuple[type, str, Any]] = []

    def wrap(self, kind: type, method: str, name: str, *, wait: bool = False, told: Callable | None = None) -> None:
        """Time a method; with `wait` the GPU's queue is emptied before and after."""
        original = getattr(kind, method)

        @functools.wraps(original)
        def timed(*args: Any, **options: Any) -> Any:
            if wait:
                synchronize()
            start = time.perf_counter()
            found = original(*args, **options)
            if wait:
                synchronize()
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
            if told is not None:
                told(found)
            return found

        self._put_back.append((kind, method, original))
        setattr(kind, method, timed)

    def forget(self) -> None:
        """Begin again from zero."""
        self.seconds, self.tokens = {}, 0

    def __enter__(self) -> Clock:
        def count(generated: tuple[list[list[int]], Any]) -> None:
            self.tokens += sum(len(ids) for ids in generated[0])

        self.wrap(Examples, "__call__", "rows")
        self.wrap(RecipeReward, "__call__", "rewards")
        for kind in (Journal, Watch):
            for method in ("on_step_end", "on_pre_optimizer_step", "on_log", "on_save"):
                if method in vars(kind):
                    self.wrap(kind, method, "callbacks", wait=True)
        self.wrap(GRPOTrainer, "_generate_single_turn", "generation", wait=True, told=count)
        return self

    def __exit__(self, *_: object) -> None:
        for kind, method, original in reversed(self._put_back):
            setattr(kind, method, original)


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measure(size: str, chosen: dict[str, int], steps: int, folder: Path) -> dict[str, Any]:
    """Train for one step more than `steps`, and return what the counted ones took."""
    shape = SHAPES[size]
    run = shape["run"] | chosen
    model, weights = make_model(shape, folder / "model")
    completions = run["batch"] * run["accumulation"]
    rows = make_rows(folder, max(2, completions // run["generations"]) * (steps + 1), run["side"])
    config = TrainConfig.model_validate(
        {
            "name": f"gpu-step-{size}",
            "kind": "grpo",
            "model": str(model),
            "out": str(folder / "run"),
            "data": {"train": str(rows)},
            "lora": {"rank": run["rank"], "alpha": 2 * run["rank"], "dropout": 0.0, "merge": False},
            "freeze_vision": True,
            "gradient_checkpointing": True,
            "bf16": torch.cuda.is_available(),
            "max_pixels": 1003520,
            "steps": steps + 1,
            "batch": run["batch"],
            "accumulation": run["accumulation"],
            "rate": 1e-5,
            "schedule": "constant",
            "warmup": 0,
            "log_every": 1,
            "save_every": 10_000,
            "grpo": {"generations": run["generations"], "max_completion": run["completion"], "beta": 0.01},
        }
    )
    ends: list[float] = []
    ours: list[dict[str, float]] = []
    tokens: list[int] = []
    clock = Clock()

    def told(now: TrainProgress) -> None:
        if now.step == len(ends) + 1:
            synchronize()
            ends.append(time.perf_counter())
            ours.append(clock.seconds)
            tokens.append(clock.tokens)
            clock.forget()

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    with clock:
        train_grpo(config, progress=told)
    found: dict[str, Any] = {
        "weights": weights,
        **run,
        "steps": steps,
        "completions_a_step": completions,
        "step_seconds": [later - earlier for earlier, later in itertools.pairwise(ends)],
        "generation_seconds": [each["generation"] for each in ours[1:]],
        "tokens_a_step": tokens[1:],
        "rows_seconds": [each.get("rows", 0.0) for each in ours[1:]],
        "rewards_seconds": [each["rewards"] for each in ours[1:]],
        "callbacks_seconds": [each["callbacks"] for each in ours[1:]],
        "right_answers_seconds": right_answers(config, completions, run["completion"]),
    }
    mean = {name: median(found[f"{name}_seconds"]) for name in ("step", "generation", "rows", "rewards", "callbacks")}
    dearer = max(mean["rewards"], found["right_answers_seconds"])
    found["tokens_a_second"] = median(found["tokens_a_step"]) / mean["generation"]
    found["share_of_generation"] = mean["generation"] / mean["step"]
    found["ours_seconds"] = mean["rows"] + dearer + mean["callbacks"]
    found["share_of_ours"] = found["ours_seconds"] / mean["step"]
    if torch.cuda.is_available():
        found["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
        found["reserved_gib"] = torch.cuda.max_memory_reserved() / 2**30
    else:
        found["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return found


def right_answers(config: TrainConfig, count: int, tokens: int) -> float:
    """Return the seconds in which the reward scores a step's completions where all are right, and long."""
    from medground.train.rows import open_rows
    from medground.train.start import read_asker

    asker, _ = read_asker(config, weights=False)
    rows = open_rows(config)
    truth = Examples(rows, config, asker).example(0)["ground_truth"]
    reasoning = rows[0].reasoning + " It is bright and round, in the centre." * (tokens // 8)
    said = [[{"role": "assistant", "content": gold(read_truth(json.loads(truth)), reasoning)}]] * count
    reward = RecipeReward(config.grpo.recipe)
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        reward(said, ground_truth=[truth] * count)
        taken.append(time.perf_counter() - start)
    return median(taken)


def machine() -> dict[str, Any]:
    return {
        "processor": f"{platform.machine()}, {os.cpu_count()} cores",
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
    }


def markdown(found: dict[str, Any]) -> str:
    lines = [
        f"{found['size']}: {found['weights']:,} weights, LoRA of rank {found['rank']}; a step is "
        f"{found['completions_a_step']} completions of at most {found['completion']} tokens, {found['generations']} of "
        f"each question, about pictures of {found['side']} x {found['side']}; batches of {found['batch']}",
        "",
        "| figure | median of the counted steps |",
        "| --- | --- |",
        f"| seconds a step | {median(found['step_seconds']):.3g} |",
        f"| of them generating | {found['share_of_generation']:.0%} |",
        f"| generated tokens a second | {found['tokens_a_second']:.4g} |",
        f"| peak memory, GiB | {found['peak_gib']:.3g} |",
        f"| rows into prompts, ms a step | {1e3 * median(found['rows_seconds']):.3g} |",
        f"| rewards, ms a step | {1e3 * median(found['rewards_seconds']):.3g} |",
        f"| rewards of right answers, ms a step | {1e3 * found['right_answers_seconds']:.3g} |",
        f"| callbacks, ms a step | {1e3 * median(found['callbacks_seconds']):.3g} |",
        f"| share of the step that is ours | {found['share_of_ours']:.2%} |",
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=tuple(SHAPES), default="7b")
    parser.add_argument("--steps", type=int, default=3, help="counted ones, after one that isn't")
    for name in ("side", "completion", "batch", "accumulation", "generations", "rank"):
        parser.add_argument(f"--{name}", type=int, help="; ".join(f"{s}: {SHAPES[s]['run'][name]}" for s in SHAPES))
    parser.add_argument("--folder", type=Path, help="for the model (17 GB for 7b) and the run; a temporary one")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.parse_args(arguments)
    if options.steps < 1:
        parser.error("--steps must be at least 1")
    if options.size == "7b" and not torch.cuda.is_available():
        sys.exit("no CUDA GPU is there; --size tiny runs on the CPU")
    names = ("side", "completion", "batch", "accumulation", "generations", "rank")
    chosen = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        found = {"size": options.size, **measure(options.size, chosen, options.steps, Path(folder))}
    found["machine"] = machine()
    if options.json:
        console.print_json(json.dumps(found))
    else:
        console.print(markdown(found), markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
