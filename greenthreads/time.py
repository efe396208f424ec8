"""`time`, for threads of both kinds: `sleep` parks a user thread, and `monotonic` reads the clock that it sleeps by.

Everything else is the standard module's.
"""

from __future__ import annotations

import time as _standard
from typing import TYPE_CHECKING, Any

from scheduler import functions as _functions
from scheduler.kernel import current_task

__all__ = [name for name in dir(_standard) if not name.startswith("_")]

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...

for _name in __all__:
    if _name != "sleep":
        globals()[_name] = getattr(_standard, _name)
del _name

sleep = _functions.sleep


def monotonic() -> float:
    """Seconds on the clock that the calling thread's deadlines are measured by: the scheduler's, which may be virtual,
    in a user thread; `time.monotonic` in a kernel thread.
    """
    return current_task().now()


def monotonic_ns() -> int:
    """`monotonic()` in nanoseconds."""
    return int(current_task().now() * 1e9)
