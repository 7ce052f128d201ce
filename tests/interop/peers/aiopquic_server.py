"""A server of the task (see helpers/interop_task.py) on aiopquic, which is picoquic under an asyncio face.

As aioquic_server.py, without HTTP/3 and without what aiopquic leaves to picoquic (key updates, connection IDs). Data goes out
through a buffer of bounded size, so each answer has a task of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import sys
from importlib import import_module
from typing import Any

from helpers.interop_options import CIPHERS, GROUPS, OPTIONS
from helpers.interop_task import ALPN, CLOSE_PHRASE, content, digest, parse_command

quic_asyncio = import_module("aiopquic.asyncio")
configuration_module = import_module("aiopquic.quic.configuration")
CHUNK = 65536


def report(event: str, **facts: Any) -> None:
    print(json.dumps({"event": event, **facts}), flush=True)


class Server(quic_asyncio.QuicConnectionProtocol):  # type: ignore[misc, name-defined]  # imported by name, untyped
    """One connection."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.requests: dict[int, bytearray] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    def quic_event_received(self, event: Any) -> None:
        kind = type(event).__name__
        if kind == "DatagramFrameReceived":
            self._quic.send_datagram_frame(bytes(event.data))
        elif kind == "StreamReset":
            report("reset", code=event.error_code)
        elif kind == "StopSendingReceived":
            report("stopped", code=event.error_code)
        elif kind == "ConnectionTerminated":
            report("terminated", code=event.error_code)
        elif kind == "StreamDataReceived":
            self.on_data(event.stream_id, bytes(event.data), event.end_stream)

    def on_data(self, stream_id: int, data: bytes, is_end: bool) -> None:
        request = self.requests.setdefault(stream_id, bytearray())
        request += data
        line, newline, _ = bytes(request[:64]).partition(b"\n")
        if not newline:
            return
        verb, number = parse_command(line)
        if verb == "reset":
            self._quic.reset_stream(stream_id, number)
        elif verb == "stop":
            self._quic.stop_stream(stream_id, number)
        elif verb == "close":
            self._quic.close(error_code=number, reason_phrase=CLOSE_PHRASE)
        elif is_end:
            body = bytes(self.requests.pop(stream_id)[len(line) + 1 :])
            answer = {"up": digest(body).encode(), "echo": body}.get(verb) or content(number)
            task = asyncio.get_running_loop().create_task(self.send(stream_id, answer))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def send(self, stream_id: int, data: bytes) -> None:
        for start in range(0, len(data), CHUNK):
            chunk = data[start : start + CHUNK]
            await self._quic.send_stream_data_drained(stream_id, chunk, end_stream=start + CHUNK >= len(data))


def free_port() -> int:
    """A port that was free just now: this server does not tell which one the system gave it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def main(options: argparse.Namespace) -> None:
    port = free_port()
    configuration = configuration_module.QuicConfiguration(
        is_client=False,
        alpn_protocols=[ALPN],
        certificate_file=options.certificate,
        private_key_file=options.key,
        cipher_suite=CIPHERS[options.cipher] if options.cipher else None,
        key_exchange_groups=[GROUPS[name] for name in options.groups.split(",")] if options.groups else None,
        supported_versions=options.versions,
    )
    server = await quic_asyncio.serve(
        "127.0.0.1", port, configuration=configuration, create_protocol=Server, retry=options.retry
    )
    report("ready", port=port)
    await asyncio.to_thread(sys.stdin.read)
    server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, parents=[OPTIONS])
    parser.add_argument("certificate")
    parser.add_argument("key")
    parser.add_argument("--retry", action="store_true")
    asyncio.run(main(parser.parse_args()))
