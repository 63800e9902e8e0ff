"""``medground train``: train a reasoner; each command is a library function."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from medground.errors import ConfigError

__all__ = ["app"]

app = typer.Typer(
    name="train",
    help="Train a reasoner: supervised, or by reinforcement learning with verifiable rewards.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Config = Annotated[
    Path, typer.Option(help="TOML with the run's settings, such as those in recipes/.", show_default=False)
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="KEY=VALUE, such as grpo.beta=0; may be repeated."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint, on the same trajectory.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what the run would do, and don't.")]


@app.command()
def sft(config: Config, set_: Set = None, resume: Resume = False, dry_run: DryRun = False) -> None:
    """Supervised training: the reasoning and the answer of each row."""
    _train("sft", config, set_, resume, dry_run)


@app.command()
def grpo(config: Config, set_: Set = None, resume: Resume = False, dry_run: DryRun = False) -> None:
    """Reinforcement learning by GRPO: groups of sampled answers, scored by a recipe of rewards."""
    _train("grpo", config, set_, resume, dry_run)


def _train(kind: Literal["sft", "grpo"], path: Path, settings: list[str] | None, resume: bool, dry_run: bool) -> None:
    from medground.train.recipe import read_config

    config = read_config(path, settings or ())
    if config.kind != kind:
        raise ConfigError(f"{path}: is a recipe of kind {config.kind!r}; run medground train {config.kind}")
    if dry_run:
        from medground.train.describe import describe_run

        typer.echo(describe_run(config))
        return
    if kind == "sft":
        from medground.train.supervised import train_sft as run
    else:
        from medground.train.reinforce import train_grpo as run
    from medground.train.watch import with_bar

    try:
        with with_bar() as progress:
            model = run(config, resume=resume, progress=progress)
    except KeyboardInterrupt:
        typer.echo("medground: stopped; the same command with --resume goes on from the last checkpoint", err=True)
        raise typer.Exit(130) from None
    typer.echo(f"model: {model}; curves: {config.folder / 'curves.html'}")
