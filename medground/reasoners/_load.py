"""Loading of Hugging Face models, with one clear sentence for each way in which it can fail."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from medground.errors import ConfigError, MissingExtraError, ReasonerError

if TYPE_CHECKING:
    import torch

__all__ = ["Card", "find_device", "load_model", "read_card"]

CARD = "medground.json"
_DTYPES = ("float32", "bfloat16", "float16")


class Card(BaseModel):
    """What a model folder says about itself in ``medground.json``; each field is optional."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str | None = None
    coordinates: str | None = None
    template: str | None = None


def find_device(device: str) -> torch.device:
    """Return the torch device that a setting names; ``"auto"`` is CUDA, then MPS, then the CPU."""
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        found = torch.empty(1, device=device).device  # with its index, where it has one
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ReasonerError(f"this machine has no device {device!r} that torch can use: try 'auto' or 'cpu'") from error
    return found


def read_card(model: str | Path) -> tuple[Card, Any]:
    """Return a model's card (empty where it has none) and its transformers configuration."""
    from transformers import AutoConfig
    from transformers.utils import cached_file

    source, local = _source(model)
    try:
        config = AutoConfig.from_pretrained(source, local_files_only=local, trust_remote_code=False)
        found = cached_file(source, CARD, local_files_only=local, _raise_exceptions_for_missing_entries=False)
    except (OSError, ValueError, KeyError) as error:
        raise _unloadable(source, local, error) from error
    if found is None:
        return Card(), config
    try:
        return Card.model_validate(json.loads(Path(found).read_text(encoding="utf-8"))), config
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise ConfigError(f"{CARD} of {source}: {field}: {first['msg']}") from error
    except ValueError as error:
        raise ConfigError(f"{CARD} of {source} isn't JSON: {error}") from error


def load_model(model: str | Path, device: torch.device, dtype: str, adapter: str | None) -> tuple[Any, Any]:
    """Return the model, in evaluation mode on `device`, and its processor, which pads on the left."""
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from transformers.utils import logging

    if dtype != "auto" and dtype not in _DTYPES:
        raise ConfigError(f"dtype {dtype!r} isn't known; choose auto, {', '.join(_DTYPES)}")
    kind = getattr(torch, dtype) if dtype != "auto" else torch.bfloat16 if device.type == "cuda" else torch.float32
    folder = None if adapter is None else _adapter_folder(adapter)
    source, local = _source(model)
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        processor = AutoProcessor.from_pretrained(source, local_files_only=local, trust_remote_code=False)
        network, report = AutoModelForImageTextToText.from_pretrained(
            source,
            dtype=kind,
            local_files_only=local,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except ImportError as error:
        raise MissingExtraError(error.name or "a package", extra="local", purpose=f"the model {source}") from error
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise _unloadable(source, local, error) from error
    finally:
        if bars:
            logging.enable_progress_bar()
    if report["missing_keys"]:
        # transformers would fill them with random numbers and go on.
        some = ", ".join(sorted(report["missing_keys"])[:3])
        raise ReasonerError(f"the weights of {source} are incomplete ({some}): fetch the model again")
    _check_processor(source, processor)
    if folder is not None:
        network = _lay_over(network, folder)
    return network.to(device).eval(), processor


def _source(model: str | Path) -> tuple[str, bool]:
    """Return what to hand to transformers, and whether it is a local folder."""
    source = str(model)
    if Path(source).expanduser().is_dir():
        return str(Path(source).expanduser()), True
    # A hub id is "name" or "owner/name"; whatever else looks like a path is one, and is never asked of the hub.
    if isinstance(model, Path) or source.startswith((".", "/", "~")) or source.count("/") > 1 or "\\" in source:
        raise ReasonerError(f"there is no model folder {source}")
    return source, False


def _unloadable(source: str, local: bool, error: BaseException) -> ReasonerError:
    """Return the sentence for what transformers raised; the whole of it stays in the exception's cause."""
    text = str(error)
    if "trust_remote_code" in text or "custom code" in text:
        return ReasonerError(f"{source} needs code from its own files, which medground never runs")
    if "model type" in text and "not recognize" in text:
        return ReasonerError(f"this transformers doesn't know the architecture of {source}: update transformers")
    if "Unrecognized configuration class" in text:
        return ReasonerError(f"{source} isn't a model that reads images and text")
    if not local:
        return ReasonerError(
            f"{source} is neither a local folder nor a model that the Hugging Face hub gives from here: check the "
            "name, the connection and, for a gated model, your access"
        )
    folder = Path(source)
    if not (folder / "config.json").is_file():
        return ReasonerError(f"the model folder {source} holds no config.json")
    if not any(folder.glob("*.safetensors")):
        return ReasonerError(f"the model folder {source} holds no safetensors weights")
    return ReasonerError(f"the files in {source} don't make a model and a processor ({type(error).__name__})")


def _check_processor(source: str, processor: Any) -> None:
    tokenizer, images = getattr(processor, "tokenizer", None), getattr(processor, "image_processor", None)
    if tokenizer is None or images is None:
        raise ReasonerError(f"{source} holds no processor for images and text: it needs its processor's files")
    if not (getattr(processor, "chat_template", None) or getattr(tokenizer, "chat_template", None)):
        raise ReasonerError(f"{source} has no chat template: it isn't an instruction-tuned model")
    if getattr(images, "do_center_crop", False):
        size, crop = dict(images.size), dict(images.crop_size)
        if (size.get("height"), size.get("width")) != (crop.get("height"), crop.get("width")):
            raise ReasonerError(
                f"{source} cuts the borders off its images, so its coordinates aren't of the whole image: "
                "set do_center_crop to false and size to height and width in its processor's settings"
            )
    tokenizer.padding_side = "left"
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token


def _adapter_folder(adapter: str) -> Path:
    folder = Path(adapter).expanduser()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (folder / name).is_file():
            raise ReasonerError(f"the adapter folder {adapter} holds no {name}")
    return folder


def _lay_over(network: Any, folder: Path) -> Any:
    """Return `network` under the LoRA adapter in `folder`."""
    try:
        from peft import PeftModel
    except ImportError as error:
        raise MissingExtraError("peft", extra="local", purpose="a LoRA adapter") from error
    try:
        with warnings.catch_warnings():
            # peft only warns when the weights fit no layer, and the adapter would then do nothing.
            warnings.filterwarnings("error", message=".*missing adapter keys")
            return PeftModel.from_pretrained(network, str(folder), use_safetensors=True)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, UserWarning) as error:
        raise ReasonerError(
            f"the adapter {folder.name} doesn't fit this model ({type(error).__name__}): check its base model"
        ) from error
