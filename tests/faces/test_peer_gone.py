"""A peer that vanishes, resets, closes or rebinds while tasks wait in every kind of wait, on every face and in both roles.

All kinds wait at once on one connection, behind a relay that can lose everything and change the client's address. Then the
peer does one thing, and each wait has to end with an error of its own, of the right type, with the peer's code and reason,
within the documented time: the idle timeout for silence, the way here for a close, the next probe for a stateless reset.
After a rebind nothing ends: the waits go on and get what they wait for. Time is virtual but on uvloop, so bounds are tight.
"""

from __future__ import annotations

from typing import Any

import anyio
import pytest
import trio

import quicio
import quicio.trio
from helpers.faces import Face, Link, TrioFace
from helpers.relay import meeting
from helpers.virtual_time import is_virtual, run
from helpers.waits import (
    BIDIRECTIONAL,
    DELAY,
    ENDS,
    LIMITS,
    NATIVE,
    WOULD_BLOCK,
    Deed,
    Waiter,
    Waits,
    check_error,
    check_time,
    roles,
)

CLEAN_ENDS = (anyio.EndOfStream, trio.EndOfChannel)

per_face = pytest.mark.parametrize("face", NATIVE, ids=repr)
per_role = pytest.mark.parametrize("role", ["client", "server"])
per_end = pytest.mark.parametrize("deed", ENDS, ids=lambda deed: str(deed.name))


def whole_table() -> list[Any]:
    """Each face in both roles, taking the peer's streams in both ways; where time is real, in a way for each role."""
    return [
        pytest.param(face, role, is_serving, id=f"{face}-{role}-{'serve' if is_serving else 'receive'}")
        for face in NATIVE
        for role in ("client", "server")
        for is_serving in (False, True)
        if is_virtual(face) or is_serving == (role == "server")
    ]


@pytest.mark.parametrize(("face", "role", "is_serving"), whole_table())
@per_end
def test_each_wait_ends_with_an_error_of_its_own(face: Face, role: str, deed: Deed, is_serving: bool) -> None:
    async def main() -> None:
        async with meeting(face, DELAY, client=LIMITS, server=LIMITS) as both, anyio.create_task_group() as group:
            waiter = roles(face, both, role)
            if role == "server":
                await waiter.link.ping()
                waiter.connection.change_connection_id()  # a client's first ID has no reset token (RFC 9000 §18.2)
            waits = Waits(group)
            await waiter.wait_everywhere(waits, is_serving)
            start = waiter.unheard_since if deed.is_silent else anyio.current_time()
            deed.do(waiter.peer, both.relay)
            await waits.all_ended()
            reason = waiter.connection.close_reason
            errors = []
            for name, outcome in waits.outcomes.items():
                check_time(face, deed, waits.times[name] - start, name)
                if name.startswith("wait_closed"):
                    assert outcome is reason
                elif deed.is_clean and name in ("streams", "receive streams"):
                    assert outcome is None if is_serving else isinstance(outcome, CLEAN_ENDS)
                else:
                    check_error(face, deed, outcome, name)
                    assert outcome.reason is reason  # one CloseReason for all of them
                    errors.append(outcome)
            assert len({id(error) for error in errors}) == len(errors) >= 15
            for channel in waiter.streams.values():
                await channel.stream.aclose()

    run(face, main)


# --- what came before ----------------------------------------------------------------------------------------------------


@per_face
@per_role
@per_end
def test_what_came_before_stays_readable(face: Face, role: str, deed: Deed) -> None:
    """Data, a FIN, a stream that nobody has accepted and a DATAGRAM: all of it can be taken after the end (rule R5)."""

    async def main() -> None:
        async with meeting(face, DELAY, client=LIMITS, server=LIMITS) as both:
            waiter = roles(face, both, role)
            await waiter.link.ping()
            waiter.connection.change_connection_id()
            mine = await waiter.link.open()
            await mine.send(b"?")
            theirs = await waiter.peer.accept()
            await theirs.send(b"cut off")
            whole, partial = [await waiter.peer.open() for _ in range(2)]
            await whole.send(b"whole")
            await whole.finish()
            await partial.send(b"partial")
            await waiter.peer.send_datagram(b"message")
            await waiter.peer.ping()  # all of it has arrived
            waiter._darken()
            async with anyio.create_task_group() as group:
                pinging = Waits(group)
                pinging.start("ping", waiter.connection.ping)  # what a stateless reset answers
                await anyio.wait_all_tasks_blocked()
                deed.do(waiter.peer, both.relay)
                assert await waiter.link.closed() is waiter.connection.close_reason
            assert await waiter.link.receive_datagram() == b"message"
            assert await mine.receive() == b"cut off"
            accepted = {stream.stream.id: stream for _ in range(2) if (stream := await _accept(waiter.link))}
            assert [await accepted[number].receive() for number in sorted(accepted)] == [b"whole", b"partial"]
            end, cut = (accepted[number] for number in sorted(accepted))
            assert await end.receive() == b""  # the FIN is there
            for stream in (cut, mine):
                for _ in range(2):
                    with pytest.raises(quicio.ConnectionLost) as caught:
                        await stream.receive()
                    check_error(face, deed, caught.value, "receive")
            for stream in (mine, end, cut):
                await _aclose(stream)

    run(face, main)


async def _accept(link: Link) -> Any:
    return await link.accept()


async def _aclose(channel: Any) -> None:
    await channel.stream.aclose()


# --- a graceful end that is under way ------------------------------------------------------------------------------------


@per_face
@per_role
@per_end
def test_a_graceful_end_under_way_tells_what_was_not_delivered(face: Face, role: str, deed: Deed) -> None:
    """It does not wait out its `linger` when the peer is gone."""

    async def main() -> None:
        patient = {**LIMITS, "linger": 30.0}
        async with meeting(face, DELAY, client=patient, server=patient) as both, anyio.create_task_group() as group:
            waiter = roles(face, both, role)
            await waiter.link.ping()
            waiter.connection.change_connection_id()
            waits = Waits(group)
            stream = await waiter.clog("clogged")
            waits.start("aclose", waiter.connection.aclose)
            await anyio.wait_all_tasks_blocked()
            assert waits.outcomes == {}
            waiter._darken()
            with pytest.raises(WOULD_BLOCK):
                while True:
                    waiter.connection.datagrams.send_nowait(bytes(1000))  # what a stateless reset answers
            start = anyio.current_time()
            deed.do(waiter.peer, both.relay)
            await waits.all_ended()
            library = quicio.trio if isinstance(face, TrioFace) else quicio
            error = waits.outcomes["aclose"]
            assert type(error) is library.NotDelivered
            assert (error.reason, error.code) == (waiter.connection.close_reason, deed.code)
            check_time(face, deed, waits.times["aclose"] - start, "aclose")
            await stream.aclose()

    run(face, main)


# --- rebinding -----------------------------------------------------------------------------------------------------------


@per_face
@per_role
def test_after_a_rebind_the_waits_go_on_and_end_well(face: Face, role: str) -> None:
    """The client's address changes under waits of either end; what they wait for comes, in the new path's time."""

    async def main() -> None:
        async with meeting(face, DELAY, client=LIMITS, server=LIMITS) as both, anyio.create_task_group() as group:
            waiter = roles(face, both, role)
            waits = Waits(group)
            await waiter.wait_everywhere(waits, False)
            both.relay.rebind()
            both.relay.is_dark_up = both.relay.is_dark_down = False
            await Answers(waiter, waits).give()
            if role == "server":
                assert waits.outcomes["wait_path_changed"] == both.relay.address
            waiter.peer.close(0, "")
            await waits.all_ended()
            reason = waiter.connection.close_reason
            assert waits.outcomes["wait_closed"] is waits.outcomes["wait_closed too"] is reason
            for name in ("send", "wait_delivered", "wait_delivered too", "datagrams.send"):
                assert waits.outcomes[name] is None, name
            assert waits.outcomes["send_some"] == 1
            assert waits.outcomes["receive"] == b"answer"
            assert waits.outcomes["wait_stopped"] == waits.outcomes["wait_stopped too"] == 9
            assert waits.outcomes["datagrams.receive"] == b"message"
            assert waits.outcomes["ping"] > 0
            if role == "client":  # its own address has not changed, nor has the server's
                assert isinstance(waits.outcomes["wait_path_changed"], quicio.ClosedByPeer)
            opened = [
                waits.outcomes[name]
                for name in ("open_stream", "open_stream too", "open_send_stream", "streams", "receive streams")
            ]
            assert not any(isinstance(stream, Exception) for stream in opened)
            for stream in [*opened, *(channel.stream for channel in waiter.streams.values())]:
                await stream.aclose()

    run(face, main)


class Answers:
    """The peer gives all who wait what they wait for."""

    def __init__(self, waiter: Waiter, waits: Waits) -> None:
        self.waiter = waiter
        self.waits = waits
        self.peer = waiter.peer

    async def give(self) -> None:
        """All but the end of the connection, and the new path of a client, which never comes."""
        by_id = {channel.stream.id: name for name, channel in self.waiter.streams.items()}
        async with anyio.create_task_group() as group:
            for _ in range(BIDIRECTIONAL):
                stream = await _accept(self.peer)
                name = by_id[stream.stream.id]
                if name == "receive":
                    await stream.send(b"answer")
                elif name == "wait_stopped":
                    stream.stop(9)
                else:
                    group.start_soon(self._read, stream)
                    continue
                await self._let_another_open(name, stream)
            uni = await self.peer.accept(is_unidirectional=True)
            await self._let_another_open("uni", uni)
            await self._open_streams()
            await self.peer.send_datagram(b"message")
            await self._until_all_but("wait_closed", "wait_closed too", "wait_path_changed")
            group.cancel_scope.cancel()

    async def _read(self, stream: Any) -> None:
        async with stream.stream:
            while await stream.receive():
                pass

    async def _let_another_open(self, name: str, stream: Any) -> None:
        """Both ends close a stream that was waited on, which returns its place under the limit."""
        while name in self.waits.names and name not in self.waits.outcomes:
            await self.peer.ping()
        for channel in (self.waiter.streams[name], stream):
            await _aclose(channel)

    async def _open_streams(self) -> None:
        for is_unidirectional in (False, True):
            channel = await self.peer.open(is_unidirectional=is_unidirectional)
            await channel.send(b"x")
            await _aclose(channel)

    async def _until_all_but(self, *names: str) -> None:
        wanted = set(self.waits.names) - set(names)
        while not wanted <= set(self.waits.outcomes):
            await self.peer.ping()


# --- moving --------------------------------------------------------------------------------------------------------------


@per_face
@per_end
def test_moving_to_another_address_ends_with_the_connection(face: Face, deed: Deed) -> None:
    async def main() -> None:
        async with meeting(face, DELAY, client=LIMITS, server=LIMITS) as both, anyio.create_task_group() as group:
            waiter = roles(face, both, "client")
            await waiter.link.ping()
            waits = Waits(group)
            waiter._darken()
            waits.start("migrate", waiter.connection.migrate)
            await anyio.wait_all_tasks_blocked()
            assert waits.outcomes == {}
            start = waiter.unheard_since if deed.is_silent else anyio.current_time()
            deed.do(waiter.peer, both.relay)
            await waits.all_ended()
            check_error(face, deed, waits.outcomes["migrate"], "migrate")
            check_time(face, deed, waits.times["migrate"] - start, "migrate")

    run(face, main)
