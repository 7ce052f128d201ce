"""Field compression and its limits. Security rows 20 (expansion) and 21 (blocked streams)."""

from __future__ import annotations

import json
import tracemalloc
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pylsqpack import Encoder

from helpers.http3 import REQUEST
from helpers.vectors import VECTORS, load_vectors
from quicio.h3.events import Headers
from quicio.h3.exceptions import (
    FieldSectionTooLarge,
    ProtocolError,
    QpackDecoderStreamError,
    QpackDecompressionFailed,
    QpackEncoderStreamError,
)
from quicio.h3.qpack import (
    MAX_BLOCKED_STREAMS,
    MAX_FIELD_SECTION_SIZE,
    MAX_TABLE_CAPACITY,
    FieldCoding,
    StreamBlocked,
    field_section_size,
    has_more_lines,
)

QIFS = sorted(path.name for path in (VECTORS / "qifs").glob("*.encoded.json"))


def coding(capacity: int = MAX_TABLE_CAPACITY, blocked: int = MAX_BLOCKED_STREAMS) -> FieldCoding:
    return FieldCoding(capacity, blocked, MAX_FIELD_SECTION_SIZE)


def as_headers(pairs: Any) -> Headers:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs]


def test_the_exchange_of_appendix_b() -> None:
    """RFC 9204 Appendix B, as the decoder sees it, with the instructions it answers by."""
    vectors = load_vectors("rfc9204-appendix-b")
    fields = coding(vectors["max_table_capacity"], 1)
    answers = []
    cancelled = 8
    for exchange in vectors["exchanges"]:
        data = bytes.fromhex(exchange["hex"])
        if exchange["stream"] == "encoder":
            assert fields.feed_encoder(data) == []
        elif exchange["stream"] == "decoder":
            continue
        elif exchange["stream"] == cancelled:
            answers.append(fields.cancel(cancelled))
        else:
            instructions, headers = fields.decode(exchange["stream"], data)
            answers.append(instructions)
            assert headers == as_headers(exchange["header_list"])
    printed = [bytes.fromhex(e["hex"]) for e in vectors["exchanges"] if e["stream"] == "decoder"]
    assert answers == [b"", printed[0], printed[2]]  # printed[1] is an Insert Count Increment, which is optional
    _, headers = fields.decode(12, bytes.fromhex("050080c181"))
    assert headers == as_headers(vectors["exchanges"][7]["header_list"])


@pytest.mark.parametrize("stream", ["encoder", "decoder"])
def test_the_encoder_side_of_appendix_b_is_accepted(stream: str) -> None:
    """Our encoder's instructions are understood by our decoder, and the other way round."""
    sender, receiver = coding(), coding()
    assert receiver.feed_encoder(sender.apply_settings(4096, 16)) == []
    for number in range(4):
        instructions, section = sender.encode(4 * number, [*REQUEST, (b"x-session", b"0123456789")])
        receiver.feed_encoder(instructions)
        answer, headers = receiver.decode(4 * number, section)
        assert headers == [*REQUEST, (b"x-session", b"0123456789")]
        sender.feed_decoder(answer)
    assert (sender.decoder_bytes_received, sender.encoder_bytes_sent) == (
        receiver.decoder_bytes_sent,
        receiver.encoder_bytes_received,
    )
    assert (sender.encoder_bytes_sent if stream == "encoder" else receiver.decoder_bytes_sent) > 0


@pytest.mark.parametrize("name", QIFS)
def test_what_other_encoders_wrote(name: str) -> None:
    document = json.loads((VECTORS / "qifs" / name).read_text(encoding="utf-8"))
    for file in document["files"]:
        (qif,) = (VECTORS / "qifs").glob(f"{file['qif']}*.qif.json")
        expected = [as_headers(pairs) for pairs in json.loads(qif.read_text(encoding="utf-8"))["header_lists"]]
        fields = coding(file["max_table_capacity"], file["max_blocked_streams"])
        found: dict[int, Headers] = {}
        for stream_id, text in file["blocks"]:
            data = bytes.fromhex(text)
            if stream_id == 0:
                for resumed in fields.feed_encoder(data):
                    found[resumed] = fields.resume(resumed)[1]
            else:
                try:
                    found[stream_id] = fields.decode(stream_id, data)[1]
                except StreamBlocked:
                    assert file["max_blocked_streams"] > 0
        assert [found[number + 1] for number in range(file["header_lists"])] == expected[: file["header_lists"]]


@pytest.mark.parametrize("file", load_vectors("qifs/errors")["files"], ids=lambda file: file["name"])
def test_what_no_decoder_may_accept(file: dict[str, Any]) -> None:
    fields = coding()
    expected: dict[str, type[ProtocolError]] = {
        "QPACK_DECOMPRESSION_FAILED": QpackDecompressionFailed,
        "QPACK_ENCODER_STREAM_ERROR": QpackEncoderStreamError,
    }
    ((stream_id, text),) = file["blocks"]
    call = fields.feed_encoder if stream_id == 0 else partial(fields.decode, stream_id)
    with pytest.raises(expected[file["expect"]]):
        call(bytes.fromhex(text))


@pytest.mark.rfc("9204", "3.1", "MUST")
def test_an_invalid_static_index() -> None:
    assert coding().decode(0, bytes.fromhex("0000ff23"))[1] == [(b"x-frame-options", b"sameorigin")]
    with pytest.raises(QpackDecompressionFailed):
        coding().decode(0, bytes.fromhex("0000ff24"))


@pytest.mark.rfc("9204", "4.3.1", "MUST")
def test_a_capacity_above_what_was_allowed() -> None:
    assert coding().feed_encoder(bytes.fromhex("3fe11f")) == []
    with pytest.raises(QpackEncoderStreamError):
        coding().feed_encoder(bytes.fromhex("3fe21f"))


@pytest.mark.rfc("9204", "4.4.3", "MUST")
@pytest.mark.parametrize("instruction", [b"\x00", b"\x01", b"\x80"])
def test_decoder_instructions_about_nothing(instruction: bytes) -> None:
    fields = coding()
    fields.apply_settings(4096, 16)
    with pytest.raises(QpackDecoderStreamError):
        fields.feed_decoder(instruction)


def test_an_empty_section() -> None:
    assert coding().decode(0, b"\x00\x00") == (b"", [])


# The first field of a section that needs one insert, which `INSERT` brings.
BLOCKED = bytes.fromhex("020080")
INSERT = bytes.fromhex("3fe11f") + b"\x43abc\x03xyz"


@pytest.mark.parametrize("limit", [0, 1, MAX_BLOCKED_STREAMS])
def test_how_many_streams_may_be_blocked(limit: int) -> None:
    """Security row 21: exactly as many as announced, none when that is 0."""
    fields = coding(blocked=limit)
    for number in range(limit):
        with pytest.raises(StreamBlocked):
            fields.decode(4 * number, BLOCKED)
    with pytest.raises(QpackDecompressionFailed):
        fields.decode(4 * limit, BLOCKED)


def test_blocked_streams_resume_in_their_order() -> None:
    fields = coding()
    for stream_id in (8, 0, 4):
        with pytest.raises(StreamBlocked):
            fields.decode(stream_id, BLOCKED)
    assert fields.feed_encoder(INSERT) == [8, 0, 4]
    for stream_id in (8, 0, 4):
        instructions, headers = fields.resume(stream_id)
        assert headers == [(b"abc", b"xyz")]
        assert instructions == bytes([0x80 | stream_id])


def test_a_cancelled_stream_makes_room_and_is_not_resumed() -> None:
    """Security row 21: cleanup on reset."""
    fields = coding(blocked=1)
    with pytest.raises(StreamBlocked):
        fields.decode(0, BLOCKED)
    assert fields.cancel(0) == b"\x40"
    with pytest.raises(StreamBlocked):
        fields.decode(4, BLOCKED)
    assert fields.feed_encoder(INSERT) == [4]


def test_a_section_that_turns_out_invalid_when_resumed() -> None:
    fields = coding()
    with pytest.raises(StreamBlocked):
        fields.decode(0, BLOCKED + b"\xff\xff\xff")
    assert fields.feed_encoder(INSERT) == [0]
    with pytest.raises(QpackDecompressionFailed):
        fields.resume(0)


def test_the_size_of_a_section() -> None:
    assert field_section_size([]) == 0
    assert field_section_size([(b"abc", b"de"), (b"", b"")]) == 5 + 64


def test_the_limit_is_on_the_decoded_size() -> None:
    """Security row 20: just as large as announced passes, a byte more does not."""
    name = b"x"
    room = MAX_FIELD_SECTION_SIZE - 32 - len(name)
    for size, fits in ((room, True), (room + 1, False)):
        section = Encoder().encode(0, [(name, b"a" * size)])[1]
        assert len(section) < MAX_FIELD_SECTION_SIZE
        if fits:
            assert field_section_size(coding().decode(0, section)[1]) == MAX_FIELD_SECTION_SIZE
        else:
            with pytest.raises(FieldSectionTooLarge):
                coding().decode(0, section)


def test_a_bomb_is_not_decoded() -> None:
    """Security row 20: 64 kB of references to one entry of 4 kB would be a quarter of a gigabyte."""
    fields = coding()
    value = b"a" * 4000
    fields.feed_encoder(bytes.fromhex("3fe11f") + b"\x43abc" + bytes.fromhex("7fa11e") + value)
    bomb = BLOCKED[:2] + b"\x80" * 65000
    tracemalloc.start()
    try:
        with pytest.raises(FieldSectionTooLarge, match="lines"):
            fields.decode(0, bomb)
        with pytest.raises(FieldSectionTooLarge, match="too large"):
            fields.decode(0, bomb[:2048])  # the worst that passes the count of lines
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 * 1024 * 1024


@pytest.mark.parametrize(
    ("section", "lines"),
    [
        ("0000" + "10" * 5, 5),  # indexed, behind the base
        ("0000" + "00" + "01" + "61", 1),  # literal with a name from behind the base
        ("0000" + "ff8001" * 4, 4),  # an index in three bytes
        ("ff8001" + "ff8001" + "d1" * 7, 7),  # a prefix in six
        ("0000" + "d1" + "ff" + "80" * 20, 2),  # an index that does not end
    ],
)
def test_each_kind_of_line_counts(section: str, lines: int) -> None:
    data = bytes.fromhex(section)
    assert has_more_lines(data, lines - 1)
    assert not has_more_lines(data, lines)


names = st.sampled_from([b":path", b"x-a", b"accept", b"long-name-that-is-in-no-table"])
values = st.one_of(st.just(b"/"), st.binary(max_size=300))


@given(st.lists(st.tuples(names, values), min_size=1, max_size=30))
def test_lines_are_counted_without_decoding(headers: Headers) -> None:
    encoder = Encoder()
    encoder.apply_settings(4096, 16)
    for stream_id in (
        0,
        4,
        8,
    ):  # later sections refer to what earlier ones inserted, and to what they insert themselves
        section = encoder.encode(stream_id, headers)[1]
        if len(section) > len(headers):
            assert not has_more_lines(section, len(headers))
            assert has_more_lines(section, len(headers) - 1)


@given(st.binary(max_size=64), st.integers(0, 8))
def test_counting_lines_of_garbage_ends(section: bytes, limit: int) -> None:
    assert has_more_lines(section, limit) in (True, False)
    assert not has_more_lines(section, len(section))


@given(st.binary(max_size=64))
def test_garbage_gives_protocol_errors_only(data: bytes) -> None:
    for call in (coding().feed_encoder, coding().feed_decoder, lambda section: coding().decode(0, section)):
        with suppress(ProtocolError, StreamBlocked):
            call(data)


def test_settings_of_the_peer_are_used_up_to_our_own_limits() -> None:
    assert coding().apply_settings(1 << 62, 1 << 62) == bytes.fromhex("3fe11f")
    assert coding().apply_settings(100, 0) == bytes.fromhex("3f45")
    assert coding().apply_settings(0, 0) == b""
