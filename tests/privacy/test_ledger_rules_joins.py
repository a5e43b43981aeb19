"""No adaptive sequence of joins passes the budget: data sets, populations and studies in any order.

The model follows the persons: who may have been in what was done, as it was known when it was done.
"""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from tests.privacy.ledgers import Replay, gaussian, population, study
from vestry_privacy.budget import Budget, filter_order
from vestry_privacy.ledger_entries import Commit, Register, Release, Void
from vestry_privacy.ledger_errors import LedgerError
from vestry_privacy.ledger_rules import allow_hold, allow_reserve
from vestry_privacy.plan import Partition

NAMES = ("a", "b", "c")
EPSILONS = (3.0, 8.0, 20.0)
SIGMAS = (4.0, 10.0)


@dataclass
class Done:
    """Something that was done to a population's persons.

    Attributes:
        population: whose.
        study: in which.
        partition: of the study.
        sigma: of its noise.
        count: how often.
        checked: all data of the population were known to be nobody else's.
    """

    population: str
    study: str
    partition: Partition
    sigma: float
    count: int
    checked: bool


@dataclass
class Persons:
    """What is known of a population."""

    budget: Budget
    overlaps: list[str] = field(default_factory=list)
    blind: bool = False

    @property
    def checked(self) -> bool:
        return bool(self.overlaps) and not self.blind and set(self.overlaps) == {"checked"}


class JoinMachine(RuleBasedStateMachine):
    """An initiator who sees every answer and picks the next step by it."""

    def __init__(self) -> None:
        super().__init__()
        self.replay = Replay()
        self.persons: dict[str, Persons] = {}
        self.done: dict[int, Done] = {}
        self.held: dict[str, tuple[str, float]] = {}
        self.round = 0

    @rule(name=st.sampled_from(NAMES), epsilon=st.sampled_from(EPSILONS))
    def register(self, name: str, epsilon: float) -> None:
        if name not in self.persons:
            declared = population(name, epsilon=epsilon, order=filter_order(epsilon, 1e-5))
            self.replay.add(Register, population=declared, row_is_person=False)
            self.persons[name] = Persons(declared.budget)

    @precondition(lambda self: self.persons)
    @rule(data=st.data(), overlap=st.sampled_from(["checked", "checked", "unknown"]))
    def join(self, data: st.DataObject, overlap: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.persons)))
        self.replay.dataset(name, overlap, f"{name}-{len(self.persons[name].overlaps)}")
        self.persons[name].overlaps.append(overlap)

    @precondition(lambda self: self.persons)
    @rule(
        data=st.data(),
        number=st.integers(1, 5),
        sigma=st.sampled_from(SIGMAS),
        train=st.integers(0, 150),
        holdout=st.integers(0, 150),
    )
    def hold(self, data: st.DataObject, number: int, sigma: float, train: int, holdout: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.persons)))
        of = study(f"{name}-{number}")
        entry = self.replay.make_hold(
            name, of, train=(gaussian(train, sigma),), holdout=(gaussian(holdout, sigma),)
        )
        try:
            allowed = allow_hold(self.replay.state, entry)
        except LedgerError:
            return
        if allowed:
            self.replay.take(entry)
            self.persons[name].blind |= not self.persons[name].overlaps
            self.held[of.name] = (name, sigma)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), partition=st.sampled_from(["train", "holdout"]), count=st.integers(1, 150))
    def reserve(self, data: st.DataObject, partition: Partition, count: int) -> None:
        of = data.draw(st.sampled_from(sorted(self.held)))
        name, sigma = self.held[of]
        self.round += 1
        entry = self.replay.make_reserve(
            self.round, study(of), partition=partition, event=gaussian(count, sigma)
        )
        try:
            allow_reserve(self.replay.state, entry)
        except LedgerError:
            return
        checked = self.persons[name].checked
        self.done[self.replay.take(entry)] = Done(name, of, partition, sigma, count, checked)
        self.nobody_it_may_have_touched_lost_more_than_their_budget(name)

    @precondition(lambda self: self.replay.state.open)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.replay.state.open)))
        executed = data.draw(st.integers(0, self.done[number].count))
        if executed:
            self.replay.add(Commit, reservation=number, executed=executed, reply_hash="", model_hash="")
        else:
            self.replay.add(Void, reservation=number, reason="")
        self.done[number].count = executed

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        of = data.draw(st.sampled_from(sorted(self.held)))
        self.replay.add(Release, study=study(of).study_hash)
        del self.held[of]

    def nobody_it_may_have_touched_lost_more_than_their_budget(self, spender: str) -> None:
        checked = self.persons[spender].checked
        for name, persons in self.persons.items():
            if name == spender or not (checked and persons.checked):
                lost = self.lost(name, persons)
                assert persons.budget.epsilon_of(lost) <= persons.budget.epsilon * (1 + 1e-12)

    def lost(self, name: str, persons: Persons) -> float:
        """D of a person of a population who was in everything that they may have been in."""
        per_study: dict[str, dict[Partition, float]] = {}
        for one in self.done.values():
            if one.population == name or not (one.checked and persons.checked):
                parts = per_study.setdefault(one.study, {})
                cost = one.count * persons.budget.order / (2 * one.sigma**2)
                parts[one.partition] = parts.get(one.partition, 0.0) + cost
        return sum(max(parts.values()) for parts in per_study.values())


TestJoins = JoinMachine.TestCase
TestJoins.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
