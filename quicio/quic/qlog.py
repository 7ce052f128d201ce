"""`QlogObserver`: turns what a connection shows its observers into events of a qlog trace (qlog 0.3).

It stands at the choke points of `quicio.quic.observer` and reads packets with the decoders of the wire, so that no component
knows of qlog. Names and fields are those of draft-ietf-quic-qlog-quic-events in the edition that `qlog_version` 0.3 stands
for: times in milliseconds, connection IDs and tokens in hexadecimal.

A packet's `raw.payload_length` is exact; its `raw.length` takes the packet number to have two bytes, which the observer does
not see. Metrics are logged when they have changed, with what has changed. Frames of packets that broke the rules are listed as
far as they can be read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from quicio.quic.events import CloseReason
from quicio.quic.logger import QuicLogger, QuicLoggerTrace
from quicio.quic.observer import Observer
from quicio.quic.paths.path import Path
from quicio.quic.wire import constants as wire
from quicio.quic.wire import frames
from quicio.quic.wire.transport_parameters import FIELDS, TransportParameters

_EPOCH_NAMES: Final = ("initial", "0RTT", "handshake", "1RTT")  # by epoch
_SPACE_NAMES: Final = ("initial", "handshake", "1RTT")  # by packet number space
_LONG_OVERHEAD: Final = 1 + 4 + 1 + 1 + 2  # first byte, version, two lengths, Length
_NUMBER_AND_TAG: Final = 2 + 16
_ACK_DELAY_UNIT: Final = 0.008  # milliseconds, at the ack_delay_exponent that both sides use unless told otherwise

Fields = dict[str, Any]
Read = tuple[Fields, int]


class QlogObserver(Observer):
    """Writes to `trace`, and ends it with the connection.

    `started` is the wall clock in milliseconds at the first protocol time it is told.
    """

    def __init__(
        self, logger: QuicLogger, trace: QuicLoggerTrace, started: float, host_cid: bytes, is_client: bool
    ) -> None:
        self._logger = logger
        self._trace = trace
        self._started = started
        self._first: float | None = None
        self._host_cid = host_cid
        self._is_client = is_client
        self._metrics: Fields = {}

    def _at(self, now: float) -> None:
        if self._first is None:
            self._first = now
        self._trace.set_time(self._started + (now - self._first) * 1000)

    def on_started(self, path: Path, version: int, versions: list[int], alpn: list[str], now: float) -> None:
        self._at(now)
        data: Fields = {"src_cid": self._host_cid.hex()}
        if isinstance(path.remote, tuple) and len(path.remote) >= 2:
            data["dst_ip"], data["dst_port"] = str(path.remote[0]), path.remote[1]
        elif path.remote is not None:
            data["dst_ip"] = str(path.remote)
        self._trace.log_event(category="connectivity", event="connection_started", data=data)
        side = "client" if self._is_client else "server"
        data = {f"{side}_versions": [int(number) for number in versions], "chosen_version": version}
        self._trace.log_event(category="transport", event="version_information", data=data)
        if alpn:
            self._trace.log_event(category="transport", event="alpn_information", data={f"{side}_alpns": alpn})

    def on_parameters(self, parameters: TransportParameters, is_local: bool) -> None:
        data: Fields = {"owner": "local" if is_local else "remote"}
        for name in FIELDS:
            value = getattr(parameters, name)
            if isinstance(value, bytes):
                data[name] = value.hex()
            elif isinstance(value, int):
                data[name] = value
        self._trace.log_event(category="transport", event="parameters_set", data=data)

    def on_opened(self, epoch: int, number: int, payload: bytes, path: Path, now: float) -> None:
        self._packet("packet_received", epoch, number, payload, self._host_cid, path.peer_cid, now)

    def on_sealed(self, epoch: int, number: int, payload: bytes, path: Path, now: float) -> None:
        self._packet("packet_sent", epoch, number, payload, path.peer_cid, self._host_cid, now)
        self.on_metrics(path, now)

    def _packet(self, event: str, epoch: int, number: int, payload: bytes, to: bytes, by: bytes, now: float) -> None:
        self._at(now)
        is_short = epoch == wire.EPOCH_ONE_RTT
        header = {
            "packet_number": number,
            "packet_type": _EPOCH_NAMES[epoch],
            "dcid": to.hex(),
            "scid": "" if is_short else by.hex(),
        }
        size = len(payload) + _NUMBER_AND_TAG + len(to) + (1 if is_short else _LONG_OVERHEAD + len(by))
        raw = {"length": size, "payload_length": len(payload)}
        data = {"header": header, "raw": raw, "frames": describe_frames(payload)}
        self._trace.log_event(category="transport", event=event, data=data)

    def on_dropped(self, count: int, size: int, now: float) -> None:
        self._at(now)
        for _ in range(count):
            self._trace.log_event(category="transport", event="packet_dropped", data={"raw": {"length": size}})

    def on_lost(self, space: int, number: int, now: float) -> None:
        self._at(now)
        header = {"packet_number": number, "packet_type": _SPACE_NAMES[space]}
        data = {"type": _SPACE_NAMES[space], "packet_number": number, "header": header}
        self._trace.log_event(category="recovery", event="packet_lost", data=data)

    def on_metrics(self, path: Path, now: float) -> None:
        rtt = path.rtt
        metrics: Fields = {"cwnd": path.congestion.window, "bytes_in_flight": path.in_flight}
        if rtt.latest > 0:
            metrics |= {
                "latest_rtt": round(rtt.latest * 1000, 3),
                "min_rtt": round(rtt.minimum * 1000, 3),
                "smoothed_rtt": round(rtt.smoothed * 1000, 3),
                "rtt_variance": round(rtt.variance * 1000, 3),
            }
        changed = {name: value for name, value in metrics.items() if self._metrics.get(name) != value}
        if changed:
            self._at(now)
            self._metrics = metrics
            self._trace.log_event(category="recovery", event="metrics_updated", data=changed)

    def on_terminated(self, reason: CloseReason | None, now: float) -> None:
        self._at(now)
        data: Fields = {}
        if reason is not None:
            data["owner"] = "remote" if reason.by_peer else "local"
            data["application_code" if reason.is_application else "connection_code"] = int(reason.code)
            data["reason"] = reason.reason
        self._trace.log_event(category="connectivity", event="connection_closed", data=data)
        self._logger.end_trace(self._trace)


def describe_frames(payload: bytes) -> list[Fields]:
    """The frames of a packet as qlog writes them; what cannot be read ends the list."""
    result: list[Fields] = []
    position = 0
    size = len(payload)
    try:
        while position < size:
            frame_type = payload[position]
            if frame_type == wire.PADDING:
                start = position
                while position < size and payload[position] == wire.PADDING:
                    position += 1
                result.append({"frame_type": "padding", "payload_length": position - start})
                continue
            reader = _READERS.get(frame_type)
            if reader is None:
                result.append({"frame_type": "unknown", "raw_frame_type": frame_type})
                break
            fields, position = reader(payload, position + 1, frame_type)
            result.append(fields)
    except wire.QuicConnectionError as error:
        result.append({"frame_type": "unknown", "raw_frame_type": error.frame_type or 0})
    return result


def _plain(name: str) -> Callable[[bytes, int, int], Read]:
    """A frame that is its type alone."""
    return lambda data, position, frame_type: ({"frame_type": name}, position)


def _named(
    name: str, decode: Callable[[bytes, int], tuple[Any, ...]], *names: str
) -> Callable[[bytes, int, int], Read]:
    """A frame whose decoder gives the fields `names`, in their order, and the position behind them."""

    def read(data: bytes, position: int, frame_type: int) -> Read:
        *values, position = decode(data, position)
        fields: Fields = {"frame_type": name}
        for field, value in zip(names, values, strict=True):
            fields[field] = value.hex() if isinstance(value, bytes) else value
        return fields, position

    return read


def _ack(data: bytes, position: int, frame_type: int) -> Read:
    flat, delay, ecn, position = frames.decode_ack(data, position, frame_type)
    ranges = [[flat[index], flat[index + 1] - 1] for index in range(len(flat) - 2, -1, -2)]
    fields: Fields = {"frame_type": "ack", "ack_delay": round(delay * _ACK_DELAY_UNIT, 3), "acked_ranges": ranges}
    if ecn is not None:
        fields["ect0"], fields["ect1"], fields["ce"] = ecn
    return fields, position


def _crypto(data: bytes, position: int, frame_type: int) -> Read:
    offset, start, end, position = frames.decode_crypto(data, position)
    return {"frame_type": "crypto", "offset": offset, "length": end - start}, position


def _stream(data: bytes, position: int, frame_type: int) -> Read:
    stream_id, offset, start, end, fin, position = frames.decode_stream(data, position, frame_type)
    fields = {"frame_type": "stream", "stream_id": stream_id, "offset": offset, "length": end - start, "fin": bool(fin)}
    return fields, position


def _datagram(data: bytes, position: int, frame_type: int) -> Read:
    start, end, position = frames.decode_datagram(data, position, frame_type)
    return {"frame_type": "datagram", "length": end - start}, position


def _new_token(data: bytes, position: int, frame_type: int) -> Read:
    token, position = frames.decode_new_token(data, position)
    return {"frame_type": "new_token", "length": len(token), "token": token.hex()}, position


def _max_streams(data: bytes, position: int, frame_type: int) -> Read:
    maximum, position = frames.decode_max_streams(data, position, frame_type)
    kind = "unidirectional" if frame_type == wire.MAX_STREAMS_UNI else "bidirectional"
    return {"frame_type": "max_streams", "stream_type": kind, "maximum": maximum}, position


def _streams_blocked(data: bytes, position: int, frame_type: int) -> Read:
    limit, position = frames.decode_streams_blocked(data, position, frame_type)
    kind = "unidirectional" if frame_type == wire.STREAMS_BLOCKED_UNI else "bidirectional"
    return {"frame_type": "streams_blocked", "stream_type": kind, "limit": limit}, position


def _new_connection_id(data: bytes, position: int, frame_type: int) -> Read:
    sequence, retire_prior_to, cid, token, position = frames.decode_new_connection_id(data, position)
    fields = {
        "frame_type": "new_connection_id",
        "sequence_number": sequence,
        "retire_prior_to": retire_prior_to,
        "length": len(cid),
        "connection_id": cid.hex(),
        "reset_token": token.hex(),
    }
    return fields, position


def _close(data: bytes, position: int, frame_type: int) -> Read:
    fields: Fields = {"frame_type": "connection_close"}
    if frame_type == wire.TRANSPORT_CLOSE:
        code, trigger, reason, position = frames.decode_transport_close(data, position)
        fields |= {"error_space": "transport", "trigger_frame_type": trigger}
    else:
        code, reason, position = frames.decode_application_close(data, position)
        fields["error_space"] = "application"
    return fields | {"error_code": code, "raw_error_code": code, "reason": reason.decode("utf-8", "replace")}, position


_READERS: Final[dict[int, Callable[[bytes, int, int], Read]]] = {
    wire.PING: _plain("ping"),
    wire.ACK: _ack,
    wire.ACK_ECN: _ack,
    wire.RESET_STREAM: _named("reset_stream", frames.decode_reset_stream, "stream_id", "error_code", "final_size"),
    wire.STOP_SENDING: _named("stop_sending", frames.decode_stop_sending, "stream_id", "error_code"),
    wire.CRYPTO: _crypto,
    wire.NEW_TOKEN: _new_token,
    **dict.fromkeys(range(wire.STREAM, wire.STREAM + 8), _stream),
    wire.MAX_DATA: _named("max_data", frames.decode_max_data, "maximum"),
    wire.MAX_STREAM_DATA: _named("max_stream_data", frames.decode_max_stream_data, "stream_id", "maximum"),
    wire.MAX_STREAMS_BIDI: _max_streams,
    wire.MAX_STREAMS_UNI: _max_streams,
    wire.DATA_BLOCKED: _named("data_blocked", frames.decode_data_blocked, "limit"),
    wire.STREAM_DATA_BLOCKED: _named("stream_data_blocked", frames.decode_stream_data_blocked, "stream_id", "limit"),
    wire.STREAMS_BLOCKED_BIDI: _streams_blocked,
    wire.STREAMS_BLOCKED_UNI: _streams_blocked,
    wire.NEW_CONNECTION_ID: _new_connection_id,
    wire.RETIRE_CONNECTION_ID: _named("retire_connection_id", frames.decode_retire_connection_id, "sequence_number"),
    wire.PATH_CHALLENGE: _named("path_challenge", frames.decode_path_challenge, "data"),
    wire.PATH_RESPONSE: _named("path_response", frames.decode_path_response, "data"),
    wire.TRANSPORT_CLOSE: _close,
    wire.APPLICATION_CLOSE: _close,
    wire.HANDSHAKE_DONE: _plain("handshake_done"),
    wire.DATAGRAM: _datagram,
    wire.DATAGRAM_WITH_LENGTH: _datagram,
}
