"""The stock loop and uvloop; bugs of the core show as themselves; nothing is left behind by any test."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

import pytest
from anyio._core._asyncio_selector_thread import get_selector

from quicio.quic.connection import QuicConnection

LOOPS = [pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio")]
if find_spec("uvloop") is not None:
    LOOPS.append(pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"))


@pytest.fixture(params=LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """This face runs on asyncio alone."""
    backend: tuple[str, dict[str, Any]] = request.param
    return backend


@pytest.fixture(autouse=True)
def _unexpected_errors_are_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QuicConnection, "raise_unexpected", True)


def open_sockets() -> int:
    """How many sockets this process has open, on systems that tell."""
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:
        return 0
    count = 0
    for name in names:
        with suppress(OSError):  # the folder's own descriptor
            count += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
    return count


@pytest.fixture
def loop_errors() -> list[dict[str, Any]]:
    """What the loop's exception handler was told; a test that expects something takes it out."""
    return []


@pytest.fixture(autouse=True)
async def _nothing_is_left(loop_errors: list[dict[str, Any]]) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: loop_errors.append(context))
    get_selector()  # anyio's thread for loops without add_reader has sockets, which stay
    tasks = asyncio.all_tasks()
    sockets = open_sockets()
    yield
    for _ in range(3):
        await asyncio.sleep(0)
    left = {task for task in asyncio.all_tasks() - tasks if "TestRunner" not in repr(task)}  # the plugin's own
    assert not left
    assert open_sockets() == sockets
    assert not loop_errors
