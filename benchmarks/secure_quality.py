"""What secure aggregation costs: quality of the model, and time of a round.

Trains the heart study at its four hospitals (seeds 1 to 5) and MNIST, 5,000 digits at five sites that see
different digits (seeds 1 to 5, ten rounds of a convolutional net), once with `secure = true` and once with
`secure = false`, from the same starting weights, batches and held-out rows. With secure aggregation an update
is rounded to lanes of 21 bits, so the two models are not the same; everything else is. Both go through
`vestry simulate`: sites with identities, journals on the disk and worker processes.

 a. The metric over all held-out rows, seed by seed. Target: its means over the seeds differ by less than its
    standard deviation over the seeds in the clear, which is the noise of the seed. From one seed the two runs
    of a convolutional net part as any two runs do whose weights once differed in the last digits.
 b. Seconds of a round (median over the rounds after the first), secure over plain, the two runs of a seed one
    after the other; median over the seeds. Target for the heart study: at most 2.

Run from the root of the repository:  python -m benchmarks.secure_quality [--json] [--workers N] [--only NAME]
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median

from benchmarks.figures import Cell, Figure, Report, Sheet, at_most, main, spread
from examples.make_data import write_mnist
from vestry_server.progress import Event, RoundRecord
from vestry_simulations.datasets import heart_data, heart_study
from vestry_simulations.manifest import Manifest, file_hash
from vestry_simulations.simulate import Laboratory, simulate
from vestry_simulations.summary import mean_and_sd
from vestry_strategies.study import StudySpec, load_study, study_from_json

__all__ = ["FEDERATIONS", "Federation", "Pair", "measure", "run_pair", "with_secure"]

_MNIST = Path(__file__).parents[1] / "examples" / "mnist_cnn.toml"


@dataclass(frozen=True)
class Federation:
    """What is trained twice.

    Attributes:
        study: its file.
        data: (folder) -> the data file.
        metric: that is compared.
        seeds: each a run in the clear and a secure one.
        by: column of the sites; None deals the rows.
        sites: number of sites that rows are dealt to.
        partition: how.
        time_target: most that a secure round may take over a plain one; None where it is only shown.
    """

    study: Path
    data: Callable[[Path], Path]
    metric: str
    seeds: tuple[int, ...]
    by: str | None = None
    sites: int = 0
    partition: str = "iid"
    time_target: float | None = None


FEDERATIONS = {
    "heart": Federation(
        heart_study(), lambda folder: heart_data(), "auc", (1, 2, 3, 4, 5), by="site", time_target=2.0
    ),
    "mnist": Federation(_MNIST, write_mnist, "accuracy", (1, 2, 3, 4, 5), sites=5, partition="dirichlet:0.5"),
}


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        metric: over all held-out rows, of the last model.
        seconds: of a round, median of those after the first.
    """

    metric: float
    seconds: float


@dataclass(frozen=True)
class Pair:
    """A seed in the clear and in secure sums."""

    seed: int
    plain: Run
    secure: Run

    @property
    def difference(self) -> float:
        """Secure minus plain."""
        return self.secure.metric - self.plain.metric

    @property
    def ratio(self) -> float:
        """Seconds of a secure round over those of a plain one."""
        return self.secure.seconds / self.plain.seconds


def with_secure(study: StudySpec, secure: bool) -> StudySpec:
    """The study with or without secure aggregation, checked again."""
    plain = study.canonical()
    plain["aggregation"]["secure"] = secure
    return study_from_json(json.dumps(plain))


def run_pair(
    federation: Federation, seed: int, data: Path, out: Path, workers: int | None, rounds: int | None = None
) -> Pair:
    """One seed, in the clear and in secure sums."""
    study = load_study(federation.study).with_changes(seed=seed, rounds=rounds)

    def run(secure: bool) -> Run:
        ends: list[float] = []

        def tell(event: Event) -> None:
            if isinstance(event, RoundRecord):
                ends.append(time.perf_counter())

        manifest = Manifest(
            run_id=f"{study.study.name}-{seed}-{'secure' if secure else 'plain'}",
            study=with_secure(study, secure),
            data=data,
            data_hash=file_hash(data),
            by=federation.by,
            sites=federation.sites,
            partition=federation.partition,
            workers=workers,
        )
        result = simulate(manifest, Laboratory(out), tell)
        value = result.history[-1].metrics[federation.metric]
        if value is None:
            raise ValueError(f"{federation.metric} is not defined: there was no held-out row")
        return Run(value, median(after - before for before, after in pairwise(ends)))

    return Pair(seed, run(secure=False), run(secure=True))


def measure(options: argparse.Namespace) -> Report:
    """Both parts for each federation."""
    figures: list[Figure] = []
    sheets: list[Sheet] = []
    for name, federation in FEDERATIONS.items():
        if options.only not in {None, name}:
            continue
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            data = federation.data(folder)
            pairs = [
                run_pair(federation, seed, data, folder / "runs", options.workers)
                for seed in federation.seeds[: options.seeds]
            ]
        figures += _figures(name, federation, pairs)
        sheets.append(_sheet(name, federation, pairs))
    return Report("secure_quality", tuple(figures), tuple(sheets))


def _figures(name: str, federation: Federation, pairs: Sequence[Pair]) -> list[Figure]:
    metric = federation.metric
    _, noise = mean_and_sd([pair.plain.metric for pair in pairs])
    difference = abs(fmean(pair.difference for pair in pairs))
    figures = []
    if noise is not None:
        label = f"{name}: difference of the mean {metric}; target: sd over seeds in the clear"
        figures.append(at_most(label, difference, round(noise, 6)))
    if federation.time_target is not None:
        ratio = median(pair.ratio for pair in pairs)
        figures.append(
            at_most(f"{name}: seconds of a round, secure over plain", ratio, federation.time_target)
        )
    return figures


def _sheet(name: str, federation: Federation, pairs: Sequence[Pair]) -> Sheet:
    rows: list[tuple[Cell, ...]] = [
        (
            str(pair.seed),
            pair.plain.metric,
            pair.secure.metric,
            f"{pair.difference:+.6f}",
            f"{1000 * pair.plain.seconds:.1f}",
            f"{1000 * pair.secure.seconds:.1f}",
            f"{pair.ratio:.2f}",
        )
        for pair in pairs
    ]
    rows.append(
        (
            "mean ± sd",
            spread([pair.plain.metric for pair in pairs]),
            spread([pair.secure.metric for pair in pairs]),
            f"{fmean(pair.difference for pair in pairs):+.6f}",
            f"{1000 * median(pair.plain.seconds for pair in pairs):.1f}",
            f"{1000 * median(pair.secure.seconds for pair in pairs):.1f}",
            f"{median(pair.ratio for pair in pairs):.2f}",
        )
    )
    heads = ("seed", "plain", "secure", "difference", "ms, plain", "ms, secure", "ratio")
    title = f"{name}: {federation.metric} over all held-out rows, and milliseconds of a round"
    return Sheet(title, heads, tuple(rows))


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=int, default=None, help="processes; 0 for this one only")
    parser.add_argument("--only", choices=sorted(FEDERATIONS), help="one of the federations")
    parser.add_argument("--seeds", type=int, default=None, help="at most so many seeds")


if __name__ == "__main__":
    main(__doc__, measure, options=_options)
