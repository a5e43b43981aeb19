"""Check a ledger without its site: every hash, every signature, the order, the meaning, the head."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vestry_privacy.identity import fingerprint_of
from vestry_privacy.ledger_chain import lost_entries
from vestry_privacy.ledger_entries import Create, Dataset, Entry, Row, check_signature, unseal
from vestry_privacy.ledger_errors import LedgerRollback, LedgerTampered, LedgerUnavailable, WrongIdentity
from vestry_privacy.ledger_file import default_head, open_read_only, read_head, read_rows
from vestry_privacy.ledger_identifiers import commitment
from vestry_privacy.ledger_state import LedgerState

__all__ = ["VerifyReport", "verify_ledger"]


@dataclass(frozen=True)
class VerifyReport:
    """A ledger that holds.

    Attributes:
        entries: how many.
        newest: number of the newest.
        hash: of the newest.
        head_checked: whether a head was there to tell lost entries by; a bare copy has none.
        public_key: 32 raw bytes that signed all of them.
        fingerprint: of the key; compare it with what the site publishes.
        clock_set_back: numbers of entries written while the clock was behind.
        reconciled: numbers of entries that follow on a loss.
    """

    entries: int
    newest: int
    hash: str
    head_checked: bool
    public_key: bytes
    fingerprint: str
    clock_set_back: tuple[int, ...]
    reconciled: tuple[int, ...]


def verify_ledger(path: Path, public_key: bytes | None = None, head: Path | None = None) -> VerifyReport:
    """Check a ledger or a copy of one; changes nothing.

    Args:
        path: the database.
        public_key: of the site; None takes the one in the ledger, which then proves nothing about who it is.
        head: the head's file; None takes the one beside the database, if there is one.

    Returns:
        What was checked.

    Raises:
        LedgerTampered: names the first entry that does not hold and what of it.
        LedgerRollback: the head knows of entries that are not there.
        LedgerUnavailable: no such file, or no ledger.
        LedgerVersion: a newer version wrote it.
        WrongIdentity: another key signed it.

    Guarantees:
        Every byte of every entry is what the key signed, in the order in which it was signed.
    """
    known = read_head(head or default_head(path))
    if head is not None and known is None:
        raise LedgerUnavailable(f"ledger head {head}: there is no such file")
    with open_read_only(path) as connection:
        rows, entries = _check_chain(read_rows(connection, 1), public_key)
        _check_identifiers(connection, entries)
    lost = lost_entries(known, {row.seq: row.hash for row in rows})
    if known is not None and lost is not None:
        raise LedgerRollback(lost)
    key = _key_of(entries)
    return VerifyReport(
        entries=len(rows),
        newest=rows[-1].seq,
        hash=rows[-1].hash,
        head_checked=known is not None,
        public_key=key,
        fingerprint=fingerprint_of(key),
        clock_set_back=tuple(entry.seq for entry in entries if entry.clock_set_back),
        reconciled=tuple(entry.seq for entry in entries if entry.kind == "reconcile"),
    )


def _check_chain(
    stored: Sequence[Sequence[object]], public_key: bytes | None
) -> tuple[list[Row], list[Entry]]:
    rows: list[Row] = []
    entries: list[Entry] = []
    state = LedgerState()
    for columns in stored:
        row, entry = unseal(columns, rows[-1] if rows else None, state.public_key or None)
        state.apply(entry)
        if public_key is not None and state.public_key != public_key:
            raise WrongIdentity(
                f"ledger: is signed with the key {fingerprint_of(state.public_key)[:16]}…, not with "
                f"{fingerprint_of(public_key)[:16]}…"
            )
        check_signature(row, state.public_key)
        rows.append(row)
        entries.append(entry)
    if not rows:
        raise LedgerTampered(0, "file", "has no entries")
    return rows, entries


def _key_of(entries: Sequence[Entry]) -> bytes:
    (first,) = [entry for entry in entries if isinstance(entry, Create)]
    return bytes.fromhex(first.public_key)


def _check_identifiers(connection: sqlite3.Connection, entries: Sequence[Entry]) -> None:
    vouched = {entry.seq: entry for entry in entries if isinstance(entry, Dataset) and entry.identifiers}
    for (seq,) in connection.execute("SELECT DISTINCT dataset FROM identifiers ORDER BY dataset"):
        if seq not in vouched:
            raise LedgerTampered(seq, "identifiers", "tags are stored for an entry that has none")
    for seq, entry in vouched.items():
        rows = connection.execute("SELECT tag FROM identifiers WHERE dataset = ? ORDER BY tag", (seq,))
        if commitment([bytes(tag) for (tag,) in rows]) != entry.identifiers:
            raise LedgerTampered(seq, "identifiers", "the stored tags are not those that were written")
