"""When every thread waits: may anybody still wake one, and if not, the report.

gevent raises whenever its loop has nothing to do, also when a kernel thread or a signal handler was about to wake a
greenlet. Here the program waits, as threads do, while anybody outside the scheduler could: a live kernel thread, or a
signal handler that the program installed.
"""

from __future__ import annotations

import signal
import sys
import threading
from _thread import get_ident

# By name: a program may put ours into the module later.
from signal import getsignal
from typing import TYPE_CHECKING, Any, NamedTuple

from scheduler.frames import of_the_program, outside_of_engine
from scheduler.kernel import on_main_kernel_thread

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import FrameType

    from scheduler.task import Task, UserTask

__all__ = [
    "Reasons",
    "Waiting",
    "anybody_outside",
    "holder_name",
    "report",
    "table",
    "where",
]

# As they were when this module was imported: a program may put others in their place.
_StandardTimer = threading.Timer
_standard_threads: dict[int, threading.Thread] = threading._active  # type: ignore[attr-defined]

# Tools that keep a thread or a handler beside the program and never wake anything in it.
_WATCHDOGS = ("pytest_timeout", "execnet", "pydevd", "debugpy", "xdist")

# Kernel threads of our own that only wait for calls, by ident, and the calls that they have not finished yet: an idle
# worker wakes nobody, but one that has been given a call, and has not run since, will. Dicts for their atomic
# operations; see greenthreads.kernelpool.
idle_workers: dict[int, None] = {}
unfinished_calls: dict[object, None] = {}

class Waiting(NamedTuple):
    """One thread of a deadlock: who waits, for what, who holds that, and where it waits."""

    thread: str
    what: str
    holder: str | None
    file: str
    line: int
    function: str


def anybody_outside() -> bool:
    """Whether a kernel thread other than the calling one, or a signal handler, might wake a thread."""
    if unfinished_calls:
        return True
    mine = get_ident()
    for ident, frame in list(sys._current_frames().items()):
        if ident != mine and ident not in idle_workers and not _is_watchdog(ident, frame):
            return True
    return on_main_kernel_thread() and _has_handler()


def _is_watchdog(ident: int, frame: FrameType | None) -> bool:
    thread = _standard_threads.get(ident)
    if isinstance(thread, _StandardTimer) and _of_watchdog(thread.function):
        return True
    # Whose code it is in now, not who started it: a test that such a tool runs has the tool's frames further out.
    while frame is not None and _package(frame) in sys.stdlib_module_names:
        frame = frame.f_back
    return frame is not None and _package(frame) in _WATCHDOGS


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _of_watchdog(function: Any) -> bool:
    return str(getattr(function, "__module__", "")).partition(".")[0] in _WATCHDOGS


def _has_handler() -> bool:
    for number in signal.valid_signals():
        handler = getsignal(number)
        if not callable(handler) or handler is signal.default_int_handler or isinstance(handler, signal.Handlers):
            continue
        # Our own: the one for Ctrl-C raises in the main thread, which ends the wait, but nobody counts on it.
        if not getattr(handler, "wakes_nobody", False) and not _of_watchdog(handler):
            return True
    return False


def where(task: UserTask) -> tuple[str, int, str]:
    """File, line and function where a parked task waits: its innermost frame outside of this library.

    A thread may have none, as with `target=event.wait`. Then it is what it waits in, and not the engine below that.
    """
    innermost = task.continuation.gr_frame if task.continuation is not None else None
    frame = of_the_program(innermost) or outside_of_engine(innermost) or innermost
    if frame is None:
        return "?", 0, "?"
    return frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name


class Reasons:
    """Puts what parked threads wait for into words. Things are numbered in the order in which they come up."""

    def __init__(self) -> None:
        self._numbers: dict[int, str] = {}
        self._count: dict[str, int] = {}

    def of(self, task: Task) -> tuple[str, Task | None]:
        """What `task` waits for, and who holds that, if anybody does."""
        reason = task.waits_for()
        scheduler = task.scheduler
        suspension = None if scheduler is None else scheduler.suspended.get(task)  # type: ignore[call-overload]
        if suspension is not None and suspension.due:
            return "resume()", None
        if reason is None:
            return "nothing (it was never run)", None
        if isinstance(reason, str):
            return reason, None
        what, holder, wants = reason.waiting_for(task)
        if what[:1].isupper():
            if id(reason) not in self._numbers:
                self._count[what[0]] = self._count.get(what[0], 0) + 1
                self._numbers[id(reason)] = f"{what} {what[0]}{self._count[what[0]]}"
            what = self._numbers[id(reason)]
        return what + (f" ({wants})" if wants else ""), holder


def report(tasks: Iterable[UserTask]) -> list[Waiting]:
    """Who waits for what. Things waited for are numbered in the order in which they appear."""
    reasons = Reasons()
    rows = []
    for task in tasks:
        what, holder = reasons.of(task)
        rows.append(Waiting(task.name, what, None if holder is None else holder_name(holder), *where(task)))
    return rows


def holder_name(holder: Task) -> str:
    """The name of who holds something, for reports."""
    return f"{holder.name!r}, which has ended" if holder.done else repr(holder.name)


def table(rows: Sequence[Waiting]) -> str:
    """The report as text, a line a thread."""
    count = f"{len(rows)} threads wait" if len(rows) != 1 else "the only thread waits"
    lines = [f"{count} and nothing can wake {'any of them' if len(rows) != 1 else 'it'}"]
    names = [repr(row.thread) for row in rows]
    whats = [f"waits for {row.what}" + (f", held by {row.holder}" if row.holder else "") for row in rows]
    name_width, what_width = max(map(len, names)), max(map(len, whats))
    for row, name, what in zip(rows, names, whats, strict=True):
        place = f"{row.file}:{row.line} in {row.function}" if row.line else "before its first line"
        lines.append(f"  {name:{name_width}}  {what:{what_width}}  {place}")
    return "\n".join(lines)
