"""A client of the task (see helpers/interop_task.py) on aioquic, or on a package of the same layout.

Performs its steps one after the other on one connection, and prints a JSON object for each; a step that fails prints how the
connection ended. Steps: VERB[:NUMBER[:BODY SIZE]] asks the server for that verb; the others act on this side:

    many:COUNT:SIZE        COUNT echoes of SIZE bytes at once
    datagram:SIZE          a datagram and its echo
    send-reset:CODE        reset a stream on which an echo was asked for
    send-stop:CODE         stop the reply of an echo before all of it is there
    send-close:CODE        close the connection
    update-key, take-id    update keys, change the connection ID
    again, again:early     another connection (see helpers/interop_options.py)
    get:/PATH post:/PATH:SIZE many-get:COUNT:/PATH       HTTP/3, with --alpn h3
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import json
import sys
import time
from importlib import import_module
from typing import Any

from helpers.interop_options import OPTIONS, configured, visits
from helpers.interop_task import ALPN, CLOSE_PHRASE, command, content, digest

PACKAGE = sys.argv[1]
quic_asyncio = import_module(f"{PACKAGE}.asyncio")
configuration_module = import_module(f"{PACKAGE}.quic.configuration")
h3 = import_module(f"{PACKAGE}.h3.connection")
tls = import_module(f"{PACKAGE}.tls")


class Ended(Exception):
    """The connection or the stream ended before the answer was complete."""


class Reply:
    """What comes back on one stream."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.status = ""
        self.error: Ended | None = None
        self.ended = asyncio.Event()

    def end(self, error: Ended | None = None) -> None:
        if not self.ended.is_set():
            self.error = error
            self.ended.set()


class Client(quic_asyncio.QuicConnectionProtocol):  # type: ignore[misc, name-defined]  # the package is chosen at run time
    """The connection, and the steps on it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.replies: dict[int, Reply] = {}
        self.datagrams: asyncio.Queue[bytes] = asyncio.Queue()
        self.http: Any = None
        self.facts: dict[str, Any] = {}

    def quic_event_received(self, event: Any) -> None:
        kind = type(event).__name__
        if kind == "ProtocolNegotiated":
            self.facts["alpn"] = event.alpn_protocol
            if event.alpn_protocol == "h3" and self.http is None:
                self.http = h3.H3Connection(self._quic)
        elif kind == "DatagramFrameReceived":
            self.datagrams.put_nowait(event.data)
        elif kind == "StreamReset":
            self.reply(event.stream_id).end(Ended({"reset": event.error_code}))
        elif kind == "StopSendingReceived":
            self.reply(event.stream_id).end(Ended({"stopped": event.error_code}))
        elif kind == "ConnectionTerminated":
            self.facts["closed"] = {"code": event.error_code, "frame": event.frame_type, "reason": event.reason_phrase}
            for reply in self.replies.values():
                reply.end(Ended(self.facts))
        elif kind == "StreamDataReceived" and self.http is None:
            self.take(event.stream_id, event.data, event.end_stream)
        if self.http is not None:
            for http_event in self.http.handle_event(event):
                if type(http_event).__name__ == "HeadersReceived":
                    self.reply(http_event.stream_id).status = dict(http_event.headers)[b":status"].decode()
                    self.take(http_event.stream_id, b"", http_event.stream_ended)
                elif type(http_event).__name__ == "DataReceived":
                    self.take(http_event.stream_id, http_event.data, http_event.stream_ended)

    def reply(self, stream_id: int) -> Reply:
        return self.replies.setdefault(stream_id, Reply())

    def take(self, stream_id: int, data: bytes, is_end: bool) -> None:
        reply = self.reply(stream_id)
        reply.data += data
        if is_end:
            reply.end()

    # --- the steps ---------------------------------------------------------------------------------------------------

    async def step(self, name: str, *arguments: str) -> dict[str, Any]:
        method = getattr(self, "do_" + name.replace("-", "_"), None)
        if method is None:
            number = int(arguments[0]) if arguments and arguments[0] else None
            reply = await self.ask(name, number, content(int(arguments[1])) if len(arguments) > 1 else b"")
            return {"size": len(reply), "digest": digest(reply), "text": reply[:64].decode("latin-1")}
        result: dict[str, Any] = await method(*arguments)
        return result

    def open(self, data: bytes, is_end: bool = True) -> int:
        stream_id: int = self._quic.get_next_available_stream_id()
        self._quic.send_stream_data(stream_id, data, end_stream=is_end)
        return stream_id

    async def finish(self, stream_id: int) -> Reply:
        self.transmit()
        reply = self.reply(stream_id)
        await reply.ended.wait()
        if reply.error is not None:
            raise reply.error
        return reply

    async def ask(self, verb: str, number: int | None = None, body: bytes = b"", is_end: bool = True) -> bytes:
        return bytes((await self.finish(self.open(command(verb, number) + body, is_end))).data)

    async def do_many(self, count: str, size: str) -> dict[str, Any]:
        bodies = [content(int(size) + index) for index in range(int(count))]
        replies = await asyncio.gather(*[self.ask("echo", None, body) for body in bodies])
        return {"equal": sum(reply == body for reply, body in zip(replies, bodies, strict=True))}

    async def do_datagram(self, size: str) -> dict[str, Any]:
        self._quic.send_datagram_frame(content(int(size)))
        self.transmit()
        return {"equal": await asyncio.wait_for(self.datagrams.get(), 5) == content(int(size))}

    async def do_send_reset(self, code: str) -> dict[str, Any]:
        stream_id = self.open(command("echo") + b"abandoned", is_end=False)
        self.transmit()
        await asyncio.sleep(0.1)
        self._quic.reset_stream(stream_id, int(code))
        await self.ping()
        return {}

    async def do_send_stop(self, code: str) -> dict[str, Any]:
        stream_id = self.open(command("down", 64 * 1024 * 1024))
        self.transmit()
        while not self.reply(stream_id).data:
            await asyncio.sleep(0.01)
        self._quic.stop_stream(stream_id, int(code))
        await self.ping()
        return {}

    async def do_stop(self, code: str) -> dict[str, Any]:
        await self.ask("stop", int(code), b"more to come", is_end=False)
        return {}

    async def do_send_close(self, code: str) -> dict[str, Any]:
        self._quic.close(error_code=int(code), reason_phrase=CLOSE_PHRASE)
        self.transmit()
        await self.wait_closed()
        return {}

    async def do_update_key(self) -> dict[str, Any]:
        self.request_key_update()
        return {}

    async def do_take_id(self) -> dict[str, Any]:
        self.change_connection_id()
        return {}

    # --- HTTP/3 ------------------------------------------------------------------------------------------------------

    async def fetch(self, method: str, path: str, body: bytes | None = None) -> Reply:
        self.http = self.http or h3.H3Connection(self._quic)  # early: before the protocol is negotiated
        stream_id = self._quic.get_next_available_stream_id()
        headers = [(b":method", method.encode()), (b":scheme", b"https"), (b":authority", b"localhost")]
        self.http.send_headers(stream_id, [*headers, (b":path", path.encode())], end_stream=body is None)
        if body is not None:
            self.http.send_data(stream_id, body, end_stream=True)
        return await self.finish(stream_id)

    async def do_get(self, path: str) -> dict[str, Any]:
        reply = await self.fetch("GET", path)
        return {"status": reply.status, "size": len(reply.data), "digest": digest(bytes(reply.data))}

    async def do_post(self, path: str, size: str) -> dict[str, Any]:
        reply = await self.fetch("POST", path, content(int(size)))
        return {"status": reply.status, "digest": digest(bytes(reply.data)), "text": reply.data[:64].decode("latin-1")}

    async def do_many_get(self, count: str, path: str) -> dict[str, Any]:
        replies = await asyncio.gather(*[self.fetch("GET", path) for _ in range(int(count))])
        return {"digests": sorted({digest(bytes(reply.data)) for reply in replies}), "count": len(replies)}


async def main(options: argparse.Namespace) -> None:
    configuration = configuration_module.QuicConfiguration(
        alpn_protocols=[options.alpn], max_datagram_frame_size=65536, server_name="localhost"
    )
    configuration.load_verify_locations(options.authority)
    with configured(configuration, options, tls.CipherSuite):
        await perform(options, configuration)


async def perform(options: argparse.Namespace, configuration: Any) -> None:
    memory = Memory()
    for is_early, steps, has_next in visits(options.steps):
        if memory.tickets:
            configuration.session_ticket = memory.tickets.pop()
            configuration.token = memory.tokens.pop() if memory.tokens and not options.forget_tokens else b""
            configuration.early_data = is_early  # quicio's: others offer what the ticket allows
        made: list[Client] = []

        def create(*arguments: Any, made: list[Client] = made, **keywords: Any) -> Client:
            made.append(Client(*arguments, **keywords))
            return made[0]

        try:
            async with quic_asyncio.connect(
                "127.0.0.1",
                options.port,
                configuration=configuration,
                create_protocol=create,
                wait_connected=not is_early,
                **memory.handlers(),
            ) as client:
                print(json.dumps({"connected": client.facts.get("alpn")}), flush=True)
                for step in steps:
                    before = time.monotonic()
                    result = await client.step(*step.split(":"))
                    print(json.dumps({**result, "seconds": time.monotonic() - before}), flush=True)
                if has_next:
                    await client.ping()
                    await memory.wait()
        except Ended as error:
            print(json.dumps(error.args[0]), flush=True)
        except ConnectionError:
            print(json.dumps(made[0].facts), flush=True)


class Memory:
    """What servers give for later connections."""

    def __init__(self) -> None:
        self.tickets: list[Any] = []
        self.tokens: list[bytes] = []

    def handlers(self) -> dict[str, Any]:
        """The functions that take it, as far as the package has them."""
        known = inspect.signature(quic_asyncio.connect).parameters
        every = {"session_ticket_handler": self.tickets.append, "token_handler": self.tokens.append}
        return {name: handler for name, handler in every.items() if name in known}

    async def wait(self) -> None:
        """Until there is a ticket."""
        async with asyncio.timeout(5):
            while not self.tickets:
                await asyncio.sleep(0.01)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, parents=[OPTIONS])
    parser.add_argument("package")
    parser.add_argument("port", type=int)
    parser.add_argument("authority", help="a file with the certificate that servers are verified against")
    parser.add_argument("steps", nargs="*")
    parser.add_argument("--alpn", default=ALPN)
    asyncio.run(main(parser.parse_args()))
