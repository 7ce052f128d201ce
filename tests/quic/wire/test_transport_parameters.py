"""Transport parameters: round trips and every rule of RFC 9000 §7.4 and §18.2. Security row 13."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quicio.buffer import encode_uint_var
from quicio.quic.wire import transport_parameters as tp
from quicio.quic.wire.constants import CRYPTO, TRANSPORT_PARAMETER_ERROR, UINT_VAR_MAX, QuicConnectionError

cids = st.binary(max_size=20)
tokens = st.binary(min_size=16, max_size=16)
ports = st.integers(0, 65535)
# All zero is how "none of this family" is written.
ipv4 = st.one_of(st.none(), st.tuples(st.ip_addresses(v=4).map(str).filter(lambda host: host != "0.0.0.0"), ports))
ipv6 = st.one_of(st.none(), st.tuples(st.ip_addresses(v=6).map(str).filter(lambda host: host != "::"), ports))
addresses = st.builds(tp.PreferredAddress, ipv4, ipv6, st.binary(min_size=1, max_size=20), tokens)
version = st.integers(1, 0xFFFFFFFF)


@st.composite
def parameters(draw: st.DrawFn) -> tuple[tp.TransportParameters, bool]:
    """Valid transport parameters, and whether a client could have sent them."""
    from_client = draw(st.booleans())
    params = tp.TransportParameters()
    for name, minimum, maximum in tp.INTEGERS.values():
        if draw(st.booleans()):
            setattr(params, name, draw(st.integers(minimum, maximum)))
    params.disable_active_migration = draw(st.booleans())
    params.grease_quic_bit = draw(st.booleans())
    params.initial_source_connection_id = draw(st.one_of(st.none(), cids))
    if draw(st.booleans()):
        chosen = draw(version)
        available = draw(st.lists(version, max_size=4))
        params.version_information = (chosen, [chosen, *available] if from_client else available)
    if not from_client:
        params.original_destination_connection_id = draw(st.one_of(st.none(), cids))
        params.retry_source_connection_id = draw(st.one_of(st.none(), cids))
        params.stateless_reset_token = draw(st.one_of(st.none(), tokens))
        params.preferred_address = draw(st.one_of(st.none(), addresses))
    return params, from_client


def malformed(data: bytes, from_client: bool = False) -> str:
    """Assert that `data` is refused with the one error, and return its reason."""
    with pytest.raises(QuicConnectionError) as caught:
        tp.decode(data, from_client)
    assert caught.value.error_code == TRANSPORT_PARAMETER_ERROR
    assert caught.value.frame_type == CRYPTO
    return caught.value.reason_phrase


def refusal(data: bytes, from_client: bool) -> QuicConnectionError | None:
    """The error by which `data` is refused, or None. Any other exception is a failure."""
    try:
        tp.decode(data, from_client)
    except QuicConnectionError as error:
        return error
    return None


def one(identifier: int, value: bytes) -> bytes:
    return tp.encode_parameter(identifier, value)


@given(parameters())
def test_round_trip(pair: tuple[tp.TransportParameters, bool]) -> None:
    params, from_client = pair
    assert tp.decode(tp.encode(params), from_client) == params


def test_absent_parameters_have_the_defaults_of_the_rfc() -> None:
    params = tp.decode(b"", False)
    assert params.max_idle_timeout == 0
    assert params.max_udp_payload_size == 65527
    assert params.initial_max_data == 0
    assert params.initial_max_streams_bidi == params.initial_max_streams_uni == 0
    assert params.ack_delay_exponent == 3
    assert params.max_ack_delay == 25
    assert params.active_connection_id_limit == 2
    assert params.max_datagram_frame_size == 0
    assert params.disable_active_migration is False
    assert params.grease_quic_bit is False
    assert params.version_information is None
    assert params.initial_source_connection_id is None
    assert tp.encode(params) == b""


def test_wire_image() -> None:
    params = tp.TransportParameters()
    params.max_idle_timeout = 30000
    params.initial_source_connection_id = b"\xaa\xbb"
    params.disable_active_migration = True
    assert tp.encode(params).hex() == "010480007530" + "0f02aabb" + "0c00"


def test_identifiers() -> None:
    """The registry of RFC 9000 §18.2, RFC 9221, RFC 9287, RFC 9368."""
    names = {
        0x01: "max_idle_timeout",
        0x03: "max_udp_payload_size",
        0x04: "initial_max_data",
        0x05: "initial_max_stream_data_bidi_local",
        0x06: "initial_max_stream_data_bidi_remote",
        0x07: "initial_max_stream_data_uni",
        0x08: "initial_max_streams_bidi",
        0x09: "initial_max_streams_uni",
        0x0A: "ack_delay_exponent",
        0x0B: "max_ack_delay",
        0x0E: "active_connection_id_limit",
        0x20: "max_datagram_frame_size",
    }
    for identifier, name in names.items():
        value = 1300 if identifier == 0x03 else 7
        assert getattr(tp.decode(one(identifier, encode_uint_var(value)), True), name) == value
    assert tp.decode(one(0x00, b"cid"), False).original_destination_connection_id == b"cid"
    assert tp.decode(one(0x02, bytes(16)), False).stateless_reset_token == bytes(16)
    assert tp.decode(one(0x0C, b""), False).disable_active_migration is True
    assert tp.decode(one(0x0F, b"cid"), False).initial_source_connection_id == b"cid"
    assert tp.decode(one(0x10, b"cid"), False).retry_source_connection_id == b"cid"
    assert tp.decode(one(0x11, bytes((0, 0, 0, 1))), False).version_information == (1, [])
    assert tp.decode(one(0x2AB2, b""), False).grease_quic_bit is True


@pytest.mark.rfc("9000", "18.2", "MUST")
@pytest.mark.parametrize(
    ("identifier", "valid", "invalid"),
    [
        (0x03, 1200, 1199),
        (0x08, 1 << 60, (1 << 60) + 1),
        (0x09, 1 << 60, (1 << 60) + 1),
        (0x0A, 20, 21),
        (0x0B, (1 << 14) - 1, 1 << 14),
        (0x0E, 2, 1),
    ],
)
def test_bounds(identifier: int, valid: int, invalid: int) -> None:
    name = tp.INTEGERS[identifier][0]
    assert getattr(tp.decode(one(identifier, encode_uint_var(valid)), True), name) == valid
    assert name in malformed(one(identifier, encode_uint_var(invalid)), True)
    params = tp.TransportParameters()
    setattr(params, name, invalid)
    with pytest.raises(ValueError, match=name):
        tp.encode(params)


@pytest.mark.rfc("9000", "18.2", "MUST")
@pytest.mark.parametrize(
    ("identifier", "value"),
    [(0x00, b"cid"), (0x02, bytes(16)), (0x0D, bytes(24) + b"\x01c" + bytes(16)), (0x10, b"cid")],
)
def test_server_only_parameters_from_a_client(identifier: int, value: bytes) -> None:
    tp.decode(one(identifier, value), False)
    assert "clients" in malformed(one(identifier, value), True)


@pytest.mark.rfc("9000", "7.4", "SHOULD")
@pytest.mark.parametrize("parameter", [one(0x01, b"\x05"), one(0x0C, b""), one(0x1B, b"grease")])
def test_duplicates(parameter: bytes) -> None:
    tp.decode(parameter, True)
    assert "twice" in malformed(parameter + one(0x04, b"\x05") + parameter, True)


@pytest.mark.rfc("9000", "7.4.2", "MUST")
def test_unknown_parameters_are_skipped() -> None:
    data = one(31 * 7 + 27, b"anything") + one(0x04, b"\x05") + one(UINT_VAR_MAX, b"")
    assert tp.decode(data, True).initial_max_data == 5


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (one(0x01, b""), "truncated"),
        (one(0x01, b"\x40"), "truncated"),
        (one(0x01, b"\x05\x05"), "longer"),
        (one(0x0C, b"\x00"), "empty"),
        (one(0x2AB2, b"\x00"), "empty"),
        (one(0x0F, bytes(21)), "20 bytes"),
        (one(0x02, bytes(15)), "16 bytes"),
        (one(0x02, bytes(17)), "16 bytes"),
        (b"\x01", "truncated"),
        (b"\x01\x02\x05", "truncated"),
        (b"\x40", "truncated"),
        (one(0x11, b""), "whole versions"),
        (one(0x11, bytes((0, 0, 0, 1, 0))), "whole versions"),
        (one(0x11, bytes(4)), "version 0"),
        (one(0x11, bytes((0, 0, 0, 1, 0, 0, 0, 0))), "version 0"),
        (one(0x0D, bytes(24)), "truncated"),
        (one(0x0D, bytes(25) + bytes(16)), "connection ID"),
        (one(0x0D, bytes(24) + b"\x15" + bytes(21 + 16)), "connection ID"),
        (one(0x0D, bytes(24) + b"\x04" + bytes(3 + 16)), "wrong length"),
        (one(0x0D, bytes(24) + b"\x04" + bytes(5 + 16)), "wrong length"),
    ],
)
def test_malformed(data: bytes, reason: str) -> None:
    """Security row 13."""
    assert reason in malformed(data)


@pytest.mark.rfc("9368", "4", "MUST")
def test_a_client_lists_the_version_it_chose() -> None:
    absent = one(0x11, tp.encode_version_information(1, [2, 3]))
    assert "chosen" in malformed(absent, True)
    assert tp.decode(absent, False).version_information == (1, [2, 3])
    assert tp.decode(one(0x11, tp.encode_version_information(1, [2, 1])), True).version_information == (1, [2, 1])


@given(st.binary(max_size=120), st.booleans())
def test_hostile_bytes_raise_one_error_only(data: bytes, from_client: bool) -> None:
    """Security row 13."""
    error = refusal(data, from_client)
    assert error is None or error.error_code == TRANSPORT_PARAMETER_ERROR


@given(parameters(), st.integers(0, 1000), st.integers(1, 255), st.integers(0, 3))
def test_damaged_parameters_raise_one_error_only(
    pair: tuple[tp.TransportParameters, bool], where: int, flip: int, cut: int
) -> None:
    """Security row 13, from parameters that were valid."""
    data = bytearray(tp.encode(pair[0]))
    if data:
        data[where % len(data)] ^= flip
    error = refusal(bytes(data[: max(len(data) - cut, 0)]), pair[1])
    assert error is None or error.error_code == TRANSPORT_PARAMETER_ERROR


def set_cid(params: tp.TransportParameters) -> None:
    params.initial_source_connection_id = bytes(21)


def set_token(params: tp.TransportParameters) -> None:
    params.stateless_reset_token = bytes(15)


def set_address_without_id(params: tp.TransportParameters) -> None:
    params.preferred_address = tp.PreferredAddress(None, None, b"", bytes(16))


def set_address_with_short_token(params: tp.TransportParameters) -> None:
    params.preferred_address = tp.PreferredAddress(None, None, b"cid", bytes(15))


def set_defined_as_additional(params: tp.TransportParameters) -> None:
    params.additional = [(0x04, b"\x05")]


@pytest.mark.parametrize(
    "spoil", [set_cid, set_token, set_address_without_id, set_address_with_short_token, set_defined_as_additional]
)
def test_what_decode_refuses_cannot_be_encoded(spoil: Callable[[tp.TransportParameters], None]) -> None:
    params = tp.TransportParameters()
    spoil(params)
    with pytest.raises(ValueError):
        tp.encode(params)


def test_additional_parameters_go_out() -> None:
    params = tp.TransportParameters()
    params.additional = [(31 * 3 + 27, b"grease")]
    assert tp.split(tp.encode(params)) == [(31 * 3 + 27, b"grease")]


def test_values_compare_and_show_what_differs_from_the_default() -> None:
    params = tp.TransportParameters()
    assert repr(params) == "TransportParameters()"
    params.initial_max_data = 5
    assert repr(params) == "TransportParameters(initial_max_data=5)"
    assert params != tp.TransportParameters()
    assert params != 5
    address = tp.PreferredAddress(("192.0.2.1", 443), None, b"cid", bytes(16))
    same = tp.PreferredAddress(("192.0.2.1", 443), None, b"cid", bytes(16))
    assert address == same
    assert address != tp.PreferredAddress(("192.0.2.1", 444), None, b"cid", bytes(16))
    assert "192.0.2.1" in repr(address)
