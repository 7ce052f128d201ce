"""Who watches a connection, and what it is told beside packets: the upper end of `quicio.quic.observer`.

A connection has one observer at most. `QuicConfiguration.quic_logger` gives it one that writes a qlog; `observe()` puts
another in its place. The rare news (started, over) is told from here, that of every packet where packets are sealed and
opened. Once the connection is over the observer is let go.
"""

from __future__ import annotations

from typing import ClassVar

from quicio.environment import Environment
from quicio.quic._aioquic import AioquicNames
from quicio.quic.configuration import QuicConfiguration
from quicio.quic.lifecycle import TERMINATED
from quicio.quic.logger import QuicLogger
from quicio.quic.observer import GuardedObserver, Observer
from quicio.quic.qlog import QlogObserver


class Watched(AioquicNames):
    """The part of `QuicConnection` that observers see."""

    raise_unexpected: ClassVar[bool] = False
    _configuration: QuicConfiguration
    _environment: Environment
    _now: float

    def observe(self, observer: Observer | None) -> None:
        """Have `observer` see every packet, or nobody. What it raises ends its watch, not the connection.

        It takes the place of the qlog that `QuicConfiguration.quic_logger` asks for.
        """
        self._watch(observer if observer is None or self.raise_unexpected else GuardedObserver(observer))

    def _watch(self, observer: Observer | None) -> None:
        self._parts.observer = observer
        self._parts.loss.observer = observer

    def _start_qlog(self, qlog: QuicLogger) -> None:
        parts = self._parts
        self._trace = qlog.start_trace(parts.is_client, self._original_destination_cid)
        started = self._environment.wall_clock() * 1000
        self.observe(QlogObserver(qlog, self._trace, started, parts.connection_ids.host_cid, parts.is_client))

    def _tell_start(self, now: float) -> None:
        parts = self._parts
        if parts.observer is not None:
            versions, alpn = self._configuration.supported_versions, self._configuration.alpn_protocols or []
            parts.observer.on_started(parts.paths.active, parts.handshake.version, versions, alpn, now)
            parts.observer.on_parameters(parts.handshake.local_parameters, True)

    def _follow_end(self) -> None:
        """Once the connection is over nobody needs its IDs, or watches it."""
        parts = self._parts
        if parts.lifecycle.state == TERMINATED:
            parts.connection_ids.retire_all()
            if parts.observer is not None:
                parts.observer.on_terminated(parts.lifecycle.close_reason, self._now)
                self._watch(None)
