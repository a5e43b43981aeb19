"""Do two populations share persons? Told from keyed identifiers, at the site, without storing one.

A tag is HMAC-SHA256 (RFC 2104) of an identifier, cut to 128 bits, under a key that stays in the site's
folder: without it, identifiers of few digits could be found by trying all. The tags lie beside the chain; the
chain holds a hash over each data set's tags, so that none can be taken away unseen.
"""

import hashlib
import hmac
import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from vestry_privacy.canonical import canonical_bytes, canonical_hash
from vestry_privacy.disclosure import safe_count
from vestry_privacy.durable import create_durably
from vestry_privacy.ledger_entries import Dataset
from vestry_privacy.ledger_errors import LedgerTampered, LedgerUnavailable, OverlapError, PopulationError
from vestry_privacy.ledger_file import LedgerFile
from vestry_privacy.ledger_state import LedgerState

__all__ = [
    "IdentifierKey",
    "check_tags",
    "checked",
    "commitment",
    "refuse_overlap",
    "refuse_same_file",
    "store_tags",
]

_KEY_BYTES, _TAG_BYTES = 32, 16
_UNKNOWN: dict[str, str | None] = {"overlap": "unknown", "identifiers": None, "key_check": None}


class IdentifierKey:
    """The site's key for identifiers.

    Args:
        path: of its file; made where there is none and nothing was tagged yet.
        known: what the ledger calls the key; None before the first tags.

    Raises:
        LedgerUnavailable: the file is missing, damaged or another.
    """

    def __init__(self, path: Path, known: str | None) -> None:
        try:
            if known is None and not path.exists():
                create_durably(path, os.urandom(_KEY_BYTES))
            self._key = path.read_bytes()
        except OSError as error:
            raise LedgerUnavailable(
                f"identifier key {path}: cannot be read or made ({error.strerror}); restore it from a "
                "backup, since tags of another key cannot be compared"
            ) from None
        if len(self._key) != _KEY_BYTES or (known is not None and self.check != known):
            raise LedgerUnavailable(
                f"identifier key {path}: is not the one of this ledger's tags; restore it"
            )

    @property
    def check(self) -> str:
        """Names the key without telling it."""
        return canonical_hash("vestry-identifier-key/1", self._key)

    def tags(self, identifiers: Iterable[str]) -> list[bytes]:
        """Tags in their order, each once.

        Raises:
            PopulationError: there are none, or one is empty.

        Guarantees:
            Tags tell nothing of identifiers to who does not have the key, but how many there are.
        """
        tags = sorted({self._tag(identifier) for identifier in identifiers})
        if not tags:
            raise PopulationError("identifiers: are none; say that they are unknown, or give each person's")
        return tags

    def _tag(self, identifier: str) -> bytes:
        text = unicodedata.normalize("NFC", identifier).strip()
        if not text:
            raise PopulationError("identifiers: one is empty; every record needs its person's")
        message = canonical_bytes(["vestry-identifier/1", text])
        return hmac.new(self._key, message, hashlib.sha256).digest()[:_TAG_BYTES]


def checked(
    file: LedgerFile, state: LedgerState, population: str, key_file: Path, identifiers: Sequence[str] | None
) -> tuple[dict[str, str | None], list[bytes]]:
    """Check a data set's persons against those of all other populations.

    Returns:
        What the chain says of them, and their tags for the table.

    Raises:
        OverlapError: persons of another population.
        PopulationError: identifiers that name nobody.
        LedgerUnavailable: the key is missing.
        LedgerTampered: stored tags are not those that were written.
    """
    if identifiers is None:
        return _UNKNOWN, []
    key = IdentifierKey(key_file, state.key_check)
    tags = key.tags(identifiers)
    refuse_overlap(file, state, population, tags)
    return {"overlap": "checked", "identifiers": commitment(tags), "key_check": key.check}, tags


def commitment(tags: Sequence[bytes]) -> str:
    """Hash over a data set's tags in their order."""
    digest = hashlib.sha256(canonical_bytes(["vestry-identifier-tags/1", len(tags)]))
    for tag in tags:
        digest.update(tag)
    return digest.hexdigest()


def refuse_same_file(state: LedgerState, population: str, fingerprint: str) -> None:
    """One file cannot hold the persons of two populations.

    Raises:
        OverlapError: another population has it.
    """
    for name, other in state.populations.items():
        if name != population and any(data.fingerprint == fingerprint for data in other.datasets):
            raise OverlapError(
                name,
                f"population {population!r}: the same data set belongs to population {name!r}; use that one",
            )


def refuse_overlap(file: LedgerFile, state: LedgerState, population: str, tags: Sequence[bytes]) -> None:
    """Persons of another population must be charged there.

    Raises:
        OverlapError: names the population; the number of persons only from the minimum cell on.
        LedgerTampered: the stored tags are not those that the chain vouches for.
    """
    asked = set(tags)
    for name, other in state.populations.items():
        if name == population:
            continue
        shared: set[bytes] = set()
        for entry in other.datasets:
            if entry.identifiers is not None:
                shared |= asked.intersection(check_tags(file, entry))
        if shared:
            raise OverlapError(
                name,
                f"population {population!r}: persons ({safe_count(len(shared))}) belong to population "
                f"{name!r} already; add the data set to that population, whose budget they share",
            )


def check_tags(file: LedgerFile, entry: Dataset) -> list[bytes]:
    """The stored tags of a data set, compared with the chain.

    Raises:
        LedgerTampered: tags were added, changed or taken away.
    """
    rows = file.query("SELECT tag FROM identifiers WHERE dataset = ? ORDER BY tag", (entry.seq,))
    tags = [bytes(tag) for (tag,) in rows]
    if commitment(tags) != entry.identifiers:
        raise LedgerTampered(entry.seq, "identifiers", "the stored tags are not those that were written")
    return tags


def store_tags(file: LedgerFile, dataset: int, tags: Sequence[bytes]) -> None:
    """Store the tags of a data set, inside a transaction."""
    file.add("INSERT INTO identifiers VALUES (?, ?)", [(dataset, tag) for tag in tags])
