"""Training without a run's folder gives what `vestry simulate` gives."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.federation import (
    accuracy,
    deal,
    dealt_parts,
    dealt_sites,
    train,
    with_strategy,
    with_training,
)
from vestry_simulations.manifest import Manifest, file_hash
from vestry_simulations.simulate import Laboratory, simulate
from vestry_strategies.rows import Table, read_table
from vestry_strategies.study import StudySpec, parse_study

STUDY = """
seed = 3
[study]
name = "toy"
purpose = "Test."
initiator = "Tests"
[task]
kind = "tabular"
target = { name = "y", type = "binary", classes = ["no", "yes"] }
features = [{ name = "x", type = "number" }]
[model]
kind = "logistic"
[training]
rounds = 3
local_epochs = 2
batch_size = 8
learning_rate = 0.5
[aggregation]
secure = false
"""


@pytest.fixture(scope="module")
def study() -> StudySpec:
    return parse_study(STUDY)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    generator = np.random.default_rng(0)
    x = generator.normal(size=120)
    y = np.where(x + 0.3 * generator.normal(size=120) > 0, "yes", "no")
    path = tmp_path_factory.mktemp("toy") / "toy.csv"
    lines = [f"{value:.4f},{label}" for value, label in zip(x, y, strict=True)]
    path.write_text("\n".join(["x,y", *lines]) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def rows(data: Path) -> Table:
    return read_table(data, ",")


def test_same_metrics_as_a_simulation(study: StudySpec, data: Path, rows: Table, tmp_path: Path) -> None:
    manifest = Manifest(
        run_id="toy",
        study=study,
        data=data,
        data_hash=file_hash(data),
        sites=3,
        partition="dirichlet:0.5",
        baselines=True,
        workers=0,
    )
    expected = simulate(manifest, Laboratory(tmp_path))
    found = train(study, dealt_sites(study, rows, 3, "dirichlet:0.5"), baselines=True)
    assert found.federated == expected.federated
    assert found.baselines == expected.baselines
    assert found.by_round == tuple(record.metrics for record in expected.history)


def test_outcomes_are_found_by_label(study: StudySpec, rows: Table) -> None:
    trained = train(study, dealt_sites(study, rows, 2, "iid"), baselines=True)
    assert trained.labels == ("federated", "pooled", "local-only")
    assert trained.outcome("federated") is trained.federated
    assert trained.outcome("pooled") is trained.baselines["pooled"]
    assert len(trained.by_round) == study.training.rounds
    assert accuracy(trained.federated.pooled_test) > 0.8


def test_first_model_is_used(study: StudySpec, rows: Table) -> None:
    sites = dealt_sites(study, rows, 2, "iid")
    still = with_training(study, learning_rate=1e-12)
    far = np.array([50.0, 0.0], dtype=np.float32)
    right = accuracy(train(still, sites, first_model=far).federated.pooled_test)
    wrong = accuracy(train(still, sites, first_model=-far).federated.pooled_test)
    assert right == pytest.approx(1 - wrong)
    assert right > 0.8


def test_every_row_is_dealt_once_and_anew_for_a_seed(study: StudySpec, rows: Table) -> None:
    parts = dealt_parts(study, rows, 4, "iid")
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(len(rows)))
    other = dealt_parts(study.with_changes(seed=4), rows, 4, "iid")
    assert any(parts[name].tolist() != other[name].tolist() for name in parts)


def test_dealt_sites_have_their_rows(rows: Table) -> None:
    (site,) = deal(rows, {"one": np.array([5, 7])})
    assert site.name == "one"
    assert isinstance(site.rows, Table)
    assert site.rows.column("x").tolist() == rows.column("x")[[5, 7]].tolist()


def test_changed_copies_leave_the_study_as_it_is(study: StudySpec) -> None:
    changed = with_strategy(with_training(study, learning_rate=0.25), "fedprox", {"mu": 0.5})
    assert changed.training.learning_rate == 0.25
    assert changed.strategy.name == "fedprox"
    assert changed.strategy.parameters == {"mu": 0.5}
    assert study.training.learning_rate == 0.5
    assert study.strategy.name == "fedavg"


def test_accuracy_that_is_not_defined_is_refused() -> None:
    with pytest.raises(ValueError, match="not defined"):
        accuracy({"accuracy": None})
