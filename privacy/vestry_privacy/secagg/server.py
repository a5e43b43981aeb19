"""The server in one secure sum: collects and hands on what the sites sign, and adds up what it cannot read.

Steps as in docs/secagg-protocol.md. Every ``collect_*`` and ``add_input`` takes one site's message and
raises ``ProtocolAbort`` for it alone: the caller leaves that site out and goes on. A method that hands on
closes the set before it, and raises ``TooFewSites`` where the sum cannot go on. No I/O: frames of a masked
vector come as an iterable, so that the caller may keep them on a disk.

Memory: one vector of the plan's length, whatever the number of sites.
"""

import hashlib
from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vestry_privacy.secagg.deals import judge, read_sealed
from vestry_privacy.secagg.directory import Directory
from vestry_privacy.secagg.encoding import SERVER, field, header, u32
from vestry_privacy.secagg.errors import BadDealing, BadKey, Inconsistent, ProtocolAbort, Repeated, WrongStep
from vestry_privacy.secagg.history import Head, after_input, check_peer
from vestry_privacy.secagg.keys import check_public_key, same
from vestry_privacy.secagg.messages import (
    Advertisement,
    Complaint,
    Consistent,
    Deal,
    InputHeader,
    Revealed,
    read_ready,
    relay,
    sites_hash,
    view_hash,
)
from vestry_privacy.secagg.plan import Plan
from vestry_privacy.secagg.roster import Roster
from vestry_privacy.secagg.secret import Secret
from vestry_privacy.secagg.transcript import Transcript
from vestry_privacy.secagg.unmasking import check_reveal, unmask_sum
from vestry_privacy.secagg.vector import Sum, decode_sum

__all__ = ["Heads", "SumServer"]

Heads = dict[bytes, tuple[Head, Head]]
"""Key hash of a site -> the highest heads of its journal and of its ledger that were seen."""

Stage = Literal["keys", "shares", "deliver", "input", "survivors", "unmask", "done"]
_ORDER: tuple[Stage, ...] = ("keys", "shares", "deliver", "input", "survivors", "unmask", "done")


class SumServer:
    """One secure sum.

    Args:
        plan: of the sum.
        directory: the sites' identities.
        signed_plan: from :func:`~vestry_privacy.secagg.messages.sign_plan`.
        heads: highest heads seen in earlier sums; brought up to date here.

    Raises:
        PlanRefused: the plan is none.
        RosterRefused: it names a site that the directory does not know.
    """

    def __init__(
        self, plan: Plan, directory: Directory, signed_plan: bytes, heads: Heads | None = None
    ) -> None:
        plan.check()
        self.plan, self.signed_plan = plan, signed_plan
        self._directory, self._roster = directory, Roster.of(plan, directory)
        self._heads: Heads = {} if heads is None else heads
        self._stage: Stage = "keys"
        self._keys: dict[int, Advertisement] = {}
        self._deals: dict[int, Deal] = {}
        self._sealed: dict[int, dict[int, bytes]] = {}
        self._ready: set[int] = set()
        self._inputs: dict[int, InputHeader] = {}
        self._total: NDArray[np.uint64] | None = None
        self._consistent: dict[int, Consistent] = {}
        self._revealed: dict[int, Revealed] = {}
        self._weight: int | None = None

    @property
    def u1(self) -> tuple[str, ...]:
        """Sites whose keys are here."""
        return self._names(self._keys)

    @property
    def u2(self) -> tuple[str, ...]:
        """Sites whose shares are here."""
        return self._names(self._deals)

    @property
    def u3(self) -> tuple[str, ...]:
        """Sites whose masked input is here."""
        return self._names(self._inputs)

    def collect_keys(self, site: str, message: bytes) -> None:
        """Step 1: a site's signed keys.

        Raises:
            BadSignature, BadMessage, BadKey, RolledBack, Repeated: of this site's message.
        """
        self._at("keys")
        one = Advertisement.read(self._roster, message)
        self._of(site, one.sender, self._keys)
        known = {key for other in self._keys.values() for key in (other.seal_public, other.mask_public)}
        if one.seal_public in known or one.mask_public in known or one.seal_public == one.mask_public:
            raise BadKey("distinct keys", "a key is another site's, or twice its own", peer=site)
        try:
            check_public_key(one.seal_public)
            check_public_key(one.mask_public)
        except BadKey as error:  # one such key would make all others refuse
            raise BadKey(error.rule, error.message, round=self.plan.round, peer=site) from None
        entry = self.plan.roster[one.sender]
        journal, ledger = self._heads.get(entry, (None, None))
        check_peer(journal, one.journal, site)
        check_peer(ledger, one.ledger, site)
        self._heads[entry] = (one.journal, one.ledger)
        self._keys[one.sender] = one

    def roster_keys(self) -> bytes:
        """Close U1; for each of it, everybody's signed keys.

        Raises:
            TooFewSites: fewer than the threshold.
        """
        self._close("keys", "shares")
        self._keys = dict(sorted(self._keys.items()))
        self._roster.require(tuple(self._keys), "sites with keys")
        return relay("roster-keys", self._roster.plan_hash, [one.signed for one in self._keys.values()])

    def collect_shares(self, site: str, message: bytes) -> None:
        """Step 2: a site's commitments and sealed shares.

        Raises:
            BadSignature, BadMessage, BadDealing, Inconsistent, Repeated: of this site's message.
        """
        self._at("shares")
        deal, sealed = read_sealed(self._roster, message, tuple(self._keys))
        self._of(site, deal.sender, self._deals)
        self._deals[deal.sender] = deal
        self._sealed[deal.sender] = sealed

    def deliver_to(self, site: str) -> bytes:
        """Close U2 (the first time); for a site of it, everybody's commitments and its own sealed shares.

        Raises:
            TooFewSites: fewer than the threshold.
        """
        if self._stage == "shares":
            self._close("shares", "deliver")
            self._deals = dict(sorted(self._deals.items()))
            self._roster.require(tuple(self._deals), "sites with shares")
        self._at("deliver")
        holder = self._roster.index(site)
        if holder not in self._deals:
            raise WrongStep("deliver", "it has dealt no shares", round=self.plan.round, peer=site)
        parts = [header("deliver", self._roster.plan_hash, SERVER), u32(len(self._deals))]
        for dealer, deal in self._deals.items():
            parts += [field(deal.signed), field(self._sealed[dealer].get(holder, b""))]
        return b"".join(parts)

    def collect_ready(self, site: str, message: bytes) -> None:
        """Step 3: a site has checked its shares.

        Raises:
            BadDealing: it complains, and the sum is over; ``peer`` is who is convicted, the dealer or a
                complainer without a case; None where that cannot be told (docs/threat-model.md).
            BadMessage: of this site's message.
        """
        self._at("deliver")
        if message.startswith(header("complaint", self._roster.plan_hash, self._roster.index(site))):
            raise self._convict(site, message)
        sender = read_ready(self._roster, message)
        self._own(site, sender)
        if sender not in self._deals:
            raise WrongStep("ready", "it has dealt no shares", round=self.plan.round, peer=site)
        self._ready.add(sender)

    def expect_input(self) -> tuple[str, ...]:
        """Close step 3; the sites that are ready.

        Raises:
            TooFewSites: fewer than the threshold.
        """
        self._close("deliver", "input")
        self._sealed.clear()
        ready = sorted(self._ready)
        self._roster.require(ready, "sites that hold shares")
        return self._names(ready)

    def add_input(
        self, site: str, message: bytes, frames: NDArray[np.uint64] | Iterable[NDArray[np.uint64]]
    ) -> None:
        """Step 4: a site's signed header, and its masked words.

        Args:
            site: whose.
            message: its header.
            frames: its words, in pieces; read twice, first for the digest, so that nothing is added of a
                vector that is not whole.

        Raises:
            TypeError: ``frames`` can be read once only.
            Inconsistent: other dealers, another length or another digest than signed.
            BadSignature, BadMessage, Repeated: of this site's message.
        """
        self._at("input")
        one = InputHeader.read(self._roster, message)
        self._of(site, one.sender, self._inputs)
        if iter(frames) is frames:
            raise TypeError("frames: are read twice, and an iterator is not")
        pieces = [frames] if isinstance(frames, np.ndarray) else frames
        words = self.plan.shape.words
        if one.sender not in self._ready or one.words != words or not same(one.dealers, self._dealers()):
            raise self._odd(site, "masked input", "it is of another length or of other dealers")
        digest, length = hashlib.sha256(), 0
        for piece in pieces:
            digest.update(np.ascontiguousarray(piece, dtype="<u8").data)
            length += len(piece)
        if length != words or not same(digest.digest(), one.digest):
            raise self._odd(site, "masked input", "its words are not those that it signed")
        self._inputs[one.sender] = one
        if self._total is None:
            self._total = np.zeros(words, dtype=np.uint64)
        place = 0
        for piece in pieces:
            self._total[place : place + len(piece)] += piece
            place += len(piece)

    def survivors(self) -> bytes:
        """Close U3; for each of it, everybody's signed headers.

        Raises:
            TooFewSites: fewer than the threshold, or too few organisations.
        """
        self._close("input", "survivors")
        self._inputs = dict(sorted(self._inputs.items()))
        self._roster.require(tuple(self._inputs), "survivors")
        for index in self._inputs:
            entry = self.plan.roster[index]
            self._heads[entry] = after_input(self._heads[entry], self._keys[index].journal)
        return relay("survivors", self._roster.plan_hash, [one.signed for one in self._inputs.values()])

    def collect_consistent(self, site: str, message: bytes) -> None:
        """Step 5: a survivor's signature over the survivors.

        Raises:
            Inconsistent: it saw others.
            BadSignature, BadMessage, Repeated: of this site's message.
        """
        self._at("survivors")
        one = Consistent.read(self._roster, message)
        self._of(site, one.sender, self._consistent)
        if one.sender not in self._inputs:
            raise WrongStep("signature", "it is no survivor", round=self.plan.round, peer=site)
        if not (same(one.view, view_hash(self._inputs.values())) and same(one.dealers, self._dealers())):
            raise self._odd(site, "signature", "it saw other survivors")
        self._consistent[one.sender] = one

    def unmask(self) -> bytes:
        """For each survivor, the signatures.

        Raises:
            TooFewSites: fewer than the threshold.
        """
        self._close("survivors", "unmask")
        self._consistent = dict(sorted(self._consistent.items()))
        self._roster.require(tuple(self._consistent), "signatures")
        return relay("unmask", self._roster.plan_hash, [one.signed for one in self._consistent.values()])

    def collect_revealed(self, site: str, message: bytes) -> None:
        """Step 6: a survivor's shares, each checked against its dealer's commitment.

        Raises:
            BadShare: a share is not what was dealt.
            BadSignature, BadMessage, Repeated: of this site's message.
        """
        self._at("unmask")
        one = Revealed.read(self._roster, message, len(self._deals))
        self._of(site, one.sender, self._revealed)
        if one.sender not in self._inputs:
            raise WrongStep("shares", "it is no survivor", round=self.plan.round, peer=site)
        check_reveal(self._roster, one, self._deals, self._inputs)
        self._revealed[one.sender] = one

    def result(self) -> Sum:
        """Unmask and decode the sum.

        Raises:
            TooFewSites: fewer than the threshold have given shares.
            BadDealing: a dealer's shares make another secret than it committed to; the sum is lost.
        """
        self._close("unmask", "done")
        self._revealed = dict(sorted(self._revealed.items()))
        self._roster.require(tuple(self._revealed), "sites that unmask")
        if self._total is None:
            raise WrongStep("result", "there is no input", round=self.plan.round)
        total, self._total = self._total, None
        unmask_sum(self._roster, total, self._keys, self._deals, self._inputs, self._revealed)
        found = decode_sum(self.plan.shape, total, len(self._inputs))
        self._weight = found.weight
        return found

    def transcript(self) -> bytes:
        """All signed messages of the sum, for :mod:`~vestry_privacy.secagg.transcript`."""
        return Transcript(
            self._directory,
            self.signed_plan,
            tuple(one.signed for one in self._keys.values()),
            tuple(one.signed for one in self._deals.values()),
            tuple(one.signed for one in self._inputs.values()),
            tuple(one.signed for one in self._consistent.values()),
            tuple(one.signed for one in self._revealed.values()),
            None if self._weight is None else (len(self._inputs), self._weight),
        ).encode()

    def _convict(self, site: str, message: bytes) -> ProtocolAbort:
        """Judge a complaint: the holder's word against the dealer's signature."""
        try:
            one = Complaint.read(self._roster, message)
            self._own(site, one.sender)
            deal = self._deals.get(one.dealer)
            if deal is None or one.ciphertext != self._sealed[one.dealer].get(one.sender):
                return BadDealing("complaint", "is about other shares", round=self.plan.round, peer=site)
        except ProtocolAbort as error:
            return error
        dealer, entry, key = self._roster.names[one.dealer], deal.entry(one.sender), Secret(one.key)
        found = judge(self._roster.plan_hash, one.dealer, one.sender, entry, key, one.ciphertext)
        if not found:
            return BadDealing(
                "complaint", "has no case: the shares are good", round=self.plan.round, peer=site
            )
        if found == "seal-key":
            dispute = BadDealing(
                "complaint",
                f"'{site}' and '{dealer}' do not have the same key; one of them lies",
                round=self.plan.round,
            )
            dispute.between = (site, dealer)
            return dispute
        return BadDealing(
            "dealt shares", f"'{site}' was dealt bad ones ({found})", round=self.plan.round, peer=dealer
        )

    def _dealers(self) -> bytes:
        return sites_hash(self._deals)

    def _names(self, indexes: Iterable[int]) -> tuple[str, ...]:
        return tuple(self._roster.names[index] for index in indexes)

    def _own(self, site: str, sender: int) -> None:
        if self._roster.names[sender] != site:
            raise self._odd(site, "sender", "its message is another site's")

    def _of(self, site: str, sender: int, there: Iterable[int]) -> None:
        self._own(site, sender)
        if sender in there:
            raise Repeated("message", "it has sent this before", round=self.plan.round, peer=site)

    def _odd(self, site: str, rule: str, message: str) -> Inconsistent:
        return Inconsistent(rule, message, round=self.plan.round, peer=site)

    def _at(self, stage: Stage) -> None:
        if self._stage != stage:
            raise WrongStep("order of steps", f"'{stage}' is not '{self._stage}'", round=self.plan.round)

    def _close(self, stage: Stage, following: Stage) -> None:
        self._at(stage)
        self._stage = following
