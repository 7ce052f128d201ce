"""What crosses the line between the core and its driver."""

from __future__ import annotations

import pytest

from quicio.quic.transmit import Received, Transmit


@pytest.mark.parametrize("kind", [Received, Transmit])
def test_a_batch_is_datagrams_of_one_pair_of_addresses_and_one_mark(kind: type[Received | Transmit]) -> None:
    batch = kind([b"first", b"second"], ("::1", 1), ("::2", 2), 3)
    assert batch.datagrams == [b"first", b"second"]
    assert (batch.remote, batch.local, batch.ecn) == (("::1", 1), ("::2", 2), 3)
    plain = kind([], "peer")
    assert (plain.local, plain.ecn) == (None, 0)
    with pytest.raises(AttributeError):
        batch.other = 1  # type: ignore[union-attr]  # slots: a batch carries nothing else


@pytest.mark.parametrize("kind", [Received, Transmit])
def test_a_batch_shows_sizes_and_no_bytes(kind: type[Received | Transmit]) -> None:
    assert repr(kind([bytes(1200), bytes(7)], "peer", "here", 2)) == (
        f"{kind.__name__}([1200, 7], remote='peer', local='here', ecn=2)"
    )
