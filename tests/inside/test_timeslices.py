"""Time slices: a thread that computes without yielding is switched out, where that is safe, and nowhere else.

None of these tests measures a time. A spinning thread that is not cut short never ends, and the test with it.
"""

from __future__ import annotations

import itertools
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from greenthreads import (
    Deadlock,
    Event,
    Lock,
    PriorityQueue,
    Scheduler,
    SchedulerError,
    Steps,
    Thread,
    current_thread,
    no_preemption,
    run_scheduler,
    sleep,
    timeout,
    yield_now,
)
from scheduler import VirtualClock

SOON = 0.001
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@pytest.fixture(params=["main kernel thread", "another kernel thread"])
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """`run_scheduler`, on the main kernel thread and on another."""
    if request.param == "main kernel thread":
        return run_scheduler

    def on_another(main: Callable[..., Any], **kwargs: Any) -> Any:
        result: list[Any] = []

        def body() -> None:
            try:
                result.append((run_scheduler(main, **kwargs), None))
            except BaseException as error:
                result.append((None, error))

        thread = Thread(target=body, kind="kernel")
        thread.start()
        thread.join()
        value, error = result[0]
        if error is not None:
            raise error
        return value

    return on_another


@pytest.fixture(params=[SOON, Steps(50)], ids=repr)
def timeslice(request: pytest.FixtureRequest) -> float | Steps:
    """By time, and by steps."""
    return request.param  # type: ignore[no-any-return]


def spin_until(done: list[object]) -> None:
    """Compute, without giving way, until somebody else has put something into `done`."""
    while not done:
        pass


# ---- What it is for --------------------------------------------------------------------------------------------------


def test_a_spinning_thread_is_switched_out(run: Callable[..., Any], timeslice: float | Steps) -> None:
    def main() -> list[object]:
        done: list[object] = []
        Thread(target=done.append, args=("other",)).start()
        spin_until(done)
        return done

    assert run(main, timeslice=timeslice) == ["other"]


def test_many_spinning_threads_take_turns(run: Callable[..., Any], timeslice: float | Steps) -> None:
    def main() -> int:
        turn = [0]

        def wait_for(number: int) -> None:
            # Each waits for the one before it, and all of them compute.
            while turn[0] != number:
                pass
            turn[0] += 1

        threads = [Thread(target=wait_for, args=(number,)) for number in reversed(range(8))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return turn[0]

    assert run(main, timeslice=timeslice) == 8


def test_a_loop_that_only_calls_c_code_is_cut_as_well(run: Callable[..., Any]) -> None:
    def main() -> list[object]:
        done: list[object] = []
        data = list(range(3000))
        Thread(target=done.append, args=(1,)).start()
        while not done:
            sum(data)
        return done

    assert run(main, timeslice=SOON) == [1]


def test_recursion_is_cut_as_well(run: Callable[..., Any], timeslice: float | Steps) -> None:
    def main() -> bool:
        done: list[object] = []

        def recurse(depth: int) -> None:
            if depth and not done:
                recurse(depth - 1)
                recurse(depth - 1)

        Thread(target=done.append, args=(1,)).start()
        recurse(50)
        return bool(done)

    assert run(main, timeslice=timeslice)


def test_a_sleeper_wakes_while_others_compute(run: Callable[..., Any], timeslice: float | Steps) -> None:
    def main() -> list[object]:
        done: list[object] = []

        def sleeper() -> None:
            sleep(0.002)
            done.append("awake")

        Thread(target=sleeper).start()
        yield_now()
        spin_until(done)
        return done

    assert run(main, timeslice=timeslice) == ["awake"]


def test_a_sleeper_comes_before_those_who_compute() -> None:
    """On a clock that stands still while they compute, so that it is known who wakes when."""
    clock = VirtualClock()
    record: list[str] = []

    def main() -> None:
        def spinner(name: str) -> None:
            while "sleeper" not in record:
                if record[-1:] != [name]:
                    record.append(name)

        def sleeper() -> None:
            sleep(1)
            record.append("sleeper")

        Thread(target=sleeper).start()
        yield_now()
        for name in "abcdefgh":
            Thread(target=spinner, args=(name,)).start()
        while len(record) < 3:
            yield_now()
        clock.advance(2)
        record.append("due")

    Scheduler(clock=clock, timeslice=Steps(100)).run(main)
    at = record.index("due")
    # The main thread ends, the thread whose turn it was is cut short, and the sleeper is next.
    assert record.index("sleeper") - at <= 2


def test_also_where_somebody_yields_at_the_moment_that_it_is_due() -> None:
    """Then it is the root's own turn in which the sleeper wakes, not one for which somebody was cut short."""
    clock = VirtualClock()
    record: list[str] = []

    def main() -> None:
        def spinner(name: str) -> None:
            while "sleeper" not in record:
                if record[-1:] != [name]:
                    record.append(name)
                    clock.advance(0.125)

        def sleeper() -> None:
            sleep(1.25)
            record.append("sleeper")

        def last_in_the_round() -> None:
            while "sleeper" not in record:
                clock.advance(0.125)
                if clock.now() == 1.25:
                    record.append("due")
                yield_now()

        Thread(target=sleeper).start()
        for name in "abcd":
            Thread(target=spinner, args=(name,)).start()
        Thread(target=last_in_the_round).start()

    Scheduler(clock=clock, timeslice=Steps(100)).run(main)
    assert record[:10] == [*"abcd", *"abcd", "due", "sleeper"]


def test_another_kernel_thread_gets_in(run: Callable[..., Any]) -> None:
    def main() -> None:
        event = Event()
        done: list[object] = []

        def waiter() -> None:
            event.wait()
            done.append(1)

        Thread(target=waiter).start()
        yield_now()
        setter = Thread(target=event.set, kind="kernel")
        setter.start()
        spin_until(done)
        setter.join()
        assert done == [1]

    run(main, timeslice=SOON)


def test_a_timeout_ends_a_computation(run: Callable[..., Any], timeslice: float | Steps) -> None:
    def main() -> str:
        try:
            with timeout(0.002):
                while True:
                    pass
        except TimeoutError as error:
            return str(error)

    assert run(main, timeslice=timeslice) == "timed out after 0.002 seconds"


def test_a_spinning_daemon_is_unwound(run: Callable[..., Any], timeslice: float | Steps) -> None:
    record: list[str] = []

    def spin() -> None:
        try:
            while True:
                pass
        finally:
            record.append("unwound")

    def main() -> None:
        Thread(target=spin, daemon=True).start()
        yield_now()

    run(main, timeslice=timeslice)
    assert record == ["unwound"]


# ---- Steps: the same switches each time ------------------------------------------------------------------------------


def interleaving() -> list[int]:
    record: list[int] = []
    note = record.append

    def work(number: int) -> None:
        for _ in range(300):
            note(number)

    threads = [Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return record


def test_steps_are_the_same_on_every_run(run: Callable[..., Any]) -> None:
    first, second = (run(interleaving, timeslice=Steps(10)) for _ in range(2))
    assert first == second
    # Not one after the other, and in the ring's order.
    turns = [number for number, _run in itertools.groupby(first)]
    assert len(turns) > 50
    assert turns[:48] in ([0, 1, 2] * 16, [1, 2, 0] * 16, [2, 0, 1] * 16)


def test_other_steps_are_other_switches() -> None:
    assert run_scheduler(interleaving, timeslice=Steps(10)) != run_scheduler(interleaving, timeslice=Steps(11))


def test_without_slices_nobody_is_cut_short() -> None:
    assert run_scheduler(interleaving) == [0] * 300 + [1] * 300 + [2] * 300


# ---- Where not -------------------------------------------------------------------------------------------------------


def loop(rounds: int) -> None:
    for _ in range(rounds):
        pass


def beside_another(part: Callable[[list[str]], bool]) -> bool:
    """What `part` says; another thread is ready beside it, and puts something into its list."""

    def main() -> bool:
        record: list[str] = []
        Thread(target=record.append, args=("other",)).start()
        return part(record)

    return bool(run_scheduler(main, timeslice=Steps(20)))


def test_not_in_a_no_preemption_block() -> None:
    def part(record: list[str]) -> bool:
        with no_preemption():
            loop(1000)
            with no_preemption():
                loop(1000)
            loop(1000)
            return bool(record)

    assert not beside_another(part)


def test_before_and_after_it() -> None:
    def before(record: list[str]) -> bool:
        loop(1000)
        with no_preemption():
            return bool(record)

    def after(record: list[str]) -> bool:
        with no_preemption():
            loop(1000)
        loop(1000)
        return bool(record)

    assert beside_another(before)
    assert beside_another(after)


def test_a_thread_may_still_yield_in_such_a_block() -> None:
    def part(record: list[str]) -> bool:
        with no_preemption():
            yield_now()
            return bool(record)

    assert beside_another(part)


def test_the_block_is_the_threads_own() -> None:
    def main() -> list[object]:
        done: list[object] = []

        def hold() -> None:
            with no_preemption():
                while not done:
                    yield_now()

        def compute() -> None:
            spin_until(done)

        Thread(target=hold).start()
        computing = Thread(target=compute)
        computing.start()
        Thread(target=done.append, args=(1,)).start()
        computing.join()
        return done

    # Who computes is switched out, though another thread is in the block.
    assert run_scheduler(main, timeslice=Steps(20)) == [1]


def test_the_block_does_nothing_elsewhere() -> None:
    with no_preemption():
        record = run_scheduler(interleaving)
    assert len(record) == 900


class Slow:
    """Compares slowly."""

    def __lt__(self, other: object) -> bool:
        loop(500)
        return True


def test_not_in_what_a_primitive_calls() -> None:
    queue: PriorityQueue[Slow] = PriorityQueue()

    def part() -> None:
        with no_preemption():
            queue.put(Slow())
        queue.put(Slow())

    record: list[int] = []
    original = Slow.__lt__

    def counted(self: Slow, other: object) -> bool:
        before = len(others)
        result = original(self, other)
        record.append(len(others) - before)
        return result

    others: list[str] = []

    def main() -> None:
        Thread(target=others.append, args=("other",)).start()
        part()

    Slow.__lt__ = counted  # type: ignore[method-assign]
    try:
        run_scheduler(main, timeslice=Steps(20))
    finally:
        Slow.__lt__ = original  # type: ignore[method-assign]
    assert record == [0]


def test_not_in_a_finalizer_that_a_primitive_happens_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from greenthreads import _lock

    seen: list[bool] = []
    others: list[str] = []

    class Finalized:
        def __del__(self) -> None:
            before = len(others)
            loop(500)
            seen.append(len(others) == before)

    inner = _lock.current

    def current() -> Any:
        Finalized()
        return inner()

    def main() -> None:
        Thread(target=others.append, args=("other",)).start()
        lock = Lock()
        with monkeypatch.context() as patch:
            patch.setattr(_lock, "current", current)
            with lock:
                pass

    run_scheduler(main, timeslice=Steps(20))
    assert seen == [True]


def test_not_while_a_module_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_to_import.py").write_text("for _ in range(1000): pass\ndone = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    seen: list[bool] = []

    def load() -> None:
        import slow_to_import  # type: ignore[import-not-found]

        seen.append(slow_to_import.done)

    def main() -> None:
        threads = [Thread(target=load) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    try:
        run_scheduler(main, timeslice=Steps(20))
    finally:
        sys.modules.pop("slow_to_import", None)
    assert seen == [True] * 5


def test_not_while_the_program_logs() -> None:
    """A standard RLock lets in any user thread of the kernel thread that holds it."""
    inside: list[str] = []
    worst: list[int] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            inside.append("in")
            loop(300)
            worst.append(len(inside))
            inside.pop()

    logger = logging.getLogger("test_timeslices")
    logger.propagate = False
    logger.addHandler(Handler())

    def main() -> None:
        threads = [Thread(target=logger.warning, args=("x",)) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    run_scheduler(main, timeslice=Steps(20))
    assert worst == [1] * 5


def test_not_in_the_middle_of_c_code(tmp_path: Path) -> None:
    """A write that a signal interrupts holds the file's own lock: printing elsewhere would be "reentrant"."""
    read, write = os.pipe()
    sink = open(write, "w", buffering=1)  # noqa: SIM115 - closed below

    def drain() -> int:
        size = 0
        with open(read, "rb", buffering=0) as source:
            while data := source.read(20_000):
                size += len(data)
                threading.Event().wait(0.0005)
        return size

    def main() -> int:
        drained: list[int] = []
        reader = Thread(target=lambda: drained.append(drain()), kind="kernel")
        reader.start()

        def chatter() -> None:
            for _ in range(10):
                print("x" * 30_000, file=sink)

        threads = [Thread(target=chatter) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        sink.close()
        reader.join()
        return drained[0]

    assert run_scheduler(main, timeslice=SOON) == 3 * 10 * 30_001


def test_primitives_stay_whole() -> None:
    """Every operation under a switch every few steps: counts, order of the lock, and nobody resumed twice."""

    def main() -> tuple[int, int]:
        lock, total, inside = Lock(), [0], [0]

        def work() -> None:
            for _ in range(200):
                with lock:
                    inside[0] += 1
                    assert inside[0] == 1
                    seen = total[0]
                    loop(3)
                    total[0] = seen + 1
                    inside[0] -= 1

        threads = [Thread(target=work) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return total[0], inside[0]

    assert run_scheduler(main, timeslice=Steps(3)) == (1000, 0)
    assert run_scheduler(main, timeslice=SOON) == (1000, 0)


def test_what_others_do_to_a_closures_variable_stays(run: Callable[..., Any]) -> None:
    """Before Python 3.11 a trace function's caller writes back what it has seen before."""

    def main() -> int:
        lock = Lock()
        count = 0

        def work() -> None:
            nonlocal count
            for _ in range(500):
                with lock:
                    count += 1

        threads = [Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return count

    for steps in (7, 50):
        assert run(main, timeslice=Steps(steps)) == 1500


def test_code_without_a_lock_sees_what_it_would_see_on_kernel_threads() -> None:
    def main() -> int:
        total = [0]

        def work() -> None:
            for _ in range(1000):
                seen = total[0]
                loop(1)
                total[0] = seen + 1

        threads = [Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return total[0]

    assert 1000 <= run_scheduler(main, timeslice=Steps(7)) < 3000
    assert run_scheduler(main) == 3000


# ---- Beginning and end -----------------------------------------------------------------------------------------------


def test_nothing_is_left_when_the_scheduler_has_ended(run: Callable[..., Any], timeslice: float | Steps) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGALRM, signal.SIGVTALRM)]
    run(interleaving, timeslice=timeslice)
    assert [signal.getsignal(number) for number in (signal.SIGALRM, signal.SIGVTALRM)] == handlers
    assert signal.getitimer(signal.ITIMER_REAL)[0] == signal.getitimer(signal.ITIMER_VIRTUAL)[0] == 0
    if hasattr(sys, "monitoring"):
        assert [sys.monitoring.get_tool(tool) for tool in (3, 4)] == [None, None]


def test_a_signal_that_the_program_uses_is_left_to_it() -> None:
    record: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _frame: record.append(number))
    try:

        def main() -> None:
            signal.raise_signal(signal.SIGALRM)
            done: list[object] = []
            Thread(target=done.append, args=(1,)).start()
            spin_until(done)

        run_scheduler(main, timeslice=SOON)
        second = signal.signal(signal.SIGVTALRM, signal.SIG_IGN)
        try:
            with pytest.raises(SchedulerError, match="handlers for both SIGALRM and SIGVTALRM"):
                run_scheduler(main, timeslice=SOON)
        finally:
            signal.signal(signal.SIGVTALRM, second)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert record == [signal.SIGALRM]


def test_a_deadlock_is_still_found(timeslice: float | Steps) -> None:
    with pytest.raises(Deadlock):
        run_scheduler(Event().wait, timeslice=timeslice)


@needs_fork
def test_the_child_of_a_fork_has_slices_too(run: Callable[..., Any]) -> None:
    def main() -> int:
        child = os.fork()
        if child == 0:
            done: list[object] = []
            try:
                Thread(target=done.append, args=(1,)).start()
                spin_until(done)
            finally:
                os._exit(7 if done else 8)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert run(main, timeslice=SOON) == 7


@pytest.mark.parametrize(
    ("timeslice", "error", "text"),
    [
        (0, ValueError, "timeslice must be a positive number of seconds, not 0"),
        (-1.5, ValueError, "timeslice must be a positive number of seconds, not -1.5"),
        (float("nan"), ValueError, "timeslice must be a positive number of seconds, not nan"),
        ("1", TypeError, "timeslice must be a number of seconds, Steps or None, not str"),
        (True, TypeError, "timeslice must be a number of seconds, Steps or None, not bool"),
    ],
)
def test_no_slice_that_is_none(timeslice: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        run_scheduler(print, timeslice=timeslice)
    assert str(caught.value) == text


def test_steps_are_a_count() -> None:
    with pytest.raises(TypeError, match="steps must be an integer, not float"):
        Steps(1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="steps must be at least 1, not 0"):
        Steps(0)
    assert repr(Steps(5)) == "Steps(5)"


def test_the_keyword_is_not_passed_on() -> None:
    def main(*args: Any, **kwargs: Any) -> object:
        return args, kwargs, current_thread().name

    assert run_scheduler(main, 1, timeslice=None, other=2) == ((1,), {"other": 2}, "MainThread")


def test_the_command_has_slices(script: Callable[..., Any], tmp_path: Path) -> None:
    program = tmp_path / "spins.py"
    program.write_text(
        "import threading\n"
        "done = []\n"
        "threading.Thread(target=done.append, args=(1,)).start()\n"
        "while not done: pass\n"
        "print('done')\n"
    )
    call = "import sys\nfrom greenthreads.cli import main\nsys.exit(main({!r}))"
    for value in ("0.001", "500"):
        unit = ["--timeslice", value] if "." in value else ["--steps", value]
        assert script(call.format([*unit, str(program)])).stdout == "done\n"
    wrong = script(call.format(["--timeslice", "-1", str(program)]), check=False)
    assert wrong.returncode == 2
    assert "argument --timeslice: must be a positive number of seconds, not '-1'" in wrong.stderr


def test_the_program_of_the_command_may_ask_for_slices_itself(script: Callable[..., Any], tmp_path: Path) -> None:
    program = tmp_path / "asks.py"
    program.write_text(
        "from greenthreads import Thread, run_scheduler\n"
        "def main():\n"
        "    done = []\n"
        "    Thread(target=done.append, args=(1,)).start()\n"
        "    while not done: pass\n"
        "    print('done')\n"
        "run_scheduler(main, timeslice=0.001)\n"
    )
    for options in ([], ["--timeslice", "0.002"]):
        call = f"import sys\nfrom greenthreads.cli import main\nsys.exit(main({[*options, str(program)]!r}))"
        assert script(call).stdout == "done\n"
