"""Inputs for the fuzzers: what a network, an attacker or a broken peer may hand to a connection in any of its states.

All choices come from one seeded `random.Random`, so a seed is a failing case's name; hypothesis and `tests/fuzz/run_many.py`
choose the seeds. `Attack` is one victim and the inputs to it; after each input it plays driver and application, then checks
that nothing has outgrown its limit.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from quicio.quic.connection import QuicConnection
from quicio.quic.endpoint import MAX_UNDECIDED, Endpoint, Incoming
from quicio.quic.transmit import Received
from quicio.quic.wire.constants import (
    APPLICATION,
    EPOCH_INITIAL,
    EPOCH_ONE_RTT,
    EPOCH_ZERO_RTT,
    HANDSHAKE,
    INITIAL,
    VERSION_1,
    VERSION_2,
)
from quicio.quic.wire.crypto import KeyRing
from quicio.quic.wire.headers import encode_version_negotiation
from quicio.quic.wire.retry import encode_retry
from sim.bounds import check_bounds
from sim.rude import RUDE_ADDRESS, RudePeer, configurations, crypto_frame, stream_frame, varint
from sim.simulation import SimulatedEnvironment

STATES = ("fresh", "initial", "handshake", "confirmed", "closing", "draining", "terminated")
OTHER_ADDRESSES = (("192.0.2.1", 5000), ("198.51.100.7", 4433), ("192.0.2.1", 53))
STREAM_SIZE = 4000  # of every stream that polite frames speak of
EDGES = (0, 1, 2, 3, 63, 64, 1000, 16383, 16384, 65535, 1 << 20, (1 << 30) - 1, 1 << 30, 1 << 60, (1 << 62) - 1)
FRAME_TYPES = (*range(0x1F), 0x20, 0x30, 0x31, 0x40, 0x7F, 0xFF)


def prepare(state: str, victim_is_client: bool, seed: int) -> RudePeer:
    """A victim in one of `STATES`."""
    rude = RudePeer(victim_is_client=victim_is_client, seed=seed)
    if state == "fresh":
        ring = KeyRing(not victim_is_client)
        ring.install_initial(rude.victim.original_destination_connection_id, VERSION_1)
        rude.sealing[EPOCH_INITIAL] = ring.sealing[EPOCH_INITIAL]
    elif state == "initial":
        rude.to_initial()
        if not victim_is_client:
            for data, _ in rude.carrier.datagrams_to_send(rude.now):
                rude.deliver(data[:1200])
    elif state == "handshake":
        rude.to_handshake()
    else:
        rude.to_confirmed()
    if state in ("closing", "terminated"):
        rude.victim.close(error_code=7, reason_phrase="enough")
        rude.listen()
    if state == "draining":
        rude.send(EPOCH_ONE_RTT, b"\x1c\x00\x00\x00")
    if state == "terminated":
        rude.now += 100.0
        rude.victim.handle_timer(rude.now)
    return rude


def mutate(data: bytes, random: Random) -> bytes:
    """`data`, damaged: bits flipped, cut short, a piece taken out, doubled or replaced."""
    if not data:
        return random.randbytes(random.randrange(4))
    kind = random.randrange(6)
    start = random.randrange(len(data))
    stop = min(len(data), start + random.randrange(1, 64))
    if kind == 0:
        return data[:start]
    if kind == 1:
        return data[:start] + data[stop:]
    if kind == 2:
        return data[:stop] + data[start:]
    if kind == 3:
        return data[:start] + random.randbytes(stop - start) + data[stop:]
    if kind == 4:
        return data[:start] + varint(random.choice(EDGES)) + data[start + 1 :]
    damaged = bytearray(data)
    for _ in range(random.randrange(1, 4)):
        damaged[random.randrange(len(damaged))] ^= 1 << random.randrange(8)
    return bytes(damaged)


def number(random: Random) -> bytes:
    """A variable-length integer, most often at an edge."""
    if random.randrange(4):
        return varint(random.choice(EDGES))
    return varint(random.getrandbits(random.choice((4, 12, 28, 62))) & ((1 << 62) - 1))


def frame(random: Random) -> bytes:
    """One frame: the right shape most of the time, with fields of any value."""
    kind = random.choice(FRAME_TYPES)
    head = bytes((kind,))
    data = random.randbytes(random.randrange(24))
    if kind in (0x02, 0x03):
        return ack_frame(random, kind)
    if kind == 0x06:
        return crypto_frame(random.choice((0, 1, 100, 60000)), data)
    if 0x08 <= kind <= 0x0F:
        return stream_frame(
            random.randrange(12), random.choice((0, 1, 10, 5000, 1 << 19, 1 << 61)), data, bool(kind & 1)
        )
    if kind == 0x18:
        sequence, retire = random.randrange(40), random.randrange(40)
        cid = random.randbytes(random.choice((8, 8, 8, 0, 20, 21)))
        return head + varint(sequence) + varint(retire) + bytes((len(cid),)) + cid + random.randbytes(16)
    if kind == 0x19:
        return head + varint(random.randrange(12))
    if kind in (0x1A, 0x1B):
        return head + random.randbytes(8)
    if kind == 0x1C:
        return head + number(random) + number(random) + bytes((len(data),)) + data
    if kind in (0x07, 0x1D, 0x31):
        code = number(random) if kind == 0x1D else b""
        return head + code + bytes((len(data),)) + data
    fields = {0x04: 3, 0x05: 2, 0x10: 1, 0x11: 2, 0x12: 1, 0x13: 1, 0x14: 1, 0x15: 2, 0x16: 1, 0x17: 1}.get(kind, 0)
    return head + b"".join(
        [number(random) if random.randrange(3) else varint(random.randrange(12)) for _ in range(fields)]
    )


def ack_frame(random: Random, kind: int) -> bytes:
    """An ACK frame: of small numbers or wild ones."""
    largest = random.choice((0, 1, 2, 5, 10, 1003)) if random.randrange(4) else random.choice(EDGES)
    count = random.choice((0, 0, 1, 2, 40))
    body = varint(largest) + number(random) + varint(count) + varint(min(largest, random.randrange(4)))
    body += b"".join([varint(random.randrange(3)) + varint(random.randrange(3)) for _ in range(count)])
    counts = b"".join([number(random) for _ in range(3)]) if kind == 3 else b""
    return bytes((kind,)) + body + counts


class PoliteFrames:
    """Frames that a peer of ours might well send, in an order of its own: they keep a victim alive and reach deep states."""

    def __init__(self, rude: RudePeer, random: Random) -> None:
        self.rude = rude
        self.random = random
        self._sequence = 20
        role = 1 if rude.victim_is_client else 0
        self._peer_streams = [kind | role | index << 2 for kind in (0, 2) for index in range(4)]
        self._makers: list[Callable[[], bytes]] = [
            self._ack,
            self._ack,
            self._stream,
            self._stream,
            self._stream,
            lambda: b"\x04" + varint(self._receiving()) + b"\x05" + varint(STREAM_SIZE),
            lambda: b"\x05" + varint(self._sending()) + b"\x06",
            lambda: b"\x10" + varint(1 << random.randrange(30)),
            lambda: b"\x11" + varint(self._sending()) + varint(1 << random.randrange(30)),
            lambda: bytes((random.choice((0x12, 0x13)),)) + varint(random.randrange(300)),
            lambda: b"\x14" + varint(random.randrange(1 << 20)),
            lambda: bytes((random.choice((0x16, 0x17)),)) + varint(random.randrange(200)),
            self._new_connection_id,
            self._retire_connection_id,
            lambda: bytes((random.choice((0x1A, 0x1B)),)) + random.randbytes(8),
            lambda: b"\x31\x05" + random.randbytes(5),
            lambda: b"\x01",
            lambda: bytes(random.randrange(1, 30)),
        ]

    def one_rtt(self) -> bytes:
        """A payload for a 1-RTT packet."""
        return b"".join([self.random.choice(self._makers)() for _ in range(self.random.choice((1, 2, 6)))])

    def handshake(self, space: int, message: bytes) -> bytes:
        """A payload for an Initial or Handshake packet: pieces of the real message, in any order."""
        random = self.random
        payload = self._ack(space) if random.randrange(2) else b"\x01"
        for _ in range(random.randrange(3)):
            start = random.randrange(len(message)) if message and random.randrange(2) else 0
            payload += crypto_frame(start, message[start : start + random.choice((10, 300, 1100))])
        return payload

    def _ack(self, space: int = APPLICATION) -> bytes:
        state = self.rude.victim._parts.loss.spaces[space]
        largest = state.next_number - 1 - self.random.choice((0, 0, 0, 1, 3))
        if largest < 0 or largest in state.skipped:
            return b"\x01"
        return b"\x02" + varint(largest) + varint(self.random.randrange(2000)) + b"\x00\x00"

    def _sending(self) -> int:
        """A stream that the victim may send on."""
        known = [
            number for number, stream in self.rude.victim._parts.streams.streams.items() if stream.send is not None
        ]
        return self.random.choice(known or self._peer_streams[:1])

    def _receiving(self) -> int:
        known = [number for number in self.rude.victim._parts.streams.streams if not number & 2]
        return self.random.choice(self._peer_streams + known)

    def _stream(self) -> bytes:
        offset = self.random.choice((0, 0, 10, 1000, 3000, STREAM_SIZE - 10, STREAM_SIZE))
        data = bytes(min(self.random.choice((0, 1, 10, 1000)), STREAM_SIZE - offset))
        is_end = offset + len(data) == STREAM_SIZE and self.random.randrange(2) == 0
        return stream_frame(self._receiving(), offset, data, is_end)

    def _new_connection_id(self) -> bytes:
        self._sequence += 1
        retire = self._sequence - self.random.randrange(6)
        return b"\x18" + varint(self._sequence) + varint(retire) + b"\x08" + self.random.randbytes(24)

    def _retire_connection_id(self) -> bytes:
        ids = self.rude.victim._parts.connection_ids
        told = [sequence for sequence in ids._local if 0 < sequence < ids._told]
        return b"\x19" + varint(self.random.choice(told)) if told else b"\x01"


class Attack:
    """One victim in one state, and all that is thrown at it. Half of the attackers are polite, as long as they can."""

    def __init__(self, state: str, victim_is_client: bool, random: Random) -> None:
        self.random = random
        self.rude = prepare(state, victim_is_client, random.randrange(1 << 16))
        self.victim: QuicConnection = self.rude.victim
        self.messages = [bytes(self.rude.crypto(INITIAL)), bytes(self.rude.crypto(HANDSHAKE))]
        self.pool = list(self.rude.datagrams)
        self.pool += [data for data, _ in self.rude.carrier.datagrams_to_send(self.rude.now)]
        self.kinds: list[Callable[[], bytes]] = [
            self._garbage,
            self._header_and_garbage,
            self._mutated_datagram,
            self._sealed_garbage,
            self._sealed_frames,
            self._sealed_frames,
            self._sealed_messages,
            self._unprotected,
        ]
        self.polite = PoliteFrames(self.rude, random)
        if not victim_is_client and state in ("handshake", "confirmed") and not random.randrange(3):
            self.rude.allow_zero_rtt()
        if random.randrange(2):
            self.kinds = [self._polite] * 12 + [self._garbage, self._header_and_garbage, self._mutated_datagram]

    def step(self) -> None:
        """One input, then whatever a driver does after one."""
        random = self.random
        datagrams = [random.choice(self.kinds)() for _ in range(random.choice((1, 1, 1, 2, 5)))]
        if not random.randrange(8):
            datagrams = [b"".join(datagrams)]
        remote = random.choice(OTHER_ADDRESSES) if not random.randrange(6) else RUDE_ADDRESS
        self.rude.deliver_unheard(datagrams, remote, random.choice((0, 0, 1, 2, 3)))
        if not random.randrange(4):
            self.rude.now += random.choice((0.0, 0.001, 0.03, 1.0, 20.0))
            self.victim.handle_timer(self.rude.now)
        if not random.randrange(3):
            self._use()
        self._drive()
        check_bounds(self.victim)

    def _drive(self) -> None:
        victim = self.victim
        answers = [data for data, _ in victim.datagrams_to_send(self.rude.now)]
        self.pool = (self.pool + answers)[-32:]
        if self.random.randrange(2):
            while victim.next_event() is not None:
                pass
        timer = victim.get_timer()
        if timer is not None and timer <= self.rude.now:
            victim.handle_timer(self.rude.now)

    def _use(self) -> None:
        """The application does something; misuse raises ValueError or RuntimeError at once, and nothing else."""
        random = self.random
        victim = self.victim
        stream_id = random.randrange(8)
        commands: list[Callable[[], object]] = [
            lambda: victim.open_stream(bool(random.randrange(2))),
            lambda: victim.send_stream_data(
                stream_id, random.randbytes(random.randrange(3000)), not random.randrange(4)
            ),
            lambda: victim.reset_stream(stream_id, 1),
            lambda: victim.stop_stream(stream_id, 2),
            lambda: victim.send_datagram_frame(random.randbytes(random.randrange(1500))),
            lambda: victim.send_ping(stream_id),
            victim.change_connection_id,
            victim.request_key_update,
            victim.statistics,
        ]
        try:
            random.choice(commands)()
        except (ValueError, RuntimeError) as error:
            if type(error) not in (ValueError, RuntimeError):
                raise

    # --- kinds of input ----------------------------------------------------------------------------------------------

    def _garbage(self) -> bytes:
        random = self.random
        size = random.choice((0, 1, 2, 7, 20, 21, 30, 100, 1200, 1400))
        return random.randbytes(size)

    def _header_and_garbage(self) -> bytes:
        """A first byte, a version and connection IDs that lead to the victim, then anything."""
        random = self.random
        cid = random.choice(
            (self.victim.host_cid, self.victim._parts.initial_cid, random.randbytes(random.randrange(24)))
        )
        if random.randrange(2):
            return bytes((0x40 | random.randrange(64),)) + cid + random.randbytes(random.randrange(60))
        version = random.choice((VERSION_1, VERSION_2, 0, 0x1A2A3A4A)).to_bytes(4, "big")
        source = random.randbytes(random.choice((0, 8, 20)))
        head = (
            bytes((0xC0 | random.randrange(64),)) + version + bytes((len(cid),)) + cid + bytes((len(source),)) + source
        )
        return head + number(random) + number(random) + random.randbytes(random.choice((0, 40, 1200)))

    def _mutated_datagram(self) -> bytes:
        data = self.random.choice(self.pool) if self.pool else b""
        return mutate(data, self.random) if self.random.randrange(4) else data

    def _epoch(self) -> int:
        return self.random.choice([epoch for epoch, sealing in enumerate(self.rude.sealing) if sealing is not None])

    def _seal(self, epoch: int, payload: bytes) -> bytes:
        random = self.random
        if epoch == EPOCH_INITIAL and random.randrange(8):
            payload += bytes(max(0, 1200 - len(payload)))
        reserved = 0 if random.randrange(16) else 0x08
        wild = None if random.randrange(8) else random.choice((0, 1, 2, 1 << 20, (1 << 31) + 5))
        return self.rude.packet(epoch, payload[:16000], reserved=reserved, number=wild)

    def _sealed_garbage(self) -> bytes:
        return self._seal(self._epoch(), self.random.randbytes(self.random.choice((0, 1, 2, 4, 30, 300))))

    def _sealed_frames(self) -> bytes:
        """Frames in an order and with values that no peer of ours would send."""
        random = self.random
        payload = b"".join([frame(random) for _ in range(random.choice((1, 1, 2, 5, 20)))])
        if not random.randrange(6):
            payload = mutate(payload, random)
        return self._seal(self._epoch(), payload)

    def _polite(self) -> bytes:
        epoch = self._epoch()
        if epoch in (EPOCH_ONE_RTT, EPOCH_ZERO_RTT):
            self._follow_key_update()
            return self.rude.packet(epoch, self.polite.one_rtt())
        space = INITIAL if epoch == EPOCH_INITIAL else HANDSHAKE
        return self.rude.packet(epoch, self.polite.handshake(space, self.messages[space]) + bytes(1100))

    def _follow_key_update(self) -> None:
        """Go to the victim's key phase, and sometimes one further."""
        opening = self.victim._parts.keys.opening[EPOCH_ONE_RTT]
        sealing = self.rude.sealing[EPOCH_ONE_RTT]
        if opening is None or sealing is None:
            return
        if sealing.phase < opening.phase or not self.random.randrange(60):
            self.rude.sealing[EPOCH_ONE_RTT] = sealing.following()

    def _sealed_messages(self) -> bytes:
        """TLS messages of the handshake, damaged, in the right packets."""
        random = self.random
        epoch = self._epoch()
        data = random.choice(self.messages)
        if random.randrange(4):
            data = mutate(data, random)
        start = 0 if random.randrange(2) else random.randrange(len(data) + 1)
        return self._seal(epoch, crypto_frame(start, data[start : start + random.choice((1, 4, 100, 1400, 16000))]))

    def _unprotected(self) -> bytes:
        """Version Negotiation, Retry, and what looks like a stateless reset."""
        random = self.random
        rude = self.rude
        peer_cid = rude.carrier.host_cid
        original = self.victim._parts.initial_cid
        kind = random.randrange(4)
        if kind == 0:
            versions = random.choices((VERSION_1, VERSION_2, 0x1A2A3A4A, 5), k=random.randrange(1, 4))
            return encode_version_negotiation(random.choice((peer_cid, original)), self.victim.host_cid, versions, 7)
        if kind == 1:
            token = random.randbytes(random.choice((1, 100, 801, 5000)))
            return encode_retry(VERSION_1, random.choice((peer_cid, original)), self.victim.host_cid, original, token)
        if kind == 2:
            return b"\x40" + random.randbytes(30)
        return rude.packet(EPOCH_ZERO_RTT, b"\x01", key=rude.sealing[EPOCH_INITIAL])


class EndpointAttack:
    """An endpoint that listens and has connections, and datagrams from everywhere."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.now = 1.0
        self.environment = SimulatedEnvironment(random.randrange(1 << 16))
        self.endpoint = Endpoint(environment=self.environment, half_open_limit=random.choice((0, 2, 16)))
        self.endpoint.listen(configurations({}, is_client=False), self._policy)
        self.pool: list[bytes] = []
        for _ in range(2):
            self._add_client()

    def _policy(self, incoming: Incoming) -> None:
        decide = self.random.choice((incoming.accept, incoming.refuse, incoming.ignore, self._wait, incoming.retry))
        if decide == incoming.retry and incoming.address_validated:
            decide = incoming.accept
        decide()

    def _wait(self) -> None:
        """Leave it undecided."""

    def _add_client(self) -> None:
        """A real client's first flight, whole or damaged, is good material."""
        client = QuicConnection(configuration=configurations({}, is_client=True), environment=self.environment)
        client.connect(RUDE_ADDRESS, self.now)
        self.pool += [data for data, _ in client.datagrams_to_send(self.now)]

    def step(self) -> None:
        """One batch of datagrams, then what a driver does."""
        random = self.random
        endpoint = self.endpoint
        datagrams = [self._datagram() for _ in range(random.choice((1, 1, 2, 6)))]
        remote = random.choice((RUDE_ADDRESS, *OTHER_ADDRESSES))
        endpoint.receive(Received(datagrams, remote, random.choice((None, "192.0.2.9")), random.randrange(4)), self.now)
        endpoint.touched.clear()
        if not random.randrange(4):
            self.now += random.choice((0.001, 0.1, 5.0, 30.0))
            endpoint.handle_timer(self.now)
        for connection in list(endpoint.connections):
            timer = connection.get_timer()
            if timer is not None and timer <= self.now:
                connection.handle_timer(self.now)
            self._keep([data for data, _ in connection.datagrams_to_send(self.now)])
            while connection.next_event() is not None:
                pass
            check_bounds(connection)
            if connection.is_terminated:
                endpoint.forget(connection)
        while (transmit := endpoint.next_transmit()) is not None:
            self._keep(transmit.datagrams)
        self._check()

    def _keep(self, datagrams: list[bytes]) -> None:
        self.pool = (self.pool + datagrams)[-32:]

    def _check(self) -> None:
        endpoint = self.endpoint
        assert len(endpoint.half_open) <= endpoint.half_open.limit
        assert len(endpoint._undecided) <= MAX_UNDECIDED
        assert set(endpoint._issuers) == set(endpoint.connections)
        assert set(endpoint._initial_routes.values()) <= set(endpoint.connections)
        assert set(endpoint._routes.values()) <= set(endpoint.connections)

    def _datagram(self) -> bytes:
        random = self.random
        kind = random.randrange(5)
        if kind == 0:
            return random.randbytes(random.choice((0, 1, 6, 20, 40, 1199, 1200)))
        if kind == 1:
            version = random.choice((VERSION_1, VERSION_2, 0, 0x1A2A3A4A)).to_bytes(4, "big")
            cids = b"".join(
                [bytes((size,)) + random.randbytes(size) for size in random.choices((0, 7, 8, 20, 255), k=2)]
            )
            return bytes((0xC0 | random.randrange(64),)) + version + cids + random.randbytes(random.choice((5, 1200)))
        data = random.choice(self.pool)
        return data if kind == 2 else mutate(data, random)
