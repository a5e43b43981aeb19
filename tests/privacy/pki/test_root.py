"""The root file: opens with its pass phrase, only whole, and is not needed afterwards."""

import copy
import errno
import os
import pickle
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.privacy.pki.consortium import CHEAP, DAY, NOW, PHRASE, consortium
from vestry_privacy.pki.errors import KeyFileRefused, PkiError, RootRefused
from vestry_privacy.pki.issuer import load_issuer
from vestry_privacy.pki.keys import encode_key
from vestry_privacy.pki.objects import labelled
from vestry_privacy.pki.profile import check_issuer, check_root, short_digest
from vestry_privacy.pki.requests import check_request, create_request
from vestry_privacy.pki.root import SCRYPT_COST, Root, certify_issuer, create_root, open_root


def made(path: Path) -> Root:
    return create_root(path, PHRASE, "hearts", NOW, cost=CHEAP)


@pytest.fixture(scope="module")
def root_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("offline") / "root"
    made(path)
    return path


def test_rfc_7914() -> None:
    """The key derivation, with the parameters of the RFC's third vector."""
    key = Scrypt(salt=b"SodiumChloride", length=64, n=16384, r=8, p=1).derive(b"pleaseletmein")
    assert key.hex().startswith("7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2")


def test_nist_gcm() -> None:
    """The sealing: test case 14 of McGrew and Viega, "The Galois/Counter Mode of Operation"."""
    sealed = AESGCM(bytes(32)).encrypt(bytes(12), bytes(16), None)
    assert sealed.hex() == "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"


def test_a_root_is_opened_with_its_pass_phrase(tmp_path: Path) -> None:
    path = tmp_path / "root"
    first = made(path)
    again = open_root(path, PHRASE)
    assert again.certificate == first.certificate
    assert again.fingerprint == first.fingerprint
    assert len(first.fingerprint) == 64
    assert encode_key(again._key) == encode_key(first._key)
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_fingerprint_is_that_of_other_tools() -> None:
    from cryptography.hazmat.primitives import hashes

    root = consortium().root
    assert root.fingerprint == root.certificate.fingerprint(hashes.SHA256()).hex()


def test_the_key_is_not_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "root"
    root = made(path)
    secret = root._key.private_numbers().private_value.to_bytes(32, "big")
    assert secret not in path.read_bytes()


def test_the_certificate_is_an_authority_for_one_more_level(root_file: Path) -> None:
    root = open_root(root_file, PHRASE).certificate
    check_root(root)
    constraints = root.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(True, 1)
    assert root.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    with pytest.raises(PkiError):
        check_root(consortium().issuer.certificate)


def test_a_wrong_pass_phrase_is_said(root_file: Path) -> None:
    with pytest.raises(RootRefused, match="pass phrase is wrong"):
        open_root(root_file, PHRASE + "!")


def test_a_pass_phrase_is_the_same_in_every_form_of_its_letters(tmp_path: Path) -> None:
    create_root(tmp_path / "root", "fünf schöne Wörter", "hearts", NOW, cost=CHEAP)
    open_root(tmp_path / "root", "fu\u0308nf scho\u0308ne Wo\u0308rter")


@given(data=st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_changed_byte_is_accepted(data: st.DataObject, root_file: Path, tmp_path: Path) -> None:
    content = bytearray(root_file.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    changed = tmp_path / "changed"
    changed.write_bytes(content)
    changed.chmod(0o600)
    with pytest.raises(RootRefused):
        open_root(changed, PHRASE)


def test_cut_or_longer_files_are_refused(root_file: Path, tmp_path: Path) -> None:
    content = root_file.read_bytes()
    changed = tmp_path / "changed"
    for other in (b"", content[:10], content[:-1], content + b"\x00"):
        changed.write_bytes(other)
        changed.chmod(0o600)
        with pytest.raises(RootRefused, match=r"cut short|follow its end"):
            open_root(changed, PHRASE)


def test_another_version_is_named(root_file: Path, tmp_path: Path) -> None:
    later = labelled("vestry-root/2") + root_file.read_bytes()[len(labelled("vestry-root/1")) :]
    (tmp_path / "later").write_bytes(later)
    (tmp_path / "later").chmod(0o600)
    with pytest.raises(RootRefused, match="is of version '2', this program reads 1"):
        open_root(tmp_path / "later", PHRASE)


@pytest.mark.parametrize("cost", [0, 13, 21, 63, 2**32 - 1])
def test_costs_that_would_eat_the_memory_are_refused_first(
    cost: int, root_file: Path, tmp_path: Path
) -> None:
    label = labelled("vestry-root/1")
    content = root_file.read_bytes()
    changed = tmp_path / "changed"
    changed.write_bytes(label + cost.to_bytes(4, "big") + content[len(label) + 4 :])
    changed.chmod(0o600)
    with pytest.raises(RootRefused, match=f"scrypt cost {cost}"):
        open_root(changed, PHRASE)


@pytest.mark.parametrize(
    ("phrase", "name", "cost", "said"),
    [
        ("short", "hearts", CHEAP, "at least 12 characters"),
        (PHRASE, "Hearts of Berlin", CHEAP, "consortium="),
        (PHRASE, "h" * 41, CHEAP, "consortium="),
        (PHRASE, "hearts", 13, "cost=13"),
        (PHRASE, "hearts", 21, "cost=21"),
    ],
)
def test_what_no_root_is_made_of(phrase: str, name: str, cost: int, said: str, tmp_path: Path) -> None:
    with pytest.raises(RootRefused, match=said):
        create_root(tmp_path / "root", phrase, name, NOW, cost=cost)
    assert list(tmp_path.iterdir()) == []


def test_the_cost_that_is_used_takes_128_mib() -> None:
    assert 128 * 8 * 2**SCRYPT_COST == 128 * 2**20


def test_a_root_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "root"
    made(path)
    before = path.read_bytes()
    with pytest.raises(KeyFileRefused, match="exists already"):
        made(path)
    assert path.read_bytes() == before


def test_others_may_not_read_it(tmp_path: Path) -> None:
    path = tmp_path / "root"
    made(path)
    path.chmod(0o640)
    with pytest.raises(KeyFileRefused, match="mode 640"):
        open_root(path, PHRASE)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_refuses_leaves_nothing(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(KeyFileRefused, match=os.strerror(code)):
        made(tmp_path / "root")
    assert list(tmp_path.iterdir()) == []


def test_everything_but_certifying_works_without_the_root_file(tmp_path: Path) -> None:
    path = tmp_path / "root"
    certify_issuer(made(path), tmp_path / "issuer", NOW)
    path.unlink()
    issuer = load_issuer(tmp_path / "issuer")
    key = consortium().site("x").key
    issuer.issue_site(check_request(create_request(key, "berlin"), "berlin"), NOW)
    with pytest.raises(KeyFileRefused, match="No such file"):
        open_root(path, PHRASE)


def test_an_issuing_key_lives_ninety_days_and_not_longer_than_its_root(tmp_path: Path) -> None:
    root = consortium().root
    first = certify_issuer(root, tmp_path / "first", NOW)
    check_issuer(first.certificate, root.certificate)
    assert first.certificate.not_valid_after_utc == NOW + 90 * DAY
    assert first.certificate.not_valid_before_utc == NOW - timedelta(minutes=5)
    end = root.certificate.not_valid_after_utc
    last = certify_issuer(root, tmp_path / "last", end - DAY)
    assert last.certificate.not_valid_after_utc == end
    for clock in (end, NOW - DAY):
        with pytest.raises(RootRefused, match="this clock says"):
            certify_issuer(root, tmp_path / "never", clock)
    assert not (tmp_path / "never").exists()


def test_the_next_issuing_key_takes_the_place_of_the_last(tmp_path: Path) -> None:
    path, root = tmp_path / "issuer", consortium().root
    first = certify_issuer(root, path, NOW)
    with pytest.raises(KeyFileRefused, match="exists already"):
        certify_issuer(root, path, NOW + DAY)
    second = certify_issuer(root, path, NOW + DAY, replace=True)
    assert load_issuer(path).certificate == second.certificate != first.certificate
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_root_goes_nowhere() -> None:
    root = consortium().root
    for leave in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot be copied"):
            leave(root)
    assert repr(root) == f"Root({root.fingerprint[:16]}…)"


@settings(deadline=None)
@given(st.binary(min_size=32, max_size=32))
def test_a_spoken_fingerprint_is_six_groups_of_four_digits(digest: bytes) -> None:
    groups = short_digest(digest.hex()).split()
    assert [len(group) for group in groups] == [4] * 6
    assert int("".join(groups)) == int.from_bytes(digest, "big") % 10**24
