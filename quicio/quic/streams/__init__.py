"""Streams, their flow control and the order in which they are sent (RFC 9000 §2-§4)."""
