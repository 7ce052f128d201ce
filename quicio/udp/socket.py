"""`UdpSocket`: batches of datagrams in and out of one raw, non-blocking socket.

The unit is the batch: what one `recvmsg` with GRO yields and one `sendmsg` with GSO takes, because a system call a
datagram costs more than its encryption. Where an ability is missing, the same calls do the same work with more system
calls; see `offload`.

Rules:
- `receive` and `send` never raise for what the network or the system does. UDP loses datagrams, and a datagram that
  the system refuses is one more that was lost: it is counted, `last_error` says why, and loss recovery does the rest.
  Only "would block" is reported, since it alone asks the caller for something. Errors that ICMP caused change nothing
  here (security row 17).
- A would-block leaves what was not sent in the `Transmit`, which stays with the caller to be offered again.
- ENOBUFS is a loss, not a would-block: the socket would be reported writable at once and the loop would spin.
- A GSO batch the system refuses goes out one by one. GSO is then given up for good if the refusal was its fault: EIO
  (no checksum offload on the route) always, EINVAL when the same datagrams pass singly. EMSGSIZE is the path's fault:
  the single datagrams that are too large are the lost probes of path MTU discovery (RFC 8899 §3), and are counted as
  such.
- Each peer has one address (see `address`), and `Received.local` is a host without port, or None when the system does
  not tell.

The only user of this class is `Engine`.
"""

import errno
import socket
import sys
from collections.abc import Callable, Hashable
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, Self

from quicio.quic.transmit import Received, Transmit
from quicio.udp.address import Address, AddressBook, SocketAddress, address_from_system, canonical_host, interface_index
from quicio.udp.cmsg import ANCILLARY_SIZE, ANCILLARY_SIZE_LIMIT, Ancillary, Item
from quicio.udp.offload import (
    MAX_BATCH_BYTES,
    MAX_SEGMENTS,
    Features,
    enable,
    enlarge_buffer,
    option_numbers,
    platform_features,
    report_errors,
)

RECEIVE_SIZE: Final = 65_536  # bytes; more than any UDP payload or GRO batch, so that nothing is cut
RECEIVE_ERROR_LIMIT: Final = 16  # errors in a row that one `receive` passes over before it gives the loop a chance

NO_IPV6: Final = frozenset(
    {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT, errno.ENOPROTOOPT, errno.EINVAL}
)
GSO_REFUSED: Final = frozenset({errno.EIO, errno.EINVAL, errno.EMSGSIZE})
WSAEMSGSIZE: Final = 10040  # Windows has its own number for EMSGSIZE
WOULD_BLOCK: Final = errno.EAGAIN
ERROR_QUEUE: Final[int] = getattr(socket, "MSG_ERRQUEUE", 0)
REUSE_PORT: Final[int | None] = getattr(socket, "SO_REUSEPORT", None)

Create = Callable[[int, int], socket.socket]


def open_socket(
    host: str | None,
    port: int,
    *,
    reuse_port: bool = False,
    create: Create = socket.socket,
    reuse_option: int | None = REUSE_PORT,
) -> socket.socket:
    """A bound UDP socket. `create` makes it from family and type; see `UdpSocket.bind` for the rest."""
    if reuse_port and reuse_option is None:
        raise ValueError("reuse_port needs SO_REUSEPORT, which this platform lacks: leave it out")
    shared = reuse_option if reuse_port else None
    if host is None:
        try:
            return _open_bound("::", port, shared, create)
        except OSError as error:
            if error.errno not in NO_IPV6:
                raise
        return _open_bound("0.0.0.0", port, shared, create)
    return _open_bound(canonical_host(host), port, shared, create)


def _open_bound(host: str, port: int, reuse_option: int | None, create: Create) -> socket.socket:
    is_ipv6 = ":" in host
    sock = create(socket.AF_INET6 if is_ipv6 else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        if reuse_option is not None:
            sock.setsockopt(socket.SOL_SOCKET, reuse_option, 1)
        if is_ipv6:
            bare, _, zone = host.partition("%")
            if bare == "::":
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.bind((bare, port, 0, interface_index(zone) if zone else 0))
        else:
            sock.bind((host, port))
    except BaseException:
        sock.close()
        raise
    return sock


def run_end(datagrams: list[bytes], start: int) -> int:
    """Where the GSO batch from `start` ends: equal sizes, the last may be shorter, within the kernel's limits."""
    size = len(datagrams[start])
    if size == 0:
        return start + 1
    stop = min(len(datagrams), start + min(MAX_SEGMENTS, MAX_BATCH_BYTES // size))
    end = start + 1
    while end < stop:
        length = len(datagrams[end])
        if length != size:
            return end + 1 if 0 < length < size else end
        end += 1
    return end


class UdpSocket:
    """A non-blocking UDP socket that takes and gives batches. Takes ownership of `sock`, an existing UDP socket.

    `features` are the abilities to try, by default all that the platform has; the attribute `features` tells which are
    in use. Raises `ValueError` when `sock` is no IPv4 or IPv6 UDP socket.
    """

    def __init__(
        self, sock: socket.socket, *, features: Features | None = None, ancillary_size: int = ANCILLARY_SIZE
    ) -> None:
        if sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.type != socket.SOCK_DGRAM:
            raise ValueError(f"{sock!r} is not a UDP socket of IPv4 or IPv6")
        sock.setblocking(False)
        self._sock = sock
        self._numbers = option_numbers()
        self._book = AddressBook(sock.family)
        self._peer = self._connected_to()
        self._fixed_host = self._bound_host()
        wanted = platform_features() if features is None else features
        if self._fixed_host is not None:
            wanted = replace(wanted, pktinfo=False)  # there is but one local address: no need to be told, or to tell
        self.features = enable(sock, wanted, self._numbers)
        self.receive_buffer_size: int = enlarge_buffer(sock, socket.SO_RCVBUF)
        self.send_buffer_size: int = enlarge_buffer(sock, socket.SO_SNDBUF)
        self._ancillary = Ancillary(self.features, self._numbers)
        self._is_watching_errors = False
        self._ancillary_size = ancillary_size  # room for incoming items; grows when it was too small
        self._buffer = bytearray(0 if self.features.msg else RECEIVE_SIZE)
        self.last_error: OSError | None = None
        self.receives: int = 0  # system calls that gave datagrams
        self.sends: int = 0  # system calls that took datagrams
        self.datagrams_received: int = 0
        self.datagrams_sent: int = 0
        self.bytes_received: int = 0
        self.bytes_sent: int = 0
        self.datagrams_dropped: int = (
            0  # outgoing ones that the system, or their address, refused; too_large ones apart
        )
        self.datagrams_too_large: int = 0  # outgoing ones larger than the interface's or the socket's limit
        self.receive_errors: int = 0  # errors that `receive` passed over
        self.batches_truncated: int = 0  # receptions whose ancillary data did not fit

    @classmethod
    def bind(
        cls,
        host: str | None,
        port: int = 0,
        *,
        reuse_port: bool = False,
        features: Features | None = None,
        ancillary_size: int = ANCILLARY_SIZE,
    ) -> Self:
        """Open and bind a socket, for a server or a client.

        `host` is a numeric address; None means all addresses of both families through one dual-stack socket, or IPv4
        alone on a host without IPv6; "::" is dual-stack without that way out. `port` 0 lets the system choose. Raises
        `OSError` when the address cannot be had, `ValueError` when `host` is a name or `reuse_port` is not supported.
        """
        sock = open_socket(host, port, reuse_port=reuse_port)
        try:
            return cls(sock, features=features, ancillary_size=ancillary_size)
        except BaseException:
            sock.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def fileno(self) -> int:
        """The file descriptor, -1 once closed."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close the socket. Afterwards nothing is received, and what is sent is dropped."""
        self._sock.close()

    @property
    def family(self) -> int:
        """AF_INET or AF_INET6."""
        return self._sock.family

    @property
    def local_address(self) -> Address:
        """Host and port that the socket is bound to; the host of a wildcard socket is "::" or "0.0.0.0"."""
        return address_from_system(self._sock.getsockname())

    # --- receiving ---------------------------------------------------------------------------------------------------

    def receive(self) -> Received | None:
        """The next batch, empty datagrams included; None when the socket would block, or had nothing but errors."""
        for _ in range(RECEIVE_ERROR_LIMIT):
            try:
                received = self._receive_message() if self.features.msg else self._receive_plain()
            except (BlockingIOError, InterruptedError):
                return None
            except (OSError, ValueError) as error:  # ValueError: a source address of no known form
                if self._sock.fileno() < 0:
                    return None
                self.receive_errors += 1
                self._note(error)
                continue
            if received is not None:
                return received
        return None

    def _receive_message(self) -> Received | None:
        data, items, flags, source = self._sock.recvmsg(RECEIVE_SIZE, self._ancillary_size)
        remote = self._book.seen(source or self._peer)
        segment, ecn, local = self._ancillary.incoming(items)
        size = len(data)
        self.receives += 1
        self.bytes_received += size
        if flags & socket.MSG_CTRUNC:
            self.batches_truncated += 1
            self._ancillary_size = min(2 * self._ancillary_size, ANCILLARY_SIZE_LIMIT)
            if not segment and self.features.gro:
                return None  # may be many datagrams, and nobody knows where to cut: lost
        datagrams = [data]
        if 0 < segment < size:
            datagrams = [data[start : start + segment] for start in range(0, size, segment)]
        self.datagrams_received += len(datagrams)
        return Received(datagrams, remote, local or self._fixed_host, ecn)

    def _receive_plain(self) -> Received:
        size, source = self._sock.recvfrom_into(self._buffer)
        remote = self._book.seen(source or self._peer)
        self.receives += 1
        self.datagrams_received += 1
        self.bytes_received += size
        return Received([bytes(memoryview(self._buffer)[:size])], remote, self._fixed_host, 0)

    def watch_errors(self, is_wanted: bool) -> None:
        """Have the system keep what ICMP says of each peer, for `next_error`; or stop, and drop what was kept.

        While it is watched the socket counts as readable until `next_error` gave all. Not to be left on: anybody can forge
        ICMP. Nothing where the system cannot do it (other than Linux).
        """
        wanted = is_wanted and self.features.msg and ERROR_QUEUE != 0
        self._is_watching_errors = report_errors(self._sock, self._numbers, wanted) and wanted

    def next_error(self) -> tuple[int, Address] | None:
        """The next error that the system reports of a peer: errno and the peer's address; None when there is no more."""
        while self._is_watching_errors:
            try:
                _, items, _, peer = self._sock.recvmsg(0, ANCILLARY_SIZE_LIMIT, ERROR_QUEUE)
                address = address_from_system(peer)
            except ValueError:
                continue
            except OSError:
                return None
            for level, kind, data in items:
                if (level, kind) in self._numbers.error_items():
                    return int.from_bytes(data[:4], sys.byteorder), address
        return None

    # --- sending -----------------------------------------------------------------------------------------------------

    def send(self, transmit: Transmit) -> bool:
        """Send a batch. False: the socket would block, and `transmit` now holds the datagrams that did not go.

        True says that the system took the datagrams or refused them for good, in which case they are lost and counted.
        """
        datagrams = transmit.datagrams
        try:
            destination = self._destination(transmit.remote)
        except (ValueError, TypeError) as error:
            self._drop(len(datagrams), error)
            return True
        local = transmit.local if isinstance(transmit.local, str) else None
        is_ipv4 = ":" not in str(transmit.remote[0]) if isinstance(transmit.remote, tuple) else True
        batching = self.features.gso
        suspicion = 0
        position = 0
        count = len(datagrams)
        while position < count:
            end = run_end(datagrams, position) if batching else position + 1
            segment = len(datagrams[position]) if end - position > 1 else 0
            run = datagrams if end - position == count else datagrams[position:end]
            code = self._write(run, self._ancillary.outgoing(is_ipv4, transmit.ecn, local, segment), destination)
            if code == errno.EINVAL and not segment and transmit.ecn and self.features.ecn:
                code = self._write(run, self._ancillary.outgoing(is_ipv4, 0, local, 0), destination)
                if code == 0:
                    self._give_up(ecn=False)
            if code == WOULD_BLOCK:
                del datagrams[:position]
                return False
            if segment and code in GSO_REFUSED:
                batching = False
                suspicion = code
                if code == errno.EIO:
                    self._give_up(gso=False)
                continue
            if code == 0:
                if suspicion == errno.EINVAL:
                    self._give_up(gso=False)
                    suspicion = 0
                self.datagrams_sent += end - position
            elif code in (errno.EMSGSIZE, WSAEMSGSIZE):
                self.datagrams_too_large += end - position
            else:
                self.datagrams_dropped += end - position
            position = end
        return True

    def _write(self, run: list[bytes], items: list[Item], destination: SocketAddress | None) -> int:
        """One system call. Returns 0, `WOULD_BLOCK`, or the errno of what is not to be waited for."""
        try:
            if self.features.msg:
                self.bytes_sent += self._sock.sendmsg(run, items, 0, destination)
            elif destination is None:
                self.bytes_sent += self._sock.send(run[0])
            else:
                self.bytes_sent += self._sock.sendto(run[0], destination)
        except (BlockingIOError, InterruptedError):
            return WOULD_BLOCK
        except OSError as error:
            self._note(error)
            return error.errno or errno.EIO
        self.sends += 1
        return 0

    def _destination(self, remote: Hashable) -> SocketAddress | None:
        """Where to send; None on a connected socket, which some systems refuse to give an address."""
        if self._peer is None:
            return self._book.destination(remote)
        if remote != self._peer:
            raise ValueError(f"the socket is connected to {self._peer!r} and cannot reach {remote!r}")
        return None

    def _drop(self, count: int, error: Exception) -> None:
        self.datagrams_dropped += count
        self._note(error)

    def _note(self, error: Exception) -> None:
        """Remember an error without its traceback, which would keep frames, and through them this socket, alive."""
        if not isinstance(error, OSError):
            error = OSError(errno.EINVAL, str(error))
        self.last_error = error.with_traceback(None)

    def _give_up(self, **abilities: bool) -> None:
        self.features = self._ancillary.features = replace(self.features, **abilities)
        self._ancillary.forget()

    # --- what kind of socket it is -----------------------------------------------------------------------------------

    def _connected_to(self) -> Address | None:
        peer: Any
        try:
            peer = self._sock.getpeername()
        except OSError:
            return None
        return address_from_system(peer)

    def _bound_host(self) -> str | None:
        """The one local host, or None while the socket is bound to all of them, or not bound yet."""
        try:
            host, port = address_from_system(self._sock.getsockname())
        except OSError:  # Windows, when not bound
            return None
        return None if port == 0 or host in ("::", "0.0.0.0") else host
