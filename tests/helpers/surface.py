"""The surface of a library, compared with `tests/surface/reference.json`, which describes aioquic's.

The reference was taken from aioquic at run time: what its modules hold, signatures, defaults, fields with their order,
values of enums, bases of exceptions. `compare(root)` says for each of its items where the library under the import root
`root` has something else; aioquic itself, as the root, has nothing else, which is what makes the comparison one.

What counts as the same: a name that is there, of the same kind, that takes every call which aioquic's takes. So parameters
that come on top with a default, as keywords or behind all others, are no difference; a parameter that is missing, renamed,
moved, or has another default is one. An exception has at least the bases it has there, an enum at least its members.

In the reference a signature is a list of `name` or `name=default`, with "*" before those that are keywords only, and "async"
in front for coroutine methods; members of classes are a signature or the word property.
"""

from __future__ import annotations

import dataclasses
import enum
import importlib
import inspect
import json
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Final

LIBRARIES: Final = ["quicio", "aioquic"] if find_spec("aioquic") else ["quicio"]
"""The import roots that a test can run on: aioquic is the control, where it is installed."""

TIERS: Final = ("core", "used", "suite")

DIFFERENCES: Final = {
    "aioquic.__version__": ("is '{version}', not '1.7.2'", "It is quicio's own version."),
    "aioquic.quic.configuration.QuicConfiguration": (
        """fields [("congestion_control_algorithm='cubic'", "congestion_control_algorithm='reno'")]""",
        "CUBIC is what most of the Internet runs, and faster; whoever names an algorithm gets it in both libraries.",
    ),
    "aioquic.quic.rangeset.RangeSet": (
        "takes ['ranges=()'], not ['ranges=[]']",
        "The default cannot be changed by accident; calls are the same.",
    ),
}
"""The deliberate differences of names and signatures: where, what `compare` says, and why (`docs/reference/aioquic.md`)."""

_REFERENCE: Final = Path(__file__).parent.parent / "surface" / "reference.json"
_ROUTINES: Final = ("function", "coroutine function", "async context manager function")


class Reference:
    """What `reference.json` holds: `tiers` says which names are wanted where, `names` what each of them is."""

    def __init__(self) -> None:
        content = json.loads(_REFERENCE.read_text())
        self.tiers: dict[str, dict[str, list[str]]] = content["tiers"]
        self.names: dict[str, dict[str, Any]] = content["names"]

    def items(self, tier: str) -> list[str]:
        """The dotted names of a tier: those of modules, and those of members where the tier wants them."""
        result: list[str] = []
        for module, names in self.tiers[tier].items():
            for entry in names:
                name = f"{module}.{entry.removesuffix('.*')}"
                result.append(name)
                if entry.endswith(".*"):
                    result += [f"{name}.{member}" for member in self.names[name].get("members_of_class", ())]
        return result


REFERENCE: Final = Reference()


def compare(root: str, item: str) -> str | None:
    """How the item differs in the library `root`; None when it does not."""
    if item in REFERENCE.names:
        module_name, _, name = item.rpartition(".")
        found = _find(root, module_name, name)
        return found if isinstance(found, str) else _compare_name(root, found[0], REFERENCE.names[item])
    owner, _, member = item.rpartition(".")
    module_name, _, name = owner.rpartition(".")
    found = _find(root, module_name, name)
    if isinstance(found, str):
        return found
    return _compare_member(root, found[0], member, REFERENCE.names[owner]["members_of_class"][member])


def _find(root: str, module_name: str, name: str) -> tuple[Any] | str:
    try:
        module: ModuleType = importlib.import_module(module_name.replace("aioquic", root, 1))
    except ModuleNotFoundError as error:
        return str(error)
    return (getattr(module, name),) if hasattr(module, name) else f"no such name in {module.__name__}"


def _compare_name(root: str, value: Any, entry: dict[str, Any]) -> str | None:
    kind: str = entry["kind"]
    if kind == "constant":
        return None if _text(root, value) == entry["value"] else f"is {_text(root, value)}, not {entry['value']}"
    if kind in _ROUTINES:
        return _compare_signature(root, value, entry["signature"])
    if kind not in ("class", "enum", "exception"):
        return None  # type aliases and objects: being there is all that can be compared
    if not isinstance(value, type) or (kind == "enum") != issubclass(value, enum.Enum):
        return f"is {type(value).__name__}, not {kind}"
    bases = [f"{base.__module__}.{base.__qualname__}" for base in value.__mro__]
    for base in entry.get("mro", entry.get("bases", ())):
        wanted = base.replace("aioquic.", f"{root}.")
        home, _, name = wanted.rpartition(".")
        alias = getattr(importlib.import_module(home), name, None)  # where aioquic has it, we may have imported it
        if wanted not in bases and alias not in value.__mro__:
            return f"has no base {wanted}"
    if issubclass(value, enum.Enum):
        members = {name: member.value for name, member in value.__members__.items()}
        lacking = {name: number for name, number in entry["members"].items() if members.get(name) != number}
        return f"lacks {lacking}" if lacking else None
    if "fields" in entry:
        return _compare_fields(root, value, entry["fields"])
    if "constructor" in entry:
        return _compare_signature(root, value, entry["constructor"])
    return None


def _compare_fields(root: str, value: type, wanted: list[str]) -> str | None:
    if not dataclasses.is_dataclass(value):
        return "is no dataclass"
    found: list[str] = []
    for field in dataclasses.fields(value):
        if field.default is not dataclasses.MISSING:
            found.append(f"{field.name}={_text(root, field.default)}")
        elif field.default_factory is not dataclasses.MISSING:
            found.append(f"{field.name}={_text(root, field.default_factory())}")
        else:
            found.append(field.name)
    differing = [(ours, theirs) for ours, theirs in zip(found, wanted, strict=False) if ours != theirs]
    if len(found) < len(wanted) or differing:
        return f"fields {differing or found}"
    return _only_optional(value, len(wanted))


def _only_optional(value: type, known: int) -> str | None:
    """What we add to a dataclass must not get in the way of who makes one."""
    for field in dataclasses.fields(value)[known:]:
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            return f"demands {field.name}"
    return None


def _compare_member(root: str, owner: type, name: str, wanted: list[str] | str) -> str | None:
    if not hasattr(owner, name):
        return f"no such member of {owner.__name__}"
    member = inspect.getattr_static(owner, name)
    if wanted == "property":
        return None if inspect.isdatadescriptor(member) else f"is {type(member).__name__}, not a property"
    is_coroutine = wanted[0] == "async"
    if is_coroutine != inspect.iscoroutinefunction(member):
        return "is a coroutine method in one library alone"
    return _compare_signature(root, getattr(owner, name), list(wanted)[is_coroutine:])


def _compare_signature(root: str, value: Any, wanted: list[str]) -> str | None:
    try:
        parameters = list(inspect.signature(value).parameters.values())
    except ValueError:  # compiled: it does not say
        return None if root == "aioquic" else "has no signature"
    # a compiled method takes its object by position only
    is_bound = (
        parameters[:1] and parameters[0].name == "self" and parameters[0].kind is inspect.Parameter.POSITIONAL_ONLY
    )
    positional = ["self"] if is_bound else []
    positional += [_parameter(root, p) for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    keywords = {_parameter(root, p) for p in parameters if p.kind is p.KEYWORD_ONLY}
    split = wanted.index("*") if "*" in wanted else len(wanted)
    if positional[:split] != wanted[:split]:
        return f"takes {positional}, not {wanted[:split]}"
    lacking = [name for name in wanted[split + 1 :] if name not in keywords]
    if lacking:
        return f"does not take {lacking} but {sorted(keywords)}"
    extra = [name for name in [*positional[split:], *keywords] if "=" not in name and name not in wanted]
    return f"demands {extra}" if extra else None


def _parameter(root: str, parameter: inspect.Parameter) -> str:
    if parameter.default is parameter.empty:
        return parameter.name
    return f"{parameter.name}={_text(root, parameter.default)}"


def _text(root: str, value: Any) -> str:
    """A default as the reference writes it: enum members by name, classes by where they are, versions by number."""
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, type):
        return f"<class {value.__module__}.{value.__qualname__}>".replace(f"{root}.", "aioquic.")
    if isinstance(value, list):
        return f"[{', '.join(_text(root, item) for item in value)}]"
    return repr(value)
