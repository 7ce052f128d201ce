"""Batches in and out of a real socket, on every fallback: `quicio.udp.socket`."""

from __future__ import annotations

import dataclasses
import errno
import gc
import select
import socket
import sys
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quicio.quic.transmit import Received, Transmit
from quicio.udp.cmsg import ANCILLARY_SIZE_LIMIT
from quicio.udp.offload import MAX_BATCH_BYTES, MAX_SEGMENTS, Features, option_numbers, platform_features
from quicio.udp.socket import RECEIVE_ERROR_LIMIT, UdpSocket, open_socket, run_end

Keep = Callable[[UdpSocket], UdpSocket]
Collect = Callable[[UdpSocket, int], list[Received]]

ALL = platform_features()
NO_OFFLOAD = dataclasses.replace(ALL, gso=False, gro=False)
SHAPES = {
    "all": ALL,
    "no-gso": dataclasses.replace(ALL, gso=False),
    "no-gro": dataclasses.replace(ALL, gro=False),
    "no-ecn": dataclasses.replace(ALL, ecn=False),
    "no-pktinfo": dataclasses.replace(ALL, pktinfo=False),
    "no-dont-fragment": dataclasses.replace(ALL, dont_fragment=False),
    "macos": Features(msg=True, ecn=True, pktinfo=True, dont_fragment=True),
    "bare-msg": Features(msg=True),
    "windows": Features(dont_fragment=True),
    "nothing": Features(),
}


class ScriptedSocket(socket.socket):
    """A real socket whose next calls fail as the test says: one error number a call, 0 for a call that works.

    `refuse(datagrams, ancillary)` may also decide: a number other than 0 is raised.
    """

    def __init__(self, family: int = socket.AF_INET) -> None:
        super().__init__(family, socket.SOCK_DGRAM)
        self.bind(("127.0.0.1", 0))
        self.send_errors: deque[int] = deque()
        self.receive_errors: deque[int] = deque()
        self.refuse: Callable[[list[bytes], list[Any]], int] = lambda datagrams, ancillary: 0
        self.sent: list[int] = []  # datagrams of each call that worked

    def sendmsg(self, buffers: Any, ancillary: Any = (), flags: int = 0, address: Any = None, /) -> int:
        code = self.send_errors.popleft() if self.send_errors else self.refuse(list(buffers), list(ancillary))
        if code:
            raise OSError(code, "scripted")
        size = super().sendmsg(buffers, ancillary, flags, address)
        self.sent.append(len(buffers))
        return size

    def recvmsg(self, *sizes: int) -> Any:
        if self.receive_errors:
            raise OSError(self.receive_errors.popleft(), "scripted")
        return super().recvmsg(*sizes)


class PlainSocket(socket.socket):
    """A socket of Windows: it has neither `sendmsg` nor `recvmsg`."""

    sendmsg: Any = property()  # reading it raises AttributeError, as on Windows
    recvmsg: Any = property()


@pytest.fixture
def scripted() -> ScriptedSocket:
    return ScriptedSocket()


@pytest.fixture
def sender(scripted: ScriptedSocket, keep: Keep) -> UdpSocket:
    """A socket over `scripted`."""
    return keep(UdpSocket(scripted))


@pytest.fixture
def receiver(keep: Keep) -> UdpSocket:
    return keep(UdpSocket.bind("127.0.0.1"))


def batch_of(count: int, size: int = 1200) -> list[bytes]:
    return [bytes([index]) * size for index in range(count)]


def flattened(batches: list[Received]) -> list[bytes]:
    return [datagram for batch in batches for datagram in batch.datagrams]


# --- every shape of platform -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("wildcard", [False, True], ids=["bound", "wildcard"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_batch_crosses_on_every_shape(
    shape: str, wildcard: bool, loopback: str, keep: Keep, collect: Collect
) -> None:
    features = SHAPES[shape]
    a = keep(UdpSocket.bind(None if wildcard else loopback, features=features))
    b = keep(UdpSocket.bind(None if wildcard else loopback, features=features))
    fixed = {} if wildcard else {"pktinfo": False}
    assert a.features == dataclasses.replace(features, **fixed)
    datagrams = [*batch_of(20), b"short"]
    transmit = Transmit(list(datagrams), (loopback, b.local_address[1]), loopback, ecn=2)
    assert a.send(transmit) is True
    batches = collect(b, 21)
    assert flattened(batches) == datagrams
    assert {batch.remote for batch in batches} == {(loopback, a.local_address[1])}
    assert {batch.ecn for batch in batches} == {2 if features.ecn else 0}
    assert {batch.local for batch in batches} == {loopback if features.pktinfo or not wildcard else None}
    assert len(batches) == (1 if features.gso and features.gro else 21)
    assert a.sends == (1 if features.gso else 21)
    assert b.receives == len(batches)
    assert (a.datagrams_sent, b.datagrams_received) == (21, 21)
    assert a.bytes_sent == b.bytes_received == sum(map(len, datagrams))
    assert a.last_error is None
    assert b.receive() is None


@pytest.mark.parametrize("ecn", [0, 1, 2, 3])
def test_each_codepoint_crosses(ecn: int, loopback: str, keep: Keep, collect: Collect) -> None:
    a = keep(UdpSocket.bind(None))
    b = keep(UdpSocket.bind(None))
    a.send(Transmit([b"marked"], (loopback, b.local_address[1]), ecn=ecn))
    assert [batch.ecn for batch in collect(b, 1)] == [ecn]


def test_the_source_address_is_the_one_asked_for(keep: Keep, collect: Collect) -> None:
    server = keep(UdpSocket.bind(None))
    client = keep(UdpSocket.bind("127.0.0.1"))
    client.send(Transmit([b"hello"], ("127.0.0.77", server.local_address[1])))
    (request,) = collect(server, 1)
    assert request.local == "127.0.0.77"
    server.send(Transmit([b"answer"], request.remote, request.local))
    (answer,) = collect(client, 1)
    assert answer.remote == ("127.0.0.77", server.local_address[1])


def test_a_socket_without_sendmsg_and_recvmsg_is_found_out(keep: Keep, collect: Collect) -> None:
    raw = PlainSocket(socket.AF_INET, socket.SOCK_DGRAM)
    raw.bind(("127.0.0.1", 0))
    sock = keep(UdpSocket(raw))
    assert sock.features == Features(dont_fragment=ALL.dont_fragment)
    sock.send(Transmit(batch_of(3), sock.local_address, ecn=2))
    assert flattened(collect(sock, 3)) == batch_of(3)


def test_empty_datagrams_are_given_out(loopback: str, keep: Keep, collect: Collect) -> None:
    """Security row 24: whoever counts must see them."""
    for features in (ALL, Features()):
        a = keep(UdpSocket.bind(loopback, features=features))
        a.send(Transmit([b"", b"", b"full"], a.local_address))
        assert sorted(flattened(collect(a, 3))) == [b"", b"", b"full"]
        assert a.datagrams_sent == 3


@pytest.mark.parametrize("shape", ["all", "windows"])
def test_a_connected_socket_is_sent_on_without_an_address(shape: str, keep: Keep, collect: Collect) -> None:
    server = keep(UdpSocket.bind("127.0.0.1"))
    raw = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    raw.connect(("127.0.0.1", server.local_address[1]))
    client = keep(UdpSocket(raw, features=SHAPES[shape]))
    client.send(Transmit([b"hello"], server.local_address))
    (request,) = collect(server, 1)
    server.send(Transmit([b"answer"], request.remote))
    (answer,) = collect(client, 1)
    assert answer.remote == server.local_address
    client.send(Transmit([b"elsewhere"], ("127.0.0.1", 9)))
    assert client.datagrams_dropped == 1
    assert "connected" in str(client.last_error)


# --- batches ---------------------------------------------------------------------------------------------------------


def test_more_than_a_batch_holds_is_split(keep: Keep, collect: Collect) -> None:
    a = keep(UdpSocket.bind("127.0.0.1"))
    datagrams = batch_of(150, 100) + batch_of(100, 1452) + [b"a" * 40_000, b"b" * 40_000]
    a.send(Transmit(list(datagrams), a.local_address))
    assert flattened(collect(a, len(datagrams))) == datagrams
    assert a.features == dataclasses.replace(ALL, pktinfo=False), "the kernel refused no batch"
    if ALL.gso:
        assert a.sends == 3 + 3 + 2  # 64, 64, 22; 44, 44, 12; one, one


@given(st.lists(st.sampled_from([0, 1, 100, 1200, 1452, 33_000, 65_000]), min_size=1, max_size=150))
def test_runs_obey_the_kernels_rules(sizes: list[int]) -> None:
    """Demand: uniform runs. The kernel cuts at one size, so a run that is not uniform would be cut in the wrong places."""
    datagrams = [bytes(size) for size in sizes]
    start = 0
    while start < len(datagrams):
        end = run_end(datagrams, start)
        run = sizes[start:end]
        assert end > start
        assert len(set(run[:-1])) <= 1
        assert run[-1] <= run[0]
        if len(run) > 1:
            assert len(run) <= MAX_SEGMENTS
            assert sum(run) <= MAX_BATCH_BYTES
            assert min(run) > 0
        start = end


# --- errors of sending -----------------------------------------------------------------------------------------------

needs_gso = pytest.mark.skipif(not ALL.gso, reason="GSO is Linux's")


def test_would_block_leaves_the_transmit_with_the_caller(
    scripted: ScriptedSocket, sender: UdpSocket, receiver: UdpSocket, collect: Collect
) -> None:
    scripted.send_errors.append(errno.EAGAIN)
    transmit = Transmit(batch_of(5), receiver.local_address)
    assert sender.send(transmit) is False
    assert transmit.datagrams == batch_of(5)
    assert sender.send(transmit) is True
    assert flattened(collect(receiver, 5)) == batch_of(5)
    assert sender.last_error is None


def test_would_block_in_the_middle_leaves_the_rest(receiver: UdpSocket, keep: Keep, collect: Collect) -> None:
    scripted = ScriptedSocket()
    sender = keep(UdpSocket(scripted, features=NO_OFFLOAD))
    scripted.send_errors.extend([0, 0, errno.EAGAIN])
    transmit = Transmit(batch_of(5), receiver.local_address)
    assert sender.send(transmit) is False
    assert transmit.datagrams == batch_of(5)[2:]
    assert sender.send(transmit) is True
    assert flattened(collect(receiver, 5)) == batch_of(5)


def test_a_full_socket_would_block(keep: Keep) -> None:
    """The real thing: a pair of sockets whose sender's buffer is full."""
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)

    class Full(socket.socket):
        def sendto(self, data: Any, *address: Any) -> int:
            return left.send(data)

    with left, right:
        left.setblocking(False)
        sock = keep(UdpSocket(Full(socket.AF_INET, socket.SOCK_DGRAM), features=Features()))
        transmit = Transmit([bytes(1000)] * 100_000, ("127.0.0.1", 9))
        assert sock.send(transmit) is False
        assert len(transmit.datagrams) + sock.datagrams_sent == 100_000


@needs_gso
def test_eio_disables_gso_for_good(
    scripted: ScriptedSocket, sender: UdpSocket, receiver: UdpSocket, collect: Collect
) -> None:
    scripted.send_errors.append(errno.EIO)
    assert sender.send(Transmit(batch_of(5), receiver.local_address)) is True
    assert flattened(collect(receiver, 5)) == batch_of(5)
    assert not sender.features.gso
    sender.send(Transmit(batch_of(5), receiver.local_address))
    assert scripted.sent == [1] * 10
    assert (sender.datagrams_sent, sender.datagrams_dropped) == (10, 0)


@needs_gso
def test_einval_disables_gso_when_single_datagrams_pass(
    scripted: ScriptedSocket, sender: UdpSocket, receiver: UdpSocket, collect: Collect
) -> None:
    scripted.send_errors.append(errno.EINVAL)
    sender.send(Transmit(batch_of(5), receiver.local_address))
    assert flattened(collect(receiver, 5)) == batch_of(5)
    assert not sender.features.gso


@needs_gso
def test_einval_that_single_datagrams_meet_too_is_not_gsos_fault(scripted: ScriptedSocket, sender: UdpSocket) -> None:
    scripted.refuse = lambda datagrams, ancillary: errno.EINVAL
    assert sender.send(Transmit(batch_of(5), ("127.0.0.1", 9), ecn=2)) is True
    assert sender.features.gso
    assert sender.features.ecn
    assert sender.datagrams_dropped == 5
    assert isinstance(sender.last_error, OSError)
    assert sender.last_error.errno == errno.EINVAL


@needs_gso
def test_emsgsize_of_a_batch_keeps_gso_and_loses_what_is_too_large(
    scripted: ScriptedSocket, sender: UdpSocket, receiver: UdpSocket, collect: Collect
) -> None:
    scripted.refuse = lambda datagrams, ancillary: errno.EMSGSIZE if len(datagrams[0]) > 1400 else 0
    sender.send(Transmit([*batch_of(2, 1452), b"tail"], receiver.local_address))
    assert flattened(collect(receiver, 1)) == [b"tail"]
    assert sender.datagrams_too_large == 2
    assert sender.features.gso
    sender.send(Transmit(batch_of(3), receiver.local_address))
    assert scripted.sent[-1] == 3


@needs_gso
def test_a_would_block_after_a_refused_batch_keeps_the_rest(scripted: ScriptedSocket, sender: UdpSocket) -> None:
    scripted.send_errors.extend([errno.EINVAL, errno.EAGAIN])
    transmit = Transmit(batch_of(5), ("127.0.0.1", 9))
    assert sender.send(transmit) is False
    assert transmit.datagrams == batch_of(5)
    assert sender.features.gso, "nothing is proven yet"


def test_a_system_that_refuses_ecn_is_sent_to_without(
    scripted: ScriptedSocket, sender: UdpSocket, receiver: UdpSocket, collect: Collect
) -> None:
    scripted.refuse = lambda datagrams, items: errno.EINVAL if any(item[:2] == (0, 1) for item in items) else 0
    sender.send(Transmit(batch_of(1), receiver.local_address, ecn=2))
    sender.send(Transmit(batch_of(1), receiver.local_address, ecn=2))
    assert [batch.ecn for batch in collect(receiver, 2)] == [0, 0]
    assert not sender.features.ecn
    assert scripted.sent == [1, 1]


def test_a_datagram_above_the_limit_is_a_lost_probe(loopback: str, keep: Keep) -> None:
    """A real EMSGSIZE: what path MTU discovery meets (RFC 8899)."""
    for features in (ALL, Features()):
        sock = keep(UdpSocket.bind(loopback, features=features))
        assert sock.send(Transmit([bytes(65_530)], sock.local_address)) is True
        assert sock.datagrams_too_large == 1
        assert (sock.datagrams_sent, sock.datagrams_dropped) == (0, 0)
        assert sock.last_error is not None
        assert sock.last_error.errno == errno.EMSGSIZE


@pytest.mark.parametrize(
    "code",
    [
        errno.ECONNREFUSED,
        errno.ENETUNREACH,
        errno.EHOSTUNREACH,
        errno.ENOBUFS,
        errno.EPERM,
        errno.EACCES,
        errno.ENETDOWN,
        errno.EADDRNOTAVAIL,
    ],
)
def test_what_the_network_refuses_is_lost_not_raised(code: int, scripted: ScriptedSocket, sender: UdpSocket) -> None:
    scripted.refuse = lambda datagrams, ancillary: code
    assert sender.send(Transmit(batch_of(3), ("127.0.0.1", 9))) is True
    assert sender.datagrams_dropped == 3
    assert sender.last_error is not None
    assert sender.last_error.errno == code


@pytest.mark.parametrize(
    "remote", [("localhost", 443), ("2001:db8::1", 443), ("127.0.0.1", 0), None, ["127.0.0.1", 443], "127.0.0.1"]
)
def test_an_impossible_destination_loses_its_datagrams(remote: Any, sender: UdpSocket) -> None:
    assert sender.send(Transmit(batch_of(3), remote)) is True
    assert sender.datagrams_dropped == 3
    assert sender.last_error is not None


def test_errors_keep_nothing_alive() -> None:
    sock = UdpSocket.bind("127.0.0.1")
    alive = weakref.ref(sock)
    gc.disable()
    try:
        sock.send(Transmit([bytes(65_530)], sock.local_address))
        assert sock.last_error is not None
        sock.close()
        del sock
        assert alive() is None
    finally:
        gc.enable()


# --- errors of receiving ---------------------------------------------------------------------------------------------


def test_errors_before_a_datagram_are_passed_over(
    scripted: ScriptedSocket, sender: UdpSocket, collect: Collect
) -> None:
    """Security row 17: what ICMP says is neither believed nor fatal."""
    sender.send(Transmit([b"after"], sender.local_address))
    scripted.receive_errors.extend([errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH, errno.EMSGSIZE])
    assert flattened(collect(sender, 1)) == [b"after"]
    assert sender.receive_errors == 4
    assert sender.last_error is not None


def test_endless_errors_give_the_loop_a_chance(scripted: ScriptedSocket, sender: UdpSocket) -> None:
    scripted.receive_errors.extend([errno.ENETDOWN] * (RECEIVE_ERROR_LIMIT + 5))
    assert sender.receive() is None
    assert sender.receive_errors == RECEIVE_ERROR_LIMIT


def test_a_real_icmp_refusal_is_not_raised(keep: Keep, collect: Collect) -> None:
    gone = UdpSocket.bind("127.0.0.1")
    remote = gone.local_address
    gone.close()
    raw = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    raw.connect(remote)
    client = keep(UdpSocket(raw))
    for _ in range(3):
        assert client.send(Transmit([b"anybody?"], remote)) is True
        assert client.receive() is None


def test_ancillary_data_that_does_not_fit_makes_room(keep: Keep, collect: Collect) -> None:
    sock = keep(UdpSocket.bind(None, ancillary_size=16))
    loop = ("127.0.0.1", sock.local_address[1])
    for _ in range(5):
        sock.send(Transmit(batch_of(4), loop, ecn=2))
    batches = collect(sock, 16)
    assert [batch.datagrams for batch in batches] == [batch_of(4)] * 4, "the first is lost: nobody knows where to cut"
    assert batches[-1].ecn == 2
    assert batches[-1].local == "127.0.0.1"
    assert sock.batches_truncated == 3
    sock = keep(UdpSocket.bind(None, ancillary_size=16, features=NO_OFFLOAD))
    sock.send(Transmit([b"single"], ("127.0.0.1", sock.local_address[1]), ecn=2))
    assert flattened(collect(sock, 1)) == [b"single"]
    assert sock.batches_truncated == 1


def test_room_for_ancillary_data_is_bounded(keep: Keep, collect: Collect) -> None:
    class Truncating(ScriptedSocket):
        def recvmsg(self, *sizes: int) -> Any:
            data, items, _, source = super().recvmsg(*sizes)
            rooms.append(sizes[1])
            return data, items, socket.MSG_CTRUNC, source

    rooms: list[int] = []
    sock = keep(UdpSocket(Truncating(), features=NO_OFFLOAD))
    for _ in range(10):
        sock.send(Transmit([b"single"], sock.local_address))
    collect(sock, 10)
    assert rooms[-1] == ANCILLARY_SIZE_LIMIT
    assert max(rooms) == ANCILLARY_SIZE_LIMIT


def test_a_source_that_cannot_be_read_loses_its_datagram(keep: Keep) -> None:
    class Odd(ScriptedSocket):
        def recvmsg(self, *sizes: int) -> Any:
            data, items, flags, _ = super().recvmsg(*sizes)
            return data, items, flags, ("nowhere", 1)

    sock = keep(UdpSocket(Odd()))
    sock.send(Transmit([b"lost"], sock.local_address))
    assert sock.receive() is None
    assert sock.receive_errors == 1


# --- options ---------------------------------------------------------------------------------------------------------


def test_forged_icmp_cannot_shrink_or_fragment(keep: Keep) -> None:
    """Security row 17: IP_PMTUDISC_PROBE, at both levels of a dual-stack socket."""
    numbers = option_numbers()
    for host in ("127.0.0.1", None):
        raw = open_socket(host, 0)
        assert keep(UdpSocket(raw)).features.dont_fragment
        option, value = numbers.ip_dont_fragment
        assert raw.getsockopt(socket.IPPROTO_IP, option) == value
        if raw.family == socket.AF_INET6:
            option, value = numbers.ipv6_dont_fragment
            assert raw.getsockopt(socket.IPPROTO_IPV6, option) == value


def test_buffers_are_larger_than_the_default(receiver: UdpSocket) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        assert receiver.receive_buffer_size > plain.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        assert receiver.send_buffer_size > plain.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)


# --- opening and closing ---------------------------------------------------------------------------------------------


def test_one_socket_serves_both_families(loopback: str, keep: Keep, collect: Collect) -> None:
    server = keep(UdpSocket.bind(None))
    client = keep(UdpSocket.bind(loopback))
    client.send(Transmit([b"hello"], (loopback, server.local_address[1])))
    (request,) = collect(server, 1)
    assert request.remote == client.local_address, "one peer, one address: never the mapped form"


class NoIPv6:
    """Makes sockets on a host whose kernel lacks IPv6, or whose interfaces do."""

    def __init__(self, code: int, stage: str) -> None:
        self.code = code
        self.stage = stage
        self.closed = 0

    def __call__(self, family: int, kind: int) -> socket.socket:
        if family != socket.AF_INET6:
            return socket.socket(family, kind)
        if self.stage == "create":
            raise OSError(self.code, "scripted")
        maker = self

        class Broken(socket.socket):
            def bind(self, address: Any) -> None:
                raise OSError(maker.code, "scripted")

            def setsockopt(self, *arguments: Any) -> None:
                if maker.stage == "option":
                    raise OSError(maker.code, "scripted")

            def close(self) -> None:
                maker.closed += 1
                super().close()

        return Broken(socket.AF_INET, kind)


@pytest.mark.parametrize(
    ("code", "stage"),
    [
        (errno.EAFNOSUPPORT, "create"),
        (errno.EADDRNOTAVAIL, "bind"),
        (errno.EINVAL, "option"),
        (errno.ENOPROTOOPT, "option"),
    ],
)
def test_a_host_without_ipv6_gets_ipv4(code: int, stage: str) -> None:
    maker = NoIPv6(code, stage)
    with open_socket(None, 0, create=maker) as sock:
        assert sock.family == socket.AF_INET
        assert sock.getsockname()[0] == "0.0.0.0"
    assert maker.closed == (0 if stage == "create" else 1)


def test_a_port_in_use_is_no_reason_to_fall_back() -> None:
    maker = NoIPv6(errno.EADDRINUSE, "bind")
    with pytest.raises(OSError, match="scripted"):
        open_socket(None, 0, create=maker)
    assert maker.closed == 1


def test_an_explicit_ipv6_host_has_no_fallback() -> None:
    with pytest.raises(OSError, match="scripted"):
        open_socket("::", 0, create=NoIPv6(errno.EAFNOSUPPORT, "create"))


def test_a_port_in_use_is_reported(receiver: UdpSocket) -> None:
    with pytest.raises(OSError, match=r"in use|permitted") as raised:
        UdpSocket.bind("127.0.0.1", receiver.local_address[1])
    assert raised.value.errno == errno.EADDRINUSE


def test_reuse_port_shares_a_port(keep: Keep) -> None:
    if not hasattr(socket, "SO_REUSEPORT"):
        with pytest.raises(ValueError, match="reuse_port"):
            UdpSocket.bind("127.0.0.1", reuse_port=True)
        return
    first = keep(UdpSocket.bind("127.0.0.1", reuse_port=True))
    second = keep(UdpSocket.bind("127.0.0.1", first.local_address[1], reuse_port=True))
    assert second.local_address == first.local_address


def test_reuse_port_says_where_it_is_missing() -> None:
    with pytest.raises(ValueError, match="leave it out"):
        open_socket("127.0.0.1", 0, reuse_port=True, reuse_option=None)


def test_a_name_is_not_bound() -> None:
    with pytest.raises(ValueError, match="resolve host names first"):
        UdpSocket.bind("localhost")


def test_a_failure_while_taking_over_closes_what_was_opened() -> None:
    with pytest.raises(TypeError):
        UdpSocket.bind("127.0.0.1", features=cast(Features, object()))
    gc.collect()  # an open socket would be a ResourceWarning, which is an error here


def test_only_udp_sockets_are_taken() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as stream,
        pytest.raises(ValueError, match="not a UDP socket"),
    ):
        UdpSocket(stream)
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with left, right, pytest.raises(ValueError, match="not a UDP socket"):
        UdpSocket(left)


def test_a_socket_taken_over_no_longer_blocks(keep: Keep) -> None:
    raw = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    raw.settimeout(60)
    sock = keep(UdpSocket(raw))
    assert sock.receive() is None
    assert sock.family == socket.AF_INET
    assert sock.local_address == ("0.0.0.0", 0)


def test_an_unbound_socket_of_windows_has_no_name(keep: Keep) -> None:
    class Unbound(socket.socket):
        def getsockname(self) -> Any:
            raise OSError(10022, "WSAEINVAL")

    assert keep(UdpSocket(Unbound(socket.AF_INET, socket.SOCK_DGRAM))).features == ALL


def test_a_closed_socket_is_silent() -> None:
    with UdpSocket.bind("127.0.0.1") as sock:
        address = sock.local_address
        assert sock.fileno() >= 0
    sock.close()
    assert sock.fileno() == -1
    assert sock.receive() is None
    assert sock.send(Transmit([b"late"], address)) is True
    assert sock.datagrams_dropped == 1
    assert sock.receive_errors == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells which peer an ICMP message is about")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_refusals_are_told_with_their_address_while_they_are_watched(host: str) -> None:
    with UdpSocket.bind(host) as probe:
        nobody = probe.local_address
    with UdpSocket.bind(None) as sock:
        assert sock.next_error() is None
        sock.watch_errors(True)
        sock.send(Transmit([b"anybody?"], nobody))
        select.select([sock], [], [], 5)
        assert sock.receive() is None
        assert sock.next_error() == (errno.ECONNREFUSED, nobody)
        assert sock.next_error() is None
        sock.send(Transmit([b"anybody?"], nobody))
        select.select([sock], [], [], 5)
        sock.watch_errors(False)
        assert sock.next_error() is None
        sock.receive()  # the pending error
        assert not select.select([sock], [], [], 0)[0]
