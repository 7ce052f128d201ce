"""The second hand of the interop tests, on what the RFCs print: packets of RFC 9001 and RFC 9369, messages of RFC 8448.

The decoder decides there what was negotiated, so it is held to what neither quicio nor a peer has made.
"""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from helpers.interop_decode import Conversation, decode, split, varint
from helpers.interop_keys import AES_128_GCM, CHACHA20_POLY1305, V1, V2, Keys, expand_label, initial_keys
from helpers.interop_messages import EARLY_DATA, SECP256R1, X25519, ClientHello, Pieces, ServerHello, read_extensions
from helpers.interop_tap import Datagram
from helpers.vectors import load_vectors

VECTORS = {V1: load_vectors("rfc9001-appendix-a"), V2: load_vectors("rfc9369-appendix-a")}
VARINTS = load_vectors("rfc9000-varint-pn")["varint_from_rfc"]
CLIENT_RANDOM = bytes.fromhex("ebf8fa56f12939b9584a3896472ec40bb863cfd3e86804fe3a47f06a2b69484c")

both_versions = pytest.mark.parametrize("version", [V1, V2], ids=["version 1", "version 2"])


def packet(version: int, name: str) -> bytes:
    vector = VECTORS[version][name]
    return bytes.fromhex(vector["packet"] if "packet" in vector else vector["protected_packet"])


def conversation(*datagrams: tuple[bool, bytes], key_log: str = "") -> Conversation:
    """Of datagrams of the client (True) and the server, all of one flow."""
    [result] = decode([Datagram(by_client, 0, data) for by_client, data in datagrams], key_log)
    return result


# --- keys ------------------------------------------------------------------------------------------------------------


@both_versions
@pytest.mark.parametrize("side", ["client", "server"])
def test_initial_packets_open(version: int, side: str) -> None:
    vector = VECTORS[version][f"{side}_initial"]
    keys = initial_keys(bytes.fromhex(VECTORS[version]["destination_connection_id"]), version, side == "client")
    header = bytes.fromhex(vector["protected_header"])
    number, generation, payload = keys.open(
        packet(version, f"{side}_initial"), len(header) - vector["packet_number_length"]
    )
    assert (number, generation) == (vector["packet_number"], 0)
    if side == "client":
        frame = bytes.fromhex(vector["crypto_frame"])
        assert payload == frame + bytes(vector["payload_length"] - len(frame))
    else:
        assert payload == bytes.fromhex(vector["payload"])


@both_versions
def test_a_packet_of_chacha20_opens(version: int) -> None:
    """Its number is rebuilt from three bytes, beside the largest one so far (RFC 9000 §A.3)."""
    vector = VECTORS[version]["chacha20_short_header"]
    keys = Keys(bytes.fromhex(vector["secret"]), version, CHACHA20_POLY1305)
    keys.largest = vector["pn"] - 1
    assert keys.open(packet(version, "chacha20_short_header"), 1) == (vector["pn"], 0, b"\x01")


@both_versions
def test_a_packet_that_was_changed_does_not_open(version: int) -> None:
    vector = VECTORS[version]["chacha20_short_header"]
    keys = Keys(bytes.fromhex(vector["secret"]), version, CHACHA20_POLY1305)
    keys.largest = vector["pn"] - 1
    sealed = bytearray(packet(version, "chacha20_short_header"))
    sealed[-1] ^= 1
    with pytest.raises(InvalidTag):
        keys.open(bytes(sealed), 1)


def seal_in_next_phase(version: int, number: int, payload: bytes) -> bytes:
    """A packet under the keys after the next key update, of which the RFCs print the secret (`ku`)."""
    vector = VECTORS[version]["chacha20_short_header"]
    prefix, secret = VECTORS[version]["label_prefix"], bytes.fromhex(vector["ku"])
    key = expand_label(secret, f"{prefix}key", 32, hashes.SHA256())
    nonce = int.from_bytes(expand_label(secret, f"{prefix}iv", 12, hashes.SHA256()), "big") ^ number
    header = bytes([0x43 | 0x04]) + number.to_bytes(4, "big")
    sealed = ChaCha20Poly1305(key).encrypt(nonce.to_bytes(12, "big"), payload, header)
    cipher = Cipher(algorithms.ChaCha20(bytes.fromhex(vector["hp"]), sealed[:16]), None)
    mask = cipher.encryptor().update(bytes(5))
    flags = bytes([header[0] ^ (mask[0] & 0x1F)])
    return flags + bytes(a ^ b for a, b in zip(header[1:], mask[1:], strict=True)) + sealed


@both_versions
def test_key_updates_are_followed(version: int) -> None:
    """RFC 9001 §6: the other phase means the next generation, and for what comes late the one before."""
    vector = VECTORS[version]["chacha20_short_header"]
    keys = Keys(bytes.fromhex(vector["secret"]), version, CHACHA20_POLY1305)
    keys.largest = vector["pn"] - 1
    assert keys.open(seal_in_next_phase(version, vector["pn"] + 1, b"\x01" * 20), 1)[:2] == (vector["pn"] + 1, 1)
    assert keys.open(packet(version, "chacha20_short_header"), 1)[:2] == (vector["pn"], 0)


# --- packets ---------------------------------------------------------------------------------------------------------


@both_versions
def test_a_greeting_is_decoded(version: int) -> None:
    wire = conversation((True, packet(version, "client_initial")), (False, packet(version, "server_initial")))
    client, server = wire.packets
    assert (client.kind, client.number, client.version, client.by_client) == ("INITIAL", 2, version, True)
    assert client.dcid.hex() == VECTORS[version]["destination_connection_id"]
    assert (server.kind, server.number, server.dcid, server.scid.hex()) == ("INITIAL", 1, b"", "f067a5502a4262b5")
    assert [name for name, _ in server.frames] == ["ACK", "CRYPTO"]
    assert wire.sealed == 0
    [hello] = wire.client_hellos()
    assert hello.random == CLIENT_RANDOM
    assert hello.share_groups == [X25519]
    assert (wire.chosen.cipher_suite, wire.chosen.group, wire.chosen.is_resumption) == (AES_128_GCM, X25519, False)


@both_versions
def test_a_retry_shows_its_token(version: int) -> None:
    wire = conversation((True, packet(version, "client_initial")), (False, packet(version, "retry")))
    [retry] = wire.select("RETRY", False)
    assert (retry.token, retry.scid.hex()) == (b"token", "f067a5502a4262b5")


def test_packets_of_one_datagram_are_split() -> None:
    """RFC 9000 §12.2, and padding behind them."""
    first, second = packet(V1, "client_initial"), packet(V1, "chacha20_short_header")
    assert list(split(first + second)) == [first, second]
    assert list(split(packet(V1, "server_initial") + bytes(100))) == [packet(V1, "server_initial")]
    retry = packet(V2, "retry")
    assert list(split(retry)) == [retry]


def test_what_nobody_can_open_is_counted() -> None:
    wire = conversation((True, packet(V1, "client_initial")), (True, packet(V1, "chacha20_short_header")))
    assert wire.sealed == 1
    assert wire.kinds() == ["INITIAL"]


def test_version_negotiation_lists_versions() -> None:
    """RFC 9000 §17.2.1."""
    answer = bytes.fromhex("80 00000000 00 01aa") + V2.to_bytes(4, "big") + V1.to_bytes(4, "big")
    [found] = conversation((True, packet(V1, "client_initial")), (False, answer)).select("VERSION_NEGOTIATION", False)
    assert (found.scid, found.versions) == (b"\xaa", [V2, V1])


def test_a_flow_that_begins_in_the_middle_goes_on_with_the_last_connection() -> None:
    """A client that changed its address; one that greets is another connection."""
    greeting, later = packet(V1, "client_initial"), packet(V1, "chacha20_short_header")
    assert len(decode([Datagram(True, 0, greeting), Datagram(True, 1, later)], "")) == 1
    assert len(decode([Datagram(True, 0, greeting), Datagram(True, 1, greeting)], "")) == 2


@pytest.mark.parametrize("vector", VARINTS, ids=lambda vector: vector["hex"])
def test_integers_of_variable_length(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["hex"])
    assert varint(b"\xff" + data, 1) == (vector["value"], 1 + len(data))


# --- messages --------------------------------------------------------------------------------------------------------


def messages(section: int, name: str) -> list[bytes]:
    """The bodies of the messages of a name in a trace of RFC 8448."""
    [trace] = [trace for trace in load_vectors("rfc8448-tls13-traces")["sections"] if int(trace["section"]) == section]
    article = "an" if name[0] == "E" else "a"
    steps = [step for step in trace["steps"] if step["operation"] == f"construct {article} {name} handshake message"]
    return [bytes.fromhex(field["hex"])[4:] for step in steps for field in step["fields"] if field["name"] == name]


def test_a_resumption_shows() -> None:
    """RFC 8448 §3 and §4: a full handshake, and one that goes on from it with early data."""
    [full], [resumed] = messages(3, "ServerHello"), messages(4, "ServerHello")
    assert not ServerHello.read(full).is_resumption
    assert ServerHello.read(resumed).is_resumption
    refusal, leave = (messages(section, "EncryptedExtensions")[0] for section in (3, 4))
    assert EARLY_DATA not in read_extensions(refusal[2:])
    assert EARLY_DATA in read_extensions(leave[2:])


def test_a_hello_retry_request_shows() -> None:
    """RFC 8448 §5."""
    demand, answer = (ServerHello.read(body) for body in messages(5, "ServerHello"))
    assert (demand.is_retry_request, demand.group) == (True, SECP256R1)
    assert (answer.is_retry_request, answer.group) == (False, SECP256R1)
    first, second = (ClientHello.read(body) for body in messages(5, "ClientHello"))
    assert first.share_groups == [X25519]
    assert second.share_groups == [SECP256R1]
    assert SECP256R1 in first.groups


def test_extensions_are_read_by_type() -> None:
    assert read_extensions(bytes.fromhex("002a 0000 0010 0002 abcd")) == {EARLY_DATA: b"", 0x10: b"\xab\xcd"}


def test_pieces_are_put_together() -> None:
    """In any order, with overlaps; what is behind a gap waits, and so does half a message."""
    pieces = Pieces()
    pieces.add(6, b"\x05\x06\x07")
    assert not pieces.begins
    assert pieces.data() == b""
    pieces.add(0, b"\x01\x00\x00\x02")
    assert list(pieces.messages()) == []
    pieces.add(3, b"\x02\x03\x04")
    assert pieces.data() == b"\x01\x00\x00\x02\x03\x04\x05\x06\x07"
    assert list(pieces.messages()) == [(1, b"\x03\x04")]
