"""`Once`: one call, whoever asks for it."""

from __future__ import annotations

from typing import Any

import pytest

from greenthreads import Event, Once, Thread, ThreadInterrupted, run_scheduler, sleep, yield_now
from greenthreads.carriers import Kind


def test_all_get_the_result_of_the_one_call(pair: Any) -> None:
    once = Once()
    calls: list[str] = []
    record: list[object] = []

    def make(name: str) -> object:
        calls.append(name)
        yield_now()
        return object()

    def ask(name: str) -> None:
        record.append(once.call(make, name))

    def main() -> None:
        threads = [pair.start(ask, name) for name in "abc"]
        ask("main")
        for thread in threads:
            thread.join()

    pair.run(main)
    assert (len(calls), len(record), len(set(record)), once.done) == (1, 4, 1, True)


def test_who_waits_gets_the_result_when_it_is_there(run_virtually: Any) -> None:
    once, record = Once(), []

    def make() -> str:
        sleep(5)
        return "made"

    def main() -> None:
        Thread(target=lambda: record.append(once.call(make))).start()
        yield_now()
        record.append((once.done, repr(once).rsplit(" ", 1)[-1]))
        record.append(once.call(pytest.fail, "called twice"))

    run_virtually(main)
    assert record == [(False, "open>"), "made", "made"]
    assert repr(once).endswith(": done>")


def test_a_call_that_fails_is_made_again_by_the_next(kind: Kind, until: Any) -> None:
    once, record = Once(), []
    go = Event()

    def fail() -> None:
        go.wait()
        raise KeyError("first")

    def ask(call: Any) -> None:
        try:
            record.append(once.call(call))
        except KeyError as error:
            record.append(repr(error))

    def main() -> None:
        threads = [Thread(target=ask, args=(call,), kind=kind) for call in (fail, lambda: "second")]
        for thread in threads:
            thread.start()
            until(lambda: len(go._waiters) == 1)
        go.set()
        for thread in threads:
            thread.join()
        record.append(once.call(lambda: "third"))

    run_scheduler(main)
    assert sorted(record[:2]) == ["KeyError('first')", "second"]
    assert record[2] == "second"


def test_who_is_interrupted_while_it_waits_leaves_the_call_alone(kind: Kind, until: Any, waits: Any) -> None:
    once, record = Once(), []
    go = Event()

    def ask() -> None:
        try:
            once.call(print)
        except ThreadInterrupted:
            record.append("interrupted")

    def main() -> None:
        first = Thread(target=lambda: record.append(once.call(go.wait)), kind=kind)
        first.start()
        until(lambda: len(go._waiters) == 1)
        second = Thread(target=ask, kind=kind)
        second.start()
        until(lambda: waits(second))
        second.interrupt()
        second.join()
        go.set()
        first.join()

    run_scheduler(main)
    assert (record, once.done) == (["interrupted", True], True)


def test_a_call_that_asks_for_itself_is_told_so(outcome: Any) -> None:
    once = Once()
    assert outcome(once.call, lambda: once.call(print)) == (
        RuntimeError, "the call that is made once asks for its own result",
    )  # fmt: skip
    assert once.call(lambda a, b: a + b, 1, b=2) == 3
