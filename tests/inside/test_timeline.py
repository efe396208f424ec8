"""The execution trace: its events counted and checked against the format; and the observer's `woken`."""

from __future__ import annotations

import gc
import io
import itertools
import json
import weakref
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from greenthreads import Event, Lock, Queue, Thread, run_in_kernel_thread, run_scheduler, sleep, yield_now
from greenthreads.timeline import Recorder
from scheduler import Observer, Task, observers
from scheduler.task import UserTask


def recorded(main: Callable[[], object], capacity: int = 10_000) -> dict[str, Any]:
    recorder = Recorder(capacity)
    recorder.start()
    try:
        run_scheduler(main)
    finally:
        recorder.stop()
    return recorder.trace()


def of_kind(trace: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [event for event in trace["traceEvents"] if event["ph"] == kind]


def names(trace: dict[str, Any]) -> dict[int, str]:
    return {event["tid"]: event["args"]["name"] for event in of_kind(trace, "M") if event["name"] == "thread_name"}


def slices(trace: dict[str, Any], thread: str) -> list[tuple[str, str]]:
    """Category and name of a thread's slices in the order of time, without those of being ready."""
    tracks = names(trace)
    found = [event for event in of_kind(trace, "X") if tracks[event["tid"]] == thread and event["cat"] != "ready"]
    return [(event["cat"], event["name"]) for event in sorted(found, key=lambda event: event["ts"])]


def check_format(trace: dict[str, Any]) -> None:
    """What the Trace Event Format asks of each kind of event that we use."""
    json.dumps(trace)
    assert set(trace) == {"traceEvents", "displayTimeUnit", "otherData"}
    starts: dict[int, float] = {}
    for event in trace["traceEvents"]:
        kind = event["ph"]
        assert kind in {"X", "M", "s", "f", "i"}
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        assert isinstance(event["name"], str)
        if kind == "M":
            assert isinstance(event["args"]["name"], str)
            continue
        assert isinstance(event["ts"], float)
        assert isinstance(event["cat"], str)
        if kind == "X":
            assert event["dur"] >= 0
        elif kind == "s":
            starts[event["id"]] = event["ts"]
        elif kind == "f":
            # Bound to the slice that it points at, not to the one after it; and later than its beginning.
            assert event["bp"] == "e"
            assert starts.pop(event["id"]) <= event["ts"]
        else:
            assert event["s"] == "t"
    # On one track no two slices overlap.
    tracks: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for event in of_kind(trace, "X"):
        tracks[event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    for spans in tracks.values():
        for (_begin, end), (begin, _end) in itertools.pairwise(sorted(spans)):
            assert begin >= end - 0.001
    # Arrows begin and end in slices: viewers show no others.
    for event in (*of_kind(trace, "s"), *of_kind(trace, "f")):
        assert any(begin - 0.001 <= event["ts"] <= end + 0.001 for begin, end in tracks[event["tid"]]), event


def ping_pong() -> None:
    there: Queue[int] = Queue()
    back: Queue[int] = Queue()

    def pong() -> None:
        for _ in range(3):
            back.put(there.get())

    thread = Thread(target=pong, name="pong")
    thread.start()
    for number in range(3):
        there.put(number)
        back.get()
    thread.join()


def test_runs_and_waits_of_each_thread() -> None:
    trace = recorded(ping_pong)
    check_format(trace)
    wait = ("wait", "waits for Queue")
    assert slices(trace, "MainThread")[:5] == [("run", "runs"), wait, ("run", "runs"), wait, ("run", "runs")]
    assert slices(trace, "MainThread")[-2:] == [wait, ("run", "runs")]
    assert slices(trace, "pong").count(wait) in (2, 3)
    assert ("scheduler", "timers, inbox, sleep") in slices(trace, "the scheduler")


def test_an_arrow_from_a_kernel_thread_begins_in_a_slice_as_well() -> None:
    def main() -> None:
        event = Event()
        Thread(target=event.set, name="setter", kind="kernel").start()
        event.wait()
        run_in_kernel_thread(int)

    trace = recorded(main)
    check_format(trace)
    assert ("kernel", "wakes") in slices(trace, "a worker of run_in_kernel_thread")


def test_arrows_lead_from_waker_to_woken() -> None:
    def main() -> None:
        event = Event()
        for name in "ab":
            Thread(target=event.wait, name=name).start()
        yield_now()
        setter = Thread(target=event.set, name="setter")
        setter.start()
        setter.join()

    trace = recorded(main)
    check_format(trace)
    tracks = names(trace)
    ends = {event["id"]: tracks[event["tid"]] for event in of_kind(trace, "f")}
    arrows = [(tracks[event["tid"]], ends[event["id"]]) for event in of_kind(trace, "s") if event["id"] in ends]
    assert arrows.count(("setter", "a")) == arrows.count(("setter", "b")) == 1
    # The start of a thread, and being joined, are wakeups, too.
    assert ("MainThread", "setter") in arrows
    assert ("setter", "MainThread") in arrows
    # The arrow starts inside a run of the waker.
    runs = [event for event in of_kind(trace, "X") if event["cat"] == "run" and tracks[event["tid"]] == "setter"]
    for event in of_kind(trace, "s"):
        if tracks[event["tid"]] == "setter":
            assert any(run["ts"] <= event["ts"] <= run["ts"] + run["dur"] for run in runs)


def test_counts_match_what_happened() -> None:
    def main() -> None:
        def work() -> None:
            for _ in range(10):
                yield_now()

        threads = [Thread(target=work, name=f"w{number}") for number in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    trace = recorded(main)
    check_format(trace)
    for number in range(5):
        assert slices(trace, f"w{number}") == [("run", "runs")] * 11


def test_deadlines_locks_and_calls_have_their_reasons(until: Any) -> None:
    def main() -> None:
        lock = Lock()
        lock.acquire()

        def wait() -> None:
            sleep(0.001)
            run_in_kernel_thread(sum, [1])
            with lock:
                pass

        thread = Thread(target=wait, name="waiter")
        thread.start()
        until(lambda: "waiter" in str(lock._waiters))
        lock.release()
        thread.join()

    trace = recorded(main)
    check_format(trace)
    reasons = [name for category, name in slices(trace, "waiter") if category == "wait"]
    assert reasons == ["waits for sleep", "waits for a call in a kernel thread", "waits for Lock"]
    tracks = names(trace)
    starters = {tracks[event["tid"]] for event in of_kind(trace, "s")}
    assert "the scheduler" in starters


def test_kernel_threads_are_tracks() -> None:
    def main() -> None:
        event = Event()
        thread = Thread(target=event.set, name="helper", kind="kernel")
        thread.start()
        event.wait()
        thread.join()

    trace = recorded(main)
    check_format(trace)
    assert "helper" in names(trace).values()
    instants = [event["name"] for event in of_kind(trace, "i")]
    assert instants.count("ends") == 1


def test_memory_is_bounded_and_the_loss_is_told() -> None:
    def main() -> None:
        Thread(target=lambda: [yield_now() for _ in range(500)]).start()
        for _ in range(500):
            yield_now()

    trace = recorded(main, capacity=100)
    check_format(trace)
    assert trace["otherData"] == {"recorded": 100, "older events were dropped": True}
    assert len(of_kind(trace, "X")) <= 300
    assert not recorded(main)["otherData"]["older events were dropped"]


def test_a_scheduler_that_runs_already_is_recorded_from_its_next_turn() -> None:
    recorder = Recorder()

    def main() -> None:
        recorder.start()
        other = Thread(target=lambda: [yield_now() for _ in range(200)], name="other")
        other.start()
        other.join()
        recorder.stop()

    run_scheduler(main)
    trace = recorder.trace()
    check_format(trace)
    assert ("run", "runs") in slices(trace, "other")


def test_it_goes_to_a_file(tmp_path: Path) -> None:
    recorder = Recorder()
    recorder.start()
    run_scheduler(ping_pong)
    recorder.stop()
    file = io.StringIO()
    recorder.write(file)
    recorder.write(str(tmp_path / "out.json"))
    assert json.loads(file.getvalue()) == json.loads((tmp_path / "out.json").read_text()) == recorder.trace()


# ---- The observer API ------------------------------------------------------------------------------------------------


class Wakeups(Observer):
    def __init__(self) -> None:
        self.record: list[tuple[str, str]] = []

    def woken(self, task: Task, by: Task | None) -> None:
        self.record.append((task.name, "nobody" if by is None else by.name))


@pytest.fixture
def wakeups() -> Any:
    observer = Wakeups()
    observers.subscribe(observer)
    yield observer.record
    observers.unsubscribe(observer)


def test_observers_hear_who_wakes_whom(wakeups: list[tuple[str, str]], run_virtually: Any) -> None:
    def main() -> None:
        event = Event()
        waiter = Thread(target=event.wait, name="waiter")
        waiter.start()
        yield_now()
        event.set()
        waiter.join()
        sleep(1)

    run_virtually(main)
    assert wakeups == [("waiter", "MainThread"), ("MainThread", "waiter"), ("MainThread", "the scheduler")]


def test_a_deadline_that_comes_too_late_wakes_nobody(wakeups: list[tuple[str, str]], run_virtually: Any) -> None:
    def main() -> None:
        event = Event()
        thread = Thread(target=event.wait, args=(1,), name="waiter")
        thread.start()
        yield_now()
        event.set()
        thread.join()
        sleep(2)

    run_virtually(main)
    assert [who for who, _by in wakeups].count("waiter") == 1


def test_when_nobody_listens_wakeups_are_as_they_were() -> None:
    unpark, expire = UserTask.unpark, UserTask.expire
    observer = Wakeups()
    observers.subscribe(observer)
    assert UserTask.unpark is not unpark
    observers.unsubscribe(observer)
    assert (UserTask.unpark, UserTask.expire) == (unpark, expire)


def test_a_recorder_that_is_gone_keeps_nothing_alive() -> None:
    class Kept:
        pass

    kept = Kept()
    alive = weakref.ref(kept)
    recorder = Recorder()
    recorder.start()

    def main(kept: object) -> None:
        thread = Thread(target=lambda _kept: None, args=(kept,))
        thread.start()
        thread.join()

    run_scheduler(main, kept)
    recorder.stop()
    del kept, recorder
    gc.collect()
    assert alive() is None


# ---- The command -----------------------------------------------------------------------------------------------------


def test_the_command_writes_a_trace_and_folded_stacks(script: Callable[..., Any], tmp_path: Path) -> None:
    program = tmp_path / "works.py"
    program.write_text(
        "import threading\n"
        "def busy():\n"
        "    sum(i for i in range(3_000_000))\n"
        "threads = [threading.Thread(target=busy, name='busy') for _ in range(2)]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()\n"
    )
    trace, flame = tmp_path / "out.json", tmp_path / "out.txt"
    options = ["--trace", str(trace), "--flame", str(flame), str(program)]
    script(f"import sys\nfrom greenthreads.cli import main\nsys.exit(main({options!r}))")
    loaded = json.loads(trace.read_text())
    check_format(loaded)
    assert slices(loaded, "busy") == [("run", "runs")] * 2
    lines = [line.rpartition(" ") for line in flame.read_text().splitlines()]
    assert all(int(count) > 0 for _stack, _space, count in lines)
    assert any(stack.startswith("MainThread;busy (works.py:2)") for stack, _space, _count in lines)


def test_the_command_says_if_it_cannot_write(script: Callable[..., Any], tmp_path: Path) -> None:
    program = tmp_path / "empty.py"
    program.write_text("")
    options = ["--trace", str(tmp_path / "missing" / "out.json"), str(program)]
    result = script(f"import sys\nfrom greenthreads.cli import main\nsys.exit(main({options!r}))", check=False)
    assert result.returncode == 0
    assert "run_scheduler: can't write" in result.stderr


def test_the_command_writes_where_it_was_given_though_the_program_goes_elsewhere(
    script: Callable[..., Any], tmp_path: Path
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    options = ["--trace", "out.json", "--flame", "out.txt", "-c", "import os; os.chdir('..')"]
    script(f"import os, sys\nfrom greenthreads.cli import main\nos.chdir({str(here)!r})\nsys.exit(main({options!r}))")
    assert sorted(path.name for path in tmp_path.rglob("out.*")) == ["out.json", "out.txt"]
    assert {path.parent.name for path in tmp_path.rglob("out.*")} == {"here"}
