"""RPC server in trio's own idioms: one request on each stream, in JSON; a caller who gives up cancels the work.

python examples/trio_rpc_server.py --port 4433 --save-certificate /tmp/rpc.pem
python examples/trio_rpc_client.py localhost 4433 --ca-file /tmp/rpc.pem
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import trio
from example_options import run, server_configuration, server_parser

import quicio.trio
from quicio.trio import Connection, Stream

MAX_REQUEST = 64 * 1024  # bytes: a longer one is reset
TOO_LARGE = 3  # our own error code; 0, 1 and 2 are those of `QuicConfiguration.codes`


async def add(*numbers: float) -> float:
    """The sum of some numbers."""
    return sum(numbers)


async def think(seconds: float) -> str:
    """An answer that takes its time."""
    await trio.sleep(seconds)
    return "42"


METHODS: dict[str, Callable[..., Awaitable[object]]] = {"add": add, "think": think}


class Service:
    """Answers requests and counts how they ended; ends the program after `connections` connections."""

    def __init__(self, connections: int | None) -> None:
        self.connections = connections
        self.answered = 0
        self.abandoned = 0
        self.finished = trio.Event()
        self._ended = 0

    async def connection(self, connection: Connection) -> None:
        """Serve one connection until the client closes it."""
        await connection.incoming_streams.serve(self._request)
        self._ended += 1
        if self._ended == self.connections:
            self.finished.set()

    async def _request(self, stream: Stream) -> None:
        request = bytearray()
        async for chunk in stream:
            request += chunk
            if len(request) > MAX_REQUEST:
                stream.stop(TOO_LARGE)
                stream.reset(TOO_LARGE)
                return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, stream, nursery.cancel_scope)
            answer = await call(request)
            await stream.send_all(answer)
            await stream.send_eof()
            self.answered += 1
            nursery.cancel_scope.cancel()

    async def _watch(self, stream: Stream, work: trio.CancelScope) -> None:
        """Cancel the work when the caller no longer waits for it: its deadline has passed, or its connection is gone."""
        try:
            code = await stream.wait_stopped()
        except trio.BrokenResourceError as error:
            logging.info("stream %d: %s", stream.id, error)
        else:
            logging.info("stream %d: the caller gave up, code %s", stream.id, code)
        self.abandoned += 1
        work.cancel()


async def call(request: bytes | bytearray) -> bytes:
    """Call what a request names; whatever goes wrong in the request or in the method is the answer."""
    try:
        wanted: dict[str, Any] = json.loads(request)
        result = await METHODS[wanted["method"]](*wanted["arguments"])
    except Exception as error:
        logging.info("a request failed", exc_info=error)
        return json.dumps({"error": f"{type(error).__name__}: {error}"}).encode()
    return json.dumps({"result": result}).encode()


async def main(options: argparse.Namespace) -> str:
    service = Service(options.connections)
    configuration = server_configuration(options, "rpc")
    async with trio.open_nursery() as nursery:
        serve = partial(
            quicio.trio.serve_quic, service.connection, options.port, host=options.host, configuration=configuration
        )
        for listener in await nursery.start(serve):
            print("listening on {} port {}".format(*listener.local_address), flush=True)
        await service.finished.wait()
        nursery.cancel_scope.cancel()
    return f"{service.answered} calls answered, {service.abandoned} cancelled by their callers"


if __name__ == "__main__":
    parser = server_parser(__doc__, backends=["trio"])
    parser.add_argument("--connections", type=int, metavar="N", help="end after N connections (default: never)")
    run(main, parser.parse_args())
