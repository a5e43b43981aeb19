"""Refusals: each rule alone, with what it says."""

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.privacy.ledgers import NOON, ONE, Replay, gaussian, population, study
from vestry_privacy.accounting import TruncatedPoissonGaussian
from vestry_privacy.budget import Budget, BudgetError
from vestry_privacy.ledger_entries import Commit, Import, Register, Release, SpentByCrash
from vestry_privacy.ledger_errors import (
    BudgetExceeded,
    DuplicateRound,
    NotHeld,
    PopulationError,
    ReservationError,
    RoundOpen,
)
from vestry_privacy.ledger_rules import (
    allow_hold,
    allow_population,
    allow_reserve,
    fits,
    held_study,
    known_population,
    known_study,
    left,
    open_reservation,
)
from vestry_privacy.population import Population

TODAY = datetime.fromtimestamp(NOON, UTC).date()
TWO = study("two")
ALL = 245
"""Most releases of sigma 10 that fit into epsilon 8 at order 4: floor(rho / .02)."""


def registered(**budget: Any) -> Replay:
    replay = Replay()
    replay.register(**budget)
    return replay


def held(steps: int = 100, **fields: Any) -> Replay:
    replay = registered()
    replay.take(replay.make_hold(steps=steps, **fields))
    return replay


def test_a_hold_may_fill_the_budget_and_not_pass_it() -> None:
    replay = registered()
    assert ALL * 0.02 <= population().budget.rho < (ALL + 1) * 0.02
    assert allow_hold(replay.state, replay.make_hold(steps=ALL))
    with pytest.raises(BudgetExceeded, match=r"0 of epsilon 8 is claimed.*it would be 8\.0") as caught:
        allow_hold(replay.state, replay.make_hold(steps=ALL + 1))
    error = caught.value
    assert (error.population, error.rule, error.allowed) == ("heart", "budget", 8.0)
    assert error.asked is not None
    assert error.asked > 8.0


def test_the_same_hold_again_is_nothing_new_and_another_under_its_name_is_refused() -> None:
    replay = held()
    assert not allow_hold(replay.state, replay.make_hold())
    assert not allow_hold(replay.state, replay.make_hold(train=(gaussian(60), gaussian(40))))
    changes: list[dict[str, Any]] = [
        {"steps": 99},
        {"epsilon_cap": 5.0},
        {"delta": 1e-6},
        {"guarantee": "none"},
        {"holdout": (gaussian(1),)},
    ]
    for change in changes:
        with pytest.raises(NotHeld, match="a changed study has another hash"):
            allow_hold(replay.state, replay.make_hold(**change))
    replay.register("lung")
    with pytest.raises(NotHeld, match="another population"):
        allow_hold(replay.state, replay.make_hold("lung"))


def test_a_released_study_may_be_held_again_through_the_filter() -> None:
    replay = held()
    replay.take(replay.make_reserve(1))
    replay.add(Release, study=ONE.study_hash)
    assert allow_hold(replay.state, replay.make_hold())
    replay.take(replay.make_hold("heart", TWO, ALL - 20))
    with pytest.raises(BudgetExceeded):
        allow_hold(replay.state, replay.make_hold())


def test_the_studys_own_cap_is_by_pld() -> None:
    """Known answer: 100 releases of sigma 10 are one of sigma 1, epsilon 4.3772 at delta 1e-5."""
    replay = registered()
    assert allow_hold(replay.state, replay.make_hold(epsilon_cap=4.378))
    with pytest.raises(BudgetExceeded, match=r"cost epsilon 4\.377 .*at most 4\.37 ") as caught:
        allow_hold(replay.state, replay.make_hold(epsilon_cap=4.37))
    assert caught.value.rule == "epsilon_cap"
    with pytest.raises(BudgetExceeded):
        allow_hold(replay.state, replay.make_hold(steps=1, holdout=(gaussian(100),), epsilon_cap=4.37))


def test_truncated_batches_need_a_public_number() -> None:
    replay = Replay()
    open_number = replace(population(), adjacency="add-remove", persons=None)
    replay.add(Register, population=open_number, row_is_person=False)
    event = TruncatedPoissonGaussian(
        noise_multiplier=5.0, sampling_probability=0.1, cap=60, persons=303, count=1
    )
    with pytest.raises(PopulationError, match="need 'zero-out'"):
        allow_hold(replay.state, replay.make_hold(train=(event,)))


def windowed(first: date, last: date) -> Replay:
    replay = Replay()
    budget = Budget(8.0, 1e-5, 4.0, first, last)
    replay.add(Register, population=replace(population(), budget=budget), row_is_person=False)
    return replay


def test_outside_its_window_a_budget_grants_nothing() -> None:
    for replay in (
        windowed(date(2020, 1, 1), date(2020, 12, 31)),
        windowed(date(2030, 1, 1), date(2030, 12, 31)),
    ):
        with pytest.raises(BudgetExceeded, match=f"and the ledger's day is {TODAY}") as caught:
            allow_hold(replay.state, replay.make_hold(steps=1))
        assert caught.value.rule == "window"
        assert left(replay.state, "heart", TODAY) == 0.0
        assert fits(replay.state, "heart", {"train": [gaussian(1)]}, TODAY) == 0


def test_a_hold_does_not_outlive_the_window() -> None:
    replay = windowed(TODAY, TODAY)
    replay.take(replay.make_hold(steps=50))
    allow_reserve(replay.state, replay.make_reserve(1))
    replay.now += 24 * 3600 * 1000
    with pytest.raises(BudgetExceeded, match="window"):
        allow_reserve(replay.state, replay.make_reserve(1))


def test_a_round_needs_a_hold_that_knows_its_event() -> None:
    replay = held()
    with pytest.raises(NotHeld, match="nothing is held"):
        allow_reserve(replay.state, replay.make_reserve(1, TWO))
    for wrong in ({"event": gaussian(1, 2.0)}, {"partition": "holdout"}):
        with pytest.raises(NotHeld, match="no part of the plan"):
            allow_reserve(replay.state, replay.make_reserve(1, **wrong))
    with pytest.raises(NotHeld, match=r"event.count=0: must be at least 1"):
        allow_reserve(replay.state, replay.make_reserve(1, count=0))
    replay.add(Release, study=ONE.study_hash)
    with pytest.raises(NotHeld, match="has ended"):
        allow_reserve(replay.state, replay.make_reserve(1))


def test_exact_sums_may_be_recorded_where_nothing_is_promised() -> None:
    replay = Replay()
    replay.add(Register, population=replace(population(), guarantee="none"), row_is_person=False)
    replay.take(replay.make_hold(train=()))
    allow_reserve(replay.state, replay.make_reserve(1, count=0))


def test_a_round_is_answered_once() -> None:
    replay = held()
    number = replay.take(replay.make_reserve(1))
    with pytest.raises(RoundOpen, match="a running process"):
        allow_reserve(replay.state, replay.make_reserve(1))
    replay.add(Commit, reservation=number, executed=10, reply_hash="reply", model_hash="")
    with pytest.raises(DuplicateRound, match="charged once") as caught:
        allow_reserve(replay.state, replay.make_reserve(1))
    assert (caught.value.order_hash, caught.value.reply_hash) == ("order-1", "reply")
    allow_reserve(replay.state, replay.make_reserve(1, purpose="statistics"))
    allow_reserve(replay.state, replay.make_reserve(2))


def test_a_round_lost_in_a_crash_may_be_repeated_and_is_charged_again() -> None:
    replay = held(steps=10)
    replay.add(SpentByCrash, reservation=replay.take(replay.make_reserve(1)))
    allow_reserve(replay.state, replay.make_reserve(1))
    replay.add(SpentByCrash, reservation=replay.take(replay.make_reserve(1)))
    assert sum(replay.state.studies[ONE.study_hash].done("train").values()) == 20


def test_repetitions_stop_at_the_budget() -> None:
    replay = held(steps=ALL)
    replay.add(SpentByCrash, reservation=replay.take(replay.make_reserve(1, count=ALL)))
    with pytest.raises(BudgetExceeded):
        allow_reserve(replay.state, replay.make_reserve(1, count=1))


def test_repetitions_stop_at_the_studys_cap() -> None:
    replay = held(steps=100, epsilon_cap=4.5)
    replay.add(SpentByCrash, reservation=replay.take(replay.make_reserve(1, count=100)))
    allow_reserve(replay.state, replay.make_reserve(1, count=1))
    with pytest.raises(BudgetExceeded) as caught:
        allow_reserve(replay.state, replay.make_reserve(1, count=50))
    assert caught.value.rule == "epsilon_cap"


def test_past_spending_that_comes_to_light_stops_rounds_that_were_held() -> None:
    replay = held(steps=ALL)
    allow_reserve(replay.state, replay.make_reserve(1))
    replay.add(Import, population="heart", events=(gaussian(1),), note="")
    with pytest.raises(BudgetExceeded):
        allow_reserve(replay.state, replay.make_reserve(1))


def test_unknown_overlap_adds_up_in_both_budgets() -> None:
    replay = held(steps=100)
    other = population("lung", epsilon=20.0)
    replay.add(Register, population=other, row_is_person=False)
    replay.dataset("lung", "unknown")
    assert allow_hold(replay.state, replay.make_hold("lung", TWO, ALL - 100))
    with pytest.raises(BudgetExceeded, match=r"population 'heart'.*overlap with 'lung' is unknown"):
        allow_hold(replay.state, replay.make_hold("lung", TWO, ALL - 99))
    assert fits(replay.state, "lung", {"train": [gaussian(1)]}, TODAY) == ALL - 100
    assert fits(replay.state, "heart", {"train": [gaussian(1)]}, TODAY) == ALL - 100


def test_a_closed_window_of_another_population_does_not_count() -> None:
    replay = held(steps=ALL)
    closed = Budget(8.0, 1e-5, 4.0, date(2020, 1, 1), date(2020, 12, 31))
    replay.add(Register, population=replace(population("lung"), budget=closed), row_is_person=False)
    assert left(replay.state, "lung", TODAY) == 0.0
    assert fits(replay.state, "heart", {"train": [gaussian(1)]}, TODAY) == 0
    other = registered()
    other.add(Register, population=replace(population("lung"), budget=closed), row_is_person=False)
    assert fits(other.state, "heart", {"train": [gaussian(1)]}, TODAY) == ALL
    assert allow_hold(other.state, other.make_hold(steps=ALL))


@given(st.integers(0, ALL), st.integers(1, 60))
def test_what_is_said_to_fit_fits_and_no_more(spent: int, size: int) -> None:
    replay = held(steps=spent) if spent else registered()
    times = fits(replay.state, "heart", {"train": [gaussian(size)]}, TODAY)
    assert times == (ALL - spent) // size
    if times:
        assert allow_hold(replay.state, replay.make_hold(of=TWO, steps=times * size))
    with pytest.raises(BudgetExceeded):
        allow_hold(replay.state, replay.make_hold(of=TWO, steps=(times + 1) * size))


def test_what_fits_is_asked_of_a_known_population_and_a_cost() -> None:
    replay = registered()
    with pytest.raises(PopulationError, match="'lung': is not registered"):
        fits(replay.state, "lung", {"train": [gaussian(1)]}, TODAY)
    with pytest.raises(BudgetError, match="cost nothing"):
        fits(replay.state, "heart", {}, TODAY)


def changed(**fields: Any) -> Population:
    return replace(population(), **fields)


def rebudgeted(**fields: Any) -> Population:
    return replace(population(), budget=replace(population().budget, **fields))


@pytest.mark.parametrize(
    ("new", "named"),
    [
        (changed(unit="record"), "unit"),
        (changed(unit_column="row"), "unit_column"),
        (changed(adjacency="add-remove"), "adjacency"),
        (changed(persons=500), "persons"),
        (changed(persons=200), "persons"),
        (changed(guarantee="none"), "guarantee"),
        (rebudgeted(epsilon=8.1), "budget.epsilon"),
        (rebudgeted(delta=2e-5), "budget.delta"),
        (rebudgeted(order=5.0), "budget.order"),
        (rebudgeted(starts=date(2025, 1, 1), ends=date(2025, 12, 31)), "budget.starts, budget.ends"),
    ],
)
def test_what_only_a_steward_may_change(new: Population, named: str) -> None:
    replay = registered()
    with pytest.raises(PopulationError, match=f"'heart', {named}: differs"):
        allow_population(replay.state, new, amend=False)
    assert allow_population(replay.state, new, amend=True)


def test_a_new_population_is_allowed_the_same_again_is_nothing_and_a_smaller_budget_anybodys() -> None:
    replay = registered()
    assert allow_population(replay.state, population("lung"), amend=False)
    assert not allow_population(replay.state, population(), amend=False)
    assert allow_population(replay.state, rebudgeted(epsilon=7.0), amend=False)
    assert allow_population(replay.state, rebudgeted(delta=1e-6), amend=False)


def test_the_order_is_fixed_by_the_first_claim() -> None:
    replay = held()
    with pytest.raises(PopulationError, match="protects nobody"):
        allow_population(replay.state, rebudgeted(order=5.0), amend=True)


def test_no_guarantee_cannot_become_one() -> None:
    replay = Replay()
    replay.add(Register, population=changed(guarantee="none"), row_is_person=False)
    with pytest.raises(PopulationError, match="stays 'none'"):
        allow_population(replay.state, population(), amend=True)


def test_only_an_open_reservation_of_the_same_handle_can_be_ended() -> None:
    replay = held()
    number = replay.take(replay.make_reserve(1))
    assert open_reservation(replay.state, number, "me").charged == 10
    with pytest.raises(ReservationError, match="another process"):
        open_reservation(replay.state, number, "you")
    with pytest.raises(ReservationError, match="no such"):
        open_reservation(replay.state, 99, "me")
    replay.add(SpentByCrash, reservation=number)
    with pytest.raises(ReservationError, match=r"ended already \(spent-by-crash\)"):
        open_reservation(replay.state, number, "me")


def test_lookups_name_what_is_missing() -> None:
    replay = held()
    assert held_study(replay.state, ONE.study_hash) is known_study(replay.state, ONE.study_hash)
    assert known_population(replay.state, "heart").population == population()
    with pytest.raises(NotHeld):
        known_study(replay.state, "x")
