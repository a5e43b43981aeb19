"""Enrolment from token to certificate, and the string that tells an attacker between the two."""

import hashlib
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.privacy.pki.consortium import NOW, consortium, new_key
from vestry_privacy.identity import SiteIdentity
from vestry_privacy.pki.chain import verify_chain
from vestry_privacy.pki.errors import PairingRefused, PkiError, UnreadableObject
from vestry_privacy.pki.objects import field, text
from vestry_privacy.pki.pairing import CoordinatorSide, Facts, Opening, open_pairing
from vestry_privacy.pki.requests import check_request, create_request
from vestry_privacy.pki.tokens import invite, redeem

HEARTS, LUNGS = consortium(), consortium("lungs")
ROOT = HEARTS.root.fingerprint
KEY = new_key()
REQUEST = create_request(KEY, "berlin")
INVITATION, TOKEN = invite("berlin", NOW)


def identity(number: int) -> SiteIdentity:
    return SiteIdentity(Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "big")))


ME = identity(1)
FACTS = Facts.of(ROOT, check_request(REQUEST, "berlin"), ME.public_key, TOKEN)
NONCES = st.binary(min_size=32, max_size=32)


def coordinator(content: bytes, root: str = ROOT) -> CoordinatorSide:
    """What the coordinator does with a first message."""
    opening = Opening.decode(content)
    redeem(INVITATION, opening.name, opening.token, NOW)
    request = check_request(opening.request, opening.name)
    return CoordinatorSide(Facts.of(root, request, opening.identity, opening.token), opening.commitment)


def test_from_token_to_certificate() -> None:
    site, message = open_pairing(FACTS, REQUEST, ME, TOKEN)
    there = coordinator(message)
    opened, shown = site.open(there.nonce)
    assert there.finish(opened) == shown
    issued = HEARTS.issuer.issue_site(check_request(Opening.decode(message).request, "berlin"), NOW)
    verify_chain(issued, HEARTS.issuer.certificate, HEARTS.pinned, None, NOW, role="site", name="berlin")


@settings(deadline=None)
@given(NONCES, NONCES)
def test_the_string_is_six_groups_of_three_digits(one: bytes, other: bytes) -> None:
    groups = FACTS.short_string(one, other).split()
    assert [len(group) for group in groups] == [3] * 6
    assert "".join(groups).isdigit()


def test_it_has_more_than_forty_bits() -> None:
    """10^18 strings; the digest's 256 bits make each as likely, but for a share of 2^-196."""
    assert 10**18 > 2**59
    seen = {FACTS.short_string(bytes([n]) * 32, bytes(32)) for n in range(256)}
    assert len(seen) == 256


def test_known_string() -> None:
    """By hand, from the document at the top of the module."""
    facts = Facts("00" * 32, "a", b"key", bytes(32), b"\x01" * 32)
    inner = field(bytes(32)) + field(b"a") + field(b"key") + field(bytes(32)) + field(b"\x01" * 32)
    digest = hashlib.sha256(
        field(b"vestry-pairing-string/1") + inner + field(b"s" * 32) + field(b"c" * 32)
    ).digest()
    digits = str(int.from_bytes(digest, "big") % 10**18).zfill(18)
    assert facts.short_string(b"s" * 32, b"c" * 32).replace(" ", "") == digits
    promised = hashlib.sha256(field(b"vestry-pairing-commitment/1") + inner + field(b"s" * 32)).digest()
    assert facts.commitment(b"s" * 32) == promised


@pytest.mark.parametrize(
    "other",
    [
        replace(FACTS, root=LUNGS.root.fingerprint),
        replace(FACTS, name="munich"),
        replace(FACTS, link_key=check_request(create_request(new_key(), "x"), "x").key_bytes),
        replace(FACTS, identity=identity(2).public_key),
        replace(FACTS, token_hash=bytes(32)),
    ],
    ids=["root", "name", "link key", "identity", "token"],
)
def test_each_fact_is_in_string_and_commitment(other: Facts) -> None:
    assert other.short_string(bytes(32), bytes(32)) != FACTS.short_string(bytes(32), bytes(32))
    assert other.commitment(bytes(32)) != FACTS.commitment(bytes(32))
    site, message = open_pairing(FACTS, REQUEST, ME, TOKEN)
    there = CoordinatorSide(other, Opening.decode(message).commitment)
    opened, _ = site.open(there.nonce)
    with pytest.raises(PairingRefused, match="find out what lies between"):
        there.finish(opened)


def test_who_sits_between_gets_two_strings() -> None:
    """With a token overheard: own keys towards the coordinator, own root towards the site."""
    towards_mallory = Facts.of(LUNGS.root.fingerprint, check_request(REQUEST, "berlin"), ME.public_key, TOKEN)
    site, message = open_pairing(towards_mallory, REQUEST, ME, TOKEN)
    stolen = Opening.decode(message).token
    own_request, own_identity = create_request(new_key(), "berlin"), identity(66)
    own_facts = Facts.of(ROOT, check_request(own_request, "berlin"), own_identity.public_key, stolen)
    mallory, forwarded = open_pairing(own_facts, own_request, own_identity, stolen)
    there = coordinator(forwarded)
    opened, at_coordinator = mallory.open(there.nonce)
    assert there.finish(opened) == at_coordinator
    _, at_site = site.open(there.nonce)
    assert at_site != at_coordinator


def test_no_second_nonce_is_answered() -> None:
    """With the site's nonce known, a second one could be searched until both strings are the same."""
    site, _ = open_pairing(FACTS, REQUEST, ME, TOKEN)
    site.open(bytes(32))
    with pytest.raises(PairingRefused, match="answered before"):
        site.open(b"\x01" * 32)


def test_no_second_opening_is_looked_at() -> None:
    site, message = open_pairing(FACTS, REQUEST, ME, TOKEN)
    there = coordinator(message)
    opened, _ = site.open(there.nonce)
    with pytest.raises(PairingRefused, match="not the one that it committed to"):
        there.finish(bytes(32))
    with pytest.raises(PairingRefused, match="finished before"):
        there.finish(opened)


@pytest.mark.parametrize("nonce", [b"", bytes(31), bytes(33)])
def test_nonces_have_one_length(nonce: bytes) -> None:
    site, _ = open_pairing(FACTS, REQUEST, ME, TOKEN)
    with pytest.raises(PairingRefused, match=f"this has {len(nonce)}"):
        site.open(nonce)


def test_the_coordinators_nonce_comes_after_the_commitment_and_is_fresh() -> None:
    _, message = open_pairing(FACTS, REQUEST, ME, TOKEN)
    drawn: list[int] = []

    def entropy(size: int) -> bytes:
        drawn.append(size)
        return bytes(size)

    CoordinatorSide(FACTS, Opening.decode(message).commitment, entropy=entropy)
    assert drawn == [32]
    assert coordinator(message).nonce != coordinator(message).nonce


def test_the_commitment_shows_nothing_of_the_nonce() -> None:
    nonce = b"\x5a" * 32
    _, message = open_pairing(FACTS, REQUEST, ME, TOKEN, entropy=lambda size: nonce[:size])
    assert nonce not in message
    assert nonce[:8] not in message


def test_an_opening_is_signed_by_the_identity_that_it_names() -> None:
    """Nobody enrols with an identity that is not theirs."""
    _, message = open_pairing(FACTS, REQUEST, ME, TOKEN)
    content = Opening.decode(message).signed()
    with pytest.raises(PairingRefused, match="not signed by the identity"):
        Opening.decode(content + field(identity(2).sign(content)))
    assert TOKEN not in repr(Opening.decode(message))


@settings(deadline=None)
@given(st.data())
def test_no_changed_byte_is_accepted(data: st.DataObject) -> None:
    content = bytearray(MESSAGE)
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(PkiError):
        Opening.decode(bytes(content))


def test_names_and_versions_are_checked_first() -> None:
    with pytest.raises(UnreadableObject, match="version '9'"):
        Opening.decode(MESSAGE.replace(b"vestry-enrolment/1", b"vestry-enrolment/9"))
    with pytest.raises(UnreadableObject, match="no name"):
        Opening.decode(MESSAGE.replace(text("berlin"), text("Berlin"), 1))


_, MESSAGE = open_pairing(FACTS, REQUEST, ME, TOKEN)
