"""Names, kinds, signatures, defaults, fields, enum values and bases, against what aioquic 1.7.2 has."""

from __future__ import annotations

from pathlib import Path

import pytest

import quicio
from helpers.surface import DIFFERENCES, LIBRARIES, REFERENCE, TIERS, compare

DOCUMENT = Path(__file__).parents[2] / "docs" / "reference" / "aioquic.md"


@pytest.mark.parametrize("tier", TIERS)
def test_every_item_of_a_tier_is_there_and_the_same(tier: str) -> None:
    found = {item: compare("quicio", item) for item in REFERENCE.items(tier)}
    assert {item: text for item, text in found.items() if text is not None and item not in DIFFERENCES} == {}


@pytest.mark.parametrize("item", DIFFERENCES)
def test_what_is_listed_as_different_is_different_and_in_no_other_way(item: str) -> None:
    assert compare("quicio", item) == DIFFERENCES[item][0].format(version=quicio.__version__)


@pytest.mark.parametrize("item", DIFFERENCES)
def test_the_documents_tell_of_every_difference(item: str) -> None:
    text = " ".join(DOCUMENT.read_text().split())
    assert item.replace("aioquic", "quicio", 1) in text
    assert DIFFERENCES[item][1] in text


if "aioquic" in LIBRARIES:  # where the control is installed

    @pytest.mark.parametrize("tier", TIERS)
    def test_the_reference_describes_the_control(tier: str) -> None:
        """The comparison is one: aioquic, compared with itself, has no difference."""
        assert {item: text for item in REFERENCE.items(tier) if (text := compare("aioquic", item)) is not None} == {}


def test_a_tier_names_members_too() -> None:
    items = REFERENCE.items("core")
    assert "aioquic.quic.connection.QuicConnection.send_stream_data" in items
    assert len(items) > 100


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ("aioquic.h3.connection.H3_ALPN", None),
        ("aioquic.quic.events.StreamReset", None),
        ("aioquic.quic.connection.QuicConnection.close", None),
    ],
)
def test_single_items(item: str, text: str | None) -> None:
    assert compare("quicio", item) == text


def test_re_exports_are_the_same_objects() -> None:
    """`isinstance` and `except` must not depend on where a name was imported from."""
    from quicio import _buffer, buffer
    from quicio.h3 import connection as h3
    from quicio.h3 import events as h3_events
    from quicio.quic import connection, packet

    assert _buffer.Buffer is buffer.Buffer
    assert _buffer.BufferReadError is buffer.BufferReadError
    assert connection.QuicErrorCode is packet.QuicErrorCode
    assert h3.H3Event is h3_events.H3Event
