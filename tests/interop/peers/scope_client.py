"""A client of the task (see helpers/interop_task.py) on quicio's anyio face, or on its trio face.

Performs steps on one connection and prints one JSON object a line, as aioquic_client.py does: VERB[:NUMBER[:BODY SIZE]],
many:COUNT:SIZE, update-key, take-id and again of its own; with HTTP/3 get:PATH, post:PATH:SIZE and many-get:COUNT:PATH.
"""

from __future__ import annotations

import argparse
import json
import time
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio

import quicio
import quicio.trio
from helpers.interop_options import OPTIONS, configured, visits
from helpers.interop_task import ALPN, command, content, digest, frames_body
from quicio import http
from quicio.quic.connection import QuicConnection
from quicio.quic.sessions import SessionStore
from quicio.tls.constants import CipherSuite
from quicio.tls.tickets import SessionTicket

HOST = "127.0.0.1"
SERVER_NAME = "localhost"


async def change(connection: Any, verb: str) -> dict[str, Any]:
    """Go on under new keys, or to another connection ID."""
    await connection.ping()  # the handshake is confirmed, the peer has given out connection IDs
    if verb == "update-key":
        connection.request_key_update()
    else:
        connection.change_connection_id()
    return {}


class Client:
    """The steps of the task on a connection."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    async def step(self, verb: str, number: str = "", size: str = "0") -> dict[str, Any]:
        if verb == "many":
            return {"equal": await self.many(int(number), int(size))}
        if verb in ("update-key", "take-id"):
            return await change(self.connection, verb)
        reply = await self.ask(verb, int(number) if number else None, content(int(size)))
        return {"size": len(reply), "digest": digest(reply), "text": reply[:64].decode("latin-1")}

    async def ask(self, verb: str, number: int | None, body: bytes) -> bytes:
        async with await self.connection.open_stream() as stream:
            send = stream.send_all if isinstance(stream, quicio.trio.Stream) else stream.send
            await send(command(verb, number) + body)
            await stream.send_eof()
            return b"".join([chunk async for chunk in stream])

    async def many(self, count: int, size: int) -> int:
        equal: list[int] = []

        async def exchange(body: bytes) -> None:
            if await self.ask("echo", None, body) == body:
                equal.append(len(body))

        async with anyio.create_task_group() as tasks:
            for index in range(count):
                tasks.start_soon(exchange, content(size + index))
        return len(equal)


class HttpClient:
    """The steps of HTTP/3."""

    def __init__(self, client: http.Client) -> None:
        self.client = client

    async def step(self, verb: str, first: str = "", second: str = "") -> dict[str, Any]:
        if verb in ("update-key", "take-id"):
            return await change(self.client._connection, verb)
        if verb == "many-get":
            digests: list[str] = []

            async def fetch() -> None:
                digests.append((await self.fetch("GET", second))["digest"])

            async with anyio.create_task_group() as tasks:
                for _ in range(int(first)):
                    tasks.start_soon(fetch)
            return {"digests": sorted(set(digests)), "count": len(digests)}
        return (
            await self.fetch("GET", first) if verb == "get" else await self.fetch("POST", first, content(int(second)))
        )

    async def fetch(self, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        async with self.client.request(method, path, body=body) as response:
            data = await response.read()
        text = data[:64].decode("latin-1")
        return {"status": str(response.status), "size": len(data), "digest": digest(data), "text": text}


class EarlyHttpClient:
    """One early GET, frame by frame (RFC 9114 §7.2): `quicio.http` sends nothing before the handshake."""

    CONTROL = bytes([0, 4, 0])  # the control stream with empty SETTINGS: no dynamic table
    METHOD_GET, SCHEME_HTTPS = 0xC0 | 17, 0xC0 | 23  # of QPACK's static table (RFC 9204 Appendix A)
    AUTHORITY, PATH = 0x50, 0x51  # names of the static table, whose values follow

    def __init__(self, connection: quicio.Connection) -> None:
        self.connection = connection

    async def step(self, verb: str, path: str) -> dict[str, Any]:
        control = self.connection.open_send_stream_nowait()
        await control.send(self.CONTROL)
        fields = bytes([0, 0, self.METHOD_GET, self.SCHEME_HTTPS, self.AUTHORITY, len(SERVER_NAME)])
        fields += SERVER_NAME.encode() + bytes([self.PATH, len(path)]) + path.encode()
        async with await self.connection.open_stream() as stream:
            await stream.send(bytes([1, len(fields)]) + fields)
            await stream.send_eof()
            data = frames_body(b"".join([chunk async for chunk in stream]))
        await self.connection.wait_handshake()
        self.connection.close(0x100)
        return {"size": len(data), "digest": digest(data)}


class Memory(SessionStore):
    """What the server gave for a later connection."""

    def __init__(self, forgets_tokens: bool) -> None:
        super().__init__()
        self.forgets_tokens = forgets_tokens
        self.has_ticket = False

    def add_ticket(self, server: str, ticket: SessionTicket) -> None:
        super().add_ticket(server, ticket)
        self.has_ticket = True

    def add_token(self, server: str, token: bytes) -> None:
        if not self.forgets_tokens:
            super().add_token(server, token)

    async def wait(self) -> None:
        """Until there is a ticket."""
        with anyio.fail_after(5):
            while not self.has_ticket:
                await anyio.sleep(0.01)


def connecting(
    options: argparse.Namespace, configuration: quicio.QuicConfiguration, is_early: bool
) -> AbstractAsyncContextManager[Any]:
    """The scope of the connection that the options ask for."""
    if options.alpn == "h3" and not is_early:
        return http.connect(HOST, options.port, configuration=configuration, server_name=SERVER_NAME)
    is_trio = options.face == "trio" and options.alpn != "h3"
    connect: Any = quicio.trio.open_quic_connection if is_trio else quicio.connect
    scope: AbstractAsyncContextManager[Any] = connect(
        HOST, options.port, configuration=configuration, server_name=SERVER_NAME, early_data=is_early
    )
    return scope


def client_of(options: argparse.Namespace, connection: Any, is_early: bool) -> Client | HttpClient | EarlyHttpClient:
    """What performs the steps."""
    if options.alpn != "h3":
        return Client(connection)
    return EarlyHttpClient(connection) if is_early else HttpClient(connection)


async def main(options: argparse.Namespace) -> None:
    configuration = quicio.QuicConfiguration(
        alpn_protocols=[options.alpn], max_datagram_frame_size=65536, linger=1.0, cafile=options.authority
    )
    configuration.session_store = memory = Memory(options.forget_tokens)
    with configured(configuration, options, CipherSuite):
        for is_early, steps, has_next in visits(options.steps):
            async with connecting(options, configuration, is_early) as connection:
                print(json.dumps({"connected": options.alpn}), flush=True)
                client = client_of(options, connection, is_early)
                for step in steps:
                    before = time.monotonic()
                    result = await client.step(*step.split(":"))
                    print(json.dumps({**result, "seconds": time.monotonic() - before}), flush=True)
                if has_next:
                    await memory.wait()


if __name__ == "__main__":
    QuicConnection.raise_unexpected = True
    parser = argparse.ArgumentParser(description=__doc__, parents=[OPTIONS])
    parser.add_argument("face", choices=["anyio", "trio"])
    parser.add_argument("port", type=int)
    parser.add_argument("authority", help="a file with the certificate that servers are verified against")
    parser.add_argument("steps", nargs="*")
    parser.add_argument("--alpn", default=ALPN)
    options = parser.parse_args()
    anyio.run(main, options, backend="trio" if options.face == "trio" else "asyncio")
