"""What both roles share: every combination of parameters, delivery in pieces, limits, secrets, decisions, lifetime."""

from __future__ import annotations

import contextlib
import gc
import random
import weakref
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.certificates import make_certificates
from helpers.handshakes import FixedEnvironment, Pair, split
from helpers.key_exchange import GROUPS
from quicio.tls.alerts import Alert, AlertIllegalParameter, AlertUnexpectedMessage
from quicio.tls.certificates import load_certificate_chain, load_private_key
from quicio.tls.constants import (
    EPOCH_HANDSHAKE,
    EPOCH_INITIAL,
    EPOCH_ONE_RTT,
    MAX_SUSPENDED_SIZE,
    CipherSuite,
    Group,
    HandshakeType,
    SignatureScheme,
)
from quicio.tls.context import SIZE_LIMITS, Handshake
from quicio.tls.messages import CertificateVerify, encode_message
from quicio.tls.outputs import InstallSecret, SendHandshake

SUITES = [CipherSuite.AES_128_GCM_SHA256, CipherSuite.AES_256_GCM_SHA384, CipherSuite.CHACHA20_POLY1305_SHA256]
KEYS = ["p256", "p384", "ed25519", "rsa"]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("suite", SUITES)
def test_every_combination(suite: CipherSuite, group: Group, key: str) -> None:
    """Each cipher suite with each group and each kind of certificate, the chain with an intermediate."""
    certificates = make_certificates(key, intermediates=1)
    pair = Pair(client={"groups": [group], "cipher_suites": [suite]}, certificates=certificates).run()
    pair.assert_complete()
    assert pair.client.handshake.cipher_suite == suite
    assert pair.client.handshake.group == group
    sizes = {len(secret) for secret in pair.client.secrets().values()}
    assert sizes == {48 if suite == CipherSuite.AES_256_GCM_SHA384 else 32}


def test_certificate_restricted_to_pss() -> None:
    """A certificate of an id-RSASSA-PSS key signs with the schemes of its own (RFC 8446 §4.2.3)."""
    data = (Path(__file__).parent.parent / "vectors" / "rsa-pss.pem").read_bytes()
    chain = load_certificate_chain(data)
    pair = Pair(
        client={"verify_peer": False},
        server={"certificate_chain": chain, "private_key": load_private_key(data)},
    ).run()
    pair.assert_complete()
    (verify,) = (message for _, message in pair.server.sent() if message[0] == HandshakeType.CERTIFICATE_VERIFY)
    assert CertificateVerify.parse(verify[4:]).algorithm == SignatureScheme.RSA_PSS_PSS_SHA256


@pytest.mark.parametrize("piece", [1, 3, 7, 1000])
def test_delivery_in_pieces(piece: int) -> None:
    """Messages arrive in pieces of any size, a retry included."""
    Pair(piece=piece, server={"groups": [Group.SECP256R1]}).run().assert_complete()


@given(seed=st.integers(0, 1 << 32))
def test_delivery_in_random_pieces(seed: int) -> None:
    """Flights are cut anywhere, across message boundaries."""
    rng = random.Random(seed)
    pair = Pair()
    pair.start()
    sides = [(pair.client, pair.server), (pair.server, pair.client)]
    for _ in range(6):
        for sender, receiver in sides:
            for output in sender.drain():
                if isinstance(output, SendHandshake):
                    data = output.data
                    while data:
                        size = rng.randint(1, len(data))
                        receiver.handshake.receive(output.epoch, data[:size])
                        data = data[size:]
                else:
                    pair.answer(output)
    pair.assert_complete()


def test_same_sizes_for_one_seed() -> None:
    """Two runs send messages of the same sizes, which the simulator relies on (with Ed25519 leaves)."""
    certificates = make_certificates("ed25519")
    runs = [[len(message) for _, message in Pair(certificates=certificates).run().server.sent()] for _ in range(2)]
    assert runs[0] == runs[1]


# Limits.


def test_server_size_limit() -> None:
    """Security row 1: what announces too much is refused by its header alone."""
    kind = HandshakeType.CLIENT_HELLO
    limit = SIZE_LIMITS[kind]
    Pair().server.handshake.receive(EPOCH_INITIAL, bytes((kind,)) + limit.to_bytes(3, "big"))
    with pytest.raises(AlertIllegalParameter, match="too large"):
        Pair().server.handshake.receive(EPOCH_INITIAL, bytes((kind,)) + (limit + 1).to_bytes(3, "big"))


@pytest.mark.parametrize(
    "kind",
    [
        HandshakeType.SERVER_HELLO,
        HandshakeType.ENCRYPTED_EXTENSIONS,
        HandshakeType.CERTIFICATE_REQUEST,
        HandshakeType.CERTIFICATE,
        HandshakeType.CERTIFICATE_VERIFY,
        HandshakeType.FINISHED,
    ],
)
def test_client_size_limits(kind: HandshakeType) -> None:
    """Security row 1: each message of a server has its limit, in the state where it may come."""
    target = HandshakeType.CERTIFICATE if kind == HandshakeType.CERTIFICATE_REQUEST else kind
    header = bytes((kind,)) + (SIZE_LIMITS[kind] + 1).to_bytes(3, "big")

    def deliver(from_client: bool, epoch: int, message: bytes) -> Sequence[bytes]:
        return [message] if from_client or message[0] != target else [header]

    with pytest.raises(AlertIllegalParameter, match=f"{kind.name} of {SIZE_LIMITS[kind] + 1} bytes is too large"):
        Pair(deliver=deliver).run()


def test_ticket_size_limit() -> None:
    pair = Pair().run()
    header = bytes((HandshakeType.NEW_SESSION_TICKET,)) + (SIZE_LIMITS[HandshakeType.NEW_SESSION_TICKET] + 1).to_bytes(
        3, "big"
    )
    with pytest.raises(AlertIllegalParameter, match="too large"):
        pair.client.handshake.receive(EPOCH_ONE_RTT, header)


def suspended_client() -> Pair:
    """A pair whose client awaits the verdict on the certificate and has not seen the Finished."""
    pair = Pair(
        deliver=lambda from_client, epoch, data: [] if data[0] == HandshakeType.FINISHED else [data],
    )
    pair.hold = True
    pair.run()
    pair.answer(pair.held.pop())
    pair.run()
    assert pair.client.handshake.is_suspended
    return pair


def test_buffer_while_suspended() -> None:
    """Security row 1: while a decision is awaited, so many bytes are kept and no more."""
    pair = suspended_client()
    pair.client.handshake.receive(EPOCH_HANDSHAKE, bytes(MAX_SUSPENDED_SIZE))
    with pytest.raises(AlertIllegalParameter, match="while a decision is awaited"):
        pair.client.handshake.receive(EPOCH_HANDSHAKE, b"\0")


def test_what_came_while_suspended_is_used() -> None:
    pair = suspended_client()
    finished = pair.server.sent()[-1][1]
    pair.client.handshake.receive(EPOCH_HANDSHAKE, finished)
    assert not pair.client.handshake.is_complete
    pair.answer(pair.held.pop())
    assert pair.client.handshake.is_complete


def test_nothing_is_taken_after_a_failure() -> None:
    """A dead handshake ignores what it is given, and keeps none of it."""
    pair = Pair()
    pair.server.handshake.receive(EPOCH_INITIAL, bytes((HandshakeType.CLIENT_HELLO, 0, 1, 0)) + b"half")
    with pytest.raises(AlertUnexpectedMessage):
        pair.server.handshake.receive(EPOCH_HANDSHAKE, b"x")
    pair.server.handshake.receive(EPOCH_INITIAL, b"x" * 100_000)
    pair.server.handshake.decide(1, True)
    assert pair.server.handshake.is_failed
    assert not pair.server.handshake.outputs
    assert not pair.server.handshake._received


# Secrets.


def test_key_log() -> None:
    """The lines of a key log, under the labels that tools know, the same from both sides."""
    logs: list[dict[str, tuple[bytes, bytes]]] = [{}, {}]

    def logger(number: int) -> object:
        def log(label: str, client_random: bytes, secret: bytes) -> None:
            logs[number][label] = (client_random, secret)

        return log

    pair = Pair(client={"key_log": logger(0)}, server={"key_log": logger(1)}).run()
    assert logs[0] == logs[1]
    client_random = pair.client.sent()[0][1][6:38]
    secrets = pair.client.secrets()
    assert {random for random, _ in logs[0].values()} == {client_random}
    assert {label: secret for label, (_, secret) in logs[0].items() if label != "EXPORTER_SECRET"} == {
        "CLIENT_HANDSHAKE_TRAFFIC_SECRET": secrets[EPOCH_HANDSHAKE, True],
        "SERVER_HANDSHAKE_TRAFFIC_SECRET": secrets[EPOCH_HANDSHAKE, False],
        "CLIENT_TRAFFIC_SECRET_0": secrets[EPOCH_ONE_RTT, True],
        "SERVER_TRAFFIC_SECRET_0": secrets[EPOCH_ONE_RTT, False],
    }
    assert "EXPORTER_SECRET" in logs[0]


def test_exported_keying_material() -> None:
    """Bound to label, context and length (RFC 8446 §7.5)."""
    pair = Pair().run()
    client = pair.client.handshake
    value = client.export_keying_material("EXPORTER-Channel-Binding", b"", 32)
    assert value == pair.server.handshake.export_keying_material("EXPORTER-Channel-Binding", b"", 32)
    assert value != client.export_keying_material("another", b"", 32)
    assert value != client.export_keying_material("EXPORTER-Channel-Binding", b"context", 32)
    assert len(client.export_keying_material("label", b"x" * 1000, 255 * 32)) == 255 * 32
    with pytest.raises(ValueError, match="cannot expand"):
        client.export_keying_material("label", b"", 255 * 32 + 1)
    with pytest.raises(ValueError, match="249 bytes"):
        client.export_keying_material("x" * 250, b"", 32)


def test_export_before_completion() -> None:
    with pytest.raises(RuntimeError, match="once the handshake is complete"):
        Pair().client.handshake.export_keying_material("label", b"", 32)


def test_secrets_stay_out_of_representations() -> None:
    """What is logged by accident holds no secret."""
    pair = Pair().run()
    for output in pair.client.of(InstallSecret):
        assert output.secret.hex() not in repr(output)
        assert "secret" not in repr(output)


def test_tampering_anywhere_is_noticed() -> None:
    """Whatever byte of the server's flight is changed, the client does not complete."""
    reference = Pair(client={"verify_peer": False}).run()
    flight = [message for _, message in reference.server.sent()]
    rng = random.Random(1)
    for index, message in enumerate(flight):
        for _ in range(4):
            position = rng.randrange(len(message))

            def deliver(
                from_client: bool, epoch: int, data: bytes, *, kind: int = message[0], at: int = position
            ) -> Sequence[bytes]:
                if from_client or data[0] != kind:
                    return [data]
                at = min(at, len(data) - 1)
                return [data[:at] + bytes((data[at] ^ 0x01,)) + data[at + 1 :]]

            pair = Pair(client={"verify_peer": False}, deliver=deliver)
            with contextlib.suppress(Alert):
                pair.run()
            assert not pair.client.handshake.is_complete, (index, position)
            assert not pair.server.handshake.is_complete, (index, position)


# Lifetime, base class.


@pytest.mark.parametrize("break_it", [False, True])
def test_dies_by_reference_counting(break_it: bool) -> None:
    """No cycles, whether the handshake completed or failed: a closed connection leaves nothing to the collector."""
    gc.collect()
    gc.disable()
    try:
        pair = Pair()
        pair.run()
        if break_it:
            with contextlib.suppress(AlertUnexpectedMessage):
                pair.client.handshake.receive(EPOCH_ONE_RTT, encode_message(HandshakeType.KEY_UPDATE, b"\0"))
        references = [weakref.ref(pair.client.handshake), weakref.ref(pair.server.handshake)]
        del pair
        assert [reference() for reference in references] == [None, None]
    finally:
        gc.enable()


def test_base_is_not_a_role() -> None:
    """The base class says what to use instead."""
    base = Handshake(FixedEnvironment(), None)
    with pytest.raises(TypeError, match="use ClientHandshake or ServerHandshake"):
        base.receive(EPOCH_INITIAL, b"\1\0\0\0")
    base._suspend()
    with pytest.raises(TypeError, match="use ClientHandshake or ServerHandshake"):
        base.decide(1, True)


# Whatever the peer sends.


def recorded() -> tuple[list[tuple[int, bytes]], list[tuple[int, bytes]]]:
    pair = Pair(client={"verify_peer": False}, server={"groups": [Group.SECP256R1, Group.X25519]}).run()
    return pair.client.sent(), pair.server.sent()


def survives(handshake: Handshake, pair: Pair, epoch: int, data: bytes) -> bool:
    """Feed a machine, answer its questions; False once it raised an `Alert`. Anything else comes out."""
    try:
        handshake.receive(epoch, data)
        while handshake.outputs:
            output = handshake.outputs.popleft()
            if not isinstance(output, SendHandshake):
                pair.answer(output)
    except Alert:
        return False
    return True


mutations = st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=4)


def mutate(data: bytes, changes: list[tuple[int, int]], cut: int | None) -> bytes:
    result = bytearray(data)
    for position, value in changes:
        # Half of the changes hit the first bytes, where the lengths are.
        result[position % len(result) if position % 2 else position % min(len(result), 80)] = value
    return bytes(result if cut is None else result[: cut % (len(result) + 1)])


@given(
    index=st.integers(0, 4),
    changes=mutations,
    cut=st.none() | st.integers(0, 4000),
    to_server=st.booleans(),
    fix_length=st.booleans(),
)
def test_mutated_messages_raise_nothing_but_alerts(
    index: int, changes: list[tuple[int, int]], cut: int | None, to_server: bool, fix_length: bool
) -> None:
    """Security row 13: real handshakes in which one message arrives mutated or truncated, in either role."""
    seen = 0

    def deliver(from_client: bool, epoch: int, message: bytes) -> Sequence[bytes]:
        nonlocal seen
        if from_client != to_server:
            return [message]
        seen += 1
        if seen - 1 != index % (2 if to_server else 5):
            return [message]
        data = mutate(message, changes, cut)
        return [encode_message(data[0], data[4:]) if fix_length and len(data) >= 4 else data]

    pair = Pair(client={"verify_peer": False}, deliver=deliver)
    with contextlib.suppress(Alert):
        pair.run()


@given(data=st.binary(max_size=200), kind=st.sampled_from(list(HandshakeType)), epoch=st.integers(0, 3))
def test_garbage_raises_nothing_but_alerts(data: bytes, kind: int, epoch: int) -> None:
    """Security row 13: framed garbage of every type, at every level, in several states of both machines."""
    fresh, done = Pair(), Pair(client={"verify_peer": False}).run()
    fresh.start()
    for pair in (fresh, done):
        for side in (pair.client, pair.server):
            survives(side.handshake, pair, epoch, encode_message(kind, data))


@given(order=st.permutations(range(5)))
def test_reordered_messages(order: list[int]) -> None:
    """Security row 14: the server's messages in any other order never complete the client."""
    reference = Pair()
    reference.start()
    reference.hold = True
    reference.run()
    reference.answer(reference.held.pop())
    messages = [
        (output.epoch, message)
        for output in reference.server.drain()
        if isinstance(output, SendHandshake)
        for message in split(output.data)
    ]
    reference.hold = False
    alive = True
    for position in order:
        alive = alive and survives(reference.client.handshake, reference, *messages[position])
    assert reference.client.handshake.is_complete == (list(order) == sorted(order))
