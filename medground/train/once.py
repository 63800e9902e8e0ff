"""A picture that lies in a batch several times over, or comes again to a tower that doesn't learn, is looked at once.

GRPO asks for each picture as often as a group has completions, in a row, and a vision tower would encode each copy: for
nano, whose tower is half of its parameters, that was 43 % of a step. Where the tower learns, gradients are those of the
copies' sum, as before.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch

from medground.reasoners._sharing import looking_once, tower_of
from medground.train.config import TrainConfig
from medground.train.start import world_size

__all__ = ["look_once", "remembering"]

KEPT_BYTES = 1 << 30
"""Features that are kept at a time: those of 26,000 pictures of nano's."""


def remembering(config: TrainConfig, model: Any) -> contextlib.AbstractContextManager[None]:
    """Keep what a frozen tower made of each picture, for as long as a training lasts, where pictures come again.

    They do unless each epoch shows them anew. More than one process may spread the tower's weights: then nothing is
    kept.
    """
    again = not config.data.augment or config.data.views is not None
    return looking_once(model if config.freeze_vision and again and world_size() == 1 else None, kept=KEPT_BYTES)


def look_once(model: Any) -> bool:
    """Let a model's vision tower encode equal neighbours of a batch once, and give each of them the result.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Its tower takes ``pixel_values`` of shape (pictures, channels, height, width); other towers, whose pictures are
        patches in a row (Qwen-VL), are left as they are.

    Returns
    -------
    bool
        Whether the model has a tower to which this was done.

    See Also
    --------
    medground.reasoners._sharing.looking_once : For weights that stay the same, a memory that lasts over batches.
    """
    tower = tower_of(model)
    if tower is None:
        return False
    copies: list[torch.Tensor | None] = []

    def before(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        pixels = args[0] if args else kwargs.get("pixel_values")
        copies.append(None)
        if not isinstance(pixels, torch.Tensor) or pixels.ndim != 4 or len(pixels) < 2:
            return args, kwargs
        new = [True, *(not torch.equal(pixels[at], pixels[at - 1]) for at in range(1, len(pixels)))]
        if all(new):
            return args, kwargs
        first = torch.tensor(new, device=pixels.device)
        copies[-1] = first.cumsum(0) - 1
        return ((pixels[first], *args[1:]), kwargs) if args else (args, {**kwargs, "pixel_values": pixels[first]})

    def after(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        places = copies.pop()
        if places is None:
            return output
        if isinstance(output, torch.Tensor):
            return output[places]
        for name, value in output.items():
            if isinstance(value, torch.Tensor):
                output[name] = value[places]
        return output

    tower.register_forward_pre_hook(before, with_kwargs=True)
    tower.register_forward_hook(after, with_kwargs=True)
    return True
