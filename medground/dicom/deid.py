"""De-identification by the Basic Application Level Confidentiality Profile of PS3.15 Annex E, on pydicom.

What the table doesn't list stays, but for people, addresses, free text and dates, which go too. Pictures only:
structured reports, encapsulated documents and presentation states are made of the words that the profile takes away.
Faces that could be rendered from a head's slices, and words in the pixels themselves, are not looked for; a picture
that may hold words is refused.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import re
import uuid
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medground.dicom.codestream import clean_pixels
from medground.dicom.profile import action_of
from medground.dicom_reader import _guarded, _read, _uid
from medground.errors import MissingExtraError
from medground.image_files import MAX_BYTES, MAX_PIXELS, ReadOptions, kind_of, quiet

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.dataelem import DataElement

__all__ = ["Deidentifier"]

PROFILE = "PS3.15 Basic Application Level Confidentiality Profile (medground)"
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_DUMMIES: dict[str, Any] = {
    "DA": "19000101",
    "TM": "000000",
    "DT": "19000101000000",
    "AS": "000Y",
    "DS": "0",
    "IS": "0",
    "UR": "http://removed.invalid",
    "PN": "REMOVED^REMOVED",
} | dict.fromkeys(("AE", "CS", "LO", "LT", "SH", "ST", "UC", "UT"), "REMOVED")
_NUMBERS = ("FD", "FL", "SL", "SS", "SV", "UL", "US", "UV", "AT")
# Modalities and classes whose pictures show what a machine wrote on its screen, unless they say that they don't.
_ANNOTATED_MODALITIES = ("US", "IVUS", "OT", "SC", "XC", "ES", "ECG", "DOC", "SMR", "BDUS", "BMD")
_ANNOTATED_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.3",  # ultrasound, multi-frame and retired ones among them
    "1.2.840.10008.5.1.4.1.1.6",
    "1.2.840.10008.5.1.4.1.1.7",  # secondary capture
    "1.2.840.10008.5.1.4.1.1.77.1",  # visible light
)
_ANNOTATED_TYPES = ("SCREEN", "DOSE_INFO", "REPORT", "RESULT")
_RECONSTRUCTED = ("REFORMATTED", "MPR", "PROJECTION IMAGE", "AXIAL", "MIN IP", "MAX IP", "ADC")


class Deidentifier:
    """De-identifies DICOM pictures with one key, so that what belongs together still does.

    UIDs, patients' pseudonyms and the days by which dates move come from the key: the same in every file and every run
    with that key, and not to be guessed without it. Whoever holds the key can tell whether a known patient is there.

    Parameters
    ----------
    key : bytes
        At least 16, random, secret.
    retain_device : bool
        The Retain Device Identity Option: names, serial numbers and stations of devices stay. What a person would have
        to clean by that option is removed. UIDs of devices are replaced all the same.
    modified_dates : bool
        The Retain Longitudinal Temporal Information with Modified Dates Option: all dates of a patient move by the same
        1 to 3,650 days into the past; times stay. Otherwise dates and times are removed.
    allow_burned_in : bool
        Take pictures too that hold words in their pixels, or may.

    Examples
    --------
    >>> made = Deidentifier(bytes(32))
    >>> made.uid("1.2.3") == made.uid("1.2.3"), made.uid("1.2.3") == Deidentifier(bytes(31) + b"1").uid("1.2.3")
    (True, False)
    >>> made.uid("1.2.840.10008.5.1.4.1.1.2")  # a class says nothing of a patient
    '1.2.840.10008.5.1.4.1.1.2'
    """

    def __init__(
        self,
        key: bytes,
        *,
        retain_device: bool = False,
        modified_dates: bool = False,
        allow_burned_in: bool = False,
    ) -> None:
        if len(key) < 16:
            raise ValueError(f"a key needs at least 16 bytes, not {len(key)}")
        try:
            import pydicom  # noqa: F401
        except ImportError:
            raise MissingExtraError("pydicom", extra="dicom", purpose="de-identifying DICOM files") from None
        self._key = key
        self.retain_device = retain_device
        self.modified_dates = modified_dates
        self.allow_burned_in = allow_burned_in

    def uid(self, uid: str) -> str:
        """Return the UID that stands for another; one that DICOM itself registers stands for itself."""
        from pydicom.uid import UID

        if UID(uid).name != uid:
            return uid
        return f"2.25.{uuid.UUID(bytes=self._digest('uid', uid)[:16], version=5).int}"

    def target_uid(self, path: str | Path) -> str:
        """Return the SOP Instance UID that a file's object will have, reading its header only.

        Raises
        ------
        ImageError
            The file isn't a DICOM, or lacks a UID.
        """
        options = _options(path)
        with quiet():
            return self.uid(_sop_uid(options, _opened(options, stop_before_pixels=True)))

    def deidentify(self, path: str | Path) -> tuple[bytes, Dataset]:
        """Return a file's picture without identity, as the bytes of a DICOM file and as a data set.

        Parameters
        ----------
        path : str or Path

        Returns
        -------
        (bytes, Dataset)

        Raises
        ------
        ImageError
            The file isn't a DICOM picture, is damaged, or may show words that identify; names the file and the remedy,
            and quotes nothing of what the file holds.
        """
        options = _options(path)
        with quiet():
            dataset = _opened(options, stop_before_pixels=False)
            sop_uid = _sop_uid(options, dataset)
            with _guarded(options):
                self._check(options, dataset)
                subject = self._subject(dataset)
                days = 1 + int.from_bytes(self._digest("days", subject)[:4]) % 3650
                clean_pixels(options, dataset)
                self._walk(dataset, days)
                self._mark(dataset, subject)
                _new_meta(dataset, self.uid(sop_uid))
                stream = BytesIO()
                dataset.save_as(stream, enforce_file_format=True)
        return stream.getvalue(), dataset

    def _digest(self, purpose: str, text: str) -> bytes:
        return hmac.digest(self._key, f"{purpose}:{text}".encode("utf-8", "surrogateescape"), hashlib.sha256)

    def _subject(self, dataset: Dataset) -> str:
        """Return what tells patients apart: the ID and who issued it, or the study where there is no ID."""
        own = [str(dataset.get(name) or "").strip() for name in ("IssuerOfPatientID", "PatientID")]
        return "\n".join(own) if own[1] else f"study {_uid(dataset, 'StudyInstanceUID')}"

    def _check(self, options: ReadOptions, dataset: Dataset) -> None:
        if not any(name in dataset for name in _PIXELS):
            raise options.error("holds no picture, and this profile would leave nothing of it; leave it out")
        if self.allow_burned_in:
            return
        said = str(dataset.get("BurnedInAnnotation") or "").strip().upper()
        if said == "YES":
            raise options.error(
                "says that words are burned into its pixels (BurnedInAnnotation); clean the pixels, or take it as it "
                "is with --allow-burned-in"
            )
        if said != "NO" and _may_hold_words(dataset):
            raise options.error(
                "is of a kind whose pixels often hold words, and doesn't say that there are none (BurnedInAnnotation); "
                "look at it, and take it with --allow-burned-in"
            )

    def _walk(self, dataset: Dataset, days: int) -> None:
        """Apply the profile to every element, items of sequences included."""
        for element in list(dataset):
            tag, vr = int(element.tag), str(element.VR)
            if element.keyword in _PIXELS:
                continue
            action = action_of(tag, vr, device=self.retain_device, dates=self.modified_dates)
            if action == "remove":
                del dataset[element.tag]
            elif action == "enter":
                for item in element.value or ():
                    self._walk(item, days)
            elif action == "empty":
                element.value = [] if vr == "SQ" else None
            elif action == "uid":
                self._replace_uids(element)
            elif action == "dummy" or (action == "date" and not _moved(element, days)):
                self._dummy(element)

    def _replace_uids(self, element: DataElement) -> None:
        values = element.value if element.VM > 1 else [element.value]
        replaced = [self.uid(str(value)) for value in values if value]
        element.value = replaced if element.VM > 1 else next(iter(replaced), None)

    def _dummy(self, element: DataElement) -> None:
        """Give an element a value that says nothing, one for many; what was empty stays empty."""
        vr = str(element.VR)
        if vr == "SQ":
            for item in element.value or ():
                for inner in list(item):
                    if inner.tag.is_private:
                        del item[inner.tag]
                    elif str(inner.VR) == "UI":
                        self._replace_uids(inner)
                    else:
                        self._dummy(inner)
        elif element.is_empty:
            element.value = None
        elif vr == "UI":
            self._replace_uids(element)
        else:
            element.value = 0 if vr in _NUMBERS else _DUMMIES.get(vr, b"\0\0")

    def _mark(self, dataset: Dataset, subject: str) -> None:
        """Write the patient's pseudonym and what was done, in words and codes (PS3.3 C.7.1.1, PS3.16 CID 7050)."""
        from pydicom import Dataset

        pseudonym = self._digest("patient", subject).hex()[:16].upper()
        dataset.PatientID, dataset.PatientName = pseudonym, f"PATIENT^{pseudonym}"
        dataset.PatientIdentityRemoved = "YES"
        dataset.DeidentificationMethod = PROFILE[:64]
        dataset.LongitudinalTemporalInformationModified = "MODIFIED" if self.modified_dates else "REMOVED"
        done = [("113100", "Basic Application Confidentiality Profile")]
        if self.modified_dates:
            done.append(("113107", "Retain Longitudinal Temporal Information Modified Dates Option"))
        if self.retain_device:
            done.append(("113109", "Retain Device Identity Option"))
        items = []
        for value, meaning in done:
            item = Dataset()
            item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
            items.append(item)
        dataset.DeidentificationMethodCodeSequence = items


def _options(path: str | Path) -> ReadOptions:
    return ReadOptions(Path(path), None, None, None, None, MAX_PIXELS, MAX_BYTES)


def _opened(options: ReadOptions, *, stop_before_pixels: bool) -> Dataset:
    kind = kind_of(options)
    if kind != "dicom":
        raise options.error(f"is a {kind.upper()}; only DICOM files can be de-identified")
    dataset = _read(options, stop_before_pixels=stop_before_pixels)
    if _uid(dataset.file_meta, "MediaStorageSOPClassUID") == "1.2.840.10008.1.3.10":
        raise options.error("is a DICOMDIR, which lists patients; leave it out")
    return dataset


def _sop_uid(options: ReadOptions, dataset: Dataset) -> str:
    for keyword in ("SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        if (found := _uid(dataset, keyword)) is None:
            raise options.error(f"is a DICOM without a valid {keyword}; export it again")
    return found or ""


def _may_hold_words(dataset: Dataset) -> bool:
    sop_class = _uid(dataset, "SOPClassUID") or ""
    kinds = [str(part).strip().upper() for part in _many(dataset.get("ImageType"))]
    return (
        str(dataset.get("Modality") or "").strip().upper() in _ANNOTATED_MODALITIES
        or any(sop_class == known or sop_class.startswith(f"{known}.") for known in _ANNOTATED_CLASSES)
        or bool(str(dataset.get("ConversionType") or "").strip())
        or any(known in kind for kind in kinds[2:] for known in _ANNOTATED_TYPES)
        or (kinds[1:2] == ["SECONDARY"] and not any(known in kinds for known in _RECONSTRUCTED))
    )


def _many(value: Any) -> list[Any]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def _moved(element: DataElement, days: int) -> bool:
    """Move a date into the past; times of day stay. False where a value isn't one of the standard's."""
    if element.is_empty:
        return True
    vr = str(element.VR)
    values = [str(value) for value in (element.value if element.VM > 1 else [element.value])]
    if vr == "TM":
        return all(re.fullmatch(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)? *", value) for value in values)
    pattern = r"(\d{8}) *" if vr == "DA" else r"(\d{8})((?:\d{2}){0,3}(?:\.\d{1,6})?(?:[+-]\d{4})?) *"
    moved = []
    for value in values:
        found = re.fullmatch(pattern, value)
        try:
            day = datetime.datetime.strptime(found[1] if found else "", "%Y%m%d").date() - datetime.timedelta(days)
        except (ValueError, OverflowError):
            return False
        moved.append(f"{day:%Y%m%d}".zfill(8) + (found[2] if found and vr == "DT" else ""))
    element.value = moved if len(moved) > 1 else moved[0]
    return True


def _new_meta(dataset: Dataset, sop_uid: str) -> None:
    """Give a file a header of its own, for the old one names the machines that it went through."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID

    syntax = dataset.file_meta.TransferSyntaxUID
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = UID(sop_uid)
    dataset.preamble = bytes(128)
