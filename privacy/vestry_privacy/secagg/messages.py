"""The messages of a sum, read and written: one class, one encoder and one decoder each.

ProtocolAbort
└── BadMessage    a message cannot be read (and what roster.py raises of sender and signature)
"""

import hashlib
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from vestry_privacy.identity import IdentityError, SiteIdentity, verify_signature
from vestry_privacy.secagg.directory import Directory
from vestry_privacy.secagg.encoding import (
    DIGEST_BYTES,
    SERVER,
    Reader,
    field,
    field_list,
    header,
    index_list,
    read_header,
    u32,
    u64,
)
from vestry_privacy.secagg.errors import BadSignature
from vestry_privacy.secagg.history import Head
from vestry_privacy.secagg.plan import Plan
from vestry_privacy.secagg.roster import Roster
from vestry_privacy.secagg.shamir import SHARE_BYTES

__all__ = [
    "Advertisement",
    "Complaint",
    "Consistent",
    "Deal",
    "Entry",
    "InputHeader",
    "Revealed",
    "ascending",
    "read_plan",
    "read_ready",
    "read_relay",
    "relay",
    "sign_plan",
    "sites_hash",
    "view_hash",
]

_KEY_BYTES = 32


@dataclass(frozen=True)
class Advertisement:
    """A site's keys and heads.

    Attributes:
        sender: index.
        seal_public: c, X25519 public key for sealing shares.
        mask_public: s, X25519 public key for pair masks.
        journal: head of its journal.
        ledger: head of its privacy ledger.
        signed: the message.
    """

    sender: int
    seal_public: bytes
    mask_public: bytes
    journal: Head
    ledger: Head
    signed: bytes

    @staticmethod
    def body(plan_hash: bytes, sender: int, keys: tuple[bytes, bytes], heads: tuple[Head, Head]) -> bytes:
        """Bytes to be signed."""
        parts = [header("keys", plan_hash, sender), *map(field, keys), *map(_head, heads)]
        return b"".join(parts)

    @staticmethod
    def read(roster: Roster, content: bytes) -> "Advertisement":
        """Check and read it."""
        reader, sender = roster.open(content, "keys")
        seal_public, mask_public = reader.field(_KEY_BYTES), reader.field(_KEY_BYTES)
        journal, ledger = _read_head(reader), _read_head(reader)
        reader.end()
        return Advertisement(sender, seal_public, mask_public, journal, ledger, content)


@dataclass(frozen=True)
class Entry:
    """What a dealer committed to for one holder, 32 bytes each."""

    self_mask: bytes
    pair_mask: bytes
    seal_key: bytes
    ciphertext: bytes


@dataclass(frozen=True)
class Deal:
    """A dealer's signed commitments.

    Attributes:
        sender: index of the dealer.
        seed: commitment to its b.
        holders: U1 as the dealer saw it.
        lists: for each of the four parts of an :class:`Entry`, 32 bytes for each holder.
        signed: the message.
    """

    sender: int
    seed: bytes
    holders: tuple[int, ...]
    lists: tuple[bytes, bytes, bytes, bytes]
    signed: bytes

    @staticmethod
    def body(
        plan_hash: bytes, sender: int, seed: bytes, holders: Sequence[int], entries: Sequence[Entry]
    ) -> bytes:
        """Bytes to be signed."""
        columns = (
            [entry.self_mask for entry in entries],
            [entry.pair_mask for entry in entries],
            [entry.seal_key for entry in entries],
            [entry.ciphertext for entry in entries],
        )
        start = header("shares", plan_hash, sender) + field(seed) + field(index_list(holders))
        return start + b"".join(field(b"".join(column)) for column in columns)

    @staticmethod
    def read(roster: Roster, content: bytes) -> "Deal":
        """Check and read it."""
        reader, sender = roster.open(content, "shares")
        seed, places = reader.field(DIGEST_BYTES), reader.field()
        holders = _indexes(places)
        if len(places) % 4 or not ascending(holders, len(roster.names)):
            raise reader.wrong("its holders are not ascending sites of the roster")
        size = DIGEST_BYTES * len(holders)
        lists = (reader.field(size), reader.field(size), reader.field(size), reader.field(size))
        reader.end()
        return Deal(sender, seed, holders, lists, content)

    def entry(self, holder: int) -> Entry:
        """Its commitments for a holder; ValueError where it dealt nothing to it."""
        place = self.holders.index(holder) * DIGEST_BYTES
        self_mask, pair_mask, seal_key, ciphertext = (
            column[place : place + DIGEST_BYTES] for column in self.lists
        )
        return Entry(self_mask, pair_mask, seal_key, ciphertext)


@dataclass(frozen=True)
class Complaint:
    """A holder says that a dealer dealt badly, and opens the one key that shows it."""

    sender: int
    dealer: int
    reason: str
    key: bytes
    ciphertext: bytes
    signed: bytes

    @staticmethod
    def body(plan_hash: bytes, sender: int, dealer: int, reason: str, key: bytes, ciphertext: bytes) -> bytes:
        """Bytes to be signed."""
        start = header("complaint", plan_hash, sender) + u32(dealer)
        return start + field(reason.encode("ascii")) + field(key) + field(ciphertext)

    @staticmethod
    def read(roster: Roster, content: bytes) -> "Complaint":
        """Check and read it."""
        reader, sender = roster.open(content, "complaint")
        dealer, reason = reader.u32(), reader.text()
        key, ciphertext = reader.field(_KEY_BYTES), reader.field()
        reader.end()
        if dealer >= len(roster.names) or dealer == sender:
            raise reader.wrong("its dealer is no other site of the roster")
        return Complaint(sender, dealer, reason, key, ciphertext, content)


@dataclass(frozen=True)
class InputHeader:
    """A site's signed word on its masked input.

    Attributes:
        sender: index.
        words: number of 64-bit words.
        dealers: hash of U2 as the site saw it.
        digest: SHA-256 of the masked words.
        signed: the message.
    """

    sender: int
    words: int
    dealers: bytes
    digest: bytes
    signed: bytes

    @staticmethod
    def body(plan_hash: bytes, sender: int, words: int, dealers: bytes, digest: bytes) -> bytes:
        """Bytes to be signed."""
        return header("input", plan_hash, sender) + u64(words) + field(dealers) + field(digest)

    @staticmethod
    def read(roster: Roster, content: bytes) -> "InputHeader":
        """Check and read it."""
        reader, sender = roster.open(content, "input")
        words, dealers, digest = reader.u64(), reader.field(DIGEST_BYTES), reader.field(DIGEST_BYTES)
        reader.end()
        return InputHeader(sender, words, dealers, digest, content)


@dataclass(frozen=True)
class Consistent:
    """A site's signature over the survivors as it saw them."""

    sender: int
    dealers: bytes
    view: bytes
    signed: bytes

    @staticmethod
    def body(plan_hash: bytes, sender: int, dealers: bytes, view: bytes) -> bytes:
        """Bytes to be signed."""
        return header("consistent", plan_hash, sender) + field(dealers) + field(view)

    @staticmethod
    def read(roster: Roster, content: bytes) -> "Consistent":
        """Check and read it."""
        reader, sender = roster.open(content, "consistent")
        dealers, view = reader.field(DIGEST_BYTES), reader.field(DIGEST_BYTES)
        reader.end()
        return Consistent(sender, dealers, view, content)


@dataclass(frozen=True)
class Revealed:
    """One share for each site of U2: of b where it survived, of a where it was lost."""

    sender: int
    shares: tuple[bytes, ...]
    signed: bytes

    @staticmethod
    def body(plan_hash: bytes, sender: int, shares: Sequence[bytes]) -> bytes:
        """Bytes to be signed."""
        return header("revealed", plan_hash, sender) + field(b"".join(shares))

    @staticmethod
    def read(roster: Roster, content: bytes, dealers: int) -> "Revealed":
        """Check and read it; ``dealers`` is |U2|."""
        reader, sender = roster.open(content, "revealed")
        joined = reader.field(SHARE_BYTES * dealers)
        reader.end()
        shares = tuple(joined[place : place + SHARE_BYTES] for place in range(0, len(joined), SHARE_BYTES))
        return Revealed(sender, shares, content)


def sign_plan(plan: Plan, coordinator: SiteIdentity) -> bytes:
    """The plan under the coordinator's signature."""
    content = plan.encode()
    return field(content) + field(coordinator.sign(content))


def read_plan(content: bytes, directory: Directory) -> Plan:
    """Read :func:`sign_plan`.

    Raises:
        BadSignature: it is not signed by the coordinator that this site knows.
        BadMessage, PlanRefused: see :meth:`Plan.decode`.
    """
    reader = Reader(content, "signed plan")
    encoded, signature = reader.field(), reader.field(64)
    reader.end()
    try:
        verify_signature(directory.coordinator, encoded, signature)
    except IdentityError:
        raise BadSignature(
            "signature of the plan", "does not hold for the coordinator's key that this site has pinned"
        ) from None
    return Plan.decode(encoded)


def read_ready(roster: Roster, content: bytes) -> int:
    """Which site says that it is ready (type ``ready``).

    Raises:
        BadMessage: it cannot be read, or is of another sum.
    """
    reader = Reader(content, "ready")
    sender = read_header(reader, "ready", roster.plan_hash)
    reader.end()
    if sender >= len(roster.names):
        raise reader.wrong("its sender has no seat in this sum")
    return sender


def relay(kind: str, plan_hash: bytes, messages: Sequence[bytes]) -> bytes:
    """A message of the server that hands sites' signed messages on."""
    return header(kind, plan_hash, SERVER) + field_list(messages)


def read_relay(roster: Roster, content: bytes, kind: str) -> list[bytes]:
    """Read :func:`relay`; at most one message for each seat."""
    reader = Reader(content, kind)
    if read_header(reader, kind, roster.plan_hash) != SERVER:
        raise reader.wrong("its sender is not the server")
    messages = reader.fields(len(roster.names))
    reader.end()
    return messages


def sites_hash(sites: Iterable[int]) -> bytes:
    """Hash of a list of sites, 32 bytes."""
    return hashlib.sha256(index_list(sites)).digest()


def view_hash(inputs: Iterable[InputHeader]) -> bytes:
    """Hash of the survivors and of what each sent, 32 bytes."""
    return hashlib.sha256(b"".join(u32(one.sender) + one.digest for one in inputs)).digest()


def ascending(indexes: Sequence[int], sites: int) -> bool:
    """Are these distinct sites in order?"""
    rising = all(low < high for low, high in pairwise(indexes))
    return rising and all(0 <= index < sites for index in indexes)


def _indexes(content: bytes) -> tuple[int, ...]:
    whole = len(content) // 4
    return struct.unpack(f">{whole}I", content[: 4 * whole])


def _head(head: Head) -> bytes:
    return u64(head.epoch) + u64(head.count) + field(head.hash)


def _read_head(reader: Reader) -> Head:
    return Head(reader.u64(), reader.u64(), reader.field(DIGEST_BYTES))
