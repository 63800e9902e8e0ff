"""Stages, whatever happens in the middle of them: killed, refused, spread over processes or over machines."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import medground
from medground.data.stages import (
    StageError,
    StageProgress,
    part_paths,
    read_parts,
    read_stage,
    run_stage,
    stage_digest,
    stage_root,
)
from medground.errors import ConfigError, MissingExtraError, TruthError

SETTINGS = {"seed": 0, "nested": {"shares": (0.8, 0.2)}}


# What workers call has to be found by its name in another process.
def squares(numbers: list[int], *, nap: float = 0.0, notes: str = "") -> dict[str, list[dict[str, Any]]]:
    time.sleep(nap)
    if notes:
        Path(notes, str(os.getpid())).touch()
    records = [{"number": number, "square": number * number, "words": "µ\u2028\ud83d"} for number in numbers]
    return {
        "": [record for record in records if record["number"] % 3],
        "refused": [{"number": 0} for number in numbers if not number % 3],
    }


def stumbles(number: int) -> list[dict[str, Any]]:
    if number == 2:
        raise TruthError("b.png: the mask is empty; drop the row")
    if number == 4:
        raise MissingExtraError("highdicom", extra="dicom", purpose="reading")  # can't be pickled
    return [{"number": number}]


def breaks(number: int) -> list[dict[str, Any]]:
    return [{"number": 12 // (number - 3)}]


def dies(number: int) -> list[dict[str, Any]]:
    if number == 3:
        os._exit(1)
    return [{"number": number}]


def notes_node(number: int, *, notes: str) -> list[dict[str, Any]]:
    import ray

    Path(notes, ray.get_runtime_context().get_node_id()).touch()
    time.sleep(0.05)
    return [{"number": number}]


def shards(count: int) -> list[list[int]]:
    return [list(range(7 * index, 7 * index + 7)) for index in range(count)]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_made_is_read_in_its_order(tmp_path: Path) -> None:
    report = run_stage("squares", shards(5), squares, tmp_path, settings=SETTINGS, about={"root": "/a"}, workers=1)
    assert (report.shards, report.found, report.records) == (5, 0, {"": 23, "refused": 12})
    assert [record["number"] for record in read_parts(report.folder)] == [n for n in range(35) if n % 3]
    assert next(read_parts(report.folder))["words"] == "µ\u2028\ud83d"
    assert len(list(read_parts(report.folder, "refused"))) == 12
    assert [path.name for path in part_paths(report.folder)] == [f"part-0000{number}.jsonl" for number in range(5)]
    assert len(list(read_parts(part_paths(report.folder)[1]))) == 5
    stage = read_stage(report.folder)
    assert (stage["root"], stage["shards"], stage["settings"]["seed"]) == ("/a", 5, 0)
    assert stage["digest"] == stage_digest(report.folder)


def test_a_kind_without_records_has_no_file(tmp_path: Path) -> None:
    run_stage("squares", [[1, 2], [3]], squares, tmp_path, settings={}, workers=1)
    names = {path.name for path in (tmp_path / "squares").iterdir()}
    assert names == {"stage.json", "part-00000.jsonl", "part-00001.jsonl", "part-00001.refused.jsonl"}
    assert (tmp_path / "squares" / "part-00001.jsonl").read_bytes() == b""


def test_the_product_is_written_last_for_it_says_that_the_shard_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    monkeypatch.setattr("medground.data.workers.write_bytes", lambda path, content: written.append(path.name))
    run_stage("squares", [[3]], squares, tmp_path, settings={}, workers=1)
    assert written == ["part-00000.refused.jsonl", "part-00000.jsonl"]


def test_the_bytes_dont_depend_on_the_workers(tmp_path: Path) -> None:
    for workers in (1, 2, 3):
        run_stage("squares", shards(20), squares, tmp_path / str(workers), settings=SETTINGS, workers=workers)
    assert contents(tmp_path / "1") == contents(tmp_path / "2") == contents(tmp_path / "3")


def test_a_second_run_makes_what_is_missing_alone(tmp_path: Path) -> None:
    run_stage("squares", shards(6), squares, tmp_path, settings=SETTINGS, workers=1)
    before = contents(tmp_path)
    (tmp_path / "squares" / "part-00002.jsonl").unlink()
    (tmp_path / "squares" / ".part-00002.jsonl.abc.part").write_text("half")
    seen: list[tuple[int, int, int]] = []

    def progress(state: StageProgress) -> None:
        seen.append((state.found, state.made, state.records))

    report = run_stage("squares", shards(6), squares, tmp_path, settings=SETTINGS, workers=1, progress=progress)
    assert seen == [(5, 0, 0), (5, 1, 5)]
    assert (report.found, report.records) == (5, {"": 28, "refused": 14})
    assert contents(tmp_path) == before
    stamps = [path.stat().st_mtime_ns for path in part_paths(report.folder)]
    run_stage("squares", shards(6), squares, tmp_path, settings=SETTINGS, workers=2)
    assert [path.stat().st_mtime_ns for path in part_paths(report.folder)] == stamps


@pytest.mark.parametrize(
    ("settings", "count", "said"),
    [
        ({**SETTINGS, "seed": 1}, 3, "made with seed 0, not 1"),
        ({**SETTINGS, "more": True}, 3, "made with more None, not True"),
        (SETTINGS, 4, "made with number of shards 3, not 4"),
    ],
)
def test_other_settings_are_refused_until_it_is_restarted(
    tmp_path: Path, settings: dict[str, Any], count: int, said: str
) -> None:
    run_stage("squares", shards(3), squares, tmp_path, settings=SETTINGS, workers=1)
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match=f"{said}; choose another --out, or --restart"):
        run_stage("squares", shards(count), squares, tmp_path, settings=settings, workers=1)
    assert contents(tmp_path) == before
    (tmp_path / "squares" / "notes.txt").write_text("a person's")
    report = run_stage("squares", shards(count), squares, tmp_path, settings=settings, workers=1, restart=True)
    assert (report.found, len(part_paths(report.folder))) == (0, count)
    assert (tmp_path / "squares" / "notes.txt").exists()


def test_another_version_is_refused_and_what_it_is_about_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_stage("squares", shards(2), squares, tmp_path, settings={}, about={"root": "/a"}, workers=1)
    run_stage("squares", shards(2), squares, tmp_path, settings={}, about={"root": "/b"}, workers=1)
    assert read_stage(tmp_path / "squares")["root"] == "/b"
    monkeypatch.setattr("medground.data.stages.__version__", "99")
    with pytest.raises(ConfigError, match=f"made with version '{medground.__version__}', not '99'"):
        run_stage("squares", shards(2), squares, tmp_path, settings={}, workers=1)


def test_where_pictures_are_is_told_or_asked_for(tmp_path: Path) -> None:
    run_stage("squares", shards(1), squares, tmp_path, settings={}, about={"root": "/a"}, workers=1)
    assert stage_root(tmp_path / "squares") == "/a"
    run_stage("squares", shards(1), squares, tmp_path, settings={}, workers=1, restart=True)
    with pytest.raises(
        ConfigError, match=r"squares/stage.json: doesn't say where pictures are \(root\); squares again"
    ):
        stage_root(tmp_path / "squares")


def test_what_isnt_a_whole_stage_isnt_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no stage of a build"):
        list(read_parts(tmp_path))
    run_stage("squares", shards(3), squares, tmp_path, settings={}, workers=1)
    folder = tmp_path / "squares"
    part = folder / "part-00001.jsonl"
    kept = part.read_bytes()
    part.unlink()
    with pytest.raises(ConfigError, match="1 of 3 shards of the stage squares are still to be made"):
        part_paths(folder)
    part.write_bytes(kept[:-9])
    with pytest.raises(ConfigError, match=r"part-00001\.jsonl:5: damaged; delete the file and run its stage again"):
        list(read_parts(folder))
    (folder / "stage.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"stage\.json: can't be read"):
        part_paths(folder)
    (folder / "stage.json").unlink()
    with pytest.raises(ConfigError, match=r"holds parts but no stage\.json"):
        run_stage("squares", shards(3), squares, tmp_path, settings={}, workers=1)


def test_two_runs_at_once_are_refused(tmp_path: Path) -> None:
    def meddle(state: StageProgress) -> None:
        with pytest.raises(ConfigError, match="another run is writing"):
            run_stage("squares", shards(1), squares, tmp_path, settings={}, workers=1)

    run_stage("squares", shards(1), squares, tmp_path, settings={}, workers=1, progress=meddle)


def test_workers_below_zero_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="workers -1"):
        run_stage("squares", shards(1), squares, tmp_path, settings={}, workers=-1)


@pytest.mark.parametrize("workers", [1, 2])
def test_shards_that_fail_are_told_after_the_others_are_made(tmp_path: Path, workers: int) -> None:
    with pytest.raises(StageError) as caught:
        run_stage("stumbles", range(8), stumbles, tmp_path, settings={}, workers=workers)
    assert sorted(caught.value.failures) == [2, 4]
    assert str(caught.value) == (
        "shard 2 of the stage stumbles (and 1 more shards): b.png: the mask is empty; drop the row; "
        "the other 6 are written, and running again makes what is missing"
    )
    assert len(list((tmp_path / "stumbles").glob("part-*"))) == 6
    report = run_stage("stumbles", range(8), breaks_never, tmp_path, settings={}, workers=workers)
    assert [record["number"] for record in read_parts(report.folder)] == list(range(8))


def breaks_never(number: int) -> list[dict[str, Any]]:
    return [{"number": number}]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_fault_keeps_its_traceback(tmp_path: Path, workers: int) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)shard 3 of the stage breaks: a fault.*in breaks.*ZeroDivisionError"):
        run_stage("breaks", range(5), breaks, tmp_path, settings={}, workers=workers)
    assert len(list((tmp_path / "breaks").glob("part-*"))) == 4


@pytest.mark.parametrize("record", [{"number": float("nan")}, {"number": {1}}])
def test_what_json_cant_hold_is_a_fault(tmp_path: Path, record: dict[str, Any]) -> None:
    with pytest.raises(RuntimeError, match="JSON"):
        run_stage("odd", [0], lambda shard: [record], tmp_path, settings={}, workers=1)
    assert not list((tmp_path / "odd").glob("*part*"))


def test_a_worker_that_dies_is_told(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"a worker process died while the shards .*3.* were made"):
        run_stage("dies", range(40), dies, tmp_path, settings={}, workers=2)


# -- killed -----------------------------------------------------------------------------------------------------------

COUNT, NAP = 30, 0.02


@contextlib.contextmanager
def started(out: Path, notes: Path) -> Iterator[subprocess.Popen[bytes]]:
    code = (
        # A shell's background job, and whatever it starts, ignores interrupts.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from functools import partial; from test_stages import *; "
        f"run_stage('squares', shards({COUNT}), partial(squares, nap={NAP}, notes={str(notes)!r}), {str(out)!r}, "
        "settings=SETTINGS, workers=2)"
    )
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def wait_for(condition: Any, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it didn't happen"
        time.sleep(0.002)


def parts_at_least(folder: Path, count: int) -> bool:
    return len(list(folder.glob("part-000??.jsonl"))) >= count


def alive(process: int) -> bool:
    try:
        return Path("/proc", str(process), "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are watched through /proc, as on Linux")
def test_a_killed_run_continues_with_nothing_lost_or_doubled(tmp_path: Path) -> None:
    run_stage("squares", shards(COUNT), squares, tmp_path / "calm", settings=SETTINGS, workers=1)
    out, notes = tmp_path / "killed", tmp_path / "notes"
    notes.mkdir()
    for moment in (0, 4, 17):  # at the start, and when so many parts are there
        with started(out, notes) as process:
            wait_for((out / "squares" / "stage.json").exists)
            wait_for(partial(parts_at_least, out / "squares", moment))
            process.send_signal(signal.SIGKILL)
            process.wait()
        # No worker outlives its parent, so none writes into what comes next.
        wait_for(lambda: not any(alive(int(note.name)) for note in notes.iterdir()))
        assert not parts_at_least(out / "squares", COUNT), "it was killed too late to show anything"
    report = run_stage("squares", shards(COUNT), squares, out, settings=SETTINGS, workers=2)
    assert report.found >= 17
    assert contents(out) == contents(tmp_path / "calm")


def test_an_interrupted_run_ends_at_once_and_continues(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    with started(tmp_path, notes) as process:
        wait_for(partial(parts_at_least, tmp_path / "squares", 3))
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode != 0
    assert b"KeyboardInterrupt" in said
    left = len(list((tmp_path / "squares").glob("part-000??.jsonl")))
    assert 3 <= left < COUNT
    report = run_stage("squares", shards(COUNT), squares, tmp_path, settings=SETTINGS, workers=1)
    assert (report.found, len(list(read_parts(report.folder)))) == (left, 140)


# -- Ray --------------------------------------------------------------------------------------------------------------


def test_without_ray_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'medground\[ray\]'"):
        run_stage("squares", shards(2), squares, tmp_path, settings={}, ray=True)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Two nodes on this machine."""
    ray = pytest.importorskip("ray", reason="Ray isn't installed: pip install 'medground[ray]' to run on two nodes")
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes.add_node(num_cpus=1)
    nodes.wait_for_nodes()
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(medground.__file__).parents[1])])
    ray.init(address=nodes.address, log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": path}})
    yield
    ray.shutdown()
    nodes.shutdown()


def test_two_ray_nodes_make_the_same_bytes(tmp_path: Path, cluster: None) -> None:
    from drawn import small_folder

    from medground.data.clean import clean

    notes = tmp_path / "who"
    notes.mkdir()
    run_stage("nodes", range(12), partial(notes_node, notes=str(notes)), tmp_path, settings={}, ray=True)
    assert len(list(notes.iterdir())) == 2, "one of the two nodes made nothing"
    for ray in (False, True):
        run_stage("squares", shards(9), squares, tmp_path / str(ray), settings=SETTINGS, ray=ray, workers=1)
        clean([small_folder(tmp_path / "masks")], tmp_path / str(ray), ray=ray, workers=1)
    assert contents(tmp_path / "True") == contents(tmp_path / "False")


def test_failures_on_ray_are_told_alike(tmp_path: Path, cluster: None) -> None:
    with pytest.raises(StageError) as caught:
        run_stage("stumbles", range(6), stumbles, tmp_path, settings={}, ray=True)
    assert caught.value.failures == {
        2: "b.png: the mask is empty; drop the row",
        4: "reading needs highdicom, which isn't installed: pip install 'medground[dicom]'",
    }
    assert len(list((tmp_path / "stumbles").glob("part-*"))) == 4
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        run_stage("breaks", range(5), breaks, tmp_path, settings={}, ray=True)
