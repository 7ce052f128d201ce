"""What is known of a stream."""

from __future__ import annotations

import pytest

from quicio.h3.exceptions import MessageError
from quicio.h3.streams import H3Stream, HeadersState, StreamType, stream_is_request_response


def test_only_client_initiated_bidirectional_streams_carry_requests() -> None:
    assert [stream_is_request_response(number) for number in range(5)] == [True, False, False, False, True]


def test_a_stream_ends_in_both_directions() -> None:
    stream = H3Stream(4)
    stream.ended = True
    assert not stream.is_ended()
    stream.finish_sending()
    assert stream.is_ended()


def test_what_was_held_comes_back_once_and_in_order() -> None:
    stream = H3Stream(0)
    stream.hold(b"ab")
    stream.hold(b"c")
    assert stream.held_size == 3
    assert stream.release() == b"abc"
    assert stream.held_size == 0
    assert stream.release() == b""


def test_content_is_measured_by_its_announced_length() -> None:
    stream = H3Stream(0)
    stream.expected_content_length = 3
    stream.add_content(2)
    with pytest.raises(MessageError, match="less"):
        stream.check_content_length()
    stream.add_content(1)
    stream.check_content_length()
    with pytest.raises(MessageError, match="more"):
        stream.add_content(1)


def test_without_announced_length_any_will_do() -> None:
    stream = H3Stream(0)
    stream.add_content(1 << 40)
    stream.check_content_length()


def test_untouched_means_no_message_in_either_direction() -> None:
    assert H3Stream(0).is_untouched()
    for name in ("headers_recv_state", "headers_send_state"):
        stream = H3Stream(0)
        setattr(stream, name, HeadersState.AFTER_HEADERS)
        assert not stream.is_untouched()
    stream = H3Stream(0)
    stream.finish_sending()
    assert not stream.is_untouched()


def test_a_stream_is_its_own_context() -> None:
    stream = H3Stream(0)
    with stream as same:
        assert same is stream


def test_numbers_of_stream_types() -> None:
    assert {kind.name: int(kind) for kind in StreamType} == {
        "CONTROL": 0,
        "PUSH": 1,
        "QPACK_ENCODER": 2,
        "QPACK_DECODER": 3,
        "WEBTRANSPORT": 0x54,
    }
