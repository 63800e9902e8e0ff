"""What every reasoner does with a request before a model sees it: words it, sizes the image, checks how to sample."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from medground.errors import ConfigError
from medground.prompts import VISUAL, render
from medground.prompts.vqa import vqa_prompt

if TYPE_CHECKING:
    from PIL import Image

    from medground.coords import Space
    from medground.images import MedicalImage
    from medground.reasoners import Request

__all__ = ["MAX_NEW_TOKENS", "MAX_PIXELS", "check_positive", "check_sampling", "fit", "resized", "worded"]

MAX_PIXELS = 1280 * 28 * 28
"""The default pixel budget: about one megapixel, 1280 image tokens of Qwen2.5-VL."""

MAX_NEW_TOKENS = 2048
"""The default length of the longest completion."""


def fit(width: int, height: int, max_pixels: int) -> tuple[int, int]:
    """Return the largest size of the same shape, up to rounding, that has at most `max_pixels` pixels.

    Examples
    --------
    >>> fit(640, 480, 1_000_000)
    (640, 480)
    >>> fit(4000, 2000, 20_000)
    (200, 100)
    """
    if width * height <= max_pixels:
        return width, height
    # An extreme strip keeps at least one pixel across; its other side then gives way to the budget.
    shrink = math.sqrt(max_pixels / (width * height))
    across = max(1, math.floor(width * shrink))
    down = max(1, min(math.floor(height * shrink), max_pixels // across))
    return min(across, max_pixels // down), down


def worded(request: Request, template: str, space: Space) -> tuple[str | None, str]:
    """Return the system text and the user text of a request; a visual question's are of the template's own twin."""
    if request.visual is None:
        return render(template, request.question, mode=request.mode, space=space)
    return vqa_prompt(VISUAL[template], request.question, request.visual, mode=request.mode, space=space)


def resized(image: MedicalImage, size: tuple[int, int]) -> Image.Image:
    """Return the pixels of `image` at ``(width, height)``, with no file name and no other metadata.

    Bicubic, as the models' own image processors resize.
    """
    from PIL import Image

    picture = Image.fromarray(image.rgb)
    return picture if picture.size == size else picture.resize(size, Image.Resampling.BICUBIC)


def check_sampling(temperature: float, max_new_tokens: int | None) -> None:
    """Raise ConfigError unless a model can sample with these settings."""
    if not (math.isfinite(temperature) and temperature >= 0):
        raise ConfigError(f"temperature must be 0 (greedy) or above, not {temperature}")
    if max_new_tokens is not None and max_new_tokens < 1:
        raise ConfigError(f"max_new_tokens must be at least 1, not {max_new_tokens}")


def check_positive(**settings: float) -> None:
    """Raise ConfigError for a setting that isn't above 0."""
    for name, value in settings.items():
        if not (math.isfinite(value) and value > 0):
            raise ConfigError(f"{name} must be above 0, not {value}")
