"""Figures of runs with their intervals, and the tables that are made of them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from made_runs import ABSENT, Drawn, drawn, predicted, scored, scored_of

from medground.evaluate.cells import Cell, Column, Line, Measure, Table, as_text, cell, difference, number, size_of
from medground.evaluate.tables import (
    BREAKDOWNS,
    MEASURES,
    Entry,
    breakdown,
    differences,
    headline,
    leaderboard,
    robustness,
)
from medground.metrics import bootstrap_interval, paired_bootstrap


def shifted(row: Drawn) -> str:
    return row.moved(0.1 * (row.number % 5))


def values(table: Table, title: str, group: str = "") -> dict[str, Cell]:
    at = next(at for at, column in enumerate(table.columns) if (column.title, column.group) == (title, group))
    return {line.name: line.cells[at] for line in table.lines}


def test_a_mean_and_its_interval_are_those_of_the_metrics(tmp_path: Path):
    one = scored(tmp_path / "a", drawn(20, absent=[3, 7]), lambda row: ABSENT if row.number == 3 else shifted(row))
    found = cell(one, MEASURES["box_iou"])
    iou = one.column("box_iou")
    assert found.n == 18
    assert found.value == pytest.approx(np.nanmean(iou))
    assert (found.low, found.high) == pytest.approx(bootstrap_interval(iou, one.groups))


def test_a_difference_is_that_of_the_metrics_on_the_rows_that_both_have(tmp_path: Path):
    rows = drawn(20)
    a = scored(tmp_path / "a", rows, shifted)
    b = scored(tmp_path / "b", rows[4:], lambda row: row.moved(0.3 * (row.number % 2)))
    found = difference(a, b, MEASURES["box_iou"])
    wanted = paired_bootstrap(a.column("box_iou")[4:], b.column("box_iou"), a.groups[4:])
    assert found == pytest.approx((wanted.difference, wanted.low, wanted.high, 16))
    assert difference(b, a, MEASURES["box_iou"])[:3] == pytest.approx((-found.value, -found.high, -found.low))
    assert difference(a, scored_of([predicted(Drawn(90), ABSENT)]), MEASURES["box_iou"]).n == 0


def test_a_macro_mean_counts_each_category_the_same():
    # 9 answers about polyps that are right, 1 about a spleen that isn't
    rows = [Drawn(3 * at) for at in range(9)] + [Drawn(2)]
    one = scored_of([predicted(row, row.moved(0 if row.number != 2 else 5)) for row in rows])
    assert cell(one, MEASURES["box_iou"]).value == pytest.approx(0.9)
    found = cell(one, MEASURES["box_iou_categories"])
    assert found.value == pytest.approx(0.5)
    # A resample without the spleen's patient is of polyps alone, one without a polyp of the spleen.
    assert (found.low, found.high) == pytest.approx((0.5, 1.0))


def test_a_ratio_is_of_sums_so_that_many_claims_count_more():
    rows = drawn(2)
    few, many = "It is large.", rows[1].truly
    one = scored_of(
        [predicted(rows[0], rows[0].moved(0, reasoning=few)), predicted(rows[1], rows[1].moved(0, reasoning=many))]
    )
    said, true = one.column("claims"), one.column("claims_true")
    assert said.tolist() == [1, 2]
    assert cell(one, MEASURES["claims"]).value == pytest.approx(true.sum() / 3)


def test_presence_is_balanced_over_present_and_absent_targets():
    rows = drawn(10, absent=[0])
    always = scored_of([predicted(row, row.moved(0)) for row in rows])
    assert always.column("absence").mean() == 0.9
    assert cell(always, MEASURES["absence"]).value == 0.5


def test_what_can_not_be_measured_has_no_figure():
    direct = scored_of([predicted(row, row.moved(0, reasoning=""), fill=False) for row in drawn(4)])
    table = headline([Entry("a", "model", direct)])
    titles = [column.title for column in table.columns]
    assert "Dice" not in titles
    assert "Box IoU" in titles
    assert cell(direct, MEASURES["dice"]).n == 0
    assert math.isnan(cell(direct, MEASURES["claims"]).value)
    nowhere = np.zeros(4, bool)
    assert cell(direct, MEASURES["box_iou"], nowhere).n == 0


def test_one_patient_has_no_interval():
    one = scored_of([predicted(Drawn(0), Drawn(0).moved(0.2))])
    found = cell(one, MEASURES["box_iou"])
    assert found.low == found.value == found.high
    assert "(" not in as_text(found, Column("IoU"))


@pytest.mark.parametrize(
    ("value", "column", "said"),
    [
        (0.666, Column(""), "0.67"),
        (-0.0001, Column("", places=3, signed=True), "0.000"),
        (0.0004, Column("", places=3, signed=True), "0.000"),
        (-0.05, Column("", places=3, signed=True), "−0.050"),
        (0.05, Column("", places=3, signed=True), "+0.050"),
    ],
)
def test_numbers(value: float, column: Column, said: str):
    assert number(value, column) == said


@pytest.mark.parametrize(("share", "size"), [(0.005, "tiny"), (0.02, "small"), (0.1, "medium-sized"), (0.3, "large")])
def test_size_is_by_mask_or_else_by_box(share: float, size: str):
    side = round(math.sqrt(share) * 100)
    truth = {"bbox_2d": [0, 0, side, side], "image_size": [100, 100]}
    row = predicted(Drawn(0), ABSENT, truth=truth, truth_mask=None, image_size=(100, 100), masks={})
    assert size_of(row) == size
    assert size_of(predicted(Drawn(0, absent=True), ABSENT)) == "absent"


def test_the_first_table_has_models_and_baselines_with_their_kinds(tmp_path: Path):
    rows = drawn(9, absent=[4])
    good = Entry("good", "model", scored(tmp_path / "good", rows, lambda row: row.moved(0)))
    bad = Entry("bad", "blind", scored(tmp_path / "bad", rows, lambda row: row.moved(3)))
    table = headline([good, bad])
    assert [(line.name, line.kind) for line in table.lines] == [("good", "model"), ("bad", "blind")]
    found = values(table, "Box IoU")
    assert found["good"].value == pytest.approx(1)
    assert found["bad"].value == 0
    assert found["good"].n == 8
    assert values(table, "Dice")["good"].value > 0.9


def test_breakdowns_split_the_rows_and_leave_absent_targets_out(tmp_path: Path):
    rows = drawn(12, absent=[0])
    entry = Entry(
        "m", "model", scored(tmp_path / "m", rows, lambda row: row.moved(0 if row.category == "spleen" else 3))
    )
    for by in BREAKDOWNS:
        table = breakdown([entry], by)
        assert sum(line.cells[0] for line in table.lines) == 11
        assert {line.name for line in table.lines}.isdisjoint({"absent", "unknown"})
    assert [line.name for line in breakdown([entry], "category").lines] == ["fetal head", "spleen", "colon polyp"]
    found = values(breakdown([entry], "category"), "Box IoU", "m")
    assert {name: round(each.value, 2) for name, each in found.items()} == {
        "spleen": 1.0,
        "fetal head": 0,
        "colon polyp": 0,
    }
    assert [line.name for line in breakdown([entry], "size").lines] == [
        size
        for size in ("tiny", "small", "medium-sized", "large")
        if size in values(breakdown([entry], "size"), "rows")
    ]


def test_the_paper_s_layout_counts_failures_as_zero(tmp_path: Path):
    rows = drawn(12, absent=[1])
    run = scored(tmp_path / "m", rows, lambda row: "no idea" if row.category == "spleen" else row.moved(0))
    table = leaderboard([Entry("m", "model", run)])
    assert [line.name for line in table.lines] == ["abdomen", "neoplasm", "obstetric", "all"]
    assert [column.title for column in table.columns] == ["rows", "IoU", "pDice", "B", "Read"]
    assert values(table, "IoU", "m")["abdomen"].value == 0
    assert values(table, "Read", "m")["abdomen"].value == 0
    assert values(table, "IoU", "m")["all"].value == pytest.approx(7 / 11)
    assert 1.5 < values(table, "pDice", "m")["neoplasm"].value <= 2  # the paper's goes to 2, points are whole pixels
    assert table.lines[-1].cells[0] == 11


def test_differences_and_drops_say_whose_and_which_way(tmp_path: Path):
    rows = drawn(16)
    clean = Entry("m", "model", scored(tmp_path / "m", rows, lambda row: row.moved(0)))
    turned = Entry("m, rotate", "model", scored(tmp_path / "t", rows[:10], lambda row: row.moved(0.5)))
    table = robustness([("rotate", clean, turned)])
    assert table.lines[0].name == "m: rotate"
    drop = values(table, "Box IoU")["m: rotate"]
    assert drop.n == 10
    assert drop.value == pytest.approx(-2 / 3, abs=0.04)  # boxes moved by half share a third; whole pixels
    assert drop.high < 0
    back = differences([(clean, turned)])
    assert values(back, "Box IoU")["m − m, rotate"].value == pytest.approx(-drop.value)
    assert all(column.signed for column in back.columns)


def test_markdown_has_each_cell_and_breaks_no_table():
    columns = (Column("rows"), Column("IoU", group="a|b"), Column("note"))
    lines = (Line("x\ny", (1234, Cell(0.5, 0.4, 0.6, 9), "z|")),)
    text = Table("t", "Title", "kind", columns, lines, note="A note.").to_markdown()
    assert text.splitlines() == [
        "## Title",
        "",
        "| kind | rows | a\\|b: IoU | note |",
        "| :-- | --: | --: | --: |",
        "| x y | 1,234 | 0.50 (0.40 to 0.60) | z\\| |",
        "",
        "A note.",
    ]


def test_many_patients_are_drawn_in_parts(monkeypatch: pytest.MonkeyPatch):
    one = scored_of([predicted(row, shifted(row), fill=False) for row in drawn(30)])
    whole = cell(one, MEASURES["box_iou"])
    monkeypatch.setattr("medground.evaluate.cells._AT_ONCE", 3000)  # 15 patients x 2000 rounds don't fit
    parts = cell(one, MEASURES["box_iou"])
    assert parts.value == whole.value
    assert parts[1:3] == pytest.approx(whole[1:3], abs=0.02)
    assert parts[1:3] != whole[1:3]


def test_an_unknown_figure_is_refused():
    one = scored_of([predicted(Drawn(0), ABSENT)])
    with pytest.raises(KeyError):
        cell(one, Measure("x", "x", "no such figure"))
