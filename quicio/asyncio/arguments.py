"""Arguments of `connect()` and `serve()`: what cannot be meant is refused at the call, by name.

Without a look at them, a port of 70000 becomes 4464 on its way through the resolver, port 0 is waited for until the
handshake times out, and a handler that cannot be called is found out by the first stream. Each check raises `TypeError` for
the wrong kind of thing and `ValueError` for the wrong value, and the message says what is taken.

What programs for aioquic pass keeps working: None for a function means the default, and a port may be given as its digits.
What only the system can know is left to it: whether a name exists (`socket.gaierror`), whether a port is free (`OSError`).
"""

from __future__ import annotations

from typing import Any

from quicio.quic.configuration import QuicConfiguration

__all__ = ["checked_configuration", "checked_function", "checked_host", "checked_port"]

MAX_PORT = 65535


def checked_port(port: Any, name: str = "port", lowest: int = 0) -> int:
    """The port that is meant: a number, or its digits."""
    if isinstance(port, str) and port.isascii() and port.isdigit():
        port = int(port)
    if isinstance(port, bool) or not isinstance(port, int):
        raise TypeError(f"{name} must be a number from {lowest} to {MAX_PORT}, not {port!r}")
    if not lowest <= port <= MAX_PORT:
        raise ValueError(f"{name} must be from {lowest} to {MAX_PORT}, not {port}")
    return port


def checked_host(host: Any) -> str:
    """A name or a numeric address that can be looked up. `ValueError` for one that no name server could know."""
    if not isinstance(host, str):
        raise TypeError(f"host must be a name or a numeric address as str, not {host!r}")
    try:
        host.encode("idna")
    except UnicodeError as error:
        raise ValueError(f"{host!r} is no name of a host: {error}") from None
    return host


def checked_configuration(configuration: Any, taker: str, *, is_client: bool) -> QuicConfiguration:
    """A configuration that fits the role of `taker`, and that a connection can be made with."""
    if not isinstance(configuration, QuicConfiguration):
        raise TypeError(f"{taker} takes a QuicConfiguration, not {configuration!r}")
    if configuration.is_client is not is_client:
        role = "client" if is_client else "server"
        raise ValueError(f"{taker} takes a {role}'s configuration: QuicConfiguration(is_client={is_client}, ...)")
    configuration.validate()
    return configuration


def checked_function(function: Any, name: str) -> None:
    """Something that can be called, or None."""
    if function is not None and not callable(function):
        raise TypeError(f"{name} must be something to call, or None; not {function!r}")
