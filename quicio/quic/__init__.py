"""QUIC without I/O. A rule of an RFC is found in the file named after it:

What users import
    connection.py     QuicConnection: the public verbs, the one choke point for errors
    configuration.py  what an application decides; events.py, what it hears; statistics.py, what was counted
    packet.py         public names of packets, frames, versions and error codes      RFC 9000 §12, §17, §19, §20
    retry.py          address validation tokens                                      RFC 9000 §8.1

An endpoint
    endpoint.py       routing, accept policy, stateless answers, stubs               RFC 9000 §5.2, §6, §8.1, §10
    half_open.py      who may have how many handshakes under way                     RFC 9000 §21.3
    issuing.py        connection IDs that route, reset tokens that are recognised    RFC 9000 §5.1, §10.3
    racing.py         one connection attempt towards several addresses               RFC 8305

Inside a connection
    assembly.py       builds the parts; parts.py, their order and what concerns all of them
    component.py      the contract: tokens, pending bits, deadlines; compiled.py, what a compiled build asks of it
    inbound.py        datagram to packets                                            RFC 9000 §5.2, §12.2, RFC 9001 §5
    dispatch.py       packet to frames to components                                 RFC 9000 §12.4
    outbound.py       pending components to packets to datagrams                     RFC 9000 §12, §13, §14
    sealing.py        a packet's last steps; closing.py, CONNECTION_CLOSE            RFC 9001 §5, RFC 9000 §10.2.3
    handshake.py      TLS, keys, transport parameters                                RFC 9000 §7, RFC 9001
    crypto_stream.py  CRYPTO frames; tls_policy.py, answers from the configuration   RFC 9000 §7.5
    negotiation.py    Version Negotiation, Retry, compatible versions                RFC 9000 §6, §17.2.5, RFC 9368
    lifecycle.py      idle timeout, closing, draining, keep-alive                    RFC 9000 §10
    datagrams.py      DATAGRAM frames                                                RFC 9221
    observer.py       who watches; transmit.py, batches of datagrams
    watching.py       what observers are told beside packets; logger.py, qlog.py, qlog as one of them
    _aioquic.py       private names of aioquic's that programs read; rangeset.py, packet_builder.py, modules of its

Rooms
    wire/             frames, headers, keys, transport parameters                    RFC 9000 §12-§19, RFC 9001, RFC 8999
    streams/          states, reassembly, flow control, scheduling, limits           RFC 9000 §2-§4
    recovery/         acknowledgements, loss detection, round-trip times, pacing     RFC 9000 §13, RFC 9002
    congestion/       controllers behind one contract                                RFC 9002 §7, RFC 9438, RFC 9406
    paths/            addresses, connection IDs, validation, datagram size, ECN      RFC 9000 §5, §8, §9, §13.4, §14
"""
