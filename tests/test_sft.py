from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("timm")
pytest.importorskip("tensorboard")

from drawn import add_target, ellipse, write_manifest  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from medground.coords import Space  # noqa: E402
from medground.errors import ConfigError  # noqa: E402
from medground.images import MedicalImage  # noqa: E402
from medground.reasoners import Request, load_reasoner  # noqa: E402
from medground.train.nano import NUMBERS  # noqa: E402
from medground.train.sft import MAY_CHANGE, Settings, main, number_targets, prepare_folder, read_settings  # noqa: E402

RECIPES = Path(__file__).parents[1] / "recipes"
RECIPE = """
name = "nano-tiny"
epochs = 3
batch_size = 2
image_size = 128
hidden_size = 64
layers = 1
vocabulary = 2048
warmup = 1
decay = 0.4
save_every = 3
check_every = 100
check_samples = 1
"""


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures to train on and one to validate on."""
    root = tmp_path_factory.mktemp("masks")
    places = [(20, 20), (20, 44), (44, 20), (44, 44)]
    rows = [add_target(root, f"t{i}", ellipse(64, 64, *place, 12, 9)) for i, place in enumerate(places)]
    rows.append(add_target(root, "v", ellipse(64, 64, 32, 32, 12, 9), split="val"))
    return write_manifest(root, rows)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def whole(masks: Path, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six steps that nothing interrupted."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    main(["--config", str(recipe), "--masks", str(masks), "--out", str(out)])
    return out


@pytest.fixture(scope="module")
def resumed(masks: Path, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same run stopped after three steps (a copy of its folder), and then gone on with to the end."""
    out = tmp_path_factory.mktemp("runs") / "resumed"
    asked = ["--config", str(recipe), "--masks", str(masks), "--out", str(out)]
    main([*asked, "--most-steps", "3"])
    stopped = Path(shutil.copytree(out, out.with_name("stopped")))
    main([*asked, "--resume"])
    return stopped, out


def state_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "trainer_state.json").read_text())


def test_a_run_writes_a_model_that_answers(whole: Path) -> None:
    state = state_of(whole)
    assert state["global_step"] == state["max_steps"] == 6
    (loss,) = [entry["train_loss"] for entry in state["log_history"] if "train_loss" in entry]
    assert np.isfinite(loss)
    assert 0 < loss < 20
    model = whole / "model"
    assert json.loads((model / "medground.json").read_text())["name"] == "nano-tiny"
    weights = load_file(model / "model.safetensors").values()
    assert {value.dtype for value in weights if value.is_floating_point()} == {torch.bfloat16}
    assert json.loads((whole / "settings.json").read_text())["image_size"] == 128
    reasoner = load_reasoner(str(model), device="cpu")
    image = MedicalImage.from_array(np.arange(64 * 64, dtype=np.uint32).reshape(64, 64).astype(np.uint8))
    (completion,) = reasoner.complete([Request(image, "Where?")], max_new_tokens=4)
    assert completion.error is None
    assert completion.space == Space.norm1000()


def test_the_last_step_is_checked_on_validation_samples(whole: Path) -> None:
    (check,) = [json.loads(line) for line in (whole / "checks.jsonl").read_text().splitlines()]
    assert (check["step"], check["samples"]) == (6, 1)
    assert 0 <= check["box_iou"] <= 1


def test_weights_move_and_all_of_them(whole: Path) -> None:
    early, late = (load_file(whole / f"checkpoint-{step}" / "model.safetensors") for step in (3, 6))
    still = {name for name in early if early[name].is_floating_point() and torch.equal(early[name], late[name])}
    # The tower's classifier has a norm that nothing passes through.
    assert still == {f"model.vision_tower.timm_model.head.norm.{name}" for name in ("weight", "bias")}


def test_an_interrupted_run_ends_where_the_uninterrupted_one_does(whole: Path, resumed: tuple[Path, Path]) -> None:
    stopped, gone_on = resumed
    assert state_of(stopped)["global_step"] == 3
    assert (stopped / "model" / "medground.json").is_file(), "a trial leaves a model too"
    assert state_of(gone_on)["global_step"] == 6
    for step in (3, 6):
        ours, theirs = (load_file(run / f"checkpoint-{step}" / "model.safetensors") for run in (whole, gone_on))
        assert ours.keys() == theirs.keys()
        for name in ours:
            assert torch.allclose(ours[name].float(), theirs[name].float(), atol=1e-5), (step, name)
        rates = [
            torch.load(run / f"checkpoint-{step}" / "scheduler.pt", weights_only=True)["_last_lr"]
            for run in (whole, gone_on)
        ]
        assert rates[0] == pytest.approx(rates[1])


def test_rates_rise_stay_and_fall(whole: Path) -> None:
    def rates(step: int) -> list[float]:
        return sorted(torch.load(whole / f"checkpoint-{step}" / "scheduler.pt", weights_only=True)["_last_lr"])

    assert set(rates(3)) == {3e-4, 6e-4}, "the tower's and the rest's"
    assert max(rates(6)) < 1e-9


def test_a_second_phase_starts_from_the_firsts_weights(whole: Path, masks: Path, recipe: Path, tmp_path: Path) -> None:
    phase = ["--config", str(recipe), "--masks", str(masks), "--out", str(tmp_path / "run"), "--set", "warmup=1000000"]
    main([*phase, "--start-from", str(whole / "checkpoint-3"), "--set", "check_samples=1", "--most-steps", "1"])
    before = load_file(whole / "checkpoint-3" / "model.safetensors")
    after = load_file(tmp_path / "run" / "checkpoint-1" / "model.safetensors")
    # The rates have hardly begun to rise, so a step moves next to nothing; the sums of normalisation move anyway.
    for name in before:
        if "running_" not in name:
            assert torch.allclose(before[name], after[name], atol=1e-5), name


@pytest.mark.parametrize("setting", ["image_size=256", "hidden_size=128", "layers=2"])
def test_a_phase_of_another_size_is_refused(
    whole: Path, masks: Path, recipe: Path, tmp_path: Path, setting: str, capsys: pytest.CaptureFixture[str]
) -> None:
    phase = ["--config", str(recipe), "--masks", str(masks), "--out", str(tmp_path / "run"), "--set", setting]
    with pytest.raises(SystemExit):
        main([*phase, "--start-from", str(whole / "model")])
    key, _, wanted = setting.partition("=")
    error = capsys.readouterr().err
    assert f"model: {key}: is " in error
    assert f"and {wanted} in the recipe" in error
    assert not (tmp_path / "run").exists()


def test_a_folder_with_checkpoints_is_not_overwritten(
    whole: Path, masks: Path, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (whole / "settings.json").read_bytes()
    asked = ["--config", str(recipe), "--masks", str(masks), "--out", str(whole)]
    for more, said in (
        ([], "holds checkpoints of a run; give --resume"),
        (["--resume", "--set", "seed=4"], "seed: was 0 and is now 4; --resume can't change it"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main([*asked, *more])
        assert stopped.value.code == 2
        assert said in capsys.readouterr().err
    assert (whole / "settings.json").read_bytes() == before


def test_what_a_resumed_run_may_change(tmp_path: Path) -> None:
    settings = Settings()
    with pytest.raises(ConfigError, match="no checkpoint to go on from"):
        prepare_folder(tmp_path / "run", settings, resume=True)
    prepare_folder(tmp_path / "run", settings, resume=False)
    (tmp_path / "run" / "checkpoint-7").mkdir()
    prepare_folder(tmp_path / "run", settings, resume=True)
    others: dict[str, Any] = {"leave_out": ("busi",), "name": "other", "emphasis": {"busi": 2}, "wide": ("busi",)}
    for key, value in settings.model_dump().items():
        # Sizes double, so that they stay multiples; shares are halved and stay below 1.
        other = others.get(key, 1 if key == "seed" else value * 2 if isinstance(value, int) else None)
        other = value / 2 if other is None else other
        changed = Settings.model_validate(settings.model_dump() | {key: other})
        if key in MAY_CHANGE:
            prepare_folder(tmp_path / "run", changed, resume=True)
            prepare_folder(tmp_path / "run", settings, resume=True)
        else:
            with pytest.raises(ConfigError, match=f"settings.json: {key}: was "):
                prepare_folder(tmp_path / "run", changed, resume=True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--config", "missing.toml"], "missing.toml: can't be read as TOML"),
        (["--set", "leave_out"], "--set leave_out: write key=value"),
        (["--set", "epoch=3"], "epoch: Extra inputs are not permitted"),
        (["--masks", "elsewhere"], "manifest.jsonl: no such file"),
        (["--start-from", "elsewhere"], "there is no model folder elsewhere"),
    ],
)
def test_the_command_says_what_is_wrong_in_one_line(
    masks: Path, recipe: Path, tmp_path: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    with pytest.raises(SystemExit) as stopped:
        main(["--config", str(recipe), "--masks", str(masks), "--out", str(out), *arguments])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_nothing_to_train_on_is_told(tmp_path: Path, recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks = write_manifest(tmp_path, [add_target(tmp_path, "v", ellipse(64, 64, 32, 32, 9, 9), split="val")])
    with pytest.raises(SystemExit):
        main(["--config", str(recipe), "--masks", str(masks), "--out", str(tmp_path / "run")])
    assert "no rows to train on" in capsys.readouterr().err


@pytest.mark.parametrize("spread", [0.5, 10.0, 200.0])
def test_humps_sum_to_one_and_peak_on_their_number(spread: float) -> None:
    humps = number_targets(spread)
    assert humps.shape == (NUMBERS, NUMBERS)
    assert torch.allclose(humps.sum(1), torch.ones(NUMBERS), atol=1e-5)
    assert torch.equal(humps.argmax(1), torch.arange(NUMBERS))
    # They fall by the factor e within `spread` numbers, to both sides alike.
    steps = max(1, round(spread))
    assert humps[500, 500 + steps] / humps[500, 500] == pytest.approx(np.exp(-steps / spread), rel=1e-3)
    assert humps[500, 500 + steps] == pytest.approx(float(humps[500, 500 - steps]), rel=1e-5)


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("epoch = 3", "epoch"),
        ("epochs = 0", "epochs"),
        ("image_size = 250", "image_size"),
        ("hidden_size = 100", "hidden_size"),
        ("direct_share = 1.5", "direct_share"),
        ("leave_out = 'busi'", "leave_out"),
        ("rate = 'high'", "rate"),
    ],
)
def test_settings_refuse_what_they_dont_know_by_its_key(tmp_path: Path, line: str, key: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(f"seed = 3\n{line}\n")
    with pytest.raises(ConfigError, match=rf"recipe.toml: {key}: "):
        read_settings(path)


def test_settings_are_read_and_overridden(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('seed = 3\nepochs = 4\nleave_out = ["busi"]\n')
    settings = read_settings(path, ["epochs=7", "rate=1e-3", "name=a=b"])
    assert (settings.seed, settings.epochs, settings.rate, settings.name) == (3, 7, 1e-3, "a=b")
    assert settings.leave_out == ("busi",)
    assert settings.batch_size == Settings().batch_size
    for bad in (b"seed = ", b"\xff", None):
        path.unlink()
        if bad is not None:
            path.write_bytes(bad)
        with pytest.raises(ConfigError, match=r"recipe.toml: can't be read as TOML"):
            read_settings(path)
        path.write_bytes(b"")
    assert read_settings(path) == Settings()


@pytest.mark.parametrize("path", sorted(RECIPES.glob("nano_v0*.toml")), ids=lambda path: path.stem)
def test_the_recipes_are_valid(path: Path) -> None:
    assert read_settings(path).name.startswith("nano")
