"""Why a program did not do again what it did before, under the same decisions: a guess, from evidence.

A replay that does not fit is no failure of the program, and is never reported as one. It means that something besides
the schedule decides what the program does. To find out what, the decisions are followed twice more, as far as that
goes, with every step noted, and every call into C that asks for the time or for randomness:

- kernel threads that are not under control run meanwhile;
- something came from another process;
- such a call was made, and where;
- the two executions agree with each other, and not with the one before: the program keeps something from one to the
  next;
- they don't agree, and the code in question has sets: their order may depend on addresses.
"""

from __future__ import annotations

import dis
import os
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from greenthreads.trace import profiling
from scheduler.errors import ReplayDivergence
from scheduler.frames import is_ours, of_the_program
from scheduler.strategies.replay import Lenient

if TYPE_CHECKING:
    from types import CodeType, FrameType

    from greenthreads.testing._session import Session
    from scheduler.controlled import ControlledTask

__all__ = ["divergence"]

_RANDOM = "random numbers that nobody can seed"
_CLOCK = "the real clock"
_IDENTITY = "an order by address"

# Calls into C, by the names of the function and of where it is, and what it means when the program makes one. The
# clocks of `time` are virtual, so who calls the real ones has come by them in another way.
_SUSPECTS = {
    "urandom": _RANDOM,
    "getrandom": _RANDOM,
    "_generate_time_safe": _RANDOM,
    "uuid_generate_time": _RANDOM,
    "now": _CLOCK,
    "utcnow": _CLOCK,
    "today": _CLOCK,
    "time": _CLOCK,
    "time_ns": _CLOCK,
    "monotonic": _CLOCK,
    "monotonic_ns": _CLOCK,
    "perf_counter": _CLOCK,
    "perf_counter_ns": _CLOCK,
    "process_time": _CLOCK,
    "process_time_ns": _CLOCK,
    "thread_time": _CLOCK,
    "thread_time_ns": _CLOCK,
    "clock_gettime": _CLOCK,
    "clock_gettime_ns": _CLOCK,
    "times": _CLOCK,
    "gmtime": _CLOCK,
    "localtime": _CLOCK,
    "id": _IDENTITY,
}
_OWNERS = frozenset(("time", "datetime", "date", "posix", "nt", "uuid", "_uuid", "builtins"))

_SET_OPERATIONS = frozenset(("BUILD_SET", "SET_ADD", "SET_UPDATE"))
_SET_NAMES = frozenset(("WeakSet", "frozenset", "hash", "id", "set"))


class _Step(NamedTuple):
    id: int
    op: str
    file: str
    line: int

    def place(self) -> str:
        return f"{os.path.basename(self.file)}:{self.line}"


class _Call(NamedTuple):
    meaning: str
    name: str
    file: str
    line: int


class _Run:
    """One execution, followed closely."""

    def __init__(self, session: Session, decisions: list[tuple[int, str]]) -> None:
        self.steps: list[_Step] = []
        self.calls: dict[_Call, None] = {}
        # The code that stood on the stacks, for what it may iterate over.
        self.code: dict[CodeType, None] = {}
        observer, session.observer = session.observer, self._note
        try:
            with profiling(self._profile):
                outcome = session.run(Lenient([(number, op == "timeout") for number, op in decisions]))
        finally:
            session.observer = observer
        self.signature = None if outcome is None else outcome.signature

    def _note(self, task: ControlledTask, op: str, obj: object, frame: FrameType | None) -> None:
        frame = of_the_program(frame)
        file, line = ("", 0) if frame is None else (frame.f_code.co_filename, frame.f_lineno)
        self.steps.append(_Step(task.id, op, file, line))
        while frame is not None and len(self.code) < 200:
            self.code[frame.f_code] = None
            frame = frame.f_back

    def _profile(self, frame: FrameType, event: str, arg: Any) -> None:
        if event != "c_call":
            return
        meaning = _SUSPECTS.get(arg.__name__)
        if meaning is None:
            return
        owner = getattr(arg, "__self__", None)
        if getattr(owner, "__name__", None) not in _OWNERS:
            return
        caller: FrameType | None = frame
        if is_ours(frame.f_code):
            return  # Our own clocks and numbers.
        while caller is not None and _is_standard(caller.f_code):
            caller = caller.f_back
        if caller is not None and not is_ours(caller.f_code):
            name = getattr(arg, "__qualname__", arg.__name__)
            self.calls[_Call(meaning, name, caller.f_code.co_filename, caller.f_lineno)] = None


_STANDARD = os.path.dirname(os.__file__) + os.sep


def _is_standard(code: CodeType) -> bool:
    return code.co_filename.startswith((_STANDARD, "<frozen")) and "site-packages" not in code.co_filename


def divergence(session: Session, error: ReplayDivergence) -> ReplayDivergence:
    """`error`, with where it happened, and a guess at the cause. Runs the function a few times more.

    Inside the session. Raises nothing of what these executions raise.
    """
    before = list(session.scheduler.trace[: error.step])
    decisions = [*before, error.expected]
    try:
        runs = [_Run(session, decisions) for _ in range(3)]
    except BaseException as exc:
        if isinstance(exc, (KeyboardInterrupt, SystemExit)):
            raise
        error.guess = f"(running it again to find out why was not possible: {exc!r})"
        return error
    error.where = _where(error, runs)
    error.guess = "\n".join(_guesses(session, runs))
    return error


def _where(error: ReplayDivergence, runs: list[_Run]) -> str:
    """The line of the thread that did something else, as far as the later executions show it."""
    steps = [step for step in runs[-1].steps if step.file]
    after = [step for step in runs[-1].steps[error.step :] if step.file and step.id == error.expected[0]]
    before = [step for step in runs[-1].steps[: error.step] if step.file and step.id == error.expected[0]]
    if after or before:
        return f"at {after[0].place()}" if after else f"after {before[-1].place()}"
    return f"in an execution that ends at {steps[-1].place()}" if steps else ""


def _guesses(session: Session, runs: list[_Run]) -> Iterator[str]:
    threads = _threads_out_of_control(session)
    calls = dict.fromkeys(call for run in runs for call in run.calls)
    stable = all(run.steps == runs[0].steps and run.signature == runs[0].signature for run in runs)
    found = False
    if threads:
        yield f"probably a kernel thread that is not under control: {', '.join(threads)} runs beside the test"
        found = True
    listening = [step for run in runs for step in run.steps if step.op in ("poll", "receive") and step.file]
    if listening and session.scheduler.outside.took_part:
        yield f"{'or' if found else 'probably'} what came from another process, and when: at {listening[0].place()}"
        found = True
    for meaning in (_RANDOM, _CLOCK):
        sites = [call for call in calls if call.meaning == meaning]
        if sites:
            where = ", ".join(f"{call.name} at {os.path.basename(call.file)}:{call.line}" for call in sites[:3])
            yield f"{'or' if found else 'probably'} {meaning}: {where}"
            found = True
    if found:
        return
    if stable:
        yield (
            "probably state that is kept from one execution to the next (a global, a cache, a class attribute): it "
            "does the same again and again now, and did something else before. Let the function begin with all new"
        )
    ordered = _orders(runs, calls)
    if ordered:
        yield f"{'or' if stable else 'probably'} the order of a set, or of what is sorted by id or hash: {ordered}"
    if session.threads_beside:
        yield (
            f"{'or' if ordered or stable else 'probably'} a kernel thread that was there before: "
            f"{', '.join(session.threads_beside)}"
        )
    elif not stable and not ordered:
        yield "no cause was found: it reads no clock and no random number, and no other thread runs"


def _threads_out_of_control(session: Session) -> list[str]:
    known = session.kernel_threads
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return [repr(names.get(ident, f"thread {ident}")) for ident in sys._current_frames() if ident not in known]


def _orders(runs: list[_Run], calls: dict[_Call, None]) -> str:
    """Where the program may depend on the order of addresses: the code on the stacks that makes or asks for sets."""
    places = [f"id at {os.path.basename(c.file)}:{c.line}" for c in calls if c.meaning == _IDENTITY]
    for code in dict.fromkeys(code for run in runs for code in run.code):
        if is_ours(code) or _is_standard(code) or "site-packages" in code.co_filename:
            continue
        if any(_makes_sets(each) for each in _with_nested(code)):
            places.append(f"{code.co_name}, {os.path.basename(code.co_filename)}:{code.co_firstlineno}")
    return "; ".join(places[:3])


def _with_nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for each in code.co_consts:
        if isinstance(each, type(code)):
            yield from _with_nested(each)


def _makes_sets(code: CodeType) -> bool:
    if _SET_NAMES.intersection(code.co_names):
        return True
    return any(each.opname in _SET_OPERATIONS for each in dis.get_instructions(code))
