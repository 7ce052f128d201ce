"""Paths and what belongs to one: addresses, connection IDs, datagram size, ECN (RFC 9000 §5, §8, §9, §13.4, §14)."""
