"""How things, threads, places and steps are called in one report."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from greenthreads.testing._recorder import Blocked, Line, Place, Recorder

__all__ = ["Words"]

_WAITING = {"get": "to get from", "join": "for the end of", "put": "to put into"}
_WAITING.update(dict.fromkeys(("resume", "wait", "wake"), "for"))


class Words:
    """How things, threads and places are called in one report."""

    def __init__(self, recorder: Recorder) -> None:
        self._names = recorder.aliases.names()
        self._threads = recorder.names
        files = {line.place[0] for line in recorder.lines} | {
            place[0] for each in recorder.blocked for place in each.stack
        }
        self._base_names = [os.path.basename(file) for file in files]

    def thread(self, thread: str) -> str:
        """A thread, by its descent and its name."""
        name = self._threads.get(thread, "")
        return f"{thread} {name}" if name else thread

    def heading(self, thread: str) -> str:
        """The same in short: the name that a thread has got without being given one says its number once more."""
        name = self._threads.get(thread, "")
        unnamed = re.fullmatch(r"Thread-\d+(?: \((.*)\))?", name)
        if unnamed or name == "MainThread":
            name = "main" if not unnamed else unnamed[1] or ""
        return f"{thread} {name}".rstrip()

    def place(self, place: Place) -> str:
        """A file and a line; with the folder where two files are called alike."""
        file, line, _function = place
        if not file:
            return ""
        base = os.path.basename(file)
        if self._base_names.count(base) > 1:
            base = os.path.join(os.path.basename(os.path.dirname(file)), base)
        return f"{base}:{line}"

    def thing(self, obj: int | str | None) -> str:
        """What the program calls an object."""
        return self._names[obj] if isinstance(obj, int) else obj or ""

    def step(self, line: Line) -> str:
        """What a thread does to what, and the value that it reads or writes."""
        thing = self.thing(line.obj)
        if line.part:
            thing = line.part if line.part_alone else thing + line.part
        if line.op == "write" and line.value is not None:
            return f"write {thing} = {line.value}"
        op = "time out" if line.op == "timeout" else line.op.replace("_", " ")
        return f"{op} {thing}".rstrip() + (f": {line.value}" if line.value is not None else "")

    def waiting(self, blocked: Blocked) -> str:
        """What a thread of a deadlock waits for."""
        if blocked.op == "join" and isinstance(blocked.obj, str):
            return f"waits for the end of {self.thread(blocked.obj)}"
        verb = _WAITING.get(blocked.op, f"to {blocked.op.replace('_', ' ')}")
        return f"waits {verb} {self.thing(blocked.obj)}".rstrip()
