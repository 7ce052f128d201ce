"""`H3Connection`: commands, control streams, events. Security rows 13 (no exception), 19 (churn), 26 (leaks)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.http3 import REQUEST, RESPONSE, FakeQuic, FullQuic, Rude, make_pair, transfer, varints
from quicio.h3 import connection as module
from quicio.h3.connection import H3Connection
from quicio.h3.events import (
    DatagramReceived,
    DataReceived,
    GoawayReceived,
    H3Event,
    HeadersReceived,
    PushPromiseReceived,
    StreamFailed,
    WebTransportStreamDataReceived,
)
from quicio.h3.exceptions import (
    ConnectionGoingAway,
    ErrorCode,
    FrameUnexpected,
    H3Error,
    InvalidStreamTypeError,
    MessageError,
    NoAvailablePushIDError,
    SettingsError,
)
from quicio.h3.frames import (
    CANCEL_PUSH,
    DATA,
    GOAWAY,
    HEADERS,
    MAX_DATA_FRAME,
    MAX_PUSH_ID,
    MAX_SETTINGS_FRAME,
    PUSH_PROMISE,
    SETTINGS,
    encode_frame,
)
from quicio.h3.push import MAX_PUSHES
from quicio.h3.settings import Setting, encode_settings, parse_settings
from quicio.h3.streams import H3Stream, HeadersState, StreamType
from quicio.quic.events import (
    DatagramFrameReceived,
    HandshakeCompleted,
    PingAcknowledged,
    ProtocolNegotiated,
    QuicEvent,
    StopSendingReceived,
    StreamDataReceived,
    StreamReset,
)

ROLES = pytest.mark.parametrize("is_client", [False, True], ids=["server", "client"])


# --- the beginning --------------------------------------------------------------------------------------------------------


@ROLES
@pytest.mark.rfc("9114", "6.2.1", "MUST")
def test_creation_opens_the_critical_streams_and_sends_settings(is_client: bool) -> None:
    quic = FakeQuic(is_client)
    h3 = H3Connection(quic)
    control, encoder, decoder = (2, 6, 10) if is_client else (3, 7, 11)
    limits = encode_frame(MAX_PUSH_ID, varints(MAX_PUSHES - 1)) if is_client else b""
    assert quic.on_stream(control) == b"\x00" + encode_frame(SETTINGS, encode_settings(h3.sent_settings)) + limits
    assert quic.on_stream(encoder) == b"\x02"
    assert quic.on_stream(decoder) == b"\x03"
    assert h3.received_settings is None
    assert h3.received_goaway is None


def test_the_settings_that_are_sent() -> None:
    plain = {1: 4096, 6: 65536, 7: 16, 8: 1, 0x21: 1}
    assert H3Connection(FakeQuic(True)).sent_settings == plain
    assert H3Connection(FakeQuic(True, 1200)).sent_settings == {**plain, 0x33: 1}  # only with QUIC's datagrams
    assert H3Connection(FakeQuic(False, 1200), True).sent_settings == {**plain, 0x33: 1, 0x2B603742: 1}


def test_hooks_of_subclasses() -> None:
    class Custom(H3Connection):
        def _get_local_settings(self) -> dict[int, int]:
            return {**super()._get_local_settings(), 0x1234: 5}

        def _validate_settings(self, settings: dict[int, int]) -> None:
            super()._validate_settings(settings)
            if 0x1234 not in settings:
                raise SettingsError("setting 0x1234 is wanted")

    quic = FakeQuic(True)
    assert Custom(quic).sent_settings[0x1234] == 5
    server_quic = FakeQuic(False)
    H3Connection(server_quic)
    custom = Custom(quic)
    transfer(server_quic, custom)
    assert quic.closed == (ErrorCode.H3_SETTINGS_ERROR, "setting 0x1234 is wanted")


def test_the_least_that_a_transport_has() -> None:
    """Nine names are enough, also where a stream fails."""
    client_quic, server_quic = FakeQuic(True), FakeQuic(False)
    client, server = H3Connection(client_quic), H3Connection(server_quic)
    client.send_headers(0, REQUEST)
    (event,) = transfer(client_quic, server)
    assert event == HeadersReceived(REQUEST, 0, False)
    server.send_headers(0, RESPONSE)
    server.send_data(0, b"abc", end_stream=True)
    assert transfer(server_quic, client) == [HeadersReceived(RESPONSE, 0, False), DataReceived(b"abc", 0, True)]
    (failed,) = server.handle_event(StreamDataReceived(encode_frame(HEADERS, b"\x00\x00\xd1"), False, 0))
    assert isinstance(failed, StreamFailed)
    assert server_quic.closed is None


def test_events_that_mean_nothing_in_http() -> None:
    rude = Rude(is_client=True).greet()
    others: list[QuicEvent] = [
        HandshakeCompleted("h3", False, False),
        PingAcknowledged(1),
        ProtocolNegotiated("h3"),
        QuicEvent(),
        StreamReset(0, 400),
        StopSendingReceived(0, 400),
    ]
    for event in others:
        assert rude.h3.handle_event(event) == []
    assert rude.error is None


def test_nothing_happens_after_a_connection_error() -> None:
    rude = Rude(is_client=False).greet()
    rude.frame(0, DATA, b"")
    assert rude.error == ErrorCode.H3_FRAME_UNEXPECTED
    assert rude.h3._is_done
    assert rude.headers(4, REQUEST) == []


# --- requests and responses -----------------------------------------------------------------------------------------------


def test_an_exchange() -> None:
    pair = make_pair()
    for number in range(3):  # the later ones use the dynamic table
        stream_id = 4 * number
        assert pair.client_quic.get_next_available_stream_id() == stream_id
        request = [*REQUEST, (b"user-agent", b"quicio"), (b"content-length", b"10")]
        pair.client.send_headers(stream_id, request)
        pair.client.send_data(stream_id, b"hello", end_stream=False)
        pair.client.send_data(stream_id, b"world", end_stream=True)
        assert pair.to_server() == [
            HeadersReceived(request, stream_id, False),
            DataReceived(b"hello", stream_id, False),
            DataReceived(b"world", stream_id, True),
        ]
        pair.server.send_headers(stream_id, [(b":status", b"103"), (b"link", b"</a>")])
        pair.server.send_headers(stream_id, RESPONSE)
        pair.server.send_data(stream_id, b"abc", end_stream=False)
        pair.server.send_headers(stream_id, [(b"x-checksum", b"1")], end_stream=True)
        assert pair.to_client() == [
            HeadersReceived([(b":status", b"103"), (b"link", b"</a>")], stream_id, False),
            HeadersReceived(RESPONSE, stream_id, False),
            DataReceived(b"abc", stream_id, False),
            HeadersReceived([(b"x-checksum", b"1")], stream_id, True),
        ]
    assert pair.to_server() == []
    pair.check()
    assert pair.client._encoder_bytes_sent > 0
    assert pair.client._encoder_bytes_sent == pair.server._encoder_bytes_received
    assert pair.server._decoder_bytes_sent == pair.client._decoder_bytes_received > 0
    assert pair.client._decoder_bytes_sent == pair.server._decoder_bytes_received
    assert pair.client._encoder is not None
    assert pair.client._decoder is not None


def test_finished_streams_are_forgotten() -> None:
    """Security row 26."""
    pair = make_pair()
    before = set(pair.client._stream), set(pair.server._stream)
    for number in range(20):
        pair.client.send_headers(4 * number, REQUEST, end_stream=True)
        pair.to_server()
        pair.server.send_headers(4 * number, RESPONSE, end_stream=True)
        pair.to_client()
    assert (set(pair.client._stream), set(pair.server._stream)) == before


def test_headers_and_data_take_one_call_each() -> None:
    pair = make_pair()
    pair.client.send_headers(0, REQUEST)
    pair.client.send_data(0, b"x" * 200_000, end_stream=True)
    sent = [event for event in pair.client_quic.sent if isinstance(event, StreamDataReceived) and event.stream_id == 0]
    assert [event.end_stream for event in sent] == [False, True]
    data = [event for event in pair.to_server() if isinstance(event, DataReceived)]
    assert [len(event.data) for event in data] == [MAX_DATA_FRAME] * 3 + [200_000 - 3 * MAX_DATA_FRAME]


def test_sending_nothing() -> None:
    pair = make_pair()
    pair.client.send_headers(0, REQUEST)
    pair.client_quic.sent.clear()
    pair.client.send_data(0, b"", end_stream=False)
    assert pair.client_quic.sent == []
    pair.client.send_data(0, b"", end_stream=True)
    assert pair.client_quic.sent == [StreamDataReceived(b"", True, 0)]


@pytest.mark.parametrize("data", [bytearray(b"abc"), memoryview(b"abc")])
def test_content_may_be_any_buffer(data: bytearray | memoryview) -> None:
    pair = make_pair()
    pair.client.send_headers(0, REQUEST)
    pair.client.send_data(0, data, end_stream=True)
    assert pair.to_server()[1:] == [DataReceived(b"abc", 0, True)]


def test_what_must_not_be_sent_now() -> None:
    pair = make_pair()
    with pytest.raises(FrameUnexpected):
        pair.client.send_data(0, b"early", end_stream=False)
    pair.client.send_headers(0, REQUEST)
    pair.client.send_headers(0, [(b"x-trailer", b"1")])
    with pytest.raises(FrameUnexpected):
        pair.client.send_headers(0, [(b"x-trailer", b"2")])
    with pytest.raises(FrameUnexpected):
        pair.client.send_data(0, b"late", end_stream=False)
    pair.client.send_headers(4, REQUEST)
    pair.client.send_data(4, b"", end_stream=True)
    with pytest.raises(FrameUnexpected):
        pair.client.send_data(4, b"", end_stream=True)
    with pytest.raises(FrameUnexpected):
        pair.client.send_headers(4, [])
    with pytest.raises(FrameUnexpected, match="begin"):
        pair.client.send_headers(2, REQUEST)


@pytest.mark.rfc("9114", "4.2", "MUST")
def test_fields_that_must_not_be_sent() -> None:
    """Security row 23: the same rules hold for what goes out, and what is refused leaves no trace."""
    pair = make_pair()
    for headers in ([*REQUEST, (b"connection", b"close")], REQUEST[1:], [*REQUEST, (b"x", b"a\r\nb: c")]):
        with pytest.raises(MessageError):
            pair.client.send_headers(0, headers)
    pair.client.send_headers(0, REQUEST)
    with pytest.raises(MessageError):
        pair.client.send_headers(0, [(b":path", b"/")])
    pair.to_server()
    for headers in ([(b":status", b"20")], [*RESPONSE, (b"Upper", b"1")], REQUEST):
        with pytest.raises(MessageError):
            pair.server.send_headers(0, headers)
    with pytest.raises(MessageError, match="interim"):
        pair.server.send_headers(0, [(b":status", b"103")], end_stream=True)
    pair.server.send_headers(0, RESPONSE, end_stream=True)
    assert pair.to_client() == [HeadersReceived(RESPONSE, 0, True)]
    pair.check()


def test_a_server_does_not_answer_a_tunnel_with_trailers() -> None:
    pair = make_pair()
    pair.client.send_headers(0, [(b":method", b"CONNECT"), (b":authority", b"a:1")])
    pair.to_server()
    pair.server.send_headers(0, [(b":status", b"200")])
    with pytest.raises(FrameUnexpected):
        pair.server.send_headers(0, [(b"x-trailer", b"1")])


@pytest.mark.rfc("9114", "4.2.2", "SHOULD NOT")
def test_sections_that_the_peer_would_refuse() -> None:
    rude = Rude(is_client=True).greet({Setting.MAX_FIELD_SECTION_SIZE: 200})
    with pytest.raises(ValueError, match="200 bytes"):
        rude.h3.send_headers(0, [*REQUEST, (b"x", b"a" * 100)])
    rude = Rude(is_client=True).greet({Setting.MAX_FIELD_SECTION_SIZE: 1000})
    rude.h3.send_headers(0, REQUEST)


# --- streams that end early -----------------------------------------------------------------------------------------------


def test_a_request_that_is_reset() -> None:
    rude = Rude(is_client=False).greet()
    rude.data(0, varints(HEADERS, 100) + b"half of it")
    assert rude.reset(0) == []
    assert rude.data(0, b"straggler") == []
    rude.h3.send_headers(0, RESPONSE, end_stream=True)  # RFC 9114 §4.1.1: the server may still answer
    assert 0 not in rude.h3._stream
    assert rude.error is None


def test_a_response_that_the_peer_does_not_want() -> None:
    rude = Rude(is_client=False).greet()
    rude.headers(0, REQUEST)
    rude.h3.send_headers(0, RESPONSE)
    assert rude.stop(0) == []
    with pytest.raises(FrameUnexpected):
        rude.h3.send_data(0, b"abc", end_stream=False)
    assert rude.data(0, b"", end=True) == [DataReceived(b"", 0, True)]
    assert 0 not in rude.h3._stream


def test_cancelling_a_request() -> None:
    pair = make_pair()
    pair.client.send_headers(0, REQUEST)
    pair.to_server()
    pair.client.cancel_stream(0)
    assert pair.client_quic.stopped == {0: ErrorCode.H3_REQUEST_CANCELLED}
    assert pair.client_quic.resets() == {0: ErrorCode.H3_REQUEST_CANCELLED}
    assert pair.client_quic.on_stream(10) == b"\x40"  # RFC 9204 §2.2.2.2
    assert pair.to_server() == []
    pair.server.send_headers(0, RESPONSE, end_stream=True)
    assert pair.to_client() == []
    pair.client.cancel_stream(0)  # over
    pair.client.cancel_stream(3)  # the peer's control stream is nothing to cancel
    assert 3 not in pair.client_quic.stopped
    pair.check()


def test_a_transport_that_has_forgotten_the_stream() -> None:
    class Forgetful(FullQuic):
        def reset_stream(self, stream_id: int, error_code: int) -> None:
            raise ValueError("unknown stream")

        def stop_stream(self, stream_id: int, error_code: int) -> None:
            raise RuntimeError("unknown stream")

        def release_stream(self, stream_id: int) -> None:
            raise ValueError("unknown stream")

    quic = Forgetful(False)
    h3 = H3Connection(quic)
    (failed,) = h3.handle_event(StreamDataReceived(encode_frame(HEADERS, b"\x00\x00\xd1"), False, 0))
    assert isinstance(failed, StreamFailed)
    assert h3.handle_event(StreamDataReceived(varints(0x21), True, 14)) == []
    assert quic.closed is None


# --- control streams ------------------------------------------------------------------------------------------------------


@ROLES
@pytest.mark.rfc("9114", "6.2.1", "MUST")
@pytest.mark.parametrize("frame_type", [GOAWAY, CANCEL_PUSH, 0x21])
def test_settings_come_first(is_client: bool, frame_type: int) -> None:
    """h3spec: MISSING_SETTINGS."""
    rude = Rude(is_client=is_client)
    rude.data(rude.control, b"\x00" + encode_frame(frame_type, b"\x00"))
    assert rude.error == ErrorCode.H3_MISSING_SETTINGS


@ROLES
@pytest.mark.rfc("9114", "7.2.4", "MUST")
def test_settings_come_once(is_client: bool) -> None:
    """h3spec: a second SETTINGS."""
    rude = Rude(is_client=is_client).greet()
    rude.frame(rude.control, SETTINGS, b"")
    assert rude.error == ErrorCode.H3_FRAME_UNEXPECTED


@ROLES
@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (varints(0x21, 1, 0x21, 1), ErrorCode.H3_SETTINGS_ERROR),  # h3spec: duplicates
        (varints(0x02, 1), ErrorCode.H3_SETTINGS_ERROR),  # h3spec: HTTP/2's
        (varints(0x08, 2), ErrorCode.H3_SETTINGS_ERROR),
        (varints(0x33, 1), ErrorCode.H3_SETTINGS_ERROR),  # without the transport parameter
        (b"\x21", ErrorCode.H3_FRAME_ERROR),
    ],
)
def test_settings_that_are_wrong(is_client: bool, payload: bytes, code: ErrorCode) -> None:
    rude = Rude(is_client=is_client)
    rude.data(rude.control, b"\x00" + encode_frame(SETTINGS, payload))
    assert rude.error == code


def test_settings_in_pieces() -> None:
    rude = Rude(is_client=False)
    for byte in b"\x00" + encode_frame(SETTINGS, varints(0x21, 1, 0x1234, 5)):
        assert rude.h3.received_settings is None
        rude.data(rude.control, bytes([byte]))
    assert rude.h3.received_settings == {0x21: 1, 0x1234: 5}


def test_settings_without_end() -> None:
    """Security row 26: what waits on the control stream is bounded."""
    rude = Rude(is_client=False)
    rude.data(rude.control, b"\x00" + varints(SETTINGS, MAX_SETTINGS_FRAME))
    assert rude.error is None
    rude = Rude(is_client=False)
    rude.data(rude.control, b"\x00" + varints(SETTINGS, MAX_SETTINGS_FRAME + 1))
    assert rude.error == ErrorCode.H3_EXCESSIVE_LOAD


@ROLES
@pytest.mark.rfc("9114", "7.2", "MUST")
@pytest.mark.parametrize("frame_type", [DATA, HEADERS, PUSH_PROMISE, 0x2, 0x6, 0x8, 0x9])
def test_frames_that_do_not_belong_on_the_control_stream(is_client: bool, frame_type: int) -> None:
    """h3spec: DATA and HEADERS on the control stream."""
    rude = Rude(is_client=is_client).greet()
    rude.frame(rude.control, frame_type, b"")
    assert rude.error == ErrorCode.H3_FRAME_UNEXPECTED


def test_unknown_frames_on_the_control_stream_are_dropped_as_they_arrive() -> None:
    rude = Rude(is_client=False).greet()
    wire = encode_frame(0xF0700, b"x" * 100_000)
    rude.data(rude.control, wire[:50_000])
    assert rude.h3._stream[rude.control].buffer == b""
    assert rude.data(rude.control, wire[50_000:] + encode_frame(GOAWAY, b"\x04")) == [GoawayReceived(4)]


@ROLES
@pytest.mark.rfc("9114", "6.2.1", "MUST")
@pytest.mark.parametrize("kind", [0, 2, 3])
@pytest.mark.parametrize("how", ["fin", "reset", "second", "stop"])
def test_critical_streams_are_unique_and_for_ever(is_client: bool, kind: int, how: str) -> None:
    """h3spec: CLOSED_CRITICAL_STREAM."""
    rude = Rude(is_client=is_client)
    start = varints(kind) + (encode_frame(SETTINGS, b"") if kind == 0 else b"")
    rude.data(rude.spare, start)
    assert rude.error is None
    if how == "fin":
        rude.data(rude.spare, b"", end=True)
    elif how == "reset":
        rude.reset(rude.spare)
    elif how == "stop":
        ours = {0: rude.h3._local_control_stream_id, 2: rude.h3._local_encoder_stream_id}
        rude.stop(ours.get(kind, rude.h3._local_decoder_stream_id))
    else:
        rude.data(rude.spare + 4, start)
    second = how == "second"
    assert rude.error == (ErrorCode.H3_STREAM_CREATION_ERROR if second else ErrorCode.H3_CLOSED_CRITICAL_STREAM)


@ROLES
@pytest.mark.parametrize(
    ("kind", "data", "code"),
    [
        (2, bytes.fromhex("3fe21f"), ErrorCode.QPACK_ENCODER_STREAM_ERROR),  # h3spec: capacity above the limit
        (3, b"\x00", ErrorCode.QPACK_DECODER_STREAM_ERROR),  # h3spec: Insert Count Increment 0
    ],
)
def test_qpack_instructions_that_are_wrong(is_client: bool, kind: int, data: bytes, code: ErrorCode) -> None:
    rude = Rude(is_client=is_client).greet()
    rude.data(rude.spare, varints(kind) + data)
    assert rude.error == code


def test_an_invalid_static_index_of_a_request() -> None:
    """h3spec: QPACK_DECOMPRESSION_FAILED."""
    rude = Rude(is_client=False).greet()
    rude.frame(0, HEADERS, bytes.fromhex("0000ff24"))
    assert rude.error == ErrorCode.QPACK_DECOMPRESSION_FAILED


# --- other unidirectional streams -----------------------------------------------------------------------------------------


@ROLES
@pytest.mark.rfc("9114", "6.2", "MUST NOT")
def test_unknown_streams_are_stopped_and_dropped(is_client: bool) -> None:
    rude = Rude(is_client=is_client).greet()
    assert rude.data(rude.spare, b"\x40") == []
    assert rude.data(rude.spare, b"\x21" + b"x" * 10_000) == []
    assert rude.quic.stopped == {rude.spare: ErrorCode.H3_STREAM_CREATION_ERROR}
    assert rude.h3._stream[rude.spare].buffer == b""
    assert rude.data(rude.spare, b"x" * 10_000) == []
    assert rude.quic.consumed[rude.spare] == 20_002
    assert rude.reset(rude.spare) == []
    assert rude.spare not in rude.h3._stream
    assert rude.quic.released == [rude.spare]
    assert rude.error is None


@pytest.mark.rfc("9114", "6.2", "MUST")
@pytest.mark.parametrize("start", [b"", b"\x40", b"\x01"])
@pytest.mark.parametrize("how", ["fin", "reset"])
def test_a_stream_may_end_before_its_type_is_known(start: bytes, how: str) -> None:
    rude = Rude(is_client=True).greet()
    rude.data(rude.spare, start)
    if how == "fin":
        rude.data(rude.spare, b"", end=True)
    else:
        rude.reset(rude.spare)
    assert rude.error is None
    assert rude.spare not in rude.h3._stream


# --- server push ----------------------------------------------------------------------------------------------------------


def test_a_push() -> None:
    pair = make_pair()
    pair.client.send_headers(0, REQUEST, end_stream=True)
    pair.to_server()
    promised = [*REQUEST[:3], (b":path", b"/style.css")]
    stream_id = pair.server.send_push_promise(0, promised)
    assert stream_id == 15
    pair.server.send_headers(0, RESPONSE, end_stream=True)
    pair.server.send_headers(stream_id, RESPONSE)
    pair.server.send_data(stream_id, b"abc", end_stream=True)
    assert pair.to_client() == [
        PushPromiseReceived(promised, 0, 0),
        HeadersReceived(RESPONSE, 0, True),
        HeadersReceived(RESPONSE, stream_id, False, push_id=0),
        DataReceived(b"abc", stream_id, True, push_id=0),
    ]
    pair.check()
    assert stream_id not in pair.server._stream
    assert stream_id not in pair.client._stream
    assert pair.server._pushes.streams == {}


def test_as_many_pushes_as_were_allowed() -> None:
    pair = make_pair()
    pair.client.send_headers(0, REQUEST, end_stream=True)
    pair.to_server()
    for number in range(MAX_PUSHES):
        pair.server.send_headers(pair.server.send_push_promise(0, REQUEST), [(b":status", b"200")], end_stream=True)
        assert len(pair.to_client()) == 2, number
    with pytest.raises(NoAvailablePushIDError):
        pair.server.send_push_promise(0, REQUEST)
    pair.check()


def test_pushes_that_cannot_be() -> None:
    pair = make_pair()
    with pytest.raises(H3Error, match="Only a server"):
        pair.client.send_push_promise(0, REQUEST)
    with pytest.raises(InvalidStreamTypeError):
        pair.server.send_push_promise(2, REQUEST)
    with pytest.raises(MessageError):
        pair.server.send_push_promise(0, REQUEST[1:])


def test_a_push_that_the_client_calls_off() -> None:
    pair = make_pair()
    pair.client.send_headers(0, REQUEST)
    pair.to_server()
    stream_id = pair.server.send_push_promise(0, REQUEST)
    first, second = pair.server_quic.sent[:1], pair.server_quic.sent[1:]
    pair.server_quic.sent[:] = first
    assert pair.to_client() == [PushPromiseReceived(REQUEST, 0, 0)]
    pair.client.cancel_push(0)
    pair.to_server()
    assert pair.server_quic.resets() == {stream_id: ErrorCode.H3_REQUEST_CANCELLED}
    with pytest.raises(FrameUnexpected):
        pair.server.send_headers(stream_id, RESPONSE)
    pair.server_quic.sent[:0] = second  # what was on its way
    assert pair.to_client() == []
    assert pair.client_quic.stopped == {stream_id: ErrorCode.H3_REQUEST_CANCELLED}
    pair.check()


def test_a_push_that_the_server_calls_off() -> None:
    pair = make_pair()
    pair.client.send_headers(0, REQUEST)
    pair.to_server()
    stream_id = pair.server.send_push_promise(0, REQUEST)
    pair.to_client()
    pair.server.cancel_push(0)
    assert pair.to_client() == []
    assert pair.client._pushes.promises == {}
    assert stream_id not in pair.client._stream
    pair.check()


@pytest.mark.rfc("9114", "4.6", "MUST")
def test_push_streams_that_must_not_be() -> None:
    rude = Rude(is_client=False).greet()
    rude.data(rude.spare, varints(1, 0))
    assert rude.error == ErrorCode.H3_STREAM_CREATION_ERROR
    rude = Rude(is_client=True).greet()
    rude.data(rude.spare, varints(1, MAX_PUSHES))
    assert rude.error == ErrorCode.H3_ID_ERROR
    rude = Rude(is_client=True).greet()
    rude.data(rude.spare, varints(1, 0))
    rude.data(rude.spare + 4, varints(1, 0))
    assert rude.error == ErrorCode.H3_ID_ERROR


def test_a_promise_on_a_push_stream() -> None:
    rude = Rude(is_client=True).greet()
    rude.data(rude.spare, varints(1, 0) + encode_frame(PUSH_PROMISE, varints(1) + rude.section(REQUEST)))
    assert rude.error == ErrorCode.H3_FRAME_UNEXPECTED


def test_a_malformed_pushed_response_costs_its_stream() -> None:
    rude = Rude(is_client=True).greet()
    rude.data(rude.spare, varints(1, 2))
    (failed,) = rude.headers(rude.spare, RESPONSE[1:])
    assert isinstance(failed, StreamFailed)
    assert (failed.push_id, failed.stream_id) == (2, rude.spare)
    assert rude.quic.stopped == {rude.spare: ErrorCode.H3_MESSAGE_ERROR}
    assert rude.quic.on_stream(rude.h3._local_decoder_stream_id) == bytes([0x40 | rude.spare])
    assert rude.error is None


@pytest.mark.parametrize(
    ("is_client", "frame_type", "payloads", "code"),
    [
        (True, MAX_PUSH_ID, [b"\x01"], ErrorCode.H3_FRAME_UNEXPECTED),
        (False, MAX_PUSH_ID, [b"\x05", b"\x04"], ErrorCode.H3_ID_ERROR),
        (False, MAX_PUSH_ID, [b""], ErrorCode.H3_FRAME_ERROR),
        (False, MAX_PUSH_ID, [b"\x05\x00"], ErrorCode.H3_FRAME_ERROR),
        (False, CANCEL_PUSH, [b"\x00"], ErrorCode.H3_ID_ERROR),
        (True, CANCEL_PUSH, [b"\x08"], ErrorCode.H3_ID_ERROR),
        (True, GOAWAY, [b"\x01"], ErrorCode.H3_ID_ERROR),
        (True, GOAWAY, [b"\x04", b"\x08"], ErrorCode.H3_ID_ERROR),
        (False, GOAWAY, [b"\x01", b"\x02"], ErrorCode.H3_ID_ERROR),
        (False, GOAWAY, [b"\x40"], ErrorCode.H3_FRAME_ERROR),
    ],
)
@pytest.mark.rfc("9114", "7.2", "MUST")
def test_control_frames_that_are_wrong(
    is_client: bool, frame_type: int, payloads: list[bytes], code: ErrorCode
) -> None:
    rude = Rude(is_client=is_client).greet()
    for payload in payloads:
        assert rude.error is None
        rude.frame(rude.control, frame_type, payload)
    assert rude.error == code


def test_a_promise_that_is_called_off_before_it_comes() -> None:
    rude = Rude(is_client=True).greet()
    assert rude.frame(rude.control, CANCEL_PUSH, b"\x03") == []
    assert rude.error is None


# --- GOAWAY ---------------------------------------------------------------------------------------------------------------


@pytest.mark.rfc("9114", "5.2", "MUST NOT")
def test_a_server_that_shuts_down() -> None:
    pair = make_pair()
    pair.client.send_headers(0, REQUEST)
    pair.to_server()
    pair.client.send_headers(4, REQUEST, end_stream=True)  # crosses the GOAWAY
    pair.server.goaway(2**62 - 4)
    assert pair.to_client() == [GoawayReceived(2**62 - 4)]
    pair.server.goaway()
    assert pair.to_client() == [GoawayReceived(4)]
    assert pair.client.received_goaway == 4
    with pytest.raises(ConnectionGoingAway):
        pair.client.send_headers(8, REQUEST)
    assert pair.to_server() == []
    assert pair.server_quic.resets() == {4: ErrorCode.H3_REQUEST_REJECTED}
    assert pair.server_quic.stopped == {4: ErrorCode.H3_REQUEST_REJECTED}
    pair.client.send_data(0, b"abc", end_stream=True)  # what was accepted goes on
    assert pair.to_server() == [DataReceived(b"abc", 0, True)]
    pair.server.send_headers(0, RESPONSE, end_stream=True)
    assert pair.to_client() == [HeadersReceived(RESPONSE, 0, True)]
    pair.check()


def test_a_client_that_shuts_down() -> None:
    pair = make_pair()
    pair.client.send_headers(0, REQUEST)
    pair.to_server()
    pair.server.send_push_promise(0, REQUEST)
    pair.to_client()
    pair.client.goaway()
    assert pair.to_server() == [GoawayReceived(1)]
    with pytest.raises(NoAvailablePushIDError):
        pair.server.send_push_promise(0, REQUEST)
    pair.check()


def test_identifiers_that_goaway_cannot_carry() -> None:
    pair = make_pair()
    for identifier in (-1, 1, 2**62):
        with pytest.raises(ValueError, match="GOAWAY can carry"):
            pair.server.goaway(identifier)
    pair.server.goaway(8)
    with pytest.raises(ValueError, match="only become less"):
        pair.server.goaway(12)
    pair.client.goaway(3)  # a push ID is any number


# --- datagrams ------------------------------------------------------------------------------------------------------------


def test_datagrams() -> None:
    pair = make_pair(datagrams=1200)
    pair.client.send_datagram(8, b"abc")
    assert pair.to_server() == [DatagramReceived(b"abc", 8)]
    pair.server.send_datagram(0, b"")
    assert pair.to_client() == [DatagramReceived(b"", 0)]
    with pytest.raises(InvalidStreamTypeError):
        pair.client.send_datagram(2, b"abc")


def test_datagrams_that_nobody_wants() -> None:
    pair = make_pair()
    with pytest.raises(H3Error, match="SETTINGS_H3_DATAGRAM"):
        pair.client.send_datagram(0, b"abc")
    quic = FakeQuic(True, 1200)
    H3Connection(quic).send_datagram(4, b"abc")  # the peer's settings are not there yet
    assert quic.sent[-1] == DatagramFrameReceived(b"\x01abc")


@pytest.mark.rfc("9297", "2.1", "MUST")
@pytest.mark.parametrize("data", [b"", b"\x40", varints(2**60) + b"abc"])
def test_datagrams_that_are_wrong(data: bytes) -> None:
    rude = Rude(is_client=False, datagrams=1200).greet()
    rude.h3.handle_event(DatagramFrameReceived(data))
    assert rude.error == ErrorCode.H3_DATAGRAM_ERROR


def test_the_largest_stream_of_a_datagram() -> None:
    rude = Rude(is_client=False, datagrams=1200).greet()
    assert rude.h3.handle_event(DatagramFrameReceived(varints(2**60 - 1))) == [DatagramReceived(b"", 2**62 - 4)]


# --- WebTransport ---------------------------------------------------------------------------------------------------------


def test_webtransport_streams_in_both_directions() -> None:
    pair = make_pair(webtransport=True, datagrams=1200)
    for opener, quic, receive, other_quic, answer in (
        (pair.client, pair.client_quic, pair.to_server, pair.server_quic, pair.to_client),
        (pair.server, pair.server_quic, pair.to_client, pair.client_quic, pair.to_server),
    ):
        stream_id = opener.create_webtransport_stream(0)
        quic.send_stream_data(stream_id, b"ping", True)
        assert receive() == [WebTransportStreamDataReceived(b"ping", stream_id, True, 0)]
        other_quic.send_stream_data(stream_id, b"\x01\x05pong", True)
        assert answer() == [WebTransportStreamDataReceived(b"\x01\x05pong", stream_id, True, 0)]
        one_way = opener.create_webtransport_stream(0, is_unidirectional=True)
        quic.send_stream_data(one_way, b"abc", True)
        assert receive() == [WebTransportStreamDataReceived(b"abc", one_way, True, 0)]
    pair.check()
    assert not [number for number, stream in pair.client._stream.items() if stream.session_id is not None]


def test_a_unidirectional_webtransport_stream_in_pieces() -> None:
    rude = Rude(is_client=False, webtransport=True, datagrams=1200).greet()
    for byte in varints(0x54, 256):
        assert rude.data(rude.spare, bytes([byte])) == []
    assert rude.data(rude.spare, b"abc", end=True) == [WebTransportStreamDataReceived(b"abc", rude.spare, True, 256)]
    assert rude.quic.released == []  # the session's, not ours
    rude.data(rude.spare + 4, varints(0x54, 3))
    assert rude.error == ErrorCode.H3_ID_ERROR


def test_without_webtransport_its_streams_are_unknown() -> None:
    rude = Rude(is_client=False).greet()
    assert rude.data(rude.spare, varints(0x54, 0) + b"abc") == []
    assert rude.quic.stopped == {rude.spare: ErrorCode.H3_STREAM_CREATION_ERROR}


def test_a_user_may_mark_a_stream_again() -> None:
    pair = make_pair(webtransport=True, datagrams=1200)
    stream_id = pair.client.create_webtransport_stream(0)
    with pair.client._get_or_create_stream(stream_id) as stream:
        stream.frame_type = module.FrameType.WEBTRANSPORT_STREAM
        stream.session_id = 0
    pair.server_quic.send_stream_data(stream_id, b"abc")
    assert pair.to_client() == [WebTransportStreamDataReceived(b"abc", stream_id, False, 0)]


# --- names that others import ---------------------------------------------------------------------------------------------


def test_names() -> None:
    assert module.H3_ALPN == ["h3"]
    assert {frame.name: int(frame) for frame in module.FrameType} == {
        "DATA": 0,
        "HEADERS": 1,
        "CANCEL_PUSH": 3,
        "SETTINGS": 4,
        "PUSH_PROMISE": 5,
        "GOAWAY": 7,
        "MAX_PUSH_ID": 13,
        "WEBTRANSPORT_STREAM": 65,
    }
    assert {setting.name: int(setting) for setting in module.Setting} == {
        "QPACK_MAX_TABLE_CAPACITY": 1,
        "MAX_FIELD_SECTION_SIZE": 6,
        "QPACK_BLOCKED_STREAMS": 7,
        "ENABLE_CONNECT_PROTOCOL": 8,
        "H3_DATAGRAM": 51,
        "ENABLE_WEBTRANSPORT": 727725890,
        "DUMMY": 33,
    }
    assert {state.name: int(state) for state in HeadersState} == {
        "INITIAL": 0,
        "AFTER_HEADERS": 1,
        "AFTER_TRAILERS": 2,
    }
    for name in module.__all__:
        assert hasattr(module, name), name
    assert parse_settings(encode_settings({1: 2})) == {1: 2}


def test_qlog_hears_of_streams() -> None:
    class Trace:
        def __init__(self) -> None:
            self.events: list[tuple[str, dict[str, Any]]] = []

        def log_event(self, *, category: str, event: str, data: dict[str, Any]) -> None:
            self.events.append((f"{category}:{event}", data))

    trace = Trace()
    quic = FakeQuic(True)
    quic._quic_logger = trace
    h3 = H3Connection(quic)
    h3.handle_event(StreamDataReceived(varints(1, 5), False, 3))
    h3.handle_event(StreamDataReceived(varints(0x21), False, 7))
    assert [data["new"] for _, data in trace.events] == ["control", "qpack_encoder", "qpack_decoder", "push", "unknown"]
    assert trace.events[3] == ("http:stream_type_set", {"stream_id": 3, "new": "push", "associated_push_id": 5})


# --- whatever arrives -----------------------------------------------------------------------------------------------------

TYPES = st.sampled_from([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0xD, 0x21, 0x41, 0x54])
PIECES = st.one_of(
    st.binary(max_size=30),
    st.builds(encode_frame, TYPES, st.binary(max_size=20)),
    st.builds(varints, TYPES, st.integers(0, 70_000)),
    st.just(encode_frame(HEADERS, bytes.fromhex("0000d1d7c1500161"))),
    st.just(encode_frame(HEADERS, bytes.fromhex("0200d1d7c180"))),
    st.just(bytes.fromhex("3fe11fc00161")),
)
STREAMS = st.sampled_from([0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 14, 15, 18, 19])
EVENTS = st.one_of(
    st.builds(StreamDataReceived, PIECES, st.booleans(), STREAMS),
    st.builds(StreamDataReceived, PIECES, st.just(False), STREAMS),
    st.builds(StreamReset, st.just(0), STREAMS),
    st.builds(StopSendingReceived, st.just(0), STREAMS),
    st.builds(DatagramFrameReceived, st.binary(max_size=9)),
)


@given(st.booleans(), st.booleans(), st.booleans(), st.lists(EVENTS, max_size=40))
def test_whatever_arrives_nothing_is_raised(
    is_client: bool, webtransport: bool, greeted: bool, events: list[QuicEvent]
) -> None:
    """Security row 13: bytes from the network end as events, as a failed stream or as a close, never as an exception."""
    rude = Rude(is_client=is_client, webtransport=webtransport, datagrams=1200)
    if greeted:
        start = StreamDataReceived(b"\x00" + encode_frame(SETTINGS, b""), False, rude.control)
        encoder = StreamDataReceived(b"\x02", False, rude.encoder_stream)
        events = [start, encoder, *events]
    if is_client:
        rude.request()
    out: list[H3Event] = []
    for event in events:
        out += rude.h3.handle_event(event)
    if rude.h3._is_done:
        assert rude.error in set(ErrorCode)
    else:
        assert rude.h3._held_bytes == sum(stream.held_size for stream in rude.h3._stream.values())
    for stream in rude.h3._stream.values():
        assert isinstance(stream, H3Stream)
        assert stream.stream_type in (None, *StreamType) or stream.discarding


@pytest.mark.parametrize("start", [b"", b"\x00\x04\x00", b"\x01\x00", b"\x02", b"\x03", b"\x40\x54\x00", b"\x21"])
@given(chunks=st.lists(st.binary(max_size=20), max_size=8))
def test_garbage_on_each_kind_of_stream(start: bytes, chunks: list[bytes]) -> None:
    """Security row 13, with one kind of stream at a time: unidirectional ones by their type, and a request."""
    for is_client in (False, True):
        rude = Rude(is_client=is_client, webtransport=True, datagrams=1200).greet()
        stream_id = rude.spare if start else 0
        for chunk in (start, *chunks):
            rude.data(stream_id, chunk)
        rude.data(stream_id, b"", end=True)
