"""`run_in_kernel_thread`: the pool of workers has one for each call, whatever they are doing when it comes."""

from __future__ import annotations

import _thread
from _queue import SimpleQueue
from collections.abc import Callable
from queue import Empty
from typing import Any

import pytest

from greenthreads import Event, Thread, kernelpool, run_in_kernel_thread, run_scheduler


class Calls:
    """The calls of a pool, which lets a test come in between a worker's wait for one and what it does next."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Any] = SimpleQueue()
        self.put = self._calls.put
        self.qsize = self._calls.qsize
        # Called in a worker that has waited in vain, and in one that has got a call.
        self.in_vain: Callable[[], object] = int
        self.got: Callable[[], object] = int

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        try:
            call = self._calls.get(block, timeout)
        except Empty:
            if block:
                self.in_vain()
            raise
        self.got()
        return call


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Those of a new pool."""
    calls, pool = Calls(), kernelpool._Pool()
    pool.calls = calls  # type: ignore[assignment]
    monkeypatch.setattr(kernelpool, "_pool", pool)
    return calls


def test_a_call_that_comes_as_a_worker_ends_its_wait_is_made(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernelpool, "_PATIENCE", 0.001)
    waited, submitted = _thread.allocate_lock(), _thread.allocate_lock()
    waited.acquire()
    submitted.acquire()

    def in_vain() -> None:
        calls.in_vain = int
        waited.release()
        submitted.acquire()

    def main() -> int:
        # In the worker, which may wait in vain before it finds this call.
        run_in_kernel_thread(setattr, calls, "in_vain", in_vain)
        waited.acquire()
        # Runs when the main thread waits for the call that it has submitted by then.
        Thread(target=submitted.release).start()
        return run_in_kernel_thread(int, 2)

    assert run_scheduler(main) == 2


def test_a_call_that_comes_as_a_worker_is_given_another_does_not_wait_for_that(calls: Calls) -> None:
    given, submitted = _thread.allocate_lock(), _thread.allocate_lock()
    given.acquire()
    submitted.acquire()
    event = Event()

    def got() -> None:
        calls.got = int
        given.release()
        submitted.acquire()

    def main() -> list[object]:
        record: list[object] = [run_in_kernel_thread(int, 1)]
        calls.got = got
        thread = Thread(target=lambda: record.append(run_in_kernel_thread(event.wait, 10)))
        thread.start()
        Thread(target=given.acquire).start()
        Thread(target=lambda: record.append(run_in_kernel_thread(event.set))).start()
        Thread(target=submitted.release).start()
        thread.join()
        return record

    assert run_scheduler(main) == [1, None, True]


def test_a_pool_that_can_t_start_a_worker_keeps_nothing_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object) -> int:
        raise RuntimeError("can't start new thread")

    pool = kernelpool._Pool()
    monkeypatch.setattr(kernelpool, "_pool", pool)
    with monkeypatch.context() as patch:
        patch.setattr(kernelpool, "start_new_thread", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            run_scheduler(run_in_kernel_thread, int)
    assert run_scheduler(run_in_kernel_thread, int, 3) == 3
    assert (len(pool.unfinished), pool.calls.qsize(), kernelpool.worker_count()) == (0, 0, 1)
