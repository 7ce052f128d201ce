"""Echo server on quicio.asyncio: sends back what comes on each stream, and each datagram.

Written as a program for aioquic is: but for the root of its imports it is one.

python examples/asyncio_echo_server.py --port 4433 --save-certificate /tmp/echo.pem
python examples/asyncio_echo_client.py localhost 4433 --ca-file /tmp/echo.pem
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
from typing import Any

from example_options import load_certificate, open_key_log, run, server_parser

from quicio.asyncio import QuicConnectionProtocol, serve
from quicio.quic.configuration import QuicConfiguration
from quicio.quic.events import ConnectionTerminated, DatagramFrameReceived, QuicEvent

CHUNK = 64 * 1024


class Totals:
    """What was echoed, on all connections."""

    def __init__(self) -> None:
        self.digests: list[bytes] = []
        self.size = 0
        self.datagrams = 0
        self.ended = 0
        self.change = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()

    def handle_stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Called for each stream that a client opens."""
        task = asyncio.get_running_loop().create_task(self.echo(reader, writer))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Send one stream back."""
        digest = hashlib.sha256()
        while data := await reader.read(CHUNK):
            digest.update(data)
            self.size += len(data)
            writer.write(data)
            await writer.drain()
        self.digests.append(digest.digest())
        writer.write_eof()

    def proof(self) -> str:
        """What was echoed, with a digest over the digests of the streams, sorted."""
        digest = hashlib.sha256(b"".join(sorted(self.digests))).hexdigest()
        return (
            f"echoed {self.size} bytes on {len(self.digests)} streams, sha256 {digest}, and {self.datagrams} datagrams"
        )


class EchoProtocol(QuicConnectionProtocol):
    """Sends datagrams back, and notes when a connection is over."""

    def __init__(self, *args: Any, totals: Totals, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.totals = totals

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, DatagramFrameReceived):
            self._quic.send_datagram_frame(event.data)
            self.totals.datagrams += 1
        elif isinstance(event, ConnectionTerminated):
            self.totals.ended += 1
            self.totals.change.set()
        super().quic_event_received(event)


async def main(options: argparse.Namespace) -> str:
    configuration = QuicConfiguration(is_client=False, alpn_protocols=["echo"], max_datagram_frame_size=65535)
    configuration.secrets_log_file = open_key_log(options)
    load_certificate(configuration, options)
    totals = Totals()

    def create_protocol(*args: Any, **kwargs: Any) -> EchoProtocol:
        return EchoProtocol(*args, totals=totals, **kwargs)

    server = await serve(
        options.host,
        options.port,
        configuration=configuration,
        create_protocol=create_protocol,
        stream_handler=totals.handle_stream,
    )
    assert server._transport is not None
    host, port, *_ = server._transport.get_extra_info("sockname")
    print(f"listening on {host} port {port}", flush=True)
    while options.connections is None or totals.ended < options.connections:
        await totals.change.wait()
        totals.change.clear()
    server.close()
    return totals.proof()


if __name__ == "__main__":
    parser = server_parser(__doc__, backends=["asyncio"])
    parser.add_argument("--connections", type=int, metavar="N", help="end after N connections (default: never)")
    run(main, parser.parse_args())
