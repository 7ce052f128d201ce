"""The bytes of QUIC: frames, headers, keys and the small exact types that carry them (RFC 9000 §12-§19, RFC 9001 §5)."""
