"""The directory of identities: who is who, pinned at every site.

The server hands it out but cannot change it: a site compares its fingerprint out of band once, and keeps it.

    ProtocolAbort
    ├── RosterRefused    two members share a name or a key, or a member is unknown
    └── BadMessage       the bytes are no directory
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from vestry_privacy.secagg.encoding import PROTOCOL, Reader, field, text, u32, u64
from vestry_privacy.secagg.errors import RosterRefused

__all__ = ["Directory", "Member", "key_hash"]

_KEY_BYTES = 32
_MOST_MEMBERS = 100_000


def key_hash(public_key: bytes) -> bytes:
    """SHA-256 of an Ed25519 public key: how a roster names a site, whatever its certificates are."""
    return hashlib.sha256(public_key).digest()


@dataclass(frozen=True)
class Member:
    """A site as the others know it.

    Attributes:
        name: in the federation.
        organisation: that answers for it; one seat each is what a minimum of organisations counts.
        public_key: Ed25519, 32 bytes.
    """

    name: str
    organisation: str
    public_key: bytes

    @cached_property
    def key_hash(self) -> bytes:
        """Its entry in a roster."""
        return key_hash(self.public_key)


@dataclass(frozen=True)
class Directory:
    """All sites of a federation, and the coordinator's key.

    Attributes:
        version: grows with every change.
        coordinator: Ed25519 public key that signs plans, 32 bytes.
        members: in ascending order of their key hashes.
    """

    version: int
    coordinator: bytes
    members: tuple[Member, ...]

    @staticmethod
    def of(version: int, coordinator: bytes, members: Iterable[Member]) -> "Directory":
        """A directory of members in any order.

        Raises:
            RosterRefused: two members share a name or a key, or a key is not 32 bytes.
        """
        ordered = tuple(sorted(members, key=lambda member: member.key_hash))
        for member in ordered:
            if len(member.public_key) != _KEY_BYTES:
                raise RosterRefused("directory", "a key is not 32 bytes", peer=member.name)
            if not member.name or not member.organisation:
                raise RosterRefused("directory", "a member has no name or no organisation", peer=member.name)
        for what, values in (
            ("name", [member.name for member in ordered]),
            ("key", [member.public_key for member in ordered]),
        ):
            if len(set(values)) != len(values):
                raise RosterRefused("directory", f"two members have the same {what}; each site has its own")
        if len(coordinator) != _KEY_BYTES:
            raise RosterRefused("directory", "the coordinator's key is not 32 bytes")
        return Directory(version, coordinator, ordered)

    def encode(self) -> bytes:
        """Its bytes, version 1."""
        parts = [field(PROTOCOL), field(b"directory"), u64(self.version), field(self.coordinator)]
        parts.append(u32(len(self.members)))
        for member in self.members:
            parts += [text(member.name), text(member.organisation), field(member.public_key)]
        return b"".join(parts)

    @staticmethod
    def decode(content: bytes) -> "Directory":
        """Read :meth:`encode`.

        Raises:
            BadMessage: it is no directory, or of another version.
            RosterRefused: see :meth:`of`; or its members are not in order.
        """
        reader = Reader(content, "directory")
        if reader.field() != PROTOCOL or reader.field() != b"directory":
            raise reader.wrong("it is no directory of this version")
        version, coordinator, count = reader.u64(), reader.field(_KEY_BYTES), reader.u32()
        if count > _MOST_MEMBERS:
            raise reader.wrong(f"it has {count} members")
        members = tuple(Member(reader.text(), reader.text(), reader.field(_KEY_BYTES)) for _ in range(count))
        reader.end()
        found = Directory.of(version, coordinator, members)
        if found.members != members:
            raise RosterRefused("directory", "its members are not in the order of their keys")
        return found

    @cached_property
    def fingerprint(self) -> str:
        """64 hexadecimal digits, to be compared out of band."""
        return hashlib.sha256(self.encode()).hexdigest()

    def member(self, entry: bytes) -> Member:
        """The member with a key hash.

        Raises:
            RosterRefused: there is none.
        """
        found = self._by_hash.get(entry)
        if found is None:
            raise RosterRefused(
                "directory",
                f"key {entry.hex()[:16]}… is unknown in version {self.version} of this directory; a new "
                "site enters it by the administrators' signatures, not by the server",
            )
        return found

    def by_name(self, name: str) -> Member:
        """The member with a name.

        Raises:
            RosterRefused: there is none.
        """
        found = self._by_name.get(name)
        if found is None:
            raise RosterRefused("directory", f"is unknown in version {self.version}", peer=name)
        return found

    def roster(self, names: Iterable[str] | None = None) -> tuple[bytes, ...]:
        """Key hashes of these members, or of all, in ascending order.

        Raises:
            RosterRefused: a name is unknown.
        """
        if names is None:
            return tuple(member.key_hash for member in self.members)
        return tuple(sorted(self.by_name(name).key_hash for name in names))

    @cached_property
    def _by_hash(self) -> dict[bytes, Member]:
        return {member.key_hash: member for member in self.members}

    @cached_property
    def _by_name(self) -> dict[str, Member]:
        return {member.name: member for member in self.members}
