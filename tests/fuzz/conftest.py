"""A bug shows as itself here: what the core did not expect is raised instead of closing the connection."""

from __future__ import annotations

import pytest

from quicio.quic.connection import QuicConnection


@pytest.fixture(autouse=True)
def raise_unexpected(monkeypatch: pytest.MonkeyPatch) -> None:
    """`QuicConnection.raise_unexpected` for every test of this folder."""
    monkeypatch.setattr(QuicConnection, "raise_unexpected", True)
