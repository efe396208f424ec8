"""Whether a `with` block may end before the interpreter next looks for an asynchronous exception.

Since Python 3.13 such an exception comes late: the interpreter decides whether there is one *before* it lets other
threads run, of which one sets it, and so raises it the next time that it looks. If that is in the first line of an
`__exit__`, what was to be given up there is not, and a lock is held for ever. So nothing is raised in a thread that
stands where this may happen: see shield.py.

The interpreter looks after a call, at the start of a function, and at a backward jump. From where a thread stands, all
ways are followed to the first such place, through the ends of functions into those that called them. The call that ends
a block is known by its three arguments, which are None.
"""

from __future__ import annotations

import dis
import enum
from functools import lru_cache
from types import CodeType, FrameType

__all__ = ["may_end_block"]

_JUMPS = frozenset(dis.hasjrel) | frozenset(dis.hasjabs)
# An exception ends blocks as well.
_RAISES = ("RAISE_VARARGS", "RERAISE", "WITH_EXCEPT_START")
_CALLS = ("CALL", "CALL_KW", "CALL_FUNCTION_EX")
_LOOKS = ("JUMP_BACKWARD", "RESUME", "SEND")


class Ahead(enum.IntEnum):
    """What comes first, on some way. The highest counts."""

    LOOK, RETURN, END = range(3)


def may_end_block(frame: FrameType | None) -> bool:
    """Whether a block may end before the next look in the thread whose innermost frame is `frame`."""
    while frame is not None:
        ahead = _ahead(frame.f_code, frame.f_lasti)
        if ahead is not Ahead.RETURN:
            return ahead is Ahead.END
        frame = frame.f_back
    return False


@lru_cache(1024)
def _ahead(code: CodeType, offset: int) -> Ahead:
    instructions, place_of = _instructions(code)
    if offset not in place_of:
        return Ahead.LOOK  # Not begun: the function's start.
    found, seen = Ahead.LOOK, set[int]()
    begin = place_of[offset]
    ways = [place_of[instructions[begin].argval] if instructions[begin].opname == "JUMP_BACKWARD" else begin + 1]
    while ways:
        place = ways.pop()
        if place in seen or place >= len(instructions):
            continue
        seen.add(place)
        at = instructions[place]
        if at.opname in _LOOKS:
            continue
        if at.opname in _CALLS:
            if all(each.argval is None for each in instructions[max(0, place - 3) : place]):
                return Ahead.END
            continue
        if at.opname in _RAISES:
            return Ahead.END
        if at.opname.startswith(("RETURN_", "YIELD_")):
            found = Ahead.RETURN
            continue
        if at.opcode in _JUMPS:
            ways.append(place_of[at.argval])
        if not at.opname.startswith("JUMP_"):
            ways.append(place + 1)
    return found


@lru_cache(256)
def _instructions(code: CodeType) -> tuple[list[dis.Instruction], dict[int, int]]:
    instructions = list(dis.get_instructions(code))
    return instructions, {each.offset: place for place, each in enumerate(instructions)}
