"""Congestion controllers, one to a path (RFC 9002 §7, RFC 9438)."""
