"""Programs that run on both libraries ask for `library`."""

from __future__ import annotations

import pytest

from helpers.library import Library
from helpers.surface import LIBRARIES


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> Library:
    """quicio, and aioquic as the control where it is installed."""
    return Library(request.param)
