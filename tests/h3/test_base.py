"""The life, the errors and the credit of streams. Security rows 19 (rapid reset) and 26 (leaks)."""

from __future__ import annotations

import pytest

from helpers.http3 import REQUEST, RESPONSE, FullQuic, Rude, varints
from quicio.h3 import base
from quicio.h3.connection import H3Connection
from quicio.h3.events import HeadersReceived, StreamFailed
from quicio.h3.exceptions import ErrorCode
from quicio.h3.frames import DATA, HEADERS, SETTINGS, encode_frame
from quicio.quic.events import StreamDataReceived

MALFORMED = encode_frame(HEADERS, b"\x00\x00\xd1")  # :method and nothing else


def server() -> Rude:
    return Rude(is_client=False).greet()


# --- failures -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["reset", "stop", "malformed"])
def test_requests_that_come_to_nothing_are_counted(how: str) -> None:
    """Security row 19: HTTP/2's rapid reset, and its sisters that make us do the resetting."""
    rude = server()
    for number in range(base.FAILURE_TOLERANCE + 1):
        assert rude.error is None, number
        stream_id = 4 * number
        if how == "malformed":
            rude.data(stream_id, MALFORMED, end=True)
            continue
        rude.headers(stream_id, REQUEST)
        if how == "reset":
            rude.reset(stream_id)
        else:
            rude.stop(stream_id)
    assert rude.error == ErrorCode.H3_EXCESSIVE_LOAD


def test_unknown_streams_are_counted_too() -> None:
    """Security row 19: one that exercises us is welcome, a stream of them is not."""
    rude = server()
    for number in range(base.FAILURE_TOLERANCE + 1):
        assert rude.error is None, number
        rude.data(rude.spare + 4 * number, varints(0x21), end=True)
    assert rude.error == ErrorCode.H3_EXCESSIVE_LOAD


def test_requests_that_complete_make_up_for_failures() -> None:
    rude = server()
    for number in range(2 * base.FAILURE_TOLERANCE):
        rude.headers(8 * number, REQUEST, end=True)
        rude.h3.send_headers(8 * number, RESPONSE, end_stream=True)
        rude.headers(8 * number + 4, REQUEST)
        rude.reset(8 * number + 4)
        rude.quic.sent.clear()
    assert rude.error is None


def test_streams_that_are_no_requests_make_up_for_nothing() -> None:
    rude = server()
    for number in range(base.FAILURE_TOLERANCE + 1):
        assert rude.error is None, number
        rude.data(rude.spare + 4 * number, b"", end=True)
        rude.data(4 * number, MALFORMED, end=True)
    assert rude.error == ErrorCode.H3_EXCESSIVE_LOAD


def test_a_request_is_counted_once() -> None:
    rude = server()
    before = rude.h3._tolerance
    rude.data(0, MALFORMED)
    rude.reset(0)
    rude.stop(0)
    assert rude.h3._tolerance == before - 1


def test_what_a_server_does_is_not_counted_against_it() -> None:
    rude = Rude(is_client=True).greet()
    for number in range(base.FAILURE_TOLERANCE + 1):
        rude.h3.send_headers(4 * number, REQUEST)
        rude.reset(4 * number)
        rude.h3.cancel_stream(4 * number)
        rude.quic.sent.clear()
    assert rude.error is None


# --- records --------------------------------------------------------------------------------------------------------------


def test_records_of_aborted_streams_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Security row 26: a transport need not report the end of a stream that was stopped."""
    monkeypatch.setattr(base, "MAX_DISCARDED", 10)
    rude = server()
    before = len(rude.h3._stream)
    for number in range(50):
        rude.data(4 * number, MALFORMED)
    assert len(rude.h3._stream) == before + 10
    assert rude.data(4 * 49, b"straggler") == []
    assert rude.error is None


def test_a_request_that_is_not_read_on_may_still_be_answered() -> None:
    """RFC 9114 §4.1: the peer is asked to stop without an error; that it then resets its side is no failure."""
    rude = server()
    for number in range(base.FAILURE_TOLERANCE + 1):
        stream_id = 4 * number
        rude.headers(stream_id, REQUEST)
        rude.h3.stop_reading(stream_id)
        rude.h3.stop_reading(stream_id)
        assert rude.quic.stopped[stream_id] == ErrorCode.H3_NO_ERROR
        assert rude.frame(stream_id, DATA, b"dropped") == []
        assert rude.reset(stream_id) == []
        rude.h3.send_headers(stream_id, RESPONSE, end_stream=True)
        assert stream_id not in rude.h3._stream
    assert rude.error is None
    assert rude.quic.resets() == {}


def test_streams_reset_before_a_byte_are_counted() -> None:
    """Security row 19: opening and resetting streams without a word."""
    rude = server()
    for number in range(base.FAILURE_TOLERANCE + 1):
        assert rude.error is None, number
        rude.reset(4 * number)
    assert rude.error == ErrorCode.H3_EXCESSIVE_LOAD


def test_what_comes_after_an_abort_is_dropped() -> None:
    rude = server()
    rude.headers(0, REQUEST)
    rude.h3.cancel_stream(0)
    assert rude.frame(0, DATA, b"abc") == []
    assert rude.data(0, b"\xff\xff\xff", end=True) == []
    assert 0 not in rude.h3._stream
    assert rude.error is None


# --- credit ---------------------------------------------------------------------------------------------------------------


def test_all_but_content_is_consumed() -> None:
    rude = server()
    section = encode_frame(HEADERS, rude.section(REQUEST))
    rude.data(0, section[:5])
    assert rude.quic.consumed[0] == 2  # the section is kept: the peer gets no credit for it yet
    rude.data(0, section[5:])
    assert rude.quic.consumed[0] == len(section)
    rude.data(0, encode_frame(DATA, b"x" * 1000)[:500])
    assert rude.quic.consumed[0] == len(section) + 3
    rude.data(0, encode_frame(DATA, b"x" * 1000)[500:] + encode_frame(0x21, b"grease"))
    assert rude.quic.consumed[0] == len(section) + 3 + 8


def test_critical_streams_are_consumed() -> None:
    rude = Rude(is_client=True)
    wire = b"\x00" + encode_frame(SETTINGS, varints(0x21, 1))
    rude.data(rude.control, wire[:4])
    assert rude.quic.consumed == {rude.control: 3}
    rude.data(rude.control, wire[4:])
    rude.data(rude.encoder_stream, b"\x02\x3f\xe1\x1f")
    assert rude.quic.consumed == {rude.control: len(wire), rude.encoder_stream: 4}


def test_what_a_blocked_stream_holds_is_not_consumed() -> None:
    """Security row 21: flow control bounds what a blocked stream can hold."""
    rude = server()
    section = encode_frame(HEADERS, bytes.fromhex("0200d1d7c180"))
    rude.data(0, section + encode_frame(DATA, b"abc"))
    assert rude.quic.consumed[0] == len(section)
    rude.data(rude.encoder_stream, b"\x02" + bytes.fromhex("3fe11fc00161"))
    assert rude.quic.consumed[0] == len(section) + 2


def test_a_failed_stream_is_consumed_to_the_last_byte() -> None:
    rude = server()
    rude.data(0, MALFORMED + b"rest")
    rude.data(0, b"more")
    assert rude.quic.consumed[0] == len(MALFORMED) + 8


def test_a_stream_that_was_reset_is_not_consumed() -> None:
    rude = server()
    rude.data(0, varints(HEADERS, 100) + b"part")
    consumed = rude.quic.consumed.copy()
    rude.reset(0)
    rude.h3.cancel_stream(0)
    assert rude.quic.consumed == consumed


def test_streams_that_grant_credit_by_themselves_are_asked_once() -> None:
    quic = FullQuic(False, held=False)
    h3 = H3Connection(quic)
    section = Rude(is_client=True).section(REQUEST)
    h3.handle_event(StreamDataReceived(encode_frame(HEADERS, section), False, 0))
    for _ in range(3):
        h3.handle_event(StreamDataReceived(encode_frame(DATA, b"abc"), False, 0))
    assert quic.refused == 1


# --- odds and ends --------------------------------------------------------------------------------------------------------


def test_reusing_the_connection_after_a_failure() -> None:
    rude = server()
    (failed,) = rude.data(0, MALFORMED)
    assert isinstance(failed, StreamFailed)
    assert failed.reason
    assert rude.headers(4, REQUEST, end=True) == [HeadersReceived(REQUEST, 4, True)]
