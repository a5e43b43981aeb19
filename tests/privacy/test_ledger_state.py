"""The replay: what entries add up to, and sequences that no ledger of ours would write."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from tests.privacy.ledgers import IDENTITY, ONE, Replay, gaussian, population, study
from vestry_privacy.budget import Budget
from vestry_privacy.ledger_entries import (
    Amend,
    Commit,
    Create,
    Import,
    Reconcile,
    Register,
    Release,
    SpentByCrash,
    Void,
)
from vestry_privacy.ledger_errors import LedgerTampered
from vestry_privacy.ledger_state import LedgerState, day_of

PER_STEP = 4.0 / (2 * 10.0**2)
"""D of one release at order 4."""


def held() -> Replay:
    replay = Replay()
    replay.register()
    replay.take(replay.make_hold())
    return replay


def claimed(replay: Replay, name: str = "heart") -> float:
    """In steps."""
    return replay.state.claimed(name) / PER_STEP


def done(replay: Replay) -> int:
    return sum(replay.state.studies[ONE.study_hash].done("train").values())


def test_a_hold_claims_the_whole_study_and_rounds_within_it_nothing_more() -> None:
    replay = held()
    assert claimed(replay) == pytest.approx(100)
    first = replay.take(replay.make_reserve(1, count=30))
    assert claimed(replay) == pytest.approx(100)
    assert done(replay) == 30
    replay.add(Commit, reservation=first, executed=20, reply_hash="r", model_hash="")
    assert done(replay) == 20
    assert replay.state.reservation(first).reply_hash == "r"


def test_a_void_charges_nothing_and_a_crash_all() -> None:
    replay = held()
    voided, crashed = replay.take(replay.make_reserve(1)), None
    replay.add(Void, reservation=voided, reason="no rows")
    assert done(replay) == 0
    crashed = replay.take(replay.make_reserve(1))
    replay.add(SpentByCrash, reservation=crashed)
    assert done(replay) == 10
    assert replay.state.open == set()


def test_a_release_gives_back_what_was_not_done() -> None:
    replay = held()
    replay.take(replay.make_reserve(1, count=30))
    replay.add(Release, study=ONE.study_hash)
    assert claimed(replay) == pytest.approx(30)


def test_a_study_that_is_held_again_keeps_what_it_did() -> None:
    replay = held()
    replay.take(replay.make_reserve(1, count=30))
    replay.add(Release, study=ONE.study_hash)
    replay.take(replay.make_hold())
    assert claimed(replay) == pytest.approx(100)
    assert done(replay) == 30
    assert len(replay.state.studies[ONE.study_hash].attempts("train", 1)) == 1


def test_repetitions_beyond_the_hold_are_claimed() -> None:
    replay = held()
    for number in range(12):
        replay.take(replay.make_reserve(number, count=10))
    assert claimed(replay) == pytest.approx(120)


def test_studies_add_up_and_partitions_do_not() -> None:
    replay = held()
    replay.take(replay.make_hold(of=study("two"), steps=50, holdout=(gaussian(70),)))
    assert claimed(replay) == pytest.approx(170)


def test_imports_and_reconciliations_are_claimed_of_everybody() -> None:
    replay = held()
    replay.add(Import, population="heart", events=(gaussian(7),), note="2024")
    replay.add(Reconcile, charged={"heart": (gaussian(5),)}, note="disk", lost_seq=0, lost_hash="")
    assert claimed(replay) == pytest.approx(112)
    assert replay.state.reconciled == 1


def test_checked_populations_stand_alone_and_unknown_ones_add_up() -> None:
    replay = held()
    replay.register("lung")
    replay.take(replay.make_hold("lung", study("two"), 30))
    assert claimed(replay) == pytest.approx(100)
    assert claimed(replay, "lung") == pytest.approx(30)
    assert replay.state.with_overlap("heart") == ("heart",)
    unknown = population("kidney")
    replay.add(Register, population=unknown, row_is_person=False)
    replay.dataset("kidney", "unknown")
    replay.take(replay.make_hold("kidney", study("three"), 5))
    assert claimed(replay) == pytest.approx(105)
    assert claimed(replay, "lung") == pytest.approx(35)
    assert claimed(replay, "kidney") == pytest.approx(135)
    replay.dataset("kidney", "checked")
    assert claimed(replay) == pytest.approx(100)


def test_a_population_that_held_before_its_data_were_declared_stays_unknown() -> None:
    replay = Replay()
    replay.register()
    replay.add(Register, population=population("lung"), row_is_person=False)
    replay.take(replay.make_hold("lung", study("two"), 30))
    replay.dataset("lung", "checked")
    assert claimed(replay) == pytest.approx(30)


def test_claims_are_counted_at_the_order_of_the_budget_they_are_on() -> None:
    replay = Replay()
    replay.register(order=6.0)
    replay.take(replay.make_hold())
    assert replay.state.claimed("heart") == pytest.approx(100 * 6.0 / 200)


def at(year: int, month: int, day: int) -> int:
    return int(datetime(year, month, day, 12, tzinfo=UTC).timestamp() * 1000)


def test_a_window_counts_what_touches_it() -> None:
    replay = Replay(at(2024, 6, 1))
    replay.register()
    replay.take(replay.make_hold(steps=10))
    early = replay.take(replay.make_reserve(1, count=1))
    replay.add(Commit, reservation=early, executed=1, reply_hash="", model_hash="")
    replay.add(Import, population="heart", events=(gaussian(1),), note="2023")
    replay.now = at(2024, 12, 31)
    across = replay.take(replay.make_reserve(2, count=2))
    replay.now = at(2025, 1, 1)
    replay.add(Commit, reservation=across, executed=2, reply_hash="", model_hash="")
    replay.take(replay.make_reserve(3, count=4))
    replay.add(Release, study=ONE.study_hash)
    assert claimed(replay) == pytest.approx(8)
    year = Budget(8.0, 1e-5, 4.0, date(2025, 1, 1), date(2025, 12, 31))
    replay.add(Amend, population=replace(population(), budget=year), row_is_person=False)
    assert claimed(replay) == pytest.approx(6)


def test_an_open_reservation_counts_in_every_later_window() -> None:
    replay = Replay(at(2024, 6, 1))
    replay.register()
    replay.take(replay.make_hold(steps=10))
    number = replay.take(replay.make_reserve(1, count=4))
    reservation = replay.state.reservation(number)
    year = Budget(8.0, 1e-5, 4.0, date(2030, 1, 1), date(2030, 12, 31))
    past = Budget(8.0, 1e-5, 4.0, date(2020, 1, 1), date(2020, 12, 31))
    assert (reservation.done_in(year), reservation.done_in(past), reservation.done_in(None)) == (4, 0, 4)


def test_a_day_is_in_utc() -> None:
    assert day_of(at(2025, 3, 1)) == date(2025, 3, 1)
    assert day_of(at(2025, 3, 1) + 12 * 3600 * 1000 - 1) == date(2025, 3, 1)
    assert day_of(at(2025, 3, 1) + 12 * 3600 * 1000) == date(2025, 3, 2)


def two_ends(replay: Replay) -> None:
    number = replay.take(replay.make_reserve(1))
    replay.add(Void, reservation=number, reason="")
    replay.add(Commit, reservation=number, executed=1, reply_hash="", model_hash="")


def too_much(replay: Replay) -> None:
    number = replay.take(replay.make_reserve(1, count=3))
    replay.add(Commit, reservation=number, executed=4, reply_hash="", model_hash="")


def after_release(replay: Replay) -> None:
    replay.add(Release, study=ONE.study_hash)
    replay.take(replay.make_reserve(1))


def back_in_time(replay: Replay) -> None:
    replay.now -= 1
    replay.add(Release, study=ONE.study_hash)


def moved(replay: Replay) -> None:
    replay.register("lung")
    replay.take(replay.make_hold("lung"))


@pytest.mark.parametrize(
    ("forge", "said"),
    [
        (two_ends, "a second time"),
        (too_much, "more than was reserved"),
        (after_release, "has ended"),
        (back_in_time, "before the time"),
        (moved, "another population"),
        (lambda replay: replay.register(), "registers a population twice"),
        (lambda replay: replay.add(Amend, population=population("x"), row_is_person=False), "amends none"),
        (lambda replay: replay.add(Create, public_key="0" * 64, ledger="0" * 64), "only the first"),
        (lambda replay: replay.add(Release, study="unknown"), "no earlier entry"),
        (lambda replay: replay.add(SpentByCrash, reservation=99), "no earlier entry"),
        (lambda replay: replay.take(replay.make_reserve(1, study("two"))), "no earlier entry"),
        (lambda replay: replay.take(replay.make_hold("lung")), "no earlier entry"),
        (lambda replay: replay.dataset("lung", "checked"), "no earlier entry"),
        (lambda replay: replay.add(Import, population="lung", events=(), note=""), "no earlier entry"),
    ],
)
def test_what_no_ledger_writes_is_refused(forge: Callable[[Replay], object], said: str) -> None:
    replay = held()
    with pytest.raises(LedgerTampered, match=said) as caught:
        forge(replay)
    assert caught.value.broken == "meaning"


def test_a_ledger_begins_with_its_creation() -> None:
    entry = Replay().make(Release, study="x")
    with pytest.raises(LedgerTampered, match="only the first"):
        LedgerState().apply(entry.model_copy(update={"seq": 1}))
    assert Replay().state.public_key == IDENTITY.public_key
