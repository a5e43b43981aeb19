"""One hostile coordinator for each row of the attack table: who lies about keys, sets, models or steps.

Each says at which step its victims refuse, and with what words; whose plan lies is in plans.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tests.client.secure_bench import InputOrder
from tests.hostile.plans import PLANS, Hostile
from tests.hostile.server import HostileServer, Sealed
from vestry_privacy.secagg.history import NO_HEAD
from vestry_privacy.secagg.keys import KeyPair
from vestry_privacy.secagg.messages import Advertisement, relay
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
class ArraysForOne(HostileServer):
    """One site gets a preprocessing made for it."""

    step, words = "input", "not those of the plan"

    def victims(self) -> Sequence[str]:
        """The first site."""
        return self.names[:1]

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
class RestartedSigner(HostileServer):
    """A site is restarted after it has signed, to make it reveal for other survivors."""

    step, words = "unmask", "no longer has the secrets"

    def victims(self) -> Sequence[str]:
        """The first."""
        return self.names[:1]

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


COORDINATORS: Mapping[str, Hostile] = {
    "SurvivorEquivocation": SurvivorEquivocation,
    "LeavesItOut": LeavesItOut,
    "OtherKeys": OtherKeys,
    "OtherDealers": OtherDealers,
    "BothShares": BothShares,
    "SubstitutedKeys": SubstitutedKeys,
    "TwinKeys": TwinKeys,
    "ModelForOne": ModelForOne,
    "ArraysForOne": ArraysForOne,
    "ClearPlease": ClearPlease,
    "ClearStudy": ClearStudy,
    "RestartedSite": RestartedSite,
    "RestartedSigner": RestartedSigner,
    "FewSignatures": FewSignatures,
    "SameSignature": SameSignature,
    "FewSurvivors": FewSurvivors,
    "SwappedShares": SwappedShares,
    "SkippedStep": SkippedStep,
    **PLANS,
}
"""All of them."""
