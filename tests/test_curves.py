"""A run's log and its page: nothing twice, nothing lost, nothing asked of a network."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from medground.errors import ConfigError
from medground.train.curves import MOST_GRIDS, RunLog, series, write_page

LINES = [
    {"step": 0, "checkup": {"box_iou": 0.1, "terms": {"box": 0.2}, "rows": 3}},
    *(
        {
            "step": step,
            "loss": 1 / step,
            "reward": 0.1 * step,
            "kl": 0.01,
            "medground/box": 0.3,
            "completions/mean_length": 60.0,
            "completions/clipped_ratio": 0.0,
            "clip_ratio/region_mean": 0.0,
            "odd figure": 3,
        }
        for step in (1, 2, 3)
    ),
    {"step": 3, "notice": "all <completions> earn the same"},
]


def write(folder: Path, lines: list[dict[str, object]]) -> RunLog:
    log = RunLog(folder)
    for line in lines:
        log.add(**line)
    return log


class Page(HTMLParser):
    """What a page holds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_a_resumed_log_has_no_step_twice_and_none_is_lost(tmp_path: Path) -> None:
    log = write(tmp_path, [{"step": step, "loss": float(step)} for step in range(1, 8)])
    log.add(5, checkup={"box_iou": 0.5})
    with log.file.open("a") as stream:
        stream.write('{"step": 8, "lo')  # killed while it wrote
    assert [line["step"] for line in log.read()] == [1, 2, 3, 4, 5, 6, 7, 5]
    log.cut(5)
    assert [line["step"] for line in log.read()] == [1, 2, 3, 4, 5, 5]
    for step in (6, 7):
        log.add(step, loss=float(step))
    assert [line["step"] for line in log.read() if "loss" in line] == list(range(1, 8))
    assert log.file.read_text().endswith("\n")


def test_a_run_that_begins_anew_cuts_everything(tmp_path: Path) -> None:
    log = write(tmp_path, [{"step": step, "loss": 1.0} for step in (1, 2)])
    log.cut(0)
    assert log.read() == []
    RunLog(tmp_path / "not yet there").cut(3)
    assert not (tmp_path / "not yet there").exists()


def test_what_isnt_finite_is_named(tmp_path: Path) -> None:
    log = write(tmp_path, [{"step": 1, "loss": float("nan"), "checkup": {"dice": float("inf"), "box_iou": 0.5}}])
    line = json.loads(log.file.read_text(), parse_constant=pytest.fail)
    assert line["loss"] is None
    assert line["not_finite"] == ["checkup.dice", "loss"]
    assert series([line]) == {"Validation": {"box_iou": [(1, 0.5)]}}


@pytest.mark.parametrize("bad", ["half a line", "[1, 2]", '{"loss": 1}', '{"step": "3"}'])
def test_a_damaged_line_is_named(tmp_path: Path, bad: str) -> None:
    log = write(tmp_path, LINES)
    log.file.write_text(bad + "\n" + log.file.read_text())
    with pytest.raises(ConfigError, match=r"log\.jsonl: line 1 isn't one of a run's log"):
        log.read()


def test_each_figure_has_its_section() -> None:
    found = series(LINES)
    assert {title: list(curves) for title, curves in found.items()} == {
        "Validation": ["box_iou", "terms/box"],
        "Loss": ["loss"],
        "Reward": ["reward"],
        "Distance from the start": ["kl", "clip_ratio/region_mean"],
        "Length": ["completions/mean_length", "completions/clipped_ratio"],
        "Reward by term": ["medground/box"],
        "Other figures": ["odd figure"],
    }
    assert found["Loss"]["loss"] == [(1, 1.0), (2, 0.5), (3, 1 / 3)]


def test_the_page_asks_nothing_of_a_network_and_runs_nothing(tmp_path: Path) -> None:
    write(tmp_path, LINES)
    (tmp_path / "eval").mkdir()
    for step in (0, 3):
        Image.new("RGB", (2000, 400), (step, 90, 9)).save(tmp_path / "eval" / f"step-{step:06d}.png")
    text = write_page(tmp_path, title="<nano> & {body}").read_text()
    page = Page(text)
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object", "embed", "form", "a", "nano"}
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        assert (attributes.get("src") or "data:").startswith("data:image/jpeg;base64,") or "src" not in attributes
        assert "href" not in attributes
    assert not re.search(r"url\(|@import|https?:", text)
    assert "default-src 'none'" in text
    assert "width=device-width" in text
    assert "prefers-color-scheme: dark" in text
    words = "".join(page.text)
    assert "<nano> & {body}" in words
    assert "step 3: all <completions> earn the same" in words
    charts = [attributes["aria-label"] for tag, attributes in page.tags if tag == "svg"]
    assert len(charts) == 10
    assert "loss: 1 at step 1, 0.333 at step 3; 0.333 to 1" in charts
    assert sum(tag == "img" for tag, _ in page.tags) == 2


def test_a_curve_is_drawn_from_left_to_right_and_up(tmp_path: Path) -> None:
    write(tmp_path, [{"step": step, "loss": value} for step, value in ((10, 5.0), (20, 1.0), (40, 3.0))])
    (points,) = [
        dict(found)["points"] for tag, found in Page(write_page(tmp_path).read_text()).tags if tag == "polyline"
    ]
    (x1, y1), (x2, y2), (x3, y3) = [tuple(map(float, point.split(","))) for point in points.split()]
    assert x1 < x2 < x3
    assert x2 - x1 == pytest.approx((x3 - x1) / 3, abs=0.11)
    assert y1 < y3 < y2  # an SVG's y grows downwards
    assert y3 == pytest.approx((y1 + y2) / 2, abs=0.11)


def test_a_curve_that_stays_level_lies_in_the_middle(tmp_path: Path) -> None:
    write(tmp_path, [{"step": step, "loss": 0.25} for step in (1, 2)])
    page = Page(write_page(tmp_path).read_text())
    (points,) = [dict(found)["points"] for tag, found in page.tags if tag == "polyline"]
    assert len({float(point.split(",")[1]) for point in points.split()} - {52.0}) == 0
    assert page.text.count("0.25") == 2  # the last value and the one mark
    write(tmp_path / "one", [{"step": 7, "loss": 0.5}])
    assert "loss: 0.5 at step 7" in write_page(tmp_path / "one").read_text()


def test_a_long_run_stays_a_small_page(tmp_path: Path) -> None:
    RunLog(tmp_path).add(1, loss=1.0)
    with (tmp_path / "log.jsonl").open("a") as stream:
        stream.writelines(f'{{"step": {step}, "loss": {1 / step}, "reward": 0.5}}\n' for step in range(2, 20001))
    page = write_page(tmp_path)
    assert page.stat().st_size < 100_000
    assert "5e-05 at step 20000" in page.read_text()


def test_of_many_grids_some_are_shown_with_the_first_and_the_last(tmp_path: Path) -> None:
    write(tmp_path, LINES)
    (tmp_path / "eval").mkdir()
    for step in range(0, 3000, 100):
        Image.new("RGB", (8, 8)).save(tmp_path / "eval" / f"step-{step:06d}.png")
    (tmp_path / "eval" / "step-002900.png").write_bytes(b"\x89PNG damaged")
    text = write_page(tmp_path).read_text()
    shown = [int(step) for step in re.findall(r"<summary>step (\d+)</summary>", text)]
    assert len(shown) == MOST_GRIDS
    assert (shown[0], shown[-1]) == (0, 2900)
    assert shown == sorted(shown)
    assert text.count("this picture can't be read") == 1


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no log\.jsonl"):
        write_page(tmp_path)
