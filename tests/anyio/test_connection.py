"""Connections: opening streams, waiting, closing, what is known about them."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSAttribute

from helpers.loopback import HOST, pair, read_all
from quicio.anyio import QuicAttribute
from quicio.errors import ClosedByPeer, ConnectionLost, IdleTimeout
from quicio.quic.events import PathChanged

pytestmark = pytest.mark.anyio


# --- opening streams -------------------------------------------------------------------------------------------------


async def test_open_stream_waits_in_turn_for_the_peers_limit() -> None:
    async with pair(server={"max_streams_bidi": 1}) as ends:
        first = await ends.client.open_stream()
        with pytest.raises(anyio.WouldBlock):
            ends.client.open_stream_nowait()
        order: list[int] = []

        async def open_next(number: int) -> None:
            async with await ends.client.open_stream():
                order.append(number)

        async def serve() -> None:
            async for stream in ends.server.incoming_streams:
                async with stream:
                    await read_all(stream)

        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(open_next, number)
                await anyio.sleep(0.01)
            assert order == []
            group.start_soon(serve)
            await first.aclose()
            with anyio.fail_after(5):
                while len(order) < 3:
                    await anyio.sleep(0.01)
            group.cancel_scope.cancel()
        assert order == [0, 1, 2]


async def test_a_cancelled_open_gives_its_turn_away() -> None:
    async with pair(server={"max_streams_uni": 1}) as ends:
        first = await ends.client.open_send_stream()
        with anyio.move_on_after(0.02) as scope:
            await ends.client.open_send_stream()
        assert scope.cancelled_caught
        with pytest.raises(anyio.WouldBlock):
            ends.client.open_send_stream_nowait()
        await first.aclose()
        async with await ends.server.incoming_receive_streams.receive() as theirs:
            assert await read_all(theirs) == b""
        with anyio.fail_after(5):
            async with await ends.client.open_send_stream() as second:
                assert second.id == 6


async def test_nowait_opens_both_kinds() -> None:
    async with pair() as ends, ends.client.open_stream_nowait() as both, ends.client.open_send_stream_nowait() as one:
        assert (both.id, one.id) == (0, 2)


async def test_a_hundred_streams_at_once() -> None:
    async with pair() as ends:

        async def serve() -> None:
            async for stream in ends.server.incoming_streams:
                async with stream:
                    await stream.send(await read_all(stream))

        async def ask(number: int) -> None:
            async with await ends.client.open_stream() as stream:
                await stream.send(b"%d" % number)
                await stream.send_eof()
                assert await read_all(stream) == b"%d" % number

        async with anyio.create_task_group() as group:
            group.start_soon(serve)
            async with anyio.create_task_group() as askers:
                for number in range(100):
                    askers.start_soon(ask, number)
            group.cancel_scope.cancel()


async def test_connectable_opens_streams() -> None:
    async with pair() as ends:
        connectable = ends.client.connectable()
        async with await connectable.connect() as stream:
            await stream.send(b"x")
        ends.client.close(0)
        with pytest.raises(anyio.ConnectionFailed):
            await connectable.connect()


# --- the end ---------------------------------------------------------------------------------------------------------


async def test_after_a_local_close_everything_is_closed() -> None:
    async with pair() as ends:
        client = ends.client
        stream = await client.open_stream()
        await stream.send(b"x")
        waiting: list[Any] = [
            stream.receive,
            client.datagrams.receive,
            client.ping,
            client.wait_path_changed,
        ]
        outcomes: list[type[BaseException]] = []

        async def expect(call: Any) -> None:
            with pytest.raises(anyio.ClosedResourceError) as caught:
                await call()
            outcomes.append(caught.type)

        async def accept() -> None:
            with pytest.raises(anyio.EndOfStream):
                await client.incoming_streams.receive()

        async with anyio.create_task_group() as group:
            group.start_soon(accept)
            for call in waiting:
                group.start_soon(expect, call)
            await anyio.sleep(0)  # the ping is on its way
            client.close(3, "done")
            client.close(4)  # the first one counts
        assert len(outcomes) == len(waiting)
        for call in (*waiting, client.open_stream, client.open_send_stream):
            with pytest.raises(anyio.ClosedResourceError):
                await call()
        for plain in (client.open_stream_nowait, client.change_connection_id, client.request_key_update):
            with pytest.raises(anyio.ClosedResourceError):
                plain()
        with pytest.raises(anyio.ClosedResourceError):
            client.datagrams.send_nowait(b"x")
        reason = client.close_reason
        assert reason is not None
        assert (reason.code, reason.reason, reason.by_peer) == (3, "done", False)
        assert await client.wait_closed() is reason
        theirs = await ends.server.wait_closed()
        assert (theirs.code, theirs.reason, theirs.by_peer, theirs.is_application) == (3, "done", True, True)
        assert "code 0x3" in repr(client)


async def test_after_the_peer_closed_every_use_raises_a_new_error() -> None:
    async with pair() as ends:
        ends.server.close(9, "gone")
        await ends.client.wait_closed()
        errors: list[ConnectionLost] = []
        calls: tuple[Any, ...] = (ends.client.open_stream, ends.client.ping, ends.client.datagrams.receive)
        for call in calls:
            with pytest.raises(ClosedByPeer, match="gone") as caught:
                await call()
            errors.append(caught.value)
        assert len({id(error) for error in errors}) == len(errors)
        assert all(error.code == 9 for error in errors)
        ends.client.close(0)
        with pytest.raises(anyio.ClosedResourceError):  # closed here as well, now
            await ends.client.open_stream()


async def test_acceptors_end_when_the_peer_closes_cleanly_and_raise_when_it_does_not() -> None:
    for code, expected in ((0, anyio.EndOfStream), (1, ClosedByPeer)):
        async with pair() as ends:
            ends.server.close(code)
            for acceptor in (ends.client.incoming_streams, ends.client.incoming_receive_streams):
                with pytest.raises(expected):
                    await acceptor.receive()


async def test_aclose_finishes_streams_and_is_idempotent() -> None:
    async with pair() as ends:
        stream = await ends.client.open_stream()
        await stream.send(b"all of it")

        async def close() -> None:
            await ends.client.aclose()
            await ends.client.aclose()

        async with anyio.create_task_group() as group:
            group.start_soon(close)
            async with await ends.server.incoming_streams.receive() as theirs:
                assert await read_all(theirs) == b"all of it"
        assert ends.client.close_reason is not None
        with pytest.raises(anyio.ClosedResourceError):
            await stream.receive()


async def test_idle_timeout() -> None:
    async with pair(client={"idle_timeout": 0.2}) as ends:
        with anyio.fail_after(5):
            reason = await ends.client.wait_closed()
            assert not reason.by_peer
            with pytest.raises(IdleTimeout) as caught:
                await ends.client.open_stream()
            assert not isinstance(caught.value, TimeoutError)
            assert caught.value.reason is reason


async def test_keep_alive_keeps_it_open() -> None:
    async with pair(client={"idle_timeout": 0.3, "keep_alive": 0.1}) as ends:
        await anyio.sleep(0.8)
        assert ends.client.close_reason is None


async def test_leaving_it_as_a_context_manager_closes_it() -> None:
    async with pair() as ends:
        async with ends.client:
            pass
        assert (await ends.server.wait_closed()).code == 0


# --- what is known ---------------------------------------------------------------------------------------------------


async def test_attributes() -> None:
    async with pair() as ends:
        client, server = ends.client, ends.server
        assert client.extra(QuicAttribute.alpn) == client.extra(TLSAttribute.alpn_protocol) == "quicio-test"
        assert client.extra(QuicAttribute.version) in (1, 0x6B3343CF)
        assert client.extra(QuicAttribute.cipher).startswith(("AES", "CHACHA20"))
        assert client.extra(QuicAttribute.server_name) == HOST
        certificate = client.extra(QuicAttribute.peer_certificate)
        assert certificate.subject.rfc4514_string() == "CN=localhost"
        assert client.extra(QuicAttribute.peer_certificate_chain)[0] == certificate
        assert server.extra(QuicAttribute.peer_certificate) is None
        assert client.extra(QuicAttribute.resumed) is False
        assert client.extra(QuicAttribute.early_data_accepted) is False
        assert isinstance(client.extra(QuicAttribute.connection_id), bytes)
        assert client.extra(QuicAttribute.statistics).packets_sent > 0
        assert client.extra(TLSAttribute.server_side) is False
        assert server.extra(TLSAttribute.server_side) is True
        assert client.extra(TLSAttribute.tls_version) == "TLSv1.3"
        assert client.extra(SocketAttribute.remote_address) == server.extra(SocketAttribute.local_address)
        assert client.extra(SocketAttribute.remote_port) == server.extra(SocketAttribute.local_port)
        assert server.extra(SocketAttribute.remote_address) == client.local_address
        assert client.extra(SocketAttribute.family) is not None
        assert client.incoming_streams.extra(QuicAttribute.alpn) == "quicio-test"
        assert client.datagrams.extra(QuicAttribute.alpn) == "quicio-test"


async def test_handshake_ping_statistics_and_keys() -> None:
    async with pair() as ends:
        info = await ends.client.wait_handshake()
        assert (info.resumed, info.early_data_accepted) == (False, False)
        assert 0 < await ends.client.ping() < 5
        assert ends.client.statistics().packets_received > 0
        exported = [end.export_keying_material("EXPORTER-test", b"", 32) for end in (ends.client, ends.server)]
        assert exported[0] == exported[1]
        assert "open" in repr(ends.client)


async def test_a_key_update_and_another_connection_id_in_the_middle() -> None:
    async with pair() as ends:
        await ends.client.ping()
        ends.client.request_key_update()
        ends.client.change_connection_id()
        async with await ends.client.open_stream() as stream:
            await stream.send(b"under new keys")
            await stream.send_eof()
            async with await ends.server.incoming_streams.receive() as theirs:
                assert await read_all(theirs) == b"under new keys"
            await stream.wait_delivered()
        assert ends.client.statistics().key_updates == 1


@pytest.mark.parametrize(
    "call", ["ping", "open_stream", "aclose", "wait_closed", "wait_handshake", "wait_path_changed"]
)
async def test_a_cancelled_call_is_as_if_it_was_not_made(call: str) -> None:
    async with pair() as ends:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await getattr(ends.client, call)()
        assert scope.cancelled_caught
        if call != "aclose":  # which still closes
            assert ends.client.close_reason is None
            async with ends.client.open_stream_nowait() as stream:
                assert stream.id == 0
        else:
            assert (await ends.server.wait_closed()).code == 2


async def test_attributes_of_the_handshake_are_not_there_before_it() -> None:
    async with pair() as ends:
        handshake, ends.client._link.handshake = ends.client._link.handshake, None
        with pytest.raises(anyio.TypedAttributeLookupError):
            ends.client.extra(QuicAttribute.alpn)
        ends.client._link.handshake = handshake


async def test_wait_path_changed_gives_the_new_address() -> None:
    async with pair() as ends, anyio.create_task_group() as group:
        seen: list[object] = []

        async def wait() -> None:
            seen.append(await ends.client.wait_path_changed())

        group.start_soon(wait)
        await anyio.sleep(0.02)
        ends.client._link._handle(PathChanged(ends.client.remote_address, None))
        await anyio.sleep(0.02)
        assert seen == [ends.client.remote_address]
