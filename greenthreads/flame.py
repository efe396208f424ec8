"""Where the time of schedulers goes: a sampler that writes folded stacks, for flame graphs.

A kernel thread looks every few milliseconds at what each kernel thread with a scheduler is running. The output has a
line a distinct stack, `outermost;...;innermost count`, which flamegraph.pl, speedscope and inferno read.

Frames of this library are left out; where there are no others the scheduler is at work itself, or sleeps.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from typing import IO, TYPE_CHECKING

from greenthreads._unpatched import allocate_lock, get_ident, start_new_thread
from scheduler import deadlock, fork
from scheduler.frames import is_ours

if TYPE_CHECKING:
    from types import CodeType, FrameType

    from scheduler.loop import Scheduler

__all__ = ["Sampler"]


class Sampler:
    """Samples the stacks of all schedulers, `interval` seconds apart, between `start` and `stop`."""

    def __init__(self, interval: float = 0.005) -> None:
        self.interval = interval
        # How often each stack was seen.
        self.stacks: Counter[str] = Counter()
        self._stop = allocate_lock()
        self._ended = allocate_lock()
        self._labels: dict[int, tuple[str | None, CodeType]] = {}

    def start(self) -> None:
        """Begin to sample."""
        self._stop.acquire()
        self._ended.acquire()
        start_new_thread(self._sample, ())

    def stop(self) -> None:
        """End it. Blocks the calling kernel thread for a moment."""
        self._stop.release()
        self._ended.acquire()
        self._ended.release()

    def _sample(self) -> None:
        ident = get_ident()
        # It wakes nobody: a program in which all others wait is stuck.
        deadlock.idle_workers[ident] = None
        try:
            while not self._stop.acquire(True, self.interval):
                self.look()
        finally:
            deadlock.idle_workers.pop(ident, None)
            self._ended.release()

    def look(self) -> None:
        """Take one sample of each scheduler."""
        frames = sys._current_frames()
        for ident, scheduler in list(fork.running.items()):
            self.stacks[self._folded(scheduler, frames.get(ident))] += 1

    def _folded(self, scheduler: Scheduler, frame: FrameType | None) -> str:
        labels = []
        if scheduler.asleep:
            labels.append("(asleep)")
        else:
            while frame is not None:
                label = self._label(frame.f_code)
                if label is not None:
                    labels.append(label)
                frame = frame.f_back
            if not labels:
                labels.append("(the scheduler)")
        labels.append(scheduler.host.name.replace(";", ","))
        return ";".join(reversed(labels))

    def _label(self, code: CodeType) -> str | None:
        known = self._labels.get(id(code))
        if known is None:
            name = getattr(code, "co_qualname", code.co_name)
            place = f"{os.path.basename(code.co_filename)}:{code.co_firstlineno}"
            label = None if is_ours(code) else f"{name} ({place})".replace(";", ",")
            # With the code object, so that the address stays its own.
            known = self._labels[id(code)] = (label, code)
        return known[0]

    def write(self, file: IO[str] | str) -> None:
        """Write the stacks so far to `file`, an open file or a path, the most frequent first."""
        if isinstance(file, str):
            with open(file, "w", encoding="utf-8") as opened:
                self.write(opened)
            return
        for stack, count in self.stacks.most_common():
            file.write(f"{stack} {count}\n")
