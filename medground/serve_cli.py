"""``medground serve``: the page and the API."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import Annotated

import typer

from medground import RESEARCH_USE

__all__ = ["serve"]


def serve(
    host: Annotated[
        str, typer.Option(help="Where to listen; any address but this machine's own demands a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8000,
    token: Annotated[
        list[str] | None,
        typer.Option(
            envvar="MEDGROUND_TOKEN",
            show_envvar=True,
            help="What clients must show, 16 characters or more; may be repeated, one for each user. "
            "Made up where one is needed and none given.",
        ),
    ] = None,
    reasoner: Annotated[str, typer.Option(help="As for ground.")] = "nano",
    segmenter: Annotated[str, typer.Option(help="As for ground.")] = "litemedsam",
    device: Annotated[str, typer.Option(help="As for ground.")] = "auto",
    dtype: Annotated[str, typer.Option(help="As for ground.")] = "auto",
    adapter: Annotated[str | None, typer.Option(help="As for ground.")] = None,
    template: Annotated[str | None, typer.Option(help="As for ground.")] = None,
    coordinates: Annotated[str | None, typer.Option(help="As for ground.")] = None,
    queue: Annotated[int, typer.Option(min=1, help="Requests that may wait; more are told to come back.")] = 32,
    batch: Annotated[int, typer.Option(min=1, help="Questions given to the reasoner at once.")] = 8,
    max_upload: Annotated[int, typer.Option(min=1, help="Megabytes of an upload.")] = 256,
    keep: Annotated[int, typer.Option(min=1, help="Minutes for which an unused upload is kept in memory.")] = 60,
    access_log: Annotated[
        bool, typer.Option("--access-log", help="Write a line for each request to stderr: route, status, time.")
    ] = False,
) -> None:
    """Serve a page to ask about images, and an HTTP API, until it is interrupted."""
    from medground.pipeline import MedGround
    from medground.serve import Limits
    from medground.serve import serve as run

    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(name)s %(message)s", level=logging.WARNING)
    if access_log:
        logging.getLogger("medground.serve.access").setLevel(logging.INFO)
    with contextlib.redirect_stdout(sys.stderr):
        grounder = MedGround(
            reasoner,
            None if segmenter == "none" else segmenter,
            device=device,
            dtype=dtype,
            embeddings=16,
            adapter=adapter,
            template=template,
            coordinates=coordinates,
            batch_size=batch,
        )
    limits = Limits(queue=queue, batch=batch, upload_bytes=max_upload << 20, image_seconds=60.0 * keep)

    def ready(address: str) -> None:
        typer.echo(f"Open {address} in a browser; Ctrl+C ends it.")
        typer.echo(RESEARCH_USE, err=True)

    run(grounder, host=host, port=port, tokens=token or (), limits=limits, ready=ready)
