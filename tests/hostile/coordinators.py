"""One hostile coordinator for each row of the attack table: who lies about keys, sets, plans, models or time.

Each says at which step its victims refuse, and with what words.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from tests.client.secure_bench import InputOrder
from tests.hostile.server import HostileServer, Sealed
from tests.privacy.secagg.federation import identity
from vestry_privacy.secagg.encoding import PROTOCOL
from vestry_privacy.secagg.encoding import field as field_bytes
from vestry_privacy.secagg.history import NO_HEAD
from vestry_privacy.secagg.keys import KeyPair
from vestry_privacy.secagg.messages import Advertisement, relay, sign_plan
from vestry_privacy.secagg.plan import Plan, threshold
from vestry_privacy.secagg.secret import Secret
from vestry_strategies.orders import Order, TrainOrder

__all__ = ["COORDINATORS"]


@dataclass
class SurvivorEquivocation(HostileServer):
    """Half of the sites are shown other survivors than the others."""

    step, words = "unmask", "other survivors"

    def victims(self) -> Sequence[str]:
        """Everybody: no set is signed by four sites."""
        return self.names

    def survivors_for(self, site: str, headers: list[bytes]) -> list[bytes]:
        """Two sites see a set without the last, three one without the first."""
        return headers[:4] if site in self.names[:2] else headers[1:]

    def signatures_for(self, site: str, signatures: list[bytes]) -> list[bytes]:
        """Those of the sites in the set that it was shown."""
        return self.survivors_for(site, signatures)


@dataclass
class LeavesItOut(HostileServer):
    """A site is asked to sign survivors among whom it is not: its mask key would be revealed."""

    step, words = "survivors", "not among them"

    def victims(self) -> Sequence[str]:
        """The first site."""
        return self.names[:1]

    def survivors_for(self, site: str, headers: list[bytes]) -> list[bytes]:
        """Without the first."""
        return headers[1:]


@dataclass
class OtherKeys(HostileServer):
    """One site is shown keys of four sites, the others of five."""

    step, words = "deliver", "told of other keys"

    def keys_for(self, site: str, messages: list[bytes]) -> list[bytes]:
        """The first site sees no last one."""
        return messages[:4] if site == self.names[0] else messages


@dataclass
class OtherDealers(HostileServer):
    """One site is shown deals of four sites, so its masks are others'."""

    step, words = "survivors", "other dealers"

    def victims(self) -> Sequence[str]:
        """All but the last, who is no dealer for the first."""
        return self.names[1:]

    def deals_for(self, site: str, deals: Sealed) -> Sealed:
        """The first site sees no last deal."""
        return deals[:4] if site == self.names[0] else deals


@dataclass
class BothShares(HostileServer):
    """Asked for shares a second time, of other survivors: both shares of the last site would unmask it."""

    step, words = "unmask", "this site is at 'revealing'"

    def victims(self) -> Sequence[str]:
        """Everybody has given one kind and gives no other."""
        return self.names

    def run(self) -> None:
        """Twice the last two steps."""
        super().run()
        assert len(self.wire.revealed()) == 5
        self.first = list(self.wire.left)
        self.wire.left.clear()
        headers = [self.said[site, "input"].header for site in self.names[:4]]  # type: ignore[union-attr]
        self.each("survivors", dict.fromkeys(self.names, relay("survivors", self.digest, headers)))
        self.each("unmask", dict.fromkeys(self.names, relay("unmask", self.digest, [])))


@dataclass
class SubstitutedKeys(HostileServer):
    """The server puts keys of its own in a site's place, to read what is sealed for it."""

    step, words = "shares", "signature of keys"

    def victims(self) -> Sequence[str]:
        """All others."""
        return self.names[:4]

    def keys_for(self, site: str, messages: list[bytes]) -> list[bytes]:
        """The last site's keys, made and signed by the server."""
        if site == self.names[4]:
            return messages
        pairs = KeyPair(Secret(b"1" * 32)), KeyPair(Secret(b"2" * 32))
        keys = (pairs[0].public, pairs[1].public)
        body = Advertisement.body(self.digest, 4, keys, (NO_HEAD, NO_HEAD))
        return [*messages[:4], self.roster.sign(self.federation.coordinator, body)]


@dataclass
class TwinKeys(HostileServer):
    """A helper of the server advertises the keys of another site as its own."""

    step, words = "shares", "two public keys are the same"

    def victims(self) -> Sequence[str]:
        """All but the helper, who sent other keys."""
        return self.names[:4]

    def keys_for(self, site: str, messages: list[bytes]) -> list[bytes]:
        """The helper signs the first site's keys."""
        first = Advertisement.read(self.roster, messages[0])
        keys = (first.seal_public, first.mask_public)
        body = Advertisement.body(self.digest, 4, keys, (NO_HEAD, NO_HEAD))
        helper = self.federation.sites[self.names[4]].secure
        assert helper is not None
        return [*messages[:4], self.roster.sign(helper.identity, body)]


@dataclass
class ChangedPlan(HostileServer):
    """A plan that is not what the study says, under the coordinator's good signature."""

    step: ClassVar[str] = "keys"
    changes: dict[str, object] = field(default_factory=dict)

    def make_plan(self) -> Plan:
        """With changes."""
        return self.federation.plan(self.order(), **self.changes)


@dataclass
class LowThreshold(ChangedPlan):
    """Two sites are to be enough to unmask."""

    words = "plan.threshold"
    changes: dict[str, object] = field(default_factory=lambda: {"threshold": 2})


@dataclass
class FewOrganisations(ChangedPlan):
    """Fewer organisations than the study says are to be enough."""

    words = "plan.least"

    def make_plan(self) -> Plan:
        """The study says four."""
        self.federation.study = self.federation.study.model_copy(
            update={"aggregation": self.federation.study.aggregation.model_copy(update={"min_sites": 4})}
        )
        return self.federation.plan(self.order(), least=3)


@dataclass
class OtherRing(ChangedPlan):
    """Wider lanes, in which a single site's low bits could be planted."""

    words = "plan.lane_bits"
    changes: dict[str, object] = field(default_factory=lambda: {"lane_bits": 32})


@dataclass
class OtherRange(ChangedPlan):
    """A range so small that every value saturates, and its sign is counted."""

    words = "plan.value_range"
    changes: dict[str, object] = field(default_factory=lambda: {"value_range": 1e-9})


@dataclass
class HugeWeight(ChangedPlan):
    """A weight limit that makes everybody's values vanish but one's."""

    words = "plan.weight_limit"
    changes: dict[str, object] = field(default_factory=lambda: {"weight_limit": 2**50})


@dataclass
class OtherStudy(ChangedPlan):
    """A plan of a study that the site has not approved."""

    words = "plan.study"
    changes: dict[str, object] = field(default_factory=lambda: {"study": b"x" * 32})


@dataclass
class OtherCode(ChangedPlan):
    """Sites that run other software are to be added up."""

    words = "plan.code"
    changes: dict[str, object] = field(default_factory=lambda: {"code": b"x" * 32})


@dataclass
class WeakPrivacy(ChangedPlan):
    """A plan whose differential-privacy block is not the study's."""

    words = "plan.privacy"
    changes: dict[str, object] = field(default_factory=lambda: {"privacy": b"weaker"})


@dataclass
class RoundAhead(ChangedPlan):
    """A round that the study has not."""

    words = "plan.round"
    changes: dict[str, object] = field(default_factory=lambda: {"round": 99})


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
class InventedSites(ChangedPlan):
    """Sites of the server's own making fill the roster."""

    words = "this site's directory"

    def make_plan(self) -> Plan:
        """Two real sites among sybils."""
        real = self.federation.directory.roster()[:2]
        roster = tuple(sorted((*real, *(bytes([n]) * 32 for n in range(1, 4)))))
        return self.federation.plan(self.order(), roster=roster, threshold=threshold(5))


@dataclass
class HandPicked(ChangedPlan):
    """A few sites that the server has chosen, its helpers among them."""

    words = "all are in a sum"

    def make_plan(self) -> Plan:
        """Four of five."""
        roster = self.federation.directory.roster()[:4]
        return self.federation.plan(self.order(), roster=roster, threshold=threshold(4))


@dataclass
class OtherDirectory(ChangedPlan):
    """A version of the directory that this site has not pinned."""

    words = "plan.directory"
    changes: dict[str, object] = field(default_factory=lambda: {"directory": 2})


@dataclass
class ModelForOne(HostileServer):
    """One site gets a model of its own, so that the sum tells its part (Pasquini et al., CCS 2022)."""

    step, words = "input", "not the model of the plan"

    def victims(self) -> Sequence[str]:
        """The first site."""
        return self.names[:1]

    def input_for(self, site: str, order: InputOrder) -> Order:
        """Another model for the first site."""
        if site != self.names[0] or not isinstance(order, TrainOrder):
            return order
        return replace(order, model=np.zeros_like(order.model))


@dataclass
class ArraysForOne(ModelForOne):
    """One site gets a preprocessing made for it."""

    words = "not those of the plan"

    def input_for(self, site: str, order: InputOrder) -> Order:
        """Other means for the first site."""
        if site != self.names[0] or not isinstance(order, TrainOrder):
            return order
        arrays = {name: array + 1.0 for name, array in order.preprocessing.items()}
        return replace(order, preprocessing=arrays)


@dataclass
class ClearPlease(HostileServer):
    """The order leaves out that the reply is for a secure sum."""

    step, words = "input", "no reply in the clear"

    def input_for(self, site: str, order: InputOrder) -> Order:
        """Without the plan."""
        return replace(order, secure="")


@dataclass
class ClearStudy(HostileServer):
    """The study is changed to ask for updates in the clear: the site's policy refuses that one."""

    step, words, code = "input", "allow_individual_updates", "policy"

    def input_for(self, site: str, order: InputOrder) -> Order:
        """With aggregation.secure = false."""
        study = self.federation.study
        clear = study.model_copy(
            update={"aggregation": study.aggregation.model_copy(update={"secure": False})}
        )
        return replace(order, secure="", study=clear.to_json())


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


@dataclass
class RestartedSite(HostileServer):
    """A site is restarted in the middle, to make it mask twice with one plan."""

    step, words = "input", "no longer has the secrets"

    def victims(self) -> Sequence[str]:
        """The first."""
        return self.names[:1]

    def between(self, step: str) -> None:
        """Before its input."""
        if step == "input":
            self.federation.restart(self.names[0])


@dataclass
class RestartedSigner(RestartedSite):
    """A site is restarted after it has signed, to make it reveal for other survivors."""

    step = "unmask"

    def between(self, step: str) -> None:
        """Before its shares."""
        if step == "unmask":
            self.federation.restart(self.names[0])


@dataclass
class FewSignatures(HostileServer):
    """Shares are asked for with fewer signatures than the threshold."""

    step, words = "unmask", "signatures: 3 sites"

    def signatures_for(self, site: str, signatures: list[bytes]) -> list[bytes]:
        """Three of five."""
        return signatures[:3]


@dataclass
class SameSignature(HostileServer):
    """One signature counted many times."""

    step, words = "unmask", "distinct survivors"

    def signatures_for(self, site: str, signatures: list[bytes]) -> list[bytes]:
        """Five times the first."""
        return signatures[:1] * 5


@dataclass
class FewSurvivors(HostileServer):
    """Survivors so few that one update could be told."""

    step, words = "survivors", "survivors: 3 sites"

    def victims(self) -> Sequence[str]:
        """Those in the set; the others are not in it."""
        return self.names[:3]

    def survivors_for(self, site: str, headers: list[bytes]) -> list[bytes]:
        """Three of five."""
        return headers[:3]


@dataclass
class SwappedShares(HostileServer):
    """Sealed shares are swapped between sites on their way."""

    step, words = "deliver", "changed on their way"

    def deals_for(self, site: str, deals: Sealed) -> Sealed:
        """Each deal with the ciphertext of another."""
        place = self.names.index(site)
        others = [deal for n, deal in enumerate(deals) if n != place]
        mixed = [(d, others[(n + 1) % len(others)][1]) for n, (d, _) in enumerate(others)]
        mixed.insert(place, deals[place])
        return mixed


@dataclass
class SkippedStep(HostileServer):
    """Input is asked for before the shares were delivered."""

    step, words = "input", "this site is at 'dealt'"

    def each(self, step: str, messages: dict[str, bytes]) -> None:  # type: ignore[override]
        """No delivery."""
        if step != "deliver":
            super().each(step, messages)  # type: ignore[arg-type]


COORDINATORS: tuple[type[HostileServer], ...] = (
    SurvivorEquivocation, LeavesItOut, OtherKeys, OtherDealers, BothShares, SubstitutedKeys, TwinKeys,
    LowThreshold, FewOrganisations, OtherRing, OtherRange, HugeWeight, OtherStudy, OtherCode, WeakPrivacy,
    RoundAhead, NewerVersion, ForgedPlan, InventedSites, HandPicked, OtherDirectory, ModelForOne,
    ArraysForOne,
    ClearPlease, ClearStudy, Replayed, SequenceBack, OnceMore, RestartedSite, RestartedSigner, FewSignatures,
    SameSignature, FewSurvivors, SwappedShares, SkippedStep,
)  # fmt: skip
"""All of them."""
