"""Tests of the trio face run on trio alone; bugs of the core show as themselves in them."""

from __future__ import annotations

from typing import Any

import pytest

from quicio.quic.connection import QuicConnection


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Where a test marked with `pytest.mark.anyio` runs."""
    return "trio", {}


@pytest.fixture(autouse=True)
def _unexpected_errors_are_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QuicConnection, "raise_unexpected", True)
