"""`SimpleQueue`: a queue that has no more to it than `put` and `get`, for threads of both kinds."""

from __future__ import annotations

import queue as _standard
import types
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Generic, TypeVar

from greenthreads._time import deadline_after
from greenthreads._unpicklable import Unpicklable
from scheduler import control
from scheduler.kernel import current_task
from scheduler.task import GONE, Task, Wait

if TYPE_CHECKING:
    from scheduler.task import OldestFirst

__all__ = ["SimpleQueue"]

T = TypeVar("T")

Empty = _standard.Empty


class SimpleQueue(Unpicklable, Generic[T]):
    """An unbounded first-in, first-out queue, as `queue.SimpleQueue`. `put` is reentrant: it takes no lock.

    Putter: 1. append the item, 2. look for getters. Getter: 1. stand among the getters, 2. look for an item. One of
    the two first steps comes first, so one of the second steps sees it.
    """

    __slots__ = ("__weakref__", "_getters", "_items")
    _like = _standard.SimpleQueue

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._getters: OldestFirst = OrderedDict()

    __class_getitem__ = classmethod(types.GenericAlias)  # type: ignore[var-annotated]

    def put(self, item: T, block: bool = True, timeout: float | None = None) -> None:
        """Add `item`. Never blocks; `block` and `timeout` are there for `Queue.put`'s sake."""
        if control.active is not None:
            control.active.step("put", self)
        self._items.append(item)
        if self._getters:
            self._wake()

    def _wake(self) -> None:
        """Wake the oldest getter; it takes an item itself."""
        try:
            getter, _none = self._getters.popitem(False)
        except KeyError:
            return
        getter.unpark()

    def get(self, block: bool = True, timeout: float | None = None) -> T:
        """Take an item, waiting for one at most `timeout` seconds (None: without limit) if `block`; else Empty."""
        if block and timeout is not None and timeout < 0:
            raise ValueError("'timeout' must be a non-negative number")
        if control.active is not None and not control.active.step(
            "get", self, self._cannot_get, control.AT_ONCE if not block or timeout == 0 else deadline_after(timeout)
        ):
            raise Empty
        items = self._items
        if items and not self._getters:
            try:
                return items.popleft()
            except IndexError:
                pass
        if not block:
            try:
                return items.popleft()
            except IndexError:
                raise Empty from None
        return self._wait(None if timeout is None else deadline_after(timeout))

    def _cannot_get(self) -> bool:
        return not self._items

    def _wait(self, deadline: float | None) -> T:
        me, getters, items = current_task(), self._getters, self._items
        first = False
        while True:
            getters[me] = None
            if first:
                getters.move_to_end(me, last=False)
            if items and getters.pop(me, GONE) is not GONE:
                woken = True
            else:
                woken = me.park(getters, self, deadline, self._pass_on)
            try:
                item = items.popleft()
            except IndexError:
                if not woken:
                    raise Empty from None
                first = True  # Somebody was faster than our wakeup; we keep our place.
                continue
            if items and getters:
                self._wake()
            return item

    def _pass_on(self) -> None:
        """Undo a wakeup: the kernel thread that it was meant for is leaving with an exception."""
        if self._items:
            self._wake()

    def put_nowait(self, item: T) -> None:
        """`put(item)`."""
        self.put(item)

    def get_nowait(self) -> T:
        """`get(block=False)`."""
        return self.get(block=False)

    def qsize(self) -> int:
        """How many items there are."""
        if control.active is not None:
            control.active.step("qsize", self)
        return len(self._items)

    def empty(self) -> bool:
        """Whether there are none."""
        return not self.qsize()

    def waiting_for(self, task: Task) -> Wait:
        """See `scheduler.task.Waitable`."""
        return Wait("SimpleQueue", wants="to get")
