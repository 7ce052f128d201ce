"""Transport parameters that outlive a connection: what 0-RTT builds on before the server has spoken (RFC 9000 §7.4.1).

A client remembers the server's parameters with a ticket and sends its early data within them. A server remembers what it told
that client, inside the ticket, and accepts early data only when its limits today are no lower. Some parameters belong to one
connection and are never remembered: connection IDs, tokens, addresses, ACK delays; `restore` does not give them.

Both sides keep the encoded parameters in `SessionTicket.other_extensions`, under their extension's number, beside the QUIC
version, to which a ticket is bound (RFC 9369 §5).
"""

from typing import Final

from quicio.quic.wire.constants import PROTOCOL_VIOLATION, QuicConnectionError
from quicio.quic.wire.transport_parameters import TransportParameters, decode, encode
from quicio.tls.tickets import SessionTicket

QUIC_TRANSPORT_PARAMETERS: Final = 0x39  # RFC 9001 §8.2
QUIC_VERSION: Final = 0xFF52  # of a ticket's other_extensions; types from 0xff00 on are for private use
VERSION_SIZE: Final = 4
EARLY_DATA_ALLOWED: Final = 0xFFFFFFFF  # `max_early_data_size` of a ticket that allows 0-RTT (RFC 9001 §4.6.1)

# What a server that accepts 0-RTT must not lower (RFC 9000 §7.4.1, RFC 9221 §3).
LIMITS: Final = (
    "active_connection_id_limit",
    "initial_max_data",
    "initial_max_stream_data_bidi_local",
    "initial_max_stream_data_bidi_remote",
    "initial_max_stream_data_uni",
    "initial_max_streams_bidi",
    "initial_max_streams_uni",
    "max_datagram_frame_size",
)
REMEMBERED: Final = (*LIMITS, "max_idle_timeout", "max_udp_payload_size", "disable_active_migration")


def only_remembered(parameters: TransportParameters) -> TransportParameters:
    """Those of `parameters` that may be used again; the others have their default values."""
    result = TransportParameters()
    for name in REMEMBERED:
        setattr(result, name, getattr(parameters, name))
    return result


def remember(parameters: TransportParameters, version: int) -> list[tuple[int, bytes]]:
    """What a ticket keeps of a connection of QUIC `version` with the server's `parameters`."""
    return [
        (QUIC_TRANSPORT_PARAMETERS, encode(only_remembered(parameters))),
        (QUIC_VERSION, version.to_bytes(VERSION_SIZE, "big")),
    ]


def version_of(ticket: SessionTicket) -> int | None:
    """The QUIC version of the ticket's connection; None when the ticket is not QUIC's."""
    content = ticket.extension(QUIC_VERSION)
    return None if content is None or len(content) != VERSION_SIZE else int.from_bytes(content, "big")


def restore(ticket: SessionTicket) -> TransportParameters | None:
    """The server's parameters that the ticket remembers; None when it remembers none that can be read."""
    content = ticket.extension(QUIC_TRANSPORT_PARAMETERS)
    if content is None:
        return None
    try:
        return only_remembered(decode(content, from_client=False))
    except QuicConnectionError:  # a ticket out of a file that somebody has edited
        return None


def reduced_limit(remembered: TransportParameters, current: TransportParameters) -> str | None:
    """The name of a limit that is lower now than it was, or None: then early data can be accepted."""
    for name in LIMITS:
        if getattr(current, name) < getattr(remembered, name):
            return name
    return None


def check_not_reduced(remembered: TransportParameters, current: TransportParameters) -> None:
    """A client's check of a server that accepted early data. Raises `QuicConnectionError`."""
    name = reduced_limit(remembered, current)
    if name is not None:
        raise QuicConnectionError(PROTOCOL_VIOLATION, None, f"The server accepts 0-RTT and lowers {name}")
