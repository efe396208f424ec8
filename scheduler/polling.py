"""When does a thread poll in vain?

A loop that looks at a flag, or yields, until somebody does something, would have a depth-first search follow it
for ever. It is enough to see one round of it: if nothing has been done in between, the next one finds the same. A
thread that asks a *question* (an operation that changes nothing) is taken to poll in vain if

- it asked the same of the same object before, at the same place in the code, called from the same places,
- with the same values in all the variables of its functions, and
- no thread has done anything since but ask such questions again.

Then its state is what it was, and so is everybody's, as far as can be seen from here: another round would lead where
this one has led. It is left out until somebody does something. Loops that count or compute are not taken for that, nor
are questions one after the other: their variables, or their places, differ.

What can't be seen is a change inside of an object, of a global or an attribute, by a thread that polls. So this is an
assumption, and an exploration that relied on it says so.

Cf. Musuvathi and Qadeer, "Fair stateless model checking", PLDI 2008, which takes each yield for a promise that nothing
else can be done. Python programs yield where they mean no such thing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from scheduler.deadlock import is_ours

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["Question", "ask"]

_Key = tuple[Any, ...]
_Stack = tuple[tuple[Any, ...], ...]

# Values of these types that are equal are the same. Of others identity counts: equality is code of the program.
_PLAIN = frozenset((bool, bytes, float, int, str, type(None)))


class Question(NamedTuple):
    """What a thread asks: where, about what (kept, so that its id stays its own), with what in its variables.

    The variables are recorded from the second time on that the same is asked at a place: most places ask once.
    """

    key: _Key
    obj: object
    stack: _Stack | None
    # Whether that is just what it asked last, at this place, and which moment that was.
    is_again: bool
    when: int


class _Same:
    """Equal to another one iff both are of the same object."""

    __slots__ = ("_obj",)

    def __init__(self, obj: object) -> None:
        self._obj = obj

    def __eq__(self, other: object) -> bool:
        return type(other) is _Same and other._obj is self._obj

    __hash__ = None  # type: ignore[assignment]


def ask(asked: dict[_Key, Question], op: str, obj: object, part: object, frame: FrameType | None) -> Question:
    """The question that a thread asks, which has `asked` others before. `frame` is the innermost of its frames."""
    while frame is not None and is_ours(frame.f_code):
        frame = frame.f_back
    if frame is None:
        return Question((op, id(obj), part), obj, None, False, -1)
    key = (op, id(obj), part, frame.f_code, frame.f_lasti)
    before = asked.get(key)
    if before is None:
        return Question(key, obj, None, False, -1)
    stack = _stack_of(frame)
    return Question(key, obj, stack, before.stack == stack, before.when)


def _stack_of(frame: FrameType | None) -> _Stack:
    stack = []
    while frame is not None:
        if not is_ours(frame.f_code):
            values = [v if type(v) in _PLAIN else _Same(v) for v in frame.f_locals.values()]
            stack.append((frame.f_code, frame.f_lasti, *values))
        frame = frame.f_back
    return tuple(stack)
