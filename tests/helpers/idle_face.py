"""What the native faces hold of idle connections, in a process of its own: the program of `tests/memory/test_face.py`.

`idle_face.py server FACE FOLDER` prints its port, and when `WARM` and then `MEASURED` more connections have exchanged a little
and fallen silent, the bytes that one of the latter costs in files of the face and of its event loop.
`idle_face.py client FACE FOLDER PORT COUNT` opens so many connections and holds them until its input ends. FACE is `asyncio`
or `trio`, the event loop under the task groups, or `nursery`, trio's own face.
"""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio

import quicio
from quicio import QuicConfiguration

HOST = "127.0.0.1"
WARM = 10
MEASURED = 40
FACE_FILES = ("/quicio/anyio/", "/quicio/trio/", "/anyio/", "/asyncio/", "/trio/", "contextlib", "weakref")


def server_configuration(folder: Path) -> QuicConfiguration:
    """The server's defaults."""
    configuration = QuicConfiguration(is_client=False, alpn_protocols=["idle"])
    configuration.load_cert_chain(folder / "chain.pem", folder / "key.pem")
    return configuration


def face_bytes() -> int:
    """Traced bytes that were allocated in files of a face or of an event loop."""
    gc.collect()
    statistics = tracemalloc.take_snapshot().statistics("filename")
    names = ((entry.traceback[0].filename, entry.size) for entry in statistics)
    return sum(size for name, size in names if any(part in name for part in FACE_FILES) and __file__ not in name)


class Count:
    """Connections that have exchanged."""

    def __init__(self) -> None:
        self.silent = 0
        self.wanted = WARM
        self.is_reached = anyio.Event()

    def add(self) -> None:
        """One more."""
        self.silent += 1
        if self.silent == self.wanted:
            self.is_reached.set()

    async def reach(self, wanted: int) -> None:
        """Wait for so many, and for what they leave behind in their drivers' turns."""
        self.wanted = wanted
        await self.is_reached.wait()
        self.is_reached = anyio.Event()
        await anyio.sleep(0.5)


async def handle(count: Count, connection: Any) -> None:
    """Answer one stream, then be silent."""
    stream = await connection.incoming_streams.receive()
    pieces = [piece async for piece in stream]
    await (stream.send_all if hasattr(stream, "send_all") else stream.send)(b"".join(pieces))
    await stream.aclose()
    del stream, pieces
    count.add()
    await connection.wait_closed()


async def serve(face: str, folder: Path) -> None:
    """Serve, measure, print."""
    count = Count()
    configuration = server_configuration(folder)
    run: Callable[..., Awaitable[Any]]
    if face == "nursery":
        from quicio.trio import serve_quic  # here: the other faces are measured without it

        run = partial(serve_quic, partial(handle, count), 0, host=HOST, configuration=configuration)
    else:
        run = partial(quicio.serve, partial(handle, count), HOST, 0, configuration=configuration)
    async with anyio.create_task_group() as group:
        started = await group.start(run)
        listener = started[0] if isinstance(started, list) else started
        print(listener.local_address[1], flush=True)
        await count.reach(WARM)
        tracemalloc.start()
        before = face_bytes()
        print("warm", flush=True)
        await count.reach(WARM + MEASURED)
        print((face_bytes() - before) // MEASURED, flush=True)
        group.cancel_scope.cancel()


async def hold(folder: Path, port: int, number: int) -> None:
    """Open connections and hold them until the input ends."""
    configuration = QuicConfiguration(
        alpn_protocols=["idle"], cafile=str(folder / "ca.pem"), server_name="localhost", handshake_timeout=60.0
    )

    async def one() -> None:
        async with quicio.connect(HOST, port, configuration=configuration) as connection:
            async with await connection.open_stream() as stream:
                await stream.send(b"hello")
                await stream.send_eof()
                assert b"".join([piece async for piece in stream]) == b"hello"
            await connection.wait_closed()

    async with anyio.create_task_group() as group:
        for _ in range(number):
            group.start_soon(one)
        await anyio.to_thread.run_sync(sys.stdin.read)
        group.cancel_scope.cancel()


if __name__ == "__main__":
    role, face, folder, *rest = sys.argv[1:]
    backend = "asyncio" if face == "asyncio" else "trio"
    if role == "server":
        anyio.run(serve, face, Path(folder), backend=backend)
    else:
        anyio.run(hold, Path(folder), int(rest[0]), int(rest[1]), backend=backend)
