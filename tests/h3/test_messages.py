"""Requests and responses, as they arrive. Security rows 20 (field sections), 21 (blocked streams), 23 (smuggling)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.http3 import REQUEST, RESPONSE, Rude, make_pair, transfer, varints
from quicio.h3 import base
from quicio.h3.events import (
    DataReceived,
    H3Event,
    HeadersReceived,
    PushPromiseReceived,
    StreamFailed,
    WebTransportStreamDataReceived,
)
from quicio.h3.exceptions import ErrorCode
from quicio.h3.frames import DATA, HEADERS, PUSH_PROMISE, encode_frame
from quicio.h3.qpack import MAX_FIELD_SECTION_SIZE
from quicio.quic.events import StreamDataReceived

# A field section that waits for one insert into the dynamic table, and the encoder stream that brings it.
BLOCKED_REQUEST = bytes.fromhex("0200d1d7c180")  # GET, https, "/", and entry 0
BLOCKED_RESPONSE = bytes.fromhex("0200d980")  # 200, and entry 0
INSERT = bytes.fromhex("3fe11f") + bytes.fromhex("c00b") + b"example.org"  # :authority
INSERT_PLAIN = bytes.fromhex("3fe11f") + b"\x43abc\x03xyz"


def server() -> Rude:
    return Rude(is_client=False).greet()


def client() -> Rude:
    """A client that has sent a request on stream 0."""
    rude = Rude(is_client=True).greet()
    rude.request()
    return rude


# --- the sequence of a message ------------------------------------------------------------------------------------------


def test_a_request_with_content_and_trailers() -> None:
    rude = server()
    assert rude.headers(0, REQUEST) == [HeadersReceived(REQUEST, 0, False)]
    assert rude.frame(0, DATA, b"abc") == [DataReceived(b"abc", 0, False)]
    trailers = [(b"x-checksum", b"1")]
    assert rude.headers(0, trailers, end=True) == [HeadersReceived(trailers, 0, True)]
    assert rude.error is None


def test_fin_is_carried_by_the_last_event() -> None:
    rude = server()
    assert rude.headers(0, REQUEST, end=True) == [HeadersReceived(REQUEST, 0, True)]
    rude.headers(4, REQUEST)
    assert rude.frame(4, DATA, b"abc", end=True) == [DataReceived(b"abc", 4, True)]


def test_fin_that_comes_alone_or_behind_a_frame_without_event() -> None:
    rude = server()
    rude.headers(0, REQUEST)
    assert rude.data(0, b"", end=True) == [DataReceived(b"", 0, True)]
    rude.headers(4, REQUEST)
    assert rude.frame(4, DATA, b"", end=True) == [DataReceived(b"", 4, True)]
    rude.headers(8, REQUEST)
    assert rude.data(8, encode_frame(DATA, b"abc") + encode_frame(0x21, b"grease"), end=True) == [
        DataReceived(b"abc", 8, False),
        DataReceived(b"", 8, True),
    ]


def test_content_is_passed_on_as_it_arrives() -> None:
    rude = server()
    rude.headers(0, REQUEST)
    frame = encode_frame(DATA, b"a" * 1000)
    assert rude.data(0, frame[:3]) == []
    assert rude.data(0, frame[3:500]) == [DataReceived(b"a" * 497, 0, False)]
    assert rude.h3._stream[0].buffer == b""
    assert rude.data(0, frame[500:], end=True) == [DataReceived(b"a" * 503, 0, True)]


@pytest.mark.rfc("9114", "9", "MUST")
def test_unknown_frames_are_dropped_as_they_arrive() -> None:
    rude = server()
    unknown = encode_frame(0x21 + 0x1F * 1000, b"x" * 10_000)
    assert rude.data(0, unknown[:5_000]) == []
    assert rude.h3._stream[0].buffer == b""
    assert rude.data(0, unknown[5_000:] + encode_frame(HEADERS, rude.section(REQUEST)), end=True) == [
        HeadersReceived(REQUEST, 0, True)
    ]


@given(st.lists(st.integers(1, 40), max_size=30))
def test_where_the_pieces_are_cut_makes_no_difference(cuts: list[int]) -> None:
    rude = server()
    wire = (
        encode_frame(0x21, b"grease")
        + encode_frame(HEADERS, rude.section([*REQUEST, (b"content-length", b"11")]))
        + encode_frame(DATA, b"hello ")
        + encode_frame(0x40, b"")
        + encode_frame(DATA, b"world")
        + encode_frame(HEADERS, rude.section([(b"x-trailer", b"1")]))
    )
    events: list[H3Event] = []
    position = 0
    for cut in cuts:
        events += rude.data(0, wire[position : position + cut])
        position += cut
    events += rude.data(0, wire[position:], end=True)
    assert rude.error is None
    assert b"".join(event.data for event in events if isinstance(event, DataReceived)) == b"hello world"
    assert [event.headers[0][0] for event in events if isinstance(event, HeadersReceived)] == [b":method", b"x-trailer"]
    ends = [event for event in events if isinstance(event, DataReceived | HeadersReceived) and event.stream_ended]
    assert ends == [events[-1]]


def test_interim_responses_come_before_the_final_one() -> None:
    rude = client()
    interim = [(b":status", b"103"), (b"link", b"</a>")]
    assert rude.headers(0, interim) == [HeadersReceived(interim, 0, False)]
    assert rude.headers(0, [(b":status", b"100")]) == [HeadersReceived([(b":status", b"100")], 0, False)]
    assert rude.headers(0, RESPONSE, end=True) == [HeadersReceived(RESPONSE, 0, True)]


@pytest.mark.rfc("9114", "4.1", "MUST")
@pytest.mark.parametrize("is_client", [False, True])
def test_frames_in_a_wrong_order_are_errors_of_the_connection(is_client: bool) -> None:
    """h3spec: DATA before HEADERS, and the mirror for responses."""
    head = RESPONSE if is_client else REQUEST
    rude = client() if is_client else server()
    rude.frame(0, DATA, b"early")
    assert rude.error == ErrorCode.H3_FRAME_UNEXPECTED
    for late in (DATA, HEADERS):
        rude = client() if is_client else server()
        rude.headers(0, head)
        rude.headers(0, [(b"x-trailer", b"1")])
        rude.frame(0, late, b"")
        assert rude.error == ErrorCode.H3_FRAME_UNEXPECTED


def test_data_after_an_interim_response() -> None:
    rude = client()
    rude.headers(0, [(b":status", b"100")])
    rude.frame(0, DATA, b"early")
    assert rude.error == ErrorCode.H3_FRAME_UNEXPECTED


@pytest.mark.rfc("9114", "7.2", "MUST")
@pytest.mark.parametrize("is_client", [False, True])
@pytest.mark.parametrize("frame_type", [0x2, 0x3, 0x4, 0x6, 0x7, 0x8, 0x9, 0xD])
def test_frames_that_belong_to_the_control_stream_or_to_http_2(is_client: bool, frame_type: int) -> None:
    """h3spec: CANCEL_PUSH on a request stream, and all the others."""
    rude = client() if is_client else server()
    rude.frame(0, frame_type, b"\x00")
    assert rude.error == ErrorCode.H3_FRAME_UNEXPECTED


@pytest.mark.rfc("9114", "7.1", "MUST")
@pytest.mark.parametrize("wire", [b"\x00", b"\x01\x05abc", encode_frame(0x21, b"abc")[:-1], b"\x00\x40"])
def test_a_stream_that_ends_inside_a_frame(wire: bytes) -> None:
    rude = server()
    rude.headers(0, REQUEST)
    rude.data(0, wire, end=True)
    assert rude.error == ErrorCode.H3_FRAME_ERROR


@pytest.mark.rfc("9114", "4.1", "SHOULD")
def test_a_request_that_ends_before_it_is_one() -> None:
    rude = server()
    (event,) = rude.data(0, b"", end=True)
    assert isinstance(event, StreamFailed)
    assert event.error_code == ErrorCode.H3_REQUEST_INCOMPLETE
    assert rude.quic.resets() == {0: ErrorCode.H3_REQUEST_INCOMPLETE}
    assert 0 not in rude.quic.stopped  # nothing is left to stop
    assert rude.error is None
    assert 0 not in rude.h3._stream


@pytest.mark.parametrize("early", [[], [(b":status", b"103")]])
def test_a_response_that_ends_before_it_is_one(early: list[tuple[bytes, bytes]]) -> None:
    rude = client()
    if early:
        (failed,) = rude.headers(0, early, end=True)
    else:
        (failed,) = rude.data(0, b"", end=True)
    assert isinstance(failed, StreamFailed)
    assert failed.error_code == ErrorCode.H3_MESSAGE_ERROR
    assert rude.error is None


# --- malformed messages ---------------------------------------------------------------------------------------------------

BAD_REQUESTS = {
    "duplicated": [*REQUEST, REQUEST[0]],
    "missing": REQUEST[1:],
    "prohibited": [*REQUEST, (b":status", b"200")],
    "late": [*REQUEST[:3], (b"accept", b"*/*"), REQUEST[3]],
    "connection": [*REQUEST, (b"connection", b"close")],
    "uppercase": [*REQUEST, (b"Accept", b"*/*")],
}
BAD_RESPONSES = {
    "duplicated": [*RESPONSE[:1], *RESPONSE],
    "missing": RESPONSE[1:],
    "prohibited": [RESPONSE[0], (b":path", b"/")],
    "late": RESPONSE[::-1],
    "connection": [*RESPONSE, (b"connection", b"close")],
    "uppercase": [*RESPONSE, (b"Accept", b"*/*")],
}


@pytest.mark.rfc("9114", "4.1.2", "MUST")
@pytest.mark.parametrize("is_client", [False, True])
@pytest.mark.parametrize("fault", BAD_REQUESTS)
def test_a_malformed_message_costs_its_stream_and_no_more(is_client: bool, fault: str) -> None:
    """h3spec: pseudo-header fields duplicated, missing, prohibited, late; and the mirror for responses. Row 23."""
    rude = client() if is_client else server()
    (event,) = rude.headers(0, (BAD_RESPONSES if is_client else BAD_REQUESTS)[fault])
    assert isinstance(event, StreamFailed)
    assert (event.stream_id, event.error_code) == (0, ErrorCode.H3_MESSAGE_ERROR)
    assert rude.quic.stopped == {0: ErrorCode.H3_MESSAGE_ERROR}
    if not is_client:  # a client has sent its FIN
        assert rude.quic.resets() == {0: ErrorCode.H3_MESSAGE_ERROR}
    assert rude.frame(0, DATA, b"more") == []
    assert rude.data(0, b"\xff" * 100, end=True) == []
    assert 0 not in rude.h3._stream
    if not is_client:
        assert rude.headers(4, REQUEST, end=True) == [HeadersReceived(REQUEST, 4, True)]
    assert rude.error is None


def test_malformed_trailers() -> None:
    rude = server()
    rude.headers(0, REQUEST)
    (event,) = rude.headers(0, [(b":path", b"/")])
    assert isinstance(event, StreamFailed)
    assert rude.error is None


def test_what_came_before_the_fault_is_given_out() -> None:
    rude = server()
    wire = encode_frame(HEADERS, rude.section([*REQUEST, (b"content-length", b"3")])) + encode_frame(DATA, b"abcd")
    first, second = rude.data(0, wire, end=True)
    assert isinstance(first, HeadersReceived)
    assert not first.stream_ended
    assert isinstance(second, StreamFailed)


@pytest.mark.rfc("9114", "4.1.2", "MUST")
@pytest.mark.parametrize(
    ("frames", "ends_by_itself"),
    [([b"abcd"], False), ([b"ab", b"cd"], False), ([b"ab"], True), ([], True), ([b"ab", b""], True)],
)
def test_content_of_another_length_than_announced(frames: list[bytes], ends_by_itself: bool) -> None:
    """Row 23: content-length is compared with the sum of DATA, both ways."""
    rude = server()
    events = rude.headers(0, [*REQUEST, (b"content-length", b"3")], end=not frames)
    for number, frame in enumerate(frames):
        events += rude.frame(0, DATA, frame, end=ends_by_itself and number == len(frames) - 1)
    failed = events[-1]
    assert isinstance(failed, StreamFailed)
    assert failed.error_code == ErrorCode.H3_MESSAGE_ERROR
    assert not any(isinstance(event, DataReceived | HeadersReceived) and event.stream_ended for event in events)
    assert rude.error is None


def test_content_of_the_announced_length() -> None:
    rude = server()
    rude.headers(0, [*REQUEST, (b"content-length", b"3")])
    assert rude.frame(0, DATA, b"abc", end=True) == [DataReceived(b"abc", 0, True)]
    rude.headers(4, [*REQUEST, (b"content-length", b"0")])
    assert rude.data(4, b"", end=True) == [DataReceived(b"", 4, True)]


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", b"200"), (b"GET", b"204"), (b"GET", b"304")])
def test_responses_that_never_have_content(method: bytes, status: bytes) -> None:
    response = [(b":status", status), (b"content-length", b"100")]
    for with_content in (False, True):
        rude = Rude(is_client=True).greet()
        rude.h3.send_headers(0, [(b":method", method), *REQUEST[1:]], end_stream=True)
        assert rude.headers(0, response, end=not with_content) == [HeadersReceived(response, 0, not with_content)]
        if with_content:
            (failed,) = rude.frame(0, DATA, b"x")
            assert isinstance(failed, StreamFailed)


# --- CONNECT --------------------------------------------------------------------------------------------------------------

CONNECT = [(b":method", b"CONNECT"), (b":authority", b"example.org:443")]


@pytest.mark.rfc("9114", "4.4", "MUST")
def test_a_tunnel_carries_data_and_nothing_else() -> None:
    pair = make_pair()
    pair.client.send_headers(0, CONNECT)
    assert pair.to_server() == [HeadersReceived(CONNECT, 0, False)]
    pair.server.send_headers(0, [(b":status", b"200")])
    pair.to_client()
    for sender, receive in ((pair.client, pair.to_server), (pair.server, pair.to_client)):
        sender.send_data(0, b"abc", end_stream=False)
        assert receive() == [DataReceived(b"abc", 0, False)]
    section = Rude(is_client=True).section([(b"x-trailer", b"1")])
    for h3, quic in ((pair.server, pair.server_quic), (pair.client, pair.client_quic)):
        h3.handle_event(StreamDataReceived(encode_frame(HEADERS, section), False, 0))
        assert quic.closed is not None
        assert quic.closed[0] == ErrorCode.H3_FRAME_UNEXPECTED


def test_a_tunnel_carries_no_promises() -> None:
    rude = Rude(is_client=True).greet()
    rude.h3.send_headers(0, CONNECT)
    rude.headers(0, [(b":status", b"200")])
    rude.frame(0, PUSH_PROMISE, varints(0) + rude.section(REQUEST))
    assert rude.error == ErrorCode.H3_FRAME_UNEXPECTED


def test_a_refused_tunnel_is_a_plain_response() -> None:
    pair = make_pair()
    pair.client.send_headers(0, CONNECT)
    pair.to_server()
    pair.server.send_headers(0, [(b":status", b"403"), (b"content-length", b"2")])
    pair.server.send_data(0, b"no", end_stream=False)
    pair.server.send_headers(0, [(b"x-trailer", b"1")], end_stream=True)
    assert len(pair.to_client()) == 3
    pair.check()


# --- field sections that are too large --------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["frame", "lines", "size"])
def test_a_request_with_too_large_a_section_is_answered_431(how: str) -> None:
    """Security row 20: the encoded size, the number of lines and the decoded size are bounded."""
    rude = server()
    if how == "frame":
        wire = varints(HEADERS, MAX_FIELD_SECTION_SIZE + 1)
    elif how == "lines":
        wire = encode_frame(HEADERS, b"\x00\x00" + b"\xd1" * 3000)
    else:
        wire = encode_frame(HEADERS, rude.section([*REQUEST, (b"x", b"a" * 65000), (b"y", b"a" * 1000)]))
    (failed,) = rude.data(0, wire)
    assert isinstance(failed, StreamFailed)
    assert failed.error_code == ErrorCode.H3_EXCESSIVE_LOAD
    assert rude.quic.resets() == {}
    assert rude.quic.stopped == {0: ErrorCode.H3_NO_ERROR}
    other = Rude(is_client=True)
    other.request()
    (answer,) = [event for event in transfer(rude.quic, other.h3) if isinstance(event, HeadersReceived)]
    assert answer == HeadersReceived([(b":status", b"431")], 0, True)
    assert rude.data(0, b"\x00" * 1000) == []
    assert rude.error is None


def test_trailers_have_the_same_limit() -> None:
    """Security row 20: trailers too."""
    rude = server()
    rude.headers(0, REQUEST)
    (failed,) = rude.data(0, varints(HEADERS, MAX_FIELD_SECTION_SIZE + 1))
    assert isinstance(failed, StreamFailed)
    assert rude.quic.resets() == {0: ErrorCode.H3_EXCESSIVE_LOAD}
    assert rude.error is None


@pytest.mark.parametrize("frame_type", [HEADERS, PUSH_PROMISE])
def test_responses_and_promises_have_the_same_limit(frame_type: int) -> None:
    """Security row 20: push too."""
    rude = client()
    (failed,) = rude.data(0, varints(frame_type, MAX_FIELD_SECTION_SIZE + 1))
    assert isinstance(failed, StreamFailed)
    assert rude.quic.stopped == {0: ErrorCode.H3_EXCESSIVE_LOAD}
    assert rude.error is None


def test_an_undecodable_section_is_an_error_of_the_connection() -> None:
    rude = server()
    rude.frame(0, HEADERS, b"\x00\x00\xff\xff\xff")
    assert rude.error == ErrorCode.QPACK_DECOMPRESSION_FAILED


# --- sections that wait for the encoder stream ------------------------------------------------------------------------------


def test_a_blocked_request_goes_on_when_the_table_is_there() -> None:
    rude = server()
    assert rude.frame(0, HEADERS, BLOCKED_REQUEST) == []
    assert rude.frame(0, DATA, b"abc") == []
    assert rude.frame(0, DATA, b"def", end=True) == []
    assert rude.frame(4, HEADERS, BLOCKED_REQUEST, end=True) == []
    events = rude.data(rude.encoder_stream, b"\x02" + INSERT)
    fields = [(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/"), (b":authority", b"example.org")]
    assert events == [
        HeadersReceived(fields, 0, False),
        DataReceived(b"abc", 0, False),
        DataReceived(b"def", 0, True),
        HeadersReceived(fields, 4, True),
    ]
    assert rude.h3._held_bytes == 0
    assert rude.quic.on_stream(rude.h3._local_decoder_stream_id) == b"\x80\x84"


def test_a_blocked_response_with_blocked_trailers() -> None:
    rude = client()
    assert rude.frame(0, HEADERS, BLOCKED_RESPONSE) == []
    trailers = bytes.fromhex("0300") + b"\x80"  # needs a second insert
    assert rude.data(0, encode_frame(DATA, b"abc") + encode_frame(HEADERS, trailers), end=True) == []
    first = rude.data(rude.encoder_stream, b"\x02" + INSERT_PLAIN)
    assert first == [
        HeadersReceived([(b":status", b"200"), (b"abc", b"xyz")], 0, False),
        DataReceived(b"abc", 0, False),
    ]
    assert rude.data(rude.encoder_stream, b"\x43uvw\x01r") == [HeadersReceived([(b"uvw", b"r")], 0, True)]
    assert 0 not in rude.h3._stream


def test_a_malformed_message_that_was_blocked_costs_its_stream() -> None:
    rude = server()
    rude.frame(0, HEADERS, bytes.fromhex("0200d180"))  # GET, and no path
    rude.frame(4, HEADERS, BLOCKED_REQUEST, end=True)
    failed, fine = rude.data(rude.encoder_stream, b"\x02" + INSERT)
    assert isinstance(failed, StreamFailed)
    assert isinstance(fine, HeadersReceived)
    assert rude.error is None


def test_a_blocked_stream_that_is_reset_is_forgotten() -> None:
    """Security row 21: cleanup on reset, with the cancellation that RFC 9204 §2.2.2.2 demands."""
    rude = server()
    rude.frame(0, HEADERS, BLOCKED_REQUEST)
    rude.frame(0, DATA, b"abc")
    assert rude.h3._held_bytes > 0
    assert rude.reset(0) == []
    assert rude.quic.on_stream(rude.h3._local_decoder_stream_id) == b"\x40"
    assert rude.h3._held_bytes == 0
    assert rude.data(rude.encoder_stream, b"\x02" + INSERT) == []
    assert rude.error is None


def test_too_many_blocked_streams() -> None:
    """Security row 21: as many as announced, and one more ends the connection."""
    rude = server()
    for number in range(16):
        rude.frame(4 * number, HEADERS, BLOCKED_REQUEST)
    assert rude.error is None
    rude.frame(64, HEADERS, BLOCKED_REQUEST)
    assert rude.error == ErrorCode.QPACK_DECOMPRESSION_FAILED


def test_what_blocked_streams_hold_is_bounded() -> None:
    """Security row 21: bytes behind blocked sections are counted for all streams together."""
    rude = server()
    piece = bytes(256 * 1024)
    held = 0
    for stream_id in (0, 4):
        rude.frame(stream_id, HEADERS, BLOCKED_REQUEST)
        for _ in range(16):
            if held + len(piece) > base.MAX_BLOCKED_BYTES:
                break
            assert rude.data(stream_id, piece) == []
            held += len(piece)
    assert rude.h3._held_bytes == base.MAX_BLOCKED_BYTES
    (failed,) = rude.data(4, b"\x00")
    assert isinstance(failed, StreamFailed)
    assert failed.error_code == ErrorCode.H3_EXCESSIVE_LOAD
    assert rude.h3._held_bytes == 16 * len(piece)  # the other stream keeps what it has
    assert rude.error is None


# --- promises ---------------------------------------------------------------------------------------------------------------


def test_a_promise() -> None:
    rude = client()
    promise = varints(3) + rude.section(REQUEST)
    assert rude.frame(0, PUSH_PROMISE, promise) == [PushPromiseReceived(REQUEST, 3, 0)]
    assert rude.headers(0, RESPONSE) == [HeadersReceived(RESPONSE, 0, False)]
    assert rude.frame(0, PUSH_PROMISE, promise) == [PushPromiseReceived(REQUEST, 3, 0)]


def test_a_blocked_promise() -> None:
    rude = client()
    assert rude.frame(0, PUSH_PROMISE, varints(1) + BLOCKED_REQUEST) == []
    (event,) = rude.data(rude.encoder_stream, b"\x02" + INSERT)
    assert isinstance(event, PushPromiseReceived)
    assert (event.push_id, event.stream_id) == (1, 0)


@pytest.mark.rfc("9114", "7.2.5", "MUST")
def test_promises_that_must_not_be() -> None:
    section = Rude(is_client=True).section
    cases = [
        (varints(8) + section(REQUEST), ErrorCode.H3_ID_ERROR),
        (b"", ErrorCode.H3_FRAME_ERROR),
        (b"\x40", ErrorCode.H3_FRAME_ERROR),
    ]
    for payload, code in cases:
        rude = client()
        rude.frame(0, PUSH_PROMISE, payload)
        assert rude.error == code
    rude = client()
    rude.frame(0, PUSH_PROMISE, varints(0) + section(REQUEST))
    rude.frame(0, PUSH_PROMISE, varints(0) + section([*REQUEST, (b"x", b"1")]))
    assert rude.error == ErrorCode.H3_GENERAL_PROTOCOL_ERROR
    rude = server()
    rude.headers(0, REQUEST)
    rude.frame(0, PUSH_PROMISE, varints(0) + section(REQUEST))
    assert rude.error == ErrorCode.H3_FRAME_UNEXPECTED


def test_a_malformed_promise_costs_the_stream() -> None:
    rude = client()
    (failed,) = rude.frame(0, PUSH_PROMISE, varints(0) + rude.section(REQUEST[1:]))
    assert isinstance(failed, StreamFailed)
    assert rude.error is None


@pytest.mark.rfc("9114", "4.6", "SHOULD")
def test_a_promise_of_something_unsafe_is_called_off() -> None:
    rude = client()
    rude.quic.sent.clear()
    assert rude.frame(0, PUSH_PROMISE, varints(2) + rude.section([(b":method", b"POST"), *REQUEST[1:]])) == []
    assert rude.quic.on_stream(rude.h3._local_control_stream_id) == b"\x03\x01\x02"
    assert rude.data(rude.spare, varints(1, 2) + encode_frame(HEADERS, rude.section(RESPONSE))) == []
    assert rude.quic.stopped == {rude.spare: ErrorCode.H3_REQUEST_CANCELLED}
    assert rude.frame(0, PUSH_PROMISE, varints(2) + rude.section(REQUEST)) == []


# --- WebTransport -----------------------------------------------------------------------------------------------------------


def test_a_bidirectional_webtransport_stream() -> None:
    rude = Rude(is_client=False, webtransport=True, datagrams=1200).greet()
    assert rude.data(4, b"\x40") == []
    assert rude.data(4, b"\x41\x00abc") == [WebTransportStreamDataReceived(b"abc", 4, False, 0)]
    assert rude.data(4, b"\x01\x05def", end=True) == [WebTransportStreamDataReceived(b"\x01\x05def", 4, True, 0)]
    assert 4 not in rude.h3._stream
    assert rude.data(8, varints(0x41, 0), end=True) == [WebTransportStreamDataReceived(b"", 8, True, 0)]
    rude.data(12, varints(0x41, 1))
    assert rude.error == ErrorCode.H3_ID_ERROR


def test_without_webtransport_the_signal_is_an_unknown_frame() -> None:
    rude = server()
    assert rude.data(0, varints(0x41, 4) + b"abcd" + encode_frame(HEADERS, rude.section(REQUEST)), end=True) == [
        HeadersReceived(REQUEST, 0, True)
    ]


def test_the_signal_counts_at_the_front_only() -> None:
    rude = Rude(is_client=False, webtransport=True, datagrams=1200).greet()
    rude.headers(0, REQUEST)
    assert rude.data(0, varints(0x41, 4) + b"abcd", end=True) == [DataReceived(b"", 0, True)]


def test_streams_that_a_server_opens() -> None:
    rude = Rude(is_client=True).greet()
    rude.data(1, b"")
    assert rude.error == ErrorCode.H3_STREAM_CREATION_ERROR
    rude = Rude(is_client=True, webtransport=True, datagrams=1200).greet()
    assert rude.data(1, varints(0x41, 0) + b"abc") == [WebTransportStreamDataReceived(b"abc", 1, False, 0)]
    rude.headers(5, REQUEST)
    assert rude.error == ErrorCode.H3_STREAM_CREATION_ERROR
