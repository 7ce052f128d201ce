"""Requests and responses end to end, on asyncio, uvloop and trio: methods, bodies, trailers, interim responses."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator

import anyio
import pytest
from helpers.http import serving, talking, visiting

import quicio.http
from helpers.loopback import client_configuration
from quicio.anyio import QuicAttribute
from quicio.http import ContentTooLarge, Informational, Request

pytestmark = pytest.mark.anyio

MEBIBYTE = 1024 * 1024


async def greet(request: Request) -> None:
    await request.respond(200, {"content-type": "text/plain"}, f"{request.method} {request.path}")


async def echo(request: Request) -> None:
    await request.start_response(200)
    async for chunk in request:
        await request.send(chunk)


async def test_get() -> None:
    async with talking(greet) as client:
        async with client.get("/a b?c=ü#fragment") as response:
            assert response.status == 200
            assert response.headers["Content-Type"] == "text/plain"
            assert response.headers["content-length"] == "20"
            assert response.headers["date"].endswith("GMT")
            assert response.trailers is None
            assert await response.read() == b"GET /a%20b?c=%C3%BC"
            assert response.trailers is not None
            assert len(response.trailers) == 0
            with pytest.raises(anyio.EndOfStream):
                await response.receive()
