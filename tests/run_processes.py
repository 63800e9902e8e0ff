"""Trains as one of several processes: torchrun --nproc_per_node 2 tests/run_processes.py PAGES.

PAGES is a JSON file with the configurations (``pages``) and a free ``port`` for each engine, ``ddp`` or ``fsdp2``.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import random
import sys
from pathlib import Path
from typing import Any


def drawn_alike(calls: itertools.count[int]) -> Any:
    """Return `torch.multinomial` with chance that depends on a row's place among the rows of all processes."""
    import torch

    def multinomial(shares: Any, num_samples: int = 1, **_: Any) -> Any:
        call, first = next(calls), int(os.environ.get("RANK", "0")) * len(shares)
        chance = [random.Random(f"{call}/{first + row}").random() for row in range(len(shares))]
        found = torch.searchsorted(shares.cumsum(dim=-1), torch.tensor(chance, dtype=shares.dtype)[:, None])
        return found.clamp(max=shares.shape[-1] - 1)

    return multinomial


def spread_on_the_cpu() -> None:
    """Have accelerate use FSDP2, with the settings of recipes/accelerate_fsdp2.yaml: it only does so for accelerators,
    so it is told that the processes are such.
    """
    import yaml
    from accelerate import state
    from accelerate.utils import DistributedType

    recipe = Path(__file__).parent.parent / "recipes" / "accelerate_fsdp2.yaml"
    settings = yaml.safe_load(recipe.read_text(encoding="utf-8"))["fsdp_config"]
    os.environ.update({name.upper(): str(value).lower() for name, value in settings.items()})
    for name in ("fsdp_auto_wrap_policy", "fsdp_state_dict_type"):
        os.environ[name.upper()] = settings[name]
    os.environ["ACCELERATE_USE_FSDP"] = "true"
    begin = state.PartialState.__init__

    def begun(self: Any, *args: Any, **options: Any) -> None:
        begin(self, *args, **options)
        if self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.MULTI_NPU

    state.PartialState.__init__ = begun


def train(engine: str, pages: list[dict[str, Any]]) -> None:
    if engine == "fsdp2":
        spread_on_the_cpu()
    import torch

    from medground.train.config import TrainConfig
    from medground.train.reinforce import train_grpo
    from medground.train.supervised import train_sft

    for page in pages:
        torch.multinomial = drawn_alike(itertools.count())
        config = TrainConfig.model_validate(page)
        (train_sft if config.kind == "sft" else train_grpo)(config)


def main(pages: str) -> None:
    """Train with each engine in a process of its own, forked from here: what takes longest, the imports, is done once.
    An engine that fails doesn't keep the next from its turn; how each ended is written beside the pages.
    """
    import medground.train.reinforce
    import medground.train.supervised  # noqa: F401

    ends = []
    for engine, asked in json.loads(Path(pages).read_text(encoding="utf-8")).items():
        # The first of the processes keeps the store that they meet at: what an earlier engine left isn't in it.
        os.environ |= {"TORCHELASTIC_USE_AGENT_STORE": "False", "MASTER_PORT": str(asked["port"])}
        child = multiprocessing.get_context("fork").Process(target=train, args=(engine, asked["pages"]))
        child.start()
        child.join()
        ends.append(child.exitcode)
        Path(pages).with_name(f"{engine}-{os.environ['RANK']}").write_text(str(child.exitcode))


if __name__ == "__main__":
    main(*sys.argv[1:])
