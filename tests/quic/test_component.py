"""The contract inside a connection: what a component that does nothing does."""

from __future__ import annotations

from math import inf

from helpers.recovery import make_path
from quicio.quic.component import Component, Wants
from quicio.quic.wire.constants import APPLICATION_BIT, FULL, HANDSHAKE, HANDSHAKE_BIT, INITIAL, INITIAL_BIT
from quicio.quic.wire.packet_builder import PacketBuilder


def test_a_new_component_waits_for_nothing_and_wants_nothing() -> None:
    component = Component(Wants())
    assert component.deadline == inf
    assert component.pending == 0


def test_wants_are_shared_and_pending_is_not() -> None:
    """The shared mask is never less than the union over the components."""
    wants = Wants()
    first, second = Component(wants), Component(wants)
    first.want(INITIAL_BIT)
    second.want(APPLICATION_BIT | HANDSHAKE_BIT)
    assert (first.pending, second.pending) == (INITIAL_BIT, APPLICATION_BIT | HANDSHAKE_BIT)
    assert wants.mask == INITIAL_BIT | HANDSHAKE_BIT | APPLICATION_BIT


def test_a_discarded_space_takes_its_wish_along() -> None:
    component = Component(Wants())
    component.want(INITIAL_BIT | HANDSHAKE_BIT)
    component.on_space_discarded(INITIAL)
    assert component.pending == HANDSHAKE_BIT
    component.on_space_discarded(INITIAL)
    component.on_space_discarded(HANDSHAKE)
    assert component.pending == 0


def test_the_base_hears_everything_and_does_nothing() -> None:
    component = Component(Wants())
    builder = PacketBuilder(make_path())
    builder.begin(INITIAL, builder.path, FULL, 100)
    component.write(builder, 0.0)
    component.on_timer(0.0)
    token = (component,)
    component.on_lost(token, 0.0)
    component.on_probe(token, 0.0)
    component.on_acked(token, 0.0)
    component.on_forgotten(token)
    assert builder.pieces == []
    assert builder.room == 100
    assert (component.pending, component.deadline) == (0, inf)
