"""Bugs of the core show as themselves in these tests, not as connections that close."""

from __future__ import annotations

import pytest

from quicio.quic.connection import QuicConnection


@pytest.fixture(autouse=True)
def _unexpected_errors_are_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QuicConnection, "raise_unexpected", True)
