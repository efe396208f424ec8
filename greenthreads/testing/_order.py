"""An order for what the standard library orders by address.

`ThreadPoolExecutor.shutdown` walks through a set of threads, `concurrent.futures.wait` through a set of futures, and
both sort and hash by where an object happens to lie. So would a program that keeps its threads in a set. Two executions
under the same decisions would do different things.

For the length of a session, threads and futures are therefore numbered as they are made, from the start in each
execution, and hash by their numbers; and where `concurrent.futures` asks for `id`, it gets the number. An object that
was made before has none, and hashes as ever: it may be in a dict already.

Not covered: sets of the program's own objects, which the interpreter hashes by address with nobody asked. A program
that walks through one diverges, and is told so.
"""

from __future__ import annotations

import builtins
import concurrent.futures
import concurrent.futures.thread
import itertools
import threading
from concurrent.futures import _base
from typing import TYPE_CHECKING, Any

from greenthreads import thread as _thread

if TYPE_CHECKING:
    from greenthreads.patch import _Patch

__all__ = ["Numbering"]

# The attribute that holds an object's number.
_NUMBER = "_made_as_number"
# Taken from the module, since the name in the outer one may be replaced by now.
_EXECUTOR: Any = concurrent.futures.thread.ThreadPoolExecutor


class Numbering:
    """Numbers threads and futures, from `apply` until the patch is undone."""

    def __init__(self) -> None:
        self._next = itertools.count(1).__next__

    def begin(self) -> None:
        """Start over, for the next execution."""
        self._next = itertools.count(1).__next__
        # Executors, too, are numbered, and their threads named by that.
        _EXECUTOR._counter = itertools.count().__next__

    def apply(self, patch: _Patch) -> None:
        """Put it in place, by way of `patch`."""
        for cls in (threading.Thread, _thread.Thread, _base.Future):
            patch.set(cls, "__init__", self._numbering(cls.__init__))
        for cls in (threading.Thread, _base.Future):
            patch.set(cls, "__hash__", _hash)
        patch.set(_base, "id", _id)
        patch.set(_EXECUTOR, "_counter", _EXECUTOR._counter)

    def _numbering(self, init: Any) -> Any:
        def __init__(self_: Any, *args: Any, **kwargs: Any) -> None:
            namespace = self_.__dict__
            if _NUMBER not in namespace:
                namespace[_NUMBER] = self._next()
            init(self_, *args, **kwargs)

        __init__.__wrapped__ = init  # type: ignore[attr-defined]
        return __init__


def _hash(self: Any) -> int:
    number: int | None = self.__dict__.get(_NUMBER)
    return object.__hash__(self) if number is None else number


def _id(obj: Any) -> int:
    number: int | None = getattr(obj, _NUMBER, None)
    return builtins.id(obj) if number is None else number
