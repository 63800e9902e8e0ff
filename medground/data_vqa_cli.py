"""``medground data vqa``: visual questions of a build."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medground._options import MaxCost, Prices, read_prices
from medground.errors import ConfigError

__all__ = ["vqa"]


def vqa(
    build: Annotated[Path, typer.Argument(help="The build's folder, described.", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="Folder to write; BUILD/vqa without it.")] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="In all; five for every two pictures without it.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    embed: Annotated[bool, typer.Option("--embed", help="Put the pictures into the files.")] = False,
    model: Annotated[
        str | None, typer.Option(help="https://host/v1#model writes the thinking, instead of the offline grammar.")
    ] = None,
    prices: Prices = None,
    max_cost: MaxCost = None,
) -> None:
    """Make visual questions of a build: open, closed, single and multi choice, with regions and verified thinking."""
    from rich.console import Console

    from medground.data.vqa.build import build_vqa
    from medground.data.vqa.writing import Thinker

    thinker = None
    if model is not None:
        thinker = Thinker(model, (out or build / "vqa") / "thoughts", prices=read_prices(prices), max_cost=max_cost)
    elif (prices, max_cost) != (None, None):
        raise ConfigError("--prices and --max-cost are about a model; add --model or leave them out")
    with Console(stderr=True).status("") as status:
        report = build_vqa(
            build,
            out,
            rows=rows,
            seed=seed,
            embed=embed,
            thinker=thinker,
            progress=lambda count: status.update(f"{count} questions"),
        )
    for name, count in report.rows.items():
        typer.echo(f"{count} rows ({name}): {report.folder / f'{name}.parquet'}")
    for why, count in sorted(report.refused.items()):
        typer.echo(f"left out: {count} because of {why}")
    for each in report.text_only:
        bound = "" if each.balanced else ", which is more than it may be"
        typer.echo(
            f"{each.question_type}: words alone {each.accuracy:.1%}, chance {each.chance:.1%} "
            f"({each.asked} rows){bound}"
        )
    typer.echo(f"card: {report.folder / 'README.md'}")
