"""A site's own arrays between rounds: what a resume needs is never dropped."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulations.laboratory import environment
from vestry_client.state import SiteStateError, SiteStates


def state(number: int) -> dict[str, np.ndarray]:
    return {"x": np.array([float(number)]), "y": np.arange(number, dtype=np.float64)}


def value(states: SiteStates, before: int) -> float | None:
    found = states.before(before)
    return float(found["x"][0]) if found else None


@pytest.mark.parametrize("durable", [False, True])
def test_the_newest_state_before_a_round_is_found(durable: bool, tmp_path: Path) -> None:
    states = SiteStates(tmp_path / "s" if durable else None)
    assert states.before(1) == {}
    states.keep(1, 0, state(1))
    states.keep(2, 1, state(2))
    assert value(states, 1) is None
    assert value(states, 2) == 1.0
    assert value(states, 3) == 2.0
    assert value(states, 9) == 2.0
    assert np.array_equal(states.before(3)["y"], [0.0, 1.0])


def test_a_round_tried_again_sees_what_it_saw_before(tmp_path: Path) -> None:
    states = SiteStates(tmp_path)
    states.keep(1, 0, state(1))
    states.keep(2, 1, state(2))  # the coordinator was killed before it kept round 2
    assert value(states, 2) == 1.0
    states.keep(2, 1, state(22))
    assert value(states, 2) == 1.0
    assert value(states, 3) == 22.0


def test_a_site_without_state_writes_nothing(tmp_path: Path) -> None:
    states = SiteStates(tmp_path / "s")
    for number in range(1, 5):
        states.keep(number, number - 1, {})
    assert not (tmp_path / "s").exists()
    assert states.before(9) == {}


def test_files_outlive_the_process(tmp_path: Path) -> None:
    SiteStates(tmp_path).keep(3, 2, state(3))
    assert value(SiteStates(tmp_path), 4) == 3.0


@settings(max_examples=80, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_whatever_the_coordinator_loses_a_resume_finds_its_state(lost: list[bool]) -> None:
    """A model of the coordinator: each try at a round is kept or lost; what a try sees is its truth."""
    states, truth, finished = SiteStates(), {0: None}, 0
    for step, is_lost in enumerate(lost):
        number = finished + 1
        assert value(states, number) == truth[finished]
        states.keep(number, finished, state(step))
        if not is_lost:
            finished = number
            truth[finished] = float(step)  # type: ignore[assignment]
    assert value(states, finished + 1) == truth[finished]
    assert len(states._rounds()) <= 3


def test_old_states_are_dropped(tmp_path: Path) -> None:
    states = SiteStates(tmp_path)
    for number in range(1, 30):
        states.keep(number, number - 1, state(number))
    assert len(list(tmp_path.iterdir())) <= 3


def test_a_disk_that_refuses_is_said(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("in the way")
    with pytest.raises(SiteStateError, match="cannot keep its state of round 1"):
        SiteStates(tmp_path / "s").keep(1, 0, state(1))


def test_a_killed_site_has_whole_states(tmp_path: Path) -> None:
    program = (
        "import sys, numpy as np\nfrom pathlib import Path\nfrom vestry_client.state import SiteStates\n"
        "states, number = SiteStates(Path(sys.argv[1])), 0\n"
        "while True:\n"
        "    number += 1\n"
        "    states.keep(number, number - 1, {'x': np.full(50_000, float(number))})\n"
        "    print(number, flush=True)\n"
    )
    for delay in (0.01, 0.05, 0.1):
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)],
            stdout=subprocess.PIPE,
            env=environment(),
            text=True,
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        told = process.stdout.read().split()
        process.wait()
        process.stdout.close()
        newest = SiteStates(tmp_path).before(10**6)["x"]
        assert len(set(newest.tolist())) == 1
        assert newest[0] >= float(told[-1] if told else 1)
        for path in tmp_path.iterdir():
            path.unlink()
