"""`select`, for threads of both kinds: a user thread that waits for many descriptors at once parks.

The system's own objects do the work, and are asked without waiting. To wait, all the descriptors are put into an epoll
of their own for the time, and the thread waits for that: an epoll is itself a descriptor, readable when one of its own
is ready. (Elsewhere than on Linux the call is made in a kernel thread.)

**A call that finds something ready gives way first**: a loop around `select` with a busy descriptor would otherwise
keep all others waiting.

While an event loop of asyncio's waits here it is not running, as asyncio sees it: see `_running_loop`.

What is not defined here is the standard module's.
"""

from __future__ import annotations

import math
import select as _standard
from typing import TYPE_CHECKING, Any

from greenthreads._running_loop import set_aside
from greenthreads.kernelpool import run_in_kernel_thread
from scheduler import control
from scheduler.functions import yield_now
from scheduler.kernel import current_task
from scheduler.outside import announce
from scheduler.poller import READ, closing, wait_for
from scheduler.task import UserTask

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [name for name in dir(_standard) if not name.startswith("_")]

for _name in __all__:
    globals().setdefault(_name, getattr(_standard, _name))
del _name

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...


_select = _standard.select
_new_poll: Any = getattr(_standard, "poll", None)
_new_epoll: Any = getattr(_standard, "epoll", None)
_new_kqueue: Any = getattr(_standard, "kqueue", None)

# The bits of poll are those of epoll, but for POLLNVAL.
_EPOLL_BITS = 0x201F


def _give_way() -> None:
    """Let others run."""
    put_back = set_aside()
    try:
        if control.active is not None:
            announce("poll")
        else:
            yield_now()
    finally:
        if put_back is not None:
            put_back()


def _wait(fd: int, deadline: float | None) -> bool:
    """Wait until `fd` is readable; False if `deadline` passed first."""
    put_back = set_aside()
    try:
        return wait_for(fd, READ, deadline)
    finally:
        if put_back is not None:
            put_back()


def _until_ready(ask: Callable[[], Any], seconds: float | None, descriptors: Callable[[], dict[int, int]]) -> Any:
    """Ask until the answer is not empty, or `seconds` have passed; wait for `descriptors` (number: epoll's bits)."""
    _give_way()
    found = ask()
    if found or (seconds is not None and seconds <= 0):
        return found
    deadline = None if seconds is None else current_task().now() + seconds
    watched = _new_epoll()
    try:
        for fd, bits in descriptors().items():
            watched.register(fd, bits)
        while not found and _wait(watched.fileno(), deadline):
            found = ask()
    finally:
        closing(watched.fileno())
        watched.close()
    return found


def _fileno(each: Any) -> int:
    return each if isinstance(each, int) else each.fileno()


def select(rlist: Any, wlist: Any, xlist: Any, timeout: float | None = None, /) -> tuple[list[Any], ...]:
    """As the standard function."""
    if not isinstance(current_task(), UserTask):
        return _select(rlist, wlist, xlist, timeout)
    if timeout is not None:
        _check(timeout)
    if _new_epoll is None:
        return run_in_kernel_thread(_select, rlist, wlist, xlist, timeout)
    try:
        # What can be gone through once only becomes a list.
        lists = [each if isinstance(each, (list, tuple, set, dict)) else list(each) for each in (rlist, wlist, xlist)]
    except TypeError:
        return _select(rlist, wlist, xlist, 0)  # It says what is wrong.

    def ask() -> Any:
        found = _select(lists[0], lists[1], lists[2], 0)
        return found if any(found) else ()

    def descriptors() -> dict[int, int]:
        bits: dict[int, int] = {}
        for each, bit in zip(lists, (_standard.EPOLLIN, _standard.EPOLLOUT, _standard.EPOLLPRI), strict=True):
            for thing in each:
                fd = _fileno(thing)
                bits[fd] = bits.get(fd, 0) | bit
        return bits

    return _until_ready(ask, timeout, descriptors) or ([], [], [])


def _check(timeout: float) -> None:
    """Let the standard function complain of what it would complain of."""
    if not isinstance(timeout, (int, float)) or not timeout >= 0:
        _select([], [], [], timeout)


if _new_poll is not None:

    class _Poll:
        """What `poll()` returns; as the standard object."""

        def __init__(self) -> None:
            self._poll = _new_poll()
            self._registered: dict[int, int] = {}
            self._polling = False
            self._most = _standard.POLLIN | _standard.POLLPRI | _standard.POLLOUT

        def register(self, fd: Any, eventmask: int | None = None, /) -> None:
            """As the standard method."""
            mask = self._most if eventmask is None else eventmask
            self._poll.register(fd, mask)
            self._registered[_fileno(fd)] = mask

        def modify(self, fd: Any, eventmask: int, /) -> None:
            """As the standard method."""
            self._poll.modify(fd, eventmask)
            self._registered[_fileno(fd)] = eventmask

        def unregister(self, fd: Any, /) -> None:
            """As the standard method."""
            self._poll.unregister(fd)
            del self._registered[_fileno(fd)]

        def poll(self, timeout: float | None = None, /) -> list[tuple[int, int]]:
            """As the standard method: `timeout` is in milliseconds; None, and below 0, is without limit."""
            if not isinstance(current_task(), UserTask):
                return self._poll.poll(timeout)  # type: ignore[no-any-return]
            if self._polling:
                raise RuntimeError("concurrent poll() invocation")
            if timeout is not None and (not isinstance(timeout, (int, float)) or timeout >= 2**31):
                return self._poll.poll(timeout)  # type: ignore[no-any-return]
            seconds = None if timeout is None or timeout < 0 else math.ceil(timeout) / 1000
            self._polling = True
            try:
                if _new_epoll is None:
                    return run_in_kernel_thread(self._poll.poll, timeout)
                return _until_ready(lambda: self._poll.poll(0), seconds, self._bits)  # type: ignore[no-any-return]
            finally:
                self._polling = False

        def _bits(self) -> dict[int, int]:
            return {fd: mask & _EPOLL_BITS for fd, mask in self._registered.items()}

    def poll() -> Any:
        """As the standard function."""
        return _Poll()


if _new_epoll is not None:

    class epoll:
        """As the standard class."""

        def __init__(self, sizehint: int = -1, flags: int = 0, *, _epoll: Any = None) -> None:
            self._epoll = _new_epoll(sizehint, flags) if _epoll is None else _epoll
            # The standard object's own methods: none of them waits.
            self.register = self._epoll.register
            self.modify = self._epoll.modify
            self.unregister = self._epoll.unregister
            self.fileno = self._epoll.fileno

        @classmethod
        def fromfd(cls, fd: int, /) -> epoll:
            """As the standard method."""
            return cls(_epoll=_new_epoll.fromfd(fd))

        @property
        def closed(self) -> bool:
            """Whether it is closed."""
            return self._epoll.closed  # type: ignore[no-any-return]

        def close(self) -> None:
            """As the standard method."""
            if not self._epoll.closed:
                closing(self._epoll.fileno())
            self._epoll.close()

        def __enter__(self) -> epoll:
            self._epoll.__enter__()
            return self

        def __exit__(self, *args: Any) -> None:
            self.close()

        def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
            """As the standard method: `timeout` is in seconds; None, and below 0, is without limit."""
            if not isinstance(current_task(), UserTask):
                return self._epoll.poll(timeout, maxevents)  # type: ignore[no-any-return]
            _give_way()
            found: list[tuple[int, int]] = self._epoll.poll(0, maxevents)
            if found or timeout == 0:
                return found
            if timeout is not None and (not isinstance(timeout, (int, float)) or timeout != timeout):
                return self._epoll.poll(timeout, maxevents)  # type: ignore[no-any-return]
            deadline = None if timeout is None or timeout < 0 else current_task().now() + timeout
            while not found and _wait(self._epoll.fileno(), deadline):
                found = self._epoll.poll(0, maxevents)
            return found


if _new_kqueue is not None:

    class kqueue:
        """As the standard class."""

        def __init__(self, *, _kqueue: Any = None) -> None:
            self._kqueue = _new_kqueue() if _kqueue is None else _kqueue
            self.fileno = self._kqueue.fileno

        @classmethod
        def fromfd(cls, fd: int, /) -> kqueue:
            """As the standard method."""
            return cls(_kqueue=_new_kqueue.fromfd(fd))

        @property
        def closed(self) -> bool:
            """Whether it is closed."""
            return self._kqueue.closed  # type: ignore[no-any-return]

        def close(self) -> None:
            """As the standard method."""
            if not self._kqueue.closed:
                closing(self._kqueue.fileno())
            self._kqueue.close()

        def control(self, changelist: Any, max_events: int, timeout: float | None = None, /) -> Any:
            """As the standard method."""
            if not isinstance(current_task(), UserTask) or not max_events:
                return self._kqueue.control(changelist, max_events, timeout)
            if timeout is not None and (not isinstance(timeout, (int, float)) or not timeout >= 0):
                return self._kqueue.control(changelist, max_events, timeout)  # It complains.
            _give_way()
            found = self._kqueue.control(changelist, max_events, 0)
            deadline = None if timeout is None else current_task().now() + timeout
            while not found and timeout != 0 and _wait(self._kqueue.fileno(), deadline):
                found = self._kqueue.control(None, max_events, 0)
            return found


