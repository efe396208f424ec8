"""`time`, for threads of both kinds: `sleep` parks a user thread, and `monotonic` reads the clock that it sleeps by.

Everything else is the standard module's.
"""

from __future__ import annotations

import time as _standard
from typing import TYPE_CHECKING, Any

from scheduler import functions as _functions
from scheduler.kernel import current_task, kernel_ident

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


if hasattr(_standard, "pthread_getcpuclockid"):
    _pthread_getcpuclockid = _standard.pthread_getcpuclockid

    def pthread_getcpuclockid(thread_id: int, /) -> int:
        """As the standard function: of a user thread, the clock of the kernel thread that runs it.

        ProcessLookupError if that user thread has ended.
        """
        return _pthread_getcpuclockid(kernel_ident(thread_id))
