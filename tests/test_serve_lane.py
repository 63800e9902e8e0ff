from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medground.serve.lane import BusyError, ClosingError, Lane, Work

WAIT = 20


class Gate:
    """Work that answers once it is let."""

    def __init__(self) -> None:
        self.entered, self.open = threading.Semaphore(0), threading.Event()
        self.batches: list[list[Any]] = []

    def run(self, payloads: list[Any]) -> list[Any]:
        self.batches.append(payloads)
        self.entered.release()
        assert self.open.wait(WAIT)
        return [ValueError(payload) if str(payload).startswith("bad") else f"{payload}!" for payload in payloads]

    def work(self, payload: Any, key: Any = "same", patient: bool = False) -> Work:
        return Work(self.run, payload, key=key, patient=patient)


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def lane() -> Iterator[Lane]:
    lane = Lane("test", size=3, most=2)
    yield lane
    lane.close()
    lane.join(WAIT)


def busy(lane: Lane, gate: Gate) -> Work:
    """Keep the lane's thread busy with one piece of work."""
    first = lane.add(gate.work("first"))
    assert gate.entered.acquire(timeout=WAIT)
    return first


def test_what_waits_goes_together_up_to_the_largest_batch(lane: Lane, gate: Gate):
    first = busy(lane, gate)
    works = [lane.add(gate.work(payload, key)) for payload, key in (("a", 1), ("b", 2), ("c", 1))]
    assert lane.waiting == 3
    gate.open.set()
    assert [work.answer.result(WAIT) for work in (first, *works)] == ["first!", "a!", "b!", "c!"]
    assert gate.batches == [["first"], ["a", "c"], ["b"]]


def test_work_without_a_key_goes_alone(lane: Lane, gate: Gate):
    busy(lane, gate)
    works = [lane.add(gate.work(payload, None)) for payload in "ab"]
    gate.open.set()
    assert [work.answer.result(WAIT) for work in works] == ["a!", "b!"]
    assert gate.batches[1:] == [["a"], ["b"]]


def test_patient_work_waits_for_the_rest_and_fills_its_batches(lane: Lane, gate: Gate):
    busy(lane, gate)
    late = [lane.add(gate.work(f"late {number}", patient=True)) for number in range(5)]  # more than the queue's size
    soon = lane.add(gate.work("soon"))
    gate.open.set()
    for work in (*late, soon):
        work.answer.result(WAIT)
    assert gate.batches[1] == ["soon", "late 0"]


def test_a_full_queue_says_when_to_come_back(lane: Lane, gate: Gate):
    busy(lane, gate)
    works = [lane.add(gate.work(number)) for number in range(3)]
    with pytest.raises(BusyError, match="ask again in") as caught:
        lane.add(gate.work("more"))
    assert caught.value.seconds >= 1
    works[1].cancel()  # makes room at once
    lane.add(gate.work("more"))
    gate.open.set()


def test_cancelled_work_is_never_run(lane: Lane, gate: Gate):
    busy(lane, gate)
    work, other = lane.add(gate.work("dropped")), lane.add(gate.work("kept"))
    work.cancel()
    assert lane.waiting == 1
    gate.open.set()
    other.answer.result(WAIT)
    assert gate.batches == [["first"], ["kept"]]
    assert work.answer.cancelled()


def test_one_failure_is_one_answer(lane: Lane, gate: Gate):
    busy(lane, gate)
    bad, good = lane.add(gate.work("bad")), lane.add(gate.work("good"))
    gate.open.set()
    assert good.answer.result(WAIT) == "good!"
    assert isinstance(bad.answer.exception(WAIT), ValueError)


@pytest.mark.parametrize("answers", ["raises", "too few", "too many"])
def test_a_broken_batch_fails_all_of_it_and_not_the_thread(lane: Lane, gate: Gate, answers: str):
    def broken(payloads: list[Any]) -> list[Any]:
        if answers == "raises":
            raise RuntimeError("broken")
        return [] if answers == "too few" else [*payloads, 1]

    failed = lane.add(Work(broken, 1))
    if answers == "too many":
        failed.answer.exception(WAIT)
    else:
        assert failed.answer.exception(WAIT) is not None
    gate.open.set()
    assert lane.add(gate.work("next")).answer.result(WAIT) == "next!"


def test_closing_finishes_what_runs_and_fails_what_waits(lane: Lane, gate: Gate):
    first = busy(lane, gate)
    waiting = [lane.add(gate.work("a")), lane.add(gate.work("b", patient=True))]
    lane.close()
    assert all(isinstance(work.answer.exception(WAIT), ClosingError) for work in waiting)
    with pytest.raises(ClosingError, match="shutting down"):
        lane.add(gate.work("c"))
    gate.open.set()
    assert first.answer.result(WAIT) == "first!"


def test_a_closed_lane_ends_its_thread():
    lane = Lane("test", size=1, most=1)
    lane.close()
    lane.join(WAIT)
    assert not any(thread.name == "medground-test" and thread.is_alive() for thread in threading.enumerate())


@given(
    works=st.lists(st.tuples(st.sampled_from([1, 2, None]), st.booleans(), st.booleans()), max_size=20),
    most=st.integers(1, 5),
)
@settings(max_examples=25)
def test_every_answer_belongs_to_its_question(works: list[tuple[Any, bool, bool]], most: int):
    gate, lane = Gate(), Lane("test", size=20, most=most)
    busy(lane, gate)
    added = [lane.add(gate.work(number, key, patient)) for number, (key, patient, _) in enumerate(works)]
    for work, (_, _, dropped) in zip(added, works, strict=True):
        if dropped:
            work.cancel()
    gate.open.set()
    for number, (work, (_, _, dropped)) in enumerate(zip(added, works, strict=True)):
        assert work.answer.cancelled() if dropped else work.answer.result(WAIT) == f"{number}!"
    lane.close()
    lane.join(WAIT)
    assert max(map(len, gate.batches)) <= most
    assert sum(map(len, gate.batches)) == 1 + sum(not dropped for _, _, dropped in works)
