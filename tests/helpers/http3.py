"""HTTP/3 without QUIC: connections made of nothing, and peers with bad manners."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pylsqpack import Encoder

from quicio.buffer import encode_uint_var
from quicio.h3.connection import H3Connection
from quicio.h3.events import H3Event, Headers
from quicio.h3.frames import HEADERS, SETTINGS, encode_frame
from quicio.h3.settings import encode_settings
from quicio.quic.events import DatagramFrameReceived, QuicEvent, StopSendingReceived, StreamDataReceived, StreamReset

REQUEST: Headers = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":authority", b"example.org"),
    (b":path", b"/"),
]
RESPONSE: Headers = [(b":status", b"200"), (b"content-type", b"text/plain")]


@dataclass
class FakeConfiguration:
    is_client: bool
    max_datagram_frame_size: int | None = None


@dataclass
class FakeQuic:
    """The nine names that `H3Connection` requires, and a record of what was asked; `sent` is what the peer would see."""

    is_client: bool
    datagrams: int | None = None
    _quic_logger: Any = None
    sent: list[QuicEvent] = field(default_factory=list)
    closed: tuple[int, str] | None = None

    def __post_init__(self) -> None:
        self.configuration = FakeConfiguration(self.is_client, self.datagrams)
        self._remote_max_datagram_frame_size = self.datagrams
        self.next_ids = {False: 0 if self.is_client else 1, True: 2 if self.is_client else 3}

    def close(self, error_code: int, *, reason_phrase: str = "") -> None:
        assert self.closed is None, "closed twice"
        self.closed = (error_code, reason_phrase)

    def get_next_available_stream_id(self, is_unidirectional: bool = False) -> int:
        return self.next_ids[is_unidirectional]

    def next_event(self) -> QuicEvent | None:
        return None

    def reset_stream(self, stream_id: int, error_code: int) -> None:
        self.sent.append(StreamReset(error_code=error_code, stream_id=stream_id))

    def send_datagram_frame(self, data: bytes) -> None:
        self.sent.append(DatagramFrameReceived(data=data))

    def send_stream_data(self, stream_id: int, data: bytes, end_stream: bool = False) -> None:
        assert isinstance(data, bytes)
        for kind, number in self.next_ids.items():
            if number == stream_id:
                self.next_ids[kind] += 4
        self.sent.append(StreamDataReceived(data=data, end_stream=end_stream, stream_id=stream_id))

    # what tests ask

    def on_stream(self, stream_id: int) -> bytes:
        """All data sent on a stream."""
        return b"".join(
            event.data for event in self.sent if isinstance(event, StreamDataReceived) and event.stream_id == stream_id
        )

    def resets(self) -> dict[int, int]:
        """Error codes by stream."""
        return {event.stream_id: event.error_code for event in self.sent if isinstance(event, StreamReset)}


@dataclass
class FullQuic(FakeQuic):
    """With what `H3Connection` uses when it is there."""

    held: bool = True
    stopped: dict[int, int] = field(default_factory=dict)
    consumed: dict[int, int] = field(default_factory=dict)
    refused: int = 0
    released: list[int] = field(default_factory=list)

    def stop_stream(self, stream_id: int, error_code: int) -> None:
        self.stopped[stream_id] = error_code

    def consume(self, stream_id: int, size: int) -> None:
        assert size > 0
        if not self.held:
            self.refused += 1
            raise ValueError("not held")
        self.consumed[stream_id] = self.consumed.get(stream_id, 0) + size

    def release_stream(self, stream_id: int) -> None:
        self.released.append(stream_id)


def transfer(sender: FakeQuic, receiver: H3Connection) -> list[H3Event]:
    """Deliver what was sent, in order; returns what came of it."""
    events: list[H3Event] = []
    while sender.sent:
        event = sender.sent.pop(0)
        events += receiver.handle_event(event)
    return events


@dataclass
class Pair:
    """A client and a server, joined by nothing but lists, past the exchange of settings."""

    client_quic: FullQuic
    server_quic: FullQuic
    client: H3Connection
    server: H3Connection

    def to_server(self) -> list[H3Event]:
        return transfer(self.client_quic, self.server)

    def to_client(self) -> list[H3Event]:
        return transfer(self.server_quic, self.client)

    def check(self) -> None:
        assert self.client_quic.closed is None
        assert self.server_quic.closed is None


def make_pair(*, webtransport: bool = False, datagrams: int | None = None) -> Pair:
    client_quic = FullQuic(True, datagrams)
    server_quic = FullQuic(False, datagrams)
    client = H3Connection(client_quic, webtransport)
    server = H3Connection(server_quic, webtransport)
    pair = Pair(client_quic, server_quic, client, server)
    assert pair.to_server() == []
    assert pair.to_client() == []
    pair.check()
    return pair


class Rude:
    """An `H3Connection` under test, opposite a peer that writes whatever bytes it likes.

    The peer is well-behaved only as far as a test wants: `greet()` sends proper SETTINGS.
    """

    def __init__(self, *, is_client: bool, webtransport: bool = False, datagrams: int | None = None) -> None:
        self.quic = FullQuic(is_client, datagrams)
        self.h3 = H3Connection(self.quic, webtransport)
        self.quic.sent.clear()
        self.encoder = Encoder()
        peer = 1 if is_client else 0
        self.control = 2 | peer
        self.encoder_stream = 6 | peer
        self.decoder_stream = 10 | peer
        self.spare = 14 | peer

    def greet(self, settings: dict[int, int] | None = None) -> Rude:
        self.data(self.control, b"\x00" + encode_frame(SETTINGS, encode_settings(settings or {})))
        assert self.quic.closed is None
        return self

    def data(self, stream_id: int, data: bytes, end: bool = False) -> list[H3Event]:
        return self.h3.handle_event(StreamDataReceived(data=data, end_stream=end, stream_id=stream_id))

    def reset(self, stream_id: int, error_code: int = 0) -> list[H3Event]:
        return self.h3.handle_event(StreamReset(error_code=error_code, stream_id=stream_id))

    def stop(self, stream_id: int, error_code: int = 0) -> list[H3Event]:
        return self.h3.handle_event(StopSendingReceived(error_code=error_code, stream_id=stream_id))

    def frame(self, stream_id: int, frame_type: int, payload: bytes, end: bool = False) -> list[H3Event]:
        return self.data(stream_id, encode_frame(frame_type, payload), end)

    def section(self, headers: Headers, stream_id: int = 0) -> bytes:
        """A field section without reference to the dynamic table."""
        instructions, section = self.encoder.encode(stream_id, headers)
        assert instructions == b""
        return section

    def headers(self, stream_id: int, headers: Headers, end: bool = False) -> list[H3Event]:
        return self.frame(stream_id, HEADERS, self.section(headers, stream_id), end)

    def request(self) -> None:
        """Under test is a client: let it send a request on stream 0."""
        self.h3.send_headers(0, REQUEST, end_stream=True)

    @property
    def error(self) -> int | None:
        """The code that the connection under test was closed with."""
        return None if self.quic.closed is None else self.quic.closed[0]


def varints(*numbers: int) -> bytes:
    return b"".join(encode_uint_var(number) for number in numbers)
