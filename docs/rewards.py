"""Write docs/rewards.md and its plots from the code: python docs/rewards.py (needs the extra dev)."""

from __future__ import annotations

import inspect
import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import docstrings
import reward_tables as tables
from docstrings import linked
from reward_plots import plots
from reward_scene import TRUTH
from reward_tables import code, number
from reward_terms import GROUNDING, PAPER, PAPER_TEST, THINKVG, Term

from medground import RESEARCH_USE
from medground._io import write_bytes, write_text
from medground.rewards import medground_recipe, score, umrg_terms
from medground.rewards.grounding import WEIGHTS

DOCS = Path(__file__).parent
IMAGES = DOCS / "images" / "rewards"

_PLOTS = plots()

_HEAD = f"""# Rewards

Made from the code by `python docs/rewards.py`; edit docstrings and the scripts, not this file. {RESEARCH_USE}

A reward is what a completion is worth in training: a function of its text and of the truth, without torch, without a
network, and the same on every run. It is a handful of *terms*, each a number with a name, and a *recipe* says which
terms count and how much. Only two can ask for more than text: [mask](#mask) asks a segmenter, and [thinkvg
semantic](#thinkvg-semantic) may ask a language model. A completion may be anything and never raises; a truth that can't
be right raises `TruthError` with its row and field.
"""

_OWN_RECIPE = '''"""my_rewards.py: the medground recipe and a term of your own."""

from dataclasses import replace

from medground.rewards import RECIPES


def terms(completions, truths):
    rows = RECIPES["medground"].terms(completions, truths)
    for row, text in zip(rows, completions, strict=True):
        row["short"] = float(len(text) < 1000)
    return rows


recipe = replace(
    RECIPES["medground"], name="mine", terms=terms, weights={**RECIPES["medground"].weights, "short": 0.5}
)
'''

_MEDREASONER = linked("MedReasoner, arXiv 2508.08177")

_EXAMPLE = {"bbox": [340, 350, 510, 480], "points_1": [380, 420], "points_2": [450, 420]}
_THOUGHT = "<think>It is a pale oval in the centre of the image.</think>"


def page() -> str:
    """Return the page."""
    parts = [
        _HEAD,
        _contents(),
        "## Recipes\n",
        tables.recipes(),
        "\nWeighted sums are the paper's; in a weighted mean a term that doesn't apply to a row is left out.\n",
        _scoring(),
        "## medground\n",
        "Our recipe. Each term is 0 to 1, and the gold answer has full marks on every row. The weights, and the share "
        "of the score that each term has:\n",
        tables.weights(),
        "",
        *map(_section, GROUNDING),
        "## umrg\n",
        linked(
            "The rewards of MedReasoner (arXiv 2508.08177), as published, faults included; [what they "
            "are](#faults-that-are-kept). A term of `umrg-soft` and `umrg-hard` is measured (an overlap, where more is "
            "better, or a distance), shaped, and taken down by two validities. All numbers are pixels of the paper's "
            "840 x 840 pictures. All of these terms but the last section's are held to the published values by "
        )
        + f"{_test(PAPER_TEST)}.\n",
        _shaping(),
        *map(_section, PAPER),
        "## thinkvg\n",
        linked(
            "After GEMeX-ThinkVG (arXiv 2506.17939): visual questions, answered in words with regions. What isn't "
            "known of the paper is a parameter of `thinkvg_recipe`. A completion whose answer can't be read has 0 on "
            "every term.\n"
        ),
        *map(_section, THINKVG),
        "## Faults that are kept\n",
        "A recipe that bears the paper's name computes what the paper's code computes. `medground` mends:\n",
        tables.faults(),
    ]
    return "\n".join(parts).rstrip() + "\n"


def _contents() -> str:
    lines = ["- [Recipes](#recipes), [scoring](#scoring), [a recipe of your own](#a-recipe-of-your-own)"]
    for name, terms in (("medground", GROUNDING), ("umrg", PAPER), ("thinkvg", THINKVG)):
        links = ", ".join(
            f"[{term.heading.removeprefix(f'{name} ')}](#{term.heading.replace(' ', '-')})" for term in terms
        )
        lines.append(f"- [{name}](#{name}): {links}")
    return "\n".join([*lines, "- [Faults that are kept](#faults-that-are-kept)\n"])


def _scoring() -> str:
    completion = f"{_THOUGHT}<answer>{json.dumps(_EXAMPLE)}</answer>"
    shown = {name: round(value, 3) for name, value in score(completion, TRUTH).items()}
    paper = score(completion, TRUTH, "umrg-soft")["score"]
    return f"""## Scoring

```pycon
>>> from medground.rewards import RECIPES, score, score_batch
>>> truth = {TRUTH}
>>> answer = '{json.dumps(_EXAMPLE)}'
>>> completion = f"{_THOUGHT}<answer>{{answer}}</answer>"
>>> earned = score(completion, truth)
>>> {{name: round(value, 3) for name, value in earned.items()}}
{textwrap.fill(str(shown), 100)}
>>> score(completion, truth, "umrg-soft")["score"]
{paper}
>>> [round(row["score"], 3) for row in score_batch([completion, "no idea"], [truth, truth])]
[{number(shown["score"])}, 0.0]
```

`medground.rewards.read_truth` says how truths are written, and `Truth.from_mask` makes one of a mask, with the facts
that [evidence](#evidence) needs. Where the completion's numbers are on another ruler than the truth's, give `space`.

### A recipe of your own

Other weights, by name; 0 leaves a term out of the score and in the report:

```pycon
>>> mine = RECIPES["medground"].reweighted(evidence=0, honesty=0, box=5)
>>> round(score(completion, truth, mine)["score"], 3)
{round(score(completion, TRUTH, _reweighted())["score"], 3)}
```

Other terms: a recipe in a module of yours, which `score(completion, truth, "my_rewards:recipe")`, and every setting
that takes a recipe's name, finds by its path:

```python
{_OWN_RECIPE}```
"""


def _reweighted() -> Any:
    return medground_recipe().reweighted(evidence=0, honesty=0, box=5)


def _shaping() -> str:
    shapes = (umrg_terms.log_shaped, umrg_terms.exp_shaped, umrg_terms.penalised)
    lines = [f"- `{shape.__name__}`: {_flat(docstrings.read(shape).text)}" for shape in shapes]
    return "\n".join(["### umrg shaping\n", *lines, "", _picture("umrg-shaping"), tables.validities(), ""])


def _flat(text: str) -> str:
    return " ".join(text.split())


def _section(term: Term) -> str:
    said = docstrings.read(term.function)
    sources = " and ".join(_MEDREASONER if each == "MedReasoner" else each for each in said.sources)
    source = linked(term.source) if term.source else sources or "medground"
    span = "0 or 1" if term.heading in ("absence", "umrg base terms") else "0 to 1"
    file = Path(str(inspect.getsourcefile(term.function))).relative_to(DOCS.parent).as_posix()
    name = term.heading.split()[-1]
    facts = [f"range {span}", f"source: {source}", f"[{code(file)}](../{file})"]
    if term.heading in WEIGHTS:
        facts.insert(0, f"weight {number(WEIGHTS[name])}")
    return "\n\n".join(part for part in [
        f"### {term.heading}",
        " · ".join(facts),
        _text(term, said.text),
        _picture(term.plot).strip() if term.plot else "",
        term.below() if term.below else "",
        _hacks(term, said.hacking or term.hacking),
    ] if part) + "\n"  # fmt: skip


def _text(term: Term, said: str) -> str:
    if term.worth is None:
        return term.text or said
    name = term.heading.split()[-1]
    return f"`{name} = {term.worth}`; [shaping and validities](#umrg-shaping).\n\n{said}"


def _picture(name: str) -> str:
    plot = _PLOTS[name]
    return f"![{plot.alt}](images/rewards/{name}.svg)\n<!-- {name}: {plot.digest()} -->\n"


def _hacks(term: Term, hacking: str | None) -> str:
    if hacking is None:
        raise ValueError(f"nothing says what hacking {term.heading} looks like; add Hacking: to its docstring's notes")
    *most, last = map(_test, term.tests) if term.tests else [""]
    shown = f"{', '.join(most)} and {last}" if most else last
    if term in PAPER:
        return f"**It can be hacked.** {hacking}" + (f" Shown by {shown}." if shown else "")
    show = "show" if len(term.tests) > 1 else "shows"
    return f"**Hacking it.** {hacking}" + (f"\n\n**It doesn't pay**, as {shown} {show}." if shown else "")


def _test(name: str) -> str:
    file, _, test = name.partition("::")
    return f"[{code(test)}](../tests/{file})"


def tests() -> Sequence[str]:
    """Return ``file::test`` of every test that the page names."""
    named = [PAPER_TEST, *(test for term in (*GROUNDING, *PAPER, *THINKVG) for test in term.tests)]
    return list(dict.fromkeys(named))


def main() -> None:
    """Write the page and its plots."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name, plot in _PLOTS.items():
        write_bytes(IMAGES / f"{name}.svg", plot.svg())
    write_text(DOCS / "rewards.md", page())


if __name__ == "__main__":
    main()
