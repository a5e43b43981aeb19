"""What a site's journal records, byte by byte: entries in one chain of hashes.

Entry n has hash_n = H(field("vestry-secagg/1/journal") || hash_(n-1) || u64(n) || field(body)), with 32 zero
bytes for hash_0 and the encoding of docs/secagg-protocol.md. Nothing secret is in a body: plan hashes, names,
counts and hashes of what was signed.

    ProtocolAbort
    └── JournalError    bytes that are no entry
"""

import hashlib
from dataclasses import dataclass
from typing import Final

from vestry_privacy.secagg.encoding import DIGEST_BYTES, Reader, field, text, u32, u64
from vestry_privacy.secagg.errors import BadMessage, JournalError
from vestry_privacy.secagg.history import Accepted, Head, History, Rules

__all__ = [
    "Accept",
    "Consume",
    "Entry",
    "Loss",
    "Reveal",
    "Sign",
    "decode_entry",
    "encode_entry",
    "entry_hash",
    "note_entry",
    "roster_hash",
]

_CHAIN: Final = b"vestry-secagg/1/journal"


@dataclass(frozen=True)
class Accept:
    """A plan was accepted; its roster is kept apart under its hash, since most plans share one."""

    plan: Accepted


@dataclass(frozen=True)
class Consume:
    """Masked input may have left."""

    plan: bytes


@dataclass(frozen=True)
class Sign:
    """A signature over survivors may have left.

    Attributes:
        plan: its hash.
        view: hash of what was signed.
    """

    plan: bytes
    view: bytes


@dataclass(frozen=True)
class Reveal:
    """Shares may have left."""

    plan: bytes


@dataclass(frozen=True)
class Loss:
    """An operator has declared that entries may have been lost.

    Attributes:
        epoch: that begins.
        known: the newest entry that was known then, which need not be in this chain.
        note: what happened.
    """

    epoch: int
    known: Head
    note: str


Entry = Accept | Consume | Sign | Reveal | Loss


def roster_hash(roster: tuple[bytes, ...]) -> bytes:
    """Name of a roster inside a journal, 32 bytes."""
    return hashlib.sha256(b"".join(roster)).digest()


def entry_hash(previous: bytes, count: int, body: bytes) -> bytes:
    """The chain's next hash, 32 bytes.

    Guarantees:
        It is over every entry before, so that two journals with one hash have one history.
    """
    return hashlib.sha256(field(_CHAIN) + previous + u64(count) + field(body)).digest()


def encode_entry(entry: Entry, time: int) -> bytes:
    """The body of an entry.

    Args:
        entry: what happened.
        time: milliseconds since 1970, for people only.
    """
    start = text(type(entry).__name__.lower()) + u64(time)
    match entry:
        case Accept(plan):
            rules = plan.rules
            return b"".join(
                (
                    start + field(plan.plan) + text(plan.run) + text(plan.kind),
                    u64(plan.sequence)
                    + u32(plan.round)
                    + field(roster_hash(plan.roster))
                    + field(plan.model),
                    text(rules.dataset) + field(rules.study) + u64(rules.rounds_allowed),
                    u32(int(rules.may_repeat)) + u64(rules.max_repeats) + u64(rules.roster_change),
                    u64(rules.weight_limit),
                )
            )
        case Sign(plan_hash, view):
            return start + field(plan_hash) + field(view)
        case Loss(epoch, known, note):
            head = u64(known.epoch) + u64(known.count) + field(known.hash)
            return start + u64(epoch) + head + text(note)
        case _:
            return start + field(entry.plan)


def decode_entry(body: bytes, rosters: dict[bytes, tuple[bytes, ...]]) -> tuple[Entry, int]:
    """Read :func:`encode_entry`.

    Args:
        body: the bytes.
        rosters: those that are kept apart, by their hash.

    Returns:
        The entry and its time.

    Raises:
        JournalError: it is none.
    """
    reader = Reader(body, "entry")
    try:
        name, time = reader.text(), reader.u64()
        entry = _read(name, reader, rosters)
        reader.end()
    except BadMessage as error:
        raise JournalError("journal entry", error.message) from None
    return entry, time


def _read(name: str, reader: Reader, rosters: dict[bytes, tuple[bytes, ...]]) -> Entry:
    match name:
        case "accept":
            return _read_accept(reader, rosters)
        case "consume":
            return Consume(reader.field(DIGEST_BYTES))
        case "sign":
            return Sign(reader.field(DIGEST_BYTES), reader.field(DIGEST_BYTES))
        case "reveal":
            return Reveal(reader.field(DIGEST_BYTES))
        case "loss":
            epoch, known = reader.u64(), Head(reader.u64(), reader.u64(), reader.field(DIGEST_BYTES))
            return Loss(epoch, known, reader.text())
        case _:
            raise reader.wrong(f"its kind {name!r} is unknown")


def _read_accept(reader: Reader, rosters: dict[bytes, tuple[bytes, ...]]) -> Accept:
    plan, run, kind = reader.field(DIGEST_BYTES), reader.text(), reader.text()
    sequence, number, named, model = reader.u64(), reader.u32(), reader.field(), reader.field(DIGEST_BYTES)
    dataset, study, rounds = reader.text(), reader.field(DIGEST_BYTES), reader.u64()
    may_repeat, max_repeats, roster_change = bool(reader.u32()), reader.u64(), reader.u64()
    limit = reader.u64()
    roster = rosters.get(named)
    if roster is None:
        raise reader.wrong("its roster is missing")
    rules = Rules(dataset, study, rounds, may_repeat, max_repeats, roster_change, limit)
    return Accept(Accepted(plan, run, kind, sequence, number, roster, model, rules))


def note_entry(history: History, entry: Entry) -> None:
    """An entry that is on the disk has happened."""
    match entry:
        case Accept(plan):
            history.accept(plan)
        case Consume(plan_hash):
            history.consume(plan_hash)
        case Sign(plan_hash, _):
            history.sign(plan_hash)
        case Reveal(plan_hash):
            history.reveal(plan_hash)
        case Loss():
            pass
