"""The anyio face on asyncio, in a process of its own: the peer of the trio face's scenarios.

`crossing_peer.py server CERTIFICATES` prints its port, and serves what each stream's first line asks for until its input
ends. `crossing_peer.py client CERTIFICATES PORT` asks a server for all of it, and prints "all went well".

echo     what comes goes back, and the FIN after it
reset    the stream is reset with code 42 and stopped with code 43
count    nothing is read for a while; then the number of bytes that came
witness  the code with which the stream was reset, on a new stream in one direction
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import anyio

import quicio
from quicio import QuicConfiguration

HOST = "127.0.0.1"
SIZE = 3_000_000  # more than a window and a send buffer
ALPN = ["crossing"]
QUIET = 0.3  # seconds in which "count" reads nothing


def server_configuration(folder: Path) -> QuicConfiguration:
    """A server's configuration, with the certificate and the key in `folder`."""
    configuration = QuicConfiguration(is_client=False, alpn_protocols=ALPN, max_datagram_frame_size=65535)
    configuration.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return configuration


def client_configuration(folder: Path) -> QuicConfiguration:
    """A client's configuration, which trusts the authority in `folder`."""
    return QuicConfiguration(alpn_protocols=ALPN, max_datagram_frame_size=65535, cafile=str(folder / "root.pem"))


async def read_line(stream: quicio.Stream) -> bytes:
    """The first line of a stream, byte by byte."""
    line = b""
    while not line.endswith(b"\n"):
        line += await stream.receive(1)
    return line.strip()


async def answer(connection: quicio.Connection, stream: quicio.Stream) -> None:
    """Do what the stream's first line asks for."""
    word = await read_line(stream)
    if word == b"echo":
        async for data in stream:
            await stream.send(data)
    elif word == b"reset":
        stream.reset(42)
        stream.stop(43)
    elif word == b"count":
        await anyio.sleep(QUIET)
        await stream.send(b"%d" % sum([len(data) async for data in stream]))
    elif word == b"witness":
        code = await reset_code(stream)
        async with await connection.open_send_stream() as witness:
            await witness.send(b"%d" % code)


async def reset_code(stream: quicio.Stream) -> int:
    """The code with which the peer resets the stream; -1 when it does not."""
    try:
        async for _ in stream:
            pass
    except quicio.StreamReset as error:
        return -1 if error.code is None else error.code
    return -1


async def handle(connection: quicio.Connection) -> None:
    """Serve streams and datagrams until the client closes the connection."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(echo_datagrams, connection)
        await connection.incoming_streams.serve(partial(answer, connection))
        tasks.cancel_scope.cancel()


async def echo_datagrams(connection: quicio.Connection) -> None:
    """Send each datagram back."""
    try:
        async for message in connection.datagrams:
            await connection.datagrams.send(message)
    except quicio.ConnectionLost:
        pass


async def serve(folder: Path) -> None:
    """Serve until the input ends."""
    async with anyio.create_task_group() as tasks:
        run = partial(quicio.serve, handle, HOST, 0, configuration=server_configuration(folder))
        listener: quicio.Listener = await tasks.start(run)
        print(listener.local_address[1], flush=True)
        await anyio.to_thread.run_sync(sys.stdin.read)
        tasks.cancel_scope.cancel()


async def ask(folder: Path, port: int) -> None:
    """Ask for everything that the server can do."""
    async with quicio.connect(HOST, port, configuration=client_configuration(folder)) as connection:
        async with await connection.open_stream() as stream:
            await stream.send(b"echo\nhello")
            await stream.send_eof()
            assert b"".join([data async for data in stream]) == b"hello"
        async with await connection.open_stream() as stream:
            await stream.send(b"reset\n")
            assert await reset_code(stream) == 42
            assert await stream.wait_stopped() == 43
        async with await connection.open_stream() as stream:
            await stream.send(b"count\n" + bytes(SIZE))
            await stream.send_eof()
            assert await stream.receive() == b"%d" % SIZE
        with anyio.move_on_after(0.1):
            async with await connection.open_stream() as stream:
                await stream.send(b"witness\n")
                await stream.receive()
        async with await connection.incoming_receive_streams.receive() as witness:
            assert await witness.receive() == b"2"
        await connection.datagrams.send(b"message")
        with anyio.fail_after(5):
            assert await connection.datagrams.receive() == b"message"
    assert "trio" not in sys.modules
    print("all went well", flush=True)


if __name__ == "__main__":
    role, folder, *rest = sys.argv[1:]
    if role == "server":
        anyio.run(serve, Path(folder), backend="asyncio")
    else:
        anyio.run(ask, Path(folder), int(rest[0]), backend="asyncio")
