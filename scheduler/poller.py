"""Descriptors: who waits for which to be readable or writable, and asking the system about all of them at once.

A scheduler has a poller from the first time that one of its threads waits for a descriptor. From then on the root asks
it at every turn, and sleeps in it; programs that never wait for one pay nothing.

**Edge-triggered, registered once.** On Linux a descriptor is told to epoll once, for both directions, and stays until
it is closed: no system call for a wait, none for a wakeup. epoll then reports *changes*, so a thread must ask the
descriptor itself before it waits, and again when it is woken. That loses nothing: the thread that found nothing to
read, stood among the readers and parked has not left the scheduler's kernel thread meanwhile, and only the root, on
that same kernel thread, takes reports from epoll. A change after the thread asked is therefore reported after the
thread parked.

**A number is not a descriptor.** It is free for the next open as soon as it is closed, maybe by C code that tells
nobody. epoll knows files, not numbers alone: registering a number that our table has succeeds only if the file behind
it is another one. Then the record in the table is stale, and its waiters are told (`_Table.watch`). kqueue and select
don't tell; there a descriptor has to be closed through the library for its waiters to hear of it.

**Closing** unregisters first, and wakes all waiters with EBADF, from any kernel thread. Left to itself epoll forgets a
file when its *last* descriptor is closed; one that a child process shares would go on reporting under its old number.

Rejected: a registration for each wait, as gevent and asyncio have it: two system calls a wait. Rejected: level
triggers with one registration: a socket with unread bytes, or with room to write, would wake the root for ever.
"""

from __future__ import annotations

import errno
import math
import os
import select
import stat
from typing import TYPE_CHECKING, Any

from scheduler import control, shield
from scheduler.kernel import KernelTask, current_task
from scheduler.task import GONE, Task, UserTask, Wait, unpark_all

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Iterable

    from scheduler.loop import Scheduler
    from scheduler.task import Waiters

__all__ = [
    "READ",
    "WRITE",
    "Descriptor",
    "Poller",
    "any_ready",
    "block_for",
    "closing",
    "is_ready",
    "wait_for",
    "watch",
]

READ, WRITE = 1, 2

# As they were when this module was imported: a program may put others in their place.
_new_epoll: Any = getattr(select, "epoll", None)
_new_kqueue: Any = getattr(select, "kqueue", None)
_select = select.select
_read, _write = os.read, os.write

# Events at most from one call, of kqueue: more are reported by the next.
_MOST_EVENTS = 1024
# Seconds to sleep at the most: epoll counts milliseconds in 32 bits.
_LONGEST_SLEEP = 1e6
# How long a kernel thread blocks before it looks round; see `block_for`.
_SLICE = 0.25


class Descriptor:
    """What one poller knows of one open file.

    Touched on the scheduler's kernel thread alone, but for `close`.
    """

    __slots__ = ("closed", "fd", "hung", "poller", "readable", "readers", "ready", "writers")

    def __init__(self, fd: int, poller: Poller) -> None:
        self.fd = fd
        self.poller = poller
        # The ready queue of the scheduler, by which a thread recognises its own. None when the record is of no more
        # use: it is closed, this is the child of a fork, or the scheduler has ended.
        self.ready: deque[Task] | None = poller.scheduler.ready
        self.readers: Waiters = {}
        self.writers: Waiters = {}
        # False: whoever read last has left nothing, and no change was reported since. Set by the poller, cleared by
        # who reads; so to wait without asking first is safe.
        self.readable = True
        # The other side has hung up, or sent urgent data: then a short read may have left something.
        self.hung = False
        self.closed = False

    def wait(self, me: UserTask, waiters: Waiters, deadline: float | None) -> bool:
        """Park the calling thread until a change is reported; False if `deadline` passed first.

        `waiters` is one of `readers` and `writers`. OSError (EBADF) if the descriptor is closed meanwhile.
        """
        waiters[me] = None
        # `close` says so before it looks at the waiters; we stand there before we look.
        if self.closed and waiters.pop(me, GONE) is not GONE:
            raise _bad_descriptor()
        woken = me.park(waiters, self, deadline)
        if self.closed:
            raise _bad_descriptor()
        return woken

    def close(self) -> None:
        """Wake everybody who waits, with an error. From any kernel thread."""
        self.closed = True
        self.ready = None
        unpark_all(self.readers)
        unpark_all(self.writers)

    def waiting_for(self, task: Task) -> Wait:
        """See `scheduler.task.Waitable`."""
        return Wait(f"descriptor {self.fd}", wants="to write" if task in self.writers else "to read")


def _bad_descriptor() -> OSError:
    return OSError(errno.EBADF, os.strerror(errno.EBADF))


# ---- What the system offers ------------------------------------------------------------------------------------------

# Reports, in the system's own bits where it has any. HUNG comes with READ or WRITE, never alone.
_Report = tuple[int, int]


class _Epoll:
    """Linux."""

    _EVENTS: int = 0
    if hasattr(select, "epoll"):
        _EVENTS = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLPRI | select.EPOLLET
        # Errors and hangups wake both sides: what they try next tells them.
        READS = select.EPOLLIN | select.EPOLLPRI | select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
        WRITES = select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR
        HUNG = select.EPOLLPRI | select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR

    def __init__(self) -> None:
        self._epoll = _new_epoll()
        # Edge-triggered, so it need not be read: every write is a change.
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._bell, select.EPOLLIN | select.EPOLLET)
        self.forget = self._epoll.unregister
        # At most 1,023 at a time: more are reported by the next call.
        self.reports: Callable[[float | None], list[_Report]] = self._epoll.poll

    def add(self, fd: int) -> bool:
        """Register; False if this very file is registered under this number. PermissionError if it is always ready."""
        try:
            self._epoll.register(fd, self._EVENTS)
        except FileExistsError:
            return False
        return True

    def report_again(self, fd: int) -> bool:
        """Have the present state reported as a change; False if this file is not registered under this number."""
        try:
            self._epoll.modify(fd, self._EVENTS)
        except FileNotFoundError:
            return False
        return True

    def ring(self) -> None:
        os.eventfd_write(self._bell, 1)

    def close(self) -> None:
        self._epoll.close()
        os.close(self._bell)


class _Pipe:
    """A bell for those that have no eventfd."""

    def __init__(self) -> None:
        self.listens, self._rings = os.pipe()
        os.set_blocking(self.listens, False)
        os.set_blocking(self._rings, False)

    def ring(self) -> None:
        try:
            _write(self._rings, b"!")
        except BlockingIOError:
            pass  # Full: it rings already.

    def hear(self) -> None:
        try:
            while _read(self.listens, 4096):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        os.close(self.listens)
        os.close(self._rings)


class _Kqueue:
    """macOS and the BSDs. EV_CLEAR makes a filter edge-triggered."""

    READS, WRITES, HUNG = 1, 2, 4

    def __init__(self, descriptors: dict[int, Descriptor]) -> None:
        self._descriptors = descriptors
        self._queue = _new_kqueue()
        self._pipe = _Pipe()
        self.ring = self._pipe.ring
        self._change(self._pipe.listens, select.KQ_FILTER_READ, select.KQ_EV_ADD)  # type: ignore[attr-defined,unused-ignore]

    def _change(self, fd: int, filter: int, flags: int) -> None:
        event = select.kevent(fd, filter, flags)  # type: ignore[attr-defined,unused-ignore]
        self._queue.control([event], 0, 0)

    def _change_both(self, fd: int, flags: int) -> None:
        """OSError if neither filter can be changed: one end of a pipe may know one of them only."""
        first: OSError | None = None
        for filter in (select.KQ_FILTER_READ, select.KQ_FILTER_WRITE):  # type: ignore[attr-defined,unused-ignore]
            try:
                self._change(fd, filter, flags)
            except OSError as error:
                if first is not None:
                    raise first from None
                first = error

    def add(self, fd: int) -> bool:
        if stat.S_ISREG(os.fstat(fd).st_mode):
            # Reported as readable before its end only.
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        self._change_both(fd, select.KQ_EV_ADD | select.KQ_EV_CLEAR)  # type: ignore[attr-defined,unused-ignore]
        return fd not in self._descriptors

    def report_again(self, fd: int) -> bool:
        # Adding it again evaluates the filters again.
        self.add(fd)
        return True

    def forget(self, fd: int) -> None:
        self._change_both(fd, select.KQ_EV_DELETE)  # type: ignore[attr-defined,unused-ignore]

    def reports(self, timeout: float | None) -> list[_Report]:
        reports = []
        for event in self._queue.control(None, _MOST_EVENTS, timeout):
            if event.ident == self._pipe.listens:
                self._pipe.hear()
                continue
            # Nothing tells of urgent data, so no short read is to count as one that has left nothing.
            mask = 5 if event.filter == select.KQ_FILTER_READ else 2  # type: ignore[attr-defined,unused-ignore]
            if event.flags & select.KQ_EV_EOF:  # type: ignore[attr-defined,unused-ignore]
                mask = 7
            reports.append((event.ident, mask))
        return reports

    def close(self) -> None:
        try:
            self._queue.close()
        except OSError:
            pass  # In the child of a fork, which does not inherit it.
        self._pipe.close()


class _Select:
    """Anywhere else. It is asked about those that somebody waits for, each time anew."""

    READS, WRITES, HUNG = 1, 2, 4

    def __init__(self, descriptors: dict[int, Descriptor]) -> None:
        self._descriptors = descriptors
        self._pipe = _Pipe()
        self.ring = self._pipe.ring

    def add(self, fd: int) -> bool:
        os.fstat(fd)  # It complains where select might not: Linux leaves out numbers beyond its table.
        _select([fd], [], [], 0)
        return fd not in self._descriptors

    def report_again(self, fd: int) -> bool:
        return True

    def forget(self, fd: int) -> None:
        pass

    def reports(self, timeout: float | None) -> list[_Report]:
        everybody = list(self._descriptors.values())
        read = [each.fd for each in everybody if each.readers]
        write = [each.fd for each in everybody if each.writers]
        try:
            can_read, can_write, _ = _select([self._pipe.listens, *read], write, [], timeout)
        except (OSError, ValueError):
            # One of them was closed behind our back: whoever waits shall try, and be told.
            return [(fd, 7) for fd in {*read, *write} if not _is_open(fd)]
        if self._pipe.listens in can_read:
            can_read.remove(self._pipe.listens)
            self._pipe.hear()
        return [*((fd, 1) for fd in can_read), *((fd, 2) for fd in can_write)]

    def close(self) -> None:
        self._pipe.close()


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


# ---- The poller ------------------------------------------------------------------------------------------------------


# What a poller asks, unless it is told.
SYSTEM = next((name for name in ("epoll", "kqueue") if hasattr(select, name)), "select")


class Poller:
    """The descriptors of one scheduler."""

    def __init__(self, scheduler: Scheduler, system: str | None = None) -> None:
        self.scheduler = scheduler
        self._descriptors: dict[int, Descriptor] = {}
        # One that a thread was found waiting for: see `anybody_waits`.
        self._awaited: Descriptor | None = None
        self._system: Any
        system = system or SYSTEM
        if system == "epoll":
            self._system = _Epoll()
        elif system == "kqueue":
            self._system = _Kqueue(self._descriptors)
        else:
            self._system = _Select(self._descriptors)
        self.ring = self._system.ring
        self._bits: tuple[int, int, int] = self._system.READS, self._system.WRITES, self._system.HUNG
        # Reports that were taken from the system, while they are being passed on.
        self._reports: list[_Report] = []
        pollers[self] = None

    def watch(self, fd: int) -> Descriptor:
        """The record of the file that is open as `fd`. OSError if there is none; PermissionError if it can't be
        waited for, because it is always ready.
        """
        known = self._descriptors.get(fd)
        try:
            if not self._system.add(fd) and known is not None:
                return known
        except OSError:
            self.forget(fd)
            raise
        if known is not None:
            known.close()  # Closed behind our back: the number has another file.
        self._descriptors[fd] = descriptor = Descriptor(fd, self)
        return descriptor

    def arm(self, fd: int) -> Descriptor:
        """`watch`, and have the present state reported as a change: for who does not ask the descriptor first."""
        known = self._descriptors.get(fd)
        if known is not None and self._reports_again(fd):
            return known
        descriptor = self.watch(fd)
        if descriptor is known:
            self._system.report_again(fd)
        return descriptor

    def _reports_again(self, fd: int) -> bool:
        try:
            return bool(self._system.report_again(fd))
        except OSError:
            self.forget(fd)
            raise

    def forget(self, fd: int) -> None:
        """`fd` is about to be closed. From any kernel thread."""
        descriptor = self._descriptors.pop(fd, None)
        if descriptor is not None:
            try:
                self._system.forget(fd)
            except OSError:
                pass  # It was closed behind our back.
            descriptor.close()

    def poll(self, timeout: float | None) -> bool:
        """Wait up to `timeout` seconds (None: without limit) for changes, or a ring; make ready who waited for them.

        Whether anything was reported. On the root only.
        """
        # A signal handler may raise while we pass reports on. Kept until all are through, and passed on again from the
        # start: to be woken for nothing does no harm.
        if timeout is not None and timeout > _LONGEST_SLEEP:
            timeout = _LONGEST_SLEEP
        reports = self._reports or self._system.reports(timeout)
        self._reports = reports
        get, append = self._descriptors.get, self.scheduler.ready.append
        reads, writes, hung = self._bits
        for fd, mask in reports:
            descriptor = get(fd)
            if descriptor is None:
                continue  # The bell, or one that was closed in the meantime.
            if mask & reads:
                descriptor.readable = True
                if mask & hung:
                    descriptor.hung = True
                readers = descriptor.readers
                if readers:
                    for waiter in list(readers):
                        if readers.pop(waiter, GONE) is not GONE:
                            append(waiter)
            if mask & writes and descriptor.writers:
                writers = descriptor.writers
                for waiter in list(writers):
                    if writers.pop(waiter, GONE) is not GONE:
                        append(waiter)
        self._reports = []
        return bool(reports)

    def anybody_waits(self) -> bool:
        """Whether a thread is parked here: then somebody outside may wake it.

        Looked for when the scheduler is about to sleep, not counted at each wait. The one that was found last is most
        likely still awaited; else all are looked at, and where that is for nothing nobody is served meanwhile.
        """
        found = self._awaited
        if found is not None and (found.readers or found.writers):
            return True
        for descriptor in list(self._descriptors.values()):
            if descriptor.readers or descriptor.writers:
                self._awaited = descriptor
                return True
        self._awaited = None
        return False

    def close(self) -> None:
        """Let go of everything. Also in the child of a fork, whose copy it is: the parent's stays as it is."""
        pollers.pop(self, None)
        # Who holds one of them must ask for a new one.
        for descriptor in list(self._descriptors.values()):
            descriptor.ready = None
        self._descriptors.clear()
        self._system.close()


# Of all schedulers. A dict for its atomic operations.
pollers: dict[Poller, None] = {}


def closing(fd: int) -> None:
    """To be called before `fd` is closed: wakes whoever waits for it, in any scheduler, with OSError (EBADF)."""
    for poller in list(pollers):
        poller.forget(fd)


def watch(me: UserTask, fd: int) -> Descriptor:
    """The record of an open file for the calling user thread's scheduler. Errors as `Poller.watch`."""
    return me.scheduler.poller_of_descriptors().watch(fd)


def wait_for(fd: int, events: int, deadline: float | None = None) -> bool:
    """Wait until `fd` is ready for `events`, READ or WRITE; False if `deadline` (on the caller's clock) passed first.

    A user thread parks, a kernel thread blocks. Whatever state `fd` is in already counts. May return True too early,
    so look again. At once for what can't be waited for (a file on a disk). OSError (EBADF) if it is not open, or is
    closed meanwhile.
    """
    me = current_task()
    if not isinstance(me, UserTask) or me.ready is None:
        return block_for(me, lambda: fd, events, deadline)
    try:
        descriptor = me.scheduler.poller_of_descriptors().arm(fd)
    except PermissionError:
        return True
    return descriptor.wait(me, descriptor.readers if events == READ else descriptor.writers, deadline)


def block_for(me: Task, fileno: Callable[[], int], events: int, deadline: float | None) -> bool:
    """`wait_for`, in a kernel thread. `fileno` says -1 once the descriptor is closed.

    The system tells nobody who is blocked that a descriptor was closed by another thread, nor can an interrupt get in;
    so the wait is cut into slices, and both are noticed at the end of one.
    """
    if not isinstance(me, KernelTask) and me.ready is None:
        if control.active is not None and control.active.controls():
            return control.active.until_ready(fileno, events, deadline)
        me.park(None, "a descriptor")  # The scheduler itself, which refuses.
    while True:
        left = None if deadline is None else deadline - me.now()
        if left is not None and left <= 0:
            left = 0.0
        fd = fileno()
        if fd < 0:
            raise _bad_descriptor()
        if any_ready(((fd, events),), _SLICE if left is None else min(left, _SLICE)):
            return True
        if left == 0.0:
            return False


if hasattr(select, "poll"):
    _new_poll = select.poll
    _BITS = {READ: select.POLLIN | select.POLLPRI, WRITE: select.POLLOUT}
    _POLLNVAL = select.POLLNVAL

    def any_ready(wanted: Iterable[tuple[int, int]], timeout: float) -> bool:
        """Block until a descriptor is ready for READ or WRITE; False after `timeout` seconds. OSError (EBADF)."""
        poll = _new_poll()
        for fd, events in wanted:
            poll.register(fd, _BITS[events])
        # Rounded up: not early by part of a millisecond, which would be a busy wait.
        found = poll.poll(math.ceil(timeout * 1000))
        if any(bits & _POLLNVAL for _fd, bits in found):
            raise _bad_descriptor()
        return bool(found)

else:

    def any_ready(wanted: Iterable[tuple[int, int]], timeout: float) -> bool:
        """Block until a descriptor is ready for READ or WRITE; False after `timeout` seconds. OSError (EBADF)."""
        read = [fd for fd, events in wanted if events == READ]
        write = [fd for fd, events in wanted if events == WRITE]
        return any(_select(read, write, write, timeout))


# It has nothing half done, and waits for longer than who interrupts could watch for its end.
shield.passages.add(any_ready.__code__)


def is_ready(fd: int, events: int) -> bool:
    """Whether `fd` is ready for `events`, READ or WRITE, now. OSError (EBADF) if it is not open."""
    return any_ready(((fd, events),), 0)
