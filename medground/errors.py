"""The errors that medground raises on purpose; each message is one sentence a user can act on.

The command line prints the message and exits with 2; no other exception is caught there, so a traceback
always means a fault of ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pydantic import ValidationError

__all__ = [
    "ConfigError",
    "ImageError",
    "MedgroundError",
    "MissingExtraError",
    "Mistake",
    "ParseError",
    "ReasonerError",
    "SegmenterError",
    "TruthError",
    "first_mistake",
]


class MedgroundError(Exception):
    """Base of every error that medground raises on purpose."""


class ImageError(MedgroundError):
    """An image that can't be read, is out of bounds, or holds nothing to see; names the file and the remedy."""


class ReasonerError(MedgroundError):
    """A reasoner that can't be loaded or reached, or that answered outside its protocol."""


class SegmenterError(MedgroundError):
    """A segmenter that can't be loaded, or that was asked with prompts that it doesn't know."""


class ParseError(MedgroundError):
    """A completion in which no grounding can be read; says what is missing.

    Attributes
    ----------
    completion : str or None
        The text that the model wrote, where the pipeline knows it.
    """

    completion: str | None = None


class TruthError(MedgroundError):
    """A label that can't be read: the user's data is wrong, so this is never scored as the model's fault."""


class ConfigError(MedgroundError):
    """A configuration, batch file or option that can't be used; names the file, the field and the remedy."""


class MissingExtraError(MedgroundError):
    """An optional dependency that isn't installed.

    Examples
    --------
    >>> str(MissingExtraError("pydicom", extra="dicom", purpose="reading DICOM files"))
    "reading DICOM files needs pydicom, which isn't installed: pip install 'medground[dicom]'"
    """

    def __init__(self, package: str, *, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package}, which isn't installed: pip install 'medground[{extra}]'")
        self.package = package
        self.extra = extra


class Mistake(NamedTuple):
    """What pydantic found wrong with a record.

    Parameters
    ----------
    field : str
        Its name, with dots where it lies deeper; empty where the whole is at fault.
    kind : str
        Pydantic's name of it, such as ``"missing"``.
    reason : str
        In words, without the value, which may be a question or of a patient.
    """

    field: str
    kind: str
    reason: str


def first_mistake(error: ValidationError) -> Mistake:
    """Return the first mistake that pydantic found.

    Examples
    --------
    >>> from pydantic import TypeAdapter, ValidationError
    >>> try:
    ...     _ = TypeAdapter(dict[str, list[int]]).validate_python({"rows": [1, "a secret"]})
    ... except ValidationError as error:
    ...     found = first_mistake(error)
    >>> found.field, found.reason
    ('rows.1', 'Input should be a valid integer, unable to parse string as an integer')
    """
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    return Mistake(".".join(map(str, first["loc"])), first["type"], first["msg"].removeprefix("Value error, "))
