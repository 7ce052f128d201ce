"""What the system can do, and how it is asked: `quicio.udp.offload`."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Collection
from typing import Any

import pytest

from quicio.udp.offload import (
    BUFFER_MINIMUM,
    BUFFER_TARGET,
    LINUX,
    MACOS,
    OTHER,
    SOL_UDP,
    UDP_GRO,
    UDP_SEGMENT,
    WINDOWS,
    Features,
    OptionNumbers,
    enable,
    enlarge_buffer,
    option_numbers,
    platform_features,
)

EVERYTHING = Features(msg=True, gso=True, gro=True, ecn=True, pktinfo=True, dont_fragment=True)


class PickySocket(socket.socket):
    """A socket whose system knows only some options, and no buffer above `largest_buffer`; it keeps a log."""

    def __init__(self, family: int = socket.AF_INET, *, refused: Collection[tuple[int, int]] = ()) -> None:
        super().__init__(family, socket.SOCK_DGRAM)
        self.refused = refused
        self.largest_buffer = 1 << 30
        self.buffer = 200_000
        self.asked: list[tuple[int, int, int]] = []

    def setsockopt(self, level: int, option: int, value: Any, *rest: Any) -> None:
        self.asked.append((level, option, value))
        if (level, option) in self.refused:
            raise OSError(92, "Protocol not available")
        if level == socket.SOL_SOCKET:
            if value > self.largest_buffer:
                raise OSError(105, "No buffer space available")
            self.buffer = value

    def getsockopt(self, level: int, option: int, *rest: Any) -> Any:
        return self.buffer if level == socket.SOL_SOCKET else 0


def test_each_platform_has_its_numbers_and_what_is_worth_trying() -> None:
    assert option_numbers("linux") is LINUX
    assert option_numbers("android") is LINUX
    assert option_numbers("darwin") is MACOS
    assert option_numbers("win32") is WINDOWS
    assert option_numbers("freebsd14") is OTHER
    assert platform_features("linux") == platform_features("android") == EVERYTHING
    assert platform_features("darwin") == dataclasses.replace(EVERYTHING, gso=False, gro=False)
    assert platform_features("win32") == Features(dont_fragment=True)
    assert platform_features("sunos5") == Features(msg=hasattr(socket.socket, "recvmsg"))


@pytest.mark.parametrize("feature", [field.name for field in dataclasses.fields(Features)])
def test_what_is_not_wanted_is_not_asked_for(feature: str) -> None:
    with PickySocket() as sock:
        granted = enable(sock, dataclasses.replace(EVERYTHING, **{feature: False}), LINUX)
    expected = Features(dont_fragment=True) if feature == "msg" else dataclasses.replace(EVERYTHING, **{feature: False})
    assert granted == expected
    wanted_options = {"gso": (17, 103), "gro": (17, 104), "ecn": (0, 13), "pktinfo": (0, 8), "dont_fragment": (0, 10)}
    if feature in wanted_options:
        assert wanted_options[feature] not in [(level, option) for level, option, _ in sock.asked]


@pytest.mark.parametrize(
    ("refused", "feature"),
    [
        ((SOL_UDP, UDP_SEGMENT), "gso"),
        ((SOL_UDP, UDP_GRO), "gro"),
        ((0, 13), "ecn"),
        ((0, 8), "pktinfo"),
        ((0, 10), "dont_fragment"),
    ],
)
def test_what_the_system_refuses_is_not_used(refused: tuple[int, int], feature: str) -> None:
    with PickySocket(refused={refused}) as sock:
        assert enable(sock, EVERYTHING, LINUX) == dataclasses.replace(EVERYTHING, **{feature: False})


def test_a_dual_stack_socket_is_asked_at_both_levels_and_ipv6_decides() -> None:
    with PickySocket(socket.AF_INET6, refused={(0, 13), (0, 8)}) as sock:
        assert enable(sock, EVERYTHING, LINUX) == EVERYTHING
    assert {(0, 13, 1), (41, 66, 1), (0, 8, 1), (41, 49, 1), (0, 10, 3), (41, 23, 3)} <= set(sock.asked)
    with PickySocket(socket.AF_INET6, refused={(41, 66)}) as sock:
        assert enable(sock, EVERYTHING, LINUX) == dataclasses.replace(EVERYTHING, ecn=False)


def test_a_platform_without_numbers_gets_no_options() -> None:
    for family in (socket.AF_INET, socket.AF_INET6):
        with PickySocket(family) as sock:
            granted = enable(sock, Features(msg=True, ecn=True, pktinfo=True, dont_fragment=True), OTHER)
        assert granted == Features(msg=True)
        assert sock.asked == []


def test_buffers_are_asked_for_until_the_system_agrees() -> None:
    with PickySocket() as sock:
        sock.largest_buffer = BUFFER_TARGET // 4
        assert enlarge_buffer(sock, socket.SO_RCVBUF) == BUFFER_TARGET // 4
        assert [value for _, _, value in sock.asked] == [BUFFER_TARGET, BUFFER_TARGET // 2, BUFFER_TARGET // 4]


def test_a_stingy_system_is_left_alone() -> None:
    with PickySocket() as sock:
        sock.largest_buffer = 1
        sock.buffer = 1
        assert enlarge_buffer(sock, socket.SO_RCVBUF) == 1
        assert sock.asked[-1][2] == BUFFER_MINIMUM


def test_a_larger_buffer_is_not_made_smaller() -> None:
    with PickySocket() as sock:
        sock.buffer = 2 * BUFFER_TARGET
        assert enlarge_buffer(sock, socket.SO_SNDBUF) == 2 * BUFFER_TARGET
        assert sock.asked == []


@pytest.mark.parametrize(
    "name", [field.name for field in dataclasses.fields(OptionNumbers) if "dont" not in field.name]
)
def test_our_numbers_agree_with_those_that_python_names(name: str) -> None:
    ours = getattr(option_numbers(), name)
    assert getattr(socket, name.upper(), ours) == ours
