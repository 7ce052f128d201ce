"""Handlers that fail, and clients that give up: how each request ends, and what may run at a time."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from helpers.http import HEAD, Ending, EndingMidBody, endless, eventually, rude, serving, talking, visiting
from quicio.anyio.lifetime import OnError
from quicio.errors import (
    CertificateError,
    ConnectionLost,
    QuicError,
    StreamReset,
)
from quicio.h3.events import Headers
from quicio.h3.exceptions import ErrorCode
from quicio.h3.frames import HEADERS, encode_frame
from quicio.h3.qpack import FieldCoding
from quicio.http import Request

pytestmark = pytest.mark.anyio


def section(headers: Headers) -> bytes:
    return FieldCoding(0, 0, 65536).encode(0, headers)[1]


def collect(failures: list[Exception]) -> OnError:
    return lambda error, _: failures.append(error)


# --- handlers that fail -----------------------------------------------------------------------------------------------


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


async def test_a_body_that_relays_the_trouble_of_another_connection_raises_it() -> None:
    """A `QuicError` of the iterable's own is not taken for the server's wish to stop."""
    handler = Ending()

    async def relay() -> AsyncIterator[bytes]:
        yield b"some"
        raise StreamReset("of another connection", code=1)

    async with talking(handler) as client:
        with pytest.raises(StreamReset, match="another"):
            async with client.post("/", body=relay()):
                pass
        await eventually(lambda: handler.running == 0)


async def test_failed_handshakes_go_to_on_error_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "quicio")
    async with serving(Ending()) as server:
        with pytest.raises(CertificateError):
            async with visiting(server, cadata=None):
                pass
        await eventually(lambda: "alert" in caplog.text or "ended" in caplog.text)


# --- a client that gives up -------------------------------------------------------------------------------------------


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


async def test_a_send_that_was_cut_short_leaves_a_response_that_is_reset() -> None:
    """Whatever the handler does then: a truncated body must not look whole."""
    caught: list[type[Exception]] = []

    async def cut(request: Request) -> None:
        await request.start_response(200)
        with anyio.move_on_after(0.1):
            await request.send(bytes(5_000_000))
        for call in (request.finish(), request.send(b"more"), request.send_trailers({"x": "y"})):
            try:
                await call
            except anyio.ClosedResourceError as error:
                caught.append(type(error))

    async with talking(cut, on_error=lambda *_: None, send_buffer=50_000) as client:
        async with client.get("/") as response:
            await eventually(lambda: len(caught) == 3)
            with pytest.raises(StreamReset) as reset:
                await response.read()
            assert reset.value.code == ErrorCode.H3_INTERNAL_ERROR


async def test_interim_responses_wait_for_room() -> None:
    """A handler cannot fill this side's memory with what the client does not read."""
    informed = 0

    async def inform(request: Request) -> None:
        nonlocal informed
        for _ in range(3000):
            await request.inform(103, {"link": f"<{'x' * 1000}{informed}>"})
            informed += 1

    async with serving(inform, send_buffer=20_000) as server, rude(server, max_data=20_000) as client:
        client.handle_event = lambda event: None  # type: ignore[method-assign]  # it reads nothing
        client.link.quic.send_stream_data(0, encode_frame(HEADERS, section(HEAD)), True)
        client.link.flush()
        await anyio.sleep(0.4)
        assert 10 < informed < 200


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
