"""With nothing outstanding, a graceful exit takes one round trip: CONNECTION_CLOSE there, and the peer's answer back.

First the core alone, on virtual time; then every face over a delaying relay, on virtual time too where the event loop allows.
"""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from helpers.faces import FACES, AsyncioFace, Face
from helpers.relay import Meeting, meeting
from helpers.virtual_time import is_virtual, run
from sim.links import Delay
from sim.world import World

DELAY = 0.05  # seconds, one way
ROUND_TRIP = 2 * DELAY
NATIVE = [face for face in FACES if not isinstance(face, AsyncioFace)]


@pytest.mark.parametrize("who", ["client", "server"])
@pytest.mark.parametrize("size", [0, 100_000])
def test_the_core_needs_one_round_trip_to_close(who: str, size: int) -> None:
    world = World(up=[Delay(DELAY)], down=[Delay(DELAY)])
    client, server = world.establish()
    if size:
        world.transfer(client, server, size)
    world.run(limit=1.0)  # all acknowledgements are home
    peer = client if who == "client" else server
    start = world.now
    peer.connection.close()
    world.run(lambda: peer.connection.is_terminated)
    assert world.now - start == pytest.approx(ROUND_TRIP, rel=0.01)


async def use(meeting: Meeting) -> None:
    """A stream there and back, of which nothing is outstanding afterwards."""
    stream = await meeting.client.open()
    await stream.send(b"question")
    await stream.finish()
    theirs = await meeting.server.accept()
    assert await theirs.read_all() == b"question"
    await theirs.send(b"answer")
    await theirs.finish()
    assert await stream.read_all() == b"answer"
    for each in (stream, theirs):
        connected: Any = each
        await connected.stream.aclose()
    await meeting.client.ping()
    await meeting.server.ping()


@pytest.mark.parametrize("face", NATIVE, ids=repr)
@pytest.mark.parametrize("is_used", [False, True], ids=["idle", "used"])
def test_leaving_the_scope_of_a_client_takes_one_round_trip(face: Face, is_used: bool) -> None:
    took = []

    async def main() -> None:
        async with meeting(face, DELAY) as both:
            await (use(both) if is_used else both.client.ping())
            start = anyio.current_time()
        took.append(anyio.current_time() - start)
        reason = await both.server.closed()
        assert (reason.code, reason.is_application, reason.by_peer) == (0, True, True)

    run(face, main)
    assert ROUND_TRIP * 0.99 <= took[0] <= ROUND_TRIP * (1.01 if is_virtual(face) else 1.5)


@pytest.mark.parametrize("face", NATIVE, ids=repr)
def test_what_is_outstanding_costs_one_round_trip_more(face: Face) -> None:
    """A FIN that nobody has acknowledged yet: first its acknowledgement, then the close and its answer."""
    took = []

    async def main() -> None:
        async with meeting(face, DELAY) as both:
            stream = await both.client.open()
            await stream.send(b"last words")
            await both.client.ping()
            start = anyio.current_time()
            await stream.finish()
            client: Any = both.client
            await client.connection.aclose()
            took.append(anyio.current_time() - start)
            theirs = await both.server.accept()
            assert await theirs.read_all() == b"last words"

    run(face, main)
    ack_delay = 0.025  # the peer may wait as long with its acknowledgement (RFC 9000 §13.2.1)
    assert 2 * ROUND_TRIP * 0.99 <= took[0] <= 2 * ROUND_TRIP * (1.01 if is_virtual(face) else 1.5) + ack_delay


@pytest.mark.parametrize("face", NATIVE, ids=repr)
def test_a_peer_that_is_silent_holds_up_an_exit_for_a_probe_timeout_at_most(face: Face) -> None:
    """Nobody answers the close: it is waited for as long as an answer may take (RFC 9002 §6.2.1), not for `linger`."""
    took = []

    async def main() -> None:
        async with meeting(face, DELAY, client={"linger": 30.0}, server={"idle_timeout": 1.0}) as both:
            await both.client.ping()
            both.relay.go_dark()
            client: Any = both.client
            start = anyio.current_time()
            await client.connection.aclose()
            took.append(anyio.current_time() - start)
            await both.server.closed()  # by its idle timeout

    run(face, main)
    assert ROUND_TRIP <= took[0] <= 4 * ROUND_TRIP
