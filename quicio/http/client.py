"""A client: requests over one connection, each in a scope of its own.

`connect` is the scope of the connection, `request` that of one request and its response. The response is there when the
scope is entered, and its body is read inside; leaving gives up whatever of the exchange is not complete, so nothing of it
stays behind, however it was left.

A body that can wait (an asynchronous iterable, or more bytes than there is room for) is sent by a task of the request's
scope, while the response is read: a server may answer before it has read everything, and neither waits for the other. When
the server asks to stop sending, sending stops, and the response says why. When the iterable raises, the request is
cancelled, and what it raised leaves from whatever waits for the response.
"""

from __future__ import annotations

import socket as socket_module
from collections.abc import AsyncIterable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

import anyio
from anyio import TypedAttributeProvider
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint_if_cancelled

from quicio.anyio.client import Connecting, client_configuration
from quicio.anyio.connection import Connection
from quicio.anyio.lifetime import Scope, is_cancellation, leave_group
from quicio.anyio.link import Link
from quicio.errors import Address, CloseReason, QuicError
from quicio.h3.connection import H3_ALPN
from quicio.h3.events import Headers
from quicio.h3.exceptions import MessageError
from quicio.h3.headers import check_request
from quicio.http.body import Body
from quicio.http.fields import Fields, FieldsLike, encode_fields
from quicio.http.receiving import Informational
from quicio.http.sending import Data, SendingMessage
from quicio.http.session import H3_CODES, ClientSession, Exchange, status_of
from quicio.http.target import DEFAULT_PORT, authority_of, parse_url, path_of
from quicio.quic.configuration import QuicConfiguration
from quicio.quic.statistics import ConnectionStatistics

__all__ = ["Client", "Content", "OnInformational", "Response", "connect", "open_url"]

Content = Data | AsyncIterable[Data]
OnInformational = Callable[[Informational], None]

NO_CONTENT_METHODS: Final = frozenset(
    {"GET", "HEAD", "OPTIONS", "TRACE", "DELETE"}
)  # without a body, no length is sent


def ignore(informational: Informational) -> None:
    """The default for interim responses: those that are not asked for may be ignored (RFC 9110 §15.2)."""


class Response(Body):
    """A response: `status`, `headers`, and the body as a stream. It lives as long as its request's `async with`."""

    def __init__(self, exchange: Exchange, headers: Headers) -> None:
        super().__init__(exchange, Fields(pair for pair in headers if pair[0] != b":status"))
        #: the status, from 200 to 599
        self.status: int = status_of(headers)

    def __repr__(self) -> str:
        return f"<Response {self.status}>"

    async def aclose(self) -> None:
        """Give the rest of the exchange up."""
        self._exchange.close(H3_CODES.cancelled)
        await checkpoint_if_cancelled()


class Client(TypedAttributeProvider):
    """Requests to one server. It is made by `connect()`, never by hand."""

    def __init__(self, connection: Connection, session: ClientSession, authority: str) -> None:
        self._connection = connection
        self._session = session
        #: what requests name as their `:authority`
        self.authority = authority

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: FieldsLike = (),
        body: Content | None = None,
        trailers: FieldsLike | Callable[[], FieldsLike] = (),
        on_informational: OnInformational = ignore,
    ) -> AbstractAsyncContextManager[Response]:
        """Ask, and wait for the head of the response: `async with client.request("GET", "/") as response:`.

        `url` is a path with query, or a URL of this client's authority. `body` is bytes, or an asynchronous iterable of
        bytes that is sent piece by piece while there is room; `trailers` follow it (a function is called when it ended).
        `on_informational` is called with each interim response.

        Entering waits for the server's limit of streams, and raises `RequestRejected` when the server is shutting down or
        did not process the request, `StreamReset`, `MalformedMessage`, `ConnectionLost`, `ClosedResourceError` after a
        close here, and `ValueError` at the call for what cannot be sent.
        """
        head = self._head(method, url, headers, body)
        return _Requesting(self._session, head, body, trailers, on_informational)

    def get(self, url: str, *, headers: FieldsLike = ()) -> AbstractAsyncContextManager[Response]:
        """`request("GET", ...)`."""
        return self.request("GET", url, headers=headers)

    def head(self, url: str, *, headers: FieldsLike = ()) -> AbstractAsyncContextManager[Response]:
        """`request("HEAD", ...)`: the response has no body."""
        return self.request("HEAD", url, headers=headers)

    def post(self, url: str, *, body: Content, headers: FieldsLike = ()) -> AbstractAsyncContextManager[Response]:
        """`request("POST", ...)`."""
        return self.request("POST", url, headers=headers, body=body)

    def _head(self, method: str, url: str, headers: FieldsLike, body: Content | None) -> Headers:
        if body is not None and not isinstance(body, Data | AsyncIterable):
            raise TypeError(f"a body is bytes or an asynchronous iterable of bytes, not {type(body).__name__}")
        result: Headers = [
            (b":method", method.encode("latin-1")),
            (b":scheme", b"https"),
            (b":authority", self.authority.encode("idna" if not self.authority.isascii() else "ascii")),
            (b":path", path_of(url, self.authority).encode("ascii")),
            *encode_fields(headers),
        ]
        size = len(memoryview(body).cast("B")) if isinstance(body, Data) else None if body is not None else 0
        has_length = any(name == b"content-length" for name, _ in result)
        if size is not None and not has_length and (size or method not in NO_CONTENT_METHODS):
            result.append((b"content-length", b"%d" % size))
        try:
            check_request(result)
        except MessageError as error:
            raise ValueError(f"the request cannot be sent: {error.reason_phrase}") from None
        return result

    # --- the connection ----------------------------------------------------------------------------------------------

    @property
    def is_going_away(self) -> bool:
        """Whether the server takes no new requests (GOAWAY): those under way may still complete."""
        return self._session.is_going_away

    @property
    def close_reason(self) -> CloseReason | None:
        """Why the connection ended; None while it is open."""
        return self._connection.close_reason

    @property
    def remote_address(self) -> Address:
        """The server's address."""
        return self._connection.remote_address

    @property
    def extra_attributes(self) -> Any:
        """The connection's attributes: see `quicio.anyio.QuicAttribute`."""
        return self._connection.extra_attributes

    def statistics(self) -> ConnectionStatistics:
        """The connection's counters and measurements as of now."""
        return self._connection.statistics()

    async def wait_closed(self) -> CloseReason:
        """Wait until the connection has ended, by whomever, and return why. Raises nothing."""
        return await self._connection.wait_closed()

    def __repr__(self) -> str:
        return f"<Client of {self.authority}>"


class _Requesting(Scope[Response]):
    """The scope of one request: its exchange, and the task that sends the body."""

    verb = "request"

    def __init__(
        self,
        session: ClientSession,
        head: Headers,
        body: Content | None,
        trailers: FieldsLike | Callable[[], FieldsLike],
        on_informational: OnInformational,
    ) -> None:
        self._session = session
        self._head = head
        self._body = body
        self._trailers = trailers
        self._on_informational = on_informational
        self._exchange: Exchange | None = None
        self._group: TaskGroup | None = None
        self._crash: Exception | None = None

    async def _enter(self) -> Response:
        if self._exchange is not None:
            raise RuntimeError("request() can be entered once: call it again for another request")
        self._exchange = exchange = await self._session.open()
        try:
            await self._send(exchange)
            return Response(exchange, await exchange.receiving.wait_headers(self._on_informational))
        except BaseException:
            await self._end(exchange)
            raise

    async def _send(self, exchange: Exchange) -> None:
        sending = exchange.sending
        body = self._body
        method = dict(self._head)[b":method"]
        exchange.receiving.has_content = method != b"HEAD"
        is_whole = body is None or (isinstance(body, Data) and len(body) == 0)
        is_whole = is_whole and not callable(self._trailers) and not encode_fields(self._trailers)
        sending.start(self._head, is_whole=is_whole)
        if is_whole:
            self._session.link.driver.settle()
        elif isinstance(body, Data) and sending.has_room_for(len(body)):
            await self._upload(exchange)
        else:
            self._group = anyio.create_task_group()
            await self._group.__aenter__()
            self._group.start_soon(self._upload, exchange)
            self._session.link.driver.settle_soon()  # the body may wait for what the server says to the head

    async def _upload(self, exchange: Exchange) -> None:
        try:
            await self._send_body(exchange)
        except _NoMoreWanted:
            pass
        except Exception as error:
            self._crash = error
            self._session.abort(exchange.stream_id, H3_CODES.cancelled)
            self._session.link.driver.settle()
            exchange.receiving.fail(partial(_same, error))

    async def _send_body(self, exchange: Exchange) -> None:
        sending = exchange.sending
        body = self._body
        if isinstance(body, Data):
            await _push(sending, body)
        elif body is not None:
            async with AsyncExitStack() as stack:
                close = getattr(body, "aclose", None)
                if close is not None:
                    stack.push_async_callback(close)
                async for piece in body:
                    await _push(sending, piece)
        trailers = encode_fields(self._trailers() if callable(self._trailers) else self._trailers)
        try:
            if trailers:
                sending.send_trailers(trailers)
            else:
                sending.finish()
        except DONE as error:
            raise _NoMoreWanted from error
        self._session.link.driver.settle()

    async def _end(self, exchange: Exchange) -> None:
        exchange.close(H3_CODES.cancelled)
        if self._group is not None:
            await leave_group(self._group)

    async def _leave(self, error: BaseException | None) -> None:
        assert self._exchange is not None
        await self._end(self._exchange)
        if self._crash is not None and (error is None or is_cancellation(error)):
            raise self._crash


class _NoMoreWanted(Exception):
    """The server asked to stop, the connection was lost, or the exchange was closed here: the response tells which."""


DONE: Final = (QuicError, anyio.ClosedResourceError)


async def _push(sending: SendingMessage, piece: Data) -> None:
    """Send a piece of a body. What sending raises is not to be taken for what the body's own iterable raises."""
    try:
        await sending.send(piece)
    except DONE as error:
        raise _NoMoreWanted from error


def _same(error: Exception) -> Exception:
    """The program's own exception: the one that is not made anew for each waiter."""
    return error


class _ConnectingClient(Scope[Client]):
    """The scope of a client: that of its connection, with HTTP/3 on it."""

    def __init__(self, connecting: Connecting, authority: str) -> None:
        self._connecting = connecting
        self._authority = authority

    async def _enter(self) -> Client:
        connection = await self._connecting.__aenter__()
        session = connection._link.application
        assert isinstance(session, ClientSession)
        session.attributes = connection.extra_attributes
        return Client(connection, session, self._authority)

    async def _leave(self, error: BaseException | None) -> None:
        await self._connecting._leave(error)


def connect(
    host: str | IPv4Address | IPv6Address,
    port: int = DEFAULT_PORT,
    *,
    configuration: QuicConfiguration | None = None,
    server_name: str | None = None,
    authority: str | None = None,
    local_host: str | None = None,
    local_port: int = 0,
    socket: socket_module.socket | None = None,
) -> AbstractAsyncContextManager[Client]:
    """Connect to an HTTP/3 server: `async with connect("example.com") as client:`.

    `configuration` is copied, with HTTP/3's ALPN and error codes. `server_name`, which the certificate is verified for,
    defaults to `host`, and `authority`, which requests name, to `server_name` and `port`. The others are those of
    `quicio.connect`, as is what is raised. Leaving ends requests that are still open, and closes with H3_NO_ERROR.
    """
    configuration = client_configuration(configuration, H3_ALPN, server_name, host).replaced(codes=H3_CODES)
    name = server_name or configuration.server_name or host

    def application(link: Link) -> ClientSession:
        return ClientSession(link, configuration)

    connecting = Connecting(
        host, port, configuration, local=(local_host, local_port), socket=socket, application=application
    )
    return _ConnectingClient(connecting, authority or authority_of(name, port))


_Ask = Callable[[Client], AbstractAsyncContextManager[Response]]


class _Opening(Scope[Response]):
    """The scope of one request on a connection of its own."""

    verb = "open_url"

    def __init__(self, connecting: AbstractAsyncContextManager[Client], ask: _Ask) -> None:
        self._connecting = connecting
        self._ask = ask
        self._stack = AsyncExitStack()

    async def _enter(self) -> Response:
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(self._connecting)
            response = await stack.enter_async_context(self._ask(client))
            self._stack = stack.pop_all()
        return response

    async def _leave(self, error: BaseException | None) -> None:
        await self._stack.__aexit__(type(error) if error is not None else None, error, None)


def open_url(
    url: str,
    *,
    method: str = "GET",
    headers: FieldsLike = (),
    body: Content | None = None,
    configuration: QuicConfiguration | None = None,
    server_name: str | None = None,
) -> AbstractAsyncContextManager[Response]:
    """One request on a connection of its own: `async with open_url("https://example.com/") as response:`.

    Raises what `connect` and `Client.request` raise. For several requests to one server, `connect` once.
    """
    target = parse_url(url)
    connecting = connect(
        target.host, target.port, configuration=configuration, server_name=server_name, authority=target.authority
    )

    def ask(client: Client) -> AbstractAsyncContextManager[Response]:
        return client.request(method, url, headers=headers, body=body)

    return _Opening(connecting, ask)
