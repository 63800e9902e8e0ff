"""A nano with another's weights and words of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("datasets")
pytest.importorskip("timm")

from made_vqa import save_questions  # noqa: E402
from small_training import NANO, write_data  # noqa: E402

from medground.reasoners import load_reasoner  # noqa: E402
from medground.reasoners._load import load_model  # noqa: E402
from medground.train.nano import NUMBERS, SPECIALS, VISUAL_PARTS  # noqa: E402
from medground.train.new_words import texts_of, write_new_words  # noqa: E402
from medground.train.rows import Rows  # noqa: E402


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_questions(write_data(tmp_path_factory.mktemp("data"), 12), 10)


@pytest.fixture(scope="module")
def made(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("words")
    files, vqa = [data / "train.parquet"], [data / "vqa-train.parquet"]
    for name, seed in (("a", 1), ("again", 1), ("b", 2)):
        write_new_words(NANO, folder / name, files, vqa, seed=seed)
    return {name: load_model(folder / name, torch.device("cpu"), "float32", None) for name in ("a", "again", "b")} | {
        "old": load_model(NANO, torch.device("cpu"), "float32", None),
        "folder": folder,
    }


def test_all_but_the_words_is_the_others(made: dict[str, Any]) -> None:
    (new, processor), (old, before) = made["a"], made["old"]
    own, others = new.state_dict(), old.state_dict()
    assert set(own) == set(others)
    assert {name for name in own if not torch.equal(own[name], others[name])} <= {
        "model.language_model.embed_tokens.weight",
        "lm_head.weight",
    }
    vectors, known = new.get_input_embeddings().weight, old.get_input_embeddings().weight
    ids, old_ids = processor.tokenizer.get_vocab(), before.tokenizer.get_vocab()
    for token in (*SPECIALS, *map(str, range(0, NUMBERS, 50)), "<think>", '<answer>{"bbox": ['):
        assert torch.equal(vectors[ids[token]], known[old_ids[token]]), token
    words = [token for token in ids if token in old_ids and token.startswith("Ġ")]
    assert words
    for token in words:
        assert not torch.equal(vectors[ids[token]], known[old_ids[token]]), f"{token} has kept what it meant"
    assert new.lm_head.weight.data_ptr() == vectors.data_ptr()


def test_words_are_drawn_by_the_seed(made: dict[str, Any]) -> None:
    first, again, other = (made[name][0].get_input_embeddings().weight for name in ("a", "again", "b"))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_fixed_parts_of_both_tasks_are_single_tokens_and_read_back(made: dict[str, Any]) -> None:
    tokenizer = made["a"][1].tokenizer
    for part in VISUAL_PARTS:
        assert len(tokenizer(part, add_special_tokens=False).input_ids) == 1, part
    for said in (
        "<think>It is (region [660, 418, 816, 602]). 74 % of it.</think><response><answer>B</answer><location>"
        "<ref>polyp</ref><box>[660, 418, 816, 602]</box></location></response>",
        '<think>A fold.</think><answer>{"bbox": [1, 2, 3, 4], "points_1": [1, 2], "points_2": [3, 4]}</answer>',
    ):
        assert tokenizer.decode(tokenizer(said, add_special_tokens=False).input_ids, skip_special_tokens=True) == said


def test_it_is_asked_like_any_other(made: dict[str, Any]) -> None:
    reasoner = load_reasoner(str(made["folder"] / "a"))
    assert reasoner.name == "nano-new-words"


def test_the_tokenizer_is_trained_on_questions_and_answers_of_both_tasks(data: Path, tmp_path: Path) -> None:
    texts = list(texts_of(Rows([data / "train.parquet"], tmp_path, [data / "vqa-train.parquet"])))
    assert len(texts) == 2 * (12 + 10)
    assert any(text.startswith("Which growth number 3") for text in texts)
    assert any("<response><answer>" in text for text in texts)
    assert any(text.startswith("Question: ") for text in texts)
