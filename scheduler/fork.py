"""After `os.fork()`: in the child only the thread that forked exists, as POSIX has it.

The others neither run nor are unwound there: their `finally` blocks belong to the parent, where the threads go on.
Dropping the last reference to a parked greenlet would raise GreenletExit in it, so the child keeps what it inherited,
unreachable to anybody else, until it ends.

The child may go on using threads. If the thread that forked was the main one, `run_scheduler` returns in the child as
it does in the parent; if not, the child ends with that thread, as a process does with its last thread. It may also run
a scheduler of its own, inside the inherited one.
"""

from __future__ import annotations

import os
import sys
from _thread import get_ident
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scheduler.loop import Scheduler

__all__ = ["leave_child", "running", "vanished"]

# The scheduler that runs on each kernel thread, by ident.
running: dict[int, Scheduler] = {}
# What must not be dropped while the process lives.
vanished: list[object] = []


def _in_child() -> None:
    mine = get_ident()
    others = [scheduler for ident, scheduler in running.items() if ident != mine]
    vanished.append(others)
    for scheduler in others:
        for task in scheduler.tasks:
            task.vanish()
        if scheduler.poller is not None:
            scheduler.poller.close()
    survivor = running.get(mine)
    running.clear()
    if survivor is not None:
        running[mine] = survivor
        survivor.forget_others()


def leave_child() -> None:
    """End the child of a fork with its last thread. What stands below on the stack belongs to the parent's threads."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass  # closed, or None
    os._exit(0)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
