"""`H0Connection`: requests and answers of HTTP/0.9, however they are cut, and what is none."""

from __future__ import annotations

from typing import Any

import pytest

from quicio.h0.connection import H0_ALPN, MAX_REQUEST_LINE, H0Connection
from quicio.h3.events import DataReceived, H3Event, HeadersReceived
from quicio.quic.events import PingAcknowledged, StopSendingReceived, StreamDataReceived, StreamReset


class Configuration:
    def __init__(self, is_client: bool) -> None:
        self.is_client = is_client


class Quic:
    """What an `H0Connection` needs of a connection, and a note of what it did with it."""

    def __init__(self, is_client: bool) -> None:
        self.configuration = Configuration(is_client)
        self.calls: list[tuple[Any, ...]] = []
        self.credit = 0

    def send_stream_data(self, stream_id: int, data: bytes, end_stream: bool = False) -> None:
        self.calls.append(("send", stream_id, data, end_stream))

    def stop_stream(self, stream_id: int, error_code: int) -> None:
        self.calls.append(("stop", stream_id, error_code))

    def reset_stream(self, stream_id: int, error_code: int) -> None:
        self.calls.append(("reset", stream_id, error_code))

    def consume(self, stream_id: int, size: int) -> None:
        self.credit += size


def make(is_client: bool) -> tuple[H0Connection, Quic]:
    quic = Quic(is_client)
    return H0Connection(quic), quic


def feed(http: H0Connection, data: bytes, is_end: bool = False, stream_id: int = 0) -> list[H3Event]:
    return http.handle_event(StreamDataReceived(data=data, end_stream=is_end, stream_id=stream_id))


def request(path: bytes, stream_id: int = 0, method: bytes = b"GET") -> HeadersReceived:
    return HeadersReceived(headers=[(b":method", method), (b":path", path)], stream_id=stream_id, stream_ended=False)


def test_the_name_of_the_protocol() -> None:
    assert H0_ALPN == ["hq-interop"]


def test_a_client_asks_with_one_line() -> None:
    http, quic = make(True)
    headers = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", b"/x")]
    http.send_headers(0, headers, end_stream=True)
    http.send_data(0, b"", end_stream=True)  # there is nothing more to send
    assert quic.calls == [("send", 0, b"GET /x\r\n", True)]


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b":method", b"GET")],
        [(b":path", b"/")],
        [(b":method", b"GET"), (b":path", b"/\r\nGET /y")],
        [(b":method", b"G ET"), (b":path", b"/")],
    ],
)
def test_a_request_that_is_none_is_refused(headers: list[tuple[bytes, bytes]]) -> None:
    http, quic = make(True)
    with pytest.raises(ValueError, match="needs :method and :path"):
        http.send_headers(0, headers)
    assert quic.calls == []


def test_a_client_reads_content() -> None:
    http, _ = make(True)
    assert feed(http, b"a") == [
        HeadersReceived(headers=[], stream_id=0, stream_ended=False),
        DataReceived(data=b"a", stream_id=0, stream_ended=False),
    ]
    assert feed(http, b"b") == [DataReceived(data=b"b", stream_id=0, stream_ended=False)]
    assert feed(http, b"", True) == [DataReceived(data=b"", stream_id=0, stream_ended=True)]
    assert not http._headers_received


def test_a_server_answers() -> None:
    http, quic = make(False)
    http.send_headers(0, [(b":status", b"200")])
    http.send_data(0, b"content", end_stream=False)
    http.send_data(0, b"", end_stream=True)
    http.send_headers(4, [(b":status", b"404")], end_stream=True)
    assert quic.calls == [("send", 0, b"content", False), ("send", 0, b"", True), ("send", 4, b"", True)]


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n", b""])
def test_a_server_reads_a_request(line_end: bytes) -> None:
    http, _ = make(False)
    assert feed(http, b"GET /a b" + line_end, True) == [
        request(b"/a b"),
        DataReceived(data=b"", stream_id=0, stream_ended=True),
    ]
    assert not http._headers_received


def test_a_request_cut_anywhere() -> None:
    text = b"GET /index.html\r\n"
    for cut in range(1, len(text)):
        http, quic = make(False)
        found = feed(http, text[:cut]) + feed(http, text[cut:]) + feed(http, b"", True)
        assert [event for event in found if isinstance(event, HeadersReceived)] == [request(b"/index.html")]
        assert found[-1] == DataReceived(data=b"", stream_id=0, stream_ended=True)
        assert quic.credit == len(text)  # each byte that is in no event was consumed
        assert not http._buffer


def test_what_follows_a_request_line_is_content() -> None:
    http, quic = make(False)
    assert feed(http, b"POST /q\r\nmore") == [
        request(b"/q", method=b"POST"),
        DataReceived(data=b"more", stream_id=0, stream_ended=False),
    ]
    assert quic.credit == len(b"POST /q\r\n")


@pytest.mark.parametrize("junk", [b"", b"GET", b"/only\r\n", b" /\r\n", b"GET \r\n"])
def test_what_is_no_request_costs_its_stream(junk: bytes) -> None:
    http, quic = make(False)
    assert feed(http, junk, True) == []
    assert [call[0] for call in quic.calls] == ["stop", "reset"]
    assert not http._buffer
    assert not http._headers_received


def test_a_request_line_is_bounded() -> None:
    """A peer that never ends its line cannot have us keep it (security: every buffer has a limit)."""
    http, quic = make(False)
    largest = 0
    for _ in range(100):
        feed(http, b"G" * 1000)
        largest = max(largest, len(http._buffer.get(0, b"")))
        if quic.calls:
            break
    assert 0 < largest <= MAX_REQUEST_LINE
    assert [call[0] for call in quic.calls] == ["stop", "reset"]
    assert not http._buffer
    http, quic = make(False)
    assert feed(http, b"GET /" + b"a" * MAX_REQUEST_LINE + b"\r\n", True) == []
    assert quic.calls


@pytest.mark.parametrize("is_client", [True, False])
def test_other_events_give_nothing(is_client: bool) -> None:
    http, quic = make(is_client)
    for stream_id in (1, 2, 3):  # not requests
        assert feed(http, b"GET /\r\n", True, stream_id) == []
    assert http.handle_event(PingAcknowledged(uid=1)) == []
    assert http.handle_event(StopSendingReceived(error_code=1, stream_id=0)) == []
    assert quic.calls == []


def test_a_reset_stream_is_forgotten() -> None:
    http, _ = make(False)
    feed(http, b"GET /half")
    assert http.handle_event(StreamReset(error_code=1, stream_id=0)) == []
    assert not http._buffer


def test_a_connection_without_consume_and_stop() -> None:
    """Any object will do that has a configuration and `send_stream_data`."""

    class Least:
        configuration = Configuration(False)

    http = H0Connection(Least())
    assert feed(http, b"GE") == []
    assert feed(http, b"T /\r\n") == [request(b"/"), DataReceived(data=b"", stream_id=0, stream_ended=False)]
    assert feed(http, b"nothing\r\n", True, 4) == []


def test_credit_that_is_not_held_is_left_alone() -> None:
    class Unheld(Quic):
        def consume(self, stream_id: int, size: int) -> None:
            raise ValueError("grants credit by itself")

    http = H0Connection(Unheld(False))
    assert feed(http, b"GET /\r\n", True)[0] == request(b"/")
