"""`queue`, for threads of both kinds: the standard module's classes, errors and contracts.

**Handover.** An item that is put while somebody waits to get goes straight to the oldest getter, and the room that a
get makes straight to the oldest putter, which is admitted with its item. So a thread that was woken has what it came
for: waiters are served first come, first served, and nobody overtakes between a wakeup and its effect.

**Two ways to the items.** The plain unbounded queue, the commonest, takes no lock (`_free`). Its argument is the one
of every primitive here:
    getter: 1. stand among the getters    2. look at the items again       3. park
    putter: 1. append the item            2. look at the getters again     3. give the oldest item to the oldest getter
Of the two first steps one comes first, so one of the second steps sees it. A putter may hand its item over directly
only if no older one lies in the queue.

Bounded queues, subclasses with hooks of their own, and queues whose `mutex` somebody has asked for (whoever asks wants
to keep others out) do all under a lock. Invariant there: somebody waits to get only while the queue is empty, and to
put only while it is full. The mutex is a `Lock` of ours, so a hook may even switch while it holds it. Where there are
neither such hooks nor anybody who has asked, nobody switches there, and a lock of the interpreter's will do in its
place (`_held`): a quarter of a bounded queue's price.
"""

from __future__ import annotations

import queue as _standard
import types
from _thread import allocate_lock
from collections import OrderedDict, deque
from contextlib import contextmanager
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from greenthreads._lock import Lock
from greenthreads._simplequeue import SimpleQueue
from greenthreads._tally import Tally
from greenthreads._time import deadline_after, until
from scheduler import control, observers
from scheduler.continuation import current
from scheduler.kernel import current_task
from scheduler.task import GONE, Task, Wait, unpark_all

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scheduler.task import OldestFirst, Waiters

__all__ = ["Empty", "Full", "LifoQueue", "PriorityQueue", "Queue", "ShutDown", "SimpleQueue"]

T = TypeVar("T")

Empty = _standard.Empty
Full = _standard.Full

if TYPE_CHECKING or not hasattr(_standard, "ShutDown"):  # before Python 3.13

    class ShutDown(Exception):
        """Raised when put/get with shut-down queue."""

else:
    ShutDown = _standard.ShutDown


def _refuse_negative(block: bool, timeout: float | None) -> None:
    if block and timeout is not None and timeout < 0:
        raise ValueError("'timeout' must be a non-negative number")


class _Refused:
    """Handed to a waiter in place of what it came for: raise `error`; or try again, if that is None."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class Queue(Generic[T]):
    """A first-in, first-out queue, as `queue.Queue`; `maxsize` <= 0 is without limit.

    Works between user threads of any scheduler and kernel threads. Subclasses may override `_init`, `_qsize`, `_put`
    and `_get`, which are called with `mutex` held.
    """

    # Whether the four hooks are the ones below, so that their work may be done in place.
    _plain = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        hooks = ("_init", "_qsize", "_put", "_get")
        cls._plain = all(getattr(cls, hook) is getattr(Queue, hook) for hook in hooks)

    def __init__(self, maxsize: int = 0) -> None:
        self.maxsize = maxsize
        self.is_shutdown = False
        self._free = self._plain and maxsize <= 0
        self._mutex = Lock()
        # What operations that are not free are made under. It changes once at the most, from a lock of the interpreter
        # to the mutex, and only while it is held: so whoever has waited for it looks whether it still is the one.
        self._held: Any = allocate_lock() if self._plain else self._mutex
        self._tally = Tally()
        self._count_put = self._tally.count
        self._getters: OldestFirst = OrderedDict()
        self._putters: OldestFirst = OrderedDict()
        self._joiners: Waiters = {}
        self._init(maxsize)

    __class_getitem__ = classmethod(types.GenericAlias)  # type: ignore[var-annotated]

    @property
    def mutex(self) -> Lock:
        """The lock that keeps every other operation of the queue out while you hold it."""
        self._free = False
        held = self._held
        if held is not self._mutex:
            with held:
                self._held = self._mutex
        return self._mutex

    @contextmanager
    def _holding(self) -> Iterator[None]:
        """Keep other operations out, where it may take its time."""
        while True:
            held = self._held
            with held:
                if held is self._held:
                    yield
                    return

    @property
    def unfinished_tasks(self) -> int:
        """How many items were put and not yet reported by `task_done`."""
        return self._tally.read()

    @unfinished_tasks.setter
    def unfinished_tasks(self, number: int) -> None:
        self._tally.set(number)

    # ---- put -------------------------------------------------------------------------------------------------------

    def put(self, item: T, block: bool = True, timeout: float | None = None) -> None:
        """Add `item`, waiting for room at most `timeout` seconds (None: without limit) if `block`.

        Raises Full if there is no room (in time), ShutDown once the queue is shut down. Blocks the calling thread.
        """
        if control.active is not None and control.active.controls():
            self._put_controlled(item, block, timeout)
            return
        if not self._free:
            self._put_locked(item, block, timeout)
            return
        if self.is_shutdown:
            raise ShutDown
        next(self._count_put)
        getters = self._getters
        if getters and not self.queue:
            try:
                getter, _none = getters.popitem(False)
            except KeyError:
                pass
            else:
                getter.value = item
                getter.unpark()
                return
        self.queue.append(item)
        if getters:
            self._serve()

    def _put_locked(self, item: T, block: bool, timeout: float | None) -> None:
        while True:
            held = self._held
            with held:
                if held is not self._held:
                    continue
                if self.is_shutdown:
                    raise ShutDown
                if self.maxsize > 0:
                    _refuse_negative(block, timeout)
                    full = self._qsize() >= self.maxsize
                else:
                    full = False
                if not full:
                    self._put(item)
                    next(self._count_put)
                    if self._getters:
                        self._serve()
                    return
                if not block:
                    raise Full
                deadline = deadline_after(timeout)
                me = current_task()
                me.value = item
                self._putters[me] = None
                break
        try:
            admitted = me.park(self._putters, self, deadline)
        finally:
            answer, me.value = me.value, None
        if isinstance(answer, _Refused) and answer.error is not None:
            raise answer.error
        if not admitted:
            raise Full

    def _serve(self) -> None:
        """Give what lies in the queue to who waits for it, oldest to oldest."""
        while self._getters and self._qsize():
            try:
                getter, _none = self._getters.popitem(False)
            except KeyError:
                return
            try:
                getter.value = self._get()
            except IndexError:
                # Without the lock: another thread took the item in between.
                getter.value = _Refused(None)
            except BaseException as error:
                getter.value = _Refused(error)
            getter.unpark()

    def _admit(self) -> None:
        """Let in who waits to put, while there is room. With the mutex held."""
        while self._putters and (self.maxsize <= 0 or self._qsize() < self.maxsize):
            try:
                putter, _none = self._putters.popitem(False)
            except KeyError:
                return
            item, putter.value = putter.value, None
            try:
                self._put(item)
                next(self._count_put)
            except BaseException as error:
                putter.value = _Refused(error)
            putter.unpark()

    # ---- get -------------------------------------------------------------------------------------------------------

    def get(self, block: bool = True, timeout: float | None = None) -> T:
        """Take an item, waiting for one at most `timeout` seconds (None: without limit) if `block`.

        Raises Empty if there is none (in time), ShutDown once the queue is shut down and empty. Blocks the calling
        thread.
        """
        if control.active is not None and control.active.controls():
            return self._get_controlled(block, timeout)
        # A bad timeout is refused there, also where it would not be needed.
        if not self._free or (timeout is not None and block and timeout < 0):
            return self._get_locked(block, timeout)
        queue = self.queue
        if queue:
            try:
                return queue.popleft()  # type: ignore[no-any-return]
            except IndexError:
                pass
        deadline = None
        if timeout is not None or not block or self.is_shutdown:
            deadline = self._check(block, timeout)
        me: Any
        try:
            me = current().task
        except (AttributeError, RuntimeError):
            me = current_task()
        getters = self._getters
        getters[me] = None
        if queue or self.is_shutdown:
            self._look_again(me)
        try:
            if deadline is not None or me.ready is None or me.pending is not None or observers.active:
                if not me.park(getters, self, deadline, self._put_back):
                    raise Empty
            else:
                # `UserTask.park`, written out as in `Event.wait`: a seventh of the way to a waiting thread and back.
                me.waiters = getters
                me.wait = self
                scheduler = me.scheduler
                me.since = scheduler.now()
                (me.ready.popleft() if me.ready else scheduler.root).switch()
                me.wait = None
                if me.pending is not None:
                    me.switch = me._throw_pending
        except RecursionError:
            # There was no stack left, for the switch or for the call before it: then we still stand there.
            if me.ready is not None and me.wait is not None:
                root = me.scheduler.root
                me.wait = None
                me.ready += (root,)
                root.has_turn, root.misses_one, root.passes = False, True, 0
            if me in getters:
                del getters[me]
            raise
        answer: Any = me.value
        me.value = None
        if type(answer) is _Refused:
            return self._refused(answer, deadline)
        return answer  # type: ignore[no-any-return]

    def _check(self, block: bool, timeout: float | None) -> float | None:
        """May this caller wait for an item, and until when?"""
        if self.is_shutdown and not self._qsize():
            raise ShutDown
        if not block:
            raise Empty
        _refuse_negative(block, timeout)
        return deadline_after(timeout)

    def _look_again(self, me: Task) -> None:
        """An item came, or the end, while `me` took its place among the getters: see to it that it is woken."""
        self._serve()
        if self.is_shutdown and self._getters.pop(me, GONE) is not GONE:
            me.value = _Refused(ShutDown())
            me.unpark()

    def _refused(self, answer: _Refused, deadline: float | None) -> T:
        while True:
            if answer.error is not None:
                raise answer.error
            # Somebody was faster than our wakeup. We keep our place: the first.
            me = current_task()
            self._getters[me] = None
            self._getters.move_to_end(me, last=False)
            if self.queue or self.is_shutdown:
                self._look_again(me)
            if not me.park(self._getters, self, deadline, self._put_back):
                raise Empty
            item, me.value = me.value, None
            if type(item) is not _Refused:
                return item  # type: ignore[no-any-return]
            answer = item

    def _get_locked(self, block: bool, timeout: float | None) -> T:
        while True:
            held = self._held
            with held:
                if held is not self._held:
                    continue
                deadline = None
                if timeout is not None and block:
                    deadline = self._check(block, timeout)
                if self._putters:
                    self._admit()
                if self._qsize():
                    item: T = self._get()
                    if self._putters:
                        self._admit()
                    return item
                self._check(block, None)
                me = current_task()
                self._getters[me] = None
                break
        if not me.park(self._getters, self, deadline, self._put_back):
            raise Empty
        answer: Any = me.value
        me.value = None
        if type(answer) is _Refused:
            return self._refused(answer, deadline)
        return answer  # type: ignore[no-any-return]

    def _put_back(self) -> None:
        """Undo a handover: the kernel thread that it was made to is leaving with an exception."""
        me = current_task()
        item, me.value = me.value, None
        if type(item) is _Refused:
            return
        with self._holding():
            if self._plain:
                self.queue.appendleft(item)
            else:
                self._put(item)
            self._serve()

    # ---- Under a controlled scheduler: any thread that can go on may be next, see scheduler.control ------------------

    def _put_controlled(self, item: T, block: bool, timeout: float | None) -> None:
        assert control.active is not None
        if self._mutex._bar.locked():
            control.active.step("acquire", self._mutex, self._mutex._bar.locked)
        limit = until(block, timeout) if self.maxsize > 0 else None
        there = control.active.step("put", self, self._cannot_put, limit)
        if self.is_shutdown:
            raise ShutDown
        if self.maxsize > 0:
            _refuse_negative(block, timeout)
        if not there:
            if block:
                deadline_after(timeout)  # One that is too long is refused where it is needed.
            raise Full
        with _Holding(self._mutex, self._plain):
            self._put(item)
            next(self._count_put)

    def _cannot_put(self) -> bool:
        if self._mutex._bar.locked():
            return True
        return 0 < self.maxsize <= self._qsize() and not self.is_shutdown

    def _get_controlled(self, block: bool, timeout: float | None) -> T:
        assert control.active is not None
        if self._mutex._bar.locked():
            control.active.step("acquire", self._mutex, self._mutex._bar.locked)
        there = control.active.step("get", self, self._cannot_get, until(block, timeout))
        if there and not self._qsize():
            raise ShutDown
        _refuse_negative(block, timeout)
        if not there:
            if block:
                deadline_after(timeout)  # One that is too long is refused where it is needed.
            raise Empty
        with _Holding(self._mutex, self._plain):
            return self._get()

    def _cannot_get(self) -> bool:
        if self._mutex._bar.locked():
            return True
        return not self._qsize() and not self.is_shutdown

    # ---- The rest --------------------------------------------------------------------------------------------------

    def put_nowait(self, item: T) -> None:
        """`put(item, block=False)`."""
        self.put(item, block=False)

    def get_nowait(self) -> T:
        """`get(block=False)`."""
        return self.get(block=False)

    def qsize(self) -> int:
        """How many items there are. Another thread may change that before you look at the answer."""
        if control.active is not None:
            control.active.step("qsize", self)
        if self._plain or (control.active is not None and control.active.controls()):
            return self._qsize()
        with self._mutex:
            return self._qsize()

    def empty(self) -> bool:
        """Whether there are no items; the same caution as for `qsize`."""
        return not self.qsize()

    def full(self) -> bool:
        """Whether there is no room; the same caution as for `qsize`."""
        return 0 < self.maxsize <= self.qsize()

    def task_done(self) -> None:
        """Say that one item that was got is dealt with. ValueError if there are more of these than items put."""
        if control.active is not None:
            control.active.step("task_done", self)
        if self._tally.done() == 0:
            unpark_all(self._joiners)

    def join(self) -> None:
        """Wait until every item that was put has been dealt with. Blocks the calling thread."""
        if control.active is not None:
            control.active.step("join", self, self._tally.read)
        me = current_task()
        while self._tally.read():
            self._joiners[me] = None
            # `task_done` counts before it looks at the joiners; we stood there before we look at the count.
            if self._tally.read() or self._joiners.pop(me, GONE) is GONE:
                me.park(self._joiners, self)

    def shutdown(self, immediate: bool = False) -> None:
        """Make `put` raise ShutDown from now on, and `get` once the queue is empty.

        `immediate` empties it now, counting each item as dealt with. Wakes every thread that waits on the queue. On
        every Python; the standard library has it since 3.13.
        """
        if control.active is not None:
            control.active.step("shutdown", self, self._mutex._bar.locked)
            if control.active.controls():
                self._shut(immediate)
                return
        with self._holding():
            self._shut(immediate)

    def _shut(self, immediate: bool) -> None:
        self.is_shutdown = True
        if immediate:
            while self._qsize():
                self._get()
                if self._tally.read() > 0:
                    self._tally.done()
            unpark_all(self._joiners)
        for waiters in (self._getters, self._putters):
            self._refuse_all(waiters)

    def _refuse_all(self, waiters: OldestFirst) -> None:
        while waiters:
            try:
                waiter, _none = waiters.popitem(False)
            except KeyError:
                return
            waiter.value = _Refused(ShutDown())
            waiter.unpark()

    def waiting_for(self, task: Task) -> Wait:
        """See `scheduler.task.Waitable`."""
        wants = {id(self._getters): "to get", id(self._putters): "to put", id(self._joiners): "to join"}
        return Wait("Queue", wants=wants.get(id(task.waiters), ""))

    # The hooks.

    queue: Any

    def _init(self, maxsize: int) -> None:
        self.queue = deque()

    def _qsize(self) -> int:
        return len(self.queue)

    def _put(self, item: T) -> None:
        self.queue.append(item)

    def _get(self) -> T:
        return self.queue.popleft()  # type: ignore[no-any-return]


class _Holding:
    """Hold a queue's mutex, which is open, around hooks that may switch. Those of a plain queue do not."""

    __slots__ = ("_bar", "_mutex")

    def __init__(self, mutex: Lock, plain: bool) -> None:
        self._bar = None if plain else mutex._bar
        self._mutex = mutex

    def __enter__(self) -> None:
        if self._bar is not None:
            self._bar.acquire(False)
            self._mutex._owner = current_task()

    def __exit__(self, kind: Any, value: Any, traceback: Any) -> None:
        if self._bar is not None:
            self._mutex._open()


class PriorityQueue(Queue[T]):
    """A queue that gives the smallest item first, as `queue.PriorityQueue`."""

    def _init(self, maxsize: int) -> None:
        self.queue = []

    def _put(self, item: T) -> None:
        heappush(self.queue, item)

    def _get(self) -> T:
        return heappop(self.queue)  # type: ignore[no-any-return]


class LifoQueue(Queue[T]):
    """A queue that gives the newest item first, as `queue.LifoQueue`."""

    def _init(self, maxsize: int) -> None:
        self.queue = []

    def _get(self) -> T:
        return self.queue.pop()  # type: ignore[no-any-return]
