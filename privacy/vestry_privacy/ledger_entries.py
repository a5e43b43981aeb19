"""What a ledger's entries say, and how one is stored: canonical JSON, its hash, a signature of the hash.

A closed union: an entry is read by its ``kind`` and nothing in the data names code. Meanings never change;
a new meaning is a new version, which older programs refuse. Epsilon is never stored: it follows from the
events under any accountant.

The hash is over the stored bytes, the signature over the hash, and the next body names both. A body that is
not byte for byte what :func:`seal` would write is refused, so one entry has one form.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from vestry_privacy.accounting import Event
from vestry_privacy.budget import BudgetError
from vestry_privacy.canonical import CanonicalError, canonical_bytes, canonical_hash
from vestry_privacy.identity import IdentityError, SiteIdentity, verify_signature
from vestry_privacy.ledger_errors import LedgerError, LedgerTampered, LedgerVersion, PopulationError
from vestry_privacy.plan import Partition
from vestry_privacy.population import Guarantee, Population

__all__ = [
    "ENTRY_VERSION",
    "NO_HASH",
    "Amend",
    "Commit",
    "Create",
    "Dataset",
    "Entry",
    "Hold",
    "Import",
    "Purpose",
    "Reconcile",
    "Register",
    "Release",
    "Reserve",
    "Row",
    "SpentByCrash",
    "StudyRef",
    "Void",
    "check_signature",
    "entry_hash",
    "link_of",
    "plain_details",
    "seal",
    "unseal",
]

ENTRY_VERSION = 1
_LABEL = "vestry-ledger-entry/1"
_YEAR_9999 = 253_402_300_799_999
NO_HASH = "0" * 64

Purpose = Literal["train", "statistics", "evaluation"]
Events = tuple[Event, ...]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True)
class StudyRef:
    """Which study.

    Attributes:
        study_hash: identity of the study.
        name: for people.
        run: which run of it.
    """

    study_hash: str
    name: str
    run: str


class _Entry(BaseModel):
    """What all entries say.

    Attributes:
        version: of the format.
        seq: place in the chain, from 1.
        previous: see :func:`link_of`; zeros in the first.
        time: milliseconds since 1970 (UTC); never less than the entry before.
        clock_set_back: the clock said less, so ``time`` is the entry before's.
        software: name -> version of what wrote it.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)
    version: Literal[1] = 1
    seq: int = Field(ge=1)
    previous: Hash
    time: int = Field(ge=0, le=_YEAR_9999)
    clock_set_back: bool = False
    software: dict[str, str]


class Create(_Entry):
    """The first entry: whose ledger it is."""

    kind: Literal["create"] = "create"
    public_key: Hash
    ledger: Hash


class Register(_Entry):
    """A population and its budget."""

    kind: Literal["register"] = "register"
    population: Population
    row_is_person: bool


class Amend(_Entry):
    """A change that the steward asked for, or a tighter budget."""

    kind: Literal["amend"] = "amend"
    population: Population
    row_is_person: bool


class Dataset(_Entry):
    """Data of a population's persons.

    Attributes:
        identifiers: commitment to the keyed identifiers; None: overlap unknown.
        key_check: names the key of the identifiers without telling it.
    """

    kind: Literal["dataset"] = "dataset"
    population: Name
    name: Name
    fingerprint: str
    overlap: Literal["checked", "unknown"]
    identifiers: Hash | None
    key_check: Hash | None


class Hold(_Entry):
    """A whole study, at its approval."""

    kind: Literal["hold"] = "hold"
    population: Name
    study: StudyRef
    train: Events
    holdout: Events
    delta: float = Field(gt=0, lt=1)
    epsilon_cap: float | None = Field(gt=0)
    guarantee: Guarantee
    details: dict[str, JsonValue]


class Reserve(_Entry):
    """One round, before anything is computed from data.

    ``repeat``: how often it was committed before, where it is charged once more because its secure sum
    failed; left out of the bytes of an ordinary round, as before there were any.
    """

    kind: Literal["reserve"] = "reserve"
    study: str
    partition: Partition
    purpose: Purpose
    round: int = Field(ge=0)
    event: Event
    order_hash: str
    owner: str
    repeat: int | None = Field(default=None, ge=1)


class Commit(_Entry):
    """What a reservation really did."""

    kind: Literal["commit"] = "commit"
    reservation: int = Field(ge=1)
    executed: int = Field(ge=0)
    reply_hash: str
    model_hash: str


class SpentByCrash(_Entry):
    """The process of a reservation ended without a commit: all of it is charged."""

    kind: Literal["spent-by-crash"] = "spent-by-crash"
    reservation: int = Field(ge=1)


class Void(_Entry):
    """Nothing was computed from data."""

    kind: Literal["void"] = "void"
    reservation: int = Field(ge=1)
    reason: str


class Release(_Entry):
    """The end of a study: what it did not do goes back."""

    kind: Literal["release"] = "release"
    study: str


class Import(_Entry):
    """Spending that happened elsewhere."""

    kind: Literal["import"] = "import"
    population: Name
    events: Events
    note: str


class Reconcile(_Entry):
    """The ledger goes on after a restored backup.

    Attributes:
        charged: population -> what was lost.
        lost_seq: newest entry known before, 0 where unknown; numbers up to it are not used again.
        lost_hash: its hash, as far as known.
    """

    kind: Literal["reconcile"] = "reconcile"
    charged: dict[str, Events]
    note: str
    lost_seq: int = Field(ge=0)
    lost_hash: str


Entry = (
    Create
    | Register
    | Amend
    | Dataset
    | Hold
    | Reserve
    | Commit
    | SpentByCrash
    | Void
    | Release
    | Import
    | Reconcile
)
_ENTRY: TypeAdapter[Entry] = TypeAdapter(Annotated[Entry, Field(discriminator="kind")])


class Row(NamedTuple):
    """An entry as it is stored.

    Attributes:
        seq: its place.
        body: canonical JSON, ASCII.
        hash: 64 hexadecimal digits over the body.
        signature: 64 bytes over the hash.
    """

    seq: int
    body: str
    hash: str
    signature: bytes


def plain_details(details: Mapping[str, Any]) -> dict[str, Any]:
    """Public values for the record, as they will be read back.

    Raises:
        LedgerError: one is no plain JSON value.
    """
    try:
        canonical_bytes(details)
        plain: dict[str, Any] = json.loads(json.dumps(dict(details), allow_nan=False))
    except (CanonicalError, TypeError, ValueError):
        raise LedgerError("details: only texts, finite numbers, lists and tables can be recorded") from None
    return plain


def entry_hash(body: str) -> str:
    """Hash of a stored body; what the site signs."""
    return canonical_hash(_LABEL, body)


def link_of(row: Row) -> str:
    """What the next entry names as ``previous``: a hash over the hash and its signature."""
    return canonical_hash(f"{_LABEL}/link", [row.hash, row.signature])


def seal(entry: Entry, identity: SiteIdentity) -> Row:
    """Encode and sign an entry."""
    body = _encode(entry)
    hashed = entry_hash(body)
    return Row(entry.seq, body, hashed, identity.sign(_signed(hashed)))


def unseal(columns: Sequence[Any], after: Row | None, public_key: bytes | None = None) -> tuple[Row, Entry]:
    """Check a stored entry against the one before, and decode it.

    Args:
        columns: seq, body, hash, signature, as the database gives them.
        after: the entry before, itself checked; None for the first.
        public_key: tells which of two entries is wrong where they do not fit together.

    Raises:
        LedgerTampered: names the entry and what does not hold.
        LedgerVersion: a newer version wrote the entry.

    Guarantees:
        Body and hash belong together and the entry follows on ``after``, signature included. So one valid
        signature of the newest entry vouches for every byte of all entries (:func:`check_signature`).
    """
    row = _row(columns, after.seq + 1 if after else 1)
    if not row.body.isascii() or entry_hash(row.body) != row.hash:
        raise LedgerTampered(row.seq, "hash", "body and hash do not belong together")
    entry = _decode(row)
    place = after.seq + 1 if after else 1
    skips = isinstance(entry, Reconcile) and entry.lost_seq > 0 and row.seq == max(place, entry.lost_seq + 1)
    if row.seq != entry.seq:
        raise LedgerTampered(row.seq, "order", f"the entry was written as number {entry.seq}")
    if row.seq != place and not skips:
        raise LedgerTampered(row.seq, "gap", f"entry {place} is missing before it")
    if entry.previous != (link_of(after) if after else NO_HASH):
        if after and public_key:
            check_signature(after, public_key)
        raise LedgerTampered(row.seq, "order", "does not name the entry before it as its predecessor")
    return row, entry


def check_signature(row: Row, public_key: bytes) -> None:
    """Check that the site signed an entry.

    Raises:
        LedgerTampered: it did not.
    """
    try:
        verify_signature(public_key, _signed(row.hash), row.signature)
    except IdentityError:
        raise LedgerTampered(row.seq, "signature", "is not the site's over this hash") from None


def _signed(hashed: str) -> bytes:
    return canonical_bytes([_LABEL, hashed])


def _encode(entry: Entry) -> str:
    plain = entry.model_dump(mode="json")
    if isinstance(entry, Reserve) and entry.repeat is None:
        del plain["repeat"]  # an ordinary round has the bytes that it had before there was such a field
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _row(columns: Sequence[Any], place: int) -> Row:
    seq, body, hashed, signature = columns
    if not isinstance(seq, int) or not 0 < seq < 2**62:
        raise LedgerTampered(place, "order", "has no number")
    if not (isinstance(body, str) and isinstance(hashed, str) and isinstance(signature, bytes)):
        raise LedgerTampered(seq, "hash", "its columns hold values of other types")
    return Row(seq, body, hashed, signature)


def _decode(row: Row) -> Entry:
    try:
        entry = _ENTRY.validate_json(row.body)
    except (ValidationError, BudgetError, PopulationError):
        _refuse_newer(row)
        raise LedgerTampered(row.seq, "meaning", "has a hash, but is no entry of this version") from None
    if _encode(entry) != row.body:
        raise LedgerTampered(row.seq, "meaning", "has a hash, but is not in canonical form")
    return entry


def _refuse_newer(row: Row) -> None:
    try:
        fields = json.loads(row.body)
    except ValueError:
        return
    version = fields.get("version") if isinstance(fields, dict) else None
    if isinstance(version, int) and version > ENTRY_VERSION:
        raise LedgerVersion(
            f"ledger, entry {row.seq}: version={version} is newer than {ENTRY_VERSION}; use the newer Vestry"
        )
