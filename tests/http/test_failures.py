"""What can go wrong between a client and a server, and what each side hears of it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import anyio
import pytest

import quicio.http
from helpers.http import HEAD, eventually, rude, serving, talking, visiting
from helpers.loopback import HOST, server_configuration
from quicio.anyio.lifetime import OnError
from quicio.errors import ClosedByPeer, ConnectError, ConnectionLost, IdleTimeout, QuicError, StreamReset, StreamStopped
from quicio.h3.exceptions import ErrorCode
from quicio.h3.frames import HEADERS, encode_frame
from quicio.http import MalformedMessage, Request, RequestRejected, Server
from quicio.http.receiving import MAX_INFORMATIONAL
from quicio.http.server_session import ServerSession
from quicio.http.session import Session
from quicio.quic.events import StopSendingReceived
from quicio.quic.events import StreamReset as ResetEvent

pytestmark = pytest.mark.anyio


class Ending:
    """A handler that waits for ever, and notes how that ended."""

    def __init__(self) -> None:
        self.running = 0
        self.started = 0
        self.cancelled = 0
        self.start = anyio.Event()

    async def __call__(self, request: Request) -> None:
        self.running += 1
        self.started += 1
        self.start.set()
        try:
            await self.handle(request)
        except anyio.get_cancelled_exc_class():
            self.cancelled += 1
            raise
        finally:
            self.running -= 1

    async def handle(self, request: Request) -> None:
        await anyio.sleep_forever()


class EndingMidBody(Ending):
    async def handle(self, request: Request) -> None:
        await request.start_response(200)
        while True:
            await request.send(bytes(10_000))


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield bytes(10_000)


def collect(failures: list[Exception]) -> OnError:
    return lambda error, _: failures.append(error)


# --- handlers that fail ----------------------------------------------------------------------------------------------


async def test_a_handler_that_raises_becomes_500() -> None:
    failures: list[Exception] = []

    async def fail(request: Request) -> None:
        raise KeyError("mine")

    async with talking(fail, on_error=collect(failures)) as client:
        async with client.get("/") as response:
            assert (response.status, await response.read()) == (500, b"")
        async with client.head("/") as response:
            assert response.status == 500
    assert [type(error) for error in failures] == [KeyError, KeyError]


async def test_a_handler_that_raises_within_its_response_resets_it() -> None:
    failures: list[Exception] = []

    async def fail(request: Request) -> None:
        await request.start_response(200)
        await request.send(b"half")
        raise KeyError("mine")

    async with talking(fail, on_error=collect(failures)) as client, client.get("/") as response:
        with pytest.raises(StreamReset) as caught:
            while True:
                await response.receive()
        assert caught.value.code == ErrorCode.H3_INTERNAL_ERROR
    assert len(failures) == 1


async def test_a_handler_without_a_response_becomes_500() -> None:
    failures: list[Exception] = []

    async def forget(request: Request) -> None:
        await request.read()

    async with talking(forget, on_error=collect(failures)) as client, client.get("/") as response:
        assert response.status == 500
    assert "returned without a response" in str(failures[0])


async def test_a_response_shorter_than_announced_is_reset() -> None:
    failures: list[Exception] = []

    async def cheat(request: Request) -> None:
        await request.start_response(200, {"content-length": "10"})
        await request.send(b"half")

    async with talking(cheat, on_error=collect(failures)) as client, client.get("/") as response:
        with pytest.raises(StreamReset):
            await response.read()
    assert "only 4 were sent" in str(failures[0])


async def test_what_the_network_does_to_a_handler_is_logged_not_reported(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "quicio")
    failures: list[Exception] = []

    async def upstream(request: Request) -> None:
        raise ConnectionLost("a connection of the handler's own")

    async with talking(upstream, on_error=collect(failures)) as client, client.get("/") as response:
        assert response.status == 500
    assert failures == []
    assert "a connection of the handler's own" in caplog.text


async def test_by_default_handlers_failures_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(request: Request) -> None:
        raise KeyError("mine")

    async with talking(fail) as client, client.get("/path") as response:
        assert response.status == 500
    assert "<Request GET /path>" in caplog.text
    assert "mine" in caplog.text


async def test_what_on_error_raises_leaves_serve() -> None:
    def crash(error: Exception, subject: Any) -> None:
        raise error

    async def fail(request: Request) -> None:
        raise KeyError("mine")

    with pytest.raises(ExceptionGroup) as caught:  # the group is the test's own
        async with serving(fail, on_error=crash) as server, visiting(server) as client:
            with pytest.raises(QuicError):
                async with client.get("/"):
                    pass
            await anyio.sleep_forever()
    found: BaseException = caught.value
    while isinstance(found, BaseExceptionGroup):
        assert len(found.exceptions) == 1
        found = found.exceptions[0]
    assert isinstance(found, KeyError)


# --- a client that gives up ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [Ending, EndingMidBody])
async def test_a_cancelled_request_cancels_its_handler(ending: type[Ending]) -> None:
    handler = ending()
    async with talking(handler) as client:
        with anyio.move_on_after(0.2) as patience:
            async with client.get("/") as response:
                async for _ in response:
                    pass
        assert patience.cancelled_caught
        await eventually(lambda: handler.cancelled == 1)
        assert handler.running == 0


async def test_leaving_a_response_unread_cancels_its_handler() -> None:
    handler = EndingMidBody()
    async with talking(handler) as client:
        async with client.get("/") as response:
            assert await response.receive()
        with pytest.raises(anyio.ClosedResourceError):
            await response.receive()
        await eventually(lambda: handler.cancelled == 1)
        async with client.get("/") as response:
            await response.aclose()
            with pytest.raises(anyio.ClosedResourceError):
                await response.receive()
            await eventually(lambda: handler.cancelled == 2)


async def test_an_upload_that_raises_cancels_the_request() -> None:
    handler = Ending()

    async def body() -> AsyncIterator[bytes]:
        yield b"some"
        await handler.start.wait()
        raise KeyError("mine")

    async with talking(handler) as client:
        with pytest.raises(KeyError, match="mine"):
            async with client.post("/", body=body()):
                pass
        await eventually(lambda: handler.cancelled == 1)


async def test_an_upload_that_raises_under_a_response_raises_there() -> None:
    started = anyio.Event()

    async def answer(request: Request) -> None:
        await request.start_response(200)
        async for _ in request:
            pass

    async def body() -> AsyncIterator[bytes]:
        yield b"some"
        await started.wait()
        raise KeyError("mine")

    async with talking(answer) as client:
        with pytest.raises(KeyError, match="mine"):
            async with client.post("/", body=body()) as response:
                started.set()
                await response.read()
        started = anyio.Event()
        with pytest.raises(KeyError, match="mine"):  # nobody reads: it leaves with the scope
            async with client.post("/", body=body()) as response:
                started.set()
                await anyio.sleep(0.1)


async def test_the_bodys_exception_leaves_as_itself() -> None:
    async def answer(request: Request) -> None:
        await request.start_response(200)
        async for _ in request:
            pass

    mine = KeyError("mine")
    async with talking(answer) as client:
        with pytest.raises(KeyError) as caught:
            async with client.post("/", body=endless()):
                raise mine
        assert caught.value is mine


async def test_a_request_given_up_before_its_turn_costs_no_handler() -> None:
    """Security row 19, rapid reset: requests that wait for a place and are reset meanwhile never reach a handler."""
    handler = Ending()
    async with serving(handler, max_requests=1) as server, rude(server) as client:
        for number in range(10):
            stream_id = 4 * number
            client.h3.send_headers(stream_id, HEAD, end_stream=True)
        client.link.flush()
        await handler.start.wait()
        for number in range(1, 10):
            client.h3.cancel_stream(4 * number)
        client.link.flush()
        await client.link.ping()
        client.h3.cancel_stream(0)
        client.link.flush()
        await eventually(lambda: handler.running == 0)
        await client.link.ping()
        assert (handler.started, handler.cancelled) == (1, 1)


async def test_a_place_comes_back_only_when_the_handler_has_ended() -> None:
    """Security row 19: resetting a request does not buy another while its handler still works."""
    running = 0
    may_end = anyio.Event()

    async def linger(request: Request) -> None:
        nonlocal running
        running += 1
        try:
            with anyio.CancelScope(shield=True):
                await may_end.wait()
        finally:
            running -= 1

    async with serving(linger, max_streams_bidi=4) as server, visiting(server) as client:

        async def ask() -> None:
            with anyio.move_on_after(0.2):
                async with client.get("/"):
                    pass

        for _ in range(3):  # twelve requests, each given up: only four places
            async with anyio.create_task_group() as group:
                for _ in range(4):
                    group.start_soon(ask)
        assert running == 4
        may_end.set()
        await eventually(lambda: running == 0)
        await ask()


async def test_at_most_max_requests_handlers_run() -> None:
    """Security row 19: handlers are counted, whatever the limit of streams is."""
    most = running = 0

    async def work(request: Request) -> None:
        nonlocal most, running
        running += 1
        most = max(most, running)
        await anyio.sleep(0.01)
        running -= 1
        await request.respond(200)

    async with talking(work, max_requests=3) as client:

        async def ask() -> None:
            async with client.get("/") as response:
                assert response.status == 200

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(ask)
    assert most == 3


@pytest.mark.parametrize("with_headers", [True, False])
async def test_rapid_reset_ends_the_connection(with_headers: bool) -> None:
    """Security row 19: a client whose requests come to nothing is sent away."""
    handler = Ending()
    async with serving(handler) as server, rude(server) as client:
        with anyio.fail_after(20):
            while client.link.reason is None:
                stream_id = client.link.quic.open_stream()
                if stream_id is None:
                    await anyio.sleep(0.005)
                    continue
                client.h3.send_headers(stream_id, HEAD, end_stream=False)
                if with_headers:
                    client.link.flush()
                client.h3.cancel_stream(stream_id)
                client.link.flush()
                await anyio.lowlevel.checkpoint()
        assert client.link.reason.code == ErrorCode.H3_EXCESSIVE_LOAD
        await eventually(lambda: handler.running == 0)


async def test_streams_reset_without_a_byte_give_their_places_back() -> None:
    async def answer(request: Request) -> None:
        await request.respond(200)

    async with serving(answer, max_streams_bidi=4) as server, rude(server) as client:
        for _ in range(12):
            stream_id = await client.link.open(False)
            client.link.quic.reset_stream(stream_id, 0x10C)
            client.link.quic.stop_stream(stream_id, 0x10C)
            client.link.flush()
        for _ in range(12):
            stream_id = await client.link.open(False)
            client.link.quic.stop_stream(stream_id, 0x10C)
            client.link.quic.send_stream_data(stream_id, b"\x01")
            client.link.flush()
            await client.link.ping()
            client.link.quic.reset_stream(stream_id, 0x10C)
        assert client.link.reason is None


# --- malformed and slow peers ----------------------------------------------------------------------------------------


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


# --- ends of connections ---------------------------------------------------------------------------------------------


async def test_a_server_that_vanishes_is_an_idle_timeout() -> None:
    handler = EndingMidBody()
    async with serving(handler) as server, visiting(server, idle_timeout=0.5) as client:
        with pytest.raises(IdleTimeout):
            async with client.post("/", body=endless()) as response:
                for driver in server._listener._drivers:
                    driver.stop()
                while True:
                    await response.receive()


async def test_a_client_that_vanishes_cancels_its_handlers() -> None:
    handler = EndingMidBody()
    async with serving(handler, idle_timeout=0.5) as server, visiting(server) as client, client.get("/") as response:
        await response.receive()
        client._session.link.driver.stop()
        await eventually(lambda: handler.cancelled == 1)


async def test_a_server_that_closes_raises_closed_by_peer_everywhere() -> None:
    errors: list[Exception] = []

    async def close(request: Request) -> None:
        await request.start_response(200)
        await request.send(b"some")
        if request.path == "/close":
            request._exchange.session.link.close(77, "enough")
        await anyio.sleep_forever()

    async with talking(close) as client:

        async def ask(path: str) -> None:
            try:
                async with client.get(path) as response:
                    while True:
                        await response.receive()
            except ClosedByPeer as error:
                errors.append(error)

        async with anyio.create_task_group() as group:
            group.start_soon(ask, "/wait")
            await anyio.sleep(0.05)
            group.start_soon(ask, "/close")
        with pytest.raises(ClosedByPeer):
            async with client.get("/after"):
                pass
        assert client.close_reason is not None
    assert [error.code for error in errors if isinstance(error, ClosedByPeer)] == [77, 77]
    assert errors[0] is not errors[1]


async def test_what_came_before_the_loss_stays_readable() -> None:
    async def close(request: Request) -> None:
        await request.start_response(200)
        await request.send(b"some")
        await anyio.sleep(0.05)
        request._exchange.session.link.close(77)

    async with talking(close) as client, client.get("/") as response:
        await client.wait_closed()
        assert await response.receive() == b"some"
        with pytest.raises(ClosedByPeer):
            await response.receive()


async def test_a_client_after_its_end_is_closed() -> None:
    async with serving(Ending()) as server:
        async with visiting(server) as client:
            pass
        with pytest.raises(anyio.ClosedResourceError):
            async with client.get("/"):
                pass


async def test_nobody_there_is_a_connect_error() -> None:
    with pytest.raises(ConnectError):
        async with quicio.http.connect("127.0.0.1", 9):
            pass


async def test_serve_wants_a_handler_at_a_time() -> None:
    with pytest.raises(ValueError, match="max_requests"):
        await quicio.http.serve(Ending(), HOST, 0, configuration=server_configuration(), max_requests=0)


# --- shutting down ---------------------------------------------------------------------------------------------------


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
    async with serving(handler) as server:
        closed: list[int | None] = []

        async def ask() -> None:
            async with visiting(server) as client:
                try:
                    async with client.get("/"):
                        pass
                except ClosedByPeer as error:
                    closed.append(error.code)

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await handler.start.wait()
            for session in list(server._sessions):
                session.link.close(ErrorCode.H3_REQUEST_CANCELLED)
        assert closed == [ErrorCode.H3_REQUEST_CANCELLED]
        assert handler.cancelled == 1
