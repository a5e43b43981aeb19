"""Clipped sums of per-unit gradients: own kernels for dense and convolutional layers, Opacus for the rest.

For Linear and plain Conv2d the norms and the clipped sum follow from what comes in and what flows back
(``vestry_privacy.kernels``). Any other layer goes through the hooks of Opacus (Yousefpour et al.,
arXiv:2109.12298) in unwrapped mode; they are there during one pass only. ``vestry_privacy.coupling``
probes a network and its losses before a trainer uses them.

    VestryError
    ├── UnsupportedLayer    a layer that couples the records of a batch, or that nothing here can split
    └── CoupledRecords      losses or outputs that are not each of its own record only

Symbols: R records, U units.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from vestry_privacy.clipping import clip_factors
from vestry_privacy.errors import VestryError
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

__all__ = [
    "ClippedSum",
    "CoupledRecords",
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

_COUPLING = {"BatchNorm": "use GroupNorm or LayerNorm"}
_UNSPLITTABLE = {
    "LSTM": "use opacus.layers.DPLSTM",
    "GRU": "use opacus.layers.DPGRU",
    "RNN": "use opacus.layers.DPRNN",
    "MultiheadAttention": "use opacus.layers.DPMultiheadAttention",
    "EmbeddingBag": "use Embedding and sum",
}
_ALIEN = "does not keep one row per record in the order of the batch"


class UnsupportedLayer(VestryError):
    """No unit's share in this layer's gradient can be bounded."""

    @classmethod
    def of(cls, name: str, layer: nn.Module, why: str, instead: str) -> "UnsupportedLayer":
        """Name the layer, the problem and the way out."""
        return cls(f"model layer '{name or 'model'}' ({type(layer).__name__}): {why}; {instead}")


class CoupledRecords(VestryError):
    """One record's loss depends on the others in its batch, so nobody's share is bounded."""


@dataclass(frozen=True)
class UnitBatch:
    """Records of some units.

    Attributes:
        inputs: (R, ...).
        targets: (R,).
        unit: (R,) int64, which unit of the batch a record belongs to.
        units: U.
        vacant: (U,) bool, units that stand for nobody: their part is exactly zero. None for none.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    unit: torch.Tensor
    units: int
    vacant: torch.Tensor | None = None


@dataclass(frozen=True)
class ClippedSum:
    """A sum over units.

    Attributes:
        total: (trainable,) float64 sum of clipped gradients, in the order of ``module.parameters()``,
            those that are not trained left out.
        squared_norms: (U,) float64 of the gradients before clipping; never leaves the trainer.
    """

    total: torch.Tensor
    squared_norms: torch.Tensor


class UnitGradients(Protocol):
    """Makes clipped sums for one network."""

    def clipped_sum(self, batch: UnitBatch, clip: float) -> ClippedSum:
        """Sum the clipped mean gradients of the batch's units.

        Raises:
            UnsupportedLayer: a layer was used in a way that cannot be split.
            CoupledRecords: the losses are not one per record.

        Guarantees:
            Each unit's part has an L2 norm of at most ``clip``. Gradients, hooks and modes of the network
            are as before, also after an exception.
        """
        ...


def check_layers(module: nn.Module) -> None:
    """Refuse a network with layers that are known to mix the records of a batch.

    Raises:
        UnsupportedLayer: names the layer and what to use instead.
    """
    for name, layer in module.named_modules():
        kind = type(layer).__name__
        for part, instead in _COUPLING.items():
            if part in kind:
                why = "mixes the records of a batch, so that no person's share is bounded"
                raise UnsupportedLayer.of(name, layer, why, instead)
        if type(layer).__module__.startswith("torch.nn") and kind in _UNSPLITTABLE:
            why = "its gradient cannot be split by record"
            raise UnsupportedLayer.of(name, layer, why, _UNSPLITTABLE[kind])


def unit_gradients(
    module: nn.Module, losses: Losses, autocast: torch.autocast | None = None
) -> UnitGradients:
    """The fastest way that fits the network.

    Raises:
        UnsupportedLayer: no way fits.
    """
    check_layers(module)
    if _unfit(module) is None:
        return kernel_gradients(module, losses, autocast)
    return hook_gradients(module, losses, autocast)


def kernel_gradients(
    module: nn.Module, losses: Losses, autocast: torch.autocast | None = None
) -> UnitGradients:
    """Own kernels, for networks whose trained parameters all lie in Linear and plain Conv2d layers.

    Raises:
        UnsupportedLayer: names another layer.
    """
    unfit = _unfit(module)
    if unfit is not None:
        raise UnsupportedLayer.of(*unfit, "has no kernel of our own", "use unit_gradients")
    return _Kernels(module, losses, autocast)


def hook_gradients(
    module: nn.Module, losses: Losses, autocast: torch.autocast | None = None
) -> UnitGradients:
    """The hooks of Opacus, for any layer that it can split.

    Raises:
        UnsupportedLayer: Opacus can never split this layer.
    """
    return _Hooks(module, losses, autocast)


def _trained(layer: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in layer.parameters(recurse=False) if parameter.requires_grad]


def _unfit(module: nn.Module) -> tuple[str, nn.Module] | None:
    """The first layer with trained parameters that the kernels cannot take."""
    seen: set[int] = set()
    for name, layer in module.named_modules():
        if not _trained(layer):
            continue
        own = dict(layer.named_parameters(recurse=False))
        tied = any(id(parameter) in seen for parameter in own.values())  # two layers, one gradient
        seen.update(id(parameter) for parameter in own.values())
        # A subclass may compute something else; a weight norm takes the weight's name away.
        plain = type(layer) is nn.Linear or (type(layer) is nn.Conv2d and _by_patches(layer))
        if tied or not plain or own.keys() - {"bias"} != {"weight"}:
            return name or "model", layer
    return None


def _by_patches(layer: nn.Conv2d) -> bool:
    return layer.groups == 1 and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)


def _weighted_loss(
    module: nn.Module, losses: Losses, autocast: torch.autocast | None, batch: UnitBatch, of: Owners
) -> torch.Tensor:
    """Sum over records of loss / (records of its unit): a unit's gradient is the mean over its records."""
    with autocast or nullcontext():
        outputs = module(batch.inputs)
    values = losses(outputs.float(), batch.targets)
    if values.shape != batch.unit.shape:  # a mean of the batch would be spread over all by broadcasting
        raise CoupledRecords(
            f"loss: {values.dim()} dimensions, not one value per record; use reduction='none', and the mean "
            "over a record's own outputs"
        )
    if of.single and batch.vacant is None:
        return values.sum()
    weights = 1.0 / torch.bincount(batch.unit, minlength=batch.units).to(torch.float32)
    if batch.vacant is not None:
        weights = weights.masked_fill(batch.vacant, 0.0)
    return (values * weights[batch.unit]).sum()


class _Kernels:
    def __init__(self, module: nn.Module, losses: Losses, autocast: torch.autocast | None) -> None:
        self._module, self._losses, self._autocast = module, losses, autocast
        self._layers: dict[nn.Linear | nn.Conv2d, str] = {
            layer: name
            for name, layer in module.named_modules()
            if isinstance(layer, nn.Linear | nn.Conv2d) and _trained(layer)
        }
        self._sizes = {layer: sum(p.numel() for p in _trained(layer)) for layer in self._layers}

    def clipped_sum(self, batch: UnitBatch, clip: float) -> ClippedSum:
        of = owners(batch.unit, batch.units)
        passes: dict[nn.Module, _Pass] = {}
        with self._recorded(passes, len(batch.unit)):
            loss = _weighted_loss(self._module, self._losses, self._autocast, batch, of)
            edges = [seen.edge for seen in passes.values()]
            flows: tuple[torch.Tensor | None, ...] = ()
            if edges and loss.requires_grad:
                flows = torch.autograd.grad(loss, edges, allow_unused=True)
        norms = torch.zeros(batch.units, dtype=torch.float64, device=batch.unit.device)
        parts: dict[nn.Module, LayerFlow] = {}
        with torch.no_grad():
            for layer, flow in zip(passes, flows, strict=False):
                if flow is not None and isinstance(layer, nn.Linear | nn.Conv2d):
                    parts[layer] = layer_flow(layer, self._unchanged(layer, passes[layer]), flow)
                    norms += squared_norms(parts[layer], of)
            factors = clip_factors(norms, clip)
            zero = dropped(factors)
            total = norms.new_empty(sum(self._sizes.values()))
            for layer, part in zip(self._sizes, torch.split(total, list(self._sizes.values())), strict=True):
                if layer in parts:
                    weighted_sum(parts[layer], factors, zero, of, part)
                else:
                    part.zero_()
        return ClippedSum(total, norms)

    @contextmanager
    def _recorded(self, passes: "dict[nn.Module, _Pass]", records: int) -> Iterator[None]:
        def record(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: torch.Tensor) -> None:
            if layer in passes:
                raise UnsupportedLayer.of(self._layers[layer], layer, "is used twice in one pass", "use two")
            inputs = args[0] if args else kwargs["input"]
            if inputs.dim() < 2 or len(inputs) != records:
                raise UnsupportedLayer.of(self._layers[layer], layer, _ALIEN, "put the records first")
            if output.requires_grad:
                # The edge, not the tensor: what is done in place to the output later is no part of it.
                passes[layer] = _Pass(inputs.detach(), _version(inputs), get_gradient_edge(output))

        handles = [layer.register_forward_hook(record, with_kwargs=True) for layer in self._layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _unchanged(self, layer: nn.Linear | nn.Conv2d, seen: "_Pass") -> torch.Tensor:
        if _version(seen.inputs) != seen.version:
            why = "its input is changed in place after it was used"
            raise UnsupportedLayer.of(
                self._layers[layer], layer, why, "make a new tensor: x = x + y, not x += y"
            )
        return seen.inputs


def _version(tensor: torch.Tensor) -> int:
    """How often it was changed in place; a detached tensor counts with its original."""
    return tensor._version  # noqa: SLF001  autograd's own check has no public name


@dataclass(frozen=True)
class _Pass:
    inputs: torch.Tensor
    version: int
    edge: GradientEdge


class _Hooks:
    def __init__(self, module: nn.Module, losses: Losses, autocast: torch.autocast | None) -> None:
        self._module, self._losses, self._autocast = module, losses, autocast
        self._parameters = {
            name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad
        }
        for name, layer in module.named_modules():
            if _trained(layer) and next(layer.buffers(), None) is not None:
                why = "has buffers beside parameters that are trained, which Opacus cannot split"
                raise UnsupportedLayer.of(name, layer, why, "keep buffers in a layer of their own")
            if getattr(layer, "inplace", False) is True:
                raise UnsupportedLayer.of(
                    name, layer, "works in place, against the hooks", "use inplace=False"
                )

    def clipped_sum(self, batch: UnitBatch, clip: float) -> ClippedSum:
        of = owners(batch.unit, batch.units)
        norms = torch.zeros(batch.units, dtype=torch.float64, device=batch.unit.device)
        pieces: list[torch.Tensor] = []
        with self._split():
            loss = _weighted_loss(self._module, self._losses, self._autocast, batch, of)
            if loss.requires_grad:
                with warnings.catch_warnings():  # a first layer's inputs need no gradient, as torch remarks
                    warnings.filterwarnings("ignore", "Full backward hook is firing")
                    loss.backward()  # type: ignore[no-untyped-call]
            with torch.no_grad():
                for name, parameter in self._parameters.items():
                    pieces.append(add_up(self._per_record(name, parameter, len(batch.unit)), of))
                    norms += row_squares(pieces[-1])
        with torch.no_grad():
            factors = clip_factors(norms, clip)
            zero = dropped(factors)
            total = [weighted_products(piece, factors, zero) for piece in pieces]
        return ClippedSum(torch.cat([norms[:0], *total]), norms)

    @contextmanager
    def _split(self) -> Iterator[None]:
        """Opacus' hooks for one pass; whatever it hangs on the network is taken off again."""
        from opacus.grad_sample import GradSampleHooks

        for name, layer in self._module.named_modules():
            if _trained(layer) and not layer.training:
                why = "is in evaluation mode, in which Opacus sees no gradients"
                raise UnsupportedLayer.of(name, layer, why, "call train() on it, or freeze it")
        before = {p: None if p.grad is None else p.grad.clone() for p in self._parameters.values()}
        try:
            GradSampleHooks(self._module, loss_reduction="sum")
            yield
        finally:
            self._take_off()
            for parameter, old in before.items():
                if old is None:
                    parameter.grad = None
                elif parameter.grad is not None:
                    parameter.grad.copy_(old)  # a view into a flat gradient stays that view

    def _take_off(self) -> None:
        """Opacus' own cleanup keeps what an exception left on the layers."""
        for handle in self._module.__dict__.pop("autograd_grad_sample_hooks", []):
            handle.remove()
        for layer in self._module.modules():
            for name in ("activations", "max_batch_len", "ft_compute_sample_grad"):
                layer.__dict__.pop(name, None)
        for parameter in self._parameters.values():
            for name in ("grad_sample", "_forward_counter", "_current_grad_sample"):
                parameter.__dict__.pop(name, None)

    def _per_record(self, name: str, parameter: nn.Parameter, records: int) -> torch.Tensor:
        sample = getattr(parameter, "grad_sample", None)
        if sample is None:
            return torch.zeros(records, parameter.numel(), device=parameter.device)
        if not isinstance(sample, torch.Tensor) or len(sample) != records:
            of = name.rpartition(".")[0]
            raise UnsupportedLayer.of(of, self._module.get_submodule(of), _ALIEN, "put the records first")
        per_record: torch.Tensor = sample.reshape(records, -1).float()
        return per_record
