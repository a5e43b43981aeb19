"""How an identity enters or leaves the directory: by the signatures of m of k sites' administrators.

A change names the charter that it changes by its digest, so it can be used once, there and nowhere else. Who
has to sign:

    kind           administrators          old key              every new key
    add            quorum                                       the site's, its administrator's
    remove         quorum
    rotate         quorum                  the site's           the site's
    replace        quorum of lost keys,                         the site's, its administrator's
                   the site's own left out
    administrator  quorum                  its administrator's  its administrator's
    coordinator    quorum                                       the coordinator's

No signature of the coordinator, and no certificate, has a part in it.

    VestryError
    └── PkiError
        ├── UnreadableObject    bytes that are no change of this version
        ├── ChangeRefused       the change makes no sense, or a signature does not hold
        ├── OtherDirectory      it changes another charter than the pinned one
        └── TooFewSignatures    too few administrators, or of one organisation only
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal, cast

from vestry_privacy.identity import IdentityError, SiteIdentity, fingerprint_of, verify_signature
from vestry_privacy.pki.charter import Charter
from vestry_privacy.pki.errors import ChangeRefused, OtherDirectory, TooFewSignatures
from vestry_privacy.pki.objects import field, labelled, reading, text, u32
from vestry_privacy.pki.profile import usable_name
from vestry_privacy.secagg.directory import Directory, Member
from vestry_privacy.secagg.errors import ProtocolAbort

__all__ = ["DirectoryChange", "Kind", "Part", "SignedChange", "apply_change", "endorse", "sign_part"]

Kind = Literal["add", "remove", "rotate", "replace", "administrator", "coordinator"]
Part = Literal["administrator", "old key", "new key"]
"""In which role a key signs; it is in the signed bytes, so that no signature fits two roles."""

_CHANGE = "vestry-directory-change/1"
_SIGNED = "vestry-signed-directory-change/1"
_SIGNATURE = "vestry-directory-signature/1"
_KEY_BYTES, _SIGNATURE_BYTES, _DIGEST_BYTES = 32, 64, 32
_MOST_SIGNATURES = 10_000
_LEAST_ORGANISATIONS = 2

# Which of organisation, identity and administrator's key a change has; whoever has none leaves it empty.
_FIELDS: Final[dict[str, tuple[bool, bool, bool]]] = {
    "add": (True, True, True),
    "remove": (False, False, False),
    "rotate": (False, True, False),
    "replace": (False, True, True),
    "administrator": (False, False, True),
    "coordinator": (False, True, False),
}


@dataclass(frozen=True)
class DirectoryChange:
    """One step from a charter to the next.

    Attributes:
        base: digest of the charter that it changes, 32 bytes.
        kind: see the top of this file.
        site: whom it is about; empty for the coordinator.
        organisation: of an added site, else empty.
        identity: new Ed25519 key of the site or the coordinator, 32 bytes or empty.
        administrator: new Ed25519 key of the site's administrator, 32 bytes or empty.
    """

    base: bytes
    kind: Kind
    site: str = ""
    organisation: str = ""
    identity: bytes = b""
    administrator: bytes = b""

    def encode(self) -> bytes:
        """Its bytes, version 1."""
        names = (text(self.kind), text(self.site), text(self.organisation))
        return labelled(_CHANGE, field(self.base), *names, field(self.identity), field(self.administrator))

    @staticmethod
    def decode(content: bytes) -> "DirectoryChange":
        """Read :meth:`encode`.

        Raises:
            UnreadableObject: it is no change of this version.
        """
        with reading(content, _CHANGE) as reader:
            base, kind, site = reader.field(_DIGEST_BYTES), reader.text(), reader.text()
            organisation, identity, administrator = reader.text(), reader.field(), reader.field()
            if kind not in _FIELDS:
                raise reader.wrong("its kind is unknown")
        return DirectoryChange(base, cast(Kind, kind), site, organisation, identity, administrator)

    def to_sign(self, part: Part) -> bytes:
        """The bytes that a key signs in one role."""
        return labelled(_SIGNATURE, text(part), field(self.encode()))

    @property
    def new_keys(self) -> tuple[bytes, ...]:
        """Keys that must show that somebody holds them, in the order of their signatures."""
        return tuple(key for key in (self.identity, self.administrator) if key)

    @property
    def plain(self) -> str:
        """What an administrator reads before signing."""
        keys = ", ".join(fingerprint_of(key)[:16] + "…" for key in self.new_keys)
        whom = f"site {self.site!r}" if self.site else "the coordinator"
        of = f" of {self.organisation!r}" if self.organisation else ""
        new = f", new keys {keys}" if keys else ""
        return f"{self.kind}: {whom}{of}{new}; changes charter {self.base.hex()[:16]}…"


@dataclass(frozen=True)
class SignedChange:
    """A change with all signatures; anybody may collect and carry it.

    Attributes:
        change: what is signed.
        endorsements: name of a site and its administrator's signature, 64 bytes, in ascending order of names.
        continuity: signature of the old key, or empty.
        acceptances: signatures of the new keys, in the order of :attr:`DirectoryChange.new_keys`.
    """

    change: DirectoryChange
    endorsements: tuple[tuple[str, bytes], ...]
    continuity: bytes = b""
    acceptances: tuple[bytes, ...] = ()

    def encode(self) -> bytes:
        """Its bytes, version 1."""
        parts = [field(self.change.encode()), u32(len(self.endorsements))]
        for site, signature in self.endorsements:
            parts += [text(site), field(signature)]
        parts += [field(self.continuity), u32(len(self.acceptances)), *map(field, self.acceptances)]
        return labelled(_SIGNED, *parts)

    @staticmethod
    def decode(content: bytes) -> "SignedChange":
        """Read :meth:`encode`.

        Raises:
            UnreadableObject: it is no signed change of this version, or a site signed twice.
        """
        with reading(content, _SIGNED) as reader:
            change, count = DirectoryChange.decode(reader.field()), reader.u32()
            if count > _MOST_SIGNATURES:
                raise reader.wrong(f"it has {count} signatures")
            endorsements = tuple((reader.text(), reader.field(_SIGNATURE_BYTES)) for _ in range(count))
            continuity, acceptances = reader.field(), tuple(reader.fields(2))
            names = [site for site, _ in endorsements]
            if names != sorted(set(names)):
                raise reader.wrong("its signatures are not in the order of the sites' names, or one is twice")
        return SignedChange(change, endorsements, continuity, acceptances)


def sign_part(change: DirectoryChange, part: Part, key: SiteIdentity) -> bytes:
    """Sign in one role; 64 bytes."""
    return key.sign(change.to_sign(part))


def endorse(charter: Charter, change: DirectoryChange, site: str, administrator: SiteIdentity) -> bytes:
    """Sign as a site's administrator, after reading :attr:`DirectoryChange.plain`.

    Args:
        charter: pinned at this site.
        change: to be signed.
        site: whose administrator signs.
        administrator: their key.

    Returns:
        64 bytes.

    Raises:
        OtherDirectory, ChangeRefused: the change would be refused whoever signs it, or this is not the
            administrator's key of that site.
    """
    _changed(charter, change)
    if charter.by_site.get(site) != administrator.public_key:
        raise ChangeRefused(f"administrator: this is not the key of {site!r}'s administrator in the charter")
    return sign_part(change, "administrator", administrator)


def apply_change(charter: Charter, signed: SignedChange) -> Charter:
    """Decide on a change at a site.

    Args:
        charter: pinned there.
        signed: of anybody.

    Returns:
        The next charter, its directory one version further; store it before it is used.

    Raises:
        OtherDirectory, ChangeRefused, TooFewSignatures: see the top of this file. The pinned charter stays.

    Guarantees:
        Fewer than m dishonest administrators (the charter's `quorum`, or its `lost_key_quorum` of the other
        sites), together with the coordinator, the issuing key, the root and every site's daemon, cannot
        change the directory. No change can be used twice or on another charter.
    """
    change = signed.change
    result = _changed(charter, change)
    old = _old_key(charter, change)
    if old:
        _check(old, change, "old key", signed.continuity, "the key that is replaced")
    elif signed.continuity:
        raise ChangeRefused(f"change: {change.kind} has no old key that signs")
    if len(signed.acceptances) != len(change.new_keys):
        raise ChangeRefused(
            f"change: {len(change.new_keys)} new keys must sign, {len(signed.acceptances)} did"
        )
    for key, signature in zip(change.new_keys, signed.acceptances, strict=True):
        _check(key, change, "new key", signature, "a new key")
    _count(charter, signed)
    return result


def _count(charter: Charter, signed: SignedChange) -> None:
    """Signatures of enough sites, of at least two organisations."""
    change, counted = signed.change, set[str]()
    for site, signature in signed.endorsements:
        key = charter.by_site.get(site)
        if key is None:
            raise ChangeRefused(f"change: {site!r} signed and is no site of the charter")
        _check(key, change, "administrator", signature, f"the administrator of {site!r}")
        if (
            change.kind != "replace" or site != change.site
        ):  # whoever took its key may have taken this one too
            counted.add(site)
    needed = charter.lost_key_quorum if change.kind == "replace" else charter.quorum
    if len(counted) < needed:
        raise TooFewSignatures(
            f"change: {len(counted)} signatures of {len(charter.administrators)} administrators count, "
            f"{needed} are needed"
        )
    if len({charter.directory.by_name(site).organisation for site in counted}) < _LEAST_ORGANISATIONS:
        raise TooFewSignatures(
            "change: all signatures are of one organisation; another one must sign as well"
        )


def _changed(charter: Charter, change: DirectoryChange) -> Charter:
    """The next charter, whoever signed."""
    if change.base != charter.digest:
        raise OtherDirectory(
            f"change: is of charter {change.base.hex()[:16]}…, the pinned one is {charter.fingerprint[:16]}… "
            f"(version {charter.directory.version}); it was applied before, or others must come first"
        )
    given = (bool(change.organisation), bool(change.identity), bool(change.administrator))
    if given != _FIELDS[change.kind]:
        raise ChangeRefused(f"change: {change.kind} has fields that it does not need, or lacks some")
    if any(len(key) != _KEY_BYTES for key in change.new_keys):
        raise ChangeRefused(f"change: a key has not {_KEY_BYTES} bytes")
    known = change.site in charter.by_site
    if change.kind == "add" and (known or not usable_name(change.site)):
        raise ChangeRefused(f"change: {change.site!r} is in the charter already, or is no name")
    if change.kind == "coordinator" and change.site:
        raise ChangeRefused("change: the coordinator is no site")
    if change.kind not in ("add", "coordinator") and not known:
        raise ChangeRefused(f"change: {change.site!r} is no site of the charter")
    try:
        return _CHANGES[change.kind](charter, change)
    except ProtocolAbort as error:
        raise ChangeRefused(f"change: {error.message}") from None


def _added(charter: Charter, change: DirectoryChange) -> Charter:
    member = Member(change.site, change.organisation, change.identity)
    return _next(charter, {change.site: member}, {change.site: change.administrator})


def _removed(charter: Charter, change: DirectoryChange) -> Charter:
    return _next(charter, {change.site: None}, {change.site: b""})


def _with_keys(charter: Charter, change: DirectoryChange) -> Charter:
    member = charter.directory.by_name(change.site)
    identity = change.identity or member.public_key
    administrator = change.administrator or charter.by_site[change.site]
    if (identity, administrator) == (member.public_key, charter.by_site[change.site]):
        raise ChangeRefused(f"change: the new keys of {change.site!r} are the old ones")
    return _next(charter, {change.site: replace(member, public_key=identity)}, {change.site: administrator})


def _with_coordinator(charter: Charter, change: DirectoryChange) -> Charter:
    if change.identity == charter.directory.coordinator:
        raise ChangeRefused("change: the new key of the coordinator is the old one")
    return _next(charter, {}, {}, change.identity)


_CHANGES: Final[dict[str, Callable[[Charter, DirectoryChange], Charter]]] = {
    "add": _added,
    "remove": _removed,
    "rotate": _with_keys,
    "replace": _with_keys,
    "administrator": _with_keys,
    "coordinator": _with_coordinator,
}


def _next(
    charter: Charter,
    members: dict[str, Member | None],
    administrators: dict[str, bytes],
    coordinator: bytes = b"",
) -> Charter:
    """With these members and administrators instead of those of the same names; None and nothing leave."""
    present: dict[str, Member | None] = {member.name: member for member in charter.directory.members}
    kept = [member for member in (present | members).values() if member is not None]
    keys = {site: key for site, key in (charter.by_site | administrators).items() if key}
    before = charter.directory
    directory = Directory.of(before.version + 1, coordinator or before.coordinator, kept)
    return Charter.of(directory, keys, min(charter.demanded, len(keys)))


def _old_key(charter: Charter, change: DirectoryChange) -> bytes:
    if change.kind == "rotate":
        return charter.directory.by_name(change.site).public_key
    return charter.by_site[change.site] if change.kind == "administrator" else b""


def _check(key: bytes, change: DirectoryChange, part: Part, signature: bytes, whose: str) -> None:
    try:
        verify_signature(key, change.to_sign(part), signature)
    except IdentityError:
        raise ChangeRefused(f"change: the signature of {whose} does not hold") from None
