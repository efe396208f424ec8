"""What an exploration has covered: whether that was every schedule, and the sentence that says it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from greenthreads.testing._exploration import Exploration
    from greenthreads.testing._session import Session
    from scheduler.strategy import Strategy

__all__ = ["is_exhausted", "sentence"]


def is_exhausted(session: Session, plan: Strategy) -> bool:
    """Whether every schedule has been seen."""
    # What other processes say, and when, nobody has explored; nor what a thread does next that may not have polled.
    patience = session.scheduler.patience
    unsure = session.scheduler.outside.took_part or patience.has_assumed or patience.has_passed_over
    return plan.exhausted and not unsure


def sentence(session: Session, plan: Strategy, found: Exploration) -> str:
    """Exactly what was covered, in words."""
    count = f"{found.executions} execution{'s' if found.executions != 1 else ''}"
    if found.failure is not None:
        if found.strategy == "replay":
            return f"{count}: a schedule that had failed before fails again"
        return f"{count} until one failed, found by {found.strategy}"
    scheduler = session.scheduler
    text = f"{count}: {plan.coverage()}"
    if plan.exhausted or plan.complete:
        text += " of the threads' operations on primitives"
        if session.memory is not None:
            text += f", {session.memory.coverage.sentence(getattr(session.fn, '__module__', ''))}"
        if scheduler.patience.has_assumed:
            text += ", but that a thread that was taken to poll in vain was not let on"
        elif scheduler.patience.was_used:
            text += ", where a thread that polls in vain lets others run"
        if not scheduler.early:
            text += "; time passed only when nothing else could run"
        if scheduler.patience.has_passed_over:
            text += "; of a wait and its limit that were due together the one set first has ended it"
    if scheduler.outside.took_part:
        text += "; what came from other processes came when it came"
    left = scheduler.abandoned
    if left:
        text += f"; {left} thread{'s' * (left != 1)} would not end with the execution, and stayed behind"
    return text
