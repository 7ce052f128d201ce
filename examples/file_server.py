"""File server: takes files that clients send, each on a stream of its own; an interrupted one goes on where it stopped.

python examples/file_server.py /tmp/received --port 4433 --save-certificate /tmp/files.pem
python examples/file_client.py localhost 4433 README.md --ca-file /tmp/files.pem
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
from collections import defaultdict
from functools import partial
from pathlib import Path

import anyio
from anyio.streams.buffered import BufferedByteReceiveStream
from example_options import run, server_configuration, server_parser

import quicio

MAX_HEADER = 4096  # bytes
BAD_REQUEST = 3  # our own error code; 0, 1 and 2 are those of `QuicConfiguration.codes`


class Receiver:
    """Writes what comes to a folder; ends the program after `files` files."""

    def __init__(self, folder: Path, files: int | None) -> None:
        self.folder = folder
        self.digests: list[bytes] = []
        self.size = 0
        self.finished = anyio.Event()
        self._awaited = files
        self._locks: defaultdict[bytes, anyio.Lock] = defaultdict(anyio.Lock)  # one sender of a file at a time

    async def connection(self, connection: quicio.Connection) -> None:
        """Serve one connection until the client closes it."""
        await connection.incoming_streams.serve(self._file)

    async def _file(self, stream: quicio.Stream) -> None:
        """One file: the client says which, we say how much of it we have, the rest comes, we say its digest.

        What is not whole stays in a `.part` file, named by its digest: a file that has changed begins anew.
        """
        lines = BufferedByteReceiveStream(stream)
        header = json.loads(await lines.receive_until(b"\n", MAX_HEADER))
        name, size, wanted = Path(header["name"]).name, int(header["size"]), bytes.fromhex(header["sha256"])
        if not name or not wanted:
            stream.reset(BAD_REQUEST)
            return
        async with self._locks[wanted]:
            if not await self._take(stream, lines, size, wanted, self.folder / name):
                stream.reset(BAD_REQUEST)
                return
        await stream.send(wanted)
        await stream.send_eof()
        self._done(wanted, size)

    async def _take(
        self, stream: quicio.Stream, lines: BufferedByteReceiveStream, size: int, wanted: bytes, path: Path
    ) -> bool:
        """Ask for what is missing of a file and write it; whether it is what was announced."""
        part = self.folder / f"{wanted.hex()}.part"
        digest = hashlib.sha256()
        with part.open("a+b") as file:
            file.seek(0)
            while known := file.read(1 << 20):
                digest.update(known)
            have = file.tell()
            await stream.send(b"%d\n" % have)
            logging.info("%s: %d bytes, of which %d are here", path.name, size, have)
            async for chunk in lines:  # taking it lets the client send more
                digest.update(chunk)
                file.write(chunk)
                have += len(chunk)
        is_right = have == size and digest.digest() == wanted
        if is_right:
            part.replace(path)
        else:
            part.unlink()
        return is_right

    def _done(self, digest: bytes, size: int) -> None:
        self.digests.append(digest)
        self.size += size
        if len(self.digests) == self._awaited:
            self.finished.set()


async def main(options: argparse.Namespace) -> str:
    options.folder.mkdir(parents=True, exist_ok=True)
    receiver = Receiver(options.folder, options.files)
    configuration = server_configuration(options, "files")
    async with anyio.create_task_group() as tasks:
        listener: quicio.Listener = await tasks.start(
            partial(quicio.serve, receiver.connection, options.host, options.port, configuration=configuration)
        )
        print("listening on {} port {}".format(*listener.local_address), flush=True)
        await receiver.finished.wait()
        await listener.aclose()  # serve() ends when its handlers have
    digest = hashlib.sha256(b"".join(sorted(receiver.digests)))
    return f"received {len(receiver.digests)} files, {receiver.size} bytes, sha256 {digest.hexdigest()}"


if __name__ == "__main__":
    parser = server_parser(__doc__)
    parser.add_argument("folder", type=Path, help="where files go")
    parser.add_argument("--files", type=int, metavar="N", help="end after N files (default: never)")
    run(main, parser.parse_args())
