"""Loggers: bounds, files, times, and failures that reach nobody."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.library import Library, Pair
from quicio.quic import logger as module
from quicio.quic.logger import FLUSH_EVENTS, QuicFileLogger, QuicLogger, QuicLoggerTrace

QUICIO = Library("quicio")


def fill(trace: QuicLoggerTrace, count: int) -> None:
    for number in range(count):
        trace.log_event(category="test", event="counted", data={"number": number})


def test_a_trace_in_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_EVENTS", 5)
    trace = QuicLogger().start_trace(True, b"\x00")
    fill(trace, 8)
    shown = trace.to_dict()
    assert [event["data"]["number"] for event in shown["events"]] == [0, 1, 2, 3, 4]
    assert shown["common_fields"]["dropped_events"] == trace.dropped == 3


def test_ended_traces_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TRACES", 2)
    logger = QuicLogger()
    running = logger.start_trace(True, b"\xff")
    for number in range(4):
        logger.end_trace(logger.start_trace(False, bytes([number])))
    assert [trace["common_fields"]["ODCID"] for trace in logger.to_dict()["traces"]] == ["ff", "02", "03"]
    logger.end_trace(running)


@pytest.mark.parametrize("count", [0, 1, FLUSH_EVENTS, FLUSH_EVENTS + 1, 3 * FLUSH_EVENTS + 7])
def test_a_file_holds_every_event_and_memory_does_not(tmp_path: Path, count: int) -> None:
    logger = QuicFileLogger(str(tmp_path))
    trace = logger.start_trace(True, b"\xab")
    fill(trace, count)
    assert len(trace.to_dict()["events"]) < FLUSH_EVENTS
    logger.end_trace(trace)
    document = json.loads((tmp_path / "ab.qlog").read_text())
    numbers = [event["data"]["number"] for event in document["traces"][0]["events"]]
    assert numbers == list(range(count))
    assert document["traces"][0]["vantage_point"] == {"name": "quicio", "type": "client"}


def test_a_trace_ends_once(tmp_path: Path) -> None:
    for logger in (QuicLogger(), QuicFileLogger(str(tmp_path))):
        with pytest.raises(ValueError, match="not started by this logger"):
            logger.end_trace(QuicLoggerTrace(is_client=True, odcid=b"\x00"))


def test_times_follow_protocol_time_from_the_date_of_the_start() -> None:
    logger = QuicLogger()
    pair = Pair(QUICIO, {"quic_logger": logger}, start=50.0).connected()
    pair.now += 7
    pair.client.send_ping(1)
    pair.step()
    times = [event["time"] for event in logger.to_dict()["traces"][0]["events"]]
    assert times[-1] - times[0] == pytest.approx((pair.now - 50.0) * 1000, abs=0.01)
    assert times[0] > 1_600_000_000_000  # a date, whatever clock drives the connection


def test_a_connection_ends_its_trace_however_it_ends(tmp_path: Path) -> None:
    logger = QuicFileLogger(str(tmp_path))
    connection = QUICIO("quic.connection").QuicConnection
    connection(configuration=QUICIO.client_configuration(quic_logger=logger)).close()
    assert len(list(tmp_path.iterdir())) == 1
    pair = Pair(QUICIO, {"quic_logger": logger}).connected()
    pair.client.abandon("gone")
    assert len(list(tmp_path.iterdir())) == 2
    assert logger.to_dict()["traces"] == []


def test_a_disk_that_fails_does_not_end_the_connection(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QUICIO("quic.connection").QuicConnection, "raise_unexpected", False)
    folder = tmp_path / "logs"
    folder.mkdir()
    pair = Pair(QUICIO, {"quic_logger": QuicFileLogger(str(folder))}).connected()
    folder.rmdir()
    pair.client.close()
    pair.until_over()
    assert "an observer failed" in caplog.text


def test_without_a_logger_nothing_watches() -> None:
    pair = Pair(QUICIO).connected()
    assert pair.client._parts.observer is None
    assert pair.client._parts.loss.observer is None
