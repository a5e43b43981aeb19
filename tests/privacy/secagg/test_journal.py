"""The journal: each step once, in its order, known again after every restart."""

import os
import pickle
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.privacy.secagg.journals import (
    ROSTER,
    begin,
    digest,
    head_of,
    make_plan,
    make_rules,
    ready_to,
    roster_of,
    take_part,
)
from vestry_privacy.secagg.errors import (
    BadMessage,
    JournalError,
    ProtocolAbort,
    Repeated,
    RolledBack,
    RosterRefused,
    WrongStep,
)
from vestry_privacy.secagg.history import NO_HEAD, Head
from vestry_privacy.secagg.journal import Journal
from vestry_privacy.secagg.journal_head import default_head

STEPS = ("consume", "sign", "reveal")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture(params=["disk", "memory"])
def journal(request: pytest.FixtureRequest, path: Path) -> Iterator[Journal]:
    with Journal.create(path) if request.param == "disk" else Journal(None) as opened:
        yield opened


def take(journal: Journal, step: str, plan: bytes) -> None:
    if step == "sign":
        journal.sign(plan, digest("view"))
    else:
        getattr(journal, step)(plan)


def test_a_whole_sum(journal: Journal) -> None:
    assert journal.head() == NO_HEAD
    take_part(journal, 1)
    assert journal.head().count == 4
    assert journal.report().plans == {"accepted": 0, "consumed": 0, "signed": 0, "revealed": 1}


def test_witness_is_the_newest_input_and_nothing_that_can_be_provoked(journal: Journal) -> None:
    assert journal.witness() == NO_HEAD
    ready_to(journal, "consume", 1)
    ready_to(journal, "consume", 2)
    assert journal.witness() == NO_HEAD
    take_part(journal, 3)
    first = journal.witness()
    assert (first.epoch, first.count) == (0, 1)
    take_part(journal, 4)
    assert journal.witness().count == 2
    assert journal.witness() != first
    journal.declare_loss("a disk was lost")
    assert (journal.witness().epoch, journal.witness().count) == (1, 2)


def test_inputs_that_were_signed_for_are_remembered_of_peers(journal: Journal) -> None:
    peer = digest("peer")
    said = journal.witness()
    plan = ready_to(journal, "sign", 1)
    journal.see_peers({peer: (said, NO_HEAD)})
    journal.sign(plan, digest("view"), {peer: said})
    with pytest.raises(RolledBack):
        journal.see_peers({peer: (said, NO_HEAD)})
    journal.see_peers({peer: (Head(0, 1, digest("entry")), NO_HEAD)})


@pytest.mark.parametrize("step", STEPS)
def test_each_step_once(journal: Journal, step: str) -> None:
    plan = ready_to(journal, step, 1)
    take(journal, step, plan)
    head = journal.head()
    for earlier in STEPS[: STEPS.index(step) + 1]:
        with pytest.raises(Repeated, match="in round 1: once per plan"):
            take(journal, earlier, plan)
    assert journal.head() == head


def test_another_view_is_refused_like_the_same(journal: Journal) -> None:
    plan = ready_to(journal, "sign", 1)
    journal.sign(plan, digest("view"))
    for view in (digest("view"), digest("another")):
        with pytest.raises(Repeated, match="signature over survivors"):
            journal.sign(plan, view)


@pytest.mark.parametrize(("before", "step"), [("consume", "sign"), ("consume", "reveal"), ("sign", "reveal")])
def test_no_step_is_left_out(journal: Journal, before: str, step: str) -> None:
    plan = ready_to(journal, before, 1)
    with pytest.raises(WrongStep, match="of a plan that is only"):
        take(journal, step, plan)
    take(journal, before, plan)


@pytest.mark.parametrize("step", STEPS)
def test_an_unknown_plan_takes_no_step(journal: Journal, step: str) -> None:
    with pytest.raises(WrongStep, match="has not accepted"):
        take(journal, step, digest("unknown"))
    assert journal.head() == NO_HEAD


def test_what_the_past_forbids(journal: Journal) -> None:
    take_part(journal, 5)
    head = journal.head()
    for plan, error in (
        (make_plan(5), Repeated),
        (make_plan(6, sequence=5), Repeated),
        (make_plan(6, model=make_plan(5).model), Repeated),
        (make_plan(6, make_rules(rounds_allowed=1)), Repeated),
        (make_plan(6, roster=ROSTER[1:]), RosterRefused),
    ):
        with pytest.raises(error):
            begin(journal, plan)
    assert journal.head() == head
    take_part(journal, 6)


def test_the_past_is_looked_at_again_before_input_leaves(journal: Journal) -> None:
    first = ready_to(journal, "consume", 1)
    take_part(journal, 2, model=make_plan(1).model)
    with pytest.raises(Repeated, match="model"):
        journal.consume(first)
    near = ready_to(journal, "consume", 3, roster=roster_of("a", "b", "c", "d"))
    take_part(journal, 4, roster=roster_of("a", "b", "c"))
    with pytest.raises(RosterRefused):
        journal.consume(near)


@pytest.mark.parametrize("step", STEPS)
def test_what_was_done_is_known_after_a_restart(path: Path, step: str) -> None:
    with Journal.create(path) as journal:
        plan = ready_to(journal, step, 1)
        take(journal, step, plan)
        head = journal.head()
    with Journal(path) as journal:
        assert journal.head() == head
        with pytest.raises(Repeated):
            take(journal, step, plan)
        with pytest.raises(Repeated):
            begin(journal, make_plan(1))
        with pytest.raises(Repeated):
            begin(journal, make_plan(2, model=make_plan(1).model))


def test_the_rules_of_then_hold_after_a_restart(path: Path) -> None:
    rules = make_rules(may_repeat=True, max_repeats=1, rounds_allowed=3, roster_change=1)
    model = digest("one")
    with Journal.create(path) as journal:
        for number in (1, 2, 3):
            ready_to(journal, "consume", number, rules, model=model)
    with Journal(path) as journal:
        journal.consume(make_plan(1).plan)
        journal.consume(make_plan(2).plan)
        with pytest.raises(Repeated, match="max_repeats = 1"):
            journal.consume(make_plan(3).plan)


def test_two_handles_know_of_each_other(path: Path) -> None:
    with Journal.create(path) as one, Journal(path) as other:
        plan = begin(one, make_plan(1))
        for step in STEPS:
            take(other, step, plan)
            with pytest.raises(Repeated):
                take(one, step, plan)
        assert one.head() == other.head()
        assert one.report() == other.report()
        with pytest.raises(RosterRefused):
            begin(one, make_plan(2, roster=ROSTER[1:]))


def at_once(calls: list[Callable[[], object]]) -> list[BaseException | None]:
    """Run all of them at one moment, each in its own thread."""
    gate, found = threading.Barrier(len(calls)), list[BaseException | None]([None] * len(calls))

    def run(place: int) -> None:
        gate.wait()
        try:
            calls[place]()
        except ProtocolAbort as error:
            found[place] = error

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.mark.parametrize("step", STEPS)
def test_of_many_at_once_one_takes_the_step(path: Path, step: str) -> None:
    with Journal.create(path) as shared:
        plan = ready_to(shared, step, 1)
        others = [Journal(path) for _ in range(3)]
        handles = [shared, shared, *others]
        found = at_once([lambda own=own: take(own, step, plan) for own in handles])  # type: ignore[misc]
        assert [error for error in found if error is None] == [None]
        assert all(isinstance(error, Repeated) for error in found if error is not None)
        for journal in others:
            journal.close()


def test_peers_may_not_go_back(journal: Journal) -> None:
    south, north = digest("south"), digest("north")
    journal.see_peers({south: (head_of(3), NO_HEAD), north: (head_of(4), head_of(2))})
    journal.see_peers({south: (head_of(3), head_of(1))})
    for heads in ((head_of(2), head_of(2)), (head_of(3, branch="x"), head_of(2)), (head_of(9), NO_HEAD)):
        with pytest.raises(RolledBack) as refusal:
            journal.see_peers({north: (head_of(9), head_of(9)), south: heads})
        assert refusal.value.peer == south.hex()
    told = journal.report().peers
    assert told == {south: (head_of(3), head_of(1)), north: (head_of(4), head_of(2))}, (
        "nothing of a refused call"
    )
    journal.see_peers({south: (head_of(1, 1), head_of(1))})
    assert journal.report().peers[south] == (head_of(1, 1), head_of(1))


def test_peers_are_known_after_a_restart_and_to_others(path: Path) -> None:
    with Journal.create(path) as journal, Journal(path) as other:
        journal.see_peers({digest("south"): (head_of(3), NO_HEAD)})
        with pytest.raises(RolledBack):
            other.see_peers({digest("south"): (head_of(2), NO_HEAD)})
    with Journal(path) as journal, pytest.raises(RolledBack):
        journal.see_peers({digest("south"): (head_of(2), NO_HEAD)})


def test_peers_are_no_entries(journal: Journal) -> None:
    journal.see_peers({digest("south"): (head_of(3), NO_HEAD)})
    assert journal.head() == NO_HEAD


def test_heads_grow_and_differ(journal: Journal) -> None:
    seen = [journal.head()]
    for number in (1, 2):
        plan = begin(journal, make_plan(number))
        seen.append(journal.head())
        for step in STEPS:
            take(journal, step, plan)
            seen.append(journal.head())
    assert [head.count for head in seen] == list(range(9))
    assert len({head.hash for head in seen}) == 9


def test_a_new_epoch_keeps_what_is_known(journal: Journal) -> None:
    take_part(journal, 1)
    journal.declare_loss("the disk was exchanged")
    assert (journal.head().epoch, journal.head().count) == (1, 5)
    with pytest.raises(Repeated):
        begin(journal, make_plan(1))
    journal.declare_loss("again")
    assert journal.head().epoch == 2
    told = journal.report().losses
    assert [(loss.epoch, loss.known, loss.note) for loss in told] == [
        (1, 4, "the disk was exchanged"),
        (2, 5, "again"),
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"plan": b"short"},
        {"model": bytes(31)},
        {"roster": (bytes(31),)},
        {"roster": ()},
        {"run": "r" * 5000},
        {"run": "\ud800"},
        {"sequence": 2**64},
        {"round": 2**32},
        {"rules": make_rules(study=b"")},
        {"rules": make_rules(rounds_allowed=2**64)},
    ],
    ids=str,
)
def test_what_could_not_be_read_back_does_not_get_in(path: Path, changes: dict[str, Any]) -> None:
    with Journal.create(path) as journal:
        with pytest.raises(BadMessage):
            begin(journal, replace(make_plan(1), **changes))
        assert journal.head() == NO_HEAD
        with pytest.raises(BadMessage):
            journal.declare_loss("\ud800")
        with pytest.raises(BadMessage):
            journal.see_peers({digest("south"): (replace(NO_HEAD, hash=b""), NO_HEAD)})
        plan = ready_to(journal, "sign", 1)
        with pytest.raises(BadMessage):
            journal.sign(plan, b"short")
        journal.sign(plan, digest("view"))
    with Journal(path) as journal:
        assert journal.head().count == 3


def test_no_clock_is_believed(path: Path) -> None:
    for number, time in enumerate((-5.0, 1e9, 3.0), 1):
        with Journal.open_or_create(path, clock=lambda time=time: time) as journal:  # type: ignore[misc]
            take_part(journal, number)
            assert journal.head().count == 4 * number


def test_files_are_for_the_site_only(path: Path) -> None:
    with Journal.create(path) as journal:
        take_part(journal, 1)
        names = {file.name for file in path.parent.iterdir()}
        assert names == {path.name + end for end in ("", "-wal", "-shm", ".head")}
        for file in path.parent.iterdir():
            assert file.stat().st_mode & 0o077 == 0, file.name


def test_it_stays_in_its_process(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = ready_to(journal, "consume", 1)
    with pytest.raises(TypeError):
        pickle.dumps(journal)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: 1)
        with pytest.raises(JournalError, match="opened in another process; open it in this one"):
            journal.consume(plan)
        with pytest.raises(JournalError, match="another process"):
            journal.head()
        journal.close()  # a forked copy lets its parent's alone
    journal.consume(plan)


def test_a_closed_journal_stays_closed(journal: Journal) -> None:
    plan = ready_to(journal, "consume", 1)
    journal.close()
    journal.close()
    for use in (journal.head, journal.report, lambda: journal.consume(plan)):
        with pytest.raises(JournalError, match="is closed"):
            use()


def test_it_is_made_once(path: Path) -> None:
    with Journal.create(path) as journal:
        take_part(journal, 1)
    with pytest.raises(JournalError, match="is there already; open it"):
        Journal.create(path)
    with Journal.open_or_create(path) as journal:
        assert journal.head().count == 4


def test_many_that_make_it_at_once_have_one(path: Path) -> None:
    made: list[Journal] = []
    found = at_once([lambda: made.append(Journal.open_or_create(path))] * 4)
    assert found == [None] * 4
    begin(made[0], make_plan(1))
    assert {journal.head() for journal in made} == {made[0].head()}
    for journal in made:
        journal.close()


def test_the_head_may_lie_elsewhere(path: Path, tmp_path: Path) -> None:
    head = tmp_path / "other" / "head"
    with pytest.raises(JournalError, match="cannot be written"):
        Journal.create(path, head=head)
    head.parent.mkdir()
    with Journal.open_or_create(path, head=head) as journal:
        take_part(journal, 1)
    assert head.exists()
    assert not default_head(path).exists()
