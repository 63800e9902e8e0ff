"""``medground ask``: a visual question about an image, answered with the regions that the answer rests on."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from medground import RESEARCH_USE
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
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    reasoner: Annotated[
        str, typer.Option(help="nano, a model folder or hub id, or https://host/v1#model for an endpoint.")
    ] = "nano",
    segmenter: Annotated[
        str, typer.Option(help="litemedsam, a folder or hub id of a SAM-family model, or none.")
    ] = "litemedsam",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16.")] = "auto",
    adapter: Annotated[str | None, typer.Option(help="Folder of a LoRA adapter for the reasoner.")] = None,
    template: Annotated[str | None, typer.Option(help="Prompt template; the model's own by default.")] = None,
    coordinates: Annotated[
        str | None,
        typer.Option(
            help="Space that the reasoner writes in: pixels, 'resized pixels', 0-1, 0-1000; ' yx' where y first."
        ),
    ] = None,
    mode: Annotated[Literal["reason", "direct"], typer.Option(help="Reason before answering, or not.")] = "reason",
    temperature: Annotated[float, typer.Option(min=0, help="0 is greedy and repeatable.")] = 0.0,
    max_new_tokens: Annotated[int | None, typer.Option(min=1, help="The longest completion.")] = None,
    seed: Annotated[int | None, typer.Option(help="Makes sampling repeatable.")] = None,
    frame: Annotated[
        int | None, typer.Option(min=0, help="Frame of a DICOM, page of a TIFF, volume of a NIfTI; from 0.")
    ] = None,
    axis: Annotated[
        Literal["axial", "coronal", "sagittal"] | None, typer.Option(help="Plane to cut from a NIfTI volume.")
    ] = None,
    slice_: Annotated[int | None, typer.Option("--slice", min=0, help="Slice of a NIfTI volume; from 0.")] = None,
    window_: Annotated[
        str | None,
        typer.Option("--window", help="CENTRE,WIDTH in the image's units, such as 40,400; --window=-600,1500."),
    ] = None,
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
