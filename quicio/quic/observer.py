"""Who watches a connection: qlog writers, the simulator's capture.

There are a few choke points, so that no component has a logging line: a packet was opened, a packet was sealed, the recovery
metrics changed; and, rarely, the connection started or ended, transport parameters are known, packets were lost or dropped. An
observer is None when nobody watches, and what it does can never harm the connection: it is given bytes and numbers, not
objects to change.
"""

import logging
from collections.abc import Callable

from quicio.quic.events import CloseReason
from quicio.quic.paths.path import Path
from quicio.quic.wire.transport_parameters import TransportParameters

logger: logging.Logger = logging.getLogger("quic")


class Observer:
    """Base of all observers: it sees and does nothing."""

    def on_started(self, path: Path, version: int, versions: list[int], alpn: list[str], now: float) -> None:
        """The first packet is about to be sent or opened, on `path`; versions and ALPN are those of our configuration."""

    def on_parameters(self, parameters: TransportParameters, is_local: bool) -> None:
        """The transport parameters of one side are known."""

    def on_opened(self, epoch: int, number: int, payload: bytes, path: Path, now: float) -> None:
        """A packet was authenticated; `payload` is its frames."""

    def on_sealed(self, epoch: int, number: int, payload: bytes, path: Path, now: float) -> None:
        """A packet was built; `payload` is its frames."""

    def on_dropped(self, count: int, size: int, now: float) -> None:
        """So many packets of a burst could not be used; `size` is that of the last datagram, in bytes."""

    def on_lost(self, space: int, number: int, now: float) -> None:
        """A packet that was sent is deemed lost (RFC 9002 §6.1)."""

    def on_metrics(self, path: Path, now: float) -> None:
        """A burst was processed: its ACKs may have changed RTT, window or bytes in flight of `path`, the active one."""

    def on_terminated(self, reason: CloseReason | None, now: float) -> None:
        """The connection is over: nothing more will be told."""


class GuardedObserver(Observer):
    """Passes everything on to another observer, until that raises: then it is logged, and the watch is over."""

    def __init__(self, observer: Observer) -> None:
        self._observer: Observer | None = observer

    def on_started(self, path: Path, version: int, versions: list[int], alpn: list[str], now: float) -> None:
        if self._observer is not None:
            self._guard(self._observer.on_started, path, version, versions, alpn, now)

    def on_parameters(self, parameters: TransportParameters, is_local: bool) -> None:
        if self._observer is not None:
            self._guard(self._observer.on_parameters, parameters, is_local)

    def on_opened(self, epoch: int, number: int, payload: bytes, path: Path, now: float) -> None:
        if self._observer is not None:
            self._guard(self._observer.on_opened, epoch, number, payload, path, now)

    def on_sealed(self, epoch: int, number: int, payload: bytes, path: Path, now: float) -> None:
        if self._observer is not None:
            self._guard(self._observer.on_sealed, epoch, number, payload, path, now)

    def on_dropped(self, count: int, size: int, now: float) -> None:
        if self._observer is not None:
            self._guard(self._observer.on_dropped, count, size, now)

    def on_lost(self, space: int, number: int, now: float) -> None:
        if self._observer is not None:
            self._guard(self._observer.on_lost, space, number, now)

    def on_metrics(self, path: Path, now: float) -> None:
        if self._observer is not None:
            self._guard(self._observer.on_metrics, path, now)

    def on_terminated(self, reason: CloseReason | None, now: float) -> None:
        if self._observer is not None:
            self._guard(self._observer.on_terminated, reason, now)

    def _guard(self, tell: Callable[..., None], *what: object) -> None:
        try:
            tell(*what)
        except Exception:
            logger.exception("an observer failed: it is not told anything more")
            self._observer = None
