"""A study as a table: every setting once, lists of tables a line each."""

from vestry_simulations.datasets import heart_study
from vestry_simulations.settings import settings
from vestry_strategies.study import load_study

STUDY = load_study(heart_study())


def test_every_leaf_of_the_study_is_there_once() -> None:
    keys = [key for key, _ in settings(STUDY)]
    assert len(keys) == len(set(keys))
    for key in ("version", "seed", "study.name", "training.learning_rate", "aggregation.secure"):
        assert key in keys
    assert "task.features[age]" in keys


def test_values_are_written_as_in_the_file() -> None:
    shown = dict(settings(STUDY))
    assert shown["aggregation.secure"] == "true"
    assert shown["study.name"] == "heart-four-hospitals"
    assert shown["task.target.classes"] == '["0", "1"]'
    assert "range = [18.0, 100.0]" in shown["task.features[age]"]
