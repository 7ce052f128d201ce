"""Acknowledgements, loss detection, round-trip times and pacing (RFC 9000 §13, RFC 9002)."""
