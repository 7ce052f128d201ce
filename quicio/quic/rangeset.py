"""aioquic's name for `quicio.quic.wire.rangeset`, which `pull_ack_frame` and `push_ack_frame` speak of."""

from quicio.quic.wire.rangeset import RangeSet

__all__ = ["RangeSet"]
