"""aioquic's other name for `quicio.buffer`, whose compiled half it is there: pywebtransport imports from it."""

from quicio.buffer import Buffer, BufferReadError, BufferWriteError

__all__ = ["Buffer", "BufferReadError", "BufferWriteError"]
