"""One set of scenarios for every face, and crosswise: each face as a client to each face as a server.

The server runs in a thread of its own on its own event loop, and does what the first line of each stream asks for:

    echo            what comes goes back, and the FIN after it
    digest          the SHA-256 of all that came
    give N          N bytes, then FIN
    reset           the stream is reset with code 42 and stopped with code 43
    witness         on a new stream in one direction: the code with which this stream was reset
    hold NAME       nothing is read until NAME was released; then the number of bytes that came
    release NAME    lets `hold NAME` go on
    call            a stream of the server's own, on which the client's data comes back in capitals
    vanish          three bytes, no FIN, then the connection is closed with code 7
    name NAME       from now on this connection is known as NAME
    how NAME        how the connection called NAME ended
"""

from __future__ import annotations

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import pytest
from anyio.from_thread import start_blocking_portal

import quicio
from helpers.faces import FACES, OVER, AsyncioLink, Channel, Face, Gone, Link
from helpers.loopback import client_configuration, server_configuration

DATA = hashlib.shake_128(b"faces").digest(3_000_000)  # more than a window and a send buffer
NUMBERS = itertools.count()  # of names that are used once
PATIENCE = 30.0  # seconds, for what takes none

Scenario = Callable[[Link], Awaitable[None]]


class Application:
    """What the server does with the streams of all its connections."""

    def __init__(self) -> None:
        self.released: defaultdict[bytes, anyio.Event] = defaultdict(anyio.Event)
        self.ended: defaultdict[bytes, anyio.Event] = defaultdict(anyio.Event)
        self.endings: dict[bytes, bytes] = {}

    async def handle(self, link: Link) -> None:
        """Serve a connection until it has ended."""
        async with anyio.create_task_group() as group:
            group.start_soon(self.echo_datagrams, link)
            try:
                while True:
                    group.start_soon(self.answer, link, await link.accept())
            except Gone:
                pass

    async def echo_datagrams(self, link: Link) -> None:
        try:
            while True:
                await link.send_datagram(await link.receive_datagram())
        except Gone:
            pass

    async def answer(self, link: Link, stream: Channel) -> None:
        """Do what the first line asks for; a connection that has ended ends it."""
        try:
            word, _, argument = (await stream.read_line()).partition(b" ")
            await getattr(self, word.decode())(link, stream, argument)
        except OVER:
            pass
        finally:
            await stream.close()

    async def echo(self, link: Link, stream: Channel, argument: bytes) -> None:
        await stream.send(b"ready\n")
        while data := await stream.receive():
            await stream.send(data)
        await stream.finish()

    async def digest(self, link: Link, stream: Channel, argument: bytes) -> None:
        await stream.send(hashlib.sha256(await stream.read_all()).digest())
        await stream.finish()

    async def give(self, link: Link, stream: Channel, argument: bytes) -> None:
        await stream.send(DATA[: int(argument)])
        await stream.finish()

    async def reset(self, link: Link, stream: Channel, argument: bytes) -> None:
        stream.reset(42)
        stream.stop(43)

    async def witness(self, link: Link, stream: Channel, argument: bytes) -> None:
        await stream.send(b"ready\n")
        with pytest.raises(quicio.StreamReset) as caught:
            await stream.read_all()
        await stream.finish()
        witness = await link.open(is_unidirectional=True)
        await witness.send(b"%d" % (caught.value.code or 0))
        await witness.close()

    async def hold(self, link: Link, stream: Channel, argument: bytes) -> None:
        await stream.send(b"ready\n")
        await self.released[argument].wait()
        await stream.send(b"%d" % len(await stream.read_all()))
        await stream.finish()

    async def release(self, link: Link, stream: Channel, argument: bytes) -> None:
        self.released[argument].set()
        await stream.finish()

    async def call(self, link: Link, stream: Channel, argument: bytes) -> None:
        mine = await link.open()
        await mine.send((await stream.read_all()).upper())
        await mine.finish()
        await stream.send(await mine.read_all())
        await stream.finish()
        await mine.close()

    async def vanish(self, link: Link, stream: Channel, argument: bytes) -> None:
        await stream.send(b"abc")
        await link.ping()  # what was sent has arrived before the end
        link.close(7, "so be it")

    async def name(self, link: Link, stream: Channel, argument: bytes) -> None:
        await stream.finish()
        reason = await link.closed()
        self.endings[argument] = f"{reason.code} {reason.is_application} {reason.by_peer} {reason.reason}".encode()
        self.ended[argument].set()

    async def how(self, link: Link, stream: Channel, argument: bytes) -> None:
        await self.ended[argument].wait()
        await stream.send(self.endings[argument])
        await stream.finish()


@pytest.fixture(scope="module", params=FACES, ids=lambda face: f"to-{face}")
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    """The port of a server of each face, in a thread."""
    face: Face = request.param
    with start_blocking_portal(face.backend, face.options) as portal:
        serving = portal.call(lambda: _serving(face))
        with portal.wrap_async_context_manager(serving) as port:
            yield port


async def _serving(face: Face) -> Any:
    # room for other streams on a connection of which one stream is not read
    return face.serve(Application().handle, server_configuration(max_data=8 << 20))


@pytest.fixture(params=FACES, ids=lambda face: f"from-{face}")
def run(request: pytest.FixtureRequest, port: int) -> Callable[[Scenario], None]:
    """Runs a scenario on a connection of each face."""
    face: Face = request.param

    async def main(scenario: Scenario) -> None:
        with anyio.fail_after(PATIENCE):
            async with face.connect(port, client_configuration()) as link:
                await scenario(link)
                await link.close_streams()

    return lambda scenario: anyio.run(main, scenario, backend=face.backend, backend_options=face.options)


async def ask(link: Link, line: bytes, data: bytes = b"") -> Channel:
    """A stream with its first line, and `data` and the FIN after it."""
    stream = await link.open()
    await stream.send(line + b"\n" + data)
    await stream.finish()
    return stream


async def start(link: Link, line: bytes) -> Channel:
    """A stream of which the server has read the first line."""
    stream = await link.open()
    await stream.send(line + b"\n")
    assert await stream.read_line() == b"ready"
    return stream


def test_data_after_a_half_close(run: Callable[[Scenario], None]) -> None:
    async def scenario(link: Link) -> None:
        stream = await start(link, b"echo")
        await stream.send(b"hello")
        assert await stream.receive() == b"hello"
        await stream.send(b"again")
        await stream.finish()
        assert await stream.read_all() == b"again"
        assert await stream.receive() == b""  # the end stays the end

    run(scenario)


def test_megabytes_both_ways_at_once(run: Callable[[Scenario], None]) -> None:
    async def scenario(link: Link) -> None:
        stream = await start(link, b"echo")
        async with anyio.create_task_group() as group:
            group.start_soon(_send_all, stream, DATA)
            assert await stream.read_all() == DATA

    run(scenario)


async def _send_all(stream: Channel, data: bytes) -> None:
    await stream.send(data)
    await stream.finish()


def test_digests_of_what_went_up_and_down(run: Callable[[Scenario], None]) -> None:
    async def scenario(link: Link) -> None:
        stream = await ask(link, b"digest", DATA)
        assert await stream.read_all() == hashlib.sha256(DATA).digest()
        stream = await ask(link, b"give %d" % len(DATA))
        assert await stream.read_all() == DATA
        stream = await ask(link, b"give 0")
        assert await stream.read_all() == b""

    run(scenario)


def test_a_hundred_streams_at_once(run: Callable[[Scenario], None]) -> None:
    async def scenario(link: Link) -> None:
        async def exchange(number: int) -> None:
            data = bytes([number]) * 100 * number
            stream = await ask(link, b"digest", data)
            assert await stream.read_all() == hashlib.sha256(data).digest()

        # one after the other is opened, all of them are under way: aioquic's create_stream() reserves an ID by writing
        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(exchange, number)

    run(scenario)


def test_back_pressure_reaches_the_sender(run: Callable[[Scenario], None]) -> None:
    async def scenario(link: Link) -> None:
        name = b"%d" % next(NUMBERS)
        stream = await start(link, b"hold " + name)
        has_sent = anyio.Event()

        async def send() -> None:
            await stream.send(DATA)
            has_sent.set()
            await stream.finish()

        async with anyio.create_task_group() as group:
            group.start_soon(send)
            for _ in range(5):
                await link.ping()  # other things go on
            assert not has_sent.is_set()
            assert await (await ask(link, b"release " + name)).read_all() == b""
            assert await stream.read_all() == b"%d" % len(DATA)
            assert has_sent.is_set()

    run(scenario)


def test_the_server_resets_and_stops(run: Callable[[Scenario], None]) -> None:
    async def scenario(link: Link) -> None:
        stream = await link.open()
        await stream.send(b"reset\n")
        with pytest.raises(quicio.StreamReset) as caught:
            await stream.receive()
        assert caught.value.code == 42
        assert await stream.stopped() == 43
        with pytest.raises(quicio.StreamStopped) as stopped:
            await stream.send(b"more")
        assert stopped.value.code == 43

    run(scenario)


def test_the_client_resets(run: Callable[[Scenario], None]) -> None:
    async def scenario(link: Link) -> None:
        stream = await start(link, b"witness")
        stream.reset(77)
        witness = await link.accept(is_unidirectional=True)
        assert await witness.read_all() == b"77"
        assert await stream.read_all() == b""  # the other direction has ended by itself

    run(scenario)


def test_the_server_opens_a_stream(run: Callable[[Scenario], None]) -> None:
    async def scenario(link: Link) -> None:
        mine = await ask(link, b"call", b"hello")
        theirs = await link.accept()
        question = await theirs.read_all()
        await theirs.send(question + b", " + question)
        await theirs.finish()
        assert await mine.read_all() == b"HELLO, HELLO"

    run(scenario)


def test_datagrams(run: Callable[[Scenario], None]) -> None:
    async def scenario(link: Link) -> None:
        for size in (1, 100, 1000):
            await link.send_datagram(bytes(size))
            assert await link.receive_datagram() == bytes(size)

    run(scenario)


def test_keys_and_connection_ids_change_in_mid_stream(run: Callable[[Scenario], None]) -> None:
    async def scenario(link: Link) -> None:
        stream = await start(link, b"echo")
        for change in (link.change_connection_id, link.request_key_update, link.change_connection_id):
            change()
            await stream.send(b"hello")
            assert await stream.receive() == b"hello"
            await link.ping()
        await stream.finish()
        assert await stream.read_all() == b""

    run(scenario)


def test_a_lost_connection_is_no_end_of_stream(run: Callable[[Scenario], None]) -> None:
    async def scenario(link: Link) -> None:
        other = await start(link, b"echo")
        stream = await link.open()
        await stream.send(b"vanish\n")
        reason = await link.closed()
        assert (reason.code, reason.is_application, reason.by_peer, reason.reason) == (7, True, True, "so be it")
        if not isinstance(link, AsyncioLink):
            assert await stream.receive() == b"abc"  # what came before stays readable; a StreamReader raises first
        for broken in (stream, other):
            with pytest.raises(quicio.ClosedByPeer) as caught:
                await broken.receive()
            assert caught.value.code == 7
        with pytest.raises(quicio.ConnectionLost):
            await other.send(b"hello")
        with pytest.raises(Gone):
            await link.accept()

    run(scenario)


def test_the_server_learns_how_the_client_closed(run: Callable[[Scenario], None], port: int) -> None:
    name = b"%d" % next(NUMBERS)

    async def close(link: Link) -> None:
        assert await (await ask(link, b"name " + name)).read_all() == b""
        link.close(99, "enough")
        reason = await link.closed()
        assert (reason.code, reason.by_peer, reason.reason) == (99, False, "enough")

    async def ask_how(link: Link) -> None:
        assert await (await ask(link, b"how " + name)).read_all() == b"99 True True enough"

    run(close)
    run(ask_how)


def test_leaving_normally_closes_without_an_error(run: Callable[[Scenario], None]) -> None:
    name = b"%d" % next(NUMBERS)

    async def leave(link: Link) -> None:
        assert await (await ask(link, b"name " + name)).read_all() == b""

    async def ask_how(link: Link) -> None:
        # aioquic's close() takes a code of QUIC's own unless it is given a reason; the code is 0 either way
        code, _, by_peer = (await (await ask(link, b"how " + name)).read_all()).split()[:3]
        assert (code, by_peer) == (b"0", b"True")

    run(leave)
    run(ask_how)


@pytest.mark.parametrize("face", FACES, ids=lambda face: f"from-{face}")
def test_a_name_that_the_certificate_lacks(face: Face, port: int) -> None:
    async def main() -> None:
        with anyio.fail_after(PATIENCE):
            with pytest.raises(quicio.ConnectError) as caught:
                async with face.connect(port, client_configuration(server_name="elsewhere.example")):
                    pass
        assert "elsewhere.example" in str(caught.value)

    anyio.run(main, backend=face.backend, backend_options=face.options)
