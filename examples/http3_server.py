"""HTTP/3 server of a folder: GET and HEAD of the files in it, and an index of each folder. Nothing outside is served.

python examples/http3_server.py docs --port 4433 --save-certificate /tmp/server.pem
python examples/http3_client.py https://localhost:4433/index.md --ca-file /tmp/server.pem
"""

from __future__ import annotations

import argparse
import hashlib
import html
import logging
import mimetypes
from functools import partial
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

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

    def find(self, path: str) -> Path | None:
        """The file or folder at a path; None when there is none, or when it lies outside, links followed."""
        try:
            found = (self.root / path.lstrip("/")).resolve()
            return found if found.is_relative_to(self.root) and found.exists() else None
        except (ValueError, OSError):  # a NUL in the name, or a name that is too long
            return None

    async def answer(self, request: quicio.http.Request) -> None:
        """Answer one request, and count it, even when the client leaves before it has the whole answer."""
        logging.info("%s %s", request.method, request.path)
        try:
            await self._respond(request)
        finally:
            self._answered += 1
            if self._answered == self.requests:
                self.finished.set()

    async def _respond(self, request: quicio.http.Request) -> None:
        path = unquote(urlsplit(request.path).path)
        found = self.find(path)
        if request.method not in {"GET", "HEAD"}:
            await request.respond(405, {"allow": "GET, HEAD"}, "only GET and HEAD\n")
        elif found is None:
            await request.respond(404, {"content-type": "text/plain"}, "no such file\n")
        elif found.is_file():
            await self._send_file(request, found)
        elif not path.endswith("/"):  # so that the links of the index lead below it
            await request.respond(308, {"location": f"./{quote(found.name)}/"})
        elif (found / "index.html").is_file():
            await self._send_file(request, found / "index.html")
        else:
            await self._send_index(request, found, path)

    async def _send_file(self, request: quicio.http.Request, path: Path) -> None:
        digest = hashlib.sha256()
        async with await anyio.open_file(path, "rb") as file:
            headers = {"content-type": content_type(path), "content-length": str(path.stat().st_size)}
            await request.start_response(200, headers)
            if request.method == "HEAD":
                return
            while chunk := await file.read(CHUNK):
                digest.update(chunk)
                self.size += len(chunk)
                await request.send(chunk)
        self.digests.append(digest.digest())

    async def _send_index(self, request: quicio.http.Request, folder: Path, path: str) -> None:
        entries = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir())
        links = "\n".join(f'<li><a href="./{quote(name)}">{html.escape(name)}</a></li>' for name in entries)
        page = f"<!DOCTYPE html>\n<title>{html.escape(path)}</title>\n<ul>\n{links}\n</ul>\n".encode()
        if request.method == "GET":
            self.size += len(page)
            self.digests.append(hashlib.sha256(page).digest())
        await request.respond(200, {"content-type": "text/html; charset=utf-8"}, page)

    def proof(self) -> str:
        """What was served, with a digest over the digests of the files, sorted."""
        digest = hashlib.sha256(b"".join(sorted(self.digests)))
        return f"served {len(self.digests)} files, {self.size} bytes, sha256 {digest.hexdigest()}"


def content_type(path: Path) -> str:
    """The media type that a file's name stands for; a compressed file is not what it holds."""
    kind, encoding = mimetypes.guess_type(path.name)
    if kind is None or encoding is not None:
        return "application/gzip" if encoding == "gzip" else "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind


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
    options = parser.parse_args()
    if not options.folder.is_dir():
        parser.error(f"{options.folder} is no folder")
    run(main, options)
