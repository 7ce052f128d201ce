"""Early data that nobody takes must not take the places of packets that will be read."""

from __future__ import annotations

import pytest

from quicio.quic.inbound import MAX_WAITING
from quicio.quic.wire.constants import EPOCH_INITIAL, EPOCH_ZERO_RTT, INITIAL, VERSION_1
from quicio.quic.wire.crypto import AES_128_GCM_SHA256, SealingKey
from sim.rude import RudePeer, crypto_frame

PING = b"\x01"


def zero_rtt(rude: RudePeer) -> bytes:
    """A 0-RTT packet under keys that the victim will never have."""
    return rude.packet(EPOCH_ZERO_RTT, PING + bytes(20), key=SealingKey(bytes(32), AES_128_GCM_SHA256, VERSION_1))


def test_zero_rtt_packets_are_let_go_when_the_server_has_answered() -> None:
    """A server that installs no 0-RTT keys with its first flight never will (RFC 9001 §4.6.2)."""
    rude = RudePeer(victim_is_client=False).to_initial()
    hello = rude.crypto(INITIAL)
    rude.send(EPOCH_INITIAL, crypto_frame(0, hello[:100]))
    for _ in range(MAX_WAITING):
        rude.deliver(zero_rtt(rude))
    inbound = rude.victim._inbound
    assert len(inbound._waiting) == MAX_WAITING  # they may have come before the rest of the ClientHello
    rude.send(EPOCH_INITIAL, crypto_frame(0, hello))
    assert not inbound._waiting
    rude.deliver(zero_rtt(rude))
    assert not inbound._waiting


@pytest.mark.parametrize("count", [1, 20])
def test_a_client_keeps_no_zero_rtt_packets(count: int) -> None:
    """RFC 9000 §17.2.3: only clients send them."""
    rude = RudePeer(victim_is_client=True).to_initial()
    for _ in range(count):
        rude.deliver(zero_rtt(rude))
    assert not rude.victim._inbound._waiting
    assert rude.close_code() is None
