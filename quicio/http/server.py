"""A server: a handler's task for each request, in the scope of its connection.

How a request ends, whatever its handler does:
- It returns: the response is finished. If it never started one, that is a mistake: 500.
- It raises: 500, or 413 for `ContentTooLarge`; when the response has begun, the stream is reset with H3_INTERNAL_ERROR, for a
  truncated body must not look whole. What the peer or the network caused is logged; the rest goes to `on_error`.
- The client gives the request up, or the connection is lost: the handler is cancelled, because nobody waits for it.

What a client can have going here is bounded by the limit of streams, which a handler holds until it has ended, and by
`max_requests`, how many handlers of one connection run at a time (security row 19).
"""

from __future__ import annotations

import logging
import socket as socket_module
from collections.abc import Callable, Mapping
from typing import Any, Final

import anyio
from anyio import TASK_STATUS_IGNORED, TypedAttributeProvider
from anyio.abc import TaskStatus

from quicio.anyio.connection import Connection
from quicio.anyio.lifetime import Handler, OnError, is_caused_by_peer, log_error
from quicio.anyio.link import Link
from quicio.anyio.server import Incoming, Listener, Listening, retry_under_load, server_configuration
from quicio.errors import Address
from quicio.h3.connection import H3_ALPN
from quicio.http.errors import ContentTooLarge
from quicio.http.request import Request
from quicio.http.server_session import HEADER_TIMEOUT, ServerSession
from quicio.http.session import H3_CODES, Exchange
from quicio.quic.configuration import QuicConfiguration

__all__ = ["Server", "serve"]

logger: logging.Logger = logging.getLogger("quicio")

MAX_REQUESTS: Final = 128  # handlers of one connection that run at a time


class Server(TypedAttributeProvider):
    """A running server, as `task_group.start(serve, ...)` returns it."""

    def __init__(self, listener: Listener, handler: Handler[Request], on_error: OnError, max_requests: int) -> None:
        self._listener = listener
        self._handler = handler
        self._on_error = on_error
        self._max_requests = max_requests
        self._sessions: set[ServerSession] = set()
        self._is_closing = False
        self.crash: Exception | None = None  # what `on_error` raised

    @property
    def local_address(self) -> Address:
        """The address listened on."""
        return self._listener.local_address

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """Those of the listener."""
        return self._listener.extra_attributes

    def __repr__(self) -> str:
        return f"<Server on {self.local_address}>"

    async def aclose(self) -> None:
        """Shut down gracefully: no new connections, GOAWAY on those there are (RFC 9114 §5.2).

        `serve` returns when the requests that had come are answered; cancel it to end them sooner.
        """
        self._is_closing = True
        for session in self._sessions:
            session.shutting_down.set()
        await self._listener.aclose()

    # --- connections -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until the listener is closed and its connections have ended."""
        await self._listener.serve(self._serve_connection, on_error=self._report)

    def _report(self, error: Exception, subject: Any) -> None:
        if error is self.crash:
            raise error
        self._on_error(error, subject)

    async def _serve_connection(self, connection: Connection) -> None:
        session = connection._link.application
        assert isinstance(session, ServerSession)
        session.attributes = connection.extra_attributes
        self._sessions.add(session)
        if self._is_closing:
            session.shutting_down.set()
        places = anyio.Semaphore(self._max_requests)
        try:
            # What came early may be a replay (RFC 8470 §4), and a handler could not tell: it waits for the handshake.
            await connection.wait_handshake()
            async with anyio.create_task_group() as group:
                group.start_soon(session.watch_headers)
                group.start_soon(session.shut_down)
                async with anyio.create_task_group() as handlers:
                    while True:
                        try:
                            exchange = await session.requests.get()
                        except anyio.EndOfStream:
                            break
                        await places.acquire()
                        handlers.start_soon(self._run_handler, exchange, places)
                group.cancel_scope.cancel()
        except BaseExceptionGroup:
            if self.crash is None:
                raise
        finally:
            self._sessions.discard(session)
        if self.crash is not None:
            raise self.crash

    # --- requests ----------------------------------------------------------------------------------------------------

    async def _run_handler(self, exchange: Exchange, places: anyio.Semaphore) -> None:
        code = H3_CODES.cancelled
        try:
            with anyio.CancelScope() as scope:
                exchange.on_given_up = scope.cancel
                if not exchange.given_up:
                    assert exchange.receiving.headers is not None
                    code = await self._handle(Request(exchange, exchange.receiving.headers))
        finally:
            exchange.on_given_up = None
            exchange.close(code)
            places.release()

    async def _handle(self, request: Request) -> int:
        """Run the handler to its end; returns the code to abort with what is still open."""
        try:
            await self._handler(request)
            await self._complete(request)
        except Exception as error:
            await self._answer_failure(request, error)
        return H3_CODES.no_error if request.is_finished else H3_CODES.internal_error

    async def _complete(self, request: Request) -> None:
        if not request.is_started:
            raise RuntimeError(f"the handler of {request} returned without a response: call respond()")
        if not request.is_finished:
            await request.finish()

    async def _answer_failure(self, request: Request, error: Exception) -> None:
        is_too_large = isinstance(error, ContentTooLarge)
        if is_too_large or is_caused_by_peer(error):
            logger.info("the handler of %r ended: %s", request, error)
        else:
            try:
                self._on_error(error, request)
            except Exception as crash:
                self.crash = crash
                raise
        if not request.is_started:
            try:
                await request.respond(413 if is_too_large else 500)
            except Exception as failure:
                if not is_caused_by_peer(failure):
                    raise


async def serve(
    handler: Handler[Request],
    host: str | None,
    port: int,
    *,
    configuration: QuicConfiguration,
    policy: Callable[[Incoming], None] = retry_under_load,
    socket: socket_module.socket | None = None,
    reuse_port: bool = False,
    max_requests: int = MAX_REQUESTS,
    header_timeout: float = HEADER_TIMEOUT,
    on_error: OnError = log_error,
    task_status: TaskStatus[Server] = TASK_STATUS_IGNORED,
) -> None:
    """Serve HTTP/3: run `handler(request)` in a task for each request, until cancelled or the server is closed.

    `await task_group.start(serve, ...)` returns the `Server` once its sockets are bound. `configuration` is copied, with
    HTTP/3's ALPN and error codes; `max_requests` handlers of a connection run at a time, and a request's header fields
    must be there `header_timeout` seconds after its first byte. What handlers raise goes to `on_error(exception,
    request)`; what that raises leaves from here. The other arguments, and what is raised, are those of `quicio.listen`.
    """
    if max_requests < 1:
        raise ValueError("max_requests must be at least 1")
    configuration = server_configuration(configuration.replaced(alpn_protocols=list(H3_ALPN), codes=H3_CODES))

    def application(link: Link) -> ServerSession:
        return ServerSession(link, configuration, header_timeout)

    listening = Listening(
        host, port, configuration, policy=policy, socket=socket, reuse_port=reuse_port, application=application
    )
    async with listening as listener:
        server = Server(listener, handler, on_error, max_requests)
        task_status.started(server)
        await server.run()
