"""A server of the task (see helpers/interop_task.py) on aioquic, or on a package of the same layout.

Prints one JSON object a line: first {"event": "ready", "port": ...}, then what happens that only this side can tell. Ends when
its standard input does, so it never outlives the tests.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from importlib import import_module
from typing import Any

from helpers.interop_options import OPTIONS, configured
from helpers.interop_task import ALPN, CLOSE_PHRASE, DONE, content, digest, parse_command

PACKAGE = sys.argv[1]
quic_asyncio = import_module(f"{PACKAGE}.asyncio")
configuration_module = import_module(f"{PACKAGE}.quic.configuration")
h3 = import_module(f"{PACKAGE}.h3.connection")
tls = import_module(f"{PACKAGE}.tls")


def report(event: str, **facts: Any) -> None:
    print(json.dumps({"event": event, **facts}), flush=True)


class Request:
    """What a client has sent on one stream."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.path = b""
        self.is_answered = False


class Server(quic_asyncio.QuicConnectionProtocol):  # type: ignore[misc, name-defined]  # the package is chosen at run time
    """One connection. Events are taken raw: nothing of the stream classes is involved."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.requests: dict[int, Request] = {}
        self.http: Any = None

    def quic_event_received(self, event: Any) -> None:
        kind = type(event).__name__
        if kind == "ProtocolNegotiated" and event.alpn_protocol == "h3":
            self.http = h3.H3Connection(self._quic)
        elif kind == "DatagramFrameReceived":
            self._quic.send_datagram_frame(event.data)
        elif kind == "StreamReset":
            report("reset", code=event.error_code)
        elif kind == "StopSendingReceived":
            report("stopped", code=event.error_code)
        elif kind == "ConnectionTerminated":
            report("terminated", code=event.error_code, frame=event.frame_type, reason=event.reason_phrase)
        elif kind == "StreamDataReceived" and self.http is None:
            self.on_data(event.stream_id, event.data, event.end_stream)
        if self.http is not None:
            for http_event in self.http.handle_event(event):
                self.on_http(http_event)

    # --- the task ----------------------------------------------------------------------------------------------------

    def on_data(self, stream_id: int, data: bytes, is_end: bool) -> None:
        request = self.requests.setdefault(stream_id, Request())
        request.data += data
        line, newline, body = bytes(request.data[:64]).partition(b"\n")
        if not newline or request.is_answered:
            return
        verb, number = parse_command(line)
        if verb in ("reset", "stop", "close"):
            request.is_answered = True
            self.on_refusal(stream_id, verb, number)
        elif is_end:
            del self.requests[stream_id]
            body = bytes(request.data[len(line) + 1 :])
            self._quic.send_stream_data(stream_id, self.answer(verb, number, body), end_stream=True)

    def on_refusal(self, stream_id: int, verb: str, code: int) -> None:
        if verb == "reset":
            self._quic.reset_stream(stream_id, code)
        elif verb == "stop":
            self._quic.stop_stream(stream_id, code)
        else:
            self._quic.close(error_code=code, reason_phrase=CLOSE_PHRASE)

    def answer(self, verb: str, number: int, body: bytes) -> bytes:
        if verb == "up":
            return digest(body).encode()
        if verb == "down":
            return content(number)
        if verb == "echo":
            return body
        if verb == "key-update":
            self._quic.request_key_update()
        elif verb == "change-id":
            self._quic.change_connection_id()
        return DONE

    # --- HTTP/3 ------------------------------------------------------------------------------------------------------

    def on_http(self, event: Any) -> None:
        kind = type(event).__name__
        if kind not in ("HeadersReceived", "DataReceived"):
            return
        request = self.requests.setdefault(event.stream_id, Request())
        if kind == "HeadersReceived":
            request.path = request.path or dict(event.headers)[b":path"]
        else:
            request.data += event.data
        if event.stream_ended:
            body = digest(bytes(request.data)).encode()
            if request.path.startswith(b"/down/"):
                body = content(int(request.path.removeprefix(b"/down/")))
            length = str(len(body)).encode()
            headers = [(b":status", b"200"), (b"server", PACKAGE.encode()), (b"content-length", length)]
            self.http.send_headers(event.stream_id, headers)
            self.http.send_data(event.stream_id, body, end_stream=True)


async def main(options: argparse.Namespace) -> None:
    configuration = configuration_module.QuicConfiguration(
        is_client=False, alpn_protocols=[ALPN, "h3"], max_datagram_frame_size=65536
    )
    configuration.load_cert_chain(options.certificate, options.key)
    with configured(configuration, options, tls.CipherSuite):
        await serve(options, configuration)


async def serve(options: argparse.Namespace, configuration: Any) -> None:
    tickets: dict[bytes, Any] = {}
    keeping = {
        "session_ticket_fetcher": lambda label: tickets.pop(label, None),
        "session_ticket_handler": lambda ticket: tickets.__setitem__(ticket.ticket, ticket),
    }
    server = await quic_asyncio.serve(
        "127.0.0.1",
        0,
        configuration=configuration,
        create_protocol=Server,
        retry=options.retry,
        **(keeping if options.keep_tickets else {}),
    )
    report("ready", port=server._transport.get_extra_info("sockname")[1])
    await asyncio.to_thread(sys.stdin.read)
    server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, parents=[OPTIONS])
    parser.add_argument("package")
    parser.add_argument("certificate")
    parser.add_argument("key")
    parser.add_argument("--retry", action="store_true")
    asyncio.run(main(parser.parse_args()))
