"""`vestry-secagg/1` a second time, from docs/secagg-protocol.md alone: bytes, keys, shares, words, masks.

Slow on purpose and independent: Python integers, exact fractions, `hmac` for HKDF, its own Shamir sharing and
its own quantiser; of a library only the one-shot calls of X25519, Ed25519, AES-GCM and AES-CTR. It imports
nothing of ours, so that a mistake of the package is not made here again by the same line.
"""

import hashlib
import hmac
import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = [
    "PRIME",
    "SERVER",
    "VERSION",
    "Member",
    "RefPlan",
    "commit",
    "ctr",
    "directory",
    "exchange",
    "field",
    "hashed",
    "header",
    "hkdf",
    "listing",
    "masks",
    "public",
    "quantise",
    "reconstruct",
    "seal",
    "seal_key",
    "share_out",
    "signed",
    "stream",
    "u32",
    "u32s",
    "u64",
    "unquantise",
    "verifying_key",
    "words_bytes",
]

VERSION = b"vestry-secagg/1"
SERVER = 0xFFFFFFFF
PRIME = 2**256 + 297
WORD = 2**64
WIDE = 2**119  # the offset of a wide value
LIMB = 2**40
ROUNDING_SALT = b""  # of this derivation alone; every other one has the plan's hash


# Bytes ---------------------------------------------------------------------------------------------------


def u32(number: int) -> bytes:
    return number.to_bytes(4, "big")


def u64(number: int) -> bytes:
    return number.to_bytes(8, "big")


def field(content: bytes | str) -> bytes:
    content = content.encode() if isinstance(content, str) else content
    return u32(len(content)) + content


def u32s(numbers: Sequence[int]) -> bytes:
    return b"".join(u32(number) for number in numbers)


def listing(parts: Sequence[bytes]) -> bytes:
    return u32(len(parts)) + b"".join(field(part) for part in parts)


def header(kind: str, plan_hash: bytes, sender: int) -> bytes:
    return field(VERSION) + field(kind) + field(plan_hash) + u32(sender)


def hashed(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def words_bytes(words: Sequence[int]) -> bytes:
    return b"".join(word.to_bytes(8, "little") for word in words)


def stream(seed: bytes) -> Callable[[int], bytes]:
    """The entropy of one site: SHA-256(seed || u64 block number), block after block."""
    left = bytearray()
    block = 0

    def draw(length: int) -> bytes:
        nonlocal block
        while len(left) < length:
            left.extend(hashed(seed + u64(block)))
            block += 1
        drawn = bytes(left[:length])
        del left[:length]
        return drawn

    return draw


# Keys ----------------------------------------------------------------------------------------------------


def signed(body: bytes, identity: bytes) -> bytes:
    return body + field(Ed25519PrivateKey.from_private_bytes(identity).sign(body))


def verifying_key(identity: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(identity).public_key().public_bytes_raw()


def public(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def exchange(private: bytes, peer: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(peer))


def hkdf(secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869, sections 2.2 and 2.3."""
    extracted = hmac.new(salt, secret, hashlib.sha256).digest()
    block, output = b"", b""
    for counter in range(1, -(-length // 32) + 1):
        block = hmac.new(extracted, block + info + bytes([counter]), hashlib.sha256).digest()
        output += block
    return output[:length]


def ctr(key: bytes, length: int) -> bytes:
    encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    return encryptor.update(bytes(length)) + encryptor.finalize()


def commit(plan_hash: bytes, dealer: int, holder: int, kind: str, content: bytes) -> bytes:
    label = field(VERSION + b"/share")
    return hashed(label + plan_hash + u32(dealer) + u32(holder) + field(kind) + field(content))


def seal_key(plan_hash: bytes, shared: bytes, publics: dict[int, bytes], dealer: int, holder: int) -> bytes:
    low, high = sorted((dealer, holder))
    ends = u32(low) + u32(high) + u32(dealer) + u32(holder)
    return hkdf(shared, plan_hash, field(VERSION + b"/share-enc") + publics[low] + publics[high] + ends, 32)


def seal(key: bytes, plan_hash: bytes, dealer: int, holder: int, plaintext: bytes) -> bytes:
    return AESGCM(key).encrypt(bytes(12), plaintext, header("shares", plan_hash, dealer) + u32(holder))


# Shares --------------------------------------------------------------------------------------------------


def share_out(
    secret: bytes, threshold: int, holders: Sequence[int], draw: Callable[[int], bytes]
) -> dict[int, bytes]:
    coefficients = [int.from_bytes(secret, "big")]
    while len(coefficients) < threshold:
        drawn = bytearray(draw(33))
        drawn[0] &= 1
        number = int.from_bytes(drawn, "big")
        if number < PRIME:
            coefficients.append(number)
    return {
        holder: (sum(a * (holder + 1) ** power for power, a in enumerate(coefficients)) % PRIME).to_bytes(
            33, "big"
        )
        for holder in holders
    }


def reconstruct(shares: dict[int, bytes]) -> bytes:
    """f(0), by Lagrange's formula over all the shares given."""
    total = 0
    for holder, share in shares.items():
        above, below = 1, 1
        for other in shares:
            if other != holder:
                above = above * (other + 1) % PRIME
                below = below * (other - holder) % PRIME
        total += int.from_bytes(share, "big") * above * pow(below, -1, PRIME)
    return (total % PRIME).to_bytes(32, "big")


# Plan and directory --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Member:
    """A row of the directory."""

    name: str
    organisation: str
    key: bytes


def directory(version: int, coordinator: bytes, members: Sequence[Member]) -> bytes:
    rows = sorted(members, key=lambda member: hashed(member.key))
    content = field(VERSION) + field("directory") + u64(version) + field(coordinator) + u32(len(rows))
    return content + b"".join(field(row.name) + field(row.organisation) + field(row.key) for row in rows)


@dataclass(frozen=True)
class RefPlan:
    """The fields of a plan, in the document's order; every computed one can be given a false value."""

    study: bytes
    run: str
    kind: str
    sequence: int
    round: int
    directory: int
    roster: tuple[bytes, ...]
    model: bytes
    configuration: bytes
    code: bytes
    values: int
    wide: int
    lane_bits: int
    value_range: float
    weight_limit: int
    threshold: int
    least: int
    privacy: bytes
    deadline: float
    lanes: int = 0
    neighbours: int = 0
    version: bytes = VERSION
    type: str = "plan"

    @property
    def per_word(self) -> int:
        return 64 // self.lane_bits

    @property
    def top(self) -> int:
        """2^v - 1 for the largest v with n (2^v - 1) < 2^L."""
        bits = self.lane_bits
        while len(self.roster) * (2**bits - 1) >= 2**self.lane_bits:
            bits -= 1
        return int(2**bits - 1)

    @property
    def words(self) -> int:
        return -(-self.values // self.per_word) + 1 + 3 * self.wide

    def encode(self) -> bytes:
        return b"".join(
            (
                field(self.version)
                + field(self.type)
                + field(self.study)
                + field(self.run)
                + field(self.kind),
                u64(self.sequence) + u32(self.round) + u64(self.directory) + listing(self.roster),
                field(self.model) + field(self.configuration) + field(self.code),
                u64(self.values) + u32(self.wide) + u32(self.lane_bits) + u32(self.lanes or self.per_word),
                struct.pack(">d", self.value_range) + u64(self.weight_limit),
                u32(self.threshold) + u32(self.least) + u32(self.neighbours) + field(self.privacy),
                struct.pack(">d", self.deadline),
            )
        )

    @property
    def hash(self) -> bytes:
        return hashed(self.encode())


# Words ---------------------------------------------------------------------------------------------------


def quantise(
    plan: RefPlan, values: Sequence[float], weight: int, wide: Sequence[float], rounding: bytes
) -> list[int]:
    """A site's words before masking. The formula of the document in exact arithmetic."""
    span = -(-plan.values // plan.per_word)
    words = [0] * span
    reach, top = Fraction(plan.value_range), plan.top
    for lane in range(plan.per_word):
        key = hkdf(rounding, ROUNDING_SALT, field(VERSION + b"/rounding") + u32(lane), 16)
        draws = ctr(key, 4 * span)
        for index in range(span):
            place = lane * span + index
            value = values[place] if place < plan.values else 0.0
            y = Fraction(value) * weight / plan.weight_limit if math.isfinite(value) else Fraction(0)
            u = Fraction(int.from_bytes(draws[4 * index : 4 * index + 4], "little"), 2**32)
            q = min(max(math.floor((y + reach) / (2 * reach) * top + u), 0), top)
            words[index] |= q << (lane * plan.lane_bits)
    words.append(weight)
    for value in wide:
        whole = round(Fraction(value) * 2**60) if math.isfinite(value) else 0
        whole = min(max(whole, 1 - WIDE), WIDE - 1) + WIDE
        words += [whole % LIMB, whole // LIMB % LIMB, whole // LIMB**2]
    return words


def unquantise(plan: RefPlan, words: Sequence[int], sites: int) -> tuple[list[Fraction], int, list[Fraction]]:
    """sum(w x) of each value, sum(w), sum of each wide value."""
    span = -(-plan.values // plan.per_word)
    reach = Fraction(plan.value_range)
    sums = [
        words[place % span] >> (place // span * plan.lane_bits) & (2**plan.lane_bits - 1)
        for place in range(plan.values)
    ]
    values = [plan.weight_limit * (q * 2 * reach / plan.top - sites * reach) for q in sums]
    limbs = words[span + 1 :]
    wide = [
        Fraction(sum(limbs[at + place] * LIMB**place for place in range(3)) - sites * WIDE, 2**60)
        for at in range(0, len(limbs), 3)
    ]
    return values, words[span], wide


def masks(plan_hash: bytes, secret: bytes, label: str, ends: bytes, words: int) -> list[int]:
    """One mask stream: of `self-mask` with secret b, of `pair-mask` with the X25519 secret of two sites."""
    keystream = ctr(hkdf(secret, plan_hash, field(VERSION + b"/" + label.encode()) + ends, 16), 8 * words)
    return [int.from_bytes(keystream[at : at + 8], "little") for at in range(0, 8 * words, 8)]
