"""`concurrent.futures` for threads of both kinds: an executor whose workers are of either, and its futures.

Everything else is the standard module's. Its `wait` and `as_completed` work with these futures from either kind of
thread: they put a waiter with an event of theirs into each future, and ours give it an event of ours (`_Waiters`).

Workers are not daemons, and wait for work when there is none; so at the end of a program somebody has to tell them.
The standard module does it for kernel threads when the interpreter ends, and a scheduler for its user threads when its
main thread has ended (`Scheduler.at_end`).
"""

from __future__ import annotations

import concurrent.futures as _standard
import threading
import weakref
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    BrokenExecutor,
    CancelledError,
    Executor,
    InvalidStateError,
    TimeoutError,
    _base,
    as_completed,
    wait,
)
from concurrent.futures import thread as _standard_thread
from concurrent.futures.thread import BrokenThreadPool
from typing import TYPE_CHECKING, Any

from greenthreads import patch
from greenthreads import thread as _thread
from greenthreads import threads as _threads
from greenthreads._condition import Condition
from greenthreads._event import Event
from greenthreads._lock import Lock
from greenthreads._semaphore import Semaphore
from greenthreads.carriers import checked_kind
from greenthreads.queue import Empty, SimpleQueue
from scheduler import control
from scheduler.functions import yield_now
from scheduler.kernel import current_task
from scheduler.task import UserTask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from greenthreads.carriers import Kind
    from scheduler.loop import Scheduler

__all__ = [
    "ALL_COMPLETED",
    "FIRST_COMPLETED",
    "FIRST_EXCEPTION",
    "BrokenExecutor",
    "BrokenThreadPool",
    "CancelledError",
    "Executor",
    "Future",
    "InvalidStateError",
    "ThreadPoolExecutor",
    "TimeoutError",
    "as_completed",
    "wait",
]


# By which the standard module tells kernel threads that the interpreter ends.
_threads_queues: Any = vars(_standard_thread)["_threads_queues"]


class _Waiters(list[Any]):
    """The waiters that the standard `wait` and `as_completed` install in a future."""

    def append(self, waiter: Any) -> None:
        """Install one. It waits by an event of ours, which parks a user thread."""
        if not isinstance(waiter.event, Event):
            waiter.event = Event()
        super().append(waiter)


class Future(_base.Future[Any]):
    """A `concurrent.futures.Future` that threads of both kinds may wait for."""

    def __init__(self) -> None:
        super().__init__()
        self._condition: Any = Condition()
        self._waiters = _Waiters()


class _Item:
    """A call that somebody has submitted."""

    __slots__ = ("args", "fn", "future", "kwargs")

    def __init__(self, future: Future, fn: Callable[..., Any], args: Any, kwargs: Any) -> None:
        self.future = future
        self.fn = fn
        self.args = args
        self.kwargs = kwargs

    def run(self) -> None:
        """Make the call, unless it was cancelled."""
        if not self.future.set_running_or_notify_cancel():
            return
        future = self.future
        try:
            fn = self.fn if control.announcing is None else control.announcing(self.fn)
            result = fn(*self.args, **self.kwargs)
        except BaseException as exc:
            future.set_exception(exc)
            # The exception's traceback holds this frame, which would hold the future, which holds the exception.
            del future, self.future
        else:
            future.set_result(result)


class _Workers(dict[Any, None]):
    """The workers of an executor, where the standard one has a set, which `shutdown` would join in any order."""

    def add(self, worker: Any) -> None:
        """Take in one more."""
        self[worker] = None


# From the inner module: to ask the outer one for the name makes it keep what the inner one has now.
class ThreadPoolExecutor(_standard_thread.ThreadPoolExecutor):
    """A `concurrent.futures.ThreadPoolExecutor` whose workers are threads of the given `kind` (None: the default)."""

    def __init__(
        self,
        max_workers: int | None = None,
        thread_name_prefix: str = "",
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        kind: Kind | None = None,
    ) -> None:
        super().__init__(max_workers, thread_name_prefix, initializer, initargs)
        self._kind = None if kind is None else checked_kind(kind)
        self._initializer: Any = initializer
        self._initargs: Any = initargs
        self._work_queue: Any = SimpleQueue()
        self._idle_semaphore: Any = Semaphore(0)
        self._shutdown_lock: Any = Lock()
        self._threads: Any = _Workers()
        # The one that our last worker belongs to.
        self._scheduler: Scheduler | None = None

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """Have a worker call `fn(*args, **kwargs)`; the future has what comes of it. From any thread."""
        with self._shutdown_lock:
            if self._broken:
                raise BrokenThreadPool(self._broken)
            if self._shutdown:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if _standard_thread._shutdown:
                raise RuntimeError("cannot schedule new futures after interpreter shutdown")
            future = Future()
            self._work_queue.put(_Item(future, fn, args, kwargs))
            self._adjust_thread_count()
            return future

    def _adjust_thread_count(self) -> None:
        if self._idle_semaphore.acquire(False):
            return
        workers = self._threads
        number = len(workers)
        if number >= self._max_workers:
            return
        queue = self._work_queue
        # When nobody has the executor any more, its workers end.
        me = weakref.ref(self, lambda _ref: queue.put(None))
        # While the standard class has our methods (see patch.py), a worker may be of it.
        cls: Any = threading.Thread if _threads.standard_are_ours else _thread.Thread
        worker = cls(
            name=f"{self._thread_name_prefix or self}_{number}",
            target=_work,
            args=(me, queue, self._initializer, self._initargs),
            kind=self._kind,
        )
        worker.start()
        workers.add(worker)
        if worker.kind == "kernel":
            _threads_queues[worker] = queue
        else:
            scheduler = worker._task.scheduler
            if scheduler is not self._scheduler:
                scheduler.at_end(self)
                self._scheduler = scheduler

    def scheduler_ends(self) -> None:
        """Called by a scheduler whose main thread has ended, and which waits for its other threads to end."""
        self._shutdown = True
        self._work_queue.put(None)


def _work(
    executor_of: Callable[[], ThreadPoolExecutor | None],
    queue: SimpleQueue[_Item | None],
    initializer: Callable[..., object] | None,
    initargs: Iterable[Any],
) -> None:
    """Be a worker."""
    if initializer is not None:
        try:
            initializer(*initargs)
        except BaseException:
            _base.LOGGER.critical("Exception in initializer:", exc_info=True)
            executor = executor_of()
            if executor is not None:
                executor._initializer_failed()
            return
    # A call may submit the next one, and that one the next: others should run in between.
    gives_way = isinstance(current_task(), UserTask)
    while True:
        try:
            item = queue.get_nowait()
        except Empty:
            executor = executor_of()
            if executor is not None:
                executor._idle_semaphore.release()
            del executor
            item = queue.get()
        if item is not None:
            item.run()
            del item
            if gives_way and not queue.empty():
                yield_now()
            continue
        executor = executor_of()
        if executor is None or executor._shutdown or _standard_thread._shutdown:
            if executor is not None:
                executor._shutdown = True
            queue.put(None)  # for the next worker
            return
        del executor


def __getattr__(name: str) -> Any:
    # Executors of processes, and whatever else there is: imported when asked for, as the standard module does.
    return getattr(_standard, name)


patch.complete("concurrent.futures.thread")
