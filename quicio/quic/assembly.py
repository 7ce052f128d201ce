"""Builds a connection's parts from its configuration: the one place that knows every constructor."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable

from quicio.environment import Environment
from quicio.quic.component import Wants
from quicio.quic.configuration import QuicConfiguration
from quicio.quic.congestion import cubic, reno
from quicio.quic.congestion.base import create_congestion_control
from quicio.quic.datagrams import Datagrams
from quicio.quic.events import QuicEvent
from quicio.quic.handshake import Handshake
from quicio.quic.lifecycle import Lifecycle
from quicio.quic.parts import Parts
from quicio.quic.paths.connection_ids import ACTIVE_CONNECTION_ID_LIMIT, ConnectionIdIssuer, ConnectionIds
from quicio.quic.paths.ecn import EcnState
from quicio.quic.paths.mtu import PathMtu
from quicio.quic.paths.path import Path
from quicio.quic.paths.validation import PathFactory, Paths
from quicio.quic.recovery.acks import ACK_DELAY_EXPONENT, MAX_ACK_DELAY, Acks
from quicio.quic.recovery.loss import LossDetection
from quicio.quic.recovery.pacer import Pacer
from quicio.quic.recovery.rtt import RttEstimator
from quicio.quic.streams.budget import MemoryBudget, MemoryPool
from quicio.quic.streams.collection import Streams
from quicio.quic.tls_policy import TlsPolicy
from quicio.quic.wire.constants import SMALLEST_MAX_DATAGRAM_SIZE, STATELESS_RESET_TOKEN_SIZE
from quicio.quic.wire.crypto import KeyRing
from quicio.quic.wire.transport_parameters import QUANTUM_READINESS, TransportParameters
from quicio.tls.issuing import KeptTickets, TicketIssuer
from quicio.tls.tickets import SessionTicketFetcher, SessionTicketHandler

MAX_UDP_PAYLOAD_SIZE = 65527  # what we can receive: anything that UDP carries
CONTROLLERS = (cubic, reno)  # importing them registers them


class ConfiguredPaths(PathFactory):
    """Paths as a configuration wants them."""

    def __init__(self, configuration: QuicConfiguration) -> None:
        self._configuration = configuration

    def create(self, remote: Hashable, local: Hashable, is_validated: bool) -> Path:
        configuration = self._configuration
        size = configuration.max_datagram_size
        return Path(
            remote,
            local,
            datagram_size=size,
            congestion=create_congestion_control(configuration.congestion_control_algorithm, size),
            rtt=RttEstimator(configuration.initial_rtt),
            pacer=Pacer(configuration.pacing_granularity),
            mtu=PathMtu(size, configuration.mtu_ceiling),
            ecn=EcnState(configuration.ecn),
            is_validated=is_validated,
        )


def local_parameters(
    configuration: QuicConfiguration,
    budget: MemoryBudget,
    connection_ids: ConnectionIds,
    version: int,
    original_destination_cid: bytes | None,
    retry_source_cid: bytes | None,
) -> TransportParameters:
    """The transport parameters that we announce (RFC 9000 §18.2)."""
    parameters = TransportParameters()
    parameters.max_idle_timeout = int(configuration.idle_timeout * 1000)
    parameters.max_udp_payload_size = MAX_UDP_PAYLOAD_SIZE
    parameters.initial_max_data = budget.first_window(configuration.max_data)
    stream_window = budget.first_window(configuration.max_stream_data)
    parameters.initial_max_stream_data_bidi_local = stream_window
    parameters.initial_max_stream_data_bidi_remote = stream_window
    parameters.initial_max_stream_data_uni = stream_window
    parameters.initial_max_streams_bidi = configuration.max_streams_bidi
    parameters.initial_max_streams_uni = configuration.max_streams_uni
    parameters.ack_delay_exponent = ACK_DELAY_EXPONENT
    parameters.max_ack_delay = int(MAX_ACK_DELAY * 1000)
    parameters.active_connection_id_limit = ACTIVE_CONNECTION_ID_LIMIT
    parameters.initial_source_connection_id = connection_ids.host_cid
    parameters.max_datagram_frame_size = configuration.max_datagram_frame_size or 0
    parameters.version_information = (version, list(configuration.supported_versions))
    if configuration.quantum_readiness_test:
        parameters.additional.append((QUANTUM_READINESS, bytes(SMALLEST_MAX_DATAGRAM_SIZE)))
    if not configuration.is_client:
        parameters.original_destination_connection_id = original_destination_cid
        parameters.retry_source_connection_id = retry_source_cid
        token = connection_ids.host_reset_token
        if len(token) == STATELESS_RESET_TOKEN_SIZE and connection_ids.host_cid:
            parameters.stateless_reset_token = token
    return parameters


def server_policy(
    configuration: QuicConfiguration,
    environment: Environment,
    tickets: TicketIssuer | None,
    fetcher: SessionTicketFetcher | None,
    handler: SessionTicketHandler | None,
) -> TlsPolicy:
    """A server's TLS, with tickets from whoever issues them: the application's functions, which ask for early data too, as

    they do in aioquic, or the configuration's own issuer, or else the endpoint's.
    """
    issuer = configuration.tickets or tickets
    if fetcher is not None and handler is not None:
        register = None if issuer is None else issuer.register
        return TlsPolicy(
            configuration, environment, KeptTickets(fetcher, handler, register=register, environment=environment), True
        )
    return TlsPolicy(configuration, environment, issuer, configuration.accept_early_data)


def assemble_streams(
    configuration: QuicConfiguration,
    parameters: TransportParameters,
    budget: MemoryBudget,
    wants: Wants,
    events: deque[QuicEvent],
    rtt: RttEstimator,
) -> Streams:
    """The streams, with the windows and limits that the peer is told."""
    return Streams(
        wants,
        events,
        is_client=configuration.is_client,
        max_data=parameters.initial_max_data,
        max_stream_data=parameters.initial_max_stream_data_uni,
        max_streams_bidi=configuration.max_streams_bidi,
        max_streams_uni=configuration.max_streams_uni,
        window_limit=min(configuration.receive_window_limit, budget.receive_share),
        rtt=rtt,
        send_buffer=configuration.send_buffer,
        budget=budget,
    )


def assemble_lifecycle(configuration: QuicConfiguration, wants: Wants, events: deque[QuicEvent]) -> Lifecycle:
    """How long the connection may take, and may be silent."""
    return Lifecycle(
        wants,
        events,
        idle_timeout=configuration.idle_timeout,
        handshake_timeout=configuration.handshake_timeout,
        keep_alive=configuration.keep_alive,
    )


def memory_budget(configuration: QuicConfiguration, memory: MemoryPool | None) -> MemoryBudget:
    """A connection's part of its endpoint's memory."""
    window_limit = max(configuration.receive_window_limit, configuration.max_data, configuration.max_stream_data)
    return MemoryBudget(configuration.memory_limit, window_limit, configuration.send_buffer, memory)


def assemble(
    configuration: QuicConfiguration,
    environment: Environment,
    issuer: ConnectionIdIssuer,
    *,
    remote: Hashable,
    local: Hashable,
    version: int,
    is_address_validated: bool,
    original_destination_cid: bytes | None,
    retry_source_cid: bytes | None,
    policy: TlsPolicy | None = None,
    memory: MemoryPool | None = None,
) -> Parts:
    """All components of one connection, wired."""
    is_client = configuration.is_client
    wants = Wants()
    events: deque[QuicEvent] = deque()
    factory = ConfiguredPaths(configuration)
    path = factory.create(remote, local, is_address_validated)
    keys = KeyRing(is_client)
    connection_ids = ConnectionIds(wants, events, issuer)
    budget = memory_budget(configuration, memory)
    parameters = local_parameters(
        configuration, budget, connection_ids, version, original_destination_cid, retry_source_cid
    )
    handshake = Handshake(
        wants,
        events,
        keys,
        policy or TlsPolicy(configuration, environment),
        is_client=is_client,
        version=version,
        versions=list(configuration.supported_versions),
        parameters=parameters,
    )
    return Parts(
        is_client=is_client,
        wants=wants,
        events=events,
        keys=keys,
        acks=Acks(wants),
        loss=LossDetection(wants, is_client=is_client, path=path, random=environment.random),
        handshake=handshake,
        streams=assemble_streams(configuration, parameters, budget, wants, events, path.rtt),
        datagrams=Datagrams(
            wants,
            events,
            queue_limit=configuration.datagram_queue,
            max_frame_size=configuration.max_datagram_frame_size,
            budget=budget,
        ),
        budget=budget,
        connection_ids=connection_ids,
        paths=Paths(wants, events, factory, connection_ids, environment.random_bytes, is_client=is_client, first=path),
        lifecycle=assemble_lifecycle(configuration, wants, events),
    )
