"""Evaluation at a site: sums over its rows, the same in pieces, none for none."""

import numpy as np
import pytest
import torch

import vestry_client.evaluate as module
from tests.client.bench import make_bench
from vestry_client.evaluate import evaluate_locally
from vestry_strategies.sums import Sums, add_sums
from vestry_strategies.task import Examples


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
