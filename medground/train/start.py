"""What both kinds of training begin and end with: the model, what of it learns, the trainer's settings, the folder."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medground._io import write_json
from medground.coords import family_for, space_named
from medground.errors import ConfigError, MissingExtraError, ReasonerError
from medground.prompts import template_digest
from medground.reasoners import NANO
from medground.reasoners._asking import Asker
from medground.reasoners._load import CARD, load_model, read_card
from medground.reasoners._request import MAX_PIXELS
from medground.reasoners._sharing import TOWERS
from medground.train.config import TrainConfig

if TYPE_CHECKING:
    import torch

__all__ = [
    "Start",
    "arguments",
    "count_parameters",
    "freeze",
    "is_vision",
    "load_start",
    "lora_config",
    "parameter_groups",
    "read_asker",
    "save_model",
    "total_steps",
    "world_size",
]

# The parts of a tower that lead to the language model.
_BRIDGES = re.compile(r"(^|\.)(merger|deepstack_merger\w*|patch_merger)(\.|$)")


@dataclass(frozen=True, slots=True)
class Start:
    """What a run starts from.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        On the CPU; what doesn't learn has ``requires_grad`` off.
    processor : transformers.ProcessorMixin
    asker : Asker
        How the model is asked, the same as when the trained model is used.
    """

    model: Any
    processor: Any
    asker: Asker


def model_source(config: TrainConfig) -> str:
    """Return the folder or hub id that a configuration's model means."""
    return str(NANO) if config.model == "nano" else config.model


def load_start(config: TrainConfig) -> Start:
    """Load the model that a run starts from and freeze what doesn't learn.

    Batch normalisation is kept in evaluation mode unless ``batch_statistics`` says otherwise: its statistics stay the
    model's own, because a batch may be one picture several times over (docs/integrations.md).

    Raises
    ------
    ReasonerError
        When the model can't be loaded.
    ConfigError
        When nothing says how the model is asked, or it has no vision tower to freeze.
    """
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(error.name or "torch", extra="train", purpose="training") from error
    asker, model = read_asker(config)
    freeze(config, model)
    return Start(model, asker.processor, asker)


def freeze(config: TrainConfig, model: Any) -> None:
    """Take what doesn't learn out of the training; see `load_start`."""
    import torch

    if not config.batch_statistics:
        for module in model.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                _hold(module)
    names = [name for name, _ in model.named_parameters() if is_vision(name)]
    if (config.freeze_vision or config.vision_rate is not None) and not names:
        field = "freeze_vision" if config.freeze_vision else "vision_rate"
        raise ConfigError(f"{field}: {config.model} has no vision tower that is known by its name; leave it out")
    if config.freeze_vision:
        for name, parameter in model.named_parameters():
            if is_vision(name):
                parameter.requires_grad_(False)
        for name, module in model.named_modules():  # what doesn't learn drops nothing out either
            if is_vision(name):
                _hold(module)
    for end in config.frozen:
        parts = [module for name, module in model.named_modules() if f".{name}".endswith(f".{end}")]
        if not parts:
            raise ConfigError(f"frozen: {config.model} has no module {end!r}; see named_modules() for their names")
        for part in parts:
            part.requires_grad_(False)
            for module in part.modules():
                _hold(module)


def read_asker(config: TrainConfig, *, weights: bool = True) -> tuple[Asker, Any]:
    """Return how a configuration's model is asked, and the model; without its weights only its shape ("meta")."""
    import torch

    source = model_source(config)
    card, shape = read_card(source)
    template = config.template or card.template or "umrg-v1"
    template_digest(template)
    coordinates = config.coordinates or card.coordinates or family_for(shape.model_type).coordinates
    space_named(coordinates, 1, 1)
    # Weights that learn stay float32; those that an adapter is laid over may be as small as the computation is.
    dtype = "bfloat16" if config.lora is not None and config.bf16 else "float32"
    if weights:
        model, processor = load_model(source, torch.device("cpu"), dtype, None)
    else:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        local = Path(source).is_dir()
        try:
            processor = AutoProcessor.from_pretrained(source, local_files_only=local, trust_remote_code=False)
            with torch.device("meta"):
                model = AutoModelForImageTextToText.from_config(shape, trust_remote_code=False)
        except (OSError, ValueError, KeyError) as error:
            raise ReasonerError(f"{source}: the model's description can't be read ({error}); check the name") from error
    asker = Asker(
        processor,
        template=template,
        coordinates=coordinates,
        max_pixels=MAX_PIXELS if config.max_pixels is None else config.max_pixels,
        name=config.model,
    )
    return asker, model


def _hold(module: torch.nn.Module) -> None:
    """Keep a module in evaluation mode, whatever the trainer says."""

    def stay(mode: bool = True) -> torch.nn.Module:
        return module

    module.eval()
    module.train = stay  # type: ignore[method-assign]


def is_vision(name: str) -> bool:
    """Whether a parameter is of the vision tower, and not of what maps its output to the language model.

    Examples
    --------
    >>> is_vision("model.visual.blocks.0.attn.qkv.weight"), is_vision("model.visual.merger.mlp.0.weight")
    (True, False)
    """
    return bool(TOWERS & set(name.split("."))) and not _BRIDGES.search(name)


def lora_config(config: TrainConfig, model: Any) -> Any:
    """Return peft's configuration of the adapters, or None where all weights learn.

    Raises
    ------
    ConfigError
        When `targets` names no linear layer of the model.
    """
    if config.lora is None:
        return None
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise MissingExtraError("peft", extra="train", purpose="LoRA") from error
    import torch

    head = model.get_output_embeddings()
    linear = [
        name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and module is not head
    ]
    wanted = config.lora.targets
    if wanted == "all-linear":
        chosen = [name for name in linear if not is_vision(name)]
    else:
        ends = (wanted,) if isinstance(wanted, str) else wanted
        chosen = [name for name in linear if any(f".{name}".endswith(f".{end}") for end in ends)]
        if config.freeze_vision:
            chosen = [name for name in chosen if not is_vision(name)]
    if not chosen:
        some = ", ".join(sorted({name.rpartition(".")[2] for name in linear})[:12])
        raise ConfigError(f"lora.targets: {config.model} has no linear layer {wanted!r}; it has {some}")
    return LoraConfig(
        r=config.lora.rank,
        lora_alpha=config.lora.alpha,
        lora_dropout=config.lora.dropout,
        target_modules=chosen,
        task_type="CAUSAL_LM",
    )


def parameter_groups(config: TrainConfig, model: Any) -> list[dict[str, Any]]:
    """Return what learns, in groups for the optimizer: the vision tower at its own rate, no decay on vectors."""
    groups: dict[tuple[float, float], list[Any]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            own = config.vision_rate if config.vision_rate is not None and is_vision(name) else config.rate
            groups.setdefault((own, config.weight_decay if parameter.ndim > 1 else 0.0), []).append(parameter)
    return [{"params": part, "lr": rate, "weight_decay": decay} for (rate, decay), part in groups.items()]


def count_parameters(model: Any) -> tuple[int, int]:
    """Return how many parameters learn and how many don't."""
    sizes: Iterator[tuple[int, bool]] = ((each.numel(), each.requires_grad) for each in model.parameters())
    learn = rest = 0
    for size, learns in sizes:
        learn, rest = (learn + size, rest) if learns else (learn, rest + size)
    return learn, rest


def world_size() -> int:
    """Return how many processes train together, as torchrun and accelerate say it."""
    return max(1, int(os.environ.get("WORLD_SIZE", "1") or 1))


def total_steps(config: TrainConfig, rows: int) -> int:
    """Return how many steps a run makes on so many rows (for GRPO: prompts)."""
    if config.steps is not None:
        return config.steps
    at_once = config.batch * config.accumulation * world_size()
    sequences = rows * (config.grpo.generations * config.grpo.iterations if config.kind == "grpo" else 1)
    return max(1, math.ceil(config.epochs * sequences / at_once))


def arguments(config: TrainConfig, steps: int) -> dict[str, Any]:
    """Return the settings that `trl.SFTConfig` and `trl.GRPOConfig` share."""
    import torch

    kwargs: dict[str, Any] = {}
    if config.schedule == "warmup_stable_decay":
        kwargs = {"num_decay_steps": round(config.decay * steps), "decay_type": "cosine"}
    elif config.schedule == "cosine_with_min_lr":
        kwargs = {"min_lr_rate": 0.1}
    found: dict[str, Any] = {
        "output_dir": str(config.folder),
        "per_device_train_batch_size": config.batch,
        "gradient_accumulation_steps": config.accumulation,
        "learning_rate": config.rate,
        "lr_scheduler_type": config.schedule,
        "lr_scheduler_kwargs": kwargs,
        "warmup_steps": round(config.warmup * steps) if config.warmup < 1 else round(config.warmup),
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "bf16": config.bf16,
        "activation_checkpointing": config.gradient_checkpointing,
        "use_cpu": not torch.cuda.is_available(),
        "logging_steps": config.log_every,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,  # it would put an average in the place of a loss that isn't a number
        "save_strategy": "steps",
        "save_steps": config.save_every,
        "save_total_limit": config.keep,
        "eval_strategy": "no",  # checks are a callback's, on answers that were generated
        "dataloader_num_workers": config.workers,
        "remove_unused_columns": False,
        "report_to": ["tensorboard"],
        "disable_tqdm": True,  # the command line has a bar of its own
        "seed": config.seed,
        "data_seed": config.seed,
        "model_init_kwargs": None,
    }
    if config.kind == "grpo" and config.grpo.server is not None:
        found["vllm_server_base_url"] = config.grpo.server
    return found


def save_model(trainer: Any, start: Start, config: TrainConfig) -> Path:
    """Write the trained model to ``OUT/model``, so that `load_reasoner` loads it and asks it as it was trained.

    An adapter is laid into the weights unless ``lora.merge`` is false. Weights are stored in bfloat16 where the run
    computed in it.
    """
    import torch
    from transformers.integrations import unset_hf_deepspeed_config

    folder = config.folder / "model"
    trainer.save_model(str(folder))  # gathers what is spread over devices
    if not trainer.is_world_process_zero():
        return folder
    unset_hf_deepspeed_config()  # ZeRO-3 would spread what is read below, over processes that don't read it
    dtype = "bfloat16" if config.bf16 else "float32"
    if config.lora is None:
        if config.bf16:
            model, _ = load_model(folder, torch.device("cpu"), dtype, None)
            model.save_pretrained(folder)
    elif config.lora.merge:
        model, _ = load_model(model_source(config), torch.device("cpu"), dtype, str(folder))
        model.merge_and_unload().save_pretrained(folder)
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            (folder / name).unlink(missing_ok=True)
    (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle that nothing needs; run.json has the settings
    start.processor.save_pretrained(folder)
    said = {"name": config.name, "coordinates": start.asker.coordinates, "template": start.asker.template}
    write_json(folder / CARD, said)
    return folder
