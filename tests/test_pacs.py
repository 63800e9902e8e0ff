"""Finding, grounding and storing against a real Orthanc; manners towards servers that misbehave, on loopback."""

from __future__ import annotations

import gzip
import json
import logging
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from conftest import FillingSegmenter, LoopbackServer, ScriptedReasoner
from typer.testing import CliRunner

from medground import RESEARCH_USE, MedGround
from medground.errors import ConfigError, MedgroundError
from medground.image_files import quiet
from medground.pacs import Instance, Pacs, PacsError, Series, UnreachableError
from medground.pacs_cli import pacs as pacs_command
from medground.pacs_run import _fetched, run_pacs

pytest.importorskip("dicomweb_client", reason="dicomweb-client isn't installed: pip install 'medground[pacs]'")
hd = pytest.importorskip("highdicom", reason="highdicom isn't installed: pip install 'medground[dicom]'")

from pydicom import dcmread  # noqa: E402
from test_dicom import CT, FILES, enhanced, groups_of, measured, pixels  # noqa: E402

ORTHANC = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
QUESTION = "Where would it show?"
CT_STUDY = "1.3.6.1.4.1.5962.1.2.1.20040119072730.12322"


class Orthanc:
    """A PACS of its own in a folder, on loopback, with a user and a password."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/dicom-web"
        settings = {
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "HttpPort": self.port,
            "RemoteAccessAllowed": False,
            "DicomServerEnabled": False,
            "AuthenticationEnabled": True,
            "RegisteredUsers": {"reader": "a pässword"},
            "ConcurrentJobs": 1,
            "HttpThreadsCount": 4,
            "Plugins": [str(PLUGIN)],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        (folder / "orthanc.json").write_text(json.dumps(settings), encoding="utf-8")
        with (folder / "orthanc.log").open("wb") as log:
            self.process = subprocess.Popen(
                [str(ORTHANC), str(folder / "orthanc.json")], stdout=log, stderr=log, cwd=folder
            )
        for _ in range(240):
            if self.process.poll() is not None:
                raise RuntimeError((folder / "orthanc.log").read_text(errors="replace"))
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    break
            time.sleep(0.25)

    def pacs(self, **options: Any) -> Pacs:
        return Pacs(self.url, user="reader", password="a pässword", **options)

    def all_of(self, modality: str) -> list[Any]:
        server = self.pacs()
        return [server.retrieve(one) for series in server.find(modality=modality) for one in everything(server, series)]


def everything(server: Pacs, series: Any) -> list[Any]:
    """The instances of a series, pictures or not."""
    with quiet():
        rows = server._client.search_for_instances(series.study_uid, series.series_uid)
    return [Instance(series, row["00080018"]["Value"][0], 0, 1) for row in rows]


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    if ORTHANC is None or not PLUGIN.exists():
        pytest.skip("no Orthanc with its DICOMweb plugin: apt-get install orthanc orthanc-dicomweb")
    folder = tmp_path / "orthanc"
    folder.mkdir()
    server = Orthanc(folder)
    yield server
    server.process.terminate()
    server.process.wait(20)


def grounder() -> MedGround:
    return MedGround(ScriptedReasoner(), FillingSegmenter())


def middle_of(rows: int, columns: int) -> np.ndarray:
    """What the scripted reasoner points at, filled."""
    mask = np.zeros((rows, columns), bool)
    mask[round(rows * 0.25) : round(rows * 0.5), round(columns * 0.25) : round(columns * 0.75)] = True
    return mask


def test_find_ground_store_and_read_back(
    orthanc: Orthanc, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(0)
    (tmp_path / "enhanced").mkdir()
    many = enhanced(tmp_path / "enhanced")
    colour = FILES / "SC_rgb_jpeg_dcmtk.dcm"
    server = orthanc.pacs()
    for path in (CT, FILES / "MR_small_jp2klossless.dcm", colour, many):
        dataset = dcmread(path)
        server.store([dataset], dataset.StudyInstanceUID)

    # Single frame.
    [series] = server.find(modality="CT", date="20040101-20041231", patient="1CT1")
    [found] = server.instances(series)
    assert (series.study_uid, found.frames) == (CT_STUDY, 1)
    out = tmp_path / "run"
    end = run_pacs(grounder(), server, [found], QUESTION, out, target="kidney left", settings={"reasoner": "scripted"})
    assert (end.total, end.found, end.stored, end.failed) == (1, 0, 1, 0)
    [seg], [report] = orthanc.all_of("SEG"), orthanc.all_of("SR")
    source = dcmread(CT)
    mask = middle_of(source.Rows, source.Columns)
    read = hd.seg.Segmentation.from_dataset(seg)
    assert (pixels(read, source.SOPInstanceUID, None) == mask).all()
    assert read.SegmentSequence[0].SegmentLabel == "kidney left"
    own = seg.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
    assert own.ImagePositionPatient == source.ImagePositionPatient
    assert {seg.StudyInstanceUID, report.StudyInstanceUID} == {CT_STUDY}
    report.save_as(tmp_path / "report.dcm")
    group = groups_of(tmp_path / "report.dcm")[0]
    assert group.referenced_segmentation_frame.referenced_sop_instance_uid == seg.SOPInstanceUID
    area = mask.sum() * float(np.prod([float(value) for value in source.PixelSpacing]))
    assert measured(group)["Area"] == (pytest.approx(area), "mm2")

    # One frame of many, without the others; colour and JPEG 2000, which have to come whole.
    assert [one.frames for one in server.instances(server.find(study="1.2.3")[0])] == [5]
    everyone = [one for study in server.find(date="20040801-") for one in server.instances(study)]
    everyone += [one for study in server.find(study="1.2.3") for one in server.instances(study)]
    everyone += [one for study in server.find(modality="OT") for one in server.instances(study)]
    end = run_pacs(grounder(), server, everyone, QUESTION, tmp_path / "others", frame=3)
    assert (len(everyone), end.total, end.stored, end.failed) == (4, 3, 3, 0)  # one of them was found twice
    masks = {seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID: seg
             for seg in orthanc.all_of("SEG")}  # fmt: skip
    seg = hd.seg.Segmentation.from_dataset(masks["1.2.3.4"])
    assert (pixels(seg, "1.2.3.4", 4) == middle_of(40, 50)).all()
    position = seg.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
    assert position.ImagePositionPatient == [10 + 3 * 3, -20, 5]
    for path in (FILES / "MR_small_jp2klossless.dcm", colour):
        source = dcmread(path)
        seg = hd.seg.Segmentation.from_dataset(masks[source.SOPInstanceUID])
        assert (pixels(seg, source.SOPInstanceUID, None) == middle_of(source.Rows, source.Columns)).all()

    assert not caplog.records
    assert capfd.readouterr() == ("", "")
    kept = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    assert b"CompressedSamples" not in kept
    assert b"1CT1" not in kept
    assert QUESTION.encode() not in kept


def test_frames_come_alone_where_they_can(orthanc: Orthanc, tmp_path: Path) -> None:
    server = orthanc.pacs()
    many = enhanced(tmp_path)
    for path in (many, CT, FILES / "MR_small_jp2klossless.dcm", FILES / "SC_rgb_jpeg_dcmtk.dcm"):
        server.store([dcmread(path)], dcmread(path).StudyInstanceUID)
    [one] = server.instances(server.find(study="1.2.3")[0])
    for frame in (0, 4):
        part = server.retrieve_frame(one, frame)
        assert part is not None
        header, stored = part
        assert stored == dcmread(many).pixel_array[frame].tobytes()
        assert len(header.PerFrameFunctionalGroupsSequence) == 5
    for kind in ("MR", "OT"):  # JPEG 2000, which this Orthanc can't unpack, and colour
        [series] = server.find(modality=kind)
        [whole] = server.instances(series)
        assert server.retrieve_frame(whole, 0) is None
        assert server.retrieve(whole).file_meta.TransferSyntaxUID.is_compressed
    tight = orthanc.pacs(max_bytes=1 << 16)
    big = dcmread(FILES / "SC_rgb_small_odd.dcm")
    big.Rows = big.Columns = 200
    big.PixelData = bytes(200 * 200 * 3)
    server.store([big], big.StudyInstanceUID)
    found = [one for study in tight.find(modality="OT") for one in tight.instances(study)]
    [large] = [one for one in found if one.sop_uid == big.SOPInstanceUID]
    with pytest.raises(PacsError, match="limit of 65,536 bytes"):
        tight.retrieve(large)


def test_a_run_that_was_killed_goes_on_and_stores_nothing_twice(
    orthanc: Orthanc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = orthanc.pacs()
    for path in (CT, FILES / "MR_small.dcm"):
        server.store([dcmread(path)], dcmread(path).StudyInstanceUID)
    chosen = [one for series in server.find(date="20040101-") for one in server.instances(series)]
    out, store = tmp_path / "run", Pacs.store

    def killed(self: Pacs, datasets: Any, study_uid: str) -> None:
        store(self, datasets, study_uid)
        raise UnreachableError("the cable was pulled before the answer came")

    with monkeypatch.context() as patch:
        patch.setattr(Pacs, "store", killed)
        with pytest.raises(UnreachableError):
            run_pacs(grounder(), server, chosen, QUESTION, out)
    assert len(orthanc.all_of("SEG")) == 1
    assert len(list((out / "outbox").iterdir())) == 2
    assert (out / "outbox").stat().st_mode & 0o077 == 0
    with (out / "stored.jsonl").open("ab") as file:
        file.write(b'{"sop": "1.2.3", "sta')  # as a kill leaves it
    reasoner = ScriptedReasoner()
    end = run_pacs(MedGround(reasoner, FillingSegmenter()), server, chosen, QUESTION, out)
    assert (end.found, end.stored) == (0, 2)
    assert sum(reasoner.batches) == 1  # what was made before isn't made again
    assert len(orthanc.all_of("SEG")) == len(orthanc.all_of("SR")) == 2
    assert not list((out / "outbox").iterdir())
    rows = [json.loads(line) for line in (out / "stored.jsonl").read_text().splitlines()]
    assert {row["seg"] for row in rows} == {one.SOPInstanceUID for one in orthanc.all_of("SEG")}
    assert run_pacs(grounder(), server, chosen, QUESTION, out).found == 2
    assert len(orthanc.all_of("SEG")) == 2
    with pytest.raises(ConfigError, match="holds a run with question"):
        run_pacs(grounder(), server, chosen, "Something else?", out)


def test_what_a_pacs_refuses_is_kept_and_sent_again(
    orthanc: Orthanc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, out = orthanc.pacs(), tmp_path / "run"
    server.store([dcmread(CT)], CT_STUDY)
    [one] = server.instances(server.find(modality="CT")[0])

    def refused(*_: Any) -> None:
        raise PacsError("the PACS couldn't store (HTTP 409)")

    with monkeypatch.context() as patch:
        patch.setattr(Pacs, "store", refused)
        end = run_pacs(grounder(), server, [one], QUESTION, out)
    assert (end.stored, end.failed) == (0, 1)
    assert "HTTP 409" in (out / "stored.jsonl").read_text()
    waiting = sorted(dcmread(file).SOPInstanceUID for file in (out / "outbox").iterdir())
    assert run_pacs(grounder(), server, [one], QUESTION, out).found == 1
    end = run_pacs(grounder(), server, [one], QUESTION, out, retry_failed=True)
    assert (end.stored, end.failed) == (1, 0)
    assert sorted(seen.SOPInstanceUID for kind in ("SEG", "SR") for seen in orthanc.all_of(kind)) == waiting
    assert not list((out / "outbox").iterdir())
    absent = ScriptedReasoner(lambda *_: '<think>It is not there.</think><answer>{"absent": true}</answer>')
    end = run_pacs(MedGround(absent, FillingSegmenter()), server, [one], QUESTION, tmp_path / "absent")
    assert (end.stored, end.absent) == (0, 1)


def test_the_command(
    orthanc: Orthanc, endpoint: LoopbackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = orthanc.pacs()
    server.store([dcmread(CT)], CT_STUDY)
    app = typer.Typer()
    app.command()(pacs_command)
    monkeypatch.setenv("MEDGROUND_PACS_USER", "reader")
    monkeypatch.setenv("MEDGROUND_PACS_PASSWORD", "a pässword")
    options = [orthanc.url, QUESTION, "--modality", "CT", "--out", str(tmp_path / "run")]
    options += ["--reasoner", endpoint.spec, "--segmenter", "none"]
    told = CliRunner().invoke(app, [*options, "--dry-run", "--json"])
    assert told.exit_code == 0, told.output
    [picture] = json.loads(told.output)["pictures"]
    assert picture["sop"] == dcmread(CT).SOPInstanceUID
    assert not (tmp_path / "run").exists()
    assert not orthanc.all_of("SR")
    told = CliRunner().invoke(app, [*options, "--json"])
    assert told.exit_code == 0, (told.output, told.exception)
    assert json.loads(told.stdout) | {"done": ""} == {
        "total": 1, "found": 0, "stored": 1, "absent": 0, "failed": 0, "done": ""
    }  # fmt: skip
    assert len(endpoint.questions) == len(orthanc.all_of("SR")) == 1
    assert not orthanc.all_of("SEG")
    told = CliRunner().invoke(app, options)
    assert told.exit_code == 0, (told.output, told.exception)
    assert "1 were done already" in told.stdout
    assert RESEARCH_USE in told.stdout
    monkeypatch.setenv("MEDGROUND_PACS_PASSWORD", "wrong words")
    refused = CliRunner().invoke(app, [*options, "--dry-run"])
    assert isinstance(refused.exception, UnreachableError)
    assert "MEDGROUND_PACS_TOKEN" in str(refused.exception)
    assert "wrong words" not in str(refused.exception)


Answer = Callable[[BaseHTTPRequestHandler], None]


class Rude(ThreadingHTTPServer):
    """A server that answers each request with the next of its answers, the last one for ever."""

    daemon_threads = True

    def __init__(self, *answers: Answer, tls: ssl.SSLContext | None = None) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.authorizations: list[str | None] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                rude.asked.append(self.path)
                rude.authorizations.append(self.headers["Authorization"])
                answer = rude.answers.pop(0) if len(rude.answers) > 1 else rude.answers[0]
                answer(self)

            def log_message(self, *_: object) -> None:
                pass

        rude = self
        super().__init__(("127.0.0.1", 0), Handler)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/dicom-web"


def says(body: bytes, status: int = 200, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in ({"Content_Type": "application/dicom+json"} | headers).items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def studies(*patients: str) -> bytes:
    return json.dumps(
        [
            {"0020000D": {"vr": "UI", "Value": [f"1.2.{index}"]}, "00100020": {"vr": "LO", "Value": [patient]}}
            for index, patient in enumerate(patients)
        ]
    ).encode()


def test_a_busy_server_is_asked_again() -> None:
    server = Rude(says(b"", 503, Retry_After="0"), says(b"", 429, Retry_After="0"), says(b"[]"))
    assert Pacs(server.url, token="abc").find(patient="7") == []
    assert len(server.asked) == 3
    assert set(server.authorizations) == {"Bearer abc"}
    always = Rude(says(b"", 503, Retry_After="0"))
    with pytest.raises(UnreachableError, match="busy or down"):
        Pacs(always.url, attempts=3).find(patient="7")
    assert len(always.asked) == 3


def test_a_server_that_leaves_out_the_patient_finds_nobody_else() -> None:
    server = Rude(says(studies("7", "8", "77")), says(b"[]"))
    assert Pacs(server.url).find(patient="7") == []
    asked = [path.partition("?")[0] for path in server.asked]
    assert "/dicom-web/studies/1.2.0/series" in asked
    assert not any("1.2.1" in path or "1.2.2" in path for path in asked)


def test_a_server_that_pages_in_circles_is_left() -> None:
    server = Rude(says(studies("7")))
    assert Pacs(server.url).find(patient="7") == []
    assert len(server.asked) == 4


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (says(b"<html>secret words</html>", Content_Type="text/html"), PacsError, "something else than DICOMweb"),
        (says(b"[[[["), PacsError, "something else than DICOMweb"),
        (says(b"secret words", 500), PacsError, "HTTP 500"),
        (says(b"", 302, Location="http://127.0.0.1:9/secret"), ConfigError, "redirects"),
        (says(b"secret words", 401), UnreachableError, "credentials"),
        (says(gzip.compress(bytes(1 << 22)), Content_Encoding="gzip"), PacsError, "limit of 65,536 bytes"),
        (says(b" " * (1 << 20)), PacsError, "limit of 65,536 bytes"),
    ],
)
def test_what_a_server_says_wrongly_is_one_sentence(
    answer: Answer, kind: type[MedgroundError], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(kind, match=words) as caught:
        Pacs(Rude(answer).url, max_bytes=1 << 16).find(patient="A-77")
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "A-77" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert not caplog.records


def test_rows_of_any_shape_do_no_harm() -> None:
    odd = [7, None, [], {}, {"0020000D": 3}, {"0020000D": {"Value": []}}, {"0020000D": {"Value": [{"a": 1}]}},
           {"0020000D": {"Value": ["../../1.2"]}}]  # fmt: skip
    server = Rude(says(json.dumps(odd).encode()), says(b"[]"))
    assert Pacs(server.url).find(modality="CT") == []
    assert len(server.asked) == 2


def test_certificates_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with: apt-get install openssl")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    server = Rude(says(b"[]"), tls=context)
    url = server.url.replace("http:", "https:")
    with pytest.raises(UnreachableError, match="certificate"):
        Pacs(url, attempts=1).find(modality="CT")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "cert.pem"))  # what the environment trusts isn't asked
    with pytest.raises(UnreachableError, match="certificate"):
        Pacs(url, attempts=1).find(modality="CT")
    assert not server.asked
    assert Pacs(url, ca=tmp_path / "cert.pem").find(modality="CT") == []


def test_a_search_need_not_tell_of_frames(tmp_path: Path) -> None:
    """A server that leaves NumberOfFrames out of what it finds, as it may; the instance itself tells."""
    many = enhanced(tmp_path)
    content = b"--x\r\nContent-Type: application/dicom\r\n\r\n" + many.read_bytes() + b"\r\n--x--"
    whole = says(content, Content_Type='multipart/related; type="application/dicom"; boundary="x"')
    server = Pacs(Rude(whole).url)
    one = Instance(Series("1.2.3", "1.2.3.1", "MR"), "1.2.3.4", 1, 1)
    for frame, index in ((None, 2), (4, 4)):
        image, path = _fetched(server, one, frame, None, tmp_path)
        assert (image.provenance.frame, image.provenance.frames) == (index, 5)
        assert path.exists()
    with pytest.raises(PacsError, match="another instance"):
        server.retrieve(replace(one, sop_uid="1.2.3.5"))


def test_nobody_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/dicom-web"
    with pytest.raises(UnreachableError, match="can't be reached"):
        Pacs(url, attempts=1).find(modality="CT")


@pytest.mark.parametrize(
    ("url", "options", "words"),
    [
        ("http://pacs.example.org/dicom-web", {}, "--allow-http"),
        ("ftp://pacs.example.org/", {}, "https://HOST"),
        ("https://me:words@pacs.example.org/", {}, "MEDGROUND_PACS_USER"),
        ("https://pacs.example.org/?a=b", {}, "https://HOST"),
        ("https://pacs.example.org:port/", {}, "https://HOST"),
        ("nothing", {}, "https://HOST"),
        ("https://pacs.example.org/", {"token": "a", "user": "b", "password": "c"}, "not both"),
        ("https://pacs.example.org/", {"user": "b"}, "needs a password"),
        ("https://pacs.example.org/", {"token": "a\r\nX: y"}, "MEDGROUND_PACS_TOKEN"),
        ("https://pacs.example.org/", {"ca": Path("none.pem")}, "none.pem"),
    ],
)
def test_addresses_and_credentials_that_cannot_be_used(url: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        Pacs(url, **options)
    assert "words" not in str(caught.value)


def test_plain_http_to_others_when_told() -> None:
    assert Pacs("http://pacs.example.org/dicom-web/", allow_http=True).url == "http://pacs.example.org/dicom-web"


@pytest.mark.parametrize(
    ("criteria", "words"),
    [
        ({}, "ask for everything"),
        ({"patient": "*"}, "--patient"),
        ({"patient": "A?"}, "--patient"),
        ({"patient": " "}, "--patient"),
        ({"date": "2024"}, "--date"),
        ({"study": "1.2/../3"}, "--study"),
        ({"series": "1.2"}, "needs the --study"),
        ({"modality": "ct scan"}, "--modality"),
    ],
)
def test_criteria_that_cannot_be_used(criteria: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Pacs("https://pacs.example.org").find(**criteria)  # type: ignore[arg-type]
