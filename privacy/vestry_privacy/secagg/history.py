"""The rules about the past of one site: what a new sum may not have in common with earlier ones.

One sum hides an update among others; two sums may not. A roster that differs by one site, a model that is
asked for again without one site, a journal that was set back: each would let somebody subtract. So a site
counts for itself and believes no server. Pure: no file and no clock; the disk is
:mod:`vestry_privacy.secagg.journal`'s.

A *key* is (data set, kind, model hash), across all studies and runs; a round of a study is one as well,
whatever its model is. Masked input consumes it, since from then on the others can unmask without this site.

    ProtocolAbort
    ├── Repeated         a plan, sequence number, round, model or step was there before
    ├── RosterRefused    a roster too close to an earlier one on the same data set
    ├── WrongStep        a step before the one that it needs
    └── RolledBack       another site's journal or ledger is older than it was
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final, Literal

from vestry_privacy.secagg.errors import Repeated, RolledBack, RosterRefused, WrongStep

__all__ = ["NO_HEAD", "Accepted", "Head", "History", "Rules", "Stage", "after_input", "check_peer"]

Stage = Literal["accepted", "consumed", "signed", "revealed"]
"""How far a plan went: known; masked input may have left; survivors signed; shares may have left."""

Key = tuple[str, str, bytes]


@dataclass(frozen=True)
class Head:
    """The newest entry of a journal or ledger, as a site tells it to the others.

    Attributes:
        epoch: grows when an operator declares that entries were lost.
        count: number of entries.
        hash: of the newest entry, over all before it, 32 bytes.
    """

    epoch: int
    count: int
    hash: bytes


NO_HEAD: Final = Head(0, 0, bytes(32))


@dataclass(frozen=True)
class Rules:
    """What the site's policy and the study say about the past, all computed by the site.

    Attributes:
        dataset: of the study at this site.
        study: its hash, 32 bytes.
        rounds_allowed: most masked inputs of this kind that this study may ever have from here.
        may_repeat: is a second sum of one model bounded by local noise, or allowed by the steward?
        max_repeats: how often one key may be consumed again.
        roster_change: of two different rosters, one has at least so many sites that the other has not.
        weight_limit: of the plan, where weights are private: sums with two limits would differ by what the
            heavier sites were cut by; 0 where weights are public.
    """

    dataset: str
    study: bytes
    rounds_allowed: int
    may_repeat: bool
    max_repeats: int
    roster_change: int
    weight_limit: int = 0


@dataclass(frozen=True)
class Accepted:
    """A plan that a site took part in, as far as later ones are held against it.

    Attributes:
        plan: its hash, 32 bytes.
        run: name of the run.
        kind: ``statistics``, ``train`` or ``evaluate``.
        sequence: of the study's run.
        round: of the study.
        roster: key hashes, ascending.
        model: hash of the model, 32 bytes.
        rules: that held then.
    """

    plan: bytes
    run: str
    kind: str
    sequence: int
    round: int
    roster: tuple[bytes, ...]
    model: bytes
    rules: Rules

    @property
    def key(self) -> Key:
        """What masked input consumes."""
        return self.rules.dataset, self.kind, self.model


@dataclass
class History:
    """All plans of one site. ``check`` methods refuse and change nothing; the others note what has happened.

    Attributes:
        plans: plan hash -> the plan.
        stages: plan hash -> how far it went.
        consumed: key -> how often.
    """

    plans: dict[bytes, Accepted] = field(default_factory=dict)
    stages: dict[bytes, Stage] = field(default_factory=dict)
    consumed: Counter[Key] = field(default_factory=Counter)
    _sequences: dict[tuple[bytes, str], int] = field(default_factory=dict)
    _inputs: Counter[tuple[bytes, str]] = field(default_factory=Counter)
    _rounds: Counter[tuple[bytes, str, int]] = field(default_factory=Counter)
    _limits: dict[bytes, int] = field(default_factory=dict)
    _rosters: dict[str, set[tuple[bytes, ...]]] = field(default_factory=dict)

    def check_accept(self, plan: Accepted) -> None:
        """May this site begin with a plan?

        Raises:
            Repeated: the plan is known, its sequence number is not above the last of the run, the study has
                had its rounds, or the model was summed before and may not be again.
            RosterRefused: the roster is too close to that of an earlier sum on the data set.
        """
        if plan.plan in self.plans:
            raise Repeated(
                "plan", "this site has seen it before; a sum begins with a new plan", round=plan.round
            )
        last = self._sequences.get((plan.rules.study, plan.run), 0)
        if plan.sequence <= last:
            raise Repeated(
                "sequence number",
                f"{plan.sequence} is not above {last}, the last that this site has seen of run '{plan.run}'",
                round=plan.round,
            )
        self._check_past(plan)

    def check_consume(self, plan: bytes) -> None:
        """May masked input leave? What other sums did since the plan was accepted counts too.

        Raises:
            Repeated: it has left already, or see :meth:`check_accept`.
            RosterRefused: see :meth:`check_accept`.
            WrongStep: the plan was not accepted.
        """
        self._check_stage(plan, "accepted", "masked input")
        self._check_past(self.plans[plan])

    def check_sign(self, plan: bytes) -> None:
        """May a signature over survivors leave?

        Raises:
            Repeated: one has left already, over whatever survivors.
            WrongStep: no masked input has left.
        """
        self._check_stage(plan, "consumed", "the signature over survivors")

    def check_reveal(self, plan: bytes) -> None:
        """May shares leave?

        Raises:
            Repeated: they have left already.
            WrongStep: no survivors were signed.
        """
        self._check_stage(plan, "signed", "shares")

    def accept(self, plan: Accepted) -> None:
        """The plan was accepted."""
        self.plans[plan.plan], self.stages[plan.plan] = plan, "accepted"
        self._sequences[plan.rules.study, plan.run] = plan.sequence

    def consume(self, plan: bytes) -> None:
        """Masked input may have left."""
        found = self.plans[plan]
        self.stages[plan] = "consumed"
        self.consumed[found.key] += 1
        self._inputs[found.rules.study, found.kind] += 1
        self._rounds[found.rules.study, found.kind, found.round] += 1
        if found.rules.weight_limit:
            self._limits.setdefault(found.rules.study, found.rules.weight_limit)
        self._rosters.setdefault(found.rules.dataset, set()).add(found.roster)

    def sign(self, plan: bytes) -> None:
        """A signature over survivors may have left."""
        self.stages[plan] = "signed"

    def reveal(self, plan: bytes) -> None:
        """Shares may have left."""
        self.stages[plan] = "revealed"

    def _check_stage(self, plan: bytes, needed: Stage, what: str) -> None:
        found = self.stages.get(plan)
        if found is None:
            raise WrongStep("order of steps", f"{what} of a plan that this site has not accepted")
        number = self.plans[plan].round
        order: tuple[Stage, ...] = ("accepted", "consumed", "signed", "revealed")
        if order.index(found) > order.index(needed):
            raise Repeated("once per plan", f"{what} may have left this site already", round=number)
        if found != needed:
            raise WrongStep("order of steps", f"{what} of a plan that is only {found}", round=number)

    def _check_past(self, plan: Accepted) -> None:
        rules = plan.rules
        inputs = self._inputs[rules.study, plan.kind]
        if inputs >= rules.rounds_allowed:
            raise Repeated(
                "rounds of the study",
                f"{inputs} sums of kind {plan.kind} have had this site's input; {rules.rounds_allowed} may. "
                "The policy's max_repeats says how many beyond the study's number",
                round=plan.round,
            )
        limit = self._limits.get(rules.study, rules.weight_limit)
        if rules.weight_limit and limit != rules.weight_limit:
            raise Repeated(
                "weight limit",
                f"{rules.weight_limit} is not {limit}, which this study began with; weights that are cut in "
                "two ways tell the heavier sites' apart",
                round=plan.round,
            )
        # Another model for a round that was summed is a way to ask for the round again.
        times = max(self.consumed[plan.key], self._rounds[rules.study, plan.kind, plan.round])
        if times and not rules.may_repeat:
            raise Repeated(
                "model",
                f"{_of(plan)} has left before; without local noise that is once, unless the policy's "
                "allow_repeats_without_privacy says otherwise",
                round=plan.round,
            )
        if times > rules.max_repeats:
            raise Repeated(
                "model",
                f"{_of(plan)} has left {times} times; the policy allows max_repeats = {rules.max_repeats}",
                round=plan.round,
            )
        self._check_roster(plan)

    def _check_roster(self, plan: Accepted) -> None:
        own, rules = frozenset(plan.roster), plan.rules
        for other in self._rosters.get(rules.dataset, ()):
            # The larger side: one honest site swapped for a helper of the server would differ by two.
            change = max(len(own.difference(other)), len(frozenset(other) - own))
            if 0 < change < rules.roster_change:
                raise RosterRefused(
                    "roster rule",
                    f"it differs by {change} from an earlier one on data set '{rules.dataset}', and the "
                    f"policy's roster_change is {rules.roster_change}; two such sums tell a site's update",
                    round=plan.round,
                )


def _of(plan: Accepted) -> str:
    return (
        f"this site's input of kind {plan.kind} on data set '{plan.rules.dataset}' for model "
        f"{plan.model.hex()[:16]}…"
    )


def check_peer(before: Head | None, now: Head, peer: str) -> None:
    """Refuse a site whose journal or ledger is older than it was: it may have forgotten what it has sent.

    Args:
        before: the highest that was seen of it; None before the first.
        now: what it says.
        peer: its name.

    Raises:
        RolledBack: a lower epoch, a lower count in the same epoch, or the same count with another hash.
    """
    if before is None or (now.epoch, now.count) > (before.epoch, before.count) or now == before:
        return
    if before.hash == NO_HEAD.hash and (now.epoch, now.count) == (before.epoch, before.count):
        return  # known to be there, not yet by its hash
    if (now.epoch, now.count) == (before.epoch, before.count):
        problem = f"entry {now.count} is not the one that was seen before: another branch was restored"
    else:
        problem = (
            f"epoch {now.epoch} entry {now.count} is older than epoch {before.epoch} entry {before.count}, "
            "which was seen before: an older copy was restored, or a sum of another study came in between"
        )
    raise RolledBack(
        "highest head",
        f"{problem}. That site puts the newest copy back or, where it is lost, runs `vestry-site journal "
        "declare-lost` (for its ledger: `vestry-site ledger import FILE --reconcile`)",
        peer=peer,
    )


def after_input(before: tuple[Head, Head] | None, advertised: Head) -> tuple[Head, Head]:
    """What is known of a site once its masked input was seen: its witness is one more than it said.

    Args:
        before: highest heads of its journal and ledger; None before the first.
        advertised: its witness with the keys of this sum.

    Returns:
        The same, brought forward; the hash of the new one is not known yet.
    """
    after = Head(advertised.epoch, advertised.count + 1, NO_HEAD.hash)
    if before is None:
        return after, NO_HEAD
    later = (after.epoch, after.count) > (before[0].epoch, before[0].count)
    return (after, before[1]) if later else before
