"""quicio's task groups: anyio on asyncio, uvloop or trio."""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import anyio

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import protocol

import quicio
from quicio import QuicConfiguration

configure = partial(protocol.configure_quicio, QuicConfiguration)


async def answer(stream: quicio.Stream) -> None:
    """The server's side of one stream: read the request to its end, then answer."""
    head = await stream.receive()
    count = len(head)
    async for chunk in stream:
        count += len(chunk)
    kind = head[:1]
    if kind == b"U":
        await stream.send(count.to_bytes(8, "big"))
    elif kind == b"D":
        left = int.from_bytes(head[1:9], "big")
        while left > 0:
            await stream.send(protocol.CHUNK[:left])
            left -= len(protocol.CHUNK)
    else:
        await stream.send(protocol.REPLY if kind == b"R" else protocol.own_costs())
    await stream.send_eof()


async def serve(options: protocol.Options) -> None:
    async def handler(connection: quicio.Connection) -> None:
        await connection.incoming_streams.serve(answer)

    async with quicio.listen("127.0.0.1", 0, configuration=configure(options)) as listener:
        print(listener.local_address[1], flush=True)
        await listener.serve(handler)


async def ask(connection: quicio.Connection, request: bytes) -> bytes:
    """One request, its answer whole."""
    async with await connection.open_stream() as stream:
        await stream.send(request)
        await stream.send_eof()
        return b"".join([chunk async for chunk in stream])


async def costs(connection: quicio.Connection) -> tuple[float, int]:
    return protocol.read_costs(await ask(connection, b"S"))


async def bulk(connection: quicio.Connection, options: protocol.Options) -> None:
    before, _ = await costs(connection)
    watch = protocol.Stopwatch()
    async with await connection.open_stream() as stream:
        if options.scenario == "download":
            await stream.send(b"D" + options.amount.to_bytes(8, "big"))
            await stream.send_eof()
            count = 0
            async for chunk in stream:
                count += len(chunk)
        else:
            await stream.send(b"U")
            for _ in range(options.amount // len(protocol.CHUNK)):
                await stream.send(protocol.CHUNK)
            await stream.send_eof()
            count = int.from_bytes(await stream.receive(), "big") - 1
    assert count == options.amount, (count, options.amount)
    watch.stop()
    after, _ = await costs(connection)
    watch.report(options.amount, after - before)


async def requests(connection: quicio.Connection, options: protocol.Options) -> None:
    before, _ = await costs(connection)
    latencies: list[float] = []
    left = options.amount

    async def worker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            start = time.perf_counter()
            reply = await ask(connection, protocol.REQUEST)
            latencies.append(time.perf_counter() - start)
            assert len(reply) == len(protocol.REPLY)

    watch = protocol.Stopwatch()
    async with anyio.create_task_group() as group:
        for _ in range(protocol.CONCURRENCY):
            group.start_soon(worker)
    watch.stop()
    after, _ = await costs(connection)
    watch.report(options.amount, after - before, **protocol.quantiles(latencies))


async def handshakes(options: protocol.Options) -> None:
    configuration = configure(options)
    watch = protocol.Stopwatch()
    for number in range(options.amount + 1):
        if number == 1:
            watch.start()  # the first one pays for imports
        async with quicio.connect("127.0.0.1", options.port, configuration=configuration) as connection:
            await ask(connection, protocol.REQUEST)
            connection.close(0)
    watch.report(options.amount, 0.0)


async def idle(options: protocol.Options) -> None:
    configuration = configure(options)
    async with quicio.connect("127.0.0.1", options.port, configuration=configuration) as first:
        _, server_before = await costs(first)
        client_before = protocol.resident()
        async with anyio.create_task_group() as group:
            ready: list[Any] = []
            all_ready = anyio.Event()

            async def hold() -> None:
                async with quicio.connect("127.0.0.1", options.port, configuration=configuration) as connection:
                    await ask(connection, protocol.REQUEST)
                    ready.append(connection)
                    if len(ready) == options.amount:
                        all_ready.set()
                    await anyio.sleep_forever()

            for _ in range(options.amount):
                group.start_soon(hold)
                await anyio.sleep(0.005)
            await all_ready.wait()
            _, server_after = await costs(first)
            client = (protocol.resident() - client_before) / options.amount
            server = (server_after - server_before) / options.amount
            protocol.Stopwatch().report(options.amount, 0.0, client_bytes=client, server_bytes=server)
            group.cancel_scope.cancel()


async def run_client(options: protocol.Options) -> None:
    if options.scenario == "handshakes":
        await handshakes(options)
    elif options.scenario == "idle":
        await idle(options)
    else:
        async with quicio.connect("127.0.0.1", options.port, configuration=configure(options)) as connection:
            await (requests if options.scenario == "requests" else bulk)(connection, options)


def main() -> None:
    options = protocol.parse_options()
    backend = "trio" if options.backend == "trio" else "asyncio"
    backend_options = {"use_uvloop": True} if options.backend == "uvloop" else {}
    run = serve if options.role == "server" else run_client
    anyio.run(run, options, backend=backend, backend_options=backend_options)


if __name__ == "__main__":
    main()
