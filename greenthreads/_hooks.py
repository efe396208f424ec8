"""What happens to an exception that leaves a thread: `excepthook`, as `threading` has it."""

from __future__ import annotations

import sys
import threading as _standard
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from greenthreads.thread import Thread

__all__ = ["ExceptHookArgs", "__excepthook__", "excepthook", "report"]

ExceptHookArgs = _standard.ExceptHookArgs
__excepthook__ = _standard.__excepthook__


def excepthook(args: Any, /) -> None:
    """Handle an uncaught exception of a thread of either kind.

    Assign another function to `greenthreads.excepthook` to handle them yourself. This one passes on to
    `threading.excepthook`, so that a hook set there (pytest does) hears of user threads too; by default the
    traceback goes to `sys.stderr`, and SystemExit is ignored.
    """
    hook = _standard.excepthook
    if hook is None or hook is excepthook:
        hook = __excepthook__
    hook(args)


def report(thread: Thread, exc: BaseException) -> None:
    """Hand `exc`, which is being handled, to `greenthreads.excepthook`, whatever that does in turn."""
    hook = getattr(sys.modules.get("greenthreads"), "excepthook", None) or excepthook
    args = ExceptHookArgs([type(exc), exc, exc.__traceback__, thread])
    try:
        hook(args)
    except SystemExit:
        pass  # It ends the thread, which ends anyway.
    except Exception as error:
        error.__suppress_context__ = True
        if sys.excepthook is not None and sys.stderr is not None:
            print("Exception in threading.excepthook:", file=sys.stderr, flush=True)
            sys.excepthook(type(error), error, error.__traceback__)
    finally:
        del args  # It holds the traceback, and that holds the frame.
