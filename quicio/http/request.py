"""A request, as a server's handler holds it: what was asked, and the ways to answer.

The body is read from the request itself; the response is written through it: `respond` for one that is there as a whole,
else `start_response`, `send` as often as wanted, and perhaps `send_trailers`. When the handler returns, what it started is
finished; what it did not read of the request, the client is asked not to send.

Details of HTTP that a handler need not know are seen to here: a response to HEAD has no content, whoever sends some
(RFC 9110 §9.3.2); so have 204 and 304; Date is set (§6.6.1); a client that waits for `100 Continue` gets it when the body
is first asked for (§10.1.1).
"""

from __future__ import annotations

from email.utils import formatdate
from typing import Final

from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from quicio.anyio.link import Link
from quicio.environment import DEFAULT_ENVIRONMENT
from quicio.h3.events import Headers
from quicio.http.body import READ_LIMIT, Body
from quicio.http.fields import Fields, FieldsLike, encode_fields
from quicio.http.sending import Data
from quicio.http.session import Exchange

__all__ = ["Request"]

NO_CONTENT: Final = frozenset({204, 304})


class Request(Body):
    """A request that waits for its answer. It lives as long as its handler runs."""

    def __init__(self, exchange: Exchange, headers: Headers) -> None:
        super().__init__(exchange, Fields(pair for pair in headers if not pair[0].startswith(b":")))
        head = {name: value.decode("latin-1") for name, value in headers if name.startswith(b":")}
        #: GET, HEAD, POST, ...
        self.method: str = head[b":method"]
        #: the path with its query, as it was sent: percent-encoded. Empty for CONNECT
        self.path: str = head.get(b":path", "")
        #: host and port that were asked for
        self.authority: str = head.get(b":authority") or self.headers.get("host", "")
        #: https
        self.scheme: str = head.get(b":scheme", "")
        #: what an extended CONNECT asks for (RFC 9220); else None
        self.protocol: str | None = head.get(b":protocol")
        self._continue_due = self.headers.get("expect", "").lower() == "100-continue"

    @property
    def _link(self) -> Link:
        return self._exchange.session.link

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.path}>"

    # --- the request's body ------------------------------------------------------------------------------------------

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """The next piece of the body: at least one byte, at most `max_bytes`. What is taken, the client may send again.

        Raises `EndOfStream` at the end and never otherwise, `StreamReset` when the client gave the request up (which
        cancels the handler as well), `MalformedMessage`, `ConnectionLost`, `ClosedResourceError` after a close here.
        """
        if self._continue_due:
            self._continue_due = False
            if not self.is_started and not self._exchange.receiving.is_finished:
                await self.inform(100)
        return await super().receive(max_bytes)

    async def read(self, limit: int = READ_LIMIT) -> bytes:
        """The whole body, of at most `limit` bytes. Raises `ContentTooLarge`, which a handler may leave to become 413."""
        return await super().read(limit)

    # --- the response ------------------------------------------------------------------------------------------------

    @property
    def is_started(self) -> bool:
        """Whether the response was begun: its status cannot change any more."""
        return self._exchange.sending.is_started

    @property
    def is_finished(self) -> bool:
        """Whether the response was sent to its end."""
        return self._exchange.sending.is_finished

    async def respond(self, status: int, headers: FieldsLike = (), body: Data | str = b"") -> None:
        """Answer with a whole response; text goes out in UTF-8. `content-length` is set.

        Raises `ValueError` for what cannot be sent, `RuntimeError` when a response was started, and what `send` raises.
        """
        content = body.encode() if isinstance(body, str) else bytes(body)
        head = self._head(status, headers)
        if content and status in NO_CONTENT:
            raise ValueError(f"a response with status {status} has no body")
        if status not in NO_CONTENT and not any(name == b"content-length" for name, _ in head):
            head.append((b"content-length", b"%d" % len(content)))
        await checkpoint_if_cancelled()
        is_whole = not content or self.method == "HEAD"
        self._start(status, head, is_whole=is_whole)
        if is_whole:
            self._link.driver.settle()
            await checkpoint()
        else:
            await self._exchange.sending.send(content, is_last=True)

    async def start_response(self, status: int, headers: FieldsLike = ()) -> None:
        """Begin a response whose body `send` will bring. Raises `ValueError`, `RuntimeError`, and what `send` raises."""
        head = self._head(status, headers)
        await checkpoint_if_cancelled()
        self._start(status, head, is_whole=False)
        self._link.driver.settle()
        await checkpoint()

    async def send(self, chunk: Data) -> None:
        """Send a piece of the response's body, waiting for room. A response to HEAD drops it.

        Raises `RuntimeError` before `start_response` and after the end, `ValueError` for more than content-length
        announced, `StreamStopped` when the client reads no more (which cancels the handler as well), `ConnectionLost`.
        """
        await self._exchange.sending.send(chunk)

    async def send_trailers(self, trailers: FieldsLike) -> None:
        """End the response with trailer fields. Raises as `send` does."""
        await checkpoint_if_cancelled()
        self._exchange.sending.send_trailers(encode_fields(trailers))
        self._link.driver.settle()
        await checkpoint()

    async def finish(self) -> None:
        """End the response; again: nothing. A handler that returns need not call it."""
        await checkpoint_if_cancelled()
        self._exchange.sending.finish()
        self._link.driver.settle()
        await checkpoint()

    async def inform(self, status: int, headers: FieldsLike = ()) -> None:
        """Send an interim response, such as 103 with links (RFC 8297), before the response is started."""
        if not 100 <= status <= 199:
            raise ValueError("an interim response has a status from 100 to 199: use respond() for the final one")
        await checkpoint_if_cancelled()
        await self._exchange.sending.send_informational([_status(status), *encode_fields(headers)])
        self._link.driver.settle()
        await checkpoint()

    def _head(self, status: int, headers: FieldsLike) -> Headers:
        if not 200 <= status <= 999:
            raise ValueError("the status of a response is from 200 to 999: use inform() for interim ones")
        head = [_status(status), *encode_fields(headers)]
        if not any(name == b"date" for name, _ in head):
            head.append((b"date", formatdate(DEFAULT_ENVIRONMENT.wall_clock(), usegmt=True).encode()))
        return head

    def _start(self, status: int, head: Headers, *, is_whole: bool) -> None:
        sending = self._exchange.sending
        sending.start(head, is_whole=is_whole)
        sending.has_content = self.method != "HEAD" and status not in NO_CONTENT


def _status(status: int) -> tuple[bytes, bytes]:
    return b":status", b"%d" % status
