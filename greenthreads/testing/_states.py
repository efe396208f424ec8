"""The state of a primitive, and how to put it back: `state_of(obj)` is a call that gives `obj` the state it has now.

Both ours and those that the standard library writes in Python. A state is the object's attributes, and what is in the
containers among them; the objects that these refer to have states of their own.
"""

from __future__ import annotations

import copy
import queue as _standard_queue
import threading as _standard
from _thread import allocate_lock, get_ident
from collections import OrderedDict, deque
from concurrent.futures import thread as _standard_executor
from functools import partial
from typing import TYPE_CHECKING, Any

from greenthreads import queue
from greenthreads._barrier import Barrier
from greenthreads._condition import Condition
from greenthreads._event import Event
from greenthreads._lock import Lock
from greenthreads._rlock import RLock
from greenthreads._semaphore import Semaphore
from greenthreads.once import Once
from greenthreads.rwlock import RWLock
from greenthreads.testing._kinds import is_a

if TYPE_CHECKING:
    from collections.abc import Callable

    from scheduler.task import Task

__all__ = ["Executor", "is_ours", "is_primitive", "parts_of", "state_of"]

_LOCK: Any = type(allocate_lock())
# From the inner module: the name in the outer one may be replaced.
Executor: Any = _standard_executor.ThreadPoolExecutor

_OURS = (Barrier, Condition, Event, Lock, Once, RLock, RWLock, Semaphore, queue.Queue, queue.SimpleQueue)
_PRIMITIVES: tuple[Any, ...] = (
    *_OURS,
    _standard.Barrier, _standard.Condition, _standard.Event, _standard.Semaphore, _standard_queue.Queue, Executor,
)  # fmt: skip


def is_primitive(obj: object) -> bool:
    """Whether `obj` is a lock, a queue, an executor or the like, of ours or of the standard library's."""
    return is_a(obj, _PRIMITIVES)


def is_ours(obj: object) -> bool:
    """Whether it is of ours."""
    return isinstance(obj, _OURS)


def parts_of(obj: Any) -> list[Any]:
    """What its attributes refer to."""
    return list(_attributes(obj).values())


def state_of(obj: Any) -> Callable[[], object]:
    """A call that gives `obj` the state that it has now."""
    if isinstance(obj, Lock):
        return partial(_reset_lock, obj, obj._bar.locked())
    if isinstance(obj, RLock):
        owner, count = obj._owner, obj._count
        if owner is not None and owner.ident != get_ident():
            return _nothing  # A thread holds it that is not under control, and may release it.
        return partial(_reset_rlock, obj, owner, count)
    if isinstance(obj, queue.Queue):
        return partial(_reset_queue, obj, _attributes(obj, leave=("_tally", "_count_put")), obj.unfinished_tasks)
    if isinstance(obj, Barrier):
        return partial(_reset_barrier, obj)
    return partial(_reset, obj, _attributes(obj))


def _nothing() -> None:
    pass


def _reset_lock(lock: Lock, held: bool) -> None:
    if lock._waiters or lock._bar.locked() is not held:
        lock._at_fork_reinit()
        if held:
            lock._bar.acquire()
    lock._owner = None


def _reset_rlock(lock: RLock, owner: Task | None, count: int) -> None:
    if lock._waiters or lock._bar.locked() is not bool(count):
        lock._at_fork_reinit()
        if count:
            lock._bar.acquire()
    lock._owner, lock._count = owner, count


def _reset_queue(obj: queue.Queue[Any], attributes: dict[str, Any], unfinished: int) -> None:
    _reset(obj, attributes)
    if obj.unfinished_tasks != unfinished:
        obj.unfinished_tasks = unfinished


def _reset_barrier(barrier: Barrier) -> None:
    barrier._round = type(barrier._round)()


# ---- Attributes ------------------------------------------------------------------------------------------------------


def _attributes(obj: Any, leave: tuple[str, ...] = ()) -> dict[str, Any]:
    found = dict(getattr(obj, "__dict__", {}))
    for cls in type(obj).__mro__:
        slots = vars(cls).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name != "__weakref__" and hasattr(obj, name):
                found[name] = getattr(obj, name)
    return {name: _kept(value) for name, value in found.items() if name not in leave}


class _Contents:
    """A container, and what was in it."""

    __slots__ = ("contents", "obj")

    def __init__(self, obj: Any) -> None:
        self.obj = obj
        self.contents = copy.copy(obj)

    def put_back(self) -> Any:
        obj = self.obj
        if len(obj) or len(self.contents):
            obj.clear()
            (obj.extend if isinstance(obj, (list, deque)) else obj.update)(self.contents)
        return obj


def _kept(value: Any) -> Any:
    if type(value) in (list, deque, dict, OrderedDict, set):
        return _Contents(value)
    if type(value) in _ITERATORS:
        return _Iterator(value)
    return value


class _Iterator:
    """An iterator, where it stood."""

    __slots__ = ("state",)

    def __init__(self, obj: Any) -> None:
        self.state = copy.copy(obj)


_ITERATORS = (type(iter(range(0))), type(iter(range(1 << 100))))


def _reset(obj: Any, attributes: dict[str, Any]) -> None:
    for name, kept in attributes.items():
        if type(kept) is _Contents:
            value = kept.put_back()
        elif type(kept) is _Iterator:
            value = copy.copy(kept.state)
        else:
            value = kept
        if getattr(obj, name, _MISSING) is not value:
            setattr(obj, name, value)


_MISSING: Any = object()
