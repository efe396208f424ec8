"""Putting a thread on hold: it does not run, whatever happens to it, and then goes on as if nothing had been."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from greenthreads import (
    Deadlock,
    Event,
    Lock,
    Queue,
    Steps,
    Thread,
    ThreadInterrupted,
    current_thread,
    dump_threads,
    sleep,
    yield_now,
)
from scheduler import Scheduler, VirtualClock
from scheduler.policies import Priorities


@pytest.fixture(params=["ring", "policy"])
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Run in virtual time, with the ring and with a policy in its place."""

    def with_policy(main: Callable[..., Any], **kwargs: Any) -> Any:
        policy = Priorities() if request.param == "policy" else None
        return Scheduler(clock=VirtualClock(), policy=policy, **kwargs).run(main)

    return with_policy


def rounds(count: int = 5) -> None:
    for _ in range(count):
        yield_now()


def test_a_ready_thread_stays_where_it_is(run: Callable[..., Any]) -> None:
    record: list[str] = []

    def count() -> None:
        for number in range(4):
            record.append(str(number))
            yield_now()

    def main() -> None:
        thread = Thread(target=count)
        thread.start()
        yield_now()
        thread.suspend()
        rounds()
        record.append("held")
        thread.resume()
        thread.join()

    run(main)
    assert record == ["0", "held", "1", "2", "3"]


def test_a_new_thread_does_not_begin(run: Callable[..., Any]) -> None:
    record: list[str] = []

    def main() -> None:
        thread = Thread(target=record.append, args=("runs",))
        thread.start()
        thread.suspend()
        thread.suspend()
        Thread(target=record.append, args=("another",)).start()
        rounds()
        thread.resume()
        thread.resume()
        thread.join()

    run(main)
    assert record == ["another", "runs"]


def test_a_waiting_thread_gets_what_it_waits_for_and_stays(run: Callable[..., Any]) -> None:
    record: list[object] = []

    def main() -> None:
        queue: Queue[int] = Queue()
        thread = Thread(target=lambda: record.append(queue.get()))
        thread.start()
        yield_now()
        thread.suspend()
        queue.put(1)
        queue.put(2)
        rounds()
        # It was given the first, and has not run.
        record.append(queue.get())
        thread.resume()
        thread.join()

    run(main)
    assert record == [2, 1]


def test_many_that_are_woken_at_once_stay(run: Callable[..., Any]) -> None:
    record: list[int] = []

    def main() -> None:
        event = Event()

        def wait(number: int) -> None:
            event.wait()
            record.append(number)

        threads = [Thread(target=wait, args=(number,)) for number in range(3000)]
        for thread in threads:
            thread.start()
        yield_now()
        for thread in threads:
            thread.suspend()
        event.set()
        rounds()
        assert record == []
        for thread in threads:
            thread.resume()
        for thread in threads:
            thread.join()

    run(main)
    assert record == list(range(3000))


def test_a_deadline_passes_meanwhile(run: Callable[..., Any]) -> None:
    record: list[object] = []

    def main() -> None:
        thread = Thread(target=lambda: record.append(Event().wait(1)))
        thread.start()
        yield_now()
        thread.suspend()
        sleep(2)
        assert record == []
        thread.resume()
        thread.join()

    run(main)
    assert record == [False]


@pytest.mark.parametrize("parked", [True, False])
def test_an_interrupt_waits_until_it_is_resumed(run: Callable[..., Any], parked: bool) -> None:
    record: list[str] = []

    def work() -> None:
        try:
            if parked:
                Event().wait()
            while True:
                yield_now()
        except ThreadInterrupted:
            record.append("interrupted")

    def main() -> None:
        thread = Thread(target=work)
        thread.start()
        yield_now()
        thread.suspend()
        thread.interrupt()
        rounds()
        record.append("held")
        thread.resume()
        thread.join()

    run(main)
    assert record == ["held", "interrupted"]


def test_a_lock_goes_on_being_held(run: Callable[..., Any]) -> None:
    def main() -> tuple[bool, bool]:
        lock = Lock()

        def hold() -> None:
            with lock:
                yield_now()

        thread = Thread(target=hold)
        thread.start()
        yield_now()
        thread.suspend()
        got = lock.acquire(timeout=1)
        thread.resume()
        return got, lock.acquire()

    assert run(main) == (False, True)


def test_a_thread_may_suspend_itself(run: Callable[..., Any]) -> None:
    record: list[str] = []

    def work() -> None:
        record.append("before")
        current_thread().suspend()
        record.append("after")

    def main() -> None:
        thread = Thread(target=work)
        thread.start()
        rounds()
        record.append("held")
        thread.resume()
        thread.join()

    run(main)
    assert record == ["before", "held", "after"]


def test_another_kernel_thread_may_do_it(run: Callable[..., Any], until: Callable[..., Any]) -> None:
    counts = [0]

    def count() -> None:
        while counts[0] >= 0:
            counts[0] += 1
            yield_now()

    def main() -> None:
        thread = Thread(target=count)
        thread.start()

        def hold() -> None:
            thread.suspend()
            until(lambda: "suspended" in dump_threads())

        kernel = Thread(target=hold, kind="kernel")
        kernel.start()
        kernel.join()
        before = counts[0]
        rounds()
        assert counts[0] == before
        counts[0] = -1
        resumer = Thread(target=thread.resume, kind="kernel")
        resumer.start()
        thread.join()
        resumer.join()

    run(main)
    assert counts[0] == -1


def test_a_computing_thread_is_held_at_the_end_of_its_slice(run: Callable[..., Any]) -> None:
    done: list[int] = []

    def main() -> None:
        def compute() -> None:
            while not done:
                pass

        thread = Thread(target=compute)
        thread.start()
        yield_now()
        thread.suspend()
        rounds()
        assert thread.is_alive()
        done.append(1)
        thread.resume()
        thread.join()

    run(main, timeslice=Steps(100))
    assert done == [1]


def test_a_dump_and_a_deadlock_say_so(run: Callable[..., Any]) -> None:
    def main() -> str:
        thread = Thread(target=yield_now, name="held")
        thread.start()
        thread.suspend()
        text = dump_threads()
        with pytest.raises(Deadlock, match=r"'held' *waits for resume\(\) *before its first line"):
            thread.join()
        thread.resume()
        return text

    assert "user thread 'held' on 'MainThread': suspended" in run(main)


def test_a_suspended_daemon_is_unwound(run: Callable[..., Any]) -> None:
    record: list[str] = []

    def work() -> None:
        try:
            Event().wait()
        finally:
            record.append("unwound")

    def main() -> None:
        thread = Thread(target=work, daemon=True)
        thread.start()
        yield_now()
        thread.suspend()

    run(main)
    assert record == ["unwound"]


def test_only_user_threads_that_were_started() -> None:
    thread = Thread(target=print)
    with pytest.raises(RuntimeError, match="cannot suspend thread before it is started"):
        thread.suspend()
    with pytest.raises(RuntimeError, match="cannot resume thread before it is started"):
        thread.resume()
    event = Event()
    kernel = Thread(target=event.wait, kind="kernel")
    kernel.start()
    with pytest.raises(RuntimeError, match="cannot suspend a kernel thread: only user threads can be put on hold"):
        kernel.suspend()
    event.set()
    kernel.join()
