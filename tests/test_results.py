"""docs/results.md: figures of arms worked out by hand from small runs, and the committed page held to its figures."""

from __future__ import annotations

import doctest
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from made_results import DOCS, cells, script, training
from made_runs import ABSENT, Drawn, drawn, save_run
from PIL import Image

from medground.data.rows import Picture, Row
from medground.data.schema import write_rows
from medground.errors import ConfigError

ROWS = drawn(12, absent=[5])
AWAY = '<answer>{"bbox": [0, 0, 6, 6], "points_1": [2, 3], "points_2": [4, 3]}</answer>'
"""A corner in which no target is."""


@pytest.fixture(scope="module")
def runs() -> ModuleType:
    return script("result_runs")


@pytest.fixture(scope="module")
def text() -> ModuleType:
    return script("result_page")


def moved(share: float) -> Callable[[Drawn], str]:
    """Answer with the true box moved by a share of its width: an IoU of (1 - share) / (1 + share)."""
    return lambda row: ABSENT if row.mask is None else row.moved(share)


def arm(folder: Path, answer: Callable[[Drawn], str], *, mode: str = "reason", **more: Any) -> Path:
    """Write an evaluation of an arm."""
    info = {"mode": mode, **more.pop("info", {})}
    return save_run(folder / f"test-{mode}", ROWS, answer, info=info, mode=mode, fill=False, **more)


def test_figures_of_the_arms_are_those_by_hand(tmp_path: Path, runs: ModuleType, text: ModuleType) -> None:
    arm(tmp_path / "sft-continued", moved(1 / 3))  # IoU 1/2
    arm(tmp_path / "grpo-medground", moved(0), samples=(ABSENT, "nothing"), info={"samples": 2, "temperature": 1.0})
    told = runs.gathered([tmp_path], machine="a test")
    page = text.page(told, [])
    right = cells(page, "Asked with reasoning, greedy answers", "grpo-medground")
    half = cells(page, "Asked with reasoning, greedy answers", "sft-continued")
    assert (right["Box IoU"], right["Presence"], right["Readable"]) == ("**1.000**", "**1.000**", "**1.000**")
    assert float(half["Box IoU"]) == pytest.approx(0.5, abs=0.03)  # whole pixels
    assert half["Claims true"] == right["Claims true"] == "**1.000**"
    # Of two samples one says rightly, of the absent target, that it is absent; the other can't be read.
    sampled = cells(page, "Asked with reasoning, sampled answers, their mean", "grpo-medground")
    assert (sampled["Box IoU"], sampled["Readable"], sampled["Presence"]) == ("0.000", "0.500", "0.250")
    gained = 1 - float(half["Box IoU"])
    less = cells(page, "Differences with reasoning", "grpo-medground")["Box IoU"]
    assert float(less.split()[0]) == pytest.approx(gained, abs=0.002)
    aimed = cells(page, "What was aimed at", "grpo-medground")
    assert aimed["Box IoU ≥ 0.75"] == "1.000: reached"
    assert aimed["Dice ≥ 0.78"] == "not measured"
    assert next(value for name, value in aimed.items() if name.startswith("2 points")).endswith("reached")
    assert "12 questions of split test" in page
    assert "1 of them about absent targets, 6 patients, 3 categories" in page.replace("\n", " ")
    for missing in ("No training was given.", "The experiment with few labels"):
        assert missing in page
    assert "`untrained`" in page.split("## What is missing")[1]


def test_a_target_is_missed_by_what_is_missing(runs: ModuleType, text: ModuleType, tmp_path: Path) -> None:
    arm(tmp_path / "sft-continued", moved(1 / 3))
    arm(tmp_path / "grpo-umrg-soft", moved(1 / 3))
    page = text.page(runs.gathered([tmp_path], shipped="grpo-umrg-soft"), [])
    aimed = cells(page, "What was aimed at", "grpo-umrg-soft")
    found, missed = re.match(r"([\d.]+) .*: missed by ([\d.]+)", aimed["Box IoU ≥ 0.75"]).groups()  # type: ignore[union-attr]
    assert float(found) + float(missed) == pytest.approx(0.75, abs=0.0015)
    assert list(aimed.values())[-1] == "Box IoU 0.000: missed by 0.020"
    assert "`grpo-umrg-soft` is the model that is handed out" in page
    with pytest.raises(ConfigError, match="--shipped other: there is no such arm"):
        runs.gathered([tmp_path], shipped="other")


def test_the_worst_categories_come_first_with_their_fault(tmp_path: Path, runs: ModuleType, text: ModuleType) -> None:
    arm(tmp_path / "sft", lambda row: AWAY if row.category == "spleen" else row.moved(0))
    told = runs.gathered([tmp_path])
    assert told["categories"][0]["name"] == "spleen"
    page = text.page(told, [])
    spleen = cells(page, "The worst categories", "spleen")
    assert (spleen["questions"], spleen["Box IoU"]) == ("3", "0.00")  # one of four is asked for in vain
    assert spleen["most frequent fault"] == "3 of 3: the box doesn't meet the target"
    assert "Under 0.25 stay 1: spleen." in page


def test_seeds_are_one_arm_whose_figures_are_their_means(tmp_path: Path, runs: ModuleType) -> None:
    arm(tmp_path / "sft", moved(0))
    arm(tmp_path / "sft@1", lambda _: AWAY)
    told = runs.gathered([tmp_path])
    assert told["arms"]["sft"]["seeds"] == 2
    figures = told["arms"]["sft"]["modes"]["reason"]["figures"]
    assert figures["box_iou"][0] == pytest.approx(0.5)
    assert figures["box_iou"][3] == 11
    assert figures["claims"][0] == 1


def test_few_labels_close_their_share_of_the_distance(tmp_path: Path, runs: ModuleType, text: ModuleType) -> None:
    assert text.closed_share(0.2, 0.5, 0.8) == "50 %"
    arm(tmp_path / "eighth", lambda _: AWAY)
    arm(tmp_path / "eighth-continued", lambda _: AWAY)
    arm(tmp_path / "eighth-grpo", lambda row: row.moved(0) if row.number % 4 else AWAY)  # 8 of the 11 right
    arm(tmp_path / "all", lambda row: row.moved(0))
    page = text.page(runs.gathered([tmp_path]), [])
    closed = cells(page, "Distance closed, asked with reasoning", "eighth-grpo")
    assert closed["Box IoU closed"] == "73 %"
    assert closed["above half-way"].startswith("+0.")
    told = runs.gathered([tmp_path])["arms"]["eighth-grpo"]["modes"]["reason"]
    assert told["half"]["box_iou"][0] == pytest.approx(8 / 11 - 0.5, abs=1e-4)
    assert cells(page, "Distance closed, asked with reasoning", "eighth-continued")["Box IoU closed"] == "0 %"
    assert "No arm of recipes/nano_ablation.sh has been evaluated." in page


def test_collections_that_no_arm_was_shown_stand_apart(tmp_path: Path, runs: ModuleType, text: ModuleType) -> None:
    answers: dict[str, Callable[[Drawn], str]] = {
        "eighth": lambda _: AWAY,
        "eighth-continued": lambda row: ABSENT if row.mask is None else row.moved(0) if row.number % 2 else AWAY,
        "eighth-grpo": lambda row: ABSENT if row.mask is None else row.moved(0),
    }
    for name, answer in answers.items():
        arm(tmp_path / name, answer)
        training(tmp_path / name, [{"step": 1, "seconds": 1.0}], data={"weights": {"other": 0, "drawn": 2}})
    told = runs.gathered([tmp_path])
    unseen = told["unseen"]
    assert (unseen["sources"], unseen["rows"], unseen["patients"]) == (["other"], 6, 6)
    page = text.page(told, [])
    line = cells(page, "Left out whole, asked with reasoning", "eighth-continued")
    assert line["Box IoU left out"].startswith("0.000")
    assert line["Box IoU others"].startswith("1.000")
    heading = "Paired differences on what was left out, asked with reasoning"
    assert cells(page, heading, "eighth-grpo − eighth-continued")["Box IoU"].startswith("+1.000")
    training(tmp_path / "eighth", [{"step": 1, "seconds": 1.0}], data={"weights": {"drawn": 2}})
    assert runs.gathered([tmp_path])["unseen"] is None, "one of the arms was shown it"
    assert "left out whole" not in text.page(runs.gathered([tmp_path]), [])


def test_time_counts_on_through_resumed_runs(tmp_path: Path, runs: ModuleType) -> None:
    lines = [
        {"step": 0, "checkup": {"rows": 9, "box_iou": 0.25}},
        {"step": 10, "seconds": 30.0, "loss": 1.0, "medground/box": 0.5},
        {"step": 20, "seconds": 50.0, "loss": 1.0, "medground/box": 0.7},
        # Killed after step 20, gone on with from there by another process.
        {"step": 30, "seconds": 15.0, "loss": 1.0, "medground/box": 0.6},
        {"step": 30, "checkup": {"rows": 9, "box_iou": 0.5, "box_iou_categories": None}},
        {"step": 30, "notice": "something"},
    ]
    training(tmp_path / "grpo-medground", lines, kind="grpo", grpo={"recipe": "medground"}, batch=64)
    training(tmp_path / "sft-continued", lines[:3], finished=False)
    told = runs.gathered([tmp_path])
    [made] = told["arms"]["grpo-medground"]["training"]
    wanted = {"kind": "grpo", "recipe": "medground", "steps": 30, "sequences": 64, "seconds": 65.0, "finished": True}
    assert made == wanted
    assert told["curves"]["grpo-medground"] == {
        "rows": 9,
        "steps": [0, 30],
        "seconds": [0.0, 65.0],
        "box_iou": [0.25, 0.5],
    }
    assert told["terms"] == {
        "grpo-medground": {"medground/box": [[10, 0.5], [20, 0.7], [30, 0.6]]},
        "sft-continued": {"medground/box": [[10, 0.5], [20, 0.7]]},
    }
    assert told["left_out"] == ["the end of the training of sft-continued: it isn't finished"]


def test_long_curves_are_thinned_to_means() -> None:
    folders = script("result_folders")
    curve = folders.thinned([(step, step % 2) for step in range(1, 121)])
    assert len(curve) == folders.POINTS
    assert curve[0] == [2, 0.5]
    assert curve[-1] == [120, 0.5]


def test_unfinished_answers_are_left_out_and_named(tmp_path: Path, runs: ModuleType, text: ModuleType) -> None:
    arm(tmp_path / "sft", moved(0))
    part = arm(tmp_path / "grpo-medground", moved(0))
    lines = (part / "predictions.jsonl").read_text().splitlines(keepends=True)
    (part / "predictions.jsonl").write_text("".join(lines[:7]))
    told = runs.gathered([tmp_path])
    assert "the answers of grpo-medground, reason: 7 of 12 are there" in told["left_out"]
    assert told["arms"].get("grpo-medground", {"modes": {}})["modes"] == {}
    assert "7 of 12 are there" in text.page(told, [])


@pytest.mark.parametrize(
    ("info", "said"),
    [
        ({"data": {"rows": 12, "digest": "another"}}, "data.digest is 'another'"),
        ({"segmenter": {"name": "sam"}}, "segmenter is 'sam'"),
        ({"split": "val"}, "split is 'val'"),
    ],
)
def test_runs_that_do_not_compare_are_refused(
    tmp_path: Path, runs: ModuleType, info: dict[str, Any], said: str
) -> None:
    arm(tmp_path / "sft", moved(0))
    arm(tmp_path / "sft-continued", moved(0), info=info)
    with pytest.raises(ConfigError, match=re.escape(said)):
        runs.gathered([tmp_path])


def test_bad_folders_are_told_in_a_sentence(tmp_path: Path, runs: ModuleType) -> None:
    with pytest.raises(ConfigError, match="holds no run"):
        runs.gathered([tmp_path])
    with pytest.raises(ConfigError, match="is no folder"):
        runs.gathered([tmp_path / "nowhere"])
    arm(tmp_path / "sft", moved(0), mode="direct").rename(tmp_path / "sft" / "test-reason")
    with pytest.raises(ConfigError, match="is a run of mode 'direct'; evaluate with --mode reason"):
        runs.gathered([tmp_path])
    (tmp_path / "sft" / "run.json").write_text("{}")
    with pytest.raises(ConfigError, match="isn't one of medground train"):
        runs.gathered([tmp_path])


def test_the_document_is_written_whole_and_made_again_from_its_figures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    results = script("results")
    folder, out = tmp_path / "runs", tmp_path / "docs"
    lines: list[dict[str, Any]] = [
        {"step": step, "checkup": {"rows": 2, "box_iou": step / 40}} for step in (0, 10, 20)
    ] + [{"step": 20, "seconds": 7200.0, "medground/box": 0.5, "medground/length": 1.0}]
    rows = folder / "val.parquet"
    folder.mkdir()
    Image.fromarray(np.tile(np.arange(80, dtype=np.uint8), (60, 1))).save(folder / "a.png")
    given: dict[str, Any] = {"question": "Where?", "image": Picture(path="a.png"), "image_size": (80, 60)}
    given |= {"box": (10, 10, 40, 30), "points": ((15, 20), (30, 20)), "split": "val"}
    free = Row(id="1", source="free", licence="CC0 (public domain)", **given)
    write_rows([free, Row(id="2", source="not", licence="CC BY-NC", **given)], rows)
    place = training(folder / "grpo-medground", lines, kind="grpo", data={"val": str(rows), "root": None})
    (place / "eval").mkdir()
    for step in (0, 20):
        said = [{"id": name, "bbox": [10, 10, 40, 50], "figures": {"box_iou": 0.5}} for name in ("1", "2")]
        (place / "eval" / f"step-{step:06}.json").write_text(json.dumps({"step": step, "each": said}))
    arm(folder / "grpo-medground", moved(0))
    arm(folder / "sft-continued", moved(1 / 3))
    results.write(out, [folder], machine="a test")
    names = sorted(path.stem for path in (out / "images" / "results").iterdir())
    assert names == ["differences", "over-time", "terms", "validation"]
    page = (out / "results.md").read_text()
    assert sorted(re.findall(r"\]\(images/results/(.+)\.png\)", page)) == names
    assert "Pictures (CC0) of free." in page.replace("\n", " ")
    for name in names:
        with Image.open(out / "images" / "results" / f"{name}.png") as picture:
            assert min(picture.size) > 60
    with Image.open(out / "images" / "results" / "over-time.png") as picture:
        assert picture.width < 3 * script("result_plots").TILE  # two checks of the one picture that may be shown
        assert {(255, 255, 255), (230, 159, 0)} <= {colour for _, colour in picture.getcolors(1 << 20)}
    figures = (out / "results.json").read_bytes()
    results.write(out)
    assert (out / "results.md").read_text() == page
    assert (out / "results.json").read_bytes() == figures


def test_figures_of_another_form_are_told_in_a_sentence(tmp_path: Path) -> None:
    for content, said in ((b"{", "can't be read"), (b"{}", "isn't of this script"), (b"[]", "isn't of this script")):
        (tmp_path / "results.json").write_bytes(content)
        with pytest.raises(ConfigError, match=said):
            script("results").write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


@pytest.mark.parametrize("name", ["page", "both", "tables", "vqa_page"])
def test_examples_run(name: str) -> None:
    found = doctest.testmod(script(f"result_{name}"))
    assert found.attempted
    assert not found.failed


def test_the_committed_page_is_that_of_its_figures(text: ModuleType) -> None:
    if not (DOCS / "results.json").is_file():
        pytest.skip("there are no results yet; python docs/results.py RUNS makes them")
    told = json.loads((DOCS / "results.json").read_bytes())
    pictures = sorted(path.stem for path in (DOCS / "images" / "results").glob("*.png"))
    page = (DOCS / "results.md").read_text(encoding="utf-8")
    made = text.page(told, pictures)
    for written, now in zip(page.splitlines(), made.splitlines(), strict=False):
        assert written == now, "run python docs/results.py"
    assert made == page, "run python docs/results.py"
    assert sorted(re.findall(r"\]\(images/results/(.+)\.png\)", page)) == pictures
