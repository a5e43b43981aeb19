"""Evaluation at a site: sums over its rows, the same in pieces, none for none."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import vestry_client.evaluate as module
from tests.client.bench import make_bench
from tests.client.clinic import private_study
from vestry_client.evaluate import bounds_of, evaluate_bounded, evaluate_locally, predict
from vestry_client.site import make_bench as make_private_bench
from vestry_privacy.errors import VestryError
from vestry_strategies.sums import Sums, add_sums
from vestry_strategies.task import Examples

STAY = 'name = "stay"\ntype = "regression"\nrange = [0, 30]'


def sums(examples: Examples | None = None, *changes: tuple[str, str]) -> Sums:
    bench = make_bench(*changes)
    return evaluate_locally(
        bench.study,
        bench.task,
        bench.flat,
        bench.examples if examples is None else examples,
        bench.model,
        bench.preprocessing,
    )


def test_counts_are_those_of_an_independent_prediction() -> None:
    bench = make_bench()
    weights, bias = bench.model[:-1], bench.model[-1]
    predicted = bench.examples.inputs @ weights + bias > 0
    confusion = sums()["confusion"]
    assert confusion[1, 1] == (predicted & (bench.examples.targets == 1)).sum()
    assert confusion[0, 1] == (predicted & (bench.examples.targets == 0)).sum()
    assert confusion.sum() == sums()["examples"][0] == 60


def test_the_loss_is_a_sum_over_rows() -> None:
    bench = make_bench()
    logits = bench.examples.inputs @ bench.model[:-1] + bench.model[-1]
    labels = bench.examples.targets
    expected = (np.logaddexp(0, logits) - labels * logits).sum()
    assert sums()["loss"][0] == pytest.approx(expected, rel=1e-5)


def test_pieces_add_up_to_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = make_bench()
    halves = [
        Examples(bench.examples.inputs[part], bench.examples.targets[part])
        for part in (slice(0, 23), slice(23, None))
    ]
    whole, added = sums(), add_sums(sums(half) for half in halves)
    monkeypatch.setattr(module, "_ROWS", 7)
    blocks = sums()
    for name in whole:
        np.testing.assert_allclose(added[name], whole[name], rtol=1e-6)
        np.testing.assert_allclose(blocks[name], whole[name], rtol=1e-6)


def test_no_rows_give_zero_sums() -> None:
    bench = make_bench()
    none = Examples(bench.examples.inputs[:0], bench.examples.targets[:0])
    found = sums(none)
    assert all(not array.any() for array in found.values())
    assert set(bench.task.summarise(bench.study, found).values()) == {None}


def test_dropout_is_off() -> None:
    change = ('kind = "logistic"', 'kind = "mlp"\ndropout = 0.9')
    assert sums(None, change)["loss"] == sums(None, change)["loss"]


def test_nothing_is_learned() -> None:
    bench = make_bench(('kind = "logistic"', 'kind = "mlp"\nhidden = [4]\nnorm = "batch"'))
    evaluate_locally(bench.study, bench.task, bench.flat, bench.examples, bench.model, bench.preprocessing)
    assert np.array_equal(bench.flat.read(), bench.model)
    assert not torch.is_grad_enabled() or not bench.flat.gradient.any()


@pytest.mark.parametrize("names", [("accuracy",), ("auc",), ("loss", "brier"), ("accuracy", "auc", "loss")])
@pytest.mark.parametrize("weight", [0.0, 1.0, 1e30, np.nan])
def test_what_a_record_adds_to_a_metric_is_bounded_whatever_the_model(
    names: tuple[str, ...], weight: float
) -> None:
    bench = make_bench()
    model = np.full_like(bench.model, weight)
    found = evaluate_bounded(
        bench.study, bench.task, bench.flat, bench.examples, model, bench.preprocessing, names
    )
    assert found.values.shape == (60, sum(int(np.prod(shape)) for shape in found.shapes.values()))
    assert np.linalg.norm(found.values, axis=1).max() <= found.bound * (1 + 1e-12)


@pytest.mark.parametrize("scale", [1e308, 1e-308, np.inf, np.nan])
def test_an_extreme_scale_of_the_target_is_no_error(scale: float) -> None:
    study = private_study(
        ('name = "sick"\ntype = "binary"\nclasses = ["no", "yes"]', STAY),
        ('kind = "logistic"', 'kind = "linear"'),
        ('metrics = ["accuracy", "auc"]\n', ""),
        ('metrics = ["accuracy"]', 'metrics = ["r2"]'),
    )
    bench = make_private_bench(study.to_json(), ())
    examples = Examples(np.ones((5, 6), dtype=np.float32), np.arange(5, dtype=np.float32))
    arrays = {"target_mean": np.array([1e308]), "target_scale": np.array([scale])}
    model = np.full(7, 1e30, dtype=np.float32)
    found = evaluate_bounded(study, bench.task, bench.flat, examples, model, arrays, ("r2",))
    finite = found.values[np.isfinite(found.values).all(axis=1)]  # others count as zero
    assert (np.linalg.norm(finite, axis=1) <= found.bound * (1 + 1e-12)).all()


def test_bounded_parts_add_up_to_the_exact_sums() -> None:
    bench = make_bench()
    arguments = (bench.study, bench.task, bench.flat, bench.examples, bench.model, bench.preprocessing)
    bounded = evaluate_bounded(*arguments, ("accuracy",))
    added = bounded.read(bounded.values.sum(axis=0))
    np.testing.assert_allclose(added["confusion"], evaluate_locally(*arguments)["confusion"])


def test_a_task_without_bounds_gives_no_metric() -> None:
    bench = make_bench()
    task = replace(bench.task, bounded_score=None)
    for asked in (
        lambda: bounds_of(task),
        lambda: evaluate_bounded(
            bench.study, task, bench.flat, bench.examples, bench.model, bench.preprocessing, ("auc",)
        ),
    ):
        with pytest.raises(VestryError, match=r"privacy\.metrics: the task 'tabular' has no bounded form"):
            asked()


def test_a_prediction_is_of_the_network_as_it_is_loaded() -> None:
    bench = make_bench()
    bench.flat.load(bench.model)
    outputs, losses = predict(bench.study, bench.task, bench.flat, bench.examples)
    assert outputs.shape == (60, 1)
    assert losses.sum() == pytest.approx(sums()["loss"][0])
