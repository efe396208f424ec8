"""`Thread`: one class for both kinds of thread.

The contract is `threading.Thread`'s: its signature, its errors and their texts. What is added: `kind`, which chooses
between a user thread and a kernel thread, and `interrupt`. What differs is said where it does.

`Thread` is a `threading.Thread`, so that `isinstance` holds for whoever asks, but shares none of its workings: all that
is public, and all that the standard module calls in a thread, is overridden. Conversely the methods below also work on
standard threads, on which `patch` puts them; there `_task` is None and `_ident` is not, once the thread was started.

The texts of assertions are threading's own, and part of the contract. pytest, which rewrites those of every package
that brings a plugin for it, must not: PYTEST_DONT_REWRITE.
"""

from __future__ import annotations

import os
import sys
import threading as _standard
import warnings
from _thread import get_ident as _get_ident
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from greenthreads import _hooks, carriers, trace
from greenthreads._running_loop import set_aside
from greenthreads._time import deadline_after
from greenthreads.carriers import Kind, name_in_system, start_kernel, start_user
from greenthreads.kernelpool import run_in_kernel_thread
from scheduler import control, fork, loop, shield
from scheduler import task as scheduler_task
from scheduler.continuation import current
from scheduler.errors import TaskExit
from scheduler.kernel import KernelTask, current_task
from scheduler.task import UserTask, Wait, current_is_on

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextvars import Context

    from greenthreads.group import ThreadGroup
    from scheduler.task import Task

__all__ = ["Thread", "ThreadInterrupted"]

_StandardThread = _standard.Thread
_standard_is_alive = _standard.Thread.is_alive
_standard_join = _standard.Thread.join
_standard_stop: Callable[[Any], None] | None = getattr(_standard.Thread, "_stop", None)  # before Python 3.13

# Shared with `threading`, so that no two threads of a program have the same name.
_standard_namespace = vars(_standard)

# Since Python 3.14: whether a thread starts with the context of who starts it, or with an empty one.
_inherits_context = bool(getattr(sys.flags, "thread_inherit_context", False))


class ThreadInterrupted(Exception):
    """What `Thread.interrupt()` raises in the thread, unless told otherwise."""


class Thread(_standard.Thread):
    """A thread of control: a user thread (`kind="user"`) or a kernel thread (`kind="kernel"`).

    As `threading.Thread`: give it a `target`, or override `run` (and `__init__`, calling this one first). `kind=None`
    takes the program's default, "user" unless `set_default_kind` says otherwise. A user thread belongs to the
    scheduler that the starting thread runs in, and switches only where it yields, sleeps or waits.
    """

    _initialized = False
    _task: Task | None = None
    _target: Callable[..., object] | None = None
    _named_after: str | None = None
    _args: Iterable[Any] = ()
    _kwargs: Mapping[str, Any] | None = None
    _context: Context | None = None
    _group: ThreadGroup | None = None
    _kind: Kind | None = None
    # For the policies of those names: see `scheduler.policies`. To be set on the thread, at any time.
    priority: float = 0
    weight: float = 1.0
    # Whether a user thread that finds no scheduler may become a kernel thread.
    _falls_back = False
    # Set by the standard class when a thread of its own starts.
    _ident: int | None = None
    _native_id: int | None = None

    def __init__(
        self,
        group: None = None,
        target: Callable[..., object] | None = None,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        daemon: bool | None = None,
        context: Context | None = None,
        kind: Kind | None = None,
    ) -> None:
        assert group is None, "group argument must be None for now"
        self._target = target
        if args != ():
            self._args = args
        if kwargs is not None:
            self._kwargs = kwargs
        if name:
            self._name: str | int = str(name)
        else:
            # Made of these when somebody asks: most threads' names are never read.
            self._name = _standard_namespace["_counter"]()
            self._named_after = getattr(target, "__name__", None)
        if daemon is None:
            try:
                daemon = current().task.daemon
            except (AttributeError, RuntimeError):
                daemon = current_task().daemon
        self._daemonic = daemon
        if context is not None:
            self._context = context
        self._kind = carriers.default if kind is None else carriers.checked_kind(kind)
        self._initialized = True

    # ---- The life of a thread --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Make the thread ready to run. Does not switch to it.

        RuntimeError if it was started before, if a user thread has no scheduler to run in, or if the system can't
        have another kernel thread.
        """
        if not self._initialized:
            raise RuntimeError("thread.__init__() not called")
        if self._task is not None or self._ident is not None:
            raise RuntimeError("threads can only be started once")
        if control.active is not None:
            if control.announcing is not None:
                # (`function` is a Timer's, ours or the standard one.)
                for name in ("_target", "function"):
                    if callable(vars(self).get(name)):
                        setattr(self, name, control.announcing(getattr(self, name)))
            control.active.step("start", self)
        if _inherits_context and self._context is None:
            self._context = copy_context()
        if self._kind is None:
            self._kind = carriers.default  # made before `patch`
        if self._kind == "user" or (control.active is not None and control.active.controls()):
            start_user(self)
        else:
            start_kernel(self)

    def run(self) -> None:
        """What the thread does: call its target. Override it in a subclass."""
        try:
            target = self._target
            if target is not None:
                if self._kwargs is not None:
                    target(*self._args, **self._kwargs)
                elif self._args != ():
                    target(*self._args)
                else:
                    target()
        finally:
            # A cycle through the arguments must not keep the thread.
            self._target = target = None
            self._args, self._kwargs = (), None

    def _bootstrap(self) -> None:
        try:
            if trace.wanted:
                trace.begin()
            self.run()
        except TaskExit:
            pass
        except BaseException as exc:
            self._failed(exc)

    def _first_call(self) -> Callable[[], object]:
        """What a user thread calls: its target as it is, if there is no more to do. See continuation.py for why."""
        target = self._target
        if target is None or self._args != () or self._kwargs is not None or trace.wanted or control.active is not None:
            return self._bootstrap
        try:
            # A program may have given the thread a `run` of its own, which need not be a method.
            return target if self.run.__func__ is _run else self._bootstrap  # type: ignore[attr-defined]
        except AttributeError:
            return self._bootstrap

    def _fail(self, exc: BaseException) -> None:
        """End with `exc` in place of running."""
        try:
            raise exc
        except TaskExit:
            pass
        except BaseException:
            self._failed(exc)

    def _failed(self, exc: BaseException) -> None:
        """Say that `exc`, which is being handled, leaves the thread."""
        if self._group is None:
            _hooks.report(self, exc)
        else:
            self._group.failed(exc)

    def join(self, timeout: float | None = None) -> None:
        """Wait until the thread ends, or `timeout` seconds have passed. Threads of both kinds join both.

        Blocks the calling thread: a user thread parks, a kernel thread blocks in the system. RuntimeError when a
        thread joins itself, or one that was not started.
        """
        if not self._initialized:
            raise RuntimeError("Thread.__init__() not called")
        if control.active is not None and control.active.controls() and not control.active.is_older(self._task):
            # A join that comes too early fails, and the one below comes only after the end: no step of it could be
            # tried before the start in place of after it.
            control.active.step("is_started", self)
        task = self._task
        if task is None:
            if self._ident is not None:
                run_in_kernel_thread(_standard_join, self, timeout)
                return
            raise RuntimeError("cannot join thread before it is started")
        try:
            me: Task = current().task
        except (AttributeError, RuntimeError):
            me = current_task()
        if me.thread is self:
            raise RuntimeError("cannot join current thread")
        deadline = None if timeout is None else deadline_after(max(timeout, 0))
        if control.active is not None and not control.active.step(
            "join", self, task.is_going_on, control.AT_ONCE if timeout is not None and timeout <= 0 else deadline
        ):
            return
        if not task.join(deadline):
            return
        if self._kind == "kernel" and isinstance(task, KernelTask):
            carrier = task.carrier
            if carrier is not None:
                # Its work is done: only the system's part of its end is left, microseconds of it.
                carrier.join()
                task.carrier = None

    only_the_owner_releases = True

    def waiting_for(self, task: Task) -> Wait:
        """See `scheduler.task.Waitable`: what who joins this thread waits for."""
        return Wait(f"the end of {self.name!r}", self._task)

    def is_alive(self) -> bool:
        """Whether the thread was started and has not ended."""
        assert self._initialized, "Thread.__init__() not called"
        if control.active is not None:
            control.active.step("is_alive", self)
        task = self._task
        if task is None:
            return self._ident is not None and _standard_is_alive(self)
        return not task.done

    def interrupt(self, exc: BaseException | type[BaseException] = ThreadInterrupted) -> None:
        """Raise `exc` in the thread: at once if it waits, else where it next waits or yields. From any thread.

        A thread that has just been given what it waited for keeps it, and is interrupted at its next wait. Nothing
        happens to a thread that has ended; one that has not run yet ends with `exc` in place of running.

        A kernel thread that waits on one of this library's primitives is interrupted in the same way. Anywhere else
        CPython can only raise asynchronously: an instance of `exc`'s class is raised at some bytecode soon, and not
        before a blocking system call returns.
        """
        if isinstance(exc, type) and issubclass(exc, BaseException):
            exc = exc()
        if not isinstance(exc, BaseException):
            raise TypeError(f"exceptions must derive from BaseException, not {type(exc).__name__}")
        task = self._task
        if task is None:
            raise RuntimeError("cannot interrupt thread before it is started")
        # A kernel thread that runs a scheduler is that scheduler's main user thread.
        scheduler = fork.running.get(task.ident or 0)
        (task if scheduler is None else scheduler.main).interrupt(exc)

    def suspend(self) -> None:
        """Put a user thread on hold, for debugging: it does not run until `resume` is called. From any thread.

        It keeps what it holds, and its place in what it waits for; deadlines pass and interrupts wait. A thread may
        suspend itself; another kernel thread's takes effect at its scheduler's next turn. RuntimeError for a kernel
        thread, which CPython has no means to stop.
        """
        task = self._user_task("suspend")
        if current_is_on(task.scheduler):
            task.suspend_now()
        else:
            task.scheduler.post(task.suspend_now)

    def resume(self) -> None:
        """Undo `suspend`, from any thread. Nothing happens to a thread that is not suspended."""
        task = self._user_task("resume")
        if current_is_on(task.scheduler):
            task.resume_now()
        else:
            task.scheduler.post(task.resume_now)

    def _user_task(self, do: str) -> UserTask:
        task = self._task
        if isinstance(task, UserTask):
            return task
        if task is None and self._ident is None:
            raise RuntimeError(f"cannot {do} thread before it is started")
        raise RuntimeError(f"cannot {do} a kernel thread: only user threads can be put on hold")

    # ---- What it is ------------------------------------------------------------------------------------------------

    @property
    def kind(self) -> Kind:
        """ "user" or "kernel". The main thread is a user thread while it runs a scheduler."""
        if self._kind is not None:
            return self._kind
        return carriers.default if self._ident is None else "kernel"

    @property
    def name(self) -> str:
        """A string for people; need not be unique."""
        assert self._initialized, "Thread.__init__() not called"
        name = self._name
        if isinstance(name, int):
            name = self._name = _in_words(name, self._named_after)
        return name

    @name.setter
    def name(self, name: str) -> None:
        assert self._initialized, "Thread.__init__() not called"
        self._name = str(name)
        if self.kind == "kernel" and self.ident == _get_ident():
            name_in_system(self)

    @property
    def ident(self) -> int | None:
        """The thread's identifier, a nonzero integer, or None before it was started. May be used again later."""
        assert self._initialized, "Thread.__init__() not called"
        return self._ident if self._task is None else self._task.ident

    @property
    def native_id(self) -> int | None:
        """The system's number of a kernel thread. For a user thread, unique as well: see `get_native_id`."""
        assert self._initialized, "Thread.__init__() not called"
        return self._native_id if self._task is None else native_id_of(self._task)

    @property
    def daemon(self) -> bool:
        """Whether the program may end while this thread lives. Set it before `start`; inherited from the creator."""
        assert self._initialized, "Thread.__init__() not called"
        return self._daemonic

    @daemon.setter
    def daemon(self, daemonic: bool) -> None:
        if not self._initialized:
            raise RuntimeError("Thread.__init__() not called")
        if self._task is not None or self._ident is not None:
            raise RuntimeError("cannot set daemon status of active thread")
        self._daemonic = daemonic

    def __repr__(self) -> str:
        assert self._initialized, "Thread.__init__() was not called"
        if self._task is None and self._ident is None:
            status = "initial"
        else:
            status = "started" if self.is_alive() else "stopped"
        if self._daemonic:
            status += " daemon"
        if self.ident is not None:
            status += f" {self.ident}"
        return f"<{type(self).__name__}({self.name}, {status})>"

    # ---- The classic spellings -------------------------------------------------------------------------------------

    def isAlive(self) -> bool:
        """`is_alive()`, as it was spelled before Python 3.9."""
        deprecated("isAlive() is deprecated, use is_alive() instead")
        return self.is_alive()

    def getName(self) -> str:
        """The `name`."""
        deprecated("getName() is deprecated, get the name attribute instead")
        return self.name

    def setName(self, name: str) -> None:
        """Set the `name`."""
        deprecated("setName() is deprecated, set the name attribute instead")
        self.name = name

    def isDaemon(self) -> bool:
        """The `daemon` attribute."""
        deprecated("isDaemon() is deprecated, get the daemon attribute instead")
        return self.daemon

    def setDaemon(self, daemonic: bool) -> None:
        """Set the `daemon` attribute."""
        deprecated("setDaemon() is deprecated, set the daemon attribute instead")
        self.daemon = daemonic

    # ---- What the standard module calls in the child of a fork: nothing to do here, see `_after_fork` ----------------

    def _after_fork(self, new_ident: int | None = None) -> None:
        pass

    def _reset_internal_locks(self, is_alive: bool) -> None:
        pass

    def _stop(self) -> None:
        # And where it finds that a thread of its own has ended.
        if self._task is None and self._ident is not None and _standard_stop is not None:
            _standard_stop(self)


_run = Thread.run


def _in_words(number: int, target_name: str | None) -> str:
    return f"Thread-{number}" if target_name is None else f"Thread-{number} ({target_name})"


def _kept_of(thread: Any) -> Any:
    """See `scheduler.task`: the name, or what it can be made of."""
    if not isinstance(thread, _StandardThread):
        return thread
    name = thread._name  # type: ignore[attr-defined]
    return (name, thread._named_after) if isinstance(name, int) else name  # type: ignore[attr-defined]


def _name_of(thread: Any) -> str | None:
    if isinstance(thread, str):
        return thread
    return _in_words(*thread) if isinstance(thread, tuple) else getattr(thread, "name", None)


def native_id_of(task: Task) -> int | None:
    """See `get_native_id`."""
    native_id = task.host.native_id
    if native_id is None or not isinstance(task, UserTask) or task is task.scheduler.main:
        return native_id
    return task.number << 32 | native_id


def _report_failure(task: UserTask, exc: BaseException) -> None:
    """For an exception that leaves a target which is called as it is, or that comes before a thread's first line."""
    thread = task.thread
    if isinstance(thread, _StandardThread):  # One of ours, or a standard one that has our methods.
        thread._failed(exc)  # type: ignore[attr-defined]
    else:
        sys.excepthook(type(exc), exc, exc.__traceback__)


def deprecated(text: str) -> None:
    """Warn of a classic spelling, where the caller's caller used it."""
    warnings.warn(text, DeprecationWarning, stacklevel=3)


# All that kernel threads go through and that does not block, unless they are parked there.
shield.shielded.update(
    os.path.join(os.path.dirname(os.path.abspath(__file__)), f"{name}.py")
    for name in (
        "_barrier", "_condition", "_event", "_handover", "_local", "_lock", "_rlock", "_semaphore", "_simplequeue",
        "_tally", "_thread", "_time", "_timer", "carriers", "group", "kernelpool", "once", "queue", "rwlock", "thread",
        "threads", "timeouts", "trace",
    )
)  # fmt: skip
shield.passages.update((Thread.run.__code__, run_in_kernel_thread.__code__))
loop.report_failure = _report_failure
loop.set_aside = set_aside
scheduler_task.kept_of, scheduler_task.name_of = _kept_of, _name_of
