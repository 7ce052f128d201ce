"""Keys that seal, and keys that only open any more."""

from __future__ import annotations

import pytest

from helpers.handshakes import FixedEnvironment
from quicio.tls.rotating_keys import MAX_KEYS, OVERHEAD, RotatingKeys

OLD, NEW = b"o" * 32, b"n" * 32


def keys(environment: FixedEnvironment, *secrets: bytes, purpose: str = "test") -> RotatingKeys:
    return RotatingKeys(secrets, purpose=purpose, rotation=100.0, retention=250.0, environment=environment)


def test_what_was_sealed_is_opened() -> None:
    made = keys(FixedEnvironment())
    sealed = made.seal(b"plain", b"associated")
    assert len(sealed) == OVERHEAD + 5
    assert made.open(sealed, b"associated") == b"plain"
    assert made.seal(b"plain", b"associated") != sealed


def test_whatever_is_not_authentic_opens_nothing() -> None:
    made = keys(FixedEnvironment())
    sealed = made.seal(b"plain")
    assert made.open(sealed, b"other") is None
    assert keys(FixedEnvironment(1)).open(sealed) is None
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 0x80
        assert made.open(bytes(changed)) is None
        assert made.open(sealed[:position]) is None


def test_secrets_are_shared_by_purpose() -> None:
    sealed = keys(FixedEnvironment(), OLD).seal(b"plain")
    assert keys(FixedEnvironment(1), NEW, OLD).open(sealed) == b"plain"
    assert keys(FixedEnvironment(1), OLD, purpose="another").open(sealed) is None


def test_secrets_replace_all_before_them() -> None:
    made = keys(FixedEnvironment(), OLD)
    sealed = made.seal(b"plain")
    made.set_secrets([NEW, OLD])
    assert made.open(sealed) == b"plain"
    made.set_secrets([NEW])
    assert made.open(sealed) is None


def test_random_keys_rotate_and_end() -> None:
    environment = FixedEnvironment()
    made = keys(environment)
    sealed = made.seal(b"plain")
    environment.now += 99
    assert made.seal(b"")[:8] == sealed[:8]
    environment.now += 1
    assert made.seal(b"")[:8] != sealed[:8]
    environment.now += 249
    assert made.open(sealed) == b"plain"
    environment.now += 1
    assert made.open(sealed) is None


def test_given_secrets_do_not_rotate_by_themselves() -> None:
    environment = FixedEnvironment()
    made = keys(environment, OLD)
    sealed = made.seal(b"plain")
    environment.now += 1e6
    assert made.seal(b"")[:8] == sealed[:8]
    assert made.open(sealed) == b"plain"


def test_so_many_keys_and_no_more() -> None:
    """Security row 26: keys that only open do not gather without end."""
    made = keys(FixedEnvironment())
    sealed = made.seal(b"plain")
    for _ in range(MAX_KEYS - 1):
        made.rotate()
    assert made.open(sealed) == b"plain"
    made.rotate()
    assert made.open(sealed) is None


@pytest.mark.parametrize("secrets", [[], [b"short"], [OLD] * (MAX_KEYS + 1)])
def test_bad_secrets(secrets: list[bytes]) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        keys(FixedEnvironment()).set_secrets(secrets)
