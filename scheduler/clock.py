"""Where the engine reads the time, and how it waits for it to pass.

A clock is the one source of time of a scheduler: nothing else in the engine reads one, so that a test, or an explored
execution, runs on a `VirtualClock` and never sleeps.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Clock", "MonotonicClock", "VirtualClock"]


class Clock(Protocol):
    """Seconds since some fixed moment, and a way to wait."""

    def now(self) -> float:
        """The current time, in seconds. Never goes back."""

    def wait(self, sleep: Callable[[float | None], object], timeout: float | None) -> None:
        """Let `timeout` seconds pass (None: no limit) by calling `sleep(seconds)`, which a wakeup cuts short.

        `sleep` returns whether one did.
        """


class MonotonicClock:
    """`time.monotonic`: what production runs on."""

    now = staticmethod(time.monotonic)

    def wait(self, sleep: Callable[[float | None], object], timeout: float | None) -> None:
        """Sleep for real."""
        sleep(timeout)


class VirtualClock:
    """A clock that jumps: when every thread waits, the next deadline is due at once.

    With kernel threads in play the jump does not wait for them; only a wait without any deadline does. Nor does it
    wait for the other side of a descriptor, but what has come in already comes first.
    """

    def __init__(self, start: float = 0.0) -> None:
        self._now = start

    def now(self) -> float:
        """The virtual time, in seconds."""
        return self._now

    def wait(self, sleep: Callable[[float | None], object], timeout: float | None) -> None:
        """Jump to the deadline; really sleep only if there is none."""
        if timeout is None:
            sleep(None)
        elif not sleep(0.0):
            self._now += timeout

    def advance(self, seconds: float) -> None:
        """Move the clock on by hand."""
        self._now += seconds
