"""The journal against a plain model: whatever is asked, in any order, over restarts, handles and copies."""

import itertools
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.privacy.secagg.journals import begin, digest, make_plan, make_rules, roster_of
from vestry_privacy.secagg.errors import (
    JournalError,
    ProtocolAbort,
    Repeated,
    RolledBack,
    RosterRefused,
    WrongStep,
)
from vestry_privacy.secagg.history import Accepted, Head
from vestry_privacy.secagg.journal import Journal

MEMORY = Path("/dev/shm")  # noqa: S108 - no power cut here, so memory is as good as a disk
STAGES = ("accepted", "consumed", "signed", "revealed")
ROSTERS = ((0, 1, 2, 3), (0, 1, 2, 3, 4), (0, 1, 2, 5, 6), (4, 5, 6, 7))
PEERS = ("south", "north")


@dataclass
class Model:
    """What a reader of the design would note on paper: every plan ever let in, and how far each went."""

    plans: dict[bytes, Accepted] = field(default_factory=dict)
    stage: dict[bytes, int] = field(default_factory=dict)
    limits: dict[bytes, int] = field(default_factory=dict)
    peers: dict[str, tuple[int, int]] = field(default_factory=dict)
    entries: int = 0
    epoch: int = 0

    def summed(self) -> list[Accepted]:
        return [plan for name, plan in self.plans.items() if self.stage[name] >= 1]

    def refuses_past(self, plan: Accepted) -> type[ProtocolAbort] | None:
        rules, summed = plan.rules, self.summed()
        same = [one for one in summed if (one.rules.study, one.kind) == (rules.study, plan.kind)]
        if len(same) >= rules.rounds_allowed:
            return Repeated
        if rules.weight_limit not in {0, self.limits.get(rules.study, rules.weight_limit)}:
            return Repeated
        times = max(
            sum((one.rules.dataset, one.kind, one.model) == plan.key for one in summed),
            sum(one.round == plan.round for one in same),
        )
        if (times and not rules.may_repeat) or times > rules.max_repeats:
            return Repeated
        for one in summed:
            apart = max(len({*one.roster} - {*plan.roster}), len({*plan.roster} - {*one.roster}))
            if one.rules.dataset == rules.dataset and 0 < apart < rules.roster_change:
                return RosterRefused
        return None

    def refuses_accept(self, plan: Accepted) -> type[ProtocolAbort] | None:
        run = [
            one.sequence
            for one in self.plans.values()
            if (one.rules.study, one.run) == (plan.rules.study, plan.run)
        ]
        if plan.plan in self.plans or plan.sequence <= max(run, default=0):
            return Repeated
        return self.refuses_past(plan)

    def refuses_step(self, name: bytes, step: int) -> type[ProtocolAbort] | None:
        if name not in self.plans or self.stage[name] < step - 1:
            return WrongStep
        if self.stage[name] >= step:
            return Repeated
        return self.refuses_past(self.plans[name]) if step == 1 else None


RULES = st.builds(
    make_rules,
    dataset=st.sampled_from(["angio", "echo"]),
    study=st.sampled_from([digest("one"), digest("two")]),
    rounds_allowed=st.integers(1, 6),
    may_repeat=st.booleans(),
    max_repeats=st.integers(0, 2),
    roster_change=st.integers(1, 3),
    weight_limit=st.sampled_from([0, 0, 500, 600]),
)


class JournalMachine(RuleBasedStateMachine):
    """Two handles on one file, either of which may be asked."""

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
        self.path = self.folder / "journal.sqlite"
        self.handles = [Journal.create(self.path), Journal(self.path)]
        self.model, self.numbers = Model(), itertools.count(1)
        self.known: list[bytes] = [digest("unknown")]
        self.heads: list[Head] = []
        self.copied: int | None = None

    def ask(self, refusal: type[ProtocolAbort] | None, call: object, *arguments: object) -> bool:
        assert callable(call)
        if refusal is None:
            call(*arguments)
            return True
        with pytest.raises(ProtocolAbort) as found:
            call(*arguments)
        assert found.type is refusal
        return False

    @rule(
        rules=RULES,
        handle=st.integers(0, 1),
        kind=st.sampled_from(["train", "evaluate"]),
        model=st.integers(0, 2),
        roster=st.sampled_from(ROSTERS),
        run=st.sampled_from(["a", "b"]),
        back=st.integers(0, 2),
        round_number=st.integers(1, 9),
    )  # fmt: skip
    def accept(
        self,
        rules: object,
        handle: int,
        kind: str,
        model: int,
        roster: tuple[int, ...],
        run: str,
        back: int,
        round_number: int,
    ) -> None:
        number = next(self.numbers)
        plan = make_plan(
            number, rules, kind=kind, model=digest(model), roster=roster_of(*roster), run=run,  # type: ignore[arg-type]
            sequence=max(1, number - back), round=round_number,
        )  # fmt: skip
        if self.ask(self.model.refuses_accept(plan), begin, self.handles[handle], plan):
            self.model.plans[plan.plan], self.model.stage[plan.plan] = plan, 0
            self.model.entries += 1
            self.known.append(plan.plan)

    @rule(handle=st.integers(0, 1), data=st.data())
    def accept_again(self, handle: int, data: st.DataObject) -> None:
        plan = self.model.plans.get(data.draw(st.sampled_from(self.known)))
        if plan is not None:
            self.ask(Repeated, begin, self.handles[handle], plan)

    @rule(handle=st.integers(0, 1), step=st.integers(1, 3), view=st.integers(0, 1), data=st.data())
    def take_step(self, handle: int, step: int, view: int, data: st.DataObject) -> None:
        name, journal = data.draw(st.sampled_from(self.known[-4:] + self.known[:1])), self.handles[handle]
        refusal = self.model.refuses_step(name, step)
        if step == 2:
            done = self.ask(refusal, journal.sign, name, digest(view))
        else:
            done = self.ask(refusal, journal.consume if step == 1 else journal.reveal, name)
        if done:
            self.model.stage[name] = step
            self.model.entries += 1
            own = self.model.plans[name].rules
            if step == 1 and own.weight_limit:
                self.model.limits.setdefault(own.study, own.weight_limit)

    @rule(
        handle=st.integers(0, 1),
        heads=st.dictionaries(
            st.sampled_from(PEERS), st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1
        ),
    )
    def see_peers(self, handle: int, heads: dict[str, tuple[int, int]]) -> None:
        older = any(
            new < old
            for peer, pair in heads.items()
            for new, old in zip(pair, self.model.peers.get(peer, (0, 0)), strict=True)
        )
        shown = {
            digest(peer): (Head(0, one, digest(one)), Head(0, two, digest(two)))
            for peer, (one, two) in heads.items()
        }
        if self.ask(RolledBack if older else None, self.handles[handle].see_peers, shown):
            self.model.peers |= heads

    @rule(handle=st.integers(0, 1))
    def restart(self, handle: int) -> None:
        self.handles[handle].close()
        self.handles[handle] = Journal(self.path)

    @rule()
    def restart_all(self) -> None:
        for handle in (0, 1):
            self.handles[handle].close()
        self.handles = [Journal(self.path), Journal(self.path)]

    @rule(handle=st.integers(0, 1))
    def declare_loss(self, handle: int) -> None:
        self.handles[handle].declare_loss("a test")
        self.model.epoch += 1
        self.model.entries += 1

    @rule()
    def back_up(self) -> None:
        for journal in self.handles:
            journal.close()
        shutil.copy(self.path, self.folder / "copy")
        self.copied = self.model.entries
        self.handles = [Journal(self.path), Journal(self.path)]

    @precondition(lambda self: self.copied is not None)
    @rule()
    def restore_an_older_copy(self) -> None:
        for journal in self.handles:
            journal.close()
        shutil.copy(self.path, self.folder / "newest")
        shutil.copy(self.folder / "copy", self.path)
        if self.copied == self.model.entries:
            Journal(self.path).close()
        else:
            with pytest.raises(JournalError, match="an older copy"):
                Journal(self.path)
        shutil.copy(self.folder / "newest", self.path)
        self.handles = [Journal(self.path), Journal(self.path)]

    @invariant()
    def agrees_with_the_model(self) -> None:
        if not hasattr(self, "model"):
            return
        report = self.handles[0].report()
        stages = list(self.model.stage.values())
        assert report.plans == {name: stages.count(place) for place, name in enumerate(STAGES)}
        assert report.keys == len({plan.key for plan in self.model.summed()})
        assert (report.head.count, report.head.epoch) == (self.model.entries, self.model.epoch)
        seen = {site: (journal.count, ledger.count) for site, (journal, ledger) in report.peers.items()}
        assert seen == {digest(peer): pair for peer, pair in self.model.peers.items()}
        assert self.handles[1].head() == report.head

    def teardown(self) -> None:
        for journal in getattr(self, "handles", []):
            journal.close()
        shutil.rmtree(getattr(self, "folder", "/nonexistent"), ignore_errors=True)


TestJournalMachine = JournalMachine.TestCase
TestJournalMachine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
