"""The names and signatures of the trio face, and what importing it loads."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from tempfile import gettempdir

import pytest
import trio

import quicio.anyio
import quicio.trio

RENAMED: dict[str, dict[str, str | None]] = {  # of the anyio face, in trio's words; None: trio has no such thing
    "Stream": {"send": "send_all", "receive": "receive_some"},
    "SendStream": {"send": "send_all"},
    "ReceiveStream": {"receive": "receive_some"},
    "Connection": {"connectable": None},
    "Acceptor": {"extra": None, "extra_attributes": None},
    "Datagrams": {"extra": None, "extra_attributes": None},
}


@pytest.mark.parametrize("name", RENAMED)
def test_classes_have_the_names_of_the_anyio_face(name: str) -> None:
    renamed = RENAMED[name]
    for attribute in dir(getattr(quicio.anyio, name)):
        expected = renamed.get(attribute, attribute)
        if not attribute.startswith("_") and expected is not None:
            assert hasattr(getattr(quicio.trio, name), expected), attribute


def test_every_error_of_the_front_door_is_here() -> None:
    errors = {name for name in quicio.__all__ if isinstance(getattr(quicio, name), type)}
    errors = {name for name in errors if issubclass(getattr(quicio, name), Exception)}
    assert len(errors) > 10
    assert errors <= set(quicio.trio.__all__)


def kinds(function: object) -> dict[str, tuple[str, object]]:
    """The parameters of a function: their kinds and defaults."""
    parameters = inspect.signature(function).parameters.values()  # type: ignore[arg-type]  # any callable
    return {parameter.name: (parameter.kind.name, parameter.default) for parameter in parameters}


PLAIN, KEYWORD, NEEDED = "POSITIONAL_OR_KEYWORD", "KEYWORD_ONLY", inspect.Parameter.empty


def test_signatures_of_the_verbs() -> None:
    place = {"host": (PLAIN, NEEDED), "port": (PLAIN, NEEDED), "as_connect": ("VAR_KEYWORD", NEEDED)}
    assert kinds(quicio.trio.open_quic_connection) == place
    assert kinds(quicio.trio.connect_quic) == {"nursery": (PLAIN, NEEDED), **place}
    listen = {"host": (KEYWORD, None), "configuration": (KEYWORD, NEEDED)}
    assert kinds(quicio.trio.open_quic_listeners) == {"nursery": (PLAIN, NEEDED), "port": (PLAIN, NEEDED), **listen}
    assert kinds(quicio.trio.serve_quic) == {
        "handler": (PLAIN, NEEDED),
        "port": (PLAIN, NEEDED),
        **listen,
        "handler_nursery": (KEYWORD, None),
        "task_status": (KEYWORD, trio.TASK_STATUS_IGNORED),
    }
    for verb, is_coroutine in (
        (quicio.trio.open_quic_connection, False),
        (quicio.trio.connect_quic, True),
        (quicio.trio.open_quic_listeners, True),
        (quicio.trio.serve_quic, True),
    ):
        assert inspect.iscoroutinefunction(verb) == is_coroutine


def loaded_by(statement: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after `statement`."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("COVERAGE_", "COV_"))}
    finished = subprocess.run(
        [sys.executable, "-c", f"{statement}\nimport sys\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=gettempdir(),
        env=environment,
    )
    return set(finished.stdout.split())


def test_importing_it_loads_trio_and_not_asyncio() -> None:
    loaded = loaded_by("import quicio.trio")
    assert {"trio", "anyio", "quicio.anyio.driver"} <= loaded
    assert "asyncio" not in loaded


def test_the_anyio_face_loads_no_trio() -> None:
    loaded = loaded_by("import quicio, quicio.anyio; quicio.connect")
    assert "quicio.anyio.client" in loaded
    assert not {"trio", "asyncio"} & loaded
