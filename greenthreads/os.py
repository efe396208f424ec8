"""`os`, for threads of both kinds: what blocks on a pipe, a terminal or a child parks a user thread.

The descriptors stay as they are, for they may be shared with other processes, which must not find them non-blocking all
of a sudden. So a thread asks whether the call would block, waits until it would not, and makes it in the same step. A
write goes in pieces that a pipe takes without blocking once it says that there is room.

What is not defined here is the standard module's.
"""

from __future__ import annotations

import os as _standard
import stat
from typing import TYPE_CHECKING, Any

from greenthreads.kernelpool import in_kernel_thread, run_in_kernel_thread
from scheduler import control
from scheduler.kernel import current_task
from scheduler.outside import OPERATIONS, announce
from scheduler.poller import READ, WRITE, closing, is_ready, wait_for
from scheduler.task import UserTask

__all__ = [name for name in dir(_standard) if not name.startswith("__")]

for _name in __all__:
    globals().setdefault(_name, getattr(_standard, _name))

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...


_read, _write, _fstat = _standard.read, _standard.write, _standard.fstat
_get_blocking: Any = getattr(_standard, "get_blocking", None)
# What a pipe that is ready for writing takes without blocking (POSIX's least, Linux has a page).
_PIECE = 512 if not hasattr(_standard, "uname") or _standard.uname().sysname != "Linux" else 4096


def until_ready(fd: int, events: int, deadline: float | None = None) -> bool:
    """Park the calling user thread until `fd`, which may block, would not; False if `deadline` passed first.

    The next call on it may be made at once. True without a wait if `fd` does not block at all: the call says so.
    """
    if control.active is not None:
        announce(OPERATIONS[events])
    while not is_ready(fd, events):
        if not _get_blocking(fd):
            return True
        if not wait_for(fd, events, deadline):
            return False
    return True


def read(fd: int, length: int, /) -> bytes:
    """As the standard function."""
    # Nothing is read without a wait.
    if length and isinstance(current_task(), UserTask):
        until_ready(fd, READ)
    return _read(fd, length)


def write(fd: int, data: Any, /) -> int:
    """As the standard function. In a user thread, other writes to the same pipe may come between 4096 bytes of it."""
    if not isinstance(current_task(), UserTask) or stat.S_ISREG(_fstat(fd).st_mode):
        return _write(fd, data)
    with memoryview(data) as view, view.cast("B") as whole:
        if not whole:
            return _write(fd, whole)  # Without a wait.
        sent = 0
        while sent < len(whole):
            until_ready(fd, WRITE)
            try:
                if not _get_blocking(fd):
                    return sent + _write(fd, whole[sent:])
                sent += _write(fd, whole[sent : sent + _PIECE])
            except OSError:
                # What was taken counts, as in a single call; the next one says what is wrong.
                if not sent:
                    raise
                break
        return sent


if hasattr(_standard, "readv"):
    _readv, _writev = _standard.readv, _standard.writev

    def readv(fd: int, buffers: Any, /) -> int:
        """As the standard function."""
        if isinstance(current_task(), UserTask):
            until_ready(fd, READ)
        return _readv(fd, buffers)

    def writev(fd: int, buffers: Any, /) -> int:
        """As the standard function."""
        if not isinstance(current_task(), UserTask) or stat.S_ISREG(_fstat(fd).st_mode):
            return _writev(fd, buffers)
        return write(fd, b"".join(bytes(each) for each in buffers))


# ---- Children --------------------------------------------------------------------------------------------------------


def until_exit(pid: int, deadline: float | None = None) -> bool:
    """Park the calling user thread until the child `pid` has ended (it is not reaped); False if `deadline` passed."""
    fd = _standard.pidfd_open(pid)
    try:
        return wait_for(fd, READ, deadline)
    finally:
        closing(fd)
        _standard.close(fd)


def _has_pidfd() -> bool:
    try:
        _standard.close(_standard.pidfd_open(_standard.getpid()))
    except (AttributeError, OSError):
        return False
    return True


has_pidfd = _has_pidfd()

if hasattr(_standard, "waitpid"):
    _waitpid = _standard.waitpid

    def waitpid(pid: int, options: int, /) -> tuple[int, int]:
        """As the standard function. For any child (`pid` not above 0), a kernel thread waits."""
        if options or not isinstance(current_task(), UserTask):
            return _waitpid(pid, options)
        if has_pidfd and pid > 0:
            try:
                until_exit(pid)
            except OSError:
                pass  # No such child: the call says so.
            return _waitpid(pid, options)
        return run_in_kernel_thread(_waitpid, pid, options)


for _name in ("wait", "wait3", "wait4", "waitid", "system"):
    if hasattr(_standard, _name):
        globals()[_name] = in_kernel_thread(getattr(_standard, _name), f"os.{_name}")
del _name


def popen(cmd: str, mode: str = "r", buffering: int = -1) -> Any:
    """As the standard function: a pipe to or from a shell command."""
    from greenthreads import subprocess

    if not isinstance(cmd, str):
        raise TypeError(f"invalid cmd type ({type(cmd)}, expected string)")
    if mode not in ("r", "w"):
        raise ValueError(f"invalid mode {mode!r}")
    if buffering == 0 or buffering is None:
        raise ValueError("popen() does not support unbuffered streams")
    side = "stdout" if mode == "r" else "stdin"
    process = subprocess.Popen(cmd, shell=True, text=True, bufsize=buffering, **{side: subprocess.PIPE})
    return _standard._wrap_close(getattr(process, side), process)
