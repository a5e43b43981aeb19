"""The probe refuses what couples records, lets pass what does not, and leaves the network as it was."""

import time
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.privacy.networks import LOSSES, NETWORKS, Counting, cross_entropy, shape_of
from vestry_privacy.coupling import RecordShape, check_coupling
from vestry_privacy.gradients import CoupledRecords, Losses, UnsupportedLayer

SHAPE = RecordShape((4,))
TOKENS = RecordShape((5, 4), (5,))


def weights_of_the_batch(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    counts = torch.bincount(targets, minlength=outputs.shape[1]).clamp_min(1)
    return cross_entropy(outputs, targets) / counts[targets]


def contrastive(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Each record against all others of the batch (SimCLR's)."""
    units = functional.normalize(outputs, dim=1)
    own = torch.eye(len(units), dtype=torch.bool)
    logits = (units @ units.T).masked_fill(own, -1e9)
    return -functional.log_softmax(logits, dim=1).masked_fill(own, 0.0).mean(dim=1)


def hidden_in_the_gradient(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The values are those of each record; the gradient is not."""
    values = cross_entropy(outputs, targets)
    return values + values.mean() - values.mean().detach()


def tokens_of_the_batch(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    each = functional.cross_entropy(outputs.transpose(1, 2), targets, reduction="none")
    return each.sum(dim=1) / targets.numel()


def valid_tokens_of_the_batch(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    each = functional.cross_entropy(outputs.transpose(1, 2), targets, reduction="none", ignore_index=0)
    return each.sum(dim=1) / (targets != 0).sum() * len(targets)


def own_tokens(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(outputs.transpose(1, 2), targets, reduction="none").mean(dim=1)


COUPLED: dict[str, tuple[Losses, RecordShape, str]] = {
    "class weights of the batch": (weights_of_the_batch, SHAPE, "changes with the other records"),
    "contrastive": (contrastive, SHAPE, "changes with the other records"),
    "centred": (
        lambda o, t: cross_entropy(o, t) - cross_entropy(o, t).mean(),
        SHAPE,
        "changes with the other records",
    ),
    "ranked": (lambda o, t: cross_entropy(o, t).argsort() * cross_entropy(o, t), SHAPE, "changes with"),
    "divided by the batch": (lambda o, t: cross_entropy(o, t) / len(t), SHAPE, "size of its batch"),
    "in the gradient only": (hidden_in_the_gradient, SHAPE, "gradient: a record's depends"),
    "mean": (functional.cross_entropy, SHAPE, "not one value per record"),
    "column": (lambda o, t: cross_entropy(o, t)[:, None], SHAPE, "not one value per record"),
    "tokens of the batch": (tokens_of_the_batch, TOKENS, "size of its batch"),
    "valid tokens of the batch": (valid_tokens_of_the_batch, TOKENS, "changes with the other records"),
}


@pytest.mark.parametrize("name", COUPLED)
def test_losses_that_couple_are_refused_with_the_way_out(name: str) -> None:
    losses, shape, says = COUPLED[name]
    with pytest.raises(CoupledRecords, match=says) as refused:
        check_coupling(nn.Linear(4, 3), losses, shape)
    assert "a public constant per class (`class_weights` of the target)" in str(refused.value)


class Centre(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs - inputs.mean(dim=0)


class CentreInTraining(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs - inputs.mean(dim=0) if self.training else inputs


class CentreGradient(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        mean = inputs.mean(dim=0)
        return inputs - mean + mean.detach()


class Shuffle(nn.Module):
    """Mixes each record with another one, as mixup does."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return 0.9 * inputs + 0.1 * inputs[torch.randperm(len(inputs))]


class Counts(nn.Module):
    mean: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.mean += inputs.mean(dim=0).detach()
        return inputs


class StepsFirst(nn.Module):
    """Takes the steps of a sequence for records."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layer(inputs.transpose(0, 1)).mean(dim=0)
        return logits


class Borrowed(nn.Module):
    """Uses a layer's weight behind its back."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return functional.linear(self.layer(inputs), self.layer.weight)


class Places(nn.Module):
    """One row of places for the whole batch."""

    def __init__(self) -> None:
        super().__init__()
        self.places, self.head = nn.Embedding(5, 4), nn.Linear(4, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head((inputs + self.places(torch.arange(5))).mean(dim=1))
        return logits


def between(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), layer, nn.Linear(4, 3))


MIXING: dict[str, tuple[Callable[[], nn.Module], RecordShape, str]] = {
    "batch norm": (lambda: between(nn.BatchNorm1d(4)), SHAPE, r"'1' \(BatchNorm1d\): mixes"),
    "centre": (lambda: between(Centre()), SHAPE, r"'1' \(Centre\): mixes"),
    "centre in training": (lambda: between(CentreInTraining()), SHAPE, r"'1' \(CentreInTraining\): mixes"),
    "mixup": (lambda: between(Shuffle()), SHAPE, r"'1' \(Shuffle\): mixes"),
    "statistics": (lambda: between(Counts()), SHAPE, r"'1' \(Counts\): keeps statistics"),
    "steps first": (StepsFirst, RecordShape((5, 4)), r"'layer' \(Linear\): does not keep one row"),
    "borrowed": (Borrowed, SHAPE, r"'layer' \(Linear\): .* is not the gradient"),
    "places": (Places, RecordShape((5, 4)), r"'places' \(Embedding\): does not keep one row"),
    "one output": (lambda: nn.Sequential(nn.Linear(4, 3), nn.Flatten(0)), SHAPE, "one row of outputs"),
}


@pytest.mark.parametrize("name", MIXING)
def test_layers_that_mix_are_named(name: str) -> None:
    build, shape, says = MIXING[name]
    with pytest.raises(UnsupportedLayer, match=says):
        check_coupling(build(), cross_entropy, shape)


def test_coupling_in_the_gradient_of_a_layer_is_found() -> None:
    with pytest.raises(CoupledRecords, match="gradient: a record's depends"):
        check_coupling(between(CentreGradient()), cross_entropy, SHAPE)


def test_steps_that_look_like_records_are_found_too() -> None:
    """As many steps as the probe has records: the sum is right, whose part is whose is not."""
    for steps in range(1, 9):
        with pytest.raises((UnsupportedLayer, CoupledRecords)):
            check_coupling(StepsFirst(), cross_entropy, RecordShape((steps, 4)))


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("name", ["centre", "centre in training", "mixup"])
def test_a_network_of_zeros_hides_nothing(name: str, zeros: bool) -> None:
    module = MIXING[name][0]()
    for parameter in module.parameters():
        nn.init.constant_(parameter, 0.0 if zeros else float("nan"))
    with pytest.raises(UnsupportedLayer, match="mixes"):
        check_coupling(module.eval(), cross_entropy, SHAPE)


@pytest.mark.parametrize("losses", LOSSES)
@pytest.mark.parametrize("name", NETWORKS)
def test_what_couples_nobody_passes(name: str, losses: str) -> None:
    check_coupling(NETWORKS[name][0](), LOSSES[losses], shape_of(name))


class Random(nn.Module):
    """Dropout by function, which no module says."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return functional.dropout(self.layer(inputs), 0.5, self.training)


@pytest.mark.parametrize(
    ("module", "losses", "shape"),
    [
        (between(nn.Dropout(0.5)), cross_entropy, SHAPE),
        (Random(), cross_entropy, SHAPE),
        (nn.Linear(4, 3), own_tokens, TOKENS),
        (nn.Linear(4, 1), lambda o, t: (o[:, 0] - t) ** 2, RecordShape((4,), target_type=torch.float32)),
        (
            nn.Linear(4, 1),
            lambda o, t: functional.binary_cross_entropy_with_logits(o[:, 0], t.float(), reduction="none"),
            SHAPE,
        ),
        (nn.Linear(4, 3).requires_grad_(requires_grad=False), cross_entropy, SHAPE),
        (between(nn.Identity()).double(), cross_entropy, RecordShape((4,), input_type=torch.float64)),
    ],
)
def test_dropout_tokens_regression_and_frozen_networks_pass(
    module: nn.Module, losses: Losses, shape: RecordShape
) -> None:
    check_coupling(module, losses, shape)


@pytest.mark.parametrize("refused", [False, True])
def test_the_network_and_torch_are_left_as_found(refused: bool) -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.LayerNorm(4), nn.Linear(4, 3))
    module.get_submodule("1").eval()
    module.get_submodule("3").register_buffer("constant", torch.ones(1))
    module.get_parameter("0.weight").grad = torch.ones(4, 4)
    if not refused:
        del module.get_submodule("3")._buffers["constant"]
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    modes = [layer.training for layer in module.modules()]
    random = torch.get_rng_state()
    if refused:
        with pytest.raises(UnsupportedLayer, match="has buffers"):
            check_coupling(module, cross_entropy, SHAPE)
    else:
        check_coupling(module, cross_entropy, SHAPE)
    assert torch.equal(torch.get_rng_state(), random)
    assert [layer.training for layer in module.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert torch.equal(module.get_parameter("0.weight").grad, torch.ones(4, 4))  # type: ignore[arg-type]
    assert module.get_parameter("3.weight").grad is None
    assert not any(layer._forward_hooks or layer._backward_hooks for layer in module.modules())


def test_buffers_are_put_back() -> None:
    counts = Counts()
    with pytest.raises(UnsupportedLayer, match="keeps statistics"):
        check_coupling(between(counts), cross_entropy, SHAPE)
    assert torch.equal(counts.mean, torch.zeros(4))


def test_only_shapes_and_types_of_the_data_are_used() -> None:
    class Untouchable(torch.Tensor):
        @classmethod
        def __torch_function__(cls, *call: object, **_: object) -> object:
            name = getattr(call[0], "__name__", "")
            if name not in {"__get__", "shape", "dtype", "device", "size"}:
                raise AssertionError(f"{name} looks at the data")
            return super().__torch_function__(*call)  # type: ignore[no-untyped-call]

    inputs = torch.randn(3, 2, 4).as_subclass(Untouchable)
    targets = torch.zeros(3, 5).as_subclass(Untouchable)
    shape = RecordShape.of(inputs, targets)
    assert (shape.inputs, shape.targets) == ((2, 4), (5,))
    assert (shape.input_type, shape.target_type) == (torch.float32, torch.float32)


def test_a_probe_is_a_handful_of_small_passes() -> None:
    module = Counting(nn.Linear(4, 3))
    start = time.process_time()
    check_coupling(module, cross_entropy, SHAPE)
    assert module.runs <= 12
    assert time.process_time() - start < 2
