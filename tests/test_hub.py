"""Cards for the hub, read back as the hub reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import FillingSegmenter, ScriptedReasoner
from made_rows import made_rows, save_rows
from typer.testing import CliRunner

pytest.importorskip("huggingface_hub")
pytest.importorskip("pyarrow")

from huggingface_hub import DatasetCard, ModelCard

from medground import RESEARCH_USE, hub_cli
from medground.errors import ConfigError
from medground.evaluate.hub import dataset_card, hub_card, model_card
from medground.evaluate.predictions import read_run
from medground.evaluate.run import evaluate
from medground.evaluate.score import score_run
from medground.metrics import nanmean


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    return save_rows(made_rows(folder), folder)


@pytest.fixture(scope="module")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A reasoner's runs with reasoning, without it, and on darker pictures."""
    folder = tmp_path_factory.mktemp("runs")
    asked = {"split": "train", "segmenter": FillingSegmenter()}
    evaluate(data, folder / "reason", reasoner=ScriptedReasoner(), **asked)
    evaluate(data, folder / "direct", reasoner=ScriptedReasoner(), mode="direct", **asked)
    evaluate(data, folder / "darker", reasoner=ScriptedReasoner(), variant="darker", **asked)
    return {name: folder / name for name in ("reason", "direct", "darker")}


def test_figures_are_in_the_model_index(runs):
    card = ModelCard(model_card(list(runs.values()), dataset="antillia/Open U-MRG", licence="apache-2.0"))
    head = card.data.to_dict()
    assert (head["license"], head["library_name"], head["pipeline_tag"]) == (
        *("apache-2.0", "transformers", "image-text-to-text"),
    )
    [model] = head["model-index"]
    assert model["name"] == "scripted"
    [result] = model["results"]  # one task on one data set
    assert result["task"] == {"type": "image-text-to-text", "name": "Medical reasoning grounding"}
    assert (result["dataset"]["type"], result["dataset"]["name"]) == ("antillia/open-u-mrg", "antillia/Open U-MRG")
    assert result["dataset"]["split"] == "train"
    scored = score_run(read_run(runs["reason"]))
    metrics = {(each["type"], each["args"]["mode"], each["args"].get("variant")): each for each in result["metrics"]}
    assert len(metrics) == len(result["metrics"])
    for name in ("box_iou", "dice", "readable", "pdice"):
        mean = nanmean(scored.column(name))
        told = metrics[name, "reason", None]
        assert told["value"] == pytest.approx(mean.mean, abs=1e-4)
        assert told["args"]["rows"] == mean.n
        assert told["args"]["segmenter"] == "filling"
    assert {("box_iou", "direct", None), ("box_iou", "reason", "darker")} <= metrics.keys()
    low, high = metrics["box_iou", "reason", None]["args"]["interval_95"]
    assert low < metrics["box_iou", "reason", None]["value"] < high


def test_the_text_has_tables_and_the_notice(runs):
    text = model_card([runs["reason"]], name="My model")
    body = ModelCard(text).text
    assert "# My model" in body
    assert RESEARCH_USE in body
    for words in ("| scripted |", "centre", "By modality", "By category", "digest", "split train", "filling's"):
        assert words in body
    assert str(runs["reason"].parent) not in text


def test_a_card_that_is_there_keeps_its_words(runs, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("---\nlicense: mit\ntags: [dermatology]\nwidget: none\n---\n\n# Mole finder\n\nFinds moles.\n")
    first = model_card([runs["reason"]], readme=readme)
    head, body = ModelCard(first).data.to_dict(), ModelCard(first).text
    assert (head["license"], head["tags"], head["widget"]) == ("mit", ["dermatology"], "none")
    assert body.startswith("\n# Mole finder\n\nFinds moles.\n")
    readme.write_text(first + "\n## Thanks\n\nTo everyone.\n")
    second = model_card([runs["direct"]], readme=readme)
    body = ModelCard(second).text
    assert body.count("## Figures") == 1
    assert body.endswith("## Thanks\n\nTo everyone.\n")
    modes = {
        each["args"]["mode"] for each in ModelCard(second).data.to_dict()["model-index"][0]["results"][0]["metrics"]
    }
    assert modes == {"direct"}
    readme.write_text(second)
    assert model_card([runs["direct"]], readme=readme) == second


def test_a_data_sets_card(data):
    text = dataset_card(data, name="Drawn bowels", licence="cc0-1.0")
    card = DatasetCard(text)
    head = card.data.to_dict()
    assert (head["pretty_name"], head["license"], head["size_categories"]) == ("Drawn bowels", "cc0-1.0", ["n<1K"])
    assert head["task_categories"] == ["image-text-to-text", "image-segmentation"]
    [config] = head["configs"]
    parts = {each["split"]: each["path"] for each in config["data_files"]}
    assert parts == {"train": "train.parquet", "validation": "val.parquet", "test": "test.parquet"}
    assert RESEARCH_USE in card.text
    assert "## Size of targets" in card.text
    assert hub_card([data / "test.parquet"]).count("test.parquet") == 1


def test_a_builds_card_gets_what_the_hub_asks_for_and_nothing_else(data, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("---\ntask_categories: [image-segmentation]\n---\n\n# Open set\n\n## What it holds\n\nMuch.\n")
    card = DatasetCard(dataset_card(data, readme=readme))
    assert card.text == "\n# Open set\n\n## What it holds\n\nMuch.\n"
    head = card.data.to_dict()
    assert head["task_categories"] == ["image-segmentation"]
    assert (head["license"], head["size_categories"]) == ("other", ["n<1K"])


def test_the_command_writes_and_prints(runs, data, tmp_path):
    out = tmp_path / "README.md"
    said = CliRunner().invoke(hub_cli.app, ["card", str(runs["reason"]), "--out", str(out), "--name", "Mine"])
    assert said.exit_code == 0, said.exception
    assert said.stdout.strip() == str(out)
    assert ModelCard(out.read_text()).data.model_name == "Mine"
    said = CliRunner().invoke(hub_cli.app, ["card", str(data)])
    assert DatasetCard(said.stdout).data.license == "other"


def test_mistakes_are_told(runs, data, tmp_path):
    with pytest.raises(ConfigError, match="give folders of one kind"):
        hub_card([runs["reason"], data])
    with pytest.raises(ConfigError, match="no evaluated data set and no base model"):
        hub_card([data], dataset="x")
    other = ScriptedReasoner()
    other.name = "another"
    evaluate(data, tmp_path / "another", reasoner=other, split="train")
    with pytest.raises(ConfigError, match="these runs are of another and scripted"):
        model_card([runs["reason"], tmp_path / "another"])
    broken = tmp_path / "README.md"
    broken.write_text("---\n[1, 2\n---\n")
    with pytest.raises(ConfigError, match=r"README\.md: its head isn't a card's"):
        model_card([runs["reason"]], readme=broken)
    with pytest.raises(ConfigError, match=r"can't read .*none\.md"):
        model_card([runs["reason"]], readme=tmp_path / "none.md")
