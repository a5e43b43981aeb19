"""Known answers of key agreement and sealing, through ``KeyPair``, ``seal`` and ``unseal``."""

import pytest

from tests.privacy.secagg.known_answers import Case, wycheproof
from vestry_privacy.secagg import keys
from vestry_privacy.secagg.errors import BadDealing, BadKey
from vestry_privacy.secagg.keys import KeyPair, public_key_of, seal, unseal
from vestry_privacy.secagg.secret import Secret

# RFC 7748, section 6.1: private and public keys of two, and what they agree on.
ALICE = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"
ALICE_PUBLIC = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
BOB = "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"
BOB_PUBLIC = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
AGREED = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"

# RFC 7748, section 5.2: scalar, u-coordinate, result; and the scalar multiplied again and again.
SCALAR = "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4"
COORDINATE = "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c"
PRODUCT = "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"
ONCE = "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"
THOUSAND_TIMES = "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"


def pair_of(private: bytes) -> KeyPair:
    return KeyPair(Secret(private))


def agree(private: str, public: str) -> str:
    return pair_of(bytes.fromhex(private)).exchange(bytes.fromhex(public)).hex()


def test_agreement_of_rfc_7748() -> None:
    assert pair_of(bytes.fromhex(ALICE)).public.hex() == ALICE_PUBLIC
    assert public_key_of(Secret(bytes.fromhex(BOB))).hex() == BOB_PUBLIC
    assert agree(ALICE, BOB_PUBLIC) == agree(BOB, ALICE_PUBLIC) == AGREED
    assert agree(SCALAR, COORDINATE) == PRODUCT


def test_a_thousand_multiplications_of_rfc_7748() -> None:
    scalar = coordinate = "09" + 31 * "00"
    for turn in range(1000):
        scalar, coordinate = agree(scalar, coordinate), scalar
        assert turn > 0 or scalar == ONCE
    assert scalar == THOUSAND_TIMES


@pytest.mark.parametrize("case", wycheproof("x25519"))
def test_agreement_of_wycheproof(case: Case) -> None:
    """What is acceptable there is accepted here, but for keys that give an all-zero secret."""
    own = pair_of(case.raw("private"))
    if "ZeroSharedSecret" in case.flags:
        assert case.raw("shared") == bytes(32)
        with pytest.raises(BadKey, match="all-zero"):
            own.exchange(case.raw("public"))
        return
    assert own.exchange(case.raw("public")) == case.raw("shared")


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_public_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(BadKey):
        pair_of(bytes.fromhex(ALICE)).exchange(bytes(length))


@pytest.mark.parametrize("case", wycheproof("aes_gcm"))
def test_sealing_of_wycheproof(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """The case's nonce and associated data stand in for this protocol's, which are fixed."""
    monkeypatch.setattr(keys, "_NONCE", case.raw("iv"))
    monkeypatch.setattr(keys, "_associated", lambda plan_hash, dealer, holder: case.raw("aad"))
    sealed, plan = case.raw("ct") + case.raw("tag"), bytes(32)
    if case.invalid:
        with pytest.raises(BadDealing, match="do not open"):
            unseal(Secret(case.raw("key")), plan, 0, 1, sealed)
        return
    assert unseal(Secret(case.raw("key")), plan, 0, 1, sealed) == case.raw("msg")
    assert seal(Secret(case.raw("key")), plan, 0, 1, case.raw("msg")) == sealed
