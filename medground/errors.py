"""The errors that medground raises on purpose; each message is one sentence a user can act on.

The command line prints the message and exits with 2; no other exception is caught there, so a traceback
always means a fault of ours.
"""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "ImageError",
    "MedgroundError",
    "MissingExtraError",
    "ParseError",
    "ReasonerError",
    "SegmenterError",
    "TruthError",
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
