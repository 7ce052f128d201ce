"""Paths and what belongs to one: its addresses, connection IDs, datagram size and ECN state (RFC 9000 §5, §8, §9, §13.4, §14)."""
