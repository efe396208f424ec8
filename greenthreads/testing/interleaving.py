"""`Interleaving` and `checkpoint`: for those who know the order that they want.

    def deposit(amount):
        balance = account.balance
        checkpoint("read")
        account.balance = balance + amount

    def test_two_deposits():
        a = Thread(target=deposit, args=(1,), name="a")
        ...
        assert account.balance == 2

    Interleaving("a:read", "b:read").run(test_two_deposits)     # raises the AssertionError, each time

An order is a list of points. A checkpoint is reached when its thread comes to it, with all done that stands before
it; the thread then stays there as long as others can bring the order on. An operation is reached when it is performed.
The thread of the next point always goes first, others only while it can't go on, and nobody performs an operation of
the order before its turn. So nothing sleeps, nothing is guessed, and an order that can't be is no hang: as soon as
nobody is left to bring it on, `ImpossibleOrder` says who waits for what.

A `checkpoint` is an ordinary choice point under `explore`. In production it costs what every operation costs, one
global check.
"""

from __future__ import annotations

import functools
import os
import re
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar

from greenthreads.testing._session import Session
from scheduler import control
from scheduler import trace as traces
from scheduler.control import WHOLE
from scheduler.deadlock import report as _report
from scheduler.errors import ReplayDivergence
from scheduler.strategy import Choice, Strategy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scheduler import controlled

__all__ = ["ImpossibleOrder", "Interleaving", "checkpoint"]

F = TypeVar("F", bound="Callable[..., Any]")


def checkpoint(name: str) -> None:
    """Name this point of the calling thread, for `Interleaving`; under `explore` a point where it may be left.

    Does nothing in production.
    """
    if control.active is not None:
        # Whatever lies between two checkpoints may depend on whatever does in another thread: each conflicts with all.
        control.active.step("checkpoint", checkpoint, None, None, ((name, False), (WHOLE, True)))


class ImpossibleOrder(ReplayDivergence):
    """A program can't reach the points of an Interleaving in the order asked for; the text says why.

    `passed` holds the points that were reached, `missing` those that were not, in their order.
    """

    def __init__(self, text: str, passed: Sequence[str], missing: Sequence[str]) -> None:
        super().__init__(len(passed), (0, missing[0]), [])
        self.text = text
        self.passed = tuple(passed)
        self.missing = tuple(missing)

    def __str__(self) -> str:
        return self.text


class _Point(NamedTuple):
    """One point of an order: a thread (None: any), a checkpoint or an operation, and which time (0: the next)."""

    text: str
    thread: str | None
    what: str
    time: int


_POINT = re.compile(r"(?:(?P<thread>.+):)?(?P<what>[^:@]+)(?:@(?P<time>[1-9][0-9]*))?")


def _parse(text: str) -> _Point:
    if not isinstance(text, str):
        raise TypeError(f"a point of an order is a string, not {type(text).__name__}")
    match = _POINT.fullmatch(text)
    if match is None:
        raise ValueError(f"a point of an order is 'what', 'thread:what' or 'thread:what@time', not {text!r}")
    return _Point(text, match["thread"], match["what"], int(match["time"] or 0))


class Interleaving:
    """An order of points, `"thread:what"` each, in which a function's threads are to reach them.

    `what` is the name of a `checkpoint`, or an operation as reports have it ("acquire", "put", "join", "end"); `thread`
    is a thread's name, the name of its target, "main", or its descent ("1" is the first thread that the main one
    starts). Without it any thread will do. `what@2` is the second time that a thread comes there; without it, the next.
    What the order does not mention is free.
    """

    def __init__(self, *order: str) -> None:
        if not order:
            raise ValueError("an order has at least one point")
        self._points = [_parse(text) for text in order]

    def run(self, fn: Callable[[], object], *, max_steps: int = 20_000) -> str:
        """Run `fn()` in this order, once, every thread under control; returns the trace, for `replay`.

        Blocks. Raises what `fn` or one of its threads raises, Deadlock or Livelock as `explore` would report them, and
        ImpossibleOrder, with the reason, if the points can't be reached in this order, or never come.
        """
        with Session(fn, max_steps=max_steps) as session:
            plan = _InOrder(session, self._points)
            session.on_failure = plan.on_failure
            outcome = session.run(plan)
            if outcome is not None:
                exc = outcome.exception
                if hasattr(exc, "add_note"):
                    exc.add_note(f"in the order {plan.said()}")
                raise exc
            if plan.missing:
                raise plan.never_came()
            return traces.encode(session.named(session.scheduler.trace))

    def __call__(self, fn: F) -> F:
        """As a decorator: the function runs in this order when it is called."""

        @functools.wraps(fn)
        def run(*args: Any, **kwargs: Any) -> None:
            self.run(functools.partial(fn, *args, **kwargs))

        return run  # type: ignore[return-value]

    def __repr__(self) -> str:
        return f"Interleaving({', '.join(repr(point.text) for point in self._points)})"


class _InOrder(Strategy):
    """Lets go on who brings the order on."""

    name = "interleaving"
    wants_every_step = True

    def __init__(self, session: Session, points: Sequence[_Point]) -> None:
        self._session = session
        self._all = list(points)
        self.missing = list(points)
        # Every point that some thread has reached, in or out of the order: for who looks for one that never came.
        self._seen: dict[str, None] = {}
        self._times: dict[tuple[int, str], int] = {}
        # Threads at a checkpoint that they have reached already.
        self._standing: set[int] = set()
        self._impossible: ImpossibleOrder | None = None
        # Who has come to a checkpoint too early, and which.
        self._early: tuple[int, _Point] | None = None

    def choose(self, choices: Sequence[Choice], running: Choice | None) -> Choice:
        """See `Strategy`."""
        self._see_who_has_come()
        free: list[Choice] = []
        for choice in choices:
            point = None if choice.op == "checkpoint" else self._match(choice.id, choice.op)
            if point is None:
                free.append(choice)
            elif point is self.missing[0]:
                self.missing.pop(0)
                return self._take(choice)
        if not free:
            self._give_up()
        if not self.missing:
            return self._take(running if running is not None else free[0])
        awaited = self.missing[0].thread
        for choice in free:
            if awaited is not None and self._is_called(choice.id, awaited):
                return self._take(choice)
        return self._take(min(free, key=lambda choice: (self._rank(choice.id), choice is not running)))

    def _rank(self, number: int) -> int:
        """How much there is against letting a thread go on that is not the awaited one."""
        # It has done its part, and stays; or it might come too early to what it has still to do.
        return (number in self._standing) + 2 * self._is_in_order(number)

    def _see_who_has_come(self) -> None:
        for task in self._session.scheduler.alive:
            if task.op != "checkpoint" or not task.is_ready or task.id in self._standing or task.footprint is None:
                continue
            self._standing.add(task.id)
            what = str(task.footprint[0][0])
            point = self._match(task.id, what)
            self._count(task.id, what)
            if point is None:
                continue
            if point is not self.missing[0]:
                self._early = task.id, point
                self._give_up()
            self.missing.pop(0)

    def _take(self, choice: Choice) -> Choice:
        if choice.op == "checkpoint":
            self._standing.discard(choice.id)
        else:
            self._count(choice.id, choice.op)
        return choice

    def _count(self, number: int, what: str) -> None:
        self._times[number, what] = self._times.get((number, what), 0) + 1
        if what not in ("begin", "resume", "yield"):
            self._seen[f"{self._name(number)}:{what}"] = None

    def _match(self, number: int, what: str) -> _Point | None:
        """The first point that is missing and that thread `number` reaches with `what`."""
        time = self._times.get((number, what), 0) + 1
        for point in self.missing:
            if point.what == what and point.time in (0, time):
                if point.thread is None or self._is_called(number, point.thread):
                    return point
        return None

    def _is_in_order(self, number: int) -> bool:
        return any(point.thread is not None and self._is_called(number, point.thread) for point in self.missing)

    def _give_up(self) -> NoReturn:
        # Its text is made when the threads stand still; see `on_failure`.
        self._impossible = ImpossibleOrder("", self._passed(), self._texts())
        raise self._impossible

    def _is_called(self, number: int, name: str) -> bool:
        if number == 0:
            return name in ("main", "0", "MainThread")
        if name == self._session.scheduler.descent.path_of(number):
            return True
        known = self._name(number)
        # A thread that was given no name is called "Thread-1 (its target)".
        return known == name or known.endswith(f" ({name})")

    def _name(self, number: int) -> str:
        task = next((task for task in self._session.scheduler.alive if task.id == number), None)
        return "main" if number == 0 else str(number) if task is None else task.name

    # ---- Why not -----------------------------------------------------------------------------------------------------

    def on_failure(self, failure: controlled.Failure) -> None:
        """Called by the scheduler while the threads still stand where they stood."""
        if self._impossible is None:
            return
        lines = [f"the order {self.said()} can't be"]
        waiting = []
        for task in self._session.scheduler.alive:
            point = None if task.op == "checkpoint" else self._match(task.id, task.op)
            if self._early is not None and task.id == self._early[0]:
                lines.append(f"  {self._name(task.id)!r} came to {self._early[1].text!r} before its turn")
            elif task.wait is not None or (task.blocked is not None and task.blocked()):
                waiting.append(task)
            elif point is not None:
                lines.append(f"  {self._name(task.id)!r} is about to {point.what!r}, but it is not its turn")
            elif task.op == "checkpoint" and task.footprint is not None:
                lines.append(f"  {self._name(task.id)!r} stands at {task.footprint[0][0]!r}")
        for row in _report(waiting):
            held = "" if row.holder is None or row.what.startswith("the end") else f", held by {row.holder}"
            lines.append(f"  {row.thread!r} waits for {row.what}{held} ({os.path.basename(row.file)}:{row.line})")
        self._impossible.text = "\n".join(lines)

    def never_came(self) -> ImpossibleOrder:
        """The program has ended, with points missing."""
        seen = ", ".join(repr(each) for each in self._seen) or "none"
        text = (
            f"the order {self.said()} was not completed: {self.missing[0].text!r} never came. Points that did: {seen}"
        )
        return ImpossibleOrder(text, self._passed(), self._texts())

    def said(self) -> str:
        """The order, as far as it has come."""
        texts = [point.text for point in self._all]
        done = len(texts) - len(self.missing)
        return ", ".join([*texts[:done], *(["(here)"] if self.missing else []), *texts[done:]])

    def _passed(self) -> list[str]:
        return [point.text for point in self._all[: len(self._all) - len(self.missing)]]

    def _texts(self) -> list[str]:
        return [point.text for point in self.missing]
