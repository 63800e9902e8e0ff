"""What the server takes on at most; each bound is checked before the work that it bounds."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """The server's bounds.

    Parameters
    ----------
    upload_bytes : int
        Of one upload, and of what its file unpacks to.
    json_bytes : int
        Of one JSON body.
    pixels : int
        Width times height of a picture.
    images, image_bytes : int
        How many uploads are kept, and their bytes together; those that weren't used for longest are forgotten first.
    image_seconds : float
        How long an upload is kept after it was last used.
    view_bytes : int
        Of decoded pictures that are kept so that a second question doesn't decode them again.
    queue : int
        Requests that wait for a model; more get 429.
    batch : int
        Questions that the reasoner is given at once.
    new_tokens : int
        The longest completion that a client may ask for.
    jobs, job_items : int
        Jobs that are kept, and items of one of them.
    """

    upload_bytes: int = 256 << 20
    json_bytes: int = 8 << 20
    pixels: int = 1 << 25
    images: int = 64
    image_bytes: int = 1 << 30
    image_seconds: float = 3600.0
    view_bytes: int = 256 << 20
    queue: int = 32
    batch: int = 8
    new_tokens: int = 4096
    jobs: int = 16
    job_items: int = 1000
