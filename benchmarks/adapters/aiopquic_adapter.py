"""aiopquic's asyncio interface: aioquic's events, on a network thread of its own.

Its sends wait for its ring in an own coroutine, and its server does not tell the port it was given: one is chosen before.
Its datagram size and its memory a connection are its own business; what it can be told of the rest, it is.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import protocol
from aiopquic.asyncio import QuicConnectionProtocol, connect, serve
from aiopquic.quic.configuration import QuicConfiguration
from aiopquic.quic.events import StreamDataReceived


def configure(options: protocol.Options) -> Any:
    """The documented defaults, but for what all libraries are asked to share."""
    configuration = QuicConfiguration(alpn_protocols=[protocol.ALPN], is_client=options.role == "client")
    if options.group in protocol.GROUPS:
        configuration.key_exchange_groups = [protocol.GROUPS[options.group]]
    if options.role == "client":
        configuration.server_name = "localhost"
        configuration.verify_mode = ssl.CERT_REQUIRED
        configuration.cafile = options.ca
    else:
        configuration.load_cert_chain(options.chain, options.key)
    return configuration


class Server(QuicConnectionProtocol):  # type: ignore[misc]  # untyped
    """Answers requests as `protocol` says."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.requests: dict[int, tuple[bytes, int]] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    def quic_event_received(self, event: Any) -> None:
        if not isinstance(event, StreamDataReceived):
            return
        head, count = self.requests.get(event.stream_id, (b"", 0))
        head = head or bytes(event.data[:9])
        count += len(event.data)
        self.requests[event.stream_id] = (head, count)
        if event.end_stream:
            del self.requests[event.stream_id]
            task = asyncio.ensure_future(send(self._quic, event.stream_id, self.answer(head, count)))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    def answer(self, head: bytes, count: int) -> bytes:
        kind = head[:1]
        if kind == b"D":
            return bytes(int.from_bytes(head[1:9], "big"))
        if kind == b"U":
            return count.to_bytes(8, "big")
        return protocol.REPLY if kind == b"R" else protocol.own_costs()


async def send(quic: Any, stream_id: int, data: bytes) -> None:
    """All of `data` and the end of the stream."""
    size = len(protocol.CHUNK)
    for position in range(0, max(len(data), 1), size):
        piece = data[position : position + size]
        await quic.send_stream_data_drained(stream_id, piece, position + size >= len(data))


class Client(QuicConnectionProtocol):  # type: ignore[misc]  # untyped
    """One future a stream."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.answers: dict[int, tuple[list[bytes], asyncio.Future[bytes]]] = {}

    def quic_event_received(self, event: Any) -> None:
        if isinstance(event, StreamDataReceived) and event.stream_id in self.answers:
            pieces, future = self.answers[event.stream_id]
            pieces.append(bytes(event.data))
            if event.end_stream:
                del self.answers[event.stream_id]
                future.set_result(b"".join(pieces))

    async def ask(self, request: bytes) -> bytes:
        stream_id = self._quic.get_next_available_stream_id()
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.answers[stream_id] = ([], future)
        await send(self._quic, stream_id, request)
        return await future

    async def costs(self) -> tuple[float, int]:
        return protocol.read_costs(await self.ask(b"S"))


def open_client(options: protocol.Options) -> Any:
    """The scope of a connection."""
    return connect("127.0.0.1", options.port, configuration=configure(options), create_protocol=Client)


async def bulk(client: Client, options: protocol.Options) -> None:
    before, _ = await client.costs()
    watch = protocol.Stopwatch()
    if options.scenario == "download":
        count = len(await client.ask(b"D" + options.amount.to_bytes(8, "big")))
    else:
        count = int.from_bytes(await client.ask(b"U" + bytes(options.amount)), "big") - 1
    assert count == options.amount, (count, options.amount)
    watch.stop()
    after, _ = await client.costs()
    watch.report(options.amount, after - before)


async def requests(client: Client, options: protocol.Options) -> None:
    before, _ = await client.costs()
    latencies: list[float] = []
    left = options.amount

    async def worker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            start = time.perf_counter()
            reply = await client.ask(protocol.REQUEST)
            latencies.append(time.perf_counter() - start)
            assert len(reply) == len(protocol.REPLY)

    watch = protocol.Stopwatch()
    await asyncio.gather(*[worker() for _ in range(protocol.CONCURRENCY)])
    watch.stop()
    after, _ = await client.costs()
    watch.report(options.amount, after - before, **protocol.quantiles(latencies))


async def handshakes(options: protocol.Options) -> None:
    watch = protocol.Stopwatch()
    for number in range(options.amount + 1):
        if number == 1:
            watch.start()  # the first one pays for imports
        async with open_client(options) as client:
            await client.ask(protocol.REQUEST)
    watch.report(options.amount, 0.0)


async def idle(options: protocol.Options) -> None:
    async with open_client(options) as first:
        _, server_before = await first.costs()
        client_before = protocol.resident()
        scopes = [open_client(options) for _ in range(options.amount)]
        for scope in scopes:
            await (await scope.__aenter__()).ask(protocol.REQUEST)
        _, server_after = await first.costs()
        client = (protocol.resident() - client_before) / options.amount
        server = (server_after - server_before) / options.amount
        protocol.Stopwatch().report(options.amount, 0.0, client_bytes=client, server_bytes=server)
        for scope in scopes:
            await scope.__aexit__(None, None, None)


def free_port() -> int:
    """A UDP port that nobody uses now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def run(options: protocol.Options) -> None:
    if options.role == "server":
        port = free_port()
        server = await serve("127.0.0.1", port, configuration=configure(options), create_protocol=Server)
        print(port, flush=True)
        await asyncio.Event().wait()
        server.close()
    elif options.scenario == "handshakes":
        await handshakes(options)
    elif options.scenario == "idle":
        await idle(options)
    else:
        async with open_client(options) as client:
            await (requests if options.scenario == "requests" else bulk)(client, options)


if __name__ == "__main__":
    asyncio.run(run(protocol.parse_options()))
