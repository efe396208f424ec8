"""When does a thread poll in vain?

A loop that looks at a flag, or yields, until somebody does something, would have a depth-first search follow it
for ever. It is enough to see one round of it: if nothing has been done in between, the next one finds the same. A
thread that asks a *question* (an operation that changes nothing) is taken to poll in vain if

- it asked the same of the same object before, at the same place in the code, called from the same places,
- with the same values in all the variables of its functions, and
- no thread has done anything since but ask such questions again.

Then its state is what it was, and so is everybody's, as far as can be seen from here: another round would lead where
this one has led. It is left out until somebody does something. Loops that count or compute are not taken for that, nor
are questions one after the other: their variables, or their places, differ. A `for` loop is, after many rounds only,
for how far it is can't be seen, and most have an end.

What can't be seen either is a change inside of an object, of a global or an attribute, and where a loop is that C makes
(`list(map(lock.acquire, ...))`). So this is an *assumption*, and an exploration that relied on it is not exhausted.

**Rounds.** Code that is instrumented says where a `while` loop begins, and where each of its rounds does. At the
beginning of a round all that the loop will do hangs on the variables of its function, and on memory: nothing else is
half done in it, and what was half done outside of it has stayed as it was. A change of memory is seen there. So if the
variables are what they were one round before, and nobody has done anything but look since, this round will be as that
one was. That is no assumption.

To leave the thread out loses nothing then: every state that it leads to without help was visited. Code that no thread
announces (what modules do that are not instrumented, and C) is taken to remember nothing here, as everywhere else: an
exploration names what it did not see. A loop that yields to whom iterates is no such loop, for others may be half done
with something in between.

Cf. Musuvathi and Qadeer, "Fair stateless model checking", PLDI 2008, which takes each yield for a promise that nothing
else can be done. Python programs yield where they mean no such thing.
"""

from __future__ import annotations

import dis
import functools
import random
from collections import deque
from inspect import CO_GENERATOR
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from scheduler.frames import ours_by_file

if TYPE_CHECKING:
    from types import CodeType, FrameType

__all__ = ["Question", "Round", "ask", "state_of_round"]

_Key = tuple[Any, ...]
_Stack = tuple[tuple[Any, ...], ...]

# Values of these types that are equal are the same. Of others identity counts: equality is code of the program.
_PLAIN = frozenset((bool, bytes, float, int, str, type(None)))
# Of these it is also looked at what is inside: a function may change one that it has to itself, and nobody sees it.
_CONTAINERS = frozenset((bytearray, deque, dict, list, set))
# So much of it.
_MOST_ITEMS = 32
# A `for` loop is taken for one that polls after so many rounds in vain.
_MANY_ROUNDS = 20


class Question:
    """What a thread asks: where, about what, with what in its variables.

    The variables are recorded from the second time on that the same is asked at a place: most places ask once. That is
    the first time that it comes here if the thread asked the same just before; of a question that follows upon
    something else that the thread did, nothing is recorded at all.
    """

    __slots__ = ("count", "is_again", "kept", "key", "stack", "when")

    def __init__(
        self, key: _Key, kept: object, stack: _Stack | None, is_again: bool, when: int, count: int = 0
    ) -> None:
        self.key = key
        # What the key has the ids of: they stay theirs.
        self.kept = kept
        self.stack = stack
        # Whether that is just what it asked last, at this place, and which moment that was.
        self.is_again = is_again
        self.when = when
        # How often in a row it was asked with the same in the variables.
        self.count = count


class Round:
    """A round of a `while` loop, at its beginning."""

    __slots__ = ("chances", "deeds", "frame", "steps", "variables")

    def __init__(self, frame: int, deeds: int, steps: int, variables: tuple[Any, ...] | None) -> None:
        # Of which call, by its identity. (One that ends, and whose identity another gets, begins its loops anew.)
        self.frame = frame
        # How often anybody has done anything but look, and how many steps were taken, until then.
        self.deeds = deeds
        self.steps = steps
        # What was in the variables; None where it was not looked at: most loops do something in each round.
        self.variables = variables
        # How often yet a thread is let on that is taken to poll, for the next round may show that it does.
        self.chances = 10

    def may_show(self) -> bool:
        """Whether to wait for that once more."""
        self.chances -= 1
        return self.chances >= 0


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
    while frame is not None:
        code = frame.f_code
        if not ours_by_file[code.co_filename]:
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
    is_again = before.stack == stack
    count = before.count + 1 if is_again else 0
    if is_again and count < _MANY_ROUNDS and _is_in_for(frame):
        is_again = False
    return Question(key, before.kept, stack, is_again, before.when, count)


def _stack_of(frame: FrameType | None) -> _Stack:
    stack = []
    while frame is not None:
        if not ours_by_file[frame.f_code.co_filename]:
            stack.append((frame.f_code, frame.f_lasti, *variables_of(frame)))
        frame = frame.f_back
    return tuple(stack)


def variables_of(frame: FrameType) -> tuple[Any, ...]:
    """The variables of a function, and what is in them, to be compared."""
    variables = frame.f_locals
    return (*variables, *[v if type(v) in _PLAIN else _compared(v) for v in variables.values()])


def _compared(value: Any) -> Any:
    kind = type(value)
    if kind not in _CONTAINERS:
        return _Same(value)
    inside = chain.from_iterable(value.items()) if kind is dict else value
    items = [v if type(v) in _PLAIN else _Same(v) for v in islice(inside, _MOST_ITEMS)]
    return (_Same(value), len(value), *items)


def state_of_round(frame: FrameType) -> tuple[Any, ...]:
    """What a round of a loop in that function hangs on, but for memory. What is drawn next is such a thing."""
    return (*variables_of(frame), hash(random.getstate()))


def _is_in_for(frame: FrameType | None) -> bool:
    """Whether the innermost loop that a thread is in is a `for` loop, as far as its program is Python.

    A generator goes round in its own loops as often as somebody iterates it: that loop counts.
    """
    while frame is not None:
        if not (ours_by_file[frame.f_code.co_filename] or frame.f_code.co_flags & CO_GENERATOR):
            at = frame.f_lasti
            around = [(end - begin, is_for) for begin, end, is_for in _loops(frame.f_code) if begin <= at < end]
            if around:
                return min(around)[1]
        frame = frame.f_back
    return False


@functools.lru_cache(maxsize=1024)
def _loops(code: CodeType) -> tuple[tuple[int, int, bool], ...]:
    """The loops in `code`: from where to where, and whether it is a `for` loop."""
    fors: dict[int, int] = {}
    ends: dict[int, int] = {}
    begin = None
    for each in dis.get_instructions(code):
        if begin is None:
            begin = each.offset
        if each.opname == "EXTENDED_ARG":
            continue  # The beginning of the instruction that follows, and where others jump to.
        if each.opname == "FOR_ITER":
            fors[begin] = each.argval
        elif each.opcode in _JUMPS and each.argval <= begin:
            ends[each.argval] = each.offset + 1
        begin = None
    whiles = [(begin, end, False) for begin, end in ends.items() if begin not in fors]
    return (*whiles, *[(begin, end, True) for begin, end in fors.items()])


_JUMPS = frozenset((*dis.hasjrel, *dis.hasjabs))
