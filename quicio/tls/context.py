"""What both sides of a handshake share: incoming messages, the transcript, secrets, decisions.

`Handshake` is a machine without I/O and without QUIC. Bytes of one encryption level go in, in order, through `receive`;
what is to be done comes out, in order, through `outputs` (see `quicio.tls.outputs`). `ClientHandshake` and
`ServerHandshake` are its two roles: each is a table from (state, message type) to the method that handles it.

Rules:
- A message that the state has no method for is `unexpected_message`, known from its first four bytes: KeyUpdate, which QUIC
  forbids (RFC 9001 §6), EndOfEarlyData (§8.3), a second ClientHello, anything at all that a client sends afterwards.
- A message larger than its type's limit is refused before its content is kept. Nothing else is ever buffered, except while
  a decision is awaited, and then up to `MAX_SUSPENDED_SIZE`.
- Bytes count at the level `receive_epoch` alone. Changing the level with bytes left over is `unexpected_message`: no message
  spans a change of keys (RFC 8446 §5.1, RFC 9001 §4.1.3).
- The machine stands still while a decision is awaited. `decide` is the only way on, and it runs the very code that an
  immediate answer would have run.
- Whatever the peer sends, an `Alert` comes out or nothing. After one the machine is dead: it ignores what it is given.

Left to others: packet protection, reordering and acknowledgement (the transport); whether a certificate is to be trusted
(`quicio.tls.certificates`, asked by whoever answers the decision); where tickets are kept (`quicio.tls.issuing`, a client's
application). Early data itself never comes here: QUIC carries it in packets of its own (RFC 9001 §4.6.1, §8.3).
"""

from __future__ import annotations

import hashlib
import hmac
from collections import deque
from collections.abc import Callable
from typing import Final

from cryptography import x509

from quicio.environment import Environment
from quicio.tls.alerts import Alert, AlertDecryptError, AlertIllegalParameter, AlertUnexpectedMessage
from quicio.tls.constants import (
    EPOCH_HANDSHAKE,
    EPOCH_INITIAL,
    EPOCH_ONE_RTT,
    MAX_CERTIFICATE_REQUEST_SIZE,
    MAX_CERTIFICATE_SIZE,
    MAX_CERTIFICATE_VERIFY_SIZE,
    MAX_CLIENT_HELLO_SIZE,
    MAX_ENCRYPTED_EXTENSIONS_SIZE,
    MAX_FINISHED_SIZE,
    MAX_NEW_SESSION_TICKET_SIZE,
    MAX_SERVER_HELLO_SIZE,
    MAX_SUSPENDED_SIZE,
    HandshakeType,
)
from quicio.tls.key_schedule import KeySchedule, Transcript, finished_verify_data
from quicio.tls.messages import Finished
from quicio.tls.outputs import HandshakeComplete, InstallSecret, SendHandshake

HEADER_SIZE: Final = 4

# Largest size of each message that any state has a method for, without its header.
SIZE_LIMITS: Final[dict[int, int]] = {
    HandshakeType.CLIENT_HELLO: MAX_CLIENT_HELLO_SIZE,
    HandshakeType.SERVER_HELLO: MAX_SERVER_HELLO_SIZE,
    HandshakeType.NEW_SESSION_TICKET: MAX_NEW_SESSION_TICKET_SIZE,
    HandshakeType.ENCRYPTED_EXTENSIONS: MAX_ENCRYPTED_EXTENSIONS_SIZE,
    HandshakeType.CERTIFICATE: MAX_CERTIFICATE_SIZE,
    HandshakeType.CERTIFICATE_REQUEST: MAX_CERTIFICATE_REQUEST_SIZE,
    HandshakeType.CERTIFICATE_VERIFY: MAX_CERTIFICATE_VERIFY_SIZE,
    HandshakeType.FINISHED: MAX_FINISHED_SIZE,
}

KeyLog = Callable[[str, bytes, bytes], None]
Handler = Callable[[bytes], None]


class Handshake:
    """Base of the two roles. Attributes are for reading, except `local_extensions` before the handshake starts.

    `outputs` has to be drained after each call. `local_extensions` are opaque to TLS and go into the ClientHello or the
    EncryptedExtensions. `alpn`, `cipher_suite`, `group`, `server_name` and `peer_certificates` (leaf first) are known once
    negotiated. `receive_epoch` is the encryption level whose bytes `receive` takes now.
    """

    __slots__ = (
        "__weakref__",
        "_client_random",
        "_client_secret",
        "_decision_id",
        "_environment",
        "_exporter_secret",
        "_key_log",
        "_last_decision_id",
        "_received",
        "_resumption_secret",
        "_schedule",
        "_server_secret",
        "_transcript",
        "alpn",
        "cipher_suite",
        "early_data_accepted",
        "early_data_offered",
        "group",
        "is_complete",
        "is_failed",
        "local_extensions",
        "outputs",
        "peer_certificates",
        "receive_epoch",
        "server_name",
        "session_resumed",
    )

    def __init__(self, environment: Environment, key_log: KeyLog | None) -> None:
        self.outputs: deque[object] = deque()
        self.local_extensions: list[tuple[int, bytes]] = []
        self.receive_epoch = EPOCH_INITIAL
        self.alpn: str | None = None
        self.cipher_suite: int | None = None
        self.group: int | None = None
        self.server_name: str | None = None
        self.peer_certificates: list[x509.Certificate] = []
        self.is_complete = False
        self.is_failed = False
        self.session_resumed = False
        self.early_data_offered = False
        self.early_data_accepted = False
        self._environment = environment
        self._key_log = key_log
        self._received = bytearray()
        self._transcript = Transcript()
        self._schedule: KeySchedule | None = None
        self._client_random = b""
        self._client_secret = b""
        self._server_secret = b""
        self._exporter_secret = b""
        self._resumption_secret = b""
        self._decision_id: int | None = None
        self._last_decision_id = 0

    # What a role provides.

    def _handler(self, message_type: int) -> Handler | None:
        """The method for a message in the present state, or None when it has no place there."""
        raise TypeError("use ClientHandshake or ServerHandshake")

    def _on_answer(self, answer: object) -> None:
        """Go on with the answer to the decision that was awaited."""
        raise TypeError("use ClientHandshake or ServerHandshake")

    # What the owner calls.

    def receive(self, epoch: int, data: bytes) -> None:
        """Take handshake bytes of one encryption level, in order, in pieces of any size. Raises `Alert`.

        The owner keeps bytes of higher levels back until `receive_epoch` has got there.
        """
        if self.is_failed:
            return
        try:
            if epoch != self.receive_epoch:
                raise AlertUnexpectedMessage(
                    f"handshake bytes at encryption level {epoch} while level {self.receive_epoch} is expected"
                )
            self._received += data
            self._process()
        except Alert:
            self._fail()
            raise

    def decide(self, decision_id: int, answer: object) -> None:
        """Answer a decision. An `Alert` given as the answer is raised, like one that comes from going on.

        An answer that comes after the handshake failed is ignored.

        Raises `ValueError` when `decision_id` is not the decision awaited, and `TypeError` or `ValueError` for an answer
        that cannot be used; the decision is then still awaited.
        """
        if self.is_failed:
            return
        if self._decision_id is None or decision_id != self._decision_id:
            raise ValueError(f"no decision {decision_id} is awaited: each decision is answered once, with its own id")
        try:
            if isinstance(answer, Alert):
                raise answer
            self._on_answer(answer)
            self._process()
        except Alert:
            self._fail()
            raise

    @property
    def is_suspended(self) -> bool:
        """Whether a decision is awaited."""
        return self._decision_id is not None

    def export_keying_material(self, label: str, context: bytes, length: int) -> bytes:
        """`length` bytes of keying material bound to this handshake (RFC 8446 §7.5).

        Raises `RuntimeError` before the handshake is complete and `ValueError` for a length or label out of range.
        """
        if self._schedule is None or not self.is_complete:
            raise RuntimeError("keying material can be exported once the handshake is complete")
        return self._schedule.export(self._exporter_secret, label, context, length)

    # What the roles use.

    def _process(self) -> None:
        while self._decision_id is None and len(self._received) >= HEADER_SIZE:
            message_type = self._received[0]
            size = int.from_bytes(self._received[1:HEADER_SIZE], "big")
            handler = self._handler(message_type)
            if handler is None:
                raise AlertUnexpectedMessage(f"{_name(message_type)} has no place in this state of the handshake")
            if size > SIZE_LIMITS[message_type]:
                raise AlertIllegalParameter(f"{_name(message_type)} of {size} bytes is too large")
            end = HEADER_SIZE + size
            if len(self._received) < end:
                return
            message = bytes(self._received[:end])
            del self._received[:end]
            handler(message)
        if len(self._received) > MAX_SUSPENDED_SIZE:
            raise AlertIllegalParameter("too many handshake bytes while a decision is awaited")

    def _fail(self) -> None:
        self.is_failed = True
        self._decision_id = None
        self._received.clear()

    def _suspend(self) -> int:
        self._last_decision_id += 1
        self._decision_id = self._last_decision_id
        return self._last_decision_id

    def _resume(self) -> None:
        self._decision_id = None

    def _receive_at(self, epoch: int) -> None:
        """The peer's next message answers ours, or comes under new keys: there can be nothing of it yet."""
        if self._received:
            raise AlertUnexpectedMessage("handshake bytes are left over at the end of the peer's flight")
        self.receive_epoch = epoch

    def _record(self, message: bytes) -> bytes:
        """Count a message that is about to be sent."""
        self._transcript.add(message)
        return message

    def _send(self, epoch: int, data: bytes) -> None:
        self.outputs.append(SendHandshake(epoch, data))

    def _install(self, epoch: int, is_sealing: bool, secret: bytes) -> None:
        assert self.cipher_suite is not None  # these secrets come after the suite
        self.outputs.append(InstallSecret(epoch, is_sealing, int(self.cipher_suite), secret))

    def _derive_resumption_secret(self) -> None:
        """What the keys of tickets come from: the transcript up to the client's Finished (RFC 8446 §7.1)."""
        self._resumption_secret = self._keys.derive("res master", self._transcript.digest())

    def _log_secret(self, label: str, secret: bytes) -> None:
        if self._key_log is not None:
            self._key_log(label, self._client_random, secret)

    @property
    def _keys(self) -> KeySchedule:
        assert self._schedule is not None  # the states before the ServerHello use none
        return self._schedule

    def _early_secret(self, cipher_suite: int, pre_shared_key: bytes, digest: bytes) -> bytes:
        """The secret of the client's early data, from the transcript up to its ClientHello."""
        secret = KeySchedule(cipher_suite, pre_shared_key).derive("c e traffic", digest)
        self._log_secret("CLIENT_EARLY_TRAFFIC_SECRET", secret)
        return secret

    def _start_keys(self, cipher_suite: int, shared_secret: bytes, pre_shared_key: bytes | None) -> None:
        """Handshake secrets, from the key exchange and the transcript up to the ServerHello."""
        self._schedule = KeySchedule(cipher_suite, pre_shared_key)
        self._schedule.advance(shared_secret)
        digest = self._transcript.digest()
        self._client_secret = self._schedule.derive("c hs traffic", digest)
        self._server_secret = self._schedule.derive("s hs traffic", digest)
        self._log_secret("CLIENT_HANDSHAKE_TRAFFIC_SECRET", self._client_secret)
        self._log_secret("SERVER_HANDSHAKE_TRAFFIC_SECRET", self._server_secret)

    def _application_secrets(self) -> tuple[bytes, bytes]:
        """The client's and the server's first, from the transcript up to the server's Finished."""
        keys = self._keys
        keys.advance()
        digest = self._transcript.digest()
        client_secret = keys.derive("c ap traffic", digest)
        server_secret = keys.derive("s ap traffic", digest)
        self._exporter_secret = keys.derive("exp master", digest)
        self._log_secret("CLIENT_TRAFFIC_SECRET_0", client_secret)
        self._log_secret("SERVER_TRAFFIC_SECRET_0", server_secret)
        self._log_secret("EXPORTER_SECRET", self._exporter_secret)
        return client_secret, server_secret

    def _make_finished(self, secret: bytes) -> bytes:
        verify_data = finished_verify_data(self._keys.hash_name, secret, self._transcript.digest())
        return Finished(verify_data).encode()

    def _check_finished(self, message: bytes, secret: bytes) -> None:
        """Check the peer's Finished, then count it."""
        hash_name = self._keys.hash_name
        finished = Finished.parse(message[HEADER_SIZE:], hashlib.new(hash_name).digest_size)
        expected = finished_verify_data(hash_name, secret, self._transcript.digest())
        if not hmac.compare_digest(finished.verify_data, expected):
            raise AlertDecryptError("the peer's Finished does not verify: the two sides saw different handshakes")
        self._transcript.add(message)

    def _complete(self) -> None:
        """The handshake is over; what only it needed is let go, for a connection may be idle for days."""
        self.is_complete = True
        self._client_secret = self._server_secret = b""
        self._transcript = Transcript()
        self._receive_at(EPOCH_ONE_RTT)
        self.outputs.append(HandshakeComplete())

    def _install_handshake_secrets(self, is_client: bool) -> None:
        mine, theirs = self._client_secret, self._server_secret
        if not is_client:
            mine, theirs = theirs, mine
        self._install(EPOCH_HANDSHAKE, True, mine)
        self._install(EPOCH_HANDSHAKE, False, theirs)


def _name(message_type: int) -> str:
    try:
        return HandshakeType(message_type).name
    except ValueError:
        return f"a message of type {message_type}"
