"""docs/results.md as text, from the figures of runs (`result_runs.gathered`)."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from result_arms import (
    ABLATION,
    ASKED,
    BASE,
    BLIND,
    CLOSED,
    FEW,
    GAIN,
    GREEDY,
    HALF,
    PHASES,
    SAMPLED,
    TARGETS,
    THREE_WAY,
    by_itself,
    few_base,
    title,
)
from result_both import both_tasks
from result_tables import INTERVALS, NOTHING, PLAIN, SIGNED, Told, as_cells, as_table, picture, plain, signed, up
from result_unseen import left_out_whole
from result_vqa_page import questions

from medground import RESEARCH_USE
from medground.evaluate.cases import FATES
from medground.evaluate.cells import Cell, Line, Measure, as_text, number

WORST = 20
"""Categories that are listed."""

_HELD = ("box_iou", "box_iou_categories", "dice", "pdice", "claims", "absence", "sampled_box_iou")


def page(told: Told, pictures: Sequence[str]) -> str:
    """Return the document.

    Parameters
    ----------
    told : dict
        As `result_runs.gathered` returns it.
    pictures : sequence of str
        Names of the pictures that there are.
    """
    parts = [
        *_head(told),
        *_ablation(told, pictures),
        *_against(told, pictures),
        *_targets(told),
        *_few(told, pictures),
        *left_out_whole(told),
        *questions(told, pictures),
        *both_tasks(told),
        *_categories(told),
        *_trainings(told, pictures),
        *_over_time(told, pictures),
        *_missing(told),
    ]
    return "\n\n".join(_wrapped(part.strip()) for part in parts if part) + "\n"


def _wrapped(part: str) -> str:
    """Break the lines of a plain paragraph; headings, lists, tables and pictures are left as they are."""
    if part.startswith(("#", "-", "|", "!")):
        return part
    return textwrap.fill(part, 120, break_long_words=False, break_on_hyphens=False)


def _head(told: Told) -> Iterator[str]:
    made = told["made"]
    where = f", {made['machine']}" if made["machine"] else ""
    yield "# What training brought"
    yield (
        "Made from saved runs by `python docs/results.py`; edit the script, not this file. Last run: "
        f"{made['date']}{where}. {RESEARCH_USE}"
    )
    yield _asked(told)


def _asked(told: Told) -> str:
    data = told["data"]
    if data is None:
        return "No arm has been evaluated on grounding."
    said = (
        f"Figures of grounding are of {data['rows']:,} questions{', drawn by chance,' if data['limit'] else ''} of "
        f"split {data['split']} (digest {data['digest']}), {data['absent']:,} of them about absent targets, "
        f"{data['patients']:,} patients, {data['categories']} categories, answered greedily"
    )
    if data["samples"]:
        said += f"; {data['samples']} more answers to each were sampled at temperature {data['temperature']}"
    if data["segmenter"]:
        said += f". Masks are those that {data['segmenter']}, which no arm changes, draws for the greedy answers"
    return f"{said}. What can't be read, or says wrongly that the target is absent, counts 0. {INTERVALS}"


def _figures(told: Told, name: str, mode: str) -> dict[str, Cell]:
    found = told["arms"].get(name, {}).get("modes", {}).get(mode, {}).get("figures", {})
    return as_cells(found)


def _less(told: Told, name: str, mode: str, against: str = "against") -> dict[str, Cell]:
    found = told["arms"].get(name, {}).get("modes", {}).get(mode, {}).get(against, {})
    return as_cells(found)


# -- the ablation -----------------------------------------------------------------------------------------------------


def _ablation(told: Told, pictures: Sequence[str]) -> Iterator[str]:
    """Yield the table of arms, one for each way of asking and answering."""
    names = [name for name in told["arms"] if not by_itself(name)]
    yield "## The ablation"
    if not any(told["arms"][name]["modes"] for name in names):
        yield "No arm of recipes/nano_ablation.sh has been evaluated."
        return
    yield "\n".join(f"- `{name}`: {title(name)}{_seeds(told, name)}" for name in names if name in (*ABLATION, *PHASES))
    for mode, asked in ASKED.items():
        for measures, how in ((GREEDY, "greedy answers"), (SAMPLED, "sampled answers, their mean")):
            rows = [(name, figures) for name in names if (figures := _figures(told, name, mode))]
            if table := _values(f"Asked {asked}, {how}", rows, measures):
                yield table
    yield "\n".join(f"- *{measure.title}*: {measure.told}" for measure in GREEDY.values())
    yield "The last line of a table is the widest half of an interval in its column."


def _seeds(told: Told, name: str) -> str:
    seeds = told["arms"][name]["seeds"]
    return f" (mean of {seeds} seeds)" if seeds > 1 else ""


def _values(heading: str, rows: Sequence[tuple[str, dict[str, Cell]]], measures: dict[str, Measure]) -> str:
    """Return a table of bare figures, the best of each column in bold; empty where there are none."""
    shown = [name for name in measures if any(figures[name].n for _, figures in rows)]
    rows = [(arm, figures) for arm, figures in rows if any(figures[name].n for name in shown)]
    if not rows:
        return ""
    best = {name: max(round(figures[name].value, 3) for _, figures in rows if figures[name].n) for name in shown}
    lines = []
    for arm, figures in rows:
        told = [as_text(figures[name]._replace(low=0, high=0), PLAIN) for name in shown]
        bold = [len(rows) > 1 and round(figures[name].value, 3) == best[name] for name in shown]
        lines.append(Line(arm, tuple(f"**{each}**" if top else each for each, top in zip(told, bold, strict=True))))
    halves = [max(max(f.high - f.value, f.value - f.low) for _, f in _of(rows, name)) for name in shown]
    lines.append(Line("± at most", tuple(number(half, PLAIN) for half in halves)))
    return as_table(heading, "arm", [measures[name].title for name in shown], lines)


def _of(rows: Sequence[tuple[str, dict[str, Cell]]], name: str) -> list[tuple[str, Cell]]:
    return [(arm, figures[name]) for arm, figures in rows if figures[name].n]


def _against(told: Told, pictures: Sequence[str]) -> Iterator[str]:
    """Yield the paired differences from supervision continued."""
    yield f"## Against supervision continued (`{BASE}`)"
    tables = []
    for mode, asked in ASKED.items():
        names = [name for name in told["arms"] if not by_itself(name) and _less(told, name, mode)]
        if not names:
            continue
        found = {name: _less(told, name, mode) for name in names}
        shown = [each for each in _HELD if any(cells[each].n for cells in found.values())]
        lines = [Line(name, tuple(as_text(found[name][each], SIGNED) for each in shown)) for name in names]
        heads = [f"sampled {SAMPLED[each].title}" if each in SAMPLED else GREEDY[each].title for each in shown]
        tables.append(as_table(f"Differences {asked}", "arm", heads, lines))
    if not tables:
        yield f"`{BASE}` or what could be held against it has not been evaluated."
        return
    yield (
        "Differences on the same questions, each bootstrap sample of patients taken for both. Same start and data; the "
        "time that each took is told under [trainings](#trainings)."
    )
    yield picture("differences", f"Differences of each arm from {BASE}; dotted: {GAIN:g}, what is aimed at", pictures)
    yield from tables


# -- what was aimed at ------------------------------------------------------------------------------------------------


def _targets(told: Told) -> Iterator[str]:
    yield "## What was aimed at"
    shipped = told["shipped"]
    names = [shipped] if shipped else [name for name in told["arms"] if name.startswith("grpo-")]
    names = [name for name in names if _figures(told, name, "reason")]
    if not names:
        yield "No trained arm has been evaluated with reasoning."
        return
    lines = []
    for name in names:
        figures, less = _figures(told, name, "reason"), _less(told, name, "reason")
        reached = [_reached(figures[each.measure], each.least) for each in TARGETS]
        lines.append(Line(name, (*reached, _gained(less))))
    heads = [f"{each.title} ≥ {each.least:.2f}" for each in TARGETS]
    chosen = (
        f"Asked with reasoning. `{shipped}` is the model that is handed out, chosen by validation questions."
        if shipped
        else "Asked with reasoning. No arm is chosen here to be handed out: validation questions are to choose it."
    )
    heads.append(f"{100 * GAIN:g} points of IoU or Dice over `{BASE}`, 0 outside of the interval")
    yield as_table("", "arm", heads, lines, chosen)


def _reached(found: Cell, least: float) -> str:
    """Return a figure and whether it is what was aimed at.

    Examples
    --------
    >>> _reached(Cell(0.7, 0.6, 0.8, 9), 0.75), _reached(Cell(0.75, 0.7, 0.8, 9), 0.75)
    ('0.700 (0.600 to 0.800): missed by 0.050', '0.750 (0.700 to 0.800): reached')
    """
    if not found.n:
        return "not measured"
    missed = least - found.value
    return f"{plain(found)}: " + (f"missed by {up(missed)}" if missed > 0 else "reached")


def _gained(less: dict[str, Cell]) -> str:
    """Return whether an arm beats supervision continued as it should, by the better of IoU and Dice."""
    known = [(name, found) for name in ("box_iou", "dice") if (found := less.get(name)) is not None and found.n]
    if not known:
        return "not measured"
    good = [each for each in known if each[1].value >= GAIN and each[1].low > 0]
    name, found = max(good or known, key=lambda each: each[1].value)
    said = f"{GREEDY[name].title} {signed(found)}: "
    if good:
        return f"{said}reached"
    if found.value >= GAIN:
        return f"{said}missed, the interval holds 0"
    return f"{said}missed by {up(GAIN - found.value)}"


# -- few labels -------------------------------------------------------------------------------------------------------


def _few(told: Told, pictures: Sequence[str]) -> Iterator[str]:
    """Yield what reinforcement makes of rows whose labels only reward."""
    yield "## Few labels"
    names = [name for name in FEW if name in told["arms"]]
    if not any(_figures(told, name, mode) for name in names for mode in ASKED):
        yield "The experiment with few labels (recipes/nano_few_labels.sh) has not been evaluated."
        yield picture("few-labels", "Checks on validation rows against the time of training", pictures)
        return
    yield "\n".join(f"- `{name}`: {title(name)}{_seeds(told, name)}" for name in names)
    for mode, asked in ASKED.items():
        rows = [(name, figures) for name in names if (figures := _figures(told, name, mode))]
        if table := _values(f"Few labels, asked {asked}", rows, GREEDY):
            yield table
        yield from _closed(told, mode, asked)
    yield picture("few-labels", "Checks on validation rows against the time of training", pictures)


def _closed(told: Told, mode: str, asked: str) -> Iterator[str]:
    """Yield how much of the distance from an eighth of the labels to all each arm closes."""
    low, high = (_figures(told, name, mode) for name in HALF)
    names = [name for name in FEW if name not in HALF and _less(told, name, mode, "half")]
    if not (low and high and names):
        return
    shown = [name for name in ("box_iou", "box_iou_categories", "dice") if low[name].n]
    lines = []
    for name in names:
        figures, half = _figures(told, name, mode), _less(told, name, mode, "half")
        cells: list[str] = []
        for measure in shown:
            closed = closed_share(low[measure].value, figures[measure].value, high[measure].value)
            cells += [closed, as_text(half[measure], SIGNED)]
        lines.append(Line(name, tuple(cells)))
    heads = [head for name in shown for head in (f"{GREEDY[name].title} closed", "above half-way")]
    note = (
        f"Aimed at: `eighth-grpo` closes {CLOSED:.0%} or more of the distance from `{HALF[0]}` to `{HALF[1]}`. Above "
        "half-way: the arm's figure less the mean of those two, on the same questions."
    )
    yield as_table(f"Distance closed, asked {asked}", "arm", heads, lines, note)
    less = [(name, _less(told, name, mode)) for name in names]
    shown = [name for name in shown if any(found.get(name, NOTHING).n for _, found in less)]
    held = [Line(f"{name} − {few_base(name)}", tuple(as_text(each[at], SIGNED) for at in shown)) for name, each in less]
    if shown:
        yield as_table(f"Paired differences, asked {asked}", "pair", [GREEDY[name].title for name in shown], held)


def closed_share(low: float, found: float, high: float) -> str:
    """Return how much of the way from `low` to `high` a figure goes, in percent.

    Examples
    --------
    >>> closed_share(0.4, 0.5, 0.6), closed_share(0.4, 0.38, 0.6), closed_share(0.5, 0.6, 0.5)
    ('50 %', '−10 %', 'no distance')
    """
    if not high - low > 1e-9:
        return "no distance"
    return f"{100 * (found - low) / (high - low):.0f} %".replace("-0 %", "0 %").replace("-", "−")


# -- categories, trainings, pictures ----------------------------------------------------------------------------------


def _categories(told: Told) -> Iterator[str]:
    yield "## The worst categories"
    found = told["categories"]
    if not found:
        yield "No trained arm has been evaluated with reasoning."
        return
    bad = [each["name"] for each in found if each["box_iou"] < 0.25]
    named = f"Under 0.25 stay {len(bad)}: {', '.join(bad)}." if bad else "None is under 0.25."
    yield (
        f"Of `{told['main']}`, asked with reasoning, by mean box IoU: the worst {min(WORST, len(found))} of "
        f"{len(found)} categories. {named}"
    )
    with_base, with_dice = (any(each[name] is not None for each in found) for name in ("base_iou", "dice"))
    heads = ["questions", "patients", "targets", "Box IoU"]
    heads += [f"{BASE}'s"] * with_base + ["Dice"] * with_dice + ["most frequent fault"]
    lines = []
    for each in found[:WORST]:
        cells = [f"{each['rows']:,}", f"{each['patients']:,}", each["size"], f"{each['box_iou']:.2f}"]
        for name, there in (("base_iou", with_base), ("dice", with_dice)):
            cells += ["–" if each[name] is None else f"{each[name]:.2f}"] * there
        faults = [
            f"{count} of {each['rows']}: {FATES[fate]}" for fate, count in each["fates"].items() if fate != "right"
        ]
        lines.append(Line(each["name"], (*cells, faults[0] if faults else "–")))
    yield as_table("", "category", heads, lines)


def _trainings(told: Told, pictures: Sequence[str]) -> Iterator[str]:
    yield "## Trainings"
    lines = []
    base = _spent(told, BASE)
    for name, arm in told["arms"].items():
        for at, each in enumerate(arm["training"]):
            method = (
                f"GRPO, {each['recipe']}" if each["recipe"] else {"sft": "supervised"}.get(each["kind"], each["kind"])
            )
            against = f"{each['seconds'] / base:.2f}" if base and not by_itself(name) else "–"
            cells = (method, f"{each['steps']:,}", f"{each['sequences']}", f"{each['seconds']:,.0f}", against)
            shown = name if len(arm["training"]) == 1 else f"{name}, run {at + 1}"
            lines.append(Line(shown, (*cells, "yes" if each["finished"] else "no")))
    if not lines:
        yield "No training was given."
        return
    heads = ["method", "steps", "sequences a step", "seconds", f"of {BASE}'s", "finished"]
    yield as_table("", "arm", heads, lines, "Seconds of the clock, checks on validation rows included.")
    if "validation" in pictures:
        rows = sorted({each["rows"] for name, each in told["curves"].items() if not by_itself(name)})
        yield f"Checks on {' or '.join(f'{count:,}' for count in rows)} validation rows, greedy answers:"
        yield picture("validation", "Checks on validation rows against the time of training", pictures)
    if "terms" in pictures:
        yield "What each term of the reward earned in training, mean of the sampled answers:"
        yield picture("terms", "Rewards by term over the steps of each arm", pictures)


def _spent(told: Told, name: str) -> float:
    trainings = told["arms"].get(name, {}).get("training", [])
    return sum(each["seconds"] for each in trainings) / len(trainings) if trainings else 0.0


def _over_time(told: Told, pictures: Sequence[str]) -> Iterator[str]:
    yield "## The same validation questions over time"
    shown = told.get("over_time")
    if not shown or "over-time" not in pictures:
        yield "There are no checks of a trained arm with pictures that anyone may hand on (CC0)."
        return
    sources = " and ".join(filter(None, [", ".join(shown["sources"][:-1]), shown["sources"][-1]]))
    yield (
        f"`{shown['arm']}`, one question a line, one check a column; white: the true box, orange: the answered one. "
        f"Pictures (CC0) of {sources}."
    )
    yield picture("over-time", f"Answers of {shown['arm']} to the same questions at several steps", pictures)


def _missing(told: Told) -> Iterator[str]:
    """Yield what isn't there, so that nobody takes a gap for a result."""
    names = [name for name in (*ABLATION, *FEW) if not told["arms"].get(name, {}).get("modes")]
    visual = told["visual"]["arms"] if told["visual"] else {}
    names += [name for name in (*THREE_WAY, *BLIND) if name not in visual]
    said = [*told["left_out"]]
    if names:
        said.append(f"evaluations of {', '.join(f'`{name}`' for name in names)}: none was given")
    if said:
        yield "## What is missing\n\n" + "\n".join(f"- {each}" for each in said)
