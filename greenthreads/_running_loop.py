"""asyncio's running event loop, while other user threads run.

asyncio takes the kernel thread for the thread: which loop runs, what is told of new asynchronous generators and, since
Python 3.14, which of its tasks runs, are the kernel thread's. So where a user thread is switched out in the midst of a
loop, or a loop waits, it is set aside: another user thread may run one of its own, and find that none runs.

Not where a coroutine calls what parks its thread, by a lock or `sleep`: which should not be done in a coroutine anyhow,
for it blocks the loop. There the loop stays the running one, also for the threads that run meanwhile; see docs/io.md.
Rejected, to find these too: a function called at each switch, by every program with an event loop in a user thread.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["set_aside"]

# Until then asyncio keeps the task that runs by its loop.
_TASK_OF_THREAD = sys.version_info >= (3, 14)


def set_aside() -> Callable[[], None] | None:
    """Have no event loop running, as asyncio sees it; returns what undoes that, None if none was running."""
    events: Any = sys.modules.get("asyncio.events")
    loop = None if events is None else events._get_running_loop()
    if loop is None:
        return None
    task = sys.modules["asyncio.tasks"]._swap_current_task(loop, None) if _TASK_OF_THREAD else None
    hooks = sys.get_asyncgen_hooks()
    events._set_running_loop(None)
    sys.set_asyncgen_hooks(None, None)
    return partial(_put_back, events, loop, task, hooks)


def _put_back(events: Any, loop: Any, task: Any, hooks: Any) -> None:
    sys.set_asyncgen_hooks(*hooks)
    events._set_running_loop(loop)
    if task is not None:
        sys.modules["asyncio.tasks"]._swap_current_task(loop, task)
