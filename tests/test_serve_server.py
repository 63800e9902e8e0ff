"""The server as it is run: a process with the embedded models, its output, its end; and MONAI Label's own client."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from made_server import EVENTS, drawn_png, events

from medground.errors import ConfigError
from medground.pipeline import MedGround
from medground.serve import serve

TOKEN = "a-token-of-some-length"
RUN = "import typer; from medground.serve_cli import serve; typer.run(serve)"
SECRET = "Is Jane Doe ill?"


class Running:
    """A server in a process of its own."""

    def __init__(self, *options: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN, "--port", "0", "--batch", "1", "--access-log", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONWARNINGS": "ignore", **environment},
        )
        self.lines: list[str] = []
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self._ready.wait(300), self.lines
        [told] = [line for line in self.lines if line.startswith("Open ")]
        self.address, _, self.token = told.split()[1].partition("#token=")
        self.url = f"http://127.0.0.1:{self.address.rstrip('/').rpartition(':')[2]}"

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if line.startswith("Open "):
                self._ready.set()
        self._ready.set()

    def client(self, token: str = "") -> httpx2.Client:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=300, trust_env=False)

    def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        code = self.process.wait(120)
        self._reader.join(20)
        return code


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    server = Running("--host", "0.0.0.0", MEDGROUND_TOKEN=TOKEN)  # noqa: S104
    yield server
    server.process.kill()
    server.process.wait(20)


def test_the_embedded_models_answer_over_http(running: Running):
    with running.client(TOKEN) as client:
        assert client.get("/v1/models").json()["segmenter"] == "litemedsam"
        name = client.post("/v1/images", files={"file": ("x", drawn_png(size=(320, 240)))}).json()["image"]
        alone = client.post("/v1/ground", json={"image": name, "question": SECRET})
        told = events(client.post("/v1/ground", json={"image": name, "question": SECRET}, headers=EVENTS).text)
        assert alone.status_code in (200, 422)  # what the model makes of this picture isn't this test's business
        assert told[-1][0] == ("done" if alone.status_code == 200 else "error")
        said = client.post("/v1/segment", json={"image": name, "box": [10, 10, 100, 100]}).json()
        assert said["mask"]["size"] == [240, 320]


def test_another_address_demands_the_token(running: Running):
    assert running.token == TOKEN
    with running.client() as client:
        assert client.get("/v1/models").status_code == 401
        assert client.get("/healthz").status_code == 200


def test_monai_labels_own_client_is_served(running: Running, tmp_path: Path):
    monai = pytest.importorskip(
        "monailabel.client", reason="MONAI Label isn't installed: pip install --no-deps monailabel requests"
    )
    nibabel = pytest.importorskip("nibabel")
    values = np.zeros((40, 48, 6), np.int16)
    values[12:30, 10:34, 1:5] = 900
    values += np.arange(6, dtype=np.int16)
    file = tmp_path / "image.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values, np.diag([1.0, 1.5, 5.0, 1.0])), file)
    client = monai.MONAILabelClient(running.url, tmpdir=str(tmp_path))
    assert client.auth_enabled()
    client.update_auth(client.auth_token("anyone", TOKEN))
    assert client.auth_valid_token()
    assert set(client.info()["models"]) == {"medground", "litemedsam"}
    session = client.create_session(str(file))["session_id"]
    assert client.get_session(session)
    labels, params = client.infer("litemedsam", "", {"roi": [12, 29, 10, 33, 3, 3]}, session_id=session)
    read = nibabel.load(labels)
    assert (read.shape, (read.affine == np.diag([1.0, 1.5, 5.0, 1.0])).all()) == ((40, 48, 6), True)
    found = np.asarray(read.dataobj).astype(bool)
    truth = np.zeros_like(found)
    truth[12:30, 10:34, 3] = True
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.9  # a box about a bright block is that block
    assert params["label_names"] == {"target": 1}
    client.remove_session(session)
    with pytest.raises(monai.client.MONAILabelClientException):
        client.get_session(session)


def test_the_end_is_in_order_and_the_log_holds_no_secret(running: Running):
    """The last test of this process."""
    with running.client(TOKEN) as client, ThreadPoolExecutor(6) as pool:
        name = client.post("/v1/images", files={"file": ("Doe.png", drawn_png(1, (320, 240)))}).json()["image"]
        client.get(f"/v1/images/{name}/view.png?window=77,78")
        body = {"image": name, "question": SECRET, "temperature": 1.0}

        def one(_: int) -> Any:
            with running.client(TOKEN) as own:
                return own.post("/v1/ground", json=body)

        asked = [pool.submit(one, number) for number in range(6)]
        while _waiting(client.get("/metrics").text) < 3:
            assert not all(answer.done() for answer in asked), "the server answered faster than it was asked"
        code = running.end(signal.SIGTERM)
        answers = [answer.result(120) for answer in asked]
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) <= {200, 422, 503}  # 422: a sampled answer that can't be read
    assert statuses.count(503) >= 1
    assert len(statuses) - statuses.count(503) >= 1  # what ran came to its end
    assert all("shutting down" in answer.json()["detail"] for answer in answers if answer.status_code == 503)
    assert code in (0, -signal.SIGTERM)
    log = "\n".join(line for line in running.lines if not line.startswith("Open "))
    assert "POST /v1/ground" in log
    assert "Traceback" not in log
    for secret in ("Jane", "Doe", name, TOKEN, "window", "?"):
        assert secret not in log


def _waiting(figures: str) -> float:
    [line] = [line for line in figures.splitlines() if line.startswith('medground_queue{lane="reasoner"}')]
    return float(line.rpartition(" ")[2])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tokens": ["short"]}, "--token: 5 characters can be guessed"),
        ({"port": 70000}, "--port"),
        ({"host": "nowhere.invalid"}, "--host"),
    ],
)
def test_what_cannot_be_served_is_said(options: dict[str, Any], said: str):
    with pytest.raises(ConfigError, match=said):
        serve(MedGround(), **options)
