"""The explanation of a failure: a column for each thread, a line for each step."""

from __future__ import annotations

import linecache
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from scheduler.errors import ReplayDivergence

if TYPE_CHECKING:
    from types import FrameType

    from greenthreads.testing._session import Session
    from greenthreads.testing.explore import Failure
    from scheduler.controlled import ControlledTask

__all__ = ["Recorder", "divergence", "render"]

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_ENGINE = os.path.join(os.path.dirname(os.path.dirname(_OURS)), "scheduler") + os.sep


class _Line(NamedTuple):
    thread: str
    op: str
    what: str
    file: str
    line: int


class Recorder:
    """Hears of each step of one execution."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.lines: list[_Line] = []
        self.names: dict[str, str] = {}

    def record(self, task: ControlledTask, op: str, obj: object, frame: FrameType | None) -> None:
        """Called by the scheduler at each step."""
        thread = self._session.scheduler.path_of(task.id)
        self.names.setdefault(thread, task.name)
        while frame is not None and frame.f_code.co_filename.startswith((_OURS, _ENGINE)):
            frame = frame.f_back
        file, line = ("", 0) if frame is None else (frame.f_code.co_filename, frame.f_lineno)
        self.lines.append(_Line(thread, op, _what(obj), file, line))


def _what(obj: Any) -> str:
    name = getattr(obj, "name", None)
    return "" if obj is None else f"{type(obj).__name__}{f' {name!r}' if isinstance(name, str) else ''}"


def render(failure: Failure, recorder: Recorder, preempting: list[int], command: str) -> str:
    """The report as text."""
    lines = [f"{failure.kind} in thread {failure.thread}: {failure.exception!r}"]
    for number, step in enumerate(recorder.lines):
        mark = "!" if number in preempting else " "
        source = linecache.getline(step.file, step.line).strip()
        where = f"{os.path.basename(step.file)}:{step.line}" if step.file else ""
        lines.append(f"{mark} {step.thread:4} {step.op} {step.what:20} {where:20} {source}")
    lines.append(f"replay: {command}")
    return "\n".join(lines)


def divergence(session: Session, error: ReplayDivergence) -> ReplayDivergence:
    """`error`, with a guess at the cause."""
    return error
