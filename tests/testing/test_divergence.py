"""What a program does besides its schedule: found out, said where, and a guess at why. Never a failure."""

from __future__ import annotations

import datetime as dt
import itertools
import os
import random
import secrets
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from plain import explore, replay

import greenthreads
from greenthreads import _thread, patch
from greenthreads.testing import ReplayDivergence
from scheduler import observers


def depending_on(decide: Callable[[], object]) -> Callable[[], None]:
    """A program that has a step more when `decide()` is true."""

    def main() -> None:
        event = threading.Event()

        def body() -> None:
            if decide():
                event.set()
            event.set()

        threads = [threading.Thread(target=body) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return main


def alternating() -> Callable[[], bool]:
    """True once in a while, with nothing to be seen of why."""
    calls = iter(range(10**9))
    return lambda: next(calls) % 7 == 3


# Feature: Linux has it. `os.urandom` is under control.
needs_getrandom = pytest.mark.skipif(not hasattr(os, "getrandom"), reason="there is no getrandom here")

CAUSES: dict[str, tuple[Callable[[], object], str]] = {
    "getrandom": (
        lambda: os.getrandom(1)[0] & 1,
        "random numbers that nobody can seed: getrandom at test_divergence.py:",
    ),
    "datetime": (
        lambda: dt.datetime.now(dt.timezone.utc).microsecond & 1,
        "the real clock: datetime.now at test_divergence.py:",
    ),
    "state": (alternating(), "state that is kept from one execution to the next"),
}


RANDOM: dict[str, Callable[[], object]] = {
    "os.urandom": lambda: os.urandom(4),
    "uuid.uuid4": lambda: uuid.uuid4().hex,
    "secrets": lambda: secrets.token_hex(4),
    "SystemRandom": lambda: random.SystemRandom().random(),
    "random": lambda: random.randrange(10**6),
}


@pytest.mark.parametrize("source", RANDOM)
def test_what_is_random_is_the_same_in_each_execution(source: str) -> None:
    drawn: set[tuple[object, ...]] = set()

    def main() -> None:
        # As keys of a shared dict they decide which accesses are to the same thing.
        seen: dict[object, int] = {}
        made: list[object] = []

        def draw() -> None:
            key = RANDOM[source]()
            seen[key] = seen.get(key, 0) + 1
            made.append(key)

        threads = [threading.Thread(target=draw) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(seen) == 2
        drawn.add(tuple(sorted(map(repr, made))))

    assert explore(main, strategy="dpor", memory=True, max_seconds=None).failure is None
    assert len(drawn) == 1


def test_outside_of_an_execution_the_system_s_random_numbers_are_its_own() -> None:
    asked: list[bytes] = []

    def main() -> None:
        asked.append(os.urandom(8))
        with pytest.raises(ValueError, match="negative"):
            os.urandom(-1)
        with pytest.raises(TypeError):
            os.urandom("1")  # type: ignore[arg-type]

    real = os.urandom
    for _ in range(2):
        assert explore(main, max_executions=1).failure is None
    assert asked[0] == asked[1] != os.urandom(8)
    assert os.urandom is real


@pytest.mark.parametrize("cause", [pytest.param("getrandom", marks=needs_getrandom), "datetime", "state"])
def test_the_cause_is_named_and_so_is_the_place(cause: str) -> None:
    decide, guess = CAUSES[cause]
    main = depending_on(decide)
    with pytest.raises(ReplayDivergence) as caught:
        # By chance it may go well for a while.
        explore(main, strategy="dfs", max_executions=None, max_seconds=30)
    text = str(caught.value)
    assert f"probably {guess}" in text
    assert f"at step {caught.value.step} thread" in text
    assert "test_divergence.py:" in caught.value.where


def test_also_after_somebody_has_set_a_profile_function_for_all_threads() -> None:
    # From then on each thread has its own, and whatever is set meanwhile is taken away at the next switch.
    greenthreads.setprofile(lambda *_args: None)
    greenthreads.setprofile(None)
    decide, guess = CAUSES["datetime"]
    try:
        with pytest.raises(ReplayDivergence) as caught:
            explore(depending_on(decide), strategy="dfs", max_executions=None, max_seconds=30)
    finally:
        observers.unsubscribe(greenthreads.trace._swapper)
        greenthreads.trace._swapping = False
    assert f"probably {guess}" in str(caught.value)
    assert sys.getprofile() is None


def test_a_failure_that_happens_only_the_first_time_is_none() -> None:
    executions: list[None] = []

    def main() -> None:
        executions.append(None)
        assert len(executions) > 1

    with pytest.raises(ReplayDivergence, match=r"(?s)was to .fail .*state that is kept from one execution to the next"):
        explore(main)
    executions.clear()
    # What is set up anew each time is found.
    failure = explore(lambda: (executions.clear(), main())).failure
    assert failure is not None
    assert failure.kind == "assertion"


@needs_getrandom
def test_the_order_of_a_set_of_objects() -> None:
    class Thing:
        pass

    kept: list[Any] = []

    def main() -> None:
        things = {Thing() for _ in range(5)}
        # So that the next ones lie elsewhere.
        kept.append([things, [Thing() for _ in range(os.getrandom(1)[0] % 50)]])
        first = min(things, key=id)
        depending_on(lambda: next(iter(things)) is first)()

    with pytest.raises(ReplayDivergence) as caught:
        explore(main, strategy="dfs", max_executions=None, max_seconds=30)
    # The random numbers move the objects, and are seen; so they are the guess.
    assert "random numbers that nobody can seed" in str(caught.value)
    del kept[:]


class Beside:
    """A kernel thread that changes something all the time."""

    def __init__(self) -> None:
        self.changes = 0
        self.stop = False
        self.runs = False

    def start(self) -> None:
        self.runs = True
        # From our own modules, where nothing is replaced.
        _thread._standard_start(self.run, ())
        while not self.changes:
            pass

    def run(self) -> None:
        pause = patch._allocate_lock()
        pause.acquire()
        while not self.stop:
            self.changes += 1
            pause.acquire(True, 0.0001)
        self.runs = False

    def depend_on_it(self) -> None:
        def is_odd() -> bool:
            before = self.changes
            while self.changes == before:
                pass
            return bool(self.changes % 3)

        depending_on(is_odd)()


@pytest.mark.parametrize("starts", ["inside", "before"])
def test_a_kernel_thread_beside_the_test(starts: str) -> None:
    beside = Beside()

    def main() -> None:
        if not beside.runs:
            beside.start()
        beside.depend_on_it()

    if starts == "before":
        beside.start()
    try:
        with pytest.raises(ReplayDivergence, match=f"a kernel thread that {_WORDS[starts]}"):
            explore(main, strategy="dfs", max_executions=None, max_seconds=30)
    finally:
        beside.stop = True
        while beside.runs:
            pass


_WORDS = {"inside": "is not under control: ", "before": "was there before: "}


def test_what_a_program_does_once_is_done_once() -> None:
    cache: list[Any] = []

    def main() -> None:
        if not cache:
            lock = threading.Lock()
            with lock:
                cache.append(1)
        depending_on(lambda: False)()

    found = explore(main, strategy="dfs")
    assert found.failure is None
    assert found.exhausted


def test_random_is_the_same_in_each_execution() -> None:
    seen: set[tuple[float, ...]] = set()
    before = random.getstate()

    def main() -> None:
        seen.add((random.random(), random.randrange(1000), random.gauss(0, 1)))
        depending_on(lambda: random.random() < 0.5)()

    assert explore(main, strategy="dfs").exhausted
    assert len(seen) == 1
    assert random.getstate() == before


def test_a_trace_that_does_not_fit_says_where() -> None:
    failure = explore(lambda: depending_on(lambda: True)() or pytest.fail("always")).failure
    assert failure is not None
    with pytest.raises(ReplayDivergence) as caught:
        replay(depending_on(lambda: False), failure.trace)
    assert "test_divergence.py:" in caught.value.where


def test_another_process_is_a_cause() -> None:
    echo = "import os, time\nwhile byte := os.read(0, 1):\n    time.sleep(0.05)\n    os.write(1, byte)"
    executions = itertools.count()

    with subprocess.Popen([sys.executable, "-c", echo], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        ask, answer = child.stdin.fileno(), child.stdout.fileno()

        def main() -> None:
            os.write(ask, b"x")
            os.read(answer, 1)
            assert next(executions) != 1

        with pytest.raises(ReplayDivergence) as caught:
            explore(main, strategy="random")
        child.stdin.close()
    assert "probably what came from another process, and when: at test_divergence.py:" in str(caught.value)
