"""What a controlled run finds in place of the standard modules, and how all of it is put back.

Names are replaced as `greenthreads.patch` does it, and the clocks of `time` beside them: in a thread under control they
read virtual time, which passes only while nothing else can happen. Other threads of the process (a test runner's
watchdog) still find the real ones, for each of these functions asks who is calling.

`random` is seeded anew for each execution, and the garbage collector runs between executions, not inside: when it runs
depends on what was allocated before, and what it runs (finalizers, weak references) may be part of the program.
"""

from __future__ import annotations

import gc
import itertools
import random
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from greenthreads import patch
from scheduler.continuation import current
from scheduler.controlled import ControlledTask

if TYPE_CHECKING:
    from collections.abc import Callable

    from scheduler.controlled import ControlledScheduler

__all__ = ["Environment"]

# What `time.time()` says when an execution begins: the same in each. (2020-01-01, 00:00 UTC)
EPOCH = 1_577_836_800.0
# How often a thread may look at the clock, while nobody does anything, before that counts as spinning.
_LOOKS = 50
# How many executions there are between two runs of the garbage collector.
_COLLECT_AFTER = 200


class Environment:
    """The world of one exploration: enter it once, call `begin` before each execution."""

    def __init__(self, scheduler: ControlledScheduler) -> None:
        self._scheduler = scheduler
        self._patched = patch.patched()
        self._clocks = patch._Patch()
        self._random: Any = None
        # Seeding takes longer than many an execution: it is done when somebody asks for a random number.
        self._is_seeded = False
        self._excepthook: Any = None
        self._counter: Any = None
        self._gc_was_on = False
        self._executions = 0
        # Looks at the clock since anybody did anything.
        self._looks = (0, 0)
        self._offset = 0.0

    def __enter__(self) -> Environment:
        self._patched.__enter__()
        self._random = random.getstate()
        try:
            self._clocks.replace(time, self._clock_functions())
            self._clocks.replace(random, self._random_functions())
            self._clocks._names_bound_before()
        except BaseException:
            self._clocks.undo()
            self._patched.__exit__(None, None, None)
            raise
        self._excepthook = threading.excepthook
        self._counter = vars(threading)["_counter"]
        self._gc_was_on = gc.isenabled()
        gc.disable()
        return self

    def __exit__(self, *_: object) -> None:
        if self._gc_was_on:
            gc.enable()
        threading.excepthook = self._excepthook
        vars(threading)["_counter"] = self._counter
        random.setstate(self._random)
        self._clocks.undo()
        self._patched.__exit__(None, None, None)
        gc.collect(1)

    def begin(self, excepthook: Callable[[Any], object]) -> None:
        """Make the world what it was before the last execution. `excepthook` hears of exceptions in threads."""
        self._is_seeded = False
        # Names of threads, and of executors' threads, are numbered from the start.
        vars(threading)["_counter"] = itertools.count(1).__next__
        threading.excepthook = excepthook
        self._executions += 1
        if self._executions % _COLLECT_AFTER == 0:
            gc.collect(1 if self._executions % (20 * _COLLECT_AFTER) else 2)
        numpy = sys.modules.get("numpy.random")
        if numpy is not None:
            numpy.seed(0)

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

    # ---- Clocks ------------------------------------------------------------------------------------------------------

    def _now(self) -> float | None:
        """Virtual seconds since the execution began; None for a thread that is not under control."""
        if type(getattr(current(), "task", None)) is not ControlledTask:
            return None
        scheduler = self._scheduler
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
