"""Connections that come in: `open_quic_listeners` for a nursery of yours, and `serve_quic`.

`QuicListener` is a `trio.abc.Listener`, so generic servers such as `trio.serve_listeners` take it. Its `accept()` gives
connections whose handshakes are complete. A *host* task in your nursery owns the sockets and does the handshakes, each in
a task, so a slow client holds up nobody; handshakes and connections that wait for `accept()` are `MAX_WAITING` together,
and attempts beyond that wait in the anyio face's bounded queue (security row 11).

`serve_quic` needs no queue: each attempt goes through its handshake in the task of its handler, and rule R7 holds for it.

Rules:
- The host stays until the connections have ended: `aclose()` on a listener only stops accepting. Cancelling the nursery,
  or `serve_quic`, closes all connections at once.
- What happens to one attempt never ends a listener. A QUIC connection costs no descriptor, so accepting cannot run out
  of them; what the shared socket reports while sending or receiving is the engine's to survive.
"""

from __future__ import annotations

import logging
from math import inf
from typing import Any, Final, NoReturn, cast

import anyio
import trio
from trio import TASK_STATUS_IGNORED, TaskStatus

from quicio.anyio.lifetime import Handler, OnError, log_error, serve_each
from quicio.anyio.mailbox import Mailbox
from quicio.anyio.server import Incoming, Listener, Listening, server_configuration
from quicio.errors import Address, QuicError
from quicio.quic.configuration import QuicConfiguration
from quicio.trio.connection import Connection
from quicio.trio.errors import translated

__all__ = ["QuicListener", "open_quic_listeners", "serve_quic"]

logger: logging.Logger = logging.getLogger("quicio")

MAX_WAITING: Final = 128  # handshakes of a listener, and connections that wait for accept()


class QuicListener(trio.abc.Listener[Connection]):
    """Accepts connections on all addresses of a host, with one port."""

    def __init__(self, inner: Listener) -> None:
        self._inner = inner
        self._ready: Mailbox[Connection] = Mailbox("accepting connections from")
        self._places = trio.Semaphore(MAX_WAITING, max_value=MAX_WAITING)
        self._accepting: trio.CancelScope | None = None  # the host's; None: serve_quic() accepts

    @property
    def local_address(self) -> Address:
        """The address listened on; with several sockets the first one's. Their port is the same."""
        return self._inner.local_address

    def __repr__(self) -> str:
        return f"<QuicListener on {self.local_address}>"

    async def accept(self) -> Connection:
        """The next connection, its handshake complete. Close it: `async with await listener.accept() as connection:`.

        Raises `trio.ClosedResourceError` after `aclose()`, `trio.BusyResourceError` when another task accepts,
        `trio.BrokenResourceError` when the listener's socket has failed.
        """
        if self._accepting is None and not self._inner.is_closed:
            raise trio.BusyResourceError("serve_quic() accepts the connections of this listener")
        with translated:
            connection = await self._ready.get()
        self._places.release()
        return connection

    async def serve(
        self,
        handler: Handler[Connection],
        handler_nursery: trio.Nursery | None = None,
        *,
        on_error: OnError = log_error,
    ) -> None:
        """Accept every connection and run `handler(connection)` in a task for each, until `aclose()`.

        When a handler returns, its connection is closed gracefully; when it raises, at once with "internal error". What
        the peer caused is logged; any other exception goes to `handler_nursery` if given, else to
        `on_error(exception, connection)`: what that raises cancels the handlers and leaves from here.
        """

        async def run(connection: Connection) -> None:
            async with connection:
                await handler(connection)

        async def receive() -> tuple[Connection]:
            try:
                return (await self.accept(),)
            except trio.ClosedResourceError:
                raise anyio.EndOfStream from None

        await serve_each(receive, run, cast(Any, handler_nursery), on_error)

    async def aclose(self) -> None:
        """Stop accepting: what waits is refused, what comes is refused. Connections that were accepted live on."""
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """As `aclose()`, without waiting."""
        self._inner.close()
        if self._accepting is not None:
            self._accepting.cancel()
        if not self._ready.is_ended:
            self._ready.end(anyio.ClosedResourceError)
        while self._ready.items:
            self._turn_away(self._ready.items.popleft())

    def _turn_away(self, connection: Connection) -> None:
        connection.close(self._inner.configuration.codes.cancelled)

    # --- the host ----------------------------------------------------------------------------------------------------

    async def _keep_accepting(self) -> None:
        """Do the handshakes of all that come, until the listener is closed."""
        try:
            with trio.CancelScope() as self._accepting:
                async with trio.open_nursery() as handshakes:
                    try:
                        while True:
                            await self._places.acquire()
                            handshakes.start_soon(self._shake_hands, await self._inner.accept())
                    except anyio.EndOfStream:
                        pass
                    except anyio.BrokenResourceError as error:  # a socket has failed: the nursery lives on
                        message, cause = str(error), error.__cause__
                        self._ready.end(lambda: _broken(message, cause))
        finally:
            self.close()

    async def _shake_hands(self, incoming: Incoming) -> None:
        try:
            # the scope of an accepted connection owns no tasks: whoever accept() gives the connection to ends it
            connection = cast(Connection, await incoming.accept().__aenter__())
        except QuicError as error:
            logger.info("the handshake of %r failed: %s", incoming, error)
            self._places.release()
            return
        if self._ready.is_ended:
            self._turn_away(connection)
        else:
            self._ready.put(connection)


def _broken(message: str, cause: BaseException | None) -> Exception:
    error = anyio.BrokenResourceError(message)
    error.__cause__ = cause
    return error


async def open_quic_listeners(
    nursery: trio.Nursery, port: int, *, host: str | None = None, configuration: QuicConfiguration
) -> list[QuicListener]:
    """Listen for connections: a list, as trio's servers take them, of one listener for all addresses of `host`.

    `host` None listens on all addresses of both families; a name, on each of its addresses with one port. `port` 0 lets the
    system choose. The sockets and the connections live in `nursery`, which waits for them: close the listener and the
    connections when you are done, or cancel it, which closes all at once.

    Raises `ValueError` for a configuration without ALPN protocols or certificate, `OSError` when the address cannot be had.
    """
    return [await nursery.start(_host, _listening(host, port, configuration))]


async def _host(listening: Listening, *, task_status: TaskStatus[QuicListener] = TASK_STATUS_IGNORED) -> None:
    """The task that owns a listener's sockets, until it is closed and its connections have ended."""
    async with listening as inner:
        listener = QuicListener(inner)
        task_status.started(listener)
        await listener._keep_accepting()


async def serve_quic(
    handler: Handler[Connection],
    port: int,
    *,
    host: str | None = None,
    configuration: QuicConfiguration,
    handler_nursery: trio.Nursery | None = None,
    task_status: TaskStatus[list[QuicListener]] = TASK_STATUS_IGNORED,
) -> NoReturn:
    """Listen, and run `handler(connection)` in a task for each connection, until cancelled.

    `await nursery.start(serve_quic, ...)` returns the listeners once their sockets are bound; arguments are those of
    `open_quic_listeners`. When a handler returns, its connection is closed gracefully; when it raises, at once with
    "internal error". What the peer caused is logged, failed handshakes included; any other exception goes to
    `handler_nursery` if given, where the handlers then run, and is logged otherwise.

    To shut down gracefully, `aclose()` the listeners: when the handlers have returned, `trio.ClosedResourceError` is
    raised, as by any server whose listener is closed; when a socket fails, `trio.BrokenResourceError`. Cancelled, it closes
    all connections at once.
    """
    async with _listening(host, port, configuration) as inner:
        listener = QuicListener(inner)
        task_status.started([listener])
        try:
            with translated:
                await inner.serve(cast(Any, handler), cast(Any, handler_nursery))
        finally:
            listener.close()
    raise trio.ClosedResourceError("the listeners of serve_quic() were closed")


def _listening(host: str | None, port: int, configuration: QuicConfiguration) -> Listening:
    """The scope of the sockets; it waits without end for the connections to end."""
    return Listening(host, port, server_configuration(configuration), connection_type=Connection, linger=inf)
