"""Build hook: with `QUICIO_COMPILE=1` the wheel carries the hot modules compiled by mypyc, each `.so` beside its `.py`.

The sources are the same and stay in the wheel; Python prefers the extension module. Without the variable, or where there is
no C compiler and nobody asked, the wheel is pure. `HOT_MODULES` is the list of `docs/internals.md`; a test compares the two.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

HOT_MODULES = (
    "quicio/buffer.py",
    "quicio/quic/wire/*.py",
    "quicio/quic/component.py",
    "quicio/quic/parts.py",
    "quicio/quic/dispatch.py",
    "quicio/quic/sealing.py",
    "quicio/quic/crypto_stream.py",
    "quicio/quic/streams/*.py",
    "quicio/quic/recovery/*.py",
    "quicio/quic/congestion/*.py",
    "quicio/quic/paths/*.py",
    "quicio/quic/inbound.py",
    "quicio/quic/negotiation.py",
    "quicio/quic/closing.py",
    "quicio/quic/outbound.py",
    "quicio/quic/datagrams.py",
    "quicio/quic/lifecycle.py",
    "quicio/quic/handshake.py",
    "quicio/quic/transmit.py",
)


def hot_files(root: Path) -> list[str]:
    """The files to compile, relative to `root`, in a fixed order. Packages' `__init__` hold no code."""
    found = {path for pattern in HOT_MODULES for path in root.glob(pattern) if path.name != "__init__.py"}
    return sorted(path.relative_to(root).as_posix() for path in found)


class CompileHook(BuildHookInterface):  # type: ignore[misc]  # hatchling is skipped by mypy
    """Adds the extension modules to the wheel when the environment asks for them."""

    def dependencies(self) -> list[str]:
        """What building needs beyond hatchling."""
        return ["mypy[mypyc]>=1.18", "setuptools>=75"] if self._is_wanted() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before the wheel is put together."""
        if not self._is_wanted():
            return
        self.build_folder = Path(tempfile.mkdtemp(prefix="quicio-compiled-"))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        for library in _compile(Path(self.root), self.build_folder):
            build_data["force_include"][str(library)] = library.relative_to(self.build_folder / "lib").as_posix()

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """The extension modules are in the wheel: forget the rest."""
        if self._is_wanted():
            shutil.rmtree(self.build_folder, ignore_errors=True)

    def _is_wanted(self) -> bool:
        return self.target_name == "wheel" and os.environ.get("QUICIO_COMPILE") == "1"


def _compile(root: Path, build_folder: Path) -> list[Path]:
    """Run mypyc and the C compiler; return the extension modules, placed in `lib` as in an installed tree."""
    from mypyc.build import mypycify
    from setuptools import Distribution

    previous = Path.cwd()
    os.chdir(root)  # mypyc derives module names from paths relative to the current folder
    try:
        extensions = mypycify(
            # The types are `nox -s types`' business; here the dependencies are not even installed.
            ["--config-file=", "--follow-imports=silent", "--ignore-missing-imports", *hot_files(root)],
            opt_level=os.environ.get("QUICIO_OPT_LEVEL", "3"),
            target_dir=str(build_folder / "c"),
            group_name="quicio",
        )
        distribution = Distribution({"name": "quicio", "ext_modules": extensions})
        command = distribution.get_command_obj("build_ext")
        command.build_lib = str(build_folder / "lib")
        command.build_temp = str(build_folder / "objects")
        command.parallel = os.cpu_count()
        command.ensure_finalized()
        command.run()
    finally:
        os.chdir(previous)
    return sorted(path for path in (build_folder / "lib").rglob("*") if path.suffix in {".so", ".pyd"})
