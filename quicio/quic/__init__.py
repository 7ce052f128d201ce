"""QUIC without I/O. One file for each rule of the RFCs:

wire/            the bytes: frames, headers, keys, transport parameters        RFC 9000 §12-§19, RFC 9001 §5, RFC 8999
streams/         stream states, reassembly, flow control, scheduling           RFC 9000 §2-§4
recovery/        acknowledgements, loss detection, round-trip times, pacing    RFC 9000 §13, RFC 9002
congestion/      controllers behind one contract                               RFC 9002 §7, RFC 9438, RFC 9406
paths/           addresses, connection IDs, datagram size, ECN                 RFC 9000 §5, §8, §9, §13.4, §14
handshake.py     CRYPTO streams around TLS, keys, transport parameters         RFC 9000 §7, RFC 9001
lifecycle.py     idle timeout, closing, draining, keep-alive                   RFC 9000 §10
datagrams.py     DATAGRAM frames                                               RFC 9221
inbound.py       datagram to packets to frames to components                   RFC 9000 §12
outbound.py      pending components to packets to datagrams                    RFC 9000 §12, §13
connection.py    QuicConnection: the public verbs and the wiring
endpoint.py      routing, accept policy, stateless answers                     RFC 9000 §5.2, §6, §8.1, §10.3
"""
