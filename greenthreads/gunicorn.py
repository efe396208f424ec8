"""A worker for gunicorn: each connection is served by a user thread of its own.

    gunicorn -k greenthreads.gunicorn.Worker app:app

The worker process is patched and runs a scheduler from before the application is loaded until it ends, so what the
application starts as a thread, and every client of a database or a service that it uses, runs on user threads.
`--worker-connections` is how many connections are served at once, `--keep-alive` how long an idle one is kept,
`--graceful-timeout` how long connections may take to end after a stop.

gunicorn's own parser and its handling of requests are inherited.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING, Any

from greenthreads import socket
from greenthreads._semaphore import Semaphore
from greenthreads.patch import patch_all
from greenthreads.thread import Thread
from greenthreads.threads import main_thread
from greenthreads.timeouts import timeout
from scheduler import run_scheduler, sleep

try:
    from gunicorn.workers import base_async
except ImportError:
    base_async = None

_Base: Any = None if base_async is None else base_async.AsyncWorker

if TYPE_CHECKING:
    from types import FrameType, TracebackType

__all__ = ["Worker"]

_FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class _KeepAlive:
    """Ends the wait for the next request of an idle connection without a word."""

    def __init__(self, seconds: float | None) -> None:
        self._timeout = timeout(seconds)

    def __enter__(self) -> None:
        self._timeout.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        try:
            self._timeout.__exit__(kind, value, traceback)
        except TimeoutError:
            return True
        return False


class Worker(_Base or object):  # type: ignore[misc]
    """Serves each connection in a user thread."""

    sockets: Any
    alive: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if _Base is None:
            raise ImportError("the worker needs gunicorn: pip install 'greenthreads[gunicorn]'")
        super().__init__(*args, **kwargs)
        self._room = Semaphore(self.cfg.worker_connections)
        self._connections: dict[Any, None] = {}

    def init_process(self) -> None:
        """See gunicorn. Runs the worker to its end."""
        patch_all()
        self.sockets = [_listener(each) for each in self.sockets]
        run_scheduler(super().init_process)

    def run(self) -> None:
        """Serve until told to stop, then let connections end."""
        acceptors = [Thread(target=self._accept, args=(each,), daemon=True) for each in self.sockets]
        for each in acceptors:
            each.start()
        while self.alive:
            self.notify()
            if os.getppid() != self.ppid:
                self.log.info("Parent changed, shutting down: %s", self)
                self.alive = False
                break
            sleep(1.0)
        for each in self.sockets:
            each.close()
        self._let_end()

    def _let_end(self) -> None:
        """Wait for the connections that are being served; idle ones are closed by their handler."""
        left = self.cfg.graceful_timeout
        while self._connections and left > 0:
            self.notify()
            sleep(0.1)
            left -= 0.1
        if self._connections:
            self.log.warning("Worker graceful timeout (pid:%s)", self.pid)

    def _accept(self, listener: Any) -> None:
        while self.alive:
            self._room.acquire()
            try:
                client, address = listener.accept()
            except OSError as error:
                self._room.release()
                if error.errno in (errno.EBADF, errno.EINVAL):
                    return
                if error.errno in _FULL:
                    self.log.warning("can't accept for the moment: %s", error)
                    sleep(0.05)
                continue
            self._connections[client] = None
            Thread(target=self._serve, args=(listener, client, address), daemon=True).start()

    def _serve(self, listener: Any, client: Any, address: Any) -> None:
        try:
            self.handle(listener, client, address)
        finally:
            self._connections.pop(client, None)
            self._room.release()

    def timeout_ctx(self) -> _KeepAlive:
        """See gunicorn: around the wait for the next request."""
        return _KeepAlive(self.cfg.keepalive or None)

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        """Stop at once. A handler may run in the scheduler itself, so it leaves the work to the main thread."""
        self.alive = False
        self.cfg.worker_int(self)
        main_thread().interrupt(SystemExit(0))

    def handle_abort(self, sig: int, frame: FrameType | None) -> None:
        """gunicorn gives the worker up: it did not answer for too long."""
        self.alive = False
        self.cfg.worker_abort(self)
        sys.exit(1)


def _listener(wrapped: Any) -> Any:
    """gunicorn's listening socket, as one of ours with the same descriptor."""
    theirs = wrapped.sock
    return socket.socket(theirs.family, theirs.type, theirs.proto, fileno=theirs.detach())
