"""Ancillary data: what `recvmsg` tells beside the bytes, and what `sendmsg` is told.

`Ancillary` serves one socket. Incoming items give the GRO segment size, the ECN codepoint and the local address;
outgoing ones carry the same three. Sizes and types differ by platform and family, as measured: IPv4's TOS arrives as
one byte (under the option's own number, or on BSD systems under IP_RECVTOS) but is sent as an int; IPv6's traffic
class is an int both ways. IPv4 on a dual-stack socket is told in IPv4's items.

What the kernel reports is trusted to be well formed no further than its length: items that are too short are ignored,
like those of other levels. Built and parsed items are remembered, bounded by `ANCILLARY_CACHE_LIMIT`; local addresses
are this host's own and few, but a wildcard subnet bound to one host (AnyIP) can make them many.
"""

import socket
import struct
import sys
from typing import Final

from quicio.udp.address import canonical_host, host_from_packed, interface_index
from quicio.udp.offload import IP, IPV6, SOL_UDP, UDP_GRO, UDP_SEGMENT, Features, OptionNumbers

Item = tuple[int, int, bytes]

ANCILLARY_SIZE: Final = 256  # bytes of room for incoming items: about three times what the four options need
ANCILLARY_SIZE_LIMIT: Final = 4096  # to which that room grows when the kernel says it was too small
ANCILLARY_CACHE_LIMIT: Final = 1024  # built lists of outgoing items, and parsed local addresses

ECN_MASK: Final = 0x03  # low bits of TOS and traffic class (RFC 3168 §5)
INT: Final = struct.Struct("=i")
UINT16: Final = struct.Struct("=H")
IN_PKTINFO: Final = struct.Struct("=I4s4s")  # interface, local address, header destination
IN6_PKTINFO: Final = struct.Struct("=16sI")  # address, interface


class Ancillary:
    """Packs and unpacks the ancillary data of one socket, for the abilities in `features`."""

    __slots__ = ("_built", "_locals", "features", "numbers")

    def __init__(self, features: Features, numbers: OptionNumbers) -> None:
        self.features: Features = features
        self.numbers: OptionNumbers = numbers
        self._built: dict[tuple[bool, int, str | None, int], list[Item]] = {}
        self._locals: dict[bytes, str] = {}

    def incoming(self, items: list[Item]) -> tuple[int, int, str | None]:
        """Read received items: segment size (0: one datagram), ECN codepoint (0: unknown), local address."""
        segment = 0
        ecn = 0
        local: str | None = None
        numbers = self.numbers
        for level, kind, data in items:
            if level == SOL_UDP:
                if kind == UDP_GRO and len(data) >= 4:
                    segment = int.from_bytes(data[:4], sys.byteorder)
            elif level == IP:
                if (kind == numbers.ip_tos or kind == numbers.ip_recvtos) and data:
                    ecn = _traffic_class(data) & ECN_MASK
                elif kind == numbers.ip_pktinfo and len(data) >= IN_PKTINFO.size:
                    local = self._local(data[: IN_PKTINFO.size])
            elif level == IPV6:
                if kind == numbers.ipv6_tclass and data:
                    ecn = _traffic_class(data) & ECN_MASK
                elif kind == numbers.ipv6_pktinfo and len(data) >= IN6_PKTINFO.size and local is None:
                    local = self._local(data[: IN6_PKTINFO.size])
        return segment, ecn, local

    def outgoing(self, is_ipv4: bool, ecn: int, local: str | None, segment: int) -> list[Item]:
        """Items for one `sendmsg`; do not change the list.

        `is_ipv4` tells what the destination is, whatever the socket's family; `ecn` is the codepoint, 0 for unmarked;
        `local` the source address, None for the system's choice; `segment` the GSO segment size, 0 for a single
        datagram.
        """
        key = (is_ipv4, ecn, local, segment)
        items = self._built.get(key)
        if items is None:
            items = self._build(is_ipv4, ecn, local, segment)
            if len(self._built) >= ANCILLARY_CACHE_LIMIT:
                self._built.clear()
            self._built[key] = items
        return items

    def sizes(self) -> tuple[int, int]:
        """How much is remembered: lists of outgoing items, local addresses."""
        return len(self._built), len(self._locals)

    def forget(self) -> None:
        """Drop what was built: `features` has changed."""
        self._built.clear()

    def _build(self, is_ipv4: bool, ecn: int, local: str | None, segment: int) -> list[Item]:
        items: list[Item] = []
        numbers = self.numbers
        if segment:
            items.append((SOL_UDP, UDP_SEGMENT, UINT16.pack(segment)))
        if ecn and self.features.ecn:
            level, kind = (IP, numbers.ip_tos) if is_ipv4 else (IPV6, numbers.ipv6_tclass)
            items.append((level, kind, INT.pack(ecn & ECN_MASK)))
        if local is not None and self.features.pktinfo:
            source = _pack_source(is_ipv4, local)
            if source:
                items.append((IP, numbers.ip_pktinfo, source) if is_ipv4 else (IPV6, numbers.ipv6_pktinfo, source))
        return items

    def _local(self, data: bytes) -> str:
        local = self._locals.get(data)
        if local is None:
            if len(data) == IN_PKTINFO.size:
                _, specific, destination = IN_PKTINFO.unpack(data)
                local = host_from_packed(specific if any(specific) else destination)
            else:
                packed, interface = IN6_PKTINFO.unpack(data)
                local = host_from_packed(packed, str(interface) if interface else "")
            if len(self._locals) >= ANCILLARY_CACHE_LIMIT:
                self._locals.clear()
            self._locals[data] = local
        return local


def _traffic_class(data: bytes) -> int:
    return data[0] if len(data) < 4 else int.from_bytes(data[:4], sys.byteorder)


def _pack_source(is_ipv4: bool, local: str) -> bytes:
    """The pktinfo structure that chooses `local` as source; empty when it cannot be one for the destination's family.

    The interface stays the system's choice, but for link-local addresses, which mean nothing without one.
    """
    try:
        host = canonical_host(local)
    except ValueError:
        return b""
    if is_ipv4 != (":" not in host):
        return b""
    if is_ipv4:
        return IN_PKTINFO.pack(0, socket.inet_pton(socket.AF_INET, host), bytes(4))
    bare, _, zone = host.partition("%")
    return IN6_PKTINFO.pack(socket.inet_pton(socket.AF_INET6, bare), interface_index(zone) if zone else 0)
