"""What sampling strategies learn of memory: which accesses are choice points; and that traces hold all the same."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from bugs import load
from together import together

import greenthreads
from greenthreads.testing import explore, replay
from greenthreads.testing._memory import Memory, root_of
from greenthreads.testing._session import Session
from scheduler import trace as traces
from scheduler.control import SIZE, WHOLE
from scheduler.sharing import Sharing
from scheduler.strategies import BY_NAME, RandomWalk, Replay, by_name
from scheduler.strategy import Sampler, Strategy

PAIRS = {pair.name: pair for pair in load()}
LIBRARY = str(Path(greenthreads.__file__).resolve().parents[1])


def here() -> FrameType:
    return sys._getframe(1)


def one(sharing: Sharing, thread: int, obj: object, part: Any, writes: bool) -> bool:
    return sharing.note(thread, ((obj, ((part, writes),)),), here())


def other(sharing: Sharing, thread: int, obj: object, part: Any, writes: bool) -> bool:
    return sharing.note(thread, ((obj, ((part, writes),)),), here())


def after(*accesses: tuple[Callable[..., bool], int, object, Any, bool]) -> tuple[bool, bool]:
    """Whether the two places are private, by what an execution with these accesses has shown."""
    sharing = Sharing()
    sharing.begin()
    for place, thread, obj, part, writes in accesses:
        assert place(sharing, thread, obj, part, writes) is False  # a place that was not seen before
    sharing.end()
    sharing.begin()
    return one(sharing, 1, [], 0, True), other(sharing, 1, [], 0, True)


BOX: list[int] = []


@pytest.mark.parametrize(
    ("accesses", "private"),
    [
        # One thread, or nobody who writes.
        ([(one, 1, BOX, 0, True), (other, 1, BOX, 0, False)], (True, True)),
        ([(one, 1, BOX, 0, False), (other, 2, BOX, 0, False)], (True, True)),
        # Two threads, of which one writes, in either order; and not the same part, or not the same object.
        ([(one, 1, BOX, 0, True), (other, 2, BOX, 0, False)], (False, False)),
        ([(one, 1, BOX, 0, False), (other, 2, BOX, 0, True)], (False, False)),
        ([(one, 1, BOX, 0, True), (other, 2, BOX, 1, True)], (True, True)),
        ([(one, 1, BOX, 0, True), (other, 2, [0], 0, True)], (True, True)),
        ([(one, 1, BOX, 0, True), (other, 2, BOX, SIZE, True)], (True, True)),
        # The whole is every part.
        ([(one, 1, BOX, 0, True), (other, 2, BOX, WHOLE, False)], (False, False)),
        ([(one, 1, BOX, WHOLE, True), (other, 2, BOX, SIZE, False)], (False, False)),
        ([(one, 1, BOX, WHOLE, False), (other, 2, BOX, SIZE, False)], (True, True)),
    ],
    ids=range(10),
)
def test_what_is_private(accesses: Any, private: tuple[bool, bool]) -> None:
    assert after(*accesses) == private


def test_what_was_shared_once_is_shared_for_good() -> None:
    sharing = Sharing()
    for threads in ((1, 1), (1, 2), (1, 1)):
        sharing.begin()
        box: list[int] = []
        for thread in threads:
            one(sharing, thread, box, 0, True)
        sharing.end()
    assert one(sharing, 1, [], 0, True) is False


def test_objects_are_kept_while_an_execution_lasts_so_that_none_is_taken_for_another() -> None:
    sharing = Sharing()
    sharing.begin()
    for thread in range(50):
        # Without being kept, most of these would come to stand where the last one stood.
        one(sharing, thread, [], 0, True)
    sharing.end()
    assert one(sharing, 1, [], 0, True) is True


def test_samplers_learn_and_one_execution_in_eight_has_every_point() -> None:
    for name in ("random", "pct", "pos", "surw"):
        strategy = by_name(name, 0)
        assert isinstance(strategy, Sampler)
        assert strategy.learns
        skips = []
        for _ in range(16):
            strategy.begin()
            skips.append(strategy.skips_private)
        assert skips == [*[True] * 7, False] * 2


def test_who_enumerates_leaves_nothing_out() -> None:
    for name in set(BY_NAME) - {"auto", "random", "pct", "pos", "surw"}:
        strategy = by_name(name, 0, memory=True)
        strategy.begin()
        assert not strategy.skips_private
    # A portfolio does as the one whose turn it is.
    portfolio = by_name("auto", 0, memory=True)
    seen = set()
    for _ in range(12):
        portfolio.begin()
        seen.add((portfolio.current.name, portfolio.skips_private))  # type: ignore[attr-defined]
    assert {skips for name, skips in seen if name in ("round_robin", "dpor")} == {False}
    assert {skips for name, skips in seen if name in ("pct", "pos", "surw")} == {True}


class Work:
    """Some traffic in memory that nobody else sees."""

    def __init__(self) -> None:
        self.items: list[int] = []
        self.total = 0

    def run(self, rounds: int) -> int:
        for number in range(rounds):
            self.items.append(number)
            self.total += self.items[-1]
        return self.total


class Counter:
    def __init__(self) -> None:
        self.value = 0


def counted_after_work() -> None:
    counter = Counter()

    def work() -> None:
        own = Work()
        counter.value += own.run(5)

    together(work, work)
    assert counter.value == 20


class Counting(RandomWalk):
    """Knows how many choice points each execution had."""

    def __init__(self, every_point_in: int) -> None:
        super().__init__(0)
        self.every_point_in = every_point_in
        self.points: list[int] = []

    def begin(self) -> bool:
        self.points.append(0)
        return super().begin()

    def choose(self, choices: Any, running: Any) -> Any:
        self.points[-1] += 1
        return super().choose(choices, running)


def locked() -> None:
    counter = Counter()
    lock = threading.Lock()

    def work() -> None:
        own = Work()
        with lock:
            counter.value += own.run(5)
        own.run(10)

    together(work, work)
    assert counter.value == 20


def test_private_accesses_are_no_choice_points_but_for_the_first_time() -> None:
    learning, not_learning = Counting(1000), Counting(1)
    for strategy in (learning, not_learning):
        found = explore(locked, strategy=strategy, max_executions=20, max_seconds=None)
        assert found.failure is None
    # What is left: begin, end, join, the lock, and the counter; of the work, 15 rounds of 9 accesses in each thread.
    assert learning.points[0] > 60
    assert max(learning.points[1:]) < 40
    assert min(not_learning.points) > 60


def test_private_accesses_are_steps_all_the_same() -> None:
    # Who looks on, and who follows the trace, sees each of them.
    def steps_of(strategy: Strategy) -> list[int]:
        steps = []
        with Session(locked, memory=Memory((), root_of(locked))) as session:
            for _ in range(4):
                strategy.begin()
                assert session.run(strategy) is None
                steps.append(len(session.scheduler.trace))
                assert session.run(Replay(list(session.scheduler.trace))) is None
                assert len(session.scheduler.trace) == steps[-1]
        return steps

    assert set(steps_of(Counting(1000))) == set(steps_of(Counting(1)))


@pytest.mark.parametrize("name", ["random", "pct", "pos", "surw"])
def test_a_failure_of_an_execution_that_left_points_out_is_replayed(name: str) -> None:
    strategy = by_name(name, 0)
    failures = []
    with Session(counted_after_work, memory=Memory((), root_of(counted_after_work))) as session:
        for execution in range(100):
            strategy.begin()
            outcome = session.run(strategy)
            if outcome is not None and execution and strategy.skips_private:
                failures.append(traces.encode(session.named(outcome.decisions)))
    assert len(failures) > 5
    # In another session, where nothing has been learned.
    for trace in failures[:3]:
        with pytest.raises(AssertionError):
            replay(counted_after_work, trace)


# Loops that poll, waits, deadlocks, containers.
MIXED = ["peterson", "mutual_exclusion_by_turns", "aba", "if_for_while", "popped_until_it_is_empty"]


@pytest.mark.parametrize("name", MIXED)
@pytest.mark.parametrize("repaired", [False, True])
def test_every_execution_is_repeated_by_its_trace(name: str, repaired: bool) -> None:
    program = functools.partial(PAIRS[name].program, repaired)
    with Session(program, memory=Memory((), root_of(program)), max_steps=1500) as session:
        for strategy in (by_name(each, 1) for each in ("random", "pct", "pos", "surw")):
            for _ in range(4):
                strategy.begin()
                outcome = session.run(strategy)
                decisions = list(session.scheduler.trace)
                again = session.run(Replay(decisions))
                assert session.scheduler.trace == decisions
                assert (outcome and outcome.signature) == (again and again.signature)


PROGRAM = """\
import sys
import threading

from greenthreads.testing import explore, replay


class Box:
    def __init__(self):
        self.items = []


shared = Box()


def test():
    shared.items = []

    def work():
        own = Box()
        for number in range(5):
            own.items.append(number)
        found = shared.items
        for number in range(5):
            own.items.append(number)
        shared.items = [*found, *own.items]

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(shared.items) == 20


if sys.argv[1] == "explore":
    print(explore(test, strategy="random", seed=2, shrinking=False).failure.trace)
else:
    try:
        replay(test, sys.argv[1])
    except AssertionError:
        print("again")
"""


def test_a_trace_holds_in_another_process_that_has_learned_nothing(tmp_path: Path) -> None:
    file = tmp_path / "program.py"
    file.write_text(PROGRAM, encoding="utf-8")

    def run(argument: str) -> str:
        path = os.pathsep.join([LIBRARY, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        command = [sys.executable, "-W", "error", str(file), argument]
        environment = {**os.environ, "PYTHONPATH": path}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()

    trace = run("explore")
    assert trace.startswith("g1:")
    assert run(trace) == "again"


def test_who_polls_what_was_private_so_far_lets_others_run() -> None:
    # The flag is set only from the third execution on; until then nobody but the poller has touched it.
    executions = 0

    class Flag:
        up = False

        def __init__(self) -> None:
            self.up = False

    def program() -> None:
        nonlocal executions
        executions += 1
        sets = executions > 2
        flag = Flag()

        def poll() -> None:
            while not flag.up:
                if not sets:
                    return

        def work() -> None:
            Work().run(2)
            if sets:
                flag.up = True

        together(poll, work)

    found = explore(program, strategy=Counting(1000), max_executions=30, max_seconds=None, max_steps=3000)
    assert found.failure is None
    assert found.executions == 30


def test_a_strategy_of_the_program_s_own_takes_no_steps_when_it_chooses() -> None:
    # It stands in a module that is instrumented: what it does to memory is not what the threads do.
    class Own(Strategy):
        def __init__(self) -> None:
            self.chosen: list[int] = []
            self.left = 3

        def begin(self) -> bool:
            self.left -= 1
            return self.left >= 0

        def choose(self, choices: Any, running: Any) -> Any:
            self.chosen.append(choices[-1].id)
            return choices[-1]

    strategy = Own()
    found = explore(counted_after_work, strategy=strategy)
    assert found.failure is None
    assert found.executions == 3
    assert set(strategy.chosen) == {1, 2}


def test_races_are_seen_in_executions_that_leave_points_out() -> None:
    def program() -> None:
        counter = Counter()

        def work() -> None:
            counter.value += Work().run(2)

        together(work, work)

    found = explore(program, strategy=Counting(1000), max_executions=5)
    assert {race.what for race in found.races} == {"Counter.value"}
