"""Visual questions measured: what a line holds, what answers are worth, baselines, judges, and the report by type."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import FillingSegmenter, ScriptedReasoner
from made_rows import made_rows
from made_vqa import draw_questions, save_questions

from medground.coords import Space
from medground.data.rows import Picture
from medground.data.vqa_rows import Region, VqaRow
from medground.errors import ConfigError, ReasonerError
from medground.evaluate.predictions import read_run
from medground.evaluate.report import build_report
from medground.evaluate.run import EvalProgress, evaluate
from medground.evaluate.stored import read_stored
from medground.evaluate.vqa import report as vqa_report
from medground.evaluate.vqa import tables
from medground.evaluate.vqa.baselines import VISUAL_BASELINES, load_visual_baseline
from medground.evaluate.vqa.predictions import VisualPrediction, read_visual_run
from medground.evaluate.vqa.score import FIGURES, JUDGED, score_visual_run
from medground.reasoners import Request
from medground.rewards.judges import JudgeItem, OfflineJudge
from medground.vqa_metrics import VQA_FIGURES, read_answer, v_score, vqa_figures

COUNT = 10


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_questions(tmp_path_factory.mktemp("questions"), COUNT)


@pytest.fixture(scope="module")
def rows(data: Path) -> dict[str, VqaRow]:
    return {row.id: row for row in draw_questions(data, COUNT, split="test", seed=2)}


def answering(rows: dict[str, VqaRow], change: Any = lambda row, said: said) -> ScriptedReasoner:
    """Answer each question with its row's own completion, changed."""
    # Questions and their boxes repeat over pictures, so the picture tells which row is meant.
    by_picture = {Path(str(row.image.path)).name: row for row in rows.values()}

    def script(request: Request, space: Space) -> str:
        row = by_picture[request.image.provenance.file_name]
        return str(change(row, row.completion("0-1000")))

    return ScriptedReasoner(script)


def test_a_line_holds_all_that_scores_need(data: Path, rows: dict[str, VqaRow], tmp_path: Path) -> None:
    out = evaluate(data / "vqa-test.parquet", tmp_path, reasoner=answering(rows), segmenter=FillingSegmenter())
    run = read_visual_run(out)
    assert [each.id for each in run.predictions] == sorted(rows)
    for each in run.predictions:
        row = rows[each.id]
        assert (each.question, each.question_type, each.choices) == (row.question, row.question_type, row.choices)
        assert each.truth == json.loads(row.ground_truth())
        assert each.about["group"] == row.group
        assert each.answer is not None
        assert each.answer.answer == row.answer
        assert each.space == {"coordinates": "0-1000", "width": 1000, "height": 1000}
        assert VisualPrediction.model_validate_json(each.model_dump_json()) == each
    assert (run.info["task"], run.info["segmenter"]) == ("visual", None)
    figures = score_visual_run(run).figures
    assert all(set(each) == set(FIGURES) for each in figures)
    assert all(each["worth"] == 1 for each in figures)
    assert [each["v_score"] for each in figures if not math.isnan(each["v_score"])] == pytest.approx([1] * 8, abs=0.05)


def test_a_reasoner_is_asked_the_visual_question(data: Path, rows: dict[str, VqaRow], tmp_path: Path) -> None:
    seen: list[Request] = []

    def script(request: Request, space: Space) -> str:
        seen.append(request)
        return "<response><answer>No</answer></response>"

    evaluate(list(rows.values()), tmp_path, reasoner=ScriptedReasoner(script), root=data, mode="direct")
    single = next(each for each in seen if each.question == "What stands beside the fold?")
    assert single.visual is not None
    assert (single.visual.question_type, single.visual.choices) == ("single_choice", ("a vessel", "a growth", "a scar"))
    assert {each.mode for each in seen} == {"direct"}


def test_it_goes_on_and_other_settings_are_refused(data: Path, rows: dict[str, VqaRow], tmp_path: Path) -> None:
    seen: list[int] = []
    failing = answering(rows, lambda row, said: "ERROR busy" if row.id.endswith("3") else said)
    evaluate(data / "vqa-test.parquet", tmp_path, reasoner=failing, batch=2)
    told: list[EvalProgress] = []
    file = tmp_path / "predictions.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole[:-30])  # killed in the middle of a line
    again = answering(rows, lambda row, said: seen.append(1) or said)
    evaluate(data / "vqa-test.parquet", tmp_path, reasoner=again, batch=2, retry_failed=True, progress=told.append)
    assert len(seen) == 2, "the half line and the failed one"
    assert told[-1].failed == 0
    assert [each.error for each in read_visual_run(tmp_path).predictions] == [None] * COUNT
    with pytest.raises(ConfigError, match="holds a run with mode 'reason', not 'direct'"):
        evaluate(data / "vqa-test.parquet", tmp_path, reasoner=again, mode="direct")


def test_samples_are_scored_beside_the_answer(data: Path, rows: dict[str, VqaRow], tmp_path: Path) -> None:
    turns: dict[str, int] = {}

    def change(row: VqaRow, said: str) -> str:
        turns[row.id] = turns.get(row.id, 0) + 1
        return said if turns[row.id] < 3 else ""

    out = evaluate(data / "vqa-test.parquet", tmp_path, reasoner=answering(rows, change), samples=2, batch=50)
    scored = score_visual_run(read_visual_run(out))
    assert scored.column("worth").mean() == 1
    assert scored.column("sampled_worth").mean() == 0.5
    assert scored.column("sampled_readable").mean() == 0.5


def test_what_cant_be_opened_is_a_failed_row(data: Path, rows: dict[str, VqaRow], tmp_path: Path) -> None:
    given = [
        row.model_copy(update={"image": Picture(path="gone.png")}) if number == 3 else row
        for number, row in enumerate(rows.values())
    ]
    out = evaluate(given, tmp_path, reasoner=answering(rows), root=data)
    scored = score_visual_run(read_visual_run(out))
    failed = [each for each, one in zip(scored.figures, scored.predictions, strict=True) if one.error]
    assert len(failed) == 1
    assert (failed[0]["failed"], failed[0]["readable"], failed[0]["multi"], failed[0]["v_score"]) == (1, 0, 0, 0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"variant": "rotate_5"}, "variant 'rotate_5' is for grounding"),
        ({"oracle": True}, "oracle is for masks"),
        ({"prompts": ("box",)}, "prompts is for masks"),
        ({"split": "train"}, "has no rows of split 'train'"),
    ],
)
def test_settings_that_visual_questions_dont_know(data: Path, tmp_path: Path, options: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        evaluate(data / "vqa-test.parquet", tmp_path / "out", reasoner=ScriptedReasoner(), **options)
    assert not (tmp_path / "out").exists()


def test_tasks_arent_mixed(data: Path, rows: dict[str, VqaRow], tmp_path: Path) -> None:
    from medground.evaluate.baselines import load_baseline

    grounding = [row.model_copy(update={"split": "test"}) for row in made_rows(tmp_path)]
    with pytest.raises(ConfigError, match="holds visual questions beside others"):
        evaluate([*grounding, *rows.values()], tmp_path / "out", reasoner=ScriptedReasoner(), root=data)
    with pytest.raises(ConfigError, match="baseline centre is for another task"):
        evaluate(list(rows.values()), tmp_path / "out", reasoner=load_baseline("centre"), root=data)
    with pytest.raises(ConfigError, match="baseline truth is for another task"):
        evaluate(grounding, tmp_path / "out", reasoner=load_visual_baseline("truth"), root=tmp_path)
    evaluate(grounding, tmp_path / "ground", reasoner=ScriptedReasoner(), root=tmp_path)
    evaluate(list(rows.values()), tmp_path / "ask", reasoner=answering(rows), root=data)
    with pytest.raises(ConfigError, match="holds a run on visual questions"):
        read_run(tmp_path / "ask")
    with pytest.raises(ConfigError, match="holds a run on grounding"):
        read_visual_run(tmp_path / "ground")
    with pytest.raises(ConfigError, match="a judge is for visual questions"):
        build_report([tmp_path / "ground"], tmp_path / "report", judge=Says())


# --- what an answer is worth ------------------------------------------------------------------------------------------

SPACE = Space.norm1000()
TWO = VqaRow(
    id="1",
    question="Which are seen?",
    question_type="multi_choice",
    choices=("a", "b", "c"),
    answer="A, C",
    thinking="See [0, 0, 500, 1000] and [500, 0, 1000, 1000].",
    regions=(Region(ref="a", box=(0, 0, 500, 1000)), Region(ref="c", box=(500, 0, 1000, 1000))),
    image=Picture(path="a.png"),
    image_size=(1000, 1000),
    coordinates="0-1000",
)


def worth(text: str, row: VqaRow = TWO, *, reasoned: bool = True) -> dict[str, float]:
    reading = read_answer(text, SPACE)
    truth = row.truth()
    item = JudgeItem(
        truth.question, truth.question_type, truth.choices, truth.answer, reading.answer if reading else ""
    )
    return vqa_figures(reading, truth, OfflineJudge().judge([item])[0] if reading else 0.0, reasoned=reasoned)


def said(answer: str, *boxes: Sequence[int], think: str = "So.") -> str:
    places = "".join(f"<ref>x</ref><box>{list(box)}</box>" for box in boxes)
    return f"<think>{think}</think><response><answer>{answer}</answer><location>{places}</location></response>"


LEFT, RIGHT, ALL = (0, 0, 500, 1000), (500, 0, 1000, 1000), (0, 0, 1000, 1000)


def test_figures_are_those_by_hand() -> None:
    assert set(worth(TWO.completion())) == set(VQA_FIGURES)
    full = worth(TWO.completion())
    assert (full["multi"], full["worth"], full["v_score"], full["agreement"]) == (1, 1, 1, 1)
    assert math.isnan(full["closed"])
    half = worth(said("C, A", LEFT, ALL, think="[0, 0, 500, 1000]"))
    assert (half["multi"], half["v_score"], half["located"]) == (1, 0.75, 1)
    assert half["agreement"] == 0.5
    swapped = worth(said("A", RIGHT, LEFT))
    assert (swapped["multi"], swapped["v_score"], swapped["wrong_there"], swapped["right_elsewhere"]) == (0, 1, 1, 0)
    missing = worth(said("A, C", LEFT))
    assert (missing["v_score"], missing["located"]) == (0.5, 1)
    none = worth(said("A, C"))
    assert (none["v_score"], none["right_elsewhere"], none["agreement"]) == (0, 1, 0)
    many = worth(said("A, C", LEFT, RIGHT, ALL, LEFT))
    assert many["v_score"] == pytest.approx(2 / 3), "a region too many counts 0, one said twice counts once"
    unread = worth("")
    assert (unread["readable"], unread["multi"], unread["v_score"], unread["agreement"]) == (0, 0, 0, 0)
    assert (unread["right_elsewhere"], unread["wrong_there"]) == (0, 0)
    assert math.isnan(worth(said("A, C", LEFT), reasoned=False)["agreement"])


def test_a_question_without_a_place() -> None:
    row = TWO.model_copy(update={"regions": (), "thinking": ""})
    silent = worth(said("A, C"), row)
    assert silent["multi"] == 1
    assert all(math.isnan(silent[name]) for name in ("v_score", "located", "agreement", "right_elsewhere"))
    assert worth(said("A, C", LEFT), row)["agreement"] == 0, "a region that nobody asked for"


def test_a_v_score_doesnt_depend_on_the_order() -> None:
    truth = TWO.truth()
    assert v_score(read_answer(said("A", LEFT, RIGHT), SPACE), truth) == 1
    assert v_score(read_answer(said("A", RIGHT, LEFT), SPACE), truth) == 1


# --- baselines --------------------------------------------------------------------------------------------------------


def test_baselines_answer_every_question(data: Path, rows: dict[str, VqaRow], tmp_path: Path) -> None:
    training = draw_questions(data, COUNT)
    for name in VISUAL_BASELINES:
        baseline = load_visual_baseline(name, training)
        out = evaluate(list(rows.values()), tmp_path / name, reasoner=baseline, root=data)
        scored = score_visual_run(read_visual_run(out))
        assert scored.column("readable").min() == 1
        if name == "truth":
            assert scored.column("worth").min() == 1
            assert scored.column("agreement")[~_nan(scored.column("agreement"))].min() == 1
        if name == "text-only":  # these five questions have the same answers everywhere
            assert scored.column("worth").mean() == 1
    with pytest.raises(ConfigError, match="baseline 'x' isn't known; choose one of frequent-answer"):
        load_visual_baseline("x")
    with pytest.raises(ConfigError, match="text-only needs training rows"):
        load_visual_baseline("text-only")


def _nan(values: Any) -> Any:
    return values != values


def _closed(number: int, thing: str, answer: str) -> VqaRow:
    return VqaRow(
        id=f"{number}",
        question=f"Is the {thing} seen?",
        question_type="closed",
        answer=answer,
        image=Picture(path="a.png"),
        image_size=(10, 10),
    )


def test_words_alone_find_what_words_give_away_and_no_more() -> None:
    telling = [_closed(n, "heart" if n % 2 else "stent", "Yes" if n % 2 else "No") for n in range(20)]
    silent = [_closed(n, "heart", "Yes" if n % 3 else "No") for n in range(20)]
    image: Any = type("Image", (), {"space": Space.pixels(10, 10)})
    told = load_visual_baseline("text-only", telling)
    assert "Yes" in told.answer(_closed(99, "heart", "No"), image).text
    assert "No" in told.answer(_closed(99, "stent", "No"), image).text
    assert "Yes" in load_visual_baseline("text-only", silent).answer(_closed(99, "heart", "No"), image).text
    chance = load_visual_baseline("random-answer", telling)
    drawn = [chance.answer(_closed(n, "heart", "No"), image).text for n in range(60)]
    assert 10 < sum("Yes" in each for each in drawn) < 50
    assert drawn == [chance.answer(_closed(n, "heart", "No"), image).text for n in range(60)]


def test_stored_answers_are_read_for_visual_questions_too(data: Path, rows: dict[str, VqaRow], tmp_path: Path) -> None:
    file = tmp_path / "answers.json"
    file.write_text(json.dumps([{"id": name, "output": row.completion()} for name, row in rows.items()][:-1]))
    out = evaluate(list(rows.values()), tmp_path / "out", reasoner=read_stored(file), root=data)
    scored = score_visual_run(read_visual_run(out))
    assert scored.column("failed").sum() == 1
    assert scored.column("worth").sum() == COUNT - 1


# --- judges -----------------------------------------------------------------------------------------------------------


class Says:
    """A judge that says no to all, and counts; it fails where it is told to."""

    def __init__(self, verdict: float | None = 0.0) -> None:
        self.verdict, self.items = verdict, 0

    def describe(self) -> dict[str, str | float | None]:
        return {"name": "a strict judge"}

    def judge(self, items: Sequence[JudgeItem]) -> list[float | None]:
        self.items += len(items)
        if self.verdict is None:
            raise ReasonerError("the judge gave no verdict")
        return [self.verdict] * len(items)


def test_a_judge_is_asked_once_and_about_open_questions_alone(
    data: Path, rows: dict[str, VqaRow], tmp_path: Path
) -> None:
    out = evaluate(data / "vqa-test.parquet", tmp_path, reasoner=answering(rows))
    run = read_visual_run(out)
    judge = Says()
    scored = score_visual_run(run, judge)
    assert judge.items == 2
    assert (scored.judge, scored.column("worth").sum()) == ("a strict judge", COUNT - 2)
    assert score_visual_run(run).column("open")[~_nan(score_visual_run(run).column("open"))].min() == 1
    again = Says(None)
    assert score_visual_run(run, again).column("worth").sum() == COUNT - 2
    assert again.items == 0
    assert [set(json.loads(line)) for line in (out / JUDGED).read_text().splitlines()] == [{"key", "id", "verdict"}] * 2
    (out / JUDGED).unlink()
    with pytest.raises(ReasonerError, match="no verdict"):
        score_visual_run(run, again)


# --- the report -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(data: Path, rows: dict[str, VqaRow], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("runs")

    def worse(row: VqaRow, said: str) -> str:
        if row.question_type == "closed":
            return said.replace("Yes", "No")
        return re.sub(r"<location>.*</location>", "", said) if row.question_type == "single_choice" else said

    for name, change in (("good", lambda row, said: said), ("worse", worse)):
        reasoner = answering(rows, change)
        reasoner.name = f"model {name}"
        evaluate(data / "vqa-test.parquet", root / name, reasoner=reasoner)
    for name in ("text-only", "truth"):
        evaluate(list(rows.values()), root / name, reasoner=load_visual_baseline(name, draw_questions(data)), root=data)
    return [root / name for name in ("good", "worse", "text-only", "truth")]


def test_the_tables_say_what_was_answered(runs: list[Path]) -> None:
    entries = vqa_report.entries_of([score_visual_run(read_visual_run(folder)) for folder in runs])
    assert [(each.name, each.kind) for each in entries] == [
        ("model good", "model"),
        ("model worse", "model"),
        ("words alone", "blind"),
        ("the truth itself", "oracle"),
    ]
    table = tables.headline(entries)
    told = {line.name: dict(zip((c.title for c in table.columns), line.cells, strict=True)) for line in table.lines}
    assert told["model good"]["All types"].value == 1
    assert told["model worse"]["Closed"].value == 0.5
    assert told["model worse"]["All types"].value == pytest.approx((0.5 + 1 + 1 + 1) / 4)
    assert told["model worse"]["Closed"].low < 0.5 < told["model worse"]["Closed"].high
    assert "Sampled" not in told["model good"]
    parting = tables.parting(entries[:2]).lines[1].cells
    assert [each.value for each in parting] == [0.25, 0.25]
    of_types = tables.by_type(entries[1])
    assert [(line.name, line.cells[0]) for line in of_types.lines] == [
        ("open", 2),
        ("closed", 4),
        ("single choice", 2),
        ("multi choice", 2),
        ("all", 10),
    ]
    (line,) = tables.differences([(entries[0], entries[1])]).lines
    assert [each.value for each in line.cells[:3]] == [0.5, 0, 0]


def test_a_page_and_the_same_in_markdown(runs: list[Path], tmp_path: Path) -> None:
    made = build_report(runs, tmp_path, title="Two <models>")
    page, text = made.page.read_text(), made.markdown.read_text()
    for part in ("Figures", "By type of question", "Where answer and regions part", "Paired differences", "Runs"):
        assert f">{part}</h2>" in page
    assert "Two &lt;models&gt;" in page
    assert "never a medical device" in page.lower() or "not a medical device" in page.lower()
    assert "http" not in re.sub(r"<svg.*?</svg>", "", page).replace("http-equiv", "")
    assert "| model worse | 0.50" in text
    assert "10 visual questions about 10 pictures of 5 patients" in text
    assert "## By type of question: model good" in text
    assert "| model good − model worse | +0.500" in text


def test_cases_show_pictures_with_both_kinds_of_regions(runs: list[Path], data: Path, tmp_path: Path) -> None:
    page = build_report(runs[1:2], tmp_path / "a", data=data / "vqa-test.parquet").page.read_text()
    assert page.count("<article") == 5, "open, closed with and without a stent, single and multi choice"
    assert page.count("data:image/jpeg") == 5
    assert page.count('class="box truth"') == page.count('class="box answer"') + 1
    assert "right answer, wrong regions" in page
    assert "wrong answer, right regions" in page
    for options in ({"pictures": False}, {"data": data / "vqa-test.parquet", "sources": ["other"]}):
        assert "data:image/jpeg" not in build_report(runs[1:2], tmp_path / "b", **options).page.read_text()


def test_runs_that_dont_belong_together_are_told(runs: list[Path], tmp_path: Path, data: Path) -> None:
    with pytest.raises(ConfigError, match="is given twice"):
        build_report([runs[0], runs[0]], tmp_path)
    with pytest.raises(ConfigError, match="needs a run of a model"):
        build_report([runs[2]], tmp_path)
    others = {row.id: row for row in draw_questions(data, 5, split="val", seed=1)}
    evaluate(data / "vqa-val.parquet", tmp_path / "val", reasoner=answering(others), split="val")
    with pytest.raises(ConfigError, match="is on other rows than"):
        build_report([runs[0], tmp_path / "val"], tmp_path)


def test_from_the_command_line(data: Path, tmp_path: Path) -> None:
    import typer
    from typer.testing import CliRunner

    from medground import eval_cli

    app = typer.Typer()
    app.command("eval")(eval_cli.evaluate)
    app.command("report")(eval_cli.report)
    parts = {name: tmp_path / name for name in ("frequent-answer", "truth")}
    (tmp_path / "data").mkdir()
    for split in ("train", "test"):
        (tmp_path / "data" / f"vqa-{split}.parquet").symlink_to(data / f"vqa-{split}.parquet")
    for name, out in parts.items():
        given = ["--data", str(tmp_path / "data" / "vqa-test.parquet"), "--root", str(data), "--out", str(out)]
        made = CliRunner().invoke(app, ["eval", *given, "--reasoner", f"baseline:{name}"])
        assert made.exit_code == 0, made.output
        assert "v_score" in made.output
        assert "box_iou" not in made.output
    assert "closed 1.0000 (4 rows)" in made.output
