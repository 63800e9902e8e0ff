"""The command line: thin, each command is a library function. Anything heavy is imported inside the commands."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medground import RESEARCH_USE, __version__
from medground._options import (
    Adapter,
    AsJson,
    AskMode,
    Axis,
    Coordinates,
    Device,
    Dtype,
    Frame,
    ReasonerName,
    Seed,
    SegmenterName,
    Slice,
    Temperature,
    Template,
    Window,
)
from medground._terminal import as_text, plain, working
from medground._terminal import window as read_window
from medground.data_cli import app as data_app
from medground.deid_cli import deid
from medground.errors import ConfigError, MedgroundError, ParseError
from medground.eval_cli import evaluate, report
from medground.hub_cli import app as hub_app
from medground.pacs_cli import pacs
from medground.serve_cli import serve
from medground.train_cli import app as train_app
from medground.vqa_cli import ask

if TYPE_CHECKING:
    from medground.batch import BatchProgress
    from medground.pipeline import MedGround
    from medground.types import Result

__all__ = ["app", "main"]

app = typer.Typer(
    name="medground",
    help=f"Ask about a medical image: get reasoning, a box, two key points and a pixel mask. {RESEARCH_USE}",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help is faster, and cuts no words off on narrow terminals
    add_completion=False,
    # A pretty traceback can show local variables: pixels, questions, patient fields.
    pretty_exceptions_enable=False,
)


app.add_typer(data_app)
app.add_typer(train_app)
app.add_typer(hub_app)


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; errors that a user can act on become one sentence and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app(args, prog_name="medground")
    except MedgroundError as error:
        typer.echo(f"medground: {plain(str(error))}", err=True)
        if isinstance(error, ParseError) and error.completion is not None:
            typer.echo(f"The reasoner wrote: {plain(error.completion) or '(nothing)'}", err=True)
        sys.exit(2)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"medground {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def ground(
    image: Annotated[
        str | None, typer.Argument(help="PNG, JPEG, TIFF, BMP, DICOM or NIfTI file.", show_default=False)
    ] = None,
    question: Annotated[
        str | None, typer.Argument(help="What to find; it needn't name the target.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for overlay PNG, mask PNG and JSON, or for a batch's results.jsonl.")
    ] = None,
    as_json: AsJson = False,
    reasoner: ReasonerName = "nano",
    segmenter: SegmenterName = "litemedsam",
    device: Device = "auto",
    dtype: Dtype = "auto",
    adapter: Adapter = None,
    template: Template = None,
    coordinates: Coordinates = None,
    mode: AskMode = "reason",
    temperature: Temperature = 0.0,
    seed: Seed = None,
    frame: Frame = None,
    axis: Axis = None,
    slice_: Slice = None,
    window: Window = None,
    batch: Annotated[
        Path | None,
        typer.Option(help="JSON Lines file with id, image and question a line, or a folder (and one QUESTION)."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Questions given to the reasoner at once.")] = 8,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="In a batch, do rows again that failed before.")
    ] = False,
    dicom: Annotated[
        Path | None, typer.Option(help="Folder for a DICOM-SEG and a structured report; IMAGE must be a DICOM.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="What the DICOM objects name in coded terms, such as 'kidney left'; by default what the reasoning "
            "plainly names."
        ),
    ] = None,
) -> None:
    """Answer a question about an image, or a batch of them (--batch, resumable)."""
    from medground.pipeline import MedGround

    models = {"reasoner": reasoner, "segmenter": segmenter, "adapter": adapter, "template": template}
    reading = {"frame": frame, "axis": axis, "slice": slice_, "window": read_window(window)}
    asking: dict[str, Any] = {"mode": mode, "temperature": temperature, "seed": seed}
    grounder = MedGround(
        reasoner,
        None if segmenter == "none" else segmenter,
        device=device,
        dtype=dtype,
        adapter=adapter,
        template=template,
        coordinates=coordinates,
        batch_size=batch_size,
    )
    if batch is not None:
        if image is not None and question is not None:
            raise ConfigError(
                "with --batch there is no IMAGE; give the one QUESTION for a folder, or nothing for a file"
            )
        if dicom is not None:
            raise ConfigError("--dicom is for one picture; ground each apart, or a PACS's with medground pacs")
        if out is None:
            raise ConfigError("a batch needs --out DIR, where its results.jsonl is kept")
        settings = {**models, "coordinates": coordinates}
        asking |= {"batch_size": batch_size, "retry_failed": retry_failed}
        _batch(grounder, batch, image or question, out, reading, settings, asking, as_json)
        return
    if image is None or question is None:
        raise ConfigError('ground needs an image and a question: medground ground IMAGE "QUESTION"')
    if retry_failed:
        raise ConfigError("--retry-failed is for batches; add --batch or leave it out")
    if target is not None and dicom is None:
        raise ConfigError("--target names what DICOM objects hold; add --dicom FOLDER, or leave it out")
    _one(grounder, image, question, out, reading, asking, as_json, dicom, target)


app.command()(ask)
app.command()(serve)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the page.")] = Path("demo-output"),
    reasoner: Annotated[str, typer.Option(help="As for ground.")] = "nano",
    segmenter: Annotated[str, typer.Option(help="As for ground.")] = "litemedsam",
    device: Annotated[str, typer.Option(help="As for ground.")] = "auto",
) -> None:
    """Ground real images that installed packages carry, and write one HTML page with the pictures."""
    from medground.demo import run_demo
    from medground.pipeline import MedGround

    with working("Grounding the demo's images"), contextlib.redirect_stdout(sys.stderr):
        grounder = MedGround(reasoner, None if segmenter == "none" else segmenter, device=device)
        page, skipped = run_demo(grounder, out)
    for reason in skipped:
        typer.echo(f"skipped: {plain(reason)}", err=True)
    typer.echo(str(page))
    typer.echo(RESEARCH_USE, err=True)


@app.command()
def doctor(
    as_json: AsJson = False,
    quick: Annotated[bool, typer.Option("--quick", help="Leave out what loads models.")] = False,
) -> None:
    """Check the installation, draw a known box through every coordinate space, and say what is missing."""
    from medground.doctor import examine

    with working("Checking"), contextlib.redirect_stdout(sys.stderr):
        checks = examine(run_models=not quick)
    broken = [check for check in checks if check.status == "broken"]
    if as_json:
        report = [{name: getattr(check, name) for name in ("name", "status", "detail", "remedy")} for check in checks]
        typer.echo(json.dumps({"ok": not broken, "version": __version__, "checks": report}))
    else:
        from rich.console import Console
        from rich.table import Table

        table = Table(box=None, pad_edge=False, show_header=False)
        colours = {"ok": "green", "missing": "yellow", "broken": "bold red"}
        for check in checks:
            told = check.detail if check.remedy is None else f"{check.detail}\n-> {check.remedy}"
            table.add_row(f"[{colours[check.status]}]{check.status}[/]", check.name, as_text(told))
        console = Console(highlight=False)
        console.print(table)
        console.print(f"{len(broken)} broken" if broken else "Nothing that is needed is broken.")
        console.print(RESEARCH_USE)
    if broken:
        raise typer.Exit(1)


app.command("eval")(evaluate)
app.command()(report)
app.command()(pacs)
app.command()(deid)


def _one(
    grounder: MedGround,
    path: str,
    question: str,
    out: Path | None,
    reading: dict[str, Any],
    asking: dict[str, Any],
    as_json: bool,
    dicom: Path | None,
    target: str | None,
) -> None:
    from medground.images import load_image

    with working("Reading the image and asking", quiet=as_json), contextlib.redirect_stdout(sys.stderr):
        # The image first: a wrong path shows before models are loaded.
        picture = load_image(path, **reading)
        if dicom is not None and picture.provenance.format != "dicom":
            raise ConfigError(f"--dicom: {path} isn't a DICOM; give one, or leave --dicom out")
        result = grounder.ground(picture, question, **asking)
        written: list[Path | None] = []
        if out is not None:
            from medground.drawing import save_result

            saved = save_result(result, picture, out)
            written += [saved.overlay, saved.mask, saved.json]
        if dicom is not None and (result.box is not None or result.points or result.mask is not None):
            from medground.dicom import save_dicom

            objects = save_dicom(result, path, dicom, target=target)
            written += [objects.seg, objects.sr]
    if as_json:
        typer.echo(json.dumps(result.to_dict(), allow_nan=False))
        return
    _show(result)
    for file in filter(None, written):
        typer.echo(f"wrote {file}")
    typer.echo(RESEARCH_USE)


def _batch(
    grounder: MedGround,
    source: Path,
    question: str | None,
    out: Path,
    reading: dict[str, Any],
    settings: dict[str, Any],
    asking: dict[str, Any],
    as_json: bool,
) -> None:
    from medground._progress import counting_bar
    from medground.batch import read_pairs, run_batch

    pairs = read_pairs(source, question, **reading)
    bar = counting_bar("{task.completed}/{task.total}")
    bar.disable = as_json
    task = bar.add_task("", total=len(pairs))

    def on_row(now: BatchProgress) -> None:
        failed = f"{now.failed} failed" if now.failed else ""
        bar.update(task, completed=now.found + now.done, description=failed)

    try:
        with bar, contextlib.redirect_stdout(sys.stderr):
            end = run_batch(grounder, pairs, out, settings=settings, on_row=on_row, **asking)
    except KeyboardInterrupt:
        typer.echo("medground: stopped; the same command continues the batch", err=True)
        raise typer.Exit(130) from None
    summary = {"rows": end.total, "found": end.found, "done": end.done, "failed": end.failed}
    if as_json:
        typer.echo(json.dumps({**summary, "results": str(out / "results.jsonl")}))
    else:
        earlier = f", {end.found} were there already" if end.found else ""
        typer.echo(f"{end.done} of {end.total} rows done{earlier}; {end.failed} failed: {out / 'results.jsonl'}")
        typer.echo(RESEARCH_USE)
    if end.failed:
        if not as_json:
            typer.echo("the same command with --retry-failed does the failed rows again", err=True)
        raise typer.Exit(1)


def _show(result: Result) -> None:
    from rich.console import Console
    from rich.table import Table

    from medground.wording import describe

    console = Console(highlight=False)
    if result.reasoning:
        console.print(as_text(result.reasoning), style="italic")
        console.print()
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    for name, words in describe(result):
        table.add_row(name, as_text(words))
    console.print(table)
