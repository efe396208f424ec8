"""Dumps: what every thread of both kinds is doing, as text for people and as JSON for tools.

A dump only reads. Nothing is stopped for it: what it says is exact for the user threads of the calling scheduler, and
a snapshot for the others, which may go on while it is being made. So it may be made in a signal handler, also one that
has come in the middle of a primitive.

**A hundred thousand threads are readable because most do the same.** Threads of one kind and state, with equal stacks,
that wait for things of one kind, are one entry with a count. Stacks are told apart by code objects and positions, and
each distinct one is put into words only once: that is what makes a large dump fast, too.

Left out of a stack are the frames of this library; of the engine alone where there are no others.
"""

from __future__ import annotations

import gc
import json
import os
import re
import signal
import sys
import time

# By name: a program may put ours into the module later.
from signal import getsignal
from signal import signal as set_handler
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple

from greenthreads._unpatched import get_ident
from greenthreads.carriers import kernel_threads, standard_threads
from scheduler import deadlock, fork
from scheduler.frames import is_of_engine, is_ours
from scheduler.kernel import KernelTask, here
from scheduler.task import State, UserTask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, FrameType

    from greenthreads.carriers import Kind
    from scheduler.loop import Scheduler
    from scheduler.task import Task

__all__ = ["Frame", "ThreadState", "dump_on_signal", "dump_threads", "take", "undump_on_signal"]

Format = Literal["text", "json"]

# How many names, and how many things that threads wait for, an entry of the text shows.
_MOST_NAMES = 3


class Frame(NamedTuple):
    """One call on a thread's stack."""

    file: str
    line: int
    function: str


class ThreadState(NamedTuple):
    """One thread at the moment of a dump."""

    name: str
    kind: Kind
    # Of a user thread: new, ready, running, parked, suspended. Of a kernel thread: parked on one of our primitives;
    # else running, which includes system calls; or running a scheduler.
    state: str
    ident: int | None
    daemon: bool
    # The kernel thread that it runs on.
    runs_on: str
    # What it waits for ("Lock L1"), the name of who holds that, and for how many seconds it has waited.
    waits_for: str | None
    held_by: str | None
    holder_has_ended: bool
    seconds: float | None
    # The most recent call first.
    stack: tuple[Frame, ...]


# ---- Taking it -------------------------------------------------------------------------------------------------------


class _Stacks:
    """Walks stacks. Equal ones are one tuple."""

    def __init__(self) -> None:
        # By the code objects (their addresses: hashing one is slow) and positions of all frames in turn. The code
        # objects are kept, so that an address stays the same one's.
        self._stacks: dict[tuple[int, ...], tuple[Frame, ...]] = {}
        self._kept: set[CodeType] = set()
        self._distinct: dict[tuple[Frame, ...], tuple[Frame, ...]] = {}

    def of(self, frame: FrameType | None) -> tuple[Frame, ...]:
        """The stack that ends in `frame`."""
        keys: list[int] = []
        at = frame
        while at is not None:
            keys.append(id(at.f_code))
            keys.append(at.f_lasti)
            at = at.f_back
        path = tuple(keys)
        stack = self._stacks.get(path)
        if stack is None:
            stack = self._without_ours(self._in_words(frame))
            # Two paths through this library may look the same without it.
            stack = self._stacks[path] = self._distinct.setdefault(stack, stack)
        return stack

    def _in_words(self, frame: FrameType | None) -> list[tuple[Frame, CodeType]]:
        path = []
        while frame is not None:
            code = frame.f_code
            self._kept.add(code)
            path.append((Frame(code.co_filename, frame.f_lineno or 0, code.co_name), code))
            frame = frame.f_back
        return path

    def _without_ours(self, path: list[tuple[Frame, CodeType]]) -> tuple[Frame, ...]:
        for is_hidden in (is_ours, is_of_engine):
            shown = tuple(words for words, code in path if not is_hidden(code))
            if shown:
                return shown
        return tuple(words for words, _code in path)


class _Camera:
    """Takes the state of every thread."""

    def __init__(self, frame: FrameType | None) -> None:
        # The calling thread's, from where it asked.
        self._own = (get_ident(), frame)
        self._current = sys._current_frames()
        self._stacks = _Stacks()
        self._reasons = deadlock.Reasons()

    def running(self, ident: int | None) -> tuple[Frame, ...]:
        """The stack that a kernel thread runs right now."""
        mine, frame = self._own
        return self._stacks.of(frame if ident == mine else self._current.get(ident or 0))

    def user(self, task: UserTask, runs_on: str) -> ThreadState:
        """A user thread."""
        state = task.state
        # Looked at once: on another kernel thread it may end at any moment.
        continuation = task.continuation
        stack: tuple[Frame, ...] = ()
        if state is State.RUNNING:
            stack = self.running(task.scheduler.host.ident)
        elif continuation is not None:
            stack = self._stacks.of(continuation.gr_frame)
        words = "suspended" if task in task.scheduler.suspended else state.value
        return self._state(task, "user", words, runs_on, state is State.PARKED, task.scheduler.clock.now, stack)

    def kernel(self, task: KernelTask, scheduler: Scheduler | None) -> ThreadState:
        """A kernel thread that has a record."""
        parked = scheduler is None and task.wait is not None
        state = "parked" if parked else "running" if scheduler is None else "runs a scheduler"
        # The stack of one that runs a scheduler is that of the user thread which is running.
        stack = self.running(task.ident) if scheduler is None else ()
        return self._state(task, "kernel", state, task.name, parked, time.monotonic, stack)

    def _state(
        self,
        task: Task,
        kind: Kind,
        state: str,
        runs_on: str,
        parked: bool,
        now: Callable[[], float],
        stack: tuple[Frame, ...],
    ) -> ThreadState:
        what = holder = seconds = None
        if parked:
            what, holder = self._reasons.of(task)
            seconds = max(0.0, now() - getattr(task, "since", now()))
        held_by, has_ended = (None, False) if holder is None else (holder.name, holder.done)
        return ThreadState(
            task.name, kind, state, task.ident, task.daemon, runs_on, what, held_by, has_ended, seconds, stack
        )

    def stranger(self, ident: int) -> ThreadState:
        """A kernel thread that has never touched this library."""
        standard = standard_threads.get(ident)
        name = f"thread {ident}" if standard is None else standard.name
        daemon = standard is None or standard.daemon
        return ThreadState(name, "kernel", "running", ident, daemon, name, None, None, False, None, self.running(ident))

    def all(self) -> Iterator[ThreadState]:
        """The user threads of each scheduler in the order of their start, then the kernel threads."""
        schedulers = dict(fork.running)
        for scheduler in schedulers.values():
            runs_on = scheduler.host.name
            for task in list(scheduler.tasks):
                yield self.user(task, runs_on)
        records: dict[int, KernelTask] = {ident: scheduler.host for ident, scheduler in schedulers.items()}
        for thread in list(kernel_threads):
            if isinstance(thread._task, KernelTask) and thread._task.ident is not None:
                records[thread._task.ident] = thread._task
        if here.task is not None and here.task.ident is not None:
            records.setdefault(here.task.ident, here.task)
        for ident in self._current:
            record = records.get(ident)
            yield self.stranger(ident) if record is None else self.kernel(record, schedulers.get(ident))


def take(frame: FrameType | None = None) -> list[ThreadState]:
    """The state of every thread of both kinds. `frame` is where the calling thread's stack begins (default: here)."""
    return list(_Camera(sys._getframe(1) if frame is None else frame).all())


# ---- Putting it into words -------------------------------------------------------------------------------------------


def _text(threads: list[ThreadState]) -> str:
    users = sum(thread.kind == "user" for thread in threads)
    counts = f"{users:,} user and {len(threads) - users:,} kernel threads"
    lines = [f"{counts} in process {os.getpid()} (most recent call first)"]
    entries: dict[object, list[ThreadState]] = {}
    kinds: dict[str | None, str] = {None: ""}
    for thread in threads:
        # "Lock L1" and "Lock L2" are things of one kind.
        kind = kinds.get(thread.waits_for)
        if kind is None:
            kind = kinds[thread.waits_for] = re.sub(r" [A-Z]\d+\b", "", thread.waits_for or "", count=1)
        entries.setdefault((thread.kind, thread.runs_on, thread.state, kind, id(thread.stack)), []).append(thread)
    for entry in entries.values():
        lines.append("")
        lines.append(_headline(entry))
        lines += [f"    {frame.file}:{frame.line} in {frame.function}" for frame in entry[0].stack]
    return "\n".join(lines)


def _headline(entry: list[ThreadState]) -> str:
    first = entry[0]
    count = f"{len(entry):,} {first.kind} threads" if len(entry) > 1 else f"{first.kind} thread"
    where = f" on {first.runs_on!r}" if first.kind == "user" else ""
    names = _some([repr(thread.name) for thread in entry[:_MOST_NAMES]], len(entry))
    line = f"{count} {names}{where}: {first.state}"
    seconds = [thread.seconds for thread in entry if thread.seconds is not None]
    if seconds:
        least, most = f"{min(seconds):.1f}", f"{max(seconds):.1f}"
        line += f" for {least} s" if least == most else f" for {least} to {most} s"
    if first.waits_for is not None:
        things = list(dict.fromkeys((thread.waits_for, thread.held_by, thread.holder_has_ended) for thread in entry))
        shown = [_thing(*thing) for thing in things[:_MOST_NAMES]]
        line += f", {'waits' if len(entry) == 1 else 'wait'} for {_some(shown, len(things), '; ')}"
    return line


def _thing(what: str | None, holder: str | None, has_ended: bool) -> str:
    """What a thread waits for, and who holds it."""
    held = "" if holder is None else f", held by {holder!r}"
    return f"{what}{held}{', which has ended' if has_ended else ''}"


def _some(shown: list[str], count: int, separator: str = ", ") -> str:
    """The first of `count` words, and how many more there are."""
    words = separator.join(shown)
    return words if count <= len(shown) else f"{words} and {count - len(shown):,} more"


def _json(threads: list[ThreadState]) -> str:
    """Every thread by itself; stacks stand apart, each once, and threads name theirs by its index."""
    indices: dict[int, int] = {}
    stacks: list[list[dict[str, Any]]] = []
    rows = []
    for thread in threads:
        if id(thread.stack) not in indices:
            indices[id(thread.stack)] = len(stacks)
            stacks.append([frame._asdict() for frame in thread.stack])
        rows.append({**thread._asdict(), "stack": indices[id(thread.stack)]})
    counts = [0] * len(stacks)
    for row in rows:
        counts[row["stack"]] += 1
    folded = [{"count": count, "frames": frames} for count, frames in zip(counts, stacks, strict=True)]
    return json.dumps({"version": 1, "process": os.getpid(), "time": time.time(), "threads": rows, "stacks": folded})


_FORMATS: dict[str, Callable[[list[ThreadState]], str]] = {"text": _text, "json": _json}


def _dump(frame: FrameType | None, words: Callable[[list[ThreadState]], str]) -> str:
    # Nothing here makes garbage that only the collector finds, and looking for it among 100,000 stacks takes seconds.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return words(take(frame))
    finally:
        if collecting:
            gc.enable()


def _checked(format: str) -> Callable[[list[ThreadState]], str]:
    if format not in _FORMATS:
        raise ValueError(f"format must be 'text' or 'json', not {format!r}")
    return _FORMATS[format]


def _write(text: str, file: IO[str] | int | None) -> None:
    if isinstance(file, int):
        data = (text + "\n").encode("utf-8", "backslashreplace")
        while data:
            data = data[os.write(file, data) :]
    elif file is not None:
        file.write(text + "\n")
        file.flush()


# ---- Asking for it ---------------------------------------------------------------------------------------------------


def dump_threads(file: IO[str] | int | None = None, *, format: Format = "text") -> str:
    """What every thread of both kinds is doing: its name, kind, state, what it waits for and for how long, who holds
    that, and its stack. Returned, and written to `file` (an open file, or a descriptor) if there is one.

    "text" folds threads that do the same into one entry with a count; "json" lists every thread, and each stack once.
    From any thread, also from a signal handler. Does not block, but where writing to `file` does.
    """
    words = _checked(format)
    text = _dump(sys._getframe(1), words)
    _write(text, file)
    return text


def _descriptor_of(file: IO[str] | int | None) -> IO[str] | int | None:
    try:
        return file if file is None or isinstance(file, int) else file.fileno()
    except (AttributeError, OSError, ValueError):
        return file


class _Dumper:
    """The handler of a signal that asks for a dump."""

    # The deadlock detector asks: a program with such a handler waits for nothing.
    wakes_nobody = True

    def __init__(self, file: IO[str] | int | None, words: Callable[[list[ThreadState]], str], chain: Any) -> None:
        self._file = file
        self._words = words
        self.chain = chain

    def __call__(self, number: int, frame: FrameType | None) -> None:
        file = sys.stderr if self._file is None else self._file
        # By its descriptor, if it has one: the signal may have come in the middle of a write to the same file.
        _write(_dump(frame, self._words), _descriptor_of(file))
        if callable(self.chain):
            self.chain(number, frame)


# What stood there before, by signal.
_before: dict[int, Any] = {}


def dump_on_signal(
    signum: int | None = None, file: IO[str] | int | None = None, *, format: Format = "text", chain: bool = False
) -> None:
    """Dump all threads whenever the process gets signal `signum`, to `file` (default: `sys.stderr` as it is then).

    The default is SIGQUIT, which Ctrl-\\ sends; `file` may be an open file or a descriptor, and is kept. `chain` calls
    the handler that was there before as well. From the main kernel thread only: ValueError from others.

    The interpreter runs the handler between two bytecodes, so not while the main kernel thread stays in C code; for
    that case there is `faulthandler`, which knows the kernel threads alone.
    """
    words = _checked(format)
    if signum is None:
        if not hasattr(signal, "SIGQUIT"):
            raise ValueError("this system has no SIGQUIT: name another signal")
        signum = signal.SIGQUIT
    before = getsignal(signum)
    if isinstance(before, _Dumper):
        before = _before[signum]
    set_handler(signum, _Dumper(file, words, before if chain else None))
    _before[signum] = before


def undump_on_signal(signum: int | None = None) -> bool:
    """Undo `dump_on_signal`: the handler from before comes back. False if there was nothing to undo."""
    if signum is None:
        signum = getattr(signal, "SIGQUIT", None)
    if signum is None or signum not in _before:
        return False
    before = _before.pop(signum)
    if isinstance(getsignal(signum), _Dumper):
        set_handler(signum, signal.SIG_DFL if before is None else before)
    return True
