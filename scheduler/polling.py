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

from typing import TYPE_CHECKING, Any

from scheduler.deadlock import is_ours

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["Question", "ask"]

_Key = tuple[Any, ...]
_Stack = tuple[tuple[Any, ...], ...]

# Values of these types that are equal are the same. Of others identity counts: equality is code of the program.
_PLAIN = frozenset((bool, bytes, float, int, str, type(None)))


class Question:
    """What a thread asks: where, about what, with what in its variables.

    The variables are recorded from the second time on that the same is asked at a place: most places ask once. That is
    the first time that it comes here if the thread asked the same just before; of a question that follows upon
    something else that the thread did, nothing is recorded at all.
    """

    __slots__ = ("is_again", "kept", "key", "stack", "when")

    def __init__(self, key: _Key, kept: object, stack: _Stack | None, is_again: bool, when: int) -> None:
        self.key = key
        # What the key has the ids of: they stay theirs.
        self.kept = kept
        self.stack = stack
        # Whether that is just what it asked last, at this place, and which moment that was.
        self.is_again = is_again
        self.when = when


class _Same:
    """Equal to another one iff both are of the same object."""

    __slots__ = ("_obj",)

    def __init__(self, obj: object) -> None:
        self._obj = obj

    def __eq__(self, other: object) -> bool:
        return type(other) is _Same and other._obj is self._obj

    __hash__ = None  # type: ignore[assignment]


def ask(
    asked: dict[_Key, Question],
    op: str,
    obj: object,
    part: object,
    frame: FrameType | None,
    may_poll: bool = False,
) -> Question:
    """The question that a thread asks, which has `asked` others before. `frame` is the innermost of its frames.

    `may_poll` says that it asked the same just before, maybe somewhere else.
    """
    # On the way of every look at anything: the call to `_is_ours` written out.
    while frame is not None:
        code = frame.f_code
        known = _ours.get(code.co_filename)
        if not (_is_ours(frame) if known is None else known):
            break
        frame = frame.f_back
    else:
        return Question((op, id(obj), part), obj, None, False, -1)
    # By identity: the hash of a code object is that of all its parts.
    key = (op, id(obj), part, id(code), frame.f_lasti)
    before = asked.get(key)
    if before is None:
        return Question(key, (obj, code), _stack_of(frame) if may_poll else None, False, -1)
    stack = _stack_of(frame)
    return Question(key, before.kept, stack, before.stack == stack, before.when)


# By file: what `is_ours` has said.
_ours: dict[str, bool] = {}


def _is_ours(frame: FrameType) -> bool:
    code = frame.f_code
    known = _ours.get(code.co_filename)
    if known is None:
        known = _ours[code.co_filename] = is_ours(code)
    return known


def _stack_of(frame: FrameType | None) -> _Stack:
    stack = []
    while frame is not None:
        if not _is_ours(frame):
            values = [v if type(v) in _PLAIN else _Same(v) for v in frame.f_locals.values()]
            stack.append((frame.f_code, frame.f_lasti, *values))
        frame = frame.f_back
    return tuple(stack)
