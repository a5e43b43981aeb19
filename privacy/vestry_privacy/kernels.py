"""Norms and weighted sums of per-unit gradients of a dense layer, without a gradient per unit where it pays.

The gradient of unit u in a Linear layer is G_u^T A_u: the rows of A_u are what came in at each of its
positions, those of G_u what flowed back, the records of the unit below each other. Its squared norm is
the sum of (A_u A_u^T) o (G_u G_u^T) (Goodfellow, arXiv:1510.01799; Li et al., ICLR 2022, arXiv:2110.05679,
section 4), the weighted sum over units is one product of matrices (Lee and Kifer, PoPETs 2021,
arXiv:2009.03106). Where units are long and layers small, G_u^T A_u itself is made.

The positions of a unit may cancel, and then a norm by products loses its digits. So these products are
float64, and what they may have lost (kappa t^2, t the sum of the positions' norms, which cannot cancel) is
added: a norm may come out too large, never too small.

Symbols: R records, U units, T positions of a record, A (R, T, in) and G (R, T, out) float32.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

__all__ = [
    "LayerFlow",
    "Owners",
    "add_up",
    "dropped",
    "layer_flow",
    "owners",
    "row_squares",
    "squared_norms",
    "weighted_products",
    "weighted_sum",
]

_ROUNDING = 2.0**-53
_CHUNK = 1 << 16
_PASSES = 24
"""Measured on one core: making, measuring and adding up products costs as much as so many positions."""


@dataclass(frozen=True)
class Owners:
    """Whose the records of a batch are.

    Attributes:
        unit: (R,) int64, in [0, U).
        units: U.
        most: records of one unit, at most.
        single: record r is all that unit r has.
    """

    unit: torch.Tensor
    units: int
    most: int
    single: bool


def owners(unit: torch.Tensor, units: int) -> Owners:
    """Look once at who owns what."""
    if units == len(unit) and torch.equal(unit, torch.arange(units, device=unit.device)):
        return Owners(unit, units, 1, True)
    most = int(torch.bincount(unit, minlength=1).max()) if len(unit) else 0
    return Owners(unit, units, most, False)


@dataclass
class LayerFlow:
    """What one layer saw in one pass.

    Attributes:
        inputs: A; float64 once :func:`squared_norms` has seen records of one position.
        flow: G, the same.
        weight: the weight is trained.
        bias: there is a bias and it is trained.
        products: (U, out * in) G_u^T A_u, where :func:`squared_norms` made them.
        sums: (U, out) float64 gradients of the bias, where it made the products.
    """

    inputs: torch.Tensor
    flow: torch.Tensor
    weight: bool
    bias: bool
    products: torch.Tensor | None = None
    sums: torch.Tensor | None = None


def layer_flow(layer: nn.Linear | nn.Conv2d, inputs: torch.Tensor, flow: torch.Tensor) -> LayerFlow:
    """A layer's inputs and output gradients by position; those of Conv2d by patch.

    Args:
        layer: says the patches; its padding is given in numbers.
        inputs: (R, ..., in) or (R, channels, height, width).
        flow: of the outputs' shape.
    """
    inputs, flow = inputs.float(), flow.float()
    if isinstance(layer, nn.Conv2d):
        padding = (0, 0) if isinstance(layer.padding, str) else layer.padding
        patches = functional.unfold(inputs, layer.kernel_size, layer.dilation, padding, layer.stride)
        inputs, flow = patches.transpose(1, 2), flow.flatten(2).transpose(1, 2)
    else:
        records = len(inputs)
        inputs = inputs.reshape(records, -1, inputs.shape[-1])
        flow = flow.reshape(records, -1, flow.shape[-1])
    bias = layer.bias is not None and layer.bias.requires_grad
    return LayerFlow(inputs, flow, layer.weight.requires_grad, bias)


def squared_norms(part: LayerFlow, of: Owners) -> torch.Tensor:
    """(U,) float64 squared norms of the units' gradients in one layer; keeps products that it makes.

    Guarantees:
        Each is at least the squared norm of what :func:`weighted_sum` adds for that unit at factor 1, up to
        a part of clipping's margin. A unit with a value that is not finite has a norm that is not.
    """
    _, positions, width = part.inputs.shape
    bias = float(part.bias)
    if part.weight and of.single and positions == 1:
        part.inputs, part.flow = part.inputs.double(), part.flow.double()  # weighted_sum wants them so
        return _dots(part.inputs).add_(bias).mul_(_dots(part.flow)).view(-1)
    if part.weight and _gram_pays(of.most * positions, of.most, width, part.flow.shape[2]):
        return _gram(part, of)
    part.sums = add_up(part.flow.sum(dim=1, dtype=torch.float64), of)
    norms = bias * (part.sums**2).sum(dim=1)
    if part.weight:
        part.products = add_up(torch.bmm(part.flow.transpose(1, 2), part.inputs).flatten(1), of)
        norms += row_squares(part.products)
    return norms


def _dots(values: torch.Tensor) -> torch.Tensor:
    """(R, 1, k) float64 -> (R, 1, 1) squared norms, faster than a norm."""
    return torch.bmm(values, values.transpose(1, 2))


def _squares(values: torch.Tensor) -> torch.Tensor:
    """(R, T, k) -> (R, T) float64 squared norms of the positions."""
    norms: torch.Tensor = torch.linalg.vector_norm(values, dim=2, dtype=torch.float64)
    return norms.square_()


def _gram_pays(rows: int, records: int, inputs: int, outputs: int) -> bool:
    size = inputs * outputs
    return 2 * rows**2 * (inputs + outputs) + rows * size < _PASSES * records * size


def _gram(part: LayerFlow, of: Owners) -> torch.Tensor:
    a, g = part.inputs.double(), part.flow.double()
    lengths = ((_squares(a) + float(part.bias)) * _squares(g)).sqrt().sum(dim=1)
    if not of.single:
        lengths = add_up(lengths.unsqueeze(1), of).squeeze(1)
        a, g = _by_unit(a, of), _by_unit(g, of)
    products = (a @ a.transpose(1, 2) + float(part.bias)) * (g @ g.transpose(1, 2))
    terms = a.shape[2] + g.shape[2] + a.shape[1] ** 2 + 8
    rows = part.inputs.shape[0] * part.inputs.shape[1] + 2
    # Of two roundings: that of this sum, and that of weighted_sum, which must stay below half of the margin.
    kappa = max(terms * _ROUNDING, (rows * _ROUNDING * 2.0**21) ** 2)
    return products.sum(dim=(1, 2)).clamp_min(0.0) + kappa * lengths**2


def dropped(factors: torch.Tensor) -> torch.Tensor | None:
    """(U,) bool, units whose values may not be finite; None if there are none, the usual case."""
    return None if bool(factors.all()) else factors == 0


def weighted_sum(
    part: LayerFlow, factors: torch.Tensor, zero: torch.Tensor | None, of: Owners, total: torch.Tensor
) -> None:
    """Write the sum over units of factor times gradient: of the weight and of the bias, where trained.

    Args:
        part: after :func:`squared_norms`.
        factors: (U,) float64.
        zero: from :func:`dropped`.
        of: the owners.
        total: (k,) float64, written in place, so that no network's sum is copied once more.
    """
    if part.sums is not None:
        made = [part.products] if part.products is not None else []
        each = (*made, *([part.sums] if part.bias else []))
        torch.cat([weighted_products(products, factors, zero) for products in each], out=total)
        return
    a, g = part.inputs, part.flow
    if zero is not None:
        rows = zero[of.unit].view(-1, 1, 1)
        a, g = a.masked_fill(rows, 0.0), g.masked_fill(rows, 0.0)
    of_record = factors if of.single else factors[of.unit]
    scaled = (g * of_record.view(-1, 1, 1)).flatten(0, 1)  # float64, as the factors are
    rows = a.flatten(0, 1).double()
    size = scaled.shape[1] * rows.shape[1]
    torch.mm(scaled.T, rows, out=total[:size].view(scaled.shape[1], rows.shape[1]))
    if part.bias:
        torch.sum(scaled, dim=0, out=total[size:])


def row_squares(products: torch.Tensor) -> torch.Tensor:
    """(U,) float64 squared norms of the rows of (U, k), in pieces."""
    rows = max(1, _CHUNK // max(1, products.shape[1]))
    parts = [
        products[start : start + rows].double().square_().sum(dim=1)
        for start in range(0, len(products), rows)
    ]
    return torch.cat(parts) if parts else products.new_zeros(0, dtype=torch.float64)


def weighted_products(
    products: torch.Tensor, factors: torch.Tensor, zero: torch.Tensor | None
) -> torch.Tensor:
    """(k,) float64 sum of factor (U,) times product (U, k), in pieces, so that float64 copies stay small."""
    if zero is not None:
        products = products.masked_fill(zero.unsqueeze(1), 0.0)
    total = torch.zeros(products.shape[1], dtype=torch.float64, device=products.device)
    rows = max(1, _CHUNK // max(1, products.shape[1]))
    for start in range(0, len(products), rows):
        total += factors[start : start + rows] @ products[start : start + rows].double()
    return total


def add_up(values: torch.Tensor, of: Owners) -> torch.Tensor:
    """(R, k) per record -> (U, k) per unit."""
    if of.single:
        return values
    return values.new_zeros(of.units, values.shape[1]).index_add_(0, of.unit, values)


def _by_unit(values: torch.Tensor, of: Owners) -> torch.Tensor:
    """(R, T, k) per record -> (U, most * T, k) per unit, filled up with zeros."""
    order = torch.argsort(of.unit, stable=True)
    counts = torch.bincount(of.unit, minlength=of.units)
    starts = torch.cumsum(counts, 0) - counts
    place = torch.arange(len(order), device=order.device) - starts[of.unit[order]]
    padded = values.new_zeros(of.units, of.most, *values.shape[1:])
    padded[of.unit[order], place] = values[order]
    return padded.flatten(1, 2)
