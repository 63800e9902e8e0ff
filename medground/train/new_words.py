"""A nano that sees and points as another does, and has yet to learn all of its words.

What a model has learned of phrases can't be unlearned, and figures on "unseen" phrases are worth nothing where its
first training met them. Its tower and its way from image tokens to numbers are worth keeping.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from medground.coords import Space
from medground.data.vqa.earlier import earlier_of
from medground.data.vqa_rows import VqaRow
from medground.prompts import render
from medground.prompts.vqa import Visual, vqa_prompt
from medground.reasoners._load import load_model
from medground.train.nano import ANSWER_PARTS, NUMBERS, SPECIALS, STRIDE, build_model, build_processor, write_identity
from medground.train.rows import Rows
from medground.train.varied import plain_trace

__all__ = ["texts_of", "write_new_words"]


def write_new_words(
    like: str | Path, folder: str | Path, files: Sequence[str | Path], vqa: Sequence[str | Path] = (), *, seed: int = 0
) -> None:
    """Write a nano with another's weights, but with a tokenizer of its own and fresh vectors for all words.

    The vectors of numbers and of the answers' fixed parts, which no phrase has, are kept.

    Parameters
    ----------
    like : path
        Folder of a nano.
    folder : path
        Gets the model; made when it isn't there.
    files, vqa : sequence of path
        Parquet files of training rows and of visual questions, on whose words the tokenizer is trained.
    seed : int
    """
    import torch
    from transformers import AutoProcessor

    old = AutoProcessor.from_pretrained(like).tokenizer
    source, _ = load_model(Path(like), torch.device("cpu"), "float32", None)
    text = source.config.get_text_config()
    side = round(source.config.image_seq_length**0.5) * STRIDE
    with tempfile.TemporaryDirectory() as cache:
        rows = Rows([Path(file) for file in files], Path(cache), [Path(file) for file in vqa])
        processor = build_processor(texts_of(rows, seed=seed), vocabulary=text.vocab_size, image_size=side)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = build_model(
            processor,
            image_size=side,
            hidden_size=text.hidden_size,
            layers=text.num_hidden_layers,
            from_litemedsam=False,
        )
    known, own = old.get_vocab(), processor.tokenizer.get_vocab()
    kept = [token for token in (*SPECIALS, *ANSWER_PARTS, *map(str, range(NUMBERS))) if token in known]
    state = source.state_dict()
    table = model.get_input_embeddings().weight
    with torch.no_grad():
        vectors = table.clone()
        vectors[[own[token] for token in kept]] = source.get_input_embeddings().weight[[known[token] for token in kept]]
        tables = {name for name, value in state.items() if value.ndim == 2 and len(value) == text.vocab_size}
        model.load_state_dict({name: value for name, value in state.items() if name not in tables}, strict=False)
        table.copy_(vectors)  # which are the output matrix too
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    write_identity(folder, "nano-new-words")


def texts_of(rows: Rows, *, seed: int = 0) -> Iterator[str]:
    """Yield what is asked and what is answered; of grounding rows the plain trace, whose numbers are no words."""
    rng = random.Random(seed)  # noqa: S311 - chance for phrasing, not for secrets
    space = Space.norm1000()
    for index in range(len(rows)):
        row = rows[index]
        if isinstance(row, VqaRow):
            visual = Visual(row.question_type, row.choices, earlier_of(row))
            yield vqa_prompt("nano-vqa-v1", row.question, visual, space=space)[1]
            yield row.completion("0-1000")
        else:
            yield render("nano-v1", row.question, space=space)[1]
            yield plain_trace(row, rng)
