"""Several processes search at once: what one finds is told by the one that was asked, and none of them stays behind."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import pytest

from greenthreads.testing import Exploration, explore, interleave, replay
from greenthreads.testing._workers import is_worker
from scheduler.errors import ReplayDivergence

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


class Counter:
    def __init__(self) -> None:
        self.value = 0


def count_to(expected: int) -> None:
    """Three threads, of which two must lose a count, at least, where it is not what was expected."""
    counter = Counter()

    def increment() -> None:
        counter.value += 1

    threads = [threading.Thread(target=increment) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.value >= expected


def count() -> None:
    count_to(1)


def miscount() -> None:
    count_to(2)


def count_under_a_lock() -> None:
    counter, lock = Counter(), threading.Lock()

    def increment() -> None:
        with lock:
            counter.value += 1

    threads = [threading.Thread(target=increment) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.value == 2


def has_children() -> bool:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return False
    return True


def drawn_once(seed: int) -> Exploration:
    return explore(miscount, strategy="random", seed=seed, max_executions=1, max_seconds=None)


def test_what_another_process_finds_is_replayed_shrunk_and_told_here() -> None:
    # A seed whose first schedule passes, before one whose first schedule fails.
    fails = [drawn_once(seed).failure is not None for seed in range(60)]
    seed = next(each for each in range(59) if not fails[each] and fails[each + 1])
    found = explore(miscount, strategy="random", seed=seed, max_executions=2, max_seconds=None, workers=2)
    assert found.failure is not None
    assert found.failure.kind == "assertion"
    assert found.strategy == "random"
    assert found.executions == 2
    assert found.coverage == "1 execution until one failed, found by random; 1 more were drawn in another process"
    with pytest.raises(AssertionError):
        replay(miscount, found.failure.trace)
    assert not has_children()


@pytest.mark.parametrize("strategy", ["pct", "pos", "random", "surw"])
def test_the_executions_are_divided_and_all_of_them_counted(strategy: str) -> None:
    found = explore(count, strategy=strategy, max_executions=100, max_seconds=None, workers=3)
    assert found.failure is None
    assert found.executions == 100
    assert found.coverage.startswith("34 executions: ")
    assert found.coverage.endswith("; 66 more were drawn in 2 other processes")
    assert not found.exhausted


def test_beside_auto_the_others_draw_until_everything_was_seen() -> None:
    found = explore(count_under_a_lock, max_executions=None, max_seconds=None, workers=3)
    assert found.failure is None
    assert found.exhausted
    assert not has_children()


def test_more_processes_than_executions() -> None:
    found = explore(count, strategy="random", max_executions=2, max_seconds=None, workers=4)
    assert found.executions == 2


def test_each_process_draws_other_schedules() -> None:
    """What each has drawn is noted in a file, which is all that processes share."""
    reader, writer = os.pipe()

    def noted() -> None:
        count_in_turns = []

        def note(name: str) -> None:
            for _ in range(5):
                with lock:
                    count_in_turns.append(name)

        lock = threading.Lock()
        threads = [threading.Thread(target=note, args=(name,)) for name in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        os.write(writer, f"{'there' if is_worker() else 'here'} {''.join(count_in_turns)}\n".encode())

    explore(noted, strategy="random", max_executions=20, max_seconds=None, workers=2, memory=False)
    os.close(writer)
    with os.fdopen(reader) as lines:
        drawn = {tuple(line.split()) for line in lines}
    here = {order for who, order in drawn if who == "here"}
    there = {order for who, order in drawn if who == "there"}
    assert len(here) > 5
    assert len(there) > 5
    # Each has rehearsed the same schedule.
    assert len(here & there) <= 2


def test_a_failure_that_only_another_process_has_is_none() -> None:
    def test() -> None:
        count()
        assert not is_worker()

    with pytest.raises(ReplayDivergence, match="fail, as in another process"):
        explore(test, strategy="random", max_executions=100, max_seconds=None, workers=2)
    assert not has_children()


def test_a_process_that_dies_is_told() -> None:
    def test() -> None:
        count()
        if is_worker():
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(RuntimeError, match="a process that explored beside this one has died, by SIGKILL"):
        explore(test, strategy="random", max_executions=10, max_seconds=None, workers=2)
    assert not has_children()


def test_a_process_that_exits_is_told() -> None:
    def test() -> None:
        count()
        if is_worker():
            os._exit(3)

    with pytest.raises(RuntimeError, match="has died, with exit status 3"):
        explore(test, strategy="random", max_executions=10, max_seconds=None, workers=2)


class Enough(Exception):
    pass


class Unpicklable(Exception):
    def __init__(self) -> None:
        super().__init__("with a lock")
        self.lock = threading.Lock()


@pytest.mark.parametrize(
    ("raised", "expected", "text"),
    [(Enough("seen"), Enough, "^seen$"), (Unpicklable(), RuntimeError, "failed: Unpicklable")],
)
def test_what_passes_in_another_process_is_raised_here(
    raised: Exception, expected: type[Exception], text: str
) -> None:
    def test() -> None:
        count()
        if is_worker():
            raise raised

    with pytest.raises(expected, match=text):
        explore(test, strategy="random", max_executions=10, max_seconds=None, workers=2, passes=(type(raised),))


def test_when_it_is_interrupted_the_others_end() -> None:
    def interrupt(found: Exploration) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explore(count, strategy="random", max_executions=None, max_seconds=None, workers=3, progress=interrupt)
    assert not has_children()


def test_what_others_print_is_not_seen(capfd: pytest.CaptureFixture[str]) -> None:
    def test() -> None:
        if is_worker():
            print("from another process", flush=True)
            os.write(2, b"from another process")
        count()

    found = explore(test, strategy="random", max_executions=20, max_seconds=None, workers=2)
    assert found.executions == 20
    assert capfd.readouterr() == ("", "")


def test_the_decorator_takes_it_as_well() -> None:
    @interleave(strategy="random", workers=2, max_seconds=None)
    def test() -> None:
        miscount()

    with pytest.raises(AssertionError):
        test()


@pytest.mark.parametrize(
    ("workers", "error", "text"),
    [
        (0, ValueError, "workers must be at least 1, not 0"),
        (2.0, TypeError, "workers must be a number of processes, not float"),
        (True, TypeError, "workers must be a number of processes, not bool"),
        (None, TypeError, "workers must be a number of processes, not NoneType"),
    ],
)
def test_bad_numbers(workers: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        explore(count, workers=workers)


@pytest.mark.parametrize("strategy", ["dfs", "dpor", "round_robin"])
def test_what_enumerates_is_not_divided(strategy: str) -> None:
    with pytest.raises(ValueError, match=f"'{strategy}' goes on from what it has seen, and can't be divided"):
        explore(count, strategy=strategy, workers=2)


def test_nor_is_a_strategy_of_the_callers() -> None:
    from scheduler.strategies import RandomWalk

    with pytest.raises(TypeError, match="a Strategy object can't be divided among workers"):
        explore(count, strategy=RandomWalk(0), workers=2)


def test_without_fork_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from greenthreads.testing import _workers

    monkeypatch.setattr(_workers, "_fork", None)
    assert explore(count, max_executions=5).executions == 5
    with pytest.raises(ValueError, match=r"workers=2 needs os\.fork"):
        explore(count, workers=2)
