"""`medground eval`, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from conftest import LoopbackServer
from made_rows import made_rows, save_rows
from typer.testing import CliRunner, Result

from medground import eval_cli
from medground.data.schema import read_rows
from medground.errors import ConfigError
from medground.evaluate.predictions import read_run

app = typer.Typer(pretty_exceptions_enable=False)
app.command("eval")(eval_cli.evaluate)
app.command("report")(eval_cli.report)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.parquet, val.parquet and test.parquet."""
    folder = tmp_path_factory.mktemp("data")
    return save_rows(made_rows(folder), folder)


@pytest.mark.parametrize("name", ["whole-image", "centre", "category-prior", "random", "oracle"])
def test_baselines_need_no_model(data: Path, tmp_path: Path, name: str) -> None:
    said = run("eval", "--data", data / "val.parquet", "--split", "val", "--out", tmp_path, "--reasoner",
               f"baseline:{name}", "--segmenter", "none")  # fmt: skip
    assert said.exit_code == 0, said.exception
    found = read_run(tmp_path)
    assert found.info["reasoner"]["name"] == name
    assert f"{len(found.predictions)} of {len(found.predictions)} rows done; 0 failed" in said.stdout
    assert ("box_iou 1.0000" in said.stdout) == (name == "oracle")
    assert "Research use only" in said.stdout


def test_an_endpoint_is_asked_and_the_command_goes_on(data: Path, tmp_path: Path, endpoint: LoopbackServer) -> None:
    command = ["eval", "--data", data, "--split", "train", "--out", tmp_path, "--reasoner", endpoint.spec,
               "--segmenter", "none", "--samples", 2, "--concurrency", 2]  # fmt: skip
    assert run(*command, "--shard", "0/2").exit_code == 0
    first = len(endpoint.questions)
    said = run(*command, "--shard", "1/2")
    assert said.exit_code == 0, said.exception
    found = read_run(tmp_path)
    assert len(endpoint.questions) == 3 * len(found.predictions) > first
    assert all(len(each.samples) == 2 for each in found.predictions)
    assert "0 of " in run(*command, "--shard", "1/2").stdout
    assert len(endpoint.questions) == 3 * len(found.predictions)


def test_what_was_paid_for_is_kept(data: Path, tmp_path: Path, endpoint: LoopbackServer) -> None:
    command = ["eval", "--data", data, "--split", "val", "--reasoner", endpoint.spec, "--segmenter", "none",
               "--per-minute", 6000]  # fmt: skip
    out = tmp_path / "run"
    assert run(*command, "--out", out).exit_code == 0
    asked = len(endpoint.questions)
    (out / "predictions.jsonl").write_bytes(b"")
    assert run(*command, "--out", out).exit_code == 0
    assert len(endpoint.questions) == asked > 0
    assert (out / "paid" / "ledger.jsonl").is_file()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--shard", "1of2"), "--shard '1of2' isn't I/N; the first of four is 0/4"),
        (("--prompts", "circle"), "--prompts 'circle' isn't known; choose points, box or both"),
        (("--reasoner", "baseline:corner"), "baseline 'corner' isn't known"),
        (("--reasoner", "https://host/v1#qwen3-vl", "--prices", "1"), "--prices '1' isn't IN,OUT"),
        (("--max-cost", "1"), "--prices, --max-cost and --per-minute are for endpoints"),
        (("--split", "test", "--reasoner", "baseline:centre", "--oracle"), "oracle is for masks"),
        (("--data", "none.parquet", "--reasoner", "baseline:centre"), "none.parquet: no such file"),
    ],
)
def test_what_can_t_be_done_is_told(data: Path, tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    given = () if "--data" in arguments else ("--data", data)
    said = run("eval", *given, "--out", tmp_path / "out", "--segmenter", "none", *arguments)
    assert isinstance(said.exception, ConfigError), said.output
    assert told in str(said.exception)
    assert not (tmp_path / "out" / "predictions.jsonl").exists()


def test_answers_that_were_made_elsewhere(data: Path, tmp_path: Path) -> None:
    said = '<answer>{"bbox": [0, 0, 500, 500]}</answer>'
    ids = [row.id for row in read_rows(data / "val.parquet")]
    stored = tmp_path / "results.json"
    stored.write_text(json.dumps([{"id": name, "output": said} for name in ids]))
    told = run("eval", "--data", data / "val.parquet", "--split", "val", "--out", tmp_path / "run", "--segmenter",
               "none", "--reasoner", f"stored:{stored}", "--coordinates", "0-1000")  # fmt: skip
    assert told.exit_code == 0, told.exception
    for one in read_run(tmp_path / "run").predictions:
        assert one.completion == said
        assert one.answer.box.xyxy == (0, 0, one.image_size[0] / 2, one.image_size[1] / 2)
