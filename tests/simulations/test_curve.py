"""The privacy-utility curve: what is asked for, the studies it is made of, means over seeds."""

from dataclasses import replace

import pytest

from tests.simulations.samples import outcome, sample_privacy, sample_result
from tests.strategies.samples import DECLARED, FULL_BATCH, make_study, private_study
from vestry_simulations.curve import NONE, CurvePoint, at_epsilon, parse_epsilons
from vestry_simulations.partition import SimulationError

STUDY = private_study(FULL_BATCH)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("none,8,3,1", [("none", None), ("8", 8.0), ("3", 3.0), ("1", 1.0)]),
        (" 0.5 , none ", [("0.5", 0.5), ("none", None)]),
        ("1e-1", [("1e-1", 0.1)]),
        ("3,3,none,none", [("3", 3.0), ("none", None)]),
    ],
)
def test_epsilons_are_read_in_their_order_each_once(text: str, found: list[tuple[str, float | None]]) -> None:
    assert parse_epsilons(text) == found


@pytest.mark.parametrize("text", ["", ",", "8,", "0", "-1", "nan", "inf", "None", "8;3", "a few"])
def test_what_is_no_epsilon_is_named(text: str) -> None:
    with pytest.raises(SimulationError, match=r"--epsilons: '.*' is no epsilon; write numbers above 0"):
        parse_epsilons(text)


def test_the_epsilon_is_replaced_and_nothing_else() -> None:
    changed = at_epsilon(STUDY, 8.0)
    plain, other = STUDY.canonical(), changed.canonical()
    assert other["privacy"]["epsilon"] == 8.0
    plain["privacy"]["epsilon"] = 8.0
    assert other == plain
    assert at_epsilon(STUDY, 3.0) == STUDY


def test_noise_that_was_named_gives_way_to_an_epsilon() -> None:
    study = private_study(FULL_BATCH, ("epsilon = 3.0", "noise_multiplier = 2.0"))
    changed = at_epsilon(study, 1.0)
    assert changed.privacy is not None
    assert (changed.privacy.epsilon, changed.privacy.noise_multiplier) == (1.0, None)


def test_none_is_the_study_without_its_section() -> None:
    sampled = private_study()
    changed = at_epsilon(sampled, None)
    assert changed.privacy is None
    assert changed.training == sampled.training
    full = at_epsilon(STUDY, None)
    assert full.training.batch_size > 10**6  # a full batch stays a full batch
    assert full.training.local_steps == STUDY.training.local_steps


def test_another_study_may_stand_for_none() -> None:
    plain = make_study(("learning_rate = 0.1", "learning_rate = 0.3"))
    assert at_epsilon(STUDY, None, plain) is plain
    assert at_epsilon(STUDY, 8.0, plain) == at_epsilon(STUDY, 8.0)
    with pytest.raises(SimulationError, match="--plain: has a section"):
        at_epsilon(STUDY, 8.0, STUDY)


def test_a_curve_needs_a_private_study() -> None:
    for epsilon in (None, 1.0):
        with pytest.raises(SimulationError, match=r"--epsilons: the study has no section \[privacy\]"):
            at_epsilon(make_study(), epsilon)


def test_a_study_that_breaks_a_rule_is_refused_with_the_epsilon() -> None:
    odd = private_study(FULL_BATCH, DECLARED)
    spec = odd.model_copy(update={"privacy": odd.privacy and odd.privacy.model_copy(update={"delta": 2.0})})
    with pytest.raises(SimulationError, match=r"--epsilons: 8\.0: privacy\.delta"):
        at_epsilon(spec, 8.0)


def point(*values: float, epsilon: float | None = 8.0, spent: float = 7.5) -> CurvePoint:
    results = []
    for place, value in enumerate(values):
        names = ["a", "b"]
        made = replace(sample_result(names), federated=outcome(names, value))
        if epsilon is not None:
            made = replace(made, privacy=sample_privacy(names, epsilon=spent + place / 10))
        results.append(made)
    return CurvePoint(NONE if epsilon is None else f"{epsilon:g}", epsilon, tuple(results))


def test_a_point_is_the_mean_over_its_seeds() -> None:
    mean, deviation = point(0.7, 0.8, 0.9).metric("accuracy")
    assert mean == pytest.approx(0.8)
    assert deviation == pytest.approx(0.1)
    of_sites, _ = point(0.7, 0.8, 0.9).metric("accuracy", of_sites=True)
    assert of_sites == pytest.approx(0.795)  # the second site is one hundredth worse
    assert point(0.7).metric("accuracy")[1] is None
    assert point(0.7).metric("unheard of") == (None, None)


def test_what_a_point_spent_is_the_most_of_all_ledgers() -> None:
    assert point(0.7, 0.8).spent == pytest.approx(7.6)
    assert point(0.7, epsilon=None).spent is None
