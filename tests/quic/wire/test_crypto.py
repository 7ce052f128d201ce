"""Packet protection against the printed vectors, and key update by RFC 9001 §6."""

import gc
from typing import Any
from weakref import ref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.vectors import load_vectors
from quicio.quic.wire import crypto
from quicio.quic.wire.constants import (
    AEAD_LIMIT_REACHED,
    EPOCH_HANDSHAKE,
    EPOCH_INITIAL,
    EPOCH_ONE_RTT,
    KEY_UPDATE_ERROR,
    VERSION_1,
    VERSION_2,
    QuicConnectionError,
)

VECTORS = [load_vectors("rfc9001-appendix-a"), load_vectors("rfc9369-appendix-a")]
SUITES = [crypto.AES_128_GCM_SHA256, crypto.AES_256_GCM_SHA384, crypto.CHACHA20_POLY1305_SHA256]
PTO = 0.1
both_versions = pytest.mark.parametrize("vectors", VECTORS, ids=["v1", "v2"])
all_suites = pytest.mark.parametrize("suite", SUITES, ids=hex)


def secret_for(suite: int, label: int = 0) -> bytes:
    return bytes([label]) * (48 if suite == crypto.AES_256_GCM_SHA384 else 32)


# --- printed values


@both_versions
def test_printed_initial_secrets(vectors: Any) -> None:
    version = int(vectors["version"], 16)
    keys = vectors["initial_keys"]
    client, server = crypto.initial_secrets(bytes.fromhex(vectors["destination_connection_id"]), version)
    assert client.hex() == keys["client"]["secret"]
    assert server.hex() == keys["server"]["secret"]
    prefix = crypto.label_prefix(version)
    assert prefix.decode() == vectors["label_prefix"]
    for secret, side in ((client, keys["client"]), (server, keys["server"])):
        assert crypto.hkdf_expand_label(secret, prefix + b"key", 16, "sha256").hex() == side["key"]
        assert crypto.hkdf_expand_label(secret, prefix + b"iv", 12, "sha256").hex() == side["iv"]
        assert crypto.hkdf_expand_label(secret, prefix + b"hp", 16, "sha256").hex() == side["hp"]


def protect(key: crypto.SealingKey, number: int, header: bytes, payload: bytes) -> bytes:
    """A whole protected packet (RFC 9001 §5.4.1)."""
    number_size = (header[0] & 3) + 1
    ciphertext = key.seal(number, header, payload)
    sample = ciphertext[4 - number_size : 20 - number_size]
    mask = key.masks([sample])
    first = header[0] ^ mask[0] & (0x0F if header[0] & 0x80 else 0x1F)
    number_bytes = bytes(a ^ b for a, b in zip(header[-number_size:], mask[1 : 1 + number_size], strict=True))
    return bytes((first,)) + header[1:-number_size] + number_bytes + ciphertext


@both_versions
def test_printed_initial_packets(vectors: Any) -> None:
    destination, version = bytes.fromhex(vectors["destination_connection_id"]), int(vectors["version"], 16)
    client, server = crypto.KeyRing(True), crypto.KeyRing(False)
    client.install_initial(destination, version)
    server.install_initial(destination, version)
    printed = vectors["client_initial"]
    for sender, receiver, case, payload in (
        (client, server, printed, bytes.fromhex(printed["crypto_frame"]).ljust(printed["payload_length"], b"\x00")),
        (server, client, vectors["server_initial"], bytes.fromhex(vectors["server_initial"]["payload"])),
    ):
        sealing, opening = sender.sealing[EPOCH_INITIAL], receiver.opening[EPOCH_INITIAL]
        assert sealing is not None
        assert opening is not None
        header = bytes.fromhex(case["unprotected_header"])
        packet = protect(sealing, case["packet_number"], header, payload)
        assert packet.hex() == case["protected_packet"]
        assert sealing.masks([bytes.fromhex(case["sample"])])[:5].hex() == case["mask"]
        assert opening.masks([bytes.fromhex(case["sample"])])[:5].hex() == case["mask"]
        assert opening.open(case["packet_number"], header, packet[len(header) :]) == payload
        assert (sealing.sealed, opening.failed) == (1, 0)


@both_versions
def test_printed_chacha20_packet(vectors: Any) -> None:
    case, version = vectors["chacha20_short_header"], int(vectors["version"], 16)
    secret = bytes.fromhex(case["secret"])
    key = crypto.SealingKey(secret, crypto.CHACHA20_POLY1305_SHA256, version)
    header = bytes.fromhex(case["unprotected_header"])
    assert protect(key, case["pn"], header, bytes.fromhex(case["payload_plaintext"])).hex() == case["packet"]
    assert key.masks([bytes.fromhex(case["sample"])])[:5].hex() == case["mask"]
    assert crypto.next_secret(secret, crypto.CHACHA20_POLY1305_SHA256, version).hex() == case["ku"]
    opening = crypto.OpeningKey(secret, crypto.CHACHA20_POLY1305_SHA256, version)
    assert opening.open(case["pn"], header, bytes.fromhex(case["payload_ciphertext"])) == b"\x01"


# --- keys


@all_suites
def test_masks_of_a_batch_are_those_of_each(suite: int) -> None:
    key = crypto.SealingKey(secret_for(suite), suite, VERSION_1)
    samples = [bytes([number]) * 16 for number in range(32)]
    assert key.masks(samples) == b"".join([key.masks([sample]) for sample in samples])
    assert len(key.masks(samples)) == 16 * 32
    assert key.masks([]) == b""


@all_suites
def test_a_short_sample_is_refused_and_spoils_nothing(suite: int) -> None:
    key = crypto.OpeningKey(secret_for(suite), suite, VERSION_1)
    before = key.masks([bytes(16)])
    for size in (0, 15, 17):
        with pytest.raises(ValueError):
            key.masks([bytes(size)])
    assert key.masks([bytes(16)]) == before


@all_suites
@given(st.integers(0, (1 << 62) - 1), st.binary(max_size=30), st.binary(max_size=60))
def test_seal_and_open(suite: int, number: int, header: bytes, payload: bytes) -> None:
    sealing = crypto.SealingKey(secret_for(suite), suite, VERSION_2)
    opening = crypto.OpeningKey(secret_for(suite), suite, VERSION_2)
    ciphertext = sealing.seal(number, header, payload)
    assert len(ciphertext) == len(payload) + 16
    assert opening.open(number, header, ciphertext) == payload
    assert opening.open(number ^ 1, header, ciphertext) is None
    assert opening.open(number, header + b"x", ciphertext) is None
    assert opening.failed == 2


@all_suites
@given(st.binary(max_size=40))
def test_any_bytes_open_to_none(suite: int, ciphertext: bytes) -> None:
    """Security row 13: forged and cut ciphertexts, the empty one included, are counted and nothing else."""
    opening = crypto.OpeningKey(secret_for(suite), suite, VERSION_1)
    assert opening.open(0, b"header", ciphertext) is None
    assert opening.failed == 1


@pytest.mark.rfc("9001", "6.6", "MUST")
def test_limits_of_the_rfc() -> None:
    """Security row 28."""
    assert crypto.CONFIDENTIALITY_LIMITS == {0x1301: 1 << 23, 0x1302: 1 << 23, 0x1303: 1 << 62}
    assert crypto.INTEGRITY_LIMITS == {0x1301: 1 << 52, 0x1302: 1 << 52, 0x1303: 1 << 36}


def test_sealing_stops_at_the_confidentiality_limit_with_a_reserve() -> None:
    """Security row 28: one error in time to close, the reserve for the close, then no packet more."""
    key = crypto.SealingKey(bytes(32), 0x1301, VERSION_1, confidentiality_limit=1000)
    for number in range(1000 - crypto.CLOSING_RESERVE):
        key.seal(number, b"", b"")
    with pytest.raises(QuicConnectionError) as caught:
        key.seal(1, b"", b"")
    assert caught.value.error_code == AEAD_LIMIT_REACHED
    for number in range(crypto.CLOSING_RESERVE):
        key.seal(number, b"", b"")
    assert key.sealed == 1000
    for _ in range(2):
        with pytest.raises(QuicConnectionError):
            key.seal(1, b"", b"")
    assert key.sealed == 1000


@all_suites
def test_a_run_is_sealed_as_its_packets_would_be(suite: int) -> None:
    singles, runs = (crypto.SealingKey(secret_for(suite), suite, VERSION_1) for _ in range(2))
    payloads = [bytes((size,)) * size for size in (20, 200, 3)]
    for number, length in ((0, 2), (0xFFFE, 2), (0x12345678, 3), (1 << 40, 4)):
        sealed = runs.seal_run(number, b"header", length, payloads)
        shown = [(number + index) % (1 << 8 * length) for index in range(3)]
        headers = [b"header" + truncated.to_bytes(length, "big") for truncated in shown]
        assert sealed == [singles.seal(number + index, headers[index], payloads[index]) for index in range(3)]
    assert runs.sealed == singles.sealed == 12


def test_a_run_ends_where_the_confidentiality_limit_speaks_up() -> None:
    """Security row 28: what `sealable` allows goes without an error, the packet after that is the one that raises."""
    key = crypto.SealingKey(bytes(32), 0x1301, VERSION_1, confidentiality_limit=1000)
    assert key.sealable() == 1000 - crypto.CLOSING_RESERVE
    key.seal_run(0, b"", 2, [b""] * (key.sealable() - 1))
    assert key.sealable() == 1
    key.seal(1, b"", b"")
    assert key.sealable() == 0
    with pytest.raises(QuicConnectionError):
        key.seal(2, b"", b"")
    assert key.sealable() == crypto.CLOSING_RESERVE


def test_tiny_confidentiality_limits_hold_too() -> None:
    key = crypto.SealingKey(bytes(32), 0x1301, VERSION_1, confidentiality_limit=1)
    key.seal(0, b"", b"")
    with pytest.raises(QuicConnectionError):
        key.seal(1, b"", b"")


# --- the ring


def one_rtt_pair(
    suite: int = crypto.AES_128_GCM_SHA256, version: int = VERSION_1, **limits: dict[int, int]
) -> tuple[crypto.KeyRing, crypto.KeyRing]:
    """A client's and a server's ring with 1-RTT keys, handshake confirmed."""
    client, server = crypto.KeyRing(True, **limits), crypto.KeyRing(False, **limits)
    for ring, sealing, opening in ((client, 1, 2), (server, 2, 1)):
        ring.install(EPOCH_ONE_RTT, True, suite, secret_for(suite, sealing), version)
        ring.install(EPOCH_ONE_RTT, False, suite, secret_for(suite, opening), version)
        ring.confirmed = True
    return client, server


class Packet:
    """A sealed 1-RTT packet and what header protection would reveal of it."""

    def __init__(self, ring: crypto.KeyRing, number: int) -> None:
        key = ring.sealing[EPOCH_ONE_RTT]
        assert key is not None
        self.number = number
        self.phase = key.phase
        self.phase_bit = (key.phase & 1) << 2
        self.ciphertext = key.seal(number, b"header", b"payload %d" % number)

    def opened_by(self, ring: crypto.KeyRing, now: float = 0.0) -> bool:
        payload = ring.open_one_rtt(self.number, b"header", self.ciphertext, self.phase_bit, now, PTO)
        assert payload in (None, b"payload %d" % self.number)
        return payload is not None


def assert_key_update_error(packet: Packet, ring: crypto.KeyRing, now: float = 0.0) -> None:
    with pytest.raises(QuicConnectionError) as caught:
        packet.opened_by(ring, now)
    assert caught.value.error_code == KEY_UPDATE_ERROR


def phases(ring: crypto.KeyRing) -> tuple[int, int]:
    sealing, opening = ring.sealing[EPOCH_ONE_RTT], ring.opening[EPOCH_ONE_RTT]
    assert sealing is not None
    assert opening is not None
    return sealing.phase, opening.phase


def test_installing_by_epoch_and_discarding() -> None:
    ring = crypto.KeyRing(True)
    assert ring.sealing == [None] * 4
    assert ring.opening == [None] * 4
    ring.install_initial(b"destination", VERSION_1)
    ring.install(EPOCH_HANDSHAKE, True, 0x1302, bytes(48), VERSION_1)
    ring.install(EPOCH_HANDSHAKE, False, 0x1302, bytes(48), VERSION_1)
    assert [key is not None for key in ring.sealing] == [True, False, True, False]
    ring.discard(EPOCH_INITIAL)
    ring.discard(EPOCH_INITIAL)
    assert [key is not None for key in ring.opening] == [False, False, True, False]
    ring.discard(EPOCH_HANDSHAKE)
    assert ring.sealing == [None] * 4
    assert ring.initial_opening(VERSION_1) is None
    with pytest.raises(ValueError, match="0x1304"):
        ring.install(EPOCH_HANDSHAKE, True, 0x1304, bytes(32), VERSION_1)


@pytest.mark.rfc("9369", "4.1", "MUST")
def test_initial_keys_of_the_original_version_stay() -> None:
    client, server = crypto.KeyRing(True), crypto.KeyRing(False)
    client.install_initial(b"destination", VERSION_1)
    server.install_initial(b"destination", VERSION_1)
    server.install_initial(b"destination", VERSION_2)
    sealing = client.sealing[EPOCH_INITIAL]
    original, negotiated = server.initial_opening(VERSION_1), server.initial_opening(VERSION_2)
    assert sealing is not None
    assert original is not None
    assert negotiated is server.opening[EPOCH_INITIAL]
    ciphertext = sealing.seal(0, b"", b"hello")
    assert original.open(0, b"", ciphertext) == b"hello"
    # A Retry changes the connection ID, and with it every Initial key.
    server.install_initial(b"other", VERSION_2)
    assert server.initial_opening(VERSION_1) is None


def test_opening_without_keys_gives_none() -> None:
    assert crypto.KeyRing(True).open_one_rtt(0, b"", bytes(40), 0, 0.0, PTO) is None


def test_an_update_needs_keys_in_both_directions() -> None:
    client, server = one_rtt_pair()
    ring = crypto.KeyRing(False)
    ring.install(EPOCH_ONE_RTT, False, 0x1301, secret_for(0x1301, 1), VERSION_1)
    ring.confirmed = True
    ring.on_acked_in_phase(0, 0.0, PTO)
    ring.request_update()
    client.on_acked_in_phase(0, 0.0, PTO)
    client.request_update()
    assert not Packet(client, 0).opened_by(ring)
    assert ring.updates == 0
    assert Packet(client, 0).opened_by(server)
    ring = crypto.KeyRing(True)
    ring.install(EPOCH_ONE_RTT, True, 0x1301, secret_for(0x1301, 1), VERSION_1)
    ring.confirmed = True
    ring.on_acked_in_phase(0, 0.0, PTO)
    ring.request_update()
    assert ring.updates == 0


@all_suites
@pytest.mark.parametrize("version", [VERSION_1, VERSION_2])
@pytest.mark.rfc("9001", "6.1", "MUST")
def test_update_initiated_and_answered_in_kind(suite: int, version: int) -> None:
    client, server = one_rtt_pair(suite, version)
    assert Packet(client, 0).opened_by(server)
    client.on_acked_in_phase(0, 1.0, PTO)
    assert client.updates == 0
    client.request_update()
    assert client.updates == 1
    assert phases(client) == (1, 1)
    assert Packet(client, 1).opened_by(server, 1.1)
    assert server.updates == 1
    assert phases(server) == (1, 1)
    assert Packet(server, 0).opened_by(client, 1.2)


@pytest.mark.rfc("9001", "6.1", "MUST NOT")
def test_update_waits_for_confirmation_and_for_an_ack() -> None:
    client, _ = one_rtt_pair()
    client.confirmed = False
    client.request_update()
    client.on_acked_in_phase(0, 0.0, PTO)
    assert client.updates == 0
    client.confirmed = True
    client.on_acked_in_phase(0, 0.1, PTO)
    assert client.updates == 1
    client, _ = one_rtt_pair()
    client.request_update()
    assert client.updates == 0
    client.on_acked_in_phase(0, 0.0, PTO)
    assert client.updates == 1


@pytest.mark.rfc("9001", "6.5", "SHOULD")
def test_second_update_waits_three_ptos_after_the_first_was_acked() -> None:
    client, server = one_rtt_pair()
    client.on_acked_in_phase(0, 0.0, PTO)
    client.request_update()
    client.request_update()
    # Acknowledgements of the old phase, and of no phase there is, do not count.
    client.on_acked_in_phase(0, 9.0, PTO)
    client.on_acked_in_phase(2, 9.0, PTO)
    assert client.updates == 1
    assert Packet(client, 1).opened_by(server)
    assert Packet(server, 0).opened_by(client)
    client.on_acked_in_phase(1, 10.0, PTO)
    client.on_acked_in_phase(1, 10.0 + 2.9 * PTO, PTO)
    assert client.updates == 1
    client.on_acked_in_phase(1, 10.0 + 3.1 * PTO, PTO)
    assert client.updates == 2
    assert phases(client) == (2, 2)
    # The request was served once.
    assert Packet(client, 2).opened_by(server, 99.0)
    assert Packet(server, 1).opened_by(client, 99.0)
    client.on_acked_in_phase(2, 99.0, PTO)
    client.on_acked_in_phase(2, 199.0, PTO)
    assert client.updates == 2


def test_simultaneous_updates_meet_in_one_phase() -> None:
    client, server = one_rtt_pair()
    for ring in (client, server):
        ring.on_acked_in_phase(0, 0.0, PTO)
        ring.request_update()
    assert Packet(client, 0).opened_by(server)
    assert Packet(server, 0).opened_by(client)
    assert phases(client) == phases(server) == (1, 1)
    assert client.updates == server.updates == 1


@pytest.mark.rfc("9001", "6.5", "SHOULD")
def test_old_packets_open_for_three_ptos() -> None:
    client, server = one_rtt_pair()
    late, too_late = Packet(client, 0), Packet(client, 1)
    client.on_acked_in_phase(0, 0.0, PTO)
    client.request_update()
    assert Packet(client, 2).opened_by(server, 5.0)
    assert late.opened_by(server, 5.0 + 2.9 * PTO)
    assert not too_late.opened_by(server, 5.0 + 3.1 * PTO)
    assert server.failed == 1


@pytest.mark.rfc("9001", "6.1", "MUST")
def test_the_initiator_keeps_old_keys_until_the_peer_has_updated() -> None:
    client, server = one_rtt_pair()
    old = [Packet(server, number) for number in range(4)]
    client.on_acked_in_phase(0, 0.0, PTO)
    client.request_update()
    assert old[0].opened_by(client, 1.0)
    assert old[1].opened_by(client, 1000.0)
    assert Packet(client, 0).opened_by(server, 1000.0)
    assert Packet(server, 4).opened_by(client, 1000.0)
    assert old[2].opened_by(client, 1000.0 + 2.9 * PTO)
    assert Packet(server, 5).opened_by(client, 1000.0 + 3.1 * PTO)
    assert not old[3].opened_by(client, 1000.0 + 3.2 * PTO)


def test_reordering_within_a_phase_is_no_update() -> None:
    client, server = one_rtt_pair()
    packets = [Packet(client, number) for number in range(5)]
    for number in (3, 1, 4, 0, 2):
        assert packets[number].opened_by(server)
    client.on_acked_in_phase(0, 0.0, PTO)
    client.request_update()
    packets = [Packet(client, number) for number in range(5, 10)]
    for number in (3, 1, 4, 0, 2):
        assert packets[number].opened_by(server)
    assert server.updates == 1


@pytest.mark.rfc("9001", "6.4", "MUST")
def test_old_keys_after_new_ones_are_an_error() -> None:
    client, server = one_rtt_pair()
    violator = Packet(client, 7)
    client.on_acked_in_phase(0, 0.0, PTO)
    client.request_update()
    assert Packet(client, 5).opened_by(server)
    assert Packet(client, 8).opened_by(server)
    assert_key_update_error(violator, server)


@pytest.mark.rfc("9001", "6.4", "MUST")
def test_new_keys_before_old_ones_are_an_error() -> None:
    client, server = one_rtt_pair()
    assert Packet(client, 7).opened_by(server)
    client.on_acked_in_phase(0, 0.0, PTO)
    client.request_update()
    assert_key_update_error(Packet(client, 6), server)
    # The same when the server has already followed and the low number comes late.
    client, server = one_rtt_pair()
    assert Packet(client, 7).opened_by(server)
    client.on_acked_in_phase(0, 0.0, PTO)
    client.request_update()
    assert Packet(client, 8).opened_by(server)
    assert_key_update_error(Packet(client, 6), server)


@pytest.mark.rfc("9001", "6.2", "MAY")
def test_second_update_of_the_peer_before_anything_was_sent() -> None:
    client, server = one_rtt_pair()
    client.on_acked_in_phase(0, 0.0, PTO)
    client.request_update()
    assert Packet(client, 0).opened_by(server)
    rush(client)
    assert_key_update_error(Packet(client, 1), server)


def rush(ring: crypto.KeyRing) -> None:
    """Make `ring` update again although its peer has not followed: derive what a peer without manners would."""
    secret = crypto.next_secret(crypto.next_secret(secret_for(0x1301, 1), 0x1301, VERSION_1), 0x1301, VERSION_1)
    ring.sealing[EPOCH_ONE_RTT] = crypto.SealingKey(secret, 0x1301, VERSION_1, phase=2)


@pytest.mark.rfc("9001", "6.2", "MAY")
def test_an_ack_of_a_phase_the_peer_did_not_follow() -> None:
    client, _ = one_rtt_pair()
    client.on_acked_in_phase(0, 0.0, PTO)
    client.request_update()
    with pytest.raises(QuicConnectionError) as caught:
        client.on_acked_in_phase(1, 1.0, PTO)
    assert caught.value.error_code == KEY_UPDATE_ERROR


def test_peers_may_update_again_and_again_when_answered() -> None:
    """More updates than the Key Phase bit can tell apart, without waiting out the old keys on the receiving side."""
    client, server = one_rtt_pair()
    for phase in range(6):
        now = 10.0 * phase
        assert Packet(client, 2 * phase).opened_by(server, now)
        assert Packet(server, phase).opened_by(client, now)
        client.on_acked_in_phase(phase, now, PTO)
        server.on_acked_in_phase(phase, now, PTO)
        client.request_update()
        client.on_acked_in_phase(phase, now + 1.0, PTO)
        assert phases(client) == (phase + 1, phase + 1)
        assert Packet(client, 2 * phase + 1).opened_by(server, now + 1.0)
        assert phases(server) == (phase + 1, phase + 1)
    assert client.updates == server.updates == 6


def test_forged_key_phases_change_nothing() -> None:
    client, server = one_rtt_pair()
    for number in range(10):
        packet = Packet(client, number)
        packet.phase_bit ^= 4
        assert not packet.opened_by(server)
        packet.phase_bit ^= 4
        assert packet.opened_by(server)
    assert server.updates == 0
    assert server.failed == 10


def next_opening(ring: crypto.KeyRing) -> crypto.OpeningKey | None:
    return ring._next_opening


def test_forged_and_reordered_packets_under_old_keys() -> None:
    client, server = one_rtt_pair()
    old = [Packet(client, number) for number in range(3)]
    client.on_acked_in_phase(0, 0.0, PTO)
    client.request_update()
    assert Packet(client, 3).opened_by(server)
    old[0].ciphertext, genuine = bytes(40), old[0].ciphertext
    assert not old[0].opened_by(server)
    assert old[2].opened_by(server)
    old[0].ciphertext = genuine
    assert old[0].opened_by(server)
    assert old[1].opened_by(server)
    assert server.failed == 1
    assert Packet(client, 4).opened_by(server)


@pytest.mark.rfc("9001", "6.3", "SHOULD")
def test_next_keys_are_there_before_they_are_needed() -> None:
    """The keys of the next phase are derived at installation and at the first ACK of a phase, and then kept."""
    client, server = one_rtt_pair()
    prepared = next_opening(server)
    assert prepared is not None
    forged = Packet(client, 0)
    forged.phase_bit = 4
    assert not forged.opened_by(server)
    assert next_opening(server) is prepared
    client.on_acked_in_phase(0, 0.0, PTO)
    client.request_update()
    assert Packet(client, 1).opened_by(server)
    assert server.opening[EPOCH_ONE_RTT] is prepared
    # Not inside the packet that made them current, where the time it takes would tell the phase.
    assert next_opening(server) is None
    Packet(server, 0)
    server.on_acked_in_phase(1, 0.0, PTO)
    assert next_opening(server) is not None


@pytest.mark.rfc("9001", "6.6", "MUST")
def test_update_before_the_confidentiality_limit() -> None:
    """Security row 28: at half the limit, with nobody asking."""
    client, server = one_rtt_pair(confidentiality_limits=dict.fromkeys(SUITES, 20))
    for number in range(9):
        assert Packet(client, number).opened_by(server)
        client.on_acked_in_phase(0, 0.0, PTO)
    assert client.updates == 0
    assert Packet(client, 9).opened_by(server)
    client.on_acked_in_phase(0, 0.0, PTO)
    assert client.updates == 1
    key = client.sealing[EPOCH_ONE_RTT]
    assert key is not None
    assert (key.phase, key.sealed, key.confidentiality_limit) == (1, 0, 20)
    assert Packet(client, 10).opened_by(server)


@pytest.mark.rfc("9001", "6.6", "MUST")
def test_the_integrity_limit_counts_over_all_keys() -> None:
    """Security row 28."""
    ring = crypto.KeyRing(False, integrity_limits=dict.fromkeys(SUITES, 5))
    ring.install_initial(b"destination", VERSION_1)
    ring.install(EPOCH_ONE_RTT, True, 0x1301, bytes(32), VERSION_1)
    ring.install(EPOCH_ONE_RTT, False, 0x1301, bytes(32), VERSION_1)
    initial = ring.opening[EPOCH_INITIAL]
    assert initial is not None
    for _ in range(2):
        assert initial.open(0, b"", bytes(40)) is None
    ring.discard(EPOCH_INITIAL)
    for phase_bit in (0, 4, 0):
        assert ring.open_one_rtt(0, b"", bytes(40), phase_bit, 0.0, PTO) is None
    assert ring.failed == 5
    with pytest.raises(QuicConnectionError) as caught:
        ring.open_one_rtt(0, b"", bytes(40), 4, 0.0, PTO)
    assert caught.value.error_code == AEAD_LIMIT_REACHED


def test_acks_before_there_are_keys_change_nothing() -> None:
    ring = crypto.KeyRing(True)
    ring.on_acked_in_phase(0, 0.0, PTO)
    ring.confirmed = True
    ring.request_update()
    assert ring.updates == 0


def test_a_ring_dies_by_reference_counting() -> None:
    class Holder:
        def __init__(self) -> None:
            self.ring = one_rtt_pair()[0]
            self.ring.on_acked_in_phase(0, 0.0, PTO)
            self.ring.request_update()

    gc.disable()
    try:
        holder = Holder()
        watch = ref(holder)
        gc.collect()
        del holder
        assert watch() is None
        assert gc.collect() == 0
    finally:
        gc.enable()
