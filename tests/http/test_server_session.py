"""Peers that send what is no HTTP or too slowly, and shutdowns: the server's side, driven by a rude client."""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio
import pytest

import quicio.http
from helpers.http import HEAD, Ending, eventually, rude, serving, talking, visiting
from helpers.loopback import HOST, server_configuration
from quicio.errors import (
    ClosedByPeer,
    ConnectionLost,
    QuicError,
    StreamReset,
    StreamStopped,
)
from quicio.h3.exceptions import ErrorCode
from quicio.h3.frames import HEADERS, encode_frame
from quicio.http import MalformedMessage, Request, RequestRejected, Server
from quicio.http.receiving import MAX_INFORMATIONAL
from quicio.http.server_session import ServerSession
from quicio.http.session import Session
from quicio.quic.events import StopSendingReceived
from quicio.quic.events import StreamReset as ResetEvent

pytestmark = pytest.mark.anyio


# --- malformed and slow peers -----------------------------------------------------------------------------------------


class Record:
    """What the transport says about the rude client's streams."""

    def __init__(self, session: Session) -> None:
        self.resets: dict[int, int] = {}
        self.stops: dict[int, int] = {}
        self._session = session
        self._forward = session.handle_event
        session.handle_event = self.take  # type: ignore[method-assign]  # a spy on one session

    def take(self, event: Any) -> None:
        if isinstance(event, ResetEvent):
            self.resets[event.stream_id] = event.error_code
        if isinstance(event, StopSendingReceived):
            self.stops[event.stream_id] = event.error_code
        self._forward(event)


async def test_a_malformed_request_is_reset_and_costs_no_handler() -> None:
    handler = Ending()
    async with serving(handler) as server, rude(server) as client:
        record = Record(client)
        client.link.quic.send_stream_data(0, encode_frame(HEADERS, b"\x00\x00\xd1"))  # :method GET and nothing else
        client.link.flush()
        await eventually(lambda: record.resets == {0: ErrorCode.H3_MESSAGE_ERROR})
        assert handler.started == 0
        assert client.link.reason is None


async def test_a_request_that_turns_out_malformed_raises_in_its_handler() -> None:
    """RFC 9114 §4.1.2: more content than announced. The handler is cancelled; whoever shields himself hears why."""
    heard: list[Exception] = []
    started = anyio.Event()

    async def read(request: Request) -> None:
        with anyio.CancelScope(shield=True):
            started.set()
            for call in (request.read, request.receive):
                try:
                    await call()
                except QuicError as error:
                    heard.append(error)
            try:
                await request.start_response(200)
            except QuicError as error:
                heard.append(error)

    async with serving(read) as server, rude(server) as client:
        client.h3.send_headers(0, [*HEAD, (b"content-length", b"3")])
        client.link.flush()
        await started.wait()
        client.h3.send_data(0, b"four", True)
        client.link.flush()
        await eventually(lambda: len(heard) == 3)
    assert [type(error) for error in heard] == [MalformedMessage, MalformedMessage, StreamStopped]
    assert [error.code for error in heard if isinstance(error, QuicError)] == [ErrorCode.H3_MESSAGE_ERROR] * 3
    assert heard[0] is not heard[1]


async def test_an_oversized_header_section_is_answered_431() -> None:
    """Security row 20: RFC 9114 §4.2.2."""
    handler = Ending()
    async with serving(handler) as server, rude(server) as client:
        exchange = client.add(await client.link.open(False))
        client.h3._received_settings = {}  # forget what the server accepts
        client.h3.send_headers(exchange.stream_id, [*HEAD, *[(b"x", b"y" * 1000)] * 70], end_stream=True)
        client.link.flush()
        headers = await exchange.receiving.wait_headers(lambda _: None)
        assert headers == [(b":status", b"431")]
        assert handler.started == 0
        assert client.link.reason is None


async def test_a_header_section_that_does_not_come_is_answered_408() -> None:
    """Security row 29: a request whose fields trickle in holds a stream for `header_timeout` seconds and no longer."""
    handler = Ending()
    async with serving(handler, header_timeout=0.3, max_streams_bidi=2) as server, rude(server) as client:
        exchanges = [client.add(await client.link.open(False)) for _ in range(2)]
        for exchange in exchanges:
            client.link.quic.send_stream_data(exchange.stream_id, b"\x01\x40\x80")
        client.link.flush()
        with anyio.fail_after(5):
            await anyio.sleep(0.15)
            for exchange in exchanges:
                client.link.quic.send_stream_data(exchange.stream_id, b"\x00")
            client.link.flush()  # still alive, and no more than that
            for exchange in exchanges:
                assert await exchange.receiving.wait_headers(lambda _: None) == [(b":status", b"408")]
                exchange.close(0x10C)
            later = client.add(await client.link.open(False))  # the places are free again
        client.h3.send_headers(later.stream_id, HEAD, end_stream=True)
        client.link.flush()
        await handler.start.wait()


async def test_header_timeouts_end_with_the_connection() -> None:
    async with serving(Ending(), header_timeout=0.2) as server, rude(server) as client:
        client.link.quic.send_stream_data(0, b"\x01")
        client.link.flush()
        await client.link.ping()
        client.link.close(0x100)
        await anyio.sleep(0.3)


async def test_interim_responses_that_nobody_takes_are_limited() -> None:
    """Security row 20: each may be as large as a field section."""

    def flood(session: ServerSession, stream_id: int) -> None:
        for _ in range(MAX_INFORMATIONAL + 1):
            session.h3.send_headers(stream_id, [(b":status", b"103")])

    async def handle(request: Request) -> None:
        session = request._exchange.session
        assert isinstance(session, ServerSession)
        flood(session, request._exchange.stream_id)
        session.link.flush()
        await anyio.sleep_forever()

    async with talking(handle) as client:
        with pytest.raises(MalformedMessage, match="too many interim") as caught:
            async with client.get("/"):
                pass
        assert caught.value.code == ErrorCode.H3_EXCESSIVE_LOAD


async def test_a_malformed_response_raises_and_spares_the_connection() -> None:
    async def handle(request: Request) -> None:
        if request.path == "/bad":
            session = request._exchange.session
            section = b"\x00\x00\x5f\x09\x03101"  # a literal :status 101
            session.link.quic.send_stream_data(request._exchange.stream_id, encode_frame(HEADERS, section))
            session.link.flush()
            await anyio.sleep_forever()
        await request.respond(200)

    async with talking(handle) as client:
        with pytest.raises(MalformedMessage, match="101") as caught:
            async with client.get("/bad"):
                pass
        assert caught.value.code == ErrorCode.H3_MESSAGE_ERROR
        async with client.get("/good") as response:
            assert response.status == 200


async def test_pushes_are_not_allowed() -> None:
    """The client allows none: a server cannot make it hold what it never asked for."""

    async def push(request: Request) -> None:
        session = request._exchange.session
        assert session.h3._pushes.maximum is None
        session.link.quic.send_stream_data(request._exchange.stream_id, encode_frame(5, b"\x00\x00\x00\xd1"))
        session.link.flush()
        await anyio.sleep_forever()

    async with talking(push) as client:
        with pytest.raises(ConnectionLost) as caught:
            async with client.get("/"):
                pass
        assert caught.value.code == ErrorCode.H3_ID_ERROR


# --- shutting down ----------------------------------------------------------------------------------------------------


async def test_a_shutdown_answers_what_has_come_and_refuses_the_rest() -> None:
    """RFC 9114 §5.2: GOAWAY, then the requests under way complete, then the connection closes with H3_NO_ERROR."""
    go_on = anyio.Event()
    started = anyio.Event()

    async def slow(request: Request) -> None:
        started.set()
        await go_on.wait()
        await request.respond(200, body=b"served")

    async with serving(slow) as server, visiting(server) as client, visiting(server) as idle:
        answers: list[bytes] = []

        async def ask() -> None:
            async with client.get("/") as response:
                answers.append(await response.read())

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await started.wait()
            await server.aclose()
            await eventually(lambda: client.is_going_away)
            with pytest.raises(RequestRejected):
                async with client.get("/late"):
                    pass
            assert (await idle.wait_closed()).code == ErrorCode.H3_NO_ERROR
            assert client.close_reason is None
            go_on.set()
        assert answers == [b"served"]
        reason = await client.wait_closed()
        assert (reason.code, reason.by_peer) == (ErrorCode.H3_NO_ERROR, True)


async def test_a_shutdown_is_announced_a_round_trip_before_it_refuses() -> None:
    """RFC 9114 §5.2: so a request that was under way meanwhile is not refused."""
    heard: list[int] = []
    handler = Ending()
    async with serving(handler) as server, rude(server) as client:
        client.on_goaway = heard.append  # type: ignore[assignment, method-assign]  # a spy on one session
        client.h3.send_headers(await client.link.open(False), HEAD, end_stream=True)
        client.link.flush()
        await handler.start.wait()
        await server.aclose()
        await eventually(lambda: len(heard) == 2)
    assert heard == [2**62 - 4, 4]


async def test_serve_returns_after_a_shutdown() -> None:
    async def answer(request: Request) -> None:
        await request.respond(200)

    async with anyio.create_task_group() as group:
        run = partial(quicio.http.serve, answer, HOST, 0, configuration=server_configuration())
        server: Server = await group.start(run)
        async with visiting(server) as client, client.get("/") as response:
            assert response.status == 200
            await server.aclose()
        with anyio.fail_after(5):
            await server.aclose()
    # the task group ended by itself: serve() has returned


async def test_a_request_that_crosses_the_goaway_is_rejected_and_may_be_retried() -> None:
    handler = Ending()
    async with serving(handler) as server, rude(server) as client:
        await client.link.ping()
        first = client.add(await client.link.open(False))
        client.h3.send_headers(first.stream_id, HEAD, end_stream=True)
        client.link.flush()
        await handler.start.wait()
        await server.aclose()
        await eventually(lambda: client.h3.received_goaway == 4)
        client.h3._received_goaway = None  # as if it had not arrived yet
        late = client.add(await client.link.open(False))
        client.h3.send_headers(late.stream_id, HEAD, end_stream=True)
        client.link.flush()
        with pytest.raises(RequestRejected, match="made again"):
            await late.receiving.wait_headers(lambda _: None)
        assert handler.started == 1


async def test_a_goaway_rejects_requests_that_the_server_did_not_see() -> None:
    async def announce(request: Request) -> None:
        request._exchange.session.h3.goaway(0)
        request._exchange.session.link.flush()
        await anyio.sleep_forever()

    async with talking(announce) as client:
        with pytest.raises(RequestRejected, match="not seen"):
            async with client.get("/"):
                pass
        assert client.is_going_away


async def test_a_request_that_waits_for_a_place_is_rejected_by_a_shutdown() -> None:
    handler = Ending()
    async with serving(handler, max_streams_bidi=1) as server, visiting(server) as client:

        async def hold() -> None:
            with pytest.raises(QuicError):
                async with client.get("/"):
                    pass

        async with anyio.create_task_group() as group:
            group.start_soon(hold)
            await handler.start.wait()
            await server.aclose()
            client._session.h3._received_goaway = None

            async def wait() -> None:
                with pytest.raises(RequestRejected):
                    async with client.get("/waits"):
                        pass

            group.start_soon(wait)
            await anyio.sleep(0.1)
            client._session.h3._received_goaway = 4
            for session in server._sessions:
                session.link.close(ErrorCode.H3_NO_ERROR)


async def test_cancelling_serve_closes_at_once() -> None:
    handler = Ending()
    closed: list[int | None] = []

    async def ask(server: Server) -> None:
        async with visiting(server) as client:
            try:
                async with client.get("/"):
                    pass
            except (StreamReset, ClosedByPeer) as error:  # the stream's end is sent with the connection's
                closed.append(error.code)
            closed.append((await client.wait_closed()).code)

    async with anyio.create_task_group() as group:
        async with serving(handler) as server:
            group.start_soon(ask, server)
            await handler.start.wait()
    assert closed == [ErrorCode.H3_REQUEST_CANCELLED] * 2
    assert handler.cancelled == 1


async def test_a_connection_that_comes_during_the_shutdown_is_told_too() -> None:
    async def answer(request: Request) -> None:
        await request.respond(200)

    async with serving(answer) as server:
        server._is_closing = True  # as if its handshake had ended a moment after `aclose()`
        async with visiting(server) as client:
            assert (await client.wait_closed()).code == ErrorCode.H3_NO_ERROR


async def test_a_shutdown_of_a_connection_that_ends_meanwhile() -> None:
    async with serving(Ending()) as server, visiting(server) as client:
        await eventually(lambda: server._sessions)
        await server.aclose()
        for session in list(server._sessions):
            session.link.close(7)
        assert (await client.wait_closed()).code == 7
        await eventually(lambda: not server._sessions)
