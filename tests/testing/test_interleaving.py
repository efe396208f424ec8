"""`Interleaving` and `checkpoint`: exactly the order that was asked for, and why one can't be."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from plain import explore, replay

from greenthreads.testing import ImpossibleOrder, Interleaving, checkpoint
from scheduler import control


def deposits(lock: Any = None) -> None:
    balance = 0

    def deposit() -> None:
        nonlocal balance
        if lock is not None:
            lock.acquire()
        before = balance
        checkpoint("read")
        balance = before + 1
        checkpoint("written")
        if lock is not None:
            lock.release()

    threads = [threading.Thread(target=deposit, name=name) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert balance == 2


def record_of(*order: str) -> list[str]:
    record: list[str] = []

    def main() -> None:
        def body(name: str) -> None:
            for step in ("1", "2", "3"):
                record.append(name + step)
                checkpoint(step)

        threads = [threading.Thread(target=body, name=name, args=(name,)) for name in ("a", "b")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    Interleaving(*order).run(main)
    return record


def test_the_order_that_breaks_it_breaks_it_each_time() -> None:
    for _ in range(3):
        with pytest.raises(AssertionError) as caught:
            Interleaving("a:read", "b:read").run(deposits)
        if sys.version_info >= (3, 11):
            assert caught.value.__notes__ == ["in the order a:read, b:read"]


def test_another_order_passes_and_its_trace_can_be_replayed() -> None:
    trace = Interleaving("a:written", "b:read").run(deposits)
    replay(deposits, trace)
    assert Interleaving("a:written", "b:read").run(deposits) == trace


@pytest.mark.parametrize(
    ("order", "record"),
    [
        (("a:1", "b:1", "a:2", "b:2", "a:3", "b:3"), ["a1", "b1", "a2", "b2", "a3", "b3"]),
        (("b:1", "b:2", "b:3", "a:1"), ["b1", "b2", "b3", "a1", "a2", "a3"]),
        (("b:2", "a:2", "b:3", "a:3"), ["b1", "b2", "a1", "a2", "b3", "a3"]),
        (("1:1", "2:3"), ["a1", "b1", "b2", "b3", "a2", "a3"]),
    ],
)
def test_what_stands_before_a_checkpoint_is_done_in_the_order_of_the_checkpoints(
    order: tuple[str, ...], record: list[str]
) -> None:
    assert record_of(*order) == record


def test_operations_are_points_too_and_may_be_counted() -> None:
    record: list[str] = []

    def main() -> None:
        lock = threading.Lock()

        def body() -> None:
            for _ in range(2):
                with lock:
                    record.append(threading.current_thread().name)

        threads = [threading.Thread(target=body, name=name) for name in ("a", "b")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    Interleaving("b:acquire", "a:acquire", "b:acquire", "a:acquire").run(main)
    assert record == ["b", "a", "b", "a"]
    record.clear()
    Interleaving("b:acquire@2", "a:acquire").run(main)
    assert record == ["b", "b", "a", "a"]


def test_a_thread_goes_by_its_targets_name_and_the_main_one_by_main() -> None:
    record: list[str] = []

    def main() -> None:
        def worker() -> None:
            record.append("worker")
            checkpoint("done")

        thread = threading.Thread(target=worker)
        thread.start()
        checkpoint("started")
        record.append("main")
        checkpoint("done")
        thread.join()

    Interleaving("main:started", "worker:done", "main:done").run(main)
    assert record == ["worker", "main"]
    record.clear()
    Interleaving("main:done", "worker:done")(main)()
    assert record == ["main", "worker"]


def reason(order: tuple[str, ...], fn: Callable[[], object]) -> str:
    with pytest.raises(ImpossibleOrder) as caught:
        Interleaving(*order).run(fn)
    return str(caught.value)


def test_an_order_that_a_lock_forbids() -> None:
    lock = threading.Lock()
    text = reason(("b:read", "a:read", "b:written"), lambda: deposits(lock))
    assert re.sub(r"py:\d+", "py:N", text) == (
        "the order b:read, (here), a:read, b:written can't be\n"
        "  'b' came to 'b:written' before its turn\n"
        "  'MainThread' waits for the end of 'a' (test_interleaving.py:N)\n"
        "  'a' waits for Lock L1, held by 'b' (test_interleaving.py:N)"
    )
    Interleaving("b:read", "b:written", "a:read").run(lambda: deposits(lock))


def test_a_point_that_never_comes() -> None:
    assert reason(("a:read", "a:reed"), deposits) == (
        "the order a:read, (here), a:reed was not completed: 'a:reed' never came. Points that did: "
        "'main:start', 'a:read', 'a:written', 'a:end', 'main:join', 'b:read', 'b:written', 'b:end', 'main:end'"
    )


def test_an_operation_whose_turn_it_is_not() -> None:
    assert "'a' is about to 'begin', but it is not its turn" in reason(("a:end", "a:begin"), deposits)


def test_what_is_no_order_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^an order has at least one point$"):
        Interleaving()
    with pytest.raises(ValueError, match=r"^a point of an order is 'what', .* not 'a:'$"):
        Interleaving("a:")
    with pytest.raises(TypeError, match=r"^a point of an order is a string, not int$"):
        Interleaving(1)  # type: ignore[arg-type]
    assert repr(Interleaving("a:1", "b")) == "Interleaving('a:1', 'b')"


def test_a_checkpoint_is_a_choice_point_of_an_exploration() -> None:
    found = explore(deposits).failure
    assert found is not None
    with pytest.raises(AssertionError):
        replay(deposits, found.trace)
    lock = threading.Lock()
    assert explore(lambda: deposits(lock), strategy="dfs").exhausted


def test_outside_of_the_harness_a_checkpoint_is_nothing() -> None:
    assert control.active is None
    deposits()
