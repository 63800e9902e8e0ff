"""Cards for the Hugging Face hub: a model's with its figures as ``model-index``, a data set's with what it holds.

Cards are made from files alone; nothing here asks the network.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medground import RESEARCH_USE
from medground.errors import ConfigError, MissingExtraError

__all__ = ["dataset_card", "hub_card", "model_card"]

TASK = "image-text-to-text"
TASK_NAME = "Medical reasoning grounding"

_TAGS = ["medical", "visual-grounding", "reasoning"]
_START, _END = "<!-- medground: figures -->", "<!-- medground: end of figures -->"
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_HUB_SPLITS = {"val": "validation"}


def hub_card(
    sources: Sequence[str | Path],
    *,
    readme: str | Path | None = None,
    name: str | None = None,
    dataset: str | None = None,
    licence: str | None = None,
    base_model: str | None = None,
) -> str:
    """Return the card of a model whose runs are given, or of a data set.

    Parameters
    ----------
    sources : sequence of path
        Folders that ``medground eval`` wrote, or one parquet file or folder of them.
    readme : path or None
        A card that is there: its text and what its head says are kept, and the figures are put in or brought up to
        date.
    name, dataset, licence, base_model
        See `model_card` and `dataset_card`; the latter takes the first and the third.

    Raises
    ------
    ConfigError
        When the sources aren't of one kind, or can't be read.
    MissingExtraError
        When huggingface_hub isn't installed.
    """
    paths = [Path(source) for source in sources]
    runs = [path for path in paths if (path / "run.json").is_file()]
    if runs and len(runs) == len(paths):
        return model_card(runs, readme=readme, name=name, dataset=dataset, licence=licence, base_model=base_model)
    if runs or len(paths) != 1:
        raise ConfigError("a card is of runs of medground eval, or of one data set; give folders of one kind")
    if dataset is not None or base_model is not None:
        raise ConfigError(f"{paths[0]}: a data set's card has no evaluated data set and no base model; leave them out")
    return dataset_card(paths[0], readme=readme, name=name, licence=licence)


def model_card(
    runs: Sequence[str | Path],
    *,
    readme: str | Path | None = None,
    name: str | None = None,
    dataset: str | None = None,
    licence: str | None = None,
    base_model: str | None = None,
) -> str:
    """Return a model's card, with the figures of its runs as ``model-index`` and as tables.

    Parameters
    ----------
    runs : sequence of path
        Runs of one model, in any mode and on any variant, and of baselines.
    readme : path or None
        A card that is there; see `hub_card`.
    name : str or None
        The model's; the reasoner's own where None.
    dataset : str or None
        What the rows are called, at best their id on the hub; their number and digest where None.
    licence : str or None
        An identifier of the hub's, such as ``"apache-2.0"``; ``"other"`` where None and no card says it.
    base_model : str or None
        Id on the hub of what the model was trained from.

    Raises
    ------
    ConfigError
        When a run can't be read, or they are of several models.
    MissingExtraError
        When huggingface_hub isn't installed.
    """
    hub = _hub()
    from medground.evaluate.predictions import read_run
    from medground.evaluate.roles import gather
    from medground.evaluate.score import score_run
    from medground.evaluate.tables import Entry, breakdown, headline

    shown = gather([score_run(read_run(run)) for run in runs])
    names = sorted({shown.reasoner(entry) for entry in shown.models})
    if len(names) > 1:
        raise ConfigError(f"a card is of one model, and these runs are of {' and '.join(names)}; give those of one")
    title = name or names[0]
    entries: list[tuple[Entry, str]] = [(entry, "") for entry in shown.models]
    entries += [(changed.entry, changed.variant) for changed in shown.changed]
    results = [result for entry, variant in entries for result in _results(hub, entry.scored, variant, dataset)]
    card = _opened(hub.ModelCard, readme)
    given = {"license": licence, "base_model": base_model}
    usual = {"license": "other", "library_name": "transformers", "pipeline_tag": TASK, "tags": _TAGS}
    _tell(card.data, given, usual)
    card.data.model_name, card.data.eval_results = title, results
    tables = [headline(shown.entries), *(breakdown(shown.models, by) for by in ("modality", "size", "category"))]
    figures = "\n".join([_asked(shown.models[0].scored, dataset), *(table.to_markdown() for table in tables)])
    start = f"# {title}\n\nAnswers questions about medical images with reasoning, a box and two key points.\n\n"
    card.text = _with_figures(card.text, figures, f"{start}**{RESEARCH_USE}**\n")
    return str(card)


def dataset_card(
    data: str | Path, *, readme: str | Path | None = None, name: str | None = None, licence: str | None = None
) -> str:
    """Return a data set's card: what the hub asks of its head, and the figures of its rows.

    Parameters
    ----------
    data : path
        A parquet file or a folder of them, in U-MRG's layout.
    readme : path or None
        A card that is there, such as a build's ``README.md``. Its text is kept as it is, unless it is one of ours.
    name : str or None
        The folder's where None and no card says it.
    licence : str or None
        An identifier of the hub's; ``"other"`` where None and no card says it, for sources have their own.

    Raises
    ------
    ConfigError
        When there is no parquet file.
    TruthError
        When a row can't be read.
    MissingExtraError
        When huggingface_hub or pyarrow isn't installed.
    """
    hub = _hub()
    from medground.data.schema import parquet_files, split_of_name
    from medground.data.stats import statistics

    data = Path(data)
    files = parquet_files(data)
    told = statistics(data, masks=False)
    rows = int(told.values["size"]["all"]["rows"])
    card = _opened(hub.DatasetCard, readme)
    parts = [
        {"split": _HUB_SPLITS.get(split, split) or "train", "path": file.name}
        for file in files
        for split in [split_of_name(file)]
    ]
    usual: dict[str, Any] = {
        "pretty_name": name or data.resolve().stem,
        "license": "other",
        "task_categories": [TASK, "image-segmentation"],
        "tags": _TAGS,
        "configs": [{"config_name": "default", "data_files": parts}],
    }
    size = next((word for most, word in _SIZES if rows < most), "n>1M")
    _tell(card.data, {"license": licence, "pretty_name": name, "size_categories": [size]}, usual)
    start = f"# {usual['pretty_name']}\n\n{rows:,} questions about medical images, in U-MRG's layout. {RESEARCH_USE}\n"
    if readme is None or _START in card.text:
        card.text = _with_figures(card.text, f"## What it holds\n\n{told.to_markdown()}", start)
    return str(card)


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingExtraError("huggingface_hub", extra="local", purpose="cards for the hub") from error
    return huggingface_hub


def _opened(kind: Any, readme: str | Path | None) -> Any:
    """Return a card that is there, or an empty one."""
    if readme is None:
        return kind("---\n{}\n---\n")
    try:
        text = Path(readme).read_text(encoding="utf-8")
        return kind(text if text.lstrip().startswith("---") else f"---\n{{}}\n---\n{text}")
    except OSError as error:
        raise ConfigError(f"can't read {readme}: {error.strerror or error}; check the path") from error
    except Exception as error:  # whatever the YAML reader and the hub's checks stumble over
        raise ConfigError(f"{readme}: its head isn't a card's ({error}); mend what is between the two ---") from error


def _tell(head: Any, given: Mapping[str, Any], usual: Mapping[str, Any]) -> None:
    """Write what is given into a card's head, and what is usual where it says nothing."""
    for key, value in given.items():
        if value is not None:
            setattr(head, key, value)
    for key, value in usual.items():
        if getattr(head, key, None) is None:
            setattr(head, key, value)


def _results(hub: Any, scored: Any, variant: str, dataset: str | None) -> list[Any]:
    """Return a run's figures in the hub's form."""
    from medground.evaluate.cells import cell
    from medground.evaluate.tables import MEASURES

    info = scored.run.info
    rows = _rows(info)
    segmenter = (info.get("segmenter") or {}).get("name")
    found = []
    for name, measure in MEASURES.items():
        value = cell(scored, measure)
        if math.isnan(value.value):
            continue
        how = {"mode": info.get("mode"), "segmenter": segmenter, "variant": variant or None, "rows": value.n}
        how["interval_95"] = [round(value.low, 4), round(value.high, 4)] if value.low < value.high else None
        found.append(
            hub.EvalResult(
                task_type=TASK,
                task_name=TASK_NAME,
                dataset_type=_slug(dataset) if dataset else "medground",
                dataset_name=dataset or rows,
                dataset_split=_HUB_SPLITS.get(info.get("split", ""), info.get("split")),
                dataset_args={"rows": rows},
                metric_type=name,
                metric_name=measure.title,
                metric_value=round(value.value, 4),
                metric_args={key: each for key, each in how.items() if each is not None},
            )
        )
    return found


def _asked(scored: Any, dataset: str | None) -> str:
    """Return in words what the figures are of."""
    info = scored.run.info
    segmenter = (info.get("segmenter") or {}).get("name")
    drawn = f" Masks are {segmenter}'s." if segmenter else ""
    called = f"{dataset} ({_rows(info)})" if dataset else _rows(info)
    return (
        f"Measured by `medground eval` on {called}, split {info.get('split') or 'not told'}.{drawn} What failed or "
        "can't be read counts 0; in parentheses the 95 % interval of a bootstrap over patients.\n"
    )


def _rows(info: Mapping[str, Any]) -> str:
    data = info.get("data") or {}
    return f"{data.get('rows', 0):,} rows, digest {str(data.get('digest', ''))[:12]}"


def _slug(name: str) -> str:
    return re.sub(r"[^\w./-]+", "-", name).strip("-").lower()


def _with_figures(text: str, figures: str, start: str) -> str:
    """Return a card's text with the figures where they were, or at its end."""
    block = f"{_START}\n\n{figures.strip()}\n\n{_END}\n"
    before, found, rest = text.partition(_START)
    if found:
        return before + block + rest.partition(_END)[2].lstrip("\n")
    return f"{text.rstrip() or start.rstrip()}\n\n{block}"
