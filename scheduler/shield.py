"""Where an exception may be raised in another kernel thread: anywhere but in the library's own code.

CPython can raise an exception asynchronously in a kernel thread (`PyThreadState_SetAsyncExc`): at whichever bytecode
that thread comes to next. In the middle of a primitive that would leave it half done: a lock taken by a thread that
does not know of it, a waiter that has left and still stands in the queue. So whoever interrupts looks first where the
thread stands. In the library, it will soon have come out, or be parked, where it is interrupted without all this; look
again then.

**Look and raise are one step**, or the thread might enter the library in between. The interpreter changes from one
kernel thread to another only after a call, at the start of a function, or at a jump (since 3.11, at a backward jump).
Between the look and the call that raises there is none of these: the frames of all threads come out of an attribute,
not of a call, and which call it is to be comes out of a tuple, not of an `if`.

Then it is raised where the thread stands, outside: the interpreter looks for it when it has let others run. Since 3.13
it does so one look too late, which may be in the library: see lookahead.py. So a thread that stands just before the end
of a `with` block is left alone, too; but not for long, if it always does.
"""

from __future__ import annotations

import ctypes
import operator
import os
import sys
from _thread import get_ident
from types import CodeType
from typing import Any

from scheduler.lookahead import may_end_block

__all__ = ["passages", "place_of", "raise_outside", "shielded", "take_back"]

_folder = os.path.dirname(os.path.abspath(__file__))

# The files whose code is not to be interrupted. None of it blocks in the system for long, except where it is parked.
shielded = {os.path.join(_folder, name) for name in os.listdir(_folder) if name.endswith(".py")}
# But for functions that call one of the program's: that may be in C, have no frame, and block as long as it likes. And
# for the one that waits for descriptors.
passages: set[CodeType] = set()
# Whether the interpreter is late, see above.
_IS_LATE = sys.version_info >= (3, 13)


class _Looker:
    """Where all kernel threads stand, as an attribute."""

    call = staticmethod(sys._current_frames)
    frames: Any = property(operator.methodcaller("call"))


_look = _Looker()


def raise_outside(ident: int, kind: type[BaseException], *, anywhere: bool = False, at_end: bool = False) -> bool:
    """Raise `kind()` in kernel thread `ident`, at its next bytecode; False, and nothing, if it is in the library.

    Or if it may be at the end of a `with` block, unless `at_end`. `anywhere`: there, too.
    """
    raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
    number, argument = ctypes.c_ulong(ident), ctypes.py_object(kind)
    choice = (raise_in, _leave_alone)
    seen = sys._current_frames().get(ident) if _IS_LATE and not (anywhere or at_end) else None
    at = -1 if seen is None else seen.f_lasti
    if seen is not None and may_end_block(seen):
        return False
    is_late = seen is not None
    try:
        # From here to the call there must be no other call, and no jump.
        frame = _look.frames[ident]
        code = frame.f_code
        inside = (code.co_filename in shielded) > (code in passages)
        moved = is_late & ((frame is not seen) | (frame.f_lasti != at))
        done = choice[(inside | moved) > anywhere](number, argument)
    except KeyError:
        raise_in(number, argument)  # It has no frame: not yet, or not any more.
        return True
    return done is not None


def _leave_alone(_number: object, _argument: object) -> None:
    pass


def place_of(ident: int | None) -> object:
    """Where kernel thread `ident` stands, to be compared."""
    frame = None if ident is None else sys._current_frames().get(ident)
    return None if frame is None else (frame.f_code, frame.f_lasti)


class _Nothing(BaseException):
    """Raised in place of an exception that is taken back."""


def take_back() -> None:
    """Forget an exception that was to be raised in the calling kernel thread, and was not yet.

    CPython's own way, to set none, leaves the flag set that makes the interpreter look for one: before Python 3.13 that
    is every thread's, for good, and on 3.11 a function that is traced would look for ever. It goes with an exception
    that is raised; so another one takes the place of the first.
    """
    try:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(get_ident()), ctypes.py_object(_Nothing))
        while True:
            pass
    except _Nothing:
        pass
