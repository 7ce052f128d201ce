"""HTTP/0.9 over QUIC: what implementations of QUIC speak to test each other ("hq-interop").

`connection`: `H0Connection`, with the verbs and events of `quicio.h3.connection.H3Connection`.
"""
