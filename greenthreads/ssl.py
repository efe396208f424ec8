"""`ssl`, for threads of both kinds: a user thread parks in the handshake, in reads and in writes.

The descriptor inside never blocks (see _waiting.py), so OpenSSL says what it waits for, which need not be what the
caller does: a read may have to write first. The call is made again when that is possible, with one timeout for all of
it.

`SSLContext` is the standard class, but for the class of the sockets that it makes. What is not defined here is the
standard module's.
"""

from __future__ import annotations

import ssl as _standard
from builtins import len as _length
from typing import TYPE_CHECKING, Any

from greenthreads import socket as _socket
from greenthreads._rebind import rebound
from greenthreads._waiting import UNSET
from scheduler import control
from scheduler.continuation import current
from scheduler.outside import announce
from scheduler.poller import READ, WRITE

try:
    from fcntl import ioctl as _ioctl
    from termios import FIONREAD as _FIONREAD
except ImportError:  # Windows
    _ioctl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [name for name in dir(_standard) if not name.startswith("__")]

for _name in __all__:
    globals().setdefault(_name, getattr(_standard, _name))
globals().update(socket=_socket.socket, create_connection=_socket.create_connection)

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...


_WantRead, _WantWrite = _standard.SSLWantReadError, _standard.SSLWantWriteError
_read, _write, _send = _standard.SSLSocket.read, _standard.SSLSocket.write, _standard.SSLSocket.send
_NO_BYTES = bytes(4)


class SSLSocket(_standard.SSLSocket, _socket.socket):  # type: ignore[misc]
    """As `ssl.SSLSocket`; made by `SSLContext.wrap_socket`. Two threads may read and write it at the same time."""

    _says_so = False  # OpenSSL has no such flag.
    # Whether the last read got less than it had room for: then there is most likely nothing left.
    _was_short = False

    def _parking(self, what: str, call: Callable[..., Any], *args: Any) -> Any:
        """Make a call of OpenSSL's until it need not wait."""
        if control.active is not None:
            announce({"read": "receive", "write": "send"}.get(what, what))
        deadline: float | None = UNSET
        while True:
            try:
                result = call(*args)
                break
            except _WantRead:
                if self._timeout == 0.0:
                    raise
                side = READ
            except _WantWrite:
                if self._timeout == 0.0:
                    raise
                side = WRITE
            # Out here, where no exception is being handled: it would be kept while the thread is parked.
            try:
                deadline = self._wait(side, deadline)
            except TimeoutError:
                raise TimeoutError(f"The {what} operation timed out") from None
        self._streak -= 1
        if self._streak < 0:
            self._give_way()
        return result

    def _is_empty(self) -> bool:
        """Whether there is nothing to read, and the poller of the calling thread's scheduler will report what comes."""
        record = self._watch
        try:
            if current().task.ready is not record.ready or record.hung or self.pending():
                return False
        except (AttributeError, RuntimeError):
            return False
        count = bytearray(4)
        _ioctl(self.fileno(), _FIONREAD, count)
        return count == _NO_BYTES

    def read(self, len: int = 1024, buffer: Any = None) -> Any:
        """As the standard method."""
        if self._was_short and len:
            self._was_short = False
            if self._timeout is None and control.active is None and self._is_empty():
                self._wait(READ, None)
        data = self._parking("read", _read, self, len, buffer)
        if _ioctl is not None:
            self._was_short = (_length(data) if buffer is None else data) < len
        return data

    def write(self, data: Any) -> int:
        """As the standard method."""
        return self._parking("write", _write, self, data)  # type: ignore[no-any-return]

    def send(self, data: Any, flags: int = 0) -> int:
        """As the standard method."""
        return self._parking("write", _send, self, data, flags)  # type: ignore[no-any-return]

    def sendall(self, data: Any, flags: int = 0) -> None:
        """As the standard method."""
        if type(data) is bytes and data and self._sslobj is not None and not flags:  # type: ignore[attr-defined]
            # Most often that is all: without the views that the rest is cut with.
            sent = self.send(data)
            if sent == _length(data):
                return
            data = memoryview(data)[sent:]
        super().sendall(data, flags)

    def do_handshake(self, block: bool = False) -> None:
        """As the standard method."""
        self._check_connected()  # type: ignore[attr-defined]
        timeout = self.gettimeout()
        if timeout == 0.0 and block:
            self.settimeout(None)
        try:
            self._parking("handshake", self._sslobj.do_handshake)  # type: ignore[attr-defined]
        finally:
            if self.fileno() >= 0 and self._timeout != timeout:
                self.settimeout(timeout)

    def unwrap(self) -> Any:
        """As the standard method. What it returns is the same socket, without TLS."""
        return self._parking("shutdown", super().unwrap)


class SSLContext(_standard.SSLContext):
    """As `ssl.SSLContext`; its `wrap_socket` makes an `SSLSocket` of this module."""

    sslsocket_class = SSLSocket


_REBOUND = "create_default_context", "_create_unverified_context", "_create_stdlib_context", "get_server_certificate"
for _name in _REBOUND:
    if hasattr(getattr(_standard, _name, None), "__code__"):
        globals()[_name] = rebound(getattr(_standard, _name), globals())
del _name
_create_default_https_context = globals()["create_default_context"]
