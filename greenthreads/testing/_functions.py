"""All functions that there are in some modules: in their namespaces and classes, and anywhere else.

The garbage collector knows every object, and to look through them all is most of what it costs to enter a session: a
test run has hundreds of thousands. So what was found is kept for the next session, which as a rule is another test's,
in the same modules, a moment later. What has been made since stands in the collector's younger generations, unless one
of these was collected meanwhile, and its survivors have grown old. The collector counts how often that happened. (What
the program freezes and thaws in between, without a collection, is missed; what is still frozen is not.)
"""

from __future__ import annotations

import gc
import weakref
from itertools import compress
from operator import attrgetter
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

__all__ = ["among", "forget", "functions_in", "keep", "settle", "those_made_since_the_freeze", "with_code"]

_CODE: Final = attrgetter("__code__")
_FILE: Final = attrgetter("__code__.co_filename")
_GLOBALS: Final = attrgetter("__globals__")

# What was found last: for which modules, the functions, and how often the older generations had been collected.
_modules: Hashable = None
_found: list[weakref.ref[FunctionType]] = []
_collections: tuple[int, ...] = ()


def functions_in(files: Mapping[str, Any], namespaces: Mapping[int, Any]) -> list[FunctionType]:
    """The functions that are written in `files`, or are of these `namespaces` (by their ids). Nothing may be frozen."""
    if _modules == _key(files, namespaces) and _collections == _count():
        known = [function for ref in _found if (function := ref()) is not None]
        new = [each for young in (0, 1) for each in gc.get_objects(young) if type(each) is FunctionType]
        functions = list(dict.fromkeys([*known, *among(new, files, namespaces)]))
    else:
        functions = among(those_made_since_the_freeze(), files, namespaces)
    forget()
    return functions


def among(
    functions: list[FunctionType], files: Mapping[str, Any], namespaces: Mapping[int, Any]
) -> list[FunctionType]:
    """Those of `functions` that are in these modules. There are tens of thousands, so this is done in C."""
    in_files: Iterable[bool] = map(files.__contains__, map(_FILE, functions))
    in_namespaces: Iterable[bool] = map(namespaces.__contains__, map(id, map(_GLOBALS, functions)))
    return list(compress(functions, map(bool.__or__, in_files, in_namespaces)))


def with_code(functions: list[FunctionType], codes: Mapping[int, Any]) -> list[FunctionType]:
    """Those of `functions` whose code is one of `codes`, by their ids."""
    return list(compress(functions, map(codes.__contains__, map(id, map(_CODE, functions)))))


def those_made_since_the_freeze() -> list[FunctionType]:
    """All functions, but for those that are frozen."""
    return [each for each in gc.get_objects() if type(each) is FunctionType]


def keep(functions: Iterable[FunctionType], files: Mapping[str, Any], namespaces: Mapping[int, Any]) -> None:
    """Keep these for the next time: they are all that there are in these modules."""
    global _modules
    _modules = _key(files, namespaces)
    _found[:] = map(weakref.ref, functions)
    settle()


def forget() -> None:
    """Look for all of them the next time: somebody has frozen what was made since, so it is in no generation."""
    global _modules
    _modules = None


def settle() -> None:
    """The collector has run, but nothing of the program has since `keep`."""
    global _collections
    _collections = _count()


def _key(files: Mapping[str, Any], namespaces: Mapping[int, Any]) -> Hashable:
    return frozenset(files), frozenset(namespaces)


def _count() -> tuple[int, ...]:
    return tuple(each["collections"] for each in gc.get_stats()[1:])
