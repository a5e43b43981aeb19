"""Built-in models: shapes, norms, and every study that the catalogue allows."""

import pytest
import torch
from torch import nn

from tests.client.bench import make_study
from tests.strategies.samples import MULTI_STUDY, NUMBERS_STUDY, image_study
from vestry_strategies.study import parse_study
from vestry_strategies.tasks.models import build_model


def kinds(module: nn.Module) -> list[str]:
    return [type(layer).__name__ for layer in module.modules()][1:]


@pytest.mark.parametrize(("text", "outputs"), [(MULTI_STUDY, 3), (NUMBERS_STUDY, 1), (None, 1)])
def test_a_linear_model_has_an_output_a_class_or_one(text: str | None, outputs: int) -> None:
    study = parse_study(text) if text else make_study()
    model = build_model(study, (8,))
    assert model(torch.zeros(5, 8)).shape == (5, outputs)
    assert sum(p.numel() for p in model.parameters()) == 9 * outputs


@pytest.mark.parametrize(("norm", "layer"), [("layer", "LayerNorm"), ("batch", "BatchNorm1d"), ("none", "")])
def test_an_mlp(norm: str, layer: str) -> None:
    change = f'kind = "mlp"\nhidden = [6, 4]\nnorm = "{norm}"\nactivation = "tanh"\ndropout = 0.1'
    model = build_model(make_study(('kind = "logistic"', change)), (8,))
    assert model(torch.zeros(5, 8)).shape == (5, 1)
    assert kinds(model).count("Tanh") == kinds(model).count("Dropout") == 2
    assert kinds(model).count(layer) == (2 if layer else 0)


@pytest.mark.parametrize(("norm", "layer"), [("group", "GroupNorm"), ("batch", "BatchNorm2d"), ("none", "")])
def test_a_cnn(norm: str, layer: str) -> None:
    study = image_study(("channels = [4]", f'channels = [4, 8, 8]\nnorm = "{norm}"'))
    model = build_model(study, (2, 6, 4))
    assert model(torch.zeros(5, 2, 6, 4)).shape == (5, 3)
    assert kinds(model).count("Conv2d") == 3
    assert kinds(model).count("MaxPool2d") == 2  # 6x4 halves to 3x2 and 1x1, then no more
    assert kinds(model).count(layer) == (3 if layer else 0)


def test_images_may_go_through_a_linear_model() -> None:
    study = image_study(('kind = "cnn"\nchannels = [4]\nhidden = 8', 'kind = "logistic"'))
    assert build_model(study, (2, 6, 4))(torch.zeros(5, 2, 6, 4)).shape == (5, 3)


def test_the_same_seed_gives_the_same_weights() -> None:
    made = []
    for _ in range(2):
        torch.manual_seed(7)
        made.append(build_model(make_study(), (8,)))
    left, right = (list(model.parameters()) for model in made)
    assert all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def test_a_plug_ins_model_is_its_own_affair() -> None:
    study = make_study().model_copy(update={"model": type("Other", (), {"kind": "plugin"})()})
    with pytest.raises(TypeError, match=r"model\.kind=plugin is not built in"):
        build_model(study, (8,))
