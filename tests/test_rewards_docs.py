"""docs/rewards.md says what the code says: its text, its numbers, what its plots show, and the tests that it names."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from medground.rewards import RECIPES, score

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "rewards.md").read_text(encoding="utf-8")
IMAGES = ROOT / "docs" / "images" / "rewards"
SHOWN = re.findall(r"\]\(images/rewards/([^)]+)\.svg\)", PAGE)
TRUTH = {"bbox_2d": [100, 100, 300, 200], "point_2d": [[150, 150], [250, 150]]}


def script(name: str) -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "docs"))  # as a script finds its neighbours
        return importlib.import_module(name)


@pytest.fixture(scope="module")
def plots() -> dict[str, Any]:
    return script("reward_plots").plots()


def fenced(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.M | re.S)


def slugs() -> list[str]:
    """Return the anchors that GitHub gives the page's headings."""
    plain = re.sub(r"^```.*?^```$", "", PAGE, flags=re.M | re.S)
    titles = re.findall(r"^#+ (.*)$", plain, re.M)
    return [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]


def test_the_page_is_what_the_code_makes() -> None:
    made = script("rewards").page()
    # Line by line, so that a failure shows the first difference; digests of the plots' data are lines of the page.
    for written, now in zip(PAGE.splitlines(), made.splitlines(), strict=False):
        assert written == now, "run python docs/rewards.py"
    assert made == PAGE, "run python docs/rewards.py"


def test_every_plot_is_shown_and_every_file_is_a_plot(plots: dict[str, Any]) -> None:
    assert sorted(SHOWN) == sorted(plots) == sorted(path.stem for path in IMAGES.iterdir())
    for name, plot in plots.items():
        assert f"<!-- {name}: {plot.digest()} -->" in PAGE


@pytest.mark.parametrize("name", SHOWN)
def test_plots_are_small_well_formed_pictures(name: str, plots: dict[str, Any]) -> None:
    content = (IMAGES / f"{name}.svg").read_bytes()
    assert len(content) < 40_000
    root = ElementTree.fromstring(content)  # noqa: S314, our own file
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    said = " ".join(root.itertext())
    assert "worth" in said, "text stays text"
    for panel in plots[name].panels:
        assert panel.across in said


def test_drawing_twice_gives_the_same_bytes(plots: dict[str, Any]) -> None:
    pytest.importorskip("matplotlib")
    assert plots["repetition"].svg() == plots["repetition"].svg()


def test_a_changed_curve_changes_the_digest() -> None:
    plotting = script("plotting")
    one, same, other = (
        plotting.Plot("A line.", (plotting.Panel("x", [0, 1], {"y": [0.0, end]}),)) for end in (0.5, 0.500001, 0.501)
    )
    assert one.digest() == same.digest() != other.digest()


def test_each_test_that_the_page_names_exists() -> None:
    named = script("rewards").tests()
    assert len(named) > 20
    for each in named:
        file, _, test = each.partition("::")
        tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
        assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, each
        assert f"[`{test}`](../tests/{file})" in PAGE


def test_links_within_the_page_lead_to_its_headings() -> None:
    there = slugs()
    assert len(there) == len(set(there)), "a second heading of a name has another anchor"
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= set(there)


def test_every_term_of_every_recipe_has_a_section() -> None:
    there = slugs()
    for recipe, terms in RECIPES.items():
        for term in terms.weights:
            if recipe != "umrg-base":  # whose five are one section
                prefix = "" if recipe == "medground" else f"{recipe.partition('-')[0]}-"
                assert f"{prefix}{term}" in there
    base = PAGE.partition("### umrg base terms")[2].partition("\n## ")[0]
    assert all(f"- `{term}`:" in base for term in RECIPES["umrg-base"].weights)


def test_examples_run() -> None:
    text = "\n".join(fenced("pycon"))
    example = doctest.DocTestParser().get_doctest(text, {}, "rewards.md", "rewards.md", 0)
    assert len(example.examples) > 5
    failed = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(example)
    assert failed.failed == 0


def test_the_own_recipe_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [body] = fenced("python")
    (tmp_path / "my_rewards.py").write_text(body, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    earned = score("x" * 2000, TRUTH, "my_rewards:recipe")
    assert earned["short"] == 0
    assert score("x", TRUTH, "my_rewards:recipe")["score"] == pytest.approx(0.5 / (9 + 0.5))


@pytest.mark.parametrize(
    ("said", "made"),
    [
        ("With ``x < 1`` and `score`.", "With `x < 1` and `score`."),
        (":math:`\\rho` is a distance", "$`\\rho`$ is a distance"),
        ("It is:\n\n.. math:: a = b\n\nEnd.", "It is:\n\n```math\na = b\n```\n\nEnd."),
        (".. math::\n\n    a = b, \\quad\n    c = d\n\nwith d", "```math\na = b, \\quad\nc = d\n```\n\nwith d"),
        ("DAPO, arXiv 2503.14476", "DAPO, [arXiv 2503.14476](https://arxiv.org/abs/2503.14476)"),
    ],
)
def test_docstrings_become_markdown(said: str, made: str) -> None:
    docstrings = script("docstrings")
    assert docstrings.markdown(said) == made
    assert doctest.testmod(docstrings).failed == 0
