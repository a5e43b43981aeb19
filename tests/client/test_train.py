"""Local training against a plain torch loop written here, and its edges."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from tests.client.bench import Bench, make_bench, make_study
from vestry_client.train import LocalResult, TrainingDiverged, _batches, choose_device, train_locally
from vestry_privacy.errors import VestryError
from vestry_strategies.strategy import LocalEnd, LocalStart, Strategy
from vestry_strategies.sums import Arrays

MLP = ('kind = "logistic"', 'kind = "mlp"\nhidden = [6]')


def train(bench: Bench, number: int = 1, state: Arrays | None = None, site: str = "north") -> LocalResult:
    return train_locally(
        bench.study,
        bench.task,
        bench.strategy,
        bench.flat,
        site,
        number,
        bench.examples,
        bench.model,
        {},
        state or {},
    )


def plain_loop(bench: Bench, optimizer: str, number: int = 1, site: str = "north") -> np.ndarray:
    """The same batches through torch's own modules and optimizers, nothing of ours but the order."""
    network = copy.deepcopy(bench.task.build_model(bench.study))
    with torch.no_grad():
        torch.nn.utils.vector_to_parameters(torch.from_numpy(bench.model.copy()), network.parameters())
    rate, decay = bench.study.training.learning_rate, bench.study.training.weight_decay
    parameters = list(network.parameters())
    made: torch.optim.Optimizer
    if optimizer == "sgd":
        momentum = bench.study.training.momentum
        made = torch.optim.SGD(parameters, lr=rate, momentum=momentum, weight_decay=decay)
    elif optimizer == "adam":
        made = torch.optim.Adam(parameters, lr=rate, weight_decay=decay)
    else:
        made = torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)
    inputs, targets = torch.from_numpy(bench.examples.inputs), torch.from_numpy(bench.examples.targets)
    for batch in _batches(bench.study, len(bench.examples), site, number):
        made.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(
            network(inputs[batch])[:, 0], targets[batch].float()
        )
        loss.backward()  # type: ignore[no-untyped-call]
        made.step()
    after: np.ndarray = torch.nn.utils.parameters_to_vector(network.parameters()).detach().numpy()
    return after


@pytest.mark.parametrize(
    ("optimizer", "setting"),
    [
        ("sgd", ""),
        ("sgd", "momentum = 0.9"),
        ("sgd", "weight_decay = 0.2"),
        ("adam", 'optimizer = "adam"'),
        ("adamw", 'optimizer = "adamw"\nweight_decay = 0.1'),
    ],
)
@pytest.mark.parametrize("model", [(), (MLP,)])
def test_local_steps_are_those_of_a_plain_loop(
    optimizer: str, setting: str, model: tuple[tuple[str, str], ...]
) -> None:
    bench = make_bench(("learning_rate = 0.1", f"learning_rate = 0.05\n{setting}"), *model)
    result = train(bench)
    expected = plain_loop(bench, optimizer) - bench.model
    np.testing.assert_allclose(result.update, expected, rtol=1e-4, atol=1e-6)
    assert result.steps == 5


def test_the_loss_is_the_mean_over_the_steps() -> None:
    bench = make_bench(("local_steps = 5", "local_steps = 1"), ("batch_size = 8", "batch_size = 60"))
    result = train(bench)
    bench.flat.load(bench.model)
    outputs = bench.flat.module(torch.from_numpy(bench.examples.inputs))
    losses = bench.task.losses(bench.study, outputs, torch.from_numpy(bench.examples.targets))
    assert result.loss == pytest.approx(float(losses.mean().detach()), rel=1e-5)


def batches(*changes: tuple[str, str], examples: int = 20) -> list[np.ndarray]:
    return list(_batches(make_study(*changes), examples, "north", 1))


def test_steps_are_as_many_as_asked_over_shuffled_passes() -> None:
    found = batches()
    assert [len(batch) for batch in found] == [8, 8, 4, 8, 8]
    assert sorted(np.concatenate(found[:3]).tolist()) == list(range(20))
    assert not np.array_equal(found[0], found[3])


def test_epochs_pass_over_everything() -> None:
    found = batches(("local_steps = 5", "local_epochs = 3"))
    assert [len(batch) for batch in found] == [8, 8, 4] * 3


def test_a_batch_larger_than_the_data_is_the_data() -> None:
    found = batches(("batch_size = 8", "batch_size = 500"), examples=3)
    assert [len(batch) for batch in found] == [3] * 5


def test_batch_normalisation_never_sees_one_example() -> None:
    change = ('kind = "logistic"', 'kind = "mlp"\nnorm = "batch"')
    assert [len(b) for b in batches(change, examples=17)] == [8, 8, 8, 8, 8]
    bench = make_bench(change, count=17)
    assert np.isfinite(train(bench).update).all()


def test_batch_normalisation_sends_its_running_means() -> None:
    bench = make_bench(('kind = "logistic"', 'kind = "mlp"\nhidden = [4]\nnorm = "batch"'))
    layout = bench.flat.layout
    assert layout.size == layout.trainable + 8
    assert np.abs(train(bench).update[layout.trainable :]).max() > 0


def test_batches_differ_by_round_and_site() -> None:
    one, other_round, other_site = (
        np.concatenate(list(_batches(make_study(), 20, site, number)))
        for site, number in (("north", 1), ("north", 2), ("south", 1))
    )
    assert not np.array_equal(one, other_round)
    assert not np.array_equal(one, other_site)


def test_the_result_depends_on_no_state_of_the_process() -> None:
    bench = make_bench(('kind = "logistic"', 'kind = "mlp"\ndropout = 0.5'))
    torch.manual_seed(1)
    first = train(bench).update
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second = train(bench).update
    assert np.array_equal(first, second)
    assert torch.equal(before, torch.get_rng_state())


def test_kept_moments_change_the_next_round_and_reset_ones_do_not() -> None:
    momentum = ("learning_rate = 0.1", 'learning_rate = 0.1\nmomentum = 0.9\noptimizer_state = "keep"')
    keeping = make_bench(momentum)
    first = train(keeping)
    assert set(first.state) == {"optimizer/momentum"}
    with_state = train(keeping, 2, first.state).update
    assert not np.array_equal(with_state, train(keeping, 2).update)
    resetting = make_bench(("learning_rate = 0.1", "learning_rate = 0.1\nmomentum = 0.9"))
    assert train(resetting).state == {}


def test_a_loss_that_is_not_finite_is_said_with_advice() -> None:
    bench = make_bench(("learning_rate = 0.1", "learning_rate = 1e30"), MLP)
    with pytest.raises(TrainingDiverged, match=r"not finite in round 1; lower training\.learning_rate"):
        train(bench)


def test_a_model_that_is_not_finite_is_refused() -> None:
    bench = make_bench()
    bench.model[0] = np.nan
    with pytest.raises(TrainingDiverged):
        train(bench)


class _Rule:
    """Holds the weights where they are, and reports what it saw."""

    def __init__(self, start: LocalStart) -> None:
        self.start, self.calls = start, 0

    def correct(self, gradient: torch.Tensor, weights: torch.Tensor) -> None:
        self.calls += 1
        gradient.zero_()

    def finish(self, weights: torch.Tensor, steps: int) -> LocalEnd:
        seen = float(self.start.state["count"][0]) if self.start.state else 0.0
        extra = np.array([self.calls, steps, self.start.shared["c"][0]], dtype=np.float32)
        return LocalEnd({"count": np.array([seen + 1])}, extra)


def test_a_strategys_site_half_corrects_and_keeps_and_adds() -> None:
    bench = make_bench()
    strategy = Strategy(
        "toy", bench.strategy.server_step, start_local=_Rule, broadcast=("c",), extra=lambda size: 3
    )
    state: Arrays = {}
    for number in (1, 2, 3):
        result = train_locally(
            bench.study,
            bench.task,
            strategy,
            bench.flat,
            "north",
            number,
            bench.examples,
            bench.model,
            {"c": np.array([7.0])},
            state,
        )
        state = result.state
        assert not result.update[:-3].any()
        assert result.update[-3:].tolist() == [5.0, 5.0, 7.0]
        assert state["strategy/count"][0] == number


def test_devices() -> None:
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_demanded_and_not_there_is_refused() -> None:
    with pytest.raises(VestryError, match=r"training\.device: 'cuda'"):
        choose_device("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_comes_to_the_same_result() -> None:
    from vestry_strategies.parameters import FlatModel

    bench = make_bench(MLP)
    on_cpu = train(bench).update
    flat = FlatModel(bench.task.build_model(bench.study), torch.device("cuda"))
    arguments = (bench.study, bench.task, bench.strategy, flat, "north", 1, bench.examples, bench.model)
    on_gpu = train_locally(*arguments, {}, {}).update
    np.testing.assert_allclose(on_gpu, on_cpu, rtol=1e-3, atol=1e-5)
