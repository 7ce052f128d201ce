"""Chat client: says what you type, shows what the others say; the end of the input (Ctrl-D) leaves the room.

python examples/chat_client.py localhost 4433 Ada --ca-file /tmp/chat.pem
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter

import anyio
from anyio.streams.buffered import BufferedByteReceiveStream
from example_options import ProofError, client_configuration, client_parser, run

import quicio

MAX_LINE = 4096
FILLING = "so much to say, "


class Room:
    """What this member hears."""

    def __init__(self, pause: float, is_quiet: bool) -> None:
        self.pause = pause  # seconds between lines that are read: a slow listener
        self.is_quiet = is_quiet
        self.met = 0  # others who spoke at some time
        self.left = 0
        self.heard: Counter[str] = Counter()
        self.missed = 0
        self._changed = anyio.Event()

    async def hear(self, stream: quicio.Stream | quicio.ReceiveStream) -> None:
        """Somebody speaks: the server has opened a stream for it. Runs in a task for each."""
        lines = BufferedByteReceiveStream(stream)
        name = (await lines.receive_until(b"\n", MAX_LINE)).decode()
        self._tell(f"* {name} is here")
        self.met += 1
        self._notify()
        while True:
            try:
                line = (await lines.receive_until(b"\n", MAX_LINE)).decode()
            except (anyio.EndOfStream, anyio.IncompleteRead):
                break
            if line.startswith("!"):
                self.missed += int(line[1:])
                self._tell(f"* {line[1:]} lines of {name} came too fast")
            else:
                self.heard[name] += 1
                self._tell(f"{name}: {line[1:]}")
                self._notify()
            await anyio.sleep(self.pause)
        self._tell(f"* {name} has left")
        self.left += 1
        self._notify()

    async def wait_for_others(self, count: int) -> None:
        """Wait until so many others have come, whether or not they are still here."""
        while self.met < count:
            await self._changed.wait()

    async def wait_for_silence(self) -> None:
        """Wait until the others have fallen silent."""
        while self.left < self.met:
            await self._changed.wait()

    async def wait_for_turn(self, number: int) -> None:
        """Wait until one of the others has said so many lines."""
        while max(self.heard.values(), default=0) < number:
            await self._changed.wait()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    def _tell(self, text: str) -> None:
        if not self.is_quiet:
            print(text, flush=True)


async def say_what_is_typed(stream: quicio.Stream) -> None:
    """Each line of the terminal is a line of the chat."""
    async for line in anyio.wrap_file(sys.stdin):
        await stream.send(line.rstrip("\n").encode()[: MAX_LINE - 1] + b"\n")


async def main(options: argparse.Namespace) -> str:
    room = Room(options.pause, options.quiet)
    configuration = client_configuration(options, "chat")
    configuration.max_stream_data = 16 * 1024  # of a speaker: what may wait for us to read it
    configuration.receive_window_limit = 256 * 1024
    async with quicio.connect(
        options.host,
        options.port,
        server_name=options.server_name,
        configuration=configuration,
        stream_handler=room.hear,
    ) as connection:
        async with await connection.open_stream() as stream:
            await stream.send(options.name.encode() + b"\n")
            if await BufferedByteReceiveStream(stream).receive_until(b"\n", MAX_LINE) != b"welcome":
                raise ProofError("this is no chat server")
            if options.lines is None:
                await say_what_is_typed(stream)
                await stream.send_eof()
            else:
                await room.wait_for_others(options.others)
                for number in range(options.lines):
                    await room.wait_for_turn(number)
                    await stream.send(f"line {number} {FILLING * 60}\n".encode())
                await stream.send_eof()
                await room.wait_for_silence()
    return f"{options.name} heard {room.heard.total()} lines of {len(room.heard)} others and missed {room.missed}"


if __name__ == "__main__":
    parser = client_parser(__doc__)
    parser.add_argument("host", help="name or address of the server")
    parser.add_argument("port", type=int, help="its port")
    parser.add_argument("name", help="who you are")
    parser.add_argument("--server-name", help="name to verify the certificate against (default: the host)")
    parser.add_argument("--quiet", action="store_true", help="do not show what the others say")
    parser.add_argument("--lines", type=int, metavar="N", help="say N long lines, in turn, and leave after the others")
    parser.add_argument("--others", type=int, default=0, help="with --lines: wait for so many others first")
    parser.add_argument("--pause", type=float, default=0, metavar="SECONDS", help="read slowly (default %(default)s)")
    run(main, parser.parse_args())
