"""The secrets of a sum live in one process, in one place, until a newer sum takes it."""

import copy
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from tests.client.secure_bench import open_federation
from vestry_client.secure import LiveSum, SecureSeat, fresh_rounding
from vestry_privacy.secagg.client import Advertised, Dealt, Ready
from vestry_privacy.secagg.errors import WrongStep
from vestry_privacy.secagg.plan import Plan
from vestry_strategies.orders import SecureReply

STUDY, OTHER = b"s" * 32, b"t" * 32
REPLY = SecureReply("north", "keys", "", b"")
PLAN = Plan(
    STUDY, "run", "train", 1, 1, 1, (b"a" * 32, b"b" * 32, b"c" * 32), bytes(32), bytes(32), bytes(32),
    7, 1, 21, 8.0, 10, 3, 3, b"", 60.0,
)  # fmt: skip


def live(plan: Plan = PLAN, state: object = None) -> LiveSum:
    return LiveSum(plan, b"signed", state, ("keys", "0"), REPLY)  # type: ignore[arg-type]


@pytest.fixture
def seat(tmp_path: Path) -> SecureSeat:
    with open_federation(tmp_path) as federation:
        found = federation.sites["north"].secure
        assert found is not None
        return found


def test_the_newest_sum_of_each_study_is_kept(seat: SecureSeat) -> None:
    older, newer = live(), live(replace(PLAN, sequence=2))
    other = live(replace(PLAN, study=OTHER))
    for one in (older, other, newer):
        seat.open(one)
    assert seat.find(older.plan.digest.hex()) is None
    assert seat.live(newer.plan.digest.hex()) is newer
    assert seat.live(other.plan.digest.hex()) is other
    with pytest.raises(WrongStep, match="no longer has the secrets of that round"):
        seat.live(older.plan.digest.hex())


def test_a_forgotten_study_has_no_sum(seat: SecureSeat) -> None:
    seat.open(live())
    seat.forget(OTHER)
    assert seat.find(PLAN.digest.hex()) is not None
    seat.forget(STUDY)
    seat.forget(STUDY)
    assert seat.find(PLAN.digest.hex()) is None


def test_a_state_is_taken_once_and_by_the_step_that_follows() -> None:
    state = Dealt.__new__(Dealt)
    one = live(state=state)
    for wrong in (Advertised, Ready):
        with pytest.raises(WrongStep, match="this site is at 'dealt'"):
            one.take(wrong)
    assert one.take(Dealt) is state
    with pytest.raises(WrongStep, match="nothing more of it leaves"):
        one.take(Dealt)


def test_only_the_newest_order_has_its_answer_again() -> None:
    one = live()
    assert one.again(("keys", "0")) is REPLY
    assert one.again(("keys", "1")) is None
    following = SecureReply("north", "shares", "", b"")
    one.put(None, ("shares", "2"), following)
    assert one.again(("keys", "0")) is None
    assert one.again(("shares", "2")) is following


def test_secrets_are_neither_copied_nor_pickled_nor_shown(seat: SecureSeat) -> None:
    one = live(state=Dealt.__new__(Dealt))
    for secret in (seat, one):
        for make in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="cannot be copied or pickled"):
                make(secret)
    assert "signed" not in repr(one)
    assert "Dealt" not in repr(one)


def test_rounding_cannot_be_foretold_by_default() -> None:
    seeds = {fresh_rounding("train", 1).expose() for _ in range(5)}
    assert len(seeds) == 5
    assert {len(seed) for seed in seeds} == {32}
