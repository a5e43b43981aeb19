"""Private local steps: the noise comes first, one person moves an update by a public bound."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import vestry_client.train as module
from tests.client.clinic import private_study, visits
from vestry_client.site import Bench, make_bench
from vestry_client.train import LocalResult, PersonRecords, train_locally
from vestry_client.units import read_owners
from vestry_privacy.dpsgd import PrivateSteps, UnitError
from vestry_strategies.parameters import FlatModel
from vestry_strategies.private_plan import study_plan
from vestry_strategies.recipe import PrivacySpec
from vestry_strategies.rows import Table
from vestry_strategies.sums import Arrays
from vestry_strategies.task import Examples

SIMULATED = ("noise_multiplier = 3.0", 'noise_multiplier = 3.0\nnoise = "simulation"')
EVERYBODY = ("sampling_probability = 0.2", 'sampling = "full_batch"')
ONE_STEP = ("local_steps = 2", "local_steps = 1")
PROX = ("[aggregation]", '[strategy]\nname = "fedprox"\nparameters = { mu = 0.5 }\n[aggregation]')


def bench_of(*changes: tuple[str, str]) -> Bench:
    return make_bench(private_study(SIMULATED, *changes).to_json(), ())


def examples_of(bench: Bench, table: Table, preprocessing: Arrays | None = None) -> tuple[Examples, Any]:
    features = bench.task.features
    assert features.fit_released is not None
    design = features.design(bench.study, table)
    with np.errstate(all="ignore"):
        examples = features.encode(
            bench.study, preprocessing or features.fit_released(bench.study, {}), design
        )
    assert isinstance(bench.study.privacy, PrivacySpec)
    return examples, read_owners(bench.study.privacy, bench.task, table, design)[0]


def train(
    bench: Bench,
    table: Table,
    *,
    model: Any = None,
    preprocessing: Arrays | None = None,
    seed: int = 1,
    persons: int = 50,
) -> LocalResult:
    torch.set_num_threads(1)  # tiny matrices on a busy machine
    examples, owners = examples_of(bench, table, preprocessing)
    size = bench.flat.layout.size
    return train_locally(
        bench.study,
        bench.task,
        bench.strategy,
        bench.flat,
        "north",
        1,
        examples,
        np.zeros(size, dtype=np.float32) if model is None else model,
        {},
        {},
        PersonRecords(
            study_plan(bench.study, persons).mechanism(seed), owners, probed=preprocessing is not None
        ),
    )


@pytest.fixture
def gradients(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """Every noised gradient, as it came out of the mechanism."""
    seen: list[torch.Tensor] = []
    real = PrivateSteps.gradient

    def spy(self: PrivateSteps) -> torch.Tensor:
        found = real(self)
        seen.append(found.clone())
        return found

    monkeypatch.setattr(PrivateSteps, "gradient", spy)
    return seen


@pytest.mark.parametrize("mu", [0.0, 0.5])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_corrections_come_after_the_noise(mu: float, decay: float, gradients: list[torch.Tensor]) -> None:
    changes = [("learning_rate = 0.1", f"learning_rate = 0.1\nweight_decay = {decay}")]
    bench = bench_of(*changes, *([PROX] if mu else []))
    model = np.linspace(-1, 1, bench.flat.layout.size, dtype=np.float32)
    update = train(bench, visits(), model=model).update
    weights = model.astype(np.float64)
    for noised in gradients:
        step = noised.double().numpy() + mu * (weights - model) + decay * weights
        weights = weights - 0.1 * step
    assert len(gradients) == 2
    np.testing.assert_allclose(update, weights - model, rtol=1e-4, atol=1e-6)


def test_no_loss_is_given_and_the_number_of_steps_is_the_studys() -> None:
    for persons in (1, 40):
        result = train(bench_of(), visits(persons, 2))
        assert (result.loss, result.steps) == (None, 2)


def test_no_rows_give_noise(gradients: list[torch.Tensor]) -> None:
    empty = visits().take(np.zeros(0, dtype=np.int64))
    result = train(bench_of(), empty)
    assert np.abs(result.update).min() > 0
    assert all(float(noised.std()) > 0 for noised in gradients)


def test_more_persons_than_declared_are_no_silent_sample() -> None:
    with pytest.raises(UnitError, match="more persons than the public number 39"):
        train(bench_of(), visits(40, 1), persons=39)


@settings(max_examples=30, deadline=None)
@given(
    gone=st.integers(0, 11),
    scale=st.sampled_from([1.0, 1e-12, 1e-300, -1e-6, 1e30]),
    mean=st.sampled_from([0.0, 50.0, 1e30]),
    weight=st.floats(-1e4, 1e4, width=32),
    narrow=st.integers(0, 5),
)
def test_no_person_moves_an_update_by_more_than_the_bound(
    gone: int, scale: float, mean: float, weight: float, narrow: int
) -> None:
    """Whatever model and preprocessing a coordinator sends, such as one that makes one person enormous."""
    bench = bench_of(EVERYBODY, ONE_STEP)
    assert bench.task.features.fit_released is not None
    arrays = {name: array.copy() for name, array in bench.task.features.fit_released(bench.study, {}).items()}
    arrays["scale"][narrow], arrays["mean"][narrow] = scale, mean
    model = np.full(bench.flat.layout.size, weight, dtype=np.float32)
    table = visits(12, 3)
    rest = table.take(np.flatnonzero(table.column("patient") != f"P{gone:03d}"))
    with np.errstate(all="ignore"):
        one, other = (
            train(bench, rows, model=model, preprocessing=arrays).update.astype(np.float64)
            for rows in (table, rest)
        )
    plan = study_plan(bench.study, 50)
    bound = 0.1 * plan.clip / plan.expected_batch
    rounding = 4 * np.spacing(np.abs(model).max()) * len(model) ** 0.5
    assert np.linalg.norm(one - other) <= bound * (1 + 1e-6) + rounding


class Counting(nn.Module):
    """Keeps an average of what it saw, as layers with running statistics do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 1)
        self.register_buffer("seen", torch.zeros(6))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.training and isinstance(self.seen, torch.Tensor):
            self.seen += inputs.sum(dim=0)
        return self.layer(inputs)  # type: ignore[no-any-return]


def test_what_a_layer_remembers_does_not_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe of the mechanism refuses such a layer; if one got past it, its memory would stay here."""
    bench = bench_of()
    flat = FlatModel(Counting())
    bench = replace(bench, flat=flat)
    real: Callable[..., Any] = PrivateSteps.__init__
    monkeypatch.setattr(PrivateSteps, "__init__", lambda *a, **named: real(*a, **{**named, "checked": True}))
    update = train(bench, visits()).update
    assert flat.layout.size == flat.layout.trainable + 6
    assert flat.module.get_buffer("seen").abs().max() > 0
    assert not update[flat.layout.trainable :].any()
    assert update[: flat.layout.trainable].all()


def test_the_seed_of_simulated_noise_is_all_that_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = bench_of()
    one, again, other = (train(bench, visits(), seed=seed).update for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("physical", [1, 7, 1000])
def test_the_size_of_a_forward_pass_decides_nothing(physical: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = bench_of()
    expected = train(bench, visits(40, 3)).update
    monkeypatch.setattr(module, "_PHYSICAL_BATCH", physical)
    np.testing.assert_allclose(train(bench, visits(40, 3)).update, expected, rtol=1e-4, atol=1e-6)
