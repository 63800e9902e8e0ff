"""The section of docs/results.md on visual questions: supervision on all, on an eighth, and reinforcement after it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from result_arms import ANSWERS, ASKED, COMES_TO, REGIONS, THREE_WAY, title
from result_tables import INTERVALS, Told, as_cells, as_table, picture, plain, signed

from medground.evaluate.cells import Cell, Line, Measure
from medground.evaluate.vqa.tables import TYPES

_PAPER = "[GEMeX-ThinkVG](https://arxiv.org/abs/2506.17939)"
_JUDGED = (("types", "accuracy (mean of the types of question)"), ("v_score", "V-score"))
_HELD = ("closed", "single", "multi", "open", "types", "v_score", "agreement", "right_elsewhere", "wrong_there")


def questions(told: Told, pictures: Sequence[str]) -> Iterator[str]:
    """Yield the section, in paragraphs."""
    yield "## Visual questions"
    visual = told["visual"]
    if visual is None:
        yield "The experiment on visual questions (recipes/nano_vqa_three_way.sh) has not been made."
        return
    arms = {name: as_cells(each["figures"]) for name, each in visual["arms"].items()}
    if arms:
        yield _asked(visual["data"])
        yield "\n".join(f"- `{name}`: {title(name)}{_seeds(visual, name)}" for name in arms)
    yield _headline(visual)
    if arms:
        note = (
            "Of the shares of right answers with wrong regions, and the other way round, less is better. The baselines "
            "give no reasoning whose regions could agree with the final ones."
        )
        yield _across("Answers to visual questions", arms, ANSWERS)
        yield _across("Their regions", arms, REGIONS, note)
        yield "\n".join(f"- *{each.title}*: {each.told}" for each in (*ANSWERS.values(), *REGIONS.values()))
    if visual["differences"]:
        lines = [
            Line(f"{each['of']} − {each['less']}", tuple(signed(found[name]) for name in _HELD))
            for each in visual["differences"]
            for found in [as_cells(each["figures"])]
        ]
        note = (
            "On the same questions, each bootstrap sample of patients taken for both. Of so many differences, one in "
            "twenty leaves out 0 by chance."
        )
        heads = [{**ANSWERS, **REGIONS}[name].title for name in _HELD]
        yield as_table("Differences on visual questions", "pair", heads, lines, note)
    yield from _cost(visual["cost"])
    yield picture("visual-terms", "Rewards by term over the steps of GRPO on visual questions", pictures)


def _asked(data: Mapping[str, Any]) -> str:
    types = ", ".join(f"{data['types'][kind]:,} {name}" for kind, name in TYPES.items() if kind in data["types"])
    said = (
        f"Figures are of {data['rows']:,} visual questions{', drawn by chance,' if data['limit'] else ''} of split "
        f"{data['split']} (digest {data['digest']}): {types}; about {data['pictures']:,} pictures of "
        f"{data['patients']:,} patients, answered greedily {ASKED[data['mode']]}"
    )
    if data["samples"]:
        said += f"; {data['samples']} more answers to each were sampled at temperature {data['temperature']:g}"
    return (
        f"{said}. What can't be read counts 0. Answers to open questions are judged offline, by rules, not by a "
        f"language model. {INTERVALS}"
    )


def _seeds(visual: Told, name: str) -> str:
    seeds = visual["arms"][name]["seeds"]
    return f" (mean of {seeds} seeds)" if seeds > 1 else ""


def _across(
    heading: str, arms: Mapping[str, Mapping[str, Cell]], measures: Mapping[str, Measure], note: str = ""
) -> str:
    shown = [name for name in measures if any(figures[name].n for figures in arms.values())]
    lines = [Line(arm, tuple(plain(figures[name]) for name in shown)) for arm, figures in arms.items()]
    return as_table(heading, "arm", [measures[name].title for name in shown], lines, note)


# -- the paper's headline ---------------------------------------------------------------------------------------------


def _headline(visual: Told) -> str:
    """Return whether the paper's headline holds, and what else has to be known to read that."""
    claim = (
        f"The paper's headline ({_PAPER}): reinforcement on one eighth of the data comes to supervision on all of it."
    )
    less = {(each["of"], each["less"]): as_cells(each["figures"]) for each in visual["differences"]}
    found = less.get(("grpo-eighth", "sft-all"))
    if found is None:
        return f"{claim} Whether it holds here isn't known: `grpo-eighth` and `sft-all` have not both been evaluated."
    said = [claim]
    seen = less.get(("sft-all", "text-only"))
    for name, of_what in _JUDGED:
        verdict = f"it {holds(found[name])}: `grpo-eighth` less `sft-all` is {signed(found[name])}."
        if seen is not None and seen[name].low <= 0:
            verdict = (
                f"it isn't put to the test, since `sft-all` itself isn't certainly above what the words alone give "
                f"({signed(seen[name])}); `grpo-eighth` less `sft-all` is {signed(found[name])}."
            )
        said.append(f"Here, in {of_what}, {verdict}")
    said.append(
        f"It counts as holding where the interval reaches no further than {100 * COMES_TO:g} points below 0, a margin "
        "that the paper doesn't name."
    )
    without = [
        (name, less[name, "sft-all"]["types"])
        for name in ("sft-eighth", "sft-eighth-continued")
        if (name, "sft-all") in less
    ]
    if without:
        each = " and ".join(f"`{name}` {signed(cell)}" for name, cell in without)
        said.append(f"Without reinforcement the eighth is from `sft-all`, in accuracy: {each}.")
    tested = seen is None or seen["types"].low > 0
    if tested and comes_to(found["types"]) and any(comes_to(cell) for _, cell in without):
        said.append("So an eighth is enough without reinforcement too, and the headline isn't owed to it.")
    if (own := less.get(("grpo-eighth", "sft-eighth-continued"))) is not None:
        said.append(
            f"Reinforcement itself, against supervision for as long on the same eighth: {signed(own['types'])}, "
            f"V-score {signed(own['v_score'])}."
        )
    took = {each["arm"]: each["seconds_with_start"] / 3600 for each in reversed(visual["cost"])}
    if {"grpo-eighth", "sft-all"} <= set(took):
        said.append(
            f"`grpo-eighth` took {took['grpo-eighth']:.2f} hours, its supervised start included, `sft-all` "
            f"{took['sft-all']:.2f}."
        )
    seeds = min(visual["arms"][name]["seeds"] for name in ("grpo-eighth", "sft-all"))
    trained = "one training of each arm" if seeds == 1 else f"the means of {seeds} trainings of each arm"
    said.append(f"All of this is of {trained}: what further trainings would change isn't in the intervals.")
    return " ".join(said)


def comes_to(less: Cell) -> bool:
    """Return whether a difference is certainly no further below 0 than `COMES_TO`."""
    return bool(less.n and less.low >= -COMES_TO)


def holds(less: Cell) -> str:
    """Return, by a difference from supervision on all, whether the headline holds, to follow "it".

    Examples
    --------
    >>> for low, middle, high in ((0.01, 0.02, 0.03), (-0.01, 0.0, 0.01), (-0.019, -0.01, -0.005)):
    ...     print(holds(Cell(middle, low, high, 9)))
    holds, the eighth being ahead
    holds
    holds, the eighth being a little behind
    >>> for low, middle, high in ((-0.05, -0.01, 0.03), (-0.05, -0.03, -0.01), (-0.05, -0.04, -0.03)):
    ...     print(holds(Cell(middle, low, high, 9)))
    can't be told from these questions
    isn't shown, the eighth being behind by more than 2 points or by less
    doesn't hold
    """
    if not less.n:
        return "can't be told from these questions"
    if comes_to(less):
        if less.low > 0:
            return "holds, the eighth being ahead"
        return "holds, the eighth being a little behind" if less.high < 0 else "holds"
    if less.high < -COMES_TO:
        return "doesn't hold"
    if less.high < 0:
        return f"isn't shown, the eighth being behind by more than {100 * COMES_TO:g} points or by less"
    return "can't be told from these questions"


# -- what it took -----------------------------------------------------------------------------------------------------


def _cost(cost: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what each training took."""
    if not cost:
        yield "No training on visual questions was given."
        return
    lines = []
    for each in cost:
        method = f"GRPO, {each['recipe']}" if each["kind"] == "grpo" else "supervised"
        hours = (f"{each[name] / 3600:.2f}" for name in ("seconds", "seconds_with_start"))
        cells = (method, each["after"] or "–", _share(each["share"]), f"{each['steps']:,}", f"{each['shown']:,}")
        name = f"{each['arm']}, run {each['run']}" if each["run"] else each["arm"]
        made = f"{each['steps'] * each['sequences']:,}"
        lines.append(Line(name, (*cells, made, *hours, "yes" if each["finished"] else "no")))
    heads = ["method", "goes on from", "questions", "steps", "questions shown", "sequences", "hours"]
    note = (
        "Questions: what share of the training questions it learned from; shown: how often one was; sequences: texts "
        "that were learned from, in GRPO several completions of each question. Hours of the clock, short checks on "
        "validation questions included; the last but one column adds those of the arm that it goes on from."
    )
    yield as_table("What each arm took", "arm", [*heads, "hours with that arm's", "finished"], lines, note)
    if missing := [name for name in THREE_WAY if name not in {each["arm"] for each in cost}]:
        yield f"Not trained, or not given: {', '.join(f'`{name}`' for name in missing)}."


def _share(limit: float | None) -> str:
    """Return how many of the questions a limit takes.

    Examples
    --------
    >>> _share(None), _share(0.125), _share(200)
    ('all', '12.5 %', '200')
    """
    if limit is None:
        return "all"
    return f"{100 * limit:g} %" if limit < 1 else f"{limit:,.0f}"
