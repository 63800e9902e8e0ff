"""Searches by DICOMweb (QIDO-RS, PS3.18): what they ask for, and reading what they found in DICOM JSON."""

from __future__ import annotations

import re
from typing import Any

from medground.errors import ConfigError

__all__ = ["UID", "answers", "filters_of", "number", "text"]

UID = re.compile(r"[0-9.]{1,64}")
_DATE = re.compile(r"\d{8}|\d{8}-|-\d{8}|\d{8}-\d{8}")


def filters_of(
    modality: str | None, date: str | None, study: str | None, series: str | None, patient: str | None
) -> dict[str, str]:
    """Return a search's criteria by keyword; raise where one can't be used, or where there is none."""
    for name, uid in (("study", study), ("series", series)):
        if uid is not None and not UID.fullmatch(uid):
            raise ConfigError(f"--{name} isn't a UID (digits and dots, at most 64); copy it from the PACS")
    if date is not None and not _DATE.fullmatch(date):
        raise ConfigError("--date isn't YYYYMMDD or a range of them; write it like 20240101-20241231")
    if modality is not None and not re.fullmatch(r"[A-Z0-9_]{1,16}", modality):
        raise ConfigError("--modality isn't a DICOM modality; write it like CT, MR, DX, US")
    if patient is not None and (not patient.strip() or len(patient) > 64 or re.search(r"[*?\\]", patient)):
        raise ConfigError("--patient must be one patient ID, without the wildcards * and ?")
    named = {
        "ModalitiesInStudy": modality,
        "StudyDate": date,
        "StudyInstanceUID": study,
        "PatientID": patient,
    }
    if series is not None and study is None:
        raise ConfigError("--series needs the --study that it is in")
    if not any(named.values()):
        raise ConfigError("this would ask for everything; say what to find: --modality, --date, --study or --patient")
    return {name: value for name, value in named.items() if value is not None}


def answers(row: Any, date: str | None, study: str | None, patient: str | None) -> bool:
    """Whether a study is what was asked for, for servers leave out criteria that they don't know."""
    told = text(row, "00080020")
    first, _, last = (date or "").partition("-")
    if date is not None and "-" not in date:
        last = date
    dated = not date or (bool(told) and (not first or told >= first) and (not last or told <= last))
    return (
        dated
        and study in (None, text(row, "0020000D"))
        and (patient is None or text(row, "00100020").strip() == patient.strip())
    )


def text(row: Any, tag: str) -> str:
    """Return the first value of an element of DICOM JSON as text, or nothing."""
    try:
        value = row[tag]["Value"][0]
    except (KeyError, IndexError, TypeError):
        return ""
    return value if isinstance(value, str) else ""


def number(row: Any, tag: str) -> int:
    """Return the first value of an element of DICOM JSON as a whole number, or 0."""
    try:
        return int(row[tag]["Value"][0])
    except (KeyError, IndexError, TypeError, ValueError, OverflowError):
        return 0
