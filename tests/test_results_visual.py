"""docs/results.md on visual questions and on a model for both tasks: figures, differences and verdicts by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from made_results import cells, script, training
from made_runs import Drawn, drawn, save_run
from made_vqa import draw_questions

from medground.data.vqa_rows import VqaRow
from medground.errors import ConfigError
from medground.evaluate.vqa.predictions import VisualPrediction

Answer = Callable[[VqaRow], str]

FAR = "<location><ref>corner</ref><box>[0, 0, 3, 3]</box></location>"
HOUR = [{"step": 10, "seconds": 3600.0}]


@pytest.fixture(scope="module")
def runs() -> ModuleType:
    return script("result_runs")


@pytest.fixture(scope="module")
def text() -> ModuleType:
    return script("result_page")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[VqaRow]:
    """40 questions about 20 patients, two about each: 8 open, 16 closed, 8 single choice, 8 multi choice."""
    return draw_questions(tmp_path_factory.mktemp("drawn"), 40, split="test")


def right(row: VqaRow) -> str:
    return row.completion()


def wrong(row: VqaRow) -> str:
    """The right regions and another answer."""
    return row.completion().replace(f"<answer>{row.answer}</answer>", "<answer>D</answer>")


def elsewhere(row: VqaRow) -> str:
    """The right answer, and a region in a corner."""
    return f"<response><answer>{row.answer}</answer>{FAR}</response>"


def by_patient(share: float, other: Answer = wrong) -> Answer:
    """Answer rightly to a share of the patients, else otherwise."""
    return lambda row: right(row) if int(row.group.split()[1]) < 20 * share else other(row)


def save(folder: Path, rows: Sequence[VqaRow], answer: Answer, **info: Any) -> Path:
    """Write what medground eval leaves of visual questions."""
    folder.mkdir(parents=True)
    lines = []
    for row in rows:
        width, height = row.image_size
        about = {name: getattr(row, name) for name in ("source", "modality", "group", "split", "question_type")}
        lines.append(
            VisualPrediction(
                id=row.id,
                question=row.question,
                image=row.image.path,
                image_size=row.image_size,
                about=about,
                completion=answer(row),
                space={"coordinates": "pixels", "width": width, "height": height},
                question_type=row.question_type,
                choices=row.choices,
                truth=json.loads(row.ground_truth()),
            ).model_dump_json()
        )
    settings = {"reasoner": {"name": folder.parent.name}, "segmenter": None, "mode": "reason", "split": "test"}
    settings |= {"variant": "", "limit": None, "samples": 0, "task": "visual"}
    settings |= {"data": {"rows": len(rows), "digest": "0123456789abcdef"}}
    (folder / "run.json").write_text(json.dumps(settings | info))
    (folder / "predictions.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return folder


def flat(page: str) -> str:
    return " ".join(page.split())


def test_figures_and_differences_are_those_by_hand(
    tmp_path: Path, rows: list[VqaRow], runs: ModuleType, text: ModuleType
) -> None:
    save(tmp_path / "sft-all" / "test", rows, right)
    save(tmp_path / "sft-eighth" / "test", rows, lambda row: "" if row.question_type == "closed" else right(row))
    save(tmp_path / "grpo-eighth" / "test", rows, elsewhere)
    save(tmp_path / "sft-eighth-continued" / "test", rows, wrong)
    save(tmp_path / "text-only" / "test", rows, lambda row: "<response><answer>Yes</answer></response>")
    page = text.page(runs.gathered([tmp_path]), [])
    titles = ("Closed", "Single", "Multi", "Open", "All types")
    answers = {
        name: cells(page, "Answers to visual questions", name) for name in ("sft-all", "sft-eighth", "text-only")
    }
    assert [answers["sft-all"][each] for each in titles] == ["1.000"] * 5
    assert [answers["sft-eighth"][each] for each in titles] == ["0.000", "1.000", "1.000", "1.000", "0.750"]
    # Of the closed questions every second one is rightly answered by yes, two or none about a patient.
    assert answers["text-only"]["Closed"].startswith("0.500 (")
    regions = {name: cells(page, "Their regions", name) for name in ("sft-all", "sft-eighth-continued", "grpo-eighth")}
    parting = ("Right answer, wrong regions", "Wrong answer, right regions")
    assert [regions["sft-all"][each] for each in parting] == ["0.000", "0.000"]
    assert [regions["grpo-eighth"][each] for each in parting] == ["1.000", "0.000"]
    assert [regions["sft-eighth-continued"][each] for each in parting] == ["0.000", "1.000"]
    assert (regions["sft-all"]["V-score"], regions["sft-all"]["Agreement"]) == ("1.000", "1.000")
    assert regions["grpo-eighth"]["V-score"] == "0.000"
    assert cells(page, "Their regions", "sft-eighth")["Readable"].startswith("0.600 (")
    less = cells(page, "Differences on visual questions", "grpo-eighth − sft-eighth")
    assert (less["Closed"], less["Single"], less["All types"]) == ("+1.000", "0.000", "+0.250")
    assert cells(page, "Differences on visual questions", "grpo-eighth − sft-all")["V-score"] == "−1.000"
    assert "40 visual questions of split test" in flat(page)
    assert "8 open, 16 closed, 8 single choice, 8 multi choice; about 40 pictures of 20 patients" in flat(page)
    assert "No training on visual questions was given." in page
    assert "`frequent-answer`" in page.split("## What is missing")[1]
    assert "`sft-all`" not in page.split("## What is missing")[1]


@pytest.mark.parametrize(
    ("whole", "eighth", "said"),
    [
        (1.0, 1.0, "it holds: `grpo-eighth` less `sft-all` is 0.000."),
        (0.5, 0.9, "it holds, the eighth being ahead: `grpo-eighth` less `sft-all` is +0."),
        (1.0, 0.5, "it doesn't hold: `grpo-eighth` less `sft-all` is −0."),
    ],
)
def test_the_headline_is_told_as_it_came_out(
    tmp_path: Path, rows: list[VqaRow], runs: ModuleType, text: ModuleType, whole: float, eighth: float, said: str
) -> None:
    save(tmp_path / "sft-all" / "test", rows, by_patient(whole))
    save(tmp_path / "grpo-eighth" / "test", rows, by_patient(eighth))
    page = flat(text.page(runs.gathered([tmp_path]), []))
    assert f"Here, in accuracy (mean of the types of question), {said}" in page
    assert "Here, in V-score, it holds: `grpo-eighth` less `sft-all` is 0.000." in page
    assert "what further trainings would change isn't in the intervals" in page


def test_a_headline_that_these_questions_do_not_decide_is_left_open(
    tmp_path: Path, rows: list[VqaRow], runs: ModuleType, text: ModuleType
) -> None:
    save(tmp_path / "sft-all" / "test", rows, by_patient(0.5))
    save(tmp_path / "grpo-eighth" / "test", rows, lambda row: right(row) if row.group[-1] in "02468" else wrong(row))
    save(tmp_path / "sft-eighth" / "test", rows, by_patient(0.75))
    page = flat(text.page(runs.gathered([tmp_path]), []))
    assert "in accuracy (mean of the types of question), it can't be told from these questions" in page
    assert "Reinforcement itself" not in page
    assert re.search(r"Without reinforcement the eighth is from `sft-all`, in accuracy: `sft-eighth` \+0\.\d+ \(", page)


def test_what_would_make_the_headline_hollow_is_said(
    tmp_path: Path, rows: list[VqaRow], runs: ModuleType, text: ModuleType
) -> None:
    for name in ("sft-all", "grpo-eighth", "sft-eighth", "sft-eighth-continued"):
        save(tmp_path / name / "test", rows, by_patient(0.5))
    page = flat(text.page(runs.gathered([tmp_path]), []))
    assert "So an eighth is enough without reinforcement too" in page
    assert "Reinforcement itself, against supervision for as long on the same eighth: 0.000" in page


def test_nothing_comes_to_what_has_not_learned_to_look(
    tmp_path: Path, rows: list[VqaRow], runs: ModuleType, text: ModuleType
) -> None:
    save(tmp_path / "sft-all" / "test", rows, by_patient(0.5))
    save(tmp_path / "grpo-eighth" / "test", rows, by_patient(0.5))
    save(tmp_path / "text-only" / "test", rows, by_patient(0.5, other=elsewhere))
    page = flat(text.page(runs.gathered([tmp_path]), []))
    assert "question), it isn't put to the test, since `sft-all` itself isn't certainly above" in page
    assert "Here, in V-score, it holds: `grpo-eighth` less `sft-all` is 0.000." in page


def test_a_headline_without_its_arms_is_not_told(
    tmp_path: Path, rows: list[VqaRow], runs: ModuleType, text: ModuleType
) -> None:
    save(tmp_path / "sft-eighth" / "test", rows, right)
    part = save(tmp_path / "grpo-eighth" / "test", rows, right) / "predictions.jsonl"
    part.write_text("".join(part.read_text().splitlines(keepends=True)[:7]))
    page = text.page(runs.gathered([tmp_path]), [])
    assert "`grpo-eighth` and `sft-all` have not both been evaluated" in flat(page)
    assert "the answers of grpo-eighth to visual questions: 7 of 40 are there" in page
    assert "Here, in" not in page


def test_seeds_are_told_by_their_means(tmp_path: Path, rows: list[VqaRow], runs: ModuleType) -> None:
    save(tmp_path / "sft-all" / "test", rows, right)
    save(tmp_path / "sft-all@1" / "test", rows, wrong)
    told = runs.gathered([tmp_path])["visual"]["arms"]["sft-all"]
    assert told["seeds"] == 2
    assert told["figures"]["types"][0] == 0.5
    assert told["figures"]["v_score"][0] == 1


def three_ways(folder: Path, **more: dict[str, Any]) -> Path:
    """Write the trainings of the experiment: an hour for supervision on all, half as long for each step after it."""
    made: dict[str, dict[str, Any]] = {
        "sft-all": {"model": "start", "data": {"vqa_limit": None}},
        "sft-eighth": {"model": "start", "data": {"vqa_limit": 0.125}},
        "grpo-eighth": {
            "kind": "grpo",
            "model": f"{folder}/sft-eighth/model",
            "batch": 64,
            "grpo": {"recipe": "medground", "vqa_recipe": "thinkvg", "generations": 8},
            "data": {"vqa_limit": 0.125},
        },
        "sft-eighth-continued": {"model": f"{folder}/sft-eighth/model", "data": {"vqa_limit": 0.125}},
    }
    for name, settings in made.items():
        lines: list[dict[str, Any]] = [{"step": 0, "checkup": {"visual": {"rows": 5, "worth": 0.0}}}, *HOUR]
        if name == "grpo-eighth":
            lines = [{"step": 10, "seconds": 1800.0, "thinkvg/semantic": 0.25}]
        training(folder / name, lines, **{"questions": "abc", "seed": 0, **settings, **more.get(name, {})})
    return folder


def test_what_each_arm_took_counts_its_start(tmp_path: Path, runs: ModuleType, text: ModuleType) -> None:
    told = runs.gathered([three_ways(tmp_path)])
    page = text.page(told, [])
    grpo = cells(page, "What each arm took", "grpo-eighth")
    assert grpo == {
        "arm": "grpo-eighth",
        "method": "GRPO, thinkvg",
        "goes on from": "sft-eighth",
        "questions": "12.5 %",
        "steps": "10",
        "questions shown": "80",
        "sequences": "640",
        "hours": "0.50",
        "hours with that arm's": "1.50",
        "finished": "yes",
    }
    whole = cells(page, "What each arm took", "sft-all")
    assert (whole["questions"], whole["questions shown"], whole["hours with that arm's"]) == ("all", "160", "1.00")
    assert told["visual"]["terms"] == {"grpo-eighth": {"thinkvg/semantic": [[10, 0.25]]}}
    assert (told["arms"], told["curves"], told["terms"]) == ({}, {}, {}), "grounding is another section"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"sft-eighth": {"model": "another"}}, "was trained with model 'another'"),
        ({"grpo-eighth": {"model": "another"}}, "was trained with model"),
        ({"grpo-eighth": {"data": {"vqa_limit": 0.25}}}, "was trained with data.vqa_limit 0.25"),
        ({"sft-all": {"questions": "other"}}, "was trained with data.vqa"),
    ],
)
def test_trainings_that_are_not_three_ways_from_one_start_are_refused(
    tmp_path: Path, runs: ModuleType, more: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        runs.gathered([three_ways(tmp_path, **more)])


@pytest.mark.parametrize(
    ("info", "said"),
    [
        ({"data": {"rows": 40, "digest": "another"}}, "data.digest is 'another'"),
        ({"mode": "direct"}, "mode is 'direct'"),
        ({"task": ""}, "holds a run on grounding; give one on visual questions"),
    ],
)
def test_answers_that_do_not_compare_are_refused(
    tmp_path: Path, rows: list[VqaRow], runs: ModuleType, info: dict[str, Any], said: str
) -> None:
    save(tmp_path / "sft-all" / "test", rows, right)
    save(tmp_path / "sft-eighth" / "test", rows, right, **info)
    with pytest.raises(ConfigError, match=re.escape(said)):
        runs.gathered([tmp_path])


def moved(share: float) -> Callable[[Drawn], str]:
    return lambda row: row.moved(share)


def both_tasks(folder: Path, rows: list[VqaRow], *, joint: str = "joint", by: float = 0.0, **info: Any) -> Path:
    for name, share in ((joint, by), ("grounding-alone", 0.0)):
        save_run(folder / name / "test-reason", drawn(12), moved(share), fill=False)
    save(folder / joint / "test", rows, right, **info)
    return folder


def test_a_model_for_both_tasks_is_held_against_one_for_grounding(
    tmp_path: Path, rows: list[VqaRow], runs: ModuleType, text: ModuleType
) -> None:
    page = text.page(runs.gathered([both_tasks(tmp_path, rows, by=1 / 3)]), [])
    iou = cells(page, "Both tasks, asked with reasoning", "Box IoU")
    assert (iou["grounding-alone"], iou["joint"][:4]) == ("1.000", "0.50")
    assert float(re.search(r"missed by ([\d.]+)$", iou["aimed at"]).group(1)) == pytest.approx(0.49, abs=0.03)  # type: ignore[union-attr]
    assert cells(page, "Both tasks, asked with reasoning", "Claims true")["aimed at"] == "reached"
    assert "1.000 right, mean of the types; V-score 1.000." in flat(page)
    assert "No arm of recipes/nano_ablation.sh has been evaluated." in page


def test_the_arm_that_is_handed_out_is_the_model_for_both_tasks(
    tmp_path: Path, rows: list[VqaRow], runs: ModuleType, text: ModuleType
) -> None:
    both_tasks(tmp_path, rows, joint="grpo-medground")
    assert runs.gathered([tmp_path])["both"] is None
    page = text.page(runs.gathered([tmp_path], shipped="grpo-medground"), [])
    assert cells(page, "Both tasks, asked with reasoning", "Box IoU")["grpo-medground"] == "1.000"
    assert "- `grpo-medground`: the start, then GRPO" in page
    assert "grounding-alone" not in page.split("## Against")[0]


def test_an_arm_of_two_models_is_refused(tmp_path: Path, rows: list[VqaRow], runs: ModuleType) -> None:
    of = [{"reasoner": {"name": "nano", "weights": weights}} for weights in ("one", "other")]
    save_run(tmp_path / "joint" / "test-reason", drawn(12), moved(0), fill=False, info=of[0])
    save(tmp_path / "joint" / "test", rows, right, **of[1])
    with pytest.raises(ConfigError, match="are of different weights; an arm is one model"):
        runs.gathered([tmp_path])


@pytest.mark.parametrize("kinds", ["visual", "both"])
def test_the_document_is_made_again_from_its_figures(tmp_path: Path, rows: list[VqaRow], kinds: str) -> None:
    pytest.importorskip("matplotlib")
    results, out = script("results"), tmp_path / "docs"
    folders = [three_ways(tmp_path / "ways")]
    for name in ("sft-all", "sft-eighth", "grpo-eighth"):
        save(tmp_path / "ways" / name / "test", rows, by_patient(0.7), limit=40)
    if kinds == "both":
        folders.append(both_tasks(tmp_path / "tasks", rows, limit=40))
    results.write(out, folders, machine="a test")
    page = (out / "results.md").read_text()
    assert [path.stem for path in (out / "images" / "results").iterdir()] == ["visual-terms"]
    assert "](images/results/visual-terms.png)" in page
    assert "40 visual questions, drawn by chance, of split test" in flat(page)
    assert "`grpo-eighth` took 1.50 hours, its supervised start included, `sft-all` 1.00." in flat(page)
    assert ("No arm has been evaluated on grounding." in page) == (kinds == "visual")
    assert str(tmp_path) not in page
    figures = (out / "results.json").read_bytes()
    assert str(tmp_path).encode() not in figures
    results.write(out)
    assert (out / "results.md").read_text() == page
    assert (out / "results.json").read_bytes() == figures
