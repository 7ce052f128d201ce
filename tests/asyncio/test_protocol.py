"""`QuicConnectionProtocol`: what it tells subclasses, what it lets applications wait for, how it ends."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from typing import Any

import pytest

from helpers.asyncio_face import PATIENCE, Recorder, connected, echo, pair, port_of, serving, until
from helpers.loopback import HOST, client_configuration
from quicio import ClosedByPeer, ConnectionLost, IdleTimeout
from quicio.asyncio import QuicConnectionProtocol, connect
from quicio.asyncio.transport import EngineTransport
from quicio.quic import events
from quicio.quic.connection import QuicConnection
from quicio.quic.events import QuicEvent

pytestmark = pytest.mark.anyio


# --- events -----------------------------------------------------------------------------------------------------------


async def test_events_come_in_aioquics_order_and_no_others() -> None:
    """ProtocolNegotiated, HandshakeCompleted, then connection IDs; the end once, at the end. Native events never show."""
    async with pair(client_protocol=Recorder, server_protocol=Recorder, stream_handler=echo) as ends:
        await ends.client.ping()
        reader, writer = await ends.client.create_stream()
        writer.write(b"hello")
        writer.write_eof()
        await reader.read()
        await writer.wait_closed()
        ends.client.close(3, "bye")
        await ends.client.wait_closed()
        client, server = ends.client, ends.server
        await server.wait_closed()
    for protocol in (client, server):
        names = protocol.names()
        assert names[:2] == ["ProtocolNegotiated", "HandshakeCompleted"]
        assert names.count("ConnectionIdIssued") >= 1
        assert names[-1] == "ConnectionTerminated"
        assert names.count("ConnectionTerminated") == 1
        assert set(names) <= {
            "ProtocolNegotiated",
            "HandshakeCompleted",
            "ConnectionIdIssued",
            "ConnectionIdRetired",
            "PingAcknowledged",
            "StreamDataReceived",
            "ConnectionTerminated",
        }
        assert protocol.events[-1] == events.ConnectionTerminated(3, None, "bye")


async def test_what_the_callback_queues_goes_out_without_transmit() -> None:
    class Answering(QuicConnectionProtocol):
        def quic_event_received(self, event: QuicEvent) -> None:
            if isinstance(event, events.StreamDataReceived):
                self._quic.send_stream_data(event.stream_id, event.data, event.end_stream)
            elif isinstance(event, events.DatagramFrameReceived):
                self._quic.send_datagram_frame(event.data)

    async with pair(server_protocol=Answering, client_protocol=Recorder) as ends:
        reader, writer = await ends.client.create_stream()
        data = bytes(3_000_000)
        writer.write(data)
        writer.write_eof()
        assert await reader.read() == data
        ends.client._quic.send_datagram_frame(b"datagram")
        ends.client.transmit()
        await until(lambda: events.DatagramFrameReceived(b"datagram") in ends.client.events)


async def test_raw_events_without_super_are_credited() -> None:
    """Data that goes past the streams is credited as it is taken, also on a stream that has a writer."""

    class Raw(QuicConnectionProtocol):
        received = 0

        def quic_event_received(self, event: QuicEvent) -> None:
            if isinstance(event, events.StreamDataReceived):
                self.received += len(event.data)

    async with pair(client_protocol=Raw, stream_handler=echo) as ends:
        _, writer = await ends.client.create_stream()
        for _ in range(100):
            writer.write(bytes(100_000))
            await writer.drain()
        writer.write_eof()
        await until(lambda: ends.client.received == 10_000_000)
        assert ends.client._adapters[writer.get_extra_info("stream_id")].is_reading()


async def test_an_exception_in_the_callback_costs_no_event(loop_errors: list[dict[str, Any]]) -> None:
    """Later events are handled and answers go out; in aioquic both wait for the next datagram."""

    class Failing(Recorder):
        def quic_event_received(self, event: QuicEvent) -> None:
            super().quic_event_received(event)
            if isinstance(event, events.DatagramFrameReceived):
                raise ZeroDivisionError("mine")

    async with pair(server_protocol=Failing) as ends:
        ends.client._quic.send_datagram_frame(b"one")
        ends.client._quic.send_datagram_frame(b"two")
        ends.client.transmit()
        await until(lambda: ends.server.names().count("DatagramFrameReceived") == 2)
        await ends.client.ping()
    assert [type(error["exception"]) for error in loop_errors] == [ZeroDivisionError, ZeroDivisionError]
    assert loop_errors[0]["protocol"] is ends.server
    loop_errors.clear()


async def test_transmit_has_sent_when_it_returns() -> None:
    async with pair() as ends:
        sent = ends.client._quic.statistics().packets_sent
        ends.client._quic.send_datagram_frame(b"now")
        assert ends.client._quic.statistics().packets_sent == sent
        ends.client.transmit()
        assert ends.client._quic.statistics().packets_sent > sent


async def test_what_is_written_in_one_turn_goes_together() -> None:
    async with pair(stream_handler=echo) as ends:
        reader, writer = await ends.client.create_stream()
        await ends.client.ping()
        sent = ends.client._quic.statistics().packets_sent
        for _ in range(50):
            writer.write(b"x" * 10)
        await asyncio.sleep(0)
        assert ends.client._quic.statistics().packets_sent - sent == 1
        assert await reader.readexactly(500) == b"x" * 500


# --- overridden methods -----------------------------------------------------------------------------------------------


class Counting(QuicConnectionProtocol):
    """Overrides each method of the pump, as programs do that look at every datagram."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.datagrams: list[tuple[bytes, Any]] = []
        self.transmits = 0
        self.transports: list[Any] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transports.append(transport)
        super().connection_made(transport)

    def datagram_received(self, data: bytes | str, addr: Any) -> None:
        assert isinstance(data, bytes)
        self.datagrams.append((data, addr))
        super().datagram_received(data, addr)

    def transmit(self) -> None:
        self.transmits += 1
        super().transmit()


@pytest.mark.parametrize("end", ["client", "server"])
async def test_a_subclass_sees_each_datagram_and_each_transmit(end: str) -> None:
    async with pair(**{f"{end}_protocol": Counting}, stream_handler=echo) as ends:  # type: ignore[arg-type]
        reader, writer = await ends.client.create_stream()
        data = bytes(500_000)
        writer.write(data)
        writer.write_eof()
        assert await reader.read() == data
        counting = getattr(ends, end)
        assert counting.transports == [counting._transport]
        assert len(counting.datagrams) > 300
        assert counting.transmits >= len(counting.datagrams)
        assert all(len(data) <= 1500 for data, _ in counting.datagrams)
        assert counting.datagrams[0][1][0] == HOST
        assert counting._quic.statistics().packets_received > 300  # of the handshake's, some may have come in vain


async def test_a_subclass_may_drop_datagrams() -> None:
    """What `datagram_received` does not pass on is lost, and sent again."""

    class Lossy(QuicConnectionProtocol):
        seen = 0

        def datagram_received(self, data: bytes | str, addr: Any) -> None:
            self.seen += 1
            if self.seen % 10 != 5:
                super().datagram_received(data, addr)

    async with pair(server_protocol=Lossy, stream_handler=echo) as ends:
        reader, writer = await ends.client.create_stream()
        writer.write(bytes(200_000))
        writer.write_eof()
        assert await reader.read() == bytes(200_000)
        assert ends.client._quic.statistics().packets_lost > 0


async def test_a_subclass_may_hold_transmits_back() -> None:
    class Held(QuicConnectionProtocol):
        is_held = False

        def transmit(self) -> None:
            if not self.is_held:
                super().transmit()

    async with pair(client_protocol=Held) as ends:
        ends.client.is_held = True
        sent = ends.client._quic.statistics().packets_sent
        ends.client._quic.send_datagram_frame(b"later")
        ends.client.transmit()
        await asyncio.sleep(0.02)
        assert ends.client._quic.statistics().packets_sent == sent
        ends.client.is_held = False


# --- waiting ----------------------------------------------------------------------------------------------------------


async def test_pings_in_parallel() -> None:
    async with pair() as ends:
        await asyncio.gather(*[ends.client.ping() for _ in range(10)], ends.server.ping())
        assert not ends.client._ping_waiters


async def test_a_cancelled_ping_leaves_the_others() -> None:
    async with pair() as ends:
        first = asyncio.create_task(ends.client.ping())
        second = asyncio.create_task(ends.client.ping())
        await asyncio.sleep(0)
        first.cancel()
        await second
        with pytest.raises(asyncio.CancelledError):
            await first


async def test_a_ping_after_the_end_raises() -> None:
    """A wait that never ends in aioquic."""
    async with pair() as ends:
        ends.client.close()
        with pytest.raises(ConnectionError):
            await ends.client.ping()
        await ends.client.wait_closed()
        with pytest.raises(ConnectionError):
            await ends.client.ping()


async def test_a_waiting_ping_fails_with_the_connection() -> None:
    async with pair() as ends:
        ends.server._transport.close()  # nobody answers any more
        ping = asyncio.create_task(ends.client.ping())
        await asyncio.sleep(0.01)
        ends.client.close(8, "enough")
        with pytest.raises(ConnectionLost) as caught:
            await ping
        assert caught.value.code == 8
        ends.client._transport.close()


async def test_the_peers_close_is_told_at_once() -> None:
    """Waiters do not have to wait for the end of the draining period."""
    async with pair() as ends:
        reader, _ = await ends.client.create_stream()
        reading = asyncio.create_task(reader.read())
        await asyncio.sleep(0)
        ends.server.close(error_code=7, reason_phrase="no more")
        started = time.monotonic()
        with pytest.raises(ClosedByPeer) as caught:
            await reading
        assert time.monotonic() - started < 0.05
        error = caught.value
        assert isinstance(error, ConnectionError)
        assert error.reason is not None
        assert (error.code, error.frame_type, error.reason.reason) == (7, None, "no more")
        with pytest.raises(ClosedByPeer):
            await ends.client.ping()


async def test_wait_connected_on_a_server_returns() -> None:
    """A wait that never ends in aioquic, once the handshake is over."""
    async with pair() as ends:
        async with asyncio.timeout(PATIENCE):
            await ends.server.wait_connected()
            await ends.client.wait_connected()


async def test_only_one_may_await_wait_connected() -> None:
    async with serving() as server:
        async with connected(server, wait_connected=False) as protocol:
            waiting = asyncio.create_task(protocol.wait_connected())
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="somebody else"):
                await protocol.wait_connected()
            protocol.transmit()
            await waiting


async def test_wait_connected_of_a_closed_connection_raises() -> None:
    async with serving() as server:
        async with connected(server, wait_connected=False) as protocol:
            protocol.close()
            with pytest.raises(ConnectionError):
                await protocol.wait_connected()


async def test_idle_timeout() -> None:
    async with pair(client={"idle_timeout": 0.1}, client_protocol=Recorder) as ends:
        reader, _ = await ends.client.create_stream()
        ends.server._transport.close()
        with pytest.raises(IdleTimeout):
            await reader.read()
        await ends.client.wait_closed()
        assert ends.client.events[-1] == events.ConnectionTerminated(1, 0, "Idle timeout")


async def test_after_the_end_nothing_raises() -> None:
    async with pair() as ends:
        ends.client.close(1, "first")
        ends.client.close(2, "second")
        await ends.client.wait_closed()
        ends.client.close()
        ends.client.transmit()
        ends.client.datagram_received(b"late", (HOST, 1))
        ends.client.change_connection_id()
        ends.client.request_key_update()
        ends.client.connection_lost(None)
        ends.client._quic.send_stream_data(0, b"nobody hears")
        reader, writer = await ends.client.create_stream()
        writer.write(b"nobody hears")
        writer.close()
        with pytest.raises(ConnectionLost):
            await reader.read()
        await ends.client.wait_closed()


async def test_a_lost_transport_ends_the_connection() -> None:
    async with pair(client_protocol=Recorder) as ends:
        ping = asyncio.create_task(ends.client.ping())
        await asyncio.sleep(0)
        ends.client._transport.close()
        with pytest.raises((ConnectionError, AssertionError)):
            await ping
            raise AssertionError("the answer was faster")
        async with asyncio.timeout(PATIENCE):
            await ends.client.wait_closed()
        assert ends.client.names()[-1] == "ConnectionTerminated"


# --- verbs ------------------------------------------------------------------------------------------------------------


async def test_change_connection_id() -> None:
    async with pair(server_protocol=Recorder) as ends:
        await ends.client.ping()
        ends.client.change_connection_id()
        await ends.client.ping()
        await until(lambda: "ConnectionIdRetired" in ends.server.names())


async def test_request_key_update() -> None:
    async with pair() as ends:
        await ends.client.ping()
        ends.client.request_key_update()
        await ends.client.ping()
        assert ends.client._quic.statistics().key_updates == 1
        await ends.server.ping()
        assert ends.server._quic.statistics().key_updates == 1


async def test_connection_id_handlers() -> None:
    """What routes datagrams in programs of their own hangs here."""
    issued: list[bytes] = []
    retired: list[bytes] = []

    class Routed(QuicConnectionProtocol):
        def __init__(self, *arguments: Any, **keywords: Any) -> None:
            super().__init__(*arguments, **keywords)
            self._connection_id_issued_handler = issued.append
            self._connection_id_retired_handler = retired.append

    async with pair(client_protocol=Routed) as ends:
        await until(lambda: len(issued) >= 7)
        while not retired:  # again where the server had none of them yet
            ends.server.change_connection_id()
            await ends.client.ping()
    assert len(set(issued)) == len(issued)


async def test_an_oversized_datagram_is_a_valueerror() -> None:
    async with pair(client_protocol=Recorder, server_protocol=Recorder) as ends:
        with pytest.raises(ValueError, match="does not fit"):
            ends.client._quic.send_datagram_frame(bytes(5000))
        ends.client._quic.send_datagram_frame(b"small")
        ends.client.transmit()
        await until(lambda: events.DatagramFrameReceived(b"small") in ends.server.events)


async def test_connect_is_for_clients_and_once() -> None:
    async with pair() as ends:
        with pytest.raises(RuntimeError, match="before"):
            ends.client.connect((HOST, 1))
        with pytest.raises(RuntimeError, match="for clients"):
            ends.server.connect((HOST, 1))


# --- transports from elsewhere ----------------------------------------------------------------------------------------


class Fake(asyncio.DatagramTransport):
    """A transport that keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[bytes, Any]] = []
        self.is_closed = False

    def sendto(self, data: Any, addr: Any = None) -> None:
        self.sent.append((data, addr))

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"sockname": ("fake", 1)}.get(name, default)


async def test_a_fake_transport_with_opaque_addresses() -> None:
    """Addresses are given back as they came, whatever they are."""
    protocol = QuicConnectionProtocol(QuicConnection(configuration=client_configuration(server_name="localhost")))
    transport = Fake()
    protocol.connection_made(transport)
    protocol.connect("somewhere")
    assert transport.sent
    assert {address for _, address in transport.sent} == {"somewhere"}
    assert protocol._timer is not None
    _, writer = await protocol.create_stream()
    assert writer.get_extra_info("sockname") == ("fake", 1)
    transport.close()
    protocol.connection_lost(OSError("gone"))
    await protocol.wait_closed()
    assert protocol._timer is None


async def test_asyncios_own_datagram_transport() -> None:
    """`loop.create_datagram_endpoint`: one datagram at a time, and all of it works."""
    loop = asyncio.get_running_loop()
    async with serving(stream_handler=echo) as server:
        quic = QuicConnection(configuration=client_configuration(server_name=HOST))
        transport, protocol = await loop.create_datagram_endpoint(lambda: Recorder(quic), local_addr=(HOST, 0))
        assert not isinstance(transport, EngineTransport)
        protocol.connect((HOST, port_of(server)))
        await protocol.wait_connected()
        reader, writer = await protocol.create_stream()
        writer.write(bytes(1_000_000))
        writer.write_eof()
        assert await reader.read() == bytes(1_000_000)
        await protocol.ping()
        protocol.close()
        await protocol.wait_closed()
        transport.close()
        assert protocol.names()[-1] == "ConnectionTerminated"
        await asyncio.sleep(0)


async def test_a_connection_that_is_awaited_and_dropped_goes_on() -> None:
    """The loop holds it: a client that only has handlers needs no variable."""
    seen = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.read() == b"from the server"
        seen.set()

    made: list[Any] = []

    def create(*arguments: Any, **keywords: Any) -> QuicConnectionProtocol:
        made.append(QuicConnectionProtocol(*arguments, **keywords))
        return made[-1]  # type: ignore[no-any-return]

    async with serving(create_protocol=create) as server:
        clients: list[weakref.ref[Any]] = []

        def create_client(*arguments: Any, **keywords: Any) -> QuicConnectionProtocol:
            protocol = QuicConnectionProtocol(*arguments, **keywords)
            clients.append(weakref.ref(protocol))
            return protocol

        await connect(
            HOST,
            port_of(server),
            configuration=client_configuration(),
            stream_handler=handler,
            create_protocol=create_client,
        )
        gc.collect()
        await made[0].wait_connected()
        _, writer = await made[0].create_stream()
        writer.write(b"from the server")
        writer.write_eof()
        async with asyncio.timeout(PATIENCE):
            await seen.wait()
        server.close()
        client = clients[0]()
        assert client is not None
        transport = client._transport
        await until(transport.is_closing)
