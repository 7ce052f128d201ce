"""Every field of `QuicConfiguration` has an effect: for each a test, on both libraries, that fails when it is ignored."""

from __future__ import annotations

import copy
import io
import ssl
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from helpers.certificates import make_certificates, make_key
from helpers.library import CLIENT, SERVER, Library, Pair
from helpers.loopback import identity
from helpers.surface import REFERENCE

CERTIFICATE = identity()[0].chain[0]


def header_of(library: Library, data: bytes) -> Any:
    return library("quic.packet").pull_quic_header(library("buffer").Buffer(data=data), host_cid_length=8)


def test_every_field_is_tested() -> None:
    """There are as many tests below as there are fields."""
    names = {
        entry.partition("=")[0] for entry in REFERENCE.names["aioquic.quic.configuration.QuicConfiguration"]["fields"]
    }
    assert len(names) == 26
    assert {name for name in globals() if name.startswith("test_field_")} == {f"test_field_{name}" for name in names}


def test_fields_are_positional_in_their_order(library: Library) -> None:
    configuration = library("quic.configuration").QuicConfiguration(["a"], "reno", 5, 9.0, False, 1000, 1300, 2000)
    shown = [getattr(configuration, field.name) for field in fields(configuration)[:8]]
    assert shown == [["a"], "reno", 5, 9.0, False, 1000, 1300, 2000]


def test_field_alpn_protocols(library: Library) -> None:
    """The server's order decides among what the client has."""
    pair = Pair(library, {"alpn_protocols": ["x", "b", "a"]}, {"alpn_protocols": ["a", "b"]}).connected()
    assert pair.events("client", "ProtocolNegotiated")[0].alpn_protocol == "a"


@pytest.mark.parametrize("name", ["reno", "cubic"])
def test_field_congestion_control_algorithm(library: Library, name: str) -> None:
    pair = Pair(library, {"congestion_control_algorithm": name}).connected()
    if library.root == "quicio":
        assert name in type(pair.client._parts.paths.active.congestion).__module__
    with pytest.raises(Exception, match=f"{name}er"):
        Pair(library, {"congestion_control_algorithm": f"{name}er"})


def test_field_connection_id_length(library: Library) -> None:
    pair = Pair(library, {"connection_id_length": 5}).connected()
    assert len(pair.client.host_cid) == 5
    assert len(header_of(library, pair.to_server[0]).source_cid) == 5


def test_field_idle_timeout(library: Library) -> None:
    """The smaller of both sides' holds (RFC 9000 §10.1)."""
    pair = Pair(library, {"idle_timeout": 60.0}, {"idle_timeout": 3.0}).connected()
    pair.run(1)
    assert pair.events("client", "ConnectionTerminated") == []
    pair.now += 3.5
    pair.client.handle_timer(now=pair.now)
    pair.drain()
    assert pair.events("client", "ConnectionTerminated")[0].reason_phrase == "Idle timeout"


def test_field_is_client(library: Library) -> None:
    make = library("quic.connection").QuicConnection
    client = make(configuration=library.client_configuration())
    client.connect(SERVER, now=0.0)
    assert library("quic.configuration").QuicConfiguration().is_client is True
    with pytest.raises((ValueError, AssertionError)):
        make(configuration=library.server_configuration(is_client=True), original_destination_connection_id=bytes(8))


def sent_in_one_go(pair: Pair) -> int:
    """How many bytes the client gets through to a server that takes no events."""
    pair.client.send_stream_data(0, bytes(5000))
    pair.client.send_stream_data(4, bytes(5000))
    before = len(pair.to_server)
    pair.server_told.clear()
    pair.now += 0.01
    for data, _ in pair.client.datagrams_to_send(now=pair.now):
        pair.to_server.append(data)
    return sum(len(data) for data in pair.to_server[before:])


def test_field_max_data(library: Library) -> None:
    assert sent_in_one_go(Pair(library, server={"max_data": 1500}).connected()) < 2000
    assert sent_in_one_go(Pair(library).connected()) > 3000


def test_field_max_stream_data(library: Library) -> None:
    assert sent_in_one_go(Pair(library, server={"max_stream_data": 500}).connected()) < 1500


def test_field_max_datagram_size(library: Library) -> None:
    """The size of the datagrams of the first flight; with quicio path MTU discovery goes on from there."""
    for size in (1200, 1280):
        pair = Pair(library, server={"max_datagram_size": size, "certificate_chain": [CERTIFICATE] * 3})
        pair.step()
        assert size - 20 < max(len(data) for data in pair.to_client) <= size


def test_field_quic_logger(library: Library) -> None:
    qlog = library("quic.logger").QuicLogger()
    Pair(library, {"quic_logger": qlog}).connected()
    assert len(qlog.to_dict()["traces"][0]["events"]) > 10


def test_field_secrets_log_file(library: Library) -> None:
    """NSS key log format, as Wireshark reads it; both ends write the same secrets."""
    files = io.StringIO(), io.StringIO()
    Pair(library, {"secrets_log_file": files[0]}, {"secrets_log_file": files[1]}).connected()
    secrets = [dict(line.rsplit(" ", 1) for line in file.getvalue().splitlines()) for file in files]
    assert secrets[0] == secrets[1]
    assert {line.split()[0] for line in secrets[0]} >= {
        "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
        "CLIENT_TRAFFIC_SECRET_0",
        "SERVER_HANDSHAKE_TRAFFIC_SECRET",
        "SERVER_TRAFFIC_SECRET_0",
    }


def test_field_server_name(library: Library) -> None:
    for name in ("localhost", "127.0.0.1", "::1"):
        Pair(library, {"server_name": name}).connected()
    wrong = Pair(library, {"server_name": "elsewhere.test"})
    wrong.run()
    assert wrong.events("client", "HandshakeCompleted") == []


def resumed(library: Library, ticket: Any, options: dict[str, Any]) -> bool:
    pair = Pair(library, {"session_ticket": ticket}, server_options=options).connected()
    return bool(pair.events("client", "HandshakeCompleted")[0].session_resumed)


def test_field_session_ticket(library: Library) -> None:
    kept: dict[bytes, Any] = {}
    mine: list[Any] = []
    options: dict[str, Any] = {
        "session_ticket_fetcher": kept.get,
        "session_ticket_handler": lambda ticket: kept.update({ticket.ticket: ticket}),
    }
    Pair(library, client_options={"session_ticket_handler": mine.append}, server_options=options).connected()
    assert resumed(library, mine[0], options)
    assert not resumed(library, None, options)


def test_field_token(library: Library) -> None:
    pair = Pair(library, {"token": b"shown at the door"})
    data, _ = pair.client.datagrams_to_send(now=pair.now)[0]
    assert header_of(library, data).token == b"shown at the door"


def test_field_cadata(library: Library) -> None:
    Pair(library, {"cadata": identity()[1]}).connected()
    other = Pair(library, {"cadata": make_certificates().authority_pem})
    other.run()
    assert other.events("client", "HandshakeCompleted") == []


def test_field_cafile(library: Library, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_bytes(identity()[1])
    Pair(library, {"cadata": None, "cafile": str(file)}).connected()
    file.write_bytes(make_certificates().authority_pem)
    other = Pair(library, {"cadata": None, "cafile": str(file)})
    other.run()
    assert other.events("client", "HandshakeCompleted") == []


def test_field_capath(library: Library, tmp_path: Path) -> None:
    """A folder as `c_rehash` makes it: files named after the hash that OpenSSL has for the subject."""
    file = tmp_path / "88fb6303.0"
    file.write_bytes(identity()[1])
    Pair(library, {"cadata": None, "capath": str(tmp_path)}).connected()
    file.write_bytes(make_certificates().authority_pem)
    other = Pair(library, {"cadata": None, "capath": str(tmp_path)})
    other.run()
    assert other.events("client", "HandshakeCompleted") == []


def test_field_certificate(library: Library) -> None:
    pair = Pair(library).connected()
    assert pair.client.tls._peer_certificate == CERTIFICATE


def test_field_certificate_chain(library: Library) -> None:
    root = x509.load_pem_x509_certificate(identity()[1])
    pair = Pair(library, server={"certificate_chain": [root]}).connected()
    assert pair.client.tls._peer_certificate_chain == [root]


def test_field_private_key(library: Library) -> None:
    """The key of another certificate is refused at once; in aioquic by the client, for the signature that it makes."""
    if library.root == "quicio":
        with pytest.raises(ValueError, match="private key"):
            Pair(library, server={"private_key": make_key("p256", 3)})
        return
    pair = Pair(library, server={"private_key": make_key("p256", 3)})
    pair.run()
    assert pair.events("client", "HandshakeCompleted") == []


def test_field_cipher_suites(library: Library) -> None:
    suites = library("tls").CipherSuite
    for suite in (suites.AES_256_GCM_SHA384, suites.CHACHA20_POLY1305_SHA256, suites.AES_128_GCM_SHA256):
        pair = Pair(library, {"cipher_suites": [suite]}).connected()
        assert pair.server.tls.key_schedule.cipher_suite is suite
    apart = Pair(
        library, {"cipher_suites": [suites.AES_128_GCM_SHA256]}, {"cipher_suites": [suites.AES_256_GCM_SHA384]}
    )
    apart.run()
    assert apart.events("client", "HandshakeCompleted") == []


def test_field_initial_rtt(library: Library) -> None:
    """Before there is a measurement, probes go after a multiple of the guess (RFC 9002 §6.2.2)."""
    waits = []
    for guess in (0.1, 1.0):
        pair = Pair(library, {"initial_rtt": guess})
        pair.client.datagrams_to_send(now=pair.now)
        waits.append(pair.client.get_timer() - pair.now)
    assert waits[1] == pytest.approx(10 * waits[0], rel=0.1)


def test_field_max_datagram_frame_size(library: Library) -> None:
    pair = Pair(library, {"max_datagram_frame_size": 1111}).connected()
    assert pair.server._remote_max_datagram_frame_size == 1111
    assert pair.client._remote_max_datagram_frame_size is None


def test_field_original_version(library: Library) -> None:
    versions = library("quic.packet").QuicProtocolVersion
    for version in (versions.VERSION_1, versions.VERSION_2):
        pair = Pair(library, {"original_version": version})
        data, _ = pair.client.datagrams_to_send(now=pair.now)[0]
        assert header_of(library, data).version == version


def test_field_supported_versions(library: Library) -> None:
    """The client starts with its first; a server takes no other than its own."""
    versions = library("quic.packet").QuicProtocolVersion
    pair = Pair(library, {"supported_versions": [versions.VERSION_2, versions.VERSION_1]})
    assert header_of(library, pair.client.datagrams_to_send(now=pair.now)[0][0]).version == versions.VERSION_2
    apart = Pair(library, {"supported_versions": [versions.VERSION_1]}, {"supported_versions": [versions.VERSION_2]})
    for data, _ in apart.client.datagrams_to_send(now=apart.now):
        apart.server.receive_datagram(data, CLIENT, now=apart.now)
    assert apart.server.next_event() is None


def test_field_quantum_readiness_test(library: Library) -> None:
    """A parameter of 1200 bytes, so that the first flight takes two datagrams."""
    flights = []
    for is_test in (False, True):
        pair = Pair(library, {"quantum_readiness_test": is_test}, {"quantum_readiness_test": is_test})
        flights.append(len(pair.client.datagrams_to_send(now=pair.now)))
        Pair(library, {"quantum_readiness_test": is_test}, {"quantum_readiness_test": is_test}).connected()
    assert flights[1] == flights[0] + 1


@pytest.mark.parametrize("mode", [ssl.CERT_NONE, False, 0])
def test_field_verify_mode(library: Library, mode: Any) -> None:
    """dnspython gives a bool."""
    unknown = {"cadata": make_certificates().authority_pem}
    Pair(library, unknown | {"verify_mode": mode}).connected()
    checked = Pair(library, unknown | {"verify_mode": ssl.CERT_REQUIRED})
    checked.run()
    assert checked.events("client", "HandshakeCompleted") == []


# --- how fields are set -------------------------------------------------------------------------------------------------


def test_fields_are_read_when_the_connection_is_made(library: Library) -> None:
    """dnspython sets them after construction, on a copy."""
    base = library("quic.configuration").QuicConfiguration(is_client=True)
    base.alpn_protocols = ["doq"]
    base.verify_mode = False
    mine = copy.copy(base)
    mine.server_name = "localhost"
    mine.token = b"token"
    client = library("quic.connection").QuicConnection(configuration=mine)
    client.connect(SERVER, now=0.0)
    server = library("quic.connection").QuicConnection(
        configuration=library.server_configuration(alpn_protocols=["doq"]),
        original_destination_connection_id=client.original_destination_connection_id,
    )
    for data, _ in client.datagrams_to_send(now=0.0):
        server.receive_datagram(data, CLIENT, now=0.0)
    assert server.next_event().alpn_protocol == "doq"
    assert (base.token, base.server_name) == (b"", None)


@pytest.mark.parametrize("password", [None, "secret", b"secret"], ids=str)
def test_a_chain_is_loaded_from_files(library: Library, tmp_path: Path, password: Any) -> None:
    who = identity()[0]
    raw = None if password is None else b"secret"
    encryption = BestAvailableEncryption(raw) if raw is not None else NoEncryption()
    (tmp_path / "chain.pem").write_bytes(who.chain_pem)
    (tmp_path / "key.pem").write_bytes(who.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    configuration = library("quic.configuration").QuicConfiguration(is_client=False)
    configuration.load_cert_chain(tmp_path / "chain.pem", keyfile=tmp_path / "key.pem", password=password)
    assert configuration.certificate == who.chain[0]
    assert configuration.certificate_chain == []
    assert configuration.private_key.public_key() == who.private_key.public_key()


def test_a_chain_and_its_key_in_one_file(library: Library, tmp_path: Path) -> None:
    who = identity()[0]
    (tmp_path / "all.pem").write_bytes(who.chain_pem + identity()[1] + who.key_pem)
    configuration = library("quic.configuration").QuicConfiguration(is_client=False)
    configuration.load_cert_chain(str(tmp_path / "all.pem"))
    assert configuration.certificate == who.chain[0]
    assert configuration.private_key.public_key() == who.private_key.public_key()
    assert configuration.certificate_chain == [x509.load_pem_x509_certificate(identity()[1])]


def test_where_to_verify_is_set_together(library: Library) -> None:
    configuration = library("quic.configuration").QuicConfiguration()
    configuration.load_verify_locations(cafile="a", capath="b", cadata=b"c")
    assert (configuration.cafile, configuration.capath, configuration.cadata) == ("a", "b", b"c")
    configuration.load_verify_locations("d")
    assert (configuration.cafile, configuration.capath, configuration.cadata) == ("d", None, None)


def test_the_callers_configuration_is_not_changed(library: Library) -> None:
    configuration = library.client_configuration()
    before = {field.name: copy.copy(getattr(configuration, field.name)) for field in fields(configuration)}
    client = library("quic.connection").QuicConnection(configuration=configuration)
    client.connect(SERVER, now=0.0)
    client.datagrams_to_send(now=0.0)
    assert {field.name: getattr(configuration, field.name) for field in fields(configuration)} == before
