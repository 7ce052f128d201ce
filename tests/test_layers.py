"""The rules of `docs/design.md` §1, read from the source itself: imports (in functions too), sizes, and what loads what.

The import-linter contracts in `pyproject.toml` state the same layers for tools; these tests need no tool, see circles and
sizes, and look at a fresh interpreter.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import gettempdir

import pytest

import quicio

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "quicio"
SOURCES = sorted(PACKAGE.rglob("*.py"))
CORE = ("quicio.buffer", "quicio.tls", "quicio.quic", "quicio.h3", "quicio.h0")
NOT_IN_CORE = {"time", "socket", "select", "selectors", "asyncio", "anyio", "trio", "threading", "ssl"}
MAX_FILE_LINES = 650
MAX_FUNCTION_LINES = 60
MAX_HOT_FUNCTION_LINES = 120


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): ast.parse(path.read_text(encoding="utf-8"), str(path)) for path in SOURCES}


def is_in(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def nodes_at_run_time(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes, functions included, without what stands under `if TYPE_CHECKING:`."""
    for child in ast.iter_child_nodes(tree):
        if not is_for_type_checkers(child):
            yield child
            yield from nodes_at_run_time(child)


def imports(tree: ast.AST) -> Iterator[str]:
    """The modules that a module imports, anywhere in it; for `from package import module`, the module."""
    for node in nodes_at_run_time(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the layers: write the full name"
            assert node.module is not None
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in MODULES else node.module


def functions(tree: ast.AST, prefix: str) -> Iterator[tuple[str, int]]:
    """The qualified name and the number of lines of each function, decorators and docstring included."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{prefix}.{node.name}"
            if not isinstance(node, ast.ClassDef):
                first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                yield name, (node.end_lineno or node.lineno) - first + 1
            yield from functions(node, name)
        else:
            yield from functions(node, prefix)


def hot_functions() -> set[str]:
    text = (ROOT / "docs" / "hot-paths.md").read_text(encoding="utf-8")
    return set(re.findall(r"^\| `(quicio\.[\w.]+)`", text, flags=re.MULTILINE))


@pytest.mark.parametrize("name", [name for name in MODULES if is_in(name, *CORE)])
def test_the_core_imports_no_io_and_no_clock(name: str) -> None:
    forbidden = {target for target in imports(MODULES[name]) if target.split(".")[0] in NOT_IN_CORE}
    assert not forbidden


@pytest.mark.parametrize("name", [name for name in MODULES if is_in(name, *CORE)])
def test_the_core_imports_nothing_above_the_line(name: str) -> None:
    above = {
        target
        for target in imports(MODULES[name])
        if is_in(target, "quicio") and not is_in(target, *CORE, "quicio.environment")
    }
    assert not above


@pytest.mark.parametrize("name", [name for name in MODULES if is_in(name, "quicio.tls")])
def test_tls_knows_nothing_of_quic(name: str) -> None:
    assert not [target for target in imports(MODULES[name]) if is_in(target, "quicio.quic", "quicio.h3", "quicio.h0")]


def test_only_the_trio_face_imports_trio() -> None:
    guilty = [
        name
        for name, tree in MODULES.items()
        if not is_in(name, "quicio.trio") and any(is_in(target, "trio") for target in imports(tree))
    ]
    assert guilty == []


def test_only_the_asyncio_face_imports_asyncio() -> None:
    """The anyio driver is given asyncio's loop, where there is one: it needs no import."""
    guilty = [
        name
        for name, tree in MODULES.items()
        if not is_in(name, "quicio.asyncio") and any(is_in(target, "asyncio") for target in imports(tree))
    ]
    assert guilty == []


def test_only_the_engine_touches_the_socket() -> None:
    """Nobody else makes a system call for datagrams: everybody goes through the `Engine`, which owns the `UdpSocket`.

    `sendto` is a method of asyncio's transports too, which are that face's.
    """
    callers = {
        name
        for name, tree in MODULES.items()
        if any(
            isinstance(node, ast.Attribute | ast.Name)
            and (node.attr if isinstance(node, ast.Attribute) else node.id)
            in {"recvmsg", "sendmsg", "recvfrom", "recvfrom_into", "sendto"}
            for node in ast.walk(tree)
        )
    }
    assert {name for name in callers if not is_in(name, "quicio.asyncio")} == {"quicio.udp.socket"}
    asyncio_face = "".join(ast.unparse(tree) for name, tree in MODULES.items() if is_in(name, "quicio.asyncio"))
    assert not re.search(r"\b(recvmsg|sendmsg|recvfrom|recvfrom_into|sock\.sendto)\b", asyncio_face)


def test_no_import_goes_in_a_circle() -> None:
    """In-function imports count: they only hide a circle."""
    graph = {
        name: {target for target in imports(tree) if target in MODULES and target != name}
        for name, tree in MODULES.items()
    }
    finished: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail[trail.index(name) :], name))
        if name in finished:
            return
        for target in sorted(graph[name]):
            visit(target, (*trail, name))
        finished.add(name)

    for name in sorted(graph):
        visit(name, ())


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_files_are_short_enough_to_read(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_FILE_LINES


@pytest.mark.parametrize("name", MODULES)
def test_functions_are_short_enough_to_read(name: str) -> None:
    hot = hot_functions()
    long = {
        function: lines
        for function, lines in functions(MODULES[name], name)
        if lines > (MAX_HOT_FUNCTION_LINES if function in hot else MAX_FUNCTION_LINES)
    }
    assert not long


def test_hot_paths_names_functions_that_exist() -> None:
    known = {function for name, tree in MODULES.items() for function, _ in functions(tree, name)}
    assert hot_functions() <= known


def loaded_by(statement: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after `statement`."""
    script = f"{statement}\nimport sys\nprint(*sys.modules)"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("COVERAGE_", "COV_"))}
    finished = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=gettempdir(), env=environment
    )
    return set(finished.stdout.split())


def test_the_core_loads_no_event_loop() -> None:
    loaded = loaded_by("import quicio.quic.connection, quicio.quic.endpoint, quicio.h3.connection")
    assert "quicio.quic.connection" in loaded
    assert not loaded & {"anyio", "trio", "asyncio", "ssl"}  # `cryptography` itself loads `socket`, by way of `email`


def test_the_asyncio_face_loads_no_trio() -> None:
    assert "trio" not in loaded_by("import quicio.asyncio, quicio.h0.connection")


def test_the_front_door_is_lazy() -> None:
    loaded = loaded_by("import quicio")
    assert {name for name in loaded if is_in(name, "quicio")} == {"quicio"}
    assert not loaded & {"anyio", "trio", "asyncio", "socket", "ssl", "cryptography"}


@pytest.mark.parametrize("name", quicio.__all__)
def test_every_name_of_the_front_door_opens(name: str) -> None:
    assert getattr(quicio, name) is getattr(quicio, name)
    assert name in dir(quicio)


def test_the_front_door_has_no_other_names() -> None:
    with pytest.raises(AttributeError, match="no attribute 'conect'"):
        _ = quicio.conect  # type: ignore[attr-defined]  # the misspelling is the point


def documented_hot_modules() -> set[str]:
    """The modules that `docs/internals.md` calls hot, with `.*` resolved to the modules of a folder."""
    text = (ROOT / "docs" / "internals.md").read_text(encoding="utf-8")
    paragraph = text[text.index("Hot modules (") :].split("that users subclass")[0]
    found: set[str] = set()
    for entry in re.findall(r"`(quicio\.[\w.]+(?:\.\*)?)`", paragraph):
        if entry.endswith(".*"):
            found |= {name for name in MODULES if name.startswith(entry[:-1]) and name.count(".") == entry.count(".")}
        else:
            found.add(entry)
    return found & set(MODULES)


def built_hot_modules() -> set[str]:
    """The modules that the build hook compiles."""
    specification = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert specification is not None
    assert specification.loader is not None
    hook = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(hook)
    return {file.removesuffix(".py").replace("/", ".") for file in hook.hot_files(ROOT)}


def test_the_build_compiles_what_the_documentation_calls_hot() -> None:
    assert built_hot_modules() == documented_hot_modules()


def test_the_compiled_build_is_what_is_tested() -> None:
    """Under `nox -s compiled` every hot module is an extension module; elsewhere none is, or the sources are not tested."""
    expected = os.environ.get("QUICIO_EXPECT_COMPILED") == "1"
    for name in sorted(documented_hot_modules()):
        file = importlib.import_module(name).__file__
        assert file is not None
        assert file.endswith((".so", ".pyd")) == expected, file
