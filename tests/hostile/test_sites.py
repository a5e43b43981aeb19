"""Hostile sites against the real coordinator: they are left out by name, and the others' sum stands."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.secure_bench import Federation, open_federation
from tests.hostile.sites import SITES, HostileSite, HostileWire
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
