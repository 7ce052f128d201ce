"""One text form for each address.

A path is known by its addresses (RFC 9000 §9), so a peer must have exactly one: a second spelling of the same address
looks like a migration and costs a path validation. The system has many spellings: IPv4 mapped into IPv6 on a
dual-stack socket (`::ffff:192.0.2.1`), the flow label beside the address, the interface as a number, as a name, or
inside the text.

The form used everywhere above this module is `(host, port)`. `host` is the canonical text of RFC 5952 for IPv6 or the
dotted quad for IPv4, never mapped; a link-local address carries the name of its interface (`fe80::1%eth0`), nothing
else does. `AddressBook` translates between that and what one socket's family wants, and remembers what it translated:
both tables are bounded by `ADDRESS_CACHE_LIMIT`, because spoofed sources would fill them.

Host names are not resolved here: a resolver would block. They are refused as not numeric.
"""

from collections.abc import Hashable
from socket import AF_INET, AF_INET6, if_indextoname, if_nametoindex, inet_ntop, inet_pton
from typing import Final

Address = tuple[str, int]
SocketAddress = tuple[str, int] | tuple[str, int, int, int]

ADDRESS_CACHE_LIMIT: Final = 4096  # translations kept in each direction; at the limit the table starts afresh

MAPPED_PREFIX: Final = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96 (RFC 4291 §2.5.5.2)


def canonical_host(host: str, scope: int = 0) -> str:
    """The one spelling of a numeric address.

    `scope` is the interface index that came beside it, 0 for none. Raises `ValueError` when `host` is not numeric.
    """
    bare, _, zone = host.partition("%")
    try:
        if ":" not in bare:
            return inet_ntop(AF_INET, inet_pton(AF_INET, bare))
        packed = inet_pton(AF_INET6, bare)
    except (OSError, ValueError, UnicodeError):
        raise ValueError(f"{host!r} is not a numeric address: resolve host names first") from None
    return host_from_packed(packed, zone or (str(scope) if scope else ""))


def host_from_packed(packed: bytes, zone: str = "") -> str:
    """The one spelling of an address of 4 or 16 bytes; `zone`, an interface, counts for link-local ones only."""
    if len(packed) == 4:
        return inet_ntop(AF_INET, packed)
    if packed.startswith(MAPPED_PREFIX):
        return inet_ntop(AF_INET, packed[12:])
    text = inet_ntop(AF_INET6, packed)
    if zone and is_link_local(packed):
        return f"{text}%{_interface_name(zone)}"
    return text


def is_link_local(packed: bytes) -> bool:
    """Whether an IPv6 address of 16 bytes means something on one link only: fe80::/10 or ff02::/16 (RFC 4291)."""
    return (packed[0] == 0xFE and packed[1] & 0xC0 == 0x80) or (packed[0] == 0xFF and packed[1] & 0x0F == 0x02)


def interface_index(zone: str) -> int:
    """The index of an interface given by name or number; 0, "the system chooses", when there is none of that name."""
    if zone.isdecimal():
        return int(zone)
    try:
        return if_nametoindex(zone)
    except (OSError, ValueError):
        return 0


def _interface_name(zone: str) -> str:
    if not zone.isdecimal():
        return zone
    try:
        return if_indextoname(int(zone))
    except (OSError, OverflowError):
        return zone


def address_from_system(sockaddr: Hashable) -> Address:
    """Normalise what `recvfrom`, `getsockname` or `getaddrinfo` gave.

    Raises `ValueError` when it is no numeric address with a port.
    """
    if not isinstance(sockaddr, tuple) or len(sockaddr) < 2:
        raise ValueError(f"{sockaddr!r} is not a (host, port) address")
    host, port = sockaddr[:2]
    if not isinstance(host, str) or not isinstance(port, int):
        raise ValueError(f"{sockaddr!r} is not a (host, port) address")
    return canonical_host(host, sockaddr[3] if len(sockaddr) == 4 else 0), port


def address_to_system(address: Hashable, family: int) -> SocketAddress:
    """What a socket of `family` wants as the destination for `address`.

    Raises `ValueError` when the address is not numeric, has no port in 1..65535, or is IPv6 while the socket is IPv4.
    """
    host, port = address_from_system(address)
    if not 0 < port < 65536:
        raise ValueError(f"{port!r} is not a port")
    if ":" not in host:
        return (host, port) if family == AF_INET else (f"::ffff:{host}", port, 0, 0)
    if family == AF_INET:
        raise ValueError(f"an IPv4 socket cannot reach {host}")
    bare, _, zone = host.partition("%")
    return bare, port, 0, interface_index(zone) if zone else 0


class AddressBook:
    """The translations of one socket, remembered within `ADDRESS_CACHE_LIMIT`."""

    __slots__ = ("_from_system", "_to_system", "family")

    def __init__(self, family: int) -> None:
        self.family: int = family
        self._from_system: dict[Hashable, Address] = {}
        self._to_system: dict[Hashable, SocketAddress] = {}

    def sizes(self) -> tuple[int, int]:
        """How many translations are remembered: from the system, to the system."""
        return len(self._from_system), len(self._to_system)

    def seen(self, sockaddr: Hashable) -> Address:
        """The normal form of a source address. Raises `ValueError` as `address_from_system` does."""
        address = self._from_system.get(sockaddr)
        if address is None:
            address = address_from_system(sockaddr)
            if len(self._from_system) >= ADDRESS_CACHE_LIMIT:
                self._from_system.clear()
            self._from_system[sockaddr] = address
        return address

    def destination(self, address: Hashable) -> SocketAddress:
        """The system's form of a destination. Raises `ValueError` as `address_to_system` does."""
        sockaddr = self._to_system.get(address)
        if sockaddr is None:
            sockaddr = address_to_system(address, self.family)
            if len(self._to_system) >= ADDRESS_CACHE_LIMIT:
                self._to_system.clear()
            self._to_system[address] = sockaddr
        return sockaddr
