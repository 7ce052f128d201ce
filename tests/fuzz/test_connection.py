"""Connections in every state, and endpoints, under whatever bytes: nothing is raised and nothing grows without bound.

Row 13 of `docs/security.md`. `QuicConnection.raise_unexpected` is on here, so that the choke point hides nothing.
`run_many.py` feeds inputs of the same kinds by the hundred thousand.
"""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from helpers.fuzzing import STATES, Attack, EndpointAttack, prepare
from helpers.fuzzing_sessions import SessionAttack
from quicio.quic.wire.constants import EPOCH_HANDSHAKE, EPOCH_INITIAL, EPOCH_ONE_RTT
from sim.bounds import check_bounds

EVERY_STATE = pytest.mark.parametrize("state", STATES)
BOTH = pytest.mark.parametrize("victim_is_client", [False, True], ids=["server", "client"])
SEEDS = st.integers(0, (1 << 32) - 1)
EPOCHS = {"fresh": EPOCH_INITIAL, "initial": EPOCH_INITIAL, "handshake": EPOCH_HANDSHAKE}


@BOTH
@EVERY_STATE
@settings(max_examples=25)
@given(seed=SEEDS, steps=st.integers(1, 12))
def test_no_sequence_of_inputs_raises(state: str, victim_is_client: bool, seed: int, steps: int) -> None:
    attack = Attack(state, victim_is_client, Random(seed))
    for _ in range(steps):
        attack.step()


@BOTH
@EVERY_STATE
@settings(max_examples=20)
@given(payload=st.binary(max_size=300))
@example(payload=b"")
@example(payload=b"\x02" + b"\xff" * 24)
@example(payload=b"\x1c\x00\x00\x03\xff\xfe\xfd")
def test_no_payload_with_the_right_keys_raises(state: str, victim_is_client: bool, payload: bytes) -> None:
    rude = prepare(state, victim_is_client, 1)
    rude.send(EPOCHS.get(state, EPOCH_ONE_RTT), payload)
    check_bounds(rude.victim)


@BOTH
@EVERY_STATE
@settings(max_examples=20)
@given(data=st.binary(max_size=1300), has_cid=st.booleans())
@example(data=b"", has_cid=False)
@example(data=b"\x40", has_cid=True)
def test_no_datagram_raises(state: str, victim_is_client: bool, data: bytes, has_cid: bool) -> None:
    rude = prepare(state, victim_is_client, 1)
    rude.deliver(data[:1] + rude.victim.host_cid + data[1:] if has_cid else data)
    check_bounds(rude.victim)


@settings(max_examples=60)
@given(seed=SEEDS, steps=st.integers(1, 20))
def test_no_datagrams_make_an_endpoint_raise(seed: int, steps: int) -> None:
    attack = EndpointAttack(Random(seed))
    for _ in range(steps):
        attack.step()


@settings(max_examples=40)
@given(seed=SEEDS, steps=st.integers(1, 10))
def test_nothing_that_clients_bring_from_earlier_makes_a_server_raise(seed: int, steps: int) -> None:
    """Rows 13, 26 and 27: tickets, tokens, stored sessions, early data; whatever became of them."""
    attack = SessionAttack(Random(seed))
    for _ in range(steps):
        attack.step()
