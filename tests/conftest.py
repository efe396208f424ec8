"""What tests in more than one folder share: the two kinds of thread, time that doesn't pass, programs of their own."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import greenlet
import pytest

import greenthreads
from greenthreads.carriers import Kind
from scheduler import Scheduler, State, Task, VirtualClock, fork, run_scheduler, yield_now
from scheduler.kernel import here
from scheduler.task import UserTask

Outcome = tuple[object, object]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell has what it starts in the background ignore Ctrl-C, and so would the programs that the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Script(Protocol):
    """Run the text of a program in an interpreter of its own."""

    def __call__(self, source: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture(scope="session", autouse=True)
def compiled_once() -> Iterator[None]:
    """Where no bytecode is to be written, let the programs that tests start share a folder for it.

    Else each of some hundreds would compile the library for itself.
    """
    if not os.environ.get("PYTHONDONTWRITEBYTECODE"):
        yield
        return
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONDONTWRITEBYTECODE")
        patch.setenv("PYTHONPYCACHEPREFIX", folder)
        yield


@pytest.fixture(params=["user", "kernel"])
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each kind of thread in turn."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """No test leaves a scheduler, a kernel thread, or a default to the next."""
    yield
    assert here.scheduler is None
    assert [thread for thread in greenthreads.enumerate() if thread.ident != threading.main_thread().ident] == []
    assert greenthreads.default_kind() == "user"


@pytest.fixture
def run_virtually() -> Callable[..., Any]:
    """`run_scheduler`, with a clock that jumps from deadline to deadline."""

    def run(main: Callable[..., Any], *args: Any) -> Any:
        return Scheduler(clock=VirtualClock()).run(main, *args)

    return run


@pytest.fixture
def until() -> Callable[[Callable[[], object]], None]:
    """Wait, letting other threads of both kinds run, until a condition holds."""

    def wait(condition: Callable[[], object]) -> None:
        end = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < end, "waited for 30 seconds in vain"
            yield_now()
            time.sleep(0.0001)

    return wait


@pytest.fixture
def waits() -> Callable[[Any], bool]:
    """Whether a thread, or a task, of either kind is parked; of one that runs a scheduler, its main user thread."""

    def parked(thread: Any) -> bool:
        task: Task | None = thread if isinstance(thread, Task) else thread._task
        if task is not None and task.ident in fork.running:
            task = fork.running[task.ident].main
        if isinstance(task, UserTask):
            return task.state is State.PARKED
        return task is not None and task.waiters is not None

    return parked


@pytest.fixture
def outcome() -> Callable[..., Outcome]:
    """Call a function: what it returned, or the type and text of what it raised."""

    def call(function: Callable[..., object], *args: Any, **kwargs: Any) -> Outcome:
        try:
            return "returned", function(*args, **kwargs)
        except BaseException as error:
            return type(error), str(error)

    return call


@pytest.fixture
def in_main(kind: Kind) -> Callable[[Callable[[], Any]], Any]:
    """Run a function as the main user thread, with `kind` as the default kind of the threads that it makes."""

    def run(main: Callable[[], Any]) -> Any:
        greenthreads.set_default_kind(kind)
        try:
            return run_scheduler(main)
        finally:
            greenthreads.set_default_kind("user")

    return run


class Pair:
    """Two threads, the first of which starts the second: within a kind, across the kinds, and across schedulers."""

    def __init__(self, first: str, second: str) -> None:
        self.first = first
        self.second = second

    def run(self, main: Callable[[], Any]) -> Any:
        """Be the first thread."""
        return run_scheduler(main) if self.first == "user" else main()

    def start(self, function: Callable[..., object], *args: object) -> greenthreads.Thread:
        """Start the second one."""
        if self.second == "another scheduler":
            thread = greenthreads.Thread(target=run_scheduler, args=(function, *args), kind="kernel")
        else:
            thread = greenthreads.Thread(target=function, args=args, kind=self.second)  # type: ignore[arg-type]
        thread.start()
        return thread


PAIRS = [
    ("user", "user"),
    ("user", "kernel"),
    ("user", "another scheduler"),
    ("kernel", "kernel"),
    ("kernel", "another scheduler"),
]


@pytest.fixture(params=PAIRS, ids=" and ".join)
def pair(request: pytest.FixtureRequest) -> Pair:
    """Two threads in each of the ways in which they can stand to each other."""
    return Pair(*request.param)


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """Run a program in a process of its own; unless told otherwise, expect exit status 0 and no standard error."""

    def run(source: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        path = tmp_path / "program.py"
        path.write_text(textwrap.dedent(source), encoding="utf-8")
        packages = str(Path(greenthreads.__file__).parent.parent)
        result = subprocess.run(
            [sys.executable, str(path), *arguments],
            env={**os.environ, "PYTHONPATH": packages, "PYTHONUTF8": "1"},
            capture_output=True,
            encoding="utf-8",
            timeout=50,
            check=False,
        )
        if check:
            assert (result.returncode, result.stderr) == (0, "")
        return result

    return run


@pytest.fixture
def greenlets() -> Callable[[], int]:
    """How many greenlets are alive."""

    def count() -> int:
        gc.collect()
        return sum(isinstance(thing, greenlet.greenlet) for thing in gc.get_objects())

    return count
