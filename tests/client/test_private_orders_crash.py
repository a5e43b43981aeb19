"""A site that is killed at every point of an order: never below the truth, never a second look unpaid."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.client.clinic import make_clinic
from tests.client.mortal import POINTS, POLICY, STUDY, Nursery, digest_of, journal, nursery, orders
from vestry_privacy.identity import load_identity
from vestry_privacy.ledger import Ledger
from vestry_privacy.ledger_verify import verify_ledger
from vestry_strategies.orders import Refusal

STEPS = STUDY.training.local_steps or 0


@pytest.fixture(scope="module")
def born() -> Iterator[Nursery]:
    with nursery() as found:
        yield found


def trained(folder: Path) -> list[str]:
    return [line[1] for line in journal(folder) if line[0] == "trains"]


def sent(folder: Path) -> dict[str, set[str]]:
    """Every reply that ever left, by order."""
    found: dict[str, set[str]] = {}
    for line in journal(folder):
        if line[0] == "sent":
            found.setdefault(line[1], set()).add(line[2])
    return found


def check_books(folder: Path) -> None:
    """The ledger holds, and charges at least what was begun."""
    identity = load_identity(folder / "identity.pem")
    path = folder / "ledger.sqlite"
    with Ledger(path, identity) as ledger:  # ends what a dead process left open
        spent = ledger.spent(STUDY.digest(), "train")
        states = [ledger.answered(STUDY.digest(), "train", number) for number in (1, 2)]
    verify_ledger(path, identity.public_key)
    steps = sum(event.count for event in spent if event.mechanism == "poisson-gaussian")
    assert steps >= STEPS * len(trained(folder))
    assert all(state is None or state.state != "reserve" for state in states)


def check_replies(folder: Path) -> None:
    """Another process gives every reply that was sent again, to the bit, without a new look."""
    before, told = trained(folder), sent(folder)
    with make_clinic(folder, study=STUDY, policy=POLICY) as clinic:
        charged = clinic.charged(), clinic.charged("holdout")
        for name, order in orders(clinic):
            reply = clinic.ask(order)
            if name in {"statistics", "train 2", "evaluate 2"}:
                assert told[name] == {digest_of(reply)}
            else:
                assert isinstance(reply, Refusal)  # of an older round nothing is kept
        assert (clinic.charged(), clinic.charged("holdout")) == charged
    assert trained(folder) == before


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize(
    "count", [2, pytest.param(1, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow)]
)
def test_a_kill_at_every_point(born: Nursery, tmp_path: Path, point: str, count: int) -> None:
    assert born.run(tmp_path, point, count) == [-9]
    check_books(tmp_path)
    assert born.run(tmp_path) == [0]
    check_books(tmp_path)
    # What was sent before the kill is sent again or, of a round before the newest, refused.
    assert all(len(digests - {"refused:ledger"}) == 1 for digests in sent(tmp_path).values())
    check_replies(tmp_path)


@pytest.mark.parametrize(
    ("point", "again"), [("kept", 1), ("committed", 1), ("computed", 2), ("reserved", 1)]
)
def test_what_was_computed_and_kept_is_not_computed_again(
    born: Nursery, tmp_path: Path, point: str, again: int
) -> None:
    names = ["train 1"]
    assert born.run(tmp_path, point, names=names) == [-9]
    assert born.run(tmp_path, names=names) == [0]
    assert len(trained(tmp_path)) == again
    with make_clinic(tmp_path, study=STUDY, policy=POLICY) as clinic:
        crashes = 0 if point == "committed" else 1
        assert clinic.kinds().count("spent-by-crash") == crashes
        assert clinic.charged() == STEPS * (1 if point in {"kept", "committed"} else 2)
        assert sent(tmp_path)["train 1"] == {digest_of(clinic.ask(clinic.train(1)))}


@pytest.mark.slow
def test_kills_at_random_moments(born: Nursery, tmp_path: Path) -> None:
    moments = np.random.default_rng(7)
    killed = 0
    for site in range(8):
        folder = tmp_path / str(site)
        for _ in range(3):
            killed += born.run(folder, kill_after=moments.uniform(0.02, 0.5)) == [-9]
            if (folder / "ledger.sqlite").exists() and (folder / "identity.pem").exists():
                check_books(folder)
        assert born.run(folder) == [0]
        check_books(folder)
        check_replies(folder)
    assert killed > 0  # how many the clock hits depends on the machine


def test_two_processes_asked_at_once_train_once(born: Nursery, tmp_path: Path) -> None:
    assert born.run(tmp_path, names=["statistics"]) == [0]
    assert born.run(tmp_path, children=3, pause=0.3, names=["train 1"]) == [0, 0, 0]
    assert trained(tmp_path) == ["train 1"]
    replies = sent(tmp_path)["train 1"]
    assert len(replies - {"refused:ledger"}) == 1
    check_books(tmp_path)
