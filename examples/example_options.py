"""What the examples share: their options, a bar of progress, and a certificate for a server that was given none.

Not part of quicio: a program of your own would have its options where they belong.
"""

from __future__ import annotations

import argparse
import ipaddress
import logging
import signal
import ssl
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TextIO

import anyio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import quicio


class ProofError(Exception):
    """What came was not what it should have been."""


BACKENDS = ("asyncio", "trio")
BAR_WIDTH = 40
#: what ends an example with one line instead of a traceback; a ValueError comes of options: a port, a certificate's file
EXPECTED = (quicio.QuicError, OSError, ValueError, ProofError)


class Progress:
    """A bar on the terminal over all transfers together; silent when the output is no terminal."""

    def __init__(self) -> None:
        self.total = 0  # bytes announced so far
        self.done = 0
        self.is_shown = sys.stderr.isatty()

    def advance(self, size: int) -> None:
        """So many more bytes have come."""
        self.done += size
        if self.is_shown:
            share = min(self.done / self.total, 1) if self.total else 0
            bar = ("#" * round(share * BAR_WIDTH)).ljust(BAR_WIDTH, ".")
            print(f"\r[{bar}] {share:4.0%} {self.done / 1e6:.1f} MB", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Leave the bar where it is and go on below it."""
        if self.is_shown:
            print(file=sys.stderr)


def server_parser(description: str | None, backends: Sequence[str] = BACKENDS) -> argparse.ArgumentParser:
    """The options of every server that runs on `backends`."""
    parser = _parser(description, backends)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    parser.add_argument("--port", type=int, default=4433, help="port; 0 lets the system choose (default %(default)s)")
    parser.add_argument(
        "--certificate", type=Path, metavar="PEM", help="chain, leaf first; made on the spot when missing"
    )
    parser.add_argument("--private-key", type=Path, metavar="PEM", help="key, when the certificate's file has none")
    parser.add_argument(
        "--save-certificate",
        type=Path,
        metavar="PEM",
        help="where to put a certificate made on the spot, for clients' --ca-file",
    )
    return parser


def client_parser(description: str | None, backends: Sequence[str] = BACKENDS) -> argparse.ArgumentParser:
    """The options of every client that runs on `backends`."""
    parser = _parser(description, backends)
    parser.add_argument("--ca-file", type=Path, metavar="PEM", help="certificates to trust (default: the system's)")
    parser.add_argument(
        "--insecure", action="store_true", help="trust any certificate: for tests on your own machine only"
    )
    return parser


def _parser(description: str | None, backends: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--backend", choices=backends, default=backends[0], help="event loop (default %(default)s)")
    parser.add_argument("--key-log", type=Path, metavar="FILE", help="append TLS secrets to FILE, for Wireshark")
    parser.add_argument("-v", "--verbose", action="store_true", help="log what happens")
    return parser


def server_configuration(options: argparse.Namespace, alpn: str) -> quicio.QuicConfiguration:
    """What a server's options ask for, with datagrams allowed."""
    configuration = quicio.QuicConfiguration(is_client=False, alpn_protocols=[alpn], max_datagram_frame_size=65535)
    load_certificate(configuration, options)
    configuration.secrets_log_file = open_key_log(options)
    return configuration


def load_certificate(configuration: quicio.QuicConfiguration, options: argparse.Namespace) -> None:
    """Load the certificate that a server's options name, or one made on the spot."""
    if options.certificate is not None:
        configuration.load_cert_chain(options.certificate, options.private_key)
        if configuration.private_key is None:
            raise ValueError(f"{options.certificate} holds no private key: give one with --private-key")
    else:
        with tempfile.TemporaryDirectory() as folder:
            certificate, key = Path(folder, "certificate.pem"), Path(folder, "key.pem")
            make_certificate(options.host, certificate, key)
            configuration.load_cert_chain(certificate, key)
            if options.save_certificate is not None:
                options.save_certificate.write_bytes(certificate.read_bytes())


def client_configuration(options: argparse.Namespace, alpn: str) -> quicio.QuicConfiguration:
    """What a client's options ask for, with datagrams allowed."""
    configuration = quicio.QuicConfiguration(alpn_protocols=[alpn], max_datagram_frame_size=65535)
    if options.ca_file is not None:
        configuration.load_verify_locations(cafile=str(options.ca_file))
    if options.insecure:
        configuration.verify_mode = ssl.CERT_NONE
    configuration.secrets_log_file = open_key_log(options)
    return configuration


def open_key_log(options: argparse.Namespace) -> TextIO | None:
    """The file for TLS secrets, if one is asked for."""
    return None if options.key_log is None else options.key_log.open("a", encoding="ascii")


def make_certificate(host: str, certificate_file: Path, key_file: Path) -> None:
    """Write a self-signed certificate for localhost and `host`, valid for ten days, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "quicio example")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=10))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost"), *_addresses(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def _addresses(host: str) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address(text)) for text in ("127.0.0.1", "::1")]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        names.append(x509.DNSName(host))
    else:
        if not address.is_loopback and not address.is_unspecified:
            names.append(x509.IPAddress(address))
    return names


def run(main: Callable[[argparse.Namespace], Awaitable[str]], options: argparse.Namespace) -> None:
    """Run `main` on the chosen backend and print what it proved: its text, the backend, and how long it took.

    Ends the process non-zero, with the reason, when something was not as it should be.
    """
    logging.basicConfig(level=logging.DEBUG if options.verbose else logging.WARNING, stream=sys.stderr)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    started = time.perf_counter()
    try:
        proof = anyio.run(main, options, backend=options.backend)
    except (KeyboardInterrupt, BaseExceptionGroup, *EXPECTED) as error:
        causes = list(_causes(error))
        if any(isinstance(cause, KeyboardInterrupt) for cause in causes):
            print("interrupted", file=sys.stderr)
            sys.exit(128 + signal.SIGINT)
        if not all(isinstance(cause, EXPECTED) for cause in causes):
            raise
        logging.debug("what went wrong, in full", exc_info=error)
        sys.exit(f"failed: {type(causes[0]).__name__}: {causes[0]}")
    print(f"{proof}, {options.backend}, {(time.perf_counter() - started) * 1000:.0f} ms", flush=True)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, or what is in a group: those of the program's own task groups, and trio's around an interrupt."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _causes(inner)
    else:
        yield error
