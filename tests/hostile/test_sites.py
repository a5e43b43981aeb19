"""Hostile sites against the real coordinator: they are left out by name, and the others' sum stands."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.client.secure_bench import Federation, open_federation
from tests.hostile.sites import SITES, FalseKey, HostileSite, HostileWire, OlderBooks
from vestry_privacy.secagg import client, vector
from vestry_privacy.secagg.roster import Roster
from vestry_privacy.secagg.vector import Shape
from vestry_server.secure_run import SecureRun
from vestry_server.secure_sum import SecureSum, SumFailed, secure_sum


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    with open_federation(tmp_path, sites=5) as found:
        yield found


def add_up(fed: Federation, wire: HostileWire, secure: SecureRun, number: int) -> SecureSum:
    order = fed.order("train", number)
    return secure_sum(wire, secure, fed.study.to_json(), fed.plan(order), order)


def open_run(fed: Federation) -> SecureRun:
    return SecureRun(fed.directory, fed.coordinator, fed.run)


@pytest.mark.parametrize("kind", SITES, ids=lambda kind: kind.__name__)
def test_a_hostile_site_harms_its_own_part_only(
    kind: type[HostileSite], federation: Federation, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    secure, name = open_run(federation), sorted(federation.sites)[2]
    liar = kind(federation, name)
    wire = HostileWire(federation, liar=liar)
    assert len(add_up(federation, wire, secure, 1).sites) == 5
    liar.lies = True
    if kind.convicted:
        with pytest.raises(SumFailed) as failed:
            add_up(federation, wire, secure, 2)
        assert kind.words in failed.value.left_out[name]
        found = add_up(federation, wire, secure, 3)
        assert "convicted" in found.left_out[name]
    else:
        found = add_up(federation, wire, secure, 2)
        assert kind.words in found.left_out.get(name, "") + caplog.text
    assert (name in found.sites) == kind.survives
    assert found.total.sites == len(found.sites) == (5 if kind.survives else 4)
    wire.check_nothing_left_unmasked()


def test_a_restored_site_is_named_by_the_coordinator_and_by_its_peers(tmp_path: Path) -> None:
    """The journal of one site is put back to an older copy: nobody adds up with it."""
    with open_federation(tmp_path, sites=5) as federation:
        secure, wire = open_run(federation), HostileWire(federation)
        name = sorted(federation.sites)[2]
        add_up(federation, wire, secure, 1)
        files = {path: path.read_bytes() for path in tmp_path.glob(f"{name}.sqlite*")}
        add_up(federation, wire, secure, 2)
        seat = federation.sites[name].secure
        assert seat is not None
        seat.journal.close()
        for path in tmp_path.glob(f"{name}.sqlite*"):
            path.unlink()
        for path, content in files.items():
            path.write_bytes(content)
        federation.restart(name)
        found = add_up(federation, wire, secure, 3)
        assert "highest head" in found.left_out[name]
        with pytest.raises(SumFailed) as failed:  # a coordinator that forgets does not help it
            add_up(federation, wire, open_run(federation), 4)
        reasons = {site: reason for site, reason in failed.value.left_out.items() if site != name}
        assert len(reasons) == 4
        assert all(f"highest head, site '{name}'" in reason for reason in reasons.values())


def test_a_site_that_shows_old_books_does_not_stop_the_others_for_ever(federation: Federation) -> None:
    """A coordinator that has forgotten its head relays it; the others refuse, and name it."""
    name = sorted(federation.sites)[2]
    liar = OlderBooks(federation, name)
    wire = HostileWire(federation, liar=liar)
    add_up(federation, wire, open_run(federation), 1)
    liar.lies = True
    secure = open_run(federation)
    with pytest.raises(SumFailed):
        add_up(federation, wire, secure, 2)
    found = add_up(federation, wire, secure, 2)
    assert "left out of this attempt" in found.left_out[name]
    secure.heads.clear()
    with pytest.raises(SumFailed):
        add_up(federation, wire, secure, 3)
    assert "convicted" in add_up(federation, wire, secure, 3).left_out[name]


@pytest.mark.parametrize("partners", [(0, 1), (0, 0)])
def test_a_site_that_disputes_every_key_is_asked_no_more(
    partners: tuple[int, int], federation: Federation
) -> None:
    roster = Roster.of(federation.plan(federation.order("train")), federation.directory)
    secure, name = open_run(federation), roster.names[4]
    liar = FalseKey(federation, name, lies=True)
    wire = HostileWire(federation, liar=liar)
    for number, partner in enumerate(partners, 1):
        liar.partner = partner
        with pytest.raises(SumFailed, match="one of them lies"):
            add_up(federation, wire, secure, number)
    assert name in secure.convicted
    assert (roster.names[0] in secure.convicted) == (partners == (0, 0))
    if partners == (0, 1):
        assert name not in add_up(federation, wire, secure, 3).sites


def test_a_weight_beyond_the_limit_fails_the_sum(federation: Federation) -> None:
    """Its word is a site's own; honest sites keep to the limit, so a larger sum is a lie."""
    name = sorted(federation.sites)[2]
    site = federation.sites[name]
    assert site.secure is not None
    order = federation.order("train")
    plan = federation.plan(order, weight_limit=1)
    seat = site.secure
    original = vector.encode_words

    def heavier(shape: Shape, values: Any, weight: int, wide: Any, seed: Any) -> Any:
        words = original(shape, values, weight, wide, seed)
        words[-1 - 3 * shape.wide] += np.uint64(1000) if seat.find(plan.digest.hex()) else np.uint64(0)
        return words

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "encode_words", heavier)
        with pytest.raises(SumFailed, match="larger than weights can be"):
            secure_sum(HostileWire(federation), open_run(federation), federation.study.to_json(), plan, order)
