"""RPC client: many calls at once, each on a stream of its own and with a deadline; what is late is cancelled on the server too.

python examples/rpc_client.py localhost 4433 --ca-file /tmp/rpc.pem --calls 20 --slow 3 --deadline 0.5
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import anyio
from example_options import ProofError, client_configuration, client_parser, run

import quicio


class CallError(Exception):
    """The server could not do what it was asked for."""


async def call(connection: quicio.Connection, method: str, *arguments: object) -> Any:
    """Call `method` on the server. Put `anyio.fail_after()` around it: cancelled, it resets its stream."""
    async with await connection.open_stream() as stream:
        await stream.send(json.dumps({"method": method, "arguments": arguments}).encode())
        await stream.send_eof()
        answer = json.loads(b"".join([chunk async for chunk in stream]))
    if "error" in answer:
        raise CallError(answer["error"])
    return answer["result"]


class Calls:
    """Makes calls and counts how they ended."""

    def __init__(self, connection: quicio.Connection, deadline: float) -> None:
        self.connection = connection
        self.deadline = deadline  # seconds
        self.answered = 0
        self.late = 0

    async def add(self, number: int) -> None:
        """A call that is answered at once."""
        with anyio.fail_after(self.deadline):
            result = await call(self.connection, "add", number, number)
        if result != 2 * number:
            raise ProofError(f"{number} + {number} is not {result}")
        self.answered += 1

    async def think(self) -> None:
        """A call that takes much longer than we are ready to wait."""
        try:
            with anyio.fail_after(self.deadline):
                await call(self.connection, "think", 3600)
        except TimeoutError:
            self.late += 1
        else:
            raise ProofError("an answer that takes an hour came in time")


async def main(options: argparse.Namespace) -> str:
    configuration = client_configuration(options, "rpc")
    async with quicio.connect(
        options.host, options.port, server_name=options.server_name, configuration=configuration
    ) as connection:
        calls = Calls(connection, options.deadline)
        async with anyio.create_task_group() as tasks:
            for _ in range(options.slow):
                tasks.start_soon(calls.think)
            for number in range(options.calls):
                tasks.start_soon(calls.add, number)
        try:
            await call(connection, "multiply")
        except CallError:
            await calls.add(21)  # an error, or a deadline, costs its stream; the connection goes on
        else:
            raise ProofError("the server has a method that it should not have")
    return f"{calls.answered} calls answered, {calls.late} late ones given up after {options.deadline} s"


if __name__ == "__main__":
    parser = client_parser(__doc__)
    parser.add_argument("host", help="name or address of the server")
    parser.add_argument("port", type=int, help="its port")
    parser.add_argument("--server-name", help="name to verify the certificate against (default: the host)")
    parser.add_argument("--calls", type=int, default=20, help="calls that are answered at once (default %(default)s)")
    parser.add_argument("--slow", type=int, default=3, help="calls that take an hour (default %(default)s)")
    parser.add_argument(
        "--deadline", type=float, default=1.0, metavar="SECONDS", help="for each call (default %(default)s)"
    )
    run(main, parser.parse_args())
