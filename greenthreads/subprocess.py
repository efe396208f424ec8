"""`subprocess`, for threads of both kinds: a user thread that waits for a child, or for its output, parks.

The class is a subclass of the standard one. Its pipes are ours (`_pipes.Pipe`), `communicate` watches them through our
`selectors`, and `wait` waits for the child's pidfd; where the system has none, a kernel thread waits.

What is not defined here is the standard module's.
"""

from __future__ import annotations

import builtins
import io
import subprocess as _standard
from typing import TYPE_CHECKING, Any

from greenthreads import os as _os
from greenthreads import selectors as _selectors
from greenthreads._pipes import open_pipe
from greenthreads._rebind import rebound
from greenthreads.kernelpool import run_in_kernel_thread
from scheduler import control
from scheduler.kernel import current_task
from scheduler.outside import starts_process
from scheduler.task import UserTask

__all__ = [name for name in dir(_standard) if not name.startswith("__")]

for _name in __all__:
    globals().setdefault(_name, getattr(_standard, _name))

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...


class _Io:
    """Stands for `io` where the standard class opens its pipes."""

    open = staticmethod(open_pipe)

    def __getattr__(self, name: str) -> Any:
        return getattr(io, name)


class _Globals(dict):  # type: ignore[type-arg]
    """The standard module's globals as they are at the moment, but for what is in here."""

    def __missing__(self, name: str) -> Any:
        try:
            return vars(_standard)[name]
        except KeyError:
            return getattr(builtins, name)


_globals = _Globals(
    __builtins__=builtins,
    io=_Io(),
    os=_os,
    selectors=_selectors,
    _PopenSelector=getattr(_selectors, "PollSelector", _selectors.SelectSelector),
)


class Popen(_standard.Popen):  # type: ignore[type-arg]
    """As `subprocess.Popen`."""

    __init__ = rebound(_standard.Popen.__init__, _globals)
    __init__.__wrapped__ = _standard.Popen.__init__
    if hasattr(_standard.Popen, "_communicate"):
        _communicate = rebound(_standard.Popen._communicate, _globals)  # type: ignore[attr-defined]

    def _execute_child(self, *args: Any, **kwargs: Any) -> None:
        if control.active is not None:
            starts_process()
        super()._execute_child(*args, **kwargs)  # type: ignore[misc]

    def _wait(self, timeout: float | None) -> int | None:
        standard = super()._wait  # type: ignore[misc]
        me = current_task()
        if self.returncode is not None or not isinstance(me, UserTask) or timeout == 0:
            return standard(timeout)  # type: ignore[no-any-return]
        if not _os.has_pidfd:
            return run_in_kernel_thread(standard, timeout)  # type: ignore[no-any-return]
        try:
            ended = _os.until_exit(self.pid, None if timeout is None else me.now() + timeout)
        except ProcessLookupError:
            ended = True  # Somebody else has reaped it.
        if not ended:
            raise _standard.TimeoutExpired(self.args, timeout or 0.0)
        return standard(None)  # type: ignore[no-any-return]


for _name in ("call", "check_call", "check_output", "getoutput", "getstatusoutput", "run"):
    globals()[_name] = rebound(getattr(_standard, _name), globals())
del _name
