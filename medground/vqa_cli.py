"""``medground ask``: a visual question about an image, answered with the regions that the answer rests on."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from medground import RESEARCH_USE
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
from medground._terminal import as_text, window, working

if TYPE_CHECKING:
    from medground.types import Reply

__all__ = ["ask"]


def ask(
    image: Annotated[str, typer.Argument(help="PNG, JPEG, TIFF, BMP, DICOM or NIfTI file.", show_default=False)],
    question: Annotated[str, typer.Argument(help="What to answer, without its choices.", show_default=False)],
    choices: Annotated[
        list[str] | None, typer.Option(help="A choice, 2 to 26 of them; once for each, in the order of A, B, ...")
    ] = None,
    kind: Annotated[
        Literal["open", "closed", "single", "multi"] | None,
        typer.Option("--type", help="Of the question: in words, yes or no, one choice, all right choices."),
    ] = None,
    earlier: Annotated[
        list[Path] | None,
        typer.Option(help="JSON of an earlier reply about this image, to whose regions the question may refer."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the overlay PNG with its legend, a mask PNG per region, and JSON.")
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
    max_new_tokens: Annotated[int | None, typer.Option(min=1, help="The longest completion.")] = None,
    seed: Seed = None,
    frame: Frame = None,
    axis: Axis = None,
    slice_: Slice = None,
    window_: Window = None,
) -> None:
    """Answer a question about an image in words or by a choice, with the regions that the answer rests on."""
    from medground.answers import question_type
    from medground.asking import read_earlier
    from medground.images import load_image
    from medground.pipeline import MedGround

    with working("Reading the image and asking", quiet=as_json), contextlib.redirect_stdout(sys.stderr):
        picture = load_image(image, frame=frame, axis=axis, slice=slice_, window=window(window_))
        regions = [region for file in earlier or () for region in read_earlier(file, picture.space)]
        grounder = MedGround(
            reasoner,
            None if segmenter == "none" else segmenter,
            device=device,
            dtype=dtype,
            adapter=adapter,
            template=template,
            coordinates=coordinates,
        )
        reply = grounder.ask(
            picture,
            question,
            choices=choices or (),
            question_type=None if kind is None else question_type(kind),
            earlier=regions,
            mode=mode,
            temperature=temperature,
            max_new_tokens=max_new_tokens,
            seed=seed,
        )
        files: list[Path] = []
        if out is not None:
            from medground.drawing import save_reply

            saved = save_reply(reply, picture, out)
            files = [saved.overlay, *saved.masks, saved.json]
    if as_json:
        typer.echo(json.dumps(reply.to_dict(), allow_nan=False))
        return
    _show(reply)
    for file in files:
        typer.echo(f"wrote {file}")
    typer.echo(RESEARCH_USE)


def _show(reply: Reply) -> None:
    from rich.console import Console
    from rich.table import Table

    from medground.wording import describe_reply

    console = Console(highlight=False)
    if reply.reasoning:
        console.print(as_text(reply.reasoning), style="italic")
        console.print()
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    for name, words in describe_reply(reply):
        table.add_row(name, as_text(words))
    console.print(table)
