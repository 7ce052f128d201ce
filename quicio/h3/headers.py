"""Which fields a message may have (RFC 9114 §4.2 - §4.4, RFC 9110 §5).

Strict, because what is let through here may be written into an HTTP/1.1 request by somebody else: names are tokens in
lower case, values have no control characters and no white space around them, pseudo-header fields are those of the kind
of message, once each, with sensible values, and before all others; fields about the connection itself are forbidden.
Everything that breaks a rule raises `MessageError`, the one for malformed messages. The same functions judge what our
own side sends.

Given the stream, the validation of a header section leaves there what the rest of the message has to be measured by:
the expected length of the content, and whether the request is CONNECT or HEAD. Content-Length says nothing about the
content of a response that never has any: to HEAD, 204 and 304 (RFC 9110 §6.4.1, §8.6).

This is on the path of every request: names and values are checked by `bytes.translate`, which removes all that is
allowed and has to leave nothing.
"""

from __future__ import annotations

import re
from typing import Final

from quicio.h3.events import Headers
from quicio.h3.exceptions import MessageError
from quicio.h3.streams import H3Stream

CONNECTION_SPECIFIC_HEADERS: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade"}
)
"""Fields that have no place in HTTP/3 (RFC 9114 §4.2); `te: trailers` is allowed in requests."""

REQUEST_PSEUDO_HEADERS: Final = frozenset({b":method", b":scheme", b":authority", b":path", b":protocol"})
RESPONSE_PSEUDO_HEADERS: Final = frozenset({b":status"})
PROMISE_PSEUDO_HEADERS: Final = frozenset({b":method", b":scheme", b":authority", b":path"})
NO_PSEUDO_HEADERS: Final[frozenset[bytes]] = frozenset()
_METHOD_ONLY: Final = frozenset({b":method"})
_PLAIN_REQUEST: Final[tuple[bytes, ...]] = (b":scheme", b":path")
_CONNECT: Final[tuple[bytes, ...]] = (b":authority",)
_EXTENDED_CONNECT: Final[tuple[bytes, ...]] = (b":scheme", b":authority", b":path")

MAX_CONTENT_LENGTH_DIGITS: Final = 19

# RFC 9110 §5.6.2, without the upper case that RFC 9114 §4.2 forbids.
_TOKEN: Final = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
_METHOD: Final = _TOKEN + b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# RFC 9110 §5.5: visible characters, obs-text, and white space inside.
_VALUE: Final = bytes([0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])
_PATH: Final = bytes([*range(0x21, 0x7F), *range(0x80, 0x100)])
_SPECIAL: Final = CONNECTION_SPECIFIC_HEADERS | {b"content-length", b"host"}
_SCHEME: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*")
_STATUS: Final = re.compile(rb"[1-9][0-9][0-9]")
_WITH_AUTHORITY: Final = frozenset({b"http", b"https"})


def validate_header_name(key: bytes) -> None:
    """Raise `MessageError` unless `key` is a field name in lower case (RFC 9114 §4.2); pseudo-header names count too."""
    name = key.removeprefix(b":")
    if not name or name.translate(None, _TOKEN):
        if name != name.lower() and not name.lower().translate(None, _TOKEN):
            raise MessageError(f"Header {key!r} contains uppercase letters")
        raise MessageError(f"Header {key!r} is not a valid field name")


def validate_header_value(key: bytes, value: bytes) -> None:
    """Raise `MessageError` unless `value` is a field value (RFC 9110 §5.5, RFC 9114 §10.3)."""
    if value:
        if value.translate(None, _VALUE):
            raise MessageError(f"Header {key!r} value contains forbidden characters")
        if value[0] <= 0x20 or value[-1] <= 0x20:
            raise MessageError(f"Header {key!r} value has whitespace around it")


def validate_headers(
    headers: Headers,
    *,
    allow_te: bool = False,
    allowed_pseudo_headers: frozenset[bytes],
    required_pseudo_headers: frozenset[bytes],
    stream: H3Stream | None = None,
) -> dict[bytes, bytes]:
    """Check names, values, and which pseudo-header fields there are.

    Returns the pseudo-header fields with their values, and `content-length` and `host` if they are there. The content
    length goes to `stream` as well. Raises `MessageError`.
    """
    found: dict[bytes, bytes] = {}
    only_pseudo = True
    for name, value in headers:
        if name.startswith(b":"):
            if not only_pseudo:
                raise MessageError(f"Pseudo-header {name!r} is not allowed after regular headers")
            if name not in allowed_pseudo_headers:
                raise MessageError(f"Pseudo-header {name!r} is not valid")
            if name in found:
                raise MessageError(f"Pseudo-header {name!r} is included twice")
            found[name] = value
        else:
            only_pseudo = False
            if not name or name.translate(None, _TOKEN):
                validate_header_name(name)
            if name in _SPECIAL:
                _check_special(name, value, found, allow_te)
        if value and (value[0] <= 0x20 or value[-1] <= 0x20 or value.translate(None, _VALUE)):
            validate_header_value(name, value)
    if not required_pseudo_headers <= found.keys():
        missing = sorted(required_pseudo_headers - found.keys())
        raise MessageError(f"Pseudo-headers {missing!r} are missing")
    if stream is not None and b"content-length" in found:
        stream.expected_content_length = int(found[b"content-length"])
    return found


def _check_special(name: bytes, value: bytes, found: dict[bytes, bytes], allow_te: bool) -> None:
    if name in CONNECTION_SPECIFIC_HEADERS:
        if name != b"te" or not allow_te:
            raise MessageError(f"Header {name!r} is connection-specific and must not be used")
        if value.lower() != b"trailers":
            raise MessageError("Header b'te' may only be b'trailers'")
        return
    if name in found:
        raise MessageError(f"Header {name!r} is included twice")
    if name == b"content-length" and (not value.isdigit() or len(value) > MAX_CONTENT_LENGTH_DIGITS):
        raise MessageError("content-length is not a non-negative integer")
    found[name] = value


def check_request(headers: Headers) -> dict[bytes, bytes]:
    """As `validate_headers`, for the header section of a request (RFC 9114 §4.3.1, §4.4; RFC 9220 §3)."""
    found = validate_headers(
        headers, allow_te=True, allowed_pseudo_headers=REQUEST_PSEUDO_HEADERS, required_pseudo_headers=_METHOD_ONLY
    )
    required = _PLAIN_REQUEST
    if b":protocol" in found:
        if found[b":method"] != b"CONNECT":
            raise MessageError("Pseudo-header b':protocol' is for CONNECT requests")
        if found[b":protocol"].translate(None, _METHOD) or not found[b":protocol"]:
            raise MessageError("Pseudo-header b':protocol' is not a token")
        required = _EXTENDED_CONNECT
    elif found[b":method"] == b"CONNECT":
        if b":scheme" in found or b":path" in found:
            raise MessageError("a CONNECT request has neither :scheme nor :path")
        required = _CONNECT
    missing = [name for name in required if name not in found]
    if missing:
        raise MessageError(f"Pseudo-headers {missing!r} are missing")
    _check_target(found)
    return found


def validate_request_headers(headers: Headers, stream: H3Stream | None = None) -> None:
    """Raise `MessageError` unless these can be the header section of a request that arrives on `stream`."""
    found = check_request(headers)
    if stream is not None:
        stream.is_connect = found[b":method"] == b"CONNECT"
        stream.is_head = found[b":method"] == b"HEAD"
        if b"content-length" in found and not stream.is_connect:  # what follows CONNECT is a tunnel, not content
            stream.expected_content_length = int(found[b"content-length"])


def _check_target(found: dict[bytes, bytes]) -> None:
    """The values of a request's pseudo-header fields (RFC 9114 §4.3.1)."""
    method = found[b":method"]
    if not method or method.translate(None, _METHOD):
        raise MessageError("Pseudo-header b':method' is not a valid method")
    scheme = found.get(b":scheme")
    if scheme is not None and not _SCHEME.fullmatch(scheme):
        raise MessageError("Pseudo-header b':scheme' is not a valid scheme")
    path = found.get(b":path")
    is_http = scheme in _WITH_AUTHORITY
    if path is not None:
        if path.translate(None, _PATH):
            raise MessageError("Pseudo-header b':path' contains forbidden characters")
        if is_http and not path.startswith(b"/") and (path != b"*" or method != b"OPTIONS"):
            raise MessageError("Pseudo-header b':path' cannot be empty and begins with a slash")
    authority = found.get(b":authority")
    host = found.get(b"host")
    if is_http or scheme is None:
        if authority is None and host is None:
            raise MessageError("Pseudo-header b':authority' and header b'host' are both missing")
        if authority == b"" or host == b"":
            raise MessageError("Pseudo-header b':authority' or header b'host' is empty")
        if authority is not None and (b"@" in authority or b"/" in authority or authority.translate(None, _PATH)):
            raise MessageError("Pseudo-header b':authority' is not a host and port")
    if authority is not None and host is not None and authority != host:
        raise MessageError("Pseudo-header b':authority' and header b'host' differ")


def is_interim_response(headers: Headers) -> bool:
    """Whether the status is 1xx: a final response follows (RFC 9110 §15.2)."""
    return any(name == b":status" and value.startswith(b"1") and len(value) == 3 for name, value in headers)


def check_response(headers: Headers) -> bytes:
    """The status, when these can be the header section of a response (RFC 9114 §4.3.2); else raises `MessageError`."""
    return _response_fields(headers)[b":status"]


def _response_fields(headers: Headers) -> dict[bytes, bytes]:
    found = validate_headers(
        headers, allowed_pseudo_headers=RESPONSE_PSEUDO_HEADERS, required_pseudo_headers=RESPONSE_PSEUDO_HEADERS
    )
    status = found[b":status"]
    if not _STATUS.fullmatch(status):
        raise MessageError("Pseudo-header b':status' is not a status code")
    if status == b"101":
        raise MessageError("HTTP/3 does not know the status 101")  # RFC 9114 §4.5
    return found


def validate_response_headers(headers: Headers, stream: H3Stream | None = None) -> None:
    """Raise `MessageError` unless these can be the header section of a response that arrives on `stream`."""
    found = _response_fields(headers)
    if stream is None:
        return
    status = found[b":status"]
    if status.startswith(b"1"):
        return
    if stream.is_connect and status.startswith(b"2"):
        stream.is_tunnel = True
    elif stream.is_head or status in (b"204", b"304"):
        stream.expected_content_length = 0
    elif b"content-length" in found:
        stream.expected_content_length = int(found[b"content-length"])


def validate_push_promise_headers(headers: Headers) -> None:
    """Raise `MessageError` unless these can be the request that a push answers (RFC 9114 §4.6)."""
    found = validate_headers(
        headers, allowed_pseudo_headers=PROMISE_PSEUDO_HEADERS, required_pseudo_headers=PROMISE_PSEUDO_HEADERS
    )
    _check_target(found)


def validate_trailers(headers: Headers) -> None:
    """Raise `MessageError` unless these can be a trailer section: no pseudo-header fields (RFC 9114 §4.3)."""
    validate_headers(headers, allowed_pseudo_headers=NO_PSEUDO_HEADERS, required_pseudo_headers=NO_PSEUDO_HEADERS)
