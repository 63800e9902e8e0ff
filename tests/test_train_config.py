"""The page that shapes a training: what is read, what is refused, and with which words."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from medground.errors import ConfigError
from medground.rewards import load_recipe
from medground.train.config import TrainConfig
from medground.train.recipe import read_config

RECIPES = Path(__file__).parents[1] / "recipes"
OWN_LOOP = {"nano_v0.toml", "nano_v0_wide.toml"}  # of medground.train.sft, which has a page of its own
LEAST = 'name = "a"\nkind = "{kind}"\nrate = 1e-4\n'
DATA = '[data]\ntrain = "train.parquet"\n'


@pytest.fixture
def written(tmp_path):
    def write(top: str = "", tables: str = "", kind: str = "sft") -> Path:
        file = tmp_path / "a.toml"
        file.write_text(LEAST.format(kind=kind) + top + "\n" + DATA + tables, encoding="utf-8")
        return file

    return write


def recipes() -> list[Path]:
    return sorted(file for file in RECIPES.glob("*.toml") if file.name not in OWN_LOOP)


@pytest.mark.parametrize("file", recipes(), ids=lambda file: file.stem)
def test_recipes_can_be_read(file):
    config = read_config(file)
    assert config.name == file.stem.replace("_", "-")
    if config.kind == "grpo":
        recipe = load_recipe(config.grpo.recipe)
        assert set(config.grpo.weights) <= set(recipe.weights)
        assert config.batch * config.accumulation % config.grpo.generations == 0


def test_the_papers_settings_are_the_papers():
    config = read_config(RECIPES / "umrg_7b.toml")
    assert (config.rate, config.epochs, config.lora) == (1e-6, 5, None)
    assert (config.grpo.generations, config.grpo.beta, config.grpo.max_completion) == (16, 0.01, 2048)
    eight_gpus = config.batch * config.accumulation * 8
    assert eight_gpus == 128 * config.grpo.generations
    # 28 x 28 pixels a token; the text of a prompt takes less than what is left of 2048.
    assert config.max_pixels is not None
    assert config.max_pixels / 28**2 <= 2048 - 512


def test_one_gpu_differs_only_by_what_it_forces():
    full, one = read_config(RECIPES / "umrg_7b.toml"), read_config(RECIPES / "umrg_7b_lora.toml")
    assert one.lora is not None
    assert one.model == full.model
    forced = {"vllm"}
    assert one.grpo.model_dump(exclude=forced) == full.grpo.model_dump(exclude=forced)
    assert one.data == full.data


@pytest.mark.parametrize(
    ("top", "tables", "kind", "said"),
    [
        ("ratee = 1.0", "", "sft", r"a\.toml: ratee: isn't known; do you mean rate\?"),
        ("acumulation = 2", "", "sft", "do you mean accumulation"),
        ("", "vall = 'x'", "sft", r"data\.vall: isn't known; do you mean data\.val\?"),
        ("", "[grpo]\ngeneration = 4", "grpo", r"do you mean grpo\.generations\?"),
        ("", "[lora]\nqqqqq = 4", "sft", r"lora\.qqqqq: isn't known; choose one of rank, alpha, dropout"),
        ("batch = 0", "", "sft", r"a\.toml: batch: .*greater than 0"),
        ("batch = 1.5", "", "sft", r"batch: .*integer"),
        ("weight_decay = nan", "", "sft", "weight_decay: "),
        ("warmup = inf", "", "sft", "warmup: "),
        ("schedule = 'cosin'", "", "sft", "schedule: .*'cosine'"),
        ("out = 3", "", "sft", "out: .*string"),
        ("", "[grpo]\nbeta = 0.1", "sft", r"\[grpo\] has no say in a run of kind 'sft'"),
        ("", "[sft]\nmax_tokens = 5", "grpo", r"\[sft\] has no say"),
        ("", "augment = true", "grpo", "data.augment is for kind 'sft'"),
        ("", "views = 2", "sft", "views are those of augment"),
        ("", "omit_claims = 0.2", "sft", "omit_claims is for plain traces"),
        ("freeze_vision = true\nvision_rate = 1e-5", "", "sft", "vision_rate has no say"),
        ("", "[grpo]\ncredit = 'number'\nscale_rewards = 'batch'", "grpo", "compares within groups"),
        ("", "drop_words = 0.1", "grpo", "drop_words is for kind 'sft'"),
        ("batch_statistics = true", "", "grpo", "batch_statistics is for kind 'sft'"),
        ("batch_statistics = true\nfreeze_vision = true", "", "sft", "batch_statistics is for kind 'sft'"),
        ("", "[grpo]\ngenerations = 1", "grpo", r"grpo\.generations: .*greater than or equal to 2"),
    ],
)
def test_what_is_wrong_is_named(written, top, tables, kind, said):
    with pytest.raises(ConfigError, match=said):
        read_config(written(top, tables, kind))


@pytest.mark.parametrize("name", ["../a", "", "a b", "/a", ".a"])
def test_a_name_is_a_folders_name(written, name):
    with pytest.raises(ConfigError, match="--set name: "):
        read_config(written(), [f"name={name}"])


def test_a_file_that_isnt_toml_or_isnt_there(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml: can't be read as TOML \(No such file"):
        read_config(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_bytes(b"name = \xff")
    with pytest.raises(ConfigError, match=r"bad\.toml: can't be read as TOML"):
        read_config(tmp_path / "bad.toml")
    (tmp_path / "bad.toml").write_text("name = ")
    with pytest.raises(ConfigError, match="TOML"):
        read_config(tmp_path / "bad.toml")


@pytest.mark.parametrize(
    ("override", "field", "value"),
    [
        ("seed=7", "seed", 7),
        ("model=runs/a/model", "model", "runs/a/model"),
        ("model='x=y'", "model", "x=y"),
        ("bf16=false", "bf16", False),
        ("rate=3e-5", "rate", 3e-5),
        ("epochs=2", "epochs", 2.0),
        ("vision_rate=none", "vision_rate", None),
        (" steps = 9 ", "steps", 9),
    ],
)
def test_overrides(written, override, field, value):
    assert getattr(read_config(written("vision_rate = 1e-5"), [override]), field) == value


def test_overrides_reach_into_tables(written):
    file = written()
    config = read_config(file, ["data.limit=12", "lora.rank=4", "lora.targets=['q_proj', 'v_proj']"])
    assert (config.data.limit, config.data.train) == (12, "train.parquet")
    assert config.lora is not None
    assert (config.lora.rank, config.lora.targets) == (4, ("q_proj", "v_proj"))
    assert read_config(written(tables="[lora]\nrank = 4"), ["lora=none"]).lora is None


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("seed", "--set seed: write key=value"),
        ("=3", "write key=value"),
        ("data.=3", "write key=value"),
        ("name.x=3", "--set name.x: name is a value, not a table"),
        ("data.lim=3", r"--set data\.lim: isn't known; do you mean data\.limit\?"),
        ("seed=-1", r"--set seed: .*greater than or equal to 0"),
        ("data=3", "--set data: "),
    ],
)
def test_overrides_that_cant_be_used(written, override, said):
    with pytest.raises(ConfigError, match=said):
        read_config(written(), [override])


def test_an_error_of_the_file_isnt_blamed_on_an_override(written):
    with pytest.raises(ConfigError, match=r"a\.toml: batch: "):
        read_config(written("batch = 0"), ["seed=3"])


@pytest.mark.parametrize("file", recipes(), ids=lambda file: file.stem)
def test_settings_are_whole_and_can_be_read_again(file):
    config = read_config(file)
    assert TrainConfig.model_validate(config.settings()) == config
    assert ("sft" in config.settings()) == (config.kind == "sft")


def test_a_page_doesnt_change(written):
    config = read_config(written())
    with pytest.raises(ValidationError):
        config.seed = 3  # type: ignore[misc]
    assert config.folder == Path("runs/a")
    assert read_config(written(), ["out=/x/y"]).folder == Path("/x/y")
