"""Builders of the built-in models. Outputs are logits (n, k), or one standardised value (n, 1)."""

import math
from typing import TYPE_CHECKING

from torch import nn

from vestry_strategies.recipe import CnnModel, LinearModel, LogisticModel, MlpModel

if TYPE_CHECKING:
    from vestry_strategies.study import StudySpec

__all__ = ["build_model"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}


def build_model(study: "StudySpec", input_shape: tuple[int, ...]) -> nn.Module:
    """Build the study's model with torch's own initialisation (seed it before).

    Args:
        study: says the model and the target.
        input_shape: shape of one example: (columns,) or (channels, height, width).

    Raises:
        TypeError: the model belongs to a plug-in.
    """
    model, outputs = study.model, study.task.target.outputs
    if isinstance(model, LogisticModel | LinearModel):
        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(input_shape), outputs))
    if isinstance(model, MlpModel):
        return _mlp(model, math.prod(input_shape), outputs)
    if isinstance(model, CnnModel):
        channels, height, width = input_shape
        return _cnn(model, channels, (height, width), outputs)
    raise TypeError(f"model.kind={model.kind} is not built in")


def _mlp(model: MlpModel, inputs: int, outputs: int) -> nn.Module:
    layers: list[nn.Module] = [nn.Flatten()]
    for width in model.hidden:
        layers.append(nn.Linear(inputs, width))
        if model.norm == "layer":
            layers.append(nn.LayerNorm(width))
        elif model.norm == "batch":
            layers.append(nn.BatchNorm1d(width))
        layers.append(_ACTIVATIONS[model.activation]())
        if model.dropout:
            layers.append(nn.Dropout(model.dropout))
        inputs = width
    layers.append(nn.Linear(inputs, outputs))
    return nn.Sequential(*layers)


def _cnn(model: CnnModel, channels: int, size: tuple[int, int], outputs: int) -> nn.Module:
    layers: list[nn.Module] = []
    height, width = size
    for block in model.channels:
        layers.append(nn.Conv2d(channels, block, kernel_size=3, padding=1))
        if model.norm == "group":
            layers.append(nn.GroupNorm(model.groups, block))
        elif model.norm == "batch":
            layers.append(nn.BatchNorm2d(block))
        layers.append(_ACTIVATIONS[model.activation]())
        if min(height, width) >= 2:
            layers.append(nn.MaxPool2d(2))
            height, width = height // 2, width // 2
        channels = block
    layers += [nn.Flatten(), nn.Linear(channels * height * width, model.hidden)]
    layers += [_ACTIVATIONS[model.activation](), nn.Linear(model.hidden, outputs)]
    return nn.Sequential(*layers)
