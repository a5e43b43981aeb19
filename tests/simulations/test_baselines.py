"""Baselines: the pooled model is that of all rows, a local one sees its own rows only."""

import numpy as np
import pytest
import torch

from tests.client.bench import OPEN, make_study, make_table
from vestry_client.train import _batches
from vestry_server.rounds import open_run
from vestry_simulations.baselines import local_baseline, pooled_baseline, run_baselines, site_data
from vestry_simulations.engine import LocalExchange
from vestry_simulations.worker import VirtualSite
from vestry_strategies.parameters import Vector
from vestry_strategies.study import StudySpec
from vestry_strategies.tasks.registry import find_task

STUDY = make_study()
TASK = find_task(STUDY)


def sites(changed: str = "") -> list[VirtualSite]:
    tables = {"a": make_table(40, 1), "b": make_table(30, 2), "c": make_table(20, 3)}
    if changed:
        tables[changed] = make_table(40, 9)
    return [VirtualSite(name, table, OPEN) for name, table in tables.items()]


def first_model(study: StudySpec = STUDY) -> Vector:
    with LocalExchange(sites(), 0) as exchange:
        return open_run(study, exchange, lambda state: None, lambda event: None)[1]


def test_the_pooled_model_is_that_of_a_plain_loop_on_all_rows() -> None:
    data = site_data(STUDY, sites())
    inputs = np.concatenate([data[name].train.inputs for name in "abc"])
    labels = np.concatenate([data[name].train.targets for name in "abc"])
    mean = np.nanmean(inputs, axis=0)
    filled = np.where(np.isnan(inputs), mean, inputs)
    scale = np.nanstd(inputs, axis=0, ddof=1)
    scale[scale < 1e-9] = 1.0
    x, y = torch.tensor((filled - mean) / scale).float(), torch.tensor(labels).float()
    weights = torch.tensor(first_model()).requires_grad_()
    longer = make_study(("local_steps = 5", "local_steps = 15"))
    for number in range(1, 5):
        for batch in _batches(longer, len(y), "pooled", number):
            logits = x[batch] @ weights[:-1] + weights[-1]
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, y[batch])
            (gradient,) = torch.autograd.grad(loss, weights)
            weights = (weights - 0.1 * gradient).detach().requires_grad_()
    held = np.concatenate([data[name].holdout.inputs for name in "abc"])
    z = torch.tensor((np.where(np.isnan(held), mean, held) - mean) / scale).float()
    predicted = (z @ weights[:-1] + weights[-1] > 0).numpy()
    truth = np.concatenate([data[name].holdout.targets for name in "abc"]) == 1
    found = pooled_baseline(STUDY, data, first_model())
    confusion = sum(found[name]["confusion"] for name in "abc")
    assert np.array_equal(
        confusion,
        [
            [(~truth & ~predicted).sum(), (~truth & predicted).sum()],
            [(truth & ~predicted).sum(), (truth & predicted).sum()],
        ],
    )


def test_a_local_model_sees_its_own_rows_only() -> None:
    before = local_baseline(STUDY, site_data(STUDY, sites()), first_model())
    after = local_baseline(STUDY, site_data(STUDY, sites(changed="b")), first_model())
    assert before["a"]["loss"] == after["a"]["loss"]
    assert before["c"]["loss"] == after["c"]["loss"]
    assert before["b"]["loss"] != after["b"]["loss"]


def test_the_pooled_model_sees_everybodys() -> None:
    before = pooled_baseline(STUDY, site_data(STUDY, sites()), first_model())
    after = pooled_baseline(STUDY, site_data(STUDY, sites(changed="b")), first_model())
    assert before["a"]["loss"] != after["a"]["loss"]


@pytest.mark.parametrize("workers", [1, 2])
def test_worker_processes_change_nothing(workers: int) -> None:
    data = site_data(STUDY, sites())
    here = run_baselines(STUDY, data, first_model())
    assert run_baselines(STUDY, data, first_model(), workers=workers) == here
    assert set(here) == {"pooled", "local-only"}
    assert set(here["pooled"].per_site) == {"a", "b", "c"}


def test_rows_are_split_as_the_site_splits_them() -> None:
    data = site_data(STUDY, sites())
    sizes = {name: len(part.holdout) for name, part in data.items()}
    assert (sizes["a"], sizes["c"]) == (10, 5)
    assert sizes["b"] in (7, 8)
