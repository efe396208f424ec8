"""Processes that search beside the one that explores: its forks, each with a session of its own.

What one of them finds is a trace, a line of text, and that is all that has to cross: the process that explores replays
it, and goes on as if it had found it itself. A fork needs nothing imported again, and takes any function along.

Rejected: fresh interpreters. They would have to import the program, and find the function, the fixtures and what these
hold; a fork has them. Rejected: kernel threads. An execution replaces modules, and that is the whole process's.
"""

from __future__ import annotations

import mmap
import os
import pickle
import signal
import sys
import warnings

# By name: an exploration has other functions in the module, and programs may put some there, too.
from os import close, getppid, pipe, read, waitpid, write
from typing import TYPE_CHECKING, Any, NamedTuple

from scheduler.poller import READ, any_ready, is_ready

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["Finding", "Workers", "checked", "is_worker"]

# How long to wait at a time, in seconds: there is no need to look in between.
_ROUND = 60.0

_fork: Callable[[], int] | None = getattr(os, "fork", None)

# Whether this process is one that searches beside another.
_is_one = False


class Finding(NamedTuple):
    """A schedule that fails, and the name of the strategy that found it."""

    trace: str
    strategy: str


class _Worker(NamedTuple):
    pid: int
    # Where it writes what it has found, before it ends.
    answers: int


class Workers:
    """Forks that search, `count` of them. A context manager: they are there inside, and gone after it.

    Each calls `look(number, tell)`: its number, from 1 on, and what tells how many executions it has made so far.
    """

    def __init__(self, count: int, look: Callable[[int, Callable[[int], None]], Finding | None]) -> None:
        self.count = count
        self._look = look
        self._left: list[_Worker] = []
        # Memory that all share: whether one has ended by other than its budget, then how many executions each has made.
        self._shared = memoryview(mmap.mmap(-1, 8 * (1 + count))).cast("Q")

    def __enter__(self) -> Workers:
        try:
            for number in range(1, 1 + self.count):
                self._begin(number)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    @property
    def executions(self) -> int:
        """How many all of them have made so far."""
        return sum(self._shared[1:])

    def have_news(self) -> bool:
        """Whether one has found something, or has failed to look for it. Costs next to nothing, and does not block."""
        return bool(self._shared[0])

    def wait(self) -> Finding | None:
        """Block until one has found a schedule that fails, and return it; None once all have ended without.

        Raises what one of them could not go on for; RuntimeError where one has died.
        """
        while self._left:
            ended = self._next_to_end()
            self._left.remove(ended)
            answer = _read_all(ended.answers)
            close(ended.answers)
            status = _status_of(ended.pid)
            if not answer:
                raise RuntimeError(f"a process that explored beside this one has died{_in_words(status)}")
            found = pickle.loads(answer)  # of our own fork
            if isinstance(found, BaseException):
                raise found
            if found is not None:
                return Finding(*found)
        return None

    def _next_to_end(self) -> _Worker:
        while not any_ready([(each.answers, READ) for each in self._left], _ROUND):
            pass
        return next(each for each in self._left if is_ready(each.answers, READ))

    def _begin(self, number: int) -> None:
        assert _fork is not None
        answers, mine = pipe()
        parent = os.getpid()
        with warnings.catch_warnings():
            # That other kernel threads may hold locks: they are none of what an exploration waits for.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = _fork()
        if pid:
            close(mine)
            self._left.append(_Worker(pid, answers))
            return
        code = 1
        try:
            for each in (answers, *(other.answers for other in self._left)):
                close(each)
            _be_quiet()
            _write_all(mine, self._answer(number, parent))
            code = 0
        finally:
            os._exit(code)

    def _answer(self, number: int, parent: int) -> bytes:
        def tell(executions: int) -> None:
            self._shared[number] = executions
            if getppid() != parent:
                os._exit(1)  # Nobody is there any more to be told.

        answer: Any
        try:
            answer = self._look(number, tell)
        except BaseException as exc:
            answer = exc
        if answer is not None:
            self._shared[0] = 1
        return _pickled(tuple(answer) if isinstance(answer, Finding) else answer)

    def _end(self) -> None:
        for worker in self._left:
            close(worker.answers)
            # First ask whether it is there: if the program has waited for it, another process may have its number.
            if _status_of(worker.pid, os.WNOHANG) is None:
                os.kill(worker.pid, signal.SIGKILL)
                _status_of(worker.pid)
        self._left.clear()


def checked(workers: object) -> int:
    """How many processes are to search, this one included. TypeError, or ValueError, for what is no such number."""
    if not isinstance(workers, int) or isinstance(workers, bool):
        raise TypeError(f"workers must be a number of processes, not {type(workers).__name__}")
    if workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers}")
    if workers > 1 and _fork is None:
        raise ValueError(f"workers={workers} needs os.fork, which this system does not have: leave it at 1")
    return workers


def is_worker() -> bool:
    """Whether the calling process searches beside another, which alone speaks to the user."""
    return _is_one


def _be_quiet() -> None:
    """What a worker prints is nobody's: neither its executions, nor what its streams had not written yet."""
    global _is_one
    _is_one = True
    nowhere = os.open(os.devnull, os.O_RDWR)
    for each in (1, 2):
        os.dup2(nowhere, each)
    sys.stdout = sys.stderr = open(nowhere, "w", closefd=False)  # noqa: SIM115


def _pickled(answer: object) -> bytes:
    try:
        text = pickle.dumps(answer)
        pickle.loads(text)
    except Exception:
        return pickle.dumps(RuntimeError(f"a process that explored beside this one failed: {answer!r}"))
    return text


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[write(descriptor, data) :]


def _read_all(descriptor: int) -> bytes:
    pieces: list[bytes] = []
    while piece := read(descriptor, 65536):
        pieces.append(piece)
    return b"".join(pieces)


def _status_of(pid: int, options: int = 0) -> int | None:
    """How a child has ended; None if it has not. 0 if somebody else has waited for it."""
    try:
        ended, status = waitpid(pid, options)
    except ChildProcessError:
        return 0
    return status if ended else None


def _in_words(status: int | None) -> str:
    if not status:
        return ""
    if os.WIFSIGNALED(status):
        return f", by {signal.Signals(os.WTERMSIG(status)).name}"
    return f", with exit status {os.WEXITSTATUS(status)}"
