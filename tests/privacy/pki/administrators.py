"""A charter of small numbers: sites, their administrators and their signatures, the same each time."""

from collections.abc import Iterable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vestry_privacy.identity import SiteIdentity
from vestry_privacy.pki.charter import Charter
from vestry_privacy.pki.directory_changes import DirectoryChange, SignedChange, sign_part
from vestry_privacy.secagg.directory import Directory, Member

__all__ = ["COORDINATOR", "administrator", "change_of", "charter", "person", "signed", "site_key"]


def person(number: int) -> SiteIdentity:
    """A key from a number."""
    return SiteIdentity(Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "big")))


COORDINATOR = person(9_000)


def site_key(number: int) -> SiteIdentity:
    """The identity of site-NUMBER."""
    return person(1_000 + number)


def administrator(number: int) -> SiteIdentity:
    """The key of the administrator of site-NUMBER."""
    return person(2_000 + number)


def charter(sites: int = 5, demanded: int = 0, version: int = 1) -> Charter:
    """Sites site-1 to site-N, each of an organisation of its own."""
    members = [Member(f"site-{n}", f"org-{n}", site_key(n).public_key) for n in range(1, sites + 1)]
    keys = {f"site-{n}": administrator(n).public_key for n in range(1, sites + 1)}
    return Charter.of(Directory.of(version, COORDINATOR.public_key, members), keys, demanded)


def change_of(base: Charter, kind: str, number: int = 2, new: int = 50) -> DirectoryChange:
    """A sensible change of a kind, about site-NUMBER, with the keys of site-NEW."""
    identity, key = site_key(new).public_key, administrator(new).public_key
    site, digest = f"site-{number}", base.digest
    changes = {
        "add": DirectoryChange(digest, "add", f"site-{new}", f"org-{new}", identity, key),
        "remove": DirectoryChange(digest, "remove", site),
        "rotate": DirectoryChange(digest, "rotate", site, identity=identity),
        "replace": DirectoryChange(digest, "replace", site, identity=identity, administrator=key),
        "administrator": DirectoryChange(digest, "administrator", site, administrator=key),
        "coordinator": DirectoryChange(digest, "coordinator", identity=identity),
    }
    return changes[kind]


def signed(change: DirectoryChange, signers: Iterable[int], number: int = 2, new: int = 50) -> SignedChange:
    """With the signatures of these sites' administrators, and whatever else the kind needs."""
    names = sorted((f"site-{n}", sign_part(change, "administrator", administrator(n))) for n in signers)
    holders = {site_key(new).public_key: site_key(new), administrator(new).public_key: administrator(new)}
    old = {"rotate": site_key(number), "administrator": administrator(number)}.get(change.kind)
    continuity = b"" if old is None else sign_part(change, "old key", old)
    accepted = tuple(sign_part(change, "new key", holders[key]) for key in change.new_keys)
    return SignedChange(change, tuple(names), continuity, accepted)
