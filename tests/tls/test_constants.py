"""Code points, and the names that applications written for aioquic use."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from enum import Enum, IntEnum

import pytest

import quicio.tls
from quicio.tls import constants
from quicio.tls.constants import CipherSuite, Epoch, HandshakeType


def test_hello_retry_request_random() -> None:
    """RFC 8446 §4.1.3 says where the value comes from."""
    assert hashlib.sha256(b"HelloRetryRequest").digest() == constants.HELLO_RETRY_REQUEST_RANDOM


def test_enums() -> None:
    assert issubclass(CipherSuite, IntEnum)
    assert {suite.name: suite.value for suite in CipherSuite} == {
        "AES_128_GCM_SHA256": 0x1301,
        "AES_256_GCM_SHA384": 0x1302,
        "CHACHA20_POLY1305_SHA256": 0x1303,
        "EMPTY_RENEGOTIATION_INFO_SCSV": 0x00FF,
    }
    assert not issubclass(Epoch, int)
    assert issubclass(Epoch, Enum)
    assert [(epoch.name, epoch.value) for epoch in Epoch] == [
        ("INITIAL", 0),
        ("ZERO_RTT", 1),
        ("HANDSHAKE", 2),
        ("ONE_RTT", 3),
    ]
    assert HandshakeType(254) is HandshakeType.MESSAGE_HASH


@pytest.mark.parametrize("name", sorted(quicio.tls._HOMES))
def test_names_of_the_package(name: str) -> None:
    value = getattr(quicio.tls, name)
    assert getattr(quicio.tls, name) is value
    assert name in dir(quicio.tls)
    assert value.__module__.startswith("quicio.tls") or "Callable" in repr(value)


def test_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Context'"):
        quicio.tls.Context  # noqa: B018 - the access is what is tested


def test_package_is_lazy() -> None:
    """Importing the package imports nothing of cryptography; importing the machines leaves ssl alone."""
    code = (
        "import sys, quicio.tls; assert 'cryptography' not in sys.modules; "
        "import quicio.tls.client, quicio.tls.server; assert 'ssl' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
