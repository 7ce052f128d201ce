"""A client of the task (see helpers/interop_task.py) on aiopquic, which is picoquic under an asyncio face.

As aioquic_client.py, for steps of the form VERB[:NUMBER[:BODY SIZE]] and many:COUNT:SIZE.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from importlib import import_module
from typing import Any

from helpers.interop_options import CIPHERS, GROUPS, OPTIONS, visits
from helpers.interop_task import ALPN, command, content, digest

quic_asyncio = import_module("aiopquic.asyncio")
configuration_module = import_module("aiopquic.quic.configuration")
CHUNK = 65536


class Ended(Exception):
    """The connection or the stream ended before the answer was complete."""


class Reply:
    """What comes back on one stream."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.error: Ended | None = None
        self.ended = asyncio.Event()

    def end(self, error: Ended | None = None) -> None:
        if not self.ended.is_set():
            self.error = error
            self.ended.set()


class Client(quic_asyncio.QuicConnectionProtocol):  # type: ignore[misc, name-defined]  # imported by name, untyped
    """The connection, and the steps on it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.replies: dict[int, Reply] = {}
        self.facts: dict[str, Any] = {}

    def quic_event_received(self, event: Any) -> None:
        kind = type(event).__name__
        if kind == "StreamDataReceived":
            reply = self.replies.setdefault(event.stream_id, Reply())
            reply.data += event.data
            if event.end_stream:
                reply.end()
        elif kind == "StreamReset":
            self.replies.setdefault(event.stream_id, Reply()).end(Ended({"reset": event.error_code}))
        elif kind == "StopSendingReceived":
            self.replies.setdefault(event.stream_id, Reply()).end(Ended({"stopped": event.error_code}))
        elif kind == "ConnectionTerminated":
            self.facts["closed"] = {"code": event.error_code, "reason": event.reason_phrase}
            for reply in self.replies.values():
                reply.end(Ended(self.facts))

    async def step(self, verb: str, number: str = "", size: str = "0") -> dict[str, Any]:
        if verb == "many":
            bodies = [content(int(size) + index) for index in range(int(number))]
            replies = await asyncio.gather(*[self.ask(command("echo") + body) for body in bodies])
            return {"equal": sum(reply == body for reply, body in zip(replies, bodies, strict=True))}
        reply = await self.ask(command(verb, int(number) if number else None) + content(int(size)))
        return {"size": len(reply), "digest": digest(reply), "text": reply[:64].decode("latin-1")}

    async def ask(self, data: bytes) -> bytes:
        stream_id = self._quic.get_next_available_stream_id()
        reply = self.replies.setdefault(stream_id, Reply())
        for start in range(0, len(data), CHUNK):
            chunk = data[start : start + CHUNK]
            await self._quic.send_stream_data_drained(stream_id, chunk, end_stream=start + CHUNK >= len(data))
        await reply.ended.wait()
        if reply.error is not None:
            raise reply.error
        return bytes(reply.data)


async def main(options: argparse.Namespace) -> None:
    configuration = configuration_module.QuicConfiguration(
        alpn_protocols=[ALPN],
        server_name="localhost",
        cafile=options.authority,
        cipher_suite=CIPHERS[options.cipher] if options.cipher else None,
        key_exchange_groups=[GROUPS[name] for name in options.groups.split(",")] if options.groups else None,
        supported_versions=options.versions,
        key_update_interval=options.key_update_interval,
        session_ticket_file=options.ticket_file,
    )
    for is_early, steps, _ in visits(options.steps):
        await visit(options, configuration, is_early, steps)


async def visit(options: argparse.Namespace, configuration: Any, is_early: bool, steps: list[str]) -> None:
    made: list[Client] = []

    def create(*arguments: Any, **keywords: Any) -> Client:
        made.append(Client(*arguments, **keywords))
        return made[0]

    try:
        async with quic_asyncio.connect(
            "127.0.0.1",
            options.port,
            configuration=configuration,
            create_protocol=create,
            wait_connected=not is_early,
        ) as client:
            print(json.dumps({"connected": ALPN}), flush=True)
            for step in steps:
                before = time.monotonic()
                result = await client.step(*step.split(":"))
                print(json.dumps({**result, "seconds": time.monotonic() - before}), flush=True)
    except Ended as error:
        print(json.dumps(error.args[0]), flush=True)
    except ConnectionError:
        print(json.dumps(made[0].facts), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, parents=[OPTIONS])
    parser.add_argument("port", type=int)
    parser.add_argument("authority", help="a file with the certificate that servers are verified against")
    parser.add_argument("steps", nargs="*")
    parser.add_argument("--key-update-interval", type=int, help="packets under one key")
    parser.add_argument("--ticket-file", help="where tickets, and tokens beside them, outlive a connection")
    asyncio.run(main(parser.parse_args()))
