"""Options that several commands have, said once, and how their values are read."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from medground.errors import ConfigError

__all__ = [
    "Adapter",
    "AsJson",
    "AskMode",
    "Axis",
    "Coordinates",
    "Device",
    "Dtype",
    "Frame",
    "MaxCost",
    "Prices",
    "ReasonerName",
    "Seed",
    "SegmenterName",
    "Slice",
    "Temperature",
    "Template",
    "Window",
    "read_prices",
]

ReasonerName = Annotated[
    str, typer.Option(help="nano, a model folder or hub id, or https://host/v1#model for an endpoint.")
]
SegmenterName = Annotated[str, typer.Option(help="litemedsam, a folder or hub id of a SAM-family model, or none.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16, float16.")]
Adapter = Annotated[str | None, typer.Option(help="Folder of a LoRA adapter for the reasoner.")]
Template = Annotated[str | None, typer.Option(help="Prompt template; the model's own by default.")]
Coordinates = Annotated[
    str | None,
    typer.Option(help="Space that the reasoner writes in: pixels, 'resized pixels', 0-1, 0-1000; ' yx' where y first."),
]
AskMode = Annotated[Literal["reason", "direct"], typer.Option(help="Reason before answering, or not.")]
Temperature = Annotated[float, typer.Option(min=0, help="0 is greedy and repeatable.")]
Seed = Annotated[int | None, typer.Option(help="Makes sampling repeatable.")]
Frame = Annotated[int | None, typer.Option(min=0, help="Frame of a DICOM, page of a TIFF, volume of a NIfTI; from 0.")]
Axis = Annotated[Literal["axial", "coronal", "sagittal"] | None, typer.Option(help="Plane to cut from a NIfTI volume.")]
Slice = Annotated[int | None, typer.Option("--slice", min=0, help="Slice of a NIfTI volume; from 0.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Prices = Annotated[str | None, typer.Option(help="IN,OUT: price of a million tokens read and written.")]
MaxCost = Annotated[float | None, typer.Option(min=0, help="Stop before the model has cost more; needs --prices.")]
Window = Annotated[
    str | None, typer.Option("--window", help="CENTRE,WIDTH in the image's units, such as 40,400; --window=-600,1500.")
]


def read_prices(text: str | None) -> tuple[float, float] | None:
    """Return the two prices that `Prices` holds; None stays None.

    Raises
    ------
    ConfigError
        When it isn't two numbers.

    Examples
    --------
    >>> read_prices("0.2,1.6")
    (0.2, 1.6)
    """
    if text is None:
        return None
    try:
        of_input, of_output = (float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--prices {text!r} isn't IN,OUT; write it like --prices 0.2,1.6") from None
    return of_input, of_output
