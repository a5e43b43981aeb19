"""Study files: identity, round trips, and every refusal with key, problem and way out."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.simulations.laboratory import STUDY, environment
from tests.strategies.samples import IMAGE_STUDY, MULTI_STUDY, NUMBERS_STUDY, make_study
from vestry_simulations.datasets import heart_study
from vestry_strategies.study import (
    StudyError,
    StudySpec,
    load_study,
    parse_study,
    study_from_json,
    study_schema,
)


def said(*changes: tuple[str, str]) -> str:
    """What is said of the small study, changed."""
    with pytest.raises(StudyError) as error:
        make_study(*changes)
    message = str(error.value)
    assert "Input should" not in message
    assert "http" not in message
    return message


def test_the_hash_does_not_change_from_version_to_version() -> None:
    """A golden hash: if it changes, every stored study loses its identity."""
    assert make_study().digest() == ("900ffd38866b0b586739f7af628a35fa3a693f9d7871264af61a0377cf758486")


@pytest.mark.parametrize("text", [STUDY, NUMBERS_STUDY, MULTI_STUDY, IMAGE_STUDY])
def test_a_study_travels_as_json(text: str) -> None:
    study = parse_study(text)
    again = study_from_json(study.to_json())
    assert again == study
    assert again.digest() == study.digest()
    assert "\n" not in study.to_json()


def test_comments_order_and_defaults_do_not_change_the_hash() -> None:
    spelled = make_study(
        ("seed = 5", "# the seed\nseed = 5"),
        ("batch_size = 8", 'batch_size = 8\noptimizer = "sgd"\nmomentum = 0.0'),
        ('name = "small"\npurpose = "a test"', 'purpose = "a test"\nname = "small"'),
        ("range = [0, 120]", "range = [0.0, 120.0]"),
    )
    assert spelled.digest() == make_study().digest()


@pytest.mark.parametrize(
    "change",
    [
        ("seed = 5", "seed = 6"),
        ('name = "small"', 'name = "other"'),
        ('purpose = "a test"', 'purpose = "another"'),
        ('initiator = "tests"', 'initiator = "others"'),
        ("range = [0, 120]", "range = [0, 121]"),
        ('["red", "green", "blue"]', '["green", "red", "blue"]'),
        ('["no", "yes"]', '["yes", "no"]'),
        ("rounds = 4", "rounds = 5"),
        ("local_steps = 5", "local_epochs = 5"),
        ("batch_size = 8", "batch_size = 9"),
        ("learning_rate = 0.1", "learning_rate = 0.2"),
        ("secure = false", "secure = true"),
        ("secure = false", "secure = false\ncohort = 2"),
        ("fraction = 0.25", "fraction = 0.3"),
        ('metrics = ["accuracy", "auc"]', 'metrics = ["auc", "accuracy"]'),
    ],
)
def test_every_setting_changes_the_hash(change: tuple[str, str]) -> None:
    assert make_study(change).digest() != make_study().digest()


def test_changes_are_checked_like_a_file() -> None:
    study = make_study()
    assert study.with_changes(rounds=9, seed=1).training.rounds == 9
    assert study.with_changes() == study
    with pytest.raises(StudyError, match=r"training\.rounds"):
        study.with_changes(rounds=0)


def test_a_study_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValueError, match="frozen"):
        make_study().seed = 9  # type: ignore[misc]


# Refusals.


def test_unknown_keys_come_with_a_suggestion() -> None:
    assert said(("batch_size", "batchsize")) == (
        "training.batchsize: there is no such key; did you mean 'batch_size'?"
    )
    assert "known here: " in said(("seed = 5", "seed = 5\nzzz = 1"))


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (("rounds = 4", 'rounds = "4"'), ["training.rounds", "a valid integer", "'4'"]),
        (("rounds = 4", "rounds = 4.5"), ["training.rounds", "integer"]),
        (("rounds = 4", "rounds = true"), ["training.rounds", "integer"]),
        (("rounds = 4", "rounds = 0"), ["training.rounds", "greater than or equal to 1", "0"]),
        (("learning_rate = 0.1", "learning_rate = -1"), ["training.learning_rate", "greater than 0"]),
        (("learning_rate = 0.1", "learning_rate = nan"), ["training.learning_rate", "finite number"]),
        (("learning_rate = 0.1", "learning_rate = inf"), ["training.learning_rate", "finite number"]),
        (("learning_rate = 0.1", 'learning_rate = "fast"'), ["training.learning_rate", "number"]),
        (('name = "small"', "name = 3"), ["study.name", "string"]),
        (('name = "small"', 'name = "Small Study"'), ["study.name", "pattern"]),
        (("secure = false", "secure = 0"), ["aggregation.secure", "boolean"]),
        (('type = "binary"', 'type = "binarry"'), ["task.target.type", "'binary', 'multiclass'"]),
        (
            ('type = "number"\nrange', 'type = "numbr"\nrange'),
            ["task.features[0].type", "'numbr' is unknown"],
        ),
        (('kind = "logistic"', 'kind = "logit"'), ["model.kind", "'logit' is unknown", "'logistic'"]),
        (('kind = "tabular"', 'kind = "table"'), ["task.kind", "'table' is unknown", "'tabular'"]),
        (("version = 1", "version = 2"), ["version", "1"]),
        (("seed = 5", "seed = -5"), ["seed", "greater than or equal to 0"]),
        (("learning_rate = 0.1", ""), ["training.learning_rate: is required and missing"]),
        (('purpose = "a test"\n', ""), ["study.purpose: is required and missing"]),
        (("range = [0, 120]", "range = [120, 0]"), ["task.features[0]", "is empty", "[lowest, highest]"]),
        (('["red", "green", "blue"]', '["red", "red"]'), ["task.features[2]", "distinct"]),
        (('["red", "green", "blue"]', '["red"]'), ["task.features[2].categories", "at least 2"]),
        (('name = "dose"', 'name = "age"'), ["task", "['age'] are declared twice"]),
        (('name = "dose"', 'name = "sick"'), ["task", "the target 'sick' is also a feature"]),
        (('["no", "yes"]', '["no"]'), ["task.target", "needs 2 classes, not 1"]),
        (('["no", "yes"]', '["a", "b", "c"]'), ["task.target", "use 'multiclass'"]),
        (('classes = ["no", "yes"]\n', ""), ["task.target", "needs classes"]),
        (("local_steps = 5", "local_steps = 5\nlocal_epochs = 1"), ["training", "exactly one of"]),
        (("local_steps = 5\n", ""), ["training", "exactly one of"]),
        (
            ("learning_rate = 0.1", 'learning_rate = 0.1\noptimizer = "adam"\nmomentum = 0.9'),
            ["training", "momentum is for optimizer = 'sgd', not 'adam'"],
        ),
        (("fraction = 0.25", 'fraction = 0.25\ncolumn = "x"'), ["evaluation.holdout", "exactly one of"]),
        (("fraction = 0.25", "fraction = 1.0"), ["evaluation.holdout.fraction", "less than 1"]),
    ],
)
def test_wrong_values_are_refused_by_key_problem_and_way_out(
    change: tuple[str, str], parts: list[str]
) -> None:
    message = said(change)
    for part in parts:
        assert part in message


def test_all_problems_are_said_at_once() -> None:
    message = said(("rounds = 4", "rounds = 0"), ("batch_size = 8", "batch_size = 0"))
    assert message.startswith("2 problems")
    assert "training.rounds" in message
    assert "training.batch_size" in message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"x\.toml: there is no such file"):
        load_study(tmp_path / "x.toml")


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StudyError, match="cannot be read as UTF-8"):
        load_study(tmp_path / "x.toml")
    with pytest.raises(StudyError, match="cannot be read"):
        load_study(tmp_path)


def test_a_file_that_is_no_toml(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("version = \n")
    with pytest.raises(StudyError, match=r"x\.toml: this is no TOML: .*line 1"):
        load_study(tmp_path / "x.toml")


@pytest.mark.parametrize("text", ["", "[]", "null", "1", '{"version": 1}', "{"])
def test_json_that_is_no_study(text: str) -> None:
    with pytest.raises(StudyError):
        study_from_json(text)


keys = st.sampled_from(["version", "seed", "study", "task", "model", "training", "kind", "target", "x"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(keys, values, max_size=6))
def test_nothing_but_a_study_error_comes_out(plain: dict[str, Any]) -> None:
    with pytest.raises(StudyError):
        study_from_json(json.dumps(plain))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_study_with_one_value_replaced_is_a_study_or_a_study_error(data: st.DataObject) -> None:
    plain: Any = make_study().canonical()
    node, path, parent = plain, [], plain
    while isinstance(node, dict | list) and node:
        key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
        path.append(key)
        parent, node = node, node[key]
        if data.draw(st.booleans()):
            break
    parent[path[-1]] = data.draw(values)
    with contextlib.suppress(StudyError):
        assert isinstance(study_from_json(json.dumps(plain)), StudySpec)


def test_a_study_is_checked_without_torch_or_flower() -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom vestry_strategies.study import load_study\n"
        f"load_study(Path({str(heart_study())!r}))\n"
        "assert not {'torch', 'flwr'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], env=environment(), check=True)


def test_the_schema_is_for_editors() -> None:
    schema = study_schema()
    assert schema["title"] == "Vestry study"
    assert set(schema["required"]) == {"study", "task", "model", "training"}
    assert schema["additionalProperties"] is False
    json.dumps(schema)


def test_the_schema_takes_the_shipped_studies() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    import tomllib

    root = Path(__file__).parent.parent.parent
    paths = [heart_study(), *root.glob("examples/*.toml"), *root.glob("benchmarks/studies/*.toml")]
    assert len(paths) >= 3
    for path in paths:
        load_study(path)
        jsonschema.validate(tomllib.loads(path.read_text()), study_schema())
