"""asyncio beside user threads, in both directions.

`run_coroutine` runs a coroutine from a user thread, which parks until it has a result. The event loop is one for the
process, in a kernel thread of its own, so coroutines of many user threads run there at once, and share what belongs to
an event loop: sessions, pools of connections.

`run` is `asyncio.run` inside a user thread: the event loop waits by our `selectors`, so other user threads run while
it has nothing to do, and several of them may run a loop each. (In a patched program `asyncio.run` itself does.)
"""

from __future__ import annotations

import asyncio
import os
import sys
from _thread import allocate_lock, start_new_thread
from typing import TYPE_CHECKING, Any, TypeVar

from greenthreads import selectors
from scheduler import deadlock
from scheduler.kernel import current_task
from scheduler.task import GONE, Task, Wait, unpark_all

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from scheduler.task import Waiters

__all__ = ["EventLoop", "run", "run_coroutine"]

T = TypeVar("T")


class _Loop:
    """The process's event loop in the background, started at the first use."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def get(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                start_new_thread(self._run, (self._loop,))
            return self._loop

    @staticmethod
    def _run(loop: asyncio.AbstractEventLoop) -> None:
        # What it wakes it wakes for a call that is counted; of itself it wakes nobody.
        from _thread import get_ident

        deadlock.idle_workers[get_ident()] = None
        asyncio.set_event_loop(loop)
        loop.run_forever()


_background = _Loop()


class _Call:
    """One coroutine, and the thread that waits for it."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.coroutine = coroutine
        self.task: asyncio.Task[Any] | None = None
        self.cancelled = False
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.waiters: Waiters = {}

    def start(self) -> None:
        """On the event loop."""
        if self.cancelled:
            self.coroutine.close()
            self.finish(None)
            return
        self.task = asyncio.ensure_future(self.coroutine)
        self.task.add_done_callback(self.finish)

    def finish(self, task: asyncio.Task[Any] | None) -> None:
        """On the event loop."""
        if task is None or task.cancelled():
            self.error = asyncio.CancelledError()
        elif task.exception() is not None:
            self.error = task.exception()
        else:
            self.result = task.result()
        # Done first, the waiter second; the waiter stands there first and looks at done second.
        self.done = True
        unpark_all(self.waiters)
        deadlock.unfinished_calls.pop(self, None)

    def cancel(self) -> None:
        """On the event loop."""
        self.cancelled = True
        if self.task is not None:
            self.task.cancel()

    def wait(self) -> None:
        me = current_task()
        while not self.done:
            self.waiters[me] = None
            if not self.done or self.waiters.pop(me, GONE) is GONE:
                me.park(self.waiters, self)

    def waiting_for(self, task: Task) -> Wait:
        """See `scheduler.task.Waitable`."""
        return Wait("a coroutine")


def run_coroutine(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run `coroutine` on the process's event loop; return what it returns, raise what it raises.

    Blocks the calling thread: a user thread parks, a kernel thread blocks. An interrupt of the thread cancels the
    coroutine, and is raised once that has ended. RuntimeError on the event loop itself.
    """
    if not asyncio.iscoroutine(coroutine):
        raise TypeError(f"a coroutine was expected, got {coroutine!r}")
    if asyncio._get_running_loop() is _background._loop is not None:
        coroutine.close()
        raise RuntimeError("run_coroutine() cannot be called from a coroutine that it runs: await it")
    loop = _background.get()
    call = _Call(coroutine)
    deadlock.unfinished_calls[call] = None
    loop.call_soon_threadsafe(call.start)
    try:
        call.wait()
    except BaseException:
        loop.call_soon_threadsafe(call.cancel)
        call.wait()
        raise
    if call.error is not None:
        try:
            raise call.error
        finally:
            call.error = None
    return call.result  # type: ignore[no-any-return]


class EventLoop(asyncio.SelectorEventLoop):
    """An event loop that lets other user threads run while it waits."""

    def __init__(self) -> None:
        super().__init__(selectors.DefaultSelector())


def run(main: Coroutine[Any, Any, T], *, debug: bool | None = None) -> T:
    """`asyncio.run(main)`, in a user thread: others run while the event loop waits. In a kernel thread it just runs."""
    if sys.version_info >= (3, 11):
        with asyncio.Runner(debug=debug, loop_factory=EventLoop) as runner:
            return runner.run(main)
    return _run_before_runners(main, debug)


def _run_before_runners(main: Coroutine[Any, Any, T], debug: bool | None) -> T:
    """Before Python 3.11."""
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("asyncio.run() cannot be called from a running event loop")
    loop = EventLoop()
    try:
        if debug is not None:
            loop.set_debug(debug)
        return loop.run_until_complete(main)
    finally:
        try:
            for task in (left := asyncio.all_tasks(loop)):
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            loop.close()


def _after_fork() -> None:
    global _background
    _background = _Loop()  # Its kernel thread stayed in the parent.


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
