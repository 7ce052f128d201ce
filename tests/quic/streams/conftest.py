"""Fixtures of the streams room."""

from __future__ import annotations

import pytest

from helpers.streams import Pair


@pytest.fixture
def pair() -> Pair:
    """A client and a server that know each other's parameters."""
    return Pair()
