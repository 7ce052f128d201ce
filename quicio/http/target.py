"""From a URL to what a request says of its target (RFC 9110 §4.2.2, RFC 9114 §4.3.1).

A request names its target by scheme, authority and path with query. A client is connected to one authority; so its requests
take a path, or a URL of that authority. What cannot stand in a path is percent-encoded, what is encoded already stays.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple
from urllib.parse import quote, urlsplit

__all__ = ["DEFAULT_PORT", "Target", "authority_of", "parse_url", "path_of"]

DEFAULT_PORT: Final = 443
SCHEME: Final = "https"
SAFE: Final = "/?:@!$&'()*+,;=~-._%"  # RFC 3986 §3.3, §3.4, and what is percent-encoded already


class Target(NamedTuple):
    """The parts of a URL that connecting and asking need."""

    host: str
    port: int
    authority: str
    path: str


def authority_of(host: str | IPv4Address | IPv6Address, port: int) -> str:
    """Host and port as `:authority` has them: brackets around IPv6, no port when it is the scheme's own."""
    name = str(host).partition("%")[0]  # a zone means nothing to the other side (RFC 6874 §4)
    if ":" in name:
        name = f"[{name}]"
    return name if port == DEFAULT_PORT else f"{name}:{port}"


def parse_url(url: str) -> Target:
    """Split an https URL. Raises `ValueError` when it is not one."""
    parts = urlsplit(url)
    if parts.scheme.lower() != SCHEME or not parts.hostname:
        raise ValueError(f"{url!r} is not a URL that begins with https:// and a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("a URL with user and password is not accepted: send an authorization header (RFC 9110 §4.2.4)")
    port = parts.port if parts.port is not None else DEFAULT_PORT
    query = f"?{parts.query}" if parts.query else ""
    host = parts.hostname
    return Target(host, port, authority_of(host, port), _encode_path((parts.path or "/") + query))


def path_of(url: str, authority: str) -> str:
    """The path to ask a client of `authority` for. Raises `ValueError` for a URL of another authority."""
    if url.startswith("/"):
        return _encode_path(url.partition("#")[0])
    if url == "*":  # OPTIONS (RFC 9110 §7.1)
        return url
    target = parse_url(url)
    if target.authority.lower() != authority.lower():
        raise ValueError(f"{url!r} is not on {authority}: make another client for it")
    return target.path


def _encode_path(path: str) -> str:
    return quote(path, safe=SAFE)
