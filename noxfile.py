"""What developers and CI run. Plain `nox` runs what a change must pass; `nox -l` lists everything.

Sessions use the interpreter that runs nox, except `tests_all`, which takes every CPython from 3.11 up that it finds.
Arguments behind `--` go to pytest: `nox -s tests -- tests/quic -k loss`.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import nox

nox.needs_version = ">=2025.2"
nox.options.default_venv_backend = "venv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "types", "layers", "tests", "examples", "docs"]

PROJECT = nox.project.load_toml("pyproject.toml")
FIRST_MINOR = 11  # of Python 3
MINIMUM_COMPLETENESS = 0.87  # of the types of public symbols; none may be unknown, some are inferred
MINIMUM_COVERAGE = PROJECT["tool"]["coverage"]["report"]["fail_under"]


def group(name: str) -> tuple[str, ...]:
    """The requirements of a dependency group (PEP 735), groups within it included."""
    return nox.project.dependency_groups(PROJECT, name)


def found_interpreters() -> list[str]:
    """One interpreter for each minor version from 3.11 up, from PATH, then from pyenv (whose shims are no interpreters)."""
    folders = [Path(entry) for entry in os.environ.get("PATH", "").split(os.pathsep) if entry and "shims" not in entry]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    folders += sorted(pyenv.glob("versions/3.*/bin"), reverse=True)
    found: dict[int, str] = {}
    for folder in folders:
        for candidate in folder.glob("python3.*"):
            match = re.fullmatch(r"python3\.(\d+)(\.exe)?", candidate.name)
            if match and int(match[1]) >= FIRST_MINOR and os.access(candidate, os.X_OK):
                found.setdefault(int(match[1]), str(candidate))
    return [found[minor] for minor in sorted(found)]


def run_suite(session: nox.Session, *command: str, env: dict[str, str] | None = None) -> None:
    """Run pytest (or `command`): what the arguments name, or the suite without the peers of the `interop` session."""
    session.run(*(command or ["pytest"]), *(session.posargs or ["-n", "auto", "--ignore=tests/interop"]), env=env)


@nox.session
def tests(session: nox.Session) -> None:
    """The test suite."""
    session.install("-e", ".", *group("tests"))
    run_suite(session)


@nox.session(python=found_interpreters())
def tests_all(session: nox.Session) -> None:
    """The test suite on every interpreter found."""
    session.install("-e", ".", *group("tests"))
    run_suite(session)


@nox.session
def floors(session: nox.Session) -> None:
    """The test suite on exactly the lower bounds of the dependencies."""
    pins = [re.sub(r">=([\d.]+).*", r"==\1", requirement) for requirement in PROJECT["project"]["dependencies"]]
    session.install("-e", ".", *pins, *group("tests"))
    for pin in pins:
        name, version = pin.split("==")
        question = f"from importlib.metadata import version; print(version({name!r}))"
        installed = session.run("python", "-c", question, silent=True)
        if not f"{installed}".strip().startswith(version):
            session.error(f"{name}: {installed} is installed, the lower bound is {version}")
    run_suite(session)


@nox.session
def coverage(session: nox.Session) -> None:
    """The test suite under branch coverage, subprocesses included."""
    session.install("-e", ".", *group("tests"))
    session.run("coverage", "erase")
    run_suite(session, "coverage", "run", "-m", "pytest")
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report", f"--fail-under={MINIMUM_COVERAGE}")


@nox.session
def examples(session: nox.Session) -> None:
    """Every example, client and server as separate processes, on asyncio and on trio."""
    session.install("-e", ".[cli]", *group("examples"))
    session.run("python", "examples/run_all.py", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and common mistakes."""
    session.install(*group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """mypy --strict on package, tests and examples; pyright on the completeness of the public types."""
    session.install(".", *group("types"))
    session.run("mypy")
    command = ("pyright", "--verifytypes", "quicio", "--ignoreexternal", "--outputjson")
    report = session.run(*command, silent=True, success_codes=[0, 1], stderr=None)
    completeness = json.loads(str(report))["typeCompleteness"]
    counts = completeness["exportedSymbolCounts"]
    session.log(f"pyright: {completeness['completenessScore']:.1%} of the public symbols are complete, {counts}")
    if counts["withUnknownType"] or completeness["completenessScore"] < MINIMUM_COMPLETENESS:
        session.run("pyright", "--verifytypes", "quicio", "--ignoreexternal")  # says which, and fails


@nox.session
def layers(session: nox.Session) -> None:
    """Who may import whom, and how long a file or a function may be."""
    session.install("-e", ".", *group("layers"))
    session.run("lint-imports", "--no-cache")
    session.run("pytest", "tests/test_layers.py")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation, warnings as errors, and its code blocks."""
    session.install("-e", ".", *group("docs"))
    session.run("sphinx-build", "-W", "--keep-going", "-q", "-b", "html", "docs", "docs/_build/html")
    session.run("pytest", "tests/docs")


@nox.session(python=found_interpreters()[-1:] or None)  # the newest: picoquic's binding needs 3.12
def interop(session: nox.Session) -> None:
    """Independent implementations as peers; those that are Debian's packages are installed where the peers are required."""
    if os.environ.get("QUICIO_REQUIRE_PEERS") == "1":
        session.run("tests/interop/install_peers.sh", external=True)
    session.install("-e", ".", *group("interop"))
    session.run(
        "pytest", "tests/interop", "tests/surface", "tests/asyncio/test_programs.py", *(session.posargs or ["-n", "2"])
    )


@nox.session
def compiled(session: nox.Session) -> None:
    """The hot modules built by mypyc, and the suite on them."""
    session.install(*group("compiled"))
    session.install("--force-reinstall", "--no-deps", ".", env={"QUICIO_COMPILE": "1"})
    session.install(*PROJECT["project"]["dependencies"])
    # The sources here must not stand in for the installed modules: not in a test's `python -c` either.
    run_suite(session, env={"QUICIO_EXPECT_COMPILED": "1", "PYTHONSAFEPATH": "1"})


@nox.session
def bench(session: nox.Session) -> None:
    """The core in memory, then every library in processes over UDP: ratios, interleaved rounds, medians.

    `nox -s bench -- --compiled` builds the hot modules in an environment of their own, for further rows.
    """
    arguments = [argument for argument in session.posargs if argument != "--compiled"]
    if len(arguments) < len(session.posargs):
        folder = Path(session.create_tmp()) / "compiled"
        python = str(folder / "bin" / "python")
        session.run("python", "-m", "venv", str(folder))
        install = (python, "-m", "pip", "install", "--quiet")
        session.run(*install, *group("compiled"), *group("bench"), *PROJECT["project"]["dependencies"], external=True)
        compile_now = {"QUICIO_COMPILE": "1"}
        session.run(*install, "--force-reinstall", "--no-deps", ".", env=compile_now, external=True)
        arguments += ["--compiled", python]
    session.install("-e", ".", *group("bench"))
    session.run("python", "benchmarks/core.py")
    session.run("python", "benchmarks/run.py", *arguments)
