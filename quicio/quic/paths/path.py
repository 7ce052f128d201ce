"""One path: a pair of addresses with everything that is measured or limited for that pair alone (RFC 9000 §9.4).

A path owns its RTT estimate, congestion controller, pacer, datagram size and ECN state, the connection ID used on it, and
the count of bytes for the anti-amplification limit. It is data and small rules; who sends on it is `Outbound`'s business,
who validates it `paths/validation.py`'s.

Invariant: until `is_validated`, `bytes_sent` never exceeds three times `bytes_received`, every datagram counted whole,
padding and undecryptable packets included (RFC 9000 §8.1).
"""

from collections.abc import Hashable
from math import inf
from typing import Final

from quicio.quic.congestion.base import CongestionController
from quicio.quic.paths.ecn import EcnState
from quicio.quic.paths.mtu import PathMtu
from quicio.quic.recovery.pacer import Pacer
from quicio.quic.recovery.rtt import RttEstimator

AMPLIFICATION_FACTOR: Final = 3  # RFC 9000 §8.1
UNLIMITED: Final = 1 << 62

# Ports that no client's packets come from, but that answer datagrams: a forged source address must not make us talk to
# them (RFC 9000 §21.5). By name: none, echo, daytime, qotd, chargen, time, DNS, TFTP, portmap, NTP, NetBIOS, SNMP, CLDAP,
# IKE, syslog, RIP, SSDP, WS-Discovery, multicast DNS, LLMNR, memcached.
BLOCKED_PORTS: Final = frozenset(
    [0, 7, 13, 17, 19, 37, 53, 69, 111, 123, 137, 138, 161, 162, 389, 500, 514, 520, 1900, 3702, 5353, 5355, 11211]
)


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
        self.delivered_time: float = 0.0
        self.first_sent_time: float = 0.0
        self.app_limited_until = 0  # value of `delivered` up to which samples are application-limited
        # Kept by `paths/validation.py` (RFC 9000 §8.2).
        self.response = b""  # data of the PATH_RESPONSE that is due; newest wins
        self.challenge_is_due = False
        self.challenges: list[bytes] = []  # data of the latest PATH_CHALLENGE frames sent
        self.validation_deadline = inf

    def amplification_room(self) -> int:
        """How many bytes may still be sent here before the address is validated."""
        if self.is_validated:
            return UNLIMITED
        return max(0, AMPLIFICATION_FACTOR * self.bytes_received - self.bytes_sent)

    def limit_size(self, max_payload: int) -> None:
        """The peer takes no larger UDP payload than this (RFC 9000 §18.2, max_udp_payload_size)."""
        self.mtu.limit(max_payload)
        if self.datagram_size > max_payload:
            self.datagram_size = max_payload
            self.congestion.on_datagram_size(max_payload)

    def has_frames(self) -> bool:
        """Whether frames that belong to this path alone are due."""
        return self.challenge_is_due or self.response != b""


def is_blocked_port(address: Hashable) -> bool:
    """Whether a peer that shows with this address is to be ignored, see `BLOCKED_PORTS`; opaque addresses never are."""
    return isinstance(address, tuple) and len(address) >= 2 and address[1] in BLOCKED_PORTS


def is_same_host(first: Hashable, second: Hashable) -> bool:
    """Whether two addresses differ in their port at most: then the network between is the same (RFC 9000 §9.4).

    Addresses are opaque here; those that are not (host, port, …) tuples are the same host only when equal.
    """
    if isinstance(first, tuple) and isinstance(second, tuple) and first and second:
        return bool(first[0] == second[0])
    return first == second
