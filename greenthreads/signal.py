"""`signal`, for threads of both kinds: `sigwait` and its like park a user thread, and `pthread_kill` knows it.

Handlers run as ever, between two bytecodes of the main kernel thread, also while its scheduler sleeps. What one raises
is raised in the main user thread, whichever is running: see scheduler/signals.py.

A signal that somebody waits for is blocked, and which signals are blocked is the kernel thread's own affair. So the
scheduler's kernel thread itself must take it: a thread looks whether it is pending, again and again, ever more seldom,
up to every 20 ms. Rejected: another kernel thread that waits; it has another mask.

What is not defined here is the standard module's.
"""

from __future__ import annotations

import signal as _standard
from typing import TYPE_CHECKING, Any

from scheduler.functions import sleep
from scheduler.kernel import current_task, here, kernel_ident
from scheduler.signals import Handler
from scheduler.task import UserTask

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [name for name in dir(_standard) if not name.startswith("_")]

for _name in __all__:
    globals().setdefault(_name, getattr(_standard, _name))
del _name

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...


_signal, _getsignal = _standard.signal, _standard.getsignal


def signal(signalnum: Any, handler: Any) -> Any:
    """As the standard function. What `handler` raises is the main thread's, as in `threading`."""
    if callable(handler) and not isinstance(handler, _standard.Handlers):
        # The interpreter's own for Ctrl-C needs none to stand for it before a scheduler runs: that sees to it.
        if handler is not _standard.default_int_handler or here.scheduler is not None:
            handler = Handler(handler)
    return _of_program(_signal(signalnum, handler))


def getsignal(signalnum: Any) -> Any:
    """As the standard function."""
    return _of_program(_getsignal(signalnum))


def _of_program(handler: Any) -> Any:
    return handler.function if isinstance(handler, Handler) else handler


_PAUSES = 0.0005, 0.02


def _looking(deadline: float | None) -> Iterator[bool]:
    """Pauses between looks; at each, whether it is the last."""
    pause, longest = _PAUSES
    me = current_task()
    while True:
        left = longest if deadline is None else deadline - me.now()
        yield left <= 0
        sleep(max(0.0, min(pause, left)))
        pause = min(2 * pause, longest)


if hasattr(_standard, "sigwait"):
    _sigwait, _sigpending = _standard.sigwait, _standard.sigpending

    def sigwait(sigset: Any, /) -> Any:
        """As the standard function."""
        wanted = set(sigset)
        if isinstance(current_task(), UserTask):
            for _last in _looking(None):
                if wanted & _sigpending():
                    break
        return _sigwait(wanted)


if hasattr(_standard, "sigtimedwait"):
    _sigtimedwait, _sigwaitinfo = _standard.sigtimedwait, _standard.sigwaitinfo

    def _take(sigset: Any, deadline: float | None) -> Any:
        wanted = set(sigset)
        for last in _looking(deadline):
            info = _sigtimedwait(wanted, 0)
            if info is not None or last:
                return info
        return None

    def sigtimedwait(sigset: Any, timeout: float, /) -> Any:
        """As the standard function."""
        me = current_task()
        if not isinstance(me, UserTask) or not isinstance(timeout, (int, float)) or timeout < 0:
            return _sigtimedwait(sigset, timeout)
        return _take(sigset, me.now() + timeout)

    def sigwaitinfo(sigset: Any, /) -> Any:
        """As the standard function."""
        return _take(sigset, None) if isinstance(current_task(), UserTask) else _sigwaitinfo(sigset)


if hasattr(_standard, "pthread_kill"):
    _pthread_kill = _standard.pthread_kill

    def pthread_kill(thread_id: int, signalnum: int, /) -> None:
        """As the standard function: of a user thread, the kernel thread that runs it gets the signal.

        ProcessLookupError if that user thread has ended.
        """
        _pthread_kill(kernel_ident(thread_id), signalnum)
