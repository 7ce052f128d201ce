"""The key exchange groups, for tests that run with each, and what to say of those that a library may lack."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from quicio.tls.constants import Group

needs_mlkem = pytest.mark.skipif(
    find_spec("cryptography.hazmat.primitives.asymmetric.mlkem") is None,
    reason="this release of cryptography has no ML-KEM: the hybrid group is not offered",
)

GROUPS = [pytest.param(group, marks=needs_mlkem if group == Group.X25519MLKEM768 else ()) for group in Group]
