"""Hooks that tools subscribe to; the engine itself prints nothing.

An observer overrides what it wants to hear. It is called in the middle of the engine, on the kernel thread where the
event happens, and so from several at once if several run: it must not block, park, or raise. While nobody observes,
each event costs one look at an empty list, and a switch costs nothing at all (see `continuation.set_switch_hook`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.continuation import Continuation, set_switch_hook

if TYPE_CHECKING:
    from scheduler.task import Task, UserTask

__all__ = ["Observer", "active", "subscribe", "unsubscribe"]


class Observer:
    """Override the events that you want to hear."""

    def spawned(self, task: Task) -> None:
        """`task` was started: a user thread is ready for the first time, a kernel thread runs."""

    def parked(self, task: UserTask) -> None:
        """`task` is about to park; its `wait` says on what."""

    def ended(self, task: Task) -> None:
        """`task` is done. A user thread: its stack may run the next one without a switch."""

    def switched(self, origin: Continuation, target: Continuation) -> None:
        """The calling kernel thread went from one continuation to another.

        The `task` of each is who runs on it; None if it is idle or has ended. Greenlets that the program made for
        itself come here too, and have no such attribute. Only on kernel threads that were inside no scheduler, or
        subscribed themselves, when the observer came.
        """


active: list[Observer] = []


def subscribe(observer: Observer) -> None:
    """Begin to call `observer`."""
    active.append(observer)
    if type(observer).switched is not Observer.switched:
        install()


def unsubscribe(observer: Observer) -> None:
    """Stop calling `observer`."""
    active.remove(observer)
    install()


def install() -> None:
    """Set, or take away, this kernel thread's switch hook, as the observers need it."""
    hooks = [o.switched for o in active if type(o).switched is not Observer.switched]
    if not hooks:
        set_switch_hook(None)
    elif len(hooks) == 1:
        set_switch_hook(hooks[0])
    else:

        def each(origin: Continuation, target: Continuation) -> None:
            for hook in hooks:
                hook(origin, target)

        set_switch_hook(each)


def spawned(task: Task) -> None:
    """Tell all observers."""
    for observer in active:
        observer.spawned(task)


def parked(task: UserTask) -> None:
    """Tell all observers."""
    for observer in active:
        observer.parked(task)


def ended(task: Task) -> None:
    """Tell all observers."""
    for observer in active:
        observer.ended(task)
