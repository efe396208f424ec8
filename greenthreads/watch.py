"""Being watched: a program tells, over a Unix socket, what its threads do. `top` is the other side.

    greenthreads.watch.listen()      # or: run_scheduler --watchable SCRIPT

A kernel thread answers requests, a line each, with a line of JSON. It stops nothing, and hides no deadlock. Switches
are counted only while somebody is connected; until then the price is that of the kernel thread that waits.

**Only the same user can connect.** The socket is in a folder that belongs to the user and that nobody else may enter,
which is checked each time; where the system tells who is at the other end (Linux), that is checked as well.

Written on `_socket`, since a program may have put our own `socket`, whose calls park, in the place of the standard one.
"""

from __future__ import annotations

import _socket
import json
import os
import stat
import struct
import tempfile
from collections import Counter
from time import perf_counter
from typing import TYPE_CHECKING, Any

from greenthreads import dumps
from greenthreads._unpatched import allocate_lock, get_ident, start_new_thread
from greenthreads.carriers import kernel_threads
from scheduler import deadlock, fork, observers
from scheduler.task import State, UserTask

if TYPE_CHECKING:
    from scheduler.continuation import Continuation, SwitchHook

__all__ = ["Listener", "folder", "listen", "path_of"]

# How many of the longest runs, and of the things that threads wait for, are told.
_MOST_RUNS = 8
_MOST_THINGS = 12


def folder(base: str | None = None) -> str:
    """The folder of the sockets, made if need be. PermissionError if it is not the user's alone."""
    base = base or os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    path = os.path.join(base, f"greenthreads-{os.getuid()}")
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise PermissionError(f"{path} must be a folder of yours that nobody else may enter (mode 700)")
    return path


def path_of(process: int) -> str:
    """Where the process with this number listens, if it does."""
    name = f"{process}.sock"
    path = os.path.join(folder(), name)
    if process != os.getpid() and not os.path.lexists(path):
        # Started from elsewhere (by cron, say) it may not have had the variable that we have.
        other = os.path.join(folder(tempfile.gettempdir()), name)
        return other if os.path.lexists(other) else path
    return path


class _Runs(observers.Observer):
    """Counts switches, and keeps the longest runs since it was last asked."""

    def __init__(self) -> None:
        # By kernel thread, each written by that one alone.
        self._lanes: dict[int, _Lane] = {}

    def switched(self, origin: Continuation, target: Continuation) -> None:
        """See `Observer`; heard by way of `switch_hook`."""
        self.switch_hook()("switch", (origin, target))

    def switch_hook(self) -> SwitchHook:
        """See `Observer`."""
        lane = self._lanes.setdefault(get_ident(), _Lane())

        def hook(event: str, pair: tuple[Continuation, Continuation]) -> None:
            now = perf_counter()
            seconds = now - lane.since
            lane.since = now
            lane.switches += 1
            if seconds > lane.least:
                try:
                    lane.keep(seconds, getattr(pair[0], "task", None))
                except RecursionError:
                    pass  # See `Observer`.

        return hook

    def take(self) -> tuple[int, list[tuple[float, str]]]:
        """How many switches there were in all; and the longest runs, which begin anew."""
        lanes = list(self._lanes.values())
        runs = [run for lane in lanes for run in lane.runs]
        for lane in lanes:
            lane.runs, lane.least = [], 0.0
        return sum(lane.switches for lane in lanes), sorted(runs, reverse=True)[:_MOST_RUNS]


class _Lane:
    """What happens on one kernel thread."""

    __slots__ = ("least", "runs", "since", "switches")

    def __init__(self) -> None:
        self.since = perf_counter()
        self.switches = 0
        # The longest runs, and what one must exceed to be among them.
        self.runs: list[tuple[float, str]] = []
        self.least = 0.0

    def keep(self, seconds: float, task: Any) -> None:
        """Keep a run of `task`, if it was a thread's."""
        if isinstance(task, UserTask):
            runs = sorted([*self.runs, (seconds, task.name)], reverse=True)[:_MOST_RUNS]
            self.runs, self.least = runs, runs[-1][0] if len(runs) == _MOST_RUNS else 0.0


class Listener:
    """Answers whoever connects. `close` ends it."""

    def __init__(self) -> None:
        if not hasattr(_socket, "AF_UNIX"):
            raise OSError("this system has no Unix sockets to listen on")
        self.path = path_of(os.getpid())
        self._began = perf_counter()
        self._runs = _Runs()
        self._watchers = 0
        self._lock = allocate_lock()
        self._closed = False
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        if os.path.lexists(self.path):
            os.unlink(self.path)  # of a process that had the same number
        self._socket.bind(self.path)
        self._socket.listen(4)
        start_new_thread(self._accept, ())

    def close(self) -> None:
        """Stop listening. Those who are connected are answered until they go."""
        self._closed = True
        try:
            self._socket.shutdown(_socket.SHUT_RDWR)
        except OSError:
            pass
        self._socket.close()
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            pass

    def _accept(self) -> None:
        # It wakes nobody: a program in which all others wait is stuck.
        deadlock.idle_workers[get_ident()] = None
        try:
            while not self._closed:
                try:
                    descriptor, _address = self._socket._accept()  # type: ignore[attr-defined]
                except OSError:
                    return
                start_new_thread(self._serve, (_socket.socket(fileno=descriptor),))
        finally:
            deadlock.idle_workers.pop(get_ident(), None)

    def _serve(self, connection: Any) -> None:
        deadlock.idle_workers[get_ident()] = None
        try:
            if _is_same_user(connection):
                self._watch(1)
                try:
                    self._answer(connection)
                finally:
                    self._watch(-1)
        except OSError:
            pass  # The other end is gone.
        finally:
            connection.close()
            deadlock.idle_workers.pop(get_ident(), None)

    def _watch(self, change: int) -> None:
        """Hear of switches while anybody is connected."""
        with self._lock:
            before, self._watchers = self._watchers, self._watchers + change
            if not before:
                observers.subscribe_everywhere(self._runs)
            elif not self._watchers:
                observers.unsubscribe_everywhere(self._runs)

    def _answer(self, connection: Any) -> None:
        buffer = b""
        while data := connection.recv(4096):
            buffer += data
            while b"\n" in buffer:
                line, _newline, buffer = buffer.partition(b"\n")
                if line == b"figures":
                    connection.sendall(json.dumps(self.figures()).encode() + b"\n")
                elif line == b"stacks":
                    connection.sendall(json.dumps({"text": dumps.dump_threads()}).encode() + b"\n")
                else:
                    connection.sendall(b'{"error": "ask for figures or stacks"}\n')

    def figures(self) -> dict[str, Any]:
        """What the view shows: threads by state, switches, the longest runs, and waits by object."""
        states: Counter[str] = Counter()
        waits: Counter[str] = Counter()
        reasons = deadlock.Reasons()
        for scheduler in list(fork.running.values()):
            for task in list(scheduler.tasks):
                state = task.state
                states["suspended" if task in scheduler.suspended else state.value] += 1
                if state is State.PARKED:
                    what, holder = reasons.of(task)
                    waits[what if holder is None else f"{what}, held by {deadlock.holder_name(holder)}"] += 1
        switches, runs = self._runs.take()
        return {
            "process": os.getpid(),
            "seconds": perf_counter() - self._began,
            "user": dict(states),
            "kernel": len(kernel_threads),
            "schedulers": len(fork.running),
            "switches": switches,
            "runs": runs,
            "waits": waits.most_common(_MOST_THINGS),
            "others": max(0, len(waits) - _MOST_THINGS),
        }


def _is_same_user(connection: Any) -> bool:
    option = getattr(_socket, "SO_PEERCRED", None)
    if option is None:
        return True  # The folder has kept all others out.
    _process, user, _group = struct.unpack("3i", connection.getsockopt(_socket.SOL_SOCKET, option, 12))
    return bool(user == os.getuid())


_listener: Listener | None = None


def listen() -> str:
    """Let the same user's `run_scheduler --attach PID` watch this process. Returns the path of the socket.

    From any thread; once is enough. OSError if the socket can't be made.
    """
    global _listener
    if _listener is None:
        _listener = Listener()
    return _listener.path


def close() -> None:
    """Undo `listen`."""
    global _listener
    listener, _listener = _listener, None
    if listener is not None:
        listener.close()


def _in_child() -> None:
    # The kernel threads that answer stayed in the parent, and so did its number.
    global _listener
    if _listener is not None:
        # Else who connects to the parent when that is gone would wait for an answer.
        _listener._socket.close()
    _listener = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
