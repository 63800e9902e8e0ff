"""``medground ask`` as a user types it, against a real endpoint on this machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer
from conftest import FillingSegmenter, LoopbackServer
from PIL import Image

from medground import RESEARCH_USE
from medground.errors import ConfigError, ImageError, ParseError
from medground.images import MedicalImage
from medground.masks import decode_rle
from medground.vqa_cli import ask

ANSWER = (
    "<think>The heart (region [100, 200, 500, 900]) is wide.\x1b[31m</think><response><answer>A, B</answer><location>"
    "<ref>heart\x07</ref><box>[100, 200, 500, 900]</box></location></response>"
)
CHOICES = ("--choices", "heart [bold]", "--choices", "left lung")


@pytest.fixture
def scan(tmp_path: Path, picture: MedicalImage) -> Path:
    Image.fromarray(picture.rgb).save(tmp_path / "scan.png")
    return tmp_path / "scan.png"


Run = Callable[..., str]


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str],
    endpoint: LoopbackServer,
    monkeypatch: pytest.MonkeyPatch,
    segmenter: FillingSegmenter,
) -> Run:
    endpoint.answer = ANSWER
    monkeypatch.setattr("medground.pipeline.load_segmenter", lambda spec, **options: segmenter)
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(ask)

    def call(*arguments: object) -> str:
        app([*map(str, arguments), "--reasoner", endpoint.spec], standalone_mode=False)
        return capsys.readouterr().out

    return call


def test_an_answer_is_told_readably(run: Run, scan: Path, endpoint: LoopbackServer) -> None:
    out = run(scan, "Which are enlarged?", *CHOICES, "--type", "multi")
    assert "A: heart [bold]; B: left lung" in out
    assert "The heart (region [8, 12, 40, 54]) is wide.\ufffd[31m" in out
    told = " ".join(out.split())
    assert "heart\ufffd: x 8.0 to 40.0, y 12.0 to 54.0 (32 x 42 px); mask 1,344 px, 28.0% of the image" in told
    assert "qwen3-vl-loopback + filling" in out
    assert RESEARCH_USE in out
    assert "\x1b[31m" not in out
    assert "A: heart [ bold]\\nB: left lung\\nAnswer with the letters of all right choices" in endpoint.questions[0]


def test_json_is_one_object_and_nothing_else(run: Run, scan: Path) -> None:
    out = run(scan, "Which are enlarged?", *CHOICES, "--json", "--segmenter", "none")
    assert out.count("\n") == 1
    said = json.loads(out)
    assert (said["answer"], said["chosen"], said["question_type"]) == (
        "A, B",
        ["heart [bold]", "left lung"],
        "multi_choice",
    )
    assert [region["box"] for region in said["regions"]] == [[8, 12, 40, 54]]
    assert (said["regions"][0]["mask"], said["segmenter"]) == (None, "none")


def test_files_are_written_and_a_later_question_refers_to_them(
    run: Run, scan: Path, tmp_path: Path, endpoint: LoopbackServer
) -> None:
    out = run(scan, "Which are enlarged?", "--out", tmp_path / "out")
    names = ["scan.reply.png", "scan.reply.1.mask.png", "scan.reply.json"]
    assert [line.removeprefix("wrote ") for line in out.splitlines() if line.startswith("wrote")] == [
        str(tmp_path / "out" / name) for name in names
    ]
    told = json.loads((tmp_path / "out" / names[2]).read_text())
    mask = np.asarray(Image.open(tmp_path / "out" / names[1])) == 255
    assert (decode_rle(told["regions"][0]["mask"]) == mask).all()
    assert Image.open(tmp_path / "out" / names[0]).height > 512 * 60 / 80
    earlier = tmp_path / "out" / names[2]
    run(scan, "Is it enlarged?", "--earlier", earlier, "--earlier", earlier)
    assert endpoint.questions[1].count("heart [100, 200, 500, 900]") == 2


@pytest.mark.parametrize(
    ("arguments", "error", "why"),
    [
        (("scan.png", "What?", "--choices", "one"), ConfigError, "2 to 26"),
        (("scan.png", "What?", "--type", "single"), ConfigError, "needs choices"),
        (("scan.png", " "), ConfigError, "the question is empty"),
        (("none.png", "What?"), ImageError, "none.png"),
        (("scan.png", "What?", "--earlier", "none.json"), ConfigError, "none.json: can't be read"),
        (("scan.png", "What?", "--window", "bright"), ConfigError, "CENTRE,WIDTH"),
        (("scan.png", "What?", "--coordinates", "inches"), ConfigError, "inches"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(
    run: Run,
    scan: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    error: type,
    why: str,
) -> None:
    monkeypatch.chdir(scan.parent)
    with pytest.raises(error, match=why) as told:
        run(*arguments)
    assert "What?" not in str(told.value)


def test_an_unreadable_answer_carries_its_text(run: Run, scan: Path, endpoint: LoopbackServer) -> None:
    endpoint.answer = '<think>a</think><answer>{"bbox": [1, 2, 3, 4]}</answer>'
    with pytest.raises(ParseError, match="a place and no answer in words") as told:
        run(scan, "What?")
    assert told.value.completion == endpoint.answer
