from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medground.coords import Space, written_order
from medground.errors import TruthError
from medground.rewards import umrg
from medground.rewards.truth import Truth
from medground.rewards.umrg_terms import (
    angle,
    area_valid,
    box_align,
    box_iou,
    box_scale,
    exp_shaped,
    log_shaped,
    pdice_paper,
    penalised,
    points_align,
    position_valid,
    spread_valid,
)
from medground.types import Box, Point

# A fifth of the published vectors, each kind of text, validity and term among them; and all, where they are at hand.
OWN = Path(__file__).parent / "data" / "umrg_vectors.jsonl"
ALL = Path(__file__).parents[2] / "shared" / "reference" / "umrg_reward_vectors.jsonl"
TRUTH = {"bbox_2d": [100, 100, 300, 200], "point_2d": [[150, 150], [250, 150]]}
RIGHT = '{"bbox": [100, 100, 300, 200], "points_1": [150, 150], "points_2": [250, 150]}'
THINK = "<think>A bright oval.</think>"
BOX_TERMS = ("bbox_iou", "bbox_align", "bbox_scale", "bbox_position_valid", "bbox_area_valid")
POINT_TERMS = ("points_dice", "points_align", "points_angle", "points_position_valid", "points_spread_valid")


def said(text: str, recipe=umrg.hard, truth=TRUTH) -> dict[str, float]:
    return recipe([text], [umrg.read_truth(truth)])[0]


def total(terms: dict[str, float], weights: dict[str, float]) -> float:
    return sum(weight * terms[name] for name, weight in weights.items())


def answer(bbox="[100, 100, 300, 200]", first="[150, 150]", second="[250, 150]") -> str:
    return f'{THINK}<answer>{{"bbox": {bbox}, "points_1": {first}, "points_2": {second}}}</answer>'


@pytest.fixture(scope="module", params=[OWN, ALL], ids=["own", "all"])
def vectors(request) -> list[dict]:
    if not request.param.exists():
        pytest.skip(f"{request.param.name} isn't here")
    return [json.loads(line) for line in request.param.read_text().splitlines()]


@pytest.mark.parametrize(("recipe", "weights"), [(umrg.soft, umrg.SOFT), (umrg.hard, umrg.HARD)])
def test_every_term_of_the_published_vectors_is_the_same(vectors, recipe, weights):
    truths = [umrg.read_truth(row["ground_truth"]) for row in vectors]
    scored = recipe([row["completion"] for row in vectors], truths)
    assert len(scored) >= 80
    for row, terms in zip(vectors, scored, strict=True):
        published = dict(row[recipe.__name__])
        score = published.pop("score")
        assert terms == pytest.approx(published, abs=1e-9)
        assert total(terms, weights) == pytest.approx(score, abs=1e-9)


def test_the_metrics_of_the_published_vectors_are_the_same(vectors):
    for row in vectors:
        predicted, true = row["prediction"], row["ground_truth"]
        assert box_iou(predicted["bbox"], true["bbox_2d"]) == pytest.approx(row["metrics"]["iou"], abs=1e-7)
        dice = pdice_paper(predicted["points"], true["point_2d"])
        assert dice == pytest.approx(row["metrics"]["pdice"], abs=1e-12)


@pytest.mark.parametrize(
    ("text", "think", "answer", "why"),
    [
        (f"{THINK}<answer>{RIGHT}</answer>", 1, 1, "as asked"),
        (f"{THINK}\n\n<answer>\n{RIGHT}\n</answer>\n", 1, 1, "white space is free"),
        (f"So: {THINK} it is <answer>{RIGHT}</answer>!", 1, 1, "text around the blocks is free"),
        (f"<answer>{RIGHT}</answer>{THINK}", 1, 1, "so is their order"),
        (f"<answer>{RIGHT}</answer>", 0, 1, "no thinking"),
        (f"<think><answer>{RIGHT}</answer>", 0, 1, "thinking isn't closed"),
        (f"</think><think><answer>{RIGHT}</answer>", 0, 1, "closed before it opens"),
        (f"<Think>Oval.</Think><answer>{RIGHT}</answer>", 0, 1, "tags are in small letters"),
        (f"<think></think><answer>{RIGHT}</answer>", 0.2, 1, "empty thinking"),
        (f"<think>\n\t\u2003</think><answer>{RIGHT}</answer>", 0.2, 1, "white space alone"),
        (f"<think> </think>{THINK}<answer>{RIGHT}</answer>", 0.2, 1, "the first block counts"),
        (f"{THINK}{RIGHT}", 1, 0, "no answer block"),
        (f"{THINK}<answer>{RIGHT}", 1, 0, "the answer isn't closed"),
        (f"{THINK}<answer></answer>", 1, 0.2, "empty"),
        (f"{THINK}<answer>{RIGHT[:-3]}</answer>", 1, 0.2, "cut off"),
        (f"{THINK}<answer>```json\n{RIGHT}\n```</answer>", 1, 0.2, "fenced"),
        (f"{THINK}<answer>[{RIGHT}]</answer>", 1, 0.2, "a list"),
        (f"{THINK}<answer>{RIGHT}{RIGHT}</answer>", 1, 0.2, "two objects"),
        (f"{THINK}<answer>no</answer><answer>{RIGHT}</answer>", 1, 0.2, "the first block counts"),
        (f"{THINK}<answer>{{}}</answer>", 1, 0.4, "no key"),
        (f'{THINK}<answer>{{"bbox": [100, 100, 300, 200]}}</answer>', 1, 0.4, "points are missing"),
        (f'{THINK}<answer>{{"points_1": [1, 2], "points_2": [3, 4]}}</answer>', 1, 0.4, "the box is missing"),
        (answer("[1, 2, 3]", "[1]", "[2]"), 1, 0.4, "nothing has the right length"),
        (answer("[1, 2, 3]"), 1, 0.6, "a box of three numbers"),
        (answer("null"), 1, 0.6, "no box"),
        (answer('["100", 100, 300, 200]'), 1, 0.6, "a number in quotes"),
        (answer("[true, 100, 300, 200]"), 1, 0.6, "true isn't a number"),
        (answer("[[100], 100, 300, 200]"), 1, 0.6, "a list in the list"),
        (answer(second="[250]"), 1, 0.6, "a point of one number"),
        (answer(second='{"x": 250, "y": 150}'), 1, 0.6, "a point as an object"),
        (answer("[1e2, 100.0, 3E2, -5]"), 1, 1, "any JSON number will do, also outside the picture"),
        (f"{THINK}<answer>{RIGHT[:-1]}, 'more': 1}}</answer>", 1, 1, "further keys are free"),
        (answer("[100, 100, 300, ٢٠٠]"), 1, 0.2, "digits of other scripts are no JSON"),
        (answer(f"[{'9' * 5000}, 100, 300, 200]"), 1, 0.2, "a number of more digits than Python reads"),
        (f"{THINK}<answer>{'[' * 9999}</answer>", 1, 0.2, "nested too deep"),
        (f"{THINK}<answer>{RIGHT}{' ' * umrg.MAX_ANSWER}</answer>", 1, 0.2, "longer than anything that is decoded"),
        ("", 0, 0, "nothing"),
    ],
)
def test_format(text, think, answer, why):
    terms = said(text)
    assert (
        (terms["format_think"], terms["format_seg"])
        == (think, answer)
        == (
            umrg.format_think(text),
            umrg.format_seg(text),
        )
    ), why
    if answer not in (0.4, 0.6, 1):
        assert not any(terms[name] for name in (*BOX_TERMS, *POINT_TERMS)), why


def test_single_quotes_are_double_quotes():
    right = f"{THINK}<answer>{RIGHT}</answer>"
    assert said(right.replace('"', "'")) == said(right)
    assert total(said(right), umrg.HARD) == 8
    assert total(said(right, umrg.soft), umrg.SOFT) == 4


def test_a_box_earns_without_points_and_points_without_a_box():
    box = said(f'{THINK}<answer>{{"bbox": [100, 100, 300, 200]}}</answer>')
    assert [box[name] for name in BOX_TERMS] == [1] * 5
    assert not any(box[name] for name in POINT_TERMS)
    points = said(f'{THINK}<answer>{{"points_1": [250, 150], "points_2": [150, 150]}}</answer>')
    assert [points[name] for name in POINT_TERMS] == [1] * 5
    assert not any(points[name] for name in BOX_TERMS)


@pytest.mark.parametrize(
    ("bbox", "why"),
    [
        ("[100, 100, 100, 200]", "no width"),
        ("[100, 100, 300, 100]", "no height"),
        ("[300, 100, 100, 200]", "left and right are swapped"),
        ("[300, 200, 100, 100]", "both corners are swapped"),
        ("[NaN, 100, 300, 200]", "not a number"),
        ("[100, 100, Infinity, 200]", "infinite"),
        ("[-1e308, -1e308, 1e308, 1e308]", "the area is beyond floats"),
        (f"[100, 100, 1{'0' * 400}, 200]", "a whole number beyond floats"),
    ],
)
def test_a_box_that_cannot_be_computed_with_scores_nothing_for_the_box_alone(bbox, why):
    terms = said(answer(bbox))
    assert terms["format_seg"] == 1, why
    assert not any(terms[name] for name in BOX_TERMS), why
    assert [terms[name] for name in POINT_TERMS] == [1] * 5, why


@pytest.mark.parametrize("point", ["[NaN, 150]", "[150, -Infinity]", "[1e308, 1e308]", f"[1{'0' * 400}, 150]"])
def test_points_that_cannot_be_computed_with_score_nothing_for_the_points_alone(point):
    terms = said(answer(first=point))
    assert not any(terms[name] for name in POINT_TERMS)
    assert [terms[name] for name in BOX_TERMS] == [1] * 5


def test_two_equal_points_have_no_angle():
    terms = said(answer(first="[200, 150]", second="[200, 150]"))
    assert terms["points_angle"] == 0
    assert terms["points_dice"] == 0.0925  # 0.7 r + 0.3 r (1 + 0.5) / 2 with r = log_shaped(0) = 0.1
    assert terms["points_align"] > 0.9
    # The radii of 1e-5 tell equal circles from none, just: 2 * 3.1e-10 / 1e-5, shaped, is 0.1001.
    truth = TRUTH | {"point_2d": [[200, 150], [200, 150]]}
    assert said(answer(first="[200, 150]", second="[200, 150]"), truth=truth)["points_dice"] == 0.0926


def test_a_circle_of_true_dice_three_quarters_has_full_marks_already():
    """The known fault that `medground` mends."""
    across = math.sqrt(3 / 5)  # a concentric circle of 0.6 the area: 2 * 0.6 / (1 + 0.6) is 0.75
    terms = said(answer(first=f"[{200 - 50 * across}, 150]", second=f"[{200 + 50 * across}, 150]"))
    assert terms["points_dice"] == 1
    assert said(answer(first="[170, 150]", second="[230, 150]"))["points_dice"] < 1  # 0.36 of the area


@pytest.mark.parametrize(
    ("text", "expected", "why"),
    [
        (f"{THINK}<answer>{RIGHT}</answer>", (1, 1, 1, 1, 1), "perfect; 3 as published"),
        (f"{THINK} \n <answer>{RIGHT}</answer>", (1, 1, 1, 1, 1), "white space between"),
        (f"<think></think><answer>{RIGHT}</answer>", (1, 1, 1, 1, 1), "empty thinking"),
        (f"{THINK}<answer>{RIGHT}</answer>\n", (0, 1, 1, 1, 1), "something follows, be it a new line"),
        (f" {THINK}<answer>{RIGHT}</answer>", (0, 1, 1, 1, 1), "something goes before"),
        (f"{THINK}so<answer>{RIGHT}</answer>", (0, 1, 1, 1, 1), "something between"),
        (f"<answer>{RIGHT}</answer>", (0, 1, 1, 1, 1), "no thinking"),
        (RIGHT, (0, 1, 1, 1, 1), "the braces alone"),
        ("<think></think></answer>", (0, 0, 0, 0, 0), "no opening of the answer"),
        ("<think></answer>", (0, 0, 0, 0, 0), "the two ends alone"),
        (f"{THINK}<answer>{{}}{RIGHT}</answer>", (1, 1, 1, 1, 1), "empty braces aren't the first"),
        ("{}" * 99 + RIGHT, (0, 1, 1, 1, 1), "however many"),
        (f"<think>{{a}}</think><answer>{RIGHT}</answer>", (1, 0, 0, 0, 0), "the first braces are in the thinking"),
        (f"{THINK}<answer>{RIGHT}</answer>".replace('"', "'"), (1, 0, 0, 0, 0), "single quotes"),
        (f"{THINK}<answer>{RIGHT[:-1]}</answer>", (1, 0, 0, 0, 0), "no closing brace"),
        (answer("[100, 100, 300]"), (1, 0, 0, 0, 0), "a box of three numbers"),
        (answer(second="[250]"), (1, 0, 1, 1, 0), "a point of one number"),
        (answer('["100", 100, 300, 200]'), (1, 1, 0, 0, 0), "lengths alone count for the format"),
        (answer("[NaN, 100, 300, 200]"), (1, 1, 0, 0, 0), "not a number"),
        (answer("[110, 110, 310, 210]"), (1, 1, 1, 0, 1), "10 px off"),
        (answer("[109, 109, 309, 209]"), (1, 1, 1, 1, 1), "9 px off"),
        (answer("[160, 100, 300, 167]"), (1, 1, 0, 0, 0), "a small box without one of the points"),
        (answer("[100, 100, 300, 149]"), (1, 1, 0, 0, 0), "just below IoU 0.5, the points outside"),
        (answer("[100, 100, 300, 150]"), (1, 1, 1, 0, 1), "201 x 51 of 201 x 101 pixels; points on the edge"),
        (answer(first="[250, 150]", second="[150, 150]"), (1, 1, 1, 1, 1), "the order of the points is free"),
        (answer("[0, 0, 800, 800]", "[150, 249]", "[250, 249]"), (1, 1, 0, 0, 1), "99 px off"),
        (answer("[0, 0, 800, 800]", "[150, 250]", "[250, 250]"), (1, 1, 0, 0, 0), "100 px off"),
    ],
)
def test_base(text, expected, why):
    terms = said(text, umrg.base)
    assert list(terms) == list(umrg.BASE)
    assert tuple(terms.values()) == expected, why


@pytest.mark.parametrize(
    ("bbox", "expected", "why"),
    [
        ("[0, 0, 1, 0]", 0, "2 of 4 pixels: a half isn't above a half"),
        ("[0, 0, 1, 2]", 1, "4 of 6 pixels"),
        ("[0, 0, 2, 1]", 1, "4 of 6 pixels"),
        ("[0, 0, 1, 4]", 0, "4 of 10 pixels"),
        ("[0, 0, 4, 1]", 0, "4 of 10 pixels"),
        ("[3, 0, 4, 1]", 0, "apart"),
        ("[3, 3, 4, 4]", 0, "apart both ways"),
    ],
)
def test_base_counts_whole_pixels(bbox, expected, why):
    terms = said(answer(bbox), umrg.base, {"bbox_2d": [0, 0, 1, 1], "point_2d": [[0, 0], [1, 1]]})
    assert terms["bbox_iou"] == expected, why


def test_the_area_is_strictly_between_half_and_twice():
    true = (0, 0, 10, 10)
    assert [area_valid((0, 0, 10, height), true) for height in (5, 5.1, 19.9, 20)] == [0.5, 1, 1, 0.5]


def test_a_box_almost_without_height_has_its_own_scale():
    hair = (0, 0, 840, 5e-324)  # w / h is beyond floats
    assert box_scale(hair, hair) == 0
    assert box_scale(hair, (0, 0, 840, 1)) == box_scale((0, 0, 840, 1), hair) == 1


def test_the_union_of_small_boxes_is_one_hundred_thousandth_larger():
    assert box_iou((0, 0, 0.001, 0.001), (0, 0, 0.001, 0.001)) == pytest.approx(1e-6 / 1.1e-5)


@pytest.mark.parametrize(
    ("radius", "true_radius", "apart", "expected"),
    [
        (258.9, 201, 57.899999999999984, 2 * (201 / 258.9) ** 2),  # touching from inside: a cosine of 1 + 2e-16
        (338.4943, 157, 495.49429999999984, 0),  # touching from outside: an area of -0.002 by rounding
    ],
)
def test_touching_circles_do_not_fail_by_rounding(radius, true_radius, apart, expected):
    dice = pdice_paper([(0, -radius), (0, radius)], [(apart, -true_radius), (apart, true_radius)])
    assert dice == pytest.approx(expected, abs=1e-6)
    assert dice >= 0


def test_shaping_has_its_ends():
    assert (log_shaped(0), log_shaped(1)) == (pytest.approx(0.1), pytest.approx(1))
    for c in (0.5, 1):
        assert (exp_shaped(0, c=c), exp_shaped(2, c=c)) == (pytest.approx(1), pytest.approx(0.1))
    assert (penalised(2, 1, 1), penalised(math.nan, 1, 1), penalised(-1, 1, 1)) == (1, 0, 0)


sides = st.integers(0, 840)
points = st.tuples(sides, sides)
pairs = st.tuples(points, points)
boxes = st.tuples(sides, sides, sides, sides).filter(lambda b: b[0] < b[2] and b[1] < b[3])


@given(boxes, boxes, pairs, pairs)
def test_terms_are_the_same_from_both_ends_of_a_line(box, true, pair, true_pair):
    for term in (pdice_paper, angle):
        assert term(pair, true_pair) == pytest.approx(term(pair[::-1], true_pair), abs=1e-9)
        assert term(pair, true_pair) == pytest.approx(term(true_pair, pair), abs=1e-9)
    assert points_align(pair, true_pair, true) == points_align(pair[::-1], true_pair, true)
    assert box_iou(box, true) == box_iou(true, box)
    assert box_scale(box, true) == pytest.approx(box_scale(true, box))
    assert position_valid(pair, box) == position_valid(pair[::-1], box)
    assert spread_valid(pair) == spread_valid(pair[::-1])


@given(boxes, boxes, pairs, pairs)
def test_measures_keep_their_ranges(box, true, pair, true_pair):
    assert 0 <= box_iou(box, true) <= 1
    assert 0 <= box_align(box, true) <= 2
    assert 0 <= box_scale(box, true) <= 1
    assert 0 <= pdice_paper(pair, true_pair) <= 2
    assert 0 <= points_align(pair, true_pair, true) <= 2
    assert 0 <= (angle(pair, true_pair) or 0) <= 1
    assert {position_valid(pair, box), area_valid(box, true), spread_valid(pair)} <= {1, 0.5, 0.25}


@given(pairs, pairs)
def test_circles_overlap_as_polygons_of_many_sides_do(pair, true_pair):
    shapely = pytest.importorskip("shapely")

    def circle(ends):
        (ax, ay), (bx, by) = ends
        return shapely.Point((ax + bx) / 2, (ay + by) / 2).buffer(math.dist(*ends) / 2, quad_segs=256)

    one, other = circle(pair), circle(true_pair)
    expected = 2 * one.intersection(other).area / (one.union(other).area + 1e-5)
    assert pdice_paper(pair, true_pair) == pytest.approx(expected, abs=1e-3)


@given(boxes, pairs, st.sampled_from([umrg.soft, umrg.hard]))
def test_the_truth_itself_has_full_marks_but_for_what_the_paper_takes_off(box, pair, recipe):
    """Validities below 1 take off even from the truth, where its points are near each other or outside its box."""
    truth = {"bbox_2d": list(box), "point_2d": [list(point) for point in pair]}
    text = answer(str(list(box)), str(list(pair[0])), str(list(pair[1])))
    terms = said(text, recipe, truth)
    weights = umrg.SOFT if recipe is umrg.soft else umrg.HARD
    inside = position_valid(pair, box) == 1
    assert terms["bbox_iou"] == (1 if inside else pytest.approx(0.925, abs=0.08))
    if inside and spread_valid(pair) == 1:
        assert total(terms, weights) == pytest.approx(sum(weights.values()), abs=1e-3)


@given(boxes, pairs, boxes, pairs, st.sampled_from(["xy", "yx"]))
def test_the_ruler_of_the_numbers_does_not_matter(box, pair, true, true_pair, order):
    truth = {"bbox_2d": list(true), "point_2d": [list(point) for point in true_pair]}
    text = answer(str(list(box)), str(list(pair[0])), str(list(pair[1])))
    ruler = Space("half and quarter pixels", 1680, 3360, order)  # powers of two, so that nothing is rounded

    def written(values):
        return str(written_order([value * (4 if index % 2 else 2) for index, value in enumerate(values)], ruler))

    there = answer(written(box), written(pair[0]), written(pair[1]))
    for recipe in (umrg.soft, umrg.hard, umrg.base):
        assert recipe([there], [umrg.read_truth(truth).to(ruler)])[0] == said(text, recipe, truth)


def test_a_picture_of_another_size_is_brought_to_the_frame_of_the_paper():
    """So 10 px and 100 px mean the same share of every picture."""
    small = Space.pixels(420, 210)
    truth = Truth(small, Box(50, 25, 150, 50, small), (Point(75, 37.5, small), Point(125, 37.5, small)))
    half = f"{THINK}<answer>" + '{"bbox": [50, 25, 150, 50], "points_1": [75, 37.5], "points_2": [81, 37.5]}</answer>'
    full = answer(first="[150, 150]", second="[162, 150]")
    assert umrg.hard([half], [truth])[0] == said(full)
    assert said(full)["points_spread_valid"] == 1  # 6 px of the small picture are 12 of the paper's
    assert umrg.base([half], [truth])[0] == said(full, umrg.base)


@pytest.mark.parametrize("recipe", [umrg.soft, umrg.hard, umrg.base])
@pytest.mark.parametrize(
    ("truth", "message"),
    [
        ({"absent": True}, "truth of row 7, absent: the umrg recipes need a target"),
        ({"bbox_2d": [1, 2, 3, 4]}, r"truth of row 7, point_2d: the umrg recipes need two key points"),
    ],
)
def test_a_truth_without_box_or_points_is_refused(recipe, truth, message):
    with pytest.raises(TruthError, match=message):
        umrg.read_truth(truth, 7)
    from medground.rewards.truth import read_truth

    with pytest.raises(TruthError, match=message.replace("7", "1")):
        recipe([RIGHT, RIGHT], [umrg.read_truth(TRUTH), read_truth(truth)])


def test_a_truth_beyond_floats_is_refused():
    space = Space.pixels(840, 840)
    truth = Truth(space, Box(0, 0, 1e200, 1e200, space), (Point(1, 1, space), Point(2, 2, space)))
    with pytest.raises(TruthError, match="row 0: a number is beyond"):
        umrg.hard([RIGHT], [truth])


def test_completions_and_truths_come_in_equal_numbers():
    with pytest.raises(ValueError, match="shorter"):
        umrg.hard([RIGHT, RIGHT], [umrg.read_truth(TRUTH)])
