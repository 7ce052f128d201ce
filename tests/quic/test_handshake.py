"""The handshake: transport parameters, versions, decisions, CRYPTO and HANDSHAKE_DONE frames (RFC 9000 §7, RFC 9368)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from helpers.recovery import make_path
from quicio.quic.connection import QuicConnection
from quicio.quic.events import (
    ConnectionTerminated,
    DecisionNeeded,
    HandshakeCompleted,
    ProtocolNegotiated,
)
from quicio.quic.handshake import MIN_CRYPTO_ROOM, TOKEN_CRYPTO, Handshake, alert_to_error
from quicio.quic.wire.constants import (
    APPLICATION,
    APPLICATION_BIT,
    CRYPTO,
    CRYPTO_ERROR,
    EPOCH_HANDSHAKE,
    EPOCH_INITIAL,
    EPOCH_ONE_RTT,
    FULL,
    HANDSHAKE,
    HANDSHAKE_BIT,
    HANDSHAKE_DONE,
    INITIAL,
    INITIAL_BIT,
    PROTOCOL_VIOLATION,
    TRANSPORT_PARAMETER_ERROR,
    VERSION_1,
    VERSION_2,
    VERSION_NEGOTIATION_ERROR,
    QuicConnectionError,
)
from quicio.quic.wire.frames import decode_crypto
from quicio.quic.wire.packet_builder import PacketBuilder
from quicio.tls.alerts import AlertAccessDenied, AlertBadCertificate
from quicio.tls.outputs import ClientHelloDecision, HandshakeComplete, InstallSecret
from sim.links import Delay, DropNumbers
from sim.rude import RudePeer, alter_parameters, crypto_frame, without_extension
from sim.world import World

ORIGINAL_CID, RESET_TOKEN, SOURCE_CID, RETRY_CID, VERSIONS = 0x00, 0x02, 0x0F, 0x10, 0x11


def closes_with(victim_is_client: bool, change: Callable[[dict[int, bytes]], Any], **options: Any) -> int | None:
    """The code by which a victim closes when the peer's transport parameters are changed."""

    def apply(parameters: dict[int, bytes]) -> None:
        change(parameters)

    rude = RudePeer(victim_is_client=victim_is_client, alter=alter_parameters(apply), **options).to_initial()
    for _ in range(6):
        rude.exchange()
        reason = rude.victim.close_reason
        if reason is not None:
            assert not reason.by_peer
            return reason.code
    assert rude.victim.is_handshake_complete
    return None


def started(is_client: bool = True) -> Handshake:
    """The handshake of a client that has sent its ClientHello, or of a server that has answered one."""
    rude = RudePeer(victim_is_client=is_client)
    return (rude.to_initial() if is_client else rude.to_handshake()).victim._parts.handshake


def write(handshake: Handshake, space: int, room: int = 1000) -> PacketBuilder:
    builder = PacketBuilder(make_path())
    builder.begin(space, builder.path, FULL, room)
    handshake.write(builder, 0.0)
    return builder


# --- transport parameters ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("victim_is_client", [True, False])
def test_unchanged_parameters_are_accepted(victim_is_client: bool) -> None:
    assert closes_with(victim_is_client, lambda parameters: None) is None


@pytest.mark.parametrize("victim_is_client", [True, False])
@pytest.mark.parametrize("value", [None, b"", b"somebody"])
def test_the_source_connection_id_is_the_one_that_was_seen(victim_is_client: bool, value: bytes | None) -> None:
    """RFC 9000 §7.3: for both roles; missing is as bad as different."""

    def change(parameters: dict[int, bytes]) -> None:
        if value is None:
            del parameters[SOURCE_CID]
        else:
            parameters[SOURCE_CID] = value

    assert closes_with(victim_is_client, change) == TRANSPORT_PARAMETER_ERROR


@pytest.mark.parametrize("value", [None, b"", b"somebody"])
def test_the_server_repeats_the_original_destination(value: bytes | None) -> None:
    """RFC 9000 §7.3."""

    def change(parameters: dict[int, bytes]) -> None:
        if value is None:
            del parameters[ORIGINAL_CID]
        else:
            parameters[ORIGINAL_CID] = value

    assert closes_with(True, change) == TRANSPORT_PARAMETER_ERROR


@pytest.mark.parametrize("value", [b"", b"retry-id"])
def test_without_a_retry_none_is_claimed(value: bytes) -> None:
    """RFC 9000 §7.3."""

    def change(parameters: dict[int, bytes]) -> None:
        parameters[RETRY_CID] = value

    assert closes_with(True, change) == TRANSPORT_PARAMETER_ERROR


def test_after_a_retry_its_source_is_repeated() -> None:
    """RFC 9000 §7.3: security.md row 10, a Retry that somebody injected shows here."""
    rude = RudePeer(victim_is_client=True)
    rude.victim._parts.handshake.expected_retry_cid = b"retry-id"
    rude.to_initial()
    rude.exchange()
    reason = rude.victim.close_reason
    assert reason is not None
    assert reason.code == TRANSPORT_PARAMETER_ERROR
    assert "retry_source_connection_id" in reason.reason


@pytest.mark.parametrize("victim_is_client", [True, False])
def test_without_transport_parameters_there_is_no_connection(victim_is_client: bool) -> None:
    """RFC 9001 §8.2."""
    rude = RudePeer(victim_is_client=victim_is_client, alter=without_extension(0x39)).to_initial()
    for _ in range(3):
        rude.exchange()
    assert rude.victim.close_reason is not None
    assert rude.victim.close_reason.code == CRYPTO_ERROR + 109


def test_a_machine_that_lets_them_through_is_not_relied_upon() -> None:
    with pytest.raises(QuicConnectionError) as caught:
        started()._read_parameters({})
    assert caught.value.error_code == CRYPTO_ERROR + 109


# --- versions (RFC 9368 §4) -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("victim_is_client", [True, False])
def test_the_chosen_version_is_the_one_in_use(victim_is_client: bool) -> None:
    def change(parameters: dict[int, bytes]) -> None:
        parameters[VERSIONS] = VERSION_2.to_bytes(4, "big") * 2

    assert closes_with(victim_is_client, change) == VERSION_NEGOTIATION_ERROR


@pytest.mark.parametrize("victim_is_client", [True, False])
def test_peers_that_do_not_know_the_parameter_are_welcome(victim_is_client: bool) -> None:
    def change(parameters: dict[int, bytes]) -> None:
        del parameters[VERSIONS]

    assert closes_with(victim_is_client, change) is None


def negotiated(**changes: Any) -> Handshake:
    """A client that followed a Version Negotiation packet from version 1 to version 2."""
    handshake = RudePeer(
        victim_is_client=True, victim={"supported_versions": [VERSION_1, VERSION_2]}
    ).victim._parts.handshake
    handshake.restart(VERSION_2)
    return handshake


def check(handshake: Handshake, information: tuple[int, list[int]] | None) -> int | None:
    parameters = handshake.local_parameters
    parameters.version_information = information
    try:
        handshake._check_version_information(parameters)
    except QuicConnectionError as error:
        return error.error_code
    return None


def test_a_downgrade_by_version_negotiation_is_noticed() -> None:
    """RFC 9368 §4: the server's own list tells; security.md row 10."""
    assert check(negotiated(), (VERSION_2, [VERSION_2])) is None
    assert check(negotiated(), (VERSION_2, [VERSION_2, VERSION_1])) == VERSION_NEGOTIATION_ERROR  # 1 was preferred
    assert check(negotiated(), (VERSION_2, [])) == VERSION_NEGOTIATION_ERROR
    assert check(negotiated(), None) == VERSION_NEGOTIATION_ERROR


def test_after_a_compatible_switch_the_parameter_must_be_there() -> None:
    handshake = started()
    handshake.original_version, handshake.version = VERSION_1, VERSION_2
    assert check(handshake, None) == VERSION_NEGOTIATION_ERROR
    assert check(handshake, (VERSION_2, [VERSION_1, VERSION_2])) is None


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ([VERSION_2, VERSION_1], [VERSION_1, VERSION_2], VERSION_2),
        ([VERSION_1, VERSION_2], [VERSION_2, VERSION_1], VERSION_1),
        ([VERSION_2, VERSION_1], [VERSION_1], VERSION_1),
    ],
)
def test_the_server_prefers_among_the_clients_versions(ours: list[int], theirs: list[int], expected: int) -> None:
    """RFC 9368 §2.3."""
    world = World(
        1,
        server={"supported_versions": ours},
        client={"supported_versions": theirs, "original_version": VERSION_1},
    )
    client, server = world.establish()
    assert client.connection.version == server.connection.version == expected


def test_a_server_without_a_common_version_stays_where_it_is() -> None:
    handshake = started(False)
    assert handshake.remote_parameters is not None
    handshake.remote_parameters.version_information = (VERSION_1, [0x0A0A0A0A])
    handshake._choose_version()
    assert handshake.version == VERSION_1
    assert not handshake.version_changed


# --- decisions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["client", "server"])
def test_an_application_can_refuse_with_an_alert(who: str) -> None:
    world = World(1)
    adopt = world.server.adopt

    def deferring(connection: QuicConnection) -> None:
        if who == "server":
            connection.defer_decisions()
        adopt(connection)

    world.server.endpoint.on_connection = deferring
    client = world.connect()
    if who == "client":
        client.connection.defer_decisions()
    world.run(lambda: bool(world.accepted))
    decider = client if who == "client" else world.accepted[0]
    world.run(lambda: bool(decider.of_type(DecisionNeeded)))
    decision = decider.of_type(DecisionNeeded)[0]
    alert = AlertBadCertificate("not him") if who == "client" else AlertAccessDenied("not here")
    decider.connection.decide(decision.decision_id, alert)
    world.run(lambda: client.connection.is_terminated)
    (terminated,) = client.of_type(ConnectionTerminated)
    assert terminated.error_code == CRYPTO_ERROR + alert.description


def test_alerts_become_crypto_errors() -> None:
    """RFC 9001 §4.8."""
    error = alert_to_error(AlertBadCertificate("why"))
    assert (error.error_code, error.frame_type) == (CRYPTO_ERROR + 42, CRYPTO)
    assert "why" in error.reason_phrase


@pytest.mark.parametrize("victim_is_client", [True, False])
def test_an_alert_while_reading_ends_the_connection(victim_is_client: bool) -> None:
    rude = RudePeer(victim_is_client=victim_is_client).to_initial()
    rude.send(EPOCH_INITIAL, crypto_frame(0, b"\x07\x00\x00\x01x"))
    assert rude.close_code() == CRYPTO_ERROR + 10  # unexpected_message


# --- events and confirmation ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("victim_is_client", [True, False])
def test_completion_is_told_once_with_the_protocol(victim_is_client: bool) -> None:
    rude = RudePeer(victim_is_client=victim_is_client).to_initial()
    for _ in range(6):
        rude.exchange()
        rude.now += 0.01
    events = []
    while (event := rude.victim.next_event()) is not None:
        events.append(event)
    assert [event for event in events if isinstance(event, ProtocolNegotiated)] == [ProtocolNegotiated("test")]
    assert [event for event in events if isinstance(event, HandshakeCompleted)] == [
        HandshakeCompleted("test", early_data_accepted=False, session_resumed=False)
    ]


def test_handshake_done_is_for_clients_whose_handshake_is_complete() -> None:
    """RFC 9000 §19.20."""
    for handshake in (started(True), started(False)):
        with pytest.raises(QuicConnectionError) as caught:
            handshake.on_handshake_done_frame()
        assert (caught.value.error_code, caught.value.frame_type) == (PROTOCOL_VIOLATION, HANDSHAKE_DONE)
        assert not handshake.is_confirmed
    complete = started(True)
    complete.is_complete = True
    complete.on_handshake_done_frame()
    assert complete.is_confirmed


def test_handshake_done_is_sent_until_it_arrives() -> None:
    """RFC 9000 §13.3: on the simulator, with every datagram lost that may hold the first ones."""
    world = World(3, down=[DropNumbers(range(4, 9)), Delay(0.005)])
    client, server = world.establish()
    assert client.connection.is_handshake_confirmed
    sent = server.capture.sent("HANDSHAKE_DONE")
    world.run(limit=2.0)
    assert len(server.capture.sent("HANDSHAKE_DONE")) == len(sent)  # and no longer


# --- frames -----------------------------------------------------------------------------------------------------------


def test_handshake_done_waits_for_room_and_is_offered_again_when_lost() -> None:
    handshake = started(False)
    handshake._done_is_due = True
    handshake.want(APPLICATION_BIT)
    handshake._senders[APPLICATION] = type(handshake._senders[APPLICATION])()
    assert write(handshake, APPLICATION, 0).pieces == []
    assert handshake.pending & APPLICATION_BIT
    builder = write(handshake, APPLICATION, 1)
    assert builder.pieces == [b"\x1e"]
    assert not handshake.pending & APPLICATION_BIT
    (token,) = builder.tokens
    handshake.on_probe(token, 1.0)
    assert write(handshake, APPLICATION).pieces == [b"\x1e"]
    handshake.on_lost(token, 1.0)
    assert handshake.pending & APPLICATION_BIT
    handshake.on_acked(token, 1.0)  # one of them has arrived after all
    assert write(handshake, APPLICATION).pieces == []
    handshake.on_lost(token, 1.0)
    handshake.on_probe(token, 1.0)
    assert not handshake.pending & APPLICATION_BIT


def test_crypto_frames_fill_packets_and_know_their_offsets() -> None:
    handshake = started(True)
    handshake.on_retry()
    assert handshake.pending & INITIAL_BIT
    data = bytes(handshake._senders[INITIAL]._data)
    collected = b""
    tokens = []
    while handshake.pending & INITIAL_BIT:
        builder = write(handshake, INITIAL, 100)
        assert sum(map(len, builder.pieces)) <= 100
        offset, start, end, _ = decode_crypto(b"".join(builder.pieces), 1)
        assert offset == len(collected)
        collected += b"".join(builder.pieces)[start:end]
        tokens += builder.tokens
    assert collected == data
    handshake.on_lost(tokens[1], 1.0)
    assert handshake.pending & INITIAL_BIT
    again = b"".join(write(handshake, INITIAL).pieces)
    assert decode_crypto(again, 1)[0] == tokens[1][3]
    handshake.on_acked(tokens[1], 1.0)
    handshake.on_lost(tokens[1], 1.0)  # it has arrived meanwhile: nothing to repeat
    assert not handshake.pending & INITIAL_BIT


def test_a_scrap_of_room_is_not_worth_a_crypto_frame() -> None:
    handshake = started(True)
    handshake.on_retry()
    assert write(handshake, INITIAL, MIN_CRYPTO_ROOM - 1).pieces == []
    assert handshake.pending & INITIAL_BIT
    assert write(handshake, INITIAL, MIN_CRYPTO_ROOM).pieces


def test_a_discarded_space_has_nothing_to_send_or_to_wait_for() -> None:
    handshake = started(False)
    handshake._senders[HANDSHAKE].offer_all_again()
    handshake.want(HANDSHAKE_BIT)
    handshake.on_space_discarded(HANDSHAKE)
    assert not handshake.pending & HANDSHAKE_BIT
    assert write(handshake, HANDSHAKE).pieces == []


def test_one_rtt_packets_are_not_opened_before_the_handshake_is_complete() -> None:
    """RFC 9001 §5.7: a server has the keys long before."""
    rude = RudePeer(victim_is_client=False).to_handshake()
    keys = rude.victim._parts.keys
    assert keys.sealing[EPOCH_ONE_RTT] is not None
    assert keys.opening[EPOCH_ONE_RTT] is None
    assert keys.opening[EPOCH_HANDSHAKE] is not None
    handshake = rude.victim._parts.handshake
    handshake._act(InstallSecret(EPOCH_ONE_RTT, False, 0x1301, bytes(32)))  # as soon as TLS might tell it
    assert keys.opening[EPOCH_ONE_RTT] is None
    handshake._act(HandshakeComplete())
    assert keys.opening[EPOCH_ONE_RTT] is not None


def test_a_repeated_message_is_not_read_twice() -> None:
    rude = RudePeer(victim_is_client=False).to_handshake()
    hello = rude.crypto(INITIAL)
    rude.send(EPOCH_INITIAL, crypto_frame(0, hello[:900]))
    assert rude.close_code() is None


def test_a_deferred_server_answers_when_it_is_decided() -> None:
    """Meanwhile the ClientHello is acknowledged."""
    rude = RudePeer(victim_is_client=False)
    rude.victim.defer_decisions()
    rude.to_handshake()
    assert rude.victim._parts.keys.sealing[EPOCH_HANDSHAKE] is None
    decisions = []
    while (event := rude.victim.next_event()) is not None:
        decisions.append(event)
    (decision,) = decisions
    assert isinstance(decision, DecisionNeeded)
    question = ClientHelloDecision(decision.decision_id, decision.subject)
    rude.victim.decide(decision.decision_id, rude.victim._parts.handshake._policy.answer(question))
    assert rude.victim._parts.keys.sealing[EPOCH_HANDSHAKE] is not None


def test_frames_that_wait_in_vain_are_a_violation() -> None:
    """RFC 9001 §4.1.3: a piece beyond a gap, when the keys of the next level come."""
    rude = RudePeer(victim_is_client=True).to_initial()
    rude.send(EPOCH_INITIAL, crypto_frame(5000, b"beyond"))
    assert rude.close_code() is None
    rude.send(EPOCH_INITIAL, crypto_frame(0, rude.crypto(INITIAL)))
    assert rude.close_code() == PROTOCOL_VIOLATION


def test_new_data_at_a_level_that_is_over_is_a_violation() -> None:
    """RFC 9001 §4.1.3."""
    rude = RudePeer(victim_is_client=True).to_handshake()
    rude.send(EPOCH_INITIAL, crypto_frame(5000, b"beyond"))
    assert rude.close_code() == PROTOCOL_VIOLATION


def test_a_client_hello_for_middleboxes_is_refused() -> None:
    """RFC 9001 §8.4."""
    rude = RudePeer(victim_is_client=False, session_id=bytes(32)).to_handshake()
    assert rude.victim.close_reason is not None
    assert rude.victim.close_reason.code == PROTOCOL_VIOLATION


def test_a_server_of_version_one_alone_may_not_know_the_parameter() -> None:
    """RFC 9368 §8: after Version Negotiation led there."""
    handshake = RudePeer(
        victim_is_client=True, victim={"supported_versions": [VERSION_2, VERSION_1]}
    ).victim._parts.handshake
    handshake.restart(VERSION_1)
    assert check(handshake, None) is None


# --- a ClientHello that comes again after a switch --------------------------------------------------------------------


def acknowledge_hello(handshake: Handshake) -> None:
    """The client has acknowledged the whole ServerHello."""
    size = len(handshake._senders[INITIAL]._data)
    handshake.on_acked((handshake, TOKEN_CRYPTO, INITIAL, 0, size), 0.0)


def greet_again(handshake: Handshake) -> None:
    """The client sends its ClientHello a second time."""
    handshake.on_crypto_frame(INITIAL, 0, bytes(50))


@pytest.mark.parametrize("is_acked_first", [True, False])
def test_after_a_switch_a_repeated_hello_is_answered_though_the_answer_was_acknowledged(is_acked_first: bool) -> None:
    """RFC 9368 §2.3: picoquic acknowledges the packet that shows the version, and reads its ServerHello from the next."""
    handshake = started(is_client=False)
    handshake.version = VERSION_2
    for step in [acknowledge_hello, greet_again] if is_acked_first else [greet_again, acknowledge_hello]:
        assert INITIAL_BIT & handshake.pending == 0
        step(handshake)
    assert handshake.pending & INITIAL_BIT
    ((_, kind, space, start, stop),) = write(handshake, INITIAL, 2000).tokens
    assert (kind, space, start, stop) == (TOKEN_CRYPTO, INITIAL, 0, len(handshake._senders[INITIAL]._data))
    greet_again(handshake)
    acknowledge_hello(handshake)
    assert handshake.pending & INITIAL_BIT == 0  # once is enough: whoever repeats it for ever gets no more


def test_without_a_switch_loss_recovery_alone_answers_a_repeated_hello() -> None:
    handshake = started(is_client=False)
    acknowledge_hello(handshake)
    greet_again(handshake)
    assert handshake.pending & INITIAL_BIT == 0
