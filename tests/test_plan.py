from __future__ import annotations

import hashlib
import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medground import taxonomy
from medground.data.absence import HOMES, NEIGHBOURS, certainly_absent, home_of, home_words, shown
from medground.data.plan import Brief, Plan, Quota, make_plan
from medground.data.sharing import share_out
from medground.errors import ConfigError

# -- what is certainly absent -----------------------------------------------------------------------------------------

TRUNK = shown(["liver", "prostate", "lower lobe of the lung", "vertebrae", "aorta"], "CT")


@pytest.mark.parametrize(
    ("entity", "collection", "modality", "absent"),
    [
        ("hippocampus", TRUNK, "CT", True),
        ("subdural hemorrhage", TRUNK, "CT", True),
        ("optic disc", TRUNK, "CT", True),
        ("largest cell nucleus", TRUNK, "CT", True),
        ("spleen", TRUNK, "CT", False),
        ("benign breast tumor", TRUNK, "CT", False),  # a chest slice shows the breast
        ("fetal head", TRUNK, "CT", False),  # who knows
        ("common carotid artery", TRUNK, "CT", False),
        ("skin lesion", TRUNK, "CT", False),  # each slice cuts the skin
        ("lesion", shown(["glioma"], "MRI"), "MRI", False),  # it may be anywhere
        ("spleen", shown(["lung"], "X-ray"), "X-ray", False),  # a chest film shows the upper abdomen
        ("prostate", shown(["lung"], "X-ray"), "X-ray", True),
        ("teeth", shown(["glioma"], "MRI"), "MRI", False),
        ("optic disc", shown(["glioma"], "MRI"), "MRI", False),
        ("liver", shown(["glioma"], "MRI"), "MRI", True),
        ("thalamus", shown(["fetal head"], "ultrasound"), "ultrasound", False),  # the child's own
        ("urinary bladder", shown(["fetal head"], "ultrasound"), "ultrasound", False),  # the mother's
        ("left ventricular cavity", shown(["fetal head"], "ultrasound"), "ultrasound", True),
        ("spleen", shown(["meningioma"], "MRI"), "MRI", False),  # of the spine, perhaps
        ("spleen", shown(["meningioma", "glioma"], "MRI"), "MRI", True),
        ("colon", shown(["colon polyp"], "endoscopy"), "endoscopy", False),
        ("lung", shown(["colon polyp"], "endoscopy"), "endoscopy", True),
        ("kidney", shown(["skin lesion"], "dermoscopy"), "dermoscopy", True),
        ("kidney", shown(["largest cell nucleus"], "microscopy"), "microscopy", True),
        ("malignant breast tumor", shown(["largest cell nucleus"], "microscopy"), "microscopy", False),  # its tissue
        ("foveal avascular zone", shown(["optic disc"], "fundus"), "fundus", False),
    ],
)
def test_certainty(entity: str, collection: frozenset[str], modality: str, absent: bool) -> None:
    assert certainly_absent(entity, collection, modality) is absent


def test_every_entity_but_the_lesion_has_a_home() -> None:
    homeless = [name for name in taxonomy.load_targets() if not home_of(name)]
    assert homeless == ["lesion"]
    assert {part for parts in HOMES.values() for part in parts} <= set(NEIGHBOURS)
    for name in set(taxonomy.load_targets()) - {"lesion"}:
        assert (home_words(name) is None) == (home_of(name) == {"cell"})


def test_no_entity_is_absent_from_its_own_collection() -> None:
    targets = taxonomy.load_targets()
    for name in targets:
        for modality in taxonomy.load_modalities():
            assert not certainly_absent(name, shown([name], modality), modality)


# -- sharing out ------------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 200), min_size=2),
    st.dictionaries(st.sampled_from("uvwxyz"), st.integers(1, 200), min_size=2),
    st.integers(0, 60),
    st.randoms(use_true_random=False),
)
def test_shares_are_dealt_among_allowed_pairs_alone(
    supply: dict[str, int], demand: dict[str, int], total: int, rng: random.Random
) -> None:
    allowed = {(name, where) for name in sorted(supply) for where in sorted(demand) if rng.random() < 0.6}
    preferred = {pair for pair in sorted(allowed) if rng.random() < 0.5}
    dealt = share_out(supply, demand, allowed, preferred, total)
    assert set(dealt) <= allowed
    assert sum(dealt.values()) <= total
    # Whole numbers are dealt as long as any pair's share is open; its share was rounded up.
    assert sum(dealt.values()) == total or not allowed
    turned = {where: demand[where] for where in reversed(demand)}
    assert dealt == share_out(dict(reversed(supply.items())), turned, allowed, preferred, total)


def test_shares_follow_rows_on_both_sides() -> None:
    supply, demand = {"a": 100, "b": 300, "c": 600}, {"x": 500, "y": 250, "z": 250}
    every = {(name, where) for name in supply for where in demand}
    dealt = share_out(supply, demand, every, every, 100)
    for index, rows in ((0, supply), (1, demand)):
        sums: Counter[str] = Counter()
        for pair, number in dealt.items():
            sums[pair[index]] += number
        assert all(abs(sums[name] - 100 * number / 1000) <= 1 for name, number in rows.items()), sums


def test_pairs_of_one_modality_come_first_where_margins_allow() -> None:
    supply = demand = {"a": 100, "b": 100}
    every = {(name, where) for name in supply for where in demand}
    dealt = share_out(supply, demand, every, {("a", "b"), ("b", "a")}, 100)
    assert dealt["a", "b"] + dealt["b", "a"] > 90


# -- the plan ---------------------------------------------------------------------------------------------------------


def briefs(category: str, number: int, *, split: str = "train", source: str = "", modality: str = "CT") -> list[Brief]:
    source = source or category
    return [
        Brief(
            part=index % 3,
            id=f"{split}/{source}/{index}/{category}",
            picture=f"{split}/{source}/{index}",
            category=category,
            name=taxonomy.target_of(category).name,
            modality=modality,
            source=source,
            split=split,
            side="on the patient's left side" if category.endswith("left") else None,
            box=(0.01 * (index % 80), 0.6, 0.01 * (index % 80) + 0.03, 0.7),
            look=hashlib.sha256(f"{split}/{source}/{index}".encode()).digest(),
        )
        for index in range(number)
    ]


def rows_of(plan: Plan, listed: list[Brief], split: str = "") -> Counter[str]:
    by_id = {each.id: each for each in listed}
    found: Counter[str] = Counter()
    for part in plan.questions:
        for name, number in part.items():
            if split in ("", by_id[name].split):
                found[by_id[name].category] += number
    return found


LISTED = [
    *briefs("liver", 300, source="trunk"),
    *briefs("kidney left", 20, source="trunk"),
    *briefs("spleen", 4, source="trunk"),
    *briefs("intraventricular hemorrhage", 60),
    *briefs("glioma", 12, modality="MRI"),
    *briefs("colon polyp", 40, modality="endoscopy"),
    *briefs("liver", 30, source="trunk", split="test"),
    *briefs("glioma", 30, modality="MRI", split="test"),
]


def test_rare_categories_get_more_questions_and_frequent_ones_fewer() -> None:
    plan = make_plan(LISTED, 3, Quota(rows=800, cap=0.3, most=5), 0)
    train = [each for each in LISTED if each.split == "train"]
    rows = rows_of(plan, LISTED, split="train")
    missing = Counter(each.category for part in plan.missing for each in part if each.host.startswith("train"))
    total = sum(number for part in plan.questions for name, number in part.items() if name.startswith("train"))
    train_rows = total + sum(missing.values())
    assert abs(train_rows - 800 * len(train) / len(LISTED)) < 5
    assert (rows["liver"] + missing["liver"]) / train_rows <= 0.3
    assert rows["liver"] < 300
    assert rows["spleen"] == 4 * 5
    assert rows["glioma"] == 12 * 5
    assert rows["kidney left"] == 100
    assert max(number for part in plan.questions for number in part.values()) <= 5
    assert min(number for part in plan.questions for number in part.values()) >= 1


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_tenth_asks_for_what_is_certainly_not_there(seed: int) -> None:
    plan = make_plan(LISTED, 3, Quota(rows=800), seed)
    by_id = {each.id: each for each in LISTED}
    for split in ("train", "test"):
        present = sum(n for part in plan.questions for name, n in part.items() if by_id[name].split == split)
        missing = [each for part in plan.missing for each in part if by_id[each.host].split == split]
        assert 0.08 <= len(missing) / (len(missing) + present) <= 0.12
        assert sorted(each.turn for each in missing) == list(range(len(missing)))
        asked = {each.category for each in LISTED if each.split == split}
        for each in missing:
            host = by_id[each.host]
            parts = shown([other.name for other in LISTED if other.source == host.source], host.modality)
            assert certainly_absent(taxonomy.target_of(each.category).name, parts, host.modality)
            assert each.category in asked
            assert each.home
            assert (each.side is None) == (each.category != "kidney left")
    placed = [(part, each) for part in range(3) for each in plan.missing[part]]
    assert all(by_id[each.host].part == part for part, each in placed)
    pictures = Counter((by_id[each.host].picture, taxonomy.target_of(each.category).name) for _, each in placed)
    assert max(pictures.values()) == 1


def test_the_plan_does_not_depend_on_the_order_of_pictures_in_dicts_and_is_logged() -> None:
    plan, again = make_plan(LISTED, 3, Quota(rows=800), 0), make_plan(list(LISTED), 3, Quota(rows=800), 0)
    assert (plan.questions, plan.missing, plan.log) == (again.questions, again.missing, again.log)
    assert make_plan(LISTED, 3, Quota(rows=800), 1).questions != plan.questions
    log = plan.log["train"]
    assert log["targets"] == 436
    assert log["absent"] == sum(log["absent pairs"].values())
    assert all(" on " in pair for pair in log["absent pairs"])


def test_every_category_is_there_and_rows_default_to_five_for_three_targets() -> None:
    plan = make_plan(LISTED, 3, Quota(cap=1.0), 0)
    assert set(rows_of(plan, LISTED)) == {each.category for each in LISTED}
    total = sum(log["present"] + log["absent"] for log in plan.log.values())
    assert abs(total - len(LISTED) * 5 / 3) < 6
    few = make_plan(LISTED, 3, Quota(rows=20), 0)
    assert set(rows_of(few, LISTED)) == {each.category for each in LISTED}


def test_central_targets_are_left_out_until_the_centre_box_is_worth_no_more_than_chance() -> None:
    central = [replace(each, box=(0.25, 0.25, 0.75, 0.75)) for each in briefs("fetal head", 200, modality="ultrasound")]
    listed = [*briefs("liver", 400), *briefs("spleen", 400), *central]
    chosen = make_plan(listed, 3, Quota(rows=1200, cap=1.0), 0)
    asked = sum(name.endswith("fetal head") for part in chosen.questions for name in part)
    assert 1 <= asked < 60
    every = make_plan(listed, 3, Quota(rows=1200, cap=1.0, centred=False), 0)
    assert sum(name.endswith("fetal head") for part in every.questions for name in part) == 200
    assert chosen.log["train"]["targets left out"] == 200 - asked


def test_a_picture_is_kept_from_splits_that_are_not_to_see_it() -> None:
    test, val, train = (briefs("liver", 40, split=split) for split in ("test", "val", "train"))
    near = bytes([test[3].look[0] ^ 0b111, *test[3].look[1:]])
    val[5] = replace(val[5], look=test[2].look)
    train[7], train[8] = replace(train[7], look=near), replace(train[8], look=val[9].look)
    train[9] = replace(train[9], look=train[10].look)  # within a split it is no leak
    listed = [*test, *val, *train]
    plan = make_plan(listed, 3, Quota(cap=1.0, centred=False), 0)
    asked = {name for part in plan.questions for name in part}
    hosts = {each.host for part in plan.missing for each in part}
    left_out = {val[5].id, train[7].id, train[8].id}
    assert not left_out & (asked | hosts)
    assert {each.id for each in (*test, train[9], train[10])} <= asked
    logged = [log["pictures like another split's, left out"] for _, log in sorted(plan.log.items())]
    assert logged == [[], [f"liver: {each.picture}" for each in (train[7], train[8])], [f"liver: {val[5].picture}"]]
    every = make_plan(listed, 3, Quota(cap=1.0, centred=False, alike=-1), 0)
    assert left_out <= {name for part in every.questions for name in part}


def test_nothing_absent_where_nothing_is_certain() -> None:
    plan = make_plan(briefs("liver", 30), 3, Quota(), 0)
    assert plan.missing == [[], [], []]
    none = make_plan(LISTED, 3, Quota(absent=0.0), 0)
    assert not any(none.missing)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"rows": 0}, "rows 0 isn't a number"),
        ({"cap": 0.0}, "cap 0.0"),
        ({"cap": 1.2}, "cap 1.2"),
        ({"absent": 0.5}, "absent 0.5"),
        ({"absent": -0.1}, "absent -0.1"),
        ({"most": 0}, "most 0"),
    ],
)
def test_quotas_that_cannot_be_met_are_named(settings: dict[str, float], error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        Quota(**settings)  # type: ignore[arg-type]


def test_no_targets_no_plan() -> None:
    with pytest.raises(ConfigError, match="no described targets"):
        make_plan([], 0, Quota(), 0)
