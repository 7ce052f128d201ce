"""One path: a pair of addresses with everything that is measured or limited for that pair alone (RFC 9000 §9.4).

A path owns its RTT estimate, congestion controller, pacer, datagram size and ECN state, the connection ID used on it, and
the count of bytes for the anti-amplification limit. It is data and small rules; who sends on it is `Outbound`'s business,
who validates it `paths/validation.py`'s.

Invariant: until `is_validated`, `bytes_sent` never exceeds three times `bytes_received`, every datagram counted whole,
padding and undecryptable packets included (RFC 9000 §8.1).
"""

from collections.abc import Hashable
from typing import Final

from quicio.quic.congestion.base import CongestionController
from quicio.quic.paths.ecn import EcnState
from quicio.quic.paths.mtu import PathMtu
from quicio.quic.recovery.pacer import Pacer
from quicio.quic.recovery.rtt import RttEstimator

AMPLIFICATION_FACTOR: Final = 3  # RFC 9000 §8.1
UNLIMITED: Final = 1 << 62


class Path:
    """State of one path. `key` is `(local or None, remote)`."""

    def __init__(
        self,
        remote: Hashable,
        local: Hashable,
        *,
        datagram_size: int,
        congestion: CongestionController,
        rtt: RttEstimator,
        pacer: Pacer,
        mtu: PathMtu,
        ecn: EcnState,
        is_validated: bool,
    ) -> None:
        self.remote = remote
        self.local = local
        self.datagram_size = datagram_size  # largest UDP payload to send, in bytes
        self.congestion = congestion
        self.rtt = rtt
        self.pacer = pacer
        self.mtu = mtu
        self.ecn = ecn
        self.is_validated = is_validated
        self.peer_cid = b""  # destination connection ID of what is sent here
        self.peer_cid_sequence = 0
        self.bytes_received = 0
        self.bytes_sent = 0
        self.in_flight = 0  # bytes; kept by loss detection alone
        self.delivered = 0  # bytes acknowledged in total; kept by loss detection, with the three below
        self.delivered_time = 0.0
        self.first_sent_time = 0.0
        self.app_limited_until = 0  # value of `delivered` up to which samples are application-limited

    def amplification_room(self) -> int:
        """How many bytes may still be sent here before the address is validated."""
        if self.is_validated:
            return UNLIMITED
        return max(0, AMPLIFICATION_FACTOR * self.bytes_received - self.bytes_sent)
