"""`socket`, for threads of both kinds: a user thread that has to wait for a socket parks.

The class is a subclass of the standard one; the timeout is kept here, and what the caller sees is what the standard
class promises. In a kernel thread the same object blocks, and notices within a quarter of a second when another thread
closes it. How it waits is the subject of _waiting.py, names of hosts of _resolving.py. Here are the calls.

What is not defined here is the standard module's.
"""

from __future__ import annotations

import _socket
import errno
import os
import socket as _standard
from typing import TYPE_CHECKING, Any

from greenthreads import _resolving
from greenthreads._rebind import rebound
from greenthreads._waiting import AT_ONCE, DONTWAIT, STREAK, UNSET, WaitingSocket, family_of, type_of
from scheduler import control
from scheduler.continuation import current
from scheduler.functions import sleep, yield_now
from scheduler.kernel import current_task
from scheduler.outside import announce
from scheduler.poller import READ, WRITE, closing, is_ready
from scheduler.task import UserTask

__all__ = [name for name in dir(_standard) if not name.startswith("__")]

for _name in __all__:
    globals().setdefault(_name, getattr(_standard, _name))

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...


# The methods that the system's calls stand behind.
_base = _socket.socket
_recv, _recv_into, _send, _accept = _base.recv, _base.recv_into, _base.send, _base._accept  # type: ignore[attr-defined]
_connect_ex = _base.connect_ex

_WAITING = (errno.EINPROGRESS, errno.EINTR, errno.EALREADY)
# What an accept fails with that may well succeed a little later.
_FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_WAITALL: int = getattr(_socket, "MSG_WAITALL", 0)
# With these, MSG_WAITALL is left to the system.
_NOT_ALL = DONTWAIT | getattr(_socket, "MSG_PEEK", 0) | getattr(_socket, "MSG_OOB", 0)


class socket(WaitingSocket):
    """A socket, as `socket.socket`. Whoever waits for it parks, if it is a user thread, and blocks if not.

    Two threads may read and write it at the same time. Closing it raises OSError (EBADF) in all that wait for it.
    """

    __slots__ = ()

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
        except (AttributeError, RuntimeError):
            mine = False
        if not mine:
            return self._receive(bufsize, flags)
        record.wait(me, record.readers, None)
        self._streak = STREAK
        try:
            data: bytes = _recv(self, bufsize, AT_ONCE)
        except BlockingIOError:
            pass  # Woken for nothing. It is tried again out here, where no exception is being handled.
        else:
            if 0 < len(data) < bufsize and not record.hung:
                record.readable = False
            return data
        return self._receive(bufsize, flags)

    def _receive(self, bufsize: int, flags: int) -> bytes:
        deadline = UNSET if control.active is None else self._turn(READ, flags)
        # Not for nothing, which does not wait; nor for less, which is an error.
        if not self._watch.readable and self._timeout != 0.0 and not flags and bufsize > 0:
            deadline = self._wait(READ, deadline)
        while True:
            try:
                data: bytes = _recv(self, bufsize, flags | AT_ONCE if flags else AT_ONCE)
                break
            except BlockingIOError:
                if self._timeout == 0.0 or flags & DONTWAIT:
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
            and type_of(self) == _standard.SOCK_STREAM
        )

    def recv_into(self, buffer: Any, nbytes: int | None = 0, flags: int = 0) -> int:
        """As the standard method."""
        deadline = UNSET if control.active is None else self._turn(READ, flags)
        if (
            not self._watch.readable
            and self._timeout != 0.0
            and not flags
            and (nbytes or memoryview(buffer).nbytes) > 0
        ):
            deadline = self._wait(READ, deadline)
        while True:
            try:
                count: int = _recv_into(self, buffer, nbytes or 0, flags | AT_ONCE if flags else AT_ONCE)
                break
            except BlockingIOError:
                if self._timeout == 0.0 or flags & DONTWAIT:
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
        except (AttributeError, RuntimeError):
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
        if self._timeout == 0.0 or flags & DONTWAIT:
            _base.sendall(self, data, _at_once(flags))
            return
        at_once = flags | AT_ONCE if flags else AT_ONCE
        try:
            sent = _send(self, data, at_once)
        except BlockingIOError:
            sent = 0
        self._streak -= 1
        if self._streak < 0:
            self._give_way()
        if type(data) is bytes and sent == len(data):
            return
        deadline: float | None = UNSET
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
        return socket(family_of(self), type_of(self), self.proto, fileno=fd), address

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
        deadline: float | None = UNSET
        pause = 0.001
        while True:
            error: int = self._in_passing(_connect_ex, address)
            if error != errno.EAGAIN:
                break
            # A Unix socket whose backlog is full. Nothing reports when it is not any more.
            if deadline == UNSET:
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
        return _resolving.in_digits(address, family_of(self), type_of(self))

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
    return flags | AT_ONCE if isinstance(flags, int) else flags


def _flags_in(args: tuple[Any, ...], ancillary: Any) -> tuple[int, tuple[Any, ...]]:
    """The flags among what follows the buffers, after the `ancillary` data; and all that, of a call not to wait."""
    if len(args) < 2:
        return 0, (*(args or (ancillary,)), AT_ONCE)
    flags = args[1]
    return flags if isinstance(flags, int) else 0, (args[0], _at_once(flags), *args[2:])


def _sendfile(sock: socket, source: int, offset: int, count: int) -> int:
    return os.sendfile(sock.fileno(), source, offset, count)


# ---- Names -----------------------------------------------------------------------------------------------------------

getaddrinfo = _resolving.getaddrinfo
gethostbyaddr = _resolving.gethostbyaddr
gethostbyname = _resolving.gethostbyname
gethostbyname_ex = _resolving.gethostbyname_ex
getnameinfo = _resolving.getnameinfo

# ---- What makes sockets ----------------------------------------------------------------------------------------------

_REBOUND = (
    "create_connection", "create_server", "fromfd", "fromshare", "getfqdn", "has_dualstack_ipv6", "recv_fds",
    "send_fds", "socketpair",
)  # fmt: skip
for _name in _REBOUND:
    if hasattr(getattr(_standard, _name, None), "__code__"):
        globals()[_name] = rebound(getattr(_standard, _name), globals())
del _name
