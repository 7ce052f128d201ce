"""The order of fields, which applications rely on."""

from __future__ import annotations

from dataclasses import fields

import pytest

from quicio.h3 import events


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("DataReceived", ["data", "stream_id", "stream_ended", "push_id"]),
        ("DatagramReceived", ["data", "stream_id"]),
        ("HeadersReceived", ["headers", "stream_id", "stream_ended", "push_id"]),
        ("PushPromiseReceived", ["headers", "push_id", "stream_id"]),
        ("WebTransportStreamDataReceived", ["data", "stream_id", "stream_ended", "session_id"]),
        ("StreamFailed", ["stream_id", "error_code", "reason", "push_id"]),
        ("GoawayReceived", ["identifier"]),
    ],
)
def test_fields(name: str, expected: list[str]) -> None:
    kind = getattr(events, name)
    assert issubclass(kind, events.H3Event)
    assert [field.name for field in fields(kind)] == expected
    assert "__dict__" not in dir(kind)
