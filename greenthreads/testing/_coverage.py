"""What was covered: of the schedules, and of the memory that threads share. Never more is claimed than that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from greenthreads.testing._exploration import Exploration
    from greenthreads.testing._session import Session
    from scheduler.strategy import Strategy

__all__ = ["Coverage", "LeftOut", "beside", "is_exhausted", "sentence"]

# A coverage names so many modules, or packages.
_MOST_NAMES: Final = 5


# ---- Schedules -------------------------------------------------------------------------------------------------------


def is_exhausted(session: Session, plan: Strategy) -> bool:
    """Whether every schedule has been seen."""
    # What other processes say, and when, nobody has explored; nor what a thread does next that may not have polled.
    patience = session.scheduler.patience
    unsure = session.scheduler.outside.took_part or patience.has_assumed or patience.has_passed_over
    return plan.exhausted and not unsure


def sentence(session: Session, plan: Strategy, found: Exploration) -> str:
    """Exactly what an exploration has covered, in words."""
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


def beside(executions: int, processes: int) -> str:
    """What other processes have drawn: the end of a sentence."""
    others = f"{processes} other processes" if processes > 1 else "another process"
    return f"; {executions} more were drawn in {others}"


# ---- Memory ----------------------------------------------------------------------------------------------------------


class LeftOut(NamedTuple):
    """Something whose accesses are not seen, and why."""

    what: str
    why: str

    def __str__(self) -> str:
        return f"{self.what} ({self.why})"


class Coverage(NamedTuple):
    """Which modules announce their accesses, and what of them, or beside them, does not."""

    modules: tuple[str, ...]
    left_out: tuple[LeftOut, ...]

    def __str__(self) -> str:
        return self.sentence()

    def sentence(self, first: str = "") -> str:
        """The same as text. Of many modules it names `first`, if it is one of them, and counts those of a package.

        What is not seen is always named.
        """
        text = f"memory accesses seen in {', '.join(_shortened(self.modules, first)) or 'no module'}"
        if self.left_out:
            text += f"; not seen in {', '.join(map(str, self.left_out))}"
        return text


def _shortened(modules: Sequence[str], first: str) -> list[str]:
    if len(modules) <= _MOST_NAMES:
        return list(modules)
    named = [first] if first in modules else []
    packages: dict[str, list[str]] = {}
    for module in modules:
        if module not in named:
            packages.setdefault(module.partition(".")[0], []).append(module)
    largest = sorted(packages, key=lambda package: -len(packages[package]))[: _MOST_NAMES - 1]
    for package in sorted(largest):
        inside = packages[package]
        if len(inside) > 1:
            named.append(f"{len(inside)} modules of {package}")
            del packages[package]
    others = [module for inside in packages.values() for module in inside]
    if len(others) + len(named) <= _MOST_NAMES:
        return named + others
    return [*named, f"{len(others)} {'other ' if named else ''}modules"]
