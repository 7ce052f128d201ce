"""The process benchmark: its arithmetic, what it says of a library that fails, and one small round of each of our faces."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def load(name: str) -> ModuleType:
    """A module of the benchmarks, which are programs and not on the path."""
    spec = importlib.util.spec_from_file_location(f"bench_{name}", BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def run() -> Iterator[Any]:
    path = list(sys.path)
    yield load("run")
    sys.path[:] = path


def scenario(run: Any, name: str, amount: int) -> Any:
    unit, scale = ("MB/s", 1e-6) if name in ("download", "upload") else ("/s", 1.0)
    return run.Scenario(name, name, amount, 1200, unit, scale)


def test_quantiles_are_in_milliseconds() -> None:
    protocol = load("protocol")
    assert protocol.quantiles([0.001 * number for number in range(1, 101)]) == {
        "p50": pytest.approx(50.5),
        "p99": pytest.approx(100.0),
    }


def test_a_stopwatch_that_was_stopped_does_not_go_on() -> None:
    watch = load("protocol").Stopwatch()
    watch.stop()
    spent = watch.spent
    watch.stop()
    assert watch.spent == spent


def test_figures_are_medians_and_rows_have_their_ratios(run: Any) -> None:
    bulk = scenario(run, "download", 10**9)
    results = [{"rate": rate, "client_cpu": 5.0, "server_cpu": 4.0} for rate in (30e6, 10e6, 20e6)]
    assert run.figure(bulk, results) == pytest.approx(20.0)
    text = run.row(bulk, run.LIBRARIES[0], results, 5.0)
    assert "4.0 times" in text
    assert "client    5.0, server    4.0" in text
    text = run.row(scenario(run, "requests", 10), run.LIBRARIES[0], [{"rate": 9.0, "p50": 1.5, "p99": 2.5}], None)
    assert "p50   1.50 ms, p99   2.50 ms" in text
    assert "times" not in text
    text = run.row(scenario(run, "idle", 10), run.LIBRARIES[0], [{"client_bytes": 2048, "server_bytes": 1024}], None)
    assert "client      2.0 KiB   server      1.0 KiB" in text


def test_a_library_that_fails_says_why_and_the_others_go_on(run: Any, tmp_path: Path) -> None:
    broken = run.Library("broken", "no_such_adapter.py", "quicio")
    mute = run.Library("mute", "../protocol.py", "quicio")
    results, failures = run.run_rounds([broken, mute], scenario(run, "requests", 1), tmp_path, 2)
    assert failures == {"broken": "its server did not start", "mute": "its server did not start"}
    assert results == {"broken": [], "mute": []}


@pytest.mark.parametrize("name", ["quicio anyio/asyncio", "quicio.trio", "quicio.asyncio"])
@pytest.mark.parametrize(("what", "amount"), [("download", 1 << 17), ("upload", 1 << 17), ("requests", 100)])
def test_a_small_round_of_each_face(run: Any, tmp_path: Path, name: str, what: str, amount: int) -> None:
    run.make_folder(tmp_path)
    (library,) = [library for library in run.LIBRARIES if library.name == name]
    result = run.run_once(library, scenario(run, what, amount), tmp_path)
    assert result["rate"] > 0
    assert result["client_cpu"] > 0
    assert result["server_cpu"] > 0


def test_compiled_rows_are_those_of_our_faces_on_the_other_interpreter(run: Any) -> None:
    added = [library for library in run.installed("/elsewhere/python") if library.python == "/elsewhere/python"]
    assert added
    assert all(library.is_quicio and library.name.endswith(", compiled") for library in added)
    assert not any(library.name.endswith(", compiled") for library in run.installed(None))
