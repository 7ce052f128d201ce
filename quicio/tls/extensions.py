"""Contents of the extensions that this implementation understands (RFC 8446 §4.2, RFC 6066 §3, RFC 7301 §3.1).

One pair of functions an extension: `encode_*` gives the content, `parse_*` reads it, strictly, raising an `Alert`. The
extensions' types and their allowed places are not known here.
"""

from __future__ import annotations

from collections.abc import Sequence

from quicio.tls.alerts import AlertDecodeError, AlertIllegalParameter
from quicio.tls.codec import Reader, vector

HOST_NAME = 0  # the only type of server name (RFC 6066 §3)


def encode_integers(values: Sequence[int]) -> bytes:
    """supported_groups, signature_algorithms: a list of two-byte values after its length."""
    return vector(2, b"".join(value.to_bytes(2, "big") for value in values))


def parse_integers(data: bytes, what: str) -> list[int]:
    """Read such a list; `what` names the extension."""
    reader = Reader(data)
    values = reader.integers(2)
    reader.finish(what)
    return values


def encode_server_name(name: str) -> bytes:
    """server_name in a ClientHello. A server answers with no content."""
    return vector(2, bytes((HOST_NAME,)) + vector(2, name.encode("ascii")))


def parse_server_name(data: bytes) -> str | None:
    """The host name, or None when there are only names of other types."""
    reader = Reader(data)
    names = Reader(reader.vector(2, minimum=1))
    reader.finish("server_name")
    host_name: str | None = None
    while not names.at_end:
        name_type = names.integer(1)
        name = names.vector(2, minimum=1)
        if name_type != HOST_NAME:
            continue
        if host_name is not None:
            raise AlertIllegalParameter("server_name holds two host names")
        try:
            host_name = name.decode("ascii")
        except UnicodeDecodeError as error:
            raise AlertIllegalParameter("server_name is not ASCII") from error
        if "\0" in host_name:
            raise AlertIllegalParameter("server_name contains a zero byte")
    return host_name


def encode_alpn(protocols: Sequence[bytes]) -> bytes:
    """application_layer_protocol_negotiation: what the client offers, or the one that the server chose."""
    return vector(2, b"".join(vector(1, protocol) for protocol in protocols))


def parse_alpn(data: bytes) -> list[bytes]:
    """The protocols of an offer or an answer: one at least, none of them empty."""
    reader = Reader(data)
    block = Reader(reader.vector(2, minimum=2))
    reader.finish("ALPN extension")
    protocols: list[bytes] = []
    while not block.at_end:
        protocols.append(block.vector(1, minimum=1))
    return protocols


def encode_supported_versions(versions: Sequence[int]) -> bytes:
    """supported_versions in a ClientHello."""
    return vector(1, b"".join(version.to_bytes(2, "big") for version in versions))


def parse_supported_versions(data: bytes) -> list[int]:
    """The versions that a client supports."""
    reader = Reader(data)
    versions = reader.integers(1)
    reader.finish("supported_versions")
    return versions


def encode_selected(value: int) -> bytes:
    """The one chosen: supported_versions in a ServerHello, key_share in a HelloRetryRequest."""
    return value.to_bytes(2, "big")


def parse_selected(data: bytes, what: str) -> int:
    """Read such a value; `what` names the extension."""
    reader = Reader(data)
    value = reader.integer(2)
    reader.finish(what)
    return value


def encode_key_share(group: int, share: bytes) -> bytes:
    """key_share in a ServerHello, and each of those in a ClientHello."""
    return group.to_bytes(2, "big") + vector(2, share)


def parse_key_share(data: bytes) -> tuple[int, bytes]:
    """The server's group and share."""
    reader = Reader(data)
    share = reader.integer(2), reader.vector(2, minimum=1)
    reader.finish("key_share")
    return share


def encode_key_shares(shares: Sequence[tuple[int, bytes]]) -> bytes:
    """key_share in a ClientHello; it may be empty, which asks for a HelloRetryRequest."""
    return vector(2, b"".join(encode_key_share(group, share) for group, share in shares))


def parse_key_shares(data: bytes) -> list[tuple[int, bytes]]:
    """The client's groups and shares, in its order."""
    reader = Reader(data)
    block = Reader(reader.vector(2))
    reader.finish("key_share")
    shares: list[tuple[int, bytes]] = []
    while not block.at_end:
        shares.append((block.integer(2), block.vector(2, minimum=1)))
    if len({group for group, _ in shares}) != len(shares):
        raise AlertIllegalParameter("key_share holds two shares of one group")
    return shares


def encode_cookie(cookie: bytes) -> bytes:
    """cookie, in a HelloRetryRequest and in the ClientHello after it."""
    return vector(2, cookie)


def parse_cookie(data: bytes) -> bytes:
    """The cookie, which may not be empty."""
    reader = Reader(data)
    cookie = reader.vector(2, minimum=1)
    reader.finish("cookie")
    return cookie


def parse_empty(data: bytes, what: str) -> None:
    """An extension that is only there or not, such as the server's answer to server_name."""
    if data:
        raise AlertDecodeError(f"{what} has a content where none is allowed")


def encode_modes(modes: Sequence[int]) -> bytes:
    """psk_key_exchange_modes, in a ClientHello (RFC 8446 §4.2.9)."""
    return vector(1, bytes(modes))


def parse_modes(data: bytes) -> list[int]:
    """The modes in which a client would resume."""
    reader = Reader(data)
    modes = list(reader.vector(1, minimum=1))
    reader.finish("psk_key_exchange_modes")
    return modes


def encode_binders(binders: Sequence[bytes]) -> bytes:
    """The last part of pre_shared_key, which the binders themselves do not cover (RFC 8446 §4.2.11.2)."""
    return vector(2, b"".join(vector(1, binder) for binder in binders))


def encode_pre_shared_keys(identities: Sequence[tuple[bytes, int]], binders: Sequence[bytes]) -> bytes:
    """pre_shared_key in a ClientHello: labels with their obfuscated ages, then a binder each (RFC 8446 §4.2.11)."""
    return vector(2, b"".join(vector(2, label) + age.to_bytes(4, "big") for label, age in identities)) + encode_binders(
        binders
    )


def parse_pre_shared_keys(data: bytes) -> tuple[list[tuple[bytes, int]], list[bytes]]:
    """The identities that a client offers, and their binders: as many, and one at least."""
    reader = Reader(data)
    block = Reader(reader.vector(2, minimum=7))
    binder_block = Reader(reader.vector(2, minimum=33))
    reader.finish("pre_shared_key")
    identities: list[tuple[bytes, int]] = []
    while not block.at_end:
        identities.append((block.vector(2, minimum=1), block.integer(4)))
    binders: list[bytes] = []
    while not binder_block.at_end:
        binders.append(binder_block.vector(1, minimum=32))
    if len(identities) != len(binders):
        raise AlertIllegalParameter("pre_shared_key does not have a binder for each identity")
    return identities, binders


def encode_max_early_data(size: int) -> bytes:
    """early_data in a NewSessionTicket. In other messages it has no content (RFC 8446 §4.2.10)."""
    return size.to_bytes(4, "big")


def parse_max_early_data(data: bytes) -> int:
    """How much early data a ticket allows, in bytes."""
    reader = Reader(data)
    size = reader.integer(4)
    reader.finish("early_data")
    return size
