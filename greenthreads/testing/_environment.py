"""What a controlled run finds in place of the standard modules, and how all of it is put back.

Names are replaced as `greenthreads.patch` does it, and the clocks of `time` beside them: in a thread under control they
read virtual time, which passes only while nothing else can happen. Other threads of the process (a test runner's
watchdog) still find the real ones, for each of these functions asks who is calling. What the code under test made
before the run is replaced object by object; see `_standins`.

`random` and the system's random numbers (`os.urandom`, `uuid4`, `secrets`) are seeded anew for each execution, what the
standard library orders by address is numbered (`_order`), and the garbage collector runs between executions, not
inside: when it runs depends on what was allocated before, and what it runs (finalizers, weak references) may be part of
the program.

Imports are no part of the schedule: only the first execution makes them, and with steps in them it would be different
from all that follow. So the import system keeps its own locks; to them all threads under control are one.
"""

from __future__ import annotations

import gc
import importlib
import itertools
import os
import random
import sys
import threading
import time
from concurrent.futures import _base
from concurrent.futures import thread as _executor_module
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from greenthreads import patch
from greenthreads.testing._accesses import forget_classes
from greenthreads.testing._order import Numbering
from greenthreads.testing._standins import StandIns
from scheduler.continuation import current
from scheduler.controlled import ControlledTask
from scheduler.errors import TaskExit

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from scheduler.controlled import ControlledScheduler

__all__ = ["Environment"]

_bootstrap: Any = vars(importlib)["_bootstrap"]
# What the import system uses of `_thread`, as it is while nothing is patched.
_for_imports = SimpleNamespace(allocate_lock=patch._allocate_lock, get_ident=patch._get_ident, RLock=patch._RLOCK)

# By which a standard executor, made before the run, tells its workers that the interpreter ends.
_executor: Any = _executor_module
_queues_of_workers: Any = vars(_executor)["_threads_queues"]

# What `time.time()` says when an execution begins: the same in each. (2020-01-01, 00:00 UTC)
EPOCH = 1_577_836_800.0
# How often a thread may look at the clock, while nobody does anything, before that counts as spinning.
_LOOKS = 50
# From how many steps on a look at the clock takes time itself, in seconds, and how much longer the next one takes. What
# does something "for 30 seconds" ends by that. It is no lie: on a slow machine it would be so.
_LONG_RUN = 5_000
_FIRST_LOOK = 0.001
_NEXT_LOOK = 2.0
# How many executions there are between two runs of the garbage collector.
_COLLECT_AFTER = 200


def _is_no_exit(record: logging.LogRecord) -> bool:
    """A worker of an executor logs whatever ends it, also that it is unwound."""
    return not (record.exc_info and record.exc_info[0] is TaskExit)


class Environment:
    """The world of one exploration: enter it once, call `begin` before each execution."""

    def __init__(self, scheduler: ControlledScheduler, fn: object) -> None:
        self._scheduler = scheduler
        self._fn = fn
        # What comes too late for it, the stand-ins reach.
        self._patched = patch.patched(warn=False)
        self._ours = patch._Patch()
        self._numbering = Numbering()
        self._stand_ins: StandIns
        self._workers_before: list[Any] = []
        self._random: Any = None
        self._numpy_random: Any = None
        # Seeding takes longer than many an execution: it is done when somebody asks for a random number.
        self._is_seeded = False
        # What threads under control get for the system's random numbers.
        self._system = random.Random()
        self._system_is_seeded = False
        self._gc_was_on = False
        self._executions = 0
        # Looks at the clock since anybody did anything.
        self._looks = (0, 0)
        self._look_takes = _FIRST_LOOK

    def __enter__(self) -> Environment:
        self._patched.__enter__()
        self._random = random.getstate()
        try:
            self._replace()
        except BaseException:
            self._put_back()
            raise
        numpy = sys.modules.get("numpy.random")
        self._numpy_random = None if numpy is None else numpy.get_state()
        self._gc_was_on = gc.isenabled()
        gc.disable()
        return self

    def __exit__(self, *_: object) -> None:
        if self._gc_was_on:
            gc.enable()
        self._put_back()
        random.setstate(self._random)
        if self._numpy_random is not None:
            sys.modules["numpy.random"].set_state(self._numpy_random)
        gc.collect(1)

    def _replace(self) -> None:
        ours = self._ours
        self._stand_ins = StandIns(self._scheduler.host)
        self._workers_before = list(_queues_of_workers)
        ours.replace(time, self._clock_functions())
        urandom = self._urandom_for(os.urandom)
        ours.replace(os, {"urandom": urandom})
        # The name by which `random.SystemRandom`, and `secrets`, have it.
        ours.replace(random, {**self._random_functions(), "_urandom": urandom})
        ours._names_bound_before()
        self._numbering.apply(ours)
        ours.set(_bootstrap, "_thread", _for_imports)
        for name in ("excepthook", "_counter"):
            ours.set(threading, name, vars(threading)[name])
        ours.set(_executor, "_shutdown", False)
        _base.LOGGER.addFilter(_is_no_exit)
        self._stand_ins.install(self._fn, {**patch.replaced_now(), **ours._new_for})

    def _put_back(self) -> None:
        _base.LOGGER.removeFilter(_is_no_exit)
        self._stand_ins.restore()
        for worker in list(_queues_of_workers):
            if worker not in self._workers_before:
                # It has ended, but the interpreter would wait for it in the end.
                del _queues_of_workers[worker]
        self._ours.undo()
        self._patched.__exit__(None, None, None)

    def begin(self, excepthook: Callable[[Any], object]) -> None:
        """Make the world what it was before the last execution. `excepthook` hears of exceptions in threads."""
        self._is_seeded = self._system_is_seeded = False
        self._look_takes = _FIRST_LOOK
        self._numbering.begin()
        self._stand_ins.reset()
        _executor._shutdown = False
        # Names of threads, and of executors' threads, are numbered from the start.
        vars(threading)["_counter"] = itertools.count(1).__next__
        threading.excepthook = excepthook
        self._executions += 1
        if self._executions % _COLLECT_AFTER == 0:
            # Else the classes that executions have made would be kept, by what is known of their attributes.
            forget_classes()
            gc.collect(1 if self._executions % (20 * _COLLECT_AFTER) else 2)
        numpy = sys.modules.get("numpy.random")
        if numpy is not None:
            numpy.seed(0)

    def end_main(self) -> None:
        """Called when the main thread is about to end: tell the workers of standard executors that the program ends."""
        # A look at its size first: to walk through a weak dictionary takes longer than many a thread.
        workers = len(_queues_of_workers) and [w for w in _queues_of_workers if w not in self._workers_before]
        if workers:
            _executor._shutdown = True
            for worker in workers:
                _queues_of_workers[worker].put(None)

    # ---- Random numbers ----------------------------------------------------------------------------------------------

    def _random_functions(self) -> dict[str, Any]:
        seed = random.seed

        def seeded(real: Callable[..., Any]) -> Callable[..., Any]:
            def function(*args: Any, **kwargs: Any) -> Any:
                if not self._is_seeded:
                    self._is_seeded = True
                    seed(0)
                return real(*args, **kwargs)

            function.__name__ = function.__qualname__ = real.__name__
            return function

        names = [name for name in random.__all__ if getattr(getattr(random, name), "__self__", None) is random._inst]
        return {name: seeded(getattr(random, name)) for name in names}

    def _urandom_for(self, real: Callable[[int], bytes]) -> Callable[[int], bytes]:
        def urandom(size: int, /) -> bytes:
            if type(size) is not int or size < 0 or type(getattr(current(), "task", None)) is not ControlledTask:
                return real(size)
            if not self._system_is_seeded:
                self._system_is_seeded = True
                self._system.seed(0)
            return self._system.randbytes(size)

        urandom.__qualname__ = real.__name__
        return urandom

    # ---- Clocks ------------------------------------------------------------------------------------------------------

    def _now(self) -> float | None:
        """Virtual seconds since the execution began; None for a thread that is not under control."""
        if type(getattr(current(), "task", None)) is not ControlledTask:
            return None
        scheduler = self._scheduler
        if len(scheduler.trace) > _LONG_RUN:
            scheduler.clock.advance(self._look_takes)
            self._look_takes *= _NEXT_LOOK
        if scheduler.early:
            scheduler.step("clock", None)
            return scheduler.clock.now()
        changes, looks = self._looks
        if changes != scheduler.changes:
            self._looks = (scheduler.changes, 1)
        elif looks < _LOOKS:
            self._looks = (changes, looks + 1)
        else:
            scheduler.step("clock", None)
        return scheduler.clock.now()

    def _clock_functions(self) -> dict[str, Any]:
        def seconds(real: Callable[[], float], start: float) -> Callable[[], float]:
            def clock() -> float:
                now = self._now()
                return real() if now is None else start + now

            clock.__name__ = clock.__qualname__ = real.__name__
            return clock

        def nanoseconds(real: Callable[[], int], start: float) -> Callable[[], int]:
            def clock() -> int:
                now = self._now()
                return real() if now is None else round((start + now) * 1e9)

            clock.__name__ = clock.__qualname__ = real.__name__
            return clock

        functions: dict[str, Any] = {}
        for name, start in (("monotonic", 0.0), ("perf_counter", 0.0), ("time", EPOCH)):
            functions[name] = seconds(getattr(time, name), start)
            functions[f"{name}_ns"] = nanoseconds(getattr(time, f"{name}_ns"), start)
        return functions
