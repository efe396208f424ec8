"""One threading API, two kinds of thread.

`Thread` is a user thread (a greenlet that a scheduler runs, cheap enough to have a hundred thousand) or a kernel
thread, as its `kind` says; locks, events, queues and joins work within and across the kinds:

    from greenthreads import Queue, Thread, run_scheduler

    def main():
        queue = Queue()
        Thread(target=lambda: queue.put(input()), kind="kernel").start()
        print(queue.get())

    run_scheduler(main)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from greenthreads._barrier import Barrier, BrokenBarrierError
from greenthreads._condition import Condition
from greenthreads._event import Event
from greenthreads._hooks import ExceptHookArgs, __excepthook__, excepthook
from greenthreads._iterators import concurrent_tee, serialize_iterator, synchronized_iterator
from greenthreads._local import local
from greenthreads._lock import Lock
from greenthreads._rlock import RLock
from greenthreads._semaphore import BoundedSemaphore, Semaphore
from greenthreads._thread import error as ThreadError
from greenthreads._thread import stack_size
from greenthreads._time import TIMEOUT_MAX
from greenthreads._timer import Timer
from greenthreads.carriers import default_kind, set_default_kind
from greenthreads.dumps import dump_on_signal, dump_threads, undump_on_signal
from greenthreads.group import ThreadGroup
from greenthreads.kernelpool import run_in_kernel_thread
from greenthreads.once import Once
from greenthreads.patch import patch_all, patched
from greenthreads.queue import Empty, Full, LifoQueue, PriorityQueue, Queue, ShutDown, SimpleQueue
from greenthreads.rwlock import RWLock
from greenthreads.thread import Thread, ThreadInterrupted
from greenthreads.threads import (
    active_count,
    activeCount,
    current_thread,
    currentThread,
    enumerate,
    get_ident,
    get_native_id,
    main_thread,
)
from greenthreads.timeouts import timeout
from greenthreads.trace import (
    getprofile,
    gettrace,
    setprofile,
    setprofile_all_threads,
    settrace,
    settrace_all_threads,
)
from scheduler import (
    Deadlock,
    Policy,
    Scheduler,
    SchedulerError,
    Steps,
    TaskExit,
    no_preemption,
    run_scheduler,
    sleep,
    yield_now,
)

if TYPE_CHECKING:
    from greenthreads.futures import Future, ThreadPoolExecutor

__version__ = "0.1.0"

__all__ = [
    "Barrier",
    "BoundedSemaphore",
    "BrokenBarrierError",
    "Condition",
    "Deadlock",
    "Empty",
    "Event",
    "ExceptHookArgs",
    "Full",
    "Future",
    "LifoQueue",
    "Lock",
    "Once",
    "Policy",
    "PriorityQueue",
    "Queue",
    "RLock",
    "RWLock",
    "Scheduler",
    "SchedulerError",
    "Semaphore",
    "ShutDown",
    "SimpleQueue",
    "Steps",
    "TIMEOUT_MAX",
    "TaskExit",
    "Thread",
    "ThreadError",
    "ThreadGroup",
    "ThreadInterrupted",
    "ThreadPoolExecutor",
    "Timer",
    "__excepthook__",
    "activeCount",
    "active_count",
    "concurrent_tee",
    "currentThread",
    "current_thread",
    "default_kind",
    "dump_on_signal",
    "dump_threads",
    "enumerate",
    "excepthook",
    "get_ident",
    "get_native_id",
    "getprofile",
    "gettrace",
    "local",
    "main_thread",
    "no_preemption",
    "patch_all",
    "patched",
    "run_in_kernel_thread",
    "run_scheduler",
    "serialize_iterator",
    "set_default_kind",
    "setprofile",
    "setprofile_all_threads",
    "settrace",
    "settrace_all_threads",
    "sleep",
    "stack_size",
    "synchronized_iterator",
    "timeout",
    "undump_on_signal",
    "yield_now",
]

# Where they are found is what they say, in reprs and to pickle.
for _name in __all__:
    _value = globals().get(_name)
    if getattr(_value, "__module__", "").startswith("greenthreads."):
        _value.__module__ = __name__
del _name, _value


def __getattr__(name: str) -> Any:
    # What they stand on takes longer to import than all of this library.
    if name in ("Future", "ThreadPoolExecutor"):
        from greenthreads import futures

        return getattr(futures, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
