"""HTTP/3 client: downloads URLs to files, all at once, over one connection for each server.

python examples/http3_client.py https://localhost:4433/index.md --ca-file /tmp/server.pem --output-folder /tmp
"""

from __future__ import annotations

import argparse
import hashlib
import logging
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import anyio
from example_options import Progress, ProofError, client_configuration, client_parser, run

import quicio.http


class Downloads:
    """What is to be fetched, by server, and what has come."""

    def __init__(self, urls: list[str], folder: Path) -> None:
        self.folder = folder
        self.by_server: dict[tuple[str, int], list[str]] = {}
        self.digests: list[bytes] = []
        self.progress = Progress()
        if len({file_name(url) for url in urls}) < len(urls):
            raise ProofError("two of the URLs would be saved to one file")
        for url in urls:
            parts = urlsplit(url)
            if parts.scheme != "https" or not parts.hostname:
                raise ProofError(f"{url} is not an https URL")
            self.by_server.setdefault((parts.hostname, parts.port or 443), []).append(url)

    async def from_server(self, host: str, port: int, configuration: quicio.QuicConfiguration) -> None:
        """Fetch all that one server has, at once, on one connection."""
        async with quicio.http.connect(host, port, configuration=configuration) as client:
            async with anyio.create_task_group() as tasks:
                for url in self.by_server[host, port]:
                    tasks.start_soon(self._fetch, client, url)

    async def _fetch(self, client: quicio.http.Client, url: str) -> None:
        digest = hashlib.sha256()
        size = 0
        async with client.get(url) as response:
            logging.info("%s: status %d", url, response.status)
            if response.status != 200:
                raise ProofError(f"{url}: status {response.status}")
            length = response.headers.get("content-length")
            self.progress.total += int(length or 0)
            path = self.folder / file_name(url)
            unfinished = path.with_name(f"{path.name}.part")  # what has the right name is whole
            async with await anyio.open_file(unfinished, "wb") as file:
                async for chunk in response:
                    digest.update(chunk)
                    size += len(chunk)
                    await file.write(chunk)
                    self.progress.advance(len(chunk))
        if length is not None and size != int(length):
            raise ProofError(f"{url}: {size} bytes came, {length} were announced")
        unfinished.replace(path)
        self.digests.append(digest.digest())


def file_name(url: str) -> str:
    """The name of the file that a URL is saved to."""
    return PurePosixPath(unquote(urlsplit(url).path)).name or "index.html"


async def main(options: argparse.Namespace) -> str:
    configuration = client_configuration(options, "h3")
    downloads = Downloads(options.url, options.output_folder)
    options.output_folder.mkdir(parents=True, exist_ok=True)
    async with anyio.create_task_group() as tasks:
        for host, port in downloads.by_server:
            tasks.start_soon(downloads.from_server, host, port, configuration)
    downloads.progress.end()
    digest = hashlib.sha256(b"".join(sorted(downloads.digests)))
    count, size = len(downloads.digests), downloads.progress.done
    return f"downloaded {count} files, {size} bytes, sha256 {digest.hexdigest()}"


if __name__ == "__main__":
    parser = client_parser(__doc__)
    parser.add_argument("url", nargs="+", help="https://host:port/path")
    parser.add_argument(
        "--output-folder", type=Path, default=Path(), help="where files go (default: the current folder)"
    )
    run(main, parser.parse_args())
