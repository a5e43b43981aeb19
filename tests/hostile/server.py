"""A coordinator that does what it likes: it speaks to the real handlers, and nothing stops it but they.

It owns the coordinator's key, keeps every message that it saw, and goes on after a refusal. A test double
changes one hook; :class:`Wire` is the exchange, and remembers all that left a site.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from tests.client.secure_bench import Federation, InputOrder
from vestry_client.handlers import handle
from vestry_privacy.secagg.encoding import SERVER, Reader, header, u32
from vestry_privacy.secagg.encoding import field as field_bytes
from vestry_privacy.secagg.messages import relay, sign_plan
from vestry_privacy.secagg.plan import Plan
from vestry_privacy.secagg.roster import Roster
from vestry_strategies.orders import (
    EvaluateReply,
    MaskedReply,
    Order,
    Refusal,
    Reply,
    SecureOrder,
    SecureReply,
    SecureStep,
    StatisticsReply,
    TrainReply,
)
from vestry_strategies.secure_plan import SumKind

__all__ = ["HostileServer", "Sealed", "Wire"]

Sealed = list[tuple[bytes, bytes]]
"""Signed deals, each with the ciphertext for one site."""


@dataclass
class Wire:
    """The exchange between a coordinator and the handlers of a federation.

    Attributes:
        federation: whose handlers answer.
        left: (site, reply) of everything that left a site, in order.
    """

    federation: Federation
    left: list[tuple[str, Reply]] = field(default_factory=list)

    def sites(self) -> tuple[str, ...]:
        """Names of all sites."""
        return tuple(sorted(self.federation.sites))

    def send(self, orders: Mapping[str, Order], deadline_seconds: float) -> Iterator[Reply]:
        """Hand each site its order."""
        for site, order in orders.items():
            reply = handle(self.federation.sites[site], order)
            self.left.append((site, reply))
            yield reply

    def check_nothing_left_unmasked(self) -> None:
        """No update, metric or statistic in the clear; masked words that look like masks."""
        for site, reply in self.left:
            assert not isinstance(reply, StatisticsReply | TrainReply | EvaluateReply), site
            if isinstance(reply, MaskedReply):
                # Of clear words the ones with weight and metrics are small, and no lane has the top bit.
                assert reply.vector.max() > 2**60
                assert np.count_nonzero(reply.vector < 2**48) <= 1

    def revealed(self) -> list[str]:
        """Sites that gave shares."""
        return [
            site for site, reply in self.left if isinstance(reply, SecureReply) and reply.step == "unmask"
        ]


@dataclass
class HostileServer:
    """One sum, led by somebody who wants a single site's update.

    Attributes:
        federation: its handlers.
        wire: to them.
        kind: of the sum.
        said: (site, step) -> the last answer.
    """

    federation: Federation
    wire: Wire
    kind: SumKind = "train"
    said: dict[tuple[str, str], Reply] = field(default_factory=dict)

    step: ClassVar[str] = ""
    """At which the victims refuse."""

    code: ClassVar[str] = "secure"
    """Code of their refusal."""

    words: ClassVar[str] = ""
    """What their refusal says."""

    def make_plan(self) -> Plan:
        """Hook: the plan."""
        return self.federation.plan(self.order())

    def order(self) -> InputOrder:
        """The order for input."""
        return self.federation.order(self.kind)

    def signed(self, plan: Plan) -> bytes:
        """Hook: the signed plan."""
        return sign_plan(plan, self.federation.coordinator)

    def victims(self) -> Sequence[str]:
        """Hook: who must refuse."""
        return self.names

    def keys_for(self, site: str, messages: list[bytes]) -> list[bytes]:
        """Hook: signed keys that a site is shown."""
        return messages

    def deals_for(self, site: str, deals: Sealed) -> Sealed:
        """Hook: deals that a site is shown."""
        return deals

    def input_for(self, site: str, order: InputOrder) -> Order:
        """Hook: what a site is to compute."""
        return order

    def survivors_for(self, site: str, headers: list[bytes]) -> list[bytes]:
        """Hook: survivors that a site is shown."""
        return headers

    def signatures_for(self, site: str, signatures: list[bytes]) -> list[bytes]:
        """Hook: signatures that a site is shown."""
        return signatures

    def between(self, step: str) -> None:
        """Hook: before a step."""

    @property
    def names(self) -> tuple[str, ...]:
        """Sites in the order of the plan's roster."""
        return self.roster.names

    def run(self) -> None:
        """All steps with everybody, whatever they answer."""
        self.plan = self.make_plan()
        self.digest = self.plan.digest
        honest = Roster.of(self.federation.plan(self.order()), self.federation.directory)
        self.roster = replace(honest, plan=self.plan)
        signed = self.signed(self.plan)
        self.each("keys", dict.fromkeys(self.names, signed))
        keys = self.answers("keys")
        self.each(
            "shares",
            {s: relay("roster-keys", self.digest, self.keys_for(s, [*keys.values()])) for s in self.names},
        )
        self.each("deliver", {site: self.delivery(site) for site in self.names})
        self.between("input")
        self.ask_input()
        headers = {
            site: reply.header
            for site in self.names
            if isinstance(reply := self.said.get((site, "input")), MaskedReply)
        }
        survivors = {
            s: relay("survivors", self.digest, self.survivors_for(s, [*headers.values()])) for s in self.names
        }
        self.each("survivors", survivors)
        self.between("unmask")
        signatures = [*self.answers("survivors").values()]
        self.each(
            "unmask",
            {s: relay("unmask", self.digest, self.signatures_for(s, [*signatures])) for s in self.names},
        )

    def each(self, step: SecureStep, messages: Mapping[str, bytes]) -> None:
        """One step at several sites."""
        text, name = self.federation.study.to_json(), self.digest.hex()
        self.send(step, {s: SecureOrder(text, step, name, message) for s, message in messages.items()})

    def ask_input(self) -> None:
        """The step in which sites compute."""
        order = replace(self.order(), secure=self.digest.hex())
        self.send("input", {site: self.input_for(site, order) for site in self.names})

    def send(self, step: str, orders: Mapping[str, Order]) -> None:
        """Orders out, answers in; a refusal is kept and changes nothing."""
        for site, order in orders.items():
            for reply in self.wire.send({site: order}, 60.0):
                self.said[site, step] = reply

    def answers(self, step: str) -> dict[str, bytes]:
        """What sites have sent in a step, in the order of the roster."""
        return {
            site: reply.message
            for site in self.names
            if isinstance(reply := self.said.get((site, step)), SecureReply)
        }

    def delivery(self, site: str) -> bytes:
        """Everybody's deals with the ciphertexts for a site."""
        pairs: Sealed = []
        for dealer, message in self.answers("shares").items():
            reader = Reader(message, "shares")
            deal, ciphertexts = reader.field(), reader.fields(200)
            others = [name for name in self.names if name in self.answers("keys") and name != dealer]
            place = others.index(site) if site in others else None
            there = place is not None and place < len(ciphertexts)
            pairs.append((deal, ciphertexts[place] if there and place is not None else b""))
        pairs = self.deals_for(site, pairs)
        start = header("deliver", self.digest, SERVER) + u32(len(pairs))
        return start + b"".join(field_bytes(deal) + field_bytes(sealed) for deal, sealed in pairs)

    def refusal(self) -> str:
        """Hook: what a victim's refusal says."""
        return self.words

    def check(self) -> None:
        """Every victim refused where it should, and nothing left that should not."""
        for site in self.victims():
            reply = self.said[site, self.step]
            assert isinstance(reply, Refusal), (site, reply)
            assert reply.code == self.code, reply
            assert self.refusal() in reply.message, reply
        assert not set(self.victims()) & set(self.wire.revealed())
        self.wire.check_nothing_left_unmasked()
