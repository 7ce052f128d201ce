"""`docs/reference/configuration.md` has every field of `QuicConfiguration`, with its default."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from quicio.quic.configuration import QuicConfiguration
from quicio.quic.wire.constants import VERSION_1, VERSION_2

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "configuration.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| (`[^|]+) \| ([^|]+) \|", re.MULTILINE)
WITHOUT_EFFECT = {"quic_logger", "quantum_readiness_test"}
OBJECTS = {"codes"}  # has a class of its own on the page


def told() -> dict[str, str]:
    """The default that the page gives for each field; one default may stand for several fields."""
    result: dict[str, str] = {}
    for match in ROW.finditer(PAGE):
        names, defaults = re.findall(r"`(\w+)`", match[1]), [text.strip(" `") for text in match[2].split(",")]
        result.update(zip(names, defaults * len(names) if len(defaults) == 1 else defaults, strict=False))
    return result


TOLD = told()
FIELDS = {field.name: field for field in fields(QuicConfiguration)}


def test_every_field_is_told_and_no_other() -> None:
    assert set(TOLD) | WITHOUT_EFFECT | OBJECTS == set(FIELDS)
    assert all(f"`{name}`" in PAGE for name in WITHOUT_EFFECT)


@pytest.mark.parametrize("name", [name for name in TOLD if name != "supported_versions"])
def test_a_default_is_what_the_page_says(name: str) -> None:
    field = FIELDS[name]
    default = field.default_factory() if field.default_factory is not MISSING else field.default
    assert TOLD[name].replace('"', "'") == repr(default)


def test_the_versions_by_default() -> None:
    assert QuicConfiguration().supported_versions == [VERSION_1, VERSION_2]
    assert TOLD["supported_versions"] == "versions 1 and 2"
