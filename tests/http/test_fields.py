"""Fields as programs read and write them."""

from __future__ import annotations

import pytest

from quicio.http import Fields
from quicio.http.fields import encode_fields

RAW = [(b"accept", b"a"), (b"x-name", b"\xe9"), (b"accept", b"b"), (b"cookie", b"c=1"), (b"cookie", b"d=2")]


def test_names_have_no_case_and_lines_are_joined() -> None:
    fields = Fields(RAW)
    assert fields["Accept"] == "a, b"
    assert fields["COOKIE"] == "c=1; d=2"
    assert fields["x-name"] == "é"
    assert fields.get_all("accept") == ["a", "b"]
    assert fields.get("missing") is None
    assert "ACCEPT" in fields
    assert "missing" not in fields
    assert "€" not in fields
    assert list(fields) == ["accept", "x-name", "cookie"]
    assert len(fields) == 3
    assert fields == {"accept": "a, b", "x-name": "é", "cookie": "c=1; d=2"}
    with pytest.raises(KeyError):
        fields["missing"]


def test_what_was_on_the_wire_stays_as_it_was() -> None:
    assert Fields(RAW).raw == tuple(RAW)
    assert repr(Fields([(b"a", b"b")])) == "Fields([(b'a', b'b')])"
    assert encode_fields(Fields(RAW)) == RAW


def test_fields_are_given_as_a_mapping_or_as_pairs_text_or_bytes() -> None:
    assert encode_fields({"X-Name": "é"}) == [(b"x-name", b"\xe9")]
    assert encode_fields([("A", b"1"), (b"A", "2")]) == [(b"a", b"1"), (b"a", b"2")]
    assert encode_fields(()) == []


def test_what_is_no_field_raises() -> None:
    with pytest.raises(ValueError, match="not a field"):
        encode_fields({":status": "200"})
    with pytest.raises(UnicodeEncodeError):
        encode_fields({"x": "€"})
