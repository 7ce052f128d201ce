"""`QuicConnectable`: a connection and one stream on it, for code that takes any `ByteStreamConnectable`.

Generic clients call `connect()` and know nothing of what lies below the stream they get. The tasks that move its packets have
to live somewhere: here, in the task group that the connectable was made with. Each `connect()` starts a *host* task there. It
owns the connection, waits until both sides of the stream were closed by their user or the connection has ended, and then
ends it as any scope of a connection does: gracefully, within `linger`. What was not delivered by then is logged, for there
is nobody left to tell. Cancelling the group closes the connection at once.
"""

from __future__ import annotations

import logging
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from anyio import TASK_STATUS_IGNORED
from anyio.abc import ByteStreamConnectable, TaskGroup, TaskStatus

from quicio.anyio.client import connect
from quicio.anyio.stream import Stream
from quicio.errors import NotDelivered

__all__ = ["QuicConnectable"]

logger: logging.Logger = logging.getLogger("quicio")


class QuicConnectable(ByteStreamConnectable):
    """Connects to a QUIC server and opens one stream. Arguments after `task_group` are those of `quicio.connect`.

    The connection lives in `task_group`, which waits for it: it ends when the stream was closed.
    """

    def __init__(
        self, task_group: TaskGroup, host: str | IPv4Address | IPv6Address, port: int, **as_connect: Any
    ) -> None:
        self._task_group = task_group
        self._host = host
        self._port = port
        self._as_connect = as_connect

    async def connect(self) -> Stream:
        """Connect and open a bidirectional stream. Raises as entering `quicio.connect` does."""
        handed_over: list[Stream] = await self._task_group.start(self._host_connection)
        return handed_over.pop()

    async def _host_connection(self, *, task_status: TaskStatus[list[Stream]] = TASK_STATUS_IGNORED) -> None:
        try:
            async with connect(self._host, self._port, **self._as_connect) as connection:
                stream = await connection.open_stream()
                released = connection._table.when_released(stream.id)
                task_status.started([stream])  # which is emptied: what a task was started with outlives the start
                del stream  # one that its user drops is reset, not kept
                await released.wait()
        except NotDelivered as error:
            logger.warning("a connection to %s ended: %s", self._host, error)
