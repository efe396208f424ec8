"""What the engine raises.

Three families, so that a reader of a traceback knows whose turn it is: misuse (`SchedulerError`, the caller's),
a program that can't go on (`Deadlock`, the program's), and a broken invariant (`SchedulerBug`, ours).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scheduler.deadlock import Waiting

__all__ = ["Deadlock", "ReplayDivergence", "SchedulerBug", "SchedulerError", "TaskExit"]


class SchedulerError(RuntimeError):
    """A call that the engine can't serve from where it was made; the message says what to do instead."""


class SchedulerBug(RuntimeError):
    """An invariant of the engine is broken. Never the caller's fault: please report it with its traceback."""


class Deadlock(RuntimeError):
    """Every thread waits and nothing can wake any of them.

    `threads` holds one `Waiting` a thread (its name, what it waits for, who holds that, where it waits), in the order
    in which they were started; the text is the same as a table. Raised in the main user thread where it waits, or out
    of `run_scheduler` if that thread has ended.
    """

    def __init__(self, threads: Sequence[Waiting]) -> None:
        super().__init__(threads)
        self.threads = tuple(threads)

    def __str__(self) -> str:
        from scheduler.deadlock import table

        return table(self.threads)


class ReplayDivergence(RuntimeError):
    """A program did not do again what it did under the same decisions before: something but the schedule decides.

    `step` is the number of the decision that could not be made again, `expected` what it was (who, to do what), and
    `found` what there was to decide in its place.
    """

    def __init__(self, step: int, expected: tuple[int, str], found: Sequence[tuple[int, str]]) -> None:
        super().__init__(step, expected, found)
        self.step = step
        self.expected = expected
        self.found = tuple(found)
        # Where it happened, and why, as far as anybody has found out.
        self.where = ""
        self.guess = ""

    def __str__(self) -> str:
        found = " or ".join(f"thread {number} to {op!r}" for number, op in self.found) or "no thread that could go on"
        text = f"at step {self.step} thread {self.expected[0]} was to {self.expected[1]!r}; this time there was {found}"
        return "\n".join([text + (f", {self.where}" if self.where else ""), *([self.guess] if self.guess else [])])


class TaskExit(BaseException):
    """Ends the thread it is raised in, quietly, running its `finally` blocks.

    The engine throws it into daemons that outlive the main thread. Not an `Exception`, so that ordinary handlers let
    it pass.
    """
