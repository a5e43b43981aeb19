"""Keys of one sum at one site: fresh X25519 pairs, and what is derived from them.

X25519: RFC 7748. HKDF-SHA256: RFC 5869, with the plan's hash as salt and both public keys and indexes in the
info (docs/secagg-protocol.md), so that no key fits two sums, two pairs or two purposes. AES-256-GCM: NIST
SP 800-38D; a key seals one message, so the nonce is fixed.

Symbols: i, j indexes of two sites; lo < hi the same two in order; b the seed of a site's self mask.
"""

import hashlib
import hmac
from typing import NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from vestry_privacy.secagg.encoding import field, header, u32
from vestry_privacy.secagg.errors import BadDealing, BadKey, WrongStep
from vestry_privacy.secagg.masks import hkdf
from vestry_privacy.secagg.secret import Entropy, Secret

__all__ = [
    "KeyPair",
    "check_public_key",
    "commitment",
    "pair_mask_key",
    "public_key_of",
    "same",
    "seal",
    "seal_keys",
    "seed_commitment",
    "self_mask_key",
    "unseal",
]

KEY_BYTES = 32
_MASK_KEY_BYTES = 16
_LABEL = b"vestry-secagg/1/"
_NONCE = bytes(12)  # safe because a seal key is derived for one dealer, holder and plan, and seals once


class KeyPair:
    """A fresh X25519 pair that lives for one sum.

    Args:
        private: the private key, 32 bytes; taken over.

    Guarantees:
        The private key is in a :class:`Secret`: no repr, no pickle.
    """

    __slots__ = ("_key", "private", "public")

    def __init__(self, private: Secret) -> None:
        self.private = private
        self._key: X25519PrivateKey | None = X25519PrivateKey.from_private_bytes(private.expose())
        self.public = self._key.public_key().public_bytes_raw()

    @staticmethod
    def fresh(entropy: Entropy) -> "KeyPair":
        """A new pair; takes 32 bytes of entropy."""
        return KeyPair(Secret(entropy(KEY_BYTES)))

    def exchange(self, peer: bytes) -> bytes:
        """The shared secret with a peer's public key of 32 bytes.

        Raises:
            BadKey: it is all zero (the peer's key has a small order), or the key is none.
            WrongStep: this pair was wiped.
        """
        if self._key is None:
            raise WrongStep("key agreement", "the private key was wiped; a sum goes on, or ends")
        try:
            return self._key.exchange(X25519PublicKey.from_public_bytes(peer))
        except ValueError:
            raise BadKey(
                "key agreement", "a public key gives an all-zero shared secret, or is no key"
            ) from None

    def wipe(self) -> None:
        """Forget the private key, best effort."""
        self._key = None
        self.private.wipe()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a KeyPair cannot be copied or pickled; it lives for one sum in one process")


def check_public_key(public: bytes) -> None:
    """Refuse a key of small order: whoever agrees with it gets an all-zero secret.

    Raises:
        BadKey: it is one, or no key.
    """
    KeyPair(Secret(bytes(KEY_BYTES))).exchange(public)  # any private key shows it, so one that is no secret


def public_key_of(private: Secret) -> bytes:
    """The public key of an X25519 private key, 32 bytes."""
    return X25519PrivateKey.from_private_bytes(private.expose()).public_key().public_bytes_raw()


def seal_keys(
    plan_hash: bytes, own: KeyPair, index: int, peer: bytes, peer_index: int
) -> tuple[Secret, Secret]:
    """The keys that seal shares between two sites.

    Returns:
        (from this site to the peer, from the peer to this site), 32 bytes each.

    Raises:
        BadKey: see :meth:`KeyPair.exchange`.
    """
    shared = own.exchange(peer)
    place = _place(own.public, index, peer, peer_index)
    label = field(_LABEL + b"share-enc") + place
    outward = hkdf(shared, plan_hash, label + u32(index) + u32(peer_index), KEY_BYTES)
    inward = hkdf(shared, plan_hash, label + u32(peer_index) + u32(index), KEY_BYTES)
    return outward, inward


def pair_mask_key(plan_hash: bytes, own: KeyPair, index: int, peer: bytes, peer_index: int) -> Secret:
    """Key of the mask that two sites share, 16 bytes.

    Raises:
        BadKey: see :meth:`KeyPair.exchange`.
    """
    place = _place(own.public, index, peer, peer_index)
    return hkdf(own.exchange(peer), plan_hash, field(_LABEL + b"pair-mask") + place, _MASK_KEY_BYTES)


def self_mask_key(plan_hash: bytes, seed: Secret, index: int) -> Secret:
    """Key of a site's own mask, 16 bytes, from its seed b of 32 bytes."""
    return hkdf(seed.expose(), plan_hash, field(_LABEL + b"self-mask") + u32(index), _MASK_KEY_BYTES)


def seed_commitment(plan_hash: bytes, dealer: int, seed: Secret) -> bytes:
    """What a dealer signs of its seed b, 32 bytes."""
    content = field(_LABEL + b"self-mask-seed") + plan_hash + u32(dealer) + field(seed.expose())
    return hashlib.sha256(content).digest()


def commitment(plan_hash: bytes, dealer: int, holder: int, kind: str, content: bytes) -> bytes:
    """What a dealer signs of a share or of a seal key.

    Args:
        plan_hash: of the sum.
        dealer: index.
        holder: index.
        kind: ``self-mask``, ``pair-mask`` or ``seal-key``.
        content: the share (33 bytes) or the key (32 bytes).

    Guarantees:
        Binding, and hiding as long as the content has 256 bits that nobody knows, as shares and keys have.
    """
    place = field(_LABEL + b"share") + plan_hash + u32(dealer) + u32(holder)
    return hashlib.sha256(place + field(kind.encode("ascii")) + field(content)).digest()


def seal(key: Secret, plan_hash: bytes, dealer: int, holder: int, shares: bytes) -> bytes:
    """Encrypt a holder's shares; call once for each key."""
    return AESGCM(key.expose()).encrypt(_NONCE, shares, _associated(plan_hash, dealer, holder))


def unseal(key: Secret, plan_hash: bytes, dealer: int, holder: int, ciphertext: bytes) -> bytes:
    """Decrypt what :func:`seal` made.

    Raises:
        BadDealing: it does not open.
    """
    try:
        return AESGCM(key.expose()).decrypt(_NONCE, ciphertext, _associated(plan_hash, dealer, holder))
    except (InvalidTag, ValueError):
        raise BadDealing("sealed shares", "they do not open") from None


def same(one: bytes, other: bytes) -> bool:
    """Are two digests or keys equal? In constant time for equal lengths."""
    return hmac.compare_digest(one, other)


def _place(own: bytes, index: int, peer: bytes, peer_index: int) -> bytes:
    if index == peer_index:
        raise BadKey("key agreement", "a site agrees on no key with itself")
    (lo, lo_key), (hi, hi_key) = sorted([(index, own), (peer_index, peer)])
    return lo_key + hi_key + u32(lo) + u32(hi)


def _associated(plan_hash: bytes, dealer: int, holder: int) -> bytes:
    return header("shares", plan_hash, dealer) + u32(holder)
