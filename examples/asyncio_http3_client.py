"""HTTP/3 client on quicio.asyncio: downloads URLs of one server to files, all at once.

Written as a program for aioquic is: but for the root of its imports it is one.

python examples/asyncio_http3_client.py https://localhost:4433/index.md --ca-file /tmp/http3.pem --output-folder /tmp
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import ssl
from pathlib import Path, PurePosixPath
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from example_options import ProofError, client_parser, open_key_log, run

from quicio.asyncio import QuicConnectionProtocol, connect
from quicio.h3.connection import H3_ALPN, H3Connection
from quicio.h3.events import DataReceived, H3Event, HeadersReceived
from quicio.quic.configuration import QuicConfiguration
from quicio.quic.events import ConnectionTerminated, QuicEvent, StreamReset


class Response:
    """What comes back on one stream."""

    def __init__(self) -> None:
        self.status = 0
        self.content = bytearray()
        self.complete: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fail(self, error: Exception) -> None:
        """It will never be complete."""
        if not self.complete.done():
            self.complete.set_exception(error)


class HttpClient(QuicConnectionProtocol):
    """One connection: requests go to the `H3Connection`, responses come from it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)
        self.responses: dict[int, Response] = {}

    async def get(self, authority: str, path: str) -> Response:
        """GET one path; returns when the response is complete."""
        stream_id = self._quic.get_next_available_stream_id()
        headers = [
            (b":method", b"GET"),
            (b":scheme", b"https"),
            (b":authority", authority.encode()),
            (b":path", path.encode()),
        ]
        response = self.responses[stream_id] = Response()
        self.http.send_headers(stream_id, headers, end_stream=True)
        self.transmit()
        await response.complete
        return response

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, ConnectionTerminated):
            for response in self.responses.values():
                response.fail(ConnectionError(f"the connection was closed: {event.reason_phrase}"))
        elif isinstance(event, StreamReset) and event.stream_id in self.responses:
            self.responses[event.stream_id].fail(ConnectionError(f"reset with code {event.error_code}"))
        for http_event in self.http.handle_event(event):
            self.http_event_received(http_event)

    def http_event_received(self, event: H3Event) -> None:
        """A part of a response."""
        if not isinstance(event, HeadersReceived | DataReceived) or event.stream_id not in self.responses:
            return
        response = self.responses[event.stream_id]
        if isinstance(event, HeadersReceived):
            response.status = int(dict(event.headers).get(b":status", response.status))
        else:
            response.content += event.data
        if event.stream_ended and not response.complete.done():
            response.complete.set_result(None)


async def main(options: argparse.Namespace) -> str:
    first = urlsplit(options.url[0])
    if not first.hostname or any(urlsplit(url).netloc != first.netloc for url in options.url):
        raise ProofError("give URLs of one server, https://host:port/path")
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN)
    configuration.secrets_log_file = open_key_log(options)
    if options.ca_file is not None:
        configuration.load_verify_locations(cafile=str(options.ca_file))
    if options.insecure:
        configuration.verify_mode = ssl.CERT_NONE
    digests: list[bytes] = []
    size = 0
    async with connect(
        first.hostname, first.port or 443, configuration=configuration, create_protocol=HttpClient
    ) as protocol:
        client = cast(HttpClient, protocol)
        paths = [urlsplit(url).path or "/" for url in options.url]
        responses = await asyncio.gather(*[client.get(first.netloc, path) for path in paths])
    for path, response in zip(paths, responses, strict=True):
        if response.status != 200:
            raise ProofError(f"{path}: status {response.status}")
        name = PurePosixPath(unquote(path)).name or "index.html"
        (options.output_folder / name).write_bytes(response.content)
        digests.append(hashlib.sha256(response.content).digest())
        size += len(response.content)
    digest = hashlib.sha256(b"".join(sorted(digests))).hexdigest()
    return f"downloaded {len(digests)} files, {size} bytes, sha256 {digest}"


if __name__ == "__main__":
    parser = client_parser(__doc__, backends=["asyncio"])
    parser.add_argument("url", nargs="+", help="https://host:port/path, all of one server")
    parser.add_argument("--output-folder", type=Path, default=Path(), help="where files go (default: here)")
    run(main, parser.parse_args())
