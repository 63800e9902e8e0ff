"""Equal neighbours of a batch are encoded once, with the same features and gradients."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("timm")

from medground.reasoners import NANO  # noqa: E402
from medground.reasoners._load import load_model  # noqa: E402
from medground.reasoners._sharing import tower_of  # noqa: E402
from medground.train.once import look_once  # noqa: E402


@pytest.fixture(scope="module")
def nano():
    return load_model(NANO, torch.device("cpu"), "float32", None)[0]


@pytest.fixture(scope="module")
def pictures():
    draws = torch.rand(3, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    return draws[[0, 0, 1, 1, 1, 0, 2]]  # the same picture later on is encoded again


def test_features_and_gradients_are_those_of_the_copies(nano, pictures) -> None:
    plain, once = copy.deepcopy(nano), copy.deepcopy(nano)
    assert look_once(once)
    seen: list[int] = []
    stem = next(module for module in tower_of(once).modules() if isinstance(module, torch.nn.Conv2d))
    stem.register_forward_hook(lambda module, args, output: seen.append(len(args[0])))
    weights = torch.arange(7.0)[:, None, None]
    for model in (plain, once):
        features = model.model.get_image_features(pictures, return_dict=True).pooler_output
        assert features.shape == (7, 64, 256)
        (features * weights).sum().backward()
        model.told = features.detach()
    assert seen == [4]
    assert torch.allclose(plain.told, once.told, atol=1e-4)
    theirs = dict(plain.named_parameters())
    for name, parameter in once.named_parameters():
        if parameter.grad is not None:
            scale = theirs[name].grad.abs().max()
            assert torch.allclose(parameter.grad, theirs[name].grad, atol=1e-3 * float(scale) + 1e-6), name


def test_pictures_that_all_differ_go_through_as_they_are(nano, pictures) -> None:
    once = copy.deepcopy(nano)
    look_once(once)
    with torch.no_grad():
        for batch in (pictures[[0, 2]], pictures[:1]):
            own = nano.model.get_image_features(batch, return_dict=True).pooler_output
            assert torch.equal(own, once.model.get_image_features(batch, return_dict=True).pooler_output)


def test_a_model_without_a_tower_is_left_alone() -> None:
    assert not look_once(torch.nn.Linear(2, 2))
