"""Key exchange: both sides arrive at one secret, and a bad share is the peer's fault."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import x25519

from helpers.key_exchange import GROUPS, needs_mlkem
from quicio.tls.alerts import AlertIllegalParameter
from quicio.tls.constants import Group
from quicio.tls.groups import (
    MLKEM768_CIPHERTEXT_SIZE,
    MLKEM768_KEY_SIZE,
    KeyPair,
    X25519KeyPair,
    generate_key_pair,
    is_group_available,
)

SIZES = {  # of the client's share, the server's, the secret
    Group.X25519: (32, 32, 32),
    Group.SECP256R1: (65, 65, 32),
    Group.SECP384R1: (97, 97, 48),
    Group.X25519MLKEM768: (1216, 1120, 64),
}


@pytest.mark.parametrize("group", GROUPS)
def test_agreement(group: Group) -> None:
    assert is_group_available(group)
    client, server = generate_key_pair(group), generate_key_pair(group)
    share = client.client_share()
    assert client.client_share() == share
    answer, secret = server.respond(share)
    assert client.finish(answer) == secret
    assert (len(share), len(answer), len(secret)) == SIZES[group]


@needs_mlkem
def test_hybrid_is_both_with_mlkem_first() -> None:
    """draft-ietf-tls-ecdhe-mlkem §4: taken apart by hand, each half is the plain algorithm's."""
    from cryptography.hazmat.primitives.asymmetric import mlkem

    client = generate_key_pair(Group.X25519MLKEM768)
    share = client.client_share()
    ephemeral = x25519.X25519PrivateKey.generate()
    mlkem_secret, ciphertext = mlkem.MLKEM768PublicKey.from_public_bytes(share[:MLKEM768_KEY_SIZE]).encapsulate()
    x25519_secret = ephemeral.exchange(x25519.X25519PublicKey.from_public_bytes(share[MLKEM768_KEY_SIZE:]))
    answer = ciphertext + ephemeral.public_key().public_bytes_raw()
    assert len(ciphertext) == MLKEM768_CIPHERTEXT_SIZE
    assert client.finish(answer) == mlkem_secret + x25519_secret


@needs_mlkem
def test_changed_ciphertext_gives_another_secret() -> None:
    """ML-KEM rejects implicitly: the handshake fails at the Finished."""
    client, server = generate_key_pair(Group.X25519MLKEM768), generate_key_pair(Group.X25519MLKEM768)
    answer, secret = server.respond(client.client_share())
    assert client.finish(bytes((answer[0] ^ 1,)) + answer[1:]) != secret


BAD_SHARES = [
    (Group.X25519, bytes(32)),
    (Group.X25519, b"\x01" + bytes(31)),
    (Group.X25519, b"\x09" + bytes(30)),
    (Group.X25519, b""),
    (Group.SECP256R1, b"\x04" + bytes(64)),
    (Group.SECP256R1, b"\x04" + bytes(63)),
    (Group.SECP256R1, b"\x00"),
    (Group.SECP256R1, b""),
    (Group.SECP384R1, b"\x04" + bytes(96)),
    (Group.SECP384R1, b"\x02" + bytes(48)),
    pytest.param(Group.X25519MLKEM768, b"", marks=needs_mlkem),
    pytest.param(Group.X25519MLKEM768, bytes(1216), marks=needs_mlkem),
    pytest.param(Group.X25519MLKEM768, bytes(1120), marks=needs_mlkem),
]


@pytest.mark.parametrize(("group", "share"), BAD_SHARES)
def test_bad_share(group: Group, share: bytes) -> None:
    """RFC 8446 §4.2.8.2, RFC 7748 §6.1: on both sides an illegal_parameter."""
    client = generate_key_pair(group)
    client.client_share()
    if not (group == Group.X25519MLKEM768 and len(share) == 1216):
        with pytest.raises(AlertIllegalParameter):
            client.finish(share)
    with pytest.raises(AlertIllegalParameter):
        generate_key_pair(group).respond(share)


@needs_mlkem
def test_hybrid_with_an_invalid_encapsulation_key() -> None:
    """The modulus check of FIPS 203 §7.2."""
    share = b"\xff" * MLKEM768_KEY_SIZE + X25519KeyPair(x25519.X25519PrivateKey.generate()).client_share()
    with pytest.raises(AlertIllegalParameter, match="encapsulation key"):
        generate_key_pair(Group.X25519MLKEM768).respond(share)


@needs_mlkem
def test_hybrid_finish_without_a_share() -> None:
    with pytest.raises(RuntimeError, match="comes before"):
        generate_key_pair(Group.X25519MLKEM768).finish(bytes(1120))


@pytest.mark.parametrize("group", [0, 0x19, 0x1A1A])
def test_unknown_group(group: int) -> None:
    assert not is_group_available(group)
    with pytest.raises(ValueError, match="is not supported"):
        generate_key_pair(group)


def test_base_is_no_group() -> None:
    base = KeyPair()
    with pytest.raises(TypeError):
        base.client_share()
    with pytest.raises(TypeError):
        base.finish(b"")
    with pytest.raises(TypeError):
        base.respond(b"")
