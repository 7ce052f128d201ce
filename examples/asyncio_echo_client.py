"""Echo client on quicio.asyncio: random bytes on several streams at once, and datagrams; checks that each comes back.

Written as a program for aioquic is: but for the root of its imports it is one.

python examples/asyncio_echo_client.py localhost 4433 --ca-file /tmp/echo.pem --streams 10 --size 1000000
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import random
import ssl
from typing import Any, cast

from example_options import ProofError, client_parser, open_key_log, run

from quicio.asyncio import QuicConnectionProtocol, connect
from quicio.quic.configuration import QuicConfiguration
from quicio.quic.events import DatagramFrameReceived, QuicEvent

CHUNK = 64 * 1024
RESEND_AFTER = 0.25  # seconds: a datagram may be lost, an echo program asks again
GIVE_UP_AFTER = 10  # seconds


class EchoClient(QuicConnectionProtocol):
    """Keeps the datagrams that come, and does the echoes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.datagrams: asyncio.Queue[bytes] = asyncio.Queue()

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, DatagramFrameReceived):
            self.datagrams.put_nowait(event.data)
        super().quic_event_received(event)

    async def echo_datagram(self, question: bytes) -> None:
        """Send a datagram until it comes back."""
        answer = b""
        while answer != question:
            self._quic.send_datagram_frame(question)
            self.transmit()
            try:
                answer = await asyncio.wait_for(self.datagrams.get(), RESEND_AFTER)
            except TimeoutError:
                continue


async def echo_stream(client: EchoClient, size: int) -> bytes:
    """Send `size` random bytes on a new stream while reading what comes back; the digest when they agree."""
    source = random.Random()
    sent, received = hashlib.sha256(), hashlib.sha256()
    reader, writer = await client.create_stream()
    writer.write(b"")  # takes the stream's ID: aioquic leaves that to the first write

    async def send() -> None:
        for start in range(0, size, CHUNK):
            chunk = source.randbytes(min(CHUNK, size - start))
            sent.update(chunk)
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()

    sending = asyncio.ensure_future(send())
    while data := await reader.read(CHUNK):
        received.update(data)
    await sending
    if sent.digest() != received.digest():
        raise ProofError("other bytes came back than were sent")
    return sent.digest()


async def main(options: argparse.Namespace) -> str:
    configuration = QuicConfiguration(is_client=True, alpn_protocols=["echo"], max_datagram_frame_size=65535)
    configuration.secrets_log_file = open_key_log(options)
    if options.ca_file is not None:
        configuration.load_verify_locations(cafile=str(options.ca_file))
    if options.insecure:
        configuration.verify_mode = ssl.CERT_NONE
    async with connect(options.host, options.port, configuration=configuration, create_protocol=EchoClient) as protocol:
        client = cast(EchoClient, protocol)
        digests = await asyncio.gather(*[echo_stream(client, options.size) for _ in range(options.streams)])
        for number in range(options.datagrams):
            await asyncio.wait_for(client.echo_datagram(b"datagram %d" % number), GIVE_UP_AFTER)
    digest = hashlib.sha256(b"".join(sorted(digests))).hexdigest()
    return (
        f"{options.size * options.streams} bytes came back on {len(digests)} streams, sha256 {digest}, "
        f"and {options.datagrams} datagrams"
    )


if __name__ == "__main__":
    parser = client_parser(__doc__, backends=["asyncio"])
    parser.add_argument("host", help="name or address of the server")
    parser.add_argument("port", type=int, help="its port")
    parser.add_argument("--streams", type=int, default=10, help="streams at once (default %(default)s)")
    parser.add_argument("--size", type=int, default=1_000_000, help="bytes on each stream (default %(default)s)")
    parser.add_argument("--datagrams", type=int, default=20, help="datagrams (default %(default)s)")
    run(main, parser.parse_args())
