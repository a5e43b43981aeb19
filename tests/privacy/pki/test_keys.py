"""Key files: their owner's only, whole or not there, and never a key beside another key's certificate."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509 import load_pem_x509_certificates

from tests.privacy.pki.consortium import DAY, NOW, consortium, new_key
from vestry_privacy.identity import create_identity
from vestry_privacy.pki.errors import KeyFileRefused
from vestry_privacy.pki.keys import (
    create_key,
    create_private,
    decode_key,
    encode_key,
    load_credentials,
    load_key,
    read_private,
    replace_private,
    store_credentials,
)
from vestry_privacy.pki.objects import field, labelled

HEARTS = consortium()


def refuse_flush(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)


def test_a_key_is_made_once_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "key"
    key = create_key(path)
    assert load_key(path).private_numbers() == key.private_numbers()
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(KeyFileRefused, match="exists already and is kept"):
        create_key(path)
    assert load_key(path).private_numbers() == key.private_numbers()
    assert [item.name for item in tmp_path.iterdir()] == ["key"]


def test_nobody_else_can_read_a_file_from_its_first_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    flush = os.fsync

    def flushed(descriptor: int) -> None:
        seen.append(os.fstat(descriptor).st_mode & 0o077)
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", flushed)
    before = os.umask(0)
    try:
        create_key(tmp_path / "key")
        store_credentials(tmp_path / "credentials", HEARTS.site("berlin"))
    finally:
        os.umask(before)
    assert seen[0] == 0
    assert seen[2] == 0
    for item in tmp_path.iterdir():
        assert item.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o601])
def test_a_file_that_others_can_use_is_refused(mode: int, tmp_path: Path) -> None:
    create_key(tmp_path / "key")
    (tmp_path / "key").chmod(mode)
    with pytest.raises(KeyFileRefused, match=f"mode {mode:o}.*chmod 600"):
        load_key(tmp_path / "key")


def test_other_files_are_no_keys(tmp_path: Path) -> None:
    create_identity(tmp_path / "identity")
    with pytest.raises(KeyFileRefused, match=r"cut short|something else"):
        load_key(tmp_path / "identity")
    create_private(tmp_path / "large", bytes(70_000), "key")
    with pytest.raises(KeyFileRefused, match="larger than"):
        load_key(tmp_path / "large")
    create_private(tmp_path / "later", labelled("vestry-link-key/2"), "key")
    with pytest.raises(KeyFileRefused, match="version '2'"):
        load_key(tmp_path / "later")
    create_private(tmp_path / "noise", labelled("vestry-link-key/1", field(b"noise")), "key")
    with pytest.raises(KeyFileRefused, match="no private key"):
        load_key(tmp_path / "noise")
    with pytest.raises(KeyFileRefused, match="Is a directory"):
        load_key(tmp_path)


def test_another_curve_is_no_key_of_the_link() -> None:
    other = ec.generate_private_key(ec.SECP384R1())
    content = other.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(KeyFileRefused, match="P-256"):
        decode_key(content, "key")
    key = new_key()
    assert decode_key(encode_key(key), "key").private_numbers() == key.private_numbers()


def test_halves_that_do_not_fit_are_refused() -> None:
    key = new_key()
    private = key.private_numbers().private_value.to_bytes(32, "big")
    content = encode_key(key)
    assert content.count(private) == 1
    for other in (new_key().private_numbers().private_value.to_bytes(32, "big"), bytes(32), b"\xff" * 32):
        with pytest.raises(KeyFileRefused, match=r"do not fit|no private key"):
            decode_key(content.replace(private, other), "key")


def test_credentials_are_read_as_they_were_stored(tmp_path: Path) -> None:
    path, mine = tmp_path / "credentials", HEARTS.site("berlin")
    store_credentials(path, mine)
    found = load_credentials(path)
    assert found.key.private_numbers() == mine.key.private_numbers()
    assert (found.certificate, found.issuer, found.root) == (mine.certificate, mine.issuer, mine.root)
    assert load_pem_x509_certificates(found.chain_pem) == [mine.certificate, mine.issuer]
    assert load_pem_x509_certificates(found.root_pem) == [mine.root]
    loaded = load_pem_private_key(found.key_pem, None)
    assert isinstance(loaded, ec.EllipticCurvePrivateKey)
    assert loaded.private_numbers() == mine.key.private_numbers()
    assert "key" not in repr(found).replace("issuing key", "")


def test_parts_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    mine, other = HEARTS.site("berlin"), consortium("lungs").site("berlin")
    store_credentials(tmp_path / "key", replace(mine, key=new_key()))
    with pytest.raises(KeyFileRefused, match="of another key; enrol again"):
        load_credentials(tmp_path / "key")
    store_credentials(tmp_path / "issuer", replace(mine, issuer=HEARTS.next_issuer(NOW + DAY).certificate))
    with pytest.raises(KeyFileRefused, match=r"certificate: is not signed"):
        load_credentials(tmp_path / "issuer")
    store_credentials(tmp_path / "root", replace(mine, root=other.root))
    with pytest.raises(KeyFileRefused, match="not signed by this consortium"):
        load_credentials(tmp_path / "root")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_crash_in_a_renewal_leaves_the_old_pair(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, old = tmp_path / "credentials", HEARTS.site("berlin")
    store_credentials(path, old)
    with monkeypatch.context() as patch:
        refuse_flush(patch, code)
        with pytest.raises(KeyFileRefused, match=os.strerror(code)):
            store_credentials(path, HEARTS.site("berlin", NOW + DAY))
    assert load_credentials(path).certificate == old.certificate
    assert [item.name for item in tmp_path.iterdir()] == ["credentials"]


def test_a_kill_between_writing_and_renaming_leaves_the_old_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left behind is replaced by the next try."""
    path, old, new = tmp_path / "credentials", HEARTS.site("berlin"), HEARTS.site("berlin", NOW + DAY)
    store_credentials(path, old)

    class Killed(BaseException): ...

    def killed(_self: Path, _target: Path) -> Path:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(Killed):
            store_credentials(path, new)
    assert load_credentials(path).certificate == old.certificate
    for item in tmp_path.iterdir():
        assert item.stat().st_mode & 0o077 == 0
    store_credentials(path, new)
    assert load_credentials(path).certificate == new.certificate
    assert [item.name for item in tmp_path.iterdir()] == ["credentials"]


def test_a_full_disk_leaves_no_half_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_flush(monkeypatch, errno.ENOSPC)
    with pytest.raises(KeyFileRefused, match="No space"):
        create_key(tmp_path / "key")
    assert list(tmp_path.iterdir()) == []


def test_replacing_keeps_the_mode(tmp_path: Path) -> None:
    create_private(tmp_path / "x", b"one", "file")
    replace_private(tmp_path / "x", b"two", "file")
    assert read_private(tmp_path / "x", "file") == b"two"
    with pytest.raises(KeyFileRefused, match="cannot be written"):
        replace_private(tmp_path / "nowhere" / "x", b"", "file")
    with pytest.raises(KeyFileRefused, match="cannot be written"):
        create_private(tmp_path / "nowhere" / "x", b"", "file")
