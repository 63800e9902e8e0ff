"""``docs/cli.md`` from the code: ``python -m medground.cli_docs > docs/cli.md``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import typer

from medground import RESEARCH_USE
from medground.cli import app

__all__ = ["cli_markdown"]

_HEAD = f"""# The command line

Made from the code by `python -m medground.cli_docs`; edit the help texts in `medground/cli.py` and the files beside it
whose names end in `_cli.py`, not this file.
{RESEARCH_USE}

Exit codes: 0 done; 1 rows of a batch failed, or `doctor` found something broken; 2 the input or an option can't be used
(one sentence on standard error); 130 interrupted. Any other failure shows a traceback and is a fault of medground's.
"""

_BATCH = """
### Batches

`--batch PAIRS.jsonl` reads one JSON object a line: `id` (unique), `image` (relative to the file's folder), `question`,
and where needed `frame`, `axis`, `slice`, `window`; anything else goes under `meta`. All rows are checked before the
first is answered. `--batch FOLDER "QUESTION"` asks the same of every image in a folder and its subfolders.

Answers are appended to `DIR/results.jsonl` as they come: `id`, `input` (a digest of the row) and the keys of `--json`.
A row that failed has `error` in their place, and `completion` where the reasoner wrote something that can't be read.
The same command again goes on where it stopped, also after a crash: a half-written last line is dropped and its row
done again. `DIR/batch.json` keeps the settings, and a run with other ones refuses to mix its answers in.
"""


def cli_markdown() -> str:
    """Return the reference of every command and option as Markdown."""
    group: Any = typer.main.get_command(app)
    parts = [_HEAD]
    for name, command in sorted(_commands(group)):
        context = command.make_context(f"medground {name}", [], resilient_parsing=True)
        records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
        rows = [f"| `{_cell(names)}` | {_cell(text)} |" for names, text in records]
        parts.append(f"\n## medground {name}\n\n{command.help}\n\n| | |\n| --- | --- |\n" + "\n".join(rows) + "\n")
        if name == "ground":
            parts.append(_BATCH)
    return "".join(parts)


def _commands(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each command with its whole name, those of groups too."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(cli_markdown())
