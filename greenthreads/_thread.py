"""`_thread`, for threads of both kinds: what the standard module has, and programs that use it expect.

`start_new_thread` makes a thread of the default kind: a user thread, or a kernel thread where that is the default or
where no scheduler runs. Such threads are awaited by nobody, as in the standard module.

What is not defined here is the standard module's.
"""

from __future__ import annotations

import _thread as _standard
import functools
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from greenthreads import _local as _local_module
from greenthreads import carriers, kernelpool
from greenthreads._lock import Lock
from greenthreads._rlock import RLock
from greenthreads._time import TIMEOUT_MAX, deadline_after
from greenthreads.threads import get_ident, get_native_id
from scheduler import control, fork, shield
from scheduler.errors import TaskExit
from scheduler.kernel import current_task, here
from scheduler.task import UserTask

if TYPE_CHECKING:
    from collections.abc import Callable

    from scheduler.loop import Scheduler

__all__ = [
    "TIMEOUT_MAX",
    "LockType",
    "RLock",
    "allocate",
    "allocate_lock",
    "error",
    "exit",
    "exit_thread",
    "get_ident",
    "get_native_id",
    "interrupt_main",
    "lock",
    "stack_size",
    "start_new",
    "start_new_thread",
]

for _name in dir(_standard):
    globals().setdefault(_name, getattr(_standard, _name))

_standard_start = _standard.start_new_thread
_standard_count = _standard._count
_standard_lock = _standard.allocate_lock

error = RuntimeError
_local = _local_module.local
interrupt_main = _standard.interrupt_main
stack_size = _standard.stack_size

# The class itself, which as an attribute of another class does not become a method of it.
LockType = lock = allocate_lock = allocate = Lock


def exit() -> NoReturn:
    """End the calling thread: raise SystemExit."""
    raise SystemExit


exit_thread = exit


def _scheduler() -> Scheduler | None:
    """Where the caller's new thread goes: a scheduler, or None for a kernel thread."""
    return current_task().scheduler if carriers.default == "user" else None


def start_new_thread(function: Callable[..., object], args: tuple[Any, ...], kwargs: Any = None, /) -> int:
    """Start a thread that calls `function(*args, **kwargs)`; returns its identifier. Does not switch.

    What the function returns is dropped; an exception goes to `sys.unraisablehook`, except for SystemExit.
    """
    scheduler = _scheduler()
    if scheduler is None and not isinstance(current_task(), UserTask):
        return _standard_start(function, args, *([] if kwargs is None else [kwargs]))
    if not callable(function):
        raise TypeError("first arg must be callable")
    if not isinstance(args, tuple):
        raise TypeError("2nd arg must be a tuple")
    if kwargs is not None and not isinstance(kwargs, dict):
        raise TypeError("optional 3rd arg must be a dictionary")
    if scheduler is None:
        return _start_kernel(function, args, kwargs or {})
    if control.active is not None:
        control.active.step("start", function)
        if control.announcing is not None:
            function = control.announcing(function)
    return _start(scheduler, function, args, kwargs or {}).number


start_new = start_new_thread


def _start_kernel(function: Any, args: Any, kwargs: Any) -> int:
    """Start a kernel thread; returns once it runs.

    Before that nobody sees it, and the scheduler of the caller might find that nothing can wake its threads.
    """
    running = _standard_lock()
    running.acquire()
    ident = _standard_start(_be, (running, function, args, kwargs))
    running.acquire()
    return ident


def _be(running: Any, function: Callable[..., object], args: Any, kwargs: Any) -> None:
    running.release()
    _run(function, args, kwargs)


def _start(scheduler: Scheduler, function: Any, args: Any, kwargs: Any) -> UserTask:
    task = scheduler.task_type(scheduler, partial(_run, function, args, kwargs), None, daemon=True)
    scheduler.add(task)
    return task


def _run(function: Callable[..., object], args: Any, kwargs: Any) -> None:
    try:
        function(*args, **kwargs)
    except (SystemExit, TaskExit):
        pass
    except BaseException as exc:
        _report(function, exc)


shield.passages.add(_run.__code__)


def _report(function: Callable[..., object], exc: BaseException) -> None:
    if sys.version_info >= (3, 13):
        message, what = f"Exception ignored in thread started by {function!r}", None
    else:
        message, what = "Exception ignored in thread started by", function
    make_args = _type_of_hook_args()
    hook = sys.unraisablehook
    try:
        hook(make_args((type(exc), exc, exc.__traceback__, message, what)))
    except BaseException as error:
        message = "Exception ignored in sys.unraisablehook"
        sys.__unraisablehook__(make_args((type(error), error, error.__traceback__, message, hook)))


@functools.cache
def _type_of_hook_args() -> Any:
    """The type of what `sys.unraisablehook` is called with. It has no public name, so we look at one."""

    class Bite(Exception):
        pass

    class Bait:
        def __del__(self) -> None:
            raise Bite

    def catch(args: Any) -> None:
        if args.exc_type is Bite:
            caught.append(type(args))
        else:
            hook(args)

    caught: list[Any] = []
    hook, sys.unraisablehook = sys.unraisablehook, catch
    try:
        Bait()
    finally:
        sys.unraisablehook = hook
    return caught[0]


def _count() -> int:
    """How many threads of both kinds are alive, not counting main ones, nor our workers: nobody has started those."""
    if control.active is not None and here.scheduler is not None and control.active.controls():
        control.active.step("enumerate", None)
        return len(here.scheduler.tasks) - 1
    count = _standard_count() - kernelpool.worker_count()
    for scheduler in list(fork.running.values()):
        count += sum(not task.done and task is not scheduler.main for task in list(scheduler.tasks))
    return count


if hasattr(_standard, "_ThreadHandle"):

    class _ThreadHandle:
        """What joins a thread that `start_joinable_thread` started."""

        def __init__(self) -> None:
            self._task: UserTask | None = None
            self._done = False

        @property
        def ident(self) -> int:
            """The thread's identifier, 0 before it was started."""
            return 0 if self._task is None else self._task.number

        def join(self, timeout: float | None = None, /) -> None:
            """Wait until the thread ends, or `timeout` seconds have passed."""
            task = self._task
            if task is None:
                if not self._done:
                    raise RuntimeError("thread not started")
                return
            if task is current_task() and not self._done:
                raise RuntimeError("Cannot join current thread")
            task.join(None if timeout is None or timeout < 0 else deadline_after(timeout))

        def is_done(self) -> bool:
            """Whether the thread has ended."""
            return self._done or (self._task is not None and self._task.done)

        def _set_done(self) -> None:
            if self._task is None and not self._done:
                raise RuntimeError("thread not started")
            self._done = True

        def __repr__(self) -> str:
            return f"<{type(self).__name__} object: ident={self.ident}>"

    _standard_start_joinable: Any = vars(_standard)["start_joinable_thread"]

    def start_joinable_thread(function: Callable[[], object], handle: Any = None, daemon: bool = True) -> Any:
        """Start a thread that calls `function()`; returns what joins it, `handle` or a new one. Does not switch."""
        scheduler = _scheduler()
        if scheduler is None:
            return _standard_start_joinable(function, handle, daemon)
        if not callable(function):
            raise TypeError("thread function must be callable")
        if handle is None:
            handle = _ThreadHandle()
        elif not isinstance(handle, _ThreadHandle):
            raise TypeError("'handle' must be a _ThreadHandle")
        if handle._task is not None or handle._done:
            raise RuntimeError("thread already started")
        task = scheduler.task_type(scheduler, partial(_run, function, (), {}), None, daemon)
        handle._task = task
        try:
            scheduler.add(task)
        except BaseException:
            handle._task = None
            raise
        return handle

    __all__ += ["start_joinable_thread"]

if hasattr(_standard, "_set_sentinel"):  # before Python 3.13

    def _set_sentinel() -> Lock:
        """A lock that is released, if it was acquired, when the calling thread ends."""
        sentinel = Lock()

        def release() -> None:
            if sentinel.locked():
                sentinel.release()

        task = current_task()
        if task.at_end is None:
            task.at_end = {}
        task.at_end[sentinel] = release
        return sentinel
