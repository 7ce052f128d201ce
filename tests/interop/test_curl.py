"""Our HTTP/3 servers, of both faces, with curl_cffi: curl on ngtcp2, nghttp3 and BoringSSL, and as Chrome would greet."""

from __future__ import annotations

import pytest

from helpers.interop_decode import decode
from helpers.interop_meeting import Meetings
from helpers.interop_messages import X25519, X25519MLKEM768
from helpers.interop_peers import run_client
from helpers.interop_tap import tapped
from helpers.interop_task import MEBIBYTE, content, digest

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("face", ["anyio", "asyncio", "trio"])]

PEER = "curl_cffi"
SIZE = 10 * MEBIBYTE


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # the programs have loops of their own


async def test_get_and_post(meeting_place: Meetings, face: str) -> None:
    server, _ = meeting_place.http_server(face)
    steps = (f"get:/down/{SIZE}", f"post:/up:{SIZE}", "many-get:100:/down/2000")
    get, post, many = await run_client("curl_client.py", str(server.port), meeting_place.authority, *steps)
    assert get["is_http3"]
    assert (get["status"], get["size"], get["digest"]) == (200, SIZE, digest(content(SIZE)))
    assert (post["status"], post["text"]) == (200, digest(content(SIZE)))
    assert (many["count"], many["digests"]) == (100, [digest(content(2000))])


@pytest.mark.parametrize(("options", "group"), [((), X25519), (("--impersonate", "chrome"), X25519MLKEM768)])
async def test_key_exchange(meeting_place: Meetings, face: str, options: tuple[str, ...], group: int) -> None:
    """BoringSSL sends its ClientHello in shuffled pieces; with the hybrid share it needs several packets."""
    server, key_log = meeting_place.http_server(face)
    with tapped(server.port) as tap:
        arguments = (str(tap.port), meeting_place.authority, "get:/down/1000", *options)
        [get] = await run_client("curl_client.py", *arguments)
    assert (get["is_http3"], get["digest"]) == (True, digest(content(1000)))
    [wire] = decode(tap.datagrams, key_log.read_text())
    assert wire.chosen.group == group
    assert wire.sealed == 0
    carriers = wire.select("INITIAL", True, "CRYPTO")
    assert sum(len(packet.fields("CRYPTO")) for packet in carriers) > 2
    assert (len(carriers) > 1) == (group == X25519MLKEM768)
