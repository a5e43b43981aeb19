"""A probe that refuses networks and losses in which one record's part depends on the others of its batch.

Clipping bounds what a record adds, not what it does to the parts of others: class weights counted in the
batch, a mean over all tokens, a contrastive loss or the batch's statistics move every part at once (one
record moved a clipped sum by 35 C). So a network is run on synthetic records before it sees a patient's:
one record changes, and nothing of the others may; records are taken away, and nothing of the rest may change;
what is summed must be the network's own gradient.

The records are random numbers of the data's shapes and types, and so are the trained parameters while the
probe runs, so that a network of zeros hides nothing. A probe finds coupling, it does not prove that there is
none: code that couples only on some values passes.

Symbols: R records.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from vestry_privacy.gradients import (
    ClippedSum,
    CoupledRecords,
    Losses,
    UnitBatch,
    UnsupportedLayer,
    check_layers,
    unit_gradients,
)

__all__ = ["RecordShape", "check_coupling"]

_RECORDS = 4
_SEED = 20160701
_CLIP = 1e12
_TOLERANCE = 1e-3
_SAME_SHAPE = 1e-6
_MIXES = "mixes the records of a batch, so that no person's share is bounded"
_NOT_OWN = "what its inputs and outputs say is not the gradient of each record"
_LAYER_INSTEAD = "use layers that treat each record alone, records first, such as Linear, Conv2d or GroupNorm"
_INSTEAD = (
    "use a loss of each record's own outputs: a public constant per class (`class_weights` of the target), "
    "a mean over the record's own tokens, no batch statistics"
)


_CPU = torch.device("cpu")


@dataclass(frozen=True)
class RecordShape:
    """Shapes and types of one record, all that a probe may know of the data.

    Attributes:
        inputs: without the records' dimension.
        targets: the same.
        input_type: floating, or integers such as token numbers.
        target_type: int64 class numbers, or floating.
        device: where the network is.
    """

    inputs: tuple[int, ...]
    targets: tuple[int, ...] = ()
    input_type: torch.dtype = torch.float32
    target_type: torch.dtype = torch.int64
    device: torch.device = _CPU

    @classmethod
    def of(cls, inputs: torch.Tensor, targets: torch.Tensor) -> "RecordShape":
        """Read off two tensors; no value is looked at."""
        return cls(
            tuple(inputs.shape[1:]), tuple(targets.shape[1:]), inputs.dtype, targets.dtype, inputs.device
        )


def check_coupling(module: nn.Module, losses: Losses, shape: RecordShape) -> None:
    """Refuse a network or losses that couple the records of a batch.

    Args:
        module: left as found: parameters, gradients, buffers, modes and torch's random state.
        losses: loss of each record from its own record only.
        shape: of the data.

    Raises:
        UnsupportedLayer: a layer mixes records, keeps statistics, or its gradient cannot be split.
        CoupledRecords: a record's loss changes with the others.

    Guarantees:
        No patient's data are used: the probe knows shapes and types only.
    """
    check_layers(module)
    devices = [shape.device] if shape.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), _scrambled(module) as buffers:
        batch = _synthetic(module, shape)
        _check_buffers(module, buffers)
        before = _look(module, losses, batch)
        for changed in (0, _RECORDS - 1):
            _check_change(module, losses, batch, before, changed)
        _check_gradients(module, losses, batch, before.split)
        module.eval()  # dropout draws by batch, which cannot be compared across sizes
        _check_sizes(module, losses, batch)


@contextmanager
def _scrambled(module: nn.Module) -> Iterator[dict[str, torch.Tensor]]:
    """Random trained parameters in training mode; everything is put back. Gives the buffers as they were."""
    modes = {layer: layer.training for layer in module.modules()}
    saved = {p: p.detach().clone() for p in module.parameters() if p.requires_grad}
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    random = torch.Generator().manual_seed(_SEED)
    try:
        module.train()
        with torch.no_grad():
            for parameter in saved:
                values = torch.randn(parameter.shape, generator=random)
                width = parameter[0].numel() if parameter.dim() > 1 else 4
                parameter.copy_(values / width**0.5 + (1.0 if parameter.dim() == 1 else 0.0))
        yield buffers
    finally:
        with torch.no_grad():
            for parameter, values in saved.items():
                parameter.copy_(values)
            for name, buffer in module.named_buffers():
                buffer.copy_(buffers[name])
        for layer, mode in modes.items():
            layer.training = mode


def _synthetic(module: nn.Module, shape: RecordShape) -> UnitBatch:
    """Random records; classes and tokens 0 and 1, which every vocabulary has."""
    random = torch.Generator().manual_seed(_SEED)
    sizes = (_RECORDS, *shape.inputs)
    if shape.input_type.is_floating_point:
        inputs = torch.randn(sizes, generator=random).to(shape.input_type)
    else:
        inputs = torch.randint(0, 2, sizes, generator=random).to(shape.input_type)
    targets = torch.randint(0, 2, (_RECORDS, *shape.targets), generator=random).to(shape.target_type)
    unit = torch.arange(_RECORDS, device=shape.device)
    batch = UnitBatch(inputs.to(shape.device), targets.to(shape.device), unit, _RECORDS)
    outputs = _run(module, batch.inputs)
    if not isinstance(outputs, torch.Tensor) or not outputs.dim() or len(outputs) != _RECORDS:
        why = "does not give one row of outputs per record"
        raise UnsupportedLayer.of("", module, why, "return a tensor (records, ...)")
    return batch


def _run(module: nn.Module, inputs: torch.Tensor) -> Any:
    torch.manual_seed(_SEED)  # the same dropout each time
    return module(inputs)


def _check_buffers(module: nn.Module, before: dict[str, torch.Tensor]) -> None:
    for name, buffer in module.named_buffers():
        if not torch.equal(buffer, before[name]):
            layer = name.rpartition(".")[0]
            why = "keeps statistics of the data in a buffer, which no clipping reaches"
            instead = "use a layer without running statistics"
            raise UnsupportedLayer.of(layer, module.get_submodule(layer), why, instead)


@dataclass(frozen=True)
class _Look:
    """What one batch gave."""

    layers: dict[str, torch.Tensor]
    outputs: torch.Tensor
    values: torch.Tensor
    split: ClippedSum


def _look(module: nn.Module, losses: Losses, batch: UnitBatch) -> _Look:
    layers, outputs = _layer_outputs(module, batch.inputs)
    values = _values(losses, outputs, batch.targets)
    return _Look(layers, outputs, values, _split(module, losses, batch))


def _check_change(module: nn.Module, losses: Losses, batch: UnitBatch, before: _Look, changed: int) -> None:
    """Another record in one place: outputs, losses and gradients of all others stay."""
    others = batch.unit != changed
    inputs, targets = batch.inputs.clone(), batch.targets.clone()
    row = inputs[changed]
    inputs[changed] = 1 - 3 * row if row.is_floating_point() else (1 - row.long()).to(row.dtype)
    targets[changed] = 1 - targets[changed]
    layers, outputs = _layer_outputs(module, inputs)
    if not _same(before.outputs[others], outputs[others], _SAME_SHAPE):
        moved = (
            n for n, old in before.layers.items() if not _same(old[others], layers[n][others], _SAME_SHAPE)
        )
        name = next(moved, "")
        raise UnsupportedLayer.of(name, module.get_submodule(name), _MIXES, _LAYER_INSTEAD)
    if not _same(before.values[others], _values(losses, outputs, targets)[others], _SAME_SHAPE):
        raise CoupledRecords(f"loss: a record's loss changes with the other records of its batch; {_INSTEAD}")
    leaf = before.outputs.detach().requires_grad_()
    (own,) = torch.autograd.grad(_values(losses, leaf, batch.targets)[changed], leaf)
    norms = _split(module, losses, replace(batch, inputs=inputs, targets=targets)).squared_norms
    if bool(own[others].any()) or not _same(before.split.squared_norms[others], norms[others], _SAME_SHAPE):
        raise CoupledRecords(f"gradient: a record's depends on the other records of its batch; {_INSTEAD}")


def _layer_outputs(module: nn.Module, inputs: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """What each layer without layers of its own gave, in the order of the pass, and the outputs."""
    names = {layer: name for name, layer in module.named_modules() if not any(layer.children())}
    seen: dict[str, torch.Tensor] = {}

    def record(layer: nn.Module, _arguments: object, output: object) -> None:
        if isinstance(output, torch.Tensor) and output.dim() and len(output) == _RECORDS:
            seen.setdefault(names[layer], output.detach().clone())

    handles = [layer.register_forward_hook(record) for layer in names]
    try:
        return seen, _run(module, inputs).detach().float()
    finally:
        for handle in handles:
            handle.remove()


def _values(losses: Losses, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    values = losses(outputs, targets)
    if values.shape != (len(outputs),):
        raise CoupledRecords(
            f"loss: not one value per record, shape (n,); use reduction='none' and {_INSTEAD}"
        )
    return values


def _split(module: nn.Module, losses: Losses, batch: UnitBatch) -> ClippedSum:
    torch.manual_seed(_SEED)
    try:
        return unit_gradients(module, losses).clipped_sum(batch, _CLIP)
    except (RuntimeError, ValueError, NotImplementedError, KeyError, IndexError) as error:
        why = f"its gradient cannot be split by record ({str(error).partition(chr(10))[0]})"
        raise UnsupportedLayer.of("", module, why, "use Linear, Conv2d, Embedding or norm layers") from error


def _check_gradients(module: nn.Module, losses: Losses, batch: UnitBatch, found: ClippedSum) -> None:
    """What is clipped and summed is each record's own gradient, as torch sees it."""
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    values = _values(losses, _run(module, batch.inputs).float(), batch.targets)
    truth: list[torch.Tensor] = []
    for value in values if values.requires_grad else ():
        parts: tuple[torch.Tensor | None, ...] = torch.autograd.grad(
            value, list(trained.values()), retain_graph=True, allow_unused=True
        )
        flat = [
            p.new_zeros(p.numel()) if part is None else part.reshape(-1)
            for p, part in zip(trained.values(), parts, strict=True)
        ]
        truth.append(torch.cat(flat).double())
    expected = torch.stack(truth) if truth else found.total.new_zeros(_RECORDS, len(found.total))
    norms = torch.linalg.vector_norm(expected, dim=1)
    if not bool(torch.isfinite(norms).all()):
        return
    total, scale, start = expected.sum(dim=0), _TOLERANCE * float(norms.max()), 0
    for name, parameter in trained.items():
        part = slice(start, start + parameter.numel())
        if not float(torch.linalg.vector_norm(found.total[part] - total[part])) <= scale:
            layer = name.rpartition(".")[0]
            raise UnsupportedLayer.of(layer, module.get_submodule(layer), _NOT_OWN, _LAYER_INSTEAD)
        start += parameter.numel()
    if not _same(found.squared_norms.sqrt(), norms, _TOLERANCE):
        raise UnsupportedLayer.of("", module, _NOT_OWN, _LAYER_INSTEAD)


def _check_sizes(module: nn.Module, losses: Losses, batch: UnitBatch) -> None:
    """Fewer records: outputs and losses of those that stay, stay."""
    with torch.no_grad():
        outputs = _run(module, batch.inputs).float()
        values = _values(losses, outputs, batch.targets)
        for size in (1, _RECORDS // 2):
            if not _same(outputs[:size], _run(module, batch.inputs[:size]).float(), _TOLERANCE):
                raise UnsupportedLayer.of("", module, _MIXES, _LAYER_INSTEAD)
            if not _same(values[:size], _values(losses, outputs[:size], batch.targets[:size]), _TOLERANCE):
                raise CoupledRecords(f"loss: a record's loss changes with the size of its batch; {_INSTEAD}")


def _same(left: torch.Tensor, right: torch.Tensor, tolerance: float) -> bool:
    if left.shape != right.shape:
        return False
    scale = float(torch.nan_to_num(left.detach(), 0.0, 0.0, 0.0).abs().max()) if left.numel() else 0.0
    return torch.allclose(left, right, rtol=0.0, atol=tolerance * scale, equal_nan=True)
