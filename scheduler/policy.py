"""Policies: who of the ready threads runs next.

Without one the ready queue is the ring itself, a deque, and each thread has its turn. A policy takes its place behind
the few operations of a deque that the engine uses (`PolicyQueue`), so the engine knows nothing of policies, and the
ring is as fast as if there were none.

**A policy can't starve the root**, which fires timers and runs what other kernel threads post: it never sees it. The
root's turn comes, as in the ring, after as many turns as there were ready threads when it was put in.

**A policy is single-threaded.** Other kernel threads make threads ready, too, but what they add waits in a deque, whose
operations are atomic, until the scheduler next takes one out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, cast

from scheduler.errors import SchedulerError
from scheduler.task import UserTask

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from scheduler.task import Task

__all__ = ["Policy", "PolicyQueue", "ready_queue"]


class Policy(ABC):
    """Chooses who runs next. Subclass it, and pass an instance to `run_scheduler(main, policy=...)`.

    Its methods are called on the scheduler's kernel thread, between two runs: they must not block, nor raise. A thread
    that is ready is in the policy exactly once. The `thread` of a task is what the program knows it by. An instance
    serves one scheduler.
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


class PolicyQueue:
    """The ready queue of a scheduler that has a policy."""

    def __init__(self, policy: Policy) -> None:
        if len(policy):
            raise SchedulerError("this policy serves another scheduler: make a new one")
        self._policy = policy
        self._arrived: deque[Task] = deque()
        # Those who were taken out and put back: next, whatever the policy says.
        self._first: deque[Task] = deque()
        self._root: Task | None = None
        self._turns = 0

    def __len__(self) -> int:
        return len(self._arrived) + len(self._first) + len(self._policy) + (self._root is not None)

    def append(self, task: Task) -> None:
        """Add a task that has become ready. From any kernel thread."""
        self._arrived.append(task)

    def appendleft(self, task: Task) -> None:
        """Put back the one that was taken out last."""
        self._first.appendleft(task)

    def _admit(self) -> None:
        arrived, policy = self._arrived, self._policy
        while arrived:
            task = arrived.popleft()
            if isinstance(task, UserTask):
                policy.add(task)
            else:
                self._root, self._turns = task, len(policy)

    def popleft(self) -> Task:
        """Take out the one that runs next."""
        if self._first:
            return self._first.popleft()
        self._admit()
        root = self._root
        if root is not None and (self._turns <= 0 or not len(self._policy)):
            self._root = None
            return root
        self._turns -= 1
        return self._policy.take()

    def rotate(self, count: int) -> None:
        """Nothing: where those stand who have woken is the policy's to say."""

    def __iter__(self) -> Iterator[Task]:
        """All of them, in the order in which they would run now."""
        self._admit()
        policy = self._policy
        tasks = [policy.take() for _ in range(len(policy))]
        for task in tasks:
            policy.add(task)
        return iter([*self._first, *tasks, *([] if self._root is None else [self._root])])

    def __iadd__(self, tasks: Iterable[Task]) -> PolicyQueue:
        self._arrived += tasks
        return self

    def remove(self, task: Task) -> None:
        """Take `task` out; ValueError if it is not here. Not fast."""
        tasks = list(self)
        tasks.remove(task)
        root, turns = self._root, self._turns
        if root is not None:
            tasks.remove(root)
        self.clear()
        self._root, self._turns = root, turns
        for other in tasks:
            self._policy.add(other)

    def clear(self) -> None:
        """Forget all of them."""
        self._arrived.clear()
        self._first.clear()
        self._root = None
        while len(self._policy):
            self._policy.take()


def ready_queue(policy: Policy | None) -> deque[Task]:
    """The ready queue for `policy`: the ring, if there is none."""
    if policy is not None and not isinstance(policy, Policy):
        kind = f"the class {policy.__name__}" if isinstance(policy, type) else type(policy).__name__
        raise TypeError(f"policy must be a Policy or None, not {kind}")
    return deque() if policy is None else cast("deque[Task]", PolicyQueue(policy))
