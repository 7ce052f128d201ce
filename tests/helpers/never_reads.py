"""A process that offers 200 MiB to a peer that never reads, or is that peer; both print how much their memory grew.

    python never_reads.py server|sipper|client BACKEND FOLDER [PORT]

A sipper is a server that takes a byte now and then, at a scale of one second to `SIP`.

FOLDER holds the certificates; the server prints its port first. The last line of each is the growth of RSS in bytes.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import anyio

import quicio
from quicio import QuicConfiguration

OFFERED = 200 << 20
CHUNK = bytes(64 * 1024)
SECONDS = 3.0
SIP = 0.05


def resident() -> int:
    """Bytes of memory that are resident now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


async def serve(folder: Path, sips: bool) -> None:
    configuration = QuicConfiguration(is_client=False, alpn_protocols=["idle"])
    configuration.load_cert_chain(folder / "chain.pem", folder / "key.pem")
    done = anyio.Event()

    async def handler(connection: quicio.Connection) -> None:
        stream = await connection.incoming_streams.receive()
        before = resident()
        with anyio.move_on_after(SECONDS):
            while sips:
                await stream.receive(1)
                await anyio.sleep(SIP)
            await anyio.sleep_forever()
        print(resident() - before, flush=True)
        await connection.wait_closed()  # the client stops first: it would take our end for an error
        done.set()

    async with (
        quicio.listen("127.0.0.1", 0, configuration=configuration) as listener,
        anyio.create_task_group() as group,
    ):
        print(listener.local_address[1], flush=True)
        group.start_soon(listener.serve, handler)
        await done.wait()
        group.cancel_scope.cancel()


async def offer(folder: Path, port: int) -> None:
    configuration = QuicConfiguration(alpn_protocols=["idle"], cafile=str(folder / "ca.pem"), server_name="localhost")
    async with quicio.connect("127.0.0.1", port, configuration=configuration) as connection:
        stream = await connection.open_stream()
        await stream.send(b"hello")
        before = resident()
        taken = 0
        with anyio.move_on_after(SECONDS):
            while taken < OFFERED:
                taken += await stream.send_some(CHUNK)
        assert taken < OFFERED, "the peer never read, and yet all was taken"
        print(resident() - before, flush=True)
        connection.close(0)


def main() -> None:
    role, loop, folder, *rest = sys.argv[1:]
    backend = "trio" if loop == "trio" else "asyncio"
    options = {"use_uvloop": True} if loop == "uvloop" else {}
    if role == "client":
        anyio.run(offer, Path(folder), int(rest[0]), backend=backend, backend_options=options)
    else:
        anyio.run(serve, Path(folder), role == "sipper", backend=backend, backend_options=options)


if __name__ == "__main__":
    main()
