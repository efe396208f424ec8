"""Policies: who of the ready threads runs next.

Without one the ready queue is the ring itself, a deque, and each thread has its turn. A policy takes its place behind
the few operations of a deque that the engine uses (`PolicyQueue`), so threads know nothing of policies, and the ring is
as fast as if there were none.

**A policy is asked on the root's stack.** A thread that gives way switches to the root, which asks who is next and
switches there. A policy that waits is then refused as all is that waits there, a signal's exception does not come up in
the midst of it, and a thread with no stack left for a call can give way.

**A policy that fails is dismissed.** One that raises, or returns what is not ready, serves no longer: threads take
turns from there on, none is lost, and the main user thread is interrupted with a SchedulerError.

Rejected: asking it on the stack of the thread that gives way, which saves 1 µs of a switch (0.7 µs and 1.8 with
`RoundRobin`, 1.3 and 2.4 with `Priorities`): a policy that failed, or waited, left threads running and ready at once.

**A policy can't starve the root**, which fires timers and runs what other kernel threads post: it never sees it. The
root's turn comes, as in the ring, after as many turns as there were ready threads when it was put in.

**A policy is single-threaded.** Other kernel threads make threads ready, too, but what they add waits in a deque, whose
operations are atomic, until the scheduler next takes one out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from itertools import repeat
from typing import TYPE_CHECKING, cast

from scheduler.errors import SchedulerError
from scheduler.task import GONE, Task, UserTask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scheduler.continuation import Continuation
    from scheduler.loop import Scheduler

__all__ = ["Policy", "PolicyQueue", "ready_queue"]


class Policy(ABC):
    """Chooses who runs next. Subclass it, and pass an instance to `run_scheduler(main, policy=...)`.

    Its methods are called on the scheduler's kernel thread, between two runs: they must not block, nor raise. One that
    fails serves no longer: threads take turns from there on, and SchedulerError is raised in the main user thread where
    it waits, or out of `run_scheduler` if that thread has ended. A thread that is ready is in the policy exactly once.
    The `thread` of a task is what the program knows it by. An instance serves one scheduler.
    """

    @abstractmethod
    def add(self, task: Task) -> None:
        """`task` is ready: it was started or woken, has yielded, or its time slice has ended."""

    @abstractmethod
    def take(self) -> Task:
        """Remove the one that runs next, and return it. Called only while there is one."""

    @abstractmethod
    def __len__(self) -> int:
        """How many are ready."""


class _AskTheRoot:
    """Who comes next, for a thread that gives way: the root, to ask the policy. It is no turn of the root's own."""

    __slots__ = ("continuation", "switch")

    def __init__(self, root: Continuation) -> None:
        self.continuation = root
        self.switch = root.switch


class PolicyQueue(deque[Task]):
    """The ready queue of a scheduler that has a policy: a deque of those who have become ready since it was last asked,
    before all that the policy has.
    """

    def __init__(self, policy: Policy) -> None:
        if len(policy):
            raise SchedulerError("this policy serves another scheduler: make a new one")
        super().__init__()
        self._policy = policy
        # Whom the policy has, in the order in which they came.
        self._has: dict[Task, None] = {}
        # Whom it has as well, though they are not ready any more.
        self._stale: set[Task] = set()
        self._root: Task | None = None
        self._turns = 0
        # Of the deque itself.
        self._arrivals = super().__len__
        self._next_arrival = super().popleft

    def begin(self, root: Continuation) -> None:
        """From now on threads that give way switch to `root`."""
        # In C: a thread may give way with no stack left for a call.
        self.popleft = repeat(_AskTheRoot(root)).__next__  # type: ignore[assignment, method-assign]

    def take(self) -> Task:
        """Take out the one that runs next. On the root only, and while there is one."""
        has, root = self._has, self._root
        while self._arrivals():
            task = self._next_arrival()
            if not isinstance(task, UserTask):
                root, self._root, self._turns = task, task, len(has)
                continue
            has[task] = None
            if task in self._stale:
                self._stale.remove(task)
            else:
                try:
                    self._policy.add(task)
                except BaseException as exc:
                    self._failed(exc)
        if root is not None and (self._turns <= 0 or not has):
            self._root = None
            return root
        self._turns -= 1
        while True:
            try:
                task = self._policy.take()
                if has.pop(task, GONE) is None:
                    return task
                if task not in self._stale:
                    raise SchedulerError(f"take() returned {task!r}, which is not ready")
                self._stale.remove(task)
            except BaseException as exc:
                self._failed(exc)

    def _failed(self, exc: BaseException) -> None:
        """Go on without the policy, whatever it has done with those it had, and have the main thread hear of it."""
        from scheduler.policies.round_robin import RoundRobin  # which stands on this module

        name = type(self._policy).__name__
        self._policy = RoundRobin()
        for task in self._has:
            self._policy.add(task)
        self._stale.clear()
        if isinstance(exc, Exception):
            error = SchedulerError(f"the policy {name} failed, threads take turns from here on: {exc!r}")
            error.__cause__ = exc
            exc = error
        scheduler: Scheduler = next(iter(self._has)).scheduler  # type: ignore[assignment]
        scheduler.post(lambda: scheduler.interrupt_main(exc))

    def __len__(self) -> int:
        return self._arrivals() + len(self._has) + (self._root is not None)

    def __bool__(self) -> bool:
        # Before Python 3.11 a deque has a truth of its own, which does not go by `__len__`.
        return bool(self._arrivals() or self._has or self._root is not None)

    def __iter__(self) -> Iterator[Task]:
        """All of them: those that the policy has in the order in which they became ready."""
        root = [] if self._root is None else [self._root]
        return iter([*self._has, *root, *super().__iter__()])

    def __contains__(self, task: object) -> bool:
        return task in list(self)

    def appendleft(self, task: Task) -> None:
        """Nothing: nobody was taken out."""

    def rotate(self, count: int = 1) -> None:
        """Nothing: where those stand who have woken is the policy's to say."""

    def remove(self, task: Task) -> None:
        """Take `task` out; ValueError if it is not here."""
        if task is self._root:
            self._root = None
        elif task in self._has:
            del self._has[task]
            # Not by asking the policy, which only the root may: it is skipped when its turn comes.
            self._stale.add(task)
        else:
            super().remove(task)

    def clear(self) -> None:
        """Forget all of them."""
        super().clear()
        self._root = None
        for task in list(self._has):
            self.remove(task)


def ready_queue(policy: Policy | None) -> deque[Task]:
    """The ready queue for `policy`: the ring, if there is none."""
    if policy is not None and not isinstance(policy, Policy):
        kind = f"the class {policy.__name__}" if isinstance(policy, type) else type(policy).__name__
        raise TypeError(f"policy must be a Policy or None, not {kind}")
    return deque() if policy is None else cast("deque[Task]", PolicyQueue(policy))
