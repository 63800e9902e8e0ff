"""A nano with further tokens, which otherwise reads and writes as before.

A model that has learned to ground writes the tags of a visual answer letter by letter, twice as many tokens as with a
token each; a new vocabulary would cost it all the words that it knows (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medground.errors import ConfigError
from medground.reasoners._load import load_model
from medground.train.nano import VISUAL_PARTS, write_identity

__all__ = ["VISUAL_TOKENS", "write_with_tokens"]

VISUAL_TOKENS = (*VISUAL_PARTS, " True.", " False.")
"""What each visual answer has in common, and the verdicts on its statements."""


def write_with_tokens(like: str | Path, folder: str | Path, tokens: Sequence[str] = VISUAL_TOKENS) -> None:
    """Write a model with another's weights and further tokens, each of which begins as the mean of what it was read as.

    Parameters
    ----------
    like : path
        Folder of a nano.
    folder : path
        Gets the model; made when it isn't there.
    tokens : sequence of str
        Those that the model has already are passed over. A text with none of them is read as before.

    Raises
    ------
    ConfigError
        When there is nothing to add.
    """
    import torch
    from tokenizers import AddedToken

    model, processor = load_model(Path(like), torch.device("cpu"), "float32", None)
    tokenizer = processor.tokenizer
    known = tokenizer.get_vocab()
    pieces = {token: tokenizer(token, add_special_tokens=False)["input_ids"] for token in tokens if token not in known}
    if not pieces:
        raise ConfigError(f"{like}: has all of the tokens already; train it as it is")
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in pieces])
    old = model.get_input_embeddings().weight.detach().clone()
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    table = model.get_input_embeddings().weight  # which is the output matrix too
    with torch.no_grad():
        for token, read_as in pieces.items():
            table[tokenizer.convert_tokens_to_ids(token)] = old[read_as].mean(dim=0)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    write_identity(folder, "nano-more-tokens")
