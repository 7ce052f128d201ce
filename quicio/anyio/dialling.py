"""Which of a server's addresses answers first: Happy Eyeballs (RFC 8305).

A name often has an IPv6 and an IPv4 address of which one leads nowhere. Attempts are made in the resolver's order with the
families alternating (§4), each `ATTEMPT_DELAY` after the one before, or at once when that one has failed (§5). The first to
complete its handshake wins. The others are cancelled, which closes what they have opened; nothing outlives the race.

An attempt fails by `ConnectError` or `OSError`, which are collected; any other exception is a mistake of the caller's
or of ours, ends the race and leaves as itself, never in a group (rule R3).

What it leaves to others: what an attempt is, and that it cleans up after itself when it fails or is cancelled.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

import anyio

from quicio.errors import Address, ConnectError

__all__ = ["Race", "interleaved"]

ATTEMPT_DELAY: Final = 0.25  # seconds between the starts of two attempts (RFC 8305 §8, Connection Attempt Delay)

T = TypeVar("T")


def interleaved(addresses: Sequence[Address]) -> list[Address]:
    """The addresses with their families alternating, beginning with the first one's (RFC 8305 §4)."""
    if not addresses:
        return []
    is_first = ":" in addresses[0][0]
    one = [address for address in addresses if (":" in address[0]) == is_first]
    other = [address for address in addresses if (":" in address[0]) != is_first]
    result: list[Address] = []
    for index in range(max(len(one), len(other))):
        result += one[index : index + 1] + other[index : index + 1]
    return result


class Race(Generic[T]):
    """Runs `attempt(address)` for the addresses; `discard` undoes what a loser had won in the same turn."""

    def __init__(self, attempt: Callable[[Address], Awaitable[T]], discard: Callable[[T], None]) -> None:
        self._attempt = attempt
        self._discard = discard
        self._winner: list[T] = []
        self._mistake: Exception | None = None
        self._failures: dict[Address, Exception] = {}
        self._order: list[Address] = []

    async def run(self, addresses: Sequence[Address]) -> T | None:
        """What the first attempt to succeed has returned; None when all have failed, as `failures` tells."""
        self._order = list(addresses)
        if len(addresses) == 1:
            return await self._run_alone(addresses[0])
        try:
            async with anyio.create_task_group() as group:
                for address in addresses:
                    has_failed = anyio.Event()
                    group.start_soon(self._run, address, has_failed, group.cancel_scope)
                    with anyio.move_on_after(ATTEMPT_DELAY):
                        await has_failed.wait()
        except BaseException:  # cancelled, perhaps when somebody had won
            while self._winner:
                self._discard(self._winner.pop())
            raise
        if self._winner:
            return self._winner[0]
        if self._mistake is not None:
            raise self._mistake
        return None

    @property
    def failures(self) -> list[tuple[Address, Exception]]:
        """The addresses that were tried, in that order, with what came of it."""
        return [(address, self._failures[address]) for address in self._order if address in self._failures]

    async def _run_alone(self, address: Address) -> T | None:
        """One address has no rivals, and needs no tasks."""
        try:
            return await self._attempt(address)
        except (ConnectError, OSError) as error:
            self._failures[address] = error
            return None

    async def _run(self, address: Address, has_failed: anyio.Event, scope: anyio.CancelScope) -> None:
        try:
            result = await self._attempt(address)
        except (ConnectError, OSError) as error:
            self._failures[address] = error
            has_failed.set()
            return
        except Exception as error:
            self._mistake = self._mistake or error
        else:
            if self._winner:
                self._discard(result)
            else:
                self._winner.append(result)
        scope.cancel()
