"""qlog: the documents that the loggers write, by the schema that qvis reads (qlog 0.3), on both libraries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.library import Library, Pair

CATEGORIES = {"connectivity", "http", "recovery", "security", "transport"}
REQUEST = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", b"/")]
H3 = {"alpn_protocols": ["h3"], "max_datagram_frame_size": 65536}

LEFT_OUT = {
    "connectivity:spin_bit_updated": "We do not spin: every packet has a zero bit (RFC 9000 §17.4 lets an endpoint choose).",
    "security:key_updated": "Secrets are in `secrets_log_file`; that they are there shows in the types of packets.",
    "security:key_retired": "As key_updated.",
    "transport:datagrams_sent": "Datagrams go and come in batches; each packet has its length in `raw`.",
    "transport:datagrams_received": "As datagrams_sent.",
}
"""Kinds of events that aioquic has and we have not, with the reason."""


def check_document(document: dict[str, Any]) -> None:
    """What qvis relies on."""
    assert (document["qlog_version"], document["qlog_format"]) == ("0.3", "JSON")
    for trace in document["traces"]:
        assert trace["vantage_point"]["type"] in ("client", "server")
        assert bytes.fromhex(trace["common_fields"]["ODCID"])
        times = [event["time"] for event in trace["events"]]
        assert times == sorted(times)
        assert all(isinstance(time, float) for time in times)
        for event in trace["events"]:
            check_event(event)
    json.dumps(document)


def check_event(event: dict[str, Any]) -> None:
    assert set(event) == {"data", "name", "time"}
    category, _, kind = event["name"].partition(":")
    assert category in CATEGORIES
    data = event["data"]
    if kind in ("packet_sent", "packet_received"):
        header = data["header"]
        assert header["packet_type"] in ("initial", "handshake", "0RTT", "1RTT")
        assert header["packet_number"] >= 0
        bytes.fromhex(header["dcid"] + header["scid"])
        assert data["raw"]["length"] > 20
        assert data["frames"]
        for frame in data["frames"]:
            assert frame["frame_type"] != "unknown"
    elif kind == "metrics_updated":
        assert set(data) <= {
            "cwnd",
            "bytes_in_flight",
            "latest_rtt",
            "min_rtt",
            "smoothed_rtt",
            "rtt_variance",
            "ssthresh",
        }
        assert all(value >= 0 for value in data.values())
    elif kind == "parameters_set":
        assert data["owner"] in ("local", "remote")
        assert data["initial_max_data"] > 0
    elif kind in ("frame_created", "frame_parsed"):
        assert data["frame"]["frame_type"] in ("data", "headers", "push_promise")
        assert (data["length"] >= 0, data["stream_id"] % 4 in (0, 3)) == (True, True)


def exchange(library: Library, client: Any, server: Any) -> Pair:
    """A connection with a bit of everything: HTTP/3, datagrams, a ping, resets, a loss, rubbish, a close."""
    pair = Pair(library, H3 | {"quic_logger": client}, H3 | {"quic_logger": server})
    pair.connected()
    h3 = library("h3.connection").H3Connection
    web, site = h3(pair.client), h3(pair.server)
    pair.client_handler, pair.server_handler = web.handle_event, site.handle_event
    pair.run()
    web.send_headers(0, REQUEST)
    web.send_data(0, b"question", end_stream=True)
    pair.run()
    pushed = site.send_push_promise(0, REQUEST[:3] + [(b":path", b"/style")])
    site.send_headers(0, [(b":status", b"200")])
    site.send_data(0, b"answer", end_stream=True)
    site.send_headers(pushed, [(b":status", b"204")], end_stream=True)
    web.send_datagram(0, b"datagram")
    pair.client.send_ping(1)
    pair.run()
    pair.client.send_stream_data(4, b"x")
    pair.client.reset_stream(4, 0x10C)
    pair.client.stop_stream(4, 0x10C)
    pair.client.change_connection_id()
    pair.run()
    pair.client.receive_datagram(b"\x40" + bytes(60), ("192.0.2.2", 4433), now=pair.now)
    pair.client.send_stream_data(8, b"lost")
    pair.client.datagrams_to_send(now=pair.now)
    for uid in range(2, 8):
        pair.client.send_ping(uid)
        pair.step()
    pair.run()
    pair.client.close(0x100, reason_phrase="done")
    pair.until_over()
    return pair


def kinds(document: dict[str, Any]) -> set[str]:
    return {event["name"] for event in document["traces"][0]["events"]}


def events_of(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [event["data"] for event in document["traces"][0]["events"] if event["name"] == name]


def frames_of(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [frame for packet in events_of(document, name) for frame in packet["frames"]]


def test_documents_follow_the_schema(library: Library) -> None:
    loggers = library("quic.logger").QuicLogger(), library("quic.logger").QuicLogger()
    exchange(library, *loggers)
    for logger, role in zip(loggers, ("client", "server"), strict=True):
        document = logger.to_dict()
        check_document(document)
        assert [trace["vantage_point"]["type"] for trace in document["traces"]] == [role]
    client, server = (logger.to_dict() for logger in loggers)
    assert client["traces"][0]["common_fields"]["ODCID"] == server["traces"][0]["common_fields"]["ODCID"]
    wanted = {"transport:packet_sent", "transport:packet_received", "transport:packet_dropped", "recovery:packet_lost"}
    wanted |= {"recovery:metrics_updated", "transport:parameters_set", "http:frame_created", "http:frame_parsed"}
    wanted |= {"http:stream_type_set", "transport:version_information", "transport:alpn_information"}
    assert wanted <= kinds(client)
    assert [data["owner"] for data in events_of(client, "transport:parameters_set")] == ["local", "remote"]
    sent = {frame["frame_type"] for frame in frames_of(client, "transport:packet_sent")}
    assert {"crypto", "stream", "ack", "ping", "datagram", "reset_stream", "stop_sending"} <= sent
    assert {"new_connection_id", "retire_connection_id", "connection_close", "padding"} <= sent
    assert "handshake_done" in {frame["frame_type"] for frame in frames_of(client, "transport:packet_received")}
    close = next(
        frame for frame in frames_of(client, "transport:packet_sent") if frame["frame_type"] == "connection_close"
    )
    assert (close["error_space"], close["error_code"], close["reason"]) == ("application", 0x100, "done")


def test_kinds_of_events_are_those_of_the_control() -> None:
    """All that aioquic tells is told, but for what is listed."""
    from helpers.surface import LIBRARIES

    found: dict[str, set[str]] = {}
    for root in LIBRARIES:
        library = Library(root)
        logger = library("quic.logger").QuicLogger()
        exchange(library, logger, None)
        found[root] = kinds(logger.to_dict())
    if "aioquic" in found:
        assert found["aioquic"] - found["quicio"] == set(LEFT_OUT)
        assert found["quicio"] - found["aioquic"] == {
            "connectivity:connection_started",
            "connectivity:connection_closed",
        }
    assert not found["quicio"] & set(LEFT_OUT)


def test_http_frames_are_told_with_their_fields(library: Library) -> None:
    logger = library("quic.logger").QuicLogger()
    exchange(library, logger, None)
    document = logger.to_dict()
    request = events_of(document, "http:frame_created")[0]
    assert request["frame"]["headers"][0] == {"name": ":method", "value": "GET"}
    assert request["stream_id"] == 0
    parsed = [data["frame"]["frame_type"] for data in events_of(document, "http:frame_parsed")]
    assert parsed[:3] == ["push_promise", "headers", "data"]
    assert events_of(document, "http:frame_parsed")[0]["frame"]["push_id"] == 0
    assert {data["new"] for data in events_of(document, "http:stream_type_set")} >= {"control", "push"}


def test_a_file_for_each_connection(library: Library, tmp_path: Path) -> None:
    logger = library("quic.logger").QuicFileLogger(str(tmp_path))
    pair = exchange(library, logger, None)
    name = f"{pair.client.original_destination_connection_id.hex()}.qlog"
    assert [file.name for file in tmp_path.iterdir()] == [name]
    document = json.loads((tmp_path / name).read_text())
    check_document(document)
    assert "transport:packet_sent" in kinds(document)
    assert logger.to_dict()["traces"] == []


def test_files_need_a_folder(library: Library, tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        library("quic.logger").QuicFileLogger(str(tmp_path / "missing"))


def test_traces_by_hand(library: Library) -> None:
    """The documented methods, without a connection."""
    logger = library("quic.logger").QuicLogger()
    trace = logger.start_trace(is_client=False, odcid=b"\x01\x02")
    trace.log_event(category="test", event="said", data={"what": "hello"})
    logger.end_trace(trace)
    (shown,) = logger.to_dict()["traces"]
    assert shown["common_fields"] == {"ODCID": "0102"}
    assert shown["vantage_point"]["type"] == "server"
    assert [(event["name"], event["data"]) for event in shown["events"]] == [("test:said", {"what": "hello"})]
    assert trace.packet_type(library("quic.packet").QuicPacketType.ONE_RTT) == "1RTT"
    assert library("quic.logger").QLOG_VERSION == "0.3"
