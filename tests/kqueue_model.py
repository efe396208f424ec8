"""A model of the BSDs' kqueue for the poller's tests, where there is none: over Linux's epoll, as the manual has it.

What the poller leans on, and where the two differ:

- A knote belongs to a number *and* a filter. Closing that number removes it, also while another descriptor of the same
  file is open; epoll watches files. Whether a number still has the file that it had is looked at when it is reported.
- EV_ADD of a knote that is there evaluates it again: what is ready is reported once more.
- EV_CLEAR: reported once, and again after the next change.
- EV_EOF: the other side has closed. A socket that is not connected is not writable, nor hung up.
- EV_DELETE of a knote that is not there is ENOENT, as is an end of a pipe for the other direction EINVAL.
- A file on a disk is readable while there is something behind its position: never, at its end.
- Without room for events, what is wrong with a change is raised.
- A child of a fork does not inherit it: the number is free there, and closing it is EBADF.
- Another kernel thread may close a number at any moment, also while events are collected: then it has none any more.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from scheduler import poller

__all__ = ["SYSTEMS", "kevent", "kqueue", "offer"]

FILTER_READ, FILTER_WRITE = -1, -2
EV_ADD, EV_DELETE, EV_CLEAR, EV_EOF = 0x1, 0x2, 0x20, 0x8000


class kevent(NamedTuple):
    """One change, or one event."""

    ident: int
    filter: int = FILTER_READ
    flags: int = EV_ADD
    fflags: int = 0
    data: int = 0
    udata: int = 0


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def _file_behind(fd: int) -> tuple[int, int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino, found.st_mode


class kqueue:
    """As `select.kqueue`, as far as the poller and `greenthreads.select` use it."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._epolls = {FILTER_READ: select.epoll(), FILTER_WRITE: select.epoll()}
        self._all = select.epoll()
        for each in self._epolls.values():
            self._all.register(each.fileno(), select.EPOLLIN)
        # The file that each knote is about.
        self._knotes: dict[tuple[int, int], tuple[int, int, int]] = {}

    @property
    def closed(self) -> bool:
        return self._all.closed

    def fileno(self) -> int:
        return self._all.fileno()

    def close(self) -> None:
        inherited = os.getpid() != self._pid
        for each in (self._all, *self._epolls.values()):
            each.close()
        if inherited:
            raise _error(errno.EBADF)

    def control(self, changes: Any, most: int, timeout: float | None = None, /) -> list[kevent]:
        if os.getpid() != self._pid:
            raise _error(errno.EBADF)
        if timeout is not None and timeout < 0:
            raise ValueError(f"timeout must be positive or None, got {timeout}")
        for change in changes or ():
            self._change(*change[:3])
        deadline = None if timeout is None else time.monotonic() + timeout
        while most:
            if found := self._collect(most):
                return found
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                break
            self._all.poll(left)
        return []

    def _change(self, fd: int, filter: int, flags: int) -> None:
        epoll, knote = self._epolls[filter], (fd, filter)
        file = _file_behind(fd) if flags & EV_ADD else None
        before = self._knotes.get(knote)
        if file is None:
            if before is None or self._file_of(knote) is None:
                raise _error(errno.ENOENT)
            del self._knotes[knote]
            _forget(epoll, fd)
            return
        import fcntl  # Not on Windows, where this is not called.

        mode = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
        if stat.S_ISFIFO(file[2]) and mode == (os.O_RDONLY if filter == FILTER_WRITE else os.O_WRONLY):
            raise _error(errno.EINVAL)
        bits = select.EPOLLIN | select.EPOLLRDHUP if filter == FILTER_READ else select.EPOLLOUT
        if flags & EV_CLEAR:
            bits |= select.EPOLLET
        self._knotes[knote] = file
        if stat.S_ISREG(file[2]):
            return
        try:
            epoll.register(fd, bits)
        except FileExistsError:
            epoll.modify(fd, bits)

    def _file_of(self, knote: tuple[int, int]) -> tuple[int, int, int] | None:
        """The file that it is about, if its number still has it; if not, it went when that was closed."""
        fd, filter = knote
        try:
            file = _file_behind(fd)
            if self._knotes.get(knote) == file:
                return file
        except OSError:
            pass
        self._knotes.pop(knote, None)
        _forget(self._epolls[filter], fd)
        return None

    def _collect(self, most: int) -> list[kevent]:
        found = []
        for filter, epoll in self._epolls.items():
            if most <= len(found):
                break
            for fd, bits in epoll.poll(0, most - len(found)):
                file = self._file_of((fd, filter))
                # What is asked of the number from here on it may have lost.
                if file is None or _is_unconnected(fd, file, bits):
                    continue
                hung = select.EPOLLHUP | select.EPOLLERR | (select.EPOLLRDHUP if filter == FILTER_READ else 0)
                found.append(kevent(fd, filter, EV_CLEAR | (EV_EOF if bits & hung else 0)))
        return found


def _forget(epoll: Any, fd: int) -> None:
    try:
        epoll.unregister(fd)
    except OSError:
        pass  # Closed, or never registered: a file on a disk.


def _is_unconnected(fd: int, file: tuple[int, int, int], bits: int) -> bool:
    """Whether it is a stream socket before its connection, or while it listens: epoll calls that hung up.

    So is one that is closed by now: it is not to be reported either.
    """
    if not bits & select.EPOLLHUP or bits & select.EPOLLERR or not stat.S_ISSOCK(file[2]):
        return False
    poll = select.poll()
    poll.register(fd, select.POLLIN | select.POLLRDHUP)
    return not any(now & (select.POLLIN | select.POLLRDHUP | select.POLLERR) for _fd, now in poll.poll(0))


# What a poller may ask here. The model stands in where there is no kqueue.
SYSTEMS = [name for name in ("epoll", "kqueue", "select") if hasattr(select, name)]
if "kqueue" not in SYSTEMS and "epoll" in SYSTEMS:
    SYSTEMS.append("model of kqueue")


def offer(system: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have the poller find this one of `SYSTEMS`; returns the name that it goes by there."""
    if system != "model of kqueue":
        return system
    monkeypatch.setattr(poller, "_new_kqueue", kqueue)
    names = {
        "kevent": kevent, "KQ_FILTER_READ": FILTER_READ, "KQ_FILTER_WRITE": FILTER_WRITE, "KQ_EV_ADD": EV_ADD,
        "KQ_EV_DELETE": EV_DELETE, "KQ_EV_CLEAR": EV_CLEAR, "KQ_EV_EOF": EV_EOF,
    }  # fmt: skip
    monkeypatch.setattr(poller, "select", SimpleNamespace(**vars(select), **names))
    return "kqueue"
