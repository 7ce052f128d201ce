"""A key-value store over QUIC, written so that it can be tested without a network: see test_key_value.py.

python examples/key_value.py --port 4433 --save-certificate /tmp/store.pem

What there is to test, `Store.stream`, takes any byte stream of anyio, not a QUIC stream: tests give it two queues in memory.
"""

from __future__ import annotations

import argparse
from functools import partial

import anyio
from anyio.abc import AnyByteStream
from anyio.streams.buffered import BufferedByteReceiveStream
from example_options import run, server_configuration, server_parser

import quicio

MAX_LINE = 1024  # bytes
PATIENCE = 30.0  # seconds that a client may be silent


class Store:
    """Keeps values under keys. Commands are lines: `SET key value` and `GET key`."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    async def connection(self, connection: quicio.Connection) -> None:
        """Serve the streams of one connection, all at once."""
        await connection.incoming_streams.serve(self.stream)

    async def stream(self, stream: AnyByteStream) -> None:
        """Answer the commands on one stream, until its end or until the client has been silent for too long."""
        lines = BufferedByteReceiveStream(stream)
        while True:
            try:
                with anyio.fail_after(PATIENCE):
                    line = await lines.receive_until(b"\n", MAX_LINE)
            except (anyio.EndOfStream, anyio.IncompleteRead):
                return
            except TimeoutError:
                await stream.send(b"BYE\n")
                return
            answer = self.command(*line.decode().split(" ", 2))
            await stream.send(answer.encode() + b"\n")

    def command(self, verb: str, key: str = "", value: str = "") -> str:
        """Do what one line asks for."""
        if verb == "SET":
            self.values[key] = value
            return "OK"
        if verb == "GET":
            return f"VALUE {self.values[key]}" if key in self.values else "NONE"
        return "WHAT"


async def main(options: argparse.Namespace) -> str:
    store = Store()
    configuration = server_configuration(options, "key-value")
    async with anyio.create_task_group() as tasks:
        listener: quicio.Listener = await tasks.start(
            partial(quicio.serve, store.connection, options.host, options.port, configuration=configuration)
        )
        print("listening on {} port {}".format(*listener.local_address), flush=True)
    return f"kept {len(store.values)} values"


if __name__ == "__main__":
    run(main, server_parser(__doc__).parse_args())
