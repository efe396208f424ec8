"""The guards of the places that synchronise, at run time: they note what is reached, and make one change at a time.

`active` is asked when a module is compiled for a run, as `scheduler.control.active` is at each step: there is one
mutation at a time in a process. See `_sites` for what a guard stands at, and `_mutation` for who decides on changes.
"""

from __future__ import annotations

import _thread
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from greenthreads._condition import Condition
from greenthreads._lock import Lock
from greenthreads._rlock import RLock
from greenthreads._semaphore import Semaphore
from greenthreads.rwlock import RWLock
from greenthreads.testing._building import unshared
from greenthreads.testing._codes import forget
from greenthreads.testing._sites import Change, Site, find, mark

if TYPE_CHECKING:
    import ast
    from collections.abc import Callable, Iterator

__all__ = ["Mutant", "Mutants", "active"]

# Under control all of them are this library's; a C lock is one that could not be replaced.
_LOCKS: Final = (
    Lock, RLock, Condition, Semaphore, type(RWLock().read()), _thread.LockType, type(_thread.RLock()),
    threading.Condition, threading.Semaphore,
)  # fmt: skip
_CONDITIONS: Final = (Condition, threading.Condition)


class Mutant(NamedTuple):
    """One change at one place."""

    site: Site
    change: Change


class Mutants:
    """What is known of the places of all modules that are compiled while this is active."""

    def __init__(self, spared: Callable[[str], bool]) -> None:
        """`spared` says of a file that nothing is changed in it."""
        self._spared = spared
        # By file. A file's places are the same at each compilation.
        self.sites: dict[str, list[tuple[Site, list[Change]]]] = {}
        # Which tests have come by a place, with a lock or a condition.
        self.reached: dict[Site, dict[str, None]] = {}
        # Where something else was in the place of a lock.
        self.others: set[Site] = set()
        self._test = ""
        self._mutant: Mutant | None = None

    @contextmanager
    def observing(self, test: str) -> Iterator[None]:
        """Note the places that `test` reaches."""
        self._test = test
        with self._active():
            yield

    @contextmanager
    def applied(self, mutant: Mutant) -> Iterator[None]:
        """Have modules compiled with the change."""
        self._mutant = mutant
        try:
            with self._active():
                yield
        finally:
            self._mutant = None
            forget((self, mutant))

    def end(self) -> None:
        """No more runs: drop the modules' codes that have guards."""
        forget((self, None))

    @contextmanager
    def _active(self) -> Iterator[None]:
        global active
        active = self
        try:
            yield
        finally:
            active = None

    # For the compilation

    def version(self, filename: str) -> object:
        """What tells the codes of a file apart: whether it has guards, and the change in it."""
        if self._spared(filename):
            return None
        mutant = self._mutant
        return (self, mutant if mutant is not None and mutant.site.filename == filename else None)

    def mark(self, tree: ast.Module, filename: str) -> ast.Module:
        """A tree with guards, and with the change that there is to be, if it is of this file."""
        if self._spared(filename):
            return tree
        tree = unshared(tree)
        places = find(tree, filename)
        self.sites[filename] = [(place.site, place.changes) for place in places]
        if self._mutant is None:
            return mark(tree, places)
        return mark(tree, places, self._mutant.site, self._mutant.change.how)

    def guard(self, filename: str, number: int) -> Callable[[Any], Any]:
        """The guard of a place."""
        site, _changes = self.sites[filename][number]
        mutant = self._mutant
        if mutant is None:
            return self._noting(site)
        return _GUARDS[mutant.change.how] if mutant.site == site and mutant.change.how in _GUARDS else _unchanged

    def _noting(self, site: Site) -> Callable[[Any], Any]:
        kinds = _LOCKS if site.kind in ("with", "pair") else _CONDITIONS
        is_method = site.kind != "with"

        def guard(thing: Any) -> Any:
            if self._mutant is not None:
                return thing  # of a file that is as it was
            if isinstance(getattr(thing, "__self__", None) if is_method else thing, kinds):
                self.reached.setdefault(site, {})[self._test] = None
            else:
                self.others.add(site)
            return thing

        return guard


active: Mutants | None = None


# Guards of changed places


class _Open:
    """Stands for a lock, and keeps nobody out."""

    def __enter__(self) -> bool:
        return True

    def __exit__(self, *_exc: object) -> None:
        pass


def _unchanged(thing: Any) -> Any:
    return thing


def _taken(*_args: Any, **_kwargs: Any) -> bool:
    return True


def _removed(thing: Any) -> Any:
    """`thing` is what a `with` enters, or a method that is about to be called."""
    if isinstance(thing, _LOCKS):
        return _Open()
    return _taken if isinstance(getattr(thing, "__self__", None), _LOCKS) else thing


def _one(notify_all: Any) -> Any:
    of = getattr(notify_all, "__self__", None)
    return of.notify if isinstance(of, _CONDITIONS) else notify_all


def _looks_once(wait_for: Any) -> Any:
    of = getattr(wait_for, "__self__", None)
    if not isinstance(of, _CONDITIONS):
        return wait_for

    def once(predicate: Callable[[], object], timeout: float | None = None) -> object:
        return predicate() or (of.wait(timeout) and predicate())

    return once


_GUARDS: Final[dict[str, Callable[[Any], Any]]] = {"removed": _removed, "one": _one, "looks once": _looks_once}
