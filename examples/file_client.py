"""File client: sends files, all at once, with a bar of progress; run it again after an interruption, and it goes on.

python examples/file_client.py localhost 4433 README.md --ca-file /tmp/files.pem
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import BinaryIO

import anyio
from anyio.streams.buffered import BufferedByteReceiveStream
from example_options import Progress, ProofError, client_configuration, client_parser, run

import quicio

CHUNK = 64 * 1024


class Sender:
    """Sends files and counts what went out."""

    def __init__(self, connection: quicio.Connection, stop_after: int | None) -> None:
        self.connection = connection
        self.stop_after = stop_after  # bytes
        self.progress = Progress()
        self.digests: list[bytes] = []
        self.skipped = 0  # bytes that the server had already

    async def send(self, path: Path) -> None:
        """Send one file on a stream of its own."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
            header = {"name": path.name, "size": path.stat().st_size, "sha256": digest.hex()}
            self.progress.total += path.stat().st_size
            async with await self.connection.open_stream() as stream:
                answers = BufferedByteReceiveStream(stream)
                await stream.send(json.dumps(header).encode() + b"\n")
                have = int(await answers.receive_until(b"\n", 100))
                self.skipped += have
                self.progress.advance(have)
                file.seek(have)
                await self._send_rest(file, stream)
                await stream.send_eof()
                if await answers.receive_exactly(len(digest)) != digest:
                    raise ProofError(f"{path}: other bytes arrived than were sent")
        self.digests.append(digest)

    async def _send_rest(self, file: BinaryIO, stream: quicio.Stream) -> None:
        """`send_some` waits while the connection's buffer is full, and tells how much it took: so the bar moves at the
        network's pace, and no more of the file is in memory than the buffer holds."""
        while chunk := memoryview(file.read(CHUNK)):
            while chunk:
                taken = await stream.send_some(chunk)
                chunk = chunk[taken:]
                self.progress.advance(taken)
                if self.stop_after is not None and self.progress.done - self.skipped >= self.stop_after:
                    raise ProofError(f"stopped after {self.stop_after} bytes, as --stop-after asks")


async def main(options: argparse.Namespace) -> str:
    configuration = client_configuration(options, "files")
    async with quicio.connect(
        options.host, options.port, server_name=options.server_name, configuration=configuration
    ) as connection:
        sender = Sender(connection, options.stop_after)
        try:
            async with anyio.create_task_group() as tasks:
                for path in options.file:
                    tasks.start_soon(sender.send, path)
        finally:
            sender.progress.end()
    digest = hashlib.sha256(b"".join(sorted(sender.digests)))
    sent = sender.progress.done - sender.skipped
    return (
        f"sent {len(sender.digests)} files, {sent} bytes and {sender.skipped} that were there already, "
        f"sha256 {digest.hexdigest()}"
    )


if __name__ == "__main__":
    parser = client_parser(__doc__)
    parser.add_argument("host", help="name or address of the server")
    parser.add_argument("port", type=int, help="its port")
    parser.add_argument("file", type=Path, nargs="+", help="what to send")
    parser.add_argument("--server-name", help="name to verify the certificate against (default: the host)")
    parser.add_argument("--stop-after", type=int, metavar="BYTES", help="break off, to see how it goes on")
    run(main, parser.parse_args())
