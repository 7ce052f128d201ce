"""`docs/security.md` tells the limits as they are in the source, for all thirty classes of attack."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "security.md").read_text(encoding="utf-8")
CELLS = re.compile(r"^\| (\d+) \| [^|]+ \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
ROWS = {int(match[1]): match[2] for match in CELLS.finditer(PAGE)}
TESTS = [(int(match[1]), path) for match in CELLS.finditer(PAGE) for path in re.findall(r"`([\w/]+\.py)`", match[3])]
MENTION = re.compile(r"`(?P<name>[A-Z][A-Z_]+)`(?: = (?P<value>[\d.]+))?|`(?P<module>quicio\.[\w.]+)`")


def limits(row: str) -> list[tuple[str, str | None, str]]:
    """The constants of a row, each with the value that is claimed and the module that is named behind it."""
    found: list[tuple[str, str | None, str]] = []
    waiting: list[tuple[str, str | None]] = []
    for match in MENTION.finditer(row):
        if match["module"]:
            found += [(name, value, match["module"]) for name, value in waiting]
            waiting.clear()
        else:
            waiting.append((match["name"], match["value"]))
    assert not waiting, f"no module is named for {waiting}"
    return found


LIMITS = [(number, *limit) for number, row in ROWS.items() for limit in limits(row)]


def test_all_thirty_classes_have_a_row() -> None:
    assert list(ROWS) == list(range(1, 31))


@pytest.mark.parametrize(("number", "name", "value", "module"), LIMITS)
def test_a_limit_is_what_the_page_says(number: int, name: str, value: str | None, module: str) -> None:
    limit = getattr(importlib.import_module(module), name, None)
    if value is None:
        assert limit or name in Path(importlib.import_module(module).__file__ or "").read_text(encoding="utf-8")
    else:
        assert limit == float(value)


@pytest.mark.parametrize(("number", "path"), TESTS)
def test_the_tests_of_a_row_name_it(number: int, path: str) -> None:
    text = (Path(__file__).resolve().parents[1] / path).read_text(encoding="utf-8")
    assert re.search(rf"\brows? (?:\d+(?:, | and ))*{number}\b|row_{number:02}_", text, re.IGNORECASE)


def test_every_row_has_tests_but_for_what_is_not_offered() -> None:
    assert set(ROWS) - {number for number, _ in TESTS} == {22}
