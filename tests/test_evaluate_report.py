"""The report: which run is what, which cases are shown, and the page in a real browser."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import contrast
from made_runs import ABSENT, HEIGHT, WIDTH, Drawn, drawn, predicted, save_pictures, save_run, scored_of
from PIL import Image

from medground.errors import ConfigError
from medground.evaluate.behaviour import self_check
from medground.evaluate.cases import FATES, choose, facets, fate
from medground.evaluate.predictions import read_run
from medground.evaluate.report import Report, build_report
from medground.evaluate.roles import Shown, gather
from medground.evaluate.score import score_run
from medground.evaluate.tables import Entry

PRIOR = {"reasoner": {"name": "category-prior", "baseline": "the mean box"}}


def answer(row: Drawn) -> str:
    """Answer well and badly by turns."""
    kind = row.number % 8
    if kind == 3:
        return "I can't say."
    if kind == 5:
        return ABSENT
    said = row.truly if kind % 2 else row.truly.replace(row.truly.split()[2], "tiny")
    return row.moved(0.08 * kind, reasoning=said)


def sampled(row: Drawn) -> dict[str, Any]:
    return {"samples": tuple(row.moved(0.1 * turn * (row.number % 3)) for turn in range(3))}


def save_sampled(folder: Path, rows: Sequence[Drawn], **info: Any) -> Path:
    """Write a run whose rows have samples."""
    save_run(folder, rows, answer, info={"samples": 3, **info})
    lines = "".join(f"{predicted(row, answer(row), **sampled(row)).model_dump_json()}\n" for row in rows)
    (folder / "predictions.jsonl").write_text(lines)
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pictures(drawn(48), tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    rows = drawn(48, absent=[4, 8, 12, 13, 21])
    model = {"reasoner": {"name": "model"}}
    return [
        save_sampled(folder / "model", rows, **model),
        save_run(folder / "direct", rows, lambda row: row.moved(0.2, reasoning=""), info={**model, "mode": "direct"}),
        save_run(folder / "prior", rows, lambda row: row.moved(1.5, reasoning=""), info=PRIOR),
        save_run(folder / "turned", rows[:20], lambda row: row.moved(0.6), info=model, variant="rotate_5"),
        save_sampled(folder / "val", drawn(100)[60:90], **model, split="val"),
    ]


@pytest.fixture(scope="module")
def report(runs: list[Path], root: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    return build_report(runs, tmp_path_factory.mktemp("out"), root=root, title="model & rows")


# -- which run is what ------------------------------------------------------------------------------------------------


def load(folders: Sequence[Path]) -> list[Any]:
    return [score_run(read_run(folder)) for folder in folders]


def test_runs_are_told_apart_and_baselines_are_always_there(runs: list[Path]):
    shown = gather(load(runs))
    assert [entry.name for entry in shown.models] == ["model", "model, direct"]
    assert [(entry.name, entry.kind) for entry in shown.baselines] == [
        ("whole image", "blind"),
        ("centre", "blind"),
        ("category's mean box", "blind"),
        ("random box", "blind"),
    ]
    means = {entry.name: float(np.nanmean(entry.scored.column("box_iou"))) for entry in shown.baselines}
    assert shown.blind is not None
    assert means[shown.blind.name] == max(means.values()) > min(means.values())
    assert [(each.clean.name, each.variant) for each in shown.changed] == [("model", "rotate_5")]
    assert list(shown.validation) == ["model"]
    assert len({shown.look(entry) for entry in shown.entries}) == 6


def test_baselines_without_a_run_are_scored_on_the_same_rows(runs: list[Path]):
    shown = gather(load(runs[:1]))
    whole = shown.baselines[0].scored
    share = [one.right.box.area / (WIDTH * HEIGHT) for one in whole.predictions if one.right.box is not None]
    assert np.nanmean(whole.column("box_iou")) == pytest.approx(np.mean(share))
    assert np.isnan(whole.column("dice")).all()
    assert shown.blind is not None


def test_the_true_box_s_mask_is_a_baseline_where_a_run_has_it():
    rows = drawn(4, absent=[1])
    drawn_for = [
        {"rle": predicted(row, ABSENT).truth_mask, "score": 1.0} if row.mask is not None else None for row in rows
    ]
    lines = [predicted(row, row.moved(1), oracle_mask=mask) for row, mask in zip(rows, drawn_for, strict=True)]
    shown = gather([scored_of(lines)])
    assert (shown.baselines[-1].name, shown.baselines[-1].kind) == ("true box (oracle)", "oracle")
    assert np.nanmean(shown.baselines[-1].scored.column("dice")) == 1
    assert np.isnan(shown.baselines[-1].scored.column("box_iou")[1])


def test_runs_that_fit_nowhere_are_refused(runs: list[Path], tmp_path: Path):
    rows = drawn(4)
    empty = save_run(tmp_path / "empty", [], answer)
    for folders, told in (
        ([empty], "no predictions yet"),
        ([runs[2]], "a run of a model"),
        ([runs[3]], "without a variant"),
        ([runs[0], runs[0]], "given twice"),
        ([runs[0], save_run(tmp_path / "other", drawn(99)[90:], answer)], "report this one apart"),
        ([runs[0], save_run(tmp_path / "strange", rows, answer, variant="crop")], "report this one apart"),
    ):
        with pytest.raises(ConfigError, match=told):
            gather(load(folders))


# -- which cases are shown --------------------------------------------------------------------------------------------


def test_each_answer_has_one_fate():
    there, gone = Drawn(0), Drawn(1, absent=True)
    empty = {"box": None}
    table = (
        (predicted(there, there.moved(0)), "right"),
        (predicted(gone, ABSENT), "right"),
        (predicted(there, there.moved(0.25)), "right"),  # an IoU of about 0.6
        (predicted(there, there.moved(0, reasoning="It is tiny.")), "false claim"),
        (predicted(there, there.moved(0), masks=empty), "mask"),
        (predicted(there, there.moved(0.6)), "loose"),
        (predicted(there, there.moved(1.2)), "elsewhere"),
        (predicted(there, ABSENT), "missed"),
        (predicted(gone, gone.moved(0)), "invented"),
        (predicted(there, "Hm."), "unreadable"),
        (predicted(there, "", error="The service refused."), "error"),
    )
    one = scored_of([line for line, _ in table])
    assert [fate(*each) for each in zip(one.predictions, one.figures, strict=True)] == [name for _, name in table]
    assert {name for _, name in table} == set(FATES)


def test_cases_are_the_same_each_time_and_of_every_category_and_fate(runs: list[Path]):
    one = score_run(read_run(runs[0]))
    cases = choose(one)
    assert [case.prediction.id for case in cases] == [case.prediction.id for case in choose(one)]
    assert len({case.prediction.id for case in cases}) == len(cases)
    typical = {case.prediction.about["category"] for case in cases if "typical" in case.tags}
    assert typical == {each.about["category"] for each in one.predictions}
    fates = {fate(*each) for each in zip(one.predictions, one.figures, strict=True)}
    assert fates <= {case.fate for case in cases}
    best = [case.figures["box_iou"] for case in cases if "best" in case.tags]
    worst = [case.figures["box_iou"] for case in cases if "worst" in case.tags]
    assert min(best) > max(worst)
    assert {case.prediction.about["category"] for case in cases if "best" in case.tags} == typical


def test_the_best_and_the_worst_are_of_as_many_categories_as_there_are():
    rows = drawn(30)
    shift = {"colon polyp": 0.0, "fetal head": 0.2, "spleen": 0.4}
    cases = choose(scored_of([predicted(row, row.moved(shift[row.category])) for row in rows]))
    for tag, first in (("best", "colon polyp"), ("worst", "spleen")):
        found = [case.prediction.about["category"] for case in cases if tag in case.tags]
        assert sorted(found) == sorted([*shift, *shift])
        assert first in (found[0], found[-1])


def test_the_typical_case_is_the_middle_of_its_category():
    rows = drawn(15)
    cases = choose(scored_of([predicted(row, row.moved(0.1 * (row.number // 3))) for row in rows]))
    assert {case.prediction.id for case in cases if "typical" in case.tags} == {"row 006", "row 007", "row 008"}


def test_claims_are_counted_by_what_they_are_about():
    rows = drawn(4, absent=[3])
    said = ["It is tiny and round. It is large.", "It is round.", "", "It is tiny."]
    lines = [predicted(row, row.moved(0, reasoning=text)) for row, text in zip(rows, said, strict=True)]
    true = [bool({"tiny", "large"} & set(row.right.facts.accepted["size"])) for row in lines[:1]]
    found = facets(scored_of(lines))
    assert found["size"] == (2, sum(true))
    assert found["shape"][0] == 2


def test_answers_are_told_apart_by_what_their_masks_say_of_their_claims():
    rows = drawn(6, absent=[5])
    told = ["It is tiny.", "It is large. It is tiny.", "", "It is tiny.", "It is tiny.", "It is tiny."]
    sizes = [{"size": ["tiny"]}, {"size": ["tiny"]}, {"size": ["tiny"]}, {"size": ["large"]}, None, {"size": ["tiny"]}]
    lines = [
        predicted(row, row.moved(0.1 * row.number, reasoning=text), drawn_facts=facts)
        for row, text, facts in zip(rows, told, sizes, strict=True)
    ]
    entry = Entry("a model", "model", scored_of(lines))
    part = self_check(Shown((entry,), (), (), {}))
    assert part is not None
    of_claims, of_answers = part.tables
    tiny = ["tiny" in line.right.facts.accepted["size"] for line in lines[:5]]
    large = "large" in lines[1].right.facts.accepted["size"]
    assert [line.cells[0] for line in of_claims.lines] == [2, 2]
    assert of_claims.lines[0].cells[1].value == (tiny[0] + tiny[1]) / 2
    assert of_claims.lines[1].cells[1].value == (large + tiny[3]) / 2
    assert [line.cells[0] for line in of_answers.lines] == [1, 2, 1]
    worth = entry.scored.column("box_iou")
    assert of_answers.lines[0].cells[1].value == worth[0] == 1
    assert of_answers.lines[1].cells[1].value == pytest.approx((worth[1] + worth[3]) / 2)
    bare = Entry("a model", "model", scored_of([predicted(rows[0], rows[0].moved(0))]))
    assert self_check(Shown((bare,), (), (), {})) is None


# -- the files --------------------------------------------------------------------------------------------------------


def test_page_and_markdown_say_the_same(report: Report):
    page, text = report.page.read_text(), report.markdown.read_text()
    assert text.startswith("# model & rows\n")
    assert "Research use only" in text
    cells = re.search(r"\| model \| (\d\.\d\d) \((\d\.\d\d) to (\d\.\d\d)\)", text)
    assert cells is not None
    assert f"<th scope=row>model</th><td>{cells[1]}<span class=ci>{cells[2]}–{cells[3]}</span>" in page
    # Of the samples the mean IoU and the share that can be read; points in the own box; HD95 with one decimal.
    assert re.search(r"\| model \| [^|]+ \| 1\.00 \| [^|]+ \| \d+\.\d \(\d+\.\d to", text)
    for title in (
        "Figures",
        "Further figures",
        "Paired differences",
        "By category",
        "The paper's leaderboard",
        "Robustness",
        "Runs",
    ):
        assert f"## {title}\n" in text


def test_a_page_without_pictures_says_so_and_holds_none(runs: list[Path], root: Path, tmp_path: Path):
    bare = build_report(runs[:1], tmp_path / "bare", root=root, pictures=False).page.read_text()
    assert "data:image" not in bare
    assert "pictures aren't shown here" in bare
    assert bare.count('class="box truth"') > 5
    some = build_report(runs[:1], tmp_path / "some", root=root, sources=["drawn"]).page.read_text()
    assert "Only pictures of drawn are shown" in some
    assert "pictures of other aren&#x27;t shown here" in some
    shown = re.findall(r"<article.*?</article>", some)
    assert {"· drawn" in each for each in shown if "data:image/jpeg" in each} == {True}
    assert {"· other" in each for each in shown if "data:image" not in each} == {True}


def test_a_picture_that_can_not_be_read_is_said(runs: list[Path], tmp_path: Path):
    lost = build_report(runs[:1], tmp_path / "lost", root=tmp_path).page.read_text()
    assert "No picture: 0.png can&#x27;t be read" in lost
    assert str(tmp_path) not in lost
    nowhere = build_report(runs[:1], tmp_path / "nowhere").page.read_text()
    assert "its file isn&#x27;t known; give the data (--data) or its root (--root)" in nowhere


def test_a_picture_of_another_size_is_not_drawn_on(runs: list[Path], tmp_path: Path):
    (tmp_path / "images").mkdir()
    for number in range(48):
        Image.fromarray(np.eye(64, dtype=np.uint8) * 200).save(tmp_path / "images" / f"{number}.png")
    page = build_report(runs[:1], tmp_path / "out", root=tmp_path).page.read_text()
    assert "isn&#x27;t of the size that was asked about" in page
    assert "data:image" not in page


def test_what_is_missing_is_said(runs: list[Path], tmp_path: Path):
    short = save_run(tmp_path / "short", drawn(48)[:30], answer, info={"data": {"rows": 48}, "versions": {"x": "1.2"}})
    text = build_report([short], tmp_path / "alone").page.read_text()
    assert "<td>30 of 48</td>" in text
    assert "short was run with x 1.2." in text
    assert "whole-image, centre, category-prior, random, run medground eval with --reasoner baseline:NAME" in text
    both = build_report([runs[0], short], tmp_path / "both").page.read_text()
    assert "Not on the same rows as model: short." in both
    bare = save_run(tmp_path / "bare", drawn(12), answer, fill=False)
    with_prior = save_run(tmp_path / "prior", drawn(12), answer, info=PRIOR, fill=False)
    assert "baseline:NAME" not in build_report([bare, with_prior], tmp_path / "all").page.read_text()


def test_confidence_is_judged_on_rows_that_nothing_was_chosen_on(runs: list[Path], report: Report, tmp_path: Path):
    def judged(text: str) -> int:
        found = re.search(r"## Agreement of sampled answers as confidence\n\n.*\n.*\n\| model \| (\d+) \|", text)
        assert found is not None
        return int(found[1])

    assert judged(report.markdown.read_text()) == 48
    assert "chosen on a validation run." in report.page.read_text()
    alone = build_report(runs[:1], tmp_path, pictures=False)
    assert judged(alone.markdown.read_text()) == 24  # 12 of the 24 patients, two rows each
    assert "chosen on one half of the patients, and judged on the other." in alone.page.read_text()


def test_fates_are_told_with_their_shares(report: Report):
    text = report.markdown.read_text()
    assert "| nothing could be read from the answer | 6 | 12.5% | 0 | 0.0% |" in text


def test_the_curve_falls_from_the_share_that_meets_its_target(tmp_path: Path):
    rows = drawn(8)
    run = save_run(tmp_path / "run", rows, lambda row: row.moved(0 if row.number < 2 else 0.5 if row.number < 4 else 4))
    page = build_report([run], tmp_path / "out", pictures=False).page.read_text()
    path = re.search(r'<path class="line s0" d="M([^"]+)"', page)
    axis = re.search(r'<path class=axis d="M[\d.]+ ([\d.]+)H', page)
    grid = re.findall(r'<path class=grid d="M[\d.]+ ([\d.]+)H', page)[:6]
    assert path is not None
    assert axis is not None
    bottom, top = float(axis[1]), min(map(float, grid))
    points = [tuple(map(float, point.split())) for point in path[1].split("L")]
    left, right = points[0][0], points[-1][0]
    shares = {round((x - left) / (right - left), 2): (bottom - y) / (bottom - top) for x, y in points}
    found = [shares[at] for at in (0.0, 0.2, 0.5, 1.0)]
    assert found == pytest.approx((0.5, 0.5, 0.25, 0.25), abs=0.01)  # boxes here are whole pixels, so some are exact


def test_one_answer_is_enough(tmp_path: Path):
    one = save_run(tmp_path / "one", drawn(1), answer)
    page = build_report([one], tmp_path / "out").page.read_text()
    assert "1 questions" not in page
    assert page.count("<article") == 1


# -- in a browser -----------------------------------------------------------------------------------------------------

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="the page is tested with Playwright: pip install playwright"
)
expect = sync_api.expect


def opened(browser: Any, file: Path, **options: Any) -> Iterator[Any]:
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    page = context.new_page()
    page.set_default_timeout(30_000)
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    address = file.as_uri()
    page.on("request", lambda each: problems.append(each.url) if not each.url.startswith((address, "data:")) else None)
    page.goto(address)
    yield page
    context.close()
    assert problems == []


@pytest.fixture
def page(browser: Any, report: Report) -> Iterator[Any]:
    yield from opened(browser, report.page)


def test_it_opens_with_the_figures_and_the_plot(page: Any):
    expect(page.locator("h1")).to_have_text("model & rows")
    expect(page.locator(".lead")).to_contain_text("48 questions about 48 pictures of 24 patients, 5 of them")
    expect(page.locator(".notice").first).to_contain_text("not a medical device")
    first = page.locator("main section").first
    expect(first.locator("tbody tr").first).to_contain_text("model")
    assert first.locator("tbody tr.blind").count() == 4
    assert first.locator("svg.plot:visible path.line").count() == 6
    for name in page.locator("nav a").all():
        assert page.locator(name.get_attribute("href")).count() == 1
    twice = page.evaluate(
        """() => {
          const ids = Array.from(document.querySelectorAll('[id]'), (each) => each.id);
          return ids.filter((id, at) => ids.indexOf(id) !== at);
        }"""
    )
    assert twice == []


def test_pictures_load_and_truth_and_answer_lie_where_they_should(page: Any, runs: list[Path]):
    sizes = page.locator("img.picture").evaluate_all("all => all.map((one) => [one.naturalWidth, one.naturalHeight])")
    assert len(sizes) == page.locator(".case").count()
    assert all(size == [WIDTH, HEIGHT] for size in sizes)
    assert all(page.locator("img.mask").evaluate_all("all => all.map((one) => one.complete && one.naturalWidth > 0)"))
    case = page.locator(".case:visible", has=page.locator(".box.answer")).first
    name = case.locator("pre + .where").text_content().split(" · ")[0]
    [one] = [each for each in read_run(runs[0]).predictions if each.id == name]
    picture = case.locator("img.picture").bounding_box()
    for kind, box in (("truth", one.right.box), ("answer", one.answer.box)):
        shown = case.locator(f".box.{kind}").bounding_box()
        scale = picture["width"] / WIDTH
        assert shown["x"] + shown["width"] / 2 - picture["x"] == pytest.approx(scale * (box.x1 + box.x2) / 2, abs=2)
        assert shown["y"] + shown["height"] / 2 - picture["y"] == pytest.approx(scale * (box.y1 + box.y2) / 2, abs=2)
        assert shown["width"] == pytest.approx(scale * box.width, abs=5)


def test_filters_choose_the_cases(page: Any):
    cases = page.locator(".case:visible")
    assert cases.count() == 24
    total = page.locator(".case").count()
    expect(page.locator("#shown")).to_have_text(f"24 of {total} shown")
    page.locator("#more").click()
    assert cases.count() == min(48, total)
    page.select_option("select[name=modality]", "CT")
    page.select_option("select[name=model]", "model, direct")
    assert 0 < cases.count() < 24
    assert set(cases.evaluate_all("all => all.map((one) => one.dataset.modality + one.dataset.model)")) == {
        "CTmodel, direct"
    }
    page.select_option("select[name=category]", "fetal head")
    expect(page.locator("#shown")).to_have_text("No case is like that.")
    assert cases.count() == 0
    for name in ("modality", "model", "category"):
        page.select_option(f"select[name={name}]", "")
    page.select_option("select[name=kind]", "false claim")
    assert all("false claim" in kind for kind in cases.evaluate_all("all => all.map((one) => one.dataset.kind)"))
    assert cases.locator("mark.false").first.text_content() == "tiny (false)"
    assert cases.locator("mark.true").count() > 0


def test_layers_can_be_hidden(page: Any):
    case = page.locator(".case:visible", has=page.locator(".box.answer")).first
    for layer, part in (("truth", ".box.truth"), ("answer", ".box.answer"), ("masks", "img.mask.truth")):
        expect(case.locator(part)).to_have_css("visibility", "visible")
        page.locator(f"[data-layer={layer}]").uncheck()
        expect(case.locator(part)).to_have_css("visibility", "hidden")
        page.locator(f"[data-layer={layer}]").check()


def test_everything_is_there_without_a_script(browser: Any, report: Report):
    for page in opened(browser, report.page, java_script_enabled=False):
        assert page.locator(".case:visible").count() == page.locator(".case").count() > 24
        expect(page.locator("#tools")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_a_screen_in_both_schemes(browser: Any, report: Report, scheme: str):
    for page in opened(browser, report.page, color_scheme=scheme):
        for width in (320, 390, 768, 1600):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            plot = page.locator("#figures svg.plot:visible")
            assert plot.count() == 1
            drawn_width = plot.bounding_box()["width"]
            assert 0.8 * min(width - 40, 640) <= drawn_width <= width
            # Text in plots isn't drawn smaller than one can read.
            assert drawn_width / float(plot.get_attribute("width")) >= 0.8
        shot = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("L"))
        assert (shot[-2, 2] > 128) == (scheme == "light")
        for part in (
            ".lead",
            ".notice",
            "tbody th",
            "tr.blind td",
            "td .ci",
            ".where",
            ".tag.bad",
            "mark.true",
            "nav a",
        ):
            assert contrast(page, part) >= 4.5, part


def test_on_paper_all_is_unfolded_and_nothing_is_cut_off(browser: Any, report: Report):
    for page in opened(browser, report.page, viewport={"width": 696, "height": 1000}):
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.locator("details:not([open])").count() == 0
        for part in ("nav", "#tools", "#more"):
            expect(page.locator(part)).to_be_hidden()
        cut = page.locator(".scroll:not(.broad) table").evaluate_all(
            "all => all.filter((one) => one.getBoundingClientRect().right > innerWidth + 1).length"
        )
        assert cut == 0
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.locator("details:not([open])").count() > 5
        page.emulate_media(media="screen")
        assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")


def test_texts_of_data_and_models_stay_texts(browser: Any, root: Path, tmp_path: Path):
    evil = "</style></script><img src=x onerror=alert(1)><b>&"
    row = Drawn(0)
    about = dict.fromkeys(
        ("source", "category", "supercategory", "modality", "group", "split", "style", "template"), evil
    )
    line = predicted(row, row.moved(0.2, reasoning=f"It is tiny. {evil}"), question=evil, about=about)
    failed = predicted(Drawn(1), "", error=evil, about=about)
    folder = save_run(tmp_path / "evil", [row], answer, info={"reasoner": {"name": evil}, "template": evil})
    (folder / "predictions.jsonl").write_text(f"{line.model_dump_json()}\n{failed.model_dump_json()}\n")
    made = build_report([folder], tmp_path / "out", root=root, title=evil)
    for page in opened(browser, made.page):
        assert page.locator("h1").text_content() == evil
        assert page.locator(".case h3").first.text_content() == evil
        assert page.locator("img[src=x], main b, main script").count() == 0
        assert page.locator(".why").text_content() == evil
        page.select_option("select[name=category]", evil)
        assert page.locator(".case:visible").count() == 2
