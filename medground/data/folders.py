"""A folder of pictures or volumes whose files' names tell what belongs together, as a small TOML file says."""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_left
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from medground.data.jobs import Job, MaskFile, Named, Origin, PictureJob, VolumeJob, mistake_in, slug
from medground.errors import ConfigError
from medground.image_files import Axis

__all__ = ["About", "read_folder"]


class About(BaseModel):
    """What a TOML file says of the folder that it lies in.

    Parameters
    ----------
    kind : {"pictures", "nifti", "dicom-seg"}
    source, modality, licence, tier : str
    images, masks : str
        Where the files are, relative to the TOML: ``{case}`` stands for what a picture and its masks have in common,
        ``*`` for anything within a name, and ``{category}``, in `masks` alone, for the target's name. For a DICOM-SEG,
        `images` is the series' folder.
    category : str
        The one target of all masks.
    categories : dict
        The target's name by what stands for ``{category}``; masks of others are left out. Without it the text itself is
        the name, with spaces for dashes and underscores.
    labels : dict
        The target's name by the value of its pixels in a mask or a label volume, or by the label or number of a
        DICOM-SEG's segment (all segments by their labels, without it). Values of one name are one target.
    patient : str
        A regular expression; its first group (or all of it) in ``{case}`` is the patient. Without it each case is a
        patient of its own.
    split : {"train", "val", "test", ""}
        Of the whole folder; by the patients' hash without it.
    axis : {"axial", "coronal", "sagittal"}, optional
        Which way NIfTI volumes are cut; as they were acquired, without it.
    frame : int, optional
        Which volume of NIfTI images of four axes; the first, without it.

    Examples
    --------
    >>> About.model_validate(tomllib.loads('''
    ... source = "clinic"
    ... modality = "ultrasound"
    ... images = "images/{case}.png"
    ... masks = "masks/{case}__{category}.png"
    ... patient = "^(p[0-9]+)_"
    ... ''')).kind
    'pictures'
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["pictures", "nifti", "dicom-seg"] = "pictures"
    source: Annotated[str, Field(pattern=r"^\w[\w. -]*$")]
    modality: Annotated[str, Field(min_length=1)]
    licence: str = ""
    tier: str = ""
    images: str
    masks: str
    category: str = ""
    categories: dict[str, str] = {}
    labels: dict[str, str] = {}
    patient: str = ""
    split: Literal["train", "val", "test", ""] = ""
    axis: Axis | None = None
    frame: Annotated[int, Field(ge=0)] | None = None

    @field_validator("images", "masks")
    @classmethod
    def _has_a_case(cls, value: str) -> str:
        if value.count("{case}") != 1:
            raise ValueError("must hold {case} once, such as images/{case}.png")
        if value.startswith("/") or ".." in Path(value).parts or "**" in value:
            raise ValueError("must lead from the TOML to files in its folder, without ** and ..")
        return value

    @field_validator("patient")
    @classmethod
    def _is_an_expression(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"isn't a regular expression ({error})") from None
        return value

    @model_validator(mode="after")
    def _names_its_targets(self) -> About:
        if "{category}" in self.images:
            raise ValueError("images holds {category}, which is for masks")
        ways = [bool(self.category), "{category}" in self.masks, bool(self.labels)]
        if self.kind == "pictures" and sum(ways) != 1:
            raise ValueError("name the targets in one way: category, or {category} in masks, or labels")
        if self.kind != "pictures" and any(ways[:2]):
            raise ValueError("targets of volumes are named by labels; leave category and {category} out")
        if self.kind != "nifti" and (self.axis or self.frame is not None):
            raise ValueError("axis and frame are for NIfTI volumes; leave them out")
        if self.kind == "nifti" and not self.labels:
            raise ValueError('labels is missing: name the values of the label volumes, such as 1 = "liver"')
        for value in self.labels if self.kind != "dicom-seg" else ():
            if not re.fullmatch(r"[1-9][0-9]{0,8}", value):
                raise ValueError(f"labels: {value!r} isn't the value of a pixel; write whole numbers above 0")
        if self.categories and "{category}" not in self.masks:
            raise ValueError("categories is there, but masks holds no {category}")
        return self


def read_folder(path: Path) -> Iterator[Job]:
    """Read the jobs of a folder from the TOML in it; see `About` and, for the errors, `read_source`."""
    try:
        about = About.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        raise ConfigError(f"{path}: {mistake_in(error)}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: can't be read ({error}); it must be TOML in UTF-8") from error
    root = path.parent
    found: dict[str, list[tuple[Path, str]]] = {}
    for mask, case, category in _matching(root, about.masks, about.categories):
        found.setdefault(case, []).append((mask, category))
    if not found:
        raise ConfigError(f"{path}: masks: no file is named like {about.masks}; mend the pattern")
    images_of = _images(root, about.images)
    for case in sorted(found):
        images = images_of(case)
        if len(images) != 1:
            raise ConfigError(
                f"{path}: images: {len(images)} files are named like {about.images} for the case {case!r}, whose mask "
                f"is {found[case][0][0].relative_to(root)}; there must be one"
            )
        origin = Origin(about.modality, about.source, about.licence, about.tier, _group(path, about, case), about.split)
        yield from _jobs(path, about, case, images[0], found[case], origin)


def _jobs(
    path: Path, about: About, case: str, image: Path, masks: list[tuple[Path, str]], origin: Origin
) -> Iterator[Job]:
    if about.kind != "pictures":
        if len(masks) > 1:
            raise ConfigError(f"{path}: masks: {len(masks)} files are named alike for the case {case!r}; keep one")
        names = tuple(about.labels.items())
        yield VolumeJob(case, about.kind, str(image), str(masks[0][0]), names, about.axis, about.frame, origin)
        return
    files = []
    for mask, text in masks:
        values: dict[str, tuple[int, ...]] = {}
        for value, name in about.labels.items():
            values[name] = (*values.get(name, ()), int(value))
        if not about.labels:
            values[about.category or about.categories.get(text) or re.sub(r"[-_]+", " ", text)] = ()
        named = (Named(f"{about.source}/{case}/{slug(name)}", name, values[name]) for name in values)
        files.append(MaskFile(str(mask), tuple(named)))
    picture = f"{about.source}/{image.relative_to(path.parent).as_posix()}"
    yield PictureJob(picture, str(image), tuple(files), origin)


def _group(path: Path, about: About, case: str) -> str:
    if not about.patient:
        return f"{about.source}/{case}"
    found = re.search(about.patient, case)
    patient = found and (found[1] if found.re.groups else found[0])
    if not patient:
        raise ConfigError(f"{path}: patient: {about.patient!r} finds no patient in the case {case!r}; mend it")
    return f"{about.source}/{patient}"


def _images(root: Path, pattern: str) -> Callable[[str], list[Path]]:
    """Return what finds the images of a case; where the pattern holds ``*``, the folder is listed but once."""
    if "*" not in pattern:
        return lambda case: [path] if (path := root / pattern.replace("{case}", case)).exists() else []
    names = sorted(_names(root, pattern))

    def find(case: str) -> list[Path]:
        literal = [part.replace("{case}", case) for part in pattern.split("*")]
        expression = re.compile("[^/]*".join(map(re.escape, literal)))
        start = end = bisect_left(names, literal[0])
        while end < len(names) and names[end].startswith(literal[0]):
            end += 1
        return [root / name for name in names[start:end] if expression.fullmatch(name)]

    return find


def _names(root: Path, pattern: str) -> Iterator[str]:
    for path in root.glob(re.sub(r"(?:\{case\}|\{category\}|\*)+", "*", pattern)):
        name = path.relative_to(root).as_posix()
        if not any(part.startswith(".") for part in name.split("/")):  # macOS leaves ._a.png beside a.png
            yield name


def _matching(root: Path, pattern: str, categories: dict[str, str]) -> Iterator[tuple[Path, str, str]]:
    """Give the files named like a pattern, by name, with what stands for {case} and {category}."""
    # Among names that were given the longest counts: of p1_node_left, node_left and not left.
    named, case = ("|".join(map(re.escape, categories)), "[^/]+?") if categories else ("[^/]+", "[^/]+")
    parts = {"{case}": f"(?P<case>{case})", "{category}": f"(?P<category>{named})", "*": "[^/]*"}
    split = re.split(r"(\{case\}|\{category\}|\*)", pattern)
    expression = re.compile("".join(parts.get(part, re.escape(part)) for part in split))
    for name in sorted(_names(root, pattern)):
        if match := expression.fullmatch(name):
            yield root / name, match["case"], match.groupdict().get("category") or ""
