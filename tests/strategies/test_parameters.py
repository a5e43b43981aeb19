"""One flat vector: views share memory with the module, steps are those of torch, names come back."""

import hashlib

import numpy as np
import pytest
import torch
from torch import nn

from vestry_strategies.parameters import FlatModel, model_hash


def network(norm: bool = False) -> nn.Module:
    torch.manual_seed(3)
    middle: nn.Module = nn.BatchNorm1d(4) if norm else nn.ReLU()
    return nn.Sequential(nn.Linear(3, 4), middle, nn.Linear(4, 2))


def test_the_vector_holds_the_parameters_in_order() -> None:
    module = network()
    expected = torch.nn.utils.parameters_to_vector(module.parameters()).detach().numpy().copy()
    assert np.array_equal(FlatModel(module).read(), expected)


def test_parameters_and_gradients_are_views() -> None:
    flat = FlatModel(network())
    with torch.no_grad():
        flat.weights.fill_(0.5)
    assert all((parameter == 0.5).all() for parameter in flat.module.parameters())
    flat.module(torch.ones(2, 3)).sum().backward()
    joined = torch.cat([p.grad.reshape(-1) for p in flat.module.parameters() if p.grad is not None])
    assert torch.equal(flat.gradient, joined)
    assert flat.gradient.any()


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, lr=0.1),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        lambda p: torch.optim.Adam(p, lr=0.1),
    ],
)
def test_a_step_on_the_flat_tensor_is_a_step_on_all_parameters(make: object) -> None:
    module, flat = network(), FlatModel(network())
    assert callable(make)
    plain, one = make(module.parameters()), make([flat.weights])
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))
    for _ in range(3):
        plain.zero_grad()
        module(x).pow(2).mean().backward()
        plain.step()
        flat.gradient.zero_()
        flat.module(x).pow(2).mean().backward()
        one.step()
    expected = torch.nn.utils.parameters_to_vector(module.parameters()).detach().numpy()
    assert np.array_equal(flat.read(), expected)


def test_what_is_loaded_is_read() -> None:
    flat = FlatModel(network(norm=True))
    vector = np.arange(flat.layout.size, dtype=np.float32)
    flat.load(vector)
    assert np.array_equal(flat.read(), vector)
    vector[:] = 0
    assert flat.read()[1] == 1.0  # a copy was taken


def test_what_is_read_is_a_copy() -> None:
    flat = FlatModel(network())
    before = flat.read()
    flat.load(before + 1)
    assert not np.array_equal(before, flat.read())


def test_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape=\(3,\) must be"):
        FlatModel(network()).load(np.zeros(3, dtype=np.float32))


def test_running_means_are_the_tail_and_counters_are_left_out() -> None:
    flat = FlatModel(network(norm=True))
    assert flat.layout.size == flat.layout.trainable + 8
    assert [place.name for place in flat.layout.tensors][-2:] == ["1.running_mean", "1.running_var"]
    assert flat.read()[-4:].tolist() == [1.0] * 4
    flat.load(np.full(flat.layout.size, 2.0, dtype=np.float32))
    assert flat.module[1].running_var.tolist() == [2.0] * 4  # type: ignore[index]


def test_names_come_apart_and_together() -> None:
    flat = FlatModel(network())
    vector = np.arange(flat.layout.size, dtype=np.float32)
    tensors = flat.layout.split(vector)
    assert {name: tensor.shape for name, tensor in tensors.items()} == {
        "0.weight": (4, 3),
        "0.bias": (4,),
        "2.weight": (2, 4),
        "2.bias": (2,),
    }
    assert np.array_equal(flat.layout.join(tensors), vector)


def test_other_names_or_shapes_are_refused() -> None:
    layout = FlatModel(network()).layout
    tensors = layout.split(np.zeros(layout.size, dtype=np.float32))
    with pytest.raises(ValueError, match="are not those of the model"):
        layout.join({**tensors, "x": np.zeros(1, dtype=np.float32)})
    with pytest.raises(ValueError, match=r"0\.bias: shape=\(2,\)"):
        layout.join({**tensors, "0.bias": np.zeros(2, dtype=np.float32)})


def test_the_hash_is_of_the_little_endian_bytes() -> None:
    vector = np.array([1.0, -2.0], dtype=np.float32)
    assert model_hash(vector) == hashlib.sha256(b"\x00\x00\x80\x3f\x00\x00\x00\xc0").hexdigest()
    assert model_hash(vector[::-1]) != model_hash(vector)
