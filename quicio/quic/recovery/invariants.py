"""What the books of loss detection have to say at any time. For tests and the simulator."""

from quicio.quic.paths.path import Path
from quicio.quic.recovery.sent_packets import MAX_LOST_PACKETS, SpaceState


def check_books(spaces: list[SpaceState], active: Path) -> None:
    """Raise `AssertionError` when they do not balance; `active` is the path in use. Linear in what is tracked."""
    sums: dict[Path, int] = {active: 0}
    for state in spaces:
        eliciting = 0
        for position, packet in enumerate(state.sent):
            if packet is None:
                continue
            if packet.number != state.base + position:
                raise AssertionError(f"{packet} is tracked as number {state.base + position}")
            eliciting += packet.ack_eliciting
            sums[packet.path] = sums.get(packet.path, 0) + (packet.size if packet.in_flight else 0)
        if eliciting != state.eliciting_in_flight:
            raise AssertionError(
                f"space {state.space}: {eliciting} eliciting packets, {state.eliciting_in_flight} counted"
            )
        if state.sent and state.sent[0] is None:
            raise AssertionError(f"space {state.space}: a settled packet is still tracked at the head")
        if len(state.lost_numbers) > MAX_LOST_PACKETS or sorted(state.lost) != state.lost_numbers:
            raise AssertionError(f"space {state.space}: the memory of lost packets is inconsistent")
    for path, total in sums.items():
        if path.in_flight != total:
            raise AssertionError(f"path {path.remote}: {path.in_flight} bytes in flight, {total} tracked")
