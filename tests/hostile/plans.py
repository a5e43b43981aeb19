"""Hostile coordinators whose plan lies: about threshold, ring, roster, study, round, or time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from tests.client.secure_bench import Federation
from tests.hostile.server import HostileServer, Wire
from tests.privacy.secagg.federation import identity
from vestry_privacy.secagg.encoding import PROTOCOL
from vestry_privacy.secagg.encoding import field as field_bytes
from vestry_privacy.secagg.messages import sign_plan
from vestry_privacy.secagg.plan import Plan, threshold

__all__ = ["PLANS", "Hostile"]

Hostile = Callable[[Federation, Wire], HostileServer]
"""Makes a double."""


@dataclass
class ChangedPlan(HostileServer):
    """A plan that is not what the study says, under the coordinator's good signature."""

    step = "keys"
    field_name: str = ""
    changes: dict[str, object] = field(default_factory=dict)

    def make_plan(self) -> Plan:
        """With changes."""
        return self.federation.plan(self.order(), **self.changes)

    def refusal(self) -> str:
        """Names the field."""
        return self.field_name


@dataclass
class NewerVersion(HostileServer):
    """A plan of a protocol that this site does not speak."""

    step, words = "keys", "version"

    def signed(self, plan: Plan) -> bytes:
        """Version 2, signed."""
        content = plan.encode().replace(PROTOCOL, b"vestry-secagg/2")
        return field_bytes(content) + field_bytes(self.federation.coordinator.sign(content))


@dataclass
class ForgedPlan(HostileServer):
    """Somebody else than the coordinator signs the plan."""

    step, words = "keys", "pinned"

    def signed(self, plan: Plan) -> bytes:
        """By a stranger."""
        return sign_plan(plan, identity(4711))


@dataclass
class FewOrganisations(HostileServer):
    """Fewer organisations than the study says are to be enough."""

    step, words = "keys", "plan.least"

    def make_plan(self) -> Plan:
        """The study says four."""
        self.federation.study = self.federation.study.model_copy(
            update={"aggregation": self.federation.study.aggregation.model_copy(update={"min_sites": 4})}
        )
        return self.federation.plan(self.order(), least=3)


@dataclass
class InventedSites(HostileServer):
    """Sites of the server's own making fill the roster."""

    step, words = "keys", "this site's directory"

    def make_plan(self) -> Plan:
        """Two real sites among sybils."""
        real = self.federation.directory.roster()[:2]
        roster = tuple(sorted((*real, *(bytes([n]) * 32 for n in range(1, 4)))))
        return self.federation.plan(self.order(), roster=roster, threshold=threshold(5))


@dataclass
class HandPicked(HostileServer):
    """A few sites that the server has chosen, its helpers among them."""

    step, words = "keys", "all are in a sum"

    def make_plan(self) -> Plan:
        """Four of five."""
        roster = self.federation.directory.roster()[:4]
        return self.federation.plan(self.order(), roster=roster, threshold=threshold(4))


@dataclass
class Replayed(HostileServer):
    """The same signed plan a second time, after its sum."""

    step, words = "keys", "seen it before"

    def run(self) -> None:
        """Once honestly, then everything again."""
        super().run()
        self.wire.left.clear()
        signed = self.signed(self.plan)
        for name in self.names:
            self.federation.restart(name)
        self.each("keys", dict.fromkeys(self.names, signed))


@dataclass
class SequenceBack(HostileServer):
    """A new plan with a sequence number of the past."""

    step, words = "keys", "sequence"

    def run(self) -> None:
        """A whole sum, then one with an earlier number."""
        self.federation.sequence = 10
        super().run()
        self.wire.left.clear()
        self.plan = self.federation.plan(self.federation.order("train", 2), sequence=5)
        self.digest = self.plan.digest
        self.each("keys", {site: self.signed(self.plan) for site in self.names})


@dataclass
class OnceMore(HostileServer):
    """A failed round is asked for again with the same model, now without one site: the difference is its."""

    step, words = "keys", "repeat"

    def run(self) -> None:
        """Aborts before the survivors, then asks again."""
        super().run()
        self.wire.left.clear()
        super().run()


def _changed(name: str, value: object) -> Hostile:
    return partial(ChangedPlan, field_name=f"plan.{name}", changes={name: value})


PLANS: Mapping[str, Hostile] = {
    "LowThreshold": _changed("threshold", 2),  # two sites are to be enough to unmask
    "OtherRing": _changed("lane_bits", 32),  # wider lanes, in which a single site's low bits could be planted
    "OtherRange": _changed(
        "value_range", 1e-9
    ),  # a range so small that every value saturates, and its sign is counted
    "HugeWeight": _changed(
        "weight_limit", 2**50
    ),  # a weight limit that makes everybody's values vanish but one's
    "OtherStudy": _changed("study", b"x" * 32),  # a plan of a study that the site has not approved
    "OtherCode": _changed("code", b"x" * 32),  # sites that run other software are to be added up
    "WeakPrivacy": _changed(
        "privacy", b"weaker"
    ),  # a plan whose differential-privacy block is not the study's
    "RoundAhead": _changed("round", 99),  # a round that the study has not
    "OtherDirectory": _changed("directory", 2),  # a version of the directory that this site has not pinned
    "NewerVersion": NewerVersion,
    "ForgedPlan": ForgedPlan,
    "FewOrganisations": FewOrganisations,
    "InventedSites": InventedSites,
    "HandPicked": HandPicked,
    "Replayed": Replayed,
    "SequenceBack": SequenceBack,
    "OnceMore": OnceMore,
}
"""All of them."""
