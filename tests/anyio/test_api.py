"""The contract of the native faces, `api.txt`, compared with what `quicio` and `quicio.trio` are.

Each name has to be there, and of its kind; each function and method has to have the contract's parameters, in its order, with
its names, kinds and defaults, and be a coroutine function if that says so. `DEVIATIONS` lists what differs on purpose;
`docs/design.md` says why. A deviation that is none any more fails as well.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any, Final

import pytest

import quicio
import quicio.trio

CONTRACT: Final = Path(__file__).with_name("api.txt")
DIVIDER: Final = "# --- quicio.trio"

ALIASES: Final = {"Address", "Data", "Handler", "OnError"}

#: what is different on purpose, as `compare` tells it
DEVIATIONS: Final[set[str]] = set()

#: members that the trio face has by another name, or in another type's words
TRIO_NAMES: Final[dict[str, dict[str, str | None]]] = {
    "SendStream": {"send": "send_all"},
    "ReceiveStream": {"receive": "receive_some"},
    "Stream": {},
    "Connection": {"connectable": None},
    "Acceptor": {},
    "Datagrams": {},
}

#: parameters that trio's own interfaces name otherwise
TRIO_PARAMETERS: Final = {
    "send_all": {"item": "data"},
    "send_some": {"item": "data"},
    "SendStream.send_nowait": {"item": "data"},
    "Datagrams.send_nowait": {"item": "value"},
    "serve": {"task_group": "handler_nursery"},
    "send": {"item": "value"},
}

Parameter = tuple[str, str, str]


def parse(text: str) -> list[ast.stmt]:
    return ast.parse(text).body


def parts() -> tuple[list[ast.stmt], list[ast.stmt]]:
    """The contract of `quicio`, and what that of `quicio.trio` has besides."""
    text = CONTRACT.read_text()
    anyio_text, _, trio_text = text.partition(DIVIDER)
    return parse(anyio_text), parse("#" + trio_text)


def wanted(arguments: ast.arguments) -> list[Parameter]:
    """The parameters of a function of the contract: name, kind, default as source."""
    plain = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(plain) - len(arguments.defaults)) + list(arguments.defaults)
    result = [(a.arg, "POSITIONAL_OR_KEYWORD", told(d)) for a, d in zip(plain, defaults, strict=True)]
    pairs = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    result += [(a.arg, "KEYWORD_ONLY", told(d)) for a, d in pairs]
    if arguments.kwarg is not None:
        result.append((arguments.kwarg.arg, "VAR_KEYWORD", ""))
    return [item for item in result if item[0] != "self"]


def told(default: ast.expr | None) -> str:
    """A default as the contract has it; `...` stands for any."""
    return "" if default is None else ast.unparse(default)


def found(function: Any) -> list[Parameter]:
    """The parameters of a function that exists."""
    result = []
    for parameter in inspect.signature(function).parameters.values():
        default = parameter.default
        if default is inspect.Parameter.empty:
            text = ""
        elif inspect.isfunction(default):
            text = default.__name__
        else:
            text = (
                "TASK_STATUS_IGNORED"
                if "TASK_STATUS" in repr(default) or "TaskStatus" in repr(default)
                else repr(default)
            )
        result.append((parameter.name, parameter.kind.name, text))
    return [item for item in result if item[0] != "self"]


def same(theirs: list[Parameter], ours: list[Parameter]) -> bool:
    if [item[:2] for item in theirs] != [item[:2] for item in ours]:
        return False
    return all(
        wanted_default in ("...", default) or wanted_default.rpartition(".")[2] == default
        for (_, _, wanted_default), (_, _, default) in zip(theirs, ours, strict=True)
    )


def compare_function(name: str, node: ast.FunctionDef | ast.AsyncFunctionDef, value: Any) -> Iterator[str]:
    if not callable(value):
        yield f"{name} is no function"
        return
    if inspect.iscoroutinefunction(value) != isinstance(node, ast.AsyncFunctionDef):
        yield f"{name} is {'a' if inspect.iscoroutinefunction(value) else 'no'} coroutine function"
    theirs, ours = wanted(node.args), found(value)
    if not same(theirs, ours):
        yield f"{name}: {ours} in place of {theirs}"


def attributes(cls: type) -> set[str]:
    """Names that instances have though the class does not: annotated ones, and those that `__init__` sets."""
    names: set[str] = set()
    for base in cls.__mro__:
        names.update(inspect.get_annotations(base))
        try:
            tree = ast.parse(dedent(inspect.getsource(base)))
        except (OSError, TypeError):
            continue
        for node in ast.walk(tree):
            target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
            if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self":
                names.add(target.attr)
    return names


def bases(cls: type) -> set[str]:
    return {base.__name__ for base in cls.__mro__}


def compare_class(node: ast.ClassDef, cls: Any, renamed: dict[str, str | None] | None = None) -> Iterator[str]:
    name = node.name
    if not isinstance(cls, type):
        yield f"{name} is no class"
        return
    for base in node.bases if renamed is None else ():
        base_name = ast.unparse(base).partition("[")[0].rpartition(".")[2]
        if base_name not in bases(cls):
            yield f"{name} is no {base_name}"
    for item in node.body:
        if isinstance(item, ast.AnnAssign):
            attribute = ast.unparse(item.target)
            if not hasattr(cls, attribute) and attribute not in attributes(cls):
                yield f"{name}.{attribute} is missing"
        elif isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
            own = item.name if renamed is None else renamed.get(item.name, item.name)
            if own is None:
                continue
            if not hasattr(cls, own):
                yield f"{name}.{own} is missing"
                continue
            yield from compare_function(
                f"{name}.{own}", named_for_trio(item, name, own) if renamed is not None else item, getattr(cls, own)
            )


def named_for_trio(node: Any, cls: str, name: str) -> Any:
    """The node with its parameters in trio's words."""
    words = TRIO_PARAMETERS.get(name, TRIO_PARAMETERS.get(f"{cls}.{name}", {}))
    for argument in node.args.args:
        argument.arg = words.get(argument.arg, argument.arg)
        if name in ("receive_some", "receive_nowait") and argument.arg == "max_bytes":
            node.args.defaults = [ast.Constant(None)]
    return node


def compare(nodes: list[ast.stmt], module: ModuleType) -> Iterator[str]:
    """All differences between a part of the contract and a module."""
    for node in nodes:
        name = getattr(node, "name", None) or ast.unparse(getattr(node, "targets", [node])[0])
        if name not in module.__all__:
            yield f"{name} is not in {module.__name__}"
            continue
        value = getattr(module, name)
        if isinstance(node, ast.ClassDef):
            yield from compare_class(node, value)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from compare_function(name, node, value)


def test_quicio_is_what_the_contract_says() -> None:
    nodes, _ = parts()
    assert len(nodes) > 30
    assert set(compare(nodes, quicio)) == DEVIATIONS


def test_quicio_trio_is_what_the_contract_says() -> None:
    _, nodes = parts()
    assert len(nodes) == 4
    assert list(compare(nodes, quicio.trio)) == []


@pytest.mark.parametrize("name", TRIO_NAMES)
def test_classes_of_the_trio_face_have_the_same_members(name: str) -> None:
    nodes, _ = parts()
    node = next(node for node in nodes if isinstance(node, ast.ClassDef) and node.name == name)
    assert list(compare_class(node, getattr(quicio.trio, name), TRIO_NAMES[name])) == []


def test_every_error_of_the_contract_is_in_both_faces() -> None:
    nodes, _ = parts()
    names = [node.name for node in nodes if isinstance(node, ast.ClassDef)]
    errors = [name for name in names if issubclass(getattr(quicio, name), Exception)]
    assert len(errors) == 13
    for name in errors:
        assert issubclass(getattr(quicio.trio, name), getattr(quicio, name))


def test_fields_of_the_configuration_that_the_contract_names_exist() -> None:
    fields = set(quicio.QuicConfiguration.__dataclass_fields__)
    named = {"handshake_timeout", "linger", "keep_alive", "codes", "session_store", "accept_early_data"}
    named |= {"client_certificates", "verify", "send_buffer", "receive_window_limit", "memory_limit", "datagram_queue"}
    assert named <= fields


def test_the_comparison_finds_what_differs() -> None:
    nodes = parse(
        "class Stream(int):\n    def send(self, item): ...\n    x: int\ndef connect(host): ...\ndef nothing(): ..."
    )
    differences = list(compare(nodes, quicio))
    assert any(text.startswith("Stream is no int") for text in differences)
    assert any(text.startswith("Stream.send is a coroutine") for text in differences)
    assert "Stream.x is missing" in differences
    assert any(text.startswith("connect: ") for text in differences)
    assert "nothing is not in quicio" in differences
