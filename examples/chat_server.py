"""Chat server: one room. To each member it opens a stream for everybody else who speaks, and ends it when they fall silent.

python examples/chat_server.py --port 4433 --save-certificate /tmp/chat.pem
python examples/chat_client.py localhost 4433 Ada --ca-file /tmp/chat.pem
"""

from __future__ import annotations

import argparse
import logging
from collections import deque
from functools import partial

import anyio
from anyio.abc import TaskGroup
from anyio.streams.buffered import BufferedByteReceiveStream
from example_options import run, server_configuration, server_parser

import quicio

MAX_NAME = 64  # bytes
MAX_LINE = 4096
BACKLOG = 16  # lines of one speaker that wait for one listener
NAME_TAKEN = 3  # our own error code; 0, 1 and 2 are those of `QuicConfiguration.codes`


class Backlog:
    """What one speaker said and one listener has not been sent; bounded, so who reads slowly misses lines and delays nobody."""

    def __init__(self) -> None:
        self.lines: deque[bytes] = deque()
        self.missed = 0
        self.is_ended = False
        self._changed = anyio.Event()

    def put(self, line: bytes) -> None:
        """Add a line, or count it as missed."""
        if len(self.lines) < BACKLOG:
            self.lines.append(line)
        else:
            self.missed += 1
        self._changed.set()

    def end(self) -> None:
        """The speaker will say nothing more."""
        self.is_ended = True
        self._changed.set()

    async def take(self) -> bytes | None:
        """The next line; how many were missed, behind those before them; None at the end."""
        while not self.lines and not self.missed:
            if self.is_ended:
                return None
            self._changed = anyio.Event()
            await self._changed.wait()
        if self.lines:
            return b":" + self.lines.popleft()
        missed, self.missed = self.missed, 0
        return b"!%d\n" % missed


class Member:
    """Somebody in the room."""

    def __init__(self, name: str, connection: quicio.Connection, deliveries: TaskGroup) -> None:
        self.name = name
        self.connection = connection
        self.deliveries = deliveries  # tasks of this member's connection, one for each speaker
        self.listeners: dict[str, Backlog] = {}
        self.is_speaking = True


class Room:
    """Who is here; ends the program when `members` have come and gone."""

    def __init__(self, members: int | None) -> None:
        self.present: dict[str, Member] = {}
        self.lines = 0
        self.missed = 0
        self.finished = anyio.Event()
        self._awaited = members

    async def connection(self, connection: quicio.Connection) -> None:
        """One member, from the first stream, which says the name, to the end of the connection."""
        async with await connection.incoming_streams.receive() as stream, anyio.create_task_group() as deliveries:
            lines = BufferedByteReceiveStream(stream)
            name = (await lines.receive_until(b"\n", MAX_NAME)).decode()
            if name in self.present:
                connection.close(NAME_TAKEN, "the name is taken")
                return
            member = Member(name, connection, deliveries)
            self._join(member)
            try:
                await stream.send(b"welcome\n")
                await self._hear(member, lines)
                await connection.wait_closed()  # silent, but still listening
            finally:
                self._leave(member)
                deliveries.cancel_scope.cancel()

    def _join(self, member: Member) -> None:
        logging.info("%s joins", member.name)
        for other in self.present.values():
            self._introduce(other, member)
            self._introduce(member, other)
        self.present[member.name] = member

    def _introduce(self, speaker: Member, listener: Member) -> None:
        if speaker.is_speaking:
            backlog = speaker.listeners[listener.name] = Backlog()
            listener.deliveries.start_soon(self._deliver, speaker.name, listener.connection, backlog)

    async def _hear(self, member: Member, lines: BufferedByteReceiveStream) -> None:
        """Pass on what a member says, until the end of their stream."""
        while True:
            try:
                line = await lines.receive_until(b"\n", MAX_LINE)
            except (anyio.EndOfStream, anyio.IncompleteRead):
                break
            self.lines += 1
            for backlog in member.listeners.values():
                backlog.put(line + b"\n")
        self._fall_silent(member)

    def _fall_silent(self, member: Member) -> None:
        member.is_speaking = False
        for backlog in member.listeners.values():
            backlog.end()
        member.listeners.clear()

    def _leave(self, member: Member) -> None:
        logging.info("%s leaves", member.name)
        self._fall_silent(member)
        del self.present[member.name]
        for other in self.present.values():
            other.listeners.pop(member.name, None)
        if self._awaited is not None:
            self._awaited -= 1
            if self._awaited == 0:
                self.finished.set()

    async def _deliver(self, speaker: str, to: quicio.Connection, backlog: Backlog) -> None:
        """Send one listener what one speaker says, on a stream of its own, as fast as the listener reads."""
        async with await to.open_send_stream() as stream:
            await stream.send(speaker.encode() + b"\n")
            while (line := await backlog.take()) is not None:
                if line.startswith(b"!"):
                    self.missed += int(line[1:])
                await stream.send(line)


async def main(options: argparse.Namespace) -> str:
    room = Room(options.members)
    configuration = server_configuration(options, "chat")
    configuration.send_buffer = 16 * 1024  # of a stream: what waits for a slow listener beyond its own window
    async with anyio.create_task_group() as tasks:
        listener: quicio.Listener = await tasks.start(
            partial(quicio.serve, room.connection, options.host, options.port, configuration=configuration)
        )
        print("listening on {} port {}".format(*listener.local_address), flush=True)
        await room.finished.wait()
        await listener.aclose()  # serve() ends when its handlers have
    return f"{room.lines} lines were said, {room.missed} of them missed by slow listeners"


if __name__ == "__main__":
    parser = server_parser(__doc__)
    parser.add_argument("--members", type=int, metavar="N", help="end when N members have left (default: never)")
    run(main, parser.parse_args())
