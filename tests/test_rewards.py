"""The public door: score, score_batch, recipes, and truths as users write them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from medground.coords import Space
from medground.errors import ConfigError, TruthError
from medground.masks import encode_rle
from medground.rewards import RECIPES, Facts, Recipe, Truth, load_recipe, read_truth, score, score_batch
from medground.types import Box, Point, Sample

ROW = {"bbox_2d": [100, 100, 300, 200], "point_2d": [[150, 150], [250, 150]]}
ANSWER = '{"bbox": [100, 100, 300, 200], "points_1": [150, 150], "points_2": [250, 150]}'
GOOD = f"<think>A pale band.</think><answer>{ANSWER}</answer>"
GROUNDING = ["medground", "umrg-base", "umrg-soft", "umrg-hard"]

WRONG = [
    ({}, "bbox_2d", "missing"),
    ({"bbox_2d": None}, "bbox_2d", "missing"),
    ({"bbox_2d": [1, 2, 3]}, "bbox_2d", "four"),
    ({"bbox_2d": "1 2 3 4"}, "bbox_2d", "four"),
    ({"bbox_2d": [1, 2, 3, "4"]}, "bbox_2d", "finite"),
    ({"bbox_2d": [1, 2, 3, True]}, "bbox_2d", "finite"),
    ({"bbox_2d": [1, 2, 3, float("nan")]}, "bbox_2d", "finite"),
    ({"bbox_2d": [1, 2, 3, float("inf")]}, "bbox_2d", "finite"),
    ({"bbox_2d": [1, 2, 3, 10**400]}, "bbox_2d", "finite"),
    ({"bbox_2d": [1, 2, 1, 4]}, "bbox_2d", "no area"),
    ({"bbox_2d": [3, 2, 1, 4]}, "bbox_2d", "swapped"),
    ({"bbox_2d": [-1, 2, 3, 4]}, "bbox_2d", "outside"),
    ({"bbox_2d": [0, 0, 841, 840]}, "bbox_2d", "image_size"),
    ({**ROW, "image_size": [250, 250]}, "bbox_2d", "outside"),
    ({**ROW, "image_size": [250]}, "image_size", "positive"),
    ({**ROW, "image_size": [0, 250]}, "image_size", "positive"),
    ({**ROW, "coordinates": "0-1"}, "bbox_2d", "0-1"),
    ({**ROW, "coordinates": "furlongs"}, "coordinates", "furlongs"),
    ({**ROW, "coordinates": 7}, "coordinates", "7"),
    ({**ROW, "point_2d": [[150, 150]]}, "point_2d", "expected"),
    ({**ROW, "point_2d": [[150, 150], [250]]}, "point_2d", "finite"),
    ({**ROW, "point_2d": [[150, 150], [250, None]]}, "point_2d", "finite"),
    ({**ROW, "point_2d": [[150, 150], [850, 150]]}, "point_2d", "outside"),
    ({**ROW, "absent": True}, "bbox_2d", "absent"),
    ({**ROW, "absent": "no"}, "absent", "true or false"),
    ({**ROW, "mode": "think"}, "mode", "direct"),
    ({**ROW, "mask": {"size": [2, 2]}}, "mask", "counts"),
    ({**ROW, "mask": encode_rle(np.zeros((4, 4), bool))}, "mask", "empty"),
    ({**ROW, "facts": {"mood": ["good"]}}, "facts", "mood"),
    ({**ROW, "image": 3}, "image", "path"),
    ({"absent": True, "image": 3}, "image", "path"),
    ({**ROW, "facts": {"size": ["smal"]}}, "facts", "facts: field 'size': unknown word"),
    ({**ROW, "mask": np.ones((4, 4), bool)}, "mask", "encode_rle"),
    ({"bbox_2d": np.ones((2, 4))}, "bbox_2d", "four"),
    ({"bbox_2d": [np.complex64(1), 2, 3, 4]}, "bbox_2d", "finite"),
    ({"bbox_2d": [1, 2, 3, np.float32("nan")]}, "bbox_2d", "finite"),
    ({"bbox_2d": [1, 2, 3, np.longdouble(4)]}, "bbox_2d", "finite"),
    ({**ROW, "box": [1, 2, 3, 4]}, "box", "unknown"),
    ("{", "", "JSON"),
    ("[1, 2]", "", "expected"),
    (None, "", "NoneType"),
    ([1, 2, 3, 4], "", "list"),
]


@pytest.mark.parametrize("recipe", GROUNDING)
@pytest.mark.parametrize(("row", "field", "word"), WRONG)
def test_a_wrong_truth_is_the_datas_fault(row: object, field: str, word: str, recipe: str) -> None:
    with pytest.raises(TruthError, match=word) as caught:
        score_batch([GOOD, GOOD], [ROW, row], recipe)
    assert str(caught.value).startswith(f"truth of row 1, {field}:" if field else "truth of row 1:")
    with pytest.raises(TruthError) as caught:
        score(GOOD, row, recipe)
    assert "row" not in str(caught.value).split(":")[0]


def test_truths_may_be_dicts_json_or_ours() -> None:
    space = Space.pixels(840, 840)
    box, points = Box(100, 100, 300, 200, space), (Point(150, 150, space), Point(250, 150, space))
    forms = [ROW, json.dumps(ROW), Truth(space, box, points), Sample("1", "no.png", "Where?", box, points)]
    for recipe in GROUNDING:
        scores = score_batch([GOOD] * len(forms), forms, recipe)
        assert all(each == scores[0] for each in scores)
        assert scores[0] == score(GOOD, ROW, recipe)


@pytest.mark.parametrize("recipe", GROUNDING)
def test_truths_may_hold_what_tables_hand_out(recipe: str) -> None:
    box, points = np.array(ROW["bbox_2d"]), np.array(ROW["point_2d"], np.float32)
    rows = [
        {"bbox_2d": box, "point_2d": points, "image_size": np.array([840, 840]), "absent": np.bool_(False)},
        {"bbox_2d": list(box), "point_2d": np.array([*points, None], object)[:2], "mode": None, "coordinates": None},
        {"bbox_2d": tuple(box), "point_2d": list(points), "absent": None, "image": Path("none.png"), "facts": None},
    ]
    for row in rows:
        assert score(GOOD, row, recipe) == score(GOOD, ROW, recipe)
        json.dumps(read_truth(row).to_dict())


def test_facts_may_hold_what_tables_hand_out() -> None:
    facts = read_truth({**ROW, "facts": {"size": np.array(["small"]), "shape": None}}).facts
    assert facts.accepted == {"size": {"small"}}
    assert read_truth({"bbox_2d": [1, 2, 3, 4], "point_2d": np.array([])}).points == ()


@pytest.mark.parametrize("recipe", ["umrg-soft", "umrg-hard", "medground"])
def test_the_completions_ruler_may_differ_from_the_truths(recipe: str) -> None:
    row = {"bbox_2d": [84, 84, 252, 168], "point_2d": [[126, 126], [210, 126]]}
    assert score(GOOD, row, recipe, space=Space.norm1000())["bbox_iou" if "umrg" in recipe else "box"] == pytest.approx(
        1
    )
    y_first = '{"bbox": [100, 100, 200, 300], "points_1": [150, 150], "points_2": [150, 250]}'
    swapped = f"<think>A pale band.</think><answer>{y_first}</answer>"
    assert score(swapped, row, "medground", space=Space.norm1000("yx"))["score"] == 1
    assert score(swapped, row, "medground", space=Space.norm1000())["score"] < 0.9


def test_a_truth_survives_its_dict() -> None:
    mask = np.zeros((200, 300), bool)
    mask[20:60, 30:80] = True
    truth = Truth.from_mask(mask, mask * 200.0, mode="direct")
    for space in (truth.space, Space.norm1000(), Space.norm1000("yx"), Space.unit()):
        once = truth.to(space)
        again = read_truth(json.loads(json.dumps(once.to_dict())))
        assert (again.space, again.box, again.points, again.mode) == (once.space, once.box, once.points, once.mode)
        assert again.facts.accepted == once.facts.accepted
        assert again.picture == truth.space
    assert read_truth(Truth(Space.norm1000()).to_dict()).absent


def test_facts_are_measured_from_a_mask() -> None:
    mask = np.zeros((840, 840), bool)
    mask[100:200, 100:300] = True
    truth = read_truth({**ROW, "mask": encode_rle(mask)})
    assert truth.facts.accepted.keys() >= {"place", "size", "shape", "parts"}
    assert "brightness" not in truth.facts.accepted
    given = read_truth({**ROW, "mask": encode_rle(mask), "facts": {"size": ["large"]}})
    assert given.facts.accepted == Facts.read({"size": ["large"]}).accepted


def test_recipes_are_found_by_name_or_path() -> None:
    assert set(RECIPES) == {*GROUNDING, "thinkvg"}
    assert all(load_recipe(name).name == name for name in RECIPES)
    own = RECIPES["medground"].reweighted(box=10)
    assert load_recipe(own) is own
    with pytest.raises(ConfigError, match="umrg-soft"):
        load_recipe("umrg")
    with pytest.raises(ConfigError, match="nowhere"):
        load_recipe("nowhere.to:be_found")
    for name in ("", ":x", ".x", ".a.b", "a:", "a b:c"):
        with pytest.raises(ConfigError, match="umrg-soft"):
            load_recipe(name)
    with pytest.raises(ConfigError, match="NoneType"):
        load_recipe(None)
    with pytest.raises(ConfigError, match="no_such"):
        load_recipe("medground.rewards:no_such")
    with pytest.raises(ConfigError, match="not a medground"):
        load_recipe("medground.rewards:score")


def test_weights_are_open() -> None:
    recipe = RECIPES["medground"]
    poor = score(GOOD.replace("300", "700"), ROW)
    assert score(GOOD.replace("300", "700"), ROW, recipe.reweighted(box=100))["score"] < poor["score"]
    blind = score(GOOD.replace("300", "700"), ROW, recipe.reweighted(box=0))
    assert blind["score"] == 1
    assert blind["box"] == poor["box"], "reported all the same"
    with pytest.raises(ConfigError, match="beauty"):
        recipe.reweighted(beauty=1)
    with pytest.raises(ConfigError, match="from 0 on"):
        recipe.reweighted(box=-1)
    for weight in ("3", None, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="numbers from 0 on"):
            recipe.reweighted(box=weight)
    with pytest.raises(ConfigError, match="all weights are 0"):
        recipe.reweighted(**dict.fromkeys(recipe.weights, 0))
    with pytest.raises(TypeError):
        recipe.weights["box"] = 5


def test_an_own_recipe_is_used() -> None:
    def terms(completions: list[str], truths: list[str]) -> list[dict[str, float]]:
        return [{"same": float(one == other), "seen": 0.5} for one, other in zip(completions, truths, strict=True)]

    recipe = Recipe("own", {"same": 1.0}, terms, lambda value, row: value)
    assert score("a", "a", recipe) == {"same": 1.0, "seen": 0.5, "score": 1.0}
    assert score("a", "b", recipe)["score"] == 0.0


def test_as_many_truths_as_completions() -> None:
    assert score_batch([], []) == []
    with pytest.raises(TruthError, match="2 completions"):
        score_batch([GOOD, GOOD], [ROW])


@pytest.mark.parametrize("recipe", GROUNDING)
@pytest.mark.parametrize("text", [None, GOOD.encode(), 7, [{"role": "assistant", "content": GOOD}]])
def test_what_is_no_text_is_the_callers_fault(text: object, recipe: str) -> None:
    with pytest.raises(ConfigError, match=rf"^completion of row 1: .* not {type(text).__name__};"):
        score_batch([GOOD, text], [ROW, ROW], recipe)
    with pytest.raises(ConfigError, match=r"^completion: "):
        score(text, ROW, recipe)


def test_wrong_arguments_are_told() -> None:
    for completions, truths in ((GOOD, [ROW]), ([GOOD], ROW), ([GOOD], json.dumps(ROW))):
        with pytest.raises(ConfigError, match="use score"):
            score_batch(completions, truths)
    with pytest.raises(ConfigError, match=r"Space.norm1000\(\), not '0-1000'"):
        score(GOOD, ROW, space="0-1000")


@pytest.mark.parametrize("recipe", ["umrg-base", "umrg-soft", "umrg-hard"])
def test_the_papers_recipes_know_no_absent_targets(recipe: str) -> None:
    with pytest.raises(TruthError, match="absent"):
        score(GOOD, {"absent": True}, recipe)


def test_scoring_needs_no_torch() -> None:
    code = (
        "import sys; from medground.rewards import score\n"
        f"score({GOOD!r}, {ROW!r}); score({GOOD!r}, {ROW!r}, 'umrg-hard')\n"
        "assert not {'torch', 'transformers', 'openai', 'datasets', 'trl'} & set(sys.modules), 'a heavy import'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
