"""What the core takes from the machine it runs on: the clock of dates, randomness and the system's trusted certificates.

Everything below the I/O line is a function of its arguments: protocol time comes in as a float, bytes come in and go out.
Three things cannot come that way, because they are needed deep inside and rarely: the date (is this certificate, ticket
or token still valid?), unpredictable bytes (connection IDs, hello randoms, path challenges) and the certificates that the
operating system trusts. They are the methods of one small object, `Environment`.

- Whoever needs one of them is given an `Environment` when it is built; `DEFAULT_ENVIRONMENT` is the real machine.
- A simulator or a test subclasses `Environment` and overrides what it wants to hold still; nothing is ever patched.
- The date is never used to measure how long something took, and protocol time never to read a calendar.
- Keys that protect traffic are made by the cryptographic library itself, not from `random_bytes`.
- The system's trusted certificates are read once, when first asked for: programs that bring their own authorities, or that
  verify nothing, do not pay for importing `ssl` nor for parsing the system's bundle.
"""

from __future__ import annotations

import os
import time
import warnings
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning

__all__ = ["DEFAULT_ENVIRONMENT", "Environment"]

MAX_SYSTEM_CERTIFICATES: Final = 4096


class Environment:
    """The machine: dates, randomness, trusted certificates. Subclass it to decide any of them."""

    def __init__(self) -> None:
        self._system_certificates: tuple[x509.Certificate, ...] | None = None

    def wall_clock(self) -> float:
        """The date, in seconds since the Unix epoch. For validity periods only; it may jump."""
        return time.time()

    def random_bytes(self, size: int) -> bytes:
        """`size` unpredictable bytes, from the operating system."""
        return os.urandom(size)

    def random(self) -> float:
        """A float of [0, 1), for decisions that a peer must not foresee."""
        return int.from_bytes(self.random_bytes(6), "big") / (1 << 48)

    def system_certificates(self) -> tuple[x509.Certificate, ...]:
        """The certificate authorities that the operating system trusts; empty when it has none. Read once."""
        if self._system_certificates is None:
            self._system_certificates = parse_authorities(self.read_system_store())
        return self._system_certificates

    def read_system_store(self) -> list[bytes]:
        """The system's trusted certificates in DER, as the platform's `ssl` module finds them.

        Where OpenSSL is configured with a folder of certificates it loads them one by one as they are needed, so that the
        context looks empty: then the files of that folder are read here.
        """
        import ssl  # imported when asked for: most of its cost is the system's store itself

        found = ssl.create_default_context().get_ca_certs(binary_form=True)
        folder = ssl.get_default_verify_paths().capath
        if not found and folder is not None:
            found = read_certificate_folder(Path(folder))
        return found


def read_certificate_folder(folder: Path) -> list[bytes]:
    """The certificates of every PEM file in `folder`, in DER, without repetition. Unreadable files are passed over."""
    found: dict[bytes, None] = {}
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError:
        return []
    for path in files:
        try:
            certificates = x509.load_pem_x509_certificates(path.read_bytes())
        except (OSError, ValueError):
            continue
        for certificate in certificates:
            found[certificate.public_bytes(Encoding.DER)] = None
    return list(found)


def parse_authorities(store: list[bytes]) -> tuple[x509.Certificate, ...]:
    """Parse certificates in DER. One that cannot be parsed is left out: it could verify nothing, and the others can."""
    authorities: list[x509.Certificate] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)  # old bundles are not ours to correct
        for data in store[:MAX_SYSTEM_CERTIFICATES]:
            try:
                authorities.append(x509.load_der_x509_certificate(data))
            except ValueError:
                continue
    return tuple(authorities)


DEFAULT_ENVIRONMENT: Final = Environment()
