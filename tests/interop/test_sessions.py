"""Resumption, early data and address tokens over sockets, in both roles, each asserted on the packets that a tap saw.

A client's process makes several connections one after the other: `again` comes back with the session ticket and the address
token that the connection before it brought, `again:early` sends its next step at once. Kept out of the tables, since the peer
has it not:

    qh3's client          has no function that takes tokens, and not enough room in its ClientHello for one of quicio's tickets
                          beside the name of the task's protocol: it comes with HTTP/3, whose name is short
    aioquic's servers     and qh3's give no tokens
    picoquic's client     looks for a token by a name of the server that its binding does not set
    early data and Retry  of aioquic's client the data is lost, which neither library may resend: it makes a ClientHello anew;
                          picoquic's does so too, and sends the data after the handshake: nothing of it in 0-RTT is readable

Resumption with ngtcp2's client and server is in test_ngtcp2.py; without sockets, and what is rejected, in test_resumption.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from helpers.interop_decode import Conversation
from helpers.interop_meeting import FACES, Meeting, Meetings
from helpers.interop_messages import CERTIFICATE, EARLY_DATA, PRE_SHARED_KEY
from helpers.interop_task import content, digest

pytestmark = pytest.mark.anyio

Play = Callable[..., Awaitable[Meeting]]
EARLY = "again:early"
DISTANCE = 0.1  # seconds to clients from a server that would answer before anything can be sent early
REQUEST = 3000  # bytes that are sent early: several packets
TAKES_EARLY = {"anyio": ("--accept-early-data",), "asyncio": ("--keep-tickets",), "trio": ("--accept-early-data",)}
KEEPS = {"aioquic": ("--keep-tickets",), "qh3": ("--keep-tickets",), "aiopquic": ()}

their_servers = pytest.mark.parametrize("peer", list(KEEPS))
every_face = pytest.mark.parametrize("face", FACES)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # the programs have loops of their own


@pytest.fixture
def as_client(meeting_place: Meetings, face: str, peer: str) -> Play:
    """`await as_client(again, theirs=options)`: our client echoes, and once more on a second connection."""

    async def play(again: str, *ours: str, theirs: tuple[str, ...] = ()) -> Meeting:
        steps = ("echo::100", again, f"echo::{REQUEST}")
        theirs = (*KEEPS[peer], *theirs)
        meeting = await meeting_place.play(
            face, peer, "client", *steps, ours=ours, theirs=theirs, delay=DISTANCE if again == EARLY else 0.0
        )
        return checked(meeting)

    return play


@pytest.fixture
def as_server(meeting_place: Meetings, face: str, peer: str, tmp_path: Path) -> Play:
    """`await as_server(again, *ours)`: their client does, with our server; qh3's in HTTP/3."""

    async def play(again: str, *ours: str, theirs: tuple[str, ...] = ()) -> Meeting:
        steps: tuple[str, ...] = ("echo::100", again, f"echo::{REQUEST}")
        if peer == "qh3":
            steps = ("get:/down/100", again, f"get:/down/{REQUEST}")
            theirs = (*theirs, "--alpn", "h3")
            ours = (*ours, *(("--alpn", "h3") if face != "asyncio" else ()))
        elif peer == "aiopquic":
            theirs = (*theirs, "--ticket-file", str(tmp_path / "tickets"))
        meeting = await meeting_place.play(
            face, peer, "server", *steps, ours=ours, theirs=theirs, delay=DISTANCE if again == EARLY else 0.0
        )
        return checked(meeting)

    return play


def checked(meeting: Meeting) -> Meeting:
    """Both connections have done what they were for; the first one was of no special kind."""
    assert [fact["digest"] for fact in meeting.facts[1::2]] == [digest(content(100)), digest(content(REQUEST))]
    first, _ = meeting.conversations
    assert first.tickets() > 0
    assert not first.chosen.is_resumption
    assert not first.takes_early_data()
    assert not first.select("ZERO_RTT")
    assert CERTIFICATE in dict(first.messages("HANDSHAKE", False))
    return meeting


def check_resumption(wire: Conversation) -> None:
    """RFC 8446 §2.2: the server goes on from the ticket, with no certificate."""
    assert PRE_SHARED_KEY in wire.client_hellos()[0].extensions
    assert wire.chosen.is_resumption
    assert CERTIFICATE not in dict(wire.messages("HANDSHAKE", False))


def check_early_data(wire: Conversation, size: int) -> None:
    """RFC 9001 §4.6: the client asks for it, the server says that it takes it, and the whole request is in 0-RTT packets."""
    check_resumption(wire)
    assert EARLY_DATA in wire.client_hellos()[0].extensions
    assert wire.takes_early_data()
    body = wire.stream(0, True, kinds=("ZERO_RTT",))
    assert len(body) >= size
    assert any(is_end for packet in wire.select("ZERO_RTT", True) for *_, is_end in packet.fields("STREAM"))
    assert not wire.select("ZERO_RTT", False)


# --- our client ------------------------------------------------------------------------------------------------------


@every_face
@their_servers
async def test_our_client_resumes(as_client: Play) -> None:
    _, wire = (await as_client("again")).conversations
    check_resumption(wire)
    assert not wire.select("ZERO_RTT")
    assert wire.sealed == 0


@every_face
@their_servers
async def test_our_client_sends_early_data(as_client: Play) -> None:
    _, wire = (await as_client(EARLY)).conversations
    check_early_data(wire, REQUEST)
    assert wire.sealed == 0


@every_face
@their_servers
async def test_our_client_sends_early_data_again_after_retry(as_client: Play) -> None:
    """RFC 9000 §17.2.5.3: to the address that the Retry gave, with the ClientHello of before."""
    _, wire = (await as_client(EARLY, "--forget-tokens", theirs=("--retry",))).conversations
    check_early_data(wire, REQUEST)
    assert wire.sealed == 0
    sources = {packet.scid for packet in wire.select("RETRY", False)}
    assert wire.stream(0, True, kinds=("ZERO_RTT",), destinations=sources) != b""


@every_face
@pytest.mark.parametrize("peer", ["aiopquic"])
async def test_our_client_shows_a_token(as_client: Play) -> None:
    """RFC 9000 §8.1.3: the token of the first connection spares the second one the Retry."""
    check_token(await as_client("again", theirs=("--retry",)))


# --- our server ------------------------------------------------------------------------------------------------------


@every_face
@pytest.mark.parametrize("peer", list(KEEPS))
async def test_their_client_resumes(as_server: Play) -> None:
    """Without leave for early data: the ticket allows none, so the client asks for none."""
    _, wire = (await as_server("again")).conversations
    check_resumption(wire)
    assert EARLY_DATA not in wire.client_hellos()[0].extensions
    assert not wire.takes_early_data()
    assert wire.sealed == 0


@every_face
@pytest.mark.parametrize("peer", list(KEEPS))
async def test_their_client_sends_early_data(as_server: Play, face: str, peer: str) -> None:
    """On the asyncio face by the tickets that the application keeps, as aioquic's servers do."""
    _, wire = (await as_server(EARLY, *TAKES_EARLY[face])).conversations
    check_early_data(wire, REQUEST if peer != "qh3" else 10)
    assert wire.sealed == 0


@pytest.mark.parametrize(("face", "peer"), [(face, "qh3") for face in FACES])
async def test_their_client_sends_early_data_again_after_retry(as_server: Play, face: str) -> None:
    """What it sent before is lost: it makes its ClientHello anew, so nobody has the keys of that any more."""
    _, wire = (await as_server(EARLY, "--retry", *TAKES_EARLY[face])).conversations
    check_early_data(wire, 10)
    sources = {packet.scid for packet in wire.select("RETRY", False)}
    assert wire.stream(0, True, kinds=("ZERO_RTT",), destinations=sources) != b""


@pytest.mark.parametrize(("face", "peer"), [("anyio", "aiopquic"), ("asyncio", "aiopquic")])
async def test_their_client_sends_the_data_late_after_retry(as_server: Play, face: str) -> None:
    """RFC 9000 §17.2.5.2: nothing is lost by what came too early to be read."""
    _, wire = (await as_server(EARLY, "--retry", *TAKES_EARLY[face])).conversations
    check_resumption(wire)
    assert wire.takes_early_data()
    assert wire.select("RETRY", False)
    assert len(wire.stream(0, True)) >= REQUEST


@pytest.mark.parametrize(("face", "peer"), [("anyio", "aioquic"), ("asyncio", "aioquic")])
async def test_their_client_shows_a_token(as_server: Play) -> None:
    """RFC 9000 §8.1.3."""
    check_token(await as_server("again", "--retry"))


def check_token(meeting: Meeting) -> None:
    """The first connection had to take a Retry and got a token, which the second one showed, to be served at once."""
    first, second = meeting.conversations
    assert first.select("RETRY", False)
    given = {token for packet in first.select("ONE_RTT", False) for (token,) in packet.fields("NEW_TOKEN")}
    shown = {packet.token for packet in second.select("INITIAL", True)}
    assert len(shown) == 1
    assert shown <= given
    assert not second.select("RETRY")
    check_resumption(second)
