"""Which accesses to memory other threads could notice: learned from the executions of a search, for those that follow.

Most memory that threads touch is theirs alone, and to switch there is a waste of a choice point: what a sampling
strategy draws is then mostly the order of steps whose order makes no difference. So each execution notes what it
touches; and what only one thread has touched, or nobody has written, is *private* in the next.

Objects do not outlive executions, but the places in the code do at which they are touched. A place is private if it was
seen before, and no location that was ever touched there was shared: touched by two threads of one execution, with one
of them writing, while more than one was alive. A place that was never seen is not private. So all this errs towards
choice points, but for one case: what is shared after rare schedules only is taken for private until one of these has
been drawn. Therefore strategies ignore it from time to time; see `strategy.Sampler`.

Rejected: to know objects by the order in which they are first touched, or by type and part. Lists and dicts have no
names, a thread's own ones are made by the dozen, and what is shared among a hundred of them is one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.control import WHOLE
from scheduler.frames import ours_by_file

if TYPE_CHECKING:
    from collections.abc import Hashable
    from types import CodeType, FrameType

    from scheduler.control import Footprint

__all__ = ["Sharing"]

# A program that makes code all the time has no places that come again.
_MOST_PLACES = 50_000

# A code object, by its identity, and an instruction in it.
_Place = tuple[int, int]


class Sharing:
    """What the executions of one search have shared."""

    __slots__ = ("_codes", "_kept", "_private", "_seen")

    def __init__(self) -> None:
        # By place, whether all that was ever touched there was private.
        self._private: dict[_Place, bool] = {}
        # Kept, so that no other code gets their ids.
        self._codes: dict[int, CodeType] = {}
        # Of this execution: object, part, thread, whether it wrote, and where. The objects are kept, too.
        self._seen: set[tuple[int, Hashable, int, bool, _Place]] = set()
        self._kept: dict[int, object] = {}

    def begin(self) -> None:
        """An execution begins."""
        self._seen.clear()
        self._kept.clear()

    def note(self, thread: int, pairs: tuple[tuple[object, Footprint], ...], frame: FrameType | None) -> bool:
        """A thread is about to touch these, with others alive. Whether that is private, as far as is known.

        `frame` is the innermost of its frames.
        """
        while frame is not None:
            code = frame.f_code
            if not ours_by_file[code.co_filename]:
                break
            frame = frame.f_back
        else:
            return False
        place = (id(code), frame.f_lasti)
        for obj, footprint in pairs:
            key = id(obj)
            self._kept[key] = obj
            for part, writes in footprint:
                self._seen.add((key, part, thread, writes, place))
        private = self._private.get(place)
        if private is None:
            self._codes[place[0]] = code
            return False
        return private

    def end(self) -> None:
        """The execution has ended: learn from it."""
        known = self._private
        for *_, place in self._seen:
            if known.get(place) is not False:
                break
        else:
            # All that was touched is known to be shared, and that is final.
            self.begin()
            return
        objects: dict[int, dict[Hashable, _Location]] = {}
        for key, part, thread, writes, place in self._seen:
            parts = objects.setdefault(key, {})
            if part not in parts:
                parts[part] = _Location()
            parts[part].add(thread, writes, place)
        self.begin()
        private = self._private
        for parts in objects.values():
            whole = parts.get(WHOLE)
            for location in parts.values():
                if whole is not None and location is not whole:
                    # To touch the whole is to touch each part, and the other way round.
                    whole.include(location)
            for location in parts.values():
                shared = location.is_shared() or (whole is not None and whole.is_shared())
                for place in location.places:
                    if shared:
                        private[place] = False
                    elif len(private) < _MOST_PLACES:
                        private.setdefault(place, True)


class _Location:
    __slots__ = ("places", "threads", "written")

    def __init__(self) -> None:
        self.threads: set[int] = set()
        self.written = False
        self.places: set[_Place] = set()

    def add(self, thread: int, writes: bool, place: _Place) -> None:
        self.threads.add(thread)
        self.written = self.written or writes
        self.places.add(place)

    def include(self, other: _Location) -> None:
        self.threads |= other.threads
        self.written = self.written or other.written
        self.places |= other.places

    def is_shared(self) -> bool:
        return self.written and len(self.threads) > 1
