"""Server push: IDs and promises (RFC 9114 §4.6).

A client allows pushes by MAX_PUSH_ID, up to and including that number. A server promises a request on the stream of
another one, under the next free ID, and answers it on a unidirectional stream that begins with the ID. Either side may
call a push off with CANCEL_PUSH; a client's GOAWAY names the first ID that it will not take.

`Pushes` keeps the book for one connection, whichever role it has: what was allowed, what was promised, which IDs a push
stream has used. Everything here is bounded by the number of IDs that were allowed. A promise may be repeated on other
streams, and then has to be the same, field by field. Frames are written and read elsewhere.
"""

from __future__ import annotations

from typing import Final

from quicio.h3.events import Headers
from quicio.h3.exceptions import FrameUnexpected, IdError, NoAvailablePushIDError, ProtocolError

MAX_PUSHES: Final = 8
"""How many pushes a client allows in the life of a connection."""

SAFE_METHODS: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE"})


class Pushes:
    """The push IDs of one connection."""

    def __init__(self, is_client: bool) -> None:
        self.is_client = is_client
        self.maximum: int | None = MAX_PUSHES - 1 if is_client else None
        self.next_id: int = 0
        self.limit: int | None = None  # the client's GOAWAY: IDs from here on are refused
        self.promises: dict[int, Headers] = {}  # client: what was promised
        self.used: set[int] = set()  # client: IDs that a push stream has claimed
        self.cancelled: set[int] = set()
        self.streams: dict[int, int] = {}  # server: the stream of a push that is under way

    def check_id(self, push_id: int) -> None:
        """Raise `IdError` for a push that was not allowed (RFC 9114 §4.6, §7.2.5)."""
        if self.maximum is None or push_id > self.maximum:
            raise IdError(f"push ID {push_id} is above the maximum push ID")

    # --- server -----------------------------------------------------------------------------------------------------

    def raise_maximum(self, push_id: int) -> None:
        """MAX_PUSH_ID arrived (RFC 9114 §7.2.7)."""
        if self.is_client:
            raise FrameUnexpected("a server must not send MAX_PUSH_ID")
        if self.maximum is not None and push_id < self.maximum:
            raise IdError("MAX_PUSH_ID cannot reduce the maximum push ID")
        self.maximum = push_id

    def allocate(self) -> int:
        """The next push ID; `NoAvailablePushIDError` when the client allows no more."""
        push_id = self.next_id
        if self.maximum is None or push_id > self.maximum or (self.limit is not None and push_id >= self.limit):
            raise NoAvailablePushIDError("the client allows no further push")
        self.next_id += 1
        return push_id

    # --- client -----------------------------------------------------------------------------------------------------

    def promise(self, push_id: int, headers: Headers) -> None:
        """A promise arrived: `ProtocolError` when it differs from an earlier one with this ID (RFC 9114 §7.2.5)."""
        if self.promises.setdefault(push_id, headers) != headers:
            raise ProtocolError(f"push ID {push_id} was promised for another request")

    def open_stream(self, push_id: int) -> None:
        """A push stream begins: `IdError` when its ID was not allowed or was used before (RFC 9114 §6.2.2)."""
        self.check_id(push_id)
        if push_id in self.used:
            raise IdError(f"push ID {push_id} is used by two push streams")
        self.used.add(push_id)

    # --- both -------------------------------------------------------------------------------------------------------

    def cancel(self, push_id: int) -> int | None:
        """CANCEL_PUSH arrived. Returns the stream to reset, if a server has one for that push (RFC 9114 §7.2.3)."""
        self.check_id(push_id)
        if self.is_client:
            self.promises.pop(push_id, None)
            return None
        if push_id >= self.next_id:
            raise IdError(f"push ID {push_id} was not promised")
        return self.streams.pop(push_id, None)
