"""A picture that is asked about several times, in other words or for further samples, is looked at once.

A small model spends most of its time on looking: nano about two thirds of it.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

__all__ = ["TOWERS", "looking_once", "tower_of"]

TOWERS = frozenset({"vision_tower", "visual", "vision_model", "vision_encoder"})
"""How transformers' vision-language models name their tower."""

KEPT_BYTES = 1 << 28
"""Features that are kept at a time, in bytes."""

AT_ONCE = 4
"""Pictures that a tower on a CPU is given at once. More overflow its cache: nano takes 79 ms a picture, 124 with 16."""


@contextlib.contextmanager
def looking_once(model: Any, *, kept: int | None = None) -> Iterator[None]:
    """Keep what a model's vision tower made of each picture, for as long as this lasts; its weights must stay the same.

    Parameters
    ----------
    model : transformers.PreTrainedModel or None
        Its tower takes ``pixel_values`` of shape (pictures, channels, height, width) and treats each by itself. Others,
        whose pictures are patches in a row (Qwen-VL), and anything that is no such model, are left as they are; so is
        a pass in which the tower learns.
    kept : int, optional
        Bytes of features that are kept at most, the newest; `KEPT_BYTES` where None.

    See Also
    --------
    medground.train.once.look_once : The same within one batch, for weights that learn.
    """
    tower = None if model is None else tower_of(model)
    if tower is None:
        yield
        return
    replaced = tower.__dict__.get("forward")  # as libraries that move weights between devices put one
    tower.forward = _Looking(tower, KEPT_BYTES if kept is None else kept)
    try:
        yield
    finally:
        del tower.forward
        if replaced is not None:
            tower.forward = replaced


class _Looking:
    """A tower's forward pass with a memory."""

    def __init__(self, tower: Any, most: int) -> None:
        self.tower, self.own, self.most = tower, tower.forward, most
        self.held = 0
        self.kept: OrderedDict[tuple[bytes, str], dict[str, Any]] = OrderedDict()
        self.kind: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        import torch

        pixels = args[0] if args else kwargs.get("pixel_values")
        learns = torch.is_grad_enabled() and any(each.requires_grad for each in self.tower.parameters())
        if not isinstance(pixels, torch.Tensor) or pixels.ndim != 4 or learns:
            return self.own(*args, **kwargs)
        with torch.no_grad():
            return self._look(pixels, args, kwargs)

    def _look(self, pixels: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        import torch

        options = sorted((name, each) for name, each in kwargs.items() if name != "pixel_values")
        how = repr((args[1:], options, torch.is_autocast_enabled(pixels.device.type)))
        keys = [(_digest(each), how) for each in pixels]
        new = {key: at for at, key in enumerate(keys) if key not in self.kept}
        found = dict(self.kept)
        if new:
            parts = []
            at_once = AT_ONCE if pixels.device.type == "cpu" else len(new)
            for some in torch.split(pixels[list(new.values())], at_once):
                output = self.own(some, *args[1:], **kwargs) if args else self.own(**{**kwargs, "pixel_values": some})
                found_in = _parts(output, len(some))
                if found_in is None:  # an output of another form can't be taken apart
                    return self.own(*args, **kwargs)
                self.kind = type(output)
                parts += found_in
            made = dict(zip(new, parts, strict=True))
            found |= made
            self._keep(made)
        names = found[keys[0]]
        whole = {name: torch.stack([found[key][name] for key in keys]) for name in names}
        return whole[""] if self.kind is torch.Tensor else self.kind(**whole)

    def _keep(self, made: dict[tuple[bytes, str], dict[str, Any]]) -> None:
        self.kept |= {key: {name: each.clone() for name, each in parts.items()} for key, parts in made.items()}
        self.held += sum(map(_size, made.values()))
        while self.held > self.most:
            self.held -= _size(self.kept.popitem(last=False)[1])


def _size(parts: dict[str, Any]) -> int:
    return sum(each.nbytes for each in parts.values())


def _parts(output: Any, count: int) -> list[dict[str, Any]] | None:
    """Return the parts of an output that belong to each picture, by field; None where they can't be told."""
    import torch
    from transformers.utils import ModelOutput

    if isinstance(output, torch.Tensor):
        fields = {"": output}
    elif isinstance(output, ModelOutput):
        fields = dict(output)
    else:
        return None
    if not all(isinstance(each, torch.Tensor) and len(each) == count for each in fields.values()):
        return None
    return [{name: each[at] for name, each in fields.items()} for at in range(count)]


def _digest(picture: Any) -> bytes:
    import torch

    content = picture.detach().contiguous().cpu().view(torch.uint8).numpy()
    return hashlib.blake2b(content, digest_size=16).digest()


def tower_of(model: Any) -> Any:
    """Return a model's vision tower (the outermost module of such a name), or None."""
    return next((module for name, module in model.named_modules() if name.split(".")[-1] in TOWERS), None)
