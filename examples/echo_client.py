"""Echo client: sends random bytes on several streams at once, and datagrams, and checks that each comes back.

python examples/echo_client.py localhost 4433 --ca-file /tmp/echo.pem --streams 10 --size 1000000
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import random

import anyio
from example_options import ProofError, client_configuration, client_parser, run

import quicio

CHUNK = 64 * 1024
RESEND_AFTER = 0.25  # seconds: a datagram may be lost, an echo program asks again
GIVE_UP_AFTER = 10  # seconds


async def echo_stream(connection: quicio.Connection, size: int, digests: list[bytes]) -> None:
    """Send `size` random bytes on a new stream while reading what comes back; note the digest when they agree."""
    source = random.Random()
    sent, received = hashlib.sha256(), hashlib.sha256()

    async def send(stream: quicio.Stream) -> None:
        for start in range(0, size, CHUNK):
            chunk = source.randbytes(min(CHUNK, size - start))
            sent.update(chunk)
            await stream.send(chunk)
        await stream.send_eof()

    async with await connection.open_stream() as stream, anyio.create_task_group() as tasks:
        tasks.start_soon(send, stream)
        async for chunk in stream:
            received.update(chunk)
    if sent.digest() != received.digest():
        raise ProofError(f"stream {stream.id}: other bytes came back than were sent")
    digests.append(sent.digest())


async def echo_datagrams(connection: quicio.Connection, count: int) -> None:
    """Send `count` datagrams, one after the other, each again until it comes back."""
    for number in range(count):
        question = b"datagram %d" % number
        with anyio.move_on_after(GIVE_UP_AFTER) as patience:
            await echo_datagram(connection, question)
        if patience.cancelled_caught:
            raise ProofError(f"datagram {number} never came back")


async def echo_datagram(connection: quicio.Connection, question: bytes) -> None:
    """Send a datagram until it comes back. Late answers to earlier ones, sent twice, are passed over."""
    answer = b""
    while answer != question:
        await connection.datagrams.send(question)
        with anyio.move_on_after(RESEND_AFTER):
            while answer != question:
                answer = await connection.datagrams.receive()


async def main(options: argparse.Namespace) -> str:
    digests: list[bytes] = []
    configuration = client_configuration(options, "echo")
    async with quicio.connect(
        options.host, options.port, server_name=options.server_name, configuration=configuration
    ) as connection:
        told = connection.extra(quicio.QuicAttribute.cipher), connection.extra(quicio.QuicAttribute.alpn)
        logging.info("connected to %s port %d: %s, %s", *connection.remote_address, *told)
        async with anyio.create_task_group() as tasks:
            for _ in range(options.streams):
                tasks.start_soon(echo_stream, connection, options.size, digests)
            tasks.start_soon(echo_datagrams, connection, options.datagrams)
    digest = hashlib.sha256(b"".join(sorted(digests)))
    return (
        f"{options.size * options.streams} bytes came back on {len(digests)} streams, sha256 {digest.hexdigest()}, "
        f"and {options.datagrams} datagrams"
    )


if __name__ == "__main__":
    parser = client_parser(__doc__)
    parser.add_argument("host", help="name or address of the server")
    parser.add_argument("port", type=int, help="its port")
    parser.add_argument("--server-name", help="name to verify the certificate against (default: the host)")
    parser.add_argument("--streams", type=int, default=10, help="streams at once (default %(default)s)")
    parser.add_argument("--size", type=int, default=1_000_000, help="bytes on each stream (default %(default)s)")
    parser.add_argument("--datagrams", type=int, default=20, help="datagrams (default %(default)s)")
    run(main, parser.parse_args())
