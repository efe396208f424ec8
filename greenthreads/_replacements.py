"""What is put in the place of what in the standard modules, one function a module.

To patch another module is to add a function, and a line to `TABLE`. How it is done, and undone: `patch`.
"""

from __future__ import annotations

import _thread as _standard_thread
import os
import queue as _standard_queue
import sys
import threading as _standard
from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

from greenthreads import (
    _barrier,
    _condition,
    _event,
    _local,
    _lock,
    _rlock,
    _semaphore,
    _thread,
    queue,
    threads,
    time,
    trace,
)
from greenthreads.carriers import standard_threads
from scheduler.functions import sleep

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["EARLY", "TABLE", "names_of_builtins"]


def _names_of_thread() -> dict[str, Any]:
    """`_thread`."""
    names = [*_thread.__all__, "_local", "_count", "_ThreadHandle", "_set_sentinel"]
    return {name: getattr(_thread, name) for name in names if hasattr(_standard_thread, name)}


def _names_of_threading() -> dict[str, Any]:
    """`threading`, and what it has taken from `_thread`. `RLock` there is a function that makes a `_CRLock`."""
    names: dict[str, Any] = {
        "Barrier": _barrier.Barrier,
        "BoundedSemaphore": _semaphore.BoundedSemaphore,
        "Condition": _condition.Condition,
        "Event": _event.Event,
        "Lock": _lock.Lock,
        "Semaphore": _semaphore.Semaphore,
        "local": _local.local,
        "_CRLock": _rlock.RLock,
        "_DummyThread": threads._DummyThread,
        "_LockType": _lock.Lock,
        "_MainThread": threads._MainThread,
        "_ThreadHandle": getattr(_thread, "_ThreadHandle", None),
        "_active": _Active(),
        "_allocate_lock": _lock.Lock,
        "_set_sentinel": getattr(_thread, "_set_sentinel", None),
        "_start_joinable_thread": getattr(_thread, "start_joinable_thread", None),
        "_start_new_thread": _thread.start_new_thread,
    }
    for name in (
        "activeCount", "active_count", "currentThread", "current_thread", "enumerate", "get_ident", "get_native_id",
        "main_thread",
    ):  # fmt: skip
        names[name] = getattr(threads, name)
    for name in trace.__all__:
        names[name] = getattr(trace, name)
    return {name: value for name, value in names.items() if hasattr(_standard, name)}


def _names_of_queue() -> dict[str, Any]:
    """`queue`."""
    # The exceptions are the same, unless the module was imported anew.
    names = ["Empty", "Full", "LifoQueue", "PriorityQueue", "Queue", "SimpleQueue"]
    if hasattr(_standard_queue, "ShutDown"):
        names.append("ShutDown")
    return {name: getattr(queue, name) for name in names}


def _names_of_c_queue() -> dict[str, Any]:
    """`_queue`, which some take the class from."""
    return {"Empty": queue.Empty, "SimpleQueue": queue.SimpleQueue}


def _names_of_time() -> dict[str, Any]:
    """`time`."""
    names: dict[str, Any] = {"sleep": sleep}
    if hasattr(time, "pthread_getcpuclockid"):
        names["pthread_getcpuclockid"] = time.pthread_getcpuclockid
    return names


def _names_of_futures() -> dict[str, Any]:
    """`concurrent.futures`, which takes the class from here. Its futures find our conditions by themselves."""
    from greenthreads import futures

    # It stands on the standard module, so importing it may be what has led here. Then it calls `complete` at its end.
    if not hasattr(futures, "ThreadPoolExecutor"):
        return {}
    return {"ThreadPoolExecutor": futures.ThreadPoolExecutor}


def _names_of_socket() -> dict[str, Any]:
    """`socket`. What else it defines makes sockets, and looks up names, by these."""
    from greenthreads import socket

    names = ["getaddrinfo", "gethostbyaddr", "gethostbyname", "gethostbyname_ex", "getnameinfo", "socket"]
    return {name: getattr(socket, name) for name in names}


def _names_of_select() -> dict[str, Any]:
    """`select`."""
    from greenthreads import select

    return {name: getattr(select, name) for name in ("select", "poll", "epoll", "kqueue") if hasattr(select, name)}


def _names_of_selectors() -> dict[str, Any]:
    """`selectors`. The classes stay; they hold functions of `select`."""
    from greenthreads import select

    names: dict[str, Any] = {"SelectSelector._select": staticmethod(select.select)}
    if hasattr(select, "poll"):
        names["PollSelector._selector_cls"] = staticmethod(select.poll)
    if hasattr(select, "epoll"):
        names["EpollSelector._selector_cls"] = select.epoll
    return names


def _names_of_ssl() -> dict[str, Any]:
    """`ssl`. The contexts stay, also those that were made before: they ask their class what to make."""
    from greenthreads import ssl

    return {"SSLContext.sslsocket_class": ssl.SSLSocket}


def _names_of_subprocess() -> dict[str, Any]:
    """`subprocess`."""
    from greenthreads import subprocess

    return {"Popen": subprocess.Popen}


def _names_of_os() -> dict[str, Any]:
    """`os`."""
    from greenthreads import os as our_os

    names = ["popen", "read", "readv", "system", "wait", "wait3", "wait4", "waitid", "waitpid", "write", "writev"]
    return {name: getattr(our_os, name) for name in names if hasattr(os, name)}


def _names_of_signal() -> dict[str, Any]:
    """`signal`."""
    from greenthreads import signal

    names = ["getsignal", "pthread_kill", "signal", "sigtimedwait", "sigwait", "sigwaitinfo"]
    return {name: getattr(signal, name) for name in names if hasattr(signal, name)}


def _names_of_psycopg() -> dict[str, Any]:
    """`psycopg.waiting`, which by itself would choose a function in C that blocks."""
    waiting = sys.modules["psycopg.waiting"]
    return {"wait": waiting.wait_poll} if hasattr(waiting, "wait_poll") else {}


def _names_of_trio() -> dict[str, Any]:
    """`trio._core._thread_cache`, which gives its threads names by a C function that takes none but kernel threads."""
    return {"set_os_thread_name": None}


def _names_of_semaphores() -> dict[str, Any]:
    """`multiprocessing.synchronize`. Locks, semaphores, conditions and events all stand on this class."""
    from greenthreads import _processes

    return {
        "SemLock._make_methods": _processes.make_methods,
        "SemLock.__enter__": _processes.enter,
        "SemLock.__exit__": _processes.leave,
    }


def _names_of_connections() -> dict[str, Any]:
    """`multiprocessing.connection`."""
    from greenthreads import _processes

    connection = getattr(sys.modules["multiprocessing.connection"], "Connection", None)
    if connection is None or os.name == "nt":
        return {}
    return _processes.with_our_calls(connection)


def names_of_builtins() -> dict[str, Any]:
    """`builtins`, where it is asked for."""
    from greenthreads import files

    return {"input": files.input, "open": files.open}


# By module, what makes the dict of its replacements. A module that is not imported yet gets them when it is. A name
# with a dot is that of a class's attribute.
TABLE: dict[str, Callable[[], dict[str, Any]]] = {
    "_thread": _names_of_thread,
    "threading": _names_of_threading,
    "queue": _names_of_queue,
    "_queue": _names_of_c_queue,
    "time": _names_of_time,
    "concurrent.futures.thread": _names_of_futures,
    "select": _names_of_select,
    "selectors": _names_of_selectors,
    "socket": _names_of_socket,
    "ssl": _names_of_ssl,
    "os": _names_of_os,
    "subprocess": _names_of_subprocess,
    "signal": _names_of_signal,
    "multiprocessing.connection": _names_of_connections,
    "multiprocessing.synchronize": _names_of_semaphores,
    "psycopg.waiting": _names_of_psycopg,
    "trio._core._thread_cache": _names_of_trio,
}

# What is imported before it is patched.
EARLY = ("select", "selectors", "signal", "socket", "ssl", "subprocess")


class _Active(MutableMapping[int, Any]):
    """`threading._active` while patched: all threads that are alive, by their identifiers."""

    def _threads(self) -> dict[int, Any]:
        return {each.ident: each for each in threads.enumerate() if each.ident is not None}

    def __getitem__(self, ident: int) -> Any:
        return self._threads()[ident]

    def __iter__(self) -> Iterator[int]:
        return iter(self._threads())

    def __len__(self) -> int:
        return len(self._threads())

    def __setitem__(self, ident: int, value: Any) -> None:
        """Called by a standard thread that begins."""
        standard_threads[ident] = value

    def __delitem__(self, ident: int) -> None:
        """Called by a standard thread that ends, and by who wants to be rid of one."""
        standard_threads.pop(ident, None)
