"""What a build costs: records a second of each stage with one and two workers, and the memory of a large one.

    python benchmarks/build.py [--masks MASKS] [--targets 4000] [--workers 1 2] [--memory 2000 20000] [--side 64]
                               [--stages clean describe ask] [--json]

Without --masks the pictures are drawn here, by a seed: 500 pictures of two ellipses each, of --side pixels, under as
many names as are asked for (hard links), in the layout of open-masks, with categories that the taxonomy knows. Each
stage runs in a process of its own that does nothing else; its seconds include the start of the workers, not that of the
process itself, which is in its CPU seconds. With other work on the machine only CPU seconds mean something. Memory is
the largest sum of the resident sets of that process and its workers, 20 times a second; what they share is counted as
often, so it is an upper bound. The parts of one and two workers are compared byte by byte.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image
from rich.console import Console
from rich.table import Table

console = Console(width=120, highlight=False)
progress = Console(stderr=True)

PAIRS = (
    ("left lung", "right lung", "X-ray", "cxr_mc_sz"),
    ("left putamen", "right putamen", "MRI", "voxelmorph_t1"),
    ("optic disc", "optic cup", "fundus", "drishti"),
    ("liver", "spleen", "CT", "totalsegmentator_ref"),
)
STAGES = {
    "clean": "from medground.data.clean import clean; report = clean([{masks!r}], {out!r}, workers={workers}).stage",
    "describe": "from medground.data.describe import describe; report = describe({out!r}, workers={workers})",
    "ask": "from medground.data.ask import ask; report = ask({out!r}, workers={workers})",
}
CHILD = """
import json, os, time
start = time.perf_counter()
{call}
seconds = time.perf_counter() - start
print(json.dumps({{"records": report.records[""], "seconds": seconds, "CPU": sum(os.times()[:4])}}))
"""
DISTINCT = 500


def draw(folder: Path, targets: int, side: int, seed: int = 0) -> Path:
    """Draw a folder of about so many targets, two a picture."""
    chance = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side]
    pictures = -(-targets // 2)
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    with (folder / "manifest.jsonl").open("w") as manifest:
        for number in progress_of(range(pictures), "drawing"):
            first, second, modality, source = PAIRS[number % len(PAIRS)]
            image = folder / "images" / f"{number:06d}.png"
            masks = [folder / "masks" / f"{number:06d}-{index}.png" for index in range(2)]
            if number < DISTINCT:
                grey = chance.integers(20, 70, (side, side))
                for index, path in enumerate(masks):
                    x, y = side * (0.28 + 0.44 * index), side * chance.uniform(0.35, 0.65)
                    across, down = side * chance.uniform(0.07, 0.2), side * chance.uniform(0.07, 0.28)
                    mask = ((columns - x) / across) ** 2 + ((rows - y) / down) ** 2 <= 1
                    grey[mask] += 90 + 40 * index
                    Image.fromarray(mask).save(path)
                Image.fromarray(grey.astype(np.uint8)).save(image)
            else:
                stem = f"{number % DISTINCT:06d}"  # of the same pair, as 500 is a multiple of 4
                os.link(folder / "images" / f"{stem}.png", image)
                for index, path in enumerate(masks):
                    os.link(folder / "masks" / f"{stem}-{index}.png", path)
            split = ("train", "train", "train", "train", "val", "test")[number // len(PAIRS) % 6]
            for category, mask_path in zip((first, second), masks, strict=True):
                row = {
                    "id": f"{source}/{number:06d}/{category.replace(' ', '-')}",
                    "image": image.relative_to(folder).as_posix(),
                    "mask": mask_path.relative_to(folder).as_posix(),
                    "width": side,
                    "height": side,
                    "modality": modality,
                    "category": category,
                    "source": source,
                    "license": "CC0-1.0",
                    "tier": "A",
                    "group": f"{source}/{number:06d}",
                    "split": split,
                }
                manifest.write(json.dumps(row) + "\n")
    return folder


def progress_of(items: Sequence[int], what: str) -> Any:
    from rich.progress import track

    return track(items, description=what, console=progress, transient=True)


def run(stage: str, masks: Path, out: Path, workers: int) -> dict[str, float]:
    """Run one stage in a process of its own; return its records, seconds and peak MB."""
    call = STAGES[stage].format(masks=str(masks), out=str(out), workers=workers)
    process = subprocess.Popen([sys.executable, "-c", CHILD.format(call=call)], stdout=subprocess.PIPE)  # noqa: S603
    family, peak = psutil.Process(process.pid), 0
    while process.poll() is None:
        held = 0
        try:
            for member in (family, *family.children(recursive=True)):
                held += member.memory_info().rss
        except psutil.NoSuchProcess:  # it ended meanwhile
            pass
        peak = max(peak, held)
        time.sleep(0.05)
    said, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"the stage {stage} failed")
    found: dict[str, float] = json.loads(said.splitlines()[-1])
    return found | {"MB": peak / 1e6}


def build(masks: Path, out: Path, workers: int, stages: Sequence[str]) -> list[dict[str, Any]]:
    """Run stages one after another."""
    lines = []
    for stage in stages:
        progress.print(f"{stage}, {workers} workers, {masks.name}")
        lines.append({"stage": stage, "workers": workers, **run(stage, masks, out, workers)})
    return lines


def same_parts(first: Path, second: Path) -> bool:
    names = [sorted(path.relative_to(folder) for path in folder.rglob("part-*")) for folder in (first, second)]
    return names[0] == names[1] and all(
        (first / name).read_bytes() == (second / name).read_bytes() for name in names[0]
    )


def show(title: str, lines: list[dict[str, Any]]) -> None:
    table = Table(
        "stage",
        "workers",
        "records",
        "seconds",
        "CPU seconds",
        "a second",
        "peak MB",
        title=title,
        title_justify="left",
    )
    for line in lines:
        rate = line["records"] / line["seconds"]
        cells = (
            f"{line['records']:,}",
            f"{line['seconds']:.1f}",
            f"{line['CPU']:.1f}",
            f"{rate:,.0f}",
            f"{line['MB']:,.0f}",
        )
        table.add_row(line["stage"], str(line["workers"]), *cells)
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--masks", type=Path, help="a folder in the layout of open-masks; drawn without it")
    parser.add_argument("--targets", type=int, default=4000, help="how many to draw for the rates")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--memory", type=int, nargs="*", default=[2000, 20000], help="how many to draw for memory")
    parser.add_argument("--side", type=int, default=64, help="pixels of a drawn picture's side")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES), help="a first few of them")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    figures: dict[str, Any] = {"machine": machine, "rates": [], "memory": {}}
    with tempfile.TemporaryDirectory() as scratch:
        masks = options.masks or draw(Path(scratch, "drawn"), options.targets, options.side)
        for workers in options.workers:
            figures["rates"] += build(masks, Path(scratch, f"out{workers}"), workers, options.stages)
        outs = [Path(scratch, f"out{workers}") for workers in options.workers]
        figures["same bytes"] = all(same_parts(outs[0], out) for out in outs[1:])
        for out in outs:
            shutil.rmtree(out)
        for targets in options.memory:
            large = draw(Path(scratch, f"drawn{targets}"), targets, options.side)
            figures["memory"][targets] = build(large, Path(scratch, "large"), max(options.workers), options.stages)
            shutil.rmtree(large)
            shutil.rmtree(Path(scratch, "large"))
    if options.json:
        console.print_json(json.dumps(figures))
        return
    console.print(f"{machine}; {options.masks.name if options.masks else 'drawn pictures'}")
    show("rates", figures["rates"])
    console.print(f"parts of {options.workers} workers are the same bytes: {figures['same bytes']}")
    for targets, lines in figures["memory"].items():
        show(f"{targets:,} targets", lines)


if __name__ == "__main__":
    main()
