"""0-RTT client on quicio.asyncio: keeps its session ticket in a file, and sends its question with the first packet.

The first run has no ticket and makes a full handshake; the next ones resume that session, and what they send early reaches the
server before the handshake is over. Somebody may record and replay early data: send only what does no harm when it comes
twice, as a question does. Written as a program for aioquic is: but for the root of its imports it is one.

python examples/asyncio_dns_server.py --port 8853 --save-certificate /tmp/dns.pem
python examples/asyncio_early_data_client.py localhost 8853 --session-ticket /tmp/ticket --ca-file /tmp/dns.pem
"""

from __future__ import annotations

import argparse
import asyncio
import pickle
import ssl
import time
from pathlib import Path
from typing import Any, cast

from asyncio_dns_client import DnsClientProtocol
from dnslib import RCODE
from example_options import ProofError, client_parser, open_key_log, run

from quicio.asyncio import connect
from quicio.quic.configuration import QuicConfiguration
from quicio.quic.events import HandshakeCompleted, QuicEvent
from quicio.tls import SessionTicket


class EarlyClient(DnsClientProtocol):
    """A DNS client that notes how its handshake went."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.completed: asyncio.Future[HandshakeCompleted] = self._loop.create_future()

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, HandshakeCompleted):
            self.completed.set_result(event)
        super().quic_event_received(event)


class TicketFile:
    """One ticket in a file. It holds a secret, so nobody else may read it; unpickle none that came from elsewhere."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.change = asyncio.Event()

    def load(self) -> SessionTicket | None:
        """The ticket that is kept, if there is one and it has not expired."""
        if not self.path.exists():
            return None
        ticket: SessionTicket = pickle.loads(self.path.read_bytes())
        return ticket if ticket.is_valid else None

    def save(self, ticket: SessionTicket) -> None:
        """The session ticket handler: the newest ticket is kept."""
        self.path.touch(mode=0o600)
        self.path.write_bytes(pickle.dumps(ticket))
        self.change.set()


async def main(options: argparse.Namespace) -> str:
    kept = TicketFile(options.session_ticket)
    configuration = QuicConfiguration(is_client=True, alpn_protocols=["doq"])
    configuration.session_ticket = kept.load()
    configuration.secrets_log_file = open_key_log(options)
    if options.ca_file is not None:
        configuration.load_verify_locations(cafile=str(options.ca_file))
    if options.insecure:
        configuration.verify_mode = ssl.CERT_NONE
    started = time.perf_counter()
    async with connect(
        options.host,
        options.port,
        configuration=configuration,
        create_protocol=EarlyClient,
        session_ticket_handler=kept.save,
        wait_connected=configuration.session_ticket is None,
    ) as protocol:
        client = cast(EarlyClient, protocol)
        answer = await client.ask(options.name, "A")
        took = time.perf_counter() - started
        completed = await client.completed
        async with asyncio.timeout(10):
            await kept.change.wait()  # the server sends a new ticket each time
    if answer.header.rcode != RCODE.NOERROR:
        raise ProofError(f"{options.name}: {RCODE[answer.header.rcode]}")
    resumed = "resumed" if completed.session_resumed else "full handshake"
    early = "early data accepted" if completed.early_data_accepted else "no early data"
    return f"answered in {took * 1000:.1f} ms, {resumed}, {early}"


if __name__ == "__main__":
    parser = client_parser(__doc__, backends=["asyncio"])
    parser.add_argument("host", help="name or address of the server")
    parser.add_argument("port", type=int, help="its port")
    parser.add_argument("name", nargs="?", default="www.example.com", help="the name to ask for (default %(default)s)")
    parser.add_argument(
        "--session-ticket", type=Path, required=True, metavar="FILE", help="where the ticket is kept between runs"
    )
    run(main, parser.parse_args())
