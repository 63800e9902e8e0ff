"""A part of a data set for experiments with few labels, and the rest."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medground.data.part import chosen_part, write_part
from medground.data.rows import Picture, Row
from medground.data.schema import read_rows, write_rows
from medground.errors import ConfigError

pytest.importorskip("pyarrow")


def row(number: int, source: str = "a", group: str = "", picture: str = "a.png", split: str = "train") -> Row:
    given = {"question": "Where is it?", "box": None, "image_size": (9, 9)}
    return Row.model_validate(
        {"id": f"{number}", "image": {"path": picture}, "source": source, "group": group, "split": split, **given}
    )


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 6)), min_size=1, max_size=40),
    share=st.sampled_from([1 / 8, 0.25, 0.5]),
    seed=st.integers(0, 3),
    shuffle=st.randoms(use_true_random=False),
)
def test_a_part_has_its_share_of_each_source_and_whole_patients(sizes, share, seed, shuffle) -> None:
    numbers = itertools.count()
    rows = [
        row(next(numbers), source, f"patient {patient}", f"{patient}/{at % 3}.png")
        for patient, (source, count) in enumerate(sizes)
        for at in range(count)
    ]
    part = chosen_part(rows, share, seed=seed)
    for source in {each.source for each in rows}:
        own = [each for each in rows if each.source == source]
        patients = {each.group for each in own}
        taken = [each for each in own if each.id in part]
        by_patient = len(patients) >= 1 / share
        units = [each.group if by_patient else each.image.path for each in own]
        biggest = max(units.count(unit) for unit in units)
        assert share * len(own) <= len(taken) < share * len(own) + biggest
        for unit in set(units):
            inside = {each.id in part for each, of in zip(own, units, strict=True) if of == unit}
            assert len(inside) == 1
    mixed = list(rows)
    shuffle.shuffle(mixed)
    assert chosen_part(mixed, share, seed=seed) == part


def test_another_seed_takes_other_patients() -> None:
    rows = [row(at, group=f"patient {at}") for at in range(64)]
    parts = [chosen_part(rows, 1 / 8, seed=seed) for seed in range(3)]
    assert [len(part) for part in parts] == [8, 8, 8]
    assert parts[0] != parts[1] != parts[2]


def test_rows_of_no_known_patient_are_taken_apart_by_pictures() -> None:
    rows = [row(at, picture=f"{at // 2}.png") for at in range(32)]
    part = chosen_part(rows, 1 / 4)
    assert len(part) == 8
    assert all((str(int(name) ^ 1)) in part for name in part)


def test_both_files_hold_the_training_rows_and_find_their_pictures(tmp_path: Path) -> None:
    rows = [row(at, group=f"patient {at}", picture=f"images/{at}.png") for at in range(16)]
    write_rows([*rows, row(99, split="test")], tmp_path / "all.parquet")
    assert write_part(tmp_path / "all.parquet", tmp_path / "parts", 1 / 8) == (2, 14)
    part, rest = (list(read_rows(tmp_path / "parts" / f"{name}.parquet")) for name in ("part", "rest"))
    assert {each.id for each in part} == chosen_part(rows, 1 / 8)
    assert {each.id for each in (*part, *rest)} == {each.id for each in rows}
    assert part[0].image == Picture(path=f"../images/{part[0].id}.png")


@pytest.mark.parametrize("share", [0, 1, -0.5, 2])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="share of a part"):
        chosen_part([], share)


def test_too_few_rows_are_refused(tmp_path: Path) -> None:
    write_rows([row(0)], tmp_path / "all.parquet")
    with pytest.raises(ConfigError, match="too few training rows"):
        write_part(tmp_path / "all.parquet", tmp_path / "parts", 1 / 8)
