"""The root's place in the ready queue: what makes its turn come once a round, while it has any. See loop.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.errors import SchedulerError
from scheduler.task import GONE, Task

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable

    from scheduler.continuation import Continuation
    from scheduler.kernel import KernelTask
    from scheduler.loop import Scheduler
    from scheduler.task import Waitable, Waiters

__all__ = ["RootTask"]


class RootTask(Task):
    """The root's place in the ready queue, and the `task` that its greenlet carries: no thread, it may not wait."""

    __slots__ = ("continuation", "has_turn", "misses_one", "passes", "scheduler", "switch")

    ready = None

    def __init__(self, scheduler: Scheduler, continuation: Continuation) -> None:
        super().__init__(None, daemon=True)
        self.scheduler: Scheduler = scheduler
        self.continuation = continuation
        self.has_turn = True
        # Whether a thread was taken out of the ready queue and then could not be switched to: see `yield_now`.
        self.misses_one = False
        # How many turns to pass on before the next one is taken.
        self.passes = scheduler._passes
        self.switch = self._make_switch(scheduler.ready, continuation.switch)

    def _make_switch(self, ready: deque[Task], to_root: Callable[[], object]) -> Callable[[], object]:
        append, popleft = ready.append, ready.popleft

        # A closure, not a method: it runs, on the stack of the thread that gives way, at each round.
        def switch() -> object:
            if ready and self.passes:
                self.passes -= 1
                append(self)
                return popleft().switch()
            self.has_turn = True
            return to_root()

        return switch

    @property
    def name(self) -> str:
        """For reports."""
        return "the scheduler"

    @property
    def ident(self) -> int | None:
        """That of the main user thread, which is also the kernel thread's."""
        return self.host.ident

    @property
    def host(self) -> KernelTask:
        """See `Task.host`."""
        return self.scheduler.host

    def park(
        self,
        waiters: Waiters | None,
        reason: Waitable | str,
        deadline: float | None = None,
        undo: Callable[[], object] | None = None,
    ) -> bool:
        """Refuse: if the root waited, every thread would."""
        if waiters is not None and waiters.pop(self, GONE) is GONE and undo is not None:
            undo()
        raise SchedulerError(
            "the scheduler itself can't wait: signal handlers, observers and posted calls that run between two "
            "threads must not block; start a thread for that"
        )

    def unpark(self) -> None:
        """Nothing to do: a kernel thread took us out of a queue in which `park` was about to refuse to wait."""

    def give_way(self) -> None:
        """Refuse, like `park`."""
        self.park(None, "yield")

    def sleep(self, seconds: float) -> None:
        """Refuse, like `park`."""
        self.park(None, "sleep")

    def now(self) -> float:
        """See `Task.now`."""
        return self.scheduler.clock.now()
