"""`Profile`: cProfile, of one thread at a time.

The standard profiler knows one call stack a kernel thread. Where user threads share it, calls of the one end in the
returns of another. Here the profiler of a thread is paused while others run.

A pause ends, for the profiler, the calls that are going on: what such a call itself does after its thread has been
switched back is not counted, what it calls is. So the figures of functions that begin and end between two switches are
exact, and those of the loops around them begin and end at the switches.
"""

from __future__ import annotations

import cProfile
from typing import TYPE_CHECKING

from scheduler import observers
from scheduler.kernel import current_task

if TYPE_CHECKING:
    from scheduler.continuation import Continuation
    from scheduler.task import Task

__all__ = ["Profile"]

# The threads that are being profiled, those that do not run now among them.
_profiles: dict[Task, Profile] = {}


class Profile(cProfile.Profile):
    """As `cProfile.Profile`, of the calling thread alone, of either kind. `enable` and `disable` it in that thread.

    Several threads may be profiled at the same time, each by its own.
    """

    _settings = (True, True)
    _task: Task | None = None

    def enable(self, subcalls: bool = True, builtins: bool = True) -> None:
        """Begin to profile the calling thread. ValueError if it is being profiled already."""
        task = current_task()
        if task in _profiles:
            raise ValueError("this thread is being profiled already")
        self._settings = (subcalls, builtins)
        self._task = task
        if not _profiles:
            observers.subscribe_everywhere(_pauser)
            # Here at once, not at the next turn.
            observers.install()
        _profiles[task] = self
        self.resume()

    def disable(self) -> None:
        """Stop. Also called by all that reads the results."""
        self.pause()
        if self._task is not None:
            _profiles.pop(self._task, None)
            self._task = None
            if not _profiles:
                observers.unsubscribe_everywhere(_pauser)

    def resume(self) -> None:
        """The thread runs."""
        super().enable(*self._settings)

    def pause(self) -> None:
        """It does not."""
        super().disable()


class _Pauser(observers.Observer):
    """Pauses the profiler of who is switched out, and resumes that of who is switched in."""

    def switched(self, origin: Continuation, target: Continuation) -> None:
        """See `Observer`."""
        before = _profiles.get(getattr(origin, "task", None))  # type: ignore[arg-type]
        if before is not None:
            before.pause()
        after = _profiles.get(getattr(target, "task", None))  # type: ignore[arg-type]
        if after is not None:
            after.resume()

    def ended(self, task: Task) -> None:
        """See `Observer`: the next thread may run on the same stack, without a switch."""
        profile = _profiles.get(task)
        if profile is not None:
            profile.disable()


_pauser = _Pauser()
