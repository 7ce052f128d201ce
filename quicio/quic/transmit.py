"""What crosses the line between the core and its driver: batches of datagrams.

A batch is what one `recvmsg` with GRO yields or one `sendmsg` with GSO takes: datagrams of one peer, one local address and
one ECN codepoint, all of equal size but for the last, which may be shorter. Addresses are opaque hashables here; only the
driver knows what they mean.
"""

from collections.abc import Hashable


class Received:
    """Datagrams that arrived together: same remote and local address, same ECN codepoint (0 when unknown)."""

    __slots__ = ("datagrams", "ecn", "local", "remote")

    def __init__(self, datagrams: list[bytes], remote: Hashable, local: Hashable = None, ecn: int = 0) -> None:
        self.datagrams: list[bytes] = datagrams
        self.remote: Hashable = remote
        self.local: Hashable = local
        self.ecn: int = ecn

    def __repr__(self) -> str:
        sizes = [len(datagram) for datagram in self.datagrams]
        return f"Received({sizes}, remote={self.remote!r}, local={self.local!r}, ecn={self.ecn})"


class Transmit:
    """Datagrams to send together: equal sizes, the last may be shorter; `local` is None for "let the system choose"."""

    __slots__ = ("datagrams", "ecn", "local", "remote")

    def __init__(self, datagrams: list[bytes], remote: Hashable, local: Hashable = None, ecn: int = 0) -> None:
        self.datagrams: list[bytes] = datagrams
        self.remote: Hashable = remote
        self.local: Hashable = local
        self.ecn: int = ecn

    def __repr__(self) -> str:
        sizes = [len(datagram) for datagram in self.datagrams]
        return f"Transmit({sizes}, remote={self.remote!r}, local={self.local!r}, ecn={self.ecn})"
