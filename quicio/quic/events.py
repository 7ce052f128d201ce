"""Events: what `QuicConnection.next_event()` hands out.

The first group is what every user sees. The second, the native events, appears only after
`QuicConnection.use_native_events()`, so that code which dispatches on the events it knows never meets one it did not ask for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class CloseReason:
    """Why a connection ended (RFC 9000 §10).

    `code` is a transport error code, or the application protocol's when `is_application`; `by_peer` tells who closed;
    `frame_type` is the frame that caused a transport error, if any.
    """

    code: int
    is_application: bool
    by_peer: bool
    reason: str = ""
    frame_type: int | None = None

    def __str__(self) -> str:
        who = "peer" if self.by_peer else "local side"
        kind = "application" if self.is_application else "transport"
        text = f"closed by the {who} with {kind} error code {self.code:#x}"
        if self.frame_type:
            text += f", frame type {self.frame_type:#x}"
        return f"{text}: {self.reason}" if self.reason else text

    def closing(self) -> ConnectionClosing:
        """The native event that says so at once."""
        return ConnectionClosing(self.code, self.is_application, self.by_peer, self.reason, self.frame_type)

    def terminated(self) -> ConnectionTerminated:
        """The event that says so at the end. An error code that was given as an enum member stays one."""
        return ConnectionTerminated(self.code, None if self.is_application else self.frame_type, self.reason)


class QuicEvent:
    """Base class of all events."""


@dataclass(slots=True)
class ConnectionIdIssued(QuicEvent):
    """A connection ID was issued to the peer: packets may arrive with it."""

    connection_id: bytes


@dataclass(slots=True)
class ConnectionIdRetired(QuicEvent):
    """A connection ID is no longer valid: no packet of this connection will arrive with it."""

    connection_id: bytes


@dataclass(slots=True)
class ConnectionTerminated(QuicEvent):
    """The connection is over: the closing or draining period has ended, or the idle timeout has passed.

    `frame_type` is None when an application closed the connection (RFC 9000 §19.19).
    """

    error_code: int
    frame_type: int | None
    reason_phrase: str


@dataclass(slots=True)
class DatagramFrameReceived(QuicEvent):
    """A DATAGRAM frame arrived (RFC 9221)."""

    data: bytes


@dataclass(slots=True)
class HandshakeCompleted(QuicEvent):
    """The TLS handshake is complete."""

    alpn_protocol: str | None
    early_data_accepted: bool
    session_resumed: bool


@dataclass(slots=True)
class PingAcknowledged(QuicEvent):
    """The peer acknowledged the PING that `send_ping(uid)` asked for."""

    uid: int


@dataclass(slots=True)
class ProtocolNegotiated(QuicEvent):
    """ALPN is done: `alpn_protocol` is what both sides will speak."""

    alpn_protocol: str | None


@dataclass(slots=True)
class StopSendingReceived(QuicEvent):
    """The peer no longer reads the stream (RFC 9000 §3.5)."""

    error_code: int
    stream_id: int


@dataclass(slots=True)
class StreamDataReceived(QuicEvent):
    """Stream data, in order. `end_stream` says that nothing follows."""

    data: bytes
    end_stream: bool
    stream_id: int


@dataclass(slots=True)
class StreamReset(QuicEvent):
    """The peer abandoned its sending side of the stream (RFC 9000 §3.5)."""

    error_code: int
    stream_id: int


# --- native events: opt-in -------------------------------------------------------------------------------------------


@dataclass(slots=True)
class StreamWritable(QuicEvent):
    """A stream whose `send_room()` had run out has room again."""

    stream_id: int


@dataclass(slots=True)
class StreamsAvailable(QuicEvent):
    """The peer raised a stream limit that `open_stream()` had run into."""

    is_unidirectional: bool


@dataclass(slots=True)
class StreamDelivered(QuicEvent):
    """All data and the FIN of a stream were acknowledged, or its reset was."""

    stream_id: int


@dataclass(slots=True)
class DatagramWritable(QuicEvent):
    """The queue of outgoing DATAGRAM frames, which was full, has room again."""


@dataclass(slots=True)
class PathChanged(QuicEvent):
    """The connection now uses another path."""

    remote: Any
    local: Any


@dataclass(slots=True)
class ConnectionClosing(QuicEvent):
    """A close was sent or received, or the idle timeout passed: waiters should wake now (RFC 9000 §10)."""

    error_code: int
    is_application: bool
    by_peer: bool
    reason_phrase: str
    frame_type: int | None


@dataclass(slots=True)
class EarlyDataRejected(QuicEvent):
    """The server did not take the early data (RFC 9001 §4.6.2).

    With `is_resent` all of it is sent again by itself. Else the server chose another application protocol than the one that
    it was written for, and the streams were reset.
    """

    is_resent: bool


@dataclass(slots=True)
class DecisionNeeded(QuicEvent):
    """TLS waits for an answer through `QuicConnection.decide(decision_id, answer)`.

    `kind` is "client_hello" or "certificate"; `subject` what there is to decide on.
    """

    decision_id: int
    kind: str
    subject: Any
