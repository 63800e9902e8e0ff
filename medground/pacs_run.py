"""Pictures of a PACS grounded one after the other and their objects stored back: resumable, and nothing stored twice.

The folder keeps ``stored.jsonl``, a line for each picture that is done, by UID, and ``pacs.json``, what the run was
asked. Objects are written into ``outbox/`` before they are sent, and leave it once the server has them: a run that was
killed in between sends the same objects again, which a server knows by their UIDs.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medground._io import alone, hold_settings, make_folder, read_lines, write_bytes
from medground.dicom import SavedDicom, save_dicom
from medground.errors import ConfigError, MedgroundError, MissingExtraError
from medground.image_files import quiet
from medground.images import MedicalImage, load_image
from medground.pacs import Instance, Pacs, UnreachableError
from medground.pipeline import MedGround
from medground.prompts import clean_question

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["PacsProgress", "run_pacs", "wanted_frame"]

_NAME = "instance.dcm"


@dataclass(frozen=True, slots=True)
class PacsProgress:
    """How far a run over a PACS is.

    Parameters
    ----------
    total : int
        Pictures that it is about.
    found : int
        Those that an earlier run had done.
    stored, absent, failed : int
        Those that this run stored objects for, whose target isn't in the picture, and that couldn't be done.
    """

    total: int
    found: int
    stored: int = 0
    absent: int = 0
    failed: int = 0


def run_pacs(
    grounder: MedGround,
    pacs: Pacs,
    instances: Sequence[Instance],
    question: str,
    folder: str | Path,
    *,
    target: str | None = None,
    frame: int | None = None,
    window: tuple[float, float] | None = None,
    settings: Mapping[str, Any] | None = None,
    retry_failed: bool = False,
    on_row: Callable[[PacsProgress], None] | None = None,
    **asking: Any,
) -> PacsProgress:
    """Ground pictures of a PACS and store a Segmentation and a structured report beside each.

    Parameters
    ----------
    grounder : MedGround
    pacs : Pacs
    instances : sequence of Instance
        As `Pacs.instances` finds them.
    question : str
    folder : str or Path
        What was done is kept there by UID; nothing about a patient stays in it, but objects that couldn't be stored
        yet wait in its ``outbox``.
    target : str or None
        As `medground.dicom.make_dicom` takes it.
    frame : int or None
        Of pictures with many frames, from 0; the middle one by default.
    window : (float, float) or None
        Centre and width.
    settings : mapping or None
        What else makes the answers: names of models; a run is continued with the same only.
    retry_failed : bool
        Do pictures again that failed before.
    on_row : callable or None
        Told of the progress after each picture.
    **asking
        As `MedGround.ground` takes them.

    Returns
    -------
    PacsProgress

    Raises
    ------
    ConfigError
        The folder belongs to something else, or can't be written.
    UnreachableError
        The PACS can't be reached any more; the same call continues.
    """
    out = make_folder(folder)
    asked = {
        "pacs": pacs.url,
        # Not in words: a question may tell of a patient.
        "question": hashlib.sha256(clean_question(question).encode()).hexdigest(),
        "target": target,
        "frame": frame,
        "window": None if window is None else list(window),
        **(settings or {}),
    }
    with alone(out):
        held, path = out / "pacs.json", out / "stored.jsonl"
        if path.exists() and not held.exists():
            raise ConfigError(f"{out} holds a stored.jsonl of something else; choose another folder")
        hold_settings(held, asked, "run")
        done = _done(path, retry_failed)
        outbox = make_folder(out / "outbox")
        os.chmod(outbox, 0o700)
        wanted = {_key(one, frame): one for one in instances}  # the same picture may have been found twice
        todo = [one for key, one in wanted.items() if key not in done]
        progress = PacsProgress(len(wanted), len(wanted) - len(todo))
        with path.open("ab") as stream:
            for one in todo:
                row = {"sop": one.sop_uid, "frame": wanted_frame(one, frame)}
                try:
                    row |= _one(grounder, pacs, one, question, outbox, target, frame, window, asking)
                except (UnreachableError, MissingExtraError):
                    raise
                except MedgroundError as error:
                    row |= {"status": "failed", "error": str(error)}
                stream.write(json.dumps(row, allow_nan=False).encode("ascii") + b"\n")
                stream.flush()
                os.fsync(stream.fileno())
                status = str(row["status"])
                for file in _waiting(outbox, one, frame) if status != "failed" else ():
                    file.unlink(missing_ok=True)
                progress = dataclasses.replace(progress, **{status: getattr(progress, status) + 1})
                if on_row is not None:
                    on_row(progress)
    return progress


def wanted_frame(instance: Instance, frame: int | None) -> int | None:
    """Return which frame of an instance is grounded, from 0; None where it holds one."""
    if instance.frames == 1:
        return None
    return instance.frames // 2 if frame is None else frame


def _one(
    grounder: MedGround,
    pacs: Pacs,
    instance: Instance,
    question: str,
    outbox: Path,
    target: str | None,
    frame: int | None,
    window: tuple[float, float] | None,
    asking: Mapping[str, Any],
) -> dict[str, Any]:
    from pydicom import dcmread

    masked, told = _waiting(outbox, instance, frame)
    if not told.exists():  # written last, so what lies beside it is whole
        masked.unlink(missing_ok=True)
        with tempfile.TemporaryDirectory(prefix="medground-") as scratch:
            image, source = _fetched(pacs, instance, frame, window, Path(scratch))
            result = grounder.ground(image, question, **asking)
            if not (result.grounding.boxes or result.points or (result.mask is not None and result.mask.any())):
                return {"status": "absent"}
            made = save_dicom(result, source, scratch, target=target, stem="made")
            _post(made, masked, told)
    with quiet():
        objects = [dcmread(file) for file in (masked, told) if file.exists()]
    pacs.store(objects, instance.series.study_uid)
    seg = objects[0].SOPInstanceUID if len(objects) == 2 else None
    return {"status": "stored", "seg": seg, "sr": objects[-1].SOPInstanceUID}


def _post(made: SavedDicom, masked: Path, told: Path) -> None:
    if made.seg is not None:
        write_bytes(masked, made.seg.read_bytes())
    write_bytes(told, made.sr.read_bytes())


def _fetched(
    pacs: Pacs, instance: Instance, frame: int | None, window: tuple[float, float] | None, scratch: Path
) -> tuple[MedicalImage, Path]:
    """Return the picture, and the file that DICOM objects are made from."""
    path = scratch / _NAME
    wanted = wanted_frame(instance, frame)
    if wanted is not None and wanted >= instance.frames:
        raise ConfigError(f"the instance has no frame {wanted}: valid is 0 to {instance.frames - 1}")
    part = None if wanted is None else pacs.retrieve_frame(instance, wanted)
    if part is None or wanted is None:
        dataset = pacs.retrieve(instance)
        _write(dataset, path)
        # A search needn't tell how many frames there are; the instance itself does.
        whole = dataclasses.replace(instance, frames=_frames(dataset))
        return load_image(path, frame=wanted_frame(whole, frame), window=window), path
    header, pixels = part
    _write(header, path)
    (scratch / "frame").mkdir()
    alone_there = scratch / "frame" / _NAME
    _write(_single(header, wanted, pixels), alone_there)
    image = load_image(alone_there, window=window)
    return dataclasses.replace(
        image, provenance=dataclasses.replace(image.provenance, frame=wanted, frames=instance.frames)
    ), path


def _frames(dataset: Dataset) -> int:
    try:
        return max(1, int(dataset.get("NumberOfFrames") or 1))
    except (TypeError, ValueError):
        return 1


def _single(header: Dataset, frame: int, pixels: bytes) -> Dataset:
    """Return a data set of one frame of many."""
    from pydicom import Dataset

    one = Dataset()
    one.update(header)
    one.NumberOfFrames = 1
    groups = header.get("PerFrameFunctionalGroupsSequence")
    if groups is not None and frame < len(groups):
        one.PerFrameFunctionalGroupsSequence = [groups[frame]]
    one.add_new("PixelData", "OW", pixels + b"\0" * (len(pixels) % 2))
    return one


def _write(dataset: Dataset, path: Path) -> None:
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    with quiet():
        if "TransferSyntaxUID" not in getattr(dataset, "file_meta", ()):  # of metadata, which came without
            dataset.file_meta = FileMetaDataset()
            dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        try:
            dataset.save_as(path, enforce_file_format=True)
        except (OSError, MedgroundError):
            raise
        except Exception:  # pydicom raises all kinds, and quotes the element
            raise ConfigError("the PACS sent an instance that can't be written as a DICOM file; export it") from None


def _waiting(outbox: Path, instance: Instance, frame: int | None) -> tuple[Path, Path]:
    name = hashlib.sha256(repr(_key(instance, frame)).encode()).hexdigest()[:32]
    return outbox / f"{name}.seg.dcm", outbox / f"{name}.sr.dcm"


def _key(instance: Instance, frame: int | None) -> tuple[str, int | None]:
    return instance.sop_uid, wanted_frame(instance, frame)


def _done(path: Path, retry_failed: bool) -> set[tuple[str, int | None]]:
    """Return what is done, after cutting off a half-written last line."""
    if not path.exists():
        return set()
    done: set[tuple[str, int | None]] = set()
    whole = 0
    for number, (_, whole), row in read_lines(path):  # noqa: B007
        if not isinstance(row.get("sop"), str) or row.get("status") not in ("stored", "absent", "failed"):
            raise ConfigError(f"{path}:{number} is damaged; remove that line")
        key = (row["sop"], row.get("frame"))
        if row["status"] == "failed" and retry_failed:
            done.discard(key)
        else:
            done.add(key)
    if whole < path.stat().st_size:
        os.truncate(path, whole)
    return done
