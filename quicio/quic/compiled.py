"""How a class tells the compiler that ordinary Python may subclass it (`docs/design.md` §3, "Compilable").

`mypyc_attr(allow_interpreted_subclasses=True)` matters while mypyc compiles and is without effect otherwise, so an
installation need not have the package that it comes from.
"""

from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")

__all__ = ["mypyc_attr"]

try:
    from mypy_extensions import mypyc_attr
except ImportError:

    def mypyc_attr(*attrs: str, **kwattrs: object) -> Callable[[_T], _T]:
        """Stand-in: leaves the class as it is."""
        return _unchanged


def _unchanged(item: _T) -> _T:
    return item
