"""HTTP/3 over real QUIC connections on the simulator: in both credit modes, on clean and on rough links."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from helpers.http3 import REQUEST, RESPONSE
from quicio.h3.connection import H3Connection
from quicio.h3.events import DatagramReceived, DataReceived, H3Event, HeadersReceived, StreamFailed
from quicio.h3.exceptions import ErrorCode
from quicio.h3.frames import HEADERS, encode_frame
from quicio.quic.connection import QuicConnection
from quicio.quic.events import QuicEvent, StreamReset
from sim.links import Delay, Stage
from sim.stages import rough
from sim.world import Peer, World

MODES = pytest.mark.parametrize("native", [False, True], ids=["by-event", "by-consume"])


@dataclass
class Side:
    """One end: an `H3Connection` on a simulated peer, and what it heard."""

    peer: Peer
    h3: H3Connection
    native: bool
    content: dict[int, bytearray] = field(default_factory=lambda: defaultdict(bytearray))
    headers: dict[int, list[HeadersReceived]] = field(default_factory=lambda: defaultdict(list))
    ended: set[int] = field(default_factory=set)
    other: list[H3Event | QuicEvent] = field(default_factory=list)

    def take(self, peer: Peer, event: QuicEvent) -> None:
        if isinstance(event, StreamReset):
            self.other.append(event)
        for found in self.h3.handle_event(event):
            if isinstance(found, DataReceived):
                self.content[found.stream_id] += found.data
                if self.native and found.data:
                    peer.connection.consume(found.stream_id, len(found.data))
            elif isinstance(found, HeadersReceived):
                self.headers[found.stream_id].append(found)
            else:
                self.other.append(found)
            if isinstance(found, DataReceived | HeadersReceived) and found.stream_ended:
                self.ended.add(found.stream_id)
                self.on_ended(found.stream_id)

    def on_ended(self, stream_id: int) -> None:
        if self.native:
            self.peer.connection.release_stream(stream_id)


class Echo(Side):
    """A server that sends back what it was sent."""

    def on_ended(self, stream_id: int) -> None:
        body = bytes(self.content.pop(stream_id, b""))
        length = (b"content-length", str(len(body)).encode())
        self.h3.send_headers(stream_id, [*RESPONSE, length], end_stream=not body)
        if body:
            self.h3.send_data(stream_id, body, end_stream=True)
        super().on_ended(stream_id)


def connect(world: World, native: bool) -> tuple[Side, Side]:
    client, server = world.establish()
    sides = []
    for peer, kind in ((client, Side), (server, Echo)):
        if native:
            peer.connection.use_native_events()
        side = kind(peer, H3Connection(peer.connection), native)
        peer.on_event = side.take
        sides.append(side)
    return sides[0], sides[1]


@MODES
@pytest.mark.parametrize("link", ["clean", "rough"])
def test_many_requests(native: bool, link: str) -> None:
    """More requests than the stream limit and more content than the windows: credit of both kinds has to come back."""
    limits = {"max_data": 20_000, "max_stream_data": 10_000, "max_streams_bidi": 8}
    up: list[Stage] = [*rough(loss=0.02)] if link == "rough" else []
    down: list[Stage] = [*rough(loss=0.02)] if link == "rough" else []
    world = World(7, up=up, down=down, client=limits, server=limits)
    client, server = connect(world, native)
    world.run(lambda: client.h3.received_settings is not None)
    bodies = {4 * number: bytes([number]) * (number * 1_500) for number in range(20)}
    for stream_id, body in bodies.items():
        assert client.peer.connection.get_next_available_stream_id() == stream_id
        request = [*REQUEST, (b"x-number", str(stream_id).encode()), (b"user-agent", b"simulated")]
        client.h3.send_headers(stream_id, request, end_stream=not body)
        if body:
            client.h3.send_data(stream_id, body, end_stream=True)
    world.run(lambda: len(client.ended) == len(bodies), limit=120)
    assert {stream_id: bytes(client.content[stream_id]) for stream_id in bodies} == bodies
    assert {headers[0].headers[0] for headers in client.headers.values()} == {(b":status", b"200")}
    for side in (client, server):
        assert side.other == []
        assert side.peer.connection.close_reason is None
        assert set(side.h3._stream) == {3, 7, 11} if side is client else {2, 6, 10}
    assert server.h3._decoder_bytes_sent > 0  # the dynamic table was used


def test_a_malformed_request_over_quic() -> None:
    world = World(1)
    client, server = connect(world, native=True)
    client.peer.connection.send_stream_data(0, encode_frame(HEADERS, b"\x00\x00\xd1"))
    client.h3.send_headers(4, REQUEST, end_stream=True)
    world.run(lambda: 4 in client.ended and bool(client.other))
    assert client.other == [StreamReset(error_code=ErrorCode.H3_MESSAGE_ERROR, stream_id=0)]
    world.run(lambda: len(server.other) == 2)
    failed, reset = server.other
    assert isinstance(failed, StreamFailed)
    assert isinstance(reset, StreamReset)  # QUIC's answer to STOP_SENDING
    assert 0 not in server.h3._stream
    assert server.peer.connection.close_reason is None


def test_a_connection_error_over_quic() -> None:
    world = World(1)
    client, server = connect(world, native=True)
    client.peer.connection.send_stream_data(0, encode_frame(0, b"early"))
    world.run(lambda: client.peer.connection.close_reason is not None)
    reason = client.peer.connection.close_reason
    assert reason is not None
    assert (reason.code, reason.is_application, reason.by_peer) == (ErrorCode.H3_FRAME_UNEXPECTED, True, True)
    assert server.h3._is_done


def test_datagrams_over_quic() -> None:
    datagrams = {"max_datagram_frame_size": 1200}
    world = World(1, client=datagrams, server=datagrams)
    client, server = connect(world, native=False)
    world.run(lambda: server.h3.received_settings is not None and client.h3.received_settings is not None)
    client.h3.send_datagram(0, b"abc")
    world.run(lambda: bool(server.other))
    assert server.other == [DatagramReceived(b"abc", 0)]
    assert server.peer.connection.close_reason is None


def deliver_to(h3: H3Connection) -> Callable[[Peer, QuicEvent], None]:
    def on_event(_: Peer, event: QuicEvent) -> None:
        h3.handle_event(event)

    return on_event


def test_settings_are_sent_before_the_handshake() -> None:
    """The connection objects may be made at once: what they write goes out when it can."""
    world = World(1, up=[Delay(0.01)], down=[Delay(0.01)])
    servers: list[H3Connection] = []

    def accept(connection: QuicConnection) -> None:
        world.server.adopt(connection)
        servers.append(H3Connection(connection))
        world.server.peers[connection].on_event = deliver_to(servers[0])

    world.server.endpoint.on_connection = accept
    peer = world.connect()
    client = H3Connection(peer.connection)
    peer.on_event = deliver_to(client)
    world.run(lambda: bool(servers) and None not in (servers[0].received_settings, client.received_settings))
    assert servers[0].received_settings == client.sent_settings
    assert client.received_settings == servers[0].sent_settings
