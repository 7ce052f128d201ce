"""Options that the programs of the interop tests share: what of a configuration a test may change, and the key log.

Among a client's steps `again` ends the connection and begins another one with what the server gave for it, a session ticket
and an address token; after `again:early` the next step is sent at once, before the handshake.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from helpers.interop_task import hexadecimal

GROUPS: Final = {"X25519MLKEM768": 0x11EC, "X25519": 0x1D, "SECP256R1": 0x17, "SECP384R1": 0x18}
CIPHERS: Final = {"AES_128_GCM_SHA256": 0x1301, "AES_256_GCM_SHA384": 0x1302, "CHACHA20_POLY1305_SHA256": 0x1303}
OPTIONS: Final = argparse.ArgumentParser(add_help=False)
OPTIONS.add_argument("--cipher", help="the only one to take, such as CHACHA20_POLY1305_SHA256")
OPTIONS.add_argument(
    "--versions", type=hexadecimal, help="such as 1,6b3343cf: the original one or the preferred one first"
)
OPTIONS.add_argument("--original", type=hexadecimal, help="of --versions the one to begin with, if not the first")
OPTIONS.add_argument("--groups", help="the only ones to take, the one whose share is offered first; not aioquic's")
OPTIONS.add_argument("--accept-early-data", action="store_true", help="quicio's servers: take 0-RTT data")
OPTIONS.add_argument(
    "--keep-tickets", action="store_true", help="servers with aioquic's API: through its two functions"
)
OPTIONS.add_argument(
    "--forget-tokens", action="store_true", help="clients: come again without those of NEW_TOKEN frames"
)
OPTIONS.add_argument("--key-log", help="a file that TLS secrets are appended to")


@contextmanager
def configured(configuration: Any, options: argparse.Namespace, suites: Any) -> Iterator[None]:
    """Set in a configuration what the options say, of cipher suites the members of an enumeration."""
    if options.cipher:
        configuration.cipher_suites = [suites[options.cipher]]
    if options.groups:
        configuration.groups = [GROUPS[name] for name in options.groups.split(",")]
    if options.accept_early_data:
        configuration.accept_early_data = True
    if options.versions:
        configuration.supported_versions = options.versions
        configuration.original_version = (options.original or options.versions)[0] if configuration.is_client else None
    if options.key_log is None:
        yield
        return
    with open(options.key_log, "a", encoding="ascii") as file:
        configuration.secrets_log_file = file
        yield


AGAIN: Final = "again"


def visits(steps: Sequence[str]) -> Iterator[tuple[bool, list[str], bool]]:
    """The connections that steps make: whether one begins with early data, its steps, and whether there is a later one."""
    is_early = False
    taken: list[str] = []
    for step in steps:
        verb, _, manner = step.partition(":")
        if verb == AGAIN:
            yield is_early, taken, True
            is_early, taken = manner == "early", []
        else:
            taken.append(step)
    yield is_early, taken, False
