"""Predictions are those of the weights in the file, for every kind of target and row."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.client.bench import make_table
from tests.simulations.laboratory import STUDY
from tests.strategies.samples import IMAGE_STUDY, MULTI_STUDY, NUMBERS_STUDY, table
from vestry_simulations.partition import SimulationError
from vestry_simulations.predict import predict_file, to_csv
from vestry_strategies.artefact import ModelArtefact, ModelFileError, save_artefact
from vestry_strategies.parameters import FlatModel
from vestry_strategies.rows import ContractViolation, DataFileError, Table
from vestry_strategies.study import parse_study
from vestry_strategies.sums import Arrays
from vestry_strategies.tasks.registry import find_task


def write(path: Path, data: Table, *without: str) -> Path:
    names = [name for name in data.columns if name not in without]
    lines = zip(*(data.columns[name].tolist() for name in names), strict=True)
    path.write_text(",".join(names) + "\n" + "".join(",".join(line) + "\n" for line in lines))
    return path


def model_of(folder: Path, text: str, preprocessing: Arrays) -> Path:
    """A model file with made-up weights."""
    study = parse_study(text)
    flat = FlatModel(find_task(study).build_model(study))
    vector = np.linspace(-0.5, 0.5, flat.layout.size, dtype=np.float32)
    artefact = ModelArtefact(study, 1, flat.layout.split(vector), preprocessing)
    save_artefact(folder / "model.safetensors", artefact, flat.layout)
    return folder / "model.safetensors"


SIX = {"mean": np.array([50.0, 0.1, 0.0, 0.3, 0.3, 0.3]), "scale": np.array([15.0, 0.3, 1.0, 0.5, 0.5, 0.5])}


def test_probabilities_are_those_of_the_weights_in_the_file(tmp_path: Path) -> None:
    model, data = model_of(tmp_path, STUDY, SIX), make_table(30)
    found = predict_file(model, write(tmp_path / "new.csv", data, "sick", "clinic"))
    tensors = load_file(model)
    age = np.array([float(text or "nan") for text in data.column("age")])
    colours = data.column("colour")
    columns = [
        np.where(np.isnan(age), 50.0, age),
        np.isnan(age),
        data.column("dose").astype(float),
        *(colours == colour for colour in ("red", "green", "blue")),
    ]
    x = (np.stack(columns, axis=1) - SIX["mean"]) / SIX["scale"]
    logits = x @ tensors["model/1.weight"][0] + tensors["model/1.bias"][0]
    np.testing.assert_allclose(found.columns["probability:yes"], 1 / (1 + np.exp(-logits)), rtol=1e-5)
    assert found.columns["prediction"].tolist() == np.where(logits > 0, "yes", "no").tolist()
    assert found.rows.tolist() == list(range(1, 31))


def test_the_target_may_be_there_and_plays_no_part(tmp_path: Path) -> None:
    model, data = model_of(tmp_path, STUDY, SIX), make_table(30)
    without = predict_file(model, write(tmp_path / "a.csv", data, "sick"))
    with_it = predict_file(model, write(tmp_path / "b.csv", make_table(30, sick="unknown")))
    assert without.columns["prediction"].tolist() == with_it.columns["prediction"].tolist()


def test_rows_that_the_study_drops_keep_the_numbers_of_the_others(tmp_path: Path) -> None:
    text = STUDY.replace('missing = "mean"', 'missing = "drop-row"')
    five = {name: np.delete(array, 1) for name, array in SIX.items()}
    data = make_table(30)
    found = predict_file(model_of(tmp_path, text, five), write(tmp_path / "new.csv", data))
    kept = np.flatnonzero(data.column("age") != "") + 1
    assert found.rows.tolist() == kept.tolist()
    assert len(kept) < 30


def numbers() -> Table:
    return table(x=[1, 2], flag=[0, 1], kind=[1, 2])


def test_regression_comes_in_original_units(tmp_path: Path) -> None:
    eight = {"mean": np.zeros(8), "scale": np.ones(8)}
    target = {"target_mean": np.array([100.0]), "target_scale": np.array([10.0])}
    model = model_of(tmp_path, NUMBERS_STUDY, {**eight, **target})
    found = predict_file(model, write(tmp_path / "new.csv", numbers())).columns["prediction"]
    weights = np.linspace(-0.5, 0.5, 9)
    x = np.array([[1, 0, 0, 0, 1, 0, 0, 0], [2, 0, 1, 0, 0, 1, 0, 0]])
    np.testing.assert_allclose(found, (x @ weights[:8] + weights[8]) * 10 + 100, rtol=1e-5)


def test_probabilities_of_many_classes_add_up_to_one(tmp_path: Path) -> None:
    model = model_of(tmp_path, MULTI_STUDY, {"mean": np.zeros(8), "scale": np.ones(8)})
    found = predict_file(model, write(tmp_path / "new.csv", numbers())).columns
    assert list(found) == ["prediction", "probability:a", "probability:b", "probability:c"]
    total = sum(found[f"probability:{name}"] for name in "abc")
    np.testing.assert_allclose(total, 1.0)


def test_images_without_labels(tmp_path: Path) -> None:
    model = model_of(tmp_path, IMAGE_STUDY, {"mean": np.zeros(2), "scale": np.ones(2)})
    images = np.random.default_rng(0).integers(0, 256, (5, 6, 4, 2))
    np.savez(tmp_path / "new.npz", images=images)
    np.savez(tmp_path / "known.npz", images=images, labels=np.zeros(5, dtype=int))
    found = predict_file(model, tmp_path / "new.npz")
    assert len(found.rows) == 5
    known = predict_file(model, tmp_path / "known.npz")
    assert known.columns["prediction"].tolist() == found.columns["prediction"].tolist()


def test_a_per_site_study_needs_the_sites_rows(tmp_path: Path) -> None:
    text = STUDY.replace('kind = "tabular"', 'kind = "tabular"\nstandardise = "per-site"')
    model, new = model_of(tmp_path, text, SIX), write(tmp_path / "new.csv", make_table(20))
    with pytest.raises(SimulationError, match="--reference FILE"):
        predict_file(model, new)
    reference = write(tmp_path / "reference.csv", make_table(60, 5))
    assert len(predict_file(model, new, reference=reference).rows) == 20


def test_rows_outside_the_contract_are_refused(tmp_path: Path) -> None:
    model = model_of(tmp_path, STUDY, SIX)
    with pytest.raises(ContractViolation, match="column 'colour'"):
        predict_file(model, write(tmp_path / "new.csv", make_table(colour="SECRET")))
    with pytest.raises(DataFileError, match="column 'dose' is missing"):
        predict_file(model, write(tmp_path / "less.csv", make_table(), "dose"))


def test_a_model_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"no model")
    with pytest.raises(ModelFileError):
        predict_file(tmp_path / "x", tmp_path / "x")


def test_csv(tmp_path: Path) -> None:
    model = model_of(tmp_path, STUDY, SIX)
    lines = to_csv(predict_file(model, write(tmp_path / "new.csv", make_table(3)))).splitlines()
    assert lines[0] == "row,prediction,probability:no,probability:yes"
    assert [line.split(",")[0] for line in lines[1:]] == ["1", "2", "3"]
    for line in lines[1:]:
        _, _, no, yes = line.split(",")
        assert float(no) + float(yes) == pytest.approx(1)
