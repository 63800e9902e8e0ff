"""A PACS by DICOMweb: find pictures (QIDO-RS), retrieve an instance or one of its frames (WADO-RS), store (STOW-RS).

What a server says may hold patient fields, and so may an address that it was asked at, so neither reaches a message or
a log.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from medground.dicom.qido import UID, answers, filters_of, number, text
from medground.errors import ConfigError, MedgroundError, MissingExtraError
from medground.image_files import MAX_BYTES, MAX_PIXELS, quiet
from medground.web_guard import is_loopback

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["Instance", "Pacs", "PacsError", "Series", "UnreachableError"]

_PAGE = 100
_MOST_ROWS = 100_000
_EXPLICIT = "1.2.840.10008.1.2.1"
_BUSY = (408, 429, 502, 503, 504)


class PacsError(MedgroundError):
    """A PACS that refused, or that answered outside DICOMweb; says what was asked for and the remedy."""


class UnreachableError(PacsError):
    """A PACS that can't be reached, or not with these credentials: asking it for more is of no use."""


@dataclass(frozen=True, slots=True)
class Series:
    """A series that a search found; nothing in it is about the patient.

    Parameters
    ----------
    study_uid, series_uid : str
    modality : str
        Such as "CT"; empty where the server doesn't say.
    """

    study_uid: str
    series_uid: str
    modality: str


@dataclass(frozen=True, slots=True)
class Instance:
    """A picture of a series.

    Parameters
    ----------
    series : Series
    sop_uid : str
    number : int
        Its place in the series; 0 where the server doesn't say.
    frames : int
        How many frames it holds, at least 1.
    """

    series: Series
    sop_uid: str
    number: int
    frames: int


class Pacs:
    """A DICOMweb server.

    Certificates are always checked, redirections are refused, proxies and ``.netrc`` of the environment are left out.
    A request that meets a busy server or a broken connection is tried again, after 0.5, 1, 2, ... seconds or after what
    the server asks for, at most a minute.

    Parameters
    ----------
    url : str
        The server's DICOMweb root, such as ``https://pacs.example.org/dicom-web``. Plain http only for this machine.
    token : str or None
        Sent as a bearer token.
    user, password : str or None
        Sent by basic authentication; not with a token.
    ca : Path or None
        PEM file of the authorities that certificates are checked against; the usual ones by default.
    allow_http : bool
        Talk to other machines without encryption.
    timeout : float
        Seconds to connect, and to wait for the next bytes.
    attempts : int
        How often a request is made at most.
    max_bytes : int
        The largest answer that is read, unpacked, and the most that is stored at once.

    Raises
    ------
    ConfigError
        The address or the credentials can't be used.
    MissingExtraError
        dicomweb-client isn't installed.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        user: str | None = None,
        password: str | None = None,
        ca: Path | None = None,
        allow_http: bool = False,
        timeout: float = 30.0,
        attempts: int = 4,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        try:
            from dicomweb_client import DICOMwebClient
        except ImportError:
            raise MissingExtraError("dicomweb-client", extra="pacs", purpose="talking to a PACS") from None
        import requests
        from requests.adapters import HTTPAdapter
        from requests.auth import HTTPBasicAuth
        from urllib3 import Retry

        self.url = _checked(url, allow_http)
        if token is not None and (user is not None or password is not None):
            raise ConfigError("a PACS takes a token or a user with a password, not both; give one of them")
        if (user is None) != (password is None):
            raise ConfigError("a PACS user needs a password, and a password a user; give both or neither")
        session = requests.Session()
        session.trust_env = False
        session.max_redirects = 0
        if ca is not None:
            if not ca.is_file():
                raise ConfigError(f"{ca} isn't a file; name a PEM file of certificate authorities")
            session.verify = str(ca)
        if user is not None and password is not None:
            session.auth = HTTPBasicAuth(user.encode(), password.encode())
        retry = Retry(
            attempts - 1,
            backoff_factor=0.5,
            backoff_max=30,
            retry_after_max=60,
            status_forcelist=_BUSY,
            allowed_methods=None,  # storing again what was stored is no harm: an instance is known by its UID
            raise_on_status=False,
        )
        for scheme in ("https://", "http://"):
            session.mount(scheme, HTTPAdapter(max_retries=retry))
        self._max_bytes = max_bytes

        def bound(response: Any, **_: Any) -> None:
            response.raw = _Bounded(response.raw, max_bytes)

        # A chunk as large as the bound: what is sent in chunks can't be sent again.
        self._client = DICOMwebClient(
            self.url,
            session,
            headers=None if token is None else {"Authorization": f"Bearer {_header(token)}"},
            callback=bound,
            chunk_size=max_bytes,
            permissive_uid=True,
            timeout=timeout,
        )
        self._client.set_http_retry_params(retry=False)

    def find(
        self,
        *,
        modality: str | None = None,
        date: str | None = None,
        study: str | None = None,
        series: str | None = None,
        patient: str | None = None,
        limit: int = 100,
    ) -> list[Series]:
        """Return the series that match all that is given, at most `limit`.

        Parameters
        ----------
        modality : str or None
            Such as "CT". Segmentations are found only by "SEG".
        date : str or None
            Of the study: YYYYMMDD, or from-to with one end or both, as in "20240101-20241231" and "20240101-".
        study, series : str or None
            UIDs.
        patient : str or None
            The patient ID, exactly; wildcards are refused.
        limit : int

        Returns
        -------
        list of Series

        Raises
        ------
        ConfigError
            A criterion can't be used, or there is none.
        PacsError
        """
        filters = filters_of(modality, date, study, series, patient)
        found: list[Series] = []
        for one in self._pages("studies", self._client.search_for_studies, filters):
            uid = text(one, "0020000D")
            if not UID.fullmatch(uid) or not answers(one, date, study, patient):
                continue
            inner = {name: value for name, value in (("Modality", modality), ("SeriesInstanceUID", series)) if value}
            for row in self._pages("series", self._client.search_for_series, inner, uid):
                kind, series_uid = text(row, "00080060"), text(row, "0020000E")
                wanted = kind == modality if modality is not None else kind != "SEG"
                if wanted and UID.fullmatch(series_uid) and series in (None, series_uid):
                    found.append(Series(uid, series_uid, kind))
                if len(found) >= limit:
                    return found
        return found

    def instances(self, series: Series, limit: int = 5000) -> list[Instance]:
        """Return the pictures of a series in its order; what has no rows and columns is no picture."""
        found = []
        for row in self._pages("instances", self._client.search_for_instances, {}, series.study_uid, series.series_uid):
            uid = text(row, "00080018")
            if UID.fullmatch(uid) and number(row, "00280010") and number(row, "00280011"):
                frames = max(1, number(row, "00280008"))
                found.append(Instance(series, uid, number(row, "00200013"), frames))
            if len(found) >= limit:
                break
        return sorted(found, key=lambda one: (one.number, one.sop_uid))

    def retrieve(self, instance: Instance) -> Dataset:
        """Return a whole instance, as it was stored."""
        with self._asking("retrieve an instance"):
            dataset: Dataset = self._client.retrieve_instance(*_address(instance))
        if str(dataset.get("SOPInstanceUID")) != instance.sop_uid:
            raise PacsError("the PACS sent another instance than was asked for (SOPInstanceUID); tell its keeper")
        return dataset

    def retrieve_frame(self, instance: Instance, frame: int) -> tuple[Dataset, bytes] | None:
        """Return one frame's pixels without the others.

        Parameters
        ----------
        instance : Instance
        frame : int
            Counted from 0.

        Returns
        -------
        (Dataset, bytes) or None
            Everything of the instance but its pixels, and the frame's, native and little endian. None where pixels
            alone don't make the picture (colour, look-up tables) or where the server can't unpack them: then the
            instance has to be retrieved whole.
        """
        from pydicom import Dataset

        with self._asking("retrieve metadata"):
            rows = self._client.retrieve_instance_metadata(*_address(instance))
            header = Dataset.from_json(rows, bulk_data_uri_handler=lambda *_: None)
        grey = header.get("PhotometricInterpretation") in ("MONOCHROME1", "MONOCHROME2")
        tables = any(name in header for name in ("ModalityLUTSequence", "VOILUTSequence"))
        size = [header.get(name) for name in ("Rows", "Columns", "BitsAllocated", "SamplesPerPixel")]
        if not grey or tables or header.get("SOPInstanceUID") != instance.sop_uid or None in size:
            return None
        rows_, columns, bits, samples = (int(value) for value in size)
        if samples != 1 or bits not in (8, 16) or rows_ * columns > MAX_PIXELS:
            return None
        try:
            with self._asking("retrieve a frame"):
                parts = self._client.retrieve_instance_frames(
                    *_address(instance), [frame + 1], media_types=(("application/octet-stream", _EXPLICIT),)
                )
        except UnreachableError:
            raise
        except PacsError:
            return None
        if len(parts) != 1 or len(parts[0]) != rows_ * columns * bits // 8:
            return None
        return header, bytes(parts[0])

    def store(self, datasets: Sequence[Dataset], study_uid: str) -> None:
        """Store objects of one study; raises PacsError unless the server says of each that it has it now."""
        with self._asking("store"):
            answer: Dataset = self._client.store_instances(datasets, study_uid)
        for failed in answer.get("FailedSOPSequence") or ():
            reason = failed.get("FailureReason")
            code = f" (FailureReason {reason:04X}H)" if isinstance(reason, int) else ""
            raise PacsError(f"the PACS didn't store an object{code}; look into its log")
        there = {str(one.get("ReferencedSOPInstanceUID")) for one in answer.get("ReferencedSOPSequence") or ()}
        if not {str(one.SOPInstanceUID) for one in datasets} <= there:
            raise PacsError("the PACS didn't say that it stored all objects; look into its log")

    def _pages(self, what: str, search: Any, filters: Mapping[str, str], *uids: str) -> Iterator[dict[str, Any]]:
        """Yield what a search finds, page by page; a server that pages in circles is noticed."""
        seen: set[str] = set()
        while True:
            with self._asking(f"search for {what}"):
                rows = search(*uids, limit=_PAGE, offset=len(seen), search_filters=dict(filters))
            fresh = []
            for row in rows if isinstance(rows, list) else ():
                key = "/".join(text(row, tag) for tag in ("0020000D", "0020000E", "00080018"))
                if key not in seen:
                    seen.add(key)
                    fresh.append(row)
            if not fresh:
                return
            if len(seen) > _MOST_ROWS:
                raise PacsError(f"the PACS finds more than {_MOST_ROWS:,} {what}; narrow the search with --date")
            yield from fresh

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        """Turn what goes wrong between here and the server into one sentence, without what either said."""
        import requests

        host = urlsplit(self.url).hostname
        try:
            with quiet():
                yield
        except MedgroundError:
            raise
        except requests.exceptions.HTTPError as error:
            status = 0 if error.response is None else error.response.status_code
            if status in (401, 403):
                raise UnreachableError(
                    f"the PACS at {host} refused the credentials (HTTP {status}); set MEDGROUND_PACS_TOKEN, or "
                    "MEDGROUND_PACS_USER and MEDGROUND_PACS_PASSWORD"
                ) from None
            if status in _BUSY:
                raise UnreachableError(f"the PACS at {host} is busy or down (HTTP {status}); try later") from None
            raise PacsError(f"the PACS at {host} couldn't {what} (HTTP {status}); look into its log") from None
        except requests.exceptions.TooManyRedirects:
            raise ConfigError(
                f"the PACS at {host} redirects to another address; give that address, down to its DICOMweb root"
            ) from None
        except requests.exceptions.SSLError:
            raise UnreachableError(
                f"the PACS at {host} has a certificate that can't be verified; give its authority with --ca"
            ) from None
        except (requests.exceptions.ConnectionError, requests.exceptions.Timeout):
            raise UnreachableError(f"the PACS at {host} can't be reached; check its address and that it runs") from None
        except Exception:  # dicomweb-client and pydicom raise all kinds over an answer that isn't DICOMweb
            raise PacsError(
                f"the PACS at {host} answered a request to {what} with something else than DICOMweb; check that the "
                "address is its DICOMweb root"
            ) from None


class _Bounded:
    """A response's body that ends with an error where it grows beyond a bound, counted after decompression."""

    def __init__(self, raw: Any, limit: int) -> None:
        self._raw, self._limit = raw, limit

    def stream(self, amount: int = 2**16, decode_content: bool | None = None) -> Iterator[bytes]:
        total = 0
        for chunk in self._raw.stream(min(amount, 2**16), decode_content=decode_content):
            total += len(chunk)
            if total > self._limit:
                raise PacsError(
                    f"the PACS's answer is above the limit of {self._limit:,} bytes; ask for one frame, or raise "
                    "--max-bytes"
                )
            yield chunk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)


def _checked(url: str, allow_http: bool) -> str:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        raise ConfigError("the PACS's address must be https://HOST[:PORT]/PATH, down to its DICOMweb root")
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            "the PACS's address holds a user or password, which ends up in histories; set MEDGROUND_PACS_USER and "
            "MEDGROUND_PACS_PASSWORD instead"
        )
    if parts.scheme == "http" and not (allow_http or is_loopback(host)):
        raise ConfigError(
            f"http:// to {host} would carry patient data unencrypted; use https://, or --allow-http on a network that "
            "is safe otherwise"
        )
    return url.rstrip("/")


def _header(token: str) -> str:
    if not token.isascii() or not token.isprintable() or not token.strip():
        raise ConfigError("MEDGROUND_PACS_TOKEN isn't printable ASCII; set the token alone, without line ends")
    return token.strip()


def _address(instance: Instance) -> tuple[str, str, str]:
    return instance.series.study_uid, instance.series.series_uid, instance.sop_uid
