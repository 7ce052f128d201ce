"""HTTP/3 server of a folder on quicio.asyncio: a protocol that hands QUIC's events to an `H3Connection`.

Written as a program for aioquic is: but for the root of its imports it is one.

python examples/asyncio_http3_server.py docs --port 4433 --save-certificate /tmp/http3.pem
python examples/asyncio_http3_client.py https://localhost:4433/index.md --ca-file /tmp/http3.pem
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import mimetypes
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from example_options import load_certificate, open_key_log, run, server_parser

from quicio.asyncio import QuicConnectionProtocol, serve
from quicio.h3.connection import H3_ALPN, H3Connection
from quicio.h3.events import H3Event, HeadersReceived
from quicio.quic.configuration import QuicConfiguration
from quicio.quic.events import ConnectionTerminated, ProtocolNegotiated, QuicEvent

CHUNK = 256 * 1024


class Folder:
    """The files below `root`, and a count of what was served."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.digests: list[bytes] = []
        self.size = 0
        self.answered = 0
        self.connections = 0
        self.change = asyncio.Event()

    def find(self, url_path: str) -> Path | None:
        """The file that a request's path names; None when there is none, or when it lies outside the folder."""
        try:
            path = (self.root / unquote(urlsplit(url_path).path).lstrip("/")).resolve()
            if path.is_dir():
                path = path / "index.html"
            return path if path.is_relative_to(self.root) and path.is_file() else None
        except ValueError:  # a NUL in the name, for instance
            return None

    def served(self, content: bytes) -> None:
        """One file was sent."""
        self.digests.append(hashlib.sha256(content).digest())
        self.size += len(content)

    def proof(self) -> str:
        """What was served, with a digest over the digests of the files, sorted."""
        digest = hashlib.sha256(b"".join(sorted(self.digests))).hexdigest()
        return f"served {len(self.digests)} files, {self.size} bytes, sha256 {digest}"


class HttpServerProtocol(QuicConnectionProtocol):
    """One connection: requests come from the `H3Connection`, answers go to it."""

    def __init__(self, *args: Any, folder: Folder, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.folder = folder
        self.http: H3Connection | None = None

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, ProtocolNegotiated):
            self.http = H3Connection(self._quic)
            self.folder.connections += 1
        elif isinstance(event, ConnectionTerminated) and self.http is not None:
            self.folder.connections -= 1
            self.folder.change.set()
        if self.http is not None:
            for http_event in self.http.handle_event(event):
                self.http_event_received(self.http, http_event)

    def http_event_received(self, http: H3Connection, event: H3Event) -> None:
        """Answer each request when its fields are there. What is queued here goes out by itself."""
        if not isinstance(event, HeadersReceived):
            return
        headers = dict(event.headers)
        method, path = headers.get(b":method", b""), headers.get(b":path", b"").decode()
        file = self.folder.find(path)
        if method not in {b"GET", b"HEAD"}:
            http.send_headers(event.stream_id, [(b":status", b"405"), (b"allow", b"GET, HEAD")], end_stream=True)
        elif file is None:
            http.send_headers(event.stream_id, [(b":status", b"404")], end_stream=True)
        else:
            self.send_file(http, event.stream_id, file, with_content=method == b"GET")
        self.folder.answered += 1
        self.folder.change.set()

    def send_file(self, http: H3Connection, stream_id: int, path: Path, with_content: bool) -> None:
        """Send a file: the connection queues it, and sends as fast as the network and the client take it."""
        content = path.read_bytes()
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        headers = [
            (b":status", b"200"),
            (b"content-type", kind.encode()),
            (b"content-length", str(len(content)).encode()),
        ]
        http.send_headers(stream_id, headers, end_stream=not with_content)
        if with_content:
            for start in range(0, len(content), CHUNK):
                http.send_data(stream_id, content[start : start + CHUNK], end_stream=False)
            http.send_data(stream_id, b"", end_stream=True)
            self.folder.served(content)


async def main(options: argparse.Namespace) -> str:
    configuration = QuicConfiguration(is_client=False, alpn_protocols=H3_ALPN)
    configuration.secrets_log_file = open_key_log(options)
    load_certificate(configuration, options)
    folder = Folder(options.folder)

    def create_protocol(*args: Any, **kwargs: Any) -> HttpServerProtocol:
        return HttpServerProtocol(*args, folder=folder, **kwargs)

    server = await serve(options.host, options.port, configuration=configuration, create_protocol=create_protocol)
    assert server._transport is not None
    host, port, *_ = server._transport.get_extra_info("sockname")
    print(f"listening on {host} port {port}", flush=True)
    while options.requests is None or folder.answered < options.requests or folder.connections:
        await folder.change.wait()  # a client closes its connection when it has its answers
        folder.change.clear()
    server.close()
    return folder.proof()


if __name__ == "__main__":
    parser = server_parser(__doc__, backends=["asyncio"])
    parser.add_argument("folder", type=Path, help="what to serve")
    parser.add_argument("--requests", type=int, metavar="N", help="end after N requests (default: never)")
    run(main, parser.parse_args())
