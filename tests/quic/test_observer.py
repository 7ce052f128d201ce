"""Who watches a connection: what an observer sees, and that it can do no harm."""

from __future__ import annotations

import pytest

from helpers.recovery import make_path
from quicio.quic.configuration import QuicConfiguration
from quicio.quic.connection import QuicConnection
from quicio.quic.observer import GuardedObserver, Observer
from quicio.quic.paths.path import Path
from sim.capture import decode_frames
from sim.world import World


class Recorder(Observer):
    """Keeps what it sees."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, int]] = []
        self.payloads: list[bytes] = []

    def on_opened(self, epoch: int, number: int, payload: bytes, path: Path, now: float) -> None:
        self.seen.append(("opened", epoch, number))
        self.payloads.append(payload)

    def on_sealed(self, epoch: int, number: int, payload: bytes, path: Path, now: float) -> None:
        self.seen.append(("sealed", epoch, number))
        self.payloads.append(payload)

    def on_metrics(self, path: Path, now: float) -> None:
        self.seen.append(("metrics", 0, 0))


class Clumsy(Recorder):
    """Fails at everything."""

    def on_opened(self, epoch: int, number: int, payload: bytes, path: Path, now: float) -> None:
        super().on_opened(epoch, number, payload, path, now)
        raise KeyError("clumsy")

    def on_sealed(self, epoch: int, number: int, payload: bytes, path: Path, now: float) -> None:
        super().on_sealed(epoch, number, payload, path, now)
        raise KeyError("clumsy")

    def on_metrics(self, path: Path, now: float) -> None:
        super().on_metrics(path, now)
        raise KeyError("clumsy")


def call(observer: Observer, what: str) -> None:
    path = make_path()
    if what == "opened":
        observer.on_opened(1, 2, b"\x01", path, 0.0)
    elif what == "sealed":
        observer.on_sealed(1, 2, b"\x01", path, 0.0)
    else:
        observer.on_metrics(path, 0.0)


@pytest.mark.parametrize("what", ["opened", "sealed", "metrics"])
def test_the_base_sees_and_does_nothing(what: str) -> None:
    call(Observer(), what)


@pytest.mark.parametrize("what", ["opened", "sealed", "metrics"])
def test_the_guard_passes_everything_on(what: str) -> None:
    recorder = Recorder()
    guard = GuardedObserver(recorder)
    call(guard, what)
    call(guard, what)
    assert [entry[0] for entry in recorder.seen] == [what, what]


@pytest.mark.parametrize("what", ["opened", "sealed", "metrics"])
def test_an_observer_that_fails_is_not_told_anything_more(what: str, caplog: pytest.LogCaptureFixture) -> None:
    clumsy = Clumsy()
    guard = GuardedObserver(clumsy)
    for again in (what, "opened", "sealed", "metrics"):
        call(guard, again)
    assert len(clumsy.seen) == 1
    assert "an observer failed" in caplog.text
    assert "KeyError: 'clumsy'" in caplog.text


def test_every_packet_is_seen_once_by_both_sides() -> None:
    world = World(1)
    client = world.connect()
    mine = Recorder()
    client.connection.observe(mine)
    first = len(mine.seen)
    assert first == 0  # the first packets went before anybody watched
    world.run(lambda: client.connection.is_handshake_confirmed)
    world.run(limit=0.5)
    statistics = client.connection.statistics()
    opened = [entry for entry in mine.seen if entry[0] == "opened"]
    sealed = [entry for entry in mine.seen if entry[0] == "sealed"]
    assert len(opened) == len(set(opened)) == statistics.packets_received
    assert len(sealed) == len(set(sealed)) < statistics.packets_sent
    assert all(decode_frames(payload) for payload in mine.payloads)


def test_what_an_observer_raises_does_not_end_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    class Tolerant(QuicConnection):
        raise_unexpected = False

    connection = Tolerant(configuration=QuicConfiguration(server_name="localhost"))
    clumsy = Clumsy()
    connection.observe(clumsy)
    connection.connect("server", 0.0)
    assert connection.datagrams_to_send(0.0)
    assert len(clumsy.seen) == 1
    assert connection.close_reason is None
    assert "an observer failed" in caplog.text


def test_watching_can_end() -> None:
    connection = QuicConnection(configuration=QuicConfiguration(server_name="localhost"))
    recorder = Recorder()
    connection.observe(recorder)
    connection.observe(None)
    connection.connect("server", 0.0)
    assert connection.datagrams_to_send(0.0)
    assert recorder.seen == []


def test_metrics_are_told_once_a_burst() -> None:
    world = World(1)
    client, _ = world.establish()
    recorder = Recorder()
    client.connection.observe(recorder)
    client.connection.send_ping(1)
    world.run(limit=1.0)
    kinds = [kind for kind, _, _ in recorder.seen]
    assert "metrics" in kinds
    assert kinds.index("metrics") == kinds.index("opened") + 1
