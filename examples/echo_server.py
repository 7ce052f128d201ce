"""Echo server: sends back what comes on each stream, and each datagram.

python examples/echo_server.py --port 4433 --save-certificate /tmp/echo.pem
python examples/echo_client.py localhost 4433 --ca-file /tmp/echo.pem
"""

from __future__ import annotations

import argparse
import hashlib
import logging
from functools import partial

import anyio
from example_options import run, server_configuration, server_parser

import quicio


class Echo:
    """Counts what it echoes; ends the program after `connections` connections."""

    def __init__(self, connections: int | None) -> None:
        self.connections = connections
        self.digests: list[bytes] = []
        self.size = 0
        self.datagrams = 0
        self.finished = anyio.Event()
        self._ended = 0

    async def connection(self, connection: quicio.Connection) -> None:
        """Serve one connection until the client closes it."""
        logging.info("connection from %s port %d", *connection.remote_address)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._echo_datagrams, connection)
            await connection.incoming_streams.serve(self._echo_stream)
            tasks.cancel_scope.cancel()
        self._ended += 1
        if self._ended == self.connections:
            self.finished.set()

    async def _echo_stream(self, stream: quicio.Stream) -> None:
        digest = hashlib.sha256()
        async for chunk in stream:
            digest.update(chunk)
            self.size += len(chunk)
            await stream.send(chunk)
        self.digests.append(digest.digest())

    async def _echo_datagrams(self, connection: quicio.Connection) -> None:
        try:
            async for datagram in connection.datagrams:
                await connection.datagrams.send(datagram)
                self.datagrams += 1
        except quicio.ConnectionLost:
            pass  # the client is done

    def proof(self) -> str:
        """What was echoed, with a digest over the digests of the streams, sorted."""
        digest = hashlib.sha256(b"".join(sorted(self.digests)))
        return (
            f"echoed {self.size} bytes on {len(self.digests)} streams, sha256 {digest.hexdigest()}, "
            f"and {self.datagrams} datagrams"
        )


async def main(options: argparse.Namespace) -> str:
    echo = Echo(options.connections)
    configuration = server_configuration(options, "echo")
    async with anyio.create_task_group() as tasks:
        listener: quicio.Listener = await tasks.start(
            partial(quicio.serve, echo.connection, options.host, options.port, configuration=configuration)
        )
        print("listening on {} port {}".format(*listener.local_address), flush=True)
        await echo.finished.wait()
        await listener.aclose()  # serve() ends when its handlers have
    return echo.proof()


if __name__ == "__main__":
    parser = server_parser(__doc__)
    parser.add_argument("--connections", type=int, metavar="N", help="end after N connections (default: never)")
    run(main, parser.parse_args())
