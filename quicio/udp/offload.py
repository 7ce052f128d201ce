"""What the system can do for UDP, and how to ask for it.

`Features` says which abilities to use. `platform_features` names those worth trying on a platform; `enable` tries each
once on a socket, by setting the option, and answers with those that took. Everything else in this room looks at that
answer alone, so that each fallback can be had by passing `Features` with the ability off.

- `msg`: the socket has `sendmsg` and `recvmsg`. Without them (Windows) there is no ancillary data, so nothing else but
  don't-fragment is possible.
- `gso`: one `sendmsg` carries many datagrams of one size, and the kernel or the card cuts them (Linux `UDP_SEGMENT`).
- `gro`: one `recvmsg` yields many datagrams of one size (Linux `UDP_GRO`).
- `ecn`: the codepoint of each datagram is seen and set (RFC 9000 §13.4).
- `pktinfo`: the local address of each datagram is seen and chosen, which a server on the wildcard address needs.
- `dont_fragment`: RFC 9000 §14 forbids fragments. Linux gets `IP_PMTUDISC_PROBE`: its default may fragment, and the
  other settings trust ICMP, which anybody can forge (security row 17: a forged "packet too big" must not shrink what
  we send).

On a dual-stack IPv6 socket each option is set on both levels: IPv4 that arrives there carries no ECN unless
`IP_RECVTOS` is set too.
"""

import socket
import sys
from dataclasses import dataclass
from typing import Final

BUFFER_TARGET: Final = 4 * 1024 * 1024  # bytes; the usual default, 208 KiB, loses packets even on loopback
BUFFER_MINIMUM: Final = 64 * 1024  # bytes; below this asking for less is of no use

SOL_UDP: Final = 17
UDP_SEGMENT: Final = 103
UDP_GRO: Final = 104
MAX_SEGMENTS: Final = 64  # datagrams in a GSO batch: the limit of older kernels
MAX_BATCH_BYTES: Final = 65_000  # of a GSO batch: what one IP packet holds, less some room for headers

IP: Final = socket.IPPROTO_IP
IPV6: Final = socket.IPPROTO_IPV6


@dataclass(frozen=True, slots=True)
class Features:
    """The abilities to use, or those in use. The default is none: plain `sendto` and `recvfrom_into`."""

    msg: bool = False
    gso: bool = False
    gro: bool = False
    ecn: bool = False
    pktinfo: bool = False
    dont_fragment: bool = False


@dataclass(frozen=True, slots=True)
class OptionNumbers:
    """A platform's numbers for socket options, most of which Python does not name. 0: the platform has none."""

    ip_tos: int = 0
    ip_recvtos: int = 0
    ip_pktinfo: int = 0
    ipv6_tclass: int = 0
    ipv6_recvtclass: int = 0
    ipv6_pktinfo: int = 0
    ipv6_recvpktinfo: int = 0
    ip_recverr: int = 0
    ipv6_recverr: int = 0
    ip_dont_fragment: tuple[int, int] = (0, 0)  # option and value, at level IP
    ipv6_dont_fragment: tuple[int, int] = (0, 0)

    def error_items(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Level and kind of the ancillary items that carry what ICMP said."""
        return (IP, self.ip_recverr), (IPV6, self.ipv6_recverr)


LINUX: Final = OptionNumbers(
    ip_tos=1,
    ip_recvtos=13,
    ip_pktinfo=8,
    ipv6_tclass=67,
    ipv6_recvtclass=66,
    ipv6_pktinfo=50,
    ipv6_recvpktinfo=49,
    ip_recverr=11,
    ipv6_recverr=25,
    ip_dont_fragment=(10, 3),  # IP_MTU_DISCOVER, IP_PMTUDISC_PROBE
    ipv6_dont_fragment=(23, 3),
)
MACOS: Final = OptionNumbers(
    ip_tos=3,
    ip_recvtos=27,
    ip_pktinfo=26,
    ipv6_tclass=36,
    ipv6_recvtclass=35,
    ipv6_pktinfo=46,
    ipv6_recvpktinfo=61,
    ip_dont_fragment=(28, 1),  # IP_DONTFRAG
    ipv6_dont_fragment=(62, 1),
)
WINDOWS: Final = OptionNumbers(
    ip_dont_fragment=(14, 1),  # IP_DONTFRAGMENT
    ipv6_dont_fragment=(14, 1),
)
OTHER: Final = OptionNumbers()


def option_numbers(platform: str = sys.platform) -> OptionNumbers:
    """The option numbers of a platform, named as `sys.platform` names it."""
    if platform in ("linux", "android"):
        return LINUX
    if platform == "darwin":
        return MACOS
    if platform == "win32":
        return WINDOWS
    return OTHER


def platform_features(platform: str = sys.platform) -> Features:
    """What is worth trying on a platform; whether it works, `enable` finds out."""
    if platform in ("linux", "android"):
        return Features(msg=True, gso=True, gro=True, ecn=True, pktinfo=True, dont_fragment=True)
    if platform == "darwin":
        return Features(msg=True, ecn=True, pktinfo=True, dont_fragment=True)
    if platform == "win32":
        return Features(dont_fragment=True)
    return Features(msg=hasattr(socket.socket, "recvmsg"))


def enable(sock: socket.socket, wanted: Features, numbers: OptionNumbers) -> Features:
    """Set the options for each wanted ability on `sock`; return those that the system granted."""
    msg = wanted.msg and hasattr(sock, "sendmsg") and hasattr(sock, "recvmsg")
    return Features(
        msg=msg,
        # Segment size 0 changes nothing, and is refused by kernels that do not know the option.
        gso=msg and wanted.gso and _set(sock, SOL_UDP, UDP_SEGMENT, 0),
        gro=msg and wanted.gro and _set(sock, SOL_UDP, UDP_GRO, 1),
        ecn=msg and wanted.ecn and _set_levels(sock, (numbers.ip_recvtos, 1), (numbers.ipv6_recvtclass, 1)),
        pktinfo=msg and wanted.pktinfo and _set_levels(sock, (numbers.ip_pktinfo, 1), (numbers.ipv6_recvpktinfo, 1)),
        dont_fragment=wanted.dont_fragment and _set_levels(sock, numbers.ip_dont_fragment, numbers.ipv6_dont_fragment),
    )


def report_errors(sock: socket.socket, numbers: OptionNumbers, is_wanted: bool) -> bool:
    """Have the system keep what ICMP says, with the address that it is about (Linux), or drop it; False when it cannot."""
    value = int(is_wanted)
    return _set_levels(sock, (numbers.ip_recverr, value), (numbers.ipv6_recverr, value))


def enlarge_buffer(sock: socket.socket, option: int) -> int:
    """Ask for `BUFFER_TARGET` bytes of `SO_RCVBUF` or `SO_SNDBUF`; return what the system says it gave.

    Linux silently gives less; others refuse what is above their limit, so half as much is asked for until it is
    granted. A buffer that is larger already is left alone.
    """
    size = BUFFER_TARGET
    while size >= BUFFER_MINIMUM and sock.getsockopt(socket.SOL_SOCKET, option) < size:
        if _set(sock, socket.SOL_SOCKET, option, size):
            break
        size //= 2
    return sock.getsockopt(socket.SOL_SOCKET, option)


def _set_levels(sock: socket.socket, ip: tuple[int, int], ipv6: tuple[int, int]) -> bool:
    """Set an option at the levels the socket speaks. The level of its own family decides whether that worked."""
    done = ip[0] != 0 and _set(sock, IP, *ip)
    if sock.family == socket.AF_INET:
        return done
    return ipv6[0] != 0 and _set(sock, IPV6, *ipv6)


def _set(sock: socket.socket, level: int, option: int, value: int) -> bool:
    try:
        sock.setsockopt(level, option, value)
    except OSError:
        return False
    return True
