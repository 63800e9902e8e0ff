"""The rewards as trainers call them: by their signatures, by path, and by the trainers themselves where installed."""

from __future__ import annotations

import importlib.util
import io
import json
import math
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

import medground.adapters
from medground.adapters import completion_space, filled, score_rows, weighted
from medground.adapters.trl import RecipeReward, medground_reward, umrg_hard_reward
from medground.coords import Space
from medground.errors import ConfigError, TruthError
from medground.parsing import format_answer
from medground.rewards import RECIPES, Truth, gold, score

FOLDER = Path(medground.adapters.__file__).parent
TRUTH = {"bbox_2d": [100, 100, 300, 200], "point_2d": [[150, 150], [250, 150]]}
ABSENT = {"absent": True}
BOX = '{"bbox": [100, 100, 300, 200], "points_1": [150, 150], "points_2": [250, 150]}'
RIGHT = f"<think>A pale band.</think><answer>{BOX}</answer>"
WRONG = "I cannot tell."


def load(path: Path, name: str) -> ModuleType:
    """Load a file as trainers do: under a name of their own, outside any package."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def only_where(package: str, name: str) -> Any:
    """Skip where a trainer isn't installed."""
    return pytest.importorskip(package, reason=f"{name} isn't installed; docs/integrations.md says how this test ran")


# What all of them share


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"ground_truth": [json.dumps(TRUTH)]}, "JSON"),
        ({"ground_truth": [TRUTH]}, "a dict"),
        ({"ground_truth": [{**TRUTH, "absent": None, "facts": None}]}, "a dict out of a table whose rows differ"),
        ({"ground_truth": [Truth.from_mask(np.pad(np.ones((100, 200), bool), ((100, 640), (100, 540))))]}, "our type"),
        ({"reward_model": [{"style": "rule", "ground_truth": json.dumps(TRUTH)}]}, "verl's and the UMRG set's layout"),
        ({"ground_truth": [TRUTH], "reward_model": [None], "image": [object()]}, "ground_truth goes first"),
    ],
)
def test_a_truth_is_found_in_the_columns(columns, why):
    [terms] = score_rows([RIGHT], columns, "umrg-soft")
    assert terms["bbox_iou"] == 1.0, why
    assert score_rows([WRONG], columns, "umrg-soft")[0]["score"] == 0.0


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ({"solution": [json.dumps(TRUTH)] * 2}, "the rows have no truth: give them a column ground_truth"),
        ({"ground_truth": [TRUTH]}, "2 completions and 1 truths"),
        ({"ground_truth": [None, {**TRUTH, "bbox_2d": [300, 100, 100, 200]}]}, "truth of row 1, bbox_2d: "),
        ({"ground_truth": [TRUTH, "{"]}, "truth of row 1: isn't JSON"),
        ({"reward_model": [{"ground_truth": TRUTH}, "x"]}, "truth of row 1: isn't JSON"),
    ],
)
def test_a_wrong_truth_is_named(columns, complaint):
    with pytest.raises(TruthError, match=complaint):
        score_rows([RIGHT, RIGHT], columns)


def test_a_row_of_another_task_is_left_out_and_the_rest_keep_their_places():
    rows = score_rows([WRONG, RIGHT, RIGHT], {"ground_truth": [TRUTH, None, TRUTH]}, "umrg-soft")
    assert rows[1] is None
    assert (rows[0]["score"], rows[2]["score"]) == (0.0, 4.0)
    assert score_rows([RIGHT], {"ground_truth": [None]}) == [None]


def test_the_ruler_of_the_completions_is_what_it_is_said_to_be():
    truth = {**TRUTH, "image_size": [1000, 500]}  # in thousandths: y doubled
    said = BOX.replace("100, 100, 300, 200", "100, 200, 300, 400").replace("150]", "300]")
    text = f"<think>A pale band.</think><answer>{said}</answer>"
    [right] = score_rows([text], {"ground_truth": [truth]}, "umrg-soft", coordinates="0-1000")
    [wrong] = score_rows([text], {"ground_truth": [truth]}, "umrg-soft")
    assert right["score"] == pytest.approx(4.0, abs=1e-4)
    assert wrong["bbox_iou"] < 0.5
    flipped = format_answer(
        *_placed(completion_space("0-1000 yx")), completion_space("0-1000 yx"), reasoning="A pale band."
    )
    [turned] = score_rows([flipped], {"ground_truth": [truth]}, "medground", coordinates="0-1000 yx")
    assert turned["box"] == pytest.approx(1.0, abs=1e-3)


def _placed(space: Space) -> tuple[Any, Any]:
    picture = Truth.from_mask(np.pad(np.ones((100, 200), bool), ((100, 300), (100, 700))))
    return picture.to(space).box, picture.to(space).points


def test_a_wrong_ruler_shows_in_the_terms_and_not_always_in_the_score():
    said = '{"bbox": [200, 300, 400, 500], "points_1": [250, 350], "points_2": [350, 450]}'
    said = f"<think>A pale band.</think><answer>{said}</answer>"

    def truth(width: int, height: int) -> dict[str, Any]:
        across, down = width / 1000, height / 1000
        box = [200 * across, 300 * down, 400 * across, 500 * down]
        points = [[250 * across, 350 * down], [350 * across, 450 * down]]
        return {"bbox_2d": box, "point_2d": points, "image_size": [width, height]}

    [small, large] = score_rows([said, said], {"ground_truth": [truth(224, 224), truth(840, 840)]})
    assert set(small.values()) == {0.0}
    assert (large["format"], round(large["box"], 2), round(large["score"], 2)) == (1.0, 0.38, 0.66)
    [hard] = score_rows([said], {"ground_truth": [truth(840, 840)]}, "umrg-hard")
    assert round(hard["score"], 1) == 6.4
    [told] = score_rows([said], {"ground_truth": [truth(840, 840)]}, coordinates="0-1000")
    assert told["score"] == 1.0


@pytest.mark.parametrize("coordinates", ["pixels", "resized pixels", "0-999", "", "yx"])
def test_a_ruler_that_depends_on_the_image_is_refused(coordinates):
    with pytest.raises(ConfigError, match="'0-1000' or '0-1'"):
        completion_space(coordinates)


def test_weights_can_be_changed_and_are_checked():
    assert weighted("umrg-soft") is RECIPES["umrg-soft"]
    assert score_rows([RIGHT], {"ground_truth": [TRUTH]}, "umrg-soft", weights={"bbox_iou": 3})[0]["score"] == 6.0
    with pytest.raises(ConfigError, match="no term bbox"):
        weighted("umrg-soft", {"bbox": 1})
    with pytest.raises(ConfigError, match="no recipe is called 'umrg'"):
        weighted("umrg")


def test_only_a_dict_is_relieved_of_what_is_none():
    assert filled({"a": None, "b": 0}) == {"b": 0}
    assert filled("null") == "null"


# TRL


@pytest.mark.parametrize(
    ("completion", "why"),
    [
        (RIGHT, "plain"),
        ([{"role": "assistant", "content": RIGHT}], "a conversation"),
        ([{"role": "tool", "content": "ok"}, {"role": "assistant", "content": RIGHT}], "its last message"),
        ([{"role": "assistant", "content": [{"type": "text", "text": RIGHT}]}], "in parts"),
        (
            [{"role": "assistant", "reasoning_content": "A pale band.", "content": f"<answer>{BOX}</answer>"}],
            "thoughts apart",
        ),
        (
            [{"role": "assistant", "thinking": "A pale band.", "content": f"\n<answer>{BOX}</answer>"}],
            "thoughts apart, as TRL's templates call them",
        ),
    ],
)
def test_trl_completions_of_each_form_score_alike(completion, why):
    [value] = RecipeReward("umrg-soft")([completion], ground_truth=[TRUTH])
    assert value == 4.0, why


@pytest.mark.parametrize("completion", [[], "", [{"role": "assistant", "content": None}], [{"role": "assistant"}]])
def test_a_trl_completion_with_nothing_in_it_scores_nothing(completion):
    assert RecipeReward("umrg-hard")([completion], ground_truth=[TRUTH]) == [0.0]


def test_trl_is_told_each_term():
    metrics: dict[str, float] = {}
    extra: dict[str, list[Any]] = {}
    values = medground_reward(
        prompts=["?"] * 4,
        completions=[RIGHT, WRONG, RIGHT, '<think>Not here.</think><answer>{"absent": true}</answer>'],
        completion_ids=[[1]] * 4,
        ground_truth=[TRUTH, TRUTH, None, ABSENT],
        trainer_state=None,
        log_metric=metrics.__setitem__,
        log_extra=extra.__setitem__,
    )
    alone = [score(text, truth) for text, truth in ((RIGHT, TRUTH), (WRONG, TRUTH))]
    assert values[:3] == [alone[0]["score"], alone[1]["score"], None]
    assert metrics["medground/honesty"] == pytest.approx((alone[0]["honesty"] + alone[1]["honesty"]) / 2)
    assert metrics["medground/box"] == pytest.approx((alone[0]["box"] + alone[1]["box"] + 1) / 3)
    assert "medground/score" not in metrics  # TRL logs it itself
    [column] = extra.values()
    assert list(extra) == ["medground/terms"]
    assert json.loads(column[0]).keys() == alone[0].keys() - {"score"}
    assert column[2] is None
    assert "honesty" not in json.loads(column[3])  # nothing to lie about where the target is absent


def test_a_trl_reward_has_a_name_survives_pickling_and_is_found_by_its_path():
    reward = RecipeReward("umrg-hard", coordinates="0-1000", weights={"bbox_align": 0}, name="hard")
    again = pickle.loads(pickle.dumps(reward))  # noqa: S301 - TRL's asynchronous trainer does it
    assert (again.__name__, medground_reward.__name__, umrg_hard_reward.__name__) == ("hard", "medground", "umrg-hard")
    truth = {**TRUTH, "coordinates": "0-1000"}
    assert again([RIGHT], ground_truth=[truth]) == reward([RIGHT], ground_truth=[truth])
    module, _, name = "medground.adapters.trl.umrg_hard_reward".rpartition(".")
    assert getattr(importlib.import_module(module), name) is umrg_hard_reward


@pytest.mark.parametrize("wrong", [{"recipe": "no"}, {"coordinates": "pixels"}, {"weights": {"no": 1}}])
def test_a_trl_reward_that_cannot_work_is_refused_when_it_is_made(wrong):
    with pytest.raises(ConfigError):
        RecipeReward(**wrong)


# verl


@pytest.mark.parametrize("recipe", ["umrg-base", "umrg-soft", "umrg-hard", "medground"])
def test_verl_gets_the_same_keys_from_each_row(recipe):
    compute_score = load(FOLDER / "verl.py", "custom_module").compute_score
    rows = [
        compute_score(data_source="umrg", solution_str=text, ground_truth=json.dumps(TRUTH), recipe=recipe, extra=1)
        for text in (RIGHT, WRONG)
    ]
    if recipe == "medground":
        rows.append(compute_score("umrg", '<answer>{"absent": true}</answer>', ABSENT, {"index": 0}))
        assert rows[-1]["honesty"] is None
    assert {tuple(row) for row in rows} == {("score", *RECIPES[recipe].weights)}
    assert rows[0]["score"] == score(RIGHT, TRUTH, recipe)["score"] > rows[1]["score"]


def test_verl_names_the_row_of_a_wrong_truth():
    compute_score = load(FOLDER / "verl.py", "custom_module").compute_score
    for index in (7, np.int64(7)):
        with pytest.raises(TruthError, match="truth of row 7, bbox_2d"):
            compute_score("umrg", RIGHT, {**TRUTH, "bbox_2d": [1]}, {"index": index})
    with pytest.raises(TruthError, match=r"^truth: "):
        compute_score("umrg", RIGHT, None)


@pytest.mark.parametrize("path", ["pkg://medground.adapters.verl", str(FOLDER / "verl.py")])
def test_verls_reward_manager_calls_it(path):
    only_where("verl", "verl")
    import torch
    from omegaconf import OmegaConf
    from transformers import AutoTokenizer
    from verl import DataProto
    from verl.trainer.ppo.metric_utils import process_validation_metrics
    from verl.trainer.ppo.reward import load_reward_manager

    tokenizer = AutoTokenizer.from_pretrained(FOLDER.parent / "reasoners" / "nano")
    function = {"path": path, "name": "compute_score", "reward_kwargs": {"recipe": "medground"}}
    config = {"custom_reward_function": function, "reward_manager": {"source": "register", "name": "naive"}}
    manager = load_reward_manager(OmegaConf.create({"reward": config}), tokenizer)
    infos = []
    for index, truth in enumerate((TRUTH, ABSENT)):
        ids = tokenizer(RIGHT)["input_ids"]
        tensors = {
            "prompts": torch.ones(1, 2, dtype=torch.long),
            "responses": torch.tensor([[*ids, 0]]),
            "attention_mask": torch.tensor([[1, 1, *(1 for _ in ids), 0]]),
        }
        row = {
            "data_source": "umrg",
            "reward_model": {"style": "rule", "ground_truth": json.dumps(truth)},
            "extra_info": {"index": index},
        }
        others = {name: np.array([value], dtype=object) for name, value in row.items()}
        answer = manager.loop.run_until_complete(manager.run_single(DataProto.from_dict(tensors, others)))
        assert answer["reward_score"] == score(RIGHT, truth)["score"]
        infos.append(answer["reward_extra_info"])
    assert infos[1]["honesty"] is None
    table = {name: np.array([info[name] for info in infos]).tolist() for name in infos[0]}
    means = process_validation_metrics(["umrg"] * 2, ["a", "b"], table)["umrg"]
    assert means["honesty"]["mean@1"] == infos[0]["honesty"]  # of the one row that has it
    assert math.isfinite(means["score"]["mean@1"])


# EasyR1


def test_easyr1_loads_it_by_path_and_gets_the_keys_it_needs():
    module = load(FOLDER / "easyr1.py", "custom_reward_fn")
    assert (module.REWARD_NAME, module.REWARD_TYPE) == ("medground", "batch")
    inputs = [
        {"response": text, "response_length": len(text), "ground_truth": json.dumps(truth)}
        for text, truth in ((RIGHT, TRUTH), (WRONG, TRUTH), ('<answer>{"absent": true}</answer>', ABSENT))
    ]
    rows = module.compute_score(inputs)
    assert [row["overall"] for row in rows] == [score(one["response"], one["ground_truth"])["score"] for one in inputs]
    assert all(isinstance(value, float) for row in rows for value in row.values())  # it takes their mean
    assert "honesty" in rows[0]
    assert "honesty" not in rows[2]
    assert module.compute_score(inputs[:1], recipe="umrg-soft", weights={"format_think": 0})[0]["overall"] == 3.0
    with pytest.raises(TruthError, match="truth of row 1: is missing"):
        module.compute_score([inputs[0], {**inputs[0], "ground_truth": None}])


# ms-swift


def test_the_swift_classes_score_columns():
    from medground.adapters.swift import Medground, UMRGHard

    columns = {"ground_truth": [json.dumps(TRUTH), None], "messages": [[], []], "trainer_state": None}
    assert UMRGHard(args=None)([RIGHT, RIGHT], **columns) == [score(RIGHT, TRUTH, "umrg-hard")["score"], None]

    class Thousandths(Medground):
        coordinates = "0-1000"
        weights = {"evidence": 0.0}  # noqa: RUF012

    truth = Truth.from_mask(np.pad(np.ones((100, 200), bool), ((100, 300), (100, 700))))
    said = gold(truth.to(Space.norm1000()), "A pale band.")
    assert Thousandths()([said], ground_truth=[truth]) == [1.0]
    assert Medground()([said], ground_truth=[truth])[0] < 0.9


def test_the_folder_never_hides_the_trainers_themselves():
    # ms-swift puts a plugin's folder first on the path; ours holds a trl.py.
    code = (
        "import sys, importlib.util\n"
        f"sys.path.insert(0, {str(FOLDER)!r})\n"
        f"spec = importlib.util.spec_from_file_location('_swift_external', {str(FOLDER / 'swift.py')!r})\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "print(importlib.util.find_spec('easyr1'), len(module.orms) >= 5)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["None", "True"], done.stderr


def test_swifts_trainer_calls_it():
    only_where("swift.rewards", "ms-swift")
    import torch
    from swift.rewards import orms
    from swift.rl_core.grpo_algorithm import GRPOSample, compute_rewards_per_func
    from swift.utils.utils import import_external_file

    import_external_file(str(FOLDER / "swift.py"))
    samples = [
        GRPOSample(messages=[{"role": "assistant", "content": text}], extra={"ground_truth": json.dumps(TRUTH)})
        for text in (RIGHT, WRONG)
    ]
    functions = [orms["umrg_soft"](args=None), orms["medground"](args=None)]
    found = compute_rewards_per_func(samples, functions, None, torch.device("cpu"))
    assert found[:, 0].tolist() == [4.0, 0.0]
    assert found[:, 1].tolist() == pytest.approx([score(text, TRUTH)["score"] for text in (RIGHT, WRONG)])


# lmms-eval

TASKS = FOLDER / "lmms_eval"
KINDS = {"template": "umrg-v1", "mode": "reason"}


def png(array: np.ndarray) -> dict[str, Any]:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return {"bytes": stream.getvalue(), "path": None}


def row(truth: dict[str, Any] | None = None, **other: Any) -> dict[str, Any]:
    """A row of the UMRG set's layout: a picture of 1000 x 500 with a band."""
    mask = np.zeros((500, 1000), np.uint8)
    mask[100:200, 100:300] = 255
    label = {**TRUTH, "image_size": [1000, 500]} if truth is None else truth
    return {
        "prompt": [{"role": "user", "content": "<image>Where is the pale band?"}],
        "images": [png(mask)],
        "masks": [png(mask)],
        "data_source": "umrg",
        "reward_model": {"style": "rule", "ground_truth": json.dumps(label)},
        "extra_info": {"id": "r1"},
        **other,
    }


def functions(name: str) -> dict[str, Callable[..., Any]]:
    """Read a task as lmms-eval does, its included template first; the functions come from files loaded by path."""
    module = load(TASKS / "utils.py", "utils")

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!function", lambda _, node: getattr(module, node.value.removeprefix("utils.")))
    task = yaml.load((TASKS / name).read_text(encoding="utf-8"), Loader)  # noqa: S506 - a safe loader's child
    return {**functions(task.pop("include")), **task} if "include" in task else task


@pytest.mark.parametrize("name", ["medground.yaml", "medground_pixels.yaml"])
def test_a_task_is_whole(name):
    task = functions(name)
    assert task["task"] == Path(name).stem
    measured = task["process_results"](row(), [RIGHT])
    assert sorted(one["metric"] for one in task["metric_list"]) == sorted(measured)
    assert all(one["aggregation"]([0.0, 1.0, math.nan]) == 0.5 for one in task["metric_list"])
    assert task["doc_to_target"] in row()


def test_asking_and_reading_agree_on_the_ruler():
    thousandths, pixels = functions("medground.yaml"), functions("medground_pixels.yaml")
    high = RIGHT.replace("100, 100, 300, 200", "100, 200, 300, 400").replace("150]", "300]")
    for task, said, words in ((thousandths, high, "whole thousandths"), (pixels, RIGHT, "1000 x 500 image")):
        measured = task["process_results"](row(), [said])
        assert measured["medground_box_iou"] == measured["medground_acc_50"] == measured["medground_pointing"] == 1.0
        assert measured["medground_pdice"] == 1.0
        assert measured["medground_pdice_paper"] == pytest.approx(2.0, abs=1e-4)
        assert task["process_results"](row(), [RIGHT if said is high else high])["medground_box_iou"] < 0.5
        messages = task["doc_to_messages"](row(), KINDS)
        assert [message["role"] for message in messages] == ["system", "user"]
        assert words in messages[0]["content"][0]["text"]
        image, question = messages[1]["content"]
        assert image["url"].size == (1000, 500)
        assert question["text"] == "Where is the pale band?"
        assert task["doc_to_text"](row(), KINDS).endswith("Where is the pale band?")
        assert task["doc_to_text"](row(), {"template": None}) == "Where is the pale band?"


def test_what_cannot_be_read_counts_nothing_and_what_is_not_there_is_left_out():
    read = functions("medground_pixels.yaml")["process_results"]
    failed = read(row(), [WRONG])
    assert failed.pop("medground_failure_rate") == 1.0
    assert set(failed.values()) == {0.0}
    box_alone = read(row({"bbox_2d": TRUTH["bbox_2d"], "image_size": [1000, 500]}), [RIGHT])
    assert math.isnan(box_alone["medground_pdice"])
    assert box_alone["medground_box_iou"] == 1.0
    nothing = row({"absent": True, "image_size": [1000, 500]}, masks=None)
    agreed = read(nothing, ['<answer>{"absent": true}</answer>'])
    assert math.isnan(agreed["medground_box_iou"])
    assert math.isnan(agreed["medground_acc_50"])
    assert agreed["medground_failure_rate"] == 0.0
    assert read(nothing, [RIGHT])["medground_box_iou"] == 0.0
    assert read(nothing, [WRONG])["medground_box_iou"] == 0.0
    assert read(row(masks=[]), [RIGHT])["medground_pointing"] == 1.0  # in the true box


@pytest.mark.parametrize(
    ("doc", "complaint"),
    [
        (
            row(TRUTH),
            "row r1, image_size: the truth doesn't say it, so 840 x 840 is meant, but the image has 1000 x 500",
        ),
        (row({**TRUTH, "bbox_2d": []}), "row r1: truth, bbox_2d"),
        (row(images=[]), "row r1, images: expected one image, found 0"),
    ],
)
def test_a_row_that_cannot_be_measured_is_named(doc, complaint):
    with pytest.raises(TruthError, match=complaint):
        functions("medground.yaml")["process_results"](doc, [RIGHT])


def test_lmms_eval_runs_the_task(tmp_path):
    only_where("lmms_eval", "lmms-eval")
    from datasets import Dataset

    Dataset.from_list([row(), row()]).to_parquet(tmp_path / "medground_test.parquet")
    said = f"response={RIGHT}".replace(" ", "")
    call = [sys.executable, "-m", "lmms_eval", "--model", "dummy", "--model_args", said, "--tasks", "medground_pixels"]
    call += ["--include_path", str(TASKS), "--output_path", "out"]
    environment = {"PATH": "", "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(FOLDER.parent.parent)}
    done = subprocess.run(call, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    found = list((tmp_path / "out").rglob("*_results.json"))
    assert found, done.stderr[-2000:]
    results = json.loads(found[0].read_text(encoding="utf-8"))["results"]["medground_pixels"]
    assert results["medground_box_iou,none"] == 1.0
    assert results["medground_failure_rate,none"] == 0.0
