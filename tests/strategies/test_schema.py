"""The data contract's own rules."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from vestry_strategies.schema import Feature, ImageTask, TabularTask, Target

FEATURE: TypeAdapter[Feature] = TypeAdapter(Feature)


def feature(**plain: Any) -> Feature:
    return FEATURE.validate_python(plain)


def test_a_missing_value_is_refused_unless_the_study_says_otherwise() -> None:
    assert feature(name="x", type="number").missing == "refuse"
    assert feature(name="x", type="boolean").missing == "refuse"
    assert feature(name="x", type="category", categories=("a", "b")).missing == "refuse"


@pytest.mark.parametrize(
    "plain",
    [
        {"type": "number", "range": (1.0, 1.0)},
        {"type": "number", "missing": "category"},
        {"type": "number", "typical": (1.0, 0.0)},
        {"type": "number", "typical": (1.0, -2.0)},
        {"type": "boolean", "typical": (0.0, 1.0)},
        {"type": "category", "categories": ("a", "a")},
        {"type": "category", "categories": ("a", "")},
        {"type": "category", "categories": ("a", "b"), "missing": "mean"},
        {"type": "boolean", "range": (0.0, 1.0)},
        {"type": "date"},
    ],
)
def test_features_that_make_no_sense(plain: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        feature(name="x", **plain)


@pytest.mark.parametrize(
    ("plain", "outputs"),
    [
        ({"type": "binary", "classes": ("a", "b")}, 1),
        ({"type": "multiclass", "classes": ("a", "b", "c")}, 3),
        ({"type": "regression"}, 1),
    ],
)
def test_a_target_says_how_wide_the_model_ends(plain: dict[str, Any], outputs: int) -> None:
    assert Target(name="y", **plain).outputs == outputs


@pytest.mark.parametrize(
    ("plain", "said"),
    [
        ({"type": "binary"}, "needs classes"),
        ({"type": "binary", "classes": ("a", "b", "c")}, "use 'multiclass'"),
        ({"type": "multiclass", "classes": ("a", "b")}, "needs 3 or more"),
        ({"type": "binary", "classes": ("a", "a")}, "distinct"),
        ({"type": "binary", "classes": ("a", "b"), "range": (0.0, 1.0)}, "range is for regression"),
        ({"type": "regression", "classes": ("a", "b")}, "has no classes"),
        ({"type": "regression", "range": (2.0, 1.0)}, "is empty"),
        ({"type": "binary", "classes": ("a", "b"), "class_weights": (1.0,)}, "one number for each class"),
        ({"type": "binary", "classes": ("a", "b"), "class_weights": (1.0, 0.0)}, "above 0"),
    ],
)
def test_targets_that_make_no_sense(plain: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Target(name="y", **plain)


def test_imputing_the_mean_needs_a_mean() -> None:
    number = feature(name="x", type="number", missing="mean")
    target = Target(name="y", type="regression")
    TabularTask(kind="tabular", target=target, features=(number,), standardise="per-site")
    with pytest.raises(ValidationError, match="needs standardise"):
        TabularTask(kind="tabular", target=target, features=(number,), standardise="none")


def test_declared_scales_must_be_declared() -> None:
    target = Target(name="y", type="binary", classes=("a", "b"))
    for declared in ({"range": (0.0, 9.0)}, {"typical": (4.0, 2.0)}):
        number = feature(name="x", type="number", missing="mean", **declared)
        TabularTask(kind="tabular", target=target, features=(number,), standardise="declared")
    bare = feature(name="x", type="number")
    with pytest.raises(ValidationError, match=r"needs range or typical of features \['x'\]"):
        TabularTask(kind="tabular", target=target, features=(bare,), standardise="declared")
    flag = feature(name="z", type="boolean")
    TabularTask(kind="tabular", target=target, features=(flag,), standardise="declared")
    amount = Target(name="y", type="regression")
    with pytest.raises(ValidationError, match="needs the target's range"):
        TabularTask(kind="tabular", target=amount, features=(flag,), standardise="declared")


def test_images_need_classes_and_a_range() -> None:
    classes = Target(name="y", type="binary", classes=("a", "b"))
    ImageTask(kind="image", target=classes, height=8, width=8)
    with pytest.raises(ValidationError, match="binary or multiclass"):
        ImageTask(kind="image", target=Target(name="y", type="regression"), height=8, width=8)
    with pytest.raises(ValidationError, match="value_range is empty"):
        ImageTask(kind="image", target=classes, height=8, width=8, value_range=(1.0, 1.0))


def test_a_contract_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Target(name="y", type="regression").name = "z"  # type: ignore[misc]
