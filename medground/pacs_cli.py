"""``medground pacs``: find pictures in a PACS, ground them, store the objects back; a library call each."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from medground import RESEARCH_USE
from medground._options import AsJson
from medground.errors import ConfigError

if TYPE_CHECKING:
    from medground.pacs import Instance
    from medground.pacs_run import PacsProgress

__all__ = ["pacs"]


def pacs(
    url: Annotated[
        str, typer.Argument(help="The DICOMweb root, such as https://pacs.example.org/dicom-web.", show_default=False)
    ],
    question: Annotated[str, typer.Argument(help="What to find in each picture.", show_default=False)],
    out: Annotated[
        Path, typer.Option(help="Folder that keeps what was done, by UID; the same command continues.")
    ] = Path("pacs-run"),
    modality: Annotated[str | None, typer.Option(help="Such as CT, MR, DX.")] = None,
    date: Annotated[str | None, typer.Option(help="Of the study: YYYYMMDD, FROM-TO, FROM- or -TO.")] = None,
    study: Annotated[str | None, typer.Option(help="Study Instance UID.")] = None,
    series: Annotated[str | None, typer.Option(help="Series Instance UID; with --study.")] = None,
    patient: Annotated[str | None, typer.Option(help="Patient ID; it is kept nowhere.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many series at most.")] = 100,
    instances: Annotated[
        Literal["middle", "all"], typer.Option(help="Of each series: its middle picture, or all of them.")
    ] = "middle",
    frame: Annotated[
        int | None, typer.Option(min=0, help="Of pictures with many frames, from 0; the middle one by default.")
    ] = None,
    window: Annotated[str | None, typer.Option(help="CENTRE,WIDTH in the image's units, such as 40,400.")] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="What the objects name in coded terms, such as 'kidney left'; by default what the "
            "reasoning plainly names."
        ),
    ] = None,
    reasoner: Annotated[str, typer.Option(help="As for ground.")] = "nano",
    segmenter: Annotated[str, typer.Option(help="As for ground.")] = "litemedsam",
    device: Annotated[str, typer.Option(help="As for ground.")] = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be grounded; retrieve and store nothing.")
    ] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Do pictures again that failed before.")] = False,
    allow_http: Annotated[
        bool, typer.Option("--allow-http", help="Talk without encryption to another machine.")
    ] = False,
    ca: Annotated[Path | None, typer.Option(help="PEM file of the authorities to trust.")] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for the server's next bytes.")] = 30.0,
    max_bytes: Annotated[int, typer.Option(min=1 << 16, help="Largest answer that is read.")] = 1 << 30,
    as_json: AsJson = False,
) -> None:
    """Ground pictures of a PACS (DICOMweb) and store SEG and SR beside them.

    Credentials come from the environment: MEDGROUND_PACS_TOKEN, or MEDGROUND_PACS_USER and MEDGROUND_PACS_PASSWORD.
    """
    from medground._progress import counting_bar
    from medground._terminal import window as read_window
    from medground.pacs import Pacs
    from medground.pacs_run import run_pacs
    from medground.pipeline import MedGround

    token, user, password = (os.environ.get(f"MEDGROUND_PACS_{name}") for name in ("TOKEN", "USER", "PASSWORD"))
    server = Pacs(
        url, token=token, user=user, password=password, ca=ca, allow_http=allow_http, timeout=timeout,
        max_bytes=max_bytes,
    )  # fmt: skip
    chosen: list[Instance] = []
    for one in server.find(modality=modality, date=date, study=study, series=series, patient=patient, limit=limit):
        pictures = server.instances(one)
        chosen += pictures[len(pictures) // 2 :][:1] if instances == "middle" else pictures
    if dry_run:
        _list(chosen, frame, as_json)
        return
    if not chosen:
        raise ConfigError("the PACS has no picture that matches; widen --modality, --date, --study or --patient")
    bar = counting_bar("{task.completed}/{task.total} pictures")
    bar.disable = as_json
    task = bar.add_task("", total=len(chosen))

    def on_row(now: PacsProgress) -> None:
        failed = f"{now.failed} failed" if now.failed else ""
        bar.update(task, completed=now.found + now.stored + now.absent + now.failed, description=failed)

    try:
        with bar, contextlib.redirect_stdout(sys.stderr):
            end = run_pacs(
                MedGround(reasoner, None if segmenter == "none" else segmenter, device=device),
                server,
                chosen,
                question,
                out,
                target=target,
                frame=frame,
                window=read_window(window),
                settings={"reasoner": reasoner, "segmenter": segmenter},
                retry_failed=retry_failed,
                on_row=on_row,
            )
    except KeyboardInterrupt:
        typer.echo("medground: stopped; the same command continues", err=True)
        raise typer.Exit(130) from None
    summary = {name: getattr(end, name) for name in ("total", "found", "stored", "absent", "failed")}
    if as_json:
        typer.echo(json.dumps({**summary, "done": str(out / "stored.jsonl")}))
    else:
        earlier = f", {end.found} were done already" if end.found else ""
        typer.echo(
            f"stored objects for {end.stored} of {end.total} pictures{earlier}; target absent in {end.absent}; "
            f"{end.failed} failed: {out / 'stored.jsonl'}"
        )
        typer.echo(RESEARCH_USE)
    if end.failed:
        raise typer.Exit(1)


def _list(chosen: list[Instance], frame: int | None, as_json: bool) -> None:
    from medground.pacs_run import wanted_frame

    rows = [
        {
            "study": one.series.study_uid,
            "series": one.series.series_uid,
            "sop": one.sop_uid,
            "modality": one.series.modality,
            "frame": wanted_frame(one, frame),
            "frames": one.frames,
        }
        for one in chosen
    ]
    if as_json:
        typer.echo(json.dumps({"pictures": rows}))
        return
    for row in rows:
        framed = f" frame {row['frame']} of {row['frames']}" if row["frame"] is not None else ""
        typer.echo(f"{row['modality'] or '-'} {row['sop']}{framed}")
    typer.echo(f"{len(rows)} pictures would be grounded; nothing was retrieved or stored")
