"""The mark for the compiler: without effect, and without need of its package."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from quicio.quic import compiled


def test_the_mark_leaves_a_class_as_it_is() -> None:
    class Plain:
        pass

    assert compiled.mypyc_attr(allow_interpreted_subclasses=True)(Plain) is Plain


def test_the_stand_in_does_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    class Plain:
        pass

    monkeypatch.setitem(sys.modules, "mypy_extensions", None)  # importing it fails
    names = runpy.run_path(str(Path(compiled.__file__).with_suffix(".py")))
    assert names["mypyc_attr"](allow_interpreted_subclasses=True)(Plain) is Plain
    assert names["mypyc_attr"].__module__ != "mypy_extensions"
