"""`ssl`, for threads of both kinds: a user thread parks in the handshake, in reads and in writes.

The socket inside never blocks (see socket.py), so OpenSSL says what it waits for, which need not be what the caller
does: a read may have to write first. The call is made again when that is possible, with one timeout for all of it.

`SSLContext` is the standard class, but for the class of the sockets that it makes. What is not defined here is the
standard module's.
"""

from __future__ import annotations

import ssl as _standard
from typing import TYPE_CHECKING, Any

from greenthreads import socket as _socket
from greenthreads._rebind import rebound
from scheduler import control
from scheduler.outside import announce
from scheduler.poller import READ, WRITE

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [name for name in dir(_standard) if not name.startswith("__")]

for _name in __all__:
    globals().setdefault(_name, getattr(_standard, _name))
globals().update(socket=_socket.socket, create_connection=_socket.create_connection)

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...


_WantRead, _WantWrite = _standard.SSLWantReadError, _standard.SSLWantWriteError


class SSLSocket(_standard.SSLSocket, _socket.socket):  # type: ignore[misc]
    """As `ssl.SSLSocket`; made by `SSLContext.wrap_socket`. Two threads may read and write it at the same time."""

    def _parking(self, what: str, call: Callable[..., Any], *args: Any) -> Any:
        """Make a call of OpenSSL's until it need not wait."""
        if control.active is not None:
            announce({"read": "receive", "write": "send"}.get(what, what))
        deadline: float | None = _socket._UNSET
        while True:
            try:
                return call(*args)
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

    def read(self, len: int = 1024, buffer: Any = None) -> Any:
        """As the standard method."""
        return self._parking("read", super().read, len, buffer)

    def write(self, data: Any) -> int:
        """As the standard method."""
        return self._parking("write", super().write, data)  # type: ignore[no-any-return]

    def send(self, data: Any, flags: int = 0) -> int:
        """As the standard method."""
        return self._parking("write", super().send, data, flags)  # type: ignore[no-any-return]

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
