"""Round robin: first come, first served, and who yields goes to the end.

What the ring does by itself, as a policy: to begin one's own from.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from scheduler.policy import Policy

if TYPE_CHECKING:
    from scheduler.task import Task

__all__ = ["RoundRobin"]


class RoundRobin(Policy):
    """Each ready thread in its turn."""

    def __init__(self) -> None:
        self._ready: deque[Task] = deque()

    def add(self, task: Task) -> None:
        """See `Policy.add`."""
        self._ready.append(task)

    def take(self) -> Task:
        """See `Policy.take`."""
        return self._ready.popleft()

    def __len__(self) -> int:
        return len(self._ready)
