"""Who watches a connection: qlog writers, the simulator's capture.

There are three choke points, so that no component has a logging line: a packet was opened, a packet was sealed, the
recovery metrics changed. An observer is None when nobody watches, and what it does can never harm the connection: it is
given bytes and numbers, not objects to change.
"""

import logging

from quicio.quic.paths.path import Path

logger: logging.Logger = logging.getLogger("quic")


class Observer:
    """Base of all observers: it sees and does nothing."""

    def on_opened(self, epoch: int, number: int, payload: bytes, path: Path, now: float) -> None:
        """A packet was authenticated; `payload` is its frames."""

    def on_sealed(self, epoch: int, number: int, payload: bytes, path: Path, now: float) -> None:
        """A packet was built; `payload` is its frames."""

    def on_metrics(self, path: Path, now: float) -> None:
        """A burst was processed: its ACKs may have changed RTT, window or bytes in flight of `path`, the active one."""


class GuardedObserver(Observer):
    """Passes everything on to another observer, until that raises: then it is logged, and the watch is over."""

    def __init__(self, observer: Observer) -> None:
        self._observer: Observer | None = observer

    def on_opened(self, epoch: int, number: int, payload: bytes, path: Path, now: float) -> None:
        if self._observer is not None:
            try:
                self._observer.on_opened(epoch, number, payload, path, now)
            except Exception:
                self._give_up()

    def on_sealed(self, epoch: int, number: int, payload: bytes, path: Path, now: float) -> None:
        if self._observer is not None:
            try:
                self._observer.on_sealed(epoch, number, payload, path, now)
            except Exception:
                self._give_up()

    def on_metrics(self, path: Path, now: float) -> None:
        if self._observer is not None:
            try:
                self._observer.on_metrics(path, now)
            except Exception:
                self._give_up()

    def _give_up(self) -> None:
        logger.exception("an observer failed: it is not told anything more")
        self._observer = None
