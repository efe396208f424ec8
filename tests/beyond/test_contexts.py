"""Context variables: a new thread gets what threading gives it on this Python, and each keeps its own."""

from __future__ import annotations

import contextvars
import inspect
import sys
import threading
from typing import Any

import pytest

import greenthreads
from greenthreads import Thread, run_scheduler, yield_now
from greenthreads.carriers import Kind

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def what_a_new_thread_sees(thread_class: Any, **options: Any) -> str:
    seen: list[str] = []

    def start() -> None:
        variable.set("of the starter")
        thread = thread_class(target=lambda: seen.append(variable.get()), **options)
        thread.start()
        thread.join()

    contextvars.copy_context().run(start)
    return seen[0]


def test_a_new_thread_begins_as_with_threading(kind: Kind) -> None:
    assert run_scheduler(what_a_new_thread_sees, Thread, kind=kind) == what_a_new_thread_sees(threading.Thread)


@pytest.mark.parametrize("inherits", [False, True])
def test_where_python_says_that_threads_inherit_they_do(kind: Kind, inherits: bool, monkeypatch: Any) -> None:
    """`-X thread_inherit_context`, since Python 3.14."""
    monkeypatch.setattr(greenthreads.thread, "_inherits_context", inherits)
    expected = "of the starter" if inherits else "unset"
    assert run_scheduler(what_a_new_thread_sees, Thread, kind=kind) == expected


def test_a_thread_may_be_given_a_context_on_every_python(kind: Kind) -> None:
    def main() -> list[str]:
        context = contextvars.copy_context()
        context.run(variable.set, "given")
        seen: list[str] = []

        def work() -> None:
            seen.append(variable.get())
            variable.set("changed")

        thread = Thread(target=work, kind=kind, context=context)
        thread.start()
        thread.join()
        return [*seen, context[variable], variable.get()]

    assert run_scheduler(main) == ["given", "changed", "unset"]


@pytest.mark.skipif("context" not in inspect.signature(threading.Thread).parameters, reason="since Python 3.14")
def test_the_standard_thread_takes_one_too() -> None:
    assert sys.version_info >= (3, 14)


def test_a_context_does_not_leak_to_the_next_thread_on_the_same_stack(kind: Kind) -> None:
    def main() -> list[str]:
        seen: list[str] = []
        context = contextvars.copy_context()
        context.run(variable.set, "of the first")
        for options in ({"context": context}, {}):
            thread = Thread(target=lambda: seen.append(variable.get()), kind=kind, **options)
            thread.start()
            thread.join()
        return seen

    assert run_scheduler(main) == ["of the first", "unset"]


def test_threads_that_share_a_context_one_after_the_other_see_each_other_s_values() -> None:
    def main() -> list[str]:
        seen: list[str] = []
        context = contextvars.copy_context()
        for name in "ab":
            thread = Thread(target=lambda name=name: (seen.append(variable.get()), variable.set(name)), context=context)
            thread.start()
            thread.join()
        return seen

    assert run_scheduler(main) == ["unset", "a"]


def test_values_stay_apart_over_a_switch(kind: Kind) -> None:
    seen: list[tuple[str, str]] = []

    def work(name: str) -> None:
        variable.set(name)
        for _ in range(3):
            yield_now()
            seen.append((name, variable.get()))

    def main() -> None:
        threads = [Thread(target=work, args=(name,), kind=kind) for name in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    run_scheduler(main)
    assert sorted(seen) == [(name, name) for name in "abc" for _ in range(3)]
    assert variable.get() == "unset"
