"""A server of the task (see helpers/interop_task.py) on quicio's anyio face, or on its trio face.

Prints one JSON object when it listens, as aioquic_server.py does, and ends when its standard input does.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, cast

import anyio
import trio

import quicio
import quicio.trio
from helpers.interop_options import OPTIONS, configured
from helpers.interop_server import TaskServer, answer_http
from helpers.interop_task import ALPN
from quicio import http
from quicio.quic.connection import QuicConnection
from quicio.tls.constants import CipherSuite

HOST = "127.0.0.1"


class TrioStream:
    """A stream of the trio face by the names of the anyio face."""

    def __init__(self, stream: quicio.trio.Stream) -> None:
        self._stream = stream
        self.send = stream.send_all
        self.receive = stream.receive_some
        self.reset = stream.reset
        self.stop = stream.stop

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            yield bytes(chunk)


class TrioTaskServer(TaskServer):
    """The task on connections of the trio face."""

    async def _connection(self, connection: Any) -> None:
        with suppress(trio.ClosedResourceError):
            await super()._connection(connection)

    async def _stream(self, connection: Any, stream: Any) -> None:
        await super()._stream(connection, cast(quicio.Stream, TrioStream(stream)))


def retry_first(incoming: quicio.Incoming) -> None:
    """A policy: nobody is served whose address is not validated."""
    if not incoming.address_validated:
        incoming.retry()


def accept_all(incoming: quicio.Incoming) -> None:
    """A policy: everybody is served at once."""


@asynccontextmanager
async def serving(options: argparse.Namespace, configuration: quicio.QuicConfiguration) -> AsyncIterator[int]:
    """The server that the options ask for while the body runs; gives its port."""
    policy = retry_first if options.retry else accept_all
    async with anyio.create_task_group() as tasks:
        if options.alpn == "h3":
            serve = partial(http.serve, answer_http, HOST, 0, configuration=configuration, policy=policy)
            server = await tasks.start(serve)
            yield server.local_address[1]
        elif options.face == "trio":
            handler = TrioTaskServer()._connection
            serve_quic = partial(quicio.trio.serve_quic, handler, 0, host=HOST, configuration=configuration)
            [opened] = await tasks.start(serve_quic)
            yield opened.local_address[1]
        else:
            async with quicio.listen(HOST, 0, configuration=configuration, policy=policy) as listener:
                tasks.start_soon(TaskServer().accept, listener)
                yield listener.local_address[1]
                tasks.cancel_scope.cancel()
        tasks.cancel_scope.cancel()


async def main(options: argparse.Namespace) -> None:
    configuration = quicio.QuicConfiguration(
        is_client=False, alpn_protocols=[options.alpn], max_datagram_frame_size=65536, linger=1.0
    )
    configuration.load_cert_chain(options.certificate, options.key)
    with configured(configuration, options, CipherSuite):
        async with serving(options, configuration) as port:
            print(json.dumps({"event": "ready", "port": port}), flush=True)
            await anyio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)


if __name__ == "__main__":
    QuicConnection.raise_unexpected = True
    parser = argparse.ArgumentParser(description=__doc__, parents=[OPTIONS])
    parser.add_argument("face", choices=["anyio", "trio"])
    parser.add_argument("certificate")
    parser.add_argument("key")
    parser.add_argument("--alpn", default=ALPN)
    parser.add_argument("--retry", action="store_true")
    options = parser.parse_args()
    anyio.run(main, options, backend="trio" if options.face == "trio" else "asyncio")
