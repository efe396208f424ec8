"""`greenthreads.futures`: an executor with workers of either kind, and futures for threads of either kind."""

from __future__ import annotations

import concurrent.futures
import gc
import threading
import weakref
from typing import Any

import pytest

from greenthreads import Barrier, Event, Thread, current_thread, run_scheduler, sleep, yield_now
from greenthreads.carriers import Kind
from greenthreads.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    BrokenThreadPool,
    CancelledError,
    Future,
    ThreadPoolExecutor,
    TimeoutError,
    wait,
)


def test_it_is_an_executor_and_its_futures_are_futures(kind: Kind) -> None:
    def main() -> list[object]:
        with ThreadPoolExecutor(2, "worker", kind=kind) as executor:
            future = executor.submit(lambda a, b: (a + b, current_thread().kind, current_thread().name), 1, b=2)
            return [
                isinstance(executor, concurrent.futures.Executor),
                isinstance(future, concurrent.futures.Future),
                future.result(),
                list(executor.map(abs, [-1, -2, 3])),
            ]

    assert run_scheduler(main) == [True, True, (3, kind, "worker_0"), [1, 2, 3]]


def test_without_a_kind_the_workers_are_of_the_default_kind(in_main: Any, kind: Kind) -> None:
    def main() -> str:
        with ThreadPoolExecutor(1) as executor:
            return executor.submit(lambda: current_thread().kind).result()

    assert in_main(main) == kind


@pytest.mark.parametrize("workers", ["user", "kernel"])
def test_the_standard_wait_and_as_completed_work_in_any_thread_on_any_workers(workers: Kind, pair: Any) -> None:
    record: list[object] = []

    def work(executor: Any) -> None:
        futures = [executor.submit(pow, number, 2) for number in range(5)]
        done, pending = concurrent.futures.wait(futures)
        record.append((sorted(future.result() for future in done), pending))
        completed = concurrent.futures.as_completed([executor.submit(pow, number, 3) for number in range(5)])
        record.append(sorted(future.result() for future in completed))

    def main() -> None:
        # A kernel thread has no scheduler to start user threads in.
        with ThreadPoolExecutor(2, kind=workers if pair.first == "user" else "kernel") as executor:
            thread = pair.start(work, executor)
            thread.join()

    pair.run(main)
    assert record == [([0, 1, 4, 9, 16], set()), [0, 1, 8, 27, 64]]


def test_what_to_wait_for(run_virtually: Any) -> None:
    def after(seconds: float, error: type[Exception] | None = None) -> float:
        sleep(seconds)
        if error is not None:
            raise error
        return seconds

    def main() -> list[object]:
        record: list[object] = []
        with ThreadPoolExecutor(4, kind="user") as executor:
            for condition in (FIRST_COMPLETED, FIRST_EXCEPTION, ALL_COMPLETED):
                futures = [executor.submit(after, 1), executor.submit(after, 2, KeyError), executor.submit(after, 3)]
                done, _pending = wait(futures, return_when=condition)
                record.append([future in done for future in futures])
            slow = executor.submit(after, 1000)
            record.append(len(wait([slow], timeout=5).done))
            for call in (slow.result, slow.exception):
                with pytest.raises(TimeoutError):
                    call(5)
        return record

    assert run_virtually(main) == [[True, False, False], [True, True, False], [True, True, True], 0]


def test_a_user_thread_that_waits_for_a_result_lets_others_run(kind: Kind) -> None:
    go, record = Event(), []

    def main() -> None:
        with ThreadPoolExecutor(1, kind=kind) as executor:
            future = executor.submit(go.wait)
            Thread(target=lambda: (record.append("runs meanwhile"), go.set())).start()
            record.append(future.result())

    run_scheduler(main)
    assert record == ["runs meanwhile", True]


def test_exceptions_and_callbacks(kind: Kind) -> None:
    def main() -> list[object]:
        record: list[object] = []
        with ThreadPoolExecutor(1, kind=kind) as executor:
            failing = executor.submit(int, "x")
            failing.add_done_callback(lambda future: record.append(type(future.exception())))
            record.append(str(failing.exception()))
        with pytest.raises(ValueError, match="invalid literal"):
            failing.result()
        failing.add_done_callback(lambda _future: record.append("at once"))
        return record

    record = run_scheduler(main)
    assert set(record) == {"invalid literal for int() with base 10: 'x'", ValueError, "at once"}


def test_a_call_that_was_cancelled_is_not_made(kind: Kind) -> None:
    go, record = Event(), []

    def main() -> list[object]:
        with ThreadPoolExecutor(1, kind=kind) as executor:
            first = executor.submit(go.wait)
            second = executor.submit(record.append, "made")
            yield_now()
            answers: list[object] = [second.cancel(), second.cancelled()]
            go.set()
            answers.append(first.result())
            with pytest.raises(CancelledError):
                second.result()
        return answers

    assert run_scheduler(main) == [True, True, True]
    assert record == []


def test_shutdown_may_cancel_what_has_not_begun(kind: Kind, until: Any) -> None:
    go, begun = Event(), Event()

    def main() -> list[object]:
        executor = ThreadPoolExecutor(1, kind=kind)
        first = executor.submit(lambda: (begun.set(), go.wait()))
        begun.wait()
        rest = [executor.submit(pow, 1, 1) for _ in range(3)]
        executor.shutdown(wait=False, cancel_futures=True)
        go.set()
        first.result()
        with pytest.raises(RuntimeError, match=r"^cannot schedule new futures after shutdown$"):
            executor.submit(pow, 1, 1)
        executor.shutdown()
        return [future.cancelled() for future in rest]

    assert run_scheduler(main) == [True, True, True]


def test_workers_are_no_more_than_are_needed_and_than_are_allowed(kind: Kind) -> None:
    def main() -> list[int]:
        counts = []
        with ThreadPoolExecutor(3, kind=kind) as executor:
            for _ in range(4):
                executor.submit(pow, 1, 1).result()
                yield_now()
            # A kernel thread may not have said yet that it is idle.
            counts.append(len(executor._threads) <= (1 if kind == "user" else 2))
            go = Event()
            futures = [executor.submit(go.wait) for _ in range(10)]
            counts.append(len(executor._threads))
            go.set()
            wait(futures)
        return counts

    assert run_scheduler(main) == [True, 3]


def test_the_initializer_runs_in_each_worker_and_its_failure_breaks_the_pool(kind: Kind, caplog: Any) -> None:
    record: list[object] = []

    def main() -> None:
        with ThreadPoolExecutor(1, "", lambda *args: record.append(args), (1, 2), kind=kind) as executor:
            executor.submit(pow, 1, 1).result()
        broken = ThreadPoolExecutor(1, initializer=lambda: 1 // 0, kind=kind)
        with pytest.raises(BrokenThreadPool):
            broken.submit(pow, 1, 1).result()
        with pytest.raises(BrokenThreadPool):
            broken.submit(pow, 1, 1)
        broken.shutdown()

    run_scheduler(main)
    assert record == [(1, 2)]
    assert [line.message for line in caplog.records] == ["Exception in initializer:"]


def test_a_scheduler_ends_though_nobody_has_shut_its_executor_down() -> None:
    record: list[object] = []

    def main() -> None:
        executor = ThreadPoolExecutor(2, kind="user")
        record.append(executor)
        executor.submit(lambda: (sleep(0), record.append("done")))

    run_scheduler(main)
    assert record[1:] == ["done"]


def test_an_executor_that_nobody_has_any_more_ends_its_workers(kind: Kind, until: Any) -> None:
    def main() -> None:
        executor = ThreadPoolExecutor(2, kind=kind)
        executor.submit(pow, 1, 1).result()
        workers = list(executor._threads)
        del executor
        gc.collect()
        until(lambda: not any(worker.is_alive() for worker in workers))

    run_scheduler(main)
    assert threading.active_count() >= 1


def test_its_workers_are_joined_in_the_order_of_their_start(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    record: list[str] = []
    join = Thread.join

    def note_and_join(thread: Thread, timeout: float | None = None) -> None:
        record.append(thread.name)
        join(thread, timeout)

    def main() -> None:
        executor = ThreadPoolExecutor(10, "worker", kind=kind)
        barrier = Barrier(10)
        for _ in range(10):
            executor.submit(barrier.wait)
        monkeypatch.setattr(Thread, "join", note_and_join)
        executor.shutdown()

    run_scheduler(main)
    assert record == [f"worker_{number}" for number in range(10)]


def test_a_worker_that_never_runs_out_of_work_lets_others_run(kind: Kind) -> None:
    stop, record = Event(), []

    def work(executor: Any) -> None:
        if not stop.is_set():
            executor.submit(work, executor)

    def main() -> None:
        with ThreadPoolExecutor(1, kind=kind) as executor:
            executor.submit(work, executor)
            for number in range(3):
                yield_now()
                record.append(number)
            stop.set()

    run_scheduler(main)
    assert record == [0, 1, 2]


def test_a_result_is_not_kept_by_the_worker(kind: Kind, until: Any) -> None:
    class Thing:
        pass

    def main() -> None:
        with ThreadPoolExecutor(1, kind=kind) as executor:
            future = executor.submit(Thing)
            reference = weakref.ref(future.result())
            del future
            until(lambda: gc.collect() is not None and reference() is None)

    run_scheduler(main)


def test_a_future_of_one_s_own_may_be_waited_for(pair: Any) -> None:
    future, record = Future(), []

    def main() -> None:
        thread = pair.start(lambda: record.append(future.result()))
        yield_now()
        future.set_result("set")
        thread.join()

    pair.run(main)
    assert record == ["set"]


def test_a_kind_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="kind must be 'user' or 'kernel', not 'green'"):
        ThreadPoolExecutor(kind="green")  # type: ignore[arg-type]
