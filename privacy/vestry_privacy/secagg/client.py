"""One site in one secure sum: six steps, each from the state that the step before left.

Bonawitz et al., CCS 2017, with the consistency check of its section 6; step numbers as in
docs/secagg-protocol.md. No I/O, no clock, no randomness of its own: entropy and journal are arguments. A
state can be used once: whatever goes wrong in a step ends the sum at this site, and a site that restarts has
lost it. What a step raises is drawn in errors.py; ``deals.Complained`` carries a message for the server.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from vestry_privacy.identity import SiteIdentity
from vestry_privacy.secagg.deals import Dealing, read_delivery, write_deal
from vestry_privacy.secagg.encoding import header
from vestry_privacy.secagg.errors import BadKey, Inconsistent, RolledBack, WrongStep
from vestry_privacy.secagg.history import Head
from vestry_privacy.secagg.keys import KeyPair, pair_mask_key, same, self_mask_key
from vestry_privacy.secagg.masks import MaskStream, add_masks, digest_words
from vestry_privacy.secagg.messages import (
    Advertisement,
    Consistent,
    InputHeader,
    Revealed,
    ascending,
    read_relay,
    sites_hash,
    view_hash,
)
from vestry_privacy.secagg.roster import Roster
from vestry_privacy.secagg.secret import Entropy, Secret
from vestry_privacy.secagg.vector import encode_words

__all__ = [
    "Advertised",
    "Agreed",
    "ClientJournal",
    "Dealt",
    "Masked",
    "Ready",
    "Revealing",
    "accept",
    "advertise",
    "agree",
    "deal",
    "mask",
    "reveal",
]

SEED_BYTES = 32


class ClientJournal(Protocol):
    """What must be on the disk before something leaves; each raises where it was there before."""

    def see_peers(self, heads: dict[bytes, tuple[Head, Head]]) -> None:
        """Key hash -> heads of journal and ledger; RolledBack where one is older than it was."""
        ...

    def consume(self, plan_hash: bytes) -> None:
        """Masked input is about to leave."""
        ...

    def sign(self, plan_hash: bytes, view: bytes, inputs: dict[bytes, Head]) -> None:
        """A signature over the survivors is about to leave; their witnesses before this input."""
        ...

    def reveal(self, plan_hash: bytes) -> None:
        """Shares are about to leave."""
        ...


_Next = TypeVar("_Next", bound="_State")


@dataclass
class _State:
    """What every state has.

    Attributes:
        roster: of the plan.
        identity: of the site.
        index: of the site.
        seen: signed messages of others and of its own, for the transcript.
    """

    roster: Roster = field(repr=False)
    identity: SiteIdentity = field(repr=False)
    index: int
    seen: dict[str, tuple[bytes, ...]] = field(default_factory=dict, init=False, repr=False)
    _used: bool = field(default=False, init=False, repr=False)

    @property
    def plan_hash(self) -> bytes:
        """Of the plan."""
        return self.roster.plan_hash

    @property
    def name(self) -> str:
        """Of the site."""
        return self.roster.names[self.index]

    @property
    def round(self) -> int:
        """Of the study."""
        return self.roster.plan.round

    def use(self, kind: type["_State"]) -> None:
        """Take the state; a second time, or in another step, raises WrongStep."""
        if self._used or not isinstance(self, kind):
            raise WrongStep("order of steps", "this step was taken, or is not the next one", round=self.round)
        self._used = True

    def then(self, after: "_Next", **seen: tuple[bytes, ...]) -> "_Next":
        """Hand on what was seen."""
        after.seen = {**self.seen, **seen}
        return after


@dataclass
class Advertised(_State):
    """Step 1 is done: the site has keys for this sum."""

    sealing: KeyPair = field(repr=False)
    masking: KeyPair = field(repr=False)
    sent: bytes = field(repr=False)


@dataclass
class Dealt(_State):
    """Step 2 is done: shares of this site's secrets are sealed for the others."""

    advertised: dict[int, Advertisement] = field(repr=False)
    dealing: Dealing = field(repr=False)
    pair_keys: dict[int, Secret] = field(repr=False)


@dataclass
class Ready(_State):
    """Step 3 is done: this site holds shares of the others, and they are what was committed to."""

    dealers: tuple[int, ...]
    shares: dict[int, tuple[bytes, bytes]] = field(repr=False)
    seed: Secret = field(repr=False)
    pair_keys: dict[int, Secret] = field(repr=False)
    witnesses: dict[int, Head] = field(repr=False)


@dataclass
class Masked(_State):
    """Step 4 is done: masked input may leave."""

    dealers: tuple[int, ...]
    shares: dict[int, tuple[bytes, bytes]] = field(repr=False)
    sent: bytes = field(repr=False)
    witnesses: dict[int, Head] = field(repr=False)


@dataclass
class Agreed(_State):
    """Step 5 is done: this site has signed who survived."""

    dealers: tuple[int, ...]
    survivors: tuple[int, ...]
    shares: dict[int, tuple[bytes, bytes]] = field(repr=False)
    sent: Consistent = field(repr=False)


@dataclass
class Revealing(_State):
    """Step 6 is done: nothing further of this sum leaves this site."""

    survivors: tuple[int, ...]


def advertise(
    roster: Roster, identity: SiteIdentity, name: str, heads: tuple[Head, Head], entropy: Entropy
) -> tuple[Advertised, bytes]:
    """Step 1: fresh keys, signed.

    Args:
        roster: of a plan that the site has checked and its journal has accepted.
        identity: the site's own.
        name: the site's own.
        heads: of its journal and of its privacy ledger.
        entropy: gives 64 bytes.

    Raises:
        RosterRefused: the site has no seat.
        BadKey: the seat has another identity key.
    """
    index = roster.index(name)
    if not same(roster.keys[index], identity.public_key):
        raise BadKey(
            "identity", "the directory has another key for this site; enrol the key again", peer=name
        )
    sealing, masking = KeyPair.fresh(entropy), KeyPair.fresh(entropy)
    body = Advertisement.body(roster.plan_hash, index, (sealing.public, masking.public), heads)
    sent = roster.sign(identity, body)
    return Advertised(roster, identity, index, sealing, masking, sent), sent


def deal(
    state: Advertised, roster_keys: bytes, journal: ClientJournal, entropy: Entropy
) -> tuple[Dealt, bytes]:
    """Step 2: shares of this site's secrets for everybody who advertised.

    Args:
        state: from :func:`advertise`.
        roster_keys: the server's message with all signed keys.
        journal: remembers the others' heads.
        entropy: gives the seed b and the polynomials.

    Raises:
        BadSignature, BadMessage: one of the keys is not its site's, or not of this sum.
        BadKey: two keys are the same, or one gives a zero secret.
        Inconsistent: this site's own keys are not what it sent.
        TooFewSites: too few have advertised.
        RolledBack: a site's journal or ledger is older than it was.
    """
    state.use(Advertised)
    roster = state.roster
    read = [Advertisement.read(roster, one) for one in read_relay(roster, roster_keys, "roster-keys")]
    senders = tuple(one.sender for one in read)
    if not ascending(senders, len(roster.names)):
        raise Inconsistent("list of keys", "a site stands in it twice, or out of order", round=state.round)
    advertised = {one.sender: one for one in read}
    own = advertised.get(state.index)
    if own is None or not same(own.signed, state.sent):
        raise Inconsistent(
            "own keys", "they are not in the server's list as they were sent", round=state.round
        )
    roster.require(senders, "sites with keys")
    keys = [key for one in read for key in (one.seal_public, one.mask_public)]
    if len(set(keys)) != len(keys):
        raise BadKey("distinct keys", "two public keys are the same", round=state.round)
    heads = {roster.plan.roster[one.sender]: (one.journal, one.ledger) for one in read if one is not own}
    try:
        journal.see_peers(heads)
    except RolledBack as error:
        raise roster.by_name(error) from None
    pair_keys = {
        one.sender: pair_mask_key(state.plan_hash, state.masking, state.index, one.mask_public, one.sender)
        for one in read
        if one is not own
    }
    dealing = Dealing(Secret(entropy(SEED_BYTES)), state.sealing, advertised)
    message = write_deal(roster, state.identity, state.index, dealing, state.masking, entropy)
    state.masking.wipe()
    dealt = Dealt(roster, state.identity, state.index, advertised, dealing, pair_keys)
    return state.then(dealt, keys=tuple(one.signed for one in read)), message


def accept(state: Dealt, delivery: bytes) -> tuple[Ready, bytes]:
    """Step 3: the others' shares, checked against what their dealers signed.

    Returns:
        The next state and ``ready`` for the server.

    Raises:
        Complained: a dealer's shares are not what it signed; its message goes to the server.
        Inconsistent: the dealers saw other keys than this site, or a message was changed on its way.
        BadSignature, BadMessage, TooFewSites: as in :func:`deal`.
    """
    state.use(Dealt)
    roster = state.roster
    deals, shares = read_delivery(roster, state.identity, state.index, state.dealing, delivery)
    dealers = tuple(shares)
    roster.require(dealers, "sites with shares")
    seed, pair_keys = state.dealing.seed, state.pair_keys
    witnesses = {one.sender: one.journal for one in state.advertised.values() if one.sender != state.index}
    ready = Ready(roster, state.identity, state.index, dealers, shares, seed, pair_keys, witnesses)
    state.dealing.sealing.wipe()
    return state.then(ready, deals=deals), header("ready", state.plan_hash, state.index)


def mask(
    state: Ready,
    values: NDArray[np.float32],
    weight: int,
    wide: NDArray[np.float64],
    rounding_seed: Secret,
    journal: ClientJournal,
) -> tuple[Masked, bytes, NDArray[np.uint64]]:
    """Step 4: this site's words under one mask of its own and one with each other dealer.

    Args:
        state: from :func:`accept`.
        values: (d,) the update x; scaled by weight / weight limit here.
        weight: w.
        wide: (k,) wide values, added as they are.
        rounding_seed: 32 bytes, used for nothing else.
        journal: notes that the model is consumed.

    Returns:
        The next state, the signed header, and the masked words.

    Raises:
        ValueRefused: values or wide values are not as many as the plan says.
        Repeated: the journal knows that masked input of this plan has left, or may not leave.

    Guarantees:
        The journal has it on the disk before masked words exist. Words of a site are uniform and independent
        of its values for whoever lacks its seed, or one key that it shares with an honest dealer.
    """
    state.use(Ready)
    roster, plan_hash = state.roster, state.plan_hash
    words = encode_words(roster.plan.shape, values, weight, wide, rounding_seed)
    plus, minus = [self_mask_key(plan_hash, state.seed, state.index)], list[Secret]()
    for peer in state.dealers:
        if peer != state.index:
            (plus if state.index < peer else minus).append(state.pair_keys[peer])
    journal.consume(plan_hash)
    add_masks(words, [MaskStream(key) for key in plus], [MaskStream(key) for key in minus])
    state.seed.wipe()
    body = InputHeader.body(
        plan_hash, state.index, len(words), sites_hash(state.dealers), digest_words(words)
    )
    sent = roster.sign(state.identity, body)
    masked = Masked(roster, state.identity, state.index, state.dealers, state.shares, sent, state.witnesses)
    return state.then(masked), sent, words


def agree(state: Masked, survivors: bytes, journal: ClientJournal) -> tuple[Agreed, bytes]:
    """Step 5: sign whose input is in the sum.

    Raises:
        Inconsistent: another set of dealers, a site that is none, or this site's own input missing or
            changed.
        TooFewSites: fewer than t, or too few organisations: signing would let one be unmasked among them.
        BadSignature, BadMessage: as in :func:`deal`.
        Repeated: the journal knows of a signature for this plan.

    Guarantees:
        The journal has it on the disk before the signature exists, and never gives two for one plan.
    """
    state.use(Masked)
    roster = state.roster
    inputs = [InputHeader.read(roster, one) for one in read_relay(roster, survivors, "survivors")]
    senders, dealers = tuple(one.sender for one in inputs), sites_hash(state.dealers)
    if not ascending(senders, len(roster.names)) or not set(senders) <= set(state.dealers):
        raise Inconsistent("survivors", "they are not distinct sites that dealt shares", round=state.round)
    for one in inputs:
        if not same(one.dealers, dealers) or one.words != roster.plan.shape.words:
            raise Inconsistent(
                "survivors", "it saw other dealers or another length", round=state.round,
                peer=roster.names[one.sender],
            )  # fmt: skip
    if not any(one.sender == state.index and same(one.signed, state.sent) for one in inputs):
        raise Inconsistent(
            "survivors", "this site's input is not among them as it was sent", round=state.round
        )
    roster.require(senders, "survivors")
    view = view_hash(inputs)
    others = {roster.plan.roster[index]: head for index, head in state.witnesses.items() if index in senders}
    journal.sign(state.plan_hash, hashlib.sha256(dealers + view).digest(), others)
    body = Consistent.body(state.plan_hash, state.index, dealers, view)
    sent = Consistent(state.index, dealers, view, roster.sign(state.identity, body))
    agreed = Agreed(roster, state.identity, state.index, state.dealers, senders, state.shares, sent)
    return state.then(agreed, inputs=tuple(one.signed for one in inputs)), sent.signed


def reveal(state: Agreed, unmask: bytes, journal: ClientJournal) -> tuple[Revealing, bytes]:
    """Step 6: one share for each dealer, of its seed where it survived, of its mask key where it was lost.

    Raises:
        Inconsistent: fewer than t survivors have signed what this site has signed.
        BadSignature, BadMessage: as in :func:`deal`.
        Repeated: the journal knows that shares of this plan have left.

    Guarantees:
        Which share goes is the complement of a set that t sites have signed, never a list of the server's, so
        no site gives both of one dealer. The journal has it on the disk before a share leaves.
    """
    state.use(Agreed)
    roster = state.roster
    signatures = [Consistent.read(roster, one) for one in read_relay(roster, unmask, "unmask")]
    senders = tuple(one.sender for one in signatures)
    if not ascending(senders, len(roster.names)) or not set(senders) <= set(state.survivors):
        raise Inconsistent("signatures", "they are not of distinct survivors", round=state.round)
    for one in signatures:
        if not (same(one.view, state.sent.view) and same(one.dealers, state.sent.dealers)):
            raise Inconsistent(
                "signatures",
                "it was told of other survivors",
                round=state.round,
                peer=roster.names[one.sender],
            )
    roster.require(senders, "signatures")
    journal.reveal(state.plan_hash)
    alive = set(state.survivors)
    shares = [state.shares[dealer][0 if dealer in alive else 1] for dealer in state.dealers]
    state.shares.clear()
    body = Revealed.body(state.plan_hash, state.index, shares)
    done = Revealing(roster, state.identity, state.index, state.survivors)
    consistent = tuple(one.signed for one in signatures)
    return state.then(done, consistent=consistent), roster.sign(state.identity, body)
