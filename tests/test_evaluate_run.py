"""Runs of an evaluation: what is asked once, what is kept, and what interruptions, failures and shards leave behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import FillingSegmenter, ScriptedReasoner, middle
from made_rows import made_rows
from PIL import Image

from medground.coords import Space
from medground.data.pixels import open_mask
from medground.data.rows import Picture, Row
from medground.data.schema import write_rows
from medground.errors import ConfigError, ReasonerError, SegmenterError, TruthError
from medground.evaluate.planning import chosen_rows
from medground.evaluate.predictions import Prediction, read_run
from medground.evaluate.run import EvalProgress, evaluate
from medground.images import MedicalImage
from medground.masks import decode_rle
from medground.reasoners import Request
from medground.rewards import Facts

BOTH = frozenset({"box", "points"})


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Row]]:
    """A folder of pictures, and rows about them, all of the test split: two questions a picture."""
    root = tmp_path_factory.mktemp("rows")
    rows = [row.model_copy(update={"split": "test"}) for row in made_rows(root)]
    again = [row.model_copy(update={"id": f"{row.id}/q2", "question": f"{row.question} Show me."}) for row in rows]
    write_rows([*rows, *again], root / "test.parquet")
    return root, [*rows, *again]


def lines(out: Path) -> list[Prediction]:
    return list(read_run(out).predictions)


def grey(picture: Path) -> np.ndarray:
    return np.asarray(Image.open(picture).convert("L"))


def untimed(out: Path) -> list[Prediction]:
    return [each.model_copy(update={"seconds": {}}) for each in lines(out)]


def test_a_line_holds_what_is_known_of_its_row(drawn: tuple[Path, list[Row]], tmp_path: Path) -> None:
    root, rows = drawn
    out = evaluate(root / "test.parquet", tmp_path, reasoner=ScriptedReasoner(), segmenter=FillingSegmenter())
    run = read_run(out)
    by_id = {row.id: row for row in rows}
    assert [each.id for each in run.predictions] == sorted(by_id)
    for each in run.predictions:
        row = by_id[each.id]
        assert (each.question, each.mode, each.image, each.image_size) == (
            row.question,
            "reason",
            row.image.path,
            row.image_size,
        )
        assert each.about["category"] == row.category
        assert each.about["absent"] is row.absent
        assert each.answer is not None
        assert each.answer.reasoning == "It is in the middle."
        assert (each.right.box is None) == row.absent
        if row.mask is not None:
            assert each.truth_mask is not None
            assert (decode_rle(each.truth_mask) == open_mask(row.mask)).all()
        drawn_box = each.masks["box"]
        assert each.drawn_facts == Facts.measure(decode_rle(drawn_box["rle"]), grey(root / each.image)).to_dict()
        assert drawn_box is not None
        assert decode_rle(drawn_box["rle"]).sum() > 0
        assert set(each.masks) == {"box"}
        assert each.error is None
        assert each.seconds.keys() == {"reason", "encode", "mask"}
    assert run.info["reasoner"] == {"name": "scripted"}
    assert run.info["segmenter"] == {"name": "filling", "prompts": ["box"], "oracle": False}
    assert run.info["data"]["rows"] == len(rows)


def test_each_picture_is_encoded_once_and_the_segmenter_is_asked_all_that_it_knows(drawn, tmp_path: Path) -> None:
    root, rows = drawn
    segmenter = FillingSegmenter(BOTH)
    out = evaluate(rows, tmp_path, reasoner=ScriptedReasoner(), segmenter=segmenter, root=root, oracle=True, batch=1)
    assert segmenter.encoded == len({row.image.path for row in rows})
    for each in lines(out):
        assert set(each.masks) == {"points", "box", "both"}
        assert (each.oracle_mask is None) == each.right.absent
        if each.oracle_mask is not None and each.right.box is not None:
            assert decode_rle(each.oracle_mask["rle"]).sum() == pytest.approx(each.right.box.area)
        assert decode_rle(each.masks["points"]["rle"]).sum() == 2


def test_prompts_can_be_chosen_of_those_that_are_known(drawn, tmp_path: Path) -> None:
    root, rows = drawn
    given = {"reasoner": ScriptedReasoner(), "root": root}
    out = evaluate(rows, tmp_path / "a", segmenter=FillingSegmenter(BOTH), prompts=("points",), **given)
    assert {tuple(each.masks) for each in lines(out)} == {("points",)}
    with pytest.raises(ConfigError, match="filling doesn't take prompts 'points'; choose of box"):
        evaluate(rows, tmp_path / "b", segmenter=FillingSegmenter(), prompts=("points",), **given)
    with pytest.raises(ConfigError, match="oracle is for masks, and there is no segmenter"):
        evaluate(rows, tmp_path / "b", oracle=True, **given)
    assert not (tmp_path / "b").exists()


def test_an_answer_without_a_prompt_has_no_mask_of_it(drawn, tmp_path: Path) -> None:
    root, rows = drawn
    other = next(row for row in rows if not row.question.startswith(rows[0].question))

    def script(request: Request, space: Space) -> str:
        if request.question.startswith(rows[0].question):
            return '{"bbox": [100, 100, 500, 500]}'
        return '<answer>{"absent": true}</answer>' if request.question.endswith("Show me.") else "nothing"

    out = evaluate(rows, tmp_path, reasoner=ScriptedReasoner(script), segmenter=FillingSegmenter(BOTH), root=root)
    by_id = {each.id: each for each in lines(out)}
    first = by_id[rows[0].id].masks
    assert first["box"] is not None
    assert first["points"] is first["both"] is None
    assert by_id[other.id].masks == by_id[f"{other.id}/q2"].masks == dict.fromkeys(("points", "box", "both"))


def test_facts_are_measured_where_a_row_has_a_mask_and_no_facts(drawn, tmp_path: Path) -> None:
    root, rows = drawn
    row = next(row for row in rows if not row.absent)
    [line] = lines(evaluate([row.model_copy(update={"facts": None})], tmp_path, reasoner=ScriptedReasoner(), root=root))
    assert line.right.facts == Facts.read(row.facts)


def test_failures_are_lines_and_can_be_asked_again(drawn, tmp_path: Path) -> None:
    root, rows = drawn
    there = [row for row in rows if not row.absent]
    empty = Picture.of_mask(np.zeros(there[2].image_size[::-1], bool))
    broken = [
        there[0].model_copy(update={"id": "no picture", "image": Picture(path="images/none.png")}),
        there[1].model_copy(update={"id": "other size", "mask": Picture.of_mask(np.ones((3, 3), bool))}),
        there[2].model_copy(update={"id": "empty mask", "mask": empty}),
        there[3].model_copy(update={"id": "refused", "question": "Refuse?"}),
        there[4].model_copy(update={"id": "surrogate", "question": "Half a character?"}),
    ]

    def script(request: Request, space: Space) -> str:
        if request.question == "Refuse?":
            return "ERROR the server refused"
        return "\ud83d" + middle(request, space) if request.question.startswith("Half") else middle(request, space)

    told: list[tuple[int, int]] = []
    given = {"segmenter": FillingSegmenter(BOTH), "root": root}
    out = evaluate(
        [*there[5:7], *broken],
        tmp_path,
        reasoner=ScriptedReasoner(script),
        progress=lambda now: told.append((now.done, now.failed)),
        **given,
    )
    found = {each.id: each for each in lines(out)}
    assert len(found) == 7
    assert "none.png" in str(found["no picture"].error)
    assert "3 x 3" in str(found["other size"].error)
    assert "the mask is empty" in str(found["empty mask"].error)
    assert found["refused"].error == "the server refused"
    assert found["refused"].masks == dict.fromkeys(("points", "box", "both"))
    assert found["surrogate"].completion.startswith("?<think>")
    assert found["surrogate"].masks["box"] is not None
    assert told == [(0, 0), (7, 4)]
    # The refusal was the server's; it is asked again, and the later line counts.
    working = ScriptedReasoner()
    evaluate([*there[5:7], *broken], tmp_path, reasoner=working, retry_failed=True, **given)
    assert working.batches == [1]
    assert len((tmp_path / "predictions.jsonl").read_text().splitlines()) == 7 + 4
    assert [each.id for each in lines(out) if each.error] == ["empty mask", "no picture", "other size"]


def test_a_segmenter_that_refuses_a_prompt_leaves_the_others_theirs(drawn, tmp_path: Path) -> None:
    class Refusing(FillingSegmenter):
        def segment(self, embedding, prompts):
            if any(not prompt.box for prompt in prompts):
                raise SegmenterError("no lone points today")
            return super().segment(embedding, prompts)

    root, rows = drawn
    out = evaluate(rows[:3], tmp_path, reasoner=ScriptedReasoner(), segmenter=Refusing(BOTH), root=root)
    for each in lines(out):
        assert each.masks["points"] is None
        assert each.masks["box"] is not None
        assert each.masks["both"] is not None
        assert each.notes == ("no mask for points: no lone points today",)


def test_the_same_command_again_asks_nothing(drawn, tmp_path: Path) -> None:
    root, rows = drawn
    first, second = ScriptedReasoner(), ScriptedReasoner()
    evaluate(rows, tmp_path, reasoner=first, root=root, batch=2)
    before = (tmp_path / "predictions.jsonl").read_bytes()
    told: list[EvalProgress] = []
    evaluate(rows, tmp_path, reasoner=second, root=root, batch=2, progress=told.append)
    assert second.batches == []
    assert (tmp_path / "predictions.jsonl").read_bytes() == before
    assert (told[-1].found, told[-1].done) == (len(rows), 0)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"mode": "direct"}, "mode 'reason', not 'direct'"),
        ({"limit": 3}, r"data.digest '.*', not '.*'"),
        ({"samples": 2}, "samples 0, not 2"),
        ({"segmenter": FillingSegmenter()}, "segmenter None, not None|segmenter.name None, not 'filling'"),
        ({"variant": "darker"}, "variant '', not 'darker'"),
        ({"max_new_tokens": 9}, "max_new_tokens None, not 9"),
    ],
)
def test_a_changed_setting_is_refused(drawn, tmp_path: Path, changed: dict, told: str) -> None:
    root, rows = drawn
    evaluate(rows[:5], tmp_path, reasoner=ScriptedReasoner(), root=root)
    before = (tmp_path / "predictions.jsonl").read_bytes()
    with pytest.raises(ConfigError, match=f"holds a run with ({told}); use the same setting"):
        evaluate(rows[:5], tmp_path, **({"reasoner": ScriptedReasoner(), "root": root} | changed))
    assert (tmp_path / "predictions.jsonl").read_bytes() == before


def test_another_reasoner_or_other_rows_are_refused(drawn, tmp_path: Path) -> None:
    root, rows = drawn
    evaluate(rows[:5], tmp_path, reasoner=ScriptedReasoner(), root=root)
    other = ScriptedReasoner()
    other.name = "other"
    with pytest.raises(ConfigError, match=r"reasoner.name 'scripted', not 'other'"):
        evaluate(rows[:5], tmp_path, reasoner=other, root=root)
    moved = rows[0].model_copy(update={"question": "Where else?"})
    with pytest.raises(ConfigError, match=r"data.digest"):
        evaluate([moved, *rows[1:5]], tmp_path, reasoner=ScriptedReasoner(), root=root)
    (tmp_path / "run.json").unlink()
    with pytest.raises(ConfigError, match=r"holds predictions without a run.json"):
        evaluate(rows[:5], tmp_path, reasoner=ScriptedReasoner(), root=root)


def test_other_weights_under_the_same_name_are_refused(drawn, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    root, rows = drawn
    reasoner = ScriptedReasoner()
    reasoner.model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3)).to(torch.bfloat16)
    evaluate(rows[:2], tmp_path, reasoner=reasoner, root=root)
    evaluate(rows[:2], tmp_path, reasoner=reasoner, root=root)
    with torch.no_grad():
        reasoner.model[0].weight[0] += 1
    with pytest.raises(ConfigError, match=r"reasoner.weights"):
        evaluate(rows[:2], tmp_path, reasoner=reasoner, root=root)


def test_samples_are_kept_and_each_chunk_draws_its_own(drawn, tmp_path: Path) -> None:
    root, rows = drawn
    seeds: list[tuple[float, int | None]] = []

    class Sampling(ScriptedReasoner):
        def complete(self, requests, *, temperature=0.0, max_new_tokens=None, seed=None):
            seeds.append((temperature, seed))
            return super().complete(requests)

    given = {"root": root, "samples": 3, "temperature": 0.7, "batch": 1}
    out = evaluate(rows, tmp_path / "a", reasoner=Sampling(), **given)
    assert all(len(each.samples) == 3 and each.samples[0] == each.completion for each in lines(out))
    drawn_seeds = [seed for temperature, seed in seeds if temperature]
    assert {temperature for temperature, seed in seeds if seed is not None} == {0.7}
    assert len(set(drawn_seeds)) == len(drawn_seeds) == 3 * len(seeds) / 4
    first, seeds[:] = list(seeds), []
    evaluate(rows, tmp_path / "b", reasoner=Sampling(), **given)
    assert seeds == first
    with pytest.raises(ConfigError, match="samples need a temperature above 0"):
        evaluate(rows, tmp_path / "c", reasoner=Sampling(), samples=2, temperature=0.0, root=root)


def test_shards_hold_whole_pictures_and_make_the_same_run(drawn, tmp_path: Path) -> None:
    root, rows = drawn
    whole = evaluate(rows, tmp_path / "whole", reasoner=ScriptedReasoner(), segmenter=FillingSegmenter(), root=root)
    pictures: list[set[str | None]] = []
    for index in (2, 0, 1):
        before = {each.id for each in _if_any(tmp_path / "parts")}
        parts = evaluate(
            rows,
            tmp_path / "parts",
            reasoner=ScriptedReasoner(),
            segmenter=FillingSegmenter(),
            root=root,
            shard=(index, 3),
        )
        pictures.append({each.image for each in lines(parts) if each.id not in before})
    assert untimed(parts) == untimed(whole)
    assert sum(map(len, pictures)) == len(set.union(*pictures))
    with pytest.raises(ConfigError, match="shards 3, not 1"):
        evaluate(rows, tmp_path / "parts", reasoner=ScriptedReasoner(), segmenter=FillingSegmenter(), root=root)
    for shard in ((3, 3), (-1, 3), (0, 0)):
        with pytest.raises(ConfigError, match="isn't one; the first of four is 0 of 4"):
            evaluate(rows, tmp_path / "c", reasoner=ScriptedReasoner(), root=root, shard=shard)


def _if_any(out: Path) -> list[Prediction]:
    return lines(out) if out.exists() else []


def test_a_limit_is_the_same_few_rows_each_time(drawn) -> None:
    root, rows = drawn
    few = [each.row.id for each in chosen_rows(rows, limit=5, root=root)]
    assert few == [each.row.id for each in chosen_rows(root / "test.parquet", limit=5)]
    assert len(few) == 5
    assert few != [row.id for row in rows[:5]]
    assert len(chosen_rows(rows, limit=1000, root=root)) == len(rows)


def test_data_that_can_t_be_used_is_told_before_anything_is_asked(drawn, tmp_path: Path) -> None:
    root, rows = drawn
    reasoner = ScriptedReasoner()
    for data, error, told in (
        (tmp_path / "none.parquet", ConfigError, "no such file"),
        ([rows[0], rows[0]], ConfigError, "is there twice"),
        ([rows[0].model_copy(update={"split": "val"})], ConfigError, "has no rows of split 'test'"),
        ([rows[0].model_copy(update={"box": (0, 0, 9000, 9000)})], TruthError, f"row {rows[0].id}.*bbox_2d"),
    ):
        with pytest.raises(error, match=told):
            evaluate(data, tmp_path / "out", reasoner=reasoner, root=root)
    damaged = tmp_path / "damaged.parquet"
    damaged.write_bytes((root / "test.parquet").read_bytes()[:-100])
    with pytest.raises(ConfigError, match=r"damaged.parquet: can't be read as parquet"):
        evaluate(damaged, tmp_path / "out", reasoner=reasoner)
    assert reasoner.batches == []
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_told_in_a_sentence_and_the_run_goes_on_later(
    drawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, rows = drawn
    whole = evaluate(rows, tmp_path / "whole", reasoner=ScriptedReasoner(), root=root, batch=1)
    out = tmp_path / "out"
    evaluate(rows, out, reasoner=ScriptedReasoner(), root=root, batch=1)
    file = out / "predictions.jsonl"
    kept = file.read_bytes()[: file.stat().st_size // 2]
    file.write_bytes(kept)
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(kept) + 100, before[1]))
    try:
        with pytest.raises(ConfigError, match=r"can't write .*predictions.jsonl: .*; free space, and the same command"):
            evaluate(rows, out, reasoner=ScriptedReasoner(), root=root, batch=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    evaluate(rows, out, reasoner=ScriptedReasoner(), root=root, batch=1)
    assert untimed(out) == untimed(whole)


def test_a_reasoner_that_loses_answers_is_a_fault_of_its_own(drawn, tmp_path: Path) -> None:
    class Losing(ScriptedReasoner):
        def complete(self, requests, **_):
            return super().complete(requests[1:])

    root, rows = drawn
    with pytest.raises(ReasonerError, match="scripted gave 25 answers to 26 questions"):
        evaluate(rows, tmp_path, reasoner=Losing(), root=root)


@pytest.mark.parametrize("variant", ["rotate_90", "paraphrase", "darker"])
def test_variants_change_what_is_shown_and_leave_rows_out_that_they_would_make_false(
    drawn, tmp_path: Path, variant: str
) -> None:
    root, rows = drawn
    shown: list[MedicalImage] = []

    def script(request: Request, space: Space) -> str:
        shown.append(request.image)
        return middle(request, space)

    told: list[EvalProgress] = []
    out = evaluate(rows, tmp_path, reasoner=ScriptedReasoner(script), root=root, variant=variant, progress=told.append)
    found = lines(out)
    assert len(found) == len(shown)
    assert told[-1].left_out == len(rows) - len(found)
    assert {each.variant for each in found} <= {variant}
    for each in found:
        box = each.right.box
        if box is not None and each.truth_mask is not None:
            rows_, columns = np.nonzero(decode_rle(each.truth_mask))
            assert box.x1 <= columns.min()
            assert columns.max() < box.x2
            assert box.y1 <= rows_.min()
            assert rows_.max() < box.y2
    with pytest.raises(ConfigError, match="variant 'upside_down' isn't known"):
        evaluate(rows, tmp_path / "b", reasoner=ScriptedReasoner(), root=root, variant="upside_down")


def test_two_processes_do_not_write_to_one_file(drawn, tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    root, rows = drawn

    def script(request: Request, space: Space) -> str:
        with pytest.raises(ConfigError, match="another run is writing"):
            evaluate(rows[:2], tmp_path, reasoner=ScriptedReasoner(), root=root)
        return middle(request, space)

    evaluate(rows[:2], tmp_path, reasoner=ScriptedReasoner(script), root=root)
    assert len(lines(tmp_path)) == 2


SLOW = """
import sys, time
sys.path.insert(0, sys.argv[3])
from conftest import FillingSegmenter, ScriptedReasoner, middle
from medground.evaluate.run import evaluate

def script(request, space):
    time.sleep(0.03)
    return middle(request, space)

evaluate(
    sys.argv[1] + "/test.parquet", sys.argv[2], reasoner=ScriptedReasoner(script), segmenter=FillingSegmenter(),
    batch=1, samples=1,
)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a signal that can't be caught")
def test_a_killed_run_ends_as_one_that_was_not(drawn, tmp_path: Path) -> None:
    root, rows = drawn
    evaluate(
        root / "test.parquet",
        tmp_path / "whole",
        reasoner=ScriptedReasoner(),
        segmenter=FillingSegmenter(),
        batch=1,
        samples=1,
    )
    out = tmp_path / "killed"
    command = [sys.executable, "-c", SLOW, str(root), str(out), str(Path(__file__).parent)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    file = out / "predictions.jsonl"
    for kill_after in (1, 9):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 240
        while _count(file) < kill_after and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        assert process.poll() is None, process.stderr.read().decode()
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stderr.close()
        assert kill_after <= _count(file) < len(rows)
        with file.open("ab") as stream:  # as a crash of the whole machine may leave it
            stream.write(b'{"id": "row-23", "ques')
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert finished.returncode == 0, finished.stderr
    assert untimed(out) == untimed(tmp_path / "whole")
    assert _count(file) == len(rows)
    assert json.loads((out / "run.json").read_text()) == json.loads((tmp_path / "whole" / "run.json").read_text())


def _count(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0
