"""A peer that vanishes, refuses, gives up or rebinds before the connection is there, seen by who connects and who accepts.

The server's first flight is several datagrams long, and a relay lets the client have none of them, or one: in between the
handshake is under way at both ends.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

import quicio
from helpers.faces import Face
from helpers.loopback import HOST, client_configuration, server_configuration
from helpers.relay import Relay, relayed
from helpers.virtual_time import is_virtual, run
from helpers.waits import DELAY, NATIVE, REAL_SLACK, ROUND_TRIP, SLACK, Waits, check_elapsed

HANDSHAKE_TIMEOUT = 1.0
MANY_NAMES = ("localhost", *(f"host-{number}.example" for number in range(100)))  # a certificate of several datagrams

per_face = pytest.mark.parametrize("face", NATIVE, ids=repr)


class Door:
    """A listener behind a relay, whose connections get no further than one task lets them."""

    def __init__(self, listener: quicio.Listener, relay: Relay) -> None:
        self.listener = listener
        self.relay = relay
        self.is_knocked = anyio.Event()
        self.outcome: Any = None  # of accepting
        self.took = 0.0
        self.scope = anyio.CancelScope()

    async def accept(self) -> None:
        """Take one attempt; what its handshake comes to is the outcome."""
        incoming = await self.listener.accept()
        self.is_knocked.set()
        start = anyio.current_time()
        with self.scope:
            try:
                async with incoming.accept() as connection:
                    self.outcome = await connection.wait_closed()
            except quicio.QuicError as error:
                self.outcome = error
        self.took = anyio.current_time() - start


@asynccontextmanager
async def door(**changes: Any) -> AsyncIterator[Door]:
    """A server that a client of any face can knock at; `changes` are of `listen`."""
    configuration = server_configuration(names=MANY_NAMES, handshake_timeout=HANDSHAKE_TIMEOUT)
    async with (
        quicio.listen(HOST, 0, configuration=configuration, **changes) as listener,
        relayed(listener.local_address[1], DELAY) as relay,
    ):
        yield Door(listener, relay)


async def knock(face: Face, relay: Relay) -> Any:
    """Connect: the error, or how the connection ended."""
    try:
        configuration = client_configuration(handshake_timeout=HANDSHAKE_TIMEOUT, server_name="localhost")
        async with face.connect(relay.port, configuration) as link:
            return await link.closed()
    except quicio.ConnectError as error:
        return error


@per_face
@pytest.mark.parametrize(("heard", "told"), [(0, "no answer came"), (1, "the peer answered")], ids=["never", "midway"])
def test_connecting_to_a_peer_that_vanishes_times_out(face: Face, heard: int, told: str) -> None:
    async def main() -> None:
        async with door() as there, anyio.create_task_group() as group:
            group.start_soon(there.accept)
            there.relay.left_down = heard
            start = anyio.current_time()
            error = await knock(face, there.relay)
            check_elapsed(face, start, HANDSHAKE_TIMEOUT, HANDSHAKE_TIMEOUT)
            assert type(error) is quicio.HandshakeTimeout
            assert told in str(error)
            assert error.attempts[0][0] == (HOST, there.relay.port)
            there.scope.cancel()

    run(face, main)


@per_face
def test_connecting_to_a_peer_that_refuses_fails_after_a_round_trip(face: Face) -> None:
    async def main() -> None:
        async with door(policy=quicio.Incoming.refuse) as there:
            start = anyio.current_time()
            error = await knock(face, there.relay)
            check_elapsed(face, start, ROUND_TRIP, ROUND_TRIP)
            assert type(error) is quicio.ConnectError
            assert error.reason is not None
            assert (error.code, error.reason.is_application, error.reason.by_peer) == (2, False, True)

    run(face, main)


@per_face
def test_connecting_to_a_peer_that_gives_up_midway_tells_so(face: Face) -> None:
    """A close of the application, before its keys are there, is APPLICATION_ERROR (RFC 9000 §10.2.3)."""

    async def main() -> None:
        async with door() as there, anyio.create_task_group() as group:
            group.start_soon(there.accept)
            there.relay.left_down = 1
            waits = Waits(group)
            waits.start("connect", lambda: knock(face, there.relay))
            await there.is_knocked.wait()
            await anyio.sleep(ROUND_TRIP)
            there.relay.left_down = math.inf
            start = anyio.current_time()
            there.scope.cancel()
            await waits.all_ended()
            check_elapsed(face, start, DELAY, DELAY)
            error = waits.outcomes["connect"]
            assert type(error) is quicio.ConnectError
            assert error.reason is not None
            assert (error.code, error.reason.is_application, error.reason.by_peer) == (0x0C, False, True)

    run(face, main)


@per_face
@pytest.mark.parametrize("is_silent", [True, False], ids=["vanishes", "gives up"])
def test_accepting_a_peer_that_is_gone_midway(face: Face, is_silent: bool) -> None:
    async def main() -> None:
        async with door() as there, anyio.create_task_group() as group:
            there.relay.left_down = 1
            waits = Waits(group)
            waits.start("accept", there.accept)
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as client:
                    client.start_soon(knock, face, there.relay)
                    await there.is_knocked.wait()
                    await anyio.sleep(ROUND_TRIP)
                    there.relay.is_dark_up = is_silent
                    scope.cancel()
            await waits.all_ended()
            error = there.outcome
            assert isinstance(error, quicio.ConnectError)
            if is_silent:
                assert type(error) is quicio.HandshakeTimeout
                assert there.took >= (HANDSHAKE_TIMEOUT - SLACK if is_virtual(face) else HANDSHAKE_TIMEOUT / 2)
                assert there.took <= HANDSHAKE_TIMEOUT + (SLACK if is_virtual(face) else REAL_SLACK)
            else:
                assert error.reason is not None
                assert (error.code, error.reason.by_peer) == (0x0C, True)
                assert there.took < HANDSHAKE_TIMEOUT / 2

    run(face, main)


@per_face
def test_a_client_that_rebinds_before_it_was_answered_connects(face: Face) -> None:
    """The first answer is lost with the old address; the client's next try comes from the new one."""
    places = []

    async def main() -> None:
        def policy(incoming: quicio.Incoming) -> None:
            places.append(incoming.remote_address)
            if len(places) == 1:
                there.relay.rebind()

        async with door(policy=policy) as there, anyio.create_task_group() as group:

            async def serve() -> None:
                await there.listener.serve(lambda connection: connection.wait_closed())

            group.start_soon(serve)
            configuration = client_configuration(server_name="localhost")
            async with face.connect(there.relay.port, configuration) as link:
                await link.ping()
                assert places[-1] == there.relay.address != places[0]
            group.cancel_scope.cancel()

    run(face, main)
