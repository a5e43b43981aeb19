"""The charter of a federation: the directory of identities, and who may change it.

Every site has one administrator, a person with a key of their own (Ed25519) that neither the site's daemon
nor the coordinator holds. A site pins the founding charter by comparing its fingerprint out of band; from
then on only the administrators' signatures move it (:mod:`vestry_privacy.pki.directory_changes`).

    VestryError
    └── PkiError
        ├── UnreadableObject    bytes that are no charter of this version
        ├── ChangeRefused       sites, administrators and quorum do not fit together
        └── OtherDirectory      another fingerprint than the one compared out of band
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from vestry_privacy.pki.errors import ChangeRefused, OtherDirectory, UnreadableObject
from vestry_privacy.pki.objects import field, labelled, reading, text, u32
from vestry_privacy.pki.profile import same_fingerprint, short_digest
from vestry_privacy.secagg.directory import Directory
from vestry_privacy.secagg.errors import ProtocolAbort

__all__ = ["Administrator", "Charter", "confirm_charter"]

_LABEL = "vestry-charter/1"
_KEY_BYTES = 32
_LEAST_SITES = 2
_MOST_SITES = 10_000


@dataclass(frozen=True)
class Administrator:
    """Who signs for a site.

    Attributes:
        site: its name in the directory.
        public_key: Ed25519, 32 bytes; of a person, not of the site's daemon.
    """

    site: str
    public_key: bytes


@dataclass(frozen=True)
class Charter:
    """A directory and who may change it.

    Attributes:
        directory: of identities, and of the coordinator's key.
        administrators: one for each site, in ascending order of the sites' names.
        demanded: signatures that the founders want at least; a majority counts where it is more.
    """

    directory: Directory
    administrators: tuple[Administrator, ...]
    demanded: int = 0

    @staticmethod
    def of(directory: Directory, administrators: Mapping[str, bytes], demanded: int = 0) -> "Charter":
        """A charter of administrators' keys by their sites' names.

        Raises:
            ChangeRefused: a site without an administrator, an administrator without a site, one key in two
                roles, fewer than two sites or organisations, or more signatures demanded than sites.
        """
        names = {member.name for member in directory.members}
        if administrators.keys() != names:
            odd = ", ".join(sorted(administrators.keys() ^ names))
            raise ChangeRefused(f"charter: each site has one administrator; look at {odd}")
        if any(len(key) != _KEY_BYTES for key in administrators.values()):
            raise ChangeRefused(f"charter: an administrator's key has not {_KEY_BYTES} bytes")
        members = [member.public_key for member in directory.members]
        keys = [*administrators.values(), *members, directory.coordinator]
        if len(set(keys)) != len(keys):
            raise ChangeRefused(
                "charter: one key is in two roles; sites, persons and coordinator have their own"
            )
        if min(len(names), len({member.organisation for member in directory.members})) < _LEAST_SITES:
            raise ChangeRefused("charter: at least two sites of two organisations are needed")
        if not 0 <= demanded <= len(names):
            raise ChangeRefused(f"charter: {demanded} signatures are demanded of {len(names)} sites")
        ordered = tuple(Administrator(name, administrators[name]) for name in sorted(names))
        return Charter(directory, ordered, demanded)

    @property
    def quorum(self) -> int:
        """Sites whose administrators must sign a change: more than half, at least two, or what was demanded.

        Two changes of one charter so have a signer in common: nobody can lead two halves to two directories.
        """
        return max(len(self.administrators) // 2 + 1, _LEAST_SITES, self.demanded)

    @property
    def lost_key_quorum(self) -> int:
        """Of the *other* sites, where a site cannot sign with its old key: two thirds, or all of few."""
        sites = len(self.administrators)
        return max(_LEAST_SITES, min(sites - 1, max(self.quorum + 1, 2 * sites // 3 + 1)))

    @cached_property
    def by_site(self) -> dict[str, bytes]:
        """Administrators' keys under their sites' names."""
        return {one.site: one.public_key for one in self.administrators}

    def encode(self) -> bytes:
        """Its bytes, version 1."""
        parts = [field(self.directory.encode()), u32(self.demanded), u32(len(self.administrators))]
        for one in self.administrators:
            parts += [text(one.site), field(one.public_key)]
        return labelled(_LABEL, *parts)

    @staticmethod
    def decode(content: bytes) -> "Charter":
        """Read :meth:`encode`.

        Raises:
            UnreadableObject: it is no charter of this version.
            ChangeRefused: see :meth:`of`; or the administrators are not in order.
        """
        with reading(content, _LABEL) as reader:
            inner, demanded, count = reader.field(), reader.u32(), reader.u32()
            if count > _MOST_SITES:
                raise reader.wrong(f"it has {count} administrators")
            found = tuple(Administrator(reader.text(), reader.field(_KEY_BYTES)) for _ in range(count))
        try:
            directory = Directory.decode(inner)
        except ProtocolAbort as error:
            raise UnreadableObject(f"charter: its directory cannot be read: {error.message}") from None
        charter = Charter.of(directory, {one.site: one.public_key for one in found}, demanded)
        if charter.administrators != found:
            raise ChangeRefused("charter: its administrators are not in the order of their sites' names")
        return charter

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of its bytes: what a change is bound to."""
        return hashlib.sha256(self.encode()).digest()

    @property
    def fingerprint(self) -> str:
        """64 hexadecimal digits, to be compared out of band; covers identities, administrators and quorum."""
        return self.digest.hex()

    @property
    def spoken(self) -> str:
        """The fingerprint as six groups of four digits, to be read aloud."""
        return short_digest(self.fingerprint)


def confirm_charter(charter: Charter, fingerprint: str) -> Charter:
    """Accept a founding charter at a site.

    Args:
        charter: as it came, from the coordinator or anybody.
        fingerprint: all 64 digits, as the site's administrator got them from another administrator; blanks,
            colons and capitals make no difference.

    Returns:
        The charter, to be pinned.

    Raises:
        OtherDirectory: the fingerprints are not the same.
    """
    if not same_fingerprint(fingerprint, charter.fingerprint):
        raise OtherDirectory(
            f"charter: its fingerprint is {charter.fingerprint}, another one was compared; ask the other "
            "sites' administrators, not the coordinator"
        )
    return charter
