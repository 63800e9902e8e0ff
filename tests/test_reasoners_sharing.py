"""A picture that is asked about twice is looked at once, and what is answered stays the same."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("timm")

from medground.images import MedicalImage  # noqa: E402
from medground.reasoners import Request, _sharing, load_reasoner  # noqa: E402
from medground.reasoners._sharing import looking_once  # noqa: E402


class Tower(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []
        self.gain = torch.nn.Parameter(torch.ones(()))

    def forward(self, pixel_values: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        self.seen.append(len(pixel_values))
        return pixel_values.flatten(1) * scale * self.gain


def around(tower: Tower) -> torch.nn.Module:
    return torch.nn.ModuleDict({"vision_tower": tower})


def pictures(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)[:, None, None, None].expand(-1, 3, 2, 2)


@torch.no_grad()
def test_each_picture_goes_through_once_and_keeps_its_place() -> None:
    tower = Tower()
    with looking_once(around(tower)):
        assert tower(pictures(1, 2, 1))[:, 0].tolist() == [1, 2, 1]
        assert tower(pixel_values=pictures(2, 1))[:, 0].tolist() == [2, 1]
        assert tower(pictures(3, 2))[:, 0].tolist() == [3, 2]
        assert tower(pictures(2), scale=5.0)[:, 0].tolist() == [10]
    assert tower.seen == [2, 1, 1]
    tower(pictures(2, 2))
    assert tower.seen[-1] == 2  # nothing stays behind


def test_what_learns_or_has_another_form_goes_through_as_it_is() -> None:
    tower = Tower()
    with looking_once(torch.nn.ModuleDict({"model": around(tower)})):
        tower(pictures(1, 1))
        with torch.no_grad():
            tower(torch.ones(4, 6))
    assert tower.seen == [2, 4]
    with looking_once(None), looking_once(torch.nn.Linear(2, 2)):
        pass


def test_a_frozen_tower_is_remembered_while_the_rest_learns() -> None:
    tower, head = Tower().requires_grad_(False), torch.nn.Linear(12, 1)
    with looking_once(around(tower)):
        for _ in range(2):
            head(tower(pictures(1, 2))).sum().backward()
    assert tower.seen == [2]
    assert head.weight.grad is not None
    with looking_once(around(tower)), torch.autocast("cpu", torch.bfloat16):
        assert tower(pictures(1)).dtype == tower(pictures(1)).dtype
    assert tower.seen == [2, 1]


@torch.no_grad()
def test_a_tower_on_a_cpu_is_given_few_pictures_at_once() -> None:
    tower = Tower()
    with looking_once(around(tower)):
        assert tower(pictures(*range(11), 3))[:, 0].tolist() == [*range(11), 3]
    assert tower.seen == [4, 4, 3]


@torch.no_grad()
def test_the_oldest_features_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sharing, "KEPT_BYTES", 2 * 12 * 4)
    tower = Tower()
    with looking_once(around(tower)):
        for value in (1, 2, 3, 2, 1):
            assert tower(pictures(value))[0, 0] == value
    assert tower.seen == [1, 1, 1, 1]


def test_nano_answers_as_it_does_without() -> None:
    reasoner = load_reasoner("nano", batch_size=2)
    rng = np.random.default_rng(0)
    shown = [MedicalImage.from_array(rng.integers(0, 255, (40, 50), np.uint8)) for _ in range(2)]
    requests = [Request(shown[at], question, "direct") for at, question in ((0, "Where?"), (1, "What?"), (0, "Who?"))]
    plain = reasoner.complete(requests, max_new_tokens=24)
    seen: list[int] = []
    stem = next(module for module in reasoner.model.modules() if isinstance(module, torch.nn.Conv2d))
    stem.register_forward_hook(lambda module, given, output: seen.append(len(given[0])))
    with looking_once(reasoner.model):
        assert reasoner.complete(requests, max_new_tokens=24) == plain
    assert sum(seen) == 2
