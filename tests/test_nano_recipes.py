"""The scripts of nano's experiments: what they run, that they go on where they were, that they leave nothing behind."""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import subprocess
import time
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer

from medground.cli import app
from medground.train.recipe import read_config

ROOT = Path(__file__).parent.parent
SCRIPTS = ["nano_ablation.sh", "nano_few_labels.sh"]
VISUAL = "nano_vqa_three_way.sh"
BOTH = "nano_both_tasks.sh"
SECOND = "nano_v2.sh"
THIRD = "nano_v3.sh"
FIRST = "nano_v1.sh"

pytestmark = pytest.mark.skipif(
    shutil.which("bash") is None or shutil.which("flock") is None, reason="bash or flock isn't installed"
)

# Writes down what it is given, one call a line, and leaves behind what the real commands would.
FAKE = """#!/usr/bin/env bash
line=$(printf '%s\\x1f' "$@"); echo "$line" >> "$CALLS"
[ "${FAIL:-}" != "" ] && [[ "$*" == *"$FAIL"* ]] && exit 3
if [ "${HANG:-}" != "" ] && [[ "$*" == *"$HANG"* ]]; then echo $$ >> "$PIDS"; sleep 60; fi
case "$*" in
"- "*) echo 23 ;;
*" train "*) for word in "$@"; do case $word in out=*) mkdir -p "${word#out=}/model" ;; esac; done ;;
*write_untrained* | *write_with_tokens*) mkdir -p "$4" ;;
*write_part*) mkdir -p "$4"; touch "$4/rest.parquet" ;;
*" eval "*) while [ "$1" != --out ]; do shift; done; mkdir -p "$2" ;;
esac
"""


class Machine:
    """A place where scripts run."""

    def __init__(self, home: Path) -> None:
        self.home, self.calls, self.pids = home, home / "calls", home / "pids"
        python = home / "python"
        python.write_text(FAKE)
        python.chmod(0o755)
        self.environment = {"PYTHON": str(python), "CALLS": str(self.calls), "PIDS": str(self.pids)}

    def start(self, script: str, **more: str) -> subprocess.Popen[str]:
        out = str(self.home / "out")
        arguments = {
            "nano_ablation.sh": ["START", "DATA", out, "6"],
            "nano_few_labels.sh": ["DATA", out, "12", "6"],
            VISUAL: ["START", "DATA", out, "12", "6"],
            BOTH: ["JOINT", "ALONE", "DATA", out],
            SECOND: ["V1", "DATA", out, "6"],
            THIRD: ["V2", "DATA", out, "6"],
            FIRST: ["FROM", "DATA", out],
        }[script]
        return subprocess.Popen(
            [str(ROOT / "recipes" / script), *arguments],
            env=os.environ | self.environment | more,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, script: str, **more: str) -> tuple[int, str]:
        process = self.start(script, **more)
        _, said = process.communicate(timeout=60)
        return process.returncode, said

    def said(self) -> list[list[str]]:
        """Return the calls since the last time."""
        calls = self.calls.read_text().splitlines() if self.calls.exists() else []
        self.calls.unlink(missing_ok=True)
        return [line.rstrip("\x1f").split("\x1f") for line in calls]


class Done(NamedTuple):
    machine: Machine
    script: str
    calls: list[list[str]]

    @property
    def arms(self) -> list[str]:
        return list(arms("ABLATION" if self.script == SCRIPTS[0] else "FEW"))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture(scope="module", params=SCRIPTS)
def done(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A script that ran to its end."""
    machine = Machine(tmp_path_factory.mktemp("done"))
    code, said = machine.run(request.param)
    assert code == 0, said
    return Done(machine, request.param, machine.said())


@cache
def commands() -> typer.core.TyperGroup:
    return typer.main.get_command(app)


def options(call: list[str]) -> dict[str, Any]:
    """Return the parameters as which medground reads a call's line."""
    group = commands()
    names = call[2:]
    while hasattr(group, "commands"):
        group = group.commands[names.pop(0)]
    return group.make_context("medground", names).params


def trainings(calls: list[list[str]]) -> dict[str, tuple[str, Any]]:
    """Return each training's kind and page, by its arm, in their order."""
    found = {}
    for call in calls:
        if call[:3] == ["-m", "medground", "train"]:
            given = options(call)
            page = read_config(ROOT / given["config"], given["set_"])
            assert page.kind == call[3]
            found[Path(page.out or "").name] = (call[3], page)
    return found


def asked(calls: list[list[str]]) -> list[tuple[str, str, tuple[str, ...]]]:
    """Return arm, model and (mode, shard) of each evaluation."""
    given = [options(call) for call in calls if call[:3] == ["-m", "medground", "eval"]]
    return [(each["out"].parent.name, each["reasoner"], (each["mode"], each["shard"])) for each in given]


def arms(name: str) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "docs"))
        return getattr(importlib.import_module("result_arms"), name)


def test_each_arm_is_trained_once_and_asked_in_both_modes_by_two_halves(done: Done) -> None:
    evaluated = asked(done.calls)
    assert sorted({name for name, _, _ in evaluated}) == sorted(done.arms)
    parts = sorted((mode, f"{half}/2") for mode in ("reason", "direct") for half in (0, 1))
    for name in done.arms:
        assert sorted(part for arm, _, part in evaluated if arm == name) == parts
    made = trainings(done.calls)
    assert set(made) == set(done.arms) - {"untrained", "sft"}
    assert len(made) == len([call for call in done.calls if "train" in call[:3]])
    for name, model, _ in evaluated:
        wanted = {"sft": "START"}.get(name, str(done.machine.home / "out" / name / "model"))
        assert model == wanted
    assert done.calls[-1][:2] == ["docs/results.py", str(done.machine.home / "out")]


def test_arms_begin_alike_and_differ_in_what_they_are_named_for(done: Done) -> None:
    made = trainings(done.calls)
    out = done.machine.home / "out"
    if done.script == "nano_few_labels.sh":
        assert {name: (page.model, page.data.train, page.steps) for name, (_, page) in made.items()} == {
            "eighth": (f"{out}/start/model", f"{out}/part/part.parquet", 12),
            "all": (f"{out}/start/model", "DATA/train.parquet", 30),
            "eighth-continued": (f"{out}/eighth/model", f"{out}/part/part.parquet", 18),
            "eighth-grpo": (f"{out}/eighth/model", f"{out}/part/rest.parquet", 6),
        }
        assert [name for name, (kind, _) in made.items() if kind == "grpo"] == ["eighth-grpo"]
        left_out = [{name for name, weight in page.data.weights.items() if not weight} for _, page in made.values()]
        assert left_out == [{"kvasir_seg", "ph2", "sunnybrook"}] * 4
        return
    pages = [page for _, page in made.values()]
    assert {(page.model, page.data.train, page.seed) for page in pages} == {("START", "DATA/train.parquet", 0)}
    assert {name: page.grpo.recipe for name, (kind, page) in made.items() if kind == "grpo"} == {
        "grpo-umrg-base": "umrg-base",
        "grpo-umrg-soft": "umrg-soft",
        "grpo-umrg-hard": "umrg-hard",
        "grpo-medground": "medground",
        "grpo-medground-number": "medground",
        "grpo-medground-part": "medground",
    }
    for credit in ("number", "part"):
        assert [name for name, (_, page) in made.items() if page.grpo.credit == credit] == [f"grpo-medground-{credit}"]
    assert {kind: page.steps for kind, page in made.values()} == {"grpo": 6, "sft": 18}


def test_what_is_done_is_not_done_again_and_another_seed_lies_beside_it(done: Done) -> None:
    assert done.machine.run(done.script)[0] == 0
    assert [call[0] for call in done.machine.said()] == ["docs/results.py"]
    assert done.machine.run(done.script, SEED="1")[0] == 0
    calls = done.machine.said()
    made = trainings(calls)
    assert set(made) == {f"{name}@1" for name in done.arms} - {"untrained@1", "sft@1"}
    assert {page.seed for _, page in made.values()} == {1}
    assert {name for name, _, _ in asked(calls)} == set(made)


def test_three_ways_begin_alike_and_are_asked_alike(machine: Machine) -> None:
    assert machine.run(VISUAL, SAMPLES="2", LIMIT="300")[0] == 0
    calls, out = machine.said(), machine.home / "out"
    assert {
        name: (kind, page.model, page.data.vqa_limit, page.steps) for name, (kind, page) in trainings(calls).items()
    } == {
        "sft-all": ("sft", "START", None, 24),
        "sft-eighth": ("sft", "START", 0.125, 12),
        "grpo-eighth": ("grpo", f"{out}/sft-eighth/model", 0.125, 6),
        "sft-eighth-continued": ("sft", f"{out}/sft-eighth/model", 0.125, 23),
    }
    assert {tuple(page.data.vqa) for _, page in trainings(calls).values()} == {("DATA/train.parquet",)}
    given = [options(call) for call in calls if call[:3] == ["-m", "medground", "eval"]]
    assert {(str(each["data"][0]), each["limit"]) for each in given} == {("DATA/test.parquet", 300)}
    models, blind = arms("THREE_WAY"), arms("BLIND")
    assert sorted((each["out"], each["reasoner"], each["shard"], each["samples"]) for each in given) == sorted([
        *((out / name / "test", f"{out}/{name}/model", f"{half}/2", 2) for name in models for half in (0, 1)),
        *((out / name / "test", f"baseline:{name}", "0/1", 0) for name in blind),
    ])  # fmt: skip
    told = options(next(call for call in calls if "report" in call[:3]))
    assert sorted(told["runs"]) == sorted(out / name / "test" for name in (*models, *blind))
    assert calls[-1][:2] == ["docs/results.py", str(out)]


def test_a_model_for_both_tasks_is_held_against_one_for_grounding(machine: Machine) -> None:
    assert machine.run(BOTH)[0] == 0
    calls = machine.said()
    found = {(arm, model, mode) for arm, model, (mode, _) in asked(calls)}
    assert found == {
        *(("joint", "JOINT", mode) for mode in ("reason", "direct")),
        *(("grounding-alone", "ALONE", mode) for mode in ("reason", "direct")),
    }
    assert {arm for arm, _, _ in asked(calls)} == {arms("BOTH_TASKS")[0], arms("BOTH_TASKS")[1]}
    files = {str(options(call)["data"][0]) for call in calls if call[:3] == ["-m", "medground", "eval"]}
    assert files == {"DATA/test.parquet", "DATA/vqa/test.parquet"}


def test_answers_to_fewer_questions_are_not_taken_for_all(machine: Machine) -> None:
    for limit, wanted in (("5", 10), ("5", 0), ("", 10)):
        assert machine.run(BOTH, LIMIT=limit)[0] == 0
        assert len([call for call in machine.said() if "eval" in call[:3]]) == wanted


def test_a_failure_stops_the_script_and_the_same_command_goes_on(machine: Machine) -> None:
    place = machine.home / "out" / "eighth-grpo"
    code, said = machine.run("nano_few_labels.sh", FAIL=f"out={place}")
    assert code == 1
    assert "the same command goes on" in said
    before = trainings(machine.said())
    assert not (place / "model").exists()
    (place / "checkpoint-3").mkdir(parents=True)
    assert machine.run("nano_few_labels.sh")[0] == 0
    calls = machine.said()
    assert {"eighth", "all"} <= set(before) - set(trainings(calls))
    assert [call for call in calls if f"out={place}" in call and "--resume" in call]


def test_a_second_one_waits_its_turn_and_an_end_leaves_nothing_at_work(machine: Machine) -> None:
    first = machine.start("nano_ablation.sh", HANG=" train ")
    deadline = time.monotonic() + 60
    while not (machine.pids.exists() and len(machine.pids.read_text().split()) == 2):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    code, said = machine.run("nano_ablation.sh")
    assert code == 1
    assert "another run is at work there" in said
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=60)  # until the last of its children has let go of its standard error
    assert first.returncode == 130
    lock = str(machine.home / "out" / "lock")
    assert subprocess.run(["flock", "--nonblock", lock, "true"], check=False).returncode == 0


def test_nano_v2_and_what_it_is_held_against(machine: Machine) -> None:
    code, said = machine.run(SECOND)
    assert code == 0, said
    calls, out = machine.said(), f"{machine.home}/out"
    made = {name: page for name, (_, page) in trainings(calls).items()}
    assert {name: (page.model, page.steps) for name, page in made.items()} == {
        "words": (f"{out}/tokens/model", 600),
        "first": (f"{out}/words/model", 320),
        "second": (f"{out}/first/model", 560),
        "named": (f"{out}/second/model", 480),
        "both": (f"{out}/named/model", 900),
        "grpo-medground-part": (f"{out}/both/model", 6),
        "sft-continued": (f"{out}/both/model", 30),
        "grounding-alone": (f"{out}/second/model", 6),
    }
    for name, page in made.items():
        visual = name in ("words", "both")
        assert (page.data.vqa, page.data.vqa_val) == (
            (("DATA/vqa/train.parquet",), ("DATA/vqa/val.parquet",)) if visual else (None, None)
        )
        assert page.freeze_vision == (visual or page.kind == "grpo")
    for name in ("grpo-medground-part", "grounding-alone"):
        grpo = made[name].grpo
        assert (grpo.recipe, grpo.credit, grpo.weights) == ("medground", "part", {"honesty": 3})
    assert {name for name, _, _ in asked(calls)} == {"sft", "sft-continued", "grpo-medground-part", "grounding-alone"}
    chosen = ["--shipped", "grpo-medground-part"]
    assert calls[-1] == ["docs/results.py", out, *chosen, "--out", f"{out}/docs"]
    assert machine.run(SECOND)[0] == 0
    assert all(call[0] == "docs/results.py" for call in machine.said())


def test_nano_v3_and_what_it_is_held_against(machine: Machine) -> None:
    code, said = machine.run(THIRD)
    assert code == 0, said
    calls, out = machine.said(), f"{machine.home}/out"
    made = {name: page for name, (_, page) in trainings(calls).items()}
    assert {name: (page.kind, page.model, page.steps) for name, page in made.items()} == {
        "answers": ("sft", "V2", 1200),
        "settled": ("sft", f"{out}/answers/model", 500),
        "grpo-medground-part": ("grpo", f"{out}/settled/model", 6),
        "sft-continued": ("sft", f"{out}/settled/model", 36),
    }
    for page in made.values():
        assert (page.data.train, page.data.vqa) == ("DATA/train.parquet", ("DATA/vqa/train.parquet",))
        assert page.freeze_vision
        assert page.kind == "grpo" or page.sft.answer_weight > 0
    assert {name for name, _, _ in asked(calls)} == {"sft", "sft-continued", "grpo-medground-part"}
    visual = [options(call)["out"].parent.name for call in calls if "DATA/vqa/test.parquet" in call]
    assert set(visual) == {"sft", "sft-continued", "grpo-medground-part"}
    assert calls[-1] == ["docs/results.py", out, "--shipped", "grpo-medground-part", "--out", f"{out}/docs"]


def test_a_second_phase_goes_on_from_the_first(machine: Machine) -> None:
    code, said = machine.run(FIRST)
    assert code == 0, said
    out = f"{machine.home}/out"
    made = {name: page for name, (_, page) in trainings(machine.said()).items()}
    assert [(name, page.model) for name, page in made.items()] == [("first", "FROM"), ("second", f"{out}/first/model")]
    for page in made.values():
        assert (page.data.train, page.data.val, page.workers) == ("DATA/train.parquet", "DATA/val.parquet", 1)
        assert page.data.vqa is None
    assert machine.run(FIRST)[0] == 0
    assert machine.said() == []
