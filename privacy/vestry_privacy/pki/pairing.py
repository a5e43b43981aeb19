"""Enrolment: what the site sends, and the short string that both operators compare by telephone.

The string is a function of everything that an attacker between the two could have replaced, and of two
nonces. The site commits to its nonce, the coordinator answers with its own, and only then the site opens:
whoever sits between has to fix what it shows to one side before it knows the other side's nonce, so it has
one guess and cannot search (Vaudenay, CRYPTO 2005, "Secure Communications over Insecure Channels Based on
Short Authenticated Strings"; ZRTP, RFC 6189, section 4.4.1.1; Matrix does the same with Diffie-Hellman keys).

    site                                      coordinator
    opening: request, keys, token, commitment  ->
                                              <-  nonce
    site's nonce                               ->      both show the string

    VestryError
    └── PkiError
        ├── UnreadableObject    bytes that are no opening of this version
        └── PairingRefused      not what was committed to, not signed, or asked for twice
"""

import hashlib
import hmac
import os
from dataclasses import dataclass

from vestry_privacy.identity import IdentityError, SiteIdentity, verify_signature
from vestry_privacy.pki.errors import PairingRefused
from vestry_privacy.pki.objects import field, labelled, reading, text
from vestry_privacy.pki.profile import usable_name
from vestry_privacy.pki.requests import Request
from vestry_privacy.pki.tokens import token_hash
from vestry_privacy.secagg.secret import Entropy

__all__ = ["CoordinatorSide", "Facts", "Opening", "SiteSide", "open_pairing"]

_OPENING = "vestry-enrolment/1"
_NONCE_BYTES = 32
_DIGITS = 18
_GROUP = 3


@dataclass(frozen=True)
class Facts:
    """What both sides must see alike.

    Attributes:
        root: fingerprint of the root certificate, 64 hexadecimal digits.
        name: of the site.
        link_key: the request's public key, DER.
        identity: the site's Ed25519 key, 32 bytes.
        token_hash: see :func:`vestry_privacy.pki.tokens.token_hash`.
    """

    root: str
    name: str
    link_key: bytes
    identity: bytes
    token_hash: bytes

    @staticmethod
    def of(root: str, request: Request, identity: bytes, token: str) -> "Facts":
        """Facts of a checked request."""
        return Facts(root, request.name, request.key_bytes, identity, token_hash(request.name, token))

    def _encoded(self) -> bytes:
        values = (bytes.fromhex(self.root), self.name.encode(), self.link_key, self.identity, self.token_hash)
        return b"".join(map(field, values))

    def commitment(self, nonce: bytes) -> bytes:
        """SHA-256 over these facts and the site's nonce; it hides a nonce of 32 random bytes."""
        return hashlib.sha256(labelled("vestry-pairing-commitment/1", self._encoded(), field(nonce))).digest()

    def short_string(self, site_nonce: bytes, coordinator_nonce: bytes) -> str:
        """Six groups of three decimal digits: 59 bits."""
        nonces = field(site_nonce) + field(coordinator_nonce)
        digest = hashlib.sha256(labelled("vestry-pairing-string/1", self._encoded(), nonces)).digest()
        digits = f"{int.from_bytes(digest, 'big') % 10**_DIGITS:0{_DIGITS}}"
        return " ".join(digits[start : start + _GROUP] for start in range(0, _DIGITS, _GROUP))


@dataclass(frozen=True)
class Opening:
    """A site's first message.

    Attributes:
        name: that it says.
        request: PKCS#10 in DER; see :func:`vestry_privacy.pki.requests.check_request`.
        identity: its Ed25519 key, 32 bytes; the message is signed by it.
        token: as the operator typed it; not shown by repr.
        commitment: 32 bytes.
    """

    name: str
    request: bytes
    identity: bytes
    token: str
    commitment: bytes

    def signed(self) -> bytes:
        """The bytes that the identity signs: all of the message but the signature."""
        values = (self.request, self.identity, self.token.encode(), self.commitment)
        return labelled(_OPENING, text(self.name), *map(field, values))

    @staticmethod
    def decode(content: bytes) -> "Opening":
        """Read a site's first message.

        Raises:
            UnreadableObject: it is no opening of this version.
            PairingRefused: the identity that it names did not sign it.
        """
        with reading(content, _OPENING) as reader:
            name, request = reader.text(), reader.field()
            identity, token, commitment = reader.field(32), reader.text(), reader.field(32)
            if not usable_name(name):
                raise reader.wrong("its name is no name")
            signature = reader.field(64)
        opening = Opening(name, request, identity, token, commitment)
        try:
            verify_signature(identity, opening.signed(), signature)
        except IdentityError:
            raise PairingRefused("enrolment: is not signed by the identity that it names") from None
        return opening

    def __repr__(self) -> str:
        return f"Opening({self.name!r})"


class SiteSide:
    """The site after its first message.

    Args:
        facts: as the site sees them.
        nonce: that it committed to.
    """

    __slots__ = ("_facts", "_nonce", "_opened")

    def __init__(self, facts: Facts, nonce: bytes) -> None:
        self._facts, self._nonce, self._opened = facts, nonce, False

    def open(self, coordinator_nonce: bytes) -> tuple[bytes, str]:
        """Answer the coordinator's nonce.

        Args:
            coordinator_nonce: 32 bytes.

        Returns:
            The site's nonce, to be sent, and the string, to be compared.

        Raises:
            PairingRefused: another length, or a second nonce.

        Guarantees:
            One string for one opening: a second nonce, chosen with the opened one in hand, could be searched
            until the strings are the same.
        """
        if len(coordinator_nonce) != _NONCE_BYTES:
            raise PairingRefused(
                f"enrolment: a nonce has {_NONCE_BYTES} bytes, this has {len(coordinator_nonce)}"
            )
        if self._opened:
            raise PairingRefused("enrolment: was answered before; start again with a new invitation")
        self._opened = True
        return self._nonce, self._facts.short_string(self._nonce, coordinator_nonce)


class CoordinatorSide:
    """The coordinator after a site's first message, whose token and request it has accepted.

    Args:
        facts: as the coordinator sees them.
        commitment: of the message.
        entropy: of the nonce.

    Attributes:
        nonce: to be sent; drawn after the commitment came.
    """

    __slots__ = ("_commitment", "_facts", "_finished", "nonce")

    def __init__(self, facts: Facts, commitment: bytes, *, entropy: Entropy = os.urandom) -> None:
        self._facts, self._commitment, self._finished = facts, commitment, False
        self.nonce = entropy(_NONCE_BYTES)

    def finish(self, site_nonce: bytes) -> str:
        """Check what the site opened.

        Returns:
            The string, to be compared.

        Raises:
            PairingRefused: not what it committed to, or a second try.
        """
        if self._finished:
            raise PairingRefused("enrolment: was finished before; start again with a new invitation")
        self._finished = True
        if not hmac.compare_digest(self._facts.commitment(site_nonce), self._commitment):
            raise PairingRefused(
                "enrolment: the site's nonce is not the one that it committed to, or something was replaced "
                "on the way; find out what lies between the two, then start again with a new invitation"
            )
        return self._facts.short_string(site_nonce, self.nonce)


def open_pairing(
    facts: Facts, request: bytes, identity: SiteIdentity, token: str, *, entropy: Entropy = os.urandom
) -> tuple[SiteSide, bytes]:
    """Start an enrolment at the site.

    Args:
        facts: of the site's own request, and of the root whose fingerprint its operator typed.
        request: PKCS#10 in DER.
        identity: the site's.
        token: as the operator typed it.
        entropy: of the nonce.

    Returns:
        The site's side, and the first message: send it only over TLS whose root has that fingerprint.
    """
    nonce = entropy(_NONCE_BYTES)
    opening = Opening(facts.name, request, identity.public_key, token, facts.commitment(nonce))
    content = opening.signed()
    return SiteSide(facts, nonce), content + field(identity.sign(content))
