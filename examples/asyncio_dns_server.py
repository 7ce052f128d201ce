"""DNS over QUIC server (RFC 9250) on quicio.asyncio: answers from a zone, with dnslib; takes questions as early data.

Written as a program for aioquic is: but for the root of its imports it is one.

python examples/asyncio_dns_server.py --port 8853 --save-certificate /tmp/dns.pem
python examples/asyncio_dns_client.py localhost 8853 www.example.com AAAA --ca-file /tmp/dns.pem
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import Any

from dnslib import QTYPE, RCODE, RR, DNSError, DNSRecord
from example_options import load_certificate, open_key_log, run, server_parser

from quicio.asyncio import QuicConnectionProtocol, serve
from quicio.quic.configuration import QuicConfiguration
from quicio.quic.events import ConnectionTerminated, QuicEvent, StreamDataReceived
from quicio.tls import SessionTicket

DOQ_PROTOCOL_ERROR = 2  # RFC 9250 §4.3
MAX_QUESTION = 2 + 65535  # a length of two bytes, and as much as it can say
ZONE = """
example.com.      3600 IN SOA  ns.example.com. admin.example.com. 1 7200 900 1209600 300
example.com.      3600 IN MX   10 mail.example.com.
www.example.com.  3600 IN A    192.0.2.1
www.example.com.  3600 IN AAAA 2001:db8::1
mail.example.com. 3600 IN A    192.0.2.25
"""


class Zone:
    """What is known, and a count of what was asked."""

    def __init__(self, text: str) -> None:
        self.records: list[Any] = list(RR.fromZone(text))
        self.answered = 0
        self.connections = 0
        self.change = asyncio.Event()

    def answer(self, question: bytes) -> bytes:
        """The answer to a question. Raises `dnslib.DNSError` for what is none."""
        query = DNSRecord.parse(question)
        reply = query.reply()
        name, kind = query.q.qname, query.q.qtype
        matching = [record for record in self.records if record.rname == name]
        for record in matching:
            if kind in {record.rtype, QTYPE.ANY}:
                reply.add_answer(record)
        if not matching:
            reply.header.rcode = RCODE.NXDOMAIN
        self.answered += 1
        packed: bytes = reply.pack()
        return packed


class SessionTicketStore:
    """Tickets for resumption, each of them for one time: that keeps early data from being replayed."""

    def __init__(self) -> None:
        self.tickets: dict[bytes, SessionTicket] = {}

    def add(self, ticket: SessionTicket) -> None:
        """The session ticket handler."""
        self.tickets[ticket.ticket] = ticket

    def pop(self, label: bytes) -> SessionTicket | None:
        """The session ticket fetcher."""
        return self.tickets.pop(label, None)


class DnsServerProtocol(QuicConnectionProtocol):
    """One connection: each stream brings one question, behind two bytes with its length (RFC 9250 §4.2)."""

    def __init__(self, *args: Any, zone: Zone, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.zone = zone
        self.questions: dict[int, bytes] = {}
        zone.connections += 1

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, StreamDataReceived):
            question = self.questions.get(event.stream_id, b"") + event.data
            self.questions[event.stream_id] = question
            if event.end_stream:
                self.answer(event.stream_id, self.questions.pop(event.stream_id))
            elif len(question) > MAX_QUESTION:
                self._quic.close(error_code=DOQ_PROTOCOL_ERROR, reason_phrase="a question is too long")
        elif isinstance(event, ConnectionTerminated):
            self.zone.connections -= 1
            self.zone.change.set()

    def answer(self, stream_id: int, question: bytes) -> None:
        """Answer on the stream; what is queued here goes out by itself."""
        length = int.from_bytes(question[:2])
        try:
            if stream_id % 4 != 0 or len(question) != 2 + length or question[2:4] != b"\0\0":
                raise DNSError("a stream has one question, with its length, and 0 as its ID")
            answer = self.zone.answer(question[2:])
        except DNSError as error:
            self._quic.close(error_code=DOQ_PROTOCOL_ERROR, reason_phrase=str(error))
            return
        self._quic.send_stream_data(stream_id, len(answer).to_bytes(2) + answer, end_stream=True)
        self.zone.change.set()


async def main(options: argparse.Namespace) -> str:
    configuration = QuicConfiguration(is_client=False, alpn_protocols=["doq"])
    configuration.secrets_log_file = open_key_log(options)
    load_certificate(configuration, options)
    zone = Zone(ZONE if options.zone is None else options.zone.read_text(encoding="utf-8"))
    tickets = SessionTicketStore()

    def create_protocol(*args: Any, **kwargs: Any) -> DnsServerProtocol:
        return DnsServerProtocol(*args, zone=zone, **kwargs)

    server = await serve(
        options.host,
        options.port,
        configuration=configuration,
        create_protocol=create_protocol,
        session_ticket_fetcher=tickets.pop,
        session_ticket_handler=tickets.add,
        retry=options.retry,
    )
    assert server._transport is not None
    host, port, *_ = server._transport.get_extra_info("sockname")
    print(f"listening on {host} port {port}", flush=True)
    while options.questions is None or zone.answered < options.questions or zone.connections:
        await zone.change.wait()  # a client closes its connection when it has its answers
        zone.change.clear()
    server.close()
    return f"answered {zone.answered} questions"


if __name__ == "__main__":
    parser = server_parser(__doc__, backends=["asyncio"])
    parser.add_argument("--zone", type=Path, metavar="FILE", help="the zone to answer from (default: an example's)")
    parser.add_argument("--retry", action="store_true", help="have clients prove their addresses first")
    parser.add_argument("--questions", type=int, metavar="N", help="end after N questions (default: never)")
    run(main, parser.parse_args())
