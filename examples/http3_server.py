"""HTTP/3 server of a folder: GET and HEAD of the files in it.

python examples/http3_server.py docs --port 4433 --save-certificate /tmp/server.pem
python examples/http3_client.py https://localhost:4433/index.md --ca-file /tmp/server.pem
"""

from __future__ import annotations

import argparse
import hashlib
import mimetypes
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

import anyio
from example_options import run, server_configuration, server_parser

import quicio.http

CHUNK = 64 * 1024


class Folder:
    """The files below `root`, and a count of what was served; ends the program after `requests` requests."""

    def __init__(self, root: Path, requests: int | None) -> None:
        self.root = root.resolve()
        self.requests = requests
        self.digests: list[bytes] = []
        self.size = 0
        self.finished = anyio.Event()
        self._answered = 0

    def find(self, url_path: str) -> Path | None:
        """The file that a request's path names; None when there is none, or when it lies outside the folder."""
        try:
            path = (self.root / unquote(urlsplit(url_path).path).lstrip("/")).resolve()
            if path.is_dir():
                path = path / "index.html"
            return path if path.is_relative_to(self.root) and path.is_file() else None
        except ValueError:  # a NUL in the name, for instance
            return None

    async def answer(self, request: quicio.http.Request) -> None:
        """Answer one request."""
        file = self.find(request.path)
        if request.method not in {"GET", "HEAD"}:
            await request.respond(405, {"allow": "GET, HEAD"}, "only GET and HEAD\n")
        elif file is None:
            await request.respond(404, {"content-type": "text/plain"}, "no such file\n")
        else:
            await self._send_file(request, file)
        self._answered += 1
        if self._answered == self.requests:
            self.finished.set()

    async def _send_file(self, request: quicio.http.Request, path: Path) -> None:
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        digest = hashlib.sha256()
        async with await anyio.open_file(path, "rb") as file:
            await request.start_response(200, {"content-type": kind, "content-length": str(path.stat().st_size)})
            if request.method == "HEAD":
                return
            while chunk := await file.read(CHUNK):
                digest.update(chunk)
                self.size += len(chunk)
                await request.send(chunk)
        self.digests.append(digest.digest())

    def proof(self) -> str:
        """What was served, with a digest over the digests of the files, sorted."""
        digest = hashlib.sha256(b"".join(sorted(self.digests)))
        return f"served {len(self.digests)} files, {self.size} bytes, sha256 {digest.hexdigest()}"


async def main(options: argparse.Namespace) -> str:
    folder = Folder(options.folder, options.requests)
    configuration = server_configuration(options, "h3")
    async with anyio.create_task_group() as tasks:
        server: quicio.http.Server = await tasks.start(
            partial(quicio.http.serve, folder.answer, options.host, options.port, configuration=configuration)
        )
        print("listening on {} port {}".format(*server.local_address), flush=True)
        await folder.finished.wait()
        await server.aclose()  # serve() ends when its handlers have
    return folder.proof()


if __name__ == "__main__":
    parser = server_parser(__doc__)
    parser.add_argument("folder", type=Path, help="what to serve")
    parser.add_argument("--requests", type=int, metavar="N", help="end after N requests (default: never)")
    run(main, parser.parse_args())
