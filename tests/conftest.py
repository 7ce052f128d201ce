"""What every test may ask for, and the rules that hold for all of them.

* `anyio_backend` runs a test marked with `pytest.mark.anyio` on asyncio, on asyncio with uvloop, and on trio.
* Hypothesis is derandomised: a run that was green stays green, and failures print an example that reproduces them.
* With `QUICIO_REQUIRE_PEERS=1` a skip is a failure: CI may not leave out a peer that could not be installed.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from importlib.util import find_spec
from typing import Any

import hypothesis
import pytest

hypothesis.settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,
    max_examples=60,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile("thorough", parent=hypothesis.settings.get_profile("ci"), max_examples=5000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

BACKENDS = [
    pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
    pytest.param(("trio", {}), id="trio"),
]
if find_spec("uvloop") is not None:
    BACKENDS.insert(1, pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"))


@pytest.fixture(params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Where a test runs: the name that anyio knows the backend by, and its options."""
    backend: tuple[str, dict[str, Any]] = request.param
    return backend


def _peers_are_required() -> bool:
    return os.environ.get("QUICIO_REQUIRE_PEERS") == "1"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and _peers_are_required():
        report.outcome = "failed"
        report.longrepr = f"skipped although QUICIO_REQUIRE_PEERS=1: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped and _peers_are_required():
        report.outcome = "failed"
        report.longrepr = f"skipped although QUICIO_REQUIRE_PEERS=1: {report.longrepr}"
    return report
