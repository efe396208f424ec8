"""Folded stacks: what the sampler sees, and how it writes it. Samples are taken by hand: no test waits for time."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from greenthreads import Deadlock, Event, Thread, run_scheduler, yield_now
from greenthreads.flame import Sampler


def test_a_sample_is_the_stack_of_the_thread_that_runs() -> None:
    sampler = Sampler()

    def inner() -> None:
        sampler.look()

    def outer() -> None:
        inner()
        inner()

    def main() -> None:
        thread = Thread(target=outer)
        thread.start()
        thread.join()
        sampler.look()

    run_scheduler(main)
    file = io.StringIO()
    sampler.write(file)
    first, second = file.getvalue().splitlines()
    here = Path(__file__).name
    prefix = "test_a_sample_is_the_stack_of_the_thread_that_runs.<locals>." if "<locals>" in first else ""
    expected = ";".join(
        f"{prefix}{function.__name__} ({here}:{function.__code__.co_firstlineno})" for function in (outer, inner)
    )
    assert first == f"MainThread;{expected} 2"
    assert second.endswith(f"main ({here}:{main.__code__.co_firstlineno}) 1")


def test_every_scheduler_is_sampled_and_sleep_is_told() -> None:
    sampler = Sampler()

    def main() -> None:
        event = Event()

        def look() -> None:
            while "MainThread;(asleep)" not in sampler.stacks:
                sampler.look()
            event.set()

        looker = Thread(target=look, kind="kernel")
        looker.start()
        event.wait()
        looker.join()

    run_scheduler(main)
    assert sampler.stacks["MainThread;(asleep)"] == 1


def test_the_sampling_kernel_thread_hides_no_deadlock(tmp_path: Path) -> None:
    sampler = Sampler(0.001)
    sampler.start()
    try:
        with pytest.raises(Deadlock):
            run_scheduler(Event().wait)

        def main() -> None:
            while not sampler.stacks:
                yield_now()

        run_scheduler(main)
    finally:
        sampler.stop()
    before = sampler.stacks.total() if hasattr(sampler.stacks, "total") else sum(sampler.stacks.values())
    path = tmp_path / "flame.txt"
    sampler.write(str(path))
    counts = [int(line.rpartition(" ")[2]) for line in path.read_text().splitlines()]
    assert sum(counts) == before > 0
    assert counts == sorted(counts, reverse=True)
