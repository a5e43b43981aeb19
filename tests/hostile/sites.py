"""Hostile sites: each sends the coordinator something else than its handlers say, in one step.

The coordinator is the real one; a double changes what arrives from one site, with all that the site knows.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from tests.client.secure_bench import Federation
from tests.hostile.server import Wire
from vestry_client.handlers import handle
from vestry_privacy.identity import SiteIdentity
from vestry_privacy.secagg.deals import read_delivered
from vestry_privacy.secagg.encoding import Reader, field_list
from vestry_privacy.secagg.encoding import field as field_bytes
from vestry_privacy.secagg.history import NO_HEAD, Head
from vestry_privacy.secagg.messages import Advertisement, Complaint, Consistent, Deal, Revealed, read_plan
from vestry_privacy.secagg.plan import Plan
from vestry_privacy.secagg.roster import Roster
from vestry_strategies.orders import (
    MaskedReply,
    Order,
    Refusal,
    Reply,
    SecureOrder,
    SecureReply,
    TrainReply,
)

__all__ = ["SITES", "FalseKey", "HostileSite", "HostileWire", "OlderBooks"]


@dataclass
class HostileSite:
    """One site that lies.

    Attributes:
        federation: it is in it.
        name: of the site.
        kept: its message of each step, of the sum before this one.
        messages: the same of this sum.
        lies: or is honest for now.
    """

    federation: Federation
    name: str
    kept: dict[str, bytes] = field(default_factory=dict)
    messages: dict[str, bytes] = field(default_factory=dict)
    lies: bool = False

    step: ClassVar[str] = ""
    """In which it lies."""

    words: ClassVar[str] = ""
    """Why it is left out."""

    survives: ClassVar[bool] = False
    """Is its input in the sum all the same?"""

    convicted: ClassVar[bool] = False
    """Does the sum fail, and is it known who did it?"""

    @property
    def identity(self) -> SiteIdentity:
        """It signs what it likes."""
        seat = self.federation.sites[self.name].secure
        assert seat is not None
        return seat.identity

    @property
    def roster(self) -> Roster:
        """Of the sum."""
        return Roster.of(self.plan, self.federation.directory)

    @property
    def index(self) -> int:
        """Its place in the roster."""
        return self.roster.index(self.name)

    def send(self, order: Order) -> Reply:
        """What arrives in place of its handlers' reply."""
        if isinstance(order, SecureOrder):
            if order.step == "keys":
                self.kept, self.messages = self.messages, {}
                self.plan: Plan = read_plan(order.message, self.federation.directory)
            self.order = order
        reply = handle(self.federation.sites[self.name], order)
        step = reply.step if isinstance(reply, SecureReply) else "input"
        if isinstance(reply, SecureReply):
            self.messages[step] = reply.message
        return self.lie(reply) if self.lies and step == self.step else reply

    def lie(self, reply: Reply) -> Reply:
        """Hook."""
        raise NotImplementedError

    def say(self, body: bytes) -> SecureReply:
        """A body of its own under its good signature."""
        message = self.roster.sign(self.identity, body)
        return SecureReply(self.name, self.order.step, self.order.plan, message)


@dataclass
class HostileWire(Wire):
    """The exchange, with one site that lies."""

    liar: HostileSite | None = None

    def send(self, orders: Mapping[str, Order], deadline_seconds: float) -> Iterator[Reply]:
        """Hand each site its order."""
        for site, order in orders.items():
            if self.liar is not None and site == self.liar.name:
                yield self.liar.send(order)
            else:
                yield from super().send({site: order}, deadline_seconds)


@dataclass
class OldKeys(HostileSite):
    """Keys of an earlier sum."""

    step, words = "keys", "another sum"

    def lie(self, reply: Reply) -> Reply:
        """Of the sum before."""
        assert isinstance(reply, SecureReply)
        return replace(reply, message=self.kept["keys"])


@dataclass
class SmallOrderKey(HostileSite):
    """A mask key with which every shared secret is zero: the others' masks would be known to all."""

    step, words = "keys", "all-zero"

    def lie(self, reply: Reply) -> Reply:
        """The point at zero."""
        keys = (bytes([9]) + bytes(31), bytes(32))
        return self.say(Advertisement.body(self.plan.digest, self.index, keys, (NO_HEAD, NO_HEAD)))


@dataclass
class OlderBooks(HostileSite):
    """A head behind the one that it has shown before: a restored backup."""

    step, words = "keys", "highest head"

    def lie(self, reply: Reply) -> Reply:
        """Its good keys, an old head."""
        assert isinstance(reply, SecureReply)
        one = Advertisement.read(self.roster, reply.message)
        heads = (Head(one.journal.epoch, 0, b"o" * 32), NO_HEAD)
        keys = (one.seal_public, one.mask_public)
        return self.say(Advertisement.body(self.plan.digest, self.index, keys, heads))


@dataclass
class Garbage(HostileSite):
    """Bytes that are no message."""

    step, words = "shares", "cut short"

    def lie(self, reply: Reply) -> Reply:
        """Hundred zeros."""
        assert isinstance(reply, SecureReply)
        return replace(reply, message=b"\x00" * 3)


@dataclass
class BadShares(HostileSite):
    """A bad share for one holder, under a good signature: to break the sum later, or to blame the holder."""

    step, words, convicted = "shares", "dealt bad ones", True

    def lie(self, reply: Reply) -> Reply:
        """The commitments to two shares of one holder are swapped."""
        assert isinstance(reply, SecureReply)
        reader = Reader(reply.message, "shares")
        deal, sealed = Deal.read(self.roster, reader.field()), reader.fields(200)
        entries = [deal.entry(holder) for holder in deal.holders]
        victim = 0 if self.index else 1
        bad = replace(
            entries[victim], self_mask=entries[victim].pair_mask, pair_mask=entries[victim].self_mask
        )
        entries[victim] = bad
        body = Deal.body(self.plan.digest, self.index, deal.seed, deal.holders, entries)
        message = field_bytes(self.roster.sign(self.identity, body)) + field_list(sealed)
        return replace(reply, message=message)


@dataclass
class OtherSeed(HostileSite):
    """A seed other than the one committed to: found out when it is unmasked, and its dealer named."""

    step, words, convicted = "shares", "another secret", True

    def lie(self, reply: Reply) -> Reply:
        """Another commitment; its own copy is changed with it, as a liar's would be."""
        assert isinstance(reply, SecureReply)
        reader = Reader(reply.message, "shares")
        deal, sealed = Deal.read(self.roster, reader.field()), reader.fields(200)
        entries = [deal.entry(holder) for holder in deal.holders]
        body = Deal.body(self.plan.digest, self.index, b"x" * 32, deal.holders, entries)
        signed = self.roster.sign(self.identity, body)
        seat = self.federation.sites[self.name].secure
        assert seat is not None
        seat.live(self.plan.digest.hex()).state.dealing.sent = signed  # type: ignore[union-attr]
        return replace(reply, message=field_bytes(signed) + field_list(sealed))


@dataclass
class Framing(HostileSite):
    """A complaint of shares that were good."""

    step, words, convicted = "deliver", "has no case", True

    def lie(self, reply: Reply) -> Reply:
        """About another dealer, with the true key."""
        dealer = 0 if self.index else 1
        key = self.noted[dealer]
        _, ciphertext = read_delivered(self.roster, self.order.message)[dealer]
        return self.say(Complaint.body(self.plan.digest, self.index, dealer, "share", key, ciphertext))

    def send(self, order: Order) -> Reply:
        """Note the keys before the step that wipes them."""
        if isinstance(order, SecureOrder) and order.step == "deliver":
            seat = self.federation.sites[self.name].secure
            assert seat is not None
            dealing = seat.live(order.plan).state.dealing  # type: ignore[union-attr]
            self.noted = {dealer: key.expose() for dealer, key in dealing.inward.items()}
        return super().send(order)


@dataclass
class FalseKey(HostileSite):
    """A complaint that opens another key than was agreed: the server cannot tell who lies.

    Attributes:
        partner: the dealer that it complains of.
    """

    partner: int = 0
    step, words = "deliver", "one of them lies"

    def lie(self, reply: Reply) -> Reply:
        """About a dealer of its choice."""
        _, ciphertext = read_delivered(self.roster, self.order.message)[self.partner]
        return self.say(
            Complaint.body(self.plan.digest, self.index, self.partner, "seal-key", b"k" * 32, ciphertext)
        )


@dataclass
class ChangedWords(HostileSite):
    """Masked words that are not those that were signed."""

    step, words = "input", "not those that it signed"

    def lie(self, reply: Reply) -> Reply:
        """One bit."""
        assert isinstance(reply, MaskedReply)
        vector = reply.vector.copy()
        vector[0] ^= np.uint64(1)
        return replace(reply, vector=vector)


@dataclass
class ShortWords(HostileSite):
    """A vector cut short, as by a connection that broke."""

    step, words = "input", "not those that it signed"

    def lie(self, reply: Reply) -> Reply:
        """One word less."""
        assert isinstance(reply, MaskedReply)
        return replace(reply, vector=reply.vector[:-1])


@dataclass
class ClearWords(HostileSite):
    """An update in the clear where a masked one was asked for: the coordinator must not use it."""

    step, words = "input", "unexpected TrainReply"

    def lie(self, reply: Reply) -> Reply:
        """Zeros."""
        return TrainReply(self.name, 1, np.zeros(3, dtype=np.float32), 1.0, None, 1)


@dataclass
class OtherSurvivors(HostileSite):
    """A signature over survivors that nobody else saw."""

    step, words, survives = "survivors", "other survivors", True

    def lie(self, reply: Reply) -> Reply:
        """Another view."""
        assert isinstance(reply, SecureReply)
        one = Consistent.read(self.roster, reply.message)
        return self.say(Consistent.body(self.plan.digest, self.index, one.dealers, b"v" * 32))


@dataclass
class WrongReveal(HostileSite):
    """A share that was not dealt, to spoil the unmasking."""

    step, words, survives = "unmask", "not what was dealt", True

    def lie(self, reply: Reply) -> Reply:
        """Two shares swapped."""
        assert isinstance(reply, SecureReply)
        one = Revealed.read(self.roster, reply.message, 5)
        shares = [one.shares[1], one.shares[0], *one.shares[2:]]
        return self.say(Revealed.body(self.plan.digest, self.index, shares))


@dataclass
class Silent(HostileSite):
    """No share at the end."""

    step, words, survives = "unmask", "internal", True

    def lie(self, reply: Reply) -> Reply:
        """A refusal."""
        return Refusal(self.name, "internal", "no")


SITES: tuple[type[HostileSite], ...] = (
    OldKeys, SmallOrderKey, OlderBooks, Garbage, BadShares, OtherSeed, Framing, ChangedWords, ShortWords,
    ClearWords, OtherSurvivors, WrongReveal, Silent,
)  # fmt: skip
"""All of them."""
