"""``medground hub``: what goes to the Hugging Face hub; each command is a library function. Nothing is uploaded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["app"]

app = typer.Typer(
    name="hub",
    help="Write what goes to the Hugging Face hub; nothing is uploaded.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def _hub() -> None:
    """Keep the command's name although it is the only one."""


@app.command()
def card(
    sources: Annotated[
        list[Path],
        typer.Argument(help="Folders that eval wrote, or one parquet file or folder of them.", show_default=False),
    ],
    out: Annotated[
        Path | None, typer.Option(help="The card, such as README.md; printed where it isn't given.", show_default=False)
    ] = None,
    readme: Annotated[
        Path | None, typer.Option(help="A card that is there, whose text is kept; may be the same file as --out.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the model or the data set.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Of a model: what it was measured on, at best a hub id.")] = None,
    licence: Annotated[str | None, typer.Option(help="An identifier of the hub's, such as apache-2.0.")] = None,
    base_model: Annotated[str | None, typer.Option(help="Of a model: hub id of what it was trained from.")] = None,
) -> None:
    """Write a model's card with its figures as model-index, or a data set's."""
    from medground._io import write_text
    from medground.evaluate.hub import hub_card

    text = hub_card(sources, readme=readme, name=name, dataset=dataset, licence=licence, base_model=base_model)
    if out is None:
        typer.echo(text, nl=False)
        return
    write_text(out, text)
    typer.echo(str(out))
