"""The recipes, read by the very packages that they are for: our configuration, accelerate, TRL, DeepSpeed, verl."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer

from medground.cli import app
from medground.errors import ConfigError
from medground.train.config import TrainConfig
from medground.train.recipe import read_config

ROOT = Path(__file__).parent.parent
RECIPES = ROOT / "recipes"
ENGINES = ["fsdp2", "zero3"]
ADDRESSES = {"MAIN": "10.0.0.1", "SERVER": "http://10.0.0.9:8000"}


def only_where(package: str, name: str) -> Any:
    """Skip where a package isn't installed."""
    return pytest.importorskip(package, reason=f"{name} isn't installed; docs/scale.md says what is shown with it")


def run(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script with an interpreter that only writes down what it is given."""
    line = [str(RECIPES / script), *arguments]
    return subprocess.run(line, env=os.environ | environment, capture_output=True, text=True, check=False)


@pytest.fixture
def written(tmp_path: Path) -> dict[str, str]:
    """The environment in which a script's python writes its arguments, one a line."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    python.chmod(0o755)
    return {"PYTHON": str(python)}


def line_of(script: str, *arguments: str, **environment: str) -> list[str]:
    end = run(script, *arguments, **environment)
    assert end.returncode == 0, end.stderr
    return end.stdout.splitlines()


def launched(engine: str, written: dict[str, str], **environment: str) -> tuple[Any, list[str]]:
    """Return what accelerate makes of a script's line, and the command that it starts."""
    launch = only_where("accelerate.commands.launch", "accelerate")
    line = line_of(f"umrg_7b_{engine}.sh", "train", "1", "--resume", **written, **ADDRESSES, **environment)
    assert line[:3] == ["-m", "accelerate.commands.accelerate_cli", "launch"]
    arguments = launch.launch_command_parser().parse_args(line[3:])
    arguments, file, _ = launch._validate_launch_command(arguments)
    arguments.deepspeed_fields_from_accelerate_config = ",".join(file.deepspeed_config)  # as its own command does next
    return arguments, [arguments.training_script, *arguments.training_script_args]


def options(command: list[str]) -> dict[str, Any]:
    """Return the parameters that a command line of medground is read as."""
    group: Any = typer.main.get_command(app)
    names = list(command)
    while hasattr(group, "commands"):
        group = group.commands[names.pop(0)]
    return group.make_context("medground", names).params


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_each_configuration_is_read(path: Path) -> None:
    if "v0" in path.stem:
        pytest.skip("nano v0 has a configuration of its own, which tests/test_sft.py reads")
    assert read_config(path).kind in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("machines", ["1", "2", "4"])
def test_a_script_trains_the_papers_step_on_any_number_of_machines(
    engine: str, machines: str, written: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    arguments, command = launched(engine, written, MACHINES=machines)
    processes = 8 * int(machines)
    assert (arguments.num_machines, arguments.num_processes) == (int(machines), processes)
    assert (arguments.machine_rank, arguments.main_process_ip, arguments.module) == (1, "10.0.0.1", True)
    assert command[:3] == ["medground", "train", "grpo"]
    found = options(command[1:])
    assert found["resume"]
    settings = found["set_"]
    config = read_config(found["config"], settings)
    assert config.batch * config.accumulation * processes == 128 * 16
    assert (config.grpo.generations, config.grpo.vllm, config.grpo.server) == (16, "server", ADDRESSES["SERVER"])
    assert config.name == f"umrg-7b-{engine}"
    assert config.data.val_limit == 2 * processes


@pytest.mark.parametrize("engine", ENGINES)
def test_trl_takes_the_settings(engine: str, written: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    only_where("trl", "trl")
    from medground.train.reinforce import grpo_arguments
    from medground.train.start import total_steps

    monkeypatch.chdir(ROOT)
    _, command = launched(engine, written)
    found = options(command[1:])
    settings = found["set_"]
    config = read_config(found["config"], [*settings, "bf16=false"])
    with monkeypatch.context() as patch:
        patch.setenv("WORLD_SIZE", "16")
        assert total_steps(config, 14_000) == round(5 * 14_000 / 128)
    alone = config.model_copy(update={"accumulation": config.accumulation * 16})
    made = grpo_arguments(alone, 14_000)
    assert (made.use_vllm, made.vllm_mode, made.vllm_server_base_url) == (True, "server", ADDRESSES["SERVER"])
    assert (made.num_generations, made.beta, made.learning_rate) == (16, 0.01, 1e-6)


def test_accelerate_spreads_by_fsdp2(written: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    arguments, _ = launched("fsdp2", written)
    from accelerate.commands.launch import prepare_multi_gpu_env
    from accelerate.utils import FullyShardedDataParallelPlugin

    assert arguments.use_fsdp
    assert not arguments.use_deepspeed
    for name, value in prepare_multi_gpu_env(arguments).items():
        if name.startswith(("FSDP_", "ACCELERATE_")):
            monkeypatch.setenv(name, value)
    assert os.environ["ACCELERATE_USE_FSDP"] == "true"
    assert os.environ["ACCELERATE_MIXED_PRECISION"] == "bf16"
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert plugin.state_dict_type.name == "FULL_STATE_DICT"  # else OUT/model would have no weights
    assert not plugin.activation_checkpointing  # both kinds at once are refused, and the recipe has the other
    assert not plugin.cpu_ram_efficient_loading
    assert plugin.reshard_after_forward


def test_accelerate_spreads_by_zero3(written: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    arguments, _ = launched("zero3", written)
    assert arguments.use_deepspeed
    assert not arguments.use_fsdp
    assert arguments.deepspeed_multinode_launcher == "standard"
    only_where("deepspeed", "deepspeed")
    from accelerate.commands.launch import prepare_deepspeed_cmd_env
    from accelerate.utils import DeepSpeedPlugin
    from deepspeed.runtime.config import DeepSpeedConfig

    _, environment = prepare_deepspeed_cmd_env(arguments)
    for name, value in environment.items():
        if name.startswith("ACCELERATE_"):
            monkeypatch.setenv(name, value)
    plugin = DeepSpeedPlugin()
    assert (plugin.zero_stage, plugin.zero3_init_flag, plugin.zero3_save_16bit_model) == (3, True, True)
    written_out = plugin.deepspeed_config | {"train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 32}
    read = DeepSpeedConfig({name: value for name, value in written_out.items() if value != "auto"})
    assert read.zero_optimization_stage == 3
    assert read.zero_config.gather_16bit_weights_on_model_save


def test_trl_starts_the_server(written: dict[str, str]) -> None:
    serve = only_where("trl.scripts.vllm_serve", "trl")
    line = line_of("umrg_7b_zero3.sh", "server", **written)
    assert line[:2] == ["-m", "trl.scripts.vllm_serve"]
    parsed, rest = serve.make_parser().parse_args_and_config(line[2:], return_remaining_strings=True)
    assert rest == []
    command = shlex.join(serve.build_command(parsed, rest))
    assert "serve lingshu-medical-mllm/Lingshu-7B --host 0.0.0.0 --port 8000 --tensor-parallel-size 4" in command
    grpo = read_config(RECIPES / "umrg_7b.toml").grpo
    assert parsed.max_model_len == 2048 + grpo.max_completion


@pytest.mark.parametrize("script", ["umrg_7b_fsdp2.sh", "umrg_7b_zero3.sh", "umrg_7b_verl.sh"])
def test_a_script_says_how_it_is_called(script: str) -> None:
    end = run(script)
    assert end.returncode == 2
    assert f"recipes/{script} train" in end.stderr
    assert "What was run" in end.stderr
    assert "set -e" not in end.stderr


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"SERVER": ""}, "give the address of the server"),
        ({"MAIN": ""}, "give the address of the machine with rank 0"),
        ({"MACHINES": "3"}, "2048 completions can't be shared evenly by 24 GPUs"),
    ],
)
def test_what_a_script_needs_is_named(changes: dict[str, str], said: str, written: dict[str, str]) -> None:
    end = run("umrg_7b_fsdp2.sh", "train", "0", **written, **(ADDRESSES | changes))
    assert end.returncode != 0
    assert said in end.stderr


def test_the_address_of_a_server_is_checked() -> None:
    with pytest.raises(ConfigError, match=r"grpo\.server"):
        read_config(RECIPES / "umrg_7b.toml", ["grpo.server=10.0.0.9"])


# verl


@pytest.fixture
def verl_config(monkeypatch: pytest.MonkeyPatch) -> Any:
    only_where("verl", "verl")
    from hydra import compose, initialize_config_dir

    monkeypatch.chdir(ROOT)
    with initialize_config_dir(str(RECIPES), version_base=None):
        yield compose("umrg_7b_verl", return_hydra_config=False)


def test_verl_takes_the_settings(verl_config: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import omega_conf_to_dataclass, validate_config

    assert need_reference_policy(verl_config)
    assert not need_critic(verl_config)
    validate_config(verl_config, use_reference_policy=True, use_critic=False)
    assert "passed successfully" in capsys.readouterr().out
    part = verl_config.actor_rollout_ref
    rollout, actor = omega_conf_to_dataclass(part.rollout), omega_conf_to_dataclass(part.actor)
    assert (rollout.name, rollout.n, rollout.response_length) == ("vllm", 16, 2048)
    ours = read_config(RECIPES / "umrg_7b.toml")
    assert (actor.optim.lr, actor.optim.weight_decay) == (ours.rate, ours.weight_decay)
    assert (actor.kl_loss_coef, actor.kl_loss_type) == (ours.grpo.beta, "low_var_kl")
    assert rollout.n * verl_config.data.train_batch_size == 128 * ours.grpo.generations
    assert verl_config.trainer.total_epochs == ours.epochs
    omega_conf_to_dataclass(verl_config.algorithm)


def test_verl_reads_our_export_and_calls_our_reward(
    verl_config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_where("qwen_vl_utils", "qwen-vl-utils")
    import sys

    import datasets
    import numpy as np
    import torch
    from small_training import NANO, write_data
    from test_reasoners_hf import make_folder
    from transformers import AutoProcessor, AutoTokenizer
    from verl import DataProto
    from verl.trainer.ppo.reward import load_reward_manager
    from verl.utils.dataset.rl_dataset import RLHFDataset, collate_fn

    from medground.rewards import gold, read_truth

    end = run("umrg_7b_verl.sh", "data", str(write_data(tmp_path)), PYTHON=sys.executable, OUT=str(tmp_path / "verl"))
    assert end.returncode == 0, end.stderr
    processor = AutoProcessor.from_pretrained(make_folder("qwen2_5_vl", tmp_path / "tiny"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    settings = verl_config.data
    settings.max_prompt_length = 4096  # the tiny tokenizer cuts text into bytes
    rows = RLHFDataset(str(tmp_path / "verl" / "train.parquet"), processor.tokenizer, settings, processor)
    assert len(rows) == 12
    batch = collate_fn([rows[place] for place in range(len(rows))])
    system, user = batch["raw_prompt"][0]
    assert "whole thousandths of the image" in json.dumps(system)
    assert [part["type"] for part in user["content"]] == ["image", "text"]
    assert user["content"][0]["image"].size == (96, 72)

    verl_config.reward.custom_reward_function.reward_kwargs.recipe = "medground"  # which knows absent targets
    # verl decodes without special tokens, which the tiny tokenizer's tags are and a real one's aren't.
    tokenizer = AutoTokenizer.from_pretrained(NANO)
    manager = load_reward_manager(verl_config, tokenizer)
    for place in range(len(rows)):
        told = batch["reward_model"][place]["ground_truth"]
        truth = read_truth(told)
        said = gold(truth, "" if truth.absent else "It is there.")
        ids = tokenizer(said)["input_ids"]
        tensors = {
            "prompts": torch.ones(1, 2, dtype=torch.long),
            "responses": torch.tensor([ids]),
            "attention_mask": torch.ones(1, 2 + len(ids), dtype=torch.long),
        }
        names = ("data_source", "reward_model", "extra_info")
        others = {name: np.array([batch[name][place]], dtype=object) for name in names}
        answer = manager.loop.run_until_complete(manager.run_single(DataProto.from_dict(tensors, others)))
        assert answer["reward_score"] > 0.6
        if not truth.absent:
            assert answer["reward_extra_info"]["box"] > 0.9


def test_a_configuration_is_the_same_in_the_run_as_on_the_page() -> None:
    config = read_config(RECIPES / "umrg_7b.toml", ["grpo.vllm=server", "grpo.server=http://gpu9:8000"])
    assert TrainConfig.model_validate(config.settings()) == config
