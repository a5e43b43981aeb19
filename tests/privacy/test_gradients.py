"""Clipped sums against one backward pass of torch per unit; what is refused; what is left behind."""

import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.privacy.networks import (
    KERNELS,
    LOSSES,
    NETWORKS,
    Sequence,
    batch_of,
    clipped,
    cross_entropy,
    own_gradients,
    records,
)
from vestry_privacy.gradients import (
    CoupledRecords,
    UnitBatch,
    UnitGradients,
    UnsupportedLayer,
    check_layers,
    hook_gradients,
    kernel_gradients,
    unit_gradients,
)

UNITS = [0, 1, 1, 2, 3, 3, 3]
WAYS: list[Callable[..., UnitGradients]] = [unit_gradients, hook_gradients]


@pytest.mark.parametrize("losses", LOSSES)
@pytest.mark.parametrize("name", NETWORKS)
def test_clipped_sum_is_the_definition(name: str, losses: str) -> None:
    torch.manual_seed(1)
    module = NETWORKS[name][0]()
    inputs, targets = records(name, len(UNITS))
    for unit in (UNITS, list(range(len(UNITS)))):
        batch = batch_of(inputs, targets, unit)
        expected = own_gradients(module, LOSSES[losses], batch)
        clip = float(torch.linalg.vector_norm(expected, dim=1).median())
        found = unit_gradients(module, LOSSES[losses]).clipped_sum(batch, clip)
        assert found.total.dtype == torch.float64
        scale = float(torch.linalg.vector_norm(expected, dim=1).max())
        assert torch.allclose(found.total, clipped(expected, clip).sum(dim=0), atol=1e-5 * clip, rtol=1e-4)
        norms = found.squared_norms.sqrt()
        assert torch.allclose(norms, torch.linalg.vector_norm(expected, dim=1), atol=1e-5 * scale)


@pytest.mark.parametrize("name", [name for name in KERNELS if name != "mlp"])
def test_own_kernels_and_opacus_agree(name: str) -> None:
    torch.manual_seed(2)
    module = NETWORKS[name][0]()
    batch = batch_of(*records(name, len(UNITS)), UNITS)
    ours = kernel_gradients(module, cross_entropy).clipped_sum(batch, 0.5)
    theirs = hook_gradients(module, cross_entropy).clipped_sum(batch, 0.5)
    assert torch.allclose(ours.total, theirs.total, atol=1e-6)
    assert torch.allclose(ours.squared_norms, theirs.squared_norms, rtol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_fast_way_is_taken_where_it_fits(name: str) -> None:
    module = NETWORKS[name][0]()
    if name in KERNELS:
        assert type(unit_gradients(module, cross_entropy)) is type(kernel_gradients(module, cross_entropy))
        return
    with pytest.raises(UnsupportedLayer, match="use unit_gradients"):
        kernel_gradients(module, cross_entropy)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "frozen", [("0.weight",), ("0.bias",), ("0.weight", "0.bias"), ("2.weight", "2.bias")]
)
def test_frozen_parameters_are_left_out(way: Callable[..., UnitGradients], frozen: tuple[str, ...]) -> None:
    torch.manual_seed(3)
    module = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name not in frozen)
    batch = batch_of(*records("mlp", len(UNITS)), UNITS)
    expected = own_gradients(module, cross_entropy, batch)
    found = way(module, cross_entropy).clipped_sum(batch, 0.3)
    assert found.total.shape == (sum(p.numel() for p in module.parameters() if p.requires_grad),)
    assert torch.allclose(found.total, clipped(expected, 0.3).sum(dim=0), atol=1e-6)


@pytest.mark.parametrize("way", WAYS)
def test_a_network_with_nothing_to_train_gives_an_empty_sum(way: Callable[..., UnitGradients]) -> None:
    module = nn.Linear(4, 3).requires_grad_(requires_grad=False)
    found = way(module, cross_entropy).clipped_sum(batch_of(*records("linear", 3), [0, 1, 2]), 1.0)
    assert found.total.shape == (0,)


class Branches(nn.Module):
    """Skips one layer, runs another without a gradient, and a third whose result is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.skipped, self.blind, self.unused = nn.Linear(2, 2), nn.Linear(4, 4), nn.Linear(4, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.unused(inputs)
        with torch.no_grad():
            inputs = inputs + self.blind(inputs)
        logits: torch.Tensor = self.head(inputs)
        return logits


@pytest.mark.parametrize("way", WAYS)
def test_a_layer_that_takes_no_part_gets_zeros(way: Callable[..., UnitGradients]) -> None:
    torch.manual_seed(4)
    module = Branches()
    batch = batch_of(*records("linear", len(UNITS)), UNITS)
    found = way(module, cross_entropy).clipped_sum(batch, 0.3)
    expected = own_gradients(module, cross_entropy, batch)
    assert torch.allclose(found.total, clipped(expected, 0.3).sum(dim=0), atol=1e-6)
    assert bool((found.total[: 6 + 20 + 20] == 0).all())


@pytest.mark.parametrize("way", WAYS)
def test_vacant_units_add_exactly_nothing(way: Callable[..., UnitGradients]) -> None:
    torch.manual_seed(5)
    module = NETWORKS["linear"][0]()
    inputs, targets = records("linear", 6)
    vacant = torch.tensor([False, True, False, False, True, False])
    gradients = way(module, cross_entropy)
    units = torch.arange(6)
    found = gradients.clipped_sum(UnitBatch(inputs, targets, units, 6, vacant), 0.5)
    assert bool((found.squared_norms[vacant] == 0).all())
    inputs[vacant] = 1e6  # whatever stands there
    again = gradients.clipped_sum(UnitBatch(inputs, targets, units, 6, vacant), 0.5)
    assert torch.equal(found.total, again.total)
    rest = batch_of(inputs[~vacant], targets[~vacant], [0, 1, 2, 3])
    assert torch.allclose(found.total, gradients.clipped_sum(rest, 0.5).total, atol=1e-7)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), 3e38])
def test_a_record_that_is_not_finite_counts_as_zero(way: Callable[..., UnitGradients], wrong: float) -> None:
    torch.manual_seed(6)
    module = NETWORKS["conv"][0]()
    inputs, targets = records("conv", 4)
    inputs[2] = wrong
    gradients = way(module, cross_entropy)
    found = gradients.clipped_sum(batch_of(inputs, targets, [0, 1, 2, 3]), 0.5)
    kept = torch.tensor([0, 1, 3])
    rest = gradients.clipped_sum(batch_of(inputs[kept], targets[kept], [0, 1, 2]), 0.5)
    assert bool(torch.isfinite(found.total).all())
    assert float(torch.linalg.vector_norm(found.total - rest.total)) <= 0.5
    if not torch.isfinite(found.squared_norms[2]):
        assert torch.allclose(found.total, rest.total, atol=1e-6)


def state_of(module: nn.Module) -> list[Any]:
    """All that a pass could leave behind."""
    layers = [
        (name, layer.training, len(layer._forward_hooks), len(layer._backward_hooks), sorted(vars(layer)))
        for name, layer in module.named_modules()
    ]
    tensors = [
        (name, p.grad is None or p.grad.tolist(), p.requires_grad, sorted(vars(p)))
        for name, p in module.named_parameters()
    ]
    return [layers, tensors, sorted(module.state_dict())]


class Refuses(RuntimeError):
    pass


@pytest.mark.parametrize("name", ["conv", "layer norm", "tokens"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", ["none", "losses", "first pass", "backward"])
def test_everything_is_left_as_found(name: str, way: Callable[..., UnitGradients], place: str) -> None:
    module = NETWORKS[name][0]()
    flat = torch.arange(float(sum(p.numel() for p in module.parameters())))
    start = 0
    for parameter in module.parameters():  # gradients that are views into one vector, as in a trainer
        parameter.grad = flat[start : start + parameter.numel()].view_as(parameter)
        start += parameter.numel()
    before, vector = state_of(module), flat.clone()

    def losses(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if place == "losses":
            raise Refuses
        if place == "backward":
            outputs.register_hook(refuse)  # type: ignore[no-untyped-call]
        return cross_entropy(outputs, targets)

    def refuse(*_: object) -> None:
        raise Refuses

    batch = batch_of(*records(name, 4), [0, 1, 1, 2])
    gradients = way(module, losses)
    handle = list(module.modules())[-1].register_forward_hook(refuse) if place == "first pass" else None
    if place == "none":
        gradients.clipped_sum(batch, 1.0)
    else:
        with pytest.raises(Refuses):
            gradients.clipped_sum(batch, 1.0)
    if handle is not None:
        handle.remove()
    assert state_of(module) == before
    assert torch.equal(flat, vector)
    flat += 1  # still views
    assert next(module.parameters()).grad.view(-1)[0] == flat[0]  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["mlp", "layer norm"])
def test_a_network_without_gradients_gets_none(name: str) -> None:
    module = NETWORKS[name][0]()
    unit_gradients(module, cross_entropy).clipped_sum(batch_of(*records(name, 3), [0, 1, 2]), 1.0)
    assert all(parameter.grad is None for parameter in module.parameters())


def test_evaluation_mode_works_with_kernels_and_is_refused_by_hooks() -> None:
    module = NETWORKS["linear"][0]().eval()
    batch = batch_of(*records("linear", 3), [0, 1, 2])
    assert bool(kernel_gradients(module, cross_entropy).clipped_sum(batch, 1.0).total.any())
    assert not module.training
    with pytest.raises(UnsupportedLayer, match=r"evaluation mode.*call train"):
        hook_gradients(module, cross_entropy).clipped_sum(batch, 1.0)
    assert not module.training


def test_a_frozen_part_may_be_in_evaluation_mode() -> None:
    module = NETWORKS["layer norm"][0]()
    module.get_submodule("0").requires_grad_(requires_grad=False).eval()
    batch = batch_of(*records("layer norm", 3), [0, 1, 2])
    found = unit_gradients(module, cross_entropy).clipped_sum(batch, 0.3)
    expected = clipped(own_gradients(module, cross_entropy, batch), 0.3).sum(dim=0)
    assert torch.allclose(found.total, expected, atol=1e-6)


class Layers(nn.Module):
    """Two layers, put together by a function."""

    def __init__(self, run: Callable[["Layers", torch.Tensor], torch.Tensor], width: int = 4) -> None:
        super().__init__()
        self.first, self.head, self._run = nn.Linear(4, 4), nn.Linear(width, 3), run

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self._run(self, inputs)


def changes_its_input(layers: Layers, inputs: torch.Tensor) -> torch.Tensor:
    inputs = inputs.clone()
    hidden = layers.first(inputs)
    inputs += 1
    logits: torch.Tensor = layers.head(hidden)
    return logits


@pytest.mark.parametrize(
    ("run", "says"),
    [
        (lambda layers, x: layers.head(layers.first(layers.first(x))), "'first' .*used twice"),
        (changes_its_input, "'first' .*changed in place"),
        (
            lambda layers, x: layers.head(layers.first(x.repeat(2, 1))[: len(x)]),
            "'first' .*one row per record",
        ),
        (lambda layers, x: layers.head(layers.first(x[0]).expand(len(x), 4)), "'first' .*one row per record"),
    ],
)
def test_uses_that_cannot_be_split_are_refused(
    run: Callable[[Layers, torch.Tensor], torch.Tensor], says: str
) -> None:
    module = Layers(run)
    before = state_of(module)
    with pytest.raises(UnsupportedLayer, match=says):
        kernel_gradients(module, cross_entropy).clipped_sum(batch_of(*records("linear", 3), [0, 1, 2]), 1.0)
    assert state_of(module) == before


def test_keyword_arguments_and_in_place_activations_are_fine_with_kernels() -> None:
    module = Layers(lambda layers, x: layers.head(input=functional.relu_(layers.first(input=x))))
    batch = batch_of(*records("linear", len(UNITS)), UNITS)
    found = kernel_gradients(module, cross_entropy).clipped_sum(batch, 0.3)
    expected = clipped(own_gradients(module, cross_entropy, batch), 0.3).sum(dim=0)
    assert torch.allclose(found.total, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        (nn.BatchNorm1d(4), r"'1' \(BatchNorm1d\): mixes the records.*use GroupNorm or LayerNorm"),
        (nn.SyncBatchNorm(4), r"'1' \(SyncBatchNorm\): mixes"),
        (nn.LSTM(4, 4), r"'1' \(LSTM\).*use opacus.layers.DPLSTM"),
        (nn.GRU(4, 4), "DPGRU"),
        (nn.RNN(4, 4), "DPRNN"),
        (nn.MultiheadAttention(4, 2), "DPMultiheadAttention"),
        (nn.EmbeddingBag(4, 4), "use Embedding and sum"),
    ],
)
def test_unsupported_layers_are_named_with_what_to_use(layer: nn.Module, says: str) -> None:
    for check in (check_layers, lambda module: unit_gradients(module, cross_entropy)):
        with pytest.raises(UnsupportedLayer, match=says):
            check(nn.Sequential(nn.Linear(4, 4), layer))


def test_buffers_beside_trained_parameters_are_refused_by_name() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    module.get_submodule("1").register_buffer("seen", torch.zeros(1))
    with pytest.raises(UnsupportedLayer, match=r"'1' .*has buffers"):
        unit_gradients(module, cross_entropy)


@pytest.mark.parametrize(
    "losses",
    [
        functional.cross_entropy,
        lambda outputs, targets: cross_entropy(outputs, targets)[:, None],
        lambda outputs, targets: cross_entropy(outputs, targets)[:2],
    ],
)
@pytest.mark.parametrize("way", WAYS)
def test_losses_that_are_not_one_per_record_are_refused(
    way: Callable[..., UnitGradients], losses: Any
) -> None:
    """A mean, or a column: broadcasting would spread either over the whole batch."""
    batch = batch_of(*records("linear", 3), [0, 1, 2])
    with pytest.raises(CoupledRecords, match="reduction='none'"):
        way(nn.Linear(4, 3), losses).clipped_sum(batch, 1.0)


def test_subclasses_and_tied_weights_do_not_go_through_the_kernels() -> None:
    class Doubled(nn.Linear):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(inputs)

    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    normed = torch.nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
    for module in (
        Doubled(4, 3),
        tied,
        normed,
        nn.Conv2d(2, 2, 3, groups=2),
        nn.Conv2d(1, 2, 3, padding="same"),
    ):
        with pytest.raises(UnsupportedLayer, match="no kernel of our own"):
            kernel_gradients(module, cross_entropy)
    batch = batch_of(*records("linear", len(UNITS)), UNITS)
    for module in (Doubled(4, 3), normed):
        found = unit_gradients(module, cross_entropy).clipped_sum(batch, 0.3)
        expected = clipped(own_gradients(module, cross_entropy, batch), 0.3).sum(dim=0)
        assert torch.allclose(found.total, expected, atol=1e-6)


@pytest.mark.parametrize("name", ["mlp", "conv", "sequence"])
def test_mixed_precision_keeps_the_bound(name: str) -> None:
    torch.manual_seed(8)
    module = NETWORKS[name][0]()
    batch = batch_of(*records(name, 8, scale=30.0), [0, 0, 1, 2, 3, 4, 5, 6])
    gradients = unit_gradients(module, cross_entropy, torch.autocast("cpu", torch.bfloat16))
    plain = unit_gradients(module, cross_entropy).clipped_sum(batch, 0.2)
    mixed = gradients.clipped_sum(batch, 0.2)
    assert not torch.equal(plain.total, mixed.total)
    for unit in range(batch.units):
        mine = batch.unit == unit
        alone = gradients.clipped_sum(
            UnitBatch(batch.inputs[mine], batch.targets[mine], batch.unit[mine] * 0, 1), 0.2
        )
        assert float(torch.linalg.vector_norm(alone.total)) <= 0.2
    assert float(torch.linalg.vector_norm(mixed.total - plain.total)) < 0.2 * batch.units


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("mixed", [False, True])
def test_a_gpu_keeps_the_bound(name: str, mixed: bool) -> None:
    module = NETWORKS[name][0]()
    inputs, targets = records(name, len(UNITS), scale=30.0)
    expected = clipped(own_gradients(module, cross_entropy, batch_of(inputs, targets, UNITS)), 0.2)
    batch = batch_of(inputs, targets, UNITS)
    moved = UnitBatch(inputs.cuda(), targets.cuda(), batch.unit.cuda(), batch.units)
    autocast = torch.autocast("cuda", torch.bfloat16) if mixed else None
    found = unit_gradients(module.cuda(), cross_entropy, autocast).clipped_sum(moved, 0.2)
    assert float(torch.linalg.vector_norm(found.total)) <= 0.2 * batch.units
    if not mixed:
        assert torch.allclose(found.total.cpu(), expected.sum(dim=0), atol=1e-3)


def test_errors_come_back_from_a_worker_process() -> None:
    error = UnsupportedLayer.of("head", Sequence(), "couples", "use another")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301  our own bytes
    assert str(error) == "model layer 'head' (Sequence): couples; use another"
