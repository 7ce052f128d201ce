"""Another application than streams for users, as HTTP/3 is one."""

from __future__ import annotations

import anyio
import pytest

from helpers.loopback import HOST, server_configuration
from helpers.loopback import client_configuration as loopback_configuration
from quicio.anyio.application import Application
from quicio.anyio.client import Connecting, client_configuration
from quicio.anyio.connection import Connection
from quicio.anyio.link import Link
from quicio.anyio.server import Listening
from quicio.errors import NotDelivered
from quicio.quic.events import DatagramFrameReceived, QuicEvent, StreamDataReceived

pytestmark = pytest.mark.anyio

CONFIGURATION = client_configuration(loopback_configuration(), (), None, HOST)


class Shouting(Application):
    """Answers each stream in capitals, from within the driver's turn."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.data = b""
        self.has_data = anyio.Event()
        self.is_lost = False
        self.is_finished = False
        self.missing = 0

    def handle_event(self, event: QuicEvent) -> None:
        if isinstance(event, StreamDataReceived):
            self.link.quic.consume(event.stream_id, len(event.data))
            self.data += event.data
            if event.end_stream:
                if not self.link.quic.configuration.is_client:
                    self.link.quic.send_stream_data(event.stream_id, self.data.upper(), True)
                self.has_data.set()
        elif isinstance(event, DatagramFrameReceived):
            self.data += event.data

    def connection_lost(self) -> None:
        self.is_lost = True

    async def finish(self) -> None:
        self.is_finished = True

    def undelivered_count(self) -> int:
        return self.missing


async def test_events_reach_the_application_and_answers_leave_in_the_same_turn() -> None:
    made: list[Shouting] = []

    def application(link: Link) -> Application:
        made.append(Shouting(link))
        return made[-1]

    async def stay(connection: Connection) -> None:
        await connection.wait_closed()

    async with (
        Listening(HOST, 0, server_configuration(), application=application) as listener,
        anyio.create_task_group() as group,
    ):
        group.start_soon(listener.serve, stay)
        port = listener.local_address[1]
        async with Connecting(HOST, port, CONFIGURATION, application=application) as connection:
            link = connection._link
            stream_id = await link.open(False)
            link.quic.send_stream_data(stream_id, b"shout", True)
            link.flush()
            client = made[0]
            with anyio.fail_after(5):
                await client.has_data.wait()
            assert client.data == b"SHOUT"
            assert made[1].data == b"shout"
        assert client.is_finished
        assert client.is_lost
        with anyio.fail_after(5):
            while not made[1].is_lost:
                await anyio.sleep(0.01)
        group.cancel_scope.cancel()


async def test_what_the_application_misses_is_not_delivered() -> None:
    made: list[Shouting] = []

    def application(link: Link) -> Application:
        made.append(Shouting(link))
        made[-1].missing = 1
        return made[-1]

    async def stay(connection: Connection) -> None:
        await connection.wait_closed()

    async with Listening(HOST, 0, server_configuration()) as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, stay)
        with pytest.raises(NotDelivered, match="1 stream"):
            async with Connecting(*listener.local_address, CONFIGURATION, application=application):
                pass
        group.cancel_scope.cancel()


async def test_the_base_does_nothing() -> None:
    base = Application()
    base.handle_event(QuicEvent())
    base.connection_lost()
    await base.finish()
    assert base.undelivered_count() == 0
