"""What can be wrong between the rows of a data set: ids, questions, patients and pictures that come twice.

All rows have to be known at once, so what is held of each is small: digests, where it stands, and its picture's hash.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from medground.data.checks import Finding
from medground.data.duplicates import look_alikes

__all__ = ["Census", "Seen", "digest"]

_Place = tuple[int, int, str]  # file, row, id


def digest(text: str) -> bytes:
    """Return 12 bytes that stand for a text; none for an empty one.

    Examples
    --------
    >>> len(digest("Where is it?")), digest("")
    (12, b'')
    """
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).digest() if text else b""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is left of a row once it was looked at: where it stands, what was found in it, and digests.

    `id` is empty where the row couldn't be read, and `hash` where its picture couldn't.
    """

    file: int
    number: int
    id: str
    findings: list[Finding]
    split: str = ""
    group: bytes = b""
    question: bytes = b""
    category: bytes = b""
    absent: bool = False
    picture: bytes = b""
    hash: bytes = b""


class Census:
    """What must be known of all rows at once; each table holds the first row that said it.

    Parameters
    ----------
    files : sequence of str
        Their names; it may grow as rows come.
    near, alike : int
        See `medground.data.validate.validate`.
    """

    def __init__(self, files: Sequence[str], near: int, alike: int) -> None:
        self.files, self.near, self.alike = files, near, alike
        self.ids: dict[bytes, _Place] = {}
        self.questions: dict[bytes, _Place] = {}
        self.patients: dict[bytes, tuple[str, _Place]] = {}
        self.present: dict[bytes, tuple[bool, _Place]] = {}
        self.pictures: set[bytes] = set()
        self.hashed: dict[tuple[bytes, str], tuple[bytes, _Place]] = {}
        self.nameless = False

    def add(self, seen: Seen) -> Iterator[Finding]:
        """Take a row in, and yield how it clashes with those before it."""
        if not seen.id:
            return
        here = (seen.file, seen.number, seen.id)
        first = self.ids.setdefault(digest(seen.id), here)
        if first is not here:
            yield self._clash(here, first, "id", "id", "is that of {} too", "give each row its own")
        asked = seen.picture + seen.question
        if (first := self.questions.setdefault(asked, here)) is not here:
            yield self._clash(
                here, first, "question", "question", "was asked of this picture in {}", "keep one of them"
            )
        if seen.category:
            said, first = self.present.setdefault(seen.picture + seen.category, (seen.absent, here))
            if said != seen.absent:
                now, then = ("absent", "present") if seen.absent else ("present", "absent")
                problem = f"says that the target is {now}, and {{}} of this picture that it is {then}"
                yield self._clash(here, first, "box", "absent", problem, "keep the one that is true")
        if seen.split and seen.group:
            split, first = self.patients.setdefault(seen.group, (seen.split, here))
            if split != seen.split:
                problem = f"is in {seen.split}, and in {split} with {{}}"
                yield self._clash(here, first, "group", "patient", problem, "keep each patient in one split")
        elif seen.split and not self.nameless:
            self.nameless = True
            yield Finding(
                self.files[here[0]],
                here[1],
                here[2],
                "group",
                "group",
                "is empty, in this row and maybe in others, so a patient in two splits can't be told",
                "name each row's patient",
                note=True,
            )
        if seen.hash:
            self.pictures.add(seen.picture)
            if seen.split:
                self.hashed.setdefault((seen.picture, seen.split), (seen.hash, here))

    def compared(self, distances: Counter[int]) -> Iterator[Finding]:
        """Yield, for each picture that is like others of another split, the nearest of them; and count all pairs."""
        entries = sorted((place, hashed, key[1]) for key, (hashed, place) in self.hashed.items())
        nearest: dict[int, tuple[int, int]] = {}
        for one, two, distance in look_alikes(
            [hashed for _, hashed, _ in entries], [split for *_, split in entries], self.alike
        ):
            distances[distance] += 1
            nearest[two] = min(nearest.get(two, (distance, one)), (distance, one))
        for two, (distance, one) in sorted(nearest.items()):
            (here, _, split), (there, _, before) = entries[two], entries[one]
            same = distance <= self.near
            what = "is the picture" if same else "looks like the picture"
            yield self._clash(
                here,
                there,
                "image",
                "near duplicate" if same else "look-alike",
                f"{what} of {{}} ({before}), of which it differs by {distance} of 256 bits, and is in {split}",
                "look at both, and keep what is one patient's in one split",
                note=not same,
                distance=distance,
            )

    def _clash(
        self,
        here: _Place,
        there: _Place,
        field: str,
        kind: str,
        problem: str,
        remedy: str,
        *,
        note: bool = False,
        **more: Any,
    ) -> Finding:
        file, other = self.files[here[0]], self.files[there[0]]
        elsewhere = f"{other}: " if other != file else ""
        named = f" ({there[2]})" if there[2] != here[2] else ""
        told = problem.format(f"{elsewhere}row {there[1]}{named}")
        clash = {"file": other, "row": there[1], "id": there[2]}
        return Finding(file, here[1], here[2], field, kind, told, remedy, note, {"with": clash, **more})
