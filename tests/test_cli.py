from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import medground
import medground.cli
from medground.cli import main
from medground.cli_docs import cli_markdown
from medground.masks import decode_rle
from medground.pipeline import MedGround

ROOT = Path(__file__).parent.parent


@pytest.fixture
def scan(tmp_path: Path, picture) -> Path:
    path = tmp_path / "scan.png"
    Image.fromarray(picture.rgb).save(path)
    return path


@pytest.fixture
def run(capsys, monkeypatch, reasoner, segmenter):
    """Run the command line in this process, with scripted models in place of named ones."""
    monkeypatch.setattr("medground.pipeline.load_reasoner", lambda spec, **options: reasoner)
    monkeypatch.setattr("medground.pipeline.load_segmenter", lambda spec, **options: segmenter)

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        code = caught.value.code
        told = capsys.readouterr()
        return (0 if code is None else int(code)), told.out, told.err

    return call


def test_one_question_is_answered_readably(run, scan):
    code, out, err = run("ground", scan, "Where is it?")
    assert (code, err) == (0, "")
    assert "It is in the middle." in out
    assert "x 20.0 to 60.0, y 15.0 to 30.0" in out
    assert "(32.0, 21.0)  (48.0, 24.0)" in out
    assert "600 px, 12.5% of the image" in out
    assert "scripted + filling" in out
    assert "scan.png, 80 x 60 px" in out
    assert medground.RESEARCH_USE in out


def test_json_is_one_object_and_nothing_else(run, scan, reasoner):
    script = reasoner.script

    def noisy(request, space):
        sys.stdout.write("a library's chatter\n")
        return script(request, space)

    reasoner.script = noisy
    code, out, err = run("ground", scan, "Where is it?", "--json")
    assert code == 0
    assert err == "a library's chatter\n"
    assert out.count("\n") == 1
    said = json.loads(out)
    assert set(said) >= {
        "reasoning", "bbox", "points", "mask", "width", "height", "reasoner", "segmenter", "coordinates"
    }  # fmt: skip
    assert said["bbox"] == [20, 15, 60, 30]
    assert said["coordinates"] == "source pixels"
    assert decode_rle(said["mask"]).sum() == 600


def test_out_folder_gets_the_three_files(run, scan, tmp_path: Path):
    code, out, _ = run("ground", scan, "Where?", "--out", tmp_path / "out")
    assert code == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["scan.json", "scan.mask.png", "scan.overlay.png"]
    assert all(name in out.replace("\n", "") for name in names)
    assert json.loads((tmp_path / "out" / "scan.json").read_text())["bbox"] == [20, 15, 60, 30]


def test_options_reach_the_models(run, scan, monkeypatch, reasoner, segmenter):
    told = {}
    monkeypatch.setattr(
        "medground.pipeline.load_reasoner", lambda spec, **options: told.update(options, spec=spec) or reasoner
    )
    asked = []
    complete = reasoner.complete
    reasoner.complete = lambda requests, **options: asked.append((requests[0].mode, options)) or complete(requests)
    code, out, _ = run(
        "ground", scan, "Where?", "--json", "--reasoner", "a/model", "--segmenter", "none", "--device", "cpu",
        "--dtype", "float32", "--adapter", "lora", "--coordinates", "0-1", "--mode", "direct", "--temperature", "0.5",
        "--seed", "3",
    )  # fmt: skip
    assert code == 0
    assert told == {
        "spec": "a/model", "device": "cpu", "dtype": "float32", "adapter": "lora", "template": None,
        "coordinates": "0-1", "batch_size": 8,
    }  # fmt: skip
    assert asked == [("direct", {"temperature": 0.5, "max_new_tokens": None, "seed": 3})]
    said = json.loads(out)
    assert (said["mask"], said["segmenter"], said["reasoning"]) == (None, "none", "")


def test_slices_of_volumes_are_chosen_and_named(run, tmp_path: Path):
    nibabel = pytest.importorskip("nibabel")
    volume = np.random.default_rng(0).integers(0, 99, (20, 24, 28)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([2.0, 2, 2, 1])), tmp_path / "brain.nii.gz")
    code, out, _ = run(
        "ground", tmp_path / "brain.nii.gz", "Where?", "--axis", "coronal", "--slice", 5, "--window=50,80"
    )
    assert code == 0
    assert "coronal slice 5 of 0 to 23" in " ".join(out.split())
    assert "mm²" in out
    code, out, _ = run("ground", tmp_path / "brain.nii.gz", "Where?", "--axis", "axial", "--json")
    assert json.loads(out)["source"]["slices"] == 28


BAD = {
    "no such image": (["nowhere.png", "Where?"], "nowhere.png doesn't exist"),
    "a folder as image": (["folder", "Where?"], "is a folder"),
    "an empty file": (["empty.png", "Where?"], "is empty"),
    "a truncated file": (["truncated.png", "Where?"], "truncated.png"),
    "one value everywhere": (["constant.png", "Where?"], "one single value everywhere"),
    "not an image": (["text.png", "Where?"], "isn't a PNG"),
    "no question": (["scan.png"], 'medground ground IMAGE "QUESTION"'),
    "an empty question": (["scan.png", "  "], "the question is empty"),
    "a window of words": (["scan.png", "Where?", "--window", "lung"], "isn't CENTRE,WIDTH"),
    "an axis of a photograph": (["scan.png", "Where?", "--axis", "axial"], "NIfTI"),
    "a frame too far": (["scan.png", "Where?", "--frame", "9"], "has no"),
    "a file as out folder": (["scan.png", "Where?", "--out", "text.png"], "can't make the folder"),
    "retry without batch": (["scan.png", "Where?", "--retry-failed"], "for batches"),
    "a batch without out": (["--batch", "pairs.jsonl"], "needs --out"),
    "a batch that isn't there": (["--batch", "none.jsonl", "--out", "o"], "can't read none.jsonl: No such file"),
    "a batch with a bad row": (["--batch", "pairs.jsonl", "--out", "o"], "pairs.jsonl:1: question: is missing"),
    "a batch with image and question": (["scan.png", "Q", "--batch", "pairs.jsonl", "--out", "o"], "no IMAGE"),
    "a folder without question": (["--batch", "folder", "--out", "o"], "needs the one question"),
    "an answer without place": (["scan.png", "mumble"], "The reasoner wrote: hm"),
    "a reasoner that fails": (["scan.png", "fail"], "the server is busy"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("as_json", [False, True], ids=["", "json"])
def test_bad_input_is_one_sentence_and_exit_code_2(run, scan, monkeypatch, reasoner, arguments, message, as_json):
    folder = scan.parent
    monkeypatch.chdir(folder)
    (folder / "folder").mkdir()
    (folder / "empty.png").touch()
    (folder / "truncated.png").write_bytes(scan.read_bytes()[:-60])
    Image.new("L", (9, 9), 7).save(folder / "constant.png")
    (folder / "text.png").write_text("hello, this is text")
    (folder / "pairs.jsonl").write_text('{"id": "1", "image": "scan.png"}\n')
    script = reasoner.script
    reasoner.script = lambda request, space: (
        {"mumble": "hm", "fail": "ERROR the server is busy"}.get(request.question) or script(request, space)
    )
    code, out, err = run("ground", *arguments, *(["--json"] if as_json else []))
    assert code == 2
    assert out == ""
    assert message in err
    lines = err.strip().splitlines()
    assert lines[0].startswith("medground: ")
    assert len(lines) == (2 if "The reasoner wrote" in err else 1)
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "arguments",
    [["ground", "--frame", "-1"], ["ground", "--mode", "guess"], ["ground", "--no-such-option"], ["no-such-command"]],
    ids=str,
)
def test_usage_errors_exit_with_2(run, arguments):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert "Error:" in err
    assert "Traceback" not in err


def test_a_fault_of_ours_shows(run, scan, reasoner):
    def broken(request, space):
        raise ZeroDivisionError

    reasoner.script = broken
    with pytest.raises(ZeroDivisionError):
        main(["ground", str(scan), "Where?"])


def test_a_model_cannot_steer_the_terminal(run, scan, reasoner):
    script = reasoner.script
    reasoner.script = lambda request, space: script(request, space).replace("middle", "\x1b[31mred\u202e [bold]middle")
    _, out, _ = run("ground", scan, "Where?")
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "[bold]middle" in out
    reasoner.script = lambda request, space: "\x1b]0;title\x07nothing"
    _, _, err = run("ground", scan, "Where?")
    assert "\x1b" not in err
    assert "\x07" not in err


def test_errors_hold_neither_question_nor_completion_of_others(run, scan, reasoner):
    reasoner.script = lambda request, space: "ERROR the server is busy"
    _, out, err = run("ground", scan, "Does Mrs Example have a secret?")
    assert "secret" not in out + err


@pytest.fixture
def batch(scan) -> Path:
    rows = [{"id": str(index), "image": "scan.png", "question": f"Question {index}?"} for index in range(3)]
    rows.append({"id": "bad", "image": "none.png", "question": "Where?"})
    path = scan.parent / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_batch_reports_failures_by_exit_code_and_resumes(run, batch, picture):
    out_folder = batch.parent / "out"
    code, out, err = run("ground", "--batch", batch, "--out", out_folder, "--batch-size", 2)
    assert code == 1
    assert "4 of 4 rows done; 1 failed" in " ".join(out.split())
    assert "--retry-failed" in err
    Image.fromarray(picture.rgb).save(batch.parent / "none.png")
    code, out, _ = run("ground", "--batch", batch, "--out", out_folder, "--batch-size", 2, "--retry-failed", "--json")
    assert code == 0
    assert json.loads(out) == {
        "rows": 4, "found": 3, "done": 1, "failed": 0, "results": str(out_folder / "results.jsonl")
    }  # fmt: skip
    rows = [json.loads(line) for line in (out_folder / "results.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == ["0", "1", "2", "bad"]
    assert set(rows[0]) >= {"bbox", "points", "mask", "width", "height", "reasoner", "segmenter", "coordinates"}
    code, _, err = run("ground", "--batch", batch, "--out", out_folder, "--reasoner", "another")
    assert code == 2
    assert "holds a batch with reasoner 'nano', not 'another'" in err


def test_batch_of_a_folder_asks_its_one_question(run, scan, reasoner):
    asked = []
    script = reasoner.script
    reasoner.script = lambda request, space: asked.append(request.question) or script(request, space)
    code, _, _ = run("ground", "Where is it?", "--batch", scan.parent, "--out", scan.parent / "out")
    assert code == 0
    assert asked == ["Where is it?"]


def test_interrupted_batch_says_how_to_go_on(run, batch, reasoner):
    def interrupted(request, space):
        raise KeyboardInterrupt

    reasoner.script = interrupted
    code, _, err = run("ground", "--batch", batch, "--out", batch.parent / "out")
    assert code == 130
    assert "the same command continues the batch" in err


def test_demo_prints_where_its_page_is(run, tmp_path: Path):
    pytest.importorskip("nilearn")
    pytest.importorskip("skimage")
    code, out, _ = run("demo", "--out", tmp_path / "page")
    assert code == 0
    assert Path(out.strip()) == tmp_path / "page" / "index.html"
    assert Path(out.strip()).is_file()


def test_doctor_speaks_json_and_exits_with_1_when_broken(run, monkeypatch):
    from medground.doctor import Check

    checks = [Check("a", "ok", "fine"), Check("b", "missing", "not there", "install it")]
    monkeypatch.setattr("medground.doctor.examine", lambda run_models: checks)
    code, out, _ = run("doctor", "--json")
    assert code == 0
    assert json.loads(out)["ok"] is True
    assert json.loads(out)["checks"][1] == {
        "name": "b", "status": "missing", "detail": "not there", "remedy": "install it"
    }  # fmt: skip
    checks.append(Check("c [bold]", "broken", "a [red]fault", "mend it"))
    code, out, _ = run("doctor")
    assert code == 1
    assert "1 broken" in out
    assert "a [red]fault" in out
    assert "-> mend it" in out


def test_end_to_end_through_a_real_process_and_endpoint(scan, endpoint):
    command = [sys.executable, "-m", "medground", "ground", str(scan), "Where is it?", "--json"]
    command += ["--reasoner", endpoint.spec, "--segmenter", "none"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["bbox"] == [20, 15, 60, 30]
    assert done.stdout.count("\n") == 1
    assert "Where is it?" in endpoint.questions[0]


def test_output_survives_a_terminal_of_ascii(scan, endpoint):
    endpoint.answer = endpoint.answer.replace("middle", "μέση")
    command = [sys.executable, "-m", "medground", "ground", str(scan), "Where is it?"]
    command += ["--reasoner", endpoint.spec, "--segmenter", "none"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii:strict", "PYTHONUTF8": "0", "LC_ALL": "C"}
    done = subprocess.run(command, capture_output=True, timeout=120, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert b"\\u03bc" in done.stdout


@pytest.mark.parametrize(
    "arguments", [["--version"], ["--help"], ["ground", "--help"], ["demo", "--help"], ["doctor", "--help"]]
)
def test_help_loads_nothing_heavy(arguments):
    # typer itself brings pydantic along.
    heavy = {"numpy", "scipy", "PIL", "torch", "transformers", "pydicom", "nibabel", "openai", "rich.console"}
    code = (
        "import sys\nfrom medground.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit as stop:\n    assert not stop.code\n"
        f"sys.stderr.write(repr(sorted({heavy!r} & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "[]"
    assert done.stdout


def test_import_and_help_are_fast():
    def seconds(*arguments: str) -> float:
        times = []
        for _ in range(3):
            started = time.perf_counter()
            subprocess.run([sys.executable, *arguments], capture_output=True, timeout=60, check=True)
            times.append(time.perf_counter() - started)
        return min(times)

    idle = seconds("-c", "pass")
    # The bounds are 0.3 s and 0.5 s on a quiet machine; measured against Python's own start, so that a busy one passes.
    assert seconds("-c", "import medground") - idle < max(0.3, 3 * idle)
    assert seconds("-m", "medground", "ground", "--help") - idle < max(0.5, 10 * idle)


def test_version_is_the_packages(run):
    code, out, _ = run("--version")
    assert (code, out) == (0, f"medground {medground.__version__}\n")


def test_reference_is_up_to_date():
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == cli_markdown(), (
        "docs/cli.md is old: python -m medground.cli_docs > docs/cli.md"
    )


def test_public_names_are_all_there_and_typed():
    for name in medground.__all__:
        assert getattr(medground, name) is not None
    assert set(medground.__all__) - {"RESEARCH_USE", "__version__"} == set(medground._MODULE_OF)
    tree = ast.parse((ROOT / "medground" / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {(node.module, alias.name) for node in block.body for alias in node.names}
    assert typed == {(f"medground.{module}", name) for name, module in medground._MODULE_OF.items()}
    assert set(medground.__all__) <= set(dir(medground))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = medground.nothing
    assert (ROOT / "medground" / "py.typed").is_file()


def test_three_lines_of_python_do_the_main_job(scan, tmp_path: Path, monkeypatch, reasoner, segmenter):
    monkeypatch.setattr("medground.pipeline.load_reasoner", lambda spec, **options: reasoner)
    monkeypatch.setattr("medground.pipeline.load_segmenter", lambda spec, **options: segmenter)
    result = medground.MedGround().ground(scan, "Where is it?")
    saved = medground.save_result(result, scan, tmp_path / "out")
    assert saved.overlay.is_file()
    assert isinstance(medground.MedGround(), MedGround)
