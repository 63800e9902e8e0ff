"""``medground deid``: a folder of DICOM pictures without identity, by a library call."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medground import RESEARCH_USE
from medground._options import AsJson

if TYPE_CHECKING:
    from medground.dicom.deid_folder import DeidProgress

__all__ = ["deid"]


def deid(
    source: Annotated[Path, typer.Argument(help="Folder with DICOM pictures, in any depth.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="Folder for them without identity.", show_default=False)],
    key: Annotated[
        Path | None,
        typer.Option(help="File of the secret key by which UIDs, pseudonyms and dates are made; OUT.key by default."),
    ] = None,
    retain_device: Annotated[
        bool, typer.Option("--retain-device", help="Keep names, stations and serial numbers of devices.")
    ] = False,
    modified_dates: Annotated[
        bool, typer.Option("--modified-dates", help="Move a patient's dates by the same days instead of removing them.")
    ] = False,
    allow_burned_in: Annotated[
        bool,
        typer.Option(
            "--allow-burned-in", help="Take pictures too that hold words in their pixels, or may; look at each of them."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """De-identify DICOM pictures by the basic profile of PS3.15 Annex E; the same command continues.

    Pictures that show, or may show, burned-in words are refused. Faces that a head's slices would show when rendered
    aren't removed.
    """
    from medground._progress import counting_bar
    from medground.dicom.deid_folder import deid_folder

    bar = counting_bar("{task.completed}/{task.total} files")
    bar.disable = as_json
    task = bar.add_task("", total=None)

    def on_file(now: DeidProgress, refusal: str | None) -> None:
        described = f"{now.refused} refused" if now.refused else ""
        bar.update(task, total=now.total, completed=now.found + now.written + now.refused, description=described)
        if refusal is not None and not as_json:
            bar.console.print(f"refused: {refusal}", markup=False, highlight=False, soft_wrap=True)

    key_file = out.with_name(f"{out.name}.key") if key is None else key
    try:
        with bar:
            end = deid_folder(
                source,
                out,
                key=key_file,
                retain_device=retain_device,
                modified_dates=modified_dates,
                allow_burned_in=allow_burned_in,
                on_file=on_file,
            )
    except KeyboardInterrupt:
        typer.echo("medground: stopped; the same command continues", err=True)
        raise typer.Exit(130) from None
    if as_json:
        counts = {name: getattr(end, name) for name in ("total", "found", "written", "refused")}
        typer.echo(json.dumps({**counts, "out": str(out), "key": str(key_file)}))
    else:
        earlier = f", {end.found} were there already" if end.found else ""
        typer.echo(f"{end.written} of {end.total} files written{earlier}; {end.refused} refused: {out}")
        typer.echo(f"the key {key_file} tells who is who among known patients: keep it secret, or delete it when done")
        typer.echo(RESEARCH_USE)
    if end.refused:
        raise typer.Exit(1)
