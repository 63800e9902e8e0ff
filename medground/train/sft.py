"""The supervised start of nano: question in, trace and location out.

Run it as ``python -m medground.train.sft --config recipes/nano_v0.toml --masks MASKS --out runs/nano_v0``; after a
crash, the same line with ``--resume`` goes on from the last checkpoint with the very rows that would have followed.

Two things differ from plain next-token training. The picture is encoded once for all the questions asked about it.
And the target of a coordinate is not one number but a narrow hump over its neighbours, so that being 3 thousandths off
costs less than being 300 off.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.trainer_utils import get_last_checkpoint

from medground._io import make_folder, write_json
from medground.data.build import build_samples
from medground.data.open_masks import read_open_masks
from medground.errors import ConfigError, MedgroundError, ParseError
from medground.images import load_image
from medground.parsing import parse
from medground.reasoners import Request
from medground.reasoners._load import load_model
from medground.reasoners.hf import HFReasoner
from medground.train.nano import build_model, build_processor, write_identity
from medground.train.numbers import NumberLoss, number_targets
from medground.train.samples import TrainingPictures, corpus
from medground.types import Sample

__all__ = ["Settings", "main", "number_targets"]

MOST_TOKENS = 256
"""Where checks cut an answer off; the longest that nano is taught takes about half of it."""

MAY_CHANGE = {"name", "epochs", "save_every", "check_every", "check_samples", "decay"}
"""Settings that a resumed run may change: those of them that shape the run matter only from there on."""


class Settings(BaseModel):
    """Everything that shapes a run; unknown keys are refused.

    Parameters
    ----------
    name : str
        Written into the model's folder.
    leave_out : tuple of str
        Collections that aren't trained on.
    emphasis, wide
        See `samples.TrainingPictures`.
    seed, batch_size : int
        `batch_size` counts pictures.
    epochs : float
        How often each picture is seen.
    image_size, hidden_size, layers, vocabulary : int
        See `nano.build_model`.
    tower_rate, rate, weight_decay : float
        Peak learning rates of the tower and of the rest, and weight decay.
    warmup : int
        Steps until the rates have risen to their peaks.
    decay : float
        The last share of all steps, in which the rates fall to zero.
    spread : float
        Width of the hump over neighbouring numbers, in thousandths of the picture.
    text_weight : float
        Weight of the words' loss against the coordinates'.
    most_targets, direct_share, named_share
        See `samples.TrainingPictures`.
    save_every, check_every, check_samples : int
        Steps between checkpoints and between checks of box IoU on validation samples; how many samples a check takes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = "nano-v0"
    leave_out: tuple[str, ...] = ()
    emphasis: dict[str, int] = {}
    wide: tuple[str, ...] = ()
    seed: int = 0
    epochs: float = Field(default=10, gt=0)
    batch_size: int = Field(default=16, gt=0)
    image_size: int = Field(default=256, multiple_of=128)
    hidden_size: int = Field(default=256, multiple_of=64)
    layers: int = Field(default=6, gt=0)
    vocabulary: int = Field(default=4096, ge=2048)
    tower_rate: float = Field(default=3e-4, gt=0)
    rate: float = Field(default=6e-4, gt=0)
    weight_decay: float = Field(default=0.02, ge=0)
    warmup: int = Field(default=80, ge=0)
    decay: float = Field(default=0.4, ge=0, le=1)
    spread: float = Field(default=10.0, gt=0)
    text_weight: float = Field(default=0.5, ge=0)
    most_targets: int = Field(default=3, gt=0)
    direct_share: float = Field(default=0.25, ge=0, le=1)
    named_share: float = Field(default=0.1, ge=0, le=1)
    save_every: int = Field(default=200, gt=0)
    check_every: int = Field(default=400, gt=0)
    check_samples: int = Field(default=96, gt=0)


def read_settings(path: Path, overrides: Sequence[str] = ()) -> Settings:
    """Read a recipe's TOML and ``key=value`` overrides; raises ConfigError naming the key."""
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or not TOML
        raise ConfigError(f"{path}: can't be read as TOML ({error})") from error
    for override in overrides:
        key, sign, value = override.partition("=")
        if not sign:
            raise ConfigError(f"--set {override}: write key=value")
        values[key] = value
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


class Collator:
    """Turn training rows into tensors: pictures, and the sequences asked about each."""

    def __init__(self, processor: Any) -> None:
        self.tokenizer = processor.tokenizer
        size = processor.image_processor.size
        self.image_tokens = (size["height"] // processor.patch_size) * (size["width"] // processor.patch_size)
        self.mean = np.asarray(processor.image_processor.image_mean, np.float32) * 255
        self.std = np.asarray(processor.image_processor.image_std, np.float32) * 255

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Return pixel_values (B, 3, S, S), and input_ids, attention_mask, labels (N, T) with owner (N,)."""
        pixels = np.stack([(row["pixels"] - self.mean) / self.std for row in rows]).transpose(0, 3, 1, 2)
        image = self.tokenizer.convert_tokens_to_ids("<image>")
        start = self.tokenizer.convert_tokens_to_ids("<|answer|>")
        sequences, labels, owner = [], [], []
        for index, row in enumerate(rows):
            for question, completion in row["turns"]:
                asked = (
                    [image] * self.image_tokens + self.tokenizer.encode(question, add_special_tokens=False) + [start]
                )
                told = [*self.tokenizer.encode(completion, add_special_tokens=False), self.tokenizer.eos_token_id]
                sequences.append(asked + told)
                labels.append([-100] * len(asked) + told)
                owner.append(index)
        if not sequences:  # no target of these pictures stayed in sight: a step that learns nothing, not a crash
            sequences, labels, owner = [[image] * self.image_tokens + [start]], [[-100] * (self.image_tokens + 1)], [0]
        length = max(len(sequence) for sequence in sequences)
        pad = self.tokenizer.pad_token_id
        return {
            "pixel_values": torch.from_numpy(np.ascontiguousarray(pixels)).to(memory_format=torch.channels_last),
            "input_ids": torch.tensor([ids + [pad] * (length - len(ids)) for ids in sequences]),
            "attention_mask": torch.tensor([[1] * len(ids) + [0] * (length - len(ids)) for ids in sequences]),
            "labels": torch.tensor([ids + [-100] * (length - len(ids)) for ids in labels]),
            "owner": torch.tensor(owner),
        }


class NanoTrainer(Trainer):  # type: ignore[misc]
    """The Hugging Face trainer with nano's loss, two learning rates, and rows in their given order."""

    def __init__(self, *args: Any, settings: Settings, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.settings = settings
        self.optimizer: torch.optim.Optimizer | None
        self.model_accepts_loss_kwargs = False
        self.number_loss = NumberLoss(self.processing_class.tokenizer, settings.spread, self.args.device)

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Return AdamW with the tower's own rate and no decay on vectors."""
        if self.optimizer is None:
            groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
            for name, parameter in self.model.named_parameters():
                rate = self.settings.tower_rate if "vision_tower" in name else self.settings.rate
                decay = self.settings.weight_decay if parameter.ndim > 1 else 0.0
                groups.setdefault((rate, decay), []).append(parameter)
            self.optimizer = torch.optim.AdamW(
                [{"params": part, "lr": rate, "weight_decay": decay} for (rate, decay), part in groups.items()],
                betas=(0.9, 0.98),
            )
        return self.optimizer

    def compute_loss(
        self, model: Any, inputs: dict[str, torch.Tensor], return_outputs: bool = False, **_: Any
    ) -> torch.Tensor:
        """Return the coordinates' loss plus the weighted loss of words."""
        with self.compute_loss_context_manager():
            features = model.get_image_features(inputs["pixel_values"], return_dict=True).pooler_output
            shared = BaseModelOutputWithPooling(pooler_output=features[inputs["owner"]])
            hidden = model.model(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                mm_encoder_outputs={"image": shared},
                use_cache=False,
            ).last_hidden_state
            labels = inputs["labels"][:, 1:]
            told = labels != -100
            if not told.any():
                nothing: torch.Tensor = hidden.sum() * 0.0
                return nothing
            logits = model.lm_head(hidden[:, :-1][told])
        labels, before = labels[told], inputs["input_ids"][:, :-1][told]
        numbers = int(self.number_loss.is_number(labels).sum())
        places, words = self.number_loss(logits, labels, before)
        places, words = places / max(1, numbers), words / max(1, int(told.sum()) - numbers)
        if self.state.global_step % self.args.logging_steps == 0:
            self.parts = {"places": round(places.item(), 4), "words": round(words.item(), 4)}
        return places + self.settings.text_weight * words

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log the two parts of the loss beside their sum."""
        super().log(logs | getattr(self, "parts", {}) if "loss" in logs else logs, *args, **kwargs)


class CheckBoxes(TrainerCallback):  # type: ignore[misc]
    """Say the greedy box IoU on a fixed set of validation samples now and then, by the way a user takes.

    The model as it stands is written to ``OUT/latest`` and loaded from there by the ordinary reasoner.
    """

    def __init__(self, samples: Sequence[Sample], processor: Any, every: int, out: Path) -> None:
        self.samples, self.processor, self.every, self.out = samples, processor, every, out

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Check after every so many steps and at the end."""
        if state.global_step % self.every and state.global_step != state.max_steps:
            return
        folder = self.out / "latest"
        save_model(model, self.processor, folder, "nano-in-training")
        reasoner = HFReasoner(folder, device="cpu", dtype="float32", batch_size=16)
        requests = [Request(load_image(sample.image), sample.question) for sample in self.samples]
        overlaps = []
        completions = reasoner.complete(requests, max_new_tokens=MOST_TOKENS)
        for sample, completion in zip(self.samples, completions, strict=True):
            try:
                box = parse(completion.text, completion.space).box
            except ParseError:
                box = None
            overlaps.append(box.iou(sample.box) if box else 0.0)
        found = {"step": state.global_step, "box_iou": round(float(np.mean(overlaps)), 4), "samples": len(overlaps)}
        with (self.out / "checks.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(found) + "\n")


class StopEarly(TrainerCallback):  # type: ignore[misc]
    """End a trial after so many steps of the whole run's schedule, with a checkpoint from which it could go on."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop, and save first."""
        if state.global_step >= self.steps:
            control.should_save = control.should_training_stop = True


def save_model(model: Any, processor: Any, folder: Path, name: str) -> None:
    """Write an ordinary Hugging Face model folder."""
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    write_identity(folder, name)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train nano from a recipe."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, required=True, help="recipe, TOML")
    parser.add_argument("--masks", type=Path, required=True, help="folder with manifest.jsonl, images/ and masks/")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; the model is written to OUT/model")
    parser.add_argument("--start-from", type=Path, help="folder of an earlier phase's model or checkpoint")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in OUT")
    parser.add_argument("--most-steps", type=int, help="stop early, for a trial; --resume goes on from there")
    chosen = parser.parse_args(arguments)
    try:
        train(chosen)
    except MedgroundError as error:
        parser.exit(2, f"{error}\n")


def prepare_folder(out: Path, settings: Settings, resume: bool) -> None:
    """Make the run's folder; raises ConfigError where its checkpoints and what was asked don't fit together."""
    make_folder(out)
    last = get_last_checkpoint(out)
    if resume and last is None:
        raise ConfigError(f"{out}: there is no checkpoint to go on from; leave out --resume")
    if not resume and last is not None:
        raise ConfigError(f"{out}: holds checkpoints of a run; give --resume to go on with it, or another folder")
    file = out / "settings.json"
    if resume and file.is_file():
        before: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        for key, value in settings.model_dump(mode="json", exclude=MAY_CHANGE).items():
            if before.get(key, value) != value:
                raise ConfigError(f"{file}: {key}: was {before[key]!r} and is now {value!r}; --resume can't change it")
    write_json(file, settings.model_dump())


def load_phase(folder: Path, settings: Settings) -> tuple[Any, Any]:
    """Return an earlier phase's model and processor; raises where they aren't of the recipe's size."""
    model, processor = load_model(folder, torch.device("cpu"), "float32", None)
    text = model.config.get_text_config()
    there = {"image_size": dict(processor.image_processor.size).get("height")}
    there |= {"hidden_size": text.hidden_size, "layers": text.num_hidden_layers}
    for key, found in there.items():
        if found != getattr(settings, key):
            raise ConfigError(f"{folder}: {key}: is {found} there and {getattr(settings, key)} in the recipe")
    return model, processor


def train(chosen: argparse.Namespace) -> None:
    """Run what the command line asked for; see `main`."""
    settings = read_settings(chosen.config, chosen.set)
    torch.manual_seed(settings.seed)
    targets = [row for row in read_open_masks(chosen.masks, "train") if row.source not in settings.leave_out]
    if not targets:
        raise ConfigError(f"{chosen.masks}: no rows to train on: the manifest has none of split train, or all left out")
    if chosen.start_from:
        model, processor = load_phase(chosen.start_from, settings)
    else:
        processor = build_processor(
            corpus(targets, seed=settings.seed), vocabulary=settings.vocabulary, image_size=settings.image_size
        )
        model = build_model(
            processor, image_size=settings.image_size, hidden_size=settings.hidden_size, layers=settings.layers
        )
    prepare_folder(chosen.out, settings, chosen.resume)
    model.model.vision_tower.to(memory_format=torch.channels_last)
    rows = TrainingPictures(
        targets,
        epochs=settings.epochs,
        image_size=settings.image_size,
        most_targets=settings.most_targets,
        direct_share=settings.direct_share,
        named_share=settings.named_share,
        seed=settings.seed,
        emphasis=settings.emphasis,
        wide=settings.wide,
    )
    checks = list(build_samples(read_open_masks(chosen.masks, "val"), seed=settings.seed))
    picked = np.random.default_rng(settings.seed).permutation(len(checks))[: settings.check_samples]
    steps = -(-len(rows) // settings.batch_size)
    callbacks: list[TrainerCallback] = []
    if len(picked):
        check = CheckBoxes([checks[i] for i in picked], processor, settings.check_every, chosen.out)
        callbacks.append(check)
    if chosen.most_steps is not None:
        callbacks.append(StopEarly(chosen.most_steps))
    on_cpu = not torch.cuda.is_available()
    trainer = NanoTrainer(
        model=model,
        settings=settings,
        args=TrainingArguments(
            output_dir=str(chosen.out),
            num_train_epochs=1,  # the data set holds all epochs in a row
            per_device_train_batch_size=settings.batch_size,
            # Constant, then falling: until the fall begins, a run may still be lengthened or cut by --set epochs.
            lr_scheduler_type="warmup_stable_decay",
            lr_scheduler_kwargs={"num_decay_steps": round(settings.decay * steps), "decay_type": "cosine"},
            warmup_steps=settings.warmup,
            max_grad_norm=1.0,
            bf16=True,
            use_cpu=on_cpu,
            logging_steps=20,
            save_steps=settings.save_every,
            save_total_limit=2,
            remove_unused_columns=False,
            dataloader_num_workers=1 if on_cpu else 12,
            dataloader_prefetch_factor=4,
            report_to=["tensorboard"],
            seed=settings.seed,
            data_seed=settings.seed,
        ),
        train_dataset=rows,
        data_collator=Collator(processor),
        processing_class=processor,
        callbacks=callbacks,
    )
    trainer.train(resume_from_checkpoint=chosen.resume or None)
    trainer.save_state()
    save_model(model.to(torch.bfloat16), processor, chosen.out / "model", settings.name)


if __name__ == "__main__":
    main()
