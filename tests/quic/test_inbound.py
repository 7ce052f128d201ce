"""From datagrams to opened packets: what counts, what waits, what is dropped (RFC 9000 §5.2, §12.2; RFC 9001 §5)."""

from __future__ import annotations

from typing import Any

import pytest

from quicio.quic import lifecycle as life
from quicio.quic.events import StreamDataReceived
from quicio.quic.inbound import MAX_WAITING
from quicio.quic.transmit import Received
from quicio.quic.wire.constants import (
    ECN_CE,
    ECN_ECT_0,
    EPOCH_HANDSHAKE,
    EPOCH_INITIAL,
    EPOCH_ONE_RTT,
    EPOCH_ZERO_RTT,
    HANDSHAKE,
    INITIAL,
    PROTOCOL_VIOLATION,
    VERSION_2,
)
from sim.links import Delay, Reorder
from sim.rude import RudePeer, crypto_frame, stream_frame
from sim.world import World

PING = b"\x01"


def dropped(rude: RudePeer) -> int:
    return rude.victim.statistics().packets_dropped


def received(rude: RudePeer) -> int:
    return rude.victim.statistics().packets_received


def data_of(rude: RudePeer) -> bytes:
    """What the victim's application reads."""
    result = b""
    while (event := rude.victim.next_event()) is not None:
        if isinstance(event, StreamDataReceived):
            result += event.data
    return result


# --- datagrams --------------------------------------------------------------------------------------------------------


def test_every_datagram_counts_whole_whatever_it_holds() -> None:
    """RFC 9000 §8.1."""
    rude = RudePeer(victim_is_client=False).to_confirmed()
    path = rude.victim._parts.paths.active
    before = path.bytes_received
    rude.deliver(b"", b"\x40", b"\xc0" + bytes(50), bytes(1200))
    assert path.bytes_received - before == 0 + 1 + 51 + 1200
    assert rude.victim.close_reason is None


def test_a_batch_of_short_packets_is_opened_in_its_order() -> None:
    rude = RudePeer(victim_is_client=False).to_confirmed()
    packets = [rude.packet(EPOCH_ONE_RTT, stream_frame(0, 3 * number, b"%3d" % number)) for number in range(8)]
    broken = packets[3][:-1] + bytes((packets[3][-1] ^ 1,))
    count, lost = received(rude), dropped(rude)
    rude.deliver(*packets[:3], broken, packets[1], *packets[3:], b"\x40" + bytes(10))
    assert received(rude) == count + 8  # the repeated one is no packet more
    assert dropped(rude) == lost + 2
    assert data_of(rude) == b"".join(b"%3d" % number for number in range(8))


def test_long_and_short_packets_in_one_batch() -> None:
    """Packets of the handshake that come late, between others."""
    rude = RudePeer(victim_is_client=False).to_confirmed()
    first, second = (rude.packet(EPOCH_ONE_RTT, stream_frame(0, at, b"ab")) for at in (0, 2))
    late = rude.packet(EPOCH_HANDSHAKE, PING)
    count, lost = received(rude), dropped(rude)
    rude.deliver(first, late, second)
    assert (received(rude), dropped(rude)) == (count + 2, lost + 1)
    assert data_of(rude) == b"abab"


def test_one_decision_a_burst() -> None:
    """Many packets, one ACK."""
    rude = RudePeer(victim_is_client=False).to_confirmed()
    rude.forget()
    rude.deliver(*[rude.packet(EPOCH_ONE_RTT, PING) for _ in range(20)])
    assert len(rude.frames("ACK")) == 1


@pytest.mark.parametrize(("ecn", "position"), [(ECN_ECT_0, 0), (1, 1), (ECN_CE, 2)])
def test_ecn_marks_are_counted_and_echoed(ecn: int, position: int) -> None:
    """RFC 9000 §13.4.1."""
    rude = RudePeer(victim_is_client=False).to_confirmed()
    rude.forget()
    packets = [rude.packet(EPOCH_ONE_RTT, PING) for _ in range(3)]
    rude.victim.receive_datagrams(Received(packets, rude.address, None, ecn), rude.now)
    rude.listen()
    (ack,) = rude.frames("ACK")
    assert ack[2][position] == 3
    assert sum(ack[2]) == 3


# --- coalesced packets ------------------------------------------------------------------------------------------------


def test_packets_of_one_datagram_are_taken_apart() -> None:
    """RFC 9000 §12.2: here a server's first flight, with an Initial packet, Handshake packets and a short one."""
    rude = RudePeer(victim_is_client=True).to_initial()
    rude._take_keys()
    datagram = b"".join(
        (
            rude.packet(EPOCH_INITIAL, crypto_frame(0, rude.crypto(INITIAL))),
            rude.packet(EPOCH_HANDSHAKE, crypto_frame(0, rude.crypto(HANDSHAKE)[:100])),
            rude.packet(EPOCH_ONE_RTT, PING),
        )
    )
    rude.deliver(datagram)
    assert received(rude) == 2
    assert dropped(rude) == 0  # the short one waits
    rude.send(EPOCH_HANDSHAKE, crypto_frame(100, rude.crypto(HANDSHAKE)[100:]))
    assert rude.victim.is_handshake_complete
    assert received(rude) == 4


def test_a_packet_for_another_connection_ends_the_datagram() -> None:
    """RFC 9000 §12.2: a datagram belongs to one connection."""
    rude = RudePeer(victim_is_client=True).to_initial()
    first = rude.packet(EPOCH_INITIAL, PING)
    other = rude.packet(EPOCH_INITIAL, PING, destination=b"somebody")
    third = rude.packet(EPOCH_INITIAL, PING)
    rude.deliver(first + other + third)
    assert (received(rude), dropped(rude)) == (1, 1)


def test_a_packet_that_does_not_open_does_not_hide_the_next_one() -> None:
    """RFC 9000 §12.2."""
    rude = RudePeer(victim_is_client=True).to_initial()
    broken = bytearray(rude.packet(EPOCH_INITIAL, PING))
    broken[-1] ^= 1
    rude.deliver(bytes(broken) + rude.packet(EPOCH_INITIAL, PING))
    assert (received(rude), dropped(rude)) == (1, 1)


@pytest.mark.parametrize("tail", [bytes(50), b"\xc0", b"\x80" * 30])
def test_what_follows_and_is_no_packet_is_passed_over(tail: bytes) -> None:
    """Padding outside packets: nobody's fault."""
    rude = RudePeer(victim_is_client=True).to_initial()
    rude.deliver(rude.packet(EPOCH_INITIAL, PING) + tail)
    assert received(rude) == 1
    assert rude.victim.close_reason is None


def test_a_packet_too_short_for_a_sample_is_dropped() -> None:
    """RFC 9001 §5.4.2."""
    rude = RudePeer(victim_is_client=True).to_initial()
    packet = rude.packet(EPOCH_INITIAL, PING)
    header_end = len(packet) - 4 - 1 - 16
    length_at = header_end - 4
    short = packet[:length_at] + (19 | 0x80000000).to_bytes(4, "big") + packet[header_end : header_end + 19]
    rude.deliver(short)
    assert (received(rude), dropped(rude)) == (0, 1)


# --- Initial packets --------------------------------------------------------------------------------------------------


def test_a_server_takes_initial_packets_from_full_datagrams_only() -> None:
    """RFC 9000 §14.1."""
    rude = RudePeer(victim_is_client=False).to_initial()
    hello = crypto_frame(0, rude.crypto(INITIAL)[:50])
    rude.send(EPOCH_INITIAL, hello)
    count = received(rude)
    rude.send(EPOCH_INITIAL, PING, pad=False)
    assert received(rude) == count
    rude.send(EPOCH_INITIAL, PING)
    assert received(rude) == count + 1


def test_a_client_takes_them_as_they_come() -> None:
    rude = RudePeer(victim_is_client=True).to_initial()
    rude.send(EPOCH_INITIAL, PING, pad=False)
    assert received(rude) == 1


def test_the_peers_connection_id_is_fixed_by_its_first_packet() -> None:
    """RFC 9000 §7.2."""
    rude = RudePeer(victim_is_client=True).to_initial()
    rude.send(EPOCH_INITIAL, PING)
    parts = rude.victim._parts
    assert parts.paths.active.peer_cid == rude.carrier.host_cid
    rude.send(EPOCH_INITIAL, PING, source=b"somebody")
    assert (received(rude), dropped(rude)) == (1, 1)
    assert parts.paths.active.peer_cid == rude.carrier.host_cid


def test_a_client_answers_to_its_own_id_alone() -> None:
    rude = RudePeer(victim_is_client=True).to_initial()
    rude.send(EPOCH_INITIAL, PING, destination=b"somebody")
    assert (received(rude), dropped(rude)) == (0, 1)
    rude.send(EPOCH_INITIAL, PING, destination=rude.victim._parts.initial_cid)  # a server's privilege
    assert (received(rude), dropped(rude)) == (0, 2)


def test_a_handshake_packet_validates_the_address_and_ends_the_initial_space() -> None:
    """RFC 9000 §8.1, RFC 9001 §4.9.1."""
    rude = RudePeer(victim_is_client=False).to_handshake()
    parts = rude.victim._parts
    states = [(parts.paths.active.is_validated, parts.keys.opening[EPOCH_INITIAL] is None)]
    rude.send(EPOCH_HANDSHAKE, PING)
    states.append((parts.paths.active.is_validated, parts.keys.opening[EPOCH_INITIAL] is None))
    assert states == [(False, False), (True, True)]


def test_a_duplicate_is_passed_over() -> None:
    """RFC 9000 §12.3; security.md row 1."""
    rude = RudePeer(victim_is_client=True).to_initial()
    packet = rude.packet(EPOCH_INITIAL, PING)
    rude.deliver(packet, packet)
    rude.deliver(packet)
    assert received(rude) == 1
    assert len(rude.frames("ACK")) == 1


# --- packets that come before their keys ------------------------------------------------------------------------------


def test_a_flight_in_the_wrong_order_waits() -> None:
    """RFC 9001 §5.7, RFC 9000 §5.2.1: 1-RTT before Handshake before Initial."""
    rude = RudePeer(victim_is_client=True).to_initial()
    initial = rude.packet(EPOCH_INITIAL, crypto_frame(0, rude.crypto(INITIAL)))
    handshake = rude.packet(EPOCH_HANDSHAKE, crypto_frame(0, rude.crypto(HANDSHAKE)))
    data = rude.packet(EPOCH_ONE_RTT, stream_frame(1, 0, b"early"))
    rude.deliver(data)
    rude.deliver(handshake)
    assert (received(rude), dropped(rude)) == (0, 0)
    rude.deliver(initial)
    assert rude.victim.is_handshake_complete
    assert (received(rude), dropped(rude)) == (3, 0)
    assert data_of(rude) == b"early"


def test_what_waits_keeps_its_mark() -> None:
    rude = RudePeer(victim_is_client=True).to_initial()
    handshake = rude.packet(EPOCH_HANDSHAKE, crypto_frame(0, rude.crypto(HANDSHAKE)[:50]))
    rude.victim.receive_datagrams(Received([handshake], rude.address, None, ECN_CE), rude.now)
    rude.send(EPOCH_INITIAL, crypto_frame(0, rude.crypto(INITIAL)))
    trackers = rude.victim._parts.acks.trackers
    assert [tracker.ecn_ce for tracker in trackers] == [0, 1, 0]


def test_what_waits_is_bounded() -> None:
    """security.md row 2."""
    rude = RudePeer(victim_is_client=True).to_initial()
    for _ in range(MAX_WAITING + 5):
        rude.deliver(rude.packet(EPOCH_HANDSHAKE, PING))
    assert dropped(rude) == 5
    rude.send(EPOCH_INITIAL, crypto_frame(0, rude.crypto(INITIAL)))
    assert received(rude) == MAX_WAITING + 1


def test_nobody_waits_for_keys_that_will_not_come() -> None:
    """0-RTT packets that a server did not get keys for are dropped once it has answered the ClientHello."""
    rude = RudePeer(victim_is_client=False).to_handshake()
    key = rude.sealing[EPOCH_HANDSHAKE]
    assert key is not None
    rude.deliver(rude.packet(EPOCH_ZERO_RTT, PING, key=key))
    assert (dropped(rude), len(rude.victim._inbound._waiting)) == (1, 0)
    rude.exchange()
    assert rude.victim.is_handshake_complete
    before = dropped(rude)
    rude.deliver(rude.packet(EPOCH_ZERO_RTT, PING, key=key))
    assert dropped(rude) == before + 1


def test_zero_rtt_packets_are_opened_with_their_keys() -> None:
    rude = RudePeer(victim_is_client=False).to_handshake().allow_zero_rtt()
    count = received(rude)
    rude.send(EPOCH_ZERO_RTT, PING)
    assert received(rude) == count + 1


def test_a_handshake_packet_of_another_version_is_not_opened() -> None:
    rude = RudePeer(victim_is_client=True).to_handshake()
    packet = rude.packet(EPOCH_HANDSHAKE, PING)
    count = received(rude)
    other = bytes((packet[0] ^ 0x10 ^ (0x10 if packet[0] & 0x30 == 0x20 else 0),))
    rude.deliver(other + VERSION_2.to_bytes(4, "big") + packet[5:])
    assert received(rude) == count


def test_a_client_that_waits_for_a_decision_keeps_what_comes() -> None:
    rude = RudePeer(victim_is_client=True)
    rude.victim.defer_decisions()
    rude.to_initial()
    rude.send(EPOCH_INITIAL, crypto_frame(0, rude.crypto(INITIAL)))
    rude.send(EPOCH_HANDSHAKE, crypto_frame(0, rude.crypto(HANDSHAKE)))
    completed = [rude.victim.is_handshake_complete]
    rude.send(EPOCH_ONE_RTT, stream_frame(1, 0, b"patience"))
    events = []
    while (event := rude.victim.next_event()) is not None:
        events.append(event)
    decision: Any = events[-1]
    rude.victim.decide(decision.decision_id, True)
    completed.append(rude.victim.is_handshake_complete)
    assert completed == [False, True]
    assert data_of(rude) == b"patience"


# --- short headers ----------------------------------------------------------------------------------------------------


def test_a_short_packet_for_another_id_is_dropped() -> None:
    rude = RudePeer(victim_is_client=False).to_confirmed()
    before = dropped(rude)
    rude.send(EPOCH_ONE_RTT, PING, destination=b"somebody")
    assert dropped(rude) == before + 1


def test_every_id_that_was_issued_is_answered_to() -> None:
    rude = RudePeer(victim_is_client=False).to_confirmed()
    count = received(rude)
    cids = rude.victim._parts.connection_ids.local_cids()
    assert len(cids) == 8
    for cid in cids:
        rude.send(EPOCH_ONE_RTT, PING, destination=cid)
    assert received(rude) == count + 8


def test_reserved_bits_count_only_when_the_packet_is_authentic() -> None:
    """RFC 9000 §17.3.1."""
    rude = RudePeer(victim_is_client=False).to_confirmed()
    packet = bytearray(rude.packet(EPOCH_ONE_RTT, PING, reserved=0x18))
    packet[-1] ^= 1
    rude.deliver(bytes(packet))
    assert rude.victim.close_reason is None
    rude.send(EPOCH_ONE_RTT, PING, reserved=0x18)
    assert rude.close_code() == PROTOCOL_VIOLATION


def test_keys_are_updated_in_the_middle_of_a_batch() -> None:
    """RFC 9001 §6: packets of both phases arrive together."""
    world = World(1, up=[Reorder(0.5, 0.01), Delay(0.01)], down=[Delay(0.01)])
    client, server = world.establish()
    world.run(limit=1.0)
    before = server.connection.statistics().packets_dropped
    for _ in range(3):
        world.run(limit=1.0)
        client.connection.request_key_update()
        world.transfer(client, server, 50_000)
    assert client.connection.statistics().key_updates == server.connection.statistics().key_updates == 3
    assert server.connection.statistics().packets_dropped == before


# --- stateless resets -------------------------------------------------------------------------------------------------


def reset_for(rude: RudePeer, size: int = 43) -> bytes:
    """A stateless reset by the victim's peer."""
    (token, *_) = rude.victim._parts.connection_ids.reset_tokens()
    return (b"\x40" + b"\xa5" * 1200)[: size - 16] + token


@pytest.mark.parametrize("size", [21, 25, 43, 1200])
def test_a_stateless_reset_ends_the_connection(size: int) -> None:
    """RFC 9000 §10.3.1: whatever its size; what comes behind it does not matter any more."""
    rude = RudePeer(victim_is_client=True).to_confirmed()
    rude.deliver(reset_for(rude, size), rude.packet(EPOCH_ONE_RTT, PING))
    assert rude.victim.is_terminated
    assert rude.victim.close_cause == life.CAUSE_STATELESS_RESET
    assert rude.victim.datagrams_to_send(rude.now) == []


def test_almost_a_reset_is_none() -> None:
    rude = RudePeer(victim_is_client=True).to_confirmed()
    reset = reset_for(rude)
    rude.deliver(reset[:-1] + bytes((reset[-1] ^ 1,)), reset[-20:], b"\x40" + reset[-15:])
    assert rude.victim.close_reason is None


# --- closing and after ------------------------------------------------------------------------------------------------


def test_nothing_is_read_once_the_peer_has_closed() -> None:
    """RFC 9000 §10.2.2."""
    rude = RudePeer(victim_is_client=False).to_confirmed()
    close = rude.packet(EPOCH_ONE_RTT, b"\x1d\x05\x00")
    data = rude.packet(EPOCH_ONE_RTT, stream_frame(0, 0, b"late"))
    rude.deliver(close, data)
    assert data_of(rude) == b""
    count = received(rude)
    rude.deliver(rude.packet(EPOCH_ONE_RTT, PING))
    assert received(rude) == count


def test_data_before_the_close_is_read() -> None:
    rude = RudePeer(victim_is_client=False).to_confirmed()
    rude.send(EPOCH_ONE_RTT, stream_frame(0, 0, b"last words"), b"\x1d\x05\x00")
    assert data_of(rude) == b"last words"
    assert rude.victim.close_reason is not None
    assert (rude.victim.close_reason.code, rude.victim.close_reason.by_peer) == (5, True)


def test_datagrams_from_nowhere_known_are_dropped_by_a_client() -> None:
    """RFC 9000 §9."""
    rude = RudePeer(victim_is_client=True).to_confirmed()
    before = dropped(rude)
    packets = [rude.packet(EPOCH_ONE_RTT, PING) for _ in range(3)]
    rude.victim.receive_datagrams(Received(packets, ("203.0.113.9", 9)), rude.now)
    assert dropped(rude) == before + 3
    assert rude.victim._parts.paths.active.remote == rude.address


def test_the_newest_packet_decides_about_the_path() -> None:
    """RFC 9000 §9.3: an old one from another address does not move the connection."""
    rude = RudePeer(victim_is_client=False).to_confirmed()
    old, new = rude.packet(EPOCH_ONE_RTT, PING), rude.packet(EPOCH_ONE_RTT, PING)
    rude.deliver(new)
    rude.deliver(old, remote=("203.0.113.9", 9999))
    assert rude.victim._parts.paths.active.remote == rude.address
    rude.deliver(rude.packet(EPOCH_ONE_RTT, PING), remote=("203.0.113.9", 9999))
    assert rude.victim._parts.paths.active.remote == ("203.0.113.9", 9999)
