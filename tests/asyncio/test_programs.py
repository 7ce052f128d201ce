"""Programs written from aioquic's documentation, run on both libraries: the root of the imports is all that changes.

aioquic is the control: what a test expects of quicio is what aioquic does there, but where a `library.is_control` says that
the two differ on purpose. Each documented function, parameter, method and event of the asyncio module is used; each test
fails when what it uses is ignored. Without aioquic the programs run on quicio alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import socket
from collections.abc import AsyncIterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest

from helpers.asyncio_face import PATIENCE, until
from helpers.loopback import ALPN, HOST, identity

pytestmark = pytest.mark.anyio
NEVER = 0.4  # seconds that stand for ever, in what never ends


class Library:
    """A library with aioquic's layout, and what every program here begins with."""

    def __init__(self, root: str) -> None:
        self.is_control = root == "aioquic"
        for name in ("asyncio", "asyncio.client", "asyncio.protocol", "asyncio.server", "quic.configuration"):
            setattr(self, name.rpartition(".")[2] if name != "asyncio" else "asyncio", import_module(f"{root}.{name}"))
        self.events: Any = import_module(f"{root}.quic.events")
        self.connection: Any = import_module(f"{root}.quic.connection")

    asyncio: Any
    client: Any
    protocol: Any
    server: Any
    configuration: Any

    def client_configuration(self, **fields: Any) -> Any:
        """What a client is configured with."""
        fields = {"is_client": True, "alpn_protocols": ALPN, "cadata": identity()[1]} | fields
        return self.configuration.QuicConfiguration(**fields)

    def server_configuration(self, **fields: Any) -> Any:
        """What a server is configured with."""
        who, _ = identity()
        fields = {"is_client": False, "alpn_protocols": ALPN} | fields
        return self.configuration.QuicConfiguration(certificate=who.chain[0], private_key=who.private_key, **fields)

    @contextlib.asynccontextmanager
    async def serving(self, **options: Any) -> AsyncIterator[Any]:
        """A server; its connections end with it."""
        configuration = options.pop("configuration", None) or self.server_configuration()
        server = await self.asyncio.serve(HOST, 0, configuration=configuration, **options)
        try:
            yield server
        finally:
            server.close()
            await (asyncio.sleep(0) if self.is_control else server.wait_closed())

    def connect(self, server: Any, **options: Any) -> Any:
        """`connect()` to a server."""
        configuration = options.pop("configuration", None) or self.client_configuration()
        return self.asyncio.connect(HOST, port_of(server), configuration=configuration, **options)

    def recorder(self, made: list[Any]) -> Any:
        """A subclass that keeps its events; its instances are put in `made`."""

        class Recorder(self.asyncio.QuicConnectionProtocol):  # type: ignore[name-defined,misc]  # either library's
            def __init__(self, *arguments: Any, **keywords: Any) -> None:
                super().__init__(*arguments, **keywords)
                self.seen: list[Any] = []
                made.append(self)

            def quic_event_received(self, event: Any) -> None:
                self.seen.append(event)
                super().quic_event_received(event)

        return Recorder

    async def never_ends_in_the_control(self, wait: Any) -> BaseException | Any:
        """What a wait ends with; in aioquic, that it does not."""
        try:
            async with asyncio.timeout(NEVER if self.is_control else PATIENCE):
                result = await wait
        except TimeoutError:
            assert self.is_control
            return None
        except ConnectionError as error:
            result = error
        assert not self.is_control
        return result


def port_of(server: Any) -> int:
    port: int = server._transport.get_extra_info("sockname")[1]
    return port


def of_kind(events: list[Any], name: str) -> list[Any]:
    return [event for event in events if type(event).__name__ == name]


LIBRARIES = [pytest.param("quicio")]
if find_spec("aioquic") is not None:
    # Its writers complain when they are collected, of what they do wrong themselves.
    marks = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
    LIBRARIES.append(pytest.param("aioquic", marks=marks))


@pytest.fixture(params=LIBRARIES)
async def library(request: pytest.FixtureRequest) -> AsyncIterator[Library]:
    found = Library(request.param)
    if found.is_control:  # waiters that it leaves behind complain whenever they are collected
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    yield found
    if found.is_control:
        gc.collect()


def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A stream handler as aioquic has them: called, not awaited."""

    async def answer() -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(await reader.read())
            writer.write_eof()

    writer.answering = asyncio.ensure_future(answer())  # type: ignore[attr-defined]  # somebody has to hold it


async def ask(protocol: Any, data: bytes = b"hello") -> bytes:
    reader, writer = await protocol.create_stream()
    writer.write(data)
    writer.write_eof()
    async with asyncio.timeout(PATIENCE):
        answer: bytes = await reader.read()
        return answer


# --- connect() --------------------------------------------------------------------------------------------------------


async def test_connect_as_a_context_manager(library: Library) -> None:
    async with library.serving(stream_handler=echo) as server:
        async with library.connect(server) as protocol:
            assert type(protocol) is library.asyncio.QuicConnectionProtocol
            assert await ask(protocol) == b"hello"
        assert protocol._quic._state is library.connection.QuicConnectionState.TERMINATED
        assert protocol._transport.is_closing()


async def test_connect_entered_by_hand(library: Library) -> None:
    async with library.serving(stream_handler=echo) as server:
        manager = library.connect(server)
        protocol = await manager.__aenter__()
        assert await ask(protocol) == b"hello"
        await manager.__aexit__(None, None, None)


async def test_connect_awaited(library: Library) -> None:
    """The older documentation's awaitable; aioquic has the context manager alone."""
    async with library.serving(stream_handler=echo) as server:
        if library.is_control:
            with pytest.raises(TypeError):
                await library.connect(server)
            return
        protocol = await library.connect(server)
        assert await ask(protocol) == b"hello"
        protocol.close()
        await protocol.wait_closed()


@pytest.mark.parametrize("kind", ["subclass", "partial", "function"])
async def test_create_protocol(library: Library, kind: str) -> None:
    made: list[Any] = []
    served: list[Any] = []
    seen: list[Any] = []
    recorder: Any = library.recorder(made)
    create = recorder
    if kind == "partial":

        class WithOption(recorder):  # type: ignore[misc]  # either library's
            def __init__(self, *arguments: Any, option: str, **keywords: Any) -> None:
                super().__init__(*arguments, **keywords)
                self.option = option

        create = functools.partial(WithOption, option="mine")
    elif kind == "function":

        def create(quic: Any, stream_handler: Any = None) -> Any:
            seen.append((type(quic).__name__, stream_handler))
            return recorder(quic, stream_handler)

    async with library.serving(stream_handler=echo, create_protocol=library.recorder(served)) as server:
        async with library.connect(server, create_protocol=create) as protocol:
            assert made == [protocol]
            assert await ask(protocol) == b"hello"
            assert len(served) == 1
            assert of_kind(protocol.seen, "HandshakeCompleted")
            assert of_kind(served[0].seen, "StreamDataReceived")
    if kind == "partial":
        assert protocol.option == "mine"
    if kind == "function":
        assert [handler for _, handler in seen] == [None]


async def test_local_port(library: Library) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as free:
        free.bind(("::", 0))
        port = free.getsockname()[1]
    served: list[Any] = []
    async with library.serving(create_protocol=library.recorder(served)) as server:
        async with library.connect(server, local_port=port) as protocol:
            await protocol.ping()
            assert protocol._transport.get_extra_info("sockname")[1] == port
            assert served[0]._quic._network_paths[0].addr[1] == port
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as taken, pytest.raises(OSError, match=r"."):
            taken.bind(("::", 0))
            await library.connect(server, local_port=taken.getsockname()[1]).__aenter__()


async def test_wait_connected_false_sends_nothing(library: Library) -> None:
    served: list[Any] = []
    async with library.serving(create_protocol=library.recorder(served)) as server:
        async with library.connect(server, wait_connected=False) as protocol:
            await asyncio.sleep(0.05)
            assert not served
            protocol.transmit()
            async with asyncio.timeout(PATIENCE):
                await protocol.wait_connected()
            assert len(served) == 1


async def test_without_a_configuration(library: Library) -> None:
    async with library.serving() as server:
        with pytest.raises(ConnectionError):
            async with library.asyncio.connect(HOST, port_of(server)):
                pass


async def test_server_name(library: Library) -> None:
    """The host unless the configuration says otherwise; aioquic writes it into the caller's configuration."""
    async with library.serving() as server:
        configuration = library.client_configuration()
        async with library.connect(server, configuration=configuration):
            pass
        assert configuration.server_name == (HOST if library.is_control else None)
        with pytest.raises(ConnectionError):
            async with library.connect(server, configuration=library.client_configuration(server_name="other.example")):
                pass


async def test_failures_are_connection_errors(library: Library) -> None:
    async with library.serving() as server:
        for change in ({"cadata": None}, {"alpn_protocols": ["other"]}):
            with pytest.raises(ConnectionError) as caught:
                async with library.connect(server, configuration=library.client_configuration(**change)):
                    pass
            if not library.is_control:
                assert {"code", "frame_type", "reason"} <= set(dir(caught.value))


async def test_an_unknown_host(library: Library) -> None:
    with pytest.raises(socket.gaierror):
        async with library.asyncio.connect("unknown.invalid", 4433):
            pass


# --- sessions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("retry", [False, True], ids=["plain", "retry"])
async def test_tickets_and_early_data(library: Library, retry: bool) -> None:
    """Handler and fetcher of the server, handler of the client, and early data by `wait_connected=False`."""
    if library.is_control and retry:
        return  # hangs there: 0-RTT behind Retry is mended here
    kept: dict[bytes, Any] = {}
    asked: list[bytes] = []
    tickets: list[Any] = []
    served: list[Any] = []

    def fetch(label: bytes) -> Any:
        asked.append(label)
        return kept.pop(label, None)

    options = {
        "session_ticket_fetcher": fetch,
        "session_ticket_handler": lambda ticket: kept.__setitem__(ticket.ticket, ticket),
        "create_protocol": library.recorder(served),
        "stream_handler": echo,
        "retry": retry,
    }
    async with library.serving(**options) as server:
        async with library.connect(server, session_ticket_handler=tickets.append) as protocol:
            await protocol.ping()
            await until(lambda: tickets and kept)
        assert not asked
        (ticket,) = tickets
        assert ticket.is_valid
        assert len(ticket.ticket) == 64
        for _ in range(
            2
        ):  # the second time the ticket is gone: a full handshake, and the application sees no difference
            is_first = not asked
            configuration = library.client_configuration(session_ticket=ticket)
            clients: list[Any] = []
            create = library.recorder(clients)
            async with library.connect(
                server, configuration=configuration, create_protocol=create, wait_connected=False
            ) as protocol:
                assert await ask(protocol, b"early") == b"early"
            (completed,) = of_kind(clients[0].seen, "HandshakeCompleted")
            assert (completed.session_resumed, completed.early_data_accepted) == (is_first, is_first)
            assert asked[-1] == ticket.ticket
            kinds = [type(event).__name__ for event in served[-1].seen]
            assert (kinds.index("StreamDataReceived") < kinds.index("HandshakeCompleted")) == is_first


async def test_token_handler(library: Library) -> None:
    """aioquic's server sends no NEW_TOKEN; ours does, and what the handler got spares a Retry the next time."""
    tokens: list[bytes] = []
    async with library.serving(retry=True) as server:
        async with library.connect(server, token_handler=tokens.append) as protocol:
            await protocol.ping()
            if library.is_control:
                return
            await until(lambda: tokens)
        retries = 0
        for token, expected in ((b"", 1), (tokens[0], 1)):
            configuration = library.client_configuration(token=token)
            count: list[int] = []
            async with library.connect(
                server, configuration=configuration, create_protocol=counting_retries(library, count)
            ) as protocol:
                await protocol.ping()
            retries += len(count)
            assert retries == expected


def counting_retries(library: Library, found: list[int]) -> Any:
    class Counting(library.asyncio.QuicConnectionProtocol):  # type: ignore[name-defined,misc]  # either library's
        def datagram_received(self, data: bytes, addr: Any) -> None:
            if data[0] & 0xF0 == 0xF0 and data[1:5] == b"\0\0\0\1":
                found.append(1)
            super().datagram_received(data, addr)

    return Counting


@pytest.mark.parametrize("option", ["retry", "stateless_retry"])
@pytest.mark.parametrize("value", [False, True])
async def test_retry(library: Library, option: str, value: bool) -> None:
    if library.is_control and option == "stateless_retry":
        with pytest.raises(TypeError):
            await library.asyncio.serve(HOST, 0, configuration=library.server_configuration(), stateless_retry=value)
        return
    found: list[int] = []
    async with library.serving(**{option: value}) as server:
        async with library.connect(server, create_protocol=counting_retries(library, found)) as protocol:
            await protocol.ping()
    assert len(found) == value


# --- serve() and QuicServer -------------------------------------------------------------------------------------------


async def test_a_server_closes_its_connections(library: Library) -> None:
    made: list[Any] = []
    async with library.serving() as server:
        assert isinstance(server, library.server.QuicServer)
        async with library.connect(server, create_protocol=library.recorder(made)) as protocol:
            await protocol.ping()
            server.close()
            server.close()
            async with asyncio.timeout(PATIENCE):
                await protocol.wait_closed()
        (end,) = of_kind(made[0].seen, "ConnectionTerminated")
        assert (end.error_code, end.reason_phrase) == (0, "")


async def test_a_server_on_the_loops_own_transport(library: Library) -> None:
    loop = asyncio.get_running_loop()
    create = functools.partial(
        library.server.QuicServer, configuration=library.server_configuration(), stream_handler=echo
    )
    transport, server = await loop.create_datagram_endpoint(create, local_addr=(HOST, 0))
    async with library.connect(server) as protocol:
        assert await ask(protocol) == b"hello"
    server.close()
    assert transport.is_closing()
    await asyncio.sleep(0)


async def test_a_client_on_the_loops_own_transport(library: Library) -> None:
    """`connect(addr)` of the protocol, by hand; IPv6 only because aioquic's addresses are."""
    loop = asyncio.get_running_loop()
    configuration = library.client_configuration(server_name=HOST)
    quic = library.connection.QuicConnection(configuration=configuration)
    async with library.serving(stream_handler=echo) as server:
        transport, protocol = await loop.create_datagram_endpoint(
            lambda: library.asyncio.QuicConnectionProtocol(quic), local_addr=(HOST, 0)
        )
        protocol.connect((HOST, port_of(server)))
        await protocol.wait_connected()
        assert protocol._transport is transport
        assert await ask(protocol) == b"hello"
        with pytest.raises(RuntimeError if not library.is_control else (RuntimeError, AssertionError)):
            protocol.connect((HOST, port_of(server)))
        protocol.close()
        await protocol.wait_closed()
        transport.close()
        await asyncio.sleep(0)


# --- the protocol -----------------------------------------------------------------------------------------------------


async def test_overridden_methods_are_called(library: Library) -> None:
    """Each datagram by itself, one transmit at least for each, the transport once; whatever is sent goes by `transmit`."""
    counts = dict.fromkeys(("connection_made", "datagram_received", "transmit", "quic_event_received"), 0)

    class Counting(library.asyncio.QuicConnectionProtocol):  # type: ignore[name-defined,misc]  # either library's
        def connection_made(self, transport: Any) -> None:
            counts["connection_made"] += 1
            super().connection_made(transport)

        def datagram_received(self, data: bytes, addr: Any) -> None:
            counts["datagram_received"] += 1
            assert type(data) is bytes
            assert addr[1] == port
            before = counts["transmit"]
            super().datagram_received(data, addr)
            assert counts["transmit"] == before + 1  # one for the datagram

        def transmit(self) -> None:
            counts["transmit"] += 1
            super().transmit()

        def quic_event_received(self, event: Any) -> None:
            counts["quic_event_received"] += 1
            super().quic_event_received(event)

    async with library.serving(stream_handler=echo) as server:
        port = port_of(server)
        async with library.connect(server, create_protocol=Counting) as protocol:
            assert counts["connection_made"] == 1
            assert await ask(protocol, bytes(50_000)) == bytes(50_000)
            assert counts["datagram_received"] > 50_000 // 1500
            before = dict(counts)
            await protocol.ping()
            assert counts["datagram_received"] > before["datagram_received"]
            assert counts["quic_event_received"] > before["quic_event_received"]  # PingAcknowledged
    assert counts["connection_made"] == 1


async def test_events(library: Library) -> None:
    """Every documented event, with its fields."""
    made: list[Any] = []
    served: list[Any] = []
    fields = {"max_datagram_frame_size": 65536}
    server_options = {
        "configuration": library.server_configuration(**fields),
        "create_protocol": library.recorder(served),
        "stream_handler": Opened(),  # without one, the writer is dropped, and its end sent
    }
    async with library.serving(**server_options) as server:
        async with library.connect(
            server, configuration=library.client_configuration(**fields), create_protocol=library.recorder(made)
        ) as client:
            await client.ping()
            quic = client._quic
            first, second = 0, 4
            quic.send_stream_data(first, b"data", end_stream=True)
            quic.send_stream_data(second, b"data")
            quic.send_datagram_frame(b"datagram")
            client.transmit()
            peer = served[0]
            await until(lambda: len(of_kind(peer.seen, "StreamDataReceived")) >= 2)
            quic.reset_stream(second, 7)
            client.transmit()
            await until(lambda: of_kind(peer.seen, "StreamReset"))
            peer._quic.send_stream_data(first, b"x")
            peer.transmit()
            await until(lambda: of_kind(client.seen, "StreamDataReceived"))
            quic.stop_stream(first, 8)
            client.transmit()
            await until(lambda: of_kind(peer.seen, "StopSendingReceived"))
            client.change_connection_id()
            await until(lambda: of_kind(peer.seen, "ConnectionIdRetired"))
            client.close(error_code=9, reason_phrase="bye")
            await client.wait_closed()
            await until(lambda: of_kind(peer.seen, "ConnectionTerminated"))
    for side in (client, peer):
        assert of_kind(side.seen, "ProtocolNegotiated")[0].alpn_protocol == ALPN[0]
        (completed,) = of_kind(side.seen, "HandshakeCompleted")
        assert (completed.alpn_protocol, completed.early_data_accepted, completed.session_resumed) == (
            ALPN[0],
            False,
            False,
        )
        assert len(of_kind(side.seen, "ConnectionIdIssued")) >= 7
        assert all(len(event.connection_id) == 8 for event in of_kind(side.seen, "ConnectionIdIssued"))
        (end,) = of_kind(side.seen, "ConnectionTerminated")
        assert (end.error_code, end.frame_type, end.reason_phrase) == (9, None, "bye")
    assert isinstance(of_kind(client.seen, "PingAcknowledged")[0].uid, int)
    data = [event for event in of_kind(peer.seen, "StreamDataReceived") if event.stream_id == first]
    assert (b"".join(event.data for event in data), data[-1].end_stream) == (b"data", True)
    (reset,) = of_kind(peer.seen, "StreamReset")
    assert (reset.stream_id, reset.error_code) == (second, 7)
    (stop,) = of_kind(peer.seen, "StopSendingReceived")
    assert (stop.stream_id, stop.error_code) == (first, 8)
    assert of_kind(peer.seen, "DatagramFrameReceived")[0].data == b"datagram"


async def test_request_key_update(library: Library) -> None:
    async with library.serving(stream_handler=echo) as server:
        async with library.connect(server) as protocol:
            await protocol.ping()
            protocol.request_key_update()
            for _ in range(3):
                assert await ask(protocol) == b"hello"
            assert key_phase(protocol, library) == 1


def key_phase(protocol: Any, library: Library) -> int:
    if library.is_control:
        return int(protocol._quic._cryptos[import_module("aioquic.tls").Epoch.ONE_RTT].key_phase)
    return int(protocol._quic._parts.keys.updates)


async def test_change_connection_id(library: Library) -> None:
    async with library.serving(stream_handler=echo) as server:
        async with library.connect(server) as protocol:
            await protocol.ping()
            before = peer_cid(protocol, library)
            protocol.change_connection_id()
            assert peer_cid(protocol, library) != before
            assert await ask(protocol) == b"hello"


def peer_cid(protocol: Any, library: Library) -> bytes:
    if library.is_control:
        return bytes(protocol._quic._peer_cid.cid)
    return bytes(protocol._quic._parts.paths.active.peer_cid)


async def test_pings_in_parallel(library: Library) -> None:
    async with library.serving() as server, library.connect(server) as protocol:
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*[protocol.ping() for _ in range(5)])


async def test_a_second_wait_connected(library: Library) -> None:
    async with library.serving() as server, library.connect(server, wait_connected=False) as protocol:
        first = asyncio.ensure_future(protocol.wait_connected())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError if not library.is_control else (RuntimeError, AssertionError)):
            await protocol.wait_connected()
        protocol.transmit()
        await first
        await protocol.wait_connected()


async def test_silent_after_the_end(library: Library) -> None:
    async with library.serving() as server:
        async with library.connect(server) as protocol:
            await protocol.ping()
        protocol.transmit()
        protocol.close()
        protocol.datagram_received(b"late", ("::1", 4433, 0, 0))
        _, writer = await protocol.create_stream()
        writer.write(b"x")
        await protocol.wait_closed()


# --- streams ----------------------------------------------------------------------------------------------------------


class Opened:
    """A stream handler that keeps what it gets."""

    def __init__(self) -> None:
        self.streams: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.streams.append((reader, writer))


async def test_stream_handlers_of_both_sides(library: Library) -> None:
    at_server, at_client, served = Opened(), Opened(), [0] * 0
    protocols: list[Any] = served
    async with library.serving(stream_handler=at_server, create_protocol=library.recorder(protocols)) as server:
        async with library.connect(server, stream_handler=at_client) as client:
            await client.ping()
            for opener, opened, ids in ((client, at_server, (0, 2)), (protocols[0], at_client, (1, 3))):
                for is_unidirectional in (False, True):
                    reader, writer = await opener.create_stream(is_unidirectional=is_unidirectional)
                    assert writer.get_extra_info("stream_id") == ids[is_unidirectional]
                    assert writer.can_write_eof()
                    writer.write(b"hello")
                    writer.write_eof()
                    assert writer.is_closing()
                    count = len(opened.streams)
                    await until(lambda opened=opened, count=count: len(opened.streams) > count)  # type: ignore[misc]  # bound
                    peer_reader, peer_writer = opened.streams[-1]
                    assert await peer_reader.read() == b"hello"
                    assert peer_writer.get_extra_info("stream_id") == ids[is_unidirectional]
                    assert peer_writer.can_write_eof() == (not is_unidirectional)
                    if is_unidirectional:
                        with pytest.raises(ValueError, match=r"."):
                            peer_writer.write(b"x")
                    else:
                        peer_writer.write_eof()
                        assert await reader.read() == b""


async def test_private_names_of_streams(library: Library) -> None:
    async with library.serving(stream_handler=echo) as server, library.connect(server) as protocol:
        _, writer = await protocol.create_stream()
        transport = writer._transport
        assert isinstance(transport, library.protocol.QuicStreamAdapter)
        assert transport.protocol is protocol
        assert transport.protocol._quic is protocol._quic
        assert transport.stream_id == writer.get_extra_info("stream_id") == 0
        assert protocol._loop is asyncio.get_running_loop()
        assert protocol._transport.get_extra_info("sockname")[1] > 0
        assert server._transport.get_extra_info("sockname")[:2] == (HOST, port_of(server)) or library.is_control
        for name in ("peername", "sockname", "nothing"):
            found = writer.get_extra_info(name, "default")
            assert (found is None) == library.is_control  # the default is ignored there
        writer.write(b"x")


async def test_kinds_of_data(library: Library) -> None:
    async with library.serving(stream_handler=echo) as server, library.connect(server) as protocol:
        reader, writer = await protocol.create_stream()
        for piece in (b"bytes", bytearray(b"array"), memoryview(b"view")):
            writer.write(piece)
        writer.writelines([b"more", b"lines"])
        writer.write_eof()
        assert await reader.read() == b"bytesarrayviewmorelines"


# --- waits that never end in aioquic, and end here --------------------------------------------------------------------


async def test_wait_connected_after_the_handshake(library: Library) -> None:
    served: list[Any] = []
    async with library.serving(create_protocol=library.recorder(served)) as server:
        async with library.connect(server, wait_connected=False) as protocol:
            ping = asyncio.ensure_future(protocol.ping())
            protocol.transmit()
            await ping
            assert await library.never_ends_in_the_control(protocol.wait_connected()) is None
            assert await library.never_ends_in_the_control(served[0].wait_connected()) is None


async def test_ping_after_the_end(library: Library) -> None:
    async with library.serving() as server:
        async with library.connect(server) as protocol:
            pass
        error = await library.never_ends_in_the_control(protocol.ping())
        assert isinstance(error, ConnectionError) or library.is_control


async def test_wait_closed_of_a_writer(library: Library) -> None:
    async with library.serving(stream_handler=echo) as server, library.connect(server) as protocol:
        reader, writer = await protocol.create_stream()
        writer.write(b"x")
        writer.close()
        assert await reader.read() == b"x"
        assert await library.never_ends_in_the_control(writer.wait_closed()) is None


async def test_a_read_after_a_reset(library: Library) -> None:
    kept = Opened()
    async with library.serving(stream_handler=kept) as server, library.connect(server) as protocol:
        _, writer = await protocol.create_stream()
        writer.write(b"x")
        await until(lambda: kept.streams)
        reader, _ = kept.streams[0]
        assert await reader.readexactly(1) == b"x"
        protocol._quic.reset_stream(0, 5)
        protocol.transmit()
        error = await library.never_ends_in_the_control(reader.read())
        assert isinstance(error, ConnectionResetError) or library.is_control


async def test_a_datagram_that_is_too_large(library: Library) -> None:
    """In aioquic it blocks all that follow, silently."""
    fields = {"max_datagram_frame_size": 65536}
    served: list[Any] = []
    options = {"configuration": library.server_configuration(**fields), "create_protocol": library.recorder(served)}
    async with library.serving(**options) as server:
        async with library.connect(server, configuration=library.client_configuration(**fields)) as protocol:
            await protocol.ping()
            if library.is_control:
                protocol._quic.send_datagram_frame(bytes(20_000))
            else:
                with pytest.raises(ValueError, match="datagram"):
                    protocol._quic.send_datagram_frame(bytes(20_000))
            protocol._quic.send_datagram_frame(b"small")
            protocol.transmit()
            await protocol.ping()
            assert bool(of_kind(served[0].seen, "DatagramFrameReceived")) != library.is_control


async def test_an_exception_in_the_callback_costs_no_event(library: Library, loop_errors: list[dict[str, Any]]) -> None:
    class Failing(library.asyncio.QuicConnectionProtocol):  # type: ignore[name-defined,misc]  # either library's
        def quic_event_received(self, event: Any) -> None:
            super().quic_event_received(event)
            if type(event).__name__ == "ProtocolNegotiated":
                raise KeyError("mine")

    async with library.serving() as server, library.connect(server, create_protocol=Failing) as protocol:
        await protocol.ping()
    if not library.is_control:
        assert [type(context["exception"]) for context in loop_errors] == [KeyError]
    loop_errors.clear()
