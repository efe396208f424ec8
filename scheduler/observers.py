"""Hooks that tools subscribe to; the engine itself prints nothing.

An observer overrides what it wants to hear. It is called in the middle of the engine, on the kernel thread where the
event happens, and so from several at once if several run: it must not block, park, or raise. While nobody observes,
each event costs one look at an empty list; a switch (see `continuation.set_switch_hook`) and a wakeup (see
`hear_wakeups`) cost nothing at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler import fork
from scheduler.continuation import Continuation, current, set_switch_hook

if TYPE_CHECKING:
    from collections.abc import Callable

    from scheduler.continuation import SwitchHook
    from scheduler.task import Task, UserTask

__all__ = [
    "Observer",
    "active",
    "subscribe",
    "subscribe_everywhere",
    "unsubscribe",
    "unsubscribe_everywhere",
]


class Observer:
    """Override the events that you want to hear."""

    def spawned(self, task: Task) -> None:
        """`task` was started: a user thread is ready for the first time, a kernel thread runs."""

    def parked(self, task: UserTask) -> None:
        """`task` is about to park; its `wait` says on what."""

    def woken(self, task: Task, by: Task | None) -> None:
        """`task`, which was parked, has been made ready: by the running thread `by`, or the scheduler (its root, which
        fires timers and makes posted calls); None for somebody who is neither.
        """

    def ended(self, task: Task) -> None:
        """`task` is done. A user thread: its stack may run the next one without a switch."""

    def switched(self, origin: Continuation, target: Continuation) -> None:
        """The calling kernel thread went from one continuation to another.

        The `task` of each is who runs on it; None if it is idle or has ended. Greenlets that the program made for
        itself come here too, and have no such attribute. Only on kernel threads that were inside no scheduler, or
        subscribed themselves, when the observer came.
        """

    def switch_hook(self) -> SwitchHook:
        """What the calling kernel thread calls after each switch. To override where the price of a call counts.

        It must not raise RecursionError: it runs on the stack of the thread that was switched to, which may end here,
        and something may just have been handed to that thread.
        """
        switched = self.switched

        def hook(event: str, pair: tuple[Continuation, Continuation]) -> None:
            try:
                switched(*pair)
            except RecursionError:
                pass

        return hook


active: list[Observer] = []

# How many calls a switch hook stands deeper than `parked`: the root's place in the ring, C's and the hook's own.
_DEEPER = 4

def _nobody_wakes(_on: bool) -> None:
    pass


# Makes wakeups tell us, or no more. `task`, which stands on this module, sets its own.
hear_wakeups: Callable[[bool], None] = _nobody_wakes


def subscribe(observer: Observer) -> None:
    """Begin to call `observer`."""
    active.append(observer)
    hear_wakeups(_is_wanted("woken"))
    if type(observer).switched is not Observer.switched:
        install()


def unsubscribe(observer: Observer) -> None:
    """Stop calling `observer`."""
    active.remove(observer)
    hear_wakeups(_is_wanted("woken"))
    install()


def subscribe_everywhere(observer: Observer) -> None:
    """`subscribe`, and hear the switches also of schedulers that run already, each from its next turn on."""
    subscribe(observer)
    _install_everywhere()


def unsubscribe_everywhere(observer: Observer) -> None:
    """Undo `subscribe_everywhere`."""
    unsubscribe(observer)
    _install_everywhere()


def _install_everywhere() -> None:
    for scheduler in list(fork.running.values()):
        scheduler.post(install)


def _is_wanted(event: str) -> bool:
    return any(getattr(type(observer), event) is not getattr(Observer, event) for observer in active)


def install() -> None:
    """Set, or take away, this kernel thread's switch hook, as the observers need it."""
    hooks = [o.switch_hook() for o in active if type(o).switched is not Observer.switched]
    if not hooks:
        set_switch_hook(None)
    elif len(hooks) == 1:
        set_switch_hook(hooks[0])
    else:

        def each(event: str, pair: tuple[Continuation, Continuation]) -> None:
            try:
                for hook in hooks:
                    hook(event, pair)
            except RecursionError:
                pass

        set_switch_hook(each)


def spawned(task: Task) -> None:
    """Tell all observers."""
    for observer in active:
        observer.spawned(task)


def parked(task: UserTask) -> None:
    """Tell all observers.

    From deeper than they need: RecursionError here ends a wait that has not begun. The switch hook, which is called on
    the same stack when the thread has been woken, then finds room, and what was handed over is not lost.
    """
    for observer in active:
        _call_from(_DEEPER, observer.parked, task)


def _call_from(levels: int, call: Callable[[UserTask], object], task: UserTask) -> None:
    if levels:
        _call_from(levels - 1, call, task)
    else:
        call(task)


def woken(task: Task) -> None:
    """Tell all observers. On the kernel thread of who wakes it."""
    by = getattr(current(), "task", None)
    for observer in active:
        observer.woken(task, by)


def ended(task: Task) -> None:
    """Tell all observers."""
    for observer in active:
        observer.ended(task)
