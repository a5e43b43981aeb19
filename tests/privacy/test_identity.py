"""A site's key: RFC 8032 through our wrapper, a file for its owner only, a key that never travels."""

import base64
import copy
import os
import pickle
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from vestry_privacy.canonical import canonical_hash
from vestry_privacy.identity import (
    IdentityError,
    SiteIdentity,
    create_identity,
    fingerprint_of,
    load_identity,
    load_or_create_identity,
    verify_signature,
)

# RFC 8032, section 7.1: secret key, public key, message, signature.
VECTORS = {
    "TEST 1": (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    "TEST 2": (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    "TEST 3": (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
    "TEST SHA(abc)": (
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    ),
}


def stored(seed: bytes, path: Path) -> Path:
    key = Ed25519PrivateKey.from_private_bytes(seed)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("name", VECTORS)
def test_rfc_8032(name: str, tmp_path: Path) -> None:
    seed, public, message, signature = (bytes.fromhex(part) for part in VECTORS[name])
    identity = load_identity(stored(seed, tmp_path / "key.pem"))
    assert identity.public_key == public
    assert identity.sign(message) == signature
    verify_signature(public, message, signature)


@given(st.integers(0, 511), st.sampled_from(sorted(VECTORS)))
def test_a_signature_with_one_bit_changed_does_not_hold(bit: int, name: str) -> None:
    _, public, message, signature = (bytes.fromhex(part) for part in VECTORS[name])
    changed = bytearray(signature)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(IdentityError, match="does not hold"):
        verify_signature(public, message, bytes(changed))


@pytest.mark.parametrize("signature", [b"", b"\0" * 63, b"\0" * 64, b"\0" * 65])
def test_what_is_no_signature_does_not_hold(signature: bytes) -> None:
    with pytest.raises(IdentityError, match="does not hold"):
        verify_signature(bytes.fromhex(VECTORS["TEST 1"][1]), b"", signature)


def test_a_key_of_another_length_is_refused_by_name() -> None:
    with pytest.raises(IdentityError, match="32 bytes"):
        verify_signature(b"short", b"", b"\0" * 64)


def test_a_new_key_is_stored_for_its_owner_only_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    made = create_identity(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text(encoding="ascii").startswith("-----BEGIN PRIVATE KEY-----")
    assert load_identity(path).public_key == made.public_key
    assert [item.name for item in tmp_path.iterdir()] == ["key.pem"]


def test_a_key_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    first = create_identity(path)
    with pytest.raises(IdentityError, match="exists already"):
        create_identity(path)
    assert load_or_create_identity(path).public_key == first.public_key


def test_keys_differ(tmp_path: Path) -> None:
    assert create_identity(tmp_path / "a").public_key != load_or_create_identity(tmp_path / "b").public_key


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match="No such file"):
        load_or_create_identity(tmp_path / "no" / "key.pem")
    with pytest.raises(IdentityError, match="No such file"):
        load_identity(tmp_path / "key.pem")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601])
def test_a_key_that_others_can_reach_is_refused(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    create_identity(path)
    path.chmod(mode)
    with pytest.raises(IdentityError, match="chmod 600"):
        load_identity(path)


def test_what_is_no_key_is_refused_without_its_content(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_text("secret-value")
    path.chmod(0o600)
    with pytest.raises(IdentityError, match=r"no private key in PKCS#8") as caught:
        load_identity(path)
    assert "secret-value" not in str(caught.value)


def test_keys_of_another_kind_or_with_a_password_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    other = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    with pytest.raises(IdentityError, match="Ed25519"):
        load_identity(path)
    locked = Ed25519PrivateKey.generate()
    path.write_bytes(locked.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")))
    with pytest.raises(IdentityError, match="password"):
        load_identity(path)


def test_the_private_key_does_not_travel(tmp_path: Path) -> None:
    identity = create_identity(tmp_path / "key.pem")
    for travel in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be copied"):
            travel(identity)
    assert identity.fingerprint[:16] in repr(identity)
    secret = Ed25519PrivateKey.from_private_bytes(bytes(32))
    assert bytes(32).hex() not in repr(SiteIdentity(secret))
    assert not hasattr(identity, "__dict__")


def test_the_fingerprint_is_a_labelled_hash_of_the_public_key() -> None:
    public = bytes.fromhex(VECTORS["TEST 1"][1])
    assert fingerprint_of(public) == canonical_hash("vestry-site-key/1", public)
    assert len(fingerprint_of(public)) == 64


def test_two_processes_that_start_at_once_get_one_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key.pem"
    link = os.link

    def other_first(source: str, target: str) -> None:
        monkeypatch.setattr(os, "link", link)
        create_identity(path)
        link(source, target)

    monkeypatch.setattr(os, "link", other_first)
    found = load_or_create_identity(path)
    assert found.public_key == load_identity(path).public_key


def test_a_key_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    """One changed byte in the algorithm's number makes the library raise an error of another family."""
    path = tmp_path / "identity.pem"
    create_identity(path)
    lines = path.read_text(encoding="ascii").splitlines()
    content = bytearray(base64.b64decode("".join(lines[1:-1])))
    place = content.index(bytes.fromhex("06032b6570")) + 4
    content[place] = 0x7F
    path.write_text(
        "\n".join([lines[0], base64.b64encode(content).decode(), lines[-1], ""]), encoding="ascii"
    )
    with pytest.raises(IdentityError, match="no private key"):
        load_identity(path)
