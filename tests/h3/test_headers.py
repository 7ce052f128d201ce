"""Which fields a message may have. Security rows 23 (smuggling) and 13 (no other exception)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.http3 import REQUEST, RESPONSE
from quicio.h3.events import Headers
from quicio.h3.exceptions import MessageError
from quicio.h3.headers import (
    check_request,
    check_response,
    is_interim_response,
    validate_header_name,
    validate_header_value,
    validate_headers,
    validate_push_promise_headers,
    validate_request_headers,
    validate_response_headers,
    validate_trailers,
)
from quicio.h3.streams import H3Stream


def request(*extra: tuple[bytes, bytes], **pseudo: bytes | None) -> Headers:
    """The plain request with pseudo-header fields replaced, or, by None, removed, and more fields at the end."""
    fields = dict(REQUEST)
    for name, value in pseudo.items():
        key = b":" + name.encode()
        if value is None:
            del fields[key]
        else:
            fields[key] = value
    return [*fields.items(), *extra]


@pytest.mark.parametrize(
    "headers",
    [
        request(),
        request((b"te", b"trailers")),
        request((b"cookie", b"a=1"), (b"cookie", b"b=2")),  # crumbs, RFC 9114 §4.2.1
        request((b"x-empty", b"")),
        request((b"x-tab", b"a\tb")),
        request((b"x-obs-text", b"\xfc\xff")),
        request((b"host", b"example.org")),
        request((b"host", b"example.org"), authority=None),
        request((b"content-length", b"0")),
        request(method=b"OPTIONS", path=b"*"),
        request(path=b"/a?b=%20&c=\xc3\xa9"),
        request(method=b"M-SEARCH"),
        request(scheme=b"coap+tcp", authority=None, path=b""),
        [(b":method", b"CONNECT"), (b":authority", b"example.org:443")],
        [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *REQUEST[1:]],
    ],
)
def test_requests_that_are_well_formed(headers: Headers) -> None:
    validate_request_headers(headers)


@pytest.mark.rfc("9114", "4.3.1", "MUST")
@pytest.mark.parametrize(
    ("headers", "match"),
    [
        ([], "missing"),
        (request(method=None), "missing"),
        (request(scheme=None), "missing"),
        (request(path=None), "missing"),
        (request(authority=None), "missing"),
        (request(authority=b""), "empty"),
        (request((b"host", b""), authority=None), "empty"),
        (request(path=b""), "slash"),
        (request(path=b"index.html"), "slash"),
        (request(path=b"*"), "slash"),
        (request(path=b"/a b"), "forbidden"),
        (request(path=b"/\x7f"), "forbidden"),
        (request(method=b""), "method"),
        (request(method=b"GET POST"), "method"),
        (request(scheme=b"ht tp"), "scheme"),
        (request(scheme=b""), "scheme"),
        (request(authority=b"user@example.org"), "host and port"),
        (request(authority=b"example.org/x"), "host and port"),
        (request(authority=b"example org"), "host and port"),
        (request((b"host", b"other.example")), "differ"),
        (request(protocol=b"websocket"), "CONNECT"),
        (request(status=b"200"), "not valid"),
        ([*REQUEST, (b":unknown", b"1")], "not valid"),
        ([*REQUEST, (b":", b"1")], "not valid"),
        ([*REQUEST, REQUEST[0]], "twice"),
        ([*REQUEST[:3], (b"accept", b"*/*"), REQUEST[3]], "after regular"),
        ([(b":method", b"CONNECT"), *REQUEST[1:]], "neither"),
        ([(b":method", b"CONNECT")], "missing"),
        ([(b":method", b"CONNECT"), (b":authority", b"")], "empty"),
        ([(b":method", b"CONNECT"), (b":authority", b"a"), (b":protocol", b"websocket")], "missing"),
        ([(b":method", b"CONNECT"), (b":protocol", b"web socket"), *REQUEST[1:]], "token"),
        ([(b":method", b"CONNECT"), (b":protocol", b""), *REQUEST[1:]], "token"),
    ],
)
def test_pseudo_headers_of_requests(headers: Headers, match: str) -> None:
    with pytest.raises(MessageError, match=match):
        validate_request_headers(headers)


@pytest.mark.rfc("9114", "4.2", "MUST")
@pytest.mark.parametrize(
    "field",
    [
        (b"connection", b"close"),
        (b"keep-alive", b"timeout=5"),
        (b"proxy-connection", b"keep-alive"),
        (b"transfer-encoding", b"chunked"),
        (b"upgrade", b"websocket"),
        (b"te", b"gzip"),
        (b"te", b"trailers, gzip"),
        (b"X-Upper", b"1"),
        (b"", b"1"),
        (b"x y", b"1"),
        (b"x\x00", b"1"),
        (b"x:y", b"1"),
        (b"x\r\ny", b"1"),
        (b"\xe4", b"1"),
        (b"x", b"a\r\nset-cookie: b"),
        (b"x", b"a\nb"),
        (b"x", b"a\rb"),
        (b"x", b"a\x00b"),
        (b"x", b"a\x7fb"),
        (b"x", b"a\x01b"),
        (b"x", b" a"),
        (b"x", b"a "),
        (b"x", b"\ta"),
        (b"x", b"a\t"),
        (b"x", b" "),
        (b"content-length", b""),
        (b"content-length", b"-1"),
        (b"content-length", b"+1"),
        (b"content-length", b"1, 1"),
        (b"content-length", b"0x10"),
        (b"content-length", b"1_0"),
        (b"content-length", b"9" * 20),
    ],
)
def test_fields_that_no_message_may_have(field: tuple[bytes, bytes]) -> None:
    """Security row 23: nothing that means something else in HTTP/1.1 comes through."""
    with pytest.raises(MessageError):
        validate_request_headers(request(field))
    with pytest.raises(MessageError):
        validate_response_headers([*RESPONSE, field])


@pytest.mark.parametrize("name", [b"content-length", b"host"])
def test_fields_that_may_come_once(name: bytes) -> None:
    with pytest.raises(MessageError, match="twice"):
        validate_request_headers(request((name, b"5"), (name, b"5"), authority=b"5"))


def test_te_is_for_requests_only() -> None:
    for check in (validate_response_headers, validate_trailers):
        with pytest.raises(MessageError, match="connection-specific"):
            check([*([] if check is validate_trailers else RESPONSE), (b"te", b"trailers")])


@pytest.mark.parametrize("status", [b"", b"20", b"2000", b"abc", b"099", b"101", b"+20", b" 20"])
def test_statuses_that_are_none(status: bytes) -> None:
    with pytest.raises(MessageError):
        validate_response_headers([(b":status", status)])


@pytest.mark.parametrize("headers", [[], [(b":path", b"/")], [RESPONSE[0], RESPONSE[0]], [RESPONSE[1], RESPONSE[0]]])
def test_pseudo_headers_of_responses(headers: Headers) -> None:
    with pytest.raises(MessageError):
        validate_response_headers(headers)


def test_trailers_have_no_pseudo_headers() -> None:
    validate_trailers([])
    validate_trailers([(b"x-checksum", b"1")])
    with pytest.raises(MessageError, match="not valid"):
        validate_trailers([(b":status", b"200")])


def test_promised_requests() -> None:
    validate_push_promise_headers(REQUEST)
    for headers in (request(authority=None), request(path=b""), [*REQUEST, (b":protocol", b"x")]):
        with pytest.raises(MessageError):
            validate_push_promise_headers(headers)


def test_interim_responses() -> None:
    assert is_interim_response([(b":status", b"103")])
    assert not is_interim_response([(b":status", b"200")])
    assert not is_interim_response([(b"status", b"103")])


def test_what_a_request_tells_about_the_rest() -> None:
    stream = H3Stream(0)
    validate_request_headers(request((b"content-length", b"12")), stream)
    assert (stream.expected_content_length, stream.is_head, stream.is_connect) == (12, False, False)
    stream = H3Stream(0)
    validate_request_headers(request(method=b"HEAD"), stream)
    assert (stream.expected_content_length, stream.is_head) == (None, True)
    stream = H3Stream(0)
    tunnel = [(b":method", b"CONNECT"), (b":authority", b"a:1"), (b"content-length", b"12")]
    validate_request_headers(tunnel, stream)
    assert (stream.expected_content_length, stream.is_connect) == (None, True)


@pytest.mark.rfc("9114", "4.1.2", "MUST")
@pytest.mark.parametrize(
    ("status", "method", "expected", "tunnel"),
    [
        (b"200", "GET", 12, False),
        (b"200", "HEAD", 0, False),
        (b"204", "GET", 0, False),
        (b"304", "GET", 0, False),
        (b"103", "GET", None, False),
        (b"200", "CONNECT", None, True),
        (b"404", "CONNECT", 12, False),
    ],
)
def test_what_a_response_tells_about_the_rest(status: bytes, method: str, expected: int | None, tunnel: bool) -> None:
    stream = H3Stream(0)
    stream.is_head = method == "HEAD"
    stream.is_connect = method == "CONNECT"
    validate_response_headers([(b":status", status), (b"content-length", b"12")], stream)
    assert (stream.expected_content_length, stream.is_tunnel) == (expected, tunnel)


def test_a_response_without_length_expects_none() -> None:
    stream = H3Stream(0)
    validate_response_headers(RESPONSE, stream)
    assert stream.expected_content_length is None


def test_single_names_and_values() -> None:
    validate_header_name(b":path")
    validate_header_name(b"x-y")
    validate_header_value(b"x", b"")
    with pytest.raises(MessageError, match="uppercase"):
        validate_header_name(b"X-Y")
    with pytest.raises(MessageError, match="not a valid"):
        validate_header_name(b"x\xff")
    with pytest.raises(MessageError, match="whitespace"):
        validate_header_value(b"x", b" a")


def test_the_general_check_leaves_the_content_length_on_the_stream() -> None:
    stream = H3Stream(0)
    found = validate_headers(
        [(b"content-length", b"7")],
        allowed_pseudo_headers=frozenset(),
        required_pseudo_headers=frozenset(),
        stream=stream,
    )
    assert found == {b"content-length": b"7"}
    assert stream.expected_content_length == 7


text = st.binary(max_size=12)


@given(st.lists(st.tuples(st.one_of(st.sampled_from([name for name, _ in REQUEST]), text), text), max_size=6))
def test_whatever_the_fields_the_answer_is_yes_or_message_error(headers: Headers) -> None:
    for check in (check_request, check_response, validate_trailers, validate_push_promise_headers):
        try:
            check(headers)
        except MessageError:
            continue
        assert all(b"\r" not in value and b"\n" not in value and b"\0" not in value for _, value in headers)
