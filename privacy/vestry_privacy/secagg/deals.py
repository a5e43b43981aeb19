"""Dealing shares and receiving them: steps 2 and 3 of a site.

Shamir's scheme (Shamir, CACM 1979) over GF(2^256 + 297); shares are sealed for their holder, and both the
shares and the keys that seal them are committed to under the dealer's signature, so that a complaint
convicts.

    ProtocolAbort
    └── Complained    a dealer's shares are not what it signed; carries the message for the server
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from vestry_privacy.identity import SiteIdentity
from vestry_privacy.secagg.encoding import SERVER, Reader, field_list, read_header
from vestry_privacy.secagg.encoding import field as field_bytes
from vestry_privacy.secagg.errors import BadDealing, BadShare, Inconsistent, ProtocolAbort
from vestry_privacy.secagg.keys import (
    KeyPair,
    commitment,
    same,
    seal,
    seal_keys,
    seed_commitment,
    unseal,
)
from vestry_privacy.secagg.messages import Advertisement, Complaint, Deal, Entry, ascending
from vestry_privacy.secagg.roster import Roster
from vestry_privacy.secagg.secret import Entropy, Secret
from vestry_privacy.secagg.shamir import SHARE_BYTES, check_share, split

__all__ = ["Complained", "Dealing", "judge", "read_delivered", "read_delivery", "read_sealed", "write_deal"]

_NO_KEY = bytes(32)


class Complained(ProtocolAbort):
    """A dealer's shares are not what it signed.

    Attributes:
        complaint: signed, for the server.
    """

    code = "dealing"

    def __init__(self, problem: str, complaint: bytes, *, round: int, peer: str) -> None:  # noqa: A002
        super().__init__("dealt shares", problem, round=round, peer=peer)
        self.complaint = complaint


@dataclass
class Dealing:
    """A dealer's secrets until the others' shares have come.

    Attributes:
        seed: b, of the self mask.
        sealing: the X25519 pair that seals shares.
        advertised: keys of U1, by index.
        inward: keys that open the others' shares, by dealer.
        own: this site's own shares.
        sent: signed commitments.
    """

    seed: Secret
    sealing: KeyPair
    advertised: Mapping[int, Advertisement]
    inward: dict[int, Secret] = field(default_factory=dict)
    own: tuple[bytes, bytes] = (b"", b"")
    sent: bytes = b""


def write_deal(
    roster: Roster,
    identity: SiteIdentity,
    index: int,
    dealing: Dealing,
    masking: KeyPair,
    entropy: Entropy,
) -> bytes:
    """Split both secrets for all holders, seal the shares and sign the commitments.

    Args:
        roster: of the plan.
        identity: signs.
        index: of the dealer.
        dealing: its secrets; filled with what step 3 needs.
        masking: the pair whose private key is dealt.
        entropy: gives the polynomials.

    Returns:
        The message for the server.

    Raises:
        BadKey: a holder's key gives an all-zero secret.
    """
    plan_hash, t = roster.plan_hash, roster.plan.threshold
    holders = tuple(dealing.advertised)
    of_seed = split(dealing.seed, t, holders, entropy)
    of_key = split(masking.private, t, holders, entropy)
    entries: list[Entry] = []
    ciphertexts: list[bytes] = []
    for holder in holders:
        sealed, key_commitment = b"", _NO_KEY
        if holder == index:
            dealing.own = (of_seed[holder], of_key[holder])
        else:
            peer = dealing.advertised[holder].seal_public
            outward, dealing.inward[holder] = seal_keys(plan_hash, dealing.sealing, index, peer, holder)
            sealed = seal(outward, plan_hash, index, holder, of_seed[holder] + of_key[holder])
            key_commitment = commitment(plan_hash, index, holder, "seal-key", outward.expose())
            outward.wipe()
            ciphertexts.append(sealed)
        entries.append(
            Entry(
                commitment(plan_hash, index, holder, "self-mask", of_seed[holder]),
                commitment(plan_hash, index, holder, "pair-mask", of_key[holder]),
                key_commitment,
                hashlib.sha256(sealed).digest(),
            )
        )
    body = Deal.body(plan_hash, index, seed_commitment(plan_hash, index, dealing.seed), holders, entries)
    dealing.sent = roster.sign(identity, body)
    return field_bytes(dealing.sent) + field_list(ciphertexts)


def read_sealed(roster: Roster, content: bytes, holders: tuple[int, ...]) -> tuple[Deal, dict[int, bytes]]:
    """Read :func:`write_deal`; for the server.

    Args:
        roster: of the plan.
        content: the message.
        holders: U1 as the server sees it.

    Returns:
        The commitments, and the sealed shares by holder.

    Raises:
        BadMessage, BadSignature: it cannot be read, or is not its dealer's.
        Inconsistent: it is for other holders.
        BadDealing: a ciphertext is not the one that was signed.
    """
    reader = Reader(content, "shares")
    deal = Deal.read(roster, reader.field())
    ciphertexts = reader.fields(len(roster.names))
    reader.end()
    name, round_number = roster.names[deal.sender], roster.plan.round
    if deal.holders != holders:
        raise Inconsistent("holders", "it dealt to other sites", round=round_number, peer=name)
    others = [holder for holder in holders if holder != deal.sender]
    if len(ciphertexts) != len(others):
        raise reader.wrong("it has another number of sealed shares than holders")
    sealed = dict(zip(others, ciphertexts, strict=True))
    for holder, ciphertext in sealed.items():
        if not same(hashlib.sha256(ciphertext).digest(), deal.entry(holder).ciphertext):
            raise BadDealing("sealed shares", "are not those signed", round=round_number, peer=name)
    return deal, sealed


def read_delivered(roster: Roster, content: bytes) -> dict[int, tuple[Deal, bytes]]:
    """Deals of U2 and the ciphertexts for this site, by dealer.

    Raises:
        BadMessage, BadSignature: it cannot be read, or a deal is not its dealer's.
        Inconsistent: a dealer stands in it twice.
    """
    reader = Reader(content, "deliver")
    if read_header(reader, "deliver", roster.plan_hash) != SERVER:
        raise reader.wrong("its sender is not the server")
    count = reader.u32()
    if count > len(roster.names):
        raise reader.wrong("it has more deals than there are sites")
    pairs = [(Deal.read(roster, reader.field()), reader.field()) for _ in range(count)]
    reader.end()
    if not ascending([deal.sender for deal, _ in pairs], len(roster.names)):
        raise Inconsistent(
            "list of deals", "a site stands in it twice, or out of order", round=roster.plan.round
        )
    return {deal.sender: (deal, ciphertext) for deal, ciphertext in pairs}


def read_delivery(
    roster: Roster, identity: SiteIdentity, index: int, dealing: Dealing, content: bytes
) -> tuple[tuple[bytes, ...], dict[int, tuple[bytes, bytes]]]:
    """Check all deals and open this site's shares.

    Returns:
        The signed deals, and dealer -> its shares (of b, of a) for this site; the keys are U2.

    Raises:
        Complained: a deal is not what its dealer signed.
        Inconsistent: a dealer saw other keys, its own deal or a ciphertext was changed on its way.
        BadMessage, BadSignature: as in :func:`read_delivered`.
    """
    deals, holders = read_delivered(roster, content), tuple(dealing.advertised)
    shares: dict[int, tuple[bytes, bytes]] = {}
    for dealer, (deal, ciphertext) in deals.items():
        name = roster.names[dealer]
        if deal.holders != holders:
            raise Inconsistent(
                "holders", "it was told of other keys than this site", round=roster.plan.round, peer=name
            )
        if dealer == index:
            if ciphertext or not same(deal.signed, dealing.sent):
                raise Inconsistent("own shares", "are not as they were sent", round=roster.plan.round)
            shares[dealer] = dealing.own
            continue
        if dealer not in dealing.advertised or not same(
            hashlib.sha256(ciphertext).digest(), deal.entry(index).ciphertext
        ):
            raise Inconsistent(
                "sealed shares", "were changed on their way", round=roster.plan.round, peer=name
            )
        key = dealing.inward[dealer]
        reason = judge(roster.plan_hash, dealer, index, deal.entry(index), key, ciphertext)
        if reason:
            body = Complaint.body(roster.plan_hash, index, dealer, reason, key.expose(), ciphertext)
            raise Complained(
                f"are not what it signed ({reason})",
                roster.sign(identity, body),
                round=roster.plan.round,
                peer=name,
            )
        opened = unseal(key, roster.plan_hash, dealer, index, ciphertext)
        shares[dealer] = (opened[:SHARE_BYTES], opened[SHARE_BYTES:])
        key.wipe()
    if index not in shares:
        raise Inconsistent("own shares", "are not among those delivered", round=roster.plan.round)
    return tuple(deal.signed for deal, _ in deals.values()), shares


def judge(plan_hash: bytes, dealer: int, holder: int, entry: Entry, key: Secret, ciphertext: bytes) -> str:
    """What is wrong with a deal, as holder, server and third parties see it alike.

    Args:
        plan_hash: of the sum.
        dealer: index.
        holder: index.
        entry: what the dealer signed for the holder.
        key: that seals, as the holder knows it.
        ciphertext: whose hash is in ``entry``.

    Returns:
        ``seal-key``, ``unsealed`` or ``share``, or "" where nothing is wrong.
    """
    if not same(commitment(plan_hash, dealer, holder, "seal-key", key.expose()), entry.seal_key):
        return "seal-key"
    try:
        opened = unseal(key, plan_hash, dealer, holder, ciphertext)
    except BadDealing:
        return "unsealed"
    if len(opened) != 2 * SHARE_BYTES:
        return "share"
    of_seed, of_key = opened[:SHARE_BYTES], opened[SHARE_BYTES:]
    try:
        check_share(of_seed), check_share(of_key)
    except BadShare:
        return "share"
    committed = same(commitment(plan_hash, dealer, holder, "self-mask", of_seed), entry.self_mask) and same(
        commitment(plan_hash, dealer, holder, "pair-mask", of_key), entry.pair_mask
    )
    return "" if committed else "share"
