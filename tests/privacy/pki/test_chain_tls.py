"""Real handshakes over loopback: TLS 1.3, both sides with certificates of ours, and what is refused when."""

import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.privacy.pki.consortium import DAY, Consortium, consortium
from vestry_privacy.pki.chain import Peer, verify_chain
from vestry_privacy.pki.errors import CertificateRevoked, OtherSite
from vestry_privacy.pki.keys import Credentials
from vestry_privacy.pki.revocation import RevocationList, Revoked, revoke

NOW = datetime.now(UTC).replace(microsecond=0)
HEARTS = consortium("hearts", NOW)
PATIENCE = 10.0


def context(side: ssl._SSLMethod, mine: Credentials, folder: Path) -> ssl.SSLContext:
    """TLS 1.3 only, one authority, a certificate demanded of the other side."""
    made = ssl.SSLContext(side)
    made.minimum_version = made.maximum_version = ssl.TLSVersion.TLSv1_3
    made.verify_mode = ssl.CERT_REQUIRED
    made.load_verify_locations(cadata=mine.root_pem.decode("ascii"))
    file = folder / f"{mine.certificate.serial_number:x}.pem"
    file.touch(0o600)
    file.write_bytes(mine.key_pem + mine.chain_pem)
    made.load_cert_chain(file)
    return made


def handshake(site: Credentials, coordinator: Credentials, folder: Path) -> tuple[bytes, bytes]:
    """Connect, exchange a byte each way; what the site and the coordinator were shown."""
    server = context(ssl.PROTOCOL_TLS_SERVER, coordinator, folder)
    client = context(ssl.PROTOCOL_TLS_CLIENT, site, folder)
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        listener.settimeout(PATIENCE)

        def serve() -> bytes:
            connection, _ = listener.accept()
            connection.settimeout(PATIENCE)
            with connection, server.wrap_socket(connection, server_side=True) as wrapped:
                wrapped.recv(1)
                wrapped.sendall(b"!")
                return wrapped.getpeercert(True) or b""

        there = pool.submit(serve)
        try:
            with (
                socket.create_connection(listener.getsockname(), PATIENCE) as connection,
                client.wrap_socket(connection, server_hostname="localhost") as wrapped,
            ):
                assert wrapped.version() == "TLSv1.3"
                wrapped.sendall(b"?")
                wrapped.recv(1)
                seen = wrapped.getpeercert(True) or b""
        except (OSError, AssertionError):
            there.result(PATIENCE)  # the server's reason says more than a closed connection
            raise
        return seen, there.result(PATIENCE)


def peer(content: bytes, revocations: RevocationList | None, name: str | None = None) -> Peer:
    """What the coordinator does after a handshake, before it reads anything."""
    certificate = x509.load_der_x509_certificate(content)
    issuer = HEARTS.issuer.certificate
    return verify_chain(
        certificate, issuer, HEARTS.pinned, revocations, datetime.now(UTC), role="site", name=name
    )


def test_both_sides_know_each_other(tmp_path: Path) -> None:
    seen, shown = handshake(HEARTS.site("berlin", NOW), HEARTS.coordinator(NOW), tmp_path)
    assert peer(shown, None).name == "berlin"
    there = x509.load_der_x509_certificate(seen)
    issuer = HEARTS.issuer.certificate
    found = verify_chain(there, issuer, HEARTS.pinned, None, datetime.now(UTC), role="coordinator")
    assert found.name == "coordinator"


def long_ago() -> Consortium:
    return consortium("hearts", NOW - 60 * DAY)


def test_an_expired_certificate_is_refused_by_tls(tmp_path: Path) -> None:
    old = long_ago()
    expired = old.site("berlin", NOW - 40 * DAY)
    with pytest.raises(ssl.SSLError, match="certificate has expired"):
        handshake(expired, old.coordinator(NOW), tmp_path)
    with pytest.raises(ssl.SSLError, match=r"certificate has expired|EXPIRED"):
        handshake(old.site("berlin", NOW), old.coordinator(NOW - 40 * DAY), tmp_path)


def test_a_certificate_of_tomorrow_is_refused_by_tls(tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLError, match="not yet valid"):
        handshake(HEARTS.site("berlin", NOW + DAY), HEARTS.coordinator(NOW), tmp_path)


def test_a_certificate_made_by_a_clock_that_is_ahead_passes(tmp_path: Path) -> None:
    ahead = NOW + timedelta(minutes=4)
    _, shown = handshake(HEARTS.site("berlin", ahead), HEARTS.coordinator(ahead), tmp_path)
    assert peer(shown, None).name == "berlin"


def test_a_foreign_consortium_is_refused_by_tls(tmp_path: Path) -> None:
    foreign = consortium("lungs", NOW)
    theirs = foreign.site("berlin", NOW)
    trusting = Credentials(theirs.key, theirs.certificate, theirs.issuer, HEARTS.pinned)
    with pytest.raises(ssl.SSLError, match=r"unable to get (local )?issuer|self-signed"):
        handshake(trusting, HEARTS.coordinator(NOW), tmp_path)
    with pytest.raises(ssl.SSLError, match=r"unknown ca|self-signed|unable to get|UNKNOWN_CA"):
        handshake(HEARTS.site("berlin", NOW), foreign.coordinator(NOW), tmp_path)


def test_a_site_cannot_play_the_coordinator_nor_the_other_way_round(tmp_path: Path) -> None:
    coordinator, site = HEARTS.coordinator(NOW), HEARTS.site("localhost", NOW)
    with pytest.raises(ssl.SSLError, match=r"certificate"):
        handshake(HEARTS.site("berlin", NOW), site, tmp_path)
    with pytest.raises(ssl.SSLError, match="unsuitable certificate purpose"):
        handshake(coordinator, HEARTS.coordinator(NOW), tmp_path)


def test_revocation_is_ours_to_enforce(tmp_path: Path) -> None:
    """TLS lets it pass, since it has no list: what accepts a connection asks ours first."""
    berlin = HEARTS.site("berlin", NOW)
    _, shown = handshake(berlin, HEARTS.coordinator(NOW), tmp_path)
    assert peer(shown, None).name == "berlin"
    entry = Revoked(berlin.certificate.serial_number, "site left", NOW)
    with pytest.raises(CertificateRevoked, match="site left"):
        peer(shown, revoke(HEARTS.issuer, None, [entry], NOW))


def test_another_sites_certificate_is_ours_to_refuse(tmp_path: Path) -> None:
    _, shown = handshake(HEARTS.site("munich", NOW), HEARTS.coordinator(NOW), tmp_path)
    with pytest.raises(OtherSite):
        peer(shown, None, "berlin")


def call(site: Credentials, coordinator: Credentials) -> bytes:
    """The same with gRPC, whose TLS is BoringSSL: what the coordinator answers."""
    grpc = pytest.importorskip("grpc")

    def answer(_request: bytes, service: Any) -> bytes:
        (shown,) = service.auth_context()["x509_pem_cert"]
        return bytes(shown)

    handler = grpc.method_handlers_generic_handler(
        "link", {"Hello": grpc.unary_unary_rpc_method_handler(answer)}
    )
    server = grpc.server(ThreadPoolExecutor(1), handlers=[handler])
    own = grpc.ssl_server_credentials(
        [(coordinator.key_pem, coordinator.chain_pem)], coordinator.root_pem, require_client_auth=True
    )
    port = server.add_secure_port("127.0.0.1:0", own)
    server.start()
    try:
        mine = grpc.ssl_channel_credentials(site.root_pem, site.key_pem, site.chain_pem)
        with grpc.secure_channel(f"localhost:{port}", mine) as channel:
            return bytes(channel.unary_unary("/link/Hello")(b"", timeout=PATIENCE))
    finally:
        server.stop(None).wait(PATIENCE)


def test_grpc_takes_the_same_certificates() -> None:
    shown = call(HEARTS.site("berlin", NOW), HEARTS.coordinator(NOW))
    content = x509.load_pem_x509_certificate(shown).public_bytes(Encoding.DER)
    assert peer(content, None).name == "berlin"


def test_grpc_refuses_what_is_over_or_foreign() -> None:
    grpc = pytest.importorskip("grpc")
    old, foreign = long_ago(), consortium("lungs", NOW)
    theirs = foreign.site("berlin", NOW)
    for site, coordinator in (
        (old.site("berlin", NOW - 40 * DAY), old.coordinator(NOW)),
        (
            Credentials(theirs.key, theirs.certificate, theirs.issuer, HEARTS.pinned),
            HEARTS.coordinator(NOW),
        ),
        (HEARTS.site("berlin", NOW), foreign.coordinator(NOW)),
    ):
        with pytest.raises(grpc.RpcError) as refused:
            call(site, coordinator)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
