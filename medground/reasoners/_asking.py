"""What a model in this process is shown and asked: messages, picture and ruler, the same in training and in use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medground.coords import Space, space_named
from medground.errors import ConfigError, ReasonerError
from medground.reasoners import Request
from medground.reasoners._request import fit, resized, worded

if TYPE_CHECKING:
    from PIL import Image

    from medground.images import MedicalImage

__all__ = ["Asker", "Prepared"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request as a model is handed it.

    Parameters
    ----------
    messages : list of dict
        A system turn where the template has one, and the user's, with the picture before the text.
    space : Space
        The ruler of the answer.
    picture : PIL.Image.Image
        Within the pixel budget.
    """

    messages: list[dict[str, Any]]
    space: Space
    picture: Image.Image


class Asker:
    """Turns requests into messages for a processor; a model is trained and asked through the same one.

    Parameters
    ----------
    processor : transformers.ProcessorMixin
        Its image processor's area budget, where it has one, is lowered to `max_pixels`.
    template, coordinates : str
        See `medground.prompts.TEMPLATES` and `medground.coords.COORDINATES`.
    max_pixels : int
    name : str
        What errors call the model.
    """

    def __init__(self, processor: Any, *, template: str, coordinates: str, max_pixels: int, name: str) -> None:
        self.processor, self.template, self.coordinates = processor, template, coordinates
        self.max_pixels, self.name = max_pixels, name
        # An image processor that counts patches has an area budget of its own; the image is then resized only once.
        images = processor.image_processor
        self.patch = getattr(images, "patch_size", None) if hasattr(images, "merge_size") else None
        if self.patch is not None:
            low, high = int(images.size["shortest_edge"]), int(images.size["longest_edge"])
            high = min(high, max_pixels)
            images.size = {"shortest_edge": min(low, high), "longest_edge": high}
        self._sizes: dict[tuple[int, int], tuple[int, int]] = {}

    def space_for(self, image: MedicalImage) -> Space:
        """Return the ruler in which the model writes about `image`."""
        return self._space(self._shown_size(image))

    def prepare(self, request: Request) -> Prepared:
        """Return a request as the processor's chat template takes it."""
        size = self._shown_size(request.image)
        space = self._space(size)
        system, user = worded(request, self.template, space)
        picture = resized(request.image, size)
        content = [{"type": "image", "image": picture}, {"type": "text", "text": user}]
        messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
        if system is not None:
            messages.insert(0, {"role": "system", "content": [{"type": "text", "text": system}]})
        return Prepared(messages, space, picture)

    def sized(self, picture: Image.Image) -> Image.Image:
        """Return a picture at the very size at which the model sees it; any processor of its kind leaves it so.

        For what prepares pictures by the model's published settings and not by this budget, such as vLLM.
        """
        from PIL import Image

        size = picture.size if self.patch is None else self._made_size(picture.size)
        return picture if picture.size == size else picture.resize(size, Image.Resampling.BICUBIC)

    def _shown_size(self, image: MedicalImage) -> tuple[int, int]:
        return image.size if self.patch is not None else fit(*image.size, self.max_pixels)

    def _space(self, size: tuple[int, int]) -> Space:
        kind = self.coordinates.removesuffix(" yx")
        if kind == "resized pixels":
            size = self._made_size(size)
        elif kind != "pixels":
            return space_named(self.coordinates, *size)
        return Space("resized pixels", *size, order="xy" if kind == self.coordinates else "yx")

    def _made_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Ask the image processor what it makes of an image of this size; it looks at nothing but the size."""
        if size not in self._sizes:
            from PIL import Image

            try:
                made = self.processor.image_processor(images=[Image.new("RGB", size)], return_tensors="pt")
            except ValueError as error:
                raise ReasonerError(
                    f"{self.name} can't be shown an image of {size[0]} x {size[1]} pixels: crop it nearer to a square"
                ) from error
            if len(self._sizes) >= 1024:
                self._sizes.clear()
            self._sizes[size] = self.read_sizes(made, 1)[0]
        return self._sizes[size]

    def read_sizes(self, made: Any, count: int) -> list[tuple[int, int]]:
        """Read the (width, height) of each image out of what the processor made."""
        if "image_grid_thw" in made and self.patch is not None:
            return [(int(across) * self.patch, int(down) * self.patch) for _, down, across in made["image_grid_thw"]]
        pixels = made["pixel_values"]
        if pixels.ndim != 4 or len(pixels) != count:
            raise ConfigError(
                f"{self.name} cuts its image into tiles, so it can't answer in 'resized pixels': name other coordinates"
            )
        return [(pixels.shape[-1], pixels.shape[-2])] * count
