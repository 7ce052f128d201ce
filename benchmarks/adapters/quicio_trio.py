"""quicio's trio face: streams, connections and listeners in trio's own words."""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import protocol

from quicio.trio import Connection, QuicConfiguration, Stream, open_quic_connection, serve_quic

configure = partial(protocol.configure_quicio, QuicConfiguration)


async def answer(stream: Stream) -> None:
    """The server's side of one stream: read the request to its end, then answer."""
    head = await stream.receive_some()
    count = len(head)
    while chunk := await stream.receive_some():
        count += len(chunk)
    kind = head[:1]
    if kind == b"U":
        await stream.send_all(count.to_bytes(8, "big"))
    elif kind == b"D":
        left = int.from_bytes(head[1:9], "big")
        while left > 0:
            await stream.send_all(protocol.CHUNK[:left])
            left -= len(protocol.CHUNK)
    else:
        await stream.send_all(protocol.REPLY if kind == b"R" else protocol.own_costs())
    await stream.send_eof()


async def serve(options: protocol.Options) -> None:
    async def handler(connection: Connection) -> None:
        await connection.incoming_streams.serve(answer)

    async with trio.open_nursery() as nursery:
        serving = partial(serve_quic, handler, 0, host="127.0.0.1", configuration=configure(options))
        (listener,) = await nursery.start(serving)
        print(listener.local_address[1], flush=True)


async def ask(connection: Connection, request: bytes) -> bytes:
    """One request, its answer whole."""
    async with await connection.open_stream() as stream:
        await stream.send_all(request)
        await stream.send_eof()
        pieces = []
        while piece := await stream.receive_some():
            pieces.append(piece)
        return b"".join(pieces)


async def costs(connection: Connection) -> tuple[float, int]:
    return protocol.read_costs(await ask(connection, b"S"))


async def bulk(connection: Connection, options: protocol.Options) -> None:
    before, _ = await costs(connection)
    watch = protocol.Stopwatch()
    count = 0
    async with await connection.open_stream() as stream:
        if options.scenario == "download":
            await stream.send_all(b"D" + options.amount.to_bytes(8, "big"))
            await stream.send_eof()
            while chunk := await stream.receive_some():
                count += len(chunk)
        else:
            await stream.send_all(b"U")
            for _ in range(options.amount // len(protocol.CHUNK)):
                await stream.send_all(protocol.CHUNK)
            await stream.send_eof()
            count = int.from_bytes(await stream.receive_some(), "big") - 1
    assert count == options.amount, (count, options.amount)
    watch.stop()
    after, _ = await costs(connection)
    watch.report(options.amount, after - before)


async def requests(connection: Connection, options: protocol.Options) -> None:
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
    async with trio.open_nursery() as nursery:
        for _ in range(protocol.CONCURRENCY):
            nursery.start_soon(worker)
    watch.stop()
    after, _ = await costs(connection)
    watch.report(options.amount, after - before, **protocol.quantiles(latencies))


async def handshakes(options: protocol.Options) -> None:
    configuration = configure(options)
    watch = protocol.Stopwatch()
    for number in range(options.amount + 1):
        if number == 1:
            watch.start()  # the first one pays for imports
        async with open_quic_connection("127.0.0.1", options.port, configuration=configuration) as connection:
            await ask(connection, protocol.REQUEST)
            connection.close(0)
    watch.report(options.amount, 0.0)


async def idle(options: protocol.Options) -> None:
    configuration = configure(options)
    async with open_quic_connection("127.0.0.1", options.port, configuration=configuration) as first:
        _, server_before = await costs(first)
        client_before = protocol.resident()

        async def hold(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            async with open_quic_connection("127.0.0.1", options.port, configuration=configuration) as connection:
                await ask(connection, protocol.REQUEST)
                task_status.started()
                await trio.sleep_forever()

        async with trio.open_nursery() as nursery:
            for _ in range(options.amount):
                await nursery.start(hold)
            _, server_after = await costs(first)
            client = (protocol.resident() - client_before) / options.amount
            server = (server_after - server_before) / options.amount
            protocol.Stopwatch().report(options.amount, 0.0, client_bytes=client, server_bytes=server)
            nursery.cancel_scope.cancel()


async def run_client(options: protocol.Options) -> None:
    if options.scenario == "handshakes":
        await handshakes(options)
    elif options.scenario == "idle":
        await idle(options)
    else:
        async with open_quic_connection("127.0.0.1", options.port, configuration=configure(options)) as connection:
            await (requests if options.scenario == "requests" else bulk)(connection, options)


if __name__ == "__main__":
    OPTIONS = protocol.parse_options()
    trio.run(serve if OPTIONS.role == "server" else run_client, OPTIONS)
