"""Four hospitals, heart disease, under differential privacy: what an epsilon per patient costs.

Measures AUC and accuracy on held-out patients at epsilon 8, 3 and 1 per patient (delta 1e-5, each hospital's
patients with the whole epsilon, statistics none), beside the same patients without privacy; seeds 1 to 5. A
seed draws the held-out quarter, the same for every epsilon, and the starting weights. Each private run goes
through the sites' policies and ledgers, and the epsilon in the table is what the ledgers say.

Settings: heart_private.toml beside the demo's study. Clip, learning rate and rounds were chosen once for all
three epsilons, among 250 settings, on inner splits of the training rows of other draws of these patients: a
patient held out here may have been in one of them. Choosing anew inside each seed gave no lower figures, and
the plateau is wide. The learning rate here is 4/3 of the study's, since a hospital that holds out by a column
divides by all its persons. Without privacy: full batches, 50 steps of learning rate 1, chosen alike.

Targets: the AUC over all held-out rows at most .01 / .015 / .03 below the run without privacy.

Data: UCI Heart Disease (simulations/vestry_simulations/datasets/README.md).

Run from the root of the repository:  python -m benchmarks.heart_private [--json] [--seeds N]
"""

import argparse
import csv
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import numpy as np

from benchmarks.figures import Cell, Report, Sheet, at_least, at_most, main, spread
from vestry_simulations.datasets import heart_data, heart_private_study
from vestry_simulations.manifest import Manifest, file_hash
from vestry_simulations.results import SimulationResult, epsilon_everywhere
from vestry_simulations.simulate import Laboratory, simulate
from vestry_strategies.study import StudySpec, load_study, study_from_json

__all__ = ["EPSILONS", "at", "measure", "run", "write_split"]

EPSILONS: dict[float, float] = {8.0: 0.01, 3.0: 0.015, 1.0: 0.03}
"""Epsilon -> most AUC that it may cost."""

SEEDS, SHARE = 5, 0.25


def write_split(folder: Path, seed: int) -> Path:
    """The patients with a column ``split``; a quarter of them is ``test``."""
    with heart_data().open(encoding="utf-8", newline="") as file:
        records = list(csv.DictReader(file))
    held_out = np.random.default_rng(seed).random(len(records)) < SHARE
    path = folder / f"heart-{seed}.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*records[0], "split"], lineterminator="\n")
        writer.writeheader()
        for record, test in zip(records, held_out, strict=True):
            writer.writerow({**record, "split": "test" if test else "train"})
    return path


def at(seed: int, epsilon: float | None) -> StudySpec:
    """The study of a seed at an epsilon; None without privacy, with settings of its own."""
    plain = load_study(heart_private_study()).canonical()
    plain["seed"] = seed
    plain["evaluation"]["holdout"] = {"column": "split", "test_value": "test"}
    if epsilon is None:
        del plain["privacy"]
        plain["training"] |= {"rounds": 50, "batch_size": 1 << 20, "learning_rate": 1.0}
    else:
        plain["privacy"]["epsilon"] = epsilon
        plain["training"]["learning_rate"] *= 4 / 3
    return study_from_json(json.dumps(plain))


def run(seed: int, epsilon: float | None, folder: Path, workers: int | None = None) -> SimulationResult:
    """One run, with ledgers at the sites."""
    data = write_split(folder, seed)
    manifest = Manifest(
        run_id=f"heart-{seed}-{epsilon or 'none'}",
        study=at(seed, epsilon),
        data=data,
        data_hash=file_hash(data),
        by="site",
        workers=workers,
    )
    return simulate(manifest, Laboratory(folder))


def measure(options: argparse.Namespace) -> Report:
    """The table, and what each epsilon costs."""
    seeds = range(1, options.seeds + 1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = {epsilon: [run(seed, epsilon, folder) for seed in seeds] for epsilon in (None, *EPSILONS)}
    without = _mean(found[None], "auc")
    figures = []
    for epsilon, cost in EPSILONS.items():
        name = f"AUC over all held-out rows at epsilon {epsilon:g}"
        figures.append(at_least(name, _mean(found[epsilon], "auc"), round(without - cost, 4)))
        spent = max(result.epsilon or 0.0 for result in found[epsilon])
        figures.append(at_most(f"epsilon that the ledgers say at {epsilon:g}", spent, epsilon))
    rows = tuple(_row(epsilon, results) for epsilon, results in found.items())
    columns = (
        "epsilon",
        "ledgers",
        "at all sites",
        "AUC, all rows",
        "accuracy, all rows",
        "accuracy, mean of sites",
    )
    sheet = Sheet(f"Four hospitals, {len(seeds)} seeds: mean ± sd", columns, rows)
    note = (
        "'ledgers' is the most that a ledger says of a patient of one hospital, 'at all sites' of somebody "
        "who is in the training data of all four. The deviation is mostly that of the held-out rows."
    )
    return Report("heart_private", tuple(figures), (sheet,), (note,))


def _mean(results: Sequence[SimulationResult], name: str) -> float:
    return fmean(result.federated.pooled_test[name] or 0.0 for result in results)


def _row(epsilon: float | None, results: Sequence[SimulationResult]) -> tuple[Cell, ...]:
    spent: Cell = None if epsilon is None else max(result.epsilon or 0.0 for result in results)
    everywhere: Cell = None if epsilon is None else epsilon_everywhere(results[0])
    return (
        "none" if epsilon is None else f"{epsilon:g}",
        spent,
        everywhere,
        spread([result.federated.pooled_test["auc"] for result in results]),
        spread([result.federated.pooled_test["accuracy"] for result in results]),
        spread([result.federated.metrics["accuracy"] for result in results]),
    )


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, default=SEEDS, help="number of seeds")


if __name__ == "__main__":
    main(__doc__, measure, options=_options)
