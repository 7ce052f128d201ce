"""`connect`: names, addresses, errors, and how its scope ends."""

from __future__ import annotations

import socket
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import pytest

from helpers.loopback import HOST, client_configuration, fill, identity, read_all, server_configuration, serving
from quicio.anyio import Connection, ReceiveStream, Stream, connect, listen
from quicio.anyio.client import summary
from quicio.errors import (
    ALPNError,
    CertificateError,
    ClosedByPeer,
    CloseReason,
    ConnectError,
    HandshakeTimeout,
    NotDelivered,
)
from quicio.quic.configuration import QuicConfiguration

pytestmark = pytest.mark.anyio


class Watched:
    """A server whose handler notes how its connections end, as the peer sees it."""

    def __init__(self) -> None:
        self.reasons: list[CloseReason] = []
        self.has_ended = anyio.Event()

    async def handle(self, connection: Connection) -> None:
        self.reasons.append(await connection.wait_closed())
        self.has_ended.set()


def to(listener: Any, **options: Any) -> AbstractAsyncContextManager[Connection]:
    configuration = options.pop("configuration", None) or client_configuration()
    return connect(*listener.local_address, configuration=configuration, **options)


# --- connecting ------------------------------------------------------------------------------------------------------


async def test_connect_is_not_awaitable_and_says_what_to_write() -> None:
    scope: Any = connect(HOST, 4433, alpn=["x"])
    with pytest.raises(TypeError, match="async with connect"):
        await scope


@pytest.mark.parametrize("alpn", [[], "h3"])
async def test_alpn_must_be_given_as_a_list(alpn: Any) -> None:
    with pytest.raises(ValueError, match="alpn"):
        connect(HOST, 4433, alpn=alpn)


async def test_the_configuration_is_copied() -> None:
    configuration = client_configuration()
    before = configuration.replaced()
    async with (
        serving(Watched().handle) as listener,
        to(listener, configuration=configuration, server_name="localhost"),
    ):
        pass
    assert configuration == before


async def test_a_scope_is_entered_once() -> None:
    async with serving(Watched().handle) as listener:
        scope = to(listener)
        async with scope:
            with pytest.raises(RuntimeError, match="once"):
                await scope.__aenter__()


async def test_names_are_resolved_and_their_addresses_tried_in_order() -> None:
    async with (
        listen(HOST, 0, configuration=server_configuration()) as listener,
        anyio.create_task_group() as group,
    ):
        group.start_soon(listener.serve, Watched().handle)
        port = listener.local_address[1]
        configuration = client_configuration()
        async with connect("localhost", port, configuration=configuration) as connection:
            assert connection.remote_address == (HOST, port)
        group.cancel_scope.cancel()


async def test_an_unknown_host() -> None:
    with pytest.raises(ConnectError, match="resolve") as caught:
        async with connect("no-such-host.invalid", 4433, alpn=["x"]):
            pass
    assert caught.value.attempts == ()
    assert isinstance(caught.value, anyio.ConnectionFailed)
    assert isinstance(caught.value, OSError)


async def test_a_refused_port_fails_at_once() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((HOST, 0))
        port = taken.getsockname()[1]
    with anyio.fail_after(5), pytest.raises(ConnectError) as caught:
        async with connect(HOST, port, alpn=["x"]):
            pass
    ((address, _),) = caught.value.attempts
    assert address == (HOST, port)
    assert f"{HOST} port {port}: connection refused, nobody listens on this UDP port" in str(caught.value)
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    assert caught.value.errno is None  # codes of QUIC never look like the system's


async def test_handshake_timeout() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((HOST, 0))
        configuration = client_configuration(handshake_timeout=0.2)
        with anyio.fail_after(5), pytest.raises(HandshakeTimeout) as caught:
            async with connect(*silent.getsockname(), configuration=configuration):
                pass
    assert len(caught.value.attempts) == 1


async def test_a_certificate_of_another_authority() -> None:
    async with serving(Watched().handle) as listener:
        with pytest.raises(CertificateError) as caught:
            async with to(listener, configuration=client_configuration(cadata=identity(("other.test",))[0].chain_pem)):
                pass
    assert caught.value.reason is not None
    assert not caught.value.reason.by_peer
    assert "quicio loopback root" in str(caught.value)  # which issuer


async def test_a_certificate_for_another_name() -> None:
    async with serving(Watched().handle) as listener:
        with pytest.raises(CertificateError, match=r"is for localhost, .*, not for elsewhere\.test") as caught:
            async with to(listener, server_name="elsewhere.test"):
                pass
        assert [address for address, _ in caught.value.attempts] == [listener.local_address]


async def test_a_certificate_that_the_application_refuses() -> None:
    seen: list[tuple[int, str | None]] = []

    def pin(chain: list[Any], server_name: str | None) -> None:
        seen.append((len(chain), server_name))
        if len(seen) > 1:
            raise ValueError("not the key that was pinned")

    async with serving(Watched().handle) as listener:
        configuration = client_configuration(verify=pin, server_name="localhost")
        async with to(listener, configuration=configuration) as connection:
            assert await connection.ping() < 5
        with pytest.raises(CertificateError, match="`verify` refuses the certificate: not the key that was pinned"):
            async with to(listener, configuration=configuration):
                pass
    assert seen == [(1, "localhost")] * 2


@pytest.mark.parametrize(("field", "value"), [("client_certificates", True)])
async def test_what_is_not_there_yet_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{field} is not supported yet"):
        connect(HOST, 4433, configuration=client_configuration(**{field: value}))


async def test_no_common_application_protocol() -> None:
    async with serving(Watched().handle) as listener:
        with pytest.raises(ALPNError) as caught:
            async with to(listener, alpn=["unheard-of", "other"]):
                pass
    assert "the client offers 'unheard-of', 'other', this server speaks 'quicio-test'" in str(caught.value)
    assert str(caught.value).endswith("(this side offers 'unheard-of', 'other')")  # whatever the server says


async def test_a_socket_of_ones_own_is_used_and_closed() -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((HOST, 0))
    address = sock.getsockname()
    async with serving(Watched().handle) as listener, to(listener, socket=sock) as connection:
        assert connection.local_address == address
    assert sock.fileno() == -1


async def test_a_socket_of_ones_own_is_closed_when_connecting_fails() -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with pytest.raises(ConnectError):
        async with connect("no-such-host.invalid", 4433, alpn=["x"], socket=sock):
            pass
    assert sock.fileno() == -1


async def test_local_address() -> None:
    async with serving(Watched().handle) as listener, to(listener, local_host=HOST) as connection:
        assert connection.local_address[0] == HOST


async def test_cancelled_while_connecting() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((HOST, 0))
        with anyio.move_on_after(0.1) as scope:
            async with connect(*silent.getsockname(), alpn=["x"]):
                pytest.fail("nobody is there")
        assert scope.cancelled_caught


def test_the_error_that_got_furthest_is_raised() -> None:
    first = (("192.0.2.1", 1), OSError("unreachable"))
    second = (("192.0.2.2", 1), ConnectError("refused"))
    third = (("192.0.2.3", 1), CertificateError("unknown authority"))
    error = summary("a.test", [first, second, third])
    assert type(error) is CertificateError
    assert str(error) == (
        "cannot connect to a.test at 192.0.2.1 port 1: unreachable; 192.0.2.2 port 1: refused; "
        "192.0.2.3 port 1: unknown authority"
    )
    assert error.attempts == (first, second, third)
    assert error.__cause__ is third[1]
    assert type(summary("a.test", [first, first])) is ConnectError
    assert summary("a.test", [second]) is second[1]
    assert summary("a.test", [second]).attempts == (second,)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_is_none(port: int) -> None:
    with pytest.raises(ValueError, match="no port to connect to"):
        connect(HOST, port, alpn=["x"])


# --- the end of the scope --------------------------------------------------------------------------------------------


async def test_left_normally_the_peer_sees_no_error() -> None:
    watched = Watched()
    async with serving(watched.handle) as listener:
        async with to(listener):
            pass
        await watched.has_ended.wait()
    (reason,) = watched.reasons
    assert (reason.code, reason.is_application, reason.by_peer) == (0, True, True)


async def test_left_normally_open_streams_are_finished_and_acknowledged() -> None:
    received: list[bytes] = []
    has_ended = anyio.Event()

    async def handler(connection: Connection) -> None:
        async with await connection.incoming_streams.receive() as stream:
            received.append(await read_all(stream))
        has_ended.set()

    async with serving(handler) as listener:
        async with to(listener) as connection:
            stream = await connection.open_stream()
            await stream.send(bytes(300_000))
        await has_ended.wait()
        del stream
    assert [len(data) for data in received] == [300_000]


async def test_left_by_an_exception_it_passes_as_the_same_object_with_its_context() -> None:
    watched = Watched()
    async with serving(watched.handle) as listener:
        error = ValueError("mine")
        context = KeyError("before")
        with pytest.raises(ValueError, match="mine") as caught:
            async with to(listener):
                try:
                    raise context
                except KeyError:
                    raise error  # noqa: B904  # the implicit context is what is tested
        assert caught.value is error
        assert caught.value.__context__ is context
        await watched.has_ended.wait()
    assert watched.reasons[0].code == 1


async def test_a_group_of_the_user_passes_intact() -> None:
    async with serving(Watched().handle) as listener:
        group = ExceptionGroup("mine", [ValueError("a"), KeyError("b")])
        with pytest.raises(ExceptionGroup) as caught:
            async with to(listener):
                raise group
        assert caught.value is group


async def test_left_by_cancellation_the_peer_sees_cancelled_at_once() -> None:
    watched = Watched()
    async with serving(watched.handle) as listener:
        with anyio.move_on_after(0.1) as scope:
            async with to(listener, configuration=client_configuration(linger=60.0)) as connection:
                stream = await connection.open_stream()
                await stream.send(bytes(8_000_000))
        assert scope.cancelled_caught
        with anyio.fail_after(1):
            await watched.has_ended.wait()
        del stream
    assert watched.reasons[0].code == 2


async def test_codes_are_the_applications() -> None:
    from quicio.errors import ErrorCodes

    watched = Watched()
    codes = ErrorCodes(no_error=0x100, internal_error=0x102, cancelled=0x10C)
    async with serving(watched.handle) as listener:
        async with to(listener, configuration=client_configuration(codes=codes)):
            pass
        await watched.has_ended.wait()
    assert watched.reasons[0].code == 0x100


async def test_what_the_peer_does_not_take_within_linger_raises_not_delivered() -> None:
    watched = Watched()
    async with serving(watched.handle) as listener:
        with pytest.raises(NotDelivered):
            async with to(listener, configuration=client_configuration(linger=0.1)) as connection:
                stream = await connection.open_stream()
                await fill(stream)
                await stream.send_eof()
        await watched.has_ended.wait()
        del stream
    assert watched.reasons[0].code == 0


async def test_a_cancelled_linger_closes_with_cancelled() -> None:
    watched = Watched()
    async with serving(watched.handle) as listener:
        with anyio.CancelScope() as scope:
            async with to(listener, configuration=client_configuration(linger=60.0)) as connection:
                stream = await connection.open_stream()
                await fill(stream)
                await stream.send_eof()
                scope.deadline = anyio.current_time() + 0.2
        await watched.has_ended.wait()
        del stream
    assert watched.reasons[0].code == 2


async def test_a_dying_connection_does_not_cancel_the_body() -> None:
    async def handler(connection: Connection) -> None:
        connection.close(5)

    async with serving(handler) as listener, to(listener) as connection:
        reason = await connection.wait_closed()
        assert reason.code == 5
        await anyio.sleep(0.02)  # not cancelled
        with pytest.raises(ClosedByPeer):
            await connection.open_stream()


# --- stream_handler --------------------------------------------------------------------------------------------------


async def test_stream_handler_serves_the_peers_streams_of_both_kinds_until_the_body_ends() -> None:
    answers: list[bytes] = []

    async def server(connection: Connection) -> None:
        async with await connection.open_stream() as stream:
            await stream.send(b"both ways")
            await stream.send_eof()
            answers.append(await read_all(stream))
        async with await connection.open_send_stream() as sending:
            await sending.send(b"one way")
        await connection.wait_closed()

    async def handle(stream: Stream | ReceiveStream) -> None:
        data = await read_all(stream)
        answers.append(data)
        if isinstance(stream, Stream):
            await stream.send(data.upper())
        if len(answers) == 3:
            is_done.set()

    is_done = anyio.Event()
    async with serving(server) as listener, to(listener, stream_handler=handle):
        await is_done.wait()
    assert sorted(answers) == [b"BOTH WAYS", b"both ways", b"one way"]


async def test_what_a_stream_handler_raises_goes_to_on_error() -> None:
    seen: list[tuple[Exception, object]] = []
    is_done = anyio.Event()

    def on_error(error: Exception, stream: object) -> None:
        seen.append((error, stream))
        is_done.set()

    async def server(connection: Connection) -> None:
        async with await connection.open_send_stream() as stream:
            await stream.send(b"x")
            assert await stream.wait_stopped() == 1
        await connection.wait_closed()

    async def handle(stream: Stream | ReceiveStream) -> None:
        raise LookupError("of the handler")

    async with serving(server) as listener, to(listener, stream_handler=handle, on_error=on_error):
        await is_done.wait()
    ((error, stream),) = seen
    assert isinstance(error, LookupError)
    assert isinstance(stream, ReceiveStream)


async def test_what_on_error_raises_ends_the_body_and_leaves_unwrapped() -> None:
    watched = Watched()

    async def server(connection: Connection) -> None:
        async with await connection.open_send_stream() as stream:
            await stream.send(b"x")
            await watched.handle(connection)

    async def handle(stream: Stream | ReceiveStream) -> None:
        raise LookupError("of the handler")

    def crash(error: Exception, stream: object) -> None:
        raise error

    async with serving(server) as listener:
        with anyio.fail_after(5), pytest.raises(LookupError, match="of the handler"):
            async with to(listener, stream_handler=handle, on_error=crash):
                await anyio.sleep_forever()
        await watched.has_ended.wait()
        await anyio.sleep(0)  # the cancellation of the body stayed inside
    assert watched.reasons[0].code == 1


async def test_validation_happens_at_the_call() -> None:
    with pytest.raises(ValueError, match="max_datagram_size"):
        connect(HOST, 1, configuration=QuicConfiguration(alpn_protocols=["x"], max_datagram_size=100))


async def test_a_server_that_closes_right_after_reading_has_acknowledged_what_it_read() -> None:
    async def handler(connection: Connection) -> None:
        stream = await connection.incoming_receive_streams.receive()
        kept.append(stream)
        received.append(await stream.receive(1))  # and closes at once, within the delay of its ACK

    received: list[bytes] = []
    kept: list[Any] = []
    async with serving(handler) as listener:
        for _ in range(20):
            async with to(listener) as connection:
                await connection.ping()
                stream = await connection.open_send_stream()
                kept.append(stream)
                await stream.send(b"x")
                await connection.wait_closed()
                assert connection._table.undelivered_count() == 0
    assert received == [b"x"] * 20


async def test_cancelled_while_stream_handlers_end() -> None:
    watched = Watched()
    has_started = anyio.Event()

    async def server(connection: Connection) -> None:
        async with await connection.open_send_stream() as stream:
            await stream.send(b"x")
            await watched.handle(connection)

    async def handle(stream: Stream | ReceiveStream) -> None:
        has_started.set()
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.4)

    async with serving(server) as listener:
        with anyio.move_on_after(0.2) as scope:
            async with to(listener, stream_handler=handle):
                await has_started.wait()
        assert scope.cancelled_caught
        await watched.has_ended.wait()
    assert watched.reasons[0].code == 2


async def test_a_loss_ends_the_serving_of_streams_quietly(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(connection: Connection) -> None:
        connection.close(5)

    async def handle(stream: Stream | ReceiveStream) -> None:
        pytest.fail("there was none")

    async with serving(handler) as listener, to(listener, stream_handler=handle) as connection:
        await connection.wait_closed()
        await anyio.sleep(0.02)  # the body goes on
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
