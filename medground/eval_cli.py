"""``medground eval`` and ``medground report``: measure reasoners; each command is a library function."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from medground import RESEARCH_USE
from medground._options import Adapter, AskMode, Device, Dtype, Template, read_prices
from medground._progress import counting_bar
from medground.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from medground.data.vqa_rows import VqaRow
    from medground.evaluate.run import EvalProgress

__all__ = ["evaluate", "report"]


def evaluate(
    data: Annotated[
        list[Path], typer.Option(help="Parquet file, or folder of them; may be repeated.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="The run's folder; the same command goes on there.", show_default=False)],
    reasoner: Annotated[
        str,
        typer.Option(
            help="nano, a model folder or hub id, https://host/v1#model for an endpoint, baseline:NAME with NAME "
            "whole-image, centre, category-prior, random or oracle (for visual questions frequent-answer, "
            "random-answer, text-only or truth), or stored:FILE with answers made elsewhere."
        ),
    ] = "nano",
    segmenter: Annotated[
        str,
        typer.Option(
            help="litemedsam, a folder or hub id of a SAM-family model, or none; for visual questions it has no say."
        ),
    ] = "litemedsam",
    mode: AskMode = "reason",
    split: Annotated[Literal["train", "val", "test"], typer.Option(help="Which rows.")] = "test",
    limit: Annotated[int | None, typer.Option(min=1, help="So many rows, drawn alike in every run.")] = None,
    samples: Annotated[int, typer.Option(min=0, help="Further completions of each row, for a confidence.")] = 0,
    temperature: Annotated[float, typer.Option(min=0, help="Of the samples; the answer itself is greedy.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of the samples.")] = 0,
    prompts: Annotated[
        list[str] | None,
        typer.Option(help="points, box or both: what masks are drawn for; all that the segmenter knows by default."),
    ] = None,
    oracle: Annotated[bool, typer.Option("--oracle", help="Draw a mask for each true box too.")] = False,
    variant: Annotated[str, typer.Option(help="Change each row so before it is asked, such as rotate_5.")] = "",
    embeddings: Annotated[
        Path | None, typer.Option(help="Folder that keeps what the segmenter made of each picture, for other runs.")
    ] = None,
    shard: Annotated[str, typer.Option(help="I/N: part I of N, from 0; parts may run at once into one OUT.")] = "0/1",
    batch: Annotated[int, typer.Option(min=1, help="Questions given to the reasoner at once.")] = 16,
    max_new_tokens: Annotated[int | None, typer.Option(min=1, help="The longest completion.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Ask again where there was no answer.")] = False,
    root: Annotated[Path | None, typer.Option(help="Where relative paths of pictures start.")] = None,
    train: Annotated[
        Path | None, typer.Option(help="Training rows for baselines that learn from some; DATA's folder by default.")
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    adapter: Adapter = None,
    template: Template = None,
    coordinates: Annotated[str | None, typer.Option(help="Space that the reasoner writes in; see ground.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests to an endpoint at once.")] = 8,
    prices: Annotated[
        str | None, typer.Option(help="IN,OUT: what an endpoint takes for a million input and output tokens.")
    ] = None,
    max_cost: Annotated[float | None, typer.Option(min=0, help="The most that the run may cost; needs prices.")] = None,
    per_minute: Annotated[float | None, typer.Option(min=0, help="The most requests to an endpoint a minute.")] = None,
) -> None:
    """Ask a reasoner every question of a data set, of grounding or visual; resumable, scored from what is written."""
    from medground.data.schema import parquet_files
    from medground.evaluate.planning import is_visual
    from medground.evaluate.run import evaluate as run
    from medground.segmenters import load_segmenter

    files = [file for path in data for file in parquet_files(path)]  # a wrong path shows before models are loaded
    visual = any(map(is_visual, files))
    models: dict[str, Any] = {"device": device, "dtype": dtype}
    asking: dict[str, Any] = {"template": template, "coordinates": coordinates}
    for name in prompts or ():
        if name not in ("points", "box", "both"):
            raise ConfigError(f"--prompts {name!r} isn't known; choose points, box or both")
    options: dict[str, Any] = {"mode": mode, "split": split, "limit": limit, "samples": samples, "seed": seed}
    options |= {"temperature": temperature, "prompts": prompts or None, "oracle": oracle, "variant": variant}
    options |= {"embeddings": embeddings, "shard": _shard(shard), "batch": batch, "root": root}
    options |= {"max_new_tokens": max_new_tokens, "retry_failed": retry_failed}
    try:
        with _bar() as progress, contextlib.redirect_stdout(sys.stderr):
            account = {"prices": read_prices(prices), "max_cost": max_cost, "per_minute": per_minute}
            remote = reasoner.startswith(("http://", "https://"))
            if not remote and any(each is not None for each in account.values()):
                raise ConfigError("--prices, --max-cost and --per-minute are for endpoints; leave them out")
            if reasoner.startswith(BASELINE):
                asked: Any = _baseline(reasoner.removeprefix(BASELINE), train or _folder(data[0]), visual)
            elif reasoner.startswith(STORED):
                asked = _stored(Path(reasoner.removeprefix(STORED)), coordinates or "pixels")
            elif remote:
                asked = _endpoint(reasoner, out, adapter, account, **asking, max_concurrency=concurrency)
            else:
                asked = _local(reasoner, adapter=adapter, batch_size=batch, **models, **asking)
            drawn = None if segmenter == "none" or visual else load_segmenter(segmenter, **models)
            run(data, out, reasoner=asked, segmenter=drawn, progress=progress, **options)
    except KeyboardInterrupt:
        typer.echo("medground: stopped; the same command goes on", err=True)
        raise typer.Exit(130) from None
    _summary(out, progress.end)


def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders that eval wrote.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for report.html and report.md.", show_default=False)],
    data: Annotated[
        Path | None, typer.Option(help="The rows' parquet file or folder, for the pictures.", show_default=False)
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Where relative paths of pictures start.")] = None,
    title: Annotated[str, typer.Option(help="The page's; the first model's name by default.")] = "",
    pictures: Annotated[bool, typer.Option(help="Whether cases show the data set's pictures.")] = True,
    source: Annotated[
        list[str] | None, typer.Option(help="Show pictures of this source alone; may be repeated.")
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(help="https://host/v1#model that judges answers to open visual questions; else rules do."),
    ] = None,
) -> None:
    """Compare runs on one self-contained page, and in a Markdown table."""
    from medground.evaluate.report import build_report

    options: dict[str, Any] = {"data": data, "root": root, "title": title, "pictures": pictures}
    if judge is not None:
        from medground.rewards.endpoint_judge import EndpointJudge

        options["judge"] = EndpointJudge(judge)
    made = build_report(runs, out, sources=source or None, **options)
    typer.echo(str(made.page))
    typer.echo(str(made.markdown))
    typer.echo(RESEARCH_USE)


BASELINE, STORED = "baseline:", "stored:"


def _stored(file: Path, coordinates: str) -> Any:
    from medground.evaluate.stored import read_stored

    return read_stored(file, coordinates=coordinates)


def _baseline(name: str, training: Path, visual: bool) -> Any:
    from medground.data.schema import read_rows
    from medground.evaluate.baselines import load_baseline
    from medground.evaluate.planning import given_rows
    from medground.evaluate.vqa.baselines import load_visual_baseline

    if visual:
        return load_visual_baseline(name, _questions(given_rows(training)))
    return load_baseline(name, read_rows(training, split="train") if name == "category-prior" else ())


def _questions(rows: Any) -> Iterator[VqaRow]:
    from medground.data.vqa_rows import VqaRow

    yield from (row for row, _ in rows if isinstance(row, VqaRow) and row.split in ("train", ""))


def _local(spec: str, **options: Any) -> Any:
    from medground.reasoners import load_reasoner

    return load_reasoner(spec, **options)


def _endpoint(spec: str, out: Path, adapter: str | None, account: dict[str, Any], **options: Any) -> Any:
    """Return an endpoint, with an account where prices or limits are given: its answers are then kept in OUT/paid."""
    if any(each is not None for each in account.values()) and adapter is None:
        from medground.evaluate.paid import PaidReasoner

        return PaidReasoner(spec, out / "paid", **account, **options)
    return _local(spec, adapter=adapter, **options)


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _shard(text: str) -> tuple[int, int]:
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal()):
        raise ConfigError(f"--shard {text!r} isn't I/N; the first of four is 0/4")
    return int(index), int(count)


class _Shown:
    """What a run calls with its progress: moves the bar."""

    def __init__(self, bar: Any) -> None:
        self.bar, self.task = bar, None
        self.end: EvalProgress | None = None

    def __call__(self, now: EvalProgress) -> None:
        if self.task is None:
            self.task = self.bar.add_task("", total=now.total, completed=now.found)
        self.end = now
        failed = f"{now.failed} failed" if now.failed else ""
        self.bar.update(self.task, completed=now.found + now.done, description=failed)


@contextlib.contextmanager
def _bar() -> Iterator[_Shown]:
    bar = counting_bar("{task.completed}/{task.total} rows")
    with bar:
        yield _Shown(bar)


def _summary(out: Path, end: EvalProgress | None) -> None:
    """Print the means that matter, over all rows that are answered so far."""
    from medground.evaluate.predictions import read_run, task_of
    from medground.evaluate.score import score_run
    from medground.evaluate.vqa.predictions import read_visual_run
    from medground.evaluate.vqa.score import score_visual_run
    from medground.metrics import nanmean

    visual = bool(task_of(out))
    scored: Any = score_visual_run(read_visual_run(out)) if visual else score_run(read_run(out))
    names = ["box_iou", "pdice", "dice", "dice_oracle", "absence", "readable"]
    if visual:
        names = ["closed", "single", "multi", "open", "v_score", "agreement", "right_elsewhere", "wrong_there"]
    if end is not None:
        earlier = f", {end.found} were there already" if end.found else ""
        left = f", {end.left_out} left out by the variant" if end.left_out else ""
        typer.echo(f"{end.done} of {end.total} rows done{earlier}{left}; {end.failed} failed: {out}")
    for name in names:
        found = nanmean(scored.column(name))
        if found.n:
            typer.echo(f"{name} {found.mean:.4f} ({found.n} rows)")
    typer.echo(RESEARCH_USE)
