"""Sphinx: Markdown pages by MyST, warnings as errors (`nox -s docs`)."""

from __future__ import annotations

import re

from sphinx.application import Sphinx

import quicio

project = "quicio"
author = "quicio contributors"
copyright = "2026, quicio contributors"  # noqa: A001  # Sphinx's name
version = release = quicio.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "quicio"

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

suppress_warnings = ["ref.python"]  # `Connection` alone is ambiguous: each face has one

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_preserve_defaults = True


def to_restructured_text(lines: list[str]) -> list[str]:
    """Docstrings are plain prose with Markdown's backticks; indented lines behind a blank one are code."""
    result: list[str] = []
    prose: list[str] = []

    def end_prose() -> None:
        pieces = re.split(r"(`+[^`]+`+)", "\n".join(prose))  # a piece of code may go on in the next line
        pieces[::2] = [re.sub(r"([*_|])", r"\\\1", piece) for piece in pieces[::2]]
        pieces[1::2] = [f"``{piece.strip('`')}``" for piece in pieces[1::2]]
        if prose:
            result.extend("".join(pieces).split("\n"))
        prose.clear()

    in_code = False
    for line in lines:
        if line.startswith("    ") and (in_code or not prose or not prose[-1]):
            end_prose()
            if not in_code:
                result += ["::", ""]
            in_code = True
            result.append(line)
        elif in_code and not line:
            result.append(line)
        else:
            in_code = False
            prose.append(line)
    end_prose()
    return result


def process_docstring(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Sphinx's hook: change a docstring in place."""
    lines[:] = to_restructured_text(lines)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", process_docstring)
