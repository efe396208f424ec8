"""The libraries that are compared, each behind an adapter of one shape.

A library whose threads block is a `Blocking`; one whose tasks await is an `Awaiting`. A measurement
is then one function over `Blocking` and one over `async`, and what differs between the libraries
stands here. The adapters hold the libraries' own functions wherever those fit, so that no wrapper
is measured along with them. Nothing is imported until an adapter is asked for: a process that
measures one library loads no other.
"""

from __future__ import annotations

import functools
import os
import platform
import sys
import warnings
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, Protocol, TypeVar

__all__ = ["BLOCKING", "CROSSING", "LIBRARIES", "Awaiting", "Blocking", "Library", "header", "missing"]

T = TypeVar("T")


class Event(Protocol):
    def set(self) -> Any: ...
    def wait(self) -> Any: ...


class Queue(Protocol):
    def put(self, item: Any) -> Any: ...
    def get(self) -> Any: ...


class Runner(Protocol):
    def __call__(self, main: Callable[[], T]) -> T: ...


class AsyncRunner(Protocol):
    def __call__(self, main: Coroutine[Any, Any, T]) -> T: ...


@dataclass(frozen=True)
class Blocking:
    """A library whose threads block: how each thing is written with it.

    `run(main)` calls `main` where threads can be started; `queue()` is unbounded and
    `queue(size)` bounded. An `event` need only serve once.
    """

    run: Runner
    spawn: Callable[..., Any]
    join: Callable[[Any], Any]
    yield_now: Callable[[], Any]
    sleep: Callable[[float], Any]
    lock: Callable[[], AbstractContextManager[Any]]
    event: Callable[[], Event]
    queue: Callable[..., Queue]


@dataclass(frozen=True)
class Awaiting:
    """An event loop for asyncio's tasks."""

    run: AsyncRunner


def call(main: Callable[[], T]) -> T:
    """`run` for libraries that need nothing around the main thread."""
    return main()


def greenthreads() -> Blocking:
    """User threads of this project, through the `Thread` class."""
    library = import_module("greenthreads")

    def spawn(target: Callable[..., Any], *args: Any) -> Any:
        thread = library.Thread(target=target, args=args)
        thread.start()
        return thread

    return Blocking(
        run=library.run_scheduler,
        spawn=spawn,
        join=library.Thread.join,
        yield_now=library.yield_now,
        sleep=library.sleep,
        lock=library.Lock,
        event=library.Event,
        queue=library.Queue,
    )


def gevent() -> Blocking:
    """gevent's own API, without patching.

    Its lock is the one that `threading.Lock` becomes when gevent patches the standard library.
    """
    library = import_module("gevent")
    return Blocking(
        run=call,
        spawn=library.spawn,
        join=library.Greenlet.join,
        yield_now=library.sleep,  # by default 0 seconds
        sleep=library.sleep,
        lock=import_module("gevent.thread").LockType,
        event=import_module("gevent.event").Event,
        queue=import_module("gevent.queue").Queue,
    )


def eventlet() -> Blocking:
    """eventlet's own API; its lock is what `threading.Lock` becomes when it patches."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it announces its own deprecation
        library = import_module("eventlet")
        green = import_module("eventlet.green.thread")
    event = import_module("eventlet.event").Event
    return Blocking(
        run=call,
        spawn=library.spawn,
        join=library.greenthread.GreenThread.wait,
        yield_now=library.sleep,  # by default 0 seconds
        sleep=library.sleep,
        lock=green.allocate_lock,
        event=type("Event", (event,), {"set": event.send}),
        queue=library.Queue,
    )


def aiologic() -> Blocking:
    """aiologic's primitives, which cross kernel threads, under gevent's threads."""
    library = import_module("aiologic")
    put_and_get = {"put": library.Queue.green_put, "get": library.Queue.green_get}
    return replace(
        gevent(),
        lock=library.Lock,
        event=library.Event,
        queue=type("Queue", (library.Queue,), put_and_get),
    )


def kernel() -> Blocking:
    """Threads of the operating system, through the standard `threading`."""
    import queue
    import threading
    import time

    def spawn(target: Callable[..., Any], *args: Any) -> threading.Thread:
        thread = threading.Thread(target=target, args=args)
        thread.start()
        return thread

    return Blocking(
        run=call,
        spawn=spawn,
        join=threading.Thread.join,
        yield_now=functools.partial(time.sleep, 0),
        sleep=time.sleep,
        lock=threading.Lock,
        event=threading.Event,
        queue=queue.Queue,
    )


def asyncio() -> Awaiting:
    return Awaiting(import_module("asyncio").run)


def uvloop() -> Awaiting:
    return Awaiting(import_module("uvloop").run)


BLOCKING: dict[str, Callable[[], Blocking]] = {
    "greenthreads": greenthreads,
    "gevent": gevent,
    "eventlet": eventlet,
    "kernel": kernel,
}
# Where a scheduler is not alone.
CROSSING: dict[str, Callable[[], Blocking]] = {"greenthreads": greenthreads, "aiologic": aiologic}
AWAITING: dict[str, Callable[[], Awaiting]] = {"asyncio": asyncio, "uvloop": uvloop}


@dataclass(frozen=True)
class Library:
    """A column of the table: its title, and the package it stands or falls with."""

    title: str
    package: str | None


LIBRARIES = {
    "greenthreads": Library("greenthreads", "greenthreads"),
    "bare": Library("bare greenlet", "greenlet"),
    "gevent": Library("gevent", "gevent"),
    "eventlet": Library("eventlet", "eventlet"),
    "aiologic": Library("aiologic", "aiologic"),
    "asyncio": Library("asyncio", None),
    "uvloop": Library("uvloop", "uvloop"),
    "kernel": Library("kernel threads", None),
}


def missing() -> list[str]:
    """The libraries that cannot be measured because their package is not installed."""
    return [
        name
        for name, library in LIBRARIES.items()
        if library.package is not None and find_spec(library.package) is None
    ]


def header() -> dict[str, str]:
    """What was measured, on what: versions, interpreter, processors, how busy they were."""
    found: dict[str, str] = {}
    for library in LIBRARIES.values():
        if library.package is not None:
            try:
                found[library.package] = version(library.package)
            except PackageNotFoundError:
                importable = find_spec(library.package) is not None
                found[library.package] = "not an installed version" if importable else "missing"
    system = {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processors": str(os.cpu_count()),
    }
    if hasattr(os, "getloadavg"):
        system["load at the start"] = f"{os.getloadavg()[0]:.1f}"
    if hasattr(sys, "_is_gil_enabled"):
        system["GIL"] = "on" if sys._is_gil_enabled() else "off"
    return {**system, **found}
