"""The issuing key: what it puts into certificates, and a file that holds together."""

import copy
import pickle
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.privacy.pki.consortium import DAY, NOW, consortium, new_key
from vestry_privacy.pki.errors import (
    CertificateExpired,
    CertificateNotYetValid,
    KeyFileRefused,
    RequestRefused,
)
from vestry_privacy.pki.issuer import Issuer, encode_issuer, load_issuer
from vestry_privacy.pki.keys import create_private
from vestry_privacy.pki.requests import Request
from vestry_privacy.pki.root import certify_issuer

HEARTS = consortium()


def test_a_sites_certificate_says_what_it_must() -> None:
    found = HEARTS.site("berlin").certificate
    assert found.not_valid_before_utc == NOW - timedelta(minutes=5)
    assert found.not_valid_after_utc == NOW + 30 * DAY
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.UniformResourceIdentifier("vestry://site/berlin")]
    usage = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert found.version == x509.Version.v3


def test_the_coordinators_certificate_has_its_hosts() -> None:
    found = HEARTS.coordinator(NOW, "Coordinator.Example.org", "192.0.2.7", "2001:db8::7").certificate
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["vestry://coordinator/coordinator"]
    assert names.get_values_for_type(x509.DNSName) == ["coordinator.example.org"]
    addresses = [ip_address("192.0.2.7"), ip_address("2001:db8::7")]
    assert names.get_values_for_type(x509.IPAddress) == addresses
    usage = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]


@pytest.mark.parametrize(
    "host", ["", "a b", "*.example.org", "a..b", "größe.example", "x" * 254, "-a.example"]
)
def test_hosts_that_are_none_are_refused(host: str) -> None:
    with pytest.raises(RequestRefused, match="no host name"):
        HEARTS.issuer.issue_coordinator(new_key().public_key(), "coordinator", [host], NOW)


def test_a_coordinator_needs_a_name_and_a_host() -> None:
    for name, hosts in (("coordinator", []), ("The Coordinator", ["localhost"])):
        with pytest.raises(RequestRefused, match="a name and a host"):
            HEARTS.issuer.issue_coordinator(new_key().public_key(), name, hosts, NOW)


def test_serial_numbers_are_random_positive_and_of_twenty_bytes() -> None:
    """RFC 5280, 4.1.2.2: positive, at most 20 octets."""
    request = Request("berlin", new_key().public_key())
    serials = {HEARTS.issuer.issue_site(request, NOW).serial_number for _ in range(20)}
    assert len(serials) == 20
    assert all(0 < serial < 2**159 for serial in serials)
    assert max(serials) > 2**150
    for entropy, serial in ((bytes, 1), (lambda size: b"\xff" * size, 2**159 - 1)):
        assert HEARTS.issuer.issue_site(request, NOW, entropy=entropy).serial_number == serial


def test_no_certificate_outlives_the_issuing_key() -> None:
    request = Request("berlin", new_key().public_key())
    late = HEARTS.issuer.issue_site(request, NOW + 80 * DAY)
    assert late.not_valid_after_utc == HEARTS.issuer.certificate.not_valid_after_utc
    early = HEARTS.issuer.issue_site(request, NOW - timedelta(minutes=5))
    assert early.not_valid_before_utc == HEARTS.issuer.certificate.not_valid_before_utc
    with pytest.raises(CertificateExpired, match="certify a new one"):
        HEARTS.issuer.issue_site(request, NOW + 90 * DAY)
    with pytest.raises(CertificateNotYetValid, match="set the clock"):
        HEARTS.issuer.issue_site(request, NOW - timedelta(minutes=6))


def test_times_without_a_zone_are_refused() -> None:
    with pytest.raises(ValueError, match="zone"):
        HEARTS.issuer.issue_site(Request("berlin", new_key().public_key()), NOW.replace(tzinfo=None))


def test_a_file_of_others_or_of_parts_that_do_not_fit_is_refused(tmp_path: Path) -> None:
    good = certify_issuer(HEARTS.root, tmp_path / "good", NOW)
    assert load_issuer(tmp_path / "good").certificate == good.certificate
    (tmp_path / "good").chmod(0o644)
    with pytest.raises(KeyFileRefused, match="mode 644"):
        load_issuer(tmp_path / "good")
    with pytest.raises(KeyFileRefused, match="No such file"):
        load_issuer(tmp_path / "nowhere")
    other = consortium("lungs")
    for name, key, issuer, said in (
        ("key", new_key(), good, "of another key"),
        (
            "root",
            good._key,
            Issuer(good._key, good.certificate, other.pinned),
            "not signed by this consortium",
        ),
        ("swapped", good._key, Issuer(good._key, HEARTS.pinned, HEARTS.pinned), "path length 0"),
        ("no root", good._key, Issuer(good._key, good.certificate, good.certificate), "path length 1"),
    ):
        create_private(tmp_path / name, encode_issuer(key, issuer), "issuing key")
        with pytest.raises(KeyFileRefused, match=said):
            load_issuer(tmp_path / name)


def test_no_changed_byte_of_a_file_is_taken_for_another_key(tmp_path: Path) -> None:
    """A file that only its owner can write is not authenticated, but its parts must fit."""
    issuer = certify_issuer(HEARTS.root, tmp_path / "good", NOW)
    content = (tmp_path / "good").read_bytes()
    for place in range(0, len(content), 7):
        changed = bytearray(content)
        changed[place] ^= 0x55
        path = tmp_path / f"changed-{place}"
        create_private(path, bytes(changed), "issuing key")
        try:
            found = load_issuer(path)
        except KeyFileRefused:
            continue
        assert found.certificate == issuer.certificate
        assert found._key.private_numbers() == issuer._key.private_numbers()


def test_an_issuer_goes_nowhere() -> None:
    for leave in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot be copied"):
            leave(HEARTS.issuer)
    assert "key" not in repr(HEARTS.issuer)
