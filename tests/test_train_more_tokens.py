"""A nano with further tokens, which otherwise reads as before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("timm")

from medground.errors import ConfigError  # noqa: E402
from medground.reasoners import load_reasoner  # noqa: E402
from medground.reasoners._load import load_model  # noqa: E402
from medground.train.more_tokens import VISUAL_TOKENS, write_with_tokens  # noqa: E402

NANO = Path(__file__).parents[1] / "medground/reasoners/nano"
NEW = ("<seldom>", " every so often")
VISUAL = (
    "<think>It is (region [660, 418, 816, 602]). 74 % of it. True.</think><response><answer>B</answer><location>"
    "<ref>polyp</ref><box>[660, 418, 816, 602]</box></location></response>"
)
GROUNDING = '<think>A fold.</think><answer>{"bbox": [1, 2, 3, 4], "points_1": [1, 2], "points_2": [3, 4]}</answer>'


def loaded(folder: Path) -> tuple[Any, Any]:
    model, processor = load_model(folder, torch.device("cpu"), "float32", None)
    return model, processor.tokenizer


def ids(tokenizer: Any, text: str) -> list[int]:
    found: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokens") / "model"
    write_with_tokens(NANO, folder, [*VISUAL_TOKENS, *NEW, "<think>"])
    return folder


def test_what_it_knew_it_knows(made: Path) -> None:
    (new, tokenizer), (old, before) = loaded(made), loaded(NANO)
    own, others = new.state_dict(), old.state_dict()
    assert set(own) == set(others)
    for name, value in others.items():
        assert torch.equal(own[name][: len(value)] if value.ndim else own[name], value), name
    assert new.config.get_text_config().vocab_size == len(tokenizer) == len(own["lm_head.weight"])
    assert new.lm_head.weight.data_ptr() == new.get_input_embeddings().weight.data_ptr()
    assert ids(tokenizer, GROUNDING) == ids(before, GROUNDING)


def test_a_new_token_begins_as_the_mean_of_what_it_was_read_as(made: Path) -> None:
    (new, tokenizer), (old, before) = loaded(made), loaded(NANO)
    for token in NEW:
        (number,) = ids(tokenizer, token)
        pieces = ids(before, token)
        assert len(pieces) > 1
        wanted = old.get_input_embeddings().weight[pieces].mean(dim=0)
        torch.testing.assert_close(new.get_input_embeddings().weight[number], wanted)


def test_answers_read_back(made: Path) -> None:
    _, tokenizer = loaded(made)
    for token in VISUAL_TOKENS:
        assert len(ids(tokenizer, token)) == 1, token
    for said in (VISUAL, GROUNDING):
        assert tokenizer.decode(ids(tokenizer, said), skip_special_tokens=True) == said


def test_it_is_asked_like_any_other(made: Path) -> None:
    assert load_reasoner(str(made)).name == "nano-more-tokens"


def test_nothing_to_add_is_said(made: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has all of the tokens already"):
        write_with_tokens(made, tmp_path / "again")
    assert not (tmp_path / "again").exists()
