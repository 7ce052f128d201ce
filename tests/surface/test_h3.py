"""`H3Connection` and `H0Connection`, documented and subclassed, over a real connection and over a fake, on both libraries."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from helpers.library import Library, Pair

H3 = {"alpn_protocols": ["h3"], "max_datagram_frame_size": 65536}
REQUEST = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", b"/")]
PUSHED = [*REQUEST[:3], (b":path", b"/style")]


class FakeQuic:
    """The nine names that mitmproxy's stand-in has, and no other."""

    def __init__(self, is_client: bool) -> None:
        self.configuration = SimpleNamespace(is_client=is_client, max_datagram_frame_size=None)
        self._quic_logger = None
        self._remote_max_datagram_frame_size = 65536
        self.sent: list[tuple[int, bytes, bool]] = []
        self.closed: list[Any] = []
        self._next = {False: 0 if is_client else 1, True: 2 if is_client else 3}

    def close(self, error_code: int = 0, frame_type: int | None = None, reason_phrase: str = "") -> None:
        self.closed.append((int(error_code), reason_phrase))

    def get_next_available_stream_id(self, is_unidirectional: bool = False) -> int:
        return self._next[is_unidirectional]

    def next_event(self) -> None:
        return None

    def reset_stream(self, stream_id: int, error_code: int) -> None: ...

    def send_datagram_frame(self, data: bytes) -> None:
        self.sent.append((-1, data, False))

    def send_stream_data(self, stream_id: int, data: bytes, end_stream: bool = False) -> None:
        kind = bool(stream_id & 2)
        if stream_id == self._next[kind]:
            self._next[kind] += 4
        self.sent.append((stream_id, data, end_stream))


def carry(library: Library, sender: FakeQuic, receiver: Any) -> list[Any]:
    """What one side sent, as events of the other."""
    events = library("quic.events")
    result: list[Any] = []
    for stream_id, data, is_end in sender.sent:
        if stream_id < 0:
            event = events.DatagramFrameReceived(data=data)
        else:
            event = events.StreamDataReceived(data=data, end_stream=is_end, stream_id=stream_id)
        result += receiver.handle_event(event)
    sender.sent.clear()
    return result


class Web:
    """HTTP/3 on a connected pair, with what each side was told."""

    def __init__(self, library: Library, client_class: Any = None, **options: Any) -> None:
        self.pair = Pair(library, H3, H3).connected()
        make = library("h3.connection").H3Connection
        self.client, self.server = (
            (client_class or make)(self.pair.client, **options),
            make(self.pair.server, **options),
        )
        self.told: list[Any] = []
        self.heard: list[Any] = []
        self.pair.client_handler = lambda event: self.told.extend(self.client.handle_event(event))
        self.pair.server_handler = lambda event: self.heard.extend(self.server.handle_event(event))
        self.pair.run()


def test_a_request_and_its_response(library: Library) -> None:
    events = library("h3.events")
    web = Web(library)
    stream_id = web.pair.client.get_next_available_stream_id()
    web.client.send_headers(stream_id=stream_id, headers=REQUEST)
    web.client.send_data(stream_id=stream_id, data=b"question", end_stream=True)
    web.pair.run()
    assert web.heard == [
        events.HeadersReceived(headers=REQUEST, stream_id=stream_id, stream_ended=False),
        events.DataReceived(data=b"question", stream_id=stream_id, stream_ended=True),
    ]
    web.server.send_headers(stream_id, [(b":status", b"200"), (b"x-name", b"value")])
    web.server.send_data(stream_id, b"answer", False)
    web.server.send_headers(stream_id, [(b"x-trailer", b"1")], True)
    web.pair.run()
    assert [type(event).__name__ for event in web.told] == ["HeadersReceived", "DataReceived", "HeadersReceived"]
    assert web.told[0].headers == [(b":status", b"200"), (b"x-name", b"value")]
    assert (web.told[2].headers, web.told[2].stream_ended, web.told[2].push_id) == ([(b"x-trailer", b"1")], True, None)


def test_settings_are_exchanged(library: Library) -> None:
    setting = library("h3.connection").Setting
    web = Web(library)
    assert web.client.sent_settings == web.server.received_settings
    assert web.client.received_settings[setting.QPACK_MAX_TABLE_CAPACITY] == 4096
    assert web.server.sent_settings[setting.ENABLE_CONNECT_PROTOCOL] == 1


def test_a_push(library: Library) -> None:
    events = library("h3.events")
    web = Web(library)
    web.client.send_headers(0, REQUEST, end_stream=True)
    web.pair.run()
    stream_id = web.server.send_push_promise(stream_id=0, headers=PUSHED)
    web.server.send_headers(stream_id, [(b":status", b"200")])
    web.server.send_data(stream_id, b"css", end_stream=True)
    web.pair.run()
    assert web.told[0] == events.PushPromiseReceived(headers=PUSHED, push_id=0, stream_id=0)
    assert [event.push_id for event in web.told[1:]] == [0, 0]
    assert web.told[2].data == b"css"
    with pytest.raises(library("h3.exceptions").InvalidStreamTypeError):
        web.server.send_push_promise(3, PUSHED)


def test_pushes_are_limited_by_the_client(library: Library) -> None:
    errors = library("h3.exceptions")
    web = Web(library)
    web.client.send_headers(0, REQUEST)
    web.pair.run()
    with pytest.raises(errors.NoAvailablePushIDError):
        for _ in range(20):
            web.server.send_push_promise(0, PUSHED)
    assert issubclass(errors.NoAvailablePushIDError, errors.H3Error)


def test_http_datagrams(library: Library) -> None:
    web = Web(library, enable_webtransport=True)
    web.client.send_headers(0, REQUEST)
    web.client.send_datagram(stream_id=0, data=b"fast")
    web.pair.run()
    assert library("h3.events").DatagramReceived(data=b"fast", stream_id=0) in web.heard
    with pytest.raises(library("h3.exceptions").InvalidStreamTypeError):
        web.client.send_datagram(2, b"x")


CONNECT = [
    (b":method", b"CONNECT"),
    (b":scheme", b"https"),
    (b":authority", b"localhost"),
    (b":path", b"/wt"),
    (b":protocol", b"webtransport"),
]


def test_webtransport_streams_of_both_kinds(library: Library) -> None:
    told = library("h3.events").WebTransportStreamDataReceived
    web = Web(library, enable_webtransport=True)
    web.client.send_headers(0, CONNECT)
    web.pair.run()
    web.server.send_headers(0, [(b":status", b"200")])
    bidi = web.client.create_webtransport_stream(session_id=0)
    uni = web.client.create_webtransport_stream(session_id=0, is_unidirectional=True)
    web.pair.client.send_stream_data(bidi, b"both ways", True)
    web.pair.client.send_stream_data(uni, b"one way", True)
    web.pair.run()
    found = [event for event in web.heard if isinstance(event, told)]
    assert {(event.stream_id, event.session_id) for event in found} == {(bidi, 0), (uni, 0)}
    assert {(event.data, event.stream_ended) for event in found if event.data} == {
        (b"both ways", True),
        (b"one way", True),
    }


@pytest.mark.parametrize("is_marked", [False, True])
def test_what_comes_back_on_a_webtransport_stream(library: Library, is_marked: bool) -> None:
    """aioquic parses it as HTTP/3 unless the program marks the stream; both work here."""
    if library.root == "aioquic" and not is_marked:
        is_marked = True
    web = Web(library, enable_webtransport=True)
    web.client.send_headers(0, CONNECT)
    web.pair.run()
    web.server.send_headers(0, [(b":status", b"200")])
    stream_id = web.client.create_webtransport_stream(0)
    if is_marked:
        with web.client._get_or_create_stream(stream_id) as stream:
            stream.frame_type = library("h3.connection").FrameType.WEBTRANSPORT_STREAM
            stream.session_id = 0
    web.pair.client.send_stream_data(stream_id, b"ask")
    web.pair.run()
    web.pair.server.send_stream_data(stream_id, b"reply", True)
    web.pair.run()
    assert web.told[-1].data == b"reply"
    assert web.told[-1].session_id == 0


def test_any_duck_typed_connection_will_do(library: Library) -> None:
    """mitmproxy: nine names; SETTINGS and three streams go out at once."""
    make = library("h3.connection").H3Connection
    quics = FakeQuic(True), FakeQuic(False)
    client, server = (make(quic, False) for quic in quics)
    assert {stream_id for stream_id, _, _ in quics[0].sent} == {2, 6, 10}
    assert carry(library, quics[0], server) == []
    assert carry(library, quics[1], client) == []
    client.send_headers(0, REQUEST, True)
    (headers,) = carry(library, quics[0], server)
    assert (headers.headers, headers.stream_ended) == (REQUEST, True)
    assert (quics[0].closed, quics[1].closed) == ([], [])


def test_events_of_no_interest_give_nothing(library: Library) -> None:
    events = library("quic.events")
    h3 = library("h3.connection").H3Connection(FakeQuic(True))
    assert h3.handle_event(events.PingAcknowledged(uid=1)) == []
    assert h3.handle_event(events.ProtocolNegotiated(alpn_protocol="h3")) == []
    assert h3.handle_event(events.QuicEvent()) == []


def test_a_violation_closes_the_connection_with_its_code(library: Library) -> None:
    module = library("h3.connection")
    quic = FakeQuic(False)
    h3 = module.H3Connection(quic)
    event = library("quic.events").StreamDataReceived(data=b"\x00\x00\x00", end_stream=False, stream_id=2)
    assert h3.handle_event(event) == []
    assert quic.closed[0][0] == module.ErrorCode.H3_MISSING_SETTINGS
    assert h3._is_done is True
    assert h3.handle_event(event) == []


def test_a_subclass_adds_and_refuses_settings(library: Library) -> None:
    """wpt, Chrome, pywebtransport: `_get_local_settings` and `_validate_settings` overridden."""
    module = library("h3.connection")
    seen: list[dict[int, int]] = []

    class Custom(module.H3Connection):  # type: ignore[misc, name-defined]  # its class is known at run time
        def _get_local_settings(self) -> dict[int, int]:
            return dict(super()._get_local_settings()) | {0x2B64: 7}

        def _validate_settings(self, settings: dict[int, int]) -> None:
            seen.append(settings)
            super()._validate_settings(settings)

    web = Web(library, Custom)
    assert web.server.received_settings[0x2B64] == 7
    assert web.client.sent_settings[0x2B64] == 7
    assert seen == [web.client.received_settings]


def test_a_subclass_reads_what_it_stands_on(library: Library) -> None:
    """aiomoqt, pywebtransport, aioquic's examples."""
    web = Web(library)
    assert web.client._quic is web.pair.client
    assert (web.client._is_done, web.client._max_table_capacity, web.client._blocked_streams) == (False, 4096, 16)
    assert (web.client._local_control_stream_id, web.client._local_encoder_stream_id) == (2, 6)
    assert (web.client._peer_control_stream_id, web.client._peer_decoder_stream_id) == (3, 11)
    web.client.send_headers(0, REQUEST)
    assert web.client._encoder_bytes_sent >= 0
    assert 0 in web.client._stream


def test_misuse_of_messages(library: Library) -> None:
    module = library("h3.connection")
    h3 = module.H3Connection(FakeQuic(True))
    with pytest.raises(module.FrameUnexpected):
        h3.send_data(0, b"before the headers", False)
    h3.send_headers(0, REQUEST)
    h3.send_headers(0, [(b"x-trailer", b"1")], end_stream=True)
    with pytest.raises(module.FrameUnexpected):
        h3.send_headers(0, [(b"x-trailer", b"2")])
    assert issubclass(module.FrameUnexpected, module.ProtocolError)


def test_functions_of_the_module(library: Library) -> None:
    module = library("h3.connection")
    settings = {module.Setting.QPACK_MAX_TABLE_CAPACITY: 10, module.Setting.DUMMY: 1}
    assert module.parse_settings(module.encode_settings(settings)) == settings
    assert module.encode_frame(module.FrameType.DATA, b"abc") == b"\x00\x03abc"
    assert module.is_interim_response([(b":status", b"103")]) is True
    assert module.is_interim_response([(b":status", b"200")]) is False
    module.validate_push_promise_headers(headers=REQUEST)
    module.validate_trailers(headers=[(b"x", b"y")])
    for bad in ([(b":status", b"200")], [(b"Upper", b"x")]):
        with pytest.raises(module.MessageError):
            module.validate_trailers(bad)
    with pytest.raises(module.SettingsError):
        module.parse_settings(b"\x02\x01")


def test_http_09(library: Library) -> None:
    """The same events as HTTP/3: an application can speak both."""
    module = library("h0.connection")
    assert module.H0_ALPN == ["hq-interop"]
    pair = Pair(library).connected()
    client, server = module.H0Connection(pair.client), module.H0Connection(pair.server)
    told: list[Any] = []
    heard: list[Any] = []
    pair.client_handler = lambda event: told.extend(client.handle_event(event))
    pair.server_handler = lambda event: heard.extend(server.handle_event(event))
    client.send_headers(stream_id=0, headers=[(b":method", b"GET"), (b":path", b"/file")], end_stream=True)
    pair.run()
    assert heard[0].headers == [(b":method", b"GET"), (b":path", b"/file")]
    server.send_headers(0, [(b":status", b"200")])
    server.send_data(0, b"content", end_stream=True)
    pair.run()
    assert type(told[0]).__name__ == "HeadersReceived"
    assert b"".join(event.data for event in told[1:]) == b"content"
    assert told[-1].stream_ended is True
