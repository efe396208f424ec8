"""What the report of a failure is made from: each step of one execution, and where the threads stood at its end.

The recorder keeps text and numbers, no objects and no frames: what the program lets die must die here as in the
executions before, or this one would not be a repetition.
"""

from __future__ import annotations

import functools
import os
import sysconfig
import threading
from dataclasses import dataclass, field
from types import CellType, FunctionType
from typing import TYPE_CHECKING, Any

from greenthreads.testing._aliases import Aliases, brief
from greenthreads.testing._kinds import is_a
from scheduler.controlled import ControlledTask
from scheduler.dependence import comparable
from scheduler.frames import is_ours
from scheduler.outside import DESCRIPTORS

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator
    from types import CodeType, FrameType, TracebackType

    from greenthreads.testing._session import Session
    from scheduler import controlled
    from scheduler.control import Footprint

__all__ = ["Announcement", "Blocked", "Line", "Place", "Recorder", "place_of", "stack_of"]

_STANDARD = (sysconfig.get_path("stdlib") + os.sep, "<frozen ")
_INSTALLED = (os.sep + "site-packages" + os.sep, os.sep + "dist-packages" + os.sep)
_RUNNERS = tuple(os.sep + package + os.sep for package in ("_pytest", "pluggy"))
# Of a stack, the innermost calls.
_DEEPEST = 12

# File, line, function.
Place = tuple[str, int, str]
NOWHERE: Place = ("", 0, "")


class Announcement:
    """The object of a step that is no operation of the program's: it says itself what a report says of it."""

    def in_words(self, task: ControlledTask) -> str:
        """What the step that `task` is about to take is about."""
        raise NotImplementedError


@dataclass
class Line:
    """One step: who, to do what, to what (a number of `Aliases`, or a text), where."""

    thread: str
    op: str
    obj: int | str | None
    place: Place
    # Of an access to memory: how the part is written that is read or written, after the name of the thing, or alone.
    part: str = ""
    part_alone: bool = False
    value: str | None = None
    # The parts themselves, and whether they are written; those that can't be told from others without the object of a
    # key are left out.
    footprint: Footprint = ()
    # The calls that led there, the innermost, `place`, first.
    stack: tuple[Place, ...] = ()


@dataclass
class Blocked:
    """One thread of a deadlock."""

    thread: str
    op: str
    obj: int | str | None
    holder: str | None
    stack: list[Place]
    in_cycle: bool


@dataclass
class Recorder:
    """Hears of each step of one execution, and of its failure."""

    session: Session
    looking: bool = True
    lines: list[Line] = field(default_factory=list)
    # Of each thread its name, by its descent.
    names: dict[str, str] = field(default_factory=dict)
    blocked: list[Blocked] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.aliases = Aliases(self.looking)
        # The value that was noted last belongs to the last step of memory.
        self._noting: Line | None = None

    def record(self, task: ControlledTask, op: str, obj: object, frame: FrameType | None) -> None:
        """Called by the scheduler at each step."""
        thread = self.session.scheduler.descent.path_of(task.id)
        if thread not in self.names:
            self.names[thread] = str(task.name)
        frames = list(_of_the_program(frame))
        stack = tuple(map(_place, frames))
        place = stack[0] if stack else _begins_at(task) if op == "begin" else NOWHERE
        line = Line(thread, op, self._thing(task, op, obj, frames), place, stack=stack)
        footprint = getattr(task, "footprint", None)
        if op in ("read", "write") and footprint:
            line.part, line.part_alone = _written(obj, footprint[0][0])
            line.footprint = tuple((part, writes) for part, writes in footprint if comparable(part) is part)
            self._noting = line
        self.lines.append(line)

    def note(self, value: object) -> None:
        """The value that the last access to memory has read, or is about to write."""
        if self._noting is not None:
            self._noting.value = brief(value)
            self._noting = None

    def failed(self, failure: controlled.Failure) -> None:
        """The execution has failed, and its threads still stand where they stood."""
        if failure.kind != "deadlock":
            return
        others = self.session.scheduler.cycles.beside(failure.cycle)
        cycle = list(failure.cycle)
        # It has no beginning of its own; a report begins with the thread that was started first.
        first = cycle.index(min(cycle, key=lambda task: task.id)) if cycle else 0
        for task in [*cycle[first:], *cycle[:first], *others]:
            thread = self.session.scheduler.descent.path_of(task.id)
            self.names.setdefault(thread, str(task.name))
            frames = list(_of_the_program(None if task.continuation is None else task.continuation.gr_frame))
            obj: Any = task.obj if task.wait is None else task.wait
            waiting_for = getattr(obj, "waiting_for", None)
            holder = None if waiting_for is None else waiting_for(task).holder
            self.blocked.append(
                Blocked(
                    thread,
                    task.op,
                    self._thing(task, task.op, obj, frames),
                    self.session.scheduler.descent.path_of(holder.id) if type(holder) is ControlledTask else None,
                    [_place(frame) for frame in frames],
                    task in failure.cycle or not failure.cycle,
                )
            )

    def _thing(self, task: ControlledTask, op: str, obj: Any, frames: list[FrameType]) -> int | str | None:
        if obj is None or obj is DESCRIPTORS or op == "end" or is_a(obj, (str, ControlledTask)):
            return obj if is_a(obj, str) else None
        if op == "start":
            thread = self.session.scheduler.descent.path_of(task.id)
            return str(task.children + 1) if thread == "0" else f"{thread}.{task.children + 1}"
        if is_a(obj, threading.Thread):
            other = getattr(obj, "_task", None)
            return self.session.scheduler.descent.path_of(other.id) if type(other) is ControlledTask else "a thread"
        if is_a(obj, Announcement):
            return obj.in_words(task)
        if is_a(obj, FunctionType):
            return obj.__name__
        if is_a(obj, functools.partial):
            return "a partial function"
        main = self.session.scheduler.main
        elsewhere: Iterator[FrameType] = iter(())
        if isinstance(main, ControlledTask) and main is not task and main.continuation is not None:
            elsewhere = _of_the_program(main.continuation.gr_frame)
        return self.aliases.number(obj, frames, elsewhere)


# ---- Places ----------------------------------------------------------------------------------------------------------


def _is_of_the_program(code: CodeType) -> bool:
    file = code.co_filename
    if is_ours(code) or any(package in file for package in _RUNNERS):
        return False
    return not file.startswith(_STANDARD) or any(folder in file for folder in _INSTALLED)


def _of_the_program(frame: FrameType | None) -> Iterator[FrameType]:
    """The frames of a thread that are neither ours nor the standard library's, innermost first."""
    left = _DEEPEST
    while frame is not None and left:
        if _is_of_the_program(frame.f_code):
            yield frame
            left -= 1
        frame = frame.f_back


def _place(frame: FrameType) -> Place:
    return frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name


def _begins_at(task: ControlledTask) -> Place:
    """Where the code stands that a thread is going to run."""
    thread = task.thread
    code: Any = getattr(thread, "_target", None)
    if code is None:
        code = type(thread).__dict__.get("run")
    while isinstance(code, functools.partial):
        code = code.func
    code = getattr(getattr(code, "__func__", code), "__code__", None)
    if code is None or not _is_of_the_program(code):
        return NOWHERE
    return code.co_filename, code.co_firstlineno, code.co_name


def stack_of(exc: BaseException) -> tuple[Place, ...]:
    """The calls in code of the program by which `exc` was raised, the innermost first."""
    found: list[Place] = []
    traceback: TracebackType | None = exc.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if _is_of_the_program(code):
            found.append((code.co_filename, traceback.tb_lineno, code.co_name))
        traceback = traceback.tb_next
    return tuple(reversed(found))


def place_of(exc: BaseException) -> Place:
    """Where `exc` was raised: the innermost place in code of the program."""
    return next(iter(stack_of(exc)), NOWHERE)


# ---- Memory ----------------------------------------------------------------------------------------------------------


def _written(obj: object, part: Hashable) -> tuple[str, bool]:
    """How a program writes `part` of `obj`; and whether it does so without naming the thing it is a part of."""
    if is_a(obj, CellType) or (type(obj) is dict and "__builtins__" in obj):
        return str(part) if is_a(part, str) else "", True
    if is_a(part, str) and not is_a(obj, dict):
        return f".{part}", False
    if type(part) in (str, int, float, bool, bytes, type(None), tuple):
        return f"[{brief(part)}]", False
    return "", False
