"""An HTTP/3 client on curl_cffi: curl with ngtcp2, nghttp3 and BoringSSL.

Prints one JSON object for each step, get:PATH, post:PATH:SIZE or many-get:COUNT:PATH, in one session with HTTP/3 alone allowed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from importlib import import_module
from typing import Any

from helpers.interop_task import content, digest

curl = import_module("curl_cffi")
VERSION_3 = 30  # of curl's info on a response: CURL_HTTP_VERSION_3


async def fetch(session: Any, url: str, body: bytes | None = None) -> dict[str, Any]:
    response = await session.request("GET" if body is None else "POST", url, data=body)
    return {
        "status": response.status_code,
        "is_http3": response.http_version == VERSION_3,
        "size": len(response.content),
        "digest": digest(response.content),
        "text": response.content[:64].decode("latin-1"),
    }


async def step(session: Any, root: str, verb: str, first: str, second: str = "") -> dict[str, Any]:
    if verb == "many-get":
        answers = await asyncio.gather(*[fetch(session, root + second) for _ in range(int(first))])
        return {"count": len(answers), "digests": sorted({answer["digest"] for answer in answers})}
    return await fetch(session, root + first, content(int(second)) if verb == "post" else None)


async def main(options: argparse.Namespace) -> None:
    async with curl.AsyncSession(
        verify=options.authority,
        max_clients=100,
        http_version=curl.CurlHttpVersion.V3ONLY,
        timeout=options.timeout,
        impersonate=options.impersonate,
    ) as session:
        for each in options.steps:
            before = time.monotonic()
            result = await step(session, f"https://localhost:{options.port}", *each.split(":"))
            print(json.dumps({**result, "seconds": time.monotonic() - before}), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("authority", help="a file with the certificate that servers are verified against")
    parser.add_argument("steps", nargs="*")
    parser.add_argument("--impersonate", help="a browser whose ClientHello is imitated, such as chrome")
    parser.add_argument("--timeout", type=float, default=40, help="seconds for a request")
    asyncio.run(main(parser.parse_args()))
