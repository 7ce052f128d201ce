"""From pending components to datagrams: padding, coalescing, classes of packets, limits (RFC 9000 §8, §12 to §14)."""

from __future__ import annotations

from math import inf
from typing import Any

from quicio.quic.connection import QuicConnection
from quicio.quic.outbound import ACKS_BEFORE_PING, SMALLEST_CHALLENGE
from quicio.quic.paths.ecn import EcnState
from quicio.quic.paths.mtu import PathMtu
from quicio.quic.paths.path import Path
from quicio.quic.transmit import Transmit
from quicio.quic.wire.constants import (
    ECN_ECT_0,
    EPOCH_HANDSHAKE,
    EPOCH_INITIAL,
    EPOCH_ONE_RTT,
    INITIAL,
)
from quicio.quic.wire.headers import parse_long_header
from sim.capture import Capture
from sim.links import Delay, DropNumbers, Rate, Switch
from sim.rude import RudePeer, crypto_frame
from sim.world import World


def confirmed(**changes: Any) -> RudePeer:
    """A server whose handshake is confirmed and that has nothing to say."""
    rude = RudePeer(victim_is_client=False, victim=changes).to_confirmed()
    rude.listen()
    rude.forget()
    return rude


def burst(connection: QuicConnection, now: float, limit: int = 64) -> Transmit:
    transmit = connection.next_transmit(now, limit)
    assert transmit is not None
    return transmit


def queue(connection: QuicConnection, size: int) -> None:
    stream_id = connection.open_stream()
    assert stream_id is not None
    connection.send_stream_data(stream_id, bytes(size))


def packet_types(datagram: bytes) -> list[int]:
    """Types of the long-header packets of a datagram; 9 for a short header."""
    types: list[int] = []
    position = 0
    while position < len(datagram):
        if not datagram[position] & 0x80:
            return [*types, 9]
        header = parse_long_header(datagram, position)
        types.append(header.packet_type)
        position = header.end
    return types


# --- padding and coalescing -------------------------------------------------------------------------------------------


def test_a_clients_initial_packets_fill_their_datagrams() -> None:
    """RFC 9000 §14.1: also one that holds nothing but an ACK."""
    rude = RudePeer(victim_is_client=True).to_initial()
    rude.forget()
    rude.send(EPOCH_INITIAL, b"\x01")
    assert [len(datagram) for datagram in rude.datagrams] == [1200]
    assert [name for _, _, frames in rude.received for name, _ in frames] == ["ACK"]


def test_a_servers_initial_ack_is_not_padded_but_its_hello_is() -> None:
    """RFC 9000 §14.1: a server pads what elicits an ACK."""
    rude = RudePeer(victim_is_client=False).to_initial()
    rude.send(EPOCH_INITIAL, crypto_frame(0, rude.crypto(INITIAL)[:50]))
    assert [len(datagram) < 100 for datagram in rude.datagrams] == [True]
    rude.forget()
    rude.to_handshake()
    assert all(len(datagram) == 1200 for datagram in rude.datagrams if packet_types(datagram)[0] == 0)


def test_packets_of_several_spaces_share_a_datagram() -> None:
    """RFC 9000 §12.2: all of it padded by the last of them, within the size."""
    rude = RudePeer(victim_is_client=False).to_handshake()
    assert packet_types(rude.datagrams[0])[:2] == [0, 2]
    assert len(rude.datagrams[0]) == 1200
    client, _ = World(1).establish()
    (finished, *_) = client.capture.sent(epoch="HANDSHAKE")
    together = {packet.epoch for packet in client.capture.sent() if packet.time == finished.time}
    assert together >= {"INITIAL", "HANDSHAKE"}  # its ACK of the server's hello, and its Finished


def test_a_client_drops_initial_keys_when_it_sends_its_first_handshake_packet() -> None:
    """RFC 9001 §4.9.1."""
    rude = RudePeer(victim_is_client=True).to_initial()
    keys = rude.victim._parts.keys
    before = keys.sealing[EPOCH_INITIAL]
    for data, _ in rude.carrier.datagrams_to_send(rude.now):
        rude.victim.receive_datagram(data, rude.address, rude.now)
    still = keys.sealing[EPOCH_INITIAL]
    assert rude.victim.datagrams_to_send(rude.now)
    assert [before is None, still is None, keys.sealing[EPOCH_INITIAL] is None] == [False, False, True]


# --- the anti-amplification limit -------------------------------------------------------------------------------------


def test_during_the_handshake_whole_datagrams_go_or_none() -> None:
    """RFC 9000 §8.1; security.md row 8."""
    rude = RudePeer(victim_is_client=False).to_initial()
    path = rude.victim._parts.paths.active
    hello = rude.crypto(INITIAL)
    rude.send(EPOCH_INITIAL, crypto_frame(0, hello[:50]))
    path.bytes_sent = 3 * path.bytes_received + 1
    sent = path.bytes_sent
    rude.forget()
    rude.send(EPOCH_INITIAL, crypto_frame(50, hello[50:]))
    size = path.bytes_received
    assert path.bytes_sent <= 3 * size
    assert path.bytes_sent - sent == sum(len(datagram) for datagram in rude.datagrams)
    path.bytes_sent = 3 * path.bytes_received - 1199
    loss = rude.victim._parts.loss
    loss.probes[INITIAL] = 1
    assert rude.victim.next_transmit(rude.now) is None
    assert loss.amplification_blocked
    assert loss.probes[INITIAL] == 1
    path.bytes_sent = 3 * path.bytes_received - 1200
    assert burst(rude.victim, rude.now).datagrams
    assert not loss.amplification_blocked


def moved(rude: RudePeer, received: int) -> Path:
    """The victim's active path becomes another one, unvalidated, on which `received` bytes came."""
    packet = rude.packet(EPOCH_ONE_RTT, b"\x01")
    rude.victim.receive_datagram(packet, ("198.51.100.7", 7000), rude.now)
    path = rude.victim._parts.paths.active
    path.bytes_received = received
    return path


def test_after_a_move_challenges_go_as_large_as_the_limit_allows() -> None:
    """RFC 9000 §8.2.1: padded to 1200 bytes when three times what came allows it, as they are otherwise."""
    for received, expected in ((1200, 1200), (400, 1200), (399, None), (30, None)):
        rude = confirmed()
        path = moved(rude, received)
        rude.victim._parts.paths.known[0].challenge_is_due = False  # the old path is not what is tested
        transmit = burst(rude.victim, rude.now)
        assert transmit.remote == ("198.51.100.7", 7000)
        size = len(transmit.datagrams[0])
        assert size <= 3 * received
        if expected is None:
            assert size < 100
        else:
            assert size == expected
        assert path.bytes_sent == size


def test_with_too_little_room_not_even_a_challenge_goes() -> None:
    rude = confirmed()
    path = moved(rude, (SMALLEST_CHALLENGE - 1) // 3)
    rude.victim._parts.paths.known[0].challenge_is_due = False
    assert rude.victim.next_transmit(rude.now) is None
    assert path.challenge_is_due
    assert rude.victim._parts.loss.amplification_blocked
    path.bytes_received = 5000
    assert burst(rude.victim, rude.now).datagrams
    assert not rude.victim._parts.loss.amplification_blocked


def test_larger_datagrams_shrink_to_what_the_limit_allows() -> None:
    rude = confirmed()
    path = moved(rude, 450)
    path.datagram_size = 1400
    rude.victim._parts.paths.known[0].challenge_is_due = False
    assert len(burst(rude.victim, rude.now).datagrams[0]) == 1200
    assert path.bytes_sent <= 1350


# --- batches ----------------------------------------------------------------------------------------------------------


def test_a_batch_has_equal_sizes_but_for_the_last() -> None:
    """What one sendmsg with GSO takes."""
    rude = confirmed()
    queue(rude.victim, 5000)
    transmit = burst(rude.victim, rude.now)
    sizes = [len(datagram) for datagram in transmit.datagrams]
    assert sizes[:-1] == [1200] * 4
    assert 0 < sizes[-1] < 1200
    assert rude.victim.next_transmit(rude.now, 64) is None


def test_a_batch_is_no_longer_than_asked_for() -> None:
    rude = confirmed()
    queue(rude.victim, 50_000)
    assert len(burst(rude.victim, rude.now, 3).datagrams) == 3
    assert len(burst(rude.victim, rude.now, 1).datagrams) == 1


def fill_window(rude: RudePeer) -> Path:
    """Send until the congestion window is full, with all the time that pacing wants."""
    queue(rude.victim, 100_000)
    path = rude.victim._parts.paths.active
    for _ in range(50):
        while rude.victim.next_transmit(rude.now, 64) is not None:
            pass
        rude.now += 0.001
    return path


def test_a_batch_stops_at_the_window_and_acks_still_go() -> None:
    """RFC 9002 §7: packets that hold only ACKs are not held back."""
    rude = confirmed()
    path = fill_window(rude)
    assert path.in_flight <= path.congestion.window < path.in_flight + 1200
    in_flight = path.in_flight
    rude.send(EPOCH_ONE_RTT, b"\x01", number=5000)  # a gap: acknowledged at once
    ((_, _, frames),) = rude.received[-1:]
    assert [name for name, _ in frames] == ["ACK"]
    assert path.in_flight == in_flight


def test_an_ack_beside_a_challenge_that_waits_for_the_window_is_not_in_flight() -> None:
    rude = confirmed()
    path = fill_window(rude)
    path.challenge_is_due = True
    in_flight = path.in_flight
    rude.forget()
    rude.send(EPOCH_ONE_RTT, b"\x01", number=5000)
    assert [name for _, _, frames in rude.received for name, _ in frames] == ["ACK"]
    assert path.in_flight == in_flight
    assert path.challenge_is_due


def test_pacing_holds_a_burst_back_and_tells_when_to_go_on() -> None:
    world = World(1, up=[Delay(0.05)], down=[Delay(0.05)], client={"pacing_granularity": 0.001})
    client, server = world.establish()
    world.transfer(client, server, 200_000)
    connection = client.connection
    world.run(limit=1.0)
    queue(connection, 300_000)
    path = connection._parts.paths.active
    while connection.next_transmit(world.now, 64) is not None:
        pass
    assert path.in_flight < path.congestion.window - 1500  # not the window but the pacer
    deadline = connection._outbound.deadline
    assert world.now < deadline < world.now + 0.1
    timer = connection.get_timer()
    assert timer is not None
    assert timer <= deadline
    assert connection.next_transmit(deadline, 64) is not None


def test_nothing_to_send_is_nothing_sent() -> None:
    rude = confirmed()
    assert rude.victim.next_transmit(rude.now) is None
    assert rude.victim._outbound.deadline == inf


def test_batches_are_marked_for_ecn() -> None:
    """RFC 9000 §13.4."""
    rude = confirmed()
    for is_enabled, mark in ((True, ECN_ECT_0), (False, 0)):
        rude.victim._parts.paths.active.ecn = EcnState(is_enabled)
        queue(rude.victim, 100)
        assert burst(rude.victim, rude.now).ecn == mark
    first = RudePeer(victim_is_client=True).victim
    assert burst(first, 1.0).ecn == ECN_ECT_0  # from the first packet on


# --- probes -----------------------------------------------------------------------------------------------------------


def probe(rude: RudePeer) -> list[list[tuple[str, tuple[Any, ...]]]]:
    """Let a probe timeout pass; the frames of what is sent then, packet by packet."""
    deadline = rude.victim._parts.loss.deadline
    rude.now = deadline
    rude.victim.handle_timer(deadline)
    rude.listen()
    packets = [frames for _, _, frames in rude.received]
    rude.forget()
    return packets


def test_two_probes_carry_the_frames_of_two_packets() -> None:
    """RFC 9002 §6.2.4: whichever of the two was lost is repaired."""
    rude = confirmed()
    queue(rude.victim, 3000)
    rude.listen()
    rude.forget()
    packets = probe(rude)
    assert len(packets) == 2
    offsets = [fields[1] for frames in packets for name, fields in frames if name == "STREAM"]
    assert offsets[0] == 0
    assert len(set(offsets)) == len(offsets)
    covered = sum(len(fields[2]) for frames in packets for name, fields in frames if name == "STREAM")
    assert covered > 2000


def test_with_one_packet_outstanding_both_probes_carry_it() -> None:
    """One may be lost as well."""
    rude = confirmed()
    queue(rude.victim, 100)
    rude.listen()
    rude.forget()
    packets = probe(rude)
    assert [[name for name, _ in frames] for frames in packets] == [["STREAM"], ["STREAM"]]


def test_probes_carry_new_data_when_there_is_some() -> None:
    rude = confirmed()
    queue(rude.victim, 100)
    rude.listen()
    rude.forget()
    rude.victim.send_stream_data(1, b"more")
    packets = probe(rude)
    (name, fields), *_ = packets[0]
    assert (name, fields[1:3]) == ("STREAM", (100, b"more"))


def test_a_probe_with_nothing_to_repeat_is_a_ping() -> None:
    """RFC 9002 §6.2.4: a client that may be needed to unblock its server; here when its frames are settled."""
    rude = RudePeer(victim_is_client=True).to_initial()
    rude.send(EPOCH_INITIAL, b"\x02\x00\x00\x00\x00")  # the server has the ClientHello and says nothing
    rude.forget()
    packets = probe(rude)
    assert [[name for name, _ in frames] for frames in packets] == [["PING"]]


def test_a_probe_of_a_lost_handshake_flight_repeats_it() -> None:
    world = World(1, down=[DropNumbers([1, 2, 3]), Delay(0.005)])
    client, server = world.establish()
    assert server.connection.statistics().probe_timeouts + client.connection.statistics().probe_timeouts >= 1


# --- PING after ACKs --------------------------------------------------------------------------------------------------


def test_after_many_packets_that_elicit_nothing_one_carries_a_ping() -> None:
    """RFC 9000 §13.2.4: or what was received could never be forgotten."""
    rude = confirmed()
    names = []
    for number in range(ACKS_BEFORE_PING + 5):
        rude.forget()
        rude.send(EPOCH_ONE_RTT, b"\x01", number=2000 + 2 * number)  # a gap each time: an ACK at once
        ((_, _, frames),) = rude.received
        names.append([name for name, _ in frames])
    assert names[ACKS_BEFORE_PING - 1] == ["ACK", "PING"]
    assert names.count(["ACK", "PING"]) == 1
    assert names.count(["ACK"]) == ACKS_BEFORE_PING + 4


# --- MTU probes -------------------------------------------------------------------------------------------------------


def test_an_mtu_probe_goes_alone_and_unmarked() -> None:
    """RFC 8899 §4.1, RFC 9000 §14.4."""
    rude = confirmed()
    path = rude.victim._parts.paths.active
    path.mtu = PathMtu(1200, 1400)
    path.ecn = EcnState(True)
    queue(rude.victim, 5000)
    probe, data = burst(rude.victim, rude.now), burst(rude.victim, rude.now)
    assert [len(datagram) for datagram in probe.datagrams] == [1400]
    assert probe.ecn == 0
    assert max(map(len, data.datagrams)) == 1200
    assert data.ecn == ECN_ECT_0


def test_mtu_probes_are_a_ping_and_padding() -> None:
    world = World(1, client={"mtu_ceiling": 1400})
    client, _ = world.establish()
    world.run(limit=1.0)
    large = [packet for packet in client.capture.sent(epoch="ONE_RTT") if packet.size > 1200]
    assert large
    assert all(packet.frames == [("PING", ())] for packet in large)
    assert client.connection.statistics().datagram_size == 1400


def test_a_path_that_is_not_validated_is_not_searched() -> None:
    rude = confirmed(mtu_ceiling=1400)
    path = moved(rude, 50_000)
    rude.victim._parts.paths.known[0].challenge_is_due = False
    queue(rude.victim, 10_000)
    while (transmit := rude.victim.next_transmit(rude.now, 64)) is not None:
        assert max(map(len, transmit.datagrams)) <= 1200
    assert not path.is_validated


# --- paths ------------------------------------------------------------------------------------------------------------


def test_frames_of_another_path_go_there_alone() -> None:
    """PATH_ONLY: neither ACKs nor data leave for an address that is not in use."""
    rude = confirmed()
    packet = rude.packet(EPOCH_ONE_RTT, b"\x1a12345678")
    capture = Capture()
    rude.victim.observe(capture)
    rude.victim.receive_datagram(packet.ljust(1200), ("198.51.100.7", 7000), rude.now)  # not authentic: dropped
    rude.victim.receive_datagram(packet, ("198.51.100.7", 7000), rude.now)
    queue(rude.victim, 100)
    rude.victim._parts.paths.known[-1].bytes_received = 1200
    transmit = burst(rude.victim, rude.now)
    assert transmit.remote == ("198.51.100.7", 7000)
    assert [len(datagram) for datagram in transmit.datagrams] == [1200]
    assert capture.sent()[-1].frames == [("PATH_RESPONSE", (b"12345678",))]
    assert burst(rude.victim, rude.now).remote == rude.address


def test_another_path_without_room_does_not_stop_the_active_one() -> None:
    rude = confirmed()
    packet = rude.packet(EPOCH_ONE_RTT, b"\x1a12345678")
    rude.victim.receive_datagram(packet, ("198.51.100.7", 7000), rude.now)
    other = rude.victim._parts.paths.known[-1]
    other.bytes_received = 10
    queue(rude.victim, 100)
    assert burst(rude.victim, rude.now).remote == rude.address
    assert other.response == b"12345678"


def test_a_response_on_the_path_in_use_is_padded() -> None:
    """RFC 9000 §8.2.2."""
    rude = confirmed()
    rude.send(EPOCH_ONE_RTT, b"\x1a12345678")
    assert [len(datagram) for datagram in rude.datagrams] == [1200]
    assert rude.frames("PATH_RESPONSE") == [(b"12345678",)]


# --- on the simulator -------------------------------------------------------------------------------------------------


def test_a_full_queue_and_a_dead_link_end_in_probes_not_in_a_storm() -> None:
    switch = Switch()
    world = World(1, up=[switch, Rate(5e6, 20), Delay(0.01)])
    client, server = world.establish()
    queue(client.connection, 400_000)
    world.run(limit=0.2)
    switch.is_on = False
    before = client.connection.statistics().packets_sent
    world.run(limit=5.0)
    sent = client.connection.statistics().packets_sent - before
    assert sent < 100
    assert client.connection.statistics().probe_timeouts > 3
    switch.is_on = True
    world.run(lambda: len(server.data.get(0, b"")) == 400_000)


def test_a_client_before_confirmation_is_held_by_the_window_and_acknowledges_all_the_same() -> None:
    """While handshake keys are there, packets of all spaces go one datagram at a time, by the same rules."""
    rude = RudePeer(victim_is_client=True).to_initial()
    for data, _ in rude.carrier.datagrams_to_send(rude.now):
        rude.victim.receive_datagram(data, rude.address, rude.now)
    rude._take_keys()
    rude.listen()
    assert rude.victim.is_handshake_complete
    assert not rude.victim.is_handshake_confirmed
    queue(rude.victim, 100_000)
    rude.listen()
    path = rude.victim._parts.paths.active
    assert path.congestion.window - 1200 < path.in_flight <= path.congestion.window
    assert rude.victim.next_transmit(rude.now) is None
    rude.forget()
    rude.send(EPOCH_HANDSHAKE, b"\x01")
    assert [[name for name, _ in frames] for _, _, frames in rude.received] == [["ACK"]]
