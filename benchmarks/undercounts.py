"""Two published under-counts of privacy, their figure beside ours.

 a. Flower's example with Opacus builds a new PrivacyEngine in every round, and with it a new accountant: it
    reports the epsilon of one round, whatever came before. Measured at q = .05, noise multiplier 1, one epoch
    a round, delta 1e-5; and in the example's own configuration, 3 rounds over two halves of CIFAR-10. Source:
    examples/opacus/opacus_fl/{client_app,task}.py and pyproject.toml of github.com/adap/flower.
 b. FLamby's Fed-Heart-Disease under differential privacy hands Opacus the number of rounds as the number of
    epochs: noise is calibrated to 15 epochs, and 15 rounds of 100 steps are run, many more epochs at a
    hospital of few patients. Measured at the claim epsilon 1, delta 1e-3, batch 4. Source: class _Model of
    flamby/strategies/utils.py, and flamby/datasets/fed_heart_disease/common.py, of github.com/owkin/FLamby.

Theirs: the accountant of Opacus (PRV, its default), fed as their code feeds it. Ours: a ledger in which every
round is reserved and committed, its report by PLD. Sampling is taken to be Poisson, as Opacus makes it.

Run from the root of the repository:  python -m benchmarks.undercounts [--json]
"""

import argparse
import math
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import Cell, Figure, Report, Sheet, main
from vestry_privacy.accounting import PoissonGaussian
from vestry_privacy.budget import Budget, filter_order
from vestry_privacy.identity import create_identity
from vestry_privacy.ledger import Ledger, Population, StudyRef

__all__ = [
    "HOSPITALS",
    "Training",
    "engine_reports",
    "flamby_training",
    "flower_training",
    "ledger_says",
    "measure",
    "opacus_says",
    "rounds_within",
]

HOSPITALS = {"cleveland": 199, "hungary": 172, "long-beach": 85, "switzerland": 30}
"""Training patients of FLamby's split."""

_CLAIMED, _DELTA, _BATCH, _ROUNDS, _UPDATES = 1.0, 1e-3, 4, 15, 100  # FLamby's
_TRUTH_A = {10: 4.77, 50: 10.99, 100: 16.49}
_TRUTH_B = {"cleveland": 1.47, "hungary": 1.61, "long-beach": 2.41, "switzerland": 4.50}
_AMPLE = 50.0


@dataclass(frozen=True)
class Training:
    """What was really run on a person's record.

    Attributes:
        noise_multiplier: sigma.
        sampling_probability: q.
        steps_a_round: of one round.
        persons: public number.
        delta: of the figures.
    """

    noise_multiplier: float
    sampling_probability: float
    steps_a_round: int
    persons: int
    delta: float

    def event(self, rounds: int = 1) -> PoissonGaussian:
        """So many rounds, for an accountant."""
        return PoissonGaussian(
            noise_multiplier=self.noise_multiplier,
            sampling_probability=self.sampling_probability,
            count=rounds * self.steps_a_round,
        )


def flower_training(noise_multiplier: float = 1.0, steps_an_epoch: int = 20, batch: int = 32) -> Training:
    """One epoch a round, as in Flower's example; by default q = .05."""
    return Training(noise_multiplier, 1 / steps_an_epoch, steps_an_epoch, steps_an_epoch * batch, 1e-5)


def engine_reports(training: Training, rounds: int) -> list[float]:
    """What Flower's example prints after each round: a new engine, its steps, its accountant's epsilon."""
    from opacus import PrivacyEngine

    reports: list[float] = []
    for _ in range(rounds):
        engine = PrivacyEngine(secure_mode=False)
        for _ in range(training.steps_a_round):
            engine.accountant.step(
                noise_multiplier=training.noise_multiplier, sample_rate=training.sampling_probability
            )
        reports.append(float(engine.get_epsilon(training.delta)))
    return reports


def flamby_training(persons: int) -> Training:
    """Noise as FLamby's strategies ask Opacus for it: ``epochs`` is given the number of rounds."""
    from opacus.accountants.utils import get_noise_multiplier

    rate = 1 / math.ceil(persons / _BATCH)
    sigma = get_noise_multiplier(
        target_epsilon=_CLAIMED, target_delta=_DELTA, sample_rate=rate, epochs=_ROUNDS, accountant="prv"
    )
    return Training(sigma, rate, _UPDATES, persons, _DELTA)


def opacus_says(training: Training, steps: int) -> float:
    """Epsilon of so many steps by Opacus' own accountant."""
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history.append((training.noise_multiplier, training.sampling_probability, steps))
    return float(accountant.get_epsilon(delta=training.delta))


def ledger_says(training: Training, rounds: Sequence[int]) -> list[float]:
    """Epsilon in a ledger's report after so many rounds, each reserved and committed.

    Args:
        training: what a round does.
        rounds: after which to look, rising.
    """
    reports: list[float] = []
    with tempfile.TemporaryDirectory() as folder, _ledger(Path(folder), training, _AMPLE) as ledger:
        study = StudyRef("0" * 64, "undercounts", "1")
        ledger.hold("patients", study, {"train": [training.event(rounds[-1])]})
        for number in range(1, rounds[-1] + 1):
            event = training.event()
            reservation = ledger.reserve(study.study_hash, "train", "train", number, event, f"order {number}")
            ledger.commit(reservation, event.count)
            if number in rounds:
                (population,) = ledger.report(("pld",)).populations
                reports.append(population.studies[0].epsilon_spent["pld"] or 0.0)
    return reports


def rounds_within(training: Training, epsilon: float) -> int:
    """Rounds that a ledger with this budget lets through."""
    with tempfile.TemporaryDirectory() as folder, _ledger(Path(folder), training, epsilon) as ledger:
        return ledger.fits("patients", {"train": [training.event()]})


def _ledger(folder: Path, training: Training, epsilon: float) -> Ledger:
    ledger = Ledger(folder / "ledger.db", create_identity(folder / "site.pem"))
    budget = Budget(epsilon, training.delta, filter_order(epsilon, training.delta))
    ledger.register(Population("patients", "record", None, "zero-out", training.persons, budget))
    return ledger


def measure(options: argparse.Namespace) -> Report:
    """Both."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Opacus, on alphas and on its noise
        flower, of_flower = _flower()
        flamby, of_flamby = _flamby()
    second = "'check' is Opacus' accountant too, fed with what was really run: it agrees with the ledger."
    fit = (
        "'fit' are the rounds, of 15, that a ledger lets through whose budget is the claimed epsilon 1: its "
        "filter composes at one Renyi order, which overstates."
    )
    return Report("undercounts", (*of_flower, *of_flamby), (*flower, flamby), (second, fit))


def _flower() -> tuple[tuple[Sheet, ...], list[Figure]]:
    training = flower_training()
    reported = engine_reports(training, 2)[-1]
    truths = ledger_says(training, list(_TRUTH_A))
    figures = [_near("a. Flower's example reports", reported, 1.98, 0.01)]
    rows: list[tuple[Cell, ...]] = []
    for (rounds, known), truth in zip(_TRUTH_A.items(), truths, strict=True):
        checked = opacus_says(training, training.event(rounds).count)
        rows.append((str(rounds), reported, truth, checked))
        figures.append(_near(f"a. ledger after {rounds} rounds", truth, known))
    columns = ("rounds", "theirs", "ours", "check")
    title = "a. Flower's example, q .05, noise 1, an epoch a round: epsilon at delta 1e-5"
    shipped: list[tuple[Cell, ...]] = []
    for sigma in (1.0, 1.5):  # of the two halves of CIFAR-10: 20,000 training images, batches of 32
        own = flower_training(sigma, steps_an_epoch=625)
        (reported,) = engine_reports(own, 1)
        shipped.append((f"{sigma:g}", "3", reported, *ledger_says(own, [3])))
    own_title = "a. The same in the example's own configuration"
    heads = ("noise", "rounds", "theirs", "ours")
    return (Sheet(title, columns, tuple(rows)), Sheet(own_title, heads, tuple(shipped))), figures


def _flamby() -> tuple[Sheet, list[Figure]]:
    rows: list[tuple[Cell, ...]] = []
    figures: list[Figure] = []
    for name, persons in HOSPITALS.items():
        training = flamby_training(persons)
        accounted = round(_ROUNDS / training.sampling_probability)
        run = training.event(_ROUNDS).count
        claimed = opacus_says(training, accounted)
        (truth,) = ledger_says(training, [_ROUNDS])
        rows.append(
            (
                name,
                str(persons),
                f"{training.noise_multiplier:.2f}",
                str(accounted),
                str(run),
                claimed,
                truth,
                opacus_says(training, run),
                str(rounds_within(training, _CLAIMED)),
            )
        )
        figures.append(_near(f"b. ledger at {name}", truth, _TRUTH_B[name]))
    heads = ("hospital", "n", "noise", "accounted", "run", "theirs", "ours", "check", "fit")
    return Sheet(
        "b. FLamby, Fed-Heart-Disease: steps, and epsilon at delta 1e-3", heads, tuple(rows)
    ), figures


def _near(name: str, measured: float, known: float, tolerance: float = 0.005) -> Figure:
    """A figure that must be a known one."""
    reached = abs(measured - known) <= tolerance * known
    return Figure(name, measured, f"{known:g} ± {tolerance:.1%}", reached)


if __name__ == "__main__":
    main(__doc__, measure)
