"""One secure sum over an exchange: who falls out at which step, what stops it, and that it is exact."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from tests.server.scripted import SIZE, obedient, update
from tests.server.secure_scripted import SECURE, Meddle, SecureScripted, untouched
from tests.strategies.samples import make_study
from vestry_privacy.secagg.errors import PlanRefused
from vestry_privacy.secagg.plan import Plan, tolerated_dropouts
from vestry_privacy.secagg.shamir import split
from vestry_privacy.secagg.transcript import verify_transcript
from vestry_server.secure_run import SecureRun
from vestry_server.secure_sum import SecureSum, SumFailed, secure_sum
from vestry_strategies.orders import (
    EvaluateReply,
    MaskedReply,
    Order,
    Refusal,
    Reply,
    SecureOrder,
    SecureReply,
    TrainOrder,
)
from vestry_strategies.parameters import model_hash
from vestry_strategies.secure_plan import configuration_hash, round_plan

STUDY = make_study(SECURE)
MODEL = np.zeros(SIZE, dtype=np.float32)
STEPS = ("keys", "shares", "deliver", "input", "survivors", "unmask")
VALUES = {name: float(number) for number, name in enumerate("abcdefghijklmnopqrst", start=1)}


def script(site: str, order: Order) -> Reply | None:
    if isinstance(order, TrainOrder):
        return update(site, order.round, VALUES[site] / 4, 10.0 * VALUES[site])
    return obedient(site, order)


def make_plan(sites: SecureScripted, sequence: int = 1, **changes: Any) -> Plan:
    plan = round_plan(
        STUDY,
        run="run",
        kind="train",
        round=1,
        sequence=sequence,
        directory=sites.directory,
        roster=sites.directory.roster(),
        model=bytes.fromhex(model_hash(MODEL)),
        configuration=configuration_hash({}, {}),
        values=SIZE,
        wide=2,
        weight_limit=1000,
    )
    return replace(plan, **changes)


def run_of(sites: SecureScripted, folder: Path | None = None) -> SecureRun:
    return SecureRun(sites.directory, sites.coordinator, "run", transcripts=folder)


def add_up(sites: SecureScripted, secure: SecureRun | None = None, sequence: int = 1) -> SecureSum:
    order = TrainOrder(STUDY.to_json(), 1, 0, MODEL)
    plan = make_plan(sites, sequence)
    return secure_sum(sites, secure or run_of(sites), STUDY.to_json(), plan, order)


def step_of(order: Order) -> str:
    return order.step if isinstance(order, SecureOrder) else "input"


def lost_at(step: str, *names: str) -> Meddle:
    """These sites are silent from a step on."""

    def meddle(site: str, order: Order, reply: Reply) -> Reply | None:
        late = STEPS.index(step_of(order)) >= STEPS.index(step)
        return None if site in names and late else reply

    return meddle


def exact(found: SecureSum) -> None:
    """The sum is that of the sites that it names, to a step of the ring each."""
    weight = sum(10 * VALUES[site] for site in found.sites)
    mean = sum(10 * VALUES[site] * VALUES[site] / 4 for site in found.sites) / weight
    assert found.total.weight == weight
    assert found.total.sites == len(found.sites)
    bound = len(found.sites) * found.plan.ring.step * found.plan.weight_limit / weight
    np.testing.assert_allclose(found.total.values / weight, mean, atol=bound, rtol=0)
    np.testing.assert_allclose(found.total.wide, [0.5 * weight, 0.0], rtol=1e-12)


def test_a_sum_is_of_all_sites_and_names_them() -> None:
    sites = SecureScripted(script=script)
    found = add_up(sites)
    exact(found)
    assert found.sites == ("a", "b", "c", "d")
    assert found.left_out == {}
    asked = [step_of(order) for site, order in sites.asked if site == "a"]
    assert asked == list(STEPS)


@pytest.mark.parametrize("count", [4, 5, 10, 20])
@pytest.mark.parametrize("step", STEPS)
def test_sites_lost_at_any_step_are_recovered_from(count: int, step: str) -> None:
    names = tuple(sorted(VALUES))[:count]
    lost = names[: tolerated_dropouts(count)]
    sites = SecureScripted(names, script, lost_at(step, *lost))
    found = add_up(sites)
    exact(found)
    if step in {"survivors", "unmask"}:
        assert found.sites == names  # their input is in it
        assert found.left_out == {}
    else:
        assert found.sites == tuple(name for name in names if name not in lost)
        assert found.left_out == dict.fromkeys(lost, "no reply before the deadline")


@pytest.mark.parametrize("count", [3, 4])
@pytest.mark.parametrize("step", STEPS)
def test_one_too_many_lost_ends_the_sum_and_nothing_is_unmasked(count: int, step: str) -> None:
    names = tuple(sorted(VALUES))[:count]
    lost = names[: tolerated_dropouts(count) + 1]
    sites = SecureScripted(names, script, lost_at(step, *lost))
    with pytest.raises(SumFailed, match="needed are 3 of the") as caught:
        add_up(sites)
    assert caught.value.left_out == dict.fromkeys(lost, "no reply before the deadline")
    if step != "unmask":  # where those who have given shares have given fewer than can unmask
        assert not any(line[0] == "reveal" for seat in sites.seats.values() for line in seat.notes.lines)


def test_nobody_left_is_said_too() -> None:
    for step in STEPS:
        sites = SecureScripted(script=script, meddle=lost_at(step, "a", "b", "c", "d"))
        with pytest.raises(SumFailed, match="nothing is unmasked"):
            add_up(sites)


def test_a_refusal_is_a_reason() -> None:
    def refusing(site: str, order: Order) -> Reply | None:
        if site == "b" and isinstance(order, TrainOrder):
            return Refusal("b", "diverged", "its loss is not finite")
        return script(site, order)

    found = add_up(SecureScripted(script=refusing))
    exact(found)
    assert found.left_out == {"b": "diverged: its loss is not finite"}


def test_a_site_that_is_not_connected_keeps_its_seat() -> None:
    sites = SecureScripted(script=script, absent=("c",))
    found = add_up(sites)
    exact(found)
    assert found.left_out == {"c": "is not connected"}
    assert len(found.plan.roster) == 4


ODD: dict[str, Any] = {
    "another type": lambda reply: EvaluateReply(reply.site, 1, {}),
    "another plan": lambda reply: replace(reply, plan="0" * 64),
    "changed words": lambda reply: replace(reply, vector=reply.vector + np.uint64(1)),
    "fewer words": lambda reply: replace(reply, vector=reply.vector[:-1]),
    "no array": lambda reply: replace(reply, vector=[1, 2]),
    "floats": lambda reply: replace(reply, vector=reply.vector.astype(np.float64)),
    "a table": lambda reply: replace(reply, vector=reply.vector.reshape(1, -1)),
    "another round": lambda reply: replace(reply, round=2),
    "a broken header": lambda reply: replace(reply, header=reply.header[:-9] + bytes(9)),
    "no header": lambda reply: replace(reply, header=b""),
    "a header in words": lambda reply: replace(reply, header="header"),
}


@pytest.mark.parametrize("what", sorted(ODD))
def test_input_that_is_not_what_was_signed_is_left_out_and_adds_nothing(what: str) -> None:
    def meddle(site: str, order: Order, reply: Reply) -> Reply | None:
        if site == "a" and isinstance(reply, MaskedReply):
            made: Reply = ODD[what](reply)
            return made
        return reply

    found = add_up(SecureScripted(script=script, meddle=meddle))
    exact(found)
    assert found.sites == ("b", "c", "d")
    assert list(found.left_out) == ["a"]


@pytest.mark.parametrize("step", ["keys", "shares", "deliver", "survivors", "unmask"])
@pytest.mark.parametrize("change", ["flip", "empty", "another site's", "another step", "clear", "text"])
def test_a_message_that_breaks_a_rule_loses_its_site_only(step: str, change: str) -> None:
    """`a` says something else at a step; four sites can lose one."""
    heard: dict[str, SecureReply] = {}

    def meddle(site: str, order: Order, reply: Reply) -> Reply | None:
        if not isinstance(reply, SecureReply) or reply.step != step:
            return reply
        heard[site] = reply
        if site != "d":
            return reply
        flipped = bytes([*reply.message[:-1], reply.message[-1] ^ 1])
        changed: dict[str, Reply] = {
            "flip": replace(reply, message=flipped),
            "empty": replace(reply, message=b""),
            "another site's": replace(reply, message=heard["a"].message),
            "another step": replace(reply, step="keys" if step != "keys" else "unmask"),
            "clear": update("d", 1),
            "text": replace(reply, message=cast("bytes", "text")),
        }
        return changed[change]

    found = add_up(SecureScripted(script=script, meddle=meddle))
    exact(found)
    if step in {"survivors", "unmask"}:
        assert found.sites == ("a", "b", "c", "d")
    else:
        assert found.sites == ("a", "b", "c")
        assert list(found.left_out) == ["d"]


def test_a_second_reply_and_a_strangers_change_nothing() -> None:
    class Twice(SecureScripted):
        def send(self, orders: Any, deadline_seconds: float) -> Any:
            for reply in super().send(orders, deadline_seconds):
                yield reply
                yield reply
                yield replace(reply, site="stranger")

    found = add_up(Twice(script=script))
    exact(found)
    assert found.left_out == {}


def test_the_bytes_of_all_steps_are_counted() -> None:
    sites = SecureScripted(script=script)
    up: list[int] = []

    def meddle(site: str, order: Order, reply: Reply) -> Reply | None:
        if isinstance(reply, MaskedReply):
            up.append(reply.vector.nbytes + len(reply.header))
        elif isinstance(reply, SecureReply):
            up.append(len(reply.message))
        return reply

    sites.meddle = meddle
    found = add_up(sites)
    assert found.bytes_up == sum(up)
    sent = [len(order.message) for _, order in sites.asked if isinstance(order, SecureOrder)]
    assert found.bytes_down == sum(sent) + 4 * MODEL.nbytes


def test_large_messages_go_out_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shares of each site are its own; what all are told is one message, however many they are."""
    groups: list[tuple[str, int]] = []

    class Counting(SecureScripted):
        def send(self, orders: Any, deadline_seconds: float) -> Any:
            groups.append((step_of(next(iter(orders.values()))), len(orders)))
            return super().send(orders, deadline_seconds)

    monkeypatch.setattr("vestry_server.secure_sum._TOGETHER", 4000)
    found = add_up(Counting(script=script, meddle=lost_at("deliver", "b")))
    exact(found)
    assert found.left_out == {"b": "no reply before the deadline"}
    assert [count for step, count in groups if step != "deliver"] == [4, 4, 3, 3, 3]
    assert sum(count for step, count in groups if step == "deliver") == 4
    assert max(count for step, count in groups if step == "deliver") < 4


def test_a_convicted_dealer_ends_the_sum_and_is_asked_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """`d` deals shares that it committed to, and that are above the field's prime."""
    sites = SecureScripted(script=script)

    def bad_split(secret: Any, threshold: int, holders: Any, entropy: Any) -> Any:
        shares = split(secret, threshold, holders, entropy)
        return dict.fromkeys(shares, b"\xff" * 33) if sites.asked[-1][0] == "d" else shares

    monkeypatch.setattr("vestry_privacy.secagg.deals.split", bad_split)
    secure = run_of(sites)
    with pytest.raises(SumFailed, match="dealt bad ones") as caught:
        add_up(sites, secure)
    assert "d" in caught.value.left_out
    assert list(secure.convicted) == ["d"]
    assert all(seat.notes.lines == [] for seat in sites.seats.values())  # before any input left
    sites.asked.clear()
    found = add_up(sites, secure, sequence=2)
    exact(found)
    assert found.sites == ("a", "b", "c")
    assert "convicted in this run" in found.left_out["d"]
    assert "d" not in {site for site, _ in sites.asked}


def test_a_transcript_is_kept_and_verifies(tmp_path: Path) -> None:
    sites = SecureScripted(script=script, meddle=lost_at("input", "a"))
    secure = run_of(sites, tmp_path / "transcripts")
    found = add_up(sites, secure)
    (path,) = (tmp_path / "transcripts").iterdir()
    report = verify_transcript(path.read_bytes())
    assert report.plan == found.plan
    assert sorted(report.survivors) == list(found.sites)
    assert report.lost == ("a",)
    assert report.sum_of_weights == found.total.weight


def test_a_failed_sum_leaves_no_transcript(tmp_path: Path) -> None:
    sites = SecureScripted(("a", "b", "c"), script, lost_at("input", "a"))
    with pytest.raises(SumFailed):
        add_up(sites, run_of(sites, tmp_path / "transcripts"))
    assert not (tmp_path / "transcripts").exists()


def test_a_plan_that_no_site_would_take_is_a_defect_here() -> None:
    sites = SecureScripted(script=script)
    order = TrainOrder(STUDY.to_json(), 1, 0, MODEL)
    with pytest.raises(PlanRefused, match="threshold"):
        secure_sum(sites, run_of(sites), STUDY.to_json(), make_plan(sites, threshold=2), order)
    assert sites.asked == []


def test_public_parts_come_beside_the_sum() -> None:
    def meddle(site: str, order: Order, reply: Reply) -> Reply | None:
        if isinstance(reply, MaskedReply):
            weight: Any = "heavy" if site == "b" else 40
            return replace(reply, spent=("{}",), weight=weight)
        return untouched(site, order, reply)

    found = add_up(SecureScripted(script=script, meddle=meddle))
    assert found.public["a"].weight == 40
    assert found.public["b"].weight is None
    assert found.public["c"].spent == ("{}",)
