"""Norms and weighted sums of dense layers against the gradient per unit in float64, also where it cancels."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vestry_privacy.clipping import clip_factors
from vestry_privacy.kernels import (
    LayerFlow,
    Owners,
    add_up,
    dropped,
    layer_flow,
    owners,
    row_squares,
    squared_norms,
    weighted_products,
    weighted_sum,
)

CLIP = 1.0


def summed(part: LayerFlow, factors: torch.Tensor, of: Owners) -> torch.Tensor:
    outputs = part.flow.shape[2]
    columns = part.inputs.shape[2] * part.weight + part.bias
    total = torch.full((outputs * columns,), torch.nan, dtype=torch.float64)
    weighted_sum(part, factors, dropped(factors), of, total)
    return total


def truth(part: LayerFlow, unit: torch.Tensor, units: int) -> torch.Tensor:
    """(U, k) weight gradient and bias gradient of each unit, exact but for float64's own rounding."""
    a, g = part.inputs.double(), part.flow.double()
    rows = []
    for number in range(units):
        mine = unit == number
        weight = torch.einsum("rto,rti->oi", g[mine], a[mine]).reshape(-1)
        own = [weight] if part.weight else []
        rows.append(torch.cat([*own, *([g[mine].sum(dim=(0, 1))] if part.bias else [])]))
    return torch.stack(rows)


def clipped_parts(part: LayerFlow, unit: torch.Tensor, units: int) -> torch.Tensor:
    """(U, k) what each unit adds to the clipped sum: the sum with the factors of all others at zero."""
    of = owners(unit, units)
    factors = clip_factors(squared_norms(part, of), CLIP)
    rows = []
    for number in range(units):
        alone = torch.zeros_like(factors)
        alone[number] = factors[number]
        rows.append(summed(part, alone, of))
    total = summed(part, factors, of)
    assert torch.allclose(torch.stack(rows).sum(dim=0), total, rtol=1e-9, atol=1e-6)
    return torch.stack(rows)


SHAPES = [
    pytest.param(1, 6, 5, id="one position"),
    pytest.param(3, 40, 30, id="by products of positions"),
    pytest.param(60, 3, 2, id="by units"),
]
OWNERS = [
    pytest.param([0, 1, 2, 3, 4, 5], id="one record each"),
    pytest.param([0, 2, 1, 5, 4, 3], id="in another order"),
    pytest.param([0, 1, 1, 2, 2, 2], id="several records"),
    pytest.param([3, 0, 3, 1, 0, 3], id="mixed, one unit without any"),
]


@pytest.mark.parametrize(("positions", "inputs", "outputs"), SHAPES)
@pytest.mark.parametrize("unit", OWNERS)
@pytest.mark.parametrize(("weight", "bias"), [(True, True), (True, False), (False, True)])
def test_norms_and_sums_are_those_of_the_gradient(
    positions: int, inputs: int, outputs: int, unit: list[int], weight: bool, bias: bool
) -> None:
    torch.manual_seed(positions)
    part = LayerFlow(torch.randn(6, positions, inputs), torch.randn(6, positions, outputs), weight, bias)
    of = torch.tensor(unit)
    units = max(unit) + 1
    expected = truth(part, of, units)
    norms = squared_norms(part, owners(of, units))
    assert norms.dtype == torch.float64
    assert torch.allclose(norms, (expected**2).sum(dim=1), rtol=1e-5)
    factors = torch.rand(units, dtype=torch.float64) + 0.1
    total = summed(part, factors, owners(of, units))
    assert torch.allclose(total, factors @ expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("positions", "inputs", "outputs"), SHAPES)
def test_which_way_was_taken(positions: int, inputs: int, outputs: int) -> None:
    """Else the tests above would not reach all three."""
    part = LayerFlow(torch.randn(6, positions, inputs), torch.randn(6, positions, outputs), True, True)
    squared_norms(part, owners(torch.arange(6), 6))
    assert (part.products is not None) == (positions == 60)


def cancelling(
    random: np.random.Generator, positions: int, inputs: int, outputs: int, size: float, residue: float
) -> LayerFlow:
    """Records whose positions cancel in pairs up to a residue."""
    a = random.standard_normal((4, positions, inputs)) * size
    g = random.standard_normal((4, positions, outputs))
    half = positions // 2
    a[:, half : 2 * half] = a[:, :half]
    g[:, half : 2 * half] = -g[:, :half]
    g += residue * random.standard_normal(g.shape)
    return LayerFlow(torch.from_numpy(a).float(), torch.from_numpy(g).float(), True, True)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([(2, 60, 50), (8, 60, 50), (2, 3, 3), (40, 4, 3)]),
    st.floats(-3, 12),
    st.floats(-12, 0),
    st.sampled_from([[0, 1, 2, 3], [0, 0, 1, 1], [0, 0, 0, 0]]),
)
def test_cancelling_positions_stay_below_c(
    seed: int, shape: tuple[int, int, int], size: float, residue: float, unit: list[int]
) -> None:
    """The true float64 norm of each unit's part in the clipped sum."""
    part = cancelling(np.random.default_rng(seed), *shape, 10.0**size, 10.0**residue)
    parts = clipped_parts(part, torch.tensor(unit), max(unit) + 1)
    assert float(torch.linalg.vector_norm(parts, dim=1).max()) <= CLIP


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 12))
def test_cancelling_records_of_one_unit_stay_below_c(seed: int, size: float) -> None:
    """A patient whose two records cancel, each far above C."""
    random = np.random.default_rng(seed)
    a, g = random.standard_normal((1, 1, 60)) * 10.0**size, random.standard_normal((1, 1, 50))
    g2 = -g + 1e-7 * random.standard_normal(g.shape)
    inputs, flow = torch.from_numpy(np.concatenate([a, a])), torch.from_numpy(np.concatenate([g, g2]))
    part = LayerFlow(inputs.float(), flow.float(), True, True)
    parts = clipped_parts(part, torch.tensor([0, 0]), 1)
    assert float(torch.linalg.vector_norm(parts)) <= CLIP


def test_float32_products_would_break_the_bound() -> None:
    """Why the products are float64: in float32 this norm comes out far too small, or negative."""
    part = cancelling(np.random.default_rng(1), 8, 60, 50, 1e4, 1e-6)
    a, g = part.inputs, part.flow
    naive = ((a @ a.transpose(1, 2) + 1) * (g @ g.transpose(1, 2))).sum(dim=(1, 2)).double()
    exact = (truth(part, torch.arange(4), 4) ** 2).sum(dim=1)
    assert float((naive / exact).min()) < 0.99 or float((naive / exact).max()) > 1.01
    safe = squared_norms(part, owners(torch.arange(4), 4))
    assert bool((safe >= exact * (1 - 1e-9)).all())


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), 1e30])
@pytest.mark.parametrize(("positions", "inputs", "outputs"), SHAPES)
def test_values_that_are_not_finite_drop_their_unit_and_no_other(
    wrong: float, positions: int, inputs: int, outputs: int
) -> None:
    part = LayerFlow(torch.randn(6, positions, inputs), torch.randn(6, positions, outputs), True, True)
    part.flow[2, 0, 0] = wrong
    part.inputs[2, 0, 0] = 1e20  # the product overflows float32
    of = owners(torch.arange(6), 6)
    factors = clip_factors(squared_norms(part, of), CLIP)
    total = summed(part, factors, of)
    rest = torch.arange(6) != 2
    others = LayerFlow(part.inputs[rest], part.flow[rest], True, True)
    expected = clipped_parts(others, torch.arange(5), 5).sum(dim=0)
    assert bool(torch.isfinite(total).all())
    assert float(torch.linalg.vector_norm(total - expected)) <= CLIP * 1.0001
    if factors[2] == 0:
        assert torch.allclose(total, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(2, 3, 3, padding=1),
        nn.Conv2d(2, 3, (2, 3), stride=2, bias=False),
        nn.Conv2d(2, 3, 2, dilation=2, padding=(1, 0)),
    ],
)
def test_a_convolution_is_a_linear_layer_over_patches(layer: nn.Conv2d) -> None:
    inputs = torch.randn(4, 2, 6, 7)
    output = layer(inputs)
    flow = torch.randn_like(output)
    part = layer_flow(layer, inputs, flow)
    for record in range(4):
        loss = (layer(inputs[record : record + 1]) * flow[record]).sum()
        expected = torch.cat([p.reshape(-1) for p in torch.autograd.grad(loss, list(layer.parameters()))])
        got = truth(part, torch.arange(4), 4)[record]
        assert torch.allclose(got, expected.double(), rtol=1e-4, atol=1e-4)


def test_half_precision_comes_in_as_float32() -> None:
    part = layer_flow(nn.Linear(3, 2), torch.randn(4, 3).bfloat16(), torch.randn(4, 2).bfloat16())
    assert part.inputs.dtype == part.flow.dtype == torch.float32
    assert part.inputs.shape == (4, 1, 3)


def test_owners_are_single_only_in_order() -> None:
    assert owners(torch.arange(3), 3).single
    assert not owners(torch.tensor([1, 0, 2]), 3).single
    both = owners(torch.tensor([0, 0, 2]), 3)  # as many units as records, but not one each
    assert (both.single, both.most) == (False, 2)
    assert owners(torch.zeros(0, dtype=torch.int64), 0).single


def test_sums_in_pieces_are_sums() -> None:
    products = torch.randn(300, 1000)
    factors = torch.rand(300, dtype=torch.float64)
    expected = factors @ products.double()
    assert torch.allclose(weighted_products(products, factors, None), expected, rtol=1e-12, atol=1e-12)
    assert torch.allclose(row_squares(products), (products.double() ** 2).sum(dim=1), rtol=1e-12)
    assert row_squares(products[:0]).shape == (0,)
    of = owners(torch.arange(300) // 3, 100)
    assert torch.allclose(add_up(products, of), products.view(100, 3, 1000).sum(dim=1), atol=1e-5)
