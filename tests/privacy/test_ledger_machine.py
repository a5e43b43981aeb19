"""Any sequence of uses, crashes, restores and tampering, against a model that fits on one page.

The model knows what was really done to the persons. Whatever happens, the ledger never charges less, never
grants more than the budget, and its chain holds.
"""

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.privacy.ledgers import NOON, Site, gaussian, plan, population, study
from vestry_privacy.budget import Budget
from vestry_privacy.ledger import Ledger
from vestry_privacy.ledger_errors import (
    BudgetExceeded,
    DuplicateRound,
    LedgerRollback,
    LedgerTampered,
    NotHeld,
    RoundOpen,
)
from vestry_privacy.ledger_verify import verify_ledger

MEMORY = Path("/dev/shm")  # noqa: S108 - flushing to memory is quick, and the kernel keeps it after a kill
HANDLES = (0, 1)
STUDIES = ("one", "two", "three")
ROOM = 245
"""Releases of sigma 10 that fit into epsilon 8 at order 4."""


@dataclass
class Round:
    """What the model knows of a reservation."""

    study: str
    number: int
    handle: int
    reserved: int
    state: str = "open"
    charged: int = 0


@dataclass
class Model:
    """The truth, in releases of sigma 10.

    Attributes:
        held: study -> approved releases; 0 after its release.
        plans: study -> what it was first approved with.
        rounds: reservation -> round.
        imported: past spending.
        time: the newest that the ledger knows, seconds.
    """

    held: dict[str, int] = field(default_factory=dict)
    plans: dict[str, int] = field(default_factory=dict)
    rounds: dict[int, Round] = field(default_factory=dict)
    imported: int = 0

    def done(self, name: str) -> int:
        return sum(found.charged for found in self.rounds.values() if found.study == name)

    def claimed(self) -> int:
        return self.imported + sum(max(held, self.done(name)) for name, held in self.held.items())

    def states(self, name: str, number: int) -> set[str]:
        rounds = self.rounds.values()
        return {found.state for found in rounds if (found.study, found.number) == (name, number)}


class LedgerMachine(RuleBasedStateMachine):
    """Two handles on one ledger, and everything that can happen to it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None)
        self.site = Site(Path(self.folder))
        self.model = Model()
        self.handles: dict[int, Ledger] = {}
        self.backup: tuple[Path, int] | None = None
        with self.site.open() as ledger:
            ledger.register(population())
            ledger.add_dataset("heart", "rows", "f1", ["a", "b"])

    def teardown(self) -> None:
        for ledger in self.handles.values():
            ledger.close()
        if self.site.path.exists():
            verify_ledger(self.site.path, self.site.identity.public_key)
        shutil.rmtree(self.folder)

    def ledger(self, number: int) -> Ledger:
        if number not in self.handles:
            self.handles[number] = self.site.open()
        return self.handles[number]

    @rule(handle=st.sampled_from(HANDLES), name=st.sampled_from(STUDIES), size=st.integers(1, 140))
    def hold(self, handle: int, name: str, size: int) -> None:
        ledger, model = self.ledger(handle), self.model
        if name in model.plans and model.plans[name] != size:
            with pytest.raises(NotHeld):
                ledger.hold("heart", study(name), plan(size))
            size = model.plans[name]
        before = model.held.get(name, 0)
        after = model.claimed() - max(before, model.done(name)) + max(size, model.done(name))
        if before == 0 and after > ROOM:
            with pytest.raises(BudgetExceeded):
                ledger.hold("heart", study(name), plan(size))
        else:
            ledger.hold("heart", study(name), plan(size))
            model.held[name] = model.plans[name] = size

    @rule(
        handle=st.sampled_from(HANDLES),
        name=st.sampled_from(STUDIES),
        number=st.integers(1, 4),
        count=st.integers(1, 60),
    )
    def reserve(self, handle: int, name: str, number: int, count: int) -> None:
        ledger, model = self.ledger(handle), self.model
        states, held = model.states(name, number), model.held.get(name, 0)
        done = model.done(name)
        after = model.claimed() - max(held, done) + max(held, done + count)
        expected: type[Exception] | None = None
        if not held:
            expected = NotHeld
        elif "commit" in states:
            expected = DuplicateRound
        elif "open" in states:
            expected = RoundOpen
        elif after > ROOM:
            expected = BudgetExceeded
        digest, event, order = study(name).study_hash, gaussian(count), f"order-{number}"
        if expected is not None:
            with pytest.raises(expected):
                ledger.reserve(digest, "train", "train", number, event, order)
            return
        reservation = ledger.reserve(digest, "train", "train", number, event, order)
        assert reservation not in model.rounds
        model.rounds[reservation] = Round(name, number, handle, count, charged=count)

    def open_rounds(self) -> list[int]:
        return [number for number, found in self.model.rounds.items() if found.state == "open"]

    @precondition(lambda self: self.open_rounds())
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(self.open_rounds()))
        found = self.model.rounds[number]
        executed = data.draw(st.integers(0, found.reserved))
        self.handles[found.handle].commit(number, executed, reply_hash="r")
        found.state, found.charged = "commit", executed

    @precondition(lambda self: self.open_rounds())
    @rule(data=st.data())
    def void(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(self.open_rounds()))
        found = self.model.rounds[number]
        self.handles[found.handle].void(number, "no rows")
        found.state, found.charged = "void", 0

    @rule(handle=st.sampled_from(HANDLES), name=st.sampled_from(STUDIES))
    def release(self, handle: int, name: str) -> None:
        ledger = self.ledger(handle)
        if name in self.model.held:
            ledger.release(study(name).study_hash)
            self.model.held[name] = 0

    @rule(handle=st.sampled_from(HANDLES), count=st.integers(1, 20))
    def import_spending(self, handle: int, count: int) -> None:
        self.ledger(handle).import_spending("heart", [gaussian(count)], "elsewhere")
        self.model.imported += count

    @rule(handle=st.sampled_from(HANDLES))
    def crash(self, handle: int) -> None:
        if handle in self.handles:
            self.handles.pop(handle).close()
            for found in self.model.rounds.values():
                if (found.handle, found.state) == (handle, "open"):
                    found.state = "crash"  # charged in full, as it was all the time

    @rule()
    def restart_all(self) -> None:
        for handle in HANDLES:
            self.crash(handle)
        self.ledger(0)

    @rule(hours=st.integers(-72, 72))
    def set_the_clock(self, hours: int) -> None:
        self.site.now = NOON + 3600 * hours

    @rule()
    def back_up(self) -> None:
        self.backup = (self.site.back_up(), len(self.site.rows()))

    @precondition(lambda self: self.backup is not None)
    @rule()
    def restore_the_backup(self) -> None:
        """Everything since is lost; the steward charges the whole truth, and goes on."""
        assert self.backup is not None
        for handle in HANDLES:
            self.crash(handle)
        copy, entries = self.backup
        newer = len(self.site.rows()) > entries
        self.site.restore(copy)
        ledger = self.ledger(0)
        if not newer:
            assert ledger.rollback is None
            return
        with pytest.raises(LedgerRollback):
            ledger.import_spending("heart", [gaussian(1)], "x")
        with pytest.raises(LedgerRollback):
            ledger.hold("heart", study("new"), plan(1))
        truth = self.model.imported + sum(self.model.done(name) for name in self.model.plans)
        ledger.reconcile("restored", {"heart": [gaussian(truth)] if truth else []})
        self.backup = None
        self.read_the_model_anew(ledger, truth)

    def read_the_model_anew(self, ledger: Ledger, truth: int) -> None:
        """What the restored ledger knows is a past of this one; the truth was charged on top of it."""
        hashes = {study(name).study_hash: name for name in STUDIES}
        self.model = Model()
        state = ledger._chain.state
        (persons,) = state.populations.values()
        self.model.imported = sum(sum(lump.counts.values()) for lump in persons.lump_sums)
        assert self.model.imported >= truth
        for digest, found in state.studies.items():
            name = hashes[digest]
            self.model.plans[name] = sum(found.approved["train"].values())
            self.model.held[name] = 0 if found.released else self.model.plans[name]
            for number, one in found.reservations.items():
                ended = {"spent-by-crash": "crash"}.get(one.state, one.state)
                assert ended != "reserve"
                self.model.rounds[number] = Round(
                    name, one.entry.round, -1, one.entry.event.count, ended, one.charged
                )

    @rule(data=st.data())
    def tamper_and_put_back(self, data: st.DataObject) -> None:
        for handle in HANDLES:
            self.crash(handle)
        row = data.draw(st.sampled_from(self.site.rows()))
        column = data.draw(st.sampled_from(["body", "hash"]))
        good = row[1] if column == "body" else row[2]
        place = data.draw(st.integers(0, len(good) - 1))
        bad = good[:place] + chr(ord(good[place]) ^ 1) + good[place + 1 :]
        change = f"UPDATE entries SET {column} = ? WHERE seq = ?"  # noqa: S608 - a name of ours
        self.site.change(change, (bad, row[0]))
        with pytest.raises(LedgerTampered) as caught:
            self.site.open()
        assert caught.value.seq == row[0]
        self.site.change(change, (good, row[0]))
        self.ledger(0)

    @invariant()
    def the_ledger_is_never_below_the_truth_and_never_above_the_budget(self) -> None:
        if not self.handles:
            return
        ledger, model = next(iter(self.handles.values())), self.model
        for name in model.plans:
            spent = sum(event.count for event in ledger.spent(study(name).study_hash, "train"))
            assert spent == model.done(name)
        (found,) = ledger.report([]).populations
        budget: Budget = found.population.budget
        claimed = model.claimed()
        assert found.claimed_epsilon == pytest.approx(budget.epsilon_of(claimed * 0.02), rel=1e-9)
        assert ledger.fits("heart", {"train": [gaussian(1)]}) == max(0, ROOM - claimed)
        granted = claimed - model.imported
        assert granted <= ROOM


TestLedgerMachine = pytest.mark.slow(LedgerMachine.TestCase)
TestLedgerMachine.settings = settings(
    max_examples=50,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
