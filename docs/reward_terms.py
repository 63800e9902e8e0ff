"""What docs/rewards.md says of each term: its function, plot, table, and the tests that try to hack it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import docstrings
import reward_tables as tables
from reward_scene import PRESENT, SPACE, WHOLE, base, hard, moved
from reward_tables import number

from medground.rewards import umrg, umrg_terms
from medground.rewards.box import box
from medground.rewards.evidence import evidence, honesty
from medground.rewards.grounding import medground_recipe
from medground.rewards.guards import length, repetition
from medground.rewards.layout import layout
from medground.rewards.mask import mask
from medground.rewards.points import points_dice, points_inside
from medground.rewards.thinkvg import consistency, grounding, layout_kept, semantic

__all__ = ["GROUNDING", "PAPER", "THINKVG", "Term"]

_GROUNDING, _MASK, _EVIDENCE = "test_rewards_grounding.py", "test_rewards_mask.py", "test_rewards_evidence.py"
_UMRG, _THINKVG, _JUDGES = "test_rewards_umrg.py", "test_rewards_thinkvg.py", "test_judges.py"


@dataclass(frozen=True)
class Term:
    """One section of the page.

    Parameters
    ----------
    heading : str
        The term's name, behind its recipe's where another recipe has a term of the name.
    function : callable
        What computes it; its docstring is the section's text.
    tests : tuple of str
        ``file::test`` of the tests that show what hacking it earns.
    plot : str or None
        One of `reward_plots.plots`.
    below : callable or None
        Returns a table.
    text, hacking, source : str or None
        Where the docstring doesn't say it, as where the function isn't of this term alone.
    worth : str or None
        How the term is made of what `function` measures.
    """

    heading: str
    function: Callable[..., Any]
    tests: tuple[str, ...] = ()
    plot: str | None = None
    below: Callable[[], str] | None = None
    text: str | None = None
    hacking: str | None = None
    source: str | None = None
    worth: str | None = None


GROUNDING = (
    Term(
        "format",
        layout,
        (f"{_GROUNDING}::test_several_answers_are_none", f"{_GROUNDING}::test_text_outside_the_blocks_costs"),
        below=tables.layouts,
    ),
    Term(
        "absence",
        medground_recipe,
        (
            f"{_GROUNDING}::test_always_answering_absent_does_not_pay",
            f"{_GROUNDING}::test_never_answering_absent_does_not_pay",
        ),
        below=tables.absences,
        text=docstrings.notes(medground_recipe),
    ),
    Term("box", box, (f"{_GROUNDING}::test_a_box_around_the_whole_picture_does_not_pay",), plot="box"),
    Term("points_dice", points_dice, (f"{_GROUNDING}::test_one_place_twice_does_not_pay",), plot="points_dice"),
    Term(
        "points_inside",
        points_inside,
        (f"{_GROUNDING}::test_the_middle_of_a_ring_is_not_inside",),
        plot="points_inside",
    ),
    Term("mask", mask, (f"{_MASK}::test_a_box_that_the_expert_prefers_earns_no_more",), plot="mask"),
    Term(
        "evidence",
        evidence,
        tuple(
            f"{_EVIDENCE}::test_{hack}"
            for hack in (
                "listing_every_word_does_not_pay",
                "repeating_a_claim_does_not_pay",
                "saying_one_facet_in_many_ways_does_not_pay",
                "hedging_does_not_pay",
                "tossing_a_coin_for_the_side_does_not_pay",
                "describing_a_neighbour_does_not_pay",
                "a_constant_account_of_real_targets_does_not_pay",
                "silence_earns_nothing",
            )
        ),
        plot="evidence",
        below=tables.words,
        hacking="Every word there is, so that the true ones are among them: a facet is false as soon as one claim "
        "about it is. One true claim many times, or in many ways: a facet counts once. Words that commit to nothing "
        "(perhaps, or), or that speak of something else: they are no claims. The same account of each picture: it is "
        "right too seldom over many kinds of target. In a set of one kind alone it may be right often enough, and the "
        "term then pays for what is usual; look at its mean over answers that say the same of every picture.",
    ),
    Term(
        "honesty",
        honesty,
        (f"{_EVIDENCE}::test_silence_earns_nothing", f"{_EVIDENCE}::test_a_false_claim_costs_more_than_silence"),
        plot="honesty",
        hacking="Saying nothing that can be checked. It has full marks here and earns no evidence; where no facts are "
        "known, that is the most that can be asked.",
    ),
    Term("length", length, (f"{_GROUNDING}::test_endless_answers_cost",), plot="length"),
    Term("repetition", repetition, (f"{_GROUNDING}::test_copies_of_a_sentence_cost",), plot="repetition"),
)
"""The terms of ``medground``."""


def _paper() -> tuple[Term, ...]:
    whole = hard(bbox=list(WHOLE.xyxy))
    beside = hard(bbox=list(moved(170).xyxy))
    corner = hard(bbox=[0, 0, 160, 120])
    (ax, ay), (bx, by) = (point.xy for point in PRESENT.points)
    middle = [(ax + bx) / 2, (ay + by) / 2]
    once = hard(points_1=middle, points_2=middle)
    wide = hard(points_1=[ax - 40 * (2**0.5 - 1), ay], points_2=[bx + 40 * (2**0.5 - 1), by])
    passing = base(bbox=list(moved(50).xyxy), points_1=middle, points_2=middle)
    away = hard(points_1=[0, 0], points_2=[20, 0])
    share = PRESENT.box.area / (SPACE.width * SPACE.height) if PRESENT.box else 0.0
    target = f"a target of {100 * share:.1f} % of the picture"
    return (
        Term(
            "umrg format_think",
            umrg.format_think,
            below=tables.thoughts,
            hacking="One full stop as the reasoning: nobody reads what it says.",
        ),
        Term(
            "umrg format_seg",
            umrg.format_seg,
            below=tables.answers,
            hacking="Any four numbers and two pairs, outside the picture too.",
        ),
        Term(
            "umrg bbox_iou",
            umrg_terms.box_iou,
            plot="umrg-bbox_iou",
            worth="penalised(log_shaped(box_iou), position, area)",
            hacking=f"Any box: one that misses has {number(corner['bbox_iou'])} wherever it lies, so nothing leads it "
            f"to the target, and one around the whole picture has {number(whole['bbox_iou'])} for {target}.",
        ),
        Term(
            "umrg bbox_align",
            umrg_terms.box_align,
            plot="umrg-bbox_align",
            worth="penalised(exp_shaped(box_align), position, area)",
            hacking=f"A box that only lies near: one beside the target, of which it holds no pixel, has "
            f"{number(beside['bbox_align'])}.",
        ),
        Term(
            "umrg bbox_scale",
            umrg_terms.box_scale,
            plot="umrg-bbox_scale",
            worth="penalised(exp_shaped(box_scale, c=0.5), position, area)",
            hacking=f"A box of the usual size anywhere: in the picture's corner, off the target, it has "
            f"{number(corner['bbox_scale'])}.",
        ),
        Term(
            "umrg points_dice",
            umrg_terms.pdice_paper,
            (f"{_UMRG}::test_a_circle_of_true_dice_three_quarters_has_full_marks_already",),
            plot="umrg-points_dice",
            worth="penalised(log_shaped(pdice_paper), position, spread)",
            hacking=f"A circle that is too large covers more truths: with twice the true area it has "
            f"{number(wide['points_dice'])}.",
        ),
        Term(
            "umrg points_align",
            umrg_terms.points_align,
            plot="umrg-points_align",
            worth="penalised(exp_shaped(points_align), position, spread)",
            hacking=f"Both points on the one place that is surest to be inside: in the target's middle they have "
            f"{number(once['points_align'])}.",
        ),
        Term(
            "umrg points_angle",
            umrg_terms.angle,
            plot="umrg-points_angle",
            worth="penalised(log_shaped(angle), position, spread)",
            hacking=f"The usual direction anywhere: two points in the picture's corner, off the target, have "
            f"{number(away['points_angle'])}.",
        ),
        Term(
            "umrg base terms",
            umrg.base,
            plot="umrg-base",
            hacking=f"What just passes is worth as much as the truth: a box moved by 50 px has `bbox_iou` "
            f"{number(passing['bbox_iou'])}, and both points in the target's middle have `points_align` "
            f"{number(passing['points_align'])}. What just fails is told nothing of how near it came.",
        ),
    )


PAPER = _paper()
"""The terms of ``umrg-soft`` and ``umrg-hard``, and those of ``umrg-base`` together."""

PAPER_TEST = f"{_UMRG}::test_every_term_of_the_published_vectors_is_the_same"
"""What holds the paper's terms to the paper, faults included."""

_PAPER = "GEMeX-ThinkVG, arXiv 2506.17939"

THINKVG = (
    Term(
        "thinkvg semantic",
        semantic,
        (
            f"{_JUDGES}::test_answering_every_letter_does_not_pay",
            f"{_JUDGES}::test_pasting_the_vocabulary_does_not_pay",
            f"{_JUDGES}::test_repeating_the_question_does_not_pay",
            f"{_JUDGES}::test_an_answer_cannot_leave_its_delimiters",
        ),
        below=tables.verdicts,
        source=_PAPER,
    ),
    Term(
        "thinkvg grounding",
        grounding,
        (f"{_THINKVG}::test_extra_boxes_do_not_pay",),
        plot="thinkvg-grounding",
        source=_PAPER,
    ),
    Term("thinkvg format", layout_kept, (f"{_THINKVG}::test_what_a_completion_earns",), below=tables.responses),
    Term(
        "thinkvg consistency",
        consistency,
        (f"{_THINKVG}::test_spraying_region_mentions_does_not_pay",),
        plot="thinkvg-consistency",
    ),
)
"""The terms of ``thinkvg``."""
