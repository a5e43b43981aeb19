"""Keys of a sum: both sides agree, and nothing else does."""

import os

import pytest

from vestry_privacy.secagg.errors import BadDealing, BadKey
from vestry_privacy.secagg.keys import (
    KeyPair,
    commitment,
    pair_mask_key,
    public_key_of,
    same,
    seal,
    seal_keys,
    seed_commitment,
    self_mask_key,
    unseal,
)
from vestry_privacy.secagg.secret import Secret

PLAN, OTHER = b"p" * 32, b"q" * 32

# RFC 7748, section 6.1
ALICE = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
BOB = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")


def pair() -> KeyPair:
    return KeyPair.fresh(os.urandom)


def test_rfc_7748_diffie_hellman() -> None:
    """RFC 7748, section 6.1: Alice's and Bob's keys and what they share."""
    alice, bob = KeyPair(Secret(ALICE)), KeyPair(Secret(BOB))
    assert alice.public.hex() == "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    assert bob.public.hex() == "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
    assert alice.exchange(bob.public).hex() == bob.exchange(alice.public).hex() == shared


def test_both_sides_derive_the_same_pair_mask() -> None:
    one, other = pair(), pair()
    a = pair_mask_key(PLAN, one, 3, other.public, 7)
    b = pair_mask_key(PLAN, other, 7, one.public, 3)
    assert a.expose() == b.expose()
    assert len(a) == 16


def test_every_argument_of_a_pair_mask_matters() -> None:
    one, other, third = pair(), pair(), pair()
    keys = {
        pair_mask_key(PLAN, one, 3, other.public, 7).expose(),
        pair_mask_key(OTHER, one, 3, other.public, 7).expose(),
        pair_mask_key(PLAN, one, 4, other.public, 7).expose(),
        pair_mask_key(PLAN, one, 3, other.public, 8).expose(),
        pair_mask_key(PLAN, one, 7, other.public, 3).expose(),
        pair_mask_key(PLAN, one, 3, third.public, 7).expose(),
        seal_keys(PLAN, one, 3, other.public, 7)[0].expose()[:16],
    }
    assert len(keys) == 7


def test_seal_keys_have_a_direction() -> None:
    one, other = pair(), pair()
    outward, inward = seal_keys(PLAN, one, 1, other.public, 2)
    back_outward, back_inward = seal_keys(PLAN, other, 2, one.public, 1)
    assert outward.expose() == back_inward.expose()
    assert inward.expose() == back_outward.expose()
    assert outward.expose() != inward.expose()


def test_sealed_shares_open_for_their_place_only() -> None:
    key = Secret(os.urandom(32))
    ciphertext = seal(key, PLAN, 1, 2, b"x" * 66)
    assert len(ciphertext) == 82
    assert unseal(key, PLAN, 1, 2, ciphertext) == b"x" * 66
    for plan_hash, dealer, holder in ((OTHER, 1, 2), (PLAN, 2, 1), (PLAN, 1, 3)):
        with pytest.raises(BadDealing, match="do not open"):
            unseal(key, plan_hash, dealer, holder, ciphertext)
    for place in range(len(ciphertext)):
        changed = bytearray(ciphertext)
        changed[place] ^= 1
        with pytest.raises(BadDealing):
            unseal(key, PLAN, 1, 2, bytes(changed))
    with pytest.raises(BadDealing):
        unseal(key, PLAN, 1, 2, b"")


@pytest.mark.parametrize(
    "point",
    [
        bytes(32),
        b"\x01" + bytes(31),
        bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
        bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    ],
)
def test_points_of_small_order_are_refused(point: bytes) -> None:
    """The list of RFC 7748, section 6.1, and of D. J. Bernstein's page on Curve25519: zero shared secrets."""
    with pytest.raises(BadKey, match="all-zero"):
        pair().exchange(point)


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(BadKey):
        pair().exchange(b"short")


def test_a_site_agrees_on_nothing_with_itself() -> None:
    one = pair()
    with pytest.raises(BadKey, match="itself"):
        pair_mask_key(PLAN, one, 1, one.public, 1)


def test_commitments_differ_in_every_argument() -> None:
    seen = {
        commitment(PLAN, 1, 2, "self-mask", b"x" * 33),
        commitment(OTHER, 1, 2, "self-mask", b"x" * 33),
        commitment(PLAN, 2, 1, "self-mask", b"x" * 33),
        commitment(PLAN, 1, 3, "self-mask", b"x" * 33),
        commitment(PLAN, 1, 2, "pair-mask", b"x" * 33),
        commitment(PLAN, 1, 2, "self-mask", b"y" * 33),
        seed_commitment(PLAN, 1, Secret(b"x" * 32)),
        seed_commitment(PLAN, 2, Secret(b"x" * 32)),
        seed_commitment(OTHER, 1, Secret(b"x" * 32)),
    }
    assert len(seen) == 9


def test_self_mask_depends_on_site_and_sum() -> None:
    seed = Secret(b"b" * 32)
    keys = {self_mask_key(plan, seed, i).expose() for plan in (PLAN, OTHER) for i in (0, 1)}
    assert len(keys) == 4


def test_wiped_keys_are_gone() -> None:
    one = pair()
    public = public_key_of(one.private)
    assert same(public, one.public)
    one.wipe()
    with pytest.raises(Exception, match="wiped"):
        one.exchange(public)
