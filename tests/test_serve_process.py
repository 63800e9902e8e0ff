"""Several clients at once before a real server process: nothing is lost, swapped or cut, and it ends in order."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import cache
from typing import Any

import httpx2
import pytest
from made_server import drawn_png, events
from scripted_server import Running, running

from medground.masks import decode_rle

SIZE = (1000, 1000)  # the script's coordinates are then source pixels
CLIENTS = 8
EVENTS = {"accept": "text/event-stream"}


@pytest.fixture
def server() -> Iterator[Running]:
    with running(limits={"queue": 4, "images": CLIENTS + 2}) as server:
        yield server


drawn = cache(lambda number: drawn_png(number, SIZE))


def _upload(client: httpx2.Client, number: int) -> str:
    answer = client.post("/v1/images", files={"file": ("Doe^Jane", drawn(number))})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["image"])


def _ground(client: httpx2.Client, image: str, number: int) -> Any:
    return client.post("/v1/ground", json={"image": image, "question": f"Where is {number}"})


def _stream(client: httpx2.Client, image: str, number: int) -> Any:
    return client.post("/v1/ground", json={"image": image, "question": f"Where is {number}"}, headers=EVENTS)


def _ask(client: httpx2.Client, image: str, number: int) -> Any:
    return client.post("/v1/ask", json={"image": image, "question": f"What is {number}"})


def _segment(client: httpx2.Client, image: str, number: int) -> Any:
    return client.post("/v1/segment", json={"image": image, "box": [number, 1, number + 50, 21]})


ASKS = (_ground, _stream, _ask, _segment)


def _is_own(ask: Callable[..., Any], answer: httpx2.Response, image: int, number: int) -> bool:
    """Whether a whole answer is about this question and this image."""
    box = [image, number, image + 100, number + 100]
    if ask is _stream:
        told = events(answer.text)
        done = told[-1][1]
        words = "".join(data["text"] for name, data in told if name == "reasoning")
        return told[-1][0] == "done" and done["bbox"] == box and words == done["reasoning"] == f"{number} of {image}"
    said = answer.json()
    if ask is _segment:
        ys, xs = decode_rle(said["mask"]).nonzero()
        return (xs.min(), xs.max(), ys.min(), ys.max()) == (number, number + 49, 1, 20)
    if ask is _ask:
        return bool(said["answer"] == f"{number} of {image}" and said["regions"] is not None)
    return bool(said["bbox"] == box and said["reasoning"] == f"{number} of {image}")


def _until_answered(ask: Callable[..., Any], client: httpx2.Client, image: str, number: int) -> tuple[Any, int]:
    """Ask, and again after as long as the server says."""
    for tries in range(200):
        answer = ask(client, image, number)
        if answer.status_code != 429:
            return answer, tries
        assert int(answer.headers["retry-after"]) >= 1
        time.sleep(0.02)  # a script is faster than a second
    raise AssertionError("never answered")


def test_nothing_is_lost_or_swapped_between_clients(server: Running) -> None:
    def be(image: int) -> list[bool]:
        own = []
        with httpx2.Client(base_url=server.url, timeout=60) as client:
            name = _upload(client, image)
            for number in range(20):
                ask = ASKS[(number + image) % len(ASKS)]
                answer, _ = _until_answered(ask, client, name, number + 1)
                assert answer.status_code == 200, answer.text
                own.append(_is_own(ask, answer, image, number + 1))
        return own

    with ThreadPoolExecutor(CLIENTS) as pool:
        found = list(pool.map(be, range(CLIENTS)))
    assert [len(own) for own in found] == [20] * CLIENTS
    assert all(map(all, found))
    assert server.end() == 0
    assert "Doe" not in server.log()


def test_memory_is_bounded_however_much_is_asked(server: Running) -> None:
    def be(image: int) -> None:
        with httpx2.Client(base_url=server.url, timeout=60) as client:
            for number in range(15):
                name = _upload(client, (image + number) % 16)  # more than are kept, so old ones go
                _until_answered(ASKS[number % 2], client, name, number)

    held = []
    for _ in range(3):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(be, range(4)))
        held.append(server.memory("VmRSS"))
    with httpx2.Client(base_url=server.url, timeout=60) as client:
        figures = client.get("/metrics").text
    assert f"medground_images {CLIENTS + 2}.0" in figures
    # 60 pictures of 3 MB come in each time.
    assert held[2] - held[0] < 64 << 20, held


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_it_ends_in_order_under_load(how: signal.Signals) -> None:
    """Whoever asks gets a whole answer of their own, is told that it ends, or finds nobody; never half of an answer."""
    ends: Counter[str] = Counter()
    lock, answered = threading.Lock(), threading.Semaphore(0)

    with running(limits={"queue": CLIENTS}, pause=0.05) as server:

        def be(image: int) -> None:
            with httpx2.Client(base_url=server.url, timeout=60) as client:
                name = _upload(client, image)
                for number in range(1, 10_000):
                    ask = ASKS[number % len(ASKS)]
                    try:
                        answer = ask(client, name, number)
                    except httpx2.TransportError as error:
                        with lock:
                            ends[type(error).__name__] += 1
                        return
                    how_ = _end_of(ask, answer, image, number)
                    with lock:
                        ends[how_] += 1
                    if how_ == "own":
                        answered.release()
                    else:
                        return

        with ThreadPoolExecutor(CLIENTS) as pool:
            clients = [pool.submit(be, image) for image in range(CLIENTS)]
            for _ in range(3 * CLIENTS):
                assert answered.acquire(timeout=60)
            status = server.end(how)
            for client in clients:
                client.result(60)
        assert status in (0, -how), server.log()
        assert ends["own"] >= 3 * CLIENTS
        # A closed connection shows as an error of the client's library, which can't be taken for an answer.
        assert set(ends) <= {"own", "told", "ConnectError", "ReadError", "RemoteProtocolError", "WriteError"}, ends
        log = server.log()
        assert not [word for word in ("Traceback", "ERROR", "Doe") if word in log], log


def _end_of(ask: Callable[..., Any], answer: httpx2.Response, image: int, number: int) -> str:
    if answer.status_code in (503, 429, 404):
        assert answer.json()["detail"]
        return "told"
    assert answer.status_code == 200, answer.text
    if ask is _stream and events(answer.text)[-1][0] == "error":
        return "told"
    return "own" if _is_own(ask, answer, image, number) else "half or another's"


def test_it_is_there_again_after_a_restart() -> None:
    with running(limits={"queue": 4}) as first:
        port = int(first.url.rstrip("/").rpartition(":")[2])
        with httpx2.Client(base_url=first.url, timeout=60) as client:
            name = _upload(client, 3)
            assert _is_own(_ground, _ground(client, name, 4), 3, 4)
            assert first.end() == 0
            with pytest.raises(httpx2.TransportError):
                _ground(client, name, 4)
            with running(port=port) as second:
                answer = _ground(client, name, 4)
                assert (answer.status_code, "upload it again" in answer.json()["detail"]) == (404, True)
                assert _is_own(_ground, _ground(client, _upload(client, 3), 4), 3, 4)
                assert second.end() == 0


def test_a_client_that_leaves_does_not_hold_the_others_up() -> None:
    with running(limits={"queue": 8}, pause=0.2) as server, httpx2.Client(base_url=server.url, timeout=60) as client:
        name = _upload(client, 5)
        for number in range(6):
            hurry = httpx2.Timeout(60, read=0.05)
            with httpx2.Client(base_url=server.url, timeout=hurry) as hasty, pytest.raises(httpx2.ReadTimeout):
                _ground(hasty, name, number)
        assert _is_own(_ground, _ground(client, name, 7), 5, 7)
        figures = client.get("/metrics").text.splitlines()
        assert 'medground_queue{lane="reasoner"} 0.0' in figures
        assert "medground_clients_left_total 0.0" not in figures


def test_idle_connections_do_not_lock_anybody_out() -> None:
    """Neither those that ask nothing, nor those whose request, or rest of a body, never comes."""
    announced = b"POST /v1/images HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\nContent-Length: 99\r\n\r\n"
    with running(idle=0.5, pause=2.0) as server, ExitStack() as held:
        port = int(server.url.rstrip("/").rpartition(":")[2])
        idle = [held.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(300)]
        for one in idle[:100]:
            one.sendall(b"GET / HTTP/1.1\r\nHost: 127")
        for one in idle[100:150]:
            one.sendall(announced)
        deadline = time.monotonic() + 30
        with httpx2.Client(base_url=server.url, timeout=60) as client:
            while client.get("/healthz").status_code != 200:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            # Whoever waits for an answer isn't idle.
            assert _is_own(_ground, _ground(client, _upload(client, 5), 7), 5, 7)
        for one in idle:
            one.settimeout(30)
            with suppress(ConnectionResetError):
                while one.recv(4096):
                    pass
