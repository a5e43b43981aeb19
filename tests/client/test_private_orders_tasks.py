"""Private studies of every built-in kind of task, model and strategy, end to end at a site."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import vestry_client.site
from tests.client.clinic import (
    Clinic,
    answered,
    make_clinic,
    make_policy,
    make_rules,
    private_study,
    refused,
    visits,
)
from vestry_strategies.rows import Table
from vestry_strategies.study import StudySpec, parse_study
from vestry_strategies.tasks.image import ImageArrays

IMAGES = """
version = 1
[study]
name = "images"
purpose = "a test"
initiator = "tests"
[task]
kind = "image"
height = 8
width = 8
[task.target]
name = "label"
type = "multiclass"
classes = ["0", "1", "2"]
[model]
kind = "cnn"
channels = [4]
hidden = 4
norm = "group"
[training]
rounds = 2
local_steps = 2
learning_rate = 0.1
[aggregation]
secure = false
[evaluation.holdout]
fraction = 0.3
[privacy]
unit = "patient"
unit_column = "patient"
noise_multiplier = 3.0
delta = 1e-5
sampling = "full_batch"
metrics = ["accuracy"]
"""


def whole_round(clinic: Clinic, *parts: str) -> np.ndarray:
    """Round 0, a training and an evaluation; returns the update."""
    statistics = answered(clinic.ask(clinic.statistics()))
    assert clinic.bench.task.features.fit_released is not None
    fitted = clinic.bench.task.features.fit_released(clinic.study, statistics.sums)
    assert all(np.isfinite(array).all() for array in fitted.values())
    reply = answered(clinic.ask(clinic.train(1, preprocessing=fitted)))
    model = (clinic.model + reply.update).astype(np.float32)
    evaluation = answered(clinic.ask(clinic.evaluate(1, model=model, preprocessing=fitted)))
    assert set(evaluation.sums) == set(parts)
    assert np.isfinite(reply.update).all()
    assert np.abs(reply.update).max() > 0
    assert clinic.kinds().count("commit") == 3
    update: np.ndarray = reply.update
    return update


def test_regression(tmp_path: Path) -> None:
    target = 'name = "sick"\ntype = "binary"\nclasses = ["no", "yes"]'
    study = private_study(
        (target, 'name = "stay"\ntype = "regression"\nrange = [0, 30]'),
        ('kind = "logistic"', 'kind = "linear"'),
        ('metrics = ["accuracy", "auc"]\n', ""),
        ('metrics = ["accuracy"]', 'metrics = ["r2"]'),
    )
    table = visits()
    days = [f"{n % 30}" for n in range(len(table))]
    with make_clinic(tmp_path, study=study, table=Table({**table.columns, "stay": np.array(days)})) as clinic:
        whole_round(clinic, "moments")


def test_more_than_two_classes_with_public_class_weights(tmp_path: Path) -> None:
    weights = "class_weights = [1.0, 5.0, 0.5]"
    study = private_study(
        ('"no", "yes"', f'"no", "yes", "maybe"]\n{weights}\n#'),
        ('type = "binary"', 'type = "multiclass"'),
        ('metrics = ["accuracy", "auc"]\n', ""),
    )
    with make_clinic(tmp_path, study=study) as clinic:
        whole_round(clinic, "confusion")


def images(count: int = 60) -> ImageArrays:
    generator = np.random.default_rng(3)
    pixels = generator.integers(0, 256, (count, 8, 8)).astype(np.uint8)
    owners = np.arange(count) // 2
    return ImageArrays(
        {"images": pixels, "label": np.arange(count) % 3, "patient": owners.astype(np.float64)}
    )


def test_images_of_patients(tmp_path: Path) -> None:
    with make_clinic(tmp_path, study=parse_study(IMAGES), table=images()) as clinic:
        whole_round(clinic, "confusion")
        assert clinic.site.data(clinic.bench).persons == 30


@pytest.mark.parametrize("good", [0, 1, 59])
def test_images_outside_the_contract_are_left_out(good: int, tmp_path: Path) -> None:
    found = images()
    pixels = found.arrays["images"].astype(np.float64)
    pixels[good:, 0, 0] = -1.0
    rows = ImageArrays({**found.arrays, "images": pixels})
    with make_clinic(tmp_path, study=parse_study(IMAGES), table=rows) as clinic:
        whole_round(clinic, "confusion")
        data = clinic.site.data(clinic.bench)
        assert len(data.train) + len(data.holdout) == good


@pytest.mark.parametrize(
    "model",
    ['kind = "mlp"\nhidden = [5]\ndropout = 0.5', 'kind = "mlp"\nhidden = [5]\nnorm = "layer"'],
    ids=["dropout", "layer norm"],
)
def test_models_with_dropout_and_norms_of_single_records(model: str, tmp_path: Path) -> None:
    with make_clinic(tmp_path, ('kind = "logistic"', model)) as clinic:
        whole_round(clinic, "confusion")


@pytest.mark.parametrize(
    "changes",
    [
        [("[aggregation]", '[strategy]\nname = "fedprox"\nparameters = { mu = 0.5 }\n[aggregation]')],
        [("[aggregation]", '[strategy]\nname = "fedadam"\n[aggregation]')],
        [("learning_rate = 0.1", 'learning_rate = 0.1\noptimizer = "adam"\noptimizer_state = "keep"')],
        [("learning_rate = 0.1", 'learning_rate = 0.1\nmomentum = 0.9\noptimizer_state = "keep"')],
    ],
    ids=["fedprox", "fedadam", "adam", "momentum"],
)
def test_strategies_and_optimizers(changes: list[tuple[str, str]], tmp_path: Path) -> None:
    with make_clinic(tmp_path, *changes) as clinic:
        whole_round(clinic, "confusion")
        answered(clinic.ask(clinic.train(2)))


def with_model(patch: pytest.MonkeyPatch, build: Any, **changes: Any) -> None:
    """A task of a third party: the built-in features with a model or losses of its own."""
    module: Any = vestry_client.site
    real = module.find_task
    made = {"build_model": lambda study: build(), **changes}
    patch.setattr(module, "find_task", lambda study, allowed: replace(real(study, allowed), **made))
    module.make_bench.cache_clear()


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Any:
    module: Any = vestry_client.site
    yield lambda build, **changes: with_model(monkeypatch, build, **changes)
    module.make_bench.cache_clear()


def test_batch_normalisation_is_refused_before_anything_is_held(plugin: Any, tmp_path: Path) -> None:
    plugin(lambda: nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)))
    with make_clinic(tmp_path) as clinic:
        said = refused(clinic.ask(clinic.statistics()), "study")
        assert "'1' (BatchNorm1d)" in said
        assert "GroupNorm or LayerNorm" in said
        assert (clinic.kinds(), clinic.loads) == ([], [])


class Meddling(nn.Module):
    """Subtracts the mean of the batch without calling itself a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.layer(inputs - inputs.mean(dim=0))  # type: ignore[no-any-return]


def coupled(study: StudySpec, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    share = targets.float().mean()
    return (outputs[:, 0] - targets) ** 2 * (1 + share)


@pytest.mark.parametrize("case", ["model", "loss"])
def test_what_couples_records_is_refused_before_it_is_paid(case: str, plugin: Any, tmp_path: Path) -> None:
    if case == "model":
        plugin(Meddling)
    else:
        plugin(lambda: nn.Linear(6, 1), losses=coupled)
    with make_clinic(tmp_path) as clinic:
        said = refused(clinic.ask(clinic.train(1)), "study")
        assert "record" in said
        assert clinic.charged() == 0


def test_a_plug_in_without_bounds_lets_nothing_of_round_0_leave(plugin: Any, tmp_path: Path) -> None:
    from vestry_strategies.tasks.tabular import TABULAR

    features = replace(TABULAR.features, bounded_statistics=None)
    plugin(lambda: nn.Linear(6, 1), features=features, bounded_score=None)
    with make_clinic(tmp_path, policy=make_policy(make_rules())) as clinic:
        assert "no bounded form of its statistics" in refused(clinic.ask(clinic.statistics()), "internal")
        assert "no bounded form of its metrics" in refused(clinic.ask(clinic.evaluate(1)), "internal")
        assert (clinic.charged(), clinic.charged("holdout")) == (0, 0)
