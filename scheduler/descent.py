"""Which thread is which, in every execution: by descent, not by the order of their starts.

Different schedules start the same threads in a different order. So a thread is known by who started it, and as its how
manieth: "0" is the main one, "2.1" the first thread that the main one's second started. Traces name threads so. Inside
of one exploration a thread has a small number instead, the same in each execution.
"""

from __future__ import annotations

__all__ = ["Descent"]


class Descent:
    """The numbers of one exploration. That of the main thread is 0."""

    __slots__ = ("_numbers", "_origins")

    def __init__(self) -> None:
        # A thread's origin, (its parent's number, how many children that had before), by its number; and back.
        self._origins: list[tuple[int, int]] = [(0, 0)]
        self._numbers: dict[tuple[int, int], int] = {}

    def number_of_child(self, parent: int, before: int) -> int:
        """The number of the thread that `parent` starts when it has started so many `before`."""
        origin = (parent, before)
        number = self._numbers.get(origin)
        if number is None:
            number = self._numbers[origin] = len(self._origins)
            self._origins.append(origin)
        return number

    def is_older(self, one: int, other: int) -> bool:
        """Whether `one` was started before anything that `other` may do now, in every schedule.

        So it is if `other` started it itself, or if who did so then started `other`, or an ancestor of it.
        """
        parent, before = self._origins[one]
        while other != parent:
            above, index = self._origins[other]
            if above == parent:
                return before < index
            if not other:
                return False
            other = above
        return True

    def path_of(self, number: int) -> str:
        """A thread's descent, by its number."""
        steps = []
        while number:
            number, before = self._origins[number]
            steps.append(str(before + 1))
        return ".".join(reversed(steps)) or "0"

    def number_of(self, path: str) -> int:
        """A thread's number, by its descent; see `path_of`."""
        number = 0
        if path != "0":
            for index in path.split("."):
                number = self.number_of_child(number, int(index) - 1)
        return number
