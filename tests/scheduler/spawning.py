"""What almost every test of the engine begins with: a thread without a `Thread`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scheduler import current_task

if TYPE_CHECKING:
    from collections.abc import Callable


def spawn(fn: Callable[[], object], **options: Any) -> Any:
    """Start a thread in the caller's scheduler; returns its task."""
    scheduler = current_task().scheduler
    assert scheduler is not None
    return scheduler.spawn(fn, **options)
