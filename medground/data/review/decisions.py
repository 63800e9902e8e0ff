"""What people decided about question records: an append-only file, and its use.

Each line of ``review.jsonl`` is one decision: ``id`` and ``digest`` of the record as it was shown, ``decision``
(accept, edit, reject, undo), ``question`` and ``reasoning`` of an edit, ``reason`` of a rejection, ``reviewer``,
``time`` (UTC).
Nothing is ever changed or removed there: taking a decision back is another line.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from medground._io import make_folder
from medground.errors import ConfigError
from medground.prompts import MAX_QUESTION
from medground.rewards.statements import MAX_READ

__all__ = ["REASONS", "Decision", "DecisionLog", "ReviewReport", "apply", "read_decisions", "record_digest"]

REASONS = {
    "leak": "names the target or gives it away",
    "unclear": "could mean something else in this picture",
    "untrue": "medically wrong",
    "reasoning": "the reasoning is wrong or doesn't fit the picture",
    "mask": "the mask or the box is wrong",
    "category": "the target is something else",
    "picture": "the picture can't be used",
    "wording": "nobody would ask like this",
    "other": "another reason",
}
"""Why a record is rejected: the word that is kept, and what it means; the page numbers them from 1."""

_DAMAGED = "damaged; remove that line, the others count"


class Decision(BaseModel):
    """One decision about one record.

    Parameters
    ----------
    id : str
        The record's.
    digest : str
        `record_digest` of the record as it was shown.
    decision : {"accept", "edit", "reject", "undo"}
        An undo takes back the latest decision about the record that none has taken back yet.
    question, reasoning : str or None
        The new texts, of an edit; an edited record counts as accepted.
    reason : str or None
        One of `REASONS`, of a rejection.
    reviewer : str
        Who decided, as they call themselves.
    time : datetime
        When, UTC.

    Examples
    --------
    >>> Decision(id="a", digest="0" * 16, decision="reject")
    Traceback (most recent call last):
        ...
    pydantic_core._pydantic_core.ValidationError: 1 validation error for Decision
      Value error, a rejection has a reason, and nothing else has ...
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    id: Annotated[str, Field(min_length=1)]
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    decision: Literal["accept", "edit", "reject", "undo"]
    question: Annotated[str, Field(min_length=1, max_length=MAX_QUESTION)] | None = None
    reasoning: Annotated[str, Field(min_length=1, max_length=MAX_READ)] | None = None
    reason: str | None = None
    reviewer: Annotated[str, Field(max_length=80)] = ""
    time: datetime = Field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    @model_validator(mode="after")
    def _holds_what_its_kind_needs(self) -> Self:
        if (self.decision == "edit") != (self.question is not None) or (self.question is None) != (
            self.reasoning is None
        ):
            raise ValueError("an edit has a question and a reasoning, and nothing else has")
        if (self.decision == "reject") != (self.reason is not None):
            raise ValueError("a rejection has a reason, and nothing else has")
        if self.reason is not None and self.reason not in REASONS:
            raise ValueError(f"an unknown reason; use {', '.join(REASONS)}")
        return self

    def line(self) -> bytes:
        """Return the decision as a line of the file."""
        return json.dumps(self.model_dump(mode="json", exclude_none=True), allow_nan=False).encode("ascii") + b"\n"


def record_digest(record: Mapping[str, Any]) -> str:
    """Return a digest of all that a record says, by which a decision knows what it was about.

    Examples
    --------
    >>> record_digest({"id": "a", "question": "Where?"}) == record_digest({"question": "Where?", "id": "a"})
    True
    """
    said = json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(said.encode("ascii")).hexdigest()[:16]


def read_decisions(path: str | Path) -> dict[str, Decision]:
    """Read the decisions that count: of each record the last one that wasn't taken back.

    Parameters
    ----------
    path : path
        ``review.jsonl``; where there is no such file, nothing was decided. A last line that a crash left half-written
        doesn't count: whoever wrote it was never told that it is kept.

    Returns
    -------
    dict of str to Decision
        By the record's id, in the order in which the ids first came.

    Raises
    ------
    ConfigError
        When the file can't be read or another line of it is damaged; names the line.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"can't read {path}: {error.strerror or error}; check the path") from error
    standing, _ = _fold(content, path)
    return {name: decisions[-1] for name, decisions in standing.items() if decisions}


@dataclass(slots=True)
class ReviewReport:
    """What a review did to the records of a build.

    Parameters
    ----------
    accepted, edited, rejected, undecided : int
        Records.
    stale : list of str
        Ids of records that have changed since they were decided about; they stay as they are, undecided.
    unknown : list of str
        Ids that were decided about and aren't among the records; known once all records were read.
    """

    accepted: int = 0
    edited: int = 0
    rejected: int = 0
    undecided: int = 0
    stale: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def apply(
    records: Iterable[Mapping[str, Any]],
    decisions: Mapping[str, Decision],
    *,
    report: ReviewReport | None = None,
    reviewed_only: bool = False,
) -> Iterator[dict[str, Any]]:
    """Return the records as people left them: edits made, rejected ones left out.

    Parameters
    ----------
    records : iterable of dict
        Question records; read one at a time.
    decisions : mapping of str to Decision
        What `read_decisions` returned.
    report : ReviewReport, optional
        Is filled in while the records are read.
    reviewed_only : bool
        Leave out what nobody accepted or edited, too.

    Yields
    ------
    dict
        A record; an edited one says so in ``asked_by``.

    Examples
    --------
    >>> record = {"id": "a", "question": "Where?", "reasoning": "", "asked_by": "grammar-v1"}
    >>> edit = Decision(id="a", digest=record_digest(record), decision="edit", question="Why?", reasoning="It is big.")
    >>> list(apply([record], {"a": edit}))
    [{'id': 'a', 'question': 'Why?', 'reasoning': 'It is big.', 'asked_by': 'grammar-v1, edited'}]
    >>> report = ReviewReport()
    >>> list(apply([record | {"question": "Who?"}], {"a": edit}, report=report)), report.stale
    ([{'id': 'a', 'question': 'Who?', 'reasoning': '', 'asked_by': 'grammar-v1'}], ['a'])
    """
    report = ReviewReport() if report is None else report
    unseen = dict.fromkeys(decisions)
    for record in records:
        decision = decisions.get(record["id"])
        if decision is not None:
            unseen.pop(decision.id, None)
            if decision.digest != record_digest(record):
                report.stale.append(decision.id)
                decision = None
        if decision is None:
            report.undecided += 1
            if not reviewed_only:
                yield dict(record)
        elif decision.decision == "reject":
            report.rejected += 1
        elif decision.decision == "edit":
            report.edited += 1
            by = ", ".join(filter(None, (record.get("asked_by"), "edited")))
            yield {**record, "question": decision.question, "reasoning": decision.reasoning, "asked_by": by}
        else:
            report.accepted += 1
            yield dict(record)
    report.unknown += unseen


class DecisionLog:
    """The decisions' file, held open by the one process that appends to it.

    Parameters
    ----------
    path : path
        Made when it isn't there. What a crash left of a last line is cut off.

    Raises
    ------
    ConfigError
        When it can't be written, is damaged, or another process holds it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        make_folder(self.path.parent)
        try:
            self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            raise ConfigError(f"can't write {self.path}: {error.strerror or error}; check the folder") from error
        self._lock = Lock()
        try:
            self._hold()
            content = self.path.read_bytes()
            self._standing, self._size = _fold(content, self.path)
            os.ftruncate(self._handle, self._size)
            if self._size and content[self._size - 1] != ord("\n"):  # an editor left it without its line break
                self._write(b"\n")
            _sync_folder(self.path.parent)
        except BaseException:
            os.close(self._handle)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; later appends fail."""
        with self._lock:
            if self._handle >= 0:
                os.close(self._handle)
            self._handle = -1

    def of(self, name: str) -> Decision | None:
        """Return the decision about a record that counts."""
        decisions = self._standing.get(name)
        return decisions[-1] if decisions else None

    def append(self, decision: Decision) -> None:
        """Keep a decision; it is on the disk when this returns.

        Raises
        ------
        ConfigError
            When it can't be written (the file is then as before), or there is nothing to undo.
        """
        with self._lock:
            if decision.decision == "undo" and self.of(decision.id) is None:
                raise ConfigError("nothing to undo: no decision about this record stands")
            self._write(decision.line())
            _count(self._standing, decision)

    def _write(self, line: bytes) -> None:
        try:
            left = memoryview(line)
            while left:
                left = left[os.write(self._handle, left) :]
            os.fsync(self._handle)
        except OSError as error:
            if self._handle >= 0:
                os.ftruncate(self._handle, self._size)
            raise ConfigError(
                f"can't write {self.path}: {error.strerror or error}; the decision is not kept"
            ) from error
        self._size += len(line)

    def _hold(self) -> None:
        try:
            import fcntl
        except ImportError:  # Windows: no such lock; two reviews of one build at once are then the user's to avoid
            return
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                f"another review is writing to {self.path}; use that one's page, several people can"
            ) from error


def _count(standing: dict[str, list[Decision]], decision: Decision) -> None:
    decisions = standing.setdefault(decision.id, [])
    if decision.decision != "undo":
        decisions.append(decision)
    elif decisions:
        decisions.pop()


def _fold(content: bytes, path: str | Path) -> tuple[dict[str, list[Decision]], int]:
    """Return the decisions that stand, by id and oldest first, and how many bytes hold whole lines."""
    standing: dict[str, list[Decision]] = {}
    whole = 0
    for number, line in enumerate(io.BytesIO(content), 1):
        try:
            if line.strip():
                _count(standing, Decision.model_validate_json(line))
        except ValidationError as error:
            # No beginning of a JSON object is one, so a last line that can be read was written whole.
            if not line.endswith(b"\n"):
                break
            raise ConfigError(f"{path}:{number}: {_DAMAGED}") from error
        whole += len(line)
    return standing, whole


def _sync_folder(folder: Path) -> None:
    # A new file's name is kept by its folder; Windows opens no folders, and needs no such thing.
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
