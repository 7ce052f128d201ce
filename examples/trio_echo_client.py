"""Echo client in trio's own idioms: random bytes on several streams at once, and datagrams; checks that each comes back.

python examples/trio_echo_client.py localhost 4433 --ca-file /tmp/echo.pem --streams 10 --size 1000000
"""

from __future__ import annotations

import argparse
import hashlib
import random

import trio
from example_options import ProofError, client_configuration, client_parser, run

import quicio.trio
from quicio.trio import Connection, Stream

CHUNK = 64 * 1024
RESEND_AFTER = 0.25  # seconds: a datagram may be lost, an echo program asks again
GIVE_UP_AFTER = 10  # seconds


async def echo_stream(connection: Connection, size: int, digests: list[bytes]) -> None:
    """Send `size` random bytes on a new stream while reading what comes back; note the digest when they agree."""
    source = random.Random()
    sent, received = hashlib.sha256(), hashlib.sha256()

    async def send(stream: Stream) -> None:
        for start in range(0, size, CHUNK):
            chunk = source.randbytes(min(CHUNK, size - start))
            sent.update(chunk)
            await stream.send_all(chunk)
        await stream.send_eof()

    async with await connection.open_stream() as stream, trio.open_nursery() as nursery:
        nursery.start_soon(send, stream)
        async for chunk in stream:
            received.update(chunk)
    if sent.digest() != received.digest():
        raise ProofError(f"stream {stream.id}: other bytes came back than were sent")
    digests.append(sent.digest())


async def echo_datagrams(connection: Connection, count: int) -> None:
    """Send `count` datagrams, one after the other, each again until it comes back."""
    for number in range(count):
        question = b"datagram %d" % number
        with trio.move_on_after(GIVE_UP_AFTER) as patience:
            await echo_datagram(connection, question)
        if patience.cancelled_caught:
            raise ProofError(f"datagram {number} never came back")


async def echo_datagram(connection: Connection, question: bytes) -> None:
    """Send a datagram until it comes back. Late answers to earlier ones, sent twice, are passed over."""
    answer = b""
    while answer != question:
        await connection.datagrams.send(question)
        with trio.move_on_after(RESEND_AFTER):
            while answer != question:
                answer = await connection.datagrams.receive()


async def main(options: argparse.Namespace) -> str:
    digests: list[bytes] = []
    configuration = client_configuration(options, "echo")
    async with quicio.trio.open_quic_connection(
        options.host, options.port, server_name=options.server_name, configuration=configuration
    ) as connection:
        async with trio.open_nursery() as nursery:
            for _ in range(options.streams):
                nursery.start_soon(echo_stream, connection, options.size, digests)
            nursery.start_soon(echo_datagrams, connection, options.datagrams)
    digest = hashlib.sha256(b"".join(sorted(digests)))
    return (
        f"{options.size * options.streams} bytes came back on {len(digests)} streams, sha256 {digest.hexdigest()}, "
        f"and {options.datagrams} datagrams"
    )


if __name__ == "__main__":
    parser = client_parser(__doc__, backends=["trio"])
    parser.add_argument("host", help="name or address of the server")
    parser.add_argument("port", type=int, help="its port")
    parser.add_argument("--server-name", help="name to verify the certificate against (default: the host)")
    parser.add_argument("--streams", type=int, default=10, help="streams at once (default %(default)s)")
    parser.add_argument("--size", type=int, default=1_000_000, help="bytes on each stream (default %(default)s)")
    parser.add_argument("--datagrams", type=int, default=20, help="datagrams (default %(default)s)")
    run(main, parser.parse_args())
