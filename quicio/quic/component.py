"""The contract inside a connection: components that write frames, hear their fate and own their deadlines.

A connection is a short object over components. A component never knows the connection: it gets what it needs when it is
built, and speaks by return values, by raising `QuicConnectionError`, by appending to the event queue, and by `pending`
and `deadline`.

Rules:
- Whoever writes a frame hears its fate. A token is a tuple whose first item is the component that wrote the frame; what
  follows is the component's own business. Each token ends exactly once, by `on_acked` or by `on_forgotten`; `on_lost`
  and `on_probe` are not ends: they say "offer it again", and the end still comes.
- `pending` has one bit per packet number space in which the component has something to write. It is set through `want()`
  so that the connection's shared mask, `Wants.mask`, is never less than the union over the components; `write()` clears
  its own bits when nothing is left for the packet's space.
- `deadline` is the protocol time at which `on_timer` wants to run, or infinity. Whoever waits owns its deadline.
"""

from math import inf

from quicio.quic.compiled import mypyc_attr
from quicio.quic.wire.packet_builder import PacketBuilder, Token

__all__ = ["Component", "Token", "Wants"]


class Wants:
    """The connection's shared mask: a bit per packet number space in which some component may have frames to send."""

    __slots__ = ("mask",)

    def __init__(self) -> None:
        self.mask: int = 0


@mypyc_attr(allow_interpreted_subclasses=True)
class Component:
    """Base of everything that writes frames or waits for a time. See the module's essay for the rules."""

    deadline: float
    pending: int
    wants: Wants

    def __init__(self, wants: Wants) -> None:
        self.wants = wants
        self.deadline = inf
        self.pending = 0

    def want(self, bits: int) -> None:
        """Ask for `write()` in the packet number spaces whose bits are set."""
        self.pending |= bits
        self.wants.mask |= bits

    def on_timer(self, now: float) -> None:
        """`deadline` has passed: do what it was for, and set it anew or to infinity."""

    def write(self, packet: PacketBuilder, now: float) -> None:
        """Push frames for `packet.space` that fit `packet.room`; clear the space's pending bit when none are left."""

    def on_acked(self, token: Token, now: float) -> None:
        """The peer has the frame. Ends the token."""

    def on_acked_run(self, tokens: list[Token], now: float) -> None:
        """`on_acked` for tokens that one ACK ends, in the order of their packets."""
        for token in tokens:
            self.on_acked(token, now)

    def on_lost(self, token: Token, now: float) -> None:
        """The packet is taken for lost: offer the frame again if it still matters. A late `on_acked` may come."""

    def on_probe(self, token: Token, now: float) -> None:
        """A probe is wanted: offer the frame again, while the old copy is still in flight."""

    def on_forgotten(self, token: Token) -> None:
        """Keys were discarded, or nobody remembers the packet any more: ends the token, nothing is to be sent again."""

    def on_space_discarded(self, space: int) -> None:
        """The keys of a packet number space are gone (RFC 9001 §4.9): drop what was to be sent there."""
        self.pending &= ~(1 << space)
