"""``medground data``: make, check, convert and look at data sets; each command is a library function."""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from medground._options import AsJson, MaxCost, Prices, read_prices
from medground.data_vqa_cli import vqa
from medground.errors import ConfigError, MedgroundError

if TYPE_CHECKING:
    from medground.data.grammar import Words
    from medground.data.stages import StageProgress, StageReport

__all__ = ["app"]

app = typer.Typer(
    name="data",
    help="Make, check, convert and look at data sets of grounding questions.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Out = Annotated[Path, typer.Argument(help="The build's folder.", show_default=False)]
Rows = Annotated[list[Path], typer.Argument(help="Parquet files, or folders of them.", show_default=False)]
Root = Annotated[Path | None, typer.Option(help="Folder at which relative paths of pictures start; the file's own.")]
Layout = Literal["umrg", "verl", "swift", "coco", "trl", "csv"]
Workers = Annotated[int, typer.Option(min=0, help="Processes; 0 is one a core.")]
Restart = Annotated[bool, typer.Option("--restart", help="Do the stage again from its beginning.")]
OnRay = Annotated[bool, typer.Option("--ray", help="Run the shards on a Ray cluster.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same bytes.")]
Model = Annotated[
    str | None, typer.Option(help="https://host/v1#model finds the words, instead of the offline grammar.")
]
Shown = Annotated[Literal["nothing", "picture", "outline"], typer.Option(help="What the model is shown.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="KEY=VALUE of the layout, such as template=umrg-v1; may be repeated.")
]


@app.command()
def clean(
    sources: Annotated[
        list[Path],
        typer.Argument(help="Folders of pictures with masks, or a .toml or .csv about one.", show_default=False),
    ],
    out: Annotated[Path, typer.Option(help="The build's folder.", show_default=False)],
    component: Annotated[
        Literal["largest", "all", "each"], typer.Option(help="What of a mask in several parts is a target.")
    ] = "largest",
    min_pixels: Annotated[int, typer.Option(min=1, help="Leave out smaller targets.")] = 16,
    min_share: Annotated[float, typer.Option(min=0, max=1, help="Of the picture's area.")] = 0.0,
    max_share: Annotated[float, typer.Option(min=0, max=1, help="Of the picture's area.")] = 0.95,
    every: Annotated[int, typer.Option(min=0, help="Of a volume: each n-th slice; 0 is the largest alone.")] = 0,
    most: Annotated[int | None, typer.Option(min=1, help="Of a volume: slices for each label at most.")] = None,
    apart: Annotated[int, typer.Option(min=1, help="Of a volume: slices from one to the next at least.")] = 1,
    shares: Annotated[str, typer.Option(help="TRAIN,VAL,TEST of patients whose source has no split.")] = "0.8,0.1,0.1",
    seed: Seed = 0,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out what can't be read, and say so.")] = False,
    workers: Workers = 0,
    ray: OnRay = False,
    restart: Restart = False,
) -> None:
    """First stage: pictures and masks, volumes and DICOM-SEG to targets with box, key points and split."""
    from medground.data.clean import clean as run
    from medground.data.volumes import SliceChoice

    train, val, test = _numbers("--shares", shares, 3)
    with _progress() as progress:
        report = run(
            sources,
            out,
            component=component,
            min_pixels=min_pixels,
            min_share=min_share,
            max_share=max_share,
            slices=SliceChoice(every, most, apart),
            shares=(train, val, test),
            seed=seed,
            skip_bad=skip_bad,
            workers=workers,
            ray=ray,
            restart=restart,
            progress=progress,
        )
    _told(report.stage, "targets", report.dropped)


@app.command()
def describe(
    out: Out,
    seed: Seed = 0,
    model: Model = None,
    shown: Shown = "nothing",
    prices: Prices = None,
    max_cost: MaxCost = None,
    workers: Workers = 0,
    ray: OnRay = False,
    restart: Restart = False,
) -> None:
    """Second stage: measure each target in its picture, and describe it, short and long."""
    from medground.data.describe import describe as run

    words = _words(model, out, seed, shown, prices, max_cost)
    with _progress() as progress:
        report = run(out, seed=seed, words=words, workers=workers, ray=ray, restart=restart, progress=progress)
    _told(report, "targets described")


@app.command()
def ask(
    out: Out,
    rows: Annotated[int | None, typer.Option(min=1, help="In all; five for every three targets without it.")] = None,
    absent: Annotated[float, typer.Option(min=0, max=0.5, help="Share of questions for what isn't there.")] = 0.1,
    cap: Annotated[float, typer.Option(min=0, max=1, help="Largest share of a category in train.")] = 0.12,
    seed: Seed = 0,
    model: Model = None,
    shown: Shown = "nothing",
    prices: Prices = None,
    max_cost: MaxCost = None,
    workers: Workers = 0,
    ray: OnRay = False,
    restart: Restart = False,
) -> None:
    """Third stage: implicit questions and true reasoning, gated; what a gate refused is kept aside with the reason."""
    from medground.data.ask import ask as run
    from medground.data.ask import reasons
    from medground.data.plan import Quota

    words = _words(model, out, seed, shown, prices, max_cost)
    quota = Quota(rows=rows, absent=absent, cap=cap)
    with _progress() as progress:
        report = run(
            out, seed=seed, quota=quota, words=words, workers=workers, ray=ray, restart=restart, progress=progress
        )
    _told(report, "questions", reasons(out))


@app.command()
def assemble(
    out: Out,
    title: Annotated[str, typer.Option(help="The card's heading; the folder's name without it.")] = "",
    embed: Annotated[bool, typer.Option("--embed", help="Put the pictures into the files.")] = False,
    reviewed_only: Annotated[
        bool, typer.Option("--reviewed-only", help="Leave out what nobody accepted or edited.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Draws the rows of the sheet.")] = 0,
) -> None:
    """Write the build's parquet files, people's decisions applied, with a card, its statistics and a sheet."""
    from medground.data.assemble import assemble as run

    report = run(out, embed=embed, reviewed_only=reviewed_only, title=title, seed=seed)
    for file, (name, count) in zip(report.files, report.rows.items(), strict=True):
        typer.echo(f"{count} rows ({name}): {file}")
    for record, reason in report.refused:
        typer.echo(f"left out: {record}, edited, because {reason}", err=True)
    typer.echo(f"card: {out / 'README.md'}; sheet: {out / 'sheet.png'}")


app.command()(vqa)


@app.command()
def review(
    out: Out,
    host: Annotated[str, typer.Option(help="Any but this machine's own address demands a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8765,
    token: Annotated[
        str | None, typer.Option(envvar="MEDGROUND_TOKEN", help="16 characters or more; made where one is needed.")
    ] = None,
    reviewer: Annotated[str, typer.Option(help="What the page calls you at first.")] = "",
) -> None:
    """Serve a page to accept, edit or reject questions, by keyboard; decisions go to OUT/review.jsonl."""
    from medground.data.gates import refuse
    from medground.data.review.server import serve

    serve(
        out,
        host=host,
        port=port,
        token=token,
        reviewer=reviewer,
        check=refuse,
        ready=lambda address: typer.echo(f"{address}  (Ctrl+C ends it)"),
    )


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="File or folder in the other layout.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="Parquet file to write.", show_default=False)],
    layout: Annotated[Layout, typer.Option("--from", help="The other layout.", show_default=False)],
    embed: Annotated[bool, typer.Option("--embed", help="Put pictures and masks into the file.")] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out rows that can't be read, and say so.")
    ] = False,
    settings: Settings = None,
) -> None:
    """Read another layout's data set into U-MRG's."""
    from medground.data.layouts import import_rows
    from medground.data.schema import write_rows

    bad: list[MedgroundError] = []
    options = _settings(settings) | ({"on_bad": bad.append} if skip_bad else {})
    # Relative paths in the source start at its own folder.
    root = source if source.is_dir() else source.parent
    count = write_rows(import_rows(source, layout, **options), out, embed=embed, root=root)
    for error in bad[:10]:
        typer.echo(f"left out: {error}", err=True)
    typer.echo(f"{count} rows, {len(bad)} left out: {out}")
    if bad:
        raise typer.Exit(1)


@app.command()
def export(
    source: Annotated[Path, typer.Argument(help="Parquet file, or a folder of them.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="File to write.", show_default=False)],
    layout: Annotated[Layout, typer.Option("--to", help="The other layout.", show_default=False)],
    split: Annotated[str | None, typer.Option(help="Rows of this split alone.")] = None,
    coordinates: Annotated[str | None, typer.Option(help="pixels, 0-1, 0-1000; each row's own by default.")] = None,
    copy_images: Annotated[
        bool, typer.Option("--copy-images", help="Copy pictures and masks beside the file (text layouts).")
    ] = False,
    embed: Annotated[bool, typer.Option("--embed", help="Put pictures and masks into the file (parquet).")] = False,
    root: Root = None,
    settings: Settings = None,
) -> None:
    """Write a data set in another layout; what it can't hold is told."""
    from medground.data.layouts import export_rows
    from medground.data.schema import read_rows

    notes: list[str] = []
    options: dict[str, Any] = _settings(settings) | {"root": root or (source if source.is_dir() else source.parent)}
    options |= {"coordinates": coordinates} if coordinates else {}
    options |= {"copy_images": True} if copy_images else {}
    options |= {"embed": True} if embed else {}
    count = export_rows(read_rows(source, split=split), out, layout, on_note=notes.append, **options)
    for note in notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo(f"{count} rows: {out}")


@app.command()
def validate(
    sources: Rows,
    root: Root = None,
    split: Annotated[list[str] | None, typer.Option(help="Rows of these splits alone; may be repeated.")] = None,
    tolerance: Annotated[float, typer.Option(min=0, help="Pixels by which a box may miss its mask's.")] = 1.0,
    near: Annotated[
        int | None, typer.Option(min=-1, help="Bits by which hashes of one picture in two splits may differ; -1: none.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="JSON Lines file for every finding.")] = None,
    workers: Workers = 0,
) -> None:
    """Name each bad row, its field and the remedy; nothing is edited. Exit code 1 when rows are bad."""
    from medground.data.duplicates import NEAR
    from medground.data.validate import validate as run

    with _counting("rows checked") as progress:
        report = run(
            sources,
            root=root,
            splits=split,
            tolerance=tolerance,
            near=NEAR if near is None else near,
            out=out,
            workers=workers or os.cpu_count() or 1,
            progress=progress,
        )
    typer.echo(report.to_text())
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def stats(
    sources: Rows,
    root: Root = None,
    as_json: AsJson = False,
    boxes: Annotated[bool, typer.Option("--boxes", help="Measure targets by their boxes; masks aren't read.")] = False,
) -> None:
    """Count rows, pictures, patients, categories, words and sizes, as a data set's table has them."""
    from medground.data.stats import statistics

    with _counting("rows counted") as progress:
        told = statistics(sources, root=root, masks=not boxes, progress=progress)
    typer.echo(json.dumps(told.to_dict()) if as_json else told.to_markdown())


@app.command()
def show(
    sources: Rows,
    out: Annotated[Path | None, typer.Option(help="PNG with the rows as pictures; as text without it.")] = None,
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="How many rows.")] = 12,
    seed: Annotated[int | None, typer.Option(help="Draw them by chance; the first ones without it.")] = None,
    ids: Annotated[list[str] | None, typer.Option("--id", help="This row; may be repeated.")] = None,
    category: Annotated[str | None, typer.Option(help="Rows of this category alone.")] = None,
    modality: Annotated[str | None, typer.Option(help="Rows of this modality alone.")] = None,
    split: Annotated[str | None, typer.Option(help="Rows of this split alone.")] = None,
    root: Root = None,
) -> None:
    """Show rows: a sheet of pictures with box, points, mask and words, or text."""
    from medground.data.show import as_text, pick_rows
    from medground.data.show import show as draw

    rows = pick_rows(
        sources,
        number=number,
        seed=seed,
        ids=ids or (),
        category=category,
        modality=modality,
        split=split,
        root=root,
    )
    if out is None:
        typer.echo("\n\n".join(as_text(row) for row, _ in rows))
    else:
        typer.echo(str(draw(rows, out)))


def _words(
    model: str | None, out: Path, seed: int, shown: str, prices: str | None, max_cost: float | None
) -> Words | None:
    if model is None:
        for name, value in (("--prices", prices), ("--max-cost", max_cost)):
            if value is not None:
                raise ConfigError(f"{name} is about a model; add --model or leave it out")
        return None
    from medground.data.stages import read_stage
    from medground.data.writer import Writer

    root = read_stage(out / "clean").get("root")
    return Writer(
        model,
        out / "words",
        root=root,
        shown=shown,  # type: ignore[arg-type]  # typer has checked it
        prices=read_prices(prices),
        max_cost=max_cost,
        seed=seed,
    )


def _numbers(option: str, text: str, count: int) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        raise ConfigError(f"{option} {text!r} isn't {count} numbers with commas between them")
    return numbers


def _settings(pairs: list[str] | None) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for pair in pairs or ():
        key, separator, value = pair.partition("=")
        if not (separator and key):
            raise ConfigError(f"--set {pair!r} isn't KEY=VALUE")
        settings[key] = {"true": True, "false": False}.get(value, value)
    return settings


def _told(report: StageReport, what: str, left_out: dict[str, int] | Counter[str] | None = None) -> None:
    earlier = f" ({report.found} of {report.shards} shards were there already)" if report.found else ""
    typer.echo(f"{report.records.get('', 0)} {what}: {report.folder}{earlier}")
    for reason, count in sorted((left_out or {}).items()):
        typer.echo(f"left out: {count} because {reason}")


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[StageProgress], None]]:
    from rich import progress
    from rich.console import Console

    bar = progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.TextColumn("{task.completed}/{task.total} shards"),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    task = bar.add_task("", total=None)

    def show(now: StageProgress) -> None:
        bar.update(task, description=now.name, total=now.total, completed=now.found + now.made + now.failed)

    try:
        with bar:
            yield show
    except KeyboardInterrupt:
        typer.echo("medground: stopped; the same command continues", err=True)
        raise typer.Exit(130) from None


@contextlib.contextmanager
def _counting(what: str) -> Iterator[Callable[[int], None]]:
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda count: None
        return
    with console.status("") as status:
        yield lambda count: status.update(f"{count} {what}")
