"""aioquic's asyncio interface, by its documentation: a protocol subclass that handles stream events.

One program for all who have that interface: `--library` names the import root (aioquic, qh3 or quicio).
"""

from __future__ import annotations

import asyncio
import ssl
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import protocol

OPTIONS = protocol.parse_options()
LIBRARY = OPTIONS.library
quic_asyncio: Any = import_module(f"{LIBRARY}.asyncio")
StreamDataReceived: Any = import_module(f"{LIBRARY}.quic.events").StreamDataReceived
QuicConfiguration: Any = import_module(f"{LIBRARY}.quic.configuration").QuicConfiguration
QuicConnectionProtocol: Any = quic_asyncio.QuicConnectionProtocol
connect: Any = quic_asyncio.connect


def configure(options: protocol.Options) -> Any:
    """The documented defaults, but for what all libraries are asked to share."""
    if LIBRARY == "quicio":
        return protocol.configure_quicio(QuicConfiguration, options)
    configuration = QuicConfiguration(alpn_protocols=[protocol.ALPN], is_client=options.role == "client")
    if options.size:
        configuration.max_datagram_size = options.size
    if options.role == "client":
        configuration.server_name = "localhost"
        configuration.verify_mode = ssl.CERT_REQUIRED
        configuration.load_verify_locations(options.ca)
    else:
        configuration.load_cert_chain(options.chain, options.key)
    return configuration


class Server(QuicConnectionProtocol):  # type: ignore[misc]  # found at run time
    """Answers requests as `protocol` says."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.requests: dict[int, tuple[bytes, int]] = {}

    def quic_event_received(self, event: Any) -> None:
        if not isinstance(event, StreamDataReceived):
            return
        head, count = self.requests.get(event.stream_id, (b"", 0))
        head = head or event.data[:9]
        count += len(event.data)
        self.requests[event.stream_id] = (head, count)
        if event.end_stream:
            del self.requests[event.stream_id]
            self._quic.send_stream_data(event.stream_id, self.answer(head, count), end_stream=True)

    def answer(self, head: bytes, count: int) -> bytes:
        kind = head[:1]
        if kind == b"D":
            return bytes(int.from_bytes(head[1:9], "big"))
        if kind == b"U":
            return count.to_bytes(8, "big")
        return protocol.REPLY if kind == b"R" else protocol.own_costs()


class Client(QuicConnectionProtocol):  # type: ignore[misc]  # found at run time
    """One future a stream."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.answers: dict[int, tuple[list[bytes], asyncio.Future[bytes]]] = {}
        self.counts: dict[int, int] = {}

    def quic_event_received(self, event: Any) -> None:
        if isinstance(event, StreamDataReceived) and event.stream_id in self.answers:
            pieces, future = self.answers[event.stream_id]
            pieces.append(event.data)
            if event.end_stream:
                del self.answers[event.stream_id]
                future.set_result(b"".join(pieces))

    async def ask(self, request: bytes) -> bytes:
        stream_id = self._quic.get_next_available_stream_id()
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.answers[stream_id] = ([], future)
        while True:
            try:
                self._quic.send_stream_data(stream_id, request, end_stream=True)
                break
            except ValueError:  # qh3, at the peer's limit of streams
                await asyncio.sleep(0.001)
        self.transmit()
        return await future

    async def costs(self) -> tuple[float, int]:
        return protocol.read_costs(await self.ask(b"S"))


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
        client = connect("127.0.0.1", options.port, configuration=configure(options), create_protocol=Client)
        connection: Any = await client.__aenter__()
        await connection.ask(protocol.REQUEST)
        connection.close()
        connection._transport.close()  # its own exit waits out the closing period, which is not what is measured
    watch.report(options.amount, 0.0)


async def idle(options: protocol.Options) -> None:
    connections: list[Any] = []
    async with connect("127.0.0.1", options.port, configuration=configure(options), create_protocol=Client) as first:
        _, server_before = await first.costs()
        client_before = protocol.resident()
        for _ in range(options.amount):
            context = connect("127.0.0.1", options.port, configuration=configure(options), create_protocol=Client)
            connection: Any = await context.__aenter__()
            connections.append((context, connection))
            await connection.ask(protocol.REQUEST)
        _, server_after = await first.costs()
        client = (protocol.resident() - client_before) / options.amount
        server = (server_after - server_before) / options.amount
        protocol.Stopwatch().report(options.amount, 0.0, client_bytes=client, server_bytes=server)
        sys.stdout.flush()
        for _, connection in connections:
            connection.close()
            connection._transport.close()


async def run(options: protocol.Options) -> None:
    if options.role == "server":
        server = await quic_asyncio.serve("127.0.0.1", 0, configuration=configure(options), create_protocol=Server)
        print(server._transport.get_extra_info("sockname")[1], flush=True)
        await asyncio.Event().wait()
    elif options.scenario == "handshakes":
        await handshakes(options)
    elif options.scenario == "idle":
        await idle(options)
    else:
        async with connect(
            "127.0.0.1", options.port, configuration=configure(options), create_protocol=Client
        ) as client:
            await (requests if options.scenario == "requests" else bulk)(client, options)


if __name__ == "__main__":
    asyncio.run(run(OPTIONS))
