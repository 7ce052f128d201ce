"""qlog: what happened on connections, in the format that qvis and other tools read (qlog 0.3, JSON).

A `QuicLogger` given as `QuicConfiguration.quic_logger` gets a `QuicLoggerTrace` from each connection, which tells it of
packets, losses and measurements through `quicio.quic.qlog`, and HTTP/3 of its frames. `QuicLogger` keeps everything in memory
until `to_dict()` is asked for; `QuicFileLogger` writes one file a connection into a folder. Connections without a logger do
no work for it.

Times are milliseconds. Inside a connection they follow its protocol time, counted from the date at which it started: that
keeps the order of events and the spaces between them exact, whatever clock drives the connection. HTTP/3 has no clock: its
events carry the time of the last input or output of QUIC.

Bounds. A trace in memory keeps `MAX_EVENTS` events and then counts what it drops; of a server's ended traces a `QuicLogger`
keeps the latest `MAX_TRACES`. A trace with a file holds `FLUSH_EVENTS` events at most before it appends them to the file,
which is a whole JSON document once the trace has ended.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from quicio.environment import DEFAULT_ENVIRONMENT
from quicio.quic.packet import QuicPacketType

__all__ = ["PACKET_TYPE_NAMES", "QLOG_VERSION", "Headers", "QuicFileLogger", "QuicLogger", "QuicLoggerTrace"]

Headers = list[tuple[bytes, bytes]]

QLOG_VERSION: Final = "0.3"

MAX_EVENTS: Final = 100_000
"""Events that a trace in memory keeps: later ones are counted only."""

MAX_TRACES: Final = 1_000
"""Traces that have ended and that a logger in memory keeps: older ones are dropped."""

FLUSH_EVENTS: Final = 1_000
"""Events of a trace with a file that wait in memory to be written."""

PACKET_TYPE_NAMES: Final = {
    QuicPacketType.INITIAL: "initial",
    QuicPacketType.HANDSHAKE: "handshake",
    QuicPacketType.ZERO_RTT: "0RTT",
    QuicPacketType.ONE_RTT: "1RTT",
    QuicPacketType.RETRY: "retry",
    QuicPacketType.VERSION_NEGOTIATION: "version_negotiation",
}


class QuicLoggerTrace:
    """The events of one connection, seen from one of its ends. `odcid` names the connection."""

    def __init__(self, *, is_client: bool, odcid: bytes) -> None:
        self._odcid = odcid
        self._vantage_point = {"name": "quicio", "type": "client" if is_client else "server"}
        self._events: list[dict[str, Any]] = []
        self._time: float | None = None
        self._dropped = 0

    @property
    def odcid(self) -> bytes:
        """The destination connection ID of the client's first packet."""
        return self._odcid

    @property
    def dropped(self) -> int:
        """How many events were not kept, because there were too many."""
        return self._dropped

    def set_time(self, milliseconds: float) -> None:
        """The time of the events that follow; before the first call they are dated by the wall clock."""
        self._time = milliseconds

    def log_event(self, *, category: str, event: str, data: dict[str, Any]) -> None:
        """Add an event, `category:event`, with what is known about it: anything that JSON can hold."""
        time = DEFAULT_ENVIRONMENT.wall_clock() * 1000 if self._time is None else self._time
        self._keep({"data": data, "name": f"{category}:{event}", "time": round(time, 6)})

    def _keep(self, event: dict[str, Any]) -> None:
        if len(self._events) < MAX_EVENTS:
            self._events.append(event)
        else:
            self._dropped += 1

    def to_dict(self) -> dict[str, Any]:
        """The trace as qlog describes it: common fields, vantage point, events."""
        common: dict[str, Any] = {"ODCID": self._odcid.hex()}
        if self._dropped:
            common["dropped_events"] = self._dropped
        return {"common_fields": common, "vantage_point": self._vantage_point, "events": self._events}

    def packet_type(self, packet_type: QuicPacketType) -> str:
        """What qlog calls a type of packet."""
        return PACKET_TYPE_NAMES[packet_type]

    # --- frames of HTTP/3: the data of `http:frame_created` and `http:frame_parsed` ---------------------------------------

    def encode_http3_data_frame(self, length: int, stream_id: int) -> dict[str, Any]:
        """A DATA frame of `length` bytes."""
        return {"frame": {"frame_type": "data"}, "length": length, "stream_id": stream_id}

    def encode_http3_headers_frame(self, length: int, headers: Headers, stream_id: int) -> dict[str, Any]:
        """A HEADERS frame: `length` is that of the encoded section."""
        frame = {"frame_type": "headers", "headers": self._encode_http3_headers(headers)}
        return {"frame": frame, "length": length, "stream_id": stream_id}

    def encode_http3_push_promise_frame(
        self, length: int, headers: Headers, push_id: int, stream_id: int
    ) -> dict[str, Any]:
        """A PUSH_PROMISE frame."""
        fields = self._encode_http3_headers(headers)
        frame = {"frame_type": "push_promise", "headers": fields, "push_id": push_id}
        return {"frame": frame, "length": length, "stream_id": stream_id}

    def _encode_http3_headers(self, headers: Headers) -> list[dict[str, str]]:
        return [{"name": name.decode("latin-1"), "value": value.decode("latin-1")} for name, value in headers]


class QuicLogger:
    """Keeps the traces of all connections it is given to, in memory."""

    def __init__(self) -> None:
        self._traces: list[QuicLoggerTrace] = []
        self._ended: list[QuicLoggerTrace] = []

    def start_trace(self, is_client: bool, odcid: bytes) -> QuicLoggerTrace:
        """A new trace. Connections call this when they are made."""
        trace = QuicLoggerTrace(is_client=is_client, odcid=odcid)
        self._traces.append(trace)
        return trace

    def end_trace(self, trace: QuicLoggerTrace) -> None:
        """The trace is complete. Raises `ValueError` when it is not one of this logger's."""
        if trace not in self._traces:
            raise ValueError("the trace was not started by this logger, or is no longer kept")
        self._ended.append(trace)
        if len(self._ended) > MAX_TRACES:
            self._traces.remove(self._ended.pop(0))

    def to_dict(self) -> dict[str, Any]:
        """All traces as one qlog document, which `json.dump` can write to a file for qvis."""
        return _document([trace.to_dict() for trace in self._traces])


class QuicFileLogger(QuicLogger):
    """Writes each trace into the folder `path`, as a file named after the connection: `<odcid>.qlog`.

    Raises `ValueError` when `path` is no folder.
    """

    def __init__(self, path: str) -> None:
        if not Path(path).is_dir():
            raise ValueError(f"a QuicFileLogger writes into a folder, and {path!r} is none: create it first")
        super().__init__()
        self.path = path

    def start_trace(self, is_client: bool, odcid: bytes) -> QuicLoggerTrace:
        """A new trace with a file of its own."""
        trace = _FileTrace(is_client, odcid, Path(self.path) / f"{odcid.hex()}.qlog")
        self._traces.append(trace)
        return trace

    def end_trace(self, trace: QuicLoggerTrace) -> None:
        """The trace is complete, and its file too. `OSError` when it cannot be written, `ValueError` as `QuicLogger`."""
        if trace not in self._traces:
            raise ValueError("the trace was not started by this logger, or has ended")
        self._traces.remove(trace)
        if isinstance(trace, _FileTrace):
            trace.finish()


class _FileTrace(QuicLoggerTrace):
    """A trace whose events go to a file, some at a time; no file stays open in between."""

    def __init__(self, is_client: bool, odcid: bytes, file: Path) -> None:
        super().__init__(is_client=is_client, odcid=odcid)
        self._file = file
        self._is_begun = False

    def _keep(self, event: dict[str, Any]) -> None:
        self._events.append(event)
        if len(self._events) >= FLUSH_EVENTS:
            self._flush("")

    def finish(self) -> None:
        """Write what is left, and the end of the document."""
        self._flush(_TAIL)

    def _flush(self, tail: str) -> None:
        text = ",\n".join(map(_json, self._events))
        if not self._is_begun:
            head = super().to_dict() | {"events": []}
            text = _json(_document([head])).removesuffix(_TAIL) + "\n" + text
        elif text:
            text = ",\n" + text
        with self._file.open("a" if self._is_begun else "w", encoding="utf-8") as file:
            file.write(text + tail)
        self._is_begun = True
        self._events.clear()


_json: Final[Callable[[Any], str]] = json.JSONEncoder(separators=(",", ":")).encode
_TAIL: Final = "]}]}"  # the end of a document with one trace whose last field is a list of events


def _document(traces: list[dict[str, Any]]) -> dict[str, Any]:
    return {"qlog_format": "JSON", "qlog_version": QLOG_VERSION, "traces": traces}
