"""Every face of quicio with every peer that speaks the task, in both roles: data, and each feature as it shows on the wire.

`role` is ours. Both sides are processes of their own and see each other through a tap; what is asserted of a handshake or a
key is read from the packets, decoded by helpers/interop_decode.py. Where a peer is missing in a table it has not the feature:

    HelloRetryRequest     aioquic offers a share of every group that it knows, and as a server it asks for none; qh3 fails on
                          the message as a client, and as a server it knows every group that quicio has
    hybrid                aioquic has no X25519MLKEM768
    version 2             picoquic's client begins with version 1, whatever it supports
    compatible upgrade    picoquic's server takes no preference; qh3's client stays with version 1 once half its ClientHello
                          was acknowledged in it
    Version Negotiation   picoquic's client gives up, its server cannot be kept from knowing version 2
    Retry                 the trio face leaves it to the load
    key-update, change-id picoquic updates its keys after a number of packets, and changes its ID with its address alone
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from helpers.interop_keys import AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305, V1, V2
from helpers.interop_meeting import FACES, Meeting, Meetings
from helpers.interop_messages import SECP256R1, X25519, X25519MLKEM768
from helpers.interop_task import MEBIBYTE, content, digest

pytestmark = pytest.mark.anyio

Run = Callable[..., Awaitable[Meeting]]
SIZE = 10 * MEBIBYTE
ECHO = digest(content(1000))
PYTHON_PEERS = ["aioquic", "qh3"]
ALL_PEERS = [*PYTHON_PEERS, "aiopquic"]
BOTH = ["client", "server"]
ONE_V = ("--versions", f"{V1:x}")
V2_ONLY = ("--versions", f"{V2:x}")
V2_FIRST = ("--versions", f"{V2:x},{V1:x}")
V1_FIRST = ("--versions", f"{V1:x},{V2:x}")

all_peers = pytest.mark.parametrize("peer", ALL_PEERS)
python_peers = pytest.mark.parametrize("peer", PYTHON_PEERS)
both_roles = pytest.mark.parametrize("role", BOTH)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # the programs have loops of their own


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def run(meeting_place: Meetings, face: str, peer: str, role: str) -> Run:
    """`await run(*steps, ours=options, theirs=options)`: what came of it, an echo when no steps are given."""

    async def meet(*steps: str, ours: tuple[str, ...] = (), theirs: tuple[str, ...] = ()) -> Meeting:
        asked = steps or ("echo::1000",)
        meeting = await meeting_place.play(face, peer, role, *asked, ours=ours, theirs=theirs)
        assert len(meeting.facts) == len(asked) + 1, meeting.facts
        if not steps:
            assert meeting.facts[1]["digest"] == ECHO
        return meeting

    return meet


# --- data ------------------------------------------------------------------------------------------------------------


@both_roles
@all_peers
async def test_bulk_data_and_parallel_streams(run: Run, record_speed: Callable[..., None]) -> None:
    meeting = await run(f"up::{SIZE}", f"down:{SIZE}", "many:100:2000")
    _, up, down, many = meeting.facts
    assert up["text"] == digest(content(SIZE))
    assert (down["size"], down["digest"]) == (SIZE, digest(content(SIZE)))
    assert many["equal"] == 100
    record_speed(SIZE, up["seconds"], "up")
    record_speed(SIZE, down["seconds"], "down")


@both_roles
@python_peers
async def test_http3(run: Run, face: str, role: str) -> None:
    alpn = ("--alpn", "h3")
    options: dict[str, Any] = {"theirs": alpn, "ours": () if face == "asyncio" else alpn}
    if role == "client":
        options = {"theirs": (), "ours": alpn}
    meeting = await run(f"get:/down/{SIZE}", f"post:/up:{SIZE}", "many-get:100:/down/2000", **options)
    _, get, post, many = meeting.facts
    assert (get["status"], get["size"], get["digest"]) == ("200", SIZE, digest(content(SIZE)))
    assert (post["status"], post["text"]) == ("200", digest(content(SIZE)))
    assert (many["count"], many["digests"]) == (100, [digest(content(2000))])


# --- the handshake's variants ----------------------------------------------------------------------------------------


@both_roles
@all_peers
async def test_a_plain_handshake_is_what_the_tap_sees(run: Run) -> None:
    """Every packet of both sides is opened by the second hand; nothing of the variants below is there by chance."""
    wire = (await run()).wire
    assert wire.sealed == 0
    assert wire.kinds() == ["INITIAL", "HANDSHAKE", "ONE_RTT"]
    assert wire.version() == V1
    assert len(wire.client_hellos()) == len(wire.server_hellos()) == 1
    assert wire.generations(True) == wire.generations(False) == [0]


@both_roles
@all_peers
@pytest.mark.parametrize(
    ("suite", "number"),
    [
        ("AES_128_GCM_SHA256", AES_128_GCM),
        ("AES_256_GCM_SHA384", AES_256_GCM),
        ("CHACHA20_POLY1305_SHA256", CHACHA20_POLY1305),
    ],
)
async def test_cipher_suites(run: Run, role: str, suite: str, number: int) -> None:
    """The client offers one alone."""
    options = ("--cipher", suite)
    wire = (await run(**{"ours" if role == "client" else "theirs": options})).wire
    assert wire.client_hellos()[0].cipher_suites == [number] or role == "server"
    assert wire.chosen.cipher_suite == number
    assert wire.select("ONE_RTT", True, "STREAM")
    assert wire.select("ONE_RTT", False, "STREAM")


@both_roles
@pytest.mark.parametrize("peer", ["qh3", "aiopquic"])
async def test_hybrid_key_exchange(run: Run, role: str, peer: str) -> None:
    """draft-ietf-tls-ecdhe-mlkem; our ClientHello, and that of others who offer X25519 too, needs several packets."""
    hybrid = ("--groups", "X25519MLKEM768") if peer == "aiopquic" and role == "server" else ()
    wire = (await run(theirs=hybrid)).wire
    [hello] = wire.client_hellos()
    assert X25519MLKEM768 in hello.share_groups
    assert wire.chosen.group == X25519MLKEM768
    carriers = {packet.datagram for packet in wire.select("INITIAL", True, "CRYPTO")}
    assert len(carriers) > 1


@both_roles
@pytest.mark.parametrize("peer", ["aiopquic"])
async def test_hello_retry_request(run: Run, role: str) -> None:
    """RFC 8446 §4.1.4."""
    ours = ("--groups", "SECP384R1,X25519" if role == "client" else "SECP256R1")
    wire = (await run(ours=ours)).wire
    group = X25519 if role == "client" else SECP256R1
    first, second = wire.client_hellos()
    demand, _ = wire.server_hellos()
    assert group not in first.share_groups
    assert (demand.is_retry_request, demand.group) == (True, group)
    assert second.share_groups == [group]
    assert wire.chosen.group == group


@pytest.mark.parametrize(
    ("peer", "role"),
    [("aioquic", "client"), ("aioquic", "server"), ("qh3", "client"), ("qh3", "server"), ("aiopquic", "client")],
)
async def test_version_2_from_the_start(run: Run, role: str) -> None:
    """RFC 9369."""
    wire = (await run(ours=V2_ONLY, theirs=V2_FIRST) if role == "client" else await run(theirs=V2_ONLY)).wire
    assert {packet.version for packet in wire.select("INITIAL")} == {V2}
    assert wire.version() == V2
    assert wire.select("ONE_RTT", True, "STREAM")
    assert wire.sealed == 0


@pytest.mark.parametrize(
    ("peer", "role"), [("aioquic", "client"), ("aioquic", "server"), ("qh3", "client"), ("aiopquic", "server")]
)
async def test_compatible_upgrade_to_version_2(run: Run, role: str) -> None:
    """RFC 9368 §2.3: the client begins with version 1, the server goes on in version 2."""
    client = (*V2_FIRST, "--original", f"{V1:x}")
    wire = (
        await run(ours=client if role == "client" else V2_FIRST, theirs=V2_FIRST if role == "client" else client)
    ).wire
    assert wire.select("INITIAL", True)[0].version == V1
    assert wire.select("INITIAL", False)[-1].version == V2  # what acknowledges a part of the ClientHello comes before
    assert wire.version() == V2


@both_roles
@python_peers
async def test_version_negotiation(run: Run, role: str) -> None:
    """RFC 9000 §6: the server does not take the version of the first Initial and lists its own."""
    wire = (
        await run(ours=V2_FIRST if role == "client" else ONE_V, theirs=ONE_V if role == "client" else V2_FIRST)
    ).wire
    assert wire.select("INITIAL", True)[0].version == V2
    [answer, *_] = wire.select("VERSION_NEGOTIATION", False)
    assert V1 in answer.versions
    assert V2 not in answer.versions
    assert wire.version() == V1


@pytest.mark.parametrize(
    ("face", "peer", "role"),
    [(face, peer, role) for face in FACES for peer in ALL_PEERS for role in BOTH if (face, role) != ("trio", "server")],
)
async def test_retry(run: Run, role: str) -> None:
    """RFC 9000 §8.1.2: nobody is served who has not come back with the token."""
    wire = (await run(**{"theirs" if role == "client" else "ours": ("--retry",)})).wire
    tokens = {(packet.token, packet.scid) for packet in wire.select("RETRY", False)}
    assert all(token for token, _ in tokens)  # each datagram of a long ClientHello is answered, one answer is taken
    greetings = wire.select("INITIAL", True, "CRYPTO")
    assert greetings[0].token == b""
    assert any((packet.token, packet.dcid) in tokens for packet in greetings)


# --- after the handshake ---------------------------------------------------------------------------------------------


@both_roles
@pytest.mark.parametrize("step", ["update-key", "key-update"])
@python_peers
async def test_key_update(run: Run, step: str) -> None:
    """RFC 9001 §6: whoever begins, both go on with the next keys. `update-key` is the client's, the other the server's."""
    meeting = await run("echo::1000", step, "echo::1000", "up::100000")
    assert meeting.facts[4]["text"] == digest(content(100_000))
    for by_client in (True, False):
        assert meeting.wire.generations(by_client) == [0, 1]
    assert meeting.wire.sealed == 0


@both_roles
@pytest.mark.parametrize("peer", ["aiopquic"])
async def test_key_update_with_picoquic(run: Run, role: str) -> None:
    """picoquic has its own time for it, and is asked as a client; with its server, quicio begins."""
    if role == "client":
        meeting = await run("echo::1000", "update-key", f"up::{MEBIBYTE}")
    else:
        meeting = await run(f"up::{MEBIBYTE}", theirs=("--key-update-interval", "200"))
    assert meeting.facts[-1]["text"] == digest(content(MEBIBYTE))
    assert min(len(meeting.wire.generations(by_client)) for by_client in (True, False)) > 1


@both_roles
@pytest.mark.parametrize("step", ["take-id", "change-id"])
@python_peers
async def test_connection_ids(run: Run, step: str) -> None:
    """RFC 9000 §5.1.2: who changes its destination retires the old one. `take-id` is the client's, the other the server's."""
    meeting = await run("echo::1000", step, "echo::1000", step, "echo::1000")
    by_client = step == "take-id"
    assert len(meeting.wire.destinations(by_client)) >= 3
    retired = meeting.wire.select("ONE_RTT", by_client, "RETIRE_CONNECTION_ID")
    assert sum(len(packet.fields("RETIRE_CONNECTION_ID")) for packet in retired) >= 2


@both_roles
@pytest.mark.parametrize("peer", ["aiopquic"])
async def test_connection_ids_of_picoquic(run: Run, role: str) -> None:
    """quicio changes to another of picoquic's, which goes along."""
    by_client = role == "client"
    meeting = await run("echo::1000", "take-id" if by_client else "change-id", "echo::1000", "up::100000")
    assert meeting.facts[-1]["text"] == digest(content(100_000))
    assert len(meeting.wire.destinations(by_client)) == 2
    assert meeting.wire.select("ONE_RTT", by_client, "RETIRE_CONNECTION_ID")
