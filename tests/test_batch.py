from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ScriptedReasoner, middle
from PIL import Image

from medground.batch import Pair, read_pairs, run_batch
from medground.errors import ConfigError
from medground.pipeline import MedGround


@pytest.fixture
def folder(tmp_path: Path, picture) -> Path:
    (tmp_path / "images").mkdir()
    for index in range(3):
        Image.fromarray(picture.rgb).save(tmp_path / "images" / f"{index}.png")
    return tmp_path


def write_rows(folder: Path, rows: list[object], name: str = "pairs.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def row(index: int, **more: object) -> dict[str, object]:
    return {"id": f"row-{index}", "image": f"images/{index % 3}.png", "question": f"Question {index}?", **more}


def read(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / "results.jsonl").read_bytes().splitlines()]


def test_rows_are_read_with_paths_relative_to_the_file(folder: Path):
    pairs = read_pairs(write_rows(folder, [row(0), "", row(1, axis="coronal", window=[40, 400], meta={"x": 1})]))
    assert [pair.id for pair in pairs] == ["row-0", "row-1"]
    assert pairs[1].path == folder / "images" / "1.png"
    assert pairs[1].options() == {"axis": "coronal", "window": (40.0, 400.0)}


def test_options_hold_where_a_row_does_not_say(folder: Path):
    pairs = read_pairs(write_rows(folder, [row(0), row(1, frame=7)]), frame=2, axis=None)
    assert [pair.options() for pair in pairs] == [{"frame": 2}, {"frame": 7}]


def test_whole_numbers_are_ids_and_a_byte_order_mark_is_no_harm(folder: Path):
    path = folder / "pairs.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(row(0) | {"id": 7}).encode())
    assert read_pairs(path)[0].id == "7"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(0), "{not json}"], r"pairs.jsonl:2: the line isn't a JSON object \(.* at column 2\); mend it"),
        ([row(0), "[1, 2]"], r"pairs.jsonl:2: the line isn't a JSON object; mend it"),
        (["[" * 100_000], r"pairs.jsonl:1: the line isn't a JSON object"),
        ([row(0), {"id": "a", "image": "b"}], r"pairs.jsonl:2: question: is missing"),
        ([row(0), row(1) | {"question": " "}], r"pairs.jsonl:2: question: the question is empty"),
        ([row(0), row(1) | {"question": "x" * 5000}], r"pairs.jsonl:2: question: the question has 5000 characters"),
        ([row(1) | {"image": ""}], r"pairs.jsonl:1: image: names no file"),
        ([row(1) | {"image": 5}], r"pairs.jsonl:1: image: "),
        ([row(1) | {"id": ""}], r"pairs.jsonl:1: id: "),
        ([row(1) | {"id": True}], r"pairs.jsonl:1: id: "),
        ([row(0, slice=-1)], r"pairs.jsonl:1: slice: "),
        ([row(0, axis="oblique")], r"pairs.jsonl:1: axis: "),
        ([row(0, window=[1])], r"pairs.jsonl:1: window.1: is missing"),
        ([row(0, label="polyp")], r"pairs.jsonl:1: label: isn't a field of a row; put it under meta"),
        ([row(0), row(1), row(0)], r"pairs.jsonl:3: id: 'row-0' is the id of line 1 too"),
        ([], r"pairs.jsonl holds no rows"),
        (["x" * (1 << 20)], r"pairs.jsonl:1: the line is longer than"),
    ],
    ids=range(17),
)
def test_bad_rows_are_named_by_file_line_and_field(folder: Path, rows, message):
    with pytest.raises(ConfigError, match=message) as caught:
        read_pairs(write_rows(folder, rows))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_rows_that_are_no_text_or_no_file(folder: Path):
    (folder / "latin.jsonl").write_bytes(b'{"id": "\xe9"}\n')
    with pytest.raises(ConfigError, match=r"latin.jsonl:1: the line isn't UTF-8"):
        read_pairs(folder / "latin.jsonl")
    with pytest.raises(ConfigError, match=r"can't read .*nothing.jsonl: No such file or directory; check the path"):
        read_pairs(folder / "nothing.jsonl")


def test_a_folder_is_asked_one_question(folder: Path):
    (folder / "images" / "deeper").mkdir()
    Image.new("L", (4, 4)).save(folder / "images" / "deeper" / "A.PNG")
    for name in (".hidden.png", "notes.txt"):
        (folder / "images" / name).write_text("no image")
    pairs = read_pairs(folder / "images", "Where?")
    assert [pair.id for pair in pairs] == ["0.png", "1.png", "2.png", "deeper/A.PNG"]
    assert all(pair.path.is_file() and pair.question == "Where?" for pair in pairs)
    with pytest.raises(ConfigError, match="needs the one question"):
        read_pairs(folder / "images")
    with pytest.raises(ConfigError, match="leave the question out"):
        read_pairs(write_rows(folder, [row(0)]), "Where?")
    (folder / "empty").mkdir()
    with pytest.raises(ConfigError, match="holds no file named like an image"):
        read_pairs(folder / "empty", "Where?")


def test_results_hold_every_row_and_failures_their_reason(folder: Path, segmenter):
    def script(request, space):
        return "no idea" if request.question == "Question 1?" else middle(request, space)

    rows = [row(0), row(1), row(2) | {"image": "images/none.png"}, row(3)]
    told = []
    progress = run_batch(
        MedGround(ScriptedReasoner(script), segmenter),
        read_pairs(write_rows(folder, rows)),
        folder / "out",
        batch_size=2,
        on_row=lambda now: told.append((now.done, now.failed)),
    )
    assert (progress.total, progress.found, progress.done, progress.failed) == (4, 0, 4, 2)
    assert told == [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2)]
    good, unread, missing, last = read(folder / "out")
    assert good["id"] == "row-0"
    assert good["bbox"] == [20, 15, 60, 30]
    assert last["mask"]["size"] == [60, 80]
    assert unread["completion"] == "no idea"
    assert "none.png doesn't exist" in missing["error"]
    assert "bbox" not in missing


def test_same_call_again_asks_nothing(folder: Path, reasoner, segmenter):
    pairs = read_pairs(write_rows(folder, [row(index) for index in range(5)]))
    for _ in range(2):
        progress = run_batch(MedGround(reasoner, segmenter), pairs, folder / "out")
    assert (progress.found, progress.done) == (5, 0)
    assert reasoner.batches == [5]
    assert len(read(folder / "out")) == 5


def test_rows_may_be_added(folder: Path, reasoner, segmenter):
    for count in (2, 4):
        pairs = read_pairs(write_rows(folder, [row(index) for index in range(count)]))
        run_batch(MedGround(reasoner, segmenter), pairs, folder / "out")
    assert [line["id"] for line in read(folder / "out")] == ["row-0", "row-1", "row-2", "row-3"]
    assert reasoner.batches == [2, 2]


def test_moved_batch_is_still_the_same(folder: Path, reasoner, segmenter, tmp_path_factory):
    pairs = read_pairs(write_rows(folder, [row(0)]))
    run_batch(MedGround(reasoner, segmenter), pairs, folder / "out")
    moved = tmp_path_factory.mktemp("elsewhere") / "moved"
    folder.rename(moved)
    progress = run_batch(MedGround(reasoner, segmenter), read_pairs(moved / "pairs.jsonl"), moved / "out")
    assert progress.found == 1


@pytest.mark.parametrize("kept", [0, 1, 40, -1], ids=["nothing", "one byte", "some", "all but the line's end"])
def test_half_written_last_line_is_dropped_and_redone(folder: Path, reasoner, segmenter, kept):
    pairs = read_pairs(write_rows(folder, [row(index) for index in range(3)]))
    run_batch(MedGround(reasoner, segmenter), pairs, folder / "out")
    results = folder / "out" / "results.jsonl"
    whole = results.read_bytes()
    lines = whole.splitlines(keepends=True)
    results.write_bytes(b"".join(lines[:2]) + lines[2][:kept])
    progress = run_batch(MedGround(reasoner, segmenter), pairs, folder / "out")
    assert (progress.found, progress.done) == (2, 1)
    assert results.read_bytes() == whole


def test_damage_elsewhere_is_not_silently_dropped(folder: Path, reasoner, segmenter):
    pairs = read_pairs(write_rows(folder, [row(index) for index in range(3)]))
    run_batch(MedGround(reasoner, segmenter), pairs, folder / "out")
    results = folder / "out" / "results.jsonl"
    lines = results.read_bytes().splitlines(keepends=True)
    damaged = lines[0] + b"{damaged\n" + lines[2]
    results.write_bytes(damaged)
    with pytest.raises(ConfigError, match=r"results.jsonl:2 is damaged"):
        run_batch(MedGround(reasoner, segmenter), pairs, folder / "out")
    assert results.read_bytes() == damaged
    results.write_bytes(lines[0] + lines[0])
    with pytest.raises(ConfigError, match=r"results.jsonl:2: id 'row-0' is there twice"):
        run_batch(MedGround(reasoner, segmenter), pairs, folder / "out")


def test_failed_rows_are_kept_unless_asked_for(folder: Path, segmenter):
    failing = ScriptedReasoner(
        lambda request, space: "ERROR busy" if "1" in request.question else middle(request, space)
    )
    pairs = read_pairs(write_rows(folder, [row(index) for index in range(3)]))
    out = folder / "out"
    run_batch(MedGround(failing, segmenter), pairs, out)
    working = ScriptedReasoner()
    assert run_batch(MedGround(working, segmenter), pairs, out).done == 0
    progress = run_batch(MedGround(working, segmenter), pairs, out, retry_failed=True)
    assert (progress.found, progress.done, progress.failed) == (2, 1, 0)
    assert [line["id"] for line in read(out)] == ["row-0", "row-2", "row-1"]
    assert not any("error" in line for line in read(out))
    assert working.batches == [1]


def test_other_settings_or_other_rows_do_not_mix(folder: Path, reasoner, segmenter):
    pairs = read_pairs(write_rows(folder, [row(0), row(1)]))
    grounder, out = MedGround(reasoner, segmenter), folder / "out"
    run_batch(grounder, pairs, out, settings={"reasoner": "nano"})
    with pytest.raises(ConfigError, match="holds a batch with reasoner 'nano', not 'other'"):
        run_batch(grounder, pairs, out, settings={"reasoner": "other"})
    with pytest.raises(ConfigError, match="holds a batch with mode 'reason', not 'direct'"):
        run_batch(grounder, pairs, out, settings={"reasoner": "nano"}, mode="direct")
    changed = read_pairs(write_rows(folder, [row(0), row(1) | {"question": "Another?"}]))
    with pytest.raises(ConfigError, match="row 'row-1' was another question or image"):
        run_batch(grounder, changed, out, settings={"reasoner": "nano"})
    (folder / "foreign").mkdir()
    (folder / "foreign" / "results.jsonl").write_text("{}\n")
    with pytest.raises(ConfigError, match=r"holds a results.jsonl of something else"):
        run_batch(grounder, pairs, folder / "foreign")


def test_two_runs_do_not_write_to_one_folder(folder: Path, segmenter):
    pytest.importorskip("fcntl")
    pairs = read_pairs(write_rows(folder, [row(0)]))
    refusals = []

    def script(request, space):
        with pytest.raises(ConfigError, match="another run is writing") as caught:
            run_batch(MedGround(ScriptedReasoner(), segmenter), pairs, folder / "out")
        refusals.append(caught.value)
        return middle(request, space)

    run_batch(MedGround(ScriptedReasoner(script), segmenter), pairs, folder / "out")
    assert len(refusals) == 1
    assert len(read(folder / "out")) == 1


def test_digest_tells_rows_apart_and_not_their_meta():
    base = Pair(id="a", image="i.png", question="Where?")
    assert base.digest() == Pair(id="b", image="i.png", question="Where?", meta={"x": 1}).digest()
    others = [
        Pair(id="a", image="j.png", question="Where?"),
        Pair(id="a", image="i.png", question="When?"),
        Pair(id="a", image="i.png", question="Where?", frame=0),
    ]
    assert len({base.digest(), *(other.digest() for other in others)}) == 4


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a signal that can't be caught")
def test_killed_batch_goes_on_where_it_stopped(folder: Path, endpoint):
    endpoint.delay = 0.05
    rows = [row(index) for index in range(24)]
    pairs = write_rows(folder, rows)
    out = folder / "out"
    command = [
        sys.executable, "-m", "medground", "ground", "--batch", str(pairs), "--out", str(out),
        "--reasoner", endpoint.spec, "--segmenter", "none", "--batch-size", "2",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for kill_after in (3, 9):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while _lines(out) < kill_after and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        assert process.poll() is None, process.stderr.read().decode()
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stderr.close()
        assert kill_after <= _lines(out) < len(rows)
        # As a crash of the whole machine may leave it.
        with (out / "results.jsonl").open("ab") as stream:
            stream.write(b'{"id": "row-23", "inp')
    done_before = _lines(out)
    asked_before = len(endpoint.questions)
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert finished.returncode == 0, finished.stderr
    assert f"{done_before} were there already" in finished.stdout
    answers = read(out)
    assert [answer["id"] for answer in answers] == [row["id"] for row in rows]
    assert all(answer["bbox"] == [20, 15, 60, 30] for answer in answers)
    # At most the two requests that were under way when it was killed are asked again.
    assert len(endpoint.questions) - asked_before <= len(rows) - done_before + 2


def _lines(out: Path) -> int:
    results = out / "results.jsonl"
    return results.read_bytes().count(b"\n") if results.exists() else 0
