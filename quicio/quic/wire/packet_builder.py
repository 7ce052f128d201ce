"""The packet under construction: what a component sees in `write()`.

It collects the frames of one packet as byte pieces (joined once, encrypted once), the tokens of those who want to hear
the packet's fate, and the two facts that recovery needs: whether the packet elicits an ACK and whether it counts as in
flight. `room` is what is left for frames, after header and AEAD tag, and never more than the path's window allows for a
packet that counts. One builder serves a connection for life: `begin()` makes it ready for the next packet.
"""

from typing import Any

from quicio.quic.paths.path import Path

Token = tuple[Any, ...]  # what `quicio.quic.component` says of tokens


class PacketBuilder:
    """Frames of one packet, in order of writing."""

    space: int
    kind: int
    room: int
    path: Path
    pieces: list[bytes]
    tokens: list[Token]
    ack_eliciting: bool
    in_flight: bool

    def __init__(self, path: Path) -> None:
        self.path = path
        self.space = 0
        self.kind = 0
        self.room = 0
        self.pieces = []
        self.tokens = []
        self.ack_eliciting = False
        self.in_flight = False

    def begin(self, space: int, path: Path, kind: int, room: int) -> None:
        """Start a packet of class `kind` in `space` on `path`, with `room` bytes for frames."""
        self.space = space
        self.path = path
        self.kind = kind
        self.room = room
        self.pieces = []
        self.tokens = []
        self.ack_eliciting = False
        self.in_flight = False

    def let_go(self) -> None:
        """The last packet of a burst is built: what it carried belongs to its receiver now, an idle connection keeps none."""
        self.pieces = []
        self.tokens = []

    def push(self, frame: bytes, token: Token | None) -> None:
        """Add an ACK-eliciting frame (RFC 9002 §2); the caller has checked that it fits `room`."""
        self.pieces.append(frame)
        self.room -= len(frame)
        self.ack_eliciting = True
        self.in_flight = True
        if token is not None:
            self.tokens.append(token)

    def push_data(self, header: bytes, data: bytes, token: Token) -> None:
        """As `push`, for a frame that comes as its header and its data."""
        pieces = self.pieces
        pieces.append(header)
        pieces.append(data)
        self.room -= len(header) + len(data)
        self.ack_eliciting = True
        self.in_flight = True
        self.tokens.append(token)

    def push_ack(self, frame: bytes, token: Token) -> None:
        """Add an ACK frame: it elicits nothing and does not count as in flight (RFC 9002 §2)."""
        self.pieces.append(frame)
        self.room -= len(frame)
        self.tokens.append(token)
