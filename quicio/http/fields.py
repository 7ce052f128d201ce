"""Header and trailer fields, as programs use them (RFC 9110 §5).

HTTP/3 has names in lower case and values in bytes; programs want to look a name up in any case and get text. `Fields` is
that view, read-only and in the order of arrival; a field that came on several lines is one value, joined as RFC 9110 §5.3
says. Text is ISO 8859-1 in both directions, which loses nothing of what arrived.

`encode_fields` is the way back, for what programs pass in: a mapping or pairs, text or bytes. Which names and values may be
sent is not decided here: `quicio.h3.headers` judges what goes out by the same rules as what comes in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

__all__ = ["Fields", "FieldsLike", "encode_fields"]

Text = str | bytes
FieldsLike = Mapping[str, str] | Iterable[tuple[Text, Text]]
"""What can be given as header or trailer fields."""

# How the lines of one field are joined: RFC 9110 §5.3, and RFC 9114 §4.2.1 for the one that has a syntax of its own.
SEPARATORS: Final = {"cookie": "; "}


class Fields(Mapping[str, str]):
    """Fields of a message: a read-only mapping whose names have no case.

    `raw` is what was on the wire. Iterating gives each name once, in lower case.
    """

    __slots__ = ("raw",)

    def __init__(self, raw: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self.raw: tuple[tuple[bytes, bytes], ...] = tuple(raw)

    def get_all(self, name: str) -> list[str]:
        """The values of all lines with this name, in order."""
        wanted = name.lower().encode("latin-1", "replace")
        return [value.decode("latin-1") for key, value in self.raw if key == wanted]

    def __getitem__(self, name: str) -> str:
        values = self.get_all(name)
        if not values:
            raise KeyError(name)
        return SEPARATORS.get(name.lower(), ", ").join(values)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(key.decode("latin-1") for key, _ in self.raw))

    def __len__(self) -> int:
        return len({key for key, _ in self.raw})

    def __repr__(self) -> str:
        return f"Fields({list(self.raw)!r})"


def encode_fields(fields: FieldsLike) -> list[tuple[bytes, bytes]]:
    """Fields as HTTP/3 sends them. Raises `ValueError` for what is not ISO 8859-1, and for pseudo-header fields."""
    pairs: Iterable[tuple[Text, Text]]
    if isinstance(fields, Fields):
        pairs = fields.raw
    else:
        pairs = fields.items() if isinstance(fields, Mapping) else fields
    result = [(_encode(name).lower(), _encode(value)) for name, value in pairs]
    for name, _ in result:
        if name.startswith(b":"):
            raise ValueError(f"{name!r} is not a field: method, path, authority and status have arguments of their own")
    return result


def _encode(text: Text) -> bytes:
    return text.encode("latin-1") if isinstance(text, str) else text
