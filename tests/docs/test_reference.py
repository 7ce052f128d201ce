"""The reference has an entry for each public name, and the index leads to each page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import quicio
import quicio.errors
import quicio.trio

DOCS = Path(__file__).resolve().parents[2] / "docs"
REFERENCE = "".join(path.read_text(encoding="utf-8") for path in (DOCS / "reference").glob("*.md"))
ENTRY = re.compile(r"^\.\. auto(?:class|exception|function):: ([\w.]+)$|^\| `(quicio\.\w+)` \| ", re.MULTILINE)
ENTRIES = {match[1] or match[2] for match in ENTRY.finditer(REFERENCE)}
ERRORS = set(quicio.errors.__all__)  # documented as a module


@pytest.mark.parametrize("name", [name for name in quicio.__all__ if name not in ERRORS | {"__version__"}])
def test_the_reference_has_the_public_names(name: str) -> None:
    assert f"quicio.{name}" in ENTRIES


@pytest.mark.parametrize("name", [name for name in quicio.trio.__all__ if not hasattr(quicio, name)])
def test_the_reference_has_the_names_of_the_trio_face_alone(name: str) -> None:
    assert f"quicio.trio.{name}" in ENTRIES


def test_the_errors_are_documented_as_a_module() -> None:
    assert ".. automodule:: quicio.errors\n   :members:" in REFERENCE


def test_the_index_leads_to_each_page() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    pages = {str(path.relative_to(DOCS).with_suffix("")) for path in DOCS.rglob("*.md") if "_build" not in path.parts}
    assert pages - {"index"} == set(re.findall(r"^([\w/-]+)$", index, re.MULTILINE))
