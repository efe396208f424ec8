"""Time slices by events of the interpreter: where no signal handler runs, and where steps are counted.

Since Python 3.12 the interpreter tells, on demand, of jumps and of functions that start (`sys.monitoring`). Before that
there is the trace function, which costs much more and is told of every line.

**Ticks.** Events are asked for only at the end of a slice: a ticking kernel thread turns them on, the thread whose
slice has ended gets the first one between two bytecodes, and turns them off. Computing costs nothing in between.

**Steps.** Events stay on, and each jump backwards (an iteration of a loop) and each return from a call is counted, in
the program's code alone: how often the engine's loops go round depends on the time. So a code object is asked for those
events only when it first starts and is seen to be none of ours.

The interpreter marks a thread as tracing while it calls us, and that mark is the kernel thread's: a user thread that
we switch to from here would be told of nothing. So the mark is taken off for the time of the switch.

**A thread may be interrupted while it is switched out here.** What a jump's event raises the interpreter takes for
raised at the instruction before the jump's target, and where a `try` begins right there the exception would miss it. So
it is kept, and raised by the event of the next instruction. A trace function that raises is unset; the root sets it
again, for all threads but the one that was interrupted, which before Python 3.12 is not cut short any more.
"""

from __future__ import annotations

import ctypes
import signal
import sys
from _thread import allocate_lock, get_ident, start_new_thread
from itertools import repeat
from typing import TYPE_CHECKING, Any

from scheduler import deadlock
from scheduler.continuation import current
from scheduler.errors import SchedulerBug, SchedulerError
from scheduler.frames import is_ours
from scheduler.kernel import on_main_kernel_thread
from scheduler.timeslices import Place, SliceBySignal, Slices, Steps, may_end, place

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

    from scheduler.loop import Scheduler
    from scheduler.task import Task

__all__ = ["SliceByTicks", "slices_for"]

# Feature: since Python 3.12.
_monitoring: Any = getattr(sys, "monitoring", None)
# Those that the documentation leaves to anybody, the one that is free first.
_TOOLS = (4, 3)


class _Mark:
    """The mark that the calling kernel thread is tracing."""

    def __init__(self) -> None:
        api = ctypes.pythonapi
        call = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
        self._leave, self._enter = (call((f"PyThreadState_{do}Tracing", api)) for do in ("Leave", "Enter"))
        self._state = ctypes.PYFUNCTYPE(ctypes.c_void_p)(("PyThreadState_Get", api))()

    def off(self) -> None:
        """Take it off."""
        self._leave(self._state)

    def on(self) -> None:
        """Put it back."""
        self._enter(self._state)


class _MarkOf310:
    """The same where the interpreter has no function for it: Python 3.10, whose structures change no more.

    `tracing` counts the calls of trace functions that are going on, and the present C frame, an object that greenlets
    have each their own of, begins with a copy of whether lines are traced. Gone with Python 3.10.
    """

    def __init__(self) -> None:
        state = ctypes.PYFUNCTYPE(ctypes.c_void_p)(("PyThreadState_Get", ctypes.pythonapi))()
        # PyThreadState: four pointers, three ints, `tracing`, `cframe`.
        at = 4 * ctypes.sizeof(ctypes.c_void_p) + 3 * ctypes.sizeof(ctypes.c_int)
        self._tracing = ctypes.c_int.from_address(state + at)
        self._frame = ctypes.c_void_p.from_address(state + at + ctypes.sizeof(ctypes.c_int))

    def _set(self, tracing: int) -> None:
        if self._tracing.value != 1 - tracing:
            raise SchedulerBug(f"this Python 3.10 has another layout: {self._tracing.value} for {1 - tracing}")
        self._tracing.value = tracing
        ctypes.c_int.from_address(self._frame.value or 0).value = 0 if tracing else 255

    def off(self) -> None:
        """Take it off."""
        self._set(0)

    def on(self) -> None:
        """Put it back."""
        self._set(1)


class _Runs:
    """Ends runs of one scheduler's threads, from inside an event."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        # Feature: since Python 3.11.
        self._mark = _Mark() if hasattr(ctypes.pythonapi, "PyThreadState_LeaveTracing") else _MarkOf310()

    def cut(self, frame: FrameType) -> Place:
        """Switch the calling thread out, if it may be in `frame`, where the event came.

        Raises what the thread is interrupted with meanwhile.
        """
        task = may_end(self._scheduler)
        if task is None:
            return Place.BAD
        where = place(frame)
        if where is Place.GOOD:
            self._mark.off()
            try:
                self._scheduler.cut_short(task)
            finally:
                self._mark.on()
        return where

    def post(self, call: Callable[[], object]) -> None:
        """Have the root make a call."""
        self._scheduler.post(call)


def slices_for(scheduler: Scheduler, timeslice: float | Steps) -> Slices:
    """The slices that `timeslice` asks for, for `scheduler` on the calling kernel thread."""
    if isinstance(timeslice, Steps):
        return _CountEvents(scheduler, timeslice) if _monitoring is not None else _CountByTrace(scheduler, timeslice)
    if on_main_kernel_thread() and hasattr(signal, "setitimer"):
        return SliceBySignal(scheduler, timeslice)
    return SliceByTicks(scheduler, timeslice)


# ---- By events, since Python 3.12 ------------------------------------------------------------------------------------


class _Tool:
    """A tool of `sys.monitoring`. `callbacks` are by the name of the event."""

    def __init__(self, **callbacks: Callable[..., Any]) -> None:
        for tool in _TOOLS:
            if _monitoring.get_tool(tool) is None:
                break
        else:
            raise SchedulerError(f"time slices need a tool id of sys.monitoring, and {_TOOLS} are both taken")
        self.id = tool
        self._raising: dict[Task, BaseException] = {}
        _monitoring.use_tool_id(tool, "greenthreads")
        for name, callback in {**callbacks, "INSTRUCTION": self._raise}.items():
            _monitoring.register_callback(tool, getattr(_monitoring.events, name), callback)

    def free(self) -> None:
        """Give it back."""
        _monitoring.set_events(self.id, 0)
        _monitoring.free_tool_id(self.id)

    def want(self, events: int) -> None:
        """Ask for events, of all code."""
        _monitoring.set_events(self.id, events | (_monitoring.events.INSTRUCTION if self._raising else 0))

    def raise_soon(self, exc: BaseException) -> None:
        """Raise `exc` in the calling thread at its next instruction: see the top of this file."""
        self._raising[current().task] = exc
        _monitoring.set_events(self.id, _monitoring.get_events(self.id) | _monitoring.events.INSTRUCTION)

    def _raise(self, code: CodeType, offset: int) -> None:
        if is_ours(code):
            return
        task = getattr(current(), "task", None)
        exc = None
        if task in self._raising:
            # The next instruction may be one of the program's that the engine calls, a policy's, if the function that
            # has returned was all that the thread does.
            if place(sys._getframe(1)) is not Place.GOOD:
                return
            exc = self._raising.pop(task)
        for each in list(self._raising):
            if each.done:
                del self._raising[each]
        if not self._raising:
            _monitoring.set_events(self.id, _monitoring.get_events(self.id) & ~_monitoring.events.INSTRUCTION)
        if exc is not None:
            raise exc


class _CountEvents(Slices):
    """Counts returns and jumps backwards, of all kernel threads: exact where the others run no Python code."""

    def __init__(self, scheduler: Scheduler, steps: Steps) -> None:
        self._count = steps.count
        self._runs = _Runs(scheduler)
        # The code objects that were asked for events.
        self._counted: list[CodeType] = []

    def begin(self) -> None:
        """Ask for events."""
        jumped, returned = self._counters()
        self._tool = _Tool(PY_START=self._starts, PY_RESUME=self._starts, JUMP=jumped, PY_RETURN=returned)
        frame: FrameType | None = sys._getframe()
        while frame is not None:
            self._starts(frame.f_code)
            frame = frame.f_back
        # Places that an earlier run had turned off count again: the same program, the same switches.
        _monitoring.restart_events()
        self._tool.want(_monitoring.events.PY_START | _monitoring.events.PY_RESUME)

    def _starts(self, code: CodeType, offset: int = 0) -> Any:
        """Ask for the events of `code`, and be told of this place no more."""
        if not is_ours(code) and not _monitoring.get_local_events(self._tool.id, code):
            self._counted.append(code)
            events = _monitoring.events
            _monitoring.set_local_events(self._tool.id, code, events.JUMP | events.PY_RETURN)
        return _monitoring.DISABLE

    def _counters(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        count, cut, off = self._count, self._runs.cut, _monitoring.DISABLE
        # The steps that are left, as an iterator in C that is asked for one at each: a number that is counted down, and
        # made anew each time, took a quarter more.
        left = repeat(None, count - 1)
        mine = get_ident()

        # Both on every step of the program: no more in them than must be.
        def jumped(code: CodeType, offset: int, destination: int) -> Any:
            if destination > offset:
                return off
            for _ in left:
                return None
            return ended()

        def returned(code: CodeType, offset: int, value: object) -> Any:
            for _ in left:
                return None
            return ended()

        def ended() -> Any:
            nonlocal left
            if get_ident() != mine:
                return
            # Before the switch: it is the next thread's by then.
            left = repeat(None, count - 1)
            try:
                if cut(sys._getframe(2)) is not Place.GOOD:
                    left = repeat(None, 0)
            except BaseException as exc:
                self._tool.raise_soon(exc)

        return jumped, returned

    def end(self) -> None:
        """Ask for none any more."""
        for code in self._counted:
            _monitoring.set_local_events(self._tool.id, code, 0)
        self._tool.free()


class _Shared:
    """The one tool of all schedulers that have ticks, and the kernel threads whose slice has ended."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._users = 0
        self._tool: _Tool | None = None
        self._ended: dict[int, _Runs] = {}

    def enter(self) -> None:
        """For a scheduler that begins."""
        with self._lock:
            if self._tool is None:
                self._tool = _Tool(JUMP=self._happened, PY_START=self._happened)
            self._users += 1

    def leave(self) -> None:
        """For one that ends."""
        with self._lock:
            self._users -= 1
            if not self._users and self._tool is not None:
                self._tool.free()
                self._tool = None

    def slice_ended(self, ident: int, runs: _Runs) -> None:
        """Have the kernel thread end its run at its next event. From the ticking kernel thread."""
        with self._lock:
            if self._tool is not None and ident not in self._ended:
                self._ended[ident] = runs
                self._tool.want(_monitoring.events.JUMP | _monitoring.events.PY_START)

    def take_back(self, ident: int) -> None:
        """The run has ended."""
        with self._lock:
            self._ended.pop(ident, None)
            if not self._ended and self._tool is not None:
                self._tool.want(0)

    def _happened(self, code: CodeType, *_where: int) -> None:
        ident = get_ident()
        runs = self._ended.get(ident)
        if runs is None or is_ours(code):
            return
        # First: the lock must not be asked for when another thread runs already.
        self.take_back(ident)
        try:
            runs.cut(sys._getframe(1))
        except BaseException as exc:
            if self._tool is None:
                raise
            self._tool.raise_soon(exc)


_shared = _Shared()


class SliceByTicks(Slices):
    """Slices by a ticking kernel thread, for a scheduler on any kernel thread."""

    def __init__(self, scheduler: Scheduler, seconds: float) -> None:
        self._scheduler = scheduler
        self._seconds = seconds
        self.ident = get_ident()
        self._runs: _Runs = _Runs(scheduler)
        self._bell = allocate_lock()
        self._trace: _Traced | None = None

    def begin(self) -> None:
        """Start the ticking."""
        if _monitoring is not None:
            _shared.enter()
        else:
            self._trace = _Traced(self._runs)
            self._trace.begin()
        self.resume()

    def end(self) -> None:
        """Stop it."""
        self._bell.release()
        if self._trace is not None:
            self._trace.end()
        else:
            _shared.take_back(self.ident)
            _shared.leave()

    def resume(self) -> None:
        """Start the kernel thread, unless it ticks."""
        if not self._bell.locked():
            self._bell.acquire()
            start_new_thread(self._tick, (self._bell,))

    def in_child(self) -> None:
        """The ticking kernel thread stayed in the parent."""
        self._bell = allocate_lock()
        self.resume()

    def _tick(self, bell: Any) -> None:
        # It wakes nobody: a program in which all others wait is stuck.
        ident = get_ident()
        deadlock.idle_workers[ident] = None
        try:
            while not bell.acquire(True, self._seconds):
                if self._scheduler.asleep:
                    continue
                if self._trace is not None:
                    self._trace.end_soon()
                else:
                    _shared.slice_ended(self.ident, self._runs)
        finally:
            deadlock.idle_workers.pop(ident, None)


# ---- By the trace function, before Python 3.12 -----------------------------------------------------------------------


class _Traced:
    """Counts by the trace function of the kernel thread: calls, and lines that do not lie further on."""

    def __init__(self, runs: _Runs, count: int = sys.maxsize) -> None:
        self._runs = runs
        self._count = count
        self._set = False
        # As in `_CountEvents`.
        self._left = repeat(None, count - 1)

    def begin(self) -> None:
        """Set it. SchedulerError if another tool has one."""
        if sys.gettrace() is not None:
            raise SchedulerError(
                "before Python 3.12 these time slices need the trace function, and another tool (a debugger, coverage) "
                "has set its own"
            )
        self._set = True
        sys.settrace(self._called)

    def _set_again(self) -> None:
        if self._set:
            sys.settrace(self._called)

    def end(self) -> None:
        """Take it away."""
        self._set = False
        sys.settrace(None)

    def _called(self, frame: FrameType, event: str, argument: Any) -> Any:
        if is_ours(frame.f_code):
            return None
        last = frame.f_lasti

        def happened(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal last
            if event == "line":
                at = frame.f_lasti
                if at <= last:
                    for _ in self._left:
                        break
                    else:
                        self._ended(frame)
                last = at
            return happened

        for _ in self._left:
            break
        else:
            self._ended(frame)
        return happened

    def end_soon(self) -> None:
        """End the run at the next step. From any kernel thread."""
        self._left = repeat(None, 0)

    def _ended(self, frame: FrameType) -> None:
        self._left = repeat(None, self._count - 1)
        try:
            if self._runs.cut(frame) is not Place.GOOD:
                self.end_soon()
        except BaseException:
            self._runs.post(self._set_again)
            raise
        finally:
            # Python 3.10 now writes back the frame's variables, closures' among them, as it has copied them before it
            # called us. Others may have changed those since: to be asked for, they are copied anew.
            _ = frame.f_locals


class _CountByTrace(Slices):
    """Slices of so many steps."""

    def __init__(self, scheduler: Scheduler, steps: Steps) -> None:
        self._traced = _Traced(_Runs(scheduler), steps.count)

    def begin(self) -> None:
        """Set the trace function."""
        self._traced.begin()

    def end(self) -> None:
        """Take it away."""
        self._traced.end()
