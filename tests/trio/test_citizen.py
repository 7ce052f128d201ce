"""trio's own acceptance tests, and what trio code may rely on: `check_half_closeable_stream`, `assert_checkpoints`."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from helpers.trio_loopback import Pair, pair
from quicio.trio import Stream

pytestmark = pytest.mark.anyio

SMALL = {"max_stream_data": 65536, "max_data": 8 << 20, "send_buffer": 65536, "linger": 0.05}


async def clog(stream: Stream) -> None:
    """Send until the peer's window and the send buffer are full."""
    misses = 0
    while misses < 5:
        try:
            stream.send_nowait(bytes(16384))
            misses = 0
        except trio.WouldBlock:
            misses += 1
            await trio.sleep(0.01)


@pytest.mark.parametrize("opener", ["client", "server"])
async def test_streams_are_good_half_closeable_streams(opener: str) -> None:
    async with pair(client=SMALL, server=SMALL) as ends:
        here, there = (ends.client, ends.server) if opener == "client" else (ends.server, ends.client)
        flipped = Pair(here, there)

        async def clogged() -> tuple[Stream, Stream]:
            both = await flipped.open_stream()
            for stream in both:
                await clog(stream)
            return both

        await trio.testing.check_half_closeable_stream(flipped.open_stream, clogged)
