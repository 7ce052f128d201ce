"""Both roles with ngtcp2's own client and server on GnuTLS, as Debian packages them: HTTP/3 alone, every face of quicio.

They have versions 1 and a draft of 2, which quicio has not; of key exchange all groups but the hybrid one. The client writes
address tokens to a file that it cannot read, so no test has it show one.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from helpers.interop_decode import Conversation, decode
from helpers.interop_keys import CHACHA20_POLY1305, V1, V2
from helpers.interop_meeting import FACES, Meeting, Meetings
from helpers.interop_messages import CERTIFICATE, PRE_SHARED_KEY, SECP384R1, X25519
from helpers.interop_peers import CLIENT_PATIENCE, PATIENCE, program
from helpers.interop_tap import tapped
from helpers.interop_task import MEBIBYTE, content, digest, frames_body

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("face", FACES)]

PEER = "gtlsclient"
SIZE = 10 * MEBIBYTE
ONLY_CHACHA20 = "--ciphers=NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+CHACHA20-POLY1305"
AFTER_HANDSHAKE = "--delay-stream=100ms"  # the request comes once what shall happen before it has happened


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # the programs have loops of their own


# --- its client ------------------------------------------------------------------------------------------------------


@dataclass
class Visit:
    """What its client downloaded, and what a tap saw."""

    files: dict[str, bytes]
    conversations: list[Conversation]


def downloads(folder: Path) -> dict[str, bytes]:
    """The files in a folder."""
    return {entry.name: entry.read_bytes() for entry in folder.iterdir()}


Client = Callable[..., Awaitable[Visit]]


@pytest.fixture
def gtlsclient(meeting_place: Meetings, face: str, tmp_path: Path) -> Client:
    """`await gtlsclient(path, *options, server=options)`: its client with our server."""

    async def run(path: str, *options: str, server: tuple[str, ...] = (), is_decoded: bool = True) -> Visit:
        running, key_log = meeting_place.http_server(face, *server)
        with tapped(running.port) as tap:
            quiet = (
                "--quiet",
                "--no-quic-dump",
                "--no-http-dump",
                "--exit-on-all-streams-close",
                f"--download={tmp_path}",
            )
            address = ("127.0.0.1", str(tap.port), f"https://localhost:{tap.port}{path}")
            with anyio.fail_after(CLIENT_PATIENCE):
                await anyio.run_process([program("gtlsclient") or PEER, *quiet, *options, *address])
        return Visit(downloads(tmp_path), decode(tap.datagrams, key_log.read_text()) if is_decoded else [])

    return run


async def test_its_client_gets(gtlsclient: Client) -> None:
    visit = await gtlsclient(f"/down/{SIZE}", is_decoded=False)
    assert digest(visit.files[str(SIZE)]) == digest(content(SIZE))


async def test_its_client_posts(gtlsclient: Client, tmp_path_factory: pytest.TempPathFactory) -> None:
    body = tmp_path_factory.mktemp("body") / "body"
    body.write_bytes(content(SIZE))
    visit = await gtlsclient("/up", f"--data={body}", "--http-method=POST", is_decoded=False)
    assert visit.files["up"] == digest(content(SIZE)).encode()


async def test_its_client_has_hundred_streams(gtlsclient: Client) -> None:
    visit = await gtlsclient("/down/10000", "--nstreams=100")
    assert visit.files["10000"] == content(10_000)
    [wire] = visit.conversations
    asked = {fields[0] for packet in wire.select("ONE_RTT", True, "STREAM") for fields in packet.fields("STREAM")}
    answered = {
        fields[0]
        for packet in wire.select("ONE_RTT", False, "STREAM")
        for fields in packet.fields("STREAM")
        if fields[3]
    }
    requests = {4 * number for number in range(100)}
    assert requests <= asked
    assert requests <= answered


async def test_its_client_with_chacha20(gtlsclient: Client) -> None:
    visit = await gtlsclient("/down/1000", ONLY_CHACHA20)
    assert visit.files["1000"] == content(1000)
    [wire] = visit.conversations
    assert wire.chosen.cipher_suite == CHACHA20_POLY1305
    assert wire.sealed == 0


async def test_its_client_is_asked_for_another_group(gtlsclient: Client) -> None:
    """RFC 8446 §4.1.4."""
    visit = await gtlsclient("/down/1000", server=("--groups", "SECP384R1"))
    assert visit.files["1000"] == content(1000)
    [wire] = visit.conversations
    first, second = wire.client_hellos()
    assert SECP384R1 not in first.share_groups
    assert second.share_groups == [SECP384R1]
    assert wire.server_hellos()[0].is_retry_request
    assert wire.chosen.group == SECP384R1


async def test_its_client_is_told_the_versions(gtlsclient: Client) -> None:
    """RFC 9000 §6."""
    visit = await gtlsclient("/down/1000", "--version=0x1a2a3a4a", "--preferred-versions=v1")
    assert visit.files["1000"] == content(1000)
    attempt, wire = visit.conversations
    assert attempt.packets[0].version == 0x1A2A3A4A
    [answer, *_] = attempt.select("VERSION_NEGOTIATION", False)
    assert {V1, V2} <= set(answer.versions)
    assert wire.version() == V1


async def test_its_client_comes_back_after_retry(gtlsclient: Client) -> None:
    """RFC 9000 §8.1.2."""
    visit = await gtlsclient("/down/1000", server=("--retry",))
    assert visit.files["1000"] == content(1000)
    [wire] = visit.conversations
    tokens = {(packet.token, packet.scid) for packet in wire.select("RETRY", False)}
    assert all(token for token, _ in tokens)
    assert any((packet.token, packet.dcid) in tokens for packet in wire.select("INITIAL", True, "CRYPTO"))


async def test_its_client_updates_keys(gtlsclient: Client) -> None:
    """RFC 9001 §6."""
    visit = await gtlsclient("/down/100000", "--key-update=10ms", AFTER_HANDSHAKE)
    assert visit.files["100000"] == content(100_000)
    [wire] = visit.conversations
    assert wire.generations(True) == wire.generations(False) == [0, 1]


@pytest.mark.parametrize("is_rebinding", [False, True], ids=["migration", "rebinding"])
async def test_its_client_changes_its_address(gtlsclient: Client, is_rebinding: bool) -> None:
    """RFC 9000 §9: of its own will with another connection ID, by a NAT without; the server validates the new path."""
    options = ["--change-local-addr=10ms", AFTER_HANDSHAKE, *["--nat-rebinding"] * is_rebinding]
    visit = await gtlsclient("/down/100000", *options)
    assert visit.files["100000"] == content(100_000)
    [wire] = visit.conversations
    moved = [packet for packet in wire.select("ONE_RTT") if packet.flow > 0]
    assert any(packet.fields("PATH_CHALLENGE") for packet in moved if not packet.by_client)
    assert any(packet.fields("PATH_RESPONSE") for packet in moved if packet.by_client)
    assert any(packet.fields("STREAM") for packet in moved if not packet.by_client)
    assert len(wire.destinations(True)) == (1 if is_rebinding else 2)


async def test_its_client_resumes(gtlsclient: Client, tmp_path_factory: pytest.TempPathFactory) -> None:
    """RFC 8446 §2.2: the second connection goes on from the ticket of the first, with no certificate."""
    folder = tmp_path_factory.mktemp("session")
    keeping = (f"--session-file={folder / 'session'}", f"--tp-file={folder / 'parameters'}", "--disable-early-data")
    first = await gtlsclient("/down/1000", *keeping)
    second = await gtlsclient("/down/2000", *keeping)
    assert second.files["2000"] == content(2000)
    assert first.conversations[0].tickets() > 0
    assert not first.conversations[0].chosen.is_resumption
    [wire] = second.conversations
    assert PRE_SHARED_KEY in wire.client_hellos()[0].extensions
    assert wire.chosen.is_resumption
    assert CERTIFICATE not in dict(wire.messages("HANDSHAKE", False))


async def test_its_client_sends_early_data(gtlsclient: Client, tmp_path_factory: pytest.TempPathFactory) -> None:
    """RFC 9001 §4.6: the request of the second connection comes in 0-RTT packets, and the server says that it takes it."""
    folder = tmp_path_factory.mktemp("session")
    keeping = (f"--session-file={folder / 'session'}", f"--tp-file={folder / 'parameters'}")
    await gtlsclient("/down/1000", *keeping, server=("--accept-early-data",))
    second = await gtlsclient("/down/2000", *keeping, server=("--accept-early-data",))
    assert second.files["2000"] == content(2000)
    [wire] = second.conversations
    assert wire.chosen.is_resumption
    assert wire.takes_early_data()
    early = [fields for packet in wire.select("ZERO_RTT", True) for fields in packet.fields("STREAM")]
    assert any(stream_id == 0 for stream_id, *_ in early)


async def test_its_client_sends_early_data_again_after_retry(
    gtlsclient: Client, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """RFC 9000 §17.2.5.3: to the address that the Retry gave."""
    folder = tmp_path_factory.mktemp("session")
    keeping = (f"--session-file={folder / 'session'}", f"--tp-file={folder / 'parameters'}")
    server = ("--retry", "--accept-early-data")
    await gtlsclient("/down/1000", *keeping, server=server)
    second = await gtlsclient("/down/2000", *keeping, server=server)
    assert second.files["2000"] == content(2000)
    [wire] = second.conversations
    sources = {packet.scid for packet in wire.select("RETRY", False)}
    assert sources
    assert wire.takes_early_data()
    assert wire.stream(0, True, kinds=("ZERO_RTT",), destinations=sources) != b""


# --- its server ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def start_gtlsserver(
    credentials: tuple[str, str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., int]]:
    """`start(*options)`: its server, one for the same options; gives its port."""
    certificate, key, _ = credentials
    folder = tmp_path_factory.mktemp("htdocs")
    (folder / "index.html").write_bytes(content(3000))
    (folder / "large").write_bytes(content(SIZE))
    running: dict[tuple[str, ...], int] = {}
    with ExitStack() as stack:

        def start(*options: str) -> int:
            if options not in running:
                running[options] = free_port()
                arguments = (
                    "--quiet",
                    f"--htdocs={folder}",
                    *options,
                    "127.0.0.1",
                    str(running[options]),
                    key,
                    certificate,
                )
                process = subprocess.Popen(
                    [program("gtlsserver") or "gtlsserver", *arguments],
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
                stack.callback(end, process)
                wait_bound(running[options])
            return running[options]

        yield start


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and what it started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(PATIENCE)


def free_port() -> int:
    """A port that was free just now: this server does not tell which one the system gave it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_bound(port: int) -> None:
    """Wait until a port is taken."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return
        time.sleep(0.05)
    raise TimeoutError(f"gtlsserver does not listen on port {port}")


Visitor = Callable[..., Awaitable[Meeting]]


@pytest.fixture
def visit(meeting_place: Meetings, face: str, start_gtlsserver: Callable[..., int]) -> Visitor:
    """`await visit(*steps, options=ours, server=its)`: what came of our client's steps with its server."""

    async def run(
        *steps: str, options: tuple[str, ...] = (), server: tuple[str, ...] = (), delay: float = 0.0
    ) -> Meeting:
        asked = (*(steps or ("get:/index.html",)), "--alpn", "h3", *options)
        meeting = await meeting_place.visit(face, start_gtlsserver(*server), *asked, delay=delay)
        assert meeting.facts[0] == {"connected": "h3"}
        if not steps:
            assert (meeting.facts[1]["status"], meeting.facts[1]["digest"]) == ("200", digest(content(3000)))
        return meeting

    return run


async def test_its_server_sends(visit: Visitor) -> None:
    _, get, many = (await visit("get:/large", "many-get:100:/index.html")).facts
    assert (get["status"], get["digest"]) == ("200", digest(content(SIZE)))
    assert (many["count"], many["digests"]) == (100, [digest(content(3000))])


async def test_its_server_takes(visit: Visitor) -> None:
    """It answers with the file that the path names once all of the body is there, of which it keeps nothing: what is compared
    is the stream as its packets brought it, each of which it acknowledged.
    """
    meeting = await visit(f"post:/index.html:{SIZE}")
    assert (meeting.facts[1]["status"], meeting.facts[1]["digest"]) == ("200", digest(content(3000)))
    assert meeting.wire.sealed == 0
    assert digest(frames_body(meeting.wire.stream(0, True))) == digest(content(SIZE))


async def test_its_server_resumes(visit: Visitor) -> None:
    meeting = await visit("get:/index.html", "again", "get:/index.html")
    assert [fact["digest"] for fact in meeting.facts[1::2]] == [digest(content(3000))] * 2
    first, wire = meeting.conversations
    assert first.tickets() > 0
    assert not first.chosen.is_resumption
    assert PRE_SHARED_KEY in wire.client_hellos()[0].extensions
    assert wire.chosen.is_resumption
    assert CERTIFICATE not in dict(wire.messages("HANDSHAKE", False))


@pytest.mark.parametrize("is_retrying", [False, True], ids=["at once", "after a Retry"])
async def test_its_server_takes_early_data(visit: Visitor, is_retrying: bool) -> None:
    """RFC 9001 §4.6, and again after a Retry (RFC 9000 §17.2.5.3)."""
    options = ("--forget-tokens",) if is_retrying else ()
    server = ("--validate-addr",) if is_retrying else ()
    steps = ("get:/index.html", "again:early", "get:/index.html")
    meeting = await visit(*steps, options=options, server=server, delay=0.1)
    assert [fact["digest"] for fact in meeting.facts[1::2]] == [digest(content(3000))] * 2
    _, wire = meeting.conversations
    assert wire.chosen.is_resumption
    assert wire.takes_early_data()
    sources = {packet.scid for packet in wire.select("RETRY", False)}
    assert bool(sources) is is_retrying
    assert wire.stream(0, True, kinds=("ZERO_RTT",), destinations=sources or None) != b""
    assert wire.sealed == 0


async def test_its_server_gives_a_token(visit: Visitor) -> None:
    """RFC 9000 §8.1.3: the token of the first connection spares the second one the Retry."""
    steps = ("get:/index.html", "again", "get:/index.html")
    first, second = (await visit(*steps, server=("--validate-addr",))).conversations
    assert first.select("RETRY", False)
    given = {token for packet in first.select("ONE_RTT", False) for (token,) in packet.fields("NEW_TOKEN")}
    shown = {packet.token for packet in second.select("INITIAL", True)}
    assert len(shown) == 1
    assert shown <= given
    assert not second.select("RETRY")


async def test_its_server_with_chacha20(visit: Visitor) -> None:
    wire = (await visit(server=(ONLY_CHACHA20,))).wire
    assert wire.chosen.cipher_suite == CHACHA20_POLY1305


async def test_its_server_asks_for_another_group(visit: Visitor) -> None:
    """RFC 8446 §4.1.4."""
    wire = (await visit(server=("--groups=-GROUP-ALL:+GROUP-SECP384R1",))).wire
    first, second = wire.client_hellos()
    assert X25519 in first.share_groups
    assert second.share_groups == [SECP384R1]
    assert wire.server_hellos()[0].is_retry_request
    assert wire.chosen.group == SECP384R1


async def test_its_server_tells_its_versions(visit: Visitor) -> None:
    """RFC 9000 §6: it does not know version 2."""
    wire = (await visit(options=("--versions", f"{V2:x},{V1:x}"))).wire
    assert wire.select("INITIAL", True)[0].version == V2
    [answer, *_] = wire.select("VERSION_NEGOTIATION", False)
    assert V1 in answer.versions
    assert wire.version() == V1


async def test_its_server_wants_the_address_validated(visit: Visitor) -> None:
    """RFC 9000 §8.1.2."""
    wire = (await visit(server=("--validate-addr",))).wire
    tokens = {(packet.token, packet.scid) for packet in wire.select("RETRY", False)}
    assert all(token for token, _ in tokens)
    assert any((packet.token, packet.dcid) in tokens for packet in wire.select("INITIAL", True, "CRYPTO"))


async def test_its_server_goes_along_with_new_keys_and_ids(visit: Visitor) -> None:
    """RFC 9001 §6, RFC 9000 §5.1.2."""
    wire = (await visit("get:/index.html", "update-key", "get:/index.html", "take-id", "get:/index.html")).wire
    assert wire.generations(True) == wire.generations(False) == [0, 1]
    assert len(wire.destinations(True)) == 2
    assert wire.select("ONE_RTT", True, "RETIRE_CONNECTION_ID")
