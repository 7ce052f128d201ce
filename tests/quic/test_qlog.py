"""Frames as qlog writes them: every type, and what cannot be read."""

from __future__ import annotations

from typing import Any

import pytest

from quicio.quic.qlog import describe_frames
from quicio.quic.wire import frames
from quicio.quic.wire.rangeset import RangeSet


def ranges() -> RangeSet:
    return RangeSet([range(3), range(5, 8)])


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"\x01", {"frame_type": "ping"}),
        (b"\x00\x00\x00", {"frame_type": "padding", "payload_length": 3}),
        (
            frames.encode_ack(ranges(), 1000, None, 100),
            {"frame_type": "ack", "ack_delay": 8.0, "acked_ranges": [[0, 2], [5, 7]]},
        ),
        (
            frames.encode_ack(ranges(), 0, (1, 2, 3), 100),
            {"frame_type": "ack", "ack_delay": 0.0, "acked_ranges": [[0, 2], [5, 7]], "ect0": 1, "ect1": 2, "ce": 3},
        ),
        (
            frames.encode_reset_stream(4, 5, 6),
            {"frame_type": "reset_stream", "stream_id": 4, "error_code": 5, "final_size": 6},
        ),
        (frames.encode_stop_sending(4, 5), {"frame_type": "stop_sending", "stream_id": 4, "error_code": 5}),
        (frames.encode_crypto_header(9, 2) + b"ab", {"frame_type": "crypto", "offset": 9, "length": 2}),
        (frames.encode_new_token(b"\xaa\xbb"), {"frame_type": "new_token", "length": 2, "token": "aabb"}),
        (
            frames.encode_stream_header(8, 100, 3, True, True) + b"abc",
            {"frame_type": "stream", "stream_id": 8, "offset": 100, "length": 3, "fin": True},
        ),
        (frames.encode_max_data(7), {"frame_type": "max_data", "maximum": 7}),
        (frames.encode_max_stream_data(4, 7), {"frame_type": "max_stream_data", "stream_id": 4, "maximum": 7}),
        (
            frames.encode_max_streams(7, False),
            {"frame_type": "max_streams", "stream_type": "bidirectional", "maximum": 7},
        ),
        (
            frames.encode_max_streams(7, True),
            {"frame_type": "max_streams", "stream_type": "unidirectional", "maximum": 7},
        ),
        (frames.encode_data_blocked(7), {"frame_type": "data_blocked", "limit": 7}),
        (frames.encode_stream_data_blocked(4, 7), {"frame_type": "stream_data_blocked", "stream_id": 4, "limit": 7}),
        (
            frames.encode_streams_blocked(7, True),
            {"frame_type": "streams_blocked", "stream_type": "unidirectional", "limit": 7},
        ),
        (
            frames.encode_streams_blocked(7, False),
            {"frame_type": "streams_blocked", "stream_type": "bidirectional", "limit": 7},
        ),
        (
            frames.encode_new_connection_id(2, 1, b"\x01\x02", bytes(16)),
            {
                "frame_type": "new_connection_id",
                "sequence_number": 2,
                "retire_prior_to": 1,
                "length": 2,
                "connection_id": "0102",
                "reset_token": "00" * 16,
            },
        ),
        (frames.encode_retire_connection_id(3), {"frame_type": "retire_connection_id", "sequence_number": 3}),
        (frames.encode_path_challenge(b"12345678"), {"frame_type": "path_challenge", "data": b"12345678".hex()}),
        (frames.encode_path_response(b"12345678"), {"frame_type": "path_response", "data": b"12345678".hex()}),
        (
            frames.encode_transport_close(1, 6, b"why"),
            {
                "frame_type": "connection_close",
                "error_space": "transport",
                "trigger_frame_type": 6,
                "error_code": 1,
                "raw_error_code": 1,
                "reason": "why",
            },
        ),
        (
            frames.encode_application_close(9, b"\xff"),
            {
                "frame_type": "connection_close",
                "error_space": "application",
                "error_code": 9,
                "raw_error_code": 9,
                "reason": "\ufffd",
            },
        ),
        (b"\x1e", {"frame_type": "handshake_done"}),
        (frames.encode_datagram_header(2, True) + b"ab", {"frame_type": "datagram", "length": 2}),
        (frames.encode_datagram_header(2, False) + b"ab", {"frame_type": "datagram", "length": 2}),
    ],
)
def test_every_frame(payload: bytes, expected: dict[str, Any]) -> None:
    assert describe_frames(payload) == [expected]


def test_frames_follow_each_other() -> None:
    assert [frame["frame_type"] for frame in describe_frames(b"\x01\x1e\x00\x00\x01")] == [
        "ping",
        "handshake_done",
        "padding",
        "ping",
    ]


def test_what_cannot_be_read_ends_the_list() -> None:
    assert describe_frames(b"\x01\x21\x01") == [
        {"frame_type": "ping"},
        {"frame_type": "unknown", "raw_frame_type": 0x21},
    ]
    assert describe_frames(b"\x01\x06\x00") == [{"frame_type": "ping"}, {"frame_type": "unknown", "raw_frame_type": 6}]
