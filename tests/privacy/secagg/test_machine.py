"""Whatever an adversary does to the messages, and whenever a site restarts: a sum is exact, or it is none.

A state machine over real sites, server and journals on disk. It also brings back states that a site has used
up, as a snapshot of its memory would: then the journal alone stands between the site and a second signature.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.privacy.secagg.hostile_net import Down, HostileNet, Up
from tests.privacy.secagg.real_run import RealRun
from tests.privacy.secagg.reference_cases import Wish, make_case
from tests.privacy.secagg.reference_run import STEPS
from vestry_privacy.secagg import client
from vestry_privacy.secagg.errors import TooFewSites
from vestry_privacy.secagg.plan import threshold, tolerated_dropouts

PLACES = st.integers(0, 10_000)
NEXT = {  # what a site in a state is waiting for
    client.Advertised: "roster-keys",
    client.Dealt: "deliver",
    client.Ready: "order",
    client.Masked: "survivors",
    client.Agreed: "unmask",
    client.Revealing: "unmask",  # and never again
}


def check(net: HostileNet) -> None:
    """What must hold at every moment."""
    for (_, step, _), times in net.egress.left.items():
        assert times == 1 or step in ("keys", "shares", "ready")
    assert all(times == 1 for times in net.egress.models.values())
    for users in net.egress.keys.values():
        assert len({plan for plan, _ in users}) == 1
        assert len(users) == len(set(users)) <= 2
    for plan, survivors, found in net.results:
        weight, values, wide = net.expected(plan, survivors)
        assert (found.weight, found.sites) == (weight, len(survivors))
        assert len(survivors) >= plan.threshold
        np.testing.assert_allclose(found.wide, [wide])
        error = len(survivors) * plan.ring.step * plan.weight_limit
        assert np.abs(found.values - values).max() < error


class SecureSums(RuleBasedStateMachine):
    """Rules are what an adversary on the network, or a failing site, can do."""

    @initialize(sites=st.sampled_from([4, 5, 7, 3]))
    def federation(self, sites: int) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.net = HostileNet(sites, Path(self.folder.name))
        self.net.begin(again=False)

    def teardown(self) -> None:
        if hasattr(self, "net"):
            try:
                check(self.net)
            finally:
                self.net.close()
                self.folder.cleanup()

    @rule(steps=st.sampled_from([1, 2, 6]))
    def go_on(self, steps: int) -> None:
        if self.net.server is None:
            self.net.begin(again=False)
        for _ in range(steps):
            self.net.go_on()

    @rule(steps=st.sampled_from([3, 4, 5]))
    def go_on_to_the_last_steps(self, steps: int) -> None:
        self.go_on(steps)

    @precondition(lambda self: self.net.down)
    @rule(place=PLACES, at=PLACES, flips=st.integers(0, 2))
    def answer_and_flip(self, place: int, at: int, flips: int) -> None:
        self.net.answer()
        for number in range(flips if self.net.up else 0):
            self.flip_up(place + number, at, number)

    @rule(again=st.booleans(), place=PLACES)
    def begin(self, again: bool, place: int) -> None:
        if self.net.server is None or place % 4 == 0:
            self.net.begin(again=again)

    @precondition(lambda self: self.net.up)
    @rule(place=PLACES)
    def deliver_up(self, place: int) -> None:
        self.net.collect(self.net.up.pop(place % len(self.net.up)))

    @precondition(lambda self: self.net.down)
    @rule(place=PLACES)
    def deliver_down(self, place: int) -> None:
        self.net.read(self.net.down.pop(place % len(self.net.down)))

    @rule()
    def close_step(self) -> None:
        self.net.close_step()

    @precondition(lambda self: self.net.up)
    @rule(place=PLACES)
    def drop_up(self, place: int) -> None:
        self.net.up.pop(place % len(self.net.up))

    @precondition(lambda self: self.net.down)
    @rule(place=PLACES)
    def drop_down(self, place: int) -> None:
        self.net.down.pop(place % len(self.net.down))

    @rule(place=PLACES, later=PLACES)
    def duplicate_or_replay(self, place: int, later: int) -> None:
        one = self.net.archive[place % len(self.net.archive)]
        if isinstance(one, Up):
            self.net.up.insert(later % (len(self.net.up) + 1), one)
        else:
            self.net.down.insert(later % (len(self.net.down) + 1), one)

    @precondition(lambda self: self.net.up)
    @rule(place=PLACES, at=PLACES, bit=st.integers(0, 7))
    def flip_up(self, place: int, at: int, bit: int) -> None:
        one = self.net.up[place % len(self.net.up)]
        if one.words is not None and at % 2:
            words = one.words.copy()
            words[at % len(words)] ^= np.uint64(1 << bit)
            self.net.up[place % len(self.net.up)] = replace(one, words=words)
            return
        self.net.up[place % len(self.net.up)] = replace(one, message=flipped(one.message, at, bit))

    @precondition(lambda self: any(one.message for one in self.net.down))
    @rule(place=PLACES, at=PLACES, bit=st.integers(0, 7))
    def flip_down(self, place: int, at: int, bit: int) -> None:
        one = self.net.down[place % len(self.net.down)]
        if one.message:
            self.net.down[place % len(self.net.down)] = replace(one, message=flipped(one.message, at, bit))

    @precondition(lambda self: len(self.net.down) > 1)
    @rule(place=PLACES, other=PLACES)
    def misdirect(self, place: int, other: int) -> None:
        down = self.net.down
        one, two = place % len(down), other % len(down)
        down[one], down[two] = (
            replace(down[one], site=down[two].site),
            replace(down[two], site=down[one].site),
        )

    @rule(place=PLACES)
    def restart(self, place: int) -> None:
        self.net.restart(place % len(self.net.journals))

    @precondition(lambda self: self.net.older)
    @rule(place=PLACES, message=PLACES, latest=st.booleans())
    def snapshot(self, place: int, message: int, latest: bool) -> None:
        at, state = self.net.older[-1 - place % min(len(self.net.older), 6 if latest else 10_000)]
        found = [one for one in self.net.archive if isinstance(one, Down) and one.step == NEXT[type(state)]]
        if found:
            self.net.read(replace(found[message % len(found)], site=at), state)

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "net"):
            check(self.net)


def flipped(message: bytes, at: int, bit: int) -> bytes:
    at %= len(message)
    return message[:at] + bytes([message[at] ^ 1 << bit]) + message[at + 1 :]


SecureSums.TestCase.settings = settings(
    max_examples=80,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # shrinking takes longer than a test may
)
TestSecureSums = pytest.mark.slow(SecureSums.TestCase)


@pytest.mark.parametrize("sites", [3, 4, 5])
def test_the_network_left_alone_gives_the_sum_each_time(sites: int, tmp_path: Path) -> None:
    net = HostileNet(sites, tmp_path)
    for _ in range(3):
        net.begin(again=False)
        for _ in range(6):
            net.go_on()
    assert len(net.results) == 3
    assert not net.refused
    check(net)
    net.begin(again=True)
    assert net.refused["repeated"] == sites
    net.close()


def test_snapshots_of_every_step_meet_the_journal(tmp_path: Path) -> None:
    net = HostileNet(4, tmp_path)
    net.begin(again=False)
    for _ in range(6):
        net.go_on()
    before = dict(net.egress.left)
    for at, state in list(net.older):
        step = NEXT[type(state)]
        message = next(
            one for one in net.archive if isinstance(one, Down) and (one.step, one.site) == (step, at)
        )
        net.read(message, state)
    again = {step for (_, step, _), times in net.egress.left.items() if times > 1}
    assert not again & {"input", "consistent", "revealed"}
    assert before.keys() == net.egress.left.keys()
    check(net)
    net.close()


@pytest.mark.parametrize("forgotten", [1, 2])
def test_a_site_whose_disk_was_set_back_is_refused_by_every_other(forgotten: int, tmp_path: Path) -> None:
    net, backup = HostileNet(5, tmp_path), dict[str, bytes]()
    for number in range(3):
        if number == 3 - forgotten:
            backup = net.copy_disk(2)
        net.begin(again=False)
        for _ in range(6):
            net.go_on()
    assert len(net.results) == 3
    net.restore_disk(2, backup)
    net.begin(again=False)
    for _ in range(6):
        net.go_on()
    assert net.refused["rolled-back"] == 4
    assert len(net.results) == 3
    net.close()


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("sites", [4, 5, 10, 20])
def test_as_many_as_may_leave_at_any_one_step_and_the_sum_is_exact(sites: int, step: str) -> None:
    lost = tolerated_dropouts(sites)
    leaving = {(3 * at + 1) % sites: step for at in range(lost)}
    assert len(leaving) == lost
    exact(RealRun(make_case(Wish("drop", "", sites, leaving, values=4))).until("the end"))


@pytest.mark.parametrize("sites", [10, 20])
def test_they_may_leave_at_different_steps(sites: int) -> None:
    leaving = {at: STEPS[at % len(STEPS)] for at in range(tolerated_dropouts(sites))}
    exact(RealRun(make_case(Wish("drop", "", sites, leaving, values=4, wide=1))).until("the end"))


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("sites", [3, 4, 5, 10])
def test_one_more_ends_the_sum(sites: int, step: str) -> None:
    leaving = dict.fromkeys(range(sites - threshold(sites) + 1), step)
    run = RealRun(make_case(Wish("drop", "", sites, leaving, values=4)))
    run.until(step)
    run.send(step)
    for at, message in run.sent[step].items():
        run.collect(step, at, message)
    with pytest.raises(TooFewSites):
        run.close(step)


def exact(run: RealRun) -> None:
    seats = [run.case.seats[run.roster.index(name)] for name in run.server.u3]
    assert run.result is not None
    assert run.result.weight == sum(seat.weight for seat in seats)
    error = len(seats) * run.plan.ring.step * run.plan.weight_limit
    expected = sum(np.array(seat.values) * seat.weight for seat in seats)
    assert np.abs(run.result.values - expected).max() < error
    rows = np.array([seat.wide for seat in seats])
    np.testing.assert_allclose(run.result.wide, rows.sum(axis=0))
