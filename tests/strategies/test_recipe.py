"""The sections' own rules and their safe defaults."""

from typing import Any

import pytest
from pydantic import ValidationError

from vestry_strategies.recipe import (
    AggregationSpec,
    CnnModel,
    EvaluationSpec,
    HoldoutSpec,
    PrivacySpec,
    SiteGuaranteeSpec,
    StudySection,
    TrainingSpec,
)


def training(**plain: Any) -> TrainingSpec:
    return TrainingSpec(**{"rounds": 1, "learning_rate": 0.1, "local_steps": 1, **plain})


def test_defaults_are_the_safe_ones() -> None:
    assert AggregationSpec().secure
    assert AggregationSpec().min_sites == 2
    assert AggregationSpec().lane_bits is None  # what is not there is not in a study's hash
    assert AggregationSpec().value_range is None
    assert PrivacySpec(epsilon=1.0, delta=1e-5, sampling_probability=0.1).unit == "patient"
    assert EvaluationSpec().holdout.fraction == 0.2
    assert EvaluationSpec().keep == "last"


def test_a_round_has_one_length() -> None:
    assert training().local_steps == 1
    assert training(local_steps=None, local_epochs=3).local_epochs == 3
    for both in ({"local_epochs": 1}, {"local_steps": None}):
        with pytest.raises(ValidationError, match="exactly one of local_epochs and local_steps"):
            training(**both)


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_momentum_is_of_sgd(optimizer: str) -> None:
    training(momentum=0.9)
    with pytest.raises(ValidationError, match="momentum is for optimizer = 'sgd'"):
        training(momentum=0.9, optimizer=optimizer)


@pytest.mark.parametrize(
    ("name", "fine"),
    [
        ("a", True),
        ("heart-2", True),
        ("Heart", False),
        ("-a", False),
        ("a b", False),
        ("../x", False),
        ("", False),
    ],
)
def test_a_studys_name_is_fit_for_a_folder(name: str, fine: bool) -> None:
    if fine:
        StudySection(name=name, purpose="p", initiator="i")
    else:
        with pytest.raises(ValidationError):
            StudySection(name=name, purpose="p", initiator="i")


def test_groups_divide_the_channels() -> None:
    CnnModel(kind="cnn", channels=(8, 16), norm="group", groups=4)
    CnnModel(kind="cnn", channels=(6,), norm="none", groups=4)
    with pytest.raises(ValidationError, match="multiple of groups=4"):
        CnnModel(kind="cnn", channels=(8, 6), norm="group", groups=4)


@pytest.mark.parametrize(
    "plain", [{}, {"fraction": 0.1, "column": "x"}, {"fraction": 0.0}, {"fraction": 1.0}]
)
def test_a_holdout_is_a_share_or_a_column(plain: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        HoldoutSpec(**plain)


def privacy(**plain: Any) -> PrivacySpec:
    """A section with what is not None of these."""
    given = {"epsilon": 1.0, "delta": 1e-5, "sampling_probability": 0.1, **plain}
    return PrivacySpec(**{key: value for key, value in given.items() if value is not None})


@pytest.mark.parametrize(
    "plain",
    [
        {"epsilon": 0.0},
        {"epsilon": -1.0},
        {"epsilon": float("inf")},
        {"delta": 0.0},
        {"delta": 1.0},
        {"clip": 0.0},
        {"sampling_probability": 0.0},
        {"sampling_probability": 1.5},
        {"expected_batch": 0.0},
        {"max_records": 0},
        {"statistics_share": 1.0},
        {"noise": "torch"},
        {"sampling": "shuffled"},
        {"unit": "hospital"},
        {"adjacency": "substitute"},
    ],
)
def test_a_privacy_parameter_out_of_range_is_refused(plain: dict[str, Any]) -> None:
    privacy()
    with pytest.raises(ValidationError, match=next(iter(plain))):
        privacy(**plain)


def test_a_study_names_its_epsilon_or_its_noise() -> None:
    assert privacy(epsilon=None, noise_multiplier=1.0).epsilon is None
    wrong: tuple[dict[str, Any], ...] = ({"noise_multiplier": 1.0}, {"epsilon": None})
    for both in wrong:
        with pytest.raises(ValidationError, match="exactly one of epsilon and noise_multiplier"):
            privacy(**both)
        with pytest.raises(ValidationError, match="exactly one of epsilon and noise_multiplier"):
            SiteGuaranteeSpec(**{"epsilon": 1.0, "delta": 1e-2, "clip": 1.0, **both})


@pytest.mark.parametrize("noise", [1e-6, 1e10])
def test_noise_that_no_ledger_can_write_down_is_refused(noise: float) -> None:
    said = "noise_multiplier .* must lie between 0.001 and 1e9"
    with pytest.raises(ValidationError, match=said):
        privacy(epsilon=None, noise_multiplier=noise)
    with pytest.raises(ValidationError, match=said):
        SiteGuaranteeSpec(noise_multiplier=noise, delta=1e-2, clip=1.0)


def test_a_probability_goes_with_sampling() -> None:
    assert privacy(sampling="full_batch", sampling_probability=None).sampling_probability is None
    assert privacy(unit="site", sampling_probability=None).sampling_probability is None
    for wrong in ({"sampling": "full_batch"}, {"sampling_probability": None}):
        with pytest.raises(ValidationError, match="sampling_probability goes with sampling = 'poisson'"):
            privacy(**wrong)


def test_the_defaults_of_privacy_are_the_careful_ones() -> None:
    spec = privacy(unit_column="patient")
    assert (spec.unit, spec.adjacency, spec.noise) == ("patient", "zero-out", "cryptographic")
    assert spec.metrics == ()
    assert spec.site is None
    assert SiteGuaranteeSpec(epsilon=1.0, delta=1e-2, clip=1.0).noise_at == "site"


@pytest.mark.parametrize(
    "plain", [{"lane_bits": 20}, {"lane_bits": "21"}, {"value_range": 0}, {"value_range": -1}]
)
def test_a_secure_sum_has_known_lanes_and_a_range(plain: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        AggregationSpec(**plain)
    assert AggregationSpec(lane_bits=16, value_range=0.5).lane_bits == 16
