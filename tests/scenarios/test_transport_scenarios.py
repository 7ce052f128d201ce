"""The transport scenarios of the public interoperability runner, with their link numbers, on the simulator."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from helpers.certificates import issue, make_certificates, make_key
from quicio.quic.configuration import QuicConfiguration
from quicio.quic.endpoint import Incoming
from quicio.quic.events import ConnectionTerminated, HandshakeCompleted
from quicio.quic.packet import QuicProtocolVersion
from quicio.quic.wire.constants import EPOCH_ONE_RTT, VERSION_1, VERSION_2
from quicio.tls.constants import CipherSuite
from sim.links import BlackHole, Corrupt, Delay, DropNumbers, Loss, Nat, Rate
from sim.stages import bottleneck, rough
from sim.world import CLIENT_ADDRESS, Peer, World


def always_retry(incoming: Incoming) -> None:
    """Every client proves its address first."""
    if incoming.address_validated:
        incoming.accept()
    else:
        incoming.retry()


def request(world: World, client: Peer, size: int, limit: float = 120.0) -> float:
    """The server sends `size` bytes on its own stream, as a file would be served."""
    return world.transfer(world.accepted[-1], client, size, limit)


def test_handshake_takes_one_round_trip_to_complete_at_the_client() -> None:
    world = World(1, up=bottleneck(), down=bottleneck())
    client = world.connect()
    world.run(lambda: client.connection.is_handshake_complete)
    # The server's flight is one datagram more than it may send at once, so no second round trip is needed.
    assert 0.030 < world.now < 0.045
    world.run(lambda: bool(world.accepted) and world.accepted[0].connection.is_handshake_confirmed)
    assert request(world, client, 1024) < 0.1


def test_longrtt_no_spurious_retransmission_storm() -> None:
    world = World(2, up=bottleneck(delay=0.75), down=bottleneck(delay=0.75))
    client, server = world.establish()
    assert client.connection.is_handshake_confirmed
    initials = len(client.capture.sent(epoch="INITIAL"))
    assert initials <= 12  # the PTO backs off, so a round trip of 1.5 s costs a handful of probes
    assert request(world, client, 1024) < 3.0


def test_transfer_of_three_files_in_parallel_with_small_windows() -> None:
    world = World(3, up=bottleneck(), down=bottleneck(), client={"max_data": 65536, "max_stream_data": 32768})
    client, server = world.establish()
    sizes = [2_000_000, 3_000_000, 5_000_000]
    streams = {}
    for size in sizes:
        stream_id = server.connection.open_stream()
        assert stream_id is not None
        data = world.simulation.random.randbytes(size)
        streams[stream_id] = data
        server.connection.send_stream_data(stream_id, data, end_stream=True)
    world.run(lambda: client.finished >= streams.keys(), 60.0)
    for stream_id, data in streams.items():
        assert bytes(client.data[stream_id]) == data
    client.connection.close(0)
    world.run(lambda: server.connection.is_terminated)
    reason = server.connection.close_reason
    assert reason is not None
    assert (reason.code, reason.by_peer) == (0, True)


def test_chacha20_only() -> None:
    world = World(4, up=bottleneck(), down=bottleneck())
    client, server = world.establish(cipher_suites=[CipherSuite.CHACHA20_POLY1305_SHA256])
    assert client.connection.tls.cipher_suite == CipherSuite.CHACHA20_POLY1305_SHA256
    assert request(world, client, 300_000) < 1.0


def test_multiplexing_of_many_small_streams_raises_the_stream_limit() -> None:
    world = World(5, up=bottleneck(), down=bottleneck())
    client, server = world.establish()
    assert world.server_configuration.max_streams_bidi <= 1000
    count = 600
    opened = 0
    while opened < count:
        stream_id = client.connection.open_stream()
        if stream_id is None:
            world.run(limit=0.02)
            for done in list(server.finished):
                server.finished.discard(done)
                server.connection.send_stream_data(done, b"answer", end_stream=True)
            continue
        client.connection.send_stream_data(stream_id, b"x" * 32, end_stream=True)
        opened += 1
    world.run(limit=1.0)
    for done in list(server.finished):
        server.connection.send_stream_data(done, b"answer", end_stream=True)
    world.run(lambda: len(client.finished) == count)
    assert server.capture.sent("MAX_STREAMS_BIDI")
    world.run(limit=1.0)
    assert not client.connection._parts.streams.streams


def test_retry_echoes_the_token_and_does_not_reset_packet_numbers() -> None:
    world = World(6, up=bottleneck(), down=bottleneck(), policy=always_retry)
    client, _ = world.establish()
    numbers = [packet.number for packet in client.capture.sent(epoch="INITIAL")]
    assert numbers == sorted(set(numbers))
    assert len(world.accepted) == 1
    assert request(world, client, 1024) < 0.2


def test_http_like_sizes_in_parallel() -> None:
    world = World(7, up=bottleneck(), down=bottleneck())
    client, server = world.establish()
    for size in (5_000, 10_000, 500_000):
        stream_id = server.connection.open_stream()
        assert stream_id is not None
        server.connection.send_stream_data(stream_id, bytes(size), end_stream=True)
    world.run(lambda: len(client.finished) == 3)
    assert sorted(len(data) for data in client.data.values()) == [5_000, 10_000, 500_000]


def test_amplification_limit_with_a_long_chain_and_lost_client_packets() -> None:
    """RFC 9000 §8.1; security.md row 8: nine certificates, client packets 2 to 7 lost, never more than three times."""
    made = make_certificates("ed25519", intermediates=9)
    names = [tuple(f"authority-{number}.{row}.example" for number in range(40)) for row in range(8)]
    chain = [issue("a" * 60, make_key("p256"), names=row) for row in names]
    assert sum(len(certificate.public_bytes(Encoding.DER)) for certificate in chain) > 7500
    world = World(
        8,
        up=bottleneck(DropNumbers(range(2, 8))),
        down=bottleneck(),
        server={"certificate": made.chain[0], "certificate_chain": chain, "private_key": made.private_key},
        client={"verify_mode": False},
    )
    client, server = world.establish()
    assert client.connection.is_handshake_confirmed  # no deadlock; the limit itself is checked after every step


def test_blackhole_of_two_seconds_in_five() -> None:
    world = World(9, up=bottleneck(BlackHole(3.0, 2.0)), down=bottleneck(BlackHole(3.0, 2.0)))
    client, _ = world.establish()
    assert request(world, client, 10_000_000) < 30.0


def test_key_update_in_mid_transfer() -> None:
    world = World(10, up=bottleneck(), down=bottleneck())
    client, server = world.establish()
    world.run(limit=0.1)
    client.connection.request_key_update()
    assert request(world, client, 1_000_000) < 2.0
    assert client.connection.statistics().key_updates == 1
    assert server.connection.statistics().key_updates == 1
    sealing = server.connection._parts.keys.sealing[EPOCH_ONE_RTT]
    assert sealing is not None
    assert sealing.phase == 1


@pytest.mark.parametrize("damage", ["loss", "corruption"])
def test_fifty_handshakes_in_a_row_at_thirty_percent(damage: str) -> None:
    """Both ways, bursts of three; each connection also carries 1 kB."""

    def link() -> list[object]:
        stage = Loss(0.3, burst=3) if damage == "loss" else Corrupt(0.3)
        return [stage, Rate(10e6, 25), Delay(0.015)]

    world = World(11, up=link(), down=link(), client={"handshake_timeout": 0.0})  # type: ignore[arg-type]  # stages
    for _ in range(50):
        client = world.connect()
        world.run(lambda client=client: client.connection.is_handshake_complete, 300.0)  # type: ignore[misc]  # bound
        stream_id = client.connection.open_stream()
        assert stream_id is not None
        client.connection.send_stream_data(stream_id, bytes(1024), end_stream=True)
        world.run(
            lambda stream_id=stream_id: any(stream_id in peer.finished for peer in world.accepted[-1:]),  # type: ignore[misc]
            300.0,
        )
        client.connection.close(0)
        world.run(lambda client=client: client.connection.is_terminated, 60.0)  # type: ignore[misc]  # bound now
        world.client.peers.clear()
    assert world.now < 300.0


@pytest.mark.parametrize(("loss", "corrupt"), [(0.02, 0.0), (0.0, 0.02)])
def test_two_megabytes_at_two_percent(loss: float, corrupt: float) -> None:
    world = World(12, up=rough(loss, corrupt=corrupt), down=rough(loss, corrupt=corrupt))
    client, _ = world.establish()
    assert request(world, client, 2_000_000) < 20.0


def test_ecn_is_marked_and_echoed() -> None:
    world = World(13, up=bottleneck(), down=bottleneck())
    client, server = world.establish()
    request(world, client, 100_000)
    world.transfer(client, server, 100_000)
    for peer in (client, server):
        assert any(fields[2] is not None for packet in peer.capture.received("ACK") for _, fields in packet.frames[:1])
        counts = [
            frame[1][2] for packet in peer.capture.received("ACK") for frame in packet.frames if frame[0] == "ACK"
        ]
        assert any(ecn is not None and ecn[0] > 0 and ecn[2] == 0 for ecn in counts)


@pytest.mark.parametrize("what", ["port", "address"])
def test_rebinding_during_a_transfer(what: str) -> None:
    """The first packet on the new path carries PATH_CHALLENGE, and every challenge is answered."""
    nat = Nat(CLIENT_ADDRESS)
    world = World(14, up=[nat.outward(), *bottleneck()], down=[*bottleneck(), nat.inward()])
    client, server = world.establish()

    def rebind(number: int) -> None:
        host, port = CLIENT_ADDRESS
        nat.rebind((host, port + number) if what == "port" else (f"10.0.1.{number}", port))
        world.simulation.at(world.now + 5.0, lambda: rebind(number + 1))

    world.simulation.at(1.0, lambda: rebind(1))
    assert request(world, client, 10_000_000) < 20.0
    new = [packet for packet in server.capture.sent(epoch="ONE_RTT") if packet.remote != CLIENT_ADDRESS]
    assert new
    assert new[0].has("PATH_CHALLENGE")
    challenges = {
        frame[1][0]
        for packet in client.capture.received("PATH_CHALLENGE")
        for frame in packet.frames
        if len(frame[1]) == 1
    }
    answers = {
        frame[1][0] for packet in client.capture.sent("PATH_RESPONSE") for frame in packet.frames if len(frame[1]) == 1
    }
    assert challenges <= answers
    assert server.connection._parts.paths.active.is_validated


def test_strict_rebinding_of_a_silent_client_is_cured_by_keep_alive() -> None:
    """The NAT forgets the old binding while the client only listens: its keep-alive tells the server where it is now."""
    nat = Nat(CLIENT_ADDRESS)
    world = World(20, up=[nat.outward(), *bottleneck()], down=[*bottleneck(), nat.inward()], client={"keep_alive": 1.0})
    client, server = world.establish()
    world.simulation.at(1.0, lambda: nat.rebind(("10.0.1.1", 5), is_strict=True))
    assert request(world, client, 2_000_000) < 10.0
    assert server.connection.get_peer_address() == ("10.0.1.1", 5)


def test_version_two_is_chosen_compatibly() -> None:
    """The client starts with version 1 and offers version 2; the server prefers it (RFC 9368 §2.3)."""
    world = World(15, up=bottleneck(), down=bottleneck(), server={"supported_versions": [VERSION_2, VERSION_1]})
    client, server = world.establish()
    assert client.connection.version == server.connection.version == QuicProtocolVersion.VERSION_2
    assert request(world, client, 10_000) < 0.2


def test_version_negotiation_restarts_with_a_common_version() -> None:
    world = World(16, up=bottleneck(), down=bottleneck(), server={"supported_versions": [VERSION_2]})
    client, _ = world.establish()
    assert client.connection.version == VERSION_2


def test_version_negotiation_without_a_common_version_ends_the_attempt() -> None:
    world = World(17, up=bottleneck(), down=bottleneck(), server={"supported_versions": [VERSION_2]})
    client = world.connect(supported_versions=[VERSION_1])
    world.run(lambda: client.connection.is_terminated)
    assert world.now < 0.1
    (terminated,) = client.of_type(ConnectionTerminated)
    assert "No QUIC version in common" in terminated.reason_phrase
    assert not client.of_type(HandshakeCompleted)


def test_goodput_alone_on_the_bottleneck() -> None:
    """10 MB over 10 Mbit/s, 15 ms one way, a queue of 25 packets: at least 90 % of the link."""
    world = World(18, up=bottleneck(), down=bottleneck())
    client, _ = world.establish()
    seconds = request(world, client, 10_000_000)
    assert 10_000_000 * 8 / seconds / 10e6 >= 0.90


@pytest.mark.parametrize("algorithm", ["reno", "cubic"])
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("loss", [0.0, 0.02, 0.10])
def test_transfers_complete_byte_exact_whatever_befalls(algorithm: str, seed: int, loss: float) -> None:
    world = World(
        seed,
        up=rough(loss, reorder=0.05, duplicate=0.02, corrupt=0.02),
        down=rough(loss, reorder=0.05, duplicate=0.02, corrupt=0.02),
        client={"congestion_control_algorithm": algorithm},
        server={"congestion_control_algorithm": algorithm},
    )
    client, server = world.establish()
    world.transfer(client, server, 200_000)
    world.transfer(server, client, 200_000)


def test_two_runs_with_one_seed_are_the_same() -> None:
    """Packet sizes and times; design.md §1, rule 2."""

    def run() -> list[tuple[float, int, bool]]:
        world = World(77, up=rough(0.05, reorder=0.1), down=rough(0.05, reorder=0.1))
        client, server = world.establish()
        world.transfer(client, server, 100_000)
        client.connection.close(0)
        world.run(limit=2.0)
        return [(packet.time, packet.size, packet.is_sent) for packet in client.capture.packets]

    assert run() == run()


def test_configuration_is_not_changed_by_connections() -> None:
    world = World(19)
    before = repr(world.client_configuration)
    world.establish()
    assert repr(world.client_configuration) == before
    assert isinstance(world.client_configuration, QuicConfiguration)
