"""What a client asks for, read from its first packets before any state of a connection exists (RFC 9001 §4, §5.2).

A server that answers for several names, or speaks several protocols, chooses by the ClientHello what to accept with.
Initial packets are protected with keys that anybody can derive from the connection ID in them, so they can be opened
without a connection: `ClientHelloReader` opens those that an `Incoming` holds, puts their CRYPTO frames in order, and has
read the message when it is whole. The connection that may come of it opens the same datagrams again.

It costs what a forged datagram could make us spend: key derivation, AEAD, parsing. So it is done for clients that have shown
that they receive at their address, and only for what an `Incoming` keeps (`MAX_INCOMING_DATAGRAMS`); a message of more than
`MAX_CLIENT_HELLO` bytes is refused (security rows 1 and 11).

Rules: what is not authentic is passed over, as the connection will do; what is authentic and malformed raises
`ClientHelloError`, and nothing else does.

What it leaves to others: whether the message is acceptable at all (the TLS handshake), waiting for more packets (the face).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from quicio.quic.crypto_stream import CryptoReceiver
from quicio.quic.wire.constants import CRYPTO, EPOCH_INITIAL, PADDING, PING, QuicConnectionError
from quicio.quic.wire.crypto import KeyRing, OpeningKey
from quicio.quic.wire.frames import decode_ack, decode_crypto
from quicio.quic.wire.headers import INITIAL_PACKET, LongHeader, decode_packet_number, parse_long_header
from quicio.tls import messages
from quicio.tls.alerts import Alert
from quicio.tls.constants import HandshakeType

__all__ = ["ClientHello", "ClientHelloError", "ClientHelloReader"]

MAX_CLIENT_HELLO: Final = 16_384  # bytes, header included
MESSAGE_HEADER: Final = 4
SAMPLE_OFFSET: Final = 4
SAMPLE_SIZE: Final = 16


@dataclass(frozen=True)
class ClientHello:
    """What a client asks for: the server's name (RFC 6066 §3), None without one; its protocols, in its order (RFC 7301).

    Nothing of it is verified. A protocol name that is no ASCII, as clients send to keep servers tolerant, is escaped.
    """

    server_name: str | None
    alpn: tuple[str, ...]


class ClientHelloError(ValueError):
    """The client's first packets hold no ClientHello that could be read."""


class ClientHelloReader:
    """Reads the ClientHello of the client whose first Initial packet had `header`."""

    def __init__(self, header: LongHeader) -> None:
        keys = KeyRing(False)
        keys.install_initial(header.destination_cid, header.version)
        opening = keys.opening[EPOCH_INITIAL]
        assert opening is not None  # just installed
        self._opening: OpeningKey = opening
        self._version = header.version
        self._receiver = CryptoReceiver()
        self._data = b""
        self._seen = 0  # datagrams

    def read(self, datagrams: list[bytes]) -> ClientHello | None:
        """The message, or None while it is not whole; `datagrams` are all so far, those of earlier calls included.

        Raises `ClientHelloError` when it never will be.
        """
        new = datagrams[self._seen :]
        self._seen = len(datagrams)
        try:
            for datagram in new:
                for payload in self._open(datagram):
                    self._take(payload)
            return self._parse()
        except (QuicConnectionError, Alert) as error:
            raise ClientHelloError(f"the client sent no ClientHello that can be read: {error}") from error

    def _open(self, datagram: bytes) -> Iterator[bytes]:
        """The payloads of the Initial packets in a datagram that are authentic."""
        position = 0
        while position < len(datagram) and datagram[position] & 0x80:
            try:
                header = parse_long_header(datagram, position)
            except ValueError:
                return
            if header.packet_type == INITIAL_PACKET and header.version == self._version:
                payload = self._open_packet(datagram, position, header)
                if payload is not None:
                    yield payload
            if header.end <= position:
                return
            position = header.end

    def _open_packet(self, datagram: bytes, position: int, header: LongHeader) -> bytes | None:
        offset = header.packet_number_offset
        sample_start = offset + SAMPLE_OFFSET
        if sample_start + SAMPLE_SIZE > header.end:
            return None
        mask = self._opening.masks([datagram[sample_start : sample_start + SAMPLE_SIZE]])
        first = header.first_byte ^ (mask[0] & 0x0F)
        length = (first & 0x03) + 1
        hidden = int.from_bytes(datagram[offset : offset + length], "big")
        truncated = hidden ^ int.from_bytes(mask[1 : 1 + length], "big")
        number = decode_packet_number(truncated, 8 * length, 0)
        visible = bytes((first,)) + datagram[position + 1 : offset] + truncated.to_bytes(length, "big")
        return self._opening.open(number, visible, datagram[offset + length : header.end])

    def _take(self, payload: bytes) -> None:
        """Collect the CRYPTO frames; a client's first packets hold nothing else that matters (RFC 9000 §17.2.2)."""
        position = 0
        while position < len(payload):
            frame_type = payload[position]
            position += 1
            if frame_type == CRYPTO:
                offset, start, end, position = decode_crypto(payload, position)
                self._data += self._receiver.receive(offset, payload[start:end])
            elif frame_type in (0x02, 0x03):  # ACK
                position = decode_ack(payload, position, frame_type)[-1]
            elif frame_type not in (PADDING, PING):
                return  # a CONNECTION_CLOSE, or what the connection will object to

    def _parse(self) -> ClientHello | None:
        data = self._data
        if len(data) < MESSAGE_HEADER:
            return None
        if data[0] != HandshakeType.CLIENT_HELLO:
            raise ClientHelloError("the client's first message is no ClientHello")
        size = int.from_bytes(data[1:MESSAGE_HEADER], "big")
        if MESSAGE_HEADER + size > MAX_CLIENT_HELLO:
            raise ClientHelloError(f"the ClientHello has more than {MAX_CLIENT_HELLO} bytes")
        if len(data) < MESSAGE_HEADER + size:
            return None
        hello = messages.ClientHello.parse(data[MESSAGE_HEADER : MESSAGE_HEADER + size])
        names = [name.decode("ascii", "backslashreplace") for name in hello.alpn_protocols or ()]
        return ClientHello(hello.server_name, tuple(names))
