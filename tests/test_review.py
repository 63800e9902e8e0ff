from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_build import question_record, small_build, write_build
from PIL import Image
from pydantic import ValidationError

from medground.data.review import Decision, ReviewReport, apply, read_decisions, record_digest
from medground.data.review.decisions import REASONS, DecisionLog
from medground.data.review.records import Records
from medground.data.stages import read_parts
from medground.errors import ConfigError, ImageError, TruthError

DIGEST = "0123456789abcdef"
MORE = {
    "accept": {},
    "edit": {"question": "Which one?", "reasoning": "It is round."},
    "reject": {"reason": "leak"},
    "undo": {},
}


def decision(kind: str = "accept", name: str = "a", **more: object) -> Decision:
    return Decision.model_validate({"id": name, "digest": DIGEST, "decision": kind, **MORE[kind], **more})


def write(path: Path, *decisions: Decision) -> Path:
    path.write_bytes(b"".join(one.line() for one in decisions))
    return path


# --------------------------------------------------------------------------------------------------- the file


def test_the_last_decision_about_a_record_counts(tmp_path: Path):
    path = write(tmp_path / "review.jsonl", decision("accept"), decision("accept", "b"), decision("reject"))
    assert {name: one.decision for name, one in read_decisions(path).items()} == {"a": "reject", "b": "accept"}


@pytest.mark.parametrize(
    ("kinds", "counts"),
    [
        (["accept", "undo"], None),
        (["accept", "reject", "undo"], "accept"),
        (["accept", "reject", "undo", "undo"], None),
        (["undo", "accept"], "accept"),
        (["accept", "undo", "undo", "edit"], "edit"),
    ],
)
def test_an_undo_takes_back_the_latest_that_stands(tmp_path: Path, kinds: list[str], counts: str | None):
    found = read_decisions(write(tmp_path / "review.jsonl", *map(decision, kinds)))
    assert (found["a"].decision if found else None) == counts


def test_no_file_is_no_decision(tmp_path: Path):
    assert read_decisions(tmp_path / "review.jsonl") == {}


def test_an_unreadable_file_is_an_error(tmp_path: Path):
    with pytest.raises(ConfigError, match="can't read"):
        read_decisions(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        b"not json",
        b'{"id": "a"}',
        b"[]",
        json.dumps({"id": "a", "digest": DIGEST, "decision": "like"}).encode(),
        json.dumps({"id": "a", "digest": DIGEST, "decision": "accept", "mood": "good"}).encode(),
        b'{"id": "\xff"}',
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: bytes):
    path = tmp_path / "review.jsonl"
    path.write_bytes(decision().line() + line + b"\n" + decision("reject").line())
    with pytest.raises(ConfigError, match=r"review\.jsonl:2: damaged; remove that line"):
        read_decisions(path)


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("accept", {"reason": "leak"}),
        ("accept", {"question": "Which?", "reasoning": "It."}),
        ("edit", {"reasoning": None}),
        ("edit", {"question": ""}),
        ("reject", {"reason": None}),
        ("reject", {"reason": "bad mood"}),
        ("undo", {"question": "Which?"}),
        ("accept", {"digest": "x"}),
        ("accept", {"id": ""}),
        ("accept", {"reviewer": "x" * 81}),
    ],
)
def test_a_decision_holds_what_its_kind_needs_and_nothing_else(kind: str, more: dict[str, object]):
    with pytest.raises(ValidationError):
        decision(kind, **more)


def test_a_refused_decision_does_not_quote_its_texts():
    with pytest.raises(ValidationError) as refused:
        decision("accept", question="the patient's secret", reasoning="It.")
    assert "secret" not in str(refused.value)


decisions = st.lists(
    st.builds(
        lambda kind, name, text: decision(
            kind, name, **({"question": text, "reasoning": text} if kind == "edit" else {})
        ),
        st.sampled_from(sorted(MORE)),
        st.sampled_from(["a", "b", "ä/7", "c\nd"]),
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
    ),
    max_size=8,
)


@given(made=decisions, cut=st.data())
@settings(max_examples=60)
def test_a_file_cut_anywhere_holds_the_decisions_before_the_cut(made: list[Decision], cut: st.DataObject):
    lines = [one.line() for one in made]
    content = b"".join(lines)
    end = cut.draw(st.integers(0, len(content)))
    # Of the last line only the line break may be lacking.
    ends = np.cumsum([len(line) for line in lines])
    whole = int(sum(end >= there - 1 for there in ends))
    with tempfile.TemporaryDirectory() as folder:
        torn, clean = Path(folder, "torn.jsonl"), write(Path(folder, "clean.jsonl"), *made[:whole])
        torn.write_bytes(content[:end])
        assert read_decisions(torn) == read_decisions(clean)
        extra = decision("reject", "new")
        with DecisionLog(torn) as log:  # goes on after the crash, and loses nothing that was whole
            log.append(extra)
        assert torn.read_bytes() == clean.read_bytes() + extra.line()


def test_a_line_that_an_editor_left_without_its_end_counts_and_is_ended(tmp_path: Path):
    path = tmp_path / "review.jsonl"
    path.write_bytes(decision().line().rstrip(b"\n"))
    assert read_decisions(path)["a"].decision == "accept"
    with DecisionLog(path) as log:
        log.append(decision("reject", "b"))
    assert {name: one.decision for name, one in read_decisions(path).items()} == {"a": "accept", "b": "reject"}


# --------------------------------------------------------------------------------------------------- the log


def test_the_log_appends_and_knows_what_stands(tmp_path: Path):
    path = tmp_path / "deep" / "review.jsonl"
    with DecisionLog(path) as log:
        assert log.of("a") is None
        for one in (decision(), decision("reject"), decision("undo")):
            log.append(one)
        assert log.of("a") == decision(time=log.of("a").time)
    with DecisionLog(path) as log:
        log.append(decision("accept", "b"))
        assert (log.of("a").decision, log.of("b").decision) == ("accept", "accept")
    assert [json.loads(line)["decision"] for line in path.read_bytes().splitlines()] == [
        *("accept", "reject", "undo", "accept")
    ]


def test_nothing_to_undo_is_said_and_not_written(tmp_path: Path):
    with DecisionLog(tmp_path / "review.jsonl") as log:
        with pytest.raises(ConfigError, match="nothing to undo"):
            log.append(decision("undo"))
        log.append(decision())
        log.append(decision("undo"))
        with pytest.raises(ConfigError, match="nothing to undo"):
            log.append(decision("undo"))
    assert len((tmp_path / "review.jsonl").read_bytes().splitlines()) == 2


def test_one_review_at_a_time_writes(tmp_path: Path):
    with DecisionLog(tmp_path / "review.jsonl"), pytest.raises(ConfigError, match="another review is writing"):
        DecisionLog(tmp_path / "review.jsonl")
    DecisionLog(tmp_path / "review.jsonl").close()


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "review.jsonl"
    real = os.write
    with DecisionLog(path) as log:
        log.append(decision())
        before = path.read_bytes()

        def fail(handle: int, data: bytes) -> int:
            real(handle, bytes(data)[:10])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "write", fail)
        with pytest.raises(ConfigError, match=r"No space left on device; the decision is not kept"):
            log.append(decision("reject"))
        assert (path.read_bytes(), log.of("a").decision) == (before, "accept")
        monkeypatch.setattr(os, "write", real)
        log.append(decision("reject"))
    assert read_decisions(path)["a"].decision == "reject"


def test_a_closed_log_takes_nothing(tmp_path: Path):
    log = DecisionLog(tmp_path / "review.jsonl")
    log.close()
    with pytest.raises(ConfigError, match="not kept"):
        log.append(decision())


# --------------------------------------------------------------------------------------------------- applying


def test_decisions_are_applied_and_counted():
    records = [{"id": name, "question": "Where?", "reasoning": "It is big.", "mask": None} for name in "abcdef"]
    digests = {record["id"]: record_digest(record) for record in records}
    decided = {
        "a": decision("accept", "a", digest=digests["a"]),
        "b": decision("edit", "b", digest=digests["b"]),
        "c": decision("reject", "c", digest=digests["c"]),
        "d": decision("reject", "d"),  # about another version
        "gone": decision("accept", "gone"),
    }
    report = ReviewReport()
    left = list(apply(iter(records), decided, report=report))
    assert [record["id"] for record in left] == ["a", "b", "d", "e", "f"]
    assert left[1] == records[1] | {"question": "Which one?", "reasoning": "It is round.", "asked_by": "edited"}
    assert [left[0], *left[2:]] == [records[0], *records[3:]]
    assert report == ReviewReport(accepted=1, edited=1, rejected=1, undecided=3, stale=["d"], unknown=["gone"])
    assert [record["id"] for record in apply(records, decided, reviewed_only=True)] == ["a", "b"]


def test_records_are_read_one_at_a_time():
    read = []

    def records():
        for name in "abc":
            read.append(name)
            yield {"id": name, "question": "Where?"}

    first = next(apply(records(), {}))
    assert (first["id"], read) == ("a", ["a"])


@pytest.mark.parametrize("change", [{"question": "Where now?"}, {"bbox": [1, 2, 3, 4]}, {"new": 1}])
def test_any_change_of_a_record_changes_its_digest(change: dict[str, object]):
    record = {"id": "a", "question": "Where?", "bbox": None}
    assert record_digest(record | change) != record_digest(record)
    assert record_digest(json.loads(json.dumps(record))) == record_digest(record)


# --------------------------------------------------------------------------------------------------- the records


def test_records_are_found_by_number(tmp_path: Path):
    out = small_build(tmp_path)
    expected = list(read_parts(out / "ask"))
    records = Records(out)
    assert [records.read(index) for index in range(len(records))] == expected
    assert [records.digest(index) for index in range(len(records))] == [record_digest(record) for record in expected]
    assert records.names == [record["id"] for record in expected]


def test_records_are_chosen_by_what_they_are(tmp_path: Path):
    records = Records(small_build(tmp_path))
    assert records.choices()["split"] == ["test", "train", "val"]
    assert records.choices()["absent"] == ["absent", "present"]
    assert list(records.find({})) == list(range(8))
    assert list(records.find({"split": "train"})) == [0, 1, 4, 5]
    assert list(records.find({"split": "train", "style": "location"})) == [1, 5]
    assert list(records.find({"absent": "absent"})) == [7]
    assert list(records.find({"modality": "CT"})) == []


def test_pictures_start_at_the_stages_root_or_lie_in_the_build(tmp_path: Path):
    root, out = tmp_path / "root", tmp_path / "out"
    record = question_record(root, 0)
    (out / "images").mkdir(parents=True)
    (root / record["image"]).rename(out / "images" / "slice.png")
    slice_ = {"id": "slice", "image": "../out/images/slice.png"}
    records = Records(write_build(out, root, [question_record(root, 1), record | slice_]))
    assert records.picture(0).size == records.picture(1).size == (120, 90)
    assert records.mask(0).any()


@pytest.mark.parametrize("image", ["../secret.png", "/etc/hostname", "images/../../secret.png"])
def test_a_record_cannot_lead_out_of_the_build(tmp_path: Path, image: str):
    Image.new("RGB", (120, 90)).save(tmp_path / "secret.png")
    records = Records(
        write_build(tmp_path / "out", tmp_path / "root", [question_record(tmp_path / "root", 0, image=image)])
    )
    with pytest.raises(ImageError, match="leads out of"):
        records.picture(0)


def test_sizes_that_differ_are_said(tmp_path: Path):
    root = tmp_path / "root"
    wide = question_record(root, 0, width=121)
    records = Records(write_build(tmp_path / "out", root, [wide]))
    with pytest.raises(ImageError, match="is 120 x 90, and its record says 121 x 90"):
        records.picture(0)
    with pytest.raises(TruthError, match="isn't the picture's"):
        records.mask(0)


def test_a_build_that_changes_under_the_review_is_seen(tmp_path: Path):
    out = small_build(tmp_path)
    records = Records(out)
    write_build(out, tmp_path / "root", [question_record(tmp_path / "root", number, tier="B") for number in range(8)])
    with pytest.raises(ConfigError, match="has changed since this review was started"):
        records.read(3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"question": 7}, "question"),
        ({"width": 0}, "width"),
        ({"bbox": [1, 2, 3]}, "bbox"),
        ({"facts": {"size": ["huge"]}}, "unknown word"),
        ({"id": "drawn/0/polyp"}, "make ids unique"),
    ],
)
def test_a_record_that_cannot_be_shown_is_named(tmp_path: Path, change: dict[str, object], said: str):
    root = tmp_path / "root"
    out = write_build(tmp_path / "out", root, [question_record(root, 0), question_record(root, 1) | change])
    with pytest.raises(ConfigError, match=rf"part-00000\.jsonl:2: .*{said}"):
        Records(out)


def test_a_folder_without_questions_is_said(tmp_path: Path):
    with pytest.raises(ConfigError, match="no stage of a build"):
        Records(tmp_path)


# --------------------------------------------------------------------------------------------------- kill -9

WRITER = """
import sys
from medground.data.review.decisions import Decision, DecisionLog
log = DecisionLog(sys.argv[1])
for number in range(100000):
    log.append(Decision(id=f"r{number}", digest="0" * 16, decision="edit", question="Q" * 500, reasoning="R" * 3000))
    print(number, flush=True)
"""


def test_what_was_kept_survives_a_kill(tmp_path: Path):
    path = tmp_path / "review.jsonl"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as process:
        while (line := process.stdout.readline()) and int(line) < 20:
            pass
        time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        told = [int(line), *map(int, process.stdout.read().split())]
    kept = read_decisions(path)
    assert {f"r{number}" for number in range(told[-1] + 1)} <= set(kept)
    assert len(kept) - (told[-1] + 1) in (0, 1)
    with DecisionLog(path) as log:  # the system let go of the dead one's lock
        log.append(decision())
    assert set(read_decisions(path)) == {*kept, "a"}


def test_reasons_fit_the_number_keys():
    assert 1 <= len(REASONS) <= 9
