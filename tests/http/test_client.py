"""Requests and responses end to end, on asyncio, uvloop and trio: methods, bodies, trailers, interim responses."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator

import anyio
import pytest
from anyio.abc import ByteReceiveStream

import quicio.http
from helpers.http import eventually, serving, talking, visiting
from helpers.loopback import client_configuration
from quicio.anyio import QuicAttribute
from quicio.http import ContentTooLarge, Informational, Request, Response

pytestmark = pytest.mark.anyio

MEBIBYTE = 1024 * 1024


async def greet(request: Request) -> None:
    await request.respond(200, {"content-type": "text/plain"}, f"{request.method} {request.path}")


async def echo(request: Request) -> None:
    await request.start_response(200)
    async for chunk in request:
        await request.send(chunk)


def trailers_of(response: Response) -> dict[str, str] | None:
    return None if response.trailers is None else dict(response.trailers)


async def pieces_of(data: bytes, size: int = 50_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


# --- methods ---------------------------------------------------------------------------------------------------------


async def test_get() -> None:
    async with talking(greet) as client, client.get("/a b?c=ü#fragment") as response:
        assert response.status == 200
        assert isinstance(response, ByteReceiveStream)
        assert response.headers["Content-Type"] == "text/plain"
        assert response.headers["content-length"] == "19"
        assert response.headers["date"].endswith("GMT")
        assert trailers_of(response) is None
        assert await response.read() == b"GET /a%20b?c=%C3%BC"
        assert trailers_of(response) == {}
        with pytest.raises(anyio.EndOfStream):
            await response.receive()


async def test_what_a_handler_sees_of_a_request() -> None:
    seen: list[Request] = []

    async def look(request: Request) -> None:
        seen.append(request)
        assert await request.read() == b"body"
        assert request.extra(QuicAttribute.alpn) == "h3"
        await request.respond(204)

    async with talking(look) as client:
        fields: list[tuple[str | bytes, str | bytes]] = [
            ("X-Name", "a"),
            (b"x-name", b"b"),
            ("cookie", "c=1"),
            ("cookie", "d=2"),
        ]
        async with client.post("/x", body=bytearray(b"body"), headers=fields) as response:
            assert response.status == 204
            assert "content-length" not in response.headers
            assert await response.read() == b""
            assert response.extra(QuicAttribute.alpn) == "h3"
        authority = client.authority
    request = seen[0]
    assert (request.method, request.scheme, request.authority, request.path) == ("POST", "https", authority, "/x")
    assert request.protocol is None
    assert request.headers["x-name"] == "a, b"
    assert request.headers["cookie"] == "c=1; d=2"
    assert request.headers["content-length"] == "4"
    assert ":path" not in request.headers
    assert repr(request) == "<Request POST /x>"


async def test_head_has_the_fields_of_get_and_no_body() -> None:
    streamed = anyio.Event()

    async def handle(request: Request) -> None:
        if request.path == "/whole":
            await request.respond(200, body=b"twelve bytes")
        else:
            await request.start_response(200, {"content-length": "3"})
            await request.send(b"abc")
            await request.finish()
            assert request.is_finished
            streamed.set()

    async with talking(handle) as client:
        async with client.head("/whole") as response:
            assert response.headers["content-length"] == "12"
            assert await response.read(limit=5) == b""
        async with client.head("/streamed") as response:
            assert response.headers["content-length"] == "3"
            assert await response.read() == b""
        await streamed.wait()


async def test_an_empty_post_says_so() -> None:
    async def lengths(request: Request) -> None:
        await request.respond(200, body=request.headers.get("content-length", "none"))

    async with talking(lengths) as client:
        async with client.post("/", body=b"") as response:
            assert await response.read() == b"0"
        async with client.get("/") as response:
            assert await response.read() == b"none"


async def test_open_url_makes_a_connection_for_one_request() -> None:
    async with serving(greet) as server:
        host, port = server.local_address
        url = f"https://{host}:{port}/there?x=1"
        async with quicio.http.open_url(url, configuration=client_configuration()) as response:
            assert await response.read() == b"GET /there?x=1"
        with pytest.raises(KeyError):
            async with quicio.http.open_url(url, configuration=client_configuration()):
                raise KeyError


async def test_a_hundred_requests_in_parallel() -> None:
    bodies: dict[int, bytes] = {}

    async def double(request: Request) -> None:
        await request.respond(200, {"x-number": request.path[1:]}, await request.read() * 2)

    async with talking(double) as client:

        async def ask(number: int) -> None:
            async with client.post(f"/{number}", body=b"%d " % number * 500) as response:
                assert response.headers["x-number"] == str(number)
                bodies[number] = await response.read()

        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(ask, number)
    assert bodies == {number: b"%d " % number * 1000 for number in range(100)}


async def test_more_requests_than_the_stream_limit() -> None:
    async with talking(greet, max_streams_bidi=3) as client:
        for number in range(20):
            async with client.get(f"/{number}") as response:
                assert await response.read() == b"GET /%d" % number


# --- bodies ----------------------------------------------------------------------------------------------------------


async def test_five_mebibytes_up_and_down_with_equal_digests() -> None:
    async def digest(request: Request) -> None:
        content = bytearray()
        async for chunk in request:
            content += chunk
        await request.start_response(200, {"x-sha256": hashlib.sha256(content).hexdigest()})
        for start in range(0, len(content), 100_000):
            await request.send(content[start : start + 100_000])

    data = random.Random(1).randbytes(5 * MEBIBYTE)
    async with talking(digest) as client, client.post("/", body=pieces_of(data)) as response:
        assert response.headers["x-sha256"] == hashlib.sha256(data).hexdigest()
        received = b"".join([chunk async for chunk in response])
        assert hashlib.sha256(received).digest() == hashlib.sha256(data).digest()


@pytest.mark.parametrize("streamed", [False, True])
async def test_both_directions_at_once_beyond_all_windows(streamed: bool) -> None:
    """An echo larger than every buffer: neither side waits for the other."""
    data = random.Random(2).randbytes(3 * MEBIBYTE)
    small = {"max_data": 200_000, "max_stream_data": 100_000, "receive_window_limit": 200_000, "send_buffer": 50_000}
    async with talking(echo, client=small, **small) as client:
        body = pieces_of(data) if streamed else data
        async with client.post("/", body=body) as response:
            assert await response.read() == data


async def test_a_slow_reader_stops_the_sender() -> None:
    """Security row 26: what waits to be read is bounded by the windows, whatever the server has to say."""
    sent = 0

    async def flood(request: Request) -> None:
        nonlocal sent
        await request.start_response(200)
        for _ in range(1000):
            await request.send(bytes(10_000))
            sent += 10_000

    small = {"max_data": 300_000, "max_stream_data": 200_000, "receive_window_limit": 400_000}
    async with talking(flood, client=small, send_buffer=100_000) as client, client.get("/") as response:
        await anyio.sleep(0.3)
        stalled = sent
        assert 100_000 < stalled <= 500_000
        await anyio.sleep(0.1)
        assert sent == stalled
        assert sum([len(chunk) async for chunk in response]) == 10_000_000


async def test_a_handler_that_does_not_read_stops_the_client() -> None:
    offered = 0
    go_on = anyio.Event()

    async def wait(request: Request) -> None:
        await go_on.wait()
        await request.respond(200, body=str(len(await request.read())))

    async def body() -> AsyncIterator[bytes]:
        nonlocal offered
        for _ in range(300):
            yield bytes(10_000)
            offered += 10_000

    small = {"max_data": 300_000, "max_stream_data": 200_000, "receive_window_limit": 400_000}
    async with talking(wait, client={"send_buffer": 100_000}, **small) as client:
        async with anyio.create_task_group() as group:

            async def ask() -> None:
                async with client.post("/", body=body()) as response:
                    assert await response.read() == b"3000000"

            group.start_soon(ask)
            await anyio.sleep(0.3)
            assert 100_000 < offered <= 500_000
            go_on.set()


async def test_pieces_of_a_chosen_size() -> None:
    async def three(request: Request) -> None:
        await request.respond(200, body=b"abcdefgh")

    async with talking(three) as client, client.get("/") as response:
        pieces = [await response.receive(3) for _ in range(3)]
        assert pieces == [b"abc", b"def", b"gh"]
        with pytest.raises(ValueError, match="max_bytes"):
            await response.receive(0)


async def test_small_pieces_are_merged() -> None:
    """Security row 26: a peer that sends content byte by byte cannot make an object of each."""

    async def drip(request: Request) -> None:
        await request.start_response(200)
        for _ in range(2000):
            await request.send(b"x")

    async with talking(drip) as client, client.get("/") as response:
        await eventually(lambda: response._exchange.receiving.buffered == 2000)
        count = 0
        async for piece in response:
            count += 1
            assert set(piece) == set(b"x")
        assert count < 20


async def test_read_has_a_limit() -> None:
    async def three(request: Request) -> None:
        if request.path == "/announced":
            await request.respond(200, body=bytes(1001))
        else:
            await request.start_response(200)
            await request.send(bytes(1001))

    async with talking(three) as client:
        for path in ("/announced", "/not"):
            async with client.get(path) as response:
                with pytest.raises(ContentTooLarge, match="bytes"):
                    await response.read(1000)
            async with client.get(path) as response:
                assert len(await response.read(1001)) == 1001


async def test_a_request_that_is_too_large_for_read_is_answered_413() -> None:
    async def read(request: Request) -> None:
        await request.read(limit=1000)

    async with talking(read) as client:
        async with client.post("/", body=bytes(5000)) as response:
            assert response.status == 413
        async with client.post("/", body=pieces_of(bytes(2 * MEBIBYTE))) as response:
            assert response.status == 413


async def test_an_early_answer_ends_the_upload() -> None:
    """RFC 9114 §4.1: the server asks the client to stop without an error, and the response stays whole."""
    ended = anyio.Event()

    async def refuse(request: Request) -> None:
        await request.respond(403, body=b"no")

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(10_000)
        finally:
            ended.set()

    async with talking(refuse) as client:
        async with client.post("/", body=endless()) as response:
            assert response.status == 403
            assert await response.read() == b"no"
            with anyio.fail_after(5):
                await ended.wait()
        async with client.get("/") as response:
            assert response.status == 403


async def test_closing_a_request_stops_its_upload_while_the_response_goes_on() -> None:
    stopped = anyio.Event()

    async def read_some(request: Request) -> None:
        await request.receive()
        await request.aclose()
        await request.aclose()
        with pytest.raises(anyio.ClosedResourceError):
            await request.receive()
        await request.start_response(200)
        await stopped.wait()
        await request.send(b"still here")

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(10_000)
        finally:
            stopped.set()

    async with talking(read_some) as client, client.post("/", body=endless()) as response:
        assert await response.read() == b"still here"


async def test_a_body_may_be_anything_that_is_iterated() -> None:
    class Pieces:
        def __init__(self) -> None:
            self.left = 3

        def __aiter__(self) -> Pieces:
            return self

        async def __anext__(self) -> bytes:
            self.left -= 1
            if self.left < 0:
                raise StopAsyncIteration
            return b"piece"

    async with talking(echo) as client, client.post("/", body=Pieces()) as response:
        assert await response.read() == b"piecepiecepiece"


# --- trailers and interim responses ----------------------------------------------------------------------------------


async def test_trailers_in_both_directions() -> None:
    async def answer(request: Request) -> None:
        assert (request.trailers is None) == (request.method == "POST")  # None until the body was read
        content = await request.read()
        assert request.trailers is not None
        await request.start_response(200, {"trailer": "x-checksum"})
        await request.send(content)
        await request.send_trailers({"x-checksum": request.trailers["x-checksum"] + "!"})

    digest = hashlib.sha256()

    async def body() -> AsyncIterator[bytes]:
        for piece in (b"a", b"b"):
            digest.update(piece)
            yield piece

    def trailers() -> dict[str, str]:
        return {"X-Checksum": digest.hexdigest()}

    async with talking(answer) as client:
        async with client.request("POST", "/", body=body(), trailers=trailers) as response:
            assert await response.read() == b"ab"
            assert trailers_of(response) == {"x-checksum": hashlib.sha256(b"ab").hexdigest() + "!"}
        async with client.request("POST", "/", body=b"c", trailers={"x-checksum": "fixed"}) as response:
            assert await response.read() == b"c"
            assert trailers_of(response) == {"x-checksum": "fixed!"}
        async with client.request("GET", "/", trailers=[("x-checksum", "alone")]) as response:
            assert await response.read() == b""
            assert trailers_of(response) == {"x-checksum": "alone!"}


async def test_interim_responses_come_before_the_response() -> None:
    heard: list[Informational] = []
    was_heard = anyio.Event()

    async def hints(request: Request) -> None:
        await request.inform(103, {"link": "</style.css>; rel=preload"})
        await was_heard.wait()
        await request.inform(102)
        await request.respond(200)

    def listen(informational: Informational) -> None:
        heard.append(informational)
        was_heard.set()

    async with talking(hints) as client:
        async with client.request("GET", "/", on_informational=listen) as response:
            assert response.status == 200
        assert [found.status for found in heard] == [103, 102]
        assert heard[0].headers["link"] == "</style.css>; rel=preload"
        assert repr(heard[1]) == "<Informational 102>"
        async with client.get("/") as response:  # nobody listens: they are skipped
            assert response.status == 200


async def test_a_client_that_waits_for_100_continue_gets_it_when_its_body_is_wanted() -> None:
    heard: list[int] = []
    may_go_on = anyio.Event()

    def listen(informational: Informational) -> None:
        heard.append(informational.status)
        may_go_on.set()

    async def body() -> AsyncIterator[bytes]:
        await may_go_on.wait()
        yield b"waited"

    async with talking(echo) as client:
        options = {"expect": "100-continue"}
        async with client.request("POST", "/", headers=options, body=body(), on_informational=listen) as response:
            may_go_on.set()
            assert await response.read() == b"waited"
    assert heard == []  # echo starts its response first: there is nothing to wait for any more

    async def read(request: Request) -> None:
        await request.respond(200, body=await request.read())

    may_go_on = anyio.Event()
    async with talking(read) as client:
        async with client.request("POST", "/", headers=options, body=body(), on_informational=listen) as response:
            assert await response.read() == b"waited"
    assert heard == [100]


# --- misuse ----------------------------------------------------------------------------------------------------------


async def test_what_cannot_be_asked_raises_at_the_call() -> None:
    async with talking(greet) as client:
        with pytest.raises(ValueError, match="another client"):
            client.get("https://elsewhere.example/")
        with pytest.raises(ValueError, match="https://"):
            client.get("path")
        with pytest.raises(ValueError, match="cannot be sent"):
            client.request("GE T", "/")
        with pytest.raises(ValueError, match="forbidden"):
            client.get("/", headers={"x": "a\nb"})
        with pytest.raises(ValueError, match="is not a field"):
            client.get("/", headers={":path": "/other"})
        with pytest.raises(UnicodeEncodeError):
            client.get("/", headers={"x": "€"})
        with pytest.raises(TypeError, match="async with request"):
            await client.get("/")  # type: ignore[misc]  # the mistake is the point
        with pytest.raises(TypeError, match="not str"):
            client.post("/", body="text")  # type: ignore[arg-type]  # the mistake is the point
        requesting = client.get("/")
        async with requesting:
            with pytest.raises(RuntimeError, match="once"):
                await requesting.__aenter__()
        assert repr(client) == f"<Client of {client.authority}>"
        assert client.close_reason is None
        assert client.statistics().open_streams >= 3
        assert client.remote_address[0] == "127.0.0.1"
        assert client.extra(QuicAttribute.alpn) == "h3"


async def test_what_a_handler_cannot_do_raises_at_once() -> None:
    async def misuse(request: Request) -> None:
        with pytest.raises(RuntimeError, match="start the message before its content"):
            await request.send(b"early")
        with pytest.raises(RuntimeError, match="start the message before it ends"):
            await request.finish()
        with pytest.raises(ValueError, match="from 200"):
            await request.respond(100)
        with pytest.raises(ValueError, match="from 100"):
            await request.inform(200)
        with pytest.raises(ValueError, match="no body"):
            await request.respond(204, body=b"x")
        with pytest.raises(ValueError, match="cannot be sent"):
            await request.respond(200, {"connection": "close"})
        await request.start_response(200, {"content-length": "3"})
        with pytest.raises(RuntimeError, match="one header section"):
            await request.respond(500)
        with pytest.raises(RuntimeError, match="started already"):
            await request.inform(103)
        with pytest.raises(ValueError, match="more content"):
            await request.send(b"four")
        await request.send(b"ab")
        with pytest.raises(RuntimeError, match="only 2"):
            await request.finish()
        await request.send(b"c")
        await request.finish()
        await request.finish()
        with pytest.raises(RuntimeError, match="has ended"):
            await request.send(b"late")
        with pytest.raises(RuntimeError, match="has ended"):
            await request.send_trailers({"x": "y"})

    failures: list[Exception] = []
    async with talking(misuse, on_error=lambda error, _: failures.append(error)) as client:
        async with client.get("/") as response:
            assert (response.status, await response.read()) == (200, b"abc")
    assert failures == []


async def test_a_section_that_the_server_would_refuse_is_not_sent() -> None:
    async with talking(greet, max_streams_bidi=2) as client:
        async with client.get("/") as response:
            assert response.status == 200
        for _ in range(5):
            with pytest.raises(ValueError, match="larger than"):
                async with client.get("/", headers={"x": "y" * 70_000}):
                    pass
        async with client.get("/") as response:
            assert response.status == 200


async def test_one_client_for_several_tasks_and_names() -> None:
    async with serving(greet) as server:
        changes = client_configuration()
        connecting = quicio.http.connect(
            *server.local_address, configuration=changes, server_name="localhost", authority="www.example"
        )
        async with connecting as client:
            assert client.authority == "www.example"
            async with client.get("https://WWW.example/x") as response:
                assert await response.read() == b"GET /x"
        reason = await client.wait_closed()
        assert (reason.code, reason.is_application) == (0x100, True)
        assert str(server.local_address[1]) in repr(server)
        assert server.extra_attributes
        async with visiting(server) as client, client.get("/") as response:
            assert repr(response) == "<Response 200>"
            assert client.authority == f"127.0.0.1:{server.local_address[1]}"
