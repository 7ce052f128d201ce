"""DNS over QUIC client (RFC 9250) on quicio.asyncio: asks one question, with dnslib, and prints the answer.

Written as a program for aioquic is: but for the root of its imports it is one.

python examples/asyncio_dns_client.py localhost 8853 www.example.com AAAA --ca-file /tmp/dns.pem
"""

from __future__ import annotations

import argparse
import asyncio
import ssl
from typing import Any, cast

from dnslib import QTYPE, RCODE, DNSQuestion, DNSRecord
from example_options import ProofError, client_parser, open_key_log, run

from quicio.asyncio import QuicConnectionProtocol, connect
from quicio.quic.configuration import QuicConfiguration
from quicio.quic.events import ConnectionTerminated, QuicEvent, StreamDataReceived

GIVE_UP_AFTER = 10  # seconds


class DnsClientProtocol(QuicConnectionProtocol):
    """One connection: each question goes on a stream of its own (RFC 9250 §4.2)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.answers: dict[int, bytes] = {}
        self.waiting: dict[int, asyncio.Future[DNSRecord]] = {}

    async def ask(self, name: str, kind: str) -> DNSRecord:
        """Ask for the records of a name; returns the whole answer."""
        query = DNSRecord(q=DNSQuestion(name, getattr(QTYPE, kind)))
        query.header.id = 0  # RFC 9250 §4.2.1
        question: bytes = query.pack()
        stream_id = self._quic.get_next_available_stream_id()
        self._quic.send_stream_data(stream_id, len(question).to_bytes(2) + question, end_stream=True)
        self.answers[stream_id] = b""
        self.waiting[stream_id] = self._loop.create_future()
        self.transmit()
        async with asyncio.timeout(GIVE_UP_AFTER):
            return await self.waiting[stream_id]

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, StreamDataReceived) and event.stream_id in self.waiting:
            self.answers[event.stream_id] += event.data
            if event.end_stream:
                answer = self.answers.pop(event.stream_id)
                waiter = self.waiting[event.stream_id]
                if not waiter.done():
                    waiter.set_result(DNSRecord.parse(answer[2 : 2 + int.from_bytes(answer[:2])]))
        elif isinstance(event, ConnectionTerminated):
            for waiter in self.waiting.values():
                if not waiter.done():
                    waiter.set_exception(ConnectionError(f"the connection was closed: {event.reason_phrase}"))


async def main(options: argparse.Namespace) -> str:
    configuration = QuicConfiguration(is_client=True, alpn_protocols=["doq"])
    configuration.secrets_log_file = open_key_log(options)
    if options.ca_file is not None:
        configuration.load_verify_locations(cafile=str(options.ca_file))
    if options.insecure:
        configuration.verify_mode = ssl.CERT_NONE
    async with connect(
        options.host, options.port, configuration=configuration, create_protocol=DnsClientProtocol
    ) as protocol:
        answer = await cast(DnsClientProtocol, protocol).ask(options.name, options.type)
    if answer.header.rcode != RCODE.NOERROR:
        raise ProofError(f"{options.name}: {RCODE[answer.header.rcode]}")
    for record in answer.rr:
        print(record)
    return f"{len(answer.rr)} {options.type} records of {options.name}"


if __name__ == "__main__":
    parser = client_parser(__doc__, backends=["asyncio"])
    parser.add_argument("host", help="name or address of the server")
    parser.add_argument("port", type=int, help="its port; the protocol's own is 853")
    parser.add_argument("name", help="the name to ask for")
    parser.add_argument(
        "type", nargs="?", default="A", choices=["A", "AAAA", "MX", "NS", "SOA", "TXT"], help="(default %(default)s)"
    )
    run(main, parser.parse_args())
