"""Something that happens once, and tasks that may wait for it.

An `anyio.Event` costs some 900 bytes on asyncio, waited for or not, and most of a connection's never are. A gate makes one
when somebody waits.
"""

from __future__ import annotations

import anyio
from anyio.lowlevel import checkpoint

__all__ = ["Gate"]


class Gate:
    """As `anyio.Event`, but small while nobody waits."""

    __slots__ = ("_event", "_is_set")

    def __init__(self) -> None:
        self._is_set = False
        self._event: anyio.Event | None = None

    def is_set(self) -> bool:
        """Whether it has happened."""
        return self._is_set

    def set(self) -> None:
        """It has happened: wake all that wait."""
        self._is_set = True
        if self._event is not None:
            self._event.set()
            self._event = None

    async def wait(self) -> None:
        """Wait until it has happened; yields in any case."""
        if self._is_set:
            await checkpoint()
            return
        if self._event is None:
            self._event = anyio.Event()
        await self._event.wait()
