"""Every row of the attack table, against the real handlers with journals on the disk: the victim refuses."""

from pathlib import Path

import pytest

from tests.client.secure_bench import open_federation
from tests.hostile.coordinators import COORDINATORS
from tests.hostile.server import HostileServer, Wire


@pytest.mark.parametrize("name", COORDINATORS)
def test_a_hostile_coordinator_gets_nothing(name: str, tmp_path: Path) -> None:
    with open_federation(tmp_path, sites=5) as federation:
        double = COORDINATORS[name](federation, Wire(federation))
        double.run()
        double.check()


def test_the_same_steps_without_a_lie_make_a_sum(tmp_path: Path) -> None:
    """The doubles fail for what they change, not for how they are built."""
    with open_federation(tmp_path, sites=5) as federation:
        double = HostileServer(federation, Wire(federation))
        double.run()
        assert sorted(double.wire.revealed()) == sorted(federation.sites)
        double.wire.check_nothing_left_unmasked()
