"""UDP for QUIC: one non-blocking socket and the synchronous engine that every face pumps.

- `address`: one text form for each peer, whatever the system calls it; and back to what the system wants.
- `offload`: what the platform can do (GSO, GRO, ECN, pktinfo, don't-fragment), tried once a socket.
- `cmsg`: ancillary data, packed and unpacked.
- `socket`: `UdpSocket`, batches in and out, no exception for what the network does.
- `deadlines`: the earliest deadline of many connections.
- `engine`: `Engine`, which owns socket and endpoint, the burst budget and the order of sending.

Nothing here knows an event loop: a face waits for readability, writability and time, and calls the engine.
"""
