"""Ctrl-C under a scheduler: KeyboardInterrupt belongs to the main user thread.

CPython runs signal handlers between two bytecodes of whatever the main kernel thread is doing: any user thread, the
loop, or the middle of a primitive. The default SIGINT handler would raise right there. While a scheduler runs on the
main kernel thread, and the program has no handler of its own, the one below stands in for it:
- the main user thread is running its own code: raise, as ever;
- another thread is: interrupt the main one, or if that has not raised an earlier Ctrl-C yet, raise where we are, for
  this thread does not let go of the kernel thread;
- the engine runs, or sleeps: post an interrupt of the main user thread, and wake the loop.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from scheduler.continuation import current
from scheduler.kernel import on_main_kernel_thread

if TYPE_CHECKING:
    from types import FrameType

    from scheduler.loop import Scheduler

__all__ = ["CtrlC"]


class CtrlC:
    """The SIGINT handler of one running scheduler."""

    wakes_nobody = True

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._installed = False
        self._last: KeyboardInterrupt | None = None
        self._posted = False

    def install(self) -> None:
        """Take SIGINT over, on the main kernel thread and from the default handler only."""
        if on_main_kernel_thread():
            if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                signal.signal(signal.SIGINT, self)
                self._installed = True

    def restore(self) -> None:
        """Give SIGINT back, if it is still ours."""
        if self._installed and signal.getsignal(signal.SIGINT) is self:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Run by the interpreter on SIGINT."""
        main = self._scheduler.main
        if not _in_engine(frame):
            if getattr(current(), "task", None) is main:
                raise KeyboardInterrupt
            if self._posted or (self._last is not None and main.pending is self._last):
                raise KeyboardInterrupt
            if not main.done:
                self._last = KeyboardInterrupt()
                main.interrupt_now(self._last)
                return
        self._posted = True
        self._scheduler.post(self._deliver)

    def _deliver(self) -> None:
        if self._posted:
            self._posted = False
            self._last = KeyboardInterrupt()
            self._scheduler.interrupt_main(self._last)


def _in_engine(frame: FrameType | None) -> bool:
    name = "" if frame is None else str(frame.f_globals.get("__name__", ""))
    return name.partition(".")[0] in ("scheduler", "greenthreads")
