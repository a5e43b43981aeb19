"""Clipped sums of per-unit gradients: own kernels for dense and convolutional layers, Opacus for the rest.

A layer's gradient for one record is the product of what came in and what flows back. For Linear, and for
Conv2d as a Linear over patches, the norm follows from these two without a second backward pass, and the
clipped sum is the ordinary weight gradient of factor-weighted records (Lee and Kifer, PoPETs 2021,
arXiv:2009.03106; Li et al., ICLR 2022, arXiv:2110.05679). Any other layer goes through the hooks of Opacus
(Yousefpour et al., arXiv:2109.12298) in unwrapped mode.

    VestryError
    └── UnsupportedLayer    a layer that couples the records of a batch, or that nothing here can split

Symbols: R records, U units, T positions (time steps, patches), a inputs (R, T, in), g gradients of the
outputs (R, T, out).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn import functional

from vestry_privacy.clipping import clip_factors
from vestry_privacy.errors import VestryError

__all__ = [
    "ClippedSum",
    "Losses",
    "UnitBatch",
    "UnitGradients",
    "UnsupportedLayer",
    "check_layers",
    "hook_gradients",
    "kernel_gradients",
    "unit_gradients",
]

Losses = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(outputs (R, k), targets (R,)) -> loss of each record, shape (R,), from its own record only."""

_COUPLING = {
    "BatchNorm": "use GroupNorm or LayerNorm",
    "InstanceNorm": "use GroupNorm",
    "LocalResponseNorm": "use GroupNorm",
}
_UNSPLITTABLE = {
    "LSTM": "use opacus.layers.DPLSTM",
    "GRU": "use opacus.layers.DPGRU",
    "RNN": "use opacus.layers.DPRNN",
    "MultiheadAttention": "use opacus.layers.DPMultiheadAttention",
}


class UnsupportedLayer(VestryError):
    """No unit's share in this layer's gradient can be bounded."""

    def __init__(self, name: str, layer: nn.Module, why: str, instead: str) -> None:
        super().__init__(f"model layer '{name}' ({type(layer).__name__}): {why}; {instead}")


@dataclass(frozen=True)
class UnitBatch:
    """Records of some units.

    Attributes:
        inputs: (R, ...).
        targets: (R,).
        unit: (R,) int64, which unit of the batch a record belongs to.
        units: U.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    unit: torch.Tensor
    units: int


@dataclass(frozen=True)
class ClippedSum:
    """A sum over units.

    Attributes:
        total: (trainable,) sum of clipped gradients, in the order of ``module.parameters()``.
        squared_norms: (U,) of the gradients before clipping; never leaves the trainer.
    """

    total: torch.Tensor
    squared_norms: torch.Tensor


class UnitGradients(Protocol):
    """Makes clipped sums for one network."""

    def clipped_sum(self, batch: UnitBatch, clip: float) -> ClippedSum:
        """Sum the clipped mean gradients of the batch's units.

        Guarantees:
            Each unit's part has an L2 norm of at most ``clip``.
        """
        ...


def check_layers(module: nn.Module) -> None:
    """Refuse a network whose layers mix the records of a batch.

    Raises:
        UnsupportedLayer: names the layer and what to use instead.
    """
    for name, layer in module.named_modules():
        kind = type(layer).__name__
        for part, instead in _COUPLING.items():
            if part in kind:
                why = "mixes the records of a batch, so that no person's share is bounded"
                raise UnsupportedLayer(name or "model", layer, why, instead)
        if type(layer).__module__.startswith("torch.nn") and kind in _UNSPLITTABLE:
            why = "its gradient cannot be split by record"
            raise UnsupportedLayer(name or "model", layer, why, _UNSPLITTABLE[kind])
        if any(buffer.is_floating_point() for buffer in layer.buffers(recurse=False)):
            why = "keeps statistics of the data in a buffer, which no clipping reaches"
            raise UnsupportedLayer(name or "model", layer, why, "use a layer without buffers")


def unit_gradients(
    module: nn.Module, losses: Losses, autocast: torch.autocast | None = None
) -> UnitGradients:
    """The fastest way that fits the network.

    Raises:
        UnsupportedLayer: no way fits.
    """
    check_layers(module)
    if _only_kernels(module):
        return kernel_gradients(module, losses, autocast)
    return hook_gradients(module, losses, autocast)


def kernel_gradients(
    module: nn.Module, losses: Losses, autocast: torch.autocast | None = None
) -> UnitGradients:
    """Own kernels; for networks whose parameters all lie in Linear and plain Conv2d layers."""
    return _Kernels(module, losses, autocast)


def hook_gradients(
    module: nn.Module, losses: Losses, autocast: torch.autocast | None = None
) -> UnitGradients:
    """The hooks of Opacus, for any layer that it can split."""
    return _Hooks(module, losses, autocast)


def _only_kernels(module: nn.Module) -> bool:
    seen: set[int] = set()
    for layer in module.modules():
        own = list(layer.parameters(recurse=False))
        if not own:
            continue
        if any(id(parameter) in seen for parameter in own):
            return False  # tied weights: two layers, one gradient
        seen.update(id(parameter) for parameter in own)
        if isinstance(layer, nn.Linear):
            continue
        plain = isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.padding_mode == "zeros"
        if not plain or isinstance(layer.padding, str):
            return False
    return True


def _weighted_losses(
    module: nn.Module, losses: Losses, autocast: torch.autocast | None, batch: UnitBatch
) -> torch.Tensor:
    """Sum over records of loss / (records of its unit): a unit's gradient is the mean over its records."""
    if autocast is None:
        outputs = module(batch.inputs)
    else:
        with autocast:
            outputs = module(batch.inputs)
    counts = torch.bincount(batch.unit, minlength=batch.units)
    weights = 1.0 / counts[batch.unit].to(torch.float32)
    return (losses(outputs.float(), batch.targets) * weights).sum()


class _Kernels:
    def __init__(self, module: nn.Module, losses: Losses, autocast: torch.autocast | None) -> None:
        self._module, self._losses, self._autocast = module, losses, autocast
        self._names = {layer: name for name, layer in module.named_modules()}
        self._layers = [layer for layer in self._names if isinstance(layer, nn.Linear | nn.Conv2d)]
        self._seen: dict[nn.Module, tuple[torch.Tensor, torch.Tensor]] = {}

    def _record(self, layer: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        if layer in self._seen:
            name = self._names[layer]
            raise UnsupportedLayer(name, layer, "is used twice in one pass", "use two layers")
        self._seen[layer] = (inputs[0].detach(), output)

    def clipped_sum(self, batch: UnitBatch, clip: float) -> ClippedSum:
        hooks = [layer.register_forward_hook(self._record) for layer in self._layers]
        try:
            loss = _weighted_losses(self._module, self._losses, self._autocast, batch)
            layers = list(self._seen)
            outputs = [self._seen[layer][1] for layer in layers]
            flows: tuple[torch.Tensor | None, ...] = torch.autograd.grad(loss, outputs, allow_unused=True)
            parts = {
                layer: _as_linear(layer, self._seen[layer][0], flow)
                for layer, flow in zip(layers, flows, strict=True)
                if flow is not None
            }
        finally:
            self._seen.clear()
            for hook in hooks:
                hook.remove()
        single = batch.units == len(batch.unit)
        norms = torch.zeros(batch.units, dtype=torch.float32, device=batch.unit.device)
        explicit: dict[nn.Module, torch.Tensor] = {}
        with torch.no_grad():
            for layer, (a, g) in parts.items():
                norms += _squared_norms(layer, a, g, batch, single, explicit)
            factors = clip_factors(norms, clip)
            total = self._total(parts, explicit, factors, batch)
        return ClippedSum(total, norms)

    def _total(
        self,
        parts: dict[nn.Module, tuple[torch.Tensor, torch.Tensor]],
        explicit: dict[nn.Module, torch.Tensor],
        factors: torch.Tensor,
        batch: UnitBatch,
    ) -> torch.Tensor:
        dropped = bool((factors == 0).any())  # a factor of 0 means a unit that is not finite
        of_record = factors[batch.unit]
        pieces: list[torch.Tensor] = []
        for layer, own in (
            (layer, list(layer.parameters(recurse=False))) for layer in self._module.modules()
        ):
            if own and layer not in parts:
                pieces += [torch.zeros(p.numel(), device=p.device) for p in own]
            elif own:
                a, g = parts[layer]
                if dropped:
                    zero = (of_record == 0).view(-1, 1, 1)
                    a, g = a.masked_fill(zero, 0.0), g.masked_fill(zero, 0.0)
                    if layer in explicit:
                        explicit[layer] = explicit[layer].masked_fill((factors == 0).view(-1, 1), 0.0)
                scaled = g * of_record.view(-1, 1, 1)
                if layer in explicit:
                    weight = factors @ explicit[layer]
                else:
                    weight = scaled.flatten(0, 1).T @ a.flatten(0, 1)
                pieces.append(weight.reshape(-1))
                if len(own) == 2:
                    pieces.append(scaled.sum(dim=(0, 1)))
        return torch.cat(pieces)


def _as_linear(
    layer: nn.Module, inputs: torch.Tensor, flow: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """A layer's inputs (R, T, in) and output gradients (R, T, out) in float32."""
    inputs, flow = inputs.float(), flow.float()
    if isinstance(layer, nn.Conv2d):
        padding = (0, 0) if isinstance(layer.padding, str) else layer.padding
        patches = functional.unfold(inputs, layer.kernel_size, layer.dilation, padding, layer.stride)
        return patches.transpose(1, 2), flow.flatten(2).transpose(1, 2)
    records = len(inputs)
    return inputs.reshape(records, -1, inputs.shape[-1]), flow.reshape(records, -1, flow.shape[-1])


def _squared_norms(
    layer: nn.Module,
    a: torch.Tensor,
    g: torch.Tensor,
    batch: UnitBatch,
    single: bool,
    explicit: dict[nn.Module, torch.Tensor],
) -> torch.Tensor:
    """(U,) squared norms of the units' gradients in one layer; keeps what was made explicit."""
    bias = 1.0 if len(list(layer.parameters(recurse=False))) == 2 else 0.0
    if single and a.shape[1] == 1:
        return ((a**2).sum(dim=(1, 2)) + bias) * (g**2).sum(dim=(1, 2))
    most = 1 if single else int(torch.bincount(batch.unit).max())
    if (most * a.shape[1]) ** 2 * 2 < a.shape[2] * g.shape[2]:
        if not single:
            a, g = _by_unit(a, batch, most), _by_unit(g, batch, most)
        return ((a @ a.transpose(1, 2) + bias) * (g @ g.transpose(1, 2))).sum(dim=(1, 2))
    products = torch.bmm(g.transpose(1, 2), a).flatten(1)
    sums = g.sum(dim=1)
    if not single:
        products = _add_up(products, batch)
        sums = _add_up(sums, batch)
    explicit[layer] = products
    return (products**2).sum(dim=1) + bias * (sums**2).sum(dim=1)


def _add_up(values: torch.Tensor, batch: UnitBatch) -> torch.Tensor:
    """(R, k) per record -> (U, k) per unit."""
    empty = torch.zeros(batch.units, values.shape[1], device=values.device)
    return empty.index_add_(0, batch.unit, values)


def _by_unit(values: torch.Tensor, batch: UnitBatch, most: int) -> torch.Tensor:
    """(R, T, k) per record -> (U, most * T, k) per unit, filled up with zeros."""
    order = torch.argsort(batch.unit, stable=True)
    counts = torch.bincount(batch.unit, minlength=batch.units)
    starts = torch.cumsum(counts, 0) - counts
    place = torch.arange(len(order), device=order.device) - starts[batch.unit[order]]
    padded = torch.zeros(batch.units, most, *values.shape[1:], device=values.device)
    padded[batch.unit[order], place] = values[order]
    return padded.flatten(1, 2)


class _Hooks:
    def __init__(self, module: nn.Module, losses: Losses, autocast: torch.autocast | None) -> None:
        from opacus.grad_sample import GradSampleHooks

        self._module, self._losses, self._autocast = module, losses, autocast
        self._parameters = [p for p in module.parameters() if p.requires_grad]
        try:
            self._hooks = GradSampleHooks(module, loss_reduction="sum")
        except NotImplementedError:
            why = "Opacus cannot split its gradient by record"
            raise UnsupportedLayer("model", module, why, "use Linear, Conv2d or norm layers") from None

    def clipped_sum(self, batch: UnitBatch, clip: float) -> ClippedSum:
        before = [None if p.grad is None else p.grad.clone() for p in self._parameters]
        try:
            loss = _weighted_losses(self._module, self._losses, self._autocast, batch)
            loss.backward()  # type: ignore[no-untyped-call]
            with torch.no_grad():
                records = torch.cat([self._per_record(p, len(batch.unit)) for p in self._parameters], dim=1)
                units = _add_up(records, batch)
                norms = (units**2).sum(dim=1)
                factors = clip_factors(norms, clip)
                units = units.masked_fill((factors == 0).view(-1, 1), 0.0)
                return ClippedSum(factors @ units, norms)
        finally:
            for parameter, old in zip(self._parameters, before, strict=True):
                parameter.grad_sample = None  # type: ignore[attr-defined]
                if old is None:
                    parameter.grad = None
                elif parameter.grad is not None:
                    parameter.grad.copy_(old)  # a view into a flat gradient stays that view

    @staticmethod
    def _per_record(parameter: nn.Parameter, records: int) -> torch.Tensor:
        sample = getattr(parameter, "grad_sample", None)
        if sample is None:
            return torch.zeros(records, parameter.numel(), device=parameter.device)
        per_record: torch.Tensor = sample.reshape(records, -1).float()
        return per_record
