"""Retry packets against the printed ones (RFC 9001 §A.4, RFC 9369 §A.4)."""

import pytest

from helpers.vectors import load_vectors
from quicio.quic.wire.headers import parse_long_header
from quicio.quic.wire.retry import encode_retry, retry_integrity_tag


@pytest.mark.parametrize("name", ["rfc9001-appendix-a", "rfc9369-appendix-a"])
def test_printed_retry(name: str) -> None:
    vectors = load_vectors(name)
    version, retry = int(vectors["version"], 16), vectors["retry"]
    packet, original = bytes.fromhex(retry["packet"]), bytes.fromhex(retry["original_dcid"])
    assert retry_integrity_tag(packet[:-16], original, version).hex() == retry["integrity_tag"]
    header = parse_long_header(packet, 0)
    token = bytes.fromhex(retry["token"])
    assert encode_retry(version, header.source_cid, header.destination_cid, original, token, 0x0F) == packet


def test_tag_depends_on_everything() -> None:
    base = encode_retry(1, b"server", b"client", b"original", b"token")
    tags = {
        base[-16:],
        encode_retry(0x6B3343CF, b"server", b"client", b"original", b"token")[-16:],
        encode_retry(1, b"Server", b"client", b"original", b"token")[-16:],
        encode_retry(1, b"server", b"Client", b"original", b"token")[-16:],
        encode_retry(1, b"server", b"client", b"Original", b"token")[-16:],
        encode_retry(1, b"server", b"client", b"original", b"Token")[-16:],
        encode_retry(1, b"server", b"client", b"original", b"token", 1)[-16:],
    }
    assert len(tags) == 7


def test_unused_bits_do_not_spill() -> None:
    assert encode_retry(1, b"s", b"c", b"o", b"token", 0xFF)[0] == 0xFF
    assert encode_retry(0x6B3343CF, b"s", b"c", b"o", b"token", 0x30)[0] == 0xC0


@pytest.mark.rfc("9000", "17.2.5.2", "MUST")
def test_empty_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="token"):
        encode_retry(1, b"server", b"client", b"original", b"")
