"""Which memory an exploration watches: the modules whose accesses are choice points.

By default those of the project that the function under test belongs to, with the test modules. The project's root is
the nearest folder above the function's file that says so (pyproject.toml, setup.cfg, setup.py, or a repository), else
the file's own folder. A function that was typed in, in a notebook or an interpreter, is in no file: then it is looked
for above the current directory.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
from typing import TYPE_CHECKING, Any

from greenthreads.testing import _mutants
from greenthreads.testing._calls import called
from greenthreads.testing._coverage import Coverage, LeftOut
from greenthreads.testing.instrument import Instrumentation, is_typed_in
from scheduler import control

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scheduler.controlled import ControlledScheduler

__all__ = ["Memory", "included", "root_of", "watched"]

_SIGNS = ("pyproject.toml", "setup.cfg", "setup.py", ".git", ".hg")


class Memory:
    """The watched memory of one exploration. `begin` and `end` may be called several times."""

    def __init__(
        self, include: Sequence[str], root: str | None, announces: bool = True, without: Sequence[LeftOut] = ()
    ) -> None:
        self._include = tuple(include)
        self._root = root
        self._announces = announces
        self._without = tuple(without)
        self._instrumentation: Instrumentation | None = None
        self.coverage = Coverage((), ())

    def begin(self, scheduler: ControlledScheduler, files: frozenset[str] = frozenset()) -> None:
        """Have accesses announced to `scheduler`; in `files` with the values, for whoever is told to `hear` of them."""
        self._instrumentation = Instrumentation(self._include, self._root, notes=files)
        self._instrumentation.__enter__()
        if self._announces:
            control.access = scheduler.memory_steps.access
            control.accesses = scheduler.memory_steps.accesses
            control.rounds = scheduler.memory_steps.rounds
            control.entering = scheduler.memory_steps.enters
            control.announcing = called

    def hear(self, note: Callable[[object], None] | None) -> None:
        """Call `note` with each value that is read or written from now on."""
        control.note = note

    def end(self) -> None:
        """Have them announced no more."""
        control.access = control.accesses = control.announcing = control.entering = None
        control.note = control.rounds = None
        if self._instrumentation is not None:
            modules, left_out = self._instrumentation.coverage
            self.coverage = Coverage(modules, (*left_out, *self._without))
            self._instrumentation.__exit__()
            self._instrumentation = None


def watched(memory: bool, include: Sequence[str], root: str | None, fn: Callable[..., Any]) -> Memory | None:
    """What an exploration of `fn` watches.

    Without `memory` it watches nothing, but the locks that are to be mutated are in modules, too.
    """
    if not memory and _mutants.active is None:
        return None
    include, without = included(include, fn), []
    if _is_in_no_file(fn) and "__main__" not in include:
        without.append(LeftOut(getattr(_plain(fn), "__qualname__", repr(fn)), "no source"))
    return Memory(include, root or root_of(fn), announces=memory, without=without)


def included(include: Sequence[str], fn: Callable[..., Any]) -> tuple[str, ...]:
    """`include`, and the main module if `fn`, a function or a class, was typed into it: then it is in no folder."""
    if not _is_in_no_file(fn):
        return tuple(include)
    main, plain = vars(sys.modules["__main__"]), _plain(fn)
    # Another namespace may be called so as well, as a doctest's is.
    is_of_main = plain.__module__ == "__main__" and getattr(plain, "__globals__", main) is main
    return (*include, "__main__") if is_of_main else tuple(include)


def _is_in_no_file(fn: Callable[..., Any]) -> bool:
    file = _file_of(fn)
    return file is not None and not os.path.exists(file)


def root_of(fn: Callable[..., Any]) -> str | None:
    """The root of the project that a function, or a class, belongs to; None if it is not written in Python."""
    file = _file_of(fn)
    if file is None:
        return None
    folder = home = os.path.dirname(os.path.abspath(file)) if os.path.exists(file) else os.getcwd()
    while True:
        if any(os.path.exists(os.path.join(folder, sign)) for sign in _SIGNS):
            return folder
        above = os.path.dirname(folder)
        if above == folder:
            return home
        folder = above


def _plain(fn: Callable[..., Any]) -> Callable[..., Any]:
    while isinstance(fn, functools.partial):
        fn = fn.func
    return fn


def _file_of(fn: Callable[..., Any]) -> str | None:
    fn = _plain(fn)
    if isinstance(fn, type):
        if fn.__module__ == "__main__" and is_typed_in():
            return ""
        return getattr(sys.modules.get(fn.__module__), "__file__", None)
    code: Any = getattr(inspect.unwrap(fn), "__code__", None)
    if code is None:
        code = getattr(type(fn).__call__, "__code__", None)
    return getattr(code, "co_filename", None)
