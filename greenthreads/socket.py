"""`socket`, for threads of both kinds: a user thread that has to wait for a socket parks.

The class is a subclass of the standard one; the timeout is kept here, and what the caller sees is what the standard
class promises. In a kernel thread the same object blocks, and notices within a quarter of a second when another thread
closes it.

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

**Names are resolved elsewhere**: what asks a name server, or the files of the system, is called in a kernel thread,
unless the name is an address in digits.

What is not defined here is the standard module's.
"""

from __future__ import annotations

import _socket
import errno
import os
import socket as _standard
import sys
from typing import TYPE_CHECKING, Any

from greenthreads._rebind import rebound
from greenthreads.kernelpool import run_in_kernel_thread
from scheduler import control
from scheduler.continuation import current
from scheduler.functions import sleep, yield_now
from scheduler.kernel import current_task
from scheduler.outside import OPERATIONS, announce
from scheduler.poller import READ, WRITE, block_for, closing, is_ready, watch
from scheduler.task import UserTask

if TYPE_CHECKING:
    from collections.abc import Callable

    from scheduler.poller import Descriptor

__all__ = [name for name in dir(_standard) if not name.startswith("__")]

for _name in __all__:
    globals().setdefault(_name, getattr(_standard, _name))

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...


# The methods that the system's calls stand behind.
_base = _socket.socket
_recv, _recv_into, _send, _accept = _base.recv, _base.recv_into, _base.send, _base._accept  # type: ignore[attr-defined]
_connect_ex, _settimeout = _base.connect_ex, _base.settimeout

_WAITING = (errno.EINPROGRESS, errno.EINTR, errno.EALREADY)
# What an accept fails with that may well succeed a little later.
_FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
# How many calls in a row may find their socket ready before the thread gives way to others.
_STREAK = 64
# From the module in C, where it is a number: `&` with a member of an enum takes a microsecond.
_DONTWAIT: int = getattr(_socket, "MSG_DONTWAIT", 0)
_WAITALL: int = getattr(_socket, "MSG_WAITALL", 0)
# What has a call not wait though the descriptor blocks; 0 where that can't be had, and no descriptor blocks.
_AT_ONCE: int = _DONTWAIT if sys.platform == "linux" else 0
# With these, MSG_WAITALL is left to the system.
_NOT_ALL = _DONTWAIT | getattr(_socket, "MSG_PEEK", 0) | getattr(_socket, "MSG_OOB", 0)
# The deadline of a call that has not waited yet.
_UNSET = -1.0


class _Unwatched:
    """Stands for the record of a socket that nobody has waited for."""

    __slots__ = ()
    readable, hung, closed, ready = True, True, True, object()


_unwatched: Any = _Unwatched()


class socket(_standard.socket):
    """A socket, as `socket.socket`. Whoever waits for it parks, if it is a user thread, and blocks if not.

    Two threads may read and write it at the same time. Closing it raises OSError (EBADF) in all that wait for it.
    """

    __slots__ = ("_may_block", "_streak", "_stream", "_timeout", "_watch")

    _timeout: float | None
    # Whether the descriptor blocks while there is no timeout: see the top of the file.
    _may_block: bool
    # Whether each call can say that it is not to wait.
    _says_so: bool = _AT_ONCE != 0

    def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:
        super().__init__(family, type, proto, fileno)
        # The default one, or 0 if `type` says so.
        self._timeout = super().gettimeout()
        # Of the scheduler whose thread waited last.
        self._watch: Descriptor = _unwatched
        self._streak = _STREAK
        # Whether a short read leaves nothing: see the top of the file.
        self._stream = (
            _type_of(self) == _standard.SOCK_STREAM
            and _family_of(self) in (_standard.AF_INET, _standard.AF_INET6)
            and self.proto in (0, _standard.IPPROTO_TCP)
        )
        self._may_block = self._says_so
        if self._timeout is not None or not self._may_block:
            _settimeout(self, 0.0)

    # ---- Waiting ---------------------------------------------------------------------------------------------------

    def _wait(self, side: int, deadline: float | None) -> float | None:
        """Wait for readiness; returns the deadline, which is made of the timeout if it is not set. TimeoutError."""
        me = current_task()
        if deadline == _UNSET:
            deadline = None if self._timeout is None else me.now() + self._timeout
        ready = me.ready
        if ready is None or not isinstance(me, UserTask):
            if not block_for(me, self.fileno, side, deadline):
                raise TimeoutError("timed out")
            return deadline
        record = self._watch
        if record.ready is not ready:
            fd = self.fileno()
            # Registered now, it is reported as it is now.
            self._watch = record = watch(me, fd)
        self._streak = _STREAK
        if not record.wait(me, record.readers if side == READ else record.writers, deadline):
            raise TimeoutError("timed out")
        return deadline

    def _turn(self, side: int, flags: int = 0) -> float | None:
        """Under control: wait for the turn to make a call. Returns the deadline, as `_wait`."""
        if self._timeout != 0.0 and not flags & _DONTWAIT:
            return self._wait(side, _UNSET)
        announce(OPERATIONS[side])
        return _UNSET

    def _give_way(self) -> None:
        """Let others run: this thread has found its socket ready many times in a row, and never had to."""
        self._streak = _STREAK
        if isinstance(current_task(), UserTask):
            yield_now()

    def _retry(self, side: int, call: Callable[..., Any], *args: Any, flags: int = 0) -> Any:
        """Make a call of the system's until it need not wait; once only if its `flags` say so."""
        deadline = _UNSET if control.active is None else self._turn(side, flags)
        while True:
            try:
                result = call(self, *args)
                break
            except BlockingIOError:
                if self._timeout == 0.0 or flags & _DONTWAIT:
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

    # ---- Receiving -------------------------------------------------------------------------------------------------

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """As the standard method. `b""` at the end."""
        record = self._watch
        if record.readable or flags or bufsize < 1 or self._timeout is not None or control.active is not None:
            return self._receive(bufsize, flags)
        # What follows does no more than `_receive`. It is what a server's threads do all day: nothing has come since
        # they read last, and they wait for it without a timeout.
        try:
            me = current().task
            mine = me.ready is record.ready
        except AttributeError:
            mine = False
        if not mine:
            return self._receive(bufsize, flags)
        record.wait(me, record.readers, None)
        self._streak = _STREAK
        try:
            data: bytes = _recv(self, bufsize, _AT_ONCE)
        except BlockingIOError:
            pass  # Woken for nothing. It is tried again out here, where no exception is being handled.
        else:
            if 0 < len(data) < bufsize and not record.hung:
                record.readable = False
            return data
        return self._receive(bufsize, flags)

    def _receive(self, bufsize: int, flags: int) -> bytes:
        deadline = _UNSET if control.active is None else self._turn(READ, flags)
        # Not for nothing, which does not wait; nor for less, which is an error.
        if not self._watch.readable and self._timeout != 0.0 and not flags and bufsize > 0:
            deadline = self._wait(READ, deadline)
        while True:
            try:
                data: bytes = _recv(self, bufsize, flags | _AT_ONCE if flags else _AT_ONCE)
                break
            except BlockingIOError:
                if self._timeout == 0.0 or flags & _DONTWAIT:
                    raise
            deadline = self._wait(READ, deadline)
        if 0 < len(data) < bufsize and self._stream and not flags:
            self._was_emptied()
        self._streak -= 1
        if self._streak < 0:
            self._give_way()
        if flags and len(data) < bufsize and data and self._wants_all(flags):
            while len(data) < bufsize and (piece := self._receive(bufsize - len(data), flags & ~_WAITALL)):
                data += piece
        return data

    def _wants_all(self, flags: int) -> bool:
        """Whether the call is to wait until there is as much as was asked for: as in the system, if it may for ever."""
        return (
            flags & (_WAITALL | _NOT_ALL) == _WAITALL
            and self._timeout is None
            and _type_of(self) == _standard.SOCK_STREAM
        )

    def recv_into(self, buffer: Any, nbytes: int | None = 0, flags: int = 0) -> int:
        """As the standard method."""
        deadline = _UNSET if control.active is None else self._turn(READ, flags)
        if (
            not self._watch.readable
            and self._timeout != 0.0
            and not flags
            and (nbytes or memoryview(buffer).nbytes) > 0
        ):
            deadline = self._wait(READ, deadline)
        while True:
            try:
                count: int = _recv_into(self, buffer, nbytes or 0, flags | _AT_ONCE if flags else _AT_ONCE)
                break
            except BlockingIOError:
                if self._timeout == 0.0 or flags & _DONTWAIT:
                    raise
            deadline = self._wait(READ, deadline)
        if self._stream and not flags and 0 < count < (nbytes or memoryview(buffer).nbytes):
            self._was_emptied()
        self._streak -= 1
        if self._streak < 0:
            self._give_way()
        if flags and count and self._wants_all(flags):
            with memoryview(buffer) as view, view.cast("B") as whole:
                wanted = nbytes or len(whole)
                while count < wanted and (piece := self.recv_into(whole[count:wanted], 0, flags & ~_WAITALL)):
                    count += piece
        return count

    def _was_emptied(self) -> None:
        # Only by a thread of the scheduler whose record it is: another kernel thread might be late, and say that it is
        # empty after the poller has said that something came.
        record = self._watch
        try:
            if record.ready is current().task.ready and not record.hung:
                record.readable = False
        except AttributeError:
            pass

    def recvfrom(self, bufsize: int, flags: int = 0, /) -> tuple[bytes, Any]:
        """As the standard method."""
        return self._retry(READ, _base.recvfrom, bufsize, _at_once(flags), flags=flags)  # type: ignore[no-any-return]

    def recvfrom_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:
        """As the standard method."""
        call = _base.recvfrom_into
        return self._retry(READ, call, buffer, nbytes, _at_once(flags), flags=flags)  # type: ignore[no-any-return]

    if hasattr(_base, "recvmsg"):

        def recvmsg(self, bufsize: int, *args: Any) -> tuple[bytes, list[Any], int, Any]:
            """As the standard method."""
            flags, args = _flags_in(args, 0)
            return self._retry(READ, _base.recvmsg, bufsize, *args, flags=flags)  # type: ignore[no-any-return]

        def recvmsg_into(self, buffers: Any, *args: Any) -> tuple[int, list[Any], int, Any]:
            """As the standard method."""
            flags, args = _flags_in(args, 0)
            return self._retry(READ, _base.recvmsg_into, buffers, *args, flags=flags)  # type: ignore[no-any-return]

    # ---- Sending ---------------------------------------------------------------------------------------------------

    def send(self, data: Any, flags: int = 0, /) -> int:
        """As the standard method."""
        return self._retry(WRITE, _send, data, _at_once(flags), flags=flags)  # type: ignore[no-any-return]

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """As the standard method: the timeout is for all of the data."""
        if control.active is not None:
            announce("send")
        if self._timeout == 0.0 or flags & _DONTWAIT:
            _base.sendall(self, data, _at_once(flags))
            return
        at_once = flags | _AT_ONCE if flags else _AT_ONCE
        try:
            sent = _send(self, data, at_once)
        except BlockingIOError:
            sent = 0
        self._streak -= 1
        if self._streak < 0:
            self._give_way()
        if type(data) is bytes and sent == len(data):
            return
        deadline: float | None = _UNSET
        with memoryview(data) as view, view.cast("B") as rest:
            while sent < len(rest):
                try:
                    sent += _send(self, rest[sent:], at_once)
                    continue
                except BlockingIOError:
                    pass
                deadline = self._wait(WRITE, deadline)

    def sendto(self, data: Any, *args: Any) -> int:
        """As the standard method."""
        if not 1 <= len(args) <= 2:
            return _base.sendto(self, data, *args)  # It complains.
        flags = args[0] if len(args) > 1 else 0
        address = self._resolved(args[-1])
        return self._retry(WRITE, _base.sendto, data, _at_once(flags), address, flags=flags)  # type: ignore[no-any-return]

    if hasattr(_base, "sendmsg"):

        def sendmsg(self, buffers: Any, *args: Any) -> int:
            """As the standard method."""
            # What can be gone through once only must be kept for the next try.
            if not isinstance(buffers, (list, tuple)):
                buffers = list(buffers)
            flags, args = _flags_in(args, ())
            return self._retry(WRITE, _base.sendmsg, buffers, *args, flags=flags)  # type: ignore[no-any-return]

    if hasattr(_base, "sendmsg_afalg"):

        def sendmsg_afalg(self, *args: Any, flags: int = 0, **kwargs: Any) -> int:
            """As the standard method."""

            def call(me: Any) -> int:
                return _base.sendmsg_afalg(me, *args, flags=_at_once(flags), **kwargs)

            return self._retry(WRITE, call)  # type: ignore[no-any-return]

    if hasattr(os, "sendfile"):

        def _sendfile_use_sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
            """The better half of `sendfile`: the system copies."""
            self._check_sendfile_params(file, offset, count)  # type: ignore[attr-defined]
            try:
                source = file.fileno()
                size = os.fstat(source).st_size
            except (AttributeError, OSError) as error:
                raise _standard._GiveupOnSendfile(error) from None  # type: ignore[attr-defined]
            if not size:
                return 0
            if self._timeout == 0.0:
                raise ValueError("non-blocking sockets are not supported")
            sent = 0
            try:
                while count is None or sent < count:
                    # Each piece has the timeout for itself, as it has in the standard class.
                    most = min(size if count is None else count - sent, 2**30)
                    piece = self._retry(WRITE, socket._in_passing, _sendfile, source, offset + sent, most)
                    if not piece:
                        break
                    sent += piece
            except OSError as error:
                if sent or isinstance(error, TimeoutError):
                    raise
                raise _standard._GiveupOnSendfile(error) from None  # type: ignore[attr-defined]
            finally:
                if sent and hasattr(file, "seek"):
                    file.seek(offset + sent)
            return sent

    # ---- Connections -----------------------------------------------------------------------------------------------

    def accept(self) -> tuple[socket, Any]:
        """As the standard method. When the process has no more descriptors, other threads run before this raises."""
        if self._may_block:
            self._never_block()
        try:
            fd, address = self._retry(READ, _accept)
        except OSError as error:
            if error.errno in _FULL and isinstance(current_task(), UserTask):
                yield_now()
            raise
        return socket(_family_of(self), _type_of(self), self.proto, fileno=fd), address

    def connect(self, address: Any, /) -> None:
        """As the standard method. A name is resolved in a kernel thread; the timeout is for the connection alone."""
        if self._timeout == 0.0:
            super().connect(address)
            return
        error = self._connect(address)
        if error:
            raise OSError(error, os.strerror(error))

    def connect_ex(self, address: Any, /) -> int:
        """As the standard method: `connect`, but returns the error's number."""
        if self._timeout == 0.0:
            return _connect_ex(self, address)
        try:
            return self._connect(address)
        except TimeoutError:
            return errno.EAGAIN

    def _connect(self, address: Any) -> int:
        address = self._resolved(address)
        if control.active is not None:
            announce("connect")
        deadline: float | None = _UNSET
        pause = 0.001
        while True:
            error: int = self._in_passing(_connect_ex, address)
            if error != errno.EAGAIN:
                break
            # A Unix socket whose backlog is full. Nothing reports when it is not any more.
            if deadline == _UNSET:
                deadline = None if self._timeout is None else current_task().now() + self._timeout
            if deadline is not None and current_task().now() >= deadline:
                raise TimeoutError("timed out")
            sleep(pause)
            pause = min(2 * pause, 0.05)
        if error not in _WAITING:
            return error
        while True:
            deadline = self._wait(WRITE, deadline)
            # It may have been woken by what went before: a socket that is not connected yet counts as hung up.
            if is_ready(self.fileno(), WRITE):
                return self.getsockopt(_standard.SOL_SOCKET, _standard.SO_ERROR)

    def bind(self, address: Any, /) -> None:
        """As the standard method. A name is resolved in a kernel thread."""
        super().bind(self._resolved(address))

    def _resolved(self, address: Any) -> Any:
        """`address` with digits in the place of a name that would have to be looked up."""
        family = _family_of(self)
        if family not in (_standard.AF_INET, _standard.AF_INET6) or not isinstance(address, tuple) or not address:
            return address
        host = address[0]
        if not isinstance(host, str) or host in ("", "<broadcast>") or _is_digits(host):
            return address
        if not isinstance(current_task(), UserTask):
            return address
        found = run_in_kernel_thread(_standard_getaddrinfo, host, None, family, _type_of(self))
        return (found[0][4][0], *address[1:])

    def shutdown(self, how: int, /) -> None:
        """As the standard method."""
        if control.active is not None:
            announce("shutdown")
        super().shutdown(how)

    # ---- The end ---------------------------------------------------------------------------------------------------

    def _real_close(self, *args: Any) -> None:
        if control.active is not None:
            announce("close")
        fd = self.fileno()
        if fd >= 0:
            closing(fd)
        super()._real_close(*args)  # type: ignore[misc]

    def detach(self) -> int:
        """As the standard method. The descriptor blocks, if the socket had no timeout."""
        fd = super().detach()
        if fd >= 0 and self._timeout is None and not self._may_block:
            os.set_blocking(fd, True)
        return fd

    def dup(self) -> socket:
        """As the standard method."""
        other: socket = super().dup()
        if not self._may_block:
            other._never_block()  # They share the open file.
        return other


def _at_once(flags: Any) -> Any:
    """`flags` of a call that is not to wait. What is wrong with them the call says."""
    return flags | _AT_ONCE if isinstance(flags, int) else flags


def _flags_in(args: tuple[Any, ...], ancillary: Any) -> tuple[int, tuple[Any, ...]]:
    """The flags among what follows the buffers, after the `ancillary` data; and all that, of a call not to wait."""
    if len(args) < 2:
        return 0, (*(args or (ancillary,)), _AT_ONCE)
    flags = args[1]
    return flags if isinstance(flags, int) else 0, (args[0], _at_once(flags), *args[2:])


_family_of = _base.family.__get__
_type_of = _base.type.__get__


def _sendfile(sock: socket, source: int, offset: int, count: int) -> int:
    return os.sendfile(sock.fileno(), source, offset, count)


def _is_digits(host: str) -> bool:
    for family in (_standard.AF_INET, _standard.AF_INET6):
        try:
            _socket.inet_pton(family, host.partition("%")[0])
            return True
        except (OSError, ValueError):
            pass
    return False


# ---- Names -----------------------------------------------------------------------------------------------------------

_standard_getaddrinfo = _standard.getaddrinfo


def getaddrinfo(
    host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
) -> list[tuple[Any, Any, int, str, Any]]:
    """As the standard function, in a kernel thread while the calling user thread is parked."""
    if host is None or (isinstance(host, str) and _is_digits(host)):
        return _standard_getaddrinfo(host, port, family, type, proto, flags)
    return run_in_kernel_thread(_standard_getaddrinfo, host, port, family, type, proto, flags)


def _off_the_scheduler(name: str) -> Any:
    standard = getattr(_standard, name)

    def function(*args: Any) -> Any:
        return run_in_kernel_thread(standard, *args)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"`socket.{name}`, in a kernel thread while the calling user thread is parked."
    return function


gethostbyname = _off_the_scheduler("gethostbyname")
gethostbyname_ex = _off_the_scheduler("gethostbyname_ex")
gethostbyaddr = _off_the_scheduler("gethostbyaddr")
getnameinfo = _off_the_scheduler("getnameinfo")

# ---- What makes sockets ----------------------------------------------------------------------------------------------

_REBOUND = (
    "create_connection", "create_server", "fromfd", "fromshare", "getfqdn", "has_dualstack_ipv6", "recv_fds",
    "send_fds", "socketpair",
)  # fmt: skip
for _name in _REBOUND:
    if hasattr(getattr(_standard, _name, None), "__code__"):
        globals()[_name] = rebound(getattr(_standard, _name), globals())
del _name
