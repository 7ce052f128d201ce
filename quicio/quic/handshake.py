"""The handshake: CRYPTO streams around a TLS machine, keys, and transport parameters (RFC 9000 §7, RFC 9001 §4).

This component owns the three CRYPTO streams (one a packet number space, `wire/…` frames in, TLS bytes out), feeds the TLS
machine, and acts on its outputs in their order: bytes to send, keys to install, decisions to take, the peer's extensions,
completion. Decisions that can be answered from the configuration are answered at once; an application that asked for them
gets `DecisionNeeded` instead and answers through `decide`; meanwhile nothing blocks: packets are acknowledged, CRYPTO is
buffered up to `MAX_CRYPTO_BUFFER`, timers run.

Rules kept here: connection IDs in the transport parameters are those that were seen (§7.3); 1-RTT packets are opened only
when the handshake is complete (RFC 9001 §5.7); the handshake is confirmed by completion on a server, by HANDSHAKE_DONE on
a client (RFC 9001 §4.1.2); a TLS alert becomes CRYPTO_ERROR plus the alert (RFC 9001 §4.8).
The version is chosen compatibly, without a round trip, by RFC 9368.

Early data (RFC 9001 §4.6) goes under the keys of a ticket, in packets of the client's original version, within the limits that
the ticket remembers. `is_readable` says that stream data may be handed out: on a server that accepted early data that is so
before the handshake is complete. A client learns with EncryptedExtensions whether it was accepted; when it was not,
`early_data_is_rejected` has `Parts` start it anew. A server keeps 0-RTT keys a while for packets that come late (§4.9.3).

What it leaves to others: when keys are discarded and what follows (`connection.py` wires that), Retry and Version
Negotiation packets (`inbound.py` recognises them, `restart` and `on_retry` here take over).
"""

from collections import deque
from math import inf
from typing import Final

from quicio.quic.component import Component, Token, Wants
from quicio.quic.crypto_stream import CryptoReceiver, CryptoSender
from quicio.quic.events import DecisionNeeded, HandshakeCompleted, ProtocolNegotiated, QuicEvent
from quicio.quic.remembered import (
    EARLY_DATA_ALLOWED,
    QUIC_TRANSPORT_PARAMETERS,
    check_not_reduced,
    remember,
    restore,
    version_of,
)
from quicio.quic.tls_policy import TlsPolicy
from quicio.quic.wire.constants import (
    APPLICATION,
    APPLICATION_BIT,
    CRYPTO,
    CRYPTO_ERROR,
    EPOCH_HANDSHAKE,
    EPOCH_INITIAL,
    EPOCH_ONE_RTT,
    EPOCH_ZERO_RTT,
    HANDSHAKE,
    HANDSHAKE_DONE,
    INITIAL,
    PROTOCOL_VIOLATION,
    TRANSPORT_PARAMETER_ERROR,
    VERSION_1,
    VERSION_NEGOTIATION_ERROR,
    QuicConnectionError,
)
from quicio.quic.wire.crypto import KeyRing
from quicio.quic.wire.frames import HANDSHAKE_DONE_FRAME, encode_crypto_header, encode_new_token
from quicio.quic.wire.headers import is_known_version
from quicio.quic.wire.packet_builder import PacketBuilder
from quicio.quic.wire.transport_parameters import TransportParameters, decode, encode
from quicio.tls import outputs as tls
from quicio.tls.alerts import Alert
from quicio.tls.client import ClientHandshake
from quicio.tls.server import ServerHandshake
from quicio.tls.tickets import SessionTicket

MISSING_EXTENSION: Final = 109  # TLS alert
TOKEN_CRYPTO: Final = 0
TOKEN_DONE: Final = 1
TOKEN_NEW_TOKEN: Final = 2
EPOCH_OF_SPACE: Final = (EPOCH_INITIAL, EPOCH_HANDSHAKE, EPOCH_ONE_RTT)
SPACE_OF_EPOCH: Final = (INITIAL, APPLICATION, HANDSHAKE, APPLICATION)
NEW_TOKEN_OVERHEAD: Final = 3  # type and length of the frame
MIN_CRYPTO_ROOM: Final = 16  # a CRYPTO frame with less data is not worth its header


class Handshake(Component):
    """Everything that happens before, and about, keys."""

    __slots__ = (
        "_done_is_acked",
        "_done_is_due",
        "_events",
        "_has_greeted_again",
        "_hello",
        "_keys",
        "_negotiation_version",
        "_pending_one_rtt",
        "_policy",
        "_receivers",
        "_repeated_hello",
        "_senders",
        "_tokens_due",
        "deferred_decisions",
        "early_alpn",
        "early_data_is_rejected",
        "expected_original_cid",
        "expected_retry_cid",
        "expected_source_cid",
        "is_client",
        "is_complete",
        "is_confirmed",
        "is_readable",
        "is_source_cid_fixed",
        "local_parameters",
        "machine",
        "new_keys",
        "new_tickets",
        "original_version",
        "remembered",
        "remote_parameters",
        "version",
        "version_changed",
        "versions",
    )

    def __init__(
        self,
        wants: Wants,
        events: deque[QuicEvent],
        keys: KeyRing,
        policy: TlsPolicy,
        *,
        is_client: bool,
        version: int,
        versions: list[int],
        parameters: TransportParameters,
    ) -> None:
        super().__init__(wants)
        self._events = events
        self._keys = keys
        self._policy = policy
        self.is_client = is_client
        self.version = version
        self.original_version = version  # of the client's first Initial
        self.versions = versions
        self.local_parameters = parameters
        self.remote_parameters: TransportParameters | None = None
        self._senders = [CryptoSender(), CryptoSender(), CryptoSender()]
        self._receivers = [CryptoReceiver(), CryptoReceiver(), CryptoReceiver()]
        self._repeated_hello = False  # server: the client sent it anew, in the version that was switched to
        self._has_greeted_again = False
        self._done_is_due = False
        self._done_is_acked = False
        self._tokens_due: list[bytes] = []
        self._pending_one_rtt: tls.InstallSecret | None = None
        self._negotiation_version = 0  # version whose Version Negotiation packet we followed, RFC 9368 §4
        self.is_complete = False
        self.is_confirmed = False
        self.new_keys = False  # inbound: packets that waited for keys may be opened now
        self.version_changed = False  # connection: Initial keys for `version` are wanted
        self.deferred_decisions = False
        self.is_readable = False  # stream data that came may be handed out
        self.remembered: TransportParameters | None = None  # client: the limits of early data, while it is offered
        self.early_alpn: str | None = None  # and the application protocol
        self.early_data_is_rejected = False  # parts: what was sent as early data has to start anew
        self.new_tickets: list[SessionTicket] = []  # that nobody has taken yet
        self._hello: tls.ClientHelloDecision | None = None
        # What the peer must repeat in its transport parameters (RFC 9000 §7.3).
        self.expected_source_cid = b""
        self.is_source_cid_fixed = False  # an authentic packet has shown it
        self.expected_original_cid: bytes | None = None
        self.expected_retry_cid: bytes | None = None
        self.machine = policy.machine()

    # --- start -------------------------------------------------------------------------------------------------------

    def trusts(self, ticket: SessionTicket) -> bool:
        """Client: whether the server that gave `ticket` is trusted today. Those who decide themselves have said so then."""
        return self.deferred_decisions or self._policy.trusts(ticket)

    def offer(self, ticket: SessionTicket, early_data: bool) -> None:
        """Client, before `start()`: resume with `ticket`, and send early data if it allows that."""
        version = version_of(ticket)
        if version is not None:  # it is bound to it (RFC 9369 §5)
            self.version = self.original_version = version
            self.local_parameters.version_information = (version, self.versions)
        remembered = restore(ticket)
        is_allowed = ticket.max_early_data_size == EARLY_DATA_ALLOWED
        self._policy.offer(ticket, early_data and is_allowed and remembered is not None)
        self.machine = self._policy.machine()
        if self.machine.early_data_offered:
            self.remembered = remembered
            self.early_alpn = ticket.alpn

    def start(self) -> None:
        """Client: produce the ClientHello."""
        self.machine.local_extensions = [(QUIC_TRANSPORT_PARAMETERS, encode(self.local_parameters))]
        if isinstance(self.machine, ClientHandshake):
            self.machine.start()
        self._pump()

    def restart(self, version: int) -> None:
        """Client: begin again with another version, after Version Negotiation (RFC 9000 §6.2)."""
        self._negotiation_version = self.version
        self.version = version
        self.original_version = version
        self._senders = [CryptoSender(), CryptoSender(), CryptoSender()]
        self._receivers = [CryptoReceiver(), CryptoReceiver(), CryptoReceiver()]
        self._policy.offer(None, False)  # a ticket is for its version
        self.remembered = None
        self.machine = self._policy.machine()
        self.local_parameters.version_information = (version, self.versions)
        self.start()

    def on_retry(self) -> None:
        """Client: everything in Initial packets is sent again, with the token (RFC 9000 §17.2.5.2)."""
        self._senders[INITIAL].offer_all_again()
        self.want(1 << INITIAL)

    # --- CRYPTO in ---------------------------------------------------------------------------------------------------

    def on_crypto_frame(self, space: int, offset: int, data: bytes) -> None:
        """A CRYPTO frame arrived in `space`."""
        receiver = self._receivers[space]
        chunk = receiver.receive(offset, data)
        if not chunk:
            if receiver.has_gap and EPOCH_OF_SPACE[space] < self.machine.receive_epoch:  # RFC 9001 §4.1.3
                raise QuicConnectionError(
                    PROTOCOL_VIOLATION, CRYPTO, "New CRYPTO data at an encryption level that is over"
                )
            is_switched = self.version != self.original_version
            if is_switched and space == INITIAL and offset == 0 and not self.is_client and not self._has_greeted_again:
                self._has_greeted_again = self._repeated_hello = True
                self._greet_again()  # or when the packet's ACK frame has been read
            return
        try:
            self.machine.receive(EPOCH_OF_SPACE[space], chunk)
        except Alert as alert:
            raise alert_to_error(alert) from alert
        self._pump()

    def _greet_again(self) -> None:
        """Server, once: answer a repeated ClientHello although the answer was acknowledged, after a switch of versions.

        A client may acknowledge the packet that shows it the new version (RFC 9368 §2.3) and yet drop what is in it:
        picoquic greets again, in the new version, and waits. Loss recovery has nothing left to send to it.
        """
        if self._repeated_hello and self._senders[INITIAL].is_acked:
            self._repeated_hello = False
            self._senders[INITIAL].offer_all_again()
            self.want(1 << INITIAL)

    def decide(self, decision_id: int, answer: object) -> None:
        """The application answers a `DecisionNeeded`."""
        hello = self._hello
        try:
            if hello is not None and hello.id == decision_id:
                self._answer_hello(hello, answer)
            else:
                self.machine.decide(decision_id, answer)
        except Alert as alert:
            raise alert_to_error(alert) from alert
        self._pump()

    # --- TLS out -----------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Act on the TLS machine's outputs, in order. Answers may bring further outputs."""
        outputs = self.machine.outputs
        try:
            while outputs:
                self._act(outputs.popleft())
        except Alert as alert:
            raise alert_to_error(alert) from alert

    def _act(self, output: object) -> None:
        if isinstance(output, tls.SendHandshake):
            space = SPACE_OF_EPOCH[output.epoch]
            self._senders[space].append(output.data)
            self.want(1 << space)
        elif isinstance(output, tls.InstallSecret):
            self._install(output)
        elif isinstance(output, tls.ClientHelloDecision):
            self._on_client_hello(output)
        elif isinstance(output, tls.CertificateDecision):
            if self.deferred_decisions:
                self._events.append(DecisionNeeded(output.id, "certificate", output))
            else:
                self.machine.decide(output.id, self._policy.verify(output))
        elif isinstance(output, tls.PeerExtensions):
            self._read_parameters(output.extensions)
            if self.is_client:
                self._learn_early_data_fate()
                self._events.append(ProtocolNegotiated(alpn_protocol=self.machine.alpn))
        elif isinstance(output, tls.HandshakeComplete):
            self._on_complete()
        elif isinstance(output, tls.TicketReceived):
            self._keep_ticket(output.ticket)

    def _install(self, output: tls.InstallSecret) -> None:
        if output.epoch == EPOCH_ONE_RTT and not output.is_sealing and not self.is_complete:
            self._pending_one_rtt = output  # RFC 9001 §5.7
            return
        if self.has_stranded_data(output.epoch):
            raise QuicConnectionError(PROTOCOL_VIOLATION, CRYPTO, "CRYPTO data was left over when new keys came")
        version = self.original_version if output.epoch == EPOCH_ZERO_RTT else self.version  # RFC 9369 §4.1
        self._keys.install(output.epoch, output.is_sealing, output.cipher_suite, output.secret, version)
        self.new_keys = True

    def _on_client_hello(self, output: tls.ClientHelloDecision) -> None:
        if output.client_hello.legacy_session_id:  # RFC 9001 §8.4
            raise QuicConnectionError(PROTOCOL_VIOLATION, CRYPTO, "The ClientHello asks for middlebox compatibility")
        self._choose_version()
        self.machine.local_extensions = [(QUIC_TRANSPORT_PARAMETERS, encode(self.local_parameters))]
        self._hello = output
        if self.deferred_decisions:
            self._events.append(DecisionNeeded(output.id, "client_hello", output.client_hello))
        else:
            self._answer_hello(output, self._policy.answer(output))

    def _answer_hello(self, hello: tls.ClientHelloDecision, answer: object) -> None:
        self._policy.limit_resumption(answer, hello, self.local_parameters, self.original_version)
        self.machine.decide(hello.id, answer)
        self._hello = None
        self.is_readable = self.machine.early_data_accepted
        self._events.append(ProtocolNegotiated(alpn_protocol=self.machine.alpn))

    def _on_complete(self) -> None:
        self.is_complete = True
        self.is_readable = True
        if self._pending_one_rtt is not None:
            self._install(self._pending_one_rtt)
            self._pending_one_rtt = None
        if self.is_client:
            self._keys.discard(EPOCH_ZERO_RTT)  # RFC 9001 §4.9.3
        else:
            self.is_confirmed = True
            self._done_is_due = True
            self.want(APPLICATION_BIT)
            if isinstance(self.machine, ServerHandshake):
                self.machine.issue_ticket(remember(self.local_parameters, self.version))
        self._events.append(
            HandshakeCompleted(
                alpn_protocol=self.machine.alpn,
                early_data_accepted=self.machine.early_data_accepted,
                session_resumed=self.machine.session_resumed,
            )
        )

    def on_handshake_done_frame(self) -> None:
        """HANDSHAKE_DONE (RFC 9000 §19.20)."""
        if not self.is_client:
            raise QuicConnectionError(PROTOCOL_VIOLATION, HANDSHAKE_DONE, "Clients must not send HANDSHAKE_DONE")
        if not self.is_complete:
            raise QuicConnectionError(PROTOCOL_VIOLATION, HANDSHAKE_DONE, "HANDSHAKE_DONE before the handshake is done")
        self.is_confirmed = True

    # --- sessions ----------------------------------------------------------------------------------------------------

    def _learn_early_data_fate(self) -> None:
        """Client: EncryptedExtensions say whether early data was accepted (RFC 9001 §4.6.2, RFC 9000 §7.4.1)."""
        if self.remembered is None or self.remote_parameters is None:
            return
        if self.machine.early_data_accepted:
            check_not_reduced(self.remembered, self.remote_parameters)
        else:
            self.early_data_is_rejected = True

    def _keep_ticket(self, ticket: SessionTicket) -> None:
        if ticket.max_early_data_size not in (None, EARLY_DATA_ALLOWED):  # RFC 9001 §4.6.1
            raise QuicConnectionError(PROTOCOL_VIOLATION, CRYPTO, "A ticket allows early data of a limited size")
        if self.remote_parameters is not None:
            ticket.other_extensions += remember(self.remote_parameters, self.version)
            self.new_tickets.append(ticket)

    def send_new_token(self, token: bytes) -> None:
        """Server: give the client a token with which to prove its address next time (RFC 9000 §8.1.3)."""
        self._tokens_due.append(token)
        self.want(APPLICATION_BIT)

    def on_timer(self, now: float) -> None:
        self.deadline = inf
        self._keys.discard(EPOCH_ZERO_RTT)  # RFC 9001 §4.9.3: late packets have had their time

    # --- transport parameters ----------------------------------------------------------------------------------------

    def _read_parameters(self, extensions: dict[int, bytes]) -> None:
        data = extensions.get(QUIC_TRANSPORT_PARAMETERS)
        if data is None:
            raise QuicConnectionError(
                CRYPTO_ERROR + MISSING_EXTENSION, CRYPTO, "The peer sent no QUIC transport parameters"
            )
        parameters = decode(data, from_client=not self.is_client)
        if parameters.initial_source_connection_id != self.expected_source_cid:
            raise QuicConnectionError(
                TRANSPORT_PARAMETER_ERROR, CRYPTO, "initial_source_connection_id does not match what was seen"
            )
        if self.is_client:
            if parameters.original_destination_connection_id != self.expected_original_cid:
                raise QuicConnectionError(
                    TRANSPORT_PARAMETER_ERROR, CRYPTO, "original_destination_connection_id does not match"
                )
            if parameters.retry_source_connection_id != self.expected_retry_cid:
                raise QuicConnectionError(
                    TRANSPORT_PARAMETER_ERROR, CRYPTO, "retry_source_connection_id does not match"
                )
        self._check_version_information(parameters)
        self.remote_parameters = parameters

    def _check_version_information(self, parameters: TransportParameters) -> None:
        """RFC 9368 §4: what both sides saw must be what each of them did."""
        information = parameters.version_information
        if information is None and self._negotiation_version and self.version == VERSION_1:
            information = (VERSION_1, [VERSION_1])  # RFC 9368 §8: servers of version 1 alone do not know the parameter
        if information is None:
            if self._negotiation_version or (self.is_client and self.version != self.original_version):
                raise QuicConnectionError(VERSION_NEGOTIATION_ERROR, CRYPTO, "version_information is missing")
            return
        chosen, available = information
        if chosen != self.version:
            raise QuicConnectionError(VERSION_NEGOTIATION_ERROR, CRYPTO, "Chosen Version is not the one in use")
        if not self._negotiation_version:
            return
        if not available or self._best_version([*available, chosen]) != self.version:
            raise QuicConnectionError(VERSION_NEGOTIATION_ERROR, CRYPTO, "A better version was available")

    def _best_version(self, available: list[int]) -> int:
        for version in self.versions:
            if version in available and is_known_version(version):
                return version
        return 0

    def _choose_version(self) -> None:
        """Server: go on in the version that it prefers among the client's (RFC 9368 §2.3; v1 and v2 are compatible)."""
        remote = self.remote_parameters
        if remote is not None and remote.version_information is not None:
            best = self._best_version(remote.version_information[1])
            if best and best != self.version:
                self.version = best
                self.version_changed = True
        self.local_parameters.version_information = (self.version, self.versions)

    # --- frames out --------------------------------------------------------------------------------------------------

    def write(self, packet: PacketBuilder, now: float) -> None:
        space = packet.space
        sender = self._senders[space]
        while sender.has_pending and packet.room >= MIN_CRYPTO_ROOM:
            offset, data = sender.take(packet.room - 9)
            packet.push_data(
                encode_crypto_header(offset, len(data)), data, (self, TOKEN_CRYPTO, space, offset, offset + len(data))
            )
        is_left = sender.has_pending
        if space == APPLICATION and self._done_is_due:
            if packet.room >= 1:
                self._done_is_due = False
                packet.push(HANDSHAKE_DONE_FRAME, (self, TOKEN_DONE))
            else:
                is_left = True
        if space == APPLICATION and self._tokens_due and self.is_complete:
            token = self._tokens_due[-1]
            if packet.room >= len(token) + NEW_TOKEN_OVERHEAD:
                packet.push(encode_new_token(self._tokens_due.pop()), (self, TOKEN_NEW_TOKEN, token))
            is_left = is_left or bool(self._tokens_due)
        if not is_left:
            self.pending &= ~(1 << space)

    def on_acked(self, token: Token, now: float) -> None:
        if token[1] == TOKEN_CRYPTO:
            self._senders[token[2]].on_acked(token[3], token[4])
            if self._repeated_hello:
                self._greet_again()
        elif token[1] == TOKEN_DONE:
            self._done_is_acked = True
            self._done_is_due = False

    def on_lost(self, token: Token, now: float) -> None:
        if token[1] == TOKEN_DONE:
            if not self._done_is_acked:
                self._done_is_due = True
                self.want(APPLICATION_BIT)
            return
        if token[1] == TOKEN_NEW_TOKEN:
            self.send_new_token(token[2])
            return
        space: int = token[2]
        self._senders[space].offer_again(token[3], token[4])
        if self._senders[space].has_pending:
            self.want(1 << space)

    def on_probe(self, token: Token, now: float) -> None:
        self.on_lost(token, now)

    def on_space_discarded(self, space: int) -> None:
        self._senders[space] = CryptoSender()
        self._receivers[space] = CryptoReceiver()
        self.pending &= ~(1 << space)

    def has_stranded_data(self, epoch: int) -> bool:
        """Whether CRYPTO frames wait in vain where no more will be read once `epoch` has keys (RFC 9001 §4.1.3)."""
        if epoch == EPOCH_ONE_RTT and self.is_complete and self._receivers[HANDSHAKE].has_gap:
            return True
        return epoch >= EPOCH_HANDSHAKE and self._receivers[INITIAL].has_gap


def alert_to_error(alert: Alert) -> QuicConnectionError:
    """RFC 9001 §4.8."""
    return QuicConnectionError(CRYPTO_ERROR + alert.description, CRYPTO, str(alert))
