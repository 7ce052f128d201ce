"""Bursts, turns, quanta and deadlines: `quicio.udp.engine`, on a scripted socket and connections of a few lines."""

from __future__ import annotations

import ast
import gc
import socket
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path
from typing import Any, cast

import pytest

import quicio.udp.engine
from quicio.quic.transmit import Received, Transmit
from quicio.udp.engine import BLOCKED_PATIENCE, FLUSH_ROUNDS, POSTED_LIMIT, RECEIVE_BURST, TRANSMIT_QUANTUM, Engine
from quicio.udp.socket import UdpSocket

REMOTE = ("127.0.0.1", 4433)


class ScriptedUdpSocket(UdpSocket):
    """Gives out `arriving`, keeps what is sent in `sent`, and blocks once `room` transmits are used up."""

    def __init__(self) -> None:
        super().__init__(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.arriving: deque[Received] = deque()
        self.sent: list[Transmit] = []
        self.room = 1 << 30

    def receive(self) -> Received | None:
        return self.arriving.popleft() if self.arriving else None

    def send(self, transmit: Transmit) -> bool:
        if self.room == 0:
            return False
        self.room -= 1
        self.sent.append(transmit)
        return True


class FakeConnection:
    """Has `wanted` datagrams to send and a timer; `trace` tells what was done to it."""

    def __init__(self, name: str, *, wanted: int = 0, timer: float | None = None) -> None:
        self.name = name
        self.wanted = wanted
        self.timer = timer
        self.timer_after = timer
        self.timer_reads = 0
        self.is_terminated = False
        self.handled: list[float] = []

    def next_transmit(self, now: float, max_datagrams: int = 1) -> Transmit | None:
        count = min(self.wanted, max_datagrams)
        self.wanted -= count
        return Transmit([self.name.encode()] * count, REMOTE) if count else None

    def get_timer(self) -> float | None:
        self.timer_reads += 1
        return self.timer

    def handle_timer(self, now: float) -> None:
        self.handled.append(now)
        self.timer = self.timer_after


class FakeEndpoint:
    """Routes each datagram to the connection of its name."""

    def __init__(self) -> None:
        self.connections: dict[bytes, FakeConnection] = {}
        self.touched: list[FakeConnection] = []
        self.received: list[tuple[Received, float]] = []
        self.answers: deque[Transmit] = deque()
        self.deadline = inf
        self.handled: list[float] = []
        self.forgotten: list[FakeConnection] = []

    def forget(self, connection: FakeConnection) -> None:
        self.forgotten.append(connection)

    def add(self, connection: FakeConnection) -> FakeConnection:
        self.connections[connection.name.encode()] = connection
        return connection

    def receive(self, received: Received, now: float) -> None:
        self.received.append((received, now))
        for datagram in received.datagrams:
            connection = self.connections.get(datagram)
            if connection is not None:
                self.touched.append(connection)

    def next_transmit(self) -> Transmit | None:
        return self.answers.popleft() if self.answers else None

    def handle_timer(self, now: float) -> None:
        self.handled.append(now)
        self.deadline = inf


class Bench:
    """An engine over fakes. `events` lists the connections that had a turn; `react` runs in each."""

    def __init__(self) -> None:
        self.sock = ScriptedUdpSocket()
        self.endpoint = FakeEndpoint()
        self.events: list[str] = []
        self.react: Callable[[FakeConnection], None] = lambda connection: None
        self.engine = Engine(self.sock, cast(Any, self.endpoint), on_events=self.on_events)

    def on_events(self, connection: Any) -> None:
        self.events.append(connection.name)
        self.react(connection)

    def arrive(self, *names: str, batch: int = 1) -> None:
        for name in names:
            self.sock.arriving.append(Received([name.encode()] * batch, REMOTE))

    def blocked(self) -> bool:
        return self.engine.is_blocked

    def closed(self) -> bool:
        return self.engine.is_closed

    def connection(self, name: str, *, wanted: int = 0, timer: float | None = 1000.0) -> Any:
        return self.endpoint.add(FakeConnection(name, wanted=wanted, timer=timer))

    def sent(self) -> list[tuple[str, int]]:
        return [(transmit.datagrams[0].decode(), len(transmit.datagrams)) for transmit in self.sock.sent]


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.engine.close()


# --- reading ---------------------------------------------------------------------------------------------------------


def test_a_burst_is_read_before_anybody_has_a_turn(bench: Bench) -> None:
    bench.connection("a", wanted=1)
    bench.connection("b", wanted=1)
    bench.react = lambda connection: order.append(len(bench.endpoint.received))
    order: list[int] = []
    bench.arrive("b", "a", "b", "b")
    assert bench.engine.readable(7.0) is False
    assert [now for _, now in bench.endpoint.received] == [7.0] * 4
    assert bench.events == ["b", "a"], "one turn each, in the order of their input"
    assert order == [4, 4]
    assert bench.sent() == [("b", 1), ("a", 1)]
    assert bench.endpoint.touched == []


def test_the_burst_budget_ends_the_reading(bench: Bench) -> None:
    bench.connection("a")
    bench.arrive(*["a"] * (RECEIVE_BURST + 1))
    assert bench.engine.readable(0.0) is True
    assert len(bench.sock.arriving) == 1
    assert bench.events == ["a"]
    assert bench.engine.readable(0.0) is False
    assert bench.events == ["a", "a"]


def test_a_batch_counts_by_its_datagrams(bench: Bench) -> None:
    bench.arrive(*["x"] * 3, batch=RECEIVE_BURST - 1)
    assert bench.engine.readable(0.0) is True
    assert len(bench.sock.arriving) == 1


def test_empty_datagrams_use_up_the_budget(bench: Bench) -> None:
    """Security row 24: a flood of empty datagrams must not hold the loop."""
    bench.arrive(*[""] * (3 * RECEIVE_BURST))
    assert bench.engine.readable(0.0) is True
    assert len(bench.endpoint.received) == RECEIVE_BURST


def test_input_for_nobody_gives_nobody_a_turn(bench: Bench) -> None:
    bench.arrive("stranger")
    bench.endpoint.answers.append(Transmit([b"version negotiation"], REMOTE))
    assert bench.engine.readable(0.0) is False
    assert bench.events == []
    assert bench.sent() == [("version negotiation", 1)]


def test_an_exception_in_a_turn_leaves_the_others_theirs(bench: Bench) -> None:
    connections = [bench.connection(name, wanted=1) for name in "abc"]

    def fail(connection: FakeConnection) -> None:
        if connection.name == "b":
            raise RuntimeError("the application's")

    bench.react = fail
    bench.arrive("a", "b", "c")
    with pytest.raises(RuntimeError, match="the application's"):
        bench.engine.readable(0.0)
    assert bench.engine.readable(0.0) is False
    assert bench.events == ["a", "b", "c"]
    assert [connection.wanted for connection in connections] == [0, 0, 0]


# --- sending ---------------------------------------------------------------------------------------------------------


def test_quanta_rotate_between_connections(bench: Bench) -> None:
    for name, quanta in (("a", 3), ("b", 1), ("c", 2)):
        bench.engine.touch(bench.connection(name, wanted=quanta * TRANSMIT_QUANTUM))
    assert bench.engine.flush(0.0) is True
    assert [name for name, _ in bench.sent()] == ["a", "b", "c", "a", "c", "a"]
    assert {count for _, count in bench.sent()} == {TRANSMIT_QUANTUM}


def test_a_flush_lets_the_loop_breathe_and_goes_on_at_once(bench: Bench) -> None:
    big = bench.connection("big", wanted=(FLUSH_ROUNDS + 2) * TRANSMIT_QUANTUM)
    small = [bench.connection(f"small{index}", wanted=1) for index in range(3 * FLUSH_ROUNDS)]
    for connection in (big, *small):
        bench.engine.touch(connection)
    assert bench.engine.flush(5.0) is True
    assert big.wanted == 2 * TRANSMIT_QUANTUM
    assert [connection.wanted for connection in small] == [0] * len(small), "everybody is asked in each flush"
    assert bench.engine.is_dirty(big)
    assert bench.engine.deadline == 5.0
    bench.engine.expired(5.0)
    assert big.wanted == 0
    assert bench.engine.deadline == 1000.0


def test_a_touched_connection_is_asked_once(bench: Bench) -> None:
    a = bench.connection("a", wanted=1)
    bench.engine.touch(a)
    bench.engine.touch(a)
    assert bench.engine.is_dirty(a)
    assert bench.engine.flush(0.0) is True
    assert not bench.engine.is_dirty(a)
    assert bench.sent() == [("a", 1)]
    assert a.timer_reads == 1, "one timer read a burst"
    bench.engine.flush(0.0)
    assert a.timer_reads == 1


def test_a_connection_that_fails_to_send_does_not_stop_the_others_for_good(bench: Bench) -> None:
    class Broken(FakeConnection):
        def next_transmit(self, now: float, max_datagrams: int = 1) -> Transmit | None:
            raise RuntimeError("a bug")

    broken: Any = Broken("broken")
    bench.engine.touch(broken)
    bench.engine.touch(bench.connection("a", wanted=1))
    with pytest.raises(RuntimeError, match="a bug"):
        bench.engine.flush(0.0)
    assert bench.engine.flush(0.0) is True
    assert bench.sent() == [("a", 1)]
    bench.engine.touch(broken)
    assert bench.engine.is_dirty(broken)
    with pytest.raises(RuntimeError, match="a bug"):
        bench.engine.flush(0.0)


def test_stateless_answers_go_before_connections(bench: Bench) -> None:
    bench.engine.touch(bench.connection("a", wanted=1))
    bench.endpoint.answers.extend([Transmit([b"retry"], REMOTE), Transmit([b"reset"], REMOTE)])
    bench.engine.flush(0.0)
    assert [name for name, _ in bench.sent()] == ["retry", "reset", "a"]


def test_the_transmit_that_would_block_goes_first_and_once(bench: Bench) -> None:
    a = bench.connection("a", wanted=2 * TRANSMIT_QUANTUM)
    b = bench.connection("b", wanted=1)
    bench.engine.touch(a)
    bench.engine.touch(b)
    bench.sock.room = 1
    assert bench.engine.flush(0.0) is False
    assert bench.blocked()
    assert bench.sent() == [("a", TRANSMIT_QUANTUM)]
    assert b.wanted == 0, "b's transmit is the one that is kept"
    bench.sock.room = 0
    assert bench.engine.flush(1.0) is False
    assert a.wanted == TRANSMIT_QUANTUM, "nobody is asked while the socket would block"
    bench.sock.room = 9
    assert bench.engine.flush(2.0) is True
    assert not bench.blocked()
    assert [name for name, _ in bench.sent()] == ["a", "b", "a"]


def test_a_stateless_answer_may_block_too(bench: Bench) -> None:
    bench.endpoint.answers.extend([Transmit([b"one"], REMOTE), Transmit([b"two"], REMOTE)])
    bench.sock.room = 1
    assert bench.engine.flush(0.0) is False
    bench.sock.room = 1
    assert bench.engine.flush(0.0) is True
    assert [name for name, _ in bench.sent()] == ["one", "two"]


def test_timers_are_known_while_the_socket_would_block(bench: Bench) -> None:
    bench.sock.room = 0
    for name, timer in (("a", 5.0), ("b", 3.0), ("c", 4.0)):
        bench.engine.touch(bench.connection(name, wanted=1, timer=timer))
    assert bench.engine.flush(0.0) is False
    assert bench.engine.deadline == 3.0


def test_timers_do_not_spin_while_the_socket_would_block(bench: Bench) -> None:
    bench.sock.room = 0
    bench.engine.touch(bench.connection("a", wanted=9, timer=1.0))
    bench.engine.flush(1.0)
    assert bench.engine.deadline == 1.0 + BLOCKED_PATIENCE
    bench.engine.expired(2.0)
    assert bench.engine.deadline == 2.0 + BLOCKED_PATIENCE
    bench.sock.room = 9
    bench.engine.flush(3.0)
    assert bench.engine.deadline == 1.0


def test_a_callback_may_touch_and_flush(bench: Bench) -> None:
    a = bench.connection("a")

    def answer(connection: FakeConnection) -> None:
        connection.wanted = 1
        bench.engine.touch(cast(Any, connection))
        assert bench.engine.flush(0.0) is True

    bench.react = answer
    bench.arrive("a")
    bench.engine.readable(0.0)
    assert bench.sent() == [("a", 1)]
    assert a.wanted == 0


# --- time ------------------------------------------------------------------------------------------------------------


def test_the_deadline_is_the_earliest_of_all(bench: Bench) -> None:
    assert bench.engine.deadline == inf
    for name, timer in (("a", 5.0), ("b", 3.0)):
        bench.engine.touch(bench.connection(name, timer=timer))
    bench.engine.flush(0.0)
    assert bench.engine.deadline == 3.0
    bench.endpoint.deadline = 2.0
    assert bench.engine.deadline == 2.0


def test_what_is_due_is_run_and_the_rest_is_not(bench: Bench) -> None:
    a, b, c = (bench.connection(name, timer=timer) for name, timer in (("a", 1.0), ("b", 2.0), ("c", 3.0)))
    for connection in (a, b, c):
        connection.timer_after = 10.0
        bench.engine.touch(connection)
    bench.engine.flush(0.0)
    b.wanted = 1
    bench.engine.expired(2.0)
    assert (a.handled, b.handled, c.handled) == ([2.0], [2.0], [])
    assert bench.events == ["a", "b"]
    assert bench.sent() == [("b", 1)], "what the timer wants to send goes out"
    assert bench.engine.deadline == 3.0


def test_a_timer_that_moved_away_is_not_run(bench: Bench) -> None:
    a = bench.connection("a", timer=1.0)
    bench.engine.touch(a)
    bench.engine.flush(0.0)
    a.timer = 9.0
    bench.arrive("a")
    bench.engine.readable(0.5)
    assert bench.engine.deadline == 9.0
    bench.engine.expired(1.0)
    assert a.handled == []


def test_a_timer_that_stays_due_is_run_once_a_call(bench: Bench) -> None:
    a = bench.connection("a", timer=1.0)
    bench.engine.touch(a)
    bench.engine.flush(0.0)
    bench.react = lambda connection: cast(None, bench.engine.flush(5.0))
    bench.engine.expired(5.0)
    assert a.handled == [5.0]
    assert bench.engine.deadline == 1.0


def test_the_endpoints_timer_is_run_when_due(bench: Bench) -> None:
    bench.endpoint.deadline = 2.0
    bench.engine.expired(1.0)
    assert bench.endpoint.handled == []
    bench.engine.expired(2.0)
    assert bench.endpoint.handled == [2.0]


def test_connections_that_the_endpoints_timer_touched_have_a_turn(bench: Bench) -> None:
    a = bench.connection("a", wanted=1)
    bench.endpoint.deadline = 1.0
    bench.endpoint.touched.append(a)
    bench.engine.expired(1.0)
    assert bench.events == ["a"]
    assert bench.sent() == [("a", 1)]


def test_an_exception_in_an_expired_turn_loses_no_timer(bench: Bench) -> None:
    a = bench.connection("a", timer=1.0)
    b = bench.connection("b", timer=1.5)
    a.timer_after, b.timer_after = 7.0, 8.0
    bench.engine.touch(a)
    bench.engine.touch(b)
    bench.engine.flush(0.0)

    def fail(connection: FakeConnection) -> None:
        raise RuntimeError("the application's")

    bench.react = fail
    with pytest.raises(RuntimeError, match="the application's"):
        bench.engine.expired(2.0)
    assert bench.engine.deadline == 1.5
    bench.react = lambda connection: None
    bench.engine.expired(2.0)
    assert (a.handled, b.handled) == ([2.0], [2.0])
    assert bench.engine.deadline == 7.0


# --- the end of a connection, and of the engine ----------------------------------------------------------------------


def test_a_connection_that_is_over_is_let_go(bench: Bench) -> None:
    a = bench.connection("a", timer=1.0)
    a.timer_after = None
    bench.engine.touch(a)
    bench.engine.flush(0.0)
    bench.engine.expired(1.0)
    assert bench.events == ["a"], "its last events are drained"
    assert bench.engine.deadline == inf
    del bench.endpoint.connections[b"a"]
    gc.disable()
    try:
        alive = weakref.ref(a)
        del a
        assert alive() is None
    finally:
        gc.enable()


def test_the_endpoint_is_told_which_connections_are_over(bench: Bench) -> None:
    over = bench.connection("over", timer=None)
    over.is_terminated = True
    unborn = bench.connection("unborn", timer=None)
    alive = bench.connection("alive", timer=5.0)
    for connection in (over, unborn, alive):
        bench.engine.touch(connection)
    bench.engine.flush(0.0)
    assert bench.endpoint.forgotten == [over]


def test_a_connection_that_a_stub_replaces_is_forgotten_at_once(bench: Bench) -> None:
    a = bench.connection("a", wanted=1, timer=5.0)
    b = bench.connection("b", wanted=1, timer=6.0)
    bench.engine.touch(a)
    bench.engine.flush(0.0)
    a.wanted = 1
    bench.engine.touch(a)
    bench.engine.touch(b)
    bench.engine.forget(a)
    assert not bench.engine.is_dirty(a)
    assert bench.engine.flush(0.0) is True
    assert bench.sent() == [("a", 1), ("b", 1)]
    assert bench.engine.deadline == 6.0


def test_a_connection_that_input_ended_is_let_go(bench: Bench) -> None:
    a = bench.connection("a", timer=1.0)
    bench.engine.touch(a)
    bench.engine.flush(0.0)
    a.timer = None
    bench.arrive("a")
    bench.engine.readable(0.5)
    assert bench.engine.deadline == inf
    bench.engine.expired(1.0)
    assert a.handled == []


def test_a_closed_engine_holds_no_connection(bench: Bench) -> None:
    waiting = FakeConnection("waiting", timer=9.0)
    dirty = FakeConnection("dirty", timer=9.0)
    bench.engine.touch(cast(Any, waiting))
    bench.engine.flush(0.0)
    bench.engine.touch(cast(Any, dirty))
    alive = [weakref.ref(waiting), weakref.ref(dirty)]
    gc.disable()
    try:
        bench.engine.close()
        del waiting, dirty
        assert [reference() for reference in alive] == [None, None]
    finally:
        gc.enable()


def test_a_closed_engine_does_nothing(bench: Bench) -> None:
    a = bench.connection("a", wanted=3, timer=1.0)
    bench.sock.room = 0
    bench.engine.touch(a)
    bench.engine.flush(0.0)
    assert not bench.closed()
    bench.engine.close()
    bench.engine.close()
    assert bench.closed()
    assert bench.engine.fileno() == -1
    bench.arrive("a")
    bench.engine.touch(a)
    assert not bench.engine.is_dirty(a)
    assert bench.engine.readable(5.0) is False
    bench.engine.expired(5.0)
    assert bench.engine.flush(5.0) is True
    assert bench.engine.deadline == inf
    assert not bench.blocked()
    assert (a.handled, bench.events, bench.sock.sent) == ([], [], [])


def test_closing_in_a_callback_ends_the_burst(bench: Bench) -> None:
    bench.connection("a", wanted=1)
    bench.react = lambda connection: bench.engine.close()
    bench.arrive(*["a"] * RECEIVE_BURST)
    assert bench.engine.readable(0.0) is False
    assert bench.sent() == []


def test_what_is_known_of_the_socket(bench: Bench) -> None:
    assert bench.engine.family == socket.AF_INET
    assert bench.engine.local_address == bench.sock.local_address
    assert bench.engine.fileno() == bench.sock.fileno() >= 0
    assert bench.engine.last_error is None
    bench.sock.last_error = OSError(1, "refused")
    assert bench.engine.last_error is bench.sock.last_error


# --- layers ----------------------------------------------------------------------------------------------------------


def test_nothing_here_knows_an_event_loop() -> None:
    folder = Path(quicio.udp.engine.__file__).parent
    imported: set[str] = set()
    for file in folder.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.partition(".")[0])
    assert "socket" in imported
    assert not imported & {"asyncio", "anyio", "trio", "select", "selectors", "threading", "time"}


def test_posted_datagrams_keep_their_order_behind_a_blocked_socket() -> None:
    """What others made goes out before what connections want to send, and no more than `POSTED_LIMIT` of it waits."""
    bench = Bench()
    engine = bench.engine
    engine.touch(bench.connection("a", wanted=1))
    engine.post(Transmit([b"at once"], REMOTE))
    assert [name for name, _ in bench.sent()] == ["at once"]
    bench.sock.room = 0
    for number in range(POSTED_LIMIT + 5):
        engine.post(Transmit([b"%d" % number], REMOTE))
    assert engine.is_blocked
    assert engine.posted_size() == sum(len(str(number)) for number in range(1, POSTED_LIMIT + 1))
    assert not engine.flush(0.0)
    bench.sock.room = 10
    assert not engine.flush(0.0)
    bench.sock.room = 1 << 30
    assert engine.flush(0.0)
    names = [name for name, _ in bench.sent()]
    assert names == ["at once", *map(str, range(POSTED_LIMIT + 1)), "a"]
    engine.close()
    engine.post(Transmit([b"late"], REMOTE))
    assert len(bench.sent()) == len(names)


def test_a_closed_engine_knows_of_no_errors(bench: Bench) -> None:
    bench.engine.watch_errors(True)
    assert bench.engine.next_error() is None
    bench.engine.close()
    bench.engine.watch_errors(True)
    assert bench.engine.next_error() is None
