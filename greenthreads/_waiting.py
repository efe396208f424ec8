"""How a socket waits, and how long: what all its calls stand on.

**The descriptor blocks if the timeout is None**, as that of a standard socket, for others may use it: a child process
that inherits it, `os.fdopen`, code in C. Whether it blocks is a property of the open file, which they share; so each
call asks for itself not to be kept waiting, by MSG_DONTWAIT (which is what Linux makes of the property, at the top of
each such call). Three calls know no such flag. `connect` and `sendfile` change the property for the moment. `accept`
changes it for good, when it is first called: a connection that was there at a look may be taken by another process
before the call, which would then block. TLS, whose calls are OpenSSL's, changes it too (ssl.py). Elsewhere than on
Linux not all systems heed the flag, and the descriptor never blocks.

**Ask first, then wait**, in that order, is what edge-triggered readiness wants (see scheduler/poller.py). One question
is saved: a TCP socket from which less was read than there was room for is empty, and a change will be reported, so the
next `recv` waits at once (`Descriptor.readable`). That does not hold with urgent data, nor once the other side has hung
up, nor for sockets with boundaries between messages, which Unix sockets have around descriptors that they carry.
"""

from __future__ import annotations

import _socket
import errno
import os
import socket as _standard
import sys
from typing import TYPE_CHECKING, Any

from scheduler import control
from scheduler.functions import yield_now
from scheduler.kernel import current_task
from scheduler.outside import OPERATIONS, announce
from scheduler.poller import READ, block_for, watch
from scheduler.task import UserTask

if TYPE_CHECKING:
    from collections.abc import Callable

    from scheduler.poller import Descriptor

__all__ = ["AT_ONCE", "DONTWAIT", "STREAK", "UNSET", "WaitingSocket"]

# The methods that the system's calls stand behind.
_base = _socket.socket
_settimeout = _base.settimeout
family_of = _base.family.__get__
type_of = _base.type.__get__

# How many calls in a row may find their socket ready before the thread gives way to others.
STREAK = 64
# From the module in C, where it is a number: `&` with a member of an enum takes a microsecond.
DONTWAIT: int = getattr(_socket, "MSG_DONTWAIT", 0)
# What has a call not wait though the descriptor blocks; 0 where that can't be had, and no descriptor blocks.
AT_ONCE: int = DONTWAIT if sys.platform == "linux" else 0
# The deadline of a call that has not waited yet.
UNSET = -1.0


class _Unwatched:
    """Stands for the record of a socket that nobody has waited for."""

    __slots__ = ()
    readable, hung, closed, ready = True, True, True, object()


_unwatched: Any = _Unwatched()


class WaitingSocket(_standard.socket):
    """A socket of which a user thread that waits parks, and a kernel thread blocks."""

    __slots__ = ("_may_block", "_streak", "_stream", "_timeout", "_watch")

    _timeout: float | None
    # Of the standard class: whether it was closed, and how many files made of it are open and keep it.
    _closed: bool
    _io_refs: int
    # Whether the descriptor blocks while there is no timeout: see the top of the file.
    _may_block: bool
    # Whether each call can say that it is not to wait.
    _says_so: bool = AT_ONCE != 0

    def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:
        super().__init__(family, type, proto, fileno)
        # The default one, or 0 if `type` says so.
        self._timeout = super().gettimeout()
        # Of the scheduler whose thread waited last.
        self._watch: Descriptor = _unwatched
        self._streak = STREAK
        # Whether a short read leaves nothing: see the top of the file.
        self._stream = (
            type_of(self) == _standard.SOCK_STREAM
            and family_of(self) in (_standard.AF_INET, _standard.AF_INET6)
            and self.proto in (0, _standard.IPPROTO_TCP)
        )
        self._may_block = self._says_so
        if self._timeout is not None or not self._may_block:
            _settimeout(self, 0.0)

    # ---- Waiting ---------------------------------------------------------------------------------------------------

    def _wait(self, side: int, deadline: float | None) -> float | None:
        """Wait for readiness; returns the deadline, which is made of the timeout if it is not set. TimeoutError."""
        me = current_task()
        if deadline == UNSET:
            deadline = None if self._timeout is None else me.now() + self._timeout
        ready = me.ready
        if ready is None or not isinstance(me, UserTask):
            if not block_for(me, self.fileno, side, deadline):
                raise TimeoutError("timed out")
            return deadline
        record = self._watch
        if record.ready is not ready:
            # Registered now, it is reported as it is now.
            record = watch(me, self.fileno())
            # Another kernel thread may have begun to close it, and has woken all who were registered; the number may
            # even be of another file by now. It says that it closes before it looks who waits; we look after we stand
            # there to be found.
            if self._closed and self._io_refs <= 0:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            self._watch = record
        self._streak = STREAK
        if not record.wait(me, record.readers if side == READ else record.writers, deadline):
            raise TimeoutError("timed out")
        return deadline

    def _turn(self, side: int, flags: int = 0) -> float | None:
        """Under control: wait for the turn to make a call. Returns the deadline, as `_wait`."""
        if self._timeout != 0.0 and not flags & DONTWAIT:
            return self._wait(side, UNSET)
        announce(OPERATIONS[side])
        return UNSET

    def _give_way(self) -> None:
        """Let others run: this thread has found its socket ready many times in a row, and never had to."""
        self._streak = STREAK
        if isinstance(current_task(), UserTask):
            yield_now()

    def _retry(self, side: int, call: Callable[..., Any], *args: Any, flags: int = 0) -> Any:
        """Make a call of the system's until it need not wait; once only if its `flags` say so."""
        deadline = UNSET if control.active is None else self._turn(side, flags)
        while True:
            try:
                result = call(self, *args)
                break
            except BlockingIOError:
                if self._timeout == 0.0 or flags & DONTWAIT:
                    raise
            # Out here, where no exception is being handled: it would be kept while the thread is parked.
            deadline = self._wait(side, deadline)
        self._streak -= 1
        if self._streak < 0:
            self._give_way()
        return result

    def _never_block(self) -> None:
        """Have the descriptor not block, whatever the timeout."""
        self._may_block = False
        _settimeout(self, 0.0)

    def _in_passing(self, call: Callable[..., Any], *args: Any) -> Any:
        """Make a call that has no way to say that it is not to wait."""
        if self._timeout is not None or not self._may_block:
            return call(self, *args)
        _settimeout(self, 0.0)
        try:
            return call(self, *args)
        finally:
            _settimeout(self, None)

    def settimeout(self, value: float | None, /) -> None:
        """Set the timeout in seconds: None waits for ever, 0 never waits. Errors as the standard class."""
        if value is not None:
            if not isinstance(value, (int, float)) or not 0 <= value < 1e9:
                try:
                    _settimeout(self, value)
                    value = super().gettimeout()
                finally:
                    _settimeout(self, None if self._timeout is None and self._may_block else 0.0)
            value = None if value is None else float(value)
        self._timeout = value
        _settimeout(self, None if value is None and self._may_block else 0.0)

    def gettimeout(self) -> float | None:
        """The timeout in seconds, or None."""
        return self._timeout

    timeout = property(gettimeout, doc="The timeout in seconds, or None.")

    def setblocking(self, flag: bool, /) -> None:
        """`settimeout(None)`, or `settimeout(0.0)`."""
        self.settimeout(None if flag else 0.0)

    def getblocking(self) -> bool:
        """Whether the timeout is other than 0."""
        return self._timeout != 0.0
