"""Timeouts: from what a caller passes to a deadline, with threading's own errors.

A bad one is shown to a free lock of the standard library, to raise what it always raises. The texts differ from one
Python to the next.
"""

from __future__ import annotations

from _thread import TIMEOUT_MAX, allocate_lock

from scheduler import control
from scheduler.kernel import current_task

__all__ = ["TIMEOUT_MAX", "deadline_after", "deadline_of", "until"]


def deadline_of(blocking: bool, timeout: float) -> float | None:
    """The deadline of a lock's `acquire(blocking, timeout)` on the caller's clock, or None."""
    if blocking is False and timeout == -1:
        return None
    allocate_lock().acquire(blocking, timeout)
    return None if timeout == -1 else deadline_after(timeout)


def deadline_after(timeout: float | None) -> float | None:
    """The deadline `timeout` seconds from now on the caller's clock; None for None. Negative ones have passed."""
    if timeout is None:
        return None
    if not timeout <= TIMEOUT_MAX:  # nor is nan
        allocate_lock().acquire(True, timeout)
    return current_task().now() + timeout


def until(blocking: bool, timeout: float | None) -> float | None:
    """The deadline of a step that waits at most `timeout` seconds if `blocking`.

    For what looks at its timeout only when it has to wait: with a bad one it does not wait, and what comes after the
    step is to refuse it.
    """
    try:
        if not blocking or (timeout is not None and timeout <= 0):
            return control.AT_ONCE
        return deadline_after(timeout)
    except (TypeError, ValueError, OverflowError):
        return control.AT_ONCE
