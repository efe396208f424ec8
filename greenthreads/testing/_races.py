"""Data races and lock-order inversions, as users see them: with names, both stacks, and the locks held."""

from __future__ import annotations

import linecache
import os
from types import CellType
from typing import TYPE_CHECKING, Any

from greenthreads.testing._aliases import brief
from scheduler.control import Part
from scheduler.controlled import ControlledTask
from scheduler.frames import ours_by_file
from scheduler.races import Access, Inversion, Race, RaceDetector

if TYPE_CHECKING:
    from types import FrameType

    from scheduler.controlled import ControlledScheduler

__all__ = ["DataRace", "LockOrder", "RaceWatch"]

# A comment that says so on the line of either access makes a race one that is meant to be.
BENIGN = "benign race"
_MOST_FRAMES = 6

# File, line and function.
_Place = tuple[str, int, str]


class DataRace(AssertionError):
    """Two accesses to the same memory, one of them a write, that nothing has put in order.

    `what` is the memory, as far as it can be named; the text has both stacks, and the locks held.
    """

    def __init__(self, what: str, text: str, places: tuple[_Place, ...]) -> None:
        super().__init__(text)
        self.what = what
        self.places = places


class LockOrder(Warning):
    """Two locks are taken in both orders, by different threads: they may deadlock, even if they did not."""

    def __init__(self, text: str, places: tuple[_Place, ...]) -> None:
        super().__init__(text)
        self.places = places


class RaceWatch:
    """Watches executions of one exploration, and gathers what it sees, each of it once."""

    def __init__(self, scheduler: ControlledScheduler) -> None:
        self._scheduler = scheduler
        self._detector = RaceDetector()
        self.races: dict[tuple[_Place, ...], DataRace] = {}
        self.inversions: dict[tuple[_Place, ...], LockOrder] = {}
        self._names: dict[int, str] = {}
        # Whether no thread has been started yet.
        self._is_prelude = True

    def begin(self) -> None:
        """An execution begins."""
        self._detector = RaceDetector()
        self._names = {}
        self._is_prelude = True

    def step(self, task: ControlledTask, op: str, obj: object, frame: FrameType | None) -> None:
        """A thread takes a step."""
        if op == "start":
            self._is_prelude = False
        elif self._is_prelude and (op == "read" or op == "write"):
            return  # There is no other thread yet: it comes before whatever there will be.
        footprint = task.footprint if op in ("read", "write") else None
        if task.id not in self._names:
            self._names[task.id] = f"thread {self._scheduler.descent.path_of(task.id)} {task.name}"
        where = _stack(frame) if footprint is not None or op in ("acquire", "wake") else None
        self._detector.step(task.id, op, task.thread if op in ("begin", "end") else obj, footprint, where)
        for other, parts in task.beside if footprint is not None else ():
            self._detector.step(task.id, op, other, parts, where)

    def end(self) -> DataRace | None:
        """The execution has ended; the first race in it that is none by intent."""
        first = None
        for race in self._detector.races:
            found = self._race(race)
            if found is not None and first is None:
                first = found
        for inversion in self._detector.inversions:
            self._inversion(inversion)
        self._detector = RaceDetector()
        return first

    def _race(self, race: Race) -> DataRace | None:
        sides = (race.first, race.second)
        if any(_is_benign(side.where) for side in sides):
            return None
        key = tuple(sorted({side.where[0] for side in sides if side.where}))
        found = self.races.get(key)
        if found is None:
            what = _what(race.obj, race.part)
            kinds = " and ".join("write" if side.writes else "read" for side in sides)
            lines = [f"data race on {what}: {kinds}, with nothing to put them in order"]
            for side in sides:
                lines += self._side(side, "writes it" if side.writes else "reads it")
            found = self.races[key] = DataRace(what, "\n".join(lines), key)
        return found

    def _inversion(self, inversion: Inversion) -> None:
        sides = (inversion.there, inversion.here)
        key = tuple(sorted({side.where[0] for side in sides if side.where}))
        if key not in self.inversions:
            lines = ["two locks are taken in both orders, which may deadlock"]
            for side in sides:
                lines += self._side(side, "takes the one while it holds the other")
            self.inversions[key] = LockOrder("\n".join(lines), key)

    def _side(self, side: Access, does: str) -> list[str]:
        locks = ", ".join(type(lock).__name__ for lock in side.locks)
        lines = [f"  {self._names[side.thread]} {does}, holding {locks or 'no lock'}"]
        for file, line, function in side.where:
            source = linecache.getline(file, line).strip()
            lines.append(f"    {os.path.basename(file)}:{line} in {function}: {source}")
        return lines


def _stack(frame: FrameType | None) -> tuple[_Place, ...]:
    places: list[_Place] = []
    while frame is not None and len(places) < _MOST_FRAMES:
        code = frame.f_code
        if not ours_by_file[code.co_filename]:
            places.append((code.co_filename, frame.f_lineno, code.co_name))
        frame = frame.f_back
    return tuple(places)


def _is_benign(places: tuple[_Place, ...]) -> bool:
    return bool(places) and BENIGN in linecache.getline(places[0][0], places[0][1])


def _what(obj: Any, part: Any) -> str:
    if isinstance(part, Part):
        return f"a {type(obj).__name__}"
    if isinstance(obj, CellType) or (type(obj) is dict and "__builtins__" in obj):
        return f"variable {part}"
    if type(obj) in (list, dict) or not isinstance(part, str):
        return f"a {type(obj).__name__}'s item {brief(part)}"
    return f"{type(obj).__name__}.{part}"
