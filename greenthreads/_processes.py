"""What `multiprocessing` gets while it is patched: semaphores and pipes that keep no other user thread from running.

A semaphore of the system's is waited for inside C, and nothing but that reports that it is free. So a user thread
tries, and sleeps between its tries, longer each time. (A kernel thread that waits in its place could not be told to
give up: it would take the semaphore later, for nobody.)

A recursive one belongs to a kernel thread, as C sees it. Which of that one's user threads has it is kept here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from greenthreads import os as _os
from scheduler.functions import sleep
from scheduler.kernel import current_task
from scheduler.poller import READ, WRITE, wait_for
from scheduler.task import Task, UserTask

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["Semaphore", "enter", "leave", "make_methods", "with_our_calls"]

_RECURSIVE = 0
# Seconds between two tries: the first, and the most.
_FIRST_PAUSE = 0.0005
_LONGEST_PAUSE = 0.05


class Semaphore:
    """Acquires and releases a semaphore of the system's, for user threads too."""

    __slots__ = ("_holder", "_inner")

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        # Of a recursive one: the user thread that has it.
        self._holder: Task | None = None

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """As the standard method. A user thread parks."""
        me = current_task()
        if not isinstance(me, UserTask):
            return bool(self._inner.acquire(block, timeout))
        deadline = None if timeout is None else me.now() + timeout
        pause = _FIRST_PAUSE
        while not self._try(me):
            left = pause if deadline is None else deadline - me.now()
            if not block or left <= 0:
                return False
            sleep(min(pause, left))
            pause = min(2 * pause, _LONGEST_PAUSE)
        return True

    def _try(self, me: Task) -> bool:
        inner = self._inner
        recursive = inner.kind == _RECURSIVE
        if recursive and self._holder is not me and inner._is_mine():
            return False
        if not inner.acquire(False):
            return False
        if recursive:
            self._holder = me
        return True

    def release(self) -> None:
        """As the standard method."""
        inner = self._inner
        if inner.kind == _RECURSIVE and self._holder not in (None, current_task()):
            raise AssertionError("attempt to release recursive lock not owned by thread")
        inner.release()
        if not inner._count():
            self._holder = None


def make_methods(self: Any) -> None:
    """`SemLock._make_methods`."""
    semaphore = Semaphore(self._semlock)
    self.acquire = semaphore.acquire
    self.release = semaphore.release


def enter(self: Any) -> bool:
    """`SemLock.__enter__`."""
    return self.acquire()  # type: ignore[no-any-return]


def leave(self: Any, kind: type | None, value: BaseException | None, traceback: TracebackType | None) -> None:
    """`SemLock.__exit__`."""
    self.release()


def _patient(call: Callable[..., Any], events: int) -> Callable[[int, Any], Any]:
    """`call`, which waits also where the descriptor is one that does not block: that of a socket of ours may be."""

    def patient(fd: int, what: Any) -> Any:
        while True:
            try:
                return call(fd, what)
            except BlockingIOError:
                pass
            wait_for(fd, events)

    return patient


read, write = _patient(_os.read, READ), _patient(_os.write, WRITE)


def with_our_calls(connection: Any) -> dict[str, Any]:
    """The two functions of `Connection` that call the system, with our calls in place of those they hold."""

    def _send(self: Any, buf: Any, write: Any = write) -> None:
        standard_send(self, buf, write)

    def _recv(self: Any, size: int, read: Any = read) -> Any:
        return standard_receive(self, size, read)

    standard_send, standard_receive = connection._send, connection._recv
    return {"Connection._send": _send, "Connection._recv": _recv}
